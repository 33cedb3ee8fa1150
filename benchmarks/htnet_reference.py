"""HTNet written plainly: 1 x 1 convolutions over (B, C, h, w), einsum attention, every product computed.

The yardstick of `benchmarks/htnet.py`: what a reader of the paper would write first. Parameters have the names
of the published layout, so that weights travel through `fleeting.models.htnet.to_official`.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from fleeting.models.htnet import Options


class ChannelNorm(nn.Module):
    """Layer normalisation over the channels of a map."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.g = nn.Parameter(torch.ones(1, width, 1, 1))
        self.b = nn.Parameter(torch.zeros(1, width, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        mean = x.mean(dim=1, keepdim=True)
        variance = x.var(dim=1, unbiased=False, keepdim=True)
        return (x - mean) / (variance + 1e-5).sqrt() * self.g + self.b


class PreNorm(nn.Module):
    """A function of the normalised map."""

    def __init__(self, width: int, fn: nn.Module) -> None:
        super().__init__()
        self.fn = fn
        self.norm = ChannelNorm(width)

    def forward(self, x: Tensor) -> Tensor:
        return self.fn(self.norm(x))


class Attention(nn.Module):
    """Self-attention over all places of a map (eq. 5)."""

    def __init__(self, width: int, heads: int, options: Options) -> None:
        super().__init__()
        inner = width // heads * heads
        self.heads = heads
        self.root = (width if options.scale == "dim" else width // heads) ** 0.5
        self.to_qkv = nn.Conv2d(width, 3 * inner, 1, bias=False)
        self.to_out = nn.Sequential(nn.Conv2d(inner, width, 1))

    def forward(self, x: Tensor) -> Tensor:
        count, _, height, width = x.shape
        qkv = self.to_qkv(x).reshape(count, 3, self.heads, -1, height * width)
        query, key, value = qkv.unbind(1)  # (N, heads, d / heads, n)
        share = (torch.einsum("zhci,zhcj->zhij", query, key) / self.root).softmax(-1)
        y = torch.einsum("zhij,zhcj->zhci", share, value)
        return self.to_out(y.reshape(count, -1, height, width))


class FeedForward(nn.Module):
    """Two layers with an activation between them."""

    def __init__(self, width: int, options: Options) -> None:
        super().__init__()
        hidden = options.ffn * width
        activation = nn.ReLU() if options.activation == "relu" else nn.GELU()
        # the published layout counts a dropout between them: the second convolution is number 3
        self.net = nn.Sequential(
            nn.Conv2d(width, hidden, 1), activation, nn.Dropout(options.dropout), nn.Conv2d(hidden, width, 1)
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x)


class Transformer(nn.Module):
    """The layers of a level, over the map of one block."""

    def __init__(self, tokens: int, width: int, heads: int, depth: int, options: Options) -> None:
        super().__init__()
        self.pos_emb = nn.Parameter(torch.randn(tokens))
        self.layers = nn.ModuleList(
            nn.ModuleList(
                [
                    PreNorm(width, Attention(width, heads, options)),
                    PreNorm(width, FeedForward(width, options)),
                ]
            )
            for _ in range(depth)
        )

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.pos_emb.reshape(1, 1, *x.shape[2:])
        for attention, feed_forward in self.layers:
            x = x + attention(x)
            x = x + feed_forward(x)
        return x


class Reference(nn.Module):
    """HTNet; `Options` must ask for scalar position embeddings."""

    def __init__(self, side: int, classes: int, options: Options) -> None:
        super().__init__()
        self.patch = options.patch_size or side // 4
        tokens = (side // 4 // self.patch) ** 2
        widths = [options.dim * 2**level for level in range(3)]
        self.to_patch_embedding = nn.Sequential(nn.Identity(), nn.Conv2d(3 * self.patch**2, widths[0], 1))
        self.layers = nn.ModuleList()
        for level, (width, depth) in enumerate(zip(widths, options.layers, strict=True)):
            transformer = Transformer(tokens, width, options.heads * 2**level, depth, options)
            aggregate = self._aggregate(width) if level < 2 else nn.Identity()
            self.layers.append(nn.ModuleList([transformer, aggregate]))
        self.mlp_head = nn.Sequential(ChannelNorm(widths[-1]), nn.Identity(), nn.Linear(widths[-1], classes))

    @staticmethod
    def _aggregate(width: int) -> nn.Module:
        return nn.Sequential(
            nn.Conv2d(width, 2 * width, 3, padding=1), ChannelNorm(2 * width), nn.MaxPool2d(3, stride=2, padding=1)
        )

    def forward(self, flow: Tensor) -> Tensor:
        count, _, side, _ = flow.shape
        p = self.patch
        x = flow.reshape(count, 3, side // p, p, side // p, p).permute(0, 3, 5, 1, 2, 4)
        x = self.to_patch_embedding(x.reshape(count, -1, side // p, side // p))
        for (transformer, aggregate), blocks in zip(self.layers, (4, 2, 1), strict=True):
            _, width, height, _ = x.shape
            m = height // blocks
            x = x.reshape(count, width, blocks, m, blocks, m).permute(0, 2, 4, 1, 3, 5)
            x = transformer(x.reshape(-1, width, m, m)).reshape(count, blocks, blocks, width, m, m)
            x = aggregate(x.permute(0, 3, 1, 4, 2, 5).reshape(count, width, height, height))
        norm, _, linear = self.mlp_head
        return linear(norm(x).mean(dim=(2, 3)))
