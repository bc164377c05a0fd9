"""The house's walls: who imports whom, and tables that say the same in every language."""

import ast
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from functions_framework.aio import create_asgi_app
from functions_framework.exceptions import MissingTargetException

from faregate import errors
from faregate.errors import PROBLEMS
from faregate.function import FUNCTIONS
from infra.local import paths
from infra.openapi import document
from tests.harness.client import MAIN
from tests.harness.operations import OPERATIONS

ROOT = paths.ROOT / "functions"
MODULES = sorted((ROOT / "faregate").rglob("*.py"))
KINDS = {"endpoints", "schedules", "tasks"}

# Imports go down, never along: functions never import each other, nor do backends. Only the files
# of one backend know each other.
_LEVELS = [
    {"conceal", "consumption", "errors", "headers", "meters", "mistakes", "money", "trace"},
    {"settings", "log"},
    {"backends", "document", "request"},
    {"function"},
    {"caller", "contract", "chunks", "files", "outbox", "reconciling"},
    KINDS,
]
LEVEL = {name: level for level, names in enumerate(_LEVELS) for name in names}
# As whom Google's clients call, whichever backend they are of.
SHARED = "faregate.backends.google"
# What every module may import beside the standard library. Anything else is a backend's.
FRAMEWORK = {"fastapi", "functions_framework", "pydantic", "pydantic_core", "starlette"}


def _part(module: str) -> str:
    """Tell which part of the house a module is: its folder or its name."""
    return module.split(".")[1]


def _backend(module: str) -> str | None:
    """Tell which backend a module is or belongs to."""
    return ".".join(module.split(".")[:3]) if _part(module) == "backends" else module


def _name(file: Path) -> str:
    return ".".join(file.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def _imports(file: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}: relative import"
            yield str(node.module)


@pytest.mark.parametrize("file", MODULES, ids=_name)
def test_imports_go_down(file: Path) -> None:
    own = _name(file)
    for imported in _imports(file):
        top = imported.split(".")[0]
        if top == "faregate":
            is_down = LEVEL[_part(imported)] < LEVEL[_part(own)]
            is_own = imported == SHARED or _backend(imported) == _backend(own)
            assert is_down or is_own, f"{own} imports {imported}"
        elif _part(own + ".") != "backends" and own != "faregate":
            known = top in sys.stdlib_module_names or top in FRAMEWORK
            allowed = known or (own == "faregate.settings" and top == "pydantic_settings")
            assert allowed, f"{own} imports {imported}"


def test_functions_never_import_infra_or_tests() -> None:
    for file in [*MODULES, ROOT / "main.py"]:
        assert not {name.split(".")[0] for name in _imports(file)} & {"infra", "tests"}, file


def test_every_function_has_one_module_and_every_module_one_function() -> None:
    found = {
        file.stem: kind
        for kind in KINDS
        for file in (ROOT / "faregate" / kind).glob("*.py")
        if file.stem != "__init__"
    }
    assert found == FUNCTIONS


def test_main_serves_no_other_function(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FUNCTION_TARGET", "")
    for name in ("main", "entry_point", "os", "health"):
        with pytest.raises((KeyError, MissingTargetException)):
            create_asgi_app(name, MAIN)  # type: ignore[no-untyped-call]
        sys.modules.pop("main", None)


def test_the_operations_that_are_tested_are_those_that_exist() -> None:
    served = {
        f"{method.upper()} {path}"
        for path, methods in document()["paths"].items()
        for method in methods
    }
    others = {
        "GET /healthz",
        "POST /v1/stripe/webhook",
        "POST /schedules/sweep-sessions",
        "POST /schedules/accrue-storage",
        "POST /schedules/expire-grants",
        "POST /schedules/expire-holds",
        "POST /schedules/fold-usage",
        "POST /schedules/keep-usage",
        "POST /schedules/reconcile",
        "POST /schedules/start-auto-top-ups",
        "POST /schedules/enqueue-outbox",
        "POST /schedules/measure-storage",
        "POST /schedules/report-health",
        "POST /tasks/charge-top-up",
        "POST /tasks/clone-space",
        "POST /tasks/provision-identity",
        "POST /tasks/provision-storage",
        "POST /tasks/send-invitation",
        "POST /tasks/stop-session",
    }
    assert {str(operation) for operation in OPERATIONS} | others == served


def _migrations() -> str:
    files = sorted(paths.SUPABASE.glob("migrations/*.sql"))
    return "\n".join(file.read_text() for file in files)


def _raised_in_sql() -> set[tuple[str, str]]:
    raised = re.findall(
        r"errcode\s*=\s*'(FG\d{3})',\s*message\s*=\s*'(\w+)'", _migrations(), re.DOTALL
    )
    assert len(raised) == len(re.findall(r"errcode\s*=\s*'FG", _migrations()))
    return set(raised)


def test_every_refusal_of_sql_is_a_problem_with_its_status() -> None:
    assert _raised_in_sql() <= {(f"FG{problem.status}", code) for code, problem in PROBLEMS.items()}


def test_no_detail_stands_in_for_what_every_problem_says() -> None:
    """RFC 9457: a detail named `status` would take the place of the answer's own."""
    details = re.findall(
        r"detail\s*=\s*jsonb_build_object\((.*?)\)::text", _migrations(), re.DOTALL
    )
    assert len(details) > 20
    names = {name for detail in details for name in re.findall(r"'(\w+)', ", detail)}
    assert names.isdisjoint({"type", "title", "status", "detail", "instance", "code", "request_id"})


def test_every_problem_is_raised_somewhere() -> None:
    in_sql = {code for _, code in _raised_in_sql()}
    python = "\n".join(file.read_text() for file in MODULES if file != Path(str(errors.__file__)))
    raised = re.findall(r"FaregateError\(\s*\"(\w+)\"|_problem\(\w+, \"(\w+)\"", python)
    in_python = {code for pair in raised for code in pair if code}
    function = (ROOT / "faregate" / "function.py").read_text()
    in_python |= set(re.findall(r"\d{3}: \"(\w+)\"", function))
    assert in_sql | in_python == set(PROBLEMS)


def test_every_refusal_that_sql_documents_exists() -> None:
    comments = "\n".join(
        line for line in _migrations().splitlines() if line.lstrip().startswith("--")
    )
    documented = set(re.findall(r"\b(FG\d{3}) +(\w+)", comments))
    assert documented <= _raised_in_sql()
    assert _raised_in_sql() <= documented


def test_a_problem_is_a_refusal_and_says_so_in_a_sentence() -> None:
    for code, problem in PROBLEMS.items():
        assert 400 <= problem.status < 600, code
        assert re.fullmatch(r"[A-Z].*\.", problem.title), code
