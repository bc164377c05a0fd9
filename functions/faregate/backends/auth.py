"""Supabase Auth, called with the project's secret key: has it mail links that sign in."""

import hmac
import logging
from base64 import urlsafe_b64encode
from collections.abc import Awaitable
from functools import cached_property
from typing import TYPE_CHECKING
from uuid import UUID

import httpx

from faregate.errors import FaregateError
from faregate.settings import AuthAdminSettings

if TYPE_CHECKING:
    from supabase import AsyncClient

# They write down addresses that they call, and a link's token is part of those.
for _name in ("httpx", "httpcore"):
    logging.getLogger(_name).setLevel(logging.WARNING)

# What no repetition mends. Anything else may pass: a limit, an outage, a setting of ours.
_FINAL = {"validation_failed", "email_address_invalid", "email_address_not_authorized"}


class InvitationMails:
    """Mails links to where an invitation is accepted; whoever follows one is signed in there.

    Supabase's library is imported at the first call.
    """

    def __init__(self) -> None:
        self._settings = AuthAdminSettings()

    @cached_property
    def _http(self) -> httpx.AsyncClient:
        return httpx.AsyncClient(timeout=self._settings.supabase_auth_timeout_seconds)

    @cached_property
    def _client(self) -> "AsyncClient":
        from supabase import AsyncClient, AsyncClientOptions

        return AsyncClient(
            str(self._settings.supabase_url),
            self._settings.supabase_secret_key.get_secret_value(),
            AsyncClientOptions(
                httpx_client=self._http,
                # With "pkce" only we, who asked for it, could use the link.
                flow_type="implicit",
                auto_refresh_token=False,
                persist_session=False,
            ),
        )

    def token(self, invitation_id: UUID) -> str:
        """Make an invitation's token: 256 bits that nobody guesses who has not the project's key.

        Not drawn, but derived, so that nobody need keep it: of a mail that is sent twice, whatever
        became of the first, both are good.
        """
        key = self._settings.supabase_secret_key.get_secret_value().encode()
        mac = hmac.digest(key, b"invitation:" + invitation_id.bytes, "sha256")
        return urlsafe_b64encode(mac).decode().rstrip("=")

    async def send(self, email: str, token: str) -> str | None:
        """Mail a link with a token to an address; make its user if there is none.

        Gives why that will never work, or None.

        Raises FaregateError: unavailable.
        """
        auth = self._client.auth
        address = httpx.URL(str(self._settings.invitation_url))
        link = str(address.copy_merge_params({"invitation": token}))
        refusal = await _refusal(auth.admin.invite_user_by_email(email, {"redirect_to": link}))
        if refusal == "email_exists":
            refusal = await _refusal(
                auth.sign_in_with_otp(
                    {
                        "email": email,
                        "options": {"should_create_user": False, "email_redirect_to": link},
                    }
                )
            )
        if refusal is None:
            return None
        if refusal in _FINAL:
            return "address_refused"
        raise FaregateError("unavailable") from RuntimeError(f"Supabase Auth: {refusal}")

    async def close(self) -> None:
        """Give the connections back, if there was a call."""
        if "_http" in vars(self):
            await self._http.aclose()


async def _refusal(call: Awaitable[object]) -> str | None:
    """Give the code of a call's refusal, or the name of what went wrong, or None.

    Never the error itself, for the log: it quotes the link.
    """
    from supabase import AuthApiError

    try:
        await call
    except AuthApiError as error:
        return error.code or f"status {error.status}"
    except Exception as error:  # noqa: BLE001  HTML answers, lost connections, what else there is
        return type(error).__name__
    return None
