"""Outcomes made by hand, small and with known figures."""

from __future__ import annotations

from typing import Any

import numpy as np

from safedl.reports.outcome import Example, Outcome

CLASSES = ("cat", "dog", "eel")
BASE = {
    "uid": "run-1",
    "dataset": "pets",
    "model": "cnn",
    "seed": 3,
    "layer": "fc.1",
    "classes": CLASSES,
    "notes": (),
}
CLEAN = {"clean_accuracy": 0.98, "clean_accuracy.cat": 0.97, "clean_accuracy.dog": 0.98, "clean_accuracy.eel": 0.99}
ATTACKED = {**CLEAN, "clean_accuracy": 0.975, "asr": 0.99, "asr.dog": 1.0, "asr.eel": 0.98, "robust_accuracy": 0.01}
DEFENDED = {
    **CLEAN, "clean_accuracy": 0.97, "asr": 0.04, "asr.dog": 0.02, "asr.eel": 0.06, "robust_accuracy": 0.9,
    "tpr": 2 / 3, "fpr": 0.0, "precision": 1.0, "auroc": 0.987654, "removed": 2.0,
}  # fmt: skip
POISONED = np.array([False, True, False, True, True, False, False, False, False])
FLAGGED = np.array([False, True, False, True, False, False, False, False, False])
SCORES = np.array([0.1, 5.0, 0.3, 4.0, 0.6, 0.2, 0.5, 0.4, 0.7])
LABELS = np.array([0, 0, 0, 0, 0, 1, 1, 2, 2])
TRAINING = {"training.epochs": 4, "training.learning_rate": 0.0015}


def image(value: int, channels: int = 1, side: int = 4) -> Any:
    """Return a uint8 image [C, side, side] whose left half is black and whose right half has `value`."""
    pixels = np.zeros((channels, side, side), np.uint8)
    pixels[:, :, side // 2 :] = value
    return pixels


def examples(channels: int = 1) -> tuple[Example, ...]:
    """Return two poisoned examples."""
    return tuple(
        Example(image(255, channels), index, 1, 0, True, float(SCORES[index]), image(100, channels)) for index in (1, 3)
    )


def baseline(**changes: Any) -> Outcome:
    """Return a clean model's outcome."""
    values: dict[str, Any] = BASE | {
        "kind": "baseline", "category": None, "attack": None, "defense": None, "params": TRAINING, "metrics": CLEAN,
        "before": {}, "baseline": {}, "details": {"train_images": 9}, "timing": {"seconds": 1.5},
    }  # fmt: skip
    return Outcome(**(values | changes))


def attack(name: str = "static_patch", category: str = "backdoor", **changes: Any) -> Outcome:
    """Return an attack's outcome; a backdoor by default."""
    values: dict[str, Any] = BASE | {
        "kind": "attack", "category": category, "attack": name, "defense": None,
        "params": {**TRAINING, "attack": name, "attack.poison_fraction": 0.3, "attack.target_class": 0},
        "metrics": ATTACKED | {"poison_rate": 1 / 3}, "before": CLEAN, "baseline": CLEAN,
        "details": {"target_class": 0, "poison_rate": 1 / 3, "effective": True},
        "timing": {"seconds": 2.5}, "examples": examples(), "labels": LABELS, "poisoned": POISONED,
    }  # fmt: skip
    return Outcome(**(values | changes))


def detector(name: str = "spectral_signatures", attack: str = "static_patch", **changes: Any) -> Outcome:
    """Return a detector's outcome that caught two of three poisoned samples."""
    values: dict[str, Any] = BASE | {
        "kind": "defense", "category": "backdoor", "attack": attack, "defense": name,
        "params": {**TRAINING, "attack": attack, "attack.poison_fraction": 0.3, "defense": name,
                   "defense.threshold": 0.9},
        "metrics": DEFENDED | {"cut": 1.25}, "before": ATTACKED, "baseline": CLEAN,
        "details": {"cut": 1.25, "threshold": 0.9, "variance": {"cat": 0.5, "dog": 1e-05}},
        "timing": {"seconds": 3.5, "memory_mb": 100.0},
        "examples": examples(), "scores": SCORES, "labels": LABELS, "poisoned": POISONED, "flagged": FLAGGED,
    }  # fmt: skip
    return Outcome(**(values | changes))


def defense(name: str, attack: str = "static_patch", category: str = "backdoor", **changes: Any) -> Outcome:
    """Return the outcome of a defense that removes nothing."""
    plain = {k: v for k, v in DEFENDED.items() if k not in ("tpr", "fpr", "precision", "auroc", "removed")}
    values: dict[str, Any] = {
        "category": category, "metrics": plain, "details": {}, "examples": (), "scores": None, "poisoned": None,
        "flagged": None, "labels": None,
    }  # fmt: skip
    return detector(name, attack, **(values | changes))
