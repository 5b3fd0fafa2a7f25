"""Pruning: units that serve the trigger and not the clean images are switched off."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from safedl.catalog.defenses.backdoor import PruningParams
from safedl.defenses import units
from safedl.defenses.contract import Repaired, Scenario
from safedl.defenses.reversed_trigger import ReversedTriggers, find_small_triggers, reverse_triggers
from safedl.defenses.trusted import require_trusted
from safedl.models.classifier import Classifier
from safedl.training.fit import to_float

TOLERANCE = 0.04
"""How much trusted accuracy may fall."""
STEP = 0.02
"""Share of the units that is pruned at once."""
ROUNDS = 4
"""How often a trigger is reversed: a pruned model may have another one."""
DEAD_TRIGGER = 0.02
"""Share of trusted images that a trigger may still send to its class once it counts as pruned away."""
SAMPLE = 256
"""Trusted images behind each step's gradients."""


def repair(scenario: Scenario, params: PruningParams) -> Repaired:
    """Switch channels off, at most `pruning_ratio` of them, as long as trusted accuracy falls by at most 4 points.

    `criterion="trigger"` reverse-engineers the trigger of a suspicious class on trusted images and prunes what serves
    it (Wang et al.: Neural Cleanse, S&P 2019); a model without a suspicious class stays as it is. `"dormant"` starts
    with the channels least active on trusted images (Liu, Dolan-Gavitt, Garg: Fine-Pruning, RAID 2018).
    `variant="literal"`: the outputs of linear layers with the largest mean absolute activation, without a limit.
    Raises `UsageError` if there is no trusted data or nothing to prune.
    """
    if params.variant == "literal":
        return _most_active(scenario, params)
    require_trusted(scenario, "pruning")
    layers = units.feature_layers(scenario.model)
    layers = layers[-1:] if params.scope == "last_layer_only" else layers
    limit = round(params.pruning_ratio * sum(layer.count for layer in layers))
    target: int | None = None
    if params.criterion == "dormant":
        dead = _dormant(scenario, layers, limit)
    else:
        found = find_small_triggers(scenario)
        target = found.suspicious[0] if found.suspicious else None
        dead = {} if target is None else _serving(scenario, layers, limit, target, found.triggers)
    model = scenario.model.clone()
    units.switch_off(model, layers, dead)
    details = {
        "trusted_used": len(scenario.trusted),
        "target_class": target,
        "trusted_accuracy_before": units.trusted_accuracy(scenario, scenario.model),
        "trusted_accuracy_after": units.trusted_accuracy(scenario, model),
        **_describe(model, layers, dead),
    }
    return Repaired(model, details)


def _dormant(scenario: Scenario, layers: list[units.UnitLayer], limit: int) -> dict[str, Tensor]:
    """Return the channels least active on trusted images, as many as accuracy allows."""
    activations = units.mean_activations(scenario, layers, scenario.trusted.images, torch.relu)
    means = [activations[layer.name].mean(0) for layer in layers]
    order = torch.cat([mean / mean.mean().clamp_min(1e-9) for mean in means]).argsort(stable=True)
    floor = units.trusted_accuracy(scenario, scenario.model) - TOLERANCE
    step = max(1, round(STEP * len(order)))
    dead: dict[str, Tensor] = {}
    for count in range(step, limit + 1, step):
        chosen = torch.zeros(len(order), dtype=torch.bool)
        chosen[order[:count]] = True
        trial = _by_layer(layers, chosen)
        model = scenario.model.clone()
        units.switch_off(model, layers, trial)
        if units.trusted_accuracy(scenario, model) < floor:
            break
        dead = trial
    return dead


