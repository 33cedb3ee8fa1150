"""MERba: Mamba mixers in windows that read in four orders, then attention over the whole face (Mao et al., 2025).

Glossary (paper's letters -> here)

* FFE: fast feature extraction, the convolution blocks of stage 1. LGFI: local-global feature integration, stages 2 to
  4: N_k local extractors in windows of 7 x 7, then global self-attention. DGCM: the two heads (`_granularity`).
* H_k, W_k, D_k: sides and width of a stage's map; w = `window`; T_w = w^2 tokens, S_k windows a map (eq. 1).
* B batch, S side of the picture, C classes.

One local extractor (eq. 2 to 4; see `_mixer` for the mixer): x + Linear(sum over orders of mixer(LN(x))), then
x + MLP(LN(x)), both in windows. One global block (eq. 5): x + MHSA(LN(x)), x + MLP(LN(x)), over all H_k W_k tokens.

118.9 M parameters for seven classes; 16.1 G multiplications of matrix products and convolutions at 224 x 224.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from pydantic import Field, model_validator
from torch import Tensor, nn

from fleeting.errors import UserError
from fleeting.layers import window
from fleeting.models import _blocks
from fleeting.models._blocks import Added, Attention, Convolutions, Mlp, Pooled, Stem
from fleeting.models._granularity import DualHead
from fleeting.models._mixer import Mixer, MixerOptions, Mixers
from fleeting.records import Paper
from fleeting.training import Recipe


class Options(MixerOptions, frozen=True, extra="forbid"):
    """The network; defaults are the paper's. Of the mixer: see `state`, `step_bias`, `step_start`.

    Attributes:
        dim: width of stage 1; it doubles from stage to stage.
        depths: N_1 convolution blocks, then the local extractors of each LGFI stage; fewer numbers, fewer stages.
        global_blocks: attention blocks at the end of an LGFI stage.
        head_width: channels of an attention head; a narrower map has one head. 64 as in MambaVision-B.
        window: side of a window; of a smaller map, the map's.
        scans: how the tokens of a window are read, one of Table VII: "horizontal" (a), "raster" (a + b), "zigzag"
            (c + d), "bidirectional" (a + a_bi + b + b_bi), "symmetric" (a + a_sy + b + b_sy), "asymmetric"
            (a + b + c + d, the paper's).
        mixers: "separate" weights for each order, or "shared".
        extractor: "local", in windows, or "global", over the whole map (Table VI).
        attention: "global", or "local", in windows (Table VI).
        stem: "patches": one convolution whose kernel is its stride, and batch norm; "overlapping": MambaVision's.
        stem_stride: 4; less for small pictures (1 for 28 x 28), "auto": what leaves a map of at least 28 x 28.
        mlp: width of the hidden layer of an MLP in units of the stage's.
        dropout: on the output of every branch of the LGFI stages.
        drop_path: chance that a branch is left out in training, for a whole sample or window.
        scale: learned factors of the branches in the LGFI stages begin with this; 0: no factors.
        dual: two heads, coarse and fine, where at least two of `classes` are `negative` and one is not; False: one
            head (MERba-base).
        classes: the class words in the protocol's order. Empty, no word is known, and there is one head.
        negative: the words whose classes the coarse head takes together.
        state: size of the state a channel.
        step_bias: "twice" as MambaVision's published code adds it, or "once".
        step_start: "zero" as MambaVision's published code ends up, or "mamba".
    """

    dim: int = Field(128, ge=2, multiple_of=2)
    depths: tuple[int, ...] = Field((3, 2, 6, 4), min_length=2)
    global_blocks: int = Field(2, ge=0)
    head_width: int = Field(64, ge=1)
    window: int = Field(7, ge=1)
    scans: Literal["horizontal", "raster", "zigzag", "bidirectional", "symmetric", "asymmetric"] = "asymmetric"
    mixers: Literal["separate", "shared"] = "separate"
    extractor: Literal["local", "global"] = "local"
    attention: Literal["global", "local"] = "global"
    stem: Literal["patches", "overlapping"] = "patches"
    stem_stride: Literal[1, 2, 4, 8, "auto"] = 4
    mlp: int = Field(4, ge=1)
    dropout: float = Field(0.1, ge=0, lt=1)
    drop_path: float = Field(0.0, ge=0, lt=1)
    scale: float = Field(0.0, ge=0)
    dual: bool = True
    classes: tuple[str, ...] = ()
    negative: tuple[str, ...] = ("anger", "disgust", "fear", "sadness")

    @model_validator(mode="after")
    def _check(self) -> Options:
        width = 2 * self.dim
        if width > self.head_width and width % self.head_width:
            raise ValueError(f"want 2 dim = {width} to be a multiple of head_width, got {self.head_width}")
        if min(self.depths) < 0:
            raise ValueError(f"want no negative depth, got {self.depths}")
        return self

    @property
    def together(self) -> tuple[int, ...]:
        """Positions of the classes that the coarse head takes together; empty for one head."""
        found = tuple(index for index, word in enumerate(self.classes) if word in self.negative)
        return found if self.dual and 1 < len(found) < len(self.classes) else ()


SMALL = Options(dim=8, depths=(1, 1, 1), global_blocks=1, head_width=32, state=4, mlp=2, stem_stride="auto")
RECIPE = Recipe(
    epochs=200, batch=128, optimiser="adamw", lr=5e-4, weight_decay=0.05, schedule="cosine", warmup_epochs=5,
    cooldown_epochs=10, min_lr=5e-6, flip=True, patience=30,
)  # fmt: skip
INPUT: tuple[str, dict[str, object]] = ("uvm224", {})
PAPER = Paper(
    title="MERba: Multi-Receptive Field MambaVision for Micro-Expression Recognition",
    venue="arXiv",
    year=2025,
    doi="10.48550/arXiv.2506.14468",
    parameters=118_884_871,
    classes=7,
    deviations=(
        "Table I is garbled (519 and 1094 channels, a stage 3 that ends in 1 x 1): read as 512 and 1024 channels on "
        "28, 14 and 7 px, which is what halving the side and doubling the width give.",
        "Equation 4 has no residual and no norm; here each layer is added to its input and reads its layer norm, as in "
        "MambaVision's blocks, and so for equation 5.",
        "The text has patches that do not overlap, and a first stage 'consistent with MambaVision-B', whose stem "
        "overlaps; default one 4 x 4 convolution of stride 4 and batch norm, stem = 'overlapping' MambaVision's.",
        "Whether the four mixers share weights is not said: default separate, mixers = 'shared' one set.",
        "The mixer is 'the same as MambaVision', so its published code's two quirks are kept: step_bias = 'once' and "
        "step_start = 'mamba' undo them.",
        "Heads of the attention are not given: 64 channels each, as in MambaVision-B (head_width).",
        "Where the dropout of .1 sits is not said: on the output of every branch of the LGFI stages; no drop path and "
        "no learned factors a branch (drop_path, scale).",
        "L_fine is averaged over all samples with 0 for those that are not negative; the text leaves open whether over "
        "the negative ones alone, which would weigh it more.",
        "The coarse decision and then the fine one need not be the greatest product of their probabilities; the "
        "probabilities given out are moved so that their greatest is the decision.",
        "Early stopping is not said to look at anything; here at a fifth of the training subjects with a patience of "
        "30 epochs, which takes them from training; recipe.patience = 0 trains on all, as the DFME split has it.",
        "200 epochs are the paper's for DFME; its 3DB-combined runs have 70 (recipe.epochs).",
        "At what rate the ten cool-down epochs run is not said, nor where the cosine ends: a hundredth of the peak "
        "(min_lr).",
        "Weight decay is on all parameters, A and D of the mixers, norms and biases included.",
        "TV-L1's parameters are not given: OpenCV's. Faces are aligned 'after' DFME, whose places of the eyes are not "
        "printed; ours stand in the experiment. Apexes of SMIC-HS, which the paper takes from another spotter, are "
        "those of flow_peak.",
        "How flow is scaled is not said: pixels; of published min-max scaled pictures (input.scale = 'minmax255') the "
        "magnitude is that of u and v minus their medians, since their zero is lost.",
    ),
)  # fmt: skip


def build(shapes: Mapping[str, tuple[int, ...]], classes: int, options: Options) -> nn.Module:
    """The network for square pictures.

    Args:
        shapes: of one view: ``{"flow": (channels, S, S)}``.
        classes: C.
        options: see there.

    Returns:
        ``forward(flow: (B, channels, S, S)) -> (B, C)`` logits, or (B, coarse + fine) with two heads.

    Raises:
        UserError: the picture is not square, smaller than the stem's stride or, for patches, no multiple of it, or
            `options.classes` names another number of classes.
    """
    if options.classes and len(options.classes) != classes:
        raise UserError(
            f"merba: want the {classes} classes of the protocol, got {options.classes}; correct model.classes"
        )
    channels, side = _blocks.square(shapes, "merba")
    stride = _blocks.stride(side, options.stem_stride, "merba")
    if options.stem == "patches" and side % stride:
        raise UserError(
            f"merba: want a side that is a multiple of the stem's stride {stride}, got {side}, whose rim no patch "
            "would see; set input.size, model.stem_stride, or model.stem = 'overlapping'"
        )
    kind = Dual if options.together else MERba
    network = kind(channels, side, stride, classes, options)
    network.notices = _heads(options)
    _blocks.initialise(network)
    return network


def _heads(options: Options) -> tuple[str, ...]:
    """What the words of the classes made of `dual`."""
    if not options.dual or not options.classes:
        return ()
    if not options.together:
        return (
            f"One head: fewer than two of {', '.join(options.classes)}, or all, are in model.negative "
            f"({', '.join(options.negative)}).",
        )
    words = ", ".join(options.classes[index] for index in options.together)
    return (f"Two heads: the coarse one takes {words} together.",)


class MERba(nn.Module):
    """Stem, FFE stage, LGFI stages with downsampling before each, batch norm, mean, linear head."""

    def __init__(self, channels: int, side: int, stride: int, classes: int, options: Options) -> None:
        super().__init__()
        self.notices: tuple[str, ...] = ()
        overlapping = options.stem == "overlapping"
        width, place = options.dim, -(-side // stride) if overlapping else side // stride
        self.stem = Stem(channels, width // 2, width, stride) if overlapping else _patches(channels, width, stride)
        self.fast = nn.Sequential(
            *(Added(Convolutions(width), width, 0.0, 0.0, options.drop_path) for _ in range(options.depths[0]))
        )
        self.downsample, self.stages = nn.ModuleList(), nn.ModuleList()
        for depth in options.depths[1:]:
            self.downsample.append(_blocks.downsample(width))
            width, place = 2 * width, _blocks.halved(place)
            self.stages.append(_Integration(width, place, depth, options))
        self.pooled = Pooled(width)
        self.classify = _head(width, classes, options)

    def forward(self, flow: Tensor) -> Tensor:
        """Logits of flow pictures (B, channels, S, S): (B, C), or (B, coarse + fine)."""
        return self.head(self.features(flow))

    def features(self, flow: Tensor) -> Tensor:
        """The last stage's map: (B, D_4, 7, 7) at 224 x 224."""
        x: Tensor = self.fast(self.stem(flow))
        for shrink, stage in zip(self.downsample, self.stages, strict=True):
            x = stage(shrink(x))
        return x

    def head(self, features: Tensor) -> Tensor:
        """Logits of `features`."""
        logits: Tensor = self.classify(self.pooled(features))
        return logits


class Dual(MERba):
    """With two heads: their own loss and their own way from logits to classes (DGCM)."""

    classify: DualHead

    def loss(self, output: Tensor, target: Tensor, progress: float) -> Tensor:
        """(B,): see `DualHead.loss`."""
        return self.classify.loss(output, target, progress)

    def probabilities(self, output: Tensor) -> Tensor:
        """(B, C): see `DualHead.probabilities`."""
        return self.classify.probabilities(output)

    def scores(self, output: Tensor) -> Tensor:
        """(B, C): see `DualHead.scores`."""
        return self.classify.scores(output)


class _Integration(nn.Module):
    """An LGFI stage (section III-A): local extractors, then global self-attention."""

    def __init__(self, width: int, side: int, depth: int, options: Options) -> None:
        super().__init__()
        small = min(options.window, side)
        self.local = small if options.extractor == "local" else side
        self.reach = small if options.attention == "local" else side
        orders = window.scans(options.scans, self.local)
        heads = max(1, width // options.head_width)
        self.extractors = _blocks_of(
            [Mixer(Mixers(width, orders, options.mixers == "shared", options), width) for _ in range(depth)],
            width, options,
        )  # fmt: skip
        self.attention = _blocks_of([Attention(width, heads) for _ in range(options.global_blocks)], width, options)

    def forward(self, x: Tensor) -> Tensor:
        """(B, D_k, H_k, W_k) -> the same shape."""
        for blocks, side in ((self.extractors, self.local), (self.attention, self.reach)):
            x = window.merge(blocks(window.partition(x, side)), side, (x.shape[2], x.shape[3]))
        return x


def _blocks_of(branches: list[nn.Module], width: int, options: Options) -> nn.Sequential:
    """Each branch and an MLP after it."""
    parts = [part for branch in branches for part in (branch, Mlp(width, options.mlp))]
    return nn.Sequential(*(Added(part, width, options.scale, options.dropout, options.drop_path) for part in parts))


def _patches(channels: int, width: int, stride: int) -> nn.Sequential:
    """Patches that do not overlap, each projected; batch norm makes the scale of the flow immaterial."""
    return nn.Sequential(nn.Conv2d(channels, width, stride, stride, bias=False), nn.BatchNorm2d(width))


def _head(width: int, classes: int, options: Options) -> nn.Module:
    return DualHead(width, classes, options.together) if options.together else nn.Linear(width, classes)
