"""Statements add up: within a period, over any split of it, and against the ledger itself."""

from collections import Counter
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import hypothesis.strategies as st
from hypothesis import HealthCheck, given, settings

from infra.local.template import Database
from tests.money.ledger import Ledger, Row, new_key_material, open_ledger

FIRST = datetime(2026, 10, 1, tzinfo=UTC)
DAY = timedelta(days=1)


@dataclass(frozen=True)
class _Effect:
    """A transfer as some part of the platform writes it, and its line: none beside the wallet."""

    reason: str
    debit: str
    credit: str
    kind: str | None


_EFFECTS = [
    _Effect("top_up", "provider_clearing", "wallet", "purchases"),
    _Effect("top_up_bonus", "promotion", "wallet", "bonuses"),
    _Effect("promotion", "promotion", "wallet", "bonuses"),
    _Effect("registration_bonus", "promotion", "wallet", "bonuses"),
    _Effect("session", "wallet", "revenue_sessions", "sessions"),
    _Effect("storage", "wallet", "revenue_storage", "storage"),
    _Effect("space", "wallet", "revenue_spaces", "spaces"),
    _Effect("space_refund", "revenue_spaces", "wallet", "spaces"),
    _Effect("capture", "wallet", "revenue_usage", "usage"),
    _Effect("usage_refund", "revenue_usage", "wallet", "usage"),
    _Effect("expiry", "wallet", "expired", "expired"),
    _Effect("refund", "wallet", "provider_clearing", "refunds"),
    _Effect("refund", "debt", "provider_clearing", None),
    _Effect("refund_failed", "provider_clearing", "wallet", "refunds"),
    _Effect("dispute", "wallet", "provider_clearing", "disputes"),
    _Effect("dispute", "debt", "provider_clearing", None),
    _Effect("dispute_fee", "debt", "provider_fees", None),
    _Effect("dispute_won", "provider_clearing", "wallet", "disputes"),
    _Effect("debt_repayment", "wallet", "debt", "debt_repaid"),
]


@dataclass(frozen=True)
class _Transfer:
    effect: _Effect
    micros: int
    made_at: datetime

    @property
    def change(self) -> int:
        return self.micros * ((self.effect.credit == "wallet") - (self.effect.debit == "wallet"))

    @property
    def debt(self) -> int:
        return self.micros * ((self.effect.debit == "debt") - (self.effect.credit == "debt"))


def _moments(minutes: st.SearchStrategy[int]) -> st.SearchStrategy[datetime]:
    return minutes.map(lambda number: FIRST + number * timedelta(minutes=1))


_steps = st.lists(
    st.tuples(
        st.sampled_from(_EFFECTS),
        st.integers(1, 10**9),
        st.sampled_from([0, 0, 1, 60, 12 * 60, 48 * 60]),
    ),
    max_size=24,
)
_setbacks = st.sampled_from([0, 0, 1, 600, -1, -600, -5000])
# Whole hours meet the transfers' own times often.
_cuts = st.lists(
    _moments(st.integers(-24, 480).map(lambda hour: hour * 60)), min_size=3, max_size=3
)


def _ledger_of(steps: list[tuple[_Effect, int, int]]) -> list[_Transfer]:
    transfers: list[_Transfer] = []
    at, debt = FIRST, 0
    for effect, micros, minutes in steps:
        at += timedelta(minutes=minutes)
        transfer = _Transfer(effect, micros, at)
        # Nobody repays more than is owed.
        if debt + transfer.debt >= 0:
            debt += transfer.debt
            transfers.append(transfer)
    return transfers


def _write(ledger: Ledger, transfers: list[_Transfer]) -> Row:
    """Make an organization with this history; give who may read it."""
    material = new_key_material()
    (organization_id,) = ledger.fetch_one(
        "select billing.create_organization('A', 'free', %s, billing.now())",
        f"{uuid4()}@example.com",
    )
    ledger.run(
        "insert into billing.passports (organization_id, name, permissions, key_hash, key_prefix,"
        " created_by) values (%s, 'test', array['read'], decode(%s, 'hex'), %s, 'operator')",
        *(organization_id, material["key_hash"], material["key_prefix"]),
    )
    balance = 0
    for sequence, each in enumerate(transfers, 1):
        balance += each.change
        ledger.run(
            "insert into billing.transfers (organization_id, sequence, debit_account,"
            " credit_account, amount_micros, wallet_balance_micros, reason, created_at)"
            " values (%s, %s, %s, %s, %s, %s, %s, %s)",
            *(organization_id, sequence, each.effect.debit, each.effect.credit),
            *(each.micros, balance, each.effect.reason, each.made_at),
        )
    ledger.run(
        "update billing.wallets set debt_micros = %s where organization_id = %s",
        *(sum(each.debt for each in transfers), organization_id),
    )
    return {"passport_hash": material["key_hash"]}


