"""stripe_webhook: one payment is one grant, whatever is told, how often and in which order."""

import pytest

from tests.harness.answers import done
from tests.harness.client import Load
from tests.harness.platform import Organization, Platform
from tests.harness.stripe_events import Event, Stripe, event, paid, unpaid

PAID_25 = (25_000_000, 0)
NOTHING = (0, 0)


@pytest.fixture
def stripe(function: Load, platform: Platform) -> Stripe:
    return Stripe(platform, function("credits"), function("stripe_webhook"))


@pytest.fixture
def buyer(platform: Platform) -> Organization:
    return platform.organization()


def _outcomes(platform: Platform) -> list[str]:
    return [
        outcome
        for (outcome,) in platform.fetch(
            "select outcome from billing.payment_events order by received_at"
        )
    ]


def test_a_paid_checkout_is_credited(
    stripe: Stripe, platform: Platform, buyer: Organization
) -> None:
    checkout = stripe.buy(buyer)
    receipt = done(stripe.tell(paid(checkout)))
    assert receipt == {"outcome": "credited", "duplicate": False}
    assert platform.wallet(buyer) == PAID_25
    assert stripe.status(buyer, checkout) == "paid"
    assert platform.value("select plan_id from billing.organizations") == "pro"


def test_the_bonus_of_a_bracket_is_promotional(
    stripe: Stripe, platform: Platform, buyer: Organization
) -> None:
    done(stripe.tell(paid(stripe.buy(buyer, "500.00"))))
    assert platform.fetch(
        "select category, amount_micros from billing.grants order by amount_micros"
    ) == [("promotional", 50_000_000), ("paid", 500_000_000)]


def test_ten_times_in_a_row_is_one_grant(
    stripe: Stripe, platform: Platform, buyer: Organization
) -> None:
    told = paid(stripe.buy(buyer))
    receipts = [done(stripe.tell(told)) for _ in range(10)]
    assert [receipt["duplicate"] for receipt in receipts] == [False] + [True] * 9
    assert {receipt["outcome"] for receipt in receipts} == {"credited"}
    assert platform.wallet(buyer) == PAID_25


def test_ten_at_once_are_one_grant(stripe: Stripe, platform: Platform, buyer: Organization) -> None:
    receipts = [done(answer) for answer in stripe.tell_at_once(paid(stripe.buy(buyer)), 10)]
    assert sorted(receipt["duplicate"] for receipt in receipts) == [False] + [True] * 9
    assert platform.wallet(buyer) == PAID_25


def test_two_events_of_one_payment_are_one_grant(
    stripe: Stripe, platform: Platform, buyer: Organization
) -> None:
    checkout = stripe.buy(buyer)
    first = paid(checkout)
    second = event("checkout.session.async_payment_succeeded", first["data"]["object"])
    assert done(stripe.tell(first))["outcome"] == "credited"
    assert done(stripe.tell(second)) == {"outcome": "already_credited", "duplicate": False}
    assert platform.wallet(buyer) == PAID_25


def test_money_on_the_way_is_credited_when_it_arrives(
    stripe: Stripe, platform: Platform, buyer: Organization
) -> None:
    checkout = stripe.buy(buyer)
    assert done(stripe.tell(unpaid(checkout)))["outcome"] == "awaiting_payment"
    assert (platform.wallet(buyer), stripe.status(buyer, checkout)) == (NOTHING, "processing")
    arrived = event("checkout.session.async_payment_succeeded", paid(checkout)["data"]["object"])
    assert done(stripe.tell(arrived))["outcome"] == "credited"
    assert (platform.wallet(buyer), stripe.status(buyer, checkout)) == (PAID_25, "paid")


FAILED = "checkout.session.async_payment_failed"
EXPIRED = "checkout.session.expired"


@pytest.mark.parametrize(
    ("kinds", "status", "wallet"),
    [
        pytest.param([FAILED], "failed", NOTHING, id="failed"),
        pytest.param([EXPIRED], "expired", NOTHING, id="expired"),
        pytest.param(["unpaid", FAILED], "failed", NOTHING, id="on the way, then failed"),
        pytest.param([FAILED, "unpaid"], "failed", NOTHING, id="failed, told too early"),
        pytest.param(["paid", FAILED], "paid", PAID_25, id="failed after paid"),
        pytest.param(["paid", EXPIRED], "paid", PAID_25, id="expired after paid"),
        pytest.param(["paid", "unpaid"], "paid", PAID_25, id="on the way after paid"),
        pytest.param([EXPIRED, "paid"], "paid", PAID_25, id="expired, then paid"),
        pytest.param([FAILED, "paid"], "paid", PAID_25, id="failed, then paid"),
        pytest.param(["paid", "unpaid", FAILED, EXPIRED], "paid", PAID_25, id="all of them"),
    ],
)
def test_the_order_of_news_does_not_matter(
    stripe: Stripe,
    platform: Platform,
    buyer: Organization,
    kinds: list[str],
    status: str,
    wallet: tuple[int, int],
) -> None:
    checkout = stripe.buy(buyer)
    told = {
        "paid": paid(checkout),
        "unpaid": unpaid(checkout),
        FAILED: unpaid(checkout, FAILED),
        EXPIRED: event(EXPIRED, checkout | {"status": "expired"}),
    }
    for kind in kinds:
        done(stripe.tell(told[kind]))
    assert (stripe.status(buyer, checkout), platform.wallet(buyer)) == (status, wallet)


