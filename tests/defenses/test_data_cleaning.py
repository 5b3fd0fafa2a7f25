from __future__ import annotations

from dataclasses import replace
from typing import Any, Literal

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from safedl.catalog.defenses.poisoning import DataCleaningParams
from safedl.data.imageset import Dataset, ImageSet
from safedl.defenses import data_cleaning
from safedl.defenses.contract import Scenario
from safedl.defenses.data_cleaning import (
    Evidence,
    _cross_fit,
    detect,
    highest_in_class,
    label_counts,
    log_odds,
    mixture_odds,
    trusted_z,
)
from safedl.errors import UsageError
from safedl.models.classifier import Classifier
from safedl.training import predict
from tests.defenses import flips


def test_label_counts_undo_the_confusion_of_the_model() -> None:
    """Two classes that the model often mixes up, 30 % of one relabelled: the counts come out nevertheless."""
    truth = torch.arange(2).repeat_interleave(1000)
    given = truth.clone()
    given[:300] = 1
    seen = truth.clone()
    seen[::4] = 1 - seen[::4]  # every fourth prediction is wrong, whatever the label
    known = torch.arange(2).repeat_interleave(200)
    guess = known.clone()
    guess[::4] = 1 - guess[::4]
    evidence = Evidence(torch.eye(2)[seen], torch.eye(2)[guess].unsqueeze(0))
    counts = label_counts(evidence, given, known)
    assert counts.numpy() == pytest.approx(np.array([[700, 300], [0, 1000]]), abs=1)


def test_a_class_without_trusted_images_is_taken_to_be_predicted_rightly() -> None:
    truth = torch.arange(3).repeat_interleave(100)
    given = truth.clone()
    given[:30] = 2
    known = torch.arange(2).repeat_interleave(50)
    counts = label_counts(Evidence(torch.eye(3)[truth], torch.eye(3)[known].unsqueeze(0)), given, known)
    assert counts.numpy() == pytest.approx(np.array([[70, 0, 30], [0, 100, 0], [0, 0, 100]]), abs=1e-3)


