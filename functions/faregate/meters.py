"""What usage is counted in: wholes include their parts, as OpenTelemetry counts."""

from collections.abc import Mapping
from decimal import Decimal
from typing import Annotated

from pydantic import AfterValidator, BeforeValidator, Field, StringConstraints

_INPUT = frozenset({"input_tokens"})
_OUTPUT = frozenset({"output_tokens"})
_CACHE_READ = _INPUT | {"cache_read_tokens"}
_CACHE_WRITE = _INPUT | {"cache_write_tokens"}
_SECONDS = frozenset({"audio_seconds"})

WHOLES: Mapping[str, frozenset[str]] = {
    "cache_read_tokens": _INPUT,
    "cache_write_tokens": _INPUT,
    "cache_write_5m_tokens": _CACHE_WRITE,
    "cache_write_1h_tokens": _CACHE_WRITE,
    "input_text_tokens": _INPUT,
    "input_audio_tokens": _INPUT,
    "input_image_tokens": _INPUT,
    "input_video_tokens": _INPUT,
    "cache_text_read_tokens": _CACHE_READ | {"input_text_tokens"},
    "cache_audio_read_tokens": _CACHE_READ | {"input_audio_tokens"},
    "cache_image_read_tokens": _CACHE_READ | {"input_image_tokens"},
    "output_text_tokens": _OUTPUT,
    "output_audio_tokens": _OUTPUT,
    "output_image_tokens": _OUTPUT,
    "output_video_tokens": _OUTPUT,
    "output_reasoning_tokens": _OUTPUT,
    "output_citation_tokens": _OUTPUT,
    "input_audio_seconds": _SECONDS,
    "output_audio_seconds": _SECONDS,
    "input_annotated_document_pages": frozenset({"input_document_pages"}),
}
"""Every meter that is a part, and all the wholes that it is in: billing.meter_parts."""


def too_small_whole(quantities: Mapping[str, float]) -> str | None:
    """Name a whole that is less than its parts together; None: there is none.

    What is in two parts at a time (audio that is read from the cache) counts once.
    """
    wholes = {whole for meter in quantities for whole in WHOLES.get(meter, ())}
    if not wholes:
        return None
    rests: dict[str, float] = {}
    # Parts first.
    for meter in sorted(wholes | quantities.keys(), key=lambda each: -len(WHOLES.get(each, ()))):
        parts = (rest for part, rest in rests.items() if meter in WHOLES.get(part, ()))
        rests[meter] = quantities.get(meter, 0) - sum(parts)
        if round(rests[meter], 6) < 0:
            return meter
    return None


def _exactly(quantity: object) -> object:
    """Give the float that a fraction is to the last digit, which SQL and answers then say again."""
    if not isinstance(quantity, Decimal):
        return quantity
    if Decimal(repr(float(quantity))) != quantity:
        raise ValueError("must not have more than six decimals, nor more than fifteen digits")
    return float(quantity)


def _check_decimals(quantity: float) -> float:
    if round(quantity, 6) != quantity:
        raise ValueError("must not have more than six decimals")
    return quantity


def _check_wholes(quantities: dict[str, float]) -> dict[str, float]:
    if whole := too_small_whole(quantities):
        raise ValueError(f"{whole} must not be less than its parts")
    return quantities


Text = Annotated[
    str, StringConstraints(min_length=1, max_length=200, pattern=r"^[^\x00-\x1f\x7f]*$")
]
"""What others call something: a source, an event, a model."""

Feature = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9_.-]{0,99}$")]
"""What of the product is used."""

Provider = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9_.-]{0,63}$")]
"""Who sells a model."""

Meter = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_]{0,63}$")]
"""What is counted."""

Quantity = Annotated[
    Annotated[int, Field(strict=True)] | Annotated[float, Field(strict=True)],
    Field(ge=0, le=10**12),
    AfterValidator(_check_decimals),
    BeforeValidator(_exactly),
]
"""How much of a meter."""

Quantities = Annotated[
    dict[Meter, Quantity], Field(min_length=1, max_length=32), AfterValidator(_check_wholes)
]
"""How much of each meter; wholes include their parts."""
