"""Which defenses a profile has against an attack, which are recommended, and how the two differ."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from safedl.catalog import ATTACKS, DEFENSES, AttackSpec
from safedl.catalog.defense_tags import recommended
from safedl.risk.recommend import ADVISED, Advice
from tui.services.drafts import Draft, found, place
from tui.widgets.form import value_text

Changes = dict[tuple[str, ...], Any]


@dataclass(frozen=True)
class Recommended:
    """The defenses to try first against an attack, and what is known about each that applies."""

    names: tuple[str, ...]
    reasons: Mapping[str, str]
    measured: bool
    """Whether the store says so; else it is prior knowledge."""


@dataclass(frozen=True)
class Defending:
    """What the document says about the defenses against one attack. `params`: what differs from the defaults."""

    spec: AttackSpec
    path: tuple[str, str, str]
    names: tuple[str, ...]
    params: Mapping[str, Mapping[str, Any]]

    def mode(self, advised: Recommended) -> str:
        """Return `R` for the recommendation, `A` for all that apply, `C` for anything else, `–` for nothing."""
        if not self.names:
            return "–"
        if runs_all(self, advised):
            return "A"
        return "R" if not differences(self, advised) else "C"


def recommend(attack: str, advice: Advice | None) -> Recommended:
    """Return what to try against an attack: by what was measured, else by prior knowledge."""
    tags = recommended(attack)
    if advice is None:
        return Recommended(tuple(t.defense for t in tags[:ADVISED]), {t.defense: t.reason for t in tags}, False)
    reasons = {t.defense: t.reason for t in tags}
    reasons |= {r.defense: r.reason for r in advice.recommended}
    reasons |= {r.defense: f"no help: {r.reason}" for r in advice.unhelpful}
    names = tuple(r.defense for r in advice.recommended[:ADVISED])
    return Recommended(names, reasons, any(r.evidence for r in (*advice.recommended, *advice.unhelpful)))


def defending(draft: Draft, attack: str) -> Defending:
    """Return what a profile's document says about the defenses against an attack."""
    spec = ATTACKS[attack]
    path = place(draft.document, "defense_config", spec)
    entry = found(draft.document, path)
    entry = entry if isinstance(entry, Mapping) else {}
    params = {n: dict(v) for n, v in entry.items() if n in DEFENSES and isinstance(v, Mapping) and v}
    listed = entry.get("defenses")
    names = listed if isinstance(listed, list) else [n for n in entry if n != "defenses"]
    return Defending(spec, path, tuple(n for n in names if n in DEFENSES), params)


def toggled(now: Defending, defense: str) -> Changes:
    """Return the changes that add a defense, or take it away; its parameters stay for the next time."""
    names = [n for n in now.names if n != defense] if defense in now.names else [*now.names, defense]
    return {(*now.path, "defenses"): names}


def accepted(now: Defending, advised: Recommended) -> Changes:
    """Return the changes that take the recommendation, with default parameters."""
    return {now.path: {"defenses": list(advised.names)}}


def differences(now: Defending, advised: Recommended) -> list[str]:
    """Return how a choice differs from the recommendation: `+ added`, `- left out`, `~ parameter  default → value`."""
    lines = [f"+ {name}" for name in now.names if name not in advised.names]
    lines += [f"− {name}" for name in advised.names if name not in now.names]
    for name in now.names:
        fields = DEFENSES[name].params.model_fields
        for key, value in now.params.get(name, {}).items():
            default = fields[key].default if key in fields else None
            if key not in fields or value != default:
                lines.append(f"~ {name}.{key}  {value_text(default)} → {value_text(value)}")
    return lines


def runs_all(now: Defending, advised: Recommended) -> bool:
    """Return whether a choice is that of a new profile: all that apply with default parameters, more than advised."""
    every = set(applicable(now.spec.name, advised))
    return bool(advised.names) and set(now.names) == every > set(advised.names) and not now.params


def applicable(attack: str, advised: Recommended) -> Sequence[str]:
    """Return the defenses that apply to an attack, the recommended ones first."""
    others = [t.defense for t in recommended(attack) if t.defense not in advised.names]
    return [*advised.names, *others]
