"""The pay page: what the customer, or later the customer's bank, does about a checkout."""

from collections.abc import Callable
from urllib.parse import parse_qsl

from fastapi import Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response

from infra.local.cloud import stripe_pages
from infra.local.cloud.store import Document
from infra.local.cloud.stripe_api import Api
from infra.local.cloud.stripe_charges import Charges
from infra.local.cloud.stripe_checkout import Checkout
from infra.local.cloud.stripe_customers import Customers
from infra.local.cloud.stripe_payments import Payments
from infra.local.cloud.stripe_records import Records
from infra.local.cloud.stripe_webhooks import Webhooks

_TRANSFER_ERROR = {
    "code": "payment_intent_payment_attempt_failed",
    "message": "The payment failed.",
    "type": "card_error",
}


class PayPage:
    """Shows what is possible, and does what was chosen."""

    def __init__(
        self,
        api: Api,
        records: Records,
        webhooks: Webhooks,
        checkout: Checkout,
        customers: Customers,
        charges: Charges,
        payments: Payments,
    ) -> None:
        self._records, self._webhooks, self._checkout = records, webhooks, checkout
        self._customers, self._charges, self._payments = customers, charges, payments
        api.serve("GET", "/pay/{session_id}", self.show)
        api.serve("POST", "/pay/{session_id}", self.choose)
        api.serve("GET", "/return/{outcome}", self.returned)

    async def show(self, session_id: str) -> Response:
        """GET /pay/{id}: what the customer sees."""
        session = self._records.find("checkout.session", session_id)
        return HTMLResponse(stripe_pages.pay(session, self._choices(session)))

    async def choose(self, request: Request, session_id: str) -> Response:
        """POST /pay/{id}, form `method`: one of the buttons."""
        method = dict(parse_qsl((await request.body()).decode())).get("method", "")
        # Read and changed without a pause between: who presses twice pays once.
        session = self._records.find("checkout.session", session_id)
        if method not in self._choices(session):
            return HTMLResponse(stripe_pages.message("That is not possible now."), 409)
        if method == "cancel":
            return RedirectResponse(session["cancel_url"] or session["success_url"], 303)
        acts: dict[str, Callable[[Document], None]] = {
            "card": self._pay_by_card,
            "card_declines_later": self._pay_by_bad_card,
            "bank_transfer": self._begin_transfer,
            "bank_transfer_arrives": self._end_transfer,
            "bank_transfer_fails": self._fail_transfer,
        }
        acts[method](session)
        await self._webhooks.deliver()
        # Stripe fills this in, so that the shop knows whom it is thanking.
        target = session["success_url"].replace("{CHECKOUT_SESSION_ID}", session_id)
        return RedirectResponse(target, 303)

    async def returned(self, outcome: str) -> Response:
        """GET /return/{outcome}: the shop's page, which a laptop has no shop for."""
        text = "Thank you." if outcome == "paid" else "Nothing was paid."
        return HTMLResponse(stripe_pages.message(f"{text} You can close this page."))

    def _choices(self, session: Document) -> stripe_pages.Choices:
        intent = self._records.by_id(session["payment_intent"] or "")
        return stripe_pages.choices(session, intent)

    def _pay_by_card(self, session: Document) -> None:
        self._pay_at_once(session, last4="4242")

    def _pay_by_bad_card(self, session: Document) -> None:
        method = self._pay_at_once(session, last4="0341")
        self._customers.behave({"behaviour": "decline"}, method["id"])

    def _pay_at_once(self, session: Document, last4: str) -> Document:
        intent, method = self._begin(session, "card", {"last4": last4})
        self._payments.settle(intent, self._charges.start(intent, method))
        self._records.save(session, payment_status="paid")
        self._records.tell("checkout.session.completed", session)
        return method

    def _begin_transfer(self, session: Document) -> None:
        self._payments.process(*self._begin(session, "us_bank_account", {}))
        self._records.tell("checkout.session.completed", session)

    def _end_transfer(self, session: Document) -> None:
        self._payments.settle(*self._transfer(session))
        self._records.save(session, payment_status="paid")
        self._records.tell("checkout.session.async_payment_succeeded", session)

    def _fail_transfer(self, session: Document) -> None:
        self._payments.fail(*self._transfer(session), _TRANSFER_ERROR)
        self._records.tell("checkout.session.async_payment_failed", session)

    def _transfer(self, session: Document) -> tuple[Document, Document]:
        intent = self._records.find("payment_intent", session["payment_intent"])
        return intent, self._records.find("charge", intent["latest_charge"])

    def _begin(self, session: Document, kind: str, details: Document) -> tuple[Document, Document]:
        """Complete the session: give its payment, and what the customer pays with."""
        wanted = self._checkout.payment_details(session)
        customer = self._customer(session)
        method = self._customers.new_method(kind, details | {"email": customer["email"]})
        # A guest, who has no id, leaves nothing behind.
        if customer["id"] and kind == "card" and wanted.get("setup_future_usage"):
            self._customers.attach(method, customer["id"])
        intent = self._payments.open(
            session["amount_total"],
            session["currency"],
            wanted | {"customer": customer["id"], "payment_method_types": [kind]},
        )
        self._records.save(
            session,
            customer=customer["id"],
            customer_details={
                "address": None,
                "email": customer["email"],
                "name": customer["name"],
                "phone": None,
                "tax_exempt": "none",
                "tax_ids": [],
            },
            payment_intent=intent["id"],
            status="complete",
            url=None,
        )
        return intent, method

    def _customer(self, session: Document) -> Document:
        """Find or make who pays; a guest otherwise."""
        if session["customer"]:
            return self._records.find("customer", session["customer"])
        details = {
            "email": session["customer_email"] or "customer@example.com",
            "name": "A Customer",
        }
        if session["customer_creation"] == "always":
            return self._customers.create(details)
        return details | {"id": None}
