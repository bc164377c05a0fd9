"""Usage: 1,000 events in a call, of one wallet and of a thousand; then over HTTP, for a minute.

Each call is compared with a bare multi-row insert of the very rows that it recorded, into a table
of its own that has the same columns and key and grows as well; in the same turn, on the same
connection.
"""

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from random import Random
from statistics import median
from time import perf_counter
from typing import Any

import psycopg
from psycopg import sql
from psycopg.types.json import Jsonb

from infra.bench.report import Line
from infra.bench.stage import PASSPORTS, Stage, passport_hash

_EVENTS = 1_000
_MODELS = 40
_ROUNDS = 15

_SETUP = """
create schema bench_usage;
create table bench_usage.events (
    like billing.usage_events, primary key (organization_id, id)
);
insert into billing.providers (id) values ('acme');
insert into billing.provider_models (provider_id, id, position, names)
select 'acme', 'model-' || i, i, array['model-' || i] from generate_series(1, 40) as i;
select billing.add_provider_price(
    'acme', 'model-' || i, '2000-01-01', 'bench',
    '{"-1": {"input_tokens": "0.0000025", "cache_read_tokens": "0.00000025",
        "output_tokens": "0.00001"}}'
)
from generate_series(1, 40) as i;
update billing.passports set permissions = array['read', 'write', 'billing', 'admin']
where key_hash = sha256(('fg_live_' || lpad('999', 43, '0'))::bytea);
analyze billing.passports;
"""

_CALL = b"select to_jsonb(r) from api.ingest_usage(%s, %s, false) as r"
_NEWEST = b"select * from billing.usage_events order by id desc limit 1000"


def measure(stage: Stage) -> list[Line]:
    """Meter over a thousand wallets, then over one."""
    with psycopg.connect(stage.owner_url, autocommit=True, prepare_threshold=None) as connection:
        connection.execute(_SETUP)
        ids = [
            str(row[0])
            for row in connection.execute(
                "select organization_id from billing.wallets order by 1 limit 1000 offset 5000"
            )
        ]
        # Nobody's money ends on the way.
        connection.execute(
            "select billing.credit_wallet("
            "%s, 1000000000000, 'promotional', 'promotion', 'promotion', null)",
            ids[:1],
        )
        many, one = _compare(connection, ids), _compare(connection, ids[:1])
    return [*_lines("1,000 wallets", *many, 0.30), *_lines("one wallet", *one, 0.45)]


def _lines(wallets: str, insert: float, call: float, ratio: float, limit: float) -> list[Line]:
    return [
        Line(f"bare insert of 1,000 events of {wallets}", insert * 1000, "ms"),
        Line(f"usage call with 1,000 events of {wallets}", call * 1000, "ms"),
        Line("  of the bare insert", ratio, "×", limit),
    ]


def _compare(
    connection: psycopg.Connection[Any], organization_ids: list[str]
) -> tuple[float, float, float]:
    """Give both times and how much of the bare insert's rate the call reaches."""
    batches = _batches(organization_ids)
    caller = json.dumps({"passport_hash": passport_hash(PASSPORTS - 1)})
    rounds: list[tuple[float, float]] = []
    for _ in range(_ROUNDS):
        batch = next(batches)
        began = perf_counter()
        (answer,) = connection.execute(_CALL, [caller, batch]).fetchone() or (None,)
        call = perf_counter() - began
        assert answer and answer["accepted"] == _EVENTS, answer  # noqa: S101  or something else was measured
        insert = _insert(connection)
        began = perf_counter()
        connection.execute(insert)
        rounds.append((perf_counter() - began, call))
    # The first makes the plans.
    inserts, calls = zip(*rounds[1:], strict=True)
    return (
        median(inserts),
        median(calls),
        median(insert / call for insert, call in rounds[1:]),
    )


def _batches(organization_ids: list[str]) -> Iterator[str]:
    random = Random(len(organization_ids))  # noqa: S311  a run can be repeated
    while True:
        at = datetime.now(UTC)
        yield json.dumps(
            {
                "events": [
                    {
                        "index": index,
                        "organization_id": organization_ids[index % len(organization_ids)],
                        "source": "gateway-eu",
                        "event_id": f"{random.getrandbits(128):032x}",
                        "feature": "chat",
                        "quantities": {
                            "input_tokens": 1000 + index,
                            "cache_read_tokens": index,
                            "output_tokens": 200 + index % 7,
                        },
                        "occurred_at": at.isoformat(),
                        "provider_id": "acme",
                        "model": f"model-{1 + random.randrange(_MODELS)}",
                    }
                    for index in range(_EVENTS)
                ]
            }
        )


def _insert(connection: psycopg.Connection[Any]) -> bytes:
    """Write the rows that are newest as one statement."""
    with psycopg.ClientCursor(connection) as cursor:
        rows = cursor.execute(_NEWEST).fetchall()
        one = sql.SQL("({})").format(sql.SQL(", ").join(sql.Placeholder() * len(rows[0])))
        values = [
            cursor.mogrify(one, [Jsonb(v) if isinstance(v, dict) else v for v in row])
            for row in reversed(rows)
        ]
    return b"insert into bench_usage.events values " + ", ".join(values).encode()
