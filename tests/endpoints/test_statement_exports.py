"""statements: a period's ledger as a file."""

import asyncio
import csv
import io
import json
from collections.abc import AsyncIterator
from typing import Any

import httpx
import psycopg
import pytest

from faregate.files import csv_lines, spreadsheet_cell
from faregate.function import Answer
from faregate.money import ExactUsd, Usd
from tests.database.superuser import superuser_url
from tests.harness.answers import done
from tests.harness.client import Client, Load
from tests.harness.platform import Organization, Platform
from tests.harness.server import serve

CSV, JSON = (f"/v1/statements/transactions.{extension}" for extension in ("csv", "json"))
ALWAYS = {"from": "2000-01-01T00:00:00Z", "to": "2999-12-31T23:59:59Z"}
HEADER = [
    *["sequence", "reason", "amount", "balance"],
    *["session_id", "storage_id", "hold_id", "grant_id", "created_at"],
]


@pytest.fixture
def client(function: Load) -> Client:
    return function("statements")


def _fill(platform: Platform, organization: Organization, transfers: int) -> None:
    platform.run(
        "select billing.credit_wallet("
        "%s, n, 'promotional', 'promotion', 'promotion', null) from generate_series(1, %s) as n",
        organization.id,
        transfers,
    )


def _ledger(function: Load, organization: Organization) -> list[dict[str, Any]]:
    """Read the whole ledger as the credits function pages it, oldest first."""
    client = function("credits")
    rows: list[dict[str, Any]] = []
    query: dict[str, Any] = {"limit": 100}
    while True:
        path = "/v1/credits/transactions"
        page = done(client.get(path, by=organization.passport, params=query))
        rows += page["data"]
        if not page["has_more"]:
            return rows[::-1]
        query["cursor"] = page["next_cursor"]


@pytest.mark.parametrize("transfers", [0, 1, 1999, 2000, 2001, 4000, 5003])
def test_an_export_is_the_ledger(
    client: Client, function: Load, platform: Platform, transfers: int
) -> None:
    organization, other = platform.organization(), platform.organization(usd=3)
    _fill(platform, organization, transfers)
    ledger = _ledger(function, organization)
    assert [row["sequence"] for row in ledger] == list(range(1, transfers + 1))

    as_json = client.get(JSON, by=organization.passport, params=ALWAYS)
    assert as_json.headers["content-type"] == "application/json"
    assert as_json.json() == ledger

    as_csv = client.get(CSV, by=organization.passport, params=ALWAYS)
    assert as_csv.headers["content-type"] == "text/csv; charset=utf-8; header=present"
    assert as_csv.text.count("\r\n") == as_csv.text.count("\n") == transfers + 1
    header, *rows = csv.reader(io.StringIO(as_csv.text, newline=""), strict=True)
    assert header == HEADER
    assert rows == [
        ["" if row[name] is None else str(row[name]) for name in header] for row in ledger
    ]

    assert len(client.get(JSON, by=other.passport, params=ALWAYS).json()) == 1


def test_an_export_has_its_period_only(client: Client, platform: Platform) -> None:
    organization = platform.organization(usd=1)
    platform.advance(60)
    cut = platform.value("select to_jsonb(billing.now()) #>> '{}'")
    platform.give(organization.id, 2)
    exports = [
        client.get(JSON, by=organization.passport, params=ALWAYS | query).json()
        for query in ({"to": cut}, {"from": cut})
    ]
    assert [[row["sequence"] for row in rows] for rows in exports] == [[1], [2]]


def test_a_file_is_named_after_its_owner_and_period(client: Client, platform: Platform) -> None:
    organization = platform.organization()
    query = {"from": "2026-11-01T01:00:00+01:00", "to": "2026-11-30T12:30:00Z"}
    for path, extension in ((CSV, "csv"), (JSON, "json")):
        response = client.get(path, by=organization.passport, params=query)
        assert response.headers["content-disposition"] == (
            f'attachment; filename="transactions_{organization.id}'
            f'_20261101T000000Z_20261130T123000Z.{extension}"'
        )


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        *((value, f"'{value}") for value in ("=1+1", "+1", "-1+1", "-12.500000", "@SUM(A1)", "-")),
        *((value, f"'{value}") for value in ("\t=1", "\r=1", "\n=1", "=", "\uff1d1", "\uff20x")),
        *((value, value) for value in ("12", "a=b", "top_up", "", None, 7, -7, -0.5)),
    ],
)
def test_no_cell_is_a_formula(value: object, shown: object) -> None:
    assert spreadsheet_cell(value) == shown


class _Row(Answer):
    text: str | None
    amount: Usd
    exact: ExactUsd | None


def test_an_amount_is_a_number_whatever_it_begins_with() -> None:
    async def pages() -> AsyncIterator[list[_Row]]:
        yield [_Row(text="-1", amount=-1, exact="-0.0000001")]
        yield [_Row(text="@a,b", amount=0, exact=None)]

    async def lines() -> str:
        return "".join([line async for line in csv_lines(_Row, pages())])

    rows = ["text,amount,exact", "'-1,-0.000001,-0.0000001", '"\'@a,b",0.000000,']
    assert asyncio.run(lines()).splitlines() == rows


@pytest.mark.parametrize("path", [CSV, JSON])
def test_an_export_that_breaks_off_is_not_taken_for_a_whole_one(
    platform: Platform, settings: dict[str, str], path: str
) -> None:
    organization = platform.organization()
    _fill(platform, organization, 4500)
    # A row that no answer can hold, on the fifth page.
    with psycopg.connect(
        superuser_url(platform.database), options="-c session_replication_role=replica"
    ) as superuser:
        superuser.execute(
            "update billing.transfers set created_at = 'infinity' where sequence = 4400"
        )
    read = ""
    with (
        serve(settings, "statements") as address,
        httpx.Client(base_url=address, trust_env=False) as http,
    ):
        headers = {"Authorization": f"Bearer {organization.passport}"}
        with (
            pytest.raises(httpx.RemoteProtocolError),
            http.stream("GET", path, params=ALWAYS, headers=headers) as response,
        ):
            assert response.status_code == 200
            for text in response.iter_text():
                read += text
    assert read.count("promotion") == 4000
    with pytest.raises(json.JSONDecodeError):
        json.loads(read)
