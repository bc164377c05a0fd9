"""Refunds: they can fail long after they succeeded."""

from time import time

from infra.local.cloud.store import Document
from infra.local.cloud.stripe_api import Api
from infra.local.cloud.stripe_charges import Charges
from infra.local.cloud.stripe_currencies import show
from infra.local.cloud.stripe_objects import (
    StripeError,
    accept,
    identifier,
    integer,
    metadata,
    missing,
    one_of,
)
from infra.local.cloud.stripe_records import Records

_KNOWN = frozenset({"amount", "charge", "metadata", "payment_intent", "reason"})
_REASONS = ("duplicate", "fraudulent", "requested_by_customer")


class Refunds:
    """Gives money back, and lets the customer's bank refuse it."""

    def __init__(self, api: Api, records: Records, charges: Charges) -> None:
        self._records, self._charges = records, charges
        api.post("/v1/refunds", self.create)
        api.post("/v1/refunds/{refund_id}", self.update)
        api.control("/_refunds/{refund_id}", self.end)

    def create(self, parameters: Document) -> Document:
        """POST /v1/refunds: an amount, or all that is left."""
        accept(parameters, _KNOWN)
        if "reason" in parameters:
            one_of(parameters, "reason", _REASONS)
        charge = self._charge(parameters)
        left = self._refundable(charge)
        amount = integer("amount", parameters.get("amount", left), lowest=1)
        if amount > left:
            shown = f"({show(amount, charge['currency'])})"
            message = (
                f"Refund amount {shown} is greater than unrefunded amount on charge"
                f" ({show(left, charge['currency'])})"
            )
            raise StripeError(400, message, param="amount", executed=True)
        refund = _refund(charge, amount, parameters)
        entry = self._charges.enter(refund, "refund", -amount)
        self._records.save(refund, balance_transaction=entry["id"])
        self._count(charge, amount)
        self._records.tell("refund.created", refund)
        self._records.tell("charge.refunded", charge)
        return refund

    def update(self, parameters: Document, refund_id: str) -> Document:
        """POST /v1/refunds/{id}: other metadata."""
        accept(parameters, ("metadata",))
        refund = self._records.find("refund", refund_id)
        self._records.save(refund, metadata=metadata(parameters, refund["metadata"]))
        self._tell_update(refund)
        return refund

    def end(self, parameters: Document, refund_id: str) -> Document:
        """POST /_refunds/{id}: the bank takes a pending refund, or sends back any."""
        accept(parameters, ("failure_reason", "outcome"), ("outcome",))
        outcome = one_of(parameters, "outcome", ("succeeded", "failed"))
        refund = self._records.find("refund", refund_id)
        possible = ("pending",) if outcome == "succeeded" else ("pending", "succeeded")
        if refund["status"] not in possible:
            raise StripeError(400, f"This refund has {refund['status']} already.")
        if outcome == "failed":
            self._fail(refund, parameters.get("failure_reason", "expired_or_canceled_card"))
        else:
            self._records.save(refund, pending_reason=None, status="succeeded")
        self._tell_update(refund)
        return refund

    def _fail(self, refund: Document, reason: str) -> None:
        entry = self._charges.enter(refund, "refund_failure", refund["amount"])
        self._records.save(
            refund,
            failure_balance_transaction=entry["id"],
            failure_reason=reason,
            pending_reason=None,
            status="failed",
        )
        self._count(self._records.find("charge", refund["charge"]), -refund["amount"])
        self._records.tell("refund.failed", refund)

    def _count(self, charge: Document, amount: int) -> None:
        refunded = charge["amount_refunded"] + amount
        self._records.save(charge, amount_refunded=refunded, refunded=refunded == charge["amount"])

    def _tell_update(self, refund: Document) -> None:
        self._records.tell("refund.updated", refund)
        self._records.tell("charge.refund.updated", refund)

    def _charge(self, parameters: Document) -> Document:
        """Find what was paid."""
        if "charge" in parameters:
            charge = self._records.find("charge", parameters["charge"], "charge")
        elif "payment_intent" in parameters:
            intent_id = parameters["payment_intent"]
            intent = self._records.find("payment_intent", intent_id, "payment_intent")
            charge = self._records.by_id(intent["latest_charge"] or "") or {"status": None}
        else:
            raise missing("payment_intent")
        if charge["status"] != "succeeded":
            message = "This payment does not have a successful charge to refund."
            raise StripeError(400, message, executed=True)
        return charge

    def _refundable(self, charge: Document) -> int:
        """Tell how much of a charge is neither refunded nor taken by a dispute."""
        disputed = sum(
            dispute["amount"]
            for dispute in self._records.newest_first("dispute")
            if dispute["charge"] == charge["id"]
            and dispute["status"] in {"needs_response", "under_review", "lost"}
        )
        left = int(charge["amount"] - charge["amount_refunded"] - disputed)
        if left > 0:
            return left
        code, state = (
            ("charge_disputed", "charged back")
            if disputed
            else ("charge_already_refunded", "already been refunded")
        )
        message = f"Charge {charge['id']} has {state}."
        raise StripeError(400, message, code=code, executed=True)


def _refund(charge: Document, amount: int, parameters: Document) -> Document:
    kind = charge["payment_method_details"]["type"]
    is_card = kind == "card"
    reference = {
        "reference_status": "pending",
        "reference_type": "acquirer_reference_number",
        "type": "refund",
    }
    return {
        "id": identifier("re" if is_card else "pyr"),
        "object": "refund",
        "amount": amount,
        "balance_transaction": None,
        "charge": charge["id"],
        "created": int(time()),
        "currency": charge["currency"],
        "customer": charge["customer"],
        "destination_details": {"type": kind, kind: reference if is_card else {}},
        "metadata": metadata(parameters),
        "payment_intent": charge["payment_intent"],
        "payment_method": charge["payment_method"],
        # A bank account is credited days later.
        "pending_reason": None if is_card else "processing",
        "reason": parameters.get("reason"),
        "receipt_number": None,
        "source_transfer_reversal": None,
        "status": "succeeded" if is_card else "pending",
        "transfer_reversal": None,
    }
