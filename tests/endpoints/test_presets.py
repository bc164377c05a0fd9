"""sessions by presets: a name for a size, a time and what their workspace must have."""

from typing import Any

import httpx
import pytest

from tests.harness.answers import done, problem
from tests.harness.client import Client, Load
from tests.harness.operations import ABSENT
from tests.harness.platform import Organization, Platform

SESSIONS, ESTIMATE = "/v1/sessions", "/v1/sessions/estimate"
NOTEBOOK, TRAINING = {"preset": "notebook"}, {"preset": "training"}
Row = dict[str, Any]


class Lab:
    """A customer with $20, a workspace of theirs, and what they put there."""

    def __init__(self, platform: Platform, function: Load, plan: str = "pro") -> None:
        self.platform = platform
        self.sessions, self.spaces = function("sessions"), function("spaces")
        self.customer = platform.organization(plan, usd=20)
        self.by = self.customer.passport
        self.workspaces = function("workspaces")
        self.id = self.another()

    def another(self, of: Organization | None = None) -> str:
        """Make another workspace."""
        by = (of or self.customer).passport
        made = self.workspaces.post("/v1/workspaces", {"name": "Lab"}, by=by)
        return str(done(made, 201)["id"])

    def start(self, **body: object) -> httpx.Response:
        return self.sessions.post(SESSIONS, body, by=self.by)

    def estimate(self, **params: object) -> httpx.Response:
        return self.sessions.get(ESTIMATE, by=self.by, params=params)

    def rent(self, size_gb: int, *, is_ready: bool = True) -> str:
        storage = str(
            self.platform.value(
                "select billing.open_storage("
                "%s, 'bucket', 'us-central1', %s, null, %s, null, null, 0, 'operator')",
                self.customer.id,
                size_gb,
                self.id,
            )
        )
        if is_ready:
            self.platform.run("select billing.start_storage(%s, %s)", self.customer.id, storage)
        return storage

    def buy(self, slug: str = "ml-ready") -> None:
        done(self.spaces.post(f"/v1/spaces/{slug}/purchases", by=self.by), 201)

    def attach(self, slug: str = "ml-ready") -> None:
        body = {"workspace_id": self.id}
        self.spaces.post(f"/v1/spaces/{slug}/attach", body, by=self.by).raise_for_status()


@pytest.fixture
def client(function: Load) -> Client:
    return function("sessions")


@pytest.fixture
def lab(platform: Platform, function: Load) -> Lab:
    return Lab(platform, function)


def _presets(client: Client, platform: Platform, plan: str) -> dict[str, Row]:
    by = platform.organization(plan).passport
    rows = done(client.get("/v1/sessions/presets", by=by))["data"]
    return {row["id"]: row for row in rows}


def test_presets_are_listed_with_the_plans_prices(client: Client, platform: Platform) -> None:
    presets = _presets(client, platform, "pro")
    assert list(presets) == sorted(presets)
    assert presets["notebook"] == {
        **{"id": "notebook", "title": "A notebook for an hour", "tier": "small", "minutes": 60},
        **{"hourly_price": "0.025000", "cost": "0.025000", "is_allowed": True},
        **{"storage_kind": None, "storage_gb": None, "storage_month_cost": None},
        **{"space": None, "space_price": None},
    }
    training = presets["training"]
    assert (training["hourly_price"], training["cost"]) == ("0.125000", "0.500000")
    assert (training["storage_gb"], training["storage_month_cost"]) == (50, "1.000000")
    assert (training["space"], training["space_price"]) == ("ml-ready", "5.000000")


@pytest.mark.parametrize(
    ("plan", "allowed"),
    [
        ("free", {"notebook", "web"}),
        ("pro", {"notebook", "web", "analysis", "training", "paper"}),
        ("enterprise", {"notebook", "web", "analysis", "training", "paper"}),
    ],
)
def test_the_list_tells_what_the_plan_allows(
    client: Client, platform: Platform, plan: str, allowed: set[str]
) -> None:
    presets = _presets(client, platform, plan)
    assert {name for name, row in presets.items() if row["is_allowed"]} == allowed


def test_presets_name_what_there_is(platform: Platform) -> None:
    lost = platform.fetch(
        "select id from billing.presets as p where not exists ("
        " select from billing.spaces as s where s.slug = p.space and s.status = 'published')"
        " and space is not null"
        " or not exists (select from billing.regions as r where r.kind = p.storage_kind"
        " and r.is_default and p.storage_gb >= r.min_gb and p.storage_gb %% r.step_gb = 0)"
        " and storage_kind is not null",
    )
    assert lost == []