def test_a_payment_intent_alone_credits_nothing(
    stripe: Stripe, platform: Platform, buyer: Organization
) -> None:
    checkout = stripe.buy(buyer)
    intent = {
        "id": "pi_1",
        "object": "payment_intent",
        "amount_received": 2500,
        "currency": "usd",
        "status": "succeeded",
        "metadata": checkout["metadata"],
    }
    told = event("payment_intent.succeeded", intent)
    assert done(stripe.tell(told))["outcome"] == "unknown_type"
    assert platform.wallet(buyer) == NOTHING


def test_another_amount_than_asked_for_is_credited_without_the_bonus(
    stripe: Stripe, platform: Platform, buyer: Organization
) -> None:
    checkout = stripe.buy(buyer, "100.00")
    assert done(stripe.tell(paid(checkout, amount_total=4000)))["outcome"] == "credited"
    assert platform.wallet(buyer) == (40_000_000, 0)


@pytest.mark.parametrize(
    ("changes", "outcome"),
    [
        pytest.param({"account": "acct_foreign"}, "foreign_account", id="another account"),
        pytest.param({"livemode": True}, "foreign_mode", id="live mode"),
        pytest.param({"livemode": None}, "foreign_mode", id="no mode"),
        pytest.param({"livemode": "false"}, "foreign_mode", id="a mode in words"),
        pytest.param({"type": "customer.created"}, "unknown_type", id="unknown type"),
        pytest.param({"data": None}, "unknown_top_up", id="no object"),
        pytest.param({"data": {"object": "text"}}, "unknown_top_up", id="an object that is text"),
        pytest.param({"data": [1]}, "unknown_top_up", id="data that is a list"),
    ],
)
def test_what_is_not_for_us_is_stored_and_credits_nothing(
    stripe: Stripe, platform: Platform, buyer: Organization, changes: Event, outcome: str
) -> None:
    checkout = stripe.buy(buyer)
    assert done(stripe.tell(paid(checkout) | changes))["outcome"] == outcome
    assert _outcomes(platform) == [outcome]
    assert (platform.wallet(buyer), stripe.status(buyer, checkout)) == (NOTHING, "pending")


def test_our_own_account_may_be_named(function: Load, platform: Platform) -> None:
    webhook = function("stripe_webhook", STRIPE_ACCOUNT_ID="acct_ours")
    stripe, buyer = Stripe(platform, function("credits"), webhook), platform.organization()
    checkout = stripe.buy(buyer)
    foreign = done(stripe.tell(paid(checkout) | {"account": "acct_foreign"}))
    assert foreign["outcome"] == "foreign_account"
    assert done(stripe.tell(paid(checkout) | {"account": "acct_ours"}))["outcome"] == "credited"


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({"currency": "eur"}, id="euro"),
        pytest.param({"currency": "jpy"}, id="a currency without decimals"),
        pytest.param({"currency": "kwd"}, id="a currency with three"),
        pytest.param({"currency": "USD"}, id="capitals"),
        pytest.param({"currency": None}, id="no currency"),
        pytest.param({"amount_total": 0}, id="nothing"),
        pytest.param({"amount_total": -2500}, id="negative"),
        pytest.param({"amount_total": None}, id="no amount"),
        pytest.param({"amount_total": 25.5}, id="half a cent"),
        pytest.param({"amount_total": 10**30}, id="huge"),
        pytest.param({"amount_total": "lots"}, id="a word"),
        pytest.param({"amount_total": {}}, id="an object"),
        pytest.param({"payment_intent": None}, id="no payment"),
    ],
)
def test_money_that_is_not_clear_waits_for_a_person(
    stripe: Stripe, platform: Platform, buyer: Organization, changes: Event
) -> None:
    checkout = stripe.buy(buyer)
    assert done(stripe.tell(paid(checkout, **changes)))["outcome"] == "needs_review"
    assert (platform.wallet(buyer), stripe.status(buyer, checkout)) == (NOTHING, "needs_review")


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({"client_reference_id": None}, id="no top-up"),
        pytest.param({"client_reference_id": "x' or '1'='1"}, id="a top-up that is no id"),
        pytest.param({"client_reference_id": 7}, id="a number"),
        pytest.param({"metadata": {}}, id="no organization"),
        pytest.param({"metadata": None}, id="no metadata"),
        pytest.param({"metadata": "text"}, id="metadata that is text"),
        pytest.param({"id": "cs_of_somebody_else"}, id="another checkout"),
        pytest.param({"id": None}, id="no checkout"),
    ],
)
def test_a_checkout_that_is_none_of_ours_credits_nobody(
    stripe: Stripe, platform: Platform, buyer: Organization, changes: Event
) -> None:
    checkout = stripe.buy(buyer)
    assert done(stripe.tell(paid(checkout, **changes)))["outcome"] == "unknown_top_up"
    assert (platform.wallet(buyer), stripe.status(buyer, checkout)) == (NOTHING, "pending")


def test_metadata_cannot_send_money_to_somebody_else(
    stripe: Stripe, platform: Platform, buyer: Organization
) -> None:
    other = platform.organization()
    checkout = stripe.buy(buyer)
    metadata = checkout["metadata"] | {"organization_id": other.id}
    assert done(stripe.tell(paid(checkout, metadata=metadata)))["outcome"] == "unknown_top_up"
    assert (platform.wallet(buyer), platform.wallet(other)) == (NOTHING, NOTHING)


def test_one_payment_is_not_credited_to_two_top_ups(
    stripe: Stripe, platform: Platform, buyer: Organization
) -> None:
    first, second = stripe.buy(buyer), stripe.buy(buyer)
    done(stripe.tell(paid(first, payment_intent="pi_same")))
    receipt = done(stripe.tell(paid(second, payment_intent="pi_same")))
    assert receipt["outcome"] == "needs_review"
    assert platform.wallet(buyer) == PAID_25
