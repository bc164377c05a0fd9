"""What a session costs: exact, rounded once, the same however often somebody looked."""

from datetime import UTC, datetime, timedelta
from fractions import Fraction
from math import floor

import hypothesis.strategies as st
import pytest
from hypothesis import HealthCheck, assume, example, given, settings

from tests.money.ledger import Customer, Ledger
from tests.money.model import HOUR, SECOND, cost

_START = datetime(2027, 1, 1, tzinfo=UTC)
_MAX_PRICE = 10**12
_prices = st.integers(0, _MAX_PRICE) | st.sampled_from([0, 1, 3600, 25_000, 37_500])
_few = settings(
    max_examples=150, deadline=None, database=None, suppress_health_check=list(HealthCheck)
)


def _cost(ledger: Ledger, price: int, microseconds: int) -> int:
    (found,) = ledger.fetch_one(
        "select billing.session_cost(%s, %s, %s)",
        *(price, _START, _START + timedelta(microseconds=microseconds)),
    )
    assert isinstance(found, int)
    return found


def test_a_cost_is_rounded_half_up_once(ledger: Ledger) -> None:
    @_few
    @given(price=_prices, microseconds=st.integers(0, 400 * 24 * HOUR))
    @example(price=1800, microseconds=SECOND)  # exactly half a µ$
    @example(price=1, microseconds=HOUR // 2)
    @example(price=1, microseconds=HOUR // 2 - 1)
    @example(price=_MAX_PRICE, microseconds=9000 * HOUR)
    def check(price: int, microseconds: int) -> None:
        exact = Fraction(price * microseconds, HOUR)
        assert _cost(ledger, price, microseconds) == floor(exact + Fraction(1, 2))
        assert cost(price, microseconds) == floor(exact + Fraction(1, 2))

    check()


def test_a_session_that_has_not_begun_costs_nothing(ledger: Ledger) -> None:
    assert _cost(ledger, _MAX_PRICE, -HOUR) == 0


def test_affordable_seconds_are_all_that_an_amount_covers_and_no_more(ledger: Ledger) -> None:
    @_few
    @given(price=_prices, micros=st.integers(0, 10**13) | st.integers(0, 100))
    @example(price=3600, micros=7)
    def check(price: int, micros: int) -> None:
        (seconds,) = ledger.fetch_one("select billing.affordable_seconds(%s, %s)", price, micros)
        if price == 0:
            assert seconds is None
            return
        assume(seconds < 10**10)
        assert cost(price, seconds * SECOND) <= micros < cost(price, (seconds + 1) * SECOND)

    check()


def _run(ledger: Ledger, price: int, length: int, moments: list[int]) -> tuple[Customer, str]:
    """Run a session for a length, swept at some moments on the way, and stop it."""
    ledger.set_price("free", "small", price)
    customer = ledger.register()
    session_id = ledger.start(customer)["session"]["id"]
    now = 0
    for moment in [*sorted(moments), length]:
        ledger.move_pinned_clock(moment - now)
        now = moment
        # Not only when it is due: as if every sweep had found it.
        ledger.run(
            "select billing.settle_sessions(array[%s::uuid], array[%s::uuid], null)",
            *(customer.id, session_id),
        )
    ledger.stop(customer, session_id)
    return customer, session_id


def test_any_schedule_of_sweeps_charges_the_same(ledger: Ledger) -> None:
    ledger.pin_clock()

    @settings(_few, max_examples=40)
    @given(
        price=st.integers(1, 5_000_000),
        length=st.integers(0, 50 * 60 * SECOND),
        shares=st.lists(st.fractions(0, 1), max_size=6),
    )
    def check(price: int, length: int, shares: list[Fraction]) -> None:
        ledger.run("update billing.pinned_clock set at = at + interval '1 hour'")
        moments = [floor(share * length) for share in shares]
        ledger.run("alter table billing.prices disable trigger prices_append_only")
        ledger.run("delete from billing.prices where effective_at = '2026-06-01'")
        ledger.run("alter table billing.prices enable trigger prices_append_only")
        customer, session_id = _run(ledger, price, length, moments)
        session = ledger.session(customer, session_id)
        assert session["charged_micros"] == session["cost_micros"] == cost(price, length)
        assert session["close_reason"] == "stopped"

    check()


@pytest.mark.parametrize("late_seconds", [0, 1, 3600, 86_400 * 40])
def test_money_that_ends_ends_the_session_on_that_second_however_late_it_is_swept(
    ledger: Ledger, late_seconds: int
) -> None:
    ledger.pin_clock()
    ledger.set_price("free", "small", 7_000_000)
    customer = ledger.register()
    session_id = ledger.start(customer)["session"]["id"]
    # $5 at $7 an hour: 2571 whole seconds.
    ledger.move_pinned_clock((2571 + late_seconds) * SECOND)
    ledger.sweep()
    session = ledger.session(customer, session_id)
    ended = datetime.fromisoformat(session["ended_at"]) - datetime.fromisoformat(
        session["started_at"]
    )
    assert (session["close_reason"], ended) == ("exhausted", timedelta(seconds=2571))
    assert session["charged_micros"] == cost(7_000_000, 2571 * SECOND) <= 5_000_000
    assert ledger.wallet(customer)["held_micros"] == 0


def test_a_price_of_zero_runs_without_money(ledger: Ledger) -> None:
    ledger.set_price("free", "small", 0)
    customer = ledger.register()
    session_id = ledger.start(customer)["session"]["id"]
    for _ in range(3):
        ledger.advance(86_400)
        ledger.sweep()
    assert ledger.session(customer, session_id)["status"] == "running"
    assert ledger.stop(customer, session_id)["session"]["charged_micros"] == 0
    transfers = ledger.fetch_one("select count(*) from billing.transfers where reason = 'session'")
    assert transfers == (0,)


def test_the_dearest_session_stays_in_bounds(ledger: Ledger) -> None:
    ledger.set_price("free", "small", _MAX_PRICE)
    customer = ledger.register()
    estimate = ledger.call_one(
        "estimate_session",
        caller=customer.caller,
        tier="small",
        preset=None,
        workspace_id=None,
        seconds=2**31 - 1,
    )
    assert estimate["cost_micros"] == cost(_MAX_PRICE, (2**31 - 1) * SECOND)
    assert estimate["affordable_seconds"] == 0
