"""Shell scripts: checked by shellcheck, and each stops at what fails."""

import subprocess
from pathlib import Path

import pytest

from infra.local import paths

SCRIPTS = [*sorted(paths.ROOT.glob("infra/*.sh")), paths.ROOT / ".ci" / "run"]


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.name)
def test_shellcheck_finds_nothing(script: Path) -> None:
    done = subprocess.run(
        [paths.VENV / "bin" / "shellcheck", script], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.name)
def test_each_stops_at_what_fails_and_can_be_run(script: Path) -> None:
    assert "set -eu" in script.read_text()
    assert script.stat().st_mode & 0o111
