"""Selective scan of Mamba (Gu & Dao, arXiv 2312.00752, algorithm 2) in torch alone, with a backward pass of its own.

    delta_t = softplus(dt_t + dt_bias)
    h_t = exp(delta_t a) h_{t-1} + delta_t b_t x_t,  h_0 = 0      (a state h of S numbers for every channel)
    y_t = sum over the S states of c_t h_t, + d x_t

The letters are the paper's: x input, dt and delta step, a decay, b and c into and out of the state, d skip. G groups of
sequences (the scans of MERba, each with its own a, d and dt_bias), N sequences a group, L tokens, D channels.

Memory traffic decides, not arithmetic and not the number of steps: decays, inputs and states of all tokens are S times
as large as x. So the sequences are cut into tiles and these into chunks of tokens that stay in the cache of the
processor; a chunk is a few operations over all its tokens, and one multiply-add a token. Only the states between
chunks are kept; the backward pass computes the others again.

Beside other forms, forward and backward, at 2,048 sequences of 49 tokens, 128 channels, 8 states on a shared CPU
(`benchmarks/selective_scan.py`): 24 times as fast on two threads, 33 times on one, as the plain form that holds all
decays and inputs and indexes them token by token, in .09 of its memory; 7 times as fast (one thread) as the plain form
with its tokens taken apart once. At 256 sequences, all in one run, log-step, a chunked matrix form and torch's private
`associative_scan` were slower than the latter, the loop that computes each token's decay inside it was the best of the
others, and this form the fastest. A cumulative sum over exp(-delta a) overflows for steps that a network may well take.
"""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from math import log
from typing import Any, NamedTuple

import torch
import torch.nn.functional as functional
from torch import Tensor
from torch.autograd.function import once_differentiable

_STEP, _CHUNK = 2**14, 2**18
"""State numbers of a token of a tile, and of a chunk, on the CPU: enough to hide the cost of a call, 1 MB a chunk."""
_GPU_STEP, _GPU_CHUNK = 2**22, 2**25
"""The same elsewhere: enough to fill the device, .5 GB of work space."""
_NARROW = 64
"""With fewer channels the sequences of a tile lie innermost, so that inner loops stay long."""

Where = tuple[slice, slice]


def selective_scan(
    x: Tensor, dt: Tensor, a: Tensor, b: Tensor, c: Tensor, d: Tensor | None = None, dt_bias: Tensor | None = None
) -> Tensor:
    """The scan; differentiable once, in every argument.

    It computes in float64 if an argument is float64, else in float32, under autocast too. On the CPU tiles are shared
    out to as many threads as torch may use; how they are cut depends on the shape alone, and partial sums are added in
    a fixed order.

    Args:
        x, dt: (G, N, L, D), L >= 1; any floating type, any strides.
        a: (G, D, S), negative.
        b, c: (G, N, L, S).
        d: (G, D), or None for no skip.
        dt_bias: (G, D), or None.

    Returns:
        (G, N, L, D), of x's type.

    Raises:
        ValueError: the shapes do not fit each other.
    """
    _check(x, dt, a, b, c, d, dt_bias)
    values = (x, dt, a, b, c, d, dt_bias)
    if torch.is_grad_enabled() and any(value is not None and value.requires_grad for value in values):
        y: Tensor = _Scan.apply(*values)  # type: ignore[no-untyped-call]
        return y
    return _Inputs(*values).forward(keep=False)[0]


def reference(
    x: Tensor, dt: Tensor, a: Tensor, b: Tensor, c: Tensor, d: Tensor | None = None, dt_bias: Tensor | None = None
) -> Tensor:
    """The recurrence as it is written above, token by token in float64, left to autograd. Slow: a yardstick.

    Args, Raises: as of `selective_scan`.

    Returns:
        (G, N, L, D) float64.
    """
    _check(x, dt, a, b, c, d, dt_bias)
    x, dt, a, b, c = (value.double() for value in (x, dt, a, b, c))
    delta = functional.softplus(dt if dt_bias is None else dt + dt_bias.double()[:, None, None])
    h = x.new_zeros(*x.shape[:2], *a.shape[1:])  # (G, N, D, S)
    outputs = []
    for t in range(x.shape[2]):
        step = delta[:, :, t, :, None]
        h = torch.exp(step * a[:, None]) * h + step * b[:, :, t, None, :] * x[:, :, t, :, None]
        outputs.append((c[:, :, t, None, :] * h).sum(-1))
    y = torch.stack(outputs, dim=2)
    return y if d is None else y + d.double()[:, None, None] * x


