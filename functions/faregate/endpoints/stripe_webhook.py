"""Stripe's notifications: stored, then acted on, in one call; answered after it committed."""

from typing import Annotated

from fastapi import Header, Request

from faregate.backends.database import Database
from faregate.backends.stripe_webhook import StripeWebhook
from faregate.document import refuses
from faregate.function import Answer, new_router, use
from faregate.request import read_body

router = new_router("stripe")
backends = (Database, StripeWebhook)


class Receipt(Answer):
    """What a notification did."""

    outcome: str
    duplicate: bool


@router.post(
    "/v1/stripe/webhook",
    responses=refuses("invalid_request", "invalid_signature", "body_too_large", "unavailable"),
)
async def stripe_webhook(
    request: Request,
    stripe_signature: Annotated[str, Header(max_length=8192)] = "",
    database: Database = use(Database),
    webhook: StripeWebhook = use(StripeWebhook),
) -> Receipt:
    """Take a notification of Stripe, which its signature over the raw body proves to be one."""
    event = webhook.event(await read_body(request), stripe_signature)
    row = await database.call_one(
        "receive_stripe_event",
        event=event,
        account=webhook.account_id,
        live_mode=webhook.live_mode,
    )
    return Receipt.model_validate(row)
