"""entitlements: what is listed and granted, what may be used now, and what usage may cost."""

from typing import Any

import httpx
import pytest

from tests.harness.answers import done, problem
from tests.harness.client import Client, Load
from tests.harness.operations import ABSENT
from tests.harness.platform import Organization, Platform

FEATURE = "/v1/features/images"
CAPS = "/v1/spend-caps"
LIMIT = {"meter": "images", "period": "month", "limit": 10}


@pytest.fixture
def client(function: Load) -> Client:
    return function("entitlements")


@pytest.fixture
def customer(platform: Platform) -> Organization:
    return platform.organization(usd=10)


def _put(client: Client, path: str, body: dict[str, Any], by: str) -> httpx.Response:
    return client.request("PUT", path, json=body, by=by)


def _list(
    client: Client, operator: Organization, kind: str = "metered", **plans: dict[str, Any]
) -> dict[str, Any]:
    body = {"kind": kind, "description": "Pictures", "plans": plans}
    return done(_put(client, FEATURE, body, operator.passport))


def _use(function: Load, operator: Organization, customer: Organization, number: int) -> str:
    event = {
        **{"organization_id": customer.id, "source": "gateway", "id": f"event-{number}"},
        **{"feature": "images", "quantities": {"images": number}},
    }
    answer = done(
        function("usage").post("/v1/usage/events", {"events": [event]}, by=operator.passport)
    )
    (outcome,) = answer["events"]
    return str(outcome["reason"] or outcome["status"])


@pytest.fixture
def price(platform: Platform) -> None:
    """An image costs ten cents."""
    platform.run(
        "select billing.add_usage_rate(jsonb_populate_record(null::billing.usage_rates,"
        " jsonb_build_object('id', billing.uuidv7(), 'effective_at', '2026-01-02T00:00:00Z',"
        """ 'created_by', 'operator')), '{"images": "0.1"}')"""
    )


def test_a_feature_is_listed_changed_and_listed_no_more(
    client: Client, operator: Organization
) -> None:
    granted = {
        **{"granted": True, "value": None, "meter": "images", "period": "month"},
        **{"limit": 10.0, "enforcement": "hard"},
    }
    closed = dict.fromkeys(granted) | {"granted": False}
    feature = _list(client, operator, pro=LIMIT, free={"granted": False})
    assert feature == {
        **{"id": "images", "kind": "metered", "description": "Pictures"},
        **{"plans": {"pro": granted, "free": closed}},
    }
    assert done(client.get("/v1/features", by=operator.passport))["data"] == [feature]
    feature = _list(client, operator, "boolean", enterprise={})
    assert list(feature["plans"]) == ["enterprise"]
    for _ in range(2):
        deleted = client.request("DELETE", FEATURE, by=operator.passport)
        assert deleted.status_code == 204
    assert done(client.get("/v1/features", by=operator.passport))["data"] == []


@pytest.mark.parametrize(
    "terms",
    [
        {"meter": "images"},
        {"meter": "images", "period": "month"},
        {"period": "month", "limit": 1},
        {"enforcement": "soft"},
        LIMIT | {"limit": -1},
        LIMIT | {"limit": 1.5},
        LIMIT | {"limit": "1"},
        LIMIT | {"period": "hour"},
        LIMIT | {"meter": "Images"},
        LIMIT | {"enforcement": "firm"},
        {"granted": "yes"},
        {"value": ["a"]},
        {"value": "x" * 201},
        {"unknown": 1},
    ],
    ids=str,
)
def test_terms_are_what_the_contract_says(
    client: Client, operator: Organization, platform: Platform, terms: dict[str, Any]
) -> None:
    before = platform.contents()
    body = {"kind": "metered", "description": "Pictures", "plans": {"free": terms}}
    problem(_put(client, FEATURE, body, operator.passport), 400, "invalid_request")
    assert platform.contents() == before


