"""Each alert has a page, and what a page says to look at is there."""

import re
import subprocess
from pathlib import Path

import psycopg
import pytest

from faregate.function import FUNCTIONS
from infra.local import paths
from infra.local.template import Database

FOLDER = paths.ROOT / "infra" / "runbooks"
TERRAFORM = paths.ROOT / "terraform"
ALERTS = (
    *("webhook_failures", "webhook_refusals", "sweep_lag", "outbox_age", "verify_differences"),
    *("server_errors", "latency_p99", "budget", "uptime"),
)
DRILLS = ("restore_drill", "key_rotation")
FIRST = FOLDER / "README.md"
PAGES = sorted(page for page in FOLDER.glob("*.md") if page != FIRST)


def _blocks(page: Path, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", page.read_text(), re.MULTILINE | re.DOTALL)


_QUERIES = [
    pytest.param(query, id=f"{page.stem}-{number}")
    for page in PAGES
    for number, query in enumerate(_blocks(page, "sql"), 1)
]


def test_each_alert_and_drill_has_a_page_and_nothing_else_has() -> None:
    assert [page.stem for page in PAGES] == sorted(
        name.replace("_", "-") for name in (*ALERTS, *DRILLS)
    )


@pytest.mark.parametrize("alert", ALERTS)
def test_a_page_says_what_it_means_what_to_look_at_and_what_to_do(alert: str) -> None:
    text = (FOLDER / f"{alert.replace('_', '-')}.md").read_text()
    assert f"**Alert** `{alert}`" in text
    parts = re.findall(r"^## (.*)$", text, re.MULTILINE)
    assert parts == ["What it means", "What to look at", "What to do"]
    assert "](README.md)" in text


def test_the_alerts_are_those_of_terraform() -> None:
    if not TERRAFORM.is_dir():
        pytest.skip("terraform/ is not in this checkout")
    text = (TERRAFORM / "alerts.tf").read_text()
    block = re.search(r"^  alerts = \{\n(.*?)^  \}", text, re.MULTILINE | re.DOTALL)
    assert block
    named = re.findall(r"^    (\w+) = \{", block[1], re.MULTILINE)
    assert sorted([*named, "budget"]) == sorted(ALERTS)


@pytest.mark.parametrize("page", [FIRST, *PAGES], ids=lambda page: page.stem)
def test_commands_are_a_shells_and_of_what_is_set_or_there(page: Path) -> None:
    outputs = re.findall(r'^output "(\w+)"', (TERRAFORM / "outputs.tf").read_text(), re.MULTILINE)
    told = set(re.findall(r"(\w+)=", "".join(_blocks(FIRST, "sh"))))
    for block in _blocks(page, "sh"):
        read = subprocess.run(
            ["bash", "-n"], input=block, capture_output=True, text=True, check=True
        )
        assert read.stderr == ""
        assert set(re.findall(r"\$\{?(\w+)", block)) <= told
        assert set(re.findall(r"terraform output (\w+)", block)) <= set(outputs)
        for file in re.findall(r"-var-file=(\S+)", block):
            assert (TERRAFORM / file).exists()


@pytest.mark.parametrize("query", _QUERIES)
def test_each_query_runs(query: str, database: Database) -> None:
    with psycopg.connect(database.owner_url) as owner:
        owner.execute("set transaction read only" if "verify_next" not in query else "select 1")
        owner.execute(query.encode())
        owner.rollback()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_what_a_page_names_is_there(page: Path) -> None:
    text = page.read_text()
    services = re.findall(r'service_name="([\w-]+)"|--service=([\w-]+)', text)
    queues = re.findall(r"tasks queues describe ([\w-]+)|jobs resume ([a-z][\w-]*)", text)
    for name in {first or second for first, second in services + queues}:
        assert name.replace("-", "_") in FUNCTIONS, name
    for target in re.findall(r"\]\((?!http)([^)#]+)", text):
        assert (page.parent / target).exists(), target
    for anchor in re.findall(r"\]\(([\w-]+\.md)#([\w-]+)\)", text):
        assert f"## {anchor[1]}\n" in (FOLDER / anchor[0]).read_text(), anchor
    for module in re.findall(r"-m infra\.(\w+)", text):
        assert (paths.ROOT / "infra" / f"{module}.py").exists(), module
    for file in re.findall(r"`((?:infra|terraform|tests)/[\w./-]+)`", text):
        assert (paths.ROOT / file).exists() or file.startswith("terraform/"), file
    makefile = (paths.ROOT / "Makefile").read_text()
    for verb in re.findall(r"(?:^ *|`)make ([a-z]+)\b", text, re.MULTILINE):
        assert re.search(rf"^{verb}:", makefile, re.MULTILINE), verb
