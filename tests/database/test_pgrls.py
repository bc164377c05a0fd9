"""What another linter of row-level security thinks of the database (https://pgrls.dev)."""

import json
import subprocess
from fnmatch import fnmatch
from typing import LiteralString

import psycopg
import pytest

from infra.local import paths, template
from infra.local.template import Database

# What it finds and we do not follow: (rule, objects), and why. Each must be found.
_EXCEPTIONS = {
    ("PERF003", "billing.spaces.readers"): "the same for each row, so it is asked once a query",
    ("SEC005", "billing.features.readers"): "a catalogue: whoever reads anything reads it",
    ("SEC005", "billing.plan_entitlements.readers"): "a catalogue: whoever reads anything reads it",
    ("SEC002", "billing.*"): "the owner is who functions of api run as",
    ("SEC007", "billing.*"): "a table has one policy, so there is nothing to combine it with",
    ("SEC009", "billing.*"): "nobody reads these but the functions of api",
    ("SEC013", "billing.*_append_only"): "the trigger only raises",
    ("SEC013", "billing.*_no_truncate"): "the trigger only raises",
    ("SEC013", "billing.organizations.organizations_usage_counters"): "counters of another plan",
    (
        "SEC013",
        "billing.usage_events.usage_events_reviewed_are_folded",
    ): "it sums up what was rated",
    ("SEC013", "billing.members.members_passports"): "whoever removes a member revokes passports",
    ("SEC013", "billing.members.members_pause_without_owner"): "and the card, if no owner is left",
    ("SEC013", "billing.members.members_void_invitations"): "and their invitations",
    ("SEC014", "api.*"): "the door: its grants say who may",
    ("SEC014", "billing.readable"): "policies ask it; it reads nothing but its reader's own claims",
    ("SEC014", "billing.pause_without_owner"): "a trigger: nobody calls it",
    ("SEC014", "billing.revoke_passports"): "a trigger: nobody calls it",
    ("SEC014", "billing.void_invitations"): "a trigger: nobody calls it",
    ("SEC014", "billing.usage_folded_to"): "how far events are summed up is no secret",
    ("SEC014", "billing.user_email"): "views show it only beside rows their reader sees anyway",
    ("SEC016", "postgres"): "Supabase's own role",
    ("SEC016", "service_role"): "Supabase's own role",
    ("SEC022", "billing.*"): "nobody writes but the functions of api",
    ("SEC027", "billing.members"): "members of an organization see each other",
    ("SEC027", "billing.passports"): "members of an organization see each other's",
    ("SEC029", "authenticator"): "Supabase's own role",
    ("VIEW001", "ops.*"): "operators' views: nobody but the owner has any right there",
    ("VIEW002", "*"): "policies guard the rows; what a view leaves out its reader may see anyway",
}


def _pgrls(database: Database, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [
            *[str(paths.VENV / "bin" / "pgrls"), *arguments],
            *["--database-url", database.owner_url, "--schemas", "api,billing,ops"],
        ],
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
    )


def _lint(database: Database) -> list[tuple[str, str]]:
    """Ask for everything that it finds: (rule, object)."""
    found = _pgrls(database, "lint", "--format", "json")
    return [(each["rule_id"], each["location"]) for each in json.loads(found.stdout)["violations"]]


def _exception(rule: str, subject: str) -> tuple[str, str] | None:
    return next((e for e in _EXCEPTIONS if e[0] == rule and fnmatch(subject, e[1])), None)


def test_it_finds_nothing_new(migrated: Database) -> None:
    found = {_exception(*finding) or finding for finding in _lint(migrated)}
    assert found == _EXCEPTIONS.keys()


# What it proves (Z3) instead of looking for patterns. That a policy keeps tenants apart it cannot
# decide where, as here, a function says which organizations are whose: in these modes it only
# refutes. Other tests try that, with every role.
_PROOFS = {
    "anon": [],
    "cross-tenant": [],
    "write": ["--strict"],
    "escalation": ["--strict"],
    "reachability": ["--strict"],
}


def _is_proved(database: Database, mode: str) -> bool:
    return _pgrls(database, "verify", "--mode", mode, *_PROOFS[mode]).returncode == 0


@pytest.mark.parametrize("mode", _PROOFS)
def test_it_proves(migrated: Database, mode: str) -> None:
    assert _is_proved(migrated, mode)


@pytest.mark.parametrize(
    ("mode", "mistake"),
    [
        ("anon", "create policy mistake on billing.plans for select to anon using (true)"),
        ("write", "create policy mistake on billing.plans for update to anon using (true)"),
        (
            "reachability",
            "create view api.mistake as select * from billing.plans;"
            " grant select on api.mistake to anon",
        ),
    ],
)
def test_it_sees_a_mistake(mode: str, mistake: LiteralString) -> None:
    with template.clone(sandbox=False) as database:
        with psycopg.connect(database.owner_url, autocommit=True) as owner:
            owner.execute(mistake)
        assert not _is_proved(database, mode)
        assert [subject for _, subject in _lint(database) if "mistake" in subject] != []
