"""Histories of an org for the property tests: actions that hypothesis draws, made into commands as they are told."""

from typing import Any

from hypothesis import strategies as st

from ledger.core import commands as c
from ledger.core import entries as e
from ledger.core.caps import Action, Enforce, Guardrail, Resume, Rule, Verdict, Waits
from ledger.core.connections import Connection, Gateway
from ledger.core.keys import State
from ledger.core.money import Nanos, usd_text
from ledger.core.window import Period, day_at
from ledger.wire.identity import identity

from .harness import OrgLedger

SECOND, MINUTE, HOUR, DAY = 1_000_000, 60_000_000, 3_600_000_000, 86_400_000_000
START = 1_772_866_800_000_000  # 2026-03-07T07:00Z: the day before New York's clocks change, a Saturday
KEYS, WORKSPACES, NAMES = ("k1", "k2", "k3"), ("w1", "w2"), ("n1", "n2")
ZONES = ("UTC", "America/New_York", "Asia/Kolkata", "Pacific/Auckland", "America/Havana")
SCOPES = ("org", *(f"workspace:{w}" for w in WORKSPACES), *(f"key:{k}" for k in (*KEYS, "n1")))

Action_ = tuple[str, Any]
amounts = st.integers(0, 6)
names = st.sampled_from((*KEYS, *NAMES))
homes = st.sampled_from((*WORKSPACES, None))

rules = st.builds(
    Rule,
    period=st.sampled_from(Period),
    limit=st.integers(0, 14),
    action=st.sampled_from(Action),
    thresholds=st.sampled_from(((), (50,), (50, 80, 100))),
    include_byok=st.booleans(),
    on_unpriced=st.sampled_from((Action.ALERT, Action.PAUSE)),
    resume=st.sampled_from(Resume),
    enforce=st.sampled_from((Enforce.ON, Enforce.ON, Enforce.ON, Enforce.OBSERVE)),
    approval=st.booleans(),
)
rails = st.builds(
    Guardrail,
    guardrail_id=st.sampled_from(("g1", "g2")),
    each=st.sampled_from(("key", "workspace")),
    within=st.sampled_from((("org",), ("w1",), ("w2", "unassigned"))),
    except_=st.sampled_from(((), ("k1",), ("w2",))),
    rule=rules,
)
usages = st.fixed_dictionaries(
    {
        "key": names,
        "workspace": homes,
        "cost": st.one_of(amounts, amounts, amounts, st.none()),
        "computed": st.one_of(st.none(), st.none(), amounts),
        "byok": st.booleans(),
        "upstream": st.one_of(st.none(), amounts),
        "tokens": st.integers(0, 3),
        "ago": st.sampled_from((0, 0, 0, 0, MINUTE, 40 * MINUTE, 2 * HOUR, DAY, 3 * DAY, 32 * DAY, -4 * MINUTE, -4 * MINUTE, -10 * MINUTE)),
    }
)

