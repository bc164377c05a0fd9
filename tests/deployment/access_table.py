"""terraform/README.md's tables of who may do what, written from the bindings of a deployment."""

from collections import defaultdict

from tests.deployment.terraforming import Checked, Resource

_NOTHING = "–"
# Who is told of in the text, because all functions have it.
_EVERYBODYS_SECRET = "database-url"


def accounts(checked: Checked) -> dict[str, str]:
    """Give the accounts' ids by whatever bindings call them."""
    return {
        each.values[name]: each.values["account_id"]
        for each in checked.of("service_account")
        for name in ("member", "email", "name")
    }


def tables(checked: Checked) -> list[str]:
    """Give the tables. Each binding is in one of them, or this fails."""
    ids, roles = accounts(checked), _roles(checked)
    rows: dict[str, dict[str, set[str]]] = defaultdict(lambda: defaultdict(set))
    others: list[list[str]] = []
    for each in checked.resources:
        if not each.type.endswith("_iam_member"):
            continue
        kind = each.type.removeprefix("google_").removesuffix("_iam_member")
        member, role = str(each.values["member"]), str(each.values["role"])
        member, role = ids.get(member, member), roles.get(role, role.removeprefix("roles/"))
        match kind, role:
            case "cloud_run_v2_service", "run.invoker":
                rows[f"fg-{each.key}"]["callers"].add(member)
            case "secret_manager_secret", "secretmanager.secretAccessor":
                rows[member]["secrets"].add(each.values["secret_id"])
            case "cloud_tasks_queue", "cloudtasks.enqueuer":
                rows[member]["queues"].add(each.values["name"])
            case "project", _ if each.name == "customers" and member.startswith("fg-"):
                rows[member]["roles"].add(role)
            case _:
                others.append([member, role, _place(each, ids)])
    return [_functions(rows), _others(others), _custom_roles(checked)]


def _functions(rows: dict[str, dict[str, set[str]]]) -> str:
    callers = {
        "allUsers": "everybody, through the front",
        "faregate-scheduler": "`faregate-scheduler`",
        "faregate-tasks": "`faregate-tasks`",
    }
    alike: dict[tuple[int, str, str, str], set[str]] = defaultdict(set)
    for identity, row in rows.items():
        (caller,) = row["callers"]
        assert _EVERYBODYS_SECRET in row["secrets"], identity
        secrets = row["secrets"] - {_EVERYBODYS_SECRET}
        order = list(callers).index(caller)
        alike[order, _words(secrets), _words(row["queues"]), _words(row["roles"])].add(identity)
    cells = [
        [list(callers.values())[order], _words(identities), *rest]
        for (order, *rest), identities in sorted(
            alike.items(), key=lambda each: (each[0][0], _words(each[1]))
        )
    ]
    return _table(
        ["who may call", "the function", "reads secrets", "enqueues for", "customers' resources"],
        cells,
    )


def _others(others: list[list[str]]) -> str:
    gathered: dict[tuple[str, str], list[str]] = defaultdict(list)
    for member, role, place in others:
        gathered[role, place].append(member)
    cells = [
        [_words(set(members)), f"`{role}`", place] for (role, place), members in gathered.items()
    ]
    return _table(["identity", "role", "on"], sorted(cells))


def _custom_roles(checked: Checked) -> str:
    conditions = {
        each.values["role"]: each.values["condition"][0]["expression"]
        for each in checked.of("project_iam_member")
        if each.values["condition"]
    }
    cells = [
        [
            f"`{each.values['role_id'].removeprefix('faregate_')}`",
            _words(set(each.values["permissions"])),
            f"`{conditions[each.values['name']]}`"
            if each.values["name"] in conditions
            else _NOTHING,
        ]
        for each in checked.of("project_iam_custom_role")
    ]
    return _table(["role", "permissions", "only where"], sorted(cells))


def _roles(checked: Checked) -> dict[str, str]:
    return {
        each.values["name"]: each.values["role_id"].removeprefix("faregate_")
        for each in checked.of("project_iam_custom_role")
    }


def _place(binding: Resource, ids: dict[str, str]) -> str:
    values = binding.values
    match binding.type.removeprefix("google_").removesuffix("_iam_member"):
        case "service_account":
            return f"the account `{ids[values['service_account_id']]}`"
        case "storage_bucket":
            is_archive = binding.name == "usage_archive"
            return f"the bucket of {'archived usage' if is_archive else 'sources'}"
        case "artifact_registry_repository":
            return "the repository of images"
        case "project":
            return "the customers' project" if binding.name == "customers" else "the project"
        case other:
            raise AssertionError(f"README.md has no place for {other}")


def _words(names: set[str]) -> str:
    return ", ".join(f"`{name}`" for name in sorted(names)) or _NOTHING


def _table(head: list[str], rows: list[list[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)
