"""A customer's page of their ledger, straight from PostgREST: what row-level security costs."""

import http.client
import json
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from statistics import median
from time import perf_counter, time
from typing import Any

import psycopg

from infra.bench.load import LoadError, wait_until_up
from infra.bench.report import Line, Plan
from infra.bench.stage import Stage
from infra.local import children, paths
from infra.local.layout import Layout
from infra.local.template import free_port

Connection = psycopg.Connection[tuple[Any, ...]]

_TRANSFERS = 10_000_000
_ROUNDS = 500
_WARM_UP = 50
_PAGE = (
    "select * from api.transactions where organization_id = '{}' order by sequence desc limit 50"
)

# One organization has a tenth of all transfers, the reader's a hundredth, the rest are others', of
# all sizes. As in life, the rows of each lie among those of everybody.
_LEDGERS = """
with readers as (
    insert into billing.organizations (name, plan_id, billing_email, claimed_at)
    select 'reader ' || i, 'pro', 'reader' || i || '@example.com', now()
    from generate_series(1, 100002) as i
    returning id
), ids as (
    select array_agg(id) as ids from readers
), member as (
    insert into auth.users (email) values ('reader@example.com') returning id
), members as (
    insert into billing.members (organization_id, user_id, role)
    select ids[2], member.id, 'member' from ids, member
    returning organization_id, user_id
), transfers as (
    insert into billing.transfers (
        organization_id, sequence, debit_account, credit_account, amount_micros,
        wallet_balance_micros, reason, grant_id, hold_id
    )
    select
        ids[case
            when i %% 10 = 0 then 1
            when i %% 100 = 1 then 2
            else 3 + floor(power(i * 7919 %% 1000003 / 1000003.0, 2) * 100000)::integer
        end],
        i, 'wallet', 'revenue_usage', 1 + i %% 1000, 1000000000 - i, 'capture', ids[1], ids[2]
    from generate_series(1, %s::bigint) as i
    cross join ids
)
select organization_id, user_id from members
"""

# Nobody but this measurement reads without row-level security.
_BYPASSER = """
do $$
begin
    if not exists (select from pg_roles where rolname = 'bench_reader') then
        create role bench_reader nologin noinherit bypassrls;
    end if;
end $$;
grant bench_reader to authenticator;
grant usage on schema api to bench_reader;
grant select on api.transactions, billing.transfers to bench_reader;
"""


def measure(stage: Stage) -> list[Line | Plan]:
    """Read pages of fifty, as a member and as somebody whom no policy concerns, in turns."""
    layout = Layout.load()
    with psycopg.connect(stage.owner_url, autocommit=True) as owner:
        organization_id, user_id = _furnish(owner)
        claims = {"sub": str(user_id), "role": "authenticated", "exp": int(time()) + 3600}
        plan = _plan(owner, claims, _PAGE.format(organization_id))
    own = f"/transactions?organization_id=eq.{organization_id}&order=sequence.desc&limit=50"
    with _postgrest(stage, layout) as port:
        member, bypasser = (
            _reader(port, layout.auth_key.sign({**claims, "role": role}))
            for role in ("authenticated", "bench_reader")
        )
        page = _compare(lambda _: own, member, bypasser)
        further = _compare(
            lambda number: f"{own}&sequence=lt.{(number + 1) * _TRANSFERS // (2 * _ROUNDS)}",
            member,
            bypasser,
        )
        unnamed = [
            median(_milliseconds(member, f"/transactions?order={order}&limit=50") for _ in range(9))
            for order in ("organization_id.desc,sequence.desc", "sequence.desc")
        ]
    return [
        Line("a member's page of 50 of 10 million transactions", page[0][0], "ms"),
        Line("  p99", page[0][1], "ms"),
        Line("  of the same without row-level security", page[0][0] / page[1][0], "×", 2, True),
        Line("    p99 of that", page[1][1], "ms"),
        Line("a page further back", further[0][0], "ms"),
        Line("  p99", further[0][1], "ms"),
        Line("  without row-level security", further[0][0] / further[1][0], "×", 2, True),
        Line("a page whose organization is not named, but ordered by", unnamed[0], "ms"),
        Line("  nor ordered by: all 100,000 are sorted", unnamed[1], "ms"),
        Plan("a member's page", plan),
    ]


def _furnish(owner: Connection) -> tuple[object, object]:
    """Load the transfers; give a member and their organization."""
    # Ten million entries put in one by one take longer than all at once.
    owner.execute("alter table billing.transfers drop constraint transfers_pkey")
    ((organization_id, user_id),) = owner.execute(_LEDGERS, [_TRANSFERS]).fetchall()
    owner.execute("alter table billing.transfers add primary key (organization_id, sequence)")
    owner.execute("vacuum analyze billing.transfers, billing.members, billing.organizations")
    owner.execute(_BYPASSER)
    return organization_id, user_id


def _plan(owner: Connection, claims: dict[str, Any], query: str) -> list[str]:
    """Tell how Postgres answers a query of a signed-in user the second time."""
    with owner.transaction(force_rollback=True):
        owner.execute("select set_config('request.jwt.claims', %s, true)", [json.dumps(claims)])
        owner.execute("set local role authenticated")
        owner.execute(query.encode())
        return [row[0] for row in owner.execute(f"explain (analyze, buffers) {query}".encode())]


Reader = Callable[[str], bytes]
Times = tuple[float, float]


def _reader(port: int, token: str) -> Reader:
    """Keep one connection open; read what a token may read."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    headers = {"Authorization": f"Bearer {token}"}

    def read(path: str) -> bytes:
        connection.request("GET", path, headers=headers)
        answer = connection.getresponse()
        body = answer.read()
        if answer.status != http.HTTPStatus.OK:
            raise LoadError(f"{answer.status} {body.decode()}")
        return body

    return read


def _compare(path: Callable[[int], str], *readers: Reader) -> list[Times]:
    """Give each reader's median and p99. In turns: what else the machine does slows both."""
    times: list[list[float]] = [[] for _ in readers]
    for number in range(-_WARM_UP, _ROUNDS):
        address = path(number % _ROUNDS)
        answers = []
        for reader, own in zip(readers, times, strict=True):
            began = perf_counter()
            answers.append(reader(address))
            own.append((perf_counter() - began) * 1000)
        if len(set(answers)) != 1:
            raise LoadError(f"two readers, two answers: {address}")
    return [
        (median(own), sorted(own)[int(_ROUNDS * 0.99)]) for own in (t[_WARM_UP:] for t in times)
    ]


def _milliseconds(reader: Reader, path: str) -> float:
    began = perf_counter()
    reader(path)
    return (perf_counter() - began) * 1000


@contextmanager
def _postgrest(stage: Stage, layout: Layout) -> Iterator[int]:
    """Serve schema api as Supabase does."""
    port = free_port()
    process = children.spawn(
        [str(paths.postgrest_binary())],
        paths.LOGS / "postgrest-bench.log",
        env={**os.environ, **layout.postgrest_environment(stage.authenticator_url, port)},
    )
    try:
        wait_until_up(process, port)
        yield port
    finally:
        children.stop(process, signal.SIGTERM)
