"""spaces: the catalogue, buying, giving back, attaching."""

from typing import Any

import psycopg
import pytest

from tests.harness.answers import done, problem
from tests.harness.client import Client, Load
from tests.harness.operations import ABSENT
from tests.harness.platform import Organization, Platform
from tests.harness.spaces import Row, Spaces
from tests.harness.stripe_events import Stripe, paid


@pytest.fixture
def spaces(platform: Platform, function: Load) -> Spaces:
    return Spaces(platform, function("spaces"))


@pytest.fixture
def client(spaces: Spaces) -> Client:
    return spaces.client


@pytest.fixture
def buyer(platform: Platform) -> Organization:
    return platform.organization(usd=10)


# The catalogue.


def test_the_catalogue_has_the_four(client: Client, buyer: Organization) -> None:
    listed = done(client.get("/v1/spaces", by=buyer.passport))["data"]
    assert {(each["slug"], each["price"], each["size_gb"]) for each in listed} == {
        ("ml-ready", "5.000000", 50),
        ("data-science", "3.000000", 30),
        ("web-dev", "2.000000", 20),
        ("research", "4.000000", 40),
    }
    for space in listed:
        assert done(client.get(f"/v1/spaces/{space['slug']}", by=buyer.passport)) == space
        assert (space["publisher"], space["is_own"], space["is_owned"]) == (None, False, False)


def test_the_catalogue_comes_in_pages(client: Client, buyer: Organization) -> None:
    found: list[str] = []
    query: dict[str, Any] = {"limit": 3}
    while True:
        page = done(client.get("/v1/spaces", by=buyer.passport, params=query))
        found += [space["slug"] for space in page["data"]]
        if not page["has_more"]:
            break
        query["cursor"] = page["next_cursor"]
    assert len(found) == len(set(found)) == 4


def test_what_a_space_costs_depends_on_the_plan(spaces: Spaces, operator: Organization) -> None:
    assert spaces.get(operator, "ml-ready")["price"] == "0.000000"


# Buying.


def test_buys_a_space(spaces: Spaces, buyer: Organization, platform: Platform) -> None:
    purchase = spaces.buy(buyer, "data-science")
    assert purchase | {"id": "", "purchased_at": "", "purchased_by": "", "sequence": 0} == {
        "id": "",
        "organization_id": buyer.id,
        "space": "data-science",
        "status": "owned",
        "price": "3.000000",
        "sequence": 0,
        "purchased_by": "",
        "purchased_at": "",
        "refunded_at": None,
        "refund_reason": None,
    }
    assert platform.wallet(buyer) == (7_000_000, 0)
    assert platform.fetch(
        "select sequence, debit_account::text, credit_account::text, amount_micros"
        " from billing.transfers where reason = 'space'"
    ) == [(purchase["sequence"], "wallet", "revenue_spaces", 3_000_000)]
    listed = done(spaces.client.get("/v1/spaces/purchases", by=buyer.passport))["data"]
    assert listed == [purchase]
    space = spaces.get(buyer, "data-science")
    assert (space["is_owned"], space["is_own"]) == (True, False)


def test_the_same_key_is_one_purchase(
    client: Client, buyer: Organization, platform: Platform
) -> None:
    path = "/v1/spaces/web-dev/purchases"
    first, again = (client.post(path, by=buyer.passport, repeat="only-once") for _ in range(2))
    assert again.headers["idempotent-replayed"] == "true"
    assert done(again, 201) == done(first, 201)
    assert platform.wallet(buyer) == (8_000_000, 0)
    other = client.post("/v1/spaces/research/purchases", by=buyer.passport, repeat="only-once")
    problem(other, 409, "idempotency_conflict")


def test_a_space_is_bought_once(spaces: Spaces, buyer: Organization, platform: Platform) -> None:
    purchase = spaces.buy(buyer, "web-dev")
    before = platform.contents()
    refusal = problem(spaces.try_to_buy(buyer, "web-dev"), 409, "space_owned")
    assert refusal["purchase_id"] == purchase["id"]
    assert platform.contents() == before
    spaces.buy(buyer, "research")


