"""Storage is charged to the cent, by whoever comes first, and goes step by step when unpaid."""

from collections.abc import Callable
from functools import partial

import pytest

from tests.harness.storage import make_ready, open_storage
from tests.money.ledger import DOLLAR, REGISTRATION_BONUS, Customer, Ledger, Row, new_key
from tests.money.storage import Storage

HOUR = 3_600
DAY = 24 * HOUR
MONTH = 730 * HOUR


def _accrue(ledger: Ledger) -> Row:
    return ledger.call_one("accrue_storage", limit=100)


def _storage(ledger: Ledger, storage_id: str) -> Row:
    query = "select to_jsonb(s) from api.storage as s where s.id = %s"
    (row,) = ledger.fetch_one(query, storage_id)
    assert isinstance(row, dict)
    return row


def _rent(ledger: Ledger, customer: Customer, size_gb: int, included_gb: int = 0) -> str:
    storage_id = open_storage(ledger.owner, customer.id, size_gb=size_gb, included_gb=included_gb)
    make_ready(ledger.owner, customer.id, storage_id)
    return storage_id


def _move(ledger: Ledger, seconds: int) -> None:
    ledger.move_pinned_clock(seconds * 1_000_000)


def _resize(customer: Customer, storage_id: str, size_gb: int) -> Callable[[Ledger], Row]:
    return lambda ledger: ledger.call_one(
        "resize_storage",
        caller=customer.caller,
        storage_id=storage_id,
        size_gb=size_gb,
        idempotency_key=new_key(),
    )


def _delete(customer: Customer, storage_id: str) -> Callable[[Ledger], Row]:
    return lambda ledger: ledger.call_one(
        "delete_storage", caller=customer.caller, storage_id=storage_id
    )


def _told(ledger: Ledger, customer: Customer) -> list[str]:
    rows = ledger.call("list_notifications", caller=customer.caller, limit=100, cursor=None)
    return [row["kind"].removeprefix("storage_") for row in reversed(rows)]


