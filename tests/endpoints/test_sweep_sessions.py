"""sweep_sessions: charges what is due, ends what is over, tells the queue which ends are known."""

import json
from base64 import b64decode
from collections.abc import Callable
from datetime import datetime
from typing import Any
from uuid import uuid4

import pytest

from tests.harness.answers import done, problem
from tests.harness.client import Client, Load
from tests.harness.platform import Organization, Platform

PATH = "/schedules/sweep-sessions"
Sweep = Callable[[], dict[str, Any]]


@pytest.fixture
def location() -> str:
    return f"projects/test/locations/{uuid4().hex}"


@pytest.fixture
def sweep(function: Load, platform: Platform, location: str) -> Sweep:
    client = function("sweep_sessions", TASKS_LOCATION=location)
    return lambda: done(client.post(PATH, by=platform.cloud.invoker_token()))


@pytest.fixture
def sessions(function: Load) -> Client:
    return function("sessions")


def _start(client: Client, organization: Organization, **body: object) -> str:
    body = {"tier": "small"} | body
    return str(done(client.post("/v1/sessions", body, by=organization.passport), 201)["id"])


def _get(client: Client, organization: Organization, session_id: str) -> dict[str, Any]:
    return done(client.get(f"/v1/sessions/{session_id}", by=organization.passport))


def _lived_seconds(session: dict[str, Any]) -> float:
    ended, started = (datetime.fromisoformat(session[name]) for name in ("ended_at", "started_at"))
    return (ended - started).total_seconds()


def _tasks(platform: Platform, location: str) -> list[dict[str, Any]]:
    tasks = platform.cloud.remembered("task")
    return [
        task for task in tasks if task["name"].startswith(f"{location}/queues/stop-session/tasks/")
    ]


def test_nothing_is_due_at_first(sweep: Sweep, sessions: Client, platform: Platform) -> None:
    _start(sessions, platform.organization(usd=1))
    assert sweep() == {"swept": 0, "closed": 0, "enqueued": 0, "more": False}


def test_a_due_session_is_charged_and_its_window_renewed(
    sweep: Sweep, sessions: Client, platform: Platform
) -> None:
    organization = platform.organization(usd=1)
    session_id = _start(sessions, organization)
    platform.advance(301)
    assert sweep() == {"swept": 1, "closed": 0, "enqueued": 0, "more": False}
    session = _get(sessions, organization, session_id)
    settled, held = platform.wallet(organization)
    assert session["status"] == "running"
    assert session["charged"] == f"{(1_000_000 - settled) / 1_000_000:.6f}"
    assert 4_180 <= 1_000_000 - settled < 4_400
    assert held in (8_333, 8_334)
    assert sweep()["swept"] == 0


