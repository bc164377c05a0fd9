"""How Stripe tells of events: signed, in any order, again and again until somebody says 2xx."""

import asyncio
import hashlib
import hmac
import json
import logging
from time import time

import httpx

from infra.local.cloud.store import Document, Store

log = logging.getLogger(__name__)

# Stripe tries for three days; a laptop's developer has looked at the log by then.
_DELAYS_SECONDS = (0.5, 1, 2, 4, 8, 16, 32, 60, 120, 300, 0)
_CONFIRMATION_SECONDS = 10


class Webhooks:
    """Delivers events to one endpoint; unfinished deliveries survive a restart."""

    def __init__(self, url: str, secret: str, store: Store, http: httpx.AsyncClient) -> None:
        self._url, self._secret = url, secret
        self._store, self._http = store, http
        self._deliveries: set[asyncio.Task[None]] = set()

    async def send(self, *events: Document) -> None:
        """Deliver events side by side; give the first attempts a while to succeed."""
        for event in events:
            self._store.put("event", event["id"], event)
        deliveries = [self._start(event) for event in events]
        await asyncio.wait(deliveries, timeout=_CONFIRMATION_SECONDS)

    def resume(self) -> None:
        """Go on with what was pending when the process ended."""
        for event in self._store.all("event"):
            if event["pending_webhooks"]:
                self._start(event)

    def _start(self, event: Document) -> asyncio.Task[None]:
        delivery = asyncio.create_task(self._deliver(event))
        self._deliveries.add(delivery)  # the loop itself keeps no strong reference
        delivery.add_done_callback(self._deliveries.discard)
        return delivery

    async def _deliver(self, event: Document) -> None:
        for delay in _DELAYS_SECONDS:
            if await self._attempt(event):
                break
            await asyncio.sleep(delay)
        self._store.put("event", event["id"], {**event, "pending_webhooks": 0})

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
