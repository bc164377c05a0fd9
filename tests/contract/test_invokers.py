"""Only the invoker's service account calls schedules and tasks."""

from collections.abc import Callable
from datetime import UTC, datetime

import pytest

from tests.harness.answers import done, problem
from tests.harness.client import Load
from tests.harness.cloud import Cloud
from tests.harness.platform import Platform

ADDRESSES = {
    "sweep_sessions": "/schedules/sweep-sessions",
    "accrue_storage": "/schedules/accrue-storage",
    "expire_grants": "/schedules/expire-grants",
    "expire_holds": "/schedules/expire-holds",
    "fold_usage": "/schedules/fold-usage",
    "reconcile": "/schedules/reconcile",
    "start_auto_top_ups": "/schedules/start-auto-top-ups",
    "enqueue_outbox": "/schedules/enqueue-outbox",
    "measure_storage": "/schedules/measure-storage",
    "keep_usage": "/schedules/keep-usage",
    "report_health": "/schedules/report-health",
    "stop_session": "/tasks/stop-session",
    "charge_top_up": "/tasks/charge-top-up",
    "send_invitation": "/tasks/send-invitation",
    "provision_identity": "/tasks/provision-identity",
    "provision_storage": "/tasks/provision-storage",
}
Forge = Callable[[Cloud], str]

REMOVED = "SIGNATURE_REMOVED_BY_GOOGLE"


def _removed(token: str) -> str:
    """Give a token as Cloud Run hands it on."""
    return f"{token.rpartition('.')[0]}.{REMOVED}"


FORGED: dict[str, Forge] = {
    "another account": lambda cloud: cloud.invoker_token(email="other@local.iam"),
    "an account that begins alike": lambda cloud: cloud.invoker_token(
        email=cloud.layout.functions_environment()["INVOKER_SERVICE_ACCOUNT"] + ".evil.example"
    ),
    "no address": lambda cloud: cloud.invoker_token(email=None),
    "an unverified address": lambda cloud: cloud.invoker_token(email_verified=False),
    "verification in words": lambda cloud: cloud.invoker_token(email_verified="true"),
    "no verification": lambda cloud: cloud.invoker_token(email_verified=None),
    "another audience": lambda cloud: cloud.invoker_token(aud="https://other.example"),
    "no audience": lambda cloud: cloud.invoker_token(aud=""),
    "another issuer": lambda cloud: cloud.invoker_token(iss="https://evil.example"),
    "expired": lambda cloud: cloud.invoker_token(exp=1_700_000_000),
    "no end": lambda cloud: cloud.invoker_token(exp=None),
    "a user's token": lambda cloud: cloud.user_token("01936f00-0000-7000-8000-000000000000"),
    "signed by Supabase": lambda cloud: cloud.layout.auth_key.sign(
        {"iss": cloud.layout.google_url, "aud": cloud.layout.api_url}
    ),
    "Supabase's secret key": lambda cloud: cloud.layout.secrets.secret_key,
    "cut": lambda cloud: cloud.invoker_token()[:-3],
    "without its signature": lambda cloud: cloud.invoker_token().rpartition(".")[0] + ".",
    "with its signature removed": lambda cloud: _removed(cloud.invoker_token()),
    "garbage": lambda cloud: "garbage",
}


@pytest.mark.parametrize("forge", FORGED.values(), ids=FORGED)
@pytest.mark.parametrize("name", ADDRESSES)
def test_nobody_else_is_heard(function: Load, platform: Platform, name: str, forge: Forge) -> None:
    before = platform.contents()
    response = function(name).post(ADDRESSES[name], {}, by=forge(platform.cloud))
    problem(response, 401, "invalid_token")
    assert platform.contents() == before


@pytest.mark.parametrize("name", ADDRESSES)
def test_no_customer_is_heard(function: Load, platform: Platform, name: str) -> None:
    client, address = function(name), ADDRESSES[name]
    problem(client.post(address, {}), 401, "unauthenticated")
    operator = platform.operator()
    problem(client.post(address, {}, by=operator.passport), 401, "invalid_token")
    headers = {"X-API-Key": operator.passport}
    problem(client.post(address, {}, headers=headers), 401, "unauthenticated")
    for header in ("X-CloudScheduler", "X-CloudTasks-QueueName", "X-CloudTasks-TaskName"):
        problem(client.post(address, {}, headers={header: "true"}), 401, "unauthenticated")


def test_the_invoker_is_heard(function: Load, platform: Platform) -> None:
    done(function("report_health").post(WATCH, by=platform.cloud.invoker_token()))


