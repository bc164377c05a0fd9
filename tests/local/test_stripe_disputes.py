"""Disputes: what a bank takes, asks, and gives back."""

from collections.abc import Iterator

import pytest
import stripe

from tests.local.stand_ins import Shop, StandIns, run_shop


@pytest.fixture
def shop(stand_ins: StandIns) -> Iterator[Shop]:
    """Give whoever sells credits."""
    with run_shop(stand_ins) as running:
        yield running


def dispute(shop: Shop, intent: stripe.PaymentIntent, **form: str) -> stripe.Dispute:
    opened = shop.control("_disputes", payment_intent=intent.id, **form)
    return shop.client.v1.disputes.retrieve(opened["id"])


def entries(found: stripe.Dispute) -> list[tuple[int, int, int]]:
    assert {entry.type for entry in found.balance_transactions} <= {"adjustment"}
    return [(entry.amount, entry.fee, entry.net) for entry in found.balance_transactions]


def test_a_dispute_takes_the_money_and_a_fee(shop: Shop) -> None:
    intent = shop.sell()
    shop.events()
    opened = dispute(shop, intent, amount="2000")
    assert opened.id.startswith("dp_")
    assert (opened.amount, opened.currency, opened.reason) == (2000, "usd", "fraudulent")
    assert (opened.payment_intent, opened.charge) == (intent.id, intent.latest_charge)
    assert (opened.status, opened.is_charge_refundable) == ("needs_response", False)
    assert entries(opened) == [(-2000, 1500, -3500)]
    told = shop.events()
    assert set(told) == {"charge.dispute.created", "charge.dispute.funds_withdrawn"}
    assert all(about == opened for about in told.values())
    assert shop.client.v1.charges.retrieve(str(intent.latest_charge)).disputed
    assert shop.client.v1.disputes.list({"payment_intent": intent.id}).data == [opened]


@pytest.mark.parametrize(
    ("form", "given_back"),
    [
        pytest.param({}, (2500, 0, 2500), id="without the fee"),
        pytest.param({"fee_returned": "true"}, (2500, -1500, 4000), id="with the fee"),
    ],
)
def test_a_won_dispute_gives_it_back(
    shop: Shop, form: dict[str, str], given_back: tuple[int, int, int]
) -> None:
    opened = dispute(shop, shop.sell())
    shop.events()
    shop.control(f"_disputes/{opened.id}", outcome="won", **form)
    told = shop.events()
    assert set(told) == {"charge.dispute.closed", "charge.dispute.funds_reinstated"}
    for won in told.values():
        assert won.status == "won"
        assert entries(won) == [(-2500, 1500, -4000), given_back]


def test_a_lost_dispute_is_final(shop: Shop) -> None:
    opened = dispute(shop, shop.sell(), fee="2000")
    shop.events()
    shop.control(f"_disputes/{opened.id}", outcome="lost")
    told = shop.events()
    assert set(told) == {"charge.dispute.closed"}
    assert told["charge.dispute.closed"].status == "lost"
    assert entries(told["charge.dispute.closed"]) == [(-2500, 2000, -4500)]
    with pytest.raises(Exception, match="400"):
        shop.control(f"_disputes/{opened.id}", outcome="won")


def test_an_inquiry_takes_nothing(shop: Shop) -> None:
    asked = dispute(shop, shop.sell(), inquiry="true")
    assert (asked.status, asked.is_charge_refundable) == ("warning_needs_response", True)
    assert entries(asked) == []
    told = shop.events()
    assert "charge.dispute.created" in told
    assert "charge.dispute.funds_withdrawn" not in told

    shop.control(f"_disputes/{asked.id}", outcome="warning_closed")
    told = shop.events()
    assert {kind: about.status for kind, about in told.items()} == {
        "charge.dispute.closed": "warning_closed"
    }


def test_an_inquiry_can_become_a_dispute(shop: Shop) -> None:
    asked = dispute(shop, shop.sell(), inquiry="true")
    shop.events()
    shop.control(f"_disputes/{asked.id}", outcome="escalated")
    told = shop.events()
    assert set(told) == {"charge.dispute.updated", "charge.dispute.funds_withdrawn"}
    escalated = told["charge.dispute.funds_withdrawn"]
    assert escalated.status == "needs_response"
    assert entries(escalated) == [(-2500, 1500, -4000)]


def test_what_a_bank_took_is_not_refunded_as_well(shop: Shop) -> None:
    intent = shop.sell()
    dispute(shop, intent, amount="2000")
    rest = shop.client.v1.refunds.create({"payment_intent": intent.id})
    assert rest.amount == 500
    with pytest.raises(stripe.InvalidRequestError) as refusal:
        shop.client.v1.refunds.create({"payment_intent": intent.id})
    assert refusal.value.code == "charge_disputed"
