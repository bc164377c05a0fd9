"""provision_identity: whatever Google answers, in the end there is one account, and it is owned."""

from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest

from tests.harness.answers import done, problem
from tests.harness.client import Client, Load
from tests.harness.faulty import GOOGLE, Fault, Way, after, faulty, hang_up, say
from tests.harness.identities import Identities
from tests.harness.invitations import DAY
from tests.harness.operations import ABSENT
from tests.harness.platform import Organization, Platform
from tests.harness.storage import make_ready, open_storage

READY, FAILED, DELETED = ({"status": status} for status in ("ready", "failed", "deleted"))
CREATE, GET = ("POST", r"/serviceAccounts$"), ("GET", "")
READ, BIND, DELETE = ("POST", r":getIamPolicy$"), ("POST", r":setIamPolicy$"), ("DELETE", "")


@pytest.fixture
def parts(platform: Platform, function: Load) -> Identities:
    return Identities(platform, function)


@pytest.fixture
def iam(parts: Identities) -> Iterator[Way]:
    with faulty(parts.platform.cloud.layout.iam_url) as iam:
        yield iam


@pytest.fixture
def worker(iam: Way, function: Load) -> Client:
    return function("provision_identity", IAM_API_URL=iam.url)


def _close(parts: Identities, organization: Organization) -> None:
    parts.platform.run(
        "select billing.lock_organization(%s), billing.end_identity(%s)",
        organization.id,
        organization.id,
    )


def _told(platform: Platform) -> list[Any]:
    return platform.fetch(
        "select kind, reason from api.notifications where kind like 'identity%%' order by id"
    )


def test_an_organization_is_given_an_account_that_its_namespace_may_act_as(
    parts: Identities,
) -> None:
    organization, task = parts.begin()
    identity = parts.read(organization)
    assert (identity["status"], identity["email"], identity["ready_at"]) == (
        "requested",
        None,
        None,
    )
    assert done(parts.work(task)) == READY
    parts.expect_one(organization)
    assert parts.read(organization)["failure"] is None
    assert _told(parts.platform) == [("identity_ready", None)]
    # Done is done.
    parts.platform.advance(2 * DAY)
    assert parts.tasks("provision_identity") == [task]
    parts.strike()
    assert parts.tasks("provision_identity") == [task]


def test_a_task_that_is_repeated_makes_one_account(parts: Identities) -> None:
    organization, task = parts.begin()
    assert [done(parts.work(task)) for _ in range(3)] == [READY] * 3
    parts.expect_one(organization)


def test_of_many_deliveries_at_once_one_is_at_it(parts: Identities) -> None:
    organization, task = parts.begin()
    with ThreadPoolExecutor(8) as threads:
        answers = list(threads.map(parts.work, [task] * 8))
    codes = Counter(answer.json().get("code", "done") for answer in answers)
    assert codes.keys() <= {"done", "task_under_way"}, codes
    assert codes["done"] >= 1
    assert done(parts.work(task)) == READY
    parts.expect_one(organization)
    assert len(_told(parts.platform)) == 1


PASSING: dict[str, Fault] = {
    "cut": hang_up,
    "a rate": GOOGLE["rate_limit"],
    "an error": GOOGLE["internal"],
    "an outage": GOOGLE["unavailable"],
    "a gateway's page": say(502, "text/html", "<html>Bad gateway</html>"),
    "a refusal in HTML": say(403, "text/html", "<html>No</html>"),
    "a success in HTML": say(200, "text/html", "<html>Hello</html>"),
    "a success that is a list": say(200, "application/json", "[]"),
    "half an answer": say(200, "application/json", '{"name": "'),
    "a redirection": say(302, "application/json", "{}", Location="/elsewhere"),
    "no token": say(401, "application/json", '{"error": {"code": 401}}'),
    "not there yet": say(404, "application/json", '{"error": {"code": 404}}'),
}


@pytest.mark.parametrize("fault", PASSING.values(), ids=PASSING)
@pytest.mark.parametrize("call", [CREATE, READ, BIND], ids=["create", "read", "bind"])
def test_what_may_pass_is_tried_again(
    parts: Identities, iam: Way, worker: Client, call: tuple[str, str], fault: Fault
) -> None:
    organization, task = parts.begin()
    iam.strike(fault, *call)
    response = parts.work(task, worker)
    problem(response, 503, "unavailable")
    identity = parts.read(organization)
    assert (identity["status"], identity["email"]) == ("provisioning", None)
    assert identity["failure"]
    assert done(parts.work(task, worker)) == READY
    parts.expect_one(organization)


