"""Which grant pays: priority, earliest expiry, promotional before paid, the oldest."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from uuid import uuid4

import hypothesis.strategies as st
import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from psycopg import Rollback

from tests.money.ledger import Ledger

_NEVER = datetime.max.replace(tzinfo=UTC)


@dataclass(frozen=True)
class _Grant:
    priority: int
    expires_at: datetime | None
    category: str
    micros: int
    id: str = ""

    @property
    def rank(self) -> tuple[object, ...]:
        return (self.priority, self.expires_at or _NEVER, self.category == "paid", self.id)


_expiries = st.sampled_from(
    [None, datetime(2100, 1, 1, tzinfo=UTC), datetime(2101, 1, 1, tzinfo=UTC)]
)
_categories = st.sampled_from(["paid", "promotional"])
_grants = st.lists(
    st.builds(_Grant, st.sampled_from([1, 100]), _expiries, _categories, st.integers(1, 12)),
    min_size=1,
    max_size=5,
)
_wallets = st.lists(_grants, min_size=1, max_size=3)
# (wallet, µ$); a share of them asks for nothing.
_debits = st.lists(st.tuples(st.integers(0, 2), st.integers(0, 15)), max_size=8)


def _make_wallet(ledger: Ledger, grants: Sequence[_Grant]) -> tuple[str, list[_Grant]]:
    (wallet,) = ledger.fetch_one(
        "select billing.create_organization('A', 'free', %s, now())::text", f"{uuid4()}@example.com"
    )
    made = []
    for grant in grants:
        (grant_id,) = ledger.fetch_one(
            "select billing.credit_wallet(%s, %s, %s, 'promotion', 'top_up', %s)::text",
            *(wallet, grant.micros, grant.category, uuid4()),
        )
        ledger.run(
            "update billing.grants set priority = %s, expires_at = %s where id = %s",
            *(grant.priority, grant.expires_at, grant_id),
        )
        made.append(
            _Grant(grant.priority, grant.expires_at, grant.category, grant.micros, grant_id)
        )
    return wallet, made


def _expected(grants: Sequence[_Grant], amounts: Sequence[int]) -> list[tuple[int, str, int]]:
    """Draw unit by unit: (number of the debit, grant, µ$)."""
    units = [g.id for g in sorted(grants, key=lambda g: g.rank) for _ in range(g.micros)]
    draws = []
    for number, amount in enumerate((a for a in amounts if a), start=len(grants) + 1):
        taken, units = units[:amount], units[amount:]
        draws += [(number, grant, taken.count(grant)) for grant in set(taken)]
    return sorted(draws)


def _together(ledger: Ledger, debits: Sequence[tuple[str, int]]) -> None:
    ledger.run(
        "select billing.debit_wallets(array_agg("
        "row(d.wallet, d.micros, 0, 'revenue_sessions', 'session', null)::billing.debit"
        " order by d.position), now())"
        " from unnest(%s::uuid [], %s::bigint []) with ordinality as d (wallet, micros, position)",
        [wallet for wallet, _ in debits],
        [micros for _, micros in debits],
    )


def _one_by_one(ledger: Ledger, debits: Sequence[tuple[str, int]]) -> None:
    for debit in debits:
        _together(ledger, [debit])


@pytest.mark.parametrize("debit", [_together, _one_by_one])
def test_every_debit_is_drawn_in_order(
    ledger: Ledger, debit: Callable[[Ledger, Sequence[tuple[str, int]]], None]
) -> None:
    @settings(
        max_examples=60, deadline=None, database=None, suppress_health_check=list(HealthCheck)
    )
    @given(wallets=_wallets, debits=_debits)
    def check(wallets: list[list[_Grant]], debits: list[tuple[int, int]]) -> None:
        with ledger.owner.transaction():
            made = [_make_wallet(ledger, grants) for grants in wallets]
            left = [sum(g.micros for g in grants) for grants in wallets]
            amounts: list[list[int]] = [[] for _ in made]
            covered = []
            for number, micros in debits:
                slot = number % len(made)
                amount = min(micros, left[slot])
                left[slot] -= amount
                amounts[slot].append(amount)
                covered.append((made[slot][0], amount))
            debit(ledger, covered)
            for slot, (wallet, grants) in enumerate(made):
                draws = ledger.fetch(
                    "select sequence, grant_id::text, amount_micros::int from billing.draws"
                    " where organization_id = %s order by 1, 2",
                    wallet,
                )
                assert draws == _expected(grants, amounts[slot])
                assert ledger.fetch_one(
                    "select settled_micros from billing.wallets where organization_id = %s", wallet
                ) == (left[slot],)
            # Nobody paid for these grants, told the wallet of them, or was charged for a session;
            # all else must agree.
            assert {d[1] for d in ledger.differences()} <= {
                "paid grant has a payment",
                "wallet knows when its grants expire",
                "capture has its hold",
            }
            raise Rollback

    check()


def test_a_debit_that_nothing_covers_is_refused_by_the_wallet(ledger: Ledger) -> None:
    customer = ledger.register()
    with pytest.raises(psycopg.errors.CheckViolation):
        _together(ledger, [(customer.id, 3_000_000), (customer.id, 2_000_001)])
    assert ledger.wallet(customer)["settled_micros"] == 5_000_000
