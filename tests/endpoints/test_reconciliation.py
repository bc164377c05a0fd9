"""Reconciliation as operators call it."""

from typing import Any

import pytest

from tests.harness.answers import done, problem
from tests.harness.client import Client, Load
from tests.harness.operations import ABSENT
from tests.harness.platform import Organization, Platform


@pytest.fixture
def client(function: Load) -> Client:
    return function("reconciliation")


@pytest.mark.parametrize(
    "window",
    [
        {},
        {"from": "2026-11-01T00:00:00Z", "to": "2026-11-02T00:00:00+01:00"},
        {"from": "2026-08-03T00:00:00Z", "to": "2026-11-01T00:00:00Z", "full": True},
    ],
    ids=str,
)
def test_a_window_is_reconciled(
    client: Client, operator: Organization, window: dict[str, Any]
) -> None:
    run = done(client.post("/v1/reconciliation", window, by=operator.passport))
    assert (run["status"], run["verified"], run["discrepancies"]) == ("finished", 1, 0)
    assert run["started_by"].startswith("passport:")
    assert run["from"] < run["to"]
    listed = done(client.get("/v1/reconciliation", by=operator.passport))
    assert listed["data"] == [run]


@pytest.mark.parametrize(
    "window",
    [
        {"from": "2026-11-02T00:00:00Z", "to": "2026-11-01T00:00:00Z"},
        {"from": "2026-11-02T00:00:00Z", "to": "2026-11-02T00:00:00Z"},
        {"from": "2026-08-02T00:00:00Z", "to": "2026-11-01T00:00:00Z"},
        {"from": "2026-11-02"},
        {"full": "yes"},
    ],
    ids=str,
)
def test_what_is_no_window_is_refused(
    client: Client, platform: Platform, operator: Organization, window: dict[str, Any]
) -> None:
    before = platform.contents()
    response = client.post("/v1/reconciliation", window, by=operator.passport)
    problem(response, 400, "invalid_request")
    assert platform.contents() == before


def test_the_ledger_is_verified_on_demand(
    client: Client, platform: Platform, operator: Organization
) -> None:
    customer = platform.organization(usd=5)

    def verify(**asked: object) -> tuple[int, int, int]:
        found = done(client.post("/v1/reconciliation/verify", asked, by=operator.passport))
        assert len(found["differences"]) == found["difference_count"]
        return found["organizations"], found["transfers"], found["difference_count"]

    assert verify() == (2, 1, 0)
    assert verify() == (0, 0, 0)
    assert verify(full=True) == (2, 1, 0)
    assert verify(organization_id=customer.id) == (1, 1, 0)
    platform.run("update billing.wallets set debt_micros = 1 where settled_micros > 0")
    (difference,) = done(client.post("/v1/reconciliation/verify", {}, by=operator.passport))[
        "differences"
    ]
    assert difference == {
        "organization_id": customer.id,
        "rule": "wallet debt = its transfers",
        "subject": None,
        "expected": "0.000000",
        "found": "0.000001",
    }
    (open_,) = done(
        client.get("/v1/reconciliation/discrepancies?status=open", by=operator.passport)
    )["data"]
    assert open_["ledger_rule"] == difference["rule"]
    assert verify(organization_id=customer.id) == (1, 1, 1)
    platform.run("update billing.wallets set debt_micros = 0")
    assert verify(organization_id=customer.id) == (1, 1, 0)
    resolved = client.get("/v1/reconciliation/discrepancies?status=resolved", by=operator.passport)
    assert [each["id"] for each in done(resolved)["data"]] == [open_["id"]]
    response = client.post(
        "/v1/reconciliation/verify", {"organization_id": ABSENT}, by=operator.passport
    )
    problem(response, 404, "organization_not_found")


def test_only_operators_see_any_of_it(client: Client, platform: Platform) -> None:
    customer = platform.organization(usd=5)
    for path in ("/v1/reconciliation", "/v1/reconciliation/discrepancies"):
        problem(client.get(path, by=customer.passport), 403, "permission_denied")
    for path in ("/v1/reconciliation", "/v1/reconciliation/verify"):
        problem(client.post(path, {}, by=customer.passport), 403, "permission_denied")
