"""Owns `ledger rates`: price lists taken in, rates listed, set by the operator, compared; and how far reported costs drift."""

import importlib
from collections.abc import Callable
from decimal import Decimal, InvalidOperation
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import httpx
import typer
from rich.progress import TextColumn

from ..core.money import usd_text
from ..core.rates import BY_THE_PIECE, Origin, Prices, Rate, Schedule, fault_of, provider_id, schedule_of
from ..core.window import Period, window_at
from ..pricing import price_waiting
from ..service import Service, system_clock
from ..store import rates as stored
from ..wire.pricelists import PriceList, PriceListError, convert_genai, parse_litellm
from ..wire.times import parse_moment
from .common import Format, FormatOption, OrgOption, Wrong, err, opened, out, person, progress, run, serving, settings, show, the_org

rates = typer.Typer(help="The rate card: what tokens cost where no gateway says it.", no_args_is_help=True)
LITELLM_LIST = "https://raw.githubusercontent.com/BerriAI/litellm/main/model_prices_and_context_window.json"
MOST_BYTES, FETCH_S = 64 * 1024 * 1024, 60.0
DAYS = 30
_COLUMNS = ("model", "provider", "origin", "from", "input", "cached", "cache_write", "output", "reasoning", "other", "batch")
_FIELDS = ("provider", "model", "origin", "starts_at", "version", "usd_per_million", "usd_each", "tiers", "batch")  # of a rate as JSON


class Lists(StrEnum):
    """The price lists that can be taken in."""

    GENAI_PRICES = "genai-prices"
    LITELLM = "litellm"


ListArgument = Annotated[Lists, typer.Argument(help="genai-prices (as installed here), or litellm (its JSON, from the network or --file).")]
FileOption = Annotated[Path | None, typer.Option("--file", help="litellm: a file instead of the network.", exists=True, dir_okay=False)]
UrlOption = Annotated[str | None, typer.Option("--url", help="litellm: where its JSON is.", show_default=LITELLM_LIST)]


@rates.command("sync")
def sync_rates(which: ListArgument = Lists.GENAI_PRICES, file: FileOption = None, url: UrlOption = None) -> None:
    """Take a price list in as a new version of the card; entries that wait for a price get it.

    A list that can't be read changes nothing. Prices that you set yourself stand before any list's.
    """

    async def work() -> None:
        listed = _read(which, file, url)
        async with serving() as service:
            await _put(service, listed.rates, Origin(which))
        _tell_left_out(listed)

    run(work)


@rates.command("diff")
def diff_rates(which: ListArgument = Lists.GENAI_PRICES, file: FileOption = None, url: UrlOption = None) -> None:
    """Show what a sync would change. Exit code 2 if it would change anything."""

    async def work() -> bool:
        listed = _read(which, file, url)
        async with opened() as database, database.snapshot() as connection:
            found = await stored.changes(connection, listed.rates, Origin(which), system_clock())
        for rate in found.added:
            out.print(f"[green]+[/] {_named(rate)}: {_prices(rate)}", markup=True)
        for was, now in found.changed:
            out.print(f"[yellow]~[/] {_named(now)}: {_prices(was)} → {_prices(now)}")
        out.print(f"{len(found.added)} new, {len(found.changed)} changed, {found.same} the same")
        _tell_left_out(listed)
        return bool(found.added or found.changed)

    if run(work):
        raise typer.Exit(2)


@rates.command("list")
def list_rates(
    model: Annotated[str, typer.Argument(help="Part of a model's name.")] = "",
    version: Annotated[int | None, typer.Option(help="As the card stood at this version.", min=1)] = None,
    form: FormatOption = Format.TABLE,
) -> None:
    """List rates: dollars per million tokens, or per image, request and search."""

    async def work() -> None:
        async with opened() as database, database.snapshot() as connection:
            newest = await stored.newest(connection)
            if version is not None and (newest is None or version > newest.version):
                raise Wrong(
                    f"--version: {version} is not there yet: " + (f"the newest is {newest.version}" if newest else "there is no card")
                )
            found = await stored.listed(connection, version, model=model)
        if form is Format.TABLE:
            show([_row(rate) for rate in found], form, _COLUMNS)
            out.print(f"[dim]version {version or newest.version}[/]" if newest else "[dim]there is no card yet: `ledger rates sync`[/]")
        else:
            show([stored.rate_json(rate) for rate in found], form, _FIELDS)

    run(work)


