"""AMMSM: a learned magnifier, sparse state-space stages on the flow, ResNet-18 on the onset picture (Liu et al., 2025).

Glossary (paper's words -> here)

* SSSD block: sparse state-space duality; blocks, stages, windows and masks are in `_sssd`, the layer in
  `layers.nc_ssd`. MSA: multi-head self-attention.
* Temporal stream: the flow, in four stages of width C, 2 C, 4 C, 8 C (`dim` = C). Spatial stream: the onset picture
  (`_onset`), fused at the end of stage 2.
* S_j: sparsity ratios, one for every two blocks, in the order of the blocks: 1, 2, 4 and 2 of the four stages.
* AMM: the magnifier (`_magnifier`), which comes before the temporal stream; alpha, the magnification factor: `factor`.
  SA: sparse activation, the ratios. Both are found by a search (`_phases`, `_evolution`).
* B batch, S side of the flow, K classes.

The stages, the stem and the steps between stages are VSSD-T's, whose depths and widths are the paper's: batch norm sits
in the stem and between the stages only and sees whole maps, dropped windows with the features they kept; inside of the
blocks are layer norms, a place at a time. In the first phase its statistics are those of many configurations.

Without an onset picture (``spatial = "none"``) there is no spatial stream and nothing is fused at the end of stage 2;
all else is the same.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import islice
from math import inf
from typing import Annotated, Literal

import torch
from pydantic import BaseModel, Field, model_validator
from torch import Tensor, nn

from fleeting.errors import UserError
from fleeting.layers.nc_ssd import Weights
from fleeting.models import _blocks, _sssd
from fleeting.models._magnifier import Form, Magnifier, distance
from fleeting.models._onset import Fusion, Spatial
from fleeting.models._phases import fit
from fleeting.models._sssd import BlockOptions, Stage
from fleeting.models._vssd import Stem, step
from fleeting.records import Paper
from fleeting.training import Recipe

__all__ = ["AMMSM", "INPUT", "PAPER", "RECIPE", "SMALL", "Options", "Stem", "build", "fit", "step"]
_RATIOS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8)
_Factor = Annotated[float, Field(gt=0, allow_inf_nan=False)]
FUSED = 2
"""The stage at whose end the streams meet."""


class Options(BaseModel, frozen=True, extra="forbid"):
    """The network; defaults are the paper's.

    Attributes:
        dim: width of stage 1; it doubles from stage to stage.
        depths: blocks of each stage.
        mixer: "ssd", or "attention" in its place everywhere: the Transformer of Table III.
        attention: how many blocks at the end of each stage attend; one number a stage.
        sparsity: share of the windows that is dropped: one number for all blocks, or one for every two blocks of a
            stage. The paper's are .1 to .8 in steps of .1; 0: none (Table III without SA). `AMMSM.sparsity` changes it.
        dropped: dropped windows are "skipped", or computed and "masked" as the definition says; the same decisions.
        token_weights: in the state sum: "step" as VSSD's code has them, or "inverse", equation 6's 1 / A.
        spatial: "resnet18" on the onset picture, or "none" where a corpus has flow only.
        fusion: "sum" of both maps, or "concat" and a 1 x 1 convolution.
        stem_stride: 4; less for small flow (1 for 28 x 28), "auto": what leaves a map of at least 28 x 28.
        head_width: channels of an attention head; an SSD head has `expand` times as many. A narrower map has one head.
        expand: channels inside an SSD layer in units of the stage's width.
        state: numbers that the state holds a channel.
        mlp: width of the hidden layer of the FFN in units of the stage's.
        drop_path: of the last block in training; earlier ones less, in equal steps from 0. VSSD-T has .2.
        magnify: "unet", the learned magnifier; "scale": the flow times the factor, which is what equation 1 asks of
            the magnifier; "none" (Table III without AMM).
        factor: how many times motion is magnified. `AMMSM.factor` changes it.
        magnifier_width, magnifier_levels: of the U-Net: channels at its first scale, and how often a map is halved.
        magnifier_units: of the flow inside of the U-Net: "relative" to its root mean square, and what comes out to that
            times the factor; or as "given".
        magnifier_map: of the factor: one channel that holds the "factor", or 32 that hold its "sines".
        magnifier_residual: the U-Net adds to the flow times the factor, and begins at nothing: as plain scaling.
        magnifier_weight: of equation 1 beside the cross-entropy. It counts pixels, and of a face on 28 px all flow is a
            ninth of what it is on 256 px, and equation 1 with it: 9 makes up for it.
        flow: what the numbers of the flow are. "px": pixels (and lengths of them), whose zero is no motion;
            "minmax255": 0..255 by the least and the most of each picture, as published flow is: its zero is lost, and
            the median of each channel stands for no motion, since most of a face is still. It is taken out, and 255
            becomes 1.
        search: "evolution": three phases, with random ratios and factors, an evolutionary search for the best, and
            fine-tuning under them; "random": the same with a random search; "none": one training with `sparsity` and
            `factor` as they are. Nothing is searched that is left out: ratios where `sparsity` is 0, the factor where
            `magnify` is "none".
        fine_tuning: share of the epochs that the third phase has: 30 of 100.
        ratios, factors: what the ratios are chosen from; the least and the largest factor.
        population, generations: of the search: as many configurations are tried in each generation.
        crossover: how likely a child has two parents; else one. mutation: how likely each of its ratios, and its
            factor, is drawn anew.
    """

    dim: int = Field(64, ge=2, multiple_of=2)
    depths: tuple[int, ...] = Field((2, 4, 8, 4), min_length=FUSED)
    mixer: Literal["ssd", "attention"] = "ssd"
    attention: tuple[int, ...] = (0, 0, 1, 1)
    sparsity: float | tuple[float, ...] = 0.5
    dropped: Literal["skipped", "masked"] = "skipped"
    token_weights: Weights = "step"
    spatial: Literal["resnet18", "none"] = "resnet18"
    fusion: Literal["sum", "concat"] = "sum"
    stem_stride: Literal[1, 2, 4, 8, "auto"] = 4
    head_width: int = Field(32, ge=1)
    expand: int = Field(2, ge=1)
    state: int = Field(64, ge=1)
    mlp: int = Field(4, ge=1)
    drop_path: float = Field(0.0, ge=0, lt=1)
    magnify: Literal["unet", "scale", "none"] = "unet"
    factor: _Factor = 2.5
    magnifier_width: int = Field(64, ge=1)
    magnifier_levels: int = Field(4, ge=1, le=6)
    magnifier_units: Literal["relative", "given"] = "relative"
    magnifier_map: Literal["factor", "sines"] = "factor"
    magnifier_residual: bool = False
    magnifier_weight: float = Field(1.0, ge=0, allow_inf_nan=False)
    flow: Literal["px", "minmax255"] = "px"
    search: Literal["evolution", "random", "none"] = "evolution"
    fine_tuning: float = Field(0.3, ge=0, lt=1)
    ratios: tuple[Annotated[float, Field(ge=0, lt=1)], ...] = Field(_RATIOS, min_length=1)
    factors: tuple[_Factor, _Factor] = (1.0, 4.0)
    population: int = Field(8, ge=2)
    generations: int = Field(5, ge=1)
    crossover: float = Field(0.5, ge=0, le=1)
    mutation: float = Field(0.2, ge=0, le=1)

    @model_validator(mode="after")
    def _check(self) -> Options:
        if min(self.depths) < 1 or len(self.attention) != len(self.depths):
            raise ValueError(f"want one depth >= 1 and one `attention` a stage, got {self.depths}, {self.attention}")
        if any(not 0 <= count <= depth for count, depth in zip(self.attention, self.depths, strict=True)):
            raise ValueError(f"want attention of 0 to as many blocks as a stage has, got {self.attention}")
        for width in self.widths:
            if width > self.head_width and width % self.head_width:
                raise ValueError(f"want width {width} to be a multiple of head_width, got {self.head_width}")
        _sssd.checked(self.standing, sum(self.pairs))
        if self.factors[0] > self.factors[1]:
            raise ValueError(f"want the least factor first, got factors {self.factors}")
        return self

    @property
    def widths(self) -> tuple[int, ...]:
        """Channels of each stage."""
        return tuple(self.dim * 2**stage for stage in range(len(self.depths)))

    @property
    def pairs(self) -> tuple[int, ...]:
        """How many sparsity ratios each stage has: one for every two blocks."""
        return tuple(_sssd.pairs(depth) for depth in self.depths)

    @property
    def standing(self) -> tuple[float, ...]:
        """`sparsity` with one number for every two blocks."""
        one = isinstance(self.sparsity, float)
        return (self.sparsity,) * sum(self.pairs) if one else tuple(self.sparsity)  # type: ignore[arg-type, return-value]


SMALL = Options(
    dim=8, depths=(1, 2), attention=(0, 1), state=8, mlp=2, head_width=8, stem_stride="auto", magnifier_width=2,
    magnifier_levels=1, population=2, generations=1,
)  # fmt: skip
RECIPE = Recipe(
    epochs=100, batch=16, optimiser="adamw", lr=3e-5, weight_decay=0.05, schedule="cosine", mixup=0.8, mesa=1.0
)
INPUT: tuple[str, dict[str, object]] = ("onset_flow", {})
PAPER = Paper(
    title="AMMSM: Adaptive Motion Magnification and Sparse Mamba for Micro-Expression Recognition",
    venue="IEEE ICME",
    year=2025,
    doi="10.48550/arXiv.2503.24057",
    parameters=57_134_137,
    classes=3,
    deviations=(
        "The U-Net is only called standard: that of Ronneberger et al. with padded convolutions and no norm, half of "
        "all parameters (magnifier_width); the map of the factor is one channel that holds the factor, where the work "
        "it is taken from encodes it by sines (magnifier_map). It works in units of the flow's root mean square, which "
        "in pixels is far below the factors beside it; in pixels it learns little in 300 steps "
        "(magnifier_units).",
        "Equation 1 is a sum; here the mean over channels and places, or it would be 130,000 times the cross-entropy "
        "(magnifier_weight).",
        "Equation 2 says epochs, not those of which phase: of all 100, so that the weight falls from 1 to .3 in the "
        "first phase and on to 0 in the third (span).",
        "The factor 1 to 4 and the ratios are drawn for each batch, evenly and independently; how they are drawn is "
        "not said.",
        "Of the search only its fitness is named: 5 generations of 8, children of the four best by uniform crossover "
        "(.5) and mutation (.2), as SparseViT searches; on which samples the loss is taken is not said: here on inner "
        "subjects that the first phase did not see, which fine-tuning then trains on too.",
        "Each phase has an optimiser and a cosine of its own, which the paper leaves open.",
        "No picture size is printed: 256 x 256, where windows of 4 x 4 divide the map of every stage; of other sizes "
        "the windows at the right and the bottom reach over the rim, where zeros are that count for nothing.",
        "Only depths and widths of the stages are printed, and that they follow VSSD: stem, steps between stages, "
        "heads, a state of 64, expansion by 2 and an FFN of 4 are those of VSSD-T; no drop path is named and there is "
        "none (drop_path).",
        "Equation 6 weighs tokens by 1 / A where VSSD's code weighs them by |dt A|; as the code does, "
        "token_weights = 'inverse' the equation.",
        "The text masks the input of the SSD block, and copies features back at the end of the stage; here no part of "
        "a block sees a dropped window, which keeps the features it had when it was dropped, also where a smaller "
        "ratio takes it up again.",
        "How many windows a ratio keeps is rounded, and one at least; the fourth stage has four windows at 256 x 256.",
        "The ratios and factors that the search found are only drawn (figure 4); before it, and without it, a network "
        "has ratios of .5 and a factor of 2.5 (sparsity, factor).",
        "Attention replaces 'the last layer of the last two blocks' in the caption of figure 2, and the final block of "
        "the last two stages in the text: as in the text (attention).",
        "How the streams are fused is not said: the sum, since ResNet-18's second stage has the width and the side of "
        "the temporal stream's (fusion = 'concat'); what comes after it in ResNet-18 is left out.",
        "Whether ResNet-18 or the stages begin with pretrained weights is not said: both start at random.",
        "The Transformer of Table III is not described: the same network with attention in place of every SSD layer "
        "(mixer = 'attention'), over all places of a map.",
        "Mixup has no alpha: .8, that of VSSD's recipe (its config.py), which decays no weight of A and D: here all "
        "are alike. MESA has no weight: 1, from the end of the first quarter of either phase, see recipe.mesa; in "
        "the first phase its mean network has ratios of .5 and a factor of 2.5.",
        "How flow is scaled is not said: pixels (flow).",
    ),
)  # fmt: skip


def build(shapes: Mapping[str, tuple[int, ...]], classes: int, options: Options) -> nn.Module:
    """The network for square flow, and a square onset picture of any size.

    Args:
        shapes: of one view: ``{"flow": (channels, S, S), "onset": (3, S', S')}``.
        classes: K.
        options: see there.

    Returns:
        `AMMSM`.

    Raises:
        UserError: the flow is not square or smaller than the stem's stride, or there is no onset picture for the
            spatial stream.
    """
    shape, onset = shapes.get("flow", ()), shapes.get("onset", ())
    if len(shape) != 3 or shape[1] != shape[2] or min(shape) < 1:
        raise UserError(f"ammsm: want square flow (C, S, S), got {dict(shapes)}; use input onset_flow")
    if options.spatial != "none" and (len(onset) != 3 or onset[0] != 3):
        raise UserError(
            f"ammsm: want an onset picture (3, S, S) for the spatial stream, got {dict(shapes)}; use input onset_flow, "
            f'or set model.spatial = "none" for flow alone'
        )
    stride = _blocks.stride(shape[1], options.stem_stride, "ammsm")
    return AMMSM(shape[0], shape[1], stride, classes, options)


class AMMSM(nn.Module):
    """Magnifier, stem, four sparse stages with a step between them, fusion with the onset picture, mean, linear head.

    Attributes:
        sparsity: share of the windows that is dropped in every two blocks. factor: how many times motion is magnified.
            Both may be set at any time, and are saved with the weights.
        options: as it was built.
        span: the part of the whole training, 0 to 1, that the running `training.fit` is: equation 2 counts epochs over
            all phases.
    """

    def __init__(self, channels: int, side: int, stride: int, classes: int, options: Options) -> None:
        super().__init__()
        widths, drops = options.widths, _drops(options)
        self.options, self.classes, self.span = options, classes, (0.0, 1.0)
        self.pairs, self._ratios, self._factor = options.pairs, options.standing, options.factor
        self.stem, side = Stem(channels, widths[0], stride), -(-side // stride)
        self.stages, self.steps = nn.ModuleList(), nn.ModuleList()
        for index, width in enumerate(widths):
            if index:
                self.steps.append(step(widths[index - 1]))
                side = _blocks.halved(side)
            self.stages.append(Stage(width, side, drops[index], _block_options(options, index)))
        self.norm, self.classify = nn.LayerNorm(widths[-1]), nn.Linear(widths[-1], classes)
        _blocks.initialise(self)
        both = options.spatial != "none"
        self.spatial = Spatial(options.dim) if both else None
        self.fusion = Fusion(widths[FUSED - 1], options.fusion) if both else None
        self.magnifier = Magnifier(channels, _form(options)) if options.magnify == "unet" else None

    @property
    def sparsity(self) -> tuple[float, ...]:
        """One ratio for every two blocks, stage by stage: 9 at the paper's depths.

        Raises:
            UserError: when set to another number of ratios, or to one that is not in [0, 1).
        """
        return self._ratios

    @sparsity.setter
    def sparsity(self, ratios: Sequence[float]) -> None:
        try:
            self._ratios = _sssd.checked(ratios, sum(self.pairs))
        except ValueError as error:
            raise UserError(f"ammsm: {error}; give one for every two blocks of each stage") from error

    @property
    def factor(self) -> float:
        """How many times motion is magnified; without a magnifier it changes nothing.

        Raises:
            UserError: when set to a number that is not above 0.
        """
        return self._factor

    @factor.setter
    def factor(self, factor: float) -> None:
        if not 0 < factor < inf:
            raise UserError(f"ammsm: want a magnification factor above 0, got {factor}; 1 leaves motion as it is")
        self._factor = float(factor)

    def get_extra_state(self) -> Tensor:
        """The ratios and the factor, which are saved with the weights."""
        return torch.tensor([*self._ratios, self._factor], dtype=torch.float64, device="cpu")

    def set_extra_state(self, state: Tensor) -> None:
        """Takes the saved ratios and the saved factor."""
        *self.sparsity, self.factor = state.tolist()

    def forward(self, flow: Tensor, onset: Tensor | None = None) -> Tensor:
        """Logits (B, K) of flow (B, channels, S, S) and onset pictures (B, 3, S', S') in 0..1.

        In training, with a learned magnifier, (B, K + 1): the last column is the distance of equation 1.
        """
        moved = self.at_rest(flow)
        magnified = self._magnified(moved)
        logits = self.head(self._staged(magnified, onset))
        if not self.training or self.magnifier is None:
            return logits
        return torch.cat([logits, distance(moved, magnified, self._factor)[:, None]], 1)

    def features(self, flow: Tensor, onset: Tensor | None = None) -> Tensor:
        """The last stage's map: (B, 8 C, 8, 8) at 256 x 256."""
        return self._staged(self.magnified(flow), onset)

    def at_rest(self, flow: Tensor) -> Tensor:
        """Flow (B, channels, S, S) whose zero is no motion."""
        if self.options.flow == "px":
            return flow
        return (flow - flow.flatten(2).median(2).values[..., None, None]) / 255

    def magnified(self, flow: Tensor) -> Tensor:
        """What the temporal stream sees: flow (B, channels, S, S), `factor` times as large in the magnifier's way."""
        return self._magnified(self.at_rest(flow))

    def _magnified(self, flow: Tensor) -> Tensor:
        if self.magnifier is not None:
            magnified: Tensor = self.magnifier(flow, self._factor)
            return magnified
        return flow if self.options.magnify == "none" else self._factor * flow

    def loss(self, output: Tensor, target: Tensor, progress: float) -> Tensor:
        """(B,) equation 2: cross-entropy + (1 - progress) times the distance of equation 1, and its weight.

        Args:
            output: (B, K + 1), or logits alone (B, K), whose loss is the cross-entropy.
            target: (B, K), rows sum to 1.
            progress: epoch / epochs of the running `training.fit`; see `span`.
        """
        begin, end = self.span
        logits, away = output.float().split((self.classes, output.shape[1] - self.classes), 1)
        falling = self.options.magnifier_weight * (1 - (begin + progress * (end - begin)))
        total: Tensor = falling * away.sum(1) - (target * logits.log_softmax(1)).sum(1)
        return total

    def probabilities(self, output: Tensor) -> Tensor:
        """(B, K) of what `forward` gives."""
        probs: Tensor = output[:, : self.classes].float().softmax(1)
        return probs

    def _staged(self, flow: Tensor, onset: Tensor | None) -> Tensor:
        x: Tensor = self.stem(flow)
        ratios = iter(self._ratios)
        for index, stage in enumerate(self.stages):
            x = x if index == 0 else self.steps[index - 1](x)
            x = stage(x, tuple(islice(ratios, self.pairs[index])))
            if index == FUSED - 1 and self.spatial is not None and self.fusion is not None:
                x = self.fusion(x, self.spatial(onset))
        return x

    def head(self, features: Tensor) -> Tensor:
        """Logits (B, K) of `features`."""
        tokens = self.norm(features.flatten(2).transpose(1, 2))
        logits: Tensor = self.classify(tokens.mean(1))
        return logits


def _form(options: Options) -> Form:
    return Form(
        options.magnifier_width, options.magnifier_levels, options.magnifier_units, options.magnifier_map,
        options.magnifier_residual,
    )  # fmt: skip


def _block_options(options: Options, stage: int) -> BlockOptions:
    return BlockOptions(
        options.mixer, options.attention[stage], options.head_width, options.expand, options.state,
        options.token_weights, options.mlp, options.dropped,
    )  # fmt: skip


def _drops(options: Options) -> list[list[float]]:
    """Drop path of each block of each stage."""
    rising = torch.linspace(0, options.drop_path, sum(options.depths), device="cpu")
    return [part.tolist() for part in rising.split(list(options.depths))]
