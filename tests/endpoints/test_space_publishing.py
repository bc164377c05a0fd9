"""spaces: publishing one's own, and what operators decide about."""

import pytest

from tests.harness.answers import done, problem
from tests.harness.client import Load
from tests.harness.operations import ABSENT
from tests.harness.platform import Organization, Platform
from tests.harness.spaces import Row, Spaces


@pytest.fixture
def spaces(platform: Platform, function: Load) -> Spaces:
    return Spaces(platform, function("spaces"))


@pytest.fixture
def publisher(platform: Platform) -> Organization:
    return platform.organization("pro", usd=10)


@pytest.fixture
def buyer(platform: Platform) -> Organization:
    return platform.organization(usd=10)


@pytest.fixture
def bucket(spaces: Spaces, publisher: Organization) -> str:
    return spaces.rent(publisher, gb=12)


def _listed(spaces: Spaces, by: Organization, status: str) -> list[str]:
    answer = spaces.client.get("/v1/spaces", by=by.passport, params={"status": status})
    return [space["slug"] for space in done(answer)["data"]]


def _told(spaces: Spaces, organization: Organization) -> list[Row]:
    return [
        row
        for (row,) in spaces.platform.fetch(
            "select payload from billing.outbox where topic = 'notification'"
            " and organization_id = %s and payload ->> 'kind' like 'space_%%' order by id",
            organization.id,
        )
    ]


def test_a_space_is_submitted_approved_and_sold(
    spaces: Spaces,
    publisher: Organization,
    buyer: Organization,
    operator: Organization,
    bucket: str,
    platform: Platform,
) -> None:
    submitted = done(spaces.publish(publisher, bucket, is_cloneable=True), 201)
    assert submitted | {"id": "", "created_at": ""} == {
        "id": "",
        "slug": "our-lab",
        "title": "Our lab",
        "description": "All that we use.",
        "size_gb": 12,
        "is_cloneable": True,
        "publisher": "Acme",
        "status": "in_review",
        "price": "1.500000",
        "is_own": True,
        "is_owned": True,
        "workspace_ids": [],
        "source_storage_id": bucket,
        "review_reason": None,
        "created_at": "",
        "published_at": None,
        "withdrawn_at": None,
    }
    # Until then it is between its publisher and the operators.
    assert "our-lab" not in _listed(spaces, publisher, "published")
    assert _listed(spaces, publisher, "in_review") == ["our-lab"]
    assert _listed(spaces, operator, "in_review") == ["our-lab"]
    assert _listed(spaces, buyer, "in_review") == []
    problem(spaces.client.get("/v1/spaces/our-lab", by=buyer.passport), 404, "space_not_found")
    problem(spaces.try_to_buy(buyer, "our-lab"), 404, "space_not_found")
    problem(spaces.try_to_buy(operator, "our-lab"), 409, "space_not_published")
    workspace = spaces.workspace(publisher)
    refusal = spaces.place("attach", publisher, "our-lab", workspace)
    problem(refusal, 409, "space_not_published")

    approved = done(spaces.review(operator))
    assert (approved["status"], approved["review_reason"]) == ("published", "looked at it")
    assert _told(spaces, publisher) == [
        {"kind": "space_published", "space": "our-lab", "reason": "looked at it"}
    ]
    prices = platform.fetch(
        "select plan_id, price_micros, unit from billing.prices where sku = 'space.our-lab'"
    )
    assert sorted(prices) == [
        *[("admin", 0, "each"), ("enterprise", 1_500_000, "each")],
        *[("free", 1_500_000, "each"), ("pro", 1_500_000, "each")],
    ]
    shown = spaces.get(buyer, "our-lab")
    assert (shown["publisher"], shown["source_storage_id"], shown["review_reason"]) == (
        *("Acme", None, None),
    )
    assert spaces.buy(buyer, "our-lab")["price"] == "1.500000"
    done(spaces.place("attach", publisher, "our-lab", workspace))
    # Credits are closed-loop: the publisher has no more than before.
    assert (
        platform.value(
            "select count(*) from billing.transfers where organization_id = %s"
            " and credit_account = 'wallet' and reason <> 'registration_bonus'",
            publisher.id,
        )
        == 0
    )


def test_nobody_buys_from_themselves(
    spaces: Spaces,
    publisher: Organization,
    operator: Organization,
    bucket: str,
    platform: Platform,
) -> None:
    done(spaces.publish(publisher, bucket), 201)
    done(spaces.review(operator))
    before = platform.contents()
    problem(spaces.try_to_buy(publisher, "our-lab"), 409, "own_space")
    assert platform.contents() == before


