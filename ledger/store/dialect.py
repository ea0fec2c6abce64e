"""Owns the differences between PostgreSQL and SQLite: engines, locks, news; `bulk`, many rows at a time; `streaming`, long
answers. No other asks which it is.

SQLite: one writer, WAL, `synchronous=FULL`, a transaction takes the write lock as it begins. PostgreSQL: one advisory lock
per org, taken first and in sorted order, so that two batches can't wait for each other.
"""

import asyncio
import fcntl
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any, NamedTuple

import asyncpg
from sqlalchemy import event, func, select, text
from sqlalchemy.engine import make_url
from sqlalchemy.exc import DisconnectionError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

CHANNEL = "ledger_outbox"
LISTEN_CHECK_S = 10.0
_PREFER = "SELECT set_config(way, 'off', true) FROM unnest(ARRAY['enable_seqscan','enable_bitmapscan','enable_sort','jit']) AS way"
# Sorted by what is locked, not by name: two names could share a hash.
_LOCKS = "SELECT DISTINCT hashtextextended(org, 0) AS lock FROM unnest(CAST(:orgs AS text[])) AS org ORDER BY lock"
_LOCK = text(f"SELECT pg_advisory_xact_lock(lock) FROM ({_LOCKS}) AS locks UNION ALL SELECT NULL FROM ({_PREFER}) AS ways")


class Database(NamedTuple):
    """Where the books are kept. `writer` begins transactions that write; `reader` those that only read, and see every commit;
    `replica` may lag behind. `overlaps`: whether it saves time to read for one batch while another is written; SQLite's driver
    works in this process, in turns."""

    writer: AsyncEngine
    reader: AsyncEngine
    replica: AsyncEngine
    overlaps: bool

    @property
    def reporting(self) -> "Database":
        """Reads the replica if there is one: for people's questions whose answers say which seq they are true for, and for
        nothing that is acted on."""
        return self._replace(reader=self.replica)

    @asynccontextmanager
    async def snapshot(self) -> AsyncIterator[AsyncConnection]:
        """A connection whose reads all see one moment. Whoever is told to stop in the middle of one may leave the block as usual:
        nothing is committed, which a connection that was lost then could not do."""
        async with self.reader.connect() as connection:
            if is_postgres(connection):
                await connection.execution_options(isolation_level="REPEATABLE READ")
            transaction = await connection.begin()
            try:
                yield connection
            finally:
                await transaction.rollback()

    @asynccontextmanager
    async def glance(self) -> AsyncIterator[AsyncConnection]:
        """A connection for one statement that reads: it sees one moment by itself, and nothing is begun and ended around it where
        each of these would be a message of its own."""
        async with self.reader.connect() as connection:
            if is_postgres(connection):
                await connection.execution_options(isolation_level="AUTOCOMMIT")
            yield connection

    def missing(self) -> str | None:
        """The SQLite file that is not there: to look into it would make it."""
        path = self.reader.url.database
        return None if path is None or os.path.exists(path) else path

    async def close(self) -> None:
        """Gives all connections back."""
        for engine in {self.writer, self.reader, self.replica}:
            await engine.dispose()


def _engine(url: str, **pool: int) -> AsyncEngine:
    """A URL of PostgreSQL's goes to its driver as it is, which knows what libpq knows of them: `sslmode`, several hosts, a socket's
    directory, a `.pgpass`."""
    server = "postgresql:" + url.partition(":")[2]

    async def opened() -> asyncpg.Connection:
        try:
            return await asyncpg.connect(server)
        except asyncpg.InterfaceError:
            raise
        except ValueError:  # its words would show what may be half of a password
            raise OSError("the URL's port is not a number; in a password, : / @ # are written %3A %2F %40 %23") from None

    engine = create_async_engine("postgresql+asyncpg://", async_creator=opened, hide_parameters=True, **pool)
    event.listen(engine.sync_engine, "checkout", _open_only)
    return engine