def _check(x: Tensor, dt: Tensor, a: Tensor, b: Tensor, c: Tensor, d: Tensor | None, dt_bias: Tensor | None) -> None:
    if x.dim() != 4 or a.dim() != 3 or x.shape[2] < 1:
        raise ValueError(f"want x (G, N, L >= 1, D) and a (G, D, S), got {tuple(x.shape)} and {tuple(a.shape)}")
    groups, count, length, width = x.shape
    into = (groups, count, length, a.shape[2])
    skip = (groups, width)
    wanted = {"dt": (dt, x.shape), "a": (a, (*skip, a.shape[2])), "b": (b, into), "c": (c, into)}
    wanted |= {name: (value, skip) for name, value in (("d", d), ("dt_bias", dt_bias)) if value is not None}
    for name, (value, shape) in wanted.items():
        if value.shape != shape:
            raise ValueError(f"want {name} {tuple(shape)} beside x {tuple(x.shape)}, got {tuple(value.shape)}")


class _Scan(torch.autograd.Function):
    """The scan for autograd: keeps its inputs, delta and the states between chunks."""

    @staticmethod
    def forward(ctx: Any, *values: Tensor | None) -> Tensor:
        y, delta, starts = _Inputs(*values).forward(keep=True)  # type: ignore[arg-type]
        ctx.save_for_backward(*values, delta, starts)
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        *values, delta, starts = ctx.saved_tensors
        return _Inputs(*values).backward(grad, delta, starts)


class _Tile(NamedTuple):
    """Some sequences of some groups, of one type, laid out for the work; g groups, n sequences."""

    x: Tensor  # (g, n, L, D)
    delta: Tensor  # (g, n, L, D)
    a: Tensor  # (g, 1, 1, S, D)
    b: Tensor  # (g, n, L, S)
    c: Tensor  # (g, n, L, S)

    def chunk(self, time: slice) -> "_Tile":
        x, delta, b, c = (value[:, :, time] for value in (self.x, self.delta, self.b, self.c))
        return _Tile(x, delta, self.a, b, c)

    def states(self, start: Tensor, decay: Tensor, states: Tensor) -> None:
        """Fills decay and states (g, n, L, S, D) of all tokens, from the state (g, n, S, D) before the first."""
        # exp2, as torch has it vectorised and three times as fast as exp
        torch.mul(self.delta[..., None, :], self.a / log(2), out=decay)
        torch.exp2(decay, out=decay)
        torch.mul((self.delta * self.x)[..., None, :], self.b[..., None], out=states)
        h = start
        for kept, state in zip(decay.unbind(2), states.unbind(2), strict=True):
            h = state.addcmul_(kept, h)


