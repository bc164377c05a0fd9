"""infra/deploy.sh: each step after the other, nothing after a step that failed, and back again."""

import re
from pathlib import Path
from subprocess import CompletedProcess

import pytest

from infra import supabase_project
from infra.local import paths
from tests.deployment.commands import Commands

IMAGES = "europe-west1-docker.pkg.dev/acme-billing/faregate"
BEFORE = f"{IMAGES}/functions@sha256:{'a' * 64}"
NEW = f"{IMAGES}/functions@sha256:{'b' * 64}"
HASH = "0123456789abcdef0123456789abcdef"
SECRETS = {
    "SUPABASE_ACCESS_TOKEN": "sbp_s3cret",
    "SUPABASE_DB_PASSWORD": "s3cret-password",
    "SMTP_PASSWORD": "s3cret-mails",
}
ENVIRONMENT = {
    **SECRETS,
    "SUPABASE_PROJECT_REF": "abcdefghijklmnopqrst",
    "SUPABASE_AUTH_SITE_URL": "https://app.example.com",
    "SUPABASE_AUTH_REDIRECT_URL": "https://app.example.com/invitation**",
    "SMTP_HOST": "smtp.example.com",
    "SMTP_USER": "faregate",
    "SMTP_FROM_ADDRESS": "billing@example.com",
    "SMTP_FROM_NAME": "Example & Sons",
    "SMOKE_TEST_PAUSE_SECONDS": "0",
}
# Only the release applies what somebody has seen.
PREPARE = "terraform -chdir=terraform apply -input=false -auto-approve"
APPLY = "terraform -chdir=terraform apply -input=false"
CONTAINER = "-target=module.foundation.google_secret_manager_secret.this"
SECRETS_OF_THE_RELEASE = ("database-url", "s3-endpoints", "stripe-secret-key")
# What tells one step from another, in order.
STEPS = [
    "terraform -chdir=terraform init",
    "output -json",
    "output -raw image",
    "output -raw functions",
    "terraform -chdir=terraform console",
    PREPARE,
    "gcloud secrets versions list",
    "infra.build_source",
    "gcloud storage cp",
    "gcloud builds submit",
    "terraform -chdir=terraform plan",
    "supabase db push --dry-run",
    "supabase db push --project-ref",
    "supabase config push",
    "infra.supabase_project",
    APPLY,
    "api.example.com/health",
    "api.example.com/v1/credits",
    "api.example.com/v1/stripe/webhook",
    "api.example.com/schedules/sweep-sessions",
]


class Deployment:
    """A checkout whose staging is deployed already, with another image."""

    def __init__(self, folder: Path, commands: Commands) -> None:
        (folder / "terraform" / "environments").mkdir(parents=True)
        (folder / "terraform" / "environments" / "staging.tfvars").write_text(
            'project = "acme-billing" # not "acme"\n'
            'region  = "europe-west1"\ndomain  = "api.example.com"\n'
        )
        for name in ("infra", "supabase"):
            (folder / name).symlink_to(paths.ROOT / name)
        self.script, self.commands = str(folder / "infra" / "deploy.sh"), commands
        commands.answer("output -raw repository", IMAGES)
        commands.answer("output -json", '{\n  "image": {\n  },\n  "functions": {\n  }\n}')
        commands.answer("output -raw image$", BEFORE)
        commands.answer("output -raw functions$", "credits sessions")
        commands.answer("output -raw source_bucket", "acme-billing-source")
        commands.answer("output -raw builder", "builder@acme-billing.iam.gserviceaccount.com")
        commands.answer("output -raw address", "203.0.113.7")
        commands.answer("infra.build_source", f".local/build/functions-{HASH}.zip")
        commands.answer("docker images describe", f"sha256:{'b' * 64}")
        self.configure_versions()
        self.configure_functions("credits sessions")
        commands.have("s3-endpoints", "stripe-secret-key")
        for path, status in {
            "/health": 200,
            "/v1/credits": 401,
            "/v1/stripe/webhook": 400,
            "/schedules/": 404,
        }.items():
            commands.answer(f"curl .*{path}", str(status))

    def has_no_image(self) -> None:
        """Have this checkout's image not be built yet. These are gcloud's words."""
        told = "ERROR: (gcloud.artifacts.docker.images.describe) Image not found."
        self.commands.fail("docker images describe", times=1, text=told)

    def configure_versions(self, **versions: str) -> None:
        """Have the checkout's functions read these versions of its secrets, else the first."""
        named = (
            f"{secret}:{versions.get(secret.replace('-', '_'), '1')}"
            for secret in SECRETS_OF_THE_RELEASE
        )
        self.commands.answers.insert(0, ("console .*secret_ids", f'"{" ".join(named)}"', 0, None))
        self.commands.answer("nothing")

    def configure_functions(self, names: str) -> None:
        """Have these functions be in the checkout's table."""
        self.commands.answers.insert(0, (r"console .*keys\(local.table", f'"{names}"', 0, None))
        self.commands.answer("nothing")

    def is_the_first(self) -> None:
        """Have nothing be deployed but what the preparation makes."""
        self.commands.answers.insert(0, ("output -json", '{\n  "address": {\n  }\n}', 0, None))
        self.commands.fail("output -raw (image|functions)$")

    def run(self, *arguments: str, **changes: str) -> CompletedProcess[str]:
        environment = {**ENVIRONMENT, "PYTHON": str(self.commands.folder / "python"), **changes}
        return self.commands.run([self.script, *arguments], environment=environment)

    @property
    def steps(self) -> list[str]:
        """Tell which of the steps were taken, in the order in which they first were."""
        found = [
            next((step for step in STEPS if re.search(re.escape(step) + r"(?!\w)", line)), None)
            for line in self.commands.lines()
        ]
        return list(dict.fromkeys(step for step in found if step))

    @property
    def applied(self) -> list[str]:
        """Tell what was applied after the preparation."""
        return self.commands.lines("terraform -chdir=terraform apply")[1:]

    @property
    def changed_the_database(self) -> bool:
        lines = self.commands.lines("supabase ") + self.commands.lines("infra.supabase_project")
        return any("--dry-run" not in line for line in lines)


