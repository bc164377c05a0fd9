"""Notifications come late, twice and in any order: what was paid is credited once."""

from itertools import permutations

import pytest

from tests.money.ledger import DOLLAR, REGISTRATION_BONUS, Customer, Ledger, Row, checkout_event

_NEWS: dict[str, tuple[str, Row]] = {
    "unpaid": ("completed", {"payment_status": "unpaid"}),
    "succeeded": ("async_payment_succeeded", {}),
    "failed": ("async_payment_failed", {"payment_status": "unpaid"}),
    "expired": ("expired", {"payment_status": "unpaid"}),
    "paid": ("completed", {}),
}


def _top_up(ledger: Ledger) -> tuple[Customer, Row]:
    customer = ledger.register()
    return customer, ledger.ask_top_up(customer, 10 * DOLLAR)["top_up"]


def _event(top_up: Row, news: str) -> Row:
    kind, changes = _NEWS[news]
    return checkout_event(top_up, kind, **changes)


@pytest.mark.parametrize("paid", ["succeeded", "paid"])
def test_every_order_of_news_with_a_payment_in_it_credits_once(ledger: Ledger, paid: str) -> None:
    news = ["unpaid", "failed", "expired", paid]
    for order in permutations(news):
        customer, top_up = _top_up(ledger)
        events = [_event(top_up, name) for name in order]
        outcomes = [ledger.deliver(event)["outcome"] for event in [*events, *events]]
        assert outcomes[:4].count("credited") == 1, order
        assert outcomes[:4] == outcomes[4:]
        assert _state(ledger, customer) == ("paid", REGISTRATION_BONUS + 10 * DOLLAR)


def test_two_payments_for_one_checkout_are_credited_once(ledger: Ledger) -> None:
    for order in permutations(["unpaid", "paid", "succeeded", "expired"]):
        customer, top_up = _top_up(ledger)
        outcomes = [ledger.deliver(_event(top_up, name))["outcome"] for name in order]
        assert (outcomes.count("credited"), outcomes.count("already_credited") >= 1) == (1, True)
        assert _state(ledger, customer) == ("paid", REGISTRATION_BONUS + 10 * DOLLAR)


@pytest.mark.parametrize(
    ("order", "status"),
    [
        pytest.param(["unpaid"], "processing", id="not paid yet"),
        pytest.param(["unpaid", "failed"], "failed", id="failed in the end"),
        pytest.param(["failed", "unpaid"], "failed", id="failed, then old news"),
        pytest.param(["expired", "failed"], "expired", id="expired before it failed"),
        pytest.param(["expired", "unpaid"], "expired", id="expired, then old news"),
    ],
)
def test_news_without_a_payment_credits_nothing(
    ledger: Ledger, order: list[str], status: str
) -> None:
    customer, top_up = _top_up(ledger)
    for name in order:
        ledger.deliver(_event(top_up, name))
    assert _state(ledger, customer) == (status, REGISTRATION_BONUS)


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({"currency": "eur"}, id="another currency"),
        pytest.param({"amount_total": 0}, id="nothing"),
        pytest.param({"amount_total": -1}, id="less than nothing"),
        pytest.param({"amount_total": None}, id="no amount"),
        pytest.param({"amount_total": 10**8}, id="a million dollars"),
        pytest.param({"amount_total": 2**63}, id="beyond a bigint"),
        pytest.param({"amount_total": 10.5}, id="half a cent"),
        pytest.param({"amount_total": "ten"}, id="a word"),
        pytest.param({"payment_intent": None}, id="no payment"),
    ],
)
def test_a_payment_that_cannot_be_counted_waits_for_a_person(ledger: Ledger, changes: Row) -> None:
    customer, top_up = _top_up(ledger)
    assert ledger.deliver(checkout_event(top_up, **changes))["outcome"] == "needs_review"
    assert ledger.deliver(_event(top_up, "expired"))["outcome"] == "checkout_expired"
    assert _state(ledger, customer) == ("needs_review", REGISTRATION_BONUS)


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({"id": "cs_another"}, id="another checkout of this top-up"),
        pytest.param({"client_reference_id": "none"}, id="no top-up named"),
        pytest.param({"client_reference_id": None}, id="no top-up"),
        pytest.param({"metadata": {}}, id="no organization"),
        pytest.param({"metadata": {"organization_id": "'; --"}}, id="no id"),
        pytest.param({"metadata": None}, id="no metadata"),
    ],
)
def test_a_checkout_of_somebody_else_credits_nothing(ledger: Ledger, changes: Row) -> None:
    customer, top_up = _top_up(ledger)
    ledger.call(
        "attach_checkout",
        organization_id=customer.id,
        top_up_id=top_up["id"],
        checkout_session_id=f"cs_{top_up['id']}",
        checkout_url="https://checkout.example",
    )
    assert ledger.deliver(checkout_event(top_up, **changes))["outcome"] == "unknown_top_up"
    assert _state(ledger, customer) == ("pending", REGISTRATION_BONUS)


def test_another_organizations_metadata_finds_no_top_up(ledger: Ledger) -> None:
    (customer, top_up), (other, _) = _top_up(ledger), _top_up(ledger)
    event = checkout_event(top_up, metadata={"organization_id": other.id})
    assert ledger.deliver(event)["outcome"] == "unknown_top_up"
    assert _state(ledger, customer) == _state(ledger, other) == ("pending", REGISTRATION_BONUS)


def _state(ledger: Ledger, customer: Customer) -> tuple[str, int]:
    (status,) = ledger.fetch_one(
        "select status from billing.top_ups where organization_id = %s", customer.id
    )
    return status, ledger.wallet(customer)["settled_micros"]
