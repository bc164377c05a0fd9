"""The stand-in for Cloud Storage, seen by Google's own library."""

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import google.auth.credentials
import httpx
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from google.api_core.exceptions import BadRequest, Conflict, Forbidden, NotFound, PreconditionFailed
from google.auth.credentials import AnonymousCredentials
from google.auth.crypt.rsa import RSASigner
from google.cloud.storage import Bucket, Client

from infra.local.layout import GOOGLE_PROJECT, INVOKER, SIGNER, Secrets
from infra.local.template import Database
from tests.local.stand_ins import StandIns, run_stand_ins


@pytest.fixture
def client(stand_ins: StandIns) -> Iterator[Client]:
    """Give Google's client as the functions have it."""
    with connect(stand_ins) as client:
        yield client


def connect(stand_ins: StandIns) -> Client:
    return Client(
        GOOGLE_PROJECT,
        credentials=AnonymousCredentials(),  # type: ignore[no-untyped-call]
        client_options={"api_endpoint": stand_ins.layout.gcs_url},
    )


@pytest.fixture
def bucket(client: Client) -> Bucket:
    """Give a bucket of our project."""
    return client.create_bucket(new_name(), retry=None)


def new_name() -> str:
    return f"fg-{uuid4().hex}"


def test_a_bucket_keeps_what_it_was_made_with(client: Client) -> None:
    asked = Bucket(client, new_name())
    asked.labels = {"faregate-storage": "7"}
    asked.iam_configuration.uniform_bucket_level_access_enabled = True
    asked.iam_configuration.public_access_prevention = "enforced"
    asked.soft_delete_policy.retention_duration_seconds = 0
    asked.add_lifecycle_delete_rule(age=30)
    client.create_bucket(asked, location="EUROPE-WEST4", retry=None)
    found = client.get_bucket(asked.name, retry=None)
    assert found.labels == {"faregate-storage": "7"}
    assert found.iam_configuration.uniform_bucket_level_access_enabled
    assert found.iam_configuration.public_access_prevention == "enforced"
    assert found.soft_delete_policy.retention_duration_seconds == 0
    assert [dict(rule) for rule in found.lifecycle_rules] == [
        {"action": {"type": "Delete"}, "condition": {"age": 30}}
    ]
    assert (found.location, found.location_type) == ("EUROPE-WEST4", "region")
    assert found.name in [each.name for each in client.list_buckets(retry=None)]


def test_a_bucket_changes_what_is_said_and_nothing_else(client: Client, bucket: Bucket) -> None:
    bucket.labels = {"a": "1", "b": "2"}
    bucket.patch(retry=None)
    bucket.labels = {"b": "3"}
    bucket.patch(retry=None)
    found = client.get_bucket(bucket.name, retry=None)
    assert found.labels == {"b": "3"}
    assert found.metageneration == 3
    assert found.soft_delete_policy.retention_duration_seconds == 7 * 24 * 3600
    with pytest.raises(PreconditionFailed):
        bucket.patch(if_metageneration_match=1, retry=None)


def test_a_name_is_taken_by_whoever_was_first(
    stand_ins: StandIns, client: Client, bucket: Bucket
) -> None:
    with pytest.raises(Conflict, match="you already own it"):
        client.create_bucket(bucket.name, retry=None)
    foreign = new_name()
    httpx.post(f"{stand_ins.layout.gcs_url}/_buckets/{foreign}", trust_env=False)
    with pytest.raises(Conflict, match="requested bucket name is not available"):
        client.create_bucket(foreign, retry=None)
    for act in (
        client.get_bucket,
        lambda name, retry: client.bucket(name).delete(retry=retry),
        lambda name, retry: client.bucket(name).get_iam_policy(retry=retry),
        lambda name, retry: list(client.list_blobs(name, retry=retry)),
        lambda name, retry: client.bucket(name).blob("a").upload_from_string(b"a", retry=retry),
    ):
        with pytest.raises(Forbidden):
            act(foreign, retry=None)
    assert foreign not in [each.name for each in client.list_buckets(retry=None)]


@pytest.mark.parametrize(
    "name",
    [
        *("ab", "a" * 64, "Upper", "goog-one", "my-google-bucket", "g00gle"),
        *("192.168.1.1", "a..b", "ünicode", "a b c"),
    ],
)
def test_a_name_follows_the_rules(client: Client, name: str) -> None:
    with pytest.raises(BadRequest, match="Invalid bucket name"):
        client.create_bucket(name, retry=None)


