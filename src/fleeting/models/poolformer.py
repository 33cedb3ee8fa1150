"""PoolFormer m36 and m48 on frames: means of 3 x 3 places, no attention (Yu et al., CVPR 2022), through timm.

One of the three networks of the frame study (Fikri and Ramadhani, "Preprocessing Paradox in Vision Transformer-Based
Micro-Expression Recognition"), and its best. Glossary: see `_frames`; four stages on maps of S / 4 and half of that
from stage to stage.

55.4 M parameters (m36) and 72.7 M (m48) for seven classes; the last map is 7 x 7 at 224 x 224, 12 x 12 at 384 x 384.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from typing import Any, Literal, cast

from pydantic import Field, model_validator
from torch import Tensor, nn

from fleeting.errors import UserError
from fleeting.models import _blocks, _frames, _over_time, _timm
from fleeting.records import Paper

_Four = tuple[_frames.Some, _frames.Some, _frames.Some, _frames.Some]
_DEPTHS: dict[str, _Four] = {"m36": (6, 6, 18, 6), "m48": (8, 8, 24, 8)}


class Options(_frames.FrameOptions, frozen=True, extra="forbid"):
    """The network; defaults are m36's. For the options that it shares with the others see `FrameOptions`.

    Attributes:
        variant: "m36" or "m48", which gives `depths` where it is left at None: blocks a stage.
        dims: widths of the stages, each another than the one before it: timm halves the map only where it changes.
        layer_scale: what the learned factor a channel of a branch begins with.
        stem_stride: 4; less for small pictures (1 for 28 x 28), "auto": what leaves a map of at least 28 x 28.
    """

    variant: Literal["m36", "m48"] = "m36"
    depths: _Four | None = None
    dims: _Four = (96, 192, 384, 768)
    layer_scale: float = Field(1e-6, gt=0, allow_inf_nan=False)
    stem_stride: Literal[1, 2, 4, 8, "auto"] = 4

    @model_validator(mode="after")
    def _check(self) -> Options:
        if any(one == other for one, other in pairwise(self.dims)):
            raise ValueError(f"want dims that change from stage to stage, got {self.dims}")
        return self

    @property
    def chosen(self) -> _Four:
        """Blocks a stage."""
        return self.depths or _DEPTHS[self.variant]


SMALL = Options(depths=(1, 1, 1, 1), dims=(8, 16, 32, 64), layer_scale=1.0, stem_stride="auto", drop_path=0.0,
                dropout=0.0, memory=16)  # fmt: skip
RECIPE = _frames.RECIPE.model_copy(update={"criterion": "focal"})
INPUT: tuple[str, dict[str, object]] = ("frames", {"size": 224})
PAPER = Paper(
    title="MetaFormer Is Actually What You Need for Vision",
    venue="CVPR",
    year=2022,
    doi="10.1109/CVPR52688.2022.01055",
    parameters=55_408_903,
    classes=7,
    deviations=(
        *_frames.DEVIATIONS,
        "The focal loss is the study's choice for m36; for m48 it takes the weighted cross-entropy, recipe.criterion = "
        "'ce'.",
    ),
)


def build(shapes: Mapping[str, tuple[int, ...]], classes: int, options: Options) -> nn.Module:
    """The network for square pictures of any size from 8 times the stem's stride.

    Args:
        shapes: of one view: ``{"frame": (channels, S, S)}``, or ``{"frames": (channels, T, S, S)}`` with `over_time`;
            1 or 3 channels.
        classes: C.
        options: see there.

    Returns:
        ``forward(frame)`` or ``forward(frames) -> (B, C)`` logits. Its `notices` say what it started from; the network
        has no table of places, so that weights fit any size.

    Raises:
        UserError: the frames are not what the options want, the picture is too small, or `weights` cannot be had or do
            not fit.
    """
    given = _frames.picture(shapes, options, "poolformer")
    layers = _layers(_stride(given.side, options.stem_stride), classes, options)
    layers.head.fc = _over_time.classifier(layers.head.fc, options.dims[-1], classes, options, given.length)
    network = PoolFormer(layers, given, options)
    parts = [part.parameters() for part in (layers.stem, *layers.stages)]
    network.begin("poolformer", f"poolformer_{options.variant}", "head.fc.*", parts, options)
    return network


class PoolFormer(_frames.FrameNetwork):
    """timm's network."""

    layers: Any

    def encode(self, pictures: Tensor) -> Tensor:
        """The last map: (N, D, h, w)."""
        return cast(Tensor, self.layers.forward_features(pictures))

    def decide(self, encoded: Tensor) -> Tensor:
        """Logits (B, C) of the map's mean."""
        return cast(Tensor, self.layers.forward_head(encoded))


def _layers(stride: int, classes: int, options: Options) -> Any:
    """timm's network: its own function for m36 takes no depths and widths."""
    metaformer = _timm.timm().models.metaformer
    layers: Any = metaformer.MetaFormer(
        num_classes=classes, depths=options.chosen, dims=options.dims, downsample_norm=None, mlp_act=nn.GELU,
        mlp_bias=True, norm_layers=metaformer.GroupNorm1, layer_scale_init_values=options.layer_scale,
        res_scale_init_values=None, use_mlp_head=False, drop_rate=options.dropout, drop_path_rate=options.drop_path,
    )  # fmt: skip
    if stride != 4:  # the published one is 7 wide with a border of 2: twice the stride less one
        width, border = max(3, 2 * stride - 1), max(1, stride // 2)
        layers.stem.conv = nn.Conv2d(3, options.dims[0], width, stride, border)
        nn.init.trunc_normal_(layers.stem.conv.weight, std=0.02)
        nn.init.zeros_(layers.stem.conv.bias)
    return layers


def _stride(side: int, wanted: int | str) -> int:
    """The stem's stride.

    Raises:
        UserError: three halvings leave less than a place.
    """
    found = _blocks.stride(side, wanted, "poolformer")
    if side < 8 * found:
        raise UserError(
            f"poolformer: want a side of at least {8 * found} with model.stem_stride = {found}, got {side}; set "
            "input.size to such a size, or lower model.stem_stride"
        )
    return found
