from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from safedl import catalog
from safedl.defenses import load, pruning, units
from safedl.defenses.contract import Scenario
from safedl.models.classifier import Classifier


def test_convolutions_are_paired_with_their_normalisation(clean_scenario: Scenario) -> None:
    found = units.convolutions(clean_scenario.model)
    assert [(layer.name, layer.norm, layer.count) for layer in found] == [
        ("conv.0", "conv.1", 32),
        ("conv.3", "conv.4", 64),
    ]
    assert [layer.name for layer in units.linears(clean_scenario.model)] == ["fc.1", "fc.3"]


class Shuffled(nn.Module):
    """Defines its normalisations after its convolutions, and uses one of them not at all."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(1, 8, 3, padding=1), nn.Conv2d(8, 8, 3, padding=1)
        self.bn1, self.bn2, self.spare = nn.BatchNorm2d(8), nn.BatchNorm2d(8), nn.BatchNorm2d(8)
        self.fc = nn.Linear(8, 10)

    def forward(self, images: Tensor) -> Tensor:
        seen = torch.relu(self.bn2(self.conv2(torch.relu(self.bn1(self.conv1(images))))))
        logits: Tensor = self.fc(seen.mean((2, 3)))
        return logits


def test_pairs_are_those_of_the_network_at_work() -> None:
    model = Classifier(Shuffled(), [0.0], [1.0], (1, 8, 8)).eval()
    before = {n: v.clone() for n, v in model.state_dict().items()}
    layers = units.convolutions(model)
    assert [(layer.name, layer.norm) for layer in layers] == [("conv1", "bn1"), ("conv2", "bn2")]
    assert all(torch.equal(before[n], v) for n, v in model.state_dict().items()) and not model.training
    norm = model.layer("bn2")
    nn.init.constant_(norm.bias, 1.0)
    units.switch_off(model, layers[1:], {"conv2": torch.tensor([0, 5])})
    seen: list[Tensor] = []
    norm.register_forward_hook(lambda _m, _i, output: seen.append(output))
    model(torch.rand(3, 1, 8, 8))
    assert (seen[0].abs().amax((0, 2, 3)) == 0).nonzero().flatten().tolist() == [0, 5]


class WithHeadForTraining(nn.Module):
    """Has a second head, which runs in training alone, and one that nothing listens to."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.fc = nn.Conv2d(1, 8, 3), nn.Linear(8, 10)
        self.idle, self.second, self.second_fc = nn.Conv2d(8, 6, 1), nn.Conv2d(8, 4, 1), nn.Linear(4, 10)

    def forward(self, images: Tensor) -> Tensor:
        seen = torch.relu(self.conv(images))
        self.idle(seen)
        logits: Tensor = self.fc(seen.mean((2, 3)))
        return logits + self.second_fc(self.second(seen).mean((2, 3))) if self.training else logits


@pytest.mark.parametrize(
    ("defense", "params"),
    [
        ("pruning", {"criterion": "dormant", "scope": "all_layers"}),
        ("pruning", {"variant": "literal", "scope": "all_layers"}),
        ("fine_pruning", {"epochs": 1}),
    ],
)
def test_layers_that_do_not_run_are_not_pruned(
    clean_scenario: Scenario, defense: str, params: dict[str, object]
) -> None:
    model = Classifier(WithHeadForTraining(), [0.0], [1.0], (1, 8, 8)).eval()
    assert [layer.name for layer in units.convolutions(model)] == ["conv", "idle"]
    assert [layer.name for layer in units.linears(model)] == ["fc"]
    spec = catalog.defense(defense)
    result = load(spec)(replace(clean_scenario, model=model), spec.params.model_validate(params))
    assert "second" not in str(result.details)


def test_a_layer_that_nothing_listens_to_serves_nothing(clean_scenario: Scenario) -> None:
    model = Classifier(WithHeadForTraining(), [0.0], [1.0], (1, 8, 8)).eval().requires_grad_(False)
    layers, images = units.convolutions(model), clean_scenario.trusted.images[:20].float() / 255
    labels, rng = clean_scenario.trusted.labels[:20], torch.Generator().manual_seed(0)
    with units.gated(model, layers) as gates:
        gain = pruning._gain(model, gates, layers, images, labels, [images], rng)
    assert gain[:8].any() and not gain[8:].any()


def test_switched_off_channels_give_nothing(clean_scenario: Scenario) -> None:
    layers = units.convolutions(clean_scenario.model)[-1:]
    dead = torch.tensor([1, 5, 60])
    units.switch_off(clean_scenario.model, layers, {"conv.3": dead})
    activations = units.mean_activations(clean_scenario, layers, clean_scenario.trusted.images, torch.abs)["conv.3"]
    silent = (activations == 0).all(0)
    assert silent.nonzero().flatten().tolist() == dead.tolist()


def test_gates_are_gone_with_their_context(clean_scenario: Scenario) -> None:
    model, images = clean_scenario.model, clean_scenario.trusted.images[:20].float() / 255
    with torch.no_grad():
        before = model(images)
        with units.gated(model, units.convolutions(model)) as gates:
            for gate in gates.values():
                gate.zero_()
            assert not torch.equal(model(images), before)
        assert torch.equal(model(images), before)


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
