"""A small profile, measured by hand: one backdoor that fine-pruning undoes, one poisoning attack without effect."""

from __future__ import annotations

from dataclasses import replace

import pytest

from safedl.decision.facts import PlannedRun, ProfileFacts, SeedOfAttack, mean_metrics, outcome
from safedl.evaluation.comparison import Result, compare
from safedl.evaluation.scores import score, undefended
from safedl.risk.assess import MeasuredAttack
from safedl.risk.effect import Metrics

BASELINE: Metrics = {"clean_accuracy": 0.98, "seconds": 30.0, "test_images": 1000.0}
THREATS = {
    "model_access": "white-box",
    "training_data_source": "mixed",
    "threat_categories": ["backdoor_attacks", "data_poisoning", "model_stealing"],
}
PATCHED: Metrics = {"clean_accuracy": 0.975, "asr": 0.99, "robust_accuracy": 0.01, "poison_rate": 0.05, "seconds": 30.0}
MENDED: Metrics = {"clean_accuracy": 0.97, "asr": 0.02, "robust_accuracy": 0.95, "seconds": 12.0}
FLIPPED: Metrics = {"clean_accuracy": 0.978, "poison_rate": 0.01, "seconds": 30.0}


def _result(uid: str, kind: str, attack: str, defense: str, metrics: Metrics, before: Metrics) -> Result:
    return Result(
        uid, kind, "digits", "cnn", "backdoor", attack, defense, 0, defense, "a", metrics, before, BASELINE,  # type: ignore[arg-type]
    )  # fmt: skip


def make_facts(defended: Metrics = MENDED) -> ProfileFacts:
    """Return the facts of the profile, with these metrics after fine-pruning."""
    patch = MeasuredAttack("static_patch", "backdoor", "asr", PATCHED, {"label_mode": "corrupted"}, ("u-patch",))
    flips = MeasuredAttack("label_flipping", "data_poisoning", "accuracy", FLIPPED, {}, ("u-flip",))
    none = {**PATCHED, **undefended("asr", BASELINE, PATCHED).as_metrics()}
    own = {**defended, **score("asr", BASELINE, PATCHED, defended).as_metrics()}
    (ranking,) = compare(
        [
            _result("u-patch", "attack", "static_patch", "none", none, {}),
            _result("u-fine", "defense", "static_patch", "fine_pruning", own, PATCHED),
        ]
    )
    stages = [
        ("baseline@0", "baseline", None, "u-base"),
        ("static_patch@0", "attack", "static_patch", "u-patch"),
        ("label_flipping@0", "attack", "label_flipping", "u-flip"),
        ("static_patch/fine_pruning@0", "defense", "static_patch", "u-fine"),
    ]
    return ProfileFacts(
        profile="digits",
        threat_model=THREATS,
        baseline=mean_metrics([BASELINE]),
        planned=tuple(PlannedRun(s, k, "completed", a, uid, "0.1.0", "f" * 64) for s, k, a, uid in stages),
        outcomes=(
            outcome({0: SeedOfAttack(patch, BASELINE)}, THREATS, ranking),
            outcome({0: SeedOfAttack(flips, BASELINE)}, THREATS, None),
        ),
    )


def with_status(facts: ProfileFacts, stage: str, status: str) -> ProfileFacts:
    """Return the facts with another state of one stage."""
    planned = tuple(replace(p, status=status) if p.stage == stage else p for p in facts.planned)
    return replace(facts, planned=planned)


@pytest.fixture
def facts() -> ProfileFacts:
    """Return the facts of the profile as it was measured."""
    return make_facts()
