"""A training step of HTNet against the plainly written reference: `python benchmarks/htnet.py`.

One step = forward, loss, backward, optimiser, at the paper's size (dim 256, layers (2, 2, 8), batch 256). The
reference (float32, unfused Adam) and ours (float32, then bfloat16 autocast, fused Adam as in
`fleeting.training`) start from the same weights and take turns, so that whatever else runs on the machine
disturbs all alike; ratios are medians over the pairs. The losses of the steps must agree.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch
import torch.nn.functional as functional
from torch import Tensor, nn

from fleeting.models import htnet
from htnet_reference import Reference

SIDE, CLASSES = 28, 3
FLAGS = ("avx2", "avx512f", "avx512_bf16", "amx_bf16")


def main() -> None:
    arguments = _arguments()
    torch.set_num_threads(arguments.threads)
    _print_machine(arguments.threads)
    options = htnet.Options(dim=arguments.dim, layers=tuple(arguments.layers), position="scalar")
    steps = _contestants(options, arguments.batch)
    seconds: dict[str, list[float]] = {name: [] for name in steps}
    losses: dict[str, list[float]] = {name: [] for name in steps}
    for index in range(arguments.warmup + arguments.steps):
        for name, step in steps.items():
            start = time.perf_counter()
            losses[name].append(step())
            if index >= arguments.warmup:
                seconds[name].append(time.perf_counter() - start)
    _print_times(seconds)
    _check_losses(losses)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("--dim", type=int, default=256)
    parser.add_argument("--layers", type=int, nargs=3, default=[2, 2, 8])
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--steps", type=int, default=7, help="timed steps of each")
    parser.add_argument("--warmup", type=int, default=2, help="steps of each before the clock starts")
    parser.add_argument("--threads", type=int, default=2)
    return parser.parse_args()


def _print_machine(threads: int) -> None:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    fields = dict(line.split("\t", 1) for line in lines if "\t" in line)
    flags = fields.get("flags", "").split()
    print("processor", fields.get("model name", "unknown").strip(": \t"))
    print("features ", ", ".join(f"{flag} {'yes' if flag in flags else 'no'}" for flag in FLAGS))
    print(f"torch {torch.__version__}, {threads} threads")


def _contestants(options: htnet.Options, batch: int) -> dict[str, Callable[[], float]]:
    """Name -> a function that makes one training step and returns its loss; all from the same weights."""
    torch.manual_seed(0)
    flow, target = torch.rand(batch, 3, SIDE, SIDE) * 255, torch.randint(CLASSES, (batch,))
    plain = htnet.build({"flow": (3, SIDE, SIDE)}, CLASSES, options)
    half = htnet.build({"flow": (3, SIDE, SIDE)}, CLASSES, options)
    half.load_state_dict(plain.state_dict())
    reference = Reference(SIDE, CLASSES, options)
    reference.load_state_dict(htnet.to_official(plain.state_dict()))
    print(f"{sum(parameter.numel() for parameter in plain.parameters()):,} parameters, batch {batch}")
    lr = htnet.RECIPE.lr
    unfused = torch.optim.Adam(reference.parameters(), lr=lr, foreach=False, fused=False)
    return {
        "reference": _step(reference, unfused, flow, target, amp=False),
        "float32": _step(plain, torch.optim.Adam(plain.parameters(), lr=lr, fused=True), flow, target, amp=False),
        "bfloat16": _step(half, torch.optim.Adam(half.parameters(), lr=lr, fused=True), flow, target, amp=True),
    }


def _step(
    network: nn.Module, optimiser: torch.optim.Optimizer, flow: Tensor, target: Tensor, amp: bool
) -> Callable[[], float]:
    def step() -> float:
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=amp):
            output = network(flow)
        loss = functional.cross_entropy(output.float(), target)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        optimiser.step()
        return loss.item()

    return step


def _print_times(seconds: dict[str, list[float]]) -> None:
    for name, values in seconds.items():
        ratio = statistics.median(a / b for a, b in zip(seconds["reference"], values, strict=True))
        print(
            f"{name:9s} median {statistics.median(values):7.3f} s  least {min(values):7.3f} s  "
            f"{ratio:5.2f} x the reference's speed (least times: {min(seconds['reference']) / min(values):.2f} x)"
        )


def _check_losses(losses: dict[str, list[float]]) -> None:
    """Raises: AssertionError: float32 leaves the reference's first five losses by more than 1e-4."""
    for name in ("float32", "bfloat16"):
        pairs = list(zip(losses["reference"], losses[name], strict=True))[:5]
        worst = max(abs(ours - theirs) / abs(theirs) for theirs, ours in pairs)
        print(f"{name:9s} losses of {len(pairs)} steps differ by at most {worst:.1e} of the reference's")
        assert name != "float32" or worst < 1e-4, "the float32 losses left the reference's"
    print("reference", " ".join(f"{loss:.5f}" for loss in losses["reference"][:5]))


if __name__ == "__main__":
    main()
