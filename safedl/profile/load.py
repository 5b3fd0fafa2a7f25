"""From a file to a checked profile, or to an error that says what to mend."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from difflib import get_close_matches
from math import prod
from pathlib import Path
from typing import Any

from safedl import catalog
from safedl.catalog import datasets, models
from safedl.catalog.datasets import DATASETS
from safedl.catalog.models import MODELS
from safedl.catalog.recipes import recipe_for
from safedl.catalog.settings import (
    AcceptanceSettings,
    DatasetSettings,
    ModelSettings,
    ScanSettings,
    Section,
    TrainingSettings,
)
from safedl.catalog.spec import CATEGORY_ALIASES
from safedl.errors import NotFoundError, UsageError, nearest
from safedl.profile import document as yaml_document
from safedl.profile.choices import attack_choices, planned
from safedl.profile.names import check_name
from safedl.profile.problems import Model, Problem, ProfileError, mapping, quoted, validate
from safedl.profile.schema import Profile
from safedl.threats import CATEGORIES, QUESTIONS, not_simulated

SECTIONS = (
    "name", "dataset", "model", "training", "acceptance", "threat_model", "attack_overrides", "risk_analysis",
    "defense_config", "scan",
)  # fmt: skip

_SETTINGS: dict[str, type[Section]] = {
    "dataset": DatasetSettings,
    "model": ModelSettings,
    "training": TrainingSettings,
    "acceptance": AcceptanceSettings,
    "scan": ScanSettings,
}


def load(path: Path) -> Profile:
    """Return the checked profile in the file `path`.

    Raises `NotFoundError` if there is no such file, `UsageError` if it is not YAML text, and its subclass
    `ProfileError` with everything that is wrong in it.
    """
    return parse(read_text(path), path)


def read_text(path: Path) -> str:
    """Return a file's text. Raises `NotFoundError` or `UsageError`."""
    try:
        return path.read_text(encoding="utf-8-sig")
    except FileNotFoundError as error:
        raise NotFoundError(f"no such file: {path}") from error
    except UnicodeDecodeError as error:
        raise UsageError(f"{path}: not a text file in UTF-8") from error
    except OSError as error:
        raise UsageError(f"{path}: cannot be read: {error.strerror}") from error


def parse(text: str, origin: Path | None = None) -> Profile:
    """Return the checked profile that YAML `text` holds; `origin` is the file it came from. Raises as `load` does."""
    source = str(origin) if origin else "profile"
    return check(yaml_document.read(text, source), origin)


def check(document: Mapping[Any, Any], origin: Path | None = None) -> Profile:
    """Return the checked profile of a plain `document`. Raises `ProfileError`."""
    problems: list[Problem] = []
    name = _name(document, origin, problems)
    dataset = _settings(DatasetSettings, document, "dataset", problems)
    model = _settings(ModelSettings, document, "model", problems)
    training = _settings(TrainingSettings, document, "training", problems)
    acceptance = _settings(AcceptanceSettings, document, "acceptance", problems)
    scan = _settings(ScanSettings, document, "scan", problems)
    _check_dataset(dataset, problems)
    _check_model(model, dataset, problems)
    chosen = attack_choices(document, _context(dataset, model), problems)
    threat_model = mapping(document.get("threat_model"), "threat_model", problems)
    risk_analysis = mapping(document.get("risk_analysis"), "risk_analysis", problems)
    threat_notes, threats_skipped = _threats(threat_model, problems)
    if problems:
        raise ProfileError(str(origin) if origin else "profile", problems)
    return Profile(
        name=name,
        path=origin,
        dataset=dataset,
        model=model,
        training=_over_recipe(training, dataset),
        acceptance=acceptance or AcceptanceSettings(),
        attacks=chosen,
        scan=scan or ScanSettings(),
        threat_model=threat_model,
        risk_analysis=risk_analysis,
        document=document,
        skipped=(*threats_skipped, *planned(document)),
        missing=_missing(dataset, model, bool(chosen)),
        notes=(*_near_misses(document), *threat_notes),
    )


def _name(document: Mapping[Any, Any], origin: Path | None, problems: list[Problem]) -> str:
    """The profile's name; without one, the file's."""
    name = document.get("name")
    if name is None and origin is not None:
        name = origin.stem
    try:
        return check_name(name)
    except UsageError as error:
        problems.append(Problem("name", str(error).removeprefix("name: ")))
        return ""


def _settings(kind: type[Model], document: Mapping[Any, Any], section: str, problems: list[Problem]) -> Model | None:
    if document.get(section) is None:
        return None
    values = mapping(document[section], section, problems)
    others = {name: other for name, other in _SETTINGS.items() if name != section}
    return validate(kind, values, section, problems, what=f"key of {section}", others=others)


def _over_recipe(training: TrainingSettings | None, dataset: DatasetSettings | None) -> TrainingSettings:
    """What the profile says about training, over the recipe that suits its data set."""
    given = {key: getattr(training, key) for key in training.model_fields_set} if training else {}
    return recipe_for(dataset).model_copy(update=given)


