"""BOWAM: ConvNeXt whose blocks attend to the wavelet bands of their maps (Xie et al., 2026).

Glossary (paper's words -> here)

* FDTB: frequency domain transform block, one of the four stages. WADM: wavelet attention module (`_wadm`), in every
  block of a stage in place of ConvNeXt's depthwise convolution, or once between two stages (`place`).
* X, LL, LH, HL, HH: see `_wadm`. B batch, S side of the picture, C classes, d width of a stage.

One block: x + gamma * MLP(LN(WADM(x))), MLP of 4 d with GELU. Between stages LN and a 2 x 2 convolution of stride 2.

The rows of the paper's Table 4 (A and B, and C to F, have the same widths; switching an attention off only takes its
own weights out):

    A  transform = "none", spatial = false, channel = false; input.fusion = "conventional"
    B  transform = "none", spatial = false, channel = false
    C  spatial = false, channel = false
    D  spatial = false
    E  channel = false
    F  the defaults

31.48 M parameters for three classes; 4.46 G multiplications of matrix products and convolutions at 224 x 224.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal

import torch
import torch.nn.functional as functional
from pydantic import Field
from torch import Tensor, nn

from fleeting.models import _blocks, _timm
from fleeting.models._wadm import Wadm, WadmOptions, depthwise
from fleeting.records import Paper
from fleeting.training import Recipe

Some = Annotated[int, Field(ge=1)]


class Options(WadmOptions, frozen=True, extra="forbid"):
    """The network; defaults are the paper's. Of the module see `_wadm.WadmOptions`, of the start `_timm.Start`.

    Attributes:
        stages: 3, 4 or 5 (Table 10). The fifth has twice the width of the fourth on a map of the same size, as many
            blocks, and no weights before it: its map is the fourth's twice.
        place: of the module: "block", in every block; "between", once between two stages, before the downsampling,
            the blocks plain.
        depths: blocks of the first four stages. dims: their widths.
        layer_scale: what gamma begins with; 0: no factors.
        init_std: of the normal distribution (cut at 2) that weights are drawn from at random, ConvNeXt's .02; 0: as
            torch draws them, by the width, which narrow networks need to learn at all in few steps.
        mean, std: values of the picture minus `mean`, over `std`: for colours of 0..1 the published code's; 0 and 1 for
            flow in pixels.
        drop_path: chance that a sample's last block is left out in training; of earlier ones less, in equal steps.
        stem_stride: 4; less for small pictures (1 for 28 x 28), "auto": what leaves a map of at least 28 x 28.
    """

    stages: Literal[3, 4, 5] = 4
    place: Literal["block", "between"] = "block"
    depths: tuple[Some, Some, Some, Some] = (3, 3, 9, 3)
    dims: tuple[Some, Some, Some, Some] = (96, 192, 384, 768)
    layer_scale: float = Field(1e-6, ge=0, allow_inf_nan=False)
    init_std: float = Field(0.02, ge=0, allow_inf_nan=False)
    mean: float = Field(0.5, allow_inf_nan=False)
    std: float = Field(0.5, gt=0, allow_inf_nan=False)
    drop_path: float = Field(0.0, ge=0, lt=1)
    stem_stride: Literal[1, 2, 4, 8, "auto"] = 4

    @property
    def sizes(self) -> list[tuple[int, int]]:
        """(blocks, width) of each stage."""
        four = list(zip(self.depths, self.dims, strict=True))
        return [*four, (self.depths[3], 2 * self.dims[3])][: self.stages]


SMALL = Options(depths=(1, 1, 1, 1), dims=(16, 32, 64, 64), layer_scale=1.0, init_std=0.0, stem_stride="auto")
RECIPE = Recipe(
    epochs=100, batch=32, optimiser="adamw", lr=1e-4, weight_decay=1e-4, schedule="exponential", decay=0.987,
    balance="sampler", flip=True, rotate_deg=8, jitter=(0.2, 0.2, 0.2, 0.0), crop=224,
)  # fmt: skip
INPUT: tuple[str, dict[str, object]] = ("bidirectional240", {})
PAPER = Paper(
    title="Micro-Expression Recognition Based on Bidirectional Optical Flow and Wavelet-Based Attention Mechanism",
    venue="Chinese Journal of Computers",
    year=2026,
    doi="10.11897/SP.J.1016.2026.00328",
    parameters=31_475_175,
    classes=3,
    deviations=(
        "Where the WADM sits is not said beyond 'each FDTB mainly contains it'; default, as the published code has it, "
        "in every block in place of the depthwise convolution, which also gives the parameters of Table 10 (31.48 M "
        "for 31.45 M); place = 'between' is the module between the stages, which does not.",
        "The module is named for downsampling, but its output has the size of its input; the downsampling is "
        "ConvNeXt's own.",
        "The convolution of equation 6 is given no size: depthwise 7 x 7, as in the published code (kernel).",
        "The published code trains a plain ConvNeXt: the line that would build this network is commented out; the "
        "network of rows A and B of Table 4 (transform = 'none', spatial = channel = false) is what it trains.",
        "Table 9 finds a kernel of 3 best for the spatial attention, the published code has 7: default 3 "
        "(spatial_kernel).",
        "The published code resizes a map of 7 x 7 to 6 x 6 before the transform and back after it; here odd sides "
        "are transformed exactly, odd = 'bilinear' gives the code's way.",
        "Row C of Table 4, the transform without attention, is a convolution, batch norm and ReLU: the inverse undoes "
        "the transform, so what the row measures is not the wavelet.",
        "Table 10's five stages (96.30 M, 7.28 G) fit three blocks of width 1536 on 7 x 7 without any downsampling "
        "(96.34 M, 7.26 G), as if the map were doubled without weights; so it is done here.",
        "The paper does not say where weights come from; the published code starts from ConvNeXt-T of ImageNet-12k by "
        "name and shape. Default at random; weights = 'hub' or a file starts as the code, and the weights of the "
        "module, whose convolution has another name there, and of the head stay random.",
        "Table 7's 'Biorthogonal' has no number: bior2.2 in the experiments; any other by name (wavelet).",
        "Table 11's Fourier row is not described: transform = 'fourier' splits the spectrum at half the highest "
        "frequency of each axis into four bands under the same two attentions.",
        "Table 11's Freq-HD row puts a space-time analysis in place of the module, but a flow picture has no frames: "
        "transform = 'freqhd' applies its spatial Gaussian filter to each map and weighs the two bands by their share "
        "of the power, which is what its temporal transform gives for a clip of one frame; Freq-HD itself chooses "
        "clips and returns no map.",
        "The decay of the learning rate is exponential without a number in the paper, .987 an epoch in the code; the "
        "random rotation of up to 8 degrees and the crop of 224 are the code's too.",
        "The paper's colour adjustment is, in the code, of brightness, contrast, saturation and hue by .2; a hue is a "
        "direction of motion in a flow picture, and .2 of the circle 72 degrees: default without it, the code's is "
        "recipe.jitter = 0.2.",
        "The published code turns its validation pictures at random; here prediction sees the centre crop.",
        "Random sampling makes every class equally frequent (at most balance_limit times its share); the code's own "
        "sampler adds flow to frames near the apex, input.near and recipe.balance.",
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
    channels, side = _blocks.square(shapes, "bowam")
    stride = _blocks.stride(side, options.stem_stride, "bowam")
    _blocks.enough(side, stride, min(options.stages, 4) - 1, "bowam")
    network = Bowam(channels, stride, classes, options)
    network.notices = _timm.start(network, "convnext_tiny", options, _fresh(options), "bowam", _own(options))
    return network


def _fresh(options: Options) -> list[str]:
    """Names that no file has a counterpart for."""
    names = ["head.fc.*"]
    if options.stages != 4:
        names += ["head.*", *(f"stages.{stage}.*" for stage in range(min(options.stages, 4), 5))]
    return names


def _own(options: Options) -> list[str]:
    """Names that ConvNeXt-T's weights have no counterpart for, and a trained BOWAM's have."""
    return ["*.wadm.*", *(["*.conv_dw.*"] if options.transform != "none" and options.place == "block" else [])]


class Bowam(nn.Module):
    """Stem, stages, mean, layer norm, linear head. Names are those of timm's ConvNeXt.

    Attributes:
        notices: what the weights started from, one sentence each.
    """

    def __init__(self, channels: int, stride: int, classes: int, options: Options) -> None:
        super().__init__()
        sizes = options.sizes
        drops = torch.linspace(0, options.drop_path, sum(depth for depth, _ in sizes), device="cpu").tolist()
        self.notices: tuple[str, ...] = ()
        self.mean, self.std = options.mean, options.std
        self.stem = nn.Sequential(nn.Conv2d(channels, sizes[0][1], stride, stride), Norm(sizes[0][1]))
        self.stages = nn.Sequential()
        before = sizes[0][1]
        for index, (depth, width) in enumerate(sizes):
            self.stages.append(Stage(before, width, index, drops[:depth], options))
            before, drops = width, drops[depth:]
        self.head = Head(before, classes)
        initialise(self, options.init_std)

    def forward(self, flow: Tensor) -> Tensor:
        """Logits (B, C) of flow pictures (B, channels, S, S)."""
        logits: Tensor = self.head(self.features(flow))
        return logits

    def features(self, flow: Tensor) -> Tensor:
        """The last map: (B, 768, 7, 7) at 224 x 224."""
        # the norms and MLPs of the blocks act along channels: so nothing is transposed on the way
        x = ((flow - self.mean) / self.std).contiguous(memory_format=torch.channels_last)
        y: Tensor = self.stages(self.stem(x))
        return y


class Stage(nn.Module):
    """FDTB: downsampling but for the first and the fifth, then blocks."""

    def __init__(self, before: int, width: int, index: int, drops: list[float], options: Options) -> None:
        super().__init__()
        between = index and options.place == "between" and options.transform != "none"
        self.wadm = Wadm(before, options) if between else None
        self.downsample = (
            nn.Sequential(Norm(before), nn.Conv2d(before, width, 2, 2)) if 0 < index < 4 else nn.Identity()
        )
        self.doubled = index == 4
        self.blocks = nn.Sequential(*(Block(width, drop, options) for drop in drops))

    def forward(self, x: Tensor) -> Tensor:
        """(B, d_before, h, w) -> (B, d, h / 2, w / 2)."""
        x = x if self.wadm is None else self.wadm(x)
        x = torch.cat([x, x], 1) if self.doubled else self.downsample(x)
        y: Tensor = self.blocks(x)
        return y


class Block(nn.Module):
    """x + gamma * MLP(LN(mix(x))); mix is the WADM or ConvNeXt's depthwise convolution."""

    def __init__(self, width: int, drop_path: float, options: Options) -> None:
        super().__init__()
        plain = options.transform == "none" or options.place == "between"
        self.conv_dw = depthwise(width, options.kernel) if plain else Wadm(width, options)
        self.norm = nn.LayerNorm(width, eps=1e-6)
        self.mlp = Mlp(width)
        self.gamma = nn.Parameter(torch.full((width,), options.layer_scale)) if options.layer_scale else None
        self.drop_path = drop_path

    def forward(self, x: Tensor) -> Tensor:
        """(B, d, h, w) -> the same shape."""
        y: Tensor = self.mlp(self.norm(self.conv_dw(x).permute(0, 2, 3, 1)), self.gamma)
        if self.training and self.drop_path:
            kept = 1 - self.drop_path
            y = y * (torch.rand(len(y), 1, 1, 1, device=y.device) < kept).to(y.dtype) / kept
        return x + y.permute(0, 3, 1, 2)


