"""Signed addresses of objects (V4): checked as Cloud Storage does, then answered.

https://cloud.google.com/storage/docs/authentication/canonical-requests
"""

import hashlib
from datetime import UTC, datetime, timedelta
from urllib.parse import quote, unquote
from xml.sax.saxutils import escape

from fastapi import Request
from fastapi.responses import Response

from infra.local.cloud.gcs_objects import Objects
from infra.local.cloud.iam_accounts import Accounts

_ALGORITHM = "GOOG4-RSA-SHA256"
_WEEK_SECONDS = 7 * 24 * 3600
_SKEW = timedelta(minutes=15)
_RANGE = "x-goog-content-length-range"
_GENERATION = "x-goog-if-generation-match"
_PARAMETERS = ("Algorithm", "Credential", "Date", "Expires", "SignedHeaders", "Signature")


class _XmlError(Exception):
    """A refusal as the XML API words it."""

    def __init__(self, status: int, code: str, message: str, **more: str) -> None:
        fields = {"Code": code, "Message": message} | more
        inner = "".join(f"<{name}>{escape(text)}</{name}>" for name, text in fields.items())
        self.status, self.text = (
            status,
            f"<?xml version='1.0' encoding='UTF-8'?><Error>{inner}</Error>",
        )


class SignedUrls:
    """The XML API of objects, as far as a signed address opens it."""

    def __init__(self, accounts: Accounts, objects: Objects) -> None:
        self._accounts, self._objects = accounts, objects

    async def answer(self, request: Request, path: str, *, exists: bool) -> Response:
        """GET, HEAD, PUT or DELETE /{bucket}/{object}."""
        try:
            self._check(request, path)
            if not exists:
                message = "The specified bucket does not exist."
                raise _XmlError(404, "NoSuchBucket", message)
            return await self._act(request, path)
        except _XmlError as error:
            return Response(error.text, error.status, media_type="application/xml")

    def _check(self, request: Request, path: str) -> None:
        query = request.query_params
        if "X-Goog-Signature" not in query:
            details = "Anonymous caller does not have storage.objects.get access."
            raise _XmlError(403, "AccessDenied", "Access denied.", Details=details)
        if missing := [name for name in _PARAMETERS if f"X-Goog-{name}" not in query]:
            raise _malformed(f"X-Goog-{missing[0]}", "Missing.")
        email, _, scope = query["X-Goog-Credential"].partition("/")
        self._check_time(query["X-Goog-Date"], query["X-Goog-Expires"])
        stamp = query["X-Goog-Date"]
        canonical = _canonical_request(request, path)
        digest = hashlib.sha256(canonical.encode()).hexdigest()
        text = "\n".join([_ALGORITHM, stamp, scope, digest])
        if (
            query["X-Goog-Algorithm"] != _ALGORITHM
            or scope != f"{stamp[:8]}/auto/storage/goog4_request"
            or not self._accounts.has_signed(email, text.encode(), query["X-Goog-Signature"])
        ):
            raise _XmlError(
                403,
                "SignatureDoesNotMatch",
                "Access denied.",
                Details="The request signature we calculated does not match the signature you "
                "provided. Check your Google secret key and signing method.",
                StringToSign=text,
                CanonicalRequest=canonical,
            )

    def _check_time(self, date: str, expires: str) -> None:
        try:
            begins = datetime.strptime(date, "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
        except ValueError:
            raise _malformed("X-Goog-Date", "Not an ISO 8601 basic date.") from None
        if not expires.isdecimal() or not 1 <= int(expires) <= _WEEK_SECONDS:
            raise _malformed("X-Goog-Expires", "Must be between 1 and 604800.")
        ends, now = begins + timedelta(seconds=int(expires)), datetime.now(UTC)
        if now > ends:
            raise _XmlError(
                400,
                "ExpiredToken",
                "Invalid argument.",
                Details=f"The provided token has expired. Request signature expired at: "
                f"{ends:%Y-%m-%dT%H:%M:%S+00:00}",
            )
        if begins > now + _SKEW:
            raise _malformed("X-Goog-Date", "Lies in the future.")

    async def _act(self, request: Request, path: str) -> Response:
        bucket, _, name = unquote(path[1:]).partition("/")
        existing = await self._objects.stat(bucket, name)
        if request.method == "PUT":
            _check_generation(request, existing["generation"] if existing else "0")
            return await self._put(request, bucket, name)
        if existing is None:
            message = "The specified key does not exist."
            raise _XmlError(404, "NoSuchKey", message, Details=f"No such object: {bucket}/{name}")
        if request.method in {"GET", "HEAD"}:
            return await self._get(request, bucket, name)
        raise _XmlError(405, "MethodNotAllowed", "The specified method is not allowed.")

    async def _put(self, request: Request, bucket: str, name: str) -> Response:
        told = request.headers.get("content-length", "")
        if told.isdecimal():
            _check_length(request, int(told))
        content = await request.body()
        _check_length(request, len(content))
        kind = request.headers.get("content-type", "application/octet-stream")
        prefix = "x-goog-meta-"
        metadata = {
            key.removeprefix(prefix): value
            for key, value in request.headers.items()
            if key.startswith(prefix)
        }
        made = await self._objects.upload(bucket, name, content, kind, metadata)
        headers = {
            "ETag": f'"{hashlib.md5(content, usedforsecurity=False).hexdigest()}"',
            "x-goog-generation": made["generation"],
            "x-goog-stored-content-length": str(len(content)),
            "x-goog-hash": f"crc32c={made['crc32c']}",
        }
        return Response(status_code=200, headers=headers)

    async def _get(self, request: Request, bucket: str, name: str) -> Response:
        headers = {k: v for k, v in request.headers.items() if k == "range"}
        found = await self._objects.download(bucket, name, headers, request.url.query)
        wanted = {"content-range", "content-disposition", "x-goog-hash"}
        kept = {
            key: value
            for key, value in found.headers.items()
            if key in wanted or key.startswith("x-goog-meta-")
        }
        kind = request.query_params.get("response-content-type") or found.headers["content-type"]
        return Response(found.content, found.status_code, headers=kept, media_type=kind)


def _canonical_request(request: Request, path: str) -> str:
    """Write the request as its signer did."""
    pairs = [(k, v) for k, v in request.query_params.multi_items() if k != "X-Goog-Signature"]
    query = "&".join(sorted(f"{quote(k, safe='~')}={quote(v, safe='~')}" for k, v in pairs))
    signed = request.query_params["X-Goog-SignedHeaders"].split(";")
    for name in request.headers:
        if name.startswith("x-goog-") and name not in signed:
            raise _malformed(name, "Header was included in the request, but not in signedheaders.")
    for name in signed:
        if name not in request.headers:
            raise _malformed(name, "Header was included in signedheaders, but not in the request.")
    headers = [f"{name}:{' '.join(request.headers[name].split())}\n" for name in signed]
    payload = request.headers.get("x-goog-content-sha256", "UNSIGNED-PAYLOAD")
    return "\n".join([request.method, path, query, "".join(headers), ";".join(signed), payload])


def _check_length(request: Request, length: int) -> None:
    allowed = request.headers.get(_RANGE)
    if allowed is None:
        return
    smallest, _, largest = allowed.partition(",")
    if not smallest.strip().isdecimal() or not largest.strip().isdecimal():
        raise _malformed(_RANGE, "Not a range.")
    if length < int(smallest):
        message = "Your proposed upload is smaller than the minimum object size specified."
        raise _XmlError(400, "EntityTooSmall", message)
    if length > int(largest):
        message = "Your proposed upload exceeds the maximum allowed object size."
        raise _XmlError(400, "EntityTooLarge", message)


def _check_generation(request: Request, generation: str) -> None:
    if request.headers.get(_GENERATION, generation) != generation:
        message = "At least one of the pre-conditions you specified did not hold."
        raise _XmlError(412, "PreconditionFailed", message)


def _malformed(name: str, details: str) -> _XmlError:
    return _XmlError(
        400,
        "MalformedSecurityHeader",
        "Your request has a malformed header.",
        ParameterName=name,
        Details=details,
    )
