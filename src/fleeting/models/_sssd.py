"""Stages of sparse state-space duality: blocks that work in the most active windows of a map and leave the rest alone.

Glossary (AMMSM's letters, section III-B -> here)

* X (B, C, H, W): the map that enters a stage; its tokens are its places, row by row. X_mn: windows of 4 x 4 places.
* Phi_mn: importance of a window, the L2 norm of its features (eq. 4), taken once, from the map that enters the stage.
* S_j: sparsity ratio of blocks 2 j and 2 j + 1; the mask M keeps the share 1 - S_j of the windows with the greatest
  importance (eq. 5). It changes only where the ratio does.

What a mask means here. A dropped window adds nothing to the state sum, to no convolution, and nobody attends to it:
its neighbours see zeros there, as they do outside of the map. It keeps the features that it had when it was dropped:
through the blocks of one ratio nothing happens to it, and when a later ratio keeps it again, it goes on with them.

`Chosen` computes the kept windows only; `Whole` computes every place and is the definition that `Chosen` must equal.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from math import floor, log
from typing import Literal, NamedTuple, Protocol

import torch
import torch.nn.functional as functional
from torch import Tensor, nn

from fleeting.layers import window
from fleeting.layers.nc_ssd import Weights, nc_ssd, token_weights
from fleeting.models._blocks import Mlp

WINDOW = 4
"""Side of a window."""
_STEPS, _DECAYS = (1e-3, 1e-1), (1.0, 16.0)
"""Time steps and decays that Mamba2 begins with."""


class BlockOptions(NamedTuple):
    """Of the blocks of a stage.

    Attributes:
        mixer: "ssd" or "attention" in the blocks before the last `attention` ones.
        attention: how many blocks at the end of the stage attend.
        head_width: channels of an attention head; twice as many in an SSD head.
        expand: channels inside an SSD layer in units of the stage's width. state: numbers a channel remembers.
        weights: of the tokens in the state sum, see `layers.nc_ssd`.
        mlp: width of the hidden layer of the FFN in units of the stage's.
        dropped: dropped windows are "skipped", or computed and "masked" by the definition.
    """

    mixer: Literal["ssd", "attention"]
    attention: int
    head_width: int
    expand: int
    state: int
    weights: Weights
    mlp: int
    dropped: Literal["skipped", "masked"]


class Places(Protocol):
    """The tokens (B, L, C) that a block works on: which there are, and who is whose neighbour."""

    @property
    def keep(self) -> Tensor | None:
        """(B, L) bool: tokens that count; None: all."""

    def take(self, tokens: Tensor) -> Tensor:
        """(B, places of the map, C) -> (B, L, C)."""

    def back(self, tokens: Tensor, part: Tensor) -> Tensor:
        """`part` (B, L, C) where it counts, `tokens` elsewhere: (B, places of the map, C)."""

    def depthwise(self, convolution: nn.Conv2d, part: Tensor) -> Tensor:
        """A depthwise 3 x 3 convolution that sees zeros at dropped places and outside: (B, L, C) -> (B, L, C)."""


class Whole:
    """All places of a map of rows x columns; `keep` (B, L) says which count."""

    def __init__(self, sides: tuple[int, int], keep: Tensor | None = None) -> None:
        self.sides, self.keep = sides, keep

    def take(self, tokens: Tensor) -> Tensor:
        return tokens

    def back(self, tokens: Tensor, part: Tensor) -> Tensor:
        return part if self.keep is None else torch.where(self.keep[..., None], part, tokens)

    def depthwise(self, convolution: nn.Conv2d, part: Tensor) -> Tensor:
        if self.keep is not None:
            part = torch.where(self.keep[..., None], part, 0)
        x = part.unflatten(1, self.sides).permute(0, 3, 1, 2)  # channels last in memory
        y: Tensor = convolution(x)
        return y.permute(0, 2, 3, 1).flatten(1, 2)


class Chosen:
    """The kept windows of each sample, one after the other; tokens of a window row by row.

    Args:
        grid: of the map.
        windows: (B, K) which windows each sample keeps.
    """

    def __init__(self, grid: Grid, windows: Tensor) -> None:
        batch, places = len(windows), grid.sides[0] * grid.sides[1]
        chosen = grid.tokens[windows].flatten(1)  # (B, L) places in the map
        self.shape = (batch, chosen.shape[1])
        self.keep = None if grid.full else grid.inside[chosen]
        self._rows = (chosen + places * torch.arange(batch, device=chosen.device)[:, None]).flatten()
        # every window with a rim of one place, from a map with a rim: where in the list of kept tokens each one is
        nowhere = self._rows.numel()
        slots = torch.full((batch, grid.rimmed_places), nowhere, device=chosen.device)
        listed = torch.arange(nowhere, device=chosen.device).view(self.shape)
        listed = listed if self.keep is None else torch.where(self.keep, listed, nowhere)
        slots.scatter_(1, grid.rimmed[chosen], listed)
        self._halo = slots.gather(1, grid.halo[windows].flatten(1)).flatten()

    def take(self, tokens: Tensor) -> Tensor:
        part: Tensor = tokens.flatten(0, 1).index_select(0, self._rows)
        return part.view(*self.shape, -1)

    def back(self, tokens: Tensor, part: Tensor) -> Tensor:
        flat: Tensor = tokens.flatten(0, 1).index_copy(0, self._rows, part.flatten(0, 1))
        return flat.view(tokens.shape)

    def depthwise(self, convolution: nn.Conv2d, part: Tensor) -> Tensor:
        side, channels = WINDOW + 2, part.shape[2]
        rows = functional.pad(part.flatten(0, 1), (0, 0, 0, 1))  # the last row is what is nowhere: zeros
        x = rows.index_select(0, self._halo).view(-1, side, side, channels).permute(0, 3, 1, 2)
        y = functional.conv2d(x, convolution.weight, convolution.bias, groups=channels)
        return y.permute(0, 2, 3, 1).reshape(part.shape)


class Grid(nn.Module):
    """The windows of a square map; at the right and the bottom they may reach over its rim.

    Places beyond the rim are filled with zeros, count as dropped, and are cut off again.

    Attributes:
        side: of the map. sides: of the map that whole windows cover. full: no window reaches over the rim.
        inside: (L,) bool, places of the map proper. tokens: (windows, 16) places of a window.
        rimmed: (L,) where each place is in a map with a rim of one place. halo: (windows, 36) places of that map that
            a window and the rim around it take up.
    """

    inside: Tensor
    tokens: Tensor
    rimmed: Tensor
    halo: Tensor

    def __init__(self, side: int) -> None:
        super().__init__()
        count = -(-side // WINDOW)
        covered, rim = count * WINDOW, count * WINDOW + 2
        self.side, self.sides, self.full = side, (covered, covered), covered == side
        self.windows, self.rimmed_places = count * count, rim * rim
        places = torch.arange(covered * covered).view(1, 1, covered, covered)
        rimmed = torch.arange(rim * rim).view(rim, rim)
        row = torch.arange(covered) < side
        tables = {
            "inside": (row[:, None] & row).flatten(),
            "tokens": window.partition(places, WINDOW)[..., 0],
            "rimmed": rimmed[1:-1, 1:-1].flatten(),
            "halo": rimmed.unfold(0, WINDOW + 2, WINDOW).unfold(1, WINDOW + 2, WINDOW).flatten(2).flatten(0, 1),
        }
        for name, table in tables.items():
            self.register_buffer(name, table, persistent=False)

    def cover(self, x: Tensor) -> Tensor:
        """(B, C, side, side) -> tokens (B, L, C) of whole windows, zeros beyond the rim."""
        more = self.sides[0] - self.side
        padded = x if self.full else functional.pad(x, (0, more, 0, more))
        return padded.permute(0, 2, 3, 1).flatten(1, 2).contiguous()

    def uncover(self, tokens: Tensor) -> Tensor:
        """Inverse of `cover`; channels stay last in memory."""
        x: Tensor = tokens.unflatten(1, self.sides).permute(0, 3, 1, 2)
        return x[..., : self.side, : self.side]

    @torch.no_grad()
    def importance(self, tokens: Tensor) -> Tensor:
        """Phi (B, windows): L2 norm of a window's features (eq. 4).

        A window that reaches over the rim has fewer places and would always count less; its norm is that of a whole
        window with the same mean square.
        """
        places, inside = self.tokens, self.inside[self.tokens].sum(1)
        squares = tokens.float().square().sum(2)[:, places].sum(2)
        return (squares * (WINDOW * WINDOW / inside)).sqrt()

    def places(self, importance: Tensor, ratio: float, dropped: str) -> Places:
        """Where the blocks of a sparsity ratio work.

        Args:
            importance: (B, windows).
            ratio: share of the windows to drop.
            dropped: "skipped" or "masked".
        """
        count = kept(ratio, self.windows)
        if count == self.windows and (self.full or dropped == "masked"):
            return Whole(self.sides, None if self.full else self.inside.expand(len(importance), -1))
        # stable: of windows with equal importance the first ones, whatever the machine
        windows = importance.argsort(dim=1, descending=True, stable=True)[:, :count]
        if dropped == "skipped":
            return Chosen(self, windows.sort(dim=1).values)
        mask = torch.zeros_like(importance, dtype=torch.bool).scatter_(1, windows, True)
        spread = mask.unflatten(1, (self.sides[0] // WINDOW, -1))
        spread = spread.repeat_interleave(WINDOW, 1).repeat_interleave(WINDOW, 2).flatten(1)
        return Whole(self.sides, spread & self.inside)


def kept(ratio: float, windows: int) -> int:
    """How many windows a sparsity ratio keeps: 1 - ratio of them, rounded, one at least."""
    return max(1, floor((1 - ratio) * windows + 0.5 + 1e-9))


def pairs(depth: int) -> int:
    """How many sparsity ratios a stage has: one for every two blocks."""
    return -(-depth // 2)


def checked(ratios: Sequence[float], count: int) -> tuple[float, ...]:
    """Sparsity ratios as they are kept.

    Raises:
        ValueError: they are not `count`, or one drops all windows or less than none.
    """
    if len(ratios) != count or not all(0 <= ratio < 1 for ratio in ratios):
        raise ValueError(f"want {count} sparsity ratios in [0, 1), got {tuple(ratios)}")
    return tuple(float(ratio) for ratio in ratios)


class Stage(nn.Module):
    """Blocks of one width on maps of one size.

    Args:
        width: C.
        side: of the map.
        drops: chance for each block that in training a branch of it is left out, for a whole sample.
        options: of the blocks.
    """

    def __init__(self, width: int, side: int, drops: list[float], options: BlockOptions) -> None:
        super().__init__()
        self.grid, self.dropped = Grid(side), options.dropped
        self.blocks = nn.ModuleList()
        for index, drop in enumerate(drops):
            attends = options.mixer == "attention" or index >= len(drops) - options.attention
            mixer = Attention(width, options) if attends else Duality(width, options)
            self.blocks.append(Block(width, mixer, options.mlp, drop))

    def forward(self, x: Tensor, ratios: tuple[float, ...]) -> Tensor:
        """(B, C, side, side), one ratio for every two blocks -> the same shape."""
        tokens = self.grid.cover(x)
        importance = self.grid.importance(tokens)
        of_each = [ratios[index // 2] for index in range(len(self.blocks))]
        for ratio, group in groupby(zip(of_each, self.blocks, strict=True), key=lambda pair: pair[0]):
            places = self.grid.places(importance, ratio, self.dropped)
            part = places.take(tokens)
            for _, block in group:
                part = block(part, places)
            tokens = places.back(tokens, part)
        return self.grid.uncover(tokens)


class Block(nn.Module):
    """VSSD's: x + DWConv(x), + mixer(LN(x)), + DWConv(x), + FFN(LN(x)) (AMMSM, fig. 3)."""

    def __init__(self, width: int, mixer: nn.Module, mlp: int, drop_path: float) -> None:
        super().__init__()
        self.before, self.between = (_depthwise(width) for _ in range(2))
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.mixer, self.mlp = mixer, Mlp(width, mlp)
        self.drop_path = drop_path

    def forward(self, x: Tensor, places: Places) -> Tensor:
        """Tokens (B, L, C) -> (B, L, C)."""
        x = x + places.depthwise(self.before, x)
        x = x + self._kept(self.mixer(self.norm1(x), places))
        x = x + places.depthwise(self.between, x)
        return x + self._kept(self.mlp(self.norm2(x)))

    def _kept(self, branch: Tensor) -> Tensor:
        """Drop path: a branch is left out for a whole sample."""
        if not (self.training and self.drop_path):
            return branch
        stays = 1 - self.drop_path
        return branch * (torch.rand(len(branch), 1, 1, device=branch.device) < stays).to(branch.dtype) / stays


