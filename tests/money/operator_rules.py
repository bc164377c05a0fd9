"""Everything that an operator does to a wallet's money, and the crons that end what has a time."""

import hypothesis.strategies as st
from hypothesis.stateful import precondition, rule

from tests.money.ledger import DOLLAR, Row, new_key
from tests.money.machine import Machine, moment_at
from tests.money.model import SECOND
from tests.money.purse import Grant, Hold
from tests.money.session_rules import keys, slots

_needs_a_hold = precondition(lambda machine: any(w.holds for w in machine.wallets))


class OperatorRules(Machine):
    """Holds, promotional grants, their beginning and their end."""

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
            "open_hold", slot, key, wallet.refusal(amount, self.now) or "done",
            amount_micros=amount, expires_in_seconds=seconds, description=None,
        )  # fmt: skip
        if answer is not None:
            wallet.expire_grants(self.now)
            hold_id = answer["hold"]["id"]
            wallet.holds[hold_id] = Hold(hold_id, amount, self.now + seconds * SECOND)

    @precondition(lambda self: any(w.available for w in self.wallets))
    @rule(slot=slots, left=st.sampled_from([0, 1, DOLLAR]))
    def spend(self, slot: int, left: int) -> None:
        slot %= len(self.customers)
        if (holdable := self.wallets[slot].holdable(self.now)) > left:
            self.open_hold(slot, holdable - left, 300, None)
            self.capture_hold(0, "all", False, None)

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
        code = self._closed(hold) or self.wallets[slot].refusal(micros, self.now) or "done"
        answer = self._operate(
            "renew_hold", slot, key, code,
            hold_id=hold.id, amount_micros=micros, expires_in_seconds=seconds,
        )  # fmt: skip
        if answer is not None:
            self.wallets[slot].expire_grants(self.now)
            hold.amount += micros
            hold.expires = max(hold.expires, self.now + seconds * SECOND)

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
