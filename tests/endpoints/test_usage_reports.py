"""usage_reports: sums, requests, a forecast and files, as customers and operators see them."""

import csv
import json
from datetime import datetime, timedelta
from decimal import Decimal
from io import BytesIO, StringIO
from itertools import count
from typing import Any

import pytest
from psycopg.types.json import Jsonb
from pyarrow import parquet

from tests.harness.answers import done, problem
from tests.harness.client import Client, Load
from tests.harness.operations import ABSENT
from tests.harness.platform import Organization, Platform

_numbers = count()
ANALYTICS, HISTORY = "/v1/usage/analytics", "/v1/usage/history"
FORECAST, EXPORTS = "/v1/usage/forecast", "/v1/usage/exports"


@pytest.fixture
def client(function: Load) -> Client:
    return function("usage_reports")


@pytest.fixture
def usage(function: Load) -> Client:
    return function("usage")


@pytest.fixture
def customer(platform: Platform) -> Organization:
    """A customer with $10; an image costs ten cents, of which acme takes two for its model."""
    customer = platform.organization(usd=10)
    platform.run("insert into billing.providers values ('acme') on conflict do nothing")
    platform.run(
        "insert into billing.provider_models values ('acme', 'm', 0, '{m}', null)"
        " on conflict do nothing"
    )
    platform.run(
        "select billing.add_provider_price('acme', 'm', '2000-01-01', 'test',"
        """ '{"-1": {"images": "0.0200001"}}')"""
    )
    platform.run(
        "select billing.add_usage_rate(jsonb_populate_record(null::billing.usage_rates, %s),"
        """ '{"images": "0.1"}')""",
        Jsonb(
            {
                "id": ABSENT,
                "organization_id": customer.id,
                "may_be_below_cost": False,
                "effective_at": "2026-01-02T00:00:00Z",
                "created_by": "operator",
            }
        ),
    )
    return customer


def _event(customer: Organization, **said: Any) -> dict[str, Any]:  # noqa: ANN401  any JSON
    return {
        "organization_id": customer.id,
        "source": "gateway",
        "id": f"event-{next(_numbers)}",
        "feature": "images",
        "quantities": {"images": 1},
    } | said


def _send(usage: Client, operator: Organization, *events: dict[str, Any]) -> None:
    answer = done(usage.post("/v1/usage/events", {"events": events}, by=operator.passport))
    assert answer["rejected"] == 0, answer


def _now(platform: Platform) -> datetime:
    return datetime.fromisoformat(platform.value("select to_json(billing.now()) #>> '{}'"))


@pytest.fixture
def used(
    platform: Platform, usage: Client, operator: Organization, customer: Organization
) -> Organization:
    """Three images today and one two days ago, half of them of the model; one unknown waits."""
    acme = {"provider": "acme", "model": "m"}
    earlier = (_now(platform) - timedelta(days=2)).isoformat()
    _send(
        usage,
        operator,
        _event(customer),
        _event(
            customer,
            **acme,
            passport_id=platform.passport_id(customer.passport),
            feature="chat",
        ),
        _event(customer, quantities={"images": 1.5}),
        _event(customer, **acme, occurred_at=earlier, source="=1+1"),
        _event(customer, provider="acme", model="unheard of"),
    )
    return customer


