"""Terraform's own checks of terraform/, and the made-up deployment that its tests apply."""

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pytest

from infra.local import paths

FOLDER = paths.ROOT / "terraform"

# Checks without a registry: a folder with check.sh, or beside the checkout.
_OFFLINE_VARIABLE = "FAREGATE_TERRAFORM_OFFLINE"

Values = dict[str, Any]


@dataclass(frozen=True)
class Resource:
    """A resource of the applied deployment. key: that of for_each, or of its module's."""

    type: str
    name: str
    key: str
    values: Values


@dataclass(frozen=True)
class Checked:
    """What Terraform said: its exit code, all it printed, and what it would have made."""

    returncode: int
    output: str

    @cached_property
    def runs(self) -> dict[str, str]:
        """How each run of the tests ended."""
        return {
            str(message["@testrun"]): str(message["test_run"]["status"])
            for message in self._messages("test_run")
            if message["test_run"]["progress"] == "complete"
        }

    @cached_property
    def complaints(self) -> str:
        """What went wrong, in Terraform's words."""
        return "\n".join(
            f"{each['diagnostic']['summary']}: {each['diagnostic']['detail']}"
            for each in self._messages("diagnostic")
        )

    @cached_property
    def resources(self) -> list[Resource]:
        """Everything of the first run, which applies."""
        for message in self._messages("test_state"):
            return list(_resources(message["test_state"]["root_module"]))
        raise AssertionError(self.output[-4000:])

    def of(self, kind: str, name: str | None = None) -> list[Resource]:
        """Give the resources of a type, without its google_."""
        return [
            each
            for each in self.resources
            if each.type == f"google_{kind}" and name in (None, each.name)
        ]

    def _messages(self, kind: str) -> Iterator[Values]:
        for line in self.output.splitlines():
            if line.startswith("{"):
                message: Values = json.loads(line)
                if message.get("type") == kind:
                    yield message


def check(work: Path) -> Checked:
    """Have fmt, validate and test run on a copy; skip the test where nothing can run them."""
    if not shutil.which("terraform"):
        pytest.skip("terraform is not installed: terraform/ is not checked")
    environment = os.environ | {
        "TF_CLI_ARGS_test": "-json -verbose",
        "TF_IN_AUTOMATION": "1",
        "CHECKPOINT_DISABLE": "1",
    }
    folder = os.environ.get(_OFFLINE_VARIABLE) or paths.ROOT.parent / "shared/terraform-offline"
    offline = Path(folder) / "check.sh"
    if offline.exists():
        return _run(environment, paths.ROOT, str(offline), str(FOLDER))
    copy = work / "terraform"
    shutil.copytree(FOLDER, copy, ignore=shutil.ignore_patterns(".terraform"))
    found = _run(environment, copy, "terraform", "init", "-backend=false", "-input=false")
    if found.returncode:
        pytest.skip(f"no registry, and no {offline}: terraform/ is not checked")
    steps = (["fmt", "-check", "-recursive", "-diff"], ["validate", "-no-color"], ["test"])
    for step in steps:
        found = _run(environment, copy, "terraform", *step)
        if found.returncode:
            break
    return found


def _run(environment: dict[str, str], folder: Path, *command: str) -> Checked:
    done = subprocess.run(
        command,
        cwd=folder,
        env=environment,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        check=False,
    )
    return Checked(done.returncode, done.stdout)


def _resources(module: Values, key: str = "") -> Iterator[Resource]:
    for each in module.get("resources", ()):
        if each["mode"] == "managed":
            yield Resource(each["type"], each["name"], str(each.get("index", key)), each["values"])
    for child in module.get("child_modules", ()):
        # module.function["credits"] → credits
        yield from _resources(child, child["address"].partition('["')[2].removesuffix('"]'))
