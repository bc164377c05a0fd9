"""organizations: people and the organizations that they belong to."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.harness.answers import done, problem
from tests.harness.client import Client, Load
from tests.harness.platform import Platform

PATH = "/v1/organizations"
ACME = {"name": "Acme"}


@pytest.fixture
def client(function: Load) -> Client:
    return function("organizations")


def test_another_organization_has_a_wallet_and_its_maker_as_owner(
    client: Client, platform: Platform, function: Load
) -> None:
    user = platform.user("ada@example.com")
    done(function("register").post("/v1/register", {}, by=user.token), 201)
    made = done(client.post(PATH, ACME, by=user.token), 201)
    organization = made["organization"]
    assert (organization["name"], organization["plan"]) == ("Acme", "free")
    assert organization["billing_email"] == "ada@example.com"
    assert made["wallet"]["settled"] == "0.000000"
    found = done(client.get(f"{PATH}/{organization['id']}", by=user.token))
    assert found == organization | {"role": "owner"}
    assert platform.fetch(
        "select actor, action from billing.audit_log where organization_id = %s", organization["id"]
    ) == [(f"user:{user.id}", "create_organization")]


def test_the_bonus_comes_with_the_first_organization_however_it_is_made(
    client: Client, platform: Platform
) -> None:
    user = platform.user()
    settled = [
        done(client.post(PATH, ACME, by=user.token), 201)["wallet"]["settled"] for _ in range(2)
    ]
    assert settled == ["5.000000", "0.000000"]


def test_the_same_key_makes_one_organization(client: Client, platform: Platform) -> None:
    user = platform.user()
    first = client.post(PATH, ACME, by=user.token, repeat="organization-1")
    again = client.post(PATH, ACME, by=user.token, repeat="organization-1")
    assert done(first, 201) == done(again, 201)
    assert again.headers["idempotent-replayed"] == "true"
    other = client.post(PATH, {"name": "B"}, by=user.token, repeat="organization-1")
    problem(other, 409, "idempotency_conflict")
    assert platform.value("select count(*) from billing.organizations") == 1


def test_who_is_nobody_or_has_no_verified_address_makes_none(
    client: Client, platform: Platform
) -> None:
    unverified, gone = platform.user(is_verified=False), platform.user()
    platform.run("delete from auth.users where id = %s", gone.id)
    before = platform.contents()
    problem(client.post(PATH, ACME, by=unverified.token), 403, "email_not_verified")
    problem(client.post(PATH, ACME, by=gone.token), 401, "invalid_token")
    assert platform.contents() == before


def test_who_owes_money_makes_no_other(client: Client, platform: Platform) -> None:
    user, organization = platform.user(), platform.organization()
    platform.join(user, organization, "owner")
    platform.run(
        "select billing.post(%s, 'debt', 'provider_clearing', 7000000, 'dispute', null)",
        organization.id,
    )
    refusal = problem(client.post(PATH, ACME, by=user.token), 402, "debt_outstanding")
    assert refusal["debt"] == "7.000000"


def test_a_person_owns_ten_open_organizations_at_most(client: Client, platform: Platform) -> None:
    user = platform.user()
    platform.join(user, platform.organization(), "admin")  # not theirs
    with ThreadPoolExecutor(12) as threads:
        calls = [threads.submit(client.post, PATH, ACME, by=user.token) for _ in range(12)]
        answers = [call.result() for call in calls]
    assert sorted(answer.status_code for answer in answers) == [201] * 10 + [409] * 2
    refusal = problem(client.post(PATH, ACME, by=user.token), 409, "organization_limit_reached")
    assert refusal["limit"] == 10
    platform.run(
        "update billing.organizations set closed_at = billing.now() where id = %s",
        next(answer for answer in answers if answer.is_success).json()["organization"]["id"],
    )
    done(client.post(PATH, ACME, by=user.token), 201)


def test_an_organization_that_waits_is_claimed_by_who_owns_another(
    client: Client, platform: Platform, function: Load
) -> None:
    register = function("register")
    waiting = {"email": "grace@example.com", "plan": "enterprise"}
    operator = platform.operator().passport
    made = done(register.post("/v1/register/customers", waiting, by=operator), 201)
    user = platform.user("grace@example.com")
    done(client.post(PATH, ACME, by=user.token), 201)
    claimed = done(register.post("/v1/register", {}, by=user.token), 201)
    assert claimed["organization"]["id"] == made["organization"]["id"]
    problem(register.post("/v1/register", {}, by=user.token), 409, "already_registered")


def test_a_person_lists_their_organizations_page_by_page(
    client: Client, platform: Platform
) -> None:
    user = platform.user()
    ids = []
    for role in ("owner", "admin", "member"):
        organization = platform.organization()
        platform.join(user, organization, role)
        ids.append((organization.id, role))
    platform.organization()
    first = done(client.get(PATH, params={"limit": 2}, by=user.token))
    assert first["has_more"]
    second = done(client.get(PATH, params={"cursor": first["next_cursor"]}, by=user.token))
    rows = [*first["data"], *second["data"]]
    assert [(row["id"], row["role"]) for row in rows] == ids[::-1]
    assert not second["has_more"]
    nobody = platform.user()
    assert done(client.get(PATH, by=nobody.token))["data"] == []


@pytest.mark.parametrize("role", ["owner", "admin"])
def test_owners_and_admins_change_the_name_and_the_address(
    client: Client, platform: Platform, role: str
) -> None:
    user, organization = platform.user(), platform.organization()
    platform.join(user, organization, role)
    address = f"{PATH}/{organization.id}"
    named = done(client.request("PATCH", address, by=user.token, json={"name": "New"}))
    assert (named["name"], named["role"]) == ("New", role)
    moved = done(
        client.request("PATCH", address, by=user.token, json={"billing_email": "b@example.com"})
    )
    assert moved == named | {"billing_email": "b@example.com"}
    assert done(client.request("PATCH", address, by=user.token, json={})) == moved
    assert done(client.get(address, by=user.token)) == moved
    assert platform.fetch("select action, detail from billing.audit_log order by id") == [
        ("update_organization", {"name": "New"}),
        ("update_organization", {"billing_email": "b@example.com"}),
    ]


def test_a_member_changes_nothing(client: Client, platform: Platform) -> None:
    user, organization = platform.user(), platform.organization()
    platform.join(user, organization, "member")
    refusal = problem(
        client.request("PATCH", f"{PATH}/{organization.id}", by=user.token, json=ACME),
        403,
        "role_required",
    )
    assert refusal["role"] == "admin"


def test_no_passport_opens_these_addresses(client: Client, platform: Platform) -> None:
    passport = platform.operator().passport
    organization = platform.organization()
    for path in (PATH, f"{PATH}/{organization.id}", f"{PATH}/{organization.id}/members"):
        problem(client.get(path, by=passport), 403, "user_required")
        problem(client.get(path, by=organization.passport), 403, "user_required")
        by_key = {"X-API-Key": organization.passport}
        problem(client.get(path, headers=by_key), 401, "unauthenticated")


def test_what_others_own_answers_like_what_is_not(client: Client, platform: Platform) -> None:
    user, stranger, organization = platform.user(), platform.user(), platform.organization()
    platform.join(user, organization, "owner")
    platform.join(stranger, platform.organization(), "owner")
    before = platform.contents()
    for subject in (organization.id, stranger.id):
        address = f"{PATH}/{subject}"
        member = f"{address}/members/{user.id}"
        for answer in (
            client.get(address, by=stranger.token),
            client.request("PATCH", address, by=stranger.token, json=ACME),
            client.get(f"{address}/members", by=stranger.token),
            client.request("PUT", member, by=stranger.token, json={"role": "member"}),
            client.request("DELETE", member, by=stranger.token),
        ):
            problem(answer, 404, "organization_not_found")
    assert platform.contents() == before
