"""Owns the commands for whoever watches a ledger: the dashboards' reader, and `doctor`."""

import re
from typing import Annotated

import typer

from ..store.dialect import is_postgres
from ..store.reader import grant_reading
from .common import Wrong, opened, out, run, settings


def reader(role: Annotated[str, typer.Argument(help="The role's name, such as grafana: small letters, digits, underscores.")]) -> None:
    """Make the PostgreSQL role that dashboards read with, or mend it: it sees figures and no secrets, and changes nothing.

    Its password is LEDGER_READER_PASSWORD. Run it again after `ledger migrate`: new tables are seen by nobody until then.
    """

    async def work() -> None:
        password = settings().reader_password
        if password is None:
            raise Wrong("LEDGER_READER_PASSWORD is not set: it becomes the role's password")
        if not re.fullmatch(r"[a-z_][a-z0-9_]{0,62}", role):
            raise Wrong(f"{role!r} is not a role's name: small letters, digits and underscores, a letter first")
        async with opened() as database, database.writer.begin() as connection:
            if not is_postgres(connection):
                raise Wrong("the database is SQLite, which has no roles: give the dashboards a copy of the file, or use PostgreSQL")
            if role == database.writer.url.username:
                raise Wrong(f"{role!r} is the role that the ledger itself writes with")
            await grant_reading(connection, role, password)
        out.print(f"{role} may read the ledger's figures")

    run(work)