def _kind(url: str) -> str:
    """`postgresql` or `sqlite`. Raises ValueError for others."""
    scheme, found, _ = url.partition("://")
    if not found:
        raise ValueError("is not the URL of a database, such as sqlite:///ledger.db or postgresql://…")
    name = scheme.partition("+")[0]  # SQLAlchemy's users name a driver behind it
    if name not in ("postgresql", "postgres", "sqlite"):
        raise ValueError(f"{scheme!r} is neither postgresql:// nor sqlite:///")
    return "sqlite" if name == "sqlite" else "postgresql"


def connect(url: str, read_url: str | None = None) -> Database:
    """Engines for a database; nothing is opened yet. Their errors hold no values, so that logs hold none (S2). Raises ValueError
    for a URL that is none, or of a file that can't be one."""
    if _kind(url) == "postgresql":
        writer = _engine(url, pool_size=10, max_overflow=10)
        return Database(writer, writer, writer if read_url is None else _engine(read_url, pool_size=10), overlaps=True)
    parsed = make_url(url).set(drivername="sqlite+aiosqlite")
    if parsed.host or not parsed.database or parsed.database == ":memory:":
        raise ValueError("names no file, as sqlite:///ledger.db does, or from the root sqlite:////var/lib/ledger.db")
    _check_place(parsed.database)
    writer = create_async_engine(parsed, pool_size=1, max_overflow=0, pool_timeout=60, hide_parameters=True)
    reader = create_async_engine(parsed, pool_size=4, max_overflow=4, pool_timeout=60, hide_parameters=True)
    for engine, begin in ((writer, "BEGIN IMMEDIATE"), (reader, "BEGIN")):
        event.listen(engine.sync_engine, "connect", _prepare_sqlite)
        event.listen(engine.sync_engine, "begin", _beginner(begin))
    return Database(writer, reader, reader, overlaps=False)


def _check_place(path: str) -> None:
    """Said here, since the driver's thread, where it can't open a file, writes of itself over what a person should read."""
    folder = os.path.dirname(os.path.abspath(path))
    if not os.path.isdir(folder):
        raise ValueError(f"there is no directory {folder}")
    if os.path.isdir(path):
        raise ValueError(f"{path} is a directory")
    if not os.access(folder, os.W_OK | os.X_OK) or (os.path.exists(path) and not os.access(path, os.R_OK | os.W_OK)):
        raise ValueError(f"this user may not write {path} and beside it")


def _open_only(connection: Any, *_: Any) -> None:
    """A connection that the server has closed is replaced before it is used: the driver has seen the end of the stream."""
    if connection.driver_connection.is_closed():
        raise DisconnectionError


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


async def encoding(connection: AsyncConnection) -> str:
    """How the database keeps text, by PostgreSQL's names."""
    return str(await connection.scalar(text("SHOW server_encoding"))) if is_postgres(connection) else "UTF8"


async def lock_orgs(connection: AsyncConnection, orgs: Iterable[str]) -> None:
    """Until the transaction ends, nobody else books for these orgs, and indexes are preferred."""
    if is_postgres(connection):
        await connection.execute(_LOCK, {"orgs": list(orgs)})


async def prefer_indexes(connection: AsyncConnection) -> None:
    """Until the transaction ends, look-ups by key use the key's index, whatever the statistics of a young table say."""
    if is_postgres(connection):
        await connection.exec_driver_sql(_PREFER)


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
    with open(f"{path}-{name}", "w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield True


async def announce(connection: AsyncConnection) -> None:
    """Wakes whoever listens, when the transaction commits."""
    if is_postgres(connection):
        await connection.execute(select(func.pg_notify(CHANNEL, "")))


async def listen(database: Database, wake: asyncio.Event) -> None:
    """Sets `wake` whenever anybody announces, until cancelled; returns at once where the database can't tell.

    A connection that is lost raises what the driver raises: whoever listens polls too.
    """
    async with database.writer.connect() as connection:
        if not is_postgres(connection):
            return
        await connection.execution_options(isolation_level="AUTOCOMMIT")
        driver: Any = (await connection.get_raw_connection()).driver_connection
        await driver.add_listener(CHANNEL, lambda *_: wake.set())
        while True:
            await asyncio.sleep(LISTEN_CHECK_S)
            await connection.execute(text("SELECT 1"))
