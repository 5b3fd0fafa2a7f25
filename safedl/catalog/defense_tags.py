"""Which defenses to try first against an attack: prior knowledge, for as long as nothing has been measured."""

from __future__ import annotations

from dataclasses import dataclass

from safedl import catalog

_PRIOR: dict[str, str] = {
    "fine_pruning": "removes units that stay silent on clean images and fine-tunes; works on the finished model",
    "activation_clustering": "poisoned images of a class form a cluster of their own; trusted images tell which",
    "spectral_signatures": "poison shows along the largest directions of a class's features",
    "anomaly_detection": "poisoned images lie far from the trusted images of their class",
    "data_cleaning": "wrong labels have a high loss under a model that has not seen them",
    "influence_functions": "poisoned images push the model away from what trusted images ask for",
    "provenance_tracking": "altered images have a high loss under the clean model; finds sources that went bad",
    "robust_loss": "limits what a wrong label can do; removes nothing and needs no trusted images",
    "dp_training": "bounds what any one image can do, at a price in accuracy",
    "pruning": "zeroes units without fine-tuning: quick, and weaker than fine_pruning",
    "adversarial_training": "withstands attackers who know it; costs accuracy and several times the training",
    "randomized_smoothing": "certifies a radius that no attack can break; answers take many copies of an image",
    "jpeg_preprocessing": "stops attackers who do not know of it, and few others",
    "gradient_masking": "only hides the gradient: an attacker who knows gets through",
    "model_inspection": "looks for a class that a small trigger can call; changes nothing",
    "per_class_monitoring": "shows which classes suffer; changes nothing",
}
"""Defenses from the most to the least promising, with what speaks for each."""


@dataclass(frozen=True)
class Tag:
    """A defense worth trying, and why."""

    defense: str
    reason: str


def recommended(attack: str) -> tuple[Tag, ...]:
    """Return every defense that applies to `attack`, the most promising first.

    A defense of the catalog that is not ranked here comes last, with its own summary as the reason.
    """
    applicable = {spec.name: spec for spec in catalog.defenses_for(attack)}
    order = [name for name in _PRIOR if name in applicable]
    order += [name for name in applicable if name not in _PRIOR]
    return tuple(Tag(name, _PRIOR.get(name, applicable[name].summary)) for name in order)
