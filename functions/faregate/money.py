"""How money is written outside: decimal strings in USD. Inside it is whole micro-dollars."""

import re
from typing import Annotated

from pydantic import BeforeValidator, PlainSerializer, WithJsonSchema

MICROS_PER_USD = 1_000_000

_USD = re.compile(r"\d{1,9}(\.\d{1,6})?", re.ASCII)
_CENT_MICROS = 10_000
# What Stripe charges at most.
_MAX_PAYMENT_MICROS = 99_999_999 * _CENT_MICROS


def format_usd(micros: int) -> str:
    """Write µ$ as USD with six decimals: 37500 → "0.037500"."""
    sign = "-" if micros < 0 else ""
    whole, fraction = divmod(abs(micros), MICROS_PER_USD)
    return f"{sign}{whole}.{fraction:06d}"


def parse_usd(text: object) -> int:
    """Read USD as µ$: "25.00" → 25000000. Text only: a JSON number may have been rounded.

    Raises ValueError for anything but up to nine digits and six decimals, unsigned.
    """
    if not isinstance(text, str) or not _USD.fullmatch(text):
        raise ValueError('must be a decimal string in USD, such as "25.00"')
    whole, _, fraction = text.partition(".")
    return int(whole) * MICROS_PER_USD + int(fraction.ljust(6, "0"))


def _positive(text: object) -> int:
    micros = parse_usd(text)
    if micros == 0:
        raise ValueError("must be more than 0")
    return micros


def _whole_cents(text: object) -> int:
    micros = parse_usd(text)
    if micros <= 0 or micros % _CENT_MICROS:
        raise ValueError("must be a positive amount of whole cents")
    if micros > _MAX_PAYMENT_MICROS:
        raise ValueError("must be at most 999999.99")
    return micros


Usd = Annotated[
    int,
    PlainSerializer(format_usd, return_type=str),
    WithJsonSchema(
        {"type": "string", "format": "decimal"}
        | {"pattern": r"^-?\d+\.\d{6}$", "examples": ["0.037500"]},
        mode="serialization",
    ),
]
"""An amount in an answer: µ$ inside, a decimal string in USD outside."""

ExactUsd = Annotated[
    str,
    WithJsonSchema(
        {"type": "string", "format": "decimal"}
        | {"pattern": r"^-?\d+\.\d{6,}$", "examples": ["0.0000375"]}
    ),
]
"""An amount in an answer that is not rounded to µ$: SQL writes it."""

_GIVEN = WithJsonSchema(
    {"type": "string", "pattern": r"^[0-9]{1,9}(\.[0-9]{1,6})?$", "examples": ["0.25"]}
)

GivenAmount = Annotated[int, BeforeValidator(parse_usd), _GIVEN]
"""An amount in a request, 0 or more: given as a decimal string in USD; µ$ inside."""

PositiveAmount = Annotated[int, BeforeValidator(_positive), _GIVEN]
"""An amount in a request, more than 0: given as a decimal string in USD; µ$ inside."""

PaymentAmount = Annotated[
    int,
    BeforeValidator(_whole_cents),
    WithJsonSchema(
        {"type": "string", "pattern": r"^[0-9]{1,6}(\.[0-9]{1,2}0{0,4})?$", "examples": ["25.00"]}
    ),
]
"""An amount to be paid: whole cents, given as a decimal string in USD; µ$ inside."""
