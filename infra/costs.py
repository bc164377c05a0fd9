"""Compute infra/costs.md: what a month costs, and what is too small next, from infra/costs.toml."""

import tomllib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from math import exp
from typing import Any

from faregate.function import FUNCTIONS
from infra.local import paths
from infra.local.progress import run

SOURCE = paths.ROOT / "infra" / "costs.toml"
PAGE = paths.ROOT / "infra" / "costs.md"

_MONTH_SECONDS = 730 * 3600
_GIB = 2**30
_GB = 10**9
_MILLION = 10**6
SIZES = (0, 1_000, 100_000, 10_000_000)

Inputs = dict[str, Any]


@dataclass(frozen=True)
class Load:
    """What a month brings. Calls are those of customers, per function that they go to."""

    number: int
    calls: dict[str, float]
    swept: float = 0  # charges by the sweep
    tasks: float = 0
    stored_bytes: float = 0
    revenue: float = 0

    @property
    def all_calls(self) -> float:
        """Count them together."""
        return sum(self.calls.values())


def sessions(number: int, inputs: Inputs) -> Load:
    """Tell what so many sessions bring."""
    assumed, measured = inputs["assumed"], inputs["measured"]
    hours = number * assumed["session_hours"]
    return Load(
        number,
        calls={
            "sessions": number * assumed["session_calls"],
            "credits": number * assumed["session_reads"],
        },
        swept=hours * (measured["session_hour_transfers"] - 1),
        tasks=number * assumed["exhausted_share"],
        stored_bytes=hours * measured["session_hour_bytes"],
        revenue=number * assumed["session_price"],
    )


def events(number: int, inputs: Inputs) -> Load:
    """Tell what so many metered events bring, each a hold and its capture."""
    assumed, measured = inputs["assumed"], inputs["measured"]
    # A hold and a capture leave about what a session's last charge does.
    per_transfer = measured["session_hour_bytes"] / measured["session_hour_transfers"]
    return Load(
        number,
        calls={"holds": number * assumed["event_calls"]},
        stored_bytes=number * per_transfer * 2,
        revenue=number * assumed["event_price"],
    )


def costs(load: Load, inputs: Inputs) -> dict[str, float]:
    """Tell what a month of this load costs, item by item."""
    armor, balancer = inputs["cloud_armor"], inputs["load_balancer"]
    network, deployed, watched = inputs["network"], inputs["deployed"], inputs["observability"]
    responses_gib = load.all_calls * inputs["assumed"]["response_bytes"] / _GIB
    logs_gib = (load.all_calls + sum(_own(inputs).values())) * inputs["assumed"]["log_bytes"] / _GIB
    return {
        **_cloud_run(load, inputs),
        "Front: load balancer, Cloud Armor": (
            balancer["rules_hour"] * 730
            + balancer["processed_gib"] * responses_gib * 2
            + armor["policy"]
            + armor["rule"] * deployed["rules"]
            + armor["million_requests"] * load.all_calls / _MILLION
        ),
        "Egress": network["egress_gib"] * _above(responses_gib, network["free_egress_gib"]),
        "Queues": inputs["cloud_tasks"]["million_operations"]
        * _above(load.tasks * 2, inputs["cloud_tasks"]["free_operations"])
        / _MILLION,
        "Logs": watched["logs_gib"] * _above(logs_gib, watched["free_logs_gib"]),
        "Cron jobs, secrets, images, alerts": _small_things(inputs),
        "Supabase: Pro and its compute": inputs["supabase"]["plan"]
        + _database(load, inputs)[1]
        - inputs["supabase"]["compute_credit"],
        "Supabase: disk after a year": inputs["supabase"]["disk_gb"]
        * _above(load.stored_bytes * 12 / _GB, inputs["supabase"]["free_disk_gb"]),
    }


def stripe_fees(load: Load, inputs: Inputs) -> float:
    """Tell what Stripe keeps of the top-ups that pay for a load."""
    stripe = inputs["stripe"]
    top_ups = load.revenue / inputs["assumed"]["top_up"]
    return float(load.revenue * stripe["share"] + top_ups * stripe["payment"])


def _cloud_run(load: Load, inputs: Inputs) -> dict[str, float]:
    prices, deployed = inputs["cloud_run"], inputs["deployed"]
    busy = sum(_busy_seconds(calls, inputs) for calls in load.calls.values())
    own = sum(_busy_seconds(calls, inputs) for calls in _own(inputs).values())
    vcpu_seconds = (busy + own) * deployed["vcpu"]
    gib_seconds = (busy + own) * deployed["memory_gib"]
    idle = max(0, deployed["warm_functions"] * _MONTH_SECONDS - busy)
    requests = load.all_calls + sum(_own(inputs).values())
    return {
        "Cloud Run: requests": prices["million_requests"]
        * _above(requests, prices["free_requests"])
        / _MILLION,
        "Cloud Run: instances that answer": (
            prices["vcpu_second"] * _above(vcpu_seconds, prices["free_vcpu_seconds"])
            + prices["gib_second"] * _above(gib_seconds, prices["free_gib_seconds"])
        ),
        "Cloud Run: instances kept warm": idle
        * (
            prices["idle_vcpu_second"] * deployed["vcpu"]
            + prices["idle_gib_second"] * deployed["memory_gib"]
        ),
    }


