"""Every operation that customers call, and what each needs. A test holds it to OpenAPI."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import httpx

from tests.harness.client import Client

ABSENT = "01936f00-0000-7000-8000-000000000000"
"""An id that nothing has."""


@dataclass(frozen=True)
class Operation:
    """One method of one path, with a valid request."""

    function: str
    method: str
    path: str
    permission: str
    body: Mapping[str, Any] | None = None
    query: Mapping[str, str] = field(default_factory=dict)
    status: int = 200
    absent: str = ABSENT

    def __str__(self) -> str:
        return f"{self.method} {self.path}"

    def address(self, subject: str) -> str:
        """Give the path with an id in its place."""
        return re.sub("{[^}]*}", subject, self.path)

    def call(
        self,
        client: Client,
        *,
        subject: str = "",
        **options: Any,  # noqa: ANN401  httpx types them
    ) -> httpx.Response:
        """Make the request, of which the options may change anything."""
        path = self.address(subject or self.absent)
        if self.method == "GET":
            return client.get(path, params=self.query, **options)
        body = options.pop("body", self.body)
        if self.method == "POST":
            return client.post(path, body, **options)
        return client.request(self.method, path, params=self.query, json=body, **options)


OPERATIONS = [
    Operation("register", "POST", "/v1/register", "", {}, status=201),
    Operation(
        "register",
        "POST",
        "/v1/register/customers",
        "admin",
        {"email": "new@example.com", "plan": "pro"},
        status=201,
    ),
    Operation("organizations", "GET", "/v1/organizations", ""),
    Operation("organizations", "POST", "/v1/organizations", "", {"name": "Acme"}, status=201),
    Operation("organizations", "GET", "/v1/organizations/{organization_id}", ""),
    Operation("organizations", "PATCH", "/v1/organizations/{organization_id}", "", {}),
    Operation("organizations", "POST", "/v1/organizations/{organization_id}/close", "", {}),
    Operation("organizations", "GET", "/v1/organizations/{organization_id}/members", ""),
    Operation(
        "organizations",
        "PUT",
        "/v1/organizations/{organization_id}/members/{user_id}",
        "",
        {"role": "admin"},
    ),
    Operation(
        "organizations",
        "DELETE",
        "/v1/organizations/{organization_id}/members/{user_id}",
        "",
        status=204,
    ),
    Operation(
        "invitations",
        "POST",
        "/v1/organizations/{organization_id}/invitations",
        "",
        {"email": "new@example.com", "role": "member"},
        status=201,
    ),
    Operation("invitations", "GET", "/v1/organizations/{organization_id}/invitations", ""),
    Operation(
        "invitations",
        "POST",
        "/v1/organizations/{organization_id}/invitations/{invitation_id}/revoke",
        "",
    ),
    Operation("invitations", "POST", "/v1/invitations/accept", "", {"token": "x" * 43}),
    Operation("passports", "GET", "/v1/passports", "read"),
    Operation(
        "passports",
        "POST",
        "/v1/passports",
        "write",
        {"name": "CI", "permissions": ["read"]},
        status=201,
    ),
    Operation("passports", "POST", "/v1/passports/{passport_id}/rotate", "write", {}, status=201),
    Operation("passports", "POST", "/v1/passports/{passport_id}/revoke", "write"),
    Operation("token", "POST", "/v1/token", "read"),
    Operation("identity", "GET", "/v1/identity", "read"),
    Operation("credits", "GET", "/v1/credits", "read"),
    Operation("credits", "GET", "/v1/credits/transactions", "read"),
    Operation(
        "credits", "GET", "/v1/credits/transactions/{sequence}/draws", "read", absent="999999"
    ),
    Operation(
        "credits",
        "GET",
        "/v1/credits/estimate",
        "read",
        query={"sku": "session.small", "quantity": "2.5"},
    ),
    Operation(
        "credits", "POST", "/v1/credits/checkout", "billing", {"amount": "10.00"}, status=201
    ),
    Operation("credits", "GET", "/v1/credits/top-ups", "billing"),
    Operation("credits", "GET", "/v1/credits/top-ups/{top_up_id}", "billing"),
    Operation("auto_top_up", "GET", "/v1/credits/auto-top-up", "billing"),
    Operation(
        "auto_top_up",
        "PUT",
        "/v1/credits/auto-top-up",
        "billing",
        {"threshold": "5", "amount": "25.00", "monthly_cap": "100"},
    ),
    Operation("auto_top_up", "DELETE", "/v1/credits/auto-top-up", "billing", status=204),
    Operation("notifications", "GET", "/v1/notifications", "read"),
    Operation("holds", "GET", "/v1/holds", "read"),
    Operation("holds", "GET", "/v1/holds/{hold_id}", "read"),
    Operation(
        "holds",
        "POST",
        "/v1/holds",
        "admin",
        {"organization_id": ABSENT, "amount": "1.00", "expires_in_seconds": 60},
        status=201,
    ),
    Operation(
        "holds",
        "POST",
        "/v1/holds/{hold_id}/capture",
        "admin",
        {"organization_id": ABSENT, "amount": "1.00"},
    ),
    Operation("holds", "POST", "/v1/holds/{hold_id}/release", "admin", {"organization_id": ABSENT}),
    Operation(
        "holds",
        "POST",
        "/v1/holds/{hold_id}/renew",
        "admin",
        {"organization_id": ABSENT, "amount": "1.00", "expires_in_seconds": 60},
    ),
    Operation("grants", "GET", "/v1/grants", "read"),
    Operation(
        "grants",
        "POST",
        "/v1/grants",
        "admin",
        {"organization_id": ABSENT, "amount": "1.00", "note": "welcome"},
        status=201,
    ),
    Operation(
        "usage",
        "POST",
        "/v1/usage/events",
        "admin",
        {
            "events": [
                {
                    **{"organization_id": ABSENT, "source": "gateway", "id": "1"},
                    **{"feature": "chat", "quantities": {"images": 1}},
                }
            ]
        },
    ),
    Operation("usage", "GET", "/v1/usage/reviews", "admin"),
    Operation("rates", "POST", "/v1/usage/rates", "admin", {"markup": "1.5"}, status=201),
    Operation("rates", "GET", "/v1/usage/rates", "admin"),
    Operation("rates", "POST", "/v1/usage/short-money", "admin", {"allow_debt": "0"}, status=201),
    Operation("rates", "GET", "/v1/usage/short-money", "admin"),
    Operation("entitlements", "GET", "/v1/entitlements", "read"),
    Operation("entitlements", "GET", "/v1/entitlements/{feature}", "read"),
    Operation("entitlements", "GET", "/v1/spend-caps", "read"),
    Operation(
        "entitlements", "PUT", "/v1/spend-caps", "billing", {"period": "month", "cap": "9.00"}
    ),
    Operation("entitlements", "DELETE", "/v1/spend-caps/{spend_cap_id}", "billing", status=204),
    Operation("entitlements", "GET", "/v1/features", "admin"),
    Operation(
        "entitlements",
        "PUT",
        "/v1/features/{feature}",
        "admin",
        {"kind": "boolean", "description": "Chat", "plans": {"pro": {}}},
    ),
    Operation("entitlements", "DELETE", "/v1/features/{feature}", "admin", status=204),
    Operation(
        "entitlements",
        "PUT",
        "/v1/features/{feature}/terms",
        "admin",
        {"organization_id": ABSENT, "terms": {}},
    ),
    Operation(
        "policies",
        "POST",
        "/v1/policies",
        "admin",
        {"effect": "deny", "description": "no GPUs", "match": {"tier": ["gpu"]}},
        status=201,
    ),
    Operation("policies", "GET", "/v1/policies", "admin"),
    Operation("policies", "POST", "/v1/policies/evaluate", "admin", {"tier": "gpu"}),
    Operation("policies", "GET", "/v1/policies/{policy_id}", "admin"),
    Operation("policies", "POST", "/v1/policies/{policy_id}/enable", "admin"),
    Operation("policies", "POST", "/v1/policies/{policy_id}/disable", "admin"),
    Operation("policies", "DELETE", "/v1/policies/{policy_id}", "admin", status=204),
    Operation(
        "authorizations",
        "POST",
        "/v1/usage/estimate",
        "read",
        {"feature": "chat", "quantities": {"images": 1}},
    ),
    Operation(
        "authorizations",
        "POST",
        "/v1/usage/authorize",
        "admin",
        {"organization_id": ABSENT, "feature": "chat", "quantities": {"images": 1}},
        status=201,
    ),
    Operation("authorizations", "GET", "/v1/usage/authorizations/{authorization_id}", "read"),
    Operation(
        "authorizations",
        "POST",
        "/v1/usage/authorizations/{authorization_id}/capture",
        "admin",
        {"organization_id": ABSENT, "quantities": {"images": 1}},
    ),
    Operation(
        "authorizations",
        "POST",
        "/v1/usage/authorizations/{authorization_id}/release",
        "admin",
        {"organization_id": ABSENT},
    ),
    Operation("usage_reports", "GET", "/v1/usage/analytics", "read"),
    Operation("usage_reports", "GET", "/v1/usage/forecast", "read"),
    Operation("usage_reports", "GET", "/v1/usage/history", "read"),
    Operation(
        "usage_reports", "GET", "/v1/usage/exports/analytics.{extension}", "read", absent="csv"
    ),
    Operation(
        "usage_reports", "GET", "/v1/usage/exports/history.{extension}", "read", absent="csv"
    ),
    Operation(
        "backfills",
        "POST",
        "/v1/usage/backfills",
        "admin",
        {
            "organization_id": ABSENT,
            "starts_at": "2026-01-01T00:00:00Z",
            "ends_at": "2026-02-01T00:00:00Z",
        },
        status=201,
    ),
    Operation("backfills", "GET", "/v1/usage/backfills", "admin"),
    Operation("backfills", "GET", "/v1/usage/backfills/{backfill_id}", "admin"),
    Operation("backfills", "GET", "/v1/usage/backfills/{backfill_id}/rejections", "admin"),
    Operation(
        "backfills",
        "POST",
        "/v1/usage/backfills/{backfill_id}/events",
        "admin",
        {
            "events": [
                {
                    **{"source": "gateway", "id": "1", "occurred_at": "2026-01-02T00:00:00Z"},
                    **{"feature": "chat", "quantities": {"images": 1}},
                }
            ]
        },
    ),
    Operation("backfills", "POST", "/v1/usage/backfills/{backfill_id}/close", "admin"),
    Operation("backfills", "POST", "/v1/usage/backfills/{backfill_id}/revert", "admin"),
    Operation(
        "usage",
        "POST",
        "/v1/usage/reviews/{event_id}/charge",
        "admin",
        {"organization_id": ABSENT},
    ),
    Operation(
        "usage",
        "POST",
        "/v1/usage/reviews/{event_id}/dismiss",
        "admin",
        {"organization_id": ABSENT},
    ),
    Operation("workspaces", "GET", "/v1/workspaces", "read"),
    Operation("workspaces", "POST", "/v1/workspaces", "write", {"name": "Lab"}, status=201),
    Operation("workspaces", "GET", "/v1/workspaces/{workspace_id}", "read"),
    Operation("workspaces", "PATCH", "/v1/workspaces/{workspace_id}", "write", {"name": "Lab"}),
    Operation("workspaces", "DELETE", "/v1/workspaces/{workspace_id}", "write", status=204),
    Operation("sessions", "GET", "/v1/sessions/presets", "read"),
    Operation("sessions", "GET", "/v1/sessions/estimate", "read", query={"tier": "small"}),
    Operation("sessions", "GET", "/v1/sessions", "read"),
    Operation("sessions", "POST", "/v1/sessions", "write", {"tier": "small"}, status=201),
    Operation("sessions", "GET", "/v1/sessions/{session_id}", "read"),
    Operation("sessions", "POST", "/v1/sessions/{session_id}/heartbeat", "write"),
    Operation("sessions", "POST", "/v1/sessions/{session_id}/stop", "write", {}),
    Operation("storage", "GET", "/v1/storage/regions", "read"),
    Operation(
        "storage",
        "GET",
        "/v1/storage/estimate",
        "read",
        query={"kind": "bucket", "size_gb": "10"},
    ),
    Operation(
        "storage", "POST", "/v1/storage", "write", {"kind": "bucket", "size_gb": 10}, status=201
    ),
    Operation("storage", "GET", "/v1/storage", "read"),
    Operation("storage", "GET", "/v1/storage/{storage_id}", "read"),
    Operation("storage", "POST", "/v1/storage/{storage_id}/resize", "write", {"size_gb": 10}),
    Operation("storage", "DELETE", "/v1/storage/{storage_id}", "write"),
    Operation(
        "storage", "POST", "/v1/storage/{storage_id}/attach", "write", {"workspace_id": ABSENT}
    ),
    Operation("storage", "POST", "/v1/storage/{storage_id}/detach", "write"),
    Operation("spaces", "GET", "/v1/spaces", "read"),
    Operation(
        "spaces",
        "POST",
        "/v1/spaces",
        "write",
        {
            **{"slug": "my-space", "title": "Mine", "description": "All that I use."},
            **{"storage_id": ABSENT, "price": "1.00"},
        },
        status=201,
    ),
    Operation("spaces", "GET", "/v1/spaces/purchases", "read"),
    Operation(
        "spaces",
        "POST",
        "/v1/spaces/purchases/{purchase_id}/refund",
        "admin",
        {"organization_id": ABSENT, "reason": "by mistake"},
    ),
    Operation("spaces", "GET", "/v1/spaces/clones", "read"),
    Operation("spaces", "GET", "/v1/spaces/clones/{clone_id}", "read"),
    Operation("spaces", "GET", "/v1/spaces/{slug}", "read", absent="no-such-space"),
    Operation(
        "spaces",
        "POST",
        "/v1/spaces/{slug}/purchases",
        "write",
        status=201,
        absent="no-such-space",
    ),
    Operation(
        "spaces",
        "POST",
        "/v1/spaces/{slug}/attach",
        "write",
        {"workspace_id": ABSENT},
        absent="no-such-space",
    ),
    Operation(
        "spaces",
        "POST",
        "/v1/spaces/{slug}/detach",
        "write",
        {"workspace_id": ABSENT},
        absent="no-such-space",
    ),
    Operation(
        "spaces",
        "POST",
        "/v1/spaces/{slug}/clone",
        "write",
        {},
        status=201,
        absent="no-such-space",
    ),
    Operation(
        "spaces",
        "POST",
        "/v1/spaces/{slug}/review",
        "admin",
        {"decision": "approve", "reason": "fine"},
        absent="no-such-space",
    ),
    Operation("spaces", "POST", "/v1/spaces/{slug}/withdraw", "write", absent="no-such-space"),
    Operation(
        "spaces",
        "POST",
        "/v1/spaces/{slug}/source",
        "admin",
        {"storage_id": ABSENT, "is_cloneable": True},
        absent="no-such-space",
    ),
    Operation("statements", "GET", "/v1/statements", "read", query={"month": "2026-11"}),
    Operation("statements", "GET", "/v1/statements/usage", "read"),
    Operation("statements", "GET", "/v1/statements/transactions.csv", "read"),
    Operation("statements", "GET", "/v1/statements/transactions.json", "read"),
    Operation("statements", "GET", "/v1/statements/receipts/{top_up_id}", "billing"),
    Operation(
        "objects",
        "POST",
        "/v1/storage/{storage_id}/uploads",
        "write",
        {"object": "a/b.txt", "size_bytes": 1},
    ),
    Operation(
        "objects", "POST", "/v1/storage/{storage_id}/downloads", "read", {"object": "a/b.txt"}
    ),
    Operation("objects", "GET", "/v1/storage/{storage_id}/objects", "read"),
    Operation(
        "objects",
        "DELETE",
        "/v1/storage/{storage_id}/objects",
        "write",
        query={"object": "a/b.txt"},
        status=204,
    ),
    Operation("reconciliation", "POST", "/v1/reconciliation", "admin", {}),
    Operation("reconciliation", "GET", "/v1/reconciliation", "admin"),
    Operation("reconciliation", "GET", "/v1/reconciliation/discrepancies", "admin"),
    Operation("reconciliation", "POST", "/v1/reconciliation/verify", "admin", {}),
]

BY_PASSPORT = [operation for operation in OPERATIONS if operation.permission]
