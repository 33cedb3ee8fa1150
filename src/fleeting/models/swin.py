"""Swin-B on frames: attention in windows that shift from block to block (Liu et al., ICCV 2021), through timm.

One of the three networks of the frame study (Fikri and Ramadhani, "Preprocessing Paradox in Vision Transformer-Based
Micro-Expression Recognition"). Glossary: see `_frames`; P side of a patch, four stages of width `dim` to 8 `dim` on
maps of S / P and half of that from stage to stage.

86.8 M parameters for seven classes; the last map is 7 x 7 at 224 x 224, 12 x 12 at 384 x 384.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, cast

from pydantic import Field, model_validator
from torch import Tensor, nn

from fleeting.errors import UserError
from fleeting.models import _blocks, _frames, _over_time, _timm
from fleeting.records import Paper


class Options(_frames.FrameOptions, frozen=True, extra="forbid"):
    """The network; defaults are Swin-B's. For the options that it shares with the others see `FrameOptions`.

    Attributes:
        depths: blocks a stage; the second of each pair shifts its windows. dim: width of the first stage.
        head_width: channels of an attention head. mlp: width of the hidden layer of a block's MLP in units of the
            stage's.
        patch: side of a patch: 4; less for small pictures (1 for 28 x 28), "auto": what leaves a map of at least 28 x
            28.
        window: side of a window, of a smaller map the map's; "auto": the last map's side, as published: 7 at 224, 12
            at 384. Maps that windows do not fill are padded.
    """

    depths: tuple[_frames.Some, _frames.Some, _frames.Some, _frames.Some] = (2, 2, 18, 2)
    dim: int = Field(128, ge=1)
    head_width: int = Field(32, ge=1)
    mlp: int = Field(4, ge=1)
    patch: Literal[1, 2, 4, 8, "auto"] = 4
    window: _frames.Some | Literal["auto"] = "auto"

    @model_validator(mode="after")
    def _check(self) -> Options:
        if self.dim % self.head_width:
            raise ValueError(f"want dim = {self.dim} to be a multiple of head_width, got {self.head_width}")
        return self


SMALL = Options(depths=(1, 1, 2, 1), dim=8, head_width=8, mlp=2, patch="auto", drop_path=0.0, dropout=0.0, memory=16)
RECIPE = _frames.RECIPE
INPUT: tuple[str, dict[str, object]] = ("frames", {"size": 224})
PAPER = Paper(
    title="Swin Transformer: Hierarchical Vision Transformer using Shifted Windows",
    venue="ICCV",
    year=2021,
    doi="10.1109/ICCV48922.2021.00986",
    parameters=86_750_399,
    classes=7,
    deviations=(
        *_frames.DEVIATIONS,
        "'SwinT-base' is read as Swin-B with patches of 4; its windows are not given: 7 at 224 and 12 at 384 as "
        "published, window = 7 keeps 7.",
    ),
)


def build(shapes: Mapping[str, tuple[int, ...]], classes: int, options: Options) -> nn.Module:
    """The network for square pictures whose side is a multiple of the patch's.

    Args:
        shapes: of one view: ``{"frame": (channels, S, S)}``, or ``{"frames": (channels, T, S, S)}`` with `over_time`;
            1 or 3 channels.
        classes: C.
        options: see there.

    Returns:
        ``forward(frame)`` or ``forward(frames) -> (B, C)`` logits. Its `notices` say what it started from; tables of
        relative positions of a file with other windows are resized by interpolation, as timm does.

    Raises:
        UserError: the frames are not what the options want, the patch does not divide the side, the picture is too
            small, or `weights` cannot be had or do not fit.
    """
    given = _frames.picture(shapes, options, "swin")
    patch = _patch(given.side, options.patch)
    window = -(-given.side // (8 * patch)) if options.window == "auto" else options.window
    layers: Any = _timm.create(
        "swin_base_patch4_window7_224", img_size=given.side, patch_size=patch, window_size=window,
        num_classes=classes, embed_dim=options.dim, depths=options.depths,
        num_heads=tuple(options.dim * 2**stage // options.head_width for stage in range(4)),
        mlp_ratio=float(options.mlp), drop_rate=options.dropout, drop_path_rate=options.drop_path,
    )  # fmt: skip
    layers.head.fc = _over_time.classifier(layers.head.fc, 8 * options.dim, classes, options, given.length)
    network = Swin(layers, given, options)
    pretrained = f"swin_base_patch4_{'window12_384' if given.side > 304 else 'window7_224'}"
    parts = [part.parameters() for part in (layers.patch_embed, *layers.layers)]
    network.begin("swin", pretrained, "head.fc.*", parts, options)
    return network


class Swin(_frames.FrameNetwork):
    """timm's network."""

    layers: Any

    def encode(self, pictures: Tensor) -> Tensor:
        """The last map: (N, 8 dim, h, w)."""
        return cast(Tensor, self.layers.forward_features(pictures)).permute(0, 3, 1, 2)

    def decide(self, encoded: Tensor) -> Tensor:
        """Logits (B, C) of the map's mean."""
        return cast(Tensor, self.layers.forward_head(encoded.permute(0, 2, 3, 1)))


def _patch(side: int, wanted: int | str) -> int:
    """The side of a patch.

    Raises:
        UserError: it does not divide the picture's side, or three halvings leave less than a place.
    """
    found = _blocks.stride(side, wanted, "swin")
    while wanted == "auto" and side % found:
        found //= 2
    if side % found or side < 8 * found:
        raise UserError(
            f"swin: want a side that is a multiple of model.patch = {found} and at least {8 * found}, got {side}; set "
            "input.size to such a size, or lower model.patch"
        )
    return found
