"""authorizations: money that is held for a call, and what the call came to."""

from typing import Any

import httpx
import pytest

from faregate.errors import REASONS
from tests.harness.answers import done, problem
from tests.harness.client import Client, Load
from tests.harness.operations import ABSENT
from tests.harness.platform import Organization, Platform

AUTHORIZE = "/v1/usage/authorize"


@pytest.fixture
def client(function: Load) -> Client:
    return function("authorizations")


@pytest.fixture
def customer(platform: Platform, function: Load, operator: Organization) -> Organization:
    """A customer with $10, to whom an image costs ten cents."""
    customer = platform.organization(usd=10)
    rate = {"organization_id": customer.id, "prices": {"images": "0.1000001"}}
    done(function("rates").post("/v1/usage/rates", rate, by=operator.passport), 201)
    return customer


def _ask(customer: Organization, images: float = 20, **said: Any) -> dict[str, Any]:  # noqa: ANN401  any JSON
    return {
        **{"organization_id": customer.id, "feature": "draw", "quantities": {"images": images}},
        **said,
    }


@pytest.fixture
def asked(client: Client, operator: Organization, customer: Organization) -> dict[str, Any]:
    """What is authorized: twenty images."""
    return done(client.post(AUTHORIZE, _ask(customer), by=operator.passport), 201)


def _capture(
    client: Client,
    operator: Organization,
    asked: dict[str, Any],
    images: float,
    repeat: str = "",
    **said: Any,  # noqa: ANN401  any JSON
) -> httpx.Response:
    body = {"organization_id": asked["organization_id"], "quantities": {"images": images}} | said
    path = f"/v1/usage/authorizations/{asked['id']}/capture"
    return client.post(path, body, by=operator.passport, repeat=repeat)


def _release(client: Client, operator: Organization, asked: dict[str, Any]) -> httpx.Response:
    path = f"/v1/usage/authorizations/{asked['id']}/release"
    body = {"organization_id": asked["organization_id"]}
    return client.post(path, body, by=operator.passport)


def test_a_call_is_held_and_captured(
    client: Client,
    operator: Organization,
    customer: Organization,
    platform: Platform,
    asked: dict[str, Any],
) -> None:
    assert asked | {"expires_at": ""} == {
        **{"id": asked["id"], "organization_id": customer.id, "status": "open"},
        **{"source": "authorization", "event_id": asked["id"], "feature": "draw"},
        **{"provider": None, "model": None, "passport_id": None, "quantities": {"images": 20}},
        **{"max_price": "2.000002", "price": None, "held": "2.000002", "expires_at": ""},
    }
    assert platform.wallet(customer) == (10_000_000, 2_000_002)
    path = f"/v1/usage/authorizations/{asked['id']}"
    assert done(client.get(path, by=customer.passport)) == asked
    captured = done(_capture(client, operator, asked, 3, "capture-1"))
    closed = {"status": "captured", "price": "0.3000003", "held": "0.000000"}
    assert captured == asked | closed
    assert platform.wallet(customer) == (9_700_000, 0)
    again = _capture(client, operator, asked, 3, "capture-1")
    assert done(again) == captured
    assert again.headers["Idempotent-Replayed"] == "true"
    named = f"{path}?organization_id={customer.id}"
    assert done(client.get(named, by=operator.passport)) == captured
    stored = platform.fetch(
        "select source, event_id, feature, quantities from billing.usage_events"
    )
    assert stored == [("authorization", asked["id"], "draw", {"images": 3})]


def test_what_is_held_is_rounded_up_and_nobody_elses(
    client: Client, function: Load, operator: Organization, customer: Organization
) -> None:
    one = done(client.post(AUTHORIZE, _ask(customer, 1), by=operator.passport), 201)
    assert (one["max_price"], one["held"]) == ("0.1000001", "0.100001")
    refused = client.post(AUTHORIZE, _ask(customer, 99), by=operator.passport)
    body = problem(refused, 402, "insufficient_credits")
    assert (body["required"], body["available"]) == ("9.900010", "9.899999")
    done(client.post(AUTHORIZE, _ask(customer, 98), by=operator.passport), 201)
    event = _ask(customer, 1, source="gateway", id="1")
    answer = function("usage").post("/v1/usage/events", {"events": [event]}, by=operator.passport)
    assert done(answer)["events"][0]["reason"] == "insufficient_credits"