@pytest.mark.parametrize("call", [CREATE, BIND], ids=["create", "bind"])
def test_a_lost_answer_is_one_account_all_the_same(
    parts: Identities, iam: Way, worker: Client, call: tuple[str, str]
) -> None:
    organization, task = parts.begin()
    iam.strike(after(hang_up), *call)
    problem(parts.work(task, worker), 503, "unavailable")
    assert len(parts.accounts(organization)) == 1
    # It is looked at, before it is taken for ours; and that may fail, too.
    if call == CREATE:
        iam.strike(GOOGLE["internal"], *GET)
        problem(parts.work(task, worker), 503, "unavailable")
    assert done(parts.work(task, worker)) == READY
    parts.expect_one(organization)


@pytest.mark.parametrize("fault", [GOOGLE["aborted"], say(412, "application/json", "{}")])
def test_a_policy_that_changed_meanwhile_is_read_anew(
    parts: Identities, iam: Way, worker: Client, fault: Fault
) -> None:
    organization, task = parts.begin()
    iam.strike(fault, *BIND, nth=(1, 2))
    assert done(parts.work(task, worker)) == READY
    parts.expect_one(organization)


def test_whoever_else_may_act_as_it_still_may(parts: Identities, iam: Way, worker: Client) -> None:
    organization, task = parts.begin()
    iam.strike(hang_up, *READ)
    problem(parts.work(task, worker), 503, "unavailable")
    (account,) = parts.accounts(organization)
    others = [
        {"role": "roles/iam.serviceAccountTokenCreator", "members": ["user:ops@example.com"]},
        {"role": "roles/iam.workloadIdentityUser", "members": ["user:dev@example.com"]},
    ]
    parts.iam("POST", f"/{account['email']}:setIamPolicy", {"policy": {"bindings": others}})
    assert done(parts.work(task, worker)) == READY
    bindings = parts.iam("POST", f"/{account['email']}:getIamPolicy")["bindings"]
    assert bindings[:2] == others
    assert len(parts.members(account["email"])) == 2


def test_a_foreign_account_is_never_ours(parts: Identities) -> None:
    organization, task = parts.begin()
    taken = parts.row(organization)["account_id"]
    foreign = {"accountId": taken, "serviceAccount": {"description": "Somebody else's"}}
    email = parts.iam("POST", "", foreign)["email"]
    problem(parts.work(task), 503, "unavailable")
    assert parts.read(organization)["failure"] == "name_taken"
    assert done(parts.work(task)) == READY
    parts.expect_one(organization)
    assert parts.row(organization)["account_id"] != taken
    assert parts.members(email) == []


def test_a_foreign_account_is_not_deleted(parts: Identities, iam: Way, worker: Client) -> None:
    organization, task = parts.begin()
    taken = parts.row(organization)["account_id"]
    foreign = {"accountId": taken, "serviceAccount": {"description": "Somebody else's"}}
    email = parts.iam("POST", "", foreign)["email"]
    iam.strike(hang_up, *GET)
    problem(parts.work(task, worker), 503, "unavailable")
    _close(parts, organization)
    parts.platform.advance(121)
    assert done(parts.work(parts.task(organization), worker)) == DELETED
    assert parts.iam("GET", f"/{email}")["description"] == "Somebody else's"


REFUSED: dict[str, tuple[Fault, str]] = {
    "a right that is missing": (GOOGLE["forbidden"], "permission_denied"),
    "a request that is wrong": (say(400, "application/json", '{"error": {}}'), "invalid"),
}


@pytest.mark.parametrize(("fault", "reason"), REFUSED.values(), ids=REFUSED)
@pytest.mark.parametrize("call", [CREATE, BIND], ids=["create", "bind"])
def test_a_refusal_is_told_and_tried_again_in_a_day(
    parts: Identities, iam: Way, worker: Client, call: tuple[str, str], fault: Fault, reason: str
) -> None:
    organization, task = parts.begin()
    iam.strike(fault, *call, nth=(1, 2))
    assert done(parts.work(task, worker)) == FAILED
    identity = parts.read(organization)
    assert (identity["status"], identity["failure"]) == ("failed", reason)
    assert _told(parts.platform) == [("identity_failed", reason)]
    # Its own task is done with; another waits for tomorrow.
    assert done(parts.work(task, worker)) == FAILED
    tomorrow = parts.task(organization)
    assert tomorrow != task
    parts.platform.advance(DAY)
    assert done(parts.work(tomorrow, worker)) == FAILED
    assert len(_told(parts.platform)) == 1
    assert done(parts.work(parts.task(organization), worker)) == READY
    parts.expect_one(organization)
    assert _told(parts.platform)[1:] == [("identity_ready", None)]


