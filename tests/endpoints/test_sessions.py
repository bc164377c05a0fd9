"""sessions: estimate, start, heartbeat, watch and stop."""

from datetime import datetime
from decimal import ROUND_HALF_UP, Decimal
from typing import Any

import pytest

from tests.harness.answers import done, problem
from tests.harness.client import Client, Load
from tests.harness.platform import Organization, Platform

SMALL = {"tier": "small"}


@pytest.fixture
def client(function: Load) -> Client:
    return function("sessions")


def _start(client: Client, organization: Organization, **body: object) -> dict[str, Any]:
    return done(client.post("/v1/sessions", SMALL | body, by=organization.passport), 201)


def _get(client: Client, organization: Organization, session: dict[str, Any]) -> dict[str, Any]:
    return done(client.get(f"/v1/sessions/{session['id']}", by=organization.passport))


def _stop(
    client: Client, organization: Organization, session: dict[str, Any], **body: object
) -> dict[str, Any]:
    path = f"/v1/sessions/{session['id']}/stop"
    return done(client.post(path, body, by=organization.passport))


def _cost(session: dict[str, Any]) -> Decimal:
    """Compute what the exact duration costs, rounded once."""
    ended, started = (datetime.fromisoformat(session[name]) for name in ("ended_at", "started_at"))
    seconds = Decimal((ended - started).days * 86_400 + (ended - started).seconds)
    seconds += Decimal((ended - started).microseconds) / 1_000_000
    cost = Decimal(session["hourly_price"]) * seconds / 3600
    return cost.quantize(Decimal("0.000001"), ROUND_HALF_UP)


def test_a_start_holds_the_first_window(client: Client, platform: Platform) -> None:
    organization = platform.organization("pro", usd=10)
    session = _start(client, organization, tier="large", name="Training")
    assert (session["name"], session["tier"], session["status"]) == ("Training", "large", "running")
    assert (session["hourly_price"], session["charged"]) == ("0.050000", "0.000000")
    assert session["held"] == "0.008333"
    assert platform.wallet(organization) == (10_000_000, 8_333)
    window = datetime.fromisoformat(session["paid_until"]) - datetime.fromisoformat(
        session["started_at"]
    )
    assert window.total_seconds() == 600


def test_the_cost_grows_while_it_runs(client: Client, platform: Platform) -> None:
    organization = platform.organization(usd=10)
    session = _start(client, organization)
    costs = []
    for _ in range(3):
        platform.advance(100)
        costs.append(Decimal(_get(client, organization, session)["cost"]))
    first, second, third = costs
    assert Decimal("0.001388") < first < second < third < Decimal("0.005")
    assert platform.wallet(organization)[0] == 10_000_000


def test_a_stop_charges_the_exact_duration(client: Client, platform: Platform) -> None:
    organization = platform.organization(usd=10)
    session = _start(client, organization)
    platform.advance(3661)
    stopped = _stop(client, organization, session)
    assert (stopped["status"], stopped["close_reason"]) == ("closed", "stopped")
    assert Decimal(stopped["cost"]) == Decimal(stopped["charged"]) == _cost(stopped)
    assert Decimal("0.050847") <= Decimal(stopped["cost"]) < Decimal("0.051")
    charged_micros = int(Decimal(stopped["charged"]) * 1_000_000)
    assert platform.wallet(organization) == (10_000_000 - charged_micros, 0)
    assert _get(client, organization, session) == stopped


def test_a_second_stop_charges_nothing(client: Client, platform: Platform) -> None:
    organization = platform.organization(usd=10)
    session = _start(client, organization)
    platform.advance(60)
    first = _stop(client, organization, session)
    platform.advance(60)
    assert _stop(client, organization, session, reason="failed") == first
    assert platform.value("select count(*) from billing.transfers where reason = 'session'") == 1


def test_a_broken_resource_is_charged_to_its_end(client: Client, platform: Platform) -> None:
    organization = platform.organization(usd=10)
    session = _start(client, organization)
    platform.advance(60)
    failed = _stop(client, organization, session, reason="failed")
    assert failed["close_reason"] == "failed"
    assert Decimal(failed["charged"]) == _cost(failed) > 0


def test_the_same_key_starts_once(client: Client, platform: Platform) -> None:
    organization = platform.organization(usd=10)
    first, again = (
        client.post("/v1/sessions", SMALL, by=organization.passport, repeat="start-01")
        for _ in range(2)
    )
    assert again.headers["idempotent-replayed"] == "true"
    assert done(again, 201) == done(first, 201)
    assert platform.value("select count(*) from billing.sessions") == 1
    other = client.post(
        "/v1/sessions", SMALL | {"name": "x"}, by=organization.passport, repeat="start-01"
    )
    problem(other, 409, "idempotency_conflict")


