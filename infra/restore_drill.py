"""Restore a backup to the second before an accident, and prove that the books agree.

A database with a write-ahead log that is archived, as a project with point-in-time recovery has it.
While sessions are started, stopped and charged, a base backup is taken; later somebody drops the
ledger. A second cluster is made of the backup and the archive, up to the moment before. Nothing may
be missing in it, nothing later be in it, every balance be what it was, and `verify` find nothing.
"""

import os
import shutil
import subprocess
import sys
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Event, Thread
from time import monotonic, sleep
from typing import Any
from uuid import uuid4

import psycopg
from psycopg.types.json import Jsonb

from infra.bench.stage import passport_hash, populate
from infra.local import migrate, paths
from infra.local.layout import Secrets
from infra.local.postgres import DURABLE, SUPERUSER, Cluster, execute, fetch
from infra.local.progress import RefusalError, run, say, step
from infra.local.template import free_port, unused_name
from infra.verify import differences

SIZE_VARIABLE = "FAREGATE_DRILL_ORGANIZATIONS"
_DATABASE = "faregate"
_WRITERS = 2
# Sessions of a writer at a time.
_RUNNING = 500
_POINT = "before_the_accident"
_ACCIDENT = "drop schema billing cascade"
# What a restored database must have in common with the lost one, whatever tables there will be.
_BOOKS = """
select
    (select jsonb_object_agg(w.organization_id, to_jsonb(w)) from billing.wallets as w),
    (select jsonb_agg(to_jsonb(g) order by g.organization_id, g.id) from billing.grants as g),
    (select jsonb_agg(to_jsonb(h) order by h.organization_id, h.id) from billing.holds as h),
    (select jsonb_build_array(
        count(*), md5(string_agg(t::text, '' order by t.organization_id, t.sequence))
    ) from billing.transfers as t)
"""


@dataclass(frozen=True)
class Outcome:
    """What a drill found and how long it took."""

    transfers: int
    differences: int
    is_equal: bool
    backup_bytes: int
    log_bytes: int
    backup_seconds: float
    restore_seconds: float
    verify_seconds: float


def drill(organizations: int, seconds: float) -> Outcome:
    """Write for so many seconds before and after the backup, then lose and restore everything."""
    paths.LOGS.mkdir(parents=True, exist_ok=True)
    with unused_name("drill") as name, _cluster(f"{name}-lost") as lost:
        archive, backup = (lost.data.with_name(f"{name}-{part}") for part in ("archive", "backup"))
        for folder in (archive, backup):
            shutil.rmtree(folder, ignore_errors=True)
        try:
            with step(f"database with {organizations:,} customers"):
                _make_folder(archive, lost.data)
                lost.settings = {
                    **DURABLE,
                    "archive_mode": "on",
                    "archive_command": f"cp %p {archive}/%f",
                    "wal_level": "replica",
                }
                lost.start()
                migrate.create(lost, _DATABASE)
                migrate.push(lost, _DATABASE, sandbox=False)
                with psycopg.connect(lost.url(migrate.OWNER, _DATABASE)) as owner:
                    populate(owner, organizations, organizations)
            with _writers(lost, organizations):
                sleep(seconds)
                with step("base backup, while sessions are charged"):
                    began = monotonic()
                    _back_up(lost, backup)
                    backup_seconds = monotonic() - began
                sleep(seconds)
            before = _books(lost)
            with step("accident"):
                superuser = lost.url(SUPERUSER, _DATABASE)
                execute(superuser, f"select pg_create_restore_point('{_POINT}')", _ACCIDENT)
                _await_archive(superuser)
                lost.stop()
            began = monotonic()
            with _cluster(f"{name}-restored", backup) as restored:
                with step("restore"):
                    restored.settings = {**DURABLE, **_recovery(archive)}
                    restored.start()
                    _await_end_of_recovery(restored)
                    restore_seconds = monotonic() - began
                with step("verify"):
                    began = monotonic()
                    found = differences(restored.url(migrate.OWNER, _DATABASE))
                    verify_seconds = monotonic() - began
                after = _books(restored)
            return Outcome(
                transfers=after[3][0],
                differences=len(found),
                is_equal=before == after,
                backup_bytes=_size(backup),
                log_bytes=_size(archive),
                backup_seconds=backup_seconds,
                restore_seconds=restore_seconds,
                verify_seconds=verify_seconds,
            )
        finally:
            for folder in (archive, backup):
                shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _cluster(name: str, backup: Path | None = None) -> Iterator[Cluster]:
    """Give a cluster made anew or of a backup, not started; nothing of it is left."""
    cluster = Cluster(name, free_port(), Secrets.load().database_password)
    shutil.rmtree(cluster.data, ignore_errors=True)
    if backup:
        _copy(backup, cluster.data)
        _owned_file(cluster.data / "recovery.signal", b"")
    else:
        cluster.initialise()
    try:
        yield cluster
    finally:
        cluster.stop()
        shutil.rmtree(cluster.data, ignore_errors=True)


