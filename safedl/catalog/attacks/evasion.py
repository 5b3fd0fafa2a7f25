"""Attacks at test time: images are changed so little that people do not notice, and the model errs."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field

from safedl.catalog.models import check_params
from safedl.catalog.spec import AttackSpec, Params
from safedl.errors import UsageError

_LINF = "Largest change of a pixel, in [0, 1]."
_L2 = "Largest L2 distance from the image, pixels in [0, 1]; null: as far as it takes."
_MAX_SAMPLES = "Attack at most this many test images, drawn by seed; null: all of them."


class _EvasionParams(Params):
    max_samples: int | None = Field(None, ge=1, description=_MAX_SAMPLES)


class FgsmParams(_EvasionParams):
    """Parameters of `fgsm`."""

    epsilon: float = Field(0.03, ge=0, le=1, description=_LINF)


class PgdParams(_EvasionParams):
    """Parameters of `pgd`."""

    epsilon: float = Field(0.03, ge=0, le=1, description=_LINF)
    alpha: float = Field(0.01, gt=0, le=1, description="Size of a step.")
    num_iter: int = Field(40, ge=1, le=10_000, description="Steps.")
    random_start: bool = Field(True, description="Start from a random point of the ball instead of the image.")


class CwParams(_EvasionParams):
    """Parameters of `cw`."""

    confidence: float = Field(0.0, ge=0, description="Margin of the logits by which the wrong class must win.")
    initial_const: float = Field(0.001, gt=0, description="First weight of the misclassification against the distance.")
    learning_rate: float = Field(0.01, gt=0, le=10, description="Learning rate of Adam.")
    max_iterations: int = Field(300, ge=1, le=100_000, description="Steps for each weight.")
    binary_search_steps: int = Field(3, ge=1, le=50, description="Weights tried.")
    epsilon: float | None = Field(None, ge=0, description=_L2)
    max_samples: int | None = Field(1000, ge=1, description=_MAX_SAMPLES)


class DeepfoolParams(_EvasionParams):
    """Parameters of `deepfool`."""

    max_iter: int = Field(50, ge=1, le=10_000, description="Steps.")
    overshoot: float = Field(0.02, ge=0, le=10, description="How far past the boundary to go, as a share of the way.")
    epsilon: float | None = Field(None, ge=0, description=_L2)
    max_samples: int | None = Field(1000, ge=1, description=_MAX_SAMPLES)


class NesParams(_EvasionParams):
    """Parameters of `nes`."""

    epsilon: float = Field(0.05, ge=0, le=1, description=_LINF)
    sigma: float = Field(0.01, gt=0, le=1, description="Spread of the points at which the model is asked.")
    learning_rate: float = Field(0.02, gt=0, le=1, description="Size of a step.")
    num_queries: int = Field(500, ge=3, le=1_000_000, description="Most questions per image.")
    batch_size: int = Field(30, ge=2, le=10_000, description="Questions per step; odd numbers are rounded down.")
    max_samples: int | None = Field(500, ge=1, description=_MAX_SAMPLES)


class SpsaParams(_EvasionParams):
    """Parameters of `spsa`."""

    epsilon: float = Field(0.03, ge=0, le=1, description=_LINF)
    delta: float = Field(0.01, gt=0, le=1, description="Distance of the points at which the model is asked.")
    learning_rate: float = Field(0.01, gt=0, le=1, description="Learning rate of Adam.")
    num_steps: int = Field(150, ge=1, le=100_000, description="Steps.")
    batch_size: int = Field(32, ge=2, le=10_000, description="Questions per step; odd numbers are rounded down.")
    max_samples: int | None = Field(500, ge=1, description=_MAX_SAMPLES)


class SquareParams(_EvasionParams):
    """Parameters of `square`."""

    epsilon: float = Field(0.05, ge=0, le=1, description=_LINF)
    num_queries: int = Field(1000, ge=1, le=1_000_000, description="Most questions per image.")
    p_init: float = Field(0.8, gt=0, le=1, description="Share of the image that the first squares cover.")
    max_samples: int | None = Field(500, ge=1, description=_MAX_SAMPLES)


class HopskipjumpParams(_EvasionParams):
    """Parameters of `hopskipjump`."""

    num_queries: int = Field(2000, ge=10, le=1_000_000, description="Most questions per image.")
    initial_evals: int = Field(50, ge=2, le=10_000, description="Questions for the first estimate of the normal.")
    max_evals: int = Field(1000, ge=2, le=100_000, description="Most questions for one estimate of the normal.")
    epsilon: float | None = Field(2.0, ge=0, description=_L2)
    max_samples: int | None = Field(200, ge=1, description=_MAX_SAMPLES)


def _substitute(value: dict[str, Any]) -> dict[str, Any]:
    """Return the description of a substitute in full. Raises `ValueError` for what is no built-in architecture."""
    unknown = [key for key in value if key not in ("name", "params")]
    if unknown:
        raise ValueError(f"unknown key '{unknown[0]}'; it takes name and params")
    if not isinstance(value.get("params") or {}, dict):
        raise ValueError(f"params must be a mapping, not {value['params']!r}")
    try:
        checked = check_params(str(value.get("name", "mlp")), value.get("params") or {})
    except UsageError as error:
        raise ValueError(str(error)) from error
    return {"name": value.get("name", "mlp"), "params": checked.model_dump(exclude_unset=True)}


class TransferParams(_EvasionParams):
    """Parameters of `transfer`."""

    attack_method: Literal["fgsm", "pgd"] = Field("pgd", description="The attack made on the attacker's own model.")
    substitute_model: Annotated[dict[str, Any], AfterValidator(_substitute)] = Field(
        {"name": "mlp", "params": {}},
        description="The attacker's own model: name and params of a built-in architecture.",
    )
    epsilon: float = Field(0.03, ge=0, le=1, description=_LINF)
    alpha: float = Field(0.01, gt=0, le=1, description="pgd: size of a step.")
    num_iter: int = Field(40, ge=1, le=10_000, description="pgd: steps.")
    random_start: bool = Field(True, description="pgd: start from a random point of the ball.")


def _spec(name: str, title: str, summary: str, paper: str, params: type[Params], **rest: Any) -> AttackSpec:
    return AttackSpec(name, "evasion", title, summary, paper, params, measure="adversarial", **rest)


ATTACKS = (
    _spec(
        "fgsm",
        "Fast gradient sign",
        "One step of size epsilon along the sign of the loss's gradient.",
        "Goodfellow, Shlens, Szegedy: Explaining and harnessing adversarial examples, ICLR 2015",
        FgsmParams,
        access="gradient",
    ),
    _spec(
        "pgd",
        "Projected gradient descent",
        "Many small steps along the sign of the gradient, kept within epsilon of the image.",
        "Madry et al.: Towards deep learning models resistant to adversarial attacks, ICLR 2018",
        PgdParams,
        access="gradient",
    ),
    _spec(
        "cw",
        "Carlini and Wagner L2",
        "Searches the smallest L2 change that makes the model err.",
        "Carlini, Wagner: Towards evaluating the robustness of neural networks, S&P 2017",
        CwParams,
        access="gradient",
        norm="l2",
    ),
    _spec(
        "deepfool",
        "DeepFool",
        "Steps over the nearest boundary of the linearised model until the class changes.",
        "Moosavi-Dezfooli, Fawzi, Frossard: DeepFool, CVPR 2016",
        DeepfoolParams,
        access="gradient",
        norm="l2",
    ),
    _spec(
        "nes",
        "Natural evolution strategies",
        "Estimates the gradient from the model's scores at random points nearby.",
        "Ilyas et al.: Black-box adversarial attacks with limited queries and information, ICML 2018",
        NesParams,
        access="score",
    ),
    _spec(
        "spsa",
        "Simultaneous perturbation",
        "Estimates the gradient from score differences along random signs.",
        "Uesato et al.: Adversarial risk and the dangers of evaluating against weak attacks, ICML 2018",
        SpsaParams,
        access="score",
    ),
    _spec(
        "square",
        "Square attack",
        "Tries random squares at the budget's edge and keeps those that lower the score.",
        "Andriushchenko et al.: Square attack, ECCV 2020",
        SquareParams,
        access="score",
    ),
    _spec(
        "hopskipjump",
        "HopSkipJump",
        "Walks along the boundary towards the image, asking for nothing but the predicted class.",
        "Chen, Jordan, Wainwright: HopSkipJumpAttack, S&P 2020",
        HopskipjumpParams,
        access="decision",
        norm="l2",
    ),
    _spec(
        "transfer",
        "Transfer from a substitute",
        "Adversarial images made for the attacker's own model are tried on this one.",
        "Papernot et al.: Practical black-box attacks against machine learning, AsiaCCS 2017",
        TransferParams,
        access="transfer",
    ),
)
