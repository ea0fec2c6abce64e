"""Owns the commands about what was done at the gateways: listed, and approved or rejected where it waits for a person (K4)."""

from enum import StrEnum
from typing import Annotated, Any

import typer

from ..core.caps import Verdict
from ..core.commands import JudgeBreach, Status
from ..store import inbox, reports
from ..store import keys as keyed
from .common import Format, FormatOption, OrgOption, ReasonOption, Wrong, opened, out, person, run, serving, show, the_org


class Delivery(StrEnum):
    """How far a command is (`store.inbox`)."""

    PENDING = inbox.PENDING
    ATTEMPTED = inbox.ATTEMPTED
    CONFIRMED = inbox.CONFIRMED
    SUPERSEDED = inbox.SUPERSEDED
    FAILED = inbox.FAILED
    LEFT = inbox.LEFT
    UNKNOWN = inbox.UNKNOWN


commands = typer.Typer(no_args_is_help=True, help="What was done at the gateways; approve or reject what waits for a person.")
BreachArgument = Annotated[str, typer.Argument(metavar="CAP/ORDINAL", help="The breach that waits, as `list` shows it.")]
_COLUMNS = ("waits", "key", "state", "connection", "credential", "revision", "delivery", "attempts", "created_at", "confirmed_at", "error")
_WAITS = {"revoke": "to revoke; paused meanwhile", "all": "held by the brake; nothing is done meanwhile"}


@commands.command("list")
def list_commands(
    org: OrgOption = None,
    delivery: Annotated[Delivery | None, typer.Option(help="Only those in this state, such as failed.")] = None,
    waiting: Annotated[bool, typer.Option("--waiting", help="Only what waits for a person.")] = False,
    limit: Annotated[int, typer.Option(help="How many at most.", min=1, max=10**6)] = 100,
    form: FormatOption = Format.TABLE,
) -> None:
    """What waits for a person, then commands to the gateways, newest first."""

    async def work() -> None:
        async with opened() as database, database.snapshot() as connection:
            head = await the_org(connection, org)
            breaches = await reports.breaches(connection, head, limit=limit, waiting=True)
            sent = [] if waiting else await keyed.commands(connection, head, limit=limit, delivery=delivery)
        asks: list[dict[str, Any]] = [
            {"waits": f"{row['cap']}/{row['ordinal']}", "key": row["scope"], "state": _WAITS[row["waits"]], "created_at": row["opened_at"]}
            for row in breaches
        ]
        show([*asks, *sent], form, _COLUMNS)

    run(work)


def _judge(breach: str, verdict: Verdict, org: str | None, reason: str) -> None:
    async def work() -> None:
        cap, _, ordinal = breach.rpartition("/")
        if not cap or not ordinal.isdecimal():
            raise Wrong(f"{breach!r} is not CAP/ORDINAL: see `ledger commands list --waiting`")
        async with opened() as database, database.snapshot() as connection:
            head = await the_org(connection, org)
        async with serving() as service:
            order = JudgeBreach(org=head.org, by=person(), cap=cap, ordinal=int(ordinal), verdict=verdict, why=reason)
            (result,) = await service.record([order])
        if result.status is Status.REJECTED:
            raise Wrong(result.detail or str(result.reason))
        out.print(f"{breach}  {verdict}", markup=False)

    run(work)


@commands.command()
def approve(breach: BreachArgument, reason: ReasonOption, org: OrgOption = None) -> None:
    """Do what a breach waits with: its keys are revoked, or stopped where the brake held it."""
    _judge(breach, Verdict.APPROVED, org, reason)


@commands.command()
def reject(breach: BreachArgument, reason: ReasonOption, org: OrgOption = None) -> None:
    """Do not do what a breach waits with."""
    _judge(breach, Verdict.REJECTED, org, reason)
