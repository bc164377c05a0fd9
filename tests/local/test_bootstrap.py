"""What a machine lacks is one sentence, before anything is downloaded."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from infra.local import paths

NEEDED = [
    *["Makefile", "infra/__init__.py", "infra/requirements.txt"],
    *["infra/local/__init__.py", "infra/local/bootstrap.py", "infra/local/paths.py"],
    *["infra/local/progress.py", "infra/local/package.json", "infra/local/package-lock.json"],
]


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """Give a fresh checkout, as much of it as the bootstrap reads."""
    for name in NEEDED:
        copy = tmp_path / "checkout" / name
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(paths.ROOT / name, copy)
    return tmp_path / "checkout"


def put(folder: Path, **programs: str) -> Path:
    """Put programs into a folder; each is the body of a shell script."""
    folder.mkdir(exist_ok=True)
    for name, body in programs.items():
        program = folder / name
        program.write_text(f"#!/bin/sh\n{body}\n")
        program.chmod(0o755)
    return folder


def run(checkout: Path, path: Path, *command: str) -> tuple[int, str, str]:
    environment = {name: value for name, value in os.environ.items() if name == "HOME"}
    done = subprocess.run(
        command,
        cwd=checkout,
        env={**environment, "PATH": str(path), "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    return done.returncode, done.stdout, done.stderr


@pytest.mark.parametrize(
    ("programs", "sentence"),
    [
        pytest.param(
            {},
            "Node 18 or newer with npm is needed and was not found on PATH.",
            id="no Node",
        ),
        pytest.param(
            {"node": "echo v22.1.0"},
            "Node 18 or newer with npm is needed and was not found on PATH.",
            id="no npm",
        ),
        pytest.param(
            {"node": "echo v16.20.2", "npm": ""},
            "Node 18 or newer is needed; {folder}/node is v16.20.2.",
            id="an old Node",
        ),
        pytest.param(
            {"node": "echo 'cannot load a library' >&2; exit 127", "npm": ""},
            "Node 18 or newer is needed; {folder}/node is one that does not start.",
            id="a broken Node",
        ),
    ],
)
def test_says_that_there_is(
    checkout: Path, tmp_path: Path, programs: dict[str, str], sentence: str
) -> None:
    folder = put(tmp_path / "bin", **programs)
    refusal = run(checkout, folder, sys.executable, "-m", "infra.local.bootstrap")
    assert refusal == (1, "", f"faregate: {sentence.format(folder=folder)}\n")
    assert not (checkout / ".local" / "venv").exists()


@pytest.mark.parametrize(
    "programs",
    [
        pytest.param({}, id="no Python"),
        # Asked whether it is new enough, it says no.
        pytest.param({"python3": 'test "$1" = -c && exit 1; echo started'}, id="an old Python"),
    ],
)
def test_make_says_that_there_is(checkout: Path, tmp_path: Path, programs: dict[str, str]) -> None:
    make = shutil.which("make")
    assert make is not None
    folder = put(tmp_path / "bin", **programs)
    status, told, refusal = run(checkout, folder, make, "--no-print-directory", "up")
    assert (status, told) == (2, "")
    sentence, *rest = refusal.splitlines()
    assert sentence == (
        "faregate: Python 3.11 or newer is needed; name one with `make PYTHON=python3.12 …`."
    )
    assert all(line.startswith(("make: ***", "make[")) for line in rest)


def test_a_machine_that_has_everything_waits_for_nothing(tmp_path: Path) -> None:
    """This checkout is installed: neither Node nor a network is asked for."""
    folder = put(tmp_path / "bin")
    assert run(paths.ROOT, folder, sys.executable, "-m", "infra.local.bootstrap") == (0, "", "")
