"""Checkout Sessions: what a shop asks its customer to pay, and how."""

from time import time

from infra.local.cloud.store import Document, Store
from infra.local.cloud.stripe_api import Api
from infra.local.cloud.stripe_currencies import check_amount, check_currency
from infra.local.cloud.stripe_objects import (
    StripeError,
    accept,
    identifier,
    integer,
    metadata,
    missing,
    one_of,
)
from infra.local.cloud.stripe_records import Records

_DAY_SECONDS = 24 * 3600
_KNOWN = frozenset(
    {
        "allow_promotion_codes",
        "automatic_tax",
        "billing_address_collection",
        "cancel_url",
        "client_reference_id",
        "currency",
        "custom_text",
        "customer",
        "customer_creation",
        "customer_email",
        "customer_update",
        "expires_at",
        "line_items",
        "locale",
        "metadata",
        "mode",
        "payment_intent_data",
        "payment_method_options",
        "payment_method_types",
        "saved_payment_method_options",
        "submit_type",
        "success_url",
        "ui_mode",
    }
)
_KNOWN_OF_PAYMENT = frozenset(
    {
        "description",
        "metadata",
        "receipt_email",
        "setup_future_usage",
        "statement_descriptor",
        "statement_descriptor_suffix",
    }
)


class Checkout:
    """Makes and ends Checkout Sessions; the pay page has the rest."""

    def __init__(self, api: Api, records: Records, store: Store, pay_url: str) -> None:
        self._records, self._store, self._pay_url = records, store, pay_url
        api.post("/v1/checkout/sessions", self.create)
        api.post("/v1/checkout/sessions/{session_id}/expire", self.expire)

    def create(self, parameters: Document) -> Document:
        """POST /v1/checkout/sessions."""
        accept(parameters, _KNOWN)
        if parameters.get("mode") != "payment":
            raise StripeError(400, "This stand-in only takes mode=payment.", param="mode")
        if not parameters.get("success_url"):
            raise missing("success_url")
        payment = parameters.get("payment_intent_data") or {}
        accept(payment, _KNOWN_OF_PAYMENT)
        one_of(payment, "setup_future_usage", ("off_session", "on_session"), "off_session")
        self._check_customer(parameters)
        session = self._records.save(_checkout_session(parameters, self._pay_url))
        # What of the request concerns the payment, which the customer starts.
        self._store.put("checkout.payment", session["id"], payment)
        return session

    def expire(self, parameters: Document, session_id: str) -> Document:
        """POST /v1/checkout/sessions/{id}/expire: the customer can no longer pay."""
        accept(parameters, ())
        session = self._records.find("checkout.session", session_id)
        if session["status"] != "open":
            message = 'Only Checkout Sessions with a status in ["open"] can be expired.'
            raise StripeError(400, message, executed=True)
        self._records.save(session, status="expired", url=None)
        self._records.tell("checkout.session.expired", session)
        return session

    def payment_details(self, session: Document) -> Document:
        """Tell what the shop wants of the session's payment."""
        return self._store.get("checkout.payment", session["id"]) or {}

    def _check_customer(self, parameters: Document) -> None:
        for other in ("customer_creation", "customer_email"):
            if "customer" in parameters and other in parameters:
                message = f"You may only specify one of these parameters: customer, {other}."
                raise StripeError(400, message, param=other)
        one_of(parameters, "customer_creation", ("always", "if_required"), "if_required")
        if "customer" in parameters:
            self._records.find("customer", parameters["customer"], "customer")


def _checkout_session(parameters: Document, pay_url: str) -> Document:
    amount, currency = _total(parameters.get("line_items"))
    customer = parameters.get("customer")
    now = int(time())
    session_id = identifier("cs_test", 58)
    return {
        "id": session_id,
        "object": "checkout.session",
        "after_expiration": None,
        "allow_promotion_codes": None,
        "amount_subtotal": amount,
        "amount_total": amount,
        "automatic_tax": {"enabled": False, "liability": None, "status": None},
        "billing_address_collection": None,
        "cancel_url": parameters.get("cancel_url"),
        "client_reference_id": parameters.get("client_reference_id"),
        "client_secret": None,
        "consent": None,
        "created": now,
        "currency": currency,
        "custom_fields": [],
        "customer": customer,
        "customer_creation": None
        if customer
        else parameters.get("customer_creation", "if_required"),
        "customer_details": None,
        "customer_email": parameters.get("customer_email"),
        "expires_at": integer("expires_at", parameters.get("expires_at", now + _DAY_SECONDS)),
        "invoice": None,
        "livemode": False,
        "locale": parameters.get("locale"),
        "metadata": metadata(parameters),
        "mode": "payment",
        "payment_intent": None,
        "payment_link": None,
        "payment_method_collection": "if_required",
        "payment_method_types": parameters.get("payment_method_types")
        or (["card", "us_bank_account"] if currency == "usd" else ["card"]),
        "payment_status": "unpaid",
        "phone_number_collection": {"enabled": False},
        "recovered_from": None,
        "setup_intent": None,
        "status": "open",
        "submit_type": None,
        "subscription": None,
        "success_url": parameters["success_url"],
        "total_details": {"amount_discount": 0, "amount_shipping": 0, "amount_tax": 0},
        "ui_mode": "hosted",
        "url": f"{pay_url}/{session_id}",
    }


def _total(lines: object) -> tuple[int, str]:
    if not isinstance(lines, list) or not lines:
        raise missing("line_items")
    amounts, currencies = zip(*(_line(i, line) for i, line in enumerate(lines)), strict=True)
    if len(set(currencies)) > 1:
        raise StripeError(400, "All line items must have the same currency.", param="line_items")
    total = "The Checkout Session's total amount due"
    return check_amount(sum(amounts), currencies[0], total), currencies[0]


def _line(index: int, line: object) -> tuple[int, str]:
    """Tell a line's amount and currency; the stand-in knows no stored prices."""
    where = f"line_items[{index}]"
    if not isinstance(line, dict) or not isinstance(line.get("price_data"), dict):
        raise missing(f"{where}[price_data]")
    price = line["price_data"]
    for name in ("currency", "product_data", "unit_amount"):
        if name not in price:
            raise missing(f"{where}[price_data][{name}]")
    unit = integer(f"{where}[price_data][unit_amount]", price["unit_amount"])
    quantity = integer(f"{where}[quantity]", line.get("quantity", 1))
    if unit < 0 or quantity < 1:
        raise StripeError(400, "This value must be greater than or equal to 0.", param=where)
    return unit * quantity, check_currency(price["currency"], f"{where}[price_data][currency]")
