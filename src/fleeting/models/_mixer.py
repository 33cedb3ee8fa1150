"""MambaVision's mixer, several at a time: each reads the tokens of a window in an order of its own.

Glossary (letters of Mamba and of the papers -> here)

* C width; K orders (scans); G sets of weights: K, or 1 that all orders share; M windows; L tokens a window.
* D = C / 2 channels of the scanned half; N (state): size of the state a channel; R (rank) of the time step.
* Delta: time step, softplus of `step` and its bias; A: decay = -exp(decay_log); B, C: `read`; D: `skip`.

One mixer, tokens s (L, C) in the order of reading (MambaVision, section 3.3; MERba, figure 1):

    x = SiLU(conv(s W_x)), z = SiLU(conv(s W_z))         depthwise, kernel 3, over neighbours in the sequence
    Delta, B, C = x W_r;  Delta = Delta W_d + bias
    y = scan(x, Delta, A, B, C, D)                       h_t = exp(Delta A) h_(t-1) + Delta B x_t, y_t = C h_t + D x_t
    (y, z)                                               and a last linear layer, which is left to the caller

since MERba puts that layer after the sum of its four mixers. Here, as in the sum, tokens are back in their places.
"""

from __future__ import annotations

from math import log
from typing import Any, Literal

import torch
import torch.nn.functional as functional
from pydantic import BaseModel, Field
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from fleeting.layers import window
from fleeting.layers.selective_scan import selective_scan

_STEPS = (1e-3, 1e-1)
"""Time steps that Mamba begins with."""


class MixerOptions(BaseModel, frozen=True, extra="forbid"):
    """Of a mixer; the defaults are MambaVision's published code.

    Attributes:
        state: size of the state a channel.
        step_bias: the published code adds the bias of the time step in the linear layer and again in the scan:
            "twice", or "once" as Mamba does.
        step_start: how the time step begins: "zero": weights N(0, .02^2), bias 0, as the published code ends up when
            its general initialisation runs over Mamba's (Delta is .69 everywhere); "mamba": Mamba's own, Delta
            log-uniform between .001 and .1.
    """

    state: int = Field(8, ge=1)
    step_bias: Literal["twice", "once"] = "twice"
    step_start: Literal["zero", "mamba"] = "zero"


