from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from safedl.training import losses
from safedl.training.workbench import CROSS_ENTROPY, NamedLoss

LOGITS = torch.randn(64, 5, generator=torch.Generator().manual_seed(0)).double() * 3
LABELS = torch.arange(64) % 5
P_LABEL = LOGITS.softmax(1)[torch.arange(64), LABELS]


def test_gce_becomes_cross_entropy_as_q_goes_to_zero() -> None:
    value = losses.generalized_cross_entropy(1e-7).function(LOGITS, LABELS)
    assert value.item() == pytest.approx(F.cross_entropy(LOGITS, LABELS).item(), rel=1e-5)


def test_gce_at_one_is_one_minus_p() -> None:
    value = losses.generalized_cross_entropy(1.0).function(LOGITS, LABELS)
    assert value.item() == pytest.approx((1 - P_LABEL).mean().item())


@pytest.mark.parametrize("q", [0.3, 0.7])
def test_gce_is_the_papers_formula(q: float) -> None:
    value = losses.generalized_cross_entropy(q).function(LOGITS, LABELS)
    assert value.item() == pytest.approx(((1 - P_LABEL**q) / q).mean().item())


def test_reverse_term_of_sce_swaps_prediction_and_label() -> None:
    log_label = torch.where(F.one_hot(LABELS, 5).bool(), 0.0, -4.0)
    swapped = -(LOGITS.softmax(1) * log_label).sum(1).mean()
    value = losses.symmetric_cross_entropy(alpha=0, beta=1).function(LOGITS, LABELS)
    assert value.item() == pytest.approx(swapped.item())
    assert value.item() == pytest.approx((4 * (1 - P_LABEL)).mean().item())


def test_sce_weighs_both_terms() -> None:
    value = losses.symmetric_cross_entropy(alpha=0.1, beta=2).function(LOGITS, LABELS)
    expected = 0.1 * F.cross_entropy(LOGITS, LABELS) + 8 * (1 - P_LABEL).mean()
    assert value.item() == pytest.approx(expected.item())


def test_label_smoothing_is_cross_entropy_against_soft_labels() -> None:
    soft = 0.8 * F.one_hot(LABELS, 5) + 0.2 / 5
    value = losses.label_smoothing(0.2).function(LOGITS, LABELS)
    assert value.item() == pytest.approx(-(soft * LOGITS.log_softmax(1)).sum(1).mean().item())


def test_wrong_labels_pull_less_under_robust_losses() -> None:
    def pull(loss: NamedLoss) -> float:
        logits = torch.tensor([[8.0, 0.0, 0.0]], requires_grad=True)
        loss.function(logits, torch.tensor([1])).backward()
        assert logits.grad is not None
        return float(logits.grad.norm())

    plain = pull(CROSS_ENTROPY)
    assert pull(losses.generalized_cross_entropy()) < 0.05 * plain
    assert pull(losses.symmetric_cross_entropy()) < 0.2 * plain


def test_balanced_adds_log_frequencies_of_labels() -> None:
    labels = torch.tensor([0, 0, 0, 1])
    logits = torch.zeros(1, 2)
    value = losses.balanced(CROSS_ENTROPY, labels, 2).function(logits, torch.tensor([1]))
    assert value.item() == pytest.approx(-torch.tensor(0.25).log().item())


def test_names_tell_parameters_apart() -> None:
    found = [
        losses.generalized_cross_entropy(0.7),
        losses.generalized_cross_entropy(0.8),
        losses.symmetric_cross_entropy(),
        losses.symmetric_cross_entropy(alpha=1),
        losses.label_smoothing(),
        losses.balanced(CROSS_ENTROPY, torch.tensor([0, 1]), 2),
        losses.balanced(CROSS_ENTROPY, torch.tensor([0, 1, 1]), 2),
    ]
    assert len({loss.name for loss in found}) == len(found)
