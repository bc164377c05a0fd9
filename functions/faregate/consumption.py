"""A piece of usage: as requests say it, and as SQL reads it."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Protocol
from uuid import UUID

MAX_EVENTS = 1000
"""How many pieces of usage one request may bring."""


class Served(Protocol):
    """Who served which model, if any."""

    @property
    def provider(self) -> str | None: ...  # noqa: D102
    @property
    def model(self) -> str | None: ...  # noqa: D102


class Event(Served, Protocol):
    """What is said of a piece of usage."""

    @property
    def source(self) -> str: ...  # noqa: D102
    @property
    def id(self) -> str: ...  # noqa: D102
    @property
    def occurred_at(self) -> datetime | None: ...  # noqa: D102
    @property
    def feature(self) -> str | None: ...  # noqa: D102
    @property
    def passport_id(self) -> UUID | None: ...  # noqa: D102
    @property
    def quantities(self) -> Mapping[str, float] | None: ...  # noqa: D102


def check_model(served: Served) -> None:
    """Refuse a model that nobody serves. Raises ValueError."""
    if (served.provider is None) != (served.model is None):
        raise ValueError("provider and model belong together")


def event_row(index: int, event: Event) -> dict[str, Any]:
    """Give the row that SQL reads; meters that count nothing are left out.

    Not requests: what says nothing of them is one.
    """
    row: dict[str, Any] = {
        "index": index,
        "source": event.source,
        "event_id": event.id,
        "feature": event.feature,
    }
    if event.quantities:
        row["quantities"] = {
            meter: each for meter, each in event.quantities.items() if each or meter == "requests"
        }
    if event.occurred_at:
        row["occurred_at"] = event.occurred_at.isoformat()
    if event.provider:
        row |= {"provider_id": event.provider, "model": event.model}
    if event.passport_id:
        row["passport_id"] = str(event.passport_id)
    return row
