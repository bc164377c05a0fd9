"""Charges: each attempt to take money, and what became of it on the account's balance."""

from time import time

from infra.local.cloud.store import Document
from infra.local.cloud.stripe_objects import identifier
from infra.local.cloud.stripe_records import Records

_DAY_SECONDS = 24 * 3600


class Charges:
    """Makes charges and ends them; keeps the balance."""

    def __init__(self, records: Records) -> None:
        self._records = records

    def start(self, intent: Document, method: Document) -> Document:
        """Make a charge whose end is open."""
        return self._records.save(_charge(intent, method))

    def succeed(self, charge: Document) -> Document:
        """Take the money."""
        fee = charge["amount"] * 29 // 1000 + 30
        entry = self.enter(charge, _entry_type(charge), charge["amount"], fee)
        self._records.save(
            charge,
            amount_captured=charge["amount"],
            balance_transaction=entry["id"],
            captured=True,
            paid=True,
            status="succeeded",
        )
        self._records.tell("charge.succeeded", charge)
        return charge

    def fail(self, charge: Document, code: str, message: str) -> None:
        """Take nothing: the customer's bank said no."""
        self._records.save(charge, status="failed", failure_code=code, failure_message=message)
        self._records.tell("charge.failed", charge)

    def enter(self, source: Document, kind: str, amount: int, fee: int = 0) -> Document:
        """Add to, or take from, the account's balance."""
        now = int(time())
        fees = {"amount": fee, "currency": source["currency"], "type": "stripe_fee"}
        entry = {
            "id": identifier("txn"),
            "object": "balance_transaction",
            "amount": amount,
            "available_on": now + 2 * _DAY_SECONDS,
            "balance_type": "payments",
            "created": now,
            # The balance is held in every currency, so nothing is converted.
            "currency": source["currency"],
            "description": source.get("description"),
            "exchange_rate": None,
            "fee": fee,
            "fee_details": [fees | {"application": None, "description": None}] if fee else [],
            "net": amount - fee,
            "reporting_category": _reporting_category(source, kind, amount),
            "source": source["id"],
            "status": "pending",
            "type": kind,
        }
        return self._records.save(entry)


def _charge(intent: Document, method: Document) -> Document:
    kind = method["type"]
    return {
        # What is not paid by card is a payment, py_, to Stripe.
        "id": identifier("ch" if kind == "card" else "py"),
        "object": "charge",
        "amount": intent["amount"],
        "amount_captured": 0,
        "amount_refunded": 0,
        "balance_transaction": None,
        "billing_details": method["billing_details"],
        "captured": False,
        "created": int(time()),
        "currency": intent["currency"],
        "customer": intent["customer"],
        "description": intent["description"],
        "disputed": False,
        "failure_code": None,
        "failure_message": None,
        "livemode": False,
        "metadata": intent["metadata"],
        "paid": False,
        "payment_intent": intent["id"],
        "payment_method": method["id"],
        "payment_method_details": {"type": kind, kind: method[kind]},
        "receipt_email": intent["receipt_email"],
        "receipt_url": None,
        "refunded": False,
        "status": "pending",
    }


def _entry_type(charge: Document) -> str:
    return "charge" if charge["payment_method_details"]["type"] == "card" else "payment"


def _reporting_category(source: Document, kind: str, amount: int) -> str:
    if source["object"] == "dispute":
        return "dispute" if amount < 0 else "dispute_reversal"
    return {"payment": "charge"}.get(kind, kind)
