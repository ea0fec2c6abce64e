"""What a gateway's own limit on a key should be."""

from typing import Any

from ledger.core.backstop import Backstop, backstop
from ledger.core.caps import Cap, Guardrail, Rule
from ledger.core.commands import Reason, SetCap, SetGuardrail
from ledger.core.money import USD, Nanos
from ledger.core.window import Period
from tests.core.harness import OrgLedger

OPENROUTER = (Period.DAY, Period.WEEK, Period.MONTH, Period.LIFETIME)


def rule(period: Period, dollars: int, percent: int | None) -> Rule:
    return Rule(period=period, limit=Nanos(dollars * USD), backstop_percent=percent)


def caps(*rules: Rule) -> list[Cap]:
    return [Cap(cap_id=f"c{n}", scope="key:k", rule=rule) for n, rule in enumerate(rules)]


def test_it_is_the_share_of_the_limit_rounded_up_to_the_nano() -> None:
    odd = Rule(period=Period.DAY, limit=Nanos(3), backstop_percent=150)
    assert backstop(caps(odd), OPENROUTER) == Backstop(Nanos(5), Period.DAY)


def test_of_several_the_longest_period_that_the_gateway_has_is_kept_and_the_lower_limit_of_two() -> None:
    some = caps(rule(Period.DAY, 1, 100), rule(Period.MONTH, 20, 120), rule(Period.MONTH, 10, 200), rule(Period.YEAR, 5, 100))
    assert backstop(some, OPENROUTER) == Backstop(Nanos(20 * USD), Period.MONTH)


def test_where_no_cap_asks_or_the_gateway_has_no_such_period_there_is_none() -> None:
    assert backstop(caps(rule(Period.DAY, 1, None)), OPENROUTER) is None
    assert backstop(caps(rule(Period.HOUR, 1, 100)), OPENROUTER) is None


def refused(order: Any) -> str:
    (result,) = OrgLedger("acme").send([order], 1)
    assert result.reason is Reason.MALFORMED
    return result.detail or ""


def test_only_a_keys_cap_has_one_and_it_never_bites_first() -> None:
    whole = SetCap(org="acme", by="will", cap="c", scope="key:k", rule=rule(Period.DAY, 1, 100))
    assert OrgLedger("acme").send([whole], 1)[0].reason is None, "a hundred percent is the cap itself"
    for scope, percent in (("workspace:w", 120), ("org", 120), ("key:k", 99)):
        wrong = SetCap(org="acme", by="will", cap="c", scope=scope, rule=rule(Period.DAY, 1, percent))
        assert "backstop_percent" in refused(wrong)
    rail = Guardrail(guardrail_id="g", each="workspace", within=("org",), rule=rule(Period.DAY, 1, 120))
    assert "backstop_percent" in refused(SetGuardrail(org="acme", by="will", guardrail=rail))