def test_a_preset_gives_the_tier_and_the_end(lab: Lab) -> None:
    session = done(lab.start(**NOTEBOOK), 201)
    assert (session["preset"], session["tier"]) == ("notebook", "small")
    assert session["hourly_price"] == "0.025000"
    lab.platform.advance(3599)
    lab.platform.fetch("select * from api.sweep_sessions(10)")
    path = f"{SESSIONS}/{session['id']}"
    assert done(lab.sessions.get(path, by=lab.by))["status"] == "running"
    lab.platform.advance(60)
    lab.platform.fetch("select * from api.sweep_sessions(10)")
    ended = done(lab.sessions.get(path, by=lab.by))
    assert (ended["close_reason"], ended["charged"]) == ("expired", "0.025000")


def test_a_shorter_time_may_be_asked_for_and_no_longer(lab: Lab) -> None:
    before = lab.platform.contents()
    refusals = (lab.start(**NOTEBOOK, max_seconds=3601), lab.estimate(**NOTEBOOK, seconds=3601))
    for refused in refusals:
        refusal = problem(refused, 400, "preset_exceeded")
        assert refusal["max_seconds"] == 3600
    assert lab.platform.contents() == before
    for seconds, cost in ((3600, "0.025000"), (1800, "0.012500")):
        done(lab.start(**NOTEBOOK, max_seconds=seconds), 201)
        assert done(lab.estimate(**NOTEBOOK, seconds=seconds))["cost"] == cost
    lengths = lab.platform.fetch(
        "select extract(epoch from expires_at - started_at)::int from billing.sessions order by id"
    )
    assert lengths == [(3600,), (1800,)]


@pytest.mark.parametrize(
    ("named", "status", "code"),
    [
        pytest.param({}, 400, "tier_or_preset", id="neither"),
        pytest.param(NOTEBOOK | {"tier": "small"}, 400, "tier_or_preset", id="both"),
        pytest.param(NOTEBOOK | {"tier": "gpu"}, 400, "tier_or_preset", id="another tier"),
        pytest.param({"preset": "gaming"}, 404, "preset_not_found", id="unknown"),
        pytest.param({"preset": "NOTEBOOK"}, 400, "invalid_request", id="capitals"),
        pytest.param({"preset": "../notebook"}, 400, "invalid_request", id="a path"),
        pytest.param({"preset": ""}, 400, "invalid_request", id="empty"),
    ],
)
def test_what_is_named_wrongly_does_not_start(
    lab: Lab, named: dict[str, str], status: int, code: str
) -> None:
    before = lab.platform.contents()
    problem(lab.start(**named), status, code)
    problem(lab.estimate(**named), status, code)
    assert lab.platform.contents() == before


def test_a_closed_preset_is_not_there(lab: Lab) -> None:
    lab.platform.alter("update billing.presets set is_open = false where id = 'notebook'")
    problem(lab.start(**NOTEBOOK), 404, "preset_not_found")
    problem(lab.estimate(**NOTEBOOK), 404, "preset_not_found")
    assert "notebook" not in _presets(lab.sessions, lab.platform, "pro")


BUCKET = {"storage_kind": "bucket", "storage_gb": 50}
SPACE = {"space": "ml-ready"}
NOTHING = {"storage_kind": None, "storage_gb": None, "space": None}


@pytest.mark.parametrize(
    ("there", "missing"),
    [
        pytest.param([], BUCKET | SPACE, id="nothing"),
        pytest.param(["bucket"], SPACE, id="a bucket"),
        pytest.param(["small bucket", "attached"], BUCKET, id="too small a bucket"),
        pytest.param(["requested bucket", "attached"], BUCKET, id="a bucket to come"),
        pytest.param(["read-only bucket", "attached"], BUCKET, id="a bucket to be read"),
        pytest.param(["bucket", "bought"], SPACE, id="a space elsewhere"),
        pytest.param(["attached"], BUCKET, id="a space"),
    ],
)
def test_nothing_is_bought_silently(lab: Lab, there: list[str], missing: Row) -> None:
    for thing in there:
        if thing.endswith("bucket"):
            bucket = lab.rent(49 if "small" in thing else 50, is_ready="requested" not in thing)
            if "read-only" in thing:
                lab.platform.run(
                    "update billing.storage set status = 'read_only' where id = %s", bucket
                )
        else:
            lab.buy()
            if thing == "attached":
                lab.attach()
    before = lab.platform.contents()
    refusal = problem(lab.start(**TRAINING, workspace_id=lab.id), 409, "preset_incomplete")
    assert {name: refusal[name] for name in NOTHING} == NOTHING | missing
    refusal = problem(lab.start(**TRAINING), 409, "preset_incomplete")
    assert {name: refusal[name] for name in NOTHING} == NOTHING | BUCKET | SPACE
    assert lab.platform.contents() == before


