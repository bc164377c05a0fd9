"""Settings: documented all, and a function does not start without those it needs."""

import inspect
import json
import re
import traceback
from collections.abc import Mapping

import pytest
from anyio.from_thread import BlockingPortal
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from jwt.algorithms import ECAlgorithm, HMACAlgorithm, RSAAlgorithm
from jwt.types import JWKDict
from pydantic import ValidationError

from faregate import settings
from faregate.function import FUNCTIONS
from infra.local import paths
from infra.openapi import PLACEHOLDERS
from tests.harness.client import load

EXAMPLE = (paths.ROOT / "functions" / ".env.example").read_text()

DATABASE = ["DATABASE_URL"]
PROJECT = ["SUPABASE_URL", "SUPABASE_SECRET_KEY"]
USERS = [*DATABASE, "SUPABASE_URL"]
INVOKER = [*DATABASE, "INVOKER_SERVICE_ACCOUNT", "INVOKER_AUDIENCE"]
QUEUES = ["TASKS_LOCATION", "TASKS_TARGET_URL", "TASKS_SERVICE_ACCOUNT", "TASKS_AUDIENCE"]
NEEDED = {
    "register": [*USERS, *QUEUES],
    "organizations": USERS,
    "invitations": USERS,
    "passports": USERS,
    "token": [*USERS, "TOKEN_SIGNING_KEY"],
    "credits": [*USERS, "STRIPE_SECRET_KEY", "CHECKOUT_SUCCESS_URL", "CHECKOUT_CANCEL_URL"],
    "stripe_webhook": [*DATABASE, "STRIPE_WEBHOOK_SECRET"],
    "objects": [*USERS, "GOOGLE_PROJECT", "STORAGE_SIGNER"],
    "holds": USERS,
    "grants": USERS,
    "usage": USERS,
    "backfills": USERS,
    "rates": USERS,
    "entitlements": USERS,
    "policies": USERS,
    "authorizations": USERS,
    "usage_reports": USERS,
    "workspaces": USERS,
    "sessions": USERS,
    "storage": [*USERS, *QUEUES],
    "spaces": [*USERS, *QUEUES],
    "statements": USERS,
    "auto_top_up": USERS,
    "notifications": USERS,
    "identity": USERS,
    "reconciliation": [*USERS, "STRIPE_SECRET_KEY"],
    "sweep_sessions": [*INVOKER, *QUEUES],
    "accrue_storage": INVOKER,
    "expire_grants": INVOKER,
    "expire_holds": INVOKER,
    "fold_usage": INVOKER,
    "start_auto_top_ups": [*INVOKER, *QUEUES],
    "enqueue_outbox": [*INVOKER, *QUEUES],
    "reconcile": [*INVOKER, "STRIPE_SECRET_KEY"],
    "measure_storage": [*INVOKER, "GOOGLE_PROJECT"],
    "keep_usage": [*INVOKER, "GOOGLE_PROJECT"],
    "report_health": INVOKER,
    "stop_session": INVOKER,
    "charge_top_up": [*INVOKER, "STRIPE_SECRET_KEY"],
    # What it needs for the mails is a way into the database, too.
    "send_invitation": [*INVOKER[1:], *PROJECT, "INVITATION_URL"],
    "provision_identity": [*INVOKER, "GOOGLE_PROJECT", "WORKLOAD_IDENTITY_POOL"],
    "provision_storage": [*INVOKER, *QUEUES, "GOOGLE_PROJECT"],
    "clone_space": [*INVOKER, *QUEUES, "GOOGLE_PROJECT"],
}


def _groups() -> list[type[settings.Settings]]:
    return [
        group
        for _, group in inspect.getmembers(settings, inspect.isclass)
        if issubclass(group, settings.Settings) and group is not settings.Settings
    ]


def _start(portal: BlockingPortal, name: str, environment: Mapping[str, str]) -> None:
    with load(portal, name, environment):
        pass


