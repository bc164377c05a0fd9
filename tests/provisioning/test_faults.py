"""The fault table: whatever goes wrong on the way to the cloud, the end is right.

Never a charge without a resource, never a resource without an owner, never two.
"""

import json
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import httpx
import pytest

from faregate.backends.storage import filestore, gcs, s3
from infra.local.layout import GOOGLE_PROJECT, S3_ENDPOINT, S3_KEY, Layout
from tests.harness.answers import done
from tests.harness.client import Client, Load
from tests.harness.faulty import (
    GOOGLE,
    S3,
    STORAGE,
    Answer,
    Exchange,
    Fault,
    Way,
    after,
    faulty,
    hang,
    hang_up,
)
from tests.harness.provisioning import Provisioning

_NAME = "fg-[0-9a-f]{32}/?$"


@dataclass(frozen=True)
class Provider:
    """Who keeps storage, what is said there, and which request does what."""

    rented: dict[str, Any]
    words: dict[str, Fault]
    steps: dict[str, tuple[str, str]]


PROVIDERS = {
    "gcs": Provider(
        {"region": "europe-west4", "size_gb": 10},
        STORAGE,
        {"create": ("POST", "/b$"), "update": ("PUT", "/iam$"), "delete": ("DELETE", _NAME)},
    ),
    "s3": Provider(
        {"region": "local-s3", "size_gb": 10},
        S3,
        {"create": ("PUT", _NAME), "delete": ("DELETE", _NAME)},
    ),
    "filestore": Provider(
        {"kind": "filestore", "region": "europe-west4", "size_gb": 1024},
        GOOGLE,
        {
            "create": ("POST", "/instances$"),
            "update": ("PATCH", "/instances/"),
            "delete": ("DELETE", "/instances/"),
        },
    ),
}
SILENCES = {
    "timeout before": hang,
    "timeout after the cloud acted": after(hang),
    "cut before": hang_up,
    "cut after the cloud acted": after(hang_up),
}
WORDS = ["forbidden", "quota", "conflict", "rate_limit", "internal", "unavailable"]
FAULTS = [*SILENCES, *WORDS]


