"""Many callers at once, on connections of their own: money moves as if they had queued."""

from collections import Counter
from collections.abc import Callable
from functools import partial
from random import Random

import pytest

from tests.money.ledger import (
    DOLLAR,
    REGISTRATION_BONUS,
    Customer,
    Ledger,
    RefusedError,
    Row,
    checkout_event,
    new_key_material,
)

# A window of 600 s costs $1.50: the registration bonus covers exactly three.
PRICE_OF_THREE_STARTS = 9 * DOLLAR


def _starts(customer: Customer, number: int) -> list[Callable[[Ledger], Row]]:
    return [lambda ledger: ledger.start(customer)] * number


def _codes(results: list[Row | RefusedError]) -> Counter[str]:
    return Counter(r.code if isinstance(r, RefusedError) else "done" for r in results)


def _charges(ledger: Ledger, customer: Customer) -> int:
    (charges,) = ledger.fetch_one(
        "select count(*) from billing.transfers where organization_id = %s and reason = 'session'",
        customer.id,
    )
    assert isinstance(charges, int)
    return charges


def test_fifty_starts_with_money_for_three_start_three(ledger: Ledger) -> None:
    ledger.set_price("free", "small", PRICE_OF_THREE_STARTS)
    customer = ledger.register()
    results = ledger.race(_starts(customer, 50), threads=25)
    assert _codes(results) == {"done": 3, "insufficient_credits": 47}
    assert ledger.wallet(customer)["held_micros"] == 4_500_000


def test_twenty_stops_charge_once(ledger: Ledger) -> None:
    customer = ledger.register()
    session_id = ledger.start(customer)["session"]["id"]
    ledger.advance(100)
    stops: list[Callable[[Ledger], Row]] = [lambda own: own.stop(customer, session_id)] * 20
    results = ledger.race(stops)
    ends = {r["session"]["ended_at"] for r in results if not isinstance(r, RefusedError)}
    assert _codes(results) == {"done": 20}
    assert len(ends) == 1
    assert _charges(ledger, customer) == 1


def test_a_stop_beside_a_sweep_charges_each_second_once(ledger: Ledger) -> None:
    customers = [ledger.register() for _ in range(200)]
    sessions = [(c, ledger.start(c)["session"]["id"]) for c in customers]
    ledger.advance(400)  # every session is due, so every stop meets a sweep
    jobs: list[Callable[[Ledger], Row]] = []
    for customer, session_id in sessions:
        jobs.append(partial(Ledger.stop, customer=customer, session_id=session_id))
        jobs.append(lambda own: own.sweep(3))
    results = ledger.race(jobs, threads=8)
    assert _codes(results) == {"done": 400}
    for customer, session_id in sessions:
        assert ledger.session(customer, session_id)["close_reason"] == "stopped"


def test_parallel_sweeps_share_the_work(ledger: Ledger) -> None:
    customers = [ledger.register() for _ in range(20)]
    for customer in customers:
        for _ in range(5):
            ledger.start(customer)
    ledger.advance(400)
    sweeps: list[Callable[[Ledger], Row]] = [lambda own: own.sweep(7)] * 40
    results = ledger.race(sweeps, threads=4)
    assert _codes(results) == {"done": 40}
    assert sum(r["swept"] for r in results if not isinstance(r, RefusedError)) == 100
    assert {_charges(ledger, customer) for customer in customers} == {5}


def test_sweeps_beside_starts_and_top_ups_lose_nothing(ledger: Ledger) -> None:
    customers = [ledger.register() for _ in range(6)]
    for customer in customers:
        ledger.start(customer)
    ledger.advance(400)
    jobs: list[Callable[[Ledger], Row]] = [lambda own: own.sweep(2)] * 20
    for customer in customers:
        jobs += _starts(customer, 4)
        for _ in range(4):
            event = checkout_event(ledger.ask_top_up(customer, 10 * DOLLAR)["top_up"])
            jobs.append(partial(Ledger.deliver, event=event))
    Random(7).shuffle(jobs)
    results = ledger.race(jobs, threads=12)
    assert _codes(results) == {"done": len(jobs)}
    for customer in customers:
        charged = 50_000 * 400 // 3600
        settled = ledger.wallet(customer)["settled_micros"]
        assert settled == pytest.approx(REGISTRATION_BONUS + 40 * DOLLAR - charged, abs=200)


def test_forty_calls_with_one_key_start_one_session(ledger: Ledger) -> None:
    customer = ledger.register()
    starts: list[Callable[[Ledger], Row]] = [lambda own: own.start(customer, key="once")] * 40
    results = ledger.race(starts)
    assert _codes(results) == {"done": 40}
    answers = [r for r in results if not isinstance(r, RefusedError)]
    assert Counter(r["replayed"] for r in answers) == {True: 39, False: 1}
    assert all(r["session"] == answers[0]["session"] for r in answers)


