"""Workflows run verbs of the Makefile, with actions that nobody can exchange, and without a key."""

import re

import pytest

from infra.local import paths

WORKFLOWS = sorted((paths.ROOT / ".github" / "workflows").glob("*.yml"))
_TEXTS = {file.name: file.read_text() for file in WORKFLOWS}


@pytest.fixture(params=list(_TEXTS))
def workflow(request: pytest.FixtureRequest) -> str:
    return _TEXTS[request.param]


def test_they_only_run_verbs(workflow: str) -> None:
    makefile = (paths.ROOT / "Makefile").read_text()
    verbs = set(re.findall(r"^([a-z]+):.* ## ", makefile, re.MULTILINE))
    commands = re.findall(r"^ +(?:- )?run: *(.*)", workflow, re.MULTILINE)
    assert commands
    # The verb that checks Terraform comes with the folder.
    assert {command.removeprefix("make ") for command in commands} <= verbs | {"terraform"}


def test_actions_are_pinned_by_commit(workflow: str) -> None:
    used = re.findall(r"uses: *(.*)", workflow)
    assert used
    for action in used:
        assert re.fullmatch(r"[\w-]+/[\w-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+", action)


def test_they_have_only_the_rights_they_name(workflow: str) -> None:
    (block,) = re.findall(r"^permissions:\n((?:  .*\n)+)", workflow, re.MULTILINE)
    rights = dict(re.findall(r"^  ([\w-]+): (\w+)", block, re.MULTILINE))
    assert rights.pop("contents") == "read"
    assert rights in ({}, {"id-token": "write"})


def test_no_key_of_google_is_kept() -> None:
    assert "credentials_json" not in "".join(_TEXTS.values())
    secrets = set(re.findall(r"secrets\.(\w+)", "".join(_TEXTS.values())))
    assert secrets == {"SUPABASE_ACCESS_TOKEN", "SUPABASE_DB_PASSWORD", "SMTP_PASSWORD"}


def test_a_deployment_has_what_the_project_s_configuration_reads() -> None:
    configuration = (paths.SUPABASE / "config.toml").read_text()
    for name in re.findall(r"env\((\w+)\)", configuration):
        assert re.search(rf"^ +{name}: ", _TEXTS["deploy.yml"], re.MULTILINE), name


def test_a_deployment_is_never_broken_off() -> None:
    assert "cancel-in-progress: false" in _TEXTS["deploy.yml"]


def test_a_deployment_runs_in_the_environment_that_google_trusts() -> None:
    (job,) = re.findall(r"^  deploy:\n((?:    .*\n|\n)+)", _TEXTS["deploy.yml"], re.MULTILINE)
    (environment,) = re.findall(r"^    environment: (.*)", job, re.MULTILINE)
    (deployed,) = re.findall(r"^ +ENVIRONMENT: (.*)", job, re.MULTILINE)
    assert environment == deployed
    script = (paths.ROOT / "infra" / "bootstrap.sh").read_text()
    (known,) = re.findall(r"GITHUB_ENVIRONMENT =~ \^\((.*)\)\$", script)
    (offered,) = re.findall(r"options: \[(.*)\]", _TEXTS["deploy.yml"])
    assert known.split("|") == offered.split(", ")