def test_a_project_that_is_full_is_a_quota(parts: Identities) -> None:
    quota = f"{parts.platform.cloud.layout.iam_url}/_quota"
    organization, task = parts.begin()
    httpx.post(quota, json={"service_accounts": 0}, trust_env=False)
    try:
        assert done(parts.work(task)) == FAILED
    finally:
        httpx.post(quota, json={}, trust_env=False)
    assert parts.read(organization)["failure"] == "quota_exceeded"
    parts.expect_none(organization)
    # An operator who has raised it need not wait.
    parts.platform.run("select billing.drive_identity(%s)", organization.id)
    assert done(parts.work(parts.task(organization))) == READY
    parts.expect_one(organization)


def test_what_never_passes_is_given_up_after_ten_attempts(
    parts: Identities, iam: Way, worker: Client
) -> None:
    organization, task = parts.begin()
    iam.strike(GOOGLE["unavailable"], nth=None)
    for _ in range(9):
        problem(parts.work(task, worker), 503, "unavailable")
    assert parts.read(organization)["status"] == "provisioning"
    assert done(parts.work(task, worker)) == FAILED
    assert parts.read(organization)["failure"] == "no_answer"


def test_a_run_that_died_is_taken_over_after_two_minutes(parts: Identities) -> None:
    organization, task = parts.begin()
    parts.platform.run("select api.start_identity(%s, %s)", organization.id, task["task_id"])
    problem(parts.work(task), 503, "task_under_way")
    parts.platform.advance(121)
    assert done(parts.work(task)) == READY
    parts.expect_one(organization)


def test_a_run_that_took_too_long_decides_nothing(parts: Identities) -> None:
    organization, task = parts.begin()
    start = "select attempt from api.start_identity(%s, %s)"
    late = parts.platform.value(start, organization.id, task["task_id"])
    parts.platform.advance(121)
    assert done(parts.work(task)) == READY
    before = parts.row(organization)
    answer = parts.platform.value(
        "select is_done from api.finish_identity(%s, %s, %s, 'create', 'refused', null, 'late')",
        organization.id,
        task["task_id"],
        late,
    )
    assert (answer, parts.row(organization)) == (False, before)


def test_storage_lets_an_identity_in_that_came_after_it(parts: Identities) -> None:
    platform = parts.platform
    organization, task = parts.begin()
    storage_id = open_storage(platform.owner, organization.id)
    make_ready(platform.owner, organization.id, storage_id)
    driven = "select task_id from billing.storage where id = %s"
    before = platform.value(driven, storage_id)
    assert done(parts.work(task)) == READY
    after_ready = platform.value(driven, storage_id)
    assert after_ready != before
    parts.strike()
    assert str(after_ready) in {each["task_id"] for each in parts.tasks("provision_storage")}


# The end.


def test_with_its_organization_an_account_is_deleted(
    parts: Identities, platform: Platform, function: Load
) -> None:
    owner = platform.user()
    organization = parts.register(owner)
    assert done(parts.work(parts.task(organization))) == READY
    path = f"/v1/organizations/{organization.id}/close"
    done(function("organizations").post(path, {"forfeit_balance": True}, by=owner.token))
    assert parts.row(organization)["status"] == "deleting"
    task = parts.task(organization)
    assert [done(parts.work(task)) for _ in range(2)] == [DELETED] * 2
    parts.expect_none(organization)
    assert parts.row(organization)["deleted_at"]


def test_of_an_organization_that_is_closed_at_once_nothing_is_made(
    parts: Identities, iam: Way, worker: Client
) -> None:
    organization, task = parts.begin()
    _close(parts, organization)
    # The first task has been replaced.
    assert done(parts.work(task, worker)) == {"status": "deleting"}
    assert done(parts.work(parts.task(organization), worker)) == DELETED
    parts.expect_none(organization)
    assert [request.method for request in iam.requests] == ["GET"]