@pytest.mark.parametrize("is_folded", [False, True])
def test_a_customer_sees_usage_and_price(
    client: Client, used: Organization, operator: Organization, platform: Platform, is_folded: bool
) -> None:
    if is_folded:
        platform.run(
            "update billing.usage_folds set complete_until ="
            " date_trunc('milliseconds', billing.now()) + interval '1 millisecond'"
        )
        assert platform.value("select folded from api.fold_usage(1000)") == 5
    today = _now(platform).date()
    asked = {"from": str(today - timedelta(days=9)), "group_by": ["day", "model"]}
    answer = done(client.get(ANALYTICS, params=asked, by=used.passport))
    assert (answer["from"], answer["to"]) == (asked["from"], str(today + timedelta(days=1)))
    nothing = {"organization_id": None, "feature": None, "passport_id": None}
    acme = {"provider": "acme", "model": "m", "events": 1, "quantities": {"images": 1}}
    assert answer["data"] == [
        {
            **nothing,
            **acme,
            "day": str(today - timedelta(days=2)),
            "price": "0.100000",
            **{"cost": None, "margin": None},
        },
        {
            **nothing,
            **acme,
            "day": str(today),
            "price": "0.100000",
            **{"cost": None, "margin": None},
        },
        {
            **nothing,
            "day": str(today),
            "provider": None,
            "model": None,
            "events": 2,
            "quantities": {"images": 2.5},
            "price": "0.250000",
            **{"cost": None, "margin": None},
        },
    ]
    query = {"from": asked["from"], "organization_id": used.id}
    (whole,) = done(client.get(ANALYTICS, params=query, by=operator.passport))["data"]
    money = {name: whole[name] for name in ("price", "cost", "margin")}
    assert money == {"price": "0.450000", "cost": "0.0400002", "margin": "0.4099998"}
    query = {"from": asked["from"], "all_customers": "true", "group_by": "organization"}
    (theirs,) = done(client.get(ANALYTICS, params=query, by=operator.passport))["data"]
    assert theirs == whole | {"organization_id": used.id}


@pytest.mark.parametrize(
    ("path", "query"),
    [
        *[(path, {"organization_id": ABSENT}) for path in (ANALYTICS, HISTORY, FORECAST)],
        (ANALYTICS, {"all_customers": "true"}),
        (f"{EXPORTS}/analytics.csv", {"all_customers": "true"}),
        (f"{EXPORTS}/history.parquet", {"organization_id": ABSENT}),
    ],
)
def test_others_are_for_operators(
    client: Client,
    customer: Organization,
    operator: Organization,
    path: str,
    query: dict[str, str],
) -> None:
    problem(client.get(path, params=query, by=customer.passport), 403, "permission_denied")
    answer = client.get(path, params=query, by=operator.passport)
    if "organization_id" in query:
        problem(answer, 404, "organization_not_found")
    else:
        assert answer.status_code == 200


def test_a_report_has_an_end(client: Client, customer: Organization, platform: Platform) -> None:
    by = customer.passport
    query = {"from": "2026-01-01", "to": "2027-02-06"}
    answer = client.get(ANALYTICS, params=query, by=by)
    assert problem(answer, 400, "period_too_long")["maximum_days"] == 400
    done(client.get(ANALYTICS, params=query | {"to": "2027-02-05"}, by=by))
    platform.run(
        "insert into billing.usage_days select %s, '2026-05-05', 'f' || i, '', '', billing.zeros(),"
        " 0, '{}', 0, 0 from generate_series(1, 10001) as i",
        customer.id,
    )
    query |= {"to": "2026-12-01", "group_by": "feature"}
    answer = client.get(ANALYTICS, params=query, by=by)
    assert problem(answer, 400, "too_many_groups")["maximum_groups"] == 10000
    platform.run("delete from billing.usage_days where feature = 'f1'")
    assert len(done(client.get(ANALYTICS, params=query, by=by))["data"]) == 10000


@pytest.mark.parametrize(
    "query",
    [
        {"from": "2026-11-01T00:00:00Z"},
        {"to": "yesterday"},
        {"group_by": "price"},
        {"by": "day"},
        {"from": "1999-12-31"},
        {"from": "2026-11-02", "to": "2026-11-01"},
    ],
    ids=str,
)
def test_what_is_no_question_is_refused(
    client: Client, customer: Organization, query: dict[str, str]
) -> None:
    answer = client.get(ANALYTICS, params=query, by=customer.passport)
    problem(answer, 400, "invalid_request")
    times = {"from": "2026-11-01T00:00:01Z", "to": "2026-11-01T00:00:00Z"}
    answer = client.get(HISTORY, params=times, by=customer.passport)
    (error,) = problem(answer, 400, "invalid_request")["errors"]
    assert error == {"where": "query.to", "message": "must not be before `from`"}


