from __future__ import annotations

from dataclasses import replace
from statistics import NormalDist
from typing import Literal

import numpy as np
import pytest
import torch
from sklearn.linear_model import Ridge
from torch import Tensor

from safedl.catalog.defenses.poisoning import ProvenanceTrackingParams
from safedl.data.imageset import Dataset, ImageSet
from safedl.defenses import provenance_tracking
from safedl.defenses.contract import Scenario
from safedl.defenses.provenance_tracking import RIDGE, RidgeProbe, detect, segment_means
from safedl.errors import UsageError
from safedl.models.classifier import Classifier
from safedl.training import predict
from tests.conftest import make_bench
from tests.defenses.flips import rare_class, without_trusted


def scene_with(digits: Dataset, model: Classifier, bad: tuple[int, ...] = (), named: bool = True) -> Scenario:
    """Return digits from twenty sources; those in `bad` mislabel half of what they give."""
    rng = torch.Generator().manual_seed(3)
    sources = torch.randperm(len(digits.train), generator=rng) % 20
    wrong = torch.isin(sources, torch.tensor(bad, dtype=torch.int64)) & (torch.rand(len(sources), generator=rng) < 0.5)
    labels = torch.where(wrong, (digits.train.labels + 1) % 10, digits.train.labels)
    data = ImageSet(digits.train.images, labels, sources if named else None)
    return Scenario(data, digits.trusted, digits.classes, model, make_bench(digits), lambda: model)


def removed_sources(scene: Scenario, flagged: Tensor) -> list[int]:
    assert scene.data.sources is not None
    found: list[int] = scene.data.sources[flagged].unique().tolist()
    return found


def test_probe_is_ridge_regression_on_all_samples_given() -> None:
    rng = torch.Generator().manual_seed(0)
    features, labels = torch.randn(60, 4, generator=rng), torch.randint(0, 3, (60,), generator=rng)
    first, rest = slice(0, 25), slice(25, 60)
    probe = RidgeProbe(features[first], labels[first], 3)
    rows = np.hstack([features.numpy(), np.ones((60, 1))])
    penalty = RIDGE * (rows[first] ** 2).sum() / 5
    exact = Ridge(penalty, fit_intercept=False).fit(rows, np.eye(3)[labels.numpy()])
    assert probe.weights(features[rest], labels[rest]).numpy() == pytest.approx(exact.coef_.T, abs=1e-5)


def test_segment_means() -> None:
    means = segment_means(torch.tensor([1.0, 2.0, 6.0]), torch.tensor([1, 0, 1]))
    assert means.tolist() == [2.0, 3.5]


def test_drops_the_sources_that_do_harm(digits: Dataset, clean_model: Classifier) -> None:
    scene = scene_with(digits, clean_model, bad=(4, 11))
    found = detect(scene, ProvenanceTrackingParams())
    assert found.details["granularity"] == "source"
    assert removed_sources(scene, found.flagged) == [4, 11]
    assert found.details["segments_removed"] == 2


@pytest.mark.parametrize("granularity", ["source", "batch", "sample"])
def test_leaves_clean_data_alone(digits: Dataset, clean_model: Classifier, granularity: str) -> None:
    params = ProvenanceTrackingParams(granularity=granularity)
    found = detect(scene_with(digits, clean_model), params)
    assert found.flagged.float().mean() <= 0.02