def test_the_table_itself_allows_once(
    spaces: Spaces, buyer: Organization, platform: Platform
) -> None:
    spaces.buy(buyer, "web-dev")
    with pytest.raises(psycopg.errors.UniqueViolation, match="purchases_once_key"):
        platform.run(
            "insert into billing.purchases (organization_id, space_id, slug, is_repeatable,"
            " price_id, price_micros, sequence, purchased_by)"
            " select organization_id, space_id, slug, is_repeatable, price_id, price_micros, 99,"
            " 'test' from billing.purchases"
        )


def test_exactly_enough_is_enough(spaces: Spaces, platform: Platform) -> None:
    buyer = platform.organization()
    platform.give(buyer.id, 1_999_999)
    before = platform.contents()
    refusal = problem(spaces.try_to_buy(buyer, "web-dev"), 402, "insufficient_credits")
    assert (refusal["required"], refusal["available"]) == ("2.000000", "1.999999")
    assert platform.contents() == before
    platform.give(buyer.id, 1)
    spaces.buy(buyer, "web-dev")
    assert platform.wallet(buyer) == (0, 0)


def test_money_that_is_held_buys_nothing(
    spaces: Spaces, buyer: Organization, platform: Platform
) -> None:
    platform.run("select billing.hold_with_care(%s, 8000001)", buyer.id)
    problem(spaces.try_to_buy(buyer, "web-dev"), 402, "insufficient_credits")
    platform.run("update billing.wallets set held_micros = 0")


def test_money_that_expired_buys_nothing(
    spaces: Spaces, platform: Platform, operator: Organization, function: Load
) -> None:
    buyer = platform.organization()
    body = {"organization_id": buyer.id, "amount": "5.00", "note": "for an hour"}
    body["expires_at"] = platform.value(
        "select to_json(billing.now() + interval '1 hour') #>> '{}'"
    )
    done(function("grants").post("/v1/grants", body, by=operator.passport), 201)
    platform.advance(3601)
    problem(spaces.try_to_buy(buyer, "web-dev"), 402, "insufficient_credits")


def test_what_costs_nothing_makes_no_transfer(
    spaces: Spaces, operator: Organization, platform: Platform
) -> None:
    purchase = spaces.buy(operator, "ml-ready")
    assert (purchase["price"], purchase["sequence"]) == ("0.000000", None)
    assert platform.value("select count(*) from billing.transfers") == 0
    problem(spaces.try_to_buy(operator, "ml-ready"), 409, "space_owned")


def test_the_price_is_the_one_of_the_day(
    spaces: Spaces, buyer: Organization, platform: Platform
) -> None:
    platform.alter(
        "insert into billing.prices (plan_id, sku, unit, price_micros, effective_at)"
        " values ('free', 'space.web-dev', 'each', 1234567, billing.now())"
    )
    assert spaces.buy(buyer, "web-dev")["price"] == "1.234567"


def test_a_frozen_organization_buys_nothing(
    spaces: Spaces, buyer: Organization, platform: Platform
) -> None:
    platform.run("select billing.post(%s, 'debt', 'promotion', 1, 'refund', null)", buyer.id)
    before = platform.contents()
    refusal = problem(spaces.try_to_buy(buyer, "web-dev"), 402, "debt_outstanding")
    assert refusal["debt"] == "0.000001"
    assert platform.contents() == before


def test_a_closed_organization_buys_nothing(
    spaces: Spaces, buyer: Organization, platform: Platform
) -> None:
    platform.run("update billing.organizations set closed_at = now() where id = %s", buyer.id)
    before = platform.contents()
    problem(spaces.try_to_buy(buyer, "web-dev"), 409, "organization_closed")
    assert platform.contents() == before


def test_a_plan_without_a_price_sells_nothing(
    spaces: Spaces, buyer: Organization, platform: Platform
) -> None:
    platform.alter("insert into billing.plans (id, allowed_tiers) values ('trial', array['small'])")
    platform.run("update billing.organizations set plan_id = 'trial' where id = %s", buyer.id)
    assert spaces.get(buyer, "web-dev")["price"] is None
    problem(spaces.try_to_buy(buyer, "web-dev"), 404, "sku_not_found")


