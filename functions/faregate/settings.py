"""Settings from the environment, in groups: a function starts only with those it needs.

`.env.example` lists them all, commented; a test holds the two together.
"""

import json
import re
from decimal import Decimal
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    HttpUrl,
    PostgresDsn,
    SecretStr,
    StringConstraints,
    model_validator,
)
from pydantic_settings import BaseSettings, SettingsConfigDict

from faregate.conceal import never_show

Text = Annotated[str, StringConstraints(min_length=1, strip_whitespace=True)]
Secret = Annotated[SecretStr, Field(min_length=1)]


def _one_word(key: SecretStr) -> SecretStr:
    # As a header with a line break it would be in the HTTP client's complaint, and so in the log.
    if not re.fullmatch("[!-~]+", key.get_secret_value()):
        raise ValueError("must be one word of ASCII characters")
    return key


ApiKey = Annotated[SecretStr, AfterValidator(_one_word)]


class Settings(BaseSettings):
    """A group of settings. Names are those of the environment, without regard to case.

    What of it is secret is concealed in the log from then on.
    """

    model_config = SettingsConfigDict(
        frozen=True, env_ignore_empty=True, str_strip_whitespace=True, hide_input_in_errors=True
    )

    def model_post_init(self, _context: Any) -> None:  # noqa: ANN401  pydantic's signature
        """Conceal."""
        _never_show(self)


def _never_show(group: BaseModel) -> None:
    for _, value in group:
        if isinstance(value, SecretStr):
            never_show(value.get_secret_value())
        elif isinstance(value, PostgresDsn):
            for host in value.hosts():
                never_show(host["password"])


def _never_show_jwk(text: str) -> None:
    try:
        jwk = json.loads(text)
    except ValueError:
        return  # whoever signs with it refuses it
    if isinstance(jwk, dict):
        for name in ("d", "p", "q", "dp", "dq", "qi", "k"):
            never_show(str(jwk.get(name, "")))


class DeploymentSettings(Settings):
    """What is running, and where: what Cloud Run and the deployment tell."""

    # Cloud Run sets them: the service's name, and the deployed state of it.
    k_service: Text | None = None
    k_revision: Text | None = None
    image_digest: Text | None = None
    google_cloud_project: Text | None = None


class TracingSettings(Settings):
    """Whether spans are recorded, and where to. The names of OpenTelemetry."""

    tracing: bool = False
    otel_exporter_otlp_endpoint: HttpUrl | None = None
    otel_exporter_otlp_headers: SecretStr | None = None

    @model_validator(mode="after")
    def _somebody_takes_them(self) -> Self:
        if self.tracing and not self.otel_exporter_otlp_endpoint:
            raise ValueError("tracing needs otel_exporter_otlp_endpoint")
        return self


class HttpSettings(Settings):
    """What every function needs to answer over HTTP."""

    cors_allowed_origins: str = ""
    top_up_url: HttpUrl | None = None
    # What a credit, the display unit, is worth.
    credit_value_usd: Annotated[
        Decimal, Field(gt=0, le=1_000_000, max_digits=13, decimal_places=6)
    ] = Decimal(1)
    # How many proxies before us are to be believed about where a request comes from.
    trusted_proxies: Annotated[int, Field(ge=0, le=10)] = 0

    @property
    def origins(self) -> list[str]:
        """The origins of browsers that may call, in the order given."""
        return [origin.strip() for origin in self.cors_allowed_origins.split(",") if origin.strip()]


class DatabaseSettings(Settings):
    """How to reach Postgres: a pooler in transaction mode, or the Supabase project's API."""

    database_url: PostgresDsn | None = None
    database_pool_size: Annotated[int, Field(ge=1, le=64)] = 4
    supabase_url: HttpUrl | None = None
    supabase_secret_key: ApiKey | None = None

    @model_validator(mode="after")
    def _has_a_way(self) -> Self:
        if not (self.database_url or (self.supabase_url and self.supabase_secret_key)):
            raise ValueError("set database_url, or both supabase_url and supabase_secret_key")
        return self


