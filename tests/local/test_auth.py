"""The stand-in for Supabase Auth: its calls as GoTrue's clients make them."""

import asyncio
import json
from collections.abc import Iterator
from typing import Any
from urllib.parse import parse_qs, urlsplit
from uuid import uuid4

import httpx
import psycopg
import pytest

from faregate.backends.tokens import UserTokens
from tests.local.stand_ins import StandIns

PASSWORD = "correct horse"


@pytest.fixture
def auth(stand_ins: StandIns) -> Iterator[httpx.Client]:
    """Give a browser that has the publishable key."""
    headers = {"apikey": stand_ins.layout.secrets.publishable_key}
    url = stand_ins.layout.auth_url
    with httpx.Client(base_url=url, headers=headers, trust_env=False) as client:
        yield client


@pytest.fixture
def email() -> str:
    """Give an address that nobody has."""
    return f"{uuid4().hex}@example.com"


def sign_up(auth: httpx.Client, email: str, password: str = PASSWORD) -> dict[str, Any]:
    return done(auth.post("signup", json={"email": email, "password": password}))


def sign_in(auth: httpx.Client, email: str, password: str = PASSWORD) -> httpx.Response:
    return auth.post(
        "token", params={"grant_type": "password"}, json={"email": email, "password": password}
    )


def message(auth: httpx.Client, email: str) -> dict[str, Any]:
    return done(auth.get("_mailbox", params={"email": email}))


def confirmed(auth: httpx.Client, email: str) -> dict[str, Any]:
    sign_up(auth, email)
    return done(auth.get(message(auth, email)["action_link"]))


def done(answer: httpx.Response) -> dict[str, Any]:
    assert answer.status_code == 200, answer.text
    document: dict[str, Any] = answer.json()
    return document


def refused(answer: httpx.Response) -> tuple[int, str]:
    return answer.status_code, answer.json()["error_code"]


def test_a_password_works_once_the_address_is_confirmed(auth: httpx.Client, email: str) -> None:
    user = sign_up(auth, email)
    assert "email_confirmed_at" not in user
    assert refused(sign_in(auth, email)) == (400, "email_not_confirmed")
    done(auth.get(message(auth, email)["action_link"]))
    session = done(sign_in(auth, email.upper()))
    assert session["user"]["id"] == user["id"]
    assert session["user"]["email_confirmed_at"]


def test_a_link_works_once(auth: httpx.Client, email: str) -> None:
    confirmed(auth, email)
    again = auth.get(message(auth, email)["action_link"])
    assert refused(again) == (403, "otp_expired")


def test_a_new_message_ends_the_one_before(auth: httpx.Client, email: str) -> None:
    sign_up(auth, email)
    first = message(auth, email)
    sign_up(auth, email)
    assert refused(auth.get(first["action_link"])) == (403, "otp_expired")
    done(auth.get(message(auth, email)["action_link"]))


@pytest.mark.parametrize("field", ["token", "token_hash"])
def test_the_messages_code_confirms_too(auth: httpx.Client, email: str, field: str) -> None:
    sign_up(auth, email)
    body = {"type": "signup", "email": email, field: message(auth, email)[field]}
    assert done(auth.post("verify", json=body))["user"]["email"] == email


def test_the_link_hands_the_session_on(auth: httpx.Client, email: str) -> None:
    sign_up(auth, email)
    link = httpx.URL(message(auth, email)["action_link"])
    answer = auth.get(link.copy_add_param("redirect_to", "http://127.0.0.1:9/welcome"))
    assert answer.status_code == 303
    location = urlsplit(answer.headers["location"])
    assert location.path == "/welcome"
    token = parse_qs(location.fragment)["access_token"][0]
    bearer = {"Authorization": f"Bearer {token}"}
    assert done(auth.get("user", headers=bearer))["email"] == email


def test_nobody_learns_who_has_signed_up(auth: httpx.Client, email: str) -> None:
    user = confirmed(auth, email)["user"]
    told = message(auth, email)
    answer = sign_up(auth, email, "another password")
    assert answer["id"] != user["id"]
    assert message(auth, email) == told
    wrong = sign_in(auth, email, "another password")
    unknown = sign_in(auth, f"not-{email}")
    assert refused(wrong) == refused(unknown) == (400, "invalid_credentials")
    assert wrong.json() == unknown.json()


