"""The proof proves something: break the books anywhere, and verify says which rule it is."""

import re
from collections.abc import Iterator
from typing import LiteralString

import psycopg
import pytest

from infra.local import paths
from infra.local.template import Database
from tests.database.superuser import superuser_url
from tests.money.ledger import DOLLAR, Ledger, new_key, open_ledger
from tests.money.meter import Meter, event
from tests.money.storage import Storage
from tests.money.test_limits import cap
from tests.money.test_usage_corrections import correction

_Break = tuple[LiteralString, set[str]]

_CLOSED = "(select id from billing.sessions where ended_at is not null)"
_CHARGED = "(select hold_id from billing.transfers where hold_id is not null)"
_OF_STATUS = "from billing.storage as s where s.id = p.storage_id and s.status"

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
        "update billing.wallets set held_micros = held_micros + 1"
        " where held_micros < settled_micros",
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
        " remaining_micros = remaining_micros + case category when 'paid' then -2 else 1 end"
        " where organization_id in (select organization_id from billing.sessions)",
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
        " captured_micros = captured_micros + 1"
        " where kind = 'session' and due_at is not null",
        {"hold captured = its transfers"},
    ),
    "more captured at the end": (
        "update billing.holds set amount_micros = amount_micros + 1,"
        " captured_micros = captured_micros + 1"
        " where kind = 'session' and due_at is null",
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
        "update billing.holds set due_at = now() where kind = 'session' and due_at is null",
        {"hold is open while its session runs"},
    ),
    "a hold of no session": (
        f"delete from billing.sessions where id not in {_CHARGED}",
        {"hold has a session"},
    ),
    "storage lost": (
        "delete from billing.storage",
        {"hold has storage"},
    ),
    "storage that is charged as a session": (
        "update billing.transfers set reason = 'session' where reason = 'storage'",
        {"capture has its hold"},
    ),
    "storage whose hold is of something else": (
        "update billing.holds set kind = 'usage' where kind = 'storage'",
        {"hold is open while its storage is kept", "capture has its hold"},
    ),
    "storage that nothing is held for": (
        "update billing.holds set due_at = null, amount_micros = captured_micros"
        " where kind = 'storage'",
        {"hold is open while its storage is kept", "wallet held = its open holds"},
    ),
    "storage that failed and has a hold": (
        "update billing.storage set status = 'failed' where status = 'requested'",
        {"hold is open while its storage is kept"},
    ),
    "storage that grew": (
        "update billing.storage_periods set billed_gb = billed_gb + 1 where ends_at is null",
        {"storage charged = GB × exact duration × price"},
    ),
    "storage that cost less than was charged": (
        f"update billing.storage_periods as p set billed_gb = 0 {_OF_STATUS} = 'grace'",
        {"storage charged = GB × exact duration × price"},
    ),
    "storage that was there a second sooner": (
        "update billing.storage set ready_at = ready_at - interval '1 second'",
        {"storage is charged from its first second"},
    ),
    "a period that overlaps another": (
        "insert into billing.storage_periods select organization_id, storage_id,"
        " starts_at + interval '1 microsecond', starts_at + interval '2 microseconds', 0, price_id,"
        " 0 from billing.storage_periods where ends_at is not null",
        {"storage periods adjoin"},
    ),
    "a period that goes on without its storage": (
        f"update billing.storage_periods as p set ends_at = null {_OF_STATUS} = 'deleted'",
        {"storage periods adjoin"},
    ),
    "a space that was charged otherwise": (
        "update billing.purchases set price_micros = price_micros + 1 where refunded_at is null",
        {"purchase = its transfer"},
    ),
    "a space that was charged twice": (
        "update billing.transfers as t set reason = 'space' from billing.purchases as p"
        " where t.organization_id = p.organization_id and t.reason = 'registration_bonus'",
        {"space is charged for a purchase"},
    ),
    "a refund that was forgotten": (
        "update billing.purchases set refunded_at = null, refund_reason = null"
        " where refunded_at is not null",
        {"returned for spaces = refunded purchases"},
    ),
    "usage that was charged otherwise": (
        "update billing.usage_events set price_usd = price_usd + 0.0000000001",
        {
            "usage charged = its events",
            "usage days = their events",
            "usage counted = its events",
        },
    ),
    "a day of usage that was folded otherwise": (
        "update billing.usage_days set price_usd = price_usd + 0.0000000001",
        {"usage days = their events"},
    ),
    "more of a limit taken": (
        "update billing.usage_counters set quantity = quantity + 1",
        {"usage counted = its events"},
    ),
    "less than nothing used": (
        "update billing.usage_events set quantities = '{\"images\": -3}'"
        " where corrects_id is not null",
        {"corrected usage is not below zero"},
    ),
    "a part of a micro-dollar that was forgotten": (
        "update billing.wallets set usage_remainder_usd = 0 where usage_remainder_usd > 0",
        {"usage charged = its events"},
    ),
}


def _rent(ledger: Ledger) -> None:
    """Storage that grew, that was given back, that is not there yet, and that is unpaid for."""
    customer = ledger.register()
    storage = Storage(ledger, customer)
    returned, grown = storage.rent(50), storage.rent(50)
    ledger.advance(1000)
    storage.end(returned)
    storage.grow(grown, 80)
    spender = ledger.register()
    Storage(ledger, spender).rent(100)
    ledger.capture(spender, ledger.wallet(spender)["available_micros"])
    ledger.advance(100_000)
    ledger.call("accrue_storage", limit=100)
    storage.ask(10)
    statuses = ledger.fetch("select status from billing.storage where id <> %s order by 1", grown)
    assert statuses == [("requested",), ("grace",), ("deleted",)]


def _buy(ledger: Ledger) -> None:
    """Two spaces, of which one was given back."""
    operator, customer = ledger.create_operator(), ledger.register()
    for slug in ("web-dev", "data-science"):
        bought = ledger.call_one(
            "buy_space", caller=customer.caller, slug=slug, idempotency_key=new_key()
        )
    ledger.call_one(
        "refund_purchase",
        caller=operator.caller,
        purchase_id=bought["purchase"]["id"],
        organization_id=customer.id,
        reason="test",
        idempotency_key=new_key(),
    )


def _use(ledger: Ledger) -> None:
    """Use two images, under a cap; then it was one."""
    meter, customer = Meter(ledger), ledger.register()
    cap(meter, customer, DOLLAR)
    meter.rate({"images": "0.0000025"}, organization_id=customer.id)
    used = event(customer, quantities={"images": 2})
    answer = meter.send(used, corrections=[correction(used, {"images": 1})])
    assert answer["accepted"] == 2


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
        _rent(ledger)
        _buy(ledger)
        _use(ledger)
        ledger.run(
            "update billing.usage_folds set complete_until ="
            " date_trunc('milliseconds', billing.now()) + interval '1 millisecond'"
        )
        assert ledger.call_one("fold_usage", limit=10)["folded"] == 2
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
