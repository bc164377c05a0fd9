"""The way through the project's API: answers that are none, and answers that are lost."""

import asyncio
import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from time import monotonic, sleep
from typing import Any

import pytest
from anyio.from_thread import BlockingPortal

from faregate.backends.database import postgrest as backend
from tests.harness.answers import done, problem
from tests.harness.client import Client, Load, load
from tests.harness.misbehaving import (
    Behaviour,
    Misbehaving,
    hang_up,
    lose_answer,
    misbehave,
    pass_on,
    say,
)
from tests.harness.platform import Platform
from tests.harness.postgrest import Postgrest

HTML = b"<html><body>Bad gateway</body></html>"


@pytest.fixture
def server() -> Iterator[Misbehaving]:
    """Give whoever answers in PostgREST's place."""
    with misbehave() as server:
        yield server


@pytest.fixture(params=["supabase"])
def way(request: pytest.FixtureRequest) -> str:
    way: str = request.param
    return way


@pytest.fixture
def over(settings: dict[str, str], server: Misbehaving, portal: BlockingPortal) -> Iterator[Load]:
    """Load functions that go into the database over this server; Auth and all else stay."""
    with ExitStack() as loaded:

        def load_function(name: str, **environment: str) -> Client:
            given = settings | {"SUPABASE_URL": server.url} | environment
            return loaded.enter_context(load(portal, name, given))

        yield load_function


@pytest.fixture
def real(platform: Platform) -> str:
    """Give the address of the real one."""
    return platform.cloud.layout.supabase_url


def _drip(connection: Any, _: bytes) -> None:  # noqa: ANN401  a socket
    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n")
    for _second in range(100):
        connection.sendall(b"X-More: more\r\n")
        sleep(0.05)


def _say_nothing(connection: Any, _: bytes) -> None:  # noqa: ANN401  a socket
    connection.recv(1)


def _json(status: str, /, **document: object) -> Behaviour:
    return say(status, "application/json; charset=utf-8", json.dumps(document).encode())