@pytest.fixture(autouse=True)
def _impatience(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(gcs.ONCE, "timeout", 1)
    monkeypatch.setattr(s3, "CALL_SECONDS", 1)
    monkeypatch.setattr(filestore, "CALL_SECONDS", 1)


@pytest.fixture(params=PROVIDERS)
def provider(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


def _cloud(layout: Layout, provider: str) -> set[str]:
    """Tell what a provider has, of everybody."""
    project = f"projects/{GOOGLE_PROJECT}"
    addresses = {
        "gcs": f"{layout.gcs_url}/storage/v1/b?project={GOOGLE_PROJECT}",
        "filestore": f"{layout.filestore_url}/v1/{project}/locations/-/instances",
        "s3": layout.s3_url,
    }
    answer = httpx.get(addresses[provider], trust_env=False).raise_for_status()
    return set(re.findall("fg-[0-9a-f]{32}", answer.text))


class Table:
    """A provider behind a way on which things go wrong, and what is true in the end."""

    def __init__(self, storage: Provisioning, name: str, way: Way, worker: Client) -> None:
        self.storage, self.name, self.way, self.worker = storage, name, way, worker
        self.provider = PROVIDERS[name]
        self._before = _cloud(storage.platform.cloud.layout, name)

    def strike(self, step: str, fault: str, *, always: bool = False) -> None:
        method, path = self.provider.steps[step]
        happens = SILENCES.get(fault) or self.provider.words[fault]
        self.way.strike(happens, method, path, None if always else (1,))

    def rent(self) -> str:
        return self.storage.rent(**self.provider.rented)

    def work(self, storage_id: str) -> str:
        return self.storage.work(storage_id, self.worker)

    def made(self) -> set[str]:
        """Tell what the cloud has more of than before."""
        return _cloud(self.storage.platform.cloud.layout, self.name) - self._before

    def expect_there(self, storage_id: str) -> None:
        """There is one, it is the row's, and it is paid for."""
        (made,) = self.made()
        row = self.storage.row(storage_id)
        assert made.endswith(row["resource_name"])
        assert (row["status"], row["is_absent"]) == ("ready", False)
        assert self.storage.held() > 0

    def expect_gone(self, storage_id: str, status: str) -> None:
        """There is none, it is certain, and nothing is held or was ever charged."""
        for _ in range(3):
            if self.storage.is_settled(storage_id):
                break
            # An unanswered creation may still be on its way for a while.
            self.storage.platform.advance(301)
            self.storage.deliver(self.storage.task(storage_id), self.worker)
            self.storage.deliver(self.storage.task(storage_id), self.worker)
        row = self.storage.row(storage_id)
        assert (row["status"], row["is_absent"]) == (status, True)
        assert self.storage.is_settled(storage_id)
        assert self.made() == set()
        assert self.storage.held() == 0

    def charged(self) -> int:
        count: int = self.storage.platform.value(
            "select count(*) from billing.transfers where reason = 'storage'"
        )
        return count


@contextmanager
def _table(storage: Provisioning, function: Load, name: str) -> Iterator[Table]:
    layout = storage.platform.cloud.layout
    urls = {"gcs": layout.gcs_url, "s3": layout.s3_url, "filestore": layout.filestore_url}
    with faulty(urls[name]) as way:
        settings = {
            "gcs": {"STORAGE_API_URL": way.url},
            "s3": {"S3_ENDPOINTS": json.dumps({S3_ENDPOINT: {"url": way.url, **S3_KEY}})},
            "filestore": {"FILESTORE_API_URL": way.url},
        }
        yield Table(storage, name, way, function("provision_storage", **settings[name]))


@pytest.fixture
def table(storage: Provisioning, function: Load, provider: str) -> Iterator[Table]:
    with _table(storage, function, provider) as table:
        yield table


@pytest.mark.parametrize("fault", FAULTS)
def test_what_goes_wrong_once_while_it_is_made(table: Table, fault: str) -> None:
    storage_id = table.rent()
    table.strike("create", fault)
    status = _work_or_give_up(table, storage_id)
    reason = {"forbidden": "permission_denied", "quota": "quota_exceeded"}.get(fault)
    assert status == ("failed" if reason else "ready")
    if reason:
        assert table.storage.row(storage_id)["failure"] == reason
        table.expect_gone(storage_id, "failed")
        assert table.charged() == 0
    else:
        table.expect_there(storage_id)
        table.storage.end(storage_id)
        assert table.work(storage_id) == "deleted"
        table.expect_gone(storage_id, "deleted")


def _work_or_give_up(table: Table, storage_id: str) -> str:
    """Deliver until it is there or given up; what is left to delete may wait."""
    for _ in range(25):
        if table.storage.is_settled(storage_id):
            break
        if table.storage.row(storage_id)["status"] == "failed":
            break
        answer = table.storage.deliver(table.storage.task(storage_id), table.worker)
        assert answer.status_code in {200, 503}, answer.text
    status: str = table.storage.row(storage_id)["status"]
    return status


@pytest.mark.parametrize("fault", ["cut before", "cut after the cloud acted", *WORDS])
def test_what_goes_wrong_always_while_it_is_made(table: Table, fault: str) -> None:
    storage_id = table.rent()
    if fault == "cut after the cloud acted":
        # It is there, and we never hear so: what looks for it is cut, too, but what deletes is not.
        table.way.strike(after(hang_up), *table.provider.steps["create"], nth=None)
        table.way.strike(hang_up, "GET", nth=range(2, 100))
    else:
        table.strike("create", fault, always=True)
    assert _work_or_give_up(table, storage_id) == "failed"
    assert table.storage.held() == 0
    assert table.storage.notified()[-1] == "storage_failed"
    table.way.heal()
    table.expect_gone(storage_id, "failed")
    assert table.charged() == 0


@pytest.mark.parametrize("provider", ["gcs", "filestore"], indirect=True)
@pytest.mark.parametrize("fault", FAULTS)
def test_what_goes_wrong_while_it_is_changed(table: Table, fault: str) -> None:
    storage_id = table.rent()
    assert table.work(storage_id) == "ready"
    table.strike("update", fault)
    table.storage.want(storage_id, status="read_only")
    assert table.work(storage_id) == "read_only"
    assert table.storage.row(storage_id)["applied_access"] == "read"
    table.storage.want(storage_id, status="ready")
    assert table.work(storage_id) == "ready"
    table.expect_there(storage_id)


@pytest.mark.parametrize("fault", FAULTS)
def test_what_goes_wrong_while_it_is_deleted(table: Table, fault: str) -> None:
    storage_id = table.rent()
    assert table.work(storage_id) == "ready"
    table.strike("delete", fault)
    table.storage.end(storage_id)
    assert table.storage.held() == 0
    assert table.work(storage_id) == "deleted"
    table.expect_gone(storage_id, "deleted")


def test_a_deletion_that_is_refused_is_never_given_up(table: Table) -> None:
    storage_id = table.rent()
    assert table.work(storage_id) == "ready"
    table.strike("delete", "forbidden", always=True)
    table.storage.end(storage_id)
    task = table.storage.task(storage_id)
    for _ in range(12):
        assert table.storage.deliver(task, table.worker).status_code == 503
    assert not table.storage.is_settled(storage_id)
    assert len(table.made()) == 1
    table.way.heal()
    assert table.work(storage_id) == "deleted"
    table.expect_gone(storage_id, "deleted")


def test_what_is_deleted_while_it_is_made_is_made_and_deleted(table: Table) -> None:
    storage_id = table.rent()

    def meanwhile(exchange: Exchange) -> Answer | None:
        table.storage.end(storage_id)
        return exchange.ask()

    table.way.strike(meanwhile, *table.provider.steps["create"])
    table.storage.deliver(table.storage.task(storage_id), table.worker)
    # Of what never said that it is there, nobody believes at once that it is gone.
    table.storage.platform.advance(301)
    assert table.work(storage_id) == "deleted"
    table.expect_gone(storage_id, "deleted")
    assert table.charged() == 0


def test_an_attempt_that_another_overtook_changes_nothing(table: Table) -> None:
    storage_id = table.rent()
    task = table.storage.task(storage_id)

    def meanwhile(exchange: Exchange) -> Answer | None:
        answer = exchange.ask()
        table.storage.platform.advance(121)
        table.work(storage_id)
        table.storage.end(storage_id)
        return answer

    table.way.strike(meanwhile, *table.provider.steps["create"])
    assert table.storage.deliver(task, table.worker).status_code in {200, 503}
    assert table.storage.row(storage_id)["status"] == "deleting"
    assert table.work(storage_id) == "deleted"
    table.expect_gone(storage_id, "deleted")


def test_many_deliveries_at_once_make_one(table: Table) -> None:
    storage_id = table.rent()
    task = table.storage.task(storage_id)
    with ThreadPoolExecutor(6) as threads:
        answers = list(threads.map(lambda _: table.storage.deliver(task, table.worker), range(6)))
    codes = {each.json().get("code") for each in answers}
    assert codes <= {None, "task_under_way", "unavailable"}
    assert table.work(storage_id) == "ready"
    table.expect_there(storage_id)
    contents = table.storage.platform.contents()
    assert done(table.storage.deliver(task, table.worker)) == {"status": "ready"}
    assert table.storage.platform.contents() == contents


def test_one_that_dies_in_between_is_followed_by_another(table: Table) -> None:
    storage_id = table.rent()
    # It began, and nobody heard of it again.
    row = table.storage.row(storage_id)
    table.storage.platform.run(
        "select * from api.start_provisioning(%s, %s, %s)",
        row["organization_id"],
        storage_id,
        row["task_id"],
    )
    task = table.storage.task(storage_id)
    assert table.storage.deliver(task, table.worker).json()["code"] == "task_under_way"
    table.storage.platform.advance(121)
    assert table.work(storage_id) == "ready"
    table.expect_there(storage_id)


def test_an_hour_without_an_end_is_its_end(table: Table) -> None:
    storage_id = table.rent()
    table.strike("create", "unavailable", always=True)
    table.storage.deliver(table.storage.task(storage_id), table.worker)
    table.storage.platform.advance(3600)
    table.storage.platform.run("select * from api.accrue_storage(10)")
    row = table.storage.row(storage_id)
    assert (row["status"], row["failure"]) == ("failed", "timed_out")
    table.way.heal()
    table.expect_gone(storage_id, "failed")
    assert table.charged() == 0


def test_anothers_bucket_is_left_alone(storage: Provisioning) -> None:
    storage_id = storage.rent()
    taken = storage.row(storage_id)["resource_name"]
    gcs_url = storage.platform.cloud.layout.gcs_url
    httpx.post(f"{gcs_url}/_buckets/{taken}", trust_env=False).raise_for_status()
    assert storage.work(storage_id) == "ready"
    assert storage.row(storage_id)["resource_name"] != taken


def test_a_bucket_of_ours_that_is_not_marked_is_left_alone(storage: Provisioning) -> None:
    storage_id = storage.rent()
    taken = storage.row(storage_id)["resource_name"]
    gcs_url = storage.platform.cloud.layout.gcs_url
    address = f"{gcs_url}/storage/v1/b"
    body = {"name": taken, "labels": {"faregate-storage": "another"}}
    httpx.post(
        address, params={"project": GOOGLE_PROJECT}, json=body, trust_env=False
    ).raise_for_status()
    assert storage.work(storage_id) == "ready"
    assert storage.row(storage_id)["resource_name"] != taken
    storage.end(storage_id)
    assert storage.work(storage_id) == "deleted"
    assert httpx.get(f"{address}/{taken}", trust_env=False).is_success


def test_a_resize_that_is_refused_holds_no_more_than_before(
    storage: Provisioning, function: Load
) -> None:
    share = storage.ready("filestore", "europe-west4", 1024)
    platform, by = storage.platform, storage.organization.passport
    _, held = platform.wallet(storage.organization)
    path = f"/v1/storage/{share}/resize"
    done(function("storage").post(path, {"size_gb": 4096}, by=by))
    assert platform.wallet(storage.organization)[1] > 3 * held
    platform.cloud.filestore_behaves(quota_gib=1024)
    try:
        assert storage.work(share) == "ready"
    finally:
        platform.cloud.filestore_behaves(quota_gib=None)
    row = storage.row(share)
    assert (row["size_gb"], row["resize_to_gb"], row["failure"]) == (1024, None, "quota_exceeded")
    assert platform.wallet(storage.organization)[1] == held


def test_a_creation_that_arrives_late_is_found(table: Table) -> None:
    storage_id = table.rent()
    late: list[Exchange] = []
    table.way.strike(late.append, *table.provider.steps["create"])
    table.storage.deliver(table.storage.task(storage_id), table.worker)
    table.storage.end(storage_id)
    table.storage.deliver(table.storage.task(storage_id), table.worker)
    assert (table.made(), table.storage.is_settled(storage_id)) == (set(), False)
    (exchange,) = late
    assert exchange.ask().status == 200
    assert len(table.made()) == 1
    table.expect_gone(storage_id, "deleted")
    assert table.charged() == 0
