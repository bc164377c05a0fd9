"""Saved cards: who they belong to, and what happens when nobody is there to pay with them."""

from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import pytest
import stripe

from tests.local.stand_ins import Shop, StandIns, run_shop


@pytest.fixture
def shop(stand_ins: StandIns) -> Iterator[Shop]:
    """Give whoever sells credits."""
    with run_shop(stand_ins) as running:
        yield running


SAVING: dict[str, Any] = {
    "customer_creation": "always",
    "customer_email": "ada@example.com",
    "payment_intent_data": {"setup_future_usage": "off_session"},
}


def pay(
    shop: Shop, bought: stripe.PaymentIntent, key: str = "", **more: object
) -> stripe.PaymentIntent:
    """Pay 10 USD with the card of an earlier purchase, its owner being away."""
    asked: Any = {
        "amount": 1000,
        "currency": "usd",
        "customer": bought.customer,
        "payment_method": bought.payment_method,
        "off_session": True,
        "confirm": True,
        "metadata": {"top_up": "9"},
        "description": "Credits",
    }
    options: stripe.RequestOptions = {"idempotency_key": key or uuid4().hex}
    return shop.client.v1.payment_intents.create(asked | more, options)


def behave(shop: Shop, bought: stripe.PaymentIntent, behaviour: str, **more: str) -> None:
    shop.control(f"_cards/{bought.payment_method}", behaviour=behaviour, **more)


def test_a_saved_card_pays_in_its_owners_absence(shop: Shop) -> None:
    bought = shop.sell(**SAVING)
    shop.events()
    paid = pay(shop, bought)
    assert (paid.status, paid.amount_received) == ("succeeded", 1000)
    assert (paid.customer, paid.payment_method) == (bought.customer, bought.payment_method)
    assert (paid.metadata.to_dict(), paid.description) == ({"top_up": "9"}, "Credits")

    told = shop.events()
    assert set(told) == {"payment_intent.created", "charge.succeeded", "payment_intent.succeeded"}
    assert told["payment_intent.succeeded"] == paid
    charge = shop.client.v1.charges.retrieve(str(paid.latest_charge))
    assert (charge, charge.payment_intent) == (told["charge.succeeded"], paid.id)
    entry = shop.client.v1.balance_transactions.retrieve(str(charge.balance_transaction))
    assert (entry.amount, entry.fee, entry.net) == (1000, 59, 941)
    assert (entry.source, entry.type) == (charge.id, "charge")


@pytest.mark.parametrize(
    ("behaviour", "more", "code", "decline_code"),
    [
        pytest.param("decline", {}, "card_declined", "generic_decline", id="declined"),
        pytest.param(
            *["decline", {"decline_code": "insufficient_funds"}],
            *["card_declined", "insufficient_funds"],
            id="empty",
        ),
        pytest.param(
            *["authentication_required", {}],
            *["authentication_required", "authentication_required"],
            id="asking for its owner",
        ),
    ],
)
def test_a_card_does_not_pay_that_is(
    shop: Shop, behaviour: str, more: dict[str, str], code: str, decline_code: str
) -> None:
    bought = shop.sell(**SAVING)
    behave(shop, bought, behaviour, **more)
    shop.events()
    with pytest.raises(stripe.CardError) as refusal:
        pay(shop, bought)
    assert (refusal.value.http_status, refusal.value.code) == (402, code)
    error: Any = refusal.value.error
    assert error.decline_code == decline_code
    assert error.payment_intent.status == "requires_payment_method"
    assert error.payment_method.id == bought.payment_method

    told = shop.events()
    failed = told["payment_intent.payment_failed"]
    assert set(told) == {"payment_intent.created", "charge.failed", "payment_intent.payment_failed"}
    assert failed == error.payment_intent
    assert failed.last_payment_error.decline_code == decline_code
    assert (failed.amount_received, failed.payment_method) == (0, None)
    assert told["charge.failed"].id == error.charge == failed.latest_charge
    assert told["charge.failed"].status == "failed"


def test_a_declined_card_is_declined_again_to_the_same_key(shop: Shop) -> None:
    bought = shop.sell(**SAVING)
    behave(shop, bought, "decline")
    with pytest.raises(stripe.CardError) as first:
        pay(shop, bought, "declined-key")
    behave(shop, bought, "succeed")
    shop.events()
    with pytest.raises(stripe.CardError) as second:
        pay(shop, bought, "declined-key")
    assert second.value.json_body == first.value.json_body
    assert second.value.headers is not None
    assert second.value.headers["idempotent-replayed"] == "true"
    assert shop.events() == {}
    assert pay(shop, bought, "another-key").status == "succeeded"


