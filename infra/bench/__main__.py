"""Run every measurement and print it with its limit; exit 1 when one falls short."""

import sys

from infra.bench import (
    accrual,
    entitlements,
    http,
    imports,
    ledger,
    proof,
    readers,
    sweep,
    usage,
    usage_http,
    usage_reports,
)
from infra.bench.report import Line, Plan
from infra.bench.stage import stage
from infra.local.progress import run, say, step


def main() -> None:
    """Measure on a database of its own, made anew."""
    with step("imports"):
        lines: list[Line | Plan] = [*imports.measure()]
    with stage() as own:
        with step("calls over HTTP"):
            lines += http.measure(own)
        with step("charges"):
            lines += ledger.measure(own)
        with step("usage"):
            lines += usage.measure(own)
        with step("usage over HTTP"):
            lines += usage_http.measure(own)
        with step("entitlements"):
            lines += entitlements.measure(own)
        with step("sweep"):
            lines += sweep.measure(own)
        with step("accrual"):
            lines += accrual.measure(own)
        with step("proof"):
            lines += proof.measure(own)
        with step("readers"):
            lines += readers.measure(own)
        # The last: nobody else wants so many events.
        with step("reports on usage"):
            lines += usage_reports.measure(own)
    say("")
    for line in lines:
        line.print()
    if not all(line.is_met for line in lines):
        sys.exit(1)


if __name__ == "__main__":
    run(main)
