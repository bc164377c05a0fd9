"""Stand-in for Filestore: file shares that take a while, and the operations that tell when."""

import random
import re
from datetime import UTC, datetime, timedelta
from secrets import token_hex
from typing import Any

from fastapi import APIRouter, Request

from infra.local.cloud.clock import Clock
from infra.local.cloud.google_errors import body_of, refusal
from infra.local.cloud.store import Document, Store
from infra.local.layout import GOOGLE_PROJECT

_NAME = re.compile(r"[a-z]([-a-z0-9]{0,61}[a-z0-9])?")
_SHARE = re.compile(r"[a-z][a-z0-9_]{0,62}")
_ZONE = re.compile(r"[a-z]+-[a-z]+\d{1,2}-[a-f]")
# The client sends enumerations as numbers.
_ZONAL = ("ZONAL", 7)
_ACCESS_MODES = {1: "READ_ONLY", 2: "READ_WRITE"}
_SQUASH_MODES = {1: "NO_ROOT_SQUASH", 2: "ROOT_SQUASH"}
_CONNECT_MODES = {1: "DIRECT_PEERING", 2: "PRIVATE_SERVICE_ACCESS"}
_MIN_GIB, _MAX_GIB, _STEP_GIB = 1024, 9984, 256
_MAX_EXPORTS = 10
_SETTABLE = {"description": "description", "labels": "labels", "file_shares": "fileShares"}
_TYPES = "type.googleapis.com"


