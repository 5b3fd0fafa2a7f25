"""Units that can be pruned: channels of convolutions and neurons of linear layers, and how to switch them off."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from safedl.defenses.contract import Scenario
from safedl.errors import UsageError
from safedl.models.classifier import Classifier
from safedl.models.follow import following_norms, show_noise
from safedl.training.fit import to_float
from safedl.training.predict import BATCH, accuracy


@dataclass(frozen=True)
class UnitLayer:
    """A layer with units. `name`: its name; `norm`: the batch normalisation that follows a convolution, or None."""

    name: str
    norm: str | None
    count: int

    @property
    def output(self) -> str:
        """The name of the layer at whose output the units are seen."""
        return self.norm or self.name


def convolutions(model: Classifier) -> list[UnitLayer]:
    """Return the convolutions that images pass, in the order in which the network defines them."""
    found = [(n, m.out_channels) for n, m in _at_work(model) if isinstance(m, nn.Conv2d)]
    norms = following_norms(model) if found else {}
    return [UnitLayer(name, norms.get(name), count) for name, count in found]


def linears(model: Classifier) -> list[UnitLayer]:
    """Return the linear layers that images pass, the classification layer last."""
    found = [UnitLayer(n, None, m.out_features) for n, m in _at_work(model) if isinstance(m, nn.Linear)]
    return sorted(found, key=lambda layer: layer.name == model.head)


def _at_work(model: Classifier) -> list[tuple[str, nn.Module]]:
    """Return the convolutions and linear layers that run in eval mode: heads for training alone have no activations."""
    layers = [(n, m) for n, m in model.net.named_modules() if isinstance(m, nn.Conv2d | nn.Linear)]
    ran: set[nn.Module] = set()
    show_noise(model, [layer.register_forward_hook(lambda own, _inputs, _output: ran.add(own)) for _, layer in layers])
    return [(name, layer) for name, layer in layers if layer in ran]


def feature_layers(model: Classifier) -> list[UnitLayer]:
    """Return what the papers prune: the convolutions, or the hidden linear layers of a network without any.

    Raises `UsageError` for a network with neither.
    """
    layers = convolutions(model) or linears(model)[:-1]
    if not layers:
        raise UsageError("the model has no layer to prune: it needs a convolution or a hidden linear layer")
    return layers


@torch.no_grad()
def mean_activations(
    scenario: Scenario, layers: list[UnitLayer], images: Tensor, activation: Callable[[Tensor], Tensor]
) -> dict[str, Tensor]:
    """Return each layer's mean activation per unit and image, float32 [N, units], for uint8 images [N, C, H, W]."""
    model, device = scenario.model.to(scenario.bench.device).eval(), scenario.bench.device
    seen: dict[str, list[Tensor]] = {layer.name: [] for layer in layers}

    def watch(name: str) -> Callable[[nn.Module, tuple[Tensor, ...], Tensor], None]:
        def hook(module: nn.Module, _inputs: tuple[Tensor, ...], output: Tensor) -> None:
            values = activation(output)
            values = values.flatten(2).mean(2) if isinstance(module, nn.Conv2d | nn.BatchNorm2d) else values
            seen[name].append(values.reshape(len(values), -1, values.shape[-1]).mean(1).cpu())

        return hook

    handles = [model.layer(layer.output).register_forward_hook(watch(layer.name)) for layer in layers]
    try:
        for start in range(0, len(images), BATCH):
            model(to_float(images[start : start + BATCH], device))
            scenario.bench.progress.step("activations", min(start + BATCH, len(images)), len(images))
    finally:
        for handle in handles:
            handle.remove()
    return {name: torch.cat(parts) for name, parts in seen.items()}


@contextmanager
def gated(model: Classifier, layers: list[UnitLayer]) -> Iterator[dict[str, Tensor]]:
    """Multiply every unit's output by a gate, as long as the context lasts.

    Yields the gates, float [units] by layer name, all 1 at first: 0 acts like `switch_off`, and they have gradients.
    """
    device = next(model.parameters()).device
    gates = {layer.name: torch.ones(layer.count, device=device, requires_grad=True) for layer in layers}

    def gate(name: str) -> Callable[[nn.Module, tuple[Tensor, ...], Tensor], Tensor]:
        def hook(module: nn.Module, _inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
            spatial = isinstance(module, nn.Conv2d | nn.BatchNorm2d)
            return output * (gates[name].view(-1, 1, 1) if spatial else gates[name])

        return hook

    handles = [model.layer(layer.output).register_forward_hook(gate(layer.name)) for layer in layers]
    try:
        yield gates
    finally:
        for handle in handles:
            handle.remove()


@torch.no_grad()
def switch_off(model: Classifier, layers: list[UnitLayer], dead: Mapping[str, Tensor]) -> None:
    """Set the weights and biases of units to zero, in place. `dead`: positions int64 by layer name."""
    for layer in layers:
        if layer.name not in dead:
            continue
        for name in (layer.name, layer.norm):
            module = model.layer(name) if name else None
            for parameter in module.parameters(recurse=False) if module else ():
                parameter[dead[layer.name].to(parameter.device)] = 0


def parameters_of(model: Classifier, layers: list[UnitLayer], dead: Mapping[str, Tensor]) -> float:
    """Return the share of the model's parameters that belong to switched-off units."""
    gone = 0
    for layer in layers:
        for name in (layer.name, layer.norm):
            module = model.layer(name) if name else None
            for parameter in module.parameters(recurse=False) if module else ():
                gone += len(dead.get(layer.name, ())) * parameter[0].numel()
    return gone / sum(parameter.numel() for parameter in model.parameters())


def trusted_accuracy(scenario: Scenario, model: Classifier) -> float:
    """Return the share of trusted images that a model classifies rightly."""
    return accuracy(scenario.bench.predict(model, scenario.trusted.images), scenario.trusted.labels)
