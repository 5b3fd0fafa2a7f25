"""What a catalog entry is: name, texts, applicability, schema of parameters. Imports neither torch nor sklearn."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, ValidationInfo

Category = Literal["data_poisoning", "backdoor", "evasion", "privacy"]
Measure = Literal["accuracy", "asr", "adversarial", "privacy"]
"""What shows that an attack worked: a fall in accuracy, ASR, accuracy on adversarial images, or an audit."""
DefenseKind = Literal["detect", "train", "repair", "diagnose", "guard"]
Variant = Literal["paper", "literal"]

CATEGORY_ALIASES = {
    "backdoor_attacks": "backdoor",
    "evasion_attacks": "evasion",
    "adversarial_examples": "evasion",
}


class Params(BaseModel):
    """Parameters of a method: typed, immutable, unknown names refused.

    Every field has a default that works and a `description` of one line. Validation may be given
    a context `{"num_classes": int, "model": str}`, so that class indices and layer names are checked too.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True, protected_namespaces=())


def _check_class(value: int, info: ValidationInfo) -> int:
    count = (info.context or {}).get("num_classes")
    if value < 0 or (count is not None and value >= count):
        allowed = f"0 to {count - 1}" if count is not None else "0 or more"
        raise ValueError(f"class index out of range: allowed are {allowed}")
    return value


def _check_layer(value: str, info: ValidationInfo) -> str:
    from safedl.catalog.models import check_layer

    model = (info.context or {}).get("model")
    return check_layer(model, value) if model else value


ClassIndex = Annotated[int, AfterValidator(_check_class)]
"""The index of a class, 0 to num_classes - 1."""

LayerName = Annotated[str, AfterValidator(_check_layer)]
"""A layer (`conv.0`), its parameter (`conv.0.weight`) or an alias by order (`fc1`)."""


@dataclass(frozen=True)
class AttackSpec:
    """An attack that exists: its function stands in `safedl.attacks.<package>.<name>`."""

    name: str
    category: Category
    title: str
    summary: str
    paper: str
    params: type[Params]
    measure: Measure
    needs_clean_model: bool = False
    access: Literal["", "gradient", "score", "decision", "transfer"] = ""
    """Evasion: what the attacker gets from the model: gradients, scores, decisions, or nothing before the end."""
    norm: Literal["linf", "l2"] = "linf"
    """Evasion: the distance that `epsilon` bounds."""
    aliases: tuple[str, ...] = ()
    param_aliases: dict[str, str] = field(default_factory=dict)
    """Names of parameters in older profiles, mapped to today's."""


@dataclass(frozen=True)
class DefenseSpec:
    """A defense that exists: its function, named after its kind, stands in `safedl.defenses.<name>`."""

    name: str
    kind: DefenseKind
    title: str
    summary: str
    paper: str
    params: type[Params]
    applies_to: tuple[str, ...]
    trusted: str
    """What trusted holdout data is used for; empty if none is used."""
    from_features: bool = False
    """Whether labels and features of samples are all that it needs, no images and no model."""
    clean_model: str = ""
    """Why it may look at the clean model; empty if it may not."""
    recipe: str = ""
    """How its training differs from the common recipe, where its paper needs that; empty if it does not."""
    examples: str = ""
    """Folder of example images beside its published result (`cleaned_examples`); empty if it has none."""
    histograms: str = ""
    """Folder of histograms beside its published result (`spectral_histograms`); empty if it has none."""


def parameter_table(params: type[BaseModel]) -> list[dict[str, Any]]:
    """Return one row per parameter: name, type, default, allowed values or range, nullable, description.

    The rows feed `safedl list --json`, the app's forms and the documentation.
    """
    rows = []
    for name, schema in params.model_json_schema()["properties"].items():
        options = schema.get("anyOf", [schema])
        nullable = any(o.get("type") == "null" for o in options)
        core = next(o for o in options if o.get("type") != "null")
        item = core.get("items", {})
        rows.append(
            {
                "name": name,
                "type": "choice" if "enum" in core or "const" in core else core.get("type", "string"),
                "items": item.get("type"),
                "default": schema.get("default"),
                "choices": core.get("enum", [core["const"]] if "const" in core else None),
                "minimum": core.get("minimum", core.get("exclusiveMinimum")),
                "maximum": core.get("maximum", core.get("exclusiveMaximum")),
                "open_minimum": "exclusiveMinimum" in core,
                "open_maximum": "exclusiveMaximum" in core,
                "nullable": nullable,
                "description": schema.get("description", ""),
            }
        )
    return rows
