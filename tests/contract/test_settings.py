"""Settings: documented all, and a function does not start without those it needs."""

import inspect
import re
from collections.abc import Mapping

import pytest
from anyio.from_thread import BlockingPortal
from pydantic import ValidationError

from faregate import settings
from faregate.function import FUNCTIONS
from infra.local import paths
from infra.openapi import PLACEHOLDERS
from tests.harness.client import load

EXAMPLE = (paths.ROOT / "functions" / ".env.example").read_text()

DATABASE = ["DATABASE_URL"]
USERS = [*DATABASE, "SUPABASE_URL"]
INVOKER = [*DATABASE, "INVOKER_SERVICE_ACCOUNT", "INVOKER_AUDIENCE"]
QUEUES = ["TASKS_LOCATION", "TASKS_TARGET_URL", "TASKS_SERVICE_ACCOUNT", "TASKS_AUDIENCE"]
NEEDED = {
    "register": USERS,
    "passports": USERS,
    "credits": [*USERS, "STRIPE_SECRET_KEY", "CHECKOUT_SUCCESS_URL", "CHECKOUT_CANCEL_URL"],
    "stripe_webhook": [*DATABASE, "STRIPE_WEBHOOK_SECRET"],
    "holds": USERS,
    "grants": USERS,
    "sessions": USERS,
    "statements": USERS,
    "auto_top_up": USERS,
    "notifications": USERS,
    "reconciliation": [*USERS, "STRIPE_SECRET_KEY"],
    "sweep_sessions": [*INVOKER, *QUEUES],
    "expire_grants": INVOKER,
    "expire_holds": INVOKER,
    "start_auto_top_ups": [*INVOKER, *QUEUES],
    "reconcile": [*INVOKER, "STRIPE_SECRET_KEY"],
    "stop_session": INVOKER,
    "charge_top_up": [*INVOKER, "STRIPE_SECRET_KEY"],
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
    documented = dict(re.findall(r"^([A-Z_]+)=(.*)$", EXAMPLE, re.MULTILINE))
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
        ("credits", "AUTH_JWT_ALGORITHM", "HS256"),
        ("credits", "AUTH_JWT_ALGORITHM", "none"),
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
    ],
)
def test_a_function_does_not_start_with_a_wrong_setting(
    portal: BlockingPortal, name: str, setting: str, value: str
) -> None:
    environment = {needed: PLACEHOLDERS[needed] for needed in NEEDED[name]}
    with pytest.raises(ValidationError, match=setting.lower()):
        _start(portal, name, environment | {setting: value})


@pytest.mark.parametrize("name", ["credits", "stripe_webhook"])
def test_a_refusal_to_start_tells_no_secret(portal: BlockingPortal, name: str) -> None:
    environment = {needed: PLACEHOLDERS[needed] for needed in NEEDED[name]}
    secret = "postgresq://faregate_functions:hunter2@db/x"
    with pytest.raises(ValidationError) as refusal:
        _start(portal, name, environment | {"DATABASE_URL": secret})
    assert "hunter2" not in str(refusal.value)


def test_no_setting_is_read_anywhere_else() -> None:
    for module in (paths.ROOT / "functions").rglob("*.py"):
        found = re.findall(r"\bos\.(?:environ|getenv)[^\n]*", module.read_text())
        if module.name == "main.py":
            assert [line for line in found if "FUNCTION_TARGET" not in line] == []
        else:
            assert found == [], module
