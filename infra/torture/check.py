"""What must be true after everything: the books, and that they say what clients were told."""

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, LiteralString

import psycopg
from psycopg.types.json import Jsonb

from infra.torture.client import Journal
from infra.torture.stage import Stage

# Each acknowledged effect is there and each one there was acknowledged: none lost, none doubled.
_EFFECTS: dict[str, LiteralString] = {
    "session": "select id::text from billing.sessions",
    "storage": "select id::text from billing.storage",
    "hold": "select id::text from billing.holds where kind = 'usage'",
    "capture": "select hold_id || ' ' || amount_micros from billing.transfers"
    " where reason = 'capture'",
    "top-up": "select id::text from billing.top_ups",
    "grant": "select id::text from billing.grants where note = 'torture'",
    "event": "select outcome::text from billing.payment_events",
}
_STOPS = """
select s.id || ' ' || h.captured_micros
from billing.sessions as s inner join billing.holds as h using (organization_id, id)
where s.ended_at is not null
union all
select s.id || ' ' || h.captured_micros
from billing.storage as s inner join billing.holds as h using (organization_id, id)
where h.due_at is null
"""
_PAYMENTS = """
select top_up_id::text, amount_micros, refunded_micros, disputed_micros from billing.payments
"""
# Money in (from the provider, given by us) = money out (to revenue, expired) + balances.
_MONEY = """
select w.organization_id::text, coalesce(sum(case
    when t.credit_account in ('provider_clearing', 'promotion', 'provider_fees')
        and t.debit_account in ('provider_clearing', 'promotion', 'provider_fees') then 0
    when t.debit_account in ('provider_clearing', 'promotion') then t.amount_micros
    when t.credit_account in ('provider_clearing', 'promotion') then -t.amount_micros
    when t.credit_account in ('revenue_sessions', 'revenue_storage', 'revenue_usage', 'expired')
        then -t.amount_micros
    else 0
end), 0), w.settled_micros - w.debt_micros
from billing.wallets as w
left join billing.transfers as t on t.organization_id = w.organization_id
group by w.organization_id, w.settled_micros, w.debt_micros
"""
_VERIFY = "select * from billing.verify()"
_SEEN = """
select count(*), sum(hashtextextended(t::text, 0))
from billing.transfers as t
inner join jsonb_each_text(%s) as s (organization_id, sequence)
    on t.organization_id = s.organization_id::uuid and t.sequence <= s.sequence::bigint
"""


@dataclass
class Auditor:
    """Looks at the database while nobody else does, and remembers what it saw."""

    stage: Stage
    journal: Journal
    log: Path
    ready_seconds: float
    known: set[str] = field(default_factory=set)
    seen: dict[str, int] = field(default_factory=dict)
    checksum: tuple[Any, ...] | None = None
    log_offset: int = 0

    def __post_init__(self) -> None:
        """What is in the log already is another run's."""
        self.log_offset = self.log.stat().st_size

    def differences(self, *, may_be_unavailable: bool) -> list[str]:
        """Tell every difference since the last time."""
        with self.stage.owner() as connection:
            found = [
                *self._log(),
                *(f"verify: {row}" for row in connection.execute(_VERIFY)),
                *self._effects(connection),
                *self._money(connection),
                *self._history(connection),
                *self._answers(may_be_unavailable=may_be_unavailable),
            ]
        new = [each for each in found if each not in self.known]
        self.known.update(new)
        return new

    def _effects(self, connection: psycopg.Connection[tuple[Any, ...]]) -> list[str]:
        found = []
        for kind, query in _EFFECTS.items():
            told = Counter(self.journal.effects[kind].values())
            there = Counter(effect for (effect,) in connection.execute(query))
            found += [f"{kind} {effect}: acknowledged and lost" for effect in told - there]
            found += [f"{kind} {effect}: never acknowledged" for effect in there - told]
        ends = {end for (end,) in connection.execute(_STOPS)}
        stops = self.journal.effects["stop"].values()
        found += [f"stop {end}: charged otherwise" for end in stops if end not in ends]
        payments = {
            top_up_id: (payment.micros, *payment.returned)
            for top_up_id, payment in self.journal.payments.items()
        }
        there_now = {row[0]: row[1:] for row in connection.execute(_PAYMENTS)}
        found += [
            f"payment {i}: {payments.get(i)} at Stripe, {there_now.get(i)} here"
            for i in payments.keys() | there_now.keys()
            if payments.get(i) != there_now.get(i)
        ]
        return found

    def _money(self, connection: psycopg.Connection[tuple[Any, ...]]) -> list[str]:
        return [
            f"{organization}: {flow} came and stayed, {balance} is there"
            for organization, flow, balance in connection.execute(_MONEY)
            if flow != balance
        ]

    def _history(self, connection: psycopg.Connection[tuple[Any, ...]]) -> list[str]:
        """Transfers that were seen before are all there as they were."""
        seen = Jsonb(self.seen)
        now = connection.execute(_SEEN, [seen]).fetchone()
        found = [] if self.checksum in (None, now) else ["transfers changed"]
        last = "select organization_id::text, last_sequence from billing.wallets"
        self.seen = dict(connection.execute(last).fetchall())
        seen = Jsonb(self.seen)
        self.checksum = connection.execute(_SEEN, [seen]).fetchone()
        # Sweeps do not wait for the disk, but whoever commits after them does: what was seen stays.
        connection.execute("update billing.clock_offset set seconds = seconds")
        return found

    def _answers(self, *, may_be_unavailable: bool) -> list[str]:
        """No server error where nothing was broken; never one of our own making."""
        found = list(self.journal.differences)
        self.journal.differences.clear()
        for status, number in self.journal.errors.items():
            if not (status == 503 and may_be_unavailable):
                found.append(f"{number} × {status}")
        self.journal.errors.clear()
        slow = [seconds for seconds in self.stage.restarts if seconds > self.ready_seconds]
        found += [f"ready only after {seconds:.1f} s" for seconds in slow]
        self.stage.restarts.clear()
        return found

    def _log(self) -> list[str]:
        with self.log.open("rb") as log:
            log.seek(self.log_offset)
            text = log.read()
            self.log_offset = log.tell()
        number = text.count(b"deadlock detected")
        return [f"{number} deadlocks"] if number else []
