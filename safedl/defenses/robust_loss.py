"""Train with a loss whose gradient a wrong label cannot make large.

Generalized cross-entropy (Zhang, Sabuncu, NeurIPS 2018), symmetric cross-entropy (Wang et al., ICCV 2019), label
smoothing (Szegedy et al., CVPR 2016). The first two hardly move where the model is sure that a label is wrong, so
from scratch they may collapse into the most frequent label; they start from a few epochs of cross-entropy.
"""

from __future__ import annotations

from safedl.catalog.defenses.poisoning import RobustLossParams
from safedl.defenses.contract import Scenario, Trained
from safedl.training import losses
from safedl.training.workbench import CROSS_ENTROPY, NamedLoss


def train(scenario: Scenario, params: RobustLossParams) -> Trained:
    """Train by the common recipe; `warmup` of its epochs run with cross-entropy, the rest with the robust loss."""
    loss = _loss(params)
    epochs = scenario.bench.training.epochs
    first = 0 if params.type == "label_smoothing" else min(round(params.warmup * epochs), epochs - 1)
    start = scenario.fit(scenario.data, epochs=first, loss=_share(scenario, params, CROSS_ENTROPY)) if first else None
    robust = _share(scenario, params, loss)
    model = scenario.fit(scenario.data, model=start, epochs=epochs - first, loss=robust)
    return Trained(model, {"type": params.type, "loss": loss.name, "warmup_epochs": first})


def _loss(params: RobustLossParams) -> NamedLoss:
    if params.type == "gce":
        return losses.generalized_cross_entropy(params.q)
    if params.type == "symmetric_cross_entropy":
        return losses.symmetric_cross_entropy(params.alpha, params.beta)
    return losses.label_smoothing(params.smoothing)


def _share(scenario: Scenario, params: RobustLossParams, loss: NamedLoss) -> NamedLoss:
    return losses.balanced(loss, scenario.data.labels, scenario.num_classes) if params.balanced else loss
