"""What is wrong with a profile: where, what is there, what is allowed, and the nearest valid name."""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from safedl.catalog import parameter_table
from safedl.errors import UsageError, nearest

SHOWN_AT_MOST = 20
_EXPLAINED = ("_type", "_parsing", "than", "than_equal", "_float")
"""Ends of the kinds of error (pydantic) that the words of a parameter's row explain."""
Model = TypeVar("Model", bound=BaseModel)


@dataclass(frozen=True)
class Problem:
    """One thing that must be mended. `path` is the key path (`training.epochs`), `message` one sentence."""

    path: str
    message: str


class ProfileError(UsageError):
    """A profile that cannot be used. Its text has one line per problem, each naming the file."""

    def __init__(self, origin: str, problems: list[Problem]) -> None:
        lines = [f"{origin}: {p.path}: {p.message}" for p in problems[:SHOWN_AT_MOST]]
        if len(problems) > SHOWN_AT_MOST:
            lines.append(f"{origin}: and {len(problems) - SHOWN_AT_MOST} more problems")
        super().__init__("\n".join(lines))
        self.problems = tuple(problems)


def quoted(value: object) -> str:
    """Return a value as it is shown in a message: short, text in quotes."""
    text = "null" if value is None else str(value).lower() if isinstance(value, bool) else repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def mapping(value: object, path: str, problems: list[Problem]) -> dict[str, Any]:
    """Return a section's mapping with text keys; nothing there counts as empty, anything else is a problem."""
    if value is None:
        return {}
    if isinstance(value, Mapping):
        return {str(key): item for key, item in value.items()}
    problems.append(Problem(path, f"{quoted(value)} is not allowed; it must be a mapping (key: value)"))
    return {}


def validate(
    model: type[Model],
    values: Mapping[str, Any],
    path: str,
    problems: list[Problem],
    *,
    what: str,
    others: Mapping[str, type[BaseModel]],
    context: Mapping[str, Any] | None = None,
) -> Model | None:
    """Return `values` as a checked `model`, or None after adding everything that is wrong to `problems`.

    `what` names the owner of the keys in messages (`parameter of pruning`); `others` are owners that a misplaced
    key may belong to.
    """
    rows = _rows(model)
    found: dict[str, Problem] = {}
    for key, value in values.items():
        place, reason = f"{path}.{key}", _not_plain(value)
        if not reason and isinstance(value, bool) and key in rows and rows[key]["type"] != "boolean":
            reason = _not_allowed(value, rows[key])  # pydantic takes `true` for the number 1
        if reason:
            found[place] = Problem(place, reason)
    try:
        result = model.model_validate(dict(values), context=dict(context or {}))
    except ValidationError as error:
        for detail in error.errors(include_url=False):
            problem = _problem(model, rows, detail, path, what, others)
            found.setdefault(problem.path, problem)
    problems.extend(found.values())
    return None if found else result


@functools.cache
def _rows(model: type[BaseModel]) -> dict[str, dict[str, Any]]:
    """Return the rows of `parameter_table` by name; making them takes milliseconds."""
    return {row["name"]: row for row in parameter_table(model)}


def _problem(
    model: type[BaseModel],
    rows: Mapping[str, Mapping[str, Any]],
    detail: ErrorDetails,
    path: str,
    what: str,
    others: Mapping[str, type[BaseModel]],
) -> Problem:
    key, *rest = [str(part) for part in detail["loc"]] or [""]
    kind, value = detail["type"], detail["input"]
    place = f"{path}.{key}".removesuffix(".")
    if kind == "extra_forbidden":
        return Problem(place, _unknown_key(key, model, what, others))
    if kind == "missing":  # a list that is too short; pydantic names the place that is empty
        return Problem(place, _not_allowed(value, rows[key]))
    if not rest and (kind in ("literal_error", "string_too_short") or kind.endswith(_EXPLAINED)):
        return Problem(place, _not_allowed(value, rows[key]))
    place += "".join(f"[{part}]" for part in rest if part.isdigit())
    reason = detail["msg"].removeprefix("Value error, ").replace("Input should", "it should")
    return Problem(place, f"{quoted(value)} is not allowed; {reason}")


def _unknown_key(key: str, model: type[BaseModel], what: str, others: Mapping[str, type[BaseModel]]) -> str:
    owners = [name for name, other in others.items() if key in other.model_fields and other is not model]
    belongs = f" ({', '.join(owners)} {'has' if len(owners) == 1 else 'have'} it)" if owners else ""
    return f"unknown {what}{belongs}.{nearest(key, model.model_fields)} Known: {', '.join(model.model_fields)}"


def _not_allowed(value: object, row: Mapping[str, Any]) -> str:
    hint = nearest(value, map(str, row["choices"])) if row["choices"] and isinstance(value, str) else ""
    return f"{quoted(value)} is not allowed; it must be {allowed(row)}.{hint}"


def allowed(row: Mapping[str, Any]) -> str:
    """Return what a parameter (a row of `parameter_table`) may be, in words."""
    if row["choices"]:
        text = f"one of {', '.join(map(str, row['choices']))}" if len(row["choices"]) > 1 else str(row["choices"][0])
    elif row["type"] in ("integer", "number"):
        text = ("a whole number" if row["type"] == "integer" else "a number") + _range(row)
    else:
        text = {"boolean": "true or false", "array": "a list", "object": "a mapping"}.get(row["type"], "text")
        text += f" ({row['description'].removesuffix('.')})" if row["description"] else ""
    return f"{text}, or null" if row["nullable"] else text


def _range(row: Mapping[str, Any]) -> str:
    low, high = row["minimum"], row["maximum"]
    if low is not None and high is not None and not row["open_minimum"] and not row["open_maximum"]:
        return f" from {_plain(low)} to {_plain(high)}"
    parts = []
    if low is not None:
        parts.append(f"above {_plain(low)}" if row["open_minimum"] else f"from {_plain(low)} up")
    if high is not None:
        parts.append(f"below {_plain(high)}" if row["open_maximum"] else f"at most {_plain(high)}")
    return f" {' and '.join(parts)}" if parts else ""


def _plain(value: float) -> str:
    """Return a bound as people write it: no exponent for whole numbers."""
    return f"{value:.0f}" if float(value).is_integer() else f"{value:g}"


def _not_plain(value: object) -> str:
    """Say why a value cannot stand in a plan: it holds NaN, an infinity, or a key that is no text. Empty if it can."""
    if isinstance(value, float) and not math.isfinite(value):
        return f"{value} is not allowed; it must be a finite number"
    if isinstance(value, Mapping):
        wrong = [f"the key {quoted(key)} is not text; put it in quotes" for key in value if not isinstance(key, str)]
        return next((reason for reason in (*wrong, *map(_not_plain, value.values())) if reason), "")
    if isinstance(value, list | tuple):
        return next((reason for reason in map(_not_plain, value) if reason), "")
    return ""
