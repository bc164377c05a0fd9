"""register: an organization for a verified person, and for a customer of an operator."""

from typing import Any, LiteralString

import pytest

from tests.harness.answers import done, problem
from tests.harness.client import Client, Load
from tests.harness.identities import Identities
from tests.harness.invitations import DAY
from tests.harness.platform import Platform
from tests.harness.storage import make_ready

NEW_CUSTOMER = {"email": "Customer@Example.com", "plan": "enterprise"}


@pytest.fixture
def client(function: Load) -> Client:
    return function("register")


def test_a_verified_person_gets_an_organization_the_bonus_and_a_passport(
    client: Client, platform: Platform, function: Load
) -> None:
    user = platform.user("ada@example.com")
    registration = done(
        client.post("/v1/register", {"organization_name": "Ada & Co"}, by=user.token), 201
    )
    organization, passport = registration["organization"], registration["passport"]
    assert (organization["name"], organization["plan"]) == ("Ada & Co", "free")
    assert organization["billing_email"] == "ada@example.com"
    assert registration["wallet"] == {
        "settled": "5.000000",
        "held": "0.000000",
        "available": "5.000000",
        "debt": "0.000000",
    }
    assert passport["permissions"] == ["billing", "read", "write"]
    assert passport["key_prefix"] == passport["key"][:12]
    balance = done(function("credits").get("/v1/credits", by=passport["key"]))
    assert balance["available"] == "5.000000"


def test_a_name_is_not_needed(client: Client, platform: Platform) -> None:
    user = platform.user("grace@example.com")
    registration = done(client.post("/v1/register", {}, by=user.token), 201)
    assert registration["organization"]["name"] == "grace@example.com"


def test_the_same_key_registers_once_and_shows_the_passport_once(
    client: Client, platform: Platform
) -> None:
    user = platform.user()
    first = client.post("/v1/register", {}, by=user.token, repeat="register-1")
    again = client.post("/v1/register", {}, by=user.token, repeat="register-1")
    assert "idempotent-replayed" not in first.headers
    assert again.headers["idempotent-replayed"] == "true"
    registration = done(first, 201)
    assert done(again, 201) == registration | {"passport": registration["passport"] | {"key": None}}
    other = client.post(
        "/v1/register", {"organization_name": "B"}, by=user.token, repeat="register-1"
    )
    problem(other, 409, "idempotency_conflict")
    assert platform.value("select count(*) from billing.organizations") == 1


def test_a_second_registration_names_the_first(client: Client, platform: Platform) -> None:
    user = platform.user()
    registration = done(client.post("/v1/register", {}, by=user.token), 201)
    refusal = problem(client.post("/v1/register", {}, by=user.token), 409, "already_registered")
    assert refusal["organization_id"] == registration["organization"]["id"]
    assert platform.value("select count(*) from billing.passports") == 1


def test_an_unverified_address_registers_nothing(client: Client, platform: Platform) -> None:
    before = platform.contents()
    user = platform.user(is_verified=False)
    problem(client.post("/v1/register", {}, by=user.token), 403, "email_not_verified")
    assert platform.contents() == before


def test_a_token_that_claims_verification_is_not_believed(
    client: Client, platform: Platform
) -> None:
    user = platform.user(is_verified=False)
    token = platform.cloud.user_token(
        user.id, email_verified=True, user_metadata={"email_verified": True}
    )
    problem(client.post("/v1/register", {}, by=token), 403, "email_not_verified")


def test_a_deleted_user_registers_nothing(client: Client, platform: Platform) -> None:
    user = platform.user()
    platform.run("delete from auth.users where id = %s", user.id)
    problem(client.post("/v1/register", {}, by=user.token), 401, "invalid_token")


@pytest.mark.parametrize(
    ("first", "second"),
    [
        pytest.param("a@example.com", "a+tag@example.com", id="a tag"),
        pytest.param("a.b.c@gmail.com", "abc@gmail.com", id="dots at Gmail"),
        pytest.param("abc@gmail.com", "a.b.c+x@googlemail.com", id="the other name of Gmail"),
        pytest.param("Someone@Example.com", "someone@example.com", id="capitals"),
    ],
)
def test_one_mailbox_has_the_bonus_once(
    client: Client, platform: Platform, first: str, second: str
) -> None:
    bonuses = [
        done(client.post("/v1/register", {}, by=platform.user(email).token), 201)["wallet"]
        for email in (first, second)
    ]
    assert [wallet["settled"] for wallet in bonuses] == ["5.000000", "0.000000"]


def test_two_mailboxes_have_a_bonus_each(client: Client, platform: Platform) -> None:
    for email in ("a.b@example.com", "ab@example.com", "ab@gmail.com"):
        wallet = done(client.post("/v1/register", {}, by=platform.user(email).token), 201)["wallet"]
        assert wallet["settled"] == "5.000000"


