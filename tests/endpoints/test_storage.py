"""storage: rent, watch, resize, attach and delete."""

from datetime import datetime
from decimal import Decimal
from typing import Any

import pytest

from tests.harness.answers import done, problem
from tests.harness.client import Client, Load
from tests.harness.platform import Organization, Platform
from tests.harness.storage import make_ready

BUCKET = {"kind": "bucket", "size_gb": 100}
SHARE = {"kind": "filestore", "size_gb": 1024}


@pytest.fixture
def client(function: Load) -> Client:
    return function("storage")


def _create(client: Client, organization: Organization, **body: object) -> dict[str, Any]:
    return done(client.post("/v1/storage", BUCKET | body, by=organization.passport), 201)


def _ready(
    client: Client, platform: Platform, organization: Organization, **body: object
) -> dict[str, Any]:
    storage = _create(client, organization, **body)
    make_ready(platform.owner, organization.id, storage["id"])
    return _get(client, organization, storage)


def _get(client: Client, organization: Organization, storage: dict[str, Any]) -> dict[str, Any]:
    return done(client.get(f"/v1/storage/{storage['id']}", by=organization.passport))


def _resize(
    client: Client, organization: Organization, storage: dict[str, Any], size_gb: int
) -> dict[str, Any]:
    path = f"/v1/storage/{storage['id']}/resize"
    return done(client.post(path, {"size_gb": size_gb}, by=organization.passport))


def _delete(client: Client, organization: Organization, storage: dict[str, Any]) -> dict[str, Any]:
    path = f"/v1/storage/{storage['id']}"
    return done(client.request("DELETE", path, by=organization.passport))


def test_renting_holds_a_day_and_charges_nothing_yet(client: Client, platform: Platform) -> None:
    organization = platform.organization("pro", usd=10)
    storage = _create(client, organization, name="Photos", delete_after_days=30)
    assert (storage["status"], storage["kind"], storage["region"]) == (
        "requested",
        "bucket",
        "europe-west4",
    )
    assert (storage["name"], storage["size_gb"], storage["delete_after_days"]) == (
        "Photos",
        100,
        30,
    )
    assert (storage["cost"], storage["held"]) == ("0.000000", "0.065753")
    assert [storage[name] for name in ("ready_at", "paid_until", "resource_name")] == [None] * 3
    assert platform.wallet(organization) == (10_000_000, 65_753)
    platform.advance(1800)
    assert _get(client, organization, storage) == storage


def test_it_is_charged_from_the_moment_it_is_ready(client: Client, platform: Platform) -> None:
    organization = platform.organization("pro", usd=10)
    storage = _create(client, organization)
    platform.advance(1800)
    make_ready(platform.owner, organization.id, storage["id"])
    platform.advance(3600)
    cost = Decimal(_get(client, organization, storage)["cost"])
    assert Decimal("0.002740") <= cost < Decimal("0.0029")


def test_deleting_charges_to_the_second_and_gives_the_rest_back(
    client: Client, platform: Platform
) -> None:
    organization = platform.organization("pro", usd=10)
    storage = _ready(client, platform, organization)
    platform.advance(36_000)
    deleted = _delete(client, organization, storage)
    assert deleted["status"] == "deleting"
    assert deleted["charged"] == deleted["cost"]
    assert storage["ended_at"] is None
    seconds = (
        datetime.fromisoformat(deleted["ended_at"]) - datetime.fromisoformat(deleted["ready_at"])
    ).total_seconds()
    assert Decimal(deleted["cost"]) == round(Decimal(seconds) * 20_000 * 100 / 2_628_000) / Decimal(
        1_000_000
    )
    assert Decimal("0.027397") <= Decimal(deleted["cost"]) < Decimal("0.0275")
    charged_micros = int(Decimal(deleted["charged"]) * 1_000_000)
    assert platform.wallet(organization) == (10_000_000 - charged_micros, 0)
    platform.advance(36_000)
    assert _delete(client, organization, storage) == deleted


def test_what_the_cloud_never_saw_is_deleted_at_once(client: Client, platform: Platform) -> None:
    organization = platform.organization("pro", usd=10)
    storage = _create(client, organization)
    deleted = _delete(client, organization, storage)
    assert (deleted["status"], deleted["charged"]) == ("deleted", "0.000000")
    assert platform.wallet(organization) == (10_000_000, 0)


def test_the_same_key_rents_once(client: Client, platform: Platform) -> None:
    organization = platform.organization("pro", usd=10)
    first, again = (
        client.post("/v1/storage", BUCKET, by=organization.passport, repeat="rent-001")
        for _ in range(2)
    )
    assert again.headers["idempotent-replayed"] == "true"
    assert done(again, 201) == done(first, 201)
    assert platform.value("select count(*) from billing.storage") == 1
    other = BUCKET | {"size_gb": 101}
    refused = client.post("/v1/storage", other, by=organization.passport, repeat="rent-001")
    problem(refused, 409, "idempotency_conflict")


