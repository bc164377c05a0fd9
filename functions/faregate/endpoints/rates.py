"""Rates: what usage costs customers, and how much they may owe for it. For operators."""

from decimal import Decimal
from itertools import pairwise
from typing import Annotated, Literal, Self
from uuid import UUID

from fastapi import Query, Response
from pydantic import (
    AfterValidator,
    AwareDatetime,
    Discriminator,
    Field,
    StringConstraints,
    Tag,
    model_validator,
)

from faregate.backends.database import Database
from faregate.backends.tokens import UserTokens
from faregate.caller import Customer
from faregate.contract import (
    Cursor,
    CustomerId,
    IdempotencyKey,
    Limit,
    Moment,
    Page,
    PlanId,
    customer_refuses,
    mark_replayed,
    page,
    writes,
)
from faregate.function import Answer, Body, new_router, use
from faregate.meters import Feature, Meter, Provider, Quantity, Text
from faregate.money import GivenAmount, Usd, format_usd
from faregate.request import ExactRoute

router = new_router("rates", ExactRoute)
backends = (Database, UserTokens)

MAX_MARKUP = 1000
MAX_DEBT_MICROS = 10**12  # $1 000 000


def _check_markup(markup: str) -> str:
    if Decimal(markup) > MAX_MARKUP:
        raise ValueError(f"must be at most {MAX_MARKUP}")
    return markup


UnitPrice = Annotated[
    str,
    StringConstraints(pattern=r"^[0-9]{1,9}(\.[0-9]{1,18})?$"),
    Field(examples=["0.0000025"]),
]
"""USD for one: text, because a number may have been rounded."""

Markup = Annotated[
    str,
    StringConstraints(pattern=r"^[0-9]{1,4}(\.[0-9]{1,12})?$"),
    AfterValidator(_check_markup),
    Field(examples=["1.25"]),
]
"""What the cost is multiplied by."""


class Tier(Body):
    """What one costs, up to and with this number in a calendar month (UTC); the last has no end."""

    up_to: Annotated[Quantity, Field(gt=0)] | None = None
    unit_price: UnitPrice


def _check_tiers(tiers: list[Tier]) -> list[Tier]:
    ends = [tier.up_to for tier in tiers[:-1]]
    if tiers[-1].up_to is not None or None in ends:
        raise ValueError("each but the last says up_to, and the last does not")
    if any(a >= b for a, b in pairwise(end for end in ends if end is not None)):
        raise ValueError("up_to must rise from each to the next")
    return tiers


class Tiers(Body):
    """Prices that change with the number used in a month.

    graduated: what lies in a tier has its price. volume: all have the price of the tier that their
    number lies in.
    """

    kind: Literal["graduated", "volume"]
    tiers: Annotated[list[Tier], Field(min_length=1, max_length=20), AfterValidator(_check_tiers)]


class Package(Body):
    """A price for each package of so many that is begun in a month."""

    kind: Literal["package"]
    size: Annotated[Quantity, Field(gt=0)]
    price: UnitPrice


def _shape(price: object) -> str:
    return "by kind" if isinstance(price, dict | Tiers | Package) else "by unit"


Price = Annotated[
    Annotated[UnitPrice, Tag("by unit")]
    | Annotated[Annotated[Tiers | Package, Field(discriminator="kind")], Tag("by kind")],
    Discriminator(_shape),
]
"""What one of a meter costs, or tiers, or packages: it is judged as that which it looks like."""


class Scope(Body):
    """Whom and what it is for: one customer, a plan, or all; everything or one feature."""

    organization_id: UUID | None = None
    plan: Annotated[PlanId | None, Field(serialization_alias="plan_id")] = None
    feature: Feature | None = None

    @model_validator(mode="after")
    def _check_scope(self) -> Self:
        if self.organization_id and self.plan:
            raise ValueError("it is for an organization_id or for a plan, not for both")
        return self


class CreateUsageRateRequest(Scope):
    """What usage costs from effective_at (now) on, in place of an earlier rate for the same.

    markup: what the cost is multiplied by. prices: own ones, in USD for one of a meter, or tiers or
    packages, which need may_be_below_cost, because a single event may then be free; with a markup
    they come on top of it. costs: what the provider takes, in USD for one of a meter, of a model
    that is not loaded: from then on, for all. ends: there is no own rate for the same any more; the
    next closest counts again.
    """

    provider: Annotated[Provider | None, Field(serialization_alias="provider_id")] = None
    model: Annotated[Text | None, Field(serialization_alias="model_id")] = None
    markup: Markup | None = None
    prices: Annotated[dict[Meter, Price], Field(max_length=32, default_factory=dict)]
    costs: Annotated[dict[Meter, UnitPrice] | None, Field(min_length=1, max_length=32)] = None
    may_be_below_cost: Annotated[bool, Field(strict=True)] = False
    ends: Annotated[bool, Field(strict=True, serialization_alias="is_end")] = False
    effective_at: Moment | None = None

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.model and not self.provider:
            raise ValueError("a model needs its provider")
        if self.costs and (self.ends or not self.model):
            raise ValueError("costs need a model, and do not end")
        if self.ends == bool(self.markup or self.prices):
            raise ValueError("say markup, prices or both, or else ends: true")
        return self


