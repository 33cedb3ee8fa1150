"""Three shallow streams over optical flow and strain: 1,683 parameters, the baseline of the MEGC2019 challenge.

Liong et al., "Shallow Triple Stream Three-dimensional CNN (STSTNet) for Micro-expression Recognition", FG 2019.
Streams of 3, 5 and 8 filters, each convolution - ReLU - batch norm - max pooling - dropout, are concatenated,
averaged 2 x 2 and classified by one linear layer.

All three streams see the same picture with the same kernel size, so they are one convolution of 16 filters, and
nothing in them mixes filters: this network computes what three branches compute. In training on a CPU the time
goes into reading and writing the map of (B, 16, 30, 30); `_Stream` therefore does convolution, ReLU, batch norm
and max pooling in pieces that stay in the cache, on maps whose channels lie side by side (16 floats, one cache
line), and pools before it normalises: batch norm is an affine map of each channel, so the largest normalised
value of a window is the normalised largest value (smallest, where the factor is negative).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as functional
from pydantic import BaseModel, Field
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from fleeting.errors import UserError
from fleeting.records import Paper
from fleeting.training import Recipe

PAPER = Paper(
    title="Shallow Triple Stream Three-dimensional CNN (STSTNet) for Micro-expression Recognition",
    venue="FG",
    year=2019,
    doi="10.1109/FG.2019.8756567",
    parameters=1683,
    deviations=(
        "Dropout and training follow the authors' PyTorch code (after each pooling; Adam 5e-5, 800 epochs in batches "
        "of 256, the last epoch counts).",
        "The paper prints UAR .7605, which is macro precision; the authors' own log gives UAR .7186 (UF1 .7353).",
        "One convolution of 16 filters stands for the three of 3, 5 and 8: the same function and parameters.",
    ),
)

INPUT: tuple[str, dict[str, object]] = ("uvs28", {"areas": "whole"})

RECIPE = Recipe(epochs=800, batch=256, optimiser="adam", lr=5e-5)

STREAMS = (3, 5, 8)
_FILTERS = sum(STREAMS)
# samples a piece: 64 maps of 16 x 30 x 30 float32 are 3.7 MB; 32 to 128 measure alike, whole batches slower
_PIECE = 64


class Options(BaseModel, frozen=True, extra="forbid"):
    """Choices of the network.

    Attributes:
        dropout: probability after each stream's pooling, 0 to below 1.
    """

    dropout: float = Field(0.5, ge=0, lt=1)


SMALL = Options()


def build(shapes: Mapping[str, tuple[int, ...]], classes: int, options: Options) -> nn.Module:
    """The network for flow pictures of any size.

    Raises:
        UserError: `flow` is absent, has not three channels, or is smaller than 2 x 2.
    """
    shape = shapes.get("flow", ())
    if len(shape) != 3 or shape[0] != 3 or min(shape[1:]) < 2:
        raise UserError(f"ststnet: want flow of shape (3, h, w) with h, w >= 2, got {dict(shapes)}; use input uvs28")
    return STSTNet(shape, classes, options)


class STSTNet(nn.Module):
    """See the module. Input: flow (B, 3, h, w), channels u, v, strain, each 0..255 as published."""

    def __init__(self, shape: tuple[int, ...], classes: int, options: Options) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, _FILTERS, 3, padding=2)
        self.norm = nn.BatchNorm2d(_FILTERS)
        self.dropout = Dropout(options.dropout)
        # +2 by the convolution, 3 x 3 windows with a border of one, then pairs: 28 -> 30 -> 10 -> 5
        self.height, self.width = (((side + 1) // 3 + 1) // 2 for side in shape[1:])
        self.classify = nn.Linear(_FILTERS * self.height * self.width, classes)
        _keep_freed_memory()

    def forward(self, flow: Tensor) -> Tensor:
        """(B, 3, h, w) -> (B, classes) logits."""
        return self.head(self.features(flow))

    def features(self, flow: Tensor) -> Tensor:
        """(B, 3, 28, 28) -> (B, 16, 10, 10): the three pooled streams, side by side."""
        streams = self._fast if self.training and _is_plain_cpu(flow) else self._plain
        kept: Tensor = self.dropout(streams(flow))
        return kept

    def head(self, features: Tensor) -> Tensor:
        """(B, 16, 10, 10) -> (B, classes) logits of the 2 x 2 means.

        The mean is part of the weights (each of them four times, divided by four): averaging the features and its
        backward pass cost more than the whole classifier.
        """
        height, width = features.shape[2:]
        small = self.classify.weight.view(-1, _FILTERS, self.height, 1, self.width, 1) / 4
        spread = small.expand(-1, -1, -1, 2, -1, 2).reshape(-1, _FILTERS, 2 * self.height, 2 * self.width)
        # an odd last row or column belongs to no pair
        spread = functional.pad(spread, (0, width - 2 * self.width, 0, height - 2 * self.height))
        rows = features.permute(0, 2, 3, 1).flatten(1)
        return functional.linear(rows, spread.permute(0, 2, 3, 1).flatten(1), self.classify.bias)

    def _plain(self, flow: Tensor) -> Tensor:
        # channels side by side: on a CPU pooling and batch norm are several times faster so
        flow = flow.contiguous(memory_format=torch.channels_last)
        return functional.max_pool2d(self.norm(self.conv(flow).relu()), 3, 3, 1)

    def _fast(self, flow: Tensor) -> Tensor:
        norm = self.norm
        weights = (self.conv.weight, self.conv.bias, norm.weight, norm.bias)
        pooled, mean, variance, count = _Stream.apply(flow, *weights, norm.eps)  # type: ignore[no-untyped-call]
        momentum = norm.momentum or 0.0
        with torch.no_grad():
            norm.get_buffer("num_batches_tracked").add_(1)
            norm.get_buffer("running_mean").lerp_(mean, momentum)
            norm.get_buffer("running_var").lerp_(variance * (count / (count - 1)), momentum)
        return torch.as_tensor(pooled)


class Dropout(nn.Module):
    """Dropout whose mask is cut from 64-bit random words, 16 bits a value.

    torch draws one number a value, which on some processors costs a third of this network's training step. The
    probability of keeping is a multiple of 2^-16 (.5 is exact) and the kept values are scaled by its inverse.
    """

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.kept = max(1, round((1 - rate) * 65536))

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, h, w) -> the same shape; the identity in evaluation."""
        if not self.training or self.kept == 65536:
            return x
        batch, channels, height, width = x.shape
        words = torch.empty((x.numel() + 3) // 4, dtype=torch.int64, device=x.device).random_(-(2**63), None)
        # 1 where the 16 bits, -32768..32767, are below kept - 32768: a clamp is faster than a comparison and a cast
        bits = words.view(torch.int16)[: x.numel()].float()
        mask = (self.kept - 32768 - bits).clamp_(0, 1).mul_(65536 / self.kept).to(x.dtype)
        return x * mask.view(batch, height, width, channels).permute(0, 3, 1, 2)


class _Stream(torch.autograd.Function):
    """Convolution, ReLU, batch norm with the batch's statistics, 3 x 3 max pooling; backward by hand.

    With r = relu(conv(x)) of n values a channel, s = gamma / sigma and z = (r - mean) / sigma, the pooled output is
    s * pool(r) + (beta - s * mean). If g is the gradient at the output and scatter(g) the same on the map, at the
    place of each window's largest value,

        d beta = sum g,   d gamma = sum g z,   d r = s (scatter(g) - d beta / n - z d gamma / n),

    and d r, where r > 0, is the gradient of the convolution. `flow` gets no gradient: callers that want one take
    the plain path.
    """

    @staticmethod
    def forward(
        ctx: Any, flow: Tensor, weight: Tensor, bias: Tensor, gamma: Tensor, beta: Tensor, eps: float
    ) -> tuple[Tensor, Tensor, Tensor, int]:
        """Returns pooled (B, 16, h, w), the map's mean and biased variance (16,), and its values a channel."""
        padded = _padded(flow)
        weight = weight.contiguous(memory_format=torch.channels_last)
        sign = _sign(gamma)
        maps: list[Tensor] = []
        tops: list[Tensor] = []
        places: list[Tensor] = []
        moments: list[tuple[Tensor, Tensor, int]] = []
        for piece in padded.split(_PIECE):
            response = functional.conv2d(piece, weight, bias).relu_()
            response = response.contiguous(memory_format=torch.channels_last)
            moments.append(_moments(response))
            top, place = functional.max_pool2d(_ordered(response, sign), 3, 3, 1, return_indices=True)
            maps.append(response)
            tops.append(top)
            places.append(place)
        mean, variance, count = _joined(moments, flow.dtype)
        inverse = (variance + eps).rsqrt()
        top = _ordered(torch.cat(tops), sign)
        scale = gamma * inverse
        pooled = _affine(top, scale, beta - mean * scale)
        ctx.save_for_backward(padded, weight, gamma, mean, inverse, top, *maps, *places)
        ctx.count = count
        ctx.mark_non_differentiable(mean, variance)
        return pooled, mean, variance, count

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor, *_: Any) -> tuple[Tensor | None, ...]:
        """Gradients of (flow, weight, bias, gamma, beta, eps); those of flow and eps are None."""
        padded, weight, gamma, mean, inverse, top, *saved = ctx.saved_tensors
        maps, places = saved[: len(saved) // 2], saved[len(saved) // 2 :]
        gradient = gradient.contiguous(memory_format=torch.channels_last)
        d_beta = _per_channel(gradient)
        d_gamma = _per_channel(_affine(top, inverse, -mean * inverse).mul_(gradient))
        scale = gamma * inverse
        slope = -scale * inverse * d_gamma / ctx.count
        level = -scale * d_beta / ctx.count - slope * mean
        slope, level = (_row(vector, maps[0].shape[3]) for vector in (slope, level))
        d_weight, d_bias = torch.zeros_like(weight), torch.zeros_like(mean)
        pushed = _affine(gradient, scale, None).split(_PIECE)
        for piece, response, push, place in zip(padded.split(_PIECE), maps, pushed, places, strict=True):
            d_map = _map_gradient(response, push, place, slope, level)
            d_weight += _weight_gradient(d_map, piece, weight)
            d_bias += _per_channel(d_map)
        return None, d_weight, d_bias, d_gamma, d_beta, None


def _keep_freed_memory() -> None:
    """Lets the C library keep what a step frees, for the next step.

    glibc gives freed memory back to the system above twice the largest block that was ever mapped and freed, up to
    32 MiB; a step would then fault in its 20 MB of maps page by page, which can take longer than the step. One
    such block, freed untouched, lifts the limit for the life of the process. Elsewhere this does nothing.
    """
    torch.empty(31 << 20, dtype=torch.uint8)


def _is_plain_cpu(flow: Tensor) -> bool:
    """Whether `_Stream` may stand for the plain layers: it is written for a CPU and gives no gradient to flow."""
    return flow.device.type == "cpu" and not flow.requires_grad and not torch.is_autocast_enabled("cpu")


def _padded(flow: Tensor) -> Tensor:
    """(B, 3, h, w) -> (B, 3, h + 4, w + 4), channels side by side. The library's convolution takes a picture whose
    border is there in 60 % of the time of one that it has to pad."""
    batch, channels, height, width = flow.shape
    padded = flow.new_zeros(batch, height + 4, width + 4, channels)
    padded[:, 2:-2, 2:-2] = flow.permute(0, 2, 3, 1)
    return padded.permute(0, 3, 1, 2)


def _rows(x: Tensor) -> Tensor:
    """(B, C, h, w) with channels side by side -> (B h, w C), a view: long rows, so that a vector per channel,
    repeated w times, is applied by contiguous loops and not sixteen values at a time."""
    return x.permute(0, 2, 3, 1).reshape(x.shape[0] * x.shape[2], -1)


def _row(vector: Tensor, width: int) -> Tensor:
    """(C,) -> (width C,), for `_rows`. `Tensor.repeat` does the same in eight times the time."""
    return vector.expand(width, -1).reshape(-1)


def _per_channel(x: Tensor) -> Tensor:
    """(B, C, h, w) -> (C,) sums."""
    return _rows(x).sum(0).view(-1, x.shape[1]).sum(0)


def _affine(x: Tensor, scale: Tensor, shift: Tensor | None) -> Tensor:
    """x * scale + shift per channel, in the layout of `x`."""
    rows, width = _rows(x), x.shape[3]
    factor = _row(scale, width)
    out = rows * factor if shift is None else torch.addcmul(_row(shift, width), rows, factor)
    return out.view(x.shape[0], x.shape[2], width, x.shape[1]).permute(0, 3, 1, 2)


def _sign(gamma: Tensor) -> Tensor | None:
    """(C,) -1 where gamma < 0, else 1; None where no channel is negative."""
    negative = gamma < 0
    return torch.where(negative, -1.0, 1.0).to(gamma.dtype) if negative.any() else None


def _ordered(x: Tensor, sign: Tensor | None) -> Tensor:
    """x with negative channels negated: there the smallest value becomes the largest. Its own inverse."""
    return x if sign is None else _affine(x, sign, None)


def _moments(response: Tensor) -> tuple[Tensor, Tensor, int]:
    """Mean and mean square of each channel (float64), and the values a channel.

    Squares minus the squared mean, later, cancel little here: the border of the padded map alone keeps the mean
    within a few standard deviations, and rounding averages out over thousands of values.
    """
    count = response.numel() // response.shape[1]
    return _per_channel(response).double() / count, _per_channel(response * response).double() / count, count


def _joined(moments: list[tuple[Tensor, Tensor, int]], dtype: torch.dtype) -> tuple[Tensor, Tensor, int]:
    """Mean and biased variance of all pieces together, and the values a channel."""
    total = sum(count for _, _, count in moments)
    mean = sum((mean * (count / total) for mean, _, count in moments), torch.zeros(()))
    square = sum((square * (count / total) for _, square, count in moments), torch.zeros(()))
    return mean.to(dtype), (square - mean * mean).clamp_(min=0).to(dtype), total


def _map_gradient(response: Tensor, push: Tensor, place: Tensor, slope: Tensor, level: Tensor) -> Tensor:
    """Gradient before the ReLU: (scatter(push) + slope * response + level) where response > 0; both as `_row`."""
    pool = torch.ops.aten.max_pool2d_with_indices_backward
    d_map: Tensor = pool(push, response, [3, 3], [3, 3], [1, 1], [1, 1], False, place)
    _rows(d_map).addcmul_(_rows(response), slope).add_(level)
    torch.ops.aten.threshold_backward.grad_input(d_map, response, 0, grad_input=d_map)
    return d_map


def _weight_gradient(d_map: Tensor, piece: Tensor, weight: Tensor) -> Tensor:
    """(16, 3, 3, 3). Without the bias, whose gradient costs the library as much again and is a plain sum."""
    backward, mask = torch.ops.aten.convolution_backward, [False, True, False]
    out: Tensor = backward(d_map, piece, weight, None, [1, 1], [0, 0], [1, 1], False, [0, 0], 1, mask)[1]
    return out


def from_official(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A state dict of the authors' PyTorch network -> ours.

    The authors' pictures are read by OpenCV, unscaled: their channels are (strain, v, u) in 0..255. Ours are
    (u, v, strain) in 0..255, so the input channels of the kernels are reversed and nothing is scaled. Names:

        conv1, conv2, conv3 .weight, .bias        -> conv (filters concatenated)
        bn1, bn2, bn3 .weight, .bias, .running_*  -> norm (concatenated)
        fc .weight, .bias                         -> classify

    Raises:
        UserError: a name is missing.
    """
    try:
        joined = {
            f"{ours}.{name}": torch.cat([state[f"{theirs}{stream}.{name}"] for stream in (1, 2, 3)])
            for ours, theirs, names in (
                ("conv", "conv", ("weight", "bias")),
                ("norm", "bn", ("weight", "bias", "running_mean", "running_var")),
            )
            for name in names
        }
        joined["conv.weight"] = joined["conv.weight"].flip(1)
        joined["norm.num_batches_tracked"] = state["bn1.num_batches_tracked"]
        return {**joined, "classify.weight": state["fc.weight"], "classify.bias": state["fc.bias"]}
    except KeyError as error:
        raise UserError(f"want a state dict of the authors' STSTNet, got none of {error}; choose its .pth") from error
