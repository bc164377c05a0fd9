"""The proof: every balance computed again, of many ledgers and of one that is large."""

from time import perf_counter
from typing import Any, LiteralString

import psycopg

from infra.bench.report import Line
from infra.bench.stage import Stage

Connection = psycopg.Connection[tuple[Any, ...]]

_TRANSFERS = 1_000_000
_LIMIT_SECONDS = 20

# Each of these wallets of one grant pays so many micro-dollars, one by one, out of a hold.
_CAPTURES = """
with wallets as (
    update billing.wallets as w
    set settled_micros = w.settled_micros - %(each)s, last_sequence = w.last_sequence + %(each)s
    where w.organization_id = any(%(organization_ids)s)
    returning w.organization_id, w.settled_micros, w.last_sequence
), grants as (
    update billing.grants as g set remaining_micros = g.remaining_micros - %(each)s
    from wallets as w
    where w.organization_id = g.organization_id
    returning g.organization_id, g.id
), holds as (
    insert into billing.holds
        (organization_id, id, kind, amount_micros, captured_micros, expires_at, is_final)
    select organization_id, billing.uuidv7(), 'usage', %(each)s, %(each)s, now(), true from wallets
    returning organization_id, id
)
insert into billing.transfers (
    organization_id, sequence, debit_account, credit_account, amount_micros, wallet_balance_micros,
    reason, grant_id, hold_id
)
select
    w.organization_id, w.last_sequence - %(each)s + i, 'wallet', 'revenue_usage', 1,
    w.settled_micros + %(each)s - i, 'capture', g.id, h.id
from wallets as w
inner join grants as g on g.organization_id = w.organization_id
inner join holds as h on h.organization_id = w.organization_id
cross join generate_series(1, %(each)s) as i
"""


def measure(stage: Stage) -> list[Line]:
    """Verify a million transfers of all customers, a million of one, and what moved since."""
    with psycopg.connect(stage.owner_url, autocommit=True) as connection:
        customers = [
            row[0]
            for row in connection.execute(
                "select w.organization_id from billing.wallets as w"
                " inner join billing.grants as g on g.organization_id = w.organization_id"
                " where w.settled_micros - w.held_micros > %s"
                " group by w.organization_id having count(*) = 1",
                [2 * _TRANSFERS],
            )
        ]
        _capture(connection, customers)
        many = _seconds(connection, "select count(*) from billing.verify()")
        _capture(connection, customers[:1])
        one = _seconds(connection, "select count(*) from billing.verify(%s)", customers[0])
        parts = _verify_parts(connection, is_full=True)
        _capture(connection, customers[1:2], 1000)
        moved = _verify_parts(connection, is_full=False)
    return [
        Line("verify of 1 million transfers", many, "s", _LIMIT_SECONDS, at_most=True),
        Line("  all of one customer", one, "s", _LIMIT_SECONDS, at_most=True),
        Line("  of 2 million, the longest part that a function does", max(parts), "s", 10, True),
        Line("  where 1,000 of one customer are new", sum(moved), "s"),
    ]


def _capture(connection: Connection, customers: list[Any], each: int = 0) -> None:
    each = each or _TRANSFERS // len(customers)
    connection.execute(_CAPTURES, {"each": each, "organization_ids": customers})
    connection.execute("vacuum analyze")


def _verify_parts(connection: Connection, *, is_full: bool) -> list[float]:
    """Verify part by part, as the functions do; give how long each took."""
    seconds, after = [], None
    while True:
        began = perf_counter()
        row = connection.execute(
            "select organization_ids[cardinality(organization_ids)]"
            " from billing.verify_next(%s, %s)",
            [after, is_full],
        ).fetchone()
        seconds.append(perf_counter() - began)
        if row is None:
            return seconds
        (after,) = row


def _seconds(connection: Connection, query: LiteralString, *values: object) -> float:
    began = perf_counter()
    connection.execute(query, values).fetchone()
    return perf_counter() - began
