"""Usage as an operator reports it."""

from collections.abc import Mapping, Sequence
from itertools import count
from typing import Any

from psycopg.types.json import Jsonb

from tests.money.ledger import Customer, Ledger, Row

_numbers = count()


def event(customer: Customer | str, **said: Any) -> Row:  # noqa: ANN401  any JSON
    """Write an event as the function usage does: one image, unless it says something else."""
    organization_id = customer if isinstance(customer, str) else customer.id
    return {
        "organization_id": organization_id,
        "source": "gateway",
        "event_id": f"event-{next(_numbers)}",
        "feature": "images",
        "quantities": {"images": 1},
    } | said


class Meter:
    """An operator who reports usage and decides what it costs."""

    def __init__(self, ledger: Ledger, operator: Customer | None = None) -> None:
        self.ledger = ledger
        self.operator = operator or ledger.create_operator()

    def send(
        self,
        *events: Row,
        corrections: Sequence[Row] = (),
        is_whole: bool = False,
        ledger: Ledger | None = None,
    ) -> Row:
        """Send a batch; give the answer."""
        numbered = [{"index": index} | each for index, each in enumerate((*events, *corrections))]
        batch = {"events": numbered[: len(events)]}
        if corrections:
            batch["corrections"] = numbered[len(events) :]
        return (ledger or self.ledger).call_one(
            "ingest_usage",
            caller=self.operator.caller,
            batch=batch,
            is_whole=is_whole,
        )

    def rate(self, prices: Mapping[str, Any], **scope: object) -> None:
        """Set own prices, for all customers unless a scope is named."""
        rate = {
            "markup": None,
            "may_be_below_cost": False,
            "effective_at": "2026-01-02T00:00:00Z",
            "created_by": "operator",
        } | scope
        self.ledger.run(
            "select billing.add_usage_rate(jsonb_populate_record(null::billing.usage_rates,"
            " %s || jsonb_build_object('id', billing.uuidv7())), %s)",
            Jsonb(rate),
            Jsonb(prices),
        )

    def cost(
        self, model: str, prices: Mapping[str, str], since: str = "2000-01-01T00:00:00Z"
    ) -> None:
        """Have a provider, acme, take so much for a model."""
        self.ledger.run("insert into billing.providers values ('acme') on conflict do nothing")
        self.ledger.run(
            "insert into billing.provider_models values ('acme', %s, 0, array[%s], null)"
            " on conflict do nothing",
            model,
            model,
        )
        self.ledger.run(
            "select billing.add_provider_price('acme', %s, %s, 'test', %s)",
            model,
            since,
            Jsonb({"-1": prices}),
        )

    def use(self, customer: Customer, price: str, number: int) -> Row:
        """Let a customer use so many images at this price."""
        self.rate({"images": price}, organization_id=customer.id)
        return self.send(*(event(customer) for _ in range(number)))
