"""Owns the chargeback export in FOCUS 1.2, the FinOps Open Cost and Usage Specification.

Org → billing account, workspace → sub-account, key → resource, model → SKU; a row per meter of tokens, day and kind of charge.
What was recorded after its month was over, a call or a correction of one, is a row of class Correction; within its month a
correction is an Adjustment of no class, as the specification has it. What a call cost is known as one amount: the meters share it
by their tokens, exact to the nano, so that sums are right on every other level; a unit price is what the row costs over its quantity.
"""

from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from typing import Any

import msgspec

from ..core.labels import History, as_of
from ..core.money import each_text, split, usd_text
from ..core.questions import Charge, Dimension, Kind, Question, QuestionError, Row
from ..core.window import Period, day_at, window_at
from .report import ask, csv_line
from .times import moment_text

BY = (Dimension(Kind.WORKSPACE), Dimension(Kind.KEY), Dimension(Kind.MODEL), Dimension(Kind.PROVIDER), Dimension(Kind.CHARGE))
COLUMNS = (
    "BilledCost", "BillingAccountId", "BillingAccountName", "BillingAccountType", "BillingCurrency", "BillingPeriodEnd",
    "BillingPeriodStart", "ChargeCategory", "ChargeClass", "ChargeDescription", "ChargeFrequency", "ChargePeriodEnd",
    "ChargePeriodStart", "CommitmentDiscountCategory", "CommitmentDiscountId", "CommitmentDiscountName",
    "CommitmentDiscountStatus", "CommitmentDiscountType", "ConsumedQuantity", "ConsumedUnit", "ContractedCost",
    "ContractedUnitPrice", "EffectiveCost", "InvoiceId", "InvoiceIssuerName", "ListCost", "ListUnitPrice", "PricingCategory",
    "PricingQuantity", "PricingUnit", "ProviderName", "PublisherName", "RegionId", "RegionName", "ResourceId", "ResourceName",
    "ResourceType", "ServiceCategory", "ServiceName", "ServiceSubcategory", "SkuId", "SkuMeter", "SkuPriceDetails", "SkuPriceId",
    "SubAccountId", "SubAccountName", "SubAccountType", "Tags", "x_CredentialId", "x_LedgerSeq", "x_Requests",
    "x_UnpricedCalls", "x_UpstreamCost",
)  # fmt: skip
Labels = Mapping[str, Mapping[str, History]]
UNKNOWN = "Unknown"
_CORRECTIONS = (Charge.CORRECTION, Charge.LATE_CORRECTION)


def ask_focus(
    start: str | None, end: str | None, by: Sequence[str], grain: str | None, where: Sequence[str], zone: str | None, home: str, now_us: int
) -> Question:
    """As `report.ask`, for an export, whose rows have one shape. Raises QuestionError for a `by` or a `grain` of another."""
    for field, said in (("by", by), ("grain", grain)):
        if said:
            raise QuestionError(field, "FOCUS has rows of its own, a day each: leave it out")
    return ask(start, end, [",".join(map(str, BY))], Period.DAY, where, zone, home, now_us)


async def as_focus(org: str, zone: str, seq: int, labels: Labels, rows: AsyncIterator[Row]) -> AsyncIterator[str]:
    """A CSV file of the lines of a report that was asked `by` BY, a day each."""
    yield csv_line(COLUMNS)
    async for row in rows:
        for record in records(org, zone, seq, labels, row):
            yield csv_line([record.get(name) for name in COLUMNS])


def records(org: str, zone: str, seq: int, labels: Labels, row: Row) -> Iterator[dict[str, Any]]:
    """The FOCUS rows of one line: one for each meter that moved; what has no meter is on the first."""
    spent, byok, unpriced, requests = row.sums[:4]
    usage = row.values[4] in (Charge.USAGE, Charge.LATE)
    meters = [meter for meter in _meters(row) if meter[1]] if usage else []
    if usage and not meters:
        meters = [("Requests", requests, "Requests")]
    costs = split(spent, [quantity for _, quantity, _ in meters]) if meters else [spent]
    shared = {**_whose(org, zone, labels, row), **_charge(row), "x_LedgerSeq": seq}
    first = {"x_Requests": requests, "x_UnpricedCalls": unpriced, "x_UpstreamCost": usd_text(byok)}
    for n, cost in enumerate(costs):
        money = dict.fromkeys(("BilledCost", "EffectiveCost", "ListCost", "ContractedCost"), usd_text(cost))
        yield {**shared, **money, **(_metered(row, cost, *meters[n]) if meters else {}), **(first if n == 0 else dict.fromkeys(first, 0))}


