"""Refunds and disputes: whatever the order of the news, the balances end the same."""

from collections.abc import Callable
from functools import partial
from itertools import permutations
from uuid import uuid4

import pytest

from tests.money.ledger import (
    DOLLAR,
    REGISTRATION_BONUS,
    Customer,
    Ledger,
    RefusedError,
    Row,
    checkout_event,
)

_CENTS = 10_000


def _event(kind: str, created: int, subject: Row) -> Row:
    return {
        "id": f"evt_{uuid4().hex}",
        "type": kind,
        "created": created,
        "livemode": False,
        "data": {"object": subject},
    }


def refund(top_up: Row, number: int, micros: int, status: str = "succeeded") -> Row:
    """Make the notification about one refund of a top-up's payment."""
    kind = {"failed": "refund.failed", "succeeded": "refund.created"}[status]
    return _event(
        kind,
        1_000 + number,
        {
            "id": f"re_{top_up['id']}_{number}",
            "object": "refund",
            "payment_intent": f"pi_{top_up['id']}",
            "amount": micros // _CENTS,
            "currency": "usd",
            "status": status,
        },
    )


def refunded(top_up: Row, total_micros: int) -> Row:
    """Make the notification about a charge with the sum of its refunds."""
    return _event(
        "charge.refunded",
        1_000,
        {
            "id": f"ch_{top_up['id']}",
            "object": "charge",
            "payment_intent": f"pi_{top_up['id']}",
            "amount": top_up["amount_micros"] // _CENTS,
            "amount_refunded": total_micros // _CENTS,
            "currency": "usd",
            "status": "succeeded",
        },
    )


