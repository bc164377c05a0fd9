"""authorizations: what usage to come would cost, and a cheaper model."""

from typing import Any

import pytest
from psycopg.types.json import Jsonb

from tests.harness.answers import done, problem
from tests.harness.client import Client, Load
from tests.harness.operations import ABSENT
from tests.harness.platform import Organization, Platform

ESTIMATE = "/v1/usage/estimate"
CALL: dict[str, Any] = {
    **{"feature": "chat", "provider": "acme", "model": "big"},
    "quantities": {"input_tokens": 1000, "output_tokens": 500},
}


@pytest.fixture
def client(function: Load) -> Client:
    return function("authorizations")


@pytest.fixture
def customer(platform: Platform) -> Organization:
    return platform.organization()


def _sell(platform: Platform, model: str, context: int | None = 10_000, **prices: str) -> None:
    platform.run(
        "insert into billing.provider_models (provider_id, id, position, names, context_tokens,"
        " is_deprecated) values ('acme', %s, 0, array[%s], %s, %s)",
        *(model, model, context, model.startswith("old")),
    )
    platform.run(
        "select billing.add_provider_price('acme', %s, '2000-01-01', 'test', %s)",
        *(model, Jsonb({"-1": prices})),
    )


@pytest.fixture(autouse=True)
def _models(platform: Platform) -> None:
    platform.run("insert into billing.providers (id) values ('acme'), ('other')")
    _sell(platform, "big", input_tokens="0.00001", output_tokens="0.00003")


def test_an_estimate_is_what_it_will_cost(
    client: Client,
    function: Load,
    operator: Organization,
    platform: Platform,
) -> None:
    customer = platform.organization("pro", usd=1)
    estimate = done(client.post(ESTIMATE, CALL, by=customer.passport))
    assert estimate == {
        **{"price": "0.03125", "cost": None, "margin": None},
        **{"reason": None, "cheaper": None},
    }
    asked = CALL | {"organization_id": customer.id}
    told = done(client.post(ESTIMATE, asked, by=operator.passport))
    assert told == estimate | {"cost": "0.025", "margin": "0.00625"}
    before = platform.contents()
    done(client.post(ESTIMATE, CALL, by=customer.passport))
    assert platform.contents() == before
    event = CALL | {"organization_id": customer.id, "source": "gateway", "id": "1"}
    done(function("usage").post("/v1/usage/events", {"events": [event]}, by=operator.passport))
    assert platform.wallet(customer) == (1_000_000 - 31_250, 0)


def test_the_cheapest_model_that_would_do(
    client: Client, operator: Organization, customer: Organization, platform: Platform
) -> None:
    _sell(platform, "small", input_tokens="0.000001", output_tokens="0.000002")
    _sell(platform, "medium", input_tokens="0.000005", output_tokens="0.00001")
    _sell(platform, "short", context=1499, input_tokens="0", output_tokens="0.0000001")
    _sell(platform, "unknown", context=None, input_tokens="0", output_tokens="0.0000001")
    _sell(platform, "old", input_tokens="0", output_tokens="0.0000001")
    _sell(platform, "trial", input_tokens="0", output_tokens="0")
    _sell(platform, "embedding", input_tokens="0.0000001")
    answer = done(client.post(ESTIMATE, CALL, by=customer.passport))
    assert answer["price"] == "0.0375"
    assert answer["cheaper"] == {"model": "small", "price": "0.003", "saving": "0.0345"}
    platform.run(
        "select billing.add_usage_rate(jsonb_populate_record(null::billing.usage_rates, %s), '{}')",
        Jsonb(
            {
                **{"id": ABSENT, "organization_id": customer.id, "markup": 100},
                **{"provider_id": "acme", "model_id": "small", "created_by": "operator"},
                "effective_at": "2026-01-02T00:00:00Z",
            }
        ),
    )
    # What counts is what the customer pays.
    answer = done(client.post(ESTIMATE, CALL, by=customer.passport))
    assert answer["cheaper"] == {"model": "medium", "price": "0.015", "saving": "0.0225"}
    least = CALL | {"model": "small"}
    assert done(client.post(ESTIMATE, least, by=operator.passport))["cheaper"] is None


def test_tiers_count_what_was_used(
    client: Client, function: Load, operator: Organization, platform: Platform
) -> None:
    customer = platform.organization(usd=10)
    package = {"images": {"kind": "package", "size": 10, "price": "1"}}
    rate = {"organization_id": customer.id, "prices": package, "may_be_below_cost": True}
    done(function("rates").post("/v1/usage/rates", rate, by=operator.passport), 201)
    event = {"feature": "draw", "quantities": {"images": 9}}
    said = event | {"organization_id": customer.id, "source": "gateway", "id": "1"}
    done(function("usage").post("/v1/usage/events", {"events": [said]}, by=operator.passport))
    for images, price in ((1, "0"), (2, "1"), (12, "2")):
        asked = event | {"quantities": {"images": images}}
        assert done(client.post(ESTIMATE, asked, by=customer.passport))["price"] == price


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        ({"model": "nobody's"}, "unknown_model"),
        ({"provider": "other"}, "unknown_model"),
        ({"quantities": {"images": 1}}, "cost_unknown"),
        ({"provider": None, "model": None}, "rate_unknown"),
    ],
    ids=str,
)
def test_what_cannot_be_rated(
    client: Client, customer: Organization, said: dict[str, Any], reason: str
) -> None:
    answer = done(client.post(ESTIMATE, CALL | said, by=customer.passport))
    assert (answer["price"], answer["reason"], answer["cheaper"]) == (None, reason, None)


@pytest.mark.parametrize(
    "said",
    [
        {"model": None},
        {"quantities": {}},
        {"quantities": {"input_tokens": 1, "cache_read_tokens": 2}},
        {"occurred_at": "2026-11-21"},
        {"organization_id": "x"},
    ],
    ids=str,
)
def test_what_is_no_usage(client: Client, customer: Organization, said: dict[str, Any]) -> None:
    problem(client.post(ESTIMATE, CALL | said, by=customer.passport), 400, "invalid_request")


def test_who_estimates_for_whom(
    client: Client, operator: Organization, customer: Organization, platform: Platform
) -> None:
    other = platform.organization()
    asked = CALL | {"organization_id": other.id}
    refused = client.post(ESTIMATE, asked, by=customer.passport)
    assert problem(refused, 403, "permission_denied")["permission"] == "admin"
    absent = CALL | {"organization_id": ABSENT}
    problem(client.post(ESTIMATE, absent, by=operator.passport), 404, "organization_not_found")
