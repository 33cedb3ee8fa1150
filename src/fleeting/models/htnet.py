"""HTNet: hierarchical transformer over four facial areas of an optical flow picture (Wang et al., 2024).

Glossary (paper's letters -> names here)

* P: side of an image block at the bottom level, S / 4; H_n: blocks of a level (16, 4, 1); n: tokens a block;
  d: width of a level (dim, 2 dim, 4 dim); L: transformer layers of a level.
* B batch, C classes, S side of the picture, p side of a patch, m = P / p tokens a block side (n = m^2),
  k blocks a map side (4, 2, 1), h = w = k m side of a level's map.

All blocks of a level share their parameters (section 3.2), so blocks are a batch axis here. With one patch a
block (the default, and what the authors' code and the parameter count of the paper say) n = 1: softmax over one
token is exactly 1, attention is ``out(value(x))``, and queries and keys have no influence and a gradient of zero.
They are parameters nevertheless (a sixth of the network); only their products are left out.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Literal

import torch
import torch.nn.functional as functional
from pydantic import BaseModel, Field, model_validator
from torch import Tensor, nn

from fleeting.errors import UserError
from fleeting.records import Paper
from fleeting.training import Recipe

_BLOCKS = (4, 2, 1)  # a side, bottom to top
# of a 2 x 2 map, (place written, place read) -> tap 3 row + column of the kernel; places count row by row
_TAPS = tuple(
    tuple(3 * (read // 2 - write // 2 + 1) + read % 2 - write % 2 + 1 for read in range(4)) for write in range(4)
)


class Options(BaseModel, frozen=True, extra="forbid"):
    """The network; defaults are the paper's.

    Attributes:
        patch_size: side of a patch; None: the whole block, one token a block. A divisor of the block (1 gives
            49 tokens a block on 28 x 28) gives attention something to attend to.
        dim, heads: at the bottom level; both double from level to level. dim // heads channels a head, the
            remainder is left out of the heads as in the authors' code (256 / 3: 85 a head).
        layers: transformer layers of the bottom, middle and top level.
        ffn: width of the hidden layer of the FFN in units of the level's.
        activation: of the FFN: "relu" (paper, after eq. 4) | "gelu" (code).
        scale: queries times keys are divided by the root of "dim", the width of the inputs (paper, eq. 5), or
            of "head", the width of a head (code).
        position: position embedding a token: "vector" in R^d (paper, section 3.2) | "scalar" (code), which is
            added to all channels alike.
        dropout: after attention and in the FFN; the paper has none.
    """

    patch_size: int | None = Field(None, ge=1)
    dim: int = Field(256, ge=1)
    heads: int = Field(3, ge=1)
    layers: tuple[int, int, int] = (2, 2, 8)
    ffn: int = Field(4, ge=1)
    activation: Literal["relu", "gelu"] = "relu"
    scale: Literal["dim", "head"] = "dim"
    position: Literal["vector", "scalar"] = "vector"
    dropout: float = Field(0.0, ge=0, lt=1)

    @model_validator(mode="after")
    def _check(self) -> Options:
        if self.heads > self.dim:
            raise ValueError(f"want at most dim = {self.dim} heads, got {self.heads}")
        if min(self.layers) < 1:
            raise ValueError(f"want at least one layer a level, got {self.layers}")
        return self


CODE = Options(activation="gelu", scale="head", position="scalar")
SMALL = Options(dim=24, heads=3, layers=(1, 1, 2))
RECIPE = Recipe(epochs=800, batch=256, optimiser="adam", lr=5e-5, balance="weights")
INPUT: tuple[str, dict[str, str]] = ("uvs28", {"areas": "landmarks"})
PAPER = Paper(
    title="HTNet for micro-expression recognition",
    venue="Neurocomputing",
    year=2024,
    doi="10.1016/j.neucom.2024.128196",
    parameters=114_431_235,
    classes=3,
    deviations=(
        "Paper and code: with blocks of 7 x 7 on 28 x 28 and one patch a block every attention runs over one token; "
        "kept, since H_n n = H W / P^2 says so; patch_size = 1 gives 49 tokens a block.",
        "Equation 5 divides by the root of d, the width of the inputs, the code by that of a head's width; default "
        "the paper, scale = 'head' the code; without effect where a block is one token.",
        "The FFN is written with max(0, .), the code uses GELU; default the paper, activation = 'gelu' the code.",
        "The position embedding is a vector in R^d in the paper and one number a token in the code; default the "
        "paper (N(0, 0.02^2) at the start, which the paper does not say), position = 'scalar' the code (N(0, 1)).",
        "Equation 6 divides by the standard deviation alone; 1e-5 is added under the root as in the code.",
        "256 is not divisible by three heads: 85 channels a head and 255 in all, as in the code.",
        "Section 3.3 prints 2h x 2w after block aggregation where the map is halved (figure 4); halved here.",
        "Section 3.2 numbers four updates a block as if two layers were one; one layer here is MSA and FFN, and "
        "(2, 2, 8) counts such layers, which the parameter column of table 5 confirms.",
        "The code runs (2, 2, 10) layers where the paper's main result has (2, 2, 8); default the paper, "
        "layers = (2, 2, 10) the code.",
        "Table 5's '#Params (millions)' is the size of the float32 weights in MiB, not a count.",
        "Equation 7 weights the classes, the code does not; default the paper (recipe.balance = 'weights'), 'none' "
        "the code. Optimiser and batch are not in the paper: Adam and 256 are the code's.",
        "The code feeds the samples in a fixed order and unseeded; here they are shuffled, and seeded.",
        "The code keeps the best epoch of the tested subject; no such choice is made here.",
    ),
)


def build(shapes: Mapping[str, tuple[int, ...]], classes: int, options: Options) -> nn.Module:
    """The network for pictures of a shape.

    Args:
        shapes: of one view: ``{"flow": (channels, S, S)}``.
        classes: C.
        options: see there.

    Returns:
        ``forward(flow: (B, channels, S, S)) -> (B, C)`` logits.

    Raises:
        UserError: the picture is not square or S is not a multiple of four patches.
    """
    return HTNet(shapes["flow"], classes, options)


def to_official(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A state dict of `HTNet` in the layout of the authors' code.

    Raises:
        UserError: the position embeddings are vectors, for which that layout has no place.
    """
    depths = _depths(state, "levels.{}.layers.{}.norm1.weight")
    official: dict[str, Tensor] = {}
    for theirs, ours, kind in _names(depths):
        tensor = torch.cat([state[name] for name in ours.split("+")])
        if kind == "position" and tensor.shape[1] != 1:
            raise UserError(
                f"{ours}: want one number a token for the published layout, got {tensor.shape[1]}; "
                "build the network with position = 'scalar'"
            )
        official[theirs] = _to_official(kind, tensor)
    return official


