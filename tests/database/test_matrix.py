"""Nobody reads or writes more than access.py says: each object, each reader, each verb, over HTTP.

The database is furnished once and never changes: each test compares all of it before and after.
"""

import json
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from psycopg import sql

from tests.database import access
from tests.database.town import BEHIND_THE_DOOR, READERS, Row, Town
from tests.harness.operations import ABSENT

_COUNTED = {"Prefer": "count=exact"}
# The door's answers: the role may not, nobody can, there is no such thing, nor such a schema.
_MAY_NOT = {(401, "42501"), (403, "42501")}
_NOT_WRITABLE = {(405, "PGRST105")}
_ABSENT = {(404, "42P01"), (404, "PGRST202")}
_CLOSED = 406


@pytest.fixture(autouse=True)
def _nothing_changes(town: Town) -> Iterator[None]:
    before = town.contents()
    yield
    assert town.contents() == before


def _sorted(rows: list[Row]) -> list[str]:
    return sorted(json.dumps(row, sort_keys=True) for row in rows)


def _verdict(answer: httpx.Response) -> tuple[int, str]:
    body = answer.json() if answer.content else None
    return answer.status_code, str(body.get("code")) if isinstance(body, dict) else "rows"


def check_reads(town: Town, view: str, reader: str) -> None:
    """Hold what a reader is shown to what they may see."""
    expected = town.visible(view, reader)
    by = town.readers[reader].token
    answer = town.rest.request("GET", view, by=by, headers=_COUNTED)
    head = town.rest.request("HEAD", view, by=by, headers=_COUNTED)
    assert head.status_code == answer.status_code
    if not by or not access.VIEWS[view]:
        assert _verdict(answer) in _MAY_NOT
        assert "content-range" not in head.headers
        return
    assert answer.status_code == 200, answer.text
    assert _sorted(answer.json()) == _sorted(expected)
    total = head.headers["content-range"].rpartition("/")[2]
    assert (int(total), head.content) == (len(expected), b"")


def check_writes(town: Town, view: str, reader: str) -> None:
    """Try every way to write that PostgREST has, with rows that the tables would take."""
    for method, query, prefer, body in _writes(town, view):
        answer = town.rest.request(
            *(method, f"{view}?{query}"),
            by=town.readers[reader].token,
            headers={"Prefer": prefer},
            json=body,
        )
        assert _verdict(answer) in _MAY_NOT | _NOT_WRITABLE, (method, prefer, answer.text)


def _writes(town: Town, view: str) -> Iterator[tuple[str, str, str, Row | None]]:
    """Give method, query, preference and body: a new row, one that is there, all that are."""
    row = _a_row(town, view)
    keys = [name for name in ("organization_id", "id", "user_id", "sequence") if name in row]
    this_row = "&".join(f"{name}=eq.{row[name]}" for name in keys)
    last = list(row)[-1]
    # Who asks for the row back needs the right to read it, too.
    for prefer in ("return=minimal", "return=representation"):
        yield "POST", "", prefer, row | {name: ABSENT for name in ("id", "user_id") if name in row}
        yield "PATCH", "", prefer, {last: row[last]}
        yield "DELETE", "", prefer, None
    yield "PUT", this_row, "return=representation", row
    merge = "return=representation,resolution=merge-duplicates"
    yield "POST", f"on_conflict={','.join(keys)}", merge, row


def _a_row(town: Town, view: str) -> Row:
    """Give a row of a view: those of its columns that can be written."""
    columns = [name for (name,) in town.platform.fetch(_WRITABLE, view, view)]
    query = sql.SQL("select to_jsonb(v) from api.{} as v limit 1").format(sql.Identifier(view))
    ((row,),) = town.platform.owner.execute(query).fetchall()
    return {name: row[name] for name in columns}


# A view that joins or groups takes no writes at all: then any column will do.
_WRITABLE = """
select c.column_name
from information_schema.columns as c
where c.table_schema = 'api' and c.table_name = %s
    and c.is_updatable = (
        select max(o.is_updatable) from information_schema.columns as o
        where o.table_schema = 'api' and o.table_name = %s
    )
order by c.ordinal_position
"""


def check_list(town: Town) -> None:
    """Hold the list to the catalog: what is new must be listed, what is listed must be there."""
    found: dict[str, set[str]] = {}
    for kind, name in town.platform.fetch(_OBJECTS):
        found.setdefault(kind, set()).add(name)
    assert found == {
        "api": set(access.VIEWS),
        "billing": {*access.TABLES, access.SANDBOX},
        "ops": set(access.OPERATORS),
        "api functions": set(access.FUNCTIONS),
    }


_OBJECTS = """
select n.nspname, c.relname
from pg_class as c
inner join pg_namespace as n on n.oid = c.relnamespace
where c.relkind in ('r', 'p', 'v', 'm', 'f')
    and not (n.nspname = 'partitions' and c.relispartition) -- named by the month
    and n.nspname not in ('pg_catalog', 'information_schema', 'pg_toast', 'auth')
    and n.nspname <> 'supabase_migrations'
union all
select 'api functions', p.proname
from pg_proc as p
where p.pronamespace = 'api'::regnamespace
"""


