"""The built-in architectures. Layer names are those that profiles refer to; `safedl.catalog.models` lists them."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models import VisionTransformer
from torchvision.models.resnet import BasicBlock, Bottleneck

from safedl.catalog.models import VIT_DEPTH, check_params
from safedl.errors import UsageError

Shape = tuple[int, int, int]
"""Channels, height, width."""

SMALL_IMAGE = 64
"""Below this side, in pixels, a ResNet keeps the full resolution in its stem."""
HEAD_WIDTH = 32


class Cnn(nn.Module):
    """Two convolutions and two linear layers: `conv.0`, `conv.3`, `fc.1` (penultimate), `fc.3` (head)."""

    def __init__(self, shape: Shape, num_classes: int, conv_filters: int = 32, hidden_size: int = 128) -> None:
        super().__init__()
        channels, height, width = shape
        first_pool = 2 if min(height, width) >= 16 else 1
        side = 2 * first_pool
        if min(height, width) < side:
            raise UsageError(f"model 'cnn' needs images of at least {side} pixels a side, not {height}x{width}")
        self.conv = nn.Sequential(
            nn.Conv2d(channels, conv_filters, 3, padding=1),
            nn.BatchNorm2d(conv_filters),
            nn.Sequential(nn.ReLU(), nn.MaxPool2d(first_pool)),
            nn.Conv2d(conv_filters, 2 * conv_filters, 3, padding=1),
            nn.BatchNorm2d(2 * conv_filters),
            nn.ReLU(),
            nn.MaxPool2d(2),
        )
        flat = 2 * conv_filters * (height // side) * (width // side)
        self.fc = nn.Sequential(
            nn.Flatten(), nn.Linear(flat, hidden_size), nn.ReLU(), nn.Linear(hidden_size, num_classes)
        )

    def forward(self, images: Tensor) -> Tensor:
        """Return logits [N, K] of normalised images [N, C, H, W]."""
        logits: Tensor = self.fc(self.conv(images))
        return logits


class Mlp(nn.Module):
    """One hidden layer: `hidden` (penultimate) and `output` (head)."""

    def __init__(self, shape: Shape, num_classes: int, hidden_size: int = 128, input_size: int | None = None) -> None:
        super().__init__()
        flat = math.prod(shape)
        if input_size is not None and input_size != flat:
            raise UsageError(f"model.params.input_size: {input_size} given, but the images have {flat} values")
        self.hidden = nn.Linear(flat, hidden_size)
        self.activation = nn.ReLU()
        self.output = nn.Linear(hidden_size, num_classes)

    def forward(self, images: Tensor) -> Tensor:
        """Return logits [N, K] of normalised images [N, C, H, W]."""
        logits: Tensor = self.output(self.activation(self.hidden(images.flatten(1))))
        return logits


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


class Attention(nn.MultiheadAttention):
    """Multi-head self-attention in plain tensor operations.

    torch's fused kernels have no forward-mode derivative, which influence functions need.
    """

    def forward(self, query: Tensor, *_: Any, **__: Any) -> tuple[Tensor, None]:
        """Return what tokens [N, L, D] attend to, [N, L, D]; no attention weights."""
        count, length, width = query.shape
        parts = F.linear(query, self.in_proj_weight, self.in_proj_bias)
        queries, keys, values = parts.view(count, length, 3, self.num_heads, self.head_dim).permute(2, 0, 3, 1, 4)
        weights = (queries @ keys.transpose(-2, -1) / math.sqrt(self.head_dim)).softmax(dim=-1)
        attended = (weights @ values).transpose(1, 2).reshape(count, length, width)
        return self.out_proj(attended), None


class VitSmall(VisionTransformer):  # type: ignore[misc]
    """Dosovitskiy et al.: An image is worth 16x16 words, ICLR 2021, for images of any shape.

    Images are padded with zeros to a square that whole patches fill.
    """

    def __init__(
        self,
        shape: Shape,
        num_classes: int,
        hidden_size: int = 128,
        patch_size: int | None = None,
        dropout: float = 0.0,
    ) -> None:
        channels, height, width = shape
        longest = max(height, width)
        patch = patch_size or _patch_size(longest)
        if patch > longest:
            raise UsageError(f"model.params.patch_size: {patch} is more than the side of the images, {longest}")
        heads = hidden_size // HEAD_WIDTH
        super().__init__(
            image_size=math.ceil(longest / patch) * patch, patch_size=patch, num_layers=VIT_DEPTH, num_heads=heads,
            hidden_dim=hidden_size, mlp_dim=2 * hidden_size, dropout=dropout, num_classes=num_classes,
        )  # fmt: skip
        self.padding = (0, self.image_size - width, 0, self.image_size - height)
        self.conv_proj = nn.Conv2d(channels, hidden_size, patch, stride=patch)
        nn.init.trunc_normal_(self.conv_proj.weight, std=math.sqrt(1 / (channels * patch * patch)))
        # As large as the patches' own values: with torchvision's 0.02, short trainings never learn positions.
        nn.init.normal_(self.encoder.pos_embedding)
        for block in self.encoder.layers:
            block.self_attention = Attention(hidden_size, heads, batch_first=True)

    def forward(self, images: Tensor) -> Tensor:
        """Return logits [N, K] of normalised images [N, C, H, W]."""
        logits: Tensor = super().forward(F.pad(images, self.padding))
        return logits


def _patch_size(side: int) -> int:
    """Return a patch size that gives about 50 to 200 tokens."""
    return 2 if side <= 16 else 4 if side <= 48 else 8 if side <= 96 else 16


def _resnet18(shape: Shape, num_classes: int, **params: Any) -> nn.Module:
    return ResNet(shape, num_classes, BasicBlock, (2, 2, 2, 2), **params)


def _resnet50(shape: Shape, num_classes: int, **params: Any) -> nn.Module:
    return ResNet(shape, num_classes, Bottleneck, (3, 4, 6, 3), **params)


_MAKERS: dict[str, Callable[..., nn.Module]] = {
    "cnn": Cnn, "mlp": Mlp, "resnet18": _resnet18, "resnet50": _resnet50, "vit": VitSmall,
}  # fmt: skip


def make(name: str, shape: Shape, num_classes: int, params: Mapping[str, Any]) -> nn.Module:
    """Return the architecture `name` with freshly drawn weights.

    Raises `UsageError` for an unknown name or parameter, and for images that it cannot take.
    """
    checked = check_params(name, params)
    return _MAKERS[name](shape, num_classes, **checked.model_dump())
