from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from safedl.attacks.contract import Poisoning, Trigger
from safedl.data.imageset import Dataset, ImageSet
from safedl.evaluation.metrics import (
    adversarial_metrics,
    asr_counts,
    attack_facts,
    backdoor_metrics,
    clean_metrics,
    detection_metrics,
    evaluate,
    flip_metrics,
)
from safedl.models.classifier import Classifier
from safedl.training.workbench import Workbench

NAMES = ("ant", "bee", "cat")


def _logits(predicted: list[int]) -> Tensor:
    return F.one_hot(torch.tensor(predicted), 3).float()


def test_clean_accuracy_overall_and_per_class() -> None:
    metrics = clean_metrics(_logits([0, 1, 1, 1]), torch.tensor([0, 0, 1, 1]), NAMES)
    assert metrics == {"clean_accuracy": 0.75, "clean_accuracy.ant": 0.5, "clean_accuracy.bee": 1.0}
    assert clean_metrics(torch.empty(0, 3), torch.empty(0, dtype=torch.int64), NAMES) == {}


def _backdoor(predicted: Tensor, labels: Tensor, target: int) -> dict[str, float]:
    """Return the metrics of a backdoor where each image shows the class that is predicted for it."""
    test = ImageSet(predicted.to(torch.uint8).view(-1, 1, 1, 1), labels)
    return backdoor_metrics(lambda images: _logits(images.flatten().tolist()), test, target, NAMES)


def test_asr_leaves_out_images_of_the_target_class() -> None:
    labels = torch.tensor([2, 2, 2, 0, 0, 1, 1, 1])
    metrics = _backdoor(torch.tensor([2, 2, 2, 2, 0, 2, 2, 0]), labels, 2)
    assert metrics == {"asr": 0.6, "asr.ant": 0.5, "asr.bee": pytest.approx(2 / 3), "robust_accuracy": 0.2}
    assert _backdoor(torch.tensor([2, 0]), torch.tensor([2, 2]), 2) == {}


def test_counts_behind_the_asr_are_exact() -> None:
    rng = torch.Generator().manual_seed(0)
    labels, predicted = (torch.randint(3, (1000,), generator=rng) for _ in range(2))
    metrics = _backdoor(predicted, labels, 1)
    counts = asr_counts(metrics, labels, 1, NAMES)
    hits = {n: int(((labels == c) & (predicted == 1)).sum()) for c, n in enumerate(NAMES) if c != 1}
    assert counts["per_class_attack_success_numerator"] == hits
    assert counts["attack_success_numerator"] == sum(hits.values())
    assert counts["attack_success_denominator"] == int((labels != 1).sum())
    assert counts["attack_success_rate"] == sum(hits.values()) / int((labels != 1).sum())


def test_source_target_rate_counts_the_source_classes_alone() -> None:
    labels = torch.tensor([0, 0, 0, 0, 1, 1, 2])
    logits = _logits([2, 2, 2, 0, 2, 1, 2])
    assert flip_metrics(logits, labels, {0: 2}) == {"source_target_rate": 0.75}
    assert flip_metrics(logits, labels, {0: 2, 1: 2}) == {"source_target_rate": pytest.approx(4 / 6)}
    assert flip_metrics(logits, labels, {}) == {}


def test_detection_against_counting_by_hand() -> None:
    rng = torch.Generator().manual_seed(0)
    mask = torch.rand(300, generator=rng) < 0.2
    scores = torch.rand(300, generator=rng) + 0.5 * mask
    flagged = scores > 0.8
    metrics = detection_metrics(scores, flagged, mask)
    found = sum(1 for f, m in zip(flagged.tolist(), mask.tolist(), strict=True) if f and m)
    assert metrics["tpr"] == found / int(mask.sum())
    assert metrics["precision"] == found / int(flagged.sum())
    assert metrics["fpr"] == (int(flagged.sum()) - found) / int((~mask).sum())
    assert metrics["removed"] == int(flagged.sum())
    wins = (scores[mask][:, None] > scores[~mask][None, :]).float().mean()  # all pairs; no ties here
    assert metrics["auroc"] == pytest.approx(float(wins), abs=1e-6)


def test_detection_leaves_out_what_is_undefined() -> None:
    scores, none = torch.zeros(4), torch.zeros(4, dtype=torch.bool)
    assert detection_metrics(scores, ~none, none) == {"removed": 4.0, "fpr": 1.0}
    assert detection_metrics(scores, none, ~none) == {"removed": 0.0, "tpr": 0.0}
    some = torch.tensor([True, False, False, False])
    assert detection_metrics(scores, none, some) == {"removed": 0.0, "fpr": 0.0, "tpr": 0.0, "auroc": 0.5}


def test_infinite_scores_rank_and_undefined_ones_do_not() -> None:
    mask = torch.tensor([True, False, True, False])
    scores = torch.tensor([math.inf, 1.0, 2.0, -math.inf])
    assert detection_metrics(scores, mask, mask)["auroc"] == 1.0
    assert "auroc" not in detection_metrics(torch.tensor([math.nan, 1.0, 2.0, 3.0]), mask, mask)


def test_evaluate_gives_what_applies(digits: Dataset, bench: Workbench, clean_model: Classifier) -> None:
    test, names = digits.test, digits.classes
    baseline = evaluate(clean_model, test, None, bench, names)
    assert {m.split(".")[0] for m in baseline} == {"clean_accuracy"}
    assert baseline["clean_accuracy"] > 0.96

    black = Trigger(torch.zeros(1, 8, 8), torch.ones(1, 8, 8))
    nobody = torch.zeros(len(digits.train), dtype=torch.bool)
    poisoning = Poisoning(digits.train, nobody, digits.train.labels, black, 3, {"expected_confusion": {"1": 7}})
    metrics = evaluate(clean_model, test, poisoning, bench, names)
    seen = int(bench.predict(clean_model, torch.zeros(1, 1, 8, 8, dtype=torch.uint8)).argmax())
    share = float((test.labels[test.labels != 3] == seen).float().mean()) if seen != 3 else 0.0
    assert metrics["asr"] == float(seen == 3)
    assert metrics["robust_accuracy"] == pytest.approx(share)
    assert metrics["source_target_rate"] < 0.1
    assert metrics["clean_accuracy"] == baseline["clean_accuracy"]
    assert all(math.isfinite(value) for value in metrics.values())


def test_attack_facts_count_only_what_was_right_before() -> None:
    right, robust = torch.tensor([True, True, True, False]), torch.tensor([True, False, False, False])
    change = torch.zeros(4, 1, 1, 2)
    change[1], change[2] = torch.tensor([0.3, 0.4]), torch.tensor([0.0, 0.1])
    facts = attack_facts(right, robust, change, torch.tensor([10, 2, 3, 99]))
    assert facts["sampled_accuracy"] == 0.75
    assert facts["success_rate"] == pytest.approx(2 / 3)
    assert facts["queries_mean"] == 5
    assert facts["perturbation_l2"] == pytest.approx((0.5 + 0.1) / 2)
    assert facts["perturbation_linf"] == pytest.approx((0.4 + 0.1) / 2)
    assert facts["adversarial_low"] < 0.25 < facts["adversarial_high"]


def test_adversarial_accuracy_is_given_per_class() -> None:
    robust = torch.tensor([True, False, True])
    found = adversarial_metrics(robust, torch.tensor([0, 0, 1]), ("a", "b", "c"))
    assert found == {
        "adversarial_accuracy": pytest.approx(2 / 3), "adversarial_accuracy.a": 0.5, "adversarial_accuracy.b": 1.0,
    }  # fmt: skip