def test_the_same_key_stops_once(client: Client, platform: Platform) -> None:
    organization = platform.organization(usd=10)
    session, other = _start(client, organization), _start(client, organization)
    path = f"/v1/sessions/{session['id']}/stop"
    first, again = (
        client.post(path, {}, by=organization.passport, repeat="stop-001") for _ in range(2)
    )
    assert again.headers["idempotent-replayed"] == "true"
    assert done(again) == done(first)
    for changed, body in ((path, {"reason": "failed"}), (f"/v1/sessions/{other['id']}/stop", {})):
        response = client.post(changed, body, by=organization.passport, repeat="stop-001")
        problem(response, 409, "idempotency_conflict")


def test_a_key_is_the_organizations_own(client: Client, platform: Platform) -> None:
    organizations = [platform.organization(usd=1) for _ in range(2)]
    ids = {
        done(client.post("/v1/sessions", SMALL, by=each.passport, repeat="start-01"), 201)["id"]
        for each in organizations
    }
    assert len(ids) == 2


def test_a_short_session_needs_only_its_own_money(client: Client, platform: Platform) -> None:
    organization = platform.organization()
    platform.give(organization.id, 833)
    session = _start(client, organization, max_seconds=60)
    assert (session["held"], session["is_last_window"]) == ("0.000833", True)
    assert session["expires_at"] == session["paid_until"]


def test_a_free_of_charge_session_runs_without_money(client: Client, platform: Platform) -> None:
    operator = platform.operator()
    session = _start(client, operator, tier="gpu")
    platform.advance(100_000)
    stopped = _stop(client, operator, session)
    assert (stopped["close_reason"], stopped["charged"]) == ("stopped", "0.000000")


def test_a_stop_after_the_money_ended_tells_when_it_did(client: Client, platform: Platform) -> None:
    organization = platform.organization(usd=1)
    session = _start(client, organization)
    platform.advance(30 * 3600)
    stopped = _stop(client, organization, session)
    assert (stopped["close_reason"], stopped["charged"]) == ("exhausted", "1.000000")
    ended, started = (datetime.fromisoformat(stopped[name]) for name in ("ended_at", "started_at"))
    assert (ended - started).total_seconds() == 20 * 3600
    assert platform.wallet(organization) == (0, 0)


def test_a_price_is_frozen_at_the_start(client: Client, platform: Platform) -> None:
    organization = platform.organization(usd=10)
    before = _start(client, organization)
    platform.alter(
        "insert into billing.prices (plan_id, sku, unit, price_micros, effective_at)"
        " values ('free', 'session.small', 'hour', 900000, billing.now())"
    )
    platform.advance(60)
    assert _start(client, organization)["hourly_price"] == "0.900000"
    assert Decimal(_stop(client, organization, before)["cost"]) < Decimal("0.001")


def test_a_heartbeat_tells_that_it_lives(client: Client, platform: Platform) -> None:
    organization = platform.organization(usd=10)
    session = _start(client, organization, heartbeat_timeout_seconds=60)
    path = f"/v1/sessions/{session['id']}/heartbeat"
    platform.advance(50)
    alive = done(client.post(path, by=organization.passport))
    assert alive["last_heartbeat_at"] > session["last_heartbeat_at"]
    _stop(client, organization, session)
    refusal = problem(client.post(path, by=organization.passport), 409, "session_closed")
    assert refusal["close_reason"] == "stopped"


def test_lists_in_pages_and_by_status(client: Client, platform: Platform) -> None:
    organization, other = platform.organization(usd=10), platform.organization(usd=10)
    sessions = [_start(client, organization, name=f"number {n}") for n in range(3)]
    _start(client, other)
    _stop(client, organization, sessions[1])

    def names(**query: str) -> list[str]:
        page = done(client.get("/v1/sessions", by=organization.passport, params=query))
        return [session["name"] for session in page["data"]]

    assert names() == ["number 2", "number 1", "number 0"]
    assert names(status="running") == ["number 2", "number 0"]
    assert names(status="closed") == ["number 1"]
    assert names(limit="1") == ["number 2"]
    assert names(cursor=sessions[1]["id"]) == ["number 0"]


def test_estimates_a_session(client: Client, platform: Platform) -> None:
    organization = platform.organization(usd=1)
    estimate = done(
        client.get(
            "/v1/sessions/estimate",
            by=organization.passport,
            params={"tier": "small", "seconds": "7200"},
        )
    )
    assert estimate == {
        "tier": "small",
        "seconds": 7200,
        "hourly_price": "0.050000",
        "cost": "0.100000",
        **dict.fromkeys(("preset", "space", "space_price"), None),
        **dict.fromkeys(("storage_kind", "storage_gb"), None),
        **dict.fromkeys(("storage_month_cost", "storage_required"), None),
        "required": "0.008333",
        "available": "1.000000",
        "affordable_seconds": 72_000,
    }
