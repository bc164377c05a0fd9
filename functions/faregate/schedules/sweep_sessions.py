"""Each minute: charge and renew the sessions that are due, tell the queue which ends are known."""

import asyncio
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

CHUNK_SESSIONS = 1000
CONCURRENCY = 2


class Sweep(Answer):
    """What a run did. more: its time was up before everything due was swept."""

    swept: int
    closed: int
    enqueued: int
    more: bool


@router.post(
    "/schedules/sweep-sessions",
    dependencies=[Depends(invoker)],
    responses=refuses("unauthenticated", "invalid_token", "unavailable"),
)
async def sweep_sessions(database: Database = use(Database), tasks: Tasks = use(Tasks)) -> Sweep:
    """Sweep until nothing is due. Safe to run twice, late, or beside a stop."""
    deadline = monotonic() + BUDGET_SECONDS
    sweeps = (
        run_in_chunks(database, "sweep_sessions", deadline, CHUNK_SESSIONS)
        for _ in range(CONCURRENCY)
    )
    runs = await asyncio.gather(*sweeps)
    return Sweep(
        swept=sum(run.counts["swept"] for run in runs),
        closed=sum(run.counts["closed"] for run in runs),
        enqueued=await enqueue(database, tasks, "stop_session", deadline),
        more=all(run.more for run in runs),
    )