def _serving(
    scenario: Scenario, layers: list[units.UnitLayer], limit: int, target: int, first: ReversedTriggers
) -> dict[str, Tensor]:
    """Return the channels that serve a trigger of the target class more than the clean images.

    Greedy: each step takes the channels whose removal, to first order, lowers the loss most on triggered and clean
    trusted images together; those that cost too much trusted accuracy stay. Once the trigger is dead, another one is
    reversed on the pruned model.
    """
    device, rng = scenario.bench.device, scenario.rng("pruning")
    images, labels = to_float(scenario.trusted.images, device), scenario.trusted.labels.to(device)
    model = scenario.model.clone().to(device).requires_grad_(False)
    pruned = replace(scenario, model=model)
    floor = units.trusted_accuracy(scenario, model) - TOLERANCE
    gone = torch.zeros(sum(layer.count for layer in layers), dtype=torch.bool)
    needed = gone.clone()
    step = max(1, round(STEP * len(gone)))
    triggered: list[Tensor] = []
    with units.gated(model, layers) as gates:
        for attempt in range(ROUNDS):
            latest = reverse_triggers(pruned, [target], f"reverse trigger {attempt}") if attempt else first
            triggered.append(latest.apply(images, 0 if attempt else target))
            while _success(model, triggered, labels, target) > DEAD_TRIGGER:
                gain = _gain(model, gates, layers, images, labels, triggered, rng)
                gain[gone | needed] = -torch.inf
                best = gain.topk(step)
                chosen = best.indices[best.values > 0]
                if not len(chosen) or int(gone.sum()) + len(chosen) > limit:
                    return _by_layer(layers, gone)
                gone[chosen] = True
                _set(gates, layers, gone)
                if units.trusted_accuracy(pruned, model) < floor:
                    gone[chosen] = False
                    needed[chosen] = True
                    _set(gates, layers, gone)
                scenario.bench.progress.step("prune", int(gone.sum()), limit)
    return _by_layer(layers, gone)


def _gain(
    model: Classifier, gates: Mapping[str, Tensor], layers: list[units.UnitLayer], images: Tensor, labels: Tensor,
    triggered: list[Tensor], rng: torch.Generator,
) -> Tensor:  # fmt: skip
    """Return how much the loss falls, to first order, if each unit is removed: float [units of all layers]."""
    chosen = torch.randperm(len(labels), generator=rng)[:SAMPLE].to(labels.device)
    attacked = triggered[int(torch.randint(len(triggered), (1,), generator=rng))][chosen]
    own = labels[chosen]
    loss = F.cross_entropy(model(images[chosen]), own) + F.cross_entropy(model(attacked), own)
    slopes = torch.autograd.grad(loss, [gates[layer.name] for layer in layers], materialize_grads=True)
    return torch.cat(slopes).cpu()


@torch.no_grad()
def _success(model: Classifier, triggered: list[Tensor], labels: Tensor, target: int) -> float:
    """Return the share of trusted images of other classes that the best trigger sends to the target."""
    others = labels != target
    return max(float((model(images[others]).argmax(1) == target).float().mean()) for images in triggered)


@torch.no_grad()
def _set(gates: Mapping[str, Tensor], layers: list[units.UnitLayer], gone: Tensor) -> None:
    parts = gone.split([layer.count for layer in layers])
    for layer, part in zip(layers, parts, strict=True):
        gates[layer.name].copy_((~part).float())


def _by_layer(layers: list[units.UnitLayer], gone: Tensor) -> dict[str, Tensor]:
    """Return positions within each layer for a mask bool over the units of all layers."""
    parts = gone.split([layer.count for layer in layers])
    return {layer.name: part.nonzero().flatten() for layer, part in zip(layers, parts, strict=True)}


def _describe(model: Classifier, layers: list[units.UnitLayer], dead: Mapping[str, Tensor]) -> dict[str, Any]:
    return {
        "pruned_params_fraction": units.parameters_of(model, layers, dead),
        "num_neurons_pruned": sum(len(positions) for positions in dead.values()),
        "pruned_neuron_indices": {name: positions.sort().values.tolist() for name, positions in dead.items()},
    }


def _most_active(scenario: Scenario, params: PruningParams) -> Repaired:
    layers = units.linears(scenario.model)
    layers = layers[-1:] if params.scope == "last_layer_only" else layers
    activations = units.mean_activations(scenario, layers, scenario.data.images, torch.abs)
    dead = {
        layer.name: activations[layer.name].mean(0).topk(round(params.pruning_ratio * layer.count)).indices
        for layer in layers
    }
    model = scenario.model.clone()
    units.switch_off(model, layers, dead)
    return Repaired(model, {"trusted_used": 0, **_describe(model, layers, dead)})
