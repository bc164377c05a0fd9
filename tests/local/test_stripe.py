"""The stand-in for Stripe, seen by Stripe's own library."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from uuid import uuid4

import httpx
import pytest
import stripe

from tests.local.stand_ins import Receiver, Shop, StandIns, run_shop


@pytest.fixture
def shop(stand_ins: StandIns) -> Iterator[Shop]:
    """Give whoever sells credits."""
    with run_shop(stand_ins) as running:
        yield running


def test_a_checkout_is_what_was_asked_for(shop: Shop) -> None:
    checkout = shop.checkout()
    assert (checkout.amount_total, checkout.currency) == (2500, "usd")
    assert (checkout.status, checkout.payment_status) == ("open", "unpaid")
    assert checkout.client_reference_id == "order-7"
    assert checkout.metadata is not None
    assert checkout.metadata["order"] == "7"


def test_a_checkout_can_be_retrieved(shop: Shop) -> None:
    checkout = shop.checkout()
    assert shop.client.v1.checkout.sessions.retrieve(checkout.id) == checkout


def test_the_same_key_answers_the_same_checkout(shop: Shop) -> None:
    first, second = shop.checkout("repeated-key"), shop.checkout("repeated-key")
    assert second == first
    assert second.last_response is not None
    assert second.last_response.headers["idempotent-replayed"] == "true"


def test_the_same_key_with_other_parameters_is_a_conflict(shop: Shop) -> None:
    shop.checkout("conflicting-key")
    with pytest.raises(stripe.IdempotencyError):
        shop.checkout("conflicting-key", client_reference_id="order-8")


def test_another_key_is_refused(shop: Shop) -> None:
    with pytest.raises(stripe.AuthenticationError) as refusal:
        shop.connect("sk_test_somebody_else").v1.checkout.sessions.list()
    assert refusal.value.http_status == 401


def test_an_unknown_checkout_is_missing(shop: Shop) -> None:
    with pytest.raises(stripe.InvalidRequestError) as refusal:
        shop.client.v1.checkout.sessions.retrieve("cs_test_nothing")
    assert (refusal.value.http_status, refusal.value.code) == (404, "resource_missing")


def line(**changes: object) -> dict[str, Any]:
    price = {"currency": "usd", "unit_amount": 1000, "product_data": {"name": "Credits"}}
    return {"line_items": [{"quantity": 1, "price_data": price | changes}]}


@pytest.mark.parametrize(
    ("changes", "param"),
    [
        pytest.param({"tip": "1"}, "tip", id="an unknown parameter"),
        pytest.param({"mode": "subscription"}, "mode", id="another mode"),
        pytest.param({"success_url": ""}, "success_url", id="no way back"),
        pytest.param({"line_items": []}, "line_items", id="nothing to buy"),
        pytest.param(line(unit_amount=49), None, id="below the minimum"),
        pytest.param(line(unit_amount=-1), "line_items[0]", id="a negative price"),
        pytest.param(
            line(unit_amount="ten"), "line_items[0][price_data][unit_amount]", id="letters"
        ),
    ],
)
def test_refuses_a_checkout_with(shop: Shop, changes: dict[str, Any], param: str | None) -> None:
    with pytest.raises(stripe.InvalidRequestError) as refusal:
        shop.checkout(**changes)
    assert (refusal.value.http_status, refusal.value.param) == (400, param)


def test_an_expired_checkout_can_no_longer_be_paid(shop: Shop) -> None:
    checkout = shop.checkout()
    options: stripe.RequestOptions = {"idempotency_key": uuid4().hex}
    expired = shop.client.v1.checkout.sessions.expire(checkout.id, {}, options)
    assert (expired.status, expired.url) == ("expired", None)
    assert list(shop.events()) == ["checkout.session.expired"]
    assert shop.choose(checkout, "card").status_code == 409

    assert shop.client.v1.checkout.sessions.expire(checkout.id, {}, options) == expired
    with pytest.raises(stripe.InvalidRequestError):
        shop.client.v1.checkout.sessions.expire(checkout.id)
    assert shop.events() == {}


def test_the_pay_page_shows_the_amount(shop: Shop) -> None:
    checkout = shop.checkout()
    assert checkout.url is not None
    page = httpx.get(checkout.url, trust_env=False)
    assert "25.00 USD" in page.text
    assert "order-7" in page.text


def test_a_card_pays_at_once(shop: Shop) -> None:
    checkout = shop.checkout()
    answer = shop.choose(checkout, "card")
    assert answer.status_code == 303
    assert answer.headers["location"] == f"{shop.URL}/paid?checkout={checkout.id}"

    told = shop.events()
    assert set(told) == {
        "payment_intent.created",
        "charge.succeeded",
        "payment_intent.succeeded",
        "checkout.session.completed",
    }
    completed = told["checkout.session.completed"]
    assert (completed["id"], completed["payment_status"]) == (checkout.id, "paid")
    intent = shop.client.v1.payment_intents.retrieve(completed["payment_intent"])
    assert intent == told["payment_intent.succeeded"]
    assert (intent.status, intent.amount_received) == ("succeeded", 2500)
    assert intent.metadata["order"] == "7"
    charge = shop.client.v1.charges.retrieve(str(intent.latest_charge))
    assert charge == told["charge.succeeded"]
    assert (charge.payment_intent, charge.amount, charge.paid) == (intent.id, 2500, True)
    assert (charge.amount_refunded, charge.refunded, charge.disputed) == (0, False, False)

    assert shop.choose(checkout, "card").status_code == 409
    assert shop.events() == {}


def test_who_presses_twice_pays_once(shop: Shop) -> None:
    checkout = shop.checkout()
    with ThreadPoolExecutor(4) as threads:
        answers = list(threads.map(shop.choose, [checkout] * 4, ["card"] * 4))
    assert sorted(answer.status_code for answer in answers) == [303, 409, 409, 409]


@pytest.mark.parametrize(
    ("outcome", "payment_events", "checkout_event", "payment_status"),
    [
        pytest.param(
            "bank_transfer_arrives",
            {"charge.succeeded", "payment_intent.succeeded"},
            *["checkout.session.async_payment_succeeded", "paid"],
            id="arrives",
        ),
        pytest.param(
            "bank_transfer_fails",
            {"charge.failed", "payment_intent.payment_failed"},
            *["checkout.session.async_payment_failed", "unpaid"],
            id="fails",
        ),
    ],
)
def test_a_bank_transfer_is_complete_before_it(
    shop: Shop,
    outcome: str,
    payment_events: set[str],
    checkout_event: str,
    payment_status: str,
) -> None:
    checkout = shop.checkout()
    shop.choose(checkout, "bank_transfer")
    told = shop.events()
    assert set(told) == {
        "payment_intent.created",
        "payment_intent.processing",
        "charge.pending",
        "checkout.session.completed",
    }
    assert told["checkout.session.completed"]["payment_status"] == "unpaid"

    shop.choose(checkout, outcome)
    told = shop.events()
    assert set(told) == payment_events | {checkout_event}
    assert told[checkout_event]["payment_status"] == payment_status
    assert shop.choose(checkout, outcome).status_code == 409


def test_who_cancels_can_still_pay(shop: Shop) -> None:
    checkout = shop.checkout()
    assert shop.choose(checkout, "cancel").headers["location"] == f"{shop.URL}/cancelled"
    assert shop.events() == {}
    assert shop.client.v1.checkout.sessions.retrieve(checkout.id).status == "open"


def test_yen_have_no_cents(shop: Shop) -> None:
    checkout = shop.checkout(**line(currency="JPY", unit_amount=2500))
    assert (checkout.amount_total, checkout.currency) == (2500, "jpy")
    assert checkout.url is not None
    page = httpx.get(checkout.url, trust_env=False).text
    assert "2,500 JPY" in page
    assert "bank_transfer" not in page
    assert shop.choose(checkout, "bank_transfer").status_code == 409

    shop.choose(checkout, "card")
    intent = shop.events()["payment_intent.succeeded"]
    assert (intent.amount_received, intent.currency) == (2500, "jpy")


def test_a_dinar_has_a_thousand_fils(shop: Shop) -> None:
    checkout = shop.checkout(**line(currency="kwd", unit_amount=2500))
    assert checkout.url is not None
    assert "2.500 KWD" in httpx.get(checkout.url, trust_env=False).text


def test_an_event_comes_again_until_somebody_takes_it(shop: Shop, receiver: Receiver) -> None:
    checkout = shop.checkout()
    options: stripe.RequestOptions = {"idempotency_key": uuid4().hex}
    receiver.answers[shop.WEBHOOK] = [500]
    shop.client.v1.checkout.sessions.expire(checkout.id, {}, options)
    first, second = receiver.next(shop.WEBHOOK), receiver.next(shop.WEBHOOK)
    assert second.body == first.body


def test_a_lost_event_can_still_be_read(shop: Shop) -> None:
    with shop.losing_webhooks():
        intent = shop.sell()
    assert shop.events() == {}
    lost = shop.client.v1.events.list({"delivery_success": False, "limit": 4})
    told = {event.type: event.data.object for event in lost}
    assert told["payment_intent.succeeded"] == intent
    assert {event.pending_webhooks for event in lost} == {1}

    shop.sell()
    assert "payment_intent.succeeded" in shop.events()
    (newest,) = shop.client.v1.events.list({"delivery_success": True, "limit": 1}).data
    assert newest.pending_webhooks == 0
    assert not {newest.id} & {event.id for event in lost}


def test_an_event_tells_how_things_were_then(shop: Shop) -> None:
    intent = shop.sell()
    (completed,) = shop.client.v1.events.list({"type": "checkout.*", "limit": 1})
    shop.client.v1.refunds.create({"payment_intent": intent.id})
    (charged,) = shop.client.v1.events.list({"types": ["charge.succeeded"], "limit": 1})
    assert charged.data.object["amount_refunded"] == 0
    assert (completed.livemode, completed.api_version) == (False, "2026-10-28.endive")
    assert "account" not in completed.to_dict()
    assert shop.client.v1.events.retrieve(completed.id) == completed
