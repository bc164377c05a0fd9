"""Closing an organization: everything is settled, nothing starts, its people still read."""

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any

import httpx
import pytest

from tests.harness.answers import done, problem
from tests.harness.auto_top_ups import AutoTopUps
from tests.harness.client import Load
from tests.harness.platform import Organization, Platform, User
from tests.harness.postgrest import Rest
from tests.harness.stripe_events import Stripe, event, paid

FORFEIT = {"forfeit_balance": True}


class Shop:
    """An organization on the free plan, its owner, and everybody who deals with it."""

    def __init__(self, platform: Platform, function: Load) -> None:
        self.platform, self.function = platform, cache(function)
        self.client = self.function("organizations")
        self.operator = platform.operator()
        self.customer = platform.organization()
        self.owner = self.join("owner")
        self.stripe = Stripe(platform, function("credits"), function("stripe_webhook"))

    def join(self, role: str) -> User:
        user = self.platform.user()
        self.platform.join(user, self.customer, role)
        return user

    def close(
        self, body: object = None, by: User | None = None, repeat: str = ""
    ) -> httpx.Response:
        path = f"/v1/organizations/{self.customer.id}/close"
        return self.client.post(path, body, by=(by or self.owner).token, repeat=repeat)

    def start(self) -> httpx.Response:
        sessions = self.function("sessions")
        return sessions.post("/v1/sessions", {"tier": "small"}, by=self.customer.passport)

    def pay(self, usd: str = "25.00") -> dict[str, Any]:
        """Buy credits; give the checkout as it was paid."""
        told = paid(self.stripe.buy(self.customer, usd))
        done(self.stripe.tell(told))
        checkout: dict[str, Any] = told["data"]["object"]
        return checkout

    def grant(self, **more: object) -> httpx.Response:
        body = {"organization_id": self.customer.id, "amount": "3.00", "note": "sorry"} | more
        return self.function("grants").post("/v1/grants", body, by=self.operator.passport)

    def hold(self, usd: str, seconds: int = 600) -> dict[str, Any]:
        body = {"organization_id": self.customer.id, "amount": usd, "expires_in_seconds": seconds}
        return done(self.function("holds").post("/v1/holds", body, by=self.operator.passport), 201)

    def capture(self, usd: str) -> None:
        body = {"organization_id": self.customer.id, "amount": usd}
        path = f"/v1/holds/{self.hold(usd)['id']}/capture"
        done(self.function("holds").post(path, body, by=self.operator.passport))

    def cron(self, name: str) -> dict[str, Any]:
        path, token = f"/schedules/{name.replace('_', '-')}", self.platform.cloud.invoker_token()
        return done(self.function(name).post(path, by=token))

    def is_closed(self) -> bool:
        return bool(
            self.platform.value(
                "select closed_at is not null from billing.organizations where id = %s",
                self.customer.id,
            )
        )

    def ledger(self) -> list[tuple[Any, ...]]:
        """Tell where money went, oldest first."""
        return self.platform.fetch(
            "select reason::text, credit_account::text, amount_micros from billing.transfers"
            " where organization_id = %s and debit_account = 'wallet' order by sequence",
            self.customer.id,
        )


@pytest.fixture
def shop(platform: Platform, function: Load) -> Shop:
    return Shop(platform, function)


def _in(hours: float) -> str:
    return (datetime.now(UTC) + timedelta(hours=hours)).isoformat()


def test_what_runs_is_charged_and_everything_ends(shop: Shop) -> None:
    shop.platform.give(shop.customer.id, 5_000_000)
    session = done(shop.start(), 201)
    shop.platform.advance(240)
    answer = done(shop.close())
    assert answer["id"] == shop.customer.id
    assert answer["closed_at"] is not None
    (close_reason, charged) = shop.platform.fetch(
        "select close_reason, captured_micros from billing.sessions"
        " inner join billing.holds using (organization_id, id) where id = %s",
        session["id"],
    )[0]
    assert close_reason == "stopped"
    assert 3_333 <= charged <= 3_400  # 4 minutes at 0.05 USD an hour
    assert shop.ledger() == [
        ("session", "revenue_sessions", charged),
        ("expiry", "expired", 5_000_000 - charged),
    ]
    assert shop.platform.wallet(shop.customer) == (0, 0)
    problem(shop.start(), 401, "invalid_passport")
    living = "select count(*) from billing.passports where organization_id = %s"
    assert shop.platform.value(living + " and revoked_at is null", shop.customer.id) == 0
    assert shop.platform.fetch(
        "select actor, detail from billing.audit_log where action = 'close_organization'"
    ) == [(f"user:{shop.owner.id}", {"forfeited_micros": 5_000_000 - charged})]