@rates.command("set")
def set_rate(
    model: Annotated[str, typer.Argument(help="The model, as usage names it.")],
    prices: Annotated[list[str], typer.Argument(help="input=3 output=15 …; see below.")],
    provider: Annotated[str | None, typer.Option(help="Only where this provider runs it; else wherever it runs.")] = None,
    tier: Annotated[list[str] | None, typer.Option(help="What differs above so many tokens of input: 200000:input=6; repeatable.")] = None,
    batch: Annotated[str | None, typer.Option(help="What differs for batch calls: input=1.5,output=7.5.")] = None,
    start: Annotated[str | None, typer.Option("--from", help="From when on; default: always, or now where one of yours holds.")] = None,
) -> None:  # fmt: skip
    """Set a model's price yourself; entries that wait for it are priced in their own windows, and caps see them.

    Dollars per million tokens: input, cached, cache_write, output, reasoning, audio. Dollars each: image, request, search. What
    has no price of its own costs what the rest of its side costs; zero is a price.
    """

    async def work() -> None:
        if not model:
            raise Wrong("MODEL: is empty: say which model, as usage names it")
        standard = schedule_of(_given(prices), _tiers(tier or []))
        less = _given(batch.split(",")) if batch is not None else None
        rate = Rate(
            provider=None if provider is None else provider_id(provider), model=model.lower(), origin=Origin.OPERATOR, standard=standard,
            batch=None if less is None else Schedule(less).over(standard),
            starts_us=_start(start),
        )  # fmt: skip
        async with serving() as service:
            await _put(service, [rate], Origin.OPERATOR)

    run(work)


@rates.command("drift")
def show_drift(
    org: OrgOption = None,
    days: Annotated[int, typer.Option(help="How far back.", min=1, max=3660)] = DAYS,
    form: FormatOption = Format.TABLE,
) -> None:
    """Show by model where reported costs and the card's prices are apart (LEDGER_DRIFT_PERCENT)."""

    async def work() -> None:
        percent = settings().drift_percent
        async with opened() as database, database.snapshot() as connection:
            head = await the_org(connection, org)
            today = window_at(Period.DAY, max(system_clock(), head.recorded_us), head.zone).start
            found = await stored.drift(connection, head.org_id, today - days + 1, percent)
        shown = [row | {f"{name}_usd": usd_text(int(str(row.pop(name)))) for name in ("reported", "computed")} for row in found]
        show(shown, form, ("model", "provider", "calls", "drifted", "reported_usd", "computed_usd"))
        if form is Format.TABLE:
            out.print(f"[dim]drifted: more than {percent} % apart, in the last {days} days[/]")

    run(work)


def _read(which: Lists, file: Path | None, url: str | None) -> PriceList:
    if which is not Lists.LITELLM and (file or url):
        raise Wrong(f"--file and --url are for litellm's list; that of {which} comes with what is installed here")
    if file and url:
        raise Wrong("--file and --url: say one of them")
    try:
        if which is Lists.GENAI_PRICES:
            # Not an import of this module's: the data alone takes half a second, which no other command should wait for.
            return convert_genai(importlib.import_module("genai_prices.data").providers)
        return parse_litellm(file.read_bytes() if file is not None else _fetched(url or LITELLM_LIST))
    except PriceListError as error:
        raise Wrong(f"the list of {which} {error}; the card stays as it is") from None


