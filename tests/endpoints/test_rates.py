"""rates: what usage costs customers, and what they may owe for it."""

import json
import re
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest

from infra.local import paths
from tests.harness.answers import done, problem
from tests.harness.client import Client, Load
from tests.harness.operations import ABSENT
from tests.harness.platform import Organization, Platform

RATES = "/v1/usage/rates"
SHORT_MONEY = "/v1/usage/short-money"


@pytest.fixture
def client(function: Load) -> Client:
    return function("rates")


@pytest.fixture
def customer(platform: Platform) -> Organization:
    return platform.organization(usd=10)


@pytest.fixture(autouse=True)
def _models(platform: Platform) -> None:
    platform.run("insert into billing.providers values ('acme', '{}'), ('broker', '{acme}')")
    platform.run("insert into billing.provider_models values ('acme', 'm-1', 0, '{m}', '^m-1')")
    platform.run(
        "select billing.add_provider_price('acme', 'm-1', '2000-01-01', 'test',"
        """ '{"-1": {"input_tokens": "0.01"}}')"""
    )


def _in(seconds: float) -> str:
    return (datetime.now(UTC) + timedelta(seconds=seconds)).isoformat()


def _event(customer: Organization, name: str, **said: Any) -> dict[str, Any]:  # noqa: ANN401  any JSON
    return {
        **{"organization_id": customer.id, "source": "gateway", "id": name, "feature": "chat"},
        **{"provider": "broker", "model": "M", "quantities": {"input_tokens": 1}},
    } | said


def _prices(platform: Platform) -> list[str]:
    return [
        price
        for (price,) in platform.fetch(
            "select trim_scale(price_usd)::text from billing.usage_events order by id"
        )
    ]


def test_a_rate_counts_from_its_moment_on(
    client: Client,
    function: Load,
    operator: Organization,
    customer: Organization,
    platform: Platform,
) -> None:
    usage = function("usage")

    def use(name: str) -> None:
        body = {"events": [_event(customer, name)]}
        assert done(usage.post("/v1/usage/events", body, by=operator.passport))["accepted"] == 1

    use("by its plan")
    body = {"organization_id": customer.id, "provider": "broker", "model": "m", "markup": "2.50"}
    rate = done(client.post(RATES, body, by=operator.passport), 201)
    assert rate | {"id": "", "effective_at": "", "created_by": ""} == {
        "id": "",
        "organization_id": customer.id,
        "plan": None,
        "feature": None,
        "provider": "acme",
        "model": "m-1",
        "markup": "2.50",
        "prices": {},
        "costs": None,
        "may_be_below_cost": False,
        "ends": False,
        "effective_at": "",
        "replaced_at": None,
        "created_by": "",
    }
    assert rate["created_by"].startswith("passport:")
    use("by its own")
    body["markup"], body["effective_at"] = "3", _in(3600)
    later = done(client.post(RATES, body, by=operator.passport), 201)
    use("not yet")
    platform.advance(3601)
    use("by the later one")
    assert _prices(platform) == ["0.015", "0.025", "0.025", "0.03"]
    listed = done(client.get(f"{RATES}?organization_id={customer.id}", by=operator.passport))
    assert listed["data"] == [later, rate | {"replaced_at": later["effective_at"]}]


