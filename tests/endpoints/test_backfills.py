"""backfills: usage of the past over HTTP."""

from typing import Any

import pytest
from psycopg.types.json import Jsonb

from faregate.errors import REASONS
from tests.harness.answers import done, problem
from tests.harness.client import Client, Load
from tests.harness.operations import ABSENT
from tests.harness.platform import Organization, Platform

BACKFILLS = "/v1/usage/backfills"


@pytest.fixture
def client(function: Load) -> Client:
    return function("backfills")


@pytest.fixture
def customer(platform: Platform) -> Organization:
    """A customer with $10, to whom an image costs ten cents."""
    customer = platform.organization(usd=10)
    platform.run(
        "select billing.add_usage_rate(jsonb_populate_record(null::billing.usage_rates, %s),"
        """ '{"images": "0.1"}')""",
        Jsonb(
            {
                "id": ABSENT,
                "organization_id": customer.id,
                "effective_at": "2026-01-02T00:00:00Z",
                "created_by": "operator",
            }
        ),
    )
    return customer


def _frame(customer: Organization, **said: Any) -> dict[str, Any]:  # noqa: ANN401  any JSON
    return {
        "organization_id": customer.id,
        "starts_at": "2026-02-01T00:00:00Z",
        "ends_at": "2026-03-01T00:00:00Z",
    } | said


def _event(number: int, **said: Any) -> dict[str, Any]:  # noqa: ANN401  any JSON
    return {
        "source": "gateway",
        "id": f"old-{number}",
        "occurred_at": "2026-02-14T12:00:00Z",
        "feature": "images",
        "quantities": {"images": 5},
    } | said


def test_a_backfill_from_its_opening_to_its_end(
    client: Client, platform: Platform, operator: Organization, customer: Organization
) -> None:
    opened, again = (
        client.post(BACKFILLS, _frame(customer), by=operator.passport, repeat="february")
        for _ in range(2)
    )
    backfill = done(opened, 201)
    assert done(again, 201) == backfill
    assert again.headers["idempotent-replayed"] == "true"
    assert (backfill["status"], backfill["replaces_existing"]) == ("open", False)
    here = f"{BACKFILLS}/{backfill['id']}"
    late = _event(3, occurred_at="2026-03-01T00:00:00Z")
    unknown = _event(4, quantities={"unheard_of": 1})
    batch = {"events": [_event(1), _event(2), _event(2), late, unknown]}
    answer = done(client.post(f"{here}/events", batch, by=operator.passport))
    assert answer == {
        "staged": 3,
        "duplicate": 1,
        "rejected": 1,
        "events": [
            {"index": 2, "status": "duplicate", "reason": None, "message": None},
            {
                **{"index": 3, "status": "rejected", "reason": "outside_backfill"},
                "message": REASONS["outside_backfill"],
            },
        ],
    }
    assert platform.wallet(customer) == (10_000_000, 0)
    closed = done(client.post(f"{here}/close", by=operator.passport))
    assert (closed["status"], closed["recorded"]) == ("closed", 3)
    assert platform.wallet(customer) == (9_000_000, 0)
    assert done(client.get(here, by=operator.passport)) == closed
    assert done(client.get(f"{here}/rejections", by=operator.passport)) == {"data": []}
    problem(client.post(f"{here}/events", batch, by=operator.passport), 409, "backfill_closed")
    reverted = done(client.post(f"{here}/revert", by=operator.passport))
    assert platform.wallet(customer) == (10_000_000, 0)
    assert done(client.get(BACKFILLS, by=operator.passport))["data"] == [reverted]


def test_a_backfill_that_is_short_says_by_how_much(
    client: Client, platform: Platform, operator: Organization, customer: Organization
) -> None:
    backfill = done(client.post(BACKFILLS, _frame(customer), by=operator.passport), 201)
    here = f"{BACKFILLS}/{backfill['id']}"
    batch = {"events": [_event(1, quantities={"images": 101})]}
    done(client.post(f"{here}/events", batch, by=operator.passport))
    before = platform.contents()
    told = problem(client.post(f"{here}/close", by=operator.passport), 402, "insufficient_credits")
    assert (told["required"], told["available"]) == ("10.100000", "10.000000")
    assert platform.contents() == before


