"""openapi.json is the code's, and the code keeps what it promises."""

import json
import subprocess
import sys
from pathlib import Path
from uuid import uuid4

import httpx
import pytest

from faregate.function import FUNCTIONS
from infra import openapi
from tests.harness.answers import done
from tests.harness.platform import Platform
from tests.harness.server import serve

REGENERATE = "run `make openapi`"

# A request may be well formed and still ask for what no contract can rule out: a plan, a price or
# a bracket that is a row, an expiry that has passed, a period that ends before it begins, a
# signature that only Stripe can make.
SEMANTIC = [
    *["/v1/storage", "/v1/storage/estimate", "/v1/spaces"],
    *["/v1/register/customers", "/v1/credits/estimate", "/v1/credits/checkout", "/v1/grants"],
    *["/v1/holds", "/v1/holds/{hold_id}/capture", "/v1/reconciliation", "/v1/credits/auto-top-up"],
    *["/v1/passports", "/v1/stripe/webhook", "/v1/statements", "/v1/statements/usage"],
    *["/v1/sessions", "/v1/sessions/estimate", "/v1/usage/rates", "/v1/usage/short-money"],
    *["/v1/policies", "/v1/policies/evaluate", "/v1/spend-caps", "/v1/entitlements/{feature}"],
    *["/v1/features/{feature}", "/v1/features/{feature}/terms"],
    *["/v1/usage/estimate", "/v1/usage/authorize"],
    "/v1/usage/authorizations/{authorization_id}/capture",
    *["/v1/usage/analytics", "/v1/usage/exports/analytics.{extension}", "/v1/usage/history"],
    *["/v1/usage/exports/history.{extension}", "/v1/usage/reviews/{event_id}/charge"],
    *["/v1/usage/backfills", "/v1/usage/backfills/{backfill_id}/events"],
    *["/v1/statements/transactions.csv", "/v1/statements/transactions.json"],
    *[f"/v1/storage/{{storage_id}}/{part}" for part in ("uploads", "downloads", "objects")],
]


def test_the_document_is_generated_from_the_code() -> None:
    assert openapi.FILE.read_text() == openapi.text(), REGENERATE


def test_the_document_names_no_machine() -> None:
    assert "127.0.0.1" not in openapi.text()
    assert ".invalid" not in openapi.text()


def test_every_reference_leads_somewhere() -> None:
    document = openapi.document()
    schemas = set(document["components"]["schemas"])
    text = json.dumps(document)
    referred = {part.split('"')[0] for part in text.split("#/components/schemas/")[1:]}
    assert referred == schemas


def _bearer(credential: str) -> str:
    return f'headers = {{ Authorization = "Bearer {credential}" }}'


def _configuration(platform: Platform, address: str) -> str:
    """Say who calls what, and which checks make no sense where."""
    operator, user, owner = platform.operator(), platform.user(), platform.user()
    founder = platform.user()
    platform.give(operator.id, 10**12)
    # Whoever lists passports will sooner or later revoke the one it shows: a user has none.
    platform.join(owner, platform.organization(), "owner")
    session = httpx.post(
        f"{address}/v1/sessions",
        json={"tier": "small"},
        headers={"Authorization": f"Bearer {operator.passport}", "Idempotency-Key": uuid4().hex},
    )
    session_id = done(session, 201)["id"]
    rows = [
        "[generation]\nmax-examples = 12\ndeterministic = true",
        # Starts are refused for want of money, and what is made up is not found.
        "[checks.positive_data_acceptance]\n"
        'expected-statuses = ["2xx", "401", "402", "403", "404", "409"]',
        "[[operations]]\n"
        'include-path-regex = "^/v1/(credits|notifications|holds|grants|sessions|workspaces'
        '|statements|reconciliation|token|usage|policies|features|entitlements|spend-caps|storage|spaces|identity)|customers"\n'
        + _bearer(operator.passport),
        '[[operations]]\ninclude-path-regex = "^/v1/passports"\n' + _bearer(owner.token),
        '[[operations]]\ninclude-path = "/v1/register"\n' + _bearer(user.token),
        '[[operations]]\ninclude-path-regex = "^/v1/organizations"\n' + _bearer(founder.token),
        '[[operations]]\ninclude-path = "/v1/invitations/accept"\n' + _bearer(user.token),
        '[[operations]]\ninclude-path-regex = "^/(schedules|tasks)/"\n'
        + _bearer(platform.cloud.invoker_token()),
        '[[operations]]\ninclude-path-regex = "^/v1/sessions/.session_id.(/heartbeat)?$"\n'
        f'parameters = {{ "path.session_id" = "{session_id}" }}',
        # An event that is wrong is rejected by itself: the answer to its batch is no refusal.
        '[[operations]]\ninclude-path = "/v1/usage/events"\n'
        "[operations.checks]\npositive_data_acceptance.enabled = false\n"
        "negative_data_rejection.enabled = false",
        *(
            f'[[operations]]\ninclude-path = "{path}"\n'
            "[operations.checks]\npositive_data_acceptance.enabled = false"
            for path in SEMANTIC
        ),
    ]
    return "\n\n".join(rows)


def test_the_contract_is_kept(platform: Platform, tmp_path: Path) -> None:
    settings = platform.cloud.layout.functions_environment()
    settings["DATABASE_URL"] = platform.database.functions_url
    settings["TASKS_LOCATION"] = f"projects/test/locations/{uuid4().hex}"
    # A rule that is made up here would refuse what comes after it.
    platform.alter(
        "create function billing.ask_nothing() returns trigger language plpgsql as"
        " $$ begin new.is_enabled := false; return new; end $$;"
        "create trigger policies_ask_nothing before insert or update on billing.policies"
        " for each row execute function billing.ask_nothing()"
    )
    configuration = tmp_path / "schemathesis.toml"
    with serve(settings, *FUNCTIONS) as address:
        configuration.write_text(_configuration(platform, address))
        run = subprocess.run(
            [
                *[str(Path(sys.executable).with_name("schemathesis")), "--no-color"],
                *["--config-file", str(configuration), "run", f"{address}/openapi.json"],
                *["--continue-on-failure", "--workers", "1"],
            ],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
            timeout=900,
        )
    if run.returncode:
        pytest.fail(run.stdout + run.stderr, pytrace=False)
    # Nobody was locked out on the way, or the rest would have tested nothing.
    assert "returned only 401/403" not in run.stdout
