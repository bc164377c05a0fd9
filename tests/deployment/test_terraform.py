"""terraform/ is valid, gives each function what it needs and no more, and README.md says so."""

import ast
import inspect
import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from anyio.from_thread import BlockingPortal

from faregate import settings
from faregate.function import FUNCTIONS
from infra.local import paths
from infra.local.cloud.app import DAILY_SCHEDULES, HOURLY_SCHEDULES, SCHEDULES
from infra.openapi import PLACEHOLDERS, document
from tests.contract.test_settings import EXAMPLE, NEEDED
from tests.deployment import access_table
from tests.deployment.terraforming import FOLDER, Checked, Resource, check
from tests.harness.client import load

KINDS = {"endpoints": "public", "schedules": "schedule", "tasks": "task"}
CLOUD_NAMES = {name.replace("_", "-"): KINDS[kind] for name, kind in FUNCTIONS.items()}

# What a secret's value may be that Terraform never sees.
SECRETS = PLACEHOLDERS | {"S3_ENDPOINTS": "{}", "SUPABASE_JWT_SECRET": "x" * 32}

# Checks whole files without a cloud. A tool of its own: what it needs would pin half of ours.
CHECKOV = "checkov==3.3.30"
SKIPPED = {
    "CKV_GCP_62": "the source bucket's readers and writers are in the audit log",
    "CKV_GCP_73": "no Java here, and no Log4j",
    "CKV_GCP_84": "images hold nothing secret: Google's own encryption is enough",
}


@pytest.fixture(scope="module")
def checked(tmp_path_factory: pytest.TempPathFactory) -> Checked:
    """Give what Terraform says of itself."""
    return check(tmp_path_factory.mktemp("terraform"))


@pytest.fixture(scope="module")
def services(checked: Checked) -> dict[str, Resource]:
    """Give the services by name."""
    return {each.values["name"]: each for each in checked.of("cloud_run_v2_service")}


def _environment(service: Resource) -> dict[str, str | None]:
    """Give a service's environment; None: a secret."""
    (container,) = service.values["template"][0]["containers"]
    return {
        each["name"]: None if each["value_source"] else each["value"] for each in container["env"]
    }


def test_it_is_well_formed_valid_and_passes_its_own_tests(checked: Checked) -> None:
    assert checked.returncode == 0, checked.complaints or checked.output[-4000:]
    assert checked.runs
    assert set(checked.runs.values()) == {"pass"}


def test_the_provider_is_of_one_exact_version_everywhere() -> None:
    files = sorted(FOLDER.rglob("versions.tf"))
    versions = {
        version
        for file in files
        for version in re.findall(r'hashicorp/google"\n +version = "(.*?)"', file.read_text())
    }
    assert len(files) == 3
    assert len(versions) == 1
    assert re.fullmatch(r"\d+\.\d+\.\d+", versions.pop())


# ---- the table of functions ---------------------------------------------------------------------


def test_the_table_has_each_function_and_its_kind() -> None:
    table = (FOLDER / "functions.tf").read_text().partition("  table = {")[2]
    rows = re.findall(r'^    ([a-z-]+) = \{\n      kind += "(\w+)"', table, re.MULTILINE)
    assert dict(rows) == CLOUD_NAMES
    assert len(rows) == len(CLOUD_NAMES)


def test_each_function_is_a_service_that_loads_it_from_the_one_image(
    services: dict[str, Resource],
) -> None:
    targets = {name: _environment(each)["FUNCTION_TARGET"] for name, each in services.items()}
    assert targets == {name: name.replace("-", "_") for name in CLOUD_NAMES}
    images = {each.values["template"][0]["containers"][0]["image"] for each in services.values()}
    assert len(images) == 1


# ---- settings -----------------------------------------------------------------------------------


