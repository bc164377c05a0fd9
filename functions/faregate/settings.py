"""Settings from the environment, in groups: a function starts only with those it needs.

`.env.example` lists them all, commented; a test holds the two together.
"""

from decimal import Decimal
from typing import Annotated, Literal

from pydantic import Field, HttpUrl, PostgresDsn, SecretStr, StringConstraints
from pydantic_settings import BaseSettings, SettingsConfigDict

Text = Annotated[str, StringConstraints(min_length=1, strip_whitespace=True)]
Secret = Annotated[SecretStr, Field(min_length=1)]


class Settings(BaseSettings):
    """A group of settings. Names are those of the environment, without regard to case."""

    model_config = SettingsConfigDict(
        frozen=True, env_ignore_empty=True, str_strip_whitespace=True, hide_input_in_errors=True
    )


class HttpSettings(Settings):
    """What every function needs to answer over HTTP."""

    cors_allowed_origins: str = ""
    top_up_url: HttpUrl | None = None
    # What a credit, the display unit, is worth.
    credit_value_usd: Annotated[
        Decimal, Field(gt=0, le=1_000_000, max_digits=13, decimal_places=6)
    ] = Decimal(1)

    @property
    def origins(self) -> list[str]:
        """The origins of browsers that may call, in the order given."""
        return [origin.strip() for origin in self.cors_allowed_origins.split(",") if origin.strip()]


class DatabaseSettings(Settings):
    """How to reach Postgres: a pooler in transaction mode."""

    database_url: PostgresDsn
    database_pool_size: Annotated[int, Field(ge=1, le=64)] = 4


class UserTokenSettings(Settings):
    """Whose sign-ins count: one Supabase project, one algorithm."""

    supabase_url: HttpUrl
    auth_jwt_algorithm: Literal["ES256", "RS256"] = "ES256"


class InvokerSettings(Settings):
    """Which Google service account may call a schedule or a task, and for which audience."""

    invoker_service_account: Text
    invoker_audience: Text
    google_issuer: Text = "https://accounts.google.com"
    google_jwks_url: HttpUrl = HttpUrl("https://www.googleapis.com/oauth2/v3/certs")


class StripeSettings(Settings):
    """How to call Stripe."""

    stripe_secret_key: Secret
    stripe_api_url: HttpUrl = HttpUrl("https://api.stripe.com")


class CheckoutSettings(Settings):
    """Where Stripe's pay page sends the customer afterwards."""

    checkout_success_url: HttpUrl
    checkout_cancel_url: HttpUrl


class SellerSettings(Settings):
    """Who sells the credits: what a receipt is headed with."""

    seller_name: Text = "Faregate"
    seller_address: str = ""


class StripeModeSettings(Settings):
    """Of which mode of Stripe we are: the other's money is none."""

    stripe_live_mode: bool = False


class StripeWebhookSettings(StripeModeSettings):
    """Which Stripe notifications are genuine and ours."""

    stripe_webhook_secret: Secret
    stripe_account_id: Text | None = None


class TasksSettings(Settings):
    """Where the queues are, which function they call, and as whom.

    Each topic of the outbox has a queue and a task function of its name: stop-session for
    stop_session.
    """

    tasks_api_url: HttpUrl = HttpUrl("https://cloudtasks.googleapis.com")
    tasks_location: Annotated[str, StringConstraints(pattern=r"^projects/[^/]+/locations/[^/]+$")]
    tasks_target_url: HttpUrl
    tasks_service_account: Text
    tasks_audience: Text