@pytest.mark.parametrize("slug", ["no-such-space", "purchases", "clones"])
def test_what_does_not_exist_is_not_found(
    spaces: Spaces, buyer: Organization, platform: Platform, slug: str
) -> None:
    before = platform.contents()
    problem(spaces.try_to_buy(buyer, slug), 404, "space_not_found")
    assert platform.contents() == before


@pytest.mark.parametrize(
    "slug", ["ab", "Web-dev", "web_dev", "9lives", "x" * 42, "web-dev%20", "wéb-dev", "web-dev%00"]
)
def test_what_is_no_name_is_not_looked_for(spaces: Spaces, buyer: Organization, slug: str) -> None:
    (error,) = problem(spaces.try_to_buy(buyer, slug), 400, "invalid_request")["errors"]
    assert error["where"] == "path.slug"


# Giving back.


def test_gives_the_money_back(
    spaces: Spaces, buyer: Organization, operator: Organization, platform: Platform
) -> None:
    purchase = spaces.buy(buyer, "ml-ready")
    refunded = done(spaces.refund(operator, purchase))
    assert refunded == purchase | {
        "status": "refunded",
        "refunded_at": refunded["refunded_at"],
        "refund_reason": "by mistake",
    }
    assert refunded["refunded_at"]
    assert platform.wallet(buyer) == (10_000_000, 0)
    assert not spaces.get(buyer, "ml-ready")["is_owned"]
    assert platform.fetch(
        "select actor like 'passport:%%', subject_id::text, detail from billing.audit_log"
        " where action = 'refund_purchase' and organization_id = %s",
        buyer.id,
    ) == [
        (
            True,
            purchase["id"],
            {"space": "ml-ready", "amount_micros": 5_000_000, "reason": "by mistake"},
        )
    ]
    spaces.buy(buyer, "ml-ready")


def test_gives_back_once(
    spaces: Spaces, buyer: Organization, operator: Organization, platform: Platform
) -> None:
    purchase = spaces.buy(buyer, "ml-ready")
    first, again = (spaces.refund(operator, purchase, repeat="only-once") for _ in range(2))
    assert done(first) == done(again)
    assert again.headers["idempotent-replayed"] == "true"
    before = platform.contents()
    problem(spaces.refund(operator, purchase), 409, "purchase_refunded")
    assert platform.contents() == before
    assert platform.wallet(buyer) == (10_000_000, 0)


def _lots(platform: Platform, buyer: Organization, reason: str) -> list[tuple[Any, ...]]:
    """Tell the kinds of money that transfers brought for a reason."""
    return platform.fetch(
        "select g.category::text, g.amount_micros, g.priority, g.payment_id,"
        " g.expires_at from billing.grants as g"
        " inner join billing.transfers as t on t.organization_id = g.organization_id"
        " and t.sequence = g.sequence"
        " where g.organization_id = %s and t.reason = %s order by g.category, g.expires_at",
        buyer.id,
        reason,
    )


def test_money_comes_back_as_what_it_was(
    spaces: Spaces, function: Load, operator: Organization, platform: Platform
) -> None:
    buyer = platform.organization()
    stripe = Stripe(platform, function("credits"), function("stripe_webhook"))
    done(stripe.tell(paid(stripe.buy(buyer, "10.00"))))
    expires_at = platform.value("select to_json(billing.now() + interval '1 day') #>> '{}'")
    for amount, priority in (("1.00", 5), ("0.50", 7)):
        body = {
            **{"organization_id": buyer.id, "amount": amount, "note": "welcome"},
            **{"priority": priority, "expires_at": expires_at},
        }
        done(function("grants").post("/v1/grants", body, by=operator.passport), 201)
    paid_lot = _lots(platform, buyer, "top_up")
    gifts = _lots(platform, buyer, "promotion")
    done(spaces.refund(operator, spaces.buy(buyer, "ml-ready")))
    back = _lots(platform, buyer, "space_refund")
    (category, _, *rest) = paid_lot[0]
    assert sorted(map(str, back)) == sorted(map(str, [*gifts, (category, 3_500_000, *rest)]))
    # Spent and given back a second time it is still the same.
    done(spaces.refund(operator, spaces.buy(buyer, "ml-ready")))
    assert platform.wallet(buyer) == (11_500_000, 0)
    platform.advance(86_401)
    assert done(function("expire_grants").post("/schedules/expire-grants", by=_cron(platform)))
    assert platform.wallet(buyer) == (10_000_000, 0)