def test_a_token_is_what_the_functions_accept(
    stand_ins: StandIns, auth: httpx.Client, email: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = confirmed(auth, email)
    for name, value in stand_ins.layout.functions_environment().items():
        monkeypatch.setenv(name, value)
    claims = asyncio.run(UserTokens().claims(session["access_token"]))
    assert claims["sub"] == session["user"]["id"]
    assert (claims["role"], claims["email"]) == ("authenticated", email)


def test_a_token_of_another_key_is_refused(
    stand_ins: StandIns, auth: httpx.Client, email: str
) -> None:
    user = confirmed(auth, email)["user"]
    claims = {"sub": user["id"], "aud": "authenticated", "iss": stand_ins.layout.auth_url}
    forged = stand_ins.layout.google_key.sign(claims | {"exp": 4_000_000_000})
    answer = auth.get("user", headers={"Authorization": f"Bearer {forged}"})
    assert refused(answer) == (403, "bad_jwt")


def test_a_refresh_token_works_once(auth: httpx.Client, email: str) -> None:
    session = confirmed(auth, email)

    def refresh(token: str) -> httpx.Response:
        return auth.post(
            "token", params={"grant_type": "refresh_token"}, json={"refresh_token": token}
        )

    renewed = done(refresh(session["refresh_token"]))
    assert renewed["user"]["id"] == session["user"]["id"]
    assert refused(refresh(session["refresh_token"])) == (400, "refresh_token_not_found")

    bearer = {"Authorization": f"Bearer {renewed['access_token']}"}
    assert auth.post("logout", headers=bearer).status_code == 204
    assert refused(refresh(renewed["refresh_token"])) == (400, "refresh_token_not_found")


@pytest.mark.parametrize(
    ("changes", "status", "code"),
    [
        pytest.param({"email": "ada"}, 400, "validation_failed", id="no address"),
        pytest.param({"email": "a b@example.com"}, 400, "validation_failed", id="a space"),
        pytest.param({"email": None}, 400, "validation_failed", id="null for an address"),
        pytest.param({"email": "a\x00@example.com"}, 400, "bad_json", id="a NUL"),
        pytest.param({"email": "\ud800@example.com"}, 400, "bad_json", id="half a character"),
        pytest.param({"password": "12345"}, 422, "weak_password", id="a short password"),
        pytest.param({"password": ""}, 422, "weak_password", id="no password"),
        pytest.param({"data": "admin"}, 400, "bad_json", id="a text for metadata"),
    ],
)
def test_refuses_a_sign_up_with(
    auth: httpx.Client, email: str, changes: dict[str, object], status: int, code: str
) -> None:
    body = json.dumps({"email": email, "password": PASSWORD} | changes)
    assert refused(auth.post("signup", content=body)) == (status, code)


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b'"text"', b"\xff"])
def test_refuses_a_body_that_is_no_object(auth: httpx.Client, body: bytes) -> None:
    assert refused(auth.post("signup", content=body)) == (400, "bad_json")


def test_refuses_whoever_has_no_key(stand_ins: StandIns) -> None:
    answer = httpx.post(f"{stand_ins.layout.auth_url}/signup", json={}, trust_env=False)
    assert refused(answer) == (401, "no_api_key")


def test_only_the_secret_key_creates_users(
    stand_ins: StandIns, auth: httpx.Client, email: str
) -> None:
    body = {"email": email, "password": PASSWORD, "email_confirm": True}
    assert refused(auth.post("admin/users", json=body)) == (403, "not_admin")
    user_token = confirmed(auth, f"other-{email}")["access_token"]
    as_user = {"Authorization": f"Bearer {user_token}"}
    assert refused(auth.post("admin/users", json=body, headers=as_user)) == (403, "not_admin")

    secret_key = stand_ins.layout.secrets.secret_key
    as_server = {"apikey": secret_key, "Authorization": f"Bearer {secret_key}"}
    user = done(auth.post("admin/users", json=body, headers=as_server))
    assert done(sign_in(auth, email))["user"]["id"] == user["id"]
    again = auth.post("admin/users", json=body, headers=as_server)
    assert refused(again) == (422, "email_exists")


