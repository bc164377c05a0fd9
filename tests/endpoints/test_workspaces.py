"""workspaces: what belongs together, and stays as long as anything is in it."""

from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from uuid import uuid4

import httpx
import pytest

from tests.harness.answers import done, problem
from tests.harness.client import Client, Load
from tests.harness.operations import ABSENT
from tests.harness.platform import Organization, Platform

PATH = "/v1/workspaces"
LAB = {"name": "Lab"}


class Lab:
    """A customer with money, and a workspace of theirs."""

    def __init__(self, platform: Platform, function: Load) -> None:
        self.platform = platform
        self.workspaces, self.sessions = function("workspaces"), function("sessions")
        self.customer = platform.organization(usd=10)
        self.by = self.customer.passport
        self.id: str = done(self.workspaces.post(PATH, LAB, by=self.by), 201)["id"]
        self.path = f"{PATH}/{self.id}"

    def start(self, by: str = "") -> httpx.Response:
        body = {"tier": "small", "workspace_id": self.id}
        return self.sessions.post("/v1/sessions", body, by=by or self.by)

    def stop(self, session: dict[str, Any]) -> None:
        done(self.sessions.post(f"/v1/sessions/{session['id']}/stop", {}, by=self.by))

    def rent(self) -> str:
        return str(
            self.platform.value(
                "select billing.open_storage("
                "%s, 'bucket', 'us-central1', 1, null, %s, null, null, 0, 'operator')",
                self.customer.id,
                self.id,
            )
        )

    def look(self) -> dict[str, Any]:
        return done(self.workspaces.get(self.path, by=self.by))

    def delete(self) -> httpx.Response:
        return self.workspaces.request("DELETE", self.path, by=self.by)


@pytest.fixture
def client(function: Load) -> Client:
    return function("workspaces")


@pytest.fixture
def lab(platform: Platform, function: Load) -> Lab:
    return Lab(platform, function)


def _listed(client: Client, organization: Organization, **params: object) -> list[str]:
    answer = done(client.get(PATH, by=organization.passport, params=params))
    return [workspace["id"] for workspace in answer["data"]]


def test_a_workspace_is_made_renamed_and_deleted(client: Client, platform: Platform) -> None:
    owner = platform.organization()
    by = owner.passport
    made = done(client.post(PATH, {"name": "  Protein folding "}, by=by), 201)
    assert made["name"] == "Protein folding"
    path = f"{PATH}/{made['id']}"
    empty = {"storage_ids": [], "spaces": [], "running_sessions": 0}
    assert done(client.get(path, by=by)) == made | empty
    renamed = done(client.request("PATCH", path, by=by, json={"name": "Folding"}))
    assert renamed == made | {"name": "Folding"}
    assert done(client.get(PATH, by=by))["data"] == [renamed]
    gone = client.request("DELETE", path, by=by)
    assert (gone.status_code, gone.content) == (204, b"")
    assert _listed(client, owner) == []
    for response in (
        client.get(path, by=by),
        client.request("PATCH", path, by=by, json=LAB),
        client.request("DELETE", path, by=by),
    ):
        problem(response, 404, "workspace_not_found")
    actions = platform.fetch(
        "select action, detail from billing.audit_log where subject_id = %s order by id", made["id"]
    )
    assert actions == [
        ("create_workspace", {}),
        ("update_workspace", {"name": "Folding"}),
        ("delete_workspace", {}),
    ]


def test_the_list_is_read_page_by_page(client: Client, platform: Platform) -> None:
    owner = platform.organization()
    made = [done(client.post(PATH, LAB, by=owner.passport), 201)["id"] for _ in range(5)]
    newest_first, cursor = made[::-1], None
    for start in (0, 2, 4):
        params = {"limit": 2} | ({"cursor": cursor} if cursor else {})
        answer = done(client.get(PATH, by=owner.passport, params=params))
        assert [each["id"] for each in answer["data"]] == newest_first[start : start + 2]
        cursor = answer["next_cursor"]
        assert answer["has_more"] == (cursor is not None) == (start < 4)
    assert _listed(client, platform.organization()) == []


