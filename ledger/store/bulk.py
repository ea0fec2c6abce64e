"""Owns many rows at a time: how each database's driver reads and writes them fastest. Which database it is, `dialect` says."""

from collections.abc import AsyncIterator, Callable, Collection, Iterable, Mapping, Sequence
from functools import lru_cache
from itertools import chain
from typing import Any

from sqlalchemy import Boolean, LargeBinary, Select, Table, text
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.asyncio import AsyncConnection

from .dialect import is_postgres
from .packing import pack_row, pieces

FEWEST_SEPARATE = 200  # identities per org from which orgs are asked for one by one: each costs a round trip
FEWEST_STAGED = 200  # rows from which a temporary table is worth its trouble
_NOTHING = text("SELECT 1")
MOST_ROWS = 200  # in one statement of SQLite's
_FIT: Mapping[type, Callable[[Any], Any]] = {LargeBinary: bytearray, Boolean: int}  # what SQLite's driver binds at once
MOST_VALUES = 5_000  # in one IN list: both databases take some 32,000 parameters


async def _driver(connection: AsyncConnection) -> Any:
    """The driver's own connection. SQLAlchemy begins a transaction with the first statement that goes through it: where there
    was none yet, what goes past it would be committed by itself."""
    driver: Any = (await connection.get_raw_connection()).driver_connection
    if is_postgres(connection) and not driver.is_in_transaction():
        await connection.execute(_NOTHING)
    return driver


async def insert_rows(connection: AsyncConnection, table: Table, rows: Sequence[tuple[Any, ...]]) -> None:
    """Inserts many rows, values in the table's column order, as fast as the driver can. A row that exists is an error."""
    if rows:
        await append_rows(connection, table, rows=rows, packed=map(pack_row, rows))


async def append_rows(
    connection: AsyncConnection, table: Table, names: Sequence[str] | None = None, *,
    rows: Iterable[tuple[Any, ...]], packed: Iterable[bytes],
) -> None:  # fmt: skip
    """Appends many rows, given in both forms of which one is read: values in column order, or packed for a binary COPY, with the
    fields in the order of `names` where that is another."""
    driver = await _driver(connection)
    if not is_postgres(connection):
        for part in chunks(rows, MOST_ROWS):
            told = _told(table, part)
            await _put(driver, f"INSERT INTO {table.name} ({_columns(told)}) {{}}", [*zip(*told.values(), strict=True)])
        return

    async def stream() -> AsyncIterator[bytes]:
        for piece in pieces(packed):
            yield piece

    await driver.copy_to_table(table.name, columns=names, source=stream(), format="binary")


async def select_known(connection: AsyncConnection, wanted: Mapping[int, Sequence[bytes]]) -> list[tuple[int, bytes, int]]:
    """(org_id, digest, seq) of the identities among these, by org, that the journals hold."""
    driver = await _driver(connection)
    found: list[tuple[int, bytes, int]] = []
    if not is_postgres(connection):
        for org_id, digests in wanted.items():
            for part in chunks(digests):
                marks = ",".join("?" * len(part))
                query = f"SELECT org_id, digest, seq FROM known_ids WHERE org_id = ? AND digest IN ({marks})"
                found += await driver.execute_fetchall(query, (org_id, *part))
    elif sum(map(len, wanted.values())) >= FEWEST_SEPARATE * len(wanted):
        # One text of all: an array of bytes costs ten times as much. LIMIT holds the planner to one look-up by the whole key for
        # each: of an org that its statistics have not met, it would read all rows and hold each against all that are asked for.
        asked = "(SELECT uuid_send(id) AS digest FROM unnest(CAST($2::text AS uuid[])) AS id) AS asked"
        one = "SELECT k.seq FROM known_ids AS k WHERE k.org_id = $1 AND k.digest = asked.digest LIMIT 1"
        query = f"SELECT $1::bigint, asked.digest, found.seq FROM {asked} CROSS JOIN LATERAL ({one}) AS found"
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
    driver = await _driver(connection)
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
    driver = await _driver(connection)
    marks = ("$1", "$2") if is_postgres(connection) else ("?", "?")
    query = f"SELECT {_columns(names)} FROM {table.name} WHERE org_id = {marks[0]} AND seq > {marks[1]} ORDER BY seq LIMIT {limit}"
    return await (driver.fetch(query, org_id, seq) if is_postgres(connection) else driver.execute_fetchall(query, (org_id, seq)))


async def insert_new(connection: AsyncConnection, table: Table, rows: Sequence[dict[str, Any]]) -> None:
    """Inserts rows, given by column name; one that a unique key knows already is left as it is."""
    insert = postgresql.insert if is_postgres(connection) else sqlite.insert
    await connection.execute(insert(table).on_conflict_do_nothing(), rows)


