"""Only the invoker's service account calls schedules and tasks."""

from collections.abc import Callable

import pytest

from tests.harness.answers import problem
from tests.harness.client import Load
from tests.harness.cloud import Cloud
from tests.harness.platform import Platform

ADDRESSES = {
    "sweep_sessions": "/schedules/sweep-sessions",
    "accrue_storage": "/schedules/accrue-storage",
    "expire_grants": "/schedules/expire-grants",
    "expire_holds": "/schedules/expire-holds",
    "reconcile": "/schedules/reconcile",
    "start_auto_top_ups": "/schedules/start-auto-top-ups",
    "enqueue_outbox": "/schedules/enqueue-outbox",
    "measure_storage": "/schedules/measure-storage",
    "stop_session": "/tasks/stop-session",
    "charge_top_up": "/tasks/charge-top-up",
    "send_invitation": "/tasks/send-invitation",
    "provision_identity": "/tasks/provision-identity",
    "provision_storage": "/tasks/provision-storage",
}
Forge = Callable[[Cloud], str]

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
