"""The API of payments: with a customer's saved card, the customer being away or not."""

from time import time

from infra.local.cloud.store import Document
from infra.local.cloud.stripe_api import Api
from infra.local.cloud.stripe_charges import Charges
from infra.local.cloud.stripe_currencies import check_amount, check_currency
from infra.local.cloud.stripe_customers import Customers
from infra.local.cloud.stripe_objects import StripeError, accept, boolean, integer, missing
from infra.local.cloud.stripe_payments import Payments
from infra.local.cloud.stripe_records import Records

_CONFIRMING = frozenset({"error_on_requires_action", "off_session", "payment_method", "return_url"})
_KNOWN = _CONFIRMING | {
    "amount",
    "automatic_payment_methods",
    "confirm",
    "currency",
    "customer",
    "description",
    "metadata",
    "payment_method_types",
    "receipt_email",
    "setup_future_usage",
    "statement_descriptor",
    "statement_descriptor_suffix",
}
_UNPAID = ("requires_payment_method", "requires_confirmation", "requires_action")


class PaymentIntents:
    """Takes the orders for payments."""

    def __init__(
        self,
        api: Api,
        records: Records,
        customers: Customers,
        charges: Charges,
        payments: Payments,
    ) -> None:
        self._records, self._customers = records, customers
        self._charges, self._payments = charges, payments
        api.post("/v1/payment_intents", self.create)
        api.post("/v1/payment_intents/{intent_id}/confirm", self.confirm)
        api.post("/v1/payment_intents/{intent_id}/cancel", self.cancel)

    def create(self, parameters: Document) -> Document:
        """POST /v1/payment_intents."""
        accept(parameters, _KNOWN, ("amount", "currency"))
        confirmed = boolean(parameters, "confirm")
        if "off_session" in parameters and not confirmed:
            message = "You can only set off_session when confirm is true."
            raise StripeError(400, message, param="off_session")
        if confirmed:
            _check_return(parameters)
        currency = check_currency(parameters["currency"], "currency")
        amount = integer("amount", parameters["amount"], 1)
        check_amount(amount, currency, "Amount")
        if "customer" in parameters:
            self._records.find("customer", parameters["customer"], "customer")
        method = self._usable_method(parameters, parameters.get("customer"))
        if confirmed and method is None:
            raise missing("payment_method")
        intent = self._payments.open(amount, currency, parameters)
        if method is not None:
            self._records.save(intent, payment_method=method["id"], status="requires_confirmation")
        if confirmed and method is not None:
            self._attempt(intent, method, parameters)
        return intent

    def confirm(self, parameters: Document, intent_id: str) -> Document:
        """POST /v1/payment_intents/{id}/confirm."""
        accept(parameters, _CONFIRMING)
        intent = self._unpaid(intent_id, "confirm")
        named = parameters.get("payment_method") or intent["payment_method"]
        method = self._usable_method({"payment_method": named}, intent["customer"])
        if method is None:
            raise missing("payment_method")
        self._attempt(intent, method, parameters)
        return intent

    def cancel(self, parameters: Document, intent_id: str) -> Document:
        """POST /v1/payment_intents/{id}/cancel: it can no longer be paid."""
        accept(parameters, ("cancellation_reason",))
        intent = self._unpaid(intent_id, "cancel")
        reason = parameters.get("cancellation_reason")
        self._records.save(
            intent, status="canceled", canceled_at=int(time()), cancellation_reason=reason
        )
        self._records.tell("payment_intent.canceled", intent)
        return intent

    def _attempt(self, intent: Document, method: Document, parameters: Document) -> None:
        """Ask the card's bank.

        Raises StripeError: it said no.
        """
        bank = self._customers.behaviour(method)
        # Stripe also knows off_session=one_off and recurring.
        alone = parameters.get("off_session", "false") != "false"
        alone = alone or boolean(parameters, "error_on_requires_action")
        if bank["behaviour"] == "succeed":
            self._payments.settle(intent, self._charges.start(intent, method))
        elif bank["behaviour"] == "authentication_required" and not alone:
            next_action = {"type": "use_stripe_sdk", "use_stripe_sdk": {}}
            self._records.save(
                intent,
                next_action=next_action,
                payment_method=method["id"],
                status="requires_action",
            )
            self._records.tell("payment_intent.requires_action", intent)
        else:
            error = _card_error(bank)
            self._payments.fail(intent, self._charges.start(intent, method), error)
            raise StripeError(
                402,
                error["message"],
                kind="card_error",
                executed=True,
                charge=intent["latest_charge"],
                code=error["code"],
                decline_code=error["decline_code"],
                payment_intent=intent,
                payment_method=method,
            )

    def _usable_method(self, parameters: Document, customer_id: str | None) -> Document | None:
        """Find the payment method; only what a customer has saved may be used."""
        if not parameters.get("payment_method"):
            return None
        method_id = parameters["payment_method"]
        method = self._records.find("payment_method", method_id, "payment_method")
        owner = method["customer"]
        if owner is not None and owner == customer_id:
            return method
        if owner is None:
            message = (
                "The provided PaymentMethod was previously used with a PaymentIntent without"
                " Customer attachment, or was detached from a Customer. It may not be used again."
            )
        elif customer_id is None:
            message = (
                f"The PaymentMethod {method_id} belongs to the Customer {owner}. Please include the"
                " Customer in the `customer` parameter on the PaymentIntent."
            )
        else:
            message = (
                f"The customer does not have a payment method with the ID {method_id}. The payment"
                " method must be attached to the customer."
            )
        raise StripeError(400, message, param="payment_method")

    def _unpaid(self, intent_id: str, act: str) -> Document:
        intent = self._records.find("payment_intent", intent_id)
        if intent["status"] not in _UNPAID:
            message = f"You cannot {act} this PaymentIntent because it has a status of"
            raise StripeError(
                400,
                f"{message} {intent['status']}.",
                code="payment_intent_unexpected_state",
                executed=True,
                payment_intent=intent,
            )
        return intent


def _check_return(parameters: Document) -> None:
    """Refuse as Stripe does when a payment method might lead the customer elsewhere."""
    automatic = parameters.get("automatic_payment_methods") or {}
    redirects = automatic.get("allow_redirects") != "never"
    if automatic.get("enabled") == "true" and redirects and "return_url" not in parameters:
        raise StripeError(
            400,
            "This PaymentIntent is configured to accept payment methods enabled in your Dashboard."
            " Because some of these payment methods might redirect your customer off of your page,"
            " you must provide a `return_url`.",
        )


def _card_error(bank: Document) -> Document:
    message = "Your card was declined."
    if bank["behaviour"] == "authentication_required":
        code = decline_code = "authentication_required"
        message += " This transaction requires authentication."
    else:
        code, decline_code = "card_declined", bank["decline_code"]
    return {"code": code, "decline_code": decline_code, "message": message, "type": "card_error"}
