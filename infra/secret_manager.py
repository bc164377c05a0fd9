"""Secret Manager for scripts that make a secret themselves: infra/secrets.sh does it."""

import subprocess

from infra.local import paths
from infra.local.progress import RefusalError

_SCRIPT = paths.ROOT / "infra" / "secrets.sh"


def has(secret: str) -> bool:
    """Tell whether a secret has a value."""
    done = subprocess.run(  # noqa: S603
        [_SCRIPT, "has", secret], capture_output=True, text=True, check=False
    )
    # Not to know is no reason to make another one.
    if done.returncode not in (0, 1):
        raise RefusalError(done.stderr.strip())
    return done.returncode == 0


def put(secret: str, value: str) -> None:
    """Add a value as the newest version; it travels through a pipe."""
    done = subprocess.run(  # noqa: S603
        [_SCRIPT, "put", secret], input=value, capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        raise RefusalError(f"{secret} could not be stored: {done.stderr.strip()}")
