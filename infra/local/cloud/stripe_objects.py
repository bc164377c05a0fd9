"""The shapes of Stripe's objects, and the refusals of its API."""

from secrets import choice
from string import ascii_letters, digits
from time import time

from infra.local.cloud.store import Document

_ALPHABET = ascii_letters + digits
_DAY_SECONDS = 24 * 3600
_MINIMUM_CENTS = 50

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
        "expand",
        "expires_at",
        "invoice_creation",
        "line_items",
        "locale",
        "metadata",
        "mode",
        "payment_intent_data",
        "payment_method_options",
        "payment_method_types",
        "submit_type",
        "success_url",
        "ui_mode",
    }
)


class StripeError(Exception):
    """A refusal as Stripe words it."""

    def __init__(
        self,
        status: int,
        message: str,
        *,
        kind: str = "invalid_request_error",
        code: str | None = None,
        param: str | None = None,
    ) -> None:
        self.status = status
        fields = {"type": kind, "message": message, "code": code, "param": param}
        self.body = {"error": {k: v for k, v in fields.items() if v is not None}}


def identifier(prefix: str, length: int = 24) -> str:
    """Make an id as Stripe does."""
    return f"{prefix}_{''.join(choice(_ALPHABET) for _ in range(length))}"


def checkout_session(parameters: Document, pay_url: str) -> Document:
    """Make an open Checkout Session, or refuse as Stripe would."""
    for name in parameters:
        if name not in _KNOWN:
            message = f"Received unknown parameter: {name}"
            raise StripeError(400, message, code="parameter_unknown", param=name)
    if parameters.get("mode") != "payment":
        raise StripeError(400, "This stand-in only takes mode=payment.", param="mode")
    if not parameters.get("success_url"):
        raise _missing("success_url")
    lines = parameters.get("line_items")
    if not isinstance(lines, list) or not lines:
        raise _missing("line_items")
    amounts, currencies = zip(*(_line(i, line) for i, line in enumerate(lines)), strict=True)
    if len(set(currencies)) > 1:
        raise StripeError(400, "All line items must have the same currency.", param="line_items")
    if sum(amounts) < _MINIMUM_CENTS:
        message = "The Checkout Session's total amount due must add up to at least $0.50 usd"
        raise StripeError(400, message, code="amount_too_small")
    now = int(time())
    session_id = identifier("cs_test", 58)
    return {
        "id": session_id,
        "object": "checkout.session",
        "after_expiration": None,
        "allow_promotion_codes": None,
        "amount_subtotal": sum(amounts),
        "amount_total": sum(amounts),
        "automatic_tax": {"enabled": False, "liability": None, "status": None},
        "billing_address_collection": None,
        "cancel_url": parameters.get("cancel_url"),
        "client_reference_id": parameters.get("client_reference_id"),
        "client_secret": None,
        "consent": None,
        "created": now,
        "currency": currencies[0],
        "custom_fields": [],
        "customer": parameters.get("customer"),
        "customer_creation": "if_required",
        "customer_details": None,
        "customer_email": parameters.get("customer_email"),
        "expires_at": _integer("expires_at", parameters.get("expires_at", now + _DAY_SECONDS)),
        "invoice": None,
        "livemode": False,
        "locale": parameters.get("locale"),
        "metadata": parameters.get("metadata") or {},
        "mode": "payment",
        "payment_intent": None,
        "payment_link": None,
        "payment_method_collection": "if_required",
        "payment_method_types": parameters.get("payment_method_types")
        or ["card", "us_bank_account"],
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


def payment_intent(session: Document, parameters: Document, method: str) -> Document:
    """Make the Payment Intent that a customer's payment starts."""
    details = parameters.get("payment_intent_data") or {}
    intent_id = identifier("pi")
    return {
        "id": intent_id,
        "object": "payment_intent",
        "amount": session["amount_total"],
        "amount_received": 0,
        "capture_method": "automatic_async",
        "client_secret": f"{intent_id}_secret_{identifier('x', 24)[2:]}",
        "confirmation_method": "automatic",
        "created": int(time()),
        "currency": session["currency"],
        "customer": session["customer"],
        "description": details.get("description"),
        "last_payment_error": None,
        "latest_charge": None,
        "livemode": False,
        "metadata": details.get("metadata") or {},
        "payment_method": identifier("pm"),
        "payment_method_types": [method],
        "receipt_email": None,
        "status": "processing",
    }


def event(kind: str, subject: Document, api_version: str) -> Document:
    """Wrap an object in the envelope of a notification."""
    return {
        "id": identifier("evt"),
        "object": "event",
        "api_version": api_version,
        "created": int(time()),
        "data": {"object": subject},
        "livemode": False,
        "pending_webhooks": 1,
        "request": {"id": None, "idempotency_key": None},
        "type": kind,
    }


def _line(index: int, line: object) -> tuple[int, str]:
    """Tell a line's amount and currency; the stand-in knows no stored prices."""
    where = f"line_items[{index}]"
    if not isinstance(line, dict) or not isinstance(line.get("price_data"), dict):
        raise _missing(f"{where}[price_data]")
    price = line["price_data"]
    for name in ("currency", "product_data", "unit_amount"):
        if name not in price:
            raise _missing(f"{where}[price_data][{name}]")
    unit = _integer(f"{where}[price_data][unit_amount]", price["unit_amount"])
    quantity = _integer(f"{where}[quantity]", line.get("quantity", 1))
    if unit < 0 or quantity < 1:
        raise StripeError(400, "This value must be greater than or equal to 0.", param=where)
    return unit * quantity, str(price["currency"]).lower()


def _integer(name: str, value: object) -> int:
    try:
        return int(str(value))
    except ValueError as error:
        message = f"Invalid integer: {value}"
        raise StripeError(400, message, code="parameter_invalid_integer", param=name) from error


def _missing(name: str) -> StripeError:
    message = f"Missing required param: {name}."
    return StripeError(400, message, code="parameter_missing", param=name)