class _Reader:
    """Reads an organization's statements, each of which must add up by itself."""

    def __init__(self, ledger: Ledger, transfers: list[_Transfer]) -> None:
        self._ledger, self._caller = ledger, _write(ledger, transfers)

    def statement(self, begin: datetime, end: datetime) -> Row:
        bounds = {"caller": self._caller, "from": begin, "to": end}
        statement = self._ledger.call_one("get_statement", **bounds)
        sums = {line["kind"]: (line["amount_micros"], line["count"]) for line in statement["lines"]}
        changes = sum(micros for micros, _ in sums.values())
        assert statement["opening_micros"] + changes == statement["closing_micros"]

        period = self._ledger.call_one("get_period", **bounds)
        exported = self._ledger.call(
            "list_period",
            caller=self._caller,
            opening_sequence=period["opening_sequence"],
            closing_sequence=period["closing_sequence"],
            limit=1000,
        )
        assert sum(row["amount_micros"] for row in exported) == changes
        assert len(exported) == sum(count for _, count in sums.values())

        by_kind: Counter[str] = Counter()
        counts: Counter[str] = Counter()
        for day in self._ledger.call_one("list_usage_days", **bounds)["days"]:
            by_kind[day["kind"]] += day["amount_micros"]
            counts[day["kind"]] += day["count"]
        for kind in ("sessions", "storage", "spaces", "usage"):
            assert (by_kind[kind], counts[kind]) == sums[kind]
        return statement | {"sums": sums}


def _check_split(reader: _Reader, cuts: list[datetime]) -> None:
    a, b, c = sorted(cuts)
    first, second, whole = reader.statement(a, b), reader.statement(b, c), reader.statement(a, c)
    assert first["opening_micros"] == whole["opening_micros"]
    assert first["closing_micros"] == second["opening_micros"]
    assert second["closing_micros"] == whole["closing_micros"]
    assert second["debt_micros"] == whole["debt_micros"]
    for kind, (micros, count) in whole["sums"].items():
        assert micros == first["sums"][kind][0] + second["sums"][kind][0]
        assert count == first["sums"][kind][1] + second["sums"][kind][1]


_many = settings(
    max_examples=150,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)


def test_any_split_of_a_period_adds_up_to_what_the_ledger_says(database: Database) -> None:
    with open_ledger(database) as ledger:

        @_many
        @given(_steps, _cuts)
        def check(steps: list[tuple[_Effect, int, int]], cuts: list[datetime]) -> None:
            transfers = _ledger_of(steps)
            reader = _Reader(ledger, transfers)
            _check_split(reader, cuts)
            begin, end = min(cuts), max(cuts)
            statement = reader.statement(begin, end)
            expected: Counter[str] = Counter()
            counts: Counter[str] = Counter()
            for each in transfers:
                if each.effect.kind and begin <= each.made_at < end:
                    expected[each.effect.kind] += each.change
                    counts[each.effect.kind] += 1
            for kind, sums in statement["sums"].items():
                assert sums == (expected[kind], counts[kind])
            before = [each for each in transfers if each.made_at < begin]
            until = [each for each in transfers if each.made_at < end]
            assert statement["opening_micros"] == sum(each.change for each in before)
            assert statement["closing_micros"] == sum(each.change for each in until)
            assert statement["debt_micros"] == sum(each.debt for each in until)

        check()


def test_periods_adjoin_even_where_the_clock_was_set_back(database: Database) -> None:
    with open_ledger(database) as ledger:

        @_many
        @given(st.lists(st.tuples(st.sampled_from(_EFFECTS), st.integers(1, 9), _setbacks)), _cuts)
        def check(steps: list[tuple[_Effect, int, int]], cuts: list[datetime]) -> None:
            _check_split(_Reader(ledger, _ledger_of(steps)), cuts)

        check()


def test_a_closed_period_stays_as_it_is(database: Database) -> None:
    """Even where the clock was set back within it: once the clock is past its end."""
    with open_ledger(database) as ledger:

        @_many
        @given(
            st.lists(st.tuples(st.sampled_from(_EFFECTS), st.integers(1, 9), _setbacks)),
            _moments(st.integers(0, 3000)),
            _steps,
        )
        def check(
            steps: list[tuple[_Effect, int, int]],
            end: datetime,
            later: list[tuple[_Effect, int, int]],
        ) -> None:
            history = _ledger_of(steps)
            after = max([end, *(each.made_at for each in history)])
            more = [
                _Transfer(each.effect, each.micros, each.made_at - FIRST + after)
                for each in _ledger_of(later)
            ]
            short, long = _Reader(ledger, history), _Reader(ledger, history + more)
            begin = FIRST - 200 * DAY
            then, now = short.statement(begin, end), long.statement(begin, end)
            assert {**then, "organization_id": None} == {**now, "organization_id": None}

        check()


def test_every_reason_stands_on_a_line(database: Database) -> None:
    with open_ledger(database) as ledger:
        reasons = ledger.fetch(
            "select r::text from unnest(enum_range(null::billing.reason)) as r"
            " where billing.statement_kind(r) is null"
        )
    assert reasons == []
    assert {each.kind for each in _EFFECTS} - {None} == {
        *("purchases", "bonuses", "sessions", "storage", "spaces", "usage", "refunds"),
        *("disputes", "expired", "debt_repaid"),
    }