use = st.tuples(st.just("use"), usages)
order = st.one_of(
    st.tuples(st.just("repeat"), st.tuples(st.integers(0, 99), st.booleans())),
    st.tuples(st.just("cap"), st.tuples(st.sampled_from(("c1", "c2", "c3")), st.sampled_from(SCOPES), rules)),
    st.tuples(st.just("cap"), st.tuples(st.sampled_from(("c1", "c2", "c3")), st.sampled_from(SCOPES), rules)),
    st.tuples(st.just("uncap"), st.sampled_from(("c1", "c2", "c3"))),
    st.tuples(st.just("rail"), rails),
    st.tuples(st.just("unrail"), st.sampled_from(("g1", "g2"))),
    st.tuples(
        st.just("org"),
        st.tuples(st.sampled_from(ZONES), st.sampled_from((Enforce.ON, Enforce.ON, Enforce.OBSERVE)), st.sampled_from((20, 1, 2, 0))),
    ),
    st.tuples(st.just("workspace"), st.sampled_from(WORKSPACES)),
    st.tuples(
        st.just("share"),
        st.tuples(
            st.integers(0, 12),
            st.sampled_from(c.How),
            st.dictionaries(st.sampled_from((*WORKSPACES, *WORKSPACES, "unassigned")), st.integers(0, 3), max_size=3),
            st.sampled_from((None, None, 0, -1, -40, 1)),
        ),
    ),
    st.tuples(
        st.just("label"),
        st.tuples(
            st.sampled_from((*WORKSPACES, "unassigned")),
            st.dictionaries(st.sampled_from(("team", "owner")), st.sampled_from(("a", "b"))),
            st.sampled_from((None, 0, 20_000, 20_520)),
        ),
    ),
    st.tuples(st.just("close"), st.sampled_from(WORKSPACES)),
    st.tuples(
        st.just("key"),
        st.tuples(st.sampled_from(KEYS), homes, st.sampled_from((None, None, (), ("n1",), ("n1", "n2")))),
    ),
    st.tuples(st.just("forget"), names),
    st.tuples(st.just("turn"), st.tuples(names, st.sampled_from((State.ACTIVE, State.PAUSED, State.PAUSED, State.REVOKED)))),
    st.tuples(st.just("judge"), st.tuples(st.integers(0, 9), st.sampled_from(Verdict))),
    st.tuples(st.just("confirm"), st.tuples(names, st.one_of(st.none(), st.none(), st.integers(0, 4)), st.sampled_from(State))),
    st.tuples(st.just("connect"), st.tuples(st.sampled_from(("or", "proxy")), st.sampled_from(Gateway), st.booleans())),
    st.tuples(st.just("disconnect"), st.sampled_from(("or", "proxy"))),
    st.tuples(st.just("correct"), st.tuples(st.integers(0, 99), amounts, st.booleans())),
    st.tuples(st.just("correct"), st.tuples(st.integers(0, 99), amounts, st.booleans())),
)
wait = st.tuples(
    st.just("wait"),
    st.sampled_from((SECOND, 2 * MINUTE, 5 * MINUTE, 30 * MINUTE, HOUR, 5 * HOUR, 11 * HOUR, DAY, 26 * HOUR, 20 * DAY)),
)


@st.composite
def one_of(draw: st.DrawFn, *often: st.SearchStrategy[Action_]) -> Action_:
    """An action of one of these kinds, each as often as it is named: `st.one_of` would take `order` for its twenty kinds, and
    leave usage and the clock a fraction of every history."""
    return draw(often[draw(st.integers(0, len(often) - 1))])


def lists(action: st.SearchStrategy[Action_]) -> st.SearchStrategy[list[Action_]]:
    """Short histories, to which a failure shrinks, and long ones: left alone, lists are drawn of six on average."""
    return st.one_of(st.lists(action, min_size=1, max_size=30), st.lists(action, min_size=15, max_size=30))


histories = lists(one_of(use, use, use, order, order, wait))
crowded = lists(one_of(*[use] * 9, order))
without_zones = histories.map(lambda actions: [action for n, action in enumerate(actions) if n == 0 or action[0] != "org"])

Told = tuple[int, tuple[c.Command, ...]]


def tell(actions: list[Action_], ledger: OrgLedger, check: Any = None) -> list[Told]:
    """Plays actions on a ledger one by one; the instants and commands they were, a pulse being no command."""
    now_us, told = START, []
    for n, (word, what) in enumerate(actions):
        if word == "wait":
            now_us += what
        commands = tuple(command_of(word, what, n, now_us, ledger))
        ledger.send(commands, now_us)
        told.append((now_us, commands))
        if check is not None:
            check(ledger, now_us)
    return told


def command_of(word: str, what: Any, n: int, now_us: int, ledger: OrgLedger) -> list[c.Command]:
    """The command that an action is at this point of the journal; none for a pulse."""
    org, by = ledger.books.org, "will"
    match word, what:
        case (("judge" | "confirm"), _):
            return answered(word, what, ledger)
        case (("repeat" | "correct"), _):
            return again(word, what, n, ledger)
        case (("connect" | "disconnect" | "rail" | "unrail" | "label"), _):
            return declared(word, what, org)
        case (("use" | "share"), _):
            return [usage_of(org, f"e{n}", what, now_us) if word == "use" else shared(what, n, now_us, ledger)]
        case "cap", (cap, scope, rule):
            return [c.SetCap(org=org, by=by, cap=cap, scope=scope, rule=rule)]
        case "uncap", cap:
            return [c.RemoveCap(org=org, by=by, cap=cap)]
        case "org", (zone, enforce, brake):
            return [c.SetOrg(org=org, by=by, time_zone=zone, enforce=enforce, brake=brake)]
        case "workspace", name:
            return [c.SetWorkspace(org=org, by=by, workspace=name)]
        case "close", name:
            return [c.RemoveWorkspace(org=org, by=by, workspace=name)]
        case "key", (key, home, credentials):
            return [c.SetKey(org=org, by=by, key=key, workspace=home, credentials=credentials)]
        case "forget", key:
            return [c.RemoveKey(org=org, by=by, key=key)]
        case "turn", (key, state):
            return [c.TurnKey(org=org, by=by, key=key, state=state, why="so")]
    return []


