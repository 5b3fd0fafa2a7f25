"""A copy of a trained model that answers alike and sooner, for those who ask it thousands of times."""

from __future__ import annotations

from contextlib import suppress

import torch
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from safedl.models.classifier import Classifier
from safedl.models.follow import following_norms, noise

CLOSE = 1e-4
"""What rounding may change, relative to the largest logit."""


def frozen(model: Classifier) -> Classifier:
    """Return a copy in eval mode that learns no more, with its weights in the model's order in memory, on its device.

    Batch normalisation is folded into the convolutions before it: with `cnn` on a CPU, logits and their gradient by the
    image take half the time. A network that then answers otherwise is copied as it is.
    """
    # Without torch.fx: its tracer changes torch.nn.Module for the whole process, where other threads train.
    copy = model.clone().requires_grad_(False)
    if any(isinstance(layer, nn.BatchNorm2d) for layer in copy.modules()):
        with suppress(Exception):  # a model of the user's own may fail in any way once its layers are exchanged
            folded = _fold(copy.clone())
            if _alike(copy, folded):
                copy = folded
    return copy.to(memory_format=torch.channels_last) if model.channels_last else copy


def _fold(model: Classifier) -> Classifier:
    """Take the batch normalisation out of a model in eval mode, in place."""
    for convolution, norm in following_norms(model).items():
        before, after = model.net.get_submodule(convolution), model.net.get_submodule(norm)
        assert isinstance(before, nn.Conv2d) and isinstance(after, nn.BatchNorm2d)
        model.net.set_submodule(convolution, fuse_conv_bn_eval(before, after).requires_grad_(False))
        model.net.set_submodule(norm, nn.Identity())
    return model


@torch.no_grad()
def _alike(one: Classifier, other: Classifier) -> bool:
    """Return whether two models give the same logits, on noise."""
    images = noise(one, 3)
    expected = one(images)
    return bool(((other(images) - expected).abs() <= CLOSE * expected.abs().max()).all())
