"""Headers that the work on a request adds to its answer, whatever that is."""

from contextvars import ContextVar

answer_headers: ContextVar[list[tuple[str, str]] | None] = ContextVar(
    "answer_headers", default=None
)
"""Those of the current request; None: there is nobody to be told."""


def add_header(name: str, value: str) -> None:
    """Have the current request's answer tell it."""
    added = answer_headers.get()
    if added is not None:
        added.append((name, value))
