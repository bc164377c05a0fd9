"""Stripe: makes checkouts, charges saved cards, lists what there is."""

from collections.abc import AsyncIterator
from functools import cached_property
from time import time
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from faregate.errors import FaregateError
from faregate.settings import CheckoutSettings, StripeModeSettings, StripeSettings

if TYPE_CHECKING:
    from stripe import HTTPXClient, StripeClient

_MICROS_PER_CENT = 10_000


class Stripe:
    """A client of Stripe's API.

    Its library is imported at the first call: whoever reads a balance does not wait for it.
    """

    def __init__(self) -> None:
        self._settings = StripeSettings()

    @cached_property
    def _http(self) -> "HTTPXClient":
        from stripe import HTTPXClient

        return HTTPXClient(timeout=10, allow_sync_methods=False)

    @cached_property
    def _client(self) -> "StripeClient":
        from stripe import StripeClient

        return StripeClient(
            self._settings.stripe_secret_key.get_secret_value(),
            base_addresses={"api": str(self._settings.stripe_api_url).rstrip("/")},
            http_client=self._http,
            max_network_retries=2,
        )

    async def close(self) -> None:
        """Give the connections back, if there was a call."""
        if "_http" in vars(self):
            await self._http.close_async()  # type: ignore[no-untyped-call]


class Checkouts(Stripe):
    """Makes pages to pay at."""

    def __init__(self) -> None:
        super().__init__()
        self._pages = CheckoutSettings()

    async def create(
        self,
        *,
        organization_id: str,
        top_up_id: str,
        amount_micros: int,
        email: str,
        save_card: bool,
        customer_id: str | None,
    ) -> tuple[str, str]:
        """Make the checkout of a top-up (whole cents, in µ$) and give its id and pay page.

        The idempotency key is derived from our row: a repeated call answers the same checkout. The
        metadata tells the webhook where to look, no more: amount and currency are what was paid.
        To save the card there must be a customer at Stripe: the one named, or else a new one.

        Raises FaregateError: payment_provider_unavailable.
        """
        from stripe import StripeError

        reference = {"organization_id": organization_id, "top_up_id": top_up_id}
        asked: Any = {
            "mode": "payment",
            "client_reference_id": top_up_id,
            "line_items": [
                {
                    "quantity": 1,
                    "price_data": {
                        "currency": "usd",
                        "unit_amount": amount_micros // _MICROS_PER_CENT,
                        "product_data": {"name": "Credits"},
                    },
                }
            ],
            "metadata": reference,
            "payment_intent_data": {"metadata": reference},
            "success_url": str(self._pages.checkout_success_url),
            "cancel_url": str(self._pages.checkout_cancel_url),
        }
        if save_card:
            asked["payment_method_types"] = ["card"]
            asked["payment_intent_data"]["setup_future_usage"] = "off_session"
        if customer_id:
            asked["customer"] = customer_id
        else:
            asked["customer_email"] = email
            asked["customer_creation"] = "always" if save_card else "if_required"
        try:
            checkout = await self._client.v1.checkout.sessions.create_async(
                asked, {"idempotency_key": f"top-up-{top_up_id}"}
            )
        except StripeError as error:
            raise FaregateError("payment_provider_unavailable") from error
        if checkout.url is None:
            raise FaregateError("payment_provider_unavailable")
        return checkout.id, checkout.url


class Charge(NamedTuple):
    """What became of a charge: the payment as Stripe has it, paid or not, else why there is none.

    Neither: Stripe knows of no such payment.
    """

    intent: dict[str, Any] | None
    refusal: str | None = None


