"""What every refusal must look like."""

from typing import Any

import httpx

from faregate.errors import PROBLEMS


def problem(response: httpx.Response, status: int, code: str) -> dict[str, Any]:
    """Give a refusal's document, having checked that it is one."""
    document: dict[str, Any] = response.json()
    assert (response.status_code, document.get("code")) == (status, code), response.text[:500]
    assert response.headers["content-type"] == "application/problem+json"
    assert document["type"].endswith(f"/{code}")
    assert document["title"] == PROBLEMS[code].title
    assert document["status"] == status
    assert document["request_id"] == response.headers["x-request-id"]
    return document


def done(response: httpx.Response, status: int = 200) -> dict[str, Any]:
    """Give what a call answered, having checked that it went well."""
    assert response.status_code == status, response.text[:500]
    document: dict[str, Any] = response.json()
    return document
