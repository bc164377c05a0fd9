"""Each minute: usage events that came in are added to the sums of their days."""

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

# A second's work: whoever charges a reviewed event waits for it, and nobody else.
_CHUNK_EVENTS = 20_000


class Folding(Answer):
    """What a run did. more: its time was up before all that had come was folded."""

    folded: int
    more: bool


@router.post(
    "/schedules/fold-usage",
    dependencies=[Depends(invoker)],
    responses=refuses("unauthenticated", "invalid_token", "unavailable"),
)
async def fold_usage(database: Database = use(Database)) -> Folding:
    """Fold what had come when it began. Reports are exact without it, too: it makes them fast."""
    deadline = monotonic() + BUDGET_SECONDS
    await database.call("start_folding")
    run = await run_in_chunks(database, "fold_usage", deadline, _CHUNK_EVENTS)
    return Folding(folded=run.counts["folded"], more=run.more)
