"""Owns the commands that book money by a person: adjust an entry, share a cost out."""

import uuid
from datetime import date
from typing import Annotated

import typer

from ..core import commands as c
from ..core.commands import Command, Result, Status
from ..core.money import AmountError, Nanos, parse_usd
from ..core.window import day_number
from ..service import Service
from ..store import reports
from ..wire.identity import own_identity
from .common import OrgOption, ReasonOption, Wrong, out, person, run, serving, the_org

RequestOption = Annotated[str | None, typer.Option("--request", help="A name for this request: given again, nothing is booked twice.")]
MOST_DIGITS = 18  # of a whole number; how large it may be is for the core to say


def _usd(option: str, text: str) -> int:
    try:
        return -parse_usd(text[1:]) if text.startswith("-") else parse_usd(text)
    except AmountError as error:
        raise Wrong(f"{option}: {text!r} {error}") from None


def _entry(text: str) -> int:
    if not text.isascii() or not text.isdigit() or len(text) > MOST_DIGITS:
        raise Wrong(f"ENTRY: {text!r} is not the seq of an entry, such as 12: `ledger explain` shows it")
    return int(text)


async def _book(service: Service, order: Command) -> Result:
    result = (await service.record([order]))[0]
    if result.status is Status.REJECTED:
        raise Wrong(result.detail or "refused")
    if result.status is Status.EXISTS_WITH_DIFFERENT_CONTENT:
        raise Wrong("--request: was used for something else")
    return result


async def _head(service: Service, org: str | None) -> reports.Head:
    async with service.database.snapshot() as connection:
        return await the_org(connection, org)


def adjust(
    entry: Annotated[str, typer.Argument(help="The seq of the entry of usage, as `ledger explain` shows it.")],
    reason: ReasonOption,
    cost: Annotated[str | None, typer.Option("--cost", help="What it should have cost, US dollars.")] = None,
    amount: Annotated[str | None, typer.Option("--amount", help="By how much that differs: -0.30 takes 30 cents back.")] = None,
    request: RequestOption = None,
    org: OrgOption = None,
) -> None:
    """Correct what a call cost, by a new entry in its own window; caps see it at once."""

    async def work() -> None:
        seq = _entry(entry)
        if (cost is None) == (amount is None):
            raise Wrong("say either --cost or --amount")
        wish = None if cost is None else Nanos(_usd("--cost", cost))
        if wish is not None and wish < 0:
            raise Wrong("--cost: is negative")
        difference = None if amount is None else _usd("--amount", amount)
        async with serving() as service:
            head = await _head(service, org)
            digest = own_identity(head.org, "cli:adjustments", request or uuid.uuid4().hex)
            order = c.CorrectUsage(org=head.org, by=person(), digest=digest, entry=seq, cost=wish, difference=difference, why=reason)
            result = await _book(service, order)
        out.print(f"{result.status}  seq {result.seq}")

    run(work)


def share(
    amount: Annotated[str, typer.Argument(help="US dollars.")],
    over: Annotated[list[str], typer.Option("--over", help="A workspace, or WORKSPACE=WEIGHT; repeated.")],
    reason: ReasonOption,
    how: Annotated[c.How, typer.Option("--how", help="The same for each, by weights, or by what each spent in the month.")] = c.How.EVENLY,
    day: Annotated[str | None, typer.Option("--day", help="The day it counts on, such as 2026-03-01; today if left out.")] = None,
    request: RequestOption = None,
    org: OrgOption = None,
) -> None:
    """Share a cost that no key made over workspaces, exact to the nano, as entries."""

    async def work() -> None:
        cost = Nanos(_usd("AMOUNT", amount))
        if cost <= 0:
            raise Wrong(f"AMOUNT: {amount!r} is not above zero: say what there is to share, in US dollars, such as 12.50")
        parts: list[tuple[str, int]] = []
        for part in over:
            name, equals, weight = part.rpartition("=") if how is c.How.WEIGHT else (part, "", "0")
            if (not equals and how is c.How.WEIGHT) or not weight.removeprefix("-").isdecimal() or len(weight) > MOST_DIGITS:
                raise Wrong(f"--over: {part!r} is not WORKSPACE=WEIGHT")
            parts.append((name, int(weight)))
        async with serving() as service:
            head = await _head(service, org)
            order = c.ShareCost(
                org=head.org, by=person(), digest=own_identity(head.org, "cli:shared-costs", request or uuid.uuid4().hex),
                amount=cost, how=how, over=tuple(parts), day=_day(day), why=reason,
            )  # fmt: skip
            result = await _book(service, order)
        out.print(f"{result.status}  seq {result.seq}")

    run(work)


def _day(text: str | None) -> int | None:
    try:
        return None if text is None else day_number(date.fromisoformat(text))
    except ValueError:
        raise Wrong(f"--day: {text!r} is not a date, such as 2026-03-01") from None
