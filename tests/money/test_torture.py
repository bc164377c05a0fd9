"""`make torture` in small: every phase once, on real processes that are really killed."""

import os
import re
import subprocess
import sys

from infra.local import paths
from infra.torture.phases import PHASES


def test_every_phase_ends_without_a_difference() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "infra.torture"],
        cwd=paths.ROOT,
        env={**os.environ, "MINUTES": "0.01", "PYTHONPATH": f"{paths.ROOT}:functions"},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    for phase in PHASES:
        assert re.search(rf"^  {phase} .* 0 differences", done.stdout, re.MULTILINE), done.stdout
    last = done.stdout.splitlines()[-1]
    assert re.fullmatch(r"\d+ actions, [1-9]\d* faults, 0 differences", last), done.stdout
