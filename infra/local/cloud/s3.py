"""An S3 endpoint: moto, which forgets everything when it ends, and what makes it remember."""

import base64
import json
import select
import socket
from collections.abc import Callable, Iterable
from io import BytesIO
from pathlib import Path
from threading import Lock, Thread
from typing import Any
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

_CHANGES = {"PUT", "POST", "DELETE"}
_NO_PAGE = (
    b"<Error><Code>InvalidArgument</Code>"
    b"<Message>The continuation token provided is incorrect</Message></Error>"
)


class S3:
    """Listens from the start, and loads moto, which takes a second, when somebody calls.

    At that moment it repeats what its journal says was done there before.
    """

    def __init__(self, port: int, journal: Path) -> None:
        self._port, self._journal = port, journal
        self._stop: Callable[[], None] | None = None

    def start(self) -> None:
        """Begin to listen."""
        listener = socket.create_server(("127.0.0.1", self._port))
        told, waits = socket.socketpair()
        thread = Thread(target=self._serve, args=[listener, waits], name="s3", daemon=True)
        thread.start()

        def stop() -> None:
            told.close()
            thread.join(10)

        self._stop = stop

    def stop(self) -> None:
        """End."""
        if self._stop is not None:
            self._stop()

    def _serve(self, listener: socket.socket, ends: socket.socket) -> None:
        with listener, ends:
            ready, _, _ = select.select([listener, ends], [], [])
            if ends in ready:
                return
            from moto.moto_server.werkzeug_app import (  # noqa: PLC0415  it is large, and most runs need none
                DomainDispatcherApplication,
                MotoRequestHandler,
                create_backend_app,
            )
            from werkzeug.serving import make_server  # noqa: PLC0415

            app = Journal(DomainDispatcherApplication(create_backend_app), self._journal)
            server = make_server(
                *("127.0.0.1", self._port, app, True),
                request_handler=MotoRequestHandler,
                fd=listener.fileno(),
            )
            serving = Thread(target=server.serve_forever, name="moto", daemon=True)
            serving.start()
            select.select([ends], [], [])
            server.shutdown()
            server.server_close()


class Journal:
    """Writes down each request that changes something, and does it again the next time.

    Requests are few and small on a laptop. An upload in parts would get another number: it is not
    remembered.
    """

    def __init__(self, app: WSGIApplication, file: Path) -> None:
        self._app, self._file, self._turn = app, file, Lock()
        self._repeat()

    def __call__(self, environ: WSGIEnvironment, respond: StartResponse) -> Iterable[bytes]:
        """Pass a request on, and write it down."""
        if environ["REQUEST_METHOD"] not in _CHANGES:
            return self._read(environ, respond)
        body = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
        environ["wsgi.input"] = BytesIO(body)
        kept = {key: value for key, value in environ.items() if isinstance(value, str)}
        line = json.dumps({"environ": kept, "body": base64.b64encode(body).decode()})
        with self._turn:
            answer = list(self._app(environ, respond))
            with self._file.open("a") as file:
                file.write(f"{line}\n")
        return answer

    def _read(self, environ: WSGIEnvironment, respond: StartResponse) -> Iterable[bytes]:
        if "continuation-token=" not in environ.get("QUERY_STRING", ""):
            return self._app(environ, respond)
        try:
            return list(self._app(environ, respond))
        except TypeError:
            # What S3 says of a page that nobody was told of, where moto breaks.
            respond("400 Bad Request", [("Content-Type", "application/xml")])
            return [_NO_PAGE]

    def _repeat(self) -> None:
        if not self._file.exists():
            self._file.parent.mkdir(parents=True, exist_ok=True)
            return
        with self._file.open() as lines:
            for line in lines:
                entry = json.loads(line)
                environ: dict[str, Any] = {
                    **entry["environ"],
                    "wsgi.input": BytesIO(base64.b64decode(entry["body"])),
                    "wsgi.errors": BytesIO(),
                    "wsgi.version": (1, 0),
                    "wsgi.multithread": True,
                    "wsgi.multiprocess": False,
                    "wsgi.run_once": False,
                }
                list(self._app(environ, _ignore))


def _ignore(*_: Any) -> Callable[[bytes], object]:  # noqa: ANN401
    return lambda _: None
