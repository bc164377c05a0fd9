"""What every step of the wallet machine shares: the clock, the customers, the comparison."""

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any, ClassVar

from hypothesis import event
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from tests.money.ledger import REGISTRATION_BONUS, Customer, Ledger, RefusedError, Row
from tests.money.model import SECOND, Session, Wallet

EPOCH = datetime(2027, 1, 1, tzinfo=UTC)
WINDOWS = {"free": 600 * SECOND, "pro": 61 * SECOND}  # half a window: half a second
# So dear that a registration's bonus covers two windows, and a top-up a minute or three.
PRICES = {
    "free": {"small": 12_000_003},
    "pro": {"small": 36_000_007, "medium": 0, "large": 360_000_000, "gpu": 1},
}
_ENDS = """
    select to_jsonb(a) from (
        select s.id, s.ended_at, s.close_reason, h.amount_micros, h.captured_micros,
            h.captured_until, h.expires_at, h.is_final, h.due_at
        from billing.sessions as s inner join billing.holds as h using (organization_id, id)
        where s.organization_id = %s
    ) as a
"""
_WALLET = """
    select w.settled_micros, w.held_micros, w.last_sequence,
        (select coalesce(sum(
                case when credit_account = 'wallet' then amount_micros else -amount_micros end
            ), 0)
            from billing.transfers as t where t.organization_id = w.organization_id),
        (select coalesce(sum(g.remaining_micros) filter (where g.category = 'paid'), 0)
            from billing.grants as g where g.organization_id = w.organization_id),
        (select coalesce(sum(g.remaining_micros) filter (where g.category = 'promotional'), 0)
            from billing.grants as g where g.organization_id = w.organization_id),
        (select o.plan_id from billing.organizations as o where o.id = w.organization_id),
        (select count(*) from billing.outbox as b where b.organization_id = w.organization_id)
    from billing.wallets as w where w.organization_id = %s
"""


def _micros(moment: str | None) -> int | None:
    if moment is None:
        return None
    return (datetime.fromisoformat(moment) - EPOCH) // timedelta(microseconds=1)


def moment_at(microseconds: int) -> datetime:
    return EPOCH + timedelta(microseconds=microseconds)


class Machine(RuleBasedStateMachine):
    """A few organizations, one clock that only the test moves."""

    ledger: ClassVar[Ledger]

    def __init__(self) -> None:
        super().__init__()
        self.now = 0
        self.customers: list[Customer] = []
        self.wallets: list[Wallet] = []
        self.answers: dict[tuple[int, str], tuple[str, Row]] = {}
        self.events: list[tuple[int, str, int | None, Row]] = []
        self.outcomes: dict[str, str] = {}
        self.ledger.run("update billing.pinned_clock set at = %s", EPOCH)

    @initialize()
    def two_customers(self) -> None:
        self.register()
        self.register()

    @precondition(lambda self: len(self.customers) < 3)
    @rule()
    def register(self) -> None:
        customer = self.ledger.register()
        self.customers.append(customer)
        self.wallets.append(Wallet(promotional=REGISTRATION_BONUS))
        try:
            self.ledger.register(customer.user_id)
        except RefusedError as refusal:
            assert refusal.code == "already_registered"
        else:
            raise AssertionError("one user registered twice")

    @invariant()
    def the_database_is_the_model(self) -> None:
        for customer, wallet in zip(self.customers, self.wallets, strict=True):
            found = self.ledger.fetch_one(_WALLET, customer.id)
            assert found == (
                *(wallet.settled, wallet.held, wallet.transfers, wallet.settled),
                *(wallet.paid, wallet.promotional, wallet.plan, len(wallet.foreseen)),
            )
            assert wallet.settled >= wallet.held >= 0
            for (row,) in self.ledger.fetch(_ENDS, customer.id):
                _compare(row, wallet.sessions[row["id"]])
            assert self.ledger.differences(customer.id) == []

    def teardown(self) -> None:
        for customer, wallet in zip(self.customers, self.wallets, strict=True):
            for session in wallet.sessions.values():
                if session.ended is None:
                    self.ledger.stop(customer, session.id)

    def move(self, microseconds: int) -> None:
        self.now += microseconds
        self.ledger.move_pinned_clock(microseconds)

    def choose(self, number: int) -> tuple[int, Session]:
        """Choose a session, open or closed; 0 is the newest."""
        sessions = [(n, s) for n, w in enumerate(self.wallets) for s in w.sessions.values()]
        sessions.sort(key=lambda found: found[1].id, reverse=True)
        return sessions[number % len(sessions)]

    def do(
        self, slot: int, key: str | None, request: str, code: str, act: Callable[[str | None], Row]
    ) -> Row | None:
        """Act under a key; give the answer when the call was new and done."""
        known = None if key is None else self.answers.get((slot, key))
        if known is not None:
            code = "replayed" if known[0] == request else "idempotency_conflict"
        answer: Row | None = None
        try:
            answer = act(None if key is None else f"{key}-{slot}")
            found = "replayed" if answer["replayed"] else "done"
        except RefusedError as refusal:
            found = refusal.code
        assert found == code
        event(f"{request.split(maxsplit=1)[0]}: {found}")
        if found == "done" and answer is not None:
            if key is not None:
                self.answers[slot, key] = (request, answer)
            return answer
        if known is not None and answer is not None and "session" in answer:
            assert answer["session"] == known[1]["session"]
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
    times = ("ended_at", "captured_until", "expires_at", "due_at")
    assert {**row, **{t: _micros(row[t]) for t in times}} == expected, json.dumps(row)
