"""Webhook endpoints as a deployment registers them; the laptop's own needs no registration."""

from time import time

from infra.local.cloud.store import Document, Store
from infra.local.cloud.stripe_api import Api
from infra.local.cloud.stripe_objects import (
    StripeError,
    accept,
    boolean,
    identifier,
    metadata,
    missing,
)
from infra.local.cloud.stripe_records import Records

_MADE_ONCE = frozenset({"api_version", "connect"})
_KNOWN = frozenset({"description", "enabled_events", "metadata", "url"})


class Endpoints:
    """Keeps endpoints, shows the secret of each once as Stripe does, and sends them nothing."""

    def __init__(self, api: Api, records: Records, store: Store) -> None:
        self._records, self._store = records, store
        api.post("/v1/webhook_endpoints", self.create)
        api.post("/v1/webhook_endpoints/{endpoint_id}", self.update)
        api.delete("/v1/webhook_endpoints/{endpoint_id}", self.delete)

    def create(self, parameters: Document) -> Document:
        """POST /v1/webhook_endpoints; its answer alone has the secret."""
        accept(parameters, _KNOWN | _MADE_ONCE, ("url", "enabled_events"))
        endpoint = self._records.save(
            {
                "id": identifier("we"),
                "object": "webhook_endpoint",
                "api_version": parameters.get("api_version"),
                "application": None,
                "created": int(time()),
                "description": parameters.get("description"),
                "enabled_events": _events(parameters),
                "livemode": False,
                "metadata": metadata(parameters),
                "status": "enabled",
                "url": parameters["url"],
            }
        )
        return {**endpoint, "secret": identifier("whsec", 32)}

    def update(self, parameters: Document, endpoint_id: str) -> Document:
        """POST /v1/webhook_endpoints/{id}; the version of its events never changes."""
        accept(parameters, _KNOWN | {"disabled"})
        endpoint = self._records.find("webhook_endpoint", endpoint_id)
        changes: Document = {
            name: parameters[name] for name in ("description", "url") if name in parameters
        }
        if "enabled_events" in parameters:
            changes["enabled_events"] = _events(parameters)
        if "disabled" in parameters:
            changes["status"] = "disabled" if boolean(parameters, "disabled") else "enabled"
        merged = metadata(parameters, endpoint["metadata"])
        return self._records.save(endpoint, **changes | {"metadata": merged})

    def delete(self, parameters: Document, endpoint_id: str) -> Document:
        """DELETE /v1/webhook_endpoints/{id}."""
        accept(parameters, ())
        self._records.find("webhook_endpoint", endpoint_id)
        self._store.delete("webhook_endpoint", endpoint_id)
        return {"id": endpoint_id, "object": "webhook_endpoint", "deleted": True}


def _events(parameters: Document) -> list[str]:
    events = parameters["enabled_events"]
    if not isinstance(events, list):
        raise StripeError(400, "Invalid array", param="enabled_events")
    if not events:
        raise missing("enabled_events")
    return events
