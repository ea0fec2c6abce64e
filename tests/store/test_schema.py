"""The schema on both databases: up, as the program expects it, and down again."""

from sqlalchemy import inspect

from ledger.store.dialect import Database
from ledger.store.schema import check, downgrade, is_current, migrate


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