def _cron(platform: Platform) -> str:
    return platform.cloud.invoker_token()


def test_a_debt_is_repaid_first(
    spaces: Spaces, buyer: Organization, operator: Organization, platform: Platform
) -> None:
    purchase = spaces.buy(buyer, "ml-ready")
    platform.run("select billing.post(%s, 'debt', 'promotion', 7000000, 'refund', null)", buyer.id)
    done(spaces.refund(operator, purchase))
    assert platform.fetch(
        "select settled_micros, debt_micros from billing.wallets where organization_id = %s",
        buyer.id,
    ) == [(3_000_000, 0)]


def test_what_cost_nothing_gives_nothing_back(
    spaces: Spaces, operator: Organization, platform: Platform
) -> None:
    purchase = spaces.buy(operator, "ml-ready")
    assert done(spaces.refund(operator, purchase))["status"] == "refunded"
    assert platform.value("select count(*) from billing.transfers") == 0


def test_what_is_given_back_is_attached_no_more(
    spaces: Spaces, buyer: Organization, operator: Organization
) -> None:
    purchase, kept = spaces.buy(buyer, "ml-ready"), spaces.buy(buyer, "web-dev")
    workspaces = sorted(spaces.workspace(buyer) for _ in range(2))
    for workspace in workspaces:
        for slug in ("ml-ready", "web-dev"):
            done(spaces.place("attach", buyer, slug, workspace))
    done(spaces.refund(operator, purchase))
    assert spaces.get(buyer, "ml-ready")["workspace_ids"] == []
    assert spaces.get(buyer, kept["space"])["workspace_ids"] == workspaces


def test_the_customer_is_told(
    spaces: Spaces, function: Load, buyer: Organization, operator: Organization
) -> None:
    done(spaces.refund(operator, spaces.buy(buyer, "ml-ready"), "it did not start"))
    told = done(function("notifications").get("/v1/notifications", by=buyer.passport))["data"]
    assert [(each["kind"], each["reason"], each["amount"]) for each in told] == [
        ("space_refunded", "it did not start", "5.000000")
    ]


def test_refuses_to_give_back(
    spaces: Spaces, buyer: Organization, operator: Organization, platform: Platform
) -> None:
    purchase, other = spaces.buy(buyer, "web-dev"), platform.organization()
    before = platform.contents()
    problem(spaces.refund(buyer, purchase), 403, "permission_denied")
    for changed, code in (
        ({"id": ABSENT}, "purchase_not_found"),
        ({"organization_id": other.id}, "purchase_not_found"),
        ({"organization_id": ABSENT}, "organization_not_found"),
    ):
        problem(spaces.refund(operator, purchase | changed), 404, code)
    assert platform.contents() == before
    platform.run("update billing.organizations set closed_at = now() where id = %s", buyer.id)
    problem(spaces.refund(operator, purchase), 409, "organization_closed")


def test_a_full_wallet_takes_nothing_back(
    spaces: Spaces, buyer: Organization, operator: Organization, platform: Platform
) -> None:
    purchase = spaces.buy(buyer, "web-dev")
    platform.give(buyer.id, 1_000_000_000_000_000 - 8_000_000)
    before = platform.contents()
    problem(spaces.refund(operator, purchase), 400, "amount_out_of_bounds")
    assert platform.contents() == before


# Attaching.


def test_attaches_and_detaches(spaces: Spaces, buyer: Organization, platform: Platform) -> None:
    spaces.buy(buyer, "web-dev")
    workspace = spaces.workspace(buyer)
    attached = done(spaces.place("attach", buyer, "web-dev", workspace))
    assert (attached["space"], attached["workspace_id"]) == ("web-dev", workspace)
    assert done(spaces.place("attach", buyer, "web-dev", workspace)) == attached
    assert spaces.get(buyer, "web-dev")["workspace_ids"] == [workspace]
    assert done(spaces.place("detach", buyer, "web-dev", workspace)) == attached
    assert spaces.get(buyer, "web-dev")["workspace_ids"] == []
    before = platform.contents()
    problem(spaces.place("detach", buyer, "web-dev", workspace), 409, "space_not_attached")
    assert platform.contents() == before


