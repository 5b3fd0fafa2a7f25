"""Defenses against adversarial images."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from safedl.catalog.spec import DefenseSpec, Params

_APPLIES_TO = ("fgsm", "pgd", "cw", "deepfool", "transfer", "square", "hopskipjump", "nes", "spsa")


class AdversarialTrainingParams(Params):
    """Parameters of `adversarial_training`."""

    attack_type: Literal["fgsm", "pgd", "trades"] = Field(
        "pgd", description="Train on images of fgsm with a random start, of pgd, or by the TRADES loss."
    )
    epsilon: float = Field(0.1, ge=0, le=1, description="Largest change of a pixel in training, in [0, 1].")
    alpha: float | None = Field(
        None, gt=0, le=1, description="Size of a step; null: 1.25 epsilon (fgsm), 2.5 epsilon / steps (others)."
    )
    num_steps: int = Field(5, ge=1, le=100, description="Steps of pgd and trades.")
    beta: float = Field(6.0, gt=0, description="trades: weight of robustness against accuracy.")
    epochs: int | None = Field(None, ge=1, le=10_000, description="Passes over the images; null: the recipe's.")


class RandomizedSmoothingParams(Params):
    """Parameters of `randomized_smoothing`."""

    sigma: float = Field(0.25, gt=0, le=5, description="Standard deviation of the noise, pixels in [0, 1].")
    num_samples: int = Field(100, ge=10, le=100_000, description="Noisy copies of an image whose votes decide.")
    certify_samples: int = Field(1000, ge=10, le=1_000_000, description="Noisy copies of an image to certify it.")
    certify_images: int = Field(200, ge=0, description="Certify at most this many test images; 0 for none.")
    alpha: float = Field(0.001, gt=0, lt=1, description="Probability that a certificate is wrong.")
    eot_samples: int = Field(8, ge=1, le=1000, description="Noisy copies over which an attacker averages gradients.")


class JpegPreprocessingParams(Params):
    """Parameters of `jpeg_preprocessing`."""

    quality: int = Field(75, ge=1, le=100, description="Quality of the JPEG compression.")


class GradientMaskingParams(Params):
    """Parameters of `gradient_masking`."""

    strength: float = Field(
        0.5, gt=0, le=1, description="How coarsely pixels are rounded: from 256 levels (near 0) to 2 (1)."
    )


DEFENSES: tuple[DefenseSpec, ...] = (
    DefenseSpec(
        name="adversarial_training",
        kind="train",
        title="Adversarial training",
        summary="Trains on adversarial images made anew in every step.",
        paper="Madry et al., ICLR 2018; Wong, Rice, Kolter: Fast is better than free, ICLR 2020; "
        "Zhang et al.: TRADES, ICML 2019",
        params=AdversarialTrainingParams,
        applies_to=_APPLIES_TO,
        trusted="",
        recipe="Every batch is replaced by adversarial images; epochs of its own where the profile names them.",
    ),
    DefenseSpec(
        name="randomized_smoothing",
        kind="guard",
        title="Randomized smoothing",
        summary="Trains with Gaussian noise and answers by the vote of many noisy copies, with a certified radius.",
        paper="Cohen, Rosenfeld, Kolter: Certified adversarial robustness via randomized smoothing, ICML 2019",
        params=RandomizedSmoothingParams,
        applies_to=_APPLIES_TO,
        trusted="",
        recipe="Gaussian noise is added to every image.",
    ),
    DefenseSpec(
        name="jpeg_preprocessing",
        kind="guard",
        title="JPEG preprocessing",
        summary="Compresses every image before the model sees it.",
        paper="Dziugaite, Ghahramani, Roy: A study of the effect of JPG compression on adversarial images, 2016",
        params=JpegPreprocessingParams,
        applies_to=_APPLIES_TO,
        trusted="",
    ),
    DefenseSpec(
        name="gradient_masking",
        kind="guard",
        title="Gradient masking",
        summary="Rounds pixels and saturates the answer, so that gradients vanish. An attacker who knows gets through.",
        paper="Athalye, Carlini, Wagner: Obfuscated gradients give a false sense of security, ICML 2018",
        params=GradientMaskingParams,
        applies_to=_APPLIES_TO,
        trusted="",
    ),
)
