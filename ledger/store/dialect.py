"""Owns the differences between PostgreSQL and SQLite: engines, locks, bulk writes; `streaming`, long answers. No other asks which it is.

SQLite: one writer, WAL, `synchronous=FULL`, a transaction takes the write lock as it begins. PostgreSQL: one advisory lock
per org, taken first and in sorted order, so that two batches can't wait for each other.
"""

import asyncio
import fcntl
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from functools import lru_cache
from typing import Any, NamedTuple

from sqlalchemy import Select, Table, event, func, select, text
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, DisconnectionError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from .packing import pack_row, pieces

CHANNEL = "ledger_outbox"
LISTEN_CHECK_S = 10.0
FEWEST_SEPARATE = 200  # identities per org from which orgs are asked for one by one: each costs a round trip
FEWEST_STAGED = 200  # rows from which a temporary table is worth its trouble
_PREFER = "SELECT set_config(way, 'off', true) FROM unnest(ARRAY['enable_seqscan','enable_bitmapscan','enable_sort','jit']) AS way"
MOST_VALUES = 5_000  # in one IN list: both databases take some 32,000 parameters


class Database(NamedTuple):
    """Where the books are kept. `writer` begins transactions that write; `reader` those that only read, of a replica if there
    is one; `primary` those that must see every commit. `overlaps`: whether it saves time to read for one batch while another
    is written; SQLite's driver works in this process, in turns."""

    writer: AsyncEngine
    reader: AsyncEngine
    primary: AsyncEngine
    overlaps: bool

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
    try:
        parsed = make_url(url)
    except ArgumentError:
        raise ValueError("is not the URL of a database, such as sqlite:///ledger.db or postgresql://…") from None
    drivers = {"sqlite": "sqlite+aiosqlite", "postgresql": "postgresql+asyncpg", "postgres": "postgresql+asyncpg"}
    name = parsed.drivername.partition("+")[0]
    if name not in drivers:
        raise ValueError(f"{name!r} is neither postgresql:// nor sqlite:///")
    return parsed.set(drivername=drivers[name])


def connect(url: str, read_url: str | None = None) -> Database:
    """Engines for a database; nothing is opened yet. Their errors hold no values, so that logs hold none (S2)."""
    parsed = driver_url(url)
    if parsed.drivername == "postgresql+asyncpg":
        writer = create_async_engine(parsed, pool_size=10, max_overflow=10, hide_parameters=True)
        reader = writer if read_url is None else create_async_engine(driver_url(read_url), pool_size=10, hide_parameters=True)
        for engine in {writer, reader}:
            event.listen(engine.sync_engine, "checkout", _open_only)
        return Database(writer, reader, writer, overlaps=True)
    writer = create_async_engine(parsed, pool_size=1, max_overflow=0, pool_timeout=60, hide_parameters=True)
    reader = create_async_engine(parsed, pool_size=4, max_overflow=4, pool_timeout=60, hide_parameters=True)
    for engine, begin in ((writer, "BEGIN IMMEDIATE"), (reader, "BEGIN")):
        event.listen(engine.sync_engine, "connect", _prepare_sqlite)
        event.listen(engine.sync_engine, "begin", _beginner(begin))
    return Database(writer, reader, reader, overlaps=False)


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


async def lock_orgs(connection: AsyncConnection, orgs: Iterable[str]) -> None:
    """Until the transaction ends, nobody else books for these orgs, and indexes are preferred."""
    if is_postgres(connection):
        # Sorted by what is locked, not by name: two names could share a hash.
        locks = "SELECT DISTINCT hashtextextended(org, 0) AS lock FROM unnest(CAST(:orgs AS text[])) AS org ORDER BY lock"
        query = f"SELECT pg_advisory_xact_lock(lock) FROM ({locks}) AS locks UNION ALL SELECT NULL FROM ({_PREFER}) AS ways"
        await connection.execute(text(query), {"orgs": list(orgs)})


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


async def insert_rows(connection: AsyncConnection, table: Table, rows: Sequence[tuple[Any, ...]]) -> None:
    """Inserts many rows, values in the table's column order, as fast as the driver can. A row that exists is an error."""
    if rows:
        await append_rows(connection, table, rows=rows, packed=map(pack_row, rows))