def test_a_user_who_comes_again_has_had_the_bonus(client: Client, platform: Platform) -> None:
    first = platform.user("back@example.com")
    done(client.post("/v1/register", {}, by=first.token), 201)
    platform.run("delete from auth.users where id = %s", first.id)
    second = platform.user("back@example.com")
    wallet = done(client.post("/v1/register", {}, by=second.token), 201)["wallet"]
    assert wallet["settled"] == "0.000000"


def test_a_user_who_changed_the_address_has_had_the_bonus(
    client: Client, platform: Platform
) -> None:
    user = platform.user("old@example.com")
    done(client.post("/v1/register", {}, by=user.token), 201)
    platform.run("update auth.users set email = 'new@example.com' where id = %s", user.id)
    platform.run("delete from billing.members where user_id = %s", user.id)
    wallet = done(client.post("/v1/register", {}, by=user.token), 201)["wallet"]
    assert wallet["settled"] == "0.000000"


@pytest.mark.parametrize(
    "chosen",
    [
        {"plan": "enterprise"},
        {"plan_id": "admin"},
        {"balance": "1000000.00"},
        {"settled_micros": 10**12},
        {"id": "01936f00-0000-7000-8000-000000000000"},
        {"user_id": "01936f00-0000-7000-8000-000000000000"},
        {"organization_id": "01936f00-0000-7000-8000-000000000000"},
        {"role": "admin"},
        {"permissions": ["admin"]},
        {"email": "someone@example.com"},
        {"bonus": "500.00"},
    ],
    ids=lambda chosen: next(iter(chosen)),
)
def test_nobody_chooses_what_they_are(
    client: Client, platform: Platform, chosen: dict[str, Any]
) -> None:
    user = platform.user()
    before = platform.contents()
    refusal = problem(client.post("/v1/register", chosen, by=user.token), 400, "invalid_request")
    assert refusal["errors"][0]["where"] == f"body.{next(iter(chosen))}"
    assert platform.contents() == before


def test_an_operator_registers_a_customer_who_claims_it_later(
    client: Client, platform: Platform
) -> None:
    operator = platform.operator()
    made = done(client.post("/v1/register/customers", NEW_CUSTOMER, by=operator.passport), 201)
    assert made["organization"]["plan"] == "enterprise"
    assert made["wallet"]["settled"] == "0.000000"
    assert "admin" not in made["passport"]["permissions"]

    impostor = platform.user("customer+1@example.com")
    other = done(client.post("/v1/register", {}, by=impostor.token), 201)
    assert other["organization"]["id"] != made["organization"]["id"]

    unverified = platform.user("customer@example.com", is_verified=False)
    problem(client.post("/v1/register", {}, by=unverified.token), 403, "email_not_verified")

    platform.run("update auth.users set email_confirmed_at = now() where id = %s", unverified.id)
    claimed = done(client.post("/v1/register", {}, by=unverified.token), 201)
    assert claimed["organization"]["id"] == made["organization"]["id"]
    assert claimed["organization"]["plan"] == "enterprise"


def test_nobody_registers_a_customer_who_owns_an_organization(
    client: Client, platform: Platform
) -> None:
    owner = platform.user("customer@example.com")
    done(client.post("/v1/register", by=owner.token), 201)
    operator = platform.operator()
    again = client.post("/v1/register/customers", NEW_CUSTOMER, by=operator.passport)
    problem(again, 409, "already_registered")


def test_a_claim_by_a_new_mailbox_brings_the_bonus(client: Client, platform: Platform) -> None:
    operator = platform.operator()
    done(client.post("/v1/register/customers", NEW_CUSTOMER, by=operator.passport), 201)
    user = platform.user("customer@example.com")
    claimed = done(client.post("/v1/register", {}, by=user.token), 201)
    assert claimed["wallet"]["settled"] == "5.000000"


def test_the_same_key_registers_one_customer(client: Client, platform: Platform) -> None:
    operator = platform.operator()
    calls = [
        client.post(
            "/v1/register/customers", NEW_CUSTOMER, by=operator.passport, repeat="customer-1"
        )
        for _ in range(2)
    ]
    assert calls[1].headers["idempotent-replayed"] == "true"
    ids = {done(call, 201)["organization"]["id"] for call in calls}
    assert len(ids) == 1
    problem(
        client.post(
            "/v1/register/customers",
            NEW_CUSTOMER | {"plan": "pro"},
            by=operator.passport,
            repeat="customer-1",
        ),
        409,
        "idempotency_conflict",
    )


def test_an_address_waits_for_one_organization(client: Client, platform: Platform) -> None:
    operator = platform.operator()
    done(client.post("/v1/register/customers", NEW_CUSTOMER, by=operator.passport), 201)
    same = NEW_CUSTOMER | {"email": "customer@example.com"}
    problem(
        client.post("/v1/register/customers", same, by=operator.passport),
        409,
        "already_registered",
    )


