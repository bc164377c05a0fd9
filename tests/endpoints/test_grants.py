"""grants: what a wallet's money is made of, and credits that an operator gives."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest

from tests.endpoints.test_holds import AMOUNTS
from tests.harness.answers import done, problem
from tests.harness.client import Client, Load
from tests.harness.operations import ABSENT
from tests.harness.platform import Organization, Platform
from tests.harness.stripe_events import Stripe, paid

Give = Callable[..., httpx.Response]
"""Gives the customer credits; keywords are fields of the body."""


@pytest.fixture
def client(function: Load) -> Client:
    return function("grants")


@pytest.fixture
def customer(platform: Platform) -> Organization:
    return platform.organization()


def _in(hours: float) -> str:
    return (datetime.now(UTC) + timedelta(hours=hours)).isoformat()


@pytest.fixture
def give(client: Client, operator: Organization, customer: Organization) -> Give:
    def give(repeat: str = "", **body: object) -> httpx.Response:
        body = {"organization_id": customer.id, "amount": "3.00", "note": "sorry"} | body
        return client.post("/v1/grants", body, by=operator.passport, repeat=repeat)

    return give


def test_a_grant_is_money_at_once(
    give: Give,
    client: Client,
    customer: Organization,
    platform: Platform,
) -> None:
    grant = done(give(note=" for the outage  ", amount="3.000001"), 201)
    assert grant | {"id": "", "effective_at": ""} == {
        "id": "",
        "organization_id": customer.id,
        "category": "promotional",
        "status": "active",
        "priority": 100,
        "amount": "3.000001",
        "remaining": "3.000001",
        "payment_id": None,
        "top_up_id": None,
        "note": "for the outage",
        "effective_at": "",
        "expires_at": None,
    }
    assert platform.wallet(customer) == (3_000_001, 0)
    assert done(client.get("/v1/grants", by=customer.passport))["data"] == [grant]
    assert (
        platform.value(
            "select (detail ->> 'note') from billing.audit_log where action = 'create_grant'"
        )
        == "for the outage"
    )


def test_a_grant_tells_its_top_up(client: Client, function: Load, platform: Platform) -> None:
    buyer = platform.organization()
    stripe = Stripe(platform, function("credits"), function("stripe_webhook"))
    checkout = stripe.buy(buyer, "100.00")
    done(stripe.tell(paid(checkout)))
    grants = done(client.get("/v1/grants", by=buyer.passport))["data"]
    assert {(grant["category"], grant["top_up_id"]) for grant in grants} == {
        (category, checkout["client_reference_id"]) for category in ("paid", "promotional")
    }


def test_a_grant_is_for_later_and_for_a_time(
    give: Give,
    customer: Organization,
    platform: Platform,
) -> None:
    begin, end = _in(24), _in(48)
    grant = done(give(priority=0, effective_at=begin, expires_at=end), 201)
    assert (grant["status"], grant["remaining"]) == ("scheduled", "0.000000")
    for given, name in ((begin, "effective_at"), (end, "expires_at")):
        assert datetime.fromisoformat(grant[name]) == datetime.fromisoformat(given)
    assert platform.wallet(customer) == (0, 0)


def test_the_same_key_is_one_grant(
    give: Give,
    customer: Organization,
    platform: Platform,
) -> None:
    expires_at = _in(24)
    first, again = (give(repeat="only-once", expires_at=expires_at) for _ in range(2))
    assert again.headers["idempotent-replayed"] == "true"
    assert done(again, 201) == done(first, 201)
    assert platform.wallet(customer) == (3_000_000, 0)
    problem(give(repeat="only-once", note="other"), 409, "idempotency_conflict")


def test_lists_by_status_in_pages(
    give: Give,
    client: Client,
    customer: Organization,
    platform: Platform,
) -> None:
    made = [
        done(give(effective_at=_in(24)), 201)["id"],
        *(done(give(), 201)["id"] for _ in range(3)),
        done(give(expires_at=_in(1)), 201)["id"],
    ]
    platform.advance(3601)
    found: list[str] = []
    query: dict[str, Any] = {"limit": 2}
    while True:
        page = done(client.get("/v1/grants", by=customer.passport, params=query))
        found += [grant["id"] for grant in page["data"]]
        if not page["has_more"]:
            break
        query["cursor"] = page["next_cursor"]
    assert found == made[::-1]
    for status, count in (("scheduled", 1), ("active", 3), ("used_up", 0), ("expired", 1)):
        page = done(client.get("/v1/grants", by=customer.passport, params={"status": status}))
        assert [grant["status"] for grant in page["data"]] == [status] * count
    response = client.get("/v1/grants", by=customer.passport, params={"status": "gone"})
    problem(response, 400, "invalid_request")


def test_an_operator_reads_a_customers_grants_and_nobody_else_does(
    give: Give,
    client: Client,
    operator: Organization,
    customer: Organization,
    platform: Platform,
) -> None:
    grant, stranger = done(give(), 201), platform.organization()
    query = {"organization_id": customer.id}
    assert done(client.get("/v1/grants", by=operator.passport, params=query))["data"] == [grant]
    for one in (operator, stranger):
        assert done(client.get("/v1/grants", by=one.passport))["data"] == []
    for one in (stranger, customer):
        response = client.get("/v1/grants", by=one.passport, params=query)
        problem(response, 403, "permission_denied")
    absent = {"organization_id": ABSENT}
    response = client.get("/v1/grants", by=operator.passport, params=absent)
    problem(response, 404, "organization_not_found")


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        pytest.param({"organization_id": ABSENT}, 404, "organization_not_found", id="nobody"),
        pytest.param({"expires_at": _in(-1)}, 400, "expiry_in_the_past", id="over"),
        pytest.param(
            {"effective_at": _in(2), "expires_at": _in(1)}, 400, "expiry_in_the_past", id="inverted"
        ),
        pytest.param(
            {"effective_at": "2000-01-01T00:00:00Z", "expires_at": "2000-01-02T00:00:00Z"},
            400,
            "expiry_in_the_past",
            id="long ago",
        ),
    ],
)
def test_refuses_to_give(
    give: Give,
    platform: Platform,
    body: dict[str, Any],
    status: int,
    code: str,
) -> None:
    before = platform.contents()
    problem(give(**body), status, code)
    assert platform.contents() == before


def test_a_wallet_holds_a_billion(give: Give) -> None:
    done(give(amount="999999999.999999"), 201)
    done(give(amount="0.000001"), 201)
    problem(give(amount="0.000001"), 400, "amount_out_of_bounds")


@pytest.mark.parametrize("amount", [*AMOUNTS.values(), "0", "0.000000"], ids=[*AMOUNTS, "0", "0.0"])
def test_refuses_an_amount(
    give: Give,
    platform: Platform,
    amount: object,
) -> None:
    before = platform.contents()
    (error,) = problem(give(amount=amount), 400, "invalid_request")["errors"]
    assert error["where"] == "body.amount"
    assert platform.contents() == before


@pytest.mark.parametrize(
    ("field", "values"),
    [
        ("organization_id", ["mine", "", None, 7, [ABSENT]]),
        ("note", ["", "   ", "x" * 201, "two\nlines", "a\x00b", "\x1b[2J", None, 7]),
        ("priority", [-1, 32_768, 2**63 - 1, 1.5, 1e300, "100", True, None]),
        *(
            (
                name,
                [
                    *["tomorrow", "2030-01-01T00:00:00", "1999-12-31T23:59:59Z"],
                    *["3000-01-01T00:00:00Z", "0001-01-01T00:00:00+14:00", "2030-13-01T00:00:00Z"],
                    *["\x00", "infinity", -(2**63), True],
                ],
            )
            for name in ("effective_at", "expires_at")
        ),
        *((name, ["1"]) for name in ("category", "payment_id", "remaining", "id", "")),
    ],
)
def test_refuses_a_field(
    give: Give,
    platform: Platform,
    field: str,
    values: list[object],
) -> None:
    before = platform.contents()
    for value in values:
        (error,) = problem(give(**{field: value}), 400, "invalid_request")["errors"]
        assert error["where"] == f"body.{field}", value
    assert platform.contents() == before
