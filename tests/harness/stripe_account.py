"""Our account at Stripe, where customers pay and banks take back, while no webhook gets through."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any
from uuid import UUID, uuid4

import httpx

from tests.harness.answers import done
from tests.harness.client import Client, Load
from tests.harness.platform import Organization, Platform
from tests.harness.stripe_events import Stripe

Object = dict[str, Any]


class StripeAccount:
    """What happens at Stripe; and later, if at all, its webhooks."""

    def __init__(self, platform: Platform, function: Load, http: httpx.Client) -> None:
        self._platform, self._http = platform, http
        self._layout = platform.cloud.layout
        self._shop = function("credits")
        self._stripe = Stripe(platform, self._shop, function("stripe_webhook"))
        self._known = {event["id"] for event in platform.cloud.remembered("event")}
        self._post("_webhooks", deliver="false")

    def reopen(self) -> None:
        """Let webhooks through again."""
        self._post("_webhooks", deliver="true")

    def sell(self, organization: Organization, usd: str = "25.00") -> str:
        """Sell credits; give the payment's id."""
        return self.pay(self.ask(organization, usd)["id"])

    def ask(self, organization: Organization, usd: str = "25.00") -> Object:
        """Ask for credits; give the checkout."""
        return self._stripe.buy(organization, usd)

    def sell_in_euros(self, organization: Organization) -> str:
        """Sell for 25.00 EUR what was asked for in USD; give the payment's id."""
        top_up_id = self._platform.value(
            "insert into billing.top_ups (organization_id, amount_micros, bonus_micros, created_by)"
            " values (%s, 25000000, 0, 'test') returning id",
            organization.id,
        )
        reference = {
            "metadata[organization_id]": organization.id,
            "metadata[top_up_id]": str(top_up_id),
        }
        paid = {f"payment_intent_data[{k[:8]}]{k[8:]}": v for k, v in reference.items()}
        checkout = self._post(
            "v1/checkout/sessions",
            **{"mode": "payment", "client_reference_id": str(top_up_id)},
            **{"success_url": "http://127.0.0.1:9/", "line_items[0][quantity]": "1"},
            **{"line_items[0][price_data][currency]": "eur"},
            **{"line_items[0][price_data][unit_amount]": "2500"},
            **{"line_items[0][price_data][product_data][name]": "Credits"},
            **reference,
            **paid,
        )
        return self.pay(checkout["id"])

    def pay(self, checkout_id: str) -> str:
        """Pay a checkout by card; give the payment's id."""
        url = f"{self._layout.stripe_url}/pay/{checkout_id}"
        assert self._http.post(url, data={"method": "card"}).is_redirect
        (paid,) = (
            each
            for each in self._platform.cloud.remembered("checkout.session")
            if each["id"] == checkout_id
        )
        return str(paid["payment_intent"])

    def refund(self, payment_id: str, cents: int = 2500) -> str:
        return str(self._post("v1/refunds", payment_intent=payment_id, amount=str(cents))["id"])

    def end_refund(self, refund_id: str, outcome: str) -> None:
        self._post(f"_refunds/{refund_id}", outcome=outcome)

    def dispute(self, payment_id: str) -> str:
        return str(self._post("_disputes", payment_intent=payment_id)["id"])

    def end_dispute(self, dispute_id: str, outcome: str) -> None:
        self._post(f"_disputes/{dispute_id}", outcome=outcome)

    def events(self) -> list[Object]:
        """Give what happened since this account was opened."""
        remembered = self._platform.cloud.remembered("event")
        return [event for event in remembered if event["id"] not in self._known]

    def tell(self, event: Object) -> Object:
        """Deliver a webhook."""
        return done(self._stripe.tell(event))

    def tell_nothing(self) -> None:
        """Pretend that each event arrived and did nothing: so old that Stripe forgot it."""
        for event in self.events():
            self._platform.run(
                "insert into billing.payment_events (provider, id, type, payload, outcome)"
                " values ('stripe', %s, %s, %s, 'unknown_type') on conflict do nothing",
                event["id"],
                event["type"],
                json.dumps(event),
            )

    def _post(self, path: str, **form: str) -> Object:
        answer = self._http.post(
            f"{self._layout.stripe_url}/{path}",
            data=form,
            headers={
                "Authorization": f"Bearer {self._layout.secrets.stripe_secret_key}",
                "Idempotency-Key": uuid4().hex,
            },
        )
        return done(answer)


class Auditor:
    """Runs the reconciliation, and reads what it found."""

    def __init__(self, platform: Platform, function: Load) -> None:
        self._platform = platform
        self.operator = platform.operator()
        self.schedule = function("reconcile")
        self.desk = function("reconciliation")

    def run(self, client: Client | None = None) -> httpx.Response:
        """Do the daily run."""
        invoker = self._platform.cloud.invoker_token()
        return (client or self.schedule).post("/schedules/reconcile", by=invoker)

    def replay(self) -> int:
        """Do the daily run; tell how much news it brought."""
        run = done(self.run())
        assert run["status"] == "finished"
        return int(run["replayed"])

    def discrepancies(self, status: str = "open") -> list[Object]:
        """Give what disagrees."""
        answer = self.desk.get(
            "/v1/reconciliation/discrepancies", params={"status": status}, by=self.operator.passport
        )
        found: list[Object] = done(answer)["data"]
        assert all(UUID(each["id"]) and each["status"] == status for each in found)
        return found


@contextmanager
def failing_at(path: str, stripe_url: str) -> Iterator[str]:
    """Give the address of a Stripe that breaks when it is asked for this path."""

    class Forward(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if self.path.startswith(path):
                self.send_error(500)
                return
            answer = httpx.get(
                stripe_url + self.path,
                headers={"Authorization": self.headers["Authorization"]},
                trust_env=False,
            )
            self.send_response(answer.status_code)
            self.send_header("Content-Length", str(len(answer.content)))
            self.end_headers()
            self.wfile.write(answer.content)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Forward) as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join(10)
