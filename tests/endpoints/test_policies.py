"""policies: rules about calls and spending, what they refuse and limit, and what they would do."""

import json
import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import httpx
import pytest
from psycopg import sql
from psycopg.types.json import Jsonb

from infra.local import paths
from tests.harness.answers import done, problem
from tests.harness.client import Client, Load
from tests.harness.operations import ABSENT
from tests.harness.platform import Organization, Platform

Rule = dict[str, Any]
Make = Callable[..., Rule]

TWO: Rule = {"capacity": 2, "refill": 1, "refill_seconds": 10}


@pytest.fixture
def policies(function: Load) -> Client:
    return function("policies")


@pytest.fixture
def make(policies: Client, operator: Organization) -> Make:
    """Make a rule: what is not said of it is of no importance."""

    def make_rule(**said: Any) -> Rule:  # noqa: ANN401  any JSON
        rule: Rule = {"description": "a rule", "effect": "deny", "match": {}} | said
        return done(policies.post("/v1/policies", rule, by=operator.passport), 201)

    return make_rule


@pytest.fixture
def stopped(platform: Platform) -> None:
    """Have the clock stand still, but for what it is set ahead: so it tells the same seconds."""
    platform.alter(
        sql.SQL(
            "create or replace function billing.now() returns timestamptz language sql volatile"
            " return {} + (select c.seconds * interval '1 second' from billing.clock_offset as c)"
        ).format(sql.Literal(datetime.now(UTC)))
    )


def _told(response: httpx.Response, rule: Rule) -> tuple[str, str]:
    """Give what an answer tells of a limit."""
    policies = response.headers.get_list("ratelimit-policy", split_commas=True)
    limits = response.headers.get_list("ratelimit", split_commas=True)
    (policy,) = [each for each in policies if rule["id"] in each]
    (limit,) = [each for each in limits if rule["id"] in each]
    return policy.partition(";")[2], limit.partition(";")[2]


def test_a_rule_is_made_read_disabled_enabled_and_deleted(
    policies: Client, operator: Organization, platform: Platform
) -> None:
    rule: Rule = {
        **{"description": " GPUs ", "effect": "limit", "priority": 7, "limit_per": "passport"},
        **{"capacity": 60, "refill": 30, "refill_seconds": 60},
        "match": {
            **{"organization": [ABSENT], "plan": ["free"], "permission": ["write"]},
            **{"action": ["start_session"], "tier": ["gpu", "xlarge"], "feature": ["chat"]},
            **{"hour": [22.0, 23], "weekday": [6, 7], "amount": {"above": "1.00", "up_to": "2"}},
            "caller": [f"user:{ABSENT}"],
        },
    }
    by = operator.passport
    made = done(policies.post("/v1/policies", rule, by=by, repeat="twice-the-same"), 201)
    again = policies.post("/v1/policies", rule, by=by, repeat="twice-the-same")
    assert done(again, 201) == made
    assert again.headers["idempotent-replayed"] == "true"
    assert made == rule | {
        "id": made["id"],
        "description": "GPUs",
        "match": rule["match"] | {"amount": {"above": "1.000000", "up_to": "2.000000"}},
        "is_enabled": True,
        "created_by": f"passport:{platform.passport_id(by)}",
        "created_at": made["created_at"],
    }
    path = f"/v1/policies/{made['id']}"
    assert done(policies.get(path, by=by)) == made
    assert done(policies.get("/v1/policies", by=by))["data"] == [made]
    assert done(policies.post(f"{path}/disable", by=by)) == made | {"is_enabled": False}
    assert done(policies.post(f"{path}/enable", by=by)) == made
    assert policies.request("DELETE", path, by=by).status_code == 204
    problem(policies.get(path, by=by), 404, "policy_not_found")
    problem(policies.post(f"{path}/enable", by=by), 404, "policy_not_found")
    assert done(policies.get("/v1/policies", by=by))["data"] == []
    acts = platform.fetch("select action from billing.audit_log where action like '%%polic%%'")
    assert sorted(act for (act,) in acts) == [
        *["create_policy", "delete_policy", "set_policy_enabled", "set_policy_enabled"]
    ]


