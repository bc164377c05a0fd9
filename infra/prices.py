"""Loads providers' prices from the package genai-prices, and shows what they change.

Prices are only ever added: what is dated counts from its date, what is not from now on; a model
that is new has had its prices from the beginning. Names of models are replaced. What an operator
said that a model costs counts until the package knows that model or its name.
"""

import json
import re
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta
from decimal import Decimal, localcontext
from functools import reduce
from importlib.metadata import version
from operator import or_
from typing import Any

import psycopg
from genai_prices import data, types
from genai_prices.data_units import unit_data
from psycopg.types.json import Jsonb

from faregate.meters import WHOLES
from infra.local.progress import RefusalError, run, say
from infra.local.stack import running_stack

PACKAGE = "genai-prices"
SOURCE = f"{PACKAGE} {version(PACKAGE)}"
BEGINNING = datetime(2000, 1, 1, tzinfo=UTC)

Tiers = dict[int, dict[str, Decimal]]
"""Input tokens above which it counts, or -1: meter: USD per unit."""
Key = tuple[str, str]
"""A provider and a model."""

_UNITS = {
    str(unit["price_key"]): (meter, Decimal(unit["per"])) for meter, unit in unit_data.items()
}


@dataclass(frozen=True)
class Model:
    """A model as the package has it: its names, what it costs since when, how much it takes."""

    names: list[str]
    pattern: str | None
    versions: list[tuple[datetime, Tiers]]
    context_tokens: int | None = None
    is_deprecated: bool = False


@dataclass(frozen=True)
class Price:
    """A price that is new, and the one that counted before at its time, if any."""

    key: Key
    effective_at: datetime
    tiers: Tiers
    before: Tiers | None


def listed() -> Iterator[tuple[Key, Model]]:
    """Give every model of the package, in the order in which they are asked for a name."""
    for provider in data.providers:
        for model in provider.models:
            names, patterns = _names(model.match)
            yield (
                (provider.id, model.id),
                Model(
                    sorted(names),
                    "|".join(patterns) or None,
                    list(_versions(model)),
                    model.context_window,
                    bool(model.deprecated),
                ),
            )


def _names(match: Any) -> tuple[set[str], list[str]]:  # noqa: ANN401  one of its clauses
    """Part the names that a condition takes from the patterns of others."""
    if isinstance(match, types.ClauseEquals):
        return {match.equals.lower()}, []
    if isinstance(match, types.ClauseOr):
        parts = [_names(each) for each in match.or_]
        return reduce(or_, (names for names, _ in parts)), [p for _, each in parts for p in each]
    return set(), [f"^{_ahead(match)}"]


def _ahead(clause: Any) -> str:  # noqa: ANN401  one of its clauses
    """Write a condition as what a regular expression looks ahead to, from the beginning."""
    match clause:
        case types.ClauseAnd():
            return "".join(map(_ahead, clause.and_))
        case types.ClauseOr():
            pattern = "|".join(map(_ahead, clause.or_))
        case types.ClauseEquals():
            pattern = f"{re.escape(clause.equals.lower())}$"
        case types.ClauseStartsWith():
            pattern = re.escape(clause.starts_with.lower())
        case types.ClauseContains():
            pattern = f".*{re.escape(clause.contains.lower())}"
        case types.ClauseEndsWith():
            pattern = f".*{re.escape(clause.ends_with.lower())}$"
        case types.ClauseRegex() if clause.regex.startswith("^"):
            pattern = f"(?:{clause.regex[1:]})"
        case _:
            pattern = f".*(?:{clause.regex})"
    return f"(?={pattern})"


def _versions(model: types.ModelInfo) -> Iterator[tuple[datetime, Tiers]]:
    """Give a model's prices in the order of their dates; none when they depend on the hour."""
    prices = model.prices
    if not isinstance(prices, list):
        yield BEGINNING, _tiers(prices)
        return
    if any(isinstance(each.constraint, types.TimeOfDateConstraint) for each in prices):
        return
    for position, each in enumerate(prices):
        # Where no condition holds the first one counts.
        if position == 0 or each.constraint is None:
            yield BEGINNING, _tiers(each.prices)
        else:
            assert isinstance(each.constraint, types.StartDateConstraint)  # noqa: S101  the only other
            yield datetime.combine(each.constraint.start_date, time(), UTC), _tiers(each.prices)


def _tiers(price: types.ModelPrice) -> Tiers:
    """Write prices per unit, for every number of input tokens from which one of them differs."""
    prices = {key: value for key, value in vars(price).items() if value is not None}
    meters = {_UNITS[key][0] for key in prices}
    _check_parts(meters)
    starts = {
        tier.start
        for value in prices.values()
        if isinstance(value, types.TieredPrices)
        for tier in value.tiers
    }
    return {above: dict(_at(prices, above)) for above in sorted({-1, *starts})}


def _at(prices: Mapping[str, Any], above: int) -> Iterator[tuple[str, Decimal]]:
    for key, value in prices.items():
        meter, per = _UNITS[key]
        price = value
        if isinstance(value, types.TieredPrices):
            reached = [tier.price for tier in value.tiers if tier.start <= above]
            price = reached[-1] if reached else value.base
        with localcontext(prec=40):
            # An hour's price has no end as that of a second.
            yield meter, Decimal(price) / per


def _check_parts(meters: set[str]) -> None:
    """Refuse prices of which we would count a part twice, because we do not know that it is one."""
    for part in meters:
        wholes = {
            whole
            for whole in meters - {part}
            if unit_data[whole]["dimensions"].items() <= unit_data[part]["dimensions"].items()
        }
        if wholes - WHOLES.get(part, frozenset()):
            raise RefusalError(f"{part} is part of {wholes}: add it to billing.meter_parts first.")


