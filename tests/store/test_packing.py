"""Rows packed for COPY are the rows that the plain way writes, field for field."""

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace
from sqlalchemy import select

from ledger.core.commands import Usage
from ledger.core.entries import KeyRegistered, UsageRecorded
from ledger.store.dialect import Database
from ledger.store.journal import append, row_of
from ledger.store.tables import journal
from tests.store.events import NOW_US, usage

words = st.none() | st.text(st.characters(blacklist_categories=["Cs"], blacklist_characters="\0"), max_size=20)
numbers = st.integers(0, 2**53)
money = st.none() | st.integers(0, 10**15)
Made = tuple[Usage, int | None, int | None, int | None]
calls = st.builds(
    Usage, org=st.just("acme"), key=st.sampled_from(["k", "alias"]), workspace=words, model=words, provider=words, input_tokens=numbers,
    output_tokens=numbers, cached_input_tokens=numbers, images=numbers, byok=st.booleans(), batch=st.booleans(), member=words,
    end_user=words, preset=words, preset_version=st.none() | st.integers(0, 2**31), session=words,
    tags=st.none() | st.dictionaries(st.text("abc", min_size=1), st.text("äöü")), hold=words, response_id=words,
    started_us=st.none() | st.integers(-(2**40), 2**50),
)  # fmt: skip


@given(st.lists(st.tuples(calls, money, money, st.none() | st.integers(0, 9)), min_size=1, max_size=4))
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
async def test_a_packed_row_is_the_row_that_is_read_back(database: Database, made: list[Made]) -> None:
    entries: list[UsageRecorded | KeyRegistered] = [KeyRegistered(seq=1, recorded_us=NOW_US, key="k", workspace="wörk", by=None)]
    for seq, (call, cost, upstream, card) in enumerate(made, 2):
        text = None if cost is None else str(cost)
        command = replace(
            usage(f"e{seq}", 1), usage=call, cost=cost, cost_text=text, upstream=upstream, upstream_text=None, computed=card, card=card
        )  # fmt: skip
        entries.append(UsageRecorded(seq, NOW_US, 20_000, NOW_US if seq % 2 else None, "k", "w", command))
    async with database.writer.connect() as connection, connection.begin() as transaction:
        await append(connection, [(7, entries)])
        rows = (await connection.execute(select(journal).order_by(journal.c.seq))).all()
        await transaction.rollback()
    assert [tuple(row) for row in rows] == [row_of(7, entry) for entry in entries]