@pytest.mark.parametrize(
    "said",
    [
        {"match": {"planet": ["mars"]}},
        {"match": {"plan": "free"}},
        {"match": {"plan": []}},
        {"match": {"plan": [1]}},
        {"match": {"tier": ["huge"]}},
        {"match": {"permission": ["root"]}},
        {"match": {"organization": ["all"]}},
        {"match": {"caller": ["me"]}},
        {"match": {"hour": [24]}},
        {"match": {"hour": ["9"]}},
        {"match": {"weekday": [0]}},
        {"match": {"amount": {"above": 1}}},
        {"match": {"amount": {"below": "1"}}},
        {"match": {"amount": "1"}},
        {"match": {"amount": {"above": "1", "up_to": "1.00"}}},
        {"match": {"amount": {"above": "2", "up_to": "1"}}},
        {"match": {"amount": {"above": "-1"}}},
        {"match": {"hour": [22, 22.0]}},
        {"match": {"weekday": [1, 2, 1]}},
        {"match": {"plan": ["free", "free"]}},
        {"match": None},
        {"effect": "perhaps"},
        {"effect": "deny", "capacity": 1},
        {"effect": "limit"},
        {"effect": "limit", "limit_per": "planet", **TWO},
        {"effect": "limit", "limit_per": "ip", **TWO, "capacity": 0},
        {"effect": "limit", "limit_per": "ip", **TWO, "refill": 1.5},
        {"effect": "limit", "limit_per": "ip", **TWO, "refill_seconds": 0},
        {"priority": -1},
        {"description": ""},
        {"is_enabled": "yes"},
        {"colour": "red"},
    ],
    ids=str,
)
def test_what_is_no_rule_is_refused(
    policies: Client, operator: Organization, platform: Platform, said: Rule
) -> None:
    before = platform.contents()
    rule = {"description": "x", "effect": "deny", "match": {}} | said
    problem(policies.post("/v1/policies", rule, by=operator.passport), 400, "invalid_request")
    draft = policies.post("/v1/policies/evaluate", {"rule": rule}, by=operator.passport)
    problem(draft, 400, "invalid_request")
    assert platform.contents() == before


def test_a_rule_names_only_plans_and_actions_that_there_are(
    policies: Client, operator: Organization, platform: Platform
) -> None:
    before = platform.contents()
    for match, code in (
        ({"plan": ["fre"]}, "plan_unknown"),
        ({"action": ["start_sesion"]}, "action_unknown"),
        ({"action": ["ping"]}, "action_unknown"),
    ):
        rule = {"description": "x", "effect": "deny", "match": match}
        problem(policies.post("/v1/policies", rule, by=operator.passport), 400, code)
        draft = policies.post("/v1/policies/evaluate", {"rule": rule}, by=operator.passport)
        problem(draft, 400, code)
    assert platform.contents() == before


def test_customers_neither_see_nor_make_rules(policies: Client, platform: Platform) -> None:
    by = platform.organization().passport
    problem(policies.get("/v1/policies", by=by), 403, "permission_denied")
    rule = {"description": "x", "effect": "allow"}
    problem(policies.post("/v1/policies", rule, by=by), 403, "permission_denied")


@pytest.mark.usefixtures("stopped")
def test_a_limit_of_calls_tells_how_many_are_left_and_when_to_come_again(
    function: Load, platform: Platform, make: Make
) -> None:
    rule = make(effect="limit", limit_per="passport", **TWO)
    client, customer = function("credits"), platform.organization()
    for left, full in (("1", "10"), ("0", "20")):
        answer = client.get("/v1/credits", by=customer.passport)
        done(answer)
        assert _told(answer, rule) == ("q=2;w=20", f"r={left};t={full}")
    before = platform.contents()
    refused = client.get("/v1/credits", by=customer.passport)
    document = problem(refused, 429, "rate_limited")
    assert (document["policy_id"], document["limit_per"]) == (rule["id"], "passport")
    assert refused.headers["retry-after"] == str(document["retry_after_seconds"]) == "10"
    assert _told(refused, rule) == ("q=2;w=20", "r=0;t=20")
    assert platform.contents() == before
    other = platform.passport(customer.id, "read")
    done(client.get("/v1/credits", by=other))
    platform.advance(10)
    done(client.get("/v1/credits", by=customer.passport))
    problem(client.get("/v1/credits", by=customer.passport), 429, "rate_limited")


