"""However accrual is spaced, doubled and disturbed, it charges what the model does: never more."""

from collections.abc import Callable
from datetime import datetime

import hypothesis.strategies as st
from hypothesis import HealthCheck, Phase, example, given, settings

from tests.harness.storage import make_ready, open_storage
from tests.money.ledger import REGISTRATION_BONUS, Customer, Ledger
from tests.money.storage import Storage
from tests.money.storage_model import DAY, GB, HOUR, SECOND, Model

_SKU = "storage.bucket"
_few = settings(
    max_examples=60,
    deadline=None,
    database=None,
    phases=[Phase.explicit, Phase.generate, Phase.shrink],
    suppress_health_check=list(HealthCheck),
)

# Hypothesis likes small numbers: of microseconds they would be too small.
_lengths = st.builds(
    lambda hours, more: hours * HOUR + more,
    st.sampled_from([0, 1, 7, 12, 25, 3 * 24, 7 * 24]),
    st.integers(0, HOUR),
)
Step = tuple[str, int]
# Chance seldom goes the whole way from the last money to the deletion.
_DOWNFALL: list[Step] = [("later", days * DAY) for days in (2, 4, 8, 8)]
# It ends before the moment from which it was to be charged for more.
_SETBACK: list[Step] = [("pass", 2 * HOUR), ("measure", 100 * GB), ("back", HOUR)]
_steps = st.lists(
    st.one_of(
        st.tuples(st.just("pass"), _lengths),
        st.tuples(st.just("back"), st.integers(0, 30 * HOUR)),
        st.tuples(st.just("accrue"), st.integers(1, 3)),
        *[st.tuples(st.just("later"), _lengths)] * 3,
        st.tuples(st.just("resize"), st.integers(1, 100)),
        st.tuples(st.just("measure"), st.integers(0, 150 * GB)),
        st.tuples(st.just("give"), st.integers(1, 2_000_000)),
        # A new price: how many µs from now.
        st.tuples(st.just("price"), st.integers(-2 * DAY, 2 * DAY)),
    ),
    min_size=8,
    max_size=25,
)


def _now(ledger: Ledger) -> int:
    (now,) = ledger.fetch_one("select billing.now()")
    return _micros(now)


def _micros(at: datetime) -> int:
    return int(at.timestamp()) * SECOND + at.microsecond


def _prices(ledger: Ledger) -> dict[int, int]:
    rows = ledger.fetch(
        "select effective_at, price_micros from billing.prices where plan_id = 'free' and sku = %s",
        _SKU,
    )
    return {_micros(at): price for at, price in rows}


def _set_price(ledger: Ledger, model: Model, offset: int, price: int) -> None:
    effective = model.now + offset
    while effective in model.prices:
        effective += 1
    ledger.run(
        "insert into billing.prices (plan_id, sku, unit, price_micros, effective_at)"
        " values ('free', %s, 'gb_month', %s, timestamptz 'epoch' + %s * interval '1 us')",
        *(_SKU, price, effective),
    )
    model.prices[effective] = price


def _move(ledger: Ledger, model: Model, microseconds: int) -> None:
    ledger.move_pinned_clock(microseconds)
    model.now += microseconds


def _agree(ledger: Ledger, customer: Customer, storage_id: str, model: Model) -> None:
    (found,) = ledger.fetch(
        "select s.status::text, w.settled_micros, w.held_micros, h.captured_micros"
        " from billing.storage as s"
        " inner join billing.holds as h on h.id = s.id"
        " inner join billing.wallets as w on w.organization_id = s.organization_id"
        " where s.id = %s",
        storage_id,
    )
    assert found == (model.status, model.settled, model.held, model.captured)
    assert model.captured <= model.cost(max(model.now, model.captured_until))
    assert 0 <= model.held <= model.settled


def test_accrual_charges_what_the_model_does(ledger: Ledger) -> None:
    ledger.pin_clock()
    seen: set[str] = set()

    @_few
    @example(gb=100, included=0, price=1_500_000, prices=[], steps=_DOWNFALL)
    @example(gb=1, included=0, price=20_000, prices=[], steps=_SETBACK)
    @given(
        gb=st.integers(1, 100),
        included=st.sampled_from([0, 0, 5, 100]),
        price=st.sampled_from([20_000, 20_000, 500_000, 1_500_000]),
        prices=st.lists(st.integers(0, 3_000_000), min_size=25, max_size=25),
        steps=_steps,
    )
    def check(gb: int, included: int, price: int, prices: list[int], steps: list[Step]) -> None:
        ledger.move_pinned_clock(30 * DAY)
        ledger.run(
            "insert into billing.prices (plan_id, sku, unit, price_micros, effective_at)"
            " values ('free', %s, 'gb_month', %s, billing.now())",
            *(_SKU, price),
        )
        customer = ledger.register()
        storage = Storage(ledger, customer)
        model = Model(_prices(ledger), _now(ledger), REGISTRATION_BONUS, gb, included)
        storage_id = open_storage(ledger.owner, customer.id, size_gb=gb, included_gb=included)
        make_ready(ledger.owner, customer.id, storage_id)
        model.start()

        def accrue(times: int) -> None:
            for _ in range(times):
                ledger.call_one("accrue_storage", limit=10)
                model.accrue()

        def later(by: int) -> None:
            _move(ledger, model, by)
            accrue(1)

        def resize(size_gb: int) -> None:
            storage.grow(storage_id, size_gb)
            model.resize(size_gb)

        def measure(used: int) -> None:
            ledger.run("update billing.storage set used_bytes = %s where id = %s", used, storage_id)
            ledger.run(
                "select billing.enter_storage_period(%s, %s, billing.now())",
                *(customer.id, storage_id),
            )
            model.measure(used)

        def give(micros: int) -> None:
            ledger.run(
                "select billing.credit_wallet("
                "%s, %s, 'promotional', 'promotion', 'promotion', null)",
                *(customer.id, micros),
            )
            model.settled += micros

        actions: dict[str, Callable[[int], None]] = {
            "pass": lambda by: _move(ledger, model, by),
            "later": later,
            "back": lambda by: _move(ledger, model, -by),
            "accrue": accrue,
            "resize": resize,
            "measure": measure,
            "give": give,
            "price": lambda offset: _set_price(ledger, model, offset, prices.pop()),
        }
        for name, argument in steps:
            actions[name](argument)
            _agree(ledger, customer, storage_id, model)
            seen.add(model.status)
            if model.status == "deleting":
                return
        storage.end(storage_id)
        model.end()
        _agree(ledger, customer, storage_id, model)

    check()
    assert seen == {"ready", "grace", "read_only", "deletion_notice", "deleting"}


def test_looking_often_or_once_costs_the_same(ledger: Ledger) -> None:
    ledger.pin_clock()

    @_few
    @given(moments=st.lists(st.integers(0, 60 * DAY), max_size=12), gb=st.integers(1, 100))
    def check(moments: list[int], gb: int) -> None:
        customer = ledger.register()
        storage = Storage(ledger, customer)
        storage_id = storage.rent(gb)
        now = 0
        for moment in [*sorted(moments), 60 * DAY]:
            ledger.move_pinned_clock(moment - now)
            now = moment
            storage.settle(storage_id)
        storage.end(storage_id)
        spent = REGISTRATION_BONUS - ledger.wallet(customer)["settled_micros"]
        assert spent == (gb * 20_000 * 60 * 24 * 2 + 730) // (2 * 730)

    check()