@pytest.mark.parametrize(
    "operation",
    [
        pytest.param({"function": "revoke_passport"}, id="revoke"),
        pytest.param({"function": "rotate_passport", "overlap_seconds": 60}, id="rotate"),
    ],
)
def test_forty_calls_with_one_key_change_a_passport_once(ledger: Ledger, operation: Row) -> None:
    customer = ledger.register()
    (passport_id,) = ledger.fetch_one(
        "select id from billing.passports where organization_id = %s", customer.id
    )
    secret = {} if "overlap_seconds" not in operation else new_key_material()
    change = partial(
        Ledger.call_one,
        caller=customer.caller,
        passport_id=passport_id,
        idempotency_key="once",
        **operation,
        **secret,
    )
    results = ledger.race([change] * 40)
    # Whoever comes after the end of the passport it comes with is a stranger.
    assert set(_codes(results)) <= {"done", "invalid_passport"}
    assert len({r["passport"]["id"] for r in results if not isinstance(r, RefusedError)}) == 1


def test_an_event_delivered_ten_times_at_once_is_credited_once(ledger: Ledger) -> None:
    customer = ledger.register()
    event = checkout_event(ledger.ask_top_up(customer, 100 * DOLLAR)["top_up"])
    deliveries = [partial(Ledger.deliver, event=event)] * 10
    results = ledger.race(deliveries)
    answers = [r for r in results if not isinstance(r, RefusedError)]
    assert Counter((r["outcome"], r["duplicate"]) for r in answers) == {
        ("credited", False): 1,
        ("credited", True): 9,
    }
    assert ledger.wallet(customer)["settled_micros"] == REGISTRATION_BONUS + 105 * DOLLAR


def test_different_events_of_one_checkout_at_once_are_credited_once(ledger: Ledger) -> None:
    customer = ledger.register()
    top_up = ledger.ask_top_up(customer, 10 * DOLLAR)["top_up"]
    events = [
        checkout_event(top_up, kind, payment_status=status)
        for kind, status in [("completed", "unpaid"), ("async_payment_succeeded", "paid")] * 5
    ]
    results = ledger.race([partial(Ledger.deliver, event=event) for event in events])
    assert _codes(results) == {"done": 10}
    assert ledger.wallet(customer)["settled_micros"] == REGISTRATION_BONUS + 10 * DOLLAR


def test_one_user_who_registers_ten_times_at_once_gets_one_bonus(ledger: Ledger) -> None:
    user_id = ledger.add_user()
    registrations: list[Callable[[Ledger], Customer]] = [lambda own: own.register(user_id)] * 10
    results = ledger.race(registrations)
    winners = [r for r in results if isinstance(r, Customer)]
    refusals = [r for r in results if isinstance(r, RefusedError)]
    assert len(winners) == 1
    assert {r.code for r in refusals} == {"already_registered"}
    assert {r.detail["organization_id"] for r in refusals} == {winners[0].id}
    assert ledger.wallet(winners[0])["settled_micros"] == REGISTRATION_BONUS


def test_two_spellings_of_one_mailbox_get_one_bonus(ledger: Ledger) -> None:
    users = [ledger.add_user(f"some.one+{number}@gmail.com") for number in range(8)]
    results = ledger.race([partial(Ledger.register, user_id=user) for user in users])
    settled = [ledger.wallet(c)["settled_micros"] for c in results if isinstance(c, Customer)]
    assert Counter(settled) == {0: 7, REGISTRATION_BONUS: 1}


@pytest.mark.parametrize("seed", range(3))
def test_sixteen_clients_on_one_wallet_never_overspend_it(ledger: Ledger, seed: int) -> None:
    ledger.set_price("free", "small", PRICE_OF_THREE_STARTS)
    customer = ledger.register()
    random = Random(seed)

    def act(own: Ledger) -> Row:
        running = own.call(
            "list_sessions",
            caller=customer.caller,
            status="running",
            workspace_id=None,
            limit=5,
            cursor=None,
        )
        if running and random.random() < 0.6:
            return own.stop(customer, random.choice(running)["id"])
        return own.start(customer) if random.random() < 0.8 else own.sweep(2)

    results = ledger.race([act] * 320, threads=16)
    codes = _codes(results)
    assert set(codes) <= {"done", "insufficient_credits"}
    assert codes["insufficient_credits"] > 0
    wallet = ledger.wallet(customer)
    assert wallet["settled_micros"] >= wallet["held_micros"] >= 0
