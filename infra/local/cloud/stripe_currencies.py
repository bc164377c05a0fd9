"""Amounts as Stripe counts them: in the smallest unit of their currency."""

from decimal import Decimal

from infra.local.cloud.stripe_objects import StripeError

_SMALLEST_AMOUNT = 50
_WITHOUT_DECIMALS = frozenset(
    {"bif", "clp", "djf", "gnf", "jpy", "kmf", "krw", "mga", "pyg", "rwf", "vnd", "vuv"}
    | {"xaf", "xof", "xpf"}
)
_WITH_THREE_DECIMALS = frozenset({"bhd", "jod", "kwd", "omr", "tnd"})


def check_currency(currency: object, param: str) -> str:
    """Read a currency: Stripe answers in small letters, whatever it is asked in."""
    code = str(currency).lower()
    if len(code) != 3 or not code.isalpha():
        raise StripeError(400, f"Invalid currency: {code}.", param=param)
    return code


def check_amount(amount: int, currency: str, what: str) -> int:
    """Refuse an amount that Stripe does not charge."""
    if amount < _SMALLEST_AMOUNT:
        least = show(_SMALLEST_AMOUNT, currency)
        raise StripeError(400, f"{what} must be at least {least}", code="amount_too_small")
    # Banks take two of the three decimals.
    if currency in _WITH_THREE_DECIMALS and amount % 10:
        raise StripeError(400, f"{what} in {currency} must be a multiple of 10.", param="amount")
    return amount


def show(amount: int, currency: str) -> str:
    """Write an amount as people do."""
    decimals = 0 if currency in _WITHOUT_DECIMALS else 3 if currency in _WITH_THREE_DECIMALS else 2
    return f"{Decimal(amount).scaleb(-decimals):,.{decimals}f} {currency.upper()}"
