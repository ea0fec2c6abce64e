"""Owns the differences between PostgreSQL and SQLite: engines, locks, bulk writes. No other file asks which it is.

SQLite: one writer, WAL, `synchronous=FULL`, a transaction takes the write lock as it begins. PostgreSQL: one advisory lock
per org, taken first and in sorted order, so that two batches can't wait for each other.
"""

import fcntl
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from typing import Any, NamedTuple

from sqlalchemy import Table, event, func, select, text
from sqlalchemy.engine import URL, make_url
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

MOST_VALUES = 5_000  # in one IN list: both databases take some 32,000 parameters


class Database(NamedTuple):
    """Where the books are kept. `writer` begins transactions that write; `reader` those that only read."""

    writer: AsyncEngine
    reader: AsyncEngine

    @asynccontextmanager
    async def snapshot(self) -> AsyncIterator[AsyncConnection]:
        """A connection whose reads all see one moment."""
        async with self.reader.connect() as connection:
            if is_postgres(connection):
                await connection.execution_options(isolation_level="REPEATABLE READ")
            async with connection.begin():
                yield connection

    async def close(self) -> None:
        """Gives all connections back."""
        await self.writer.dispose()
        if self.reader is not self.writer:
            await self.reader.dispose()


def driver_url(url: str) -> URL:
    """`sqlite:///ledger.db` or `postgresql://…` with the driver that this program uses. Raises ValueError for others."""
    parsed = make_url(url)
    drivers = {"sqlite": "sqlite+aiosqlite", "postgresql": "postgresql+asyncpg", "postgres": "postgresql+asyncpg"}
    name = parsed.drivername.partition("+")[0]
    if name not in drivers:
        raise ValueError(f"{name!r} is neither postgresql:// nor sqlite:///")
    return parsed.set(drivername=drivers[name])


def connect(url: str, read_url: str | None = None) -> Database:
    """Engines for a database; nothing is opened yet."""
    parsed = driver_url(url)
    if parsed.drivername == "postgresql+asyncpg":
        writer = create_async_engine(parsed, pool_size=10, max_overflow=10, pool_pre_ping=True)
        if read_url is None:
            return Database(writer, writer)
        return Database(writer, create_async_engine(driver_url(read_url), pool_size=10, pool_pre_ping=True))
    writer = create_async_engine(parsed, pool_size=1, max_overflow=0, pool_timeout=60)
    reader = create_async_engine(parsed, pool_size=4, max_overflow=4, pool_timeout=60)
    for engine, begin in ((writer, "BEGIN IMMEDIATE"), (reader, "BEGIN")):
        event.listen(engine.sync_engine, "connect", _prepare_sqlite)
        event.listen(engine.sync_engine, "begin", _beginner(begin))
    return Database(writer, reader)


def _prepare_sqlite(connection: Any, _: Any) -> None:
    connection.isolation_level = None  # the driver begins nothing by itself
    cursor = connection.cursor()
    for pragma in (
        "journal_mode=WAL", "synchronous=FULL", "busy_timeout=30000", "foreign_keys=ON", "cache_size=-65536", "wal_autocheckpoint=16384",
    ):  # fmt: skip
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


def _beginner(statement: str) -> Any:
    def begin(connection: Any) -> None:
        connection.exec_driver_sql(statement)

    return begin


def is_postgres(connection: AsyncConnection) -> bool:
    """For tests and `doctor`; code that must differ belongs here instead."""
    return connection.dialect.name == "postgresql"


async def lock_orgs(connection: AsyncConnection, orgs: Iterable[str]) -> None:
    """Until the transaction ends, nobody else books for these orgs."""
    if is_postgres(connection):
        # Sorted by what is locked, not by name: two names could share a hash.
        locks = "SELECT DISTINCT hashtextextended(org, 0) AS lock FROM unnest(CAST(:orgs AS text[])) AS org ORDER BY lock"
        await connection.execute(text(f"SELECT pg_advisory_xact_lock(lock) FROM ({locks}) AS locks"), {"orgs": list(orgs)})


