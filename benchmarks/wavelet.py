"""The wavelet transform of feature maps, forward and backward, beside the same transform as one 2-D convolution.

    python benchmarks/wavelet.py                       # coif5 at (8, 64, 56, 56), the size that is promised
    python benchmarks/wavelet.py --wavelets haar db4 coif5 --shape 64 16 28 28

The other form is the usual one: four kernels of length x length taps for each channel, in a grouped convolution of
stride 2 over the map continued periodically (`wavelet_reference`). Both run in turn in one process; the speed is the
median of the ratios turn by turn, and forward and backward results must agree.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import torch
from torch import Tensor

from fleeting.layers import wavelet
from wavelet_reference import kernels, not_separable

PROMISED = 3.0
"""How much faster coif5 at (8, 64, 56, 56) must be."""


def main() -> None:
    arguments = _arguments()
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(0)
    shape = tuple(arguments.shape)
    x = torch.randn(shape, device=arguments.device)
    if arguments.layout == "last":
        x = x.contiguous(memory_format=torch.channels_last)
    print(f"torch {torch.__version__}, {arguments.device}, {arguments.threads} threads, maps {shape}, "
          f"channels {arguments.layout}")  # fmt: skip
    print(f"{'wavelet':10s} {'taps':>5s} {'ours ms':>9s} {'2-D convolution ms':>20s} {'speed':>8s}")
    for name in arguments.wavelets:
        ours, theirs = _turns(name, x, arguments.turns)
        speed = statistics.median(other / own for own, other in zip(ours, theirs, strict=True))
        print(f"{name:10s} {len(wavelet.taps(name)[0]):5d} {1e3 * statistics.median(ours):9.2f} "
              f"{1e3 * statistics.median(theirs):20.2f} {speed:7.1f}x")  # fmt: skip
        if name == "coif5" and shape == (8, 64, 56, 56):
            assert speed >= PROMISED, f"want at least {PROMISED} times the speed, got {speed:.1f}"


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("--wavelets", nargs="+", default=["haar", "db4", "sym5", "bior2.2", "coif5"])
    parser.add_argument("--shape", type=int, nargs=4, default=[8, 64, 56, 56], metavar=("B", "C", "H", "W"))
    parser.add_argument("--layout", choices=["first", "last"], default="first")
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default="cpu")
    return parser.parse_args()


def _turns(name: str, x: Tensor, turns: int) -> tuple[list[float], list[float]]:
    """Seconds of each turn, ours and the other's. One turn is not timed but compared."""
    weight = kernels(name, x.shape[1], x)
    forms: list[Callable[[Tensor], Tensor]] = [
        lambda x: wavelet.dwt(x, name),
        lambda x: not_separable(x, weight),
    ]
    grad = torch.randn_like(wavelet.dwt(x, name))
    first = [_timed(form, x, grad)[1] for form in forms]
    for one, other in zip(*first, strict=True):
        worst = ((one - other).abs().max() / one.abs().max()).item()
        assert worst < 1e-4, f"{name}: the two differ by {worst:.1e} of the largest value"
    seconds: tuple[list[float], list[float]] = ([], [])
    for _ in range(turns):
        for form, taken in zip(forms, seconds, strict=True):
            taken.append(_timed(form, x, grad)[0])
    return seconds


def _timed(form: Callable[[Tensor], Tensor], x: Tensor, grad: Tensor) -> tuple[float, list[Tensor]]:
    """Seconds of a forward and a backward pass, the bands and the gradient."""
    x = x.detach().requires_grad_()
    start = _now(x.device)
    bands = form(x)
    (gradient,) = torch.autograd.grad(bands, x, grad)
    return _now(x.device) - start, [bands.detach(), gradient]


def _now(device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter()


if __name__ == "__main__":
    main()
