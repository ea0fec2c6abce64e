"""The FOCUS export: valid by the official validator for 1.0, and by the specification's column files for what 1.2 adds."""

import csv
import io
import os
import re
import subprocess
import sys
from collections.abc import AsyncIterator
from datetime import datetime
from decimal import Decimal, localcontext
from importlib.util import find_spec
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger.core.labels import History
from ledger.core.money import each_text, usd_text
from ledger.core.questions import Row
from ledger.core.window import Period, window_at
from ledger.wire.focus import COLUMNS, as_focus, records

ZONE = "America/New_York"
DAY = window_at(Period.DAY, 1_772_982_000_000_000, ZONE)  # 2026-03-08, 23 hours long
LABELS: dict[str, dict[str, History]] = {
    "org": {"cost_center": ((0, "1"),), "owner": ((0, "will"),)},
    "workspace:research": {"cost_center": ((DAY.start, "4711"),)},
    "key:crawler": {"owner": ((DAY.start + 1, "ann"),)},
    "key:None": {"owner": ((0, "a key of that name, and no shared cost"),)},
}
# Rules of the validator that ask for columns that no version of the specification has, or had before 1.0 only.
ITS_OWN_ERRORS = {"InvoiceIssuer_Required", "Provider_Required", "Publisher_Required", "ResourceID_Required", "SkuPriceId_Nullable"}


def line(charge: str = "usage", spent: int = 7, tokens: tuple[int, ...] = (100, 30, 40, 10, 20), **more: str | None) -> Row:
    values = {"workspace": "research", "key": "crawler", "model": "openai/gpt-5", "provider": "azure", "charge": charge} | more
    return Row(DAY.start_us, DAY.end_us, tuple(values.values()), (spent, 3, 1, 2, *tokens))


LINES = (
    line(), line(spent=1_000_000_000, provider=None, model=None), line("late"), line("correction", -5, (0,) * 5),
    line("late_correction", -5, (0,) * 5), line(tokens=(0,) * 5),
    line("shared", 333, (0,) * 5, key=None, model=None, provider=None), line(key="käse, \"odd\"", model="local"),
)  # fmt: skip


async def exported(lines: tuple[Row, ...] = LINES) -> str:
    async def rows() -> AsyncIterator[Row]:
        for one in lines:
            yield one

    return "".join([text async for text in as_focus("acme", ZONE, 17, LABELS, rows())])


async def read() -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(await exported())))


@pytest.mark.skipif(find_spec("focus_validator") is None, reason="the FOCUS validator needs a Python before 3.13")
async def test_the_official_validator_finds_no_error_of_ours_in_version_1_0(tmp_path: Path) -> None:
    path = tmp_path / "focus.csv"
    path.write_text(await exported())
    spec = find_spec("focus_validator")
    assert spec is not None and spec.origin is not None
    home = Path(spec.origin).parent.parent  # it looks for its list of currencies from here
    command = [
        sys.executable,
        "-m",
        "focus_validator.main",
        "--data-file",
        str(path),
        "--column-namespace",
        "x_",
        "--validate-version",
        "1.0",
    ]
    run = subprocess.run(
        command, cwd=home, capture_output=True, text=True, timeout=120, check=False, env=os.environ | {"PYTHONWARNINGS": "ignore"}
    )
    failed = set(re.findall(r"^(\w+) failed:", run.stdout, re.MULTILINE))
    assert "Errors encountered" in run.stdout, run.stdout + run.stderr
    assert failed == ITS_OWN_ERRORS


async def test_the_columns_that_1_1_and_1_2_add_are_as_the_specification_says() -> None:
    rows = await read()
    for row in rows:
        assert (row["BillingAccountType"], row["SubAccountType"]) == ("Org", "Workspace")  # mandatory beside their ids, never null
        assert (row["ServiceCategory"], row["ServiceSubcategory"]) == ("AI and Machine Learning", "Generative AI")
        assert row["InvoiceId"] == ""  # null: no invoice is issued
        assert not row["SkuMeter"] or row["SkuId"]  # SkuMeter is null where SkuId is
        assert bool(row["SkuPriceId"]) == bool(row["PricingQuantity"])
    assert {row["SkuMeter"] for row in rows} >= {
        "Input Tokens",
        "Cached Input Tokens",
        "Cache Write Tokens",
        "Output Tokens",
        "Reasoning Tokens",
    }


