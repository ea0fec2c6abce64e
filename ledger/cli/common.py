"""Owns what every command shares: settings, a database, the org that is meant, tables, and errors in words."""

import csv
import errno
import getpass
import json
import os
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from enum import StrEnum
from typing import Annotated, Any, TypeVar

import typer
import uvloop
from pydantic import TypeAdapter, ValidationError
from rich.console import Console
from rich.measure import Measurement
from rich.progress import Progress, ProgressColumn
from rich.table import Table
from rich.text import Text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection

from ..api.models import Text as Said
from ..api.values import checked_scope
from ..core.connections import is_hash
from ..metrics import Metrics
from ..service import Service
from ..settings import Settings, SettingsError, read_settings
from ..store import reports
from ..store.dialect import Database, connect
from ..store.schema import UnknownSchemaError, not_current
from ..wire.report import csv_cell
from ..wire.times import parse_day, parse_moment

T = TypeVar("T")
PIPED_WIDTH = 240
_SENTENCES = ("reasons", "error")  # columns that may take several lines
_LEAST = 30  # and are at least so wide
# no emoji: a key that is called `a` is not the sign that `:a:` stands for
out = Console(highlight=False, emoji=False, soft_wrap=True, width=None if sys.stdout.isatty() else PIPED_WIDTH)
err = Console(stderr=True, highlight=False, emoji=False, soft_wrap=True)


class Format(StrEnum):
    """How a list is printed."""

    TABLE = "table"
    JSON = "json"
    CSV = "csv"


def _said(text: str) -> str:
    """What a person gives for a reason, within the bounds that it has over HTTP."""
    try:
        return TypeAdapter(Said).validate_python(text)
    except ValidationError:
        raise typer.BadParameter("say why, in 1 to 500 characters") from None


OrgOption = Annotated[str | None, typer.Option("--org", help="Which org; may be left out while there is only one.")]
FormatOption = Annotated[Format, typer.Option("--format", help="table, json or csv.")]
YesOption = Annotated[bool, typer.Option("--yes", help="Do not ask.")]
ReasonOption = Annotated[str, typer.Option("--reason", help="Why; it stands in the journal.", callback=_said)]


class Wrong(Exception):
    """Something the person can mend; the message says how."""


def settings() -> Settings:
    """The settings, or a message that names what is wrong with them."""
    try:
        return read_settings(os.environ)
    except SettingsError as error:
        raise Wrong(str(error)) from None


def run(work: Callable[[], Awaitable[T]]) -> T:
    """Runs a command's work; what a person can mend is told in words, on stderr, with exit code 1."""
    try:
        return uvloop.run(_awaited(work))
    except (Wrong, UnknownSchemaError) as error:
        tell("error", "red", str(error))
    except BrokenPipeError:  # who reads our output has enough of it: the command ends without a word
        raise
    except (DBAPIError, OSError) as error:
        tell("error", "red", _failed(error))
    raise typer.Exit(1)


def _failed(error: DBAPIError | OSError) -> str:
    """What went wrong with the database, or with what a command prints, and what to do."""
    cause = str(getattr(error, "orig", None) or error)
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):  # a database of ours says that itself
        return f"the output can't be written: {cause}"
    if "not a database" in cause:
        return "LEDGER_DATABASE_URL: the file it names is no SQLite database, and was left as it is: mend the URL, or move the file away"
    if "is full" in cause or "No space left" in cause:
        return f"the database takes nothing more: {cause}. Nothing was booked by halves: make room where the database lies"
    if "readonly" in cause or "read-only" in cause:
        return f"the database is only read: {cause}. Is LEDGER_DATABASE_URL a replica's, or may it be written by whoever runs this?"
    return f"the database does not answer: {cause}. Is LEDGER_DATABASE_URL right, and is it running?"


def tell(word: str, style: str, text: str) -> None:
    """A line on stderr: a word in colour, then text that is only text."""
    err.print(Text.assemble((word, style), f" {plain(text)}"))


def plain(text: str) -> str:
    """What others named, for a terminal: characters that would command it are written out."""
    return "".join(part if part.isprintable() or part == "\n" else part.encode("unicode_escape").decode() for part in text)


async def _awaited(work: Callable[[], Awaitable[T]]) -> T:
    return await work()