def test_refusals_change_nothing(
    client: Client, operator: Organization, customer: Organization, platform: Platform
) -> None:
    _list(client, operator, "static", free={"value": 1})
    terms = {"organization_id": customer.id, "terms": {}}
    before = platform.contents()
    for path, body, status, code in (
        (FEATURE, {"kind": "boolean", "plans": {"platinum": {}}}, 400, "plan_unknown"),
        (FEATURE, {"kind": "static", "plans": {"free": LIMIT}}, 400, "terms_not_of_kind"),
        (FEATURE, {"kind": "boolean", "plans": {"free": {"value": 1}}}, 400, "terms_not_of_kind"),
    ):
        described = {"description": "Pictures"} | body
        problem(_put(client, path, described, operator.passport), status, code)
    for path, body, status, code in (
        ("/v1/features/absent/terms", terms, 404, "feature_not_found"),
        (f"{FEATURE}/terms", terms | {"terms": LIMIT}, 400, "terms_not_of_kind"),
        (f"{FEATURE}/terms", terms | {"organization_id": ABSENT}, 404, "organization_not_found"),
    ):
        problem(_put(client, path, body, operator.passport), status, code)
    assert platform.contents() == before


def test_a_customer_asks_before_each_call(
    client: Client,
    operator: Organization,
    customer: Organization,
    function: Load,
    price: None,
) -> None:
    path = "/v1/entitlements/images"
    unlisted = done(client.get(path, by=customer.passport))
    assert (unlisted["allowed"], unlisted["limit"], unlisted["remaining"]) == (True, None, None)
    _list(client, operator, free=LIMIT)
    assert _use(function, operator, customer, 4) == "accepted"
    answer = done(client.get(f"{path}?quantity=6", by=customer.passport))
    assert answer.pop("resets_at").endswith("-01T00:00:00Z")
    expected = {
        **{"feature": "images", "kind": "metered", "allowed": True, "reason": None, "value": None},
        **{"meter": "images", "used": 4.0, "limit": 10.0, "remaining": 6.0, "period": "month"},
        "enforcement": "hard",
    }
    assert answer == expected
    answer = done(client.get(f"{path}?quantity=7", by=customer.passport))
    assert (answer["allowed"], answer["reason"]) == (False, "limit_reached")
    assert _use(function, operator, customer, 7) == "limit_reached"
    (listed,) = done(client.get("/v1/entitlements", by=customer.passport))["data"]
    assert listed.pop("resets_at")
    assert listed == expected
    asked = f"{path}?organization_id={customer.id}&quantity=7"
    assert done(client.get(asked, by=operator.passport))["reason"] == "limit_reached"
    refused = client.get(f"{path}?organization_id={ABSENT}", by=operator.passport)
    problem(refused, 404, "organization_not_found")
    refused = client.get(f"{path}?organization_id={customer.id}", by=customer.passport)
    problem(refused, 403, "permission_denied")


def test_terms_of_their_own(client: Client, operator: Organization, customer: Organization) -> None:
    _list(client, operator, "static", free={"value": "small"})
    path, body = f"{FEATURE}/terms", {"organization_id": customer.id, "terms": {"value": True}}
    terms = done(_put(client, path, body, operator.passport))
    assert (terms["value"], terms["is_own"], terms["kind"]) == (True, True, "static")
    asked = "/v1/entitlements/images"
    assert done(client.get(asked, by=customer.passport))["value"] is True
    terms = done(_put(client, path, body | {"terms": None}, operator.passport))
    assert (terms["value"], terms["is_own"]) == ("small", False)


