"""Losses that withstand wrong labels. Each has a name that tells its parameters: it enters cache keys."""

from __future__ import annotations

from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

from safedl.training.fit import Loss
from safedl.training.workbench import NamedLoss


def generalized_cross_entropy(q: float = 0.7) -> NamedLoss:
    """Return GCE, the mean of (1 - p_y^q) / q, for q in (0, 1]: cross-entropy as q goes to 0, 1 - p_y at q = 1.

    Zhang and Sabuncu, Generalized cross entropy loss, NeurIPS 2018 (without truncation).
    """
    return NamedLoss(f"gce q={q}", partial(_gce, q=q))


def symmetric_cross_entropy(alpha: float = 0.1, beta: float = 1.0, log_zero: float = -4.0) -> NamedLoss:
    """Return SCE, alpha CE + beta RCE. The reverse term swaps prediction and label and takes log 0 as `log_zero`.

    For one-hot labels RCE = -log_zero (1 - p_y). Wang et al., Symmetric cross entropy, ICCV 2019.
    """
    return NamedLoss(f"sce a={alpha} b={beta} A={log_zero}", partial(_sce, alpha=alpha, beta=beta, log_zero=log_zero))


def label_smoothing(smoothing: float = 0.1) -> NamedLoss:
    """Return cross-entropy against labels that give `smoothing` of their mass to all classes evenly.

    Szegedy et al., Rethinking the Inception architecture, CVPR 2016.
    """
    return NamedLoss(f"label smoothing {smoothing}", partial(F.cross_entropy, label_smoothing=smoothing))


def balanced(loss: NamedLoss, labels: Tensor, num_classes: int) -> NamedLoss:
    """Return `loss` on logits plus the log frequency of each class in `labels` (int64 [N]).

    The model is then spared learning how often a label occurs, which many flips to one class would distort.
    Ren et al., Balanced meta-softmax, NeurIPS 2020.
    """
    log_frequency = torch.bincount(labels, minlength=num_classes).clamp_min(1).div(len(labels)).log()
    frequencies = ",".join(f"{f:.6g}" for f in log_frequency.tolist())
    return NamedLoss(f"{loss.name} balanced {frequencies}", partial(_shifted, loss=loss.function, shift=log_frequency))


def _shifted(logits: Tensor, labels: Tensor, loss: Loss, shift: Tensor) -> Tensor:
    return loss(logits + shift.to(logits.device), labels)


def _gce(logits: Tensor, labels: Tensor, q: float) -> Tensor:
    # expm1 keeps small q exact, where 1 - p^q would cancel.
    return torch.expm1(-q * F.cross_entropy(logits, labels, reduction="none")).neg().div(q).mean()


def _sce(logits: Tensor, labels: Tensor, alpha: float, beta: float, log_zero: float) -> Tensor:
    cross_entropy = F.cross_entropy(logits, labels, reduction="none")
    reverse = -log_zero * -torch.expm1(-cross_entropy)
    return (alpha * cross_entropy + beta * reverse).mean()
