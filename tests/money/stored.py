"""What rented storage does to a wallet, written a second time: whole numbers, one by one."""

from dataclasses import dataclass, field
from typing import ClassVar

from tests.money.purse import Purse

SECOND = 1_000_000  # time is in microseconds
MONTH = 730 * 3600 * SECOND
# How long each step lasts when the money has run out.
STEPS = {"grace": 6000 * SECOND, "read_only": 5000 * SECOND, "deletion_notice": 4000 * SECOND}
_NEXT = {"grace": "read_only", "read_only": "deletion_notice", "deletion_notice": "deleted"}


def months(gb_micros: int) -> int:
    """GB × microseconds × price as µ$, rounded half up."""
    return (2 * gb_micros + MONTH) // (2 * MONTH)


@dataclass
class Period:
    """So many GB at a price, from a moment on."""

    start: int
    gb: int
    price: int
    end: int | None = None

    def gb_micros(self, until: int) -> int:
        end = until if self.end is None else min(self.end, until)
        return self.gb * self.price * max(end - self.start, 0)


@dataclass
class Stored:
    """A bucket and its hold."""

    id: str
    gb: int
    amount: int
    asked: int
    status: str = "requested"
    since: int = 0
    captured: int = 0
    captured_until: int = 0
    paid_until: int = 0
    is_final: bool = False
    due: int | None = 0
    periods: list[Period] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.since = self.captured_until = self.asked
        self.paid_until = self.due = self.asked + 3600 * SECOND

    @property
    def held(self) -> int:
        return self.amount - self.captured

    def cost_at(self, moment: int) -> int:
        return months(sum(period.gb_micros(moment) for period in self.periods))

    def enter(self, at: int, price: int) -> None:
        """From now on it is charged like this."""
        last = self.periods[-1] if self.periods else None
        if last and (last.gb, last.price) == (self.gb, price):
            return
        if last:
            last.end = at
            if last.start == at:
                self.periods.pop()
        self.periods.append(Period(at, self.gb, price))

    def become(self, status: str, now: int) -> None:
        self.status, self.since = status, now


@dataclass
class Cellar(Purse):
    """The storage of one organization."""

    windows: ClassVar[dict[str, int]]
    gb_prices: ClassVar[dict[str, int]]

    plan: str = "free"
    stored: dict[str, Stored] = field(default_factory=dict)

    @property
    def held(self) -> int:
        return super().held + sum(s.held for s in self.kept)

    @property
    def kept(self) -> list[Stored]:
        return [s for s in self.stored.values() if s.due is not None]

    def window_cost(self, gb: int, price: int) -> int:
        return months(gb * price * self.windows[self.plan])

    def make(self, s: Stored, now: int) -> None:
        """The cloud has it."""
        s.become("ready", now)
        s.captured_until = now
        self.accrue(s, now)

    def grow(self, s: Stored, gb: int, now: int) -> None:
        """The cloud has given it another size."""
        self.accrue(s, now)
        s.gb = gb
        self.accrue(s, now)

    def accrue(self, s: Stored, now: int) -> None:
        """Charge and renew what is there; give up what never came."""
        if s.due is None:
            return
        if not s.periods and s.status == "requested":
            self.give_up(s, now, "failed")
            return
        at, window = max(now, s.captured_until), self.windows[self.plan]
        s_price = self.gb_prices[self.plan]
        self._charge(s, now, self.window_cost(s.gb, s_price))
        is_paid, is_covered = s.captured == s.cost_at(at), not s.is_final
        s.due = at + (window // 2 if is_covered else max(s.paid_until - at, 1800 * SECOND))
        if s.status == "ready" and not is_paid:
            s.become("grace", now)
        elif s.status in _NEXT and is_covered:
            s.become("ready", now)
        elif s.status in _NEXT and at >= s.since + STEPS[s.status]:
            if s.status == "deletion_notice":
                self.give_up(s, now, "deleted")
            else:
                s.become(_NEXT[s.status], now)

    def give_up(self, s: Stored, now: int, status: str) -> None:
        """Charge it up to now and never again."""
        if s.due is None:
            return
        self._charge(s, now, 0)
        if s.periods:
            s.periods[-1].end = max(s.periods[-1].start, s.captured_until)
        s.amount, s.due = s.captured, None
        s.become(status, now)
        self._repay()

    def _charge(self, s: Stored, now: int, ahead: int) -> None:
        self.expire_grants(now)
        at, window = max(now, s.captured_until), self.windows[self.plan]
        if s.status != "requested":
            s.enter(at, self.gb_prices[self.plan])
        free = 0 if self.debt else self.available
        owed = s.cost_at(at) - s.captured
        paid = min(owed, s.held + free)
        kept = min(ahead, s.held + free - paid)
        s.is_final = not (paid == owed and kept == ahead)
        if not s.is_final:
            s.paid_until = at + window
        elif paid < owed:
            s.paid_until = min(s.paid_until, at)
        else:
            s.paid_until = at + window // SECOND * kept // ahead * SECOND
        s.captured += paid
        s.amount = s.captured + kept
        s.captured_until = at
        self.draw(paid, "revenue_storage")
        self._repay()
