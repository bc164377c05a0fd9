"""A server in PostgREST's place that answers what PostgREST never would, or not at all."""

import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from threading import Thread

import httpx

Behaviour = Callable[[socket.socket, bytes], None]
"""Does something with a connection and the request that was read from it."""


class Misbehaving:
    """Treats each request by the next of its behaviours; the last one stays."""

    def __init__(self, listener: socket.socket) -> None:
        self._listener = listener
        self.url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        self.behaviours: list[Behaviour] = []
        self.requests: list[bytes] = []
        self.connections = 0

    def serve(self) -> None:
        """Take connections until the listener is closed."""
        with suppress(OSError):
            while True:
                connection, _ = self._listener.accept()
                self.connections += 1
                Thread(target=self._treat, args=[connection], daemon=True).start()

    def _treat(self, connection: socket.socket) -> None:
        with connection, suppress(OSError):
            while request := _read(connection):
                self.requests.append(request)
                last = len(self.behaviours) == 1
                behaviour = self.behaviours[0] if last else self.behaviours.pop(0)
                behaviour(connection, request)


@contextmanager
def misbehave() -> Iterator[Misbehaving]:
    """Serve until the block ends."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        server = Misbehaving(listener)
        thread = Thread(target=server.serve)
        thread.start()
        try:
            yield server
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join(10)


def _read(connection: socket.socket) -> bytes:
    """Read one request with its body; nothing when the client has gone or speaks no HTTP."""
    request = b""
    while b"\r\n\r\n" not in request:
        chunk = connection.recv(65536)
        if not chunk or chunk.startswith(b"\x16"):  # TLS begins so
            return b""
        request += chunk
    head, _, body = request.partition(b"\r\n\r\n")
    lengths = [line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")]
    length = int(lengths[0].split(b":")[1]) if lengths else 0
    while len(body) < length:
        body += connection.recv(65536)
    return head + b"\r\n\r\n" + body


def say(status: str, kind: str, body: bytes, *headers: str) -> Behaviour:
    """Answer in whole HTTP."""
    lines = [
        f"HTTP/1.1 {status}",
        *([f"Content-Type: {kind}"] if kind else []),
        f"Content-Length: {len(body)}",
        *headers,
    ]
    answer = "\r\n".join([*lines, "", ""]).encode() + body
    return lambda connection, _: connection.sendall(answer)


def hang_up(connection: socket.socket, _: bytes) -> None:
    """End the connection without a word."""
    connection.shutdown(socket.SHUT_RDWR)


def pass_on(url: str) -> Behaviour:
    """Have the real one answer."""
    return lambda connection, request: connection.sendall(_ask(url, request))


def lose_answer(url: str) -> Behaviour:
    """Have the real one do it, and end the connection instead of telling."""

    def behaviour(connection: socket.socket, request: bytes) -> None:
        assert _ask(url, request).startswith(b"HTTP/1.1 2")
        hang_up(connection, request)

    return behaviour


def _ask(url: str, request: bytes) -> bytes:
    head, _, body = request.partition(b"\r\n\r\n")
    first, *lines = head.decode().split("\r\n")
    method, path, _ = first.split(" ")
    headers = dict(line.split(": ", 1) for line in lines)
    for name in ("Host", "Content-Length", "Connection", "Accept-Encoding"):
        headers.pop(name, None)
    with httpx.Client(trust_env=False) as http:
        answer = http.request(method, url + path, headers=headers, content=body)
    told = [
        f"{name}: {value}"
        for name, value in answer.headers.items()
        if name not in {"content-length", "content-encoding", "transfer-encoding", "connection"}
    ]
    lines = [
        f"HTTP/1.1 {answer.status_code} {answer.reason_phrase}",
        *told,
        f"Content-Length: {len(answer.content)}",
    ]
    return "\r\n".join([*lines, "", ""]).encode() + answer.content
