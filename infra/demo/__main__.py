"""Lives through it, over HTTP only: pay, run, rent, be charged, run dry; sell model calls."""

import httpx

from infra.demo.customer import Customer
from infra.demo.money import (
    buy_credits,
    print_ledger,
    read_postgres,
    register,
    revoke,
    run_a_session,
    run_dry,
)
from infra.demo.storage import rent_and_buy
from infra.demo.usage import meter_a_day
from infra.local.progress import run, say
from infra.local.stack import stack

_ACTS = (
    *(register, buy_credits, run_a_session, rent_and_buy, run_dry, read_postgres, revoke),
    *(meter_a_day, print_ledger),
)


def main() -> None:
    """Live through it."""
    with stack() as running, httpx.Client(timeout=60, trust_env=False) as http:
        customer = Customer(running, http)
        say("")
        for act in _ACTS:
            act(customer)
        say("")


if __name__ == "__main__":
    run(main)
