"""The non-causal state-space duality layer by number of tokens, beside attention: `python benchmarks/nc_ssd.py`.

From 49 to 3136 tokens (7 x 7 to 56 x 56 places), at the width of AMMSM's first stage: 2 heads of 64 channels, a state
of 64. Beside the layer: softmax attention with as many heads and channels, by torch's fused kernel and written out,
and the layer's own kernel between all pairs of tokens in float32. Forward and backward pass; the forms take turns in
one process, so that whatever else runs on the machine disturbs all alike. Of each form: the least time of all turns,
and the exponent of its growth from 784 tokens to 3136 (1: linear, 2: quadratic).
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from math import log
from pathlib import Path

import matplotlib as mpl
import torch
import torch.nn.functional as functional
from torch import Tensor

from fleeting.layers.nc_ssd import nc_ssd, quadratic

HEADS, CHANNELS, STATE = 2, 64, 64
SIDES = (7, 10, 14, 20, 28, 40, 56)
OUT = Path(__file__).parents[1] / "docs" / "results" / "ammsm_files" / "nc_ssd_cost.svg"
STYLES = {
    "nc_ssd": ("state-space duality, non-causal", "#2c5f8a", "-"),
    "pairs": ("the same, kernel of all pairs", "#6aa9dc", "--"),
    "fused": ("attention, fused kernel", "#d98306", "-"),
    "softmax": ("attention, written out", "#e8b66a", "--"),
}


def main() -> None:
    arguments = _arguments()
    torch.set_num_threads(arguments.threads)
    seconds = {side * side: _least(side * side, arguments) for side in SIDES}
    print(f"torch {torch.__version__}, {arguments.device}, {arguments.threads} threads, batch {arguments.batch}")
    print("ms forward and backward, least of all turns")
    print(f"{'tokens':>8s}" + "".join(f"{name:>10s}" for name in FORMS))
    for tokens, row in seconds.items():
        print(f"{tokens:8d}" + "".join(f"{1e3 * row[name]:10.2f}" for name in FORMS))
    print(f"{'growth':>8s}" + "".join(f"{_growth(seconds, name):10.2f}" for name in FORMS))
    _check()
    if arguments.out:
        _plot(seconds, arguments)
        print(f"wrote {arguments.out}")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--turns", type=int, default=25)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--out", type=Path, default=OUT)
    return parser.parse_args()


def _ours(x: Tensor, w: Tensor, b: Tensor, c: Tensor, d: Tensor) -> Tensor:
    return nc_ssd(x, w, b, c, d)


def _pairs(x: Tensor, w: Tensor, b: Tensor, c: Tensor, d: Tensor) -> Tensor:
    """Every token looks at every other: C B^T between all pairs, which the heads share, then weights and values."""
    mixed = (c @ b.transpose(1, 2))[:, None] @ (x * w[..., None]).transpose(1, 2)
    return mixed.transpose(1, 2) + x * d[:, None]


def _fused(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return functional.scaled_dot_product_attention(q, k, v)


def _softmax(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return (q @ k.transpose(2, 3) / q.shape[3] ** 0.5).softmax(-1) @ v


FORMS: dict[str, Callable[..., Tensor]] = {"nc_ssd": _ours, "pairs": _pairs, "fused": _fused, "softmax": _softmax}


def _inputs(name: str, tokens: int, batch: int, device: str) -> list[Tensor]:
    torch.manual_seed(0)
    if name in ("fused", "softmax"):
        sizes = [(batch, HEADS, tokens, CHANNELS)] * 3
    else:
        sizes = [(batch, tokens, HEADS, CHANNELS), (batch, tokens, HEADS)]
        sizes += [(batch, tokens, STATE)] * 2 + [(HEADS,)]
    values = [torch.randn(size, device=device) for size in sizes]
    if len(values) == 5:
        values[1] = values[1].abs() / tokens
    return [value.requires_grad_() for value in values]


def _least(tokens: int, arguments: argparse.Namespace) -> dict[str, float]:
    values = {name: _inputs(name, tokens, arguments.batch, arguments.device) for name in FORMS}
    least = dict.fromkeys(FORMS, float("inf"))
    for turn in range(arguments.turns + 2):
        for name, form in FORMS.items():
            start = _now(arguments.device)
            y = form(*values[name])
            torch.autograd.grad(y, values[name], y.detach())
            if turn > 1:
                least[name] = min(least[name], _now(arguments.device) - start)
    return least


def _now(device: str) -> float:
    if device.startswith("cuda"):
        torch.cuda.synchronize()
    return time.perf_counter()


def _growth(seconds: dict[int, dict[str, float]], name: str) -> float:
    (few, before), *_, (many, after) = list(seconds.items())[-3:]
    return log(after[name] / before[name]) / log(many / few)


def _check() -> None:
    """Raises: AssertionError: the layer or its kernel of all pairs leaves the float64 reference by more than 1e-5."""
    for tokens in (49, 3136):
        values = _inputs("nc_ssd", tokens, 1, "cpu")
        with torch.no_grad():
            wanted = quadratic(*values)
            for form in (_ours, _pairs):
                worst = ((form(*values).double() - wanted).abs().max() / wanted.abs().max()).item()
                assert worst < 1e-5, f"{form.__name__} at {tokens} tokens is off by {worst:.1e}"
    print("both forms of the layer agree with the float64 reference within 1e-5 of the largest value")


def _plot(seconds: dict[int, dict[str, float]], arguments: argparse.Namespace) -> None:
    mpl.use("Agg")
    mpl.rcParams["svg.hashsalt"] = "nc_ssd"
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.4, 4.2), layout="constrained")
    axes = figure.add_subplot()
    tokens = list(seconds)
    for name, (label, colour, line) in STYLES.items():
        values = [1e3 * row[name] for row in seconds.values()]
        growth = _growth(seconds, name)
        axes.plot(tokens, values, line, color=colour, marker="o", markersize=4, label=f"{label}: tokens^{growth:.1f}")
    axes.set(xscale="log", yscale="log", xlabel="tokens", ylabel="ms, forward and backward")
    axes.set_xticks(tokens, [str(count) for count in tokens])
    axes.minorticks_off()
    axes.grid(alpha=0.3)
    axes.legend(frameon=False, fontsize=9)
    axes.set_title(
        f"{arguments.device}, threads: {arguments.threads}, batch {arguments.batch}", fontsize=10, loc="left"
    )
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(arguments.out, metadata={"Date": None})


if __name__ == "__main__":
    main()
