"""Each hour: charge and renew the storage that is due, take the steps where money has run out."""

import asyncio
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

CONCURRENCY = 2


class Accrual(Answer):
    """What a run did. more: its time was up before everything due was done."""

    accrued: int
    more: bool


@router.post(
    "/schedules/accrue-storage",
    dependencies=[Depends(invoker)],
    responses=refuses("unauthenticated", "invalid_token", "unavailable"),
)
async def accrue_storage(database: Database = use(Database)) -> Accrual:
    """Accrue until nothing is due. Safe to run twice, late, or beside a resize or deletion."""
    deadline = monotonic() + BUDGET_SECONDS
    accruals = (run_in_chunks(database, "accrue_storage", deadline) for _ in range(CONCURRENCY))
    runs = await asyncio.gather(*accruals)
    return Accrual(
        accrued=sum(run.counts["accrued"] for run in runs), more=all(run.more for run in runs)
    )
