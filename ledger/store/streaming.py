"""Owns rows that may be many: handed on as the database makes them, in constant memory, no faster than they are taken.

PostgreSQL shares a query out to several workers only where it is asked for whole, so a cursor, which asks for portions, makes a
report wait twice as long. A COPY is asked for whole and still waits for whoever reads it.
"""

import asyncio
import csv
import io
from collections.abc import AsyncGenerator, Sequence
from contextlib import suppress
from typing import Any

from sqlalchemy import Select, func, select
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from .dialect import is_postgres


def stream_rows(connection: AsyncConnection, query: Select[Any]) -> AsyncGenerator[Sequence[Any], None]:
    """The rows of a query for numbers and texts, as they are or each as text; where there is no value, None or an empty text.

    Of a transaction that has begun. Whoever stops before the last row closes this (`contextlib.aclosing`) before it uses the
    connection again.
    """
    return _copied(connection, query) if is_postgres(connection) else _fetched(connection, query)


async def _fetched(connection: AsyncConnection, query: Select[Any]) -> AsyncGenerator[Sequence[Any], None]:
    async for row in await connection.stream(query.execution_options(yield_per=1000)):
        yield row


async def _copied(connection: AsyncConnection, query: Select[Any]) -> AsyncGenerator[Sequence[Any], None]:
    compiled: Any = query.compile(dialect=connection.dialect, compile_kwargs={"render_postcompile": True})
    values = [compiled.params[name] for name in compiled.positiontup]
    raw = await connection.get_raw_connection()
    driver: Any = raw.driver_connection
    pieces, room, over = asyncio.Queue[bytes | None](), asyncio.Semaphore(), asyncio.Event()

    async def take(piece: bytes) -> None:
        await room.acquire()
        if over.is_set():
            room.release()
        else:
            pieces.put_nowait(piece)

    copying = asyncio.ensure_future(driver.copy_from_query(str(compiled), *values, output=take, format="csv"))
    copying.add_done_callback(lambda _: pieces.put_nowait(None))
    try:
        while (piece := await pieces.get()) is not None:  # whole rows
            for row in csv.reader(io.StringIO(piece.decode(), newline="")):
                yield row
            room.release()
        copying.result()
    finally:
        over.set()
        room.release()
        ending = asyncio.ensure_future(_ended(connection.engine, driver.get_server_pid(), copying))
        while not ending.done():  # until then the connection is busy, however often its user is told to stop
            with suppress(asyncio.CancelledError):
                await asyncio.wait((ending,))


async def _ended(engine: AsyncEngine, process: int, copying: "asyncio.Future[Any]") -> None:
    """Tells the server to stop, from beside: to cancel the driver's own call in the middle leaves it in confusion."""
    if not copying.done():
        async with engine.connect() as connection:
            await connection.execute(select(func.pg_cancel_backend(process)))
    await asyncio.wait((copying,))
    copying.exception()  # that it was stopped is no news
