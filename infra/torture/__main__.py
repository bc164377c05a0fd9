"""`make torture MINUTES=10 SEED=…`: phase after phase until the time is up."""

import os
import sys
from random import Random
from secrets import token_hex
from time import monotonic

from anyio.from_thread import start_blocking_portal

from infra.local.progress import RefusalError, run, say
from infra.torture.check import Auditor
from infra.torture.client import Journal
from infra.torture.load import Crowd
from infra.torture.phases import PHASES, Scene
from infra.torture.stage import stage
from infra.torture.wallets import found

_FULL_MINUTES = 5  # from here on every phase has its full size


def main() -> None:
    """Torture, print what was done; exit 1 when anything differs."""
    minutes = _minutes()
    seed = os.environ.get("SEED") or token_hex(4)
    say(f"torture: {minutes:g} minutes, SEED={seed}")
    ends_at = monotonic() + minutes * 60
    scale = min(max(minutes / _FULL_MINUTES, 0.1), 1)
    journal, faults, differences = Journal(), 0, 0
    with start_blocking_portal() as portal, stage(portal, seed) as own:
        crowd = Crowd(portal, own, found(own), journal)
        # A small run is a test among others that want the same processors.
        auditor = Auditor(own, journal, own.cluster.log, 5 if minutes >= 1 else 30)
        number = 0
        while number == 0 or monotonic() < ends_at:
            for name, (phase, may_be_unavailable) in PHASES.items():
                if number and monotonic() > ends_at:
                    break
                began, actions, retries = monotonic(), journal.actions, journal.retries
                random = Random(f"{seed}/{number}/{name}")
                made = phase(Scene(crowd, random, 12 * scale, scale))
                ready = f", ready in {max(own.restarts):.1f} s" if own.restarts else ""
                found_now = auditor.differences(may_be_unavailable=may_be_unavailable)
                say(
                    f"  {name:18}{journal.actions - actions:8,} actions{made:7,} faults"
                    f"{journal.retries - retries:7,} retries{monotonic() - began:7.1f} s"
                    f"{len(found_now):4} differences{ready}"
                )
                for each in found_now[:20]:
                    say(f"    {each}")
                faults += made
                differences += len(found_now)
            number += 1
    say(f"{journal.actions} actions, {faults} faults, {differences} differences")
    if differences:
        sys.exit(1)


def _minutes() -> float:
    text = os.environ.get("MINUTES") or "10"
    try:
        minutes = float(text)
    except ValueError:
        minutes = 0
    if not 0 < minutes <= 24 * 60:
        raise RefusalError(f"MINUTES must be a number up to 1440, not {text!r}.")
    return minutes


if __name__ == "__main__":
    run(main)
