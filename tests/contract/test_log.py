"""The log's lines as Cloud Logging wants them: joined to their request, its trace and function."""

import json
import logging
import subprocess
import sys
from typing import Any
from urllib.parse import quote, unquote

import pytest

from faregate.conceal import CONCEALED, conceal, conceal_path, never_show
from faregate.log import log
from faregate.trace import Trace, incoming
from infra.local import paths
from tests.harness.answers import done, problem
from tests.harness.client import Load
from tests.harness.platform import Platform

TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
DEPLOYED = {
    "K_SERVICE": "credits",
    "K_REVISION": "credits-00007-abc",
    "GOOGLE_CLOUD_PROJECT": "acme-production",
}
TRACE_FIELDS = [f"logging.googleapis.com/{name}" for name in ("trace", "spanId", "trace_sampled")]


def _lines(capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def test_a_request_is_told_in_cloud_loggings_words(
    function: Load, capsys: pytest.CaptureFixture[str]
) -> None:
    headers = {"traceparent": f"00-{TRACE}-{SPAN}-01", "X-Request-Id": "request-1"}
    function("credits", **DEPLOYED).get("/v1/credits?limit=1", headers=headers)
    (line,) = _lines(capsys)
    duration_ms = line.pop("duration_ms")
    assert line == {
        "severity": "INFO",
        "message": "request",
        "request_id": "request-1",
        "function": "credits",
        "revision": "credits-00007-abc",
        "logging.googleapis.com/trace": f"projects/acme-production/traces/{TRACE}",
        "logging.googleapis.com/spanId": SPAN,
        "logging.googleapis.com/trace_sampled": True,
        "method": "GET",
        "path": "/v1/credits",
        "status": 401,
        "httpRequest": {
            "requestMethod": "GET",
            "requestUrl": "/v1/credits",
            "status": 401,
            "latency": f"{duration_ms / 1000:.5f}s",
            "protocol": "HTTP/1.1",
        },
    }


def test_what_is_said_on_the_way_belongs_to_the_request(
    function: Load, platform: Platform, capsys: pytest.CaptureFixture[str]
) -> None:
    client = function("storage", TASKS_API_URL="http://127.0.0.1:9", **DEPLOYED)
    headers = {"traceparent": f"00-{TRACE}-{SPAN}-00"}
    body = {"kind": "bucket", "size_gb": 1}
    passport = platform.organization("pro", usd=9).passport
    done(client.post("/v1/storage", body, by=passport, headers=headers), 201)
    warning, request = _lines(capsys)
    assert (warning["severity"], warning["message"]) == ("WARNING", "the queue was not told")
    shared = ["request_id", "function", "revision", *TRACE_FIELDS]
    assert [warning[name] for name in shared] == [request[name] for name in shared]
    assert request["logging.googleapis.com/trace_sampled"] is False


def test_what_is_said_outside_of_a_request_belongs_to_none(
    function: Load, capsys: pytest.CaptureFixture[str]
) -> None:
    function("credits", **DEPLOYED).get("/healthz")
    log("INFO", "later")
    assert _lines(capsys)[-1] == {"severity": "INFO", "message": "later"}


@pytest.mark.parametrize("missing", ["GOOGLE_CLOUD_PROJECT", "a header"])
def test_without_a_project_or_a_header_no_trace_is_named(
    function: Load, capsys: pytest.CaptureFixture[str], missing: str
) -> None:
    known = {name: value for name, value in DEPLOYED.items() if name != missing}
    headers = {} if missing == "a header" else {"traceparent": f"00-{TRACE}-{SPAN}-01"}
    function("credits", **known).get("/healthz", headers=headers)
    (line,) = _lines(capsys)
    assert not line.keys() & set(TRACE_FIELDS)
    assert line["function"] == "credits"


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({"traceparent": f"00-{TRACE}-{SPAN}-01"}, Trace(TRACE, SPAN, True)),
        ({"traceparent": f"00-{TRACE}-{SPAN}-00"}, Trace(TRACE, SPAN, False)),
        # Other flags of the first version, and what later versions may add.
        ({"traceparent": f"00-{TRACE}-{SPAN}-03"}, Trace(TRACE, SPAN, True)),
        ({"traceparent": f"00-{TRACE}-{SPAN}-02"}, Trace(TRACE, SPAN, False)),
        ({"traceparent": f"01-{TRACE}-{SPAN}-01-later"}, Trace(TRACE, SPAN, True)),
        ({"traceparent": f"cc-{TRACE}-{SPAN}-01"}, Trace(TRACE, SPAN, True)),
        ({"x-cloud-trace-context": f"{TRACE}/1;o=1"}, Trace(TRACE, f"{1:016x}", True)),
        ({"x-cloud-trace-context": f"{TRACE}/1;o=0"}, Trace(TRACE, f"{1:016x}", False)),
        ({"x-cloud-trace-context": f"{TRACE}/1"}, Trace(TRACE, f"{1:016x}", False)),
        ({"x-cloud-trace-context": f"{TRACE.upper()}/255"}, Trace(TRACE, f"{255:016x}", False)),
        ({"x-cloud-trace-context": f"{TRACE}/{2**64 - 1};o=1"}, Trace(TRACE, "f" * 16, True)),
        # W3C's counts where both are given, unless it is not one.
        (
            {
                "traceparent": f"00-{TRACE}-{SPAN}-01",
                "x-cloud-trace-context": f"{'a' * 32}/1;o=0",
            },
            Trace(TRACE, SPAN, True),
        ),
        (
            {"traceparent": "broken", "x-cloud-trace-context": f"{TRACE}/1;o=1"},
            Trace(TRACE, f"{1:016x}", True),
        ),
        ({}, None),
        *(
            ({"traceparent": header}, None)
            for header in (
                *["", "00", f"00-{TRACE}", f"00-{TRACE}-{SPAN}", f"00-{TRACE}-{SPAN}-1"],
                f"ff-{TRACE}-{SPAN}-01",
                f"00-{'0' * 32}-{SPAN}-01",
                f"00-{TRACE}-{'0' * 16}-01",
                f"00-{TRACE.upper()}-{SPAN}-01",
                f"00-{TRACE}-{SPAN}-01-later",
                f"00-{TRACE}-{SPAN}-01\n",
                f" 00-{TRACE}-{SPAN}-01",
                f"00-{TRACE[:-1]}ä-{SPAN}-01",
                f"00-{TRACE[:-1]}٣-{SPAN}-01",
                f"00-{TRACE}-{SPAN}-zz",
                "00-" + "a" * 10_000,
            )
        ),
        *(
            ({"x-cloud-trace-context": header}, None)
            for header in (
                *["", TRACE, f"{TRACE}/", f"{TRACE}/abc", f"{TRACE}/0", f"{TRACE}/-1"],
                f"{'0' * 32}/1",
                f"{TRACE}/{2**64}",
                f"{TRACE}/{'9' * 21}",
                f"{TRACE}/1;o=yes",
                f"{TRACE}/1 ;o=1",
            )
        ),
    ],
)
def test_headers_name_a_trace_or_none(headers: dict[str, str], expected: Trace | None) -> None:
    assert incoming(headers) == expected