class Duality(nn.Module):
    """VSSD's layer around `nc_ssd`: LN(y) * z and a linear layer, with x, B and C convolved and z not."""

    def __init__(self, width: int, options: BlockOptions) -> None:
        super().__init__()
        inner, heads = options.expand * width, _heads(width, options)
        self.sizes, self.heads, self.weights = (inner, options.state, options.state), heads, options.weights
        # one matrix in VSSD's code; with z and the steps apart, what is convolved is whole in memory
        self.read = nn.Linear(width, sum(self.sizes), bias=False)
        self.gate = nn.Linear(width, inner + heads, bias=False)
        self.convolution = _depthwise(sum(self.sizes))
        low, high = (log(value) for value in _STEPS)
        steps = torch.empty(heads).uniform_(low, high).exp()
        self.step_bias = nn.Parameter(steps + torch.log(-torch.expm1(-steps)))  # inverse of softplus
        self.decay_log = nn.Parameter(torch.empty(heads).uniform_(*_DECAYS).log())
        self.skip = nn.Parameter(torch.ones(heads))
        self.norm = nn.LayerNorm(inner)
        self.out = nn.Linear(inner, width, bias=False)

    def forward(self, u: Tensor, places: Places) -> Tensor:
        """(B, L, C) -> (B, L, C)."""
        mixed = functional.silu(places.depthwise(self.convolution, self.read(u)))
        x, b, c = mixed.split(self.sizes, 2)
        z, step = self.gate(u).split((self.norm.normalized_shape[0], self.heads), 2)
        step = functional.softplus(step + self.step_bias)
        w = token_weights(step, -torch.exp(self.decay_log), self.weights)
        if places.keep is not None:  # what dropped tokens read is thrown away; to pick them out would cost more
            w = w * places.keep[..., None]
        y = nc_ssd(x.unflatten(2, (self.heads, -1)), w, b, c, self.skip)
        out: Tensor = self.out(self.norm(y.flatten(2)) * z)
        return out


class Attention(nn.Module):
    """Multi-head self-attention among the tokens that count, as in VSSD's last stage: no bias of q, k, v."""

    def __init__(self, width: int, options: BlockOptions) -> None:
        super().__init__()
        self.heads = _heads(width, options)
        self.query_key_value = nn.Linear(width, 3 * width, bias=False)
        self.out = nn.Linear(width, width)

    def forward(self, x: Tensor, places: Places) -> Tensor:
        """(B, L, C) -> (B, L, C)."""
        q, k, v = self.query_key_value(x).unflatten(2, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)  # (B, heads, L, d)
        mask = None if places.keep is None else places.keep[:, None, None, :]
        mixed = functional.scaled_dot_product_attention(q, k, v, attn_mask=mask)
        y: Tensor = self.out(mixed.transpose(1, 2).flatten(2))
        return y


def _depthwise(width: int) -> nn.Conv2d:
    return nn.Conv2d(width, width, 3, padding=1, groups=width)


def _heads(width: int, options: BlockOptions) -> int:
    return max(1, width // options.head_width)
