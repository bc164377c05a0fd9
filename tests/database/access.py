"""Who may do what: the whole list. Tests hold the catalog and a real PostgREST to it.

Views are read through `/rest/v1/<view>`, and only read. Tables are reached by nobody; what stands
here is whom their policies would show rows, if the schema were open to all. Functions are the only
way to change anything. What is new must be listed here.

    organization's own               others
    -------------------------------  -------------------------------------------
    owner, admin, member             anonymous: the publishable key and no token
    passport: a token with `read`    outsider: signed in, member of nothing
    passport with billing: a token   owner of another organization
    with `read` and `billing`
"""

PASSPORTS = {
    "passport": ("read",),
    "passport with billing": ("read", "billing"),
}

READ = frozenset({"owner", "admin", "member", *PASSPORTS})
BILLING = frozenset({"owner", "admin", "passport with billing"})
PEOPLE = frozenset({"owner", "admin", "member"})
NOBODY = frozenset[str]()

# Views of schema api, and who reads the rows of their own organization in them.
VIEWS = {
    "organizations": READ,
    "identities": READ,
    "members": PEOPLE,
    "passports": READ,
    "wallets": READ,
    "grants": READ,
    "transactions": READ,
    "holds": READ,
    "workspaces": READ,
    "sessions": READ,
    "storage": READ,
    "spaces": READ,
    "purchases": READ,
    "attachments": READ,
    "clones": READ,
    "usage": READ,
    "notifications": READ,
    "top_ups": BILLING,
    "receipts": BILLING,
    "auto_top_ups": BILLING,
    "invitations": PEOPLE - {"member"},
    "reconciliations": NOBODY,
    "discrepancies": NOBODY,
    "usage_reviews": NOBODY,
}

# Columns that others than these see empty: views join what not everybody may read.
COLUMNS = {("grants", "top_up_id"): BILLING}

# Tables of schema billing, and whom the policies alone would show rows of their own organization.
TABLES = {
    "organizations": READ,
    "identities": READ,
    "members": PEOPLE,
    "passports": READ,
    "passport_uses": READ,
    "wallets": READ,
    "grants": READ,
    "transfers": READ,
    "holds": READ,
    "workspaces": READ,
    "sessions": READ,
    "storage": READ,
    "storage_periods": READ,
    "spaces": READ,
    "purchases": READ,
    "attachments": READ,
    "clones": READ,
    "outbox": READ,
    "top_ups": BILLING,
    "payments": BILLING,
    "auto_top_ups": BILLING,
    "invitations": PEOPLE - {"member"},
    # The same for everybody, and told by functions.
    "plans": NOBODY,
    "presets": NOBODY,
    "prices": NOBODY,
    "provider_costs": NOBODY,
    "top_up_brackets": NOBODY,
    "regions": NOBODY,
    "storage_limits": NOBODY,
    "meter_parts": NOBODY,
    "model_names": NOBODY,
    "provider_models": NOBODY,
    "provider_price_units": NOBODY,
    "provider_prices": NOBODY,
    "providers": NOBODY,
    # Of their organization, but told by functions as yet.
    "usage_events": NOBODY,
    "usage_keys": NOBODY,
    "usage_policies": NOBODY,
    "usage_rate_units": NOBODY,
    "usage_rates": NOBODY,
    # For operators and the rules themselves.
    "audit_log": NOBODY,
    "bonus_identities": NOBODY,
    "discrepancies": NOBODY,
    "draw_downs": NOBODY,
    "draws": NOBODY,
    "idempotency_keys": NOBODY,
    "payment_events": NOBODY,
    "reconciliations": NOBODY,
    "reversals": NOBODY,
    "saved_cards": NOBODY,
    "uploads": NOBODY,
    "verified": NOBODY,
}

# Tables of which they would see only some rows.
ROWS = {"outbox": "topic = 'notification'", "spaces": "published_at is not null"}

# Those whose rows are nobody's own: whoever may read them somewhere sees them all.
SHARED = frozenset({"spaces"})

# The table of seed.sql, which no production database has: its one row is everybody's time.
SANDBOX = "clock_offset"

# Views of schema ops: nobody reads them but the owner of the database.
OPERATORS = [
    "margin_by_day",
    "open_discrepancies",
    "organizations",
    "paused_auto_top_ups",
    "payments_to_review",
    "revenue_by_day",
    "schedule_lag",
    "storage",
    "storage_cost_by_day",
    "stuck_outbox",
    "unfinished_reconciliations",
    "wallets_running_dry",
]

# Functions of schema api, and the roles that execute them: no other does any.
EXECUTORS = frozenset({"faregate_functions", "service_role"})
STRANGERS = frozenset({"anon", "authenticated", "faregate_reader"})
FUNCTIONS = [
    "accept_invitation",
    "accrue_storage",
    "attach_checkout",
    "attach_space",
    "attach_storage",
    "buy_space",
    "capture_hold",
    "clone_space",
    "close_organization",
    "compare_stripe",
    "create_grant",
    "create_invitation",
    "create_organization",
    "create_passport",
    "create_storage",
    "create_token",
    "create_top_up",
    "create_workspace",
    "delete_auto_top_up",
    "delete_storage",
    "delete_workspace",
    "detach_space",
    "detach_storage",
    "estimate_cost",
    "estimate_session",
    "estimate_storage",
    "expire_grants",
    "expire_holds",
    "find_bucket",
    "finish_charge",
    "finish_identity",
    "finish_invitation_mail",
    "finish_provisioning",
    "finish_reconciliation",
    "get_auto_top_up",
    "get_clone",
    "get_hold",
    "get_identity",
    "get_organization",
    "get_period",
    "get_receipt",
    "get_session",
    "get_space",
    "get_statement",
    "get_storage",
    "get_top_up",
    "get_wallet",
    "get_workspace",
    "heartbeat_session",
    "ingest_usage",
    "list_clones",
    "list_discrepancies",
    "list_draws",
    "list_grants",
    "list_holds",
    "list_invitations",
    "list_members",
    "list_missed_events",
    "list_notifications",
    "list_organizations",
    "list_outbox",
    "list_passports",
    "list_period",
    "list_presets",
    "list_purchases",
    "list_reconciliations",
    "list_regions",
    "list_sessions",
    "list_spaces",
    "list_storage",
    "list_top_ups",
    "list_transactions",
    "list_unlisted_payments",
    "list_unseen_discrepancies",
    "list_usage_days",
    "list_usage_reviews",
    "list_workspaces",
    "mark_enqueued",
    "note_clone",
    "open_hold",
    "pause_clone",
    "ping",
    "publish_space",
    "receive_stripe_event",
    "reconcile_stripe",
    "record_storage_usage",
    "refund_purchase",
    "register",
    "register_customer",
    "release_hold",
    "remove_member",
    "renew_hold",
    "report_health",
    "replay_stripe_event",
    "resize_storage",
    "review_space",
    "revoke_invitation",
    "revoke_passport",
    "rotate_passport",
    "set_auto_top_up",
    "set_member_role",
    "set_space_source",
    "sign_upload",
    "start_auto_top_ups",
    "start_charge",
    "start_clone",
    "start_grants",
    "start_identity",
    "start_invitation_mail",
    "start_measuring",
    "start_provisioning",
    "start_reconciliation",
    "start_scheduled_reconciliation",
    "start_session",
    "stop_session",
    "sweep_session",
    "sweep_sessions",
    "update_organization",
    "update_workspace",
    "verify_next",
    "verify_organization",
    "withdraw_space",
]
