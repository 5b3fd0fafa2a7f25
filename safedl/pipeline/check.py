"""What can only be checked once data and model are there: classes, layers, a penultimate layer."""

from __future__ import annotations

from typing import Any

from pydantic import ValidationError

from safedl import catalog
from safedl.errors import UsageError
from safedl.models.build import build, check_independent
from safedl.models.classifier import Classifier
from safedl.models.weights import load_weights
from safedl.pipeline.lab import Lab
from safedl.plan import Plan, Stage
from safedl.progress import Progress


def check_against_data(lab: Lab, plan: Plan, progress: Progress) -> None:
    """Read the data, build the model once and check every stage's parameters against both.

    Of a scan also the trusted images and the weights. Raises `UsageError` with the first thing that cannot work.
    """
    seeds = {stage.seed for stage in plan.stages}
    lab.read(seeds, progress)
    for seed in seeds:
        dataset = lab.dataset(seed, progress)
        model = build(lab.model_settings, dataset, seed, lab.folders, progress)
        if lab.model_settings.own:
            again = build(lab.model_settings, dataset, seed, lab.folders)
            check_independent(model, again, lab.model_settings)
        if lab.scan:
            from safedl.scan.examine import check_trusted  # loads statistics that only scans need: 0.7 s

            check_trusted(dataset.trusted, dataset.classes)
            if weights := lab.suspect_weights():
                load_weights(model, weights)
        context: dict[str, Any] = {"num_classes": len(dataset.classes)}
        if not lab.model_settings.own:
            context["model"] = lab.model_settings.name
        for stage in plan.stages:
            if stage.seed == seed:
                _check_stage(stage, context, model)


def _check_stage(stage: Stage, context: dict[str, Any], model: Classifier) -> None:
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
        raise UsageError(f"{where}.{key}: {first['input']!r}: {first['msg'].removeprefix('Value error, ')}") from error
    for name in getattr(checked, "layers", None) or ():
        try:
            model.weighted_layer(name)
        except UsageError as error:
            raise UsageError(f"{where}.layers: {error}") from None
