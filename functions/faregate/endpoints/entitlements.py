"""Entitlements: what a plan includes, how much of it is left, and what usage may cost."""

from typing import Annotated, Any, Literal, Self
from uuid import UUID

from fastapi import Query, Response
from pydantic import AwareDatetime, Field, StrictBool, StringConstraints, model_validator

from faregate.backends.database import Database
from faregate.backends.tokens import UserTokens
from faregate.caller import Customer
from faregate.contract import WHOLE, CustomerId, Note, PlanId, customer_refuses
from faregate.function import Answer, Body, new_router, use
from faregate.meters import Feature as FeatureId
from faregate.meters import Meter
from faregate.money import GivenAmount, Usd

router = new_router("entitlements")
backends = (Database, UserTokens)

Kind = Literal["boolean", "static", "metered"]
Period = Literal["day", "week", "month", "ever"]
Enforcement = Literal["hard", "soft", "none"]
Text = Annotated[str, StringConstraints(max_length=200)]
PassportId = Annotated[UUID | None, Query(description="Of the customer that an operator names.")]


class Terms(Body):
    """Whether a feature may be used; a static one's value; how much of a metered one.

    limit: so much of the meter in a period. hard: what is beyond it is rejected; soft: it is told;
    none: it is shown. Without a meter, there is no limit.
    """

    granted: StrictBool = True
    value: Text | int | float | bool | None = None
    meter: Meter | None = None
    period: Period | None = None
    limit: Annotated[int, Field(strict=True, ge=0, le=10**15), WHOLE] | None = None
    enforcement: Enforcement | None = None

    @model_validator(mode="after")
    def _check(self) -> Self:
        if len({each is None for each in (self.meter, self.period, self.limit)}) > 1:
            raise ValueError("meter, period and limit belong together")
        if self.enforcement and not self.meter:
            raise ValueError("enforcement is for a limit")
        return self

    def row(self) -> dict[str, Any]:
        """Give what SQL calls them."""
        return {
            "is_granted": self.granted,
            "value": self.value,
            "meter": self.meter,
            "period": self.period,
            "limit_quantity": self.limit,
            "enforcement": self.meter and (self.enforcement or "hard"),
        }


class SetFeatureRequest(Body):
    """A feature, and what plans say of it. A plan that is not named does not include it."""

    kind: Kind
    description: Note
    plans: Annotated[dict[PlanId, Terms], Field(max_length=32)]


class SetTermsRequest(Body):
    """A customer's own terms of a feature; null: those of their plan count again."""

    organization_id: UUID
    terms: Terms | None


class KnownTerms(Answer):
    """What is said of a feature."""

    granted: bool = Field(validation_alias="is_granted")
    value: str | int | float | bool | None
    meter: str | None
    period: Period | None
    limit: float | None = Field(validation_alias="limit_quantity")
    enforcement: Enforcement | None


class Feature(Answer):
    """A feature that is listed: who is not granted it does not have it."""

    id: str
    kind: Kind
    description: str
    plans: dict[str, KnownTerms]


class Features(Answer):
    """All features that are listed, by their id."""

    data: list[Feature]


class CustomerTerms(KnownTerms):
    """What is said of a feature to a customer, and whether these are terms of their own."""

    feature: str = Field(validation_alias="feature_id")
    kind: Kind
    organization_id: UUID
    is_own: bool


class Entitlement(Answer):
    """Whether a feature may be used now.

    reason: why not (`organization_closed`, `feature_not_granted`, `limit_reached`,
    `spend_cap_reached`, `debt_outstanding`, `insufficient_credits`). kind is null where nobody
    listed the feature: then it is open. resets_at: when the next period begins.
    """

    feature: str = Field(validation_alias="feature_id")
    kind: Kind | None
    allowed: bool = Field(validation_alias="is_allowed")
    reason: str | None
    value: str | int | float | bool | None
    meter: str | None
    used: float | None
    limit: float | None = Field(validation_alias="limit_quantity")
    remaining: float | None
    period: Period | None
    enforcement: Enforcement | None
    resets_at: AwareDatetime | None


class Entitlements(Answer):
    """Of every feature that is listed, whether it may be used now."""

    data: list[Entitlement]


class SetSpendCapRequest(Body):
    """What usage may cost in a period: an organization's, or one of its passports'.

    With organization_id an operator sets a cap that the customer cannot change.
    """

    organization_id: UUID | None = None
    passport_id: UUID | None = None
    period: Period
    cap: GivenAmount


class SpendCap(Answer):
    """What usage may cost in a period. The customer's own cap and an operator's both hold."""

    id: UUID
    passport_id: UUID | None
    period: Period
    cap: Usd = Field(validation_alias="cap_micros")
    is_operators: bool


class SpentCap(SpendCap):
    """A cap, and what of it is spent in the period that ends at resets_at."""

    spent: Usd = Field(validation_alias="spent_micros")
    resets_at: AwareDatetime | None


class SpentCaps(Answer):
    """All caps of an organization."""

    data: list[SpentCap]


