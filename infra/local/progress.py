"""How the laptop's commands speak: one line per step, one sentence per refusal."""

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from time import monotonic

_WIDTH = 52


class RefusalError(Exception):
    """Something a person can put right; the message says what and how."""


def say(line: str) -> None:
    """Write one line."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


@contextmanager
def step(name: str) -> Iterator[None]:
    """Announce a step before it starts and its duration after it ended."""
    started = monotonic()
    sys.stdout.write(f"  {name} ".ljust(_WIDTH, "."))
    sys.stdout.flush()
    try:
        yield
    except BaseException:
        sys.stdout.write(" failed\n")
        sys.stdout.flush()
        raise
    say(f" {monotonic() - started:5.1f} s")


def run(command: Callable[[], None]) -> None:
    """Run a command; a refusal becomes its sentence and exit code 1, never a traceback."""
    try:
        command()
    except RefusalError as refusal:
        sys.stderr.write(f"faregate: {refusal}\n")
        sys.exit(1)
    except BrokenPipeError:  # whoever read the output has had enough
        os._exit(1)
    except KeyboardInterrupt:
        sys.exit(130)