def test_money_is_asked_of_what_may_cost_some(
    client: Client, operator: Organization, platform: Platform
) -> None:
    poor = platform.organization()
    path = "/v1/entitlements/images"
    assert done(client.get(path, by=poor.passport))["reason"] == "insufficient_credits"
    _list(client, operator, "boolean", free={})
    assert done(client.get(path, by=poor.passport))["allowed"]
    _list(client, operator, "metered", free={})
    assert done(client.get(path, by=poor.passport))["reason"] == "insufficient_credits"
    platform.run(
        "insert into billing.usage_policies (organization_id, allow_debt_micros) values (%s, 1)",
        poor.id,
    )
    assert done(client.get(path, by=poor.passport))["allowed"]
    platform.run("update billing.wallets set debt_micros = 2 where organization_id = %s", poor.id)
    assert done(client.get(path, by=poor.passport))["reason"] == "debt_outstanding"
    platform.run("update billing.wallets set debt_micros = 0 where organization_id = %s", poor.id)


def test_a_customer_caps_a_passport(
    client: Client,
    operator: Organization,
    customer: Organization,
    platform: Platform,
    function: Load,
    price: None,
) -> None:
    key = platform.passport_id(customer.passport)
    body = {"passport_id": key, "period": "day", "cap": "0.500000"}
    cap = done(_put(client, CAPS, body, customer.passport))
    assert cap | {"id": ""} == body | {"id": "", "is_operators": False}
    (listed,) = done(client.get(CAPS, by=customer.passport))["data"]
    assert listed.pop("resets_at").endswith("T00:00:00Z")
    assert listed == cap | {"spent": "0.000000"}
    # Its events say which passport they were used with: without one, the cap is not theirs.
    assert _use(function, operator, customer, 6) == "accepted"
    answer = done(client.get("/v1/entitlements/images", by=customer.passport))
    assert answer["allowed"]
    done(_put(client, CAPS, {"period": "day", "cap": "0.5"}, customer.passport))
    answer = done(client.get("/v1/entitlements/images", by=customer.passport))
    assert answer["reason"] == "spend_cap_reached"
    assert _use(function, operator, customer, 1) == "spend_cap_reached"
    listed = done(client.get(f"{CAPS}?organization_id={customer.id}", by=operator.passport))
    assert [each["spent"] for each in listed["data"]] == ["0.600000", "0.000000"]
    for each in listed["data"]:
        path = f"{CAPS}/{each['id']}"
        assert client.request("DELETE", path, by=customer.passport).status_code == 204
        problem(client.request("DELETE", path, by=customer.passport), 404, "spend_cap_not_found")


def test_an_operators_cap_is_not_the_customers_to_change(
    client: Client, operator: Organization, customer: Organization, platform: Platform
) -> None:
    body = {"organization_id": customer.id, "period": "month", "cap": "1"}
    cap = done(_put(client, CAPS, body, operator.passport))
    assert cap["is_operators"]
    before = platform.contents()
    problem(_put(client, CAPS, body, customer.passport), 403, "permission_denied")
    path = f"{CAPS}/{cap['id']}"
    problem(client.request("DELETE", path, by=customer.passport), 404, "spend_cap_not_found")
    stranger = platform.passport_id(operator.passport)
    body = {"passport_id": stranger, "period": "month", "cap": "1"}
    problem(_put(client, CAPS, body, customer.passport), 404, "passport_not_found")
    assert platform.contents() == before
    own = done(_put(client, CAPS, {"period": "month", "cap": "9"}, customer.passport))
    assert own["id"] != cap["id"]
    path += f"?organization_id={customer.id}"
    assert client.request("DELETE", path, by=operator.passport).status_code == 204


def test_a_passport_that_is_rotated_keeps_its_caps(
    client: Client, customer: Organization, platform: Platform, function: Load
) -> None:
    key = platform.passport_id(customer.passport)
    done(_put(client, CAPS, {"passport_id": key, "period": "day", "cap": "1"}, customer.passport))
    passports = function("passports")
    new = done(passports.post(f"/v1/passports/{key}/rotate", {}, by=customer.passport), 201)
    caps = done(client.get(CAPS, by=new["key"]))["data"]
    assert {each["passport_id"] for each in caps} == {key, new["id"]}
