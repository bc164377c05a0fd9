"""Payments: Stripe's Payment Intents, from the wish to the money."""

from time import time

from infra.local.cloud.store import Document
from infra.local.cloud.stripe_charges import Charges
from infra.local.cloud.stripe_objects import identifier, metadata
from infra.local.cloud.stripe_records import Records


class Payments:
    """Makes payments and lets them succeed or fail, whoever tries."""

    def __init__(self, records: Records, charges: Charges) -> None:
        self._records, self._charges = records, charges

    def open(self, amount: int, currency: str, details: Document) -> Document:
        """Make a payment that nobody has tried yet."""
        intent = self._records.save(_payment_intent(amount, currency, details))
        self._records.tell("payment_intent.created", intent)
        return intent

    def process(self, intent: Document, method: Document) -> None:
        """Let money set out that takes days to arrive."""
        charge = self._charges.start(intent, method)
        self._records.save(
            intent, status="processing", payment_method=method["id"], latest_charge=charge["id"]
        )
        self._records.tell("charge.pending", charge)
        self._records.tell("payment_intent.processing", intent)

    def settle(self, intent: Document, charge: Document) -> None:
        """Let the money arrive."""
        self._charges.succeed(charge)
        self._records.save(
            intent,
            amount_received=intent["amount"],
            last_payment_error=None,
            latest_charge=charge["id"],
            next_action=None,
            payment_method=charge["payment_method"],
            status="succeeded",
        )
        self._records.tell("payment_intent.succeeded", intent)

    def fail(self, intent: Document, charge: Document, error: Document) -> None:
        """Let the attempt fail: the payment waits for another payment method."""
        method = self._records.find("payment_method", charge["payment_method"])
        self._charges.fail(charge, error["code"], error["message"])
        self._records.save(
            intent,
            last_payment_error=error | {"charge": charge["id"], "payment_method": method},
            latest_charge=charge["id"],
            payment_method=None,
            status="requires_payment_method",
        )
        self._records.tell("payment_intent.payment_failed", intent)


def _payment_intent(amount: int, currency: str, details: Document) -> Document:
    intent_id = identifier("pi")
    return {
        "id": intent_id,
        "object": "payment_intent",
        "amount": amount,
        "amount_received": 0,
        "canceled_at": None,
        "cancellation_reason": None,
        "capture_method": "automatic_async",
        "client_secret": f"{intent_id}_secret_{identifier('x')[2:]}",
        "confirmation_method": "automatic",
        "created": int(time()),
        "currency": currency,
        "customer": details.get("customer"),
        "description": details.get("description"),
        "last_payment_error": None,
        "latest_charge": None,
        "livemode": False,
        "metadata": metadata(details),
        "next_action": None,
        "payment_method": None,
        "payment_method_types": details.get("payment_method_types") or ["card"],
        "receipt_email": details.get("receipt_email"),
        "setup_future_usage": details.get("setup_future_usage"),
        "status": "requires_payment_method",
    }
