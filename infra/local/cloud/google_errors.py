"""How Google's APIs read what they are asked, and refuse."""

import json

from fastapi import Request
from fastapi.responses import JSONResponse

from infra.local.cloud.store import Document

_STATUSES = {
    "INVALID_ARGUMENT": 400,
    "FAILED_PRECONDITION": 400,
    "PERMISSION_DENIED": 403,
    "NOT_FOUND": 404,
    "ABORTED": 409,
    "ALREADY_EXISTS": 409,
    "RESOURCE_EXHAUSTED": 429,
}


class GoogleError(Exception):
    """A refusal, worded as one of Google's APIs words it."""

    def __init__(self, status: int, body: Document) -> None:
        self.status, self.body = status, {"error": body}

    def response(self) -> JSONResponse:
        """Give it as the answer."""
        return JSONResponse(self.body, self.status)


async def refuse(_: object, error: Exception) -> JSONResponse:
    """Answer with a refusal (an exception handler of the app)."""
    if not isinstance(error, GoogleError):
        raise error
    return error.response()


def refusal(status: str, message: str) -> GoogleError:
    """Word a refusal as most of Google's APIs do."""
    code = _STATUSES[status]
    return GoogleError(code, {"code": code, "message": message, "status": status})


def storage_refusal(code: int, reason: str, message: str) -> GoogleError:
    """Word a refusal as Cloud Storage's JSON API does."""
    errors = [{"message": message, "domain": "global", "reason": reason}]
    return GoogleError(code, {"code": code, "message": message, "errors": errors})


async def body_of(request: Request) -> Document:
    """Read a JSON body; none is an empty one."""
    try:
        body = json.loads(await request.body() or b"{}")
    except ValueError as error:
        raise refusal("INVALID_ARGUMENT", "Invalid JSON payload received.") from error
    if not isinstance(body, dict):
        raise refusal("INVALID_ARGUMENT", "Invalid JSON payload received.")
    return body
