"""Pieces that several contracts share: texts, keys, pages."""

import re
from datetime import date, datetime
from decimal import Decimal
from typing import Annotated, Any, Generic, Literal, TypeVar
from uuid import UUID

from fastapi import Header, Query, Response
from pydantic import (
    AwareDatetime,
    BaseModel,
    BeforeValidator,
    Field,
    StringConstraints,
    ValidationInfo,
)

from faregate.document import refuses
from faregate.function import Answer
from faregate.money import Usd

_LINE = r"^[^\x00-\x1f\x7f]*$"

Name = Annotated[
    str, StringConstraints(strip_whitespace=True, min_length=1, max_length=100, pattern=_LINE)
]
"""A name for people: a line of text."""

Email = Annotated[
    str,
    StringConstraints(
        max_length=254,
        pattern=r"^[A-Za-z0-9.!#$%&'*+/=?^_`{|}~-]{1,64}@[A-Za-z0-9-]+(\.[A-Za-z0-9-]+)+$",
    ),
]
"""An address of a mailbox."""

Role = Literal["owner", "admin", "member"]
"""What a member is in an organization."""

Permission = Literal["read", "write", "billing", "admin"]
"""What a passport may do."""

Tier = Literal["small", "medium", "large", "xlarge", "gpu"]
"""What a session runs on."""

Note = Annotated[
    str, StringConstraints(strip_whitespace=True, min_length=1, max_length=200, pattern=_LINE)
]
"""What an operator tells about money: a line of text, which the customer reads."""


def _whole(number: object) -> object:
    """Take 60.0 for 60, as JSON Schema does; the rest is the strict validator's."""
    if isinstance(number, float | Decimal) and float(number).is_integer():
        return int(float(number))
    return number


PlanId = Annotated[str, StringConstraints(pattern=r"^[a-z]{2,32}$")]
"""A plan, by its name."""

RegionId = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9-]{1,30}$")]
"""A region of storage, by its name."""

WHOLE = BeforeValidator(_whole)
"""Beside Field(strict=True), an integer by JSON Schema: no text, no truth, no fraction."""

_RFC_3339 = re.compile(r"\d{4}-\d\d-\d\d[Tt]\d\d:\d\d:\d\d(\.\d+)?([Zz]|[+-]\d\d:\d\d)", re.ASCII)


def _rfc_3339(text: object) -> object:
    """Refuse the other ways to write a time, such as seconds since 1970."""
    if not isinstance(text, str) or not _RFC_3339.fullmatch(text):
        raise ValueError("must be a time with its offset, such as 2026-11-01T00:00:00Z")
    return text


Moment = Annotated[
    AwareDatetime,
    Field(
        ge=datetime.fromisoformat("2000-01-01T00:00:00Z"),
        le=datetime.fromisoformat("2999-12-31T23:59:59Z"),
    ),
    BeforeValidator(_rfc_3339),
]
"""A time with its offset (RFC 3339), of this millennium."""


def not_before_from(to: datetime | date, info: ValidationInfo) -> datetime | date:
    """Check a query's `to` against its `from`."""
    from_ = info.data.get("from_")
    if from_ is not None and to < from_:
        raise ValueError("must not be before `from`")
    return to


IdempotencyKey = Annotated[
    str,
    Header(
        alias="Idempotency-Key",
        min_length=8,
        max_length=128,
        pattern=r"^[!-~]+$",
        description="Your name for this call: repeat it and the call is not made twice.",
    ),
]
Limit = Annotated[int, Query(ge=1, le=100)]
Cursor = Annotated[UUID | None, Query(description="next_cursor of the page before.")]
CustomerId = Annotated[
    UUID | None,
    Query(alias="organization_id", description="An operator names a customer: needs `admin`."),
]

CUSTOMER_REFUSALS = (
    "organization_required",
    "unauthenticated",
    "invalid_passport",
    "invalid_token",
    "permission_denied",
    "policy_denied",
    "not_registered",
    "organization_not_found",
    "rate_limited",
)
"""What any function that a customer calls may refuse with."""


def customer_refuses(*codes: str) -> dict[int | str, dict[str, Any]]:
    """Document an endpoint's own refusals beside those that every customer's call shares."""
    return refuses("invalid_request", *CUSTOMER_REFUSALS, *codes, "unavailable")


def writes(*codes: str) -> dict[int | str, dict[str, Any]]:
    """Document the refusals of an endpoint with a body and an idempotency key."""
    return customer_refuses(
        *codes, "idempotency_conflict", "body_too_large", "unsupported_media_type"
    )


def mark_replayed(response: Response, *, replayed: bool) -> None:
    """Tell the caller that this answer was given before."""
    if replayed:
        response.headers["Idempotent-Replayed"] = "true"


T = TypeVar("T", bound=BaseModel)


class Page(Answer, Generic[T]):
    """A page of a list, newest first."""

    data: list[T]
    has_more: bool
    next_cursor: str | None


def page(kind: type[T], rows: list[dict[str, Any]], limit: int, key: str = "id") -> Page[T]:
    """Make a page of rows that were asked for with one more than the limit."""
    shown = rows[:limit]
    has_more = len(rows) > limit
    return Page[kind](  # type: ignore[valid-type]
        data=[kind.model_validate(row) for row in shown],
        has_more=has_more,
        next_cursor=str(shown[-1][key]) if has_more else None,
    )


class Organization(Answer):
    """A tenant. One that is closed can only be read."""

    id: UUID
    name: str
    plan: str
    billing_email: str
    closed_at: AwareDatetime | None
    created_at: AwareDatetime


class Passport(Answer):
    """A passport without its key. It ends when the member goes whose it is."""

    id: UUID
    name: str
    permissions: list[str]
    user_id: UUID | None
    key_prefix: str
    expires_at: AwareDatetime | None
    revoked_at: AwareDatetime | None
    last_used_at: AwareDatetime | None
    created_at: AwareDatetime


class IssuedPassport(Passport):
    """A passport with its key: shown once, null when the answer is a repeated one."""

    key: str | None


def issued(row: dict[str, Any], key: str, *, replayed: bool) -> IssuedPassport:
    """Show a new passport's key; a replayed answer has none, because none is stored."""
    return IssuedPassport.model_validate(row | {"key": None if replayed else key})


class Wallet(Answer):
    """A balance in USD: available = settled − held. While there is a debt, nothing starts."""

    settled: Usd = Field(validation_alias="settled_micros")
    held: Usd = Field(validation_alias="held_micros")
    available: Usd = Field(validation_alias="available_micros")
    debt: Usd = Field(validation_alias="debt_micros")


class Transaction(Answer):
    """One line of the ledger: a signed amount and the balance after it."""

    sequence: int
    reason: str
    amount: Usd = Field(validation_alias="amount_micros")
    balance: Usd = Field(validation_alias="balance_micros")
    session_id: UUID | None
    storage_id: UUID | None
    hold_id: UUID | None
    grant_id: UUID | None
    created_at: AwareDatetime
