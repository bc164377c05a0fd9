"""keep_usage: months are made ahead; old ones go to Parquet, only when all is right there."""

from io import BytesIO
from itertools import count
from uuid import uuid4

import httpx
import pytest
from google.auth.credentials import AnonymousCredentials
from google.cloud.storage import Client as GoogleClient
from pyarrow import parquet

from faregate.backends.storage import gcs
from faregate.schedules import keep_usage
from infra.local.layout import GOOGLE_PROJECT
from tests.harness.answers import done, problem
from tests.harness.buckets import bucket
from tests.harness.client import Client, Load
from tests.harness.faulty import STORAGE, Answer, Exchange, Fault, after, faulty, hang, hang_up
from tests.harness.platform import Organization, Platform

_numbers = count()
UPLOAD, DOWNLOAD = ("POST", "/upload/"), ("GET", "/o/")


@pytest.fixture
def name(platform: Platform) -> str:
    """A bucket of ours."""
    name = f"usage-archive-{uuid4().hex}"
    client = GoogleClient(
        project=GOOGLE_PROJECT,
        credentials=AnonymousCredentials(),  # type: ignore[no-untyped-call]
        client_options={"api_endpoint": platform.cloud.layout.gcs_url},
    )
    client.create_bucket(name)
    return name


@pytest.fixture
def customers(platform: Platform) -> list[Organization]:
    """Two customers with ten events each, which came in March of 2025."""
    platform.alter("call billing.create_usage_months('2025-03-01', 2)")
    customers = [platform.organization(usd=10) for _ in range(2)]
    for customer in customers:
        platform.run(
            "insert into billing.usage_events (organization_id, id, source, event_id, occurred_at,"
            " feature, provider_id, model, quantities, cost_usd, price_usd, sequence)"
            " select %s, billing.first_id_of('2025-03-05T00:00:00Z'::timestamptz"
            " + make_interval(hours => i)), 'test', i::text, '2025-03-05', 'chat', 'acme', 'm',"
            """ '{"input_tokens": 12345678901234567}', 0.00000000000000000001, 0.01, 2"""
            " from generate_series(1, 10) as i",
            customer.id,
        )
        platform.run(
            "select billing.debit_wallets(array[row(%s, 100000, 0, 'revenue_usage', 'usage', null)"
            "::billing.debit], billing.now(), array[0::numeric])",
            customer.id,
        )
    return customers


def _fold(platform: Platform) -> None:
    platform.run(
        "update billing.usage_folds set complete_until ="
        " date_trunc('milliseconds', billing.now()) + interval '1 millisecond'"
    )
    while platform.value("select more from api.fold_usage(1000)"):
        pass


def _run(client: Client, platform: Platform) -> httpx.Response:
    return client.post("/schedules/keep-usage", by=platform.cloud.invoker_token())


def _months(platform: Platform) -> list[str]:
    rows = platform.fetch(
        "select right(inhrelid::regclass::text, 7) from pg_inherits"
        " where inhparent = 'billing.usage_events'::regclass order by 1"
    )
    return [str(month) for (month,) in rows]


def _events(platform: Platform) -> list[tuple[object, ...]]:
    return platform.fetch(
        "select organization_id::text, id::text, quantities::text, cost_usd::text, price_usd::text,"
        " occurred_at, event_id, sequence from billing.usage_events"
        " where id < billing.first_id_of('2025-04-01') order by organization_id, id"
    )


def test_months_are_made_ahead(platform: Platform, function: Load) -> None:
    months = _months(platform)
    platform.alter(f"drop table partitions.usage_events_{months[-1]}")
    assert done(_run(function("keep_usage"), platform)) == {"files": 0, "months": 0, "more": False}
    assert _months(platform) == months
    assert len(months) == 13


