"""The stand-in for Filestore, seen by Google's own library."""

from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit
from uuid import uuid4

import httpx
import pytest
from google.api_core.exceptions import (
    BadRequest,
    Conflict,
    Forbidden,
    GoogleAPICallError,
    NotFound,
    TooManyRequests,
)
from google.auth.credentials import AnonymousCredentials
from google.cloud.filestore_v1 import (
    CloudFilestoreManagerClient,
    FileShareConfig,
    Instance,
    NetworkConfig,
    NfsExportOptions,
)
from google.cloud.filestore_v1.services.cloud_filestore_manager.transports import (
    CloudFilestoreManagerRestTransport,
)
from google.protobuf.field_mask_pb2 import FieldMask  # type: ignore[import-untyped]

from tests.local.stand_ins import StandIns

ZONE = "projects/local/locations/europe-west4-a"


@pytest.fixture
def client(stand_ins: StandIns) -> Iterator[CloudFilestoreManagerClient]:
    """Give Google's client as the functions have it."""
    address = urlsplit(stand_ins.layout.filestore_url)
    transport = CloudFilestoreManagerRestTransport(
        host=address.netloc + address.path,
        url_scheme="http",
        credentials=AnonymousCredentials(),  # type: ignore[no-untyped-call]
    )
    behave(stand_ins, ready_after_seconds=0)
    with CloudFilestoreManagerClient(transport=transport) as client:
        yield client
    behave(stand_ins, quota_gib=None, ready_after_seconds=0)


def behave(stand_ins: StandIns, **behaviour: object) -> None:
    url = f"{stand_ins.layout.filestore_url}/_behaviour"
    httpx.post(url, json=behaviour, trust_env=False).raise_for_status()


def advance(stand_ins: StandIns, seconds: int) -> None:
    url = f"{stand_ins.layout.supabase_url}/clock"
    httpx.post(url, json={"advance_seconds": seconds}, trust_env=False).raise_for_status()


def new_name() -> str:
    return f"fg-{uuid4().hex}"


def instance(size: int = 1024, **changes: Any) -> Instance:  # noqa: ANN401
    export = NfsExportOptions(
        ip_ranges=["10.0.0.0/8"], access_mode=NfsExportOptions.AccessMode.READ_WRITE
    )
    share = FileShareConfig(name="share", capacity_gb=size, nfs_export_options=[export])
    asked: dict[str, Any] = {
        "tier": Instance.Tier.ZONAL,
        "labels": {"faregate-storage": "7"},
        "file_shares": [share],
        "networks": [NetworkConfig(network="default", modes=[NetworkConfig.AddressMode.MODE_IPV4])],
    }
    return Instance(asked | changes)


def make(client: CloudFilestoreManagerClient, name: str, asked: Instance | None = None) -> Any:  # noqa: ANN401
    return client.create_instance(parent=ZONE, instance_id=name, instance=asked or instance())


def finish(operation: Any) -> Any:  # noqa: ANN401
    return operation.result(timeout=5, retry=None)


def test_an_instance_takes_a_while(
    stand_ins: StandIns, client: CloudFilestoreManagerClient
) -> None:
    behave(stand_ins, ready_after_seconds=60)
    name = new_name()
    operation = make(client, name)
    full_name = f"{ZONE}/instances/{name}"
    assert (operation.metadata.target, operation.metadata.verb) == (full_name, "create")
    assert client.get_instance(name=full_name).state == Instance.State.CREATING
    with pytest.raises(BadRequest, match="another operation"):
        client.delete_instance(name=full_name)
    assert not operation.done(retry=None)
    advance(stand_ins, 61)
    made = finish(operation)
    assert made.state == Instance.State.READY
    found = client.get_instance(name=full_name)
    assert (found.state, found.tier) == (Instance.State.READY, Instance.Tier.ZONAL)
    assert dict(found.labels) == {"faregate-storage": "7"}
    (share,), (network,) = found.file_shares, found.networks
    assert (share.name, share.capacity_gb) == ("share", 1024)
    (export,) = share.nfs_export_options
    assert export.access_mode == NfsExportOptions.AccessMode.READ_WRITE
    assert list(export.ip_ranges) == ["10.0.0.0/8"]
    assert (network.network, len(network.ip_addresses)) == ("default", 1)
    assert full_name in [each.name for each in client.list_instances(parent=ZONE)]