def _cut(connection: Any, _: bytes) -> None:  # noqa: ANN401  a socket
    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n[{")
    hang_up(connection, _)


ANSWERS = {
    "a page instead of rows": say("200 OK", "text/html", HTML),
    "a page that says JSON": say("200 OK", "application/json", HTML),
    "nothing": say("200 OK", "application/json", b""),
    "nothing, and no type": say("204 No Content", "", b""),
    "somebody else's JSON": _json("200 OK", status="ok"),
    "somebody else's list": say("200 OK", "application/json", b'[{"settled_micros": 1}]'),
    "a text": say("200 OK", "application/json", b'"settled"'),
    "null": say("200 OK", "application/json", b"null"),
    "half a document": say("200 OK", "application/json", b'[{"settled_micros": 1'),
    "a redirect": say("302 Found", "text/html", b"", "Location: http://127.0.0.1:9/login"),
    "a page of errors": say("502 Bad Gateway", "text/html", HTML),
    "a page that is not found": say("404 Not Found", "text/html", HTML),
    "an error in JSON": _json("503 Service Unavailable", message="name resolution failed"),
    "an error with a number": _json("504 Gateway Timeout", code=504, message="upstream"),
    "an error that is a list": say("500 Oops", "application/json", b"[]"),
    "too many requests": _json("429 Too Many Requests", message="slow down"),
    "too many, with a code": _json("429 Too Many Requests", code="over_request_rate_limit"),
    "another key": _json("401 Unauthorized", message="Invalid API key"),
    "no database": _json("503 Service Unavailable", code="PGRST000", message="no connection"),
    "a database that left": _json("503 Service Unavailable", code="PGRST001", message="lost"),
    "no schema yet": _json("503 Service Unavailable", code="PGRST002", message="no schema cache"),
    "no free connection": _json("504 Gateway Timeout", code="PGRST003", message="timed out"),
    "a named timeout": say(
        "504 Gateway Timeout", "text/html", HTML, "Proxy-Status: PostgREST; error=PGRST003"
    ),
    "a server that shuts down": _json("503 x", code="57P01", message="terminating connection"),
    "a deadlock": _json("500 Internal Server Error", code="40P01", message="deadlock detected"),
    "a statement whose time is up": _json("500 x", code="57014", message="canceling statement"),
    "a hang-up": hang_up,
    "a cut": _cut,
    "no HTTP": lambda connection, _: connection.sendall(b"SSH-2.0-OpenSSH_9.9\r\n\r\n"),
    "a false compression": say("200 OK", "application/json", b"junk", "Content-Encoding: gzip"),
}


@pytest.mark.parametrize("behaviour", ANSWERS.values(), ids=ANSWERS)
def test_what_is_no_answer_is_a_problem_for_a_while(
    over: Load,
    server: Misbehaving,
    real: str,
    platform: Platform,
    behaviour: Behaviour,
    capsys: pytest.CaptureFixture[str],
) -> None:
    client, passport = over("credits"), platform.organization(usd=1).passport
    server.behaviours = [behaviour, pass_on(real)]
    response = client.get("/v1/credits", by=passport)
    problem(response, 503, "unavailable")
    assert int(response.headers["retry-after"]) >= 1
    assert len(server.requests) == 1, "a read is not repeated"
    # The log tells why, and neither the project's key nor the customer's.
    line = json.loads(capsys.readouterr().out)
    assert "exception" in line
    assert platform.cloud.layout.secrets.secret_key not in json.dumps(line)
    assert passport not in json.dumps(line)
    assert done(client.get("/v1/credits", by=passport))["settled"] == "1.000000"


FAULTS = {
    "an unknown function": _json("404 Not Found", code="PGRST202", message="not found"),
    "a function of two forms": _json("300 Multiple Choices", code="PGRST203", message="which"),
    "a key that signs nothing": _json("401 Unauthorized", code="PGRST301", message="JWSError"),
    "a right that is missing": _json("403 Forbidden", code="42501", message="permission denied"),
    "a broken promise": _json("409 Conflict", code="23505", message="duplicate key"),
    "an assertion": _json("500 x", code="P0004", message="assertion failed"),
    "a refusal that nobody knows": _json("400 x", code="FG400", message="unheard_of"),
}


@pytest.mark.parametrize("behaviour", FAULTS.values(), ids=FAULTS)
def test_what_would_not_go_away_is_told_to_the_log(
    over: Load, server: Misbehaving, behaviour: Behaviour, capsys: pytest.CaptureFixture[str]
) -> None:
    server.behaviours = [behaviour]
    problem(over("credits").get("/v1/credits", by=f"fg_live_{'x' * 43}"), 500, "internal")
    assert "APIError" in capsys.readouterr().out


@pytest.mark.parametrize("behaviour", [_say_nothing, _drip])
def test_nobody_waits_for_ever(
    over: Load, server: Misbehaving, behaviour: Behaviour, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(backend, "_CALL_SECONDS", 0.3)
    server.behaviours = [behaviour]
    client = over("credits")
    problem(client.get("/healthz"), 503, "unavailable")  # the first one imports the library
    began = monotonic()
    problem(client.get("/healthz"), 503, "unavailable")
    assert monotonic() - began < 4
    assert len(server.requests) == 2


def test_nobody_waits_for_a_connection_for_ever(
    over: Load, server: Misbehaving, monkeypatch: pytest.MonkeyPatch
) -> None:
    """There is one connection, and it is taken."""
    monkeypatch.setattr(backend, "_CALL_SECONDS", 3.0)
    monkeypatch.setattr(backend, "_CONNECT_SECONDS", 0.2)
    server.behaviours = [_say_nothing]
    client = over("credits", DATABASE_POOL_SIZE="1")
    with ThreadPoolExecutor(1) as thread:
        first = thread.submit(client.get, "/healthz")
        while not server.requests:
            sleep(0.01)
        began = monotonic()
        problem(client.get("/healthz"), 503, "unavailable")
        assert monotonic() - began < 2.5
        problem(first.result(), 503, "unavailable")
    assert len(server.requests) == 1


def test_what_was_not_sent_is_sent_once_more(over: Load, server: Misbehaving) -> None:
    """Nobody speaks TLS here: no request ever leaves, and no call needs a key to be repeated."""
    server.behaviours = [hang_up]
    client = over("credits", SUPABASE_URL=server.url.replace("http:", "https:"))
    problem(client.get("/healthz"), 503, "unavailable")
    assert server.connections == 2


HOLD = {"amount": "0.40", "expires_in_seconds": 600}


def _holds(platform: Platform) -> list[tuple[Any, ...]]:
    return platform.fetch("select amount_micros, captured_micros from billing.holds")


@pytest.mark.parametrize("executed", [True, False], ids=["after its effect", "before its effect"])
def test_a_call_whose_connection_drops_has_one_effect_and_an_answer(
    over: Load, server: Misbehaving, real: str, platform: Platform, *, executed: bool
) -> None:
    customer, operator = platform.organization(usd=1), platform.operator()
    client = over("holds")
    server.behaviours = [lose_answer(real) if executed else hang_up, pass_on(real)]
    opened = client.post(
        "/v1/holds",
        HOLD | {"organization_id": customer.id},
        by=operator.passport,
        repeat="the-same-one",
    )
    hold = done(opened, 201)
    assert (hold["amount"], hold["status"]) == ("0.400000", "open")
    assert len(server.requests) == 2
    assert server.requests[0] == server.requests[1]
    assert len(_holds(platform)) == 1
    assert platform.wallet(customer) == (1_000_000, 400_000)
    # And the caller, too, may repeat it.
    server.behaviours = [pass_on(real)]
    again = client.post(
        "/v1/holds",
        HOLD | {"organization_id": customer.id},
        by=operator.passport,
        repeat="the-same-one",
    )
    assert done(again, 201) == hold
    assert platform.wallet(customer) == (1_000_000, 400_000)


def test_a_call_is_repeated_once(
    over: Load, server: Misbehaving, real: str, platform: Platform
) -> None:
    customer = platform.organization(usd=1)
    client = over("sessions")
    server.behaviours = [lose_answer(real), hang_up, pass_on(real)]
    start: dict[str, Any] = {"body": {"tier": "small"}, "by": customer.passport}
    problem(client.post("/v1/sessions", **start, repeat="the-same-one"), 503, "unavailable")
    assert len(server.requests) == 2
    again = client.post("/v1/sessions", **start, repeat="the-same-one")
    assert again.headers["idempotent-replayed"] == "true"
    done(again, 201)
    assert platform.value("select count(*) from billing.sessions") == 1


def test_a_refusal_is_no_reason_to_repeat(
    over: Load, server: Misbehaving, real: str, platform: Platform
) -> None:
    server.behaviours = [pass_on(real)]
    poor = platform.organization()
    refused = over("sessions").post("/v1/sessions", {"tier": "small"}, by=poor.passport)
    assert problem(refused, 402, "insufficient_credits")["available"] == "0.000000"
    assert len(server.requests) == 1


def test_a_call_that_makes_a_key_is_not_repeated(
    over: Load, server: Misbehaving, real: str, platform: Platform
) -> None:
    """Its repetition would answer without the key, as if that had been shown before."""
    customer, client = platform.organization(), over("passports")
    server.behaviours = [lose_answer(real), pass_on(real)]
    ask: dict[str, Any] = {
        "body": {"name": "ci", "permissions": ["read"]},
        "by": customer.passport,
        "repeat": "the-same-one",
    }
    problem(client.post("/v1/passports", **ask), 503, "unavailable")
    assert len(server.requests) == 1
    again = client.post("/v1/passports", **ask)
    assert again.headers["idempotent-replayed"] == "true"
    assert done(again, 201)["key"] is None
    assert platform.value("select count(*) from billing.passports where name = 'ci'") == 1


def test_a_call_without_a_key_is_not_repeated(
    over: Load, server: Misbehaving, real: str, platform: Platform
) -> None:
    server.behaviours = [lose_answer(real), pass_on(real)]
    passport = platform.organization(usd=1).passport
    problem(over("credits").get("/v1/credits", by=passport), 503, "unavailable")
    assert len(server.requests) == 1


def test_a_postgrest_that_goes_away_comes_back(
    function: Load, platform: Platform, postgrest: Postgrest
) -> None:
    client, passport = function("credits"), platform.organization(usd=1).passport
    done(client.get("/v1/credits", by=passport))
    postgrest.stop()
    for path in ("/v1/credits", "/healthz"):
        problem(client.get(path, by=passport), 503, "unavailable")
    postgrest.serve(platform.database)
    for path in ("/v1/credits", "/healthz"):
        done(client.get(path, by=passport))


def test_nothing_runs_on_when_all_is_closed(
    platform: Platform, settings: dict[str, str], portal: BlockingPortal
) -> None:
    """The client's library can also refresh sessions and listen; it must not."""

    async def tasks() -> int:
        return len(asyncio.all_tasks())

    passport = platform.organization(usd=1).passport
    before = portal.call(tasks)
    with load(portal, "credits", settings) as client:
        done(client.get("/v1/credits", by=passport))
        assert portal.call(tasks) <= before + 1  # whoever holds the client open
    assert portal.call(tasks) == before
