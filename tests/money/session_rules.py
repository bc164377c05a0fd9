"""Everything that customers, the scheduler, the queue and the clock do to sessions."""

import hypothesis.strategies as st
from hypothesis.stateful import precondition, rule

from tests.money.ledger import RefusedError
from tests.money.machine import PRICES, WINDOWS, Machine, moment_at
from tests.money.model import SECOND, Session, cost

slots = st.integers(0, 2)
# Mostly a new key; sometimes one of three, so that repeats and conflicts happen.
keys = st.none() | st.none() | st.sampled_from(["key-a", "key-b", "key-c"])

_needs_a_session = precondition(lambda machine: any(w.sessions for w in machine.wallets))


class SessionRules(Machine):
    """Start, stop, heartbeat, sweep, the task at the foreseen end, clocks that run and jump."""

    @rule(
        slot=slots,
        tier=st.sampled_from(["small", "small", "small", "small", "large", "medium", "gpu"]),
        key=keys,
        seconds=st.none() | st.none() | st.sampled_from([1, 45, 600, 4000]),
        timeout=st.none() | st.none() | st.sampled_from([10, 300]),
    )
    def start(
        self, slot: int, tier: str, key: str | None, seconds: int | None, timeout: int | None
    ) -> None:
        slot %= len(self.customers)
        wallet = self.wallets[slot]
        price = PRICES[wallet.plan].get(tier)
        window = WINDOWS[wallet.plan]
        length = window if seconds is None else min(window, seconds * SECOND)
        amount = cost(price or 0, length)
        code = "tier_not_allowed" if price is None else wallet.refusal(amount, self.now) or "done"
        answer = self.do(
            slot,
            key,
            f"start {tier} {seconds} {timeout}",
            code,
            lambda k: self.ledger.start(
                self.customers[slot],
                tier,
                max_seconds=seconds,
                heartbeat_timeout_seconds=timeout,
                key=k,
            ),
        )
        if answer is not None and price is not None:
            is_final = seconds is not None and seconds * SECOND <= window
            due = self.now + length - (0 if is_final else window // 2)
            lost = None if timeout is None else timeout * SECOND
            session = Session(
                id=answer["session"]["id"],
                price=price,
                window=window,
                started=self.now,
                expires=None if seconds is None else self.now + seconds * SECOND,
                timeout=lost,
                heartbeat=self.now,
                amount=amount,
                captured_until=self.now,
                paid_until=self.now + length,
                is_final=is_final,
                due=due if lost is None else min(due, self.now + lost),
            )
            wallet.expire_grants(self.now)
            wallet.open(session)

    @_needs_a_session
    @rule(number=st.integers(0, 4), key=keys, reason=st.sampled_from(["stopped", "failed"]))
    def stop(self, number: int, key: str | None, reason: str) -> None:
        slot, session = self.choose(number)
        answer = self.do(
            slot,
            key,
            f"stop {session.id} {reason}",
            "done",
            lambda k: self.ledger.stop(self.customers[slot], session.id, reason, key=k),
        )
        if answer is not None and session.ended is None:
            self.wallets[slot].stop([session], self.now, reason)
            self.note(f"stopped: {session.reason}")

    @_needs_a_session
    @rule(number=st.integers(0, 4))
    def heartbeat(self, number: int) -> None:
        slot, session = self.choose(number)
        try:
            self.ledger.call_one(
                "heartbeat_session", caller=self.customers[slot].caller, session_id=session.id
            )
        except RefusedError as refusal:
            assert (refusal.code, session.ended is None) == ("session_closed", False)
        else:
            assert session.ended is None
            session.heartbeat = max(session.heartbeat, self.now)

    @rule(seconds=st.sampled_from([0.000001, 0.3, 1, 7.5, 30, 60, 299, 601, 5000, 200_000]))
    def move_on(self, seconds: float) -> None:
        self.move(round(seconds * SECOND))

    @rule(seconds=st.sampled_from([0.3, 3600, 86_400]))
    def set_clock_back(self, seconds: float) -> None:
        self.move(-round(seconds * SECOND))

    @_needs_a_session
    @rule(seconds=st.sampled_from([0, 0, 0.000001, 20, 400]), limit=st.sampled_from([1, 1000]))
    def move_to_the_next_due_and_sweep(self, seconds: float, limit: int) -> None:
        dues = [s.due for w in self.wallets for s in w.sessions.values() if s.due is not None]
        if dues:
            self.move(max(min(dues) - self.now, 0) + round(seconds * SECOND))
            self.sweep(limit)

    @_needs_a_session
    @rule()
    def move_to_the_next_foreseen_end(self) -> None:
        ends = [s.paid_until for w in self.wallets for s in w.sessions.values() if s.ended is None]
        later = [end for end in ends if end > self.now]
        if later:
            self.move(min(later) - self.now)

    @_needs_a_session
    @rule(limit=st.sampled_from([1, 2, 1000, 1000]))
    def sweep(self, limit: int) -> None:
        due = {
            s.id: (s.due, slot)
            for slot, w in enumerate(self.wallets)
            for s in w.sessions.values()
            if s.due is not None and s.due <= self.now
        }
        answer = self.ledger.sweep(limit)
        # Among those that are due at one moment, which a limit leaves out is the database's choice.
        waiting = {
            str(session_id)
            for (session_id,) in self.ledger.fetch(
                "select id from billing.holds where kind = 'session' and due_at <= %s",
                moment_at(self.now),
            )
        }
        swept = due.keys() - waiting
        assert len(swept) == min(len(due), limit)
        assert max((due[i][0] for i in swept), default=0) <= min(
            (due[i][0] for i in waiting), default=10**18
        )
        closed = 0
        for slot, wallet in enumerate(self.wallets):
            closed += wallet.settle({i for i in swept if due[i][1] == slot}, self.now)
        assert answer == {"swept": len(swept), "closed": closed, "more": len(swept) == limit}
        self.note(f"swept: {min(len(swept), 3)}, closed: {min(closed, 2)}")
        for session_id in swept:
            self.note(f"settled: {self.wallets[due[session_id][1]].sessions[session_id].reason}")

    @_needs_a_session
    @rule(number=st.integers(0, 4), is_outdated=st.booleans())
    def deliver_task(self, number: int, is_outdated: bool) -> None:
        slot, session = self.choose(number)
        is_meant = session.ended is None and not is_outdated
        try:
            self.ledger.call_one(
                "sweep_session",
                organization_id=self.customers[slot].id,
                session_id=session.id,
                paid_until=moment_at(session.paid_until - is_outdated),
                task_id=session.id,  # no row has it
            )
        except RefusedError as refusal:
            assert (refusal.code, is_meant) == ("not_yet_due", True)
            assert session.paid_until > self.now
        else:
            assert not is_meant or session.paid_until <= self.now
            self.note(f"task: {'meant' if is_meant else 'outdated'}")
            if is_meant:
                self.wallets[slot].settle({session.id}, self.now)