class Charges(Stripe):
    """Charges saved cards in their owner's absence."""

    async def charge(
        self,
        *,
        organization_id: str,
        top_up_id: str,
        amount_micros: int,
        customer_id: str,
        payment_method_id: str,
    ) -> Charge:
        """Charge a card for a top-up (whole cents, in µ$).

        The idempotency key is derived from our row, and Stripe keeps it for a day: repeated within
        that, it is the same charge. A refusal counts only if no earlier attempt made a payment.

        Raises FaregateError: unavailable.
        """
        from stripe import CardError, InvalidRequestError, StripeError

        asked: Any = {
            "amount": amount_micros // _MICROS_PER_CENT,
            "currency": "usd",
            "customer": customer_id,
            "payment_method": payment_method_id,
            "payment_method_types": ["card"],
            "confirm": True,
            "off_session": True,
            "description": "Credits",
            "metadata": {"organization_id": organization_id, "top_up_id": top_up_id},
        }
        try:
            intent = await self._client.v1.payment_intents.create_async(
                asked, {"idempotency_key": f"top-up-{top_up_id}"}
            )
            return Charge(intent.to_dict(for_json=True))
        except (CardError, InvalidRequestError) as error:
            made = await self.find(top_up_id=top_up_id, customer_id=customer_id)
            if made.intent:
                return made
            refusal = "card_declined" if isinstance(error, CardError) else "card_unusable"
            return Charge(None, refusal)
        except StripeError as error:
            raise FaregateError("unavailable") from error

    async def find(self, *, top_up_id: str, customer_id: str) -> Charge:
        """Look for a top-up's payment among those of its customer.

        Raises FaregateError: unavailable.
        """
        from stripe import InvalidRequestError, StripeError

        asked: Any = {"customer": customer_id, "limit": 100}
        try:
            intents = await self._client.v1.payment_intents.list_async(asked)
            async for intent in intents.auto_paging_iter():
                found = intent.to_dict(for_json=True)
                if (found["metadata"] or {}).get("top_up_id") == top_up_id:
                    return Charge(found)
        except InvalidRequestError:  # there is no such customer any more
            return Charge(None)
        except StripeError as error:
            raise FaregateError("unavailable") from error
        return Charge(None)


Kind = Literal["event", "checkout.session", "payment_intent", "refund", "dispute"]
StripePage = dict[str, list[dict[str, Any]]]
"""{"data": objects}, as SQL wants them told."""

NEWS = (
    "checkout.session.completed",
    "checkout.session.async_payment_succeeded",
    "checkout.session.async_payment_failed",
    "checkout.session.expired",
    "payment_intent.succeeded",
    "payment_intent.payment_failed",
    "payment_intent.canceled",
    "refund.created",
    "refund.updated",
    "refund.failed",
    "charge.refund.updated",
    "charge.refunded",
    "charge.dispute.created",
    "charge.dispute.updated",
    "charge.dispute.closed",
    "charge.dispute.funds_withdrawn",
    "charge.dispute.funds_reinstated",
)
"""The types of events that the webhook acts on. Stripe takes up to twenty."""


class Lists(Stripe):
    """Reads what Stripe has: of a span of time, or of one payment, refund or dispute."""

    def __init__(self) -> None:
        super().__init__()
        self.live_mode = StripeModeSettings().stripe_live_mode

    async def pages(self, kind: Kind, since: int, until: int) -> AsyncIterator[StripePage]:
        """Give all objects of a kind that were made between these seconds, a hundred at a time.

        Raises FaregateError: payment_provider_unavailable.
        """
        from stripe import StripeError

        v1: Any = self._client.v1
        lists, more = {
            "event": (v1.events, {"types": list(NEWS)}),
            "checkout.session": (v1.checkout.sessions, {}),
            "payment_intent": (v1.payment_intents, {"expand": ["data.latest_charge"]}),
            "refund": (v1.refunds, {}),
            "dispute": (v1.disputes, {}),
        }[kind]
        asked = {"created": {"gte": since, "lte": until}, "limit": 100} | more
        try:
            page = await lists.list_async(asked)
            while page.data:
                yield _plain(page.data)
                page = await page.next_page_async()
        except StripeError as error:
            raise FaregateError("payment_provider_unavailable") from error

    async def find(self, provider_id: str) -> tuple[StripePage, str]:
        """Give all that Stripe has now of a payment, refund or dispute, and when it was asked.

        A payment comes after its checkout, if it has one. What is unknown has no objects.

        Raises FaregateError: payment_provider_unavailable.
        """
        from stripe import InvalidRequestError, StripeError

        v1: Any = self._client.v1
        asked_at = str(int(time()))
        try:
            if provider_id.startswith("pi_"):
                checkouts = await v1.checkout.sessions.list_async({"payment_intent": provider_id})
                expanded = {"expand": ["latest_charge"]}
                payment = await v1.payment_intents.retrieve_async(provider_id, expanded)
                found = [*checkouts.data, payment]
            elif provider_id.startswith(("dp_", "du_")):
                found = [await v1.disputes.retrieve_async(provider_id)]
            else:
                found = [await v1.refunds.retrieve_async(provider_id)]
        except InvalidRequestError as error:
            if error.http_status != 404 and error.code != "resource_missing":
                raise FaregateError("payment_provider_unavailable") from error
            found = []
        except StripeError as error:
            raise FaregateError("payment_provider_unavailable") from error
        return _plain(found), asked_at


def _plain(found: list[Any]) -> StripePage:
    return {"data": [each.to_dict(for_json=True) for each in found]}
