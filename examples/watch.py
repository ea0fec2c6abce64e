"""What the demo shows: spend climbing, the breach, the pause, the refusals, midnight. Lines where there is no terminal."""

import asyncio
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol

import httpx
from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from examples.fleet import ORG, RUNAWAY

EVERY_S = 0.25
SHOWN = 9


class Clock(Protocol):
    """What the show is timed by."""

    midnight_us: int

    def __call__(self) -> int: ...


class Counts(Protocol):
    """What the gateway counts."""

    accepted: Counter[str]
    refused: Counter[str]


class Told(Protocol):
    """What the agents saw."""

    pause_ms: float | None


class Stage(Protocol):
    """What is watched."""

    @property
    def clock(self) -> Clock: ...
    @property
    def client(self) -> httpx.AsyncClient: ...
    @property
    def gateway(self) -> Counts: ...
    @property
    def story(self) -> Told: ...
    @property
    def token(self) -> str: ...


class Watch:
    """A screen that follows the ledger through its own API."""

    def __init__(self) -> None:
        self.console = Console(highlight=False, emoji=False)
        self.live = Live(console=self.console, refresh_per_second=8, transient=False) if self.console.is_terminal else None
        self.said: list[str] = []

    def __enter__(self) -> "Watch":
        if self.live is not None:
            self.live.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self.live is not None:
            self.live.stop()

    async def run(self, stage: Stage) -> None:
        """Looks again and again, until cancelled."""
        while True:
            await self.last(stage)
            await asyncio.sleep(EVERY_S)

    async def last(self, stage: Stage) -> None:
        """Looks once."""
        day, whole, breaches, key = await asyncio.gather(
            _get(stage, "balances", limit=200), _get(stage, "balances", scope="org", period="lifetime"),
            _get(stage, "breaches"), _get(stage, f"keys/{RUNAWAY}"),
        )  # fmt: skip
        self._news(stage, breaches["breaches"], key)
        if self.live is not None:
            self.live.update(self._screen(stage, day["balances"], whole["balances"][0], key))

    def _news(self, stage: Stage, breaches: list[dict[str, Any]], key: dict[str, Any]) -> None:
        now = _wall(stage.clock())
        for breach in reversed(breaches):
            at = f"{breach['cap']} #{breach['ordinal']}"
            over = f"${breach['spent_usd']} of ${breach['limit_usd']}, {breach['opened_at'][11:19]}"
            self._say(f"breach  {at}: {over}; wanted paused")
            if breach["closed_at"]:
                self._say(f"clear   {at}: {breach['reason'].replace('_', ' ')}, {breach['closed_at'][11:19]}")
        if stage.story.pause_ms is not None:
            self._say(f"pause   the gateway paused {RUNAWAY} {stage.story.pause_ms:.0f} ms of real time after the crossing")
        if stage.gateway.refused[RUNAWAY]:
            self._say(f"refuse  the gateway refuses {RUNAWAY}; 47 other keys go on", once="refuse")
        if stage.clock() >= stage.clock.midnight_us:
            self._say(f"night   it is {now[:5]}: a new window is simply the one that contains now", once="night")
            if key["confirmed"] == "active" and key["revision"] >= 2:
                self._say(f"resume  {RUNAWAY} is back: the gateway confirmed revision {key['revision']}", once="resume")

    def _say(self, line: str, once: str | None = None) -> None:
        if line in self.said or (once and any(said.startswith(once) for said in self.said)):
            return
        self.said.append(line)
        if self.live is None:
            self.console.print(line, markup=False, soft_wrap=True)

    def _screen(self, stage: Stage, day: list[dict[str, Any]], whole: dict[str, Any], key: dict[str, Any]) -> Group:
        table = Table(box=None, pad_edge=False, header_style="bold", expand=False)
        for name, justify, width in (
            ("key", "left", 16), ("spent today", "right", 13), ("calls", "right", 6), ("of its cap", "left", 25), ("refused", "right", 7),
        ):  # fmt: skip  # 75 across
            table.add_column(name, justify=justify, min_width=width)  # type: ignore[arg-type]
        keys = sorted((row for row in day if row["scope"].startswith("key:")), key=lambda row: float(row["spent_usd"]), reverse=True)
        for row in keys[:SHOWN]:
            name = row["scope"][4:]
            style = ("red" if key["state"] == "paused" else "yellow") if name == RUNAWAY else ""
            table.add_row(
                Text(name, style), f"${row['spent_usd']:<12}", str(row["requests"]), _bar(row), str(stage.gateway.refused[name] or "")
            )
        rest = keys[SHOWN:]
        table.add_row(
            Text(f"{len(rest)} others", "dim"),
            f"${sum(float(row['spent_usd']) for row in rest):.4f}",
            str(sum(row["requests"] for row in rest)),
            "",
            "",
        )
        accepted, refused = stage.gateway.accepted.total(), stage.gateway.refused.total()
        spent = f"${whole['spent_usd']} in {whole['requests']} calls"
        head = Text.assemble(
            (f" {ORG} ", "reverse"), f"  {_wall(stage.clock())} UTC, fast  {spent}  ",
            (f"{accepted} passed, {refused} refused", "dim"),
        )  # fmt: skip
        return Group(head, Text(""), table, Text(""), *(Text("  " + line) for line in self.said[-8:]))

    def farewell(self, stage: Stage, listen: str, database: Path) -> None:
        """Where to look next, while the ledger serves."""
        self.console.print(
            f"""
The ledger goes on serving.

  pages    http://{listen}/docs
  token    {stage.token}
  try      curl -H 'Authorization: Bearer {stage.token}' 'http://{listen}/v1/orgs/{ORG}/balances?scope=org&period=month'
           LEDGER_DATABASE_URL=sqlite:///{database} .venv/bin/ledger explain {RUNAWAY_CAP}
           LEDGER_DATABASE_URL=sqlite:///{database} .venv/bin/ledger verify
  stop     Ctrl-C
""",
            markup=False,
            soft_wrap=True,
        )


RUNAWAY_CAP = f"daily/key:{RUNAWAY}/1"


async def _get(stage: Stage, what: str, **query: Any) -> dict[str, Any]:
    return (await stage.client.get(f"/v1/orgs/{ORG}/{what}", params=query)).json()


def _wall(us: int) -> str:
    return datetime.fromtimestamp(us / 1_000_000, UTC).strftime("%H:%M:%S")


def _bar(row: dict[str, Any]) -> Text:
    if not row["caps"]:
        return Text("")
    share = min(1.0, float(row["spent_usd"]) / float(row["caps"][0]["limit_usd"]))
    full = round(share * 20)
    return Text("█" * full + "░" * (20 - full) + f" {share:4.0%}", "red" if share >= 1 else "yellow" if share >= 0.5 else "green")
