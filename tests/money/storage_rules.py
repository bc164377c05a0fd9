"""What customers, the cloud and the accrual do to storage."""

import hypothesis.strategies as st
from hypothesis.stateful import precondition, rule

from tests.money.ledger import RefusedError
from tests.money.machine import Machine, moment_at
from tests.money.session_rules import slots
from tests.money.storage import Storage
from tests.money.stored import STEPS, Stored

_needs_storage = precondition(lambda machine: any(w.stored for w in machine.wallets))
_MOST = 5  # of the free plan
numbers, sizes = st.integers(0, 4), st.sampled_from([1, 7, 50, 100])


class StorageRules(Machine):
    """Rent, get, grow, give back and accrue."""

    @rule(slot=slots, gb=sizes, is_made=st.booleans())
    def rent(self, slot: int, gb: int, is_made: bool) -> None:
        slot %= len(self.customers)
        wallet = self.wallets[slot]
        amount = wallet.window_cost(gb, wallet.gb_prices[wallet.plan])
        code = wallet.refusal(amount, self.now)
        if wallet.plan == "free" and len(wallet.kept) >= _MOST:
            code = "storage_limit_reached"
        try:
            storage_id = Storage(self.ledger, self.customers[slot]).ask(gb)
        except RefusedError as refusal:
            assert refusal.code == code
        else:
            assert code is None
            wallet.expire_grants(self.now)
            wallet.stored[storage_id] = Stored(storage_id, gb, amount, self.now)
            if is_made:
                self.make(0)
        self.note(f"rent: {code or 'done'}")

    @_needs_storage
    @rule(number=numbers)
    def make(self, number: int) -> None:
        slot, stored = self._choose_storage(number)
        if stored.status == "requested":
            Storage(self.ledger, self.customers[slot]).start(stored.id)
            self.wallets[slot].make(stored, self.now)
            self.note("made")

    @_needs_storage
    @rule(number=numbers, gb=sizes)
    def grow(self, number: int, gb: int) -> None:
        slot, stored = self._choose_storage(number)
        if stored.due is not None and stored.status != "requested":
            Storage(self.ledger, self.customers[slot]).grow(stored.id, gb)
            self.wallets[slot].grow(stored, gb, self.now)
            self.note(f"grown: {stored.status}")

    @_needs_storage
    @rule(number=numbers)
    def delete(self, number: int) -> None:
        slot, stored = self._choose_storage(number)
        if stored.due is not None:
            Storage(self.ledger, self.customers[slot]).end(stored.id)
            self.wallets[slot].give_up(stored, self.now, "deleted")
            self.note("deleted")

    @_needs_storage
    @rule(limit=st.sampled_from([1, 1000, 1000]))
    def accrue(self, limit: int) -> None:
        due = {
            s.id: (slot, s)
            for slot, w in enumerate(self.wallets)
            for s in w.kept
            if s.due is not None and s.due <= self.now
        }
        answer = self.ledger.call_one("accrue_storage", limit=limit)
        # Among those that are due at one moment, which a limit leaves out is the database's choice.
        waiting = {
            str(storage_id)
            for (storage_id,) in self.ledger.fetch(
                "select id from billing.holds where kind = 'storage' and due_at <= %s",
                moment_at(self.now),
            )
        }
        accrued = due.keys() - waiting
        assert len(accrued) == min(len(due), limit)
        assert answer == {"accrued": len(accrued), "more": 0 < len(accrued) == limit}
        for storage_id in sorted(accrued):
            slot, stored = due[storage_id]
            self.wallets[slot].accrue(stored, self.now)
            self.note(f"accrued: {stored.status}")

    @_needs_storage
    @rule(number=numbers, times=st.integers(1, 4))
    def move_to_its_next_step_and_accrue(self, number: int, times: int) -> None:
        _, stored = self._choose_storage(number)
        for _ in range(times):
            if stored.due is not None:
                step = stored.since + STEPS.get(stored.status, 0)
                self.move(max(stored.due, step, self.now) - self.now)
                self.accrue(1000)

    def _choose_storage(self, number: int) -> tuple[int, Stored]:
        stored = [(n, s) for n, w in enumerate(self.wallets) for s in w.stored.values()]
        stored.sort(key=lambda found: found[1].id, reverse=True)
        return stored[number % len(stored)]