def test_an_operator_says_what_a_model_costs_that_is_not_loaded(
    client: Client,
    function: Load,
    operator: Organization,
    customer: Organization,
    platform: Platform,
) -> None:
    usage = function("usage")

    def use(name: str, **said: Any) -> str | None:  # noqa: ANN401  any JSON
        event = _event(customer, name, provider="own", model="Llama", **said)
        answer = usage.post("/v1/usage/events", {"events": [event]}, by=operator.passport)
        reason: str | None = done(answer)["events"][0]["reason"]
        return reason

    # Asked for before: the name is known to be unknown.
    assert use("before") == "unknown_model"
    model = {"provider": "own", "model": "LLAMA"}
    body = model | {"plan": "free", "costs": {"input_tokens": "0.02"}, "markup": "2"}
    rate = done(client.post(RATES, body, by=operator.passport), 201)
    assert (rate["provider"], rate["model"], rate["prices"]) == ("own", "llama", {})
    assert rate["costs"] == body["costs"]
    assert use("with a cost") is None
    # A meter that is not among them costs nobody knows what.
    assert use("more", quantities={"input_tokens": 1, "output_tokens": 1}) == "cost_unknown"
    # Now that its cost is known it may have other rates; and from a moment on another cost.
    own = model | {"organization_id": customer.id, "prices": {"input_tokens": "0.03"}}
    done(client.post(RATES, own, by=operator.passport), 201)
    assert use("by an own rate") is None
    costs = {"input_tokens": "0.05", "images": "0", "requests": "0.000000000000000001"}
    dear = own | {"costs": costs, "effective_at": _in(3600)}
    done(client.post(RATES, dear, by=operator.passport), 201)
    problem(client.post(RATES, dear, by=operator.passport), 409, "rate_exists")
    listed = done(client.get(f"{RATES}?provider=own", by=operator.passport))["data"]
    assert [each["costs"] for each in listed] == [costs, None, body["costs"]]
    assert use("not yet") is None
    platform.advance(3601)
    assert use("below the cost") == "below_cost"
    rows = platform.fetch(
        "select trim_scale(cost_usd)::text, trim_scale(price_usd)::text"
        " from billing.usage_events where review is null order by id"
    )
    assert rows == [("0.02", "0.04"), ("0.02", "0.03"), ("0.02", "0.03")]


def test_prices_are_exact(
    client: Client,
    function: Load,
    operator: Organization,
    customer: Organization,
    platform: Platform,
) -> None:
    prices = {"input_tokens": "0.000000000000000001", "images": "999999999.123456789012345678"}
    body = {"plan": "free", "feature": "chat", "prices": prices, "may_be_below_cost": True}
    assert done(client.post(RATES, body, by=operator.passport), 201)["prices"] == prices
    event = _event(customer, "one", quantities={"input_tokens": 3})
    done(function("usage").post("/v1/usage/events", {"events": [event]}, by=operator.passport))
    assert _prices(platform) == ["0.000000000000000003"]


def test_tiers_and_packages(
    client: Client,
    function: Load,
    operator: Organization,
    customer: Organization,
    platform: Platform,
) -> None:
    tiers: list[dict[str, Any]] = [
        {"up_to": 10, "unit_price": "0.10"},
        {"up_to": None, "unit_price": "0.05"},
    ]
    prices = {
        "images": {"kind": "graduated", "tiers": tiers},
        "seconds": {"kind": "volume", "tiers": [tiers[0] | {"up_to": 0.5}, tiers[1]]},
        "requests": {"kind": "package", "size": 3, "price": "1"},
        "pages": "0.001",
    }
    body = {"organization_id": customer.id, "prices": prices, "may_be_below_cost": True}
    assert done(client.post(RATES, body, by=operator.passport), 201)["prices"] == prices
    said: dict[str, Any] = {"provider": None, "model": None, "quantities": {"images": 8}}
    events = [_event(customer, f"event-{n}", **said) for n in range(2)]
    done(function("usage").post("/v1/usage/events", {"events": events}, by=operator.passport))
    assert _prices(platform) == ["1.8", "0.5"]


def test_the_rates_of_the_readme_cost_what_it_says(
    client: Client,
    function: Load,
    operator: Organization,
    platform: Platform,
) -> None:
    platform.run("insert into billing.providers values ('openai', '{}')")
    text = (paths.ROOT / "README.md").read_text().partition("## Usage")[2]
    (block,) = re.findall(r"```json\n(.*?)```(.*?)\n- ", text, re.DOTALL)[:1]
    rates = [json.loads(rate) for rate in block[0].split("\n\n")]
    for rate in rates:
        told = done(client.post(RATES, rate, by=operator.passport), 201)
        assert told["markup"] == rate.get("markup")
    said = iter([3 * 0.04, *map(float, re.findall(r"= \$(\d+\.\d+)", block[1]))])
    customer = platform.organization("pro")
    estimates = function("authorizations")
    for rate, quantity in zip(rates[1:], [3, 1500, 1500, 1500], strict=True):
        (meter,) = rate["prices"]
        call = {"feature": rate["feature"], "quantities": {meter: quantity}}
        told = done(estimates.post("/v1/usage/estimate", call, by=customer.passport))
        assert float(told["price"]) == pytest.approx(next(said))
    assert list(said) == []


