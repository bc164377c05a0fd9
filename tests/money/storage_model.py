"""What accrual does, said again in whole microseconds and µ$."""

from dataclasses import dataclass, field
from fractions import Fraction
from math import floor

SECOND = 1_000_000
HOUR = 3600 * SECOND
DAY = 24 * HOUR
MONTH = 730 * HOUR
GB = 2**30

WINDOW = DAY
# Of the plan free: how long each step lasts, and which follows.
STEPS = {
    "grace": (3 * DAY, "read_only"),
    "read_only": (7 * DAY, "deletion_notice"),
    "deletion_notice": (7 * DAY, "deleting"),
}


def rounded(amount: Fraction) -> int:
    """Round half up."""
    return floor(amount + Fraction(1, 2))


@dataclass
class Model:
    """A bucket of an organization that has nothing else. Times are in µs."""

    prices: dict[int, int]
    now: int
    settled: int
    gb: int
    included: int
    used: int = 0
    status: str = "ready"
    since: int = 0
    # From when on it was charged for how many GB at the price of when.
    periods: list[tuple[int, int, int]] = field(default_factory=list)
    captured: int = 0
    captured_until: int = 0
    held: int = 0
    paid_until: int = 0
    due: int = 0

    def start(self) -> None:
        self.since = self.captured_until = self.now
        self._enter()
        self.settle()

    def price_at(self, at: int) -> int:
        """Tell since when the price counts that counts at a moment."""
        return max(effective for effective in self.prices if effective <= at)

    def _begin(self, at: int, gb: int, price: int) -> None:
        if self.periods:
            start, *last = self.periods[-1]
            if last == [gb, price]:
                return
            if at <= start:
                at = start
                self.periods.pop()
        self.periods.append((at, gb, price))

    def _enter(self) -> int:
        at = max(self.now, self.captured_until)
        if self.periods:
            _, gb, price = self.periods[-1]
            for effective in sorted(self.prices):
                if price < effective <= at:
                    self._begin(max(effective, self.captured_until), gb, effective)
        gb = max(self.gb, -(-self.used // GB)) - self.included
        self._begin(at, max(gb, 0), self.price_at(at))
        return at

    def cost(self, until: int) -> int:
        ends = [*(start for start, _, _ in self.periods[1:]), until]
        return rounded(
            Fraction(
                sum(
                    gb * self.prices[price] * max(min(end, until) - start, 0)
                    for (start, gb, price), end in zip(self.periods, ends, strict=True)
                ),
                MONTH,
            )
        )

    def settle(self) -> None:
        at = self._enter()
        owed = self.cost(at) - self.captured
        assert owed >= 0
        _, gb, price = self.periods[-1]
        ahead = rounded(Fraction(gb * self.prices[price] * WINDOW, MONTH))
        paid = min(owed, self.settled)
        kept = min(ahead, self.settled - paid)
        is_covered = (paid, kept) == (owed, ahead)
        if is_covered:
            self.paid_until = at + WINDOW
        elif paid < owed:
            self.paid_until = min(self.paid_until, at)
        else:
            self.paid_until = at + WINDOW // SECOND * kept // ahead * SECOND
        self.due = at + WINDOW // 2 if is_covered else max(self.paid_until, at + HOUR // 2)
        self.settled -= paid
        self.captured += paid
        self.captured_until = at
        self.held = kept
        self._step(at, is_paid=paid == owed, is_covered=is_covered)

    def _step(self, at: int, *, is_paid: bool, is_covered: bool) -> None:
        before = self.status
        if before == "ready":
            self.status = "ready" if is_paid else "grace"
        elif is_covered:
            self.status = "ready"
        elif at >= self.since + STEPS[before][0]:
            self.status = STEPS[before][1]
        if self.status != before:
            self.since = self.now
        if self.status == "deleting":
            self.held = 0

    def resize(self, gb: int) -> None:
        self.gb = gb
        self.settle()

    def measure(self, used: int) -> None:
        self.used = used
        self._enter()

    def accrue(self) -> None:
        if self.due <= self.now:
            self.settle()

    def end(self) -> None:
        at = self._enter()
        paid = min(self.cost(at) - self.captured, self.settled)
        self.settled -= paid
        self.captured += paid
        self.status, self.held = "deleting", 0