@pytest.mark.parametrize("runs", [1, 7, 730])
def test_a_month_costs_what_the_price_list_says(ledger: Ledger, runs: int) -> None:
    ledger.pin_clock()
    customer = ledger.register()
    storage_id = _rent(ledger, customer, 100)
    for done in range(runs):
        _move(ledger, MONTH * (done + 1) // runs - MONTH * done // runs)
        _accrue(ledger)
    Storage(ledger, customer).settle(storage_id)
    storage = _storage(ledger, storage_id)
    assert (storage["status"], storage["cost_micros"]) == ("ready", 2 * DOLLAR)
    spent = REGISTRATION_BONUS - ledger.wallet(customer)["settled_micros"]
    assert storage["charged_micros"] == spent == 2 * DOLLAR


def test_what_is_included_costs_nothing(ledger: Ledger) -> None:
    ledger.pin_clock()
    customer = ledger.register()
    storage_id = _rent(ledger, customer, 5, included_gb=5)
    assert ledger.wallet(customer)["held_micros"] == 0
    _move(ledger, MONTH)
    _accrue(ledger)
    assert ledger.wallet(customer)["settled_micros"] == REGISTRATION_BONUS
    assert _storage(ledger, storage_id)["status"] == "ready"
    _resize(customer, storage_id, 15)(ledger)
    _move(ledger, MONTH)
    _accrue(ledger)
    assert ledger.wallet(customer)["settled_micros"] == REGISTRATION_BONUS - 200_000


def test_what_is_used_beyond_the_size_is_charged(ledger: Ledger) -> None:
    ledger.pin_clock()
    customer = ledger.register()
    storage_id = _rent(ledger, customer, 10)
    ledger.run("update billing.storage set used_bytes = %s", 20 * 2**30 - 5)
    _accrue(ledger)
    Storage(ledger, customer).settle(storage_id)
    _move(ledger, MONTH)
    _accrue(ledger)
    assert _storage(ledger, storage_id)["charged_micros"] == 400_000


def test_a_new_price_counts_from_its_own_moment(ledger: Ledger) -> None:
    ledger.pin_clock()
    customer = ledger.register()
    storage_id = _rent(ledger, customer, 100)
    ledger.run(
        "insert into billing.prices (plan_id, sku, unit, price_micros, effective_at)"
        " values ('free', 'storage.bucket', 'gb_month', 40000,"
        " billing.now() + interval '365 hours')"
    )
    _move(ledger, MONTH)
    _accrue(ledger)
    assert _storage(ledger, storage_id)["charged_micros"] == 3 * DOLLAR


def test_a_plan_without_a_price_keeps_the_last(ledger: Ledger) -> None:
    ledger.pin_clock()
    customer = ledger.register()
    storage_id = _rent(ledger, customer, 100)
    ledger.run("insert into billing.plans (id, allowed_tiers) values ('odd', '{}')")
    ledger.run("update billing.organizations set plan_id = 'odd' where id = %s", customer.id)
    _move(ledger, MONTH)
    _accrue(ledger)
    assert _storage(ledger, storage_id)["charged_micros"] == 2 * DOLLAR


def test_what_the_cloud_does_not_make_within_the_hour_has_failed(ledger: Ledger) -> None:
    ledger.pin_clock()
    customer = ledger.register()
    storage_id = Storage(ledger, customer).ask(100)
    assert ledger.wallet(customer)["held_micros"] == 65_753
    _move(ledger, HOUR - 1)
    assert _accrue(ledger)["accrued"] == 0
    _move(ledger, 1)
    assert _accrue(ledger)["accrued"] == 1
    storage = _storage(ledger, storage_id)
    assert (storage["status"], storage["failure"]) == ("failed", "timed_out")
    assert ledger.wallet(customer)["held_micros"] == 0


def _unpaid(ledger: Ledger) -> tuple[Customer, str]:
    """Rent for $4.80 a day what $5 pay for, and let the money end."""
    ledger.pin_clock()
    ledger.run(
        "insert into billing.prices (plan_id, sku, unit, price_micros, effective_at)"
        " values ('free', 'storage.bucket', 'gb_month', 1460000, billing.now())"
    )
    customer = ledger.register()
    storage_id = _rent(ledger, customer, 100)
    _move(ledger, 25 * HOUR)
    _accrue(ledger)
    assert _storage(ledger, storage_id)["status"] == "ready"
    _move(ledger, HOUR)
    _accrue(ledger)
    return customer, storage_id


def test_every_step_is_told_and_takes_its_time(ledger: Ledger) -> None:
    customer, storage_id = _unpaid(ledger)
    for status, days in (("grace", 3), ("read_only", 7), ("deletion_notice", 7)):
        storage = _storage(ledger, storage_id)
        assert storage["status"] == status
        (until,) = ledger.fetch_one(
            "select extract(epoch from n.until - billing.now()) from api.notifications as n"
            " where n.storage_id = %s order by n.id desc limit 1",
            storage_id,
        )
        assert until == days * DAY
        _move(ledger, days * DAY - 1)
        _accrue(ledger)
        assert _storage(ledger, storage_id)["status"] == status
        _move(ledger, HOUR)
        _accrue(ledger)
    storage = _storage(ledger, storage_id)
    assert (storage["status"], storage["failure"]) == ("deleting", "unpaid")
    # What it cost beyond the $5 is nobody's debt.
    assert storage["cost_micros"] == storage["charged_micros"] == REGISTRATION_BONUS
    assert storage["unpaid_micros"] == 0
    wallet = ledger.wallet(customer)
    assert [wallet[f"{name}_micros"] for name in ("settled", "held", "debt")] == [0, 0, 0]
    steps = ["ready", "grace", "read_only", "deletion_notice", "deleting"]
    assert _told(ledger, customer) == steps
    _move(ledger, DAY)
    assert _accrue(ledger)["accrued"] == 0


def test_a_cron_that_was_away_shortens_nobodys_notice(ledger: Ledger) -> None:
    _, storage_id = _unpaid(ledger)
    for status in ("grace", "read_only", "deletion_notice"):
        assert _storage(ledger, storage_id)["status"] == status
        _move(ledger, 365 * DAY)
        for _ in range(3):
            _accrue(ledger)
    assert _storage(ledger, storage_id)["status"] == "deleting"


@pytest.mark.parametrize("status", ["grace", "read_only", "deletion_notice"])
def test_money_for_what_is_owed_and_a_day_ahead_brings_it_back(ledger: Ledger, status: str) -> None:
    customer, storage_id = _unpaid(ledger)
    while _storage(ledger, storage_id)["status"] != status:
        _move(ledger, DAY)
        _accrue(ledger)
    unpaid = _storage(ledger, storage_id)["unpaid_micros"]
    needed = unpaid + 4_800_000

    def give(micros: int) -> None:
        ledger.run(
            "select billing.credit_wallet(%s, %s, 'promotional', 'promotion', 'promotion', null)",
            *(customer.id, micros),
        )
        Storage(ledger, customer).settle(storage_id)

    give(needed - 1)
    storage = _storage(ledger, storage_id)
    assert (storage["status"], storage["unpaid_micros"]) == (status, 0)
    give(1)
    storage = _storage(ledger, storage_id)
    assert (storage["status"], storage["held_micros"]) == ("ready", 4_800_000)
    assert storage["charged_micros"] == REGISTRATION_BONUS + unpaid
    assert _told(ledger, customer)[-1] == "ready"


def test_a_frozen_organization_pays_from_its_hold_alone(ledger: Ledger) -> None:
    ledger.pin_clock()
    customer = ledger.register()
    storage_id = _rent(ledger, customer, 100)
    # All else is held elsewhere: a debt takes what it finds.
    ledger.open_hold(customer, REGISTRATION_BONUS - 65_753, 7 * DAY)
    ledger.run("update billing.wallets set debt_micros = 1 where organization_id = %s", customer.id)
    _move(ledger, 25 * HOUR)
    _accrue(ledger)
    storage = _storage(ledger, storage_id)
    assert (storage["status"], storage["charged_micros"]) == ("grace", 65_753)
    ledger.run("update billing.wallets set debt_micros = 0 where organization_id = %s", customer.id)


def test_accruals_at_once_charge_once(ledger: Ledger) -> None:
    customers = [ledger.register() for _ in range(20)]
    for customer in customers:
        for _ in range(2):
            _rent(ledger, customer, 10)
    ledger.advance(13 * HOUR)
    jobs: list[Callable[[Ledger], Row]] = [
        lambda own: own.call_one("accrue_storage", limit=3) for _ in range(40)
    ]
    results = ledger.race(jobs, threads=8)
    assert sum(result["accrued"] for result in results if isinstance(result, dict)) == 40
    charges = ledger.fetch(
        "select count(*) from billing.transfers where reason = 'storage' group by organization_id"
    )
    assert charges == [(2,)] * 20


@pytest.mark.parametrize("seed", range(3))
def test_accrual_beside_resizes_and_deletions_charges_each_second_once(
    ledger: Ledger, seed: int
) -> None:
    customers = [ledger.register() for _ in range(12)]
    rented = [(customer, _rent(ledger, customer, 10)) for customer in customers]
    ledger.advance(13 * HOUR + seed)
    jobs: list[Callable[[Ledger], Row]] = []
    for customer, storage_id in rented:
        jobs += [
            _resize(customer, storage_id, 50),
            partial(Ledger.call_one, function="accrue_storage", limit=2),
            _resize(customer, storage_id, 20),
            _delete(customer, storage_id),
            _delete(customer, storage_id),
        ]
    ledger.race(jobs, threads=8)
    for customer, storage_id in rented:
        storage = _storage(ledger, storage_id)
        # Thirteen hours at the first size; the rest within the race.
        assert storage["status"] == "deleting"
        assert 3_561 <= storage["charged_micros"] < 3_600
        assert ledger.wallet(customer)["held_micros"] == 0


def test_twenty_renters_at_once_get_what_the_plan_allows(ledger: Ledger) -> None:
    customer = ledger.register()
    rent = partial(
        Ledger.call_one,
        function="create_storage",
        caller=customer.caller,
        kind="bucket",
        region=None,
        size_gb=1,
        name=None,
        workspace_id=None,
        soft_delete_days=None,
        delete_after_days=None,
    )
    rents = [partial(rent, idempotency_key=new_key()) for _ in range(20)]
    results = ledger.race(rents, threads=10)
    assert sum(isinstance(result, dict) for result in results) == 5
