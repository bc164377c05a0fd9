"""stop_session: the end at the foreseen second, and only then."""

from datetime import datetime
from typing import Any

import pytest

from tests.harness.answers import done, problem
from tests.harness.client import Client, Load
from tests.harness.operations import ABSENT
from tests.harness.platform import Organization, Platform

PATH = "/tasks/stop-session"


@pytest.fixture
def worker(function: Load) -> Client:
    return function("stop_session")


@pytest.fixture
def sessions(function: Load) -> Client:
    return function("sessions")


def _start(
    platform: Platform, sessions: Client, organization: Organization, max_seconds: int = 60
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Start a session that ends by itself; give it and the task that ends it."""
    body = {"tier": "small", "max_seconds": max_seconds}
    session = done(sessions.post("/v1/sessions", body, by=organization.passport), 201)
    payload = platform.value("select payload from api.list_outbox('stop_session', 10)")
    return session, payload


def _is_done(platform: Platform) -> bool:
    return bool(
        platform.value(
            "select acknowledged_at is not null from billing.outbox where topic = 'stop_session'"
        )
    )


def test_early_it_is_asked_to_come_again(
    worker: Client, sessions: Client, platform: Platform
) -> None:
    _, task = _start(platform, sessions, platform.organization(usd=1))
    before = platform.contents()
    response = worker.post(PATH, task, by=platform.cloud.invoker_token())
    problem(response, 503, "not_yet_due")
    assert int(response.headers["retry-after"]) >= 1
    assert platform.contents() == before
    assert not _is_done(platform)


@pytest.mark.parametrize("late_seconds", [0, 1, 86_400])
def test_on_time_or_late_it_ends_the_session_at_its_second(
    worker: Client, sessions: Client, platform: Platform, late_seconds: int
) -> None:
    organization = platform.organization(usd=1)
    session, task = _start(platform, sessions, organization)
    platform.advance(60 + late_seconds)
    token = platform.cloud.invoker_token()
    answers = [done(worker.post(PATH, task, by=token)) for _ in range(3)]
    assert answers == [{"status": "closed", "close_reason": "expired"}] * 3
    closed = done(sessions.get(f"/v1/sessions/{session['id']}", by=organization.passport))
    assert closed["ended_at"] == session["paid_until"]
    assert platform.wallet(organization) == (1_000_000 - 833, 0)
    assert _is_done(platform)


def test_outdated_it_changes_nothing(worker: Client, sessions: Client, platform: Platform) -> None:
    _, task = _start(platform, sessions, platform.organization(usd=1), max_seconds=600)
    earlier = datetime.fromisoformat(task["paid_until"]).replace(year=2020)
    platform.advance(60)
    before = platform.contents()
    outdated = task | {"paid_until": earlier.isoformat()}
    answer = done(worker.post(PATH, outdated, by=platform.cloud.invoker_token()))
    assert answer == {"status": "running", "close_reason": None}
    assert platform.contents() == before
    assert _is_done(platform)


def test_after_a_stop_it_changes_nothing(
    worker: Client, sessions: Client, platform: Platform
) -> None:
    organization = platform.organization(usd=1)
    session, task = _start(platform, sessions, organization)
    done(sessions.post(f"/v1/sessions/{session['id']}/stop", {}, by=organization.passport))
    platform.advance(3600)
    before = platform.contents()
    answer = done(worker.post(PATH, task, by=platform.cloud.invoker_token()))
    assert answer == {"status": "closed", "close_reason": "stopped"}
    assert platform.contents() == before
    assert _is_done(platform)


@pytest.mark.parametrize(
    ("changes", "status", "code"),
    [
        pytest.param({"session_id": ABSENT}, 404, "session_not_found", id="absent session"),
        pytest.param({"organization_id": ABSENT}, 404, "session_not_found", id="foreign session"),
        pytest.param({"task_id": None}, 400, "invalid_request", id="no task"),
        pytest.param({"session_id": "x"}, 400, "invalid_request", id="no id"),
        pytest.param({"paid_until": "soon"}, 400, "invalid_request", id="no time"),
        pytest.param({"paid_until": "2027-01-01"}, 400, "invalid_request", id="a day"),
        pytest.param({"paid_until": None}, 400, "invalid_request", id="no end"),
        pytest.param({"reason": "failed"}, 400, "invalid_request", id="a reason"),
    ],
)
def test_refuses(
    worker: Client,
    sessions: Client,
    platform: Platform,
    changes: dict[str, Any],
    status: int,
    code: str,
) -> None:
    _, task = _start(platform, sessions, platform.organization(usd=1))
    before = platform.contents()
    response = worker.post(PATH, task | changes, by=platform.cloud.invoker_token())
    problem(response, status, code)
    assert platform.contents() == before
    assert not _is_done(platform)
