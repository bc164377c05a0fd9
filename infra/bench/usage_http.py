"""Usage over HTTP: batches of 1,000 events of 100 customers, for a minute, as gateways send them.

Function, database and sender share this machine.
"""

import asyncio
import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from itertools import count, takewhile
from math import ceil
from random import Random
from time import perf_counter

import psycopg

from infra.bench import load
from infra.bench.http import serve
from infra.bench.report import Line
from infra.bench.stage import PASSPORTS, Stage, key

_EVENTS = 1_000
_WALLETS = 10_000
_CUSTOMERS = 100  # of a batch
_TEMPLATES = 20
_INSTANCES = 2
_SENDERS = 2  # to each instance
_SECONDS = 60
_WARM_UP = 20
_NUMBER = "#batch#"


def measure(stage: Stage) -> list[Line]:
    """Send for a minute, after infra.bench.usage has made models and an operator."""
    with psycopg.connect(stage.owner_url, autocommit=True) as connection:
        ids = [
            str(row[0])
            for row in connection.execute(
                "select organization_id from billing.wallets order by 1 limit %s", [_WALLETS]
            )
        ]
    request = _requests(ids)
    with ExitStack() as servers:
        ports = [servers.enter_context(serve(stage, "usage")) for _ in range(_INSTANCES)]
        asyncio.run(_send(ports, request, iter(range(_WARM_UP))))
        numbers = count(_WARM_UP)
        began = perf_counter()
        took = asyncio.run(
            _send(
                ports,
                request,
                takewhile(lambda _: perf_counter() - began < _SECONDS, numbers),
            )
        )
        seconds = perf_counter() - began
    return [
        Line("usage over HTTP, for a minute", len(took) * _EVENTS / seconds, "events/s", 15_000),
        Line("  a batch of 1,000, p99", _p99(took) * 1000, "ms", 400, at_most=True),
    ]


async def _send(
    ports: list[int], request: Callable[[int], bytes], numbers: Iterator[int]
) -> list[float]:
    """Send all, some at a time to each port; give the seconds that each took."""
    sent = await asyncio.gather(
        *(load.send(port, request, numbers, expect=200) for port in ports * _SENDERS)
    )
    return [each for took in sent for each in took]


def _requests(organization_ids: list[str]) -> Callable[[int], bytes]:
    """Make requests; all are ready but for the ids of their events."""
    random = Random(1)  # noqa: S311  a run can be repeated
    bodies = [
        _body(random.sample(organization_ids, _CUSTOMERS) * (_EVENTS // _CUSTOMERS), random)
        for _ in range(_TEMPLATES)
    ]

    def request(number: int) -> bytes:
        body = bodies[number % _TEMPLATES].replace(_NUMBER.encode(), str(number).encode())
        return load.post("/v1/usage/events", body, f"Authorization: Bearer {key(PASSPORTS - 1)}")

    return request


def _body(organization_ids: list[str], random: Random) -> bytes:
    return json.dumps(
        {
            "events": [
                {
                    "organization_id": organization_id,
                    "source": "gateway-eu",
                    "id": f"http-{_NUMBER}-{index}",
                    "feature": "chat",
                    "provider": "acme",
                    "model": f"model-{random.randint(1, 40)}",
                    "quantities": {
                        "input_tokens": 1000 + index,
                        "cache_read_tokens": index,
                        "output_tokens": 200 + index % 7,
                    },
                }
                for index, organization_id in enumerate(organization_ids)
            ]
        }
    ).encode()


def _p99(took: list[float]) -> float:
    return sorted(took)[ceil(len(took) * 0.99) - 1]
