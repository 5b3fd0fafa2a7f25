"""The language that narrows a list of runs: `attack:static status:completed acc>0.9 -model:cnn words`.

A term is
- `field:text`: the field contains the text, without regard to case; `field:a,b` means either. Of `seed` and `attempt`
  it is the whole number;
- `metric>0.9` (also `>=`, `<`, `<=`, `=`): a final metric, by its name or an abbreviation (`acc`, `asr`, `robust` ...);
- any other text: contained in the run's uid, stage, attack, defense, data set, model, state or error.
A `-` in front turns a term round; terms must all hold; quotation marks keep spaces together.
"""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, and_, func, or_, select
from sqlmodel import col

from safedl.errors import UsageError, nearest
from safedl.store.models import Metric, Run

FIELDS = (
    "attack", "dataset", "defense", "detector", "device", "error", "host", "kind", "model", "seed", "attempt",
    "stage", "status", "threat", "uid",
)  # fmt: skip
NUMBERS = ("seed", "attempt")
TEXT = ("uid", "stage", "attack", "defense", "dataset", "model", "status", "error")
"""Where a term without a field is looked for."""
FIELD_NAMES = {"data": "dataset", "state": "status", "category": "threat", "run": "uid"}
STATES = {"done": "completed", "waiting": "queued"}
METRICS = {
    "acc": "clean_accuracy", "accuracy": "clean_accuracy", "robust": "robust_accuracy",
    "adversarial": "adversarial_accuracy", "epsilon": "epsilon_spent", "memory": "memory_mb",
    "score": "score.final", "cad": "score.cad", "cost": "score.cost", "mitigation": "score.mitigation",
}  # fmt: skip
"""Abbreviations of metrics' names; every metric may also be named in full."""

_COMPARISON = re.compile(r"([A-Za-z_][\w.]*)(>=|<=|>|<|=)(.*)", re.DOTALL)


@dataclass(frozen=True)
class Term:
    """One condition. `field` is one of `FIELDS`, a metric's name, or empty for text anywhere.

    `operator` is `:` for fields and text, else a comparison of a metric with the one number in `values`.
    """

    field: str
    operator: str
    values: tuple[str, ...]
    negated: bool = False


def parse(text: str) -> list[Term]:
    """Return the terms of a filter. Raises `UsageError` that names the term which is wrong."""
    try:
        words = shlex.split(text)
    except ValueError as error:
        raise UsageError(f"filter: a quotation mark is not closed in {text!r}") from error
    return [_term(word) for word in words]


def _term(word: str) -> Term:
    negated = word.startswith("-") and len(word) > 1
    body = word[1:] if negated else word
    field, colon, value = body.partition(":")
    compared = _COMPARISON.fullmatch(body)
    if colon and not (compared and len(compared[1]) < len(field)):
        return Term(_field(field.lower(), word), ":", _values(field.lower(), value, word), negated)
    if compared is None:
        return Term("", ":", (body,), negated)
    name, operator, number = compared.groups()
    try:
        float(number)
    except ValueError as error:
        raise UsageError(f"filter: {word}: '{number}' is no number; write for example acc>0.9") from error
    return Term(METRICS.get(name.lower(), name), operator, (number,), negated)


def _field(name: str, word: str) -> str:
    name = FIELD_NAMES.get(name, name)
    if name not in FIELDS:
        known = ", ".join(FIELDS)
        raise UsageError(f"filter: {word}: there is no field '{name}'; there are {known}.{nearest(name, FIELDS)}")
    return name


def _values(field: str, value: str, word: str) -> tuple[str, ...]:
    values = tuple(part for part in value.split(",") if part)
    field = FIELD_NAMES.get(field, field)
    if not values:
        raise UsageError(f"filter: {word}: what should '{field}' contain? Write for example {field}:1")
    if field in NUMBERS and not all(part.isdecimal() and len(part) < 19 for part in values):
        raise UsageError(f"filter: {word}: '{field}' is a whole number")
    return tuple(STATES.get(part, part) for part in values) if field == "status" else values


def conditions(text: str) -> list[ColumnElement[bool]]:
    """Return what a filter asks of the table of runs; all values are bound. Raises `UsageError`."""
    return [_condition(term) for term in parse(text)]


def _condition(term: Term) -> ColumnElement[bool]:
    if term.operator != ":":
        found = _metric_condition(term)
    elif term.field in NUMBERS:
        found = col(getattr(Run, term.field)).in_([int(value) for value in term.values])
    else:
        columns = [term.field] if term.field else TEXT
        # SQLite's LIKE knows no case. A row without a value does not contain the text, so that `-` finds it.
        contained = (col(getattr(Run, c)).contains(value, autoescape=True) for c in columns for value in term.values)
        found = func.coalesce(or_(*contained), False)
    return ~found if term.negated else found


def _metric_condition(term: Term) -> ColumnElement[bool]:
    value, number = col(Metric.value), float(term.values[0])
    holds = {
        ">": value > number, ">=": value >= number, "<": value < number, "<=": value <= number, "=": value == number,
    }[term.operator]  # fmt: skip
    return select(Metric).where(and_(col(Metric.run_id) == col(Run.id), col(Metric.name) == term.field, holds)).exists()


def order(name: str, *, descending: bool) -> list[Any]:
    """Return the order of runs by `when`, a field or a metric; rows without a value come last, then the newest first.

    Raises `UsageError` for an unknown name only if it cannot be a metric's.
    """
    newest = col(Run.id).desc()
    if name == "when":
        return [newest if descending else col(Run.id).asc()]
    field = FIELD_NAMES.get(name, name)
    if field in FIELDS:
        value: Any = col(getattr(Run, field))
    elif re.fullmatch(r"[\w.]+", name):
        metric = METRICS.get(name, name)
        value = (
            select(col(Metric.value))
            .where(col(Metric.run_id) == col(Run.id), col(Metric.name) == metric)
            .scalar_subquery()
        )
    else:
        raise UsageError(f"cannot sort by {name!r}; sort by when, a metric, or one of {', '.join(FIELDS)}")
    return [value.is_(None), value.desc() if descending else value.asc(), newest]
