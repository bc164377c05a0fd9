"""Stripe's notifications: which are genuine. https://docs.stripe.com/webhooks#verify-manually."""

import json
import re
from time import time
from typing import Any

import stripe
from pydantic_core import from_json

from faregate.errors import FaregateError
from faregate.settings import StripeWebhookSettings

_TOLERANCE_SECONDS = 300
_MAX_NAME_LENGTH = 255
_TIMESTAMP = re.compile(r"(?:^|,)t=(\d{1,12})(?:,|$)", re.ASCII)


class StripeWebhook:
    """Verifies Stripe's signatures and says which account and mode are ours."""

    def __init__(self) -> None:
        settings = StripeWebhookSettings()
        self._secret = settings.stripe_webhook_secret.get_secret_value()
        self.live_mode = settings.stripe_live_mode
        self.account_id = settings.stripe_account_id

    def event(self, body: bytes, signature: str) -> dict[str, Any]:
        """Give the event that Stripe signed: the raw body, at most five minutes ago.

        Raises FaregateError: invalid_signature, or invalid_request when a genuine body is no event.
        """
        if not self._is_signed(body, signature):
            raise FaregateError("invalid_signature")
        try:
            event = from_json(body, allow_inf_nan=False)
            json.dumps(event, allow_nan=False)  # 1e400 is infinite only now
        except ValueError as error:
            raise FaregateError("invalid_request") from error
        if not isinstance(event, dict) or not all(
            isinstance(event.get(name), str) and 0 < len(event[name]) <= _MAX_NAME_LENGTH
            for name in ("id", "type")
        ):
            raise FaregateError("invalid_request")
        return event

    def _is_signed(self, body: bytes, signature: str) -> bool:
        timestamp = _TIMESTAMP.search(signature)
        # The library accepts a timestamp of any distance in the future, and trips over non-ASCII.
        if (
            not signature.isascii()
            or not timestamp
            or int(timestamp[1]) > time() + _TOLERANCE_SECONDS
        ):
            return False
        try:
            stripe.WebhookSignature.verify_header(
                body.decode(), signature, self._secret, _TOLERANCE_SECONDS
            )
        except (stripe.SignatureVerificationError, UnicodeDecodeError):
            return False
        return True

    async def close(self) -> None:
        """Nothing is kept open."""
