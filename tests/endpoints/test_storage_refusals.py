"""storage: what is not rented, resized, attached or deleted, and why."""

from collections.abc import Callable
from typing import Any

import pytest

from tests.harness.answers import done, problem
from tests.harness.client import Client, Load
from tests.harness.operations import ABSENT
from tests.harness.platform import Organization, Platform
from tests.harness.storage import make_ready, open_storage

BUCKET = {"kind": "bucket", "size_gb": 10}
SHARE = {"kind": "filestore", "size_gb": 1024}
GB = 2**30


@pytest.fixture
def client(function: Load) -> Client:
    return function("storage")


def _ready(platform: Platform, organization: Organization, size_gb: int = 10) -> str:
    storage_id = open_storage(platform.owner, organization.id, size_gb=size_gb)
    make_ready(platform.owner, organization.id, storage_id)
    return storage_id


@pytest.mark.parametrize(
    ("body", "where"),
    [
        pytest.param({"size_gb": 10}, "kind", id="no kind"),
        pytest.param(BUCKET | {"kind": "disk"}, "kind", id="unknown kind"),
        pytest.param({"kind": "bucket"}, "size_gb", id="no size"),
        pytest.param(BUCKET | {"size_gb": 0}, "size_gb", id="nothing"),
        pytest.param(BUCKET | {"size_gb": -1}, "size_gb", id="less than nothing"),
        pytest.param(BUCKET | {"size_gb": 1_000_001}, "size_gb", id="more than there is"),
        pytest.param(BUCKET | {"size_gb": 10**30}, "size_gb", id="more than a number carries"),
        pytest.param(BUCKET | {"size_gb": 1.5}, "size_gb", id="a part"),
        pytest.param(BUCKET | {"size_gb": "10"}, "size_gb", id="text"),
        pytest.param(BUCKET | {"size_gb": True}, "size_gb", id="a truth"),
        pytest.param(BUCKET | {"region": "../europe"}, "region", id="a path for a region"),
        pytest.param(BUCKET | {"region": "Europe"}, "region", id="capitals"),
        pytest.param(BUCKET | {"region": "eur\u043epe"}, "region", id="a Cyrillic letter"),
        pytest.param(BUCKET | {"region": "europe-west4\n"}, "region", id="a line break"),
        pytest.param(BUCKET | {"name": ""}, "name", id="empty name"),
        pytest.param(BUCKET | {"name": "x" * 101}, "name", id="long name"),
        pytest.param(BUCKET | {"name": "a\x00b"}, "name", id="a NUL in the name"),
        pytest.param(BUCKET | {"name": "a\nb"}, "name", id="two lines of name"),
        pytest.param(BUCKET | {"soft_delete_days": 6}, "soft_delete_days", id="below a week"),
        pytest.param(BUCKET | {"soft_delete_days": 91}, "soft_delete_days", id="above 90 days"),
        pytest.param(BUCKET | {"delete_after_days": 0}, "delete_after_days", id="at once"),
        pytest.param(BUCKET | {"workspace_id": "x"}, "workspace_id", id="no id"),
        pytest.param(BUCKET | {"resource_name": "fg-mine"}, "resource_name", id="a cloud name"),
        pytest.param(BUCKET | {"included_gb": 10}, "included_gb", id="free of charge"),
        pytest.param(SHARE | {"soft_delete_days": 7}, "", id="a share with a bucket's option"),
    ],
)
def test_refuses_what_makes_no_sense(
    client: Client, platform: Platform, body: dict[str, Any], where: str
) -> None:
    organization = platform.organization("pro", usd=1000)
    before = platform.contents()
    response = client.post("/v1/storage", body, by=organization.passport)
    refusal = problem(response, 400, "invalid_request")
    assert refusal["errors"][0]["where"].startswith(f"body.{where}".rstrip("."))
    assert platform.contents() == before