def test_a_request_that_makes_no_sense_may_be_corrected_under_its_key(shop: Shop) -> None:
    bought = shop.sell(**SAVING)
    with pytest.raises(stripe.InvalidRequestError):
        pay(shop, bought, "corrected-key", amount=10)
    assert pay(shop, bought, "corrected-key").status == "succeeded"


def test_a_failed_payment_can_be_tried_again(shop: Shop) -> None:
    bought = shop.sell("card_declines_later", **SAVING)
    with pytest.raises(stripe.CardError) as refusal:
        pay(shop, bought)
    intent: Any = refusal.value.error
    behave(shop, bought, "succeed")
    method = str(bought.payment_method)
    paid = shop.client.v1.payment_intents.confirm(
        intent.payment_intent.id, {"payment_method": method, "off_session": True}
    )
    assert paid.status == "succeeded"
    attempts = shop.client.v1.charges.list({"payment_intent": paid.id})
    assert [charge.status for charge in attempts] == ["succeeded", "failed"]
    with pytest.raises(stripe.InvalidRequestError) as late:
        shop.client.v1.payment_intents.cancel(paid.id)
    assert late.value.code == "payment_intent_unexpected_state"


def test_a_failed_payment_can_be_given_up(shop: Shop) -> None:
    bought = shop.sell("card_declines_later", **SAVING)
    with pytest.raises(stripe.CardError) as refusal:
        pay(shop, bought)
    intent: Any = refusal.value.error
    canceled = shop.client.v1.payment_intents.cancel(intent.payment_intent.id)
    assert canceled.status == "canceled"
    assert shop.events()["payment_intent.canceled"] == canceled
    with pytest.raises(stripe.InvalidRequestError):
        shop.client.v1.payment_intents.confirm(canceled.id)


def test_an_owner_who_is_there_can_prove_it(shop: Shop) -> None:
    bought = shop.sell(**SAVING)
    behave(shop, bought, "authentication_required")
    waiting = pay(shop, bought, off_session=False)
    assert waiting.status == "requires_action"
    assert shop.events()["payment_intent.requires_action"] == waiting


def test_a_removed_card_pays_no_more(shop: Shop) -> None:
    bought = shop.sell(**SAVING)
    shop.client.v1.payment_methods.detach(str(bought.payment_method))
    assert shop.events()["payment_method.detached"].id == bought.payment_method
    assert shop.client.v1.customers.payment_methods.list(str(bought.customer)).data == []
    with pytest.raises(stripe.InvalidRequestError) as refusal:
        pay(shop, bought)
    assert refusal.value.param == "payment_method"


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        pytest.param({"amount": 49}, "amount_too_small", id="too little"),
        pytest.param({"currency": "kwd", "amount": 1001}, None, id="a single fils"),
        pytest.param({"confirm": False}, None, id="off session without confirming"),
        pytest.param({"customer": "cus_nobody"}, "resource_missing", id="an unknown customer"),
        pytest.param({"payment_method": "pm_none"}, "resource_missing", id="an unknown card"),
        pytest.param({"tip": 1}, "parameter_unknown", id="an unknown parameter"),
        pytest.param(
            {"automatic_payment_methods": {"enabled": True}}, None, id="nowhere to return to"
        ),
    ],
)
def test_refuses_a_payment_with(shop: Shop, changes: dict[str, Any], code: str | None) -> None:
    bought = shop.sell(**SAVING)
    shop.events()
    with pytest.raises(stripe.InvalidRequestError) as refusal:
        pay(shop, bought, **changes)
    assert (refusal.value.http_status, refusal.value.code) == (400, code)
    assert shop.events() == {}


def test_another_customers_card_does_not_pay(shop: Shop) -> None:
    bought = shop.sell(**SAVING)
    with pytest.raises(stripe.InvalidRequestError):
        pay(shop, bought, customer=shop.client.v1.customers.create().id)


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({"payment_intent_data": SAVING["payment_intent_data"]}, id="a guest"),
        pytest.param({"customer_creation": "always"}, id="a customer who was not asked to"),
    ],
)
def test_saves_no_card_of(shop: Shop, changes: dict[str, Any]) -> None:
    bought = shop.sell(**changes)
    method = shop.client.v1.payment_methods.retrieve(str(bought.payment_method))
    assert method.customer is None
    with pytest.raises(stripe.InvalidRequestError):
        pay(shop, bought, customer=shop.client.v1.customers.create().id)