def test_a_bucket_has_its_new_size_at_once(client: Client, platform: Platform) -> None:
    organization = platform.organization("pro", usd=10)
    storage = _ready(client, platform, organization)
    tasks = platform.value("select count(*) from billing.outbox where topic <> 'notification'")
    larger = _resize(client, organization, storage, 1000)
    assert (larger["size_gb"], larger["resize_to_gb"]) == (1000, None)
    assert larger["held"] in ("0.657534", "0.657535")
    smaller = _resize(client, organization, storage, 10)
    assert (smaller["size_gb"], smaller["held"]) == (10, "0.006575")
    assert tasks == platform.value(
        "select count(*) from billing.outbox where topic <> 'notification'"
    )


def test_a_file_share_waits_for_the_cloud_with_the_money_in_hand(
    client: Client, platform: Platform
) -> None:
    organization = platform.organization("pro", usd=100)
    share = _ready(client, platform, organization, **SHARE)
    growing = _resize(client, organization, share, 2048)
    assert (growing["size_gb"], growing["resize_to_gb"]) == (1024, 2048)
    assert growing["held"] in ("11.446356", "11.446357")
    platform.advance(3600)
    platform.run("select api.accrue_storage(100)")
    assert _get(client, organization, share)["held"] > "11.44"
    platform.run("select billing.lock_storage(%s, %s)", organization.id, share["id"])
    platform.run(
        "update billing.storage set size_gb = 2048, resize_to_gb = null where id = %s", share["id"]
    )
    platform.run("select billing.settle_storage(%s, %s, false)", organization.id, share["id"])
    platform.advance(3600)
    # An hour at the old size, an hour at the new one.
    cost = Decimal(_get(client, organization, share)["cost"])
    assert Decimal("0.715397") <= cost < Decimal("0.717")


def test_a_size_that_is_wanted_no_more_is_taken_back(client: Client, platform: Platform) -> None:
    organization = platform.organization("pro", usd=100)
    share = _ready(client, platform, organization, **SHARE)
    _resize(client, organization, share, 2048)
    back = _resize(client, organization, share, 1024)
    assert (back["size_gb"], back["resize_to_gb"]) == (1024, None)
    assert back["held"] in ("5.723178", "5.723179")


def test_the_same_key_resizes_once(client: Client, platform: Platform) -> None:
    organization = platform.organization("pro", usd=10)
    storage = _ready(client, platform, organization)
    path = f"/v1/storage/{storage['id']}/resize"
    first, again = (
        client.post(path, {"size_gb": 200}, by=organization.passport, repeat="resize-1")
        for _ in range(2)
    )
    assert again.headers["idempotent-replayed"] == "true"
    assert done(again) == done(first)
    changed = client.post(path, {"size_gb": 300}, by=organization.passport, repeat="resize-1")
    problem(changed, 409, "idempotency_conflict")


def test_storage_is_attached_and_detached(client: Client, platform: Platform) -> None:
    organization = platform.organization("pro", usd=10)
    workspace = platform.workspace(organization)
    storage = _create(client, organization, workspace_id=workspace)
    assert storage["workspace_id"] == workspace
    path = f"/v1/storage/{storage['id']}"
    for _ in range(2):
        detached = done(client.post(f"{path}/detach", by=organization.passport))
        assert detached["workspace_id"] is None
    for _ in range(2):
        body = {"workspace_id": workspace}
        attached = done(client.post(f"{path}/attach", body, by=organization.passport))
        assert attached["workspace_id"] == workspace


def test_lists_in_pages_and_by_what_it_is(client: Client, platform: Platform) -> None:
    organization, other = (platform.organization("pro", usd=100) for _ in range(2))
    workspace = platform.workspace(organization)
    first = _create(client, organization, name="first", workspace_id=workspace)
    second = _create(client, organization, name="second", **SHARE)
    _ready(client, platform, organization, name="third")
    _create(client, other)

    def names(**query: str) -> list[str]:
        page = done(client.get("/v1/storage", by=organization.passport, params=query))
        return [storage["name"] for storage in page["data"]]

    assert names() == ["third", "second", "first"]
    assert names(kind="filestore") == ["second"]
    assert names(status="ready") == ["third"]
    assert names(status="requested", kind="bucket") == ["first"]
    assert names(workspace_id=workspace) == ["first"]
    assert names(limit="1") == ["third"]
    assert names(cursor=second["id"]) == [first["name"]]


def test_estimates_a_month(client: Client, platform: Platform) -> None:
    organization = platform.organization("pro", usd=1)
    query = {"kind": "filestore", "size_gb": "1024", "region": "us-central1"}
    path = "/v1/storage/estimate"
    assert done(client.get(path, by=organization.passport, params=query)) == {
        "kind": "filestore",
        "region": "us-central1",
        "size_gb": 1024,
        "gb_month_price": "0.170000",
        "month_cost": "174.080000",
        "required": "5.723178",
        "available": "1.000000",
    }


def test_tells_where_the_plan_may_rent(client: Client, platform: Platform) -> None:
    def regions(plan: str) -> set[tuple[str, str, int]]:
        passport = platform.organization(plan).passport
        found = done(client.get("/v1/storage/regions", by=passport))["data"]
        return {(each["kind"], each["region"], each["max_gb"]) for each in found}

    buckets = {("bucket", region, 100) for region in ("europe-west4", "us-central1")}
    assert {each for each in regions("free") if "local" not in each[1]} == buckets
    assert ("filestore", "europe-west4", 4096) in regions("pro")
    platform.alter("update billing.regions set is_open = false where id = 'us-central1'")
    assert all(region != "us-central1" for _, region, _ in regions("pro"))
