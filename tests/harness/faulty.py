"""A way to a stand-in on which things go wrong: never asked, never answered, cut, refused.

    with faulty(cloud.layout.gcs_url) as way:
        way.strike(after(hang_up), "POST", r"/b$")
        function("provision_storage", STORAGE_API_URL=way.url)

A client finds at `way.url` what is at the address behind it. Addresses that are signed for the way
hold there, too: the Host that a client names is passed on.
"""

import http.client
import json
import re
import select
import socket
import sys
from collections.abc import Callable, Container, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Event, Lock, Thread
from urllib.parse import urlsplit

# By themselves they end when the client gives up; a test that forgets a timeout ends, too.
_LONGEST_SECONDS = 60
_HOP_BY_HOP = {"connection", "keep-alive", "transfer-encoding", "content-length", "expect"}


@dataclass(frozen=True)
class Request:
    """One request on its way."""

    method: str
    path: str
    headers: list[tuple[str, str]]
    body: bytes


@dataclass(frozen=True)
class Answer:
    """What a client is told."""

    status: int
    headers: list[tuple[str, str]]
    body: bytes


@dataclass
class Exchange:
    """A request, the connection it came on, and the way to who should answer it."""

    request: Request
    connection: socket.socket
    ends: Event
    ask: Callable[[], Answer]


Fault = Callable[[Exchange], Answer | None]
"""What happens to a request: another answer, or none and the connection ends."""


def hang(exchange: Exchange) -> None:
    """Say nothing until the client has gone."""
    for _ in range(_LONGEST_SECONDS * 20):
        with suppress(OSError, ValueError):
            ready, _, _ = select.select([exchange.connection], [], [], 0.05)
            if ready and not exchange.connection.recv(1, socket.MSG_PEEK):
                return
        if exchange.ends.is_set():
            return


def hang_up(_: Exchange) -> None:
    """End the connection without a word."""


def after(fault: Fault) -> Fault:
    """Have the request done, and then the fault instead of the answer."""

    def behaviour(exchange: Exchange) -> Answer | None:
        done = exchange.ask()
        assert 200 <= done.status < 300, f"it was refused: {done}"
        return fault(exchange)

    return behaviour


def say(status: int, kind: str, body: str, **headers: str) -> Fault:
    """Answer this."""
    told = [("Content-Type", kind), *headers.items()]
    return lambda _: Answer(status, told, body.encode())


def _storage(status: int, reason: str, message: str, domain: str = "global") -> Fault:
    errors = [{"message": message, "domain": domain, "reason": reason}]
    error = {"code": status, "message": message, "errors": errors}
    return say(status, "application/json; charset=UTF-8", json.dumps({"error": error}))


def _google(status: int, name: str, message: str, *details: dict[str, object]) -> Fault:
    error = {"code": status, "message": message, "status": name, "details": details}
    return say(status, "application/json; charset=UTF-8", json.dumps({"error": error}))


def _s3(status: int, code: str, message: str) -> Fault:
    body = (
        '<?xml version="1.0" encoding="UTF-8"?>\n'
        f"<Error><Code>{code}</Code><Message>{message}</Message>"
        "<RequestId>4442587FB7D0A2F9</RequestId><HostId>local</HostId></Error>"
    )
    return say(status, "application/xml", body)


# What each provider says: for Cloud Storage, for Google's other APIs, for S3.
STORAGE = {
    "forbidden": _storage(
        403,
        "forbidden",
        "functions@local.iam.gserviceaccount.com does not have storage.buckets.create access to "
        "the Google Cloud project. Permission 'storage.buckets.create' denied on resource (or it "
        "may not exist).",
    ),
    "quota": _storage(
        403, "quotaExceeded", "The project exceeded its quota for buckets.", "usageLimits"
    ),
    "conflict": _storage(
        409,
        "conflict",
        "The requested bucket name is not available. The bucket namespace is shared by all users "
        "of the system. Please select a different name and try again.",
    ),
    "rate_limit": _storage(
        429,
        "rateLimitExceeded",
        "The project exceeded the rate limit for creating and deleting buckets.",
        "usageLimits",
    ),
    "internal": _storage(500, "backendError", "We encountered an internal error. Try again."),
    "unavailable": _storage(503, "backendError", "Backend Error"),
}
GOOGLE = {
    "forbidden": _google(
        403, "PERMISSION_DENIED", "Permission denied on resource (or it may not exist)."
    ),
    "quota": _google(
        429,
        "RESOURCE_EXHAUSTED",
        "Quota limit has been exceeded.",
        {
            "@type": "type.googleapis.com/google.rpc.QuotaFailure",
            "violations": [{"subject": "project:local", "description": "Quota exhausted."}],
        },
    ),
    "conflict": _google(409, "ALREADY_EXISTS", "Resource already exists"),
    "aborted": _google(409, "ABORTED", "There were concurrent policy changes."),
    "rate_limit": _google(
        429,
        "RESOURCE_EXHAUSTED",
        "Quota exceeded for quota metric 'Write requests' and limit 'per minute'.",
        {
            "@type": "type.googleapis.com/google.rpc.ErrorInfo",
            "reason": "RATE_LIMIT_EXCEEDED",
            "domain": "googleapis.com",
        },
    ),
    "internal": _google(500, "INTERNAL", "Internal error encountered."),
    "unavailable": _google(503, "UNAVAILABLE", "The service is currently unavailable."),
}
S3 = {
    "forbidden": _s3(403, "AccessDenied", "Access Denied"),
    "quota": _s3(400, "TooManyBuckets", "You have attempted to create more buckets than allowed"),
    "conflict": _s3(
        409,
        "BucketAlreadyExists",
        "The requested bucket name is not available. The bucket namespace is shared by all users "
        "of the system. Please select a different name and try again.",
    ),
    "aborted": _s3(409, "OperationAborted", "A conflicting conditional operation is in progress."),
    "rate_limit": _s3(503, "SlowDown", "Please reduce your request rate."),
    "internal": _s3(500, "InternalError", "We encountered an internal error. Please try again."),
    "unavailable": _s3(503, "ServiceUnavailable", "Service is unable to handle request."),
}


