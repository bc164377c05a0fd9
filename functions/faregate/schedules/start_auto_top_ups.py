"""Each minute: begin the automatic top-ups of balances below their threshold; tell the queue."""

from time import monotonic

from fastapi import Depends

from faregate.backends.database import Database
from faregate.backends.tasks import Tasks
from faregate.backends.tokens import InvokerTokens
from faregate.caller import invoker
from faregate.chunks import BUDGET_SECONDS, run_in_chunks
from faregate.document import refuses
from faregate.function import Answer, new_router, use
from faregate.outbox import enqueue

router = new_router("schedules")
backends = (Database, InvokerTokens, Tasks)


class AutoTopUpStart(Answer):
    """What a run did. more: its time was up before everything due was begun."""

    started: int
    enqueued: int
    more: bool


@router.post(
    "/schedules/start-auto-top-ups",
    dependencies=[Depends(invoker)],
    responses=refuses("unauthenticated", "invalid_token", "unavailable"),
)
async def start_auto_top_ups(
    database: Database = use(Database), tasks: Tasks = use(Tasks)
) -> AutoTopUpStart:
    """Begin what is due, once. Safe to run twice or late."""
    deadline = monotonic() + BUDGET_SECONDS
    run = await run_in_chunks(database, "start_auto_top_ups", deadline)
    return AutoTopUpStart(
        started=run.counts["started"],
        enqueued=await enqueue(database, tasks, "charge_top_up", deadline),
        more=run.more,
    )
