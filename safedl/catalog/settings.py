"""The sections of a profile that both halves read: data set, model, training, acceptance."""

from __future__ import annotations

from pathlib import PurePath
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

SEEDS = 2**31
"""Seeds are below it: what draws from them takes no larger ones."""


class Section(BaseModel):
    """A section of a profile: unknown keys are refused, values are immutable."""

    model_config = ConfigDict(extra="forbid", frozen=True, protected_namespaces=())


def name_after(path: str) -> str:
    """Return what own data, or an own model, is called without a name of its own: as its file is."""
    return PurePath(path).stem.strip(".") or "unnamed"  # `.` has no name


def _name_after_path(values: Any) -> Any:
    """Own data, or an own model, without a name is called after its file, so that its results stand apart."""
    if isinstance(values, dict) and values.get("path") and "name" not in values:
        return {**values, "name": name_after(str(values["path"]))}
    return values


NonEmpty = Annotated[str, Field(min_length=1)]
Side = Annotated[int, Field(ge=1, le=4096)]


class DatasetSettings(Section):
    """Which images to train and test on."""

    name: str = Field("digits", description="A built-in data set; data of your own has a path, and is called after it.")
    type: Literal["builtin", "custom"] = Field("builtin", description="builtin, or custom for your own data.")
    path: NonEmpty | None = Field(None, description="An image folder, an .npz or .parquet file, or a module.")
    root: str | None = Field(None, description="Where built-in data sets lie; else SAFEDL_DATA, else a cache folder.")
    subset: int | None = Field(None, ge=1, description="Use at most this many training images per class.")
    download: bool = Field(True, description="Fetch a built-in data set that is not there yet.")
    trusted_fraction: float = Field(
        0.05, ge=0.0, le=0.2, description="Share of the training images held out as trusted (at least 20 a class)."
    )

    _named = model_validator(mode="before")(_name_after_path)


class ModelSettings(Section):
    """Which classifier to train."""

    name: str = Field(
        "cnn", description="A built-in architecture; a model of your own has a path, and is called after it."
    )
    type: Literal["builtin", "custom"] = Field("builtin", description="builtin, or custom for your own model.")
    input_shape: tuple[Side, Side, Side] | None = Field(None, description="Channels, height, width; else the data's.")
    num_classes: int | None = Field(None, ge=2, description="Number of classes; else the data's.")
    params: dict[str, Any] = Field(default_factory=dict, description="conv_filters, hidden_size ...")
    path: NonEmpty | None = Field(None, description="A module of your own, with get_model().")
    weights: str | None = Field(None, description="A file of weights to start from.")

    _named = model_validator(mode="before")(_name_after_path)

    @property
    def own(self) -> str | None:
        """The user's module, or None for a built-in model."""
        return self.path or (self.name if self.type == "custom" else None)

    @property
    def files(self) -> tuple[str, ...]:
        """The files that the model is made of, as the profile names them."""
        return tuple(name for name in (self.own, self.weights) if name)


class TrainingSettings(Section):
    """One recipe for baseline, attacked and defended models."""

    epochs: int = Field(10, ge=1, le=10_000, description="Passes over the training images.")
    batch_size: int = Field(64, ge=2, le=65_536, description="Images per step.")
    optimizer: Literal["adam", "adamw", "sgd"] = Field("adam", description="adam, adamw, or sgd with momentum.")
    learning_rate: float = Field(1e-3, gt=0, le=10, description="Largest learning rate.")
    weight_decay: float = Field(0.0, ge=0, le=1, description="L2 penalty.")
    momentum: float = Field(0.9, ge=0, lt=1, description="Momentum of sgd.")
    schedule: Literal["constant", "cosine"] = Field("cosine", description="How the learning rate goes down.")
    augment: Literal["none", "shift", "shift_flip"] = Field(
        "none", description="Random shifts by up to an eighth of the side, and mirror images."
    )
    seed: int = Field(0, ge=0, lt=SEEDS, description="The first seed; --seeds overrides it.")
    precision: Literal["auto", "float32", "bfloat16"] = Field(
        "auto", description="bfloat16 where the hardware has it (auto), or a fixed choice. Training only."
    )


class ScanSettings(Section):
    """How suspects are scanned: data that came from elsewhere, and a model."""

    trusted: str | None = Field(
        None, description="Images known to be clean: an image folder or .npz file with the data's classes."
    )
    weights: str | None = Field(None, description="Weights of a model to inspect, of the profile's architecture.")
    false_alarm_rate: float = Field(
        0.01, gt=0, lt=0.5, description="Share of clean images that may score as high as what a detector flags."
    )


class AcceptanceSettings(Section):
    """What must hold for a go."""

    max_residual_risk: float = Field(
        0.5, ge=0, le=2, description="Risk that an attack which worked may leave after its best defense."
    )
    max_asr: float = Field(
        0.2, ge=0, le=1, description="Share of triggered images that may reach a backdoor's target after the defense."
    )
    max_accuracy_drop: float = Field(
        0.05, ge=0, le=1, description="Accuracy on clean images that a defended model may lose against the clean one."
    )
    min_robust_accuracy: float = Field(
        0.3, ge=0, le=1, description="Share of attacked images that must still be classified right after the defense."
    )
