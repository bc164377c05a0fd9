"""credits: the balance, the ledger, prices, and buying more."""

from decimal import Decimal
from typing import Any

import pytest

from tests.harness.answers import done, problem
from tests.harness.client import Client, Load
from tests.harness.platform import Platform


@pytest.fixture
def client(function: Load) -> Client:
    return function("credits")


def test_tells_the_balance(client: Client, platform: Platform) -> None:
    organization = platform.organization(usd=25)
    assert done(client.get("/v1/credits", by=organization.passport)) == {
        "settled": "25.000000",
        "held": "0.000000",
        "available": "25.000000",
        "debt": "0.000000",
        "available_credits": "25.000000",
    }


@pytest.mark.parametrize(
    ("credit_value_usd", "available_credits"),
    [("0.001", "25000.000000"), ("1", "25.000000"), ("3", "8.333333")],
)
def test_a_credit_is_worth_what_the_setting_says(
    function: Load, platform: Platform, credit_value_usd: str, available_credits: str
) -> None:
    organization = platform.organization(usd=25)
    client = function("credits", CREDIT_VALUE_USD=credit_value_usd)
    balance = done(client.get("/v1/credits", by=organization.passport))
    assert balance["available_credits"] == available_credits


def test_a_balance_shows_what_is_held(client: Client, platform: Platform, function: Load) -> None:
    organization = platform.organization(usd=1)
    start = function("sessions").post("/v1/sessions", {"tier": "small"}, by=organization.passport)
    held = Decimal(done(start, 201)["held"])
    balance = done(client.get("/v1/credits", by=organization.passport))
    assert Decimal(balance["held"]) == held > 0
    assert Decimal(balance["available"]) == Decimal(balance["settled"]) - held


def test_lists_the_ledger_in_pages_newest_first(client: Client, platform: Platform) -> None:
    organization = platform.organization()
    for micros in range(1, 6):
        platform.give(organization.id, micros)
    lines: list[dict[str, Any]] = []
    query: dict[str, Any] = {"limit": 2}
    while True:
        path = "/v1/credits/transactions"
        page = done(client.get(path, by=organization.passport, params=query))
        lines += page["data"]
        if not page["has_more"]:
            break
        query["cursor"] = page["next_cursor"]
    assert [(line["sequence"], line["amount"], line["balance"]) for line in lines] == [
        (5, "0.000005", "0.000015"),
        (4, "0.000004", "0.000010"),
        (3, "0.000003", "0.000006"),
        (2, "0.000002", "0.000003"),
        (1, "0.000001", "0.000001"),
    ]


def test_the_ledger_is_ones_own(client: Client, platform: Platform) -> None:
    platform.organization(usd=9)
    poor = platform.organization()
    page = done(client.get("/v1/credits/transactions", by=poor.passport))
    assert page == {"data": [], "has_more": False, "next_cursor": None}


def test_a_debit_tells_which_grants_paid_it(
    client: Client, function: Load, platform: Platform
) -> None:
    organization, operator = platform.organization(), platform.operator()
    for micros in (3, 4):
        platform.give(organization.id, micros)
    holds = function("holds")
    body = {"organization_id": organization.id, "amount": "0.000005"}
    asked = holds.post("/v1/holds", body | {"expires_in_seconds": 60}, by=operator.passport)
    capture = f"/v1/holds/{done(asked, 201)['id']}/capture"
    done(holds.post(capture, body, by=operator.passport))
    path = "/v1/credits/transactions"
    debit, newer, older = done(client.get(path, by=organization.passport))["data"]
    assert (debit["amount"], debit["grant_id"]) == ("-0.000005", None)

    def draws(sequence: int, **query: object) -> dict[str, Any]:
        address = f"{path}/{sequence}/draws"
        return done(client.get(address, by=organization.passport, params=query))

    paid = [
        {"grant_id": newer["grant_id"], "amount": "0.000002"},
        {"grant_id": older["grant_id"], "amount": "0.000003"},
    ]
    assert draws(3) == {"data": paid, "has_more": False, "next_cursor": None}
    first = draws(3, limit=1)
    assert first["data"] + draws(3, limit=1, cursor=first["next_cursor"])["data"] == paid
    assert draws(1)["data"] == []


def test_draws_are_ones_own(client: Client, platform: Platform) -> None:
    platform.organization(usd=9)
    poor = platform.organization()
    for sequence in (1, 2**63 - 1):
        response = client.get(f"/v1/credits/transactions/{sequence}/draws", by=poor.passport)
        problem(response, 404, "transaction_not_found")


