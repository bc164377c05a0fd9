"""What all of Stripe's objects share: ids, events, the refusals of its API."""

from collections.abc import Collection, Iterable
from copy import deepcopy
from secrets import choice
from string import ascii_lowercase, ascii_uppercase, digits
from time import time, time_ns

from infra.local.cloud.store import Document

# The account's version, in which its events are written.
API_VERSION = "2026-10-28.endive"

_ALPHABET = digits + ascii_uppercase + ascii_lowercase
_AGE_CHARACTERS = 11


class StripeError(Exception):
    """A refusal as Stripe words it.

    `executed`: Stripe had begun to act, so the idempotency key keeps the refusal as its answer.
    """

    def __init__(
        self,
        status: int,
        message: str,
        *,
        kind: str = "invalid_request_error",
        executed: bool = False,
        **more: object,
    ) -> None:
        self.status, self.executed = status, executed
        fields = {"type": kind, "message": message} | more
        self.body = {"error": {k: v for k, v in fields.items() if v is not None}}


def identifier(prefix: str, length: int = 24) -> str:
    """Make an id; like Stripe's, it sorts by age."""
    age, characters = time_ns(), ""
    for _ in range(_AGE_CHARACTERS):
        age, digit = divmod(age, len(_ALPHABET))
        characters = _ALPHABET[digit] + characters
    random = "".join(choice(_ALPHABET) for _ in range(length - _AGE_CHARACTERS))
    return f"{prefix}_{characters}{random}"


def event(kind: str, subject: Document, api_version: str) -> Document:
    """Wrap an object as it is now in the envelope of a notification."""
    return {
        "id": identifier("evt"),
        "object": "event",
        "api_version": api_version,
        "created": int(time()),
        "data": {"object": deepcopy(subject)},
        "livemode": False,
        "pending_webhooks": 1,
        "request": {"id": None, "idempotency_key": None},
        "type": kind,
    }


def accept(parameters: Document, known: Collection[str], required: Iterable[str] = ()) -> None:
    """Refuse what Stripe does not know, and what it misses."""
    for name in parameters:
        if name not in known:
            message = f"Received unknown parameter: {name}"
            raise StripeError(400, message, code="parameter_unknown", param=name)
    for name in required:
        if not parameters.get(name):
            raise missing(name)


def missing(name: str) -> StripeError:
    """Word the lack of a parameter."""
    message = f"Missing required param: {name}."
    return StripeError(400, message, code="parameter_missing", param=name)


def integer(name: str, value: object, lowest: int | None = None, highest: int | None = None) -> int:
    """Read a whole number."""
    try:
        number = int(str(value))
    except ValueError as error:
        message = f"Invalid integer: {value}"
        raise StripeError(400, message, code="parameter_invalid_integer", param=name) from error
    if lowest is not None and number < lowest:
        message = f"This value must be greater than or equal to {lowest}."
        raise StripeError(400, message, code="parameter_invalid_integer", param=name)
    if highest is not None and number > highest:
        message = f"This value must be less than or equal to {highest}."
        raise StripeError(400, message, code="parameter_invalid_integer", param=name)
    return number


def boolean(parameters: Document, name: str, default: bool = False) -> bool:
    """Read a parameter that is true or false."""
    return one_of(parameters, name, ("true", "false"), str(default).lower()) == "true"


def one_of(parameters: Document, name: str, choices: Collection[str], default: str = "") -> str:
    """Read a parameter that has a few values only."""
    value = parameters.get(name, default)
    if value not in choices:
        message = f"Invalid {name}: must be one of {', '.join(choices)}"
        raise StripeError(400, message, param=name)
    return str(value)


def metadata(parameters: Document, known: Document | None = None) -> Document:
    """Read the metadata of a request on top of what is known; an empty value removes a key."""
    asked = parameters.get("metadata") or {}
    if not isinstance(asked, dict):
        raise StripeError(400, "Invalid hash", param="metadata")
    merged = (known or {}) | asked
    return {key: value for key, value in merged.items() if value != ""}
