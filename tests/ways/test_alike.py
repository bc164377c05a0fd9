"""Both ways tell Postgres the same and are told the same, whatever the type."""

import json
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from functools import partial
from hashlib import sha256
from typing import Any, LiteralString, cast
from uuid import UUID

import pytest
from anyio.from_thread import BlockingPortal

from faregate.backends.database import Database
from faregate.errors import FaregateError
from infra.local.layout import WAYS
from tests.harness.client import environment
from tests.harness.platform import Platform
from tests.harness.postgrest import Postgrest

ODD = 'é 株 \U0001f600 "\\" \' {} \n \t \x1f \x7f $1 %s :x --'
ID = UUID("01a1fe3c-d588-78b8-bbdf-de604c0beaa2")
MOMENT = datetime(2026, 11, 21, 12, 0, 0, 123456, UTC)

# As handlers pass them. A type that no argument had before must be added.
ARGUMENTS: dict[str, list[object]] = {
    "jsonb": [
        {"passport_hash": "ab", "nothing": None, "list": [1, {"deep": [True, []]}]},
        {ODD: ODD, "nul": "a\x00b", "": 0, "escaped": "\\u0000 \\n"},
        {"float": 0.1, "large": 2**63, "small": 5e-324, "e": 1e300, "minus": -0.0},
        {},
    ],
    "text": ["", ODD, "null", "NULL", "{}", "x" * 100_000],
    "uuid": [ID],
    "bigint": [0, -1, 2**63 - 1, -(2**63), 2**53 + 1],
    "integer": [0, 2**31 - 1],
    "smallint": [-5, 32767],
    "boolean": [True, False],
    "numeric": [
        *[Decimal("0.1"), Decimal("1.50"), Decimal("123456789012345678901234.000000000001")],
        *[Decimal("1E-20"), Decimal("1E+20"), Decimal("-0")],
    ],
    "timestamp with time zone": [
        MOMENT,
        MOMENT.astimezone(timezone(timedelta(hours=5, minutes=45))),
        datetime(2000, 2, 29, tzinfo=UTC),
    ],
    "date": [date(2000, 2, 29), date(2026, 11, 21)],
    "text[]": [[], ["read", "write"], ["", ODD, "NULL", "a,b", "{x}"]],
    "uuid[]": [[], [ID, ID]],
}

# Every type that an answer is of, and the types within it.
_ANSWER_TYPES = """
with recursive answered as (
    select a.type
    from pg_catalog.pg_proc as p
    cross join unnest(p.prorettype || coalesce(p.proallargtypes, '{}')) as a (type)
    where p.pronamespace = 'api'::regnamespace
    union
    select i.type
    from answered as r
    inner join pg_catalog.pg_type as t on t.oid = r.type
    cross join unnest(t.typelem || array(
        select a.atttypid from pg_catalog.pg_attribute as a
        where a.attrelid = t.typrelid and a.attnum > 0 and not a.attisdropped
    )) as i (type)
    where t.typcategory in ('A', 'C') and i.type <> 0
)
select t.oid, format_type(t.oid, null), t.typtype::text, t.typcategory::text, t.typelem, array(
    select a.atttypid from pg_catalog.pg_attribute as a
    where a.attrelid = t.typrelid and a.attnum > 0 and not a.attisdropped
    order by a.attnum
)
from answered as r
inner join pg_catalog.pg_type as t on t.oid = r.type
where t.typtype <> 'p'
"""

# A value of each type that others are made of.
_LITERALS = {
    "bigint": "9007199254740993",
    "billing.amount": "1000000000000000",
    "boolean": "true",
    "date": "2026-11-21",
    "integer": "-7",
    "jsonb": '{"a": [1.50, null, "é", 12345678901234567890.10], "": {}}',
    "numeric": "123456789.012345678900",
    "smallint": "7",
    "text": 'é "\\ 株 /',
    "timestamp with time zone": "2026-11-21 12:00:00.123456+05:45",
    "uuid": str(ID),
}


class Ways:
    """One database, entered on both ways."""

    def __init__(self, platform: Platform, postgrest: Postgrest, portal: BlockingPortal) -> None:
        self._portal = portal
        self._databases: list[Database] = []
        for way in WAYS:
            with environment(postgrest.settings(way, platform.database)):
                self._databases.append(Database())

    def call(self, function: LiteralString, **arguments: object) -> list[Any]:
        """Give what a function answers on both ways, which must be the same."""
        first, second = (
            self._portal.call(partial(database.call, function, **arguments))
            for database in self._databases
        )
        # As texts: 1 == 1.0 == True.
        assert json.dumps(first, sort_keys=True) == json.dumps(second, sort_keys=True)
        return cast("list[Any]", first)

    def failures(self, function: LiteralString, **arguments: object) -> list[Exception]:
        """Give how a function fails on each way."""
        failures = []
        for database in self._databases:
            with pytest.raises(Exception) as failure:
                self._portal.call(partial(database.call, function, **arguments))
            failures.append(failure.value)
        return failures

    def close(self) -> None:
        for database in self._databases:
            self._portal.call(database.close)


