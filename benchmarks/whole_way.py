"""From a video to flow, frames a second: `python benchmarks/whole_way.py [VIDEO]`.

Decode, find 468 face points, align to 224 x 224, flow from the first frame to each, against the same way written
plainly (`whole_way_reference.py`: Haar cascade, crop, OpenCV's TV-L1, one frame at a time). Both run in turns, in one
process, with all of OpenCV's threads; the flow methods differ on purpose (the plain way is what papers' scripts do), so
the table also gives ours with TV-L1. Without VIDEO: ``face_videos/single_face.mp4`` of FLEETING_TEST_DATA.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from pathlib import Path

import cv2
import numpy as np

from fleeting import align, plugins, video
from fleeting.records import Clip, Moment
from whole_way_reference import plain_way

STAGES = ("decode", "face", "align", "flow")


def main() -> None:
    arguments = _arguments()
    with video.open(arguments.video) as frames:
        height, width = frames.size
        count = min(arguments.frames, len(frames))
    cores = os.cpu_count()
    print(f"{arguments.video.name}: {count} frames of {width} x {height}; OpenCV {cv2.__version__}, {cores} cores")
    turns: dict[str, list[dict[str, float]]] = {"plain": [], "ours, dis": [], "ours, tvl1": []}
    our_way(arguments.video, 10, "dis")  # loads the networks
    for _ in range(arguments.turns):
        turns["ours, dis"].append(our_way(arguments.video, count, "dis"))
        turns["plain"].append(plain_way(arguments.video, min(count, arguments.plain_frames)))
        turns["ours, tvl1"].append(our_way(arguments.video, min(count, arguments.plain_frames), "tvl1"))
    _print(turns, count, min(count, arguments.plain_frames))


def our_way(path: Path, count: int, method: str) -> dict[str, float]:
    """Seconds a stage. The stages run as `fleeting prepare` runs them: lazily, so decoding is timed inside a watch."""
    tracker, flow = plugins.load("faces", "mesh"), plugins.load("flow", method)
    seconds = dict.fromkeys(STAGES, 0.0)
    clip = Clip("file", "-", path.stem, path, onset=0)
    with video.open(path) as opened:
        frames = _Kept(opened, seconds)
        start = time.perf_counter()
        track = tracker.track(frames, range(count), tracker.Options())
        seconds["face"] = time.perf_counter() - start - seconds["decode"]
        start = time.perf_counter()
        face = align.face(clip, frames, track, Moment(0, None, count - 1), align.Options())
        grey = np.stack([align.grey(face.frames[index]) for index in range(count)])
        seconds["align"] = time.perf_counter() - start
        start = time.perf_counter()
        fields = flow.flow(np.broadcast_to(grey[:1], grey.shape).copy(), grey, flow.Options())
        assert np.isfinite(fields).all()
        seconds["flow"] = time.perf_counter() - start
    return seconds


class _Kept:
    """Frames that are decoded once; the time that it takes is noted."""

    def __init__(self, frames: video.Frames, seconds: dict[str, float]) -> None:
        self._frames, self._seconds, self._kept = frames, seconds, {}

    def __len__(self) -> int:
        return len(self._frames)

    def __getitem__(self, index: int) -> np.ndarray:
        if index not in self._kept:
            start = time.perf_counter()
            self._kept[index] = self._frames[index]
            self._seconds["decode"] += time.perf_counter() - start
        return self._kept[index]


def _print(turns: dict[str, list[dict[str, float]]], count: int, plain_count: int) -> None:
    counts = {"plain": plain_count, "ours, dis": count, "ours, tvl1": plain_count}
    print(f"\n| way | {' | '.join(f'{stage}, ms' for stage in STAGES)} | ms a frame | frames a second |")
    print("|---|" + "---|" * (len(STAGES) + 2))
    for name, of_turns in turns.items():
        each = [statistics.median(1000 * turn[stage] for turn in of_turns) / counts[name] for stage in STAGES]
        print(f"| {name} | {' | '.join(f'{ms:.2f}' for ms in each)} | {sum(each):.1f} | {1000 / sum(each):.1f} |")
    ratios = [
        (sum(plain.values()) / plain_count) / (sum(ours.values()) / count)
        for plain, ours in zip(turns["plain"], turns["ours, dis"], strict=True)
    ]
    print(
        f"\nours is {statistics.median(ratios):.1f} x as fast ({min(ratios):.1f} to {max(ratios):.1f} over the turns)"
    )


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    data = Path(os.environ.get("FLEETING_TEST_DATA", "."))
    parser.add_argument("video", type=Path, nargs="?", default=data / "face_videos" / "single_face.mp4")
    parser.add_argument("--frames", type=int, default=72)
    parser.add_argument("--plain-frames", type=int, default=12, help="of the plain way, and of ours with TV-L1")
    parser.add_argument("--turns", type=int, default=3)
    return parser.parse_args()


if __name__ == "__main__":
    main()