@pytest.mark.parametrize(
    ("plan", "body", "status", "code", "detail"),
    [
        pytest.param(
            "pro", BUCKET | {"region": "mars"}, 400, "region_not_offered", {"region": "mars"}
        ),
        pytest.param(
            "pro",
            SHARE | {"region": "local-s3"},
            400,
            "region_not_offered",
            {"regions": ["europe-west4", "us-central1"]},
            id="a region of the other kind",
        ),
        pytest.param("free", SHARE, 403, "storage_not_allowed", {"kind": "filestore"}),
        pytest.param(
            "free",
            BUCKET | {"size_gb": 101},
            400,
            "size_not_allowed",
            {"min_gb": 1, "max_gb": 100, "step_gb": 1},
        ),
        pytest.param("pro", BUCKET | {"size_gb": 5001}, 400, "size_not_allowed", {"max_gb": 5000}),
        pytest.param("pro", SHARE | {"size_gb": 768}, 400, "size_not_allowed", {"min_gb": 1024}),
        pytest.param("pro", SHARE | {"size_gb": 1025}, 400, "size_not_allowed", {"step_gb": 256}),
        pytest.param("pro", SHARE | {"size_gb": 4352}, 400, "size_not_allowed", {"max_gb": 4096}),
        pytest.param("pro", BUCKET | {"workspace_id": ABSENT}, 404, "workspace_not_found", {}),
    ],
)
def test_refuses_to_rent(
    client: Client,
    platform: Platform,
    plan: str,
    body: dict[str, Any],
    status: int,
    code: str,
    detail: dict[str, Any],
) -> None:
    organization = platform.organization(plan, usd=1000)
    before = platform.contents()
    refusal = problem(client.post("/v1/storage", body, by=organization.passport), status, code)
    assert refusal | detail == refusal
    if "workspace_id" not in body:
        estimate = client.get("/v1/storage/estimate", by=organization.passport, params=body)
        assert (
            problem(estimate, status, code) | detail | {"request_id": refusal["request_id"]}
            == refusal
        )
    assert platform.contents() == before


def test_a_workspace_is_the_organizations_own(client: Client, platform: Platform) -> None:
    organization, other = (platform.organization("pro", usd=10) for _ in range(2))
    body = BUCKET | {"workspace_id": platform.workspace(other)}
    before = platform.contents()
    response = client.post("/v1/storage", body, by=organization.passport)
    problem(response, 404, "workspace_not_found")
    assert platform.contents() == before


def test_the_first_day_must_be_there(client: Client, platform: Platform) -> None:
    organization = platform.organization()
    platform.give(organization.id, 6_574)
    before = platform.contents()
    response = client.post("/v1/storage", BUCKET, by=organization.passport)
    refusal = problem(response, 402, "insufficient_credits")
    assert (refusal["required"], refusal["available"]) == ("0.006575", "0.006574")
    assert platform.contents() == before
    platform.give(organization.id, 1)
    done(client.post("/v1/storage", BUCKET, by=organization.passport), 201)
    assert platform.wallet(organization) == (6_575, 6_575)


def test_a_frozen_organization_rents_nothing(client: Client, platform: Platform) -> None:
    organization = platform.organization("pro", usd=10)
    ready = _ready(platform, organization)
    platform.run("update billing.wallets set debt_micros = 5, settled_micros = held_micros")
    before = platform.contents()
    for path, body in (
        ("/v1/storage", BUCKET),
        (f"/v1/storage/{ready}/resize", {"size_gb": 20}),
    ):
        refusal = problem(
            client.post(path, body, by=organization.passport), 402, "debt_outstanding"
        )
        assert refusal["debt"] == "0.000005"
    assert platform.contents() == before
    platform.run("update billing.wallets set debt_micros = 0, settled_micros = 10000000")


def test_a_closed_organization_rents_nothing(
    client: Client, function: Load, platform: Platform
) -> None:
    organization = platform.organization("pro")
    owner = platform.user()
    platform.join(owner, organization, "owner")
    path = f"/v1/organizations/{organization.id}/close"
    done(function("organizations").post(path, {}, by=owner.token))
    before = platform.contents()
    problem(client.post("/v1/storage", BUCKET, by=organization.passport), 401, "invalid_passport")
    problem(client.post("/v1/storage", BUCKET, by=owner.token), 403, "permission_denied")
    assert platform.contents() == before


def test_one_that_is_closed_meanwhile_rents_nothing(client: Client, platform: Platform) -> None:
    organization = platform.organization("pro", usd=10)
    platform.run("update billing.organizations set closed_at = billing.now()")
    before = platform.contents()
    response = client.post("/v1/storage", BUCKET, by=organization.passport)
    problem(response, 409, "organization_closed")
    assert platform.contents() == before