@pytest.mark.usefixtures("stopped")
def test_what_a_rule_refuses_tells_of_the_limits_before_it(
    function: Load, platform: Platform, make: Make
) -> None:
    calls = make(priority=1, effect="limit", limit_per="passport", **TWO)
    once = make(priority=2, effect="limit", limit_per="organization", **TWO | {"capacity": 1})
    client, customer = function("credits"), platform.organization()
    done(client.get("/v1/credits", by=customer.passport))
    refused = client.get("/v1/credits", by=customer.passport)
    document = problem(refused, 429, "rate_limited")
    assert refused.headers["retry-after"] == str(document["retry_after_seconds"]) == "10"
    assert _told(refused, calls) == ("q=2;w=20", "r=1;t=10")
    assert _told(refused, once) == ("q=1;w=10", "r=0;t=10")
    make(priority=1, match={"action": ["get_wallet"]})
    platform.advance(10)
    refused = client.get("/v1/credits", by=customer.passport)
    problem(refused, 403, "policy_denied")
    assert _told(refused, calls) == ("q=2;w=20", "r=2;t=0")


@pytest.mark.usefixtures("stopped")
def test_a_list_without_rows_tells_of_limits_as_well(
    function: Load, platform: Platform, make: Make
) -> None:
    rule = make(effect="limit", limit_per="organization", **TWO)
    answer = function("holds").get("/v1/holds", by=platform.organization().passport)
    assert done(answer)["data"] == []
    assert _told(answer, rule) == ("q=2;w=20", "r=1;t=10")


def test_nothing_tells_of_limits_where_there_is_none(
    function: Load, platform: Platform, make: Make
) -> None:
    make(match={"action": ["start_session"]}, effect="limit", limit_per="passport", **TWO)
    answer = function("credits").get("/v1/credits", by=platform.organization().passport)
    done(answer)
    assert "ratelimit" not in answer.headers
    assert "ratelimit-policy" not in answer.headers


@pytest.mark.usefixtures("stopped")
def test_an_organization_shares_a_bucket_and_a_signed_in_user_has_one(
    function: Load, platform: Platform, make: Make
) -> None:
    customer, user = platform.organization(), platform.user()
    platform.join(user, customer, "member")
    keys = [customer.passport, platform.passport(customer.id, "read"), user.token]
    client = function("credits")
    rule = make(effect="limit", limit_per="organization", match={"action": ["get_wallet"]}, **TWO)
    statuses = [client.get("/v1/credits", by=key).status_code for key in keys]
    assert statuses == [200, 200, 429]
    done(client.get("/v1/credits", by=platform.organization().passport))
    platform.run("delete from billing.policies where id = %s", rule["id"])
    make(effect="limit", limit_per="passport", **TWO)
    statuses = [client.get("/v1/credits", by=key).status_code for key in keys * 3]
    assert statuses == [200] * 6 + [429] * 3


@pytest.mark.parametrize(
    ("trusted", "forwarded", "others"),
    [
        # The peer's address, whatever is said.
        ("0", "198.51.100.1", ["198.51.100.2"]),
        ("1", "198.51.100.1", ["198.51.100.9, 198.51.100.1", "nonsense,198.51.100.1"]),
        ("2", "198.51.100.1, 203.0.113.7", ["198.51.100.9, 198.51.100.1, 203.0.113.8"]),
        # A proxy of ours was evaded: the peer's.
        ("2", "198.51.100.1", ["198.51.100.2"]),
        ("1", "2001:db8::1", ["2001:db8::ffff:2", "2001:DB8:0:0:1::"]),
        ("1", "198.51.100.1", ["::ffff:198.51.100.1"]),
    ],
)
def test_an_address_is_what_a_proxy_of_ours_wrote(
    function: Load, platform: Platform, make: Make, trusted: str, forwarded: str, others: list[str]
) -> None:
    make(effect="limit", limit_per="ip", **TWO | {"capacity": len(others)})
    client = function("credits", TRUSTED_PROXIES=trusted)

    def get(by_way_of: str) -> httpx.Response:
        key = platform.organization().passport
        return client.get("/v1/credits", by=key, headers={"X-Forwarded-For": by_way_of})

    for each in others:
        done(get(each))
    problem(get(forwarded), 429, "rate_limited")
    if trusted == "1":
        done(get("192.0.2.44"))
        done(get("2001:db8:0:1::1"))