def from_official(official: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A state dict of `HTNet` from one in the layout of the authors' code; the inverse of `to_official`.

    Load it into a network built with position = "scalar" and, for the authors' weights, the options `CODE` with
    their number of layers.

    Raises:
        UserError: an entry is missing.
    """
    state: dict[str, Tensor] = {}
    for theirs, ours, kind in _names(_depths(official, "layers.{}.0.layers.{}.0.norm.g")):
        if theirs not in official:
            raise UserError(f"want {theirs!r} in the published layout of HTNet, got none; look at the file")
        tensor = official[theirs]
        if "+" in ours:
            names, third = ours.split("+"), len(tensor) // 3
            state |= dict(zip(names, _from_official(kind, tensor).split([2 * third, third]), strict=True))
        else:
            state[ours] = _from_official(kind, tensor)
    return state


def _depths(state: Mapping[str, Tensor], pattern: str) -> list[int]:
    """Layers a level, by which names exist."""
    return [next(j for j in range(len(state) + 1) if pattern.format(i, j) not in state) for i in range(3)]


def _names(depths: list[int]) -> Iterator[tuple[str, str, str]]:
    """(name in the authors' layout, name here or "name+name" where they hold one tensor, kind of tensor)."""
    yield from _affine("to_patch_embedding.1", "embed", "matrix")
    for i, depth in enumerate(depths):
        yield f"layers.{i}.0.pos_emb", f"levels.{i}.position", "position"
        for j in range(depth):
            yield from _layer_names(f"layers.{i}.0.layers.{j}", f"levels.{i}.layers.{j}")
        if i < 2:
            yield from _affine(f"layers.{i}.1.0", f"aggregates.{i}.conv", "kernel")
            yield from _norm(f"layers.{i}.1.1", f"aggregates.{i}.norm")
    yield from _norm("mlp_head.0", "norm")
    yield from _affine("mlp_head.2", "classify", "plain")


def _layer_names(theirs: str, ours: str) -> Iterator[tuple[str, str, str]]:
    yield from _norm(f"{theirs}.0.norm", f"{ours}.norm1")
    yield f"{theirs}.0.fn.to_qkv.weight", f"{ours}.query_key.weight+{ours}.value.weight", "matrix"
    yield from _affine(f"{theirs}.0.fn.to_out.0", f"{ours}.out", "matrix")
    yield from _norm(f"{theirs}.1.norm", f"{ours}.norm2")
    yield from _affine(f"{theirs}.1.fn.net.0", f"{ours}.grow", "matrix")
    yield from _affine(f"{theirs}.1.fn.net.3", f"{ours}.shrink", "matrix")


def _affine(theirs: str, ours: str, kind: str) -> Iterator[tuple[str, str, str]]:
    yield f"{theirs}.weight", f"{ours}.weight", kind
    yield f"{theirs}.bias", f"{ours}.bias", "plain"


def _norm(theirs: str, ours: str) -> Iterator[tuple[str, str, str]]:
    yield f"{theirs}.g", f"{ours}.weight", "norm"
    yield f"{theirs}.b", f"{ours}.bias", "norm"


def _to_official(kind: str, tensor: Tensor) -> Tensor:
    if kind == "kernel":  # taps first here: see `_Convolution`
        return tensor.permute(2, 3, 0, 1).contiguous()
    shapes = {"matrix": (*tensor.shape, 1, 1), "norm": (1, -1, 1, 1), "position": (-1,)}
    return tensor.reshape(shapes.get(kind, tensor.shape))


def _from_official(kind: str, tensor: Tensor) -> Tensor:
    if kind == "kernel":
        return tensor.permute(2, 3, 0, 1).contiguous()
    shapes = {"matrix": tensor.shape[:2], "norm": (-1,), "position": (-1, 1)}
    return tensor.reshape(shapes.get(kind, tensor.shape))


class HTNet(nn.Module):
    """Patch embedding, three levels of transformer layers with block aggregation between them, linear head."""

    def __init__(self, shape: tuple[int, ...], classes: int, options: Options) -> None:
        super().__init__()
        channels, self.patch, tokens = shape[0], *_patching(shape, options)
        widths = [options.dim * 2**level for level in range(3)]
        heads = [options.heads * 2**level for level in range(3)]
        self.embed = nn.Linear(channels * self.patch**2, widths[0])
        self.levels = nn.ModuleList(
            _Level(blocks, tokens, width, count, depth, options)
            for blocks, width, count, depth in zip(_BLOCKS, widths, heads, options.layers, strict=True)
        )
        self.aggregates = nn.ModuleList(_Aggregate(width) for width in widths[:-1])
        self.norm = nn.LayerNorm(widths[-1])
        self.classify = nn.Linear(widths[-1], classes)

    def forward(self, flow: Tensor) -> Tensor:
        """Logits (B, C) of flow pictures (B, channels, S, S)."""
        return self.head(self.features(flow))

    def features(self, flow: Tensor) -> Tensor:
        """The finest map, that of the bottom level's blocks: (B, dim, h, w).

        The top level's map would be 1 x 1 and show no place.
        """
        count, channels, height, width = flow.shape
        p = self.patch
        x = flow.reshape(count, channels, height // p, p, width // p, p)
        x = x.permute(0, 2, 4, 3, 5, 1).flatten(3)  # (B, h, w, p p channels)
        finest: Tensor = self.levels[0](self.embed(x))  # (B, h, w, dim)
        return finest.movedim(-1, 1)  # (B, dim, h, w)

    def head(self, features: Tensor) -> Tensor:
        """Logits (B, C) of `features`: the upper levels, the mean over the map and the linear head."""
        x = features.movedim(1, -1)  # (B, h, w, dim)
        for aggregate, level in zip(self.aggregates, self.levels[1:], strict=True):
            x = level(aggregate(x))  # (B, h / 2, w / 2, 2 d)
        logits: Tensor = self.classify(self.norm(x).mean(dim=(1, 2)))
        return logits


class _Level(nn.Module):
    """The transformer layers of one level, applied inside each block of the map."""

    def __init__(self, blocks: int, tokens: int, width: int, heads: int, depth: int, options: Options) -> None:
        super().__init__()
        self.blocks, self.side = blocks, tokens
        vector = options.position == "vector"
        self.position = nn.Parameter(torch.randn(tokens**2, width if vector else 1) * (0.02 if vector else 1.0))
        self.layers = nn.ModuleList(_Layer(tokens**2, width, heads, options) for _ in range(depth))

    def forward(self, x: Tensor) -> Tensor:
        """(B, h, w, d) -> (B, h, w, d)."""
        shape, k, m = x.shape, self.blocks, self.side
        x = x.reshape(-1, k, m, k, m, shape[-1]).transpose(2, 3)  # (B, k, k, m, m, d)
        x = (x.reshape(-1, m * m, shape[-1]) + self.position).flatten(0, 1)  # (N n, d) with N = B k k
        for layer in self.layers:
            x = layer(x)
        return x.reshape(-1, k, k, m, m, shape[-1]).transpose(2, 3).reshape(shape)


class _Layer(nn.Module):
    """A transformer layer: x + MSA(LN(x)), then x + FFN(LN(x)) (eq. 4).

    All N blocks of n tokens come as one matrix (N n, d): a product is then one call, and an activation in place
    is none on a view, which would cost two copies backward.
    """

    def __init__(self, tokens: int, width: int, heads: int, options: Options) -> None:
        super().__init__()
        inner = width // heads * heads
        self.tokens, self.heads, self.alone = tokens, heads, tokens == 1
        self.scale = (width if options.scale == "dim" else width // heads) ** -0.5
        self.norm1 = nn.LayerNorm(width)
        self.query_key = nn.Linear(width, 2 * inner, bias=False)
        self.value = nn.Linear(width, inner, bias=False)
        self.out = nn.Linear(inner, width)
        self.norm2 = nn.LayerNorm(width)
        self.grow = nn.Linear(width, options.ffn * width)
        self.shrink = nn.Linear(options.ffn * width, width)
        self.activation = nn.ReLU(inplace=True) if options.activation == "relu" else nn.GELU()
        self.dropout = nn.Dropout(options.dropout)

    def forward(self, x: Tensor) -> Tensor:
        """(N n, d) -> (N n, d)."""
        y = self.norm1(x)
        x = x + self.dropout(self._single(y) if self.alone else self._attention(y))
        y = self.dropout(self.activation(self.grow(self.norm2(x))))  # (N n, 4 d)
        return torch.add(x, self.dropout(self.shrink(y)))

    def _attention(self, x: Tensor) -> Tensor:
        """Multi-head self-attention (eq. 5)."""
        parts = (*self.query_key(x).chunk(2, dim=-1), self.value(x))  # 3 x (N n, inner)
        query, key, value = (
            part.reshape(-1, self.tokens, self.heads, part.shape[-1] // self.heads).transpose(1, 2) for part in parts
        )  # (N, heads, n, d / heads)
        y = functional.scaled_dot_product_attention(query, key, value, scale=self.scale)
        return functional.linear(y.transpose(1, 2).reshape(len(x), -1), self.out.weight, self.out.bias)

    def _single(self, x: Tensor) -> Tensor:
        """The same for one token a block.

        The empty slice adds exactly 0 and gives queries and keys the gradient of zeros that they have in the
        general form, so that every parameter has a gradient and an optimiser treats them alike.
        """
        return functional.linear(self.value(x), self.out.weight, self.out.bias + self.query_key.weight[:0].sum())


class _Aggregate(nn.Module):
    """Block aggregation (section 3.3): convolution over the whole map, LN, max pooling 3 x 3 with stride 2."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv = _Convolution(width, 2 * width)
        self.norm = nn.LayerNorm(2 * width)

    def forward(self, x: Tensor) -> Tensor:
        """(B, h, w, d) -> (B, h / 2, w / 2, 2 d)."""
        x = self.norm(self.conv(x)).movedim(-1, 1)
        pooled: Tensor = functional.max_pool2d(x, 3, stride=2, padding=1)
        return pooled.movedim(1, -1)


class _Convolution(nn.Module):
    """A convolution 3 x 3 with padding 1 over channels-last maps.

    Most of what it reads on a map of 2 x 2 is padding: of 36 products of a tap with a place, 16 are not zero.
    There it computes these 16 alone, which takes 40 % of the time of `conv2d` (84 instead of 203 ms, forward and
    backward, 512 to 1024 channels, batch 256, two threads of a Zen 4). The taps lie apart in memory for that.
    """

    def __init__(self, width: int, out: int) -> None:
        super().__init__()
        bound = (9 * width) ** -0.5  # as nn.Conv2d starts
        self.weight = nn.Parameter(torch.empty(3, 3, out, width).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.empty(out).uniform_(-bound, bound))

    def forward(self, x: Tensor) -> Tensor:
        """(B, h, w, d) -> (B, h, w, out)."""
        if x.shape[1:3] == (2, 2):
            return self._two_by_two(x)
        x = functional.conv2d(x.movedim(-1, 1), self.weight.permute(2, 3, 0, 1), self.bias, padding=1)
        return x.movedim(1, -1)

    def _two_by_two(self, x: Tensor) -> Tensor:
        device = x.device.type
        if torch.is_autocast_enabled(device):  # once for all taps: autocast would cast a tap at each use
            dtype = torch.get_autocast_dtype(device)
            x, weight, bias = x.to(dtype), self.weight.to(dtype), self.bias.to(dtype)
        else:
            weight, bias = self.weight, self.bias
        # transposed after the split: the gradient of the weight then lies in memory as the weight does
        taps = [tap.t() for tap in weight.flatten(0, 1).unbind()]  # 9 x (d, out)
        places = x.flatten(1, 2).unbind(1)  # 4 x (B, d)
        sums = [_sum_of_products(bias, places, [taps[t] for t in row]) for row in _TAPS]  # 4 x (B, out)
        return torch.stack(sums, dim=1).view(len(x), 2, 2, -1)


def _sum_of_products(bias: Tensor, places: Iterable[Tensor], taps: Iterable[Tensor]) -> Tensor:
    for place, tap in zip(places, taps, strict=True):
        bias = torch.addmm(bias, place, tap)
    return bias


def _patching(shape: tuple[int, ...], options: Options) -> tuple[int, int]:
    """Side of a patch and patches a block side.

    Raises:
        UserError: the picture is not square or S is not a multiple of four patches.
    """
    side = shape[-1]
    patch = options.patch_size or max(1, side // 4)
    if len(shape) != 3 or shape[1] != side or side % (4 * patch) or not side:
        raise UserError(
            f"htnet: want square pictures whose side is a multiple of {4 * (options.patch_size or 1)} "
            f"(16 blocks of patches of {options.patch_size or 'their'} size), got {tuple(shape)}; "
            "set the input's size (input.crop = 2 x block) or model.patch_size"
        )
    return patch, side // (4 * patch)
