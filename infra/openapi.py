"""Writes functions/openapi.json: the contract of all functions, generated from their code."""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from faregate.function import FUNCTIONS, create_app
from infra.local import paths

FILE = paths.ROOT / "functions" / "openapi.json"

# The contract depends on no setting, but an app refuses to be made without them.
PLACEHOLDERS = {
    "DATABASE_URL": "postgresql://faregate_functions@database.invalid/postgres",
    "SUPABASE_URL": "https://supabase.invalid",
    "TOKEN_SIGNING_KEY": '{"kty":"oct","k":"cGxhY2Vob2xkZXItcGxhY2Vob2xkZXItcGxhY2Vob2xkZXI"}',
    "SUPABASE_SECRET_KEY": "sb_secret_placeholder",
    "INVITATION_URL": "https://shop.invalid/invitation",
    "INVOKER_SERVICE_ACCOUNT": "invoker@project.iam.gserviceaccount.invalid",
    "INVOKER_AUDIENCE": "https://api.invalid",
    "STRIPE_SECRET_KEY": "sk_test_placeholder",
    "STRIPE_WEBHOOK_SECRET": "whsec_placeholder",
    "CHECKOUT_SUCCESS_URL": "https://shop.invalid/paid",
    "CHECKOUT_CANCEL_URL": "https://shop.invalid/cancelled",
    "TASKS_LOCATION": "projects/project/locations/location",
    "TASKS_TARGET_URL": "https://api.invalid",
    "TASKS_SERVICE_ACCOUNT": "invoker@project.iam.gserviceaccount.invalid",
    "TASKS_AUDIENCE": "https://api.invalid",
    "GOOGLE_PROJECT": "project",
    "STORAGE_SIGNER": "signer@project.iam.gserviceaccount.invalid",
    "WORKLOAD_IDENTITY_POOL": "project.svc.id.goog",
}


def document() -> dict[str, Any]:
    """Make the OpenAPI document of all functions."""
    with _environment():
        return create_app(*FUNCTIONS).openapi()


def text() -> str:
    """Write the document so that a change of the contract is a small difference of lines."""
    return json.dumps(document(), indent=2, sort_keys=True, ensure_ascii=False) + "\n"


@contextmanager
def _environment() -> Iterator[None]:
    before = dict(os.environ)
    os.environ.clear()
    os.environ.update(PLACEHOLDERS)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


if __name__ == "__main__":
    FILE.write_text(text())
