"""The README's tables are the code's tables."""

import re

from faregate.errors import PROBLEMS, REASONS
from infra.local import paths
from infra.openapi import document
from tests.database import access

README = (paths.ROOT / "README.md").read_text()
# Which permission, of whom, reads which views.
_READERS = re.findall(
    r"^\| `(\w+)` \| (.*(?:passports with|in person).*) \| (.*) \|$", README, re.MULTILINE
)


def test_the_readme_names_every_endpoint_and_no_other() -> None:
    named = set(re.findall(r"^\| `([A-Z]+ /[^`]*)` \|", README, re.MULTILINE))
    served = {
        f"{method.upper()} {path}"
        for path, methods in document()["paths"].items()
        for method in methods
    }
    assert named == served


def test_the_readme_names_every_problem_with_its_status_and_meaning() -> None:
    named = re.findall(r"^\| (\d{3}) \| `(\w+)` \| (.*) \|$", README, re.MULTILINE)
    assert named == [
        (str(problem.status), code, problem.title) for code, problem in PROBLEMS.items()
    ]


def test_the_readme_names_every_reason_why_usage_is_rejected_or_waits() -> None:
    table = README.partition("| `reason` | meaning |")[2].partition("\n\n")[0]
    assert dict(re.findall(r"^\| `(\w+)` \| (.*) \|$", table, re.MULTILINE)) == REASONS


def test_every_reason_of_sql_has_a_sentence() -> None:
    files = [
        file
        for file in (paths.SUPABASE / "migrations").glob("*.sql")
        if re.search(r"_(usage\w*|features)\.sql$", file.name)
    ]
    text = "".join(file.read_text() for file in files)
    told = set(re.findall(r"(?:then|else|return)\s+'([a-z]+(?:_[a-z]+)+)'", text)) - {"limit_near"}
    assert told - PROBLEMS.keys() == REASONS.keys()


def test_the_readme_tells_the_same_permissions_for_views_as_the_migration() -> None:
    migration = (paths.SUPABASE / "migrations" / "20261121001900_access.sql").read_text()
    table = migration.partition("-- permission  views")[2].partition("\n\n")[0]
    told = re.findall(r"\w+", re.sub(r"\(.*\)", "", table))
    assert re.findall(r"\w+", " ".join(f"{row[0]} {row[2]}" for row in _READERS)) == told


def test_the_readme_tells_the_same_readers_of_views_as_the_list() -> None:
    readers = {"read": access.READ, "billing": access.BILLING}
    told = {
        view: readers[name] & access.PEOPLE if "in person" in who else readers[name]
        for name, who, views in _READERS
        for view in re.findall(r"\w+", views)
    }
    assert told == {view: who for view, who in access.VIEWS.items() if who}


def test_the_two_commands_stand_within_the_first_thirty_lines() -> None:
    beginning = README.splitlines()[:30]
    assert any(line.strip().startswith("make demo ") for line in beginning)
    assert any(line.strip().startswith("make test ") for line in beginning)


def test_every_verb_of_the_readme_is_a_verb_of_the_makefile() -> None:
    makefile = (paths.ROOT / "Makefile").read_text()
    verbs = set(re.findall(r"^([a-z]+):.* ## ", makefile, re.MULTILINE))
    assert set(re.findall(r"`?make ([a-z]+)", README)) <= verbs
