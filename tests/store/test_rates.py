"""The card in the database: versions, lists that change, and waiting entries priced in their own windows (M4, J3)."""

from decimal import Decimal

from ledger.core.caps import Action, Rule
from ledger.core.commands import RecordUsage, SetCap, Status, Usage
from ledger.core.money import USD, Nanos
from ledger.core.rates import Card, Origin, Prices, Rate, Schedule
from ledger.core.window import Period
from ledger.metrics import Metrics
from ledger.pricing import Pricer, price_waiting
from ledger.service import Service
from ledger.store import balances, journal, rates, reports
from ledger.store.dialect import Database
from ledger.store.replay import verify
from ledger.wire.identity import identity
from tests.store.events import NOW_US

DAY = 86_400_000_000


def rate(price: str, model: str = "m", **said: object) -> Rate:
    values = {"provider": None, "model": model, "origin": Origin.LITELLM, "standard": Schedule(Prices(input=Decimal(price)))}
    return Rate(**(values | said))  # type: ignore[arg-type]


async def take_in(database: Database, wanted: list[Rate], origin: Origin = Origin.LITELLM, now_us: int = NOW_US) -> int:
    async with database.writer.begin() as connection:
        found = await rates.changes(connection, wanted, origin, now_us)
        return await rates.put(connection, found, origin, "will", now_us)


async def the_card(database: Database) -> Card:
    async with database.snapshot() as connection:
        return await rates.card(connection)


def call(event_id: str, model: str = "m", tokens: int = 1_000_000, at_us: int = NOW_US, cost: int | None = None) -> RecordUsage:
    return RecordUsage(
        source="gateway", event_id=event_id, digest=identity("acme", "gateway", event_id), time_us=at_us, upstream=None, upstream_text=None,
        cost=None if cost is None else Nanos(cost), cost_text=None if cost is None else "as sent",
        usage=Usage(org="acme", key="k", model=model, input_tokens=tokens),
    )  # fmt: skip


async def test_a_list_is_a_version_and_the_same_list_again_is_none(database: Database) -> None:
    assert await take_in(database, [rate("1e-6"), rate("2e-6", "n")]) == 1
    assert await take_in(database, [rate("1e-6"), rate("2e-6", "n")]) == 1
    assert await take_in(database, [rate("1e-6")]) == 1, "a model that a list does not name keeps its rate"
    assert (await the_card(database)).price(Usage(model="n", input_tokens=1), NOW_US) == 2_000


async def test_a_changed_price_holds_from_the_change_on_and_the_version_before_can_be_read_as_it_stood(database: Database) -> None:
    await take_in(database, [rate("1e-6")], now_us=NOW_US)
    assert await take_in(database, [rate("3e-6")], now_us=NOW_US + DAY) == 2
    card = await the_card(database)
    at = [card.price(Usage(model="m", input_tokens=1), us) for us in (NOW_US, NOW_US + DAY - 1, NOW_US + DAY)]
    assert at == [1_000, 1_000, 3_000]
    assert await take_in(database, [rate("3e-6")], now_us=NOW_US + 2 * DAY) == 2
    async with database.snapshot() as connection:
        assert [found.standard for found in await rates.listed(connection, version=1)] == [rate("1e-6").standard]
        assert len(await rates.listed(connection)) == 2


async def test_a_dated_price_that_a_list_corrects_stands_in_the_place_of_the_old_one(database: Database) -> None:
    dated = {"starts_us": NOW_US - DAY}
    await take_in(database, [rate("1e-6"), rate("2e-6", **dated)])
    assert await take_in(database, [rate("1e-6"), rate("5e-6", **dated)], now_us=NOW_US + DAY) == 2
    card = await the_card(database)
    assert [card.price(Usage(model="m", input_tokens=1), us) for us in (0, NOW_US)] == [1_000, 5_000]
    async with database.snapshot() as connection:
        assert len(await rates.listed(connection, version=1)) == len(await rates.listed(connection)) == 2


async def test_a_price_of_the_future_waits_for_its_day(database: Database) -> None:
    await take_in(database, [rate("9e-6", starts_us=NOW_US + DAY)], Origin.OPERATOR)
    card = await the_card(database)
    assert [card.price(Usage(model="m", input_tokens=1), us) for us in (NOW_US, NOW_US + DAY)] == [None, 9_000]
    await take_in(database, [rate("1e-6")], Origin.OPERATOR)
    card = await the_card(database)
    priced = [card.price(Usage(model="m", input_tokens=1), us) for us in (NOW_US - DAY, NOW_US, NOW_US + DAY)]
    assert priced == [1_000, 1_000, 9_000], "what waits since yesterday is priced too: no other price was in force"


