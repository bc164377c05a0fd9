"""holds: reserve, capture, release, renew and watch."""

from typing import Any

import httpx
import pytest

from tests.harness.answers import done, problem
from tests.harness.client import Client, Load
from tests.harness.operations import ABSENT
from tests.harness.platform import Organization, Platform


@pytest.fixture
def client(function: Load) -> Client:
    return function("holds")


@pytest.fixture
def customer(platform: Platform) -> Organization:
    return platform.organization(usd=10)


class Desk:
    """The operator's calls for one customer."""

    def __init__(self, client: Client, operator: Organization, customer: Organization) -> None:
        self._client, self._operator, self._customer = client, operator, customer

    def post(self, path: str, repeat: str = "", **body: Any) -> httpx.Response:  # noqa: ANN401  any JSON
        content = {"organization_id": self._customer.id} | body
        return self._client.post(path, content, by=self._operator.passport, repeat=repeat)

    def open(self, amount: str = "4.00", seconds: int = 600, **body: Any) -> dict[str, Any]:  # noqa: ANN401  any JSON
        return done(self.post("/v1/holds", amount=amount, expires_in_seconds=seconds, **body), 201)

    def act(self, hold: dict[str, Any], act: str, **body: Any) -> httpx.Response:  # noqa: ANN401  any JSON
        return self.post(f"/v1/holds/{hold['id']}/{act}", **body)


@pytest.fixture
def desk(client: Client, operator: Organization, customer: Organization) -> Desk:
    return Desk(client, operator, customer)


def test_a_hold_is_opened_captured_and_read(
    desk: Desk, client: Client, customer: Organization, platform: Platform
) -> None:
    hold = desk.open("4", description="  a training run ")
    assert hold | {"id": "", "expires_at": ""} == {
        "id": "",
        "organization_id": customer.id,
        "kind": "usage",
        "status": "open",
        "amount": "4.000000",
        "captured": "0.000000",
        "held": "4.000000",
        "description": "a training run",
        "expires_at": "",
    }
    path = f"/v1/holds/{hold['id']}"
    assert done(client.get(path, by=customer.passport)) == hold
    part = done(desk.act(hold, "capture", amount="1.5", final=False))
    assert (part["status"], part["captured"], part["held"]) == ("open", "1.500000", "2.500000")
    assert platform.wallet(customer) == (8_500_000, 2_500_000)
    end = done(desk.act(hold, "capture", amount="0.000001"))
    assert (end["status"], end["amount"], end["held"]) == ("captured", "1.500001", "0.000000")
    assert platform.wallet(customer) == (8_499_999, 0)
    assert done(client.get(path, by=customer.passport)) == end
    assert problem(desk.act(hold, "release"), 409, "hold_closed")["hold_status"] == "captured"


def test_a_hold_is_renewed_and_released(
    desk: Desk, customer: Organization, platform: Platform
) -> None:
    hold = desk.open("4.00", 60)
    renewed = done(desk.act(hold, "renew", amount="2", expires_in_seconds=604_800))
    assert (renewed["amount"], renewed["status"]) == ("6.000000", "open")
    assert renewed["expires_at"] > hold["expires_at"]
    longer = done(desk.act(hold, "renew", amount="0.00", expires_in_seconds=60))
    assert longer["amount"] == "6.000000"
    released = done(desk.act(hold, "release"))
    assert (released["status"], released["amount"]) == ("released", "0.000000")
    assert platform.wallet(customer) == (10_000_000, 0)


def test_refusals_tell_what_helps(desk: Desk) -> None:
    refusal = problem(
        desk.post("/v1/holds", amount="10.000001", expires_in_seconds=60),
        402,
        "insufficient_credits",
    )
    assert (refusal["required"], refusal["available"]) == ("10.000001", "10.000000")
    assert refusal["top_up_url"]
    hold = desk.open("4.00")
    refusal = problem(desk.act(hold, "capture", amount="4.01"), 409, "capture_exceeds_hold")
    assert refusal["held"] == "4.000000"
    more = desk.act(hold, "renew", amount="6.01", expires_in_seconds=60)
    assert problem(more, 402, "insufficient_credits")["available"] == "6.000000"