def test_history_pages_through_every_request(
    client: Client, used: Organization, operator: Organization
) -> None:
    first = done(client.get(HISTORY, params={"limit": 3}, by=used.passport))
    rest = {"limit": 3, "cursor": first["next_cursor"]}
    second = done(client.get(HISTORY, params=rest, by=used.passport))
    assert (first["has_more"], second["has_more"]) == (True, False)
    rows = [*first["data"], *second["data"]]
    assert [row["id"] for row in rows] == sorted((row["id"] for row in rows), reverse=True)
    assert [(row["review"], row["price"], row["cost"]) for row in rows] == [
        ("unknown_model", None, None),
        (None, "0.100000", None),
        (None, "0.150000", None),
        (None, "0.100000", None),
        (None, "0.100000", None),
    ]
    query = {"organization_id": used.id, "model": "m", "feature": "chat"}
    (seen,) = done(client.get(HISTORY, params=query, by=operator.passport))["data"]
    money = {name: seen[name] for name in ("price", "cost", "margin")}
    assert money == {"price": "0.100000", "cost": "0.0200001", "margin": "0.0799999"}


def test_history_is_filtered(client: Client, used: Organization, platform: Platform) -> None:
    now = _now(platform)

    def found(**query: object) -> int:
        answer = done(client.get(HISTORY, params={**query, "limit": 100}, by=used.passport))
        return len(answer["data"])

    yesterday = (now - timedelta(days=1)).isoformat()
    assert found() == 5
    assert found(**{"from": yesterday}) == 4
    assert found(to=yesterday) == 1
    assert found(**{"from": yesterday}, to=yesterday) == 0
    assert found(feature="chat") == 1
    assert found(model="m") == 2
    assert found(passport_id=platform.passport_id(used.passport)) == 1
    assert found(passport_id=ABSENT) == 0
    assert found(model="m", feature="images", to=yesterday) == 1


def test_files_say_what_the_answers_say(
    client: Client, used: Organization, operator: Organization
) -> None:
    query = {"organization_id": used.id}
    shown = done(client.get(HISTORY, params=query, by=operator.passport))["data"]
    path = f"{EXPORTS}/history"
    assert done(client.get(f"{path}.json", params=query, by=operator.passport)) == shown

    answer = client.get(f"{path}.csv", params=query, by=operator.passport)
    assert answer.headers["content-disposition"] == 'attachment; filename="usage_history.csv"'
    rows = list(csv.DictReader(StringIO(answer.text)))
    assert [row["source"] for row in rows] == [
        "'=1+1" if row["source"] == "=1+1" else row["source"] for row in shown
    ]
    for row, same in zip(rows, shown, strict=True):
        assert json.loads(row["quantities"]) == same["quantities"]
        assert (row["id"], row["price"], row["cost"]) == (
            *(same["id"], same["price"] or "", same["cost"] or ""),
        )

    answer = client.get(f"{path}.parquet", params=query, by=operator.passport)
    assert answer.headers["content-type"] == "application/vnd.apache.parquet"
    table = parquet.read_table(BytesIO(answer.content)).to_pylist()
    for row, same in zip(table, shown, strict=True):
        assert json.loads(row.pop("quantities")) == same["quantities"]
        assert row.pop("occurred_at") == datetime.fromisoformat(same["occurred_at"])
        assert row == {name: same[name] for name in row}


@pytest.mark.parametrize("extension", ["csv", "json", "parquet"])
def test_a_customers_file_has_no_cost(
    client: Client, used: Organization, extension: str, platform: Platform
) -> None:
    query = {"from": str(_now(platform).date() - timedelta(days=9)), "group_by": "feature"}
    analytics = client.get(f"{EXPORTS}/analytics.{extension}", params=query, by=used.passport)
    history = client.get(f"{EXPORTS}/history.{extension}", by=used.passport)
    for answer in (analytics, history):
        assert answer.status_code == 200
        if extension == "parquet":
            rows = parquet.read_table(BytesIO(answer.content)).to_pylist()
        elif extension == "csv":
            rows = list(csv.DictReader(StringIO(answer.text)))
        else:
            rows = answer.json()
        assert len(rows) >= 2
        assert sum(Decimal(row["price"] or 0) for row in rows) == Decimal("0.45")
        assert {row["cost"] or None for row in rows} == {None}
        assert {row["margin"] or None for row in rows} == {None}


