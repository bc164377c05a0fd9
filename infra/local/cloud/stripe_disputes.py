"""Disputes: the customer's bank takes the money back, or at first only asks."""

from time import time

from infra.local.cloud.store import Document
from infra.local.cloud.stripe_api import Api
from infra.local.cloud.stripe_charges import Charges
from infra.local.cloud.stripe_objects import (
    StripeError,
    accept,
    boolean,
    identifier,
    integer,
    one_of,
)
from infra.local.cloud.stripe_records import Records

_FEE_CENTS = 1500
_SECONDS_TO_RESPOND = 9 * 24 * 3600
_OUTCOMES = {
    "needs_response": ("won", "lost"),
    "warning_needs_response": ("escalated", "warning_closed"),
}


class Disputes:
    """Opens and ends disputes, as banks do."""

    def __init__(self, api: Api, records: Records, charges: Charges) -> None:
        self._records, self._charges = records, charges
        api.control("/_disputes", self.open)
        api.control("/_disputes/{dispute_id}", self.end)

    def open(self, parameters: Document) -> Document:
        """POST /_disputes: of a payment, all or an amount; `inquiry`: the bank only asks."""
        known = ("amount", "fee", "inquiry", "payment_intent", "reason")
        accept(parameters, known, ("payment_intent",))
        inquiry, fee = boolean(parameters, "inquiry"), _fee(parameters)
        charge = self._charge(parameters["payment_intent"])
        amount = integer("amount", parameters.get("amount", charge["amount"]), 1, charge["amount"])
        dispute = _dispute(charge, amount, parameters.get("reason", "fraudulent"))
        self._records.save(charge, disputed=True)
        if inquiry:
            self._records.save(dispute, is_charge_refundable=True, status="warning_needs_response")
        else:
            self._move(dispute, -amount, fee)
        self._records.tell("charge.dispute.created", dispute)
        if not inquiry:
            self._records.tell("charge.dispute.funds_withdrawn", dispute)
        return dispute

    def end(self, parameters: Document, dispute_id: str) -> Document:
        """POST /_disputes/{id}: won or lost; of an inquiry: escalated or warning_closed."""
        accept(parameters, ("fee", "fee_returned", "outcome"), ("outcome",))
        dispute = self._records.find("dispute", dispute_id)
        outcome = one_of(parameters, "outcome", _OUTCOMES.get(dispute["status"], ()))
        fee, fee_returned = _fee(parameters), boolean(parameters, "fee_returned")
        if outcome == "escalated":
            self._records.save(dispute, is_charge_refundable=False, status="needs_response")
            self._move(dispute, -dispute["amount"], fee)
            self._records.tell("charge.dispute.updated", dispute)
            self._records.tell("charge.dispute.funds_withdrawn", dispute)
            return dispute
        self._records.save(dispute, status=outcome)
        if outcome == "won":
            (withdrawal,) = dispute["balance_transactions"]
            self._move(dispute, dispute["amount"], -withdrawal["fee"] if fee_returned else 0)
        self._records.tell("charge.dispute.closed", dispute)
        if outcome == "won":
            self._records.tell("charge.dispute.funds_reinstated", dispute)
        return dispute

    def _charge(self, intent_id: str) -> Document:
        intent = self._records.find("payment_intent", intent_id, "payment_intent")
        if intent["status"] != "succeeded":
            raise StripeError(400, "Nobody disputes what nobody paid.", param="payment_intent")
        return self._records.find("charge", intent["latest_charge"])

    def _move(self, dispute: Document, amount: int, fee: int) -> None:
        """Take the money from the account's balance, or give it back."""
        entry = self._charges.enter(dispute, "adjustment", amount, fee)
        entries = [*dispute["balance_transactions"], entry]
        self._records.save(dispute, balance_transactions=entries)


def _fee(parameters: Document) -> int:
    return integer("fee", parameters.get("fee", _FEE_CENTS), 0)


def _dispute(charge: Document, amount: int, reason: str) -> Document:
    now = int(time())
    details = charge["payment_method_details"]
    return {
        "id": identifier("dp"),
        "object": "dispute",
        "amount": amount,
        "balance_transactions": [],
        "charge": charge["id"],
        "created": now,
        "currency": charge["currency"],
        "enhanced_eligibility_types": [],
        "evidence": {},
        "evidence_details": {
            "due_by": now + _SECONDS_TO_RESPOND,
            "has_evidence": False,
            "past_due": False,
            "submission_count": 0,
        },
        "is_charge_refundable": False,
        "livemode": False,
        "metadata": {},
        "payment_intent": charge["payment_intent"],
        "payment_method_details": {"type": details["type"]},
        "reason": reason,
        "status": "needs_response",
    }