@router.get("/v1/features", responses=customer_refuses())
async def list_features(caller: Customer, database: Database = use(Database)) -> Features:
    """List features and what each plan says of them. Needs `admin`."""
    rows = await database.call("list_features", caller=caller)
    return Features(data=[Feature.model_validate(row) for row in rows])


@router.put(
    "/v1/features/{feature}",
    responses=customer_refuses(
        *["plan_unknown", "terms_not_of_kind", "body_too_large", "unsupported_media_type"]
    ),
)
async def set_feature(
    feature: FeatureId,
    request: SetFeatureRequest,
    caller: Customer,
    database: Database = use(Database),
) -> Feature:
    """List a feature, or change it: from now on those have it who are granted it. Needs `admin`.

    A feature that is not listed is open to all.
    """
    row = await database.call_one(
        "set_feature",
        caller=caller,
        feature_id=feature,
        kind=request.kind,
        description=request.description,
        plans={plan: terms.row() for plan, terms in request.plans.items()},
    )
    return Feature.model_validate(row)


@router.delete("/v1/features/{feature}", status_code=204, responses=customer_refuses())
async def delete_feature(
    feature: FeatureId, caller: Customer, database: Database = use(Database)
) -> Response:
    """List a feature no more: it is open to all. Needs `admin`."""
    await database.call("delete_feature", caller=caller, feature_id=feature)
    return Response(status_code=204)


@router.put(
    "/v1/features/{feature}/terms",
    responses=customer_refuses(
        *["feature_not_found", "terms_not_of_kind", "organization_closed"],
        *["body_too_large", "unsupported_media_type"],
    ),
)
async def set_entitlement(
    feature: FeatureId,
    request: SetTermsRequest,
    caller: Customer,
    database: Database = use(Database),
) -> CustomerTerms:
    """Give a customer terms of their own, which count instead of their plan's. Needs `admin`."""
    row = await database.call_one(
        "set_entitlement",
        caller=caller,
        organization_id=request.organization_id,
        feature_id=feature,
        terms=request.terms.row() if request.terms else None,
    )
    return CustomerTerms.model_validate(row)


@router.get("/v1/entitlements", responses=customer_refuses())
async def list_entitlements(
    caller: Customer,
    customer_id: CustomerId = None,
    passport_id: PassportId = None,
    database: Database = use(Database),
) -> Entitlements:
    """Tell of every feature that is listed whether it may be used now. Needs `read`."""
    rows = await database.call(
        "check_entitlement",
        caller=caller,
        organization_id=customer_id,
        passport_id=passport_id,
        feature_id=None,
        quantity=None,
    )
    return Entitlements(data=[Entitlement.model_validate(row) for row in rows])


@router.get("/v1/entitlements/{feature}", responses=customer_refuses())
async def check_entitlement(
    feature: FeatureId,
    caller: Customer,
    quantity: Annotated[
        int | None, Query(ge=0, le=10**15, description="So much of its meter; without: any.")
    ] = None,
    customer_id: CustomerId = None,
    passport_id: PassportId = None,
    database: Database = use(Database),
) -> Entitlement:
    """Tell whether a feature may be used now, how much of it is left, and why not. Needs `read`.

    It reserves nothing: of two who were told yes, the second may be rejected.
    """
    row = await database.call_one(
        "check_entitlement",
        caller=caller,
        organization_id=customer_id,
        passport_id=passport_id,
        feature_id=feature,
        quantity=quantity,
    )
    return Entitlement.model_validate(row)


@router.get("/v1/spend-caps", responses=customer_refuses())
async def list_spend_caps(
    caller: Customer, customer_id: CustomerId = None, database: Database = use(Database)
) -> SpentCaps:
    """List the caps on what usage costs, and what of each is spent. Needs `read`."""
    rows = await database.call("list_spend_caps", caller=caller, organization_id=customer_id)
    return SpentCaps(data=[SpentCap.model_validate(row["cap"] | row) for row in rows])


@router.put(
    "/v1/spend-caps",
    responses=customer_refuses(
        *["passport_not_found", "organization_closed"],
        *["body_too_large", "unsupported_media_type"],
    ),
)
async def set_spend_cap(
    request: SetSpendCapRequest, caller: Customer, database: Database = use(Database)
) -> SpendCap:
    """Cap what usage costs in a period, for one passport or for all. Needs `billing`."""
    row = await database.call_one(
        "set_spend_cap",
        caller=caller,
        organization_id=request.organization_id,
        passport_id=request.passport_id,
        period=request.period,
        cap_micros=request.cap,
    )
    return SpendCap.model_validate(row)


@router.delete(
    "/v1/spend-caps/{spend_cap_id}",
    status_code=204,
    responses=customer_refuses("spend_cap_not_found", "organization_closed"),
)
async def delete_spend_cap(
    spend_cap_id: UUID,
    caller: Customer,
    customer_id: CustomerId = None,
    database: Database = use(Database),
) -> Response:
    """End a cap on what usage costs. Needs `billing`."""
    await database.call(
        "delete_spend_cap", caller=caller, organization_id=customer_id, cap_id=spend_cap_id
    )
    return Response(status_code=204)