def test_the_rate_of_false_alarms_is_that_of_all_segments_together(
    digits: Dataset, clean_model: Classifier, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(provenance_tracking, "FALSE_ALARM", 10.0)  # of twenty: half of the segments are above
    harms, cut = provenance_tracking._harms(
        scene_with(digits, clean_model), clean_model, torch.arange(len(digits.train)) % 20
    )
    assert cut == pytest.approx(float(harms.median()))


def test_each_half_of_the_trusted_images_tries_the_probe_of_the_other(
    digits: Dataset, clean_model: Classifier, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried: list[tuple[Tensor, Tensor]] = []

    class Watched(RidgeProbe):
        def __init__(self, features: Tensor, labels: Tensor, num_classes: int) -> None:
            super().__init__(features, labels, num_classes)
            self.features = features

        def error(self, weights: Tensor, features: Tensor, labels: Tensor) -> float:
            tried.append((self.features, features))
            return super().error(weights, features, labels)

    monkeypatch.setattr(provenance_tracking, "RidgeProbe", Watched)
    detect(scene_with(digits, clean_model), ProvenanceTrackingParams(granularity="batch", batch_size=400))
    assert len({asked.numpy().tobytes() for _, asked in tried}) == 2
    for learned, asked in tried:
        assert len(torch.cat([learned, asked]).unique(dim=0)) == len(digits.trusted.images.flatten(1).unique(dim=0))


def test_finds_a_bad_batch(digits: Dataset, clean_model: Classifier) -> None:
    scene = scene_with(digits, clean_model)
    labels = scene.data.labels.clone()
    labels[100:150] = (labels[100:150] + 3) % 10
    params = ProvenanceTrackingParams(granularity="batch", batch_size=50)
    found = detect(replace(scene, data=scene.data.with_labels(labels)), params)
    flagged = found.flagged.nonzero().flatten().tolist()
    assert set(range(100, 150)) <= set(flagged)
    assert found.scores[100:150].min() > 10 * found.scores[:100].max().clamp_min(0)
    # Batches in the order of the data are no random ones: a sound one may do a little worse than shuffles tell.
    assert len(flagged) <= 100


def test_samples_are_judged_by_their_loss_where_no_source_is_named(digits: Dataset, clean_model: Classifier) -> None:
    scene = scene_with(digits, clean_model, bad=(4,), named=False)
    found = detect(scene, ProvenanceTrackingParams())
    assert found.details["granularity"] == "sample"
    wrong = scene.data.labels != digits.train.labels
    assert found.flagged[wrong].float().mean() >= 0.95
    assert found.flagged[~wrong].float().mean() <= 0.02


@pytest.mark.parametrize(("granularity", "size"), [("sample", 1), ("batch", 64)])
def test_literal_cuts_at_mean_plus_two_sigma(
    digits: Dataset, clean_model: Classifier, granularity: str, size: int
) -> None:
    scene = scene_with(digits, clean_model, bad=(4,))
    params = ProvenanceTrackingParams(granularity=granularity, variant="literal")
    logits = scene.bench.predict(clean_model, scene.data.images)
    losses = predict.sample_losses(logits, scene.data.labels).numpy()
    means = np.array([losses[i : i + size].mean() for i in range(0, len(losses), size)])
    expected = np.repeat(means > means.mean() + 2 * means.std(), size)[: len(losses)]
    assert detect(scene, params).flagged.numpy().tolist() == expected.tolist()


def test_refuses_sources_that_nobody_named(digits: Dataset, clean_model: Classifier) -> None:
    scene = scene_with(digits, clean_model, named=False)
    with pytest.raises(UsageError, match="names no sources"):
        detect(scene, ProvenanceTrackingParams(granularity="source"))


def test_refuses_to_work_without_trusted_data(digits: Dataset, clean_model: Classifier) -> None:
    with pytest.raises(UsageError, match="trusted_fraction"):
        detect(without_trusted(scene_with(digits, clean_model)), ProvenanceTrackingParams())


def test_chance_is_as_wide_as_sound_sources_are_whatever_bad_ones_do(digits: Dataset, clean_model: Classifier) -> None:
    scenes = [scene_with(digits, clean_model, bad) for bad in ((), (4, 11))]
    (sound, cut), (_, again) = (
        provenance_tracking._harms(scene, clean_model, scene.data.sources)
        for scene in scenes
        if scene.data.sources is not None
    )
    deviations = NormalDist().inv_cdf(1 - provenance_tracking.FALSE_ALARM / 20)
    assert (cut - float(sound.median())) / deviations == pytest.approx(float(sound.std()), rel=0.5)
    assert again == pytest.approx(cut, abs=float(sound.std()))


def test_what_does_no_harm_stays(digits: Dataset, clean_model: Classifier, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(provenance_tracking, "_harms", lambda *_: (torch.tensor([-3.0, -1.0, 0.5]), -2.0))
    params = ProvenanceTrackingParams(granularity="batch", batch_size=400)
    flagged = detect(scene_with(digits, clean_model), params).flagged
    assert flagged[800:].all() and not flagged[:800].any()


@pytest.mark.parametrize("granularity", ["source", "sample"])
def test_refuses_one_trusted_image(
    digits: Dataset, clean_model: Classifier, granularity: Literal["source", "sample"]
) -> None:
    scene = scene_with(digits, clean_model)
    with pytest.raises(UsageError, match="1 images are held out"):
        detect(
            replace(scene, trusted=scene.trusted.select(torch.tensor([0]))),
            ProvenanceTrackingParams(granularity=granularity),
        )


def test_a_sample_of_a_class_that_nobody_vouches_for_is_left_alone(digits: Dataset, clean_model: Classifier) -> None:
    rare = rare_class(scene_with(digits, clean_model), 3)
    rare = replace(rare, data=rare.data.with_labels(rare.data.labels.roll(1)))  # whatever it looks like
    found = detect(rare, ProvenanceTrackingParams(granularity="sample"))
    assert not found.flagged[rare.data.labels == 3].any()
    assert found.flagged.any()


def test_random_segments_are_as_many_as_said(
    digits: Dataset, clean_model: Classifier, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []

    class Counting(RidgeProbe):
        def weights(self, features: Tensor, labels: Tensor) -> Tensor:
            asked.append(len(labels))
            return super().weights(features, labels)

    monkeypatch.setattr(provenance_tracking, "RidgeProbe", Counting)
    detect(scene_with(digits, clean_model), ProvenanceTrackingParams())
    assert len(asked) / 2 - 1 - 20 >= provenance_tracking.NULL_SEGMENTS  # two probes, no segment, twenty real ones