def test_a_plan_has_so_many_of_a_kind(client: Client, platform: Platform) -> None:
    organization = platform.organization("free", usd=10)
    rented = [
        done(client.post("/v1/storage", BUCKET, by=organization.passport), 201)["id"]
        for _ in range(5)
    ]
    before = platform.contents()
    response = client.post("/v1/storage", BUCKET, by=organization.passport)
    assert problem(response, 403, "storage_limit_reached")["max_count"] == 5
    assert platform.contents() == before
    done(client.request("DELETE", f"/v1/storage/{rented[0]}", by=organization.passport))
    done(client.post("/v1/storage", BUCKET, by=organization.passport), 201)


def test_a_refusal_is_not_the_keys_answer(client: Client, platform: Platform) -> None:
    organization = platform.organization()
    by = organization.passport
    refused = client.post("/v1/storage", BUCKET, by=by, repeat="rent-001")
    problem(refused, 402, "insufficient_credits")
    platform.give(organization.id, 1_000_000)
    response = client.post("/v1/storage", BUCKET, by=by, repeat="rent-001")
    assert "idempotent-replayed" not in response.headers
    done(response, 201)


Arrange = Callable[[Platform, Organization, str], None]


def _used(used_bytes: int) -> Arrange:
    return lambda platform, _, storage_id: platform.run(
        "update billing.storage set used_bytes = %s where id = %s", used_bytes, storage_id
    )


def _as_it_is(*_: object) -> None:
    pass


@pytest.mark.parametrize(
    ("arrange", "size_gb", "status", "code", "detail"),
    [
        pytest.param(_as_it_is, 5001, 400, "size_not_allowed", {"max_gb": 5000}, id="too large"),
        pytest.param(
            _used(20 * GB + 1),
            20,
            409,
            "storage_in_use",
            {"used_bytes": 20 * GB + 1},
            id="below what is used",
        ),
        pytest.param(
            _as_it_is,
            5000,
            402,
            "insufficient_credits",
            {},
            id="more than is paid for",
        ),
    ],
)
def test_refuses_to_resize(
    client: Client,
    platform: Platform,
    arrange: Arrange,
    size_gb: int,
    status: int,
    code: str,
    detail: dict[str, Any],
) -> None:
    organization = platform.organization("pro", usd=1)
    storage_id = _ready(platform, organization, size_gb=100)
    arrange(platform, organization, storage_id)
    before = platform.contents()
    path = f"/v1/storage/{storage_id}/resize"
    response = client.post(path, {"size_gb": size_gb}, by=organization.passport)
    refusal = problem(response, status, code)
    assert refusal | detail == refusal
    assert platform.contents() == before


def test_what_is_not_there_yet_is_not_resized(client: Client, platform: Platform) -> None:
    organization = platform.organization("pro", usd=1)
    storage_id = open_storage(platform.owner, organization.id)
    path = f"/v1/storage/{storage_id}/resize"
    before = platform.contents()
    response = client.post(path, {"size_gb": 20}, by=organization.passport)
    assert problem(response, 409, "storage_not_ready")["storage_status"] == "requested"
    assert platform.contents() == before
    done(client.request("DELETE", f"/v1/storage/{storage_id}", by=organization.passport))
    response = client.post(path, {"size_gb": 20}, by=organization.passport)
    assert problem(response, 409, "storage_not_ready")["storage_status"] == "deleted"


def test_nothing_is_put_into_what_is_not_there_yet(function: Load, platform: Platform) -> None:
    organization = platform.organization("pro", usd=1)
    path = f"/v1/storage/{open_storage(platform.owner, organization.id)}"
    objects, before = function("objects"), platform.contents()
    for part, body in [
        ("uploads", {"object": "a", "size_bytes": 1}),
        ("downloads", {"object": "a"}),
    ]:
        response = objects.post(f"{path}/{part}", body, by=organization.passport)
        assert problem(response, 409, "storage_not_ready")["storage_status"] == "requested"
    assert platform.contents() == before


