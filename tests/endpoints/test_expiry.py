"""expire_grants and expire_holds: what is due is done, chunk by chunk, until nothing is."""

from collections.abc import Callable
from typing import Any

import pytest

from faregate.chunks import CHUNK_ROWS
from tests.harness.answers import done
from tests.harness.client import Client, Load
from tests.harness.platform import Organization, Platform

Call = Callable[[], dict[str, Any]]


@pytest.fixture
def expire_grants(function: Load, platform: Platform) -> Call:
    client = function("expire_grants")
    token = platform.cloud.invoker_token()
    return lambda: done(client.post("/schedules/expire-grants", by=token))


@pytest.fixture
def expire_holds(function: Load, platform: Platform) -> Call:
    client = function("expire_holds")
    token = platform.cloud.invoker_token()
    return lambda: done(client.post("/schedules/expire-holds", by=token))


def _hold(client: Client, operator: Organization, customer: Organization) -> None:
    body = {"organization_id": customer.id, "amount": "0.01", "expires_in_seconds": 60}
    done(client.post("/v1/holds", body, by=operator.passport), 201)


def _schedule_grants(platform: Platform, customer: Organization, count: int) -> None:
    """Give cents that come in an hour and go in two."""
    platform.run(
        "insert into billing.grants (organization_id, category, amount_micros, remaining_micros,"
        " note, effective_at, expires_at)"
        " select %s, 'promotional', 10000, 0, 'test', billing.now() + interval '1 hour',"
        " billing.now() + interval '2 hours' from generate_series(1, %s)",
        customer.id,
        count,
    )


def test_grants_come_and_go(expire_grants: Call, platform: Platform) -> None:
    customer, other = platform.organization(usd=1), platform.organization(usd=1)
    count = CHUNK_ROWS + 1
    _schedule_grants(platform, customer, count)
    assert expire_grants() == {"started": 0, "expired": 0, "more": False}
    platform.advance(3601)
    assert expire_grants() == {"started": count, "expired": 0, "more": False}
    assert platform.wallet(customer) == (1_000_000 + count * 10_000, 0)
    platform.advance(3600)
    assert expire_grants() == {"started": 0, "expired": count, "more": False}
    assert expire_grants() == {"started": 0, "expired": 0, "more": False}
    assert platform.wallet(customer) == platform.wallet(other) == (1_000_000, 0)


def test_grants_that_came_and_went_unseen_are_both_in_one_run(
    expire_grants: Call, platform: Platform
) -> None:
    customer = platform.organization()
    _schedule_grants(platform, customer, 3)
    platform.advance(7201)
    assert expire_grants() == {"started": 3, "expired": 3, "more": False}
    assert platform.wallet(customer) == (0, 0)


def test_leaked_holds_free_themselves(
    expire_holds: Call, function: Load, platform: Platform, operator: Organization
) -> None:
    client, customer = function("holds"), platform.organization(usd=5)
    count = CHUNK_ROWS + 1
    for _ in range(count):
        _hold(client, operator, customer)
    assert expire_holds() == {"expired": 0, "more": False}
    platform.advance(61)
    assert platform.wallet(customer) == (5_000_000, count * 10_000)
    assert expire_holds() == {"expired": count, "more": False}
    assert expire_holds() == {"expired": 0, "more": False}
    assert platform.wallet(customer) == (5_000_000, 0)


def test_a_session_is_not_expired_with_the_holds(
    expire_holds: Call, function: Load, platform: Platform
) -> None:
    customer = platform.organization(usd=5)
    sessions = function("sessions")
    done(sessions.post("/v1/sessions", {"tier": "small"}, by=customer.passport), 201)
    held = platform.wallet(customer)
    platform.advance(7200)
    assert expire_holds() == {"expired": 0, "more": False}
    assert platform.wallet(customer) == held


def test_a_run_ends_when_its_time_is_up(
    expire_grants: Call, platform: Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    customer = platform.organization()
    _schedule_grants(platform, customer, 3)
    platform.advance(7201)
    monkeypatch.setattr("faregate.schedules.expire_grants.BUDGET_SECONDS", 0.0)
    assert expire_grants() == {"started": 0, "expired": 0, "more": True}
