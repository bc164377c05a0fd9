"""Calls over HTTP: a bare function, the same with a hold, and the product's own as deployed."""

import asyncio
import hmac
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from time import time
from uuid import uuid4

import psycopg

from infra.bench import load
from infra.bench.report import Line
from infra.bench.stage import PASSPORTS, Stage, key
from infra.local import children, paths
from infra.local.template import free_port

_NUMBER = 2_000
_ROUNDS = 5
_WARM_UP = 400
_WEBHOOK_SECRET = "whsec_bench"  # noqa: S105  of servers that live for this run

DEPLOYED = paths.ROOT / "functions" / "main.py"

_TOP_UPS = """
with top_ups as (
    select organization_id, billing.uuidv7() as id from billing.wallets order by 1 limit %s
)
insert into billing.top_ups
    (organization_id, id, amount_micros, bonus_micros, checkout_session_id, created_by)
select organization_id, id, 25000000, 0, 'cs_' || id, 'bench' from top_ups
returning organization_id::text, id::text
"""


def measure(stage: Stage) -> list[Line]:
    """Measure each kind of call with eight clients; ratios are to `select 1` in the same run."""
    select_path, hold_path = (
        lambda number, path=path: load.post(path, str(number % PASSPORTS).encode())
        for path in ("/select", "/hold")
    )
    with (
        serve(stage, "bare", paths.ROOT / "infra" / "bench" / "bare.py") as bare_port,
        serve(stage, "sessions") as sessions_port,
        serve(stage, "stripe_webhook") as webhook_port,
    ):
        # In turns: what else the machine does in the meantime slows them all.
        rounds = [
            (
                _rate(bare_port, select_path, expect=200),
                _rate(bare_port, hold_path, expect=200),
                _rate(sessions_port, _start, expect=201),
                _rate(webhook_port, _webhooks(stage).__getitem__, expect=200),
            )
            for _ in range(_ROUNDS)
        ]
    bare, hold, start, webhook = (median(values) for values in zip(*rounds, strict=True))
    hold_ratio, start_ratio, webhook_ratio = (
        median(each[kind] / each[0] for each in rounds) for kind in (1, 2, 3)
    )
    return [
        Line("bare function, select 1", bare, "calls/s"),
        Line("bare function, passport check + hold", hold, "calls/s"),
        Line("  of the bare function", hold_ratio, "×", 0.60),
        Line("POST /v1/sessions as deployed", start, "calls/s"),
        Line("  of the bare function", start_ratio, "×"),
        Line("new paid webhook as deployed", webhook, "calls/s"),
        Line("  of the bare function", webhook_ratio, "×", 0.30),
    ]


def _rate(port: int, request: Callable[[int], bytes], *, expect: int) -> float:
    async def run() -> float:
        await load.requests_per_second(port, request, number=_WARM_UP, expect=expect)
        return await load.requests_per_second(
            port, lambda number: request(_WARM_UP + number), number=_NUMBER, expect=expect
        )

    return asyncio.run(run())


def _start(number: int) -> bytes:
    return load.post(
        "/v1/sessions",
        b'{"tier": "small"}',
        f"Authorization: Bearer {key(number % PASSPORTS)}",
        f"Idempotency-Key: {uuid4()}",
    )


def _webhooks(stage: Stage) -> list[bytes]:
    with psycopg.connect(stage.owner_url, autocommit=True) as connection:
        top_ups = connection.execute(_TOP_UPS, [_WARM_UP + _NUMBER]).fetchall()
    return [_webhook(*top_up) for top_up in top_ups]


def _webhook(organization_id: str, top_up_id: str) -> bytes:
    body = json.dumps(
        {
            "id": f"evt_{top_up_id}",
            "object": "event",
            "type": "checkout.session.completed",
            "livemode": False,
            "data": {
                "object": {
                    "id": f"cs_{top_up_id}",
                    "object": "checkout.session",
                    "client_reference_id": top_up_id,
                    "metadata": {"organization_id": organization_id, "top_up_id": top_up_id},
                    "payment_intent": f"pi_{top_up_id}",
                    "payment_status": "paid",
                    "amount_total": 2500,
                    "currency": "usd",
                }
            },
        }
    ).encode()
    timestamp = int(time())
    signed = f"{timestamp}.".encode() + body
    signature = hmac.new(_WEBHOOK_SECRET.encode(), signed, "sha256").hexdigest()
    return load.post("/v1/stripe/webhook", body, f"Stripe-Signature: t={timestamp},v1={signature}")


@contextmanager
def serve(stage: Stage, function: str, source: Path = DEPLOYED) -> Iterator[int]:
    """Serve a function as Google's runtime does; give its port."""
    port = free_port()
    app = "functions_framework.aio:app"
    # Not this machine's faster event loop: the deployed archive has none.
    options = ["--loop", "asyncio", "--no-access-log"]
    command = [sys.executable, "-m", "uvicorn", app, "--port", str(port), *options]
    process = subprocess.Popen(  # noqa: S603
        command,
        cwd=paths.ROOT,
        env={
            **os.environ,
            "FUNCTION_TARGET": function,
            "FUNCTION_SOURCE": str(source),
            "DATABASE_URL": stage.functions_url,
            "DATABASE_POOL_SIZE": str(load.CLIENTS),
            "SUPABASE_URL": "http://127.0.0.1:9",  # nobody signs in here
            "STRIPE_WEBHOOK_SECRET": _WEBHOOK_SECRET,
            "PYTHONPATH": f"{paths.ROOT}:{paths.ROOT / 'functions'}",
        },
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        preexec_fn=children.die_with_parent(),  # noqa: PLW1509 - no thread has started yet
    )
    try:
        load.wait_until_up(process, port)
        yield port
    finally:
        process.terminate()
        process.wait()