def _tiers(*tiers: tuple[float | None, str], kind: str = "volume") -> dict[str, Any]:
    told = [{"up_to": up_to, "unit_price": price} for up_to, price in tiers]
    return {"prices": {"images": {"kind": kind, "tiers": told}}, "may_be_below_cost": True}


@pytest.mark.parametrize(
    "said",
    [
        {},
        _tiers(),
        _tiers((1, "1")),
        _tiers((1, "1"), (1, "1"), (None, "1")),
        _tiers((2, "1"), (1, "1"), (None, "1")),
        _tiers((None, "1"), (None, "1")),
        _tiers((0, "1"), (None, "1")),
        _tiers((None, "-1")),
        _tiers((None, "1"), kind="flat"),
        {"prices": {"images": {"kind": "package", "size": 0, "price": "1"}}},
        {"prices": {"images": {"kind": "package", "size": 5}}},
        {"markup": 1.5},
        {"markup": "-1"},
        {"markup": "1e3"},
        {"markup": "1000.000001"},
        {"markup": "1.5", "ends": True},
        {"prices": {"images": 0.1}},
        {"prices": {"images": "-0.1"}},
        {"prices": {"images": "0.1234567890123456789"}},
        {"prices": {"Images": "0.1"}},
        {"markup": "2", "costs": {"images": "1"}},
        {"markup": "2", "provider": "own", "costs": {"images": "1"}},
        {"markup": "2", "provider": "own", "model": "x", "costs": {}},
        {"markup": "2", "provider": "own", "model": "x", "costs": {"images": 1}},
        {"provider": "own", "model": "x", "costs": {"images": "1"}},
        {"provider": "own", "model": "x", "costs": {"images": "1"}, "ends": True},
        {"prices": {f"m{n}": "1" for n in range(33)}},
        {"markup": "1.5", "model": "m"},
        {"markup": "1.5", "plan": "free", "organization_id": ABSENT},
        {"markup": "1.5", "feature": "Chat"},
        {"markup": "1.5", "effective_at": "2026-11-21T12:00:00"},
        {"markup": "1.5", "created_by": "me"},
    ],
    ids=str,
)
def test_what_is_no_rate(
    client: Client, operator: Organization, platform: Platform, said: dict[str, Any]
) -> None:
    before = platform.contents()
    problem(client.post(RATES, said, by=operator.passport), 400, "invalid_request")
    assert platform.contents() == before


@pytest.mark.parametrize(
    ("said", "where", "message"),
    [
        ({}, "body", "say markup, prices or both, or else ends: true"),
        ({"prices": []}, "body.prices", "must be an object"),
        ({"prices": {"images": 1}}, "body.prices.images", "Input should be a valid string"),
        ({"prices": {"images": {}}}, "body.prices.images", "must say 'kind'"),
        (
            {"prices": {"images": {"kind": "x"}}},
            "body.prices.images",
            "'kind' must be one of 'graduated', 'volume', 'package'",
        ),
        (_tiers(), "body.prices.images.tiers", "must have at least 1"),
        (
            _tiers((2, "1"), (1, "1"), (None, "1")),
            "body.prices.images.tiers",
            "up_to must rise from each to the next",
        ),
        (
            _tiers((2, "1"), (-1, "1"), (None, "1"), kind="graduated"),
            "body.prices.images.tiers.1.up_to",
            "Input should be greater than or equal to 0",
        ),
        (
            {"prices": {"images": {"kind": "package", "size": "9", "price": "1"}}},
            "body.prices.images.size",
            "Input should be a valid integer or Input should be a valid number",
        ),
        (
            {"prices": {"images": {"kind": "package", "size": 9}}},
            "body.prices.images.price",
            "Field required",
        ),
    ],
    ids=str,
)
def test_what_is_wrong_with_a_rate_is_told_in_its_own_words(
    client: Client, operator: Organization, said: dict[str, Any], where: str, message: str
) -> None:
    refusal = problem(client.post(RATES, said, by=operator.passport), 400, "invalid_request")
    assert refusal["errors"] == [{"where": where, "message": message}]


