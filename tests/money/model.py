"""What sessions do to a wallet, written a second time: whole numbers, one after another."""

from dataclasses import dataclass, field

from tests.money.purse import TopUp
from tests.money.stored import Cellar

HOUR = 3_600_000_000  # time is in microseconds
SECOND = 1_000_000


def cost(price: int, microseconds: int) -> int:
    """Exact duration × hourly price, rounded half up to µ$."""
    return max((2 * price * microseconds + HOUR) // (2 * HOUR), 0)


def affordable(price: int, micros: int) -> int:
    """The most whole seconds whose cost, rounded, is covered; in microseconds."""
    return (-(-(2 * micros + 1) * 3600 // (2 * price)) - 1) * SECOND


@dataclass
class Session:
    """A session and its hold."""

    id: str
    price: int
    window: int
    started: int
    expires: int | None
    timeout: int | None
    heartbeat: int
    amount: int
    captured_until: int
    paid_until: int
    is_final: bool
    due: int | None
    captured: int = 0
    ended: int | None = None
    reason: str | None = None

    @property
    def lost(self) -> int | None:
        return None if self.timeout is None else self.heartbeat + self.timeout

    def cost_at(self, moment: int) -> int:
        return cost(self.price, moment - self.started)


def _target(s: Session, at: int, stop_reason: str | None) -> tuple[int, int | None]:
    """Until when a session wants to be paid, and where it ends in any case."""
    overdue = s.lost if s.lost is not None and s.lost <= at else None
    limit = min((x for x in (s.expires, overdue) if x is not None), default=None)
    target = at if stop_reason else at + s.window
    return (target if limit is None else min(target, limit)), limit


@dataclass
class Wallet(Cellar):
    """One organization."""

    sessions: dict[str, Session] = field(default_factory=dict)
    foreseen: set[tuple[str, int]] = field(default_factory=set)

    @property
    def held(self) -> int:
        return super().held + sum(s.amount - s.captured for s in self.running)

    @property
    def running(self) -> list[Session]:
        return [s for s in self.sessions.values() if s.due is not None]

    def pay(self, top_up: TopUp, kind: str, micros: int | None, now: int) -> str:
        """Tell the outcome of an event; micros is what was paid, if it was."""
        if top_up.status == "paid":
            return "already_credited"
        if kind in ("expired", "async_payment_failed") or micros is None:
            status = {"expired": "expired", "async_payment_failed": "failed"}.get(
                kind, "processing"
            )
            if top_up.status in ("pending", "processing"):
                top_up.status = status
            return {"expired": "checkout_expired", "failed": "payment_failed"}.get(
                status, "awaiting_payment"
            )
        top_up.status, self.plan = "paid", "pro"
        self.receive(top_up, micros, now)
        return "credited"

    def open(self, session: Session) -> None:
        self.sessions[session.id] = session
        self._foresee(session)

    def stop(self, sessions: list[Session], now: int, reason: str) -> None:
        """End sessions now, unless they should have ended before."""
        self.settle({s.id for s in sessions if s.due is not None and s.due <= now}, now)
        self.settle({s.id for s in sessions if s.due is not None}, now, reason)

    def freeze(self, now: int) -> None:
        self.stop(self.running, now, "frozen")

    def settle(self, ids: set[str], now: int, stop_reason: str | None = None) -> int:
        """Settle these sessions in one go; give the number that ended."""
        left = self.available
        wanted = []
        for session in (self.sessions[i] for i in ids):
            target, limit = _target(session, max(now, session.captured_until), stop_reason)
            missing = session.cost_at(target) - session.amount
            wanted.append((missing > 0, session.id, missing, target, limit))
        for _, session_id, missing, target, limit in sorted(wanted, key=lambda w: w[:2]):
            session = self.sessions[session_id]
            funded = session.amount + min(missing, max(left, 0))
            self._settle(
                session, max(now, session.captured_until), target, limit, funded, stop_reason
            )
            left -= missing
        return sum(self.sessions[i].ended is not None for i in ids)

    def _settle(
        self,
        s: Session,
        at: int,
        target: int,
        limit: int | None,
        funded: int,
        stop_reason: str | None,
    ) -> None:
        """Settle one session with so much money."""
        is_covered = funded >= s.cost_at(target)
        end = target if is_covered else max(s.paid_until, s.started + affordable(s.price, funded))
        self.draw(s.cost_at(min(at, end)) - s.captured, "revenue_sessions")
        s.captured = s.cost_at(min(at, end))
        s.captured_until = min(at, end)
        s.is_final = not is_covered or end == limit
        s.paid_until = end
        s.amount = s.cost_at(target) if is_covered else funded
        if end <= at:
            s.amount, s.due, s.ended = s.captured, None, end
            s.reason = (
                "exhausted"
                if not is_covered
                else {s.expires: "expired", s.lost: "lost"}.get(end, stop_reason)
            )
        else:
            due = end if s.is_final else end - s.window // 2
            s.due = due if s.lost is None else min(due, s.lost)
        self._foresee(s)

    def _foresee(self, session: Session) -> None:
        """A session whose end is known has a task for that second."""
        if session.due is not None and session.is_final:
            self.foreseen.add((session.id, session.paid_until))
