"""Authorizations: what usage to come would cost, and money that is held for it."""

from typing import Annotated, Any, Literal, Self
from uuid import UUID

from fastapi import Response
from pydantic import AwareDatetime, Field, model_validator

from faregate.backends.database import Database, Row
from faregate.backends.tokens import UserTokens
from faregate.caller import Customer
from faregate.consumption import check_model
from faregate.contract import (
    WHOLE,
    CustomerId,
    IdempotencyKey,
    Moment,
    customer_refuses,
    mark_replayed,
    writes,
)
from faregate.function import Answer, Body, new_router, use
from faregate.meters import Feature, Provider, Quantities, Text
from faregate.money import Usd
from faregate.request import ExactRoute

router = new_router("authorizations", ExactRoute)
backends = (Database, UserTokens)


WEEK_SECONDS = 7 * 24 * 3600


class _Served(Body):
    """Who served which model, if any, and how much of each meter; wholes include their parts."""

    provider: Provider | None = None
    model: Text | None = None
    quantities: Quantities

    @model_validator(mode="after")
    def _check(self) -> Self:
        check_model(self)
        return self

    def row(self) -> dict[str, Any]:
        """Write what is given, as the database names it."""
        names = {"provider": "provider_id", "id": "event_id"}
        given = self.model_dump(mode="json", exclude_none=True)
        return {names.get(name, name): value for name, value in given.items()}


class Usage(_Served):
    """What is used."""

    feature: Feature


class EstimateUsageRequest(Usage):
    """What might be used, by one's own organization or by the customer that an operator names."""

    organization_id: UUID | None = None
    occurred_at: Moment | None = None


class CheaperModel(Answer):
    """The model of the same provider that costs least, and what it would save, in USD.

    It is priced for the same meters, takes as many tokens and is not deprecated: whether it is good
    enough you must try.
    """

    model: str
    price: str
    saving: str


class UsageEstimate(Answer):
    """What usage would cost, exactly, in USD; null: it cannot be rated, for this reason.

    cost, margin: what the provider takes, and what is left; only for an operator who names a
    customer.
    """

    price: str | None
    cost: str | None
    margin: str | None
    reason: str | None
    cheaper: CheaperModel | None


def _cheaper(row: Row) -> CheaperModel | None:
    if row["cheaper_model"] is None:
        return None
    return CheaperModel(
        model=row["cheaper_model"], price=row["cheaper_price_usd"], saving=row["saving_usd"]
    )


@router.post(
    "/v1/usage/estimate", responses=customer_refuses("body_too_large", "unsupported_media_type")
)
async def estimate_usage(
    request: EstimateUsageRequest, caller: Customer, database: Database = use(Database)
) -> UsageEstimate:
    """Tell what usage would cost, now or at another time, and whether a model costs less.

    Nothing is recorded or charged. Needs `read`; for a customer of an operator's, `admin`.
    """
    usage = request.row()
    row = await database.call_one(
        "estimate_usage",
        caller=caller,
        organization_id=usage.pop("organization_id", None),
        usage=usage,
    )
    return UsageEstimate(
        price=row["price_usd"],
        cost=row["cost_usd"],
        margin=row["margin_usd"],
        reason=row["review"],
        cheaper=_cheaper(row),
    )


class AuthorizeUsageRequest(Usage):
    """What a call to come uses at most, for whom, and until when its money is held.

    source and id are those of its event, if it is not to be called after the authorization.
    """

    organization_id: UUID
    source: Text | None = None
    id: Text | None = None
    passport_id: UUID | None = None
    expires_in_seconds: Annotated[int, Field(strict=True, ge=1, le=WEEK_SECONDS), WHOLE] = 600

    @model_validator(mode="after")
    def _check_name(self) -> Self:
        if (self.source is None) != (self.id is None):
            raise ValueError("source and id belong together")
        return self


class CaptureUsageRequest(_Served):
    """What was really used. What is not said is as it was authorized."""

    organization_id: UUID
    occurred_at: Moment | None = None