@asynccontextmanager
async def opened(*, current: bool = True) -> AsyncIterator[Database]:
    """The database of the settings; `current`: refuse one whose schema is not at head."""
    given = settings()
    try:
        database = connect(given.database_url, given.read_database_url)
    except ValueError as error:
        raise Wrong(f"LEDGER_DATABASE_URL: {error}") from None
    try:
        if current:
            if missing := database.missing():
                raise Wrong(f"LEDGER_DATABASE_URL: there is no file {missing}: run `ledger migrate`, or `ledger serve`, or mend the URL")
            async with database.reader.connect() as connection:
                if why := await not_current(connection):
                    raise Wrong(why)
        yield database
    finally:
        await database.close()


@asynccontextmanager
async def serving() -> AsyncIterator[Service]:
    """A service for commands that book something."""
    async with opened() as database:
        yield Service(database, Metrics())


async def the_org(connection: AsyncConnection, org: str | None) -> reports.Head:
    """The org that is meant. Raises Wrong where that is not clear."""
    if org is not None:
        head = await reports.head(connection, org)
        if head is None:
            raise Wrong(f"there is no org {org!r}: `ledger get orgs` lists those that are")
        return head
    known = await reports.orgs(connection, limit=2)
    if len(known) != 1:
        raise Wrong("there is no org yet: `ledger apply FILE.yaml` makes one" if not known else "there are several orgs: say --org ORG")
    return known[0]


def scope_of(text: str) -> str:
    """A scope that a person named. Raises Wrong where it can be none, since what nobody spends in would only read as 0."""
    try:
        return checked_scope(text)
    except ValueError as error:
        raise Wrong(f"{text!r} {error}") from None


def moment_of(option: str, text: str | None, zone: str | None = None) -> int | None:
    """A moment, or with a zone the instant at which a day begins there; microseconds. Raises Wrong."""
    if text is None:
        return None
    try:
        return parse_day(text, zone) if zone is not None and len(text) == len("2026-03-08") else parse_moment(text)
    except ValueError as error:
        forms = "2026-03-08T09:00:00Z" + ("" if zone is None else ", or 2026-03-08 for that day")
        raise Wrong(f"{option}: {text!r} {str(error).partition(', such')[0]}; write it as {forms}") from None


def refuse(options: Mapping[str, object], why: str) -> None:
    """Raises Wrong for an option that was given: passed over, it would leave another question answered than was asked."""
    for name, given in options.items():
        if given not in (None, False, []):
            raise Wrong(f"{name}: {why}")


def progress(*columns: ProgressColumn) -> Progress:
    """How far a command is, on stderr while it works; nothing where nobody looks."""
    return Progress(*columns, console=err, transient=True, disable=not err.is_terminal)


def at_terminal() -> bool:
    """Whether a person is there who can be asked."""
    return sys.stdin is not None and sys.stdin.isatty()


def person() -> str:
    """Who gives an order from a terminal (T3)."""
    return os.environ.get("SUDO_USER") or getpass.getuser()


def show(rows: Sequence[dict[str, Any]], form: Format, columns: Sequence[str]) -> None:
    """Prints a list: some columns as a table, or everything as JSON or CSV."""
    if form is Format.JSON:
        print(json.dumps(rows, indent=2, default=str))
        return
    if form is Format.CSV:
        writer = csv.DictWriter(sys.stdout, list(dict.fromkeys(name for row in rows for name in row)) or list(columns), lineterminator="\n")
        writer.writeheader()
        writer.writerows(
            {name: json.dumps(value) if isinstance(value, list | dict) else csv_cell(value) for name, value in row.items()} for row in rows
        )
        return
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in columns:
        right, long = name.endswith("_usd") or name in ("requests", "revision"), name in _SENTENCES
        table.add_column(name, justify="right" if right else "left", no_wrap=not long, min_width=_LEAST if long else None)
    for row in rows:
        table.add_row(*(_cell(shortened(row.get(name)) if name == "credential" else row.get(name)) for name in columns))
    widened(table)
    out.print(table if rows else "[dim]nothing[/]")


def widened(table: Table) -> None:
    """Makes a table as wide as it has to be, also where the terminal then wraps its lines: a name cut short could not be used."""
    least = Measurement.get(out, out.options.update(width=PIPED_WIDTH), table).minimum
    if least > out.width:
        table.width = least


def shortened(credential: Any) -> Any:
    """A credential as a terminal shows it: of a hash the first digits, which leave room for the rest of the line."""
    return f"{credential[:12]}…" if isinstance(credential, str) and is_hash(credential) else credential


def _cell(value: Any) -> Text:
    if value is None:
        return Text()
    return Text(plain(", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)))
