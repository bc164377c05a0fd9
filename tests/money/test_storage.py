"""Storage costs GB × exact duration × price, whenever and however often accrual looks."""

from tests.money.ledger import REGISTRATION_BONUS, Ledger, Row
from tests.money.storage import Storage

HOUR = 3_600
MONTH = 730 * HOUR


def _accrue(ledger: Ledger) -> Row:
    return ledger.call_one("accrue_storage", limit=100)


def _storage(ledger: Ledger, storage_id: str) -> Row:
    query = "select to_jsonb(s) from api.storage as s where s.id = %s"
    (row,) = ledger.fetch_one(query, storage_id)
    assert isinstance(row, dict)
    return row


def test_a_month_costs_what_the_price_list_says(ledger: Ledger) -> None:
    ledger.pin_clock()
    customer = ledger.register()
    storage_id = Storage(ledger, customer).rent(100)
    for _ in range(730):
        ledger.move_pinned_clock(HOUR * 1_000_000)
        _accrue(ledger)
    storage = _storage(ledger, storage_id)
    assert (storage["status"], storage["cost_micros"]) == ("ready", 2_000_000)
    spent = REGISTRATION_BONUS - ledger.wallet(customer)["settled_micros"]
    assert storage["charged_micros"] == spent