@pytest.fixture
def deployment(tmp_path: Path, commands: Commands) -> Deployment:
    return Deployment(tmp_path / "checkout", commands)


def test_the_steps_follow_each_other(deployment: Deployment) -> None:
    deployment.has_no_image()
    done = deployment.run("staging")
    assert done.returncode == 0, done.stderr
    assert deployment.steps == STEPS
    (plan,) = deployment.commands.lines("terraform -chdir=terraform plan")
    assert f"-var=image={NEW}" in plan
    assert "-var-file=environments/staging.tfvars" in plan
    (apply,) = deployment.applied
    assert apply.endswith(".local/build/terraform.plan")
    assert f"staging runs {NEW}" in done.stdout


def test_the_image_is_built_once_by_its_builder(deployment: Deployment) -> None:
    deployment.has_no_image()
    assert deployment.run("staging").returncode == 0
    (copied,) = deployment.commands.lines("storage cp")
    assert copied.endswith(f"gs://acme-billing-source/functions-{HASH}.zip")
    (built,) = deployment.commands.lines("builds submit")
    assert f"_IMAGE={IMAGES}/functions:{HASH}" in built
    assert "serviceAccounts/builder@acme-billing.iam.gserviceaccount.com" in built
    assert "--gcs-source-staging-dir=gs://acme-billing-source/" in built  # where it may read


def test_the_same_functions_are_not_built_again(deployment: Deployment) -> None:
    done = deployment.run("staging")
    assert done.returncode == 0
    assert deployment.commands.lines("builds submit") == []
    assert f"-var=image={NEW}" in deployment.commands.lines("terraform -chdir=terraform plan")[0]


def test_who_cannot_ask_for_the_image_does_not_build_it(deployment: Deployment) -> None:
    told = "ERROR: (gcloud.artifacts.docker.images.describe) PERMISSION_DENIED"
    deployment.commands.fail("docker images describe", text=told)
    done = deployment.run("staging")
    assert done.returncode == 1
    assert "PERMISSION_DENIED" in done.stderr
    assert deployment.commands.lines("builds submit") == []
    assert deployment.applied == []


def test_a_dry_run_prints_every_step_and_takes_none(deployment: Deployment) -> None:
    done = deployment.run("staging", "--dry-run", **dict.fromkeys(SECRETS, ""))
    assert done.returncode == 0, done.stderr
    assert deployment.commands.calls == []
    steps = [step.replace("gcloud secrets versions list", "infra/secrets.sh") for step in STEPS]
    told = done.stdout
    for step in [*steps, "-var=image=<the image that runs now>"]:
        before, _, told = told.partition(step)
        assert told, f"{step} does not follow {before}"


def test_the_first_deployment_makes_what_the_others_find(deployment: Deployment) -> None:
    deployment.is_the_first()
    deployment.has_no_image()
    done = deployment.run("staging")
    assert done.returncode == 0
    (foundation,) = deployment.commands.lines(PREPARE)
    assert "-target=module.foundation " in foundation
    assert "-target=google_compute_global_address.front" in foundation
    assert "Set the DNS record now: api.example.com A 203.0.113.7" in done.stdout
    (everything,) = deployment.applied
    assert "-target" not in everything


