"""OpenTelemetry: keeps the spans of requests and sends them on, as OTLP over HTTP.

Imported only where tracing is on: it would be a tenth of a cold start.
"""

import asyncio
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from threading import current_thread, main_thread
from types import FrameType
from typing import Any

from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import (
    NonRecordingSpan,
    Span,
    SpanContext,
    SpanKind,
    Status,
    StatusCode,
    TraceFlags,
    set_span_in_context,
)

from faregate.settings import DeploymentSettings, TracingSettings
from faregate.trace import Trace, recorder

_GOOGLE = "telemetry.googleapis.com"
# Names of things, never what is in them; an exception's message may be anything.
_QUIET: Any = {"record_exception": False, "set_status_on_exception": False}


class RequestSpan:
    """The span of a request."""

    def __init__(self, span: Span) -> None:
        self._span = span
        context = span.get_span_context()
        self.trace = Trace(
            f"{context.trace_id:032x}", f"{context.span_id:016x}", context.trace_flags.sampled
        )

    def end(self, method: str, route: str | None, status: int, request_id: str) -> None:
        """Say what it was: the address as the contract has it, without ids."""
        self._span.update_name(f"{method} {route}" if route else method)
        self._span.set_attributes(
            {
                "http.request.method": method,
                "http.response.status_code": status,
                "faregate.request_id": request_id,
                **({"http.route": route} if route else {}),
            }
        )
        if status >= 500:
            self._span.set_status(Status(StatusCode.ERROR))


class Tracing:
    """Records spans. What it sends, and when, is OpenTelemetry's business and its own settings'."""

    def __init__(self) -> None:
        deployment, settings = DeploymentSettings(), TracingSettings()
        named = {
            "service.name": deployment.k_service,
            "service.version": deployment.k_revision,
            "gcp.project_id": deployment.google_cloud_project,
        }
        self._provider = TracerProvider(
            resource=Resource.create({name: value for name, value in named.items() if value})
        )
        self._provider.add_span_processor(BatchSpanProcessor(_exporter(settings)))
        self._tracer = self._provider.get_tracer("faregate")

    @contextmanager
    def request(self, came_from: Trace | None) -> Iterator[RequestSpan]:
        """Record a request; what is done meanwhile can record its parts."""
        _ = self._sends_the_last
        context = _context(came_from) if came_from else Context()
        kind = SpanKind.SERVER
        with self._tracer.start_as_current_span("request", context, kind, **_QUIET) as span:
            token = recorder.set(self)
            try:
                yield RequestSpan(span)
            finally:
                recorder.reset(token)

    @contextmanager
    def span(self, name: str) -> Iterator[None]:
        """Record a call of somebody else, and whether it failed."""
        with self._tracer.start_as_current_span(name, kind=SpanKind.CLIENT, **_QUIET) as span:
            try:
                yield
            except BaseException as error:
                span.set_attribute("error.type", type(error).__name__)
                span.set_status(Status(StatusCode.ERROR))
                raise

    async def close(self) -> None:
        """Send what was not sent yet."""
        await asyncio.to_thread(self._provider.shutdown)

    @cached_property
    def _sends_the_last(self) -> bool:
        """Let the process end by itself when it is told to: then OpenTelemetry sends what is left.

        The server finishes its requests, and raises the signal a second time: that would kill the
        process before Python's exit handlers run. Set with the first request, because the server
        has set its own by then.
        """
        server = signal.getsignal(signal.SIGTERM)
        if current_thread() is not main_thread() or not callable(server):
            return False

        def end(number: int, frame: FrameType | None) -> None:
            signal.pthread_sigmask(signal.SIG_BLOCK, [number])
            server(number, frame)

        signal.signal(signal.SIGTERM, end)
        return True


def _context(came_from: Trace) -> Context:
    parent = SpanContext(
        int(came_from.trace_id, 16),
        int(came_from.span_id, 16),
        is_remote=True,
        trace_flags=TraceFlags(int(came_from.is_sampled)),
    )
    return set_span_in_context(NonRecordingSpan(parent), Context())


def _exporter(settings: TracingSettings) -> OTLPSpanExporter:
    endpoint = settings.otel_exporter_otlp_endpoint
    assert endpoint  # noqa: S101  settings without one are refused
    session = None
    if endpoint.host == _GOOGLE:
        from google.auth.transport.requests import AuthorizedSession

        from faregate.backends.google import credentials

        session = AuthorizedSession(credentials(str(endpoint)))  # type: ignore[no-untyped-call]
    # The endpoint and its headers it reads from the environment, by the same names.
    return OTLPSpanExporter(session=session)
