"""Settings of automatic top-ups, the card they charge, and what a customer is told."""

from decimal import Decimal

import pytest

from tests.harness import stripe_events
from tests.harness.answers import done, problem
from tests.harness.auto_top_ups import PATH, SETTINGS, AutoTopUps
from tests.harness.client import Load
from tests.harness.platform import Organization, Platform

CARD, PAYMENT = "payment_intent.succeeded", "checkout.session.completed"


@pytest.fixture
def parts(platform: Platform, function: Load) -> AutoTopUps:
    return AutoTopUps(platform, function)


@pytest.fixture
def customer(parts: AutoTopUps) -> Organization:
    """Give a customer with a saved card."""
    organization = parts.platform.organization()
    parts.save_card(organization)
    return organization


def test_settings_are_set_read_changed_and_deleted(
    parts: AutoTopUps, customer: Organization
) -> None:
    def read(status: int = 200) -> dict[str, object]:
        return done(parts.settings.get(PATH, by=customer.passport), status)

    assert read(404)["code"] == "auto_top_up_not_found"
    made = done(parts.set(customer))
    assert made | {"updated_at": ""} == {
        "threshold": "20.000000",
        "amount": "20.000000",
        "monthly_cap": "60.000000",
        "charged_this_month": "0.000000",
        "is_capped": False,
        "cool_off_seconds": 3600,
        "status": "active",
        "paused_reason": None,
        "last_top_up_at": None,
        "updated_at": "",
    }
    assert read() == made
    changed = done(parts.set(customer, threshold="0.000001", cool_off_seconds=60))
    assert (changed["threshold"], changed["cool_off_seconds"]) == ("0.000001", 60)
    for _ in range(2):
        deleted = parts.settings.request("DELETE", PATH, by=customer.passport)
        assert (deleted.status_code, deleted.content) == (204, b"")
    assert read(404)["code"] == "auto_top_up_not_found"
    assert parts.platform.fetch(
        "select action from billing.audit_log"
        " where action in ('set_auto_top_up', 'delete_auto_top_up') order by created_at"
    ) == [("set_auto_top_up",), ("set_auto_top_up",), ("delete_auto_top_up",)]


def test_settings_are_ones_own(parts: AutoTopUps, customer: Organization) -> None:
    done(parts.set(customer))
    other = parts.platform.organization()
    problem(parts.settings.get(PATH, by=other.passport), 404, "auto_top_up_not_found")
    parts.settings.request("DELETE", PATH, by=other.passport)
    assert parts.state(customer) == ("active", None)


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        pytest.param({"amount": "9.99"}, "amount_too_small", id="below the smallest top-up"),
        pytest.param({"monthly_cap": "19.99"}, "monthly_cap_too_small", id="no room for one"),
        pytest.param({"amount": "1000000.00"}, "invalid_request", id="more than Stripe charges"),
        pytest.param({"amount": "20.001"}, "invalid_request", id="a tenth of a cent"),
        pytest.param({"amount": 20}, "invalid_request", id="a number"),
        pytest.param({"amount": None}, "invalid_request", id="no amount"),
        pytest.param({"threshold": "0"}, "invalid_request", id="no threshold"),
        pytest.param({"threshold": "-1"}, "invalid_request", id="a negative threshold"),
        pytest.param({"threshold": "NaN"}, "invalid_request", id="NaN"),
        pytest.param({"threshold": "1e3"}, "invalid_request", id="an exponent"),
        pytest.param({"threshold": "1" * 10}, "invalid_request", id="huge"),
        pytest.param({"monthly_cap": "0"}, "invalid_request", id="no cap"),
        pytest.param({"monthly_cap": None}, "invalid_request", id="a cap that is null"),
        pytest.param({"cool_off_seconds": 59}, "invalid_request", id="a short cool-off"),
        pytest.param({"cool_off_seconds": 2_678_401}, "invalid_request", id="a long cool-off"),
        pytest.param({"cool_off_seconds": "60"}, "invalid_request", id="seconds in words"),
        pytest.param({"cool_off_seconds": 60.5}, "invalid_request", id="half a second"),
        pytest.param({"cool_off_seconds": True}, "invalid_request", id="true seconds"),
        pytest.param({"status": "active"}, "invalid_request", id="a status"),
        pytest.param({"payment_method_id": "pm_1"}, "invalid_request", id="a card"),
    ],
)
def test_refuses_settings(
    parts: AutoTopUps, customer: Organization, changes: dict[str, object], code: str
) -> None:
    before = parts.platform.contents()
    refusal = problem(parts.set(customer, **changes), 400, code)
    minimum = {"amount_too_small": "10.000000", "monthly_cap_too_small": "20.000000"}
    assert refusal.get("minimum") == minimum.get(code)
    assert parts.platform.contents() == before


@pytest.mark.parametrize(
    ("threshold", "amount"),
    [("20.000001", "20.00"), ("20.01", "20.00"), ("1000", "10.00"), ("999999999.99", "999999.99")],
)
def test_one_top_up_lifts_the_balance_over_the_threshold(
    parts: AutoTopUps, customer: Organization, threshold: str, amount: str
) -> None:
    before = parts.platform.contents()
    wanted = {"threshold": threshold, "amount": amount, "monthly_cap": "999999999"}
    refusal = problem(parts.set(customer, **wanted), 400, "amount_below_threshold")
    assert Decimal(refusal["threshold"]) == Decimal(threshold)
    assert parts.platform.contents() == before
    done(parts.set(customer, threshold="20.00", amount="20.00"))


