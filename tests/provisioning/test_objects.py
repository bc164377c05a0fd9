"""Objects: signed addresses take what was asked and nothing else, lists, deletion, measuring."""

from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest

from tests.harness.answers import done, problem
from tests.harness.client import Client, Load
from tests.harness.provisioning import HOUR, Provisioning

GB = 2**30


@pytest.fixture(params=["europe-west4", "local-s3"])
def bucket(storage: Provisioning, request: pytest.FixtureRequest) -> str:
    return storage.ready(region=request.param, size_gb=1)


@pytest.fixture
def desk(function: Load) -> Client:
    return function("objects")


def _sign(
    desk: Client, storage: Provisioning, storage_id: str, name: str, size: int, **more: object
) -> httpx.Response:
    body = {"object": name, "size_bytes": size, **more}
    return desk.post(f"/v1/storage/{storage_id}/uploads", body, by=storage.organization.passport)


def _upload(
    desk: Client, storage: Provisioning, storage_id: str, name: str, content: bytes
) -> dict[str, Any]:
    signed = done(_sign(desk, storage, storage_id, name, len(content)))
    answer = _put(signed, content)
    assert answer.status_code == 200, answer.text
    return signed


def _put(signed: dict[str, Any], content: bytes, **headers: str) -> httpx.Response:
    return httpx.request(
        signed["method"],
        signed["url"],
        content=content,
        headers=signed["headers"] | headers,
        trust_env=False,
    )


def _list(desk: Client, storage: Provisioning, storage_id: str, **query: object) -> dict[str, Any]:
    path = f"/v1/storage/{storage_id}/objects"
    found: dict[str, Any] = done(desk.get(path, by=storage.organization.passport, params=query))
    return found


NAMES = ["a", "data/2026/run 1.csv", "größe/日本語.txt", "a+b=c&d%20e?f#g", "..a/.b", "x" * 1024]


def test_what_goes_in_comes_out(desk: Client, storage: Provisioning, bucket: str) -> None:
    by = storage.organization.passport
    for number, name in enumerate(NAMES):
        _upload(desk, storage, bucket, name, b"%d" % number)
    found = _list(desk, storage, bucket)
    assert sorted(each["object"] for each in found["data"]) == sorted(NAMES)
    assert (found["has_more"], found["next_cursor"]) == (False, None)
    for number, name in enumerate(NAMES):
        path = f"/v1/storage/{bucket}/downloads"
        signed = done(desk.post(path, {"object": name}, by=by))
        answer = httpx.get(signed["url"], trust_env=False)
        assert (answer.status_code, answer.content) == (200, b"%d" % number)
        assert answer.headers["content-disposition"] == "attachment"
        assert answer.headers["content-type"] == "application/octet-stream"
        path = f"/v1/storage/{bucket}/objects"
        for _ in range(2):
            gone = desk.request("DELETE", path, params={"object": name}, by=by)
            assert gone.status_code == 204, gone.text
    assert _list(desk, storage, bucket)["data"] == []


def test_a_cursor_of_nobodys_is_refused(desk: Client, storage: Provisioning, bucket: str) -> None:
    _upload(desk, storage, bucket, "a", b"1")
    path = f"/v1/storage/{bucket}/objects"
    for cursor in ("x", "-1", "99999999999999999999"):
        answer = desk.get(path, by=storage.organization.passport, params={"cursor": cursor})
        problem(answer, 400, "invalid_request")


