"""Two bare ASGI functions over the product's own pool: `select 1`, and passport check with hold."""

import json

from starlette.types import Receive, Scope, Send

from faregate.backends.database import Database
from infra.bench.stage import passport_hash

database = Database()


async def app(scope: Scope, receive: Receive, send: Send) -> None:
    """Answer POST /select and POST /hold, whose body is the number of a passport."""
    if scope["type"] != "http":
        return
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
