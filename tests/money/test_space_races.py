"""Many buyers, refunds and clones at once: as if they had queued."""

from collections import Counter
from collections.abc import Callable
from functools import partial

from tests.money.ledger import DOLLAR, Customer, Ledger, RefusedError, Row, new_key
from tests.money.storage import Storage


def _buy(ledger: Ledger, customer: Customer, slug: str) -> Row:
    return ledger.call_one(
        "buy_space", caller=customer.caller, slug=slug, idempotency_key=new_key()
    )


def _refund(ledger: Ledger, operator: Customer, customer: Customer, purchase_id: str) -> Row:
    return ledger.call_one(
        "refund_purchase",
        caller=operator.caller,
        purchase_id=purchase_id,
        organization_id=customer.id,
        reason="by mistake",
        idempotency_key=new_key(),
    )


def _clone(ledger: Ledger, customer: Customer) -> Row:
    return ledger.call_one(
        "clone_space",
        caller=customer.caller,
        slug="web-dev",
        workspace_id=None,
        region=None,
        name=None,
        idempotency_key=new_key(),
    )


def _make_cloneable(ledger: Ledger, operator: Customer) -> str:
    source_id = Storage(ledger, operator).rent(20)
    ledger.call_one(
        "set_space_source",
        caller=operator.caller,
        slug="web-dev",
        storage_id=source_id,
        is_cloneable=True,
        idempotency_key=new_key(),
    )
    return source_id


def _start(ledger: Ledger, customer: Customer, storage_id: str) -> None:
    """Have the cloud make a bucket, if it is still wanted."""
    with ledger.owner.transaction():
        ledger.run("select billing.lock_storage(%s, %s)", customer.id, storage_id)
        ledger.run(
            "select billing.start_storage(s.organization_id, s.id) from billing.storage as s"
            " where s.organization_id = %s and s.id = %s and s.status = 'requested'",
            customer.id,
            storage_id,
        )


def _end(ledger: Ledger, customer: Customer, storage_id: str) -> None:
    Storage(ledger, customer).end(storage_id)


def _codes(results: list[Row | RefusedError]) -> Counter[str]:
    return Counter(r.code if isinstance(r, RefusedError) else "done" for r in results)


def test_twenty_buyers_of_one_organization_buy_once(ledger: Ledger) -> None:
    customer = ledger.register()
    results = ledger.race([partial(_buy, customer=customer, slug="web-dev")] * 20)
    assert _codes(results) == {"done": 1, "space_owned": 19}
    assert ledger.wallet(customer)["settled_micros"] == 3 * DOLLAR


def test_money_for_one_space_buys_one(ledger: Ledger) -> None:
    customer = ledger.register()
    slugs = ["web-dev", "research", "data-science", "ml-ready"] * 5
    results = ledger.race([partial(_buy, customer=customer, slug=slug) for slug in slugs])
    settled = ledger.wallet(customer)["settled_micros"]
    bought = [r["purchase"]["price_micros"] for r in results if not isinstance(r, RefusedError)]
    assert settled == 5 * DOLLAR - sum(bought) >= 0
    assert set(_codes(results)) <= {"done", "space_owned", "insufficient_credits"}
    assert bought


def test_twenty_refunds_give_back_once(ledger: Ledger) -> None:
    customer, operator = ledger.register(), ledger.create_operator()
    purchase_id = _buy(ledger, customer, "ml-ready")["purchase"]["id"]
    refund = partial(_refund, operator=operator, customer=customer, purchase_id=purchase_id)
    assert _codes(ledger.race([refund] * 20)) == {"done": 1, "purchase_refunded": 19}
    assert ledger.wallet(customer)["settled_micros"] == 5 * DOLLAR


def test_a_purchase_is_cloned_or_given_back(ledger: Ledger) -> None:
    operator = ledger.create_operator()
    _make_cloneable(ledger, operator)
    for _ in range(8):
        customer = ledger.register()
        purchase_id = _buy(ledger, customer, "web-dev")["purchase"]["id"]
        refund = partial(_refund, operator=operator, customer=customer, purchase_id=purchase_id)
        jobs: list[Callable[[Ledger], Row]] = [partial(_clone, customer=customer), refund] * 2
        codes = _codes(ledger.race(jobs))
        assert codes in (
            {"done": 1, "purchase_cloned": 3},
            {"done": 1, "space_not_owned": 2, "purchase_refunded": 1},
        )


def test_a_clone_beside_the_deletion_of_its_bucket_and_of_the_source(ledger: Ledger) -> None:
    operator = ledger.create_operator()
    for _ in range(6):
        source_id = _make_cloneable(ledger, operator)
        customer = ledger.register()
        _buy(ledger, customer, "web-dev")
        clone = _clone(ledger, customer)["clone"]
        delete = partial(
            Ledger.call_one,
            function="delete_storage",
            caller=customer.caller,
            storage_id=clone["storage_id"],
        )
        jobs: list[Callable[[Ledger], Row | None]] = [
            partial(_start, customer=customer, storage_id=clone["storage_id"]),
            delete,
            partial(_end, customer=operator, storage_id=source_id),
            partial(_clone, customer=customer),
        ]
        ledger.race(jobs)
        # Whoever was first: what lives has its bucket, and what ended holds nothing.
        for status, ended_at, storage in ledger.fetch(
            "select c.status, c.ended_at, s.status from billing.clones as c"
            " inner join billing.storage as s"
            " on s.organization_id = c.organization_id and s.id = c.storage_id"
            " where c.organization_id = %s",
            customer.id,
        ):
            is_over = storage in ("deleting", "deleted", "failed")
            assert (ended_at is not None) == is_over
            assert status in (("failed", "done") if is_over else ("requested", "copying"))
