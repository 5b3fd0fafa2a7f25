"""Fine-pruning: dormant channels are switched off, then the rest is tuned on trusted images."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from safedl.catalog.defenses.backdoor import FinePruningParams
from safedl.defenses import units
from safedl.defenses.contract import Repaired, Scenario
from safedl.defenses.trusted import require_trusted
from safedl.models.classifier import Classifier
from safedl.training.workbench import NamedObjective


def repair(scenario: Scenario, params: FinePruningParams) -> Repaired:
    """Prune the channels of the last convolution that trusted images use least, then fine-tune on these images.

    Liu, Dolan-Gavitt, Garg: Fine-Pruning (RAID 2018). Pruned channels stay switched off during fine-tuning. Few
    trusted images teach little by their labels, so by default the model learns what it answered itself, before it was
    pruned, to mixtures of two of them (see `mixtures`); `targets="labels"` is the paper's way.
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
        objective=mixtures(scenario.model) if params.targets == "teacher" else None,
        epochs=params.epochs, learning_rate=params.learning_rate,
    )  # fmt: skip
    details = {
        "trusted_used": len(scenario.trusted),
        "trusted_accuracy_pruned": pruned,
        "trusted_accuracy_after": units.trusted_accuracy(scenario, model),
        **_describe(layer, dead),
    }
    return Repaired(model, details)


def mixtures(teacher: Classifier) -> NamedObjective:
    """Return the objective of giving a teacher's answers to mixtures of two images of a batch.

    Distillation (Hinton, Vinyals, Dean 2015) on mixup's images (Zhang et al., ICLR 2018; weights uniform in [0, 1]):
    mixtures are many where images are few. A trigger is in none of them, so what only it calls is not taught.
    """
    teacher = teacher.clone().requires_grad_(False)

    def objective(model: Classifier, images: Tensor, _labels: Tensor, rng: torch.Generator) -> tuple[Tensor, Tensor]:
        weight = torch.rand(len(images), 1, 1, 1, generator=rng).to(images.device)
        partner = torch.randperm(len(images), generator=rng).to(images.device)
        mixed = weight * images + (1 - weight) * images[partner]
        answers = teacher.to(images.device)(mixed).float().softmax(1)
        logits = model(mixed)
        return logits, F.cross_entropy(logits.float(), answers)

    return NamedObjective("teacher's answers to mixtures", objective)


def _describe(layer: units.UnitLayer, dead: Tensor) -> dict[str, Any]:
    return {
        "pruned_layer": layer.name,
        "num_neurons_pruned": len(dead),
        "pruned_neuron_indices": dead.sort().values.tolist(),
    }
