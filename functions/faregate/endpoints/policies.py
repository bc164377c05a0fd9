"""Policies: rules of the operators about calls and spending, and what they would do."""

from typing import Annotated, Literal, Self
from uuid import UUID

from fastapi import Body as JsonBody
from fastapi import Response
from pydantic import (
    AfterValidator,
    AwareDatetime,
    Field,
    IPvAnyAddress,
    StringConstraints,
    model_validator,
)

from faregate.backends.database import Database, Row
from faregate.backends.tokens import UserTokens
from faregate.caller import Caller, Customer
from faregate.contract import (
    WHOLE,
    Cursor,
    IdempotencyKey,
    Limit,
    Moment,
    Note,
    Page,
    Permission,
    PlanId,
    Tier,
    customer_refuses,
    mark_replayed,
    page,
    writes,
)
from faregate.function import Answer, Body, new_router, use
from faregate.meters import Feature
from faregate.money import GivenAmount, Usd

router = new_router("policies")
backends = (Database, UserTokens)
Action = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z_]{1,62}$")]
CallerName = Annotated[
    str, StringConstraints(pattern=r"^(passport|user):[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$")
]
Hour = Annotated[int, Field(strict=True, ge=0, le=23), WHOLE]
Weekday = Annotated[int, Field(strict=True, ge=1, le=7), WHOLE]
Effect = Literal["allow", "deny", "limit"]
LimitPer = Literal["passport", "organization", "ip"]


def _check_once(values: list[object]) -> list[object]:
    if len(set(values)) < len(values):
        raise ValueError("must name each value once")
    return values


_SOME = Field(min_length=1, max_length=100, json_schema_extra={"uniqueItems": True})
_ONCE = AfterValidator(_check_once)


class AmountRange(Body):
    """More than `above`, and not more than `up_to`."""

    above: GivenAmount | None = Field(None, serialization_alias="above_micros")
    up_to: GivenAmount | None = Field(None, serialization_alias="up_to_micros")

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.above is not None and self.up_to is not None and self.above >= self.up_to:
            raise ValueError("up_to must be more than above")
        return self


class Match(Body):
    """What a call must be: of each that is given, one of these. Hours and weekdays are of UTC.

    action: the name that the audit log has for it. weekday: 1 is Monday. amount: what is spent or
    held at once.
    """

    organization: Annotated[list[UUID], _SOME, _ONCE] | None = None
    plan: Annotated[list[PlanId], _SOME, _ONCE] | None = None
    permission: Annotated[list[Permission], _SOME, _ONCE] | None = None
    action: Annotated[list[Action], _SOME, _ONCE] | None = None
    caller: Annotated[list[CallerName], _SOME, _ONCE] | None = None
    feature: Annotated[list[Feature], _SOME, _ONCE] | None = None
    tier: Annotated[list[Tier], _SOME, _ONCE] | None = None
    hour: Annotated[list[Hour], _SOME, _ONCE] | None = None
    weekday: Annotated[list[Weekday], _SOME, _ONCE] | None = None
    amount: AmountRange | None = None


class _Rule(Body):
    priority: Annotated[int, Field(strict=True, ge=0, le=32_767), WHOLE] = 100
    description: Note
    match: Match = Match()
    is_enabled: Annotated[bool, Field(strict=True)] = True


class DecidingRule(_Rule):
    """A rule that refuses, or after which no other is asked. A lower priority is asked first."""

    effect: Literal["allow", "deny"]


class LimitingRule(_Rule):
    """A rule that takes a token: a bucket holds `capacity`, of which some come back in time."""

    effect: Literal["limit"]
    limit_per: LimitPer
    capacity: Annotated[int, Field(strict=True, ge=1, le=1_000_000), WHOLE]
    refill: Annotated[int, Field(strict=True, ge=1, le=1_000_000), WHOLE]
    refill_seconds: Annotated[int, Field(strict=True, ge=1, le=31 * 86_400), WHOLE]


Rule = DecidingRule | LimitingRule


class EvaluateRequest(Body):
    """A call as it might be, of which anything may be left out, and a rule that is not saved."""

    organization_id: UUID | None = None
    plan: PlanId | None = None
    permission: Permission | None = None
    action: Action | None = None
    caller: CallerName | None = None
    ip: IPvAnyAddress | None = None
    at: Moment | None = None
    tier: Tier | None = None
    feature: Feature | None = None
    amount: GivenAmount | None = Field(None, serialization_alias="amount_micros")
    rule: Annotated[Rule, Field(discriminator="effect")] | None = None


class ShownRange(Answer):
    """More than `above`, and not more than `up_to`."""

    above: Usd | None = Field(None, validation_alias="above_micros")
    up_to: Usd | None = Field(None, validation_alias="up_to_micros")


class ShownMatch(Answer):
    """What a call must be: of each that is not null, one of these."""

    organization: list[UUID] | None = None
    plan: list[str] | None = None
    permission: list[Permission] | None = None
    action: list[str] | None = None
    caller: list[str] | None = None
    feature: list[str] | None = None
    tier: list[Tier] | None = None
    hour: list[int] | None = None
    weekday: list[int] | None = None
    amount: ShownRange | None = None


