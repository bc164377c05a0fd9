"""What can be read: each object by its id, and lists, newest first, page by page."""

from collections.abc import Callable
from fnmatch import fnmatchcase
from functools import partial
from typing import Any

from infra.local.cloud.store import Document
from infra.local.cloud.stripe_api import Api
from infra.local.cloud.stripe_objects import StripeError, accept, integer, missing
from infra.local.cloud.stripe_records import Records

# Tells whether an object is wanted by the value of a filter.
Filter = Callable[[Document, Any], bool]

_PAGING = ("created", "ending_before", "limit", "starting_after")


def _same(name: str) -> dict[str, Filter]:
    return {name: lambda found, wanted: bool(found[name] == wanted)}


# Path, kind, filters.
_READABLE: tuple[tuple[str, str, dict[str, Filter]], ...] = (
    ("balance_transactions", "balance_transaction", _same("source") | _same("type")),
    ("charges", "charge", _same("customer") | _same("payment_intent")),
    (
        "checkout/sessions",
        "checkout.session",
        _same("customer") | _same("payment_intent") | _same("status"),
    ),
    ("customers", "customer", _same("email")),
    ("disputes", "dispute", _same("charge") | _same("payment_intent")),
    (
        "events",
        "event",
        {
            "delivery_success": lambda event, wanted: (
                (event["pending_webhooks"] == 0) == (wanted == "true")
            ),
            "type": lambda event, wanted: fnmatchcase(event["type"], wanted),
            "types": lambda event, wanted: event["type"] in wanted,
        },
    ),
    ("payment_intents", "payment_intent", _same("customer")),
    ("payment_methods", "payment_method", _same("customer") | _same("type")),
    ("refunds", "refund", _same("charge") | _same("payment_intent")),
    ("webhook_endpoints", "webhook_endpoint", {}),
)


class Lists:
    """Serves every call that only reads."""

    def __init__(self, api: Api, records: Records) -> None:
        self._records = records
        for path, kind, filters in _READABLE:
            api.get(f"/v1/{path}", partial(self._list, f"/v1/{path}", kind, filters))
            api.get(f"/v1/{path}/{{object_id}}", partial(self._retrieve, kind))
        api.get("/v1/customers/{customer_id}/payment_methods", self._customers_methods)

    def _retrieve(self, kind: str, parameters: Document, object_id: str) -> Document:
        accept(parameters, ())
        return self._records.find(kind, object_id)

    def _customers_methods(self, parameters: Document, customer_id: str) -> Document:
        self._records.find("customer", customer_id)
        url = f"/v1/customers/{customer_id}/payment_methods"
        saved = _same("customer") | _same("type")
        return self._list(url, "payment_method", saved, parameters | {"customer": customer_id})

    def _list(
        self, url: str, kind: str, filters: dict[str, Filter], parameters: Document
    ) -> Document:
        accept(parameters, [*_PAGING, *filters])
        if kind == "payment_method" and "customer" not in parameters:
            raise missing("customer")
        wanted = [(filters[name], value) for name, value in parameters.items() if name in filters]
        found = [
            each
            for each in self._records.newest_first(kind)
            if _made_in(each, parameters.get("created"))
            and all(matches(each, value) for matches, value in wanted)
        ]
        page, has_more = self._page(kind, found, parameters)
        return {"object": "list", "url": url, "data": page, "has_more": has_more}

    def _page(
        self, kind: str, found: list[Document], parameters: Document
    ) -> tuple[list[Document], bool]:
        """Cut a page out of what was found, beside the object that the caller had last."""
        limit = integer("limit", parameters.get("limit", 10), 1, 100)
        after, before = parameters.get("starting_after"), parameters.get("ending_before")
        if after is not None and before is not None:
            message = "You may only specify one of these parameters: starting_after, ending_before."
            raise StripeError(400, message)
        if before is not None:
            last = _place(self._records.find(kind, before, "ending_before"))
            newer = [each for each in found if _place(each) > last]
            return newer[-limit:], len(newer) > limit
        if after is not None:
            last = _place(self._records.find(kind, after, "starting_after"))
            found = [each for each in found if _place(each) < last]
        return found[:limit], len(found) > limit


def _place(subject: Document) -> tuple[int, str]:
    return subject["created"], subject["id"]


def _made_in(subject: Document, wanted: object) -> bool:
    """Tell whether an object is of the second, or within the bounds, that `created` asks for."""
    created = subject["created"]
    if wanted is None:
        return True
    if not isinstance(wanted, dict):
        return bool(created == integer("created", wanted))
    accept(wanted, ("gt", "gte", "lt", "lte"))
    bounds = {name: integer(f"created[{name}]", value) for name, value in wanted.items()}
    return bool(
        bounds.get("gt", -1) < created < bounds.get("lt", created + 1)
        and bounds.get("gte", created) <= created <= bounds.get("lte", created)
    )
