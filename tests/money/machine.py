"""What every step of the wallet machine shares: the clock, the customers, the comparison."""

import json
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any, ClassVar

from hypothesis import event
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from tests.money.ledger import REGISTRATION_BONUS, Customer, Ledger, RefusedError, Row
from tests.money.model import SECOND, Session, Wallet
from tests.money.storage import Storage
from tests.money.stored import Stored

EPOCH = datetime(2027, 1, 1, tzinfo=UTC)
WINDOWS = {"free": 600 * SECOND, "pro": 61 * SECOND}  # half a window: half a second
# So dear that a registration's bonus covers two windows, and a top-up a minute or three.
PRICES = {
    "free": {"small": 12_000_003},
    "pro": {"small": 36_000_007, "medium": 0, "large": 360_000_000, "gpu": 1},
}
STORAGE_WINDOWS = {"free": 7200 * SECOND, "pro": 3601 * SECOND}
GB_PRICES = {"free": 9_000_001, "pro": 5_000_003}  # a hundred GB for a window: a bonus's half
_ENDS = """
    select to_jsonb(a) from (
        select s.id, s.ended_at, s.close_reason, h.amount_micros, h.captured_micros,
            h.captured_until, h.expires_at, h.is_final, h.due_at
        from billing.sessions as s inner join billing.holds as h using (organization_id, id)
        where s.organization_id = %s
    ) as a
"""
_STORED = """
    select to_jsonb(a) from (
        select s.id, s.status, s.size_gb, s.status_since, h.amount_micros, h.captured_micros,
            h.captured_until, h.expires_at, h.is_final, h.due_at
        from billing.storage as s inner join billing.holds as h using (organization_id, id)
        where s.organization_id = %s
    ) as a
"""
_WALLET = """
    select jsonb_build_object(
        'settled', w.settled_micros, 'held', w.held_micros, 'debt', w.debt_micros,
        'transfers', w.last_sequence,
        'plan', (select o.plan_id from billing.organizations as o where o.id = w.organization_id),
        'foreseen', (
            select count(*) from billing.outbox as b
            where b.organization_id = w.organization_id and b.topic = 'stop_session'
        ),
        'freezes', (
            select count(*) from billing.outbox as b
            where b.organization_id = w.organization_id
                and b.payload ->> 'kind' = 'organization_frozen'
        ),
        'accounts', (
            select jsonb_object_agg(a.account, a.balance) filter (where a.balance <> 0)
            from (
                select m.account, sum(m.micros) as balance
                from billing.transfers as t
                cross join lateral (
                    values (t.debit_account, -t.amount_micros), (t.credit_account, t.amount_micros)
                ) as m (account, micros)
                where t.organization_id = w.organization_id
                group by m.account
            ) as a
        ),
        'grants', (
            select jsonb_agg(jsonb_build_array(
                g.category, g.priority, g.amount_micros, g.remaining_micros, g.sequence is not null
            ) order by g.category, g.id)
            from billing.grants as g where g.organization_id = w.organization_id
        ),
        'holds', (
            select coalesce(jsonb_object_agg(h.id, jsonb_build_array(
                h.amount_micros, h.captured_micros, h.outcome
            )), '{}')
            from billing.holds as h
            where h.organization_id = w.organization_id and h.kind = 'usage'
        )
    )
    from billing.wallets as w where w.organization_id = %s
"""


def _micros(moment: str | None) -> int | None:
    if moment is None:
        return None
    return (datetime.fromisoformat(moment) - EPOCH) // timedelta(microseconds=1)


def moment_at(microseconds: int) -> datetime:
    return EPOCH + timedelta(microseconds=microseconds)


def _picture(wallet: Wallet) -> Row:
    grants = sorted(wallet.grants, key=lambda g: (g.category == "paid", g.number))
    return {
        "settled": wallet.settled,
        "held": wallet.held,
        "debt": wallet.debt,
        "transfers": wallet.transfers,
        "plan": wallet.plan,
        "foreseen": len(wallet.foreseen),
        "freezes": wallet.freezes,
        "accounts": {account: n for account, n in wallet.accounts.items() if n},
        "grants": [[g.category, g.priority, g.amount, g.remaining, g.is_started] for g in grants],
        "holds": {h.id: [h.amount, h.captured, h.outcome] for h in wallet.holds.values()},
    }


