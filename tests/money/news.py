"""What Stripe tells of money that goes back."""

from uuid import uuid4

from tests.money.ledger import Row
from tests.money.purse import Reversal

_CENT = 10_000
_CREATED = 1_800_000_000


def reversal_event(top_up_id: str, reversal: Reversal) -> Row:
    """Make the notification about a refund, a refunded charge or a dispute of a payment."""
    cents = reversal.micros // _CENT
    subject: Row = {
        "id": reversal.id,
        "payment_intent": f"pi_{top_up_id}",
        "amount": cents,
        "currency": "usd",
    }
    if reversal.kind == "refund":
        kind = "refund.failed" if reversal.is_undone else "refund.created"
        status = "failed" if reversal.is_undone else "succeeded"
        subject |= {"object": "refund", "status": status}
    elif reversal.kind == "total":
        kind = "charge.refunded"
        subject |= {"object": "charge", "status": "succeeded", "amount_refunded": cents}
    else:
        kind = f"charge.dispute.{'closed' if reversal.version else 'created'}"
        status = "won" if reversal.is_undone else "lost" if reversal.version else "needs_response"
        movements = [{"amount": -cents, "fee": 1500, "currency": "usd"}]
        if reversal.is_undone:
            fee_back = reversal.fees // _CENT - 1500
            movements.append({"amount": cents, "fee": fee_back, "currency": "usd"})
        subject |= {"object": "dispute", "status": status, "balance_transactions": movements}
    return {
        "id": f"evt_{uuid4().hex}",
        "type": kind,
        "created": _CREATED,
        "livemode": False,
        "data": {"object": subject},
    }