def _fetched(url: str) -> bytes:
    parts, size = [], 0
    try:
        with httpx.stream("GET", url, follow_redirects=True, timeout=FETCH_S) as answer:
            if answer.status_code != 200:
                raise Wrong(f"{url} answered {answer.status_code}; the card stays as it is")
            for part in answer.iter_bytes():
                size += len(part)
                if size > MOST_BYTES:
                    raise Wrong(f"{url} is longer than {MOST_BYTES} bytes; the card stays as it is")
                parts.append(part)
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise Wrong(f"{url} can't be fetched: {type(error).__name__}; the card stays as it is") from None
    return b"".join(parts)


async def _put(service: Service, wanted: list[Rate], origin: Origin) -> None:
    now_us = service.clock()
    async with service.database.writer.begin() as connection:
        found = await stored.changes(connection, wanted, origin, now_us)
        version = await stored.put(connection, found, origin, person(), now_us)
        card = await stored.card(connection)
    out.print(f"version {version}: {len(found.added)} new, {len(found.changed)} changed, {found.same} the same")
    with progress(TextColumn("pricing what waits"), TextColumn("{task.completed:,.0f} entries")) as bar:
        task = bar.add_task("")
        priced = await price_waiting(service, card, lambda n: bar.advance(task, n))
    if priced:
        out.print(f"priced {priced:,} entries that waited")


def _tell_left_out(listed: PriceList) -> None:
    if listed.left_out:
        name, why = next(iter(listed.left_out.items()))
        err.print(f"left out {len(listed.left_out)} models, such as {name}: {why}", markup=False, style="dim")


def _given(words: list[str]) -> Prices:
    """`input=3 output=15`, tokens by the million. Raises Wrong."""
    values: dict[str, Decimal] = {}
    for word in words:
        name, _, text = word.strip().partition("=")
        if name not in Prices.__struct_fields__:
            raise Wrong(f"{name!r} is not a class that has a price: {', '.join(Prices.__struct_fields__)}")
        if name in values:
            raise Wrong(f"{name}: is there twice: say one price for it")
        try:
            value = Decimal(text.replace("_", " "))  # a point that was meant, or digits in threes: nobody would know
        except InvalidOperation:
            raise Wrong(f"{name}: {text!r} is not a number of dollars, such as 0.25") from None
        values[name] = value if name in BY_THE_PIECE or not value.is_finite() else value.scaleb(-6)
    prices = Prices(**values)
    if fault := fault_of(prices):
        raise Wrong(fault)
    return prices


def _tiers(said: list[str]) -> dict[int, Prices]:
    """What differs from the tier before, by where each begins. Raises Wrong."""
    starts: dict[int, Prices] = {}
    for text in said:
        above, _, words = text.partition(":")
        if not above.isascii() or not above.isdigit() or len(above) > 12:
            raise Wrong(f"--tier {text!r}: begins with a number of input tokens, such as 200000:input=6")
        if int(above) in starts:
            raise Wrong("--tier: begins twice at the same number of input tokens: say one price for it")
        starts[int(above)] = _given(words.split(","))
    return starts


def _start(text: str | None) -> int:
    try:
        return 0 if text is None else parse_moment(text)
    except ValueError as error:
        raise Wrong(f"--from {error}") from None


def _named(rate: Rate) -> str:
    return f"{rate.model} at {rate.provider or 'any provider'}"


def _prices(rate: Rate) -> str:
    prices = rate.standard.base
    plain: Callable[[str], str] = lambda name: f"{getattr(prices, name).scaleb(0 if name in BY_THE_PIECE else 6).normalize():f}"
    return " ".join(f"{name}={plain(name)}" for name in Prices.__struct_fields__ if getattr(prices, name) is not None)


def _row(rate: Rate) -> dict[str, Any]:
    shown = dict(word.split("=") for word in _prices(rate).split())
    other = " ".join(f"{name}={shown[name]}" for name in ("audio", *BY_THE_PIECE) if name in shown)
    tiers = f" +{len(rate.standard.tiers)} tiers" if rate.standard.tiers else ""
    start = stored.rate_json(rate)["starts_at"]
    batch = "" if rate.batch is None else "yes"
    return shown | {
        "model": rate.model, "provider": rate.provider or "any", "origin": str(rate.origin), "from": start or "", "other": other + tiers,
        "batch": batch,
    }  # fmt: skip
