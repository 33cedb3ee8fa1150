"""The selective scan against other ways to write it: `python benchmarks/selective_scan.py`.

Forward and backward at MERba's second stage: 4 scans of batch x 16 windows, 49 tokens, 128 channels, 8 states. The
forms take turns in one process, so that whatever else runs on the machine disturbs all alike; ratios are medians over
the turns. Memory is the peak of a fresh process for each form above what it held with inputs and output gradient made:
output, gradients and all work space (on the CPU resident memory, VmHWM; on a GPU what torch allocated).

On a GPU also the share of its bandwidth that our operations reach: bytes that they read and write, over the time,
over what a copy of 1 GB reaches.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from fleeting.layers.selective_scan import selective_scan
from selective_scan_reference import FORMS

GROUPS, WINDOWS = 4, 16
FORWARD_PASSES, BACKWARD_PASSES = 11, 34
"""How often ours reads or writes an array as large as all states."""


def main() -> None:
    arguments = _arguments()
    torch.set_num_threads(arguments.threads)
    if arguments.memory_of:
        print(_peak(arguments.memory_of, arguments))
        return
    shape = _shape(arguments)
    print(f"torch {torch.__version__}, {arguments.device}, {arguments.threads} threads")
    print("G {}, N {}, L {}, D {}, S {}: {:.1f} million states".format(*shape, _states(shape) / 1e6))
    peaks = {name: _peak_alone(name) for name in arguments.forms}
    seconds, forwards = _times(arguments)
    _print(seconds, forwards, peaks)
    if arguments.device.startswith("cuda"):
        _print_bandwidth(shape, statistics.median(seconds["ours"]), arguments.device)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--tokens", type=int, default=49)
    parser.add_argument("--channels", type=int, default=128)
    parser.add_argument("--states", type=int, default=8)
    parser.add_argument("--forms", nargs="+", choices=["ours", *FORMS], default=["plain", "ours"])
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--memory-of", help=argparse.SUPPRESS)
    return parser.parse_args()


def _shape(arguments: argparse.Namespace) -> tuple[int, int, int, int, int]:
    return GROUPS, arguments.batch * WINDOWS, arguments.tokens, arguments.channels, arguments.states


def _states(shape: tuple[int, int, int, int, int]) -> int:
    groups, count, length, width, states = shape
    return groups * count * length * width * states


def _inputs(shape: tuple[int, int, int, int, int], device: str) -> tuple[list[Tensor], Tensor]:
    """Arguments of the scan, as Mamba initialises a, and the gradient of its output."""
    groups, count, length, width, states = shape
    torch.manual_seed(0)
    sizes = [(groups, count, length, width)] * 2 + [(groups, count, length, states)] * 2 + [(groups, width)] * 2
    x, dt, b, c, d, dt_bias = (torch.randn(size, device=device) for size in sizes)
    a = -torch.arange(1.0, states + 1, device=device).expand(groups, width, states).clone()
    return [value.requires_grad_() for value in (x, dt, a, b, c, d, dt_bias)], torch.randn_like(x)


def _form(name: str) -> Callable[..., Tensor]:
    return selective_scan if name == "ours" else FORMS[name]


def _peak_alone(name: str) -> float:
    """Peak in MB of one forward and backward pass in a fresh process."""
    command = [sys.executable, __file__, *sys.argv[1:], "--memory-of", name]
    return float(subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()[-1])


def _peak(name: str, arguments: argparse.Namespace) -> float:
    """Peak in MB above what was held with the inputs made. A tiny pass comes first, so that no library is counted."""
    values, grad = _inputs((1, 1, 9, 8, 2), arguments.device)
    torch.autograd.grad(_form(name)(*values), values, grad)
    values, grad = _inputs(_shape(arguments), arguments.device)
    cuda = arguments.device.startswith("cuda")
    before = torch.cuda.memory_allocated() if cuda else _held("VmRSS")
    if cuda:
        torch.cuda.reset_peak_memory_stats()
    torch.autograd.grad(_form(name)(*values), values, grad)
    after = torch.cuda.max_memory_allocated() if cuda else _held("VmHWM")
    return (after - before) / 1e6


def _held(field: str) -> int:
    """A field of this process's state, in bytes."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(field))


def _times(arguments: argparse.Namespace) -> tuple[dict[str, list[float]], dict[str, list[float]]]:
    """Seconds of each turn of every form, forward and backward together, and forward alone. One turn is not timed."""
    values, grad = _inputs(_shape(arguments), arguments.device)
    seconds: dict[str, list[float]] = {name: [] for name in arguments.forms}
    forwards: dict[str, list[float]] = {name: [] for name in arguments.forms}
    first: list[Tensor] = []
    for turn in range(arguments.turns + 1):
        for name in arguments.forms:
            start = _now(arguments.device)
            y = _form(name)(*values)
            middle = _now(arguments.device)
            results = [y.detach(), *torch.autograd.grad(y, values, grad)]
            end = _now(arguments.device)
            if turn:
                seconds[name].append(end - start)
                forwards[name].append(middle - start)
            elif first:
                _check(name, first, results)
            first = first or results
            del y, results
    return seconds, forwards


def _now(device: str) -> float:
    if device.startswith("cuda"):
        torch.cuda.synchronize()
    return time.perf_counter()


def _check(name: str, first: list[Tensor], results: list[Tensor]) -> None:
    """Raises: AssertionError: output or gradients leave those of the first form by more than 1e-4 of the largest."""
    for one, other in zip(first, results, strict=True):
        worst = ((one - other).abs().max() / one.abs().max()).item()
        assert worst < 1e-4, f"{name} is off by {worst:.1e}"


def _print(seconds: dict[str, list[float]], forwards: dict[str, list[float]], peaks: dict[str, float]) -> None:
    least = {name: min(values) for name, values in seconds.items()}
    base = next(iter(seconds))
    print(
        f"{'form':12s} {'forward s':>10s} {'both s':>8s} {'least s':>8s} {'speed':>7s} {'peak MB':>8s} {'memory':>7s}"
    )
    for name, values in seconds.items():
        ratio = statistics.median(a / b for a, b in zip(seconds[base], values, strict=True))
        print(
            f"{name:12s} {statistics.median(forwards[name]):9.3f} {statistics.median(values):9.3f} "
            f"{least[name]:9.3f} {ratio:8.1f}x {peaks[name]:9.0f} {peaks[name] / peaks[base]:9.3f}"
        )
    print(f"speed and memory beside {base}; all forms agree within 1e-4 of the largest value, gradients too")


def _print_bandwidth(shape: tuple[int, int, int, int, int], seconds: float, device: str) -> None:
    source = torch.empty(2**28, device=device)
    target = torch.empty_like(source)
    target.copy_(source)
    start = _now(device)
    for _ in range(10):
        target.copy_(source)
    copied = 10 * 2 * source.nbytes / (_now(device) - start)
    moved = (FORWARD_PASSES + BACKWARD_PASSES) * 4 * _states(shape) / seconds
    print(f"ours moves {moved / 1e9:.0f} GB/s, {moved / copied:.2f} of what a copy reaches ({copied / 1e9:.0f} GB/s)")


if __name__ == "__main__":
    main()