@pytest.mark.parametrize(
    ("said", "status", "code"),
    [
        ({"organization_id": ABSENT}, 404, "organization_not_found"),
        ({"plan": "gold"}, 400, "plan_unknown"),
        ({"provider": "nobody"}, 400, "model_unknown"),
        ({"provider": "acme", "model": "n"}, 400, "model_unknown"),
        (
            {"provider": "broker", "model": "M", "costs": {"input_tokens": "1"}},
            400,
            "cost_is_known",
        ),
        ({"effective_at": "2026-01-01T00:00:00Z"}, 400, "effective_in_the_past"),
        ({"markup": "0.999999999999"}, 400, "below_cost_not_meant"),
        (_tiers((None, "1")) | {"may_be_below_cost": False}, 400, "below_cost_not_meant"),
        (
            {
                "prices": {
                    "output_tokens": {"kind": "package", "size": 5, "price": "1"},
                    "output_reasoning_tokens": "0.1",
                },
                "may_be_below_cost": True,
            },
            400,
            "tiers_overlap",
        ),
    ],
    ids=str,
)
def test_a_rate_is_for_what_there_is(
    client: Client,
    operator: Organization,
    platform: Platform,
    said: dict[str, Any],
    status: int,
    code: str,
) -> None:
    before = platform.contents()
    problem(client.post(RATES, {"markup": "1.5"} | said, by=operator.passport), status, code)
    assert platform.contents() == before


def test_a_rate_ends(
    client: Client,
    function: Load,
    operator: Organization,
    customer: Organization,
    platform: Platform,
) -> None:
    scope = {"organization_id": customer.id, "feature": "chat"}
    done(client.post(RATES, scope | {"markup": "2"}, by=operator.passport), 201)
    ended = done(client.post(RATES, scope | {"ends": True}, by=operator.passport), 201)
    assert (ended["ends"], ended["markup"], ended["prices"]) == (True, None, {})
    body = {"events": [_event(customer, "one")]}
    done(function("usage").post("/v1/usage/events", body, by=operator.passport))
    assert _prices(platform) == ["0.015"]


def test_two_rates_for_the_same_do_not_begin_at_once(
    client: Client, operator: Organization, platform: Platform
) -> None:
    body = {"plan": "pro", "markup": "2", "effective_at": _in(3600)}
    done(client.post(RATES, body, by=operator.passport), 201)
    before = platform.contents()
    problem(client.post(RATES, body | {"markup": "3"}, by=operator.passport), 409, "rate_exists")
    assert platform.contents() == before
    done(client.post(RATES, body | {"feature": "chat"}, by=operator.passport), 201)


def test_a_rate_is_made_once_and_remembered(
    client: Client, operator: Organization, customer: Organization, platform: Platform
) -> None:
    body = {"organization_id": customer.id, "markup": "0.5", "may_be_below_cost": True}
    first = done(client.post(RATES, body, by=operator.passport, repeat="rate-one"), 201)
    before = platform.contents()
    again = client.post(RATES, body, by=operator.passport, repeat="rate-one")
    assert again.headers["Idempotent-Replayed"] == "true"
    assert done(again, 201) == first
    other = client.post(RATES, body | {"markup": "2"}, by=operator.passport, repeat="rate-one")
    problem(other, 409, "idempotency_conflict")
    assert platform.contents() == before
    found = platform.fetch(
        "select organization_id::text, actor, subject_id::text, detail ->> 'markup'"
        " from billing.audit_log where action = 'create_usage_rate'"
    )
    assert found == [(customer.id, first["created_by"], first["id"], "0.5")]