@pytest.mark.parametrize("sequence", ["0", "-1", "x", "1.5", "%00", str(2**63), "9" * 5000])
def test_a_sequence_is_a_number(client: Client, platform: Platform, sequence: str) -> None:
    passport = platform.organization(usd=9).passport
    response = client.get(f"/v1/credits/transactions/{sequence}/draws", by=passport)
    (error,) = problem(response, 400, "invalid_request")["errors"]
    assert error["where"] == "path.sequence"


@pytest.mark.parametrize(
    ("plan", "sku", "quantity", "cost"),
    [
        ("free", "session.small", "2.5", "0.125000"),
        ("pro", "session.medium", "1", "0.037500"),
        ("pro", "session.medium", "0.00001", "0.000000"),
        ("pro", "session.medium", "0.000014", "0.000001"),
        ("enterprise", "storage.filestore", "100", "17.000000"),
        ("free", "space.ml-ready", "1", "5.000000"),
        ("admin", "session.gpu", "1000", "0.000000"),
    ],
)
def test_estimates_on_the_callers_plan(
    client: Client, platform: Platform, plan: str, sku: str, quantity: str, cost: str
) -> None:
    organization = platform.organization(plan, usd=1)
    query = {"sku": sku, "quantity": quantity}
    estimate = done(client.get("/v1/credits/estimate", by=organization.passport, params=query))
    assert estimate["cost"] == cost
    assert Decimal(estimate["quantity"]) == Decimal(quantity)
    assert estimate["affordable"] == (Decimal(cost) <= 1)


@pytest.mark.parametrize(
    ("query", "status", "code"),
    [
        pytest.param({"sku": "session.huge"}, 404, "sku_not_found", id="unknown SKU"),
        pytest.param({"sku": "session"}, 400, "invalid_request", id="no SKU"),
        pytest.param({"sku": "a.b" * 50}, 400, "invalid_request", id="long SKU"),
        pytest.param({"sku": "session.small\x00"}, 400, "invalid_request", id="NUL"),
        pytest.param({"quantity": "-1"}, 400, "invalid_request", id="negative"),
        pytest.param({"quantity": "NaN"}, 400, "invalid_request", id="NaN"),
        pytest.param({"quantity": "Infinity"}, 400, "invalid_request", id="infinite"),
        pytest.param({"quantity": "1e400"}, 400, "invalid_request", id="huge"),
        pytest.param({"quantity": "1.0000000001"}, 400, "invalid_request", id="too exact"),
        pytest.param({"quantity": "1000000000"}, 400, "invalid_request", id="ten digits"),
        pytest.param({"quantity": "+1"}, 400, "invalid_request", id="a sign"),
        pytest.param({"quantity": ""}, 400, "invalid_request", id="nothing"),
        pytest.param({"quantity": "ten"}, 400, "invalid_request", id="a word"),
        pytest.param(
            {"sku": "space.ml-ready", "quantity": "999999999"},
            400,
            "amount_out_of_bounds",
            id="beyond the ledger",
        ),
    ],
)
def test_refuses_to_estimate(
    client: Client, platform: Platform, query: dict[str, str], status: int, code: str
) -> None:
    organization = platform.organization()
    query = {"sku": "session.small", "quantity": "1"} | query
    response = client.get("/v1/credits/estimate", by=organization.passport, params=query)
    problem(response, status, code)


@pytest.mark.parametrize(
    ("amount", "bonus"),
    [
        pytest.param("10", "0.000000", id="the least"),
        pytest.param("99.99", "0.000000", id="just below a bracket"),
        pytest.param("100.00", "5.000000", id="first bracket"),
        pytest.param("499.99", "24.999500", id="end of the first"),
        pytest.param("500.000000", "50.000000", id="second bracket"),
        pytest.param("1000.00", "150.000000", id="third bracket"),
        pytest.param("999999.99", "149999.998500", id="the most"),
    ],
)
def test_a_checkout_promises_its_brackets_bonus(
    client: Client, platform: Platform, amount: str, bonus: str
) -> None:
    organization = platform.organization()
    top_up = done(
        client.post("/v1/credits/checkout", {"amount": amount}, by=organization.passport), 201
    )
    assert (Decimal(top_up["amount"]), top_up["bonus"]) == (Decimal(amount), bonus)
    assert (top_up["status"], top_up["paid_at"]) == ("pending", None)
    (checkout,) = (
        found
        for found in platform.cloud.remembered("checkout.session")
        if found["client_reference_id"] == top_up["id"]
    )
    assert checkout["url"] == top_up["checkout_url"]
    assert (checkout["amount_total"], checkout["currency"]) == (Decimal(amount) * 100, "usd")
    assert platform.wallet(organization) == (0, 0)


