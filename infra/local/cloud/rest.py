"""Stand-in for Supabase's way to PostgREST: checks the API key and hands everything on."""

import httpx
from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, Response, StreamingResponse
from starlette.background import BackgroundTask

from infra.local.cloud.supabase_keys import SupabaseKeys

_METHODS = ["GET", "HEAD", "POST", "PATCH", "PUT", "DELETE", "OPTIONS"]
# These speak of one connection, not of the message.
_HOP_BY_HOP = {"connection", "keep-alive", "transfer-encoding", "upgrade", "host"}


class Rest:
    """`/rest/v1/…` is PostgREST's `/…`, as a stream in both directions."""

    def __init__(self, postgrest_url: str, keys: SupabaseKeys, http: httpx.AsyncClient) -> None:
        self._url, self._keys, self._http = postgrest_url, keys, http
        self.router = APIRouter()
        self.router.add_api_route("/rest/v1/{path:path}", self.forward, methods=_METHODS)

    async def forward(self, request: Request, path: str) -> Response:
        """Hand a request on and stream the answer back."""
        if not self._keys.admits(request.headers) and request.method != "OPTIONS":
            return JSONResponse({"message": "Invalid API key"}, 401)
        headers = [(k, v) for k, v in request.headers.items() if k not in _HOP_BY_HOP]
        if "authorization" not in request.headers and "apikey" in request.headers:
            headers.append(("authorization", f"Bearer {self._keys.bearer(request.headers)}"))
        if request.method == "HEAD":
            # PostgREST hangs up after such an answer and does not say so.
            headers.append(("connection", "close"))
        has_body = "content-length" in request.headers or "transfer-encoding" in request.headers
        outgoing = self._http.build_request(
            request.method,
            httpx.URL(f"{self._url}/{path}", query=request.url.query.encode()),
            headers=headers,
            content=request.stream() if has_body else None,
        )
        try:
            answer = await self._http.send(outgoing, stream=True)
        except httpx.HTTPError:
            return JSONResponse({"message": "PostgREST does not answer"}, 502)
        response = StreamingResponse(
            answer.aiter_raw(), answer.status_code, background=BackgroundTask(answer.aclose)
        )
        response.raw_headers = [
            (k.lower(), v) for k, v in answer.headers.raw if k.decode().lower() not in _HOP_BY_HOP
        ]
        return response
