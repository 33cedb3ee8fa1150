"""MambaVision: convolutions, then Mamba mixers and self-attention in windows (Hatamizadeh and Kautz, CVPR 2025).

Written from its published description and from facts about its code; MERba's baseline with three flow channels in.

Glossary (here -> what)

* B batch, S side of the picture, C classes; four stages of width d, 2 d, 4 d, 8 d (`dim` = d) on maps of S / 4 and
  half of that from stage to stage.
* Stages 1 and 2: convolution blocks. Stages 3 and 4: windows, in which the first half of the blocks (the greater half
  of an odd number) mixes by a selective scan, the rest by attention; each is followed by an MLP.

97.7 M parameters for B with 1000 classes; 15.2 G multiplications of matrix products and convolutions at 224 x 224.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, NamedTuple

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from fleeting.layers import window
from fleeting.models import _blocks
from fleeting.models._blocks import Added, Attention, Convolutions, Mlp, Pooled, Stem
from fleeting.models._mixer import Mixer, MixerOptions, Mixers
from fleeting.records import Paper
from fleeting.training import Recipe


class Size(NamedTuple):
    """A published member of the family.

    Attributes:
        dim, inner: width of the first stage and of the stem's first convolution.
        depths: blocks a stage. heads: of the attention in stages 3 and 4.
        drop_path: of the last block; earlier ones less, in equal steps from 0.
        scale: the branches of stages 3 and 4 begin with this factor a channel; 0: no factor.
    """

    dim: int
    inner: int
    depths: tuple[int, int, int, int]
    heads: tuple[int, int]
    drop_path: float
    scale: float


SIZES = {
    "T": Size(80, 32, (1, 3, 8, 4), (8, 16), 0.2, 0.0),
    "T2": Size(80, 32, (1, 3, 11, 4), (8, 16), 0.2, 0.0),
    "S": Size(96, 64, (3, 3, 7, 5), (8, 16), 0.2, 0.0),
    "B": Size(128, 64, (3, 3, 10, 5), (8, 16), 0.3, 1e-5),
    "L": Size(196, 64, (3, 3, 10, 5), (16, 32), 0.3, 1e-5),
}


class Options(MixerOptions, frozen=True, extra="forbid"):
    """The network; defaults are MambaVision-B as published. Of the mixer: see `state`, `step_bias`, `step_start`.

    Attributes:
        size: member of the family, which gives what is left at None:
        dim: width of the first stage. inner: of the stem's first convolution. depths: blocks of the four stages.
        heads: of the attention in stages 3 and 4.
        drop_path: chance that a sample's (in stages 3 and 4 a window's) last block is left out in training.
        scale: what the learned factors of the branches in stages 3 and 4 begin with; 0: no factors.
        windows: side of the windows of stages 3 and 4; at 224 x 224 they hold the whole map.
        stem_stride: 4; less for small pictures, "auto": what leaves a map of at least 28 x 28.
        dropout: on the output of every branch; the code has none, MERba's recipe .1.
        state: size of the state a channel.
        step_bias: "twice" as the published code adds it, or "once".
        step_start: "zero" as the published code ends up, or "mamba".
    """

    size: Literal["T", "T2", "S", "B", "L"] = "B"
    dim: int | None = Field(None, ge=2)
    inner: int | None = Field(None, ge=1)
    depths: tuple[int, int, int, int] | None = None
    heads: tuple[int, int] | None = None
    drop_path: float | None = Field(None, ge=0, lt=1)
    scale: float | None = Field(None, ge=0)
    windows: tuple[int, int] = (14, 7)
    stem_stride: Literal[1, 2, 4, 8, "auto"] = 4
    dropout: float = Field(0.0, ge=0, lt=1)

    @model_validator(mode="after")
    def _check(self) -> Options:
        chosen = self.chosen
        if min(chosen.depths) < 0 or min(self.windows) < 1:
            raise ValueError(f"want no negative depth and windows >= 1, got {chosen.depths}, {self.windows}")
        for width, heads in zip((4 * chosen.dim, 8 * chosen.dim), chosen.heads, strict=True):
            if heads < 1 or width % heads:
                raise ValueError(f"want heads that divide the width {width} of their stage, got {chosen.heads}")
        return self

    @property
    def chosen(self) -> Size:
        """The member with what is given here in place of its own."""
        given = {name: getattr(self, name) for name in Size._fields}
        return SIZES[self.size]._replace(**{name: value for name, value in given.items() if value is not None})


SMALL = Options(dim=8, inner=8, depths=(1, 1, 2, 2), heads=(2, 4), drop_path=0.0, scale=0.0, windows=(7, 7), state=4,
                stem_stride="auto")  # fmt: skip
RECIPE = Recipe(
    epochs=200, batch=128, optimiser="adamw", lr=5e-4, weight_decay=0.05, schedule="cosine", warmup_epochs=5,
    cooldown_epochs=10, min_lr=5e-6, flip=True, patience=30,
)  # fmt: skip
INPUT: tuple[str, dict[str, object]] = ("uvm224", {})
PAPER = Paper(
    title="MambaVision: A Hybrid Mamba-Transformer Vision Backbone",
    venue="CVPR",
    year=2025,
    doi="10.48550/arXiv.2407.08083",
    parameters=97_685_288,
    classes=1000,
    deviations=(
        "The published code adds the bias of the time step twice, in the linear layer and in the scan; kept, "
        "step_bias = 'once' adds it once.",
        "The published code sets all biases of linear layers to 0 and their weights to N(0, .02^2), which undoes "
        "Mamba's start of the time step; kept, step_start = 'mamba' starts it as Mamba does.",
        "The published code decays no weight of A and D; here the optimiser treats all parameters alike.",
        "The recipe is that of MERba, whose baseline this is and who rerun it with their own hyperparameters, not the "
        "ImageNet recipe; its dropout of .1 is set in the experiments (model.dropout), the default is none.",
        "The baseline in MERba is not said to start from ImageNet weights or not; here it starts at random.",
    ),
)  # fmt: skip


def build(shapes: Mapping[str, tuple[int, ...]], classes: int, options: Options) -> nn.Module:
    """The network for square pictures.

    Args:
        shapes: of one view: ``{"flow": (channels, S, S)}``.
        classes: C.
        options: see there.

    Returns:
        ``forward(flow: (B, channels, S, S)) -> (B, C)`` logits.

    Raises:
        UserError: the picture is not square, or smaller than the stem's stride.
    """
    channels, side = _blocks.square(shapes, "mambavision")
    network = MambaVision(channels, _blocks.stride(side, options.stem_stride, "mambavision"), classes, options)
    _blocks.initialise(network)
    return network


class MambaVision(nn.Module):
    """Stem, two stages of convolutions, two of windows, batch norm, mean, linear head."""

    def __init__(self, channels: int, stride: int, classes: int, options: Options) -> None:
        super().__init__()
        size = options.chosen
        widths = [size.dim * 2**stage for stage in range(4)]
        drops = torch.linspace(0, size.drop_path, sum(size.depths), device="cpu").split(size.depths)
        self.stem = Stem(channels, size.inner, size.dim, stride)
        self.stages = nn.ModuleList(
            [_convolutions(width, drop.tolist(), options) for width, drop in zip(widths[:2], drops[:2], strict=True)]
            + [
                _Windowed(width, heads, side, drop.tolist(), options)
                for width, heads, side, drop in zip(widths[2:], size.heads, options.windows, drops[2:], strict=True)
            ]
        )
        self.downsample = nn.ModuleList(_blocks.downsample(width) for width in widths[:-1])
        self.pooled = Pooled(widths[-1])
        self.classify = nn.Linear(widths[-1], classes)

    def forward(self, flow: Tensor) -> Tensor:
        """Logits (B, C) of flow pictures (B, channels, S, S)."""
        return self.head(self.features(flow))

    def features(self, flow: Tensor) -> Tensor:
        """The last map: (B, 8 d, S / 32, S / 32)."""
        x: Tensor = self.stages[0](self.stem(flow))
        for shrink, stage in zip(self.downsample, self.stages[1:], strict=True):
            x = stage(shrink(x))
        return x

    def head(self, features: Tensor) -> Tensor:
        """Logits (B, C) of `features`."""
        logits: Tensor = self.classify(self.pooled(features))
        return logits


class _Windowed(nn.Module):
    """A stage in windows: mixers with MLPs, then attention with MLPs, none of which looks out of its window."""

    def __init__(self, width: int, heads: int, side: int, drops: list[float], options: Options) -> None:
        super().__init__()
        self.side = side
        scale, dropout = options.chosen.scale, options.dropout
        order = window.scans("horizontal", side)
        blocks: list[nn.Module] = []
        for index, drop in enumerate(drops):
            mixes = index < (len(drops) + 1) // 2
            branch = Mixer(Mixers(width, order, False, options), width) if mixes else Attention(width, heads)
            blocks += [Added(part, width, scale, dropout, drop) for part in (branch, Mlp(width))]
        self.blocks = nn.Sequential(*blocks)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C, H, W); places that are added to fill a window are tokens like others."""
        return window.merge(self.blocks(window.partition(x, self.side)), self.side, (x.shape[2], x.shape[3]))


def _convolutions(width: int, drops: list[float], options: Options) -> nn.Sequential:
    return nn.Sequential(*(Added(Convolutions(width), width, 0.0, options.dropout, drop) for drop in drops))
