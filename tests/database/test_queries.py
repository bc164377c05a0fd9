"""Whatever a query asks for, it is asked of the rows that its reader may see."""

import itertools
import json
from collections.abc import Iterable
from typing import LiteralString

import psycopg
import pytest
from psycopg import sql

from tests.database import access
from tests.database.town import READERS, Row, Town

_SIGNED_IN = [reader for reader in READERS if reader != "anonymous"]
_FOUR = ("owner", "member", "passport with billing", "outsider")
_READABLE = [
    view for view, readers in access.VIEWS.items() if readers and view not in access.SHARED
]
_COUNTED = {"Prefer": "count=exact"}


def _of(view: str) -> str:
    return "id" if view == "organizations" else "organization_id"


def _key(row: Row) -> str:
    return json.dumps(row, sort_keys=True)


def _expect_only(town: Town, view: str, reader: str, rows: Iterable[Row]) -> None:
    visible = set(map(_key, town.visible(view, reader)))
    assert {_key(row) for row in rows} <= visible


@pytest.fixture(scope="module")
def pairs(town: Town) -> list[tuple[str, str]]:
    """Give the pairs of views that PostgREST can join, which it tells by refusing all others."""
    by = town.token("owner")
    found = []
    for outer, inner in itertools.product(access.VIEWS, repeat=2):
        answer = town.rest.request("GET", outer, by=by, params={"select": f"*,{inner}(*)"})
        if answer.status_code == 200:
            found.append((outer, inner))
        else:
            assert answer.json()["code"] in {"PGRST200", "42501"}, answer.text
    assert len(found) >= 16
    return found


@pytest.mark.parametrize("reader", _SIGNED_IN)
@pytest.mark.parametrize("join", ["{}(*)", "{}!inner(*)", "{}!left(*)"])
def test_what_is_embedded_is_the_readers_own(
    town: Town, pairs: list[tuple[str, str]], join: str, reader: str
) -> None:
    shown = 0
    for outer, inner in pairs:
        path = f"{outer}?select=*,{join.format(inner)}"
        rows = town.rest.rows(path, by=town.token(reader))
        parts = [row.pop(inner) for row in rows]
        _expect_only(town, outer, reader, rows)
        embedded = [each for part in parts for each in _many(part)]
        _expect_only(town, inner, reader, embedded)
        shown += len(embedded)
    assert bool(shown) == bool(town.readers[reader].roles)


def test_what_is_embedded_deeper_is_the_readers_own(town: Town) -> None:
    select = "*,wallets(*,top_ups(*,receipts(*)),auto_top_ups(*)),members(*),passports(*)"
    for reader in _SIGNED_IN:
        organizations = town.rest.rows(f"organizations?select={select}", by=town.token(reader))
        for organization in organizations:
            wallet = organization.pop("wallets")
            top_ups = wallet.pop("top_ups")
            receipts = [receipt for top_up in top_ups for receipt in _many(top_up.pop("receipts"))]
            _expect_only(town, "receipts", reader, receipts)
            _expect_only(town, "top_ups", reader, top_ups)
            _expect_only(town, "auto_top_ups", reader, _many(wallet.pop("auto_top_ups")))
            _expect_only(town, "wallets", reader, [wallet])
            _expect_only(town, "members", reader, organization.pop("members"))
            _expect_only(town, "passports", reader, organization.pop("passports"))
        _expect_only(town, "organizations", reader, organizations)


def _many(part: Row | list[Row] | None) -> list[Row]:
    return part if isinstance(part, list) else [part] if part else []