class Mixers(nn.Module):
    """K mixers side by side, summed.

    Args:
        width: C, even.
        orders: (K, L) tables of `layers.window.scans`.
        shared: whether the K orders share one set of weights.
        options: of the mixers.
    """

    def __init__(self, width: int, orders: Tensor, shared: bool, options: MixerOptions) -> None:
        super().__init__()
        half, groups = width // 2, 1 if shared else len(orders)
        self.rank = -(-width // 16)
        self.twice = options.step_bias == "twice"
        self.register_buffer("orders", orders, persistent=False)
        self.register_buffer("places", window.inverse(orders), persistent=False)
        # of x, then of z
        self.project = nn.ParameterList(torch.empty(groups, width, half) for _ in range(2))
        self.kernel = nn.ParameterList(torch.empty(groups, 3, half) for _ in range(2))
        self.read = nn.Parameter(torch.empty(groups, half, self.rank + 2 * options.state))
        self.step = nn.Parameter(torch.empty(groups, self.rank, half))
        self.step_bias = nn.Parameter(torch.zeros(groups, half))
        counted = torch.arange(1, options.state + 1, dtype=torch.float32)
        self.decay_log = nn.Parameter(counted.log().expand(groups, half, -1).clone())
        self.skip = nn.Parameter(torch.ones(groups, half))
        self._start(options)

    def forward(self, tokens: Tensor) -> Tensor:
        """(M, L, C) -> (M, L, C): the sum over orders, tokens in their places."""
        orders, places = self.get_buffer("orders"), self.get_buffer("places")
        sequences: Tensor = _Spread.apply(tokens, orders, places)  # type: ignore[no-untyped-call]  # (K, M, L, C)
        x, z = (self._half(sequences, index) for index in range(2))  # (G, K M / G, L, D)
        shape = (*sequences.shape[:3], x.shape[-1])
        parts = (self._scanned(x).reshape(shape), z.reshape(shape))
        return torch.cat([_Collect.apply(part, orders, places) for part in parts], -1)  # type: ignore[no-untyped-call]

    def _half(self, sequences: Tensor, index: int) -> Tensor:
        """SiLU(conv(s W)) of one half: (K, M, L, C) -> (G, K M / G, L, D) float32."""
        weight, length = self.project[index], sequences.shape[2]
        projected = torch.bmm(sequences.view(len(weight), -1, sequences.shape[3]), weight)
        kernel = self.kernel[index]
        projected = projected.view(len(weight), -1, length, weight.shape[2]).to(kernel.dtype)
        return functional.silu(_Convolution.apply(projected, kernel))  # type: ignore[no-untyped-call]

    def _scanned(self, x: Tensor) -> Tensor:
        """(G, N, L, D) -> (G, N, L, D)."""
        groups, shape = len(self.read), x.shape
        state = self.decay_log.shape[2]
        read = torch.bmm(x.view(groups, -1, shape[3]), self.read).unflatten(1, shape[1:3])
        step, b, c = read.split((self.rank, state, state), -1)
        step = torch.bmm(step.flatten(1, 2), self.step).view(shape)
        bias = 2 * self.step_bias if self.twice else self.step_bias
        decay = -torch.exp(self.decay_log)
        return selective_scan(x, step.to(x.dtype), decay, b.to(x.dtype), c.to(x.dtype), self.skip, bias)

    def _start(self, options: MixerOptions) -> None:
        """Linear layers as in `_blocks.initialise`, convolutions as torch's: uniform within 1 / sqrt(3)."""
        for weight in (*self.project, self.read, self.step):
            nn.init.trunc_normal_(weight, std=0.02)
        for kernel in self.kernel:
            nn.init.uniform_(kernel, -(3**-0.5), 3**-0.5)
        if options.step_start == "mamba":
            nn.init.uniform_(self.step, -(self.rank**-0.5), self.rank**-0.5)
            steps = torch.empty_like(self.step_bias).uniform_(log(_STEPS[0]), log(_STEPS[1])).exp()
            inverse = steps + torch.log(-torch.expm1(-steps))  # of softplus
            with torch.no_grad():
                self.step_bias.copy_(inverse / 2 if self.twice else inverse)


class Mixer(nn.Module):
    """MambaVision's block: the mixers and, after their sum, the linear layer (MERba, eq. 4)."""

    def __init__(self, mixers: Mixers, width: int) -> None:
        super().__init__()
        self.mixers = mixers
        self.out = nn.Linear(width, width, bias=False)

    def forward(self, tokens: Tensor) -> Tensor:
        """(M, L, C) -> (M, L, C)."""
        y: Tensor = self.out(self.mixers(tokens))
        return y


def _spread(tokens: Tensor, orders: Tensor) -> Tensor:
    """(M, L, C) -> (K, M, L, C), a copy in each order."""
    spread = tokens.new_empty(len(orders), *tokens.shape)
    for order, out in zip(orders, spread, strict=True):
        torch.index_select(tokens, 1, order, out=out)
    return spread


def _collect(sequences: Tensor, places: Tensor) -> Tensor:
    """(K, M, L, C) -> (M, L, C), the sum of all with tokens back in their places."""
    total = sequences[0].index_select(1, places[0])
    for place, sequence in zip(places[1:], sequences[1:], strict=True):
        total += sequence.index_select(1, place)
    return total


class _Spread(torch.autograd.Function):
    """`_spread`; its gradient is `_collect`, since every order is a permutation (torch would add one by one)."""

    @staticmethod
    def forward(ctx: Any, tokens: Tensor, orders: Tensor, places: Tensor) -> Tensor:
        ctx.save_for_backward(orders, places)
        return _spread(tokens, orders)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        return _Collect.apply(gradient, *ctx.saved_tensors), None, None  # type: ignore[no-untyped-call]


class _Collect(torch.autograd.Function):
    """`_collect`; its gradient is `_spread`."""

    @staticmethod
    def forward(ctx: Any, sequences: Tensor, orders: Tensor, places: Tensor) -> Tensor:
        ctx.save_for_backward(orders, places)
        return _collect(sequences, places)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        return _Spread.apply(gradient, *ctx.saved_tensors), None, None  # type: ignore[no-untyped-call]


class _Convolution(torch.autograd.Function):
    """Depthwise convolution of kernel 3 along a sequence, zeros outside; (G, N, L, D), kernel (G, 3, D).

    A sequence is taken as one row of L D numbers, of which the neighbours are D further on, so that inner loops are
    long however few the channels. On a CPU the library's takes half as long again, and has sequences turned for it.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, kernel: Tensor) -> Tensor:
        ctx.save_for_backward(x, kernel)
        rows, channels = x.flatten(2), x.shape[3]
        before, here, after = _rows(kernel, x.shape[2])
        y = rows * here
        y[..., channels:].addcmul_(rows[..., :-channels], before)
        y[..., :-channels].addcmul_(rows[..., channels:], after)
        return y.view(x.shape)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor]:
        x, kernel = ctx.saved_tensors
        rows, pushed, channels = x.flatten(2), gradient.flatten(2), x.shape[3]
        before, here, after = _rows(kernel, x.shape[2])
        d_x = pushed * here
        d_x[..., :-channels].addcmul_(pushed[..., channels:], before)
        d_x[..., channels:].addcmul_(pushed[..., :-channels], after)
        pairs = (
            (pushed[..., channels:], rows[..., :-channels]),
            (pushed, rows),
            (pushed[..., :-channels], rows[..., channels:]),
        )
        taps = [(one * other).sum(1).unflatten(1, (-1, channels)).sum(1) for one, other in pairs]
        return d_x.view(x.shape), torch.stack(taps, 1)


def _rows(kernel: Tensor, length: int) -> tuple[Tensor, Tensor, Tensor]:
    """The three taps (G, 1, L D), each repeated for all tokens that have that neighbour: L - 1, L, L - 1."""
    counts = (length - 1, length, length - 1)
    before, here, after = (
        tap[:, None].expand(-1, count, -1).reshape(len(tap), 1, -1)
        for tap, count in zip(kernel.unbind(1), counts, strict=True)
    )
    return before, here, after