class Machine(RuleBasedStateMachine):
    """A few organizations, one clock that only the test moves."""

    ledger: ClassVar[Ledger]
    covered: ClassVar[Counter[str]] = Counter()

    def __init__(self) -> None:
        super().__init__()
        self.now = 0
        self.customers: list[Customer] = []
        self.wallets: list[Wallet] = []
        self.answers: dict[tuple[object, str], tuple[str, Row]] = {}
        self.verified: dict[str, Row] = {}
        self.ledger.run("update billing.pinned_clock set at = %s", EPOCH)

    @initialize()
    def an_operator_and_two_customers(self) -> None:
        self.operator = self.ledger.create_operator()
        self.register()
        self.register()

    @precondition(lambda self: len(self.customers) < 3)
    @rule()
    def register(self) -> None:
        customer = self.ledger.register()
        self.customers.append(customer)
        self.wallets.append(Wallet())
        self.wallets[-1].credit(REGISTRATION_BONUS, "promotional", "promotion")
        try:
            self.ledger.register(customer.user_id)
        except RefusedError as refusal:
            assert refusal.code == "already_registered"
        else:
            raise AssertionError("one user registered twice")

    @invariant()
    def the_database_is_the_model(self) -> None:
        for customer, wallet in zip(self.customers, self.wallets, strict=True):
            (found,) = self.ledger.fetch_one(_WALLET, customer.id)
            assert found == _picture(wallet)
            assert wallet.settled >= wallet.held >= 0
            # Whoever owes has nothing to spend, and spends nothing.
            assert not wallet.debt or (wallet.available == 0 and not wallet.running)
            for (row,) in self.ledger.fetch(_ENDS, customer.id):
                _compare(row, wallet.sessions[row["id"]])
            for (row,) in self.ledger.fetch(_STORED, customer.id):
                _compare_storage(row, wallet.stored[row["id"]])
            if self.verified.get(customer.id) != found:
                assert self.ledger.differences(customer.id) == []
                self.verified[customer.id] = found

    def teardown(self) -> None:
        for customer, wallet in zip(self.customers, self.wallets, strict=True):
            for session in wallet.sessions.values():
                if session.ended is None:
                    self.ledger.stop(customer, session.id)
            for stored in wallet.kept:
                Storage(self.ledger, customer).end(stored.id)
        # What is scheduled happens now, so that the next run meets none of it.
        self.move(1_000_000 * SECOND)
        for function in ("start_grants", "expire_holds", "expire_grants"):
            self.ledger.call(function, limit=1000)

    def move(self, microseconds: int) -> None:
        self.now += microseconds
        self.ledger.move_pinned_clock(microseconds)

    def note(self, outcome: str) -> None:
        """Count what was tried, so that a run can tell what it covered."""
        event(outcome)
        self.covered[outcome] += 1

    def choose(self, number: int) -> tuple[int, Session]:
        """Choose a session, open or closed; 0 is the newest."""
        sessions = [(n, s) for n, w in enumerate(self.wallets) for s in w.sessions.values()]
        sessions.sort(key=lambda found: found[1].id, reverse=True)
        return sessions[number % len(sessions)]

    def do(
        self,
        scope: int | str,
        key: str | None,
        request: str,
        code: str,
        act: Callable[[str | None], Row],
    ) -> Row | None:
        """Act under a key of a caller's; give the answer when the call was new and done."""
        known = None if key is None else self.answers.get((scope, key))
        if known is not None:
            code = "replayed" if known[0] == request else "idempotency_conflict"
        answer: Row | None = None
        try:
            answer = act(None if key is None else f"{key}-{scope}")
            found = "replayed" if answer["replayed"] else "done"
        except RefusedError as refusal:
            found = refusal.code
        assert found == code
        self.note(f"{request.split(maxsplit=1)[0]}: {found}")
        if found == "done" and answer is not None:
            if key is not None:
                self.answers[scope, key] = (request, answer)
            return answer
        if known is not None and answer is not None and "top_up" not in answer:
            assert {**answer, "replayed": False} == known[1]
        return None


def _compare(row: Row, session: Session) -> None:
    expected: dict[str, Any] = {
        "id": session.id,
        "ended_at": session.ended,
        "close_reason": session.reason,
        "amount_micros": session.amount,
        "captured_micros": session.captured,
        "captured_until": session.captured_until,
        "expires_at": session.paid_until,
        "is_final": session.is_final,
        "due_at": session.due,
    }
    _agree(row, expected)


def _compare_storage(row: Row, stored: Stored) -> None:
    expected: dict[str, Any] = {
        "id": stored.id,
        "status": stored.status,
        "size_gb": stored.gb,
        "status_since": stored.since,
        "amount_micros": stored.amount,
        "captured_micros": stored.captured,
        "captured_until": stored.captured_until,
        "expires_at": stored.paid_until,
        "is_final": stored.is_final,
        "due_at": stored.due,
    }
    _agree(row, expected)


def _agree(row: Row, expected: dict[str, Any]) -> None:
    times = {"ended_at", "captured_until", "expires_at", "due_at", "status_since"}
    moments = {time: _micros(row[time]) for time in times & row.keys()}
    assert {**row, **moments} == expected, json.dumps(row)