def test_what_a_rule_denies_is_refused_and_changes_nothing(
    function: Load, platform: Platform, make: Make
) -> None:
    rule = make(match={"plan": ["free"], "tier": ["gpu"]})
    platform.run("update billing.plans set allowed_tiers = '{small, gpu}' where id = 'free'")
    free, pro = platform.organization(usd=5), platform.organization("pro", usd=5)
    sessions = function("sessions")
    before = platform.contents()
    refused = sessions.post("/v1/sessions", {"tier": "gpu"}, by=free.passport)
    document = problem(refused, 403, "policy_denied")
    assert document["policy_id"] == rule["id"]
    assert document["matched"] == {"plan": "free", "tier": "gpu"}
    assert platform.contents() == before
    done(sessions.post("/v1/sessions", {"tier": "small"}, by=free.passport), 201)
    done(sessions.post("/v1/sessions", {"tier": "gpu"}, by=pro.passport), 201)


def test_the_first_rule_that_decides_counts(
    function: Load, platform: Platform, make: Make, policies: Client, operator: Organization
) -> None:
    customer, vip = platform.organization(usd=5), platform.organization(usd=5)
    make(priority=20, match={"action": ["start_session"]})
    make(priority=10, effect="allow", match={"organization": [vip.id]})
    sessions = function("sessions")
    document = problem(
        sessions.post("/v1/sessions", {"tier": "small"}, by=customer.passport), 403, "policy_denied"
    )
    assert document["matched"] == {"action": "start_session"}
    # What lets calls pass lets spending pass, too.
    make(priority=20, match={"amount": {}})
    done(sessions.post("/v1/sessions", {"tier": "small"}, by=vip.passport), 201)
    no = make(priority=5, match={"organization": [vip.id], "tier": ["small"]})
    problem(sessions.post("/v1/sessions", {"tier": "small"}, by=vip.passport), 403, "policy_denied")
    done(policies.post(f"/v1/policies/{no['id']}/disable", by=operator.passport))
    done(sessions.post("/v1/sessions", {"tier": "small"}, by=vip.passport), 201)


@pytest.mark.usefixtures("stopped")
def test_a_call_that_fails_takes_no_token_and_tells_so(
    function: Load, platform: Platform, make: Make, way: str
) -> None:
    first = make(priority=1, effect="limit", limit_per="passport", **TWO)
    second = make(priority=2, effect="limit", limit_per="organization", **TWO)
    poor = platform.organization()
    sessions = function("sessions")
    for _ in range(3):
        answer = sessions.post("/v1/sessions", {"tier": "small"}, by=poor.passport)
        problem(answer, 402, "insufficient_credits")
        # PostgREST drops what it was told before an error.
        for rule in (first, second) if way == "postgres" else ():
            assert _told(answer, rule) == ("q=2;w=20", "r=2;t=0")
    answer = sessions.get("/v1/sessions", by=poor.passport)
    assert _told(answer, first)[1] == _told(answer, second)[1] == "r=1;t=10"
    platform.run("delete from billing.rate_buckets where policy_id = %s", first["id"])
    done(sessions.get("/v1/sessions", by=platform.passport(poor.id, "read")))
    problem(sessions.get("/v1/sessions", by=poor.passport), 429, "rate_limited")
    tokens = platform.value(
        "select count(*) from billing.rate_buckets where policy_id = %s", first["id"]
    )
    assert tokens == 1


@pytest.mark.usefixtures("stopped")
def test_an_answer_that_is_repeated_passes_the_gate_but_spends_nothing_again(
    function: Load, platform: Platform, make: Make
) -> None:
    spending = make(effect="limit", limit_per="passport", match={"tier": ["small"]}, **TWO)
    calls = make(effect="limit", limit_per="passport", **TWO | {"capacity": 9})
    customer = platform.organization(usd=5)
    sessions = function("sessions")
    for left in ("8", "7", "6"):
        answer = sessions.post(
            "/v1/sessions", {"tier": "small"}, by=customer.passport, repeat="again-and-again"
        )
        done(answer, 201)
        assert _told(answer, calls)[1].startswith(f"r={left};")
    tokens = "select floor(tokens) from billing.rate_buckets where policy_id = %s"
    assert platform.value(tokens, spending["id"]) == 1