def test_a_complete_workspace_starts_its_preset(lab: Lab) -> None:
    lab.rent(64)
    lab.buy()
    lab.attach()
    session = done(lab.start(**TRAINING, workspace_id=lab.id), 201)
    assert (session["tier"], session["workspace_id"]) == ("gpu", lab.id)


def test_a_plan_without_the_tier_is_told_so_before_anything_is_bought(
    platform: Platform, function: Load
) -> None:
    lab = Lab(platform, function, "free")
    for response in (lab.start(**TRAINING), lab.estimate(**TRAINING)):
        problem(response, 403, "tier_not_allowed")


def test_a_plan_without_the_storage_is_told_so(platform: Platform, function: Load) -> None:
    platform.alter("update billing.plans set allowed_tiers = '{small,large}' where id = 'free'")
    lab = Lab(platform, function, "free")
    problem(lab.estimate(preset="paper"), 403, "storage_not_allowed")
    platform.alter("update billing.storage_limits set max_gb = 9 where plan_id = 'pro'")
    lab = Lab(platform, function)
    problem(lab.estimate(**TRAINING), 400, "size_not_allowed")


def test_an_estimate_tells_all_that_is_still_to_be_paid(lab: Lab) -> None:
    told = done(lab.estimate(**TRAINING, workspace_id=lab.id))
    assert told == {
        **{"preset": "training", "tier": "gpu", "seconds": 14400},
        **{"hourly_price": "0.125000", "cost": "0.500000"},
        **BUCKET,
        **{"storage_month_cost": "1.000000", "storage_required": "0.032877"},
        **SPACE,
        **{"space_price": "5.000000"},
        # A window of ten minutes of $0.125, a day of $1 a month, and the space.
        **{"required": "5.053710", "available": "20.000000"},
        # What $20.00 - $5.032877 pay.
        "affordable_seconds": 431053,
    }
    assert done(lab.estimate(**TRAINING)) == told
    lab.rent(50)
    has_bucket = done(lab.estimate(**TRAINING, workspace_id=lab.id))
    assert (has_bucket["storage_kind"], has_bucket["required"]) == (None, "5.020833")
    lab.buy()
    owns = done(lab.estimate(**TRAINING, workspace_id=lab.id))
    assert (owns["space"], owns["space_price"], owns["required"]) == (None, None, "0.020833")
    elsewhere = done(lab.estimate(**TRAINING, workspace_id=lab.another()))
    assert (elsewhere["storage_gb"], elsewhere["required"]) == (50, "0.053710")
    lab.attach()
    assert done(lab.estimate(**TRAINING, workspace_id=lab.id)) == owns


def test_an_estimate_is_for_a_workspace_that_is_there(lab: Lab, platform: Platform) -> None:
    for workspace_id in (ABSENT, lab.another(platform.organization())):
        for named in (NOTEBOOK, {"tier": "small"}):
            refused = lab.estimate(**named, workspace_id=workspace_id)
            problem(refused, 404, "workspace_not_found")


def test_an_estimate_by_tier_tells_of_nothing_else(lab: Lab) -> None:
    told = done(lab.estimate(tier="gpu"))
    assert (told["seconds"], told["cost"], told["required"]) == (3600, "0.125000", "0.020833")
    assert {told[name] for name in ("preset", "space", "space_price", *BUCKET)} == {None}


def test_what_is_required_is_enough(lab: Lab) -> None:
    """With exactly what the estimate asks for, everything can be bought and started."""
    required = done(lab.estimate(**TRAINING))["required"]
    available = lab.platform.wallet(lab.customer)[0]
    micros = int(required.replace(".", ""))
    lab.platform.run(
        "select billing.open_hold(%s, billing.uuidv7(), 'usage', %s, billing.now() + '1 day', true,"
        " billing.now() + interval '1 day')",
        lab.customer.id,
        available - micros,
    )
    lab.rent(50)
    lab.buy()
    lab.attach()
    done(lab.start(**TRAINING, workspace_id=lab.id), 201)
    assert done(lab.estimate(tier="gpu"))["available"] == "0.000000"


def test_a_repeated_start_by_preset_starts_once(lab: Lab) -> None:
    first = lab.sessions.post(SESSIONS, NOTEBOOK, by=lab.by, repeat="preset-01")
    again = lab.sessions.post(SESSIONS, NOTEBOOK, by=lab.by, repeat="preset-01")
    assert done(first, 201) == done(again, 201)
    other = lab.sessions.post(SESSIONS, {"tier": "small"}, by=lab.by, repeat="preset-01")
    problem(other, 409, "idempotency_conflict")