class ReleaseUsageRequest(Body):
    """Whose authorization it is."""

    organization_id: UUID


class Authorization(Answer):
    """Usage that was asked for before. Its hold has the same id, and is renewed as such.

    max_price: what quantities cost, exactly, in USD; held: what of it the wallet keeps, rounded up,
    less what may be owed. price: what was really used came to, once captured.
    """

    id: UUID
    organization_id: UUID
    status: Literal["open", "captured", "released", "expired"]
    source: str
    event_id: str
    feature: str
    provider: str | None = Field(validation_alias="provider_id")
    model: str | None
    passport_id: UUID | None
    quantities: dict[str, float]
    max_price: str = Field(validation_alias="max_price_usd")
    price: str | None = Field(validation_alias="price_usd")
    held: Usd = Field(validation_alias="held_micros")
    expires_at: AwareDatetime


def _answer(row: Row, response: Response) -> Authorization:
    mark_replayed(response, replayed=row["replayed"])
    return Authorization.model_validate(row["usage_authorization"])


@router.post(
    "/v1/usage/authorize",
    status_code=201,
    responses=writes(
        *["insufficient_credits", "debt_outstanding", "organization_not_found"],
        *["organization_closed", "usage_refused"],
    ),
)
async def authorize_usage(
    request: AuthorizeUsageRequest,
    caller: Customer,
    idempotency_key: IdempotencyKey,
    response: Response,
    database: Database = use(Database),
) -> Authorization:
    """Hold the price of the most that a call may use, before it is made. Needs `admin`.

    Refused is what would be rejected as an event, or could not be rated.
    """
    usage = request.row()
    row = await database.call_one(
        "authorize_usage",
        caller=caller,
        expires_in_seconds=usage.pop("expires_in_seconds"),
        usage=usage,
        idempotency_key=idempotency_key,
    )
    return _answer(row, response)


@router.post(
    "/v1/usage/authorizations/{authorization_id}/capture",
    responses=writes("authorization_not_found", "hold_closed", "usage_refused"),
)
async def capture_usage(
    authorization_id: UUID,
    request: CaptureUsageRequest,
    caller: Customer,
    idempotency_key: IdempotencyKey,
    response: Response,
    database: Database = use(Database),
) -> Authorization:
    """Record what was really used as an event, charge it, give the rest back. Needs `admin`.

    The call has happened: it is charged even if it came to more than was held, and what the money
    does not cover is owed; more than a billion dollars nobody owes (`debt_too_large`). It occurred
    when any event may have. Where its event was reported already, it is not charged again.
    """
    usage = request.row()
    row = await database.call_one(
        "capture_usage",
        caller=caller,
        organization_id=usage.pop("organization_id"),
        authorization_id=authorization_id,
        usage=usage,
        idempotency_key=idempotency_key,
    )
    return _answer(row, response)


@router.post(
    "/v1/usage/authorizations/{authorization_id}/release",
    responses=writes("authorization_not_found", "hold_closed"),
)
async def release_usage(
    authorization_id: UUID,
    request: ReleaseUsageRequest,
    caller: Customer,
    idempotency_key: IdempotencyKey,
    response: Response,
    database: Database = use(Database),
) -> Authorization:
    """Give back what is held for a call that was not made. Needs `admin`."""
    row = await database.call_one(
        "release_usage",
        caller=caller,
        organization_id=request.organization_id,
        authorization_id=authorization_id,
        idempotency_key=idempotency_key,
    )
    return _answer(row, response)


@router.get(
    "/v1/usage/authorizations/{authorization_id}",
    responses=customer_refuses("authorization_not_found"),
)
async def get_usage_authorization(
    authorization_id: UUID,
    caller: Customer,
    customer_id: CustomerId = None,
    database: Database = use(Database),
) -> Authorization:
    """Tell what became of an authorization. Needs `read`."""
    row = await database.call_one(
        "get_usage_authorization",
        caller=caller,
        organization_id=customer_id,
        authorization_id=authorization_id,
    )
    return Authorization.model_validate(row)