class UsageRate(Answer):
    """What usage costs from effective_at until replaced_at, as far as none is closer.

    provider and model are those whose prices count. costs: what the model takes from effective_at
    on, where an operator said so.
    """

    id: UUID
    organization_id: UUID | None
    plan: str | None = Field(validation_alias="plan_id")
    feature: str | None
    provider: str | None = Field(validation_alias="provider_id")
    model: str | None = Field(validation_alias="model_id")
    markup: str | None
    prices: dict[str, Price]
    costs: dict[str, str] | None
    may_be_below_cost: bool
    ends: bool = Field(validation_alias="is_end")
    effective_at: AwareDatetime
    replaced_at: AwareDatetime | None
    created_by: str


def _check_debt(micros: int) -> int:
    if micros > MAX_DEBT_MICROS:
        raise ValueError(f"must be at most {format_usd(MAX_DEBT_MICROS)}")
    return micros


class SetShortMoneyRequest(Scope):
    """How much may be owed after usage when the money is short: "0" for nothing, as by default."""

    allow_debt: Annotated[GivenAmount, AfterValidator(_check_debt)]


class ShortMoney(Answer):
    """How much may be owed for usage. The closest counts: of the customer, the plan, all."""

    id: UUID
    organization_id: UUID | None
    plan: str | None = Field(validation_alias="plan_id")
    feature: str | None
    allow_debt: Usd = Field(validation_alias="allow_debt_micros")


@router.post(
    "/v1/usage/rates",
    status_code=201,
    responses=writes(
        *["organization_not_found", "plan_unknown", "model_unknown", "effective_in_the_past"],
        *["cost_is_known", "below_cost_not_meant", "tiers_overlap", "rate_exists"],
    ),
)
async def create_usage_rate(
    request: CreateUsageRateRequest,
    caller: Customer,
    idempotency_key: IdempotencyKey,
    response: Response,
    database: Database = use(Database),
) -> UsageRate:
    """Decide what usage costs, from now on or later; what was used before stays. Needs `admin`.

    Of all rates that fit, the closest counts: of the customer before that of the plan before one
    for all; then one that names the model, the provider, the feature.
    """
    row = await database.call_one(
        "create_usage_rate",
        caller=caller,
        rate=request.model_dump(mode="json", by_alias=True),
        idempotency_key=idempotency_key,
    )
    mark_replayed(response, replayed=row["replayed"])
    return UsageRate.model_validate(row["rate"])


@router.get("/v1/usage/rates", responses=customer_refuses())
async def list_usage_rates(
    caller: Customer,
    customer_id: CustomerId = None,
    plan: PlanId | None = None,
    feature: Feature | None = None,
    provider: Provider | None = None,
    model: Annotated[Text | None, Query(description="As rates call it.")] = None,
    limit: Limit = 50,
    cursor: Cursor = None,
    database: Database = use(Database),
) -> Page[UsageRate]:
    """List what was decided about what usage costs, newest first. Needs `admin`."""
    rows = await database.call(
        "list_usage_rates",
        caller=caller,
        organization_id=customer_id,
        plan_id=plan,
        feature=feature,
        provider_id=provider,
        model_id=model,
        limit=limit + 1,
        cursor=cursor,
    )
    return page(UsageRate, rows, limit)


@router.post(
    "/v1/usage/short-money",
    status_code=201,
    responses=writes("organization_not_found", "plan_unknown"),
)
async def set_short_money(
    request: SetShortMoneyRequest,
    caller: Customer,
    idempotency_key: IdempotencyKey,
    response: Response,
    database: Database = use(Database),
) -> ShortMoney:
    """Decide how much may be owed for usage, in place of what was decided before. Needs `admin`."""
    row = await database.call_one(
        "set_usage_policy",
        caller=caller,
        organization_id=request.organization_id,
        plan_id=request.plan,
        feature=request.feature,
        allow_debt_micros=request.allow_debt,
        idempotency_key=idempotency_key,
    )
    mark_replayed(response, replayed=row["replayed"])
    return ShortMoney.model_validate(row["policy"])


@router.get("/v1/usage/short-money", responses=customer_refuses())
async def list_short_money(
    caller: Customer,
    customer_id: CustomerId = None,
    plan: PlanId | None = None,
    limit: Limit = 50,
    cursor: Cursor = None,
    database: Database = use(Database),
) -> Page[ShortMoney]:
    """List how much may be owed for usage, newest first. Needs `admin`."""
    rows = await database.call(
        "list_usage_policies",
        caller=caller,
        organization_id=customer_id,
        plan_id=plan,
        limit=limit + 1,
        cursor=cursor,
    )
    return page(ShortMoney, rows, limit)
