"""All functions behind one address, as the cloud's URL map does, and the lever of the clock."""

import httpx
from fastapi import FastAPI, Request, Response

from faregate.function import FUNCTIONS
from faregate.function import create_app as create_function
from infra.local.layout import Layout


def create_app() -> FastAPI:
    """Serve every function, and `/_local/clock`, which exists nowhere else."""
    layout = Layout.load()
    app = create_function(*FUNCTIONS)

    @app.api_route("/_local/clock", methods=["GET", "POST"], include_in_schema=False)
    async def clock(request: Request) -> Response:
        async with httpx.AsyncClient(trust_env=False, timeout=600) as http:
            answer = await http.request(
                request.method,
                f"{layout.supabase_url}/clock",
                content=await request.body(),
                headers={"Content-Type": request.headers.get("Content-Type", "application/json")},
            )
        return Response(answer.content, answer.status_code, media_type="application/json")

    return app
