"""Reconciliation, for cron and for operators: the provider's lists, our payments, the ledger."""

from collections.abc import AsyncIterator, Iterable
from datetime import datetime
from typing import Any
from uuid import UUID

from pydantic import AwareDatetime, Field

from faregate.backends.database import Database, Row
from faregate.backends.stripe import Kind, Lists, StripePage
from faregate.function import Answer

# What was reversed before what was paid: so a payment's sums are complete when they are compared.
_KINDS: tuple[Kind, ...] = ("checkout.session", "refund", "dispute", "payment_intent")


class Run(Answer):
    """A run: how many objects of the provider it compared, how much news it replayed that no
    notification had brought, how many organizations it verified, how many discrepancies it saw.
    Unfinished: it goes on, or it failed.
    """

    id: UUID
    started_by: str
    from_: AwareDatetime | None = Field(validation_alias="window_start", serialization_alias="from")
    to: AwareDatetime | None = Field(validation_alias="window_end")
    status: str
    compared: int
    replayed: int
    verified: int
    discrepancies: int
    started_at: AwareDatetime
    finished_at: AwareDatetime | None


async def reconcile(database: Database, stripe: Lists, run: Row, *, is_full: bool) -> Run:
    """Do a whole run. Where it breaks off, what it did stays done and the run unfinished.

    Raises FaregateError: payment_provider_unavailable, unavailable.
    """
    run_id = UUID(run["id"])
    try:
        await _compare(database, stripe, run)
    finally:
        # The ledger can be proved without the provider, too.
        async for _ in verify(database, run_id, is_full=is_full):
            pass
    return await finish(database, run_id)


async def verify(database: Database, run_id: UUID, *, is_full: bool) -> AsyncIterator[Row]:
    """Verify the ledger as a part of a run, some organizations at a time."""
    after: UUID | None = None
    while parts := await database.call(
        "verify_next", reconciliation_id=run_id, after=after, is_full=is_full
    ):
        (part,) = parts
        after = UUID(part["next_after"])
        yield part


async def finish(database: Database, run_id: UUID) -> Run:
    """End a run that has looked at everything."""
    return Run.model_validate(
        await database.call_one("finish_reconciliation", reconciliation_id=run_id)
    )


async def _compare(database: Database, stripe: Lists, run: Row) -> None:
    since, until = (_second(run[name]) for name in ("window_start", "window_end"))
    async for page in stripe.pages("event", since, until):
        await _replay_missed(database, stripe, run, page)
    payments: list[str] = []
    for kind in _KINDS:
        async for page in stripe.pages(kind, since, until):
            if kind == "payment_intent":
                payments += [each["id"] for each in page["data"]]
            differing = await database.call(
                "compare_stripe",
                reconciliation_id=run["id"],
                page=page,
                live_mode=stripe.live_mode,
            )
            await _look(database, stripe, run, differing)
    unlisted = await database.call(
        "list_unlisted_payments", window_start=run["window_start"], listed=payments
    )
    await _look(database, stripe, run, unlisted)
    unseen = await database.call("list_unseen_discrepancies", reconciliation_id=run["id"])
    await _look(database, stripe, run, unseen)


async def _replay_missed(database: Database, stripe: Lists, run: Row, page: StripePage) -> None:
    """Receive the events that never arrived. Stripe keeps them for thirty days."""
    events = {each["id"]: each for each in page["data"]}
    for missed in await database.call("list_missed_events", ids=list(events)):
        await database.call_one(
            "replay_stripe_event",
            reconciliation_id=run["id"],
            event=events[missed],
            live_mode=stripe.live_mode,
        )


async def _look(database: Database, stripe: Lists, run: Row, subjects: Iterable[Any]) -> None:
    """Ask for each subject alone: a page is older than the news that came while it was read."""
    for subject in subjects:
        page, told_at = await stripe.find(subject)
        await database.call_one(
            "reconcile_stripe",
            reconciliation_id=run["id"],
            subject=subject,
            page=page,
            live_mode=stripe.live_mode,
            told_at=told_at,
        )


def _second(moment: str) -> int:
    return int(datetime.fromisoformat(moment).timestamp())
