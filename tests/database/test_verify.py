"""The proof proves something: break the books anywhere, and verify says which rule it is."""

import re
from collections.abc import Iterator
from typing import LiteralString

import psycopg
import pytest

from infra.local import paths
from infra.local.template import Database
from tests.database.superuser import superuser_url
from tests.money.ledger import DOLLAR, open_ledger

_Break = tuple[LiteralString, set[str]]

_CLOSED = "(select id from billing.sessions where ended_at is not null)"
_CHARGED = "(select hold_id from billing.transfers where hold_id is not null)"

# What is changed behind everybody's back, and every rule that this breaks.
_BREAKS: dict[str, _Break] = {
    "more in a wallet": (
        "update billing.wallets set settled_micros = settled_micros + 1",
        {"wallet settled = its transfers", "wallet settled = what its grants have left"},
    ),
    "a transfer forgotten": (
        "update billing.wallets set last_sequence = last_sequence - 1",
        {"wallet sequence = number of transfers"},
    ),
    "a bigger grant": (
        "update billing.grants set amount_micros = amount_micros + 1,"
        " remaining_micros = remaining_micros + 1"
        " where category = 'promotional'",
        {
            "wallet settled = what its grants have left",
            "grant = the transfer that brought it",
            "grant remaining = credits − draw-downs",
        },
    ),
    "more held": (
        "update billing.wallets set held_micros = held_micros + 1",
        {"wallet held = its open holds"},
    ),
    "a wallet lost": (
        "delete from billing.wallets",
        {"every ledger has a wallet", "grant has a wallet"},
    ),
    "an expiry forgotten": (
        "update billing.grants set expires_at = billing.now() + interval '1 day'"
        " where remaining_micros > 0",
        {"wallet knows when its grants expire"},
    ),
    "a debt forgotten": (
        "update billing.wallets set debt_micros = debt_micros + 1",
        {"wallet debt = its transfers"},
    ),
    "a gap": (
        "update billing.transfers set sequence = 100"
        " where sequence = (select max(sequence) from billing.transfers)",
        {"sequence has no gap"},
    ),
    "another balance": (
        "update billing.transfers set wallet_balance_micros = wallet_balance_micros + 1"
        " where sequence = 1",
        {"balance after = running sum"},
    ),
    "money moved between grants": (
        "update billing.grants set"
        " remaining_micros = remaining_micros + case category when 'paid' then -2 else 1 end",
        {"grant remaining = credits − draw-downs"},
    ),
    "a bigger draw-down": (
        "update billing.draw_downs set amount_micros = amount_micros + 1",
        {"grant remaining = credits − draw-downs", "debit = its draw-downs"},
    ),
    "a draw-down of nothing": (
        "insert into billing.draw_downs select organization_id, 100, id, 1 from billing.grants",
        {"grant remaining = credits − draw-downs", "draw-down belongs to a debit"},
    ),
    "a credit of no grant": (
        "update billing.transfers set grant_id = gen_random_uuid() where sequence = 1",
        {
            "grant = the transfer that brought it",
            "grant remaining = credits − draw-downs",
            "credit has a grant",
        },
    ),
    "a grant that was brought twice": (
        "update billing.transfers as t set reason = 'promotion', grant_id = g.id"
        " from billing.grants as g"
        " where t.reason = 'top_up' and g.sequence = 1"
        " and g.organization_id = t.organization_id",
        {
            "grant is brought once",
            "grant = the transfer that brought it",
            "grant remaining = credits − draw-downs",
            "payment = its paid grant",
        },
    ),
    "another payment": (
        "update billing.payments set amount_micros = amount_micros + 1",
        {"payment = its paid grant", "money at the provider = payments − returned − fees"},
    ),
    "a refund that was not followed": (
        "update billing.payments set refunded_micros = 1",
        {
            "money at the provider = payments − returned − fees",
            "payment returned = its refunds and disputes",
        },
    ),
    "a payment lost": (
        "delete from billing.payments",
        {"paid grant has a payment", "paid top-up = its payment"},
    ),
    "a top-up that nobody paid": (
        "update billing.top_ups set status = 'paid', paid_at = now() where status = 'pending'",
        {"paid top-up = its payment"},
    ),
    "more captured while it runs": (
        "update billing.holds set amount_micros = amount_micros + 1,"
        " captured_micros = captured_micros + 1 where due_at is not null",
        {"hold captured = its transfers"},
    ),
    "more captured at the end": (
        "update billing.holds set amount_micros = amount_micros + 1,"
        " captured_micros = captured_micros + 1 where due_at is null",
        {"hold captured = its transfers", "closed session charged = exact duration × price"},
    ),
    "a charged session lost": (
        f"delete from billing.sessions where id in {_CLOSED}",
        {"hold has a session"},
    ),
    "a capture of no hold": (
        "update billing.transfers set hold_id = gen_random_uuid() where hold_id is not null",
        {"capture has its hold", "hold captured = its transfers"},
    ),
    "a session that was longer": (
        "update billing.sessions set ended_at = ended_at + interval '1 minute'",
        {"closed session charged = exact duration × price"},
    ),
    "a hold that was forgotten": (
        "update billing.holds set due_at = now() where due_at is null",
        {"hold is open while its session runs"},
    ),
    "a hold of no session": (
        f"delete from billing.sessions where id not in {_CHARGED}",
        {"hold has a session"},
    ),
}


@pytest.fixture(scope="module")
def books(unchanged: Database) -> Iterator[psycopg.Connection[tuple[str, ...]]]:
    """Books in good order, and somebody who may do anything to them."""
    with open_ledger(unchanged) as ledger:
        ledger.set_price("free", "small", 6 * DOLLAR)
        ledger.set_price("pro", "small", 6 * DOLLAR)
        customer = ledger.register()
        ledger.credit(customer, 100 * DOLLAR)
        ledger.ask_top_up(customer, 10 * DOLLAR)
        first = ledger.start(customer)["session"]["id"]
        ledger.advance(6600)  # more than both bonuses, so that several grants pay
        ledger.stop(customer, first)
        ledger.start(customer, heartbeat_timeout_seconds=10_000)
        ledger.advance(400)
        assert ledger.sweep()["swept"] == 1
        ledger.start(customer)
        assert ledger.differences() == []
    with psycopg.connect(superuser_url(unchanged)) as superuser:
        yield superuser


@pytest.mark.parametrize("name", _BREAKS)
def test_verify_finds(books: psycopg.Connection[tuple[str, ...]], name: str) -> None:
    statement, expected = _BREAKS[name]
    try:
        books.execute("set local session_replication_role = replica")
        assert books.execute(statement).rowcount > 0
        found = books.execute("select rule from billing.verify()").fetchall()
        assert {rule for (rule,) in found} == expected
        of_all = books.execute(
            "select v.rule from billing.organizations as o"
            " cross join lateral billing.verify(o.id) as v"
        )
        assert sorted(of_all) == sorted(found)
        in_parts = books.execute(
            "select d.rule from billing.verify_next(null, true) as n"
            " cross join lateral unnest(n.differences) as d"
        )
        assert sorted(in_parts) == sorted(found)
    finally:
        books.rollback()


def test_every_rule_was_broken() -> None:
    (source,) = (paths.SUPABASE / "migrations").glob("*_verify.sql")
    rules = set(re.findall(r"organization_id, '([^']+)',", source.read_text()))
    assert rules == set().union(*(expected for _, expected in _BREAKS.values()))