def test_rates_are_listed_in_pages(client: Client, operator: Organization) -> None:
    made = [
        done(client.post(RATES, {"feature": "f", "markup": f"1.{n}"}, by=operator.passport), 201)
        for n in range(3)
    ]
    first = done(client.get(f"{RATES}?feature=f&limit=2", by=operator.passport))
    path = f"{RATES}?feature=f&cursor={first['next_cursor']}"
    listed = first["data"] + done(client.get(path, by=operator.passport))["data"]
    assert [each["id"] for each in listed] == [each["id"] for each in reversed(made)]
    assert listed[0]["replaced_at"] is None
    assert listed[1]["replaced_at"] == made[2]["effective_at"]
    for query in ("plan=pro", "provider=acme", "provider=acme&model=m-1"):
        found = done(client.get(f"{RATES}?{query}&limit=1", by=operator.passport))["data"]
        assert [each["plan"] for each in found] == (["pro"] if query == "plan=pro" else [])


def test_short_money_may_become_a_debt(
    client: Client,
    function: Load,
    operator: Organization,
    customer: Organization,
    platform: Platform,
) -> None:
    def use(name: str) -> str:
        event = _event(customer, name, quantities={"input_tokens": 700})  # $10.50
        body = {"events": [event]}
        answer = done(function("usage").post("/v1/usage/events", body, by=operator.passport))
        return str(answer["events"][0]["reason"])

    assert use("one") == "insufficient_credits"
    body = {"plan": "free", "allow_debt": "0.49"}
    policy = done(client.post(SHORT_MONEY, body, by=operator.passport), 201)
    assert policy | {"id": ""} == {
        **{"id": "", "organization_id": None, "plan": "free", "feature": None},
        "allow_debt": "0.490000",
    }
    assert use("one") == "insufficient_credits"
    body["allow_debt"] = "0.50"
    changed = done(client.post(SHORT_MONEY, body, by=operator.passport), 201)
    assert changed == policy | {"allow_debt": "0.500000"}
    own = {"organization_id": customer.id, "feature": "chat", "allow_debt": "0"}
    own = done(client.post(SHORT_MONEY, own, by=operator.passport), 201)
    assert use("one") == "insufficient_credits"
    own_again = {"organization_id": customer.id, "feature": "chat", "allow_debt": "1"}
    done(client.post(SHORT_MONEY, own_again, by=operator.passport), 201)
    assert use("one") == "None"
    assert platform.value("select max(debt_micros) from billing.wallets") == 500_000
    listed = done(client.get(SHORT_MONEY, by=operator.passport))["data"]
    assert listed == [own | {"allow_debt": "1.000000"}, changed]
    listed = done(client.get(f"{SHORT_MONEY}?plan=free", by=operator.passport))["data"]
    assert listed == [changed]
    audited = "select count(*) from billing.audit_log where action = 'set_usage_policy'"
    assert platform.value(audited) == 4


@pytest.mark.parametrize(
    ("said", "status", "code"),
    [
        ({}, 400, "invalid_request"),
        ({"allow_debt": "1000000.000001"}, 400, "invalid_request"),
        ({"allow_debt": "1", "plan": "gold"}, 400, "plan_unknown"),
        ({"allow_debt": "1", "organization_id": ABSENT}, 404, "organization_not_found"),
    ],
    ids=str,
)
def test_what_is_no_policy(
    client: Client,
    operator: Organization,
    platform: Platform,
    said: dict[str, Any],
    status: int,
    code: str,
) -> None:
    before = platform.contents()
    refusal = problem(client.post(SHORT_MONEY, said, by=operator.passport), status, code)
    if said.get("allow_debt", "").startswith("1000000"):
        assert refusal["errors"][0]["message"] == "must be at most 1000000.000000"
    assert platform.contents() == before


def test_customers_decide_nothing(
    client: Client, customer: Organization, platform: Platform
) -> None:
    before = platform.contents()
    refused: list[httpx.Response] = [
        client.post(RATES, {"markup": "1"}, by=customer.passport),
        client.get(RATES, by=customer.passport),
        client.post(SHORT_MONEY, {"allow_debt": "1"}, by=customer.passport),
        client.get(SHORT_MONEY, by=customer.passport),
    ]
    for each in refused:
        assert problem(each, 403, "permission_denied")["permission"] == "admin"
    assert platform.contents() == before