def test_an_unknown_plan_is_refused(client: Client, platform: Platform) -> None:
    operator = platform.operator()
    problem(
        client.post(
            "/v1/register/customers", NEW_CUSTOMER | {"plan": "gold"}, by=operator.passport
        ),
        400,
        "plan_unknown",
    )


def test_an_owner_is_no_operator(client: Client, platform: Platform) -> None:
    user = platform.user()
    registration = done(client.post("/v1/register", {}, by=user.token), 201)
    for credential in (user.token, registration["passport"]["key"]):
        problem(
            client.post("/v1/register/customers", NEW_CUSTOMER, by=credential),
            403,
            "permission_denied",
        )


# What comes with it.


def _initial(platform: Platform, organization_id: str) -> list[tuple[Any, ...]]:
    return platform.fetch(
        "select kind, name, size_gb, included_gb, status, created_by from billing.storage"
        " where organization_id = %s",
        organization_id,
    )


GIVEN = [("bucket", "initial", 5, 5, "requested", "registration")]


def test_an_identity_and_a_bucket_follow_and_their_queues_are_told_at_once(
    platform: Platform, function: Load
) -> None:
    parts = Identities(platform, function)
    organization = parts.register()
    assert parts.read(organization)["status"] == "requested"
    assert _initial(platform, organization.id) == GIVEN
    parts.strike()
    for topic in ("provision_identity", "provision_storage"):
        (task,) = parts.tasks(topic)
        assert task["organization_id"] == organization.id


def test_the_bucket_costs_nothing(platform: Platform, function: Load) -> None:
    organization = Identities(platform, function).register()
    storage_id = platform.value("select id::text from billing.storage")
    make_ready(platform.owner, organization.id, storage_id)
    for _ in range(31):
        platform.advance(DAY)
        platform.run("select api.accrue_storage(100)")
    assert platform.wallet(organization) == (5_000_000, 0)
    assert platform.value("select status::text from billing.storage") == "ready"


def test_one_mailbox_has_the_bucket_once(client: Client, platform: Platform) -> None:
    first, second = (
        done(client.post("/v1/register", {}, by=platform.user(email).token), 201)
        for email in ("a@example.com", "a+tag@example.com")
    )
    assert _initial(platform, first["organization"]["id"]) == GIVEN
    assert _initial(platform, second["organization"]["id"]) == []


def test_a_customer_has_both_before_the_claim_and_no_more_after_it(
    client: Client, platform: Platform, function: Load
) -> None:
    operator = platform.operator()
    made = done(client.post("/v1/register/customers", NEW_CUSTOMER, by=operator.passport), 201)
    organization_id, key = made["organization"]["id"], made["passport"]["key"]
    assert _initial(platform, organization_id) == GIVEN
    assert done(function("identity").get("/v1/identity", by=key))["status"] == "requested"
    user = platform.user("customer@example.com")
    done(client.post("/v1/register", {}, by=user.token), 201)
    assert _initial(platform, organization_id) == GIVEN
    assert platform.value("select count(*) from billing.identities") == 1


@pytest.mark.parametrize(
    "change",
    [
        "alter table billing.provider_costs disable trigger user;"
        " delete from billing.provider_costs; delete from billing.regions",
        "update billing.regions set is_open = false",
        "update billing.regions set min_gb = 100",
        "delete from billing.storage_limits",
        "update billing.storage_limits set max_gb = 1",
        "alter table billing.prices disable trigger user; delete from billing.prices",
    ],
)
def test_what_cannot_be_given_costs_nobody_the_registration_or_the_bonus(
    client: Client, platform: Platform, change: LiteralString
) -> None:
    platform.alter(change)
    user = platform.user()
    made = done(client.post("/v1/register", {}, by=user.token), 201)
    assert made["wallet"]["settled"] == "5.000000"
    assert _initial(platform, made["organization"]["id"]) == []


def test_a_queue_that_is_away_costs_nobody_the_registration(
    platform: Platform, function: Load
) -> None:
    client = function("register", TASKS_API_URL="http://127.0.0.1:9")
    made = done(client.post("/v1/register", {}, by=platform.user().token), 201)
    assert made["wallet"]["settled"] == "5.000000"
    waiting = "select topic::text from billing.outbox where enqueued_at is null order by 1"
    assert platform.fetch(waiting) == [("provision_identity",), ("provision_storage",)]


def test_a_plan_without_them_gives_neither(client: Client, platform: Platform) -> None:
    platform.alter("update billing.plans set has_identity = false, initial_storage_gb = 0")
    done(client.post("/v1/register", {}, by=platform.user().token), 201)
    assert platform.value("select count(*) from billing.outbox") == 0
