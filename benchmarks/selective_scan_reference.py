"""Other ways to write the selective scan, all left to autograd: the yardsticks of `benchmarks/selective_scan.py`.

Each takes and returns what `fleeting.layers.selective_scan.selective_scan` does. `looped` computes the decays and
inputs of one token at a time, `chunked` those of eight, the others those of all.
"""

from __future__ import annotations

import torch
import torch.nn.functional as functional
from torch import Tensor


def plain(x: Tensor, dt: Tensor, a: Tensor, b: Tensor, c: Tensor, d: Tensor, dt_bias: Tensor) -> Tensor:
    """As the minimal public versions: decays and inputs of all tokens, then a loop over them."""
    decay, put = _materialised(x, dt, a, b, dt_bias)
    h = torch.zeros_like(put[:, :, 0])
    outputs = []
    for t in range(x.shape[2]):
        h = decay[:, :, t] * h + put[:, :, t]
        outputs.append((h * c[:, :, t, None]).sum(-1))
    return torch.stack(outputs, dim=2) + d[:, None, None] * x


def unbound(x: Tensor, dt: Tensor, a: Tensor, b: Tensor, c: Tensor, d: Tensor, dt_bias: Tensor) -> Tensor:
    """`plain` with its tokens taken apart once: indexing one by one makes autograd fill a whole array a token."""
    decay, put = _materialised(x, dt, a, b, dt_bias)
    h = torch.zeros_like(put[:, :, 0])
    outputs = []
    for kept, new, out in zip(decay.unbind(2), put.unbind(2), c.unbind(2), strict=True):
        h = kept * h + new
        outputs.append((h * out[:, :, None]).sum(-1))
    return torch.stack(outputs, dim=2) + d[:, None, None] * x


def looped(x: Tensor, dt: Tensor, a: Tensor, b: Tensor, c: Tensor, d: Tensor, dt_bias: Tensor) -> Tensor:
    """The same loop, each token's decay and input computed inside it, the states before the channels."""
    delta = functional.softplus(dt + dt_bias[:, None, None])
    turned = a.transpose(1, 2)[:, None]  # (G, 1, S, D)
    h = x.new_zeros(*x.shape[:2], *turned.shape[2:])
    outputs = []
    for step, value, into, out in zip(delta.unbind(2), x.unbind(2), b.unbind(2), c.unbind(2), strict=True):
        h = torch.exp(step[:, :, None] * turned) * h + (step * value)[:, :, None] * into[..., None]
        outputs.append((h * out[..., None]).sum(2))
    return torch.stack(outputs, dim=2) + d[:, None, None] * x


def log_step(x: Tensor, dt: Tensor, a: Tensor, b: Tensor, c: Tensor, d: Tensor, dt_bias: Tensor) -> Tensor:
    """Hillis and Steele: every token takes over from the one 1, 2, 4, ... before it."""
    decay, h = _materialised(x, dt, a, b, dt_bias)
    reach = 1
    while reach < x.shape[2]:
        h = torch.cat([h[:, :, :reach], h[:, :, reach:] + decay[:, :, reach:] * h[:, :, :-reach]], dim=2)
        decay = torch.cat([decay[:, :, :reach], decay[:, :, reach:] * decay[:, :, :-reach]], dim=2)
        reach *= 2
    return (h * c[:, :, :, None]).sum(-1) + d[:, None, None] * x


def chunked(x: Tensor, dt: Tensor, a: Tensor, b: Tensor, c: Tensor, d: Tensor, dt_bias: Tensor) -> Tensor:
    """In chunks of 8 tokens: a (8, 8) matrix of decays between tokens of a chunk for every channel and state."""
    size = 8
    delta = functional.softplus(dt + dt_bias[:, None, None])
    mask = torch.ones(size, size, dtype=torch.bool, device=x.device).tril()[..., None, None]
    h = x.new_zeros(*x.shape[:2], *a.shape[1:])
    outputs = []
    for start in range(0, x.shape[2], size):
        part = slice(start, start + size)
        reach = (delta[:, :, part, :, None] * a[:, None, None]).cumsum(2)  # (G, N, t, D, S)
        put = (delta * x)[:, :, part, :, None] * b[:, :, part, None]
        length = reach.shape[2]
        between = reach[:, :, :, None] - reach[:, :, None]  # (G, N, t, t, D, S)
        between = between.masked_fill(~mask[:length, :length], -torch.inf).exp()
        states = torch.einsum("gnijds,gnjds->gnids", between, put) + reach.exp() * h[:, :, None]
        h = states[:, :, -1]
        outputs.append((states * c[:, :, part, None]).sum(-1))
    return torch.cat(outputs, dim=2) + d[:, None, None] * x


def associative(x: Tensor, dt: Tensor, a: Tensor, b: Tensor, c: Tensor, d: Tensor, dt_bias: Tensor) -> Tensor:
    """Torch's own scan, private to it as of torch 2.13."""
    from torch._higher_order_ops import associative_scan

    def joined(first: tuple[Tensor, Tensor], second: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        return first[0] * second[0], second[0] * first[1] + second[1]

    decay, put = _materialised(x, dt, a, b, dt_bias)
    _, h = associative_scan(joined, (decay, put), dim=2, combine_mode="generic")
    return (h * c[:, :, :, None]).sum(-1) + d[:, None, None] * x


def _materialised(x: Tensor, dt: Tensor, a: Tensor, b: Tensor, dt_bias: Tensor) -> tuple[Tensor, Tensor]:
    """Decays and inputs of all tokens, (G, N, L, D, S)."""
    delta = functional.softplus(dt + dt_bias[:, None, None])
    decay = torch.exp(delta[..., None] * a[:, None, None])
    return decay, delta[..., None] * b[:, :, :, None] * x[..., None]


FORMS = {
    "plain": plain,
    "unbound": unbound,
    "looped": looped,
    "log_step": log_step,
    "chunked": chunked,
    "associative": associative,
}
