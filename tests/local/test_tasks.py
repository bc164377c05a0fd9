"""The stand-in for Cloud Tasks, seen by Google's own library."""

import asyncio
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from urllib.parse import urlsplit
from uuid import uuid4

import httpx
import pytest
from google.api_core.exceptions import BadRequest, Conflict, NotFound
from google.auth.credentials import AnonymousCredentials
from google.cloud.tasks_v2 import CloudTasksClient, HttpRequest, OidcToken, Task
from google.cloud.tasks_v2.services.cloud_tasks.transports import CloudTasksRestTransport

from faregate.backends.tasks import Tasks
from faregate.backends.tokens import InvokerTokens
from faregate.function import FUNCTIONS
from infra.local.cloud.app import DAILY_SCHEDULES, HOURLY_SCHEDULES, SCHEDULES
from infra.local.cloud.clock import Clock
from infra.local.cloud.google import Google
from infra.local.cloud.scheduler import Advance, Scheduler
from infra.local.cloud.store import Store
from infra.local.cloud.tasks import Tasks as Queue
from infra.local.layout import INVOKER, QUEUE, Secrets, SigningKey
from tests.local.stand_ins import Receiver, StandIns

TOMORROW = timedelta(days=1)


@pytest.fixture
def client(stand_ins: StandIns) -> Iterator[CloudTasksClient]:
    """Give Google's client as the functions have it."""
    address = urlsplit(stand_ins.layout.tasks_url)
    transport = CloudTasksRestTransport(
        host=address.netloc + address.path,
        url_scheme="http",
        credentials=AnonymousCredentials(),  # type: ignore[no-untyped-call]
    )
    with CloudTasksClient(transport=transport) as client:
        yield client


@pytest.fixture
def path() -> str:
    """Give a path that no other test's task calls."""
    return f"/{uuid4().hex}"


def task(
    stand_ins: StandIns, path: str, *, name: str = "", run_in: timedelta | None = None
) -> Task:
    return Task(
        name=f"{QUEUE}/tasks/{name or uuid4().hex}",
        schedule_time=None if run_in is None else now(stand_ins) + run_in,
        http_request=HttpRequest(
            url=f"{stand_ins.layout.api_url}{path}",
            headers={"Content-Type": "application/json"},
            body=b'{"say": "now"}',
            oidc_token=OidcToken(service_account_email=INVOKER, audience=stand_ins.layout.api_url),
        ),
    )


def now(stand_ins: StandIns) -> datetime:
    answer = httpx.get(f"{stand_ins.layout.supabase_url}/clock", trust_env=False, timeout=60)
    return datetime.fromisoformat(answer.json()["now"])


def advance(stand_ins: StandIns, by: timedelta) -> httpx.Response:
    url = f"{stand_ins.layout.supabase_url}/clock"
    body = {"advance_seconds": int(by.total_seconds())}
    return httpx.post(url, json=body, trust_env=False, timeout=600)


def names(client: CloudTasksClient) -> set[str]:
    return {each.name for each in client.list_tasks(parent=QUEUE)}


def test_a_task_can_be_found_and_deleted(
    stand_ins: StandIns, client: CloudTasksClient, path: str
) -> None:
    asked = task(stand_ins, path, run_in=TOMORROW)
    created = client.create_task(parent=QUEUE, task=asked)
    assert (created.name, created.schedule_time) == (asked.name, asked.schedule_time)
    assert client.get_task(name=asked.name).schedule_time == asked.schedule_time
    assert asked.name in names(client)

    client.delete_task(name=asked.name)
    assert asked.name not in names(client)
    with pytest.raises(NotFound):
        client.get_task(name=asked.name)
    with pytest.raises(NotFound):
        client.delete_task(name=asked.name)


def test_a_name_is_taken_for_good(stand_ins: StandIns, client: CloudTasksClient, path: str) -> None:
    asked = task(stand_ins, path, run_in=TOMORROW)
    client.create_task(parent=QUEUE, task=asked)
    with pytest.raises(Conflict):
        client.create_task(parent=QUEUE, task=asked)
    client.delete_task(name=asked.name)
    with pytest.raises(Conflict):
        client.create_task(parent=QUEUE, task=asked)


