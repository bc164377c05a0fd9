"""Amounts at the end of what the ledger carries, and money of other currencies."""

from collections.abc import Callable

import psycopg
import pytest

from tests.money.ledger import (
    DOLLAR,
    REGISTRATION_BONUS,
    Customer,
    Ledger,
    RefusedError,
    Row,
    checkout_event,
    new_key,
)

LARGEST = 10**15
END = 2**63 - 1


def _grant(ledger: Ledger, customer: Customer, micros: int) -> None:
    ledger.call_one(
        "create_grant",
        caller=ledger.create_operator().caller,
        organization_id=customer.id,
        amount_micros=micros,
        note="edge",
        priority=100,
        effective_at=None,
        expires_at=None,
        idempotency_key=new_key(),
    )


def _hold(ledger: Ledger, customer: Customer, micros: int) -> None:
    ledger.open_hold(customer, micros)


def _top_up(ledger: Ledger, customer: Customer, micros: int) -> None:
    ledger.ask_top_up(customer, micros)


def _estimate(ledger: Ledger, customer: Customer, quantity: int) -> None:
    ledger.call(
        "estimate_cost", caller=customer.caller, sku="session.small", quantity=str(quantity)
    )


@pytest.mark.parametrize(
    ("act", "micros", "code"),
    [
        (_grant, LARGEST, "amount_out_of_bounds"),  # there is a bonus in the wallet already
        (_grant, LARGEST + 1, "amount_out_of_bounds"),
        (_grant, END, "amount_out_of_bounds"),
        (_grant, 0, "amount_out_of_bounds"),
        (_grant, -1, "amount_out_of_bounds"),
        (_hold, LARGEST, "insufficient_credits"),
        (_hold, END, "insufficient_credits"),
        (_top_up, 9_990_000, "amount_too_small"),
        (_top_up, 0, "amount_too_small"),
        (_top_up, -END, "amount_too_small"),
        (_estimate, END, "amount_out_of_bounds"),
    ],
)
def test_an_amount_beyond_the_edge_is_refused_by_name(
    ledger: Ledger, act: Callable[[Ledger, Customer, int], None], micros: int, code: str
) -> None:
    customer = ledger.register()
    with pytest.raises(RefusedError) as refusal:
        act(ledger, customer, micros)
    assert refusal.value.code == code
    assert ledger.wallet(customer)["settled_micros"] == REGISTRATION_BONUS
    assert ledger.differences() == []


def test_a_wallet_may_be_filled_to_the_brim(ledger: Ledger) -> None:
    customer = ledger.register()
    _grant(ledger, customer, LARGEST - REGISTRATION_BONUS)
    with pytest.raises(RefusedError, match="amount_out_of_bounds"):
        _grant(ledger, customer, 1)
    ledger.capture(customer, LARGEST)
    assert ledger.wallet(customer)["settled_micros"] == 0
    assert ledger.differences() == []


@pytest.mark.parametrize("micros", [-1, -END])
def test_no_hold_and_no_capture_goes_backwards(ledger: Ledger, micros: int) -> None:
    customer = ledger.register()
    with pytest.raises(psycopg.errors.CheckViolation):
        ledger.open_hold(customer, micros)
    assert ledger.wallet(customer)["held_micros"] == 0


@pytest.mark.parametrize(
    ("currency", "amount"),
    [("jpy", 1000), ("krw", 10**8), ("kwd", 10_000), ("bhd", 10_000), ("eur", 1000), ("xxx", 1000)],
)
def test_other_currencies_are_stored_flagged_and_not_credited(
    ledger: Ledger, currency: str, amount: int
) -> None:
    customer = ledger.register()
    top_up = ledger.ask_top_up(customer, 10 * DOLLAR)["top_up"]
    event = checkout_event(top_up, currency=currency, amount_total=amount)
    assert ledger.deliver(event)["outcome"] == "needs_review"
    assert _refund(ledger, top_up, currency)["outcome"] == "needs_review"
    assert ledger.fetch(
        "select status from billing.top_ups where organization_id = %s", customer.id
    ) == [("needs_review",)]
    assert ledger.fetch_one(
        "select payload from billing.payment_events where id = %s", event["id"]
    ) == (event,)
    assert ledger.wallet(customer)["settled_micros"] == REGISTRATION_BONUS
    assert ledger.differences() == []


def _refund(ledger: Ledger, top_up: Row, currency: str) -> Row:
    return ledger.deliver(
        {
            "id": f"evt_refund_{top_up['id']}",
            "type": "refund.created",
            "livemode": False,
            "data": {
                "object": {
                    "id": f"re_{top_up['id']}",
                    "object": "refund",
                    "payment_intent": f"pi_{top_up['id']}",
                    "amount": 1,
                    "currency": currency,
                    "status": "succeeded",
                }
            },
        }
    )
