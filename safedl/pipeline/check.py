"""What can only be checked once data and model are there: classes, layers, a penultimate layer."""

from __future__ import annotations

from typing import Any

from pydantic import ValidationError

from safedl import catalog
from safedl.errors import UsageError, nearest
from safedl.models.build import build, check_independent
from safedl.models.weights import load_weights
from safedl.pipeline.lab import Lab
from safedl.plan import Plan, Stage
from safedl.progress import Progress
from safedl.scan.examine import check_trusted


def check_against_data(lab: Lab, plan: Plan, progress: Progress) -> None:
    """Read the data, build the model once and check every stage's parameters against both.

    Of a scan also the trusted images and the weights. Raises `UsageError` with the first thing that cannot work.
    """
    for seed in {stage.seed for stage in plan.stages}:
        dataset = lab.dataset(seed, progress)
        model = build(lab.model_settings, dataset, seed, lab.folders, progress)
        if lab.model_settings.own:
            again = build(lab.model_settings, dataset, seed, lab.folders)
            check_independent(model, again, lab.model_settings)
        if lab.scan:
            check_trusted(dataset.trusted, dataset.classes)
            if weights := lab.suspect_weights():
                load_weights(model, weights)
        layers = [name for name, _ in model.net.named_modules() if name]
        for stage in plan.stages:
            if stage.seed == seed:
                _check_stage(stage, {"num_classes": len(dataset.classes), "model": lab.model_settings.name}, layers)


def _check_stage(stage: Stage, context: dict[str, Any], layers: list[str]) -> None:
    if stage.kind == "attack" and stage.attack:
        params, where = catalog.attack(stage.attack).params, f"attack_overrides.{stage.category}.{stage.attack}"
    elif stage.kind == "defense" and stage.defense:
        params = catalog.defense(stage.defense).params
        where = f"defense_config.{stage.category}.{stage.attack}.{stage.defense}"
    else:
        return
    try:
        checked = params.model_validate(dict(stage.params), context=context)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        raise UsageError(f"{where}.{key}: {first['input']!r}: {first['msg']}") from error
    for name in getattr(checked, "layers", None) or ():
        if not any(name in (layer, f"{layer}.weight", f"{layer}.bias") for layer in layers):
            raise UsageError(
                f"{where}.layers: the model has no layer '{name}'.{nearest(name, layers)} It has: {', '.join(layers)}"
            )