def test_a_new_secret_has_a_container_before_anything_asks_for_its_value(
    deployment: Deployment,
) -> None:
    deployment.commands.have("stripe-secret-key")
    done = deployment.run("staging")
    assert done.returncode == 1
    assert done.stdout.splitlines()[-1] == "s3-endpoints:1"
    assert "PROJECT_ID=acme-billing infra/secrets.sh put ID" in done.stderr
    (made,) = deployment.commands.lines(PREPARE)
    # Each by its name: one that left the table would go, were they meant all together.
    assert re.findall(rf"{re.escape(CONTAINER)}(\S+)", made) == [
        f'["{secret}"]' for secret in SECRETS_OF_THE_RELEASE
    ]
    assert made.count("-target=") == len(SECRETS_OF_THE_RELEASE)
    assert f"-var=image={BEFORE}" in made
    assert not deployment.changed_the_database
    assert deployment.steps[-1] == "gcloud secrets versions list"


@pytest.mark.parametrize("secret", ["stripe-secret-key", "database-url"])
def test_a_version_that_is_not_there_is_named_before_anything_changes(
    deployment: Deployment, secret: str
) -> None:
    deployment.commands.have(*SECRETS_OF_THE_RELEASE)  # their first
    deployment.configure_versions(**{secret.replace("-", "_"): "2"})
    done = deployment.run("staging")
    assert done.returncode == 1
    assert done.stdout.splitlines()[-1] == f"{secret}:2"
    assert not deployment.changed_the_database
    assert deployment.applied == []


def test_what_the_script_makes_itself_is_not_asked_for() -> None:
    script = (paths.ROOT / "infra" / "deploy.sh").read_text()
    (made,) = re.findall(r"^made_later='(.*)'$", script, re.MULTILINE)
    assert made.split() == list(supabase_project.MAKERS)


@pytest.mark.parametrize(
    "broken", [step for step in STEPS[: STEPS.index(APPLY)] if "output" not in step]
)
def test_after_a_failed_step_comes_nothing(deployment: Deployment, broken: str) -> None:
    deployment.has_no_image()
    deployment.commands.fail(re.escape(broken))
    assert deployment.run("staging").returncode != 0
    assert deployment.steps == STEPS[: STEPS.index(broken) + 1]
    assert deployment.applied == []


@pytest.mark.parametrize("broken", ["terraform plan", "supabase db push --dry-run"])
def test_a_plan_that_fails_leaves_the_database_as_it_was(
    deployment: Deployment, broken: str
) -> None:
    deployment.commands.fail(broken)
    assert deployment.run("staging").returncode != 0
    assert not deployment.changed_the_database


def test_what_was_planned_before_the_migration_is_what_is_applied(deployment: Deployment) -> None:
    assert deployment.run("staging").returncode == 0
    lines = deployment.commands.lines()
    (plan,) = deployment.commands.lines("terraform -chdir=terraform plan")
    (migration,) = deployment.commands.lines("db push --project-ref")
    (apply,) = deployment.applied
    assert lines.index(plan) < lines.index(migration) < lines.index(apply)
    assert apply.split()[-1] == plan.partition("-out=")[2]


def test_missing_secrets_are_named_before_anything_is_built(deployment: Deployment) -> None:
    deployment.commands.have()
    done = deployment.run("staging")
    assert done.returncode == 1
    assert done.stdout.endswith("s3-endpoints:1\nstripe-secret-key:1\n")
    assert "infra.stripe_webhook https://api.example.com" in done.stderr
    assert deployment.steps[-1] == "gcloud secrets versions list"


@pytest.mark.parametrize(
    ("broken", "tried"),
    [
        pytest.param("chdir=terraform apply .*plan$", 1, id="it does not start"),
        pytest.param("curl .*/health", 20, id="it does not answer"),
    ],
)
def test_a_version_that_fails_is_rolled_back(
    deployment: Deployment, broken: str, tried: int
) -> None:
    deployment.commands.fail(broken, times=tried)
    done = deployment.run("staging")
    assert done.returncode == 1
    _, back = deployment.applied
    assert f"-var=image={BEFORE}" in back
    assert "-auto-approve" in back
    assert f"staging runs {BEFORE} again" in done.stderr
    assert deployment.commands.lines()[-1].endswith("/schedules/sweep-sessions")


def test_only_functions_that_the_image_before_has_go_back_to_it(deployment: Deployment) -> None:
    deployment.configure_functions("credits sessions spaces usage")  # the last two are new
    deployment.commands.fail("curl .*/health", times=20)
    assert deployment.run("staging").returncode == 1
    _, back = deployment.applied
    assert re.findall(r"-target=(\S+)", back) == [
        'module.function["credits"]',
        'module.function["sessions"]',
    ]
    assert '-var=absent=["spaces","usage"]' in back


