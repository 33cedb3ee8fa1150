"""ConvNeXt-T through timm: the baseline of BOWAM, and what its published code trains (Liu et al., CVPR 2022).

Glossary: B batch, S side of the picture, C classes, d width of a stage.

28.6 M parameters for 1000 classes, 27.8 M for three; 4.45 G multiplications of matrix products and convolutions at
224 x 224. The network with other widths and depths, or with a stem for small pictures, is timm's too.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, cast

import torch
from pydantic import Field
from torch import Tensor, nn

from fleeting.models import _blocks, _timm, bowam
from fleeting.records import Paper


class Options(_timm.Start, frozen=True, extra="forbid"):
    """The network; defaults are ConvNeXt-T's. Of the start (`weights`, `weights_sha256`) see `_timm.Start`.

    Attributes:
        depths: blocks of the four stages. dims: their widths.
        drop_path: chance that a sample's last block is left out in training; of earlier ones less, in equal steps.
            The paper's for ImageNet is .1, BOWAM's code has none.
        mean, std: values of the picture minus `mean`, over `std`: BOWAM's code's for colours of 0..1; 0 and 1 for flow
            in pixels.
        init_std: of the normal distribution (cut at 2) that weights are drawn from at random, ConvNeXt's .02; 0: as
            torch draws them, by the width, which narrow networks need to learn at all in few steps.
        layer_scale: what the learned factor a channel of a block begins with; 0: no factors.
        stem_stride: 4; less for small pictures (1 for 28 x 28), "auto": what leaves a map of at least 28 x 28.
    """

    depths: tuple[bowam.Some, bowam.Some, bowam.Some, bowam.Some] = (3, 3, 9, 3)
    dims: tuple[bowam.Some, bowam.Some, bowam.Some, bowam.Some] = (96, 192, 384, 768)
    drop_path: float = Field(0.0, ge=0, lt=1)
    mean: float = Field(0.5, allow_inf_nan=False)
    std: float = Field(0.5, gt=0, allow_inf_nan=False)
    init_std: float = Field(0.02, ge=0, allow_inf_nan=False)
    layer_scale: float = Field(1e-6, ge=0, allow_inf_nan=False)
    stem_stride: Literal[1, 2, 4, 8, "auto"] = 4


SMALL = Options(depths=(1, 1, 1, 1), dims=(16, 32, 64, 64), layer_scale=1.0, init_std=0.0, stem_stride="auto")
RECIPE = bowam.RECIPE
INPUT: tuple[str, dict[str, object]] = ("bidirectional240", {"fusion": "conventional"})
PAPER = Paper(
    title="A ConvNet for the 2020s",
    venue="CVPR",
    year=2022,
    doi="10.1109/CVPR52688.2022.01167",
    parameters=28_589_128,
    classes=1000,
    deviations=(
        "The recipe and the input are those of BOWAM, whose baseline (row A of its Table 4) this is, not ImageNet's; "
        "input.fusion = 'sum' gives row B.",
        "BOWAM's published code starts from weights of ImageNet-12k; here the default is at random, weights = 'hub' "
        "starts as the code does (the classes' own layer stays random).",
    ),
)  # fmt: skip


def build(shapes: Mapping[str, tuple[int, ...]], classes: int, options: Options) -> nn.Module:
    """The network for square pictures.

    Args:
        shapes: of one view: ``{"flow": (channels, S, S)}``.
        classes: C.
        options: see there.

    Returns:
        ``forward(flow: (B, channels, S, S)) -> (B, C)`` logits. Its `notices` say what it started from.

    Raises:
        UserError: the picture is not square or too small, or `weights` cannot be had or do not fit.
    """
    channels, side = _blocks.square(shapes, "convnext")
    stride = _blocks.stride(side, options.stem_stride, "convnext")
    _blocks.enough(side, stride, 3, "convnext")
    network = ConvNeXt(channels, stride, classes, options)
    network.notices = _timm.start(network.layers, "convnext_tiny", options, ["head.fc.*"], "convnext")
    return network


class ConvNeXt(nn.Module):
    """timm's network.

    Attributes:
        notices: what the weights started from, one sentence each.
    """

    def __init__(self, channels: int, stride: int, classes: int, options: Options) -> None:
        super().__init__()
        self.notices: tuple[str, ...] = ()
        self.layers = _timm.create(
            "convnext_tiny", in_chans=channels, num_classes=classes, depths=options.depths, dims=options.dims,
            drop_path_rate=options.drop_path, ls_init_value=options.layer_scale,
        )  # fmt: skip
        for module in self.layers.modules() if not options.layer_scale else ():
            if hasattr(module, "gamma"):  # timm passes no None on
                module.register_parameter("gamma", None)
        if stride != 4:  # timm's patch_size would change the stride of a later stage with it
            stem = cast(nn.Sequential, self.layers.get_submodule("stem"))
            stem[0] = nn.Conv2d(channels, options.dims[0], stride, stride)
        bowam.initialise(self.layers, options.init_std)
        self.mean, self.std = options.mean, options.std

    def forward(self, flow: Tensor) -> Tensor:
        """Logits (B, C) of flow pictures (B, channels, S, S)."""
        return self.head(self.features(flow))

    def features(self, flow: Tensor) -> Tensor:
        """The last map: (B, 768, 7, 7) at 224 x 224."""
        # channels-last: the norms and MLPs of the blocks act along channels, so nothing is transposed on the way
        x = ((flow - self.mean) / self.std).contiguous(memory_format=torch.channels_last)
        y: Tensor = self.layers.forward_features(x)  # type: ignore[operator]
        return y

    def head(self, features: Tensor) -> Tensor:
        """Logits (B, C) of `features`."""
        logits: Tensor = self.layers.forward_head(features)  # type: ignore[operator]
        return logits
