"""The settings of a profile as forms: which fields a section has, and what a change of one entails."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from pydantic import ValidationError

from safedl.catalog import ATTACKS
from safedl.catalog.datasets import DATASETS
from safedl.catalog.models import MODELS
from safedl.catalog.recipes import recipe_for
from safedl.catalog.settings import AcceptanceSettings, DatasetSettings, ModelSettings, TrainingSettings, name_after
from tui.services.drafts import REMOVED, Draft, found, place, section_of
from tui.widgets.form import Field, fields_of

SECTIONS = {
    "dataset": "data set", "model": "model", "training": "training", "acceptance": "acceptance"
}  # fmt: skip
"""The sections that are one form each, with what they are called."""
ANNOUNCED = {"dataset": ("input_shape", "num_classes"), "model": ("params",)}
"""What a model's section says of a built-in data set, or of a built-in model."""


@dataclass(frozen=True)
class Settings:
    """A form's content: where its values stand in the document, the fields, values and errors by field."""

    path: tuple[str, ...]
    fields: tuple[Field, ...]
    values: Mapping[str, Any]
    errors: Mapping[str, str]


def settings_of(draft: Draft, section: str) -> Settings:
    """Return the form of a section."""
    given = found(draft.document, (section,))
    values = dict(given) if isinstance(given, Mapping) else {}
    errors = draft.problems_of((section,))
    match section:
        case "dataset":
            fields = fields_of(DatasetSettings, _called(values))
            if _builtin(values):
                fields = [_among(f, tuple(DATASETS)) if f.name == "name" else f for f in fields]
        case "model":
            fields = [
                _among(f, tuple(MODELS)) if f.name == "name" and _builtin(values) else f
                for f in fields_of(ModelSettings, _called(values), leave=("params",))
            ]
            name = str(values.get("name", "cnn"))
            if name in MODELS and _builtin(values):
                fields += fields_of(MODELS[name].params, prefix="params.")
            params = values.pop("params", None)
            values |= {f"params.{k}": v for k, v in params.items()} if isinstance(params, Mapping) else {}
        case "training":
            fields = fields_of(TrainingSettings, recipe_for(_dataset(draft.document)).model_dump(mode="json"))
        case _:
            fields = fields_of(AcceptanceSettings)
    return Settings((section,), tuple(fields), values, errors)


def settings_of_attack(draft: Draft, attack: str) -> Settings:
    """Return the form of an attack's parameters."""
    spec = ATTACKS[attack]
    path = place(draft.document, "attack_overrides", spec)
    given = found(draft.document, path)
    values = {spec.param_aliases.get(str(k), str(k)): v for k, v in given.items()} if isinstance(given, Mapping) else {}
    errors = {spec.param_aliases.get(k, k): text for k, text in draft.problems_of(path).items()}
    return Settings(path, tuple(fields_of(spec.params)), values, errors)


def changes(draft: Draft, settings: Settings, name: str, value: Any, *, reset: bool) -> dict[tuple[str, ...], Any]:
    """Return what has to change in the document for a field to have a value, or its default again (`reset`)."""
    path = (*settings.path, *name.split("."))
    wanted: dict[tuple[str, ...], Any] = {path: REMOVED if reset else value}
    if name == "path" and settings.path in (("dataset",), ("model",)):
        wanted |= _follow_path(draft, settings.path[0], None if reset else value)
    elif settings.path == ("model",) and name == "name":
        wanted["model", "params"] = REMOVED
    elif path == ("dataset", "name") and value in DATASETS:
        wanted |= _follow_dataset(draft, DATASETS[value].name)
    elif settings.path[0] == "attack_overrides":
        aliases = ATTACKS[_attack_at(settings.path)].param_aliases
        wanted |= {(*settings.path, old): REMOVED for old, today in aliases.items() if today == name}
        if reset and len(found(draft.document, settings.path) or ()) <= 1:
            return {settings.path: {}}  # the entry is what makes the attack run
    return wanted


def _follow_path(draft: Draft, section: str, path: Any) -> dict[tuple[str, ...], Any]:
    """Let name and type follow where own data or an own model lie: results must not stand under a built-in name.

    What was announced of the built-in data set (shape, classes, recipe) is not true of own data.
    """
    given, known = section_of(draft.document, section), DATASETS if section == "dataset" else MODELS
    unnamed = "" if given.get("path") else "digits" if section == "dataset" else "cnn"
    built_in = str(given.get("name", unnamed)) in known
    if not path:
        return {(section, "type"): "builtin"} if built_in or "name" not in given else {}
    wanted: dict[tuple[str, ...], Any] = {(section, "type"): "custom"}
    if built_in:
        wanted[section, "name"] = REMOVED
        wanted |= {("model", key): REMOVED for key in ANNOUNCED[section]}
        wanted |= _recipe(draft, DatasetSettings(name="own", type="custom")) if section == "dataset" else {}
    return wanted


def _follow_dataset(draft: Draft, name: str) -> dict[tuple[str, ...], Any]:
    """Let the model's announced shape, and a recipe that nobody has changed, follow the data set."""
    spec = DATASETS[name]
    wanted: dict[tuple[str, ...], Any] = {}
    model = section_of(draft.document, "model")
    if "input_shape" in model:
        wanted["model", "input_shape"] = list(spec.shape)
    if "num_classes" in model:
        wanted["model", "num_classes"] = spec.num_classes
    return wanted | _recipe(draft, DatasetSettings(name=name))


def _recipe(draft: Draft, dataset: DatasetSettings) -> dict[tuple[str, ...], Any]:
    """Let what nobody has changed of the recipe follow the data set."""
    before = recipe_for(_dataset(draft.document)).model_dump(mode="json")
    after = recipe_for(dataset).model_dump(mode="json")
    given = section_of(draft.document, "training")
    return {("training", k): after[k] for k, v in given.items() if k in after and v == before[k]}


def _attack_at(path: tuple[str, ...]) -> str:
    return next(s.name for s in ATTACKS.values() if path[-1] in (s.name, *s.aliases))


def _dataset(document: Mapping[Any, Any]) -> DatasetSettings | None:
    try:
        return DatasetSettings.model_validate(document.get("dataset") or {})
    except ValidationError:
        return None


def _builtin(values: Mapping[str, Any]) -> bool:
    return values.get("type", "builtin") == "builtin" and not values.get("path")


def _called(values: Mapping[str, Any]) -> dict[str, str]:
    """Return the name that own data, or an own model, has without one: its file's."""
    return {"name": name_after(str(values["path"]))} if values.get("path") else {}


def _among(field: Field, names: tuple[str, ...]) -> Field:
    return replace(field, kind="choice", choices=names, allowed=f"one of {', '.join(names)}")