@contextmanager
def _writers(cluster: Cluster, organizations: int) -> Iterator[None]:
    """Start and stop sessions until the block ends, each by one call as a function does."""
    ended, failures = Event(), list[BaseException]()

    def write(number: int) -> None:
        url = cluster.url(migrate.FUNCTIONS, _DATABASE)
        running = deque[tuple[Jsonb, str]]()
        try:
            with psycopg.connect(url, autocommit=True) as connection:
                while not ended.is_set():
                    caller = Jsonb({"passport_hash": passport_hash(number)})
                    running.append((caller, _start(connection, caller)))
                    if len(running) > _RUNNING:  # long enough to cost something
                        _stop(connection, *running.popleft())
                    number = (number + _WRITERS) % organizations
        except BaseException as failure:  # noqa: BLE001  told where the block ends
            failures.append(failure)

    threads = [Thread(target=write, args=[number]) for number in range(_WRITERS)]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        ended.set()
        for thread in threads:
            thread.join()
    if failures:
        raise failures[0]


def _start(connection: psycopg.Connection, caller: Jsonb) -> str:
    started = connection.execute(
        "select (session).id::text from api.start_session("
        "%s, 'small', null, null, null, null, null, %s)",
        [caller, uuid4().hex],
    ).fetchone()
    assert started  # noqa: S101  it answers a row or raises
    return str(started[0])


def _stop(connection: psycopg.Connection, caller: Jsonb, session_id: str) -> None:
    connection.execute(
        "select from api.stop_session(%s, %s, 'stopped', %s)",
        [caller, session_id, uuid4().hex],
    )


def _back_up(cluster: Cluster, backup: Path) -> None:
    """Copy the data of a running server, as pg_basebackup does, which npm's package lacks."""
    with psycopg.connect(cluster.url(SUPERUSER, "postgres"), autocommit=True) as connection:
        connection.execute("select pg_backup_start('drill', true)")
        _copy(cluster.data, backup)
        stopped = connection.execute("select labelfile from pg_backup_stop(true)").fetchone()
    for left in ("postmaster.pid", "postmaster.opts"):
        (backup / left).unlink(missing_ok=True)
    # The log comes from the archive: what was copied of it may be half written.
    for segment in (backup / "pg_wal").glob("0*"):
        segment.unlink()
    _owned_file(backup / "backup_label", str(stopped[0] if stopped else "").encode())


def _copy(source: Path, target: Path) -> None:
    """Copy a folder with its owners. Files that vanish meanwhile are no failure of a backup."""
    subprocess.run(["cp", "-a", str(source), str(target)], stderr=subprocess.DEVNULL, check=False)  # noqa: S603, S607
    if not (target / "global" / "pg_control").exists():
        raise RefusalError(f"{source} could not be copied to {target}.")


def _make_folder(folder: Path, beside: Path) -> None:
    folder.mkdir(mode=0o700)
    owner = beside.stat()
    os.chown(folder, owner.st_uid, owner.st_gid)


def _owned_file(file: Path, content: bytes) -> None:
    """Write a file that belongs to whom its folder belongs to."""
    file.write_bytes(content)
    owner = file.parent.stat()
    os.chown(file, owner.st_uid, owner.st_gid)
    file.chmod(0o600)


def _recovery(archive: Path) -> dict[str, str]:
    return {
        "restore_command": f"cp {archive}/%f %p",
        "recovery_target_name": _POINT,
        "recovery_target_action": "promote",
    }


def _await_archive(superuser: str) -> None:
    """Close the log's segment and wait until the archive has it."""
    closed = str(fetch(superuser, "select pg_walfile_name(pg_switch_wal())"))
    deadline = monotonic() + 60
    while str(fetch(superuser, "select last_archived_wal from pg_stat_archiver")) < closed:
        if monotonic() > deadline:
            raise RefusalError("the log was not archived within a minute.")
        sleep(0.05)


def _await_end_of_recovery(cluster: Cluster) -> None:
    deadline = monotonic() + 600
    while fetch(cluster.url(SUPERUSER, "postgres"), "select pg_is_in_recovery()"):
        if monotonic() > deadline:
            raise RefusalError(f"the recovery did not end; see {cluster.log}.")
        sleep(0.05)


def _books(cluster: Cluster) -> tuple[Any, ...]:
    with psycopg.connect(cluster.url(migrate.OWNER, _DATABASE)) as connection:
        found = connection.execute(_BOOKS).fetchone()
    assert found  # noqa: S101  a query without tables has a row
    return found


def _size(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())


def main() -> None:
    """Drill and tell; exit 1 when anything is not as it was."""
    organizations = int(os.environ.get(SIZE_VARIABLE, "100000"))
    outcome = drill(organizations, seconds=10)
    say(
        f"\n  {outcome.transfers:,} transfers; backup {outcome.backup_bytes / 1e6:,.0f} MB in"
        f" {outcome.backup_seconds:.1f} s, log {outcome.log_bytes / 1e6:,.0f} MB\n"
        f"  restored in {outcome.restore_seconds:.1f} s, verified in"
        f" {outcome.verify_seconds:.1f} s: {outcome.differences} differences, balances"
        f" {'equal' if outcome.is_equal else 'NOT EQUAL'}"
    )
    if outcome.differences or not outcome.is_equal:
        sys.exit(1)


if __name__ == "__main__":
    run(main)
