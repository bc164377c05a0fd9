"""The stand-in for Stripe, seen by Stripe's own library."""

from collections.abc import Callable, Iterator
from typing import Any
from uuid import uuid4

import httpx
import pytest
import stripe

from tests.local.stand_ins import Receiver, StandIns

WEBHOOK = "/v1/stripe/webhook"
SHOP = "http://127.0.0.1:9"

Checkout = stripe.checkout.Session
Parameters = dict[str, Any]
Choose = Callable[[Checkout, str], httpx.Response]


@pytest.fixture
def connect(stand_ins: StandIns) -> Iterator[Callable[[str], stripe.StripeClient]]:
    """Give Stripe's client for a key."""
    http = stripe.HTTPXClient(allow_sync_methods=True)

    def connect_with(key: str) -> stripe.StripeClient:
        return stripe.StripeClient(
            key,
            base_addresses={"api": stand_ins.layout.stripe_url},
            http_client=http,
            max_network_retries=0,
        )

    yield connect_with
    http.close()  # type: ignore[no-untyped-call]


@pytest.fixture
def client(
    stand_ins: StandIns, connect: Callable[[str], stripe.StripeClient]
) -> stripe.StripeClient:
    """Give Stripe's client as the functions have it."""
    return connect(stand_ins.layout.secrets.stripe_secret_key)


@pytest.fixture
def choose(stand_ins: StandIns) -> Iterator[Choose]:
    """Press one of the buttons of a pay page."""
    with httpx.Client(trust_env=False) as http:

        def press(checkout: Checkout, method: str) -> httpx.Response:
            url = f"{stand_ins.layout.stripe_url}/pay/{checkout.id}"
            return http.post(url, data={"method": method})

        yield press


@pytest.fixture
def events(stand_ins: StandIns) -> Callable[[], dict[str, Any]]:
    """Give the events that arrived, by type, having had Stripe's library check each signature."""
    secret = stand_ins.layout.secrets.stripe_webhook_secret
    stand_ins.receiver.all(WEBHOOK)

    def arrived() -> dict[str, Any]:
        found = [
            stripe.Webhook.construct_event(each.body, each.headers["stripe-signature"], secret)
            for each in stand_ins.receiver.all(WEBHOOK)
        ]
        return {event.type: event.data.object for event in found}

    return arrived


def parameters(**changes: object) -> Parameters:
    return {
        "mode": "payment",
        "client_reference_id": "order-7",
        "line_items": [
            {
                "quantity": 2,
                "price_data": {
                    "currency": "usd",
                    "unit_amount": 1250,
                    "product_data": {"name": "Credits"},
                },
            }
        ],
        "metadata": {"order": "7"},
        "payment_intent_data": {"metadata": {"order": "7"}},
        "success_url": f"{SHOP}/paid?checkout={{CHECKOUT_SESSION_ID}}",
        "cancel_url": f"{SHOP}/cancelled",
    } | changes


def create(client: stripe.StripeClient, key: str = "", **changes: object) -> Checkout:
    asked: Any = parameters(**changes)
    return client.v1.checkout.sessions.create(asked, {"idempotency_key": key or uuid4().hex})


def test_a_checkout_is_what_was_asked_for(client: stripe.StripeClient) -> None:
    checkout = create(client)
    assert (checkout.amount_total, checkout.currency) == (2500, "usd")
    assert (checkout.status, checkout.payment_status) == ("open", "unpaid")
    assert checkout.client_reference_id == "order-7"
    assert checkout.metadata is not None
    assert checkout.metadata["order"] == "7"


def test_a_checkout_can_be_retrieved(client: stripe.StripeClient) -> None:
    checkout = create(client)
    assert client.v1.checkout.sessions.retrieve(checkout.id) == checkout


def test_the_same_key_answers_the_same_checkout(client: stripe.StripeClient) -> None:
    first, second = create(client, "repeated-key"), create(client, "repeated-key")
    assert second == first
    assert second.last_response is not None
    assert second.last_response.headers["idempotent-replayed"] == "true"


def test_the_same_key_with_other_parameters_is_a_conflict(client: stripe.StripeClient) -> None:
    create(client, "conflicting-key")
    with pytest.raises(stripe.IdempotencyError):
        create(client, "conflicting-key", client_reference_id="order-8")


def test_another_key_is_refused(connect: Callable[[str], stripe.StripeClient]) -> None:
    with pytest.raises(stripe.AuthenticationError) as refusal:
        create(connect("sk_test_somebody_else"))
    assert refusal.value.http_status == 401