def test_the_example_names_every_setting_and_its_default() -> None:
    documented = dict(re.findall(r"^([A-Z0-9_]+)=(.*)$", EXAMPLE, re.MULTILINE))
    read: dict[str, str] = {}
    for group in _groups():
        for name, field in group.model_fields.items():
            is_open = field.is_required() or field.default in (None, "")
            default = "" if is_open else str(field.default).rstrip("/")
            read[name.upper()] = default.lower() if isinstance(field.default, bool) else default
    assert documented == read


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_function_starts_with_what_it_needs_and_no_more(
    portal: BlockingPortal, name: str
) -> None:
    _start(portal, name, {setting: PLACEHOLDERS[setting] for setting in NEEDED[name]})


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_function_starts_with_the_other_way_into_the_database(
    portal: BlockingPortal, name: str
) -> None:
    needed = {*NEEDED[name], *PROJECT} - {*DATABASE}
    _start(portal, name, {setting: PLACEHOLDERS[setting] for setting in needed})
    for missing in PROJECT:
        environment = {setting: PLACEHOLDERS[setting] for setting in needed - {missing}}
        with pytest.raises(ValidationError, match=missing.lower()):
            _start(portal, name, environment)


@pytest.mark.parametrize("value", [None, "", " "], ids=["absent", "empty", "blank"])
@pytest.mark.parametrize(
    ("name", "missing"), [(name, missing) for name in FUNCTIONS for missing in NEEDED[name]]
)
def test_a_function_does_not_start_without_a_setting(
    portal: BlockingPortal, name: str, missing: str, value: str | None
) -> None:
    environment = {setting: PLACEHOLDERS[setting] for setting in NEEDED[name]}
    del environment[missing]
    if value is not None:
        environment[missing] = value
    with pytest.raises(ValidationError, match=missing.lower()):
        _start(portal, name, environment)


@pytest.mark.parametrize(
    ("name", "setting", "value"),
    [
        ("credits", "DATABASE_URL", "mysql://localhost/x"),
        ("credits", "DATABASE_POOL_SIZE", "0"),
        ("credits", "DATABASE_POOL_SIZE", "many"),
        ("credits", "SUPABASE_URL", "project.supabase.co"),
        ("credits", "SUPABASE_SECRET_KEY", "sb_secret_a\nb"),
        ("credits", "SUPABASE_SECRET_KEY", "sb_secret_ä"),
        ("credits", "AUTH_JWT_ALGORITHM", "HS256"),
        ("credits", "AUTH_JWT_ALGORITHM", "none"),
        ("credits", "AUTH_JWT_ALGORITHM", "es256"),
        ("credits", "AUTH_JWT_ALGORITHM", "ES256,HS256"),
        ("credits", "SUPABASE_JWT_SECRET", "x" * 32),
        ("credits", "STRIPE_API_URL", "ftp://stripe"),
        ("credits", "CREDIT_VALUE_USD", "0"),
        ("credits", "CREDIT_VALUE_USD", "-1"),
        ("credits", "CREDIT_VALUE_USD", "NaN"),
        ("credits", "CREDIT_VALUE_USD", "one"),
        ("credits", "TOP_UP_URL", "javascript:alert(1)"),
        ("stripe_webhook", "STRIPE_LIVE_MODE", "perhaps"),
        ("sweep_sessions", "TASKS_LOCATION", "europe-west1"),
        ("sweep_sessions", "TASKS_TARGET_URL", "/tasks"),
        ("stop_session", "GOOGLE_JWKS_URL", "file:///etc/passwd"),
        ("stop_session", "INVOKER_GUARD", "none"),
        ("stop_session", "INVOKER_GUARD", "IAM"),
        ("credits", "TRACING", "perhaps"),
        ("credits", "OTEL_EXPORTER_OTLP_ENDPOINT", "collector:4318"),
        ("credits", "STRIPE_SECRET_KEY", "sk_test_a\nb"),
    ],
)
def test_a_function_does_not_start_with_a_wrong_setting(
    portal: BlockingPortal, name: str, setting: str, value: str
) -> None:
    environment = {needed: PLACEHOLDERS[needed] for needed in NEEDED[name]}
    with pytest.raises(ValidationError, match=setting.lower()):
        _start(portal, name, environment | {setting: value})


@pytest.mark.parametrize(
    "secret", [None, "", " " * 40, "x" * 31], ids=["none", "empty", "blank", "short"]
)
def test_hs256_does_not_start_without_its_secret(
    portal: BlockingPortal, secret: str | None
) -> None:
    environment = {needed: PLACEHOLDERS[needed] for needed in USERS}
    environment["AUTH_JWT_ALGORITHM"] = "HS256"
    if secret is not None:
        environment["SUPABASE_JWT_SECRET"] = secret
    with pytest.raises(ValidationError, match="supabase_jwt_secret"):
        _start(portal, "sessions", environment)
    _start(portal, "sessions", environment | {"SUPABASE_JWT_SECRET": "x" * 32})