def test_a_rejected_one_gives_its_name_back(
    spaces: Spaces, publisher: Organization, operator: Organization, bucket: str
) -> None:
    first = done(spaces.publish(publisher, bucket), 201)
    problem(spaces.publish(publisher, bucket), 409, "slug_taken")
    rejected = done(spaces.review(operator, decision="reject"))
    assert (rejected["status"], rejected["published_at"]) == ("rejected", None)
    assert [each["kind"] for each in _told(spaces, publisher)] == ["space_rejected"]
    problem(spaces.review(operator), 404, "space_not_found")
    assert _listed(spaces, publisher, "rejected") == ["our-lab"]
    again = done(spaces.publish(publisher, bucket), 201)
    assert again["id"] != first["id"]
    done(spaces.review(operator))
    problem(spaces.review(operator), 409, "space_not_in_review")


def test_who_bought_a_withdrawn_space_keeps_it(
    spaces: Spaces,
    publisher: Organization,
    buyer: Organization,
    operator: Organization,
    bucket: str,
    platform: Platform,
) -> None:
    done(spaces.publish(publisher, bucket), 201)
    done(spaces.review(operator))
    purchase = spaces.buy(buyer, "our-lab")
    before = platform.contents()
    problem(spaces.withdraw(buyer), 403, "permission_denied")
    assert platform.contents() == before
    assert done(spaces.withdraw(publisher))["status"] == "withdrawn"
    problem(spaces.withdraw(publisher), 409, "space_not_published")
    other = platform.organization(usd=10)
    problem(spaces.try_to_buy(other, "our-lab"), 409, "space_not_published")
    assert "our-lab" not in _listed(spaces, buyer, "published")
    assert spaces.get(buyer, "our-lab")["is_owned"]
    workspace = spaces.workspace(buyer)
    done(spaces.place("attach", buyer, "our-lab", workspace))
    done(spaces.refund(operator, purchase))
    assert spaces.get(buyer, "our-lab")["workspace_ids"] == []
    # What was sold once is not sold by another under its name.
    problem(spaces.publish(publisher, bucket), 409, "slug_taken")


def test_an_operator_withdraws_any(
    spaces: Spaces, publisher: Organization, operator: Organization, bucket: str
) -> None:
    done(spaces.publish(publisher, bucket), 201)
    assert done(spaces.withdraw(operator))["status"] == "withdrawn"
    assert [each["kind"] for each in _told(spaces, publisher)] == ["space_withdrawn"]
    problem(spaces.withdraw(publisher, "web-dev"), 403, "permission_denied")
    assert done(spaces.withdraw(operator, "web-dev"))["status"] == "withdrawn"


def test_a_bucket_that_a_space_comes_from_stays(
    spaces: Spaces, publisher: Organization, function: Load, bucket: str, platform: Platform
) -> None:
    done(spaces.publish(publisher, bucket), 201)
    storage, path = function("storage"), f"/v1/storage/{bucket}"
    before = platform.contents()
    refusal = storage.request("DELETE", path, by=publisher.passport)
    assert problem(refusal, 409, "storage_is_source")["space"] == "our-lab"
    assert platform.contents() == before
    done(spaces.withdraw(publisher))
    deleted = done(storage.request("DELETE", path, by=publisher.passport))
    assert deleted["status"] in ("deleting", "deleted")


def test_a_bucket_that_ends_withdraws_its_space(
    spaces: Spaces,
    publisher: Organization,
    buyer: Organization,
    operator: Organization,
    bucket: str,
) -> None:
    done(spaces.publish(publisher, bucket, is_cloneable=True), 201)
    done(spaces.review(operator))
    spaces.ends(publisher, bucket)
    space = spaces.get(publisher, "our-lab")
    assert (space["status"], space["is_cloneable"], space["source_storage_id"]) == (
        *("withdrawn", False, None),
    )
    assert _told(spaces, publisher)[-1] == {
        "kind": "space_withdrawn",
        "space": "our-lab",
        "storage_id": bucket,
        "reason": "storage_ended",
    }
    problem(spaces.try_to_buy(buyer, "our-lab"), 409, "space_not_published")


def test_ten_spaces_wait_for_a_decision_at_most(
    spaces: Spaces, publisher: Organization, bucket: str, operator: Organization
) -> None:
    for number in range(10):
        done(spaces.publish(publisher, bucket, slug=f"our-lab-{number}"), 201)
    refused = problem(spaces.publish(publisher, bucket), 409, "too_many_in_review")
    assert refused["max_in_review"] == 10
    done(spaces.withdraw(publisher, "our-lab-0"))
    done(spaces.publish(publisher, bucket), 201)
    problem(spaces.publish(publisher, bucket, slug="one-more"), 409, "too_many_in_review")
    done(spaces.review(operator, "our-lab-1"))
    done(spaces.publish(publisher, bucket, slug="one-more"), 201)


