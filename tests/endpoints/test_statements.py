"""statements: a period summed up, and what was consumed in it day by day."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest

from tests.harness.answers import done, problem
from tests.harness.client import Client, Load
from tests.harness.platform import Organization, Platform
from tests.harness.stripe_events import Stripe, paid

DAY = 86_400
KINDS = [
    *["purchases", "bonuses", "sessions", "storage", "spaces", "usage"],
    *["refunds", "disputes", "expired", "debt_repaid"],
]
ALWAYS = {"from": "2000-01-01T00:00:00Z", "to": "2999-12-31T23:59:59Z"}
PATHS = [
    *["/v1/statements", "/v1/statements/usage"],
    *["/v1/statements/transactions.csv", "/v1/statements/transactions.json"],
]


@pytest.fixture
def client(function: Load) -> Client:
    return function("statements")


@pytest.fixture
def stripe(function: Load, platform: Platform) -> Stripe:
    return Stripe(platform, function("credits"), function("stripe_webhook"))


def _statement(client: Client, organization: Organization, **query: str) -> dict[str, Any]:
    return done(client.get("/v1/statements", by=organization.passport, params=query))


def _lines(statement: dict[str, Any]) -> dict[str, tuple[str, int]]:
    """Give the lines that something stands on."""
    assert [line["kind"] for line in statement["lines"]] == KINDS
    return {
        line["kind"]: (line["amount"], line["count"])
        for line in statement["lines"]
        if line["count"]
    }


def _now(platform: Platform) -> datetime:
    now: datetime = platform.value("select billing.now()")
    return now.astimezone(UTC)


def _run_a_session(
    function: Load, platform: Platform, organization: Organization, seconds: int
) -> dict[str, Any]:
    sessions = function("sessions")
    start = sessions.post("/v1/sessions", {"tier": "small"}, by=organization.passport)
    session_id = done(start, 201)["id"]
    platform.advance(seconds)
    return done(sessions.post(f"/v1/sessions/{session_id}/stop", {}, by=organization.passport))


def test_a_statement_tells_what_became_of_the_money(
    client: Client, function: Load, platform: Platform, stripe: Stripe
) -> None:
    organization = platform.organization(usd=5)
    done(stripe.tell(paid(stripe.buy(organization, "100.00"))))
    session = _run_a_session(function, platform, organization, 600)
    statement = _statement(client, organization, **ALWAYS)
    assert statement["organization_id"] == organization.id
    assert (statement["from"], statement["to"]) == tuple(ALWAYS.values())
    assert _lines(statement) == {
        "purchases": ("100.000000", 1),
        "bonuses": ("10.000000", 2),
        "sessions": (f"-{session['cost']}", 1),
    }
    settled = platform.wallet(organization)[0]
    assert Decimal(statement["closing"]) == Decimal(settled) / 1_000_000
    assert (statement["opening"], statement["debt"]) == ("0.000000", "0.000000")


def test_what_one_statement_closes_with_the_next_opens_with(
    client: Client, function: Load, platform: Platform
) -> None:
    organization = platform.organization(usd=5)
    _run_a_session(function, platform, organization, 60)
    platform.advance(10)
    noon = _now(platform).isoformat()
    platform.advance(10)
    platform.give(organization.id, 7_000_000)
    _run_a_session(function, platform, organization, 60)
    before = _statement(client, organization, **{"from": ALWAYS["from"], "to": noon})
    after = _statement(client, organization, **{"from": noon, "to": ALWAYS["to"]})
    whole = _statement(client, organization, **ALWAYS)
    assert Decimal("4.9") < Decimal(before["closing"]) < 5
    assert before["closing"] == after["opening"]
    assert after["closing"] == whole["closing"]
    for parts in zip(before["lines"], after["lines"], whole["lines"], strict=True):
        first, second, both = (Decimal(part["amount"]) for part in parts)
        assert first + second == both


def test_storage_is_a_line_of_its_own(client: Client, platform: Platform) -> None:
    organization = platform.organization("pro", usd=5)
    storage_id = platform.rent(organization, 73)
    for _ in range(2):
        platform.advance(50 * 3600)  # 73 GB × 50 hours ÷ 730 hours × $0.02: ten cents
        platform.run("select api.accrue_storage(1)")
    amount, count = _lines(_statement(client, organization, **ALWAYS))["storage"]
    assert -Decimal("0.200001") <= Decimal(amount) <= -Decimal("0.2")
    usage = done(client.get(PATHS[1], by=organization.passport))["data"]
    assert {day["kind"] for day in usage} == {"storage"}
    assert sum(Decimal(day["amount"]) for day in usage) == Decimal(amount)
    exported: list[dict[str, Any]] = client.get(PATHS[3], by=organization.passport).json()
    charges = [each for each in exported if each["reason"] == "storage"]
    assert {each["storage_id"] for each in charges} == {storage_id}
    assert (len(charges), {each["session_id"] for each in exported}) == (count, {None})


def test_by_itself_it_is_this_month_until_now(client: Client, platform: Platform) -> None:
    organization = platform.organization(usd=5)
    statement = _statement(client, organization)
    now = datetime.fromisoformat(statement["to"])
    assert timedelta(0) <= _now(platform) - now < timedelta(seconds=10)
    assert datetime.fromisoformat(statement["from"]) == datetime(now.year, now.month, 1, tzinfo=UTC)
    assert (statement["opening"], statement["closing"]) == ("0.000000", "5.000000")


def test_with_an_end_only_it_is_the_month_that_ends_then(
    client: Client, platform: Platform
) -> None:
    organization = platform.organization()
    statement = _statement(client, organization, to="2027-03-01T00:00:00Z")
    assert statement["from"] == "2027-02-01T00:00:00Z"
    statement = _statement(client, organization, to="2027-03-01T00:00:01+00:00")
    assert statement["from"] == "2027-03-01T00:00:00Z"


def test_with_a_beginning_only_it_lasts_until_now(client: Client, platform: Platform) -> None:
    organization = platform.organization(usd=5)
    statement = _statement(client, organization, **{"from": "2026-01-01T00:00:00+01:00"})
    assert statement["from"] == "2025-12-31T23:00:00Z"
    assert statement["closing"] == "5.000000"
    future = _statement(client, organization, **{"from": "2900-01-01T00:00:00Z"})
    assert future["from"] == future["to"]
    assert (future["opening"], future["closing"]) == ("5.000000", "5.000000")


@pytest.mark.parametrize(
    ("month", "begin", "end"),
    [
        ("2026-11", "2026-11-01T00:00:00Z", "2026-12-01T00:00:00Z"),
        ("2026-12", "2026-12-01T00:00:00Z", "2027-01-01T00:00:00Z"),
        ("2028-02", "2028-02-01T00:00:00Z", "2028-03-01T00:00:00Z"),
        ("2000-01", "2000-01-01T00:00:00Z", "2000-02-01T00:00:00Z"),
        ("2999-12", "2999-12-01T00:00:00Z", "3000-01-01T00:00:00Z"),
    ],
)
def test_a_month_is_a_month_of_utc(
    client: Client, platform: Platform, month: str, begin: str, end: str
) -> None:
    statement = _statement(client, platform.organization(), month=month)
    assert (statement["from"], statement["to"]) == (begin, end)


def test_a_period_without_transactions_opens_and_closes_alike(
    client: Client, platform: Platform
) -> None:
    organization = platform.organization(usd=5)
    for query in ({"month": "2999-01"}, {"month": "2000-01"}):
        statement = _statement(client, organization, **query)
        assert statement["opening"] == statement["closing"]
        assert _lines(statement) == {}
    assert _lines(_statement(client, platform.organization(), **ALWAYS)) == {}


def test_a_statement_is_ones_own(client: Client, platform: Platform) -> None:
    platform.organization(usd=9)
    poor = platform.organization()
    assert _statement(client, poor, **ALWAYS)["closing"] == "0.000000"


def test_usage_is_told_day_by_day(client: Client, function: Load, platform: Platform) -> None:
    organization = platform.organization("pro", usd=5)
    costs: dict[str, list[Decimal]] = {}
    for seconds in (60, 120, 600, 3 * DAY):
        session = _run_a_session(function, platform, organization, seconds)
        charged = [
            (made_at.astimezone(UTC).date().isoformat(), Decimal(micros) / 1_000_000)
            for made_at, micros in platform.fetch(
                "select created_at, amount_micros from api.transactions"
                " where session_id = %s and sequence > 1",
                session["id"],
            )
        ]
        for day, amount in charged:
            costs.setdefault(day, []).append(amount)
        platform.advance(DAY)
    answer = done(
        client.get(
            "/v1/statements/usage",
            by=organization.passport,
            params={"from": "2026-01-01T00:00:00Z", "to": "2027-02-01T00:00:00Z"},
        )
    )
    assert answer["data"] == [
        {"day": day, "kind": "sessions", "amount": f"{sum(amounts):.6f}", "count": len(amounts)}
        for day, amounts in sorted(costs.items())
    ]
    assert len(answer["data"]) >= 4
    lines = _lines(_statement(client, organization, **ALWAYS))
    assert sum(Decimal(day["amount"]) for day in answer["data"]) == Decimal(lines["sessions"][0])


@pytest.mark.parametrize(
    ("to", "is_told"),
    [("2027-02-05T00:00:00Z", True), ("2027-02-05T00:00:00.000001Z", False)],
)
def test_usage_is_told_for_400_days(
    client: Client, platform: Platform, to: str, *, is_told: bool
) -> None:
    organization = platform.organization()
    response = client.get(
        "/v1/statements/usage",
        by=organization.passport,
        params={"from": "2026-01-01T00:00:00Z", "to": to},
    )
    if is_told:
        assert done(response) == {
            "from": "2026-01-01T00:00:00Z",
            "to": "2027-02-05T00:00:00Z",
            "data": [],
        }
    else:
        assert problem(response, 400, "period_too_long")["maximum_days"] == 400


@pytest.mark.parametrize(
    ("query", "where"),
    [
        pytest.param("from=yesterday", "from", id="a word"),
        pytest.param("from=", "from", id="nothing"),
        pytest.param("from=2026-11-01", "from", id="a day"),
        pytest.param("from=2026-11-01T00:00:00", "from", id="no offset"),
        pytest.param("from=2026-11-01 00:00:00Z", "from", id="a space"),
        pytest.param("from=1793500000", "from", id="seconds since 1970"),
        pytest.param("from=2026-02-30T00:00:00Z", "from", id="no such day"),
        pytest.param("from=2026-11-01T24:00:01Z", "from", id="no such hour"),
        pytest.param("from=2026-11-01T00:00:00+25:00", "from", id="no such offset"),
        pytest.param("from=1999-12-31T23:59:59Z", "from", id="too early"),
        pytest.param("from=0001-01-01T00:00:00%2B14:00", "from", id="before all time"),
        pytest.param("to=3000-01-01T00:00:00Z", "to", id="too late"),
        pytest.param("to=9999-12-31T23:59:59-14:00", "to", id="after all time"),
        pytest.param("to=%00", "to", id="NUL"),
        pytest.param("to=" + "9" * 5000, "to", id="huge"),
        pytest.param("from=2026-11-02T00:00:00Z&to=2026-11-01T00:00:00Z", "to", id="backwards"),
        pytest.param("month=2026-13", "month", id="no such month"),
        pytest.param("month=2026-00", "month", id="month 0"),
        pytest.param("month=2026-1", "month", id="one digit"),
        pytest.param("month=1999-12", "month", id="an early month"),
        pytest.param("month=2026-11-01", "month", id="a day as a month"),
        pytest.param("month=2026-11%0A", "month", id="a line break"),
        pytest.param("month=٢٠٢٦-11", "month", id="Arabic digits"),
        pytest.param("month=2026-11&to=2026-11-02T00:00:00Z", "month", id="a month and an end"),
        pytest.param("month=2026-11&from=2026-11-02T00:00:00Z", "month", id="a month and more"),
        pytest.param("form=2026-11-02T00:00:00Z", "form", id="a typing error"),
        pytest.param("from_=2026-11-02T00:00:00Z", "from_", id="Python's name"),
        pytest.param("limit=10", "limit", id="a page"),
    ],
)
@pytest.mark.parametrize("path", PATHS)
def test_a_period_is_what_the_contract_says(
    client: Client, platform: Platform, path: str, query: str, where: str
) -> None:
    response = client.get(f"{path}?{query}", by=platform.organization().passport)
    (error,) = problem(response, 400, "invalid_request")["errors"]
    assert error["where"] == f"query.{where}"
