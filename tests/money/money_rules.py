"""Everything that customers, the payment provider and an operator do to a wallet's money."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial

import hypothesis.strategies as st
from hypothesis.stateful import precondition, rule

from tests.money.ledger import DOLLAR, Row, checkout_event, new_key
from tests.money.machine import Machine, moment_at
from tests.money.model import SECOND, Wallet
from tests.money.news import reversal_event
from tests.money.purse import Grant, Hold, Reversal, TopUp
from tests.money.session_rules import keys, slots

_FEE = 15 * DOLLAR
_needs_a_top_up = precondition(lambda machine: any(w.top_ups for w in machine.wallets))
_needs_a_hold = precondition(lambda machine: any(w.holds for w in machine.wallets))


class MoneyRules(Machine):
    """Top-ups, their notifications, refunds and disputes; holds and grants by an operator."""

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
        micros=st.sampled_from([1, DOLLAR, 4_999_999, 60 * DOLLAR]) | st.none(),
        seconds=st.sampled_from([1, 300, 4000]),
        key=keys,
    )
    def open_hold(self, slot: int, micros: int | None, seconds: int, key: str | None) -> None:
        slot %= len(self.customers)
        wallet = self.wallets[slot]
        amount = max(wallet.available, 1) if micros is None else micros
        seconds += len(wallet.holds)  # no two expire at the same moment
        answer = self._operate(
            "open_hold", slot, key, wallet.refusal(amount) or "done",
            amount_micros=amount, expires_in_seconds=seconds, description=None,
        )  # fmt: skip
        if answer is not None:
            hold_id = answer["hold"]["id"]
            wallet.holds[hold_id] = Hold(hold_id, amount, self.now + seconds * SECOND)

    @precondition(lambda self: any(w.available for w in self.wallets))
    @rule(slot=slots, left=st.sampled_from([0, 1, DOLLAR]))
    def spend(self, slot: int, left: int) -> None:
        slot %= len(self.customers)
        if self.wallets[slot].available > left:
            self.open_hold(slot, self.wallets[slot].available - left, 300, None)
            self.capture_hold(0, "all", False, None)

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

    @_needs_a_hold
    @rule(
        number=st.integers(0, 3),
        what=st.sampled_from(["a part", "all", "too much"]),
        is_final=st.booleans(),
        key=keys,
    )
    def capture_hold(self, number: int, what: str, is_final: bool, key: str | None) -> None:
        slot, hold = self._choose_hold(number)
        micros = {"a part": hold.held // 3, "all": hold.held, "too much": hold.held + 1}[what]
        micros = max(micros, 1)
        code = self._closed(hold) or ("capture_exceeds_hold" if micros > hold.held else "done")
        answer = self._operate(
            "capture_hold", slot, key, code,
            hold_id=hold.id, amount_micros=micros, is_final=is_final,
        )  # fmt: skip
        if answer is not None:
            self.wallets[slot].capture(hold, micros, is_final=is_final)

    @_needs_a_hold
    @rule(number=st.integers(0, 3), key=keys)
    def release_hold(self, number: int, key: str | None) -> None:
        slot, hold = self._choose_hold(number)
        code = self._closed(hold) or "done"
        if self._operate("release_hold", slot, key, code, hold_id=hold.id) is not None:
            self.wallets[slot].close(hold, "released")

    @_needs_a_hold
    @rule(number=st.integers(0, 3), micros=st.sampled_from([0, DOLLAR, 60 * DOLLAR]), key=keys)
    def renew_hold(self, number: int, micros: int, key: str | None) -> None:
        slot, hold = self._choose_hold(number)
        seconds = 500 + len(self.wallets[slot].holds)
        code = self._closed(hold) or self.wallets[slot].refusal(micros) or "done"
        answer = self._operate(
            "renew_hold", slot, key, code,
            hold_id=hold.id, amount_micros=micros, expires_in_seconds=seconds,
        )  # fmt: skip
        if answer is not None:
            hold.amount += micros
            hold.expires = self.now + seconds * SECOND

    @rule(
        slot=slots,
        micros=st.sampled_from([3, DOLLAR, 7 * DOLLAR]),
        priority=st.sampled_from([1, 100]),
        delay=st.none() | st.sampled_from([-5, 100, 4000]),
        life=st.none() | st.sampled_from([-10, 50, 5000]),
        key=keys,
    )
    def give(
        self,
        slot: int,
        micros: int,
        priority: int,
        delay: int | None,
        life: int | None,
        key: str | None,
    ) -> None:
        slot %= len(self.customers)
        wallet = self.wallets[slot]
        effective = self.now + (delay or 0) * SECOND
        expires = None if life is None else max(effective, self.now) + life * SECOND
        answer = self._operate(
            "create_grant", slot, key, "expiry_in_the_past" if (life or 0) < 0 else "done",
            amount_micros=micros, note="a gift", priority=priority,
            effective_at=None if delay is None else moment_at(effective),
            expires_at=None if expires is None else moment_at(expires),
        )  # fmt: skip
        if answer is not None:
            terms = {"priority": priority, "effective": effective, "expires": expires}
            grant = Grant("promotional", micros, len(wallet.grants), **terms)  # type: ignore[arg-type]
            wallet.schedule(grant)
            if effective <= self.now:
                wallet.bring(grant, "promotion")

    @precondition(lambda self: any(not g.is_started for w in self.wallets for g in w.grants))
    @rule(is_late=st.booleans())
    def start_grants(self, is_late: bool) -> None:
        self._move_past(
            [g.effective for w in self.wallets for g in w.grants if not g.is_started], is_late
        )
        started = sum(w.start_grants(self.now) for w in self.wallets)
        answer = self.ledger.call_one("start_grants", limit=1000)
        assert answer == {"started": started, "more": False}
        self.note(f"grants started: {min(started, 2)}")

    @precondition(lambda self: any(g.expires for w in self.wallets for g in w.grants))
    @rule(is_late=st.booleans())
    def expire_grants(self, is_late: bool) -> None:
        self._move_past(
            [g.expires for w in self.wallets for g in w.grants if g.expires and g.remaining],
            is_late,
        )
        expired = sum(w.expire_grants(self.now) for w in self.wallets)
        answer = self.ledger.call_one("expire_grants", limit=1000)
        assert answer == {"expired": expired, "more": False}
        self.note(f"grants expired: {min(expired, 2)}")

    @_needs_a_hold
    @rule(is_late=st.booleans())
    def expire_holds(self, is_late: bool) -> None:
        self._move_past(
            [h.expires for w in self.wallets for h in w.holds.values() if not h.outcome], is_late
        )
        expired = 0
        for wallet in self.wallets:
            for hold in sorted(wallet.holds.values(), key=lambda h: h.expires):
                if hold.outcome is None and hold.expires <= self.now:
                    wallet.close(hold, "expired")
                    expired += 1
        answer = self.ledger.call_one("expire_holds", limit=1000)
        assert answer == {"expired": expired, "more": False}
        self.note(f"holds expired: {min(expired, 2)}")

    def _move_past(self, moments: list[int], is_late: bool) -> None:
        """Move the clock to the next of these moments, when it should be so late."""
        if is_late and moments:
            self.move(max(min(moments) - self.now, 0))

    def _choose_hold(self, number: int) -> tuple[int, Hold]:
        """Choose a hold; 0 is the newest."""
        holds = [(n, h) for n, w in enumerate(self.wallets) for h in w.holds.values()]
        holds.sort(key=lambda found: found[1].id, reverse=True)
        return holds[number % len(holds)]

    def _closed(self, hold: Hold) -> str | None:
        return "hold_closed" if hold.outcome or hold.expires <= self.now else None

    def _operate(
        self, function: str, slot: int, key: str | None, code: str, **arguments: object
    ) -> Row | None:
        """Let the operator act on a customer's wallet."""
        organization_id = self.customers[slot].id
        return self.do(
            "operator",
            key,
            f"{function} {organization_id} {arguments}",
            code,
            lambda k: self.ledger.call_one(
                function,
                caller=self.operator.caller,
                organization_id=organization_id,
                idempotency_key=k or new_key(),
                **arguments,
            ),
        )


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
