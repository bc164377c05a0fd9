"""Each minute: grants whose time has come become money, money whose time is over goes."""

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


class GrantExpiry(Answer):
    """What a run did. more: its time was up before everything due was done."""

    started: int
    expired: int
    more: bool


@router.post(
    "/schedules/expire-grants",
    dependencies=[Depends(invoker)],
    responses=refuses("unauthenticated", "invalid_token", "unavailable"),
)
async def expire_grants(database: Database = use(Database)) -> GrantExpiry:
    """Start what is scheduled, then take what has expired. Safe to run twice or late."""
    deadline = monotonic() + BUDGET_SECONDS
    started = await run_in_chunks(database, "start_grants", deadline)
    # After them: one may have come and gone while nobody looked.
    expired = await run_in_chunks(database, "expire_grants", deadline)
    return GrantExpiry(
        started=started.counts["started"],
        expired=expired.counts["expired"],
        more=started.more or expired.more,
    )
