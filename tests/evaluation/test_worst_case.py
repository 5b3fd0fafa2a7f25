from __future__ import annotations

from typing import Any

import pytest

from safedl.evaluation.statistics import wilson
from safedl.evaluation.worst_case import worst_cases


def run(attack: str, attacked: list[int], robust: list[int], defense: str | None = None, **rest: Any) -> dict[str, Any]:
    return {
        "uid": f"{attack}-{defense}", "category": "evasion", "attack": attack, "defense": defense, "seed": 0,
        "params": {}, "class_names": ["even", "odd"], "attacked_indices": attacked,
        "attacked_labels": [i % 2 for i in attacked], "robust_indices": robust, **rest,
    }  # fmt: skip


def test_an_image_must_withstand_every_attack() -> None:
    (case,) = worst_cases([run("fgsm", [0, 1, 2, 3, 4], [0, 1, 2, 4]), run("pgd", [0, 1, 2, 3], [1, 2, 3])])
    assert case.images == 4  # the fifth was attacked once only
    assert case.accuracy == 0.5
    assert case.by_class == {"even": 0.5, "odd": 0.5}
    assert case.single == {"fgsm": 0.75, "pgd": 0.75}
    assert (case.low, case.high) == wilson(2, 4)


def test_models_are_told_apart_by_defense_parameters_and_seed() -> None:
    documents = [
        run("fgsm", [0, 1], [0]), run("pgd", [0, 1], [1]),
        run("fgsm", [0, 1], [0, 1], "jpeg_preprocessing", params={"quality": 75}),
        run("pgd", [0, 1], [0, 1], "jpeg_preprocessing", params={"quality": 50}),
        run("pgd", [0, 1], [0, 1], seed=1),
        {"category": "backdoor", "attack": "static_patch"},
    ]  # fmt: skip
    (case,) = worst_cases(documents)
    assert (case.defense, case.seed, case.accuracy) == (None, 0, 0.0)


def test_attacks_without_common_images_say_nothing() -> None:
    assert worst_cases([run("fgsm", [0], [0]), run("pgd", [1], [1])]) == ()


@pytest.mark.parametrize(("hits", "count", "low", "high"), [(0, 10, 0.0, 0.2775), (5, 10, 0.2366, 0.7634)])
def test_wilson_interval_has_known_values(hits: int, count: int, low: float, high: float) -> None:
    # Newcombe, Statistics in Medicine 1998, gives such limits to four digits.
    assert wilson(hits, count) == pytest.approx((low, high), abs=1e-4)
    assert wilson(count - hits, count) == pytest.approx((1 - high, 1 - low), abs=1e-4)