def test_outlier_detection_removes_little_more_than_is_wrong(digits: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    """However low the threshold: 20 % above the estimated number of wrong labels, class by class."""
    truth, known = digits.train.labels, digits.trusted.labels
    labels = flips.flip(truth, "many_to_one", 0.1)
    rng = torch.Generator().manual_seed(0)
    logits = [4 * torch.eye(10)[y] + torch.randn(len(y), 10, generator=rng) for y in (truth, known)]
    monkeypatch.setattr(data_cleaning, "_cross_fit", lambda *_: Evidence(logits[0], logits[1].unsqueeze(0)))
    found = detect(flips.scenario(digits, labels), DataCleaningParams(method="outlier_detection", threshold=1e-6))
    wrong = int((labels != truth).sum())
    assert int((found.flagged & (labels == 6)).sum()) == pytest.approx(1.2 * wrong, rel=0.05)
    assert int((found.flagged & (labels != 6)).sum()) <= 0.02 * len(labels)


def test_highest_in_class_against_sorting_each_class() -> None:
    rng = torch.Generator().manual_seed(0)
    scores, labels = torch.rand(100, generator=rng), torch.randint(0, 4, (100,), generator=rng)
    sizes = torch.tensor([3.0, 0.0, 200.0, 7.0])
    taken = highest_in_class(scores, labels, sizes)
    for label, size in enumerate(sizes.int().tolist()):
        members = (labels == label).nonzero().flatten().tolist()
        best = sorted(members, key=lambda i: -float(scores[i]))[:size]
        assert taken[members].nonzero().flatten().tolist() == [k for k, i in enumerate(members) if i in best]


def test_log_odds_are_bayes_rule() -> None:
    p = torch.tensor([[0.7, 0.2, 0.1]])
    counts = torch.tensor([[80.0, 20.0, 0.0], [10.0, 90.0, 0.0], [0.0, 50.0, 50.0]])
    joint = [0.7 * 0.2, 0.2 * 0.9, 0.1 * 0.5]  # P(class | image) P(label 1 | class)
    odds = (joint[0] + joint[2]) / joint[1]
    assert log_odds(p.log(), torch.tensor([1]), counts)[0].exp().item() == pytest.approx(odds, rel=1e-3)


def test_z_scores_are_relative_to_trusted_losses_of_the_class() -> None:
    trusted = torch.tensor([[[2.0, 0.0], [1.0, 0.0], [0.0, 0.0], [0.0, 1.0]]])
    known = torch.tensor([0, 0, 1, 1])
    logits, labels = torch.tensor([[0.0, 3.0]]), torch.tensor([0])
    reference = predict.sample_losses(trusted[0, :2], known[:2])
    expected = (predict.sample_losses(logits, labels) - reference.mean()) / reference.std(correction=0)
    assert trusted_z(Evidence(logits, trusted), labels, known).item() == pytest.approx(expected.item(), rel=1e-5)


class Remembering(nn.Module):
    """Answers 1 to the images that it was trained on, and 0 to all others."""

    def __init__(self, data: ImageSet) -> None:
        super().__init__()
        self.known = data.images.flatten(1).float() / 255
        self.head = nn.Linear(2, 10, bias=False)
        self.head.weight.data = torch.eye(10)[:, :2]

    def forward(self, images: Tensor) -> Tensor:
        known = (images.flatten(1).unsqueeze(1) == self.known).all(2).any(1)
        logits: Tensor = self.head(F.one_hot(known.long(), 2).float())
        return logits


class Recalling(Scenario):
    def fit(self, data: ImageSet, **_: Any) -> Classifier:
        return Classifier(Remembering(data), [0.0], [1.0], (1, 8, 8))


def test_no_sample_is_judged_by_a_model_that_has_seen_it(digits: Dataset) -> None:
    scene = flips.scenario(digits, digits.train.labels)
    few = digits.train.select(torch.arange(90))
    recalling = Recalling(few, few, scene.classes, scene.model, scene.bench)
    evidence = _cross_fit(recalling, torch.ones(90, dtype=torch.bool), 3, "first")
    assert not evidence.logits.argmax(1).any()
    assert evidence.trusted.argmax(2).sum(1).tolist() == [60, 60, 60]  # as each of the models has seen 60 of the 90


@pytest.mark.parametrize(("kind", "rate"), [("many_to_one", 0.4), ("random", 0.2)])
def test_finds_wrong_labels(digits: Dataset, kind: str, rate: float) -> None:
    labels = flips.flip(digits.train.labels, kind, rate)
    found = detect(flips.scenario(digits, labels), DataCleaningParams())
    precision, recall, _ = flips.rates(found, labels != digits.train.labels)
    assert precision >= 0.9
    assert recall >= 0.9
    assert found.details["trusted_used"] == len(digits.trusted)
    assert found.details["estimated_noise"] == pytest.approx(
        float((labels != digits.train.labels).float().mean()), abs=0.05
    )


def test_leaves_clean_data_alone(digits: Dataset) -> None:
    found = detect(flips.scenario(digits, digits.train.labels), DataCleaningParams())
    assert found.flagged.float().mean() <= 0.02


def test_outlier_detection_finds_wrong_labels(digits: Dataset) -> None:
    labels = flips.flip(digits.train.labels, "many_to_one", 0.3)
    found = detect(flips.scenario(digits, labels), DataCleaningParams(method="outlier_detection", folds=2))
    precision, recall, false_alarms = flips.rates(found, labels != digits.train.labels)
    assert precision >= 0.85
    assert recall >= 0.85
    assert false_alarms <= 0.06


@pytest.mark.parametrize("method", ["loss_filtering", "outlier_detection"])
def test_literal_cuts_at_the_scaled_mean_or_by_z_score(digits: Dataset, method: str) -> None:
    labels = flips.flip(digits.train.labels, "random", 0.1)
    scene = flips.scenario(digits, labels)
    params = DataCleaningParams(method=method, threshold=1.5, variant="literal")
    helper = scene.fit(scene.data)
    losses = predict.sample_losses(scene.bench.predict(helper, scene.data.images), labels).numpy()
    cut = 1.5 * losses.mean() if method == "loss_filtering" else losses.mean() + 1.5 * losses.std(ddof=1)
    assert detect(scene, params).flagged.numpy().tolist() == (losses > cut).tolist()


def test_refuses_to_work_without_trusted_data(digits: Dataset) -> None:
    scene = flips.without_trusted(flips.scenario(digits, digits.train.labels))
    with pytest.raises(UsageError, match="trusted_fraction"):
        detect(scene, DataCleaningParams())


def test_a_mixture_tells_wrong_labels_of_known_shares_without_trusted_images() -> None:
    """Labels drawn from known probabilities, a fifth of class 0's and a twentieth of class 2's then made wrong."""
    rng = torch.Generator().manual_seed(0)
    logits = 4 * torch.randn(6000, 3, generator=rng)
    labels = torch.multinomial(logits.softmax(1), 1, generator=rng).squeeze(1)
    wrong = torch.zeros(6000, dtype=torch.bool)
    given = labels.clone()
    for target, share in ((0, 0.2), (2, 0.05)):
        others = (labels != target).nonzero().flatten()
        count = round(share / (1 - share) * int((labels == target).sum()))
        chosen = others[torch.randperm(len(others), generator=rng)[:count]]
        given[chosen], wrong[chosen] = target, True
    odds, shares = mixture_odds(logits * 3, given)  # overconfident: the temperature is found, too
    truth = [float(wrong[given == c].float().mean()) for c in range(3)]
    assert shares.tolist() == pytest.approx(truth, abs=0.04)
    flagged = odds > 0
    assert float(wrong[flagged].float().mean()) >= 0.8
    clean_shares = mixture_odds(logits, labels)[1]
    assert float(clean_shares.max()) <= 0.02


def test_without_trusted_images_wrong_labels_are_found_too(digits: Dataset) -> None:
    labels = flips.flip(digits.train.labels, "random", 0.2)
    suspects = flips.without_trusted(flips.scenario(digits, labels))
    found = detect(suspects, DataCleaningParams(trusted=False, folds=2))
    precision, recall, _ = flips.rates(found, labels != digits.train.labels)
    assert precision >= 0.9 and recall >= 0.8
    assert found.details["estimated_noise"] == pytest.approx(0.2, abs=0.05)
    assert found.details["trusted_used"] == 0 and found.details["helper_models"] == 2


@pytest.mark.parametrize("trusted", [True, False])
def test_there_are_no_more_folds_than_images(digits: Dataset, trusted: bool) -> None:
    scene = flips.scenario(digits, digits.train.labels)
    few = replace(scene, data=scene.data.select(torch.arange(12)))
    found = detect(few, DataCleaningParams(folds=20, trusted=trusted))
    assert len(found.scores) == 12 and found.details["helper_models"] == (24 if trusted else 12)


def test_training_on_nothing_is_said_so(digits: Dataset) -> None:
    scene = flips.scenario(digits, digits.train.labels)
    with pytest.raises(UsageError, match="no images to train on"):
        scene.fit(scene.data.select(torch.zeros(len(scene.data), dtype=torch.bool)))


@pytest.mark.parametrize("method", ["loss_filtering", "outlier_detection"])
def test_a_class_that_nobody_vouches_for_is_left_alone(
    digits: Dataset, method: Literal["loss_filtering", "outlier_detection"]
) -> None:
    """A class too small to hold images out would vanish: no model learns it, so each of its labels looks wrong."""
    rare = flips.rare_class(flips.scenario(digits, flips.flip(digits.train.labels, "many_to_one", 0.2)), 3)
    found = detect(rare, DataCleaningParams(method=method, folds=2))
    assert not found.flagged[rare.data.labels == 3].any()
    assert found.flagged.any()
    assert found.scores.isfinite().all()
