"""Spans reach an OTLP receiver that decodes them; where tracing is off, nothing of it is there."""

import gzip
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from socket import create_connection
from threading import Thread
from time import monotonic, sleep
from typing import Any

import httpx
import pytest
from anyio.from_thread import BlockingPortal
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

from infra.local import paths
from infra.local.template import free_port
from infra.openapi import PLACEHOLDERS
from tests.harness.answers import done, problem
from tests.harness.client import Client, load
from tests.harness.platform import Platform
from tests.harness.server import serve

TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
Traced = Callable[..., AbstractContextManager[Client]]
HEADERS = {"traceparent": f"00-{TRACE}-{SPAN}-01"}


@dataclass
class Receiver:
    """An OTLP receiver, and what it was sent."""

    url: str = ""
    requests: list[ExportTraceServiceRequest] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    paths: list[str] = field(default_factory=list)

    @property
    def spans(self) -> list[Span]:
        return [
            span
            for request in self.requests
            for resource in request.resource_spans
            for scope in resource.scope_spans
            for span in scope.spans
        ]

    def resource(self) -> dict[str, Any]:
        (first, *_) = self.requests
        return _attributes(first.resource_spans[0].resource)

    def __bool__(self) -> bool:
        return bool(self.requests)


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with _serve() as receiver:
        yield receiver


@contextmanager
def _serve() -> Iterator[Receiver]:
    receiver = Receiver()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            if self.headers.get("Content-Encoding") == "gzip":
                body = gzip.decompress(body)
            receiver.paths.append(self.path)
            receiver.headers.append({name.lower(): value for name, value in self.headers.items()})
            receiver.requests.append(ExportTraceServiceRequest.FromString(body))
            answer = ExportTraceServiceResponse().SerializeToString()
            self.send_response(200)
            self.send_header("Content-Type", "application/x-protobuf")
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    receiver.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield receiver
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def _attributes(of: Any) -> dict[str, Any]:  # noqa: ANN401  a span or a resource
    return {
        each.key: getattr(each.value, str(each.value.WhichOneof("value"))) for each in of.attributes
    }


@pytest.fixture
def traced(
    platform: Platform, settings: dict[str, str], portal: BlockingPortal, receiver: Receiver
) -> Traced:
    """Load functions that send their spans when the block ends."""
    on = {"TRACING": "true", "OTEL_EXPORTER_OTLP_ENDPOINT": receiver.url}

    @contextmanager
    def load_traced(name: str, **environment: str) -> Iterator[Client]:
        with load(portal, name, settings | on | environment) as client:
            yield client

    return load_traced


def test_a_request_and_its_call_of_the_database_are_spans(
    platform: Platform, traced: Traced, receiver: Receiver, capsys: pytest.CaptureFixture[str]
) -> None:
    passport = platform.organization(usd=1).passport
    deployed = {"K_SERVICE": "credits", "K_REVISION": "credits-7", "GOOGLE_CLOUD_PROJECT": "acme"}
    with traced("credits", **deployed) as client:
        path = "/v1/credits/transactions/1/draws"
        answer = client.get(path, by=passport, headers=HEADERS)
        done(answer)
    call, request = receiver.spans
    assert request.name == "GET /v1/credits/transactions/{sequence}/draws"
    assert (request.kind, request.trace_id.hex()) == (Span.SPAN_KIND_SERVER, TRACE)
    assert request.parent_span_id.hex() == SPAN
    assert _attributes(request) == {
        "http.request.method": "GET",
        "http.route": "/v1/credits/transactions/{sequence}/draws",
        "http.response.status_code": 200,
        "faregate.request_id": answer.headers["x-request-id"],
    }
    assert request.status.code == Status.STATUS_CODE_UNSET
    assert (call.name, call.kind) == ("api.list_draws", Span.SPAN_KIND_CLIENT)
    assert (call.trace_id, call.parent_span_id) == (request.trace_id, request.span_id)
    assert request.start_time_unix_nano <= call.start_time_unix_nano
    assert call.end_time_unix_nano <= request.end_time_unix_nano
    resource = receiver.resource()
    told = {name: resource[name] for name in ("service.name", "service.version", "gcp.project_id")}
    assert told == {
        "service.name": "credits",
        "service.version": "credits-7",
        "gcp.project_id": "acme",
    }
    assert set(receiver.paths) == {"/v1/traces"}
    # The log names the request's own span, which the trace shows.
    (line,) = map(json.loads, capsys.readouterr().out.splitlines())
    assert line["logging.googleapis.com/trace"] == f"projects/acme/traces/{TRACE}"
    assert line["logging.googleapis.com/spanId"] == request.span_id.hex()
    assert line["logging.googleapis.com/trace_sampled"] is True


