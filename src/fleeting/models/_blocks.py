"""Parts of MambaVision that MERba takes over: stems, convolution blocks, attention, MLP, and how blocks are added up.

Hatamizadeh and Kautz, "MambaVision: A Hybrid Mamba-Transformer Vision Backbone", CVPR 2025. Maps are (B, C, H, W),
tokens (N, L, C): L tokens of each of N windows, which attend to each other and to nobody else.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.nn.functional as functional
from torch import Tensor, nn

from fleeting.errors import UserError


def square(shapes: Mapping[str, tuple[int, ...]], model: str) -> tuple[int, int]:
    """(channels, side) of the flow picture.

    Raises:
        UserError: `flow` is absent or not square.
    """
    shape = shapes.get("flow", ())
    if len(shape) != 3 or shape[1] != shape[2] or min(shape) < 1:
        raise UserError(f"{model}: want a square flow picture (C, S, S), got {dict(shapes)}; use input uvm224")
    return shape[0], shape[1]


def stride(side: int, wanted: int | str, model: str) -> int:
    """The stem's stride: as wanted, or for "auto" the power of two that leaves a map nearest to 28 x 28 from above.

    Raises:
        UserError: the picture is smaller than one step.
    """
    found = next(step for step in (8, 4, 2, 1) if step == 1 or side >= 28 * step) if wanted == "auto" else int(wanted)
    if side < found:
        raise UserError(f"{model}: want a picture of at least {found} x {found}, got {side} x {side}; use a larger one")
    return found


def enough(side: int, stride: int, halvings: int, model: str) -> None:
    """Refuses a picture of which a stem and halvings leave less than a pixel.

    Raises:
        UserError: it is too small.
    """
    least = stride * 2**halvings
    if side < least:
        raise UserError(
            f"{model}: want a picture of at least {least} x {least}, got {side} x {side}; lower stem_stride"
        )


def halved(side: int) -> int:
    """Side of a map after a 3 x 3 convolution of stride 2."""
    return (side + 1) // 2


class Stem(nn.Module):
    """MambaVision's: two 3 x 3 convolutions without bias, batch norm and ReLU after each; stride 4 in all.

    Stride 2 or 1 leaves the strides of the second or of both out; 8 has a third convolution.
    """

    def __init__(self, channels: int, inner: int, width: int, stride: int) -> None:
        super().__init__()
        steps = {1: (1, 1), 2: (2, 1), 4: (2, 2), 8: (2, 2, 2)}[stride]
        widths = [channels, *[inner] * (len(steps) - 1), width]
        layers: list[nn.Module] = []
        for into, out, step in zip(widths, widths[1:], steps, strict=False):
            convolution = nn.Conv2d(into, out, 3, step, 1, bias=False)
            layers += [convolution, nn.BatchNorm2d(out, eps=1e-4), nn.ReLU()]
        self.layers = nn.Sequential(*layers)

    def forward(self, flow: Tensor) -> Tensor:
        """(B, channels, S, S) -> (B, width, S / stride, S / stride)."""
        x: Tensor = self.layers(flow)
        return x


class Convolutions(nn.Module):
    """The residual of a convolution block: 3 x 3, batch norm, GELU (tanh form), 3 x 3, batch norm."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv1, self.conv2 = (nn.Conv2d(width, width, 3, 1, 1) for _ in range(2))
        self.norm1, self.norm2 = (nn.BatchNorm2d(width) for _ in range(2))

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C, H, W)."""
        y: Tensor = self.norm2(self.conv2(functional.gelu(self.norm1(self.conv1(x)), approximate="tanh")))
        return y


class Mlp(nn.Module):
    """Linear to `ratio` times the width, GELU, linear back."""

    def __init__(self, width: int, ratio: int = 4) -> None:
        super().__init__()
        self.grow = nn.Linear(width, ratio * width)
        self.shrink = nn.Linear(ratio * width, width)

    def forward(self, x: Tensor) -> Tensor:
        """(..., C) -> (..., C)."""
        y: Tensor = self.shrink(functional.gelu(self.grow(x)))
        return y


class Attention(nn.Module):
    """Multi-head self-attention among the L tokens of each of N sets, no position embedding."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query_key_value = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        """(N, L, C) -> (N, L, C)."""
        parts = self.query_key_value(x).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)  # (3, N, heads, L, d)
        mixed = functional.scaled_dot_product_attention(*parts)
        y: Tensor = self.out(mixed.transpose(1, 2).flatten(2))
        return y


class Added(nn.Module):
    """x + scale * branch(norm(x)), the branch dropped in parts (dropout) or for whole samples (drop path).

    Attributes:
        scale: (C,) learned factor a channel, or None.
    """

    def __init__(self, branch: nn.Module, width: int, scale: float, dropout: float, drop_path: float) -> None:
        super().__init__()
        maps = isinstance(branch, Convolutions)
        self.norm = nn.Identity() if maps else nn.LayerNorm(width)
        self.branch = branch
        self.dropout = nn.Dropout(dropout)
        self.drop_path = drop_path
        shape = (width, 1, 1) if maps else (width,)
        self.scale = nn.Parameter(torch.full(shape, scale)) if scale else None

    def forward(self, x: Tensor) -> Tensor:
        """Maps or tokens, shape kept. The samples of drop path are the first axis: with windows, windows."""
        y: Tensor = self.dropout(self.branch(self.norm(x)))
        y = y if self.scale is None else y * self.scale
        if self.training and self.drop_path:
            kept = 1 - self.drop_path
            y = y * (torch.rand(len(y), *[1] * (y.ndim - 1), device=y.device) < kept).to(y.dtype) / kept
        return x + y


class Pooled(nn.Module):
    """Batch norm of the last map and its mean over places."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(width)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C)."""
        pooled: Tensor = self.norm(x).mean(dim=(2, 3))
        return pooled


def downsample(width: int) -> nn.Conv2d:
    """Half the side, twice the width: a 3 x 3 convolution of stride 2 without bias, no norm."""
    return nn.Conv2d(width, 2 * width, 3, 2, 1, bias=False)


def initialise(network: nn.Module) -> None:
    """Linear layers as MambaVision begins: N(0, .02^2) cut at 2, biases 0. Convolutions and norms as torch does."""
    for module in network.modules():
        if isinstance(module, nn.Linear):
            nn.init.trunc_normal_(module.weight, std=0.02)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
