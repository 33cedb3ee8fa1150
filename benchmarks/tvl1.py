"""Batched TV-L1 against OpenCV's, and the error and time of every flow method: `python benchmarks/tvl1.py`.

The pairs are textured pictures moved by smooth fields that are known everywhere. Contestants take turns, so that
whatever else runs on the machine disturbs all alike; ratios are medians over the rounds.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from functools import partial

import cv2
import numpy as np
import torch
from scipy.ndimage import gaussian_filter, map_coordinates

from fleeting import motion, plugins
from fleeting.flow import tvl1, tvl1_torch
from fleeting.records import Array

AMPLITUDES = (0.25, 0.5, 1.0, 2.0, 3.0)
MARGIN = 16
FINE, MIDDLE, COARSE = 1.0, 2.5, 8.0
"""Sizes of the texture in pixels, about those of skin, brows and shading at 224."""


def main() -> None:
    arguments = _arguments()
    torch.set_num_threads(arguments.threads)
    cv2.setNumThreads(arguments.threads)
    print(f"torch {torch.__version__}, OpenCV {cv2.__version__}, {arguments.threads} threads, {arguments.side} px")
    amplitudes = [AMPLITUDES[index % len(AMPLITUDES)] for index in range(arguments.pairs)]
    _race(*_pairs(amplitudes, arguments.side), arguments)
    _table(arguments)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("--pairs", type=int, default=16, help="pairs a batch")
    parser.add_argument("--side", type=int, default=224)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--device", default="cpu", help="of the batched TV-L1")
    return parser.parse_args()


def _race(first: Array, second: Array, true: Array, arguments: argparse.Namespace) -> None:
    """Pairs a second and endpoint error of the two TV-L1s on one batch."""
    ours_options, theirs_options = tvl1_torch.Options(device=arguments.device), tvl1.Options()
    few = np.s_[: min(2, len(first))]
    tvl1_torch.flow(first[few], second[few], ours_options)
    tvl1.flow(first[few], second[few], theirs_options)
    ratios, times = [], []
    for _ in range(arguments.rounds):
        theirs, slow = _timed(partial(tvl1.flow, first, second, theirs_options))
        ours, fast = _timed(partial(tvl1_torch.flow, first, second, ours_options))
        ratios.append(slow / fast)
        times.append((slow, fast))
    slow, fast = (1000 * statistics.median(column) / len(first) for column in zip(*times, strict=True))
    print(f"\nbatch of {len(first)}, {arguments.device}")
    print(f"  OpenCV's   {slow:7.1f} ms a pair, endpoint error {_error(theirs, true):.4f} px")
    print(f"  batched    {fast:7.1f} ms a pair, endpoint error {_error(ours, true):.4f} px")
    print(f"  ratio      {statistics.median(ratios):7.2f} ({', '.join(f'{ratio:.2f}' for ratio in ratios)})")
    inside = np.zeros(true.shape[2:], bool)
    inside[8:-8, 8:-8] = True
    apart = np.mean([motion.endpoint_error(a, b, inside) for a, b in zip(ours, theirs, strict=True)])
    print(f"  apart      {apart:7.4f} px, 8 px from the border inwards")


def _table(arguments: argparse.Namespace) -> None:
    """Endpoint error by amplitude, and milliseconds a pair, of every method."""
    print(f"\nendpoint error, px      {''.join(f'{amplitude:>8}' for amplitude in AMPLITUDES)}   ms a pair")
    batches = {amplitude: _pairs([amplitude] * 2, arguments.side) for amplitude in AMPLITUDES}
    for name, options in _contestants(arguments.device):
        method = plugins.load("flow", name)
        chosen = method.Options(**options)
        errors, seconds = [], []
        for first, second, true in batches.values():
            found, spent = _timed(partial(method.flow, first, second, chosen))
            errors.append(_error(found, true))
            seconds.append(spent / len(first))
        label = f"{name} {options.get('preset', '')}"
        print(f"{label:24}{''.join(f'{error:8.3f}' for error in errors)}{1000 * statistics.median(seconds):12.1f}")
    still = [float(np.hypot(*true.swapaxes(0, 1)).mean()) for _, _, true in batches.values()]
    print(f"{'(no flow at all)':24}{''.join(f'{length:8.3f}' for length in still)}")


def _contestants(device: str) -> list[tuple[str, dict[str, str]]]:
    return [
        *(("dis", {"preset": preset}) for preset in ("ultrafast", "fast", "medium")),
        ("farneback", {}),
        ("tvl1", {}),
        ("tvl1_torch", {"device": device}),
    ]


def _pairs(amplitudes: list[float], side: int) -> tuple[Array, Array, Array]:
    """Pictures (N, side, side), the same moved, and the flow (N, 2, side, side) between them."""
    made = [_pair(amplitude, side, seed) for seed, amplitude in enumerate(amplitudes)]
    first, second, true = (np.stack(part) for part in zip(*made, strict=True))
    return first, second, true


def _pair(amplitude: float, side: int, seed: int) -> tuple[Array, Array, Array]:
    rng = np.random.default_rng(seed)
    full = side + 2 * MARGIN
    noise = (sigma * gaussian_filter(rng.normal(size=(full, full)), sigma) for sigma in (FINE, MIDDLE, COARSE))
    second = np.sum(list(noise), axis=0)
    second = (second - second.min()) / (second.max() - second.min())
    y, x = np.mgrid[:full, :full]
    phase, turn = rng.uniform(0, 2 * np.pi, 4), 2 * np.pi / full
    u = np.sin(turn * x + phase[0]) * np.cos(turn * y + phase[1])
    v = np.cos(turn * x + phase[2]) * np.sin(turn * y + phase[3])
    uv = amplitude * np.stack([u, v]) / np.hypot(u, v).max()
    # what the first shows at x stands in the second at x + uv(x): exact, but for the spline
    first = map_coordinates(second, [y + uv[1], x + uv[0]], order=5, mode="reflect")
    shown = np.s_[..., MARGIN:-MARGIN, MARGIN:-MARGIN]
    return first[shown].astype(np.float32), second[shown].astype(np.float32), uv[shown].astype(np.float32)


def _timed(work: Callable[[], Array]) -> tuple[Array, float]:
    start = time.perf_counter()
    result = work()
    return result, time.perf_counter() - start


def _error(found: Array, true: Array) -> float:
    return float(np.mean([motion.endpoint_error(one, other) for one, other in zip(found, true, strict=True)]))


if __name__ == "__main__":
    main()