@pytest.fixture
def groups(monkeypatch: pytest.MonkeyPatch) -> list[type[settings.Settings]]:
    """Give the groups of settings that are read from now on."""
    read: list[type[settings.Settings]] = []
    for _, group in inspect.getmembers(settings, inspect.isclass):
        if issubclass(group, settings.Settings):

            def init(self: settings.Settings, group: type[settings.Settings] = group) -> None:
                read.append(group)
                super(settings.Settings, self).__init__()

            monkeypatch.setattr(group, "__init__", init)
    return read


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_function_starts_with_what_it_is_given_and_reads_all_of_it(
    portal: BlockingPortal,
    services: dict[str, Resource],
    groups: list[type[settings.Settings]],
    name: str,
) -> None:
    given = _environment(services[name.replace("_", "-")])
    filled = {
        setting: SECRETS[setting] if value is None else value for setting, value in given.items()
    }
    del filled["FUNCTION_TARGET"]
    with load(portal, name, filled):
        pass
    read = {field.upper() for group in groups for field in group.model_fields}
    assert set(filled) <= read
    assert set(NEEDED[name]) <= set(filled)


def test_secrets_and_only_secrets_come_from_secret_manager(services: dict[str, Resource]) -> None:
    paragraphs = re.findall(r"((?:^#.*\n)+)^([A-Z0-9_]+)=", EXAMPLE, re.MULTILINE)
    secret = {
        name
        for comment, name in paragraphs
        if re.search(r"[Aa] secret[.,]|secrets\.$", comment, re.MULTILINE)
    }
    assert {"DATABASE_URL", "STRIPE_SECRET_KEY", "S3_ENDPOINTS"} <= secret
    for name, service in services.items():
        for setting, value in _environment(service).items():
            assert (value is None) == (setting in secret), f"{name}: {setting}"


def test_a_queue_is_told_by_those_who_have_its_settings(
    checked: Checked, services: dict[str, Resource]
) -> None:
    told = {
        name.replace("_", "-"): {
            topic.replace("_", "-") for topic in _topics(f"faregate.{kind}.{name}")
        }
        for name, kind in FUNCTIONS.items()
    }
    accounts = access_table.accounts(checked)
    allowed: dict[str, set[str]] = {name: set() for name in services}
    for each in checked.of("cloud_tasks_queue_iam_member"):
        allowed[accounts[each.values["member"]].removeprefix("fg-")].add(each.values["name"])
    assert allowed == told


def _topics(module: str) -> Iterator[str]:
    """Give the topics whose queues a function tells."""
    if topics := getattr(import_module(module), "TOPICS", None):
        yield from topics
    for node in ast.walk(ast.parse(inspect.getsource(import_module(module)))):
        told = isinstance(node, ast.Call) and ast.unparse(node.func) in {"tell", "enqueue"}
        named = isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "topics"
        if told or named:
            words = (each.value for each in ast.walk(node) if isinstance(each, ast.Constant))
            yield from (word for word in words if isinstance(word, str))


# ---- addresses ----------------------------------------------------------------------------------


def _addresses() -> dict[str, str]:
    """Give each address, with something in the place of its parameters, and whose it is."""
    return {
        re.sub(r"\{\w+\}", "01936f00-0000-7000-8000-000000000000", route.path): name.replace(
            "_", "-"
        )
        for name, kind in FUNCTIONS.items()
        for route in import_module(f"faregate.{kind}.{name}").router.routes
    }


def _matches(template: str, path: str) -> bool:
    """Match as the load balancer does: * is one segment, ** any number of them."""
    pattern = re.escape(template).replace(r"\*\*", ".*").replace(r"\*", "[^/]+")
    return re.fullmatch(pattern, path) is not None


def test_each_address_leads_to_the_function_that_serves_it(checked: Checked) -> None:
    backends = {each.values["id"]: each.key for each in checked.of("compute_backend_service")}
    (front,) = checked.of("compute_url_map", "front")
    (matcher,) = front.values["path_matcher"]
    rules = [
        (rule["match_rules"][0]["path_template_match"], backends[rule["service"]])
        for rule in sorted(matcher["route_rules"], key=lambda rule: rule["priority"])
    ]
    led = {
        path: next((name for template, name in rules if _matches(template, path)), None)
        for path in _addresses()
    }
    assert led == {
        path: name if CLOUD_NAMES[name] == "public" else None for path, name in _addresses().items()
    }
    used = {template for template, _ in rules if any(_matches(template, path) for path in led)}
    assert used == {template for template, _ in rules}