class Policy(Answer):
    """A rule. limit_per and what follows it are of one that limits."""

    id: UUID
    priority: int
    description: str
    match: ShownMatch
    effect: Effect
    limit_per: LimitPer | None
    capacity: int | None
    refill: int | None
    refill_seconds: int | None
    is_enabled: bool
    created_by: str
    created_at: AwareDatetime


class EvaluatedPolicy(Answer):
    """A rule that matched, and its part. policy_id is null for the one that is not saved.

    outcome: `takes` a token and `limits` for want of one; `moot`: another has decided. tokens: what
    is left in the bucket then. asked: of the call when it is authenticated, or of its spending.
    """

    policy_id: UUID | None
    description: str
    effect: Effect
    asked: Literal["call", "spending"]
    outcome: Literal["denies", "allows", "takes", "limits", "moot"]
    tokens: int | None
    retry_after_seconds: int | None


class Evaluation(Answer):
    """Whether the call would pass, and all rules that match it, in the order they are asked in."""

    is_let_pass: bool
    code: Literal["policy_denied", "rate_limited"] | None
    policies: list[EvaluatedPolicy]


def _answer(row: Row, response: Response) -> Policy:
    mark_replayed(response, replayed=row["replayed"])
    return Policy.model_validate(row["policy"])


@router.post("/v1/policies", status_code=201, responses=writes("plan_unknown", "action_unknown"))
async def create_policy(
    request: Annotated[Rule, JsonBody(discriminator="effect")],
    caller: Customer,
    idempotency_key: IdempotencyKey,
    response: Response,
    database: Database = use(Database),
) -> Policy:
    """Make a rule, which is asked from the next call on. Needs `admin`."""
    row = await database.call_one(
        "create_policy", caller=caller, rule=_told(request), idempotency_key=idempotency_key
    )
    return _answer(row, response)


def _told(told: Body) -> Row:
    """Give what a request says as SQL has it: amounts in µ$, and nothing of what it leaves out."""
    return told.model_dump(mode="json", by_alias=True, exclude_none=True)


@router.get("/v1/policies", responses=customer_refuses())
async def list_policies(
    caller: Customer,
    limit: Limit = 50,
    cursor: Cursor = None,
    database: Database = use(Database),
) -> Page[Policy]:
    """List the rules, newest first. Needs `admin`."""
    rows = await database.call("list_policies", caller=caller, limit=limit + 1, cursor=cursor)
    return page(Policy, rows, limit)


@router.post(
    "/v1/policies/evaluate",
    responses=customer_refuses(
        *["plan_unknown", "action_unknown", "body_too_large", "unsupported_media_type"]
    ),
)
async def evaluate_policies(
    request: EvaluateRequest, caller: Customer, database: Database = use(Database)
) -> Evaluation:
    """Tell what the rules would do with a call, without taking anything. Needs `admin`."""
    facts = _told(request)
    rows = await database.call(
        "evaluate_policies", caller=caller, draft=facts.pop("rule", None), facts=facts
    )
    codes = {"denies": "policy_denied", "limits": "rate_limited"}
    code = next((codes[row["outcome"]] for row in rows if row["outcome"] in codes), None)
    return Evaluation.model_validate({"is_let_pass": code is None, "code": code, "policies": rows})


@router.get("/v1/policies/{policy_id}", responses=customer_refuses("policy_not_found"))
async def get_policy(
    policy_id: UUID, caller: Customer, database: Database = use(Database)
) -> Policy:
    """Read a rule. Needs `admin`."""
    return Policy.model_validate(
        await database.call_one("get_policy", caller=caller, policy_id=policy_id)
    )


@router.post("/v1/policies/{policy_id}/enable", responses=writes("policy_not_found"))
async def enable_policy(
    policy_id: UUID,
    caller: Customer,
    idempotency_key: IdempotencyKey,
    response: Response,
    database: Database = use(Database),
) -> Policy:
    """Have a rule asked from the next call on. Needs `admin`."""
    row = await _set_enabled(database, caller, policy_id, idempotency_key, is_enabled=True)
    return _answer(row, response)


@router.post("/v1/policies/{policy_id}/disable", responses=writes("policy_not_found"))
async def disable_policy(
    policy_id: UUID,
    caller: Customer,
    idempotency_key: IdempotencyKey,
    response: Response,
    database: Database = use(Database),
) -> Policy:
    """Have a rule asked no more; its buckets stay as they are. Needs `admin`."""
    row = await _set_enabled(database, caller, policy_id, idempotency_key, is_enabled=False)
    return _answer(row, response)


async def _set_enabled(
    database: Database, caller: Caller, policy_id: UUID, idempotency_key: str, *, is_enabled: bool
) -> Row:
    return await database.call_one(
        "set_policy_enabled",
        caller=caller,
        policy_id=policy_id,
        is_enabled=is_enabled,
        idempotency_key=idempotency_key,
    )


@router.delete(
    "/v1/policies/{policy_id}", status_code=204, responses=customer_refuses("policy_not_found")
)
async def delete_policy(
    policy_id: UUID, caller: Customer, database: Database = use(Database)
) -> Response:
    """Delete a rule and its buckets; the audit log keeps what it said. Needs `admin`."""
    await database.call("delete_policy", caller=caller, policy_id=policy_id)
    return Response(status_code=204)
