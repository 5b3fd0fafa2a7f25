"""Defenses against poisoned data that aims at accuracy."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, ValidationInfo, field_validator

from safedl.catalog.spec import DefenseSpec, Params, Variant


class DataCleaningParams(Params):
    """Parameters of `data_cleaning`."""

    method: Literal["loss_filtering", "outlier_detection"] = Field(
        "loss_filtering",
        description="paper: odds of a wrong label, or z-score against trusted losses of the class; "
        "literal: loss against a scaled mean, or z-score over all losses.",
    )
    threshold: float | None = Field(
        None,
        gt=0,
        description="Lower is stricter. Keep odds (literal: loss / mean) or z-score up to this; null: 0.9 or 3.",
    )
    folds: int = Field(3, ge=2, le=20, description="paper: parts into which the data is cut for unseen predictions.")
    trusted: bool = Field(
        True, description="paper: cuts found on trusted data; false: by a mixture of right and random labels."
    )
    variant: Variant = Field(
        "paper",
        description="paper: predictions of models that have not seen the sample, cuts found on trusted data; "
        "literal: one model trained on everything.",
    )


class PerClassMonitoringParams(Params):
    """Parameters of `per_class_monitoring`."""

    std_threshold: float = Field(
        2.0,
        gt=0,
        description="paper: standard errors, before Bonferroni's correction; "
        "literal: standard deviations below the mean class accuracy.",
    )
    variant: Variant = Field(
        "paper",
        description="paper: accuracy and prediction frequency of each class against a reference read from trusted "
        "features; literal: accuracy against the mean of all classes.",
    )


class RobustLossParams(Params):
    """Parameters of `robust_loss`."""

    type: Literal["gce", "symmetric_cross_entropy", "label_smoothing"] = Field(
        "gce", description="Generalized cross-entropy, symmetric cross-entropy, or label smoothing."
    )
    q: float = Field(0.7, gt=0, le=1, description="gce: 0 is cross-entropy, 1 is mean absolute error.")
    alpha: float = Field(0.1, ge=0, description="symmetric_cross_entropy: weight of cross-entropy.")
    beta: float = Field(1.0, ge=0, description="symmetric_cross_entropy: weight of reverse cross-entropy.")
    smoothing: float = Field(0.1, ge=0, lt=1, description="label_smoothing: mass given to all classes evenly.")
    warmup: float = Field(
        0.5,
        ge=0,
        lt=1,
        description="gce, symmetric_cross_entropy: share of the epochs trained with cross-entropy first.",
    )
    balanced: bool = Field(
        True, description="Add each label's log frequency to the logits in training, so that no label wins by number."
    )

    @field_validator("beta")
    @classmethod
    def _something_counts(cls, value: float, info: ValidationInfo) -> float:
        if not value and info.data.get("type") == "symmetric_cross_entropy" and not info.data.get("alpha", 1):
            raise ValueError("alpha and beta are both 0, and nothing would be learned; raise one of them")
        return value


class DpTrainingParams(Params):
    """Parameters of `dp_training`."""

    epsilon: float = Field(2.0, gt=0, description="Privacy budget: never exceeded.")
    delta: float = Field(1e-5, gt=0, lt=1, description="Probability that the guarantee fails; below 1 / images.")
    clip_norm: float = Field(1.0, gt=0, description="Largest norm of one image's gradient.")
    batch_size: int | None = Field(
        None, ge=1, description="Images per step on average, as near as equal steps allow; null: 1,024, or a quarter."
    )
    epochs: int = Field(20, ge=1, le=10_000, description="Passes over the images.")
    learning_rate: float = Field(0.5, gt=0, le=10, description="Learning rate of SGD.")
    momentum: float = Field(0.0, ge=0, lt=1, description="Momentum of SGD.")
    physical_batch_size: int | None = Field(
        None, ge=1, description="Most images whose gradients are in memory at once; null: 256 on a GPU, 32 on a CPU."
    )
    secure_mode: bool = Field(False, description="Draw noise from a cryptographic generator; needs torchcsprng.")


class ProvenanceTrackingParams(Params):
    """Parameters of `provenance_tracking`."""

    granularity: Literal["source", "sample", "batch"] | None = Field(
        None, description="What is kept or removed as a whole; null: source where the data names sources, else sample."
    )
    batch_size: int = Field(64, ge=1, description="Images of a batch, where granularity is batch.")
    variant: Variant = Field(
        "paper",
        description="paper: does a classifier refitted without the segment do better on trusted data; "
        "literal: is its mean loss under the clean model above mean + 2 sigma.",
    )


class InfluenceFunctionsParams(Params):
    """Parameters of `influence_functions`."""

    method: Literal["grad_influence", "hessian_inverse"] = Field(
        "grad_influence",
        description="Product of gradients over all weights, or through the inverse Hessian of the last layer.",
    )
    sample_size: int = Field(
        500, ge=1, description="At most this many trusted images are compared against, but one of each class at least."
    )
    damping: float = Field(0.01, gt=0, description="hessian_inverse: added to the Hessian's diagonal.")
    variant: Variant = Field(
        "paper",
        description="paper: remove what raises the trusted loss more than trusted samples do; "
        "literal: remove influences of either sign above mean + 2 sigma.",
    )


DEFENSES: tuple[DefenseSpec, ...] = (
    DefenseSpec(
        name="data_cleaning",
        kind="detect",
        title="Data cleaning",
        summary="Removes samples whose label contradicts models that have not seen them.",
        paper="Northcutt, Jiang, Chuang: Confident learning, JAIR 2021",
        params=DataCleaningParams,
        applies_to=("label_flipping",),
        trusted="How predictions spread within a true class, and how sure they are (paper).",
        examples="cleaned_examples",
    ),
    DefenseSpec(
        name="per_class_monitoring",
        kind="diagnose",
        title="Per-class monitoring",
        summary="Names the classes that lost accuracy or are predicted too often.",
        paper="McNemar: Note on the sampling error of the difference between correlated proportions, 1947",
        params=PerClassMonitoringParams,
        applies_to=("label_flipping",),
        trusted="Validation images for the accuracy of each class; a reference classifier on their features (paper).",
    ),
    DefenseSpec(
        name="robust_loss",
        kind="train",
        title="Robust loss",
        summary="Trains with a loss that wrong labels cannot pull far.",
        paper="Zhang, Sabuncu: Generalized CE, NeurIPS 2018; Wang et al.: Symmetric CE, ICCV 2019",
        params=RobustLossParams,
        applies_to=("label_flipping", "clean_label"),
        trusted="",
    ),
    DefenseSpec(
        name="dp_training",
        kind="train",
        title="Differentially private training",
        summary="Clips each image's gradient and adds noise, so that no few images decide.",
        paper="Abadi et al.: Deep learning with differential privacy, CCS 2016",
        params=DpTrainingParams,
        applies_to=("label_flipping", "clean_label"),
        trusted="",
        recipe="SGD on large Poisson-sampled batches with its own epochs and learning rate, group for batch "
        "normalisation, float32, no augmentation.",
    ),
    DefenseSpec(
        name="provenance_tracking",
        kind="detect",
        title="Provenance tracking",
        summary="Removes what came from sources without which a classifier does better on trusted data.",
        paper="Baracaldo et al.: Mitigating poisoning attacks on machine learning models, AISec 2017",
        params=ProvenanceTrackingParams,
        applies_to=("clean_label",),
        trusted="Whether a classifier is better with or without a segment (paper).",
        clean_model="Its features, or its loss (literal), show what does not fit.",
        examples="provenance_examples",
    ),
    DefenseSpec(
        name="influence_functions",
        kind="detect",
        title="Influence functions",
        summary="Removes samples whose gradient works against that of trusted data.",
        paper="Koh, Liang: Understanding black-box predictions via influence functions, ICML 2017",
        params=InfluenceFunctionsParams,
        applies_to=("clean_label",),
        trusted="The gradient that training should follow, and the usual range of scores (paper).",
        clean_model="Gradients are taken at its weights.",
        examples="influence_examples",
    ),
)
