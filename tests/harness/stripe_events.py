"""Stripe's side of a top-up: what it would tell, and how it signs."""

import json
from concurrent.futures import ThreadPoolExecutor
from time import time
from typing import Any

import httpx

from infra.local.cloud import stripe_objects
from infra.local.cloud.stripe_objects import identifier
from infra.local.cloud.stripe_webhooks import sign
from tests.harness.answers import done
from tests.harness.client import Client
from tests.harness.platform import Organization, Platform

Event = dict[str, Any]
PATH = "/v1/stripe/webhook"


class Stripe:
    """Knows the webhook's secret and the checkouts that the stand-in made."""

    def __init__(self, platform: Platform, shop: Client, webhook: Client) -> None:
        self._platform, self._shop, self._webhook = platform, shop, webhook
        self.secret = platform.cloud.layout.secrets.stripe_webhook_secret

    def buy(self, organization: Organization, usd: str = "25.00") -> Event:
        """Ask for credits; give the checkout as Stripe has it."""
        request = self._shop.post("/v1/credits/checkout", {"amount": usd}, by=organization.passport)
        top_up_id = done(request, 201)["id"]
        (checkout,) = (
            found
            for found in self._platform.cloud.remembered("checkout.session")
            if found["client_reference_id"] == top_up_id
        )
        return checkout

    def status(self, organization: Organization, checkout: Event) -> str:
        path = f"/v1/credits/top-ups/{checkout['client_reference_id']}"
        return str(done(self._shop.get(path, by=organization.passport))["status"])

    def tell(self, event: Event) -> httpx.Response:
        """Deliver an event, signed."""
        return self.deliver(json.dumps(event).encode())

    def deliver(self, body: bytes, signature: str | None = None) -> httpx.Response:
        """Deliver anything, with this signature or else an honest one."""
        if signature is None:
            signature = sign(body, self.secret, int(time()))
        headers = {"Content-Type": "application/json", "Stripe-Signature": signature}
        return self._webhook.request("POST", PATH, content=body, headers=headers)

    def unsigned(self, body: bytes, headers: dict[bytes, bytes] | None = None) -> httpx.Response:
        """Deliver a body with these raw headers only."""
        return self._webhook.raw("POST", PATH, body, headers or {})

    def tell_at_once(self, event: Event, times: int) -> list[httpx.Response]:
        """Deliver an event from as many threads as times."""
        with ThreadPoolExecutor(times) as threads:
            return list(threads.map(self.tell, [event] * times))


def paid(checkout: Event, **changes: object) -> Event:
    """Tell that a checkout was paid, or what the changes say."""
    session = checkout | {
        "status": "complete",
        "payment_status": "paid",
        "payment_intent": identifier("pi"),
        "url": None,
    }
    return event("checkout.session.completed", session | changes)


def unpaid(checkout: Event, kind: str = "checkout.session.completed") -> Event:
    """Tell that a checkout is complete and its money is on the way."""
    return event(kind, paid(checkout)["data"]["object"] | {"payment_status": "unpaid"})


def event(kind: str, subject: Event) -> Event:
    return stripe_objects.event(kind, subject, "2026-10-28.endive")
