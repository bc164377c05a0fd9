"""The ledger from outside: schema api as the functions' role; the owner only sets up and looks."""

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from itertools import count
from threading import Barrier
from typing import Any, LiteralString, TypeVar
from uuid import uuid4

import psycopg
from psycopg.types.json import Jsonb

from faregate.backends.database.postgres import call_query
from infra.local.template import Database

Row = dict[str, Any]
Result = TypeVar("Result")
Connection = psycopg.Connection[tuple[Any, ...]]

DOLLAR = 1_000_000
REGISTRATION_BONUS = 5 * DOLLAR

# Only for tests that predict to the microsecond: a clock that stands still until it is moved.
_PINNED_CLOCK: LiteralString = """
create table billing.pinned_clock (at timestamptz not null);
insert into billing.pinned_clock values ('2027-01-01T00:00:00Z');
create or replace function billing.now() returns timestamptz language sql volatile parallel safe
return (select c.at from billing.pinned_clock as c);
"""


class RefusedError(Exception):
    """A refusal with the code that the HTTP function would answer."""

    def __init__(self, state: str, code: str, detail: Mapping[str, Any]) -> None:
        super().__init__(state, code)
        self.status = int(state[2:])
        self.code = code
        self.detail = detail


@dataclass(frozen=True)
class Customer:
    """An organization and the passport that speaks for it."""

    id: str
    user_id: str
    caller: Row


@dataclass(frozen=True)
class Ledger:
    """One caller's connection, and one of the owner."""

    database: Database
    functions: Connection
    owner: Connection

    def call(self, function: LiteralString, **arguments: object) -> list[Row]:
        """Call api.<function> as the HTTP functions do."""
        query = call_query(function, tuple(arguments))
        values = {k: Jsonb(v) if isinstance(v, dict) else v for k, v in arguments.items()}
        with told():
            return [row for (row,) in self.functions.execute(query, values)]

    def call_one(self, function: LiteralString, **arguments: object) -> Row:
        (row,) = self.call(function, **arguments)
        return row

    def run(self, statement: LiteralString, *values: object) -> None:
        """Set something up as the owner."""
        self.owner.execute(statement, values)

    def fetch(self, query: LiteralString, *values: object) -> list[tuple[Any, ...]]:
        """Look at something as the owner."""
        return self.owner.execute(query, values).fetchall()

    def fetch_one(self, query: LiteralString, *values: object) -> tuple[Any, ...]:
        (row,) = self.fetch(query, *values)
        return row

    def differences(self, organization_id: str | None = None) -> list[tuple[Any, ...]]:
        return self.fetch("select * from billing.verify(%s)", organization_id)

    # The customer's side.

    def add_user(self, email: str | None = None) -> str:
        user_id = str(uuid4())
        self.run(
            "insert into auth.users (id, email, email_confirmed_at) values (%s, %s, now())",
            user_id,
            email or f"{user_id}@example.com",
        )
        return user_id

    def register(self, user_id: str | None = None, key: str | None = None) -> Customer:
        user_id = user_id or self.add_user()
        material = new_key_material()
        answer = self.call_one(
            "register",
            user_id=user_id,
            organization_name="Acme",
            idempotency_key=key or new_key(),
            **material,
        )
        organization_id = answer["registration"]["organization"]["id"]
        return Customer(organization_id, user_id, {"passport_hash": material["key_hash"]})

    def create_operator(self) -> Customer:
        material = new_key_material()
        (operator_id,) = self.fetch_one(
            "select billing.create_operator('Operator', decode(%s, 'hex'), %s)",
            material["key_hash"],
            material["key_prefix"],
        )
        return Customer(str(operator_id), "", {"passport_hash": material["key_hash"]})

    def register_customer(self, operator: Customer, email: str, plan_id: str) -> Customer:
        material = new_key_material()
        answer = self.call_one(
            "register_customer",
            caller=operator.caller,
            email=email,
            plan_id=plan_id,
            organization_name="Acme",
            is_invited=False,
            idempotency_key=new_key(),
            **material,
        )
        organization_id = answer["registration"]["organization"]["id"]
        return Customer(organization_id, "", {"passport_hash": material["key_hash"]})

    def ask_top_up(self, customer: Customer, micros: int, key: str | None = None) -> Row:
        return self.call_one(
            "create_top_up",
            caller=customer.caller,
            amount_micros=micros,
            save_card=False,
            idempotency_key=key or new_key(),
        )

    def deliver(self, event: Row) -> Row:
        return self.call_one("receive_stripe_event", event=event, account=None, live_mode=False)

    def credit(self, customer: Customer, micros: int) -> None:
        top_up = self.ask_top_up(customer, micros)["top_up"]
        assert self.deliver(checkout_event(top_up))["outcome"] == "credited"

    def start(
        self,
        customer: Customer,
        tier: str = "small",
        *,
        max_seconds: int | None = None,
        heartbeat_timeout_seconds: int | None = None,
        key: str | None = None,
    ) -> Row:
        return self.call_one(
            "start_session",
            caller=customer.caller,
            tier=tier,
            preset=None,
            name=None,
            workspace_id=None,
            max_seconds=max_seconds,
            heartbeat_timeout_seconds=heartbeat_timeout_seconds,
            idempotency_key=key or new_key(),
        )

    def stop(
        self, customer: Customer, session_id: str, reason: str = "stopped", key: str | None = None
    ) -> Row:
        return self.call_one(
            "stop_session",
            caller=customer.caller,
            session_id=session_id,
            reason=reason,
            idempotency_key=key or new_key(),
        )

    def session(self, customer: Customer, session_id: str) -> Row:
        return self.call_one("get_session", caller=customer.caller, session_id=session_id)

    def wallet(self, customer: Customer) -> Row:
        return self.call_one("get_wallet", caller=customer.caller)

    def sweep(self, limit: int = 1000) -> Row:
        return self.call_one("sweep_sessions", limit=limit)

    # The operator's side.

    def open_hold(self, customer: Customer, micros: int, seconds: int = 600) -> Row:
        return self.call_one(
            "open_hold",
            caller=self.create_operator().caller,
            organization_id=customer.id,
            amount_micros=micros,
            expires_in_seconds=seconds,
            description=None,
            idempotency_key=new_key(),
        )

    def capture(self, customer: Customer, micros: int) -> None:
        """Let a customer spend so much at once."""
        hold = self.open_hold(customer, micros)["hold"]
        self.call_one(
            "capture_hold",
            caller=self.create_operator().caller,
            organization_id=customer.id,
            hold_id=hold["id"],
            amount_micros=micros,
            is_final=True,
            idempotency_key=new_key(),
        )

    # The platform's side.

    def advance(self, seconds: float) -> None:
        """Move the sandbox's clock; backwards, too."""
        self.run("update billing.clock_offset set seconds = seconds + %s", seconds)

    def pin_clock(self) -> None:
        self.run(_PINNED_CLOCK)

    def move_pinned_clock(self, microseconds: int) -> None:
        self.run(
            "update billing.pinned_clock set at = at + %s * interval '1 microsecond'", microseconds
        )

    def set_price(self, plan_id: str, tier: str, hourly_micros: int) -> None:
        self.run(
            "insert into billing.prices (plan_id, sku, unit, price_micros, effective_at)"
            " values (%s, %s, 'hour', %s, '2026-06-01')",
            plan_id,
            f"session.{tier}",
            hourly_micros,
        )

    # Many at once.

    def race(
        self, jobs: Sequence[Callable[["Ledger"], Result]], threads: int = 20
    ) -> list[Result | RefusedError]:
        """Do every job, in threads with connections of their own that start together."""
        threads = min(threads, len(jobs))
        barrier = Barrier(threads)

        def work(number: int, ledger: Ledger) -> list[Result | RefusedError]:
            done: list[Result | RefusedError] = []
            barrier.wait(timeout=300)
            for job in jobs[number::threads]:
                try:
                    done.append(job(ledger))
                except RefusedError as refusal:
                    done.append(refusal)
            return done

        # All are connected before the first waits for the others.
        with ExitStack() as stack, ThreadPoolExecutor(threads) as pool:
            ledgers = [stack.enter_context(_connect(self.database)) for _ in range(threads)]
            return [result for each in pool.map(work, range(threads), ledgers) for result in each]


