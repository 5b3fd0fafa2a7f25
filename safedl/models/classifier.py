"""The classifier that everything works on: images in [0, 1] go in, logits come out, features can be read."""

from __future__ import annotations

import copy
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from safedl.errors import UsageError, nearest


class Classifier(nn.Module):
    """A network with its normalisation inside.

    `net` is the architecture itself: layer names never include this wrapper. `head` is the last linear layer,
    whose input is the penultimate layer's output, called `penultimate`.
    """

    mean: Tensor
    std: Tensor
    random_surrogate = False
    """Whether `surrogate` draws noise: then an error that it shows once may be chance."""

    def __init__(
        self, net: nn.Module, mean: Sequence[float], std: Sequence[float], shape: tuple[int, int, int]
    ) -> None:
        """Wrap `net` for images of `shape` (C, H, W); `mean` and `std` are per channel, of images in [0, 1].

        Weights of convolutions become channels last: grey images alone do not tell, and pooling what is not takes three
        times as long on a CPU. A network that cannot take values in this order, as one that calls `view` on them or has
        weights of five axes, gets everything in the usual one.
        Raises `UsageError` if no penultimate layer can be found.
        """
        super().__init__()
        self.register_buffer("mean", torch.tensor(mean).view(1, -1, 1, 1))
        self.register_buffer("std", torch.tensor(std).view(1, -1, 1, 1))
        self.shape = shape
        self.channels_last = True
        self.net = net
        try:
            net.to(memory_format=torch.channels_last)
            self.head, self.penultimate = _find_head(self)
        except RuntimeError:
            self.channels_last = False
            net.to(memory_format=torch.contiguous_format)
            self.head, self.penultimate = _find_head(self)

    def forward(self, images: Tensor) -> Tensor:
        """Return logits [N, K] of float images [N, C, H, W] in [0, 1]."""
        normalised = (images - self.mean) / self.std
        if not self.channels_last:
            # Not contiguous(), which leaves grey images with the strides of channels last.
            normalised = normalised.clone(memory_format=torch.contiguous_format)
        logits: Tensor = self.net(normalised)
        return logits

    def surrogate(self, images: Tensor) -> Tensor:
        """Return the logits [N, K] that an attacker who knows the model differentiates.

        A plain classifier's own; a guard replaces what cannot be differentiated (see `safedl.defenses.guard`).
        """
        logits: Tensor = self(images)
        return logits

    def with_features(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Return penultimate features [N, D] and logits [N, K] of float images [N, C, H, W] in [0, 1], unguarded."""
        seen: list[Tensor] = []
        hook = self.layer(self.head).register_forward_pre_hook(lambda _module, inputs: seen.append(inputs[0]))
        try:
            logits = Classifier.forward(self, images)
        finally:
            hook.remove()
        return seen[-1].flatten(1), logits

    def layer(self, name: str) -> nn.Module:
        """Return the layer called `name`. Raises `UsageError` if there is none."""
        modules: dict[str, nn.Module] = dict(self.net.named_modules())
        if name not in modules:
            layers = [n for n in modules if n]
            raise UsageError(f"the model has no layer '{name}'.{nearest(name, layers)} It has: {', '.join(layers)}")
        return modules[name]

    def weighted_layer(self, name: str) -> str:
        """Return the layer that `name` means: itself, or the one whose parameter it is (`conv.0` for `conv.0.bias`).

        Raises `UsageError` if there is none, or if it has no weights.
        """
        head, _, parameter = name.rpartition(".")
        modules: dict[str, nn.Module] = dict(self.net.named_modules())
        if name not in modules and head in modules and parameter in dict(modules[head].named_parameters(recurse=False)):
            name = head
        if not isinstance(getattr(self.layer(name), "weight", None), Tensor):
            raise UsageError(f"layer '{name}' has no weights")
        return name

    def clone(self) -> Classifier:
        """Return an independent copy, in eval mode."""
        return copy.deepcopy(self).eval()


def _find_head(model: Classifier) -> tuple[str, str]:
    """Return the names of the last linear layer to run and of the layer that feeds it."""
    order: list[tuple[str, nn.Module, Tensor, Tensor]] = []

    def note(name: str, module: nn.Module) -> torch.utils.hooks.RemovableHandle:
        def hook(_m: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
            if isinstance(output, Tensor) and inputs and isinstance(inputs[0], Tensor):
                order.append((name, module, inputs[0], output))

        return module.register_forward_hook(hook)

    leaves = [(n, m) for n, m in model.net.named_modules() if not list(m.children())]
    handles = [note(n, m) for n, m in leaves]
    training = model.training
    try:
        with torch.no_grad():
            # Two images: of one alone, a network may merge the axes of images and channels in any order. They differ,
            # as the logits of one may look like probabilities by chance.
            images = torch.full((2, *model.shape), 0.5)
            images[1] = 0.75
            logits = model.eval()(images.to(memory_format=torch.channels_last))
    finally:
        model.train(training)
        for handle in handles:
            handle.remove()
    linear = [i for i, (_, module, _, _) in enumerate(order) if isinstance(module, nn.Linear)]
    if not linear or linear[-1] != len(order) - 1:
        raise UsageError(
            "the model has no penultimate layer: its last layer must be torch.nn.Linear, "
            f"not {type(order[-1][1]).__name__ if order else 'nothing'}"
        )
    if _are_probabilities(logits):  # a function, which no hook sees
        raise UsageError(
            "the model gives probabilities, as softmax does, not logits: let it return what its last layer gives"
        )
    head, _, features, _ = order[-1]
    feeders = [n for n, _, _, out in order[:-1] if out is features or out.data_ptr() == features.data_ptr()]
    return head, feeders[-1] if feeders else f"input of {head}"


def _are_probabilities(logits: object) -> bool:
    """Return whether values are the shares of classes: the losses of training and of attacks take a softmax again."""
    if not isinstance(logits, Tensor) or logits.ndim != 2 or not logits.is_floating_point():
        return False
    return bool((logits > 0).all() and ((logits.sum(1) - 1).abs() < 1e-3).all())