@pytest.mark.parametrize(
    ("act", "body"),
    [
        ("", {"amount": "1", "expires_in_seconds": 60}),
        ("capture", {"amount": "1", "final": False}),
        ("renew", {"amount": "1", "expires_in_seconds": 60}),
        ("release", {}),
    ],
)
def test_the_same_key_acts_once(
    desk: Desk, customer: Organization, platform: Platform, act: str, body: dict[str, Any]
) -> None:
    hold = desk.open("4.00")
    path = f"/v1/holds/{hold['id']}/{act}" if act else "/v1/holds"
    first = desk.post(path, repeat="only-once", **body)
    wallet = platform.wallet(customer)
    again = desk.post(path, repeat="only-once", **body)
    assert again.headers["idempotent-replayed"] == "true"
    assert "idempotent-replayed" not in first.headers
    assert (again.status_code, again.json()) == (first.status_code, first.json())
    assert platform.wallet(customer) == wallet
    other = desk.post(f"/v1/holds/{ABSENT}/release", repeat="only-once")
    problem(other, 409, "idempotency_conflict")


def test_lists_ones_own_holds_and_those_of_sessions(
    desk: Desk, client: Client, customer: Organization, platform: Platform, function: Load
) -> None:
    platform.organization(usd=10)
    session = done(
        function("sessions").post("/v1/sessions", {"tier": "small"}, by=customer.passport), 201
    )
    made = [desk.open("1.00") for _ in range(3)]
    done(desk.act(made[0], "release"))
    found: list[tuple[str, str]] = []
    query: dict[str, Any] = {"limit": 2}
    while True:
        page = done(client.get("/v1/holds", by=customer.passport, params=query))
        found += [(hold["id"], hold["kind"]) for hold in page["data"]]
        if not page["has_more"]:
            break
        query["cursor"] = page["next_cursor"]
    assert found == [(hold["id"], "usage") for hold in made[::-1]] + [(session["id"], "session")]
    for status, count in (("open", 3), ("captured", 0), ("released", 1), ("expired", 0)):
        page = done(client.get("/v1/holds", by=customer.passport, params={"status": status}))
        assert [hold["status"] for hold in page["data"]] == [status] * count
    response = client.get("/v1/holds", by=customer.passport, params={"status": "closed"})
    problem(response, 400, "invalid_request")


def test_an_operator_reads_a_customers_holds_and_nobody_else_does(
    desk: Desk, client: Client, operator: Organization, customer: Organization, platform: Platform
) -> None:
    hold, stranger = desk.open(), platform.organization()
    path, query = f"/v1/holds/{hold['id']}", {"organization_id": customer.id}
    assert done(client.get(path, by=operator.passport, params=query)) == hold
    page = done(client.get("/v1/holds", by=operator.passport, params=query))
    assert page["data"] == [hold]
    assert done(client.get("/v1/holds", by=operator.passport))["data"] == []
    problem(client.get(path, by=operator.passport), 404, "hold_not_found")
    problem(client.get(path, by=stranger.passport), 404, "hold_not_found")
    for address in (path, "/v1/holds"):
        for one in (stranger, customer):
            response = client.get(address, by=one.passport, params=query)
            assert problem(response, 403, "permission_denied")["permission"] == "admin"
        response = client.get(address, by=operator.passport, params={"organization_id": ABSENT})
        problem(response, 404, "organization_not_found")


@pytest.mark.parametrize(
    ("act", "body"),
    [
        ("capture", {"amount": "1"}),
        ("renew", {"amount": "1", "expires_in_seconds": 60}),
        ("release", {}),
    ],
)
def test_another_customers_hold_answers_like_none(
    desk: Desk, platform: Platform, act: str, body: dict[str, Any]
) -> None:
    hold, stranger = desk.open(), platform.organization(usd=10)
    before = platform.contents()
    problem(desk.act(hold, act, organization_id=stranger.id, **body), 404, "hold_not_found")
    problem(desk.act(hold, act, organization_id=ABSENT, **body), 404, "hold_not_found")
    problem(desk.act({"id": ABSENT}, act, **body), 404, "hold_not_found")
    assert platform.contents() == before


