"""A stack of this checkout with ports and state of its own, beside whatever `make up` runs."""

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from infra.local import children, paths
from infra.local.layout import PORT_VARIABLE
from infra.local.stack import Stack

# A proxy that nobody reaches: the stack must not need one to talk to itself.
_PROXY = dict.fromkeys(("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"), "http://127.0.0.1:9")
_NO_PROXY = ("NO_PROXY", "no_proxy")
_PORTS = 5


@dataclass(frozen=True)
class Running:
    """A stack that serves."""

    process: subprocess.Popen[str]
    told: str
    stack: Stack

    def end(self) -> str:
        """Press Ctrl-C, and give what it says then."""
        self.process.send_signal(signal.SIGINT)
        told, complaint = self.process.communicate(timeout=120)
        assert (self.process.returncode, complaint) == (0, "")
        return told


@dataclass(frozen=True)
class Laptop:
    """Where a stack keeps its state, and its first port."""

    state: Path
    port: int

    def run(self, module: str, **settings: str) -> tuple[int, str, str]:
        """Run a command of the checkout; give its exit code and what it said, well and badly."""
        process = self.start(module, **settings)
        told, complaint = process.communicate(timeout=600)
        return process.returncode, told, complaint

    def start(self, module: str, **settings: str) -> subprocess.Popen[str]:
        inherited = {name: value for name, value in os.environ.items() if name not in _NO_PROXY}
        own = {
            paths.STATE_VARIABLE: str(self.state),
            PORT_VARIABLE: str(self.port),
            "PYTHONPATH": f"{paths.ROOT}:{paths.ROOT / 'functions'}",
        }
        return subprocess.Popen(
            [sys.executable, "-m", module],
            cwd=paths.ROOT,
            env=inherited | _PROXY | own | settings,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            preexec_fn=children.die_with_parent(),  # noqa: PLW1509 - only calls prctl
        )

    @contextmanager
    def up(self, **settings: str) -> Iterator[Running]:
        """Do `make up` and wait until it serves; press Ctrl-C at the end."""
        process = self.start("infra.local.up", **settings)
        try:
            running = Running(process, told_until("Logs:", process), self.stack())
            yield running
            if process.poll() is None:
                running.end()
        finally:
            # Only after a failure is there still something to end.
            process.terminate()
            process.communicate(timeout=120)

    @property
    def stack_file(self) -> Path:
        return self.state / "stack.json"

    def stack(self) -> Stack:
        return Stack.model_validate_json(self.stack_file.read_bytes())

    def has_left_nothing(self, processes: set[int]) -> bool:
        """Tell whether these processes are gone, the ports free and the description too."""
        for port in range(self.port, self.port + _PORTS):
            socket.create_server(("127.0.0.1", port)).close()
        return not self.stack_file.exists() and not any(map(_is_alive, processes))


def told_until(word: str, process: subprocess.Popen[str]) -> str:
    """Read what a command says up to the line with a word."""
    assert process.stdout is not None
    told = ""
    for line in process.stdout:
        told += line
        if word in line:
            return told
    _, complaint = process.communicate(timeout=10)
    raise AssertionError(f"never said {word}: {told}{complaint}")


def family(parent: int) -> dict[int, str]:
    """Find the processes that a process started, and those that they did: id and command line."""
    parents = {
        int(stat.parent.name): int(fields[1])
        for stat in Path("/proc").glob("[0-9]*/stat")
        if (fields := _state(int(stat.parent.name))) and fields[0] != "Z"
    }
    found = [parent]
    for each in found:
        found += [process for process, its_parent in parents.items() if its_parent == each]
    return {each: command for each in found if (command := _command(each))}


def _command(process: int) -> str:
    """Read a process's command line; empty when it has ended meanwhile."""
    try:
        return Path(f"/proc/{process}/cmdline").read_text().replace("\0", " ")
    except (FileNotFoundError, ProcessLookupError):
        return ""


def _is_alive(process: int) -> bool:
    """Tell whether a process is more than its parent's memory of it."""
    return (_state(process) or "Z")[0] != "Z"


def _state(process: int) -> list[str]:
    """Read what the kernel tells of a process: state, parent and more; empty when it is gone."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return []