def as_server(stand_ins: StandIns) -> dict[str, str]:
    secret_key = stand_ins.layout.secrets.secret_key
    return {"apikey": secret_key, "Authorization": f"Bearer {secret_key}"}


def test_an_invitation_makes_a_user_whom_its_link_confirms(
    stand_ins: StandIns, auth: httpx.Client, email: str
) -> None:
    body = {"email": email, "data": {"name": "Ada"}}
    assert refused(auth.post("invite", json=body)) == (403, "not_admin")
    where = {"redirect_to": "http://localhost:3000/join?invitation=x&y=z"}
    server = as_server(stand_ins)
    user = done(auth.post("invite", json=body, params=where, headers=server))
    assert (user["user_metadata"], "email_confirmed_at" in user) == ({"name": "Ada"}, False)
    assert user["invited_at"]
    # Until it is followed, an invitation can be repeated.
    again = done(auth.post("invite", json=body, params=where, headers=server))
    assert again["id"] == user["id"]

    link = message(auth, email)["action_link"]
    answer = auth.get(link)
    location = urlsplit(answer.headers["location"])
    assert (location.path, location.query) == ("/join", "invitation=x&y=z")
    assert parse_qs(location.fragment)["type"] == ["invite"]
    token = parse_qs(location.fragment)["access_token"][0]
    mine = done(auth.get("user", headers={"Authorization": f"Bearer {token}"}))
    assert mine["email_confirmed_at"]
    expired = urlsplit(auth.get(link).headers["location"])
    assert (expired.query, parse_qs(expired.fragment)["error_code"]) == (
        "invitation=x&y=z",
        ["otp_expired"],
    )
    exists = auth.post("invite", json=body, headers=server)
    assert refused(exists) == (422, "email_exists")
    assert refused(sign_in(auth, email, "")) == (400, "invalid_credentials")


def test_a_magic_link_signs_in_whoever_is_confirmed(auth: httpx.Client, email: str) -> None:
    user = confirmed(auth, email)["user"]
    assert done(auth.post("otp", json={"email": email, "create_user": False})) == {}
    told = message(auth, email)
    assert told["type"] == "magiclink"
    by_token = {"type": "magiclink", "email": email, "token": told["token"]}
    session = done(auth.post("verify", json=by_token))
    assert session["user"]["id"] == user["id"]
    assert refused(auth.get(told["action_link"])) == (403, "otp_expired")


def test_a_magic_link_makes_a_user_only_if_asked_to(auth: httpx.Client, email: str) -> None:
    refusal = auth.post("otp", json={"email": email, "create_user": False})
    assert refused(refusal) == (422, "otp_disabled")
    assert refused(auth.get("_mailbox", params={"email": email})) == (404, "not_found")
    done(auth.post("otp", json={"email": email}))
    assert message(auth, email)["type"] == "signup"
    assert done(auth.get(message(auth, email)["action_link"]))["user"]["email"] == email


def test_a_project_sends_as_many_mails_as_it_may(
    stand_ins: StandIns, auth: httpx.Client, email: str
) -> None:
    user = confirmed(auth, f"known-{email}")["user"]
    assert auth.post("_mailbox", json={"remaining": 1}).status_code == 204
    server = as_server(stand_ins)
    done(auth.post("otp", json={"email": user["email"]}))
    for answer in (
        auth.post("signup", json={"email": email, "password": PASSWORD}),
        auth.post("otp", json={"email": user["email"]}),
        auth.post("invite", json={"email": email}, headers=server),
    ):
        assert refused(answer) == (429, "over_email_send_rate_limit")
    with psycopg.connect(stand_ins.database.owner_url) as owner:
        row = owner.execute("select count(*) from auth.users where email = %s", [email])
        assert row.fetchone() == (0,)
    auth.post("_mailbox", json={"remaining": None})
    sign_up(auth, email)


def test_a_password_is_not_stored(stand_ins: StandIns, auth: httpx.Client, email: str) -> None:
    sign_up(auth, email)
    with psycopg.connect(stand_ins.database.owner_url) as owner:
        row = owner.execute("select u::text from auth.users as u where email = %s", [email])
        (stored,) = row.fetchone() or ("",)
    assert email in stored
    assert PASSWORD not in stored
