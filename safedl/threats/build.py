"""A first profile from the answers: the attacks that the threats call for, with defenses, ready to run."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from safedl import catalog
from safedl.catalog.datasets import DATASETS
from safedl.catalog.defense_tags import recommended
from safedl.catalog.models import MODELS
from safedl.catalog.recipes import recipe_for
from safedl.catalog.settings import DatasetSettings
from safedl.errors import UsageError, nearest
from safedl.text import check_unicode
from safedl.threats.questions import QUESTIONS
from safedl.threats.suggest import CATEGORIES, not_simulated, suggest

MODEL_FOR = {"cnn": "cnn", "transformer": "vit", "mlp": "mlp", "other": "resnet18"}
"""The built-in model for each answer to `model_type`."""

TARGET = 1
"""The class that targeted attacks aim at; every data set has it."""
SAMPLES = 500
"""Test images that attacks at test time are tried on: a 95 % interval of at most 9 points."""


def build_profile(
    name: str,
    answers: Mapping[str, str],
    dataset: str = "digits",
    model: str | None = None,
    categories: Iterable[str] | None = None,
) -> dict[str, Any]:
    """Return the document of a profile that runs as it is.

    `answers` are checked answers (question id to value); `dataset` and `model` are built-in names, or paths of your
    own (an image folder, an .npz file, a module); `model` follows from the answers if it is None. `categories` are
    the threat categories to cover, else those that the answers suggest. Raises `UsageError` for unknown names.
    """
    chosen = list(dict.fromkeys(categories if categories is not None else (s.category for s in suggest(answers))))
    for category in chosen:
        if category not in CATEGORIES:
            known = ", ".join(CATEGORIES)
            raise UsageError(f"unknown threat category '{category}'.{nearest(category, CATEGORIES)} Known: {known}")
    data = _dataset(dataset)
    settings = DatasetSettings.model_validate(data)
    attacks = [attack for category in chosen for attack in CATEGORIES[category].simulated]
    document: dict[str, Any] = {
        "name": name,
        "dataset": data,
        "model": _model(model or MODEL_FOR[answers["model_type"]], settings),
        "training": recipe_for(settings).model_dump(mode="json"),
        "threat_model": {
            **{question.id: answers[question.id] for question in QUESTIONS},
            "threat_categories": chosen,
            "not_simulated": list(not_simulated(chosen)),
        },
        "attack_overrides": {},
        "defense_config": {},
    }
    for attack in attacks:
        category = catalog.ATTACKS[attack].category
        for section, entry in attack_entries(attack, answers, settings).items():
            document[section].setdefault(category, {})[attack] = entry
    return document


def attack_entries(attack: str, answers: Mapping[str, str], dataset: DatasetSettings) -> dict[str, dict[str, Any]]:
    """Return what a profile says about an attack, by section: parameters that suit the data, and its defenses."""
    defenses: dict[str, Any] = {"defenses": [tag.defense for tag in recommended(attack)]}
    if catalog.ATTACKS[attack].category == "evasion":
        defenses["adversarial_training"] = {"epsilon": _epsilon(dataset)}
    return {"attack_overrides": _parameters(attack, answers, dataset), "defense_config": defenses}


def explain(answers: Mapping[str, str], categories: Iterable[str]) -> list[str]:
    """Return one line per threat category: why it is covered or left out, and whether it can be simulated."""
    reasons = {s.category: s.reason for s in suggest(answers)}
    chosen = list(categories)
    lines = []
    for category in CATEGORIES:
        if category in chosen:
            how = "" if CATEGORIES[category].simulated else "; not simulated, to be checked by hand"
            lines.append(f"{category}: {reasons.get(category, 'your choice')}{how}")
        elif category in reasons:
            lines.append(f"{category}: left out by choice, although {reasons[category]}")
    return lines


def _dataset(name: str) -> dict[str, Any]:
    if name in DATASETS:
        return {"name": name, "type": "builtin"}
    if not Path(name).exists():
        known = ", ".join(DATASETS)
        raise UsageError(f"no data set '{name}': neither a path nor one of {known}.{nearest(name, DATASETS)}")
    check_unicode(name)
    stem = Path(name).stem.strip(".") or Path(name).resolve().stem  # `.` has none
    return {"name": stem or "data", "type": "custom", "path": name}


def _model(name: str, dataset: DatasetSettings) -> dict[str, Any]:
    if name in MODELS:
        model: dict[str, Any] = {"name": name, "type": "builtin"}
    elif name.endswith(".py") and Path(name).is_file():
        check_unicode(name)
        model = {"name": Path(name).stem, "type": "custom", "path": name}
    else:
        raise UsageError(f"no model '{name}': neither a module nor one of {', '.join(MODELS)}.{nearest(name, MODELS)}")
    if dataset.type == "builtin":
        spec = DATASETS[dataset.name]
        model |= {"input_shape": list(spec.shape), "num_classes": spec.num_classes}
    return model


def _parameters(attack: str, answers: Mapping[str, str], dataset: DatasetSettings) -> dict[str, Any]:
    """Return parameters that show the attack on this data; what is not named here keeps the catalog's default."""
    targeted = answers["attack_goal"] == "targeted"
    chosen: dict[str, dict[str, Any]] = {
        "label_flipping": {"strategy": "many_to_one", "flip_rate": 0.3, "target_class": TARGET}
        if targeted
        else {"strategy": "fully_random", "flip_rate": 0.4},
        "clean_label": {"fraction_poison": 0.95, "epsilon": 0.3, "target_class": TARGET}
        if targeted
        else {"fraction_poison": 0.8, "epsilon": 0.3, "target_class": None},
        "static_patch": {"patch_size_ratio": _patch_ratio(dataset), "poison_fraction": 0.05, "target_class": TARGET},
        "learned_trigger": {"poison_fraction": 0.1, "target_class": TARGET},
        "fgsm": {"epsilon": _epsilon(dataset), "max_samples": SAMPLES},
        "pgd": {"epsilon": _epsilon(dataset), "alpha": _epsilon(dataset) / 4, "num_iter": 20, "max_samples": SAMPLES},
        "transfer": {"epsilon": _epsilon(dataset), "alpha": _epsilon(dataset) / 4, "max_samples": SAMPLES},
        **{attack: {"epsilon": _epsilon(dataset)} for attack in ("square", "nes", "spsa")},
    }
    return chosen.get(attack, {})


def _epsilon(dataset: DatasetSettings) -> float:
    """The budget that is usual for grey images, 0.1, or for colours, about 8/255."""
    grey = dataset.type == "builtin" and DATASETS[dataset.name].shape[0] == 1
    return 0.1 if grey else 0.03


def _patch_ratio(dataset: DatasetSettings) -> float:
    """A patch of about a seventh of the side, and of at least two pixels."""
    side = DATASETS[dataset.name].shape[1] if dataset.type == "builtin" else 32
    return max(0.15, 2 / side)