@pytest.mark.parametrize("end", ["captured", "released", "expired"])
def test_an_authorization_ends_once(
    client: Client,
    function: Load,
    operator: Organization,
    customer: Organization,
    platform: Platform,
    asked: dict[str, Any],
    end: str,
) -> None:
    if end == "captured":
        done(_capture(client, operator, asked, 1))
    elif end == "released":
        assert done(_release(client, operator, asked))["status"] == "released"
    else:
        platform.advance(601)
    before = platform.contents()
    for refused in (_capture(client, operator, asked, 1), _release(client, operator, asked)):
        assert problem(refused, 409, "hold_closed")["hold_status"] == end
    assert platform.contents() == before
    if end == "expired":
        platform.fetch("select * from api.expire_holds(10)")
    path = f"/v1/usage/authorizations/{asked['id']}"
    assert done(client.get(path, by=customer.passport))["status"] == end
    assert platform.wallet(customer)[1] == 0


def test_a_call_that_came_to_more_is_charged_and_owed(
    client: Client,
    operator: Organization,
    customer: Organization,
    platform: Platform,
    asked: dict[str, Any],
) -> None:
    assert done(_capture(client, operator, asked, 101))["price"] == "10.1000101"
    assert platform.wallet(customer) == (0, 0)
    assert platform.value("select max(debt_micros) from billing.wallets") == 100_010


def test_a_call_whose_event_came_already_is_not_charged_again(
    client: Client,
    function: Load,
    operator: Organization,
    customer: Organization,
    platform: Platform,
) -> None:
    named: dict[str, Any] = {"source": "gateway", "id": "request-1"}
    asked = done(client.post(AUTHORIZE, _ask(customer, **named), by=operator.passport), 201)
    assert (asked["source"], asked["event_id"]) == ("gateway", "request-1")
    event = _ask(customer, 2, **named)
    done(function("usage").post("/v1/usage/events", {"events": [event]}, by=operator.passport))
    before = platform.contents()
    refused = _capture(client, operator, asked, 3)
    assert problem(refused, 409, "usage_refused")["reason"] == "event_conflict"
    assert platform.contents() == before
    assert done(_capture(client, operator, asked, 2))["price"] == "0.2000002"
    assert platform.wallet(customer) == (9_800_000, 0)
    again = client.post(AUTHORIZE, _ask(customer, **named), by=operator.passport)
    assert problem(again, 409, "usage_refused")["reason"] == "event_conflict"


def test_a_debt_that_is_allowed_is_not_held(
    client: Client,
    function: Load,
    operator: Organization,
    customer: Organization,
    platform: Platform,
) -> None:
    policy = {"organization_id": customer.id, "allow_debt": "5"}
    done(function("rates").post("/v1/usage/short-money", policy, by=operator.passport), 201)
    asked = done(client.post(AUTHORIZE, _ask(customer, 120), by=operator.passport), 201)
    assert (asked["max_price"], asked["held"]) == ("12.000012", "10.000000")
    refused = client.post(AUTHORIZE, _ask(customer, 51), by=operator.passport)
    problem(refused, 402, "insufficient_credits")
    done(_capture(client, operator, asked, 120))
    assert platform.wallet(customer) == (0, 0)
    more = done(client.post(AUTHORIZE, _ask(customer, 1), by=operator.passport), 201)
    assert more["held"] == "0.000000"
    refused = client.post(AUTHORIZE, _ask(customer, 31), by=operator.passport)
    problem(refused, 402, "debt_outstanding")


