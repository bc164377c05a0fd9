"""Stripe's request bodies: `line_items[0][price_data][currency]=usd` as nested values."""

import re
from collections.abc import Iterable
from typing import Any

_KEY = re.compile(r"^([^\[\]]+)((?:\[[^\[\]]*\])*)$")


class MalformedKeyError(ValueError):
    """A key whose brackets make no sense."""


def decode(pairs: Iterable[tuple[str, str]]) -> dict[str, Any]:
    """Nest the pairs of a form; what is keyed 0, 1, 2 … becomes a list."""
    tree: dict[str, Any] = {}
    for key, value in pairs:
        match = _KEY.match(key)
        if match is None:
            raise MalformedKeyError(key)
        path = [match[1], *re.findall(r"\[([^\[\]]*)\]", match[2])]
        node = tree
        for step in path[:-1]:
            node = node.setdefault(step, {})
            if not isinstance(node, dict):
                raise MalformedKeyError(key)
        # `expand[]=a&expand[]=b` counts by itself.
        node[path[-1] or str(len(node))] = value
    return {key: _with_lists(value) for key, value in tree.items()}


def _with_lists(node: object) -> object:
    if not isinstance(node, dict):
        return node
    values = {key: _with_lists(value) for key, value in node.items()}
    if values and list(values) == [str(index) for index in range(len(values))]:
        return list(values.values())
    return values
