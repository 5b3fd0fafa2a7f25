"""Attacks on the training data that aim at accuracy."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, ValidationInfo, field_validator

from safedl.catalog.spec import AttackSpec, ClassIndex, Params


def _strategy(value: object) -> object:
    return "fully_random" if value == "random" else value


class LabelFlippingParams(Params):
    """Parameters of `label_flipping`."""

    strategy: Annotated[Literal["one_to_one", "many_to_one", "fully_random"], BeforeValidator(_strategy)] = Field(
        "many_to_one",
        description="one_to_one: source to target; many_to_one: all others to target; fully_random: to any other.",
    )
    flip_rate: float = Field(
        0.08,
        ge=0,
        le=1,
        description="Share of the eligible samples (of the source class, of all but the target, of all).",
    )
    source_class: ClassIndex | None = Field(
        None, description="The class that is mislabelled (one_to_one); null: drawn by seed."
    )
    target_class: ClassIndex | None = Field(
        None, description="The label given (one_to_one, many_to_one); null: drawn by seed."
    )

    @field_validator("target_class")
    @classmethod
    def _not_its_source(cls, value: int | None, info: ValidationInfo) -> int | None:
        if value is not None and info.data.get("strategy") == "one_to_one" and value == info.data.get("source_class"):
            raise ValueError(f"{value} is the source class too; name two different classes")
        return value


class CleanLabelParams(Params):
    """Parameters of `clean_label`."""

    fraction_poison: float = Field(
        0.05, ge=0, le=1, description="Share of the target class's samples (of all if untargeted)."
    )
    target_class: ClassIndex | None = Field(None, description="The class whose images are altered; null: all classes.")
    perturbation_method: Literal["overlay", "noise", "feature_collision"] = Field(
        "feature_collision", description="How the images are altered; labels stay right."
    )
    epsilon: float = Field(0.1, ge=0, le=1, description="Largest change of a pixel, in [0, 1] (overlay: blend ratio).")
    max_iterations: int = Field(100, ge=1, le=10_000, description="Steps of feature_collision.")
    source_selection: Literal["random", "most_confident", "least_confident"] = Field(
        "random", description="Which images are altered, by the clean model's confidence in their class."
    )


ATTACKS = (
    AttackSpec(
        name="label_flipping",
        category="data_poisoning",
        title="Label flipping",
        summary="A share of the training labels is wrong.",
        paper="Biggio, Nelson, Laskov: Poisoning attacks against support vector machines, ICML 2012",
        params=LabelFlippingParams,
        measure="accuracy",
    ),
    AttackSpec(
        name="clean_label",
        category="data_poisoning",
        title="Clean-label poisoning",
        summary="Training images are altered within a small budget; their labels stay right.",
        paper="Shafahi et al.: Poison frogs! Targeted clean-label poisoning attacks on neural networks, NeurIPS 2018",
        params=CleanLabelParams,
        measure="accuracy",
        needs_clean_model=True,
    ),
)