@pytest.mark.parametrize("view", _READABLE)
@pytest.mark.parametrize(
    "filters",
    [
        "{column}=eq.{theirs}",
        "{column}=in.({theirs},{theirs})",
        "{column}=not.eq.{ours}",
        "{column}=neq.{ours}",
        "{column}=gt.{ours}",
        "or=({column}.eq.{theirs},and({column}.eq.{theirs},{column}.not.is.null))",
        "not.or=({column}.eq.{ours})",
    ],
)
def test_asking_for_others_finds_nothing(town: Town, view: str, filters: str) -> None:
    query = filters.format(column=_of(view), ours=town.ours.id, theirs=town.theirs.id)
    for reader in _FOUR:
        answer = town.rest.request(
            "GET", f"{view}?{query}", by=town.token(reader), headers=_COUNTED
        )
        assert (answer.json(), answer.headers["content-range"]) == ([], "*/0")


@pytest.mark.parametrize("view", _READABLE)
def test_asking_for_everything_finds_ones_own(town: Town, view: str) -> None:
    column = _of(view)
    queries = [
        f"or=({column}.eq.{town.ours.id},{column}.eq.{town.theirs.id})",
        f"{column}=not.is.null",
        f"order={column}.desc&limit=1000000",
        f"{column}=not.in.(00000000-0000-0000-0000-000000000000)",
    ]
    for reader in _FOUR:
        by, visible = town.token(reader), town.visible(view, reader)
        for query in queries:
            for header in ({}, {"Range-Unit": "items", "Range": "0-999999"}):
                answer = town.rest.request("GET", f"{view}?{query}", by=by, headers=header)
                assert sorted(map(_key, answer.json())) == sorted(map(_key, visible))
        # Written like a column, `count` is the function: it counts what its reader sees.
        (counted,) = town.rest.rows(f"{view}?select=count", by=by)
        assert counted == {"count": len(visible)}
        beyond = town.rest.request("GET", f"{view}?offset=999999", by=by, headers=_COUNTED)
        assert beyond.status_code == 416
        assert f"only {len(visible)} rows" in beyond.json()["details"]


@pytest.mark.parametrize(
    "query",
    [
        *["wallets?select=count()", "wallets?select=settled_micros.sum()"],
        *["wallets?organization_id=eq.abc", "wallets?settled_micros=eq.abc", "holds?kind=eq.abc"],
        *["passports?select=key_hash", "passports?key_hash=eq.00", "passports?order=key_hash"],
        *["passports?select=*,passport_uses(*)", "members?select=*,users(*)"],
        *["top_ups?select=customer_id", "members?select=users.encrypted_password"],
        "organizations?name=imatch.(",
    ],
)
def test_a_question_that_makes_no_sense_is_refused_alike(town: Town, query: str) -> None:
    answers = [
        town.rest.request("GET", query, by=town.token(reader)) for reader in ("owner", "outsider")
    ]
    assert {answer.status_code for answer in answers} == {400}
    assert answers[0].json() == answers[1].json()


def test_nobody_is_shown_a_plan(town: Town) -> None:
    for kind in ("json", "text"):
        accept = {"Accept": f"application/vnd.pgrst.plan+{kind}; options=analyze|verbose"}
        answer = town.rest.request("GET", "holds", by=town.token("owner"), headers=accept)
        assert answer.json()["code"] == "PGRST107"


# Fails on the first row that is not ours: were it asked of rows before the policy is, its reader
# would learn that they exist, and by other conditions what is in them.
_TRAP: LiteralString = """
select v from api.{} as v
where 1 / case when v.{}::text like %s then 1 else 0 end = 1
"""


@pytest.mark.parametrize("view", _READABLE)
def test_no_condition_is_asked_of_a_row_that_its_reader_may_not_see(town: Town, view: str) -> None:
    trap = sql.SQL(_TRAP).format(sql.Identifier(view), sql.Identifier(_of(view)))
    owner = town.platform.owner
    with pytest.raises(psycopg.errors.DivisionByZero), owner.transaction():
        owner.execute(trap, [town.ours.id])
    for reader in _FOUR:
        with town.being(reader) as connection:
            found = connection.execute(trap, [town.ours.id]).fetchall()
        assert len(found) == len(town.visible(view, reader))
