"""The schema on both databases: up, as the program expects it, and down again."""

import pytest
from sqlalchemy import inspect

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


@pytest.mark.parametrize("letters", ["LATIN1", "SQL_ASCII"])
async def test_a_database_that_lacks_letters_is_refused_with_words_before_anything_is_in_it(own_database: str, letters: str) -> None:
    server, name = own_database.rsplit("/", 1)
    narrow = f"{name}_{letters.lower()}"
    maker = connect(own_database)
    async with maker.writer.connect() as connection:
        await connection.execution_options(isolation_level="AUTOCOMMIT")
        made = f"CREATE DATABASE {narrow} TEMPLATE template0 ENCODING '{letters}' LC_COLLATE 'C' LC_CTYPE 'C'"
        await connection.exec_driver_sql(made)
        database = connect(f"{server}/{narrow}")
        with pytest.raises(UnknownSchemaError, match=f"keeps text in {letters}, .* ENCODING 'UTF8'"):
            async with database.writer.begin() as asking:
                await migrate(asking)
        await database.close()
        await connection.exec_driver_sql(f"DROP DATABASE {narrow}")
    await maker.close()
