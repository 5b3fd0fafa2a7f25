from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from safedl.cache import ArtifactCache
from safedl.catalog.defenses.evasion import AdversarialTrainingParams
from safedl.data.imageset import Dataset
from safedl.defenses import adversarial_training
from safedl.defenses.adversarial_training import (
    craft,
    divergence,
    evaluating,
    objective,
    step_size,
    trades_objective,
    train,
)
from safedl.defenses.contract import Scenario
from safedl.models.classifier import Classifier
from safedl.models.dropout import SeededDropout
from tests.defenses.evasion import accuracy, batch, pgd_accuracy, same_weights


def rng() -> torch.Generator:
    return torch.Generator().manual_seed(0)


@pytest.mark.parametrize("kind", ["fgsm", "pgd", "trades"])
def test_robust_accuracy_rises_and_clean_accuracy_stays(
    digits: Dataset, clean_scenario: Scenario, clean_model: Classifier, kind: str
) -> None:
    trained = train(clean_scenario, AdversarialTrainingParams(attack_type=kind, num_steps=2, epochs=8))
    before, after = (pgd_accuracy(digits, model, 0.1) for model in (clean_model, trained.model))
    assert after >= before + 0.1
    assert accuracy(digits, trained.model) >= accuracy(digits, clean_model) - 0.04
    assert trained.details["attack_type"] == kind


