"""What a request's body must be before anybody looks at it: unambiguous JSON, and not too large."""

import json
import zlib
from collections.abc import Callable, Coroutine
from decimal import Decimal
from typing import Any

from fastapi import Request, Response
from fastapi.routing import APIRoute
from pydantic_core import from_json
from starlette.routing import Match
from starlette.types import Scope

from faregate.errors import FaregateError

MAX_BODY_BYTES = 1_048_576


def _parse(body: bytes, fraction: type[float | Decimal]) -> Any:  # noqa: ANN401  JSON is anything
    try:
        from_json(body, allow_inf_nan=False)
        parsed = json.loads(body, object_pairs_hook=_refuse_repetition, parse_float=fraction)
    except (ValueError, ArithmeticError) as error:
        raise FaregateError(
            "invalid_request", {"errors": [{"where": "body", "message": str(error)}]}
        ) from error
    return parsed


def _refuse_repetition(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    # Of two values a gateway may check one and we take the other.
    fields = dict(pairs)
    if len(pairs) != len(fields):
        raise ValueError("a field is named twice")
    return fields


class StrictRoute(APIRoute):
    """A route whose body is JSON by its content type and by RFC 8259, and not larger than 1 MiB.

    One that takes more or other bodies says so in a class of its own.
    """

    words: frozenset[str] = frozenset()
    """The paths that other routes spell out: none of them is this one's with a word for an id."""
    media_types: tuple[str, ...] = ("application/json",)
    max_body_bytes = MAX_BODY_BYTES
    content_codings: tuple[str, ...] = ("identity",)
    fraction: type[float | Decimal] = float
    """What a number with a fraction becomes."""

    @staticmethod
    def read(media_type: str, document: Any) -> Any:  # noqa: ANN401  JSON is anything
        """Give the document that the handler's contract is for."""
        return document

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        """Tell whether a request is for this route."""
        if self.param_convertors and scope["path"] in self.words:
            return Match.NONE, {}
        return super().matches(scope)

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Wrap FastAPI's handler."""
        handle = super().get_route_handler()

        async def strict(request: Request) -> Response:
            # Without a body the defaults count, where there are any.
            limit = self.max_body_bytes
            if self.body_field is not None and (body := await read_body(request, limit)):
                media_type = _media_type(request)
                if media_type not in self.media_types:
                    raise _unsupported("Content-Type", self.media_types)
                codings = _content_codings(request)
                if codings == ["gzip"] and "gzip" in self.content_codings:
                    body = _unzip(body, limit)
                elif codings:
                    raise _unsupported("Content-Encoding", self.content_codings)
                # What request.json() will answer.
                request._json = self.read(media_type, _parse(body, self.fraction))
            return await handle(request)

        return strict


class ExactRoute(StrictRoute):
    """A route that looks at each digit of a quantity."""

    fraction = Decimal


class EventsRoute(ExactRoute):
    """A route that takes up to 5 MiB, zipped or not."""

    max_body_bytes = 5 * 2**20
    content_codings = ("gzip", "identity")


def _media_type(request: Request) -> str:
    return request.headers.get("content-type", "").partition(";")[0].strip().lower()


def _content_codings(request: Request) -> list[str]:
    """Tell how a body is encoded, one over the other; no case counts, and identity is nothing."""
    listed = ",".join(request.headers.getlist("content-encoding")).lower().split(",")
    return [coding for each in listed if (coding := each.strip()) not in ("", "identity")]


def _unsupported(header: str, supported: tuple[str, ...]) -> FaregateError:
    message = f"must be {' or '.join(supported)}"
    headers = [("Accept-Encoding", ", ".join(supported))] if header == "Content-Encoding" else []
    errors = [{"where": f"header.{header}", "message": message}]
    return FaregateError("unsupported_media_type", {"errors": errors}, headers)


def _unzip(body: bytes, limit: int) -> bytes:
    # Never more than the limit and a byte is unpacked, whatever the body claims.
    stream = zlib.decompressobj(wbits=31)
    try:
        unpacked = stream.decompress(body, limit + 1)
    except zlib.error as error:
        raise FaregateError(
            "invalid_request", {"errors": [{"where": "body", "message": "not gzip"}]}
        ) from error
    if len(unpacked) > limit:
        raise FaregateError("body_too_large", {"limit_bytes": limit})
    if not stream.eof or stream.unused_data:
        raise FaregateError(
            "invalid_request", {"errors": [{"where": "body", "message": "not one whole gzip file"}]}
        )
    return unpacked


async def read_body(request: Request, limit: int = MAX_BODY_BYTES) -> bytes:
    """Give a request's body; the request keeps it.

    Raises FaregateError: body_too_large, as soon as it is.
    """
    chunks = bytearray()
    async for chunk in request.stream():
        chunks += chunk
        if len(chunks) > limit:
            raise FaregateError("body_too_large", {"limit_bytes": limit})
    request._body = bytes(chunks)
    return request._body
