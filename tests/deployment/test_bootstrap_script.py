"""infra/bootstrap.sh: a project becomes ready, and again nothing is made anew; no key is."""

import re

import pytest

from infra.local import paths
from tests.deployment.commands import Commands

SCRIPT = "infra/bootstrap.sh"
DEPLOYER = "faregate-deployer@acme-billing.iam.gserviceaccount.com"
ENVIRONMENT = {
    "REGION": "europe-west1",
    "GITHUB_REPOSITORY_ID": "123456",
    "GITHUB_ENVIRONMENT": "production",
}


@pytest.fixture
def project(commands: Commands) -> Commands:
    """Give a project in which nothing is yet."""
    commands.answer("projects describe", "123456789")
    return commands


def _made(project: Commands) -> list[str]:
    return [line for line in project.lines() if re.search(r" create(-oidc)? ", line)]


def test_an_empty_project_gets_everything(project: Commands) -> None:
    project.fail(" describe (?!acme-billing)")
    done = project.run([SCRIPT], environment=ENVIRONMENT)
    assert done.returncode == 0, done.stderr
    assert [" ".join(line.split()[1:4]) for line in _made(project)] == [
        "storage buckets create",
        "iam service-accounts create",
        "iam roles create",
        "iam roles create",
        "iam roles create",
        "iam workload-identity-pools create",
        "iam workload-identity-pools providers",
    ]
    assert DEPLOYER in done.stdout
    assert "locations/global/workloadIdentityPools/github/providers/github" in done.stdout


def test_what_functions_are_told_to_call_is_enabled(project: Commands) -> None:
    project.run([SCRIPT], environment=ENVIRONMENT)
    (enabled,) = project.lines("services enable")
    settings = (paths.ROOT / "terraform" / "settings.tf").read_text()
    called = set(re.findall(r"https://(\w+\.googleapis\.com)", settings))
    assert "telemetry.googleapis.com" in called
    assert called <= set(enabled.split())


def test_again_nothing_is_made(project: Commands) -> None:
    done = project.run([SCRIPT], environment=ENVIRONMENT)
    assert done.returncode == 0, done.stderr
    assert _made(project) == []
    # What somebody changed by hand is as it should be again.
    assert project.lines("storage buckets update")
    assert project.lines("iam roles update")
    assert project.lines("providers update-oidc")


def test_the_state_is_private_and_kept_in_versions(project: Commands) -> None:
    project.run([SCRIPT], environment=ENVIRONMENT)
    (update,) = project.lines("storage buckets update")
    for flag in ("--versioning", "--public-access-prevention", "--uniform-bucket-level-access"):
        assert flag in update.split()


def _is_trusted(condition: str, claims: dict[str, str]) -> bool:
    """Evaluate a condition of claims that must all be equal to something."""
    terms = [re.fullmatch(r"assertion\.(\w+) == '(.*)'", term) for term in condition.split(" && ")]
    return all(term and claims.get(term[1]) == term[2] for term in terms)


def test_only_the_main_branch_of_one_repository_in_one_environment_is_trusted(
    project: Commands,
) -> None:
    project.run([SCRIPT], environment=ENVIRONMENT)
    (provider,) = project.lines("providers update-oidc")
    condition = provider.partition("--attribute-condition=")[2]
    claims = {
        **{"repository": "acme/faregate", "repository_id": "123456", "ref": "refs/heads/main"},
        "environment": "production",
    }
    assert _is_trusted(condition, claims)
    assert _is_trusted(condition, claims | {"repository": "acme/renamed"})
    for other in (
        {"repository_id": "654321"},  # the old name, under a new owner
        {"environment": "staging"},
        {"ref": "refs/heads/mine"},
    ):
        assert not _is_trusted(condition, claims | other), other
    del claims["environment"]  # a job that waits for no reviewer
    assert not _is_trusted(condition, claims)
    assert "attribute.repository_id=assertion.repository_id" in provider
    (binding,) = project.lines("workloadIdentityUser")
    assert binding.endswith("/attribute.repository_id/123456")


def test_the_deployer_is_no_owner_and_reads_no_secret(project: Commands) -> None:
    project.run([SCRIPT], environment=ENVIRONMENT)
    roles = {role for role, _ in _grants(project, "acme-billing")}
    assert len(roles) > 10
    assert roles.isdisjoint(
        {
            "roles/owner",
            "roles/editor",
            "roles/secretmanager.admin",
            "roles/storage.admin",
            "roles/iam.serviceAccountKeyAdmin",
        }
    )
    (secrets,) = project.lines("iam roles update faregateSecretKeeper")
    assert "secretmanager.versions.access" not in secrets


