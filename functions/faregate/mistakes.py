"""What is wrong with a request, in the words of whoever wrote it: no type or class of ours."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

from pydantic import ValidationError

Read = TypeVar("Read")

_WORDS = {
    "model_type": "must be an object",
    "model_attributes_type": "must be an object",
    "dict_type": "must be an object",
    "too_short": "must have at least {min_length}",
    "too_long": "must have at most {max_length}",
    "union_tag_not_found": "must say {discriminator}",
    "union_tag_invalid": "{discriminator} must be one of {expected_tags}",
}


def read_each(
    given: Sequence[Any], read: Callable[[Any], Read]
) -> tuple[dict[int, Read], dict[int, str]]:
    """Part what the contract says from what it does not, by their places: with what is wrong."""
    good: dict[int, Read] = {}
    wrong: dict[int, str] = {}
    for index, each in enumerate(given):
        try:
            good[index] = read(each)
        except ValidationError as error:
            first = mistakes(error.errors(include_url=False, include_input=False), each)[0]
            wrong[index] = ": ".join(filter(None, first.values()))
        except ValueError as error:
            wrong[index] = str(error)
    return good, wrong


def mistakes(errors: Sequence[Any], document: object) -> list[dict[str, str]]:
    """Tell pydantic's errors about a document: where, by the names that it has there, and what."""
    told: dict[str, list[str]] = {}
    for error in errors:
        messages = told.setdefault(".".join(_place(error, document)), [])
        if (message := _message(error)) not in messages:
            messages.append(message)
    return [{"where": where, "message": " or ".join(each)} for where, each in told.items()]


def _place(error: Mapping[str, Any], document: object) -> list[str]:
    """Leave out what names the alternatives of a type: they are nowhere in the document."""
    here: Any = document
    place: list[str] = []
    is_there = True
    for step in error["loc"]:
        inside = range(len(here)) if isinstance(here, list) else here
        is_there = isinstance(inside, Mapping | range) and step in inside
        if is_there:
            here = here[step]
            place.append(str(step))
    # Nor is what is missing.
    if error["type"] == "missing" and not is_there:
        place.append(str(error["loc"][-1]))
    return place


def _message(error: Mapping[str, Any]) -> str:
    words = _WORDS.get(error["type"], "{msg}")
    return words.format(msg=error["msg"].removeprefix("Value error, "), **error.get("ctx", {}))
