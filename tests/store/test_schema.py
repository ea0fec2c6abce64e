"""The schema on both databases: up, as the program expects it, and down again."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from sqlalchemy import inspect, select

from ledger.core.commands import SetWorkspace, Status
from ledger.record import Shelf, record
from ledger.store import books as projections
from ledger.store import tables as t
from ledger.store.dialect import Database, connect
from ledger.store.schema import UnknownSchemaError, check, downgrade, is_current, migrate


async def test_the_migrations_make_exactly_the_tables_that_the_program_expects(database: Database) -> None:
    async with database.writer.begin() as connection:
        await check(connection)
        assert await is_current(connection)


async def test_a_database_goes_down_to_nothing_and_up_again(database: Database) -> None:
    async with database.writer.begin() as connection:
        await downgrade(connection)
        assert not await is_current(connection)
        tables = await connection.run_sync(lambda sync: set(inspect(sync).get_table_names()))
        assert tables <= {"alembic_version"}
        await migrate(connection)
        await check(connection)


@asynccontextmanager
async def kept_in(letters: str, beside: str) -> AsyncIterator[Database]:
    """A database with nothing in it that keeps text in an encoding of its own, on the server of another."""
    server, name = beside.rsplit("/", 1)
    maker = connect(beside)
    async with maker.writer.connect() as connection:
        await connection.execution_options(isolation_level="AUTOCOMMIT")
        made = f"CREATE DATABASE {name}_other TEMPLATE template0 ENCODING '{letters}' LC_COLLATE 'C' LC_CTYPE 'C'"
        await connection.exec_driver_sql(made)
        database = connect(f"{server}/{name}_other")
        yield database
        await database.close()
        await connection.exec_driver_sql(f"DROP DATABASE {name}_other")
    await maker.close()


async def test_a_database_that_lacks_letters_is_refused_with_words_before_anything_is_in_it(own_database: str) -> None:
    async with kept_in("LATIN1", own_database) as database:
        with pytest.raises(UnknownSchemaError, match=r"keeps text in LATIN1, .* ENCODING 'UTF8'"):
            async with database.writer.begin() as connection:
                await migrate(connection)


async def test_a_database_that_keeps_any_bytes_keeps_any_letters(own_database: str) -> None:
    """As a cluster made without a locale does."""
    async with kept_in("SQL_ASCII", own_database) as database:
        async with database.writer.begin() as connection:
            await migrate(connection)
        order = SetWorkspace(org="Ωmega", by="will", workspace="研究", labels={"team": "naïve 🐙"})
        (result,) = (await record(database, Shelf(), [order], 1_772_000_000_000_000)).results
        assert result.status is Status.RECORDED, result
        async with database.reader.connect() as connection:
            ((org_id, org),) = (await connection.execute(select(t.orgs.c.org_id, t.orgs.c.org))).all()
            (books,) = (await projections.load(connection, {org: org_id})).values()
        assert (books.org, list(books.workspaces)) == ("Ωmega", ["研究"])
        assert "naïve 🐙" in str(books.labels)