def _check_dataset(dataset: DatasetSettings | None, problems: list[Problem]) -> None:
    if dataset is not None and _is_builtin(dataset):
        _look_up(datasets.dataset, dataset.name, "dataset.name", problems)


def _look_up(find: Callable[[str], object], name: str, path: str, problems: list[Problem]) -> None:
    try:
        find(name)
    except UsageError as error:
        problems.append(Problem(path, str(error).removeprefix(f"{path}: ")))


def _check_model(model: ModelSettings | None, dataset: DatasetSettings | None, problems: list[Problem]) -> None:
    if model is None:
        return
    if _is_builtin(model):
        _look_up(models.model, model.name, "model.name", problems)
        if model.name in MODELS:
            others = {name: spec.params for name, spec in MODELS.items()}
            what = f"parameter of {model.name}"
            validate(MODELS[model.name].params, model.params, "model.params", problems, what=what, others=others)
    spec = DATASETS.get(dataset.name) if dataset is not None and _is_builtin(dataset) else None
    if spec is None:
        return
    fixed = 1 if spec.resizable else 3
    if model.input_shape is not None and model.input_shape[:fixed] != spec.shape[:fixed]:
        problems.append(
            Problem(
                "model.input_shape",
                f"{list(model.input_shape)} announced, but data set '{spec.name}' has {list(spec.shape)} "
                "(channels, height, width)",
            )
        )
    size, values = model.params.get("input_size"), prod(model.input_shape or spec.shape)
    if _is_builtin(model) and model.name == "mlp" and isinstance(size, int) and size != values:
        problems.append(
            Problem(
                "model.params.input_size", f"{size} announced, but the images of '{spec.name}' have {values} values"
            )
        )
    if model.num_classes is not None and model.num_classes != spec.num_classes:
        problems.append(
            Problem(
                "model.num_classes", f"{model.num_classes} announced, but data set '{spec.name}' has {spec.num_classes}"
            )
        )


def _context(dataset: DatasetSettings | None, model: ModelSettings | None) -> dict[str, Any]:
    """What class indices and layer names are checked against, as far as it is known before data is read."""
    context: dict[str, Any] = {}
    if model is not None and _is_builtin(model) and model.name in MODELS:
        context["model"] = model.name
    if dataset is not None and _is_builtin(dataset) and dataset.name in DATASETS:
        context["num_classes"] = DATASETS[dataset.name].num_classes
    elif model is not None and model.num_classes is not None:
        context["num_classes"] = model.num_classes
    return context


def _is_builtin(settings: DatasetSettings | ModelSettings) -> bool:
    return settings.type == "builtin" and settings.path is None


def _threats(threat_model: Mapping[str, Any], problems: list[Problem]) -> tuple[list[str], list[str]]:
    """Answers that are none of the choices, and threat categories without a simulation, as lines.

    Categories decide whether the model may ship: what cannot be read, or is nearly a known one, is a problem.
    """
    notes = []
    for question in QUESTIONS:
        answer = threat_model.get(question.id)
        spelled = {str(answer), str(answer).replace("_", "-")}  # white_box is understood too
        if answer is not None and not spelled & set(question.values):
            notes.append(f"threat_model.{question.id}: {_none_of(answer, question.values)}")
    categories = threat_model.get("threat_categories")
    place = "threat_model.threat_categories"
    if categories is not None and not isinstance(categories, list):
        problems.append(Problem(place, f"{quoted(categories)} is not allowed; it must be a list of names"))
    named = [str(category) for category in categories] if isinstance(categories, list) else []
    for category in (c for c in named if c not in (*CATEGORIES, *CATEGORY_ALIASES, *catalog.CATEGORIES)):
        line = _none_of(category, CATEGORIES)
        if get_close_matches(category.lower().replace(" ", "_").replace("-", "_"), CATEGORIES, n=1, cutoff=0.85):
            problems.append(Problem(place, line))
        else:
            notes.append(f"{place}: {line}")
    return notes, [f"threat {category}: not simulated; to be checked by hand" for category in not_simulated(named)]


def _none_of(value: object, allowed: Iterable[str]) -> str:
    known = list(allowed)
    return f"{quoted(value)} is not used; it is none of {', '.join(known)}.{nearest(str(value), known)}"


def _near_misses(document: Mapping[Any, Any]) -> list[str]:
    """Sections that this program does not know and that look like one it knows."""
    hints = {str(key): nearest(str(key), SECTIONS) for key in document if key not in SECTIONS}
    return [f"section {quoted(key)} is kept, but not used.{hint}" for key, hint in hints.items() if hint]


def _missing(dataset: DatasetSettings | None, model: ModelSettings | None, attacks: bool) -> tuple[str, ...]:
    lines = {
        "dataset: which images to train and test on; add for example `dataset: {name: digits}`": dataset is None,
        "model: which classifier to train; add for example `model: {name: cnn}`": model is None,
        "attack_overrides: which attacks to simulate; add for example "
        "`attack_overrides: {backdoor: {static_patch: {target_class: 0}}}`": not attacks,
    }
    return tuple(line for line, absent in lines.items() if absent)
