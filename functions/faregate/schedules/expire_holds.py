"""Each minute: holds that nobody captured or released in time give their money back."""

from time import monotonic

from fastapi import Depends

from faregate.backends.database import Database
from faregate.backends.tokens import InvokerTokens
from faregate.caller import invoker
from faregate.chunks import BUDGET_SECONDS, run_in_chunks
from faregate.document import refuses
from faregate.function import Answer, new_router, use

router = new_router("schedules")
backends = (Database, InvokerTokens)


class HoldExpiry(Answer):
    """What a run did. more: its time was up before everything due was done."""

    expired: int
    more: bool


@router.post(
    "/schedules/expire-holds",
    dependencies=[Depends(invoker)],
    responses=refuses("unauthenticated", "invalid_token", "unavailable"),
)
async def expire_holds(database: Database = use(Database)) -> HoldExpiry:
    """Free what leaked. Safe to run twice, late, or beside a capture."""
    run = await run_in_chunks(database, "expire_holds", monotonic() + BUDGET_SECONDS)
    return HoldExpiry(expired=run.counts["expired"], more=run.more)