def test_what_is_not_paid_for_is_not_resized(client: Client, platform: Platform) -> None:
    organization = platform.organization("pro")
    platform.give(organization.id, 65_753)
    storage_id = _ready(platform, organization, size_gb=100)
    path = f"/v1/storage/{storage_id}/resize"
    platform.advance(25 * 3600)
    before = platform.contents()
    for size_gb in (200, 20):
        # Also where no cron has told it yet.
        response = client.post(path, {"size_gb": size_gb}, by=organization.passport)
        assert problem(response, 409, "storage_not_ready")["storage_status"] == "grace"
    assert platform.contents() == before
    platform.give(organization.id, 1_000_000)
    assert done(client.post(path, {"size_gb": 20}, by=organization.passport))["status"] == "ready"


def test_a_larger_size_must_be_paid_for(client: Client, platform: Platform) -> None:
    organization = platform.organization("pro")
    platform.give(organization.id, 65_753 + 65_753)
    storage_id = _ready(platform, organization, size_gb=100)
    path = f"/v1/storage/{storage_id}/resize"
    refused = client.post(path, {"size_gb": 300}, by=organization.passport)
    refusal = problem(refused, 402, "insufficient_credits")
    # For the two hundred more; what has run since it was ready is charged first.
    assert refusal["required"] in ("0.131507", "0.131508")
    assert "0.065700" < refusal["available"] <= "0.065753"
    done(client.post(path, {"size_gb": 150}, by=organization.passport))


def test_what_is_attached_is_not_deleted(client: Client, platform: Platform) -> None:
    organization = platform.organization("pro", usd=10)
    workspace, other = platform.workspace(organization), platform.workspace(organization)
    storage_id = _ready(platform, organization)
    path = f"/v1/storage/{storage_id}"
    done(client.post(f"{path}/attach", {"workspace_id": workspace}, by=organization.passport))
    before = platform.contents()
    for refused in (
        client.request("DELETE", path, by=organization.passport),
        client.post(f"{path}/attach", {"workspace_id": other}, by=organization.passport),
    ):
        refusal = problem(refused, 409, "storage_attached")
        assert refusal["workspace_id"] == workspace
    assert platform.contents() == before
    done(client.post(f"{path}/detach", by=organization.passport))
    done(client.request("DELETE", path, by=organization.passport))


def test_what_sessions_may_be_using_is_not_detached(
    client: Client, function: Load, platform: Platform
) -> None:
    organization = platform.organization("pro", usd=10)
    workspace = platform.workspace(organization)
    storage_id = _ready(platform, organization)
    path = f"/v1/storage/{storage_id}"
    done(client.post(f"{path}/attach", {"workspace_id": workspace}, by=organization.passport))
    sessions = function("sessions")
    body = {"tier": "small", "workspace_id": workspace}
    session = done(sessions.post("/v1/sessions", body, by=organization.passport), 201)
    before = platform.contents()
    refused = client.post(f"{path}/detach", by=organization.passport)
    assert problem(refused, 409, "workspace_busy")["running_sessions"] == 1
    assert platform.contents() == before
    done(sessions.post(f"/v1/sessions/{session['id']}/stop", {}, by=organization.passport))
    done(client.post(f"{path}/detach", by=organization.passport))


def test_what_has_ended_is_not_attached(client: Client, platform: Platform) -> None:
    organization = platform.organization("pro", usd=10)
    workspace = platform.workspace(organization)
    storage_id = _ready(platform, organization)
    path = f"/v1/storage/{storage_id}"
    done(client.request("DELETE", path, by=organization.passport))
    before = platform.contents()
    refused = client.post(f"{path}/attach", {"workspace_id": workspace}, by=organization.passport)
    assert problem(refused, 409, "storage_not_ready")["storage_status"] == "deleting"
    assert platform.contents() == before


@pytest.mark.parametrize(
    "name",
    ["../../etc/passwd", "goog-mine", "<b>Müller</b>", "'; drop table x; --", "\u0431\u202egpj"],
)
def test_a_name_is_only_a_label(client: Client, platform: Platform, name: str) -> None:
    organization = platform.organization("pro", usd=10)
    body = BUCKET | {"name": name}
    storage = done(client.post("/v1/storage", body, by=organization.passport), 201)
    assert storage["name"] == name
    (resource_name, payload) = platform.fetch(
        "select s.resource_name, o.payload from billing.storage as s"
        " join billing.outbox as o on o.id = s.task_id"
    )[0]
    assert name not in str(payload)
    assert resource_name.startswith("fg-")
    assert len(resource_name) == 35
