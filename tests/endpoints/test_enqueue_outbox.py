"""enqueue_outbox: every queue is told what waits for it, whatever is down, lost or repeated."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from time import monotonic, sleep
from typing import Any
from uuid import uuid4

import psycopg
import pytest

from faregate import outbox
from faregate.backends.database import Database
from faregate.backends.tasks import Tasks
from faregate.function import FUNCTIONS
from faregate.outbox import tell
from tests.harness.answers import done, problem
from tests.harness.client import Client, Load
from tests.harness.misbehaving import misbehave
from tests.harness.platform import Organization, Platform

PATH = "/schedules/enqueue-outbox"
HOUR = 3600
Strike = Callable[[], int]


@pytest.fixture
def location() -> str:
    return f"projects/test/locations/{uuid4().hex}"


@pytest.fixture
def cron(function: Load, location: str) -> Client:
    return function("enqueue_outbox", TASKS_LOCATION=location)


@pytest.fixture
def strike(cron: Client, platform: Platform) -> Strike:
    """Let a minute strike; tell how many tasks the queues were told of."""
    return lambda: int(done(cron.post(PATH, by=platform.cloud.invoker_token()))["enqueued"])


def _customer(platform: Platform) -> Organization:
    """Make an organization of which nothing waits."""
    organization = platform.organization()
    platform.run("delete from billing.outbox")
    return organization


def _write(platform: Platform, organization: Organization, topic: str, **payload: Any) -> str:  # noqa: ANN401
    return str(
        platform.value(
            "select billing.write_task(%s, %s::text::billing.outbox_topic, %s::text::jsonb)",
            organization.id,
            topic,
            str(payload or {}).replace("'", '"'),
        )
    )


def _names(platform: Platform, location: str) -> list[str]:
    """Tell the tasks that the queues were given."""
    return sorted(
        task["name"].removeprefix(f"{location}/queues/")
        for task in platform.cloud.remembered("task")
        if task["name"].startswith(location)
    )


def _name(topic: str, task_id: str, again: str = "") -> str:
    return f"{topic.replace('_', '-')}/tasks/{task_id[-12:]}-{task_id}{again}"


def test_every_task_function_is_a_topic(platform: Platform) -> None:
    topics = platform.fetch("select unnest(enum_range(null::billing.outbox_topic))::text")
    tasks = {name for name, kind in FUNCTIONS.items() if kind == "tasks"}
    assert tasks <= {topic for (topic,) in topics} - {"notification"}


def test_every_queue_is_told_once(strike: Strike, platform: Platform, location: str) -> None:
    organization = _customer(platform)
    topics = [name for name, kind in FUNCTIONS.items() if kind == "tasks"]
    written = [
        _name(topic, _write(platform, organization, topic)) for topic in topics for _ in range(3)
    ]
    platform.run("select billing.notify(%s, 'storage_ready', '{}')", organization.id)
    assert [strike() for _ in range(3)] == [3 * len(topics), 0, 0]
    assert _names(platform, location) == sorted(written)


def test_what_nobody_acknowledged_is_told_again_under_another_name(
    strike: Strike, platform: Platform, location: str
) -> None:
    organization = _customer(platform)
    lost, finished = (_write(platform, organization, "charge_top_up") for _ in range(2))
    assert strike() == 2
    platform.run("select billing.acknowledge(%s, %s)", organization.id, finished)
    names = [_name("charge_top_up", each) for each in (lost, finished)]
    platform.advance(HOUR - 30)
    assert strike() == 0
    for again in ("-1", "-2"):
        platform.advance(HOUR)
        assert strike() == 1
        names.append(_name("charge_top_up", lost, again))
        assert _names(platform, location) == sorted(names)
    platform.run("select billing.acknowledge(%s, %s)", organization.id, lost)
    platform.advance(24 * HOUR)
    assert strike() == 0


def test_whoever_was_killed_before_noting_it_made_the_same_task(
    strike: Strike, platform: Platform, location: str
) -> None:
    task_id = _write(platform, _customer(platform), "stop_session")
    strike()
    platform.lose_the_note()
    assert strike() == 1
    assert _names(platform, location) == [_name("stop_session", task_id)]


def test_two_at_a_time_make_one_task_of_each(
    strike: Strike, platform: Platform, location: str
) -> None:
    organization = _customer(platform)
    written = [_write(platform, organization, "stop_session") for _ in range(20)]
    with ThreadPoolExecutor(2) as threads:
        told = list(threads.map(lambda _: strike(), range(2)))
    assert sum(told) >= 20
    assert strike() == 0
    assert _names(platform, location) == sorted(_name("stop_session", each) for each in written)
    assert platform.value("select sum(enqueues) from billing.outbox") == 20


def test_a_task_that_its_queue_refuses_keeps_no_other_waiting(
    cron: Client, platform: Platform, location: str
) -> None:
    organization = _customer(platform)
    refused, *others = [_write(platform, organization, "send_invitation") for _ in range(12)]
    stop = _write(platform, organization, "stop_session")
    # Far beyond what a queue schedules.
    platform.run("update billing.outbox set run_at = 'infinity' where id = %s", refused)
    problem(cron.post(PATH, by=platform.cloud.invoker_token()), 503, "unavailable")
    told = [*(_name("send_invitation", each) for each in others), _name("stop_session", stop)]
    assert _names(platform, location) == sorted(told)
    waiting = platform.fetch("select id::text from billing.outbox where enqueued_at is null")
    assert waiting == [(refused,)]


def test_queues_out_of_reach_lose_nothing(
    function: Load, strike: Strike, platform: Platform, location: str
) -> None:
    task_id = _write(platform, _customer(platform), "stop_session")
    lonely = function("enqueue_outbox", TASKS_API_URL="http://127.0.0.1:9", TASKS_LOCATION=location)
    problem(lonely.post(PATH, by=platform.cloud.invoker_token()), 503, "unavailable")
    assert platform.value("select enqueues from billing.outbox") == 0
    assert strike() == 1
    assert _names(platform, location) == [_name("stop_session", task_id)]


@pytest.fixture
def tell_now(
    settings: dict[str, str], location: str, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., float]:
    """Tell the queue as after a commit; tell how long that took."""

    def tell_it(**environment: str) -> float:
        for name, value in (settings | {"TASKS_LOCATION": location} | environment).items():
            monkeypatch.setenv(name, value)

        async def run() -> float:
            database, tasks = Database(), Tasks()
            began = monotonic()
            await tell(database, tasks, "stop_session")
            await tasks.close()
            await database.close()
            return monotonic() - began

        return asyncio.run(run())

    return tell_it


def test_a_queue_is_told_right_after_a_commit(
    tell_now: Callable[..., float],
    strike: Strike,
    platform: Platform,
    location: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # This machine may be busy with other tests.
    monkeypatch.setattr(outbox, "_TELL_SECONDS", 30)
    organization = _customer(platform)
    written = [_write(platform, organization, "stop_session") for _ in range(6)]
    tell_now()
    assert len(_names(platform, location)) == 4
    assert strike() == 2
    assert _names(platform, location) == sorted(_name("stop_session", each) for each in written)


def test_a_queue_that_is_down_or_silent_fails_nobody_and_is_not_waited_for(
    tell_now: Callable[..., float],
    strike: Strike,
    platform: Platform,
    location: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    task_id = _write(platform, _customer(platform), "stop_session")
    with misbehave() as silent:
        silent.behaviours = [lambda *_: sleep(5)]
        for url in ("http://127.0.0.1:9", silent.url):
            assert tell_now(TASKS_API_URL=url) < 5
            assert "the queue was not told" in capsys.readouterr().out
    assert platform.value("select enqueues from billing.outbox") == 0
    assert strike() == 1
    assert _names(platform, location) == [_name("stop_session", task_id)]


def test_one_run_of_a_task_at_a_time(platform: Platform) -> None:
    organization = _customer(platform)
    task_id = _write(platform, organization, "provision_storage")

    def begin() -> str:
        query = "select billing.begin_attempt(%s, %s)"
        with psycopg.connect(platform.database.owner_url, autocommit=True) as other:
            try:
                return str(other.execute(query, (organization.id, task_id)).fetchone())
            except psycopg.Error as error:
                return str(error.diag.message_primary)

    with ThreadPoolExecutor(4) as threads:
        outcomes = sorted(threads.map(lambda _: begin(), range(4)))
    assert outcomes == ["(1,)", *["task_under_way"] * 3]
    # Whoever was killed keeps others waiting for two minutes, and may not tell afterwards.
    platform.advance(119)
    assert begin() == "task_under_way"
    platform.advance(1)
    assert begin() == "(2,)"
    end = "select billing.end_attempt(%s, %s, %s, 'quota')"
    assert platform.value(end, organization.id, task_id, 1) is False
    assert begin() == "task_under_way"
    assert platform.value(end, organization.id, task_id, 2) is True
    assert begin() == "(3,)"
    for _ in range(2):
        platform.run("select billing.acknowledge(%s, %s)", organization.id, task_id)
    assert begin() == "(None,)"
    assert platform.value(end, organization.id, task_id, 3) is False
