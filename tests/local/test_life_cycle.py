"""How the stack of `make up` ends: by Ctrl-C, when a part dies, and what the next start finds."""

import os
import signal
from pathlib import Path

import psycopg
import pytest

from infra.local import paths
from tests.local.laptop import Laptop, family, told_until

pytestmark = pytest.mark.skipif("sys.platform != 'linux'", reason="looks for processes in /proc")


def test_ctrl_c_leaves_nothing_behind(laptop: Laptop) -> None:
    with laptop.up() as running:
        processes = family(running.process.pid)
        assert len(processes) > 8
        assert running.end() == "\nEverything has ended.\n"
        assert laptop.has_left_nothing(set(processes))


def test_ctrl_c_during_the_start_leaves_nothing_behind(laptop: Laptop) -> None:
    process = laptop.start("infra.local.up")
    told_until("PostgREST on port", process)
    processes = family(process.pid)
    process.send_signal(signal.SIGINT)
    _, complaint = process.communicate(timeout=120)
    assert (process.returncode, complaint) == (0, "")
    assert laptop.has_left_nothing(set(processes))


@pytest.mark.parametrize(
    ("name", "mark"),
    [
        pytest.param("PostgreSQL", "bin/postgres -D", id="PostgreSQL"),
        pytest.param("gateway", "infra.local.gateway:create_app", id="gateway"),
    ],
)
def test_when_a_part_dies_everything_ends(laptop: Laptop, name: str, mark: str) -> None:
    with laptop.up() as running:
        processes = family(running.process.pid)
        (victim,) = [process for process, command in processes.items() if mark in command]
        os.kill(victim, signal.SIGKILL)
        _, complaint = running.process.communicate(timeout=120)
    log = "postgres-data" if name == "PostgreSQL" else name
    assert running.process.returncode == 1
    assert complaint == (
        f"faregate: {name} was killed by signal 9; its last words are in"
        f" {paths.shown(laptop.state)}/log/{log}.log.\n"
    )
    assert laptop.has_left_nothing(set(processes))


def test_a_database_of_other_migrations_is_made_anew(laptop: Laptop) -> None:
    """The demo brings its own stack, tells what it does, and takes everything away again."""
    with laptop.up() as before:
        assert laptop.run("infra.verify") == (0, "verify: 0 differences\n", "")
        with psycopg.connect(before.stack.database_url) as owner:
            owner.execute("""comment on database faregate is '["of another checkout"]'""")
    status, told, complaint = laptop.run("infra.demo")
    assert (status, complaint) == (0, "")
    assert told.count("  The database was made by other migrations: it is made anew, empty.\n") == 1
    assert told.rstrip().endswith("verify: 0 differences")
    passport = (laptop.state / "admin-passport").read_text()
    assert passport != before.stack.admin_passport
    assert laptop.has_left_nothing(set())


def test_everything_runs_on_the_other_way_into_the_database(laptop: Laptop) -> None:
    with laptop.up(FAREGATE_DATABASE="supabase") as running:
        assert _database_urls(running.process.pid) == {b"DATABASE_URL="}
        status, told, complaint = laptop.run("infra.demo")
    assert (status, complaint) == (0, "")
    assert told.rstrip().endswith("verify: 0 differences")
    with laptop.up() as running:
        (url,) = _database_urls(running.process.pid)
        assert url.startswith(b"DATABASE_URL=postgresql://faregate_functions:")


def _database_urls(supervisor: int) -> set[bytes]:
    """Tell which database the gateway was told of."""
    (gateway,) = [pid for pid, command in family(supervisor).items() if "local.gateway" in command]
    settings = Path(f"/proc/{gateway}/environ").read_bytes().split(b"\0")
    return {each for each in settings if each.startswith(b"DATABASE_URL=")}


def test_a_way_that_is_none_is_refused(laptop: Laptop) -> None:
    assert laptop.run("infra.local.up", FAREGATE_DATABASE="mysql") == (
        1,
        "",
        "faregate: FAREGATE_DATABASE must be one of postgres, supabase, not 'mysql'.\n",
    )


def test_verify_without_a_stack_says_so(laptop: Laptop) -> None:
    refusal = (1, "", "faregate: no stack runs here; start one with `make up`.\n")
    assert laptop.run("infra.verify") == refusal