async def claim(connection: AsyncConnection, name: str) -> bool:
    """Takes a named lock until the transaction ends; false if another process has it."""
    if not is_postgres(connection):
        return True  # the transaction itself is the one writer
    return bool(await connection.scalar(select(func.pg_try_advisory_xact_lock(func.hashtextextended(name, 1)))))


@asynccontextmanager
async def hold(database: Database, name: str) -> AsyncIterator[Callable[[], Awaitable[None]] | None]:
    """Takes a named lock for the block, freed by whatever ends this process; None if another process has it.

    Yields a call that raises if the lock was lost since. PostgreSQL: a lock of the connection's session, so not through a
    pooler that lends connections by transaction. SQLite: a lock on a file beside the database.
    """
    if database.writer.dialect.name == "sqlite":
        with _file_lock(database.writer.url.database, name) as taken:
            yield _nothing if taken else None
        return
    async with database.writer.connect() as connection:
        await connection.execution_options(isolation_level="AUTOCOMMIT")
        lock = func.hashtextextended(name, 2)
        if not await connection.scalar(select(func.pg_try_advisory_lock(lock))):
            yield None
            return

        async def held() -> None:
            await connection.execute(text("SELECT 1"))

        try:
            yield held
        finally:
            await connection.invalidate()  # ends the session, and the lock with it, also where the session is in doubt


async def _nothing() -> None:
    """A file's lock is not lost while the file is open."""


@contextmanager
def _file_lock(path: str | None, name: str) -> Iterator[bool]:
    if not path or path == ":memory:":
        yield True
        return
    with open(f"{path}-{name}", "w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield True


async def insert_rows(connection: AsyncConnection, table: Table, rows: Sequence[tuple[Any, ...]]) -> None:
    """Inserts many rows, values in the table's column order, as fast as the driver can. A row that exists is an error."""
    if not rows:
        return
    raw = await connection.get_raw_connection()
    driver: Any = raw.driver_connection
    names = [column.name for column in table.columns]
    if is_postgres(connection):
        await driver.copy_records_to_table(table.name, records=rows, columns=names)
    else:
        marks = ",".join("?" * len(names))
        await driver.executemany(f"INSERT INTO {table.name} VALUES ({marks})", rows)


async def select_known(connection: AsyncConnection, org_id: int, digests: list[bytes]) -> list[tuple[bytes, int]]:
    """(digest, seq) of the identities among these that an org's journal holds."""
    raw = await connection.get_raw_connection()
    driver: Any = raw.driver_connection
    if is_postgres(connection):
        query = "SELECT digest, seq FROM known_ids WHERE org_id = $1 AND digest = ANY($2::bytea[])"
        return [tuple(row) for row in await driver.fetch(query, org_id, digests)]
    marks = ",".join("?" * len(digests))
    return await driver.execute_fetchall(f"SELECT digest, seq FROM known_ids WHERE org_id = ? AND digest IN ({marks})", (org_id, *digests))


async def upsert_rows(connection: AsyncConnection, table: Table, rows: Sequence[tuple[Any, ...]]) -> None:
    """Writes rows, values in the table's column order; a row with the same primary key is replaced."""
    if not rows:
        return
    raw = await connection.get_raw_connection()
    driver: Any = raw.driver_connection
    await driver.executemany(_upsert_sql(table, postgres=is_postgres(connection)), rows)


def _upsert_sql(table: Table, *, postgres: bool) -> str:
    names = [column.name for column in table.columns]
    key = [column.name for column in table.primary_key.columns]
    marks = ",".join(f"${n}" for n in range(1, len(names) + 1)) if postgres else ",".join("?" * len(names))
    news = ",".join(f'"{name}"=excluded."{name}"' for name in names if name not in key)
    columns, conflict = ",".join(f'"{name}"' for name in names), ",".join(f'"{name}"' for name in key)
    then = f"UPDATE SET {news}" if news else "NOTHING"
    return f"INSERT INTO {table.name} ({columns}) VALUES ({marks}) ON CONFLICT ({conflict}) DO {then}"


def chunks(values: Iterable[Any], size: int = MOST_VALUES) -> Iterable[list[Any]]:
    """Values in lists short enough for one IN."""
    whole = list(values)
    return (whole[at : at + size] for at in range(0, len(whole), size))
