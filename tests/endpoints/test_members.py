"""Members: who decides about whom, and what becomes of the passports of those who go."""

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import psycopg
import pytest

from tests.harness.answers import done, problem
from tests.harness.auto_top_ups import AutoTopUps
from tests.harness.client import Client, Load
from tests.harness.platform import Organization, Platform, User

ROLES = ("owner", "admin", "member")
MAY_DECIDE = {"owner": {"owner", "admin", "member"}, "admin": {"admin", "member"}, "member": set()}


class Team:
    """An organization, and calls of its members about each other."""

    def __init__(self, platform: Platform, function: Load) -> None:
        self.platform, self.function = platform, function
        self.client: Client = function("organizations")
        self.passports: Client = function("passports")
        self.organization: Organization = platform.organization(usd=5)

    def join(self, role: str) -> User:
        user = self.platform.user()
        self.platform.join(user, self.organization, role)
        return user

    def set(self, by: User, user: User, role: str) -> httpx.Response:
        return self.client.request("PUT", self._path(user), by=by.token, json={"role": role})

    def remove(self, by: User, user: User) -> httpx.Response:
        return self.client.request("DELETE", self._path(user), by=by.token)

    def members(self, by: User) -> dict[str, str]:
        """Tell the role of each."""
        path = f"/v1/organizations/{self.organization.id}/members"
        rows = done(self.client.get(path, by=by.token))["data"]
        return {row["user_id"]: row["role"] for row in rows}

    def role(self, user: User) -> str | None:
        found = self.platform.fetch("select role from billing.members where user_id = %s", user.id)
        return str(found[0][0]) if found else None

    def passport(self, by: str, *permissions: str) -> dict[str, Any]:
        """Make a passport as a user or with a passport."""
        body = {"name": "CI", "permissions": permissions or ("read", "write")}
        return done(self.passports.post("/v1/passports", body, by=by), 201)

    def is_alive(self, passport: dict[str, Any]) -> bool:
        return self.passports.get("/v1/passports", by=passport["key"]).status_code == 200

    def _path(self, user: User) -> str:
        return f"/v1/organizations/{self.organization.id}/members/{user.id}"


@pytest.fixture
def team(platform: Platform, function: Load) -> Team:
    return Team(platform, function)


def test_every_member_sees_the_members(team: Team) -> None:
    users = {role: team.join(role) for role in ROLES}
    team.platform.join(team.platform.user(), team.platform.organization(), "owner")
    for user in users.values():
        assert team.members(user) == {each.id: role for role, each in users.items()}
    path = f"/v1/organizations/{team.organization.id}/members"
    first = done(team.client.get(path, params={"limit": 2}, by=users["owner"].token))
    rest = done(
        team.client.get(
            path, params={"cursor": first["next_cursor"], "limit": 2}, by=users["owner"].token
        )
    )
    emails = {row["email"] for row in [*first["data"], *rest["data"]]}
    assert emails == {user.email for user in users.values()}
    assert (first["has_more"], rest["has_more"]) == (True, False)


@pytest.mark.parametrize("new", ROLES)
@pytest.mark.parametrize("old", ROLES)
@pytest.mark.parametrize("role", ROLES)
def test_owners_decide_about_everybody_and_admins_about_all_but_owners(
    team: Team, role: str, old: str, new: str
) -> None:
    team.join("owner")
    actor, subject = team.join(role), team.join(old)
    before = team.platform.contents()
    answer = team.set(actor, subject, new)
    if {old, new} <= MAY_DECIDE[role]:
        assert done(answer)["role"] == new
        assert team.role(subject) == new
        audit = "select actor, subject_id::text, detail from billing.audit_log"
        told = [(f"user:{actor.id}", subject.id, {"from": old, "to": new})]
        assert team.platform.fetch(audit) == (told if old != new else [])
    else:
        needed = "owner" if role == "admin" or new == "owner" else "admin"
        assert problem(answer, 403, "role_required")["role"] == needed
        assert team.role(subject) == old
        assert team.platform.contents() == before


@pytest.mark.parametrize("old", ROLES)
@pytest.mark.parametrize("role", ROLES)
def test_who_decides_about_a_role_removes_those_who_have_it(
    team: Team, role: str, old: str
) -> None:
    team.join("owner")
    actor, subject = team.join(role), team.join(old)
    answer = team.remove(actor, subject)
    if old in MAY_DECIDE[role]:
        assert answer.status_code == 204
        assert team.role(subject) is None
        assert team.platform.fetch(
            "select actor, action, subject_id::text, detail from billing.audit_log"
        ) == [(f"user:{actor.id}", "remove_member", subject.id, {"role": old})]
        problem(team.remove(actor, subject), 404, "member_not_found")
    else:
        problem(answer, 403, "role_required")
        assert team.role(subject) == old


