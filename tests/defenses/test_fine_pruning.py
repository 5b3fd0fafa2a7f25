from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from safedl.catalog.defenses.backdoor import FinePruningParams
from safedl.defenses import units
from safedl.defenses.contract import Scenario
from safedl.defenses.fine_pruning import mixtures, repair
from safedl.errors import UsageError
from tests.defenses.conftest import Backdoored


def test_backdoored_digits(backdoored: Backdoored) -> None:
    result = repair(backdoored.fresh(), FinePruningParams())
    assert backdoored.success(backdoored.scenario.model) >= 0.9
    assert backdoored.success(result.model) <= 0.1
    assert backdoored.accuracy(result.model) >= backdoored.accuracy(backdoored.scenario.model) - 0.03


def test_masks_survive_fine_tuning(backdoored: Backdoored) -> None:
    result = repair(backdoored.fresh(), FinePruningParams(pruning_ratio=0.5, epochs=1))
    pruned = result.details["pruned_neuron_indices"]
    assert result.details["pruned_layer"] == "conv.3"
    assert len(pruned) == result.details["num_neurons_pruned"] == 32
    for name in ("conv.3", "conv.4"):
        weight = result.model.layer(name).weight
        assert isinstance(weight, torch.Tensor)
        silent = (weight.flatten(1) == 0).all(1) if weight.ndim > 1 else weight == 0
        assert silent.nonzero().flatten().tolist() == pruned
    before, after = backdoored.scenario.model.layer("fc.3").weight, result.model.layer("fc.3").weight
    assert isinstance(before, torch.Tensor) and isinstance(after, torch.Tensor)
    assert not torch.equal(before, after)


def test_literal_prunes_outputs_of_the_last_layer(clean_scenario: Scenario) -> None:
    details = repair(clean_scenario, FinePruningParams(variant="literal", pruning_ratio=0.2)).details
    assert (details["pruned_layer"], details["num_neurons_pruned"], details["trusted_used"]) == ("fc.3", 2, 0)


def test_without_trusted_images_it_is_refused(clean_scenario: Scenario) -> None:
    none = clean_scenario.trusted.select(torch.arange(0))
    with pytest.raises(UsageError, match="trusted"):
        repair(replace(clean_scenario, trusted=none), FinePruningParams())


def test_by_labels_as_in_the_paper(backdoored: Backdoored) -> None:
    result = repair(backdoored.fresh(), FinePruningParams(targets="labels", pruning_ratio=0.6))
    assert backdoored.success(result.model) <= 0.2


def test_mixtures_are_answered_as_the_teacher_answers(clean_scenario: Scenario) -> None:
    """A student equal to its teacher has the least possible loss: the entropy of the answers."""
    teacher = clean_scenario.model.eval()
    images = torch.rand(16, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    labels = torch.zeros(16, dtype=torch.int64)
    function = mixtures(teacher).function
    with torch.no_grad():
        logits, loss = function(teacher, images, labels, torch.Generator().manual_seed(1))
    answers = logits.softmax(1)
    assert float(loss) == pytest.approx(float(-(answers * answers.log()).sum(1).mean()), abs=1e-5)
    other = clean_scenario.bench.build(5).eval()
    assert function(other, images, labels, torch.Generator().manual_seed(1))[1].item() > float(loss) + 0.1


def test_channels_that_sleep_on_trusted_images_go_first(clean_scenario: Scenario) -> None:
    """Two sleep always; one more would, were it not for the training images."""
    asleep = torch.tensor([3, 17])
    layers = units.convolutions(clean_scenario.model)[-1:]
    units.switch_off(clean_scenario.model, layers, {"conv.3": asleep})
    means = units.mean_activations(clean_scenario, layers, clean_scenario.trusted.images, torch.relu)["conv.3"].mean(0)
    other = clean_scenario.data.select(torch.arange(30))
    details = repair(replace(clean_scenario, data=other), FinePruningParams(pruning_ratio=0.5, epochs=1)).details
    assert set(asleep.tolist()) <= set(details["pruned_neuron_indices"])
    assert details["pruned_neuron_indices"] == sorted(means.argsort(stable=True)[:32].tolist())


def test_mixtures_are_of_two_images_in_any_proportion(clean_scenario: Scenario) -> None:
    seen: list[torch.Tensor] = []
    hook = clean_scenario.model.register_forward_pre_hook(lambda _m, inputs: seen.append(inputs[0]))
    images = torch.eye(64).view(64, 1, 8, 8)  # so that a mixture shows what is in it
    labels = torch.zeros(64, dtype=torch.int64)
    mixtures(clean_scenario.model.clone()).function(clean_scenario.model, images, labels, torch.Generator())
    hook.remove()
    shares = seen[-1].flatten(1)
    assert torch.allclose(shares.sum(1), torch.ones(64))
    assert ((shares > 0).sum(1) == 2).float().mean() > 0.9  # a few meet themselves
    assert 0.3 < float(shares.diagonal().mean()) < 0.7
    assert float(shares.diagonal().std()) > 0.2
