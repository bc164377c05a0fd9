"""Child processes that never outlive the process that started them."""

import ctypes
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

# Loaded here: between fork and exec is no place to load a library.
_libc = ctypes.CDLL(None) if sys.platform == "linux" else None
_PR_SET_PDEATHSIG = 1


def spawn(
    command: Sequence[str],
    log: Path,
    *,
    env: Mapping[str, str] | None = None,
    user: int | None = None,
    group: int | None = None,
    cwd: Path | None = None,
) -> subprocess.Popen[bytes]:
    """Start a process in a session of its own, so that Ctrl-C reaches only its parent."""
    with log.open("ab") as output:
        return subprocess.Popen(  # noqa: S603
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env=env,
            cwd=cwd,
            user=user,
            group=group,
            extra_groups=None if user is None else [],
            start_new_session=True,
            preexec_fn=die_with_parent(),  # noqa: PLW1509 - started before any thread
        )


def stop(process: subprocess.Popen[bytes], name: int, patience_seconds: float = 10) -> None:
    """Signal a process and wait for its end; kill it when it does not come."""
    if process.poll() is None:
        process.send_signal(name)
        try:
            process.wait(patience_seconds)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def die_with_parent() -> Callable[[], None]:
    """Arrange, between fork and exec, that a child is interrupted when its parent dies.

    Even by kill -9. Only Linux can do it; elsewhere the orphan has to be ended by hand.
    """
    parent = os.getpid()

    def arrange() -> None:
        if _libc is not None:
            _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGINT)
            if os.getppid() != parent:  # it died in between
                os._exit(1)

    return arrange