_EC = ECAlgorithm.to_jwk(ec.generate_private_key(ec.SECP256R1()), as_dict=True) | {"kid": "k1"}
_P384 = ECAlgorithm.to_jwk(ec.generate_private_key(ec.SECP384R1()), as_dict=True) | {"kid": "k1"}
_RSA = RSAAlgorithm.to_jwk(rsa.generate_private_key(65537, 2048), as_dict=True) | {"kid": "k1"}
_WEAK = RSAAlgorithm.to_jwk(rsa.generate_private_key(65537, 1024), as_dict=True) | {"kid": "k1"}
_OCT = HMACAlgorithm.to_jwk(b"x" * 32, as_dict=True)


def _without(jwk: JWKDict, *names: str) -> JWKDict:
    return {name: value for name, value in jwk.items() if name not in names}


@pytest.mark.parametrize(
    "key", [_EC, _RSA, _OCT, _OCT | {"kid": "k1"}], ids=["EC", "RSA", "oct", "named"]
)
def test_a_signing_key_is_a_private_key_or_a_secret(portal: BlockingPortal, key: JWKDict) -> None:
    environment = {needed: PLACEHOLDERS[needed] for needed in NEEDED["token"]}
    _start(portal, "token", environment | {"TOKEN_SIGNING_KEY": json.dumps(key)})


@pytest.mark.parametrize(
    "key",
    [
        pytest.param(_without(_EC, "kid"), id="EC without a kid"),
        pytest.param(_without(_RSA, "kid"), id="RSA without a kid"),
        pytest.param(_EC | {"kid": ""}, id="an empty kid"),
        pytest.param(_EC | {"kid": 7}, id="a kid that is a number"),
        pytest.param(_without(_EC, "d"), id="the public half, EC"),
        pytest.param(_without(_RSA, "d", "p", "q", "dp", "dq", "qi"), id="the public half, RSA"),
        pytest.param(_P384, id="another curve"),
        pytest.param(_P384 | {"alg": "ES256"}, id="another curve under ES256"),
        pytest.param(_EC | {"alg": "RS256"}, id="an algorithm of another kind"),
        pytest.param(_EC | {"alg": "none"}, id="no algorithm"),
        pytest.param(_RSA | {"alg": "PS256"}, id="an algorithm that nobody asked for"),
        pytest.param(_WEAK, id="a short RSA key"),
        pytest.param(HMACAlgorithm.to_jwk(b"x" * 31, as_dict=True), id="a short secret"),
        pytest.param(_OCT | {"alg": "HS512"}, id="another HMAC"),
        pytest.param(_OCT | {"kid": 7}, id="a secret whose kid is a number"),
        pytest.param({"keys": [_EC]}, id="a key set"),
        pytest.param([_EC], id="a list, as the CLI writes into a file"),
        pytest.param({}, id="nothing"),
        pytest.param("fg_live_", id="a text"),
        pytest.param(None, id="null"),
    ],
)
def test_token_does_not_start_with_a_key_that_cannot_sign(
    portal: BlockingPortal, key: JWKDict
) -> None:
    environment = {needed: PLACEHOLDERS[needed] for needed in NEEDED["token"]}
    with pytest.raises(ValueError, match="token_signing_key") as refusal:
        _start(portal, "token", environment | {"TOKEN_SIGNING_KEY": json.dumps(key)})
    told = "".join(traceback.format_exception(refusal.value))
    for secret in (_EC["d"], _P384["d"], _RSA["d"], _WEAK["d"], _OCT["k"]):
        assert secret not in told


@pytest.mark.parametrize("name", ["credits", "stripe_webhook"])
def test_a_refusal_to_start_tells_no_secret(portal: BlockingPortal, name: str) -> None:
    environment = {needed: PLACEHOLDERS[needed] for needed in NEEDED[name]}
    for setting, secret in (
        ("DATABASE_URL", "postgresq://faregate_functions:hunter2@db/x"),
        ("SUPABASE_SECRET_KEY", "sb_secret_hunter2\nhunter2"),
    ):
        with pytest.raises(ValidationError) as refusal:
            _start(portal, name, environment | {setting: secret})
        assert "hunter2" not in str(refusal.value)


def test_no_setting_is_read_anywhere_else() -> None:
    for module in (paths.ROOT / "functions").rglob("*.py"):
        found = re.findall(r"\bos\.(?:environ|getenv)[^\n]*", module.read_text())
        if module.name == "main.py":
            assert [line for line in found if "FUNCTION_TARGET" not in line] == []
        else:
            assert found == [], module
