"""Owns the commands for whoever watches a ledger: the dashboards' reader, and `doctor`."""

import json
import logging
import os
import re
from typing import Annotated

import typer
from rich.markup import escape
from sqlalchemy import text

from ..doctor import Finding, Level, Patient, examine
from ..service import system_clock
from ..settings import kafka_of
from ..store.dialect import connect, is_postgres
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
            if role == await connection.scalar(text("SELECT current_user")):
                raise Wrong(f"{role!r} is the role that the ledger itself writes with")
            await grant_reading(connection, role, password)
        out.print(f"{role} may read the ledger's figures")

    run(work)


_MARKS = {Level.WELL: "[green]well [/]", Level.WARN: "[yellow]warn [/]", Level.WRONG: "[red]WRONG[/]"}


def doctor(as_json: Annotated[bool, typer.Option("--json", help="One JSON document instead of lines.")] = False) -> None:
    """Reach every dependency, and say what is wrong and what to do: database, schema, clock, tokens, rate card, books, gateways, Kafka.

    Changes nothing. Exit code 1 if anything is wrong; a warning is not.
    """
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)  # what it would say, a finding says better

    async def work() -> list[Finding]:
        given = settings()
        try:
            database = connect(given.database_url, given.read_database_url)
        except ValueError as error:
            raise Wrong(f"LEDGER_DATABASE_URL: {error}") from None
        findings: list[Finding] = []
        try:
            async for finding in examine(Patient(database, kafka_of(given), os.environ, system_clock)):
                findings.append(finding)
                if not as_json:
                    _tell(finding)
        finally:
            await database.close()
        return findings

    findings = run(work)
    if as_json:
        print(json.dumps([finding._asdict() for finding in findings], indent=2))
    if any(finding.level is Level.WRONG for finding in findings):
        raise typer.Exit(1)


def _tell(finding: Finding) -> None:
    out.print(_MARKS[finding.level], f"[bold]{escape(finding.about)}[/]  {escape(finding.said)}")
    if finding.do:
        out.print(f"      → {escape(finding.do)}")