@contextmanager
def told() -> Iterator[None]:
    """Raise what the database refuses as a refusal."""
    try:
        yield
    except psycopg.Error as error:
        state = error.sqlstate or ""
        if not state.startswith("FG"):
            raise
        detail = json.loads(error.diag.message_detail or "{}")
        raise RefusedError(state, error.diag.message_primary or "", detail) from error


@contextmanager
def open_ledger(database: Database) -> Iterator[Ledger]:
    with _connect(database) as ledger:
        # What comes with a registration besides money is made by tasks that nobody runs here.
        ledger.run("update billing.plans set has_identity = false, initial_storage_gb = 0")
        yield ledger


@contextmanager
def _connect(database: Database) -> Iterator[Ledger]:
    with (
        psycopg.connect(database.functions_url, autocommit=True) as functions,
        psycopg.connect(database.owner_url, autocommit=True) as owner,
    ):
        yield Ledger(database, functions, owner)


_numbers = count(1)


def new_key() -> str:
    return f"key-{next(_numbers)}"


def new_key_material() -> Row:
    """Make what is stored of a passport's key: nobody needs the key itself here."""
    return {"key_hash": hashlib.sha256(uuid4().bytes).hexdigest(), "key_prefix": "fg_live_test"}


def checkout_event(top_up: Row, kind: str = "completed", **changes: object) -> Row:
    """Make the notification that Stripe sends about the checkout of a top-up."""
    checkout = {
        "id": f"cs_{top_up['id']}",
        "client_reference_id": top_up["id"],
        "metadata": {"organization_id": top_up["organization_id"]},
        "payment_status": "paid",
        "payment_intent": f"pi_{top_up['id']}",
        "currency": "usd",
        "amount_total": top_up["amount_micros"] // 10_000,
        **changes,
    }
    return {
        "id": f"evt_{uuid4().hex}",
        "type": f"checkout.session.{kind}",
        "livemode": False,
        "data": {"object": checkout},
    }
