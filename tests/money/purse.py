"""The money of a wallet, written a second time: grants, holds, debt, what came and went back."""

from collections import Counter
from dataclasses import dataclass, field


@dataclass
class Grant:
    """A lot of money."""

    category: str
    amount: int
    number: int
    remaining: int = 0
    priority: int = 100
    effective: int = 0
    expires: int | None = None
    is_started: bool = False
    payment: int | None = None

    @property
    def rank(self) -> tuple[object, ...]:
        """The draw-down order."""
        expiry = (self.expires is None, self.expires or 0)
        return (self.priority, *expiry, self.category == "paid", self.number)


@dataclass
class Hold:
    """A hold of usage; open as long as it has no outcome."""

    id: str
    amount: int
    expires: int
    captured: int = 0
    outcome: str | None = None

    @property
    def held(self) -> int:
        return self.amount - self.captured if self.outcome is None else 0


@dataclass
class Reversal:
    """A refund, the total of a charge's refunds, or a dispute, as it is at one time."""

    id: str
    kind: str
    micros: int
    version: int = 0
    is_undone: bool = False
    fees: int = 0


@dataclass
class Purchase:
    """A space that was bought, and which grants paid how much of it."""

    slug: str
    pieces: list[tuple[Grant, int]]
    is_refunded: bool = False


@dataclass
class Payment:
    """Money that came, and what of it went back."""

    micros: int
    grant: Grant
    bonus: Grant | None
    refunded: int = 0
    disputed: int = 0
    bonus_returned: int = 0
    fees: int = 0


@dataclass
class TopUp:
    """A top-up as the customer asked for it, and what the provider told of its payment."""

    micros: int
    bonus: int
    status: str = "pending"
    payment: Payment | None = None
    told: dict[str, Reversal] = field(default_factory=dict)


