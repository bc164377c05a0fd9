"""The OpenAPI document: refusals as the problem documents they are, parameters without nulls."""

from typing import Any

from fastapi import FastAPI
from pydantic import BaseModel, ConfigDict

from faregate.errors import PROBLEMS

_PROBLEM = "application/problem+json"
_REFERENCE = "#/components/schemas/{model}"

_HEADERS = {
    "Retry-After": "In how many seconds to try again.",
    "RateLimit": "What is left of each limit (r), and in how many seconds all of it is back (t).",
    "RateLimit-Policy": "How many calls at once (q), and within how many seconds (w), are allowed.",
}
_LIMIT_HEADERS = {name: {"$ref": f"#/components/headers/{name}"} for name in _HEADERS}


class InvalidField(BaseModel):
    """One thing that is wrong with a request."""

    where: str
    message: str


class ProblemDocument(BaseModel):
    """RFC 9457. Further members depend on the code: required, available, top_up_url, …"""

    model_config = ConfigDict(extra="allow")

    type: str
    title: str
    status: int
    code: str
    request_id: str
    errors: list[InvalidField] = []


def refuses(*codes: str) -> dict[int | str, dict[str, Any]]:
    """Document an endpoint's refusals: OpenAPI responses, one per status, that name the codes."""
    by_status: dict[int, list[str]] = {}
    for code in codes:
        by_status.setdefault(PROBLEMS[code].status, []).append(code)
    schema = {"$ref": _REFERENCE.format(model=ProblemDocument.__name__)}
    return {
        status: {
            "description": ", ".join(names),
            "content": {_PROBLEM: {"schema": schema}},
            **({"headers": _LIMIT_HEADERS} if status == 429 else {}),
        }
        for status, names in sorted(by_status.items())
    }


class Api(FastAPI):
    """FastAPI, whose own document is corrected where it does not tell what we do."""

    def openapi(self) -> dict[str, Any]:
        """Give the document."""
        document: dict[str, Any] = super().openapi()
        schemas = document["components"]["schemas"]
        for unused in ("HTTPValidationError", "ValidationError"):
            schemas.pop(unused, None)
        problem = ProblemDocument.model_json_schema(ref_template=_REFERENCE)
        schemas |= problem.pop("$defs") | {ProblemDocument.__name__: problem}
        document["components"]["headers"] = {
            name: {"description": told, "schema": {"type": "string"}}
            for name, told in _HEADERS.items()
        }
        for methods in document["paths"].values():
            for operation in methods.values():
                # We answer 400 where FastAPI would answer 422.
                operation["responses"].pop("422", None)
                for parameter in operation.get("parameters", []):
                    parameter["schema"] = _without_null(parameter["schema"])
        return document


def _without_null(schema: dict[str, Any]) -> dict[str, Any]:
    """Drop null from a parameter's types: in a URL or a header it would be a text."""
    types: list[dict[str, Any]] = [
        each for each in schema.get("anyOf", []) if each != {"type": "null"}
    ]
    if len(types) != 1:
        return schema
    return {name: value for name, value in schema.items() if name != "anyOf"} | types[0]
