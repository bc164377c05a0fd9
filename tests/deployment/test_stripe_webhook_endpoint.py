"""infra.stripe_webhook: one endpoint at Stripe, whose secret nobody sees."""

import sys
from collections.abc import Iterator
from subprocess import CompletedProcess
from typing import Any

import pytest

from faregate.backends.stripe import NEWS
from infra import stripe_webhook
from tests.deployment.commands import Commands
from tests.local.stand_ins import Shop, StandIns, run_shop

API_URL = "https://api.example.com"


class Account:
    """An account at Stripe, and the project that is told its endpoint's secret."""

    def __init__(self, shop: Shop, stand_ins: StandIns, commands: Commands) -> None:
        self._layout, self.commands, self.client = stand_ins.layout, commands, shop.client

    def register(self, *more: str, **environment: str) -> CompletedProcess[str]:
        return self.commands.run(
            [sys.executable, "-m", "infra.stripe_webhook", API_URL, *more],
            environment={
                "STRIPE_SECRET_KEY": self._layout.secrets.stripe_secret_key,
                "STRIPE_API_URL": self._layout.stripe_url,
            }
            | environment,
        )

    @property
    def endpoints(self) -> list[Any]:
        return list(self.client.v1.webhook_endpoints.list({"limit": 100}).auto_paging_iter())

    @property
    def secrets(self) -> list[str]:
        return [call.told for call in self.commands.calls if call.told]


@pytest.fixture
def account(stand_ins: StandIns, commands: Commands) -> Iterator[Account]:
    with run_shop(stand_ins) as shop:
        account = Account(shop, stand_ins, commands)
        yield account
        for endpoint in account.endpoints:
            account.client.v1.webhook_endpoints.delete(endpoint.id)


def _ok(done: CompletedProcess[str]) -> str:
    assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr


def test_the_endpoint_sends_exactly_what_the_function_acts_on(account: Account) -> None:
    said = _ok(account.register())
    (endpoint,) = account.endpoints
    assert endpoint.url == f"{API_URL}/v1/stripe/webhook"
    assert sorted(endpoint.enabled_events) == sorted(NEWS)
    assert endpoint.api_version == stripe_webhook.API_VERSION
    assert endpoint.status == "enabled"
    (secret,) = account.secrets
    assert secret.startswith("whsec_")
    assert secret not in said + "".join(account.commands.lines())


def test_again_it_changes_nothing(account: Account) -> None:
    _ok(account.register())
    before = account.endpoints
    said = _ok(account.register())
    assert account.endpoints == before
    assert len(account.secrets) == 1
    assert "as it should be" in said


@pytest.mark.parametrize(
    "harm", [{"disabled": True}, {"enabled_events": ["*"]}], ids=["disabled", "other events"]
)
def test_what_was_changed_by_hand_is_mended(account: Account, harm: object) -> None:
    _ok(account.register())
    asked: Any = harm
    account.client.v1.webhook_endpoints.update(account.endpoints[0].id, asked)
    _ok(account.register())
    (endpoint,) = account.endpoints
    assert sorted(endpoint.enabled_events) == sorted(NEWS)
    assert endpoint.status == "enabled"
    assert len(account.secrets) == 1


def test_other_endpoints_are_left_alone(account: Account) -> None:
    other: Any = {"url": "https://other.example.com/", "enabled_events": ["*"]}
    made = account.client.v1.webhook_endpoints.create(other)
    _ok(account.register())
    _ok(account.register("--rotate"))
    _ok(account.register("--retire"))
    assert made.id in [endpoint.id for endpoint in account.endpoints]


@pytest.mark.parametrize("why", ["rotated", "secret lost", "another version"])
def test_another_secret_is_another_endpoint_until_the_old_one_is_retired(
    account: Account, why: str
) -> None:
    if why == "another version":
        old: Any = {
            "url": f"{API_URL}/v1/stripe/webhook",
            "enabled_events": list(NEWS),
            "api_version": "2025-09-30.clover",
        }
        account.client.v1.webhook_endpoints.create(old)
        account.commands.have("stripe-webhook-secret")
    else:
        _ok(account.register())
    if why == "secret lost":
        account.commands.have()
    _ok(account.register(*(["--rotate"] if why == "rotated" else [])))
    # Both are there, so that each event has one whose secret the functions know.
    newest, replaced = account.endpoints
    assert newest.api_version == stripe_webhook.API_VERSION
    _ok(account.register("--retire"))
    assert [endpoint.id for endpoint in account.endpoints] == [newest.id]
    assert replaced.id != newest.id


def test_an_endpoint_whose_secret_could_not_be_stored_is_not_left(account: Account) -> None:
    account.commands.fail("versions add")
    done = account.register()
    assert done.returncode == 1
    assert account.endpoints == []
    assert "whsec_" not in done.stdout + done.stderr


def test_without_knowing_whether_there_is_a_secret_none_is_made(account: Account) -> None:
    _ok(account.register())
    account.commands.fail("versions list")
    done = account.register()
    assert done.returncode == 1
    assert len(account.endpoints) == 1


@pytest.mark.parametrize(
    ("environment", "said"),
    [
        pytest.param({"STRIPE_SECRET_KEY": ""}, "STRIPE_SECRET_KEY is missing", id="no key"),
        pytest.param({"STRIPE_SECRET_KEY": "sk_test_wrong1234"}, "Stripe refused", id="wrong key"),
    ],
)
def test_refusals_are_sentences(account: Account, environment: dict[str, str], said: str) -> None:
    done = account.register(**environment)
    assert done.returncode == 1
    assert said in done.stderr
    assert "Traceback" not in done.stderr


def test_nothing_is_retired_where_nothing_replaced_it(account: Account) -> None:
    assert account.register("--retire").returncode == 1


def test_only_https_is_told_of_payments(commands: Commands) -> None:
    done = commands.run([sys.executable, "-m", "infra.stripe_webhook", "http://api.example.com"])
    assert (done.returncode, commands.calls) == (1, [])