def test_spans_of_requests_side_by_side_are_not_mixed_up(
    platform: Platform, traced: Traced, receiver: Receiver
) -> None:
    passport = platform.organization(usd=1).passport
    with traced("credits") as client:
        for _ in range(3):
            done(client.get("/v1/credits", by=passport))
        problem(client.get("/nothing"), 404, "not_found")
    requests = {span.span_id: span for span in receiver.spans if not span.parent_span_id}
    calls = [span for span in receiver.spans if span.parent_span_id]
    assert len(requests) == len({span.trace_id for span in requests.values()}) == 4
    assert {span.parent_span_id for span in calls} < requests.keys()
    assert all(requests[each.parent_span_id].trace_id == each.trace_id for each in calls)
    assert [span.name for span in requests.values()] == ["GET /v1/credits"] * 3 + ["GET"]


def test_a_failure_is_told_without_its_message(
    platform: Platform, traced: Traced, receiver: Receiver
) -> None:
    passport = platform.organization().passport
    platform.alter("drop function api.get_wallet(jsonb)")
    with traced("credits") as client:
        problem(client.get("/v1/credits", by=passport), 500, "internal")
    call, request = receiver.spans
    assert request.status.code == call.status.code == Status.STATUS_CODE_ERROR
    assert _attributes(call)["error.type"] == "UndefinedFunction"
    assert not [event for span in receiver.spans for event in span.events]
    assert "get_wallet" not in str(request)
    assert "does not exist" not in str(receiver.requests)
    assert passport not in str(receiver.requests)


def test_whoever_is_not_sampled_is_not_recorded(
    platform: Platform, traced: Traced, receiver: Receiver
) -> None:
    passport = platform.organization().passport
    with traced("credits") as client:
        headers = {"traceparent": f"00-{TRACE}-{SPAN}-00"}
        done(client.get("/v1/credits", by=passport, headers=headers))
    assert not receiver


def test_opentelemetrys_own_settings_count(
    platform: Platform, traced: Traced, receiver: Receiver
) -> None:
    passport = platform.organization().passport
    own = {
        "OTEL_EXPORTER_OTLP_HEADERS": "authorization=Basic%20abc,x-tenant=acme",
        "OTEL_EXPORTER_OTLP_COMPRESSION": "gzip",
        "OTEL_SERVICE_NAME": "mine",
    }
    with traced("credits", **own) as client:
        done(client.get("/v1/credits", by=passport))
    assert receiver.headers[0]["authorization"] == "Basic abc"
    assert receiver.headers[0]["x-tenant"] == "acme"
    assert receiver.headers[0]["content-encoding"] == "gzip"
    assert receiver.resource()["service.name"] == "mine"
    assert len(receiver.spans) == 2
    receiver.requests.clear()
    never = {"OTEL_TRACES_SAMPLER": "traceidratio", "OTEL_TRACES_SAMPLER_ARG": "0"}
    with traced("credits", **never) as client:
        done(client.get("/v1/credits", by=passport, headers=HEADERS))
    assert not receiver