def test_the_same_key_closes_once(shop: Shop) -> None:
    first = shop.close({}, repeat="close-12345")
    again = shop.close({}, repeat="close-12345")
    assert done(first) == done(again)
    assert again.headers["idempotent-replayed"] == "true"
    problem(shop.close(FORFEIT, repeat="close-12345"), 409, "idempotency_conflict")
    problem(shop.close(), 409, "organization_closed")


@pytest.mark.parametrize("role", ["admin", "member"])
def test_only_owners_close(shop: Shop, role: str) -> None:
    user = shop.join(role)
    before = shop.platform.contents()
    assert problem(shop.close(by=user), 403, "role_required")["role"] == "owner"
    problem(shop.close(by=shop.platform.user()), 404, "organization_not_found")
    assert shop.platform.contents() == before


def _storage(shop: Shop, storage_id: str) -> tuple[str, bool]:
    """Tell what became of storage, and whether a task is to make the cloud so."""
    ((status, is_driven),) = shop.platform.fetch(
        "select s.status::text, o.acknowledged_at is null from billing.storage as s"
        " inner join billing.outbox as o on o.organization_id = s.organization_id"
        " and o.id = s.task_id where s.id = %s",
        storage_id,
    )
    return status, is_driven


def test_storage_is_deleted_expressly(shop: Shop) -> None:
    shop.platform.give(shop.customer.id, 4_000_000)
    storage_id = shop.platform.rent(shop.customer, 73)
    # What the cloud has of it is the provisioning's to say.
    shop.platform.run("update billing.storage set is_absent = false")
    shop.platform.advance(5 * 3600)
    before = shop.platform.contents()
    for body in (None, {"delete_storage": False}, FORFEIT):
        assert problem(shop.close(body), 409, "storage_left")["count"] == 1
    assert shop.platform.contents() == before
    done(shop.close({"delete_storage": True}))
    assert _storage(shop, storage_id) == ("deleting", True)
    (charge, rest) = shop.ledger()
    assert charge[:2] == ("storage", "revenue_storage")
    assert 10_000 <= charge[2] <= 10_100  # 73 GB for 5 hours at 0.02 USD for 730
    assert rest == ("expiry", "expired", 4_000_000 - charge[2])
    assert shop.platform.wallet(shop.customer) == (0, 0)


def test_storage_that_is_not_there_yet_or_no_more_is_not_left(shop: Shop) -> None:
    shop.platform.give(shop.customer.id, 4_000_000)
    asked = shop.platform.rent(shop.customer, 5, is_made=False)
    given_back = shop.platform.rent(shop.customer, 5)
    shop.platform.run(
        "select billing.end_storage(%s, %s, 'deleting', null)", shop.customer.id, given_back
    )
    done(shop.close())
    assert {_storage(shop, each)[0] for each in (asked, given_back)} == {"deleted"}
    assert shop.platform.wallet(shop.customer) == (0, 0)


def test_paid_credits_are_given_up_expressly(shop: Shop) -> None:
    shop.platform.give(shop.customer.id, 4_000_000)
    shop.pay("25.00")
    shop.capture("6.00")  # the promotional ones, and 2 USD of the paid ones
    refusal = problem(shop.close(), 409, "balance_left")
    assert refusal["available"] == "23.000000"
    done(shop.start(), 201)
    before = shop.platform.contents()
    problem(shop.close({"forfeit_balance": False}), 409, "balance_left")
    assert shop.platform.contents() == before
    assert shop.platform.wallet(shop.customer)[1] > 0  # the session runs on
    done(shop.close(FORFEIT))
    spent = sum(amount for _, account, amount in shop.ledger() if account != "expired")
    expired = sum(amount for _, account, amount in shop.ledger() if account == "expired")
    assert spent + expired == 29_000_000
    assert shop.platform.wallet(shop.customer) == (0, 0)
    path = "/v1/statements"
    statement = done(shop.function("statements").get(path, by=shop.owner.token))
    assert statement["closing"] == "0.000000"


