from __future__ import annotations

import torch

from safedl.defenses import units
from safedl.defenses.contract import Scenario


def test_convolutions_are_paired_with_their_normalisation(clean_scenario: Scenario) -> None:
    found = units.convolutions(clean_scenario.model)
    assert [(layer.name, layer.norm, layer.count) for layer in found] == [
        ("conv.0", "conv.1", 32),
        ("conv.3", "conv.4", 64),
    ]
    assert [layer.name for layer in units.linears(clean_scenario.model)] == ["fc.1", "fc.3"]


def test_switched_off_channels_give_nothing(clean_scenario: Scenario) -> None:
    layers = units.convolutions(clean_scenario.model)[-1:]
    dead = torch.tensor([1, 5, 60])
    units.switch_off(clean_scenario.model, layers, {"conv.3": dead})
    activations = units.mean_activations(clean_scenario, layers, clean_scenario.trusted.images, torch.abs)["conv.3"]
    silent = (activations == 0).all(0)
    assert silent.nonzero().flatten().tolist() == dead.tolist()


def test_mean_activations_equal_a_forward_pass(clean_scenario: Scenario) -> None:
    images = clean_scenario.trusted.images[:20]
    layer = units.linears(clean_scenario.model)[-1:]
    activations = units.mean_activations(clean_scenario, layer, images, torch.abs)["fc.3"]
    assert torch.allclose(activations, clean_scenario.bench.predict(clean_scenario.model, images).abs(), atol=1e-5)


def test_the_share_of_parameters_counts_rows_and_normalisation(clean_scenario: Scenario) -> None:
    layers = units.convolutions(clean_scenario.model)[:1]
    share = units.parameters_of(clean_scenario.model, layers, {"conv.0": torch.tensor([0, 1])})
    total = sum(parameter.numel() for parameter in clean_scenario.model.parameters())
    assert share == 2 * (9 + 1 + 2) / total
