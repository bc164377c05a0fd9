"""Copying into buckets at Cloud Storage."""

from google.api_core.exceptions import NotFound
from google.auth.transport.requests import AuthorizedSession
from google.cloud.storage import Blob

from faregate.backends.google import credentials
from faregate.backends.storage import CALL_SECONDS, Object, Place
from faregate.backends.storage.copying import PART_BYTES, Part, Read
from faregate.backends.storage.gcs import ONCE, GcsObjects, connect, outcomes
from faregate.settings import BucketSettings

# Between locations the provider takes its time, and then says how far it is.
_REWRITE_SECONDS = 60.0

# What an object tells of itself: a copy that is told anything is told all.
_TOLD = (
    *("content_type", "content_encoding", "content_language", "content_disposition"),
    *("cache_control", "metadata"),
)


class GcsCopies(GcsObjects):
    """Copies objects into buckets of one project."""

    def __init__(self, settings: BucketSettings) -> None:
        # Nothing is signed here.
        self._client = connect(settings)
        url = str(settings.storage_api_url).rstrip("/")
        self._http = AuthorizedSession(credentials(url))  # type: ignore[no-untyped-call]

    def content_type(self, place: Place, name: str) -> str:
        """Tell what an object says it is."""
        with outcomes():
            return str(self._found(place, name).content_type or "application/octet-stream")

    def read(self, place: Place, name: str, start: int, end: int) -> bytes:
        """Give some bytes of an object, as they are kept."""
        if start == end:
            return b""
        with outcomes():
            content: bytes = self._blob(place, name).download_as_bytes(
                start=start, end=end - 1, raw_download=True, checksum=None, **ONCE
            )
            return content

    def copy(self, source: Place, target: Place, item: Object, part: Part) -> Part | None:
        """Have Cloud Storage rewrite an object; a large one takes several calls."""
        with outcomes():
            original = self._found(source, item.object)
            blob = self._blob(target, item.object)
            for name in _TOLD:
                if (value := getattr(original, name)) is not None:
                    setattr(blob, name, value)
            token, _, _ = blob.rewrite(
                original,
                token=part.get("token"),
                if_source_generation_match=original.generation,
                timeout=_REWRITE_SECONDS,
                retry=None,
            )
            return {"token": token} if token else None

    def write(
        self, target: Place, item: Object, content_type: str, part: Part, read: Read
    ) -> Part | None:
        """Write an object whole, or a large one by a resumable upload."""
        blob, size = self._blob(target, item.object), item.size_bytes
        if size <= PART_BYTES:
            content = read(0, size)
            with outcomes():
                blob.upload_from_string(content, content_type, **ONCE)
            return None
        start = part.get("offset", 0)
        end = min(start + PART_BYTES, size)
        content = read(start, end)
        with outcomes():
            # Whoever knows this address can write the object, and nothing else.
            session = part.get("session") or blob.create_resumable_upload_session(
                content_type, size, **ONCE
            )
            answer = self._http.put(
                session,
                data=content,
                headers={
                    "Content-Range": f"bytes {start}-{end - 1}/{size}",
                    "Content-Type": "application/octet-stream",
                },
                timeout=CALL_SECONDS,
            )
            if answer.status_code in {404, 410}:
                return {}  # forgotten: from the first byte on
            if answer.status_code == 308:
                kept = int(answer.headers["Range"].rpartition("-")[2]) + 1
                return {"session": session, "offset": kept, "content_type": content_type}
            answer.raise_for_status()
            return None

    def _blob(self, place: Place, name: str) -> Blob:
        return self._client.bucket(place.resource_name).blob(name)

    def _found(self, place: Place, name: str) -> Blob:
        found = self._client.bucket(place.resource_name).get_blob(name, **ONCE)
        if found is None:
            raise NotFound("the object is gone")  # type: ignore[no-untyped-call]
        return found
