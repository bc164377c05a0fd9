"""Webhook endpoints: their secret is shown once, and their version is for good."""

from collections.abc import Iterator
from typing import Any

import pytest
import stripe

from tests.local.stand_ins import Shop, StandIns, run_shop

ASKED: Any = {
    "url": "https://api.example.com/v1/stripe/webhook",
    "enabled_events": ["refund.created"],
    "api_version": "2026-10-28.endive",
}


@pytest.fixture
def shop(stand_ins: StandIns) -> Iterator[Shop]:
    with run_shop(stand_ins) as running:
        yield running
        for endpoint in running.client.v1.webhook_endpoints.list().data:
            running.client.v1.webhook_endpoints.delete(endpoint.id)


def test_the_secret_is_shown_once(shop: Shop) -> None:
    made = shop.client.v1.webhook_endpoints.create(ASKED)
    assert str(made.secret).startswith("whsec_")
    found = shop.client.v1.webhook_endpoints.retrieve(made.id)
    (listed,) = shop.client.v1.webhook_endpoints.list().data
    assert "secret" not in found.to_dict()
    assert listed == found
    assert (found.status, found.api_version) == ("enabled", "2026-10-28.endive")


def test_events_change_and_the_version_does_not(shop: Shop) -> None:
    made = shop.client.v1.webhook_endpoints.create(ASKED)
    changed = shop.client.v1.webhook_endpoints.update(
        made.id, {"enabled_events": ["*"], "disabled": True}
    )
    assert (changed.enabled_events, changed.status) == (["*"], "disabled")
    other: Any = {"api_version": "2025-09-30.clover"}
    with pytest.raises(stripe.InvalidRequestError):
        shop.client.v1.webhook_endpoints.update(made.id, other)


def test_what_is_deleted_is_gone(shop: Shop) -> None:
    made = shop.client.v1.webhook_endpoints.create(ASKED)
    assert shop.client.v1.webhook_endpoints.delete(made.id).deleted
    with pytest.raises(stripe.InvalidRequestError) as refusal:
        shop.client.v1.webhook_endpoints.delete(made.id)
    assert refusal.value.http_status == 404


@pytest.mark.parametrize("missing", ["url", "enabled_events"])
def test_both_are_needed(shop: Shop, missing: str) -> None:
    asked: Any = {name: value for name, value in ASKED.items() if name != missing}
    with pytest.raises(stripe.InvalidRequestError) as refusal:
        shop.client.v1.webhook_endpoints.create(asked)
    assert refusal.value.param == missing