def test_an_old_month_goes_to_files_and_the_books_agree(
    platform: Platform,
    function: Load,
    customers: list[Organization],
    name: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(keep_usage, "_FILE_EVENTS", 8)
    monkeypatch.setattr(keep_usage, "_PAGE_ROWS", 4)
    client = function("keep_usage", USAGE_ARCHIVE_BUCKET=name)
    before = _events(platform)
    assert len(before) == 20
    # Not all of them are in their days as yet.
    platform.run(
        "update billing.usage_folds set folded_until = '2025-03-31', complete_until = now()"
    )
    assert done(_run(client, platform))["months"] == 0
    platform.run("update billing.usage_folds set folded_until = '2000-01-01'")
    _fold(platform)
    days = platform.fetch("select * from billing.usage_days order by 1, 2")
    assert done(_run(client, platform)) == {"files": 3, "months": 2, "more": False}
    assert "2025_03" not in _months(platform)
    assert "2025_04" not in _months(platform)
    assert _events(platform) == []
    assert platform.differences() == []
    assert platform.fetch("select * from billing.usage_days order by 1, 2") == days

    kept = bucket(platform.cloud, "gcs", name).contents()
    files = platform.fetch("select object_name, events, size_bytes from billing.usage_files")
    assert {file: size for file, _, size in files} == {
        file: len(content) for file, (content, _) in kept.items()
    }
    assert [events for _, events, _ in files] == [8, 8, 4]
    tables = [parquet.read_table(BytesIO(kept[file][0])) for file in sorted(kept)]
    rows = [row for table in tables for row in table.to_pylist()]
    names = ("organization_id", "id", "quantities", "cost_usd", "price_usd", "occurred_at")
    assert [tuple(row[n] for n in (*names, "event_id", "sequence")) for row in rows] == before
    # There is nothing left to do.
    assert done(_run(client, platform)) == {"files": 0, "months": 0, "more": False}


def test_limits_of_all_time_know_what_has_gone(
    platform: Platform,
    function: Load,
    customers: list[Organization],
    name: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(keep_usage, "_FILE_EVENTS", 8)
    monkeypatch.setattr(keep_usage, "_PAGE_ROWS", 4)
    customer, passport = customers[0], platform.passport_id(customers[0].passport)
    platform.run(
        "insert into billing.usage_events (organization_id, id, source, event_id, occurred_at,"
        " feature, passport_id, quantities, cost_usd, price_usd)"
        " select %s, billing.first_id_of('2025-03-06'), 'test', 'more', '2025-03-06', 'draw', %s,"
        """ '{"requests": 5}', 0, 0""",
        customer.id,
        passport,
    )
    platform.run("insert into billing.features values ('chat', 'metered', 'x')")
    platform.run("insert into billing.features values ('draw', 'metered', 'x')")
    for feature, meter, period in (
        ("chat", "input_tokens", "ever"),
        ("draw", "requests", "month"),
    ):
        platform.run(
            "insert into billing.entitlements (organization_id, feature_id, is_granted, meter,"
            " period, limit_quantity, enforcement) values (%s, %s, true, %s, %s, 100, 'hard')",
            *(customer.id, feature, meter, period),
        )
    for capped in (None, passport):
        platform.run(
            "insert into billing.spend_caps (organization_id, passport_id, period, cap_micros,"
            " is_operators, set_by) values (%s, %s, 'ever', 100000, false, 'user:x')",
            *(customer.id, capped),
        )
    # As if its batches had come then: each limit has the counter of that time.
    then = (
        "select billing.find_limits(array[%s]::uuid[], array['chat', 'draw'],"
        " array[%s]::uuid[], '2025-03-31')"
    )
    platform.run(then, customer.id, passport)
    used = "select quantity::text from billing.usage_counters order by 1"
    counted = platform.fetch(used)
    assert counted == [("0",), ("0.10",), ("123456789012345670",), ("5",)]
    assert platform.differences() == []
    _fold(platform)
    client = function("keep_usage", USAGE_ARCHIVE_BUCKET=name)
    assert done(_run(client, platform)) == {"files": 3, "months": 2, "more": False}
    assert _events(platform) == []
    assert platform.differences() == []
    # What is counted anew counts what has gone; a period that is over has nothing any more.
    platform.run("delete from billing.usage_counters")
    platform.run(then, customer.id, passport)
    assert platform.fetch(used) == [("0",), ("0",), *counted[1:3]]
    assert platform.differences() == []
    # A request is one, whether it says so or not.
    sums = platform.fetch(
        "select feature, sum((quantities -> 'requests')::numeric)::integer"
        " from billing.usage_archives where organization_id = %s group by 1 order by 1",
        customer.id,
    )
    assert sums == [("chat", 10), ("draw", 5)]


def test_a_file_has_every_column(platform: Platform) -> None:
    columns = platform.fetch(
        "select attname from pg_attribute where attrelid = 'billing.usage_events'::regclass"
        " and attnum > 0 and not attisdropped and attname <> 'review'"
    )
    assert {str(column) for (column,) in columns} == {column for column, _ in keep_usage.COLUMNS}


@pytest.mark.parametrize("keep", ["null", "1200"])
def test_what_shall_be_kept_stays(
    platform: Platform, function: Load, customers: list[Organization], name: str, keep: str
) -> None:
    _fold(platform)
    platform.alter(f"update billing.usage_retention set keep_months = {keep}")
    client = function("keep_usage", USAGE_ARCHIVE_BUCKET=name)
    assert done(_run(client, platform)) == {"files": 0, "months": 0, "more": False}
    assert len(_events(platform)) == 20


def test_without_a_bucket_everything_stays(
    platform: Platform, function: Load, customers: list[Organization]
) -> None:
    _fold(platform)
    assert done(_run(function("keep_usage"), platform))["months"] == 0
    assert len(_events(platform)) == 20


def test_what_waits_for_a_person_keeps_its_month(
    platform: Platform, function: Load, customers: list[Organization], name: str
) -> None:
    platform.run(
        "insert into billing.usage_events (organization_id, id, source, event_id, occurred_at,"
        " feature, quantities, review) values (%s, billing.first_id_of('2025-03-09'), 'test', 'x',"
        " '2025-03-09', 'chat', '{}', 'unknown_model')",
        customers[0].id,
    )
    _fold(platform)
    client = function("keep_usage", USAGE_ARCHIVE_BUCKET=name)
    assert done(_run(client, platform))["files"] == 0
    assert len(_events(platform)) == 21


def _shorter(exchange: Exchange) -> Answer:
    answer = exchange.ask()
    return Answer(answer.status, _without_hash(answer), answer.body[:-1])


def _other(exchange: Exchange) -> Answer:
    answer = exchange.ask()
    body = answer.body[:40] + bytes([answer.body[40] ^ 1]) + answer.body[41:]
    return Answer(answer.status, _without_hash(answer), body)


def _without_hash(answer: Answer) -> list[tuple[str, str]]:
    return [each for each in answer.headers if each[0].lower() not in ("x-goog-hash", "etag")]


@pytest.mark.parametrize(
    ("fault", "where"),
    [
        pytest.param(hang, UPLOAD, id="timeout before"),
        pytest.param(after(hang), UPLOAD, id="timeout after"),
        pytest.param(hang_up, UPLOAD, id="cut before"),
        pytest.param(after(hang_up), UPLOAD, id="cut after"),
        pytest.param(STORAGE["forbidden"], UPLOAD, id="forbidden"),
        pytest.param(STORAGE["unavailable"], UPLOAD, id="unavailable"),
        pytest.param(STORAGE["forbidden"], DOWNLOAD, id="unreadable"),
        pytest.param(hang, DOWNLOAD, id="timeout of the reading"),
        pytest.param(_shorter, DOWNLOAD, id="wrong size"),
        pytest.param(_other, DOWNLOAD, id="wrong content"),
    ],
)
def test_whatever_goes_wrong_keeps_the_month(
    platform: Platform,
    function: Load,
    customers: list[Organization],
    name: str,
    monkeypatch: pytest.MonkeyPatch,
    fault: Fault,
    where: tuple[str, str],
) -> None:
    monkeypatch.setitem(gcs.ONCE, "timeout", 1)
    _fold(platform)
    before = _events(platform)
    with faulty(platform.cloud.layout.gcs_url) as way:
        way.strike(fault, *where)
        client = function("keep_usage", USAGE_ARCHIVE_BUCKET=name, STORAGE_API_URL=way.url)
        problem(_run(client, platform), 503, "unavailable")
        assert _events(platform) == before
        assert platform.fetch("select * from billing.usage_files") == []
        assert platform.differences() == []
        way.heal()
        assert done(_run(client, platform)) == {"files": 1, "months": 2, "more": False}
    assert _events(platform) == []
    (kept,) = bucket(platform.cloud, "gcs", name).contents().values()
    assert parquet.read_table(BytesIO(kept[0])).num_rows == 20


@pytest.mark.parametrize(
    "died",
    ["finish_usage_file", "finish_usage_month", "list_usage_file"],
)
def test_a_run_that_dies_is_gone_on_with(
    platform: Platform,
    function: Load,
    customers: list[Organization],
    name: str,
    monkeypatch: pytest.MonkeyPatch,
    died: str,
) -> None:
    monkeypatch.setattr(keep_usage, "_FILE_EVENTS", 8)
    monkeypatch.setattr(keep_usage, "_PAGE_ROWS", 4)
    _fold(platform)
    client = function("keep_usage", USAGE_ARCHIVE_BUCKET=name)
    # The database refuses for a while, as if it had been told by nobody.
    platform.alter(f"revoke execute on function api.{died} from faregate_functions")
    platform.alter(f"revoke execute on function api.{died} from service_role")
    assert _run(client, platform).status_code >= 500
    assert platform.differences() == []
    assert len(_events(platform)) == 20
    platform.alter(f"grant execute on function api.{died} to faregate_functions, service_role")
    assert done(_run(client, platform))["months"] == 2
    assert platform.value("select sum(events) from billing.usage_files") == 20
    assert platform.value("select sum(events) from billing.usage_archives") == 20


def test_a_file_that_is_not_what_the_month_has_is_not_noted(
    platform: Platform, customers: list[Organization]
) -> None:
    _fold(platform)
    query = "select api.finish_usage_file('2025-03-01', 1, 'x', {}, '{}', '{}', 1, 'x')"
    wrong = [(19, "2e-19", "0.19"), (20, "2e-19", "0.19"), (20, "1e-19", "0.2"), (0, "0", "0")]
    for figures in wrong:
        assert platform.value(query.format(*figures)) is False
    assert platform.value("select api.finish_usage_month('2025-03-01')") is False
    assert platform.value(query.format(20, "2e-19", "0.2")) is True
    assert platform.value(query.format(20, "2e-19", "0.2")) is False
    assert len(_events(platform)) == 20