def test_nobody_holds_money_of_nobody(desk: Desk) -> None:
    response = desk.post("/v1/holds", organization_id=ABSENT, amount="1.00", expires_in_seconds=60)
    problem(response, 404, "organization_not_found")


AMOUNTS: dict[str, Any] = {
    "negative": "-1.00",
    "a sign": "+1.00",
    "NaN": "NaN",
    "infinite": "Infinity",
    "2^63 - 1": str(2**63 - 1),
    "2^63 - 1 as a number": 2**63 - 1,
    "huge": "9" * 400,
    "ten digits": "1000000000",
    "too exact": "0.0000001",
    "an exponent": "1e2",
    "a NUL": "1\x00",
    "a comma": "1,00",
    "a space": " 1",
    "a line break": "1\n",
    "Arabic digits": "\u0661",
    "nothing": "",
    "a number": 1,
    "a float": 1.5,
    "a truth": True,
    "null": None,
    "a list": ["1"],
}
NO_SECONDS = [0, -1, 604_801, 2**63 - 1, 1e300, 1.5, "60", True, None, [60]]


@pytest.mark.parametrize("amount", [*AMOUNTS.values(), "0", "0.000000"], ids=[*AMOUNTS, "0", "0.0"])
@pytest.mark.parametrize("act", ["open", "capture"])
def test_refuses_an_amount(desk: Desk, platform: Platform, act: str, amount: object) -> None:
    hold = desk.open()
    before = platform.contents()
    if act == "open":
        response = desk.post("/v1/holds", amount=amount, expires_in_seconds=60)
    else:
        response = desk.act(hold, act, amount=amount)
    (error,) = problem(response, 400, "invalid_request")["errors"]
    assert error["where"] == "body.amount"
    assert platform.contents() == before


@pytest.mark.parametrize("amount", AMOUNTS.values(), ids=AMOUNTS)
def test_refuses_to_add_an_amount(desk: Desk, platform: Platform, amount: object) -> None:
    hold = desk.open()
    before = platform.contents()
    response = desk.act(hold, "renew", amount=amount, expires_in_seconds=60)
    (error,) = problem(response, 400, "invalid_request")["errors"]
    assert error["where"] == "body.amount"
    assert platform.contents() == before


@pytest.mark.parametrize("seconds", NO_SECONDS, ids=str)
@pytest.mark.parametrize("act", ["open", "renew"])
def test_refuses_a_time(desk: Desk, act: str, seconds: object) -> None:
    hold = desk.open()
    path = "/v1/holds" if act == "open" else f"/v1/holds/{hold['id']}/renew"
    response = desk.post(path, amount="1.00", expires_in_seconds=seconds)
    (error,) = problem(response, 400, "invalid_request")["errors"]
    assert error["where"] == "body.expires_in_seconds"


@pytest.mark.parametrize(
    ("act", "field", "value"),
    [
        ("open", "description", ""),
        ("open", "description", "x" * 201),
        ("open", "description", "two\nlines"),
        ("open", "description", "a\x00b"),
        ("open", "description", 7),
        ("open", "organization_id", "mine"),
        ("open", "organization_id", None),
        ("open", "organization_id", 7),
        ("open", "captured", "1.00"),
        ("capture", "final", "yes"),
        ("capture", "final", 1),
        ("capture", "final", None),
        ("capture", "expires_in_seconds", 60),
        ("release", "organization_id", None),
        ("release", "amount", "1.00"),
        ("renew", "description", "longer"),
    ],
)
def test_refuses_a_field(desk: Desk, act: str, field: str, value: object) -> None:
    hold = desk.open()
    bodies: dict[str, dict[str, Any]] = {
        "open": {"amount": "1.00", "expires_in_seconds": 60},
        "capture": {"amount": "1.00"},
        "release": {},
        "renew": {"amount": "1.00", "expires_in_seconds": 60},
    }
    path = "/v1/holds" if act == "open" else f"/v1/holds/{hold['id']}/{act}"
    response = desk.post(path, **bodies[act] | {field: value})
    (error,) = problem(response, 400, "invalid_request")["errors"]
    assert error["where"] == f"body.{field}"