def test_what_would_be_rejected_is_refused(
    client: Client,
    function: Load,
    operator: Organization,
    customer: Organization,
    platform: Platform,
) -> None:
    terms = {
        "kind": "metered",
        "description": "Images",
        "plans": {"free": {"meter": "images", "limit": 5, "period": "day", "enforcement": "hard"}},
    }
    set_feature = function("entitlements").request(
        "PUT", "/v1/features/draw", by=operator.passport, json=terms
    )
    assert set_feature.is_success, set_feature.text
    before = platform.contents()
    for said, reason in (
        ({}, "limit_reached"),
        ({"quantities": {"unheard_of": 1}, "feature": "else"}, "rate_unknown"),
        ({"provider": "nobody", "model": "m"}, "unknown_model"),
    ):
        refused = client.post(AUTHORIZE, _ask(customer, **said), by=operator.passport)
        told = problem(refused, 409, "usage_refused")
        assert (told["reason"], told["detail"]) == (reason, REASONS[reason])
    assert {
        name: count for name, count in platform.contents().items() if name != "model_names"
    } == {name: count for name, count in before.items() if name != "model_names"}
    asked = done(client.post(AUTHORIZE, _ask(customer, 5), by=operator.passport), 201)
    # It has happened: a limit does not undo it.
    assert done(_capture(client, operator, asked, 6))["status"] == "captured"


def test_more_than_any_wallet_holds_is_refused(
    client: Client, operator: Organization, customer: Organization
) -> None:
    refused = client.post(AUTHORIZE, _ask(customer, 10**12), by=operator.passport)
    problem(refused, 402, "insufficient_credits")


def test_its_hold_is_captured_with_its_event_alone(
    client: Client,
    function: Load,
    operator: Organization,
    customer: Organization,
    asked: dict[str, Any],
    platform: Platform,
) -> None:
    before = platform.contents()
    body = {"organization_id": customer.id, "amount": "0.01"}
    path = f"/v1/holds/{asked['id']}/capture"
    problem(function("holds").post(path, body, by=operator.passport), 409, "hold_of_authorization")
    assert platform.contents() == before


def test_what_policies_refuse_is_refused(
    client: Client, function: Load, operator: Organization, customer: Organization
) -> None:
    rule = {"effect": "deny", "description": "no art", "match": {"feature": ["draw"]}}
    done(function("policies").post("/v1/policies", rule, by=operator.passport), 201)
    refused = client.post(AUTHORIZE, _ask(customer), by=operator.passport)
    assert problem(refused, 403, "policy_denied")["matched"] == {"feature": "draw"}
    done(client.post(AUTHORIZE, _ask(customer) | {"feature": "print"}, by=operator.passport), 201)


@pytest.mark.parametrize(
    ("said", "status", "code"),
    [
        ({"expires_in_seconds": 0}, 400, "invalid_request"),
        ({"source": "gateway"}, 400, "invalid_request"),
        ({"quantities": {}}, 400, "invalid_request"),
        ({"organization_id": ABSENT}, 404, "organization_not_found"),
    ],
    ids=str,
)
def test_what_cannot_be_authorized(
    client: Client,
    operator: Organization,
    customer: Organization,
    platform: Platform,
    said: dict[str, Any],
    status: int,
    code: str,
) -> None:
    before = platform.contents()
    problem(client.post(AUTHORIZE, _ask(customer) | said, by=operator.passport), status, code)
    assert platform.contents() == before


def test_customers_authorize_nothing(
    client: Client,
    customer: Organization,
    platform: Platform,
    asked: dict[str, Any],
) -> None:
    before = platform.contents()
    for refused in (
        client.post(AUTHORIZE, _ask(customer), by=customer.passport),
        _capture(client, customer, asked, 1),
        _release(client, customer, asked),
    ):
        assert problem(refused, 403, "permission_denied")["permission"] == "admin"
    assert platform.contents() == before


def test_a_plain_hold_is_no_authorization(
    client: Client, function: Load, operator: Organization, customer: Organization
) -> None:
    body = {"organization_id": customer.id, "amount": "1", "expires_in_seconds": 60}
    hold = done(function("holds").post("/v1/holds", body, by=operator.passport), 201)
    for refused in (_capture(client, operator, hold, 1), _release(client, operator, hold)):
        problem(refused, 404, "authorization_not_found")