@pytest.mark.parametrize(
    "said",
    [
        {"ends_at": "2026-02-01T00:00:00Z"},
        {"starts_at": "2026-02-01T00:00:00"},
        {"replaces_existing": "yes"},
        {"organization_id": "x"},
    ],
)
def test_a_frame_that_is_none(
    client: Client, operator: Organization, customer: Organization, said: dict[str, Any]
) -> None:
    refused = client.post(BACKFILLS, _frame(customer, **said), by=operator.passport)
    problem(refused, 400, "invalid_request")


@pytest.mark.parametrize(
    "said", [{"occurred_at": None}, {"provider": "openai"}, {"quantities": {}}, {"void": True}]
)
def test_an_event_that_is_none(
    client: Client, operator: Organization, customer: Organization, said: dict[str, Any]
) -> None:
    backfill = done(client.post(BACKFILLS, _frame(customer), by=operator.passport), 201)
    late = _event(3, occurred_at="2026-03-01T00:00:00Z")
    batch = {"events": [_event(1), _event(2, **said), late, _event(4)]}
    path = f"{BACKFILLS}/{backfill['id']}/events"
    answer = done(client.post(path, batch, by=operator.passport))
    assert (answer["staged"], answer["rejected"]) == (2, 2)
    assert [(each["index"], each["reason"]) for each in answer["events"]] == [
        (1, "invalid_event"),
        (2, "outside_backfill"),
    ]
    assert all(each["message"] for each in answer["events"])
    only = done(client.post(path, {"events": [batch["events"][1]]}, by=operator.passport))
    assert (only["staged"], only["rejected"]) == (0, 1)
    nothing: list[dict[str, Any]] = [{"events": []}, {"events": None}, {}]
    for batch in nothing:
        problem(client.post(path, batch, by=operator.passport), 400, "invalid_request")


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        ({"quantities": {"images": -1}}, "invalid_event"),
        ({"source": None}, "invalid_event"),
        ({"occurred_at": "2026-03-01T00:00:00Z"}, "outside_backfill"),
        ({"id": "old-1"}, "event_conflict"),
    ],
    ids=str,
)
def test_what_replaces_others_is_staged_whole_or_not_at_all(
    client: Client,
    platform: Platform,
    operator: Organization,
    customer: Organization,
    said: dict[str, Any],
    reason: str,
) -> None:
    frame = _frame(customer, replaces_existing=True)
    backfill = done(client.post(BACKFILLS, frame, by=operator.passport), 201)
    path = f"{BACKFILLS}/{backfill['id']}/events"
    batch = {"events": [_event(1), _event(2), _event(3, **{"quantities": {"images": 6}} | said)]}
    before = platform.contents()
    refused = client.post(path, batch, by=operator.passport)
    (rejected,) = problem(refused, 409, "batch_rejected")["rejected"]
    assert (rejected["index"], rejected["reason"]) == (2, reason)
    assert rejected["message"]
    assert platform.contents() == before
    again = {"events": [_event(1), _event(2), _event(1)]}
    answer = done(client.post(path, again, by=operator.passport))
    assert (answer["staged"], answer["duplicate"], answer["rejected"]) == (2, 1, 0)


def test_absent_backfills_and_customers(client: Client, operator: Organization) -> None:
    for verb in ("close", "revert"):
        refused = client.post(f"{BACKFILLS}/{ABSENT}/{verb}", by=operator.passport)
        problem(refused, 404, "backfill_not_found")
    for path in ("", "/rejections"):
        refused = client.get(f"{BACKFILLS}/{ABSENT}{path}", by=operator.passport)
        problem(refused, 404, "backfill_not_found")
    absent = Organization(id=ABSENT, passport="")
    refused = client.post(BACKFILLS, _frame(absent), by=operator.passport)
    problem(refused, 404, "organization_not_found")