def test_what_may_still_come_in_is_not_shrunk_away(
    desk: Client, storage: Provisioning, function: Load
) -> None:
    bucket = storage.ready(size_gb=3)
    renting, by = function("storage"), storage.organization.passport
    for name in "abc":
        done(_sign(desk, storage, bucket, name, GB // 2))
    path = f"/v1/storage/{bucket}/resize"
    refused = problem(renting.post(path, {"size_gb": 1}, by=by), 409, "storage_in_use")
    assert (refused["used_bytes"], refused["measured_at"]) == (3 * GB // 2, None)
    assert done(renting.post(path, {"size_gb": 2}, by=by))["size_gb"] == 2
    # Nobody came: a measurement sees that.
    storage.platform.advance(25 * HOUR)
    assert done(storage.measure())["measured"] == 1
    assert done(renting.post(path, {"size_gb": 1}, by=by))["size_gb"] == 1


def test_a_list_has_pages_and_a_prefix(desk: Client, storage: Provisioning, bucket: str) -> None:
    for number in range(3):
        _upload(desk, storage, bucket, f"a/{number}", b"12")
    _upload(desk, storage, bucket, "b", b"")
    seen: list[str] = []
    cursor: dict[str, str] = {}
    for has_more in (True, False):
        page = _list(desk, storage, bucket, prefix="a/", limit=2, **cursor)
        assert page["has_more"] is has_more
        seen += [each["object"] for each in page["data"]]
        assert {each["size_bytes"] for each in page["data"]} == {2}
        cursor = {"cursor": page["next_cursor"]}
    assert seen == ["a/0", "a/1", "a/2"]


def test_more_than_was_signed_for_is_not_taken(
    desk: Client, storage: Provisioning, bucket: str
) -> None:
    signed = done(_sign(desk, storage, bucket, "a", 4, content_type="text/plain"))
    assert signed["headers"]["Content-Type"] == "text/plain"
    if storage.row(bucket)["region_id"] == "local-s3":
        # The stand-in checks no signatures; under this one is the length, which S3 holds to.
        names = parse_qs(urlsplit(signed["url"]).query)["X-Amz-SignedHeaders"]
        assert names == ["content-length;content-type;host"]
        assert signed["headers"]["Content-Length"] == "4"
    else:
        assert _put(signed, b"12345").status_code == 400
        assert not _put(signed, b"1234", **{"Content-Type": "text/html"}).is_success
        assert _list(desk, storage, bucket)["data"] == []
    assert _put(signed, b"1234").status_code == 200


def test_the_quota_counts_what_was_signed_for(
    desk: Client, storage: Provisioning, bucket: str
) -> None:
    done(_sign(desk, storage, bucket, "a", GB - 10))
    done(_sign(desk, storage, bucket, "a", GB - 10))
    full = problem(_sign(desk, storage, bucket, "b", 11), 409, "storage_full")
    assert (full["size_bytes"], full["free_bytes"]) == (11, 10)
    done(_sign(desk, storage, bucket, "b", 10))
    before = storage.platform.contents()
    problem(_sign(desk, storage, bucket, "c", 1), 409, "storage_full")
    assert storage.platform.contents() == before
    done(_sign(desk, storage, bucket, "c", 0))
    # Nobody came; once the addresses have expired, a measurement frees the room.
    storage.platform.advance(25 * HOUR)
    assert done(storage.measure())["measured"] == 1
    done(_sign(desk, storage, bucket, "c", GB))


CLEVER = [
    *["", "/", "/a", "a/", "a//b", ".", "..", "../a", "a/../b", "a/..", "./a", "a\\b", "..\\a"],
    *["a\x00", "a\nb", "a\r\nHost: b", "\x7f", "a\x85", "\u202egpj.exe", "a\u2066b", "\u200b"],
    *["a\u2028", "\ufeffa", "\ue000", "x" * 1025, "ä" * 513],
    *[".well-known/acme-challenge/x"],
]


@pytest.mark.parametrize("name", CLEVER, ids=ascii)
def test_a_clever_name_is_refused(
    desk: Client, storage: Provisioning, platform_bucket: str, name: str
) -> None:
    before = storage.platform.contents()
    by = storage.organization.passport
    path = f"/v1/storage/{platform_bucket}"
    problem(_sign(desk, storage, platform_bucket, name, 1), 400, "invalid_request")
    problem(desk.post(f"{path}/downloads", {"object": name}, by=by), 400, "invalid_request")
    if name.isascii():
        answer = desk.request("DELETE", f"{path}/objects", params={"object": name}, by=by)
        problem(answer, 400, "invalid_request")
    assert storage.platform.contents() == before


@pytest.fixture
def platform_bucket(storage: Provisioning) -> str:
    return storage.ready(size_gb=1)


@pytest.mark.parametrize(
    "changes",
    [
        *[{"size_bytes": size} for size in (-1, 5 * GB + 1, "1", 1.5, True, None)],
        *[{"content_type": kind} for kind in ("", "text", "text/html\r\nX: y", "x" * 101, "a/ü")],
        {"bucket": "other"},
    ],
    ids=str,
)
def test_a_wrong_request_is_refused(
    desk: Client, storage: Provisioning, platform_bucket: str, changes: dict[str, Any]
) -> None:
    body = {"object": "a", "size_bytes": 1} | changes
    path = f"/v1/storage/{platform_bucket}/uploads"
    answer = desk.post(path, body, by=storage.organization.passport)
    problem(answer, 400, "invalid_request")


def _statuses(desk: Client, storage: Provisioning, storage_id: str, by: str) -> list[int]:
    path = f"/v1/storage/{storage_id}"
    return [
        desk.post(f"{path}/uploads", {"object": "a", "size_bytes": 1}, by=by).status_code,
        desk.post(f"{path}/downloads", {"object": "a"}, by=by).status_code,
        desk.get(f"{path}/objects", by=by).status_code,
        desk.request("DELETE", f"{path}/objects", params={"object": "a"}, by=by).status_code,
    ]


def test_who_may_do_what_and_when(
    desk: Client, storage: Provisioning, platform_bucket: str
) -> None:
    own = storage.organization
    assert _statuses(desk, storage, platform_bucket, own.passport) == [200, 200, 200, 204]
    reader = storage.platform.passport(own.id, "read")
    assert _statuses(desk, storage, platform_bucket, reader) == [403, 200, 200, 403]
    other = storage.platform.organization("pro", usd=5)
    assert _statuses(desk, storage, platform_bucket, other.passport) == [404] * 4
    for status, expected in {
        "grace": [200, 200, 200, 204],
        "read_only": [409, 200, 200, 204],
        "deletion_notice": [409, 200, 200, 204],
        **dict.fromkeys(["deleting", "deleted", "failed", "requested", "provisioning"], [409] * 4),
    }.items():
        storage.platform.run(
            "update billing.storage set status = %s where id = %s", status, platform_bucket
        )
        assert _statuses(desk, storage, platform_bucket, own.passport) == expected, status
    storage.platform.run(
        "update billing.storage set status = 'ready' where id = %s", platform_bucket
    )


def test_a_file_share_has_no_objects(desk: Client, storage: Provisioning) -> None:
    share = storage.rent("filestore", size_gb=1024)
    assert _statuses(desk, storage, share, storage.organization.passport) == [409] * 4


def test_what_is_in_a_bucket_is_measured_and_charged_for(
    desk: Client, storage: Provisioning, bucket: str
) -> None:
    _upload(desk, storage, bucket, "a", b"12345")
    _upload(desk, storage, bucket, "b/c", b"123")
    assert done(storage.measure()) == {"measured": 1, "failed": 0, "more": False}
    row = storage.row(bucket)
    assert row["used_bytes"] == 8
    assert done(storage.measure())["measured"] == 0
    storage.platform.advance(24 * HOUR)
    assert done(storage.measure())["measured"] == 1
    # As though there were more in it than was rented.
    assert "storage_over_quota" not in storage.notified()
    for used in (3 * GB + 1, 3 * GB + 2):
        storage.platform.value(
            "select is_over_quota from api.record_storage_usage(%s, %s, billing.now(), %s)",
            storage.organization.id,
            bucket,
            used,
        )
    assert storage.notified().count("storage_over_quota") == 1
    billed = storage.platform.value(
        "select billed_gb from billing.storage_periods where storage_id = %s and ends_at is null",
        bucket,
    )
    assert billed == 4


def test_a_bucket_that_cannot_be_measured_holds_up_no_other(
    storage: Provisioning, function: Load
) -> None:
    broken, whole = storage.ready(), storage.ready()
    name = storage.row(broken)["resource_name"]
    url = f"{storage.platform.cloud.layout.gcs_url}/storage/v1/b/{name}"
    assert httpx.delete(url, trust_env=False).is_success
    assert done(storage.measure()) == {"measured": 1, "failed": 1, "more": False}
    assert storage.row(whole)["used_bytes"] == 0
    assert done(storage.measure())["failed"] == 0
    storage.platform.advance(HOUR)
    assert done(storage.measure())["failed"] == 1