class _Inputs(NamedTuple):
    """The arguments of `selective_scan`."""

    x: Tensor
    dt: Tensor
    a: Tensor
    b: Tensor
    c: Tensor
    d: Tensor | None
    dt_bias: Tensor | None

    def forward(self, keep: bool) -> tuple[Tensor, Tensor, Tensor]:
        """y, then what the backward pass wants (empty unless `keep`): delta and the states before each chunk."""
        cut = _Cut.of(self)
        x, states, kind = self.x, self.a.shape[2], cut.kind
        y = torch.empty_like(x, memory_format=torch.contiguous_format)
        delta = torch.empty(x.shape if keep else (0,), dtype=kind, device=x.device)
        size = (len(cut.times), *x.shape[:2], states, x.shape[3])
        starts = torch.empty(size if keep else (0,), dtype=kind, device=x.device)

        def fill(index: int) -> None:
            where = cut.tiles[index]
            tile = cut.tile(self, where, self._delta(where, kind))
            befores = starts[:, *where] if keep else None
            y[where] = self._skipped(_forward(tile, cut, befores), tile.x, where)
            if keep:
                delta[where] = tile.delta

        _each(fill, len(cut.tiles), x.device)
        return y, delta, starts

    def backward(self, grad: Tensor, delta: Tensor, starts: Tensor) -> tuple[Tensor | None, ...]:
        """Gradients of all seven, None for what was not there."""
        cut = _Cut.of(self)
        x, dt, b, c = (torch.empty_like(v, memory_format=torch.contiguous_format) for v in self._long())
        sums: dict[int, tuple[Tensor, Tensor, Tensor]] = {}

        def fill(index: int) -> None:
            where = cut.tiles[index]
            tile, outer = cut.tile(self, where, delta[where]), cut.laid(grad[where])
            d_x, d_delta, d_b, d_c, d_a = _backward(tile, outer, cut, starts[:, *where])
            d_x = self._skipped(d_x, outer, where)
            # the slope of softplus at dt is the sigmoid of dt, 1 - exp(-delta)
            d_dt = d_delta.mul_(torch.expm1(-tile.delta).neg_())
            x[where], dt[where], b[where], c[where] = d_x, d_dt, d_b, d_c
            sums[index] = d_a, (outer * tile.x).sum((1, 2)), d_dt.sum((1, 2))

        _each(fill, len(cut.tiles), x.device)
        a = torch.zeros(self.a.shape, dtype=cut.kind, device=x.device)
        d, dt_bias = torch.zeros_like(a[..., 0]), torch.zeros_like(a[..., 0])
        for index, (groups, _) in enumerate(cut.tiles):
            for total, part in zip((a, d, dt_bias), sums[index], strict=True):
                total[groups] += part
        last = (None if old is None else new.to(old.dtype) for old, new in ((self.d, d), (self.dt_bias, dt_bias)))
        return x, dt, a.to(self.a.dtype), b, c, *last

    def _long(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        return self.x, self.dt, self.b, self.c

    def _delta(self, where: Where, kind: torch.dtype) -> Tensor:
        dt = self.dt[where].to(kind)
        return functional.softplus(dt if self.dt_bias is None else dt + self.dt_bias[where[0], None, None].to(kind))

    def _skipped(self, y: Tensor, x: Tensor, where: Where) -> Tensor:
        """y + d x, in place."""
        return y if self.d is None else y.addcmul_(x, self.d[where[0], None, None].to(y.dtype))


class _Cut(NamedTuple):
    """How the work is divided, by shape and device alone.

    Attributes:
        tiles: slices of groups and of sequences.
        times: slices of tokens, the first the longest.
        kind: the type to compute in.
        rows_inner: whether the sequences of a tile lie innermost in memory, or the channels.
    """

    tiles: list[Where]
    times: list[slice]
    kind: torch.dtype
    rows_inner: bool

    @classmethod
    def of(cls, inputs: _Inputs) -> "_Cut":
        groups, count, length, width = inputs.x.shape
        step, chunk = (_STEP, _CHUNK) if inputs.x.device.type == "cpu" else (_GPU_STEP, _GPU_CHUNK)
        state = max(1, width * inputs.a.shape[2])
        rows = max(1, min(count, step // state))
        many = max(1, min(groups, step // (state * rows))) if rows == count else 1
        chunks = -(-length // max(1, chunk // (state * rows * many)))
        tokens = -(-length // chunks)
        return cls(
            [(slice(g, g + many), slice(n, n + rows)) for g in range(0, groups, many) for n in range(0, count, rows)],
            [slice(t, t + tokens) for t in range(0, length, tokens)],
            torch.float64 if any(v is not None and v.dtype == torch.float64 for v in inputs) else torch.float32,
            width < _NARROW and rows > width,
        )

    def laid(self, value: Tensor) -> Tensor:
        """(g, n, ...) of the right type, dense in the chosen order."""
        value = value.to(self.kind)
        return value.movedim(1, -1).contiguous().movedim(-1, 1) if self.rows_inner else value.contiguous()

    def tile(self, inputs: _Inputs, where: Where, delta: Tensor) -> _Tile:
        x, b, c = (self.laid(value[where]) for value in (inputs.x, inputs.b, inputs.c))
        a = inputs.a[where[0]].to(self.kind).transpose(1, 2).contiguous()
        return _Tile(x, self.laid(delta), a[:, None, None], b, c)

    def space(self, tile: _Tile, count: int) -> Sequence[Tensor]:
        """`count` arrays (g, n, tokens of the longest chunk, S, D) of work space."""
        groups, rows, _, width = tile.x.shape
        inside = (self.times[0].stop, tile.b.shape[3], width)
        if self.rows_inner:
            return tile.x.new_empty(count, groups, *inside, rows).movedim(-1, 2).unbind()
        return tile.x.new_empty(count, groups, rows, *inside).unbind()


def _forward(tile: _Tile, cut: _Cut, befores: Tensor | None) -> Tensor:
    """The scan of a tile without the skip; fills the states before each chunk, (chunks, g, n, S, D), if wanted."""
    y = torch.empty_like(tile.x)
    space = cut.space(tile, 2)
    start = torch.zeros_like(space[0][:, :, 0])
    for index, time in enumerate(cut.times):
        part = tile.chunk(time)
        decay, states = (array[:, :, : part.x.shape[2]] for array in space)
        if befores is not None:
            befores[index] = start
        part.states(start, decay, states)
        start.copy_(states[:, :, -1])
        y[:, :, time] = states.mul_(part.c[..., None]).sum(3)
    return y


def _backward(tile: _Tile, grad: Tensor, cut: _Cut, befores: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Gradients of x (without the skip), delta, b, c and a (g, D, S), from that of y; chunks from last to first."""
    d_x, d_delta, d_b, d_c = (torch.empty_like(value) for value in (tile.x, tile.delta, tile.b, tile.c))
    space = cut.space(tile, 4)
    d_start = torch.zeros_like(space[0][:, :, 0])  # of the state before the chunk that was last worked on
    d_a = tile.a.new_zeros(tile.a[:, 0, 0].shape)
    for start, time in zip(reversed(befores.unbind()), reversed(cut.times), strict=True):
        part, outer = tile.chunk(time), grad[:, :, time, None]
        decay, states, d_h, work = (array[:, :, : part.x.shape[2]] for array in space)
        part.states(start, decay, states)
        d_c[:, :, time] = torch.mul(states, outer, out=work).sum(-1)
        torch.mul(part.c[..., None], outer, out=d_h)
        _reverse(d_h, decay, d_start)
        inner = torch.mul(d_h, part.b[..., None], out=work).sum(3)  # gradient of delta x
        d_b[:, :, time] = torch.mul(d_h, (part.delta * part.x)[:, :, :, None], out=work).sum(-1)
        # gradient of the exponent delta a: that of the state times what the last state left in it
        d_exponent = decay.mul_(d_h)
        d_exponent[:, :, 1:].mul_(states[:, :, :-1])
        d_exponent[:, :, 0].mul_(start)
        d_delta[:, :, time] = torch.mul(d_exponent, tile.a, out=work).sum(3).addcmul_(inner, part.x)
        d_a += d_exponent.mul_(part.delta[:, :, :, None]).sum((1, 2))
        d_x[:, :, time] = inner.mul_(part.delta)
    return d_x, d_delta, d_b, d_c, d_a.transpose(1, 2)


def _reverse(d_h: Tensor, decay: Tensor, d_start: Tensor) -> None:
    """Adds to each state's gradient what comes from later tokens; `d_start` holds it for the last, then the first."""
    grads, kept = d_h.unbind(2), decay.unbind(2)
    grads[-1].add_(d_start)
    for t in range(len(grads) - 1, 0, -1):
        grads[t - 1].addcmul_(kept[t], grads[t])
    torch.mul(grads[0], kept[0], out=d_start)


def _each(work: Callable[[int], None], count: int, device: torch.device) -> None:
    """Calls `work` with 0 .. count - 1, without gradients; on the CPU in as many threads as torch may use.

    Torch adds no threads inside them: its way of dividing one operation costs more than these operations take.
    """
    threads = torch.get_num_threads() if device.type == "cpu" and count > 1 else 1

    def alone(index: int) -> None:
        with torch.no_grad():  # a new thread does not know that gradients are off
            work(index)

    if threads == 1:
        for index in range(count):
            alone(index)
        return
    try:
        with ThreadPoolExecutor(threads, initializer=torch.set_num_threads, initargs=(1,)) as pool:
            list(pool.map(alone, range(count)))
    finally:
        torch.set_num_threads(threads)  # threads that start later would take over the 1
