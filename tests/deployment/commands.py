"""Stands where gcloud, terraform, supabase and curl would: keeps what it is told, answers as asked.

`gcloud secrets` remembers which secrets have a value, so that scripts can ask for what they put.
"""

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from infra.local import paths

NAMES = ("gcloud", "terraform", "supabase", "curl", "python")

_FAKE = """#!{python} -IS
import json, os, re, sys
os.chdir({folder!r})
name, argv = {name!r}, sys.argv[1:]
told = sys.stdin.read() if {{"--data-file=-", "console"}} & {{*argv}} else ""
# What Terraform is asked is no secret: an answer may depend on it.
line = " ".join([name, *argv, told if "console" in argv else ""]).strip()
def read(file):
    return open(file).read() if os.path.exists(file) else ""
open("calls", "a").write(json.dumps([name, argv, told]) + "\\n")
for pattern, answer, status, times in json.loads(read("answers")):
    used = "used-" + re.sub(r"\\W+", "-", pattern)
    if re.search(pattern, line) and (times is None or len(read(used)) < times):
        open(used, "a").write(".")
        print(answer, file=sys.stderr if status else sys.stdout)
        sys.exit(status)
secrets = read("secrets").split()
if "secrets versions list" in line and argv[3] in secrets: print("1")
if "secrets versions add" in line: open("secrets", "w").write(" ".join([*secrets, argv[3]]))
"""


class Call(NamedTuple):
    """One call of a command."""

    name: str
    argv: list[str]
    told: str

    @property
    def line(self) -> str:
        return " ".join([self.name, *self.argv])


@dataclass
class Commands:
    """A folder of commands for a script's PATH."""

    folder: Path
    answers: list[tuple[str, str, int, int | None]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.folder.mkdir()
        for name in NAMES:
            file = self.folder / name
            file.write_text(_FAKE.format(python=sys.executable, folder=str(self.folder), name=name))
            file.chmod(0o755)
        self._save()

    def answer(self, pattern: str, text: str = "") -> None:
        """Have every call that matches print this."""
        self.answers.append((pattern, text, 0, None))
        self._save()

    def fail(
        self, pattern: str, *, times: int | None = None, text: str = "it does not work"
    ) -> None:
        """Have calls that match fail with these words: all, or so many of them."""
        self.answers.insert(0, (pattern, text, 1, times))
        self._save()

    def have(self, *secrets: str) -> None:
        """Have these secrets a value already."""
        (self.folder / "secrets").write_text(" ".join(secrets))

    @property
    def calls(self) -> list[Call]:
        file = self.folder / "calls"
        lines = file.read_text().splitlines() if file.exists() else []
        return [Call(*json.loads(line)) for line in lines]

    def lines(self, pattern: str = "") -> list[str]:
        """List the calls that contain something, as a shell would have them."""
        return [call.line for call in self.calls if pattern in call.line]

    def _save(self) -> None:
        (self.folder / "answers").write_text(json.dumps(self.answers))

    @property
    def path(self) -> str:
        return f"{self.folder}:{os.environ['PATH']}"

    def run(
        self,
        command: Sequence[str],
        *,
        told: str = "",
        environment: Mapping[str, str] | None = None,
    ) -> subprocess.CompletedProcess[str]:
        """Run a script of ours, which finds only these commands and nothing of our environment."""
        return subprocess.run(
            command,
            cwd=paths.ROOT,
            env={
                "PATH": self.path,
                "HOME": str(self.folder),
                "PYTHONPATH": f"{paths.ROOT}:{paths.ROOT / 'functions'}",
                "PROJECT_ID": "acme-billing",
                **(environment or {}),
            },
            input=told,
            capture_output=True,
            text=True,
            check=False,
            timeout=600,
        )
