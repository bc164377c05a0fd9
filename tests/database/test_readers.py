"""Customers read their own rows, through PostgREST and under row-level security."""

from tests.harness.answers import done
from tests.harness.client import Load
from tests.harness.platform import Platform
from tests.harness.postgrest import Rest


def test_a_member_reads_their_organizations_rows_and_no_others(
    platform: Platform, rest: Rest, function: Load
) -> None:
    ours, theirs = platform.organization(usd=5), platform.organization(usd=7)
    user = platform.user()
    platform.join(user, ours, "member")
    done(function("sessions").post("/v1/sessions", {"tier": "small"}, by=ours.passport), 201)
    done(function("sessions").post("/v1/sessions", {"tier": "small"}, by=theirs.passport), 201)
    for view in (
        *["wallets", "grants", "transactions", "holds", "sessions", "usage", "passports"],
        *["notifications", "top_ups", "receipts", "auto_top_ups"],
    ):
        rows = rest.rows(view, by=user.token)
        assert {row["organization_id"] for row in rows} <= {ours.id}, view
    assert [row["id"] for row in rest.rows("organizations", by=user.token)] == [ours.id]
    assert [row["email"] for row in rest.rows("members", by=user.token)] == [user.email]
    assert len(rest.rows("sessions", by=user.token)) == 1
    (wallet,) = rest.rows("wallets?select=settled_micros", by=user.token)
    assert wallet == {"settled_micros": 5_000_000}