def test_a_repeated_call_makes_one_workspace(client: Client, platform: Platform) -> None:
    owner = platform.organization()
    first = client.post(PATH, LAB, by=owner.passport, repeat="workspace-1")
    again = client.post(PATH, LAB, by=owner.passport, repeat="workspace-1")
    assert again.headers["idempotent-replayed"] == "true"
    assert done(again, 201) == done(first, 201)
    assert len(_listed(client, owner)) == 1
    other = client.post(PATH, {"name": "Other"}, by=owner.passport, repeat="workspace-1")
    problem(other, 409, "idempotency_conflict")


@pytest.mark.parametrize(
    "name",
    [
        pytest.param("", id="empty"),
        pytest.param("   ", id="blank"),
        pytest.param("x" * 101, id="too long"),
        pytest.param("two\nlines", id="two lines"),
        pytest.param("nul\x00", id="a control character"),
        pytest.param(None, id="null"),
        pytest.param(7, id="a number"),
        pytest.param(["Lab"], id="a list"),
    ],
)
def test_a_name_is_a_line_for_people(lab: Lab, name: object) -> None:
    before = lab.platform.contents()
    for response in (
        lab.workspaces.post(PATH, {"name": name}, by=lab.by),
        lab.workspaces.request("PATCH", lab.path, by=lab.by, json={"name": name}),
    ):
        assert "body.name" in problem(response, 400, "invalid_request")["errors"][0]["where"]
    assert lab.platform.contents() == before


@pytest.mark.parametrize(
    "name", ["x" * 100, "../../etc", "goog-lab", "Ünïcødé 实验室 🧪", "'; drop"]
)
def test_any_line_is_a_name_and_nothing_in_the_cloud_is_called_so(lab: Lab, name: str) -> None:
    renamed = lab.workspaces.request("PATCH", lab.path, by=lab.by, json={"name": name})
    assert done(renamed)["name"] == name
    lab.rent()
    (resource,) = lab.platform.fetch("select resource_name from billing.storage")
    assert resource[0].removeprefix("fg-").isalnum()


def test_the_plan_limits_how_many_there_are(client: Client, platform: Platform) -> None:
    platform.alter("update billing.plans set max_workspaces = 2 where id = 'free'")
    owner, other = platform.organization(), platform.organization()
    for _ in range(2):
        made = done(client.post(PATH, LAB, by=owner.passport), 201)
    before = platform.contents()
    refusal = problem(client.post(PATH, LAB, by=owner.passport), 409, "workspace_limit_reached")
    assert refusal["max_workspaces"] == 2
    assert platform.contents() == before
    done(client.post(PATH, LAB, by=other.passport), 201)
    client.request("DELETE", f"{PATH}/{made['id']}", by=owner.passport)
    done(client.post(PATH, LAB, by=owner.passport), 201)


def test_a_closed_organization_makes_none(lab: Lab) -> None:
    # Between the check of the passport and the turnstile.
    lab.platform.run(
        "update billing.organizations set closed_at = billing.now() where id = %s", lab.customer.id
    )
    before = lab.platform.contents()
    problem(lab.workspaces.post(PATH, LAB, by=lab.by), 409, "organization_closed")
    assert lab.platform.contents() == before
    assert _listed(lab.workspaces, lab.customer) == [lab.id]


def test_a_workspace_tells_what_is_in_it(lab: Lab) -> None:
    bucket = lab.rent()
    session = done(lab.start(), 201)
    assert session["workspace_id"] == lab.id
    done(lab.sessions.post("/v1/sessions", {"tier": "small"}, by=lab.by), 201)
    told = lab.look()
    assert (told["storage_ids"], told["spaces"], told["running_sessions"]) == ([bucket], [], 1)
    for workspace, ids in ((lab.id, [session["id"]]), (ABSENT, [])):
        params = {"workspace_id": workspace, "status": "running"}
        answer = done(lab.sessions.get("/v1/sessions", by=lab.by, params=params))
        assert [each["id"] for each in answer["data"]] == ids
    lab.stop(session)
    assert lab.look()["running_sessions"] == 0
    params = {"workspace_id": lab.id}
    (closed,) = done(lab.sessions.get("/v1/sessions", by=lab.by, params=params))["data"]
    assert (closed["id"], closed["status"]) == (session["id"], "closed")


def test_a_session_starts_in_no_workspace_but_a_live_one_of_ours(lab: Lab) -> None:
    stranger = lab.platform.organization(usd=10)
    before = lab.platform.contents()
    problem(lab.start(by=stranger.passport), 404, "workspace_not_found")
    body = {"tier": "small", "workspace_id": ABSENT}
    response = lab.sessions.post("/v1/sessions", body, by=lab.by)
    problem(response, 404, "workspace_not_found")
    assert lab.platform.contents() == before
    lab.delete()
    before = lab.platform.contents()
    problem(lab.start(), 404, "workspace_not_found")
    assert lab.platform.contents() == before


