"""Rows that may be many come as they are, and whoever stops listening gives the connection back."""

import asyncio
from contextlib import aclosing

import pytest
from sqlalchemy import Select, Text, cast, column, func, literal, select, table
from sqlalchemy.ext.asyncio import AsyncConnection

from ledger.store.dialect import Database
from ledger.store.streaming import stream_rows

ODD = ["plain", 'a "quoted", comma', "two\nlines", "back\\slash \\N \\.", "$1 and $2", "it's", "Zürich 東京", "\u2028", "a\rreturn"]
MANY = 100_000


def counted(most: int) -> Select[int, str]:
    numbers = select(literal(1).label("n")).cte("numbers", recursive=True)
    numbers = numbers.union_all(select(numbers.c.n + 1).where(numbers.c.n < most))
    return select(numbers.c.n, cast(literal("some text that makes a row longer"), Text)).order_by(numbers.c.n)


@pytest.mark.parametrize("text", ODD)
async def test_texts_come_back_to_the_letter_whatever_is_in_them(database: Database, text: str) -> None:
    query = select(literal(7), literal(text), literal(text).label("again")).where(literal(text) == text)
    async with database.snapshot() as connection:
        await connection.scalar(select(1))
        rows = [list(row) async for row in stream_rows(connection, query)]
    assert [[int(row[0]), *row[1:]] for row in rows] == [[7, text, text]]


async def test_every_row_comes_once_and_in_order(database: Database) -> None:
    async with database.snapshot() as connection:
        await connection.scalar(select(1))
        assert [int(n) async for n, _ in stream_rows(connection, counted(MANY))] == list(range(1, MANY + 1))


async def test_after_a_reader_has_stopped_the_connection_serves_the_next(database: Database) -> None:
    for _ in range(3):
        async with database.snapshot() as connection:
            await connection.scalar(select(1))
            async with aclosing(stream_rows(connection, counted(MANY))) as rows:
                async for n, _ in rows:
                    if int(n) == 10:
                        break
        async with database.snapshot() as connection:
            assert await connection.scalar(select(1)) == 1


async def test_a_reader_who_is_cancelled_again_and_again_still_leaves_a_connection_that_works(database: Database) -> None:
    """As a server cancels, whose client went away: once more in each turn of the loop."""
    begun = asyncio.Event()

    async def read(connection: AsyncConnection) -> None:
        async with aclosing(stream_rows(connection, counted(MANY))) as rows:
            async for _ in rows:
                begun.set()
                await asyncio.sleep(0)

    async with database.snapshot() as connection:
        await connection.scalar(select(1))
        reading = asyncio.create_task(read(connection))
        await begun.wait()
        while not reading.done():
            reading.cancel()
            await asyncio.sleep(0)
        assert reading.cancelled()
    async with database.snapshot() as connection:
        assert await connection.scalar(select(1)) == 1


async def test_what_the_database_says_is_wrong_is_raised_where_the_rows_are_read(database: Database) -> None:
    with pytest.raises(Exception, match="nowhere"):
        async with database.snapshot() as connection:
            await connection.scalar(select(1))
            _ = [row async for row in stream_rows(connection, select(table("nowhere", column("n")).c.n))]


async def test_a_reader_that_was_stopped_in_the_middle_of_a_question_leaves_a_snapshot_as_usual(database: Database) -> None:
    if database.writer.dialect.name == "sqlite":
        return  # whose driver finishes what was asked
    async with database.snapshot() as connection:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.2):
                await connection.execute(select(func.pg_sleep(30)))
    async with database.snapshot() as connection:
        assert await connection.scalar(select(literal(1))) == 1