async def test_every_column_that_1_2_asks_for_is_there_and_what_may_not_be_null_is_filled() -> None:
    """From the specification's column files: the mandatory ones, and those that go with sub-accounts, resources and SKUs."""
    filled = {
        "BilledCost", "BillingAccountId", "BillingAccountType", "BillingCurrency", "BillingPeriodEnd", "BillingPeriodStart",
        "ChargeCategory", "ChargeFrequency", "ChargePeriodEnd", "ChargePeriodStart", "ContractedCost", "EffectiveCost",
        "InvoiceIssuerName", "ListCost", "ProviderName", "PublisherName", "ServiceCategory", "ServiceName", "ServiceSubcategory",
    }  # fmt: skip
    maybe_null = {
        "BillingAccountName", "ChargeClass", "ChargeDescription", "ConsumedQuantity", "ConsumedUnit", "InvoiceId", "PricingCategory",
        "PricingQuantity", "PricingUnit", "ResourceId", "ResourceName", "ResourceType", "SkuId", "SkuMeter", "SkuPriceDetails",
        "SkuPriceId", "SubAccountId", "SubAccountName", "SubAccountType", "Tags",
    }  # fmt: skip
    assert filled | maybe_null <= set(COLUMNS)
    assert not [(name, row) for row in await read() for name in filled if not row[name]]


async def test_times_are_utc_and_periods_are_the_orgs_days_and_months() -> None:
    for row in await read():
        times = [row[f"{kind}Period{end}"] for kind in ("Charge", "Billing") for end in ("Start", "End")]
        assert times == ["2026-03-08T05:00:00Z", "2026-03-09T04:00:00Z", "2026-03-01T05:00:00Z", "2026-04-01T04:00:00Z"]
        assert all(datetime.fromisoformat(time).tzinfo for time in times)


async def test_nothing_is_edited_what_comes_late_is_a_row_of_class_correction() -> None:
    kinds = [(row["ChargeCategory"], row["ChargeClass"], row["ChargeFrequency"]) for row in await read()]
    assert set(kinds) == {
        ("Usage", "", "Usage-Based"), ("Usage", "Correction", "Usage-Based"), ("Adjustment", "Correction", "One-Time"),
        ("Adjustment", "", "One-Time"),
    }  # fmt: skip


async def test_what_must_or_must_not_be_null_by_another_column_is_as_the_1_2_files_say() -> None:
    """Their conditional rules, for usage, corrections in and after their month, shared costs, unpriced and BYOK calls alike."""
    meter = ("SkuId", "SkuPriceId", "PricingQuantity", "PricingUnit", "PricingCategory", "ListUnitPrice", "ContractedUnitPrice")
    for row in await read():
        usage, corrects = row["ChargeCategory"] == "Usage", row["ChargeClass"] == "Correction"
        null = {name for name in row if not row[name]}
        assert usage or {"ConsumedQuantity", "ConsumedUnit"} <= null
        assert not usage or corrects or not null & {"ConsumedQuantity", *meter}
        for name, other in (
            ("ConsumedUnit", "ConsumedQuantity"), ("PricingUnit", "PricingQuantity"), ("SubAccountType", "SubAccountId"),
            ("SubAccountName", "SubAccountId"), ("ResourceType", "ResourceId"), ("BillingAccountType", "BillingAccountId"),
        ):  # fmt: skip
            assert (name in null) == (other in null), name
        assert {"ResourceName", "InvoiceId", "RegionId", "CommitmentDiscountId", "CommitmentDiscountStatus"} <= null
        assert "SkuId" not in null or "SkuMeter" in null
        assert "SkuPriceId" not in null or "SkuPriceDetails" in null
        for kind in ("List", "Contracted"):
            price = row[f"{kind}UnitPrice"]
            product = (Decimal(price) * int(row["PricingQuantity"])).quantize(Decimal("1e-9")) if price else Decimal(row["BilledCost"])
            assert product == Decimal(row[f"{kind}Cost"]) and not price.startswith("-")


async def test_a_shared_cost_has_the_labels_of_its_workspace_whatever_keys_are_called() -> None:
    (row,) = [row for row in await read() if not row["ResourceId"]]
    assert row["Tags"] == '{"cost_center":"4711","owner":"will"}'


@given(st.integers(0, 10**18), st.integers(1, 2**60))
def test_what_one_costs_gives_the_amount_again_to_the_nano(nanos: int, count: int) -> None:
    with localcontext(prec=100):
        assert (Decimal(each_text(nanos, count)) * count).quantize(Decimal("1e-9")) == Decimal(nanos).scaleb(-9)


async def test_tags_are_the_labels_of_the_day_the_nearest_scope_first() -> None:
    assert {row["Tags"] for row in await read() if row["ResourceId"] == "crawler"} == {'{"cost_center":"4711","owner":"will"}'}


@given(st.integers(-(10**15), 10**15), st.tuples(*[st.integers(0, 2**53)] * 5), st.sampled_from(("usage", "late", "correction", "shared")))
def test_the_rows_of_a_line_add_up_to_it_to_the_nano(spent: int, tokens: tuple[int, ...], charge: str) -> None:
    rows = list(records("acme", ZONE, 17, LABELS, line(charge, spent, tokens)))
    for name in ("BilledCost", "EffectiveCost", "ListCost", "ContractedCost"):
        assert sum(Decimal(row[name]) for row in rows) == Decimal(usd_text(spent))
    assert [sum(int(row[name]) for row in rows) for name in ("x_Requests", "x_UnpricedCalls")] == [2, 1]
    assert set().union(*rows) <= set(COLUMNS)
