"""A public function that leaves the table: what leads to it lets go before it is deleted."""

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.deployment.terraforming import FOLDER

# What front.tf has, of parts that Terraform brings itself. %s: the lifecycle of a backend there.
_LIKENESS = """
variable "names" {
  type = set(string)
}
resource "terraform_data" "group" {
  for_each = var.names
  input    = each.key
}
resource "terraform_data" "backend" {
  for_each = var.names
  input    = terraform_data.group[each.key].id
  %s
}
resource "terraform_data" "url_map" {
  input = values(terraform_data.backend)[*].id
}
"""


def _body(kind: str, name: str) -> str:
    """Give what a resource of front.tf says."""
    front = (FOLDER / "front.tf").read_text()
    body = front.partition(f'\nresource "google_compute_{kind}" "{name}" {{\n')[2]
    assert body
    return body.partition("\n}\n")[0]


def _lifecycle(kind: str, name: str) -> str:
    block = re.search(r"^  lifecycle \{.*?^  \}", _body(kind, name), re.MULTILINE | re.DOTALL)
    return block[0] if block else ""


def _apply(folder: Path, *names: str) -> list[str]:
    """Apply, and give what was done, in order."""
    command = ["terraform", "apply", "-auto-approve", "-no-color", "-parallelism=1"]
    done = subprocess.run(
        [*command, f"-var=names={list(names)}".replace("'", '"')],
        cwd=folder,
        env=os.environ | {"CHECKPOINT_DISABLE": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    done_to = r"^terraform_data\.(\w+)\S*: (Modifications|Destruction) complete"
    return [" ".join(step) for step in re.findall(done_to, done.stdout, re.MULTILINE)]


def test_the_url_map_lets_go_before_a_backend_is_deleted(tmp_path: Path) -> None:
    if not shutil.which("terraform"):
        pytest.skip("terraform is not installed")
    (tmp_path / "main.tf").write_text(_LIKENESS % _lifecycle("backend_service", "function"))
    subprocess.run(["terraform", "init"], cwd=tmp_path, capture_output=True, check=True)
    _apply(tmp_path, "sessions", "spaces")
    assert _apply(tmp_path, "sessions") == [
        "url_map Modifications",
        "backend Destruction",
        "group Destruction",
    ]


# What a backend refers to is made before it is destroyed, too, and two services of a name there
# cannot be: one that never started could not be replaced.
def test_a_service_that_never_started_can_be_made_anew() -> None:
    for part in ("backend_service", "region_network_endpoint_group"):
        assert "module.function" not in _body(part, "function")
    assert "depends_on = [module.function]" in _body("url_map", "front")
