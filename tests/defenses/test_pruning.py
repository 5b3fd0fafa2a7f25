from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from safedl.catalog.defenses.backdoor import PruningParams
from safedl.defenses import pruning, units
from safedl.defenses.contract import Scenario
from safedl.defenses.pruning import TOLERANCE, repair
from safedl.defenses.reversed_trigger import ReversedTriggers, SmallTriggers
from tests.defenses.conftest import Backdoored


@pytest.mark.parametrize("scope", ["last_layer_only", "all_layers"])
def test_accuracy_and_ratio_limit_what_is_pruned(backdoored: Backdoored, scope: str) -> None:
    params = PruningParams.model_validate({"criterion": "dormant", "scope": scope, "pruning_ratio": 0.5})
    details = repair(backdoored.fresh(), params).details
    layers = {"conv.3"} if scope == "last_layer_only" else {"conv.0", "conv.3"}
    assert 0 < details["num_neurons_pruned"] <= 0.5 * (64 if scope == "last_layer_only" else 96)
    assert details["trusted_accuracy_after"] >= details["trusted_accuracy_before"] - TOLERANCE
    assert set(details["pruned_neuron_indices"]) == layers


def test_backdoored_digits(backdoored: Backdoored) -> None:
    before = {k: v.clone() for k, v in backdoored.scenario.model.state_dict().items()}
    result = repair(backdoored.scenario, PruningParams())
    assert result.details["target_class"] == backdoored.target
    assert backdoored.success(backdoored.scenario.model) >= 0.9
    assert backdoored.success(result.model) <= 0.3
    assert backdoored.accuracy(result.model) >= backdoored.accuracy(backdoored.scenario.model) - 0.05
    assert all(torch.equal(v, before[k]) for k, v in backdoored.scenario.model.state_dict().items())


def test_channels_that_cost_too_much_accuracy_stay(
    backdoored: Backdoored, monkeypatch: pytest.MonkeyPatch
) -> None:  # fmt: skip
    trigger, sizes = backdoored.trigger, torch.full((10,), 0.1)
    triggers = ReversedTriggers(trigger.pattern.expand(10, 1, 8, 8), trigger.mask.expand(10, 1, 8, 8), sizes)
    found = SmallTriggers([backdoored.target], triggers, sizes, sizes, sizes)
    monkeypatch.setattr(pruning, "find_small_triggers", lambda _scenario: found)
    monkeypatch.setattr(pruning, "TOLERANCE", -1.0)  # whatever is pruned costs too much
    assert repair(backdoored.scenario, PruningParams()).details["num_neurons_pruned"] == 0


def test_dormant_channels_go_first(clean_scenario: Scenario) -> None:
    asleep = torch.tensor([3, 17])
    layers = units.convolutions(clean_scenario.model)[-1:]
    units.switch_off(clean_scenario.model, layers, {"conv.3": asleep})
    details = repair(clean_scenario, PruningParams(criterion="dormant", pruning_ratio=0.03)).details
    assert details["pruned_neuron_indices"] == {"conv.3": asleep.tolist()}


def test_gates_act_like_switching_off(clean_scenario: Scenario) -> None:
    layers = units.convolutions(clean_scenario.model)
    dead = {"conv.0": torch.tensor([2]), "conv.3": torch.tensor([0, 40])}
    model = clean_scenario.model.clone()
    units.switch_off(model, layers, dead)
    images = clean_scenario.trusted.images
    with units.gated(clean_scenario.model, layers) as gates, torch.no_grad():
        for name, positions in dead.items():
            gates[name][positions] = 0
        gated = clean_scenario.bench.predict(clean_scenario.model, images)
    assert torch.allclose(gated, clean_scenario.bench.predict(model, images), atol=1e-4)


@pytest.mark.parametrize(
    ("scope", "layers"), [("all_layers", {"fc.1": 32, "fc.3": 2}), ("last_layer_only", {"fc.3": 2})]
)
def test_literal_zeroes_the_most_active_outputs(clean_scenario: Scenario, scope: str, layers: dict[str, int]) -> None:
    params = PruningParams.model_validate({"variant": "literal", "scope": scope, "pruning_ratio": 0.25})
    result = repair(clean_scenario, params)
    pruned = result.details["pruned_neuron_indices"]
    assert {name: len(indices) for name, indices in pruned.items()} == layers
    loudest = clean_scenario.bench.predict(clean_scenario.model, clean_scenario.data.images).abs().mean(0).topk(2)
    assert pruned["fc.3"] == sorted(loudest.indices.tolist())
    assert (clean_scenario.bench.predict(result.model, clean_scenario.data.images)[:, pruned["fc.3"]] == 0).all()


def test_accuracy_may_fall_by_four_points(backdoored: Backdoored) -> None:
    details = repair(backdoored.fresh(), PruningParams(criterion="dormant", pruning_ratio=0.99)).details
    assert 0 < details["num_neurons_pruned"] < 63
    assert details["trusted_accuracy_after"] >= details["trusted_accuracy_before"] - 0.04


def test_channels_of_layers_on_different_scales_are_ranked_alike(clean_scenario: Scenario) -> None:
    """The first layer is a thousand times louder, and the network the same: dormancy is relative to the layer."""
    params = PruningParams(criterion="dormant", scope="all_layers", pruning_ratio=0.25)
    quiet = repair(replace(clean_scenario, model=clean_scenario.model.clone()), params).details
    loud = clean_scenario.model.clone()
    norm, following = loud.layer("conv.1"), loud.layer("conv.3")
    with torch.no_grad():
        norm.weight.mul_(1024), norm.bias.mul_(1024), following.weight.div_(1024)  # type: ignore[operator]
    found = repair(replace(clean_scenario, model=loud), params).details
    assert found["pruned_neuron_indices"] == quiet["pruned_neuron_indices"]
    assert all(quiet["pruned_neuron_indices"].values())
