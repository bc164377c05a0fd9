"""Stripe's objects as they are now, and the events that tell of them."""

from infra.local.cloud.store import Document, Store
from infra.local.cloud.stripe_objects import API_VERSION, StripeError, event
from infra.local.cloud.stripe_webhooks import Webhooks

_KINDS = {
    "ch": "charge",
    "cs": "checkout.session",
    "cus": "customer",
    "dp": "dispute",
    "evt": "event",
    "pi": "payment_intent",
    "pm": "payment_method",
    "py": "charge",
    "pyr": "refund",
    "re": "refund",
    "txn": "balance_transaction",
    "we": "webhook_endpoint",
}


class Records:
    """Finds, keeps and lists objects, and tells of their changes."""

    def __init__(self, store: Store, webhooks: Webhooks) -> None:
        self._store, self._webhooks = store, webhooks

    def find(self, kind: str, object_id: str, param: str | None = None) -> Document:
        """Find what an address (else 404) or a parameter (else 400) names."""
        found = self._store.get(kind, object_id)
        if found is None:
            message = f"No such {kind}: '{object_id}'"
            status, code = (404, "id") if param is None else (400, param)
            raise StripeError(status, message, code="resource_missing", param=code)
        return found

    def by_id(self, object_id: str) -> Document | None:
        """Find whatever has an id."""
        kind = _KINDS.get(object_id.partition("_")[0])
        return self._store.get(kind, object_id) if kind else None

    def newest_first(self, kind: str) -> list[Document]:
        """List the objects of a kind as Stripe orders them."""
        return sorted(self._store.all(kind), key=lambda each: (each["created"], each["id"]))[::-1]

    def save(self, subject: Document, **changes: object) -> Document:
        """Keep an object with its changes."""
        subject.update(changes)
        self._store.put(subject["object"], subject["id"], subject)
        return subject

    def tell(self, kind: str, subject: Document) -> None:
        """Note an event about an object as it is now; it leaves when the request is answered."""
        self._webhooks.note(event(kind, subject, API_VERSION))
