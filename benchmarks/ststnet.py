"""STSTNet against the plainly written reference: `python benchmarks/ststnet.py step` and `... whole`.

`step`: one training step at the paper's batch of 256, the reference on two threads (what torch takes by itself on
two cores) and on one, ours on one (what every fold task gets). They take turns, so that whatever else runs on the
machine disturbs all alike; ratios are medians over the turns. Then both train from the same weights with the
same dropout masks, and their losses must agree.

`whole`: leave-one-subject-out on the 442 published pictures of MEGC2019 (FLEETING_TEST_DATA), the reference fold
by fold on all threads, ours through `fleeting.experiment.run` with one process a core. Ours also predicts after
every epoch and writes the run folder, which the reference does not.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as functional
from torch import Tensor, nn

from fleeting.models import ststnet
from ststnet_reference import PlainSTSTNet, leave_one_subject_out, train_step

SHAPES = {"flow": (3, 28, 28)}


def main() -> None:
    arguments = _arguments()
    print(f"torch {torch.__version__}, {os.cpu_count()} cores")
    if arguments.part == "step":
        time_steps(arguments.steps, arguments.batch)
        compare_losses(20, arguments.batch)
    else:
        time_whole(arguments.epochs, arguments.jobs, arguments.rounds)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("part", choices=("step", "whole"))
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--steps", type=int, default=20, help="step: timed turns")
    parser.add_argument("--epochs", type=int, default=20, help="whole: of each training; the paper's code has 800")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="whole: our processes")
    parser.add_argument("--rounds", type=int, default=1, help="whole: how often both run, taking turns")
    return parser.parse_args()


def time_steps(turns: int, batch: int, warmup: int = 3) -> None:
    """Prints the median and least time of a step of each contestant, and the ratios."""
    flow, target = _batch(batch)
    plain, ours = _pair()
    cores = os.cpu_count() or 1
    steps: dict[str, tuple[int, Callable[[], float]]] = {
        f"reference, {cores} threads": (cores, _step(plain, flow, target, fused=False)),
        "reference, 1 thread": (1, _step(plain, flow, target, fused=False)),
        "ours, 1 thread": (1, _step(ours, flow, target, fused=True)),
    }
    seconds: dict[str, list[float]] = {name: [] for name in steps}
    for turn in range(warmup + turns):
        for name, (threads, step) in steps.items():
            torch.set_num_threads(threads)
            start = time.perf_counter()
            step()
            if turn >= warmup:
                seconds[name].append(time.perf_counter() - start)
    for name, values in seconds.items():
        ratio = statistics.median(a / b for a, b in zip(values, seconds["ours, 1 thread"], strict=True))
        print(
            f"{name:22s} median {statistics.median(values) * 1e3:7.1f} ms  least {min(values) * 1e3:7.1f} ms  "
            f"{ratio:5.2f} x ours"
        )


def compare_losses(steps: int, batch: int) -> None:
    """Trains both from the same weights with the same masks.

    Raises:
        AssertionError: the losses differ by more than 1e-4 of their size.
    """
    torch.set_num_threads(1)
    flow, target = _batch(batch)
    plain, ours = _pair()
    ours.dropout = StreamDropout()
    curves = []
    for network, fused in ((plain, False), (ours, True)):
        torch.manual_seed(1)
        step = _step(network, flow, target, fused)
        curves.append([step() for _ in range(steps)])
    worst = max(abs(a - b) / abs(a) for a, b in zip(*curves, strict=True))
    print(f"losses of {steps} steps, {curves[0][0]:.4f} to {curves[0][-1]:.4f}, differ by at most {worst:.1e}")
    assert worst < 1e-4, "the losses left the reference's"


def time_whole(epochs: int, jobs: int, rounds: int) -> None:
    """Prints the time of both, how often their predictions agree, and the scores."""
    from fleeting import config, counting, dealing, experiment, metrics, predictions

    root = Path(os.environ["FLEETING_TEST_DATA"]) / "megc2019"
    roots = {"megc2019_flow": root}
    tables = {"name": "ststnet", "model": {"name": "ststnet"}, "recipe": {"epochs": epochs}}
    resolved = config.resolve(tables)
    ratios = []
    with tempfile.TemporaryDirectory() as folder:
        os.environ["FLEETING_CACHE"] = str(Path(folder) / "cache")
        clips, labels, _ = experiment.load(resolved, roots)
        packed, *_ = experiment.prepare(resolved, clips)
        x = np.array(packed.x["flow"])
        y = packed.rows * 0 + [labels[str(key)] for key in packed.keys]
        subjects = [dealing.group(str(key)) for key in packed.keys]
        for turn in range(rounds):
            torch.set_num_threads(os.cpu_count() or 1)
            guess, plain_s = leave_one_subject_out(x, y, subjects, epochs)
            start = time.perf_counter()
            run = experiment.run(resolved, Path(folder) / f"run{turn}", jobs=jobs, roots=roots)
            ours_s = time.perf_counter() - start
            ratios.append(plain_s / ours_s)
            print(f"reference {plain_s:8.1f} s   ours, {jobs} processes {ours_s:8.1f} s   {ratios[-1]:.2f} x")
        table = predictions.table(run)
    print(f"median ratio {statistics.median(ratios):.2f} over {rounds} rounds, {len(set(subjects))} folds")
    print(f"reference UF1 {metrics.uf1(counting.confusion(y, guess, 3)):.4f}")
    words = {word: number for number, word in enumerate(run.classes)}
    true, pred = (table[name].map(words).to_numpy() for name in ("true", "pred"))
    print(f"ours      UF1 {metrics.uf1(counting.confusion(true, pred, 3)):.4f} (another seed and other masks)")


class StreamDropout(nn.Module):
    """Dropout that draws as the reference's three branches do: a mask a branch, in order."""

    def forward(self, x: Tensor) -> Tensor:
        shapes = [(len(x), filters, *x.shape[2:]) for filters in ststnet.STREAMS]
        return x * torch.cat([functional.dropout(torch.ones(shape), 0.5, self.training) for shape in shapes], 1)


def _pair() -> tuple[nn.Module, nn.Module]:
    """The reference and our network with its weights."""
    torch.manual_seed(0)
    plain = PlainSTSTNet()
    ours = ststnet.build(SHAPES, 3, ststnet.Options())
    ours.load_state_dict(ststnet.from_official(plain.official()))
    return plain.train(), ours.train()


def _batch(size: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    flow = torch.randint(0, 256, (size, 3, 28, 28), generator=generator).float()
    return flow, torch.randint(0, 3, (size,), generator=generator)


def _step(network: nn.Module, flow: Tensor, target: Tensor, fused: bool) -> Callable[[], float]:
    optimiser = torch.optim.Adam(network.parameters(), lr=ststnet.RECIPE.lr, fused=fused)
    return lambda: train_step(network, optimiser, flow, target)


if __name__ == "__main__":
    main()