@pytest.fixture
def ways(platform: Platform, postgrest: Postgrest, portal: BlockingPortal) -> Iterator[Ways]:
    """Give both ways into a database that has some functions more."""
    for function in _functions(platform):
        platform.alter(function)
    platform.alter(
        "grant execute on all functions in schema api to service_role, faregate_functions"
    )
    postgrest.stop()  # it reads once which functions there are
    ways = Ways(platform, postgrest, portal)
    yield ways
    ways.close()


def _functions(platform: Platform) -> Iterator[str]:
    """Write a function for each type: what it was told, and what it tells."""
    for number, name in enumerate(ARGUMENTS):
        yield (
            f"create function api.hear_{number}(p_value {name})"
            " returns table (is_null boolean, value text) language sql security definer"
            " begin atomic select p_value is null, p_value::text; end"
        )
    types = {oid: rest for oid, *rest in platform.fetch(_ANSWER_TYPES)}
    for oid, (name, *_) in types.items():
        sample = _sample(types, oid)
        yield (
            f"create function api.tell_{oid}() returns table (value {name}, nothing {name},"
            f" list {name} []) language sql security definer begin atomic"
            f" select {sample}, null::{name}, array[{sample}]; end"
        )
        yield (
            f"create function api.list_{oid}() returns setof {name} language sql security definer"
            f" begin atomic select {sample} union all select null; end"
        )
    yield (
        "create function api.refuse(p_state text, p_message text, p_detail text) returns boolean"
        " language plpgsql as $$ begin"
        " raise using errcode = p_state, message = p_message, detail = p_detail; end $$"
    )


def _sample(types: dict[int, Any], oid: int) -> str:
    name, kind, category, element, columns = types[oid]
    if kind == "e":
        return f"(enum_range(null::{name}))[1]"
    if kind == "c":
        return f"row({', '.join(_sample(types, column) for column in columns)})::{name}"
    if category == "A":
        return f"array[{_sample(types, element)}, null]::{name}"
    return f"'{_LITERALS[name]}'::{name}"


def test_every_argument_is_heard_alike(ways: Ways, platform: Platform) -> None:
    used = {
        name
        for (name,) in platform.fetch(
            "select distinct format_type(a.type, null) from pg_proc as p"
            " cross join unnest(p.proargtypes) as a (type)"
            " where p.pronamespace = 'api'::regnamespace"
        )
    }
    assert used == set(ARGUMENTS)
    for number, values in enumerate(ARGUMENTS.values()):
        for value in values:
            (heard,) = ways.call(f"hear_{number}", value=value)
            assert not heard["is_null"]
        (heard,) = ways.call(f"hear_{number}", value=None)
        assert heard["is_null"]


def test_numbers_are_heard_to_the_last_digit(ways: Ways) -> None:
    for name in ("bigint", "numeric"):
        number = list(ARGUMENTS).index(name)
        for value in ARGUMENTS[name]:
            (heard,) = ways.call(f"hear_{number}", value=value)
            assert Decimal(heard["value"]) == value


def test_every_answer_is_told_alike(ways: Ways, platform: Platform) -> None:
    tellers = platform.fetch("select proname from pg_proc where proname ~ '^(tell|list)_[0-9]+$'")
    assert len(tellers) > 50
    for (name,) in tellers:
        assert len(ways.call(name)) == (1 if name.startswith("tell") else 2)


def test_refusals_are_told_alike(ways: Ways) -> None:
    for status, code, detail in (
        (402, "insufficient_credits", {"required_micros": 9007199254740993}),
        (404, "hold_not_found", None),
        (503, "unavailable", {}),
    ):
        raised = {"state": f"FG{status}", "message": code, "detail": json.dumps(detail or {})}
        for failure in ways.failures("refuse", **raised):
            assert failure == FaregateError(code, detail or {})
    for state in ("40001", "40P01", "55P03", "57014", "53300", "57P01", "08006"):
        for failure in ways.failures("refuse", state=state, message="busy", detail=""):
            assert failure == FaregateError("unavailable")


def test_faults_are_faults_on_both_ways(ways: Ways) -> None:
    for state in ("P0001", "P0004", "XX000", "22012", "23505", "25006", "42501", "42883"):
        for failure in ways.failures("refuse", state=state, message="nobody knows", detail=""):
            assert not isinstance(failure, FaregateError), state


def test_an_answer_that_is_cut_short_is_a_fault(ways: Ways, platform: Platform) -> None:
    """More rows than the project answers at once: rather none than some."""
    organization = platform.organization()
    for _ in range(1001):
        platform.give(organization.id, 1)
    told: dict[str, Any] = {
        "caller": {"passport_hash": sha256(organization.passport.encode()).hexdigest()},
        "opening_sequence": 0,
        "closing_sequence": 1001,
    }
    assert len(ways.call("list_period", **told, limit=1000)) == 1000
    with pytest.raises(ValueError, match="1000 of 1001 rows"):
        ways.call("list_period", **told, limit=1001)
