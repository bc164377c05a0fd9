"""Calls that meet in the middle: whatever two of them wait for, they never wait for each other."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from time import monotonic, sleep
from typing import LiteralString

import psycopg

from tests.money.ledger import (
    DOLLAR,
    REGISTRATION_BONUS,
    Customer,
    Ledger,
    RefusedError,
    Row,
    checkout_event,
    new_key,
    new_key_material,
    open_ledger,
)
from tests.money.test_reversals import refund


@contextmanager
def _hold(ledger: Ledger, lock: LiteralString, *values: object) -> Iterator[None]:
    """Keep a lock, so that calls that need it stop where they need it."""
    with psycopg.connect(ledger.database.owner_url) as connection:
        connection.execute(lock, values)
        yield


def _await_waiting(ledger: Ledger, number: int) -> None:
    """Wait until so many calls wait for a lock."""
    deadline = monotonic() + 120
    while monotonic() < deadline:
        (waiting,) = ledger.fetch_one(
            "select count(*) from pg_stat_activity"
            " where datname = current_database() and wait_event_type = 'Lock'"
        )
        if waiting == number:
            return
        sleep(0.005)
    raise AssertionError(f"no {number} calls wait for a lock")


def _meet(
    ledger: Ledger, lock: tuple[LiteralString, *tuple[object, ...]], *calls: Callable[[Ledger], Row]
) -> list[Row]:
    """Let calls arrive, in this order, at a lock that somebody holds; then let them go on."""
    with ThreadPoolExecutor(len(calls)) as pool:
        with _hold(ledger, *lock):
            futures = []
            for number, call in enumerate(calls, start=1):
                futures.append(pool.submit(_call_alone, ledger, call))
                _await_waiting(ledger, number)
        return [future.result(timeout=120) for future in futures]


def _call_alone(ledger: Ledger, call: Callable[[Ledger], Row]) -> Row:
    with open_ledger(ledger.database) as own:
        return call(own)


def test_an_organization_is_claimed_while_its_payment_arrives(ledger: Ledger) -> None:
    operator = ledger.create_operator()
    email = "claimed@example.com"
    waiting = ledger.register_customer(operator, email, "free")
    event = checkout_event(ledger.ask_top_up(waiting, 10 * DOLLAR)["top_up"])
    user_id = ledger.add_user(email)

    def claim(own: Ledger) -> Row:
        return {"organization_id": own.register(user_id).id}

    paid, claimed = _meet(
        ledger,
        ("select from billing.wallets where organization_id = %s for update", waiting.id),
        lambda own: own.deliver(event),
        claim,
    )
    assert (paid["outcome"], claimed["organization_id"]) == ("credited", waiting.id)
    assert ledger.wallet(waiting)["settled_micros"] == REGISTRATION_BONUS + 10 * DOLLAR


def test_two_passports_rotate_each_other(ledger: Ledger) -> None:
    one = ledger.register()
    (one_id,) = ledger.fetch_one("select id from billing.passports")
    material = new_key_material()
    other_id = ledger.call_one(
        "create_passport",
        caller=one.caller,
        name="other",
        permissions=["read", "write", "billing"],
        expires_at=None,
        idempotency_key=new_key(),
        **material,
    )["passport"]["id"]
    other = Customer(one.id, one.user_id, {"passport_hash": material["key_hash"]})
    ledger.advance(3600)  # so that both passports' last use is worth writing

    def rotate(caller: Customer, passport_id: str, key: str) -> Callable[[Ledger], Row]:
        return lambda own: own.call_one(
            "rotate_passport",
            caller=caller.caller,
            passport_id=passport_id,
            overlap_seconds=60,
            idempotency_key=key,
            **new_key_material(),
        )

    answers = _meet(
        ledger,
        (
            "select pg_advisory_xact_lock(hashtextextended(%s::text || key, 0))"
            " from unnest(array['first', 'second']) as key",
            one.id,
        ),
        rotate(one, other_id, "first"),
        rotate(other, one_id, "second"),
    )
    assert len({answer["passport"]["id"] for answer in answers}) == 2


def _close(customer: Customer) -> Callable[[Ledger], Row]:
    return lambda own: own.call_one(
        "close_organization",
        user_id=customer.user_id,
        organization_id=customer.id,
        forfeit_balance=True,
        delete_storage=True,
        idempotency_key=new_key(),
    )


def test_an_organization_is_closed_while_a_payment_that_was_refunded_arrives(
    ledger: Ledger,
) -> None:
    customer = ledger.register()
    top_up = ledger.ask_top_up(customer, 10 * DOLLAR)["top_up"]
    ledger.start(customer)
    assert ledger.deliver(refund(top_up, 1, DOLLAR))["outcome"] == "refund_recorded"
    closed, paid = _meet(
        ledger,
        ("select from billing.organizations where id = %s for update", customer.id),
        _close(customer),
        lambda own: own.deliver(checkout_event(top_up)),
    )
    assert closed["organization"]["closed_at"] is not None
    assert paid["outcome"] == "credited"
    (settled_micros,) = ledger.fetch_one(
        "select settled_micros from billing.wallets where organization_id = %s", customer.id
    )
    assert settled_micros == 9 * DOLLAR


def test_a_session_that_costs_nothing_is_not_started_while_its_organization_is_closed(
    ledger: Ledger,
) -> None:
    customer = ledger.register()
    ledger.run(
        "insert into billing.prices (plan_id, sku, unit, price_micros, effective_at)"
        " values ('free', 'session.small', 'hour', 0, billing.now())"
    )

    def start(own: Ledger) -> Row:
        try:
            return own.start(customer)
        except RefusedError as refusal:
            return {"code": refusal.code}

    closed, started = _meet(
        ledger,
        ("select from billing.wallets where organization_id = %s for update", customer.id),
        _close(customer),
        start,
    )
    assert closed["organization"]["closed_at"] is not None
    assert started == {"code": "organization_closed"}
