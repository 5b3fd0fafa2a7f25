"""The sections `attack_overrides` and `defense_config`: which attacks run, with which parameters, against what.

All attacks of `attack_overrides` run, and those that only `defense_config` names, with default parameters.
An attack's list `defenses` decides which defenses run; without it, every defense that has an entry does.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from safedl import catalog
from safedl.catalog import AttackSpec, Params
from safedl.errors import UsageError, nearest
from safedl.profile.problems import Problem, mapping, quoted, validate
from safedl.profile.schema import AttackChoice, DefenseChoice

_DEFENSE_NAMES = tuple(catalog.DEFENSES)
"""A tuple, so that anything a profile holds can be looked for in it."""


@dataclass(frozen=True)
class _Entry:
    """What one of the sections says about one attack, and where."""

    path: str
    values: Mapping[str, Any]


def attack_choices(
    document: Mapping[Any, Any], context: Mapping[str, Any], problems: list[Problem]
) -> tuple[AttackChoice, ...]:
    """Return what the two sections choose. What is wrong with them is added to `problems`.

    `context` holds `num_classes` and `model` as far as they are known, see `safedl.catalog.spec.Params`.
    """
    parameters = _entries(document, "attack_overrides", problems)
    defenses = _entries(document, "defense_config", problems)
    attacks = []
    specs = [catalog.ATTACKS[name] for name in dict.fromkeys([*parameters, *defenses])]
    categories = list(dict.fromkeys(spec.category for spec in specs))
    for spec in sorted(specs, key=lambda spec: categories.index(spec.category)):  # as a written profile has them
        name = spec.name
        params = _attack_params(spec, parameters.get(name), context, problems)
        chosen = _defenses(spec, defenses[name], context, problems) if name in defenses else []
        attacks.append(AttackChoice(spec, params, tuple(chosen)))
    return tuple(attacks)


def planned_attacks(document: Mapping[Any, Any]) -> tuple[str, ...]:
    """Return the attacks that a valid `document` names and that have no simulation yet."""
    sections = [_mappings(document.get(section)) for section in ("attack_overrides", "defense_config")]
    named = [attack for section in sections for attacks in section.values() for attack in _mappings(attacks)]
    return tuple(dict.fromkeys(name for name in named if name in catalog.PLANNED_ATTACKS))


def planned(document: Mapping[Any, Any]) -> tuple[str, ...]:
    """Return one line for each attack and defense of a valid `document` that has a name and no simulation yet."""
    attacks = planned_attacks(document)
    lines = dict.fromkeys(f"attack {attack}: not simulated; to be checked by hand" for attack in attacks)
    for chosen in _mappings(document.get("defense_config")).values():
        for attack, values in _mappings(chosen).items():
            named = [*_mappings(values), *(_mappings(values).get("defenses") or ())] if attack not in attacks else []
            for defense in (d for d in named if d in catalog.PLANNED_DEFENSES):
                lines[f"defense {defense} against {attack}: not available yet"] = None
    return tuple(lines)


def _mappings(values: object) -> Mapping[Any, Any]:
    return values if isinstance(values, Mapping) else {}


def _entries(document: Mapping[Any, Any], section: str, problems: list[Problem]) -> dict[str, _Entry]:
    """Return the entry of each attack in `section`, by the attack's present name."""
    entries: dict[str, _Entry] = {}
    for spelling, content in mapping(document.get(section), section, problems).items():
        path = f"{section}.{spelling}"
        try:
            category = catalog.category(spelling)
        except UsageError as error:
            problems.append(Problem(path, str(error)))
            continue
        for key, values in mapping(content, path, problems).items():
            place = f"{path}.{key}"
            name = catalog.ATTACK_NAMES.get(key)
            if category == "privacy" and key in catalog.PLANNED_ATTACKS:
                continue
            if name is None:
                known = ", ".join(catalog.ATTACKS)
                problems.append(
                    Problem(place, f"unknown attack {quoted(key)}.{nearest(key, catalog.ATTACK_NAMES)} Known: {known}")
                )
            elif (home := catalog.ATTACKS[name].category) != category:
                problems.append(Problem(place, f"{name} is no attack of {spelling}; it belongs under {home}"))
            elif name in entries:
                problems.append(Problem(place, f"{name} stands there twice, also as {entries[name].path}"))
            else:
                entries[name] = _Entry(place, mapping(values, place, problems))
    return entries


def _attack_params(
    spec: AttackSpec, entry: _Entry | None, context: Mapping[str, Any], problems: list[Problem]
) -> Params:
    """Return an attack's checked parameters; names of older profiles are understood."""
    if entry is None:
        return spec.params()
    values: dict[str, Any] = {}
    given: dict[str, str] = {}
    for key, value in entry.values.items():
        today = spec.param_aliases.get(key, key)
        if today != key and today in entry.values:
            problems.append(Problem(f"{entry.path}.{key}", f"an older name of {today}, which stands there too"))
        values[today] = value
        given[f"{entry.path}.{today}"] = f"{entry.path}.{key}"
    others = {name: other.params for name, other in catalog.ATTACKS.items()}
    what = f"parameter of {spec.name}"
    found: list[Problem] = []
    checked = validate(spec.params, values, entry.path, found, what=what, others=others, context=context)
    problems += [Problem(given.get(problem.path, problem.path), problem.message) for problem in found]
    return checked or spec.params()


def _defenses(
    spec: AttackSpec, entry: _Entry, context: Mapping[str, Any], problems: list[Problem]
) -> list[DefenseChoice]:
    """Return the defenses to run against an attack."""
    running, sections = _named_defenses(entry, problems)
    chosen = []
    others = {name: other.params for name, other in catalog.DEFENSES.items()}
    for name in dict.fromkeys([*running, *sections]):
        place = f"{entry.path}.{name}"
        defense = catalog.DEFENSES[name]
        if spec.name not in defense.applies_to:
            fitting = ", ".join(d.name for d in catalog.defenses_for(spec.name)) or "none"
            problems.append(Problem(place, f"does not apply to {spec.name}; defenses that do: {fitting}"))
        else:
            values = mapping(sections.get(name), place, problems)
            what = f"parameter of {name}"
            params = validate(defense.params, values, place, problems, what=what, others=others, context=context)
            if params is not None and name in running:
                chosen.append(DefenseChoice(defense, params))
    return chosen


def _named_defenses(entry: _Entry, problems: list[Problem]) -> tuple[list[str], dict[str, Any]]:
    """Return the known defenses that are to run, and the parameters by defense. Unknown names are problems."""
    sections = {key: value for key, value in entry.values.items() if key != "defenses"}
    listed = entry.values.get("defenses")
    if listed is not None and not isinstance(listed, list):
        reason = f"{quoted(listed)} is not allowed; it must be a list of names"
        problems.append(Problem(f"{entry.path}.defenses", reason))
        listed = None
    names = list(sections) if listed is None else listed
    for place, name in [
        *((f"{entry.path}.{key}", key) for key in sections),
        *((f"{entry.path}.defenses[{i}]", name) for i, name in enumerate(listed or [])),
    ]:
        if name not in (*_DEFENSE_NAMES, *catalog.PLANNED_DEFENSES):
            hint = nearest(str(name), _DEFENSE_NAMES)
            problems.append(Problem(place, f"unknown defense {quoted(name)}.{hint} Known: {', '.join(_DEFENSE_NAMES)}"))
    known = [name for name in dict.fromkeys(map(str, names)) if name in _DEFENSE_NAMES]
    return known, {name: values for name, values in sections.items() if name in _DEFENSE_NAMES}
