"""Stripe's lists: what it has of a span of time, and of one payment, refund or dispute now."""

import json
from collections.abc import AsyncIterator
from functools import cached_property
from time import time
from typing import TYPE_CHECKING, Any, Literal

from faregate.errors import FaregateError
from faregate.settings import StripeListsSettings

if TYPE_CHECKING:
    from stripe import HTTPXClient, StripeClient

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


class StripeLists:
    """Reads Stripe, page by page. Its library is imported at the first call."""

    def __init__(self) -> None:
        self._settings = StripeListsSettings()
        self.live_mode = self._settings.stripe_live_mode

    @cached_property
    def _http(self) -> "HTTPXClient":
        from stripe import HTTPXClient

        return HTTPXClient(timeout=30, allow_sync_methods=False)

    @cached_property
    def _client(self) -> "StripeClient":
        from stripe import StripeClient

        return StripeClient(
            self._settings.stripe_secret_key.get_secret_value(),
            base_addresses={"api": str(self._settings.stripe_api_url).rstrip("/")},
            http_client=self._http,
            max_network_retries=2,
        )

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

    async def close(self) -> None:
        """Give the connections back, if there was a call."""
        if "_http" in vars(self):
            await self._http.close_async()  # type: ignore[no-untyped-call]


def _plain(found: list[Any]) -> StripePage:
    text = json.dumps([each.to_dict(for_json=True) for each in found])
    # jsonb cannot hold a NUL; no field that we act on can contain one.
    return {"data": json.loads(text.replace("\\u0000", "\\ufffd"))}
