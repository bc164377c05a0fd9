"""Entitlements: asking before each call, compared with looking one row up through the function.

Both are HTTP requests to the same function, with the same passports, in turns: one finds a row of
the caller's organization by its primary key, the other checks a feature with a limit that its plan
includes, of which some is used, and a cap.
"""

import asyncio
from functools import partial
from statistics import median

import psycopg

from infra.bench import load
from infra.bench.http import serve
from infra.bench.report import Line
from infra.bench.stage import PASSPORTS, Stage, key
from infra.local import paths

_NUMBER = 1_500
_ROUNDS = 7
_LEAST = 0.75

_SETUP = """
create function api.bench_lookup(p_caller jsonb)
returns table (id uuid, plan_id text) language plpgsql security definer
set search_path = pg_catalog, pg_temp as $$
#variable_conflict use_column
declare
    v_caller billing.caller := billing.authenticate(p_caller, 'read');
begin
    return query
    select o.id, o.plan_id from billing.organizations as o where o.id = v_caller.organization_id;
end $$;
grant execute on function api.bench_lookup to faregate_functions;
insert into billing.features (id, kind, description) values ('bench', 'metered', 'Bench');
insert into billing.plan_entitlements (
    plan_id, feature_id, is_granted, meter, period, limit_quantity, enforcement
)
values ('pro', 'bench', true, 'output_tokens', 'month', 1000000, 'hard');
insert into billing.spend_caps (organization_id, period, cap_micros, is_operators, set_by)
select organization_id, 'month', 1000000, false, 'bench' from billing.passports;
insert into billing.usage_counters (organization_id, limit_id, starts_at, quantity)
select l.organization_id, l.id, billing.period_start('month', now()), 0.5
from billing.passports as p
inner join billing.usage_limits as l on l.organization_id = p.organization_id;
analyze billing.features, billing.plan_entitlements, billing.spend_caps, billing.usage_counters;
"""
# What follows is measured as if nothing were limited.
_CLEAN_UP = """
delete from billing.usage_counters;
delete from billing.spend_caps;
delete from billing.plan_entitlements;
delete from billing.features;
"""


def measure(stage: Stage) -> list[Line]:
    """Ask with eight clients; the ratio is to the bare lookup in the same run."""
    with psycopg.connect(stage.owner_url, autocommit=True) as connection:
        connection.execute(_SETUP)
        try:
            with serve(stage, "entitlements", paths.ROOT / "infra" / "bench" / "lookup.py") as port:
                rounds = [
                    (_rate(port, "lookup/bare"), _rate(port, "bench")) for _ in range(_ROUNDS)
                ]
        finally:
            connection.execute(_CLEAN_UP)
    bare, check = (median(values) for values in zip(*rounds, strict=True))
    return [
        Line("bare lookup by primary key", bare, "calls/s"),
        Line("entitlement check through the same function", check, "calls/s"),
        Line("  of the bare lookup", median(b / a for a, b in rounds), "×", _LEAST),
    ]


def _rate(port: int, path: str) -> float:
    request = partial(_request, path)
    return asyncio.run(load.requests_per_second(port, request, number=_NUMBER, expect=200))


def _request(path: str, number: int) -> bytes:
    lines = [
        f"GET /v1/entitlements/{path} HTTP/1.1",
        "Host: 127.0.0.1",
        f"Authorization: Bearer {key(number % PASSPORTS)}",
    ]
    return "\r\n".join(lines).encode() + b"\r\n\r\n"