def test_fastapis_own_telemetry_stays_off(
    settings: dict[str, str], receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It would send what exceptions say."""
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", receiver.url)
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "20")
    with serve(settings | {"FASTAPI_OTEL_AUTO_CONFIGURE": "true"}, "credits") as address:
        httpx.get(f"{address}/healthz", trust_env=False)
        sleep(0.5)
    assert receiver.paths == []


def test_a_receiver_that_is_away_disturbs_nobody(
    platform: Platform, traced: Traced, caplog: pytest.LogCaptureFixture
) -> None:
    passport = platform.organization().passport
    away = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9", "OTEL_EXPORTER_OTLP_TIMEOUT": "1"}
    with traced("credits", **away) as client:
        done(client.get("/v1/credits", by=passport))
    assert "export" in caplog.text.lower()


@pytest.mark.parametrize("way", ["supabase"], indirect=True)
def test_the_other_way_into_the_database_is_a_span_too(
    platform: Platform, traced: Traced, receiver: Receiver
) -> None:
    passport = platform.organization(usd=1).passport
    with traced("credits") as client:
        done(client.get("/v1/credits", by=passport))
    assert [span.name for span in receiver.spans] == ["api.get_wallet", "GET /v1/credits"]


def test_tracing_wants_a_receiver(portal: BlockingPortal) -> None:
    with (
        pytest.raises(ValueError, match="otel_exporter_otlp_endpoint"),
        load(portal, "notifications", PLACEHOLDERS | {"TRACING": "true"}),
    ):
        pass


# FastAPI imports OpenTelemetry's interface, with nothing behind it.
_IMPORTED = """
import sys, fastapi
before = {name for name in sys.modules if name.startswith("opentelemetry")}
from faregate.function import FUNCTIONS, create_app
create_app(*FUNCTIONS)
print([name for name in sys.modules if name.startswith("opentelemetry") and name not in before])
print([name for name in before if name.startswith("opentelemetry.sdk")])
print("faregate.backends.tracing" in sys.modules)
"""


def test_where_tracing_is_off_nothing_of_it_is_imported() -> None:
    # Google's library for Cloud Storage looks whether there is a part that it could use.
    imported = subprocess.run(
        [sys.executable, "-c", _IMPORTED],
        cwd=paths.ROOT / "functions",
        env=PLACEHOLDERS,
        capture_output=True,
        text=True,
        check=True,
    )
    assert imported.stdout.splitlines() == ["[]", "[]", "False"]


def test_a_process_that_ends_sends_what_it_has(
    platform: Platform, settings: dict[str, str], receiver: Receiver
) -> None:
    """Served as it is deployed: gunicorn makes the app, forks, and ends on SIGTERM.

    Also of a request that it is told to end in the middle of.
    """
    port = free_port()
    process = subprocess.Popen(
        [sys.executable, "-m", "functions_framework", "--host", "127.0.0.1"],
        cwd=paths.ROOT / "functions",
        env=os.environ
        | settings
        | {
            "FUNCTION_TARGET": "credits",
            "PORT": str(port),
            "TRACING": "true",
            "OTEL_EXPORTER_OTLP_ENDPOINT": receiver.url,
            # So that only the end can be the reason.
            "OTEL_BSP_SCHEDULE_DELAY": "600000",
        },
        stdout=subprocess.DEVNULL,
    )
    try:
        _await(f"http://127.0.0.1:{port}/healthz")
        assert not receiver
        with create_connection(("127.0.0.1", port)) as client:
            client.sendall(_HALF)
            assert client.recv(1000).startswith(b"HTTP/1.1 100 ")
            process.send_signal(signal.SIGTERM)
            sleep(0.3)
            client.sendall(b"}")
            assert client.recv(1000).startswith(b"HTTP/1.1 401 ")
        process.wait(60)
    finally:
        process.kill()
        process.wait()
    names = [span.name for span in receiver.spans]
    assert {"GET /healthz", "POST /v1/credits/checkout"} <= {*names}


# The server asks for the rest when the function reads the body.
_HALF = b"""POST /v1/credits/checkout HTTP/1.1\r
Host: 127.0.0.1\r
Content-Type: application/json\r
Content-Length: 2\r
Expect: 100-continue\r
\r
{"""


def _await(url: str) -> None:
    deadline = monotonic() + 120
    while True:
        try:
            httpx.get(url, trust_env=False).raise_for_status()
        except httpx.HTTPError:
            if monotonic() > deadline:
                raise
            sleep(0.1)
        else:
            return
