"""A sweep that comes late ends a session only where its money ended, and where a stop would."""

from datetime import datetime, timedelta

import psycopg
import pytest

from tests.money.ledger import DOLLAR, Ledger
from tests.money.model import SECOND


def test_what_one_session_gives_back_keeps_another_running(ledger: Ledger) -> None:
    ledger.pin_clock()
    ledger.set_price("free", "small", 15 * DOLLAR)  # the bonus covers two windows exactly
    customer = ledger.register()
    lost = ledger.start(customer, heartbeat_timeout_seconds=10)["session"]["id"]
    kept = ledger.start(customer)["session"]["id"]
    ledger.move_pinned_clock(601 * SECOND)
    assert ledger.sweep() == {"swept": 2, "closed": 1, "more": False}
    assert ledger.session(customer, lost)["close_reason"] == "lost"
    assert ledger.session(customer, kept)["status"] == "running"


@pytest.mark.parametrize("how", ["sweep", "stop"])
def test_nothing_ends_after_the_end_that_was_foreseen(ledger: Ledger, how: str) -> None:
    ledger.pin_clock()
    ledger.set_price("free", "small", 7 * DOLLAR)
    customer = ledger.register()
    session_id = ledger.start(customer)["session"]["id"]
    for _ in range(8):
        ledger.move_pinned_clock(300 * SECOND)
        ledger.sweep()
    ledger.move_pinned_clock(171 * SECOND + 400_000)  # 2571.4 s: the money covers it
    if how == "sweep":
        ledger.sweep()
    else:
        ledger.stop(customer, session_id)
    session = ledger.session(customer, session_id)
    length = datetime.fromisoformat(session["ended_at"]) - datetime.fromisoformat(
        session["started_at"]
    )
    assert (session["close_reason"], length) == ("exhausted", timedelta(seconds=2571))


@pytest.mark.parametrize("seconds", [0, -5])
def test_a_session_that_ends_before_it_starts_is_refused(ledger: Ledger, seconds: int) -> None:
    with pytest.raises(psycopg.errors.CheckViolation, match="sessions_expire_after_start"):
        ledger.start(ledger.register(), max_seconds=seconds)


def test_a_sweep_of_nothing_has_no_more_to_do(ledger: Ledger) -> None:
    assert ledger.sweep(0) == {"swept": 0, "closed": 0, "more": False}
