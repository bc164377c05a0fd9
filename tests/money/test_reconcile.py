"""Webhooks that never came: a run does what they would have done, once."""

import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from faregate.backends.stripe import NEWS
from infra.local import paths
from tests.harness.answers import done, problem
from tests.harness.client import Load
from tests.harness.platform import Organization, Platform
from tests.harness.stripe_account import Auditor, StripeAccount, failing_at

DOLLAR = 1_000_000


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


def _settled(platform: Platform, organization: Organization) -> int:
    return platform.wallet(organization)[0]


@pytest.mark.parametrize("are_events_gone", [False, True])
def test_what_was_missed_is_done_once(
    platform: Platform,
    account: StripeAccount,
    auditor: Auditor,
    customer: Organization,
    are_events_gone: bool,
) -> None:
    def reconcile() -> int:
        if are_events_gone:
            account.tell_nothing()
        return auditor.replay()

    _, refunded, disputed = (account.sell(customer) for _ in range(3))
    assert reconcile() >= 3
    assert _settled(platform, customer) == 75 * DOLLAR
    refund, dispute = account.refund(refunded, 1000), account.dispute(disputed)
    assert reconcile() >= 2
    assert _settled(platform, customer) == (25 + 15) * DOLLAR
    account.end_refund(refund, "failed")
    account.end_dispute(dispute, "won")
    assert reconcile() >= 2
    assert _settled(platform, customer) == 75 * DOLLAR
    assert reconcile() == 0
    for event in account.events():  # they come after all
        account.tell(event)
    assert _settled(platform, customer) == 75 * DOLLAR
    assert reconcile() == 0
    assert auditor.discrepancies() == []


def test_what_came_is_not_replayed(
    platform: Platform, account: StripeAccount, auditor: Auditor, customer: Organization
) -> None:
    account.refund(account.sell(customer), 500)
    for event in account.events():
        account.tell(event)
    assert _settled(platform, customer) == 20 * DOLLAR
    assert auditor.replay() == 0


def test_more_than_a_page(
    platform: Platform, account: StripeAccount, auditor: Auditor, customer: Organization
) -> None:
    payment = account.sell(customer)
    for _ in range(105):
        account.refund(payment, 10)
    account.tell_nothing()
    run = done(auditor.run())
    assert run["compared"] >= 105
    assert _settled(platform, customer) == 25 * DOLLAR - 105 * DOLLAR // 10
    assert auditor.replay() == 0


def test_beside_webhooks_and_another_run(
    platform: Platform, account: StripeAccount, auditor: Auditor
) -> None:
    customers = [platform.organization("pro") for _ in range(3)]
    for customer in customers:
        account.refund(account.sell(customer), 1000)
        account.dispute(account.sell(customer))
    events = account.events()
    with ThreadPoolExecutor(6) as threads:
        runs = [threads.submit(auditor.run) for _ in range(2)]
        told = [threads.submit(account.tell, event) for event in events]
        assert [done(run.result())["status"] for run in runs] == ["finished"] * 2
        assert all(each.result() for each in told)
    assert [_settled(platform, customer) for customer in customers] == [15 * DOLLAR] * 3
    assert auditor.replay() == 0
    assert auditor.discrepancies() == []


def test_a_key_of_the_other_mode_brings_nothing(
    platform: Platform,
    account: StripeAccount,
    auditor: Auditor,
    customer: Organization,
    function: Load,
) -> None:
    account.refund(account.sell(customer), 500)
    live = done(auditor.run(function("reconcile", STRIPE_LIVE_MODE="true")))
    assert (live["replayed"], live["discrepancies"]) == (0, 0)
    assert _settled(platform, customer) == 0
    # Its notifications count as received, and what they told is found all the same.
    assert auditor.replay() > 0
    assert _settled(platform, customer) == 20 * DOLLAR


def test_a_provider_that_fails_halfway(
    platform: Platform,
    account: StripeAccount,
    auditor: Auditor,
    customer: Organization,
    function: Load,
) -> None:
    payment = account.sell(customer)
    account.dispute(payment)
    account.tell_nothing()
    with failing_at("/v1/disputes", platform.cloud.layout.stripe_url) as url:
        problem(
            auditor.run(function("reconcile", STRIPE_API_URL=url)),
            502,
            "payment_provider_unavailable",
        )
    assert _settled(platform, customer) == 25 * DOLLAR  # as far as it came
    (last, *_) = done(auditor.desk.get("/v1/reconciliation", by=auditor.operator.passport))["data"]
    assert (last["status"], last["replayed"], last["verified"]) == ("unfinished", 1, 2)
    assert auditor.replay() == 1
    assert _settled(platform, customer) == 0


def test_the_lists_tell_of_everything_that_the_webhook_acts_on() -> None:
    (source,) = (paths.SUPABASE / "migrations").glob("*_payments.sql")
    acted_on = set(re.findall(r"'((?:checkout|refund|charge)\.[a-z_.]+)'", source.read_text()))
    assert acted_on == {kind for kind in NEWS if not kind.startswith("payment_intent.")}
    assert len(NEWS) <= 20
