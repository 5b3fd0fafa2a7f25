"""From answers to threat categories, each with its reason."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from safedl import catalog


@dataclass(frozen=True)
class ThreatCategory:
    """A kind of threat; `attacks` are the simulations that show it first, as far as the catalog has them."""

    name: str
    title: str
    help: str
    attacks: tuple[str, ...]

    @property
    def simulated(self) -> tuple[str, ...]:
        """The attacks that can be run today."""
        return tuple(a for a in self.attacks if a in catalog.ATTACKS)


@dataclass(frozen=True)
class Suggestion:
    """A threat category that the answers call for, and why."""

    category: str
    reason: str


CATEGORIES: dict[str, ThreatCategory] = {
    c.name: c
    for c in (
        ThreatCategory(
            "data_poisoning",
            "Data poisoning",
            "Wrong labels or altered images in the training data spoil the model.",
            ("label_flipping", "clean_label"),
        ),
        ThreatCategory(
            "backdoor_attacks",
            "Backdoors",
            "A trigger planted in training makes the model give an answer of the attacker's choice.",
            ("static_patch", "learned_trigger"),
        ),
        ThreatCategory(
            "evasion_attacks",
            "Evasion",
            "Images are changed so little that people do not notice, and the model errs.",
            ("fgsm", "pgd", "square"),
        ),
        ThreatCategory(
            "model_stealing",
            "Model stealing",
            "The model is copied by asking it often.",
            ("model_extraction",),
        ),
        ThreatCategory(
            "membership_inference",
            "Membership inference",
            "Someone finds out whether an image was in the training data.",
            ("membership_inference",),
        ),
        ThreatCategory(
            "model_inversion",
            "Model inversion",
            "Training images are recovered from the model.",
            ("model_inversion",),
        ),
    )
}

# question, the answers that count, the categories they suggest, why
_RULES: tuple[tuple[str, tuple[str, ...], tuple[str, ...], str], ...] = (
    (
        "training_data_source",
        ("external_public", "user_generated", "mixed"),
        ("data_poisoning",),
        "others can put images or labels into the training data",
    ),
    (
        "model_access",
        ("white-box",),
        ("backdoor_attacks",),
        "someone who reaches architecture and weights can plant a backdoor and tune its trigger",
    ),
    (
        "deployment_scenario",
        ("mobile", "edge", "api_public"),
        ("evasion_attacks",),
        "the model takes images from people you do not know",
    ),
    (
        "interface_exposed",
        ("api",),
        ("model_stealing", "membership_inference"),
        "an interface can be asked as often as it takes",
    ),
    (
        "data_sensitivity",
        ("high",),
        ("model_inversion",),
        "recovered training images would do harm",
    ),
)


def suggest(answers: Mapping[str, str]) -> tuple[Suggestion, ...]:
    """Return the threat categories that `answers` (question id to value) call for, in the order of `CATEGORIES`."""
    found = [
        Suggestion(category, f"{question} is {answers[question]}: {why}")
        for question, triggers, categories, why in _RULES
        if answers.get(question) in triggers
        for category in categories
    ]
    return tuple(sorted(found, key=lambda s: list(CATEGORIES).index(s.category)))


def not_simulated(categories: Iterable[str]) -> tuple[str, ...]:
    """Return those of the threat categories for which no attack can be run: they need a check by hand."""
    empty = {c for c in catalog.CATEGORIES if not any(spec.category == c for spec in catalog.ATTACKS.values())}
    return tuple(c for c in categories if c in empty or (c in CATEGORIES and not CATEGORIES[c].simulated))
