"""Clones: a bucket is rented, and a space's objects are copied into it, come what may."""

import json
from collections.abc import Iterator
from contextlib import contextmanager

import httpx
import pytest

from faregate.backends.storage import copying, gcs_copies, s3_copies
from tests.harness.answers import done, problem
from tests.harness.buckets import Bucket, bucket
from tests.harness.client import Client, Load
from tests.harness.faulty import S3, STORAGE, Way, after, faulty, hang_up
from tests.harness.operations import ABSENT
from tests.harness.platform import Organization, Platform
from tests.harness.provisioning import Provisioning
from tests.harness.spaces import Row, Spaces

PROVIDERS = {"europe-west4": "gcs", "local-s3": "s3"}
SOME = {
    "readme.md": (b"# All that we use", "text/markdown"),
    "empty": (b"", "application/octet-stream"),
    "data/ünïcode & more.csv": (b"a,b\n" * 9, "text/csv"),
    "data/model.bin": (bytes(range(256)) * 40, "application/octet-stream"),
}


class Clones(Spaces):
    """Plays the customer, the operator and Cloud Tasks."""

    def __init__(self, platform: Platform, function: Load) -> None:
        super().__init__(platform, function("spaces"))
        self.storage = Provisioning(platform, function)
        self.operator = platform.operator()
        self.buyer = platform.organization("pro", usd=100)
        self.worker = function("clone_space")

    def offer(self, objects: dict[str, tuple[bytes, str]], region: str = "europe-west4") -> str:
        """Have a space of the platform come from a bucket with these objects; give the bucket."""
        source_id = self.storage.ready(region=region, size_gb=20, by=self.operator)
        for name, (content, kind) in objects.items():
            self.bucket(source_id).put(name, content, kind)
        done(self.set_source(self.operator, "web-dev", source_id))
        return source_id

    def bucket(self, storage_id: str) -> Bucket:
        row = self.storage.row(storage_id)
        cloud = self.platform.cloud
        return bucket(cloud, PROVIDERS[row["region_id"]], row["resource_name"])

    def try_to_clone(self, **body: object) -> httpx.Response:
        return self.client.post("/v1/spaces/web-dev/clone", body, by=self.buyer.passport)

    def begin(self, **body: object) -> Row:
        """Ask for a clone whose bucket is then there."""
        clone = done(self.try_to_clone(**body), 201)
        assert self.storage.work(clone["storage_id"]) == "ready"
        return clone

    def now(self, clone: Row) -> Row:
        path = f"/v1/spaces/clones/{clone['id']}"
        return done(self.client.get(path, by=self.buyer.passport))

    def task(self, clone: Row) -> Row | None:
        """Tell what the queue is to call the function with, if anything."""
        found = self.platform.fetch(
            "select payload || jsonb_build_object('task_id', id) from billing.outbox"
            " where topic = 'clone_space' and acknowledged_at is null"
            " and payload ->> 'clone_id' = %s",
            clone["id"],
        )
        assert len(found) <= 1
        return found[0][0] if found else None

    def deliver(self, task: Row, worker: Client | None = None) -> httpx.Response:
        token = self.platform.cloud.invoker_token()
        return (worker or self.worker).post("/tasks/clone-space", task, by=token)

    def work(self, clone: Row, worker: Client | None = None) -> Row:
        """Deliver until nothing is left to do, as the queue does; tell how it ended."""
        for _ in range(40):
            task = self.task(clone)
            if task is None:
                break
            answer = self.deliver(task, worker)
            assert answer.status_code in {200, 503}, answer.text
        assert self.task(clone) is None
        return self.now(clone)


@pytest.fixture
def clones(platform: Platform, function: Load) -> Clones:
    return Clones(platform, function)


