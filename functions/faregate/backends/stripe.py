"""Stripe: makes checkouts."""

from functools import cached_property
from typing import TYPE_CHECKING

from faregate.errors import FaregateError
from faregate.settings import StripeSettings

if TYPE_CHECKING:
    from stripe import HTTPXClient, StripeClient

_MICROS_PER_CENT = 10_000


class Stripe:
    """The calls of Stripe's API that we make.

    Its library is imported at the first checkout: whoever reads a balance does not wait for it.
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

    async def create_checkout(
        self, *, organization_id: str, top_up_id: str, email: str, amount_micros: int
    ) -> tuple[str, str]:
        """Make the checkout of a top-up (whole cents, in µ$) and give its id and pay page.

        The idempotency key is derived from our row: a repeated call answers the same checkout. The
        metadata tells the webhook where to look, no more: amount and currency are what was paid.

        Raises FaregateError: payment_provider_unavailable.
        """
        from stripe import StripeError

        reference = {"organization_id": organization_id, "top_up_id": top_up_id}
        try:
            checkout = await self._client.v1.checkout.sessions.create_async(
                {
                    "mode": "payment",
                    "client_reference_id": top_up_id,
                    "customer_email": email,
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
                    "success_url": str(self._settings.checkout_success_url),
                    "cancel_url": str(self._settings.checkout_cancel_url),
                },
                {"idempotency_key": f"top-up-{top_up_id}"},
            )
        except StripeError as error:
            raise FaregateError("payment_provider_unavailable") from error
        if checkout.url is None:
            raise FaregateError("payment_provider_unavailable")
        return checkout.id, checkout.url

    async def close(self) -> None:
        """Give the connections back, if there was a checkout."""
        if "_http" in vars(self):
            await self._http.close_async()  # type: ignore[no-untyped-call]