@pytest.mark.parametrize("verb", ["attach", "detach"])
def test_the_same_key_places_once(spaces: Spaces, buyer: Organization, verb: str) -> None:
    spaces.buy(buyer, "web-dev")
    workspace = spaces.workspace(buyer)
    done(spaces.place("attach", buyer, "web-dev", workspace))
    first, again = (
        spaces.place(verb, buyer, "web-dev", workspace, repeat="only-once") for _ in range(2)
    )
    assert done(first) == done(again)
    assert again.headers["idempotent-replayed"] == "true"


def test_only_what_is_owned_is_attached(
    spaces: Spaces, buyer: Organization, platform: Platform
) -> None:
    workspace, other = spaces.workspace(buyer), platform.organization(usd=10)
    spaces.buy(other, "web-dev")
    before = platform.contents()
    problem(spaces.place("attach", buyer, "web-dev", workspace), 409, "space_not_owned")
    assert platform.contents() == before
    spaces.buy(buyer, "web-dev")
    theirs = spaces.workspace(other)
    for verb in ("attach", "detach"):
        for nobodys in (theirs, ABSENT):
            refusal = spaces.place(verb, buyer, "web-dev", nobodys)
            problem(refusal, 404, "workspace_not_found")
        refusal = spaces.place(verb, buyer, "no-such-space", workspace)
        problem(refusal, 404, "space_not_found")


def test_a_workspace_with_a_space_stays(
    spaces: Spaces, buyer: Organization, function: Load, platform: Platform
) -> None:
    spaces.buy(buyer, "web-dev")
    workspace = spaces.workspace(buyer)
    done(spaces.place("attach", buyer, "web-dev", workspace))
    desk, path = function("workspaces"), f"/v1/workspaces/{workspace}"
    assert done(desk.get(path, by=buyer.passport))["spaces"] == ["web-dev"]
    before = platform.contents()
    refusal = problem(desk.request("DELETE", path, by=buyer.passport), 409, "workspace_in_use")
    assert refusal["spaces"] == 1
    assert platform.contents() == before
    done(spaces.place("detach", buyer, "web-dev", workspace))
    assert desk.request("DELETE", path, by=buyer.passport).status_code == 204
    problem(spaces.place("attach", buyer, "web-dev", workspace), 404, "workspace_not_found")


def test_nothing_is_taken_from_a_session(
    spaces: Spaces, buyer: Organization, function: Load, platform: Platform
) -> None:
    spaces.buy(buyer, "web-dev")
    workspace = spaces.workspace(buyer)
    done(spaces.place("attach", buyer, "web-dev", workspace))
    sessions = function("sessions")
    body = {"tier": "small", "workspace_id": workspace}
    session = done(sessions.post("/v1/sessions", body, by=buyer.passport), 201)
    before = platform.contents()
    problem(spaces.place("detach", buyer, "web-dev", workspace), 409, "workspace_busy")
    assert platform.contents() == before
    done(sessions.post(f"/v1/sessions/{session['id']}/stop", {}, by=buyer.passport))
    done(spaces.place("detach", buyer, "web-dev", workspace))


@pytest.mark.parametrize("operation", ["buy", "attach", "detach", "clone"])
def test_a_reader_changes_nothing(
    spaces: Spaces, buyer: Organization, platform: Platform, operation: str
) -> None:
    spaces.buy(buyer, "web-dev")
    reader = Organization(buyer.id, platform.passport(buyer.id, "read"))
    body: Row = {} if operation == "clone" else {"workspace_id": spaces.workspace(buyer)}
    path = "purchases" if operation == "buy" else operation
    before = platform.contents()
    answer = spaces.client.post(
        f"/v1/spaces/research/{path}", None if operation == "buy" else body, by=reader.passport
    )
    problem(answer, 403, "permission_denied")
    assert platform.contents()["purchases"] == before["purchases"]
