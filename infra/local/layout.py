"""Which address, key and secret each part of the laptop has."""

import json
import os
from functools import cached_property
from pathlib import Path
from secrets import token_hex, token_urlsafe
from time import time
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from jwt.algorithms import ECAlgorithm, RSAAlgorithm
from pydantic import BaseModel, ConfigDict

from infra.local import paths
from infra.local.progress import RefusalError

PORT_VARIABLE = "FAREGATE_PORT"
DEFAULT_PORT = 8787
WAY_VARIABLE = "FAREGATE_DATABASE"
WAYS = ("postgres", "supabase")
DATABASE = "faregate"
LOCATION = "projects/local/locations/local"
QUEUE = f"{LOCATION}/queues/stop-session"
GOOGLE_PROJECT = "local"
INVOKER = f"invoker@{GOOGLE_PROJECT}.iam.gserviceaccount.com"
# It signs the addresses of objects.
SIGNER = f"signer@{GOOGLE_PROJECT}.iam.gserviceaccount.com"
S3_ENDPOINT = "local"
S3_KEY = {"access_key_id": "local", "secret_access_key": "local-secret"}
_TEN_YEARS_SECONDS = 315_360_000


class Secrets(BaseModel):
    """What a checkout generates once and keeps, readable by its owner only."""

    model_config = ConfigDict(frozen=True)

    database_password: str
    auth_private_key: str
    google_private_key: str
    reader_private_key: str
    publishable_key: str
    secret_key: str
    stripe_secret_key: str
    stripe_webhook_secret: str

    @classmethod
    def load(cls) -> "Secrets":
        """Read the secrets; make them the first time."""
        file = paths.STATE / "secrets.json"
        try:
            stored = json.loads(file.read_text()) if file.exists() else {}
            if not cls.model_fields.keys() <= stored.keys():
                # The first time all of them, later those that an older checkout did not have.
                stored = cls._generate().model_dump() | stored
                write_private(file, json.dumps(stored, indent=2))
            return cls.model_validate(stored)
        except (ValueError, AttributeError) as error:
            raise RefusalError(f"{file} is damaged; remove {paths.STATE}.") from error

    @classmethod
    def _generate(cls) -> "Secrets":
        def pem(key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey) -> str:
            return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()

        auth_private_key = pem(ec.generate_private_key(ec.SECP256R1()))
        auth_key = SigningKey(auth_private_key, "ES256", "local-es256")
        return cls(
            database_password=token_hex(16),
            auth_private_key=auth_private_key,
            google_private_key=pem(rsa.generate_private_key(65537, 2048)),
            reader_private_key=pem(ec.generate_private_key(ec.SECP256R1())),
            publishable_key=_api_key(auth_key, "anon"),
            secret_key=_api_key(auth_key, "service_role"),
            stripe_secret_key=f"sk_test_{token_hex(24)}",
            stripe_webhook_secret=f"whsec_{token_urlsafe(24)}",
        )


class SigningKey:
    """A private key that signs JSON web tokens and tells the world its public half."""

    def __init__(self, pem: str, algorithm: str, kid: str) -> None:
        key = load_pem_private_key(pem.encode(), password=None)
        if not isinstance(key, ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey):
            raise TypeError(f"no key for {algorithm}")
        self._key, self._algorithm, self._kid = key, algorithm, kid

    @cached_property
    def public_jwk(self) -> dict[str, Any]:
        """Give the public half as a JSON web key."""
        return self._jwk(self._key.public_key())

    @cached_property
    def private_jwk(self) -> dict[str, Any]:
        """Give the whole key as a JSON web key, as `supabase gen signing-key` does."""
        return self._jwk(self._key)

    def sign(self, claims: dict[str, Any]) -> str:
        """Sign claims."""
        return jwt.encode(claims, self._key, self._algorithm, headers={"kid": self._kid})

    def _jwk(self, key: Any) -> dict[str, Any]:  # noqa: ANN401  either half, of either kind
        kind = ECAlgorithm if self._algorithm == "ES256" else RSAAlgorithm
        jwk = kind.to_jwk(key, as_dict=True)
        return {**jwk, "alg": self._algorithm, "use": "sig", "kid": self._kid}