def test_an_unknown_checkout_is_missing(client: stripe.StripeClient) -> None:
    with pytest.raises(stripe.InvalidRequestError) as refusal:
        client.v1.checkout.sessions.retrieve("cs_test_nothing")
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
def test_refuses_a_checkout_with(
    client: stripe.StripeClient, changes: Parameters, param: str | None
) -> None:
    with pytest.raises(stripe.InvalidRequestError) as refusal:
        create(client, **changes)
    assert (refusal.value.http_status, refusal.value.param) == (400, param)


def test_an_expired_checkout_can_no_longer_be_paid(
    client: stripe.StripeClient, choose: Choose, events: Callable[[], dict[str, Any]]
) -> None:
    checkout = create(client)
    options: stripe.RequestOptions = {"idempotency_key": uuid4().hex}
    expired = client.v1.checkout.sessions.expire(checkout.id, {}, options)
    assert (expired.status, expired.url) == ("expired", None)
    assert list(events()) == ["checkout.session.expired"]
    assert choose(checkout, "card").status_code == 409

    assert client.v1.checkout.sessions.expire(checkout.id, {}, options) == expired
    with pytest.raises(stripe.InvalidRequestError):
        client.v1.checkout.sessions.expire(checkout.id)
    assert events() == {}


def test_the_pay_page_shows_the_amount(client: stripe.StripeClient) -> None:
    checkout = create(client)
    assert checkout.url is not None
    page = httpx.get(checkout.url, trust_env=False)
    assert "25.00 USD" in page.text
    assert "order-7" in page.text


def test_a_card_pays_at_once(
    client: stripe.StripeClient, choose: Choose, events: Callable[[], dict[str, Any]]
) -> None:
    checkout = create(client)
    answer = choose(checkout, "card")
    assert answer.status_code == 303
    assert answer.headers["location"] == f"{SHOP}/paid?checkout={checkout.id}"

    told = events()
    assert set(told) == {"payment_intent.succeeded", "checkout.session.completed"}
    completed = told["checkout.session.completed"]
    assert (completed["id"], completed["payment_status"]) == (checkout.id, "paid")
    intent = client.v1.payment_intents.retrieve(completed["payment_intent"])
    assert intent == told["payment_intent.succeeded"]
    assert (intent.status, intent.amount_received) == ("succeeded", 2500)
    assert intent.metadata["order"] == "7"

    assert choose(checkout, "card").status_code == 409
    assert events() == {}


@pytest.mark.parametrize(
    ("outcome", "intent_event", "checkout_event", "payment_status"),
    [
        pytest.param(
            *["bank_transfer_arrives", "payment_intent.succeeded"],
            *["checkout.session.async_payment_succeeded", "paid"],
            id="arrives",
        ),
        pytest.param(
            *["bank_transfer_fails", "payment_intent.payment_failed"],
            *["checkout.session.async_payment_failed", "unpaid"],
            id="fails",
        ),
    ],
)
def test_a_bank_transfer_is_complete_before_it(
    client: stripe.StripeClient,
    choose: Choose,
    events: Callable[[], dict[str, Any]],
    outcome: str,
    intent_event: str,
    checkout_event: str,
    payment_status: str,
) -> None:
    checkout = create(client)
    choose(checkout, "bank_transfer")
    told = events()
    assert list(told) == ["checkout.session.completed"]
    assert told["checkout.session.completed"]["payment_status"] == "unpaid"

    choose(checkout, outcome)
    told = events()
    assert set(told) == {intent_event, checkout_event}
    assert told[checkout_event]["payment_status"] == payment_status


def test_who_cancels_can_still_pay(
    client: stripe.StripeClient, choose: Choose, events: Callable[[], dict[str, Any]]
) -> None:
    checkout = create(client)
    assert choose(checkout, "cancel").headers["location"] == f"{SHOP}/cancelled"
    assert events() == {}
    assert client.v1.checkout.sessions.retrieve(checkout.id).status == "open"


def test_an_event_comes_again_until_somebody_takes_it(
    client: stripe.StripeClient, choose: Choose, receiver: Receiver
) -> None:
    checkout = create(client)
    receiver.all(WEBHOOK)
    receiver.answers[WEBHOOK] = [500]
    choose(checkout, "bank_transfer")
    first, second = receiver.all(WEBHOOK)
    assert second.body == first.body
