"""Token buckets: never more than they hold and what came back since, whoever asks and when."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from functools import partial
from typing import LiteralString
from uuid import uuid4

import psycopg
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from infra.local import template
from tests.money.ledger import Customer, Ledger, RefusedError, open_ledger

SECOND = 1_000_000
"""In microseconds, which the clock is set in."""


def _limit(
    ledger: Ledger,
    capacity: int,
    refill: int,
    refill_seconds: int,
    *,
    per: str = "passport",
    match: str = "{}",
) -> None:
    ledger.run(
        "insert into billing.policies (priority, description, match, effect, limit_per, capacity,"
        " refill, refill_seconds, is_enabled, created_by)"
        " values (100, 'test', %s::jsonb, 'limit', %s, %s, %s, %s, true, 'test')",
        match,
        per,
        capacity,
        refill,
        refill_seconds,
    )


def _look(ledger: Ledger, customer: Customer) -> str:
    """Make a call that costs nothing, or tell why not."""
    try:
        ledger.call_one("get_wallet", caller=customer.caller)
    except RefusedError as refusal:
        return refusal.code
    return "done"


@dataclass
class Bucket:
    """The model, which counts in millionths of a token."""

    capacity: int
    refill: int
    refill_seconds: int
    millionths: int = field(init=False)
    latest: int = 0

    def __post_init__(self) -> None:
        self.millionths = self.capacity * 1_000_000

    def take(self, at: int) -> bool:
        """Take a token at a moment, in microseconds, if there is one."""
        back = max(at - self.latest, 0) * self.refill // self.refill_seconds
        millionths = min(self.millionths + back, self.capacity * 1_000_000)
        if millionths < 1_000_000:
            return False
        self.millionths, self.latest = millionths - 1_000_000, max(self.latest, at)
        return True


# Steps of the clock, some of them back, before each call.
STEPS = st.lists(
    st.one_of(
        st.sampled_from([0, 1, SECOND, 3 * SECOND, 10 * SECOND, -5 * SECOND]),
        st.integers(-20 * SECOND, 40 * SECOND),
    ),
    min_size=1,
    max_size=30,
)


@pytest.fixture(scope="module")
def pinned() -> Iterator[Ledger]:
    """Give a ledger whose clock stands still until it is moved."""
    with template.clone() as database, open_ledger(database) as ledger:
        ledger.pin_clock()
        yield ledger


@settings(max_examples=80, deadline=None)
@given(
    capacity=st.integers(1, 6),
    refill=st.integers(1, 7),
    refill_seconds=st.integers(1, 30),
    steps=STEPS,
)
def test_a_bucket_gives_what_the_model_gives(
    pinned: Ledger, capacity: int, refill: int, refill_seconds: int, steps: list[int]
) -> None:
    customer = pinned.register()
    pinned.run("delete from billing.policies")
    _limit(pinned, capacity, refill, refill_seconds)
    # A bucket is there from the first call on.
    model = Bucket(capacity, refill, refill_seconds, latest=steps[0])
    at, latest = 0, steps[0]
    taken: list[int] = []
    for step in steps:
        pinned.move_pinned_clock(step)
        at += step
        latest = max(latest, at)
        is_taken = _look(pinned, customer) == "done"
        assert is_taken is model.take(at)
        taken += [latest] * is_taken
    # In no window more than a full bucket and what came back in it, however the clock went.
    for first, begins in enumerate(taken):
        for number, ends in enumerate(taken[first:], 1):
            back = Fraction((ends - begins) * refill, refill_seconds * SECOND)
            assert number <= capacity + back
    pinned.move_pinned_clock(-at)


@pytest.mark.parametrize("per", ["passport", "organization", "ip"])
def test_of_fifty_callers_ten_find_a_token_in_a_bucket_of_ten(ledger: Ledger, per: str) -> None:
    customer = ledger.register()
    _limit(ledger, 10, 1, 3600, per=per)
    results = ledger.race([lambda own: _look(own, customer)] * 50, threads=25)
    assert Counter(results) == {"done": 10, "rate_limited": 40}


def test_of_fifty_starts_those_begin_that_find_a_token_and_hold_money(ledger: Ledger) -> None:
    customer = ledger.register()
    _limit(ledger, 10, 1, 3600, match='{"tier": ["small"]}')
    results = ledger.race([lambda own: own.start(customer)] * 50, threads=25)
    codes = Counter(r.code if isinstance(r, RefusedError) else "done" for r in results)
    assert codes == {"done": 10, "rate_limited": 40}
    (held,) = ledger.fetch_one("select count(*) from billing.holds where due_at is not null")
    assert held == 10


def test_two_buckets_in_the_same_calls_lock_nobody_out(ledger: Ledger) -> None:
    customers = [ledger.register() for _ in range(4)]
    _limit(ledger, 1000, 1, 3600, per="ip")
    _limit(ledger, 1000, 1, 3600, per="organization", match='{"tier": ["small"]}')
    _limit(ledger, 1000, 1, 3600, per="ip", match='{"amount": {}}')
    operator = ledger.create_operator()

    def hold(own: Ledger, customer: Customer) -> object:
        return own.call_one(
            "open_hold",
            caller=operator.caller,
            organization_id=customer.id,
            amount_micros=1,
            expires_in_seconds=60,
            description=None,
            idempotency_key=uuid4().hex,
        )

    jobs = [
        job
        for customer in customers
        for job in (partial(Ledger.start, customer=customer), partial(hold, customer=customer))
    ]
    results = ledger.race(jobs * 10, threads=16)
    assert [r for r in results if isinstance(r, RefusedError)] == []


def test_buckets_that_are_full_again_are_forgotten(ledger: Ledger) -> None:
    customers = [ledger.register() for _ in range(2)]
    _limit(ledger, 2, 1, 60)
    for calls, customer in enumerate(customers, 1):
        assert [_look(ledger, customer) for _ in range(calls)] == ["done"] * calls
    left = "select organization_id::text from billing.rate_buckets order by 1"
    for seconds, expected in ((50, [0, 1]), (20, [1]), (60, [])):
        ledger.advance(seconds)
        ledger.call_one("expire_holds", limit=100)
        assert ledger.fetch(left) == [(customers[number].id,) for number in expected]


def test_a_call_without_an_address_has_a_bucket_as_well(ledger: Ledger) -> None:
    customer = ledger.register()
    _limit(ledger, 1, 1, 3600, per="ip")
    assert [_look(ledger, customer) for _ in range(2)] == ["done", "rate_limited"]
    assert ledger.fetch("select subject from billing.rate_buckets") == [("",)]


@pytest.mark.parametrize(
    "wrong",
    [
        "match = '[]'",
        """match = '{"planet": ["mars"]}'""",
        """match = '{"plan": []}'""",
        """match = '{"plan": "free"}'""",
        """match = '{"plan": [null]}'""",
        """match = '{"feature": [["chat"]]}'""",
        """match = '{"tier": ["huge"]}'""",
        """match = '{"permission": ["root"]}'""",
        """match = '{"hour": [24]}'""",
        """match = '{"hour": [-1]}'""",
        """match = '{"weekday": [0]}'""",
        """match = '{"weekday": ["1"]}'""",
        """match = '{"amount": {"below_micros": 1}}'""",
        """match = '{"amount": {"above_micros": -1}}'""",
        """match = '{"amount": {"above_micros": 1.5}}'""",
        """match = '{"amount": {"above_micros": 2, "up_to_micros": 2}}'""",
        """match = '{"amount": {"above_micros": 3, "up_to_micros": 2}}'""",
        """match = '{"amount": {"up_to_micros": "1"}}'""",
        """match = '{"amount": {"up_to_micros": null}}'""",
        """match = '{"amount": []}'""",
        """match = '{"amount": null}'""",
        "effect = 'perhaps'",
        "effect = 'deny'",
        "limit_per = null",
        "limit_per = 'planet'",
        "capacity = 0",
        "refill = 0",
        "refill_seconds = 0",
        "priority = -1",
        "description = ''",
    ],
)
def test_no_rule_is_wrong_whoever_writes_it(ledger: Ledger, wrong: LiteralString) -> None:
    _limit(ledger, 1, 1, 1)
    with pytest.raises(psycopg.errors.CheckViolation):
        ledger.run(f"update billing.policies set {wrong}")


def test_what_is_right_may_be_written(ledger: Ledger) -> None:
    _limit(ledger, 1, 1, 1)
    for match in ("{}", '{"amount": {}}', '{"hour": [0, 23], "weekday": [1, 7], "plan": ["free"]}'):
        ledger.run("update billing.policies set match = %s", match)
    for effect in ("allow", "deny"):
        ledger.run(
            "update billing.policies set effect = %s, limit_per = null, capacity = null,"
            " refill = null, refill_seconds = null",
            effect,
        )