@pytest.mark.parametrize("fault", [None, after(hang_up), hang_up], ids=["seen", "lost", "cut"])
def test_of_an_organization_that_is_closed_meanwhile_nothing_is_left(
    parts: Identities, iam: Way, worker: Client, fault: Fault | None
) -> None:
    organization, task = parts.begin()

    def close_meanwhile(exchange: Any) -> Any:  # noqa: ANN401
        _close(parts, organization)
        return fault(exchange) if fault else exchange.ask()

    iam.strike(close_meanwhile, *CREATE)
    problem(parts.work(task, worker), 503, "unavailable")
    assert parts.row(organization)["status"] == "deleting"
    parts.platform.advance(121)
    assert done(parts.work(task, worker)) == DELETED
    parts.expect_none(organization)


def test_a_call_that_may_still_be_under_way_is_waited_for(
    parts: Identities, iam: Way, worker: Client
) -> None:
    organization, task = parts.begin()
    arrived: list[Any] = []

    def delay(exchange: Any) -> None:  # noqa: ANN401
        arrived.append(exchange)

    iam.strike(delay, *CREATE)
    problem(parts.work(task, worker), 503, "unavailable")
    _close(parts, organization)
    task = parts.task(organization)
    problem(parts.work(task, worker), 503, "unavailable")
    (exchange,) = arrived
    exchange.ask()
    assert done(parts.work(task, worker)) == DELETED
    parts.expect_none(organization)


@pytest.mark.parametrize(
    "fault",
    [hang_up, GOOGLE["unavailable"], GOOGLE["forbidden"]],
    ids=["cut", "an outage", "forbidden"],
)
@pytest.mark.parametrize("call", [GET, DELETE], ids=["get", "delete"])
def test_a_deletion_is_never_given_up(
    parts: Identities, iam: Way, worker: Client, call: tuple[str, str], fault: Fault
) -> None:
    organization, task = parts.begin()
    assert done(parts.work(task, worker)) == READY
    _close(parts, organization)
    task = parts.task(organization)
    iam.strike(fault, *call, nth=range(1, 13))
    for _ in range(12):
        problem(parts.work(task, worker), 503, "unavailable")
    assert parts.row(organization)["status"] == "deleting"
    assert done(parts.work(task, worker)) == DELETED
    parts.expect_none(organization)


@pytest.mark.parametrize("fault", sorted(PASSING.keys() - {"not there yet"}))
@pytest.mark.parametrize("call", [GET, DELETE], ids=["get", "delete"])
def test_a_deletion_that_fails_is_tried_again(
    parts: Identities, iam: Way, worker: Client, call: tuple[str, str], fault: str
) -> None:
    organization, task = parts.begin()
    assert done(parts.work(task, worker)) == READY
    _close(parts, organization)
    task = parts.task(organization)
    iam.strike(PASSING[fault], *call)
    problem(parts.work(task, worker), 503, "unavailable")
    assert parts.row(organization)["status"] == "deleting"
    assert done(parts.work(task, worker)) == DELETED
    parts.expect_none(organization)


def test_a_lost_answer_of_a_deletion_is_a_deletion(
    parts: Identities, iam: Way, worker: Client
) -> None:
    organization, task = parts.begin()
    assert done(parts.work(task, worker)) == READY
    _close(parts, organization)
    task = parts.task(organization)
    iam.strike(after(hang_up), *DELETE)
    problem(parts.work(task, worker), 503, "unavailable")
    assert done(parts.work(task, worker)) == DELETED
    parts.expect_none(organization)


@pytest.mark.parametrize(
    ("changes", "status", "code"),
    [
        pytest.param({"organization_id": ABSENT}, 404, "identity_not_found", id="absent"),
        pytest.param({"task_id": "x"}, 400, "invalid_request", id="no id"),
        pytest.param({"organization_id": None}, 400, "invalid_request", id="null"),
        pytest.param({"account_id": "fg-x"}, 400, "invalid_request", id="a name"),
    ],
)
def test_refuses(parts: Identities, changes: dict[str, Any], status: int, code: str) -> None:
    _, task = parts.begin()
    before = parts.platform.contents()
    problem(parts.work(task | changes), status, code)
    assert parts.platform.contents() == before


def test_a_plan_without_one_has_none(platform: Platform, function: Load) -> None:
    operator = platform.operator()
    refusal = function("identity").get("/v1/identity", by=operator.passport)
    problem(refusal, 404, "identity_not_found")
