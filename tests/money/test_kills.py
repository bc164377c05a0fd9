"""A sweep that dies in the middle has done nothing; the next one charges the same seconds once."""

from concurrent.futures import ThreadPoolExecutor
from time import monotonic, sleep

import psycopg
import pytest

from tests.money.ledger import Customer, Ledger, open_ledger
from tests.money.model import SECOND

_PRICE = 1_800_000
_STATE = """
    select (select jsonb_agg(to_jsonb(h) order by h.id) from billing.holds as h),
        (select jsonb_agg(to_jsonb(w) order by w.organization_id) from billing.wallets as w),
        (select count(*) from billing.transfers)
"""


def _kill(ledger: Ledger, process: int) -> None:
    ledger.run("select pg_terminate_backend(%s)", process)


def _running(ledger: Ledger) -> list[tuple[Customer, str]]:
    ledger.pin_clock()
    ledger.set_price("free", "small", _PRICE)
    customers = [ledger.register() for _ in range(4)]
    return [(c, ledger.start(c)["session"]["id"]) for c in customers]


def _await_waiting(ledger: Ledger, process: int) -> None:
    deadline = monotonic() + 120
    while monotonic() < deadline:
        if ledger.fetch(
            "select from pg_stat_activity where pid = %s and wait_event_type = 'Lock'", process
        ):
            return
        sleep(0.002)
    raise AssertionError("the sweep waits for nothing")


def _sweep_until_killed(own: Ledger) -> None:
    with pytest.raises(psycopg.OperationalError):
        own.sweep()


def test_twenty_killed_sweeps_charge_each_second_once(ledger: Ledger) -> None:
    sessions = _running(ledger)
    for number in range(1, 21):
        ledger.move_pinned_clock(400 * SECOND)
        before = ledger.fetch_one(_STATE)
        if number % 2:
            _kill_while_it_waits(ledger, sessions[number % 4][0])
        else:
            _kill_before_the_commit(ledger)
        assert ledger.fetch_one(_STATE) == before
        assert ledger.sweep()["swept"] == len(sessions)
    for customer, session_id in sessions:
        session = ledger.session(customer, session_id)
        assert (session["status"], session["charged_micros"]) == ("running", 8000 * _PRICE // 3600)


def _kill_while_it_waits(ledger: Ledger, customer: Customer) -> None:
    """The sweep has locked its sessions and some wallets, and waits for this one."""
    with ThreadPoolExecutor(1) as pool, open_ledger(ledger.database) as own:
        process = own.functions.info.backend_pid
        with psycopg.connect(ledger.database.owner_url) as holder:
            holder.execute(
                "select from billing.wallets where organization_id = %s for update", [customer.id]
            )
            killed = pool.submit(_sweep_until_killed, own)
            _await_waiting(ledger, process)
            _kill(ledger, process)
            killed.result(timeout=120)


def _kill_before_the_commit(ledger: Ledger) -> None:
    """The sweep has written everything."""
    with open_ledger(ledger.database) as own:
        own.functions.execute("begin")
        assert own.sweep()["swept"] > 0
        _kill(ledger, own.functions.info.backend_pid)
        with pytest.raises(psycopg.OperationalError):
            own.functions.execute("commit")
