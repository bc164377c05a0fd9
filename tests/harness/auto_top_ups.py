"""Everybody who takes part in an automatic top-up: customer, cron, queue, worker, bank, Stripe."""

from typing import Any
from uuid import uuid4

import httpx

from tests.harness.answers import done
from tests.harness.client import Client, Load
from tests.harness.platform import Organization, Platform
from tests.harness.stripe_events import Event, Stripe

PATH = "/v1/credits/auto-top-up"
SETTINGS = {"threshold": "20.00", "amount": "20.00", "monthly_cap": "60.00"}


class AutoTopUps:
    """Plays all parts. Stripe's events are told when a test says so, in the order it wants."""

    def __init__(self, platform: Platform, function: Load) -> None:
        self.platform, self.function = platform, function
        self._location = f"projects/test/locations/{uuid4().hex}"
        self.shop, self.settings = function("credits"), function("auto_top_up")
        self.cron = function("start_auto_top_ups", TASKS_LOCATION=self._location)
        self.worker = function("charge_top_up")
        self._notifications = function("notifications")
        self.stripe = Stripe(platform, self.shop, function("stripe_webhook"))

    def buy(self, organization: Organization, usd: str = "10.00", **more: object) -> Event:
        """Buy credits with a card; give the checkout. Stripe tells nobody yet."""
        body = {"amount": usd, "save_card": True} | more
        path = "/v1/credits/checkout"
        top_up = done(self.shop.post(path, body, by=organization.passport), 201)
        self.control(f"pay/{top_up['checkout_url'].rpartition('/')[2]}", method="card")
        return self._remembered("checkout.session", client_reference_id=top_up["id"])[0]

    def save_card(self, organization: Organization) -> Event:
        """Buy 10 USD of credits and have the card saved; give the payment."""
        payment_id = self.buy(organization)["payment_intent"]
        self.tell("payment_intent.succeeded", "checkout.session.completed", of=payment_id)
        return self._remembered("payment_intent", id=payment_id)[0]

    def set(self, organization: Organization, **changes: object) -> httpx.Response:
        """Ask for automatic top-ups."""
        body = SETTINGS | changes
        return self.settings.request("PUT", PATH, by=organization.passport, json=body)

    def ready(self, **changes: object) -> Organization:
        """Give a customer with 10 USD, a saved card and automatic top-ups that are due."""
        organization = self.platform.organization()
        self.save_card(organization)
        done(self.set(organization, **changes))
        return organization

    def state(self, organization: Organization) -> tuple[str, str | None]:
        """Tell whether automatic top-ups are active, or else why not."""
        row = done(self.settings.get(PATH, by=organization.passport))
        return row["status"], row["paused_reason"]

    def start(self) -> int:
        """Let a minute strike; tell how many top-ups began."""
        token = self.platform.cloud.invoker_token()
        answer = done(self.cron.post("/schedules/start-auto-top-ups", by=token))
        return int(answer["started"])

    def tasks(self, organization: Organization) -> list[dict[str, str]]:
        """Tell what the queue was given for a customer."""
        bodies = self.platform.cloud.enqueued(f"{self._location}/queues/charge-top-up")
        return [body for body in bodies if body["organization_id"] == organization.id]

    def work(self, task: dict[str, str], worker: Client | None = None) -> httpx.Response:
        """Deliver a task."""
        token = self.platform.cloud.invoker_token()
        return (worker or self.worker).post("/tasks/charge-top-up", task, by=token)

    def begin(self, organization: Organization) -> dict[str, str]:
        """Let a minute strike; give the task of the top-up that began."""
        assert self.start() == 1
        return self.tasks(organization)[-1]

    def charges(self, organization: Organization) -> list[Event]:
        """Tell the payments that Stripe took from a customer in their absence."""
        return [
            found
            for found in self._remembered("payment_intent", status="succeeded")
            if found["metadata"].get("organization_id") == organization.id
            and found["setup_future_usage"] is None
        ]

    def behave(self, payment: Event, behaviour: str, **more: str) -> None:
        """Tell a card's bank what to say."""
        self.control(f"_cards/{payment['payment_method']}", behaviour=behaviour, **more)

    def tell(self, *kinds: str, of: str) -> list[str]:
        """Have Stripe tell of a payment by events of these kinds; give what each did."""
        events = {
            event["type"]: event
            for event in self._remembered("event")
            if of == (subject := event["data"]["object"])["id"]
            or of == subject.get("payment_intent")
        }
        return [str(done(self.stripe.tell(events[kind]))["outcome"]) for kind in kinds]

    def notifications(self, organization: Organization, **query: object) -> dict[str, Any]:
        return done(
            self._notifications.get("/v1/notifications", by=organization.passport, params=query)
        )

    def spend(self, organization: Organization, micros: int = 20_000_000) -> None:
        """Take credits out of a wallet: what one top-up brought."""
        self.platform.run(
            "select billing.debit_wallet("
            "(%s, %s, 0, 'expired', 'expiry', null)::billing.debit, billing.now())",
            organization.id,
            micros,
        )

    def control(self, path: str, **form: str) -> None:
        """Do at Stripe what customers and their banks do."""
        url = f"{self.platform.cloud.layout.stripe_url}/{path}"
        answer = httpx.post(url, data=form, trust_env=False, timeout=30)
        assert answer.status_code < 400, answer.text

    def detach(self, payment: Event) -> None:
        """Have Stripe forget a card."""
        layout = self.platform.cloud.layout
        url = f"{layout.stripe_url}/v1/payment_methods/{payment['payment_method']}/detach"
        key = {"Authorization": f"Bearer {layout.secrets.stripe_secret_key}"}
        assert httpx.post(url, headers=key, trust_env=False).status_code == 200

    def _remembered(self, kind: str, **wanted: object) -> list[Event]:
        return [
            found
            for found in self.platform.cloud.remembered(kind)
            if all(found[name] == value for name, value in wanted.items())
        ]
