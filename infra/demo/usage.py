"""Usage: a day of model calls of two customers on different plans, to be checked by hand."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import ROUND_FLOOR, Decimal
from uuid import uuid4

import psycopg

from infra import prices
from infra.demo.customer import Customer, Document, expect, line
from infra.local.progress import say

_MODELS = (("openai", "gpt-4o"), ("anthropic", "claude-haiku-4-5"))
_CALLS_AN_HOUR = 4
_FEATURE = "assistant"
_GIFT = "50.00"
_MICRO = Decimal("0.000001")
# What a price is for, and how much of it a call counts: wholes include their parts.
_PARTS = (
    ("input, not cached", {"input_tokens": 1000}),
    ("input, cached", {"input_tokens": 1000, "cache_read_tokens": 1000}),
    ("output", {"output_tokens": 1000}),
)


@dataclass(frozen=True)
class _Buyer:
    """A customer of the operator's."""

    name: str
    plan: str
    id: str
    available: Decimal


def _register(operator: Customer, name: str, plan: str) -> _Buyer:
    email = f"{name.lower()}.{uuid4().hex[:10]}@example.com"
    registration = operator.post("/v1/register/customers", {"email": email, "plan": plan})
    organization_id = registration["organization"]["id"]
    operator.post(
        "/v1/grants",
        {"organization_id": organization_id, "amount": _GIFT, "note": "for the demo"},
    )
    available = Decimal(registration["wallet"]["available"]) + Decimal(_GIFT)
    return _Buyer(name, plan, organization_id, available)


def _calls(buyer: _Buyer, since: datetime) -> Iterator[Document]:
    """Tell of a day's calls, which grow longer by the hour."""
    for number in range(24 * _CALLS_AN_HOUR):
        provider, model = _MODELS[number % len(_MODELS)]
        yield {
            "organization_id": buyer.id,
            "source": "demo",
            "id": uuid4().hex,
            "occurred_at": (since + timedelta(minutes=15 * number)).isoformat(),
            "feature": _FEATURE,
            "provider": provider,
            "model": model,
            "quantities": {
                "input_tokens": 4000 + 10 * number,
                "cache_read_tokens": 1000,
                "output_tokens": 500 + number,
            },
        }


def _unit_cost(operator: Customer, buyer: _Buyer, group: Document, part: Document) -> Decimal:
    """Tell what the provider takes for a million of a part."""
    estimate = operator.post(
        "/v1/usage/estimate",
        {
            **{"organization_id": buyer.id, "feature": _FEATURE, "quantities": part},
            **{"provider": group["provider"], "model": group["model"]},
        },
    )
    return Decimal(estimate["cost"]) * 1000


def _print_model(operator: Customer, buyer: _Buyer, group: Document) -> Decimal:
    """Print a model's quantities, unit prices and costs; give the sum, reckoned by hand."""
    used = group["quantities"]
    cached = used.get("cache_read_tokens", 0)
    counts = (used["input_tokens"] - cached, cached, used["output_tokens"])
    whole = Decimal(0)
    for (name, part), count in zip(_PARTS, counts, strict=True):
        if not count:
            continue
        per_million = _unit_cost(operator, buyer, group, part)
        cost = per_million * int(count) / 1_000_000
        whole += cost
        say(f"  {group['model']:<18}{name:<19}{count:>10,} × ${per_million:>7.4f}/M ={cost:>12.6f}")
    return whole


def _print_buyer(operator: Customer, buyer: _Buyer, since: datetime) -> Decimal:
    """Print what a customer's day cost, brought and left, and check it; give their markup."""
    say("")
    say(f"  {buyer.name}, plan {buyer.plan}")
    told = operator.get(
        "/v1/usage/analytics",
        organization_id=buyer.id,
        group_by="model",
        to=f"{since + timedelta(days=2):%Y-%m-%d}",
        **{"from": f"{since:%Y-%m-%d}"},
    )["data"]
    by_hand = sum((_print_model(operator, buyer, each) for each in told), Decimal(0))
    cost, revenue, margin = (
        sum((Decimal(each[name]) for each in told), Decimal(0))
        for name in ("cost", "price", "margin")
    )
    expect(cost == by_hand, f"the cost is {cost}, not {by_hand}")
    expect(margin == revenue - cost, f"the margin is {margin}")
    say(f"  {'cost':<50}{'':>10}{cost:>12.6f}")
    say(f"  {f'revenue: × {revenue / cost:.4g}':<50}{'':>10}{revenue:>12.6f}")
    say(f"  {'margin':<50}{'':>10}{margin:>12.6f}")
    held = operator.get("/v1/grants", organization_id=buyer.id)["data"]
    left = sum((Decimal(grant["remaining"]) for grant in held), Decimal(0))
    charged = revenue.quantize(_MICRO, ROUND_FLOOR)
    expect(left == buyer.available - charged, f"{left} are left")
    say(f"  {'charged, in whole µ$':<50}{'':>10}{charged:>12}")
    return revenue / cost


def _print_call(
    operator: Customer, buyer: _Buyer, call: Document, markup: Decimal, name: str, price: str
) -> None:
    """Print what a call costs and its price, and check it."""
    say("")
    by_hand = markup * _print_model(operator, buyer, call)
    expect(abs(Decimal(price) - by_hand) < _MICRO, f"{name}: {price}, not {by_hand}")
    say(f"  {f'{name}: × {markup:.4g}':<50}{'':>10}{Decimal(price):>12.6f}")


def meter_a_day(customer: Customer) -> None:
    """Meter a day of two customers' model calls, and print what they cost, brought and left."""
    say("")
    with psycopg.connect(customer.stack.database_url, autocommit=True) as connection:
        found = prices.load(connection)
    line("loaded providers' prices, new ones", f"{len(found):,}", prices.SOURCE)
    operator = Customer(customer.stack, customer.http, customer.stack.admin_passport)
    buyers = [_register(operator, "Grace", "free"), _register(operator, "Edsger", "enterprise")]
    now = datetime.fromisoformat(customer.get("/_local/clock")["now"])
    since = now - timedelta(days=1)
    events = [call for buyer in buyers for call in _calls(buyer, since)]
    answer = operator.post("/v1/usage/events", {"events": events})
    expect(answer["accepted"] == len(events), f"of {len(events)} calls {answer} were accepted")
    line("a day of model calls, in one batch", str(answer["accepted"]))
    again = operator.post("/v1/usage/events", {"events": events})
    expect(again["duplicate"] == len(events), "a call was counted twice")
    line("sent again: known, not charged", str(again["duplicate"]))
    markups = [_print_buyer(operator, buyer, since) for buyer in buyers]
    _authorize(operator, buyers[0], events[0], markups[0])
    say("")


def _authorize(operator: Customer, buyer: _Buyer, event: Document, markup: Decimal) -> None:
    """Hold the price of the most that a call may use, and capture what it used."""
    whose = {"organization_id": buyer.id}
    call = {name: event[name] for name in ("provider", "model", "quantities")}
    asked = operator.post("/v1/usage/authorize", {**whose, "feature": _FEATURE, **call})
    _print_call(operator, buyer, call, markup, "held before a call, at most", asked["held"])
    really = {**call, "quantities": {"input_tokens": 1000, "output_tokens": 10}}
    captured = operator.post(
        f"/v1/usage/authorizations/{asked['id']}/capture",
        {**whose, "quantities": really["quantities"]},
    )
    _print_call(operator, buyer, really, markup, "captured: what it came to", captured["price"])
