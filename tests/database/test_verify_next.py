"""Verifying what has moved only: nothing is looked at twice, and nothing new is missed."""

from collections.abc import Iterator
from typing import Any, LiteralString

import psycopg
import pytest

from infra.local.template import Database
from tests.database.superuser import superuser_url
from tests.money.ledger import DOLLAR, Customer, Ledger, open_ledger

_MANY = 10_000


@pytest.fixture
def ledger(database: Database) -> Iterator[Ledger]:
    with open_ledger(database) as ledger:
        yield ledger


def _spend(ledger: Ledger, customer: Customer, times: int) -> None:
    """Make so many transfers of a micro-dollar each."""
    ledger.run(
        "select billing.debit_wallets(array_agg("
        "row(%s::uuid, 1, 0, 'expired', 'expiry', null)::billing.debit), billing.now())"
        " from generate_series(1, %s)",
        customer.id,
        times,
    )


def _parts(ledger: Ledger, *, is_full: bool = False) -> list[tuple[Any, ...]]:
    """Verify part by part; give of each its organizations, transfers and broken rules."""
    parts: list[tuple[Any, ...]] = []
    after = None
    while True:
        found = ledger.fetch(
            "select organization_ids::text[], transfers::int,"
            " array(select d.rule from unnest(differences) as d)"
            " from billing.verify_next(%s, %s)",
            after,
            is_full,
        )
        if not found:
            return parts
        parts += found
        after = found[0][0][-1]


def test_only_what_has_moved_is_looked_at(ledger: Ledger) -> None:
    customers = [ledger.register() for _ in range(3)]
    ids = [customer.id for customer in customers]
    assert _parts(ledger) == [(ids, 3, [])]
    assert _parts(ledger) == []
    ledger.credit(customers[1], 10 * DOLLAR)
    assert _parts(ledger) == [([ids[1]], 2, [])]
    ledger.open_hold(customers[2], DOLLAR)  # by a new operator
    assert [part[0][0] for part in _parts(ledger)] == [ids[2]]
    assert _parts(ledger) == []
    ((everybody, transfers, differences),) = _parts(ledger, is_full=True)
    assert (everybody[:3], transfers, differences) == (ids, 4, [])


def test_what_disagrees_gets_no_checkpoint(ledger: Ledger) -> None:
    customer = ledger.register()
    ledger.run("update billing.wallets set debt_micros = 1")
    for _ in range(2):
        assert _parts(ledger) == [([customer.id], 1, ["wallet debt = its transfers"])]
    ledger.run("update billing.wallets set debt_micros = 0")
    assert _parts(ledger) == [([customer.id], 1, [])]
    assert _parts(ledger) == []


def test_a_large_ledger_goes_on_from_its_checkpoint(ledger: Ledger) -> None:
    small, large = ledger.register(), ledger.register()
    ledger.credit(large, 10 * DOLLAR)
    _spend(ledger, large, _MANY)
    assert _parts(ledger) == [([small.id, large.id], 1 + 2 + _MANY, [])]
    _spend(ledger, small, 2)
    _spend(ledger, large, 3)
    ledger.credit(large, 10 * DOLLAR)
    # Each on its own: from one's first transfer, and from where the other was.
    assert _parts(ledger) == [([small.id], 3, []), ([large.id], 4, [])]
    assert _parts(ledger) == []
    assert sum(part[1] for part in _parts(ledger, is_full=True)) == 3 + 2 + _MANY + 4
    assert ledger.differences() == []


_BREAKS: dict[str, tuple[LiteralString, set[str]]] = {
    "more in a wallet": (
        "update billing.wallets set settled_micros = settled_micros + 1",
        {"wallet settled = its transfers", "wallet settled = what its grants have left"},
    ),
    "a debt forgotten": (
        "update billing.wallets set debt_micros = debt_micros + 1",
        {"wallet debt = its transfers"},
    ),
    "more held": (
        "update billing.wallets set held_micros = held_micros + 1",
        {"wallet held = its open holds"},
    ),
    "a gap": (
        "update billing.transfers set sequence = sequence + 7 where sequence > 10002",
        {"sequence has no gap"},
    ),
    "another balance": (
        "update billing.transfers set wallet_balance_micros = 1 where sequence > 10002",
        {"balance after = running sum"},
    ),
    "a draw-down of nothing": (
        "insert into billing.draw_downs select organization_id, 20000, id, 1 from billing.grants",
        {"draw-down belongs to a debit"},
    ),
    "a payment that lost its fee": (
        "update billing.payments set fee_micros = 1",
        {"money at the provider = payments − returned − fees"},
    ),
    "money moved from a grant": (
        "update billing.grants set remaining_micros = remaining_micros - 1 where category = 'paid'",
        {"wallet settled = what its grants have left"},
    ),
}


@pytest.fixture(scope="module")
def large(unchanged: Database) -> Iterator[psycopg.Connection[tuple[Any, ...]]]:
    """Give a large ledger with three transfers since its checkpoint."""
    with open_ledger(unchanged) as ledger:
        customer = ledger.register()
        ledger.credit(customer, 10 * DOLLAR)
        _spend(ledger, customer, _MANY)
        assert _parts(ledger) == [([customer.id], 2 + _MANY, [])]
        _spend(ledger, customer, 3)
    with psycopg.connect(superuser_url(unchanged)) as superuser:
        yield superuser


@pytest.mark.parametrize("name", _BREAKS)
def test_what_broke_in_a_large_ledger_is_found_from_its_checkpoint_on(
    large: psycopg.Connection[tuple[Any, ...]], name: str
) -> None:
    statement, expected = _BREAKS[name]
    try:
        large.execute("set local session_replication_role = replica")
        assert large.execute(statement).rowcount > 0
        ((transfers, rules),) = large.execute(
            "select transfers, array(select d.rule from unnest(differences) as d)"
            " from billing.verify_next(null, false)"
        )
    finally:
        large.rollback()
    assert (transfers, set(rules)) == (3, expected)
