"""BOWAM's wavelet attention module (WADM, section 3.2, equations 2 to 6), and what Table 11(b) puts in its place.

    LL, LH, HL, HH = DWT(X)                                                                                       (2)
    F_spatial = sigma(Conv(max over channels of LL, mean over channels of LL)) * LL                               (3)
    H = concat(LH, HL, HH)                                                                                        (4)
    F_channel = sigma(MLP(max over places of H) + MLP(mean over places of H)) * H                                 (5)
    Y = ReLU(BN(Conv(IDWT(F_spatial, F_channel))))                                                                (6)

Maps are (B, C, H, W), channels-last in memory; the output has the size of the input.
"""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as functional
from pydantic import Field, field_validator, model_validator
from torch import Tensor, nn

from fleeting.errors import UserError
from fleeting.layers import wavelet
from fleeting.models import _frequency
from fleeting.models._timm import Start


class WadmOptions(Start, frozen=True, extra="forbid"):
    """The module. Defaults are the paper's; of the start (`weights`, `weights_sha256`) see `_timm`.

    Attributes:
        transform: "wavelet"; "none": no module, the plain depthwise convolution of ConvNeXt; Table 11(b)'s "fourier":
            four bands with sharp edges under the same attentions, and "freqhd": two bands of Freq-HD's spatial filter,
            each weighed by its power.
        wavelet: name of a discrete wavelet of PyWavelets; Table 7: "haar", "db4", "sym5", "bior2.2", "coif5".
        spatial: attention on LL. channel: attention on the high bands. Without both, the transform and its inverse
            undo each other and are left out: the convolution, batch norm and ReLU remain.
        ratio: of the width of the high bands to that of the MLP's hidden layer (Table 8).
        spatial_kernel: side of the convolution in (3); 3 by Table 9, the published code has 7.
        mlp: "shared" by the pooled maxima and means, or "separate" (Table 6).
        odd: how a map of odd side is transformed: "exact", the last row and column repeated, and perfectly rebuilt;
            "bilinear" as the published code does: resized to a pixel less, and back.
        kernel: side of the depthwise convolution in (6).
    """

    transform: Literal["wavelet", "fourier", "freqhd", "none"] = "wavelet"
    wavelet: str = "haar"
    spatial: bool = True
    channel: bool = True
    ratio: int = Field(16, ge=1)
    spatial_kernel: int = Field(3, ge=1)
    mlp: Literal["shared", "separate"] = "shared"
    odd: Literal["exact", "bilinear"] = "exact"
    kernel: int = Field(7, ge=1)

    @field_validator("wavelet")
    @classmethod
    def _known(cls, name: str) -> str:
        try:
            wavelet.taps(name)
        except UserError as error:
            raise ValueError(str(error)) from error
        return name

    @model_validator(mode="after")
    def _check(self) -> WadmOptions:
        if not (self.kernel % 2 and self.spatial_kernel % 2):
            raise ValueError(f"want odd kernels, got kernel {self.kernel} and spatial_kernel {self.spatial_kernel}")
        if self.transform in ("none", "freqhd") and (self.spatial or self.channel):
            raise ValueError(f"transform {self.transform!r} has no bands to attend to: set spatial and channel = false")
        return self


class Wadm(nn.Module):
    """Equations 2 to 6, the convolution depthwise."""

    def __init__(self, width: int, options: WadmOptions) -> None:
        super().__init__()
        self.options = options
        self.spatial = Spatial(options.spatial_kernel) if options.spatial else None
        self.channel = Channel(3 * width, options.ratio, options.mlp == "shared") if options.channel else None
        self.conv = depthwise(width, options.kernel)
        self.norm = nn.BatchNorm2d(width)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> the same shape."""
        y: Tensor = functional.relu(self.norm(self.conv(self.attended(x))))
        return y

    def attended(self, x: Tensor) -> Tensor:
        """X_idwt, the map that is put together again."""
        transform, size = self.options.transform, (x.shape[2], x.shape[3])
        if transform == "freqhd":
            return _weighed(x)
        if self.spatial is None and self.channel is None and self.options.odd == "exact":
            return x
        if transform == "fourier":
            whole: Tensor = self._weigh(_frequency.quarters(x)).sum(1)
            return whole
        even = (size[0] - size[0] % 2, size[1] - size[1] % 2)
        if self.options.odd == "exact" or even == size or min(even) == 0:
            return wavelet.idwt(self._weigh(wavelet.dwt(x, self.options.wavelet)), self.options.wavelet, size)
        x = functional.interpolate(x, even, mode="bilinear")
        y = wavelet.idwt(self._weigh(wavelet.dwt(x, self.options.wavelet)), self.options.wavelet, even)
        return functional.interpolate(y, size, mode="bilinear")

    def _weigh(self, bands: Tensor) -> Tensor:
        """Both attentions on (B, 4, C, h, w)."""
        width = bands.shape[2]
        low, high = bands.flatten(1, 2).split([width, 3 * width], 1)  # the gradient of two slices would be two maps
        low = low if self.spatial is None else low * self.spatial(low)
        high = high if self.channel is None else high * self.channel(high)
        weighed: Tensor = torch.cat([low, high], 1).unflatten(1, (4, -1))
        return weighed


class Spatial(nn.Module):
    """Equation 3: a weight a place, from the maximum and the mean of its channels; without bias, as in CBAM."""

    def __init__(self, kernel: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(2, 1, kernel, padding=kernel // 2, bias=False)

    def forward(self, low: Tensor) -> Tensor:
        """(B, C, h, w) -> (B, 1, h, w) in 0..1."""
        pooled = torch.stack([low.amax(1), low.mean(1)], 1)
        return torch.sigmoid(self.conv(pooled))


class Channel(nn.Module):
    """Equation 5: a weight a channel, from its maximum and its mean over the places; without biases, as in CBAM."""

    def __init__(self, width: int, ratio: int, shared: bool) -> None:
        super().__init__()
        self.mlp = _mlp(width, max(1, width // ratio))
        self.mlp_of_means = None if shared else _mlp(width, max(1, width // ratio))

    def forward(self, high: Tensor) -> Tensor:
        """(B, 3 C, h, w) -> (B, 3 C, 1, 1) in 0..1."""
        largest, mean = high.amax((2, 3)), high.mean((2, 3))
        return torch.sigmoid(self.mlp(largest) + (self.mlp_of_means or self.mlp)(mean))[..., None, None]


def depthwise(width: int, kernel: int) -> nn.Conv2d:
    """A convolution of each channel by itself, size kept."""
    return nn.Conv2d(width, width, kernel, padding=kernel // 2, groups=width)


def _mlp(width: int, hidden: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(width, hidden, bias=False), nn.ReLU(), nn.Linear(hidden, width, bias=False))


def _weighed(x: Tensor) -> Tensor:
    """Freq-HD's frequency analysis of one picture: its two bands, each weighed by its share of the power.

    Its temporal transform of a clip of one frame is that frame, so the dynamics of a band are the mean of its squares;
    the two weights of a channel sum to 2, and equal powers leave a map as it is.
    """
    low = _frequency.smooth(x)
    high = x - low
    powers = torch.stack([low.square().mean((2, 3)), high.square().mean((2, 3))])
    shares = 2 * powers / (powers.sum(0) + 1e-12)
    return low * shares[0][..., None, None] + high * shares[1][..., None, None]