def dispute(top_up: Row, micros: int, status: str, *fees: int) -> Row:
    """Make the notification about a dispute; fees: those of its movements so far, in cents."""
    closed = status in {"won", "lost", "warning_closed"}
    return _event(
        "charge.dispute.closed" if closed else "charge.dispute.created",
        2_000,
        {
            "id": f"dp_{top_up['id']}",
            "object": "dispute",
            "payment_intent": f"pi_{top_up['id']}",
            "amount": micros // _CENTS,
            "currency": "usd",
            "status": status,
            "balance_transactions": [
                {"amount": -micros // _CENTS, "fee": fee, "currency": "usd"} for fee in fees
            ],
        },
    )


_TEN = 10 * DOLLAR
_NEWS: dict[str, Callable[[Row], Row]] = {
    "paid": checkout_event,
    "refund 2": lambda t: refund(t, 1, 2 * DOLLAR),
    "refunded 5": lambda t: refunded(t, 5 * DOLLAR),
    "refund 3": lambda t: refund(t, 2, 3 * DOLLAR),
    "refund 3 failed": lambda t: refund(t, 2, 3 * DOLLAR, "failed"),
    "disputed 8": lambda t: dispute(t, 8 * DOLLAR, "needs_response", 1500),
    "won": lambda t: dispute(t, 8 * DOLLAR, "won", 1500, 0),
    "won, fee back": lambda t: dispute(t, 8 * DOLLAR, "won", 1500, -1500),
    "lost": lambda t: dispute(t, 8 * DOLLAR, "lost", 1500),
    "inquiry": lambda t: dispute(t, 8 * DOLLAR, "warning_needs_response"),
}


@pytest.mark.parametrize(
    ("news", "left", "fees"),
    [
        (["paid", "refund 2", "refunded 5", "refund 3"], 5, 0),
        (["paid", "refund 2", "refunded 5", "refund 3", "refund 3 failed"], 8, 0),
        (["paid", "refund 2", "disputed 8", "won"], 8, 15),
        (["paid", "refund 2", "disputed 8", "won, fee back"], 8, 0),
        (["paid", "refund 2", "disputed 8", "lost"], 0, 15),
        (["paid", "refund 3", "refund 3 failed", "disputed 8", "lost"], 2, 15),
        (["paid", "inquiry"], 10, 0),
    ],
    ids=str,
)
@pytest.mark.parametrize("spent", [0, 7])
def test_every_order_ends_in_the_same_balances(
    ledger: Ledger, news: list[str], left: int, fees: int, spent: int
) -> None:
    ends = set()
    for order in permutations(news):
        if spent and order[0] != "paid":
            continue  # nothing to spend
        customer = ledger.register()
        top_up = ledger.ask_top_up(customer, _TEN)["top_up"]
        if spent:
            _spend(ledger, customer, REGISTRATION_BONUS)
        for name in order:
            ledger.deliver(_NEWS[name](top_up))
            if name == "paid":
                _spend(ledger, customer, spent * DOLLAR)
            wallet = ledger.wallet(customer)
            assert wallet["settled_micros"] >= wallet["held_micros"] >= 0
            assert wallet["settled_micros"] * wallet["debt_micros"] == 0, order
        ends.add((_balance(ledger, customer), _fees(ledger, customer)))
        assert ledger.differences(customer.id) == []
    bonus = 0 if spent else REGISTRATION_BONUS
    assert ends == {(bonus + (left - spent) * DOLLAR, fees * DOLLAR)}


def _spend(ledger: Ledger, customer: Customer, micros: int) -> None:
    if micros:
        ledger.capture(customer, micros)


def _balance(ledger: Ledger, customer: Customer) -> int:
    wallet = ledger.wallet(customer)
    return int(wallet["settled_micros"] - wallet["debt_micros"])


def _fees(ledger: Ledger, customer: Customer) -> int:
    (fees,) = ledger.fetch_one(
        "select coalesce(sum(case debit_account when 'provider_fees' then amount_micros"
        " else -amount_micros end), 0) from billing.transfers"
        " where organization_id = %s and 'provider_fees' in (debit_account, credit_account)",
        customer.id,
    )
    return int(fees)


def test_debt_freezes_stops_sessions_and_is_repaid_first(ledger: Ledger) -> None:
    customer = ledger.register()
    top_up = ledger.ask_top_up(customer, _TEN)["top_up"]
    ledger.deliver(checkout_event(top_up))
    ledger.set_price("pro", "small", 36 * DOLLAR)  # a cent a second
    session = ledger.start(customer)["session"]["id"]
    ledger.advance(600 + 599)
    ledger.sweep()
    ledger.deliver(refund(top_up, 1, _TEN))
    session_now = ledger.session(customer, session)
    assert session_now["close_reason"] == "frozen"
    wallet = ledger.wallet(customer)
    assert wallet["settled_micros"] == 0
    assert wallet["debt_micros"] == session_now["charged_micros"] - REGISTRATION_BONUS
    assert _freezes(ledger, customer) == [wallet["debt_micros"]]
    assert ledger.race([lambda own: own.start(customer)])[0].code == "debt_outstanding"
    ledger.credit(customer, _TEN)
    after = ledger.wallet(customer)
    assert after["debt_micros"] == 0
    assert after["settled_micros"] == _TEN - wallet["debt_micros"]
    ledger.deliver(refund(top_up, 1, _TEN, "failed"))
    assert ledger.wallet(customer)["settled_micros"] == 2 * _TEN - wallet["debt_micros"]
    ledger.start(customer)
    assert ledger.differences() == []


def test_each_freeze_is_told_once(ledger: Ledger) -> None:
    customer = ledger.register()
    top_up = ledger.ask_top_up(customer, _TEN)["top_up"]
    ledger.deliver(checkout_event(top_up))
    ledger.deliver(refund(top_up, 1, DOLLAR))
    assert _freezes(ledger, customer) == []
    _spend(ledger, customer, REGISTRATION_BONUS + 9 * DOLLAR)
    for number in (2, 3):
        ledger.deliver(refund(top_up, number, 2 * DOLLAR))
        assert _freezes(ledger, customer) == [2 * DOLLAR]
    ledger.credit(customer, _TEN)
    _spend(ledger, customer, 6 * DOLLAR)
    ledger.deliver(refund(top_up, 4, 3 * DOLLAR))
    assert _freezes(ledger, customer) == [3 * DOLLAR, 2 * DOLLAR]


def _freezes(ledger: Ledger, customer: Customer) -> list[int]:
    """The debts that the customer was told of, newest first."""
    told = ledger.call("list_notifications", caller=customer.caller, limit=10, cursor=None)
    return [row["amount_micros"] for row in told if row["kind"] == "organization_frozen"]


def test_the_bonus_goes_back_in_proportion(ledger: Ledger) -> None:
    customer = ledger.register()
    top_up = ledger.ask_top_up(customer, 100 * DOLLAR)["top_up"]
    ledger.deliver(checkout_event(top_up))
    ledger.deliver(refund(top_up, 1, 40 * DOLLAR))
    assert ledger.wallet(customer)["settled_micros"] == REGISTRATION_BONUS + 63 * DOLLAR
    ledger.deliver(refund(top_up, 1, 40 * DOLLAR, "failed"))
    assert ledger.wallet(customer)["settled_micros"] == REGISTRATION_BONUS + 105 * DOLLAR
    assert ledger.differences() == []


def test_no_session_outlives_a_freeze(ledger: Ledger) -> None:
    """Starts beside the refund that freezes: either refused, or stopped by it."""
    for _ in range(20):
        customer = ledger.register()
        top_up = ledger.ask_top_up(customer, _TEN)["top_up"]
        ledger.deliver(checkout_event(top_up))
        _spend(ledger, customer, _TEN)
        start = partial(Ledger.start, customer=customer)
        freeze = partial(Ledger.deliver, event=refund(top_up, 1, _TEN))
        results = ledger.race([start, start, start, freeze, start, start, start])
        assert {r.code for r in results if isinstance(r, RefusedError)} <= {"debt_outstanding"}
        wallet = ledger.wallet(customer)
        assert wallet["debt_micros"] > 0
        assert (wallet["settled_micros"], wallet["held_micros"]) == (0, 0)
        assert ledger.differences(customer.id) == []