@dataclass
class _Rule:
    fault: Fault
    method: str
    path: re.Pattern[str]
    nth: Container[int] | None
    seen: int = 0

    def strikes(self, request: Request) -> bool:
        if self.method not in ("", request.method) or not self.path.search(request.path):
            return False
        self.seen += 1
        return self.nth is None or self.seen in self.nth


@dataclass
class Way:
    """The way, what goes wrong on it, and what has come along."""

    url: str
    requests: list[Request] = field(default_factory=list)
    mistakes: list[BaseException] = field(default_factory=list)
    _rules: list[_Rule] = field(default_factory=list)
    _turn: Lock = field(default_factory=Lock)

    def strike(
        self, fault: Fault, method: str = "", path: str = "", nth: Container[int] | None = (1,)
    ) -> None:
        """Have this happen to the nth requests of a method and path from now on; None: to all.

        The path is a regular expression, looked for in the address without its query.
        """
        with self._turn:
            self._rules.append(_Rule(fault, method, re.compile(path), nth))

    def heal(self) -> None:
        """Let everything pass from now on."""
        with self._turn:
            self._rules.clear()

    def fault(self, request: Request) -> Fault | None:
        """Note a request, and choose what happens to it."""
        bare = Request(request.method, request.path.partition("?")[0], [], b"")
        with self._turn:
            self.requests.append(request)
            struck = [rule.fault for rule in self._rules if rule.strikes(bare)]
        return struck[0] if struck else None


@contextmanager
def faulty(url: str) -> Iterator[Way]:
    """Serve the way to an address until the block ends."""
    address, ends = urlsplit(url), Event()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def treat(self) -> None:
            request = Request(self.command, self.path, list(self.headers.items()), _body_of(self))
            fault = way.fault(request)
            exchange = Exchange(
                request, self.connection, ends, lambda: _ask(address.netloc, request)
            )
            answer = fault(exchange) if fault else exchange.ask()
            if answer is None:
                self.close_connection = True
                with suppress(OSError):
                    self.connection.shutdown(socket.SHUT_RDWR)
            else:
                self._tell(answer)

        def _tell(self, answer: Answer) -> None:
            self.send_response_only(answer.status)
            for name, value in answer.headers:
                if name.lower() not in _HOP_BY_HOP:
                    self.send_header(name, value)
            if answer.status != 204:
                self.send_header("Content-Length", str(len(answer.body)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(answer.body)

        def log_message(self, *_: object) -> None:
            pass

    for method in ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"):
        setattr(Handler, f"do_{method}", Handler.treat)
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    way = Way(f"http://127.0.0.1:{server.server_address[1]}{address.path}")

    def note(*_: object) -> None:
        error = sys.exception()
        if error is not None and not isinstance(error, OSError):  # a client that has gone
            way.mistakes.append(error)

    server.handle_error = note  # type: ignore[assignment,method-assign]
    thread = Thread(target=server.serve_forever, args=[0.05])
    thread.start()
    try:
        yield way
        for mistake in way.mistakes:
            raise mistake
    finally:
        ends.set()
        server.shutdown()
        thread.join(10)
        server.server_close()


def _body_of(handler: BaseHTTPRequestHandler) -> bytes:
    if handler.headers.get("Transfer-Encoding", "").lower() != "chunked":
        return handler.rfile.read(int(handler.headers.get("Content-Length") or 0))
    body = b""
    while size := int(handler.rfile.readline().partition(b";")[0], 16):
        body += handler.rfile.read(size)
        handler.rfile.readline()
    handler.rfile.readline()
    return body


def _ask(netloc: str, request: Request) -> Answer:
    """Have the stand-in answer, told the same Host."""
    connection = http.client.HTTPConnection(netloc, timeout=_LONGEST_SECONDS)
    try:
        connection.putrequest(
            request.method, request.path, skip_host=True, skip_accept_encoding=True
        )
        for name, value in request.headers:
            if name.lower() not in _HOP_BY_HOP:
                connection.putheader(name, value)
        connection.putheader("Content-Length", str(len(request.body)))
        connection.endheaders(request.body)
        answer = connection.getresponse()
        return Answer(answer.status, answer.getheaders(), answer.read())
    finally:
        connection.close()