def test_jobs_and_queues_call_addresses_that_there_are(checked: Checked) -> None:
    called = {
        "/" + each.values["http_target"][0]["uri"].split("/", 3)[3]
        for each in checked.of("cloud_scheduler_job")
    } | {
        each.values["http_target"][0]["uri_override"][0]["path_override"][0]["path"]
        for each in checked.of("cloud_tasks_queue")
    }
    assert called == {
        path
        for path, methods in document()["paths"].items()
        if "/v1/" not in path and "post" in methods
    }


def test_jobs_come_as_often_as_on_the_laptop(checked: Checked) -> None:
    period = {
        **dict.fromkeys(SCHEDULES, r"\* \* \* \* \*"),
        **dict.fromkeys(HOURLY_SCHEDULES, r"\d+ \* \* \* \*"),
        **dict.fromkeys(DAILY_SCHEDULES, r"\d+ \d+ \* \* \*"),
    }
    jobs = {
        each.values["name"]: each.values["schedule"] for each in checked.of("cloud_scheduler_job")
    }
    assert set(jobs) == set(period)
    for name, schedule in jobs.items():
        assert re.fullmatch(period[name], schedule), name


def test_somebody_answers_those_who_ask_how_it_is(checked: Checked, portal: BlockingPortal) -> None:
    (uptime,) = checked.of("monitoring_uptime_check_config")
    asked = {uptime.values["http_check"][0]["path"]} | {
        probe["http_get"][0]["path"]
        for each in checked.of("cloud_run_v2_service")
        for probe in each.values["template"][0]["containers"][0]["startup_probe"]
    }
    environment = {setting: PLACEHOLDERS[setting] for setting in NEEDED["organizations"]}
    with load(portal, "organizations", environment) as function:
        for path in asked:
            assert function.get(path).status_code == 503, "there is no database here"


# ---- who may do what ----------------------------------------------------------------------------


def test_readme_tells_which_identity_may_do_what(checked: Checked) -> None:
    readme = (FOLDER / "README.md").read_text()
    for table in access_table.tables(checked):
        assert table in readme, f"terraform/README.md should have:\n{table}"


def test_nobody_may_everything(checked: Checked) -> None:
    bindings = [each for each in checked.resources if "_iam_" in each.type]
    broad = re.compile(r"roles/(owner|editor|viewer)|.*[aA]dmin")
    for each in bindings:
        assert not broad.fullmatch(each.values.get("role", "")), each
        # A binding or policy as a whole would take away what others have.
        assert each.type.endswith(("_iam_member", "_iam_custom_role", "_iam_audit_config")), each


def test_everybody_is_let_into_public_functions_and_nowhere_else(checked: Checked) -> None:
    open_to_all = {
        (each.type, each.key)
        for each in checked.resources
        if {"allUsers", "allAuthenticatedUsers"} & {each.values.get("member")}
    }
    public = {name for name, kind in CLOUD_NAMES.items() if kind == "public"}
    assert open_to_all == {("google_cloud_run_v2_service_iam_member", name) for name in public}


def test_no_bucket_is_public_and_no_bucket_passes_for_a_customers(checked: Checked) -> None:
    buckets = [each.values for each in checked.of("storage_bucket")]
    assert buckets
    for bucket in buckets:
        assert bucket["uniform_bucket_level_access"] is True
        assert bucket["public_access_prevention"] == "enforced"
        assert not bucket["name"].startswith("fg-")


def test_roles_for_customers_resources_fit_the_names_that_sql_draws() -> None:
    migrations = "".join(file.read_text() for file in paths.SUPABASE.glob("migrations/*.sql"))
    assert (
        "constraint storage_resource_name_is_ours check (resource_name ~ '^fg-[0-9a-f]{32}$')"
        in (migrations)
    )
    assert r"startsWith(\"projects/_/buckets/fg-\")" in (FOLDER / "customers.tf").read_text()


# ---- what is watched ----------------------------------------------------------------------------