def test_what_a_bucket_cannot_be_is_refused(client: Client) -> None:
    with pytest.raises(BadRequest, match="location constraint"):
        client.create_bucket(new_name(), location="MIDDLE-EARTH", retry=None)
    with pytest.raises(Forbidden, match="domain ownership"):
        client.create_bucket("bucket.example.com", retry=None)
    with pytest.raises(Forbidden, match=r"storage\.buckets\.create"):
        client.create_bucket(new_name(), project="another", retry=None)
    too_short = Bucket(client, new_name())
    too_short.soft_delete_policy.retention_duration_seconds = 3600
    with pytest.raises(BadRequest, match="Soft delete"):
        client.create_bucket(too_short, retry=None)
    badly_labelled = Bucket(client, new_name())
    badly_labelled.labels = {"Upper": "a"}
    with pytest.raises(BadRequest, match="label"):
        client.create_bucket(badly_labelled, retry=None)
    with pytest.raises(NotFound, match="does not exist"):
        client.get_bucket(new_name(), retry=None)


def test_only_an_empty_bucket_can_be_deleted(client: Client, bucket: Bucket) -> None:
    blob = bucket.blob("a")
    blob.upload_from_string(b"1", retry=None)
    with pytest.raises(Conflict, match="not empty"):
        bucket.delete(retry=None)
    blob.delete(retry=None)
    bucket.delete(retry=None)
    with pytest.raises(NotFound):
        bucket.delete(retry=None)
    with pytest.raises(NotFound):
        blob.upload_from_string(b"1", retry=None)


def test_an_access_policy_is_changed_by_who_knows_it(bucket: Bucket) -> None:
    first = bucket.get_iam_policy(requested_policy_version=3, retry=None)
    second = bucket.get_iam_policy(requested_policy_version=3, retry=None)
    member = f"serviceAccount:{SIGNER}"
    first.bindings = [{"role": "roles/storage.objectUser", "members": {member}}]
    bucket.set_iam_policy(first, retry=None)
    found = bucket.get_iam_policy(retry=None)
    assert found["roles/storage.objectUser"] == {member}
    second.bindings = []
    with pytest.raises(PreconditionFailed):
        bucket.set_iam_policy(second, retry=None)
    assert bucket.get_iam_policy(retry=None)["roles/storage.objectUser"] == {member}


def test_an_access_policy_names_only_who_exists(bucket: Bucket) -> None:
    policy = bucket.get_iam_policy(retry=None)
    policy["roles/storage.objectUser"] = {
        f"serviceAccount:nobody@{GOOGLE_PROJECT}.iam.gserviceaccount.com"
    }
    with pytest.raises(BadRequest, match="does not exist"):
        bucket.set_iam_policy(policy, retry=None)


def test_public_access_can_be_prevented(bucket: Bucket) -> None:
    bucket.iam_configuration.public_access_prevention = "enforced"
    bucket.patch(retry=None)
    policy = bucket.get_iam_policy(retry=None)
    policy["roles/storage.objectViewer"] = {"allUsers"}
    with pytest.raises(PreconditionFailed, match="public access prevention"):
        bucket.set_iam_policy(policy, retry=None)


@pytest.mark.parametrize(
    "name", ["a", "a/b", "a/b/c.json", "with space & ?", "ünï/cödé", "../../etc/passwd", "dir/"]
)
def test_an_object_is_what_was_put_whatever_its_name(bucket: Bucket, name: str) -> None:
    for outer in ("a", "a/b"):  # a file system would not take these and what lies below them
        bucket.blob(outer).upload_from_string(b"outer", retry=None)
    blob = bucket.blob(name)
    content = b'{"a": 1}\r\n\x00\xff'
    blob.upload_from_string(content, content_type="application/json", retry=None)
    found = bucket.get_blob(name, retry=None)
    assert found is not None
    assert (found.size, found.content_type) == (len(content), "application/json")
    assert found.download_as_bytes(retry=None) == content
    found.delete(retry=None)
    assert bucket.get_blob(name, retry=None) is None


def test_an_object_that_is_not_there_is_missed(bucket: Bucket) -> None:
    with pytest.raises(NotFound, match="No such object"):
        bucket.blob("nothing").reload(retry=None)
    with pytest.raises(NotFound):
        bucket.blob("nothing").download_as_bytes(retry=None)
    with pytest.raises(NotFound):
        bucket.blob("nothing").delete(retry=None)


def test_objects_are_listed_in_pages(client: Client, bucket: Bucket) -> None:
    for number in range(5):
        bucket.blob(f"{number}").upload_from_string(b"x" * number, retry=None)
    pages = client.list_blobs(bucket, page_size=2, retry=None).pages
    assert [[blob.name for blob in page] for page in pages] == [["0", "1"], ["2", "3"], ["4"]]
    assert sum(blob.size for blob in client.list_blobs(bucket, retry=None)) == 10
    assert [blob.name for blob in client.list_blobs(bucket, prefix="3", retry=None)] == ["3"]


