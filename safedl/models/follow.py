"""Which layers follow each other as a network runs, whatever the order in which it defines them."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from safedl.models.classifier import Classifier


def following_norms(model: Classifier) -> dict[str, str]:
    """Return the batch normalisation that takes the very output of each convolution, by the convolution's name.

    Found by watching two images of noise pass, in eval mode. A layer that runs more than once is in no pair.
    """
    outputs: dict[str, list[Tensor]] = {}
    inputs: dict[str, list[Tensor]] = {}
    watched = [(n, m) for n, m in model.net.named_modules() if n and isinstance(m, nn.Conv2d | nn.BatchNorm2d)]

    def watch(name: str, layer: nn.Module) -> RemovableHandle:
        def hook(_layer: nn.Module, args: tuple[Tensor, ...], output: Tensor) -> None:
            kept = outputs if isinstance(layer, nn.Conv2d) else inputs
            kept.setdefault(name, []).append(output if isinstance(layer, nn.Conv2d) else args[0])

        return layer.register_forward_hook(hook)

    show_noise(model, [watch(name, layer) for name, layer in watched])
    norms = {id(seen[0]): name for name, seen in inputs.items() if len(seen) == 1}
    return {name: norms[id(made[0])] for name, made in outputs.items() if len(made) == 1 and id(made[0]) in norms}


@torch.no_grad()
def show_noise(model: Classifier, hooks: Sequence[RemovableHandle]) -> None:
    """Let hooks see images of noise pass a model in eval mode; then remove them, and leave its mode as it was."""
    training = model.training
    try:
        model.eval()(noise(model, 2))
    finally:
        model.train(training)
        for hook in hooks:
            hook.remove()


def noise(model: Classifier, count: int) -> Tensor:
    """Return the same images of noise each time, float [count, C, H, W] in [0, 1], on the model's device."""
    return torch.rand(count, *model.shape, generator=torch.Generator().manual_seed(0)).to(model.mean.device)
