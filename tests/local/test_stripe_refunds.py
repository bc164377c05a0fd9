"""Refunds: in parts, beyond what is left, and those that come back."""

from collections.abc import Iterator
from typing import Any

import pytest
import stripe

from tests.local.stand_ins import Shop, StandIns, run_shop


@pytest.fixture
def shop(stand_ins: StandIns) -> Iterator[Shop]:
    """Give whoever sells credits."""
    with run_shop(stand_ins) as running:
        yield running


def refund(shop: Shop, intent: stripe.PaymentIntent, **more: object) -> stripe.Refund:
    asked: Any = {"payment_intent": intent.id} | more
    return shop.client.v1.refunds.create(asked)


def charge(shop: Shop, intent: stripe.PaymentIntent) -> stripe.Charge:
    return shop.client.v1.charges.retrieve(str(intent.latest_charge))


def test_a_payment_is_refunded_in_parts(shop: Shop) -> None:
    intent = shop.sell()
    shop.events()
    first = refund(shop, intent, amount=1000, metadata={"claim": "7"}, reason="duplicate")
    assert first.id.startswith("re_")
    assert (first.status, first.amount, first.currency) == ("succeeded", 1000, "usd")
    assert (first.payment_intent, first.charge) == (intent.id, intent.latest_charge)
    assert first.metadata is not None
    assert (first.metadata.to_dict(), first.reason) == ({"claim": "7"}, "duplicate")
    told = shop.events()
    assert set(told) == {"refund.created", "charge.refunded"}
    assert told["refund.created"] == first
    refunded = told["charge.refunded"]
    assert (refunded.amount_refunded, refunded.refunded) == (1000, False)

    rest = shop.client.v1.refunds.create({"charge": str(intent.latest_charge)})
    assert rest.amount == 1500
    refunded = shop.events()["charge.refunded"]
    assert (refunded.amount_refunded, refunded.refunded) == (2500, True)
    assert refunded == charge(shop, intent)

    listed = shop.client.v1.refunds.list({"payment_intent": intent.id})
    assert listed.data == [rest, first]
    assert shop.client.v1.refunds.retrieve(first.id) == first
    entry = shop.client.v1.balance_transactions.retrieve(str(first.balance_transaction))
    assert (entry.amount, entry.type, entry.source) == (-1000, "refund", first.id)


def test_no_more_is_refunded_than_is_left(shop: Shop) -> None:
    intent = shop.sell()
    refund(shop, intent, amount=2400)
    shop.events()
    with pytest.raises(stripe.InvalidRequestError) as refusal:
        refund(shop, intent, amount=101)
    assert (refusal.value.http_status, refusal.value.param) == (400, "amount")
    refund(shop, intent, amount=100)
    shop.events()
    with pytest.raises(stripe.InvalidRequestError) as refusal:
        refund(shop, intent)
    assert refusal.value.code == "charge_already_refunded"
    assert shop.events() == {}


def test_the_same_key_refunds_once(shop: Shop) -> None:
    intent = shop.sell()
    options: stripe.RequestOptions = {"idempotency_key": f"refund-{intent.id}"}
    parameters: Any = {"payment_intent": intent.id, "amount": 1000}
    first = shop.client.v1.refunds.create(parameters, options)
    assert shop.client.v1.refunds.create(parameters, options) == first
    assert charge(shop, intent).amount_refunded == 1000


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        pytest.param({"amount": 0}, "parameter_invalid_integer", id="of nothing"),
        pytest.param({"payment_intent": "pi_none"}, "resource_missing", id="of no payment"),
        pytest.param({"reason": "bored"}, None, id="for a reason Stripe does not know"),
    ],
)
def test_there_is_no_refund(shop: Shop, changes: dict[str, Any], code: str | None) -> None:
    with pytest.raises(stripe.InvalidRequestError) as refusal:
        refund(shop, shop.sell(), **changes)
    assert refusal.value.code == code


def test_there_is_no_refund_of_what_has_not_arrived(shop: Shop) -> None:
    with pytest.raises(stripe.InvalidRequestError):
        refund(shop, shop.sell("bank_transfer"))


def test_a_refund_that_succeeded_can_fail(shop: Shop) -> None:
    intent = shop.sell()
    kept, lost = refund(shop, intent, amount=500), refund(shop, intent, amount=2000)
    shop.events()
    shop.control(f"_refunds/{lost.id}", outcome="failed")
    told = shop.events()
    assert set(told) == {"refund.failed", "refund.updated", "charge.refund.updated"}
    failed = shop.client.v1.refunds.retrieve(lost.id)
    assert all(about == failed for about in told.values())
    assert (failed.status, failed.failure_reason) == ("failed", "expired_or_canceled_card")
    assert failed.failure_balance_transaction is not None
    assert (charge(shop, intent).amount_refunded, charge(shop, intent).refunded) == (500, False)
    assert shop.client.v1.refunds.retrieve(kept.id).status == "succeeded"

    with pytest.raises(Exception, match="400"):
        shop.control(f"_refunds/{lost.id}", outcome="failed")
    assert refund(shop, intent).amount == 2000


@pytest.mark.parametrize(
    ("outcome", "refunded"), [pytest.param("succeeded", 2500), pytest.param("failed", 0)]
)
def test_a_bank_takes_its_time(shop: Shop, outcome: str, refunded: int) -> None:
    checkout = shop.checkout()
    shop.choose(checkout, "bank_transfer")
    shop.choose(checkout, "bank_transfer_arrives")
    intent = shop.events()["payment_intent.succeeded"]
    pending = refund(shop, intent)
    assert (pending.status, pending.pending_reason) == ("pending", "processing")
    assert shop.events()["charge.refunded"].amount_refunded == 2500

    shop.control(f"_refunds/{pending.id}", outcome=outcome)
    updated = shop.events()["refund.updated"]
    assert (updated.status, updated.pending_reason) == (outcome, None)
    assert charge(shop, intent).amount_refunded == refunded


def test_a_refunds_metadata_can_change(shop: Shop) -> None:
    made = refund(shop, shop.sell(), metadata={"a": "1", "b": "2"})
    changed = shop.client.v1.refunds.update(made.id, {"metadata": {"a": "", "c": "3"}})
    assert changed.metadata is not None
    assert changed.metadata.to_dict() == {"b": "2", "c": "3"}
    assert shop.events()["refund.updated"] == changed
