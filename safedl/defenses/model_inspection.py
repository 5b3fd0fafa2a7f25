"""Model inspection: weight statistics per layer, and the class that a small trigger can call."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from safedl.catalog.defenses.backdoor import ModelInspectionParams
from safedl.defenses.contract import Findings, Scenario
from safedl.defenses.reversed_trigger import ANOMALY_INDEX, SMALL, find_small_triggers
from safedl.defenses.trusted import require_trusted
from safedl.errors import UsageError

LARGEST_STD = 1.0
LARGEST_WEIGHT = 2.0


def diagnose(scenario: Scenario, params: ModelInspectionParams) -> Findings:
    """Report weight statistics of layers, and name the classes that a suspiciously small trigger can call.

    For each class the smallest trigger is reverse-engineered on trusted images (Wang et al.: Neural Cleanse, S&P 2019)
    and compared with that of a reference model (`find_small_triggers`).
    `variant="literal"`: the verdict is whether a layer's weights
    have a standard deviation above 1 or a magnitude above 2. Raises `UsageError` for unknown layers.
    """
    weights = _weights(scenario, params.layers)
    stats = {name: _statistics(values) for name, values in weights.items()}
    layers = [n for n, s in stats.items() if s["std"] > LARGEST_STD or s["max_abs"] > LARGEST_WEIGHT]
    details: dict[str, Any] = {
        "layers_inspected": list(weights),
        "suspicious_layers": layers,
        "layer_stats": stats,
        "thresholds": {"std": LARGEST_STD, "max_abs": LARGEST_WEIGHT, "anomaly_index": ANOMALY_INDEX, "ratio": SMALL},
    }
    if params.variant == "literal":
        return Findings(bool(layers), {"trusted_used": 0, **details}, weights)
    require_trusted(scenario, "model_inspection")
    found = find_small_triggers(scenario)
    target = found.suspicious[0] if found.suspicious else None
    details |= {
        "trusted_used": len(scenario.trusted),
        "suspicious_classes": [scenario.classes[label] for label in found.suspicious],
        "target_class": target,
        "target_class_name": None if target is None else scenario.classes[target],
        "classes": {
            name: {
                "trigger_size": float(found.triggers.sizes[label]),
                "reference_size": float(found.reference_sizes[label]),
                "ratio": float(found.ratios[label]),
                "anomaly_index": float(found.index[label]),
            }
            for label, name in enumerate(scenario.classes)
        },
    }
    return Findings(bool(found.suspicious), details, weights)


def _weights(scenario: Scenario, names: tuple[str, ...] | None) -> dict[str, Tensor]:
    """Return the flat weights of the named layers, or of all linear and convolutional layers."""
    model = scenario.model
    if not names:
        kinds = (nn.Linear, nn.Conv2d)
        names = tuple(name for name, module in model.net.named_modules() if isinstance(module, kinds))
    found = {}
    for name in names:
        try:
            layer = model.weighted_layer(name)
        except UsageError as error:
            raise UsageError(f"model_inspection.layers: {error}") from None
        weight = model.layer(layer).weight
        assert isinstance(weight, Tensor)
        found[layer] = weight.detach().float().cpu().flatten()
    return found


def _statistics(values: Tensor) -> dict[str, float]:
    """Return mean, standard deviation and largest magnitude of weights [n]."""
    return {
        "mean": float(values.mean()),
        "std": float(torch.std(values, correction=0)),
        "max_abs": float(values.abs().max()),
    }
