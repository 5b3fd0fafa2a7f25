from __future__ import annotations

from dataclasses import replace
from typing import Literal

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from safedl.catalog.defenses.poisoning import InfluenceFunctionsParams
from safedl.data.imageset import Dataset, ImageSet
from safedl.defenses.contract import Scenario
from safedl.defenses.influence_functions import (
    detect,
    directional_derivatives,
    inverse_hessian_product,
    mean_gradient,
)  # fmt: skip
from safedl.errors import UsageError
from safedl.models.classifier import Classifier
from safedl.training.fit import to_float
from tests.conftest import make_bench
from tests.defenses import flips

CPU = torch.device("cpu")


@pytest.fixture
def mislabelled(digits: Dataset, clean_model: Classifier) -> Scenario:
    """Return digits of which 5 % have a wrong label, and a clean model to judge them by."""
    data = digits.train.with_labels(flips.flip(digits.train.labels, "random", 0.05))
    return Scenario(data, digits.trusted, digits.classes, clean_model, make_bench(digits), lambda: clean_model)


def test_forward_mode_equals_per_sample_gradients(digits: Dataset, clean_model: Classifier) -> None:
    few = digits.train.select(torch.arange(8))
    direction = mean_gradient(clean_model, digits.trusted, CPU)
    fast = directional_derivatives(clean_model, direction, few, CPU)
    for position in range(8):
        loss = F.cross_entropy(
            clean_model(to_float(few.images[position : position + 1], CPU)), few.labels[position : position + 1]
        )
        gradient = torch.autograd.grad(loss, list(clean_model.parameters()))
        product = sum(float((g * d).sum()) for g, d in zip(gradient, direction.values(), strict=True))
        assert fast[position].item() == pytest.approx(product, rel=5e-3, abs=1e-5)


