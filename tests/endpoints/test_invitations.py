"""Invitations: by mail, for one address, once."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import urlsplit

import psycopg
import pytest

from faregate.caller import new_key
from tests.harness.answers import done, problem
from tests.harness.client import Load
from tests.harness.invitations import DAY, Invitations
from tests.harness.operations import ABSENT
from tests.harness.platform import Organization, Platform
from tests.harness.postgrest import Rest


@pytest.fixture
def parts(platform: Platform, function: Load) -> Invitations:
    return Invitations(platform, function)


def test_a_new_person_follows_the_mail_and_reads_the_organizations_balance(
    parts: Invitations, platform: Platform, function: Load
) -> None:
    email = parts.new_address()
    invitation = done(parts.ask(email, "member"), 201)
    assert (invitation["status"], invitation["role"]) == ("pending", "member")
    assert (invitation["email"], invitation["failure"]) == (email, None)
    assert invitation["invited_by"] == f"user:{parts.owner.id}"
    assert parts.strike() == 1
    assert done(parts.work(parts.tasks()[-1])) == {"status": "sent"}
    assert parts.mail(email)["type"] == "invite"

    arrival = parts.follow(email)
    layout = platform.cloud.layout
    assert arrival.url.startswith(layout.functions_environment()["INVITATION_URL"])
    problem(function("credits").get("/v1/credits", by=arrival.session), 403, "not_registered")
    member = done(parts.accept(arrival.token, by=arrival.session))
    assert (member["organization_id"], member["role"]) == (parts.organization.id, "member")
    assert member["email"] == email.lower()
    assert parts.statuses() == ["accepted"]
    assert done(function("credits").get("/v1/credits", by=arrival.session))["settled"] == "5.000000"
    refusal = problem(
        function("credits").get("/v1/credits/top-ups", by=arrival.session), 403, "permission_denied"
    )
    assert refusal["permission"] == "billing"


def test_whoever_has_a_login_gets_a_link_that_signs_in(parts: Invitations) -> None:
    user = parts.platform.user(parts.new_address().lower())
    parts.invite(user.email.title(), "admin")
    assert parts.mail(user.email)["type"] == "magiclink"
    arrival = parts.follow(user.email)
    member = done(parts.accept(arrival.token, by=arrival.session))
    assert (member["user_id"], member["role"]) == (user.id, "admin")


def test_a_link_that_is_too_old_still_brings_the_invitation(parts: Invitations) -> None:
    email = parts.new_address()
    parts.invite(email)
    session = parts.follow(email).session
    late = parts.follow(email)
    assert (late.session, "error_code=otp_expired" in late.url) == ("", True)
    done(parts.accept(late.token, by=session))


@pytest.mark.parametrize("same_key", [True, False])
def test_it_is_accepted_once_however_often_at_once(parts: Invitations, *, same_key: bool) -> None:
    email = parts.new_address()
    parts.invite(email)
    arrival = parts.follow(email)
    repeat = "accept-once" if same_key else ""

    def accept(_: int) -> int:
        return parts.accept(arrival.token, by=arrival.session, repeat=repeat).status_code

    with ThreadPoolExecutor(16) as threads:
        statuses = sorted(threads.map(accept, range(16)))
    assert statuses == ([200] * 16 if same_key else [200] + [404] * 15)
    count = "select count(*) from billing.members where organization_id = %s"
    assert parts.platform.value(count, parts.organization.id) == 2
    assert parts.statuses() == ["accepted"]


def test_it_is_accepted_or_revoked_and_never_both(parts: Invitations) -> None:
    for _ in range(8):
        email = parts.new_address()
        invitation = parts.invite(email)
        arrival = parts.follow(email)
        with ThreadPoolExecutor(2) as threads:
            accepted = threads.submit(parts.accept, arrival.token, by=arrival.session)
            revoked = threads.submit(parts.revoke, invitation["id"])
            statuses = (accepted.result().status_code, revoked.result().status_code)
        ended = {(200, 409): "accepted", (404, 200): "revoked"}
        assert parts.all(limit=1)[0]["status"] == ended[statuses]


def test_it_lives_for_a_week(parts: Invitations) -> None:
    timely, late = parts.new_address(), parts.new_address()
    parts.invite(timely)
    parts.invite(late)
    parts.platform.advance(7 * DAY - 60)
    arrival = parts.follow(timely)
    done(parts.accept(arrival.token, by=arrival.session))
    parts.platform.advance(60)
    arrival = parts.follow(late)
    problem(parts.accept(arrival.token, by=arrival.session), 404, "invitation_not_found")
    assert parts.statuses() == ["accepted", "expired"]


def _used(parts: Invitations, _: str) -> None:
    parts.platform.run("update billing.invitations set accepted_at = billing.now()")


def _replaced(parts: Invitations, email: str) -> None:
    done(parts.ask(email, "admin"), 201)


def _revoked(parts: Invitations, _: str) -> None:
    done(parts.revoke(parts.all()[0]["id"]))


def _expired(parts: Invitations, _: str) -> None:
    parts.platform.advance(7 * DAY)


def _closed(parts: Invitations, _: str) -> None:
    path = f"/v1/organizations/{parts.organization.id}/close"
    body = {"forfeit_balance": True}
    done(parts.function("organizations").post(path, body, by=parts.owner.token))


VOID: dict[str, Callable[[Invitations, str], None]] = {
    "used": _used,
    "replaced": _replaced,
    "revoked": _revoked,
    "expired": _expired,
    "of a closed organization": _closed,
}


@pytest.mark.parametrize("make_void", VOID.values(), ids=VOID)
def test_a_token_that_is_void_answers_like_one_that_never_was(
    parts: Invitations, make_void: Callable[[Invitations, str], None]
) -> None:
    email = parts.new_address()
    parts.invite(email)
    token = parts.follow(email).token
    make_void(parts, email)
    user = parts.platform.fetch("select id from auth.users where email = %s", email.lower())
    session = parts.platform.cloud.user_token(str(user[0][0]))
    before = parts.platform.contents()
    void = problem(parts.accept(token, by=session), 404, "invitation_not_found")
    never = problem(parts.accept("x" * 43, by=session), 404, "invitation_not_found")
    assert void.keys() == never.keys()
    assert {**void, "request_id": ""} == {**never, "request_id": ""}
    assert parts.platform.contents() == before


def test_a_forwarded_mail_is_of_no_use_to_another_address(parts: Invitations) -> None:
    email = parts.new_address()
    parts.invite(email)
    token, other = parts.follow(email).token, parts.platform.user()
    lying = parts.platform.cloud.user_token(
        other.id, email=email, user_metadata={"email": email, "email_verified": True}
    )
    before = parts.platform.contents()
    for by in (other.token, lying):
        problem(parts.accept(token, by=by), 404, "invitation_not_found")
    assert parts.platform.contents() == before
    assert parts.statuses() == ["sent"]


def test_an_address_that_is_not_verified_learns_nothing(parts: Invitations) -> None:
    email = parts.new_address()
    user = parts.platform.user(email.lower(), is_verified=False)
    parts.invite(email)
    token = parts.mail(email)["action_link"].partition("invitation%3D")[2]
    before = parts.platform.contents()
    for each in (token, "x" * 43):
        problem(parts.accept(each, by=user.token), 403, "email_not_verified")
    assert parts.platform.contents() == before
    arrival = parts.follow(email)
    assert arrival.token == token
    assert done(parts.accept(token, by=arrival.session))["user_id"] == user.id


def test_inviting_again_replaces_role_token_and_mail(parts: Invitations) -> None:
    email = parts.new_address()
    parts.invite(email.lower())
    first = parts.follow(email)
    parts.invite(email.upper(), "admin")
    second = parts.follow(email)
    assert first.token != second.token
    problem(parts.accept(first.token, by=second.session), 404, "invitation_not_found")
    assert done(parts.accept(second.token, by=first.session))["role"] == "admin"
    assert parts.statuses() == ["revoked", "accepted"]


def test_a_revoked_invitation_is_not_mailed(parts: Invitations) -> None:
    email = parts.new_address()
    invitation = done(parts.ask(email), 201)
    assert done(parts.revoke(invitation["id"]))["status"] == "revoked"
    assert parts.strike() == 1
    assert done(parts.work(parts.tasks()[-1])) == {"status": "revoked"}
    query = "select count(*) from auth.users where email = %s"
    assert parts.platform.value(query, email.lower()) == 0


def test_what_has_ended_cannot_be_revoked(parts: Invitations) -> None:
    email = parts.new_address()
    invitation = parts.invite(email)
    arrival = parts.follow(email)
    done(parts.accept(arrival.token, by=arrival.session))
    before = parts.platform.contents()
    refusal = problem(parts.revoke(invitation["id"]), 409, "invitation_closed")
    assert refusal["invitation_status"] == "accepted"
    problem(parts.revoke(ABSENT), 404, "invitation_not_found")
    assert parts.platform.contents() == before


@pytest.mark.parametrize(
    ("inviter", "role", "status", "code"),
    [
        ("owner", "owner", 201, ""),
        ("owner", "admin", 201, ""),
        ("owner", "member", 201, ""),
        ("admin", "owner", 403, "role_required"),
        ("admin", "admin", 201, ""),
        ("admin", "member", 201, ""),
        ("member", "owner", 403, "role_required"),
        ("member", "admin", 403, "role_required"),
        ("member", "member", 403, "role_required"),
    ],
)
def test_who_may_invite_whom(
    parts: Invitations, inviter: str, role: str, status: int, code: str
) -> None:
    user, email = parts.member(inviter), parts.new_address()
    standing = done(parts.ask(parts.new_address(), role), 201)
    before = parts.platform.contents()
    answer = parts.ask(email, role, by=user.token)
    if status == 201:
        done(answer, 201)
        done(parts.revoke(standing["id"], by=user.token))
        assert len(parts.all(by=user.token)) == 2
    else:
        problem(answer, status, code)
        problem(parts.revoke(standing["id"], by=user.token), status, code)
        # Nor by another one in its place.
        problem(parts.ask(standing["email"], "member", by=user.token), status, code)
        assert parts.platform.contents() == before


def test_a_member_does_not_see_who_was_invited(parts: Invitations) -> None:
    member = parts.member("member")
    answer = parts.desk.get(parts.path(), by=member.token)
    problem(answer, 403, "role_required")


def test_a_stranger_finds_no_organization(parts: Invitations, platform: Platform) -> None:
    invitation = done(parts.ask(parts.new_address()), 201)
    stranger = parts.member("owner", platform.organization())
    before = parts.platform.contents()
    for answer in (
        parts.ask(parts.new_address(), by=stranger.token),
        parts.desk.get(parts.path(), by=stranger.token),
        parts.revoke(invitation["id"], by=stranger.token),
    ):
        problem(answer, 404, "organization_not_found")
    own = parts.desk.post(
        f"/v1/organizations/{platform.organization().id}/invitations/{invitation['id']}/revoke",
        by=parts.owner.token,
    )
    problem(own, 404, "organization_not_found")
    after = parts.platform.contents()
    assert after["invitations"] == before["invitations"]


def test_of_passports_only_an_operators_may(parts: Invitations, platform: Platform) -> None:
    operator, email = platform.operator(), parts.new_address()
    refusal = problem(parts.ask(email, by=parts.organization.passport), 403, "permission_denied")
    assert refusal["permission"] == "admin"
    problem(parts.ask(email, by=new_key().key), 401, "invalid_passport")
    invitation = done(parts.ask(email, "owner", by=operator.passport), 201)
    assert invitation["invited_by"] == f"passport:{platform.passport_id(operator.passport)}"
    assert [each["id"] for each in parts.all(by=operator.passport)] == [invitation["id"]]
    absent = parts.desk.get(f"/v1/organizations/{ABSENT}/invitations", by=operator.passport)
    problem(absent, 404, "organization_not_found")
    done(parts.revoke(invitation["id"], by=operator.passport))
    _closed(parts, "")
    problem(parts.ask(email, by=operator.passport), 409, "organization_closed")
    problem(parts.ask(email), 409, "organization_closed")


def test_a_member_is_not_invited_and_cannot_accept(parts: Invitations) -> None:
    email = parts.new_address()
    parts.invite(email)
    arrival = parts.follow(email)
    query = "select id, email from auth.users where email = %s"
    ((user_id, address),) = parts.platform.fetch(query, email.lower())
    parts.platform.run(
        "insert into billing.members (organization_id, user_id, role) values (%s, %s, 'admin')",
        parts.organization.id,
        user_id,
    )
    before = parts.platform.contents()
    problem(parts.accept(arrival.token, by=arrival.session), 409, "already_member")
    problem(parts.ask(address), 409, "already_member")
    assert parts.platform.contents() == before


def test_fifty_may_be_open(parts: Invitations) -> None:
    for _ in range(50):
        done(parts.ask(parts.new_address()), 201)
    last = parts.all(limit=1)[0]
    before = parts.platform.contents()
    problem(parts.ask(parts.new_address()), 409, "invitation_limit_reached")
    assert parts.platform.contents() == before
    done(parts.ask(last["email"], "admin"), 201)
    done(parts.revoke(parts.all(limit=3)[2]["id"]))
    done(parts.ask(parts.new_address()), 201)


def test_a_hundred_mails_a_day_are_enough(parts: Invitations) -> None:
    email = parts.new_address()
    parts.platform.run(
        "insert into billing.invitations (organization_id, email, role, invited_by, revoked_at)"
        " select %s, %s, 'member', 'test', billing.now() from generate_series(1, 99)",
        parts.organization.id,
        email,
    )
    done(parts.ask(email), 201)
    problem(parts.ask(email), 409, "invitation_limit_reached")
    parts.platform.advance(DAY)
    done(parts.ask(email), 201)


def test_nobody_mails_an_address_through_many_organizations(parts: Invitations) -> None:
    email, another = parts.new_address(), parts.new_address()
    organizations = parts.function("organizations")

    def ask(email: str) -> int:
        made = organizations.post("/v1/organizations", {"name": "More"}, by=parts.owner.token)
        path = f"/v1/organizations/{done(made, 201)['organization']['id']}/invitations"
        body = {"email": email, "role": "member"}
        return parts.desk.post(path, body, by=parts.owner.token).status_code

    assert [ask(email) for _ in range(6)] == [201] * 5 + [409]
    assert ask(another) == 201
    parts.platform.advance(DAY)
    assert ask(email) == 201


def test_one_key_invites_once(parts: Invitations) -> None:
    email = parts.new_address()
    first = parts.ask(email, repeat="invite-1")
    again = parts.ask(email, repeat="invite-1")
    assert done(again, 201) == done(first, 201)
    assert again.headers["idempotent-replayed"] == "true"
    problem(parts.ask(email, "admin", repeat="invite-1"), 409, "idempotency_conflict")
    assert parts.statuses() == ["pending"]
    assert parts.strike() == 1


def test_one_address_invited_many_times_at_once_has_one_open_invitation(
    parts: Invitations,
) -> None:
    email = parts.new_address()
    with ThreadPoolExecutor(8) as threads:
        answers = list(threads.map(lambda _: parts.ask(email), range(8)))
    # After five within a day they want to mail somebody who does not want to hear of it.
    assert sorted(answer.status_code for answer in answers) == [201] * 5 + [409] * 3
    assert sorted(parts.statuses()) == ["pending"] + ["revoked"] * 4


def test_the_list_has_pages(parts: Invitations) -> None:
    ids = [done(parts.ask(parts.new_address()), 201)["id"] for _ in range(3)]
    answer = parts.desk.get(parts.path(), by=parts.owner.token, params={"limit": 2})
    page = done(answer)
    assert ([each["id"] for each in page["data"]], page["has_more"]) == ([ids[2], ids[1]], True)
    assert [each["id"] for each in parts.all(cursor=page["next_cursor"])] == [ids[0]]


@pytest.mark.parametrize(
    ("end", "statuses"),
    [
        ("delete from auth.users where id = %s", ["revoked", "revoked"]),
        ("delete from billing.members where user_id = %s", ["revoked", "revoked"]),
        (
            "update billing.members set role = 'member' where user_id = %s",
            ["revoked", "revoked"],
        ),
        ("update billing.members set role = 'admin' where user_id = %s", ["revoked", "pending"]),
        ("update billing.members set role = 'owner' where user_id = %s", ["pending", "pending"]),
    ],
)
def test_whoever_goes_leaves_no_open_invitation(
    parts: Invitations, end: str, statuses: list[str]
) -> None:
    leaver = parts.member("owner")
    for role in ("owner", "member"):
        done(parts.ask(parts.new_address(), role, by=leaver.token), 201)
    # As Supabase Auth deletes users, with no right to any table of ours.
    role = "supabase_auth_admin" if "auth.users" in end else "postgres"
    url = parts.platform.database.url(role)
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(end.encode(), [leaver.id])
    assert parts.statuses() == statuses


def test_owners_and_admins_read_them_through_postgrest(parts: Invitations, rest: Rest) -> None:
    invitation = parts.invite(parts.new_address())
    admin, member = parts.member("admin"), parts.member("member")
    stranger = parts.member("owner", parts.platform.organization())
    for user in (parts.owner, admin):
        (row,) = rest.rows("invitations", by=user.token)
        assert (row["id"], row["status"]) == (invitation["id"], "sent")
        assert not [name for name in row if "token" in name or "hash" in name]
    for user in (member, stranger):
        assert rest.rows("invitations", by=user.token) == []


def test_an_invited_customer_claims_the_organization(
    parts: Invitations, platform: Platform, function: Load
) -> None:
    operator, email = platform.operator(), parts.new_address()
    desk = function("register")
    body = {"email": email, "plan": "free", "invite": True}
    registered = desk.post("/v1/register/customers", body, by=operator.passport)
    organization_id = done(registered, 201)["organization"]["id"]
    assert parts.strike() == 1
    assert done(parts.work(parts.tasks()[-1])) == {"status": "sent"}
    arrival = parts.follow(email)
    member = done(parts.accept(arrival.token, by=arrival.session))
    assert (member["organization_id"], member["role"]) == (organization_id, "owner")
    balance = done(function("credits").get("/v1/credits", by=arrival.session))
    assert balance["available"] == "5.000000"
    refusal = problem(desk.post("/v1/register", {}, by=arrival.session), 409, "already_registered")
    assert refusal["organization_id"] == organization_id


def test_an_invited_customer_may_as_well_register(
    parts: Invitations, platform: Platform, function: Load
) -> None:
    operator, email = platform.operator(), parts.new_address()
    desk = function("register")
    body = {"email": email, "plan": "free", "invite": True}
    registered = desk.post("/v1/register/customers", body, by=operator.passport)
    organization = done(registered, 201)["organization"]
    parts.strike()
    done(parts.work(parts.tasks()[-1]))
    arrival = parts.follow(email)
    claimed = done(desk.post("/v1/register", {}, by=arrival.session), 201)
    assert claimed["organization"] == organization
    passports = done(function("passports").get("/v1/passports", by=claimed["passport"]["key"]))
    assert {each["user_id"] for each in passports["data"]} == {claimed["passport"]["user_id"]}
    problem(parts.accept(arrival.token, by=arrival.session), 404, "invitation_not_found")
    path = f"/v1/organizations/{organization['id']}/invitations"
    (invitation,) = done(parts.desk.get(path, by=operator.passport))["data"]
    assert (invitation["status"], invitation["role"]) == ("accepted", "owner")


def test_who_accepts_and_registers_at_once_claims_one_organization(
    parts: Invitations, platform: Platform, function: Load
) -> None:
    operator, desk = platform.operator(), function("register")
    for _ in range(4):
        email = parts.new_address()
        body = {"email": email, "plan": "free", "invite": True}
        registered = desk.post("/v1/register/customers", body, by=operator.passport)
        organization_id = done(registered, 201)["organization"]["id"]
        parts.strike()
        done(parts.work(parts.tasks()[-1]))
        arrival = parts.follow(email)
        with ThreadPoolExecutor(2) as threads:
            accepted = threads.submit(parts.accept, arrival.token, by=arrival.session)
            claimed = threads.submit(desk.post, "/v1/register", {}, by=arrival.session)
            statuses = (accepted.result().status_code, claimed.result().status_code)
        assert statuses in {(200, 409), (404, 201)}
        owned = "select m.organization_id::text from billing.members as m"
        owned += " inner join auth.users as u on u.id = m.user_id where u.email = %s"
        assert platform.fetch(owned, email.lower()) == [(organization_id,)]
        assert (
            platform.value(
                "select settled_micros from billing.wallets where organization_id = %s",
                organization_id,
            )
            == 5_000_000
        )


def test_an_admin_does_not_claim_an_organization_by_its_address(
    parts: Invitations, platform: Platform, function: Load
) -> None:
    operator, customer = platform.operator(), platform.user()
    body = {"email": customer.email, "plan": "enterprise"}
    made = function("register").post("/v1/register/customers", body, by=operator.passport)
    organization_id = done(made, 201)["organization"]["id"]
    helper = parts.member("admin", Organization(organization_id, ""))
    client, path = function("organizations"), f"/v1/organizations/{organization_id}"
    theirs = {"billing_email": helper.email}
    refusal = client.request("PATCH", path, by=helper.token, json=theirs)
    assert problem(refusal, 403, "role_required")["role"] == "owner"
    done(client.request("PATCH", path, by=helper.token, json={"name": "Tidy"}))
    claimed = done(function("register").post("/v1/register", {}, by=customer.token), 201)
    assert claimed["organization"]["id"] == organization_id
    done(client.request("PATCH", path, by=helper.token, json=theirs))


def test_without_being_asked_to_it_invites_no_customer(
    parts: Invitations, platform: Platform, function: Load
) -> None:
    body = {"email": parts.new_address(), "plan": "free"}
    operator = platform.operator()
    done(function("register").post("/v1/register/customers", body, by=operator.passport), 201)
    assert parts.strike() == 0


def test_a_member_of_an_organization_that_waits_may_still_claim_it(
    parts: Invitations, platform: Platform, function: Load
) -> None:
    operator, email = platform.operator(), parts.new_address()
    desk = function("register")
    body = {"email": email, "plan": "free"}
    registered = desk.post("/v1/register/customers", body, by=operator.passport)
    organization_id = done(registered, 201)["organization"]["id"]
    path = f"/v1/organizations/{organization_id}/invitations"
    asked = {"email": email, "role": "member"}
    done(parts.desk.post(path, asked, by=operator.passport), 201)
    parts.strike()
    done(parts.work(parts.tasks()[-1]))
    arrival = parts.follow(email)
    assert done(parts.accept(arrival.token, by=arrival.session))["role"] == "member"
    claimed = done(desk.post("/v1/register", {}, by=arrival.session), 201)
    assert claimed["organization"]["id"] == organization_id
    owners = "select count(*) from billing.members where role = 'owner' and organization_id = %s"
    assert platform.value(owners, organization_id) == 1


def test_the_bonus_is_given_once_however_it_is_claimed(
    parts: Invitations, platform: Platform, function: Load
) -> None:
    user, operator = platform.user(parts.new_address().lower()), platform.operator()
    desk = function("register")
    done(desk.post("/v1/register", {}, by=user.token), 201)
    platform.run("delete from billing.members where user_id = %s", user.id)
    body = {"email": user.email, "plan": "free", "invite": True}
    done(desk.post("/v1/register/customers", body, by=operator.passport), 201)
    parts.strike()
    done(parts.work(parts.tasks()[-1]))
    arrival = parts.follow(user.email)
    done(parts.accept(arrival.token, by=arrival.session))
    balance = done(function("credits").get("/v1/credits", by=arrival.session))
    assert balance["available"] == "0.000000"


_TEXTS = """
select coalesce(string_agg(row.text, ' '), '')
from (
    select query_to_xml(format('select * from %%I.%%I', n.nspname, c.relname), true, true, '')::text
    from pg_catalog.pg_class as c
    inner join pg_catalog.pg_namespace as n on n.oid = c.relnamespace
    where n.nspname in ('billing', 'auth') and c.relkind in ('r', 'p')
) as row (text)
"""


def test_the_token_is_in_the_mail_and_nowhere_else(
    parts: Invitations, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG")
    email = parts.new_address()
    asked = parts.ask(email)
    parts.strike()
    with parts.mails_limited():
        failed = parts.work(parts.tasks()[-1])
        problem(failed, 503, "unavailable")
    sent = parts.work(parts.tasks()[-1])
    arrival = parts.follow(email)
    answers = [asked, failed, sent, parts.accept(arrival.token, by=arrival.session)]
    answers.append(parts.desk.get(parts.path(), by=parts.owner.token))
    kept = parts.platform.value(_TEXTS)
    assert email in kept
    assert "accept_invitation" in kept
    told = [*capfd.readouterr(), kept, *(each.text + str(each.headers) for each in answers)]
    # The stand-in's own access log is Supabase's.
    told += [each.getMessage() for each in caplog.records if each.name != "uvicorn.access"]
    assert any("over_email_send_rate_limit" in each for each in told)
    assert arrival.token in urlsplit(arrival.url).query
    assert not [each for each in told if arrival.token in each]