@pytest.mark.usefixtures("stopped")
def test_an_export_is_one_call_however_many_pages_it_has(
    function: Load, platform: Platform, make: Make
) -> None:
    rule = make(effect="limit", limit_per="passport", **TWO)
    customer = platform.organization(usd=5)
    client = function("statements")
    for left in ("r=1;t=10", "r=0;t=20"):
        answer = client.get("/v1/statements/transactions.csv", by=customer.passport)
        assert answer.status_code == 200
        assert _told(answer, rule)[1] == left


def test_no_rule_about_customers_stops_an_operator(
    function: Load, platform: Platform, make: Make, policies: Client, operator: Organization
) -> None:
    everything = make()
    customer = platform.organization(usd=5)
    problem(function("credits").get("/v1/credits", by=customer.passport), 403, "policy_denied")
    path = f"/v1/policies/{everything['id']}/disable"
    done(policies.post(path, by=operator.passport))
    make(effect="limit", limit_per="passport", match={"permission": ["admin"]}, **TWO)
    usage = function("usage")
    statuses = [usage.get("/v1/usage/reviews", by=operator.passport).status_code for _ in range(3)]
    assert statuses == [200, 200, 429]


def test_a_rule_about_operators_can_be_disabled_by_them(
    policies: Client, operator: Organization, function: Load, make: Make
) -> None:
    rule = make(match={"permission": ["admin"]})
    refused = function("usage").get("/v1/usage/reviews", by=operator.passport)
    problem(refused, 403, "policy_denied")
    one = f"/v1/policies/{rule['id']}"
    listed = done(policies.get("/v1/policies", by=operator.passport))["data"]
    assert [done(policies.get(one, by=operator.passport))] == listed == [rule]
    done(policies.post(f"{one}/disable", by=operator.passport))
    done(function("usage").get("/v1/usage/reviews", by=operator.passport))
    done(policies.post(f"{one}/enable", by=operator.passport))
    assert policies.request("DELETE", one, by=operator.passport).status_code == 204
    done(function("usage").get("/v1/usage/reviews", by=operator.passport))


def test_amounts_are_asked_about_wherever_money_is_spent_or_held(
    function: Load, platform: Platform, make: Make, operator: Organization
) -> None:
    make(match={"plan": ["pro"], "amount": {"above": "1.00", "up_to": "3.00"}})
    customer = platform.organization("pro", usd=100)
    holds = function("holds")

    def hold(amount: str, path: str = "/v1/holds") -> httpx.Response:
        body = {"organization_id": customer.id, "amount": amount, "expires_in_seconds": 60}
        return holds.post(path, body, by=operator.passport)

    opened = done(hold("1.00"), 201)
    done(hold("3.000001"), 201)
    for amount in ("1.000001", "3.00"):
        document = problem(hold(amount), 403, "policy_denied")
        assert document["amount"] == f"{float(amount):.6f}"
    problem(hold("2.00", f"/v1/holds/{opened['id']}/renew"), 403, "policy_denied")
    done(hold("1.00", f"/v1/holds/{opened['id']}/renew"))
    spaces = function("spaces")  # web-dev costs $2, ml-ready $5
    problem(spaces.post("/v1/spaces/web-dev/purchases", by=customer.passport), 403, "policy_denied")
    done(spaces.post("/v1/spaces/ml-ready/purchases", by=customer.passport), 201)
    make(match={"plan": ["pro"], "amount": {"above": "0.01", "up_to": "0.02"}})
    storage = function("storage")  # a bucket of 100 GB costs $0.066 a day
    rent: Rule = {"kind": "bucket", "size_gb": 20}
    problem(storage.post("/v1/storage", rent, by=customer.passport), 403, "policy_denied")
    bucket = done(storage.post("/v1/storage", rent | {"size_gb": 5}, by=customer.passport), 201)[
        "id"
    ]
    platform.run("select billing.start_storage(%s, %s)", customer.id, bucket)
    resize = f"/v1/storage/{bucket}/resize"
    problem(storage.post(resize, {"size_gb": 20}, by=customer.passport), 403, "policy_denied")
    done(storage.post(resize, {"size_gb": 100}, by=customer.passport))
    make(match={"tier": ["large"], "amount": {"up_to": "0.01"}})
    start = function("sessions").post("/v1/sessions", {"tier": "large"}, by=customer.passport)
    document = problem(start, 403, "policy_denied")  # ten minutes of $0.05 an hour
    assert (document["amount"], document["matched"]) == ("0.008333", {"tier": "large"})