async def upsert_rows(connection: AsyncConnection, table: Table, rows: Sequence[tuple[Any, ...]]) -> None:
    """Writes rows, values in the table's column order; a row with the same primary key is replaced."""
    if not rows:
        return
    names = [column.name for column in table.columns]
    driver = await _driver(connection)
    if is_postgres(connection) and len(rows) >= FEWEST_STAGED:
        staged = await _stage(driver, table, names, rows)
        await driver.execute(f"{_upsert_sql(table, f'SELECT {_columns(names)} FROM {staged}')}; DELETE FROM {staged}")
    elif is_postgres(connection):
        marks = ",".join(f"${n}" for n in range(1, len(names) + 1))
        await driver.executemany(_upsert_sql(table, f"VALUES ({marks})"), rows)
    else:
        await _put(driver, _upsert_sql(table, "{}"), rows)


async def update_rows(
    connection: AsyncConnection, table: Table, names: Sequence[str], rows: Sequence[tuple[Any, ...]], *,
    keys: int = 1, final: Mapping[str, str] | None = None,
) -> None:  # fmt: skip
    """Updates some columns of rows that exist; the first of `names`, so many as `keys`, tell which. `final`: by column, a text that
    stays where it stands, since others write such rows too; they are locked in the order in which they are given, as those do."""
    if not rows:
        return
    driver, lasting = await _driver(connection), final or {}

    def same(value: str) -> str:
        return " AND ".join(f't."{name}"={value.format(n=n, name=name)}' for n, name in enumerate(names[:keys], 1))

    def query(value: str, source: str = "") -> str:
        put = {name: value.format(n=n, name=name) for n, name in enumerate(names, 1)}
        stays = {name: f"CASE t.{name} WHEN '{text}' THEN t.{name} ELSE {put[name]} END" for name, text in lasting.items()}
        news = ",".join(f'"{name}"={stays.get(name, put[name])}' for name in names[keys:])
        return f"UPDATE {table.name} AS t SET {news} {source} WHERE {same(value)}"

    if is_postgres(connection) and len(rows) >= FEWEST_STAGED:
        staged, theirs = await _stage(driver, table, names, rows), 's."{name}"'
        lock = f"SELECT FROM {staged} AS s JOIN {table.name} AS t ON {same(theirs)} ORDER BY s.ctid FOR UPDATE OF t; " if lasting else ""
        await driver.execute(f"{lock}{query(theirs, f'FROM {staged} AS s')}; DELETE FROM {staged}")
    elif is_postgres(connection):
        await driver.executemany(query("${n}"), rows)
    else:
        await _put(driver, query("s.column{n}", "FROM ({}) AS s"), rows)


async def _put(driver: Any, query: str, rows: Iterable[tuple[Any, ...]]) -> None:
    """Runs SQLite's statement, `{}` in it being many rows. Its driver takes turns with the rest of the process at every step of a
    statement: row by row, a process that has other work would wait for its turn as many times."""
    for part in chunks(rows, MOST_ROWS):
        row = f"({','.join('?' * len(part[0]))})"
        async with driver.execute(query.format(f"VALUES {','.join([row] * len(part))}"), [*chain.from_iterable(part)]):
            pass


async def _stage(driver: Any, table: Table, names: Sequence[str], rows: Sequence[tuple[Any, ...]]) -> str:
    """Copies rows to an empty temporary table; its name. Whoever reads it empties it: the transaction may need it again."""
    staged = f"staged_{table.name}_{len(names)}"
    await driver.execute(
        f"CREATE TEMPORARY TABLE IF NOT EXISTS {staged} ON COMMIT DELETE ROWS AS SELECT {_columns(names)} FROM {table.name} WITH NO DATA"
    )
    await driver.copy_records_to_table(staged, records=rows, columns=names)
    return staged


def _told(table: Table, rows: Sequence[tuple[Any, ...]]) -> dict[str, Sequence[Any]]:
    """Values by column, but for columns in which no row has any. SQLite's driver binds a number, a text and a bytearray at once;
    for a None, a flag or bytes it looks for somebody who adapts them first, as long as all the rest of a row takes."""
    told: dict[str, Sequence[Any]] = {}
    for column, values in zip(table.columns, zip(*rows, strict=True), strict=True):
        if values[0] is None and values.count(None) == len(values):
            continue
        if fit := _FIT.get(type(column.type)):
            values = [value if value is None else fit(value) for value in values]
        told[column.name] = values
    return told


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
