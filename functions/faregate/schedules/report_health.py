"""Each minute: how far behind everything is, as one line of the log, for metrics and alerts."""

from fastapi import Depends

from faregate.backends.database import Database
from faregate.backends.tokens import InvokerTokens
from faregate.caller import invoker
from faregate.document import refuses
from faregate.function import Answer, new_router, use
from faregate.log import log

router = new_router("schedules")
backends = (Database, InvokerTokens)


class HealthReport(Answer):
    """What is late, stuck or disagrees; 0: nothing. Ages and lags are in seconds."""

    sweep_lag_seconds: int
    outbox_age_seconds: int
    stuck_outbox: int
    verify_differences: int
    open_discrepancies: int
    events_to_review: int
    missed_events: int
    lag_seconds: dict[str, int]


@router.post(
    "/schedules/report-health",
    dependencies=[Depends(invoker)],
    responses=refuses("unauthenticated", "invalid_token", "unavailable"),
)
async def report_health(database: Database = use(Database)) -> HealthReport:
    """Write what operators must know as a line of the log. Changes nothing."""
    report = HealthReport.model_validate(await database.call_one("report_health"))
    log("INFO", "health", **report.model_dump())
    return report