async def test_what_waits_is_priced_in_its_own_window_and_caps_see_it(database: Database) -> None:
    service = Service(database, Metrics(), lambda: NOW_US)
    cap = SetCap(org="acme", by="will", cap="day", scope="key:k", rule=Rule(period=Period.DAY, limit=Nanos(4 * USD), action=Action.PAUSE))
    await service.record([cap, call("e1"), call("late", at_us=NOW_US - 40 * DAY), call("free", cost=0), call("strange", model="other")])
    async with database.snapshot() as connection:
        head = await reports.head(connection, "acme")
        assert head is not None
        (balance,) = await balances.standing(connection, head, ["key:k"], [Period.DAY], NOW_US)
        assert (balance["spent_usd"], balance["unpriced"]) == ("0", 2)
    await take_in(database, [rate("5e-6")], Origin.OPERATOR, NOW_US - 10_000_000)
    pricer = Pricer(service)
    assert (await pricer.once(), await pricer.once()) == (2, 0)
    assert await price_waiting(service, await the_card(database)) == 0, "each is priced once"
    async with database.snapshot() as connection:
        (balance,) = await balances.standing(connection, head, ["key:k"], [Period.DAY], NOW_US)
        assert (balance["spent_usd"], balance["unpriced"], balance["requests"]) == ("5.00", 1, 3)
        (old,) = await balances.standing(connection, head, ["key:k"], [Period.DAY], NOW_US - 40 * DAY)
        assert (old["spent_usd"], old["unpriced"]) == ("5.00", 0)
        (breach,) = await reports.breaches(connection, head, limit=9, open_only=True)
        assert (breach["cap"], breach["spent_usd"]) == ("day", "5.00")
        assert await verify(connection, head.org_id, "acme", lambda _: None) is None


async def test_a_computed_price_is_booked_journaled_with_its_version_and_read_back_the_same(database: Database) -> None:
    await take_in(database, [rate("1e-6")])
    service = Service(database, Metrics(), lambda: NOW_US)
    results = await service.record([call("e1"), call("e2", cost=3 * USD), call("e3", model="other")])
    assert [result.status for result in results] == [Status.RECORDED] * 3
    async with database.snapshot() as connection:
        head = await reports.head(connection, "acme")
        assert head is not None
        found = await journal.entries_at(connection, head.org_id, "acme", range(1, head.seq + 1))
        entries = [found[seq] for seq in sorted(found)]
        commands = [entry.command for entry in entries if type(entry).__name__ == "UsageRecorded"]  # type: ignore[union-attr]
        said = [(c.cost, c.computed, c.card, c.booked) for c in commands]
        assert said == [(None, USD, 1, USD), (3 * USD, USD, 1, 3 * USD), (None, None, None, None)]
        (balance,) = await balances.standing(connection, head, ["org"], [Period.DAY], NOW_US)
        assert (balance["spent_usd"], balance["unpriced"]) == ("4.00", 1)
        assert await verify(connection, head.org_id, "acme", lambda _: None) is None
        (apart,) = await rates.drift(connection, head.org_id, 0, 5)
        assert (apart["model"], apart["calls"], apart["drifted"], apart["reported"], apart["computed"]) == ("m", 1, 1, 3 * USD, USD)


async def test_a_repeat_compares_what_was_sent_though_the_card_has_changed(database: Database) -> None:
    service = Service(database, Metrics(), lambda: NOW_US)
    await take_in(database, [rate("1e-6")])
    await service.record([call("e1")])
    await take_in(database, [rate("7e-6")], now_us=NOW_US - DAY)
    fresh = Service(database, Metrics(), lambda: NOW_US)
    results = await fresh.record([call("e1"), call("e1", cost=USD)])
    assert [result.status for result in results] == [Status.DUPLICATE, Status.EXISTS_WITH_DIFFERENT_CONTENT]


async def test_a_process_sees_a_card_that_another_one_changed(database: Database) -> None:
    service = Service(database, Metrics(), lambda: NOW_US)
    assert (await service.card()).version == 0
    await take_in(database, [rate("1e-6")])
    service._card_until = 0.0
    assert (await service.card()).version == 1
