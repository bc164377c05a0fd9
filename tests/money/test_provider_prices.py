"""Providers' prices: what the package says is what a call costs here, to the last digit."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal, localcontext
from random import Random
from typing import Any

import psycopg
import pytest
from genai_prices import calc_price, types
from genai_prices import data as package
from genai_prices.types import Usage

from faregate.meters import WHOLES, too_small_whole
from infra import prices
from infra.prices import BEGINNING, Model, Tiers, news
from tests.money.ledger import Ledger
from tests.money.meter import Meter, event

NOW = datetime(2026, 11, 21, tzinfo=UTC)
# Finer than any price there is: of an hour's, a second's has no end.
DIGITS = Decimal("1e-18")


def _calls() -> Iterator[tuple[str, str, dict[str, int]]]:
    """Forty calls with more than one meter, over all providers, some above a tier."""
    random = Random(40)
    models = [
        (provider.id, model)
        for provider in package.providers
        for model in provider.models
        if not isinstance(model.prices, list) or len(model.prices) < 3
    ]
    chosen: list[tuple[str, str, dict[str, int]]] = []
    shapes: dict[frozenset[str], int] = {}
    random.shuffle(models)
    for provider, model in models:
        if len(chosen) == 40:
            break
        if _depends_on_the_hour(model) or (name := _name(provider, model)) is None:
            continue
        meters = _meters(model)
        # Of the commonest shapes a few, of the rare ones all.
        if len(meters) < 2 or shapes.get(meters, 0) >= 6:
            continue
        shapes[meters] = shapes.get(meters, 0) + 1
        chosen.append((provider, name, _quantities(random, meters)))
    return iter(chosen)


def _depends_on_the_hour(model: types.ModelInfo) -> bool:
    listed = model.prices if isinstance(model.prices, list) else []
    return any(isinstance(each.constraint, types.TimeOfDateConstraint) for each in listed)


def _name(provider: str, model: types.ModelInfo) -> str | None:
    """Give a name that means this model and no other."""
    (seller,) = [each for each in package.providers if each.id == provider]
    found = seller.find_model(model.id, all_providers=package.providers)
    return model.id if found is model else None


def _meters(model: types.ModelInfo) -> frozenset[str]:
    price = model.get_prices(NOW)
    return frozenset(
        prices._UNITS[key][0]
        for key, value in vars(price).items()
        if value is not None and key != "requests_kcount"
    )


def _quantities(random: Random, meters: frozenset[str]) -> dict[str, int]:
    """Draw counts: parts first, wholes never less than their parts together."""
    counted = set(meters).union(*(WHOLES.get(meter, ()) for meter in meters))
    quantities: dict[str, int] = {}
    for meter in sorted(counted, key=lambda each: (-len(WHOLES.get(each, ())), each)):
        parts = sum(count for part, count in quantities.items() if meter in WHOLES.get(part, ()))
        quantities[meter] = parts + random.choice([0, 1, 77, 12_345, 250_001])
    assert too_small_whole(quantities) is None
    return quantities


def test_forty_calls_cost_what_the_package_says(ledger: Ledger) -> None:
    prices.load(ledger.owner)
    meter, customer = Meter(ledger), ledger.register()
    ledger.credit(customer, 100_000_000_000)
    calls = list(_calls())
    assert len(calls) == 40
    assert len({provider for provider, _, _ in calls}) > 10
    answer = meter.send(
        *(
            event(customer, provider_id=provider, model=model, quantities=quantities)
            for provider, model, quantities in calls
        )
    )
    assert answer["outcomes"] == []
    stored = ledger.fetch("select cost_usd, price_usd from billing.usage_events order by id")
    totals = [
        calc_price(Usage(**quantities), model, provider_id=provider).total_price
        for provider, model, quantities in calls
    ]
    assert [cost.quantize(DIGITS) for cost, _ in stored] == [t.quantize(DIGITS) for t in totals]
    assert sum(totals) > 1
    # The plan's markup, on the exact cost.
    with localcontext(prec=60):
        assert all(price == cost * Decimal("1.25") for cost, price in stored)
    (charged,) = ledger.fetch_one(
        "select sum(amount_micros) from billing.transfers where reason = 'usage'"
    )
    assert charged == int(sum(price for _, price in stored) * 1_000_000)


@pytest.mark.parametrize(
    ("provider", "name", "model"),
    [
        ("openai", "GPT-4o", ("openai", "gpt-4o")),
        ("openai", "gpt-4o-2024-08-06", ("openai", "gpt-4o")),
        ("anthropic", "claude-sonnet-4-5-20250929", None),
        ("azure", "gpt-4o", ("openai", "gpt-4o")),
        ("openai", "no-such-model", (None, None)),
        ("nobody", "gpt-4o", (None, None)),
    ],
)
def test_names_mean_the_models_that_the_package_says(
    ledger: Ledger, provider: str, name: str, model: tuple[str | None, str | None] | None
) -> None:
    prices.load(ledger.owner)
    found = ledger.fetch_one(
        "select provider_id, id from billing.find_model(%s, %s)", provider, name
    )
    sellers = {each.id: each for each in package.providers}
    if model is None:
        expected = sellers[provider].find_model(name, all_providers=package.providers)
        assert expected is not None
        assert found == (provider, expected.id)
    elif model != (None, None) and provider == "azure":
        expected = sellers["azure"].find_model(name, all_providers=package.providers)
        assert expected is not None
        assert found[1] == expected.id
    else:
        assert found == model


def test_every_name_of_a_model_means_what_the_package_says(ledger: Ledger) -> None:
    prices.load(ledger.owner)
    names = [(provider, model.id) for provider in package.providers for model in provider.models]
    found = ledger.fetch(
        "select f.provider_id, f.id"
        " from unnest(%s::text[], %s::text[]) with ordinality as n (p, m, position)"
        " cross join lateral billing.find_model(n.p, n.m) as f order by n.position",
        [provider.id for provider, _ in names],
        [name for _, name in names],
    )
    for (provider, name), (_, model_id) in zip(names, found, strict=True):
        lowered = name.lower()
        # Its rewriting of compact dates is a guess that we do not make.
        expected = provider._match_model(lowered, all_providers=package.providers)
        assert model_id == (expected.id if expected else None), (provider.id, name)


def test_how_much_models_take_is_known(ledger: Ledger) -> None:
    prices.load(ledger.owner)
    stored = ledger.fetch(
        "select provider_id, id, context_tokens, is_deprecated from billing.provider_models"
    )
    assert sorted(stored, key=str) == sorted(
        (
            (provider.id, model.id, model.context_window, bool(model.deprecated))
            for provider in package.providers
            for model in provider.models
        ),
        key=str,
    )


def test_a_second_load_brings_nothing_new(ledger: Ledger) -> None:
    assert len(prices.load(ledger.owner)) > 2000
    assert prices.load(ledger.owner) == []


def test_what_an_operator_said_counts_until_the_package_knows(ledger: Ledger) -> None:
    known = next(key for key, model in prices.listed() if model.versions)
    for provider, model in (known, ("own", "llama-tuned")):
        ledger.run(
            'select billing.add_own_cost(%s, %s, billing.now(), \'{"images": "1"}\')',
            provider,
            model,
        )
    (found,) = [each for each in prices.load(ledger.owner) if each.key == known]
    assert found.before == {-1: {"images": Decimal(1)}}
    models = ledger.fetch("select provider_id, id from billing.provider_models where is_own")
    assert models == [("own", "llama-tuned")]
    assert prices.load(ledger.owner) == []


def test_the_loader_and_the_database_know_the_same_parts(ledger: Ledger) -> None:
    stored = set(ledger.fetch("select part, whole from billing.meter_parts"))
    assert stored == {(part, whole) for part, wholes in WHOLES.items() for whole in wholes}


def test_prices_of_the_same_model_that_differ_only_in_what_is_said_are_kept(
    ledger: Ledger,
) -> None:
    meter = Meter(ledger)
    meter.cost("m", {"input_tokens": "1"})
    with pytest.raises(psycopg.errors.UniqueViolation):
        meter.cost("m", {"input_tokens": "2"})


KEY = ("acme", "m")
OLD: Tiers = {-1: {"input_tokens": Decimal(1)}}
NEW: Tiers = {-1: {"input_tokens": Decimal(2)}}
PAST, FUTURE = NOW - timedelta(days=9), NOW + timedelta(days=9)


@pytest.mark.parametrize(
    ("versions", "stored", "expected"),
    [
        pytest.param([(BEGINNING, OLD)], {}, [(BEGINNING, OLD)], id="new"),
        pytest.param([(BEGINNING, OLD)], {BEGINNING: OLD}, [], id="as it was"),
        pytest.param([(BEGINNING, NEW)], {BEGINNING: OLD}, [(NOW, NEW)], id="changed undated"),
        pytest.param([(BEGINNING, NEW)], {BEGINNING: OLD, PAST: NEW}, [], id="changed before"),
        pytest.param(
            [(BEGINNING, OLD)], {BEGINNING: OLD, PAST: NEW}, [(NOW, OLD)], id="changed back"
        ),
        pytest.param(
            [(BEGINNING, OLD), (PAST, NEW)], {BEGINNING: OLD}, [(PAST, NEW)], id="dated, late"
        ),
        pytest.param(
            [(BEGINNING, OLD), (FUTURE, NEW)],
            {BEGINNING: OLD},
            [(FUTURE, NEW)],
            id="dated, in time",
        ),
        pytest.param(
            [(BEGINNING, OLD), (FUTURE, NEW)], {BEGINNING: OLD, FUTURE: NEW}, [], id="announced"
        ),
        pytest.param(
            [(BEGINNING, OLD), (PAST, NEW)], {}, [(BEGINNING, OLD), (PAST, NEW)], id="history"
        ),
        pytest.param(
            [(BEGINNING, NEW), (PAST, OLD)],
            {BEGINNING: OLD},
            [],
            id="what was is not told anew",
        ),
        pytest.param(
            [(BEGINNING, OLD), (FUTURE, OLD)],
            {BEGINNING: OLD, FUTURE: NEW},
            [(FUTURE + timedelta(seconds=1), OLD)],
            id="announced otherwise",
        ),
    ],
)
def test_prices_are_only_added(
    versions: list[tuple[datetime, Tiers]],
    stored: dict[datetime, Tiers],
    expected: list[tuple[datetime, Tiers]],
) -> None:
    model = Model([], None, versions)
    known: dict[Any, Any] = {KEY: stored} if stored else {}
    found = [(each.effective_at, each.tiers) for each in news({KEY: model}, known, NOW)]
    assert found == expected
    settled = dict(stored) | dict(found)
    assert list(news({KEY: model}, {KEY: settled}, NOW + timedelta(seconds=1))) == []
