"""Everything that customers and the payment provider do to a wallet's money."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial

import hypothesis.strategies as st
from hypothesis.stateful import precondition, rule

from tests.money.ledger import DOLLAR, Row, checkout_event
from tests.money.model import Wallet
from tests.money.news import reversal_event
from tests.money.operator_rules import OperatorRules
from tests.money.purse import Reversal, TopUp
from tests.money.session_rules import keys, slots

_FEE = 15 * DOLLAR
_needs_a_top_up = precondition(lambda machine: any(w.top_ups for w in machine.wallets))


class PaymentRules(OperatorRules):
    """Top-ups, their notifications, refunds and disputes."""

    def __init__(self) -> None:
        super().__init__()
        self.events: list[tuple[Row, Callable[[], str]]] = []
        self.outcomes: dict[str, str] = {}
        self.reversals: dict[str, dict[str, Reversal]] = {}

    @rule(
        slot=slots,
        dollars=st.sampled_from([9, 10, 11, 100]),
        key=keys,
        is_paid=st.sampled_from([True, True, False]),
    )
    def ask_top_up(self, slot: int, dollars: int, key: str | None, is_paid: bool) -> None:
        slot %= len(self.customers)
        wallet = self.wallets[slot]
        code = "amount_too_small" if dollars < 10 else "done"
        answer = self.do(
            slot,
            key,
            f"top-up {dollars}",
            code,
            lambda k: self.ledger.ask_top_up(self.customers[slot], dollars * DOLLAR, key=k),
        )
        if answer is not None:
            row = answer["top_up"]
            bonus = dollars * DOLLAR // 20 if dollars >= 100 else 0
            top_up = wallet.top_ups[row["id"]] = TopUp(dollars * DOLLAR, bonus)
            for kind in ("async_payment_succeeded", "async_payment_failed", "expired"):
                paid = None if kind == "async_payment_failed" else dollars * DOLLAR
                self._write(wallet, top_up, row, kind, paid)
            for paid in (None, dollars * DOLLAR // 2, dollars * DOLLAR):
                self._write(wallet, top_up, row, "completed", paid)
            if is_paid:
                self.deliver(0)

    def _write(
        self, wallet: Wallet, top_up: TopUp, row: Row, kind: str, micros: int | None
    ) -> None:
        status = "unpaid" if micros is None or kind == "expired" else "paid"
        amount = (micros or top_up.micros) // 10_000
        written = checkout_event(row, kind, payment_status=status, amount_total=amount)
        self.events.append((written, lambda: wallet.pay(top_up, kind, micros, self.now)))

    @precondition(lambda self: self.events)
    @rule(number=st.integers(0, 3) | st.integers(0, 30))
    def deliver(self, number: int) -> None:
        written, apply = self.events[-1 - number % len(self.events)]
        is_repeated = written["id"] in self.outcomes
        if not is_repeated:
            self.outcomes[written["id"]] = apply()
        outcome = self.outcomes[written["id"]]
        assert self.ledger.deliver(written) == {"outcome": outcome, "duplicate": is_repeated}
        self.note(f"event: {'repeated' if is_repeated else outcome}")

    @_needs_a_top_up
    @rule(
        number=st.integers(0, 2),
        what=st.sampled_from(["refund", "refund", "fail", "total", "dispute", "win", "lose"]),
        percent=st.sampled_from([1, 40, 100]),
        is_told=st.sampled_from([True, True, False]),
    )
    def give_back(self, number: int, what: str, percent: int, is_told: bool) -> None:
        top_ups = [(i, w) for w in self.wallets for i in w.top_ups]
        top_ups.sort(key=lambda found: found[0], reverse=True)  # 0 is the newest
        top_up_id, wallet = top_ups[number % len(top_ups)]
        reversals = self.reversals.setdefault(top_up_id, {})
        micros = wallet.top_ups[top_up_id].micros * percent // 100
        reversal = _next_reversal(reversals, what, micros, top_up_id)
        if reversal is not None:
            reversals[reversal.id] = reversal
            tell = partial(self._tell, wallet, wallet.top_ups[top_up_id], reversal)
            self.events.append((reversal_event(top_up_id, reversal), tell))
            if is_told:
                self.deliver(0)
                self.note(f"{what}: {'a debt' if wallet.debt else 'no debt'}")

    def _tell(self, wallet: Wallet, top_up: TopUp, reversal: Reversal) -> str:
        known = top_up.told.get(reversal.id)
        if known is None or known.version <= reversal.version:
            top_up.told[reversal.id] = reversal
        running = len(wallet.running)
        wallet.follow(top_up, self.now)
        self.note(f"frozen sessions: {running - len(wallet.running)}")
        return "dispute_recorded" if reversal.kind == "dispute" else "refund_recorded"

    @rule(
        slot=slots,
        dollars=st.sampled_from([10, 100]),
        left=st.sampled_from([0, 1, DOLLAR]),
        what=st.sampled_from(["refund", "dispute"]),
        percent=st.sampled_from([1, 40, 100]),
    )
    def spend_and_give_back(
        self, slot: int, dollars: int, left: int, what: str, percent: int
    ) -> None:
        """The way into debt, which single steps find too seldom."""
        self.ask_top_up(slot, dollars, None, True)
        self.spend(slot, left)
        self.give_back(0, what, percent, True)


def _next_reversal(
    reversals: dict[str, Reversal], what: str, micros: int, top_up_id: str
) -> Reversal | None:
    """What happens next at the provider; None: nothing of the kind can."""
    refunds = [r for r in reversals.values() if r.kind == "refund"]
    live = [r for r in refunds if not r.is_undone]
    total, dispute = reversals.get(f"ch_{top_up_id}"), reversals.get(f"dp_{top_up_id}")
    match what:
        case "refund":
            return Reversal(f"re_{top_up_id}_{len(refunds)}", "refund", micros)
        case "fail" if live:
            return replace(live[-1], version=1, is_undone=True)
        case "total" if refunds:
            version = total.version + 1 if total else 0
            return Reversal(f"ch_{top_up_id}", "total", sum(r.micros for r in refunds), version)
        case "dispute" if dispute is None:
            return Reversal(f"dp_{top_up_id}", "dispute", micros, fees=_FEE)
        case "win" | "lose" if dispute is not None and dispute.version == 0:
            is_won = what == "win"
            fees = 0 if is_won and len(refunds) % 2 else _FEE
            return replace(dispute, version=1, is_undone=is_won, fees=fees)
    return None
