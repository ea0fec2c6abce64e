"""Owns the commands that keep a ledger in order: migrate, tokens, replay, verify."""

import time
from typing import Annotated

import typer
from rich.progress import Progress, TextColumn, TimeElapsedColumn

from ..api.values import checked_id
from ..service import system_clock
from ..store import replay as replaying
from ..store import reports
from ..store import tokens as stored
from ..store.dialect import lock_orgs
from ..store.schema import migrate as upgrade
from ..wire.times import moment_text
from .common import Format, FormatOption, OrgOption, Wrong, opened, out, progress, run, show, tell, the_org

tokens = typer.Typer(help="Access tokens: made, listed, revoked.", no_args_is_help=True)


def migrate() -> None:
    """Bring the database's schema to head."""

    async def work() -> None:
        async with opened(current=False) as database, database.writer.begin() as connection:
            await upgrade(connection)
        out.print("the schema is at head")

    run(work)


def _heads_query(org: str | None):
    async def heads(connection) -> list[reports.Head]:
        return [await the_org(connection, org)] if org else await reports.orgs(connection, limit=10**6)

    return heads


def _progress(what: str) -> Progress:
    return progress(TextColumn(what), TextColumn("{task.completed:,.0f} entries"), TimeElapsedColumn())


def verify(org: OrgOption = None) -> None:
    """Prove balances, caps, key states and breaches equal to the journal (J1), and that parts add up (M7).

    Exit code 1 and the first difference, if there is one.
    """

    async def work() -> str | None:
        started, checked, entries = time.monotonic(), 0, 0
        async with opened() as database, database.snapshot() as connection:
            with _progress("verifying") as bar:
                task = bar.add_task("")
                for head in await _heads_query(org)(connection):
                    difference = await replaying.verify(connection, head.org_id, head.org, lambda n: bar.advance(task, n))
                    if difference:
                        return difference
                    checked, entries = checked + 1, entries + head.seq
        out.print(f"[green]equal[/]  {entries:,} entries of {checked} orgs, {time.monotonic() - started:.1f} s")
        return None

    difference = run(work)
    if difference:
        tell("different", "red", difference)
        raise typer.Exit(1)


def replay(org: OrgOption = None) -> None:
    """Rebuild balances, caps, key states and breaches from the journal. Sends nothing."""

    async def work() -> None:
        started, entries = time.monotonic(), 0
        async with opened() as database:
            async with database.snapshot() as connection:
                heads = await _heads_query(org)(connection)
            with _progress("replaying") as bar:
                task = bar.add_task("")
                for head in heads:
                    async with database.writer.begin() as connection:
                        await lock_orgs(connection, [head.org])
                        books = await replaying.replay(connection, head.org_id, head.org, lambda n: bar.advance(task, n))
                    entries += books.seq
        out.print(f"replayed {entries:,} entries of {len(heads)} orgs, {time.monotonic() - started:.1f} s")

    run(work)


@tokens.command("create")
def create_token(
    name: Annotated[str, typer.Argument(help="The person or program it is for; stands in every entry it makes.")],
    scope: Annotated[list[str], typer.Option(help="ingest, read or admin; may be repeated.")],
    org: Annotated[str | None, typer.Option(help="The one org it is for; else all of them.")] = None,
    workspace: Annotated[str | None, typer.Option(help="With read: the one workspace it may see.")] = None,
) -> None:
    """Make a token and show it, once."""

    async def work() -> None:
        if unknown := [part for part in scope if part not in stored.SCOPES]:
            raise Wrong(f"{unknown[0]!r} is not a scope: {', '.join(stored.SCOPES)}")
        if workspace is not None and (scope != ["read"] or org is None):
            raise Wrong("--workspace goes with --scope read and --org")
        of = None if org is None else _checked("--org", org)
        who, home = _checked("NAME", name), None if workspace is None else _checked("--workspace", workspace)
        async with opened() as database, database.writer.begin() as connection:
            if of is not None and await reports.head(connection, of) is None:
                tell("note", "yellow", f"there is no org {of!r} yet: its first usage opens it, or `ledger apply FILE.yaml`")
            print(await stored.create(connection, stored.Token(who, tuple(scope), of, home), system_clock()))

    run(work)


def _checked(what: str, text: str) -> str:
    """A name as it may be kept, and stand in entries (T3, S2). Raises Wrong."""
    try:
        return checked_id(text)
    except ValueError as error:
        raise Wrong(f"{what}: {error}") from None


@tokens.command("list")
def list_tokens(form: FormatOption = Format.TABLE) -> None:
    """List tokens; what would let anyone use them is not stored."""

    async def work() -> None:
        async with opened() as database, database.snapshot() as connection:
            rows = await stored.listed(connection)
        for row in rows:
            created, revoked = row.pop("created_us"), row.pop("revoked_us")
            row |= {"created_at": moment_text(int(str(created))), "revoked_at": revoked and moment_text(int(str(revoked)))}
        show(rows, form, ("name", "scopes", "org", "workspace", "created_at", "revoked_at"))

    run(work)


@tokens.command("revoke")
def revoke_token(name: Annotated[str, typer.Argument(help="Whose tokens end.")]) -> None:
    """End every token of a name, of every org, within seconds."""

    async def work() -> None:
        async with opened() as database, database.writer.begin() as connection:
            ended = await stored.revoke(connection, name, system_clock())
        if not ended:
            raise Wrong(f"no token of {name!r} is valid")
        out.print(f"revoked {ended}")

    run(work)
