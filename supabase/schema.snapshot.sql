-- What a database is after all migrations. Written by `make snapshot` and read in reviews; nobody
-- runs it. The bodies of functions are in the migrations: here is the MD5 of each.

create role faregate_functions login noinherit;
alter role faregate_functions set idle_in_transaction_session_timeout=10s;
alter role faregate_functions set lock_timeout=5s;
alter role faregate_functions set statement_timeout=10s;
grant faregate_functions to postgres;

create role faregate_reader nologin noinherit;
alter role faregate_reader set statement_timeout=8s;
grant faregate_reader to authenticator;
grant faregate_reader to postgres;

-- On each routine that postgres makes: {postgres=X/postgres}
-- On each type that postgres makes: {postgres=U/postgres}

-- The only door: functions for the service roles and views that signed-in users read.
create schema api;
grant usage on schema api to authenticated, faregate_functions, faregate_reader, service_role;

-- Tables and rules. Private: nobody but the owner has any right here.
create schema billing;

-- What operators look at: revenue, margin, what runs dry, what is stuck, what disagrees. Nobody but
-- the owner of the database has any right here.
create schema ops;

-- An account is (organization, account). The wallet keeps a running balance; any other's balance is
-- the sum of its transfers: what it was credited less what it was debited.
create type billing.account as enum ('wallet', 'debt', 'provider_clearing', 'provider_fees', 'promotion', 'expired', 'revenue_sessions', 'revenue_usage', 'revenue_storage', 'revenue_spaces');

-- A positive amount of money in µ$, at most a billion dollars: sums of them stay far from the end of
-- a bigint.
create domain billing.amount as bigint constraint amount_in_bounds CHECK (((VALUE >= 1) AND (VALUE <= '1000000000000000'::bigint)));

create type billing.auto_top_up_status as enum ('active', 'paused');

create type billing.backfill_status as enum ('open', 'closed', 'reverted');

-- Who calls: the organization they act for, what they may do, their name in the audit log
-- (passport:<id> or user:<id>), when their passport ends, the member that they are or whose passport
-- it is, and what policies are asked about (null: none is enabled).
create type billing.caller as (
    organization_id uuid,
    plan_id text,
    permissions text[],
    actor text,
    expires_at timestamp with time zone,
    user_id uuid,
    facts jsonb
);

-- What the task of an automatic top-up does next: charge the card, look the payment up, or nothing.
create type billing.charge_step as enum ('charge', 'look_up', 'nothing');

-- requested: its bucket is being made. copying: objects are. done: all are there. failed: it was
-- given up, and its bucket with it.
create type billing.clone_status as enum ('requested', 'copying', 'done', 'failed');

-- Money to take out of a wallet (0: none) and by how much what is held
-- in it changes at the same moment.
create type billing.debit as (
    organization_id uuid,
    amount_micros bigint,
    held_change_micros bigint,
    credit_account billing.account,
    reason billing.reason,
    hold_id uuid
);

-- A place where the books disagree: the rule, what it expects, what is there.
create type billing.difference as (
    organization_id uuid,
    rule text,
    subject text,
    expected numeric,
    found numeric
);

-- An object of the provider that says something else than our books. provider_id: the
-- payment, refund or dispute to ask the provider about.
create type billing.disagreement as (
    provider_id text,
    kind billing.discrepancy_kind,
    organization_id uuid,
    expected_micros bigint,
    found_micros bigint,
    note text
);

create type billing.discrepancy_kind as enum ('payment_not_credited', 'payment_unknown_to_provider', 'amount_differs', 'refund_differs', 'dispute_differs', 'ledger');

-- What happens at a limit: hard: usage beyond it is rejected; soft: it is told; none: it is shown.
create type billing.enforcement as enum ('hard', 'soft', 'none');

-- Whether a feature may be used now, and why not; its value; how much of its limit is used. kind:
-- null where it is not listed.
create type billing.entitlement_check as (
    feature_id text,
    kind billing.feature_kind,
    is_allowed boolean,
    reason text,
    value jsonb,
    meter text,
    used numeric,
    limit_quantity numeric,
    remaining numeric,
    period billing.usage_period,
    enforcement billing.enforcement,
    resets_at timestamp with time zone
);

-- What there is to say of a feature: boolean: whether one has it; static: a value as well; metered:
-- how much of it may be used.
create type billing.feature_kind as enum ('boolean', 'static', 'metered');

create type billing.grant_category as enum ('promotional', 'paid');

-- session: renewed and captured by sweeps. storage: likewise, by accrual. usage: opened, captured and
-- released by an operator.
create type billing.hold_kind as enum ('session', 'usage', 'storage');

create type billing.hold_outcome as enum ('captured', 'released', 'expired');

-- requested, provisioning: not there yet. failed: it could not be made, and is tried again each day.
-- deleting, deleted: its organization is closed.
create type billing.identity_status as enum ('requested', 'provisioning', 'ready', 'failed', 'deleting', 'deleted');

-- What a row is about. Each topic has a task queue and a function of its name, but for notification:
-- those are read by the customer.
create type billing.outbox_topic as enum ('stop_session', 'charge_top_up', 'send_invitation', 'provision_storage', 'provision_identity', 'clone_space', 'notification');

create type billing.payment_outcome as enum ('credited', 'already_credited', 'awaiting_payment', 'payment_failed', 'checkout_expired', 'refund_recorded', 'dispute_recorded', 'card_saved', 'needs_review', 'unknown_type', 'unknown_top_up', 'foreign_account', 'foreign_mode');

create type billing.payment_provider as enum ('stripe');

-- A stretch of an organization's ledger: begins_at is in it, ends_at is not. opening_sequence is the
-- last transfer before it (0: none), closing_sequence the last one in it.
create type billing.period as (
    begins_at timestamp with time zone,
    ends_at timestamp with time zone,
    opening_sequence bigint,
    closing_sequence bigint
);

-- An event as it was sent, with all that must be known to record it: what it costs, and what it was
-- rated with. fingerprint: a hash of what it says. plan_id, closed_at: those of its organization,
-- nulls where there is none. is_tiered: its price depends on what was used before, too, and
-- price_usd is only the rest of it. review: why it has no price. allow_debt_micros: how much its
-- policy lets the organization owe after it.
create type billing.rated_usage as (
    index integer,
    organization_id uuid,
    source text,
    event_id text,
    occurred_at timestamp with time zone,
    feature text,
    provider_id text,
    model text,
    passport_id uuid,
    quantities jsonb,
    fingerprint bigint,
    plan_id text,
    special_id uuid,
    closed_at timestamp with time zone,
    cost_usd numeric,
    price_usd numeric,
    provider_price_id uuid,
    usage_rate_id uuid,
    is_tiered boolean,
    review billing.usage_review,
    allow_debt_micros bigint
);

-- What a transfer is for.
create type billing.reason as enum ('registration_bonus', 'promotion', 'top_up', 'top_up_bonus', 'session', 'capture', 'usage', 'usage_refund', 'storage', 'space', 'space_refund', 'expiry', 'refund', 'refund_failed', 'dispute', 'dispute_won', 'dispute_fee', 'debt_repayment');

-- The answer of both registrations.
create type billing.registration as (
    organization api.organizations,
    passport api.passports,
    wallet api.wallets
);

create type billing.reversal_kind as enum ('refund', 'refund_total', 'dispute');

-- in_review: an operator decides about it. published: it is sold. rejected: it never was. withdrawn:
-- it is sold no more, and who bought it keeps it.
create type billing.space_status as enum ('in_review', 'published', 'rejected', 'withdrawn');

-- The lines of a statement, in their order. sessions, storage, spaces and usage are what was
-- consumed.
create type billing.statement_kind as enum ('purchases', 'bonuses', 'sessions', 'storage', 'spaces', 'usage', 'refunds', 'disputes', 'expired', 'debt_repaid');

-- What the transfers of a kind brought into the wallet (or took out of it: negative).
create type billing.statement_line as (
    kind billing.statement_kind,
    amount_micros bigint,
    count bigint
);

create type billing.storage_access as enum ('write', 'read');

-- bucket: objects at Google or any S3 endpoint. filestore: a file share.
create type billing.storage_kind as enum ('bucket', 'filestore');

create type billing.storage_provider as enum ('gcs', 's3', 'filestore');

-- requested, provisioning: not there yet and not charged. ready: charged. grace, read_only,
-- deletion_notice: the money has run out. deleting, deleted: given up. failed: it could not be made.
create type billing.storage_status as enum ('requested', 'provisioning', 'ready', 'grace', 'read_only', 'deletion_notice', 'deleting', 'deleted', 'failed');

-- graduated: what lies in a tier has its price. volume: all have the price of the tier that their
-- number lies in. package: each that is begun has a price.
create type billing.tier_kind as enum ('graduated', 'volume', 'package');

-- An event by a rate with tiers, and the month (UTC) that it counts in. counted: 1, or -1 where it no
-- longer counts.
create type billing.tiered_usage as (
    index integer,
    organization_id uuid,
    rate_id uuid,
    month_start date,
    quantities jsonb,
    counted integer
);

create type billing.top_up_kind as enum ('checkout', 'automatic');

create type billing.top_up_status as enum ('pending', 'processing', 'paid', 'failed', 'expired', 'needs_review');

-- What an event comes to instead of what it said; quantities null: it is void. Whatever else it says
-- must be what the event said.
create type billing.usage_correction as (
    index integer,
    organization_id uuid,
    source text,
    event_id text,
    corrects_source text,
    corrects_event_id text,
    occurred_at timestamp with time zone,
    feature text,
    provider_id text,
    model text,
    passport_id uuid,
    quantities jsonb
);

-- How much more of a limit is used.
create type billing.usage_count as (
    organization_id uuid,
    limit_id uuid,
    quantity numeric
);

-- What was consumed of a kind on one day (UTC): a statement's line, day by day.
create type billing.usage_day as (
    day date,
    kind billing.statement_kind,
    amount_micros bigint,
    count bigint
);

-- What decides about the price of an event besides its time, so that it is looked up once for all
-- that have it in common. special_id: the organization, where it has rates or policies of its own,
-- otherwise zeros. Without a provider and a model: ''.
create type billing.usage_group as (
    special_id uuid,
    plan_id text,
    feature text,
    provider_id text,
    model text
);

-- What limits a batch, as it is found. number: which of its organization's. room: how much is left;
-- null: it refuses nothing. id: its counter's; null: the feature is not granted at all.
create type billing.usage_limit as (
    organization_id uuid,
    number integer,
    id uuid,
    feature_id text,
    passport_id uuid,
    meter text,
    room numeric
);

-- The sums of a group of events, as an answer tells them: money as text, exactly; cost and margin are
-- null for whoever may not see them.
create type billing.usage_line as (
    organization_id uuid,
    day date,
    feature text,
    provider_id text,
    model text,
    passport_id uuid,
    events bigint,
    quantities jsonb,
    price_usd text,
    cost_usd text,
    margin_usd text
);

-- What became of the event at an index of its batch, where that is not simply accepted: accepted
-- (and in review, for this reason), duplicate, or rejected for this reason.
create type billing.usage_outcome as (
    index integer,
    status text,
    reason text
);

-- Of the calendar in UTC; a week begins on Monday. Usage belongs to the period in which it was
-- recorded: so a period that is over stays as it is.
create type billing.usage_period as enum ('day', 'week', 'month', 'ever');

-- Why an event could not be rated. unknown_model: no provider sells it. cost_unknown: it has no price
-- for a meter. rate_unknown: no rate says what the customer pays. below_cost: that is less than the
-- cost, and the rate does not say that this is meant.
create type billing.usage_review as enum ('unknown_model', 'cost_unknown', 'rate_unknown', 'below_cost');

-- The sums of a group of events. What they are not grouped by, or do not have, is null.
create type billing.usage_sum as (
    organization_id uuid,
    day date,
    feature text,
    provider_id text,
    model text,
    passport_id uuid,
    events bigint,
    quantities jsonb,
    cost_usd numeric,
    price_usd numeric
);

-- How much the event at an index of its batch takes of a limit, which its number tells apart from the
-- others of its organization.
create type billing.usage_take as (
    index integer,
    number integer,
    quantity numeric
);

-- What an event comes to with its corrections; counted is 0 where it is void. usage_rate_id: the
-- rate of its price, is_tiered: whether that has tiers. sequences: the transfers that charged it.
create type billing.usage_total as (
    quantities jsonb,
    cost_usd numeric,
    price_usd numeric,
    counted integer,
    usage_rate_id uuid,
    is_tiered boolean,
    sequences bigint[]
);

-- What a part of a verification looked at and found; next_after: the last organization of it.
create type billing.verification as (
    next_after uuid,
    organizations bigint,
    transfers bigint,
    differences billing.difference[]
);

-- Which spaces are in which workspace.
create view api.attachments (
    organization_id uuid, -- The organization it belongs to.
    workspace_id uuid, -- The workspace.
    space text, -- What the space is called.
    attached_by text, -- Who attached it: passport:<id> or user:<id>.
    attached_at timestamp with time zone -- When they did (UTC).
) with (security_invoker=true) as
 SELECT organization_id,
    workspace_id,
    slug AS space,
    attached_by,
    attached_at
   FROM billing.attachments a;
grant select on table api.attachments to authenticated, faregate_reader;

-- Settings of automatic top-ups and what of the month is used up.
create view api.auto_top_ups (
    organization_id uuid, -- The organization it belongs to.
    threshold_micros billing.amount, -- The card is charged when less than this is available, in µ$.
    amount_micros bigint, -- How much the card is charged, in µ$: whole cents.
    monthly_cap_micros bigint, -- The most that is charged in a month (UTC), in µ$.
    charged_this_month_micros bigint, -- What of the cap is used up in this month (UTC), in µ$.
    is_capped boolean, -- Whether the cap leaves no room for another one this month.
    cool_off_seconds integer, -- How many seconds after the last one the next one begins, at the soonest.
    status billing.auto_top_up_status, -- active, or paused: nothing is charged until it is set again.
    paused_reason text, -- Why it is paused: the card's refusal, money that went back, or no_owner.
    last_top_up_at timestamp with time zone, -- When the last one began or was paid (UTC).
    updated_at timestamp with time zone -- When it was last set, paused or resumed (UTC).
) with (security_invoker=true) as
 SELECT a.organization_id,
    a.threshold_micros,
    a.amount_micros,
    a.monthly_cap_micros,
    m.charged_micros AS charged_this_month_micros,
    (m.charged_micros + a.amount_micros) > a.monthly_cap_micros AS is_capped,
    a.cool_off_seconds,
    a.status,
    a.paused_reason,
    a.last_top_up_at,
    a.updated_at
   FROM billing.auto_top_ups a
     CROSS JOIN LATERAL ( SELECT COALESCE(sum(t.amount_micros), 0::numeric)::bigint AS charged_micros
           FROM billing.top_ups t
          WHERE t.organization_id = a.organization_id AND t.kind = 'automatic'::billing.top_up_kind AND (t.status <> ALL (ARRAY['failed'::billing.top_up_status, 'expired'::billing.top_up_status])) AND t.created_at >= date_trunc('month'::text, billing.now(), 'UTC'::text)) m;
CREATE TRIGGER auto_top_ups_are_read INSTEAD OF INSERT OR DELETE OR UPDATE ON api.auto_top_ups FOR EACH ROW EXECUTE FUNCTION billing.refuse_change();
grant select on table api.auto_top_ups to authenticated, faregate_reader;

-- Events that a backfill could not record, and why.
create view api.backfill_rejections (
    organization_id uuid, -- Whose usage it is.
    backfill_id uuid, -- The backfill that it belongs to.
    source text, -- Who sent it, as they call themselves.
    event_id text, -- What they call it.
    reason text -- Why it was rejected.
) with (security_invoker=true) as
 SELECT organization_id,
    backfill_id,
    source,
    event_id,
    reason
   FROM billing.backfill_events e
  WHERE outcome = 'rejected'::text;

-- Usage of the past that is reported later, and how far that is.
create view api.backfills (
    organization_id uuid, -- Whose usage it is.
    id uuid, -- Time-ordered (UUIDv7).
    starts_at timestamp with time zone, -- Its events are of this moment (UTC) or later.
    ends_at timestamp with time zone, -- They are from before this moment (UTC).
    replaces_existing boolean, -- Whether events of the time frame that it does not name are voided when it is closed.
    status billing.backfill_status, -- open: events are staged. closed: they are recorded. reverted: they are dropped, or count no more.
    staged integer, -- How many events were staged.
    recorded integer, -- How many of them were new when it was closed.
    amended integer, -- How many were known otherwise.
    unchanged integer, -- How many were known as they are.
    voided integer, -- How many that it did not name were voided.
    rejected integer, -- How many could not be recorded.
    created_by text, -- Who opened it: passport:<id> or user:<id>.
    created_at timestamp with time zone, -- When it was opened (UTC).
    closed_at timestamp with time zone, -- When it was closed (UTC).
    reverted_at timestamp with time zone -- When it was reverted (UTC).
) with (security_invoker=true) as
 SELECT organization_id,
    id,
    starts_at,
    ends_at,
    replaces_existing,
    status,
    staged,
    recorded,
    amended,
    unchanged,
    voided,
    rejected,
    created_by,
    created_at,
    closed_at,
    reverted_at
   FROM billing.backfills b;

-- Copies of spaces in an organization's buckets, and how far they are.
create view api.clones (
    id uuid, -- Time-ordered (UUIDv7).
    organization_id uuid, -- The organization it belongs to.
    space text, -- What the space is called.
    purchase_id uuid, -- The purchase that it was made for.
    storage_id uuid, -- The bucket that it is copied into.
    status billing.clone_status, -- requested, copying, done or failed.
    copied_objects bigint, -- How many objects are there so far.
    copied_bytes bigint, -- How many bytes these have.
    source_bytes bigint, -- What that bucket held when it was last measured before; null: it was not.
    failure text, -- Why it failed, or why the last run did.
    created_at timestamp with time zone, -- When they did (UTC).
    finished_at timestamp with time zone, -- When it was done or had failed (UTC).
    ended_at timestamp with time zone -- Since when (UTC) the purchase can be cloned again, because the clone failed or its bucket was given up; null: it cannot.
) with (security_invoker=true) as
 SELECT id,
    organization_id,
    slug AS space,
    purchase_id,
    storage_id,
    status,
    copied_objects,
    copied_bytes,
    source_bytes,
    failure,
    created_at,
    finished_at,
    ended_at
   FROM billing.clones c;
grant select on table api.clones to authenticated, faregate_reader;

-- Where two sides disagree, with both amounts, and for how long.
create view api.discrepancies (
    id uuid, -- Time-ordered (UUIDv7).
    kind billing.discrepancy_kind, -- What disagrees; ledger: the ledger with itself.
    status text, -- open or resolved.
    organization_id uuid, -- Whose money it is about; null: nobody's that we know.
    subject text, -- The provider's object, or what the rule of the ledger is about.
    ledger_rule text, -- The rule of billing.verify that does not hold.
    expected_micros bigint, -- In µ$: what the provider says, or what transfers add up to. A rule that counts does so in millionths.
    found_micros bigint, -- What our books say, in µ$ (or millionths).
    difference_micros bigint, -- found − expected, in µ$ (or millionths).
    note text, -- What the provider says of an amount that is not in whole cents of USD.
    age_seconds bigint, -- How many seconds it has been open, or was.
    first_seen_at timestamp with time zone, -- When a run first saw it (UTC).
    last_seen_at timestamp with time zone, -- When a run last saw it (UTC).
    resolved_at timestamp with time zone -- When it was found to agree (UTC); null: it is open.
) with (security_invoker=true) as
 SELECT id,
    kind,
        CASE
            WHEN resolved_at IS NULL THEN 'open'::text
            ELSE 'resolved'::text
        END AS status,
    organization_id,
    subject,
    ledger_rule,
    expected_micros,
    found_micros,
    found_micros - expected_micros AS difference_micros,
    note,
    EXTRACT(epoch FROM COALESCE(resolved_at, billing.now()) - first_seen_at)::bigint AS age_seconds,
    first_seen_at,
    last_seen_at,
    resolved_at
   FROM billing.discrepancies d;

-- What an organization may do with each feature that is listed, by its own terms or its plan's.
create view api.entitlements (
    organization_id uuid, -- The organization.
    feature_id text, -- The feature, as events call it.
    kind billing.feature_kind, -- What there is to say of it.
    description text, -- What it is, for people.
    is_granted boolean, -- Whether the feature may be used.
    is_own boolean, -- Whether these are terms of its own, not of its plan.
    value jsonb, -- The value of a static feature.
    limit_id uuid, -- The limit's id.
    meter text, -- What of its usage is counted; null: there is no limit.
    period billing.usage_period, -- In which period.
    limit_quantity numeric, -- How much of it there may be.
    enforcement billing.enforcement -- What happens at the limit.
) with (security_invoker=true) as
 SELECT o.id AS organization_id,
    f.id AS feature_id,
    f.kind,
    f.description,
    COALESCE(t.is_granted, p.is_granted, false) AS is_granted,
    t.limit_id IS NOT NULL AS is_own,
        CASE
            WHEN t.limit_id IS NULL THEN p.value
            ELSE t.value
        END AS value,
    COALESCE(t.limit_id, p.limit_id) AS limit_id,
        CASE
            WHEN t.limit_id IS NULL THEN p.meter
            ELSE t.meter
        END AS meter,
        CASE
            WHEN t.limit_id IS NULL THEN p.period
            ELSE t.period
        END AS period,
        CASE
            WHEN t.limit_id IS NULL THEN p.limit_quantity
            ELSE t.limit_quantity
        END AS limit_quantity,
        CASE
            WHEN t.limit_id IS NULL THEN p.enforcement
            ELSE t.enforcement
        END AS enforcement
   FROM billing.organizations o
     CROSS JOIN billing.features f
     LEFT JOIN billing.plan_entitlements p ON p.plan_id = o.plan_id AND p.feature_id = f.id
     LEFT JOIN billing.entitlements t ON t.organization_id = o.id AND t.feature_id = f.id;
CREATE TRIGGER entitlements_are_read INSTEAD OF INSERT OR DELETE OR UPDATE ON api.entitlements FOR EACH ROW EXECUTE FUNCTION billing.refuse_change();
grant select on table api.entitlements to authenticated, faregate_reader;

-- What is granted, and what each plan says of it.
create view api.features (
    id text, -- What events call it.
    kind billing.feature_kind, -- What there is to say of it.
    description text, -- What it is, for people.
    plans jsonb -- The terms of each plan that has some.
) with (security_invoker=true) as
 SELECT id,
    kind,
    description,
    ( SELECT COALESCE(jsonb_object_agg(e.plan_id, to_jsonb(e.*) - ARRAY['plan_id'::text, 'feature_id'::text, 'limit_id'::text]), '{}'::jsonb) AS "coalesce"
           FROM billing.plan_entitlements e
          WHERE e.feature_id = f.id) AS plans
   FROM billing.features f;

-- Lots of money, what remains of each and until when.
create view api.grants (
    id uuid, -- Time-ordered (UUIDv7).
    organization_id uuid, -- The organization it belongs to.
    category billing.grant_category, -- paid: bought by the customer. promotional: given to them.
    status text, -- scheduled, active, used_up or expired. expired with something remaining: the next run of api.expire_grants takes it, or a hold was promised it.
    priority smallint, -- Lower numbers are drawn first.
    amount_micros billing.amount, -- What it brought or will bring, in µ$.
    remaining_micros bigint, -- What of that is neither spent nor taken back, in µ$.
    payment_id uuid, -- The payment whose money or bonus it is; null: it came without one.
    top_up_id uuid, -- The top-up that its payment paid.
    note text, -- Why an operator gave it; the customer reads this.
    effective_at timestamp with time zone, -- Its money is not there before (UTC).
    expires_at timestamp with time zone -- From then on (UTC) what remains is taken, but not what a hold keeps; null: never.
) with (security_invoker=true) as
 SELECT id,
    organization_id,
    category,
        CASE
            WHEN sequence IS NULL THEN 'scheduled'::text
            WHEN expires_at <= billing.now() THEN 'expired'::text
            WHEN is_used_up THEN 'used_up'::text
            ELSE 'active'::text
        END AS status,
    priority,
    amount_micros,
    remaining_micros,
    payment_id,
    ( SELECT p.top_up_id
           FROM billing.payments p
          WHERE p.organization_id = g.organization_id AND p.id = g.payment_id) AS top_up_id,
    note,
    effective_at,
    expires_at
   FROM billing.grants g;
grant select on table api.grants to authenticated, faregate_reader;

-- Money that is reserved, and what became of it.
create view api.holds (
    id uuid, -- Time-ordered (UUIDv7); a session's or storage resource's hold has its id.
    organization_id uuid, -- The organization it belongs to.
    kind billing.hold_kind, -- session: kept by sweeps while a session runs. storage: kept by accrual while it is rented. usage: opened and captured by an operator.
    status text, -- open, captured, released or expired. What an expired one still holds is given back by the cron.
    amount_micros bigint, -- Reserved so far in µ$, what was captured of it included; once closed, what was captured.
    captured_micros bigint, -- What of it was taken, in µ$.
    held_micros bigint, -- What it still keeps, in µ$: amount − captured.
    description text, -- What an operator says that it is for; only of usage.
    expires_at timestamp with time zone -- Until when it keeps money (UTC); a session or storage is paid for until then.
) with (security_invoker=true) as
 SELECT id,
    organization_id,
    kind,
        CASE
            WHEN due_at IS NOT NULL AND kind = 'usage'::billing.hold_kind AND expires_at <= billing.now() THEN 'expired'::text
            WHEN due_at IS NOT NULL THEN 'open'::text
            ELSE COALESCE(outcome, 'captured'::billing.hold_outcome)::text
        END AS status,
    amount_micros,
    captured_micros,
    amount_micros - captured_micros AS held_micros,
    description,
    expires_at
   FROM billing.holds h;
grant select on table api.holds to authenticated, faregate_reader;

-- The service account at Google that an organization acts as.
create view api.identities (
    organization_id uuid, -- The organization that acts as it.
    status billing.identity_status, -- requested, provisioning, ready, failed, deleting or deleted.
    email text, -- Its address at Google, by which it is let in; null: it is not there yet.
    namespace text, -- The namespace of Kubernetes whose service account may act as it.
    kubernetes_account text, -- The service account of Kubernetes, in that namespace, that may act as it.
    failure text, -- Why it could not be made, or why the last attempt did not succeed; null: nothing failed.
    created_at timestamp with time zone, -- When it was asked for (UTC).
    ready_at timestamp with time zone, -- When the cloud had it (UTC); null: it is not there yet.
    deleted_at timestamp with time zone -- When the cloud no longer had it (UTC); null: it may still have it.
) with (security_invoker=true) as
 SELECT organization_id,
    status,
    email,
    namespace,
    kubernetes_account,
    failure,
    created_at,
    ready_at,
    deleted_at
   FROM billing.identities i;
grant select on table api.identities to authenticated, faregate_reader;

-- Invitations without the hash of their token.
create view api.invitations (
    id uuid, -- Time-ordered (UUIDv7).
    organization_id uuid, -- The organization that they may join.
    email text, -- The address that was invited: only its owner can accept.
    role text, -- What they will be: owner, admin or member.
    status text, -- pending: the mail is not sent yet; sent; accepted; revoked; expired; failed: it cannot be sent.
    failure text, -- Why the mail was refused for good; null: it was not.
    invited_by text, -- Who invited: user:<id>, or the passport:<id> of an operator.
    created_at timestamp with time zone, -- When they were invited (UTC).
    expires_at timestamp with time zone, -- It cannot be accepted from then on (UTC).
    accepted_at timestamp with time zone -- When they joined (UTC).
) with (security_invoker=true) as
 SELECT id,
    organization_id,
    email,
    role,
        CASE
            WHEN accepted_at IS NOT NULL THEN 'accepted'::text
            WHEN failure IS NOT NULL THEN 'failed'::text
            WHEN revoked_at < expires_at THEN 'revoked'::text
            WHEN expires_at <= billing.now() THEN 'expired'::text
            WHEN sent_at IS NOT NULL THEN 'sent'::text
            ELSE 'pending'::text
        END AS status,
    failure,
    invited_by,
    created_at,
    expires_at,
    accepted_at
   FROM billing.invitations i;
grant select on table api.invitations to authenticated, faregate_reader;

-- The users of each organization and their roles.
create view api.members (
    organization_id uuid, -- The organization it belongs to.
    user_id uuid, -- Their login at Supabase Auth.
    role text, -- What they may do: owner, admin or member.
    email text, -- Where mail reaches them: what they signed up with.
    created_at timestamp with time zone -- When they joined (UTC).
) with (security_invoker=true) as
 SELECT organization_id,
    user_id,
    role,
    billing.user_email(user_id) AS email,
    created_at
   FROM billing.members m;
grant select on table api.members to authenticated, faregate_reader;

-- What an organization is told: what happened, why, and what it is about.
create view api.notifications (
    id uuid, -- Time-ordered (UUIDv7). The task's name contains it.
    organization_id uuid, -- The organization it belongs to.
    kind text, -- What happened.
    reason text, -- Why, where there is a choice of reasons.
    amount_micros bigint, -- The amount in µ$ that it is about; of a freeze, the debt.
    top_up_id uuid, -- The top-up that it is about.
    storage_id uuid, -- The storage that it is about.
    until timestamp with time zone, -- Until when (UTC) it is so if nothing is done.
    created_at timestamp with time zone -- When it was written (UTC).
) with (security_invoker=true) as
 SELECT id,
    organization_id,
    payload ->> 'kind'::text AS kind,
    payload ->> 'reason'::text AS reason,
    COALESCE(payload ->> 'amount_micros'::text, payload ->> 'debt_micros'::text)::bigint AS amount_micros,
    (payload ->> 'top_up_id'::text)::uuid AS top_up_id,
    (payload ->> 'storage_id'::text)::uuid AS storage_id,
    (payload ->> 'until'::text)::timestamp with time zone AS until,
    created_at
   FROM billing.outbox o
  WHERE topic = 'notification'::billing.outbox_topic;
grant select on table api.notifications to authenticated, faregate_reader;

-- The tenants and their plans.
create view api.organizations (
    id uuid, -- Time-ordered (UUIDv7).
    name text, -- What its people call it; not unique.
    plan text, -- What it may do and what it pays: free, pro, enterprise or admin.
    billing_email text, -- Where receipts and the provider's mail go.
    closed_at timestamp with time zone, -- When it was closed (UTC); null: it is not.
    created_at timestamp with time zone -- When it was registered (UTC).
) with (security_invoker=true) as
 SELECT id,
    name,
    plan_id AS plan,
    billing_email,
    closed_at,
    created_at
   FROM billing.organizations o;
grant select on table api.organizations to authenticated, faregate_reader;

-- Passports without their hash.
create view api.passports (
    id uuid, -- Time-ordered (UUIDv7).
    organization_id uuid, -- The organization it belongs to.
    name text, -- What its people call it; not unique.
    permissions text[], -- What it may do: read, write, billing, admin.
    user_id uuid, -- The member whose it is, because they made it, or the passport that it was made with was theirs: it ends when they go. Null: an operator made it. No foreign key: it tells of users who are gone, too.
    key_prefix text, -- The first 12 characters, so that a person can tell keys apart.
    expires_at timestamp with time zone, -- From then on (UTC) it opens nothing; null: never.
    revoked_at timestamp with time zone, -- When it was ended before that (UTC).
    last_used_at timestamp with time zone, -- To the minute (UTC).
    created_at timestamp with time zone -- When it was issued (UTC).
) with (security_invoker=true) as
 SELECT id,
    organization_id,
    name,
    permissions,
    user_id,
    key_prefix,
    expires_at,
    revoked_at,
    ( SELECT u.last_used_at
           FROM billing.passport_uses u
          WHERE u.organization_id = p.organization_id AND u.passport_id = p.id) AS last_used_at,
    created_at
   FROM billing.passports p;
grant select on table api.passports to authenticated, faregate_reader;

-- Rules of the operators.
create view api.policies (
    id uuid, -- Time-ordered (UUIDv7).
    priority integer, -- A lower one is asked first; of equals, the older.
    description text, -- What operators say that it is for.
    match jsonb, -- Conditions, all of which must hold: for each of organization, plan, permission, action, caller, tier, feature, hour (0 to 23, UTC) and weekday (1, Monday, to 7, UTC) the values of which one must be; for amount a range in µ$ (above_micros, up_to_micros).
    effect text, -- deny: refused. allow: no later rule is asked. limit: takes a token, or is refused.
    limit_per text, -- limit: whether each passport (or signed-in user), each organization or each address has a bucket.
    capacity integer, -- limit: how many tokens a bucket holds.
    refill integer, -- limit: how many come back within refill_seconds.
    refill_seconds integer, -- limit: within how many seconds refill tokens come back, evenly.
    is_enabled boolean, -- Whether it is asked.
    created_by text, -- Who made it: passport:<id> or user:<id>.
    created_at timestamp with time zone -- When it was made (UTC).
) with (security_invoker=true) as
 SELECT id,
    priority,
    description,
    match,
    effect,
    limit_per,
    capacity,
    refill,
    refill_seconds,
    is_enabled,
    created_by,
    created_at
   FROM billing.policies p;

-- Spaces that an organization bought.
create view api.purchases (
    id uuid, -- Time-ordered (UUIDv7).
    organization_id uuid, -- The organization it belongs to.
    space text, -- What the space is called.
    status text, -- owned, or refunded.
    price_micros bigint, -- What it cost, in µ$, frozen.
    sequence bigint, -- The transfer that paid for it; null: it cost nothing.
    purchased_by text, -- Who bought it: passport:<id> or user:<id>.
    purchased_at timestamp with time zone, -- When they did (UTC).
    refunded_at timestamp with time zone, -- When an operator gave the money back (UTC); null: it is owned.
    refund_reason text -- Why they did; the customer reads this.
) with (security_invoker=true) as
 SELECT id,
    organization_id,
    slug AS space,
        CASE
            WHEN refunded_at IS NULL THEN 'owned'::text
            ELSE 'refunded'::text
        END AS status,
    price_micros,
    sequence,
    purchased_by,
    purchased_at,
    refunded_at,
    refund_reason
   FROM billing.purchases p;
grant select on table api.purchases to authenticated, faregate_reader;

-- What became of usage events that waited for a person.
create view api.rated_reviews (
    organization_id uuid, -- The organization it belongs to.
    id uuid, -- Time-ordered (UUIDv7): when it came.
    source text, -- Who sent it, as they call themselves.
    event_id text, -- What they call it.
    cost_usd text, -- What the provider takes, in USD, exactly; null: it is not known.
    price_usd text, -- What the customer pays, in USD, exactly; null: it waits for a review.
    priced_by text, -- Who named its price, or 0 for never charging it, where no rate could (passport:<id>, user:<id>); null: a rate did.
    provider_price_id uuid, -- The price by which the cost was reckoned; null: nothing was bought.
    usage_rate_id uuid, -- The rate by which the price was reckoned; null: no rate did.
    sequence bigint -- The first of the transfers that charged it, with others of its batch, or gave money back; null: it was free, in review, came to less than a µ$, or a backfill corrected it.
) with (security_invoker=true) as
 SELECT organization_id,
    id,
    source,
    event_id,
    round(cost_usd, GREATEST(scale(trim_scale(cost_usd)), 6))::text AS cost_usd,
    round(price_usd, GREATEST(scale(trim_scale(price_usd)), 6))::text AS price_usd,
    priced_by,
    provider_price_id,
    usage_rate_id,
    sequence
   FROM billing.usage_events e
  WHERE review IS NULL;

-- What a receipt says of a payment, as of now.
create view api.receipts (
    organization_id uuid, -- The organization it belongs to.
    top_up_id uuid, -- The top-up that it paid.
    number text, -- The day it was paid (UTC) and the 48 random bits that its id ends with.
    customer_name text, -- The organization's name.
    billing_email text, -- Where receipts and the provider's mail go.
    paid_at timestamp with time zone, -- When it was credited (UTC).
    amount_micros billing.amount, -- What was paid, in µ$.
    bonus_micros bigint, -- What came on top as promotional credits, in µ$.
    refunded_micros bigint, -- What of it was refunded, in µ$.
    disputed_micros bigint, -- What of it is disputed or was lost in a dispute, in µ$.
    kept_micros bigint, -- What of it has not gone back, in µ$.
    provider billing.payment_provider, -- Who took the money.
    provider_payment_id text -- The provider's id, a permanent key: one payment is credited once.
) with (security_invoker=true) as
 SELECT p.organization_id,
    p.top_up_id,
    (('R'::text || to_char((p.paid_at AT TIME ZONE 'UTC'::text), 'YYYYMMDD'::text)) || '-'::text) || upper("right"(p.id::text, 12)) AS number,
    o.name AS customer_name,
    o.billing_email,
    p.paid_at,
    p.amount_micros,
    COALESCE((( SELECT g.amount_micros
           FROM billing.grants g
          WHERE g.organization_id = p.organization_id AND g.payment_id = p.id AND g.category = 'promotional'::billing.grant_category
          ORDER BY g.id
         LIMIT 1))::bigint, 0::bigint) AS bonus_micros,
    p.refunded_micros,
    p.disputed_micros,
    p.amount_micros::bigint - p.refunded_micros - p.disputed_micros AS kept_micros,
    p.provider,
    p.provider_payment_id
   FROM billing.payments p
     JOIN billing.organizations o ON o.id = p.organization_id;
CREATE TRIGGER receipts_are_read INSTEAD OF INSERT OR DELETE OR UPDATE ON api.receipts FOR EACH ROW EXECUTE FUNCTION billing.refuse_change();
grant select on table api.receipts to authenticated, faregate_reader;

-- Runs of the reconciliation and what each did.
create view api.reconciliations (
    id uuid, -- Time-ordered (UUIDv7).
    started_by text, -- passport:<id> or user:<id> of an operator, or scheduler.
    window_start timestamp with time zone, -- The provider was asked for what was made since (UTC); null: only the ledger was verified.
    window_end timestamp with time zone, -- And for nothing that was made later (UTC).
    status text, -- finished, or unfinished: it goes on, or the provider or we failed.
    compared bigint, -- How many objects of the provider it looked at.
    replayed bigint, -- How many news only this run brought.
    verified bigint, -- How many organizations' ledgers it looked at.
    discrepancies bigint, -- How many it saw, new and old.
    started_at timestamp with time zone, -- When it began (UTC).
    finished_at timestamp with time zone -- When it had looked at everything (UTC); null: it goes on, or the provider or we failed.
) with (security_invoker=true) as
 SELECT id,
    started_by,
    window_start,
    window_end,
        CASE
            WHEN finished_at IS NULL THEN 'unfinished'::text
            ELSE 'finished'::text
        END AS status,
    compared,
    replayed,
    verified,
    discrepancies,
    started_at,
    finished_at
   FROM billing.reconciliations r;

-- Sessions with their cost as of now.
create view api.sessions (
    id uuid, -- Time-ordered (UUIDv7).
    organization_id uuid, -- The organization it belongs to.
    name text, -- What its owner calls it.
    workspace_id uuid, -- The workspace that it runs in; null: none.
    preset text, -- By which preset it was started; null: by a tier. No foreign key: it tells of presets that are gone, too.
    tier text, -- How large the resource is.
    status text, -- running or closed.
    close_reason text, -- stopped, exhausted (no money), lost (no heartbeat), expired, failed or frozen (a debt).
    hourly_price_micros bigint, -- What an hour costs, in µ$, frozen at its start.
    cost_micros bigint, -- In µ$: what was charged so far plus what has run since.
    charged_micros bigint, -- What was charged so far, in µ$.
    held_micros bigint, -- What is still held for it, in µ$.
    started_at timestamp with time zone, -- The first second that is charged (UTC).
    paid_until timestamp with time zone, -- Until when money is held for it (UTC).
    is_last_window boolean, -- Nothing can be held beyond paid_until: unless money arrives, it ends on that second.
    expires_at timestamp with time zone, -- Its owner wants it to end then (UTC); null: whenever it is stopped.
    heartbeat_timeout_seconds integer, -- It is lost when no heartbeat came for so many seconds; null: it sends none.
    last_heartbeat_at timestamp with time zone, -- When the resource last said that it is alive (UTC); before that, its start.
    ended_at timestamp with time zone -- Up to then it was charged (UTC); null: it runs.
) with (security_invoker=true) as
 SELECT s.id,
    s.organization_id,
    s.name,
    s.workspace_id,
    s.preset,
    s.tier,
        CASE
            WHEN s.ended_at IS NULL THEN 'running'::text
            ELSE 'closed'::text
        END AS status,
    s.close_reason,
    s.hourly_price_micros,
        CASE
            WHEN s.ended_at IS NOT NULL THEN h.captured_micros
            ELSE billing.session_cost(s.hourly_price_micros, s.started_at, GREATEST(h.captured_until, LEAST(billing.now(), h.expires_at)))
        END AS cost_micros,
    h.captured_micros AS charged_micros,
    h.amount_micros - h.captured_micros AS held_micros,
    s.started_at,
    h.expires_at AS paid_until,
    h.is_final AS is_last_window,
    s.expires_at,
    s.heartbeat_timeout_seconds,
    s.last_heartbeat_at,
    s.ended_at
   FROM billing.sessions s
     CROSS JOIN LATERAL ( SELECT r.amount_micros,
            r.captured_micros,
            r.captured_until,
            r.expires_at,
            r.is_final
           FROM billing.holds r
          WHERE r.organization_id = s.organization_id AND r.id = s.id
         LIMIT 1) h;
CREATE TRIGGER sessions_are_read INSTEAD OF INSERT OR DELETE OR UPDATE ON api.sessions FOR EACH ROW EXECUTE FUNCTION billing.refuse_change();
grant select on table api.sessions to authenticated, faregate_reader;

-- The catalogue: the same for everybody. What one costs depends on the plan: ask the API.
create view api.spaces (
    id uuid, -- Time-ordered (UUIDv7).
    slug text, -- What customers call it. Once it was published the name is its own for good.
    title text, -- What it is called in a list.
    description text, -- What is in it.
    size_gb integer, -- How many GB (2³⁰ bytes) a clone of it rents.
    is_cloneable boolean, -- Whether it can be copied into a bucket of its buyer's, once for each purchase, and so be bought again.
    publisher text, -- The organization that published it, as it was called then; null: the platform.
    status billing.space_status, -- in_review, published, rejected or withdrawn.
    published_at timestamp with time zone, -- Since when (UTC) it was sold; null: it never was. From then on everybody may know of it.
    withdrawn_at timestamp with time zone -- Since when (UTC) it is sold no more.
) with (security_invoker=true) as
 SELECT id,
    slug,
    title,
    description,
    size_gb,
    is_cloneable,
    publisher_name AS publisher,
    status,
    published_at,
    withdrawn_at
   FROM billing.spaces s;
grant select on table api.spaces to authenticated, faregate_reader;

-- How much usage may cost an organization, or one of its passports, in a period.
create view api.spend_caps (
    organization_id uuid, -- The organization it belongs to.
    id uuid, -- What its counter is called: a new one with every change of the cap.
    passport_id uuid, -- The passport that it is for; null: the whole organization.
    period billing.usage_period, -- In which period.
    cap_micros bigint, -- How much usage may cost in it, in µ$.
    is_operators boolean, -- Whether an operator set it: then no customer changes it.
    set_by text -- Who set it: passport:<id> or user:<id>.
) with (security_invoker=true) as
 SELECT organization_id,
    id,
    passport_id,
    period,
    cap_micros,
    is_operators,
    set_by
   FROM billing.spend_caps c;
grant select on table api.spend_caps to authenticated, faregate_reader;

-- Rented storage with its cost as of now.
create view api.storage (
    id uuid, -- Time-ordered (UUIDv7); its hold has the same.
    organization_id uuid, -- The organization it belongs to.
    kind billing.storage_kind, -- bucket or filestore.
    region text, -- Where it is.
    name text, -- What its owner calls it. Nothing in the cloud is named after it.
    workspace_id uuid, -- The workspace that it is attached to; null: none.
    status billing.storage_status, -- requested, provisioning, ready, grace, read_only, deletion_notice, deleting, deleted or failed.
    status_since timestamp with time zone, -- Since when (UTC) it has been that.
    size_gb integer, -- How many GB (2³⁰ bytes) are rented. Of a bucket it is the quota.
    resize_to_gb integer, -- The size in GB that it is being given; null: it keeps the one it has.
    included_gb integer, -- How many of its GB cost nothing: what comes with a registration.
    used_bytes bigint, -- What was in it when it was last measured.
    measured_at timestamp with time zone, -- When that was (UTC); null: not yet.
    soft_delete_days smallint, -- For how many days a deleted object can be restored; 0: not at all.
    delete_after_days smallint, -- After how many days its objects are deleted by themselves; null: never.
    gb_month_price_micros bigint, -- What a GB-month (730 hours) costs, in µ$, at present or at last; null: it is not charged yet.
    cost_micros bigint, -- In µ$: what was charged so far plus what has run since.
    charged_micros bigint, -- What was charged so far, in µ$.
    unpaid_micros bigint, -- What of its cost neither a charge nor a hold covers, in µ$. When it ends, nobody owes it.
    held_micros bigint, -- What is held for it, in µ$.
    paid_until timestamp with time zone, -- Until when money is held for it (UTC).
    resource_name text, -- Its name in the cloud: the bucket or the file share's instance; null: it is not there.
    access billing.storage_access, -- What the organization's service account may do with it: write or read; null: it is not there.
    mount text, -- Of a file share: what is mounted, address:/share.
    failure text, -- Why it failed, or why the last change did not succeed yet.
    created_at timestamp with time zone, -- When it was asked for (UTC).
    ready_at timestamp with time zone, -- The first second that is charged (UTC); null: it is not there yet.
    ended_at timestamp with time zone, -- Up to then it was charged (UTC); null: it still is, or never was.
    deleted_at timestamp with time zone -- When the cloud no longer had it (UTC); null: it may still have it.
) with (security_invoker=true) as
 SELECT s.id,
    s.organization_id,
    s.kind,
    s.region_id AS region,
    s.name,
    s.workspace_id,
    s.status,
    s.status_since,
    s.size_gb,
    s.resize_to_gb,
    s.included_gb,
    s.used_bytes,
    s.measured_at,
    s.soft_delete_days,
    s.delete_after_days,
    ( SELECT p.gb_month_price_micros
           FROM billing.storage_periods p
          WHERE p.organization_id = s.organization_id AND p.storage_id = s.id
          ORDER BY p.starts_at DESC
         LIMIT 1) AS gb_month_price_micros,
    h.cost_micros,
    h.captured_micros AS charged_micros,
    GREATEST(h.cost_micros - h.amount_micros, 0::bigint) AS unpaid_micros,
    h.amount_micros - h.captured_micros AS held_micros,
        CASE
            WHEN s.ready_at IS NOT NULL AND h.due_at IS NOT NULL THEN h.expires_at
            ELSE NULL::timestamp with time zone
        END AS paid_until,
        CASE
            WHEN s.applied_access IS NOT NULL THEN s.resource_name
            ELSE NULL::text
        END AS resource_name,
    s.applied_access AS access,
    s.mount,
    s.failure,
    s.created_at,
    s.ready_at,
        CASE
            WHEN s.ready_at IS NOT NULL AND h.due_at IS NULL THEN h.captured_until
            ELSE NULL::timestamp with time zone
        END AS ended_at,
    s.deleted_at
   FROM billing.storage s
     CROSS JOIN LATERAL ( SELECT r.amount_micros,
            r.captured_micros,
            r.captured_until,
            r.expires_at,
            r.due_at,
                CASE
                    WHEN r.due_at IS NULL THEN r.captured_micros
                    ELSE billing.storage_cost(r.organization_id, r.id, GREATEST(r.captured_until, billing.now()))
                END AS cost_micros
           FROM billing.holds r
          WHERE r.organization_id = s.organization_id AND r.id = s.id
         LIMIT 1) h;
CREATE TRIGGER storage_is_read INSTEAD OF INSERT OR DELETE OR UPDATE ON api.storage FOR EACH ROW EXECUTE FUNCTION billing.refuse_change();
grant select on table api.storage to authenticated, faregate_reader;

-- Purchases of credits and how far they are.
create view api.top_ups (
    id uuid, -- Time-ordered (UUIDv7).
    organization_id uuid, -- The organization it belongs to.
    amount_micros bigint, -- What it costs, in µ$: whole cents.
    bonus_micros bigint, -- What its bracket promised on top when it was asked for, in µ$.
    status billing.top_up_status, -- How far it is. needs_review: a person decides.
    checkout_session_id text, -- The provider's id of its checkout; null: none yet, or automatic.
    checkout_url text, -- Where its buyer pays.
    created_at timestamp with time zone, -- When it was asked for (UTC).
    paid_at timestamp with time zone, -- When its money arrived (UTC).
    kind billing.top_up_kind -- checkout: its buyer pays on the provider's page. automatic: a saved card is charged.
) with (security_invoker=true) as
 SELECT id,
    organization_id,
    amount_micros,
    bonus_micros,
    status,
    checkout_session_id,
    checkout_url,
    created_at,
    paid_at,
    kind
   FROM billing.top_ups t;
grant select on table api.top_ups to authenticated, faregate_reader;

-- The ledger as its owner sees it: signed amounts and the balance after each, in µ$.
create view api.transactions (
    organization_id uuid, -- The organization it belongs to.
    sequence bigint, -- Its number within the organization: from 1 on, without a gap.
    reason billing.reason, -- What the money moved for.
    amount_micros bigint, -- In µ$: positive into the wallet, negative out of it.
    balance_micros bigint, -- The settled balance after it, in µ$.
    session_id uuid, -- The session that it was charged for.
    storage_id uuid, -- The storage that it was charged for.
    hold_id uuid, -- The hold that it was captured from; that of a session or of storage has its id.
    grant_id uuid, -- The grant that a credit went to, or that alone paid a debit; null: several did.
    created_at timestamp with time zone -- When the money moved (UTC).
) with (security_invoker=true) as
 SELECT organization_id,
    sequence,
    reason,
        CASE
            WHEN credit_account = 'wallet'::billing.account THEN amount_micros::bigint
            ELSE - amount_micros::bigint
        END AS amount_micros,
    wallet_balance_micros AS balance_micros,
        CASE
            WHEN reason = 'session'::billing.reason THEN hold_id
            ELSE NULL::uuid
        END AS session_id,
        CASE
            WHEN reason = 'storage'::billing.reason THEN hold_id
            ELSE NULL::uuid
        END AS storage_id,
    hold_id,
    grant_id,
    created_at
   FROM billing.transfers t
  WHERE 'wallet'::billing.account = debit_account OR 'wallet'::billing.account = credit_account;
grant select on table api.transactions to authenticated, faregate_reader;

-- What was consumed by day and kind.
create view api.usage (
    organization_id uuid, -- The organization it belongs to.
    day date, -- In UTC, from midnight to midnight.
    kind billing.statement_kind, -- sessions, storage, spaces, or usage: events, and what was captured from holds.
    amount_micros bigint, -- The sum of its charges, less what was given back, in µ$.
    charges bigint -- How many transfers there were.
) with (security_invoker=true) as
 SELECT organization_id,
    (date_trunc('day'::text, created_at, 'UTC'::text) AT TIME ZONE 'UTC'::text)::date AS day,
    billing.statement_kind(reason) AS kind,
    sum(
        CASE
            WHEN debit_account = 'wallet'::billing.account THEN amount_micros::bigint
            ELSE - amount_micros::bigint
        END)::bigint AS amount_micros,
    count(*) AS charges
   FROM billing.transfers t
  WHERE billing.is_consumption(reason)
  GROUP BY organization_id, ((date_trunc('day'::text, created_at, 'UTC'::text) AT TIME ZONE 'UTC'::text)::date), (billing.statement_kind(reason));
CREATE TRIGGER usage_is_read INSTEAD OF INSERT OR DELETE OR UPDATE ON api.usage FOR EACH ROW EXECUTE FUNCTION billing.refuse_change();
grant select on table api.usage to authenticated, faregate_reader;

-- Usage that was asked for before, what is held for it, and what it came to.
create view api.usage_authorizations (
    organization_id uuid, -- The organization it belongs to.
    id uuid, -- Its hold's, time-ordered (UUIDv7).
    status text, -- open, captured, released or expired. What an expired one still holds is given back by the cron.
    source text, -- Who will have sent its event.
    event_id text, -- What they will call it.
    feature text, -- What of the product is used.
    provider_id text, -- Who serves the model; null: none.
    model text, -- The model.
    passport_id uuid, -- The customer's passport that it is used with.
    quantities jsonb, -- How much of each meter at most.
    max_price_usd text, -- What it costs at most, in USD, exactly, as text.
    price_usd text, -- What it came to, in USD, exactly, as text; null: nothing as yet.
    held_micros bigint, -- What it still keeps, in µ$: amount − captured.
    expires_at timestamp with time zone -- Until when it keeps money (UTC); a session or storage is paid for until then.
) with (security_invoker=true) as
 SELECT a.organization_id,
    a.id,
    h.status,
    a.source,
    a.event_id,
    a.feature,
    a.provider_id,
    a.model,
    a.passport_id,
    a.quantities,
    trim_scale(a.max_price_usd)::text AS max_price_usd,
    trim_scale(a.price_usd)::text AS price_usd,
    h.held_micros,
    h.expires_at
   FROM billing.usage_authorizations a
     JOIN api.holds h ON h.organization_id = a.organization_id AND h.id = a.id;
CREATE TRIGGER usage_authorizations_are_read INSTEAD OF INSERT OR DELETE OR UPDATE ON api.usage_authorizations FOR EACH ROW EXECUTE FUNCTION billing.refuse_change();

-- What was used, by day, feature, model and passport: exact as of now. Events that wait for a person
-- count as nothing until they are charged.
create view api.usage_days (
    organization_id uuid, -- The organization it belongs to.
    day date, -- In UTC, from midnight to midnight.
    feature text, -- What of the product was used.
    provider_id text, -- Who served the model; null: none did.
    model text, -- The model, as the events say; null: none.
    passport_id uuid, -- The customer's passport that it was used with; null: none was named.
    events bigint, -- How many there were; none that is void.
    quantities jsonb, -- How much of each meter.
    price_usd numeric -- What the customer pays, in USD, exactly.
) with (security_invoker=true) as
 WITH parts AS (
         SELECT r.organization_id,
            r.day,
            r.feature,
            r.provider_id,
            r.model,
            r.passport_id,
            p_1.meter,
            sum(p_1.events) AS events,
            sum(p_1.price_usd) AS price_usd,
            sum(p_1.quantity) AS quantity
           FROM ( SELECT d.organization_id,
                    d.day,
                    d.feature,
                    NULLIF(d.provider_id, ''::text) AS provider_id,
                    NULLIF(d.model, ''::text) AS model,
                    NULLIF(d.passport_id, billing.zeros()) AS passport_id,
                    d.events,
                    d.price_usd,
                    d.quantities
                   FROM billing.usage_days d
                  WHERE d.feature <> ''::text
                UNION ALL
                 SELECT e.organization_id,
                    (e.occurred_at AT TIME ZONE 'UTC'::text)::date AS timezone,
                    e.feature,
                    e.provider_id,
                    e.model,
                    e.passport_id,
                    e.counted AS events,
                    e.price_usd,
                    e.quantities
                   FROM billing.usage_events e
                  WHERE e.id >= (( SELECT billing.usage_folded_to() AS usage_folded_to)) AND e.review IS NULL) r
             CROSS JOIN LATERAL billing.usage_parts(r.events, 0::numeric, r.price_usd, r.quantities) p_1(meter, events, cost_usd, price_usd, quantity)
          GROUP BY r.organization_id, r.day, r.feature, r.provider_id, r.model, r.passport_id, p_1.meter
        )
 SELECT organization_id,
    day,
    feature,
    provider_id,
    model,
    passport_id,
    sum(events)::bigint AS events,
    COALESCE(jsonb_object_agg(meter, quantity) FILTER (WHERE meter <> ''::text), '{}'::jsonb) AS quantities,
    sum(price_usd) AS price_usd
   FROM parts p
  GROUP BY organization_id, day, feature, provider_id, model, passport_id;
CREATE TRIGGER usage_days_are_read INSTEAD OF INSERT OR DELETE OR UPDATE ON api.usage_days FOR EACH ROW EXECUTE FUNCTION billing.refuse_change();
grant select on table api.usage_days to authenticated, faregate_reader;

-- What was used, and what it was charged.
create view api.usage_events (
    organization_id uuid, -- The organization it belongs to.
    id uuid, -- Time-ordered (UUIDv7): when it came.
    source text, -- Who sent it, as they call themselves.
    event_id text, -- What they call it.
    occurred_at timestamp with time zone, -- When it was consumed (UTC).
    feature text, -- What of the product was used.
    provider_id text, -- Who served the model, as the event says; null: none did.
    model text, -- The model, as the event says.
    passport_id uuid, -- The customer's passport that it was used with, as the event says.
    quantities jsonb, -- How much of each meter; wholes include their parts (billing.meter_parts).
    price_usd numeric, -- What the customer pays, in USD, exactly; null: it waits for a review.
    review billing.usage_review, -- Why it is not rated yet; null: it is.
    corrects_id uuid -- The event whose quantities, cost and price it changes by its own, which may be negative; null: it is an event itself.
) with (security_invoker=true) as
 SELECT organization_id,
    id,
    source,
    event_id,
    occurred_at,
    feature,
    provider_id,
    model,
    passport_id,
    quantities,
    price_usd,
    review,
    corrects_id
   FROM billing.usage_events e;
grant select on table api.usage_events to authenticated, faregate_reader;

-- How much may be owed for usage when the money is short.
create view api.usage_policies (
    id uuid, -- Time-ordered (UUIDv7).
    organization_id uuid, -- The only one it is for; null: not one.
    plan_id text, -- The plan that it is for; null: all.
    feature text, -- The feature that it is for; null: all.
    allow_debt_micros bigint -- Up to how much may be owed after it, in µ$.
) with (security_invoker=true) as
 SELECT id,
    organization_id,
    plan_id,
    feature,
    allow_debt_micros
   FROM billing.usage_policies p;

-- What usage costs customers, and since when.
create view api.usage_rates (
    id uuid, -- A rated event remembers the row that it froze.
    organization_id uuid, -- The only one it is for; null: not one.
    plan_id text, -- The plan that it is for; null: all.
    feature text, -- The feature that it is for; null: all.
    provider_id text, -- The provider that it is for; null: all.
    model_id text, -- The model that it is for, as prices call it; null: all.
    markup text, -- What the cost is multiplied by, exactly, as text; null: only its own prices count.
    prices jsonb, -- Its own prices: {meter: USD for one, exactly, as text}, or tiers or a package instead of USD.
    costs jsonb, -- What an operator says that its model takes from effective_at on: {meter: USD for one, exactly, as text}; null: nothing.
    may_be_below_cost boolean, -- Whether a price below the cost is meant; otherwise such an event waits for a person.
    is_end boolean, -- Whether it only ends the one for the same before it, so that the next closest counts again.
    effective_at timestamp with time zone, -- From then on (UTC) it counts, until a later row for the same does.
    replaced_at timestamp with time zone, -- From then on (UTC) a later one for the same counts; null: there is none.
    created_by text -- Who made it: passport:<id>, user:<id> or operator.
) with (security_invoker=true) as
 SELECT id,
    organization_id,
    plan_id,
    feature,
    provider_id,
    model_id,
    markup::text AS markup,
    ( SELECT COALESCE(jsonb_object_agg(p.meter, p.price), '{}'::jsonb) AS "coalesce"
           FROM ( SELECT u.meter,
                    to_jsonb(u.unit_price_usd::text) AS price
                   FROM billing.usage_rate_units u
                  WHERE u.rate_id = r.id AND u.unit_price_usd IS NOT NULL
                UNION ALL
                 SELECT t.meter,
                        CASE
                            WHEN min(t.kind) = 'package'::billing.tier_kind THEN jsonb_build_object('kind', 'package', 'size', min(t.package_size), 'price', min(t.unit_price_usd)::text)
                            ELSE jsonb_build_object('kind', min(t.kind), 'tiers', jsonb_agg(jsonb_build_object('up_to', t.up_to, 'unit_price', t.unit_price_usd::text) ORDER BY t.above))
                        END AS price
                   FROM ( SELECT c.rate_id,
                            c.meter,
                            c.above,
                            c.kind,
                            c.unit_price_usd,
                            c.package_size,
                            lead(c.above) OVER (PARTITION BY c.meter ORDER BY c.above) AS up_to
                           FROM billing.usage_rate_tiers c
                          WHERE c.rate_id = r.id) t
                  GROUP BY t.meter) p) AS prices,
    billing.own_costs(provider_id, model_id, effective_at) AS costs,
    may_be_below_cost,
    is_end,
    effective_at,
    ( SELECT min(n.effective_at) AS min
           FROM billing.usage_rates n
          WHERE n.effective_at > r.effective_at AND NOT n.organization_id IS DISTINCT FROM r.organization_id AND NOT n.plan_id IS DISTINCT FROM r.plan_id AND NOT n.feature IS DISTINCT FROM r.feature AND NOT n.provider_id IS DISTINCT FROM r.provider_id AND NOT n.model_id IS DISTINCT FROM r.model_id) AS replaced_at,
    created_by
   FROM billing.usage_rates r;

-- Usage events that could not be rated and wait for a person.
create view api.usage_reviews (
    organization_id uuid, -- The organization it belongs to.
    id uuid, -- Time-ordered (UUIDv7): when it came.
    source text, -- Who sent it, as they call themselves.
    event_id text, -- What they call it.
    occurred_at timestamp with time zone, -- When it was consumed (UTC).
    feature text, -- What of the product was used.
    provider_id text, -- Who served the model, as the event says; null: none did.
    model text, -- The model, as the event says.
    quantities jsonb, -- How much of each meter; wholes include their parts (billing.meter_parts).
    cost_usd numeric, -- What the provider takes, in USD, exactly; null: it is not known.
    review billing.usage_review -- Why it is not rated yet; null: it is.
) with (security_invoker=true) as
 SELECT organization_id,
    id,
    source,
    event_id,
    occurred_at,
    feature,
    provider_id,
    model,
    quantities,
    cost_usd,
    review
   FROM billing.usage_events e
  WHERE review IS NOT NULL;

-- The balance: available = settled − held, and what is owed, in µ$.
create view api.wallets (
    organization_id uuid, -- The organization it belongs to.
    settled_micros bigint, -- The balance in µ$: what came in less what went out.
    held_micros bigint, -- What of it open holds keep, in µ$. Available is settled − held.
    available_micros bigint, -- What can be spent or held now, in µ$: settled − held.
    debt_micros bigint -- Money in µ$ that the provider gave back after it had been spent. While there is any, the organization is frozen.
) with (security_invoker=true) as
 SELECT organization_id,
    settled_micros,
    held_micros,
    settled_micros - held_micros AS available_micros,
    debt_micros
   FROM billing.wallets w;
grant select on table api.wallets to authenticated, faregate_reader;

-- Workspaces, those that were deleted among them.
create view api.workspaces (
    id uuid, -- Time-ordered (UUIDv7).
    organization_id uuid, -- The organization it belongs to.
    name text, -- What its people call it; not unique.
    created_at timestamp with time zone, -- When it was made (UTC).
    deleted_at timestamp with time zone -- When it was deleted (UTC); null: it was not.
) with (security_invoker=true) as
 SELECT id,
    organization_id,
    name,
    created_at,
    deleted_at
   FROM billing.workspaces w;
grant select on table api.workspaces to authenticated, faregate_reader;

-- In which of its workspaces an organization has a space that it owns.
create table billing.attachments (
    organization_id uuid not null, -- The organization it belongs to.
    workspace_id uuid not null, -- The workspace.
    space_id uuid not null, -- The space.
    slug text not null, -- What the space is called.
    attached_by text not null, -- Who attached it: passport:<id> or user:<id>.
    attached_at timestamp with time zone not null default billing.now(), -- When they did (UTC).
    constraint attachments_space_id_fkey FOREIGN KEY (space_id) REFERENCES billing.spaces(id),
    constraint attachments_workspace_fkey FOREIGN KEY (organization_id, workspace_id) REFERENCES billing.workspaces(organization_id, id),
    constraint attachments_pkey PRIMARY KEY (organization_id, workspace_id, space_id)
);
alter table billing.attachments enable row level security;
CREATE INDEX attachments_space ON billing.attachments USING btree (space_id);
create policy readers on billing.attachments as permissive for select to authenticated, faregate_reader using ((organization_id = ANY (ARRAY( SELECT billing.readable('read'::text) AS readable))));
grant select (attached_at, attached_by, organization_id, slug, workspace_id) on table billing.attachments to authenticated, faregate_reader;

-- Who did what to whom: identities, passports, plans. Append-only.
create table billing.audit_log (
    organization_id uuid not null, -- The organization it belongs to.
    id uuid not null default billing.uuidv7(), -- Time-ordered (UUIDv7).
    actor text not null, -- Who did it: passport:<id>, user:<id>, stripe or operator.
    action text not null, -- What they did.
    subject_id uuid, -- To whom or what: an organization, a passport, a user.
    detail jsonb not null default '{}'::jsonb, -- What else there is to know.
    created_at timestamp with time zone not null default billing.now(), -- When they did it (UTC).
    constraint audit_log_actor_is_typed CHECK (((actor ~ '^(passport|user):[0-9a-f-]{36}$'::text) OR (actor = ANY (ARRAY['stripe'::text, 'operator'::text])))),
    constraint audit_log_organization_id_fkey FOREIGN KEY (organization_id) REFERENCES billing.organizations(id),
    constraint audit_log_pkey PRIMARY KEY (organization_id, id)
);
alter table billing.audit_log enable row level security;
CREATE TRIGGER audit_log_append_only BEFORE DELETE OR UPDATE ON billing.audit_log FOR EACH ROW EXECUTE FUNCTION billing.refuse_change();
CREATE TRIGGER audit_log_no_truncate BEFORE TRUNCATE ON billing.audit_log FOR EACH STATEMENT EXECUTE FUNCTION billing.refuse_change();

-- When and how much an organization wants its saved card charged by itself.
create table billing.auto_top_ups (
    organization_id uuid not null, -- The organization it belongs to.
    threshold_micros billing.amount not null, -- The card is charged when less than this is available, in µ$.
    amount_micros bigint not null, -- How much it is charged, in µ$: whole cents.
    monthly_cap_micros bigint not null, -- The most that is charged in a month (UTC), in µ$.
    cool_off_seconds integer not null, -- How many seconds after the last one the next one begins, at the soonest.
    status billing.auto_top_up_status not null default 'active'::billing.auto_top_up_status, -- paused: nothing is charged until it is set again.
    paused_reason text, -- Why it is paused: the card's refusal, money that went back, or no_owner.
    last_top_up_at timestamp with time zone, -- When the last one began or was paid (UTC).
    told_capped_at timestamp with time zone, -- When its owner was last told that the monthly cap stopped one (UTC).
    set_by text not null, -- Who set it last: passport:<id> or user:<id>.
    updated_at timestamp with time zone not null default billing.now(), -- When it was last set, paused or resumed (UTC).
    constraint auto_top_ups_amount_is_whole_cents CHECK ((((amount_micros >= 1) AND (amount_micros <= '999999990000'::bigint)) AND ((amount_micros % (10000)::bigint) = 0))),
    constraint auto_top_ups_amount_reaches_threshold CHECK ((amount_micros >= (threshold_micros)::bigint)),
    constraint auto_top_ups_cap_in_bounds CHECK (((monthly_cap_micros >= amount_micros) AND (monthly_cap_micros <= '1000000000000000'::bigint))),
    constraint auto_top_ups_cool_off_in_bounds CHECK (((cool_off_seconds >= 60) AND (cool_off_seconds <= 2678400))),
    constraint auto_top_ups_paused_has_a_reason CHECK (((status = 'paused'::billing.auto_top_up_status) = (paused_reason IS NOT NULL))),
    constraint auto_top_ups_organization_id_fkey FOREIGN KEY (organization_id) REFERENCES billing.wallets(organization_id),
    constraint auto_top_ups_pkey PRIMARY KEY (organization_id)
);
alter table billing.auto_top_ups enable row level security;
create policy readers on billing.auto_top_ups as permissive for select to authenticated, faregate_reader using ((organization_id = ANY (ARRAY( SELECT billing.readable('billing'::text) AS readable))));
grant select (amount_micros, cool_off_seconds, last_top_up_at, monthly_cap_micros, organization_id, paused_reason, status, threshold_micros, updated_at) on table billing.auto_top_ups to authenticated, faregate_reader;

-- The events of a backfill as they were sent, and what became of each.
create table billing.backfill_events (
    organization_id uuid not null, -- Whose usage it is.
    backfill_id uuid not null, -- The backfill that it belongs to.
    source text not null, -- Who sent it, as they call themselves.
    event_id text not null, -- What they call it.
    event jsonb, -- What it says; null: it was recorded before, and the backfill does not name it.
    fingerprint bigint, -- A hash of what it says: the same name with other words is no repetition.
    outcome text, -- What became of it when the backfill was closed; null: it is open.
    reason text, -- Why it was rejected.
    usage_id uuid, -- The event that it became or changed.
    constraint backfill_events_outcome_is_known CHECK (((outcome = ANY (ARRAY['recorded'::text, 'amended'::text, 'unchanged'::text, 'voided'::text, 'rejected'::text])) AND ((outcome = 'rejected'::text) = (reason IS NOT NULL)))),
    constraint backfill_events_belong_to_one FOREIGN KEY (organization_id, backfill_id) REFERENCES billing.backfills(organization_id, id),
    constraint backfill_events_pkey PRIMARY KEY (organization_id, backfill_id, source, event_id)
);
alter table billing.backfill_events enable row level security;

-- Usage of a time frame that is reported later. While it is open, its events are only staged; when
-- it is closed, all of them are recorded and charged at once; when it is reverted, nothing of it
-- counts.
create table billing.backfills (
    organization_id uuid not null, -- Whose usage it is.
    id uuid not null default billing.uuidv7(), -- Time-ordered (UUIDv7).
    starts_at timestamp with time zone not null, -- Its events are of this moment (UTC) or later.
    ends_at timestamp with time zone not null, -- They are from before this moment (UTC).
    replaces_existing boolean not null, -- Whether events of the time frame that it does not name are voided when it is closed.
    status billing.backfill_status not null default 'open'::billing.backfill_status, -- open: events are staged. closed: they are recorded. reverted: they are dropped, or count no more.
    staged integer not null default 0, -- How many events were staged.
    recorded integer not null default 0, -- How many of them were new when it was closed.
    amended integer not null default 0, -- How many were known otherwise.
    unchanged integer not null default 0, -- How many were known as they are.
    voided integer not null default 0, -- How many that it did not name were voided.
    rejected integer not null default 0, -- How many could not be recorded.
    created_by text not null, -- Who opened it: passport:<id> or user:<id>.
    created_at timestamp with time zone not null default billing.now(), -- When it was opened (UTC).
    closed_at timestamp with time zone, -- When it was closed (UTC).
    reverted_at timestamp with time zone, -- When it was reverted (UTC).
    constraint backfills_end_after_they_start CHECK ((ends_at > starts_at)),
    constraint backfills_say_when CHECK (
CASE status
    WHEN 'open'::billing.backfill_status THEN ((closed_at IS NULL) AND (reverted_at IS NULL))
    WHEN 'closed'::billing.backfill_status THEN ((closed_at IS NOT NULL) AND (reverted_at IS NULL))
    WHEN 'reverted'::billing.backfill_status THEN (reverted_at IS NOT NULL)
    ELSE NULL::boolean
END),
    constraint backfills_organization_id_fkey FOREIGN KEY (organization_id) REFERENCES billing.organizations(id),
    constraint backfills_pkey PRIMARY KEY (organization_id, id)
);
alter table billing.backfills enable row level security;
CREATE UNIQUE INDEX backfills_id ON billing.backfills USING btree (id);

-- Who has had the registration bonus and the initial storage. Once per identity, ever: rows outlive
-- users and organizations. Append-only.
create table billing.bonus_identities (
    identity text not null, -- user:<id> or email:<address>, in the one spelling of that mailbox.
    organization_id uuid not null, -- The organization that was given the bonus.
    created_at timestamp with time zone not null default billing.now(), -- When it was given (UTC).
    constraint bonus_identities_organization_id_fkey FOREIGN KEY (organization_id) REFERENCES billing.organizations(id),
    constraint bonus_identities_pkey PRIMARY KEY (identity)
);
alter table billing.bonus_identities enable row level security;
CREATE INDEX bonus_identities_organization_id ON billing.bonus_identities USING btree (organization_id);
CREATE TRIGGER bonus_identities_append_only BEFORE DELETE OR UPDATE ON billing.bonus_identities FOR EACH ROW EXECUTE FUNCTION billing.refuse_change();
CREATE TRIGGER bonus_identities_no_truncate BEFORE TRUNCATE ON billing.bonus_identities FOR EACH STATEMENT EXECUTE FUNCTION billing.refuse_change();

-- A copy of a space in a bucket of its buyer's. Each purchase has one at a time.
create table billing.clones (
    organization_id uuid not null, -- The organization it belongs to.
    id uuid not null default billing.uuidv7(), -- Time-ordered (UUIDv7).
    purchase_id uuid not null, -- The purchase that it was made for.
    slug text not null, -- What the space is called.
    storage_id uuid not null, -- The bucket that it is copied into.
    source_organization_id uuid not null, -- Whose bucket it is copied from.
    source_storage_id uuid not null, -- The bucket that it is copied from.
    source_bytes bigint, -- What that bucket held when it was last measured before; null: it was not.
    status billing.clone_status not null default 'requested'::billing.clone_status, -- requested, copying, done or failed.
    bookmark text, -- Where the next page begins, in the words of who copies; null: at the first object.
    copied_objects bigint not null default 0, -- How many objects are there so far.
    copied_bytes bigint not null default 0, -- How many bytes these have.
    failures integer not null default 0, -- How many runs in a row began and copied nothing.
    failure text, -- Why it failed, or why the last run did.
    requested_by text not null, -- Who asked for it: passport:<id> or user:<id>.
    created_at timestamp with time zone not null default billing.now(), -- When they did (UTC).
    finished_at timestamp with time zone, -- When it was done or had failed (UTC).
    ended_at timestamp with time zone, -- Since when (UTC) the purchase can be cloned again, because the clone failed or its bucket was given up; null: it cannot.
    constraint clones_end_is_known CHECK ((((status = ANY (ARRAY['done'::billing.clone_status, 'failed'::billing.clone_status])) = (finished_at IS NOT NULL)) AND ((status = 'failed'::billing.clone_status) <= (ended_at IS NOT NULL)))),
    constraint clones_purchase_fkey FOREIGN KEY (organization_id, purchase_id) REFERENCES billing.purchases(organization_id, id),
    constraint clones_source_fkey FOREIGN KEY (source_organization_id, source_storage_id) REFERENCES billing.storage(organization_id, id),
    constraint clones_storage_fkey FOREIGN KEY (organization_id, storage_id) REFERENCES billing.storage(organization_id, id),
    constraint clones_pkey PRIMARY KEY (organization_id, id),
    constraint clones_storage_key UNIQUE (organization_id, storage_id)
);
alter table billing.clones enable row level security;
CREATE INDEX clones_purchase ON billing.clones USING btree (purchase_id, organization_id);
CREATE INDEX clones_source ON billing.clones USING btree (source_storage_id, source_organization_id);
CREATE UNIQUE INDEX clones_live_key ON billing.clones USING btree (purchase_id, organization_id) WHERE (ended_at IS NULL);
create policy readers on billing.clones as permissive for select to authenticated, faregate_reader using ((organization_id = ANY (ARRAY( SELECT billing.readable('read'::text) AS readable))));
grant select (copied_bytes, copied_objects, created_at, ended_at, failure, finished_at, id, organization_id, purchase_id, slug, source_bytes, status, storage_id) on table billing.clones to authenticated, faregate_reader;

-- Where two sides disagree.
create table billing.discrepancies (
    id uuid not null default billing.uuidv7(), -- Time-ordered (UUIDv7).
    kind billing.discrepancy_kind not null, -- What disagrees; ledger: the ledger with itself.
    organization_id uuid, -- Whose money it is about; null: nobody's that we know.
    subject text not null, -- The provider's object, or what the rule of the ledger is about.
    ledger_rule text, -- The rule of billing.verify that does not hold.
    expected_micros bigint, -- In µ$: what the provider says, or what transfers add up to. A rule that counts does so in millionths.
    found_micros bigint, -- What our books say, in µ$ (or millionths).
    note text, -- What the provider says of an amount that is not in whole cents of USD.
    first_seen_at timestamp with time zone not null default billing.now(), -- When a run first saw it (UTC).
    last_seen_at timestamp with time zone not null default billing.now(), -- When a run last saw it (UTC).
    resolved_at timestamp with time zone, -- When it was found to agree (UTC); null: it is open.
    constraint discrepancies_pkey PRIMARY KEY (id)
);
alter table billing.discrepancies enable row level security;
CREATE INDEX discrepancies_open_ledger ON billing.discrepancies USING btree (organization_id) WHERE ((resolved_at IS NULL) AND (kind = 'ledger'::billing.discrepancy_kind));
CREATE UNIQUE INDEX discrepancies_open_key ON billing.discrepancies USING btree (kind, subject, COALESCE(organization_id, '00000000-0000-0000-0000-000000000000'::uuid), COALESCE(ledger_rule, ''::text)) WHERE (resolved_at IS NULL);

-- Which grants paid a transfer out of the wallet that more than one grant paid, and how much each.
-- Append-only.
create table billing.draw_downs (
    organization_id uuid not null, -- The organization it belongs to.
    sequence bigint not null, -- The transfer that was paid.
    grant_id uuid not null, -- One of the grants that paid it.
    amount_micros billing.amount not null, -- How much this grant paid, in µ$.
    constraint draw_downs_pkey PRIMARY KEY (organization_id, sequence, grant_id)
);
alter table billing.draw_downs enable row level security;
CREATE TRIGGER draw_downs_append_only BEFORE DELETE OR UPDATE ON billing.draw_downs FOR EACH ROW EXECUTE FUNCTION billing.refuse_change();
CREATE TRIGGER draw_downs_no_truncate BEFORE TRUNCATE ON billing.draw_downs FOR EACH STATEMENT EXECUTE FUNCTION billing.refuse_change();

-- Which grants paid every transfer out of a wallet, one or several.
create view billing.draws (
    organization_id uuid, -- The organization it belongs to.
    sequence bigint, -- The transfer that was paid.
    grant_id uuid, -- The grant that paid it, or one of them.
    amount_micros billing.amount -- How much this grant paid, in µ$.
) with (security_invoker=true) as
 SELECT t.organization_id,
    t.sequence,
    t.grant_id,
    t.amount_micros
   FROM billing.transfers t
  WHERE t.debit_account = 'wallet'::billing.account AND t.grant_id IS NOT NULL
UNION ALL
 SELECT d.organization_id,
    d.sequence,
    d.grant_id,
    d.amount_micros
   FROM billing.draw_downs d;

-- An organization's own terms of a feature, which count instead of its plan's.
create table billing.entitlements (
    organization_id uuid not null, -- The organization it belongs to.
    feature_id text not null, -- The feature.
    limit_id uuid not null default billing.uuidv7(), -- What its counter is called: a new one with every change of the limit.
    is_granted boolean not null, -- Whether the feature may be used.
    value jsonb, -- The value of a static feature.
    meter text, -- What of its usage is counted; null: there is no limit.
    period billing.usage_period, -- In which period.
    limit_quantity numeric, -- How much of it there may be.
    enforcement billing.enforcement, -- What happens at the limit.
    constraint entitlements_limit_is_whole CHECK ((num_nonnulls(meter, period, limit_quantity, enforcement) = ANY (ARRAY[0, 4]))),
    constraint entitlements_limit_not_negative CHECK ((limit_quantity >= (0)::numeric)),
    constraint entitlements_feature_id_fkey FOREIGN KEY (feature_id) REFERENCES billing.features(id),
    constraint entitlements_organization_id_fkey FOREIGN KEY (organization_id) REFERENCES billing.organizations(id),
    constraint entitlements_pkey PRIMARY KEY (organization_id, feature_id)
);
alter table billing.entitlements enable row level security;
CREATE INDEX entitlements_feature_id ON billing.entitlements USING btree (feature_id);
create policy readers on billing.entitlements as permissive for select to authenticated, faregate_reader using ((organization_id = ANY (ARRAY( SELECT billing.readable('read'::text) AS readable))));
grant select (enforcement, feature_id, is_granted, limit_id, limit_quantity, meter, organization_id, period, value) on table billing.entitlements to authenticated, faregate_reader;

-- What is granted and not simply there.
create table billing.features (
    id text not null, -- What events call it.
    kind billing.feature_kind not null, -- What there is to say of it.
    description text not null, -- What it is, for people.
    constraint features_description_length CHECK (((char_length(description) >= 1) AND (char_length(description) <= 200))),
    constraint features_id_is_a_name CHECK ((id ~ '^[a-z0-9][a-z0-9_.-]{0,99}$'::text)),
    constraint features_pkey PRIMARY KEY (id)
);
alter table billing.features enable row level security;
create policy readers on billing.features as permissive for select to authenticated, faregate_reader using ((EXISTS ( SELECT billing.readable('read'::text) AS readable)));
grant select (description, id, kind) on table billing.features to authenticated, faregate_reader;

-- A lot of money in a wallet. Draw-down order: priority, earliest expiry (none last), promotional
-- first, oldest. The sum of what remains is the wallet's settled balance. No foreign key: whoever
-- makes a grant has just updated the wallet.
create table billing.grants (
    organization_id uuid not null, -- The organization it belongs to.
    id uuid not null default billing.uuidv7(), -- Time-ordered (UUIDv7).
    category billing.grant_category not null, -- paid: bought by the customer. promotional: given to them.
    priority smallint not null default 100, -- Lower numbers are drawn first.
    amount_micros billing.amount not null, -- What it brought, in µ$.
    remaining_micros bigint not null, -- What of that is neither spent nor taken back, in µ$.
    is_used_up boolean not null generated as (remaining_micros = 0), -- Whether nothing remains.
    payment_id uuid, -- The payment whose money or bonus it is; null: it came without one.
    note text, -- Why an operator gave it; the customer reads this.
    effective_at timestamp with time zone not null default billing.now(), -- Its money is not there before (UTC).
    expires_at timestamp with time zone, -- From then on (UTC) what remains is taken, but not what a hold keeps; null: never.
    sequence bigint, -- The transfer that brought it; null: it is not effective yet and nothing remains.
    constraint grants_remaining_in_bounds CHECK (((remaining_micros >= 0) AND (remaining_micros <= (amount_micros)::bigint))),
    constraint grants_pkey PRIMARY KEY (organization_id, id)
) with (fillfactor=50);
alter table billing.grants enable row level security;
CREATE INDEX grants_expiring ON billing.grants USING btree (expires_at) WHERE ((NOT is_used_up) AND (expires_at IS NOT NULL));
CREATE INDEX grants_in_draw_down_order ON billing.grants USING btree (organization_id, priority, expires_at, category, id) WHERE (NOT is_used_up);
CREATE INDEX grants_payment ON billing.grants USING btree (payment_id) WHERE (payment_id IS NOT NULL);
CREATE INDEX grants_scheduled ON billing.grants USING btree (effective_at) WHERE (sequence IS NULL);
create policy readers on billing.grants as permissive for select to authenticated, faregate_reader using ((organization_id = ANY (ARRAY( SELECT billing.readable('read'::text) AS readable))));
grant select (amount_micros, category, effective_at, expires_at, id, is_used_up, note, organization_id, payment_id, priority, remaining_micros, sequence) on table billing.grants to authenticated, faregate_reader;

-- Money reserved in a wallet, under the id of what it is reserved for. While it is open it keeps
-- amount − captured of the wallet from everybody else; a renewal raises the amount, a capture takes
-- part of it, closing gives the rest back. A renewal rewrites only this row, so what seldom changes
-- stands elsewhere. No foreign key to the wallet, which has just been updated wherever a hold is
-- opened.
create table billing.holds (
    organization_id uuid not null, -- The organization it belongs to.
    id uuid not null, -- Time-ordered (UUIDv7); a session's or storage resource's hold has its id.
    kind billing.hold_kind not null, -- session: kept by sweeps while a session runs. storage: kept by accrual while it is rented. usage: opened and captured by an operator.
    amount_micros bigint not null, -- Reserved so far in µ$, what was captured of it included; once closed, what was captured.
    captured_micros bigint not null default 0, -- What of it was taken, in µ$.
    captured_until timestamp with time zone not null default billing.now(), -- A session or storage is charged up to then (UTC): a clock that is set back does not count that time again.
    expires_at timestamp with time zone not null, -- Until when it keeps money (UTC); a session or storage is paid for until then.
    is_final boolean not null, -- Whether nothing more can be held beyond expires_at.
    due_at timestamp with time zone, -- When a sweep must renew or close it (UTC); null: it is closed.
    outcome billing.hold_outcome, -- What became of it; only of a closed hold of usage.
    description text, -- What an operator says that it is for; only of usage.
    opened_by text, -- Who opened it, passport:<id> or user:<id>; only of usage.
    constraint holds_keep_what_is_not_captured CHECK ((((captured_micros >= 0) AND (captured_micros <= amount_micros)) AND ((due_at IS NOT NULL) OR (amount_micros = captured_micros)))),
    constraint holds_pkey PRIMARY KEY (organization_id, id)
) with (fillfactor=50);
alter table billing.holds enable row level security;
CREATE INDEX holds_due ON billing.holds USING btree (kind, due_at) WHERE (due_at IS NOT NULL);
create policy readers on billing.holds as permissive for select to authenticated, faregate_reader using ((organization_id = ANY (ARRAY( SELECT billing.readable('read'::text) AS readable))));
grant select (amount_micros, captured_micros, captured_until, description, due_at, expires_at, id, is_final, kind, organization_id, outcome) on table billing.holds to authenticated, faregate_reader;

-- The answer a key was given. Never holds a secret: a passport's key is not part of any stored
-- answer.
create table billing.idempotency_keys (
    scope_id uuid not null, -- The organization; for a user without one, the user.
    key text not null, -- What the caller sent as Idempotency-Key.
    operation text not null, -- What it was used for; for another operation it is refused.
    request_hash bytea not null, -- SHA-256 of the request: another one with this key is refused.
    response jsonb not null, -- What the first call answered, and every repetition.
    created_at timestamp with time zone not null default billing.now(), -- When the first call was made (UTC).
    constraint idempotency_keys_pkey PRIMARY KEY (scope_id, key)
);
alter table billing.idempotency_keys enable row level security;

-- The service account at Google of an organization: what is wanted, and what the cloud has of it.
create table billing.identities (
    organization_id uuid not null, -- The organization that acts as it.
    status billing.identity_status not null default 'requested'::billing.identity_status, -- requested, provisioning, ready, failed, deleting or deleted.
    account_id text not null default billing.random_name(), -- Its name at Google: random, so that nobody can take it before.
    email text, -- Its address at Google, by which it is let in; null: it is not there yet.
    namespace text not null default billing.random_name(), -- The namespace of Kubernetes whose service account may act as it.
    kubernetes_account text not null default 'default'::text, -- The service account of Kubernetes, in that namespace, that may act as it.
    task_id uuid, -- The row of the outbox that is to make the cloud so.
    failure text, -- Why it could not be made, or why the last attempt did not succeed; null: nothing failed.
    created_at timestamp with time zone not null default billing.now(), -- When it was asked for (UTC).
    asked_at timestamp with time zone, -- When the cloud was last asked to make it (UTC); null: never.
    ready_at timestamp with time zone, -- When the cloud had it (UTC); null: it is not there yet.
    deleted_at timestamp with time zone, -- When the cloud no longer had it (UTC); null: it may still have it.
    constraint identities_account_id_is_ours CHECK ((account_id ~ '^fg-[0-9a-f]{26}$'::text)),
    constraint identities_kubernetes_account_is_a_label CHECK ((kubernetes_account ~ '^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$'::text)),
    constraint identities_namespace_is_ours CHECK ((namespace ~ '^fg-[0-9a-f]{26}$'::text)),
    constraint identities_organization_id_fkey FOREIGN KEY (organization_id) REFERENCES billing.organizations(id),
    constraint identities_pkey PRIMARY KEY (organization_id),
    constraint identities_account_id_key UNIQUE (account_id),
    constraint identities_namespace_key UNIQUE (namespace)
);
alter table billing.identities enable row level security;
create policy readers on billing.identities as permissive for select to authenticated, faregate_reader using ((organization_id = ANY (ARRAY( SELECT billing.readable('read'::text) AS readable))));
grant select (created_at, deleted_at, email, failure, kubernetes_account, namespace, organization_id, ready_at, status) on table billing.identities to authenticated, faregate_reader;

-- Who was asked by e-mail to join an organization. An address has one open invitation to each.
create table billing.invitations (
    organization_id uuid not null, -- The organization that they may join.
    id uuid not null default billing.uuidv7(), -- Time-ordered (UUIDv7).
    email text not null, -- The address that was invited: only its owner can accept.
    role text not null, -- What they will be: owner, admin or member.
    invited_by text not null, -- Who invited: user:<id>, or the passport:<id> of an operator.
    token_hash bytea, -- The SHA-256 of the mail's token; null before the first attempt to send it.
    failure text, -- Why the mail was refused for good; null: it was not.
    sent_at timestamp with time zone, -- When Supabase Auth had sent the mail (UTC).
    accepted_at timestamp with time zone, -- When they joined (UTC).
    revoked_at timestamp with time zone, -- When (UTC) it was withdrawn, or replaced by a newer one; or whoever invited lost the right to, or the organization was closed.
    expires_at timestamp with time zone not null default (billing.now() + '7 days'::interval), -- It cannot be accepted from then on (UTC).
    created_at timestamp with time zone not null default billing.now(), -- When they were invited (UTC).
    constraint invitations_end_once CHECK ((num_nonnulls(accepted_at, revoked_at) <= 1)),
    constraint invitations_role_is_known CHECK ((role = ANY (ARRAY['owner'::text, 'admin'::text, 'member'::text]))),
    constraint invitations_token_hash_is_sha256 CHECK ((octet_length(token_hash) = 32)),
    constraint invitations_organization_id_fkey FOREIGN KEY (organization_id) REFERENCES billing.organizations(id),
    constraint invitations_pkey PRIMARY KEY (organization_id, id),
    constraint invitations_token_hash_key UNIQUE (token_hash)
);
alter table billing.invitations enable row level security;
CREATE INDEX invitations_invited_by ON billing.invitations USING btree (invited_by, created_at);
CREATE UNIQUE INDEX invitations_open_key ON billing.invitations USING btree (organization_id, lower(email)) WHERE ((accepted_at IS NULL) AND (revoked_at IS NULL));
create policy readers on billing.invitations as permissive for select to authenticated using ((organization_id = ANY (ARRAY( SELECT billing.readable('billing'::text) AS readable))));
grant select (accepted_at, created_at, email, expires_at, failure, id, invited_by, organization_id, revoked_at, role, sent_at) on table billing.invitations to authenticated, faregate_reader;

-- A user in an organization, and the role that decides what they may do.
create table billing.members (
    organization_id uuid not null, -- The organization it belongs to.
    user_id uuid not null, -- Their login at Supabase Auth.
    role text not null, -- What they may do: owner, admin or member.
    created_at timestamp with time zone not null default billing.now(), -- When they joined (UTC).
    constraint members_role_is_known CHECK ((role = ANY (ARRAY['owner'::text, 'admin'::text, 'member'::text]))),
    constraint members_organization_id_fkey FOREIGN KEY (organization_id) REFERENCES billing.organizations(id),
    constraint members_user_id_fkey FOREIGN KEY (user_id) REFERENCES auth.users(id) ON DELETE CASCADE,
    constraint members_pkey PRIMARY KEY (organization_id, user_id)
);
alter table billing.members enable row level security;
CREATE INDEX members_user_id ON billing.members USING btree (user_id);
CREATE TRIGGER members_passports AFTER DELETE OR UPDATE OF role ON billing.members FOR EACH ROW EXECUTE FUNCTION billing.revoke_passports();
CREATE TRIGGER members_pause_without_owner AFTER DELETE ON billing.members FOR EACH ROW EXECUTE FUNCTION billing.pause_without_owner();
CREATE TRIGGER members_void_invitations AFTER DELETE OR UPDATE OF role ON billing.members FOR EACH ROW EXECUTE FUNCTION billing.void_invitations();
create policy readers on billing.members as permissive for select to authenticated using ((organization_id = ANY (ARRAY( SELECT billing.readable('read'::text) AS readable))));
grant select (created_at, organization_id, role, user_id) on table billing.members to authenticated, faregate_reader;

-- What is counted twice on purpose: a token that is read from the cache is an input token, too, as
-- OpenTelemetry counts. Every part stands here with every whole that it is in.
create table billing.meter_parts (
    part text not null, -- The meter that counts some.
    whole text not null, -- The meter that counts these and others.
    constraint meter_parts_pkey PRIMARY KEY (part, whole)
);
alter table billing.meter_parts enable row level security;

-- What provider_models said about the names that events brought, so that it is asked once. Emptied by
-- the loader.
create table billing.model_names (
    provider_id text not null, -- The provider that an event named.
    name text not null, -- The model that it named.
    price_provider_id text, -- The provider whose prices count; null: the name is unknown.
    price_model_id text, -- The model whose prices count; null: the name is unknown.
    constraint model_names_mean_a_model_or_none CHECK (((price_provider_id IS NULL) = (price_model_id IS NULL))),
    constraint model_names_pkey PRIMARY KEY (provider_id, name)
);
alter table billing.model_names enable row level security;

-- The tenant and paying customer. One that an operator registered by e-mail is unclaimed (claimed_at
-- is null) until the owner of that address signs in and registers. One that is closed (closed_at) does
-- nothing any more; its members still read its books.
create table billing.organizations (
    id uuid not null default billing.uuidv7(), -- Time-ordered (UUIDv7).
    name text not null, -- What its people call it; not unique.
    plan_id text not null, -- What it may do and what it pays.
    billing_email text not null, -- Where receipts and the provider's mail go.
    claimed_at timestamp with time zone, -- When its owner signed in (UTC); null: an operator registered it and waits for them.
    closed_at timestamp with time zone, -- When it was closed (UTC); null: it is not.
    created_at timestamp with time zone not null default billing.now(), -- When it was registered (UTC).
    constraint organizations_name_length CHECK (((char_length(name) >= 1) AND (char_length(name) <= 100))),
    constraint organizations_plan_id_fkey FOREIGN KEY (plan_id) REFERENCES billing.plans(id),
    constraint organizations_pkey PRIMARY KEY (id)
);
alter table billing.organizations enable row level security;
CREATE INDEX organizations_plan_id ON billing.organizations USING btree (plan_id);
CREATE UNIQUE INDEX organizations_unclaimed_email_key ON billing.organizations USING btree (lower(billing_email)) WHERE (claimed_at IS NULL);
CREATE TRIGGER organizations_usage_counters AFTER UPDATE OF plan_id ON billing.organizations FOR EACH ROW WHEN (old.plan_id <> new.plan_id) EXECUTE FUNCTION billing.forget_plans_counters();
create policy readers on billing.organizations as permissive for select to authenticated, faregate_reader using ((id = ANY (ARRAY( SELECT billing.readable('read'::text) AS readable))));
grant select (billing_email, closed_at, created_at, id, name, plan_id) on table billing.organizations to authenticated, faregate_reader;

-- What a committed transaction wants done outside. A task queue is told after the commit; the row
-- names the task, so telling it twice makes one task. The task's function acknowledges the row in the
-- transaction that records what became of it; one that nobody acknowledged within an hour of its time
-- is told to the queue once more, under another name.
create table billing.outbox (
    organization_id uuid not null, -- The organization it belongs to.
    id uuid not null default billing.uuidv7(), -- Time-ordered (UUIDv7). The task's name contains it.
    topic billing.outbox_topic not null, -- What it is about: a task queue and a function of this name, or a notification.
    payload jsonb not null, -- What the task or the customer is told.
    run_at timestamp with time zone not null default billing.now(), -- The task runs no sooner (UTC).
    tell_at timestamp with time zone not null default billing.now(), -- When its queue is to be told (UTC), for the first time or again.
    enqueued_at timestamp with time zone, -- When the task queue last had it (UTC); null: it waits for that.
    enqueues integer not null default 0, -- How many times the task queue had it.
    attempts integer not null default 0, -- How many times its function began, where that is counted.
    leased_until timestamp with time zone, -- Until then (UTC) one run of its function is on it and others wait; null: none is.
    failure text, -- Why the last attempt failed; null: it did not.
    acknowledged_at timestamp with time zone, -- When its function said that nothing is left to do (UTC); null: something is.
    created_at timestamp with time zone not null default billing.now(), -- When it was written (UTC).
    constraint outbox_organization_id_fkey FOREIGN KEY (organization_id) REFERENCES billing.organizations(id),
    constraint outbox_pkey PRIMARY KEY (organization_id, id)
);
alter table billing.outbox enable row level security;
CREATE INDEX outbox_notifications ON billing.outbox USING btree (organization_id, id) WHERE (topic = 'notification'::billing.outbox_topic);
CREATE INDEX outbox_to_tell ON billing.outbox USING btree (topic, tell_at) WHERE ((acknowledged_at IS NULL) AND (topic <> 'notification'::billing.outbox_topic));
create policy readers on billing.outbox as permissive for select to authenticated, faregate_reader using (((topic = 'notification'::billing.outbox_topic) AND (organization_id = ANY (ARRAY( SELECT billing.readable('read'::text) AS readable)))));
grant select (created_at, id, organization_id, payload, topic) on table billing.outbox to authenticated, faregate_reader;

-- When a passport was last used. Apart from the passport, because every call may lock it: two calls
-- that rotate each other's passport would wait for each other.
create table billing.passport_uses (
    organization_id uuid not null, -- The organization it belongs to.
    passport_id uuid not null, -- The passport that was used.
    last_used_at timestamp with time zone not null, -- To the minute (UTC).
    constraint passport_uses_passport_fkey FOREIGN KEY (organization_id, passport_id) REFERENCES billing.passports(organization_id, id),
    constraint passport_uses_pkey PRIMARY KEY (organization_id, passport_id)
);
alter table billing.passport_uses enable row level security;
create policy readers on billing.passport_uses as permissive for select to authenticated, faregate_reader using ((organization_id = ANY (ARRAY( SELECT billing.readable('read'::text) AS readable))));
grant select (last_used_at, organization_id, passport_id) on table billing.passport_uses to authenticated, faregate_reader;

-- An API key of an organization. Shown once; only its SHA-256 is stored.
create table billing.passports (
    organization_id uuid not null, -- The organization it belongs to.
    id uuid not null default billing.uuidv7(), -- Time-ordered (UUIDv7).
    name text not null, -- What its people call it; not unique.
    permissions text[] not null, -- What it may do: read, write, billing, admin.
    user_id uuid, -- The member whose it is, because they made it, or the passport that it was made with was theirs: it ends when they go. Null: an operator made it. No foreign key: it tells of users who are gone, too.
    key_hash bytea not null, -- SHA-256 of the key.
    key_prefix text not null, -- The first 12 characters, so that a person can tell keys apart.
    created_by text not null, -- Who issued it: passport:<id>, user:<id> or operator.
    expires_at timestamp with time zone, -- From then on (UTC) it opens nothing; null: never.
    revoked_at timestamp with time zone, -- When it was ended before that (UTC).
    created_at timestamp with time zone not null default billing.now(), -- When it was issued (UTC).
    constraint passports_key_hash_is_sha256 CHECK ((octet_length(key_hash) = 32)),
    constraint passports_key_prefix_is_short CHECK ((key_prefix ~ '^fg_live_[A-Za-z0-9_-]{4}$'::text)),
    constraint passports_name_length CHECK (((char_length(name) >= 1) AND (char_length(name) <= 100))),
    constraint passports_permissions_are_known CHECK (((permissions <@ ARRAY['read'::text, 'write'::text, 'billing'::text, 'admin'::text]) AND ((cardinality(permissions) >= 1) AND (cardinality(permissions) <= 4)))),
    constraint passports_organization_id_fkey FOREIGN KEY (organization_id) REFERENCES billing.organizations(id),
    constraint passports_pkey PRIMARY KEY (organization_id, id),
    constraint passports_key_hash_key UNIQUE (key_hash)
);
alter table billing.passports enable row level security;
create policy readers on billing.passports as permissive for select to authenticated, faregate_reader using ((organization_id = ANY (ARRAY( SELECT billing.readable('read'::text) AS readable))));
grant select (created_at, expires_at, id, key_prefix, name, organization_id, permissions, revoked_at, user_id) on table billing.passports to authenticated, faregate_reader;

-- Every genuine notification of a payment provider, once, and what became of it.
create table billing.payment_events (
    provider billing.payment_provider not null, -- Who sent it.
    id text not null, -- The provider's id: the same one again does nothing.
    type text not null, -- What it is about, in the provider's word.
    payload jsonb not null, -- All of it, as it was sent.
    outcome billing.payment_outcome not null, -- What it did here. needs_review: money that was paid but not credited, because of its currency or amount or because it was credited elsewhere; a person decides.
    organization_id uuid, -- The organization whose money it is about; null: none of ours.
    received_at timestamp with time zone not null default billing.now(), -- When it was stored (UTC).
    constraint payment_events_pkey PRIMARY KEY (provider, id)
);
alter table billing.payment_events enable row level security;
CREATE INDEX payment_events_to_review ON billing.payment_events USING btree (received_at) WHERE (outcome = 'needs_review'::billing.payment_outcome);

-- Money that arrived at a provider. What has gone back since is what the ledger has followed so far
-- (billing.follow_reversals).
create table billing.payments (
    organization_id uuid not null, -- The organization it belongs to.
    id uuid not null default billing.uuidv7(), -- Time-ordered (UUIDv7).
    top_up_id uuid not null, -- The top-up that it paid.
    provider billing.payment_provider not null, -- Who took the money.
    provider_payment_id text not null, -- The provider's id, a permanent key: one payment is credited once.
    amount_micros billing.amount not null, -- What the provider says was paid, in µ$.
    refunded_micros bigint not null default 0, -- What of it was refunded, in µ$.
    disputed_micros bigint not null default 0, -- What of it is disputed or was lost in a dispute, in µ$.
    bonus_returned_micros bigint not null default 0, -- What of its bonus was taken back in proportion, in µ$.
    fee_micros bigint not null default 0, -- What the provider took for its disputes, in µ$: the operator's loss.
    paid_at timestamp with time zone not null, -- When it was credited (UTC).
    constraint payments_returned_in_bounds CHECK (((refunded_micros >= 0) AND (disputed_micros >= 0) AND ((refunded_micros + disputed_micros) <= (amount_micros)::bigint))),
    constraint payments_top_up_fkey FOREIGN KEY (organization_id, top_up_id) REFERENCES billing.top_ups(organization_id, id),
    constraint payments_pkey PRIMARY KEY (organization_id, id),
    constraint payments_provider_payment_key UNIQUE (provider, provider_payment_id),
    constraint payments_top_up_key UNIQUE (top_up_id, organization_id)
);
alter table billing.payments enable row level security;
CREATE INDEX payments_paid_at ON billing.payments USING btree (paid_at);
CREATE TRIGGER payments_append_only BEFORE DELETE OR UPDATE OF organization_id, id, top_up_id, provider, provider_payment_id, amount_micros, paid_at ON billing.payments FOR EACH ROW EXECUTE FUNCTION billing.refuse_change();
CREATE TRIGGER payments_no_truncate BEFORE TRUNCATE ON billing.payments FOR EACH STATEMENT EXECUTE FUNCTION billing.refuse_change();
create policy readers on billing.payments as permissive for select to authenticated, faregate_reader using ((organization_id = ANY (ARRAY( SELECT billing.readable('billing'::text) AS readable))));
grant select (amount_micros, disputed_micros, id, organization_id, paid_at, provider, provider_payment_id, refunded_micros, top_up_id) on table billing.payments to authenticated, faregate_reader;

-- Whether a plan includes a feature, and its terms.
create table billing.plan_entitlements (
    plan_id text not null, -- The plan.
    feature_id text not null, -- The feature.
    limit_id uuid not null default billing.uuidv7(), -- What its counters are called: a new one with every change of the limit.
    is_granted boolean not null, -- Whether the feature may be used.
    value jsonb, -- The value of a static feature.
    meter text, -- What of its usage is counted; null: there is no limit.
    period billing.usage_period, -- In which period.
    limit_quantity numeric, -- How much of it there may be.
    enforcement billing.enforcement, -- What happens at the limit.
    constraint plan_entitlements_limit_is_whole CHECK ((num_nonnulls(meter, period, limit_quantity, enforcement) = ANY (ARRAY[0, 4]))),
    constraint plan_entitlements_limit_not_negative CHECK ((limit_quantity >= (0)::numeric)),
    constraint plan_entitlements_feature_id_fkey FOREIGN KEY (feature_id) REFERENCES billing.features(id),
    constraint plan_entitlements_plan_id_fkey FOREIGN KEY (plan_id) REFERENCES billing.plans(id),
    constraint plan_entitlements_pkey PRIMARY KEY (plan_id, feature_id)
);
alter table billing.plan_entitlements enable row level security;
CREATE INDEX plan_entitlements_feature_id ON billing.plan_entitlements USING btree (feature_id);
create policy readers on billing.plan_entitlements as permissive for select to authenticated, faregate_reader using ((EXISTS ( SELECT billing.readable('read'::text) AS readable)));
grant select (enforcement, feature_id, is_granted, limit_id, limit_quantity, meter, period, plan_id, value) on table billing.plan_entitlements to authenticated, faregate_reader;

-- What an organization may do.
create table billing.plans (
    id text not null, -- What prices and organizations call it.
    allowed_tiers text[] not null, -- The sizes of sessions that may be started on it.
    session_window_seconds integer not null default 600, -- How many seconds ahead money is held for a running session. Half a window before its end it is renewed.
    registration_bonus_micros bigint not null default 0, -- Promotional money in µ$ for a new organization whose owner never had it.
    plan_after_top_up_id text, -- Where the first paid top-up moves an organization; null: nowhere.
    max_passports integer not null default 100, -- How many live passports an organization may have at a time.
    max_workspaces integer not null default 100, -- How many workspaces an organization may have at a time.
    storage_window_seconds integer not null default 86400, -- How many seconds ahead money is held for rented storage. Half a window before its end it is renewed.
    storage_grace_seconds integer not null default 259200, -- For how many seconds storage stays as it is when the money for it has run out.
    storage_read_only_seconds integer not null default 604800, -- For how many seconds after that it can only be read, before its deletion is announced.
    storage_notice_seconds integer not null default 604800, -- How many seconds lie between that announcement and the deletion.
    initial_storage_gb integer not null default 0, -- The size in GB of the bucket that comes with a registration, free of charge; 0: none does.
    has_identity boolean not null default false, -- Whether its organizations have a service account at Google to act as.
    constraint plans_id_is_a_word CHECK ((id ~ '^[a-z]{2,32}$'::text)),
    constraint plans_initial_storage_not_negative CHECK ((initial_storage_gb >= 0)),
    constraint plans_max_passports_positive CHECK ((max_passports > 0)),
    constraint plans_max_workspaces_positive CHECK ((max_workspaces > 0)),
    constraint plans_registration_bonus_not_negative CHECK ((registration_bonus_micros >= 0)),
    constraint plans_session_window_is_sane CHECK (((session_window_seconds >= 60) AND (session_window_seconds <= 86400))),
    constraint plans_storage_steps_not_negative CHECK ((LEAST(storage_grace_seconds, storage_read_only_seconds, storage_notice_seconds) >= 0)),
    constraint plans_storage_window_is_sane CHECK (((storage_window_seconds >= 3600) AND (storage_window_seconds <= 31536000))),
    constraint plans_tiers_exist CHECK ((allowed_tiers <@ ARRAY['small'::text, 'medium'::text, 'large'::text, 'xlarge'::text, 'gpu'::text])),
    constraint plans_plan_after_top_up_id_fkey FOREIGN KEY (plan_after_top_up_id) REFERENCES billing.plans(id),
    constraint plans_pkey PRIMARY KEY (id)
);
alter table billing.plans enable row level security;
CREATE INDEX plans_plan_after_top_up_id ON billing.plans USING btree (plan_after_top_up_id);

-- A rule of the operators: what it matches, and whether that is denied, allowed or limited.
create table billing.policies (
    id uuid not null default billing.uuidv7(), -- Time-ordered (UUIDv7).
    priority integer not null, -- A lower one is asked first; of equals, the older.
    description text not null, -- What operators say that it is for.
    match jsonb not null, -- Conditions, all of which must hold: for each of organization, plan, permission, action, caller, tier, feature, hour (0 to 23, UTC) and weekday (1, Monday, to 7, UTC) the values of which one must be; for amount a range in µ$ (above_micros, up_to_micros).
    effect text not null, -- deny: refused. allow: no later rule is asked. limit: takes a token, or is refused.
    limit_per text, -- limit: whether each passport (or signed-in user), each organization or each address has a bucket.
    capacity integer, -- limit: how many tokens a bucket holds.
    refill integer, -- limit: how many come back within refill_seconds.
    refill_seconds integer, -- limit: within how many seconds refill tokens come back, evenly.
    is_enabled boolean not null, -- Whether it is asked.
    is_about_spending boolean not null generated as (match ?| ARRAY['tier'::text, 'feature'::text, 'amount'::text]), -- Whether it names what is had for the money (tier, feature, amount): it is asked where that is known. Others are asked when the caller is authenticated.
    created_by text not null, -- Who made it: passport:<id> or user:<id>.
    created_at timestamp with time zone not null default billing.now(), -- When it was made (UTC).
    constraint policies_description_length CHECK (((char_length(description) >= 1) AND (char_length(description) <= 200))),
    constraint policies_effect_is_known CHECK ((effect = ANY (ARRAY['allow'::text, 'deny'::text, 'limit'::text]))),
    constraint policies_limit_per_is_known CHECK ((limit_per = ANY (ARRAY['passport'::text, 'organization'::text, 'ip'::text]))),
    constraint policies_limits_are_whole CHECK ((num_nonnulls(limit_per, capacity, refill, refill_seconds) =
CASE
    WHEN (effect = 'limit'::text) THEN 4
    ELSE 0
END)),
    constraint policies_match_is_known CHECK (billing.is_policy_match(match)),
    constraint policies_priority_in_bounds CHECK (((priority >= 0) AND (priority <= 32767))),
    constraint policies_rate_in_bounds CHECK ((((capacity >= 1) AND (capacity <= 1000000)) AND ((refill >= 1) AND (refill <= 1000000)) AND ((refill_seconds >= 1) AND (refill_seconds <= 2678400)))),
    constraint policies_pkey PRIMARY KEY (id)
);
alter table billing.policies enable row level security;
CREATE INDEX policies_enabled ON billing.policies USING btree (priority, id) WHERE is_enabled;

-- What sessions can be started by name. A row more is a preset more.
create table billing.presets (
    id text not null, -- What customers call it.
    title text not null, -- What it is called in a list.
    tier text not null, -- How large its session is.
    minutes integer not null, -- After so many minutes its session ends by itself.
    storage_kind billing.storage_kind, -- Which kind of storage its workspace must have; null: none.
    storage_gb integer, -- Of at least so many GB.
    space text, -- Which space its workspace must have, by its slug; null: none.
    is_open boolean not null default true, -- Whether something new can be started by it.
    constraint presets_id_is_a_word CHECK ((id ~ '^[a-z][a-z0-9-]{1,30}$'::text)),
    constraint presets_minutes_in_bounds CHECK (((minutes >= 1) AND (minutes <= ((31 * 24) * 60)))),
    constraint presets_storage_is_whole CHECK ((num_nulls(storage_kind, storage_gb) = ANY (ARRAY[0, 2]))),
    constraint presets_storage_positive CHECK ((storage_gb > 0)),
    constraint presets_tier_is_known CHECK ((tier = ANY (ARRAY['small'::text, 'medium'::text, 'large'::text, 'xlarge'::text, 'gpu'::text]))),
    constraint presets_title_length CHECK (((char_length(title) >= 1) AND (char_length(title) <= 100))),
    constraint presets_pkey PRIMARY KEY (id)
);
alter table billing.presets enable row level security;

-- What is sold, on which plan, for how much, and since when. Append-only: a new price is a new row.
create table billing.prices (
    id uuid not null default billing.uuidv7(), -- A session remembers the row that it froze.
    plan_id text not null, -- The plan on which it is sold for that.
    sku text not null, -- What is sold: session.<tier>, storage.<kind> or space.<name>.
    unit text not null, -- What one of it is: an hour, a gb_month or each (one piece).
    price_micros bigint not null, -- Of one unit, in µ$.
    effective_at timestamp with time zone not null, -- From then on (UTC) it counts, until a later row of the same plan and SKU does.
    constraint prices_in_bounds CHECK (((price_micros >= 0) AND (price_micros <= '1000000000000'::bigint))),
    constraint prices_sku_is_dotted_words CHECK ((sku ~ '^[a-z0-9_-]+(\.[a-z0-9_-]+)+$'::text)),
    constraint prices_unit_is_known CHECK ((unit = ANY (ARRAY['hour'::text, 'gb_month'::text, 'each'::text]))),
    constraint prices_plan_id_fkey FOREIGN KEY (plan_id) REFERENCES billing.plans(id),
    constraint prices_pkey PRIMARY KEY (id),
    constraint prices_plan_sku_effective_key UNIQUE (plan_id, sku, effective_at)
);
alter table billing.prices enable row level security;
CREATE TRIGGER prices_append_only BEFORE DELETE OR UPDATE ON billing.prices FOR EACH ROW EXECUTE FUNCTION billing.refuse_change();
CREATE TRIGGER prices_no_truncate BEFORE TRUNCATE ON billing.prices FOR EACH STATEMENT EXECUTE FUNCTION billing.refuse_change();

-- What storage costs the operator, who adds what they pay. Append-only: a new cost is a new row. No
-- row: it is not known.
create table billing.provider_costs (
    kind billing.storage_kind not null, -- bucket or filestore.
    region_id text not null, -- Where.
    effective_at timestamp with time zone not null, -- From then on (UTC) it counts, until a later row of the same kind and region does.
    gb_month_micros bigint not null, -- What a GB-month (730 hours) costs the operator, in µ$.
    constraint provider_costs_not_negative CHECK ((gb_month_micros >= 0)),
    constraint provider_costs_region_fkey FOREIGN KEY (kind, region_id) REFERENCES billing.regions(kind, id),
    constraint provider_costs_pkey PRIMARY KEY (kind, region_id, effective_at)
);
alter table billing.provider_costs enable row level security;
CREATE TRIGGER provider_costs_append_only BEFORE DELETE OR UPDATE ON billing.provider_costs FOR EACH ROW EXECUTE FUNCTION billing.refuse_change();
CREATE TRIGGER provider_costs_no_truncate BEFORE TRUNCATE ON billing.provider_costs FOR EACH STATEMENT EXECUTE FUNCTION billing.refuse_change();

-- Which names mean which model. The loader replaces those that are not own: they decide about events
-- to come, never about those that are rated.
create table billing.provider_models (
    provider_id text not null, -- Who sells it.
    id text not null, -- What its prices call it.
    position integer not null, -- Where several models take a name, the lowest position does.
    names text[] not null, -- Names that mean it, in lower case.
    pattern text, -- A regular expression of other names that mean it, in lower case; null: there are none.
    context_tokens bigint, -- How many tokens of input and output together it takes; null: it is not known.
    is_deprecated boolean not null default false, -- Whether its provider is about to sell it no more.
    is_own boolean not null default false, -- Whether an operator said what it costs, because the loader does not know it: then its id is its only name.
    constraint provider_models_provider_id_fkey FOREIGN KEY (provider_id) REFERENCES billing.providers(id),
    constraint provider_models_pkey PRIMARY KEY (provider_id, id)
);
alter table billing.provider_models enable row level security;

-- The units of a price. Cost is the sum of quantity × adds_usd. Append-only. No foreign key: only
-- billing.add_provider_price writes here, and to both.
create table billing.provider_price_units (
    price_id uuid not null, -- The price that it belongs to.
    meter text not null, -- What is counted.
    above_input_tokens bigint not null default '-1'::integer, -- For calls with more input tokens than this, up to the next row of the meter; -1: for all.
    unit_price_usd numeric, -- What the provider takes for one, in USD; null: it names no price, a whole includes it.
    adds_usd numeric not null, -- What one more of it adds to the cost in USD beyond what the wholes that it is part of count already.
    constraint provider_price_units_not_negative CHECK ((unit_price_usd >= (0)::numeric)),
    constraint provider_price_units_pkey PRIMARY KEY (price_id, meter, above_input_tokens)
);
alter table billing.provider_price_units enable row level security;
CREATE TRIGGER provider_price_units_append_only BEFORE DELETE OR UPDATE ON billing.provider_price_units FOR EACH ROW EXECUTE FUNCTION billing.refuse_change();
CREATE TRIGGER provider_price_units_no_truncate BEFORE TRUNCATE ON billing.provider_price_units FOR EACH STATEMENT EXECUTE FUNCTION billing.refuse_change();

-- What a provider takes for a model, and since when. Append-only: a new price is a new row. What it
-- takes per unit stands in provider_price_units.
create table billing.provider_prices (
    id uuid not null default billing.uuidv7(), -- A rated event remembers the row that it froze.
    provider_id text not null, -- Who sells it. No foreign key: prices tell of providers that are gone, too.
    model_id text not null, -- What is sold.
    effective_at timestamp with time zone not null, -- From then on (UTC) it counts, until a later row of the same model does.
    source text not null, -- Who says so: a package and its version.
    created_at timestamp with time zone not null default billing.now(), -- When we learned it (UTC).
    constraint provider_prices_pkey PRIMARY KEY (id),
    constraint provider_prices_effective_key UNIQUE (provider_id, model_id, effective_at)
);
alter table billing.provider_prices enable row level security;
CREATE TRIGGER provider_prices_append_only BEFORE DELETE OR UPDATE ON billing.provider_prices FOR EACH ROW EXECUTE FUNCTION billing.refuse_change();
CREATE TRIGGER provider_prices_no_truncate BEFORE TRUNCATE ON billing.provider_prices FOR EACH STATEMENT EXECUTE FUNCTION billing.refuse_change();

-- Who sells models.
create table billing.providers (
    id text not null, -- What events call it.
    fallback_ids text[] not null default '{}'::text[], -- Whose models it sells as well, in the order in which they are asked.
    constraint providers_id_is_a_name CHECK ((id ~ '^[a-z0-9][a-z0-9_.-]{0,63}$'::text)),
    constraint providers_pkey PRIMARY KEY (id)
);
alter table billing.providers enable row level security;

-- A space that an organization bought: it owns it until the money is given back.
create table billing.purchases (
    organization_id uuid not null, -- The organization it belongs to.
    id uuid not null default billing.uuidv7(), -- Time-ordered (UUIDv7).
    space_id uuid not null, -- The space.
    slug text not null, -- What the space is called.
    is_repeatable boolean not null, -- Whether the space could be cloned then: such a one may be bought again.
    price_id uuid not null, -- The row of prices that it froze.
    price_micros bigint not null, -- What it cost, in µ$, frozen.
    sequence bigint, -- The transfer that paid for it; null: it cost nothing.
    purchased_by text not null, -- Who bought it: passport:<id> or user:<id>.
    purchased_at timestamp with time zone not null default billing.now(), -- When they did (UTC).
    refunded_at timestamp with time zone, -- When an operator gave the money back (UTC); null: it is owned.
    refund_reason text, -- Why they did; the customer reads this.
    constraint purchases_price_is_charged CHECK (((sequence IS NULL) = (price_micros = 0))),
    constraint purchases_price_not_negative CHECK ((price_micros >= 0)),
    constraint purchases_refund_has_a_reason CHECK (((refunded_at IS NULL) = (refund_reason IS NULL))),
    constraint purchases_organization_id_fkey FOREIGN KEY (organization_id) REFERENCES billing.organizations(id),
    constraint purchases_space_id_fkey FOREIGN KEY (space_id) REFERENCES billing.spaces(id),
    constraint purchases_pkey PRIMARY KEY (organization_id, id)
);
alter table billing.purchases enable row level security;
CREATE INDEX purchases_space ON billing.purchases USING btree (space_id);
CREATE UNIQUE INDEX purchases_once_key ON billing.purchases USING btree (space_id, organization_id) WHERE ((refunded_at IS NULL) AND (NOT is_repeatable));
create policy readers on billing.purchases as permissive for select to authenticated, faregate_reader using ((organization_id = ANY (ARRAY( SELECT billing.readable('read'::text) AS readable))));
grant select (id, organization_id, price_micros, purchased_at, purchased_by, refund_reason, refunded_at, sequence, slug) on table billing.purchases to authenticated, faregate_reader;

-- The tokens of a limit that are left. A bucket that is not here is full. Unlogged, without foreign
-- keys: it is worth nothing after a crash.
create table billing.rate_buckets (
    organization_id uuid not null, -- Whose calls it counts; the nil UUID where it counts those of an address.
    policy_id uuid not null, -- The rule that limits.
    subject text not null, -- passport:<id> or user:<id>; the address, of which IPv6 counts the first half; empty where the whole organization has one.
    tokens numeric not null, -- How many there were at refilled_at.
    refilled_at timestamp with time zone not null, -- Up to then refilled (UTC): a clock that is set back gives nothing twice.
    constraint rate_buckets_tokens_not_negative CHECK ((tokens >= (0)::numeric)),
    constraint rate_buckets_pkey PRIMARY KEY (organization_id, policy_id, subject)
) with (fillfactor=50);
alter table billing.rate_buckets enable row level security;

-- How much was used by a rate with tiers. Whoever writes it has locked the wallet.
create table billing.rate_totals (
    organization_id uuid not null, -- The organization it belongs to.
    rate_id uuid not null, -- The rate that it was used by.
    meter text not null, -- What was counted.
    month_start date not null, -- The first day of the month (UTC) that it was used in.
    quantity numeric not null, -- How much was used.
    constraint rate_totals_not_negative CHECK ((quantity >= (0)::numeric)),
    constraint rate_totals_pkey PRIMARY KEY (organization_id, rate_id, meter, month_start)
);
alter table billing.rate_totals enable row level security;

-- A run: what the provider lists, compared with our books, and the ledger with itself.
create table billing.reconciliations (
    id uuid not null default billing.uuidv7(), -- Time-ordered (UUIDv7).
    started_by text not null, -- passport:<id> or user:<id> of an operator, or scheduler.
    window_start timestamp with time zone, -- The provider was asked for what was made since (UTC); null: only the ledger was verified.
    window_end timestamp with time zone, -- And for nothing that was made later (UTC).
    started_at timestamp with time zone not null default billing.now(), -- When it began (UTC).
    finished_at timestamp with time zone, -- When it had looked at everything (UTC); null: it goes on, or the provider or we failed.
    compared bigint not null default 0, -- How many objects of the provider it looked at.
    replayed bigint not null default 0, -- How many news only this run brought.
    verified bigint not null default 0, -- How many organizations' ledgers it looked at.
    discrepancies bigint not null default 0, -- How many it saw, new and old.
    constraint reconciliations_window_is_whole CHECK ((((window_start IS NULL) = (window_end IS NULL)) AND (window_start < window_end))),
    constraint reconciliations_pkey PRIMARY KEY (id)
);
alter table billing.reconciliations enable row level security;

-- Where storage can be rented, and who keeps it there. A row more is a region more.
create table billing.regions (
    kind billing.storage_kind not null, -- What can be rented there.
    id text not null, -- What customers call it.
    provider billing.storage_provider not null, -- Who keeps it: gcs, s3 or filestore.
    location text not null, -- What the provider calls it: a location of Cloud Storage, a region of S3, a zone of Filestore.
    endpoint text, -- Of s3: under which name the functions' setting S3_ENDPOINTS has its address and keys.
    min_gb integer not null default 1, -- The smallest size that the provider makes, in GB.
    step_gb integer not null default 1, -- Sizes are multiples of so many GB.
    is_default boolean not null default false, -- Whether it is used where nobody chose.
    is_open boolean not null default true, -- Whether something new can be rented there.
    constraint regions_endpoint_is_of_s3 CHECK (((provider = 's3'::billing.storage_provider) = (endpoint IS NOT NULL))),
    constraint regions_id_is_a_word CHECK ((id ~ '^[a-z][a-z0-9-]{1,30}$'::text)),
    constraint regions_provider_fits_kind CHECK (((kind = 'filestore'::billing.storage_kind) = (provider = 'filestore'::billing.storage_provider))),
    constraint regions_sizes_positive CHECK (((min_gb > 0) AND (step_gb > 0))),
    constraint regions_pkey PRIMARY KEY (kind, id)
);
alter table billing.regions enable row level security;
CREATE UNIQUE INDEX regions_default_key ON billing.regions USING btree (kind) WHERE is_default;

-- Refunds and disputes as the provider last told of them.
create table billing.reversals (
    provider billing.payment_provider not null, -- Who told of it.
    provider_payment_id text not null, -- The payment that it is about, by the provider's id; it may not have arrived here yet.
    id text not null, -- The refund, charge or dispute, by the provider's id.
    kind billing.reversal_kind not null, -- refund, dispute, or refund_total: the sum of a charge's refunds, which some notifications tell instead of the refunds.
    status text not null, -- In the provider's word.
    amount_micros bigint not null, -- What goes back, in µ$.
    fee_micros bigint not null, -- The provider's fees for it, less those it gave back, in µ$.
    is_undone boolean not null, -- The refund failed, the dispute was won or is only an inquiry: the money is ours.
    rank integer not null, -- Of two states of one object the higher is the later, whenever it was told.
    told_at timestamp with time zone not null, -- When the provider told it (UTC): of two states of one rank, the later one stays.
    constraint reversals_amount_in_bounds CHECK (((amount_micros >= 0) AND (amount_micros <= '1000000000000'::bigint))),
    constraint reversals_pkey PRIMARY KEY (provider, provider_payment_id, id)
);
alter table billing.reversals enable row level security;

-- Cards that may be charged in their owner's absence, by the payment they were saved with. The
-- organization is what the payment's metadata says: a card counts only beside our own payment with
-- the same id (billing.saved_card).
create table billing.saved_cards (
    organization_id uuid not null, -- What the payment's metadata says: not to be trusted alone.
    provider billing.payment_provider not null, -- Who keeps the card.
    provider_payment_id text not null, -- The payment that it was saved with, by the provider's id.
    customer_id text not null, -- Its owner, by the provider's id.
    payment_method_id text not null, -- The card, by the provider's id.
    created_at timestamp with time zone not null default billing.now(), -- When this was heard of (UTC).
    constraint saved_cards_organization_id_fkey FOREIGN KEY (organization_id) REFERENCES billing.organizations(id),
    constraint saved_cards_pkey PRIMARY KEY (organization_id, provider, provider_payment_id)
);
alter table billing.saved_cards enable row level security;

-- A compute session. It is paid for until its hold expires.
create table billing.sessions (
    organization_id uuid not null, -- The organization it belongs to.
    id uuid not null, -- Time-ordered (UUIDv7); its hold has the same.
    name text, -- What its owner calls it.
    workspace_id uuid, -- The workspace that it runs in; null: none.
    preset text, -- By which preset it was started; null: by a tier. No foreign key: it tells of presets that are gone, too.
    tier text not null, -- How large the resource is.
    price_id uuid not null, -- The row of prices that it froze.
    hourly_price_micros bigint not null, -- What an hour costs, in µ$, frozen at its start.
    window_seconds integer not null, -- How many seconds ahead money is held for it.
    started_at timestamp with time zone not null, -- The first second that is charged (UTC).
    expires_at timestamp with time zone, -- Its owner wants it to end then (UTC); null: whenever it is stopped.
    heartbeat_timeout_seconds integer, -- It is lost when no heartbeat came for so many seconds; null: it sends none.
    last_heartbeat_at timestamp with time zone not null, -- When the resource last said that it is alive (UTC); before that, its start.
    ended_at timestamp with time zone, -- Up to then it was charged (UTC); null: it runs.
    close_reason text, -- stopped, exhausted (no money), lost (no heartbeat), expired, failed or frozen (a debt).
    started_by text not null, -- Who started it: passport:<id> or user:<id>.
    constraint sessions_close_reason_is_known CHECK ((close_reason = ANY (ARRAY['stopped'::text, 'exhausted'::text, 'lost'::text, 'expired'::text, 'failed'::text, 'frozen'::text]))),
    constraint sessions_end_after_start CHECK ((ended_at >= started_at)),
    constraint sessions_end_has_a_reason CHECK (((ended_at IS NULL) = (close_reason IS NULL))),
    constraint sessions_expire_after_start CHECK ((expires_at > started_at)),
    constraint sessions_name_length CHECK (((char_length(name) >= 1) AND (char_length(name) <= 100))),
    constraint sessions_tier_is_known CHECK ((tier = ANY (ARRAY['small'::text, 'medium'::text, 'large'::text, 'xlarge'::text, 'gpu'::text]))),
    constraint sessions_hold_fkey FOREIGN KEY (organization_id, id) REFERENCES billing.holds(organization_id, id),
    constraint sessions_workspace_fkey FOREIGN KEY (organization_id, workspace_id) REFERENCES billing.workspaces(organization_id, id),
    constraint sessions_pkey PRIMARY KEY (organization_id, id)
);
alter table billing.sessions enable row level security;
CREATE INDEX sessions_running_in_workspace ON billing.sessions USING btree (workspace_id, organization_id) WHERE ((workspace_id IS NOT NULL) AND (ended_at IS NULL));
CREATE INDEX sessions_workspace ON billing.sessions USING btree (workspace_id, organization_id, id) WHERE (workspace_id IS NOT NULL);
create policy readers on billing.sessions as permissive for select to authenticated, faregate_reader using ((organization_id = ANY (ARRAY( SELECT billing.readable('read'::text) AS readable))));
grant select (close_reason, ended_at, expires_at, heartbeat_timeout_seconds, hourly_price_micros, id, last_heartbeat_at, name, organization_id, preset, started_at, tier, workspace_id) on table billing.sessions to authenticated, faregate_reader;

-- A ready-made environment that is sold, was sold or wants to be. Its prices are rows of prices, by
-- the SKU space.<slug>.
create table billing.spaces (
    id uuid not null default billing.uuidv7(), -- Time-ordered (UUIDv7).
    slug text not null, -- What customers call it. Once it was published the name is its own for good.
    title text not null, -- What it is called in a list.
    description text not null, -- What is in it.
    size_gb integer not null, -- How many GB (2³⁰ bytes) a clone of it rents.
    is_cloneable boolean not null default false, -- Whether it can be copied into a bucket of its buyer's, once for each purchase, and so be bought again.
    publisher_id uuid, -- The organization that published it; null: the platform.
    publisher_name text, -- What that organization was called then, which is what customers read; null: the platform.
    source_organization_id uuid, -- Whose bucket its content is in.
    source_storage_id uuid, -- The bucket that its content is in; null: none yet, or no more.
    asked_price_micros bigint, -- What its publisher asks for it, in µ$. Once it is approved its rows of prices count.
    status billing.space_status not null default 'in_review'::billing.space_status, -- in_review, published, rejected or withdrawn.
    submitted_by text, -- Who asked for it to be published: passport:<id> or user:<id>; null: the platform.
    reviewed_by text, -- The operator who decided; null: nobody yet.
    review_reason text, -- Why they decided so; its publisher reads this.
    created_at timestamp with time zone not null default billing.now(), -- When it was submitted (UTC).
    reviewed_at timestamp with time zone, -- When it was decided about (UTC).
    published_at timestamp with time zone, -- Since when (UTC) it was sold; null: it never was. From then on everybody may know of it.
    withdrawn_at timestamp with time zone, -- Since when (UTC) it is sold no more.
    constraint spaces_asked_price_in_bounds CHECK (((asked_price_micros >= 0) AND (asked_price_micros <= '1000000000000'::bigint))),
    constraint spaces_clones_have_a_source CHECK (((NOT is_cloneable) OR (source_storage_id IS NOT NULL))),
    constraint spaces_description_length CHECK (((char_length(description) >= 1) AND (char_length(description) <= 1000))),
    constraint spaces_published_once CHECK ((((status = 'published'::billing.space_status) <= (published_at IS NOT NULL)) AND ((status = 'in_review'::billing.space_status) <= (published_at IS NULL)))),
    constraint spaces_publisher_is_whole CHECK ((num_nulls(publisher_id, publisher_name, asked_price_micros, submitted_by) = ANY (ARRAY[0, 4]))),
    constraint spaces_size_positive CHECK ((size_gb > 0)),
    constraint spaces_slug_is_a_word CHECK ((slug ~ '^[a-z][a-z0-9-]{2,40}$'::text)),
    constraint spaces_title_length CHECK (((char_length(title) >= 1) AND (char_length(title) <= 100))),
    constraint spaces_publisher_id_fkey FOREIGN KEY (publisher_id) REFERENCES billing.organizations(id),
    constraint spaces_source_fkey FOREIGN KEY (source_organization_id, source_storage_id) REFERENCES billing.storage(organization_id, id) MATCH FULL,
    constraint spaces_pkey PRIMARY KEY (id)
);
alter table billing.spaces enable row level security;
CREATE INDEX spaces_publisher ON billing.spaces USING btree (publisher_id) WHERE (publisher_id IS NOT NULL);
CREATE INDEX spaces_source ON billing.spaces USING btree (source_storage_id, source_organization_id) WHERE (source_storage_id IS NOT NULL);
CREATE UNIQUE INDEX spaces_slug_key ON billing.spaces USING btree (slug) WHERE ((status = 'in_review'::billing.space_status) OR (published_at IS NOT NULL));
create policy readers on billing.spaces as permissive for select to authenticated, faregate_reader using (((published_at IS NOT NULL) AND (EXISTS ( SELECT billing.readable('read'::text) AS readable))));
grant select (description, id, is_cloneable, published_at, publisher_name, size_gb, slug, status, title, withdrawn_at) on table billing.spaces to authenticated, faregate_reader;

-- How much usage may cost an organization, or one of its passports, in a period. Sessions, storage
-- and spaces are not usage. Of a customer's cap and an operator's the lower one counts.
create table billing.spend_caps (
    organization_id uuid not null, -- The organization it belongs to.
    id uuid not null default billing.uuidv7(), -- What its counter is called: a new one with every change of the cap.
    passport_id uuid, -- The passport that it is for; null: the whole organization.
    period billing.usage_period not null, -- In which period.
    cap_micros bigint not null, -- How much usage may cost in it, in µ$.
    is_operators boolean not null, -- Whether an operator set it: then no customer changes it.
    set_by text not null, -- Who set it: passport:<id> or user:<id>.
    constraint spend_caps_in_bounds CHECK (((cap_micros >= 0) AND (cap_micros <= '1000000000000000'::bigint))),
    constraint spend_caps_organization_id_fkey FOREIGN KEY (organization_id) REFERENCES billing.organizations(id),
    constraint spend_caps_passport_fkey FOREIGN KEY (organization_id, passport_id) REFERENCES billing.passports(organization_id, id),
    constraint spend_caps_pkey PRIMARY KEY (organization_id, id),
    constraint spend_caps_scope_key UNIQUE NULLS NOT DISTINCT (organization_id, passport_id, period, is_operators)
);
alter table billing.spend_caps enable row level security;
create policy readers on billing.spend_caps as permissive for select to authenticated, faregate_reader using ((organization_id = ANY (ARRAY( SELECT billing.readable('read'::text) AS readable))));
grant select (cap_micros, id, is_operators, organization_id, passport_id, period, set_by) on table billing.spend_caps to authenticated, faregate_reader;

-- A bucket or file share that an organization rents: what is wanted, and what the cloud has of it.
-- It is paid for until its hold expires.
create table billing.storage (
    organization_id uuid not null, -- The organization it belongs to.
    id uuid not null, -- Time-ordered (UUIDv7); its hold has the same.
    kind billing.storage_kind not null, -- bucket or filestore.
    region_id text not null, -- Where it is.
    name text, -- What its owner calls it. Nothing in the cloud is named after it.
    workspace_id uuid, -- The workspace that it is attached to; null: none.
    status billing.storage_status not null default 'requested'::billing.storage_status, -- requested, provisioning, ready, grace, read_only, deletion_notice, deleting, deleted or failed.
    status_since timestamp with time zone not null default billing.now(), -- Since when (UTC) it has been that.
    size_gb integer not null, -- How many GB (2³⁰ bytes) are rented. Of a bucket it is the quota.
    resize_to_gb integer, -- The size in GB that it is being given; null: it keeps the one it has.
    included_gb integer not null default 0, -- How many of its GB cost nothing: what comes with a registration.
    soft_delete_days smallint not null default 0, -- For how many days a deleted object can be restored; 0: not at all.
    delete_after_days smallint, -- After how many days its objects are deleted by themselves; null: never.
    resource_name text not null default ('fg-'::text || translate((gen_random_uuid())::text, '-'::text, ''::text)), -- Its name in the cloud: random, so that nobody can take it before.
    is_absent boolean not null default true, -- Whether it is certain that the cloud has nothing of that name for it.
    applied_access billing.storage_access, -- What its principal may do in the cloud: write or read; null: it is not there.
    applied_size_gb integer, -- The size in GB that the cloud gave it; null: it is not there.
    applied_principal text, -- The service account that the cloud lets in; null: none yet.
    mount text, -- Of a file share: what is mounted, address:/share.
    task_id uuid, -- The row of the outbox that is to make the cloud so; null: nothing is under way.
    operation text, -- What the cloud is at, as it calls it; null: nothing that takes longer.
    failure text, -- Why it failed, or why the last change did not succeed yet.
    failures integer not null default 0, -- How many attempts in a row to make the cloud so came to nothing.
    used_bytes bigint, -- What was in it when it was last measured.
    measured_at timestamp with time zone, -- When that was (UTC); null: not yet.
    measure_at timestamp with time zone not null default billing.now(), -- When it is to be measured next (UTC), if it is a bucket.
    created_by text not null, -- Who asked for it: passport:<id>, user:<id> or operator; registration: it came with one.
    created_at timestamp with time zone not null default billing.now(), -- When it was asked for (UTC).
    ready_at timestamp with time zone, -- The first second that is charged (UTC); null: it is not there yet.
    deleted_at timestamp with time zone, -- When the cloud no longer had it (UTC); null: it may still have it.
    constraint storage_delete_after_is_possible CHECK (((delete_after_days >= 1) AND (delete_after_days <= 3650))),
    constraint storage_name_length CHECK (((char_length(name) >= 1) AND (char_length(name) <= 100))),
    constraint storage_options_are_of_buckets CHECK (((kind = 'bucket'::billing.storage_kind) OR ((soft_delete_days = 0) AND (delete_after_days IS NULL)))),
    constraint storage_resource_name_is_ours CHECK ((resource_name ~ '^fg-[0-9a-f]{32}$'::text)),
    constraint storage_sizes_positive CHECK (((size_gb > 0) AND (resize_to_gb > 0) AND (included_gb >= 0))),
    constraint storage_soft_delete_is_possible CHECK (((soft_delete_days = 0) OR ((soft_delete_days >= 7) AND (soft_delete_days <= 90)))),
    constraint storage_hold_fkey FOREIGN KEY (organization_id, id) REFERENCES billing.holds(organization_id, id),
    constraint storage_region_fkey FOREIGN KEY (kind, region_id) REFERENCES billing.regions(kind, id),
    constraint storage_workspace_fkey FOREIGN KEY (organization_id, workspace_id) REFERENCES billing.workspaces(organization_id, id),
    constraint storage_pkey PRIMARY KEY (organization_id, id),
    constraint storage_resource_name_key UNIQUE (resource_name)
);
alter table billing.storage enable row level security;
CREATE INDEX storage_region ON billing.storage USING btree (kind, region_id);
CREATE INDEX storage_to_measure ON billing.storage USING btree (measure_at) WHERE ((kind = 'bucket'::billing.storage_kind) AND (status = ANY (ARRAY['ready'::billing.storage_status, 'grace'::billing.storage_status, 'read_only'::billing.storage_status, 'deletion_notice'::billing.storage_status])));
CREATE INDEX storage_workspace ON billing.storage USING btree (workspace_id, organization_id);
create policy readers on billing.storage as permissive for select to authenticated, faregate_reader using ((organization_id = ANY (ARRAY( SELECT billing.readable('read'::text) AS readable))));
grant select (applied_access, created_at, delete_after_days, deleted_at, failure, id, included_gb, kind, measured_at, mount, name, organization_id, ready_at, region_id, resize_to_gb, resource_name, size_gb, soft_delete_days, status, status_since, used_bytes, workspace_id) on table billing.storage to authenticated, faregate_reader;

-- How much storage of a kind a plan allows. No row: none.
create table billing.storage_limits (
    plan_id text not null, -- The plan.
    kind billing.storage_kind not null, -- The kind of storage.
    max_gb integer not null, -- The largest size of one, in GB.
    max_count integer not null, -- How many an organization may have at a time.
    constraint storage_limits_positive CHECK (((max_gb > 0) AND (max_count > 0))),
    constraint storage_limits_plan_id_fkey FOREIGN KEY (plan_id) REFERENCES billing.plans(id),
    constraint storage_limits_pkey PRIMARY KEY (plan_id, kind)
);
alter table billing.storage_limits enable row level security;

-- During which time a storage resource was charged for how many GB at which price. A new size or
-- price ends one and begins the next at the same moment.
create table billing.storage_periods (
    organization_id uuid not null, -- The organization it belongs to.
    storage_id uuid not null, -- The storage resource.
    starts_at timestamp with time zone not null, -- From then on (UTC).
    ends_at timestamp with time zone, -- Until then (UTC); null: it goes on.
    billed_gb integer not null, -- For how many GB: what is rented or, where that is more, used, less what is included.
    price_id uuid not null, -- The row of prices that it froze.
    gb_month_price_micros bigint not null, -- What a GB-month (730 hours) costs, in µ$, frozen.
    constraint storage_periods_end_after_start CHECK ((ends_at >= starts_at)),
    constraint storage_periods_size_not_negative CHECK ((billed_gb >= 0)),
    constraint storage_periods_storage_fkey FOREIGN KEY (organization_id, storage_id) REFERENCES billing.storage(organization_id, id),
    constraint storage_periods_pkey PRIMARY KEY (organization_id, storage_id, starts_at)
);
alter table billing.storage_periods enable row level security;
CREATE UNIQUE INDEX storage_periods_open_key ON billing.storage_periods USING btree (storage_id, organization_id) WHERE (ends_at IS NULL);
create policy readers on billing.storage_periods as permissive for select to authenticated, faregate_reader using ((organization_id = ANY (ARRAY( SELECT billing.readable('read'::text) AS readable))));
grant select (billed_gb, ends_at, gb_month_price_micros, organization_id, starts_at, storage_id) on table billing.storage_periods to authenticated, faregate_reader;

-- The bonus of a top-up, in basis points of its amount. The highest minimum that is met decides;
-- the lowest bracket is the smallest top-up there is. Append-only:
-- the newest row of a minimum counts.
create table billing.top_up_brackets (
    id uuid not null default billing.uuidv7(), -- Time-ordered (UUIDv7).
    minimum_micros bigint not null, -- The smallest top-up in µ$ that it is for.
    bonus_basis_points integer not null, -- In hundredths of a percent of the top-up: 500 is 5 %.
    effective_at timestamp with time zone not null, -- From then on (UTC) it counts, until a later row of the same minimum does.
    constraint top_up_brackets_bonus_in_bounds CHECK (((bonus_basis_points >= 0) AND (bonus_basis_points <= 10000))),
    constraint top_up_brackets_minimum_positive CHECK ((minimum_micros > 0)),
    constraint top_up_brackets_pkey PRIMARY KEY (id),
    constraint top_up_brackets_minimum_effective_key UNIQUE (minimum_micros, effective_at)
);
alter table billing.top_up_brackets enable row level security;
CREATE TRIGGER top_up_brackets_append_only BEFORE DELETE OR UPDATE ON billing.top_up_brackets FOR EACH ROW EXECUTE FUNCTION billing.refuse_change();
CREATE TRIGGER top_up_brackets_no_truncate BEFORE TRUNCATE ON billing.top_up_brackets FOR EACH STATEMENT EXECUTE FUNCTION billing.refuse_change();

-- A purchase of credits. What the provider is asked for stands here, so that it is the same whenever
-- it is repeated.
create table billing.top_ups (
    organization_id uuid not null, -- The organization it belongs to.
    id uuid not null default billing.uuidv7(), -- Time-ordered (UUIDv7).
    amount_micros bigint not null, -- What it costs, in µ$: whole cents.
    bonus_micros bigint not null, -- What its bracket promised on top when it was asked for, in µ$.
    kind billing.top_up_kind not null default 'checkout'::billing.top_up_kind, -- checkout: its buyer pays on the provider's page. automatic: a saved card is charged.
    status billing.top_up_status not null default 'pending'::billing.top_up_status, -- How far it is. needs_review: a person decides.
    checkout_session_id text, -- The provider's id of its checkout; null: none yet, or automatic.
    checkout_url text, -- Where its buyer pays.
    customer_id text, -- Who its buyer is to the provider, where a card is saved or charged.
    payment_method_id text, -- The card that an automatic one charges, by the provider's id.
    charged_at timestamp with time zone, -- When that card was first tried (UTC).
    created_by text not null, -- Who asked for it: passport:<id> or user:<id>.
    created_at timestamp with time zone not null default billing.now(), -- When it was asked for (UTC).
    paid_at timestamp with time zone, -- When its money arrived (UTC).
    constraint top_ups_amount_is_whole_cents CHECK ((((amount_micros >= 1) AND (amount_micros <= '999999990000'::bigint)) AND ((amount_micros % (10000)::bigint) = 0))),
    constraint top_ups_automatic_has_a_card CHECK (((kind = 'checkout'::billing.top_up_kind) OR ((customer_id IS NOT NULL) AND (payment_method_id IS NOT NULL)))),
    constraint top_ups_bonus_in_bounds CHECK (((bonus_micros >= 0) AND (bonus_micros <= amount_micros))),
    constraint top_ups_paid_has_a_time CHECK (((status = 'paid'::billing.top_up_status) = (paid_at IS NOT NULL))),
    constraint top_ups_organization_id_fkey FOREIGN KEY (organization_id) REFERENCES billing.wallets(organization_id),
    constraint top_ups_pkey PRIMARY KEY (organization_id, id),
    constraint top_ups_checkout_session_key UNIQUE (checkout_session_id)
);
alter table billing.top_ups enable row level security;
CREATE INDEX top_ups_automatic ON billing.top_ups USING btree (organization_id, created_at) WHERE (kind = 'automatic'::billing.top_up_kind);
CREATE UNIQUE INDEX top_ups_one_automatic_at_a_time ON billing.top_ups USING btree (organization_id) WHERE ((kind = 'automatic'::billing.top_up_kind) AND (status = ANY (ARRAY['pending'::billing.top_up_status, 'processing'::billing.top_up_status])));
create policy readers on billing.top_ups as permissive for select to authenticated, faregate_reader using ((organization_id = ANY (ARRAY( SELECT billing.readable('billing'::text) AS readable))));
grant select (amount_micros, bonus_micros, checkout_session_id, checkout_url, created_at, id, kind, organization_id, paid_at, status) on table billing.top_ups to authenticated, faregate_reader;

-- One movement of money: one account debited, one credited, a positive amount. Append-only. No
-- foreign keys: they would cost more than the row itself, and only this file writes here.
-- billing.verify checks what they would.
create table billing.transfers (
    organization_id uuid not null, -- The organization it belongs to.
    sequence bigint not null, -- Its number within the organization: from 1 on, without a gap.
    debit_account billing.account not null, -- Where the money comes from.
    credit_account billing.account not null, -- Where it goes.
    amount_micros billing.amount not null, -- In µ$, always positive.
    wallet_balance_micros bigint not null, -- The wallet's settled balance after it, in µ$.
    reason billing.reason not null, -- What the money moved for.
    grant_id uuid, -- The grant that a credit went to, or that alone paid a debit; null: several did.
    hold_id uuid, -- The hold that it was captured from; that of a session or of storage has its id.
    created_at timestamp with time zone not null default billing.now(), -- When the money moved (UTC).
    constraint transfers_accounts_differ CHECK ((debit_account <> credit_account)),
    constraint transfers_pkey PRIMARY KEY (organization_id, sequence)
);
alter table billing.transfers enable row level security;
CREATE TRIGGER transfers_append_only BEFORE DELETE OR UPDATE ON billing.transfers FOR EACH ROW EXECUTE FUNCTION billing.refuse_change();
CREATE TRIGGER transfers_no_truncate BEFORE TRUNCATE ON billing.transfers FOR EACH STATEMENT EXECUTE FUNCTION billing.refuse_change();
create policy readers on billing.transfers as permissive for select to authenticated, faregate_reader using ((organization_id = ANY (ARRAY( SELECT billing.readable('read'::text) AS readable))));
grant select (amount_micros, created_at, credit_account, debit_account, grant_id, hold_id, organization_id, reason, sequence, wallet_balance_micros) on table billing.transfers to authenticated, faregate_reader;

-- Uploads that were signed for and that no measurement has seen yet: they count as used.
create table billing.uploads (
    organization_id uuid not null, -- The organization it belongs to.
    storage_id uuid not null, -- The bucket.
    object_name text not null, -- The object's name.
    size_bytes bigint not null, -- The most that was signed for since the bucket was measured, in bytes.
    signed_by text not null, -- Who last asked: passport:<id>, user:<id> or operator.
    signed_at timestamp with time zone not null default billing.now(), -- When that was (UTC).
    constraint uploads_size_not_negative CHECK ((size_bytes >= 0)),
    constraint uploads_storage_fkey FOREIGN KEY (organization_id, storage_id) REFERENCES billing.storage(organization_id, id),
    constraint uploads_pkey PRIMARY KEY (organization_id, storage_id, object_name)
);
alter table billing.uploads enable row level security;

-- Months whose events are in files only.
create table billing.usage_archived_months (
    month date not null, -- Its first day: when events came (UTC).
    archived_at timestamp with time zone not null default billing.now(), -- When they went (UTC).
    constraint usage_archived_months_pkey PRIMARY KEY (month)
);
alter table billing.usage_archived_months enable row level security;
CREATE TRIGGER usage_archived_months_append_only BEFORE DELETE OR UPDATE ON billing.usage_archived_months FOR EACH ROW EXECUTE FUNCTION billing.refuse_change();
CREATE TRIGGER usage_archived_months_no_truncate BEFORE TRUNCATE ON billing.usage_archived_months FOR EACH STATEMENT EXECUTE FUNCTION billing.refuse_change();

-- The sums of an organization's events that are in a file, by what books and limits ask for. They
-- count in place of the events when their month has gone (usage_archived_months). No foreign keys, as
-- in the ledger.
create table billing.usage_archives (
    organization_id uuid not null, -- The organization it belongs to.
    month date not null, -- The month in which they came (UTC).
    number integer not null, -- Their file: of that month, from 1 on.
    feature text not null, -- What of the product was used.
    passport_id uuid not null, -- The customer's passport that it was used with; zeros: none was named.
    events bigint not null, -- How many there were.
    quantities jsonb not null, -- How much of each meter; requests are those of events, too, that did not say how many they were.
    cost_usd numeric not null, -- What they cost, in USD, exactly.
    price_usd numeric not null, -- What they were charged, in USD, exactly.
    constraint usage_archives_pkey PRIMARY KEY (organization_id, month, number, feature, passport_id)
);
alter table billing.usage_archives enable row level security;

-- Usage that a gateway has asked for before it happens. Its money is held under the same id
-- (billing.holds), which tells what became of it. No foreign keys, as for holds.
create table billing.usage_authorizations (
    organization_id uuid not null, -- The organization it belongs to.
    id uuid not null, -- Its hold's, time-ordered (UUIDv7).
    source text not null, -- Who will have sent its event.
    event_id text not null, -- What they will call it.
    feature text not null, -- What of the product is used.
    provider_id text, -- Who serves the model; null: none.
    model text, -- The model.
    passport_id uuid, -- The customer's passport that it is used with.
    quantities jsonb not null, -- How much of each meter at most.
    max_price_usd numeric not null, -- What that would cost, in USD, exactly. Less is held where a debt is allowed for the rest.
    price_usd numeric, -- What was really used and charged, in USD, exactly; null: nothing as yet, or its event waits for a review.
    captured_at timestamp with time zone, -- When its event was recorded (UTC); null: it was not.
    constraint usage_authorizations_pkey PRIMARY KEY (organization_id, id)
);
alter table billing.usage_authorizations enable row level security;

-- How much of a limit is used in the period of its last usage. Where there is no row, or one of an
-- earlier period, the events of the period say it: so a limit counts what was before it. Changed under
-- the lock of the wallet. No foreign keys, as in the ledger.
create table billing.usage_counters (
    organization_id uuid not null, -- The organization it belongs to.
    limit_id uuid not null, -- The limit or the cap that counts.
    starts_at timestamp with time zone not null, -- When its period began (UTC).
    quantity numeric not null, -- How much was used in it: of a meter, or for how many USD.
    told_percent smallint not null default 0, -- How much of the limit the organization was told to have used.
    constraint usage_counters_pkey PRIMARY KEY (organization_id, limit_id)
);
alter table billing.usage_counters enable row level security;

-- The sums of events that were folded, by the day on which they occurred. Those that wait for a
-- person count as nothing until they are charged. The sums of all organizations stand under the
-- organization of zeros, without passports; those of all that an organization used with a passport
-- under no feature. No foreign keys, as in the ledger.
create table billing.usage_days (
    organization_id uuid not null, -- The organization it belongs to; zeros: all of them.
    day date not null, -- In UTC, from midnight to midnight.
    feature text not null, -- What of the product was used; empty: all of it, whichever feature and model.
    provider_id text not null, -- Who served the model; empty: none did.
    model text not null, -- The model, as the events say; empty: none.
    passport_id uuid not null, -- The customer's passport that it was used with; zeros: none was named.
    events bigint not null, -- How many there were; none that is void.
    quantities jsonb not null, -- How much of each meter.
    cost_usd numeric not null, -- What the providers take, in USD, exactly.
    price_usd numeric not null, -- What the customer pays, in USD, exactly.
    constraint usage_days_pkey PRIMARY KEY (organization_id, day, feature, provider_id, model, passport_id)
);
alter table billing.usage_days enable row level security;
CREATE INDEX usage_days_of_all_features ON billing.usage_days USING btree (day, organization_id) WHERE (feature = ''::text);
create policy readers on billing.usage_days as permissive for select to authenticated, faregate_reader using ((organization_id = ANY (ARRAY( SELECT billing.readable('read'::text) AS readable))));
grant select (day, events, feature, model, organization_id, passport_id, price_usd, provider_id, quantities) on table billing.usage_days to authenticated, faregate_reader;

-- What was consumed, what it cost and what it was charged. A rated event never changes; one that
-- waits for a person is rated once. A correction is one more row that says the difference: so sums are
-- plain sums.
create table billing.usage_events (
    organization_id uuid not null, -- The organization it belongs to.
    id uuid not null default billing.uuidv7(), -- Time-ordered (UUIDv7): when it came.
    source text not null, -- Who sent it, as they call themselves.
    event_id text not null, -- What they call it.
    occurred_at timestamp with time zone not null, -- When it was consumed (UTC).
    feature text not null, -- What of the product was used.
    provider_id text, -- Who served the model, as the event says; null: none did.
    model text, -- The model, as the event says.
    passport_id uuid, -- The customer's passport that it was used with, as the event says.
    quantities jsonb not null, -- How much of each meter; wholes include their parts (billing.meter_parts).
    cost_usd numeric, -- What the provider takes, in USD, exactly; null: it is not known.
    price_usd numeric, -- What the customer pays, in USD, exactly; null: it waits for a review.
    provider_price_id uuid, -- The price by which the cost was reckoned; null: nothing was bought.
    usage_rate_id uuid, -- The rate by which the price was reckoned; null: no rate did.
    sequence bigint, -- The first of the transfers that charged it, with others of its batch, or gave money back; null: it was free, in review, came to less than a µ$, or a backfill corrected it.
    review billing.usage_review, -- Why it is not rated yet; null: it is.
    priced_by text, -- Who named its price, or 0 for never charging it, where no rate could (passport:<id>, user:<id>); null: a rate did.
    corrects_id uuid, -- The event whose quantities, cost and price it changes by its own, which may be negative; null: it is an event itself.
    counted smallint not null default 1, -- By how many events there are more for it: 1; a correction: 0 where it changes one, -1 where it voids one, 1 where it brings one back.
    constraint usage_events_are_rated_or_reviewed CHECK ((((price_usd IS NULL) = (review IS NOT NULL)) AND ((cost_usd IS NOT NULL) OR (review IS NOT NULL) OR (priced_by IS NOT NULL)))),
    constraint usage_events_only_corrections_are_signed CHECK (
CASE
    WHEN (corrects_id IS NULL) THEN ((counted = 1) AND ((cost_usd >= (0)::numeric) IS NOT FALSE))
    ELSE (((counted >= '-1'::integer) AND (counted <= 1)) AND (price_usd IS NOT NULL))
END),
    constraint usage_events_pkey PRIMARY KEY (organization_id, id)
) partition by RANGE (id);
alter table billing.usage_events enable row level security;
CREATE INDEX usage_events_arrival ON ONLY billing.usage_events USING brin (id) WITH (pages_per_range='32', autosummarize='on');
CREATE INDEX usage_events_corrections ON ONLY billing.usage_events USING btree (organization_id, corrects_id) WHERE (corrects_id IS NOT NULL);
CREATE INDEX usage_events_in_review ON ONLY billing.usage_events USING btree (id) WHERE (review IS NOT NULL);
CREATE TRIGGER usage_events_append_only BEFORE DELETE ON billing.usage_events FOR EACH ROW EXECUTE FUNCTION billing.refuse_change();
CREATE TRIGGER usage_events_no_truncate BEFORE TRUNCATE ON billing.usage_events FOR EACH STATEMENT EXECUTE FUNCTION billing.refuse_change();
CREATE TRIGGER usage_events_rated_append_only BEFORE UPDATE ON billing.usage_events FOR EACH ROW WHEN (old.review IS NULL) EXECUTE FUNCTION billing.refuse_change();
CREATE TRIGGER usage_events_reviewed_are_folded AFTER UPDATE ON billing.usage_events FOR EACH ROW WHEN (old.review IS NOT NULL AND new.review IS NULL) EXECUTE FUNCTION billing.fold_reviewed();
create policy readers on billing.usage_events as permissive for select to authenticated, faregate_reader using ((organization_id = ANY (ARRAY( SELECT billing.readable('read'::text) AS readable))));
grant select (corrects_id, counted, event_id, feature, id, model, occurred_at, organization_id, passport_id, price_usd, provider_id, quantities, review, source) on table billing.usage_events to authenticated, faregate_reader;

-- Files of events, each of which was read back from the bucket and found to be right.
create table billing.usage_files (
    month date not null, -- The month in which its events came (UTC).
    number integer not null, -- Of that month: from 1 on.
    object_name text not null, -- What it is called in the bucket.
    last_organization_id uuid not null, -- Its last event's organization: files are in the order of organization_id and id.
    last_id uuid not null, -- Its last event.
    events bigint not null, -- How many it has.
    size_bytes bigint not null, -- How large it is, in bytes.
    sha256 text not null, -- What its content hashes to, in hexadecimal.
    written_at timestamp with time zone not null default billing.now(), -- When it was found to be right (UTC).
    constraint usage_files_pkey PRIMARY KEY (month, number)
);
alter table billing.usage_files enable row level security;
CREATE TRIGGER usage_files_append_only BEFORE DELETE OR UPDATE ON billing.usage_files FOR EACH ROW EXECUTE FUNCTION billing.refuse_change();
CREATE TRIGGER usage_files_no_truncate BEFORE TRUNCATE ON billing.usage_files FOR EACH STATEMENT EXECUTE FUNCTION billing.refuse_change();

-- How far events are summed up: one row.
create table billing.usage_folds (
    is_only boolean not null default true, -- True.
    folded_until timestamp with time zone not null default '2000-01-01 00:00:00+00'::timestamp with time zone, -- Events that came before are in usage_days, those since then are not (UTC, whole milliseconds).
    complete_until timestamp with time zone not null default '2000-01-01 00:00:00+00'::timestamp with time zone, -- No event will appear any more that came before (UTC, whole milliseconds).
    constraint usage_folds_in_order CHECK ((folded_until <= complete_until)),
    constraint usage_folds_is_one_row CHECK (is_only),
    constraint usage_folds_pkey PRIMARY KEY (is_only)
);
alter table billing.usage_folds enable row level security;

-- The natural key of every event that was accepted, forever: whoever sends one again is told so. A
-- table of its own, because a partitioned one cannot hold a key across its months. No foreign keys, as
-- in the ledger.
create table billing.usage_keys (
    organization_id uuid not null, -- The organization it belongs to.
    source text not null, -- Who sent it, as they call themselves.
    event_id text not null, -- What they call it.
    id uuid not null, -- What we call it.
    fingerprint bigint not null, -- A hash of what it said: the same key with other words is no repetition.
    constraint usage_keys_pkey PRIMARY KEY (organization_id, source, event_id)
);
alter table billing.usage_keys enable row level security;
CREATE TRIGGER usage_keys_append_only BEFORE DELETE OR UPDATE ON billing.usage_keys FOR EACH ROW EXECUTE FUNCTION billing.refuse_change();
CREATE TRIGGER usage_keys_no_truncate BEFORE TRUNCATE ON billing.usage_keys FOR EACH STATEMENT EXECUTE FUNCTION billing.refuse_change();

-- Everything that limits usage, in one form: limits of features and spend caps.
create view billing.usage_limits (
    organization_id uuid, -- The organization that it is for.
    id uuid, -- What its counter is called.
    feature_id text, -- The feature that it is for; null: all.
    passport_id uuid, -- The passport that it is for; null: all.
    meter text, -- What it counts; null: what usage costs, in USD.
    period billing.usage_period, -- In which period.
    quantity numeric, -- How much there may be.
    enforcement billing.enforcement -- What happens then.
) with (security_invoker=true) as
 SELECT e.organization_id,
    e.limit_id AS id,
    e.feature_id,
    NULL::uuid AS passport_id,
    e.meter,
    e.period,
    e.limit_quantity AS quantity,
    e.enforcement
   FROM api.entitlements e
  WHERE e.is_granted AND e.meter IS NOT NULL
UNION ALL
 SELECT c.organization_id,
    c.id,
    NULL::text AS feature_id,
    c.passport_id,
    NULL::text AS meter,
    c.period,
    c.cap_micros::numeric * 0.000001 AS quantity,
    'hard'::billing.enforcement AS enforcement
   FROM billing.spend_caps c;

-- What happens to usage when the money is short. Without a row, or with 0, it is denied. The closest
-- row counts: of the organization, of its plan, for all; then one that names the feature.
create table billing.usage_policies (
    id uuid not null default billing.uuidv7(), -- Time-ordered (UUIDv7).
    organization_id uuid, -- The only one it is for; null: not one.
    plan_id text, -- The plan that it is for; null: all.
    feature text, -- The feature that it is for; null: all.
    allow_debt_micros bigint not null, -- Up to how much may be owed after it, in µ$.
    constraint usage_policies_are_for_one CHECK (((organization_id IS NULL) OR (plan_id IS NULL))),
    constraint usage_policies_debt_in_bounds CHECK (((allow_debt_micros >= 0) AND (allow_debt_micros <= '1000000000000'::bigint))),
    constraint usage_policies_organization_id_fkey FOREIGN KEY (organization_id) REFERENCES billing.organizations(id),
    constraint usage_policies_plan_id_fkey FOREIGN KEY (plan_id) REFERENCES billing.plans(id),
    constraint usage_policies_pkey PRIMARY KEY (id),
    constraint usage_policies_scope_key UNIQUE NULLS NOT DISTINCT (organization_id, plan_id, feature)
);
alter table billing.usage_policies enable row level security;
CREATE INDEX usage_policies_organization_id ON billing.usage_policies USING btree (organization_id) WHERE (organization_id IS NOT NULL);
CREATE INDEX usage_policies_plan_id ON billing.usage_policies USING btree (plan_id);

-- Prices that depend on how much of a meter an organization has used by this rate in the calendar
-- month (UTC) before: an event costs what it adds to the price of all. Append-only. No foreign key,
-- either.
create table billing.usage_rate_tiers (
    rate_id uuid not null, -- The rate that it belongs to.
    meter text not null, -- What is counted. No other price of the rate is for a part or a whole of it.
    above numeric not null, -- For what is above this, up to and with the next row of the meter.
    kind billing.tier_kind not null, -- What a tier's price is for.
    unit_price_usd numeric not null, -- What one costs the customer, or one package, in USD.
    package_size numeric, -- How many are in a package; null: it is none.
    constraint usage_rate_tiers_not_negative CHECK (((above >= (0)::numeric) AND (unit_price_usd >= (0)::numeric))),
    constraint usage_rate_tiers_packages_have_a_size CHECK ((((kind = 'package'::billing.tier_kind) = (package_size IS NOT NULL)) AND (package_size > (0)::numeric))),
    constraint usage_rate_tiers_pkey PRIMARY KEY (rate_id, meter, above)
);
alter table billing.usage_rate_tiers enable row level security;
CREATE TRIGGER usage_rate_tiers_append_only BEFORE DELETE OR UPDATE ON billing.usage_rate_tiers FOR EACH ROW EXECUTE FUNCTION billing.refuse_change();
CREATE TRIGGER usage_rate_tiers_no_truncate BEFORE TRUNCATE ON billing.usage_rate_tiers FOR EACH STATEMENT EXECUTE FUNCTION billing.refuse_change();

-- The own prices of a rate, as those of provider_price_units. Append-only. No foreign key, either.
create table billing.usage_rate_units (
    rate_id uuid not null, -- The rate that it belongs to.
    meter text not null, -- What is counted.
    unit_price_usd numeric, -- What one costs the customer, in USD; null: nothing by itself.
    adds_usd numeric not null, -- What one more of it adds to the price in USD beyond what the wholes that it is part of count already.
    constraint usage_rate_units_not_negative CHECK ((unit_price_usd >= (0)::numeric)),
    constraint usage_rate_units_pkey PRIMARY KEY (rate_id, meter)
);
alter table billing.usage_rate_units enable row level security;
CREATE TRIGGER usage_rate_units_append_only BEFORE DELETE OR UPDATE ON billing.usage_rate_units FOR EACH ROW EXECUTE FUNCTION billing.refuse_change();
CREATE TRIGGER usage_rate_units_no_truncate BEFORE TRUNCATE ON billing.usage_rate_units FOR EACH STATEMENT EXECUTE FUNCTION billing.refuse_change();

-- What usage costs a customer: a markup on its cost, own prices per unit (usage_rate_units), or both.
-- Of those that fit an event the closest counts: one of its organization before one of its plan before
-- one for all; then one that names the model, the provider, the feature; then the newest. Where
-- nothing was bought, a markup alone does not fit. Append-only: a new rate is a new row.
create table billing.usage_rates (
    id uuid not null default billing.uuidv7(), -- A rated event remembers the row that it froze.
    organization_id uuid, -- The only one it is for; null: not one.
    plan_id text, -- The plan that it is for; null: all.
    feature text, -- The feature that it is for; null: all.
    provider_id text, -- The provider that it is for; null: all.
    model_id text, -- The model that it is for, as prices call it; null: all.
    markup numeric, -- What the cost is multiplied by: 1.25 adds a quarter; null: only its own units count.
    may_be_below_cost boolean not null default false, -- Whether a price below the cost is meant; otherwise such an event waits for a person.
    is_tiered boolean not null default false, -- Whether some of its prices depend on what was used before in the month (usage_rate_tiers).
    is_end boolean not null default false, -- Whether it only ends the one for the same before it, so that the next closest counts again.
    effective_at timestamp with time zone not null, -- From then on (UTC) it counts, until a later row for the same does.
    created_by text not null, -- Who made it: passport:<id>, user:<id> or operator.
    constraint usage_rates_are_for_one CHECK (((organization_id IS NULL) OR (plan_id IS NULL))),
    constraint usage_rates_markup_covers_cost CHECK ((((markup >= (0)::numeric) AND (markup <= (1000)::numeric)) AND ((markup >= (1)::numeric) OR may_be_below_cost))),
    constraint usage_rates_model_has_provider CHECK (((model_id IS NULL) OR (provider_id IS NOT NULL))),
    constraint usage_rates_tiers_may_be_below_cost CHECK (((NOT is_tiered) OR may_be_below_cost)),
    constraint usage_rates_organization_id_fkey FOREIGN KEY (organization_id) REFERENCES billing.organizations(id),
    constraint usage_rates_plan_id_fkey FOREIGN KEY (plan_id) REFERENCES billing.plans(id),
    constraint usage_rates_pkey PRIMARY KEY (id),
    constraint usage_rates_scope_key UNIQUE NULLS NOT DISTINCT (organization_id, plan_id, feature, provider_id, model_id, effective_at)
);
alter table billing.usage_rates enable row level security;
CREATE INDEX usage_rates_effective_at ON billing.usage_rates USING btree (effective_at);
CREATE INDEX usage_rates_ends ON billing.usage_rates USING btree (effective_at) WHERE is_end;
CREATE INDEX usage_rates_organization_id ON billing.usage_rates USING btree (organization_id) WHERE (organization_id IS NOT NULL);
CREATE INDEX usage_rates_plan_id ON billing.usage_rates USING btree (plan_id);
CREATE TRIGGER usage_rates_append_only BEFORE DELETE OR UPDATE ON billing.usage_rates FOR EACH ROW EXECUTE FUNCTION billing.refuse_change();
CREATE TRIGGER usage_rates_no_truncate BEFORE TRUNCATE ON billing.usage_rates FOR EACH STATEMENT EXECUTE FUNCTION billing.refuse_change();

-- For how long events are kept: one row.
create table billing.usage_retention (
    is_only boolean not null default true, -- True.
    keep_months integer default 13, -- So many months before the current one stay in the database; null: all do, forever.
    constraint usage_retention_is_one_row CHECK (is_only),
    constraint usage_retention_is_positive CHECK ((keep_months > 0)),
    constraint usage_retention_pkey PRIMARY KEY (is_only)
);
alter table billing.usage_retention enable row level security;

-- A wallet as it was when its books were last found to agree. One that has not moved since needs no
-- look, and the sums of a large ledger go on from here.
create table billing.verified (
    organization_id uuid not null, -- The organization it belongs to.
    sequence bigint not null, -- The last transfer that was summed up.
    settled_micros bigint not null, -- What the wallet had, in µ$.
    held_micros bigint not null, -- What of that was held, in µ$.
    debt_micros bigint not null, -- What was owed, in µ$.
    provider_micros bigint not null, -- What its account provider_clearing had, in µ$.
    verified_at timestamp with time zone not null default billing.now(), -- When its books agreed (UTC).
    constraint verified_organization_id_fkey FOREIGN KEY (organization_id) REFERENCES billing.organizations(id),
    constraint verified_pkey PRIMARY KEY (organization_id)
);
alter table billing.verified enable row level security;

-- The prepaid balance of an organization.
create table billing.wallets (
    organization_id uuid not null, -- The organization it belongs to.
    settled_micros bigint not null default 0, -- The balance in µ$: what came in less what went out.
    held_micros bigint not null default 0, -- What of it open holds keep, in µ$. Available is settled − held.
    debt_micros bigint not null default 0, -- Money in µ$ that the provider gave back after it had been spent. While there is any, the organization is frozen.
    usage_remainder_usd numeric not null default 0, -- What usage came to beyond the whole µ$ that were charged for it, in USD: it counts with the next.
    next_expiry_at timestamp with time zone, -- Before then (UTC) none of its grants expires, so that a hold need not look.
    last_sequence bigint not null default 0, -- The number of its newest transfer; 0: there is none.
    constraint wallets_remainder_below_a_micro CHECK (((usage_remainder_usd >= (0)::numeric) AND (usage_remainder_usd < 0.000001))),
    constraint wallets_settled_covers_held CHECK (((settled_micros >= held_micros) AND (held_micros >= 0) AND (debt_micros >= 0))),
    constraint wallets_organization_id_fkey FOREIGN KEY (organization_id) REFERENCES billing.organizations(id),
    constraint wallets_pkey PRIMARY KEY (organization_id)
) with (fillfactor=50);
alter table billing.wallets enable row level security;
create policy readers on billing.wallets as permissive for select to authenticated, faregate_reader using ((organization_id = ANY (ARRAY( SELECT billing.readable('read'::text) AS readable))));
grant select (debt_micros, held_micros, organization_id, settled_micros) on table billing.wallets to authenticated, faregate_reader;

-- What belongs together in an organization: spaces, storage and sessions are attached to one.
create table billing.workspaces (
    organization_id uuid not null, -- The organization it belongs to.
    id uuid not null default billing.uuidv7(), -- Time-ordered (UUIDv7).
    name text not null, -- What its people call it; not unique.
    created_by text not null, -- Who made it: passport:<id>, user:<id> or operator.
    created_at timestamp with time zone not null default billing.now(), -- When it was made (UTC).
    deleted_at timestamp with time zone, -- When it was deleted (UTC); null: it was not.
    constraint workspaces_name_length CHECK (((char_length(name) >= 1) AND (char_length(name) <= 100))),
    constraint workspaces_organization_id_fkey FOREIGN KEY (organization_id) REFERENCES billing.organizations(id),
    constraint workspaces_pkey PRIMARY KEY (organization_id, id)
);
alter table billing.workspaces enable row level security;
create policy readers on billing.workspaces as permissive for select to authenticated, faregate_reader using ((organization_id = ANY (ARRAY( SELECT billing.readable('read'::text) AS readable))));
grant select (created_at, deleted_at, id, name, organization_id) on table billing.workspaces to authenticated, faregate_reader;

-- Revenue by day, less what is known to have paid for it: promotional money and the payment
-- provider's fees for disputes. What the resources themselves cost is not in it; of storage it is in
-- storage_cost_by_day, as far as it is known. Adds up the ledger each time it is read.
create view ops.margin_by_day (
    day date, -- The day (UTC) of the transfers.
    revenue_micros bigint, -- What customers were charged, in µ$.
    revenue_usd numeric, -- What customers were charged, in USD.
    promotional_micros bigint, -- What of it bonuses and gifts paid, in µ$: less where a spent bonus was taken back.
    promotional_usd numeric, -- What of it bonuses and gifts paid, in USD: less where a spent bonus was taken back.
    provider_fees_micros bigint, -- The payment provider's fees for disputes, in µ$: less where it gave one back.
    provider_fees_usd numeric, -- The payment provider's fees for disputes, in USD: less where it gave one back.
    margin_micros bigint, -- Revenue less promotional money and fees, in µ$.
    margin_usd numeric -- Revenue less promotional money and fees, in USD.
) as
 WITH shared AS (
         SELECT d_1.organization_id,
            d_1.sequence,
            sum(d_1.amount_micros::bigint) AS promotional_micros
           FROM billing.draw_downs d_1
             JOIN billing.grants g ON g.organization_id = d_1.organization_id AND g.id = d_1.grant_id
          WHERE g.category = 'promotional'::billing.grant_category
          GROUP BY d_1.organization_id, d_1.sequence
        ), days AS (
         SELECT ops.day(t.created_at) AS day,
            sum(
                CASE
                    WHEN ops.revenue_kind(t.credit_account) IS NOT NULL THEN t.amount_micros::bigint
                    ELSE 0::bigint
                END)::bigint AS revenue_micros,
            sum(
                CASE
                    WHEN t.debit_account = 'debt'::billing.account AND t.credit_account = 'promotion'::billing.account THEN (- t.amount_micros::bigint)::numeric
                    WHEN t.debit_account = 'promotion'::billing.account AND t.credit_account = 'debt'::billing.account THEN t.amount_micros::numeric
                    WHEN t.debit_account <> 'wallet'::billing.account THEN 0::numeric
                    WHEN g.category = 'promotional'::billing.grant_category THEN t.amount_micros::numeric
                    ELSE COALESCE(s.promotional_micros, 0::numeric)
                END)::bigint AS promotional_micros,
            sum(
                CASE
                    WHEN t.debit_account = 'provider_fees'::billing.account THEN t.amount_micros::bigint
                    WHEN t.credit_account = 'provider_fees'::billing.account THEN - t.amount_micros::bigint
                    ELSE 0::bigint
                END)::bigint AS provider_fees_micros
           FROM billing.transfers t
             LEFT JOIN billing.grants g ON g.organization_id = t.organization_id AND g.id = t.grant_id
             LEFT JOIN shared s ON s.organization_id = t.organization_id AND s.sequence = t.sequence
          WHERE ops.revenue_kind(t.credit_account) IS NOT NULL OR (t.debit_account = ANY (ARRAY['debt'::billing.account, 'provider_fees'::billing.account])) OR (t.credit_account = ANY (ARRAY['debt'::billing.account, 'provider_fees'::billing.account]))
          GROUP BY (ops.day(t.created_at))
        )
 SELECT day,
    revenue_micros,
    ops.usd(revenue_micros) AS revenue_usd,
    promotional_micros,
    ops.usd(promotional_micros) AS promotional_usd,
    provider_fees_micros,
    ops.usd(provider_fees_micros) AS provider_fees_usd,
    revenue_micros - promotional_micros - provider_fees_micros AS margin_micros,
    ops.usd(revenue_micros - promotional_micros - provider_fees_micros) AS margin_usd
   FROM days d
  ORDER BY day DESC;

-- Where the provider, our payments and the ledger disagree, oldest first. Each run of the
-- reconciliation looks again; one that agrees leaves this list.
create view ops.open_discrepancies (
    id uuid, -- The discrepancy's id.
    kind billing.discrepancy_kind, -- Which two sides disagree, and in what.
    organization_id uuid, -- Whose books it is about; null: that is not known.
    name text, -- That organization's name.
    subject text, -- The provider's object, or what the ledger's rule is about.
    ledger_rule text, -- Which rule the ledger breaks; null: it is about the provider.
    expected_micros bigint, -- What the provider says or the transfers add up to, in µ$. Where a rule counts, 1 is one.
    expected_usd numeric, -- What the provider says or the transfers add up to, in USD. Where a rule counts, 0.000001 is one.
    found_micros bigint, -- What our books say, in µ$. Where a rule counts, 1 is one.
    found_usd numeric, -- What our books say, in USD. Where a rule counts, 0.000001 is one.
    difference_micros bigint, -- Found less expected, in µ$.
    difference_usd numeric, -- Found less expected, in USD.
    note text, -- What the provider says of an amount that is not in whole cents of USD.
    first_seen_at timestamp with time zone, -- When (UTC) it was first seen.
    last_seen_at timestamp with time zone, -- When (UTC) it was last seen.
    age_seconds bigint -- Seconds since it was first seen.
) as
 SELECT d.id,
    d.kind,
    d.organization_id,
    o.name,
    d.subject,
    d.ledger_rule,
    d.expected_micros,
    ops.usd(d.expected_micros) AS expected_usd,
    d.found_micros,
    ops.usd(d.found_micros) AS found_usd,
    d.found_micros - d.expected_micros AS difference_micros,
    ops.usd(d.found_micros - d.expected_micros) AS difference_usd,
    d.note,
    d.first_seen_at,
    d.last_seen_at,
    ops.age_seconds(d.first_seen_at) AS age_seconds
   FROM billing.discrepancies d
     LEFT JOIN billing.organizations o ON o.id = d.organization_id
  WHERE d.resolved_at IS NULL
  ORDER BY d.first_seen_at;

-- Every customer: who, what they have, owe and paid, what runs.
create view ops.organizations (
    organization_id uuid, -- The organization's id.
    name text, -- Its name.
    plan text, -- Its plan.
    owner_emails text, -- The addresses of its owners; null: nobody has claimed it yet.
    billing_email text, -- Where its receipts go.
    available_micros bigint, -- What it can spend, in µ$.
    available_usd numeric, -- What it can spend, in USD.
    held_micros bigint, -- What holds keep besides, in µ$.
    held_usd numeric, -- What holds keep besides, in USD.
    debt_micros bigint, -- What it owes, in µ$: while it owes anything it is frozen.
    debt_usd numeric, -- What it owes, in USD: while it owes anything it is frozen.
    paid_micros bigint, -- All it ever paid, in µ$.
    paid_usd numeric, -- All it ever paid, in USD.
    returned_micros bigint, -- What of that went back by refunds and disputes, in µ$.
    returned_usd numeric, -- What of that went back by refunds and disputes, in USD.
    running_sessions bigint, -- How many of its sessions run.
    last_active_at timestamp with time zone, -- When (UTC) money of it last moved or one of its passports was last used.
    created_at timestamp with time zone, -- When (UTC) it was made.
    claimed_at timestamp with time zone, -- When (UTC) its first owner registered; null: an operator made it and it waits for them.
    closed_at timestamp with time zone -- When (UTC) it was closed; null: it is open.
) as
 WITH running AS (
         SELECT h.organization_id,
            count(*) AS sessions
           FROM billing.holds h
          WHERE h.kind = 'session'::billing.hold_kind AND h.due_at IS NOT NULL
          GROUP BY h.organization_id
        )
 SELECT o.id AS organization_id,
    o.name,
    o.plan_id AS plan,
    m.owner_emails,
    o.billing_email,
    w.settled_micros - w.held_micros AS available_micros,
    ops.usd(w.settled_micros - w.held_micros) AS available_usd,
    w.held_micros,
    ops.usd(w.held_micros) AS held_usd,
    w.debt_micros,
    ops.usd(w.debt_micros) AS debt_usd,
    p.paid_micros,
    ops.usd(p.paid_micros) AS paid_usd,
    p.returned_micros,
    ops.usd(p.returned_micros) AS returned_usd,
    COALESCE(r.sessions, 0::bigint) AS running_sessions,
    GREATEST(o.created_at, t.created_at, u.last_used_at) AS last_active_at,
    o.created_at,
    o.claimed_at,
    o.closed_at
   FROM billing.organizations o
     JOIN billing.wallets w ON w.organization_id = o.id
     LEFT JOIN billing.transfers t ON t.organization_id = o.id AND t.sequence = w.last_sequence
     LEFT JOIN running r ON r.organization_id = o.id
     CROSS JOIN LATERAL ( SELECT COALESCE(sum(y.amount_micros::bigint), 0::numeric)::bigint AS paid_micros,
            COALESCE(sum(y.refunded_micros + y.disputed_micros), 0::numeric)::bigint AS returned_micros
           FROM billing.payments y
          WHERE y.organization_id = o.id) p
     CROSS JOIN LATERAL ( SELECT string_agg(a.email, ', '::text ORDER BY a.email) AS owner_emails
           FROM billing.members e
             JOIN auth.users a ON a.id = e.user_id
          WHERE e.organization_id = o.id AND e.role = 'owner'::text) m
     CROSS JOIN LATERAL ( SELECT max(s.last_used_at) AS last_used_at
           FROM billing.passport_uses s
          WHERE s.organization_id = o.id) u;

-- Automatic top-ups that charge no card until their owner sets them again. needs_review: whether the
-- last charge was made is not known, and a person has to look it up at the provider.
create view ops.paused_auto_top_ups (
    organization_id uuid, -- The organization's id.
    name text, -- Its name.
    owner_emails text, -- The addresses of its owners.
    paused_reason text, -- Why: the provider's word for a declined card, money_returned, needs_review, amount_too_small.
    paused_at timestamp with time zone, -- Since when (UTC).
    threshold_micros bigint, -- Below which balance the card would be charged, in µ$.
    threshold_usd numeric, -- Below which balance the card would be charged, in USD.
    amount_micros bigint, -- How much would be charged, in µ$.
    amount_usd numeric, -- How much would be charged, in USD.
    available_micros bigint, -- What the organization can spend, in µ$.
    available_usd numeric, -- What the organization can spend, in USD.
    running_sessions bigint -- How many of its sessions run.
) as
 SELECT a.organization_id,
    o.name,
    o.owner_emails,
    a.paused_reason,
    a.updated_at AS paused_at,
    a.threshold_micros::bigint AS threshold_micros,
    ops.usd(a.threshold_micros::bigint) AS threshold_usd,
    a.amount_micros,
    ops.usd(a.amount_micros) AS amount_usd,
    o.available_micros,
    o.available_usd,
    o.running_sessions
   FROM billing.auto_top_ups a
     JOIN ops.organizations o ON o.organization_id = a.organization_id
  WHERE a.status = 'paused'::billing.auto_top_up_status
  ORDER BY a.updated_at DESC;

-- Notifications of money that nobody could tell what to do with, newest first: another currency, or
-- credited already. They stay here; what of it is still open is in open_discrepancies.
create view ops.payments_to_review (
    organization_id uuid, -- Whose payment it is about; null: that is not known.
    name text, -- That organization's name.
    provider billing.payment_provider, -- The payment provider.
    event_id text, -- The provider's id of the notification.
    type text, -- What happened, in the provider's words.
    provider_payment_id text, -- The provider's id of the payment, or else of what it is about.
    provider_amount text, -- The provider's amount in the smallest unit of its currency: 2500 eur is 25 euros.
    is_credited boolean, -- Whether our books have this payment.
    received_at timestamp with time zone, -- When (UTC) we were told.
    age_seconds bigint -- Seconds since then.
) as
 SELECT e.organization_id,
    o.name,
    e.provider,
    e.id AS event_id,
    e.type,
    COALESCE(e.payload #>> '{data,object,payment_intent}'::text[], e.payload #>> '{data,object,id}'::text[]) AS provider_payment_id,
    concat_ws(' '::text, COALESCE(e.payload #>> '{data,object,amount_total}'::text[], e.payload #>> '{data,object,amount_received}'::text[], e.payload #>> '{data,object,amount}'::text[]), e.payload #>> '{data,object,currency}'::text[]) AS provider_amount,
    (EXISTS ( SELECT
           FROM billing.payments p
          WHERE p.provider = e.provider AND p.provider_payment_id = COALESCE(e.payload #>> '{data,object,payment_intent}'::text[], e.payload #>> '{data,object,id}'::text[]))) AS is_credited,
    e.received_at,
    ops.age_seconds(e.received_at) AS age_seconds
   FROM billing.payment_events e
     LEFT JOIN billing.organizations o ON o.id = e.organization_id
  WHERE e.outcome = 'needs_review'::billing.payment_outcome
  ORDER BY e.received_at DESC;

-- What customers were charged, by day and kind. Adds up the ledger each time it is read: seconds for
-- ten million transfers.
create view ops.revenue_by_day (
    day date, -- The day (UTC) of the charge.
    kind text, -- What was charged for: sessions, usage, storage or spaces.
    charges bigint, -- How many charges there were.
    amount_micros bigint, -- Their sum, in µ$.
    amount_usd numeric -- Their sum, in USD.
) as
 WITH days AS (
         SELECT ops.day(t.created_at) AS day,
            ops.revenue_kind(t.credit_account) AS kind,
            count(*) AS charges,
            sum(t.amount_micros::bigint)::bigint AS amount_micros
           FROM billing.transfers t
          WHERE ops.revenue_kind(t.credit_account) IS NOT NULL
          GROUP BY (ops.day(t.created_at)), (ops.revenue_kind(t.credit_account))
        )
 SELECT day,
    kind,
    charges,
    amount_micros,
    ops.usd(amount_micros) AS amount_usd
   FROM days d
  ORDER BY day DESC, kind;

-- How far each cron function is behind. Those of each minute are in time below 120 seconds, those of
-- storage below two hours, the daily one below an hour. What the task queues have not got or not done
-- is in stuck_outbox.
create view ops.schedule_lag (
    schedule text, -- The cron function.
    waits_for text, -- What it should have done.
    waiting bigint, -- How many of these are due now.
    due_at timestamp with time zone, -- Since when (UTC) the oldest of them has been due; null: none is.
    lag_seconds bigint -- Seconds since then; null: none is due.
) as
 SELECT schedule,
    waits_for,
    waiting,
    due_at,
    ops.age_seconds(due_at) AS lag_seconds
   FROM ops.due_work() d(schedule, waits_for, waiting, due_at);

-- Every storage resource: whose, how far, its money, and what its task says. What changed last comes
-- first.
create view ops.storage (
    organization_id uuid, -- Whose it is.
    organization text, -- That organization's name.
    id uuid, -- Its id, which its label in the cloud has, too.
    kind billing.storage_kind, -- bucket or filestore.
    provider billing.storage_provider, -- Who keeps it: gcs, s3 or filestore.
    region text, -- Where it is.
    status billing.storage_status, -- requested, provisioning, ready, grace, read_only, deletion_notice, deleting, deleted or failed.
    status_since timestamp with time zone, -- Since when (UTC).
    failure text, -- Why it failed, or why the last change did not succeed yet.
    resource_name text, -- Its name in the cloud, there or not.
    is_absent boolean, -- Whether it is certain that the cloud has none.
    size_gb integer, -- How many GB are rented; of a bucket, its quota.
    resize_to_gb integer, -- The size it is being given; null: none.
    used_bytes bigint, -- What was in it when it was last measured.
    measured_at timestamp with time zone, -- When (UTC) that was; null: not yet.
    charged_micros bigint, -- What was charged for it, in µ$.
    charged_usd numeric, -- What was charged for it, in USD.
    held_micros bigint, -- What is held for it, in µ$.
    held_usd numeric, -- What is held for it, in USD.
    unpaid_micros bigint, -- What of its cost neither a charge nor a hold covers, in µ$.
    unpaid_usd numeric, -- What of its cost neither a charge nor a hold covers, in USD.
    paid_until timestamp with time zone, -- Until when (UTC) money is held for it.
    task_id uuid, -- The last row of the outbox that was to make the cloud so; null: there was none.
    task_attempts integer, -- How many times that task began.
    task_failure text, -- Why its last attempt failed; null: it did not.
    is_task_done boolean, -- Whether nothing is left for it to do.
    created_at timestamp with time zone, -- When (UTC) it was asked for.
    ready_at timestamp with time zone, -- When (UTC) the cloud had it; null: never.
    deleted_at timestamp with time zone -- When (UTC) the cloud no longer had it; null: it may still have it.
) as
 SELECT s.organization_id,
    o.name AS organization,
    s.id,
    s.kind,
    r.provider,
    s.region_id AS region,
    s.status,
    s.status_since,
    s.failure,
    s.resource_name,
    s.is_absent,
    s.size_gb,
    s.resize_to_gb,
    s.used_bytes,
    s.measured_at,
    v.charged_micros,
    ops.usd(v.charged_micros) AS charged_usd,
    v.held_micros,
    ops.usd(v.held_micros) AS held_usd,
    v.unpaid_micros,
    ops.usd(v.unpaid_micros) AS unpaid_usd,
    v.paid_until,
    s.task_id,
    t.attempts AS task_attempts,
    t.failure AS task_failure,
    t.acknowledged_at IS NOT NULL AS is_task_done,
    s.created_at,
    s.ready_at,
    s.deleted_at
   FROM billing.storage s
     JOIN billing.regions r ON r.kind = s.kind AND r.id = s.region_id
     JOIN billing.organizations o ON o.id = s.organization_id
     JOIN api.storage v ON v.organization_id = s.organization_id AND v.id = s.id
     LEFT JOIN billing.outbox t ON t.organization_id = s.organization_id AND t.id = s.task_id
  ORDER BY s.status_since DESC;

-- What storage cost the operator, by the rows of billing.provider_costs. File shares cost what is
-- provisioned, and this is it. Buckets cost what is in them, of which no history is kept: theirs is
-- what they would have cost if full, so it is not in margin_by_day. Requests and traffic are not in
-- it. A new cost counts from the next day on. Adds up all periods each time it is read.
create view ops.storage_cost_by_day (
    day date, -- The day (UTC).
    kind billing.storage_kind, -- bucket or filestore.
    region text, -- Where.
    gb_months numeric, -- How much was provisioned: GB for 730 hours.
    is_upper_bound boolean, -- Whether the cloud asks for at most this, as for buckets.
    cost_micros bigint, -- What that costs the operator, in µ$; null: not known, a row of provider_costs is missing.
    cost_usd numeric -- What that costs the operator, in USD; null: not known.
) as
 WITH provisioned AS (
         SELECT s.kind,
            s.region_id,
            p.billed_gb + s.included_gb AS gb,
            p.starts_at,
            COALESCE(lead(p.starts_at) OVER (PARTITION BY s.organization_id, s.id ORDER BY p.starts_at), s.deleted_at, ( SELECT billing.now() AS now)) AS ends_at
           FROM billing.storage_periods p
             JOIN billing.storage s ON s.organization_id = p.organization_id AND s.id = p.storage_id
        ), pieces AS (
         SELECT p.kind,
            p.region_id,
            d_1.day,
            ( SELECT c.gb_month_micros
                   FROM billing.provider_costs c
                  WHERE c.kind = p.kind AND c.region_id = p.region_id AND c.effective_at <= GREATEST(p.starts_at, (d_1.day AT TIME ZONE 'UTC'::text))
                  ORDER BY c.effective_at DESC
                 LIMIT 1) AS gb_month_micros,
            p.gb::numeric * EXTRACT(epoch FROM LEAST(p.ends_at, ((d_1.day + '1 day'::interval) AT TIME ZONE 'UTC'::text)) - GREATEST(p.starts_at, (d_1.day AT TIME ZONE 'UTC'::text))) / 2628000::numeric AS gb_months
           FROM provisioned p
             CROSS JOIN LATERAL generate_series(date_trunc('day'::text, (p.starts_at AT TIME ZONE 'UTC'::text)), (p.ends_at AT TIME ZONE 'UTC'::text), '1 day'::interval) d_1(day)
        ), days AS (
         SELECT p.day::date AS day,
            p.kind,
            p.region_id,
            sum(p.gb_months) AS gb_months,
                CASE
                    WHEN count(*) = count(p.gb_month_micros) THEN round(sum(p.gb_months * p.gb_month_micros::numeric))::bigint
                    ELSE NULL::bigint
                END AS cost_micros
           FROM pieces p
          WHERE p.gb_months > 0::numeric
          GROUP BY p.day, p.kind, p.region_id
        )
 SELECT day,
    kind,
    region_id AS region,
    round(gb_months, 6) AS gb_months,
    kind = 'bucket'::billing.storage_kind AS is_upper_bound,
    cost_micros,
    ops.usd(cost_micros) AS cost_usd
   FROM days d
  ORDER BY day DESC, kind, region_id;

-- What should have happened outside by now: not handed to its queue within 2 minutes of when that was
-- due, or not acknowledged by its function 10 minutes after its time. What is not done is handed to
-- its queue again each hour. Notifications are read, not done, and never stuck.
create view ops.stuck_outbox (
    organization_id uuid, -- Whose it is.
    name text, -- That organization's name.
    id uuid, -- The row's id, which the name of its task in the queue contains.
    topic billing.outbox_topic, -- The task's queue and function.
    problem text, -- not enqueued, or enqueued but not done.
    payload jsonb, -- What the task is told.
    attempts integer, -- How many times its function began, where that is counted.
    failure text, -- Why the last attempt failed; null: it did not.
    enqueues integer, -- How many times its queue had it.
    created_at timestamp with time zone, -- When (UTC) it was written.
    run_at timestamp with time zone, -- When (UTC) it is to be done.
    enqueued_at timestamp with time zone, -- When (UTC) the queue got it; null: not yet.
    late_seconds bigint -- How many seconds ago it was to be done; negative: there is still so much time.
) as
 WITH open AS (
         SELECT o_1.organization_id,
            o_1.id,
            o_1.topic,
            o_1.payload,
            o_1.run_at,
            o_1.tell_at,
            o_1.enqueued_at,
            o_1.enqueues,
            o_1.attempts,
            o_1.leased_until,
            o_1.failure,
            o_1.acknowledged_at,
            o_1.created_at,
                CASE
                    WHEN o_1.tell_at < ((( SELECT billing.now() AS now)) - '00:02:00'::interval) THEN 'not enqueued'::text
                    WHEN GREATEST(o_1.created_at, o_1.run_at) < ((( SELECT billing.now() AS now)) - '00:10:00'::interval) THEN 'not done'::text
                    ELSE NULL::text
                END AS problem
           FROM billing.outbox o_1
          WHERE o_1.acknowledged_at IS NULL AND o_1.topic <> 'notification'::billing.outbox_topic AND o_1.tell_at <= ((( SELECT billing.now() AS now)) + '01:00:00'::interval)
        )
 SELECT s.organization_id,
    o.name,
    s.id,
    s.topic,
    s.problem,
    s.payload,
    s.attempts,
    s.failure,
    s.enqueues,
    s.created_at,
    s.run_at,
    s.enqueued_at,
    ops.age_seconds(GREATEST(s.created_at, s.run_at)) AS late_seconds
   FROM open s
     JOIN billing.organizations o ON o.id = s.organization_id
  WHERE s.problem IS NOT NULL
  ORDER BY s.created_at;

-- Runs that go on, or that broke off because the provider or we failed: newest first.
create view ops.unfinished_reconciliations (
    id uuid, -- The run's id.
    started_by text, -- The scheduler, or which passport.
    window_start timestamp with time zone, -- From when (UTC) on it asked the provider; null: it only verifies the ledger.
    window_end timestamp with time zone, -- Until when (UTC) it asked the provider; null: it only verifies the ledger.
    compared bigint, -- How many of the provider's objects it has compared.
    replayed bigint, -- How many news only this run has brought.
    verified bigint, -- How many organizations' books it has verified.
    discrepancies bigint, -- How many disagreements it has seen.
    started_at timestamp with time zone, -- When (UTC) it began.
    age_seconds bigint, -- Seconds since then.
    followed_at timestamp with time zone -- When (UTC) a later run finished that went on where this one ended; null: none has.
) as
 SELECT id,
    started_by,
    window_start,
    window_end,
    compared,
    replayed,
    verified,
    discrepancies,
    started_at,
    ops.age_seconds(started_at) AS age_seconds,
    ( SELECT min(f.finished_at) AS min
           FROM billing.reconciliations f
          WHERE f.started_at > r.started_at AND f.window_start <= r.window_end AND f.window_end > r.window_end) AS followed_at
   FROM billing.reconciliations r
  WHERE finished_at IS NULL
  ORDER BY started_at DESC;

-- Organizations whose running sessions end within 24 hours for want of money, if all run on and no
-- money comes. That a grant may expire before is not foreseen.
create view ops.wallets_running_dry (
    organization_id uuid, -- The organization's id.
    name text, -- Its name.
    owner_emails text, -- The addresses of its owners.
    running_sessions bigint, -- How many of its sessions run.
    hourly_micros bigint, -- What they cost an hour, in µ$.
    hourly_usd numeric, -- What they cost an hour, in USD.
    left_micros bigint, -- What they can still spend, in µ$; negative where a sweep is late.
    left_usd numeric, -- What they can still spend, in USD; negative where a sweep is late.
    dry_at timestamp with time zone, -- When (UTC) that is spent.
    auto_top_up text -- Whether its card is charged before: active. It is not: capped (for this month), paused, none.
) as
 WITH clock AS (
         SELECT billing.now() AS now_at
        ), running AS (
         SELECT h.organization_id,
            c.now_at,
            sum(s.hourly_price_micros)::bigint AS hourly_micros,
            sum(h.amount_micros - billing.session_cost(s.hourly_price_micros, s.started_at, c.now_at))::bigint AS unspent_micros
           FROM billing.holds h
             JOIN billing.sessions s ON s.organization_id = h.organization_id AND s.id = h.id
             CROSS JOIN clock c
          WHERE h.kind = 'session'::billing.hold_kind AND h.due_at IS NOT NULL
          GROUP BY h.organization_id, c.now_at
        ), burning AS (
         SELECT o.organization_id,
            o.name,
            o.owner_emails,
            o.running_sessions,
            r.now_at,
            r.hourly_micros,
            o.available_micros + r.unspent_micros AS left_micros
           FROM running r
             JOIN ops.organizations o ON o.organization_id = r.organization_id
        )
 SELECT b.organization_id,
    b.name,
    b.owner_emails,
    b.running_sessions,
    b.hourly_micros,
    ops.usd(b.hourly_micros) AS hourly_usd,
    b.left_micros,
    ops.usd(b.left_micros) AS left_usd,
    b.now_at + (b.left_micros::numeric / b.hourly_micros::numeric)::double precision * '01:00:00'::interval AS dry_at,
        CASE
            WHEN a.status IS NULL THEN 'none'::text
            WHEN a.status = 'active'::billing.auto_top_up_status AND a.is_capped THEN 'capped'::text
            ELSE a.status::text
        END AS auto_top_up
   FROM burning b
     LEFT JOIN api.auto_top_ups a ON a.organization_id = b.organization_id
  WHERE b.left_micros < (24 * b.hourly_micros)
  ORDER BY (b.now_at + (b.left_micros::numeric / b.hourly_micros::numeric)::double precision * '01:00:00'::interval);

-- Makes a user a member of the organization that they were invited to.
create function api.accept_invitation(p_user_id uuid, p_token_hash text, p_idempotency_key text) returns TABLE(member api.members, replayed boolean) language plpgsql security definer set search_path=pg_catalog, pg_temp as 'b474b20c2ded663f844005ac832e4d74';
grant execute on routine api.accept_invitation(uuid,text,text) to faregate_functions, service_role;

-- Charges and renews the storage that is due, for the cron.
create function api.accrue_storage(p_limit integer) returns TABLE(accrued integer, more boolean) language plpgsql security definer set search_path=pg_catalog, pg_temp as 'cad2902f9ec51a00490f1f1d52357d06';
grant execute on routine api.accrue_storage(integer) to faregate_functions, service_role;

-- Sums up usage by day, model, feature, passport or organization.
create function api.analyze_usage(p_caller jsonb, p_organization_id uuid, p_is_all boolean, p_from date, p_to date, p_group_by text[]) returns TABLE(from_day date, to_day date, groups billing.usage_line[]) language plpgsql security definer set search_path=pg_catalog, pg_temp as '0303c0b9fc338d9f6b8a108f0f56994f';
grant execute on routine api.analyze_usage(jsonb,uuid,boolean,date,date,text[]) to faregate_functions, service_role;

-- Notes the provider's checkout of a top-up; the first one stays.
create function api.attach_checkout(p_organization_id uuid, p_top_up_id uuid, p_checkout_session_id text, p_checkout_url text) returns SETOF api.top_ups language plpgsql security definer set search_path=pg_catalog, pg_temp as '460a8df11c41b3bc5286c52238a57c42';
grant execute on routine api.attach_checkout(uuid,uuid,text,text) to faregate_functions, service_role;

-- Puts a space that the caller's organization owns into one of its workspaces.
create function api.attach_space(p_caller jsonb, p_slug text, p_workspace_id uuid, p_idempotency_key text) returns TABLE(attachment api.attachments, replayed boolean) language plpgsql security definer set search_path=pg_catalog, pg_temp as '96284ffdded13f38306d85369a3102b1';
grant execute on routine api.attach_space(jsonb,text,uuid,text) to faregate_functions, service_role;

-- Attaches storage to a workspace.
create function api.attach_storage(p_caller jsonb, p_storage_id uuid, p_workspace_id uuid) returns SETOF api.storage language plpgsql security definer set search_path=pg_catalog, pg_temp as '93fb9eeb0ebecf555c144c5d673078f9';
grant execute on routine api.attach_storage(jsonb,uuid,uuid) to faregate_functions, service_role;

-- Holds a customer's money for usage to come.
create function api.authorize_usage(p_caller jsonb, p_usage jsonb, p_expires_in_seconds integer, p_idempotency_key text) returns TABLE(usage_authorization api.usage_authorizations, replayed boolean) language plpgsql security definer set search_path=pg_catalog, pg_temp as 'd889db9a5fc4d81055a771613a573bc9';
grant execute on routine api.authorize_usage(jsonb,jsonb,integer,text) to faregate_functions, service_role;

-- Buys a space for the caller's organization.
create function api.buy_space(p_caller jsonb, p_slug text, p_idempotency_key text) returns TABLE(purchase api.purchases, replayed boolean) language plpgsql security definer set search_path=pg_catalog, pg_temp as '99d59a2e0ab7189e89b1f20e6df96e30';
grant execute on routine api.buy_space(jsonb,text,text) to faregate_functions, service_role;

-- Takes part or all of what a hold keeps.
create function api.capture_hold(p_caller jsonb, p_organization_id uuid, p_hold_id uuid, p_amount_micros bigint, p_is_final boolean, p_idempotency_key text) returns TABLE(hold api.holds, replayed boolean) language plpgsql security definer set search_path=pg_catalog, pg_temp as 'e6969ad17b8eea8e90a881404cf31c76';
grant execute on routine api.capture_hold(jsonb,uuid,uuid,bigint,boolean,text) to faregate_functions, service_role;

-- Records and charges what was really used of what was authorized.
create function api.capture_usage(p_caller jsonb, p_organization_id uuid, p_authorization_id uuid, p_usage jsonb, p_idempotency_key text) returns TABLE(usage_authorization api.usage_authorizations, replayed boolean) language plpgsql security definer set search_path=pg_catalog, pg_temp as '5b71bbc3576a1372042450bf72a95825';
grant execute on routine api.capture_usage(jsonb,uuid,uuid,jsonb,text) to faregate_functions, service_role;

-- Charges a usage event that could not be rated when it came, for an operator.
create function api.charge_usage_review(p_caller jsonb, p_organization_id uuid, p_id uuid, p_price_micros bigint) returns SETOF api.rated_reviews language plpgsql security definer set search_path=pg_catalog, pg_temp as '15020157a10e0d2a19ea4ba51e8797d9';
grant execute on routine api.charge_usage_review(jsonb,uuid,uuid,bigint) to faregate_functions, service_role;

-- Tells whether a feature may be used now, how much of it is left, and why not.
create function api.check_entitlement(p_caller jsonb, p_organization_id uuid, p_passport_id uuid, p_feature_id text, p_quantity numeric) returns SETOF billing.entitlement_check language plpgsql security definer set search_path=pg_catalog, pg_temp as '64b0b2afaff45bc724220417f8bd3154';
grant execute on routine api.check_entitlement(jsonb,uuid,uuid,text,numeric) to faregate_functions, service_role;

-- Copies a space that the caller's organization bought into a bucket that it rents.
create function api.clone_space(p_caller jsonb, p_slug text, p_workspace_id uuid, p_region text, p_name text, p_idempotency_key text) returns TABLE(clone api.clones, replayed boolean) language plpgsql security definer set search_path=pg_catalog, pg_temp as 'cd28ef626046f9989f6c5dbbcb5e4d85';
grant execute on routine api.clone_space(jsonb,text,uuid,text,text,text) to faregate_functions, service_role;

-- Records and charges the events of a backfill, for an operator.
create function api.close_backfill(p_caller jsonb, p_id uuid) returns SETOF api.backfills language plpgsql security definer set search_path=pg_catalog, pg_temp as '6149d9a51321703980ab8fefaaa61c15';
grant execute on routine api.close_backfill(jsonb,uuid) to faregate_functions, service_role;

-- Closes an organization: stops what runs and charges it; what was paid is given up, and what
-- is stored is deleted, only expressly.
create function api.close_organization(p_user_id uuid, p_organization_id uuid, p_forfeit_balance boolean, p_delete_storage boolean, p_idempotency_key text) returns TABLE(organization api.organizations, replayed boolean) language plpgsql security definer set search_path=pg_catalog, pg_temp as '8b465da50c4a179649706cd6228c4858';
grant execute on routine api.close_organization(uuid,uuid,boolean,boolean,text) to faregate_functions, service_role;

-- Tells what to ask Stripe about again, because a page of its lists disagrees with our books.
create function api.compare_stripe(p_reconciliation_id uuid, p_page jsonb, p_live_mode boolean) returns SETOF text language plpgsql security definer set search_path=pg_catalog, pg_temp as '305f277202e226837d79b26b145e4870';
grant execute on routine api.compare_stripe(uuid,jsonb,boolean) to faregate_functions, service_role;

-- Gives a customer promotional credits, for an operator.
create function api.create_grant(p_caller jsonb, p_organization_id uuid, p_amount_micros bigint, p_note text, p_priority smallint, p_effective_at timestamp with time zone, p_expires_at timestamp with time zone, p_idempotency_key text) returns TABLE(credit_grant api.grants, replayed boolean) language plpgsql security definer set search_path=pg_catalog, pg_temp as '71b780e9208fd99f116966f2b21b8c73';
grant execute on routine api.create_grant(jsonb,uuid,bigint,text,smallint,timestamp with time zone,timestamp with time zone,text) to faregate_functions, service_role;

-- Invites an address to an organization, in place of an open invitation of the same address.
create function api.create_invitation(p_caller jsonb, p_organization_id uuid, p_email text, p_role text, p_idempotency_key text) returns TABLE(invitation api.invitations, replayed boolean) language plpgsql security definer set search_path=pg_catalog, pg_temp as '4ef6cd809344469ccdb669d77ffc9aca';
grant execute on routine api.create_invitation(jsonb,uuid,text,text,text) to faregate_functions, service_role;

-- Makes one more organization of a signed-in user, on the free plan.
create function api.create_organization(p_user_id uuid, p_name text, p_idempotency_key text) returns TABLE(registration billing.registration, replayed boolean) language plpgsql security definer set search_path=pg_catalog, pg_temp as '38298c39fc5015c71d87c019384ce798';
grant execute on routine api.create_organization(uuid,text,text) to faregate_functions, service_role;

-- Makes a passport of the caller's organization, with no more rights than the caller has.
create function api.create_passport(p_caller jsonb, p_name text, p_permissions text[], p_expires_at timestamp with time zone, p_key_hash text, p_key_prefix text, p_idempotency_key text) returns TABLE(passport api.passports, replayed boolean) language plpgsql security definer set search_path=pg_catalog, pg_temp as '1bab26eace5bf01281c510186ba4a168';
grant execute on routine api.create_passport(jsonb,text,text[],timestamp with time zone,text,text,text) to faregate_functions, service_role;

-- Makes a rule about calls or spending. For operators.
create function api.create_policy(p_caller jsonb, p_rule jsonb, p_idempotency_key text) returns TABLE(policy api.policies, replayed boolean) language plpgsql security definer set search_path=pg_catalog, pg_temp as '38021d4ae0fef40804353773137cb114';
grant execute on routine api.create_policy(jsonb,jsonb,text) to faregate_functions, service_role;

-- Rents a bucket or a file share: holds its first window's money and has the cloud make it.
create function api.create_storage(p_caller jsonb, p_kind text, p_region text, p_size_gb integer, p_name text, p_workspace_id uuid, p_soft_delete_days integer, p_delete_after_days integer, p_idempotency_key text) returns TABLE(storage api.storage, replayed boolean) language plpgsql security definer set search_path=pg_catalog, pg_temp as '67d915d66b27658badc3d74285f64014';
grant execute on routine api.create_storage(jsonb,text,text,integer,text,uuid,integer,integer,text) to faregate_functions, service_role;

-- Tells whose a token for reading views is, and for how long.
create function api.create_token(p_caller jsonb) returns TABLE(organization_id uuid, passport_id uuid, expires_in_seconds integer) language plpgsql security definer set search_path=pg_catalog, pg_temp as 'a69296b3f5883581ca18a074ad24f57d';
grant execute on routine api.create_token(jsonb) to faregate_functions, service_role;

-- Asks for credits; the checkout at the provider follows.
create function api.create_top_up(p_caller jsonb, p_amount_micros bigint, p_save_card boolean, p_idempotency_key text) returns TABLE(top_up api.top_ups, billing_email text, customer_id text, replayed boolean) language plpgsql security definer set search_path=pg_catalog, pg_temp as '2b1c8e6d6a0ea43e86d2f57607afa7d6';
grant execute on routine api.create_top_up(jsonb,bigint,boolean,text) to faregate_functions, service_role;

-- Makes the partitions of events for a year ahead, where they are missing.
create function api.create_usage_months() returns boolean language plpgsql security definer set search_path=pg_catalog, pg_temp as '21f139bd2cc2bdc7e1cc67f787a04f9a';
grant execute on routine api.create_usage_months() to faregate_functions, service_role;

-- Decides what usage costs from a moment on, for an operator.
create function api.create_usage_rate(p_caller jsonb, p_rate jsonb, p_idempotency_key text) returns TABLE(rate api.usage_rates, replayed boolean) language plpgsql security definer set search_path=pg_catalog, pg_temp as 'b1b3de399e9368e36bbb264eb525bb57';
grant execute on routine api.create_usage_rate(jsonb,jsonb,text) to faregate_functions, service_role;

-- Makes a workspace of the caller's organization.
create function api.create_workspace(p_caller jsonb, p_name text, p_idempotency_key text) returns TABLE(workspace api.workspaces, replayed boolean) language plpgsql security definer set search_path=pg_catalog, pg_temp as '22ad34e67f13d0ce7ce8925ca1bb8b6e';
grant execute on routine api.create_workspace(jsonb,text,text) to faregate_functions, service_role;

-- Ends automatic top-ups.
create function api.delete_auto_top_up(p_caller jsonb) returns boolean language plpgsql security definer set search_path=pg_catalog, pg_temp as '8859abc99d92c2d40afa2a8c3e8c0cbf';
grant execute on routine api.delete_auto_top_up(jsonb) to faregate_functions, service_role;

-- Opens a feature to everybody, for an operator.
create function api.delete_feature(p_caller jsonb, p_feature_id text) returns boolean language plpgsql security definer set search_path=pg_catalog, pg_temp as '8ecc63b8c466bcb5cc1d5584227fdb15';
grant execute on routine api.delete_feature(jsonb,text) to faregate_functions, service_role;

-- Ends a rule. For operators.
create function api.delete_policy(p_caller jsonb, p_policy_id uuid) returns SETOF api.policies language plpgsql security definer set search_path=pg_catalog, pg_temp as '253e13cc1968d559320fa19611ed6231';
grant execute on routine api.delete_policy(jsonb,uuid) to faregate_functions, service_role;

-- Ends a spend cap.
create function api.delete_spend_cap(p_caller jsonb, p_organization_id uuid, p_cap_id uuid) returns boolean language plpgsql security definer set search_path=pg_catalog, pg_temp as '833a927c1346be561525be222009c7e4';
grant execute on routine api.delete_spend_cap(jsonb,uuid,uuid) to faregate_functions, service_role;

-- Charges storage up to now and has the cloud delete it, with all that is in it.
create function api.delete_storage(p_caller jsonb, p_storage_id uuid) returns SETOF api.storage language plpgsql security definer set search_path=pg_catalog, pg_temp as 'add40a125d077f75441962b225e38ab3';
grant execute on routine api.delete_storage(jsonb,uuid) to faregate_functions, service_role;

-- Ends a workspace to which nothing is attached and in which nothing runs.
create function api.delete_workspace(p_caller jsonb, p_workspace_id uuid) returns SETOF api.workspaces language plpgsql security definer set search_path=pg_catalog, pg_temp as 'dab577c6dc3ebba3a91343e57b00857d';
grant execute on routine api.delete_workspace(jsonb,uuid) to faregate_functions, service_role;

-- Takes a space out of a workspace in which no session runs.
create function api.detach_space(p_caller jsonb, p_slug text, p_workspace_id uuid, p_idempotency_key text) returns TABLE(attachment api.attachments, replayed boolean) language plpgsql security definer set search_path=pg_catalog, pg_temp as '11c5e4a54c9d4224de14886f89a47e73';
grant execute on routine api.detach_space(jsonb,text,uuid,text) to faregate_functions, service_role;

-- Takes storage out of its workspace.
create function api.detach_storage(p_caller jsonb, p_storage_id uuid) returns SETOF api.storage language plpgsql security definer set search_path=pg_catalog, pg_temp as '08c93c4d400b31b1db14f6af5ac66710';
grant execute on routine api.detach_storage(jsonb,uuid) to faregate_functions, service_role;

-- Closes the review of a usage event without charging it, for an operator.
create function api.dismiss_usage_review(p_caller jsonb, p_organization_id uuid, p_id uuid) returns SETOF api.rated_reviews language plpgsql security definer set search_path=pg_catalog, pg_temp as 'adcb8319305d3a643d6ab6b3a479cb08';
grant execute on routine api.dismiss_usage_review(jsonb,uuid,uuid) to faregate_functions, service_role;

-- Tells what a quantity of a SKU costs the caller now, and whether the balance covers it.
create function api.estimate_cost(p_caller jsonb, p_sku text, p_quantity numeric) returns TABLE(sku text, unit text, quantity numeric, unit_price_micros bigint, cost_micros bigint, available_micros bigint, affordable boolean) language plpgsql security definer set search_path=pg_catalog, pg_temp as '9e398c1b03da568319a3facd0349ddc1';
grant execute on routine api.estimate_cost(jsonb,text,numeric) to faregate_functions, service_role;

-- Tells what a session would cost and how long the balance would last.
create function api.estimate_session(p_caller jsonb, p_tier text, p_preset text, p_workspace_id uuid, p_seconds integer) returns TABLE(tier text, seconds integer, hourly_price_micros bigint, cost_micros bigint, preset text, storage_kind text, storage_gb integer, storage_month_cost_micros bigint, storage_required_micros bigint, space text, space_price_micros bigint, required_micros bigint, available_micros bigint, affordable_seconds bigint) language plpgsql security definer set search_path=pg_catalog, pg_temp as '3782b0c7314f2fa2ffc2c702633d05e0';
grant execute on routine api.estimate_session(jsonb,text,text,uuid,integer) to faregate_functions, service_role;

-- Tells what storage would cost and what must be available to rent it.
create function api.estimate_storage(p_caller jsonb, p_kind text, p_region text, p_size_gb integer) returns TABLE(kind text, region text, size_gb integer, gb_month_price_micros bigint, month_cost_micros bigint, required_micros bigint, available_micros bigint) language plpgsql security definer set search_path=pg_catalog, pg_temp as '817a7eff0a9acd9ce057ffc8d5195e6f';
grant execute on routine api.estimate_storage(jsonb,text,text,integer) to faregate_functions, service_role;

-- Tells what usage would cost, and a cheaper model.
create function api.estimate_usage(p_caller jsonb, p_organization_id uuid, p_usage jsonb) returns TABLE(price_usd text, cost_usd text, margin_usd text, review text, cheaper_model text, cheaper_price_usd text, saving_usd text) language plpgsql security definer set search_path=pg_catalog, pg_temp as '540bf178bca94a728f6bcb11dbec3195';
grant execute on routine api.estimate_usage(jsonb,uuid,jsonb) to faregate_functions, service_role;

-- Tells what the rules would do with a call, and why; changes nothing. For operators.
create function api.evaluate_policies(p_caller jsonb, p_facts jsonb, p_draft jsonb) returns TABLE(policy_id uuid, description text, effect text, asked text, outcome text, tokens integer, retry_after_seconds bigint) language plpgsql security definer set search_path=pg_catalog, pg_temp as '57a2f33b1ed00b242cd5b6edd401a8ba';
grant execute on routine api.evaluate_policies(jsonb,jsonb,jsonb) to faregate_functions, service_role;

-- Takes what remains of expired grants, for the cron.
create function api.expire_grants(p_limit integer) returns TABLE(expired integer, more boolean) language plpgsql security definer set search_path=pg_catalog, pg_temp as '8abcd47c020a8bece46031df840a38a3';
grant execute on routine api.expire_grants(integer) to faregate_functions, service_role;

-- Closes holds of usage that nobody renewed, for the cron.
create function api.expire_holds(p_limit integer) returns TABLE(expired integer, more boolean) language plpgsql security definer set search_path=pg_catalog, pg_temp as '459ef4ef3fcf674e8377508986a00f63';
grant execute on routine api.expire_holds(integer) to faregate_functions, service_role;

-- Tells where a bucket's objects are, for whoever may read or delete them.
create function api.find_bucket(p_caller jsonb, p_storage_id uuid, p_permission text) returns TABLE(provider text, location text, endpoint text, resource_name text) language plpgsql security definer set search_path=pg_catalog, pg_temp as '8026029914a7f2a2dd326c38731e7222';
grant execute on routine api.find_bucket(jsonb,uuid,text) to faregate_functions, service_role;

-- Notes what became of an automatic top-up's charge.
create function api.finish_charge(p_organization_id uuid, p_top_up_id uuid, p_task_id uuid, p_intent jsonb, p_refusal text) returns SETOF api.top_ups language plpgsql security definer set search_path=pg_catalog, pg_temp as '60c22543e188163d1911763dbf5f80bf';
grant execute on routine api.finish_charge(uuid,uuid,uuid,jsonb,text) to faregate_functions, service_role;

-- Notes what became of a run of an identity's task.
create function api.finish_identity(p_organization_id uuid, p_task_id uuid, p_attempt integer, p_step text, p_outcome text, p_email text, p_reason text) returns TABLE(status billing.identity_status, is_done boolean) language plpgsql security definer set search_path=pg_catalog, pg_temp as '35749f4c50e25edf88b2a3bbbc1afe1d';
grant execute on routine api.finish_identity(uuid,uuid,integer,text,text,text,text) to faregate_functions, service_role;

-- Notes that an invitation's mail was sent, or why it never will be.
create function api.finish_invitation_mail(p_organization_id uuid, p_invitation_id uuid, p_task_id uuid, p_failure text) returns SETOF api.invitations language plpgsql security definer set search_path=pg_catalog, pg_temp as '037fdf404f7a2e89097232cb0874db61';
grant execute on routine api.finish_invitation_mail(uuid,uuid,uuid,text) to faregate_functions, service_role;

-- Records what became of a task's step in the cloud for a storage resource.
create function api.finish_provisioning(p_organization_id uuid, p_storage_id uuid, p_task_id uuid, p_attempt integer, p_step text, p_outcome text, p_reason text, p_size_gb integer, p_access text, p_principal text, p_mount text, p_operation text) returns TABLE(status text, is_done boolean) language plpgsql security definer set search_path=pg_catalog, pg_temp as '90a6f348c10bd1cb04e1d69aacf9363f';
grant execute on routine api.finish_provisioning(uuid,uuid,uuid,integer,text,text,text,integer,text,text,text,text) to faregate_functions, service_role;

-- Ends a run that has looked at everything.
create function api.finish_reconciliation(p_reconciliation_id uuid) returns SETOF api.reconciliations language plpgsql security definer set search_path=pg_catalog, pg_temp as 'ef0b334f3496bda8bc90045f43ac2eb3';
grant execute on routine api.finish_reconciliation(uuid) to faregate_functions, service_role;

-- Notes a file of events, if what was read back from the bucket is what they are.
create function api.finish_usage_file(p_month date, p_number integer, p_object_name text, p_events bigint, p_cost_usd text, p_price_usd text, p_size_bytes bigint, p_sha256 text) returns boolean language plpgsql security definer set search_path=pg_catalog, pg_temp as '51f0b805abb9c25e8d4c6ed2e32ab30c';
grant execute on routine api.finish_usage_file(date,integer,text,bigint,text,text,bigint,text) to faregate_functions, service_role;

-- Takes a month of events out of the database, all of which are in files.
create function api.finish_usage_month(p_month date) returns boolean language plpgsql security definer set search_path=pg_catalog, pg_temp as '2ff8fec838718f5db127782ab225f776';
grant execute on routine api.finish_usage_month(date) to faregate_functions, service_role;

-- Adds events to their days, in the order of their arrival.
create function api.fold_usage(p_limit integer) returns TABLE(folded bigint, more boolean) language plpgsql security definer set search_path=pg_catalog, pg_temp set enable_seqscan=off set enable_indexscan=off set enable_indexonlyscan=off set jit=off set plan_cache_mode=force_custom_plan as '77eb6e2d24e26bf697af6ba77ccd254e';
grant execute on routine api.fold_usage(integer) to faregate_functions, service_role;

-- Tells what a day costs of late and for how long the money lasts, and how wrong that may be.
create function api.forecast_usage(p_caller jsonb, p_organization_id uuid) returns TABLE(organization_id uuid, available_micros bigint, days integer, burn_micros bigint, forecast_micros bigint, error numeric, days_left integer, runs_out_on date) language plpgsql security definer set search_path=pg_catalog, pg_temp set enable_seqscan=off as '4d87d88a9a4a9dc911e34cddfc71195f';
grant execute on routine api.forecast_usage(jsonb,uuid) to faregate_functions, service_role;

-- Reads the settings of automatic top-ups.
create function api.get_auto_top_up(p_caller jsonb) returns SETOF api.auto_top_ups language plpgsql security definer set search_path=pg_catalog, pg_temp as 'b8216ba96fa51c074e84f4430d61757b';
grant execute on routine api.get_auto_top_up(jsonb) to faregate_functions, service_role;

-- Tells how far a backfill is.
create function api.get_backfill(p_caller jsonb, p_id uuid) returns SETOF api.backfills language plpgsql security definer set search_path=pg_catalog, pg_temp as 'a253c62bd17d55281fe7b66c6844f17a';
grant execute on routine api.get_backfill(jsonb,uuid) to faregate_functions, service_role;

-- Tells how far a clone is.
create function api.get_clone(p_caller jsonb, p_clone_id uuid) returns SETOF api.clones language plpgsql security definer set search_path=pg_catalog, pg_temp as '8c7ff8dfebe6edf8c538b832bec89654';
grant execute on routine api.get_clone(jsonb,uuid) to faregate_functions, service_role;

-- Reads one hold.
create function api.get_hold(p_caller jsonb, p_organization_id uuid, p_hold_id uuid) returns SETOF api.holds language plpgsql security definer set search_path=pg_catalog, pg_temp as '50f2ef49e8793ef7f9c4aff3f35df5b3';
grant execute on routine api.get_hold(jsonb,uuid,uuid) to faregate_functions, service_role;

-- Reads the service account that the caller's organization acts as.
create function api.get_identity(p_caller jsonb) returns SETOF api.identities language plpgsql security definer set search_path=pg_catalog, pg_temp as '538d9eb09c1c0391b686567b884de575';
grant execute on routine api.get_identity(jsonb) to faregate_functions, service_role;

-- Reads one organization and the user's role in it.
create function api.get_organization(p_user_id uuid, p_organization_id uuid) returns TABLE(organization api.organizations, role text) language plpgsql security definer set search_path=pg_catalog, pg_temp as '3dd5f75015b42612431dd6bb777c7f46';
grant execute on routine api.get_organization(uuid,uuid) to faregate_functions, service_role;

-- Tells which transfers of the caller's ledger a period has.
create function api.get_period(p_caller jsonb, p_from timestamp with time zone, p_to timestamp with time zone) returns TABLE(organization_id uuid, begins_at timestamp with time zone, ends_at timestamp with time zone, opening_sequence bigint, closing_sequence bigint) language plpgsql security definer set search_path=pg_catalog, pg_temp as '41fc5a55c8d3a6588d82b4015acc0922';
grant execute on routine api.get_period(jsonb,timestamp with time zone,timestamp with time zone) to faregate_functions, service_role;

-- Reads a rule. For operators.
create function api.get_policy(p_caller jsonb, p_policy_id uuid) returns SETOF api.policies language plpgsql security definer set search_path=pg_catalog, pg_temp as '08ff690d40e350fd40462e080d63884b';
grant execute on routine api.get_policy(jsonb,uuid) to faregate_functions, service_role;

-- Reads the receipt of a paid top-up.
create function api.get_receipt(p_caller jsonb, p_top_up_id uuid) returns SETOF api.receipts language plpgsql security definer set search_path=pg_catalog, pg_temp as '3996a4868d5fe916537642e3fca7110f';
grant execute on routine api.get_receipt(jsonb,uuid) to faregate_functions, service_role;

-- Reads one session, with its cost as of now.
create function api.get_session(p_caller jsonb, p_session_id uuid) returns SETOF api.sessions language plpgsql security definer set search_path=pg_catalog, pg_temp as '46921e01dfa3e1011dff64b3ee7b63bb';
grant execute on routine api.get_session(jsonb,uuid) to faregate_functions, service_role;

-- Tells what a space is, what it costs the caller, and whether they own it.
create function api.get_space(p_caller jsonb, p_slug text) returns TABLE(id uuid, space jsonb) language plpgsql security definer set search_path=pg_catalog, pg_temp as 'd397e04a647730b75fb344e326a608e4';
grant execute on routine api.get_space(jsonb,text) to faregate_functions, service_role;

-- Sums up what a period did to the caller's wallet, in lines that add up.
create function api.get_statement(p_caller jsonb, p_from timestamp with time zone, p_to timestamp with time zone) returns TABLE(organization_id uuid, begins_at timestamp with time zone, ends_at timestamp with time zone, opening_micros bigint, closing_micros bigint, debt_micros bigint, lines billing.statement_line[]) language plpgsql security definer set search_path=pg_catalog, pg_temp set enable_seqscan=off as '2e1d8736585c726ecdd3bbe43727bfed';
grant execute on routine api.get_statement(jsonb,timestamp with time zone,timestamp with time zone) to faregate_functions, service_role;

-- Reads one storage resource, with its cost as of now.
create function api.get_storage(p_caller jsonb, p_storage_id uuid) returns SETOF api.storage language plpgsql security definer set search_path=pg_catalog, pg_temp as '3f2bb66b8d00d0fcf076e0c3c789391a';
grant execute on routine api.get_storage(jsonb,uuid) to faregate_functions, service_role;

-- Reads one top-up.
create function api.get_top_up(p_caller jsonb, p_top_up_id uuid) returns SETOF api.top_ups language plpgsql security definer set search_path=pg_catalog, pg_temp as '8ef657a65d0feccdbbd3de47efdddab8';
grant execute on routine api.get_top_up(jsonb,uuid) to faregate_functions, service_role;

-- Reads one authorization of usage.
create function api.get_usage_authorization(p_caller jsonb, p_organization_id uuid, p_authorization_id uuid) returns SETOF api.usage_authorizations language plpgsql security definer set search_path=pg_catalog, pg_temp as '87ea2f795bc61f1c8b57cfee48a956c1';
grant execute on routine api.get_usage_authorization(jsonb,uuid,uuid) to faregate_functions, service_role;

-- Reads the balance of the caller's organization.
create function api.get_wallet(p_caller jsonb) returns SETOF api.wallets language plpgsql security definer set search_path=pg_catalog, pg_temp as '43fe823aa3bc08611fe10bb3ed27daa3';
grant execute on routine api.get_wallet(jsonb) to faregate_functions, service_role;

-- Reads one workspace, what is attached to it and how many sessions run in it.
create function api.get_workspace(p_caller jsonb, p_workspace_id uuid) returns TABLE(workspace api.workspaces, storage_ids uuid[], spaces text[], running_sessions bigint) language plpgsql security definer set search_path=pg_catalog, pg_temp as 'a2444fe569ab621234a291b150435f5b';
grant execute on routine api.get_workspace(jsonb,uuid) to faregate_functions, service_role;

-- Notes that a session's resource is alive.
create function api.heartbeat_session(p_caller jsonb, p_session_id uuid) returns SETOF api.sessions language plpgsql security definer set search_path=pg_catalog, pg_temp as '093d7f9791404ae08f6fc6632b35084d';
grant execute on routine api.heartbeat_session(jsonb,uuid) to faregate_functions, service_role;

-- Records, rates and charges up to 1000 usage events, or corrects some.
create function api.ingest_usage(p_caller jsonb, p_batch jsonb, p_is_whole boolean) returns TABLE(accepted integer, duplicates integer, rejected integer, outcomes billing.usage_outcome[]) language plpgsql security definer set search_path=pg_catalog, pg_temp as '1fcb8160d1dc6a7e10518d8f31942b25';
grant execute on routine api.ingest_usage(jsonb,jsonb,boolean) to faregate_functions, service_role;

-- Lists the events that a backfill could not record.
create function api.list_backfill_rejections(p_caller jsonb, p_id uuid) returns SETOF api.backfill_rejections language plpgsql security definer set search_path=pg_catalog, pg_temp as 'fc4edf37179a806fd039b48e68f0fc80';
grant execute on routine api.list_backfill_rejections(jsonb,uuid) to faregate_functions, service_role;

-- Pages through backfills, newest first.
create function api.list_backfills(p_caller jsonb, p_limit integer, p_cursor uuid) returns SETOF api.backfills language plpgsql security definer set search_path=pg_catalog, pg_temp as '851a74c5d5e5a27a772527a05e2ce686';
grant execute on routine api.list_backfills(jsonb,integer,uuid) to faregate_functions, service_role;

-- Pages through the clones of the caller's organization, newest first.
create function api.list_clones(p_caller jsonb, p_limit integer, p_cursor uuid) returns SETOF api.clones language plpgsql security definer set search_path=pg_catalog, pg_temp as '2a00a07305c9b4fbed0ca4cdf21192fd';
grant execute on routine api.list_clones(jsonb,integer,uuid) to faregate_functions, service_role;

-- Pages through where two sides disagree, newest first.
create function api.list_discrepancies(p_caller jsonb, p_status text, p_limit integer, p_cursor uuid) returns SETOF api.discrepancies language plpgsql security definer set search_path=pg_catalog, pg_temp as 'ceabd5ab99dcd80e73f964e003e26259';
grant execute on routine api.list_discrepancies(jsonb,text,integer,uuid) to faregate_functions, service_role;

-- Tells which grants paid a transaction, and how much each.
create function api.list_draws(p_caller jsonb, p_sequence bigint, p_limit integer, p_cursor uuid) returns TABLE(grant_id uuid, amount_micros bigint) language plpgsql security definer set search_path=pg_catalog, pg_temp as '7551fa86ea6f4665ccbf0641e096e1dc';
grant execute on routine api.list_draws(jsonb,bigint,integer,uuid) to faregate_functions, service_role;

-- Lists features and what plans say of them.
create function api.list_features(p_caller jsonb) returns SETOF api.features language plpgsql security definer set search_path=pg_catalog, pg_temp as '14dfd5b0f8568eeebb33039561e19bc9';
grant execute on routine api.list_features(jsonb) to faregate_functions, service_role;

-- Pages through grants and what remains of them, newest first.
create function api.list_grants(p_caller jsonb, p_organization_id uuid, p_status text, p_limit integer, p_cursor uuid) returns SETOF api.grants language plpgsql security definer set search_path=pg_catalog, pg_temp as 'aedcdf15b542d58f3b903374721d0b3c';
grant execute on routine api.list_grants(jsonb,uuid,text,integer,uuid) to faregate_functions, service_role;

-- Pages through holds, newest first.
create function api.list_holds(p_caller jsonb, p_organization_id uuid, p_status text, p_limit integer, p_cursor uuid) returns SETOF api.holds language plpgsql security definer set search_path=pg_catalog, pg_temp as '5d9835cd0e1d98fcf6ab0eb9e3437088';
grant execute on routine api.list_holds(jsonb,uuid,text,integer,uuid) to faregate_functions, service_role;

-- Pages through an organization's invitations, newest first.
create function api.list_invitations(p_caller jsonb, p_organization_id uuid, p_limit integer, p_cursor uuid) returns SETOF api.invitations language plpgsql security definer set search_path=pg_catalog, pg_temp as 'b14819c496df8b8579fe789f87dea893';
grant execute on routine api.list_invitations(jsonb,uuid,integer,uuid) to faregate_functions, service_role;

-- Pages through the members of an organization.
create function api.list_members(p_user_id uuid, p_organization_id uuid, p_limit integer, p_cursor uuid) returns SETOF api.members language plpgsql security definer set search_path=pg_catalog, pg_temp as 'e91f7f13b59da3ddbfa6d6f4d135fd3b';
grant execute on routine api.list_members(uuid,uuid,integer,uuid) to faregate_functions, service_role;

-- Tells which of these events of Stripe never arrived.
create function api.list_missed_events(p_ids text[]) returns SETOF text language plpgsql security definer set search_path=pg_catalog, pg_temp as '88d35bf33549378f5709c937a106672b';
grant execute on routine api.list_missed_events(text[]) to faregate_functions, service_role;

-- Pages through what the caller's organization was told, newest first.
create function api.list_notifications(p_caller jsonb, p_limit integer, p_cursor uuid) returns SETOF api.notifications language plpgsql security definer set search_path=pg_catalog, pg_temp as '25368884c0c6691fb8480e34b450ddfa';
grant execute on routine api.list_notifications(jsonb,integer,uuid) to faregate_functions, service_role;

-- Pages through the organizations that a user belongs to, newest first.
create function api.list_organizations(p_user_id uuid, p_limit integer, p_cursor uuid) returns TABLE(organization api.organizations, role text) language plpgsql security definer set search_path=pg_catalog, pg_temp as 'a3b37517ad6462e4240b17d0655d1b48';
grant execute on routine api.list_organizations(uuid,integer,uuid) to faregate_functions, service_role;

-- Lists what of a topic its task queue is to be told now, longest due first.
create function api.list_outbox(p_topic text, p_limit integer) returns TABLE(id uuid, organization_id uuid, name text, payload jsonb, run_at timestamp with time zone) language plpgsql security definer set search_path=pg_catalog, pg_temp as '928973084fadd29aa7fa53d4dc6ba6bc';
grant execute on routine api.list_outbox(text,integer) to faregate_functions, service_role;

-- Pages through the passports of the caller's organization, newest first.
create function api.list_passports(p_caller jsonb, p_limit integer, p_cursor uuid) returns SETOF api.passports language plpgsql security definer set search_path=pg_catalog, pg_temp as '5114ecf0ab37013e0a6d89ee63ab6011';
grant execute on routine api.list_passports(jsonb,integer,uuid) to faregate_functions, service_role;

-- Pages through a stretch of the caller's ledger, oldest first.
create function api.list_period(p_caller jsonb, p_opening_sequence bigint, p_closing_sequence bigint, p_limit integer) returns SETOF api.transactions language plpgsql security definer set search_path=pg_catalog, pg_temp as '7b062ab51a8d67892edef9b120228203';
grant execute on routine api.list_period(jsonb,bigint,bigint,integer) to faregate_functions, service_role;

-- Pages through the rules, newest first. For operators.
create function api.list_policies(p_caller jsonb, p_limit integer, p_cursor uuid) returns SETOF api.policies language plpgsql security definer set search_path=pg_catalog, pg_temp as '36deb4723a2ba675e64bc74ad7011e44';
grant execute on routine api.list_policies(jsonb,integer,uuid) to faregate_functions, service_role;

-- Lists what sessions can be started by name, and what each costs the caller.
create function api.list_presets(p_caller jsonb) returns TABLE(id text, title text, tier text, minutes integer, storage_kind text, storage_gb integer, space text, hourly_price_micros bigint, cost_micros bigint, storage_month_cost_micros bigint, space_price_micros bigint, is_allowed boolean) language plpgsql security definer set search_path=pg_catalog, pg_temp as '0cf91b5a625d9162cbb3a661391440fb';
grant execute on routine api.list_presets(jsonb) to faregate_functions, service_role;

-- Pages through the spaces that the caller's organization bought, newest first.
create function api.list_purchases(p_caller jsonb, p_limit integer, p_cursor uuid) returns SETOF api.purchases language plpgsql security definer set search_path=pg_catalog, pg_temp as 'a14d3583a8c3d1dfa0ca0490888cd95a';
grant execute on routine api.list_purchases(jsonb,integer,uuid) to faregate_functions, service_role;

-- Pages through runs, newest first.
create function api.list_reconciliations(p_caller jsonb, p_limit integer, p_cursor uuid) returns SETOF api.reconciliations language plpgsql security definer set search_path=pg_catalog, pg_temp as 'a880d4947f25a427cd60bca8fe53154d';
grant execute on routine api.list_reconciliations(jsonb,integer,uuid) to faregate_functions, service_role;

-- Lists where storage can be rented on the caller's plan, for how much, and how large.
create function api.list_regions(p_caller jsonb) returns TABLE(kind text, region text, provider text, is_default boolean, gb_month_price_micros bigint, min_gb integer, max_gb integer, step_gb integer, max_count integer) language plpgsql security definer set search_path=pg_catalog, pg_temp as 'e31fc735797630270f3e6f1ef9b469a2';
grant execute on routine api.list_regions(jsonb) to faregate_functions, service_role;

-- Pages through the sessions of the caller's organization, newest first.
create function api.list_sessions(p_caller jsonb, p_status text, p_workspace_id uuid, p_limit integer, p_cursor uuid) returns SETOF api.sessions language plpgsql security definer set search_path=pg_catalog, pg_temp as '96718487ddac0d6eabd7eb478bfa3011';
grant execute on routine api.list_sessions(jsonb,text,uuid,integer,uuid) to faregate_functions, service_role;

-- Pages through the catalogue, newest first, with what each space costs the caller.
create function api.list_spaces(p_caller jsonb, p_status text, p_limit integer, p_cursor uuid) returns TABLE(id uuid, space jsonb) language plpgsql security definer set search_path=pg_catalog, pg_temp as '59e03906db5d1392b4e6982944fb1868';
grant execute on routine api.list_spaces(jsonb,text,integer,uuid) to faregate_functions, service_role;

-- Lists spend caps and what of each is spent.
create function api.list_spend_caps(p_caller jsonb, p_organization_id uuid) returns TABLE(cap api.spend_caps, spent_micros bigint, resets_at timestamp with time zone) language plpgsql security definer set search_path=pg_catalog, pg_temp as '8699e05fc97239a0ed0e2f55899b2942';
grant execute on routine api.list_spend_caps(jsonb,uuid) to faregate_functions, service_role;

-- Pages through the storage of the caller's organization, newest first.
create function api.list_storage(p_caller jsonb, p_kind text, p_status text, p_workspace_id uuid, p_limit integer, p_cursor uuid) returns SETOF api.storage language plpgsql security definer set search_path=pg_catalog, pg_temp as '03ac2c850daae8399c2d9666a3b097af';
grant execute on routine api.list_storage(jsonb,text,text,uuid,integer,uuid) to faregate_functions, service_role;

-- Pages through the top-ups of the caller's organization, newest first.
create function api.list_top_ups(p_caller jsonb, p_limit integer, p_cursor uuid) returns SETOF api.top_ups language plpgsql security definer set search_path=pg_catalog, pg_temp as '029b7c105a9bacd94abd246f622d4581';
grant execute on routine api.list_top_ups(jsonb,integer,uuid) to faregate_functions, service_role;

-- Pages through the ledger of the caller's organization, newest first.
create function api.list_transactions(p_caller jsonb, p_limit integer, p_cursor bigint) returns SETOF api.transactions language plpgsql security definer set search_path=pg_catalog, pg_temp as '39bbfaadd9297646b67e86cc36b5478f';
grant execute on routine api.list_transactions(jsonb,integer,bigint) to faregate_functions, service_role;

-- Tells which of our payments the provider did not list.
create function api.list_unlisted_payments(p_window_start timestamp with time zone, p_listed text[]) returns SETOF text language plpgsql security definer set search_path=pg_catalog, pg_temp as '8e42cecdb176350118749899cbb04c07';
grant execute on routine api.list_unlisted_payments(timestamp with time zone,text[]) to faregate_functions, service_role;

-- Tells which open discrepancies a run has not come across.
create function api.list_unseen_discrepancies(p_reconciliation_id uuid) returns SETOF text language plpgsql security definer set search_path=pg_catalog, pg_temp as '2e7aaa87bfbd7394a1434f18b22acec0';
grant execute on routine api.list_unseen_discrepancies(uuid) to faregate_functions, service_role;

-- Tells what the caller consumed in a period, by day (UTC) and kind.
create function api.list_usage_days(p_caller jsonb, p_from timestamp with time zone, p_to timestamp with time zone) returns TABLE(begins_at timestamp with time zone, ends_at timestamp with time zone, days billing.usage_day[]) language plpgsql security definer set search_path=pg_catalog, pg_temp set enable_seqscan=off as '5626e5c55b7606f9e222d58028274f44';
grant execute on routine api.list_usage_days(jsonb,timestamp with time zone,timestamp with time zone) to faregate_functions, service_role;

-- Pages through what was used, newest first.
create function api.list_usage_events(p_caller jsonb, p_organization_id uuid, p_feature text, p_model text, p_passport_id uuid, p_from timestamp with time zone, p_to timestamp with time zone, p_limit integer, p_cursor uuid) returns TABLE(id uuid, organization_id uuid, source text, event_id text, occurred_at timestamp with time zone, feature text, provider_id text, model text, passport_id uuid, quantities jsonb, price_usd text, cost_usd text, margin_usd text, review billing.usage_review, corrects_id uuid) language plpgsql security definer set search_path=pg_catalog, pg_temp set plan_cache_mode=force_custom_plan set enable_seqscan=off set enable_bitmapscan=off set jit=off as 'd9a24174d3855ba27937149d0767b1e4';
grant execute on routine api.list_usage_events(jsonb,uuid,text,text,uuid,timestamp with time zone,timestamp with time zone,integer,uuid) to faregate_functions, service_role;

-- Pages through the events of a month that has to go.
create function api.list_usage_file(p_month date, p_organization_id uuid, p_id uuid, p_limit integer) returns TABLE(organization_id uuid, id uuid, source text, event_id text, occurred_at timestamp with time zone, feature text, provider_id text, model text, passport_id uuid, quantities text, cost_usd text, price_usd text, provider_price_id uuid, usage_rate_id uuid, sequence bigint, corrects_id uuid, counted smallint, priced_by text) language plpgsql security definer set search_path=pg_catalog, pg_temp as '2d08cb3333abfecf9de75ef352abd3b0';
grant execute on routine api.list_usage_file(date,uuid,uuid,integer) to faregate_functions, service_role;

-- Pages through how much may be owed for usage, newest first.
create function api.list_usage_policies(p_caller jsonb, p_organization_id uuid, p_plan_id text, p_limit integer, p_cursor uuid) returns SETOF api.usage_policies language plpgsql security definer set search_path=pg_catalog, pg_temp as '50cba5940663a28f7d324af1db42348a';
grant execute on routine api.list_usage_policies(jsonb,uuid,text,integer,uuid) to faregate_functions, service_role;

-- Pages through rates of usage, newest first.
create function api.list_usage_rates(p_caller jsonb, p_organization_id uuid, p_plan_id text, p_feature text, p_provider_id text, p_model_id text, p_limit integer, p_cursor uuid) returns SETOF api.usage_rates language plpgsql security definer set search_path=pg_catalog, pg_temp as 'c7b0775759f6fdb7771040a8efdfadc0';
grant execute on routine api.list_usage_rates(jsonb,uuid,text,text,text,text,integer,uuid) to faregate_functions, service_role;

-- Pages through usage events that wait for a person, newest first.
create function api.list_usage_reviews(p_caller jsonb, p_limit integer, p_cursor uuid) returns SETOF api.usage_reviews language plpgsql security definer set search_path=pg_catalog, pg_temp as 'c7b7f3763de21bb1ae59ce197bea5899';
grant execute on routine api.list_usage_reviews(jsonb,integer,uuid) to faregate_functions, service_role;

-- Pages through the workspaces of the caller's organization, newest first.
create function api.list_workspaces(p_caller jsonb, p_limit integer, p_cursor uuid) returns SETOF api.workspaces language plpgsql security definer set search_path=pg_catalog, pg_temp as '6a4987ceae838c09d96f3fd86026dd15';
grant execute on routine api.list_workspaces(jsonb,integer,uuid) to faregate_functions, service_role;

-- Notes that the task queue has these rows of the outbox.
create function api.mark_enqueued(p_organization_ids uuid[], p_ids uuid[]) returns integer language plpgsql security definer set search_path=pg_catalog, pg_temp as '63d7f0f2b21db536a218c2dcae345e6e';
grant execute on routine api.mark_enqueued(uuid[],uuid[]) to faregate_functions, service_role;

-- Notes how far a task has copied a space.
create function api.note_clone(p_organization_id uuid, p_clone_id uuid, p_task_id uuid, p_attempt integer, p_bookmark text, p_objects integer, p_bytes bigint) returns TABLE(status text, is_going boolean) language plpgsql security definer set search_path=pg_catalog, pg_temp as 'eed10a79e56f2c7f75d9b4930bebda0b';
grant execute on routine api.note_clone(uuid,uuid,uuid,integer,text,integer,bigint) to faregate_functions, service_role;

-- Opens a backfill of a customer's usage, for an operator.
create function api.open_backfill(p_caller jsonb, p_organization_id uuid, p_starts_at timestamp with time zone, p_ends_at timestamp with time zone, p_replaces_existing boolean, p_idempotency_key text) returns TABLE(backfill api.backfills, replayed boolean) language plpgsql security definer set search_path=pg_catalog, pg_temp as 'b32b78eae7c53f4ac4f5bf96b40a2743';
grant execute on routine api.open_backfill(jsonb,uuid,timestamp with time zone,timestamp with time zone,boolean,text) to faregate_functions, service_role;

-- Reserves a customer's money for an operator.
create function api.open_hold(p_caller jsonb, p_organization_id uuid, p_amount_micros bigint, p_expires_in_seconds integer, p_description text, p_idempotency_key text) returns TABLE(hold api.holds, replayed boolean) language plpgsql security definer set search_path=pg_catalog, pg_temp as 'd43b48380cd1f52c6bec532103830855';
grant execute on routine api.open_hold(jsonb,uuid,bigint,integer,text,text) to faregate_functions, service_role;

-- Notes that a task stopped copying a space before its end, and why.
create function api.pause_clone(p_organization_id uuid, p_clone_id uuid, p_task_id uuid, p_attempt integer, p_failure text, p_is_final boolean) returns TABLE(status text, is_going boolean) language plpgsql security definer set search_path=pg_catalog, pg_temp as 'f8c73f0c5d47f08309f1837936eae27b';
grant execute on routine api.pause_clone(uuid,uuid,uuid,integer,text,boolean) to faregate_functions, service_role;

-- Tells whoever calls it that the database answers: true.
create function api.ping() returns boolean language sql immutable security definer set search_path=pg_catalog, pg_temp as '438e725a50f914ed1dbca68da3b91003';
grant execute on routine api.ping() to faregate_functions, service_role;

-- Submits a space of the caller's organization, for an operator to decide about.
create function api.publish_space(p_caller jsonb, p_slug text, p_title text, p_description text, p_storage_id uuid, p_price_micros bigint, p_is_cloneable boolean, p_idempotency_key text) returns TABLE(space jsonb, replayed boolean) language plpgsql security definer set search_path=pg_catalog, pg_temp as '0203427207af61ff4f9efefa5318f720';
grant execute on routine api.publish_space(jsonb,text,text,text,uuid,bigint,boolean,text) to faregate_functions, service_role;

-- Stores a genuine event of Stripe and acts on it, once.
create function api.receive_stripe_event(p_event jsonb, p_account text, p_live_mode boolean) returns TABLE(outcome billing.payment_outcome, duplicate boolean) language plpgsql security definer set search_path=pg_catalog, pg_temp as '7d347eea46da89702e14b916f03f6d33';
grant execute on routine api.receive_stripe_event(jsonb,text,boolean) to faregate_functions, service_role;

-- Settles one payment, refund or dispute with what Stripe has of it now.
create function api.reconcile_stripe(p_reconciliation_id uuid, p_subject text, p_page jsonb, p_live_mode boolean, p_told_at text) returns TABLE(replayed boolean, discrepancies integer) language plpgsql security definer set search_path=pg_catalog, pg_temp as 'e5fd5217311e0a5eb10544192a360557';
grant execute on routine api.reconcile_stripe(uuid,text,jsonb,boolean,text) to faregate_functions, service_role;

-- Records how much was in a bucket when its measuring began.
create function api.record_storage_usage(p_organization_id uuid, p_storage_id uuid, p_started_at timestamp with time zone, p_used_bytes bigint) returns TABLE(used_bytes bigint, is_over_quota boolean) language plpgsql security definer set search_path=pg_catalog, pg_temp as '9ec55e6a114269411d16b0e93aab5348';
grant execute on routine api.record_storage_usage(uuid,uuid,timestamp with time zone,bigint) to faregate_functions, service_role;

-- Gives a customer the price of a space back, for an operator; the space is theirs no more.
create function api.refund_purchase(p_caller jsonb, p_purchase_id uuid, p_organization_id uuid, p_reason text, p_idempotency_key text) returns TABLE(purchase api.purchases, replayed boolean) language plpgsql security definer set search_path=pg_catalog, pg_temp as 'd7ca12c5738adf9a32c5d86d72e4776c';
grant execute on routine api.refund_purchase(jsonb,uuid,uuid,text,text) to faregate_functions, service_role;

-- Makes a signed-in user with a verified address the owner of an organization.
create function api.register(p_user_id uuid, p_organization_name text, p_key_hash text, p_key_prefix text, p_idempotency_key text) returns TABLE(registration billing.registration, replayed boolean) language plpgsql security definer set search_path=pg_catalog, pg_temp as 'f4f9986fa9da27bc89935dde2020ee8e';
grant execute on routine api.register(uuid,text,text,text,text) to faregate_functions, service_role;

-- Makes an organization of any plan for an address, for an operator.
create function api.register_customer(p_caller jsonb, p_email text, p_plan_id text, p_organization_name text, p_is_invited boolean, p_key_hash text, p_key_prefix text, p_idempotency_key text) returns TABLE(registration billing.registration, replayed boolean) language plpgsql security definer set search_path=pg_catalog, pg_temp as '42526ec531281a8cd4571e2a0621e892';
grant execute on routine api.register_customer(jsonb,text,text,text,boolean,text,text,text) to faregate_functions, service_role;

-- Gives back what a hold keeps.
create function api.release_hold(p_caller jsonb, p_organization_id uuid, p_hold_id uuid, p_idempotency_key text) returns TABLE(hold api.holds, replayed boolean) language plpgsql security definer set search_path=pg_catalog, pg_temp as '6173ba774be1150e734192aaced1af6e';
grant execute on routine api.release_hold(jsonb,uuid,uuid,text) to faregate_functions, service_role;

-- Gives back what is held for usage.
create function api.release_usage(p_caller jsonb, p_organization_id uuid, p_authorization_id uuid, p_idempotency_key text) returns TABLE(usage_authorization api.usage_authorizations, replayed boolean) language plpgsql security definer set search_path=pg_catalog, pg_temp as '0975ee929153e63105454874d9b50fdd';
grant execute on routine api.release_usage(jsonb,uuid,uuid,text) to faregate_functions, service_role;

-- Ends a membership and all passports of that member.
create function api.remove_member(p_user_id uuid, p_organization_id uuid, p_member_id uuid) returns text language plpgsql security definer set search_path=pg_catalog, pg_temp as 'f32d40f0eeeb48cac5adba645bab0030';
grant execute on routine api.remove_member(uuid,uuid,uuid) to faregate_functions, service_role;

-- Keeps a hold for longer, with more money in it if asked to.
create function api.renew_hold(p_caller jsonb, p_organization_id uuid, p_hold_id uuid, p_amount_micros bigint, p_expires_in_seconds integer, p_idempotency_key text) returns TABLE(hold api.holds, replayed boolean) language plpgsql security definer set search_path=pg_catalog, pg_temp as '25c464c689a7ffca28968eeb20085a61';
grant execute on routine api.renew_hold(jsonb,uuid,uuid,bigint,integer,text) to faregate_functions, service_role;

-- Receives an event that a run found in Stripe's list.
create function api.replay_stripe_event(p_reconciliation_id uuid, p_event jsonb, p_live_mode boolean) returns TABLE(outcome billing.payment_outcome, duplicate boolean) language plpgsql security definer set search_path=pg_catalog, pg_temp as '68b83b2698006c190d7907119ad286f4';
grant execute on routine api.replay_stripe_event(uuid,jsonb,boolean) to faregate_functions, service_role;

-- Tells how far behind everything is: the oldest session to charge and task to do, what is stuck,
-- what the last verification found, what disagrees, how many payments of the last day a person must
-- look at or no notification told of, and each cron function's lag in seconds.
create function api.report_health() returns TABLE(sweep_lag_seconds bigint, outbox_age_seconds bigint, stuck_outbox bigint, verify_differences bigint, open_discrepancies bigint, events_to_review bigint, missed_events bigint, lag_seconds jsonb) language plpgsql stable security definer set search_path=pg_catalog, pg_temp as '29c931fb5282b9ee40ef153aacc0f25b';
grant execute on routine api.report_health() to faregate_functions, service_role;

-- Gives storage another size.
create function api.resize_storage(p_caller jsonb, p_storage_id uuid, p_size_gb integer, p_idempotency_key text) returns TABLE(storage api.storage, replayed boolean) language plpgsql security definer set search_path=pg_catalog, pg_temp as 'd9283b126482d95d2c542bf266871352';
grant execute on routine api.resize_storage(jsonb,uuid,integer,text) to faregate_functions, service_role;

-- Takes back what a backfill did, for an operator.
create function api.revert_backfill(p_caller jsonb, p_id uuid) returns SETOF api.backfills language plpgsql security definer set search_path=pg_catalog, pg_temp as 'd65632901df5847620a9992a67683275';
grant execute on routine api.revert_backfill(jsonb,uuid) to faregate_functions, service_role;

-- Approves or rejects a submitted space, for an operator.
create function api.review_space(p_caller jsonb, p_slug text, p_is_approved boolean, p_reason text, p_idempotency_key text) returns TABLE(space jsonb, replayed boolean) language plpgsql security definer set search_path=pg_catalog, pg_temp as '3743703921950180391504c09aa7dde1';
grant execute on routine api.review_space(jsonb,text,boolean,text,text) to faregate_functions, service_role;

-- Withdraws an invitation.
create function api.revoke_invitation(p_caller jsonb, p_organization_id uuid, p_invitation_id uuid, p_idempotency_key text) returns TABLE(invitation api.invitations, replayed boolean) language plpgsql security definer set search_path=pg_catalog, pg_temp as '856d2f395648cba2080f5131e9a7714e';
grant execute on routine api.revoke_invitation(jsonb,uuid,uuid,text) to faregate_functions, service_role;

-- Ends a passport now.
create function api.revoke_passport(p_caller jsonb, p_passport_id uuid, p_idempotency_key text) returns TABLE(passport api.passports, replayed boolean) language plpgsql security definer set search_path=pg_catalog, pg_temp as '283a4ebe4025498c1eda6f5520dc96cf';
grant execute on routine api.revoke_passport(jsonb,uuid,text) to faregate_functions, service_role;

-- Gives a passport a new key; the old one works on for the overlap.
create function api.rotate_passport(p_caller jsonb, p_passport_id uuid, p_overlap_seconds integer, p_key_hash text, p_key_prefix text, p_idempotency_key text) returns TABLE(passport api.passports, replayed boolean) language plpgsql security definer set search_path=pg_catalog, pg_temp as 'd389e1cae6acd8fd3ad10ec70cb47c0b';
grant execute on routine api.rotate_passport(jsonb,uuid,integer,text,text,text) to faregate_functions, service_role;

-- Has the saved card charged whenever the balance falls below a threshold.
create function api.set_auto_top_up(p_caller jsonb, p_threshold_micros bigint, p_amount_micros bigint, p_monthly_cap_micros bigint, p_cool_off_seconds integer) returns SETOF api.auto_top_ups language plpgsql security definer set search_path=pg_catalog, pg_temp as '5971d9372240949e2e5d99a857fddb68';
grant execute on routine api.set_auto_top_up(jsonb,bigint,bigint,bigint,integer) to faregate_functions, service_role;

-- Gives a customer terms of their own for a feature, or their plan's again, for an operator.
create function api.set_entitlement(p_caller jsonb, p_organization_id uuid, p_feature_id text, p_terms jsonb) returns SETOF api.entitlements language plpgsql security definer set search_path=pg_catalog, pg_temp as '33151305eeb89bae1205c2c23bec480b';
grant execute on routine api.set_entitlement(jsonb,uuid,text,jsonb) to faregate_functions, service_role;

-- Lists a feature with what each plan says of it, for an operator.
create function api.set_feature(p_caller jsonb, p_feature_id text, p_kind text, p_description text, p_plans jsonb) returns SETOF api.features language plpgsql security definer set search_path=pg_catalog, pg_temp as 'd4154a55eb509bd7cf55e511d583f37a';
grant execute on routine api.set_feature(jsonb,text,text,text,jsonb) to faregate_functions, service_role;

-- Decides what a member is from now on; less takes the passports that may do more.
create function api.set_member_role(p_user_id uuid, p_organization_id uuid, p_member_id uuid, p_role text) returns SETOF api.members language plpgsql security definer set search_path=pg_catalog, pg_temp as '4db9b470fa8c116696f76162db5bd0bc';
grant execute on routine api.set_member_role(uuid,uuid,uuid,text) to faregate_functions, service_role;

-- Enables or disables a rule. For operators.
create function api.set_policy_enabled(p_caller jsonb, p_policy_id uuid, p_is_enabled boolean, p_idempotency_key text) returns TABLE(policy api.policies, replayed boolean) language plpgsql security definer set search_path=pg_catalog, pg_temp as '4e271a3a0266898651cdc1940b4ee902';
grant execute on routine api.set_policy_enabled(jsonb,uuid,boolean,text) to faregate_functions, service_role;

-- Says which bucket a space of the platform comes from, for an operator.
create function api.set_space_source(p_caller jsonb, p_slug text, p_storage_id uuid, p_is_cloneable boolean, p_idempotency_key text) returns TABLE(space jsonb, replayed boolean) language plpgsql security definer set search_path=pg_catalog, pg_temp as 'f7b30166813dbd69f642bb24a62c7668';
grant execute on routine api.set_space_source(jsonb,text,uuid,boolean,text) to faregate_functions, service_role;

-- Caps what usage costs an organization, or one of its passports, in a period.
create function api.set_spend_cap(p_caller jsonb, p_organization_id uuid, p_passport_id uuid, p_period text, p_cap_micros bigint) returns SETOF api.spend_caps language plpgsql security definer set search_path=pg_catalog, pg_temp as '51cc81ec4f548f0b120259d065cf88b3';
grant execute on routine api.set_spend_cap(jsonb,uuid,uuid,text,bigint) to faregate_functions, service_role;

-- Decides how much may be owed for usage, for an operator.
create function api.set_usage_policy(p_caller jsonb, p_organization_id uuid, p_plan_id text, p_feature text, p_allow_debt_micros bigint, p_idempotency_key text) returns TABLE(policy api.usage_policies, replayed boolean) language plpgsql security definer set search_path=pg_catalog, pg_temp as '2cd9e42468eb95a31a967d3491a9552a';
grant execute on routine api.set_usage_policy(jsonb,uuid,text,text,bigint,text) to faregate_functions, service_role;

-- Tells where an object may be uploaded to, and counts it as used.
create function api.sign_upload(p_caller jsonb, p_storage_id uuid, p_object text, p_size_bytes bigint) returns TABLE(provider text, location text, endpoint text, resource_name text) language plpgsql security definer set search_path=pg_catalog, pg_temp as 'c203aead53bd74165085f0c2da12a4ed';
grant execute on routine api.sign_upload(jsonb,uuid,text,bigint) to faregate_functions, service_role;

-- Stages up to 1000 events of an open backfill.
create function api.stage_backfill_events(p_caller jsonb, p_id uuid, p_batch jsonb) returns TABLE(accepted integer, duplicates integer, rejected integer, outcomes billing.usage_outcome[]) language plpgsql security definer set search_path=pg_catalog, pg_temp as 'ca6f9a7b8424891f97e24acc894ffb43';
grant execute on routine api.stage_backfill_events(jsonb,uuid,jsonb) to faregate_functions, service_role;

-- Begins the automatic top-ups of balances below their threshold, for the cron.
create function api.start_auto_top_ups(p_limit integer) returns TABLE(started integer, more boolean) language plpgsql security definer set search_path=pg_catalog, pg_temp as '4f632db24db775d3aeb815e71ccbaf18';
grant execute on routine api.start_auto_top_ups(integer) to faregate_functions, service_role;

-- Tells the task of an automatic top-up what to do next.
create function api.start_charge(p_organization_id uuid, p_top_up_id uuid, p_task_id uuid) returns TABLE(step billing.charge_step, status billing.top_up_status, customer_id text, payment_method_id text, amount_micros bigint) language plpgsql security definer set search_path=pg_catalog, pg_temp as '0c3aa5d1f3722c7b44a37f1d367b8776';
grant execute on routine api.start_charge(uuid,uuid,uuid) to faregate_functions, service_role;

-- Tells a task what of a space it is to copy.
create function api.start_clone(p_organization_id uuid, p_clone_id uuid, p_task_id uuid) returns TABLE(status text, attempt integer, source jsonb, target jsonb, bookmark text) language plpgsql security definer set search_path=pg_catalog, pg_temp as '483b33314c2128d80c71ed82766a9969';
grant execute on routine api.start_clone(uuid,uuid,uuid) to faregate_functions, service_role;

-- Finds out up to when events can be folded into days.
create function api.start_folding() returns SETOF timestamp with time zone language plpgsql security definer set search_path=pg_catalog, pg_temp as '33939368bcf7e98a596a74fb89e6b72c';
grant execute on routine api.start_folding() to faregate_functions, service_role;

-- Turns scheduled grants whose time has come into money, for the cron.
create function api.start_grants(p_limit integer) returns TABLE(started integer, more boolean) language plpgsql security definer set search_path=pg_catalog, pg_temp as 'e07c9eabecc2c23bb2647d5e81f2683f';
grant execute on routine api.start_grants(integer) to faregate_functions, service_role;

-- Begins a run of an identity's task and tells it what to do.
create function api.start_identity(p_organization_id uuid, p_task_id uuid) returns TABLE(step text, attempt integer, account_id text, namespace text, kubernetes_account text, status billing.identity_status) language plpgsql security definer set search_path=pg_catalog, pg_temp as 'b2c92aa5fe3fb4a25e3631683c24af82';
grant execute on routine api.start_identity(uuid,uuid) to faregate_functions, service_role;

-- Gives the address that an invitation's mail goes to, and stores the hash of the mail's token.
create function api.start_invitation_mail(p_organization_id uuid, p_invitation_id uuid, p_task_id uuid, p_token_hash text) returns TABLE(email text, status text) language plpgsql security definer set search_path=pg_catalog, pg_temp as 'd92ebad9b9083d3d69699fdaed911b00';
grant execute on routine api.start_invitation_mail(uuid,uuid,uuid,text) to faregate_functions, service_role;

-- Lists buckets that are due to be measured, longest due first, and puts them off.
create function api.start_measuring(p_limit integer) returns TABLE(organization_id uuid, storage_id uuid, started_at timestamp with time zone, provider text, location text, endpoint text, resource_name text, soft_delete_days integer) language plpgsql security definer set search_path=pg_catalog, pg_temp as 'ca0964419821db3f83b3a379e656485c';
grant execute on routine api.start_measuring(integer) to faregate_functions, service_role;

-- Tells a task what it is to do in the cloud for a storage resource.
create function api.start_provisioning(p_organization_id uuid, p_storage_id uuid, p_task_id uuid) returns TABLE(status text, step text, attempt integer, provider text, location text, endpoint text, resource_name text, size_gb integer, access text, principal text, soft_delete_days integer, delete_after_days integer, operation text) language plpgsql security definer set search_path=pg_catalog, pg_temp as '32d9bab309ea118eed3cf9df8635907a';
grant execute on routine api.start_provisioning(uuid,uuid,uuid) to faregate_functions, service_role;

-- Begins a run that an operator asked for.
create function api.start_reconciliation(p_caller jsonb, p_window_start timestamp with time zone, p_window_end timestamp with time zone) returns SETOF api.reconciliations language plpgsql security definer set search_path=pg_catalog, pg_temp as 'b2509a0b4785f2314450f762aac171fc';
grant execute on routine api.start_reconciliation(jsonb,timestamp with time zone,timestamp with time zone) to faregate_functions, service_role;

-- Begins the daily run.
create function api.start_scheduled_reconciliation(p_window_start timestamp with time zone, p_window_end timestamp with time zone) returns SETOF api.reconciliations language plpgsql security definer set search_path=pg_catalog, pg_temp as '54c30d5390dc65fd0a6cd252fcba29d9';
grant execute on routine api.start_scheduled_reconciliation(timestamp with time zone,timestamp with time zone) to faregate_functions, service_role;

-- Starts a session and holds the money of its first window.
create function api.start_session(p_caller jsonb, p_tier text, p_preset text, p_name text, p_workspace_id uuid, p_max_seconds integer, p_heartbeat_timeout_seconds integer, p_idempotency_key text) returns TABLE(session api.sessions, replayed boolean) language plpgsql security definer set search_path=pg_catalog, pg_temp as '1cf3e2452715c2709f51874e343eaa8f';
grant execute on routine api.start_session(jsonb,text,text,text,uuid,integer,integer,text) to faregate_functions, service_role;

-- Tells which events have to go to a file next.
create function api.start_usage_file() returns TABLE(month date, number integer, after_organization_id uuid, after_id uuid, is_last boolean) language plpgsql security definer set search_path=pg_catalog, pg_temp as '22c8c952c6f9c77c8a6e18c5dddce73f';
grant execute on routine api.start_usage_file() to faregate_functions, service_role;

-- Ends a session now and charges it to this moment.
create function api.stop_session(p_caller jsonb, p_session_id uuid, p_reason text, p_idempotency_key text) returns TABLE(session api.sessions, replayed boolean) language plpgsql security definer set search_path=pg_catalog, pg_temp as 'd7afb3f3abdc9b8e71e8c725252723d7';
grant execute on routine api.stop_session(jsonb,uuid,text,text) to faregate_functions, service_role;

-- Settles one session at the end that was foreseen for it, for its task.
create function api.sweep_session(p_organization_id uuid, p_session_id uuid, p_paid_until timestamp with time zone, p_task_id uuid) returns SETOF api.sessions language plpgsql security definer set search_path=pg_catalog, pg_temp as '26ae2fd5f907b15e0404e2372f4e37fd';
grant execute on routine api.sweep_session(uuid,uuid,timestamp with time zone,uuid) to faregate_functions, service_role;

-- Charges and renews the sessions that are due, for the cron.
create function api.sweep_sessions(p_limit integer) returns TABLE(swept integer, closed integer, more boolean) language plpgsql security definer set search_path=pg_catalog, pg_temp as 'd8e8ee5e00de63aee16e50f7fd216dcd';
grant execute on routine api.sweep_sessions(integer) to faregate_functions, service_role;

-- Gives an organization another name, or another address for bills.
create function api.update_organization(p_user_id uuid, p_organization_id uuid, p_name text, p_billing_email text) returns TABLE(organization api.organizations, role text) language plpgsql security definer set search_path=pg_catalog, pg_temp as 'e0d208c9cfc02979f8462ccd3e4e5b4d';
grant execute on routine api.update_organization(uuid,uuid,text,text) to faregate_functions, service_role;

-- Gives a workspace another name.
create function api.update_workspace(p_caller jsonb, p_workspace_id uuid, p_name text) returns SETOF api.workspaces language plpgsql security definer set search_path=pg_catalog, pg_temp as 'b4f9e9a77c68f4b429662dd049df7cf6';
grant execute on routine api.update_workspace(jsonb,uuid,text) to faregate_functions, service_role;

-- Verifies the ledgers of the next organizations as a part of a run.
create function api.verify_next(p_reconciliation_id uuid, p_after uuid, p_is_full boolean) returns SETOF billing.verification language plpgsql security definer set search_path=pg_catalog, pg_temp as '4d6abc7e732b8081bc1bd5756654df3c';
grant execute on routine api.verify_next(uuid,uuid,boolean) to faregate_functions, service_role;

-- Verifies the whole ledger of one organization as a run.
create function api.verify_organization(p_reconciliation_id uuid, p_organization_id uuid) returns SETOF billing.verification language plpgsql security definer set search_path=pg_catalog, pg_temp as '2870c0c2ae52368ea3e2c00057717a9a';
grant execute on routine api.verify_organization(uuid,uuid) to faregate_functions, service_role;

-- Takes a space out of the catalogue; who bought it keeps it.
create function api.withdraw_space(p_caller jsonb, p_slug text, p_idempotency_key text) returns TABLE(space jsonb, replayed boolean) language plpgsql security definer set search_path=pg_catalog, pg_temp as '389e1996cd78f5b7559d3b343e5a5bc8';
grant execute on routine api.withdraw_space(jsonb,text,text) to faregate_functions, service_role;

create function billing.accept_identity(p_organization_id uuid, p_email text) returns void language plpgsql set search_path=pg_catalog, pg_temp as 'eac10163da5667a2504121c8c4e28916';

create function billing.acknowledge(p_organization_id uuid, p_task_id uuid) returns void language plpgsql set search_path=pg_catalog, pg_temp as '61d1138d31863c1beb8ce7a0e0b34993';

create function billing.add_correction(p_original billing.usage_events, p_was billing.usage_total, p_correction billing.rated_usage, p_price_usd numeric, p_sequence bigint) returns void language plpgsql set search_path=pg_catalog, pg_temp as 'c335149367450c8f24e1d756e65f3166';

create function billing.add_own_cost(p_provider_id text, p_name text, p_effective_at timestamp with time zone, p_costs jsonb) returns void language plpgsql set search_path=pg_catalog, pg_temp as '45dcb277a121af4f219cfd773e4ceb28';

create function billing.add_provider_price(p_provider_id text, p_model_id text, p_effective_at timestamp with time zone, p_source text, p_tiers jsonb) returns void language plpgsql set search_path=pg_catalog, pg_temp as 'bdca3e36228ed849fcdb7880e11b600b';

create function billing.add_to_counters(p_counts billing.usage_count[]) returns void language plpgsql set search_path=pg_catalog, pg_temp set enable_nestloop=on set enable_hashjoin=off as '99d43928edd95abcffb3c820c9222c46';

create function billing.add_usage_rate(p_rate billing.usage_rates, p_prices jsonb) returns void language plpgsql set search_path=pg_catalog, pg_temp as '9d2c6193d72f8df2af5ccc3925f7a499';

create function billing.affordable_seconds(p_hourly_price_micros bigint, p_amount_micros bigint) returns bigint language sql immutable parallel safe as '2a40d6ee2b4e0460ede59464cde8886e';

create function billing.amend_usage(p_backfill billing.backfills, p_rated billing.rated_usage) returns void language plpgsql set search_path=pg_catalog, pg_temp as '5f4e68a3cb6ca6e70fdce0d44fb33873';

create function billing.apply_checkout(p_type text, p_checkout jsonb, p_top_up billing.top_ups) returns billing.payment_outcome language plpgsql set search_path=pg_catalog, pg_temp as '389324a6cf5447d549931df5f79c226e';

create function billing.apply_news(p_objects jsonb, p_told_at text) returns void language plpgsql set search_path=pg_catalog, pg_temp as '7bad99228389f43082d8aaa69c7f39ad';

create function billing.apply_payment_intent(p_intent jsonb, OUT outcome billing.payment_outcome, OUT organization_id uuid) returns record language plpgsql set search_path=pg_catalog, pg_temp as '04bd52160efd07553a8664aa5baf8381';

create function billing.apply_stripe_object(p_type text, p_object jsonb, p_told_at text, OUT outcome billing.payment_outcome, OUT organization_id uuid) returns record language plpgsql set search_path=pg_catalog, pg_temp as '2a0d83f589fcd3a4a4b31755422e4447';

create function billing.authenticate(p_caller jsonb, p_permission text) returns billing.caller language plpgsql set search_path=pg_catalog, pg_temp as '57cd0b91d8de8a6a11392e54b8f2726c';

create function billing.authenticate_analyst(p_caller jsonb, p_organization_id uuid, p_is_all boolean) returns TABLE(organization_id uuid, sees_cost boolean) language plpgsql set search_path=pg_catalog, pg_temp as 'b7e6db0487b2ccc417bd6d7626071146';

create function billing.authenticate_capper(p_caller jsonb, p_organization_id uuid) returns billing.caller language plpgsql set search_path=pg_catalog, pg_temp as '72de1c94375c377138e7381fb7e9fc73';

create function billing.authenticate_inviter(p_caller jsonb, p_organization_id uuid, p_role text) returns text language plpgsql set search_path=pg_catalog, pg_temp as 'd469c96c22bba2ece571dc03a199e4d3';

create function billing.authenticate_manager(p_user_id uuid, p_organization_id uuid, p_role text) returns text language plpgsql set search_path=pg_catalog, pg_temp as 'dea49a3c73bb58ef4b108739348bafc0';

create function billing.authenticate_reader(p_caller jsonb, p_organization_id uuid) returns uuid language plpgsql set search_path=pg_catalog, pg_temp as '73d9f26b93cbb2b61995bc64f1e08089';

create function billing.backfill_key(p_id uuid) returns text language sql immutable parallel safe as '3a36ec8806ffd06559d1378bb5d5bd4e';

create function billing.begin_attempt(p_organization_id uuid, p_task_id uuid) returns integer language plpgsql set search_path=pg_catalog, pg_temp as 'a3371f2e8a1479bc4960a85a9d9796de';

create function billing.begin_storage_period(p_organization_id uuid, p_storage_id uuid, p_at timestamp with time zone, p_billed_gb integer, p_price billing.prices) returns void language plpgsql set search_path=pg_catalog, pg_temp as '25d25ef852db5039e1f17d38f373d53a';

create function billing.begin_usage() returns timestamp with time zone language plpgsql set search_path=pg_catalog, pg_temp as 'bc3f4dcab8596284e9239f2bb11cba0f';

create function billing.billed_gb(p_size_gb integer, p_used_bytes bigint, p_included_gb integer) returns integer language sql immutable parallel safe as 'bcf32f5d8a7449e2c1483f684d3e4668';

create function billing.bucket_of(p_policy billing.policies, p_facts jsonb) returns billing.rate_buckets language sql immutable parallel safe as '3897a8e07372463cb7641d40bd5ca2da';

create function billing.bucket_place(p_storage billing.storage, p_statuses billing.storage_status[], OUT provider text, OUT location text, OUT endpoint text, OUT resource_name text) returns record language plpgsql stable set search_path=pg_catalog, pg_temp as '58463ef0a075029617765345a9efeb00';

create function billing.bucket_tokens(p_policy billing.policies, p_bucket billing.rate_buckets, p_now timestamp with time zone) returns numeric language plpgsql stable set search_path=pg_catalog, pg_temp as '8a8f8d75492f71ff98fd3081dbae1235';

create function billing.call_facts(p_organization_id uuid, p_plan_id text, p_permission text, p_action text, p_caller text, p_ip inet, p_at timestamp with time zone) returns jsonb language sql immutable parallel safe as '0525307ac46023b1d2f37a920b824663';

create function billing.caller_by_user(p_user_id uuid, p_organization_id uuid) returns billing.caller language plpgsql set search_path=pg_catalog, pg_temp as 'a80d12e756cad604840eccaca79e8f49';

create function billing.canonical_email(p_email text) returns text language plpgsql immutable set search_path=pg_catalog, pg_temp as '74dcf3d1f375d955a6e57103ee9fe59d';

create function billing.charge_purchase(p_organization_id uuid, p_price_micros bigint) returns bigint language plpgsql set search_path=pg_catalog, pg_temp as '1e286d6931b8400fc43fa72c38ae147d';

create function billing.check_feature(p_organization_id uuid, p_passport_id uuid, p_feature_id text, p_quantity numeric, p_now timestamp with time zone) returns billing.entitlement_check language plpgsql stable set search_path=pg_catalog, pg_temp as '7eb9a5833655a0a3562e944605ff7ee7';

create function billing.check_policies(p_facts jsonb, p_is_spending boolean) returns jsonb language plpgsql set search_path=pg_catalog, pg_temp as 'b4d6751ea3e4ee0dc2f48049bba5e38d';

create function billing.check_spending(p_caller billing.caller, p_organization_id uuid, p_facts jsonb) returns void language plpgsql set search_path=pg_catalog, pg_temp as '1e17746f86399eb386cac50cd55f2491';

create function billing.check_storage_spending(p_caller billing.caller, p_storage_id uuid) returns void language plpgsql set search_path=pg_catalog, pg_temp as '4f5ce14de56d167efb28f46f270313c3';

create function billing.check_terms(p_feature_id text) returns void language plpgsql set search_path=pg_catalog, pg_temp as '36101005dc08ebdfe120f2af58398cd6';

create function billing.claim_organization(p_organization_id uuid, p_user_id uuid, p_email text) returns void language plpgsql set search_path=pg_catalog, pg_temp as '28c79bb18ce35baed13592581b6c5c0a';

create function billing.close_hold(p_organization_id uuid, p_hold_id uuid, p_outcome billing.hold_outcome) returns void language plpgsql set search_path=pg_catalog, pg_temp as '00a26cee78229001846306004edc83db';

create function billing.close_review(p_caller billing.caller, p_organization_id uuid, p_id uuid, p_price_usd numeric, p_action text) returns SETOF api.rated_reviews language plpgsql set search_path=pg_catalog, pg_temp as 'ba45b2376999e5f994113a950308a379';

create function billing.compare_stripe(p_objects jsonb, p_live_mode boolean) returns SETOF billing.disagreement language plpgsql stable set search_path=pg_catalog, pg_temp as '811d044a24d5ec9b2b994979e31afac0';

create function billing.correct_event(p_correction billing.usage_correction, p_rated billing.rated_usage, p_is_settled boolean) returns text language plpgsql set search_path=pg_catalog, pg_temp as '21b79f043be06c0760c28aa4a170d540';

create function billing.correct_usage(p_corrections jsonb, p_organization_ids uuid[], p_now timestamp with time zone) returns billing.usage_outcome[] language plpgsql set search_path=pg_catalog, pg_temp as '0007634d724067c2c81332a94fdeeb31';

create function billing.count_tiers(p_events billing.tiered_usage[]) returns void language plpgsql set search_path=pg_catalog, pg_temp as 'c00cebec8f86ca7689afae1759dd2783';

create function billing.count_usage(p_organization_ids uuid[], p_ids uuid[]) returns void language plpgsql set search_path=pg_catalog, pg_temp set enable_seqscan=off set plan_cache_mode=force_generic_plan as 'ef4a7f4e9a90ba5376a1bf468315a76b';

create function billing.counted(p_meter text, p_quantities jsonb, p_price_usd numeric, p_counted integer DEFAULT 1) returns numeric language sql immutable parallel safe as 'd14a53607d7cde34aae6d11aa8e101ff';

create function billing.create_operator(p_name text, p_key_hash bytea, p_key_prefix text) returns uuid language plpgsql set search_path=pg_catalog, pg_temp as 'e41ee8c672ede9cd39e87a387fc2c7ec';

create function billing.create_organization(p_name text, p_plan_id text, p_billing_email text, p_claimed_at timestamp with time zone) returns uuid language plpgsql set search_path=pg_catalog, pg_temp as '93ca4d90eb2ee28f9e1f47091605a4d0';

create procedure billing.create_usage_months(IN p_first date, IN p_months integer) language plpgsql set search_path=pg_catalog, pg_temp as '91c279f0df06d1c0d2faa8fdb630ece4';

create function billing.credit_top_up(p_top_up billing.top_ups, p_checkout_session_id text, p_provider_payment_id text, p_amount_micros bigint) returns boolean language plpgsql set search_path=pg_catalog, pg_temp as '1b871523d88b942da6346e95fcbf30f0';

create function billing.credit_wallet(p_organization_id uuid, p_amount_micros bigint, p_category billing.grant_category, p_from billing.account, p_reason billing.reason, p_payment_id uuid) returns uuid language plpgsql set search_path=pg_catalog, pg_temp as '43d49e8d3232271b1b8c659f340a8884';

create function billing.debit_grant(p_organization_id uuid, p_grant_id uuid, p_amount_micros bigint, p_to billing.account, p_reason billing.reason) returns void language plpgsql set search_path=pg_catalog, pg_temp as '089b8db1735aa77ab4ca60cad0490efa';

create function billing.debit_wallet(p_debit billing.debit, p_now timestamp with time zone) returns void language plpgsql set search_path=pg_catalog, pg_temp as 'd0b404f70dbc68a47b45ad89cd710e9d';

create function billing.debit_wallets(p_debits billing.debit[], p_now timestamp with time zone, p_remainders_usd numeric[] DEFAULT NULL::numeric[]) returns void language plpgsql set search_path=pg_catalog, pg_temp set plan_cache_mode=force_generic_plan set enable_seqscan=off as 'cae7fb015189d5371443813959fdabeb';

create function billing.debt_allowed(p_organization_id uuid, p_plan_id text, p_feature text) returns bigint language plpgsql stable set search_path=pg_catalog, pg_temp as 'de62877ffbc2fddf1edb066fa442539c';

create function billing.decides_about(p_role text, p_other_role text) returns boolean language sql immutable parallel safe as '44ddf1a32a5744bcebffd5311b73a318';

create function billing.decline_reason(p_intent jsonb) returns text language sql immutable as 'aec954b98b925cf3745574e7c0318d25';

create function billing.default_region(p_kind billing.storage_kind) returns text language plpgsql stable set search_path=pg_catalog, pg_temp as '4909e8157fa5432b608e3c5b71f19191';

create function billing.describe_space(p_caller billing.caller, p_space billing.spaces) returns jsonb language plpgsql stable set search_path=pg_catalog, pg_temp as '2af799c6af7b150628f928f6506fb70b';

create function billing.drive_clone(p_organization_id uuid, p_clone_id uuid) returns void language plpgsql set search_path=pg_catalog, pg_temp as '6718f3e220e10d61d90453156cf65440';

create function billing.drive_identity(p_organization_id uuid) returns void language plpgsql set search_path=pg_catalog, pg_temp as '6ff107b7192840da9d873b979ade3d7c';

create function billing.drive_storage(p_organization_id uuid, p_storage_id uuid) returns void language plpgsql set search_path=pg_catalog, pg_temp as '68e9c700c265456243b31f488aba58d7';

create function billing.end_attempt(p_organization_id uuid, p_task_id uuid, p_attempt integer, p_failure text) returns boolean language plpgsql set search_path=pg_catalog, pg_temp as 'e57b370dc0f021f1b281823a473181bc';

create function billing.end_charge(p_top_up billing.top_ups, p_status billing.top_up_status, p_reason text) returns void language plpgsql set search_path=pg_catalog, pg_temp as '2a881c3abab36cabfd19f35bfbfbccf8';

create function billing.end_clones(p_organization_id uuid, p_storage_id uuid, p_reason text) returns void language plpgsql set search_path=pg_catalog, pg_temp as 'f90516dde5ce9d13c16a5c1e635a8e68';

create function billing.end_identity(p_organization_id uuid) returns void language plpgsql set search_path=pg_catalog, pg_temp as 'bc936f3c06ad58658315e7afd57e380c';

create function billing.end_invitation(p_organization_id uuid, p_email text) returns void language plpgsql set search_path=pg_catalog, pg_temp as '6c5af7272165521b22d025641dffeafa';

create function billing.end_sources(p_organization_id uuid, p_storage_id uuid) returns void language plpgsql set search_path=pg_catalog, pg_temp as 'dc88f9eb41c6e030dea20a76d74f392f';

create function billing.end_storage(p_organization_id uuid, p_storage_id uuid, p_status billing.storage_status, p_reason text) returns void language plpgsql set search_path=pg_catalog, pg_temp as '6c7a914a4a5367e75cd171182cf20151';

create function billing.enter_storage_period(p_organization_id uuid, p_storage_id uuid, p_at timestamp with time zone) returns void language plpgsql set search_path=pg_catalog, pg_temp as '1b7589840725c475a42ce2151874276d';

create function billing.estimate_preset(p_organization_id uuid, p_workspace_id uuid, p_plan billing.plans, p_preset text, p_seconds integer, p_now timestamp with time zone) returns TABLE(tier text, seconds integer, storage_kind text, storage_gb integer, storage_month_cost_micros bigint, storage_required_micros bigint, space text, space_price_micros bigint) language plpgsql stable set search_path=pg_catalog, pg_temp as 'c6a7999b649854ecafaa324c4355471d';

create function billing.expire_wallet(p_organization_id uuid) returns integer language plpgsql set search_path=pg_catalog, pg_temp as '0ea1d7614ac26da4e0e4bbcc17c52b30';

create function billing.extend_attempt(p_organization_id uuid, p_task_id uuid, p_attempt integer) returns boolean language plpgsql set search_path=pg_catalog, pg_temp as 'bb1ddb9a59dd32043ed2f1795067d2f0';

create function billing.fewest_left(p_told jsonb[]) returns jsonb language plpgsql immutable parallel safe set search_path=pg_catalog, pg_temp as 'dd091c49f4376d843d7a93d36c2534a6';

create function billing.find_authorization(p_organization_id uuid, p_id uuid) returns api.usage_authorizations language plpgsql stable set search_path=pg_catalog, pg_temp as '201860637a942b34577a2f8f19650a17';

create function billing.find_cheaper(p_model billing.provider_models, p_quantities jsonb, p_at timestamp with time zone, p_below_usd numeric) returns SETOF text language plpgsql stable set search_path=pg_catalog, pg_temp as 'c3d8badff2aef7c7833ea182d0805923';

create function billing.find_customer(p_organization_id uuid) returns void language plpgsql set search_path=pg_catalog, pg_temp as '51743c96c51a7a1581463c3ece642454';

create function billing.find_inviter(p_caller jsonb, p_organization_id uuid) returns text language plpgsql set search_path=pg_catalog, pg_temp as 'dbeab7a792ad01d9807cb840d8f277d8';

create function billing.find_limits(p_organization_ids uuid[], p_features text[], p_passport_ids uuid[], p_now timestamp with time zone) returns billing.usage_limit[] language plpgsql set search_path=pg_catalog, pg_temp set enable_nestloop=on set enable_hashjoin=off as '58db12b8a2e406b7211c8a52e8557705';

create function billing.find_member(p_organization_id uuid, p_member_id uuid) returns text language plpgsql set search_path=pg_catalog, pg_temp as '36998d3da6645043f90258538c824250';

create function billing.find_model(p_provider_id text, p_name text) returns billing.provider_models language plpgsql stable set search_path=pg_catalog, pg_temp as '6247cf98a45061486dc21fa752684852';

create function billing.find_period(p_organization_id uuid, p_from timestamp with time zone, p_to timestamp with time zone) returns billing.period language plpgsql stable set search_path=pg_catalog, pg_temp as '0af8eaba2b011a4df10682dc791e35fb';

create function billing.find_policy(p_policy_id uuid) returns api.policies language plpgsql set search_path=pg_catalog, pg_temp as '58e582e19ecf85012450c03e322ec131';

create function billing.find_preset(p_preset text, p_seconds integer) returns billing.presets language plpgsql stable set search_path=pg_catalog, pg_temp as '7b9c218016c88016021d0e64e5f88ac5';

create function billing.find_role(p_user_id uuid, p_organization_id uuid) returns text language plpgsql set search_path=pg_catalog, pg_temp as '46c4636969ce762685f39eb18f46c777';

create function billing.find_scope(p_organization_id uuid, p_plan_id text) returns void language plpgsql set search_path=pg_catalog, pg_temp as '22f584859c14b8593af755cc9b63a933';

create function billing.find_space(p_caller billing.caller, p_slug text) returns billing.spaces language plpgsql set search_path=pg_catalog, pg_temp as 'd3e4e1533aec329aff0beb3bc8fd916d';

create function billing.find_storage(p_organization_id uuid, p_storage_id uuid) returns billing.storage language plpgsql set search_path=pg_catalog, pg_temp as '150d7bc1ec50138734c3924890cb4d75';

create function billing.find_tariffs(p_groups billing.usage_group[], p_first_at timestamp with time zone, p_last_at timestamp with time zone) returns TABLE(number bigint, special_id uuid, plan_id text, feature text, provider_id text, model text, starts_at timestamp with time zone, ends_at timestamp with time zone, is_known boolean, provider_price_id uuid, request_cost_usd numeric, usage_rate_id uuid, request_price_usd numeric, markup numeric, may_be_below_cost boolean, is_tiered boolean, allow_debt_micros bigint) language plpgsql set search_path=pg_catalog, pg_temp as '564f553a7b41646ae7695d06d70873ec';

create function billing.find_usage(p_organization_id uuid, p_source text, p_event_id text) returns billing.usage_events language plpgsql stable set search_path=pg_catalog, pg_temp set enable_seqscan=off set plan_cache_mode=force_generic_plan as '4b626bda212742ca305b6f6fd7b152c0';

create function billing.find_workspace(p_organization_id uuid, p_workspace_id uuid) returns billing.workspaces language plpgsql stable set search_path=pg_catalog, pg_temp as 'fe4e3f8ca290c354bccccf5cc8287af0';

create function billing.finish_clone(p_clone billing.clones) returns void language plpgsql set search_path=pg_catalog, pg_temp as '033f7f18a9bc081cea032f891741bef4';

create function billing.finish_storage_creation(p_storage billing.storage, p_outcome text, p_reason text) returns void language plpgsql set search_path=pg_catalog, pg_temp as 'da189fc90820ab1635e0a97399af38fc';

create function billing.finish_storage_deletion(p_storage billing.storage) returns void language plpgsql set search_path=pg_catalog, pg_temp as '9f4de682f5f106b9b5d990ff7757c333';

create function billing.finish_storage_update(p_storage billing.storage, p_outcome text, p_reason text, p_size_gb integer) returns void language plpgsql set search_path=pg_catalog, pg_temp as 'c01d63bb974492c27d1ef06f6ba3f3e7';

create function billing.first_id_of(p_at timestamp with time zone) returns uuid language sql immutable parallel safe as '28f052e1ac7c14f840d2f1f07a0cb5cf';

create function billing.fold_reviewed() returns trigger language plpgsql set search_path=pg_catalog, pg_temp as '84b0bd786ca9f3045a9e8afd9be2fe1b';

create function billing.fold_usage_events(p_first_id uuid, p_last_id uuid) returns void language plpgsql set search_path=pg_catalog, pg_temp set enable_seqscan=off set enable_indexscan=off set work_mem=64MB set jit=off set plan_cache_mode=force_custom_plan as 'a8a4b29f457050ee46572d8752a61232';

create function billing.follow_amount(p_organization_id uuid, p_grant_id uuid, p_amount_micros bigint, p_account billing.account, p_reason billing.reason, p_reason_back billing.reason) returns void language plpgsql set search_path=pg_catalog, pg_temp as 'daf1c4da96fd258f56d09ad3c41912cf';

create function billing.follow_reversals(p_provider billing.payment_provider, p_provider_payment_id text) returns uuid language plpgsql set search_path=pg_catalog, pg_temp as '89cf3a387afb015a274de3b8b88ebeb0';

create function billing.forfeit_balance(p_organization_id uuid) returns bigint language plpgsql set search_path=pg_catalog, pg_temp as '4640bc7701c45edb3d34595debd763d7';

create function billing.forget_counters(p_organization_id uuid) returns void language plpgsql set search_path=pg_catalog, pg_temp as '398bea35cf4ece973aeda0e90c046fe8';

create function billing.forget_full_buckets(p_limit integer) returns void language plpgsql set search_path=pg_catalog, pg_temp as '2659ff26eb65ff441f3b8c5ac0a86ff2';

create function billing.forget_plans_counters() returns trigger language plpgsql set search_path=pg_catalog, pg_temp as '55fd4a8a6d75f2afb679b129e6b11ecd';

create function billing.forget_storage(p_storage billing.storage) returns void language plpgsql set search_path=pg_catalog, pg_temp as '33e7f9e8869c8a985c2adf63c8bc0cd5';

create function billing.give_up_clone(p_clone billing.clones, p_reason text) returns void language plpgsql set search_path=pg_catalog, pg_temp as '32bda4daaf561a45f4759ea84f9cbd65';

create function billing.give_up_identity(p_organization_id uuid, p_reason text) returns void language plpgsql set search_path=pg_catalog, pg_temp as 'c8dd82e683c22427922b8a7565edee1a';

create function billing.grant_registration_bonus(p_organization_id uuid, p_plan_id text, p_user_id uuid, p_email text) returns void language plpgsql set search_path=pg_catalog, pg_temp as '876f36f77724742ae20351f44836ad24';

create function billing.has_ended(p_status billing.storage_status) returns boolean language sql immutable as 'b53b194c20fa8044cdf26ed04539efb6';

create function billing.has_room(p_organization_id uuid, p_amount_micros bigint) returns boolean language plpgsql set search_path=pg_catalog, pg_temp as 'd6f8084c108105da9d3d05a55cc8a695';

create function billing.has_spent_cap(p_organization_id uuid, p_passport_id uuid, p_now timestamp with time zone) returns boolean language plpgsql stable set search_path=pg_catalog, pg_temp as '2b521d0f1600f2c428f897a9c2d5a257';

create function billing.hold_storage_size(p_organization_id uuid, p_storage_id uuid, p_size_gb integer) returns void language plpgsql set search_path=pg_catalog, pg_temp as 'ce74f7b8331f58e56defe5564442b706';

create function billing.hold_with_care(p_organization_id uuid, p_amount_micros bigint) returns void language plpgsql set search_path=pg_catalog, pg_temp as '4abfddadf2a5e5c9b006bee690525814';

create procedure billing.inherit_comments(IN p_view regclass) language plpgsql set search_path=pg_catalog, pg_temp as '98ffa4172a6672eb00989febecde2bd8';

create function billing.inherit_spend_caps(p_organization_id uuid, p_passport_id uuid, p_successor_id uuid, p_set_by text) returns void language plpgsql set search_path=pg_catalog, pg_temp as '1e27b33181cce7f146a5351eaec33338';

create function billing.is_amount_range(p_range jsonb) returns boolean language sql immutable parallel safe as 'dd03729970e77752fb03222635282c22';

create function billing.is_consumption(p_reason billing.reason) returns boolean language sql immutable parallel safe as '7b41acafee56796599892b848cf95074';
grant execute on routine billing.is_consumption(billing.reason) to authenticated, faregate_reader;

create function billing.is_policy_match(p_match jsonb) returns boolean language plpgsql immutable parallel safe set search_path=pg_catalog, pg_temp as '200d62016aadf1b4c83570a4b61cb11d';

create function billing.keep_an_owner(p_organization_id uuid, p_member_id uuid) returns void language plpgsql set search_path=pg_catalog, pg_temp as 'adec24f62aa0b3c90c2655bb7fdfa486';

create function billing.largest_amount() returns bigint language sql immutable parallel safe as 'ec06c241c4ab5b31cac6c2c166fa01e4';

create function billing.last_transfer_before(p_organization_id uuid, p_at timestamp with time zone) returns bigint language plpgsql stable set search_path=pg_catalog, pg_temp as 'fc746f647ad648e8bf19788aa1929792';

create function billing.limit_headers(p_policy billing.policies, p_tokens numeric) returns jsonb language sql immutable parallel safe as '9dc8d6726416ed70fc098d15d3614037';

create function billing.lock_automatic_top_up(p_organization_id uuid, p_top_up_id uuid) returns billing.top_ups language plpgsql set search_path=pg_catalog, pg_temp as 'bb24bfadd19870c2631ed54d4b108e4b';

create function billing.lock_backfill(p_id uuid) returns billing.backfills language plpgsql set search_path=pg_catalog, pg_temp as '997b0eee0e6a16797bfcd73edd77f06d';

create function billing.lock_checkout(p_checkout jsonb) returns billing.top_ups language plpgsql set search_path=pg_catalog, pg_temp as 'd5d4c2246cce78ab222f8c159ae82bf0';

create function billing.lock_clone(p_organization_id uuid, p_clone_id uuid) returns billing.clones language plpgsql set search_path=pg_catalog, pg_temp as 'b6f2bc5ed31289c704e1e73101d9fea0';

create function billing.lock_hold(p_organization_id uuid, p_hold_id uuid) returns billing.holds language plpgsql set search_path=pg_catalog, pg_temp as 'd22c5d2805532e6d4cd96f6bbd6a13f5';

create function billing.lock_identity(p_organization_id uuid) returns billing.identities language plpgsql set search_path=pg_catalog, pg_temp as '9c719a0e1e2b35c23c07ea44ced64a3f';

create function billing.lock_organization(p_organization_id uuid) returns void language plpgsql set search_path=pg_catalog, pg_temp as '283155d1a051248cba6d30641b2dfa46';

create function billing.lock_passport(p_caller billing.caller, p_passport_id uuid) returns billing.passports language plpgsql set search_path=pg_catalog, pg_temp as '84c5dad2e1b7e35eae067eea1dbf41e4';

create function billing.lock_role(p_user_id uuid, p_organization_id uuid) returns text language plpgsql set search_path=pg_catalog, pg_temp as '2ff92850290290759d3e0cee7f142cfb';

create function billing.lock_session(p_organization_id uuid, p_session_id uuid) returns billing.sessions language plpgsql set search_path=pg_catalog, pg_temp as '77aa2d279170191994354b89261cf599';

create function billing.lock_sessions(p_organization_id uuid) returns uuid[] language plpgsql set search_path=pg_catalog, pg_temp as 'd9b74cb8303acbc84f7fce639c5e06f3';

create function billing.lock_source(p_organization_id uuid, p_storage_id uuid) returns billing.storage language plpgsql set search_path=pg_catalog, pg_temp as 'd9e2ce26949a1cf18d8621ea3eae7efc';

create function billing.lock_space(p_caller billing.caller, p_slug text) returns billing.spaces language plpgsql set search_path=pg_catalog, pg_temp as 'f231aaa51a34deafe7af70ea12b884db';

create function billing.lock_storage(p_organization_id uuid, p_storage_id uuid) returns billing.storage language plpgsql set search_path=pg_catalog, pg_temp as 'bebfd26276c657efa07bb6ea2d83b8c4';

create function billing.lock_top_up(p_organization_id text, p_top_up_id text) returns billing.top_ups language plpgsql set search_path=pg_catalog, pg_temp as '618b6095ea2c18b8bcf0e13799efecab';

create function billing.lock_wallet(p_organization_id uuid) returns billing.wallets language plpgsql set search_path=pg_catalog, pg_temp as 'c3cd5c125b0931ad95f24973a49f4dd4';

create function billing.lock_workspace(p_organization_id uuid, p_workspace_id uuid) returns billing.workspaces language plpgsql set search_path=pg_catalog, pg_temp as '7d0f35db34608ccb9cd36907f731c2ab';

create function billing.match_policies(p_facts jsonb, p_is_spending boolean, p_draft billing.policies) returns TABLE(policy billing.policies, is_moot boolean) language plpgsql stable set search_path=pg_catalog, pg_temp as '346b5309aff6d1aeb4c6482ab001d4fd';

create function billing.member_permissions(p_organization_id uuid, p_user_id uuid) returns text[] language plpgsql stable set search_path=pg_catalog, pg_temp as 'd884b589cf206c236a55b8a19494930d';

create function billing.month_to_archive() returns date language plpgsql stable set search_path=pg_catalog, pg_temp as 'a532e7158532c2af750375290eb77f35';

create function billing.note_card(p_intent jsonb, p_organization_id uuid) returns billing.payment_outcome language plpgsql set search_path=pg_catalog, pg_temp as '4870fb136b64875b5712dee2fae81233';

create function billing.note_differences(p_reconciliation_id uuid, p_organization_ids uuid[], p_differences billing.difference[]) returns void language plpgsql set search_path=pg_catalog, pg_temp as '6a21a959f47ee4b58a5badd1a99df80e';

create function billing.note_discrepancy(p_kind billing.discrepancy_kind, p_organization_id uuid, p_subject text, p_ledger_rule text, p_expected_micros bigint, p_found_micros bigint, p_note text) returns void language plpgsql set search_path=pg_catalog, pg_temp as 'c59e31e22d4cf78341e7eb3b2923bf85';

create function billing.note_expiry(p_organization_id uuid, p_grant_id uuid) returns void language plpgsql set search_path=pg_catalog, pg_temp as 'be1ae6fc3b71e0622f03d4d610c06449';

create function billing.note_passport_use(p_organization_id uuid, p_id uuid, p_now timestamp with time zone) returns void language plpgsql set search_path=pg_catalog, pg_temp as '1a420ef3e5385a8b0ab5b18531b071e3';

create function billing.note_policy(p_caller billing.caller, p_action text, p_policy api.policies) returns void language plpgsql set search_path=pg_catalog, pg_temp as '5147c29d9cd0a5e4b23b2712510246ba';

create function billing.note_reversal(p_object jsonb, p_payment_id text, p_told_at text) returns billing.payment_outcome language plpgsql set search_path=pg_catalog, pg_temp as '88692bb4c015ef88a9871be4ff07b8c2';

create function billing.note_space(p_caller billing.caller, p_action text, p_space_id uuid, p_kind text) returns void language plpgsql set search_path=pg_catalog, pg_temp as 'c3e6e7516698ea41fa1917d53caaa25f';

create function billing.notify(p_organization_id uuid, p_kind text, p_detail jsonb) returns void language plpgsql set search_path=pg_catalog, pg_temp as '2f633a566c66760c672a760a9da5d275';

create function billing.now() returns timestamp with time zone language sql parallel safe as '94fc2f526401760006cf0a2bd7692e58';
grant execute on routine billing.now() to authenticated, faregate_reader;

create function billing.oldest_usage() returns timestamp with time zone language sql as '8c24c5babac3b92e13f356aeface7cd0';

create function billing.open_hold(p_organization_id uuid, p_id uuid, p_kind billing.hold_kind, p_amount_micros bigint, p_expires_at timestamp with time zone, p_is_final boolean, p_due_at timestamp with time zone) returns void language plpgsql set search_path=pg_catalog, pg_temp as '7a16b0bb1abc91f994af9be68c0467ce';

create function billing.open_initial_storage(p_organization_id uuid) returns void language plpgsql set search_path=pg_catalog, pg_temp as '3f80757bf1fce3f222a3559304488e51';

create function billing.open_storage(p_organization_id uuid, p_kind billing.storage_kind, p_region_id text, p_size_gb integer, p_name text, p_workspace_id uuid, p_soft_delete_days integer, p_delete_after_days integer, p_included_gb integer, p_created_by text) returns uuid language plpgsql set search_path=pg_catalog, pg_temp as '3a3e8c0090b2cae60c7b7978e9f4646d';

create function billing.own_costs(p_provider_id text, p_model_id text, p_effective_at timestamp with time zone) returns jsonb language sql stable set search_path=pg_catalog, pg_temp as 'b397fdfac95b8e5095e18549479930b9';

create function billing.owns_space(p_organization_id uuid, p_space_id uuid) returns boolean language plpgsql stable set search_path=pg_catalog, pg_temp as '5c60174efab74cbd67c3abf1d3b648e5';

create function billing.pause_auto_top_up(p_organization_id uuid, p_reason text, p_top_up_id uuid, p_amount_micros bigint) returns void language plpgsql set search_path=pg_catalog, pg_temp as '3ce1954ff349278e9e25f70212cfb70a';

create function billing.pause_without_owner() returns trigger language plpgsql security definer set search_path=pg_catalog, pg_temp as '64721bb46d64fd735649bb8f598c18b5';

create function billing.period_end(p_period billing.usage_period, p_start timestamp with time zone) returns timestamp with time zone language sql stable parallel safe as '70d56801248e0fc48959e603fc787d13';

create function billing.period_start(p_period billing.usage_period, p_at timestamp with time zone) returns timestamp with time zone language sql stable parallel safe as '0f18f46a24960571cc5fc78ef4f1fdbf';

create function billing.post(p_organization_id uuid, p_debit billing.account, p_credit billing.account, p_amount_micros bigint, p_reason billing.reason, p_grant_id uuid) returns bigint language plpgsql set search_path=pg_catalog, pg_temp as 'f02307a56a9ed431b32b897e24ceefdf';

create function billing.predict_spending(p_days numeric[], p_known integer, p_day integer) returns numeric language sql immutable parallel safe as '0bc3b444fdb904b75f78d1930145552a';

create function billing.preset_gaps(p_organization_id uuid, p_workspace_id uuid, p_preset billing.presets) returns TABLE(storage_kind billing.storage_kind, storage_gb integer, space text) language plpgsql stable set search_path=pg_catalog, pg_temp as '1aad1904fccef485fbc184f90aefe8bc';

create function billing.price_at(p_plan_id text, p_sku text, p_at timestamp with time zone) returns SETOF billing.prices language plpgsql stable set search_path=pg_catalog, pg_temp as 'fb587496540460f5ebccad6841480436';

create function billing.price_preset(p_plan_id text, p_preset billing.presets, p_now timestamp with time zone) returns TABLE(hourly_price_micros bigint, cost_micros bigint, storage_month_cost_micros bigint, space_price_micros bigint) language plpgsql stable set search_path=pg_catalog, pg_temp as 'd8fa7b5e8247bc159f16f3e14adaa942';

create function billing.price_usage(p_rated billing.rated_usage) returns numeric language plpgsql stable set search_path=pg_catalog, pg_temp as '38651be68158305ef3e71e276057d521';

create function billing.promise_bonus(p_amount_micros bigint) returns bigint language plpgsql set search_path=pg_catalog, pg_temp as '2703798e98ac88578231002eaad6413b';

create function billing.provider_amount(p_object jsonb, p_name text) returns bigint language plpgsql immutable set search_path=pg_catalog, pg_temp as 'cbfacb9fba1a07b31909b7e6a17c5d4a';

create function billing.purchase_to_clone(p_organization_id uuid, p_space_id uuid) returns uuid language plpgsql set search_path=pg_catalog, pg_temp as 'dad7d9205aabc36274f49836dd717004';

create function billing.random_name() returns text language sql parallel safe as 'c6360cfe66a205591cd6061463c9badf';

create function billing.rate_usage(p_events jsonb, p_organization_ids uuid[], p_now timestamp with time zone) returns SETOF billing.rated_usage language plpgsql set search_path=pg_catalog, pg_temp set plan_cache_mode=force_generic_plan set enable_seqscan=off set enable_nestloop=off set enable_mergejoin=off set enable_sort=off set jit=off as '9d30aa5e3ebb190def6e8e4ff7260d5f';

create function billing.read_policy(p_rule jsonb, p_actor text) returns billing.policies language plpgsql stable set search_path=pg_catalog, pg_temp as '9d3310a1a6aaa5432133f430ccacc086';

create function billing.read_registration(p_organization_id uuid, p_passport api.passports) returns billing.registration language plpgsql set search_path=pg_catalog, pg_temp as 'c057c72beaea2b69ceee93b1d3e590cd';

create function billing.readable(p_permission text) returns SETOF uuid language plpgsql stable security definer set search_path=pg_catalog, pg_temp as '1837b95de2992c371ff725f667a77208';
grant execute on routine billing.readable(text) to authenticated, faregate_reader;

create function billing.record_backfill(p_backfill billing.backfills) returns bigint language plpgsql set search_path=pg_catalog, pg_temp as 'a000cff58123951229b953c061ee7fc6';

create function billing.record_usage(p_rated billing.rated_usage[], p_organization_ids uuid[], p_first_at timestamp with time zone, p_is_owed boolean) returns TABLE(accepted integer, outcomes billing.usage_outcome[], debits billing.debit[], remainders_usd numeric[], owing_ids uuid[], owed_micros bigint[]) language plpgsql set search_path=pg_catalog, pg_temp set plan_cache_mode=force_generic_plan set enable_seqscan=off set enable_nestloop=off set enable_mergejoin=off set enable_sort=off set jit=off as '2b6f7ea153fc132c89104e7505f71f1b';

create function billing.refilled(p_policy billing.policies, p_tokens numeric, p_refilled_at timestamp with time zone, p_now timestamp with time zone) returns numeric language sql immutable parallel safe as '5b4a976fdfd734c48f31214c767f89e4';

create function billing.refuse_batch(p_outcomes billing.usage_outcome[]) returns void language plpgsql set search_path=pg_catalog, pg_temp as '633636c7bfb8df928f90d7262833ca9d';

create function billing.refuse_by_policies(p_caller billing.caller, p_rated billing.rated_usage[]) returns billing.usage_outcome[] language plpgsql set search_path=pg_catalog, pg_temp as '0b53b0df91ec82e9bf4190f95671f354';

create function billing.refuse_change() returns trigger language plpgsql set search_path=pg_catalog, pg_temp as '0c3227413e1742f3c9b15b146f4ceeb1';

create function billing.refuse_insufficient(p_required_micros bigint, p_available_micros bigint) returns void language plpgsql immutable set search_path=pg_catalog, pg_temp as '813ed528a61b7bbe1fc733f38970cadf';

create function billing.refuse_new_debt(p_before billing.wallets, p_allow_debt_micros bigint) returns void language plpgsql set search_path=pg_catalog, pg_temp as 'df9ab7b2d29e2a88c705beae3c6bca7b';

create function billing.refuse_price(p_organization_id uuid, p_price_usd numeric, p_allow_debt_micros bigint) returns text language plpgsql stable set search_path=pg_catalog, pg_temp as '36ae3496fd8745b4d198209bd8fdeba0';

create function billing.refuse_purchase(p_organization_id uuid, p_space billing.spaces) returns void language plpgsql set search_path=pg_catalog, pg_temp as 'a777820da4d1946463f97a3abe92d2f3';

create function billing.refuse_refund(p_organization_id uuid, p_purchase_id uuid) returns void language plpgsql set search_path=pg_catalog, pg_temp as '2d48c83f6eb1209ab790f0019e132596';

create function billing.refuse_resize(p_organization_id uuid, p_storage_id uuid, p_plan_id text, p_size_gb integer) returns void language plpgsql set search_path=pg_catalog, pg_temp as '8989c999f871560b3f9bb9e4e654323d';

create function billing.refuse_short_money(p_organization_id uuid, p_required_micros bigint) returns void language plpgsql stable set search_path=pg_catalog, pg_temp as '4c06f18adbe461ffc07de653d4a7350e';

create function billing.refuse_size(p_plan_id text, p_kind billing.storage_kind, p_region_id text, p_size_gb integer) returns void language plpgsql set search_path=pg_catalog, pg_temp as '6b167c3a270fafd2ba8920975317fbd9';

create function billing.refuse_slug(p_slug text) returns void language plpgsql set search_path=pg_catalog, pg_temp as '63d0701578f5f5fb206edd6b2c14e8c1';

create function billing.refuse_source_deletion(p_organization_id uuid, p_storage_id uuid) returns void language plpgsql set search_path=pg_catalog, pg_temp as '442822f619c128bd9760a176baaee41f';

create function billing.refuse_storage(p_plan_id text, p_kind billing.storage_kind, p_region_id text, p_size_gb integer) returns void language plpgsql set search_path=pg_catalog, pg_temp as '1fedf2c3df9733d2e836da7e4b03324d';

create function billing.refuse_to_close(p_organization_id uuid, p_forfeit_balance boolean) returns void language plpgsql set search_path=pg_catalog, pg_temp as '8f38579225beb2a35bcd40b4f064f09f';

create function billing.refuse_usage(p_indexes integer[], p_prices_usd numeric[], p_tiered_ids uuid[], p_allow_debt_micros bigint[], p_remainder_usd numeric, p_available_micros bigint, p_debt_micros bigint, p_limits billing.usage_limit[], p_takes billing.usage_take[]) returns text[] language plpgsql immutable set search_path=pg_catalog, pg_temp as '3ca575abbd522edaa8f909542803310d';

create function billing.remember(p_scope_id uuid, p_key text, p_operation text, p_request jsonb, p_response jsonb) returns void language plpgsql set search_path=pg_catalog, pg_temp as 'c1f923710e9e803c063d6ebc0a67e8df';

create function billing.repay_debt(p_organization_id uuid) returns void language plpgsql set search_path=pg_catalog, pg_temp as 'f30ef63a4ebf65ee2257892d7ab08bcf';

create function billing.replay(p_scope_id uuid, p_key text, p_operation text, p_request jsonb) returns jsonb language plpgsql set search_path=pg_catalog, pg_temp as '8949d01fec714b18c35590276179b14f';

create function billing.reprice_usage(p_event billing.usage_events, p_was billing.usage_total, p_rated billing.rated_usage) returns numeric language plpgsql set search_path=pg_catalog, pg_temp as 'c9ca40dbf2330002b841185cab9374e9';

create function billing.request_identity(p_organization_id uuid) returns void language plpgsql set search_path=pg_catalog, pg_temp as 'fc040c489ab01d79c503755c7bf01282';

create function billing.require_decider(p_role text, p_other_role text) returns void language plpgsql set search_path=pg_catalog, pg_temp as 'fcc544338bf729c3350bc59b7ccada7f';

create function billing.require_idle_workspace(p_organization_id uuid, p_workspace_id uuid) returns void language plpgsql set search_path=pg_catalog, pg_temp as 'c05ac4f3cde212cc615cb96ef24a5f33';

create function billing.require_preset_contents(p_organization_id uuid, p_workspace_id uuid, p_preset text) returns void language plpgsql stable set search_path=pg_catalog, pg_temp as '26862aa5011b44c03c068a4afcd70775';

create function billing.require_status(p_storage billing.storage, p_statuses billing.storage_status[]) returns void language plpgsql immutable set search_path=pg_catalog, pg_temp as 'a9d1a8f691bb26b202b9e36a9979f1be';

create function billing.require_tier_or_preset(p_tier text, p_preset text) returns void language plpgsql set search_path=pg_catalog, pg_temp as '7957191bb21ea02656ebfc1f934189f6';

create function billing.required_micros(p_price_usd numeric) returns bigint language sql immutable parallel safe as 'aef7756ddc4d0fd162f0e921ec20f44a';

create function billing.restate_usage(p_event billing.usage_events, p_was billing.usage_total, p_rated billing.rated_usage) returns void language plpgsql set search_path=pg_catalog, pg_temp as 'c47c2291e6eb7bd0747f37090c2c389e';

create function billing.return_charge(p_organization_id uuid, p_sequence bigint, p_from billing.account, p_reason billing.reason, p_note text) returns void language plpgsql set search_path=pg_catalog, pg_temp as '2926132b740d3e064e0e30a6a2a428bd';

create function billing.return_usage(p_organization_id uuid, p_amount_micros bigint, p_sequences bigint[]) returns void language plpgsql set search_path=pg_catalog, pg_temp as '3c4b8c51460fa026560603eaa95dee32';

create function billing.revert_event(p_backfill billing.backfills, p_event billing.backfill_events, p_actor text) returns void language plpgsql set search_path=pg_catalog, pg_temp set enable_seqscan=off set plan_cache_mode=force_generic_plan as '2e74164d111e90fd44b0b55a2749e2a8';

create function billing.revert_key(p_id uuid) returns text language sql immutable parallel safe as '6d4c4f8b4c2275190dc28832f3f133ab';

create function billing.revoke_passports() returns trigger language plpgsql security definer set search_path=pg_catalog, pg_temp as '7557cf6b05c0288034b979df89dbd068';

create function billing.role_permissions(p_role text, p_plan_id text, p_closed_at timestamp with time zone) returns text[] language sql immutable parallel safe as '423a896542af7e183a6b86949b96a883';

create function billing.running_sessions(p_organization_id uuid, p_workspace_id uuid) returns bigint language plpgsql stable set search_path=pg_catalog, pg_temp as 'ee3cb4f17f0b0469eee47693cf0be523';

create function billing.saved_card(p_organization_id uuid) returns SETOF billing.saved_cards language plpgsql set search_path=pg_catalog, pg_temp as '974cb4ff6ce87c25cc41cd0d4c159f4d';

create function billing.seconds_until(p_policy billing.policies, p_tokens numeric) returns bigint language sql immutable parallel safe as 'bc6a8a77d392dd5e4990541dd73ce8f0';

create function billing.session_cost(p_hourly_price_micros bigint, p_started_at timestamp with time zone, p_until timestamp with time zone) returns bigint language sql immutable parallel safe as '1f537b624c2081dde678d5794734f10e';
grant execute on routine billing.session_cost(bigint,timestamp with time zone,timestamp with time zone) to authenticated, faregate_reader;

create function billing.session_due_at(p_paid_until timestamp with time zone, p_is_last_window boolean, p_window_seconds integer, p_lost_at timestamp with time zone) returns timestamp with time zone language sql stable parallel safe as '6cb64486dcfc241054dca9e9cacbf25f';

create function billing.set_storage_status(p_organization_id uuid, p_storage_id uuid, p_status billing.storage_status, p_reason text) returns void language plpgsql set search_path=pg_catalog, pg_temp as '25f46393c0ad3f3c33190b17a55e2bce';

create function billing.settle_batch(p_debits billing.debit[], p_remainders_usd numeric[], p_owing_ids uuid[], p_owed_micros bigint[]) returns void language plpgsql set search_path=pg_catalog, pg_temp as '0fe315533f035247af6d59550fc97975';

create function billing.settle_corrections(p_backfill billing.backfills, p_source text, p_outcomes text[]) returns void language plpgsql set search_path=pg_catalog, pg_temp set enable_seqscan=off set plan_cache_mode=force_generic_plan as '84471619a253d283d767d3b45184f869';

create function billing.settle_organization(p_organization_id uuid, p_delete_storage boolean) returns void language plpgsql set search_path=pg_catalog, pg_temp as 'c674ce591c62c8b334a6a69983510bd1';

create function billing.settle_sessions(p_organization_ids uuid[], p_session_ids uuid[], p_stop_reason text) returns integer language plpgsql set search_path=pg_catalog, pg_temp set plan_cache_mode=force_generic_plan set enable_seqscan=off as '6fa0c2b613bac0fdd237d17c47f082b8';

create function billing.settle_storage(p_organization_id uuid, p_storage_id uuid, p_is_end boolean) returns void language plpgsql set search_path=pg_catalog, pg_temp as '5d9e80385f503e9dc8b01343798e52c7';

create function billing.settle_usage(p_organization_id uuid, p_price_usd numeric, p_sequences bigint[]) returns bigint language plpgsql set search_path=pg_catalog, pg_temp as '175f779625c9ca1b0d6c6cc2b98cb776';

create function billing.start_clones(p_organization_id uuid, p_storage_id uuid) returns void language plpgsql set search_path=pg_catalog, pg_temp as '494e9a3606be083baf874017c52f9e21';

create function billing.start_grant(p_organization_id uuid, p_grant_id uuid) returns void language plpgsql set search_path=pg_catalog, pg_temp as 'ef0dbf3fb830d566bb229e6928d273d6';

create function billing.start_storage(p_organization_id uuid, p_storage_id uuid) returns void language plpgsql set search_path=pg_catalog, pg_temp as '3883d81a31a675d8b4f534ecaee6d5ce';

create function billing.statement_kind(p_reason billing.reason) returns billing.statement_kind language sql immutable parallel safe as 'b2118839c7a8ecf6fb264692d362afb9';
grant execute on routine billing.statement_kind(billing.reason) to authenticated, faregate_reader;

create function billing.stop_session_payload(p_organization_id uuid, p_session_id uuid, p_paid_until timestamp with time zone) returns jsonb language sql stable parallel safe as '9779e7ad971b57a70467650473715bf7';

create function billing.stop_sessions(p_organization_id uuid, p_session_ids uuid[], p_reason text) returns void language plpgsql set search_path=pg_catalog, pg_temp as '9904938b5b9e9bf31d31016f87798035';

create function billing.storage_cost(p_organization_id uuid, p_storage_id uuid, p_until timestamp with time zone) returns bigint language sql stable parallel safe as 'a52876b382bf5a8bbf1e7243acbc1896';
grant execute on routine billing.storage_cost(uuid,uuid,timestamp with time zone) to authenticated, faregate_reader;

create function billing.storage_next_status(p_storage billing.storage, p_plan billing.plans, p_is_paid boolean, p_is_covered boolean, p_now timestamp with time zone) returns billing.storage_status language sql stable parallel safe as '9494709c95749911bcb922779eb590fc';

create function billing.storage_place(p_organization_id uuid, p_storage_id uuid) returns jsonb language plpgsql stable set search_path=pg_catalog, pg_temp as 'e6c57ceb52a992ef81ebd76117a54f38';

create function billing.storage_price(p_organization_id uuid, p_kind billing.storage_kind, p_now timestamp with time zone) returns SETOF billing.prices language plpgsql stable set search_path=pg_catalog, pg_temp as '80fae9cee74aa4b0a4589c7f5ca4c5d3';

create function billing.storage_principal(p_organization_id uuid) returns text language plpgsql stable set search_path=pg_catalog, pg_temp as '9327e8bc693e405e98537885bba359bb';

create function billing.storage_step(p_storage billing.storage) returns text language plpgsql stable set search_path=pg_catalog, pg_temp as '00b0aa34b4bf76f18f91a9786474ffc3';

create function billing.storage_wanted(p_storage billing.storage, OUT size_gb integer, OUT access billing.storage_access, OUT principal text) returns record language plpgsql stable set search_path=pg_catalog, pg_temp as '8be6988ce3e68c3bd02ab02510ad97b9';

create function billing.subtract_usage(p_quantities jsonb, p_others jsonb) returns jsonb language plpgsql immutable set search_path=pg_catalog, pg_temp as '2701f07c9ab088b680bd6e17ff6cd085';

create function billing.sum_up_usage(p_organization_id uuid, p_id uuid) returns billing.usage_total language plpgsql stable set search_path=pg_catalog, pg_temp set enable_seqscan=off set plan_cache_mode=force_generic_plan as '647a07856f14025d1a2f02d60548cf62';

create function billing.sum_usage(p_organization_id uuid, p_from date, p_to date, p_group_by text[]) returns SETOF billing.usage_sum language plpgsql stable set search_path=pg_catalog, pg_temp set plan_cache_mode=force_custom_plan set work_mem=64MB set jit=off as '8d11032a1dc9e76c9fe43ccbd92f1692';

create function billing.take_token(p_policy billing.policies, p_bucket billing.rate_buckets, p_now timestamp with time zone) returns numeric language plpgsql set search_path=pg_catalog, pg_temp as '241b0727208828849ec117dbdcec53bf';

create function billing.taken_bytes(p_storage billing.storage, p_except_object text) returns bigint language plpgsql stable set search_path=pg_catalog, pg_temp as '579a3e76e64013bb9763305132029040';

create function billing.task_name(p_id uuid, p_enqueues integer) returns text language sql immutable parallel safe as '58198865c9a581943034a079ffc7bafd';

create function billing.tell_headers(p_headers jsonb) returns void language plpgsql set search_path=pg_catalog, pg_temp as '21fd3ceb6ecc968b867149c04f10a21a';

create function billing.tier_price(p_plan billing.plans, p_tier text, p_now timestamp with time zone) returns billing.prices language plpgsql set search_path=pg_catalog, pg_temp as '259729537760061f2a7245cfa4863cb5';

create function billing.tier_prices(p_events billing.tiered_usage[]) returns jsonb language sql stable set search_path=pg_catalog, pg_temp as '39a5605a01830271d9ecc8ef5dbfd0ff';

create function billing.tiered_amounts(p_events billing.tiered_usage[]) returns TABLE(index integer, organization_id uuid, rate_id uuid, meter text, month_start date, quantity numeric) language sql stable set search_path=pg_catalog, pg_temp as '8a53d6040a720157a94aef2a17e08b30';

create function billing.tiers_of_correction(p_event billing.usage_events, p_was billing.usage_total, p_rated billing.rated_usage) returns billing.tiered_usage[] language sql stable set search_path=pg_catalog, pg_temp as '81355e6c2b8f665a27ac71833ba018df';

create function billing.top_up_bonus(p_amount_micros bigint) returns bigint language plpgsql set search_path=pg_catalog, pg_temp as '999f41b6188bc0b563813b4892ccf03a';

create function billing.try_usage(p_rated billing.rated_usage) returns text language plpgsql set search_path=pg_catalog, pg_temp as '11c65b22691f950b9f4c129e08c420fc';

create function billing.usage_after(p_month date, p_organization_id uuid, p_id uuid, p_limit integer) returns SETOF billing.usage_events language plpgsql stable set search_path=pg_catalog, pg_temp set plan_cache_mode=force_custom_plan set enable_seqscan=off set enable_bitmapscan=off as 'b3201b6d73cd2d055ad360d4f2f804ec';

create function billing.usage_folded_to() returns uuid language plpgsql stable security definer set search_path=pg_catalog, pg_temp as '55921308f0eefdbc80d8c0fde4c77f25';
grant execute on routine billing.usage_folded_to() to authenticated, faregate_reader;

create function billing.usage_is_complete_until() returns timestamp with time zone language plpgsql set search_path=pg_catalog, pg_temp set lock_timeout=1s as '1c40517323e167c0d43526fc2506fe87';

create function billing.usage_parts(p_events bigint, p_cost_usd numeric, p_price_usd numeric, p_quantities jsonb) returns TABLE(meter text, events bigint, cost_usd numeric, price_usd numeric, quantity numeric) language sql immutable parallel safe as 'fff04d3980c2da4462407a0cba70772e';
grant execute on routine billing.usage_parts(bigint,numeric,numeric,jsonb) to authenticated, faregate_reader;

create function billing.usage_units(p_prices jsonb) returns TABLE(meter text, unit_price_usd numeric, adds_usd numeric) language plpgsql stable set search_path=pg_catalog, pg_temp as '5b670fc7f53434ecfcf9c301f581e748';

create function billing.usd(p_usd numeric) returns text language sql immutable parallel safe as '0e2b968e64d93adac2a0e11bda21d69b';

create function billing.used(p_organization_id uuid, p_feature_id text, p_passport_id uuid, p_meter text, p_period billing.usage_period, p_start timestamp with time zone) returns numeric language plpgsql stable set search_path=pg_catalog, pg_temp as 'b549d535433df7252a126c03ab85381c';

create function billing.user_email(p_user_id uuid) returns text language plpgsql stable security definer set search_path=pg_catalog, pg_temp as 'b2ce0984eea9833b7578095435338737';
grant execute on routine billing.user_email(uuid) to authenticated, faregate_reader;

create function billing.uuidv7() returns uuid language sql parallel safe as '76b8e29c1e371020169069e8172076f4';

create function billing.verified_email(p_user_id uuid) returns text language plpgsql set search_path=pg_catalog, pg_temp as '6ded7d8961ad934756b1d8ec6edc95e3';

create function billing.verify(p_organization_id uuid DEFAULT NULL::uuid) returns SETOF billing.difference language plpgsql stable set search_path=pg_catalog, pg_temp as 'ed37be1d4e7c599014fe73b64b2a24d2';

create function billing.verify_books(p_organization_ids uuid[], p_start billing.verified) returns SETOF billing.difference language plpgsql stable set search_path=pg_catalog, pg_temp set enable_nestloop=off set plan_cache_mode=force_custom_plan set work_mem=64MB as '422b3f49a2be7b640096ab39390b6bb7';

create function billing.verify_next(p_after uuid, p_is_full boolean) returns TABLE(organization_ids uuid[], transfers bigint, differences billing.difference[]) language plpgsql set search_path=pg_catalog, pg_temp as '94deaa1ca248ad40154007613c6a3fac';

create function billing.void_invitations() returns trigger language plpgsql security definer set search_path=pg_catalog, pg_temp as '9d0920ffb055212e6e77a807fcd176ab';

create function billing.void_unnamed_usage(p_backfill billing.backfills) returns void language plpgsql set search_path=pg_catalog, pg_temp as 'e3f8151063be31414347cb0f2d044ee4';

create function billing.window_cost(p_gb integer, p_gb_month_price_micros bigint, p_seconds integer) returns bigint language sql immutable parallel safe as '0a446b6d83990b999c54e625d60287ba';

create function billing.with_words_of(p_event billing.usage_events, p_other billing.usage_events) returns billing.usage_events language plpgsql immutable set search_path=pg_catalog, pg_temp as '0199df430bc58ab500741e25d34b1bde';

create function billing.withdraw_space(p_space_id uuid) returns void language plpgsql set search_path=pg_catalog, pg_temp as '96cfa441c2d691f9119d8d08f1bad5b5';

create function billing.workspace_contents(p_organization_id uuid, p_workspace_id uuid) returns TABLE(storage_ids uuid[], spaces text[], running_sessions bigint) language plpgsql stable set search_path=pg_catalog, pg_temp as '3e68f0cd20daa11525bead1c75d8db0d';

create function billing.write_identity_task(p_organization_id uuid, p_run_at timestamp with time zone) returns void language plpgsql set search_path=pg_catalog, pg_temp as '9eeb46633fcd5b5501bba771cbc5d099';

create function billing.write_invitation(p_organization_id uuid, p_email text, p_role text, p_actor text) returns uuid language plpgsql set search_path=pg_catalog, pg_temp as 'a010f258f7a4215ad41a1d0dc67d8728';

create function billing.write_passport(p_issuer billing.caller, p_name text, p_permissions text[], p_expires_at timestamp with time zone, p_key_hash text, p_key_prefix text) returns api.passports language plpgsql set search_path=pg_catalog, pg_temp as 'f2f15e9184216b0ec3be110d951bfcc7';

create function billing.write_task(p_organization_id uuid, p_topic billing.outbox_topic, p_payload jsonb) returns uuid language plpgsql set search_path=pg_catalog, pg_temp as '05fcd79f5f303dd25977107625f95dca';

create function billing.zeros() returns uuid language sql immutable parallel safe as '4cbdf21415982881d5f4fac575470b7c';
grant execute on routine billing.zeros() to authenticated, faregate_reader;

create function ops.age_seconds(p_at timestamp with time zone) returns bigint language sql parallel safe as '55f3e579589bf0a967db7dc4420996f5';

create function ops.day(p_at timestamp with time zone) returns date language sql immutable parallel safe as '1704f872df9ab5004833db9ecb6025d7';

create function ops.due_work() returns TABLE(schedule text, waits_for text, waiting bigint, due_at timestamp with time zone) language plpgsql stable set search_path=pg_catalog, pg_temp as '1d044ba1bda05394af4e008aae928038';

create function ops.revenue_kind(p_account billing.account) returns text language sql immutable parallel safe as 'fe4c18201cd99446e3d99e95dd343af5';

create function ops.usd(p_micros bigint) returns numeric language sql immutable parallel safe as 'e752b5e739d1b48ce6294128aadb82bf';
