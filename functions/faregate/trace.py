"""The trace that a request belongs to; its spans, which nobody records unless tracing is on."""

import re
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from contextvars import ContextVar
from typing import NamedTuple, Protocol


class Trace(NamedTuple):
    """A trace, and the span of it that a request is, or that it came from."""

    trace_id: str
    span_id: str
    is_sampled: bool


class Recorder(Protocol):
    """Who keeps spans."""

    def span(self, name: str) -> AbstractContextManager[object]:
        """Record a part of the current request."""


recorder: ContextVar[Recorder | None] = ContextVar("recorder", default=None)
"""Who records the current request's spans; None: nobody."""

# https://www.w3.org/TR/trace-context/: a version after the first may have more parts than four.
_W3C = re.compile(
    r"(?!ff)([0-9a-f]{2})-(?!0{32})([0-9a-f]{32})-(?!0{16})([0-9a-f]{16})-([0-9a-f]{2})(-.*)?",
    re.ASCII,
)
# https://docs.cloud.google.com/trace/docs/trace-context#legacy-http-header
_GOOGLE = re.compile(r"(?!0{32})([0-9a-fA-F]{32})/([0-9]{1,20})(?:;o=([0-9]+))?", re.ASCII)
_LARGEST_SPAN = 2**64 - 1


def incoming(headers: Mapping[str, str]) -> Trace | None:
    """Read of which trace a request is: by W3C's header, else by Google's own."""
    return _w3c(headers.get("traceparent", "")) or _google(headers.get("x-cloud-trace-context", ""))


def span(name: str) -> AbstractContextManager[object]:
    """Record a part of the current request, if anybody does."""
    by = recorder.get()
    return by.span(name) if by else nullcontext()


def _w3c(header: str) -> Trace | None:
    found = _W3C.fullmatch(header)
    if not found or (found[1] == "00" and found[5]):
        return None
    return Trace(found[2], found[3], bool(int(found[4], 16) & 1))


def _google(header: str) -> Trace | None:
    found = _GOOGLE.fullmatch(header)
    if not found or not 0 < int(found[2]) <= _LARGEST_SPAN:
        return None
    return Trace(found[1].lower(), f"{int(found[2]):016x}", found[3] == "1")
