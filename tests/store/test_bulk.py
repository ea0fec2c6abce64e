"""Many rows at a time, past SQLAlchemy, are still of the transaction that they are written in."""

import pytest
from sqlalchemy import func, select

from ledger.store.bulk import FEWEST_SEPARATE, FEWEST_STAGED, insert_rows, select_at, select_known, update_rows, upsert_rows
from ledger.store.dialect import Database
from ledger.store.tables import commands, days, journal, known_ids, rolled


def rows(count: int, spent: int) -> list[tuple[object, ...]]:
    return [(7, f"key:{n:05d}", 20_000, spent, 0, 0, 1, 0, 0) for n in range(count)]


async def total(database: Database) -> tuple[int, int]:
    async with database.reader.connect() as connection:
        count, spent = (await connection.execute(select(func.count(), func.coalesce(func.sum(days.c.spent), 0)).select_from(days))).one()
    return count, int(spent)


@pytest.mark.parametrize("count", [1, FEWEST_STAGED + 1])
async def test_rows_written_first_in_a_transaction_are_undone_with_it(database: Database, count: int) -> None:
    """J5: nothing is committed by itself."""
    for write in (insert_rows, upsert_rows):
        async with database.writer.connect() as connection, connection.begin() as transaction:
            await write(connection, days, rows(count, 3))
            await transaction.rollback()
        assert await total(database) == (0, 0)


@pytest.mark.parametrize("count", [1, FEWEST_STAGED + 1])
async def test_rows_written_first_in_a_transaction_are_there_after_it(database: Database, count: int) -> None:
    for spent in (3, 4):
        async with database.writer.begin() as connection:
            await upsert_rows(connection, days, rows(count, spent))
        assert await total(database) == (count, spent * count)


async def test_rows_staged_twice_in_a_transaction_are_each_written_once(database: Database) -> None:
    """What the first call staged is gone when the second reads its own."""
    first, second = rows(2 * FEWEST_STAGED, 3), rows(FEWEST_STAGED, 5)
    heads = [(n, 1) for n in range(2 * FEWEST_STAGED)]
    async with database.writer.begin() as connection:
        for part in (first, second):
            await upsert_rows(connection, days, part)
        await insert_rows(connection, rolled, heads)
        for seq, part in ((2, heads), (3, heads[:FEWEST_STAGED])):
            await update_rows(connection, rolled, ["org_id", "seq"], [(org_id, seq) for org_id, _ in part])
        assert await connection.scalar(select(func.sum(rolled.c.seq))) == 5 * FEWEST_STAGED
    assert await total(database) == (2 * FEWEST_STAGED, 8 * FEWEST_STAGED)


@pytest.mark.parametrize("count", [1, FEWEST_STAGED + 1])
async def test_a_row_is_updated_by_all_of_its_key_but_what_is_final_stays(database: Database, count: int) -> None:
    """Another revision of the same command is another row; a superseded one stays so whatever else is told of it (K3)."""
    place = ("org_id", "credential", "connection", "revision")
    width = len(commands.columns)

    def command(n: int, revision: int, delivery: str) -> tuple[object, ...]:
        return (7, "k", f"c{n}", "way", revision, "paused", "", delivery, 0, 1, 1, *[None] * (width - 11))

    made = [command(n, revision, ("superseded", "pending")[n % 2]) for n in range(count) for revision in (1, 2)]
    told = [(7, f"c{n}", "way", 1, "confirmed", None if n % 3 else "why") for n in range(count)]
    async with database.writer.begin() as connection:
        await insert_rows(connection, commands, made)
        await update_rows(connection, commands, (*place, "delivery", "error"), told, keys=4, final={"delivery": "superseded"})
        c = commands.c
        found = await connection.execute(select(c.credential, c.revision, c.delivery, c.error))
    for credential, revision, delivery, error in found:
        n = int(credential[1:])
        before = ("superseded", "pending")[n % 2]
        became = "confirmed" if revision == 1 and before == "pending" else before
        assert (delivery, error) == (became, "why" if revision == 1 and n % 3 == 0 else None)


async def test_rows_of_several_orgs_are_found_by_their_place(database: Database) -> None:
    """Journal rows that are not there are left out, and nobody else's are found."""
    names = ["org_id", "seq", "kind"]
    width = len(journal.columns)
    async with database.writer.begin() as connection:
        made = [(org_id, seq, "KeyHeld", 1, *[None] * (width - 4)) for org_id in (1, 2) for seq in (1, 2, 3)]
        await insert_rows(connection, journal, made)
        found = await select_at(connection, journal, names, {1: [1, 3, 9], 2: [2], 3: [1], 4: []})
        assert sorted(tuple(row) for row in found) == [(1, 1, "KeyHeld"), (1, 3, "KeyHeld"), (2, 2, "KeyHeld")]
        assert await select_at(connection, journal, names, {}) == []


async def test_rows_come_back_as_they_were_given_whatever_each_leaves_out(database: Database) -> None:
    """A column may be without a value in all rows, in some, or in none; flags are flags and texts are texts."""
    at = {column.name: n for n, column in enumerate(journal.columns)}
    said = [{"day": 1, "key": "k", "byok": True, "cost": 0}, {"key": "", "byok": None}, {"day": 2, "byok": False, "model": "m"}]
    made = [[7, seq, "UsageRecorded", 1, *[None] * (len(at) - 4)] for seq in range(500)]
    for row, values in zip(made, said * 166, strict=False):
        for name, value in values.items():
            row[at[name]] = value
    async with database.writer.begin() as connection:
        await insert_rows(connection, journal, [tuple(row) for row in made])
        found = await connection.execute(select(journal).order_by(journal.c.seq))
        assert [tuple(row) for row in found] == [tuple(row) for row in made]


@pytest.mark.parametrize("count", [1, FEWEST_SEPARATE + 1])
async def test_identities_are_found_by_org_and_digest(database: Database, count: int) -> None:
    """J2: the same digest of another org is another one; those that nobody has are left out."""
    digests = [n.to_bytes(16, "big") for n in range(2 * count)]
    async with database.writer.begin() as connection:
        await insert_rows(connection, known_ids, [(org_id, digest, 10 * org_id) for org_id in (1, 2) for digest in digests[:count]])
        found = await select_known(connection, {1: digests, 3: digests})
    assert sorted(found) == [(1, digest, 10) for digest in digests[:count]]
