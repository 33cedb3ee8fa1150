"""VSSD's stem and its steps between stages, which AMMSM's temporal stream takes over.

Shi, Dong, Li and Xu, "VSSD: Vision Mamba with Non-Causal State Space Duality", arXiv 2407.18559, 2024.
"""

from __future__ import annotations

from torch import Tensor, nn


class Stem(nn.Module):
    """VSSD's: 3 x 3 of stride 2, a residual block of two 3 x 3, 3 x 3 of stride 2 to 4 C channels, 1 x 1 to C.

    All with batch norm and without bias; ReLU except at the end of the residual and of the stem. Stride 2 or 1 leaves
    the strides of the second or of both out; 8 has a convolution more at the beginning.
    """

    def __init__(self, channels: int, width: int, stride: int) -> None:
        super().__init__()
        half = width // 2
        *before, last = {1: (1, 1), 2: (2, 1), 4: (2, 2), 8: (2, 2, 2)}[stride]
        first: list[nn.Module] = []
        for index, go in enumerate(before):
            first += [*_normed(half if index else channels, half, 3, go), nn.ReLU()]
        self.first = nn.Sequential(*first)
        self.residual = nn.Sequential(*_normed(half, half, 3, 1), nn.ReLU(), *_normed(half, half, 3, 1))
        self.last = nn.Sequential(*_normed(half, 4 * width, 3, last), nn.ReLU(), *_normed(4 * width, width, 1, 1))

    def forward(self, flow: Tensor) -> Tensor:
        """(B, channels, S, S) -> (B, C, S / stride, S / stride)."""
        x = self.first(flow)
        y: Tensor = self.last(x + self.residual(x))
        return y


def step(width: int) -> nn.Sequential:
    """VSSD's step to the next stage: 1 x 1 to 8 C, depthwise 3 x 3 of stride 2, ReLU after each, 1 x 1 to 2 C, norm."""
    wide = 8 * width
    return nn.Sequential(
        nn.Conv2d(width, wide, 1), nn.ReLU(), nn.Conv2d(wide, wide, 3, 2, 1, groups=wide), nn.ReLU(),
        nn.Conv2d(wide, 2 * width, 1), nn.BatchNorm2d(2 * width),
    )  # fmt: skip


def _normed(into: int, out: int, kernel: int, stride: int) -> tuple[nn.Module, nn.Module]:
    return nn.Conv2d(into, out, kernel, stride, kernel // 2, bias=False), nn.BatchNorm2d(out)