def _grants(project: Commands, where: str) -> list[tuple[str, str]]:
    """Give the deployer's roles in a project and their conditions."""
    bindings = project.lines(f"gcloud projects add-iam-policy-binding {where} ")
    found = [re.search(r"--role=(\S+) --condition=(.*)", line) for line in bindings]
    assert all(found)
    return [(match[1], match[2]) for match in found if match]


@pytest.mark.parametrize(
    ("name", "kept", "read"),
    [
        ("acme-billing-terraform-state", False, True),
        ("acme-billing-faregate-source", True, True),
        ("acme-billing-faregate-usage", True, False),
        ("fg-0123456789abcdef0123456789abcdef", False, False),
        ("somebody-elses", False, False),
    ],
)
def test_the_deployer_keeps_the_platforms_buckets_and_never_reads_a_customers(
    project: Commands, name: str, kept: bool, read: bool
) -> None:
    project.run([SCRIPT], environment=ENVIRONMENT)
    permissions = {
        f"projects/acme-billing/roles/{match[1]}": match[2].split(",")
        for line in project.lines("iam roles update")
        if (match := re.search(r"update (\w+) .*--permissions=(\S+)", line))
    } | {"roles/storage.objectUser": ["storage.objects.get"]}
    allowed = {
        permission
        for role, condition in _grants(project, "acme-billing")
        if "storage" in role or role in permissions
        if condition == "None"
        or any(
            f"projects/_/buckets/{name}/objects/some".startswith(prefix)
            for prefix in re.findall(r"resource\.name\.startsWith\('(.*?)'\)", condition)
        )
        for permission in permissions[role]
    }
    assert ("storage.buckets.setIamPolicy" in allowed) == kept
    assert ("storage.objects.get" in allowed) == read
    assert "storage.buckets.create" in allowed  # it is asked of the project


def test_the_project_of_customers_resources_is_prepared_where_there_is_one(
    project: Commands,
) -> None:
    for same in ({}, {"CUSTOMERS_PROJECT": "acme-billing"}):
        project.run([SCRIPT], environment={**ENVIRONMENT, **same})
        assert len(project.lines("services enable")) == len(project.lines("projects describe"))
    done = project.run([SCRIPT], environment={**ENVIRONMENT, "CUSTOMERS_PROJECT": "acme-customers"})
    assert done.returncode == 0, done.stderr
    (enabled,) = [line for line in project.lines("services enable") if "acme-customers" in line]
    for api in ("file", "iam", "storage"):
        assert f"{api}.googleapis.com" in enabled.split()
    # It says who may what there, and has nothing there itself.
    assert {role for role, _ in _grants(project, "acme-customers")} == {
        "roles/iam.roleAdmin",
        "roles/resourcemanager.projectIamAdmin",
    }


def test_no_key_is_ever_made(project: Commands) -> None:
    project.fail(" describe (?!acme-billing)")
    project.run([SCRIPT], environment=ENVIRONMENT)
    assert [line for line in project.lines() if "keys" in line] == []


def test_the_budget_is_the_deployers_where_its_account_is_named(project: Commands) -> None:
    done = project.run([SCRIPT], environment=ENVIRONMENT)
    assert project.lines("gcloud billing") == []
    assert "needs BILLING_ACCOUNT" in done.stdout
    account = {"BILLING_ACCOUNT": "01ABCD-2EF345-6789AB"}
    project.run([SCRIPT], environment={**ENVIRONMENT, **account})
    (granted,) = project.lines("gcloud billing")
    assert "roles/billing.costsManager" in granted


@pytest.mark.parametrize(
    "changes",
    [
        {"GITHUB_REPOSITORY_ID": ""},
        {"REGION": ""},
        {"GITHUB_ENVIRONMENT": ""},
        {"GITHUB_REPOSITORY_ID": "acme/faregate"},
        {"GITHUB_REPOSITORY_ID": "1' || true || '"},
        {"GITHUB_ENVIRONMENT": "elsewhere"},
    ],
    ids=["no repository", "no region", "no environment", "a name", "more than a number", "unknown"],
)
def test_what_is_missing_or_wrong_is_asked_first(
    project: Commands, changes: dict[str, str]
) -> None:
    done = project.run([SCRIPT], environment={**ENVIRONMENT, **changes})
    assert done.returncode != 0
    assert project.calls == []


def test_whatever_is_asked_tells_how_to(project: Commands) -> None:
    done = project.run([SCRIPT, "--help"], environment=ENVIRONMENT)
    assert done.returncode == 2
    assert "GITHUB_REPOSITORY_ID=…" in done.stderr
    assert project.calls == []


def test_whatever_fails_ends_it(project: Commands) -> None:
    project.fail("services enable")
    assert project.run([SCRIPT], environment=ENVIRONMENT).returncode != 0
    assert project.lines("buckets") == []
