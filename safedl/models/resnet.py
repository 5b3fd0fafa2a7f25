"""Residual networks. In a file of their own: torchvision takes seconds to load."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn
from torchvision.models.resnet import BasicBlock, Bottleneck

from safedl.models.architectures import Shape

SMALL_IMAGE = 64
"""Below this side, in pixels, a ResNet keeps the full resolution in its stem."""


class ResNet(nn.Module):
    """He et al.: Deep residual learning for image recognition, CVPR 2016, under torchvision's layer names.

    Images below 64 pixels pass a 3x3 stem without stride or pooling, as in the paper's section 4.2.
    """

    def __init__(
        self,
        shape: Shape,
        num_classes: int,
        block: type[BasicBlock] | type[Bottleneck],
        blocks: tuple[int, int, int, int],
        width: int = 64,
    ) -> None:
        super().__init__()
        small = min(shape[1:]) < SMALL_IMAGE
        self.conv1 = nn.Conv2d(
            shape[0], width, 3 if small else 7, stride=1 if small else 2, padding=1 if small else 3, bias=False
        )
        self.bn1 = nn.BatchNorm2d(width)
        self.relu = nn.ReLU()
        self.maxpool = nn.Identity() if small else nn.MaxPool2d(3, stride=2, padding=1)
        self.layer1 = _stage(block, width, width, blocks[0], stride=1)
        self.layer2 = _stage(block, width * block.expansion, 2 * width, blocks[1], stride=2)
        self.layer3 = _stage(block, 2 * width * block.expansion, 4 * width, blocks[2], stride=2)
        self.layer4 = _stage(block, 4 * width * block.expansion, 8 * width, blocks[3], stride=2)
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(8 * width * block.expansion, num_classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
            elif isinstance(module, BasicBlock | Bottleneck):
                # Blocks start as identities (Goyal et al. 2017, section 5.1): short trainings need it.
                last = module.bn3 if isinstance(module, Bottleneck) else module.bn2
                nn.init.zeros_(last.weight)

    def forward(self, images: Tensor) -> Tensor:
        """Return logits [N, K] of normalised images [N, C, H, W]."""
        maps = self.maxpool(self.relu(self.bn1(self.conv1(images))))
        maps = self.layer4(self.layer3(self.layer2(self.layer1(maps))))
        logits: Tensor = self.fc(self.avgpool(maps).flatten(1))
        return logits


def _stage(
    block: type[BasicBlock] | type[Bottleneck], channels: int, planes: int, count: int, stride: int
) -> nn.Sequential:
    """Return `count` residual blocks; the first one changes `channels` and resolution."""
    out = planes * block.expansion
    shortcut = None
    if stride != 1 or channels != out:
        shortcut = nn.Sequential(nn.Conv2d(channels, out, 1, stride=stride, bias=False), nn.BatchNorm2d(out))
    first = block(channels, planes, stride, shortcut)
    return nn.Sequential(first, *(block(out, planes) for _ in range(count - 1)))


def resnet18(shape: Shape, num_classes: int, **params: Any) -> nn.Module:
    """Return a ResNet of 18 layers, with freshly drawn weights."""
    return ResNet(shape, num_classes, BasicBlock, (2, 2, 2, 2), **params)


def resnet50(shape: Shape, num_classes: int, **params: Any) -> nn.Module:
    """Return a ResNet of 50 layers, with freshly drawn weights."""
    return ResNet(shape, num_classes, Bottleneck, (3, 4, 6, 3), **params)
