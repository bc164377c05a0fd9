"""Credits: the balance, the ledger, prices, and buying more."""

from decimal import Decimal
from typing import Annotated, Literal
from uuid import UUID

from fastapi import Path, Query, Request, Response
from pydantic import AwareDatetime, Field, PlainSerializer, WithJsonSchema

from faregate.backends.database import Database, Row
from faregate.backends.stripe import Checkouts
from faregate.backends.tokens import UserTokens
from faregate.caller import Customer
from faregate.contract import (
    Cursor,
    IdempotencyKey,
    Limit,
    Page,
    Transaction,
    Wallet,
    customer_refuses,
    mark_replayed,
    page,
    writes,
)
from faregate.function import Answer, Body, new_router, use
from faregate.money import MICROS_PER_USD, PaymentAmount, Usd

router = new_router("credits")
backends = (Database, UserTokens, Checkouts)


class Balance(Wallet):
    """A balance in USD and what of it can be spent in credits, the display unit."""

    available_credits: str


class Draw(Answer):
    """What one grant paid of a transaction."""

    grant_id: UUID
    amount: Usd = Field(validation_alias="amount_micros")


Quantity = Annotated[
    Decimal,
    PlainSerializer(lambda value: format(value, "f"), return_type=str),
    WithJsonSchema({"type": "string", "examples": ["2.5"]}, mode="serialization"),
]


class Estimate(Answer):
    """What a quantity of a SKU costs on the caller's plan."""

    sku: str
    unit: str
    quantity: Quantity
    unit_price: Usd = Field(validation_alias="unit_price_micros")
    cost: Usd = Field(validation_alias="cost_micros")
    available: Usd = Field(validation_alias="available_micros")
    affordable: bool


class CheckoutRequest(Body):
    """How much to buy, in USD. save_card: automatic top-ups may charge the card that pays."""

    amount: PaymentAmount
    save_card: Annotated[bool, Field(strict=True)] = False


class TopUp(Answer):
    """A purchase of credits: pay a checkout at checkout_url; paid when the provider says so."""

    id: UUID
    amount: Usd = Field(validation_alias="amount_micros")
    bonus: Usd = Field(validation_alias="bonus_micros")
    kind: Literal["checkout", "automatic"]
    status: str
    checkout_url: str | None
    created_at: AwareDatetime
    paid_at: AwareDatetime | None


@router.get("/v1/credits", responses=customer_refuses())
async def get_balance(
    request: Request, caller: Customer, database: Database = use(Database)
) -> Balance:
    """Tell the balance. Needs `read`."""
    row = await database.call_one("get_wallet", caller=caller)
    credit_value: Decimal = request.app.state.settings.credit_value_usd
    available = Decimal(row["available_micros"]) / MICROS_PER_USD / credit_value
    return Balance.model_validate(row | {"available_credits": format(available, ".6f")})


@router.get("/v1/credits/transactions", responses=customer_refuses())
async def list_transactions(
    caller: Customer,
    limit: Limit = 50,
    cursor: Annotated[
        int | None, Query(ge=1, le=2**63 - 1, description="next_cursor of the page before.")
    ] = None,
    database: Database = use(Database),
) -> Page[Transaction]:
    """List the ledger, newest first. Needs `read`."""
    rows = await database.call("list_transactions", caller=caller, limit=limit + 1, cursor=cursor)
    return page(Transaction, rows, limit, key="sequence")


@router.get(
    "/v1/credits/transactions/{sequence}/draws",
    responses=customer_refuses("transaction_not_found"),
)
async def list_draws(
    sequence: Annotated[int, Path(ge=1, le=2**63 - 1)],
    caller: Customer,
    limit: Limit = 50,
    cursor: Cursor = None,
    database: Database = use(Database),
) -> Page[Draw]:
    """List the grants that paid a transaction, and how much each, newest first. Needs `read`."""
    rows = await database.call(
        "list_draws", caller=caller, sequence=sequence, limit=limit + 1, cursor=cursor
    )
    return page(Draw, rows, limit, key="grant_id")


@router.get(
    "/v1/credits/estimate", responses=customer_refuses("sku_not_found", "amount_out_of_bounds")
)
async def estimate_cost(
    caller: Customer,
    sku: Annotated[str, Query(max_length=64, pattern=r"^[a-z0-9_-]+(\.[a-z0-9_-]+)+$")],
    quantity: Annotated[
        str, Query(pattern=r"^[0-9]{1,9}(\.[0-9]{1,9})?$", description="In the SKU's unit.")
    ],
    database: Database = use(Database),
) -> Estimate:
    """Tell what a quantity of a SKU costs now, say 2.5 hours of `session.small`. Needs `read`."""
    row = await database.call_one(
        "estimate_cost", caller=caller, sku=sku, quantity=Decimal(quantity)
    )
    return Estimate.model_validate(row)


@router.post(
    "/v1/credits/checkout",
    status_code=201,
    responses=writes("amount_too_small", "organization_closed", "payment_provider_unavailable"),
)
async def checkout(
    request: CheckoutRequest,
    caller: Customer,
    idempotency_key: IdempotencyKey,
    response: Response,
    database: Database = use(Database),
    checkouts: Checkouts = use(Checkouts),
) -> TopUp:
    """Buy credits: answers the page to pay at. Needs `billing`."""
    row = await database.call_one(
        "create_top_up",
        caller=caller,
        amount_micros=request.amount,
        save_card=request.save_card,
        idempotency_key=idempotency_key,
    )
    mark_replayed(response, replayed=row["replayed"])
    top_up: Row = row["top_up"]
    if top_up["checkout_url"] is None:
        # Between two transactions, never inside one; repeated, it is the same checkout.
        checkout_session_id, checkout_url = await checkouts.create(
            organization_id=top_up["organization_id"],
            top_up_id=top_up["id"],
            amount_micros=top_up["amount_micros"],
            email=row["billing_email"],
            save_card=request.save_card,
            customer_id=row["customer_id"],
        )
        top_up = await database.call_one(
            "attach_checkout",
            organization_id=top_up["organization_id"],
            top_up_id=top_up["id"],
            checkout_session_id=checkout_session_id,
            checkout_url=checkout_url,
        )
    return TopUp.model_validate(top_up)


@router.get("/v1/credits/top-ups", responses=customer_refuses())
async def list_top_ups(
    caller: Customer,
    limit: Limit = 50,
    cursor: Cursor = None,
    database: Database = use(Database),
) -> Page[TopUp]:
    """List purchases of credits, newest first. Needs `read`."""
    rows = await database.call("list_top_ups", caller=caller, limit=limit + 1, cursor=cursor)
    return page(TopUp, rows, limit)


@router.get("/v1/credits/top-ups/{top_up_id}", responses=customer_refuses("top_up_not_found"))
async def get_top_up(
    top_up_id: UUID, caller: Customer, database: Database = use(Database)
) -> TopUp:
    """Tell how far a purchase of credits is. Needs `read`."""
    return TopUp.model_validate(
        await database.call_one("get_top_up", caller=caller, top_up_id=top_up_id)
    )
