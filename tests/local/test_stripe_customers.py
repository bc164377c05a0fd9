"""Customers: made by the shop or by a purchase, with what they pay with."""

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


SAVING: dict[str, Any] = {
    "customer_creation": "always",
    "customer_email": "ada@example.com",
    "payment_intent_data": {"setup_future_usage": "off_session"},
}


def test_a_customer_is_what_was_asked_for(shop: Shop) -> None:
    made = shop.client.v1.customers.create(
        {"email": "ada@example.com", "name": "Ada", "metadata": {"organization": "7"}}
    )
    assert made.id.startswith("cus_")
    assert made.metadata is not None
    assert made.metadata.to_dict() == {"organization": "7"}
    assert (made.email, made.name) == ("ada@example.com", "Ada")
    assert shop.client.v1.customers.retrieve(made.id) == made
    assert shop.events()["customer.created"] == made

    renamed = shop.client.v1.customers.update(
        made.id, {"name": "Lovelace", "metadata": {"organization": "", "plan": "pro"}}
    )
    assert (renamed.name, renamed.email) == ("Lovelace", "ada@example.com")
    assert renamed.metadata is not None
    assert renamed.metadata.to_dict() == {"plan": "pro"}


def test_a_purchase_makes_a_customer_and_saves_the_card(shop: Shop) -> None:
    bought = shop.sell(**SAVING)
    told = shop.events()
    session = told["checkout.session.completed"]
    assert session.customer == bought.customer == told["customer.created"].id
    assert session.customer_details.email == "ada@example.com"
    assert told["payment_method.attached"].id == bought.payment_method

    customer_id = str(bought.customer)
    assert shop.client.v1.customers.retrieve(customer_id).email == "ada@example.com"
    (saved,) = shop.client.v1.customers.payment_methods.list(customer_id)
    assert (saved.id, saved.type) == (bought.payment_method, "card")
    assert saved.card is not None
    assert saved.card.last4 == "4242"
    listed = shop.client.v1.payment_methods.list({"customer": customer_id, "type": "card"})
    assert listed.data == [saved]


def test_a_known_customer_buys_again(shop: Shop) -> None:
    customer = shop.client.v1.customers.create({"email": "ada@example.com"})
    usage = {"setup_future_usage": "off_session"}
    bought = shop.sell(customer=customer.id, payment_intent_data=usage)
    assert bought.customer == customer.id
    assert len(shop.client.v1.customers.payment_methods.list(customer.id).data) == 1


@pytest.mark.parametrize("other", ["customer_creation", "customer_email"])
def test_a_known_customer_is_not_described_again(shop: Shop, other: str) -> None:
    customer = shop.client.v1.customers.create()
    with pytest.raises(stripe.InvalidRequestError) as refusal:
        shop.checkout(customer=customer.id, **{other: "always"})
    assert refusal.value.param == other


def test_nobody_buys_as_an_unknown_customer(shop: Shop) -> None:
    with pytest.raises(stripe.InvalidRequestError) as refusal:
        shop.checkout(customer="cus_nobody")
    assert (refusal.value.code, refusal.value.param) == ("resource_missing", "customer")
