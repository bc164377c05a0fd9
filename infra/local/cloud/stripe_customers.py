"""Customers and what they pay with."""

from time import time

from infra.local.cloud.store import Document, Store
from infra.local.cloud.stripe_api import Api
from infra.local.cloud.stripe_objects import StripeError, accept, identifier, metadata, one_of
from infra.local.cloud.stripe_records import Records

_KNOWN = frozenset(
    {
        "address",
        "description",
        "email",
        "invoice_settings",
        "metadata",
        "name",
        "phone",
        "preferred_locales",
        "shipping",
        "tax_exempt",
    }
)
BEHAVIOURS = ("succeed", "decline", "authentication_required")


class Customers:
    """Makes customers, saves their payment methods, and lets a card be refused."""

    def __init__(self, api: Api, records: Records, store: Store) -> None:
        self._records, self._store = records, store
        api.post("/v1/customers", self.create)
        api.post("/v1/customers/{customer_id}", self.update)
        api.post("/v1/payment_methods/{method_id}/detach", self.detach)
        api.control("/_cards/{method_id}", self.behave)

    def create(self, parameters: Document) -> Document:
        """POST /v1/customers."""
        accept(parameters, _KNOWN)
        customer = self._records.save(_customer(parameters))
        self._records.tell("customer.created", customer)
        return customer

    def update(self, parameters: Document, customer_id: str) -> Document:
        """POST /v1/customers/{id}."""
        accept(parameters, _KNOWN)
        customer = self._records.find("customer", customer_id)
        merged = metadata(parameters, customer["metadata"])
        self._records.save(customer, **parameters | {"metadata": merged})
        self._records.tell("customer.updated", customer)
        return customer

    def detach(self, parameters: Document, method_id: str) -> Document:
        """POST /v1/payment_methods/{id}/detach: it can never be used again."""
        accept(parameters, ())
        method = self._records.find("payment_method", method_id)
        if method["customer"] is None:
            message = "The payment method you provided is not attached to a customer so detachment"
            raise StripeError(400, f"{message} is impossible.", executed=True)
        self._records.save(method, customer=None)
        self._records.tell("payment_method.detached", method)
        return method

    def behave(self, parameters: Document, method_id: str) -> Document:
        """POST /_cards/{id}: what a card's bank says to the next payments."""
        accept(parameters, ("behaviour", "decline_code"), ("behaviour",))
        self._records.find("payment_method", method_id)
        behaviour = {
            "behaviour": one_of(parameters, "behaviour", BEHAVIOURS),
            "decline_code": parameters.get("decline_code", "generic_decline"),
        }
        self._store.put("card.behaviour", method_id, behaviour)
        return {"payment_method": method_id} | behaviour

    def behaviour(self, method: Document) -> Document:
        """Tell what a card's bank will say."""
        return self._store.get("card.behaviour", method["id"]) or {"behaviour": "succeed"}

    def new_method(self, kind: str, details: Document) -> Document:
        """Keep what somebody pays with; it belongs to no customer yet."""
        return self._records.save(_payment_method(kind, details))

    def attach(self, method: Document, customer_id: str) -> None:
        """Save a payment method on a customer."""
        self._records.save(method, customer=customer_id)
        self._records.tell("payment_method.attached", method)


def _customer(parameters: Document) -> Document:
    return {
        "id": identifier("cus", 14),
        "object": "customer",
        "address": None,
        "balance": 0,
        "created": int(time()),
        "currency": None,
        "default_source": None,
        "delinquent": False,
        "description": None,
        "discount": None,
        "email": None,
        "invoice_settings": {"default_payment_method": None},
        "livemode": False,
        "name": None,
        "phone": None,
        "preferred_locales": [],
        "shipping": None,
        "tax_exempt": "none",
        "test_clock": None,
        **parameters,
        "metadata": metadata(parameters),
    }


def _payment_method(kind: str, details: Document) -> Document:
    email = details.get("email")
    card = {
        "brand": "visa",
        "country": "US",
        "exp_month": 12,
        "exp_year": 2034,
        "fingerprint": identifier("x", 16)[2:],
        "funding": "credit",
        "last4": details.get("last4", "4242"),
    }
    account = {"account_type": "checking", "bank_name": "STRIPE TEST BANK", "last4": "6789"}
    return {
        "id": identifier("pm"),
        "object": "payment_method",
        "allow_redisplay": "limited",
        "billing_details": {"address": None, "email": email, "name": None, "phone": None},
        "created": int(time()),
        "customer": None,
        "livemode": False,
        "metadata": {},
        "type": kind,
        kind: card if kind == "card" else account,
    }