def test_a_workspace_is_kept_while_anything_is_in_it(lab: Lab) -> None:
    bucket, session = lab.rent(), done(lab.start(), 201)
    before = lab.platform.contents()
    refusal = problem(lab.delete(), 409, "workspace_in_use")
    assert [refusal[each] for each in ("storage", "spaces", "running_sessions")] == [1, 0, 1]
    assert lab.platform.contents() == before
    lab.platform.run(
        "select billing.end_storage(%s, %s, 'deleting', null)", lab.customer.id, bucket
    )
    refusal = problem(lab.delete(), 409, "workspace_in_use")
    assert [refusal[each] for each in ("storage", "spaces", "running_sessions")] == [0, 0, 1]
    lab.stop(session)
    assert lab.delete().status_code == 204
    assert done(lab.sessions.get(f"/v1/sessions/{session['id']}", by=lab.by))["workspace_id"]


def test_nothing_is_taken_from_a_workspace_in_which_something_runs(lab: Lab) -> None:
    other: str = done(lab.workspaces.post(PATH, LAB, by=lab.by), 201)["id"]
    query = "select billing.require_idle_workspace(%s, %s)"
    session = done(lab.start(), 201)
    with pytest.raises(Exception, match="workspace_busy"):
        lab.platform.run(query, lab.customer.id, lab.id)
    lab.platform.run(query, lab.customer.id, other)
    lab.platform.run(query, lab.customer.id, None)
    lab.stop(session)
    lab.platform.run(query, lab.customer.id, lab.id)


@pytest.mark.parametrize("permission", ["write", "read", "billing"])
def test_each_call_needs_its_permission(lab: Lab, permission: str) -> None:
    key = lab.platform.passport(lab.customer.id, permission)
    reads = [lab.workspaces.get(PATH, by=key), lab.workspaces.get(lab.path, by=key)]
    if permission != "read":
        for response in reads:
            problem(response, 403, "permission_denied")
    if permission != "write":
        for response in (
            lab.workspaces.post(PATH, LAB, by=key),
            lab.workspaces.request("PATCH", lab.path, by=key, json=LAB),
            lab.workspaces.request("DELETE", lab.path, by=key),
        ):
            problem(response, 403, "permission_denied")


Call = Callable[[], httpx.Response]


def _at_once(*calls: Call) -> list[httpx.Response]:
    with ThreadPoolExecutor(len(calls)) as pool:
        return [future.result() for future in [pool.submit(call) for call in calls]]


def test_of_two_deletes_one_deletes(lab: Lab) -> None:
    answers = _at_once(lab.delete, lab.delete, lab.delete)
    assert sorted(answer.status_code for answer in answers) == [204, 404, 404]
    deletions = lab.platform.value(
        "select count(*) from billing.audit_log where action = 'delete_workspace'"
    )
    assert deletions == 1


def test_no_session_starts_in_a_workspace_that_is_being_deleted(
    platform: Platform, function: Load
) -> None:
    seen: Counter[tuple[int, int]] = Counter()
    for turn in range(6):
        lab = Lab(platform, function)
        calls: list[Call] = [lab.start, lab.delete]
        first, second = _at_once(*(calls if turn % 2 else reversed(calls)))
        started, deleted = (first, second) if turn % 2 else (second, first)
        seen[started.status_code, deleted.status_code] += 1
        left = platform.value(
            "select deleted_at is null from billing.workspaces where id = %s", lab.id
        )
        running = platform.value(
            "select count(*) from billing.sessions where workspace_id = %s", lab.id
        )
        assert (left, running) == ((True, 1) if started.status_code == 201 else (False, 0))
    assert set(seen) <= {(201, 409), (404, 204)}


def test_the_limit_holds_for_calls_at_once(client: Client, platform: Platform) -> None:
    platform.alter("update billing.plans set max_workspaces = 3 where id = 'free'")
    owner = platform.organization()

    def make() -> httpx.Response:
        return client.post(PATH, LAB, by=owner.passport, repeat=uuid4().hex)

    answers = _at_once(*[make] * 8)
    assert Counter(answer.status_code for answer in answers) == {201: 3, 409: 5}