@pytest.mark.parametrize("role", ROLES)
def test_everybody_may_leave(team: Team, role: str) -> None:
    team.join("owner")
    user = team.join(role)
    assert team.remove(user, user).status_code == 204
    assert team.role(user) is None
    problem(team.remove(user, user), 404, "organization_not_found")
    assert team.platform.value("select count(*) from auth.users where id = %s", user.id) == 1


def test_an_admin_steps_down_and_a_member_does_not_step_up(team: Team) -> None:
    team.join("owner")
    admin = team.join("admin")
    problem(team.set(admin, admin, "owner"), 403, "role_required")
    assert done(team.set(admin, admin, "member"))["role"] == "member"
    problem(team.set(admin, admin, "admin"), 403, "role_required")


def test_the_last_owner_stays(team: Team) -> None:
    owner, admin = team.join("owner"), team.join("admin")
    before = team.platform.contents()
    problem(team.remove(owner, owner), 409, "last_owner")
    problem(team.set(owner, owner, "admin"), 409, "last_owner")
    assert done(team.set(owner, owner, "owner"))["role"] == "owner"
    assert team.platform.contents() == before
    done(team.set(owner, admin, "owner"))
    done(team.set(owner, owner, "member"))
    problem(team.remove(admin, admin), 409, "last_owner")


def test_of_two_owners_who_remove_each_other_one_stays(team: Team) -> None:
    for _ in range(8):
        one, two = team.join("owner"), team.join("owner")
        with ThreadPoolExecutor(2) as threads:
            calls = [
                threads.submit(team.remove, one, two),
                threads.submit(team.remove, two, one),
            ]
            answers = [call.result() for call in calls]
        assert sorted(answer.status_code for answer in answers) == [204, 404]
        (stayed,) = [user for user in (one, two) if team.role(user)]
        team.platform.run("delete from billing.members where user_id = %s", stayed.id)


def test_of_two_owners_who_step_down_at_once_one_stays(team: Team) -> None:
    for _ in range(8):
        one, two = team.join("owner"), team.join("owner")
        with ThreadPoolExecutor(2) as threads:
            calls = [threads.submit(team.set, user, user, "member") for user in (one, two)]
            answers = [call.result() for call in calls]
        assert sorted(answer.status_code for answer in answers) == [200, 409]
        team.platform.run("delete from billing.members")


def test_a_stranger_is_no_member(team: Team) -> None:
    owner, stranger = team.join("owner"), team.platform.user()
    problem(team.set(owner, stranger, "member"), 404, "member_not_found")
    problem(team.remove(owner, stranger), 404, "member_not_found")
    assert team.role(stranger) is None


def test_who_goes_takes_all_their_passports_along_and_no_others(team: Team) -> None:
    owner, admin = team.join("owner"), team.join("admin")
    others = team.passport(owner.token)
    own = team.passport(admin.token)
    by_own = team.passport(own["key"])
    by_that = team.passport(by_own["key"], "read")
    successor = done(
        team.passports.post(f"/v1/passports/{by_that['id']}/rotate", {}, by=owner.token), 201
    )
    operators = team.organization.passport
    by_operators = team.passport(operators)
    session = done(
        team.function("sessions").post("/v1/sessions", {"tier": "small"}, by=by_own["key"]), 201
    )
    assert {each["user_id"] for each in (own, by_own, by_that)} == {admin.id}
    assert successor["user_id"] == owner.id  # who rotates sees its key
    assert by_operators["user_id"] is None
    assert team.remove(owner, admin).status_code == 204
    assert [team.is_alive(each) for each in (own, by_own, by_that)] == [False] * 3
    assert [team.is_alive(each) for each in (others, by_operators, successor)] == [True] * 3
    running = team.function("sessions").get(f"/v1/sessions/{session['id']}", by=operators)
    assert done(running)["status"] == "running"


def test_a_key_that_a_member_got_by_rotating_ends_with_them(team: Team) -> None:
    owner, member = team.join("owner"), team.join("member")
    owners = team.passport(owner.token, "read", "write")
    path = f"/v1/passports/{owners['id']}/rotate"
    successor = done(team.passports.post(path, {"overlap_seconds": 3600}, by=member.token), 201)
    assert team.remove(owner, member).status_code == 204
    assert not team.is_alive(successor)
    assert team.is_alive(owners)