def test_an_open_hold_keeps_it_open(shop: Shop) -> None:
    shop.platform.give(shop.customer.id, 5_000_000)
    hold = shop.hold("1.00", seconds=60)
    before = shop.platform.contents()
    problem(shop.close(FORFEIT), 409, "holds_open")
    assert shop.platform.contents() == before
    shop.platform.advance(61)  # no cron has been there
    done(shop.close())
    path = f"/v1/holds/{hold['id']}?organization_id={shop.customer.id}"
    found = done(shop.function("holds").get(path, by=shop.operator.passport))
    assert found["status"] == "expired"


def test_a_debt_keeps_it_open(shop: Shop) -> None:
    checkout = shop.pay("10.00")
    shop.capture("10.00")
    refund = {
        "id": "re_closing",
        "object": "refund",
        "amount": 1000,
        "currency": "usd",
        "status": "succeeded",
        "payment_intent": checkout["payment_intent"],
        "charge": None,
    }
    done(shop.stripe.tell(event("refund.created", refund)))
    before = shop.platform.contents()
    refusal = problem(shop.close(FORFEIT), 402, "debt_outstanding")
    assert refusal["debt"] == "10.000000"
    assert shop.platform.contents() == before


def test_a_card_that_is_being_charged_keeps_it_open(platform: Platform, function: Load) -> None:
    parts, shop = AutoTopUps(platform, function), Shop(platform, function)
    shop.customer = parts.ready()
    shop.owner = shop.join("owner")
    task = parts.begin(shop.customer)
    before = platform.contents()
    problem(shop.close(FORFEIT), 409, "top_up_under_way")
    assert platform.contents() == before
    done(parts.work(task))
    done(shop.close(FORFEIT))
    assert platform.value("select count(*) from billing.auto_top_ups") == 0
    platform.advance(90 * 24 * 3600)
    assert parts.start() == 0
    assert len(parts.charges(shop.customer)) == 1


def test_automatic_top_ups_that_never_began_end(platform: Platform, function: Load) -> None:
    parts, shop = AutoTopUps(platform, function), Shop(platform, function)
    shop.customer = parts.ready()
    shop.owner = shop.join("owner")
    done(shop.close(FORFEIT))
    assert parts.start() == 0
    body = {"threshold": "5", "amount": "25.00", "monthly_cap": "100"}
    settings = function("auto_top_up")
    refusal = settings.request("PUT", "/v1/credits/auto-top-up", by=shop.owner.token, json=body)
    problem(refusal, 409, "organization_closed")


def test_what_was_promised_for_later_never_comes(shop: Shop) -> None:
    done(shop.grant(effective_at=_in(1)), 201)
    done(shop.grant(effective_at=_in(2), expires_at=_in(3)), 201)
    done(shop.grant(expires_at=_in(5)), 201)
    done(shop.close())
    problem(shop.grant(), 409, "organization_closed")
    problem(shop.grant(effective_at=_in(1)), 409, "organization_closed")
    before = shop.platform.contents()
    shop.platform.advance(24 * 3600)
    for name in ("expire_grants", "expire_holds", "sweep_sessions", "start_auto_top_ups"):
        shop.cron(name)
    assert shop.platform.contents() | {"clock_offset": 0} == before | {"clock_offset": 0}