@pytest.mark.parametrize("noted", ["credits sessions spaces", None], ids=["gone", "not noted"])
def test_what_is_not_in_the_table_is_not_named(deployment: Deployment, noted: str | None) -> None:
    deployment.configure_functions("credits sessions")
    if noted:
        deployment.commands.answers.insert(0, ("output -raw functions$", noted, 0, None))
    else:
        deployment.commands.answers.insert(0, ("output -json", '{\n  "image": {', 0, None))
    deployment.commands.fail("curl .*/health", times=20)
    assert deployment.run("staging").returncode == 1
    _, back = deployment.applied
    assert back.count("-target=") == 2
    assert "-var=absent=[]" in back


def test_a_state_that_cannot_be_read_does_not_pass_for_an_empty_one(deployment: Deployment) -> None:
    deployment.commands.fail("output -json")
    done = deployment.run("staging")
    assert done.returncode != 0
    assert "it does not work" in done.stderr
    assert deployment.steps[-1] == "output -json"


def test_who_lets_anybody_in_is_rolled_back(deployment: Deployment) -> None:
    deployment.commands.answers.insert(0, ("curl .*/v1/credits", "200", 0, 20))
    deployment.commands.answer("nothing")
    done = deployment.run("staging")
    assert done.returncode == 1
    assert "GET /v1/credits answers 200 instead of 401" in done.stderr
    assert len(deployment.applied) == 2


def test_what_is_tried_says_how_long_it_is(deployment: Deployment) -> None:
    assert deployment.run("staging").returncode == 0
    tried = deployment.commands.lines("curl ")
    assert len(tried) == 4
    for line in tried:  # Google's front answers a POST without it with 411
        assert "--header Content-Length:0" in line


def test_a_slow_start_is_no_failure(deployment: Deployment) -> None:
    deployment.commands.fail("curl .*/health", times=5)
    assert deployment.run("staging").returncode == 0
    assert len(deployment.applied) == 1


def test_the_first_deployment_has_nothing_to_go_back_to(deployment: Deployment) -> None:
    deployment.is_the_first()
    deployment.commands.fail("curl .*/health")
    done = deployment.run("staging")
    assert done.returncode == 1
    assert "nothing to go back to" in done.stderr
    assert len(deployment.applied) == 1


def test_a_failed_way_back_is_told(deployment: Deployment) -> None:
    deployment.commands.fail("terraform apply .*(plan$|-var=image=)(?!.*secret_manager)")
    done = deployment.run("staging")
    assert done.returncode == 1
    assert "rolling back failed as well" in done.stderr


def test_no_secret_is_an_argument_or_printed(deployment: Deployment) -> None:
    deployment.has_no_image()
    done = deployment.run("staging")
    everything = "".join(deployment.commands.lines()) + done.stdout + done.stderr
    assert "s3cret" not in everything


@pytest.mark.parametrize(
    "arguments", [[], ["elsewhere"], ["staging", "--dry"], ["staging", "", ""]]
)
def test_whatever_else_is_asked_tells_how_to(deployment: Deployment, arguments: list[str]) -> None:
    done = deployment.run(*arguments)
    assert done.returncode == 2
    assert "infra/deploy.sh ENVIRONMENT --dry-run" in done.stderr
    assert deployment.commands.calls == []


@pytest.mark.parametrize("setting", sorted(ENVIRONMENT.keys() - {"SMOKE_TEST_PAUSE_SECONDS"}))
def test_what_the_steps_need_is_asked_first(deployment: Deployment, setting: str) -> None:
    done = deployment.run("staging", **{setting: ""})
    assert done.returncode == 1
    assert done.stderr.endswith(f"not in the environment: {setting}\n")
    assert deployment.commands.calls == []


def test_what_it_asks_of_terraform_is_there(commands: Commands) -> None:
    terraform = paths.ROOT / "terraform"
    if not terraform.is_dir():
        pytest.skip("terraform/ is not in this checkout")
    script = (paths.ROOT / "infra" / "deploy.sh").read_text()
    outputs = (terraform / "outputs.tf").read_text()
    for name in re.findall(r"output -raw (\w+)", script):
        assert f'output "{name}" {{' in outputs
    for module in re.findall(r"-target=module\.(\w+)", script):
        assert (terraform / "modules" / module).is_dir()
    for file in (terraform / "environments").glob("*.tfvars"):
        done = commands.run([str(paths.ROOT / "infra" / "deploy.sh"), file.stem, "--dry-run"])
        assert done.returncode == 0, done.stderr
    assert commands.calls == []