_STORED = """
select p.provider_id, p.model_id, p.effective_at,
    (
        select jsonb_object_agg(t.above, t.prices)
        from (
            select
                u.above_input_tokens as above,
                jsonb_object_agg(u.meter, u.unit_price_usd::text) as prices
            from billing.provider_price_units as u
            where u.price_id = p.id and u.unit_price_usd is not null
            group by u.above_input_tokens
        ) as t
    )
from billing.provider_prices as p
order by p.effective_at
"""


def _stored(connection: psycopg.Connection[Any]) -> dict[Key, dict[datetime, Tiers]]:
    found: dict[Key, dict[datetime, Tiers]] = {}
    for provider, model, effective_at, tiers in connection.execute(_STORED):
        found.setdefault((provider, model), {})[effective_at] = {
            int(above): _without_free_requests({m: Decimal(each) for m, each in prices.items()})
            for above, prices in tiers.items()
        }
    return found


def _without_free_requests(prices: dict[str, Decimal]) -> dict[str, Decimal]:
    return {meter: price for meter, price in prices.items() if price or meter != "requests"}


def news(
    models: Mapping[Key, Model], stored: Mapping[Key, dict[datetime, Tiers]], now: datetime
) -> Iterator[Price]:
    """Give the prices that the package has and the database has not."""
    for key, model in models.items():
        known = dict(stored.get(key, {}))
        is_new = not known
        begun = [starts_at for starts_at, _ in model.versions if starts_at <= now]
        for starts_at, tiers in model.versions:
            has_begun = starts_at <= now
            if has_begun and starts_at != begun[-1] and not is_new:
                continue  # that was told when it was news
            effective_at = starts_at
            if not is_new and starts_at <= max(
                (each for each in known if each <= now), default=now
            ):
                effective_at = now
            if effective_at in known:
                effective_at = max(now, starts_at + timedelta(seconds=1))
            before = _in_effect(known, now if has_begun and not is_new else effective_at)
            if before != tiers:
                yield Price(key, effective_at, tiers, None if is_new else before)
                known[effective_at] = tiers


def _in_effect(known: Mapping[datetime, Tiers], at: datetime) -> Tiers | None:
    dates = [each for each in known if each <= at]
    return known[max(dates)] if dates else None


def load(connection: psycopg.Connection[Any]) -> list[Price]:
    """Bring the database up to the package, in one transaction; give what is new."""
    models = dict(listed())
    with connection.transaction():
        row = connection.execute("select billing.now()").fetchone()
        assert row  # noqa: S101  it always answers
        found = list(news(models, _stored(connection), row[0]))
        _replace_names(connection, models)
        for price in found:
            connection.execute(
                "select billing.add_provider_price(%s, %s, %s, %s, %s)",
                [
                    *price.key,
                    price.effective_at,
                    SOURCE,
                    Jsonb(price.tiers, dumps=lambda tiers: json.dumps(tiers, default=_decimal)),
                ],
            )
    return found


def _decimal(value: Decimal) -> str:
    return f"{value:f}"


def _replace_names(connection: psycopg.Connection[Any], models: Mapping[Key, Model]) -> None:
    connection.execute("delete from billing.model_names")
    connection.execute("delete from billing.provider_models where not is_own")
    with connection.cursor() as cursor:
        cursor.executemany(
            "insert into billing.providers (id, fallback_ids) values (%s, %s)"
            " on conflict (id) do update set fallback_ids = excluded.fallback_ids",
            [(each.id, each.fallback_model_providers or []) for each in data.providers],
        )
        cursor.executemany(
            "insert into billing.provider_models"
            " (provider_id, id, position, names, pattern, context_tokens, is_deprecated)"
            " values (%s, %s, %s, %s, %s, %s, %s)"
            # One whose cost an operator said before.
            " on conflict (provider_id, id) do update set (position, names, pattern,"
            " context_tokens, is_deprecated, is_own) = (excluded.position, excluded.names,"
            " excluded.pattern, excluded.context_tokens, excluded.is_deprecated, false)",
            [
                (
                    *(*key, position, model.names, model.pattern),
                    *(model.context_tokens, model.is_deprecated),
                )
                for position, (key, model) in enumerate(models.items())
            ],
        )


def _told(price: Price) -> Iterator[str]:
    """Write what is new about a price: its units per million."""
    for above, prices in sorted(price.tiers.items()):
        before = (price.before or {}).get(above, {})
        for meter in sorted(prices.keys() | before.keys()):
            if prices.get(meter) != before.get(meter):
                tier = f" above {above:,} input tokens" if above >= 0 else ""
                old, new = (_per_million(each.get(meter)) for each in (before, prices))
                yield f"    {meter}{tier}: {old} → {new}"


def _per_million(price: Decimal | None) -> str:
    return "none" if price is None else f"${(price * 1_000_000).normalize():f} per million"


def main() -> None:
    """Load into the database named, or into that of the running stack, and print what is new."""
    url = sys.argv[1] if len(sys.argv) > 1 else None
    if url is None:
        stack = running_stack()
        if stack is None:
            raise RefusalError("no stack runs here: start one with `make up`, or name a database.")
        url = stack.database_url
    with psycopg.connect(url, autocommit=True) as connection:
        found = load(connection)
    changed = [each for each in found if each.before is not None]
    for price in changed:
        say(f"  {'/'.join(price.key)} from {price.effective_at:%Y-%m-%d %H:%M} UTC")
        for line in _told(price):
            say(line)
    hourly = ["/".join(key) for key, model in listed() if not model.versions]
    say(f"{SOURCE}: {len(found)} new prices, {len(changed)} of them changes")
    if hourly:
        say(f"left out, because their prices depend on the hour: {', '.join(hourly)}")


if __name__ == "__main__":
    run(main)