def test_who_rotates_an_operators_passport_owns_the_successor(team: Team) -> None:
    owner, admin = team.join("owner"), team.join("admin")
    path = f"/v1/passports/{team.platform.passport_id(team.organization.passport)}/rotate"
    successor = done(team.passports.post(path, {}, by=admin.token), 201)
    assert successor["user_id"] == admin.id
    assert team.remove(owner, admin).status_code == 204
    assert not team.is_alive(successor)


def test_a_passport_in_another_organization_lives_on(team: Team) -> None:
    owner, admin = team.join("owner"), team.join("admin")
    elsewhere = Team(team.platform, team.function)
    team.platform.join(admin, elsewhere.organization, "member")
    headers = {"Faregate-Organization": elsewhere.organization.id}
    body = {"name": "CI", "permissions": ["read"]}
    passport = done(
        team.passports.post("/v1/passports", body, by=admin.token, headers=headers), 201
    )
    assert team.remove(owner, admin).status_code == 204
    assert team.is_alive(passport)


def test_a_registrations_first_passport_is_the_persons(team: Team) -> None:
    user, other = team.platform.user(), team.platform.user()
    registration = done(team.function("register").post("/v1/register", {}, by=user.token), 201)
    assert registration["passport"]["user_id"] == user.id
    team.organization = Organization(registration["organization"]["id"], "")
    team.platform.join(other, team.organization, "owner")
    assert team.remove(user, user).status_code == 204
    assert not team.is_alive(registration["passport"])


def test_a_lower_role_ends_the_passports_that_may_do_more(team: Team) -> None:
    owner, admin = team.join("owner"), team.join("admin")
    strong = team.passport(admin.token, "read", "billing")
    by_strong = team.passport(admin.token, "billing")
    weak = team.passport(admin.token, "read", "write")
    done(team.set(owner, admin, "owner"))
    assert [team.is_alive(each) for each in (strong, weak)] == [True, True]
    done(team.set(owner, admin, "member"))
    assert [team.is_alive(each) for each in (strong, by_strong, weak)] == [False, False, True]
    done(team.set(owner, admin, "admin"))
    assert not team.is_alive(strong)


def test_a_deleted_users_passports_end_whoever_deletes_them(team: Team) -> None:
    team.join("owner")
    user = team.join("member")
    passport = team.passport(user.token)
    # As Supabase Auth does it: with a role that has no right in our schemas.
    with psycopg.connect(
        team.platform.database.url("supabase_auth_admin"), autocommit=True
    ) as auth:
        auth.execute("delete from auth.users where id = %s", [user.id])
    assert team.role(user) is None
    assert not team.is_alive(passport)


def test_a_passport_that_is_made_while_its_member_is_removed_is_not_left_over(
    team: Team,
) -> None:
    owner = team.join("owner")
    for _ in range(10):
        admin = team.join("admin")
        own = team.passport(admin.token)
        with ThreadPoolExecutor(4) as threads:
            body = {"name": "CI", "permissions": ["read"]}
            made = [
                threads.submit(team.passports.post, "/v1/passports", body, by=credential)
                for credential in (own["key"], admin.token)
            ]
            rotation = threads.submit(
                team.passports.post, f"/v1/passports/{own['id']}/rotate", {}, by=admin.token
            )
            removal = threads.submit(team.remove, owner, admin)
            assert removal.result().status_code == 204
            answers = [call.result().status_code for call in (*made, rotation)]
        assert set(answers) <= {201, 401, 403, 404}, answers
        assert (
            team.platform.value(
                "select count(*) from billing.passports where user_id = %s and revoked_at is null",
                admin.id,
            )
            == 0
        )


def test_a_card_is_not_charged_for_an_organization_that_nobody_owns(
    platform: Platform, function: Load
) -> None:
    parts = AutoTopUps(platform, function)
    customer = parts.ready()
    owner, admin = platform.user(), platform.user()
    platform.join(owner, customer, "owner")
    platform.join(admin, customer, "admin")
    platform.run("delete from auth.users where id = %s", admin.id)
    assert parts.state(customer) == ("active", None)
    platform.run("delete from auth.users where id = %s", owner.id)
    assert parts.state(customer) == ("paused", "no_owner")
    assert parts.start() == 0