@pytest.mark.parametrize("extension", ["csv", "json", "parquet"])
def test_a_long_export_is_whole_and_goes_on(
    client: Client,
    function: Load,
    operator: Organization,
    used: Organization,
    platform: Platform,
    extension: str,
) -> None:
    rule = {
        **{"description": "calls", "effect": "limit", "limit_per": "passport"},
        **{"capacity": 3, "refill": 1, "refill_seconds": 31 * 86_400},
    }
    done(function("policies").post("/v1/policies", rule, by=operator.passport), 201)
    platform.run(
        "insert into billing.usage_events (organization_id, source, event_id, occurred_at, feature,"
        " quantities, cost_usd, price_usd) select %s, 'test', i::text, billing.now(), 'images',"
        " '{}', 0, 0 from generate_series(1, 2500) as i",
        used.id,
    )

    # A file is one call, however many pages it has.
    left = iter("210")

    def read(**query: object) -> list[str]:
        answer = client.get(f"{EXPORTS}/history.{extension}", params=query, by=used.passport)
        assert answer.headers.get_list("ratelimit")[0].split(";")[1] == f"r={next(left)}"
        if extension == "json":
            return [row["id"] for row in answer.json()]
        if extension == "csv":
            return [row["id"] for row in csv.DictReader(StringIO(answer.text))]
        return list(parquet.read_table(BytesIO(answer.content))["id"].to_pylist())

    rows = read()
    assert len(set(rows)) == len(rows) == 2505
    first = read(limit=1700)
    assert len(first) == 1700
    assert first + read(cursor=first[-1]) == rows


def test_the_forecast_needs_two_weeks(
    client: Client, customer: Organization, platform: Platform
) -> None:
    answer = done(client.get(FORECAST, by=customer.passport))
    assert answer == {
        "organization_id": customer.id,
        "available": "10.000000",
        "days": 0,
        "burn": "0.000000",
        **dict.fromkeys(("forecast", "error", "days_left", "runs_out_on")),
    }


def _spend(platform: Platform, customer: Organization, *cents: int) -> None:
    """Let so many days be over, one after the other, each with its spending."""
    for each in cents:
        if each:
            platform.run(
                "select billing.debit_wallets(array[row(%s, %s, 0, 'revenue_usage', 'usage', null)"
                "::billing.debit], billing.now(), array[0::numeric])",
                customer.id,
                each * 10_000,
            )
            platform.run(
                "insert into billing.usage_events (organization_id, source, event_id, occurred_at,"
                " feature, quantities, cost_usd, price_usd) values (%s, 'test',"
                " gen_random_uuid(), billing.now(), 'images', '{}', 0, %s)",
                customer.id,
                Decimal(each) / 100,
            )
        platform.advance(86_400)


def test_an_even_spending_is_foretold_exactly(
    client: Client, customer: Organization, platform: Platform
) -> None:
    _spend(platform, customer, *[20] * 21)
    answer = done(client.get(FORECAST, by=customer.passport))
    # 21 days of 20 cents left $5.80 of $10.
    assert answer["days"] == 21
    assert (answer["burn"], answer["forecast"]) == ("0.200000", "0.200000")
    assert (answer["error"], answer["days_left"]) == (0, 29)
    runs_out_on = _now(platform).date() + timedelta(days=29)
    assert answer["runs_out_on"] == str(runs_out_on)


def test_the_error_is_that_of_the_same_forecast_on_past_days(
    client: Client, customer: Organization, platform: Platform
) -> None:
    days = [10, 10, 10, 10, 10, 30, 0] * 3
    _spend(platform, customer, *days)
    answer = done(client.get(FORECAST, by=customer.passport))

    def mean(some: list[int]) -> float:
        return sum(some) / len(some)

    def foretell(known: int, day: int) -> float:
        weekday = [days[day - 7 * week] for week in range(1, 5) if day - 7 * week >= 0]
        return (mean(days[known - 7 : known]) + mean(weekday)) / 2

    off = sum(abs(days[day] - foretell(day, day)) for day in range(14, len(days)))
    assert answer["error"] == pytest.approx(off / sum(days[14:]), abs=0.0001)
    week = [foretell(len(days), len(days) + ahead) for ahead in range(7)]
    assert Decimal(answer["forecast"]) == pytest.approx(
        Decimal(mean([int(d * 1000) for d in week])) / 100_000, abs=Decimal("0.0001")
    )
    left, lasts = float(1000 - sum(days)), 0
    while left >= week[lasts % 7]:
        left -= week[lasts % 7]
        lasts += 1
    assert answer["days_left"] == lasts