@pytest.mark.parametrize("permissions", [["read"], ["write"], ["read", "write"]])
def test_billing_is_needed(
    parts: AutoTopUps, customer: Organization, permissions: list[str]
) -> None:
    weak = parts.platform.passport(customer.id, *permissions)
    for method, body in (("GET", None), ("PUT", SETTINGS), ("DELETE", None)):
        refused = parts.settings.request(method, PATH, by=weak, json=body)
        problem(refused, 403, "permission_denied")


@pytest.mark.parametrize("order", [(CARD, PAYMENT), (PAYMENT, CARD)], ids=str)
def test_a_card_is_saved_by_paying_in_whatever_order_it_is_told(
    parts: AutoTopUps, order: tuple[str, str]
) -> None:
    organization = parts.platform.organization()
    payment_id = parts.buy(organization)["payment_intent"]
    outcomes = {CARD: "card_saved", PAYMENT: "credited"}
    assert parts.tell(order[0], of=payment_id) == [outcomes[order[0]]]
    problem(parts.set(organization), 409, "no_saved_card")
    assert parts.tell(order[1], order[1], of=payment_id) == [outcomes[order[1]]] * 2
    done(parts.set(organization))


def test_a_card_is_kept_only_where_its_owner_asked_for_it(parts: AutoTopUps) -> None:
    organization = parts.platform.organization()
    payment_id = parts.buy(organization, save_card=False)["payment_intent"]
    assert parts.tell(CARD, PAYMENT, of=payment_id) == ["unknown_type", "credited"]
    problem(parts.set(organization), 409, "no_saved_card")


def test_who_is_known_to_the_provider_stays_one_customer(
    parts: AutoTopUps, customer: Organization
) -> None:
    first = parts.platform.value("select customer_id from billing.saved_cards")
    checkout = parts.buy(customer)
    assert checkout["customer"] == first
    parts.tell(CARD, PAYMENT, of=checkout["payment_intent"])
    parts.spend(customer, 10_000_000)
    done(parts.set(customer))
    task = parts.begin(customer)
    done(parts.work(task))
    (charge,) = parts.charges(customer)
    cards = parts.platform.fetch(
        "select payment_method_id from billing.saved_cards order by created_at"
    )
    assert charge["customer"] == first
    assert len(cards) == 2
    assert charge["payment_method"] == cards[-1][0], "the newest card pays"


def test_a_checkout_that_is_repeated_asks_the_same(
    parts: AutoTopUps,
) -> None:
    """What the provider is asked for must not change with what is known meanwhile."""
    body, path = {"amount": "10.00", "save_card": True}, "/v1/credits/checkout"
    newcomer = parts.platform.organization()
    door = "on function api.attach_checkout"
    parts.platform.alter(f"revoke execute {door} from faregate_functions, service_role")
    lost = parts.shop.post(path, body, by=newcomer.passport, repeat="the-same")
    problem(lost, 500, "internal")
    parts.platform.alter(f"grant execute {door} to faregate_functions, service_role")
    parts.save_card(newcomer)
    again = parts.shop.post(path, body, by=newcomer.passport, repeat="the-same")
    assert done(again, 201)["checkout_url"]
    other = parts.shop.post(
        path, body | {"save_card": False}, by=newcomer.passport, repeat="the-same"
    )
    problem(other, 409, "idempotency_conflict")


@pytest.mark.parametrize("value", ["true", 1, 0, None, [], "yes"])
def test_a_card_is_saved_or_not(parts: AutoTopUps, value: object) -> None:
    organization = parts.platform.organization()
    body = {"amount": "10.00", "save_card": value}
    refused = parts.shop.post("/v1/credits/checkout", body, by=organization.passport)
    problem(refused, 400, "invalid_request")


def test_nobody_gets_anybody_elses_card(parts: AutoTopUps, customer: Organization) -> None:
    """Metadata that names another organization leads nowhere: it must be that one's payment."""
    thief = parts.platform.organization()
    checkout = parts.buy(thief, save_card=False)
    parts.tell(PAYMENT, of=checkout["payment_intent"])
    (stolen,) = (
        found
        for found in parts.platform.cloud.remembered("payment_intent")
        if found["metadata"].get("organization_id") == customer.id
    )
    told = stripe_events.event(CARD, stolen | {"metadata": checkout["metadata"]})
    assert done(parts.stripe.tell(told))["outcome"] == "card_saved"
    problem(parts.set(thief), 409, "no_saved_card")


def test_notifications_are_listed_in_pages_newest_first(
    parts: AutoTopUps, customer: Organization
) -> None:
    assert parts.notifications(customer) == {"data": [], "has_more": False, "next_cursor": None}
    for reason in ("first", "second", "third"):
        parts.platform.run(
            "select billing.pause_auto_top_up(%s, %s, billing.uuidv7(), 1)", customer.id, reason
        )
        parts.platform.run("select pg_sleep(0.002)")  # Ids of one millisecond have no order.
    page = parts.notifications(customer, limit=2)
    rest = parts.notifications(customer, limit=2, cursor=page["next_cursor"])
    assert [each["reason"] for each in page["data"] + rest["data"]] == ["third", "second", "first"]
    assert parts.notifications(parts.platform.organization())["data"] == []
    assert parts.start() == 0
    assert parts.tasks(customer) == [], "nobody but the customer is told"
