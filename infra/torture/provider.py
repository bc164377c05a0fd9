"""Stripe's side: what was paid, what went back of it, and what it tells of both."""

import json
from dataclasses import dataclass, field
from random import Random
from time import time
from typing import Any
from uuid import uuid4

from infra.local.cloud.stripe_webhooks import sign

CENT = 10_000
Event = dict[str, Any]


@dataclass
class Payment:
    """A paid top-up."""

    organization_id: str
    top_up_id: str
    micros: int
    refunds: list[int] = field(default_factory=list)
    disputed: int = 0
    is_disputed: bool = False

    @property
    def returned(self) -> tuple[int, int]:
        """What went back in the end: by refunds, by a dispute."""
        refunded = min(sum(self.refunds), self.micros)
        return refunded, min(self.disputed, self.micros - refunded)

    def paid(self) -> Event:
        """Tell that it was paid."""
        return self._checkout("completed", "paid")

    def noise(self, random: Random) -> Event:
        """Tell something that changes nothing in the end."""
        kind = random.choice(("completed", "expired", "async_payment_failed"))
        return self._checkout(kind, "unpaid")

    def refund(self, micros: int, random: Random) -> list[Event]:
        """Give some back; one in four refunds fails afterwards."""
        subject = {
            "object": "refund",
            "id": f"re_{uuid4().hex}",
            "amount": micros // CENT,
            "status": "succeeded",
        }
        events = [self._event("refund.created", subject)]
        if random.random() < 0.25:
            events.append(self._event("refund.failed", {**subject, "status": "failed"}))
        else:
            self.refunds.append(micros)
        return events

    def dispute(self, random: Random) -> list[Event]:
        """Let the bank take it all; half of the disputes are won."""
        self.is_disputed = True
        cents = self.micros // CENT
        taken = {"amount": -cents, "fee": 1500, "currency": "usd"}
        subject = {
            "object": "dispute",
            "id": f"dp_{self.top_up_id}",
            "amount": cents,
            "status": "needs_response",
            "balance_transactions": [taken],
        }
        events = [self._event("charge.dispute.created", subject)]
        if random.random() < 0.5:
            back = {"amount": cents, "fee": 0, "currency": "usd"}
            won = {**subject, "status": "won", "balance_transactions": [taken, back]}
            events.append(self._event("charge.dispute.closed", won))
        else:
            self.disputed = self.micros
        return events

    def _checkout(self, kind: str, status: str) -> Event:
        subject = {
            "object": "checkout.session",
            "id": f"cs_{self.top_up_id}",
            "client_reference_id": self.top_up_id,
            "metadata": {"organization_id": self.organization_id},
            "payment_status": status,
            "amount_total": self.micros // CENT,
        }
        return self._event(f"checkout.session.{kind}", subject)

    def _event(self, kind: str, subject: Event) -> Event:
        return {
            "id": f"evt_{uuid4().hex}",
            "object": "event",
            "type": kind,
            "created": int(time()),
            "livemode": False,
            "data": {
                "object": {
                    **subject,
                    "payment_intent": f"pi_{self.top_up_id}",
                    "currency": "usd",
                }
            },
        }


def signed(event: Event, secret: str) -> tuple[bytes, dict[str, str]]:
    """Write an event as it is delivered: its body and its headers."""
    body = json.dumps(event).encode()
    return body, {"Stripe-Signature": sign(body, secret, int(time()))}
