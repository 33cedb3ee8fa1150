"""BOWAM and its variants: parameters and multiplications beside Table 10, and the time of training steps.

    python benchmarks/bowam.py                 # counts, and steps of the small networks
    python benchmarks/bowam.py --full          # also one forward and backward pass of each paper-size variant at 224

Multiplications are those of matrix products and convolutions, as the paper's FLOPs evidently are (its 4.47 G for four
stages is what is usually given for ConvNeXt-T). The readings of where the module sits stand beside the paper's numbers.
"""

from __future__ import annotations

import argparse
import statistics
import time
from typing import Any

import torch
import torch.nn.functional as functional
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from fleeting.models import bowam, convnext

OFF = {"spatial": False, "channel": False}
PAPER = {3: (13.99, 3.71), 4: (31.45, 4.47), 5: (96.30, 7.28)}
"""Table 10: millions of parameters and billions of operations by number of stages."""
READINGS: dict[str, dict[str, Any]] = {"in every block": {}, "between stages": {"place": "between"}, "none": OFF}
VARIANTS: dict[str, dict[str, Any]] = {
    "B plain": {"transform": "none", **OFF},
    "C wavelet": OFF,
    "D + channel": {"spatial": False},
    "E + spatial": {"channel": False},
    "F both": {},
    "3 stages": {"stages": 3},
    "5 stages": {"stages": 5},
    "between": {"place": "between"},
    "separate": {"mlp": "separate"},
    **{name: {"wavelet": name} for name in ("db4", "sym5", "bior2.2", "coif5")},
    "fourier": {"transform": "fourier"},
    "freqhd": {"transform": "freqhd", **OFF},
}


def main() -> None:
    arguments = _arguments()
    torch.set_num_threads(arguments.threads)
    print(f"torch {torch.__version__}, {arguments.threads} threads\n")
    _print_readings()
    _print_counts()
    print(f"\none training step in ms, 28 x 28, batch {arguments.batch}, SMALL, median of {arguments.turns}")
    small = {name: change for name, change in VARIANTS.items() if name not in ("5 stages",)}
    networks = {name: _small(change) for name, change in small.items()}
    networks["timm"] = convnext.build({"flow": (3, 28, 28)}, 3, convnext.SMALL)
    for name, milliseconds in _steps(networks, arguments).items():
        print(f"  {name:14s} {milliseconds:8.1f}")
    if arguments.full:
        _print_full(arguments.full_batch)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--turns", type=int, default=7)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--full", action="store_true")
    parser.add_argument("--full-batch", type=int, default=2)
    return parser.parse_args()


def _counts(**options: Any) -> tuple[float, float]:
    """Millions of parameters and billions of multiplications at 224 x 224 with three classes."""
    with torch.device("meta"):
        network = bowam.build({"flow": (3, 224, 224)}, 3, bowam.Options(**options)).eval()
        with FlopCounterMode(display=False) as counter:
            network(torch.zeros(1, 3, 224, 224))
    return sum(value.numel() for value in network.parameters()) / 1e6, counter.get_total_flops() / 2e9


def _print_readings() -> None:
    print("Table 10, parameters in millions and operations in billions, and how far each reading is from it")
    print(f"  {'stages':6s} {'paper':>14s}" + "".join(f" {name:>30s}" for name in READINGS))
    for stages, (millions, billions) in PAPER.items():
        cells = []
        for reading in READINGS.values():
            ours = _counts(stages=stages, **reading)
            off = f"({100 * (ours[0] / millions - 1):+.1f} %, {100 * (ours[1] / billions - 1):+.1f} %)"
            cells.append(f"{ours[0]:6.2f} {ours[1]:5.2f} {off}")
        print(f"  {stages:<6d} {millions:8.2f} {billions:5.2f}" + "".join(f" {cell:>30s}" for cell in cells))


def _print_counts() -> None:
    print("\nvariants at 224 x 224 (Haar's additions are not counted, products of longer wavelets are)")
    for name, change in VARIANTS.items():
        print("  {:14s} {:7.2f} M {:6.2f} G".format(name, *_counts(**change)))


def _small(change: dict[str, Any]) -> nn.Module:
    torch.manual_seed(0)
    options = bowam.Options(**{**bowam.SMALL.model_dump(), **change})
    return bowam.build({"flow": (3, 28, 28)}, 3, options)


def _steps(networks: dict[str, nn.Module], arguments: argparse.Namespace) -> dict[str, float]:
    """Median ms of a step, the networks in turn so that another load on the machine falls on all."""
    x, target = torch.rand(arguments.batch, 3, 28, 28), torch.randint(0, 3, (arguments.batch,))
    optimisers = {name: torch.optim.AdamW(network.parameters(), 1e-4) for name, network in networks.items()}
    seconds: dict[str, list[float]] = {name: [] for name in networks}
    for turn in range(arguments.turns + 1):
        for name, network in networks.items():
            start = time.perf_counter()
            loss = functional.cross_entropy(network(x), target)
            optimisers[name].zero_grad(set_to_none=True)
            loss.backward()
            optimisers[name].step()
            if turn:
                seconds[name].append(time.perf_counter() - start)
    return {name: 1e3 * statistics.median(values) for name, values in seconds.items()}


def _print_full(batch: int) -> None:
    print(f"\none forward and backward pass at 224 x 224, batch {batch}")
    x = torch.rand(batch, 3, 224, 224)
    for name, change in VARIANTS.items():
        torch.manual_seed(0)
        network = bowam.build({"flow": (3, 224, 224)}, 3, bowam.Options(**change))
        network(x).sum().backward()  # the first pass makes the matrices
        start = time.perf_counter()
        logits = network(x)
        middle = time.perf_counter()
        logits.square().mean().backward()
        end = time.perf_counter()
        assert all(torch.isfinite(value.grad).all() for value in network.parameters() if value.grad is not None)
        print(f"  {name:14s} forward {middle - start:6.2f} s, backward {end - middle:6.2f} s")


if __name__ == "__main__":
    main()
