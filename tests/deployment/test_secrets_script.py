"""infra/secrets.sh: what is missing is named; no value is ever printed or an argument."""

import pytest

from tests.deployment.commands import Commands

SCRIPT = "infra/secrets.sh"
VALUE = "postgresql://faregate_functions:s3cret pass%word$HOME`id`@host:6543/postgres"
LISTED = "database-url\nstripe-secret-key\ntoken-signing-key"


def test_what_has_no_value_is_named(commands: Commands) -> None:
    commands.answer("gcloud secrets list", LISTED)
    commands.have("stripe-secret-key")
    done = commands.run([SCRIPT, "missing"])
    assert (done.returncode, done.stdout.split()) == (1, ["database-url", "token-signing-key"])
    # A secret's whole name begins with its project; `put` is told the last part.
    assert "--format=value(name.basename())" in commands.lines("secrets list")[0]


def test_nothing_is_missing_when_all_have_a_value(commands: Commands) -> None:
    commands.answer("gcloud secrets list", LISTED)
    commands.have(*LISTED.split())
    done = commands.run([SCRIPT, "missing"])
    assert (done.returncode, done.stdout) == (0, "")


def test_only_those_that_are_named_are_asked_for(commands: Commands) -> None:
    commands.answer("gcloud secrets list", LISTED)
    commands.have("stripe-secret-key")
    done = commands.run([SCRIPT, "missing", "stripe-secret-key", "database-url"])
    assert (done.returncode, done.stdout.split()) == (1, ["database-url"])
    assert commands.run([SCRIPT, "missing", "stripe-secret-key"]).returncode == 0
    assert commands.lines("token-signing-key") == []


def test_a_version_is_asked_for_by_its_number(commands: Commands) -> None:
    commands.answer("versions list database-url", "11\n1")
    for named, status in {"database-url": 0, "database-url:1": 0, "database-url:2": 1}.items():
        done = commands.run([SCRIPT, "missing", named])
        assert done.returncode == status
        assert done.stdout.split() == [named] * status


@pytest.mark.parametrize("broken", ["secrets list", "secrets versions list"])
def test_who_cannot_ask_does_not_call_it_missing(commands: Commands, broken: str) -> None:
    commands.answer("gcloud secrets list", LISTED)
    commands.fail(broken)
    done = commands.run([SCRIPT, "missing"])
    assert done.returncode != 0
    assert done.stdout == ""


@pytest.mark.parametrize("traced", [[], ["bash", "-x"]], ids=["plain", "traced"])
def test_a_value_travels_through_a_pipe_only(commands: Commands, traced: list[str]) -> None:
    done = commands.run([*traced, SCRIPT, "put", "database-url"], told=f"{VALUE}\n")
    assert done.returncode == 0, done.stderr
    (call,) = commands.calls
    assert call.argv[:4] == ["secrets", "versions", "add", "database-url"]
    assert call.told == VALUE
    assert "s3cret" not in call.line + done.stdout + done.stderr


def test_nothing_is_no_value(commands: Commands) -> None:
    done = commands.run([SCRIPT, "put", "database-url"], told="\n")
    assert done.returncode == 2
    assert "database-url keeps its value" in done.stderr
    assert commands.calls == []


@pytest.mark.parametrize("arguments", [[], ["put"], ["list"], ["has", "one", "two"]])
def test_whatever_else_is_asked_tells_how_to(commands: Commands, arguments: list[str]) -> None:
    done = commands.run([SCRIPT, *arguments])
    assert done.returncode == 2
    assert "infra/secrets.sh put ID" in done.stderr
    assert commands.calls == []


def test_the_project_has_to_be_named(commands: Commands) -> None:
    done = commands.run([SCRIPT, "missing"], environment={"PROJECT_ID": ""})
    assert done.returncode != 0
    assert "PROJECT_ID" in done.stderr
