"""`expand[]=data.payment_intent`: objects in place of their ids."""

from collections.abc import Callable, Sequence
from copy import deepcopy

from infra.local.cloud.store import Document
from infra.local.cloud.stripe_objects import StripeError

Find = Callable[[str], Document | None]


def expand(body: Document, paths: object, find: Find) -> Document:
    """Give the body with the objects that the paths lead to."""
    if not isinstance(paths, list):
        raise StripeError(400, "Invalid array", param="expand")
    expanded = deepcopy(body)
    for path in paths:
        _follow(expanded, path.split("."), path, find)
    return expanded


def _follow(node: object, steps: Sequence[str], path: str, find: Find) -> None:
    if isinstance(node, list):
        for each in node:
            _follow(each, steps, path, find)
        return
    first, *rest = steps
    if not isinstance(node, dict) or first not in node:
        raise _cannot_be_expanded(path)
    if isinstance(node[first], str):
        node[first] = find(node[first])
        if node[first] is None:
            raise _cannot_be_expanded(path)
    if rest and node[first] is not None:
        _follow(node[first], rest, path, find)


def _cannot_be_expanded(path: str) -> StripeError:
    message = f"This property cannot be expanded ({path})."
    return StripeError(400, message, param="expand", executed=True)
