"""Every refusal there is: one table from the machine code to the HTTP answer.

SQL raises SQLSTATE FGnnn, nnn being the status, with the code as its message. A test compares this
table with the migrations and with the README.
"""

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Problem:
    """A kind of refusal: its HTTP status and a sentence that helps an honest caller."""

    status: int
    title: str


PROBLEMS = {
    "invalid_request": Problem(400, "A part of the request is not what the contract says."),
    "invalid_signature": Problem(400, "The signature does not match the body."),
    "organization_required": Problem(
        400, "You belong to several organizations: name one in the Faregate-Organization header."
    ),
    "expiry_in_the_past": Problem(400, "The expiry lies in the past."),
    "plan_unknown": Problem(400, "There is no such plan."),
    "amount_too_small": Problem(400, "The amount is below the smallest top-up."),
    "amount_below_threshold": Problem(400, "The amount is below the threshold."),
    "monthly_cap_too_small": Problem(400, "Not even one top-up fits below the monthly cap."),
    "amount_out_of_bounds": Problem(400, "The amount is larger than the ledger carries."),
    "region_not_offered": Problem(400, "Storage of this kind is not offered in this region."),
    "size_not_allowed": Problem(400, "The size is out of the plan's or the region's limits."),
    "slug_not_allowed": Problem(400, "The name is reserved: choose another."),
    "period_too_long": Problem(400, "The period is longer than this address takes."),
    "action_unknown": Problem(400, "There is no such action."),
    "too_many_groups": Problem(400, "Group by less, or ask for a shorter period."),
    "tier_or_preset": Problem(400, "Name a tier or a preset: one of the two."),
    "preset_exceeded": Problem(400, "The preset is for shorter sessions."),
    "model_unknown": Problem(400, "There is no such provider, or no such model of it."),
    "effective_in_the_past": Problem(400, "What was used is rated already: begin now or later."),
    "cost_is_known": Problem(400, "What this model costs is loaded: it cannot be named."),
    "below_cost_not_meant": Problem(
        400, "This may come to less than the cost: set may_be_below_cost if that is meant."
    ),
    "tiers_overlap": Problem(
        400, "A meter with tiers or packages stands alone: price no part or whole of it beside it."
    ),
    "terms_not_of_kind": Problem(
        400, "A value is for static features, a limit for metered ones: nothing else has them."
    ),
    "unauthenticated": Problem(401, "Send a passport or a signed-in user's token."),
    "invalid_passport": Problem(401, "The passport is unknown, expired or revoked."),
    "invalid_token": Problem(401, "The token is not valid here."),
    "insufficient_credits": Problem(402, "The available credits do not cover this."),
    "debt_outstanding": Problem(
        402, "You owe for what you used. Top up: what you owe is repaid first."
    ),
    "permission_denied": Problem(403, "The caller lacks the permission."),
    "email_not_verified": Problem(403, "Confirm your e-mail address first."),
    "not_registered": Problem(403, "The user belongs to no organization: register first."),
    "passport_exceeds_issuer": Problem(
        403,
        "A passport cannot grant, and its rotation or revocation cannot touch, more than you have.",
    ),
    "tier_not_allowed": Problem(403, "The plan does not include this tier."),
    "storage_not_allowed": Problem(403, "The plan does not include storage of this kind."),
    "storage_limit_reached": Problem(403, "Delete storage first: the plan allows no more."),
    "user_required": Problem(403, "Sign in: no passport stands for a person here."),
    "passport_required": Problem(403, "This is for passports: a user's own token reads as well."),
    "policy_denied": Problem(403, "A rule of the platform refuses this."),
    "role_required": Problem(403, "This is for members of a higher role."),
    "not_found": Problem(404, "There is nothing at this address."),
    "organization_not_found": Problem(404, "There is no such organization."),
    "member_not_found": Problem(404, "There is no such member."),
    "passport_not_found": Problem(404, "There is no such passport."),
    "workspace_not_found": Problem(404, "There is no such workspace."),
    "preset_not_found": Problem(404, "There is no such preset."),
    "session_not_found": Problem(404, "There is no such session."),
    "storage_not_found": Problem(404, "There is no such storage."),
    "hold_not_found": Problem(404, "There is no such hold."),
    "authorization_not_found": Problem(404, "There is no such authorization."),
    "transaction_not_found": Problem(404, "There is no such transaction."),
    "top_up_not_found": Problem(404, "There is no such top-up."),
    "auto_top_up_not_found": Problem(404, "There is no automatic top-up."),
    "invitation_not_found": Problem(404, "There is no such invitation for you."),
    "identity_not_found": Problem(404, "The plan has no identity."),
    "space_not_found": Problem(404, "There is no such space."),
    "purchase_not_found": Problem(404, "There is no such purchase."),
    "clone_not_found": Problem(404, "There is no such clone."),
    "policy_not_found": Problem(404, "There is no such policy."),
    "usage_event_not_found": Problem(404, "There is no such usage event."),
    "backfill_not_found": Problem(404, "There is no such backfill."),
    "sku_not_found": Problem(404, "The plan has no price for this SKU."),
    "feature_not_found": Problem(404, "There is no such feature."),
    "spend_cap_not_found": Problem(404, "There is no such cap."),
    "method_not_allowed": Problem(405, "The address does not take this method."),
    "already_registered": Problem(409, "There is an organization already."),
    "organization_closed": Problem(409, "The organization is closed."),
    "organization_limit_reached": Problem(409, "You own as many organizations as one may."),
    "last_owner": Problem(409, "An organization keeps an owner: appoint another one first."),
    "storage_left": Problem(
        409, "Storage is left: delete it, or say that it goes with all that is in it."
    ),
    "holds_open": Problem(409, "Money is still held for what is being used."),
    "top_up_under_way": Problem(409, "A top-up is being paid. Try again when it is."),
    "operators_own": Problem(409, "The platform's own organization cannot be closed."),
    "balance_left": Problem(409, "Paid credits are left: use them, or say that you give them up."),
    "already_member": Problem(409, "They are a member of the organization already."),
    "invitation_closed": Problem(
        409, "The invitation is accepted, revoked or expired, or could not be sent."
    ),
    "invitation_limit_reached": Problem(
        409, "Too many invitations are open, or were made within a day."
    ),
    "idempotency_conflict": Problem(409, "The idempotency key was used for another request."),
    "rate_exists": Problem(409, "A rate for the same begins at that very moment."),
    "usage_not_ratable": Problem(409, "No rate says what the event costs, still."),
    "review_closed": Problem(409, "The event was charged or dismissed otherwise before."),
    "backfill_closed": Problem(409, "The backfill is closed or reverted: open another one."),
    "backfill_too_large": Problem(409, "A backfill takes two thousand events: open several."),
    "usage_refused": Problem(409, "This would be rejected, or could not be rated, as an event."),
    "batch_rejected": Problem(409, "An event was rejected, so none of its batch was taken."),
    "passport_limit_reached": Problem(409, "Revoke a passport first: the plan allows no more."),
    "top_up_not_paid": Problem(409, "The top-up is not paid."),
    "workspace_limit_reached": Problem(409, "Delete a workspace first: the plan allows no more."),
    "workspace_in_use": Problem(
        409, "Something is attached to the workspace, or runs in it: detach and stop it first."
    ),
    "workspace_busy": Problem(409, "Sessions run in the workspace: stop them first."),
    "preset_incomplete": Problem(
        409, "The workspace lacks storage or a space that the preset names."
    ),
    "session_closed": Problem(409, "The session has ended."),
    "storage_not_ready": Problem(409, "The storage is not there, or takes nothing at present."),
    "storage_in_use": Problem(409, "More than this is in the storage: delete some of it first."),
    "storage_attached": Problem(409, "The storage is attached to a workspace: detach it first."),
    "hold_closed": Problem(409, "The hold is captured, released or expired."),
    "hold_of_authorization": Problem(409, "An authorization of usage keeps it: capture that."),
    "capture_exceeds_hold": Problem(409, "The hold keeps less than this."),
    "no_saved_card": Problem(409, "Save a card first: buy credits with save_card."),
    "bucket_required": Problem(409, "It is a file share, and has no objects here."),
    "storage_full": Problem(409, "There is less room left than this: resize it, or delete some."),
    "own_space": Problem(409, "The space is your own: nobody buys from themselves."),
    "space_owned": Problem(409, "You own the space: it is bought once."),
    "space_not_owned": Problem(409, "Buy the space first."),
    "space_not_published": Problem(409, "The space is not sold yet, or no more."),
    "space_not_attached": Problem(409, "The space is not in this workspace."),
    "space_not_cloneable": Problem(409, "The space cannot be cloned."),
    "space_not_in_review": Problem(409, "The space was decided about already, or withdrawn."),
    "slug_taken": Problem(409, "Another space has this name."),
    "too_many_in_review": Problem(409, "Submitted spaces wait for a decision: withdraw one first."),
    "storage_is_source": Problem(409, "A space comes from this bucket: withdraw the space first."),
    "purchase_refunded": Problem(409, "The purchase was given back already."),
    "purchase_cloned": Problem(
        409, "The purchase has its clone: it is made once, and cannot be given back."
    ),
    "body_too_large": Problem(413, "The body is larger than this address takes."),
    "unsupported_media_type": Problem(415, "The address takes no body of this type or encoding."),
    "rate_limited": Problem(429, "Too many at a time: try again after a while."),
    "internal": Problem(500, "Something broke on our side; it is recorded. Try again."),
    "payment_provider_unavailable": Problem(502, "The payment provider did not answer. Try again."),
    "not_yet_due": Problem(503, "It is not time yet. Try again."),
    "task_under_way": Problem(503, "Another run of this task is under way. Try again."),
    "unavailable": Problem(503, "The service is busy or restarting. Try again."),
}

