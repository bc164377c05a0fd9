"""An operator's desk: holds and grants of customers, through any connection to the ledger."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import LiteralString

from tests.money.ledger import Customer, Ledger, Row, new_key


@dataclass(frozen=True)
class Desk:
    """One operator, who acts for one customer."""

    operator: Customer
    customer: Customer

    def call(self, ledger: Ledger, function: LiteralString, **arguments: object) -> Row:
        key = arguments.pop("idempotency_key", None) or new_key()
        return ledger.call_one(
            function,
            caller=self.operator.caller,
            organization_id=self.customer.id,
            idempotency_key=key,
            **arguments,
        )

    def open(self, ledger: Ledger, micros: int, seconds: int = 600, **arguments: object) -> Row:
        arguments = {"description": None} | arguments
        answer = self.call(
            ledger, "open_hold", amount_micros=micros, expires_in_seconds=seconds, **arguments
        )
        hold: Row = answer["hold"]
        return hold

    def capture(
        self, ledger: Ledger, hold: Row, micros: int, *, is_final: bool, **arguments: object
    ) -> Row:
        answer = self.call(
            ledger,
            "capture_hold",
            hold_id=hold["id"],
            amount_micros=micros,
            is_final=is_final,
            **arguments,
        )
        captured: Row = answer["hold"]
        return captured

    def release(self, ledger: Ledger, hold: Row) -> Row:
        released: Row = self.call(ledger, "release_hold", hold_id=hold["id"])["hold"]
        return released

    def renew(self, ledger: Ledger, hold: Row, micros: int, seconds: int) -> Row:
        answer = self.call(
            ledger,
            "renew_hold",
            hold_id=hold["id"],
            amount_micros=micros,
            expires_in_seconds=seconds,
        )
        renewed: Row = answer["hold"]
        return renewed

    def hold(self, ledger: Ledger, hold: Row) -> Row:
        return ledger.call_one(
            "get_hold", caller=self.customer.caller, organization_id=None, hold_id=hold["id"]
        )

    def give(
        self,
        ledger: Ledger,
        micros: int,
        *,
        effective_in: int | None = None,
        expires_in: int | None = None,
        **arguments: object,
    ) -> Row:
        """Give credits; the times are seconds from now."""
        (now,) = ledger.fetch_one("select billing.now()")
        arguments = {"note": "for a test", "priority": 100} | arguments
        answer = self.call(
            ledger,
            "create_grant",
            amount_micros=micros,
            effective_at=_later(now, effective_in),
            expires_at=_later(now, expires_in),
            **arguments,
        )
        grant: Row = answer["credit_grant"]
        return grant

    def grants(self, ledger: Ledger, status: str | None = None) -> list[Row]:
        """Give the customer's grants, oldest first."""
        rows = ledger.call(
            "list_grants",
            caller=self.customer.caller,
            organization_id=None,
            status=status,
            limit=100,
            cursor=None,
        )
        return rows[::-1]

    def spend(self, ledger: Ledger, micros: int) -> None:
        """Let the customer use so much at once."""
        self.capture(ledger, self.open(ledger, micros), micros, is_final=True)


def _later(now: datetime, seconds: int | None) -> datetime | None:
    return None if seconds is None else now + timedelta(seconds=seconds)