def test_what_the_outbox_tells_twice_is_one_task(
    stand_ins: StandIns, client: CloudTasksClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    act_as_the_functions(stand_ins, monkeypatch)
    name, run_at = uuid4().hex, now(stand_ins) + TOMORROW

    async def enqueue_twice() -> None:
        tasks = Tasks()
        for _ in range(2):
            await tasks.enqueue(
                topic="stop_session", name=name, payload={"say": "now"}, run_at=run_at.isoformat()
            )

    asyncio.run(enqueue_twice())
    enqueued = client.get_task(name=f"{QUEUE}/tasks/{name}")
    assert enqueued.schedule_time == run_at
    client.delete_task(name=enqueued.name)


def test_of_many_with_one_name_one_is_created(
    stand_ins: StandIns, client: CloudTasksClient, path: str
) -> None:
    asked = task(stand_ins, path, run_in=TOMORROW)

    def create(_: int) -> bool:
        try:
            client.create_task(parent=QUEUE, task=asked)
        except Conflict:
            return False
        return True

    with ThreadPoolExecutor(8) as callers:
        assert sum(callers.map(create, range(16))) == 1
    client.delete_task(name=asked.name)


def test_a_task_without_a_name_gets_one(
    stand_ins: StandIns, client: CloudTasksClient, path: str
) -> None:
    asked = task(stand_ins, path, run_in=TOMORROW)
    asked.name = ""
    created = client.create_task(parent=QUEUE, task=asked)
    assert created.name.startswith(f"{QUEUE}/tasks/")
    client.delete_task(name=created.name)


@pytest.mark.parametrize(
    ("name", "url"),
    [
        pytest.param("projects/p/locations/l/queues/other/tasks/a", "http://a/", id="other queue"),
        pytest.param("", "", id="no address"),
        pytest.param("", "ftp://a/", id="an address that is not the web's"),
    ],
)
def test_refuses_a_task_with(client: CloudTasksClient, name: str, url: str) -> None:
    with pytest.raises(BadRequest):
        client.create_task(parent=QUEUE, task=Task(name=name, http_request=HttpRequest(url=url)))


def test_a_task_that_is_due_calls_as_the_invoker(
    stand_ins: StandIns,
    client: CloudTasksClient,
    path: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked = task(stand_ins, path)
    client.create_task(parent=QUEUE, task=asked)
    received = stand_ins.receiver.next(path)
    assert received.body == b'{"say": "now"}'
    assert received.headers["content-type"] == "application/json"
    assert received.headers["x-cloudtasks-queuename"] == "stop-session"
    assert received.headers["x-cloudtasks-taskname"] == asked.name.rpartition("/")[2]
    assert received.headers["x-cloudtasks-taskretrycount"] == "0"
    assert claimed_email(stand_ins, received.headers, monkeypatch) == INVOKER


def act_as_the_functions(stand_ins: StandIns, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in stand_ins.layout.functions_environment().items():
        monkeypatch.setenv(name, value)


def claimed_email(
    stand_ins: StandIns, headers: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> str:
    """Give the e-mail address of a token that the functions' own verifier accepts."""
    act_as_the_functions(stand_ins, monkeypatch)
    token = headers["authorization"].removeprefix("Bearer ")
    return str(asyncio.run(InvokerTokens().claims(token))["email"])


def test_a_failed_task_is_called_again_after_longer_and_longer_waits(
    stand_ins: StandIns, client: CloudTasksClient, receiver: Receiver, path: str
) -> None:
    receiver.answers[path] = [503, 429, 500]
    asked = task(stand_ins, path)
    client.create_task(parent=QUEUE, task=asked)
    attempts = [receiver.next(path) for _ in range(4)]
    assert [each.headers["x-cloudtasks-taskretrycount"] for each in attempts] == list("0123")
    for earlier, later, wait_seconds in zip(attempts, attempts[1:], (0.1, 0.2, 0.4), strict=False):
        assert later.arrived_at - earlier.arrived_at >= wait_seconds
    # The clock's turn comes when the delivery has been noted.
    advance(stand_ins, timedelta(0))
    assert asked.name not in names(client)
    assert receiver.all(path) == []


def test_tasks_are_called_in_the_order_of_the_clock_that_moves_past_them(
    stand_ins: StandIns, client: CloudTasksClient, receiver: Receiver, path: str
) -> None:
    hours = {"third": 3, "first": 1, "second": 2}
    begun = now(stand_ins)
    for name, hour in hours.items():
        asked = task(stand_ins, path, name=f"{name}-{path[1:]}", run_in=timedelta(hours=hour))
        client.create_task(parent=QUEUE, task=asked)
    later = task(stand_ins, path, run_in=TOMORROW)
    client.create_task(parent=QUEUE, task=later)

    moved = advance(stand_ins, timedelta(hours=4)).json()
    called = [each.headers["x-cloudtasks-taskname"] for each in receiver.all(path)]
    assert [name.partition("-")[0] for name in called] == ["first", "second", "third"]
    assert moved["tasks_delivered"] == 3
    passed = datetime.fromisoformat(moved["now"]) - begun
    assert timedelta(hours=4) <= passed < timedelta(hours=4, minutes=1)
    assert client.get_task(name=later.name).dispatch_count == 0
    client.delete_task(name=later.name)


def test_a_task_that_always_fails_is_given_up_while_the_clock_moves(
    stand_ins: StandIns, client: CloudTasksClient, receiver: Receiver, path: str
) -> None:
    receiver.answers[path] = [503] * 1000
    asked = task(stand_ins, path, run_in=timedelta(minutes=1))
    client.create_task(parent=QUEUE, task=asked)
    assert advance(stand_ins, timedelta(days=31)).json()["tasks_delivered"] == 0
    assert len(receiver.all(path)) == 60
    assert asked.name not in names(client)


def test_the_clock_that_moves_calls_every_schedule_as_the_invoker(
    stand_ins: StandIns, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    schedules = [f"/schedules/{name}" for name in SCHEDULES]
    for schedule in schedules:
        receiver.all(schedule)
    assert advance(stand_ins, timedelta(minutes=1)).json()["sweeps"] == 1
    for schedule in schedules:
        received, *_ = receiver.all(schedule)  # a minute of real time may pass meanwhile
        assert claimed_email(stand_ins, received.headers, monkeypatch) == INVOKER


def test_a_day_that_passes_calls_the_daily_schedules_once(
    stand_ins: StandIns, receiver: Receiver
) -> None:
    receiver.all("/schedules/reconcile")
    assert advance(stand_ins, timedelta(days=1)).is_success
    assert len(receiver.all("/schedules/reconcile")) == 1
    assert advance(stand_ins, timedelta(0)).is_success
    assert receiver.all("/schedules/reconcile") == []


async def moved(by: timedelta, *answers: bool) -> list[str]:
    """Tell which schedules of a Scheduler of its own are called when the clock moves so far."""
    called: list[str] = []
    more = list(answers)

    async def answer(request: httpx.Request) -> httpx.Response:
        called.append(request.url.path)
        is_hourly = request.url.path == "/hourly"
        return httpx.Response(200, json={"more": bool(is_hourly and more and more.pop(0))})

    clock = _StillClock()
    google = Google("http://google", SigningKey(Secrets.load().google_private_key, "RS256", "a"))
    async with httpx.AsyncClient(transport=httpx.MockTransport(answer)) as http:
        queue = Queue(Store(":memory:"), clock, google, http)
        scheduler = Scheduler(
            *(["http://f/minute"], ["http://f/hourly"], ["http://f/daily"]),
            *(INVOKER, "audience", (clock, queue, google, http)),
        )
        await scheduler.advance(Advance(advance_seconds=int(by.total_seconds())))
    return called


class _StillClock(Clock):
    """Stands at half past ten until it is moved."""

    def __init__(self) -> None:
        self._now = datetime(2026, 11, 21, 10, 30, tzinfo=UTC)

    async def now(self) -> datetime:
        return self._now

    async def advance_to(self, moment: datetime) -> None:
        self._now = max(self._now, moment)


def test_an_hour_that_passes_calls_the_hourly_schedules_until_they_are_done() -> None:
    minute = timedelta(minutes=1)
    assert asyncio.run(moved(29 * minute)) == ["/minute"]
    assert asyncio.run(moved(30 * minute)) == ["/hourly", "/minute"]
    assert asyncio.run(moved(13 * 60 * minute)) == ["/hourly", "/minute"]
    assert asyncio.run(moved(14 * 60 * minute)) == ["/hourly", "/minute", "/daily"]
    assert asyncio.run(moved(30 * minute, True, True)) == ["/hourly"] * 3 + ["/minute"]


def test_the_laptop_calls_every_schedule_there_is() -> None:
    names = {name.replace("_", "-") for name, kind in FUNCTIONS.items() if kind == "schedules"}
    assert sorted([*SCHEDULES, *HOURLY_SCHEDULES, *DAILY_SCHEDULES]) == sorted(names)


def test_the_clock_tells_of_a_sweep_that_fails(stand_ins: StandIns, receiver: Receiver) -> None:
    receiver.answers["/schedules/sweep-sessions"] = [500]
    answer = advance(stand_ins, timedelta(0))
    assert answer.status_code == 502
    assert "/schedules/sweep-sessions answered 500" in answer.json()["detail"]
