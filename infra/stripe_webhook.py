"""Register the webhook endpoint at Stripe, and put its signing secret into Secret Manager.

    python -m infra.stripe_webhook https://api.example.com            make it, or mend it
    python -m infra.stripe_webhook https://api.example.com --rotate   another one, with a new secret
    python -m infra.stripe_webhook https://api.example.com --retire   delete all but the newest

Stripe shows a signing secret once and fixes the version of an endpoint's events, so another secret
or another version is another endpoint at the same address. Until the functions have the new secret
they refuse what the new endpoint sends, and from then on what the old one does; Stripe sends both
the same events and repeats refused ones for days, so that nothing is lost and nothing counts twice.

Reads STRIPE_SECRET_KEY, a key that may write webhook endpoints, and PROJECT_ID. Prints no secret.
"""

import argparse
import os
from typing import Any

import stripe

from faregate.backends.stripe import NEWS
from infra import secret_manager
from infra.local.progress import RefusalError, run, say

PATH = "/v1/stripe/webhook"
SECRET = "stripe-webhook-secret"  # noqa: S105  its name
# The version in which Stripe writes what the endpoint is sent: the one that the library knows.
API_VERSION = stripe.api_version


def register(client: stripe.StripeClient, url: str, *, rotate: bool = False) -> None:
    """Have an endpoint whose secret is known, that sends what the function acts on."""
    current = _newest(client, url)
    if current is None or rotate or not secret_manager.has(SECRET):
        _create(client, url)
    elif sorted(current.enabled_events) != sorted(NEWS) or current.status != "enabled":
        wanted: Any = {"enabled_events": list(NEWS), "disabled": False}
        client.v1.webhook_endpoints.update(current.id, wanted)
        say(f"{current.id} is enabled for {len(NEWS)} types of events.")
    else:
        say(f"{current.id} is as it should be.")


def retire(client: stripe.StripeClient, url: str) -> None:
    """Delete the endpoints at the address that a newer one has replaced."""
    current = _newest(client, url)
    if current is None:
        raise RefusalError(f"there is no endpoint for {url} in version {API_VERSION}.")
    for endpoint in _endpoints(client, url):
        if endpoint.id != current.id:
            client.v1.webhook_endpoints.delete(endpoint.id)
            say(f"{endpoint.id} is deleted.")


def _create(client: stripe.StripeClient, url: str) -> None:
    asked: Any = {
        "url": url,
        "enabled_events": list(NEWS),
        "api_version": API_VERSION,
        "description": "Faregate: credits what was paid",
    }
    made = client.v1.webhook_endpoints.create(asked)
    try:
        secret_manager.put(SECRET, str(made.secret))
    except BaseException:
        # Nobody would ever know its secret.
        client.v1.webhook_endpoints.delete(made.id)
        raise
    say(f"{made.id} is made, and its secret stored: deploy, then --retire what it replaces.")


def _newest(client: stripe.StripeClient, url: str) -> stripe.WebhookEndpoint | None:
    ours = [each for each in _endpoints(client, url) if each.api_version == API_VERSION]
    # Within a second, ids are in order.
    return max(ours, key=lambda each: (each.created, each.id), default=None)


def _endpoints(client: stripe.StripeClient, url: str) -> list[stripe.WebhookEndpoint]:
    listed = client.v1.webhook_endpoints.list({"limit": 100})
    return [each for each in listed.auto_paging_iter() if each.url == url]


def _connect() -> stripe.StripeClient:
    key = os.environ.get("STRIPE_SECRET_KEY", "")
    if not key:
        raise RefusalError("STRIPE_SECRET_KEY is missing: a key that may write webhook endpoints.")
    address = os.environ.get("STRIPE_API_URL") or "https://api.stripe.com"
    return stripe.StripeClient(key, base_addresses={"api": address.rstrip("/")})


def main() -> None:
    """Do what the arguments say."""
    parser = argparse.ArgumentParser(prog="infra.stripe_webhook")
    parser.add_argument("api_url", help="where the functions are, as Terraform's api_url tells")
    way = parser.add_mutually_exclusive_group()
    way.add_argument("--rotate", action="store_true", help="another endpoint with a new secret")
    way.add_argument("--retire", action="store_true", help="delete all but the newest")
    asked = parser.parse_args()
    if not asked.api_url.startswith("https://"):
        raise RefusalError(f"Stripe sends to https addresses only, not to {asked.api_url}.")
    url = f"{asked.api_url.rstrip('/')}{PATH}"
    try:
        if asked.retire:
            retire(_connect(), url)
        else:
            register(_connect(), url, rotate=asked.rotate)
    except stripe.StripeError as error:
        raise RefusalError(f"Stripe refused: {error.user_message or error}") from error


if __name__ == "__main__":
    run(main)