def test_its_people_only_read(shop: Shop, rest: Rest) -> None:
    shop.platform.give(shop.customer.id, 1_000_000)
    member, other = shop.join("member"), shop.join("admin")
    done(shop.close())
    for user in (shop.owner, other, member):
        balance = done(shop.function("credits").get("/v1/credits", by=user.token))
        assert balance["settled"] == "0.000000"
        for name, path, body in (
            ("sessions", "/v1/sessions", {"tier": "small"}),
            ("passports", "/v1/passports", {"name": "CI", "permissions": ["read"]}),
        ):
            problem(shop.function(name).post(path, body, by=user.token), 403, "permission_denied")
        buy = shop.function("credits").post(
            "/v1/credits/checkout", {"amount": "10.00"}, by=user.token
        )
        bought = shop.function("credits").get("/v1/credits/top-ups", by=user.token)
        if user is member:
            problem(buy, 403, "permission_denied")
            problem(bought, 403, "permission_denied")
        else:
            problem(buy, 409, "organization_closed")
            assert done(bought)["data"] == []
        (row,) = rest.rows("organizations", by=user.token)
        assert row["closed_at"] is not None
        assert len(rest.rows("transactions", by=user.token)) == 2
    path = f"/v1/organizations/{shop.customer.id}"
    person = f"{path}/members/{member.id}"
    for answer in (
        shop.client.request("PATCH", path, by=shop.owner.token, json={"name": "New"}),
        shop.client.request("PUT", person, by=shop.owner.token, json={"role": "admin"}),
    ):
        problem(answer, 409, "organization_closed")
    assert len(done(shop.client.get(f"{path}/members", by=member.token))["data"]) == 3
    assert done(shop.client.get(path, by=member.token))["role"] == "member"


def test_nobody_need_stay_in_it(shop: Shop) -> None:
    member, other = shop.join("member"), shop.join("admin")
    done(shop.close())
    path = f"/v1/organizations/{shop.customer.id}/members"
    assert shop.client.request("DELETE", f"{path}/{member.id}", by=member.token).is_success
    assert shop.client.request("DELETE", f"{path}/{other.id}", by=shop.owner.token).is_success
    problem(shop.client.get(path, by=member.token), 404, "organization_not_found")
    last = shop.client.request("DELETE", f"{path}/{shop.owner.id}", by=shop.owner.token)
    problem(last, 409, "last_owner")


def test_it_is_not_meant_where_another_is_open(shop: Shop) -> None:
    credits_ = shop.function("credits")
    done(shop.close())
    another = shop.platform.organization(usd=7)
    shop.platform.join(shop.owner, another, "owner")
    assert done(credits_.get("/v1/credits", by=shop.owner.token))["settled"] == "7.000000"
    named = {"Faregate-Organization": shop.customer.id}
    answer = credits_.get("/v1/credits", by=shop.owner.token, headers=named)
    assert done(answer)["settled"] == "0.000000"
    shop.platform.join(shop.owner, shop.platform.organization(), "owner")
    problem(credits_.get("/v1/credits", by=shop.owner.token), 400, "organization_required")
    shop.platform.run("update billing.organizations set closed_at = billing.now()")
    problem(credits_.get("/v1/credits", by=shop.owner.token), 400, "organization_required")


def test_its_owner_may_register_again_without_another_bonus(shop: Shop) -> None:
    register, user = shop.function("register"), shop.platform.user()
    first = done(register.post("/v1/register", {}, by=user.token), 201)
    shop.customer = Organization(first["organization"]["id"], first["passport"]["key"])
    done(shop.close(by=user))
    second = done(register.post("/v1/register", {}, by=user.token), 201)
    assert second["organization"]["id"] != first["organization"]["id"]
    assert second["wallet"]["settled"] == "0.000000"
    problem(register.post("/v1/register", {}, by=user.token), 409, "already_registered")
    rows = done(shop.client.get("/v1/organizations", by=user.token))["data"]
    assert [row["closed_at"] is None for row in rows] == [True, False]


def test_an_operator_registers_a_customer_who_closed_before(shop: Shop) -> None:
    body = {"email": shop.owner.email, "plan": "pro"}
    register = shop.function("register")
    call: Callable[[], httpx.Response] = lambda: register.post(  # noqa: E731
        "/v1/register/customers", body, by=shop.operator.passport
    )
    problem(call(), 409, "already_registered")
    done(shop.close())
    done(call(), 201)


