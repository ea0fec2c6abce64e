"""Owns what the reading of any gateway's account has in common: amounts by key and day."""

from decimal import Decimal, InvalidOperation

from ..core.backstop import Backstop
from ..core.money import MAX_AMOUNT_NANOS, AmountError, Nanos, parse_usd
from ..core.window import Period
from .gateway import GatewayUnavailable

DAY_S = 86_400

Spent = dict[tuple[str, int], int]  # (credential, UTC day) → nano-USD


def own_limit(amount: Decimal | None, period: Period) -> Backstop | None:
    """A gateway's own limit on a key; one that is no amount here was not set by us."""
    try:
        limit = nanos(amount)
    except GatewayUnavailable:
        return None
    return None if limit is None else Backstop(limit, period)


def nanos(amount: Decimal | None) -> Nanos | None:
    """An amount of an account; below nothing is nothing. Raises GatewayUnavailable for what is no amount."""
    try:
        return None if amount is None else parse_usd(str(max(amount, Decimal(0))), MAX_AMOUNT_NANOS)
    except (AmountError, InvalidOperation):  # the latter for what is not a number: JSON text may say NaN
        raise GatewayUnavailable("the gateway's answer holds an amount that is none") from None