@pytest.mark.usefixtures("stopped")
def test_the_rules_of_the_readme_do_what_they_say(
    function: Load, platform: Platform, operator: Organization, policies: Client, make: Make
) -> None:
    text = (paths.ROOT / "README.md").read_text()
    (block,) = re.findall(r"```json\n(.*?)```", text.partition("## Policies")[2], re.DOTALL)[:1]
    night, minute, dollar = (json.loads(rule) for rule in block.split("\n\n"))
    gpu = FACTS | {"plan": "pro", "rule": night}
    told = done(policies.post("/v1/policies/evaluate", gpu, by=operator.passport))
    assert told["code"] == "policy_denied"
    noon = gpu | {"at": "2026-11-21T12:00:00Z"}
    told = done(policies.post("/v1/policies/evaluate", noon, by=operator.passport))
    assert told["is_let_pass"] is True
    make(**night)
    midnight = f"{platform.value('select billing.now()').date() + timedelta(days=1)}T00:00:00Z"
    seconds = "select ceil(extract(epoch from %s::timestamptz - billing.now()))::bigint"
    platform.advance(platform.value(seconds, midnight))
    buyer, sessions = platform.organization("pro", usd=10), function("sessions")
    before = platform.contents()
    refused = sessions.post("/v1/sessions", {"tier": "gpu"}, by=buyer.passport)
    told = problem(refused, 403, "policy_denied")
    assert told["matched"] == {"plan": "pro", "tier": "gpu", "hour": 0}
    assert platform.contents() == before
    platform.advance(6 * 3600)
    done(sessions.post("/v1/sessions", {"tier": "gpu"}, by=buyer.passport), 201)
    make(**dollar)
    customer = platform.organization(usd=10)
    rate = {"organization_id": customer.id, "prices": {"images": "0.1"}}
    done(function("rates").post("/v1/usage/rates", rate, by=operator.passport), 201)
    authorizations = function("authorizations")

    def authorize(images: int) -> httpx.Response:
        usage: Rule = {"feature": "draw", "quantities": {"images": images}}
        body = {"organization_id": customer.id} | usage
        return authorizations.post("/v1/usage/authorize", body, by=operator.passport)

    done(authorize(10), 201)
    before = platform.contents()
    assert problem(authorize(11), 403, "policy_denied")["amount"] == "1.100000"
    assert platform.contents() == before
    limit = make(**minute)
    answer = function("credits").get("/v1/credits", by=customer.passport)
    assert _told(answer, limit) == ("q=60;w=60", "r=59;t=1")


@pytest.mark.usefixtures("stopped")
def test_a_batch_tells_of_the_emptiest_bucket_of_each_limit(
    function: Load, platform: Platform, make: Make, operator: Organization
) -> None:
    platform.run(
        "select billing.add_usage_rate(jsonb_populate_record(null::billing.usage_rates, %s),"
        """ '{"images": "0.1"}')""",
        Jsonb({"id": ABSENT, "effective_at": "2026-01-02T00:00:00Z", "created_by": "operator"}),
    )
    some, more = platform.organization(usd=5), platform.organization(usd=5)
    usage = function("usage")

    def send(*customers: Organization) -> httpx.Response:
        events = [
            {
                **{"organization_id": customer.id, "source": "test", "id": uuid4().hex},
                **{"feature": "draw", "quantities": {"images": 1}},
            }
            for customer in customers
        ]
        return usage.post("/v1/usage/events", {"events": events}, by=operator.passport)

    assert "ratelimit" not in send(some).headers
    each = make(effect="limit", limit_per="organization", match={"feature": ["draw"]}, **TWO)
    many = TWO | {"capacity": 9}
    all_of = make(effect="limit", limit_per="organization", match={"amount": {}}, **many)
    for customers, rejected, left in (
        ([some], 0, ("r=1;t=10", "r=8;t=10")),
        ([some, more], 0, ("r=0;t=20", "r=7;t=20")),
        ([some, more], 1, ("r=0;t=20", "r=7;t=20")),
    ):
        answer = send(*customers)
        assert done(answer)["rejected"] == rejected
        assert (_told(answer, each)[1], _told(answer, all_of)[1]) == left