REASONS = {
    "event_conflict": "An event of this source and id says otherwise: correct it, or rename this.",
    "too_late": "It is more than 35 days old: report it by a backfill.",
    "in_the_future": "It lies more than five minutes ahead of the platform's clock.",
    "outside_backfill": "It did not occur within the time that the backfill is of.",
    "feature_not_granted": "Neither the customer's plan nor terms of their own grant the feature.",
    "limit_reached": "It exceeds what the customer may use of the feature in this period.",
    "spend_cap_reached": "A spend cap of the customer or the passport is reached in this period.",
    "debt_too_large": "What the customer would owe is more than a billion dollars.",
    "event_not_found": "The customer has no event of the source and id that it corrects.",
    "correction_mismatch": "A correction keeps the event's time, feature, model and passport.",
    "event_in_review": "The event that it corrects waits for a person: charge or dismiss it first.",
    "event_voided": "The event that it corrects is void: send a new event.",
    "price_was_named": "A person named the price of the event that it corrects: only void it.",
    "unknown_model": "No provider is known to sell the model.",
    "cost_unknown": "The model has no price for one of the meters.",
    "rate_unknown": "No rate says what the customer pays for one of the meters.",
    "below_cost": "The rates come to less than the cost, and none says may_be_below_cost.",
}
"""Why usage is rejected, or waits for a person, where no problem has the same name."""


def explain(reason: str | None) -> str | None:
    """Give the sentence for a reason why usage is rejected or waits."""
    if reason in PROBLEMS:
        return PROBLEMS[reason].title
    return REASONS.get(reason or "")


@dataclass
class FaregateError(Exception):
    """A refusal on its way to the caller: a code of PROBLEMS and what helps.

    Details whose names end in _micros are amounts in µ$; the caller gets them in USD. Of headers
    there may be several by one name.
    """

    code: str
    detail: dict[str, Any] = field(default_factory=dict)
    headers: list[tuple[str, str]] = field(default_factory=list)