class Mlp(nn.Module):
    """Linear to four times the width, GELU, linear back, times a factor a channel."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x: Tensor, gamma: Tensor | None) -> Tensor:
        """(..., d) -> (..., d)."""
        y = functional.gelu(self.fc1(x))
        if gamma is None:
            return functional.linear(y, self.fc2.weight, self.fc2.bias)
        # the factors go into the small matrix and not over the large map
        return functional.linear(y, gamma[:, None] * self.fc2.weight, gamma * self.fc2.bias)


class Head(nn.Module):
    """Mean over places, layer norm, linear."""

    def __init__(self, width: int, classes: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width, eps=1e-6)
        self.fc = nn.Linear(width, classes)

    def forward(self, features: Tensor) -> Tensor:
        """(B, d, h, w) -> (B, C)."""
        logits: Tensor = self.fc(self.norm(features.mean((2, 3))))
        return logits


class Norm(nn.LayerNorm):
    """Layer norm over the channels of maps."""

    def __init__(self, width: int) -> None:
        super().__init__(width, eps=1e-6)

    def forward(self, x: Tensor) -> Tensor:
        """(B, d, h, w) -> the same shape."""
        return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


def initialise(network: nn.Module, std: float) -> None:
    """N(0, std^2) cut at 2 in convolutions and linear layers and biases 0, as ConvNeXt begins; 0: as torch does."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            module.reset_parameters()
            if std:
                nn.init.trunc_normal_(module.weight, std=std)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
