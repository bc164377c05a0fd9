"""sessions: what does not start, and why."""

from typing import Any

import pytest

from tests.harness.answers import done, problem
from tests.harness.client import Client, Load
from tests.harness.platform import Platform

SMALL = {"tier": "small"}


@pytest.fixture
def client(function: Load) -> Client:
    return function("sessions")


@pytest.mark.parametrize(
    ("plan", "tiers"),
    [
        ("free", ["small"]),
        ("pro", ["small", "medium", "large", "gpu"]),
        ("enterprise", ["small", "medium", "large", "xlarge", "gpu"]),
        ("admin", ["small", "medium", "large", "xlarge", "gpu"]),
    ],
)
def test_a_plan_includes_its_tiers(
    client: Client, platform: Platform, plan: str, tiers: list[str]
) -> None:
    organization = platform.organization(plan, usd=10)
    for tier in ("small", "medium", "large", "xlarge", "gpu"):
        start = client.post("/v1/sessions", {"tier": tier}, by=organization.passport)
        path = "/v1/sessions/estimate"
        estimate = client.get(path, by=organization.passport, params={"tier": tier})
        if tier in tiers:
            assert done(start, 201)["hourly_price"] == done(estimate)["hourly_price"]
        else:
            for response in (start, estimate):
                refusal = problem(response, 403, "tier_not_allowed")
                assert sorted(refusal["allowed_tiers"]) == sorted(tiers)


def test_what_the_money_does_not_cover_is_refused(client: Client, platform: Platform) -> None:
    organization = platform.organization()
    platform.give(organization.id, 8_332)
    before = platform.contents()
    response = client.post("/v1/sessions", SMALL, by=organization.passport)
    refusal = problem(response, 402, "insufficient_credits")
    assert (refusal["required"], refusal["available"]) == ("0.008333", "0.008332")
    assert refusal["top_up_url"] == f"{platform.cloud.layout.api_url}/docs"
    assert platform.contents() == before
    platform.give(organization.id, 1)
    done(client.post("/v1/sessions", SMALL, by=organization.passport), 201)
    assert platform.wallet(organization) == (8_333, 8_333)


def test_a_refusal_is_not_the_keys_answer(client: Client, platform: Platform) -> None:
    organization = platform.organization()
    by = organization.passport
    problem(
        client.post("/v1/sessions", SMALL, by=by, repeat="start-01"), 402, "insufficient_credits"
    )
    platform.give(organization.id, 1_000_000)
    response = client.post("/v1/sessions", SMALL, by=by, repeat="start-01")
    assert "idempotent-replayed" not in response.headers
    done(response, 201)


@pytest.mark.parametrize(
    ("body", "where"),
    [
        pytest.param({"tier": "huge"}, "tier", id="unknown tier"),
        pytest.param({"tier": ["small"]}, "tier", id="a list"),
        pytest.param(SMALL | {"max_seconds": 59}, "max_seconds", id="too short"),
        pytest.param(SMALL | {"max_seconds": 31 * 86400 + 1}, "max_seconds", id="too long"),
        pytest.param(SMALL | {"max_seconds": "60"}, "max_seconds", id="text"),
        pytest.param(SMALL | {"max_seconds": 60.5}, "max_seconds", id="half a second"),
        pytest.param(SMALL | {"max_seconds": 59.0}, "max_seconds", id="too short a float"),
        pytest.param(SMALL | {"max_seconds": True}, "max_seconds", id="a truth"),
        pytest.param(
            SMALL | {"heartbeat_timeout_seconds": 0}, "heartbeat_timeout_seconds", id="no patience"
        ),
        pytest.param(SMALL | {"name": ""}, "name", id="empty name"),
        pytest.param(SMALL | {"hourly_price": "0"}, "hourly_price", id="a price"),
        pytest.param(SMALL | {"plan": "admin"}, "plan", id="a plan"),
    ],
)
def test_refuses_to_start(
    client: Client, platform: Platform, body: dict[str, Any], where: str
) -> None:
    organization = platform.organization(usd=10)
    before = platform.contents()
    response = client.post("/v1/sessions", body, by=organization.passport)
    refusal = problem(response, 400, "invalid_request")
    assert refusal["errors"][0]["where"].startswith(f"body.{where}")
    assert platform.contents() == before
