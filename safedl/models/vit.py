"""A vision transformer. In a file of its own: torchvision takes seconds to load."""

from __future__ import annotations

import math
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models import VisionTransformer

from safedl.catalog.models import VIT_DEPTH
from safedl.errors import UsageError
from safedl.models.architectures import Shape

HEAD_WIDTH = 32


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