def test_the_list_is_whole(town: Town) -> None:
    check_list(town)


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("view", access.VIEWS)
def test_a_view(town: Town, view: str, reader: str) -> None:
    check_reads(town, view, reader)
    check_writes(town, view, reader)


_ELSEWHERE = [("public", "wallets"), ("storage", "objects"), ("pg_catalog", "pg_authid")]


@pytest.mark.parametrize("reader", ["anonymous", "owner", "service_role"])
@pytest.mark.parametrize(("schema", "table"), BEHIND_THE_DOOR + _ELSEWHERE)
def test_what_is_not_in_api_is_nowhere(town: Town, schema: str, table: str, reader: str) -> None:
    by = town.token(reader)
    for method in ("GET", "HEAD", "POST", "PATCH", "DELETE"):
        header = "Accept-Profile" if method in {"GET", "HEAD"} else "Content-Profile"
        profile = {header: schema, "Prefer": "return=representation"}
        answer = town.rest.request(method, table, by=by, headers=profile, json={})
        assert answer.status_code == _CLOSED, (method, answer.text)
    for name in {table, f"{schema}.{table}"} - set(access.VIEWS):
        assert _verdict(town.rest.request("GET", name, by=by)) in (_ABSENT if by else _MAY_NOT)


# What a caller sends whom nobody knows.
_ARGUMENTS: dict[str, Any] = {
    "jsonb": {"passport_hash": "00" * 32},
    "date": "2026-11-01",
    "uuid": ABSENT,
    "text": "nobody",
    "text[]": ["nobody"],
    "uuid[]": [ABSENT],
    "boolean": False,
    "timestamp with time zone": "2026-01-01T00:00:00Z",
    **dict.fromkeys(("smallint", "integer", "bigint", "numeric"), 0),
}
_PARAMETERS = """
select u.name, format_type(u.kind, null)
from pg_proc as p
cross join unnest(p.proargnames, p.proargtypes::oid []) as u (name, kind)
where p.pronamespace = 'api'::regnamespace and p.proname = %s and u.kind is not null
"""


def _call(town: Town, method: str, function: str, by: str) -> tuple[int, str]:
    """Call a function with arguments that fit it; give the verdict."""
    parameters = town.platform.fetch(_PARAMETERS, function)
    arguments = {name: _ARGUMENTS[kind] for name, kind in parameters}
    if method == "POST":
        answer = town.rest.request(method, f"rpc/{function}", by=by, json=arguments)
    else:
        arrays = {k: "{" + v[0] + "}" for k, v in arguments.items() if isinstance(v, list)}
        objects = {k: json.dumps(v) for k, v in arguments.items() if isinstance(v, dict)}
        params = arguments | arrays | objects
        answer = town.rest.request(method, f"rpc/{function}", by=by, params=params)
    return _verdict(answer)


def check_function(town: Town, function: str, reader: str) -> None:
    """Hold a function to be none that a reader may call."""
    for method in ("POST", "GET"):
        assert _call(town, method, function, town.token(reader)) in _MAY_NOT


@pytest.mark.parametrize("reader", ["anonymous", "owner", "passport with billing"])
@pytest.mark.parametrize("function", access.FUNCTIONS)
def test_a_function_is_not_for_readers(town: Town, function: str, reader: str) -> None:
    check_function(town, function, reader)


@pytest.mark.parametrize("function", access.FUNCTIONS)
def test_a_function_asks_the_service_role_who_calls(town: Town, function: str) -> None:
    by = town.token("service_role")
    if ("p_caller", "jsonb") in town.platform.fetch(_PARAMETERS, function):
        assert _call(town, "POST", function, by) == (400, "FG401")
    else:
        # What asks for nobody must do nothing here: a GET is a transaction that cannot write.
        status, code = _call(town, "GET", function, by)
        assert status == 200 or code.startswith(("FG", "22", "25")), code


def test_no_function_of_billing_has_an_address(town: Town) -> None:
    names = town.platform.fetch(
        "select p.proname from pg_proc as p where p.pronamespace = 'billing'::regnamespace"
    )
    hidden = {str(name) for (name,) in names} - set(access.FUNCTIONS)
    assert len(hidden) > 30
    for name in hidden:
        by = town.token("service_role")
        assert _verdict(town.rest.request("POST", f"rpc/{name}", by=by, json={})) in _ABSENT


@pytest.mark.parametrize("reader", READERS)
def test_the_description_names_what_is_there_to_read(town: Town, reader: str) -> None:
    by = town.readers[reader].token
    paths = town.rest.request("GET", "", by=by).json()["paths"]
    readable = {f"/{view}" for view, readers in access.VIEWS.items() if readers and by}
    assert set(paths) == {"/"} | readable