@pytest.mark.parametrize("kind", ["fgsm", "pgd", "trades"])
def test_crafted_images_stay_in_budget_and_statistics_as_they_were(
    digits: Dataset, clean_model: Classifier, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    seen: list[tuple[Tensor, bool]] = []

    def watched(*args: object) -> Tensor:
        before = {k: v.clone() for k, v in clean_model.state_dict().items()}
        made = craft(*args)  # type: ignore[arg-type]
        after = clean_model.state_dict()
        seen.append((made, all(torch.equal(before[k], after[k]) for k in before)))
        return made

    monkeypatch.setattr(adversarial_training, "craft", watched)
    images, labels = batch(digits)
    clean_model.train()
    params = AdversarialTrainingParams(attack_type=kind, epsilon=0.1)
    _, loss = objective(params).function(clean_model, images, labels, rng())
    [(made, untouched)] = seen
    assert untouched
    assert clean_model.training
    assert all(module.training for module in clean_model.modules())
    assert made.min() >= 0 and made.max() <= 1
    assert 0.09 < (made - images).abs().max() <= 0.1 + 1e-6
    assert loss > F.cross_entropy(clean_model(images), labels)


def test_crafting_begins_where_it_is_told_within_the_budget(digits: Dataset, clean_model: Classifier) -> None:
    images, _ = batch(digits)
    params = AdversarialTrainingParams(attack_type="pgd", epsilon=0.1, alpha=1e-9, num_steps=1)
    made = craft(clean_model, images, torch.full_like(images, 0.5), lambda z: z.sum(), params)
    assert torch.allclose(made, (images + 0.1).clamp(0, 1), atol=1e-6)


def test_steps_are_the_papers_unless_given() -> None:
    assert step_size(AdversarialTrainingParams(attack_type="fgsm", epsilon=0.2)) == pytest.approx(0.25)
    assert step_size(AdversarialTrainingParams(attack_type="pgd", epsilon=0.2, num_steps=5)) == pytest.approx(0.1)
    assert step_size(AdversarialTrainingParams(attack_type="pgd", epsilon=0.2, alpha=0.03)) == 0.03


def test_trades_without_weight_is_cross_entropy(digits: Dataset, clean_model: Classifier) -> None:
    images, labels = batch(digits)
    plain = F.cross_entropy(clean_model.clone().train()(images), labels)
    model = clean_model.clone().train()
    params = AdversarialTrainingParams(attack_type="trades", beta=1e-9)
    _, loss = trades_objective(model, images, labels, rng(), params)
    assert loss.item() == pytest.approx(plain.item(), rel=1e-6)
    weighted = AdversarialTrainingParams(attack_type="trades", beta=6.0)
    assert trades_objective(clean_model.clone().train(), images, labels, rng(), weighted)[1] > 1.5 * plain


def test_trades_asks_how_far_the_adversarial_answer_is_from_the_clean_one(
    digits: Dataset, clean_model: Classifier, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The paper's equation 5, with the clean answer as the distribution that the other is compared with."""
    images, labels = batch(digits, 16)
    made = (images + 0.3 * torch.rand(images.shape, generator=rng())).clamp(0, 1)
    monkeypatch.setattr(adversarial_training, "craft", lambda *_: made)
    params = AdversarialTrainingParams(attack_type="trades", beta=2.0)
    _, loss = trades_objective(clean_model.eval(), images, labels, rng(), params)
    clean, other = clean_model(images).softmax(1), clean_model(made).softmax(1)
    robust = (clean * (clean / other).log()).sum(1).mean()
    back = (other * (other / clean).log()).sum(1).mean()
    assert abs(float(robust - back)) > 0.01
    assert float(loss) == pytest.approx(float(F.cross_entropy(clean.log(), labels) + 2 * robust), rel=1e-3)


def test_divergence_is_the_sum_over_classes() -> None:
    p, q = torch.tensor([[0.7, 0.2, 0.1]]), torch.tensor([[0.2, 0.5, 0.3]])
    assert divergence(p.log(), q.log()).item() == pytest.approx((p * (p / q).log()).sum().item())
    assert divergence(p.log(), p.log()).item() == pytest.approx(0, abs=1e-6)


def test_no_budget_trains_on_the_images_themselves(clean_scenario: Scenario) -> None:
    few = replace(clean_scenario, data=clean_scenario.data.select(torch.arange(200)))
    params = AdversarialTrainingParams(attack_type="fgsm", epsilon=0, alpha=0.1, epochs=1)
    images = few.data.images[:8].float().div(255)
    model = few.model.clone()
    made = craft(model, images, torch.zeros_like(images), lambda z: z.sum(), params)
    assert torch.equal(made, images)
    assert train(few, params).details["epochs"] == 1


def test_one_model_for_all_who_ask_and_another_for_other_parameters(clean_scenario: Scenario, tmp_path: Path) -> None:
    few = clean_scenario.data.select(torch.arange(200))
    scene = replace(clean_scenario, data=few, bench=replace(clean_scenario.bench, cache=ArtifactCache(tmp_path)))
    params = AdversarialTrainingParams(epochs=1, num_steps=2)
    first, other = train(scene, params).model, replace(scene, bench=replace(scene.bench))
    assert same_weights(first, train(other, params).model)
    assert other.bench.spared > 0
    assert same_weights(first, train(replace(scene, bench=clean_scenario.bench), params).model)
    assert not same_weights(first, scene.fit(few, epochs=1))
    names = {
        objective(AdversarialTrainingParams(**changed)).name
        for changed in (
            {}, {"epsilon": 0.2}, {"alpha": 0.01}, {"num_steps": 3}, {"attack_type": "fgsm"},
            {"attack_type": "trades"}, {"attack_type": "trades", "beta": 1.0},
        )
    }  # fmt: skip
    assert len(names) == 7


def test_low_precision_trains_too(digits: Dataset, clean_scenario: Scenario) -> None:
    few = clean_scenario.data.select(torch.arange(400))
    params = AdversarialTrainingParams(attack_type="trades", num_steps=1)
    model = clean_scenario.fit(few, objective=objective(params), epochs=6, precision="bfloat16")
    assert accuracy(digits, model) > 0.5


def test_crafting_neither_drops_values_nor_starts_the_draws_of_dropout_again() -> None:
    layer, values = SeededDropout(0.5, seed=0).train(), torch.ones(100)
    first = layer(values)
    with evaluating(layer):
        assert torch.equal(layer(values), values)
    assert not torch.equal(layer(values), first)