class Layout:
    """Every address of the stack follows from one base port, every key from the secrets."""

    def __init__(self, port: int, secrets: Secrets) -> None:
        self.secrets = secrets
        self.ports = range(port, port + 5)
        self.api_port, self.cloud_port, self.rest_port, self.database_port, self.s3_port = (
            self.ports
        )
        self.api_url = f"http://127.0.0.1:{self.api_port}"
        self.supabase_url = f"http://127.0.0.1:{self.cloud_port}"
        self.auth_url = f"{self.supabase_url}/auth/v1"
        self.rest_url = f"{self.supabase_url}/rest/v1"
        self.postgrest_url = f"http://127.0.0.1:{self.rest_port}"
        self.stripe_url = f"{self.supabase_url}/stripe"
        self.tasks_url = f"{self.supabase_url}/tasks"
        self.google_url = f"{self.supabase_url}/google"
        self.gcs_url = f"{self.supabase_url}/gcs"
        self.iam_url = f"{self.supabase_url}/iam"
        self.iam_credentials_url = f"{self.supabase_url}/iamcredentials"
        self.filestore_url = f"{self.supabase_url}/filestore"
        self.auth_key = SigningKey(secrets.auth_private_key, "ES256", "local-es256")
        self.reader_key = SigningKey(secrets.reader_private_key, "ES256", "local-reader")
        self.google_key = SigningKey(secrets.google_private_key, "RS256", "local-rs256")

    @classmethod
    def load(cls) -> "Layout":
        """Read the base port from the environment and the secrets from `.local`."""
        text = os.environ.get(PORT_VARIABLE, str(DEFAULT_PORT))
        if not text.isdecimal() or not 1024 <= int(text) <= 65530:
            raise RefusalError(f"{PORT_VARIABLE} must be a port from 1024 to 65530, not {text!r}.")
        return cls(int(text), Secrets.load())

    @property
    def s3_url(self) -> str:
        """Tell where the S3 endpoint is."""
        return f"http://127.0.0.1:{self.s3_port}"

    @property
    def jwks(self) -> dict[str, Any]:
        """Give the keys that the Supabase project trusts: Auth's, and the imported one."""
        return {"keys": [self.auth_key.public_jwk, self.reader_key.public_jwk]}

    def database(self, role: str) -> str:
        """Tell how a role reaches the database."""
        password = self.secrets.database_password
        return f"postgresql://{role}:{password}@127.0.0.1:{self.database_port}/{DATABASE}"

    def postgrest_environment(self, database_url: str, port: int) -> dict[str, str]:
        """Set what PostgREST reads, as a Supabase project with our config.toml has it."""
        return {
            "PGRST_DB_URI": database_url,
            "PGRST_DB_SCHEMAS": "api",
            "PGRST_DB_EXTRA_SEARCH_PATH": "",
            "PGRST_DB_ANON_ROLE": "anon",
            "PGRST_DB_MAX_ROWS": "1000",  # a Supabase project's default
            # No PGRST_JWT_AUD: users' tokens name another audience than passports'. Nobody else
            # signs with these keys, and whoever is no member and no passport reads nothing.
            "PGRST_JWT_SECRET": json.dumps(self.jwks),
            "PGRST_SERVER_HOST": "127.0.0.1",
            "PGRST_SERVER_PORT": str(port),
            "PGRST_LOG_LEVEL": "warn",
        }

    def functions_environment(self, way: str = WAYS[0]) -> dict[str, str]:
        """Set what functions read that go this way into the database, as a deployment does."""
        return {
            "DATABASE_URL": self.database("faregate_functions") if way == "postgres" else "",
            "DATABASE_POOL_SIZE": "8",
            "SUPABASE_URL": self.supabase_url,
            "TOKEN_SIGNING_KEY": json.dumps(self.reader_key.private_jwk),
            "SUPABASE_SECRET_KEY": self.secrets.secret_key,
            "INVITATION_URL": f"{self.api_url}/docs",
            "INVOKER_SERVICE_ACCOUNT": INVOKER,
            "INVOKER_AUDIENCE": self.api_url,
            "GOOGLE_ISSUER": self.google_url,
            "GOOGLE_JWKS_URL": f"{self.google_url}/oauth2/v3/certs",
            "TASKS_API_URL": self.tasks_url,
            "TASKS_LOCATION": LOCATION,
            "TASKS_TARGET_URL": self.api_url,
            "TASKS_SERVICE_ACCOUNT": INVOKER,
            "TASKS_AUDIENCE": self.api_url,
            "STRIPE_SECRET_KEY": self.secrets.stripe_secret_key,
            "STRIPE_API_URL": self.stripe_url,
            "STRIPE_WEBHOOK_SECRET": self.secrets.stripe_webhook_secret,
            "STRIPE_LIVE_MODE": "false",
            "CHECKOUT_SUCCESS_URL": f"{self.stripe_url}/return/paid",
            "CHECKOUT_CANCEL_URL": f"{self.stripe_url}/return/cancelled",
            "TOP_UP_URL": f"{self.api_url}/docs",
            "CORS_ALLOWED_ORIGINS": "http://localhost:3000",
            "CREDIT_VALUE_USD": "1",
            "GOOGLE_PROJECT": GOOGLE_PROJECT,
            "STORAGE_API_URL": self.gcs_url,
            "STORAGE_SIGNER": SIGNER,
            "IAM_CREDENTIALS_API_URL": self.iam_credentials_url,
            "FILESTORE_API_URL": self.filestore_url,
            "FILESTORE_NETWORK": "default",
            "IAM_API_URL": self.iam_url,
            "WORKLOAD_IDENTITY_POOL": f"{GOOGLE_PROJECT}.svc.id.goog",
            "S3_ENDPOINTS": json.dumps({S3_ENDPOINT: {"url": self.s3_url, **S3_KEY}}),
        }


def _api_key(key: SigningKey, role: str) -> str:
    """Make a key as Supabase's gateway hands it on: a token that names a database role."""
    now = int(time())
    return key.sign({"iss": "supabase", "role": role, "iat": now, "exp": now + _TEN_YEARS_SECONDS})


def write_private(file: Path, text: str) -> None:
    """Write a file that only its owner can read, whole or not at all."""
    unfinished = file.with_name(f"{file.name}.unfinished")
    unfinished.unlink(missing_ok=True)
    with os.fdopen(os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as out:
        out.write(text)
    unfinished.rename(file)
