"""What was taken off the lists is not there, and comes back by being declared anew; its names are nobody else's meanwhile."""

from ledger.core import commands as c
from ledger.core.caps import Guardrail, Rule
from ledger.core.keys import State
from ledger.core.money import Nanos
from ledger.core.window import Period

from .harness import OrgLedger
from .histories import START, usage_of


def ledger_of(*orders: c.Command) -> OrgLedger:
    ledger = OrgLedger("acme")
    for order in orders:
        assert ledger.send([order], START)[0].status is c.Status.RECORDED
    return ledger


def workspace(name: str = "w") -> c.SetWorkspace:
    return c.SetWorkspace(org="acme", by="will", workspace=name)


def key(name: str = "k", *credentials: str, home: str = "w") -> c.SetKey:
    return c.SetKey(org="acme", by="will", key=name, workspace=home, credentials=credentials)


GONE_KEY = c.RemoveKey(org="acme", by="will", key="k")
GONE_WORKSPACE = c.RemoveWorkspace(org="acme", by="will", workspace="w")


def test_what_is_gone_can_not_be_taken_away_again() -> None:
    ledger = ledger_of(key(), GONE_KEY, GONE_WORKSPACE)
    journal = list(ledger.journal)
    for order in (GONE_KEY, GONE_WORKSPACE):
        assert ledger.send([order], START)[0].reason is c.Reason.NOT_FOUND
    assert ledger.journal == journal


def test_a_workspace_whose_keys_are_all_gone_is_closed_and_one_with_a_key_is_not() -> None:
    ledger = ledger_of(key(), key("k2"), GONE_KEY)
    assert ledger.send([GONE_WORKSPACE], START)[0].reason is c.Reason.CONFLICT
    ledger.send([c.RemoveKey(org="acme", by="will", key="k2")], START)
    assert ledger.send([GONE_WORKSPACE], START)[0].status is c.Status.RECORDED


def test_a_workspace_that_was_closed_is_opened_again_by_its_order_or_by_a_key() -> None:
    for order in (workspace(), key()):
        ledger = ledger_of(workspace(), GONE_WORKSPACE, order)
        assert not ledger.books.workspaces["w"].deleted


def test_a_key_that_was_deleted_is_registered_again_with_the_state_that_it_had() -> None:
    held = c.TurnKey(org="acme", by="will", key="k", state=State.PAUSED, why="so")
    ledger = ledger_of(key(), held, GONE_KEY, key())
    assert (ledger.books.keys["k"].deleted, ledger.books.keys["k"].state) == (False, State.PAUSED)


def test_a_name_that_belongs_to_a_key_is_no_key_of_its_own_and_no_other_keys_credential() -> None:
    ledger = ledger_of(key("k", "n"), key("k2"))
    journal = list(ledger.journal)
    for order in (key("n"), key("k2", "n"), key("k2", "k"), key("new", "new")):
        assert ledger.send([order], START)[0].reason is c.Reason.CONFLICT
    assert ledger.journal == journal


def known_by_usage(name: str, n: int) -> c.RecordUsage:
    told = {"key": name, "workspace": "w", "cost": 1, "byok": False, "tokens": 1, "ago": 0, "upstream": None}
    return usage_of("acme", f"e{n}", told, START)


def test_a_key_that_registered_itself_is_linked_unless_it_has_names_or_aliases_of_its_own() -> None:
    ledger = ledger_of(known_by_usage("x", 1), key("x", "n"))
    assert ledger.send([key("old", "x")], START)[0].reason is c.Reason.CONFLICT
    ledger = ledger_of(known_by_usage("x", 1), known_by_usage("y", 2), key("x", "y"))
    assert ledger.send([key("old", "x")], START)[0].reason is c.Reason.CONFLICT
    assert ledger.send([key("old", "y")], START)[0].reason is c.Reason.CONFLICT


def test_a_key_whose_names_were_all_taken_back_is_linked_again_as_if_it_had_had_none() -> None:
    """The books as they are loaded do not know that it had any, and those kept in memory must not answer otherwise (J1)."""
    ledger = ledger_of(known_by_usage("x", 1), key("x", "n"), key("x"), key("old", "x"))
    assert ledger.books.keys["x"].alias_of == "old"
    assert ledger.send([key("old", "x", "z")], START)[0].seq, "and stays linked as others join it"


def test_a_workspace_that_is_opened_comes_under_what_covers_it_at_once() -> None:
    """C3, S5: a limit of nothing is reached by nothing."""
    rule = Rule(period=Period.DAY, limit=Nanos(0))
    rail = c.SetGuardrail(org="acme", by="will", guardrail=Guardrail(guardrail_id="g", each="workspace", within=("org",), rule=rule))
    ledger = ledger_of(rail, workspace())
    assert [breach.scope for breach in ledger.books.breaches.values()] == ["workspace:w"]


def test_a_key_that_is_held_is_not_held_again_and_keeps_the_first_reason() -> None:
    """K2, J1: a second pause is no second entry."""
    held = c.TurnKey(org="acme", by="will", key="k", state=State.PAUSED, why="so")
    ledger = ledger_of(key(), held)
    journal = list(ledger.journal)
    ledger.send([c.TurnKey(org="acme", by="ann", key="k", state=State.PAUSED, why="otherwise")], START)
    assert (ledger.journal, ledger.books.keys["k"].held) == (journal, "will: so")
