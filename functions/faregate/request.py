"""What a request's body must be before anybody looks at it: unambiguous JSON, and not too large."""

import json
from collections.abc import Callable, Coroutine
from typing import Any

from fastapi import Request, Response
from fastapi.routing import APIRoute
from pydantic_core import from_json
from starlette.routing import Match
from starlette.types import Scope

from faregate.errors import FaregateError

MAX_BODY_BYTES = 1_048_576


def _parse(body: bytes) -> Any:  # noqa: ANN401  JSON is anything
    try:
        parsed = from_json(body, allow_inf_nan=False)
        json.loads(body, object_pairs_hook=_refuse_repetition)
    except ValueError as error:
        raise FaregateError(
            "invalid_request", {"errors": [{"where": "body", "message": str(error)}]}
        ) from error
    return parsed


def _refuse_repetition(pairs: list[tuple[str, Any]]) -> None:
    # Of two values a gateway may check one and we take the other.
    if len(pairs) != len({name for name, _ in pairs}):
        raise ValueError("a field is named twice")


class StrictRoute(APIRoute):
    """A route whose body is JSON by its content type and by RFC 8259, and not larger than 1 MiB."""

    words: frozenset[str] = frozenset()
    """The paths that other routes spell out: none of them is this one's with a word for an id."""

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
            if self.body_field is not None and (body := await read_body(request)):
                media_type = request.headers.get("content-type", "").partition(";")[0].strip()
                if media_type.lower() != "application/json":
                    raise FaregateError("unsupported_media_type")
                # What request.json() will answer.
                request._json = _parse(body)
            return await handle(request)

        return strict


async def read_body(request: Request) -> bytes:
    """Give a request's body; the request keeps it.

    Raises FaregateError: body_too_large, as soon as it is.
    """
    chunks = bytearray()
    async for chunk in request.stream():
        chunks += chunk
        if len(chunks) > MAX_BODY_BYTES:
            raise FaregateError("body_too_large", {"limit_bytes": MAX_BODY_BYTES})
    request._body = bytes(chunks)
    return request._body
