"""Charges: on one hot wallet, over many wallets, and many in one call.

Each is compared with a bare transaction that updates one row and inserts another.
"""

from collections.abc import Callable, Iterator
from itertools import count
from statistics import median
from threading import Thread
from time import perf_counter

import psycopg

from infra.bench.report import Line
from infra.bench.stage import Stage

_CLIENTS = 8
_SECONDS = 1.0
_ROUNDS = 7
_WALLETS = 10_000
_MOVEMENTS = 1_000

# The same work for both: one function call, one transaction.
_FUNCTIONS = """
create schema bench;
create table bench.counters (id integer primary key, value bigint not null) with (fillfactor = 50);
create table bench.log (id bigint generated always as identity primary key, value bigint not null);
insert into bench.counters select i, 0 from generate_series(0, 9999) as i;
create table bench.wallets (id integer primary key, organization_id uuid not null);
insert into bench.wallets
select row_number() over (order by w.organization_id desc) - 1, w.organization_id
from billing.wallets as w order by w.organization_id desc limit 10000;
create function bench.bare(p_id integer) returns void language plpgsql as $$
begin
    update bench.counters set value = value + 1 where id = p_id;
    insert into bench.log (value) values (1);
end $$;
create function bench.charge(p_organization_id uuid) returns void language plpgsql as $$
begin
    perform billing.debit_wallet(
        row(p_organization_id, 1, 0, 'revenue_usage', 'capture', null)::billing.debit,
        billing.now()
    );
end $$;
create function bench.post(p_first integer) returns void language plpgsql as $$
declare
    v_debits billing.debit[];
begin
    select array_agg(
        row(w.organization_id, 1, 0, 'revenue_usage', 'capture', null)::billing.debit
    ) into v_debits
    from bench.wallets as w where w.id >= p_first and w.id < p_first + 1000;
    perform w.organization_id from billing.wallets as w
    where w.organization_id in (select d.organization_id from unnest(v_debits) as d)
    order by w.organization_id for no key update;
    perform billing.debit_wallets(v_debits, billing.now());
end $$;
analyze bench.counters, bench.wallets;
"""

Arguments = Callable[[int], list[object]]


def measure(stage: Stage) -> list[Line]:
    """Charge one wallet, then ten thousand, from eight clients; then a thousand in each call."""
    with psycopg.connect(stage.owner_url, autocommit=True) as connection:
        connection.execute(_FUNCTIONS)
        organizations = [
            row[0]
            for row in connection.execute("select organization_id from bench.wallets order by id")
        ]

    def spread(number: int) -> int:
        return number * 7_919 % _WALLETS  # a prime: no two clients walk together

    hot = _compare(stage, lambda _: [0], lambda _: [organizations[0]])
    many = _compare(stage, lambda n: [spread(n)], lambda n: [organizations[spread(n)]])
    posted = _calls_per_second(
        stage, "select bench.post(%s)", lambda n: [n * _MOVEMENTS % _WALLETS], clients=2
    )
    return [
        Line("bare update + insert on one row", hot[0], "calls/s"),
        Line("charge on one hot wallet", hot[1], "calls/s"),
        Line("  of the bare transaction", hot[2], "×", 0.70),
        Line("bare update + insert over 10,000 rows", many[0], "calls/s"),
        Line("charge over 10,000 wallets", many[1], "calls/s"),
        Line("  of the bare transaction", many[2], "×", 0.55),
        Line("charges posted 1,000 in a call", posted * _MOVEMENTS, "charges/s", 40_000),
    ]


def _compare(stage: Stage, row: Arguments, wallet: Arguments) -> tuple[float, float, float]:
    """Give both rates and their ratio. In turns: what else the machine does slows both."""
    rounds = [
        (
            _calls_per_second(stage, "select bench.bare(%s::integer)", row),
            _calls_per_second(stage, "select bench.charge(%s)", wallet),
        )
        for _ in range(_ROUNDS)
    ]
    bare, charge = (median(values) for values in zip(*rounds, strict=True))
    return bare, charge, median(charge / bare for bare, charge in rounds)


def _calls_per_second(
    stage: Stage, call: str, arguments: Arguments, clients: int = _CLIENTS
) -> float:
    numbers: Iterator[int] = count()
    counts: list[int] = []
    deadline = perf_counter() + _SECONDS

    def work() -> None:
        done = 0
        with psycopg.connect(stage.owner_url, autocommit=True, prepare_threshold=None) as own:
            while perf_counter() < deadline:
                own.execute(call.encode(), arguments(next(numbers)))
                done += 1
        counts.append(done)

    threads = [Thread(target=work) for _ in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sum(counts) / _SECONDS
