"""Automatic top-ups: when the balance falls below a threshold, a saved card is charged."""

from typing import Annotated, Literal

from fastapi import Response
from pydantic import AwareDatetime, Field

from faregate.backends.database import Database
from faregate.backends.tokens import UserTokens
from faregate.caller import Customer
from faregate.contract import WHOLE, customer_refuses
from faregate.function import Answer, Body, new_router, use
from faregate.money import PaymentAmount, PositiveAmount, Usd

router = new_router("credits")
backends = (Database, UserTokens)


class SetAutoTopUpRequest(Body):
    """When to charge the saved card, and how much: not less than the threshold.

    At most monthly_cap in a month (UTC), and not again within cool_off_seconds.
    """

    threshold: PositiveAmount
    amount: PaymentAmount
    monthly_cap: PositiveAmount
    cool_off_seconds: Annotated[int, Field(strict=True, ge=60, le=2_678_400), WHOLE] = 3600


class AutoTopUp(Answer):
    """The settings, and how they stand. Paused, nothing is charged until they are set again.

    Capped, nothing is charged until the next month (UTC) or with a higher cap.
    """

    threshold: Usd = Field(validation_alias="threshold_micros")
    amount: Usd = Field(validation_alias="amount_micros")
    monthly_cap: Usd = Field(validation_alias="monthly_cap_micros")
    charged_this_month: Usd = Field(validation_alias="charged_this_month_micros")
    is_capped: bool
    cool_off_seconds: int
    status: Literal["active", "paused"]
    paused_reason: str | None
    last_top_up_at: AwareDatetime | None
    updated_at: AwareDatetime


@router.get("/v1/credits/auto-top-up", responses=customer_refuses("auto_top_up_not_found"))
async def get_auto_top_up(caller: Customer, database: Database = use(Database)) -> AutoTopUp:
    """Tell when the saved card is charged. Needs `billing`."""
    return AutoTopUp.model_validate(await database.call_one("get_auto_top_up", caller=caller))


@router.put(
    "/v1/credits/auto-top-up",
    responses=customer_refuses(
        *["amount_too_small", "amount_below_threshold", "monthly_cap_too_small", "no_saved_card"],
        *["organization_closed", "body_too_large", "unsupported_media_type"],
    ),
)
async def set_auto_top_up(
    request: SetAutoTopUpRequest, caller: Customer, database: Database = use(Database)
) -> AutoTopUp:
    """Have the saved card charged by itself from now on; what was paused goes on. Needs `billing`.

    A card is saved by a checkout with save_card.
    """
    row = await database.call_one(
        "set_auto_top_up",
        caller=caller,
        threshold_micros=request.threshold,
        amount_micros=request.amount,
        monthly_cap_micros=request.monthly_cap,
        cool_off_seconds=request.cool_off_seconds,
    )
    return AutoTopUp.model_validate(row)


@router.delete("/v1/credits/auto-top-up", status_code=204, responses=customer_refuses())
async def delete_auto_top_up(caller: Customer, database: Database = use(Database)) -> Response:
    """Have no card charged any more, unless a charge has begun. Needs `billing`."""
    await database.call("delete_auto_top_up", caller=caller)
    return Response(status_code=204)
