"""What every function has around its contract: ids, logs, CORS, health, and answers to failure."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from socket import socket
from time import monotonic
from typing import Any

import psycopg
import pytest
from psycopg import sql

from faregate.function import FUNCTIONS, VERSION
from infra.local.template import Database
from tests.harness.answers import done, problem
from tests.harness.client import Load
from tests.harness.platform import Platform

ORIGIN = "http://localhost:3000"


def _lines(written: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in written.splitlines()]


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_healthy_function_says_so(function: Load, name: str) -> None:
    health = done(function(name).get("/healthz"))
    assert health == {
        "status": "ok",
        "version": VERSION,
        "revision": None,
        "database_ms": health["database_ms"],
    }
    assert 0 < health["database_ms"] < 3000


def test_health_tells_what_is_deployed(function: Load) -> None:
    deployed = {"K_SERVICE": "credits", "K_REVISION": "credits-00007-abc", "IMAGE_DIGEST": "3f2a"}
    health = done(function("credits", **deployed).get("/healthz"))
    assert (health["version"], health["revision"]) == (f"{VERSION}+3f2a", "credits-00007-abc")


@pytest.mark.parametrize("given", ["trace-01", "x" * 64, "A.b_c-123"])
def test_a_request_id_is_echoed(function: Load, given: str) -> None:
    client = function("credits")
    headers = {"X-Request-Id": given}
    assert client.get("/healthz", headers=headers).headers["x-request-id"] == given
    refusal = problem(client.get("/v1/credits", headers=headers), 401, "unauthenticated")
    assert refusal["request_id"] == given


@pytest.mark.parametrize("given", ["", "short", "x" * 65, "with space", '{"a":1}', "<script>"])
def test_a_strange_request_id_is_replaced(function: Load, given: str) -> None:
    response = function("credits").get("/healthz", headers={"X-Request-Id": given})
    (request_id,) = response.headers.get_list("x-request-id")
    assert request_id != given
    assert len(request_id) == 32


def test_a_request_is_one_line_of_json_without_secrets(
    function: Load, platform: Platform, capsys: pytest.CaptureFixture[str]
) -> None:
    user, organization = platform.user("secret.person@example.com"), platform.organization(usd=1)
    passports, register = function("passports"), function("register")
    calls = [
        passports.get("/v1/passports", by=organization.passport, params={"limit": "77"}),
        passports.post(
            "/v1/passports",
            {"name": "Secret name", "permissions": ["read"]},
            by=organization.passport,
            repeat="secret-idempotency-key",
        ),
        passports.get("/v1/passports", headers={"X-API-Key": organization.passport}),
        passports.get("/v1/passports", by="secret.jwt.token"),
        passports.get("/nothing"),
        register.post("/v1/register", {"organization_name": "Secret Inc"}, by=user.token),
        register.get("/healthz"),
    ]
    written = capsys.readouterr().out
    lines = _lines(written)
    assert [(line["status"], line["request_id"]) for line in lines] == [
        (call.status_code, call.headers["x-request-id"]) for call in calls
    ]
    assert lines[0].keys() == {
        *["severity", "message", "request_id", "method", "path", "status", "duration_ms"],
        "httpRequest",
    }
    issued = [calls[1].json()["key"], calls[5].json()["passport"]["key"]]
    for secret in ("secret", "limit", organization.passport, user.token, *issued):
        assert secret.lower() not in written.lower()


def test_an_allowed_origin_may_read_answers_and_refusals(
    function: Load, platform: Platform
) -> None:
    client = function("credits")
    for by in ("", platform.organization().passport):
        response = client.get("/v1/credits", by=by, headers={"Origin": ORIGIN})
        assert response.headers["access-control-allow-origin"] == ORIGIN
        assert "X-Request-Id" in response.headers["access-control-expose-headers"]
        assert "access-control-allow-credentials" not in response.headers


def test_an_allowed_origin_may_ask_beforehand(function: Load) -> None:
    response = function("credits").request(
        "OPTIONS",
        "/v1/credits/checkout",
        headers={
            "Origin": ORIGIN,
            "Access-Control-Request-Method": "POST",
            "Access-Control-Request-Headers": "authorization,content-type,idempotency-key",
        },
    )
    assert response.status_code == 200
    assert response.headers["access-control-allow-origin"] == ORIGIN


@pytest.mark.parametrize(
    "origin",
    ["https://evil.example", "http://localhost:3000.evil.example", "http://localhost", "null"],
)
def test_another_origin_may_not(function: Load, origin: str) -> None:
    client = function("credits")
    asked = {"Origin": origin, "Access-Control-Request-Method": "POST"}
    for response in (
        client.get("/v1/credits", headers={"Origin": origin}),
        client.request("OPTIONS", "/v1/credits", headers=asked),
    ):
        assert "access-control-allow-origin" not in response.headers


def test_no_origin_may_by_default(function: Load) -> None:
    response = function("credits", CORS_ALLOWED_ORIGINS="").get(
        "/healthz", headers={"Origin": ORIGIN}
    )
    assert "access-control-allow-origin" not in response.headers


def test_a_database_out_of_reach_is_a_problem_for_a_while(
    function: Load, platform: Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("faregate.function._HEALTH_SECONDS", 1)
    lonely = function(
        "credits",
        DATABASE_URL="postgresql://nobody:hunter2hunter2@127.0.0.1:9/nothing",
        IMAGE_DIGEST="3f2a",
    )
    began = monotonic()
    response = lonely.get("/healthz")
    # Sooner than a load balancer or an uptime check gives up.
    assert monotonic() - began < 4
    document = problem(response, 503, "unavailable")
    assert int(response.headers["retry-after"]) >= 1
    # What is down it says, and no more.
    assert document["version"] == f"{VERSION}+3f2a"
    for word in ("127.0.0.1", "nobody", "hunter2", "nothing", "psycopg"):
        assert word not in response.text


def test_a_database_that_does_not_answer_is_not_waited_for(
    function: Load, platform: Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("faregate.function._HEALTH_SECONDS", 1)
    with socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        port = listener.getsockname()[1]
        client = function("credits", DATABASE_URL=f"postgresql://nobody@127.0.0.1:{port}/nothing")
        began = monotonic()
        problem(client.get("/healthz"), 503, "unavailable")
        assert monotonic() - began < 4


@contextmanager
def _closed(database: Database) -> Iterator[None]:
    """Let nobody into a database, and put the functions out."""
    allow = sql.SQL("alter database {} with allow_connections {}")
    name = sql.Identifier(database.name)
    with psycopg.connect(database.owner_url, dbname="postgres", autocommit=True) as owner:
        owner.execute(allow.format(name, sql.SQL("false")))
        owner.execute(
            "select pg_terminate_backend(pid) from pg_stat_activity"
            " where datname = %s and usename = 'faregate_functions'",
            [database.name],
        )
        yield
        owner.execute(allow.format(name, sql.SQL("true")))


def test_a_database_that_goes_away_comes_back(function: Load, platform: Platform) -> None:
    client, passport = function("credits"), platform.organization(usd=1).passport
    done(client.get("/v1/credits", by=passport))
    with _closed(platform.database):
        for path in ("/v1/credits", "/healthz"):
            response = client.get(path, by=passport)
            problem(response, 503, "unavailable")
            assert int(response.headers["retry-after"]) >= 1
    done(client.get("/v1/credits", by=passport))


def test_a_statement_that_waits_too_long_is_a_problem_for_a_while(
    function: Load, platform: Platform
) -> None:
    client, organization = function("sessions"), platform.organization(usd=1)
    impatient = sql.SQL("alter role faregate_functions in database {} set lock_timeout = '50ms'")
    platform.alter(impatient.format(sql.Identifier(platform.database.name)))
    with platform.owner.transaction():
        platform.run(
            "select from billing.wallets where organization_id = %s for update", organization.id
        )
        response = client.post("/v1/sessions", {"tier": "small"}, by=organization.passport)
        problem(response, 503, "unavailable")
    done(client.post("/v1/sessions", {"tier": "small"}, by=organization.passport), 201)


def test_the_log_tells_why_others_did_not_answer(
    function: Load, platform: Platform, capsys: pytest.CaptureFixture[str]
) -> None:
    client = function("credits", STRIPE_API_URL="http://127.0.0.1:9")
    passport = platform.organization().passport
    response = client.post("/v1/credits/checkout", {"amount": "25.00"}, by=passport)
    problem(response, 502, "payment_provider_unavailable")
    written = capsys.readouterr().out
    (line,) = _lines(written)
    assert line["severity"] == "ERROR"
    assert "APIConnectionError" in line["exception"]
    assert platform.cloud.layout.secrets.stripe_secret_key not in written


def test_the_unforeseen_tells_the_caller_nothing_and_the_log_everything(
    function: Load, platform: Platform, capsys: pytest.CaptureFixture[str]
) -> None:
    passport = platform.organization().passport
    platform.alter("drop function api.get_wallet(jsonb)")
    response = function("credits").get("/v1/credits", by=passport)
    document = problem(response, 500, "internal")
    assert document.keys() == {"type", "title", "status", "code", "request_id"}
    written = capsys.readouterr().out
    (line,) = _lines(written)
    assert (line["severity"], line["request_id"]) == ("ERROR", document["request_id"])
    assert "UndefinedFunction" in line["exception"]
    assert passport not in written
