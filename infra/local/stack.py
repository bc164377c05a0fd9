"""The running stack as others see it: its addresses and keys, and how to have one."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from time import sleep

import httpx
from pydantic import BaseModel, ConfigDict, ValidationError

from infra.local import children, paths

FILE = paths.STATE / "stack.json"


class Stack(BaseModel):
    """What `.local/stack.json` says."""

    model_config = ConfigDict(frozen=True)

    api_url: str
    rest_url: str
    auth_url: str
    supabase_url: str
    database_url: str
    functions_database_url: str
    publishable_key: str
    secret_key: str
    stripe_url: str
    stripe_secret_key: str
    stripe_webhook_secret: str
    admin_passport: str
    tasks_url: str
    google_url: str
    gcs_url: str
    s3_url: str
    filestore_url: str
    iam_url: str
    jwks_url: str
    pid: int


def running_stack() -> Stack | None:
    """Find the stack that runs in this checkout and answers."""
    try:
        stack = Stack.model_validate_json(FILE.read_bytes())
        answer = httpx.get(f"{stack.api_url}/healthz", timeout=5, trust_env=False)
    except (OSError, ValidationError, httpx.HTTPError):
        return None
    return stack if answer.is_success else None


@contextmanager
def stack() -> Iterator[Stack]:
    """Give the running stack; when none runs, start one for as long as it is needed."""
    found = running_stack()
    if found is not None:
        yield found
        return
    environment = {**os.environ, "PYTHONPATH": f"{paths.ROOT}:{paths.ROOT / 'functions'}"}
    supervisor = subprocess.Popen(
        [sys.executable, "-m", "infra.local.up", "--quiet"],
        cwd=paths.ROOT,
        env=environment,
        preexec_fn=children.die_with_parent(),  # noqa: PLW1509 - no thread has started yet
    )
    try:
        while (found := running_stack()) is None:
            if supervisor.poll() is not None:
                sys.exit(supervisor.returncode or 1)  # it has said why
            sleep(0.05)
        yield found
    finally:
        supervisor.send_signal(signal.SIGTERM)
        supervisor.wait()