@dataclass
class Purse:
    """Accounts hold what they were credited less what they were debited."""

    grants: list[Grant] = field(default_factory=list)
    holds: dict[str, Hold] = field(default_factory=dict)
    top_ups: dict[str, TopUp] = field(default_factory=dict)
    purchases: dict[str, Purchase] = field(default_factory=dict)
    accounts: Counter[str] = field(default_factory=Counter)
    transfers: int = 0
    freezes: int = 0

    @property
    def settled(self) -> int:
        return sum(g.remaining for g in self.grants)

    @property
    def held(self) -> int:
        return sum(h.held for h in self.holds.values())

    @property
    def available(self) -> int:
        return self.settled - self.held

    @property
    def debt(self) -> int:
        return -self.accounts["debt"]

    def expired(self, now: int) -> list[Grant]:
        due = [g for g in self.grants if g.expires is not None and g.expires <= now]
        return sorted(due, key=lambda g: (g.expires or 0, g.number))

    def holdable(self, now: int) -> int:
        """What may be held: not what has expired, whether or not it was taken yet."""
        return max(self.available - sum(g.remaining for g in self.expired(now)), 0)

    def refusal(self, micros: int, now: int) -> str | None:
        """Why so much cannot be held."""
        if self.debt:
            return "debt_outstanding"
        return None if self.holdable(now) >= micros else "insufficient_credits"

    def schedule(self, grant: Grant) -> Grant:
        self.grants.append(grant)
        return grant

    def bring(self, grant: Grant, origin: str) -> None:
        """A grant's money arrives; what is owed is repaid first."""
        self._move(origin, "wallet", grant.amount)
        grant.remaining, grant.is_started = grant.amount, True
        self._repay()

    def credit(self, micros: int, category: str, origin: str) -> Grant:
        grant = self.schedule(Grant(category, micros, len(self.grants)))
        self.bring(grant, origin)
        return grant

    def draw(self, micros: int, account: str) -> list[tuple[Grant, int]]:
        """Pay out of the grants in their order; tell how much each paid."""
        self._move("wallet", account, micros)
        pieces = []
        for grant in sorted(self.grants, key=lambda g: g.rank):
            if drawn := min(micros, grant.remaining):
                grant.remaining -= drawn
                micros -= drawn
                pieces.append((grant, drawn))
        assert micros == 0
        return pieces

    @property
    def owned(self) -> set[str]:
        return {p.slug for p in self.purchases.values() if not p.is_refunded}

    def refund(self, purchase: Purchase) -> None:
        """Give a price back, as grants of the kinds that paid it, one of each."""
        purchase.is_refunded = True
        back: dict[tuple[object, ...], Grant] = {}
        for of, micros in sorted(purchase.pieces, key=lambda piece: piece[0].number):
            kind = (of.category, of.priority, of.expires, of.payment)
            grant = back.setdefault(
                kind,
                Grant(
                    of.category,
                    0,
                    len(self.grants) + len(back),
                    priority=of.priority,
                    expires=of.expires,
                    payment=of.payment,
                ),
            )
            grant.amount += micros
        for grant in back.values():
            self._move("revenue_spaces", "wallet", grant.amount)
            grant.remaining, grant.is_started = grant.amount, True
        self.grants += back.values()
        self._repay()

    def start_grants(self, now: int) -> int:
        due = [g for g in self.grants if not g.is_started and g.effective <= now]
        for grant in due:
            self.bring(grant, "promotion")
        return len(due)

    def expire_grants(self, now: int) -> int:
        number = 0
        for grant in self.expired(now):
            micros = min(grant.remaining, self.available)
            grant.remaining -= micros
            self._move("wallet", "expired", micros)
            number += micros > 0
        return number

    def capture(self, hold: Hold, micros: int, *, is_final: bool) -> None:
        hold.captured += micros
        self.draw(micros, "revenue_usage")
        if is_final or not hold.held:
            self.close(hold, "captured")

    def close(self, hold: Hold, outcome: str) -> None:
        hold.outcome = "captured" if hold.captured else outcome
        hold.amount = hold.captured
        self._repay()

    def receive(self, top_up: TopUp, micros: int, now: int) -> None:
        """A payment arrives. The promised bonus is for the promised amount."""
        bonus = top_up.bonus if micros == top_up.micros else 0
        top_up.payment = Payment(
            micros,
            self.credit(micros, "paid", "provider_clearing"),
            self.credit(bonus, "promotional", "promotion") if bonus else None,
        )
        for grant in filter(None, (top_up.payment.grant, top_up.payment.bonus)):
            grant.payment = top_up.payment.grant.number
        self.follow(top_up, now)

    def follow(self, top_up: TopUp, now: int) -> None:
        """Take back what the provider says went back of a payment, or give it again."""
        payment, told = top_up.payment, top_up.told.values()
        if payment is None:
            return
        refunds = [r for r in told if r.kind == "refund"]
        total = max((r.micros for r in told if r.kind == "total"), default=0)
        refunded = max(total, sum(r.micros for r in refunds))
        refunded -= sum(r.micros for r in refunds if r.is_undone)
        refunded = min(max(refunded, 0), payment.micros)
        disputed = sum(r.micros for r in told if r.kind == "dispute" and not r.is_undone)
        disputed = min(disputed, payment.micros - refunded)
        bonus, gone = payment.bonus.amount if payment.bonus else 0, refunded + disputed
        bonus_returned = (2 * bonus * gone + payment.micros) // (2 * payment.micros)
        fees = sum(r.fees for r in told)

        changes = (
            (payment.grant, refunded - payment.refunded, "provider_clearing"),
            (payment.grant, disputed - payment.disputed, "provider_clearing"),
            (payment.bonus, bonus_returned - payment.bonus_returned, "promotion"),
        )
        if self.available < sum(micros for _, micros, _ in changes):
            self.freeze(now)
        was_free = not self.debt
        for grant, micros, account in changes:
            if grant is not None:
                self._take_back(grant, micros, account)
        self._repay()
        self.freezes += was_free and self.debt > 0
        self._move("provider_fees", "provider_clearing", fees - payment.fees)
        payment.refunded, payment.disputed = refunded, disputed
        payment.bonus_returned, payment.fees = bonus_returned, fees

    def freeze(self, now: int) -> None:
        """Stop whatever still spends."""

    def _take_back(self, grant: Grant, micros: int, account: str) -> None:
        """Out of one grant; what of it is spent becomes a debt. Negative: give it back."""
        if micros > 0:
            taken = min(micros, grant.remaining, self.available)
            grant.remaining -= taken
            self._move("wallet", account, taken)
            self._move("debt", account, micros - taken)
            return
        repaid = min(-micros, self.debt)
        self._move(account, "debt", repaid)
        restored = min(-micros - repaid, grant.amount - grant.remaining)
        grant.remaining += restored
        self._move(account, "wallet", restored)
        if -micros > repaid + restored:
            more = self.credit(-micros - repaid - restored, grant.category, account)
            more.payment = grant.payment

    def _repay(self) -> None:
        if (micros := min(self.debt, self.available)) > 0:
            self.draw(micros, "debt")

    def _move(self, debit: str, credit: str, micros: int) -> None:
        if micros < 0:
            debit, credit, micros = credit, debit, -micros
        self.transfers += micros > 0
        self.accounts[debit] -= micros
        self.accounts[credit] += micros