class Filestore:
    """The REST API of zonal instances.

    What Google does: `POST /_behaviour` ready_after_seconds, quota_gib (how much the project may
    have in all), failure (what ends the next operation that makes an instance).
    """

    def __init__(self, store: Store, clock: Clock, ready_after_seconds: float) -> None:
        self._store, self._clock = store, clock
        self._behaviour: Document = {"ready_after_seconds": ready_after_seconds}
        self.router = APIRouter(prefix="/filestore")
        location = "/v1/projects/{project}/locations/{zone}"
        instances, instance = f"{location}/instances", f"{location}/instances/{{name}}"
        for path, method, endpoint in (
            (instances, "POST", self.create),
            (instances, "GET", self.index),
            (instance, "GET", self.get),
            (instance, "PATCH", self.patch),
            (instance, "DELETE", self.delete),
            (f"{location}/operations/{{name}}", "GET", self.operation),
            ("/_behaviour", "POST", self.behave),
        ):
            self.router.add_api_route(path, endpoint, methods=[method])

    async def behave(self, request: Request) -> Document:
        """POST /_behaviour."""
        self._behaviour |= await body_of(request)
        return self._behaviour

    async def create(self, request: Request, project: str, zone: str) -> Document:
        """POST /v1/{location}/instances."""
        asked, now = await body_of(request), await self._settle()
        _check_location(project, zone)
        name = request.query_params.get("instanceId", "")
        if not _NAME.fullmatch(name):
            raise refusal("INVALID_ARGUMENT", f"Invalid instance id '{name}'.")
        if asked.get("tier") not in _ZONAL:
            raise refusal("INVALID_ARGUMENT", "The laptop makes instances of tier ZONAL only.")
        full_name = f"projects/{project}/locations/{zone}/instances/{name}"
        made: Document = {
            "name": full_name,
            "tier": "ZONAL",
            "state": "CREATING",
            "createTime": _rfc3339(now),
            "labels": asked.get("labels", {}),
            "fileShares": _file_shares(asked.get("fileShares", [])),
            "networks": _networks(asked.get("networks", [])),
            "etag": token_hex(8),
            "protocol": "NFS_V3",
            **({"description": asked["description"]} if asked.get("description") else {}),
        }
        if self._store.get("filestore.instance", full_name) is not None:
            raise refusal("ALREADY_EXISTS", f"Resource '{full_name}' already exists")
        self._check_quota(made, zone)
        failure = self._behaviour.pop("failure", None)
        return self._begin("create", made, now, failure)

    async def index(self, project: str, zone: str) -> Document:
        """GET /v1/{location}/instances; `-` stands for everywhere."""
        await self._settle()
        _check_location(project, zone)
        prefix = f"projects/{project}/locations/{'' if zone == '-' else f'{zone}/'}"
        found = self._store.all("filestore.instance")
        return {"instances": [_shown(each) for each in found if each["name"].startswith(prefix)]}

    async def get(self, project: str, zone: str, name: str) -> Document:
        """GET /v1/{instance}."""
        await self._settle()
        return _shown(self._find(project, zone, name))

    async def patch(self, request: Request, project: str, zone: str, name: str) -> Document:
        """PATCH /v1/{instance}: what the mask names."""
        asked, now = await body_of(request), await self._settle()
        instance = self._find(project, zone, name, state="READY")
        # The client writes the mask as JSON does, gcloud as the description does.
        mask = re.sub("[A-Z]", lambda m: f"_{m[0].lower()}", request.query_params["updateMask"])
        named = [each for each in mask.split(",") if each]
        if not named or not _SETTABLE.keys() >= set(named):
            raise refusal("INVALID_ARGUMENT", f"Invalid update mask: '{mask}'")
        changes = {_SETTABLE[each]: asked.get(_SETTABLE[each]) for each in named}
        if "fileShares" in changes:
            (share,) = changes["fileShares"] = _file_shares(asked.get("fileShares", []))
            if share["name"] != instance["fileShares"][0]["name"]:
                raise refusal("INVALID_ARGUMENT", "A file share cannot be renamed.")
        changed = instance | changes | {"etag": token_hex(8)}
        self._check_quota(changed, zone)
        return self._begin("update", changed, now)

    async def delete(self, project: str, zone: str, name: str) -> Document:
        """DELETE /v1/{instance}."""
        now = await self._settle()
        instance = self._find(project, zone, name, state="READY")
        return self._begin("delete", instance | {"state": "DELETING"}, now)

    async def operation(self, project: str, zone: str, name: str) -> Document:
        """GET /v1/{operation}."""
        now = await self._settle()
        full_name = f"projects/{project}/locations/{zone}/operations/{name}"
        operation = self._store.get("filestore.operation", full_name)
        if operation is None:
            raise refusal("NOT_FOUND", f"Resource '{full_name}' was not found")
        return _told(operation, now)

    def _begin(
        self, verb: str, instance: Document, now: datetime, failure: Document | None = None
    ) -> Document:
        """Have an operation under way, after which the instance is what it says."""
        until = _rfc3339(now + timedelta(seconds=self._behaviour["ready_after_seconds"]))
        place = instance["name"].partition("/instances/")[0]
        operation: Document = {
            "name": f"{place}/operations/operation-{token_hex(12)}",
            "verb": verb,
            "target": _shown(instance),
            "until": until,
            "failure": failure,
            "createTime": _rfc3339(now),
        }
        self._store.put("filestore.operation", operation["name"], operation)
        fails = {"fails": True} if failure else {}
        kept = instance | {"until": until} | fails
        self._store.put("filestore.instance", instance["name"], kept)
        return _told(operation, now)

    async def _settle(self) -> datetime:
        """Finish what is due; tell the time."""
        now = await self._clock.now()
        for instance in self._store.all("filestore.instance"):
            if "until" in instance and datetime.fromisoformat(instance["until"]) <= now:
                if instance["state"] == "DELETING" or instance.get("fails"):
                    self._store.delete("filestore.instance", instance["name"])
                else:
                    settled = _shown(instance) | {"state": "READY"}
                    self._store.put("filestore.instance", instance["name"], settled)
        return now

    def _find(self, project: str, zone: str, name: str, state: str = "") -> Document:
        _check_location(project, zone)
        full_name = f"projects/{project}/locations/{zone}/instances/{name}"
        instance = self._store.get("filestore.instance", full_name)
        if instance is None:
            raise refusal("NOT_FOUND", f"Resource '{full_name}' was not found")
        if state and (instance["state"] != state or "until" in instance):
            raise refusal(
                "FAILED_PRECONDITION",
                f"Instance '{full_name}' has another operation under way "
                f"(state {instance['state']}).",
            )
        return instance

    def _check_quota(self, wanted: Document, zone: str) -> None:
        limit = self._behaviour.get("quota_gib")
        others = [
            each
            for each in self._store.all("filestore.instance")
            if each["name"] != wanted["name"] and f"/{zone[:-2]}-" in each["name"]
        ]
        total = sum(int(each["fileShares"][0]["capacityGb"]) for each in [*others, wanted])
        if limit is not None and total > limit:
            raise refusal(
                "RESOURCE_EXHAUSTED",
                "Quota limit 'ZonalStorageGibPerRegion' has been exceeded. Limit: "
                f"{limit} in region {zone[:-2]}.",
            )


