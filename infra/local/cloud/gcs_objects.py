"""The objects of the stand-in for Cloud Storage: gcp-storage-emulator, and what it leaves out."""

import hashlib
import json
import re
from email import message_from_bytes
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, quote, unquote, urlencode

import httpx
from fastapi import Request
from fastapi.responses import JSONResponse, Response
from gcp_storage_emulator.server import APIThread
from gcp_storage_emulator.storage import Storage

from infra.local.cloud.google_errors import storage_refusal
from infra.local.cloud.store import Document

_MAX_RESULTS = 1000
_HOP_BY_HOP = {"connection", "keep-alive", "transfer-encoding", "content-length", "date", "server"}
_BUCKETS = "/storage/v1/b"


class _Storage(Storage):  # type: ignore[misc]
    """The emulator's files, each below a name that any file system takes.

    By themselves they would be called as the objects are: `a` and `a/b` exclude each other there.
    """

    def _object_path(self, bucket_name: str, file_name: str) -> str:
        return f"{bucket_name}/{hashlib.sha256(file_name.encode()).hexdigest()}"


class Objects:
    """Calls the emulator, which listens on a port of its own that nobody else is told."""

    def __init__(self, url: str, folder: Path, http: httpx.AsyncClient) -> None:
        self._url, self._folder, self._http = url, folder, http
        self._thread: APIThread | None = None

    def start(self) -> None:
        """Start the emulator on what it kept."""
        self._thread = APIThread("127.0.0.1", 0, _Storage(data_dir=str(self._folder)), daemon=True)
        self._thread.start()
        self._thread.is_running.wait()

    def stop(self) -> None:
        """Stop the emulator."""
        if self._thread is not None:
            self._thread.join()

    @property
    def _emulator(self) -> str:
        if self._thread is None:
            raise RuntimeError("the emulator has not been started")
        return f"http://127.0.0.1:{self._thread._httpd.server_address[1]}"

    async def make_bucket(self, bucket: Document) -> None:
        """Make room for a bucket's objects."""
        await self._ask("POST", _BUCKETS, json={"name": bucket["name"]})
        await self.keep_deleted(bucket)

    async def keep_deleted(self, bucket: Document) -> None:
        """Keep deleted objects as long as the bucket says."""
        policy = {"softDeletePolicy": bucket["softDeletePolicy"]}
        await self._ask("PATCH", f"{_BUCKETS}/{bucket['name']}", json=policy)

    async def remove_bucket(self, name: str) -> bool:
        """Remove a bucket if it is empty; tell whether it was."""
        return (await self._ask("DELETE", f"{_BUCKETS}/{name}")).status_code != 409

    async def answer(self, request: Request, path: str) -> Response:
        """Answer a call of the JSON API."""
        query = request.query_params
        if path.endswith("/o") and request.method == "GET":
            return await self._list(request, path)
        wanted = query.get("ifGenerationMatch")
        if wanted is not None and "/o" in path:
            await self._check_generation(request, path, wanted)
        answer = await self.forward(request, path)
        if answer.status_code == 404:
            named = unquote(path.partition(f"{_BUCKETS}/")[2]).replace("/o/", "/", 1)
            raise storage_refusal(404, "notFound", f"No such object: {named}")
        return answer

    async def forward(self, request: Request, path: str) -> Response:
        """Have the emulator answer, but for the addresses that it gives."""
        url = f"{path}?{request.url.query}" if request.url.query else path
        headers = [(k, v) for k, v in request.headers.items() if k not in {"host", "connection"}]
        answer = await self._ask(request.method, url, headers=headers, content=await request.body())
        content = answer.content
        is_media = path.startswith("/download/") or request.query_params.get("alt") == "media"
        if answer.headers.get("content-type") == "application/json" and not is_media:
            content = json.dumps(self._linked(answer.json())).encode()
        is_gone = request.method == "DELETE" and answer.is_success
        response = Response(content, 204 if is_gone else answer.status_code)
        for name, value in answer.headers.items():
            if name not in _HOP_BY_HOP:
                response.headers[name] = value.replace(self._emulator, self._url)
        return response

    async def stat(self, bucket: str, name: str) -> Document | None:
        """Find an object's description."""
        answer = await self._ask("GET", f"{_BUCKETS}/{bucket}/o/{quote(name, safe='')}")
        return answer.json() if answer.status_code == 200 else None

    async def upload(
        self, bucket: str, name: str, content: bytes, kind: str, metadata: dict[str, str]
    ) -> Document:
        """Keep an object, whatever its bytes look like."""
        begun = await self._ask(
            "POST",
            f"/upload{_BUCKETS}/{bucket}/o?{urlencode({'uploadType': 'resumable', 'name': name})}",
            json={"metadata": metadata},
            headers={"X-Upload-Content-Type": kind},
        )
        upload_id = parse_qs(begun.headers["location"].partition("?")[2])["upload_id"][0]
        path = f"/upload{_BUCKETS}/{bucket}/o?{urlencode({'upload_id': upload_id})}"
        headers = {"Content-Type": "application/octet-stream"}
        kept = await self._ask("PUT", path, content=content, headers=headers)
        made: Document = kept.json()
        return made

    async def download(
        self, bucket: str, name: str, headers: dict[str, str], query: str
    ) -> httpx.Response:
        """Give an object's bytes, or a range of them."""
        path = f"/download{_BUCKETS}/{bucket}/o/{quote(name, safe='')}?{query}"
        return await self._ask("GET", path, headers=headers)

    async def _list(self, request: Request, path: str) -> Response:
        """Give a page: the emulator gives everything at once."""
        query = request.query_params
        found = self._linked((await self._ask("GET", f"{path}?{request.url.query}")).json())
        size = min(int(query.get("maxResults") or _MAX_RESULTS), _MAX_RESULTS)
        token = query.get("pageToken") or "0"
        if not re.fullmatch("[0-9]{1,9}", token):
            raise storage_refusal(400, "invalid", "Invalid page token.")
        first = int(token)
        page = {**found, "items": found["items"][first : first + size]}
        if first + size < len(found["items"]):
            page["nextPageToken"] = str(first + size)
        return JSONResponse(page)

    async def _check_generation(self, request: Request, path: str, wanted: str) -> None:
        """Refuse what is meant for another generation of the object; 0 means that there is none."""
        bucket, _, name = path.rpartition("/b/")[2].partition("/o")
        name = unquote(name.removeprefix("/")) or await _named(request)
        existing = await self.stat(bucket, name)
        if wanted != (existing["generation"] if existing else "0"):
            message = "At least one of the pre-conditions you specified did not hold."
            raise storage_refusal(412, "conditionNotMet", message)

    def _linked(self, document: Document) -> Document:
        """Correct the addresses of what the emulator describes: they were its own."""
        for each in [document, document.get("resource", {}), *document.get("items", [])]:
            if each.get("kind") == "storage#object":
                path = f"{_BUCKETS}/{each['bucket']}/o/{quote(each['name'], safe='')}"
                each["selfLink"] = f"{self._url}{path}"
                query = f"generation={each['generation']}&alt=media"
                each["mediaLink"] = f"{self._url}/download{path}?{query}"
        return document

    async def _ask(self, method: str, path: str, **more: Any) -> httpx.Response:  # noqa: ANN401
        return await self._http.request(method, f"{self._emulator}{path}", **more)


async def _named(request: Request) -> str:
    """Find the name of an object that is being uploaded."""
    if "name" in request.query_params:
        return request.query_params["name"]
    described: Any = await request.body()
    kind = request.headers.get("content-type", "")
    if kind.startswith("multipart/"):
        parts: Any = message_from_bytes(f"Content-Type: {kind}\r\n\r\n".encode() + described)
        described = parts.get_payload(0).get_payload(decode=True)
    name: str = json.loads(described)["name"]
    return name
