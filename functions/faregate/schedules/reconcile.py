"""Each day: what the provider lists, our payments and the ledger must say the same."""

from datetime import UTC, datetime, timedelta

from fastapi import Depends

from faregate.backends.database import Database
from faregate.backends.stripe import Lists
from faregate.backends.tokens import InvokerTokens
from faregate.caller import invoker
from faregate.document import refuses
from faregate.function import new_router, use
from faregate.reconciling import Run
from faregate.reconciling import reconcile as reconcile_window

router = new_router("schedules")
backends = (Database, InvokerTokens, Lists)

# A day that failed is made up for by the next two.
WINDOW = timedelta(days=3)
_SUNDAY = 6


@router.post(
    "/schedules/reconcile",
    dependencies=[Depends(invoker)],
    responses=refuses(
        "unauthenticated", "invalid_token", "payment_provider_unavailable", "unavailable"
    ),
)
async def reconcile(database: Database = use(Database), stripe: Lists = use(Lists)) -> Run:
    """Replay what was missed, note what disagrees, verify what has moved; on Sundays, everything.

    Safe to run twice, late, or beside webhooks.
    """
    now = datetime.now(UTC)  # the provider's clock, not the sandbox's
    run = await database.call_one(
        "start_scheduled_reconciliation", window_start=now - WINDOW, window_end=now
    )
    return await reconcile_window(database, stripe, run, is_full=now.weekday() == _SUNDAY)
