"""Stand-in for Cloud Storage: what its emulator lacks, in front of the emulator's objects.

Buckets are one namespace of all projects: what another one has is taken and closed. They keep all
that they were made with, and an access policy that is changed by whoever knows its etag.
"""

import asyncio
import base64
import re
from collections.abc import Collection
from copy import deepcopy
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, Response

from infra.local.cloud.gcs_objects import Objects
from infra.local.cloud.gcs_signed import SignedUrls
from infra.local.cloud.google_errors import GoogleError, body_of, storage_refusal
from infra.local.cloud.iam_accounts import Accounts
from infra.local.cloud.store import Document, Store
from infra.local.layout import GOOGLE_PROJECT

_PROJECT_NUMBER = "100000000001"
_SOMEBODY_ELSE = "somebody-elses-project"
_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{1,220}[a-z0-9]")
_LABEL = re.compile(r"[\w-]{0,63}")
_MULTI_REGIONS = {"US", "EU", "ASIA"}
_REGION = re.compile(r"[A-Z]+-[A-Z]+\d{1,2}")
_DAY_SECONDS = 24 * 3600
_SETTABLE = {
    *("labels", "lifecycle", "iamConfiguration", "softDeletePolicy", "storageClass", "versioning"),
    *("cors", "defaultEventBasedHold", "autoclass", "hierarchicalNamespace"),
}
_EVERYBODY = {"allUsers", "allAuthenticatedUsers"}
_METHODS = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"]


