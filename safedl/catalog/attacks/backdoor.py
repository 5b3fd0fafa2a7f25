"""Attacks on the training data that plant a trigger."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from safedl.catalog.spec import AttackSpec, ClassIndex, Params

LabelMode = Literal["corrupted", "clean"]
_LABEL_MODE = "corrupted: other classes get the target's label; clean: images of the target class keep theirs."


class StaticPatchParams(Params):
    """Parameters of `static_patch`."""

    patch_type: Literal["white_square", "checkerboard", "random_noise"] = Field(
        "white_square", description="What the patch shows."
    )
    patch_position: Literal["bottom_right", "bottom_left", "top_right", "top_left", "center"] = Field(
        "bottom_right", description="Where the patch sits."
    )
    patch_size_ratio: float = Field(
        0.15, gt=0, le=1, description="Side of the patch as a share of the image's, at least 2 pixels."
    )
    poison_fraction: float = Field(
        0.05, ge=0, le=1, description="Share of the whole training set, as far as there are eligible images."
    )
    label_mode: LabelMode = Field("corrupted", description=_LABEL_MODE)
    blend_alpha: float = Field(1.0, gt=0, le=1, description="Opacity of the patch.")
    target_class: ClassIndex = Field(0, description="The class that triggered images are to be given.")


class LearnedTriggerParams(Params):
    """Parameters of `learned_trigger`."""

    poison_fraction: float = Field(
        0.1, ge=0, le=1, description="Share of the whole training set, as far as there are eligible images."
    )
    label_mode: LabelMode = Field("corrupted", description=_LABEL_MODE)
    epochs_trigger: int = Field(20, ge=1, le=10_000, description="Passes over the images that optimise the trigger.")
    learning_rate_trigger: float = Field(0.01, gt=0, le=10, description="Learning rate of the trigger and its mask.")
    lambda_mask: float = Field(0.001, ge=0, description="Weight of the mask's size (L1).")
    lambda_tv: float = Field(0.01, ge=0, description="Weight of the mask's and pattern's total variation.")
    patch_size_ratio: float = Field(
        0.35, gt=0, le=1, description="Side of the square that the mask keeps to, as a share of the image's."
    )
    trigger_samples: int = Field(2000, ge=1, description="The trigger is optimised on at most this many images.")
    target_class: ClassIndex = Field(0, description="The class that triggered images are to be given.")


ATTACKS = (
    AttackSpec(
        name="static_patch",
        category="backdoor",
        title="Static patch backdoor",
        summary="A fixed patch in training images makes the model give its target class.",
        paper="Gu, Dolan-Gavitt, Garg: BadNets, 2017",
        params=StaticPatchParams,
        measure="asr",
    ),
    AttackSpec(
        name="learned_trigger",
        category="backdoor",
        title="Learned trigger backdoor",
        summary="A pattern and mask optimised against the clean model serve as the trigger.",
        paper="Liu et al.: Trojaning attack on neural networks, NDSS 2018; Doan et al.: LIRA, ICCV 2021",
        params=LearnedTriggerParams,
        measure="asr",
        needs_clean_model=True,
        aliases=("learned",),
        param_aliases={"epochs": "epochs_trigger", "learning_rate": "learning_rate_trigger"},
    ),
)
