"""Stand-in for the gateway in front of a Supabase project: who may pass with which API key."""

from collections.abc import Mapping


class SupabaseKeys:
    """The project's two API keys."""

    def __init__(self, publishable: str, secret: str) -> None:
        self._publishable, self._secret = publishable, secret

    def admits(self, headers: Mapping[str, str]) -> bool:
        """Tell whether a request carries one of the project's keys."""
        return headers.get("apikey") in {self._publishable, self._secret}

    def is_secret(self, headers: Mapping[str, str]) -> bool:
        """Tell whether a request may do what only the project's own servers may."""
        return self.bearer(headers) == self._secret

    @staticmethod
    def bearer(headers: Mapping[str, str]) -> str:
        """Find the token to judge a request by; without one the API key speaks for itself."""
        scheme, _, token = headers.get("authorization", "").partition(" ")
        return token if scheme.lower() == "bearer" and token else headers.get("apikey", "")