def test_an_instance_changes_what_the_mask_names(client: CloudFilestoreManagerClient) -> None:
    name = new_name()
    made = finish(make(client, name))
    export = NfsExportOptions(access_mode=NfsExportOptions.AccessMode.READ_ONLY)
    share = FileShareConfig(name="share", capacity_gb=2048, nfs_export_options=[export])
    wanted = Instance(name=made.name, file_shares=[share], labels={"not": "asked"})
    mask = FieldMask(paths=["file_shares"])
    finish(client.update_instance(instance=wanted, update_mask=mask))
    found = client.get_instance(name=made.name)
    assert found.file_shares[0].capacity_gb == 2048
    assert found.file_shares[0].nfs_export_options[0].access_mode == export.access_mode
    assert dict(found.labels) == {"faregate-storage": "7"}
    for paths in (["name"], []):
        with pytest.raises(BadRequest, match="mask"):
            client.update_instance(instance=wanted, update_mask=FieldMask(paths=paths))


def test_a_deleted_instance_is_gone_after_a_while(
    stand_ins: StandIns, client: CloudFilestoreManagerClient
) -> None:
    made = finish(make(client, new_name()))
    behave(stand_ins, ready_after_seconds=60)
    operation = client.delete_instance(name=made.name)
    assert client.get_instance(name=made.name).state == Instance.State.DELETING
    advance(stand_ins, 61)
    finish(operation)
    for act in (client.get_instance, client.delete_instance):
        with pytest.raises(NotFound):
            act(name=made.name)


def test_a_name_is_taken(client: CloudFilestoreManagerClient) -> None:
    name = new_name()
    finish(make(client, name))
    with pytest.raises(Conflict):
        make(client, name)


@pytest.mark.parametrize("size", [0, 512, 1023, 1025, 9985, 10240])
def test_a_size_is_of_the_tier(client: CloudFilestoreManagerClient, size: int) -> None:
    with pytest.raises(BadRequest, match="capacity"):
        make(client, new_name(), instance(size))


def test_what_an_instance_cannot_be_is_refused(client: CloudFilestoreManagerClient) -> None:
    for name in ("Upper", "-a", "a" * 64, "a/../b"):
        with pytest.raises((BadRequest, NotFound)):
            make(client, name)
    wrong: list[dict[str, Any]] = [
        {"tier": Instance.Tier.BASIC_HDD},
        {"file_shares": []},
        {"file_shares": [FileShareConfig(name="no-dash", capacity_gb=1024)]},
        {"networks": []},
    ]
    for changes in wrong:
        with pytest.raises(BadRequest):
            make(client, new_name(), instance(**changes))
    for parent in ("projects/local/locations/nowhere", "projects/other/locations/europe-west4-a"):
        with pytest.raises(Forbidden):
            client.create_instance(parent=parent, instance_id=new_name(), instance=instance())


def test_the_quota_is_not_exceeded(
    stand_ins: StandIns, client: CloudFilestoreManagerClient
) -> None:
    made = finish(make(client, new_name()))
    held = sum(each.file_shares[0].capacity_gb for each in client.list_instances(parent=ZONE))
    behave(stand_ins, quota_gib=held)
    with pytest.raises(TooManyRequests, match="Quota limit"):
        make(client, new_name())
    wanted = Instance(name=made.name, file_shares=instance(1280).file_shares)
    with pytest.raises(TooManyRequests, match="Quota limit"):
        client.update_instance(instance=wanted, update_mask=FieldMask(paths=["file_shares"]))


def test_an_operation_can_fail(stand_ins: StandIns, client: CloudFilestoreManagerClient) -> None:
    behave(stand_ins, failure={"code": 8, "message": "The zone is full."})
    name = new_name()
    with pytest.raises(GoogleAPICallError, match="The zone is full"):
        finish(make(client, name))
    with pytest.raises(NotFound):
        client.get_instance(name=f"{ZONE}/instances/{name}")