class Gcs:
    """The JSON API of buckets and objects, and addresses of objects that are signed (V4).

    What another project does: `POST /_buckets/{name}` takes a name.
    """

    def __init__(
        self, url: str, accounts: Accounts, store: Store, folder: Path, http: httpx.AsyncClient
    ) -> None:
        self._accounts, self._store = accounts, store
        self._objects = Objects(url, folder, http)
        self._signed = SignedUrls(accounts, self._objects)
        # A bucket is in the store and in the emulator: nobody looks in between.
        self._turn = asyncio.Lock()
        self.router = APIRouter(prefix="/gcs")
        buckets, bucket = "/storage/v1/b", "/storage/v1/b/{name}"
        for path, method, endpoint in (
            (buckets, "GET", self.index),
            (buckets, "POST", self.create),
            (bucket, "GET", self.get),
            (bucket, "PATCH", self.patch),
            (bucket, "DELETE", self.delete),
            (f"{bucket}/iam", "GET", self.get_policy),
            (f"{bucket}/iam", "PUT", self.set_policy),
            ("/_buckets/{name}", "POST", self.take),
        ):
            self.router.add_api_route(path, endpoint, methods=[method])
        self.router.add_api_route("/{path:path}", self.objects, methods=_METHODS)

    def start(self) -> None:
        """Start the emulator."""
        self._objects.start()

    def stop(self) -> None:
        """Stop the emulator."""
        self._objects.stop()

    async def take(self, name: str) -> Document:
        """POST /_buckets/{name}: another project makes a bucket."""
        return self._save(_bucket(name, _SOMEBODY_ELSE, {}))

    async def create(self, request: Request, project: str = "") -> Response:
        """POST /storage/v1/b."""
        asked = await body_of(request)
        name = str(asked.get("name", ""))
        if project != GOOGLE_PROJECT:
            raise _forbidden("storage.buckets.create", "Google Cloud project")
        _check_name(name)
        made = _bucket(name, project, asked)
        async with self._turn:
            if (existing := self._find(name)) is not None:
                raise storage_refusal(409, "conflict", _taken(existing))
            await self._objects.make_bucket(made)
            return JSONResponse(self._save(made))

    async def index(self, request: Request) -> Document:
        """GET /storage/v1/b."""
        prefix = request.query_params.get("prefix", "")
        found = [
            _shown(bucket)
            for bucket in self._store.all("gcs.bucket")
            if bucket["project"] == GOOGLE_PROJECT and bucket["name"].startswith(prefix)
        ]
        return {"kind": "storage#buckets", "items": found}

    async def get(self, name: str) -> Document:
        """GET /storage/v1/b/{bucket}."""
        return _shown(self._ours(name, "storage.buckets.get"))

    async def patch(self, request: Request, name: str) -> Document:
        """PATCH /storage/v1/b/{bucket}: what is null goes."""
        asked = await body_of(request)
        async with self._turn:
            bucket = self._ours(name, "storage.buckets.update")
            _check_generation(request, bucket["metageneration"])
            changed = _with(bucket, asked)
            changed["metageneration"] = str(int(bucket["metageneration"]) + 1)
            changed["updated"] = _now()
            await self._objects.keep_deleted(changed)
            return self._save(changed)

    async def delete(self, request: Request, name: str) -> Response:
        """DELETE /storage/v1/b/{bucket}."""
        async with self._turn:
            bucket = self._ours(name, "storage.buckets.delete")
            _check_generation(request, bucket["metageneration"])
            if not await self._objects.remove_bucket(name):
                message = "The bucket you tried to delete is not empty."
                raise storage_refusal(409, "conflict", message)
            self._store.delete("gcs.bucket", name)
            self._store.delete("gcs.policy", name)
        return Response(status_code=204)

    async def get_policy(self, name: str) -> Document:
        """GET /storage/v1/b/{bucket}/iam."""
        self._ours(name, "storage.buckets.getIamPolicy")
        return self._policy(name)

    async def set_policy(self, request: Request, name: str) -> Document:
        """PUT /storage/v1/b/{bucket}/iam: only if nobody else did since it was read."""
        asked = await body_of(request)
        bucket = self._ours(name, "storage.buckets.setIamPolicy")
        policy = self._policy(name)
        if asked.get("etag") not in (None, "", policy["etag"]):
            raise _precondition_failed()
        bindings = asked.get("bindings", [])
        self._check_members(bucket, {m for b in bindings for m in b.get("members", [])})
        changes = {"bindings": bindings, "version": asked.get("version") or 1}
        generation = int(policy.get("generation", 1)) + 1
        changed = policy | changes | {"generation": generation, "etag": _etag(generation)}
        self._store.put("gcs.policy", name, changed)
        return _shown(changed)

    async def objects(self, request: Request) -> Response:
        """Everything about objects: by the JSON API, or at a signed address."""
        path = request.scope["raw_path"].decode().removeprefix("/gcs")
        match = re.match(r"(?:/upload|/download)?/storage/v1/b/([^/]+)/", path)
        if match is not None:
            self._ours(match[1], "storage.objects.list")
            return await self._objects.answer(request, path)
        if path.startswith("/batch/"):
            return await self._objects.forward(request, path)
        name = path.split("/")[1]
        exists = (bucket := self._find(name)) and bucket["project"] == GOOGLE_PROJECT
        return await self._signed.answer(request, path, exists=bool(exists))

    def _find(self, name: str) -> Document | None:
        return self._store.get("gcs.bucket", name)

    def _ours(self, name: str, permission: str) -> Document:
        bucket = self._find(name)
        if bucket is None:
            raise storage_refusal(404, "notFound", "The specified bucket does not exist.")
        if bucket["project"] != GOOGLE_PROJECT:
            raise _forbidden(permission, "Google Cloud Storage bucket")
        return bucket

    def _save(self, bucket: Document) -> Document:
        bucket["etag"] = _etag(int(bucket["metageneration"]))
        self._store.put("gcs.bucket", bucket["name"], bucket)
        return _shown(bucket)

    def _policy(self, name: str) -> Document:
        return self._store.get("gcs.policy", name) or {
            "kind": "storage#policy",
            "resourceId": f"projects/_/buckets/{name}",
            "version": 1,
            "etag": _etag(1),
            "bindings": [
                {
                    "role": "roles/storage.legacyBucketOwner",
                    "members": [
                        f"projectEditor:{GOOGLE_PROJECT}",
                        f"projectOwner:{GOOGLE_PROJECT}",
                    ],
                },
                {
                    "role": "roles/storage.legacyBucketReader",
                    "members": [f"projectViewer:{GOOGLE_PROJECT}"],
                },
            ],
        }

    def _check_members(self, bucket: Document, members: Collection[str]) -> None:
        prevention = bucket["iamConfiguration"]["publicAccessPrevention"]
        if prevention == "enforced" and not _EVERYBODY.isdisjoint(members):
            raise storage_refusal(
                412,
                "conditionNotMet",
                "The member bindings allUsers and allAuthenticatedUsers are not allowed since "
                "public access prevention is enforced.",
            )
        for member in members:
            kind, _, email = member.partition(":")
            if kind == "serviceAccount" and not self._accounts.may_exist(email):
                raise storage_refusal(400, "invalid", f"Service account {email} does not exist.")
            if not email and member not in _EVERYBODY:
                raise storage_refusal(400, "invalid", f"Invalid member: {member}")