@pytest.mark.parametrize(
    ("micros", "seconds", "left"),
    [
        pytest.param(1_000_000, 72_000, 0, id="to the last micro-dollar"),
        pytest.param(10_001, 720, 1, id="one over"),
        pytest.param(8_333, 600, 0, id="one window"),
    ],
)
@pytest.mark.parametrize("steps", [1, 7])
def test_a_session_ends_on_the_second_its_money_does(
    sweep: Sweep,
    sessions: Client,
    platform: Platform,
    micros: int,
    seconds: int,
    left: int,
    steps: int,
) -> None:
    organization = platform.organization()
    platform.give(organization.id, micros)
    session_id = _start(sessions, organization)
    for _ in range(steps):
        platform.advance(seconds // steps + 1)
        sweep()
    session = _get(sessions, organization, session_id)
    assert (session["close_reason"], _lived_seconds(session)) == ("exhausted", seconds)
    assert session["charged"] == session["cost"] == f"{(micros - left) / 1_000_000:.6f}"
    assert platform.wallet(organization) == (left, 0)


def test_a_silent_session_is_lost_when_its_patience_ends(
    sweep: Sweep, sessions: Client, platform: Platform
) -> None:
    organization = platform.organization(usd=1)
    silent = _start(sessions, organization, heartbeat_timeout_seconds=60)
    alive = _start(sessions, organization, heartbeat_timeout_seconds=60)
    platform.advance(50)
    path = f"/v1/sessions/{alive}/heartbeat"
    heard = done(sessions.post(path, by=organization.passport))["last_heartbeat_at"]
    platform.advance(30)
    assert sweep()["closed"] == 1
    lost = _get(sessions, organization, silent)
    assert (lost["close_reason"], _lived_seconds(lost), lost["cost"]) == ("lost", 60, "0.000833")
    assert _get(sessions, organization, alive)["status"] == "running"
    platform.advance(600)
    assert sweep()["closed"] == 1
    later = _get(sessions, organization, alive)
    silence = datetime.fromisoformat(later["ended_at"]) - datetime.fromisoformat(heard)
    assert (later["close_reason"], silence.total_seconds()) == ("lost", 60)


def test_a_session_expires_when_its_time_is_over(
    sweep: Sweep, sessions: Client, platform: Platform
) -> None:
    organization = platform.organization(usd=1)
    session_id = _start(sessions, organization, max_seconds=3600)
    platform.advance(7200)
    assert sweep()["closed"] == 1
    session = _get(sessions, organization, session_id)
    assert (session["close_reason"], _lived_seconds(session)) == ("expired", 3600)
    assert session["charged"] == "0.050000"


def test_a_known_end_is_told_the_queue_once(
    sweep: Sweep, sessions: Client, platform: Platform, location: str
) -> None:
    organization = platform.organization(usd=1)
    session_id = _start(sessions, organization, max_seconds=120)
    assert [sweep()["enqueued"] for _ in range(3)] == [1, 0, 0]
    (task,) = _tasks(platform, location)
    session = _get(sessions, organization, session_id)
    at = datetime.fromisoformat(task["scheduleTime"])
    assert at == datetime.fromisoformat(session["paid_until"])
    request = task["httpRequest"]
    layout = platform.cloud.layout
    assert request["url"] == f"{layout.api_url}/tasks/stop-session"
    assert request["oidcToken"]["audience"] == layout.api_url
    payload = json.loads(b64decode(request["body"]))
    assert (payload["organization_id"], payload["session_id"]) == (organization.id, session_id)


def test_a_crash_before_the_note_makes_no_second_task(
    sweep: Sweep, sessions: Client, platform: Platform, location: str
) -> None:
    _start(sessions, platform.organization(usd=1), max_seconds=120)
    sweep()
    platform.lose_the_note()
    assert sweep()["enqueued"] == 1
    assert len(_tasks(platform, location)) == 1


def test_many_ends_are_told_one_by_one(
    sweep: Sweep, sessions: Client, platform: Platform, location: str
) -> None:
    for _ in range(5):
        _start(sessions, platform.organization(usd=1), max_seconds=120)
    assert sweep()["enqueued"] == 5
    assert len(_tasks(platform, location)) == 5


def test_a_queue_out_of_reach_loses_nothing(
    function: Load, sweep: Sweep, sessions: Client, platform: Platform, location: str
) -> None:
    organization = platform.organization(usd=1)
    _start(sessions, organization, max_seconds=120)
    running = _start(sessions, organization)
    platform.advance(301)
    lonely = function("sweep_sessions", TASKS_API_URL="http://127.0.0.1:9", TASKS_LOCATION=location)
    response = lonely.post(PATH, by=platform.cloud.invoker_token())
    problem(response, 503, "unavailable")
    assert _get(sessions, organization, running)["charged"] != "0.000000"
    assert sweep()["enqueued"] == 1
    assert len(_tasks(platform, location)) == 1


def test_money_that_arrives_in_time_keeps_a_session_running(
    sweep: Sweep, sessions: Client, platform: Platform
) -> None:
    organization = platform.organization()
    platform.give(organization.id, 8_333)
    session_id = _start(sessions, organization)
    platform.advance(301)
    sweep()
    assert _get(sessions, organization, session_id)["is_last_window"]
    platform.give(organization.id, 1_000_000)
    platform.advance(300)
    assert sweep()["closed"] == 0
    session = _get(sessions, organization, session_id)
    assert (session["status"], session["is_last_window"]) == ("running", False)