async def append_rows(connection: AsyncConnection, table: Table, *, rows: Iterable[tuple[Any, ...]], packed: Iterable[bytes]) -> None:
    """Appends many rows, given in both forms of which one is read: values in column order, or packed for a binary COPY."""
    driver: Any = (await connection.get_raw_connection()).driver_connection
    if not is_postgres(connection):
        await driver.executemany(f"INSERT INTO {table.name} VALUES ({','.join('?' * len(table.columns))})", rows)
        return

    async def stream() -> AsyncIterator[bytes]:
        for piece in pieces(packed):
            yield piece

    await driver.copy_to_table(table.name, source=stream(), format="binary")


async def select_known(connection: AsyncConnection, wanted: Mapping[int, Sequence[bytes]]) -> list[tuple[int, bytes, int]]:
    """(org_id, digest, seq) of the identities among these, by org, that the journals hold."""
    driver: Any = (await connection.get_raw_connection()).driver_connection
    found: list[tuple[int, bytes, int]] = []
    if not is_postgres(connection):
        for org_id, digests in wanted.items():
            for part in chunks(digests):
                marks = ",".join("?" * len(part))
                query = f"SELECT org_id, digest, seq FROM known_ids WHERE org_id = ? AND digest IN ({marks})"
                found += await driver.execute_fetchall(query, (org_id, *part))
    elif sum(map(len, wanted.values())) >= FEWEST_SEPARATE * len(wanted):
        asked = "ARRAY(SELECT uuid_send(id) FROM unnest(CAST($2::text AS uuid[])) AS id)"  # an array of bytes costs ten times as much
        query = f"SELECT org_id, digest, seq FROM known_ids WHERE org_id = $1 AND digest = ANY({asked})"
        for org_id, digests in wanted.items():
            found += map(tuple, await driver.fetch(query, org_id, "{" + b"".join(digests).hex(",", 16) + "}"))
    else:
        asked = "unnest($1::bigint[], $2::bytea[]) AS asked (org_id, digest)"
        query = f"SELECT org_id, digest, seq FROM {asked} JOIN known_ids USING (org_id, digest)"
        pairs = [(org_id, digest) for org_id, digests in wanted.items() for digest in digests]
        found += map(tuple, await driver.fetch(query, [org_id for org_id, _ in pairs], [digest for _, digest in pairs]))
    return found


async def select_at(
    connection: AsyncConnection, table: Table, names: Sequence[str], wanted: Mapping[int, Collection[int]]
) -> list[Sequence[Any]]:
    """Some columns of rows by (org_id, seq), given as seqs by org; those that are not there are left out."""
    driver: Any = (await connection.get_raw_connection()).driver_connection
    if is_postgres(connection):
        pairs = [(org_id, seq) for org_id, seqs in wanted.items() for seq in seqs]
        asked = "unnest($1::bigint[], $2::bigint[]) AS asked (org_id, seq)"
        query = f"SELECT {_columns(names)} FROM {asked} JOIN {table.name} USING (org_id, seq)"
        return list(await driver.fetch(query, [org_id for org_id, _ in pairs], [seq for _, seq in pairs])) if pairs else []
    found: list[Sequence[Any]] = []
    for org_id, seqs in wanted.items():
        for part in chunks(seqs):
            query = f"SELECT {_columns(names)} FROM {table.name} WHERE org_id = ? AND seq IN ({','.join('?' * len(part))})"
            found += await driver.execute_fetchall(query, (org_id, *part))
    return found


async def select_after(
    connection: AsyncConnection, table: Table, names: Sequence[str], org_id: int, seq: int, limit: int
) -> Sequence[Sequence[Any]]:
    """Some columns of an org's rows after a seq, in sequence, as fast as the driver can."""
    driver: Any = (await connection.get_raw_connection()).driver_connection
    marks = ("$1", "$2") if is_postgres(connection) else ("?", "?")
    query = f"SELECT {_columns(names)} FROM {table.name} WHERE org_id = {marks[0]} AND seq > {marks[1]} ORDER BY seq LIMIT {limit}"
    return await (driver.fetch(query, org_id, seq) if is_postgres(connection) else driver.execute_fetchall(query, (org_id, seq)))


async def prefer_indexes(connection: AsyncConnection) -> None:
    """Until the transaction ends, look-ups by key use the key's index, whatever the statistics of a young table say."""
    if is_postgres(connection):
        await connection.exec_driver_sql(_PREFER)