def _busy_seconds(calls: float, inputs: Inputs) -> float:
    """Tell for how long instances of a function are paid for.

    Each moment with a call in it counts, in steps of a tenth of a second; calls that come by chance
    share moments. Beyond what one instance can do, it is their CPU time.
    """
    rate = calls / _MONTH_SECONDS
    shared = 1 - exp(-rate * inputs["cloud_run"]["rounded_up_to_seconds"])
    return max(shared, rate * call_seconds(inputs)) * _MONTH_SECONDS


def call_seconds(inputs: Inputs) -> float:
    """Tell the CPU time of a call: the function's, the database's and the client's together.

    So it is more than either's own, and what follows from it is too much rather than too little.
    """
    return float(inputs["measured"]["cores"] / inputs["measured"]["calls_second"])


def _own(inputs: Inputs) -> dict[str, float]:
    """Count the calls that come without customers: of cron jobs and of the uptime check."""
    checks = inputs["deployed"]["uptime_checks_minute"] * 60 * 730
    return _schedules() | {"uptime": checks}


def _schedules() -> dict[str, float]:
    """Count the calls of each cron function: most each minute, some each hour or day."""
    every_hour, every_day = {"accrue_storage", "measure_storage"}, {"reconcile", "keep_usage"}
    return {
        name: 730 if name in every_hour else 30.4 if name in every_day else 730 * 60
        for name, kind in FUNCTIONS.items()
        if kind == "schedules"
    }


def _small_things(inputs: Inputs) -> float:
    scheduler, secrets = inputs["cloud_scheduler"], inputs["secret_manager"]
    registry, deployed = inputs["artifact_registry"], inputs["deployed"]
    images_gib = inputs["measured"]["image_gib"] * 5  # most layers are shared by all of them
    return float(
        scheduler["job"] * _above(len(_schedules()), scheduler["free_jobs"])
        + secrets["version"] * _above(deployed["secret_versions"], secrets["free_versions"])
        + registry["gib_month"] * _above(images_gib, registry["free_gib"])
        + inputs["observability"]["alert_condition"] * deployed["alert_conditions"]
    )


def cores(load: Load, inputs: Inputs) -> float:
    """Tell how many cores the database needs in the busiest hour."""
    measured, assumed = inputs["measured"], inputs["assumed"]
    swept = load.swept * measured["cores"] / measured["swept_sessions_second"]
    seconds = load.all_calls * call_seconds(inputs) + swept
    return float(seconds / _MONTH_SECONDS * assumed["peak"] / assumed["busy_share"])


def _database(load: Load, inputs: Inputs) -> tuple[str, float]:
    """Choose the smallest size that has the cores; shared ones only for a tenth of theirs."""
    needed, supabase = cores(load, inputs), inputs["supabase"]
    for name, usd, size_cores, _ in supabase["compute"]:
        if needed <= size_cores * (0.1 if name in supabase["shared"] else 1):
            return name, usd
    name, usd, *_ = supabase["compute"][-1]
    return f"{name} and more", usd


def capacities(inputs: Inputs) -> list[tuple[str, float, str]]:
    """List what limits sessions: the limit, how many a month it carries, and what removes it."""
    measured, assumed = inputs["measured"], inputs["assumed"]
    deployed, one = inputs["deployed"], sessions(1, inputs)
    largest = inputs["supabase"]["compute"][-1]

    def per_month(per_second: float, per_session: float) -> float:
        return float(per_second * _MONTH_SECONDS / assumed["peak"] / per_session)

    running = measured["swept_sessions_second"] * 45 * 5  # all of them within five minutes
    return sorted(
        [
            (
                "a database of 2 cores (Large)",
                2 / cores(one, inputs),
                "a larger one: a setting at Supabase, minutes of restart",
            ),
            (
                f"the largest database, {largest[0]} of {largest[2]} cores",
                largest[2] / cores(one, inputs),
                "reports on a read replica; then Citus, distributed by `organization_id`: every"
                " call touches one organization",
            ),
            (
                f"function `sessions`, {deployed['sessions_instances']} instances",
                per_month(
                    deployed["sessions_instances"] / call_seconds(inputs), assumed["session_calls"]
                ),
                "`max_instances` in `terraform/functions.tf`, as far as the pooler has clients",
            ),
            (
                "the sweep: all running sessions each five minutes",
                running * 730 / assumed["session_hours"] / assumed["peak"],
                "several sweeps side by side: they skip what another has locked",
            ),
            (
                f"queue `stop-session`, {deployed['stop_session_second']} a second",
                per_month(deployed["stop_session_second"], assumed["exhausted_share"]),
                "`dispatches_per_second`; what it does not do in time, the sweep does",
            ),
            (
                "one wallet, charged call by call (events)",
                per_month(measured["charged_one_wallet_second"], assumed["event_calls"]),
                "one customer's calls wait for each other: batches, or several wallets",
            ),
        ],
        key=lambda limit: limit[1],
    )