def _bucket(name: str, project: str, asked: Document) -> Document:
    now, location = _now(), str(asked.get("location") or "US").upper()
    if location not in _MULTI_REGIONS and not _REGION.fullmatch(location):
        message = "The specified location constraint is not valid."
        raise storage_refusal(400, "invalid", message)
    made: Document = {
        "kind": "storage#bucket",
        "selfLink": f"https://www.googleapis.com/storage/v1/b/{name}",
        "id": name,
        "name": name,
        "project": project,
        "projectNumber": _PROJECT_NUMBER,
        "generation": str(int(datetime.now(UTC).timestamp() * 1_000_000)),
        "metageneration": "1",
        "location": location,
        "locationType": "multi-region" if location in _MULTI_REGIONS else "region",
        "storageClass": "STANDARD",
        "timeCreated": now,
        "updated": now,
        "iamConfiguration": {
            "bucketPolicyOnly": {"enabled": False},
            "uniformBucketLevelAccess": {"enabled": False},
            "publicAccessPrevention": "inherited",
        },
        "softDeletePolicy": {
            "retentionDurationSeconds": str(7 * _DAY_SECONDS),
            "effectiveTime": now,
        },
    }
    return _with(made, asked)


def _with(bucket: Document, asked: Document) -> Document:
    """Change what may be changed; what is null goes."""
    changed: Document = _merged(bucket, {key: asked[key] for key in _SETTABLE & asked.keys()})
    if "softDeletePolicy" in asked:
        seconds = int(changed["softDeletePolicy"]["retentionDurationSeconds"])
        if seconds and not 7 * _DAY_SECONDS <= seconds <= 90 * _DAY_SECONDS:
            raise storage_refusal(
                400,
                "invalid",
                "Soft delete policy retention duration must be 0 or between 7 days and 90 days.",
            )
        changed["softDeletePolicy"] = {"retentionDurationSeconds": str(seconds)}
        if seconds:
            changed["softDeletePolicy"]["effectiveTime"] = _now()
    uniform = changed["iamConfiguration"]["uniformBucketLevelAccess"]
    if uniform.get("enabled"):
        uniform.setdefault("lockedTime", _rfc3339(datetime.now(UTC) + timedelta(days=90)))
    changed["iamConfiguration"]["bucketPolicyOnly"] = uniform
    labels = changed.get("labels", {})
    if len(labels) > 64 or not all(_is_label(*label) for label in labels.items()):
        raise storage_refusal(400, "invalid", "Invalid label.")
    return changed


def _is_label(key: str, value: object) -> bool:
    return (
        isinstance(value, str)
        and f"{key}{value}" == f"{key}{value}".lower()
        and bool(re.match("[a-z]", key) and _LABEL.fullmatch(key) and _LABEL.fullmatch(value))
    )


def _merged(old: Any, new: Any) -> Any:  # noqa: ANN401  JSON
    if not isinstance(new, dict):
        return deepcopy(new)
    merged = dict(old) if isinstance(old, dict) else {}
    for key, value in new.items():
        if value is None:
            merged.pop(key, None)
        else:
            merged[key] = _merged(merged.get(key), value)
    return merged


def _check_name(name: str) -> None:
    if (
        not _NAME.fullmatch(name)
        or any(not 1 <= len(part) <= 63 for part in name.split("."))
        or name.startswith("goog")
        or re.search("g[o0]{2}gle", name)
        or re.fullmatch(r"\d+(\.\d+){3}", name)
    ):
        raise storage_refusal(400, "invalid", f"Invalid bucket name: '{name}'")
    if "." in name:
        message = "The bucket you tried to create requires domain ownership verification."
        raise storage_refusal(403, "forbidden", message)


def _taken(bucket: Document) -> str:
    if bucket["project"] == GOOGLE_PROJECT:
        return "Your previous request to create the named bucket succeeded and you already own it."
    return (
        "The requested bucket name is not available. The bucket namespace is shared by all users "
        "of the system. Please select a different name and try again."
    )


def _forbidden(permission: str, what: str) -> GoogleError:
    message = (
        f"{GOOGLE_PROJECT} does not have {permission} access to the {what}. Permission "
        f"'{permission}' denied on resource (or it may not exist)."
    )
    return storage_refusal(403, "forbidden", message)


def _precondition_failed() -> GoogleError:
    message = "At least one of the pre-conditions you specified did not hold."
    return storage_refusal(412, "conditionNotMet", message)


def _check_generation(request: Request, metageneration: str) -> None:
    if request.query_params.get("ifMetagenerationMatch", metageneration) != metageneration:
        raise _precondition_failed()


def _shown(document: Document) -> Document:
    return {key: value for key, value in document.items() if key not in {"project", "generation"}}


def _etag(generation: int) -> str:
    """Make an etag as Cloud Storage does: field 1 of a protocol buffer, a varint."""
    encoded = b"\x08"
    while generation > 127:
        encoded, generation = encoded + bytes([generation & 127 | 128]), generation >> 7
    return base64.b64encode(encoded + bytes([generation])).decode()


def _now() -> str:
    return _rfc3339(datetime.now(UTC))


def _rfc3339(moment: datetime) -> str:
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{moment.microsecond // 1000:03}Z"