def test_an_object_is_copied_once_when_asked_so(client: Client, bucket: Bucket) -> None:
    target = client.create_bucket(new_name(), retry=None)
    bucket.blob("a").upload_from_string(b"first", content_type="text/plain", retry=None)
    copied = bucket.copy_blob(bucket.blob("a"), target, "b", if_generation_match=0, retry=None)
    assert copied.download_as_bytes(retry=None) == b"first"
    with pytest.raises(PreconditionFailed):
        bucket.copy_blob(bucket.blob("a"), target, "b", if_generation_match=0, retry=None)
    token, written, total = target.blob("c").rewrite(bucket.blob("a"), retry=None)
    assert (token, written, total) == (None, 5, 5)
    with pytest.raises(PreconditionFailed):
        target.blob("c").rewrite(bucket.blob("a"), if_generation_match=0, retry=None)
    with pytest.raises(PreconditionFailed):
        target.blob("c").upload_from_string(b"x", if_generation_match=0, retry=None)
    target.blob("d").upload_from_string(b"x", if_generation_match=0, retry=None)


def test_a_deleted_object_is_kept_as_long_as_the_bucket_says(
    client: Client, bucket: Bucket
) -> None:
    bucket.blob("a").upload_from_string(b"1", retry=None)
    bucket.blob("a").delete(retry=None)
    assert [b.name for b in client.list_blobs(bucket, soft_deleted=True, retry=None)] == ["a"]
    bucket.soft_delete_policy.retention_duration_seconds = 0
    bucket.patch(retry=None)
    bucket.blob("b").upload_from_string(b"1", retry=None)
    bucket.blob("b").delete(retry=None)
    assert [b.name for b in client.list_blobs(bucket, soft_deleted=True, retry=None)] == ["a"]


def test_an_object_arrives_in_parts(bucket: Bucket) -> None:
    blob = bucket.blob("large", chunk_size=256 * 1024)
    content = bytes(range(256)) * 3000
    with blob.open("wb", retry=None) as out:
        out.write(content)
    assert blob.download_as_bytes(retry=None) == content
    assert blob.download_as_bytes(start=10, end=19, retry=None) == content[10:20]


class Signing(google.auth.credentials.Signing):
    """Signs with a key at hand: that of the stand-in, or another one."""

    def __init__(self, email: str, pem: str = "") -> None:
        pem = pem or Secrets.load().google_private_key
        self._signer, self._email = RSASigner.from_string(pem), email  # type: ignore[no-untyped-call]

    def sign_bytes(self, message: bytes) -> bytes:
        signature: bytes = self._signer.sign(message)
        return signature

    @property
    def signer_email(self) -> str:
        return self._email

    @property
    def signer(self) -> Any:  # noqa: ANN401  RSASigner
        return self._signer


def sign(stand_ins: StandIns, bucket: Bucket, method: str, **more: Any) -> str:  # noqa: ANN401
    credentials = Signing(more.pop("email", SIGNER), more.pop("pem", ""))
    url: str = bucket.blob(more.pop("name", "a b/ü.json")).generate_signed_url(
        version="v4",
        method=method,
        api_access_endpoint=stand_ins.layout.gcs_url,
        credentials=credentials,
        **({"expiration": timedelta(minutes=5)} | more),
    )
    return url


def call(method: str, url: str, **more: Any) -> httpx.Response:  # noqa: ANN401
    return httpx.request(method, url, trust_env=False, **more)


def code(answer: httpx.Response) -> tuple[int, str]:
    assert answer.headers["content-type"] == "application/xml"
    return answer.status_code, answer.text.partition("<Code>")[2].partition("</Code>")[0]


def test_a_signed_address_takes_and_gives_an_object(stand_ins: StandIns, bucket: Bucket) -> None:
    content, headers = b'{"a": 1}\r\n\xff', {"Content-Type": "application/json"}
    url = sign(stand_ins, bucket, "PUT", content_type="application/json")
    assert call("PUT", url, content=content, headers=headers).status_code == 200
    found = bucket.get_blob("a b/ü.json", retry=None)
    assert found is not None
    assert (found.size, found.content_type) == (len(content), "application/json")
    url = sign(stand_ins, bucket, "GET", response_disposition='attachment; filename="x"')
    answer = call("GET", url)
    assert (answer.status_code, answer.content) == (200, content)
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["content-disposition"] == 'attachment; filename="x"'
    assert call("GET", url, headers={"Range": "bytes=0-3"}).content == content[:4]


