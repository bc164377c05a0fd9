"""The deployed archive: named by what is in it, and nothing else in it."""

import os
import shutil
import subprocess
import sys
import time
import zipfile
from io import BytesIO
from pathlib import Path

import pytest

from infra import build_source
from infra.local import paths
from infra.local.progress import RefusalError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    copy = tmp_path / "functions"
    shutil.copytree(build_source.FUNCTIONS, copy)
    return copy


def _names(content: bytes) -> list[str]:
    with zipfile.ZipFile(BytesIO(content)) as file:
        return file.namelist()


def test_the_same_files_give_the_same_bytes(folder: Path) -> None:
    content = build_source.archive(folder)
    for path in folder.rglob("*"):
        path.chmod(0o700)
        os.utime(path, (time.time(), 1_000_000_000))
    (folder / "zzz.py").write_text("")
    (folder / "zzz.py").unlink()
    assert build_source.archive(folder) == content
    assert build_source.archive(build_source.FUNCTIONS) == content


def test_another_byte_gives_another_name(folder: Path) -> None:
    before = build_source.name(build_source.archive(folder))
    with (folder / "main.py").open("a") as file:
        file.write("\n")
    assert build_source.name(build_source.archive(folder)) != before


@pytest.mark.parametrize(
    "stray",
    [".env", "key.json", ".venv/lib/x.py", "faregate/.env.py", "faregate/__pycache__/log.pyc"],
)
def test_what_is_not_deployed_stays_here(folder: Path, stray: str) -> None:
    before = build_source.archive(folder)
    (folder / stray).parent.mkdir(parents=True, exist_ok=True)
    (folder / stray).write_text("SECRET")
    assert build_source.archive(folder) == before


def test_a_link_is_refused(folder: Path) -> None:
    (folder / "linked.py").symlink_to("/etc/passwd")
    with pytest.raises(RefusalError):
        build_source.archive(folder)


def test_everything_that_runs_is_in_it() -> None:
    tracked = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "functions"],
        cwd=paths.ROOT,
        capture_output=True,
        text=True,
        check=False,
    ).stdout.split()
    if not tracked:
        pytest.skip("this is no checkout of git")
    left = set(tracked) - {f"functions/{name}" for name in _names(_deployed())}
    assert left == {"functions/.env.example", "functions/openapi.json"}


def _deployed() -> bytes:
    return build_source.archive(build_source.FUNCTIONS)


def test_the_unpacked_archive_loads_each_function(tmp_path: Path) -> None:
    with zipfile.ZipFile(BytesIO(_deployed())) as file:
        file.extractall(tmp_path)
    loads = (
        "from importlib import import_module; from faregate.function import FUNCTIONS; import main;"
        "[import_module(f'faregate.{kind}.{name}') for name, kind in FUNCTIONS.items()]"
    )
    done = subprocess.run(
        [sys.executable, "-c", loads],
        cwd=tmp_path,
        env={"PATH": os.environ["PATH"], "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def test_the_command_prints_where_the_archive_is(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "infra.build_source", str(tmp_path)],
        cwd=paths.ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    (written,) = tmp_path.iterdir()
    assert done.stdout.strip() == str(written)
    assert written.name == build_source.name(written.read_bytes())
