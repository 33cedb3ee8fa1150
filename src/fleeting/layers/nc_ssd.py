"""Non-causal state-space duality: every token reads one sum over all tokens; the cost grows linearly with their number.

Shi, Dong, Li and Xu, "VSSD: Vision Mamba with Non-Causal State Space Duality", ICCV 2025 (arXiv 2407.18559). For each
head, with tokens l = 1 .. L,

    H = sum_l w_l b_l x_l^T          (state, channels): the one state that all tokens share
    y_l = H^T c_l + d x_l

without mask, softmax or normaliser. Written out, y = K x + d x with K_lm = (c_l . b_m) w_m: linear attention.

How much a token adds, w_l, follows from the time step dt_l > 0 and the head's decay a < 0:

    "step"      w_l = dt_l |a|               VSSD's published code
    "inverse"   w_l = dt_l / exp(dt_l a)     VSSD's equation, AMMSM's equation 6

The equation divides h_l = A_l h_(l-1) + B_l x_l by A_l and lets the state count, h_l = h_(l-1) + B_l x_l / A_l. There A
and B are those of the discrete system, as Mamba2 has them: A_l = exp(dt_l a), B_l = dt_l b_l.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

Weights = Literal["step", "inverse"]
"""How a token is weighed."""


def token_weights(dt: Tensor, a: Tensor, weights: Weights = "step") -> Tensor:
    """How much each token adds to the state.

    Args:
        dt: (B, L, H) time steps, positive.
        a: (H,) decays, negative.
        weights: see the module.

    Returns:
        (B, L, H), positive.

    Raises:
        ValueError: there is no such rule.
    """
    if weights not in ("step", "inverse"):
        raise ValueError(f"want weights 'step' or 'inverse', got {weights!r}")
    rate = dt * a
    return -rate if weights == "step" else dt * torch.exp(-rate)


def nc_ssd(x: Tensor, w: Tensor, b: Tensor, c: Tensor, d: Tensor, keep: Tensor | None = None) -> Tensor:
    """The layer, in two matrix products for all heads together.

    Args:
        x: (B, L, H, P) tokens of H heads with P channels each.
        w: (B, L, H) weights of the tokens, of `token_weights`.
        b: (B, L, N) how a token writes to the state, the same for all heads.
        c: (B, L, N) how it reads from the state.
        d: (H,) share of a token that passes by the state.
        keep: (B, L) bool, tokens that count; samples may keep different numbers. A dropped token adds nothing to the
            state and is not computed. None: all.

    Returns:
        (B, L, H, P); 0 at dropped tokens.

    Raises:
        ValueError: shapes that do not fit.
    """
    _check(x, w, b, c, d, keep)
    if keep is None:
        return _all(x, w, b, c, d)
    count = int(keep.sum(1).max()) if keep.numel() else 0
    order = keep.to(torch.uint8).argsort(dim=1, descending=True, stable=True)[:, :count]  # kept ones first
    chosen = (order + keep.shape[1] * torch.arange(len(keep), device=keep.device)[:, None]).flatten()
    real = keep.flatten()[chosen].unflatten(0, order.shape)  # a sample that keeps fewer is filled up with dropped ones
    x_, w_, b_, c_ = (part.flatten(0, 1).index_select(0, chosen).unflatten(0, order.shape) for part in (x, w, b, c))
    y = _all(x_, w_ * real[..., None], b_, c_, d) * real[..., None, None]
    whole: Tensor = y.new_zeros(x.shape).flatten(0, 1).index_copy(0, chosen, y.flatten(0, 1))
    return whole.view(x.shape)


def quadratic(x: Tensor, w: Tensor, b: Tensor, c: Tensor, d: Tensor, keep: Tensor | None = None) -> Tensor:
    """The same with the kernel between all pairs of tokens written out, in float64: what `nc_ssd` is measured against.

    Args:
        x, w, b, c, d, keep: see `nc_ssd`.

    Returns:
        (B, L, H, P) float64.
    """
    x, w, b, c, d = (part.double() for part in (x, w, b, c, d))
    kernel = torch.einsum("bln,bmn,bmh->bhlm", c, b, w)
    if keep is not None:
        kernel = kernel * (keep[:, None, :, None] & keep[:, None, None, :])
    y = torch.einsum("bhlm,bmhp->blhp", kernel, x) + x * d[:, None]
    return y if keep is None else y * keep[..., None, None]


def _all(x: Tensor, w: Tensor, b: Tensor, c: Tensor, d: Tensor) -> Tensor:
    """Every token counts. B and C are common to the heads, so their channels stand side by side in one product."""
    state = b.transpose(1, 2) @ (x * w[..., None]).flatten(2)  # (B, N, H P)
    read: Tensor = (c @ state).unflatten(2, x.shape[2:])
    return read + x * d[:, None]


def _check(x: Tensor, w: Tensor, b: Tensor, c: Tensor, d: Tensor, keep: Tensor | None) -> None:
    tokens, heads = x.shape[:2], x.shape[2:3]
    fit = x.ndim == 4 and w.shape == (*tokens, *heads) and b.shape == c.shape and d.shape == heads
    if not fit or b.ndim != 3 or b.shape[:2] != tokens or (keep is not None and keep.shape != tokens):
        shapes = [tuple(part.shape) for part in (x, w, b, c, d) if part is not None]
        raise ValueError(f"want x (B, L, H, P), w (B, L, H), b and c (B, L, N), d (H), keep (B, L), got {shapes}")
