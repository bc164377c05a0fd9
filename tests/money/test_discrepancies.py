"""What disagrees is kept with both sides, seen again, and resolved when it agrees."""

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import httpx
import psycopg
import pytest

from tests.database.superuser import superuser_url
from tests.harness import stripe_events
from tests.harness.client import Load
from tests.harness.platform import Organization, Platform
from tests.harness.stripe_account import Auditor, StripeAccount

_AGE_SECONDS = 3600


@pytest.fixture
def account(platform: Platform, function: Load) -> Iterator[StripeAccount]:
    with httpx.Client(trust_env=False) as http:
        account = StripeAccount(platform, function, http)
        yield account
        account.reopen()


@pytest.fixture
def auditor(platform: Platform, function: Load) -> Auditor:
    return Auditor(platform, function)


@pytest.fixture
def customer(platform: Platform) -> Organization:
    return platform.organization("pro")


def _seen_twice(platform: Platform, auditor: Auditor) -> dict[str, Any]:
    """Find one discrepancy, and an hour later the same."""
    auditor.replay()
    (first,) = auditor.discrepancies()
    platform.advance(_AGE_SECONDS)
    auditor.replay()
    (again,) = auditor.discrepancies()
    assert again["id"] == first["id"]
    assert again["first_seen_at"] == first["first_seen_at"] < again["last_seen_at"]
    assert _AGE_SECONDS <= again["age_seconds"] < _AGE_SECONDS + 60
    return again


def _sides(found: dict[str, Any]) -> tuple[Any, ...]:
    return found["kind"], found["subject"], found["expected"], found["found"], found["difference"]


def _resolved(auditor: Auditor, found: dict[str, Any]) -> None:
    auditor.replay()
    assert auditor.discrepancies() == []
    (resolved,) = auditor.discrepancies("resolved")
    assert resolved["id"] == found["id"]
    assert resolved["resolved_at"] is not None
    auditor.replay()
    assert auditor.discrepancies("resolved") == [resolved]


def test_a_payment_that_nobody_may_credit(
    platform: Platform, account: StripeAccount, auditor: Auditor, customer: Organization
) -> None:
    payment = account.sell_in_euros(customer)
    found = _seen_twice(platform, auditor)
    assert _sides(found) == ("payment_not_credited", payment, None, "0.000000", None)
    assert (found["note"], found["organization_id"]) == ("2500 eur", customer.id)
    account.refund(payment)
    _resolved(auditor, found)


def test_a_payment_that_the_provider_does_not_know(
    platform: Platform, account: StripeAccount, auditor: Auditor, customer: Organization
) -> None:
    event = stripe_events.paid(account.ask(customer))
    account.tell(event)
    payment = event["data"]["object"]["payment_intent"]
    found = _seen_twice(platform, auditor)
    assert _sides(found) == (
        "payment_unknown_to_provider",
        payment,
        "0.000000",
        "25.000000",
        "25.000000",
    )


def test_another_amount(
    platform: Platform, account: StripeAccount, auditor: Auditor, customer: Organization
) -> None:
    payment = account.sell(customer)
    auditor.replay()
    _tamper(platform, "update billing.payments set amount_micros = amount_micros - 10000")
    auditor.replay()
    by_kind = {found["kind"]: found for found in auditor.discrepancies()}
    # The wallet has not moved since it was verified, so that only Sundays find out.
    is_sunday = datetime.now(UTC).weekday() == 6
    assert set(by_kind) == {"amount_differs"} | ({"ledger"} if is_sunday else set())
    found = by_kind["amount_differs"]
    assert _sides(found) == (
        "amount_differs",
        payment,
        "25.000000",
        "24.990000",
        "-0.010000",
    )
    _tamper(platform, "update billing.payments set amount_micros = amount_micros + 10000")
    auditor.replay()
    assert auditor.discrepancies() == []
    assert found["id"] in {each["id"] for each in auditor.discrepancies("resolved")}


def test_a_refund_that_the_provider_does_not_know(
    platform: Platform, account: StripeAccount, auditor: Auditor, customer: Organization
) -> None:
    payment = account.sell(customer)
    auditor.replay()
    refund = {
        "id": f"re_{uuid4().hex}",
        "object": "refund",
        "payment_intent": payment,
        "amount": 700,
        "currency": "usd",
        "status": "succeeded",
    }
    account.tell(stripe_events.event("refund.created", refund))
    found = _seen_twice(platform, auditor)
    assert _sides(found) == ("refund_differs", payment, "0.000000", "7.000000", "7.000000")
    account.tell(stripe_events.event("refund.failed", refund | {"status": "failed"}))
    _resolved(auditor, found)


def test_a_payment_that_went_back_twice(
    platform: Platform, account: StripeAccount, auditor: Auditor, customer: Organization
) -> None:
    payment = account.sell(customer)
    account.refund(payment)
    dispute = account.dispute(payment)
    found = _seen_twice(platform, auditor)
    assert _sides(found) == ("dispute_differs", dispute, "25.000000", "0.000000", "-25.000000")
    account.end_dispute(dispute, "won")
    _resolved(auditor, found)


def test_a_ledger_that_disagrees_with_itself(
    platform: Platform, account: StripeAccount, auditor: Auditor, customer: Organization
) -> None:
    assert account
    auditor.replay()
    change = "update billing.wallets set debt_micros = debt_micros {} 5000000 where {}"
    mine = f"organization_id = '{customer.id}'"
    _tamper(platform, change.format("+", mine))
    found = _seen_twice(platform, auditor)
    assert _sides(found) == ("ledger", "wallet", "0.000000", "5.000000", "5.000000")
    assert found["ledger_rule"] == "wallet debt = its transfers"
    assert found["organization_id"] == customer.id
    _tamper(platform, change.format("-", mine))
    _resolved(auditor, found)


def _tamper(platform: Platform, statement: str) -> None:
    with psycopg.connect(superuser_url(platform.database)) as superuser:
        superuser.execute("set local session_replication_role = replica")
        superuser.execute(statement.encode())
