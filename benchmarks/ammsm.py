"""What dropping windows saves, and the Mamba beside the Transformer: `python benchmarks/ammsm.py`.

Sparsity: two blocks of AMMSM's first stage (SSD, width 64) on a map of 56 x 56, by sparsity ratio. Dropped windows are
skipped, or computed and masked as the definition says; dense is ratio 0. Speeds are medians over the turns of the time
of dense over that of the form in the same turn; before, outputs of both forms are compared.

Twins: the whole network at the paper's size (256 x 256) with SSD and with attention in every block, without and with
half of the windows dropped, and with the magnifier: the rows of Table III.

All forms take turns in one process, so that whatever else runs on the machine disturbs all alike.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Hashable, Mapping
from itertools import product
from typing import TypeVar

import torch
from torch import Tensor, nn

from fleeting.models import ammsm
from fleeting.models._sssd import BlockOptions, Stage

SIDE, WIDTH = 56, 64
RATIOS = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8)
Timed = Callable[[], object]
Key = TypeVar("Key", bound=Hashable)


def main() -> None:
    arguments = _arguments()
    torch.set_num_threads(arguments.threads)
    print(f"torch {torch.__version__}, {arguments.device}, {arguments.threads} threads, {arguments.turns} turns")
    for batch in arguments.batch if arguments.only != "twins" else ():
        _sparsity(batch, arguments)
    if arguments.only != "sparsity":
        _twins(arguments)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("--batch", type=int, nargs="+", default=[1, 8], help="of the sparsity table")
    parser.add_argument("--twin-batch", type=int, default=4)
    parser.add_argument("--turns", type=int, default=15)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--only", choices=["sparsity", "twins"])
    return parser.parse_args()


# --- sparsity


def _sparsity(batch: int, arguments: argparse.Namespace) -> None:
    stages = {how: _stage(how, arguments.device) for how in ("skipped", "masked")}
    x = torch.randn(batch, WIDTH, SIDE, SIDE, device=arguments.device)
    worst = max(_difference(stages, x, ratio) for ratio in RATIOS)
    forms = {(how, ratio): stage for how, stage in stages.items() for ratio in RATIOS if ratio or how == "skipped"}
    shown = _turns({key: _shown(stage, x, key[1]) for key, stage in forms.items()}, arguments.turns, arguments.device)
    trained = {key: _trained(stage, x, key[1]) for key, stage in forms.items()}
    steps = _turns(trained, max(3, arguments.turns // 3), arguments.device)
    print(f"\nsparsity, {SIDE} x {SIDE} x {WIDTH}, two blocks, batch {batch}; speeds beside dense")
    print(f"{'ratio':>6s}{'form':>9s}{'ms':>9s}{'speed':>8s}{'training ms':>13s}{'speed':>8s}")
    for how, ratio in sorted(forms, key=lambda key: (key[1], key[0] == "masked")):
        row = [(times[how, ratio], times["skipped", 0.0]) for times in (shown, steps)]
        numbers = [(1e3 * statistics.median(own), _ratio(dense, own)) for own, dense in row]
        name = how if ratio else "dense"
        print(
            f"{ratio:6.1f}{name:>9s}{numbers[0][0]:9.2f}{numbers[0][1]:8.2f}{numbers[1][0]:13.2f}{numbers[1][1]:8.2f}"
        )
    print(f"skipped and masked differ by at most {worst:.1e} of the largest value (float32)")


def _stage(dropped: str, device: str) -> Stage:
    torch.manual_seed(0)
    options = BlockOptions("ssd", 0, 32, 2, 64, "step", 4, "masked" if dropped == "masked" else "skipped")
    return Stage(WIDTH, SIDE, [0.0, 0.0], options).to(device)


@torch.inference_mode()
def _difference(stages: Mapping[str, Stage], x: Tensor, ratio: float) -> float:
    """Raises: AssertionError: skipped and masked differ by more than 1e-6 of the largest value."""
    skipped, masked = (stages[how](x, (ratio,)) for how in ("skipped", "masked"))
    worst = ((skipped - masked).abs().max() / masked.abs().max()).item()
    assert worst < 1e-6, f"at ratio {ratio} they differ by {worst:.1e}"
    return worst


def _shown(stage: Stage, x: Tensor, ratio: float) -> Timed:
    @torch.inference_mode()
    def run() -> None:
        stage(x, (ratio,))

    return run


def _trained(stage: Stage, x: Tensor, ratio: float) -> Timed:
    def run() -> None:
        stage(x, (ratio,)).square().mean().backward()

    return run


# --- twins


def _twins(arguments: argparse.Namespace) -> None:
    side, batch = 256, arguments.twin_batch
    shapes = {"flow": (2, side, side), "onset": (3, side, side)}
    x = {name: torch.rand(batch, *shape, device=arguments.device) for name, shape in shapes.items()}
    networks: dict[tuple[str, float, str], nn.Module] = {}
    for mixer, ratio, magnify in product(("ssd", "attention"), (0.0, 0.5), ("none", "unet")):
        torch.manual_seed(0)
        options = ammsm.Options.model_validate({"mixer": mixer, "sparsity": ratio, "magnify": magnify})
        networks[mixer, ratio, magnify] = ammsm.build(shapes, 5, options).to(arguments.device)
    turns = max(3, arguments.turns // 3)
    shown = _turns({key: _decided(network, x) for key, network in networks.items()}, turns, arguments.device)
    steps = _turns({key: _step(network, x) for key, network in networks.items()}, turns, arguments.device)
    print(f"\ntwins, {side} x {side}, batch {batch}: ms a sample, and beside attention with all else alike")
    print(f"{'mixer':>10s}{'sparsity':>10s}{'magnify':>9s}{'parameters':>12s}", end="")
    print(f"{'ms':>9s}{'ratio':>8s}{'training ms':>13s}{'ratio':>8s}")
    for (mixer, ratio, magnify), network in networks.items():
        numbers = []
        for times in (shown, steps):
            own, twin = times[mixer, ratio, magnify], times["attention", ratio, magnify]
            numbers += [1e3 * statistics.median(own) / batch, _ratio(own, twin)]
        count = sum(parameter.numel() for parameter in network.parameters())
        print(f"{mixer:>10s}{ratio:10.1f}{magnify:>9s}{count:12,d}", end="")
        print(f"{numbers[0]:9.1f}{numbers[1]:8.2f}{numbers[2]:13.1f}{numbers[3]:8.2f}")


def _decided(network: nn.Module, x: Mapping[str, Tensor]) -> Timed:
    @torch.inference_mode()
    def run() -> None:
        network.eval()(**x)

    return run


def _step(network: nn.Module, x: Mapping[str, Tensor]) -> Timed:
    def run() -> None:
        network.train()(**x).square().mean().backward()

    return run


# --- time


def _turns(forms: Mapping[Key, Timed], turns: int, device: str) -> dict[Key, list[float]]:
    """Seconds of each turn of every form; the first turn is not timed."""
    seconds: dict[Key, list[float]] = {key: [] for key in forms}
    for turn in range(turns + 1):
        for key, form in forms.items():
            start = _now(device)
            form()
            if turn:
                seconds[key].append(_now(device) - start)
    return seconds


def _ratio(one: list[float], other: list[float]) -> float:
    """Median over the turns."""
    return statistics.median(a / b for a, b in zip(one, other, strict=True))


def _now(device: str) -> float:
    if device.startswith("cuda"):
        torch.cuda.synchronize()
    return time.perf_counter()


if __name__ == "__main__":
    main()
