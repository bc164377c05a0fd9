"""What a cold start pays before the first request: time and memory of importing each function."""

import os
import subprocess
import sys

from faregate.function import FUNCTIONS
from infra.bench.report import Line
from infra.local import paths
from infra.openapi import PLACEHOLDERS

_SCRIPT = """
import resource, sys, time
began = time.perf_counter()
import main
print(time.perf_counter() - began, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
"""


def measure() -> list[Line]:
    """Import each function in a process of its own, compiled beforehand as in the image."""
    slowest = max((_import(name) for name in FUNCTIONS), key=lambda measured: measured[1])
    largest = max((_import(name) for name in FUNCTIONS), key=lambda measured: measured[2])
    return [
        Line(f"slowest import: {slowest[0]}", slowest[1], "s", 0.8, at_most=True),
        Line(f"largest import: {largest[0]}", largest[2], "MB", 90, at_most=True),
    ]


def _import(name: str) -> tuple[str, float, float]:
    environment = {**os.environ, **PLACEHOLDERS, "FUNCTION_TARGET": name}
    environment["PYTHONPYCACHEPREFIX"] = str(paths.LOCAL / "pycache")
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    for _ in range(2):  # the first one compiles
        output = subprocess.run(  # noqa: S603
            [sys.executable, "-c", _SCRIPT],
            cwd=paths.ROOT / "functions",
            env=environment,
            capture_output=True,
            check=True,
            text=True,
        ).stdout
    seconds, megabytes = map(float, output.split())
    return name, seconds, megabytes
