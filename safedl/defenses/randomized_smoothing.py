"""Answer by the vote of noisy copies of an image, and certify how far an adversary would have to go.

Cohen, Rosenfeld, Kolter, Certified adversarial robustness via randomized smoothing, ICML 2019. If Gaussian noise of
standard deviation sigma leaves one class with probability p > 1/2, no change of L2 norm below sigma Phi^-1(p) takes the
vote from it. Noisy images are not clipped to [0, 1]: the theorem needs Gaussian noise.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping
from functools import partial
from statistics import NormalDist
from typing import Any

import torch
import torch.nn.functional as F
from scipy.stats import beta
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from safedl.catalog.defenses.evasion import RandomizedSmoothingParams
from safedl.defenses.contract import Scenario
from safedl.defenses.guard import Guard, seeded_noise
from safedl.models.classifier import Classifier
from safedl.progress import SILENT, Progress
from safedl.training.workbench import NamedObjective

COPIES = 128
"""Noisy images that pass the model at once: see `safedl.training.predict.BATCH`."""
VOTE_SEED, CERTIFY_SEED, EOT_SEED = 0, 1 << 30, 1 << 31
"""Where the noise of the vote, of certificates and of attackers begins. Torch looks at the lowest 32 bits alone."""


def guard(scenario: Scenario, params: RandomizedSmoothingParams) -> Guard:
    """Train a fresh model by the common recipe on noisy images, and smooth it."""
    objective = NamedObjective(f"gaussian noise sigma={params.sigma}", partial(noisy_objective, sigma=params.sigma))
    return wrap(scenario.fit(scenario.data, objective=objective), params)


def wrap(model: Classifier, params: RandomizedSmoothingParams) -> Guard:
    """Smooth `model`, which should have been trained with noise of the same sigma."""
    return SmoothedClassifier(model, params)


def noisy_objective(
    model: Classifier, images: Tensor, labels: Tensor, rng: torch.Generator, sigma: float
) -> tuple[Tensor, Tensor]:
    """Return logits and cross-entropy of images with Gaussian noise."""
    logits = model(images + sigma * torch.randn(images.shape, generator=rng).to(images.device))
    return logits, F.cross_entropy(logits.float(), labels)


class SmoothedClassifier(Guard):
    """A classifier that answers by the vote of noisy copies."""

    random_surrogate = True
    outside_graph = "its vote draws the noise of every copy from a seed"

    def __init__(self, inner: Classifier, params: RandomizedSmoothingParams) -> None:
        """Smooth `inner`, which should have been trained with noise of the same sigma."""
        super().__init__(inner)
        self.params = params
        self.certify_images = params.certify_images
        self.next_seed = EOT_SEED

    @property
    def details(self) -> Mapping[str, Any]:
        """What becomes keys of the defense's result: all that its answers and certificates depend on."""
        return self.params.model_dump()

    @torch.no_grad()
    def forward(self, images: Tensor) -> Tensor:
        """Return the log of each class's share of votes [N, K], half a vote added to each to keep it finite.

        All images meet the same noise, so an answer does not depend on what else is in the batch.
        """
        shape, device = images.shape[1:], images.device
        together = max(1, COPIES // max(1, len(images)))
        votes = []
        for copies in torch.arange(self.params.num_samples).split(together):
            noise = torch.stack([seeded_noise(shape, VOTE_SEED + copy, device) for copy in copies.tolist()])
            logits = self.classify((images + self.params.sigma * noise.unsqueeze(1)).flatten(0, 1))
            answers = logits.argmax(1).view(len(copies), len(images))
            votes.append(F.one_hot(answers, logits.shape[1]).sum(0))
        counts = torch.stack(votes).sum(0) + 0.5
        return (counts / counts.sum(1, keepdim=True)).log()

    def surrogate(self, images: Tensor) -> Tensor:
        """Return the log of the mean softmax [N, K] over `eot_samples` noisy copies, with new noise in every call.

        Expectation over transformation (Athalye et al., ICML 2018), of the softmax itself (Salman et al., NeurIPS
        2019). A copy of this guard draws what it would have drawn from there on. The copies' activations are computed
        once more in the backward pass: kept, they would take `eot_samples` times the memory of one pass.
        """
        answers = []
        for _ in range(self.params.eot_samples):
            noise = seeded_noise(images.shape, self.next_seed, images.device)
            self.next_seed += 1
            answers.append(checkpoint(self._answer, images, noise, use_reentrant=False, preserve_rng_state=False))
        return torch.stack(answers).logsumexp(0) - math.log(len(answers))

    def _answer(self, images: Tensor, noise: Tensor) -> Tensor:
        return self.classify(images + self.params.sigma * noise).log_softmax(1)

    @torch.no_grad()
    def certified_radii(self, images: Tensor, labels: Tensor, progress: Progress = SILENT) -> Tensor:
        """Return the L2 radius [N] within which the vote on float images [N, C, H, W] is certain, on the CPU.

        A class is chosen by `num_samples` copies and certified by `certify_samples` others, each image with noise of
        its own; -1 where another class than the label is chosen, or none has a majority. Each is right with
        probability 1 - alpha.
        """
        radii, seeds = [], itertools.count(CERTIFY_SEED)
        for image, label in zip(images, labels.tolist(), strict=True):
            chosen = int(self._count(image, self.params.num_samples, seeds).argmax())
            hits = int(self._count(image, self.params.certify_samples, seeds)[chosen])
            radius = certified_radius(hits, self.params.certify_samples, self.params.sigma, self.params.alpha)
            radii.append(radius if chosen == label else -1.0)
            progress.step("certify", len(radii), len(images))
        return torch.tensor(radii)

    def _count(self, image: Tensor, samples: int, seeds: Iterator[int]) -> Tensor:
        """Return the votes int64 [K] of noisy copies of an image [C, H, W]."""
        votes = []
        for start in range(0, samples, COPIES):
            shape = (min(COPIES, samples - start), *image.shape)
            logits = self.classify(image + self.params.sigma * seeded_noise(shape, next(seeds), image.device))
            votes.append(torch.bincount(logits.argmax(1), minlength=logits.shape[1]))
        return torch.stack(votes).sum(0)


def certified_radius(hits: int, samples: int, sigma: float, alpha: float) -> float:
    """Return sigma Phi^-1(p), or -1 for p of at most 1/2; p is what the class's probability exceeds.

    That is Clopper and Pearson's exact one-sided bound (1934), wrong with probability `alpha`, for `hits` of `samples`.
    """
    lower = float(beta.ppf(alpha, hits, samples - hits + 1)) if hits else 0.0
    return sigma * NormalDist().inv_cdf(lower) if lower > 0.5 else -1.0
