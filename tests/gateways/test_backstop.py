"""A cap's backstop (K7) becomes the key's own limit at its gateway, is repaired there, and leaves what is ours to resume as it was."""

from pathlib import Path

import pytest

from ledger.core.caps import Action, Rule
from ledger.core.commands import SetCap
from ledger.core.keys import State
from ledger.core.money import USD, Nanos
from ledger.core.window import Period
from ledger.gateways.outward import open_gateway
from ledger.keycheck import BACKSTOP, Finding, check_org
from tests.gateways.test_outward import Theatre, each, hashed, sqlite_file, stage
from tests.servers.openrouter import OpenRouterApi
from tests.servers.vendor import Fault
from tests.servers.webhook import Receiver

__all__ = ["sqlite_file", "stage"]


async def check(stage: Theatre, *, repair: bool = True) -> list[Finding]:
    async with stage.service.database.reader.connect() as connection:
        head = await stage.head(connection)
    return await check_org(stage.service, head, lambda way: open_gateway(way, stage.environ), repair=repair)


async def cap(stage: Theatre, period: Period, dollars: int, percent: int | None = 120) -> None:
    rule = Rule(period=period, limit=Nanos(dollars * USD), action=Action.ALERT, backstop_percent=percent)
    await stage.order(SetCap(org="acme", by="will", cap=period, scope="key:k", rule=rule))


def kept(stage: Theatre) -> tuple[object, object]:
    """The limit and its window, in the vendor's own words."""
    key = stage.api.keys[stage.credential]
    return (key["limit"], key["limit_reset"]) if "limit_reset" in key else (key.get("max_budget"), key.get("budget_duration"))


WORDS = {"openrouter": {Period.MONTH: "monthly", Period.WEEK: "weekly", Period.DAY: "daily", Period.LIFETIME: None},
         "litellm": {Period.MONTH: "30d", Period.WEEK: "7d", Period.DAY: "1d", Period.HOUR: "1h", Period.LIFETIME: None}}  # fmt: skip


@pytest.mark.parametrize(("stage", "period"), [(vendor, period) for vendor in WORDS for period in WORDS[vendor]], indirect=["stage"])
async def test_it_is_written_once_in_the_vendors_own_words(stage: Theatre, request: pytest.FixtureRequest, period: Period) -> None:
    vendor = request.node.callspec.params["stage"]
    await cap(stage, period, 10)
    (finding,) = await check(stage)
    said = "$12.00 in all" if period is Period.LIFETIME else f"$12.00 per {period}"
    assert (finding.what, finding.wanted, finding.repair) == (BACKSTOP, said, True)
    assert kept(stage) == (12, WORDS[vendor][period])
    assert await check(stage) == []


@hashed
async def test_it_is_repaired_and_follows_the_cap_and_a_plan_only_shows_it(stage: Theatre) -> None:
    await cap(stage, Period.DAY, 10)
    await check(stage)
    stage.api.keys[stage.credential] |= {"limit": 500, "max_budget": 500}
    (finding,) = await check(stage, repair=False)
    assert (finding.found, finding.repair) == ("$500.00 per day", True)
    assert 500 in kept(stage)
    await check(stage)
    assert 12 in kept(stage)
    await cap(stage, Period.DAY, 20)
    await check(stage)
    assert 24 in kept(stage)


@pytest.mark.parametrize("stage", ["litellm"], indirect=True)
async def test_a_key_that_a_person_deleted_there_is_left_alone_though_the_proxy_goes_on_telling_of_it(stage: Theatre) -> None:
    stage.api.delete(stage.credential)
    await cap(stage, Period.DAY, 10)
    assert await check(stage) == []


@hashed
async def test_without_one_the_gateways_limit_is_nobodys_business(stage: Theatre) -> None:
    before = kept(stage)
    await cap(stage, Period.DAY, 10, None)
    assert await check(stage) == []
    assert stage.vendor.log == []
    assert kept(stage) == before


@each
async def test_a_period_that_the_vendor_does_not_have_is_reported(stage: Theatre) -> None:
    await cap(stage, Period.YEAR, 10)
    findings = await check(stage)
    if isinstance(stage.api, Receiver):
        assert findings == [], "it can't be asked anything"
    else:
        assert [(finding.wanted, finding.found, finding.repair) for finding in findings] == [
            ("a limit per year", "the gateway has none for such a period", False)
        ]


@hashed
async def test_a_paused_key_is_left_alone_so_that_its_pause_stays_ours(stage: Theatre) -> None:
    await stage.turn(State.PAUSED)
    await stage.run()
    await cap(stage, Period.DAY, 10)
    assert await check(stage) == []
    await stage.turn(State.ACTIVE)
    await stage.run()
    assert stage.there() == "active"
    await check(stage)
    assert 12 in kept(stage)


@pytest.mark.parametrize("stage", ["litellm"], indirect=True)
async def test_a_limit_of_nothing_is_not_written_where_it_would_mean_no_limit(stage: Theatre) -> None:
    await cap(stage, Period.DAY, 0)
    (finding,) = await check(stage)
    assert "no limit to LiteLLM" in finding.found and not finding.repair
    assert kept(stage) == (None, None)


@hashed
async def test_a_vendor_that_fails_is_named_and_asked_again_by_the_next_check(stage: Theatre) -> None:
    await cap(stage, Period.DAY, 10)
    method = "PATCH" if isinstance(stage.api, OpenRouterApi) else "POST"
    stage.vendor.faults.append(Fault("status", 500, method=method))
    (finding,) = await check(stage)
    assert finding.found.startswith("not checked")
    await check(stage)
    assert 12 in kept(stage)


@pytest.mark.parametrize("stage", ["openrouter"], indirect=True)
async def test_a_limit_beyond_all_amounts_does_not_keep_a_key_from_being_paused(stage: Theatre, sqlite_file: Path) -> None:
    stage.api.keys[stage.credential]["limit"] = 1e15
    await stage.turn(State.PAUSED)
    await stage.run()
    assert stage.there() == "paused"