def _meters(row: Row) -> list[tuple[str, int, str]]:
    tokens_in, out, cached, written, reasoning = row.sums[4:]
    return [
        ("Input Tokens", max(0, tokens_in - cached - written), "Tokens"), ("Cached Input Tokens", cached, "Tokens"),
        ("Cache Write Tokens", written, "Tokens"), ("Output Tokens", max(0, out - reasoning), "Tokens"),
        ("Reasoning Tokens", reasoning, "Tokens"),
    ]  # fmt: skip


def _metered(row: Row, cost: int, meter: str, quantity: int, unit: str) -> dict[str, Any]:
    model, each = row.values[2] or UNKNOWN, each_text(cost, quantity)
    return {
        "ConsumedQuantity": quantity, "ConsumedUnit": unit, "PricingQuantity": quantity, "PricingUnit": unit,
        "PricingCategory": "Standard", "ListUnitPrice": each, "ContractedUnitPrice": each, "SkuId": model, "SkuMeter": meter,
        "SkuPriceId": f"{model}/{meter}",
        "ChargeDescription": f"{meter} of {model}",
    }  # fmt: skip


def _charge(row: Row) -> dict[str, Any]:
    kind = row.values[4]
    model = row.values[2]
    late = "Correction" if kind in (Charge.LATE, Charge.LATE_CORRECTION) else None
    if kind in _CORRECTIONS:
        told = f"Correction of calls of {model or UNKNOWN}"
        return {
            "ChargeCategory": "Adjustment", "ChargeClass": late, "ChargeFrequency": "One-Time", "ChargeDescription": told,
            "SkuId": model or UNKNOWN,
        }  # fmt: skip
    if kind == Charge.SHARED:
        return {"ChargeCategory": "Adjustment", "ChargeFrequency": "One-Time", "ChargeDescription": "Share of a cost that no key made"}
    return {"ChargeCategory": "Usage", "ChargeClass": late, "ChargeFrequency": "Usage-Based"}


def _whose(org: str, zone: str, labels: Labels, row: Row) -> dict[str, Any]:
    workspace, key, model, provider, _ = row.values
    month = window_at(Period.MONTH, row.start_us, zone)
    scopes = ("org", f"workspace:{workspace}", *([] if key is None else [f"key:{key}"]))
    publisher = (model or "").partition("/")
    return {
        "BillingAccountId": org, "BillingAccountName": org, "BillingAccountType": "Org", "BillingCurrency": "USD",
        "BillingPeriodStart": _second(month.start_us), "BillingPeriodEnd": _second(month.end_us),
        "ChargePeriodStart": _second(row.start_us), "ChargePeriodEnd": _second(row.end_us),
        "InvoiceIssuerName": provider or UNKNOWN, "ProviderName": provider or UNKNOWN,
        "PublisherName": publisher[0] if publisher[1] else provider or UNKNOWN,
        "ResourceId": key, "ResourceType": None if key is None else "API Key", "x_CredentialId": key,
        "ServiceCategory": "AI and Machine Learning", "ServiceName": "LLM Inference", "ServiceSubcategory": "Generative AI",
        "SubAccountId": workspace, "SubAccountName": workspace, "SubAccountType": "Workspace",
        "Tags": _tags(labels, scopes, day_at(row.start_us, zone)),
    }  # fmt: skip


def _second(us: int) -> str:
    return (moment_text(us) or "").replace("+00:00", "Z")


def _tags(labels: Labels, scopes: tuple[str, ...], day: int) -> str:
    """Labels as they stood on the day; the nearer scope's win (S9)."""
    found: dict[str, str] = {}
    for scope in scopes:
        found |= as_of(labels.get(scope, {}), day)
    return msgspec.json.encode(found).decode()
