"""passports: keys that never open more than their issuer's, and close at once."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tests.harness.answers import done, problem
from tests.harness.client import Client, Load
from tests.harness.platform import Platform

CI = {"name": "CI", "permissions": ["read"]}


@pytest.fixture
def client(function: Load) -> Client:
    return function("passports")


def _is_alive(client: Client, key: str) -> bool:
    response = client.get("/v1/passports", by=key)
    if response.status_code == 401:
        problem(response, 401, "invalid_passport")
    return response.status_code == 200


def _in(**distance: int) -> str:
    return (datetime.now(UTC) + timedelta(**distance)).isoformat()


def test_a_passport_does_what_it_was_given(client: Client, platform: Platform) -> None:
    owner = platform.organization()
    made = done(client.post("/v1/passports", CI, by=owner.passport), 201)
    assert (made["name"], made["permissions"]) == ("CI", ["read"])
    assert made["key"].startswith(made["key_prefix"])
    assert _is_alive(client, made["key"])
    problem(client.post("/v1/passports", CI, by=made["key"]), 403, "permission_denied")


def test_a_key_is_nowhere_but_in_the_first_answer(client: Client, platform: Platform) -> None:
    owner = platform.organization()
    first = client.post("/v1/passports", CI, by=owner.passport, repeat="passport-1")
    again = client.post("/v1/passports", CI, by=owner.passport, repeat="passport-1")
    key = done(first, 201)["key"]
    assert again.headers["idempotent-replayed"] == "true"
    assert done(again, 201) == done(first, 201) | {"key": None}
    for passport in done(client.get("/v1/passports", by=owner.passport))["data"]:
        assert "key" not in passport
    stored = platform.value(
        "select string_agg(t::text, '') from ("
        " select to_jsonb(p) as t from billing.passports as p"
        " union all select to_jsonb(k) from billing.idempotency_keys as k"
        " union all select to_jsonb(a) from billing.audit_log as a) as everything"
    )
    assert key[:12] in stored
    assert key not in stored
    problem(
        client.post("/v1/passports", CI | {"name": "CD"}, by=owner.passport, repeat="passport-1"),
        409,
        "idempotency_conflict",
    )


@pytest.mark.parametrize(
    ("issuer", "wanted"),
    [
        pytest.param(["write"], ["read"], id="read from write"),
        pytest.param(["read", "write"], ["billing"], id="billing"),
        pytest.param(["read", "write", "billing"], ["admin"], id="admin"),
        pytest.param(["read", "write"], ["read", "write", "billing"], id="one too many"),
    ],
)
def test_a_passport_grants_no_permission_its_issuer_lacks(
    client: Client, platform: Platform, issuer: list[str], wanted: list[str]
) -> None:
    owner = platform.organization()
    key = platform.passport(owner.id, *issuer)
    before = platform.contents()
    body = {"name": "more", "permissions": wanted}
    problem(client.post("/v1/passports", body, by=key), 403, "passport_exceeds_issuer")
    assert platform.contents() == before


def test_a_member_grants_what_members_may(client: Client, platform: Platform) -> None:
    owner, member = platform.organization(), platform.user()
    platform.join(member, owner, "member")
    body = {"name": "mine", "permissions": ["read", "write"]}
    done(client.post("/v1/passports", body, by=member.token), 201)
    body = {"name": "mine", "permissions": ["billing"]}
    problem(client.post("/v1/passports", body, by=member.token), 403, "passport_exceeds_issuer")


def test_a_passport_does_not_outlive_its_issuer(client: Client, platform: Platform) -> None:
    owner = platform.organization()
    short = platform.passport(owner.id, "read", "write", expires_in_seconds=3600)
    longer = CI | {"expires_at": _in(hours=2)}
    problem(client.post("/v1/passports", longer, by=short), 403, "passport_exceeds_issuer")
    made = done(client.post("/v1/passports", CI, by=short), 201)
    platform.advance(3599)
    assert _is_alive(client, made["key"])
    platform.advance(2)
    assert not _is_alive(client, made["key"])


def test_a_passport_expires_on_time(client: Client, platform: Platform) -> None:
    owner = platform.organization()
    body = CI | {"expires_at": _in(seconds=100)}
    made = done(client.post("/v1/passports", body, by=owner.passport), 201)
    platform.advance(90)
    assert _is_alive(client, made["key"])
    platform.advance(11)
    assert not _is_alive(client, made["key"])


def test_the_past_is_no_expiry(client: Client, platform: Platform) -> None:
    owner = platform.organization()
    body = CI | {"expires_at": _in(seconds=-1)}
    problem(client.post("/v1/passports", body, by=owner.passport), 400, "expiry_in_the_past")


def test_rotation_overlaps_for_as_long_as_was_chosen(client: Client, platform: Platform) -> None:
    owner = platform.organization()
    old = done(client.post("/v1/passports", CI, by=owner.passport), 201)
    new = done(
        client.post(
            f"/v1/passports/{old['id']}/rotate", {"overlap_seconds": 3600}, by=owner.passport
        ),
        201,
    )
    assert (new["name"], new["permissions"]) == (old["name"], old["permissions"])
    assert new["key"] != old["key"]
    platform.advance(3590)
    assert _is_alive(client, old["key"])
    platform.advance(11)
    assert not _is_alive(client, old["key"])
    assert _is_alive(client, new["key"])


def test_rotation_without_overlap_ends_the_old_key_at_once(
    client: Client, platform: Platform
) -> None:
    owner = platform.organization()
    path = f"/v1/passports/{platform.passport_id(owner.passport)}/rotate"
    new = done(client.post(path, {}, by=owner.passport), 201)
    assert not _is_alive(client, owner.passport)
    assert _is_alive(client, new["key"])


def test_the_same_key_rotates_once(client: Client, platform: Platform) -> None:
    owner = platform.organization()
    old = done(client.post("/v1/passports", CI, by=owner.passport), 201)
    path = f"/v1/passports/{old['id']}/rotate"
    first, again = (client.post(path, {}, by=owner.passport, repeat="rotate-1") for _ in range(2))
    assert again.headers["idempotent-replayed"] == "true"
    assert done(again, 201) == done(first, 201) | {"key": None}
    other = client.post(path, {"overlap_seconds": 1}, by=owner.passport, repeat="rotate-1")
    problem(other, 409, "idempotency_conflict")
    problem(client.post(path, {}, by=owner.passport), 404, "passport_not_found")


def test_a_revoked_passport_is_refused_by_the_next_call(client: Client, platform: Platform) -> None:
    owner = platform.organization()
    made = done(client.post("/v1/passports", CI, by=owner.passport), 201)
    assert _is_alive(client, made["key"])
    path = f"/v1/passports/{made['id']}/revoke"
    first, again = (client.post(path, by=owner.passport, repeat="revoke-1") for _ in range(2))
    assert not _is_alive(client, made["key"])
    assert done(first)["revoked_at"] is not None
    assert again.headers["idempotent-replayed"] == "true"
    assert done(again) == done(first)
    problem(client.post(path, by=owner.passport), 404, "passport_not_found")


@pytest.mark.parametrize("action", ["rotate", "revoke"])
def test_a_weaker_passport_does_not_touch_a_stronger(
    client: Client, platform: Platform, action: str
) -> None:
    owner = platform.organization()
    weak = platform.passport(owner.id, "read", "write")
    path = f"/v1/passports/{platform.passport_id(owner.passport)}/{action}"
    body: dict[str, Any] | None = {} if action == "rotate" else None
    problem(client.post(path, body, by=weak), 403, "passport_exceeds_issuer")
    assert _is_alive(client, owner.passport)


def test_a_rotated_passport_does_not_outlive_who_rotated_it(
    client: Client, platform: Platform
) -> None:
    owner = platform.organization()
    short = platform.passport(owner.id, "read", "write", expires_in_seconds=60)
    long = platform.passport(owner.id, "read", expires_in_seconds=3600)
    path = f"/v1/passports/{platform.passport_id(long)}/rotate"
    new = done(client.post(path, {}, by=short), 201)
    platform.advance(61)
    assert not _is_alive(client, new["key"])


def test_the_plan_limits_live_passports(client: Client, platform: Platform) -> None:
    owner = platform.organization()
    platform.alter("update billing.plans set max_passports = 2 where id = 'free'")
    made = done(client.post("/v1/passports", CI, by=owner.passport), 201)
    problem(client.post("/v1/passports", CI, by=owner.passport), 409, "passport_limit_reached")
    rotated = done(client.post(f"/v1/passports/{made['id']}/rotate", by=owner.passport), 201)
    overlapping = {"overlap_seconds": 60}
    path = f"/v1/passports/{rotated['id']}"
    problem(
        client.post(f"{path}/rotate", overlapping, by=owner.passport), 409, "passport_limit_reached"
    )
    done(client.post(f"{path}/revoke", by=owner.passport))
    done(client.post("/v1/passports", CI, by=owner.passport), 201)


def test_lists_in_pages_newest_first(client: Client, platform: Platform) -> None:
    owner = platform.organization()
    for number in range(4):
        body = {"name": f"number {number}", "permissions": ["read"]}
        done(client.post("/v1/passports", body, by=owner.passport), 201)
    names: list[str] = []
    query: dict[str, Any] = {"limit": 2}
    while True:
        page = done(client.get("/v1/passports", by=owner.passport, params=query))
        names += [passport["name"] for passport in page["data"]]
        if not page["has_more"]:
            break
        query["cursor"] = page["next_cursor"]
    assert page["next_cursor"] is None
    assert names == ["number 3", "number 2", "number 1", "number 0", "test"]


@pytest.mark.parametrize(
    ("body", "where"),
    [
        pytest.param({"permissions": ["read"]}, "body.name", id="no name"),
        pytest.param(CI | {"name": "  "}, "body.name", id="blank name"),
        pytest.param(CI | {"name": "a\nb"}, "body.name", id="two lines"),
        pytest.param(CI | {"name": "a\x00b"}, "body.name", id="NUL"),
        pytest.param(CI | {"name": "x" * 101}, "body.name", id="long name"),
        pytest.param(CI | {"permissions": []}, "body.permissions", id="no permission"),
        pytest.param(CI | {"permissions": ["root"]}, "body.permissions.0", id="unknown permission"),
        pytest.param(CI | {"permissions": "read"}, "body.permissions", id="no list"),
        pytest.param(CI | {"permissions": ["read"] * 5}, "body.permissions", id="too many"),
        pytest.param(CI | {"expires_at": "tomorrow"}, "body.expires_at", id="no time"),
        pytest.param(CI | {"expires_at": "2030-01-01T00:00:00"}, "body.expires_at", id="no offset"),
        pytest.param(
            CI | {"expires_at": "9999-12-31T23:59:59Z"}, "body.expires_at", id="end of time"
        ),
        pytest.param(CI | {"organization_id": "x"}, "body.organization_id", id="organization"),
    ],
)
def test_refuses(client: Client, platform: Platform, body: dict[str, Any], where: str) -> None:
    owner = platform.organization()
    before = platform.contents()
    refusal = problem(client.post("/v1/passports", body, by=owner.passport), 400, "invalid_request")
    assert refusal["errors"][0]["where"].startswith(where)
    assert platform.contents() == before