def _check_location(project: str, zone: str) -> None:
    if project != GOOGLE_PROJECT:
        raise refusal("PERMISSION_DENIED", f"Permission denied on resource project {project}.")
    if zone != "-" and not _ZONE.fullmatch(zone):
        message = f"Location {zone} is not found or access is unauthorized."
        raise refusal("PERMISSION_DENIED", message)


def _file_shares(asked: list[Document]) -> list[Document]:
    if len(asked) != 1:
        raise refusal("INVALID_ARGUMENT", "Exactly one file share must be specified.")
    (share,) = asked
    if not _SHARE.fullmatch(share.get("name", "")):
        raise refusal("INVALID_ARGUMENT", f"Invalid file share name '{share.get('name', '')}'.")
    size = int(share.get("capacityGb", 0))
    if not _MIN_GIB <= size <= _MAX_GIB or size % _STEP_GIB:
        raise refusal(
            "INVALID_ARGUMENT",
            f"Invalid capacity {size} GiB for tier ZONAL: {_MIN_GIB} to {_MAX_GIB} GiB in steps "
            f"of {_STEP_GIB} GiB.",
        )
    exports = share.get("nfsExportOptions", [])
    if len(exports) > _MAX_EXPORTS:
        raise refusal("INVALID_ARGUMENT", f"More than {_MAX_EXPORTS} NFS export options.")
    made: Document = {"name": share["name"], "capacityGb": str(size)}
    if exports:
        made["nfsExportOptions"] = [_export(each) for each in exports]
    return [made]


def _export(asked: Document) -> Document:
    return {
        **asked,
        "accessMode": _named(_ACCESS_MODES, asked.get("accessMode", "READ_WRITE")),
        "squashMode": _named(_SQUASH_MODES, asked.get("squashMode", "NO_ROOT_SQUASH")),
    }


def _networks(asked: list[Document]) -> list[Document]:
    if len(asked) != 1 or not asked[0].get("network"):
        raise refusal("INVALID_ARGUMENT", "Exactly one network must be specified.")
    octets = [random.randrange(256), random.randrange(32)]  # noqa: S311  an address, no secret
    block = f"10.{octets[0]}.{octets[1]}"
    mode = _named(_CONNECT_MODES, asked[0].get("connectMode", "DIRECT_PEERING"))
    return [
        {
            "network": asked[0]["network"],
            "modes": ["MODE_IPV4"],
            "connectMode": mode,
            "reservedIpRange": asked[0].get("reservedIpRange") or f"{block}.0/26",
            "ipAddresses": [f"{block}.2"],
        }
    ]


def _named(names: dict[int, str], value: Any) -> str:  # noqa: ANN401  JSON
    name = names.get(value, value)
    if name not in names.values():
        raise refusal("INVALID_ARGUMENT", f"Invalid value: {value}")
    return str(name)


def _told(operation: Document, now: datetime) -> Document:
    """Describe an operation as of now."""
    done, failure = datetime.fromisoformat(operation["until"]) <= now, operation["failure"]
    told: Document = {
        "name": operation["name"],
        "metadata": {
            "@type": f"{_TYPES}/google.cloud.common.OperationMetadata",
            "createTime": operation["createTime"],
            "target": operation["target"]["name"],
            "verb": operation["verb"],
            "cancelRequested": False,
            "apiVersion": "v1",
            **({"endTime": operation["until"]} if done else {}),
        },
        "done": done,
    }
    if done and failure:
        told["error"] = failure
    elif done and operation["verb"] == "delete":
        told["response"] = {"@type": f"{_TYPES}/google.protobuf.Empty"}
    elif done:
        kind = {"@type": f"{_TYPES}/google.cloud.filestore.v1.Instance"}
        told["response"] = kind | operation["target"] | {"state": "READY"}
    return told


def _shown(instance: Document) -> Document:
    return {key: value for key, value in instance.items() if key not in {"until", "fails"}}


def _rfc3339(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat().replace("+00:00", "Z")
