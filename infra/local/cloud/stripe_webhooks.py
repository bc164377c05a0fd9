"""How Stripe tells of events: signed, in any order, again and again until somebody says 2xx."""

import asyncio
import hashlib
import hmac
import json
import logging
from time import time

import httpx

from infra.local.cloud.store import Document, Store
from infra.local.cloud.stripe_objects import boolean

log = logging.getLogger(__name__)

# Stripe tries for three days; a laptop's developer has looked at the log by then.
_DELAYS_SECONDS = (0.5, 1, 2, 4, 8, 16, 32, 60, 120, 300)
_FIRST_ATTEMPT_SECONDS = 5


class Webhooks:
    """Delivers events to one endpoint; unfinished deliveries survive a restart.

    An event's `pending_webhooks` stays 1 until the endpoint has taken it, as with Stripe.
    """

    def __init__(self, url: str, secret: str, store: Store, http: httpx.AsyncClient) -> None:
        self._url, self._secret = url, secret
        self._store, self._http = store, http
        self._noted: list[Document] = []
        self._deliveries: set[asyncio.Task[None]] = set()

    def configure(self, parameters: Document) -> Document:
        """POST /_webhooks: whether events are delivered from now on; if not, they are lost."""
        self._store.put("webhook.endpoint", "", {"deliver": boolean(parameters, "deliver", True)})
        return self._endpoint()

    def note(self, event: Document) -> None:
        """Keep an event, and mark it for delivery."""
        self._store.put("event", event["id"], event)
        if self._endpoint()["deliver"]:
            self._store.put("webhook.delivery", event["id"], {"event": event["id"]})
            self._noted.append(event)

    async def deliver(self) -> None:
        """Send what was noted, side by side; give the first attempts a while."""
        attempts = [self._start(event) for event in self._noted]
        self._noted.clear()
        if attempts:
            await asyncio.wait(attempts, timeout=_FIRST_ATTEMPT_SECONDS)

    def resume(self) -> None:
        """Go on with what was pending when the process ended."""
        for delivery in self._store.all("webhook.delivery"):
            event = self._store.get("event", delivery["event"])
            if event is not None:
                self._start(event)

    def _endpoint(self) -> Document:
        return self._store.get("webhook.endpoint", "") or {"deliver": True}

    def _start(self, event: Document) -> asyncio.Task[bool]:
        """Begin a delivery; give its first attempt."""
        first = asyncio.create_task(self._attempt(event))
        delivery = asyncio.create_task(self._finish(event, first))
        self._deliveries.add(delivery)  # the loop itself keeps no strong reference
        delivery.add_done_callback(self._deliveries.discard)
        return first

    async def _finish(self, event: Document, first: asyncio.Task[bool]) -> None:
        delivered = await first
        for delay in _DELAYS_SECONDS:
            if delivered:
                break
            await asyncio.sleep(delay)
            delivered = await self._attempt(event)
        if delivered:
            self._store.put("event", event["id"], {**event, "pending_webhooks": 0})
        self._store.delete("webhook.delivery", event["id"])

    async def _attempt(self, event: Document) -> bool:
        payload = json.dumps(event, indent=2).encode()
        headers = {
            "Content-Type": "application/json; charset=utf-8",
            "User-Agent": "Stripe/1.0 (+https://stripe.com/docs/webhooks)",
            "Stripe-Signature": sign(payload, self._secret, int(time())),
        }
        try:
            answer = await self._http.post(self._url, content=payload, headers=headers)
            outcome, accepted = str(answer.status_code), answer.is_success
        except httpx.HTTPError as error:
            outcome, accepted = repr(error), False
        log.info("webhook %s %s: %s", event["type"], event["id"], outcome)
        return accepted


def sign(payload: bytes, secret: str, timestamp: int) -> str:
    """Make the `Stripe-Signature` header."""
    message = f"{timestamp}.".encode() + payload
    return f"t={timestamp},v1={hmac.new(secret.encode(), message, hashlib.sha256).hexdigest()}"