def test_metrics_are_made_of_what_functions_log(checked: Checked) -> None:
    metrics = [each.values for each in checked.of("logging_metric")]
    wanted = {
        field
        for each in metrics
        for field in re.findall(
            r"jsonPayload\.(\w+)", f"{each['filter']} {each['value_extractor']}"
        )
    }
    function = (paths.ROOT / "functions/faregate/function.py").read_text()
    report = (paths.ROOT / "functions/faregate/schedules/report_health.py").read_text()
    logged = set(re.findall(r"^\s+(\w+)=", function, re.MULTILINE)) | set(
        re.findall(r"^    (\w+): ", report, re.MULTILINE)
    )
    assert wanted - {"message"} <= logged
    assert 'log("INFO", "health"' in report


@pytest.mark.parametrize(
    ("status", "counted"),
    [
        (200, set()),
        (400, {"refusals"}),
        (413, {"refusals"}),
        (500, {"failures"}),
        (503, {"failures"}),
    ],
)
def test_what_anybody_can_send_is_not_counted_as_a_failure_of_stripes(
    checked: Checked, status: int, counted: set[str]
) -> None:
    filters = {
        each.key.removeprefix("webhook_"): each.values["filter"]
        for each in checked.of("logging_metric", "counted")
        if each.key.startswith("webhook_")
    }
    assert set(filters) == {"failures", "refusals"}
    assert counted == {
        name
        for name, text in filters.items()
        if all(
            status >= int(limit) if sign == ">=" else status < int(limit)
            for sign, limit in re.findall(r"[sS]tatus(>=|<)(\d+)", text)
        )
    }


# ---- environments -------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["staging", "production"])
def test_an_environment_says_all_that_has_no_default(
    name: str, services: dict[str, Resource]
) -> None:
    variables = _variables(FOLDER / "variables.tf")
    required = {name for name, body in variables.items() if "\n  default " not in body}
    text = (FOLDER / f"environments/{name}.tfvars").read_text()
    values = dict(re.findall(r"^(\w+) += (\S+)", text, re.MULTILINE))
    assert required - {"image"} <= set(values) <= set(variables)
    instances = sum(
        each.values["template"][0]["scaling"][0]["max_instance_count"] for each in services.values()
    )
    assert f"{instances} instances" in (FOLDER / "README.md").read_text()
    assert instances * int(values["database_pool_size"]) <= int(values["pooler_clients_max"])


def test_every_variable_is_described_and_typed() -> None:
    for file in FOLDER.rglob("variables.tf"):
        for name, body in _variables(file).items():
            assert "\n  description = " in body, f"{file}: {name}"
            assert "\n  type        = " in body, f"{file}: {name}"
            assert "\n  nullable    = false" in body or "Null:" in body, f"{file}: {name}"


def _variables(file: Path) -> dict[str, str]:
    """Give the variables that a file declares, and how."""
    return dict(re.findall(r'(?ms)^variable "(\w+)" \{(\n.*?)^\}', file.read_text()))


# ---- a second opinion ---------------------------------------------------------------------------


def test_checkov_finds_nothing_but_what_is_skipped_for_a_reason() -> None:
    uvx = shutil.which("uvx", path=f"{paths.VENV / 'bin'}:{os.environ['PATH']}")
    assert uvx, "uv is one of the development dependencies"
    command = [uvx, "--quiet", "--from", CHECKOV, "checkov"]
    ready = subprocess.run([*command, "--version"], capture_output=True, text=True, check=False)
    if ready.returncode:
        pytest.skip(f"{CHECKOV} cannot be installed here: {ready.stderr[-300:]}")
    done = subprocess.run(
        [
            *[*command, "--directory", str(FOLDER), "--framework", "terraform"],
            *["--skip-download", "--output", "json", "--compact", "--quiet"],
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    report: Mapping[str, Any] = json.loads(done.stdout)
    assert report["summary"]["parsing_errors"] == 0
    assert report["summary"]["resource_count"] > 50
    found = {each["check_id"] for each in report["results"]["failed_checks"]}
    assert found == set(SKIPPED), [
        (each["check_id"], each["check_name"], each["resource"])
        for each in report["results"]["failed_checks"]
    ]