def test_the_platforms_space_outlives_its_bucket(
    spaces: Spaces, operator: Organization, buyer: Organization
) -> None:
    bucket = spaces.rent(operator, gb=20)
    set_to = done(spaces.set_source(operator, "web-dev", bucket))
    assert (set_to["is_cloneable"], set_to["source_storage_id"]) == (True, bucket)
    assert spaces.get(buyer, "web-dev")["source_storage_id"] is None
    spaces.ends(operator, bucket)
    space = spaces.get(operator, "web-dev")
    assert (space["status"], space["is_cloneable"], space["source_storage_id"]) == (
        *("published", False, None),
    )
    spaces.buy(buyer, "web-dev")


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        *(
            ({"slug": slug}, 400, "slug_not_allowed")
            for slug in (
                *("google-lab", "my-goo-gle", "faregate", "fare-gate-2", "official-ml"),
                *("purchases", "clones", "stripe-tools", "g00gle", "open-a1-gpt", "nvidia"),
            )
        ),
        *(
            ({"slug": slug}, 409, "slug_taken")
            for slug in ("web-dev", "ml-ready-2", "mlready", "data-science-pro1"[:12])
        ),
        *(
            ({"slug": slug}, 400, "invalid_request")
            for slug in ("", "ab", "Our-lab", "../etc", "our lab", "ünser", "x" * 42, "-lab", None)
        ),
        *(({"title": title}, 400, "invalid_request") for title in ("", "x" * 101, "a\nb", None)),
        *(({"description": text}, 400, "invalid_request") for text in ("", "x" * 1001, "a\x00")),
        *(({"price": price}, 400, "invalid_request") for price in ("-1", 1, "1e3", "", None)),
        ({"price": "1000000.000001"}, 400, "amount_out_of_bounds"),
        ({"storage_id": ABSENT}, 404, "storage_not_found"),
        ({"storage_id": "mine"}, 400, "invalid_request"),
        ({"is_cloneable": "yes!"}, 400, "invalid_request"),
        ({"publisher": "Google"}, 400, "invalid_request"),
    ],
)
def test_refuses_to_publish(
    spaces: Spaces,
    publisher: Organization,
    bucket: str,
    platform: Platform,
    body: Row,
    status: int,
    code: str,
) -> None:
    before = platform.contents()
    problem(spaces.publish(publisher, bucket, **body), status, code)
    assert platform.contents() == before


def test_only_a_bucket_that_is_ready_and_ones_own_is_published(
    spaces: Spaces, publisher: Organization, buyer: Organization, platform: Platform
) -> None:
    theirs = spaces.rent(buyer)
    asked = spaces.ask(publisher)
    platform.give(publisher.id, 1_000_000_000)
    share = spaces.ask(publisher, gb=1024, kind="filestore")
    spaces.is_there(publisher, share)
    before = platform.contents()
    problem(spaces.publish(publisher, theirs), 404, "storage_not_found")
    refusal = problem(spaces.publish(publisher, asked), 409, "storage_not_ready")
    assert refusal["storage_status"] == "requested"
    problem(spaces.publish(publisher, share), 409, "bucket_required")
    assert platform.contents() == before


def test_only_operators_decide(
    spaces: Spaces,
    publisher: Organization,
    buyer: Organization,
    operator: Organization,
    bucket: str,
    platform: Platform,
) -> None:
    done(spaces.publish(publisher, bucket), 201)
    before = platform.contents()
    for one in (publisher, buyer):
        problem(spaces.review(one), 403, "permission_denied")
        problem(spaces.set_source(one, "web-dev", bucket), 403, "permission_denied")
    # Of their own bucket, and of a space of the platform's own.
    problem(spaces.set_source(operator, "web-dev", bucket), 404, "storage_not_found")
    assert platform.contents() == before
    own = spaces.rent(operator)
    problem(spaces.set_source(operator, "our-lab", own), 404, "space_not_found")
    problem(spaces.set_source(operator, "no-such-space", own), 404, "space_not_found")


def test_the_same_key_is_one_decision(
    spaces: Spaces, publisher: Organization, operator: Organization, bucket: str
) -> None:
    done(spaces.publish(publisher, bucket), 201)
    body = {"decision": "approve", "reason": "fine"}
    first, again = (
        spaces.client.post(
            "/v1/spaces/our-lab/review", body, by=operator.passport, repeat="only-once"
        )
        for _ in range(2)
    )
    assert done(first) == done(again)
    assert again.headers["idempotent-replayed"] == "true"
