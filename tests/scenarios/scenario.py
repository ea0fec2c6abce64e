"""Scenarios readable by an accountant: one line of the domain per line, what is expected beside it.

    org    acme  America/New_York
    cap    day-cap  key:crawler  day  10.00  pause
    use    e1  research/crawler  2026-03-08T09:00  4.00  recorded
    use    e2  research/crawler  2026-03-08T10:00  6.00  recorded  breach day-cap, pause crawler
    clock  2026-03-09T00:00  clear day-cap, resume crawler
    spent  org  day 2026-03-08  10.00

Columns are two spaces or more apart. A time has no zone: it is the org's wall clock, unless it ends in Z. Until the first
`clock` line now is the event's own time. Every breach, clear, threshold, pause, resume and revoke must be named beside the
line that brought it about; one that is not named fails the line.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any, Protocol
from zoneinfo import ZoneInfo

from ledger.core import commands as c
from ledger.core import entries as e
from ledger.core.caps import Action, Enforce, Guardrail, Resume, Rule, Sum, Verdict, Waits
from ledger.core.keys import State
from ledger.core.money import USD, parse_usd, usd_text
from ledger.core.window import Period, day_number, micros, window_at
from ledger.wire.identity import identity

STATUSES = tuple(status.value for status in c.Status)
ORDERS = (
    "org",
    "workspace",
    "unworkspace",
    "key",
    "unkey",
    "cap",
    "uncap",
    "guardrail",
    "unguardrail",
    "correct",
    "pause",
    "resume",
    "revoke",
    "confirm",
    "approve",
    "reject",
    "label",
    "share",
)


class Driver(Protocol):
    """What a scenario runs against: the core, or a database through `record`."""

    async def send(self, commands: Sequence[c.Command], now_us: int) -> tuple[list[c.Result], list[e.Entry]]: ...
    async def used(self, scope: str, period: Period, start: int) -> Sum: ...
    async def state(self, key: str) -> str: ...
    async def open_breaches(self) -> list[str]: ...


@dataclass
class Scenario:
    path: Path
    driver: Driver
    org: str = "acme"
    zone: str = "UTC"
    now_us: int | None = None
    seqs: dict[str, int] = field(default_factory=dict)
    at: str = ""

    async def run(self) -> None:
        for number, line in enumerate(self.path.read_text().splitlines(), 1):
            text = line.partition("#")[0].rstrip()
            if text.strip():
                self.at = f"{self.path.name}:{number}: {text.strip()}"
                verb, *columns = re.split(r"\s{2,}", text.strip())
                await self.line(verb, columns)

    async def line(self, verb: str, columns: list[str]) -> None:
        if verb == "clock":
            self.now_us = self.time(columns[0])
            await self.send([], columns[1:], None)
        elif verb == "use":
            await self.use(columns)
        elif verb in ORDERS:
            await self.order(verb, columns)
        elif verb == "spent":
            await self.spent(*columns)
        elif verb == "state":
            self.same(columns[1], await self.driver.state(columns[0]))
        elif verb == "open":
            self.same(
                sorted(part.strip() for part in columns[0].split(",")) if columns[0] != "none" else [], await self.driver.open_breaches()
            )
        else:
            raise AssertionError(f"{self.at}\n  there is no line {verb!r}")

    def same(self, expected: object, got: object) -> None:
        assert got == expected, f"{self.at}\n  expected {expected}\n  got      {got}"

    def time(self, text: str) -> int:
        if text.endswith("Z"):
            return micros(datetime.fromisoformat(text))
        return micros(datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(self.zone)).astimezone(UTC))

    async def use(self, columns: list[str]) -> None:
        name, where, when, amount, *rest = columns
        extras = rest.pop(0).split() if rest and rest[0].partition(" ")[0] not in STATUSES else []
        options = dict(part.partition("=")[::2] for part in extras)
        workspace, _, key = where.rpartition("/")
        time_us = self.time(when)
        cost = None if amount == "unpriced" else parse_usd(amount)
        upstream = parse_usd(options["upstream"]) if "upstream" in options else None
        usage = c.Usage(org=self.org, key=key, workspace=workspace or None, byok="byok" in options, input_tokens=int(options.get("in", 0)))
        source = options.get("source", "gateway")
        command = c.RecordUsage(
            source=source, event_id=name, digest=identity(self.org, source, name), time_us=time_us, cost=cost,
            cost_text=None if cost is None else amount, upstream=upstream, upstream_text=options.get("upstream"), usage=usage,
        )  # fmt: skip
        expected = [rest[0], *rest[1:]] if rest else ["recorded"]
        seq = await self.send([command], expected[1:], expected[0], self.now_us if self.now_us is not None else time_us)
        if seq is not None:
            self.seqs[name] = seq

    async def send(self, commands: list[c.Command], events: list[str], status: str | None, now_us: int | None = None) -> int | None:
        now_us = now_us if now_us is not None else self.now_us
        assert now_us is not None, f"{self.at}\n  what time is it? put a `clock` line before"
        results, entries = await self.driver.send(commands, now_us)
        if status is not None:
            result = results[0]
            self.same(status, " ".join(part for part in (result.status, result.reason) if part))
        expected = [part.strip() for part in ", ".join(events).split(",") if part.strip()]
        self.same(sorted(expected), sorted(filter(None, map(told, entries))))
        return next((entry.seq for entry in entries if isinstance(entry, e.UsageRecorded)), None)

    async def order(self, verb: str, columns: list[str]) -> None:
        status = next((column for column in columns if column.partition(" ")[0] in STATUSES), None)
        at = columns.index(status) if status else next((n for n, column in enumerate(columns) if TOLD.match(column)), len(columns))
        command = getattr(self, f"_{verb}")(*columns[:at])
        await self.send([command], columns[at + bool(status) :], status or "recorded", self.now_us if self.now_us is not None else 0)
        if verb == "org" and isinstance(command, c.SetOrg):
            self.zone = command.time_zone

    async def spent(self, scope: str, window: str, amount: str, extras: str = "") -> None:
        period, _, day = window.partition(" ")
        when = self.now_us or 0 if not day else self.time(day if "T" in day else f"{day}T12:00")
        start = window_at(Period(period), when, self.zone).start
        used = await self.driver.used(scope, Period(period), start)
        self.same(amount, usd_text(used.spent))
        for part in extras.split():
            name, _, value = part.partition("=")
            got = getattr(used, name)
            self.same(value, usd_text(got) if name == "byok" else str(got))

    # Orders, one a verb: columns to a command.

    def _org(self, org: str, zone: str = "UTC", enforce: str = "on", brake: str = "brake=20") -> c.Command:
        self.org = org
        return c.SetOrg(org=org, by="will", time_zone=zone, enforce=Enforce(enforce), brake=int(brake.removeprefix("brake=")))

    def _workspace(self, workspace: str) -> c.Command:
        return c.SetWorkspace(org=self.org, by="will", workspace=workspace)

    def _label(self, scope: str, said: str, since: str = "") -> c.Command:
        labels = dict(part.partition("=")[::2] for part in said.split() if part != "none")
        when = day_number(date.fromisoformat(since.removeprefix("from "))) if since else None
        kind, _, subject = scope.partition(":")
        if kind == "org":
            return c.SetOrg(org=self.org, by="will", time_zone=self.zone, labels=labels, since=when)
        if kind == "workspace":
            return c.SetWorkspace(org=self.org, by="will", workspace=subject, labels=labels, since=when)
        return c.SetKey(org=self.org, by="will", key=subject, labels=labels, since=when)

    def _unworkspace(self, workspace: str) -> c.Command:
        return c.RemoveWorkspace(org=self.org, by="will", workspace=workspace)

    def _key(self, where: str, credentials: str = "") -> c.Command:
        workspace, _, key = where.rpartition("/")
        names = tuple(credentials.removeprefix("credentials=").split(",")) if credentials else None
        return c.SetKey(org=self.org, by="will", key=key, workspace=workspace or None, credentials=names)

    def _unkey(self, key: str) -> c.Command:
        return c.RemoveKey(org=self.org, by="will", key=key)

    def _cap(self, cap: str, scope: str, period: str, limit: str, *more: str) -> c.Command:
        return c.SetCap(org=self.org, by="will", cap=cap, scope=scope, rule=rule(period, limit, *more))

    def _uncap(self, cap: str) -> c.Command:
        return c.RemoveCap(org=self.org, by="will", cap=cap)

    def _guardrail(self, name: str, each: str, within: str, period: str, limit: str, *more: str) -> c.Command:
        places, _, except_ = within.partition(" except ")
        rail = Guardrail(
            guardrail_id=name, each=each, within=tuple(places.split(",")), except_=tuple(filter(None, except_.split(","))),
            rule=rule(period, limit, *more),
        )  # fmt: skip
        return c.SetGuardrail(org=self.org, by="will", guardrail=rail)

    def _unguardrail(self, name: str) -> c.Command:
        return c.RemoveGuardrail(org=self.org, by="will", guardrail=name)

    def _correct(self, request: str, event: str, amount: str) -> c.Command:
        digest = identity(self.org, "corrections", request)
        return c.CorrectUsage(org=self.org, by="will", digest=digest, entry=self.seqs.get(event, 10**6), cost=parse_usd(amount), why="")

    def _share(self, request: str, amount: str, how: str, over: str, day: str = "") -> c.Command:
        parts = tuple((name, int(weight or 0)) for name, _, weight in (part.partition("=") for part in over.split()))
        when = day_number(date.fromisoformat(day.removeprefix("on "))) if day else None
        digest = identity(self.org, "shares", request)
        return c.ShareCost(org=self.org, by="will", digest=digest, amount=parse_usd(amount), how=c.How(how), over=parts, day=when, why="")

    def _turn(self, key: str, state: State, by: str = "will") -> c.Command:
        return c.TurnKey(org=self.org, by=by, key=key, state=state, why="said so")

    def _pause(self, key: str) -> c.Command:
        return self._turn(key, State.PAUSED)

    def _resume(self, key: str) -> c.Command:
        return self._turn(key, State.ACTIVE)

    def _revoke(self, key: str) -> c.Command:
        return self._turn(key, State.REVOKED)

    def _judge(self, breach: str, verdict: Verdict) -> c.Command:
        cap, _, ordinal = breach.rpartition("/")
        return c.JudgeBreach(org=self.org, by="will", cap=cap, ordinal=int(ordinal), verdict=verdict, why="said so")

    def _approve(self, breach: str) -> c.Command:
        return self._judge(breach, Verdict.APPROVED)

    def _reject(self, breach: str) -> c.Command:
        return self._judge(breach, Verdict.REJECTED)

    def _confirm(self, key: str, revision: str, state: str) -> c.Command:
        return c.ConfirmCommand(org=self.org, by="gateway", key=key, credential=key, revision=int(revision), state=State(state))


def rule(period: str, limit: str, action: str = "alert", *more: str) -> Rule:
    """`day  10.00  pause  50,80 manual observe byok unpriced=pause`, in one column or several."""
    words = " ".join(more).split()
    values: dict[str, Any] = {}
    for word in words:
        if word[0].isdigit():
            values["thresholds"] = tuple(map(int, word.split(",")))
        elif word == "manual":
            values["resume"] = Resume.MANUAL
        elif word == "observe":
            values["enforce"] = Enforce.OBSERVE
        elif word == "unasked":
            values["approval"] = False
        elif word == "byok":
            values["include_byok"] = True
        else:
            values["on_unpriced"] = Action(word.removeprefix("unpriced="))
    return Rule(period=Period(period), limit=parse_usd(limit, most=10**9 * USD), action=Action(action), **values)


TOLD = re.compile(r"(breach|clear|threshold|pause|resume|revoke|leaking) \S")
_VERB = {State.ACTIVE: "resume", State.PAUSED: "pause", State.REVOKED: "revoke"}


def told(entry: e.Entry) -> str | None:
    """An entry in a scenario's words; None for those that need no naming."""
    if isinstance(entry, e.CapBreached):
        waits = {Waits.NOTHING: "", Waits.REVOKE: " asks to revoke", Waits.ALL: " held by the brake"}[entry.waits]
        return f"breach {entry.cap_id}" + (" unpriced" if entry.kind == "unpriced" else "") + waits
    if isinstance(entry, e.CapCleared):
        return f"clear {entry.cap_id}"
    if isinstance(entry, e.KeyLeaking):
        return f"leaking {entry.key}"
    if isinstance(entry, e.ThresholdReached):
        return f"threshold {entry.cap_id} {entry.percent or 'unpriced'}"
    if isinstance(entry, e.KeyStateChanged):
        return f"{_VERB[entry.state]} {entry.key}"
    return None
