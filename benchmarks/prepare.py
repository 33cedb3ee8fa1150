"""`fleeting prepare` with two processes against one: `python benchmarks/prepare.py`.

The drawn corpus of the demonstration (72 clips), MERba's way (face mesh, similarity, OpenCV's TV-L1, u, v, magnitude at
224 x 224) into an empty cache each time; both run in turns. The second table is a second call on a filled cache.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from pathlib import Path

from fleeting import config, preparation
from fleeting.datasets import simulated

TABLES = {
    "datasets": ["simulated"],
    "model": {"name": "flow_svm"},
    "flow": {"name": "tvl1"},
    "input": {"name": "uvm224"},
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--flow", default="tvl1")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / "corpus"
        simulated.write(root)
        clips = simulated.load(root)
        experiment = config.resolve({**TABLES, "flow": {"name": arguments.flow}})
        print(f"{len(clips)} clips, flow {arguments.flow}, {os.cpu_count()} cores")
        ratios = []
        for turn in range(arguments.turns):
            one, _ = _timed(experiment, clips, Path(folder) / f"one{turn}", 1)
            many, again = _timed(experiment, clips, Path(folder) / f"many{turn}", arguments.jobs)
            ratios.append(one / many)
            said = f"one process {one:.1f} s, {arguments.jobs} {many:.1f} s: {ratios[-1]:.2f} x"
            print(f"{said}; again {again:.2f} s", flush=True)
    print(f"{arguments.jobs} processes are {statistics.median(ratios):.2f} x as fast as one")


def _timed(experiment: config.Experiment, clips: list[simulated.Clip], cache: Path, jobs: int) -> tuple[float, float]:
    """Seconds into an empty cache, and of a second call."""
    os.environ["FLEETING_CACHE"] = str(cache)
    seconds = []
    for _ in range(2):
        start = time.perf_counter()
        preparation.prepare(experiment, clips, jobs=jobs)
        seconds.append(time.perf_counter() - start)
    return seconds[0], seconds[1]


if __name__ == "__main__":
    main()