def test_the_same_key_is_one_checkout(client: Client, platform: Platform) -> None:
    organization = platform.organization()
    before = len(platform.cloud.remembered("checkout.session"))
    first, again = (
        client.post(
            "/v1/credits/checkout",
            {"amount": amount},
            by=organization.passport,
            repeat="checkout-1",
        )
        for amount in ("25.00", "25")
    )
    assert again.headers["idempotent-replayed"] == "true"
    assert done(again, 201) == done(first, 201)
    assert len(platform.cloud.remembered("checkout.session")) == before + 1
    other = client.post(
        "/v1/credits/checkout",
        {"amount": "26.00"},
        by=organization.passport,
        repeat="checkout-1",
    )
    problem(other, 409, "idempotency_conflict")


def test_a_lost_answer_of_the_provider_is_asked_for_again(
    function: Load, platform: Platform
) -> None:
    organization = platform.organization()
    out_of_reach = function("credits", STRIPE_API_URL="http://127.0.0.1:9")
    refused = function("credits", STRIPE_SECRET_KEY="sk_test_wrong")
    works = function("credits")
    answers = [
        client.post(
            "/v1/credits/checkout", {"amount": "25"}, by=organization.passport, repeat="lost-one"
        )
        for client in (refused, out_of_reach, works, works)
    ]
    problem(answers[0], 502, "payment_provider_unavailable")
    problem(answers[1], 502, "payment_provider_unavailable")
    assert done(answers[2], 201) == done(answers[3], 201)
    assert platform.value("select count(*) from billing.top_ups") == 1


@pytest.mark.parametrize(
    ("amount", "code"),
    [
        pytest.param("9.99", "amount_too_small", id="below the minimum"),
        pytest.param("0.01", "amount_too_small", id="a cent"),
        pytest.param("0", "invalid_request", id="nothing"),
        pytest.param("-10.00", "invalid_request", id="negative"),
        pytest.param("+10.00", "invalid_request", id="a sign"),
        pytest.param("10.001", "invalid_request", id="a tenth of a cent"),
        pytest.param("1000000.00", "invalid_request", id="too much"),
        pytest.param("9" * 40, "invalid_request", id="huge"),
        pytest.param("1e2", "invalid_request", id="an exponent"),
        pytest.param("NaN", "invalid_request", id="NaN"),
        pytest.param("10,00", "invalid_request", id="a comma"),
        pytest.param(" 10", "invalid_request", id="a space"),
        pytest.param("10\n", "invalid_request", id="a line break"),
        pytest.param("\u0661\u0660", "invalid_request", id="Arabic digits"),
        pytest.param(10, "invalid_request", id="a number"),
        pytest.param(10.5, "invalid_request", id="a float"),
        pytest.param(True, "invalid_request", id="a truth"),
        pytest.param(None, "invalid_request", id="null"),
        pytest.param(["10"], "invalid_request", id="a list"),
    ],
)
def test_refuses_to_sell(client: Client, platform: Platform, amount: object, code: str) -> None:
    organization = platform.organization()
    before = platform.contents()
    response = client.post("/v1/credits/checkout", {"amount": amount}, by=organization.passport)
    refusal = problem(response, 400, code)
    if code == "amount_too_small":
        assert refusal["minimum"] == "10.000000"
    assert platform.contents() == before


def test_tells_how_far_top_ups_are(client: Client, platform: Platform) -> None:
    organization, other = platform.organization(), platform.organization()
    made = [
        done(client.post("/v1/credits/checkout", {"amount": usd}, by=organization.passport), 201)
        for usd in ("10", "20", "30")
    ]
    path = f"/v1/credits/top-ups/{made[0]['id']}"
    assert done(client.get(path, by=organization.passport)) == made[0]
    first = done(client.get("/v1/credits/top-ups", by=organization.passport, params={"limit": 2}))
    rest = done(
        client.get(
            "/v1/credits/top-ups",
            by=organization.passport,
            params={"limit": 2, "cursor": first["next_cursor"]},
        )
    )
    assert first["data"] + rest["data"] == made[::-1]
    assert done(client.get("/v1/credits/top-ups", by=other.passport))["data"] == []