def test_mean_gradient_does_not_depend_on_batches(
    digits: Dataset, clean_model: Classifier, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = mean_gradient(clean_model, digits.trusted, CPU)
    monkeypatch.setattr("safedl.defenses.influence_functions.BATCH", 7)
    parts = mean_gradient(clean_model, digits.trusted, CPU)
    assert all(torch.allclose(whole[name], parts[name], rtol=1e-3, atol=1e-6) for name in whole)


def test_conjugate_gradients_against_the_exact_inverse() -> None:
    rng = torch.Generator().manual_seed(0)
    features, labels = torch.randn(50, 4, generator=rng).double(), torch.randint(0, 3, (50,), generator=rng)
    weights, target = torch.randn(4, 3, generator=rng).double(), torch.randn(4, 3, generator=rng).double()

    def loss(flat: torch.Tensor) -> torch.Tensor:
        return F.cross_entropy(features @ flat.view(4, 3), labels)

    hessian = torch.autograd.functional.hessian(loss, weights.flatten())
    exact = torch.linalg.solve(hessian + 0.01 * torch.eye(12), target.flatten()).view(4, 3)
    found = inverse_hessian_product(features, (features @ weights).softmax(1), target, damping=0.01)
    assert (found - exact).norm() < 1e-3 * exact.norm()


def test_classes_count_alike_however_large_the_loss_on_them_is(mislabelled: Scenario, clean_model: Classifier) -> None:
    """The harm is the gradient's share along that of the class which the sample looks like."""
    few, trusted = mislabelled.data.select(torch.arange(6)), mislabelled.trusted
    found = detect(replace(mislabelled, data=few), InfluenceFunctionsParams(method="grad_influence"))
    logits = mislabelled.bench.predict(clean_model, few.images)
    rivals = logits.scatter(1, few.labels.unsqueeze(1), -torch.inf).argmax(1)
    for position, rival in enumerate(rivals.tolist()):
        own = mean_gradient(clean_model, few.select(torch.tensor([position])), CPU)
        judge = mean_gradient(clean_model, trusted.select(trusted.labels == rival), CPU)
        product = sum(float((own[name] * judge[name]).sum()) for name in own)
        length = sum(float(gradient.square().sum()) for gradient in judge.values()) ** 0.5
        assert found.scores[position].item() == pytest.approx(-product / length, rel=5e-3, abs=1e-5)


def test_each_half_of_the_trusted_images_is_judged_by_the_other(mislabelled: Scenario) -> None:
    params, trusted = InfluenceFunctionsParams(method="grad_influence"), mislabelled.trusted
    half = torch.randperm(len(trusted), generator=mislabelled.rng("influence halves")) % 2 == 0
    one, other = trusted.select(half), trusted.select(~half)
    few = replace(mislabelled, data=mislabelled.data.select(torch.arange(6)))
    harms = [detect(replace(few, trusted=a, data=b), params).scores for a, b in ((one, other), (other, one))]
    reference = detect(few, params).reference
    assert reference is not None
    assert torch.allclose(reference, torch.cat(harms), atol=1e-6)


@pytest.mark.parametrize("method", ["grad_influence", "hessian_inverse"])
def test_wrong_labels_do_harm(digits: Dataset, mislabelled: Scenario, method: str) -> None:
    found = detect(mislabelled, InfluenceFunctionsParams(method=method))
    wrong = mislabelled.data.labels != digits.train.labels
    harm, usual = found.scores[wrong], found.scores[~wrong]
    area = (harm.unsqueeze(1) > usual.unsqueeze(0)).float().mean()
    assert area >= 0.9
    assert found.flagged[~wrong].float().mean() <= 0.02
    assert found.flagged[wrong].float().mean() >= 0.2


@pytest.mark.parametrize("method", ["grad_influence", "hessian_inverse"])
def test_leaves_clean_data_alone(digits: Dataset, mislabelled: Scenario, method: str) -> None:
    clean = replace(mislabelled, data=digits.train)
    found = detect(clean, InfluenceFunctionsParams(method=method))
    assert found.flagged.float().mean() <= 0.02


def test_literal_removes_large_influence_of_either_sign(mislabelled: Scenario, clean_model: Classifier) -> None:
    found = detect(mislabelled, InfluenceFunctionsParams(variant="literal"))
    direction = mean_gradient(clean_model, mislabelled.trusted, CPU)
    products = directional_derivatives(clean_model, direction, mislabelled.data, CPU).abs()
    assert torch.equal(found.scores, products)
    assert torch.equal(found.flagged, products > products.mean() + 2 * products.std(correction=0))


@pytest.mark.parametrize("variant", ["paper", "literal"])
def test_sample_size_is_an_upper_limit_down_to_one_of_each_class(mislabelled: Scenario, variant: str) -> None:
    for limit, used in ((5, 10), (40, 40), (5000, len(mislabelled.trusted))):
        params = InfluenceFunctionsParams(method="hessian_inverse", sample_size=limit, variant=variant)
        assert detect(mislabelled, params).details["trusted_used"] == used


def test_refuses_to_work_without_trusted_data(mislabelled: Scenario) -> None:
    with pytest.raises(UsageError, match="trusted_fraction"):
        detect(flips.without_trusted(mislabelled), InfluenceFunctionsParams())


@pytest.mark.parametrize("method", ["grad_influence", "hessian_inverse"])
def test_refuses_one_trusted_image_which_has_no_other_half(
    mislabelled: Scenario, method: Literal["grad_influence", "hessian_inverse"]
) -> None:
    one = replace(mislabelled, trusted=mislabelled.trusted.select(torch.tensor([0])))
    with pytest.raises(UsageError, match="1 images are held out"):
        detect(one, InfluenceFunctionsParams(method=method))


def test_a_class_that_nobody_vouches_for_is_left_alone(mislabelled: Scenario, digits: Dataset) -> None:
    rare = flips.rare_class(mislabelled, 3)
    own = rare.data.labels == 3
    images = rare.data.images.clone()
    images[own] = digits.train.images[digits.train.labels == 8][: int(own.sum())]  # nobody knows that they are no 3
    rare = replace(rare, data=replace(rare.data, images=images))
    found = detect(rare, InfluenceFunctionsParams(method="hessian_inverse"))
    assert not found.flagged[own].any()
    assert found.flagged.any()


def test_a_layer_that_is_not_used_has_no_influence(digits: Dataset) -> None:
    class Spare(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.spare, self.head = nn.Linear(64, 3), nn.Linear(64, 10)

        def forward(self, images: Tensor) -> Tensor:
            logits: Tensor = self.head(images.flatten(1))
            return logits

    found = mean_gradient(Classifier(Spare(), [0.5], [0.3], (1, 8, 8)), digits.trusted, CPU)
    assert not found["net.spare.weight"].any() and found["net.head.weight"].any()


def test_frozen_layers_have_no_influence(mislabelled: Scenario, clean_model: Classifier) -> None:
    frozen = clean_model.clone()
    frozen.net.conv.requires_grad_(False)
    whole, found = (mean_gradient(model, mislabelled.trusted, CPU) for model in (clean_model, frozen))
    assert found.keys() == whole.keys()
    for name, gradient in found.items():
        assert not gradient.any() if name.startswith("net.conv") else torch.allclose(gradient, whole[name], atol=1e-6)
    few = replace(mislabelled, data=mislabelled.data.select(torch.arange(20)), clean_model=lambda: frozen)
    assert detect(few, InfluenceFunctionsParams()).scores.any()


def test_the_last_layers_influence_against_the_whole_hessian(mislabelled: Scenario, clean_model: Classifier) -> None:
    """Koh and Liang's formula, written out: the harm to class c is -g_c (H + damping I)^-1 g, in units of g_c's own."""
    few = replace(mislabelled, data=mislabelled.data.select(torch.arange(0, 1000, 5)))
    found = detect(few, InfluenceFunctionsParams(method="hessian_inverse", damping=0.1)).scores

    def view(data: ImageSet) -> tuple[Tensor, Tensor]:
        features = few.bench.features(clean_model, data.images).double()
        rows = torch.cat([features, torch.ones(len(data), 1)], 1)
        return rows, few.bench.predict(clean_model, data.images).double().softmax(1)

    rows, p = view(few.data)
    width = rows.shape[1] * 10
    curvature = torch.diag_embed(p) - p.unsqueeze(2) * p.unsqueeze(1)
    hessian = torch.einsum("nd,nkl,ne->dkel", rows, curvature, rows).reshape(width, width) / len(rows)
    inverse = torch.linalg.inv(hessian + 0.1 * torch.eye(width))
    slopes = torch.einsum("nd,nk->ndk", rows, p - F.one_hot(few.data.labels, 10)).flatten(1)
    harms = []
    for label in range(10):
        judge = few.trusted.select(few.trusted.labels == label)
        inputs, outputs = view(judge)
        target = torch.einsum("nd,nk->dk", inputs, outputs - F.one_hot(judge.labels, 10)).flatten() / len(judge)
        harms.append(-(slopes @ inverse @ target) / (target @ inverse @ target).sqrt())
    exact = torch.stack(harms, 1).amax(1).float()
    assert exact.abs().max() > 0.01
    assert torch.allclose(found, exact, rtol=1e-2, atol=1e-3 * float(exact.abs().max()))
