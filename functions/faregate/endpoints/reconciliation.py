"""Reconciliation for operators: runs on demand, what disagrees, the proof of the ledger."""

from datetime import UTC, datetime, timedelta
from typing import Annotated, Literal, Self
from uuid import UUID

from fastapi import Query
from pydantic import AwareDatetime, Field, model_validator

from faregate.backends.database import Database
from faregate.backends.stripe import Lists
from faregate.backends.tokens import UserTokens
from faregate.caller import Customer
from faregate.contract import Cursor, Limit, Moment, Page, customer_refuses, page
from faregate.function import Answer, Body, new_router, use
from faregate.money import Usd
from faregate.reconciling import Run, finish, reconcile, verify

router = new_router("reconciliation")
backends = (Database, UserTokens, Lists)

_USUAL = timedelta(days=3)
_LONGEST = timedelta(days=90)
_SHOWN_DIFFERENCES = 100

Full = Annotated[
    bool,
    Field(strict=True, description="Recompute everything, not only what has moved."),
]


class ReconciliationRequest(Body):
    """What was made between two moments, at most 90 days apart: by itself the last three days."""

    from_: Moment | None = Field(None, alias="from")
    to: Moment | None = None
    full: Full = False

    @model_validator(mode="after")
    def _is_a_window(self) -> Self:
        since, until = self.window
        if not timedelta(0) < until - since <= _LONGEST:
            raise ValueError("`from` must be before `to`, and at most 90 days")
        return self

    @property
    def window(self) -> tuple[datetime, datetime]:
        """Give both ends."""
        until = self.to or datetime.now(UTC)
        return self.from_ or until - _USUAL, until


class VerificationRequest(Body):
    """Whose ledger to verify: one organization's, whole, or by itself everybody's."""

    organization_id: UUID | None = None
    full: Full = False


class Difference(Answer):
    """A rule of the ledger that does not hold. A rule that counts does so in millionths."""

    organization_id: UUID
    rule: str
    subject: str | None
    expected: Usd
    found: Usd


class Verification(Answer):
    """What a verification found; `differences` are the first hundred."""

    organizations: int
    transfers: int
    difference_count: int
    differences: list[Difference]


class Discrepancy(Answer):
    """Where two sides disagree.

    expected is what the provider says (null: not in whole cents of USD, see note), or of the
    ledger what its transfers add up to; found is what our books say.
    """

    id: UUID
    kind: str
    status: Literal["open", "resolved"]
    organization_id: UUID | None
    subject: str
    ledger_rule: str | None
    expected: Usd | None = Field(validation_alias="expected_micros")
    found: Usd | None = Field(validation_alias="found_micros")
    difference: Usd | None = Field(validation_alias="difference_micros")
    note: str | None
    age_seconds: int
    first_seen_at: AwareDatetime
    last_seen_at: AwareDatetime
    resolved_at: AwareDatetime | None


@router.post(
    "/v1/reconciliation",
    responses=customer_refuses(
        "body_too_large", "unsupported_media_type", "payment_provider_unavailable"
    ),
)
async def start_reconciliation(
    request: ReconciliationRequest,
    caller: Customer,
    database: Database = use(Database),
    stripe: Lists = use(Lists),
) -> Run:
    """Reconcile now. Repeat it as you like: what agrees is left as it is. Needs `admin`."""
    since, until = request.window
    run = await database.call_one(
        "start_reconciliation", caller=caller, window_start=since, window_end=until
    )
    return await reconcile(database, stripe, run, is_full=request.full)


@router.get("/v1/reconciliation", responses=customer_refuses())
async def list_reconciliations(
    caller: Customer,
    limit: Limit = 50,
    cursor: Cursor = None,
    database: Database = use(Database),
) -> Page[Run]:
    """List runs, newest first. Needs `admin`."""
    rows = await database.call(
        "list_reconciliations", caller=caller, limit=limit + 1, cursor=cursor
    )
    return page(Run, rows, limit)


@router.get("/v1/reconciliation/discrepancies", responses=customer_refuses())
async def list_discrepancies(
    caller: Customer,
    status: Annotated[
        Literal["open", "resolved"] | None, Query(description="By itself both.")
    ] = None,
    limit: Limit = 50,
    cursor: Cursor = None,
    database: Database = use(Database),
) -> Page[Discrepancy]:
    """List where two sides disagree, newest first. Needs `admin`."""
    rows = await database.call(
        "list_discrepancies", caller=caller, status=status, limit=limit + 1, cursor=cursor
    )
    return page(Discrepancy, rows, limit)


@router.post(
    "/v1/reconciliation/verify",
    responses=customer_refuses("body_too_large", "unsupported_media_type"),
)
async def verify_ledger(
    request: VerificationRequest, caller: Customer, database: Database = use(Database)
) -> Verification:
    """Recompute the ledger from its transfers. It changes nothing. Needs `admin`."""
    run = await database.call_one(
        "start_reconciliation", caller=caller, window_start=None, window_end=None
    )
    run_id = UUID(run["id"])
    if request.organization_id is not None:
        parts = await database.call(
            "verify_organization", reconciliation_id=run_id, organization_id=request.organization_id
        )
    else:
        parts = [part async for part in verify(database, run_id, is_full=request.full)]
    await finish(database, run_id)
    differences = [each for part in parts for each in part["differences"]]
    return Verification(
        organizations=sum(part["organizations"] for part in parts),
        transfers=sum(part["transfers"] for part in parts),
        difference_count=len(differences),
        differences=[Difference.model_validate(each) for each in differences[:_SHOWN_DIFFERENCES]],
    )