@pytest.fixture
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have what is of more than a few bytes be large."""
    quarter = 256 * 1024
    for module in (copying, gcs_copies, s3_copies):
        monkeypatch.setattr(module, "PART_BYTES", quarter)
    monkeypatch.setattr(copying, "_SMALL_BYTES", 100)
    monkeypatch.setattr(copying, "_PAGE_OBJECTS", 2)


@contextmanager
def _faulty_worker(clones: Clones, function: Load, provider: str) -> Iterator[tuple[Way, Client]]:
    settings = clones.platform.cloud.layout.functions_environment()
    endpoint = json.loads(settings["S3_ENDPOINTS"])["local"]
    url = settings["STORAGE_API_URL"] if provider == "gcs" else endpoint["url"]
    with faulty(url) as way:
        changed = (
            {"STORAGE_API_URL": way.url}
            if provider == "gcs"
            else {"S3_ENDPOINTS": json.dumps({"local": endpoint | {"url": way.url}})}
        )
        yield way, function("clone_space", **changed)


@pytest.mark.parametrize("target", PROVIDERS)
@pytest.mark.parametrize("source", PROVIDERS)
def test_copies_every_object(clones: Clones, source: str, target: str) -> None:
    clones.offer(SOME, source)
    purchase = clones.buy(clones.buyer, "web-dev")
    clone = clones.begin(region=target)
    assert clone["status"] == "requested"
    assert (clone["purchase_id"], clone["space"]) == (purchase["id"], "web-dev")
    assert clones.now(clone)["status"] == "copying"
    ended = clones.work(clone)
    assert (ended["status"], ended["failure"]) == ("done", None)
    assert ended["copied_objects"] == len(SOME)
    assert ended["copied_bytes"] == sum(len(content) for content, _ in SOME.values())
    assert clones.bucket(clone["storage_id"]).contents() == SOME
    listed = done(clones.client.get("/v1/spaces/clones", by=clones.buyer.passport))
    assert listed["data"] == [ended]


@pytest.mark.usefixtures("small_parts")
@pytest.mark.parametrize("target", PROVIDERS)
@pytest.mark.parametrize("source", PROVIDERS)
def test_copies_large_objects_in_parts_and_pages(
    clones: Clones, monkeypatch: pytest.MonkeyPatch, source: str, target: str
) -> None:
    # Amazon's smallest part is one of 5 MiB, but for the last.
    part = 5 * 1024 * 1024
    if target == "local-s3":
        monkeypatch.setattr(s3_copies, "PART_BYTES", part)
        monkeypatch.setattr(s3_copies, "_COPY_BYTES", part)
        size = 2 * part + 7
    else:
        size = 3 * 256 * 1024 + 7
    objects = SOME | {"large": (bytes(251) * (size // 251) + b"end", "image/x-disk")}
    clones.offer(objects, source)
    clones.buy(clones.buyer, "web-dev")
    clone = clones.begin(region=target)
    # Each run has time for one step.
    monkeypatch.setattr("faregate.tasks.clone_space.BUDGET_SECONDS", 0.001)
    runs = 0
    while task := clones.task(clone):
        done(clones.deliver(task))
        runs += 1
        assert runs < 60
    monkeypatch.undo()
    assert runs >= len(objects) // 2
    assert clones.now(clone)["status"] == "done"
    assert clones.now(clone)["copied_objects"] == len(objects)
    assert clones.bucket(clone["storage_id"]).contents() == objects


def test_nothing_to_copy_is_copied(clones: Clones) -> None:
    clones.offer({})
    clones.buy(clones.buyer, "web-dev")
    ended = clones.work(clones.begin())
    assert (ended["status"], ended["copied_objects"]) == ("done", 0)


@pytest.mark.usefixtures("small_parts")
@pytest.mark.parametrize("provider", ["gcs", "s3"])
@pytest.mark.parametrize("fault", ["hang up", "hang up after", "unavailable", "rate_limit"])
def test_goes_on_after_a_fault(clones: Clones, function: Load, provider: str, fault: str) -> None:
    region = "europe-west4" if provider == "gcs" else "local-s3"
    clones.offer(SOME, region)
    clones.buy(clones.buyer, "web-dev")
    clone = clones.begin(region=region)
    faults = STORAGE if provider == "gcs" else S3
    strikes = {"hang up": hang_up, "hang up after": after(hang_up)}
    with _faulty_worker(clones, function, provider) as (way, worker):
        way.strike(strikes.get(fault) or faults[fault], nth={2, 5, 9})
        ended = clones.work(clone, worker)
    assert (ended["status"], ended["copied_objects"]) == ("done", len(SOME))
    assert clones.bucket(clone["storage_id"]).contents() == SOME


@pytest.mark.parametrize(
    ("fault", "reason"), [("forbidden", "permission_denied"), ("quota", "quota_exceeded")]
)
def test_a_refusal_gives_it_up(
    clones: Clones, function: Load, platform: Platform, fault: str, reason: str
) -> None:
    clones.offer(SOME)
    purchase = clones.buy(clones.buyer, "web-dev")
    clone = clones.begin()
    with _faulty_worker(clones, function, "gcs") as (way, worker):
        way.strike(STORAGE[fault], "POST", nth=None)
        ended = clones.work(clone, worker)
    assert (ended["status"], ended["failure"]) == ("failed", reason)
    assert ended["ended_at"]
    # Nobody pays for a bucket that is of no use, and the purchase is.
    assert clones.storage.work(clone["storage_id"]) == "deleted"
    assert platform.wallet(clones.buyer)[1] == 0
    assert clones.now(clone)["failure"] == reason
    again = clones.begin()
    assert again["purchase_id"] == purchase["id"]
    assert clones.work(again)["status"] == "done"


def test_ten_runs_in_vain_are_enough(clones: Clones, function: Load) -> None:
    clones.offer(SOME)
    clones.buy(clones.buyer, "web-dev")
    clone = clones.begin()
    with _faulty_worker(clones, function, "gcs") as (way, worker):
        way.strike(hang_up, nth=None)
        task = clones.task(clone)
        assert task
        for _ in range(10):
            problem(clones.deliver(task, worker), 503, "unavailable")
        assert clones.now(clone)["failure"] == "no_answer"
        assert clones.now(clone)["status"] == "copying"
        assert done(clones.deliver(task, worker)) == {"status": "failed"}
    assert clones.storage.work(clone["storage_id"]) == "deleted"


def test_a_run_that_died_is_taken_over(clones: Clones, platform: Platform) -> None:
    clones.offer(SOME)
    clones.buy(clones.buyer, "web-dev")
    clone = clones.begin()
    task = clones.task(clone)
    assert task
    platform.run(
        "select * from api.start_clone(%s, %s, %s)",
        task["organization_id"],
        task["clone_id"],
        task["task_id"],
    )
    problem(clones.deliver(task), 503, "task_under_way")
    platform.advance(121)
    assert done(clones.deliver(task)) == {"status": "done"}
    # What the dead one still tells is not heard.
    assert platform.fetch(
        "select status, is_going from api.note_clone(%s, %s, %s, 1, 'x', 9, 9)",
        task["organization_id"],
        task["clone_id"],
        task["task_id"],
    ) == [("done", False)]
    assert clones.now(clone)["copied_objects"] == len(SOME)
    assert done(clones.deliver(task)) == {"status": "done"}


def test_a_bucket_that_is_not_made_fails_the_clone(clones: Clones) -> None:
    clones.offer(SOME)
    clones.buy(clones.buyer, "web-dev")
    clone = done(clones.try_to_clone(), 201)
    clones.ends(clones.buyer, clone["storage_id"], "failed")
    assert clones.now(clone) | {"finished_at": "", "ended_at": ""} == clone | {
        "status": "failed",
        "failure": "test",
        "finished_at": "",
        "ended_at": "",
    }
    done(clones.try_to_clone(), 201)


def test_a_clone_ends_with_its_bucket(clones: Clones) -> None:
    clones.offer(SOME)
    purchase = clones.buy(clones.buyer, "web-dev")
    clone = clones.begin()
    task = clones.task(clone)
    assert task
    clones.storage.end(clone["storage_id"])
    assert clones.now(clone)["status"] == "failed"
    assert done(clones.deliver(task)) == {"status": "failed"}
    copied = clones.begin()
    assert clones.work(copied)["status"] == "done"
    assert problem(clones.try_to_clone(), 409, "purchase_cloned")["clone_id"] == copied["id"]
    clones.storage.end(copied["storage_id"])
    assert clones.now(copied)["status"] == "done"
    assert clones.now(copied)["ended_at"]
    # It was taken along: the money stays.
    problem(clones.refund(clones.operator, purchase), 409, "purchase_cloned")
    assert clones.work(clones.begin())["status"] == "done"


def test_a_source_that_ends_ends_its_clones(clones: Clones) -> None:
    source_id = clones.offer(SOME)
    clones.buy(clones.buyer, "web-dev")
    clone = clones.begin()
    clones.storage.end(source_id)
    ended = clones.work(clone)
    assert (ended["status"], ended["failure"]) == ("failed", "source_ended")
    problem(clones.try_to_clone(), 409, "space_not_cloneable")


def test_a_purchase_brings_one_clone(clones: Clones, platform: Platform) -> None:
    clones.offer(SOME)
    before = platform.contents()
    problem(clones.try_to_clone(), 409, "space_not_owned")
    assert platform.contents() == before
    first, second = (clones.buy(clones.buyer, "web-dev") for _ in range(2))
    made = [done(clones.try_to_clone(), 201)["purchase_id"] for _ in range(2)]
    assert made == [first["id"], second["id"]]
    before = platform.contents()
    problem(clones.try_to_clone(), 409, "purchase_cloned")
    assert platform.contents() == before
    problem(clones.refund(clones.operator, first), 409, "purchase_cloned")
    third = clones.buy(clones.buyer, "web-dev")
    done(clones.refund(clones.operator, third))
    problem(clones.try_to_clone(), 409, "purchase_cloned")


def test_the_same_key_is_one_clone(clones: Clones) -> None:
    clones.offer(SOME)
    clones.buy(clones.buyer, "web-dev")
    first, again = (
        clones.client.post(
            "/v1/spaces/web-dev/clone", {}, by=clones.buyer.passport, repeat="only-once"
        )
        for _ in range(2)
    )
    assert done(again, 201) == done(first, 201)
    assert again.headers["idempotent-replayed"] == "true"


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        ({"region": "the-moon"}, 400, "region_not_offered"),
        ({"region": "../europe-west4"}, 400, "invalid_request"),
        ({"region": "x" * 41}, 400, "invalid_request"),
        ({"region": "\0"}, 400, "invalid_request"),
        ({"name": ""}, 400, "invalid_request"),
        ({"name": "two\nlines"}, 400, "invalid_request"),
        ({"workspace_id": ABSENT}, 404, "workspace_not_found"),
        ({"workspace_id": "mine"}, 400, "invalid_request"),
        ({"size_gb": 1}, 400, "invalid_request"),
    ],
)
def test_refuses_to_clone(
    clones: Clones, platform: Platform, body: Row, status: int, code: str
) -> None:
    clones.offer(SOME)
    clones.buy(clones.buyer, "web-dev")
    before = platform.contents()
    problem(clones.try_to_clone(**body), status, code)
    assert platform.contents() == before


def test_a_clone_is_paid_for_like_any_bucket(clones: Clones, platform: Platform) -> None:
    clones.offer(SOME)
    poor = platform.organization("pro", usd=2)
    clones.buy(poor, "web-dev")
    before = platform.contents()
    answer = clones.client.post("/v1/spaces/web-dev/clone", {}, by=poor.passport)
    problem(answer, 402, "insufficient_credits")
    assert platform.contents() == before


def test_what_is_not_cloneable_is_not_cloned(clones: Clones) -> None:
    source_id = clones.offer(SOME)
    clones.buy(clones.buyer, "web-dev")
    done(clones.set_source(clones.operator, "web-dev", source_id, is_cloneable=False))
    problem(clones.try_to_clone(), 409, "space_not_cloneable")


def test_another_organizations_clone_is_not_found(clones: Clones, platform: Platform) -> None:
    clones.offer(SOME)
    clones.buy(clones.buyer, "web-dev")
    clone = done(clones.try_to_clone(), 201)
    other: Organization = platform.organization()
    for clone_id in (clone["id"], ABSENT):
        answer = clones.client.get(f"/v1/spaces/clones/{clone_id}", by=other.passport)
        problem(answer, 404, "clone_not_found")
    assert done(clones.client.get("/v1/spaces/clones", by=other.passport))["data"] == []
