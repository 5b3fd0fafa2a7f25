"""Linear classifiers, for which the answers are known in closed form."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from safedl.attacks.contract import EvasionContext
from safedl.models.classifier import Classifier
from safedl.progress import Cancelled, Progress

SHAPE = (1, 6, 6)


@dataclass(frozen=True)
class Linear:
    """A linear classifier, images about which it is right, and the weights [K, C * H * W]."""

    model: Classifier
    images: Tensor
    labels: Tensor
    weight: Tensor

    def normals(self) -> Tensor:
        """Return weights of each other class less those of the label, [N, K, D]; zeros for the label itself."""
        return self.weight.unsqueeze(0) - self.weight[self.labels].unsqueeze(1)

    def distances(self) -> Tensor:
        """Return the L2 distance of each image from the nearest boundary, if nothing stops at 0 or 1."""
        gaps = self.logits().gather(1, self.labels.unsqueeze(1)) - self.logits()
        lengths = gaps / self.normals().norm(dim=2)
        return lengths.nan_to_num(nan=float("inf")).amin(1)

    def logits(self) -> Tensor:
        with torch.no_grad():
            return self.model(self.images)


def linear(count: int = 12, classes: int = 3, shape: tuple[int, int, int] = SHAPE, seed: int = 0) -> Linear:
    """Return a classifier whose boundaries are nearer to the images than 0 and 1 are."""
    rng = torch.Generator().manual_seed(seed)
    size = shape[0] * shape[1] * shape[2]
    head = nn.Linear(size, classes)
    head.weight.data = torch.randn((classes, size), generator=rng)
    images = 0.25 + 0.5 * torch.rand((count, *shape), generator=rng)
    head.bias.data = -(head.weight.data @ images.flatten(1).mean(0))
    model = Classifier(nn.Sequential(nn.Flatten(), head), [0.0] * shape[0], [1.0] * shape[0], shape)
    model.eval().requires_grad_(False)
    return Linear(model, images, model(images).argmax(1), head.weight.data)


class _Fickle(Classifier):
    random_surrogate = True

    def surrogate(self, images: Tensor) -> Tensor:
        return self(images).flip(1)


def fickle() -> Linear:
    """Return a classifier of two classes whose surrogate, said to be random, errs where it does not."""
    case = linear(classes=2)
    model = _Fickle(case.model.net, [0.0], [1.0], case.model.shape).eval().requires_grad_(False)
    return replace(case, model=model)


def context(seed: int = 0, num_classes: int = 3, progress: Progress | None = None) -> EvasionContext:
    return EvasionContext(torch.Generator().manual_seed(seed), num_classes, progress or Progress())


def distance(made: Tensor, original: Tensor) -> Tensor:
    return (made - original).flatten(1).norm(dim=1)


def cosine(a: Tensor, b: Tensor) -> Tensor:
    return torch.cosine_similarity(a.flatten(1), b.flatten(1), dim=1)


class StopAt(Progress):
    """Asks for a stop at the given step."""

    def __init__(self, count: int) -> None:
        self.left = count

    def step(self, phase: str, done: int, total: int) -> None:
        self.left -= 1
        if self.left <= 0:
            raise Cancelled
