"""An automatic top-up: charge the saved card once, and record what became of it."""

from typing import Literal
from uuid import UUID

from fastapi import Depends

from faregate.backends.database import Database
from faregate.backends.stripe import Charges
from faregate.backends.tokens import InvokerTokens
from faregate.caller import invoker
from faregate.document import refuses
from faregate.errors import FaregateError
from faregate.function import Answer, Body, new_router, use

router = new_router("tasks")
backends = (Database, InvokerTokens, Charges)

_UNFINISHED = ("pending", "processing")


class ChargeTopUpTask(Body):
    """What the outbox row said: which top-up."""

    task_id: UUID
    organization_id: UUID
    top_up_id: UUID


class Charged(Answer):
    """How the top-up stands now, which is final."""

    status: Literal["paid", "failed", "expired", "needs_review"]


@router.post(
    "/tasks/charge-top-up",
    dependencies=[Depends(invoker)],
    responses=refuses(
        *["invalid_request", "unauthenticated", "invalid_token", "top_up_not_found"],
        *["body_too_large", "unsupported_media_type", "unavailable"],
    ),
)
async def charge_top_up(
    task: ChargeTopUpTask,
    database: Database = use(Database),
    charges: Charges = use(Charges),
) -> Charged:
    """Charge a card for a top-up, or look up what became of it. Repeated, it is one charge."""
    row = await database.call_one("start_charge", **dict(task))
    if row["step"] != "nothing":
        # Between two transactions, never inside one.
        top_up_id, customer_id = str(task.top_up_id), row["customer_id"]
        if row["step"] == "charge":
            charge = await charges.charge(
                organization_id=str(task.organization_id),
                top_up_id=top_up_id,
                amount_micros=row["amount_micros"],
                customer_id=customer_id,
                payment_method_id=row["payment_method_id"],
            )
        else:
            charge = await charges.find(top_up_id=top_up_id, customer_id=customer_id)
        row = await database.call_one(
            "finish_charge", **dict(task), intent=charge.intent, refusal=charge.refusal
        )
    if row["status"] in _UNFINISHED:
        raise FaregateError("unavailable")
    return Charged.model_validate(row)