class ProjectSettings(Settings):
    """Where the Supabase project is."""

    supabase_url: HttpUrl

    @property
    def auth_url(self) -> str:
        """The address of Supabase Auth, which is also the issuer of users' tokens."""
        return f"{str(self.supabase_url).rstrip('/')}/auth/v1"

    @property
    def rest_url(self) -> str:
        """The address of PostgREST, where customers read their rows."""
        return f"{str(self.supabase_url).rstrip('/')}/rest/v1"


class UserTokenSettings(ProjectSettings):
    """Whose sign-ins count: one Supabase project, one algorithm."""

    auth_jwt_algorithm: Literal["ES256", "RS256", "HS256"] = "ES256"
    supabase_jwt_secret: Annotated[SecretStr, Field(min_length=32)] | None = None

    @model_validator(mode="after")
    def _the_secret_is_for_hs256(self) -> Self:
        if (self.auth_jwt_algorithm == "HS256") is not bool(self.supabase_jwt_secret):
            raise ValueError(
                "auth_jwt_algorithm HS256 needs supabase_jwt_secret, and the others refuse it"
            )
        return self


class ReaderTokenSettings(ProjectSettings):
    """With which of the project's keys a passport's tokens are signed."""

    token_signing_key: Secret

    def model_post_init(self, context: Any) -> None:  # noqa: ANN401  pydantic's signature
        """Conceal the private parts of the key by themselves, too."""
        super().model_post_init(context)
        _never_show_jwk(self.token_signing_key.get_secret_value())


class AuthAdminSettings(Settings):
    """How to have Supabase Auth send mails, and where their links lead."""

    supabase_url: HttpUrl
    supabase_secret_key: ApiKey
    invitation_url: HttpUrl
    # It hands the mail on before it answers.
    supabase_auth_timeout_seconds: Annotated[float, Field(gt=0, le=300)] = 30


class InvokerSettings(Settings):
    """Which Google service account may call a schedule or a task, and for which audience.

    invoker_guard: who verifies the signature of its token. iam: Cloud Run has, and removed it.
    """

    invoker_service_account: Text
    invoker_audience: Text
    invoker_guard: Literal["code", "iam"] = "code"
    google_issuer: Text = "https://accounts.google.com"
    google_jwks_url: HttpUrl = HttpUrl("https://www.googleapis.com/oauth2/v3/certs")


class StripeSettings(Settings):
    """How to call Stripe."""

    stripe_secret_key: ApiKey
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


class GoogleSettings(Settings):
    """In which project the cloud's resources of customers are."""

    google_project: Text


class BucketSettings(GoogleSettings):
    """How to call Cloud Storage."""

    storage_api_url: HttpUrl = HttpUrl("https://storage.googleapis.com")


class ArchiveSettings(BucketSettings):
    """Which bucket of ours takes the usage that has left the database; none: it stays."""

    usage_archive_bucket: Text | None = None


class SignerSettings(BucketSettings):
    """As whom addresses of objects are signed, and who signs without giving the key away."""

    storage_signer: Text
    iam_credentials_api_url: HttpUrl = HttpUrl("https://iamcredentials.googleapis.com")


class FilestoreSettings(GoogleSettings):
    """How to call Filestore, and to which network file shares are connected."""

    filestore_api_url: HttpUrl = HttpUrl("https://file.googleapis.com")
    filestore_network: Text = "default"


class IdentitySettings(GoogleSettings):
    """How to call IAM, and whose workloads may act as an organization's service account."""

    iam_api_url: HttpUrl = HttpUrl("https://iam.googleapis.com")
    workload_identity_pool: Annotated[
        str, StringConstraints(pattern=r"^[a-z][a-z0-9:.-]+\.svc\.id\.goog$")
    ]


class S3Endpoint(BaseModel):
    """An S3 endpoint and the key to it."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    url: HttpUrl
    access_key_id: Text
    secret_access_key: Secret

    def model_post_init(self, _context: Any) -> None:  # noqa: ANN401  pydantic's signature
        """Conceal the key in the log."""
        _never_show(self)


class S3Settings(Settings):
    """The S3 endpoints that regions name."""

    s3_endpoints: dict[str, S3Endpoint] = {}
