"""What is left of a model's accuracy if an attacker may choose, image by image, among all attacks that were run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from safedl.evaluation.statistics import wilson


@dataclass(frozen=True)
class WorstCase:
    """One model under several attacks at once.

    `defense`: its name and own parameters, None for the undefended model; `images`: how many test images all of
    `attacks` were tried on; `accuracy`: share of them that withstood every attack, with the 95 % interval `low` to
    `high`; `by_class`: the same within each class; `single`: accuracy under each attack alone, on these images.
    """

    defense: str | None
    params: Mapping[str, Any]
    seed: int
    attacks: tuple[str, ...]
    images: int
    accuracy: float
    low: float
    high: float
    by_class: Mapping[str, float]
    single: Mapping[str, float]
    runs: tuple[str, ...] = field(default=())


def worst_cases(documents: Sequence[Mapping[str, Any]]) -> tuple[WorstCase, ...]:
    """Return the worst case of each model that at least two attacks were run against.

    `documents`: results of evasion runs (`result.json`). Runs belong to one model if they share seed, defense and the
    defense's parameters; an attack that was run twice counts with its last run.
    """
    models: dict[tuple[Any, ...], dict[str, Mapping[str, Any]]] = {}
    for document in documents:
        if document.get("category") == "evasion" and "attacked_indices" in document:
            params = document["params"] if document["defense"] else {}
            key = (document["seed"], document["defense"] or "", sorted((k, repr(v)) for k, v in params.items()))
            models.setdefault((key[0], key[1], tuple(key[2])), {})[document["attack"]] = document
    found = [_worst(list(runs.values())) for runs in models.values() if len(runs) > 1]
    return tuple(sorted((w for w in found if w.images), key=lambda w: (w.seed, w.defense or "")))


def _worst(runs: Sequence[Mapping[str, Any]]) -> WorstCase:
    shared = set.intersection(*(set(r["attacked_indices"]) for r in runs))
    robust = [set(r["robust_indices"]) & shared for r in runs]
    held = set.intersection(*robust)
    first = runs[0]
    label = dict(zip(first["attacked_indices"], first["attacked_labels"], strict=True))
    names = first["class_names"]
    members = {name: {i for i in shared if label[i] == c} for c, name in enumerate(names)}
    low, high = wilson(len(held), len(shared)) if shared else (0.0, 1.0)
    return WorstCase(
        defense=first["defense"],
        params=first["params"] if first["defense"] else {},
        seed=first["seed"],
        attacks=tuple(r["attack"] for r in runs),
        images=len(shared),
        accuracy=len(held) / max(1, len(shared)),
        low=low,
        high=high,
        by_class={name: len(held & of) / len(of) for name, of in members.items() if of},
        single={r["attack"]: len(kept) / max(1, len(shared)) for r, kept in zip(runs, robust, strict=True)},
        runs=tuple(r["uid"] for r in runs),
    )
