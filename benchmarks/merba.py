"""Training steps of MERba and its baseline, small and at the paper's size: `python benchmarks/merba.py`.

One step = forward, loss, backward, AdamW, as `fleeting.training` makes it. Small: 28 x 28 pictures in batches of 64,
one thread, as every task runs. Paper: 224 x 224. Beside each: parameters, and multiplications of one picture's forward
pass (matrix products and convolutions by torch's counter; those of the scans apart, six a state, channel and token).
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from fleeting import plugins, training
from fleeting.models import mambavision, merba
from fleeting.models._mixer import Mixers

DFME = ("anger", "contempt", "disgust", "fear", "happiness", "sadness", "surprise")
_SCAN = 6  # exp's argument, input twice, state, output; and the decay itself

Row = tuple[str, str, Any, int]


def main() -> None:
    arguments = _arguments()
    torch.set_num_threads(arguments.threads)
    print(f"torch {torch.__version__}, {arguments.device}, {arguments.threads} threads at the paper's size")
    print(
        f"{'':34s}{'parameters':>12s}{'products':>10s}{'scans':>8s}{'batch':>7s}{'median':>9s}{'least':>9s}{'cpu':>9s}"
    )
    for label, model, options, side in _rows():
        small = side == 28
        if (small and arguments.only == "paper") or (not small and arguments.only == "small"):
            continue
        torch.set_num_threads(1 if small else arguments.threads)
        batch = 64 if small else arguments.batch
        parameters, products, scans = count(model, options, side)
        wall, cpu = measure(model, options, side, batch, arguments)
        print(
            f"{label:34s}{parameters / 1e6:10.3f} M{products / 1e9:8.3f} G{scans / 1e9:6.2f} G{batch:7d}"
            f"{1e3 * statistics.median(wall):6.0f} ms{1e3 * min(wall):6.0f} ms{1e3 * min(cpu):6.0f} ms",
            flush=True,
        )


def _rows() -> Iterator[Row]:
    """(label, model, options, side of the picture)."""
    small = merba.SMALL.model_copy(update={"stem_stride": 1})
    yield "MERba, small", "merba", small, 28
    yield "MERba, small, two heads", "merba", small.model_copy(update={"classes": DFME}), 28
    yield "MERba, small, one scan", "merba", small.model_copy(update={"scans": "horizontal"}), 28
    yield "MERba, small, twice the width", "merba", small.model_copy(update={"dim": 16}), 28
    yield "MambaVision, small", "mambavision", mambavision.SMALL.model_copy(update={"stem_stride": 1}), 28
    yield "MERba", "merba", merba.Options(classes=DFME), 224
    yield "MERba, attention in windows", "merba", merba.Options(classes=DFME, attention="local"), 224
    yield "MERba, mixers over the whole map", "merba", merba.Options(classes=DFME, extractor="global"), 224
    yield "MambaVision-B", "mambavision", mambavision.Options(), 224
    yield "MambaVision-T", "mambavision", mambavision.Options(size="T"), 224


def count(model: str, options: Any, side: int) -> tuple[int, float, float]:
    """Parameters, multiplications of products and convolutions, and of the scans, of one picture."""
    scans = [0.0]

    def scanned(module: Mixers, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        orders, (windows, tokens, width), state = len(module.orders), inputs[0].shape, module.decay_log.shape[2]
        scans[0] += _SCAN * orders * windows * tokens * (width // 2) * state

    with torch.device("meta"):
        network = _built(model, options, side).eval()
        for module in network.modules():
            if isinstance(module, Mixers):
                module.register_forward_hook(scanned)
        with FlopCounterMode(display=False) as counter:
            network(torch.zeros(1, 3, side, side))
    parameters = sum(parameter.numel() for parameter in network.parameters())
    return parameters, counter.get_total_flops() / 2, scans[0]


def measure(model: str, options: Any, side: int, batch: int, arguments: argparse.Namespace) -> tuple[list[float], ...]:
    """Seconds a step: on the wall, and of this thread's processor (a busy machine disturbs these less)."""
    torch.manual_seed(0)
    network = _built(model, options, side).to(arguments.device).train()
    recipe = plugins.load("models", model).RECIPE
    optimiser = training._optimiser(network, recipe)
    flow = torch.randn(batch, 3, side, side, device=arguments.device)
    target = torch.eye(7, device=arguments.device)[torch.arange(batch, device=arguments.device) % 7]
    wall, cpu = [], []
    for index in range(arguments.warmup + arguments.steps):
        start, used = time.perf_counter(), time.process_time()
        loss = training._losses(network, network(flow), target, recipe, 0.5).mean()
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        optimiser.step()
        value = loss.item()  # waits for a GPU
        assert value == value, "the loss is not a number"
        if index >= arguments.warmup:
            wall.append(time.perf_counter() - start)
            cpu.append(time.process_time() - used)
    return wall, cpu


def _built(model: str, options: Any, side: int) -> nn.Module:
    network: nn.Module = plugins.load("models", model).build({"flow": (3, side, side)}, 7, options)
    return network


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("--only", choices=("small", "paper"))
    parser.add_argument("--batch", type=int, default=4, help="pictures a step at the paper's size")
    parser.add_argument("--steps", type=int, default=5, help="timed steps of each")
    parser.add_argument("--warmup", type=int, default=1)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--device", default="cpu")
    return parser.parse_args()


if __name__ == "__main__":
    main()