async def insert_new(connection: AsyncConnection, table: Table, rows: Sequence[dict[str, Any]]) -> None:
    """Inserts rows, given by column name; one that a unique key knows already is left as it is."""
    insert = postgresql.insert if is_postgres(connection) else sqlite.insert
    await connection.execute(insert(table).on_conflict_do_nothing(), rows)


async def upsert_rows(connection: AsyncConnection, table: Table, rows: Sequence[tuple[Any, ...]]) -> None:
    """Writes rows, values in the table's column order; a row with the same primary key is replaced."""
    if not rows:
        return
    names = [column.name for column in table.columns]
    driver: Any = (await connection.get_raw_connection()).driver_connection
    if is_postgres(connection) and len(rows) >= FEWEST_STAGED:
        staged = await _stage(driver, table, names, rows)
        await driver.execute(f"{_upsert_sql(table, f'SELECT {_columns(names)} FROM {staged}')}; DELETE FROM {staged}")
    else:
        marks = [f"${n}" for n in range(1, len(names) + 1)] if is_postgres(connection) else ["?"] * len(names)
        await driver.executemany(_upsert_sql(table, f"VALUES ({','.join(marks)})"), rows)


async def update_rows(connection: AsyncConnection, table: Table, names: Sequence[str], rows: Sequence[tuple[Any, ...]]) -> None:
    """Updates some columns of rows that exist; the first of `names` is the key."""
    if not rows:
        return
    driver: Any = (await connection.get_raw_connection()).driver_connection
    key = names[0]
    if is_postgres(connection) and len(rows) >= FEWEST_STAGED:
        staged = await _stage(driver, table, names, rows)
        news = ",".join(f'"{name}"=s."{name}"' for name in names[1:])
        await driver.execute(f"UPDATE {table.name} AS t SET {news} FROM {staged} AS s WHERE t.{key} = s.{key}; DELETE FROM {staged}")
    else:
        postgres = is_postgres(connection)
        news = ",".join(f'"{name}"={f"${n}" if postgres else f"?{n}"}' for n, name in enumerate(names[1:], 2))
        await driver.executemany(f"UPDATE {table.name} SET {news} WHERE {key} = {'$1' if postgres else '?1'}", rows)


async def _stage(driver: Any, table: Table, names: Sequence[str], rows: Sequence[tuple[Any, ...]]) -> str:
    """Copies rows to an empty temporary table; its name. Whoever reads it empties it: the transaction may need it again."""
    staged = f"staged_{table.name}_{len(names)}"
    await driver.execute(
        f"CREATE TEMPORARY TABLE IF NOT EXISTS {staged} ON COMMIT DELETE ROWS AS SELECT {_columns(names)} FROM {table.name} WITH NO DATA"
    )
    await driver.copy_records_to_table(staged, records=rows, columns=names)
    return staged


def _columns(names: Iterable[str]) -> str:
    return ",".join(f'"{name}"' for name in names)


def _upsert_sql(table: Table, source: str) -> str:
    names = [column.name for column in table.columns]
    key = [column.name for column in table.primary_key.columns]
    news = ",".join(f'"{name}"=excluded."{name}"' for name in names if name not in key)
    then = f"UPDATE SET {news}" if news else "NOTHING"
    return f"INSERT INTO {table.name} ({_columns(names)}) {source} ON CONFLICT ({_columns(key)}) DO {then}"


async def add_rows(connection: AsyncConnection, table: Table, rows: Select[Any], values: Mapping[str, Any]) -> None:
    """Adds what a query finds with these values, in the table's column order, to the rows that are there: its numbers to theirs."""
    await connection.execute(_adding(is_postgres(connection), table, rows), values)


@lru_cache(maxsize=8)
def _adding(postgres: bool, table: Table, rows: Select[Any]) -> Any:
    query = (postgresql.insert if postgres else sqlite.insert)(table).from_select([column.name for column in table.columns], rows)
    sums = [column.name for column in table.columns if not column.primary_key]
    added = {name: table.c[name] + query.excluded[name] for name in sums}
    return query.on_conflict_do_update(index_elements=list(table.primary_key.columns), set_=added)


def chunks(values: Iterable[Any], size: int = MOST_VALUES) -> Iterable[list[Any]]:
    """Values in lists short enough for one IN."""
    whole = list(values)
    return (whole[at : at + size] for at in range(0, len(whole), size))