@pytest.mark.usefixtures("stopped")
def test_each_event_of_a_batch_is_asked_about(
    function: Load, platform: Platform, make: Make, operator: Organization
) -> None:
    free, pro = platform.organization(usd=50), platform.organization("pro", usd=50)
    platform.run(
        "select billing.add_usage_rate(jsonb_populate_record(null::billing.usage_rates, %s),"
        """ '{"images": "0.1"}')""",
        Jsonb({"id": ABSENT, "effective_at": "2026-01-02T00:00:00Z", "created_by": "operator"}),
    )
    make(match={"plan": ["free"], "amount": {"above": "1.00"}})
    make(match={"feature": ["video"]})
    limit = make(effect="limit", limit_per="organization", match={"feature": ["chat"]}, **TWO)
    usage = function("usage")

    def send(*events: tuple[Organization, str, int]) -> list[str | None]:
        batch = [
            {
                **{"organization_id": organization.id, "source": "test", "id": str(number)},
                **{"feature": feature, "quantities": {"images": images}},
            }
            for number, (organization, feature, images) in enumerate(events)
        ]
        told = done(usage.post("/v1/usage/events", {"events": batch}, by=operator.passport))
        return [each["reason"] or each["status"] for each in told["events"]]

    events = [
        *[(free, "images", 10), (free, "images", 11), (pro, "images", 11), (pro, "video", 1)],
        *[(free, "chat", 1), (pro, "chat", 1), (free, "chat", 1), (free, "chat", 1)],
        *[(free, "chat", 99), (pro, "chat", 1)],
    ]
    outcomes = [
        *["accepted", "policy_denied", "accepted", "policy_denied"],
        *["accepted", "accepted", "accepted", "rate_limited", "policy_denied", "accepted"],
    ]
    assert send(*events) == outcomes
    assert platform.wallet(free)[0] == 50_000_000 - 12 * 100_000
    # What is sent again is no new event, and takes no token.
    platform.advance(10)
    outcomes = [{"accepted": "duplicate"}.get(each, each) for each in outcomes]
    outcomes[7] = "accepted"
    assert send(*events) == outcomes
    assert (
        platform.value(
            "select sum(floor(tokens)) from billing.rate_buckets where policy_id = %s", limit["id"]
        )
        == 0
    )


NIGHT: Rule = {
    "description": "no GPU for free plans at night",
    "effect": "deny",
    "match": {"plan": ["free"], "tier": ["gpu"], "hour": [22, 23, 0, 1, 2, 3, 4, 5]},
}
FACTS: Rule = {
    **{"plan": "free", "permission": "write", "action": "start_session", "tier": "gpu"},
    "at": "2026-11-21T23:59:59Z",
}


