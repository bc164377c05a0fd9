"""infra/costs.md is what the script computes, from prices that say where they come from."""

import re
from collections.abc import Callable
from datetime import date
from itertools import pairwise

import pytest

from faregate.function import FUNCTIONS
from infra import costs
from infra.costs import Inputs, Load
from infra.local import paths

TERRAFORM = paths.ROOT / "terraform" / "functions.tf"
ITEMS_THAT_FALL = {"Cloud Run: instances kept warm"}  # busy ones are paid for as such


@pytest.fixture
def inputs() -> Inputs:
    return costs.load_inputs()


def test_the_page_is_what_the_script_computes(inputs: Inputs) -> None:
    assert costs.PAGE.read_text() == costs.page(inputs), "run `make costs`"


def test_each_list_price_says_where_and_when_it_was_read(inputs: Inputs) -> None:
    ours = {"measured", "deployed", "assumed"}
    assert ours < inputs.keys()
    for name in inputs.keys() - ours:
        assert inputs[name]["source"].startswith("https://"), name
        assert date(2026, 1, 1) <= inputs[name]["read"] <= date(2030, 1, 1), name


def test_each_measured_number_says_how(inputs: Inputs) -> None:
    measured = inputs["measured"]
    assert measured["how"].keys() == measured.keys() - {"how", "read", "cores"}
    page = costs.PAGE.read_text()
    for name, how in measured["how"].items():
        assert f"| {measured[name]:,} | {how} |" in page
        for module in re.findall(r"python -m ([\w.]+)", how):
            assert (paths.ROOT / f"{module.replace('.', '/')}.py").exists()


@pytest.mark.parametrize("kind", [costs.sessions, costs.events])
def test_more_never_costs_less(kind: Callable[[int, Inputs], Load], inputs: Inputs) -> None:
    months = [costs.costs(kind(number, inputs), inputs) for number in range(0, 10**8, 10**6)]
    for less, more in pairwise(months):
        assert less.keys() == more.keys()
        for item in less.keys() - ITEMS_THAT_FALL:
            assert less[item] <= more[item], item
        assert sum(less.values()) <= sum(more.values()) + 0.01


def test_a_month_by_hand(inputs: Inputs) -> None:
    month = costs.costs(costs.sessions(10_000_000, inputs), inputs)
    calls = 10_000_000 * 16
    # Two cron jobs each hour, one each day, the others each minute; six places ask each minute.
    each_minute = list(FUNCTIONS.values()).count("schedules") - 3 + 6
    own = each_minute * 43_800 + 2 * 730 + 30.4
    assert month["Cloud Run: requests"] == pytest.approx((calls + own - 2e6) * 0.4e-6, rel=0.01)
    assert month["Front: load balancer, Cloud Armor"] == pytest.approx(
        18.25 + 5 + 2 + calls * 0.75e-6 + calls * 1500 / 2**30 * 2 * 0.008, rel=0.01
    )
    assert month["Supabase: disk after a year"] == pytest.approx(
        (inputs["measured"]["session_hour_bytes"] * 12e7 / 1e9 - 8) * 0.125
    )


def test_stripe_keeps_its_share_of_top_ups(inputs: Inputs) -> None:
    # 1,000 sessions of 5 cents are two top-ups of $25: 2 × (0.725 + 0.30).
    assert costs.stripe_fees(costs.sessions(1_000, inputs), inputs) == pytest.approx(2.05)


def test_a_small_load_stays_in_the_free_tiers(inputs: Inputs) -> None:
    idle, small = (costs.costs(costs.sessions(n, inputs), inputs) for n in (0, 1_000))
    assert sum(small.values()) - sum(idle.values()) < 0.05


def test_the_database_grows_with_the_load(inputs: Inputs) -> None:
    largest = inputs["supabase"]["compute"][-1]
    needed = [costs.cores(costs.sessions(n, inputs), inputs) for n in (0, 10**6, 10**9)]
    assert needed == sorted(needed)
    assert needed[0] == 0
    assert needed[-1] > largest[2]


def test_the_first_bottleneck_is_the_database(inputs: Inputs) -> None:
    limits = costs.capacities(inputs)
    assert "database" in limits[0][0]
    assert [number for _, number, _ in limits] == sorted(number for _, number, _ in limits)


def test_what_is_deployed_is_what_terraform_says(inputs: Inputs) -> None:
    if not TERRAFORM.exists():
        pytest.skip("terraform/ is not in this checkout")
    text = TERRAFORM.read_text()
    deployed = inputs["deployed"]
    front, alerts = (TERRAFORM.with_name(f"{name}.tf").read_text() for name in ("front", "alerts"))
    assert front.count("\n  rule {") == deployed["rules"]
    conditions = alerts.count("      aligner  ") + 1  # one of them tells of silence, too
    assert conditions == deployed["alert_conditions"]
    assert (
        len(re.findall(r"^ +min_instances += 1\b", text, re.MULTILINE))
        == (deployed["warm_functions"])
    )
    row = re.search(r"^    sessions = \{\n(.*?)^    \}", text, re.MULTILINE | re.DOTALL)
    assert row
    assert f"max_instances = {deployed['sessions_instances']}\n" in row[1]
    assert f"dispatches_per_second = {deployed['stop_session_second']} " in text