def test_a_signed_address_is_for_what_was_signed(stand_ins: StandIns, bucket: Bucket) -> None:
    mismatch = (403, "SignatureDoesNotMatch")
    bucket.blob("a b/ü.json").upload_from_string(b"1", retry=None)
    url = sign(stand_ins, bucket, "GET")
    assert call("GET", url).status_code == 200
    assert code(call("PUT", url, content=b"2")) == mismatch
    assert code(call("GET", url.replace("a%20b", "a%20c"))) == mismatch
    assert code(call("GET", url.replace("Expires=300", "Expires=301"))) == mismatch
    assert code(call("GET", url + "0")) == mismatch
    assert code(call("GET", url, headers={"Host": "storage.example"})) == mismatch
    other = rsa.generate_private_key(65537, 2048).private_bytes(
        Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()
    )
    assert code(call("GET", sign(stand_ins, bucket, "GET", pem=other.decode()))) == mismatch
    nobody = f"nobody@{GOOGLE_PROJECT}.iam.gserviceaccount.com"
    assert code(call("GET", sign(stand_ins, bucket, "GET", email=nobody))) == mismatch
    renamed = url.replace(SIGNER.partition("@")[0], INVOKER.partition("@")[0])
    assert code(call("GET", renamed)) == mismatch
    bare = url.partition("?")[0]
    assert code(call("GET", bare)) == (403, "AccessDenied")
    assert code(call("PUT", bare, content=b"2")) == (403, "AccessDenied")
    assert bucket.blob("a b/ü.json").download_as_bytes(retry=None) == b"1"


def test_a_signed_address_ends(
    stand_ins: StandIns, bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "google.cloud.storage._signing.get_v4_now_dtstamps",
        lambda: ("20260101T000000Z", "20260101"),
    )
    assert code(call("GET", sign(stand_ins, bucket, "GET"))) == (400, "ExpiredToken")


def test_a_signed_address_demands_its_headers(stand_ins: StandIns, bucket: Bucket) -> None:
    url = sign(stand_ins, bucket, "PUT", content_type="text/plain")
    malformed, mismatch = (400, "MalformedSecurityHeader"), (403, "SignatureDoesNotMatch")
    assert code(call("PUT", url, content=b"1")) == malformed
    answer = call("PUT", url, content=b"1", headers={"Content-Type": "text/html"})
    assert code(answer) == mismatch
    headers = {"Content-Type": "text/plain", "x-goog-acl": "public-read"}
    assert code(call("PUT", url, content=b"1", headers=headers)) == malformed
    assert bucket.get_blob("a b/ü.json", retry=None) is None


def test_a_signed_address_bounds_the_length(stand_ins: StandIns, bucket: Bucket) -> None:
    headers = {"x-goog-content-length-range": "2,3"}
    url = sign(stand_ins, bucket, "PUT", headers=dict(headers))
    assert code(call("PUT", url, content=b"1", headers=headers)) == (400, "EntityTooSmall")
    assert code(call("PUT", url, content=b"1234", headers=headers)) == (400, "EntityTooLarge")
    chunks = iter([b"12", b"34"])  # without a length beforehand
    assert code(call("PUT", url, content=chunks, headers=headers)) == (400, "EntityTooLarge")
    assert bucket.get_blob("a b/ü.json", retry=None) is None
    assert call("PUT", url, content=b"123", headers=headers).status_code == 200
    wider = {"x-goog-content-length-range": "0,1000"}
    answer = call("PUT", url, content=b"1234", headers=wider)
    assert code(answer) == (403, "SignatureDoesNotMatch")


def test_a_signed_address_of_nothing(stand_ins: StandIns, client: Client, bucket: Bucket) -> None:
    assert code(call("GET", sign(stand_ins, bucket, "GET"))) == (404, "NoSuchKey")
    gone = client.bucket(new_name())
    assert code(call("GET", sign(stand_ins, gone, "GET"))) == (404, "NoSuchBucket")
    assert code(call("PUT", sign(stand_ins, gone, "PUT"), content=b"1")) == (404, "NoSuchBucket")


def test_everything_is_there_after_a_restart(database: Database, tmp_path: Path) -> None:
    name, member = new_name(), f"serviceAccount:{SIGNER}"
    with run_stand_ins(database, tmp_path / "store") as first, connect(first) as client:
        bucket = client.create_bucket(name, retry=None)
        bucket.blob("a/ü").upload_from_string(b"1", retry=None)
        policy = bucket.get_iam_policy(retry=None)
        policy["roles/storage.objectUser"] = {member}
        bucket.set_iam_policy(policy, retry=None)
    with run_stand_ins(database, tmp_path / "store") as second, connect(second) as client:
        bucket = client.get_bucket(name, retry=None)
        assert bucket.blob("a/ü").download_as_bytes(retry=None) == b"1"
        assert bucket.get_iam_policy(retry=None)["roles/storage.objectUser"] == {member}