WATCH = ADDRESSES["report_health"]
_NOW = int(datetime.now(UTC).timestamp())
# What Cloud Run would never hand on, because it has not verified it, or what is none of ours.
UNGUARDED: dict[str, Forge] = {
    "signed by Google": lambda cloud: cloud.invoker_token(),
    "signed by Supabase": lambda cloud: cloud.layout.auth_key.sign({}),
    "no signature": lambda cloud: cloud.invoker_token().rpartition(".")[0] + ".",
    "two parts": lambda cloud: cloud.invoker_token().rpartition(".")[0],
    "another text": lambda cloud: _removed(cloud.invoker_token()) + "_",
    "in small letters": lambda cloud: _removed(cloud.invoker_token()).replace(
        REMOVED, REMOVED.lower()
    ),
    "the text in front of the signature": lambda cloud: (
        _removed(cloud.invoker_token()) + "." + cloud.invoker_token().rpartition(".")[2]
    ),
    "the text alone": lambda _: REMOVED,
    "the text after nothing": lambda _: f"..{REMOVED}",
    "another account": lambda cloud: _removed(cloud.invoker_token(email="other@local.iam")),
    "no address": lambda cloud: _removed(cloud.invoker_token(email=None)),
    "an unverified address": lambda cloud: _removed(cloud.invoker_token(email_verified=False)),
    "verification in words": lambda cloud: _removed(cloud.invoker_token(email_verified="true")),
    "no verification": lambda cloud: _removed(cloud.invoker_token(email_verified=None)),
    "another audience": lambda cloud: _removed(cloud.invoker_token(aud="https://other.example")),
    "an audience that begins alike": lambda cloud: _removed(
        cloud.invoker_token(aud=f"{cloud.layout.api_url}.evil.example")
    ),
    "no audience": lambda cloud: _removed(cloud.invoker_token(aud=None)),
    "another issuer": lambda cloud: _removed(cloud.invoker_token(iss="https://evil.example")),
    "no issuer": lambda cloud: _removed(cloud.invoker_token(iss="")),
    "expired": lambda cloud: _removed(cloud.invoker_token(exp=_NOW - 60)),
    "no end": lambda cloud: _removed(cloud.invoker_token(exp=None)),
    "issued in the future": lambda cloud: _removed(cloud.invoker_token(iat=_NOW + 86_400)),
    "not valid yet": lambda cloud: _removed(cloud.invoker_token(nbf=_NOW + 86_400)),
    "no subject": lambda cloud: _removed(cloud.invoker_token(sub=None)),
    "a user's": lambda cloud: _removed(cloud.user_token("01936f00-0000-7000-8000-000000000000")),
}
BEHIND_IAM = {
    "INVOKER_GUARD": "iam",
    # Nobody is asked for keys: Cloud Run has verified the signature.
    "GOOGLE_JWKS_URL": "http://127.0.0.1:9/certs",
}


@pytest.mark.parametrize("name", ADDRESSES)
def test_behind_iam_a_removed_signature_is_the_proof(
    function: Load, platform: Platform, name: str
) -> None:
    client, token = function(name, **BEHIND_IAM), platform.cloud.invoker_token()
    response = client.post(ADDRESSES[name], {}, by=_removed(token))
    assert response.status_code in (200, 400, 502)  # it is heard, and what it says judged
    problem(client.post(ADDRESSES[name], {}, by=token), 401, "invalid_token")


@pytest.mark.parametrize("forge", UNGUARDED.values(), ids=UNGUARDED)
def test_behind_iam_nobody_else_is_heard(function: Load, platform: Platform, forge: Forge) -> None:
    before = platform.contents()
    for name in ("report_health", "stop_session"):
        client = function(name, **BEHIND_IAM)
        problem(client.post(ADDRESSES[name], {}, by=forge(platform.cloud)), 401, "invalid_token")
    assert platform.contents() == before


@pytest.mark.parametrize("guard", ["code", "iam"])
def test_the_token_that_cloud_run_has_not_looked_at_proves_nothing(
    function: Load, platform: Platform, guard: str
) -> None:
    """With this header Cloud Run verifies what it says, and hands on the other one unseen."""
    token = platform.cloud.invoker_token()
    client = function("report_health", INVOKER_GUARD=guard)
    for shown in (token, _removed(token)):
        headers = {"X-Serverless-Authorization": f"Bearer {_removed(token)}"}
        problem(client.post(WATCH, by=shown, headers=headers), 401, "invalid_token")
