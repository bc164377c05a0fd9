"""A bare function, hosted as every function is, over the product's own pool.

It does a `select 1`, or a passport check with a hold.
"""

import json
from typing import Any

import functions_framework.aio
from starlette.requests import Request
from starlette.types import Receive, Scope, Send

from faregate.backends.database import Database
from infra.bench.stage import passport_hash

database = Database()


async def app(scope: Scope, receive: Receive, send: Send) -> None:
    """Answer POST /select and POST /hold, whose body is the number of a passport."""
    number = int((await receive())["body"])
    if scope["path"] == "/hold":
        caller = {"passport_hash": passport_hash(number)}
        answer = await database.call_one("bench_hold", caller=caller, amount_micros=1)
    else:
        await database.check()
        answer = {"ok": True}
    body = json.dumps(answer).encode()
    headers = [
        (b"content-type", b"application/json"),
        (b"content-length", str(len(body)).encode()),
    ]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})


@functions_framework.aio.http
async def bare(_: Request) -> Any:  # noqa: ANN401  the framework's type for answers omits apps
    """Hand over to the app."""
    return app