def _above(value: float, free: float) -> float:
    return max(0.0, value - free)


def page(inputs: Inputs) -> str:
    """Write the page."""
    idle = costs(sessions(0, inputs), inputs)
    assumed, measured = inputs["assumed"], inputs["measured"]
    recovery = inputs["supabase"]["point_in_time_recovery"]
    return "\n".join(
        [
            "# What it costs",
            "",
            "Written by `make costs` from the list prices, measurements and assumptions of"
            " [costs.toml](costs.toml):",
            "change them there to yours. USD a month, without taxes and discounts, free tiers"
            " taken off.",
            "",
            "## An idle month",
            "",
            f"**${sum(idle.values()):,.2f}**, and ${recovery:,.0f} more with point-in-time"
            " recovery (which takes Small or larger). Without instances kept",
            f"warm (`keep_warm = false`): ${sum(idle.values()) - _warm(idle):,.2f}.",
            "",
            f"## Sessions of {assumed['session_hours']} hour",
            "",
            f"Each is {assumed['session_calls'] + assumed['session_reads']} calls,"
            f" {measured['session_hour_transfers']} transfers and"
            f" {measured['session_hour_bytes'] / 1000:.1f} kB, and brings"
            f" ${assumed['session_price']:.2f}.",
            "",
            *_table(sessions, inputs),
            "",
            "## Metered events",
            "",
            f"Each is a hold and its capture, one call each, and brings"
            f" ${assumed['event_price']:.3f}.",
            "",
            *_table(events, inputs),
            "",
            "## What is too small next",
            "",
            f"In the busiest hour, {assumed['peak']} times the mean. A call takes at most"
            f" {call_seconds(inputs) * 1000:.1f} ms of a core: function, database and client",
            f"together made {measured['calls_second']:,} calls a second on {measured['cores']}"
            f" cores. The database is to be {assumed['busy_share']:.0%} busy at most.",
            "",
            "| what | carries a month | what removes it |",
            "|---|--:|---|",
            *(
                f"| {what} | {_rounded(number)} | {remedy} |"
                for what, number, remedy in capacities(inputs)
            ),
            "",
            "Connections: four for each of the database's cores are the most that helps; the"
            " pooler shares them between all instances, and",
            "`terraform plan` refuses more instances than the pooler has clients. The ledger grows"
            f" by {sessions(10_000_000, inputs).stored_bytes / _GB:,.0f} GB with",
            "10 million sessions: months that are over can be moved to BigQuery.",
            "",
            "## What was measured",
            "",
            f"On {measured['read']}, on {measured['cores']} cores that ran Postgres, the function"
            " and the clients together:",
            "",
            "| what | measured | how |",
            "|---|--:|---|",
            *(
                f"| {name.replace('_', ' ')} | {measured[name]:,} | {how} |"
                for name, how in measured["how"].items()
            ),
            "",
            "## Prices",
            "",
            "| what | list price | read | unconfirmed |",
            "|---|---|---|---|",
            *(
                f"| {name.replace('_', ' ')} | {part['source']} | {part['read']}"
                f" | {part.get('unconfirmed', '')} |"
                for name, part in inputs.items()
                if "source" in part
            ),
            "",
        ]
    )


def _table(kind: Callable[[int, Inputs], Load], inputs: Inputs) -> Iterable[str]:
    loads = [kind(number, inputs) for number in SIZES]
    columns = [costs(load, inputs) for load in loads]
    sums = [sum(column.values()) for column in columns]
    yield _row("", [f"{load.number:,}" if load.number else "idle" for load in loads])
    yield "|---|" + "--:|" * len(loads)
    for item in columns[0]:
        yield _row(item, [f"{column[item]:,.2f}" for column in columns])
    yield _row("**together**", [f"**{value:,.2f}**" for value in sums])
    each = [
        value / load.number * 100 if load.number else None
        for value, load in zip(sums, loads, strict=True)
    ]
    yield _row("each, in cents", ["" if cents is None else f"{cents:,.4f}" for cents in each])
    yield _row("the database", [_database(load, inputs)[0] for load in loads])
    yield _row("beside it: Stripe's fees", [f"{stripe_fees(load, inputs):,.2f}" for load in loads])


def _row(name: str, cells: Iterable[str]) -> str:
    return f"| {name} | {' | '.join(cells)} |"


def _warm(items: dict[str, float]) -> float:
    return items["Cloud Run: instances kept warm"]


def _rounded(number: float) -> str:
    """Round to two digits: it is an estimate."""
    digits = len(str(int(number))) - 2
    return f"{round(number, -digits):,.0f}"


def load_inputs() -> Inputs:
    """Read the prices, measurements and assumptions."""
    return tomllib.loads(SOURCE.read_text())


def main() -> None:
    """Write the page."""
    PAGE.write_text(page(load_inputs()))


if __name__ == "__main__":
    run(main)
