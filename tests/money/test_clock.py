"""Clocks jump, leap and run backwards: no second is charged twice, none is negative."""

from datetime import datetime
from functools import partial

import pytest

from tests.money.ledger import Ledger
from tests.money.model import SECOND, cost

_HOUR, _DAY = 3600, 86_400
_PRICE = 60_000


@pytest.mark.parametrize("skew", [-_DAY, -_HOUR, -1, 1, _HOUR, _DAY])
@pytest.mark.parametrize("is_swept_before", [True, False])
def test_a_skewed_clock_charges_no_second_twice(
    ledger: Ledger, skew: int, is_swept_before: bool
) -> None:
    ledger.pin_clock()
    ledger.set_price("free", "small", _PRICE)
    customer = ledger.register()
    session_id = ledger.start(customer)["session"]["id"]
    move = partial(_move, ledger)
    move(400)
    if is_swept_before:
        ledger.sweep()
    move(skew)
    ledger.sweep()
    move(-skew)
    move(100)
    ledger.sweep()
    session = ledger.stop(customer, session_id)["session"]
    charged_until = datetime.fromisoformat(session["ended_at"])
    # A clock that ran ahead when somebody looked has charged that far, once.
    seconds = max(500, 400 + skew)
    assert charged_until == _after(session["started_at"], seconds)
    assert session["charged_micros"] == cost(_PRICE, seconds * SECOND)


@pytest.mark.parametrize("skew", [-_DAY, -_HOUR, -1])
def test_a_stop_in_the_past_charges_nothing_more(ledger: Ledger, skew: int) -> None:
    ledger.pin_clock()
    customer = ledger.register()
    session_id = ledger.start(customer)["session"]["id"]
    _move(ledger, skew)
    session = ledger.stop(customer, session_id)["session"]
    assert (session["charged_micros"], session["ended_at"]) == (0, session["started_at"])


@pytest.mark.parametrize(
    ("start", "hours"),
    [
        pytest.param("2028-02-28T23:30:00Z", 25, id="leap day"),
        pytest.param("2027-03-28T00:30:00Z", 3, id="clocks go forward in Europe"),
        pytest.param("2027-10-31T00:30:00Z", 3, id="clocks go back in Europe"),
        pytest.param("2027-12-31T23:00:00Z", 2, id="new year"),
    ],
)
@pytest.mark.parametrize("zone", ["UTC", "Europe/Berlin", "America/New_York"])
def test_an_hour_is_an_hour_on_every_day(ledger: Ledger, start: str, hours: int, zone: str) -> None:
    ledger.pin_clock()
    ledger.run("update billing.pinned_clock set at = %s", start)
    ledger.functions.execute("select set_config('timezone', %s, false)", [zone])
    ledger.set_price("free", "small", _PRICE)
    customer = ledger.register()
    session_id = ledger.start(customer)["session"]["id"]
    for _ in range(hours):
        _move(ledger, _HOUR)
        ledger.sweep()
    session = ledger.stop(customer, session_id)["session"]
    assert session["charged_micros"] == hours * _PRICE


def _move(ledger: Ledger, seconds: int) -> None:
    ledger.move_pinned_clock(seconds * SECOND)


def _after(moment: str, seconds: int) -> datetime:
    start = datetime.fromisoformat(moment)
    return datetime.fromtimestamp(start.timestamp() + seconds, start.tzinfo)