def test_nothing_is_held_in_it_and_the_platforms_own_is_not_closed(shop: Shop) -> None:
    done(shop.close())
    body = {"organization_id": shop.customer.id, "amount": "1.00", "expires_in_seconds": 60}
    refusal = shop.function("holds").post("/v1/holds", body, by=shop.operator.passport)
    problem(refusal, 409, "organization_closed")
    shop.customer = shop.operator
    shop.owner = shop.join("owner")
    problem(shop.close(), 409, "operators_own")
    shop.platform.advance(60)
    assert shop.function("holds").get("/v1/holds", by=shop.operator.passport).status_code == 200


def test_a_checkout_that_is_paid_after_all_is_credited_and_waits(shop: Shop) -> None:
    checkout = shop.stripe.buy(shop.customer)
    done(shop.close())
    assert done(shop.stripe.tell(paid(checkout)))["outcome"] == "credited"
    balance = done(shop.function("credits").get("/v1/credits", by=shop.owner.token))
    assert balance["available"] == "25.000000"
    assert shop.is_closed()
    for name in ("expire_grants", "sweep_sessions", "start_auto_top_ups"):
        shop.cron(name)
    assert shop.platform.wallet(shop.customer) == (25_000_000, 0)
    # What the operator decides: back it goes.
    refund = {
        "id": "re_after_close",
        "object": "refund",
        "amount": 2500,
        "currency": "usd",
        "status": "succeeded",
        "payment_intent": shop.platform.value("select provider_payment_id from billing.payments"),
        "charge": None,
    }
    done(shop.stripe.tell(event("refund.created", refund)))
    assert shop.platform.wallet(shop.customer) == (0, 0)


def test_a_refund_of_what_was_given_up_is_a_debt_of_a_closed_organization(shop: Shop) -> None:
    checkout = shop.pay("10.00")
    done(shop.close(FORFEIT))
    refund = {
        "id": "re_given_up",
        "object": "refund",
        "amount": 1000,
        "currency": "usd",
        "status": "succeeded",
        "payment_intent": checkout["payment_intent"],
        "charge": None,
    }
    done(shop.stripe.tell(event("refund.created", refund)))
    assert (
        shop.platform.value(
            "select debt_micros from billing.wallets where organization_id = %s", shop.customer.id
        )
        == 10_000_000
    )


def test_nothing_outlives_a_close_that_everybody_races(shop: Shop) -> None:
    register = shop.function("register")
    for _ in range(6):
        user = shop.platform.user()
        made = done(register.post("/v1/register", {}, by=user.token), 201)
        passport = made["passport"]
        shop.customer = Organization(made["organization"]["id"], passport["key"])
        body = {"name": "CI", "permissions": ["read"]}
        passports = shop.function("passports")
        rotate = f"/v1/passports/{passport['id']}/rotate"
        done(shop.start(), 201)
        done(shop.grant(), 201)
        shop.cron("sweep_sessions")  # loaded, and not by a thread
        with ThreadPoolExecutor(10) as threads:
            others: list[Future[Any]] = [
                threads.submit(shop.start),
                threads.submit(passports.post, "/v1/passports", body, by=passport["key"]),
                threads.submit(passports.post, "/v1/passports", body, by=user.token),
                threads.submit(passports.post, rotate, {}, by=user.token),
                threads.submit(shop.grant),
                threads.submit(shop.grant, effective_at=_in(1)),
                threads.submit(shop.cron, "sweep_sessions"),
            ]
            closes = [threads.submit(shop.close, FORFEIT, user) for _ in range(2)]
            assert sorted(call.result().status_code for call in closes) == [200, 409]
            answers = [each.result() for each in others]
        assert all(isinstance(each, dict) or each.status_code < 500 for each in answers)
        assert shop.is_closed()
        assert shop.platform.wallet(shop.customer) == (0, 0)
        left = shop.platform.fetch(
            "select 'passport' from billing.passports"
            " where organization_id = %s and revoked_at is null"
            " union all select 'session' from billing.sessions"
            " where organization_id = %s and ended_at is null"
            " union all select 'grant' from billing.grants"
            " where organization_id = %s and (sequence is null or not is_used_up)",
            *[shop.customer.id] * 3,
        )
        assert left == []
