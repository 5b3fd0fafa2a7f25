"""Defenses against planted triggers."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, ValidationInfo, field_validator

from safedl.catalog.spec import DefenseSpec, LayerName, Params, Variant

PruningCriterion = Literal["trigger", "dormant"]
Scope = Literal["all_layers", "last_layer_only"]
AnomalyType = Literal["isolation_forest", "lof"]

FEWEST_CLASSES = 3
"""Two sizes of triggers have no median apart from themselves: which of them is unusual, nobody can tell."""

_APPLIES_TO = ("static_patch", "learned_trigger")


def _check_classes(info: ValidationInfo, otherwise: str) -> None:
    """Raise `ValueError` where the data is known to have too few classes to compare; `otherwise` is what to do then."""
    count = (info.context or {}).get("num_classes")
    if count is not None and count < FEWEST_CLASSES:
        raise ValueError(
            "the smallest triggers of the classes are compared with each other, which needs "
            f"{FEWEST_CLASSES} classes or more, and the data has {count}; {otherwise}"
        )


class _DetectorParams(Params):
    trusted: bool = Field(True, description="Use the trusted holdout; false shows what the method finds without it.")


class ActivationClusteringParams(_DetectorParams):
    """Parameters of `activation_clustering`."""

    num_clusters: int = Field(
        2, ge=2, le=20, description="Clusters of k-means: within each given class (paper), over all samples (literal)."
    )
    variant: Variant = Field(
        "paper",
        description="paper: removes clusters that look like poison; literal: the smallest cluster, whatever it is.",
    )


class SpectralSignaturesParams(_DetectorParams):
    """Parameters of `spectral_signatures`."""

    threshold: float = Field(
        0.9,
        ge=0,
        lt=1,
        description="Quantile a score must exceed: of the class's trusted scores (paper), of its own scores "
        "(paper without trusted data, literal: removes that share of every class).",
    )
    directions: int = Field(10, ge=1, le=1000, description="Singular directions that make up the score (paper).")
    variant: Variant = Field(
        "paper", description="paper: squared projections, removal by verdict; literal: one direction, by quantile."
    )


class AnomalyDetectionParams(_DetectorParams):
    """Parameters of `anomaly_detection`."""

    type: AnomalyType = Field("lof", description="isolation_forest, or lof (local outlier factor).")
    variant: Variant = Field(
        "paper", description="paper: within each given class; literal: one detector over all samples."
    )


class PruningParams(Params):
    """Parameters of `pruning`."""

    pruning_ratio: float = Field(
        0.8,
        ge=0,
        lt=1,
        description="Share of the units to remove: at most, while trusted accuracy falls by no more than "
        "4 points (paper); always (literal).",
    )
    scope: Scope = Field(
        "last_layer_only",
        description="all_layers: every convolution (paper), every linear layer (literal); "
        "last_layer_only: the last convolution (paper), the classification layer (literal).",
    )
    criterion: PruningCriterion = Field(
        "trigger",
        description="trigger: first the channels that serve a reverse-engineered trigger; "
        "dormant: first those least active on trusted images (paper).",
    )
    variant: Variant = Field(
        "paper",
        validate_default=True,
        description="paper: channels, by criterion; literal: the most active outputs of linear layers.",
    )

    @field_validator("variant")
    @classmethod
    def _compares_triggers(cls, value: Variant, info: ValidationInfo) -> Variant:
        if value == "paper" and info.data.get("criterion") == "trigger":
            _check_classes(info, "choose criterion: dormant, or leave this defense out")
        return value


class FinePruningParams(Params):
    """Parameters of `fine_pruning`."""

    pruning_ratio: float = Field(
        0.8,
        ge=0,
        lt=1,
        description="Share of the last convolution's channels, least active first (paper); "
        "of the last linear layer's outputs, most active first (literal).",
    )
    epochs: int = Field(20, ge=1, le=1000, description="Passes over the trusted images (paper).")
    learning_rate: float = Field(5e-3, gt=0, le=1, description="Largest learning rate of fine-tuning (paper).")
    targets: Literal["teacher", "labels"] = Field(
        "teacher",
        description="What is learned in fine-tuning: the unpruned model's answers to mixtures of trusted images, "
        "or the trusted images' labels (paper).",
    )
    variant: Variant = Field("paper", description="paper: prunes and fine-tunes; literal: prunes the last layer only.")


class ModelInspectionParams(Params):
    """Parameters of `model_inspection`."""

    layers: tuple[LayerName, ...] | None = Field(
        None, description="Layers whose weights are reported; null: all linear and convolutional ones."
    )
    variant: Variant = Field(
        "paper",
        validate_default=True,
        description="paper: reverse-engineers a trigger for each class; literal: flags std above 1 or |w| above 2.",
    )

    @field_validator("variant")
    @classmethod
    def _compares_triggers(cls, value: Variant, info: ValidationInfo) -> Variant:
        if value == "paper":
            _check_classes(info, "choose variant: literal, or leave this defense out")
        return value

    @field_validator("layers")
    @classmethod
    def _each_once(cls, layers: tuple[str, ...] | None) -> tuple[str, ...] | None:
        """Two parameters of one layer name it twice."""
        return layers and tuple(dict.fromkeys(layers))


DEFENSES: tuple[DefenseSpec, ...] = (
    DefenseSpec(
        name="activation_clustering",
        kind="detect",
        from_features=True,
        title="Activation clustering",
        summary="Removes samples that form a cluster of their own among the features of their class.",
        paper="Chen et al.: Detecting backdoor attacks on deep neural networks by activation clustering, 2018",
        params=ActivationClusteringParams,
        applies_to=_APPLIES_TO,
        trusted="Whitens the features and decides which cluster is poison (paper).",
        examples="activation_removed",
    ),
    DefenseSpec(
        name="spectral_signatures",
        kind="detect",
        from_features=True,
        title="Spectral signatures",
        summary="Removes samples far out along the directions that poison adds to the features of a class.",
        paper="Tran, Li, Madry: Spectral signatures, NeurIPS 2018; Hayase et al.: SPECTRE, ICML 2021",
        params=SpectralSignaturesParams,
        applies_to=_APPLIES_TO,
        trusted="Whitens the features, decides which classes are poisoned and where to cut (paper).",
        examples="spectral_removed",
        histograms="spectral_histograms",
    ),
    DefenseSpec(
        name="anomaly_detection",
        kind="detect",
        from_features=True,
        title="Anomaly detection",
        summary="Removes samples that an isolation forest or the local outlier factor finds outlying in feature space.",
        paper="Liu, Ting, Zhou: Isolation forest, ICDM 2008; Breunig et al.: LOF, SIGMOD 2000",
        params=AnomalyDetectionParams,
        applies_to=_APPLIES_TO,
        trusted="Tells what is normal, which classes are poisoned and where to cut (paper).",
        examples="anomaly_removed",
    ),
    DefenseSpec(
        name="pruning",
        kind="repair",
        title="Pruning",
        summary="Switches off channels that serve the trigger and not the clean images.",
        paper="Wang et al.: Neural Cleanse, S&P 2019; Liu, Dolan-Gavitt, Garg: Fine-Pruning, RAID 2018",
        params=PruningParams,
        applies_to=_APPLIES_TO,
        trusted="Finds the trigger, ranks the channels and limits the loss of accuracy (paper).",
    ),
    DefenseSpec(
        name="fine_pruning",
        kind="repair",
        title="Fine-pruning",
        summary="Switches off channels that clean images do not use, then tunes the rest on trusted images.",
        paper="Liu, Dolan-Gavitt, Garg: Fine-Pruning, RAID 2018",
        params=FinePruningParams,
        applies_to=_APPLIES_TO,
        trusted="Ranks the channels and is what the model is tuned on (paper).",
        recipe="Fine-tuning on trusted images with epochs and learning rate of its own.",
    ),
    DefenseSpec(
        name="model_inspection",
        kind="diagnose",
        title="Model inspection",
        summary="Names the class that a suspiciously small trigger can call, and reports the weights of each layer.",
        paper="Wang et al.: Neural Cleanse, S&P 2019",
        params=ModelInspectionParams,
        applies_to=_APPLIES_TO,
        trusted="Triggers are reverse-engineered on it; a reference model is trained on it (paper).",
        histograms="inspection_histograms",
    ),
)
