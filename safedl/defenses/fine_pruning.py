"""Fine-pruning: dormant channels are switched off, then the rest is tuned on trusted images."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from safedl.catalog.defenses.backdoor import FinePruningParams
from safedl.defenses import units
from safedl.defenses.contract import Repaired, Scenario
from safedl.defenses.trusted import require_trusted


def repair(scenario: Scenario, params: FinePruningParams) -> Repaired:
    """Prune the channels of the last convolution that trusted images use least, then fine-tune on these images.

    Liu, Dolan-Gavitt, Garg: Fine-Pruning (RAID 2018). Pruned channels stay switched off during fine-tuning.
    `variant="literal"`: the outputs of the last linear layer with the largest mean absolute activation are switched
    off; nothing is tuned. Raises `UsageError` if there is no trusted data or nothing to prune.
    """
    if params.variant == "literal":
        layer = units.linears(scenario.model)[-1]
        activations = units.mean_activations(scenario, [layer], scenario.data.images, torch.abs)[layer.name]
        dead = activations.mean(0).topk(round(params.pruning_ratio * layer.count)).indices
        model = scenario.model.clone()
        units.switch_off(model, [layer], {layer.name: dead})
        return Repaired(model, {"trusted_used": 0, **_describe(layer, dead)})
    require_trusted(scenario, "fine_pruning")
    layer = units.feature_layers(scenario.model)[-1]
    activations = units.mean_activations(scenario, [layer], scenario.trusted.images, torch.relu)[layer.name]
    dead = activations.mean(0).argsort(stable=True)[: round(params.pruning_ratio * layer.count)]
    model = scenario.model.clone()

    def keep_off() -> None:
        units.switch_off(model, [layer], {layer.name: dead})

    keep_off()
    pruned = units.trusted_accuracy(scenario, model)
    scenario.fit(
        scenario.trusted, model=model, after_step=keep_off, phase="fine-tune",
        epochs=params.epochs, learning_rate=params.learning_rate,
    )  # fmt: skip
    details = {
        "trusted_used": len(scenario.trusted),
        "trusted_accuracy_pruned": pruned,
        "trusted_accuracy_after": units.trusted_accuracy(scenario, model),
        **_describe(layer, dead),
    }
    return Repaired(model, details)


def _describe(layer: units.UnitLayer, dead: Tensor) -> dict[str, Any]:
    return {
        "pruned_layer": layer.name,
        "num_neurons_pruned": len(dead),
        "pruned_neuron_indices": dead.sort().values.tolist(),
    }
