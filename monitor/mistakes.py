"""What is wrong with a document, in words: each mistake with its place, what was found and what was wanted."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from difflib import get_close_matches
from types import UnionType
from typing import Annotated, Any, Final, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError

from monitor.errors import Problem

_LENGTH: Final = 100
"""Of a value that is repeated, so that what is said of it can be seen."""

_PLAIN: Final = {"tuple_type": "wanted a list", "path_type": "wanted a path, as text"}


def mistakes(error: ValidationError, root: type[BaseModel], prefix: str = "") -> list[Problem]:
    """What a validation found, each with its place; root: the model of the whole document."""
    found = []
    details = error.errors(include_url=False, include_context=False)
    for detail in details:
        if detail["type"] == "too_short" and any(_lies_in(other["loc"], detail["loc"]) for other in details):
            continue  # items with a mistake were not counted
        where = prefix + "".join(f"[{p}]" if isinstance(p, int) else f".{p}" for p in detail["loc"])
        message = _PLAIN.get(
            detail["type"], detail["msg"].removeprefix("Value error, ").replace("Input should", "should")
        )
        if detail["type"] == "extra_forbidden":
            names = _keys_at(root, detail["loc"][:-1])
            message = "unknown key" + nearest(str(detail["loc"][-1]), names)
        elif detail["type"] == "missing":
            message = "is required and absent"
        elif not isinstance(detail["input"], dict | list):
            message = f"found {_shown(detail['input'])}: {message}"
        found.append(Problem(where.lstrip(".") or "file", message))
    return found


def _lies_in(inner: Sequence[int | str], outer: Sequence[int | str]) -> bool:
    return len(inner) > len(outer) and inner[: len(outer)] == outer


def _shown(value: object) -> str:
    words = repr(value)
    return words if len(words) <= _LENGTH else f"{words[:_LENGTH]} ..."


def _keys_at(root: Any, location: Sequence[int | str]) -> list[str]:
    """The keys that may stand in the table at this location, none where there is no table."""
    for part in location:
        root = next(filter(None, (_inside(each, part) for each in _parts(root))), None)
    return [key for table in _parts(root) if hasattr(table, "model_fields") for key in table.model_fields]


def _parts(annotation: Any) -> Iterator[Any]:
    """What a type may be, one by one."""
    if get_origin(annotation) in {Annotated, Union, UnionType}:
        for inner in get_args(annotation):
            yield from _parts(inner)
    else:
        yield annotation


def _inside(annotation: Any, part: int | str) -> Any:
    """The type of what stands under a key of a table or a mapping, or at a place of a sequence."""
    if hasattr(annotation, "model_fields"):
        field = annotation.model_fields.get(part)
        return None if field is None else field.annotation
    inner = get_args(annotation)
    return inner[-1 if isinstance(part, str) else 0] if inner else None


def nearest(word: str, names: Iterable[str]) -> str:
    """What to say after a name that is not known: the one that was probably meant, or all there are."""
    names = sorted(names)
    close = get_close_matches(word, names, n=1)
    return f"; did you mean {close[0]!r}?" if close else f"; known: {', '.join(names)}" if names else ""