MATCHES: list[tuple[Rule, Rule, bool]] = [
    (NIGHT["match"], {}, True),
    (NIGHT["match"], {"at": "2026-11-22T06:00:00Z"}, False),
    (NIGHT["match"], {"at": "2026-11-22T07:59:59+02:00"}, True),
    (NIGHT["match"], {"plan": "pro"}, False),
    (NIGHT["match"], {"tier": "small"}, False),
    (NIGHT["match"], {"tier": None}, False),
    ({}, {}, True),
    ({"weekday": [6]}, {}, True),
    ({"weekday": [7]}, {}, False),
    ({"weekday": [7]}, {"at": "2026-11-22T00:00:00Z"}, True),
    ({"permission": ["read", "write"]}, {}, True),
    ({"permission": ["read"]}, {}, False),
    ({"permission": ["read"]}, {"permission": None}, False),
    ({"action": ["open_hold"]}, {}, False),
    ({"caller": [f"passport:{ABSENT}"]}, {"caller": f"passport:{ABSENT}"}, True),
    ({"caller": [f"passport:{ABSENT}"]}, {}, False),
    ({"feature": ["chat"]}, {"feature": "chat"}, True),
    ({"feature": ["chat"]}, {"feature": "images"}, False),
    ({"amount": {}}, {"amount": "0"}, True),
    ({"amount": {}}, {}, False),
    ({"amount": {"above": "1"}}, {"amount": "1"}, False),
    ({"amount": {"above": "1"}}, {"amount": "1.000001"}, True),
    ({"amount": {"up_to": "1"}}, {"amount": "1"}, True),
    ({"amount": {"up_to": "1"}}, {"amount": "1.000001"}, False),
    ({"amount": {"above": "1", "up_to": "2"}}, {"amount": "2"}, True),
    ({"amount": {"above": "0", "up_to": "1"}}, {"amount": "0"}, False),
    ({}, {"permission": "admin"}, False),
    ({"permission": ["admin"]}, {"permission": "admin"}, True),
    ({"amount": {}}, {"permission": "admin", "amount": "1"}, True),
]


def test_a_rule_that_is_not_saved_is_evaluated(
    policies: Client, operator: Organization, platform: Platform
) -> None:
    done(policies.get("/v1/policies", by=operator.passport))  # notes the passport's use
    before = platform.contents()
    for match, said, does_match in MATCHES:
        facts = FACTS | said | {"rule": NIGHT | {"match": match}}
        told = done(policies.post("/v1/policies/evaluate", facts, by=operator.passport))
        outcomes = [(each["policy_id"], each["outcome"]) for each in told["policies"]]
        assert outcomes == [(None, "denies")] * does_match, (match, said)
        assert told["is_let_pass"] is not does_match
    assert platform.contents() == before


@pytest.mark.usefixtures("stopped")
def test_a_dry_run_tells_every_rule_that_matches_and_takes_nothing(
    policies: Client, operator: Organization, platform: Platform, make: Make, function: Load
) -> None:
    customer = platform.organization(usd=5)
    caller = f"passport:{platform.passport_id(customer.passport)}"
    match = {"action": ["list_sessions"]}
    limit = make(priority=1, effect="limit", limit_per="passport", match=match, **TWO)
    allow = make(priority=2, effect="allow", match={"organization": [customer.id]})
    deny = make(priority=3)
    facts = {
        **{"organization_id": customer.id, "permission": "read", "action": "list_sessions"},
        **{"caller": caller, "at": datetime.now(UTC).isoformat()},
    }

    def evaluate(**said: Any) -> tuple[Any, list[tuple[Any, ...]]]:  # noqa: ANN401  any JSON
        answer = policies.post("/v1/policies/evaluate", facts | said, by=operator.passport)
        told = done(answer)
        assert told["is_let_pass"] is (told["code"] is None)
        return told["code"], [
            (each["policy_id"], each["asked"], each["outcome"], each["tokens"])
            for each in told["policies"]
        ]

    rules = [
        (limit["id"], "call", "takes", 1),
        (allow["id"], "call", "allows", None),
        (deny["id"], "call", "moot", None),
    ]
    assert evaluate() == evaluate() == (None, rules)
    sessions = function("sessions")
    for _ in range(2):
        done(sessions.get("/v1/sessions", by=customer.passport))
    rules = [
        (limit["id"], "call", "limits", 0),
        (allow["id"], "call", "moot", None),
        (deny["id"], "call", "moot", None),
    ]
    assert evaluate() == ("rate_limited", rules)
    draft = {"effect": "allow", "description": "first", "priority": 0}
    rules = [
        (None, "call", "allows", None),
        (limit["id"], "call", "moot", 0),
        *rules[1:],
        (None, "spending", "allows", None),
        (allow["id"], "spending", "moot", None),
    ]
    assert evaluate(rule=draft, tier="gpu") == (None, rules)
    other = {"organization_id": platform.organization().id}
    assert evaluate(**other)[0] == "policy_denied"
    facts["organization_id"] = ABSENT
    answer = policies.post("/v1/policies/evaluate", facts, by=operator.passport)
    problem(answer, 404, "organization_not_found")