def answered(word: str, what: Any, ledger: OrgLedger) -> list[c.Command]:
    """What a person says to a breach, one that waits if there is one; or a gateway to a key's command, mostly the newest."""
    org, books = ledger.books.org, ledger.books
    if word == "confirm":
        name, revision, state = what
        key = books.keys.get(name)
        if revision is None:
            revision, state = (0, state) if key is None else (key.revision, key.state)
        return [c.ConfirmCommand(org=org, by="will", key=name, credential=name, revision=revision, state=state)]
    index, verdict = what
    breaches = list(books.breaches.values())
    if not breaches:
        return []
    asked = [breach for breach in breaches if breach.waits is not Waits.NOTHING] or breaches
    breach = asked[index % len(asked)]
    return [c.JudgeBreach(org=org, by="will", cap=breach.cap_id, ordinal=breach.ordinal, verdict=verdict, why="so")]


def shared(what: Any, n: int, now_us: int, ledger: OrgLedger) -> c.Command:
    """A cost shared out, on a day so many days from now."""
    amount, how, over, days = what
    day = None if days is None else day_at(now_us, ledger.books.zone) + days
    digest = identity(ledger.books.org, "shares", f"s{n}")
    return c.ShareCost(
        org=ledger.books.org, by="will", digest=digest, amount=Nanos(amount), how=how, over=tuple(over.items()), day=day, why="so"
    )


def declared(word: str, what: Any, org: str) -> list[c.Command]:
    """A guardrail or a connection, set or taken away; or labels."""
    match word, what:
        case "rail", rail:
            return [c.SetGuardrail(org=org, by="will", guardrail=rail)]
        case "unrail", rail:
            return [c.RemoveGuardrail(org=org, by="will", guardrail=rail)]
        case "label", (name, labels, since):
            return [c.SetWorkspace(org=org, by="will", workspace=name, labels=labels, since=since)]
        case "connect", (name, gateway, counts):
            return [c.SetConnection(org=org, by="will", connection=Connection(connection_id=name, gateway=gateway, counts=counts))]
    return [c.RemoveConnection(org=org, by="will", connection=what)]


def again(word: str, what: Any, n: int, ledger: OrgLedger) -> list[c.Command]:
    """A command about usage that is in the journal already: sent again, or corrected."""
    org, by = ledger.books.org, "will"
    usage = [entry for entry in ledger.journal if isinstance(entry, e.UsageRecorded)]
    match word, what:
        case "repeat", (index, same) if usage:
            first = usage[index % len(usage)].command
            cost = first.cost if same else Nanos((first.cost or 0) + 1)
            return [c.RecordUsage(**{name: getattr(first, name) for name in first.__struct_fields__} | {"cost": cost})]
        case "correct", (index, cost, once) if usage:
            digest = identity(org, "corrections", f"c{index if once else n}")
            return [c.CorrectUsage(org=org, by=by, digest=digest, entry=usage[index % len(usage)].seq, cost=Nanos(cost), why="so")]
    return []


def usage_of(org: str, event_id: str, what: dict[str, Any], now_us: int) -> c.RecordUsage:
    usage = c.Usage(org=org, key=what["key"], workspace=what["workspace"], byok=what["byok"], input_tokens=what["tokens"])
    return c.RecordUsage(
        source="gateway",
        event_id=event_id,
        digest=identity(org, "gateway", event_id),
        time_us=now_us - what["ago"],
        cost=what["cost"],
        cost_text=None if what["cost"] is None else usd_text(what["cost"]),
        upstream=what["upstream"],
        upstream_text=None,
        usage=usage,
        computed=what.get("computed"),
        card=None if what.get("computed") is None else 1,
    )
