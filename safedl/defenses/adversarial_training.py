"""Train on adversarial images, made anew for every batch.

One step from a random point (Wong, Rice, Kolter, ICLR 2020), projected gradient descent (Madry et al., ICLR 2018), or
TRADES (Zhang et al., ICML 2019), which weighs the error on clean images against how far an adversary moves the answer.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from safedl.attacks.evasion.gradient import project_linf
from safedl.catalog.defenses.evasion import AdversarialTrainingParams
from safedl.defenses.contract import Scenario, Trained
from safedl.models.classifier import Classifier
from safedl.training.workbench import NamedObjective

TRADES_START = 0.001
"""Standard deviation of the noise that TRADES starts from: at the image itself the divergence has no gradient."""


def train(scenario: Scenario, params: AdversarialTrainingParams) -> Trained:
    """Train a fresh model by the common recipe on adversarial images; `params.epochs` replaces the recipe's."""
    overrides = {} if params.epochs is None else {"epochs": params.epochs}
    model = scenario.fit(scenario.data, objective=objective(params), **overrides)
    details = {
        "attack_type": params.attack_type,
        "training_epsilon": params.epsilon,
        "step_size": step_size(params),
        "steps": steps(params),
        "epochs": params.epochs or scenario.bench.training.epochs,
    }
    return Trained(model, details)


def objective(params: AdversarialTrainingParams) -> NamedObjective:
    """Return what is minimised; its name holds every parameter that matters to it."""
    name = f"{params.attack_type} eps={params.epsilon} alpha={step_size(params)} steps={steps(params)}"
    if params.attack_type == "trades":
        return NamedObjective(f"{name} beta={params.beta}", partial(trades_objective, params=params))
    return NamedObjective(name, partial(adversarial_objective, params=params))


def steps(params: AdversarialTrainingParams) -> int:
    """Return the number of steps of the adversary."""
    return 1 if params.attack_type == "fgsm" else params.num_steps


def step_size(params: AdversarialTrainingParams) -> float:
    """Return the size of a step: the papers' 1.25 epsilon for one, 2.5 epsilon over all for several."""
    if params.alpha is not None:
        return params.alpha
    return 1.25 * params.epsilon if params.attack_type == "fgsm" else 2.5 * params.epsilon / params.num_steps


def adversarial_objective(
    model: Classifier, images: Tensor, labels: Tensor, rng: torch.Generator, params: AdversarialTrainingParams
) -> tuple[Tensor, Tensor]:
    """Return logits and cross-entropy of images changed to raise their cross-entropy, from a random start."""
    noise = torch.empty(images.shape).uniform_(-1, 1, generator=rng).to(images.device)
    made = craft(model, images, params.epsilon * noise, lambda logits: F.cross_entropy(logits, labels), params)
    logits = model(made)
    return logits, F.cross_entropy(logits.float(), labels)


def trades_objective(
    model: Classifier, images: Tensor, labels: Tensor, rng: torch.Generator, params: AdversarialTrainingParams
) -> tuple[Tensor, Tensor]:
    """Return logits of the images, and their cross-entropy plus beta KL(clean answer, adversarial answer)."""
    with evaluating(model):
        answer = model(images).detach().float().log_softmax(1)
    noise = TRADES_START * torch.randn(images.shape, generator=rng).to(images.device)
    made = craft(model, images, noise, lambda logits: divergence(answer, logits), params)
    clean = model(images)
    robust = divergence(clean.float().log_softmax(1), model(made).float())
    return clean, F.cross_entropy(clean.float(), labels) + params.beta * robust


def divergence(answer: Tensor, logits: Tensor) -> Tensor:
    """Return the mean Kullback-Leibler divergence of softmax(logits) [B, K] from log-probabilities `answer` [B, K]."""
    return F.kl_div(logits.log_softmax(1), answer, reduction="batchmean", log_target=True)


def craft(
    model: Classifier,
    images: Tensor,
    start: Tensor,
    loss: Callable[[Tensor], Tensor],
    params: AdversarialTrainingParams,
) -> Tensor:
    """Return images [B, C, H, W] within epsilon and [0, 1] that raise `loss` of their float32 logits.

    `start` [B, C, H, W] is the first change. The model answers in eval mode: batch statistics stay as they are.
    """
    alpha = step_size(params)
    made = project_linf(images + start, images, params.epsilon)
    with evaluating(model):
        for _ in range(steps(params)):
            made.requires_grad_()
            (gradient,) = torch.autograd.grad(loss(model(made).float()), made)
            made = project_linf(made.detach() + alpha * gradient.sign(), images, params.epsilon)
    return made


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Put every module into eval mode and back into the mode it was in.

    Not by `train()`, with which dropout would begin its draws anew in every step.
    """
    modes = [(module, module.training) for module in model.modules()]
    for module, _ in modes:
        module.training = False
    try:
        yield
    finally:
        for module, mode in modes:
            module.training = mode