@pytest.mark.parametrize("header", ["traceparent", "X-Cloud-Trace-Context"])
@pytest.mark.parametrize("value", ["x", "00-" + "a" * 9000, '"}\n{"a": "b'])
def test_a_hostile_trace_is_none(
    function: Load, capsys: pytest.CaptureFixture[str], header: str, value: str
) -> None:
    problem(
        function("credits", **DEPLOYED).get("/v1/credits", headers={header: value}),
        401,
        "unauthenticated",
    )
    (line,) = _lines(capsys)
    assert not line.keys() & set(TRACE_FIELDS)


_WARNING = """
import logging, faregate.log
from faregate.conceal import never_show
never_show("correct horse battery")
try:
    raise ValueError("correct horse battery")
except ValueError:
    logging.getLogger("some.library").exception("broken: %s", "correct horse battery")
logging.getLogger("some.library").warning("%d", "no number")
logging.getLogger("httpx").info("GET https://example.com/?token=x")
"""


def test_what_libraries_warn_of_is_a_line_like_ours() -> None:
    done = subprocess.run(
        [sys.executable, "-c", _WARNING],
        cwd=paths.ROOT / "functions",
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stderr == ""
    error, warning = map(json.loads, done.stdout.splitlines())
    assert (error["severity"], error["logger"]) == ("ERROR", "some.library")
    assert error["message"] == f"broken: {CONCEALED}"
    assert "ValueError" in error["exception"]
    assert "correct horse" not in done.stdout
    assert (warning["severity"], warning["message"]) == ("WARNING", "%d")


def test_whoever_sets_up_logging_keeps_it(caplog: pytest.LogCaptureFixture) -> None:
    logging.getLogger("some.library").warning("heard")
    assert caplog.messages == ["heard"]


@pytest.mark.parametrize(
    "text",
    [
        "key fg_live_{} unknown",
        "sk_live_{}",
        "rk_test_{},",
        "whsec_{}",
        "sb_secret_{}",
        "ya29.{}",
        "eyJhbGciOiJSUzI1NiJ9.{}.{}",
        "eyJhbGciOiJSUzI1NiJ9.{}.",
        "eyJhbGciOiJSUzI1NiJ9.{}",
        "Authorization: Bearer {}",
        "b'bearer {}'",
        "postgresql://someone:{}@db.example.com:6543/postgres",
        "https://{}:x@example.com",
        "GET /o?X-Goog-Algorithm=a&X-Goog-Signature={}&b=1",
        "GET /o?X-Amz-Signature={}",
        "https://app.example.com/invitation?invitation={}#top",
        "https://app.example.com/#access_token={}&type=invite",
        "redirect_to=https%3A%2F%2Fapp.example.com%2F%3Finvitation%3D{}%26a%3Db",
        "/v1/credits?api_key={}",
        "/v1/credits?a=1&password={}'",
        "-----BEGIN PRIVATE KEY-----\n{}\n-----END PRIVATE KEY-----",
        "-----BEGIN EC PRIVATE KEY-----\n{}",
    ],
)
def test_what_looks_like_a_credential_is_concealed(text: str) -> None:
    given = text.format(*["c0rrecth0rsebatterystaple"] * 2)
    assert "c0rrecth0rsebatterystaple" not in conceal(given)
    assert CONCEALED in conceal(given)


@pytest.mark.parametrize(
    "text",
    [
        "/v1/sessions/01936f00-0000-7000-8000-000000000000/stop",
        "/v1/storage/01936f00-0000-7000-8000-000000000000/objects",
        "projects/acme/locations/europe-west1/queues/stop-session",
        "https://api.stripe.com/v1/checkout/sessions?limit=100",
        "postgresql://faregate_functions@db.example.com/postgres",
        '  File "/app/faregate/caller.py", line 9, in f\n    key = api_key or bearer',
        "Key (organization_id, key)=(01936f00-0000-7000-8000-000000000000, abc) already exists.",
        "the bearer of bad news",
    ],
)
def test_what_helps_stays(text: str) -> None:
    assert conceal(text) == text
    assert conceal_path(text) == text or not text.startswith("/")


@pytest.mark.parametrize("segment", ["x" * 43, "a.b" * 20, "ä" * 43, "x" * 5000])
def test_a_path_has_names_and_ids_no_keys(segment: str) -> None:
    assert conceal_path(f"/v1/{segment}/y") == f"/v1/{CONCEALED}/y"
    longest_name = "s" * 41
    assert conceal_path(f"/v1/spaces/{longest_name}") == f"/v1/spaces/{longest_name}"


@pytest.mark.parametrize(
    "secret", ["hunter2!%zz", "a b/c+d=&?é", "line\nbreak\t", 'quo"te\\slash', "pass%20word"]
)
def test_a_known_secret_is_concealed_however_it_is_written(secret: str) -> None:
    never_show(secret)
    forms = {secret, quote(secret, safe=""), unquote(secret), json.dumps(secret)[1:-1]}
    forms |= {repr(secret)[1:-1], repr(secret.encode())[2:-1]}
    for form in forms:
        assert conceal(f"<{form}>") == f"<{CONCEALED}>"


def test_a_short_secret_does_not_black_out_the_log() -> None:
    for secret in ("", "a", "select"):
        never_show(secret)
    assert conceal("select a from table") == "select a from table"
