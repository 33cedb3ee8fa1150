"""Face trackers on a real video, one process: `python benchmarks/faces.py [VIDEO]`.

Frames are decoded beforehand. The contestants take turns on the same stretch of frames, so that whatever else runs on
the machine disturbs all alike; the table has medians over the turns, and ratios to `mesh` as it comes. VIDEO is
single_face.mp4 in the real data that FLEETING_TEST_DATA names, unless given.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import cv2
import numpy as np

from fleeting import plugins, video
from fleeting.errors import UserError
from fleeting.faces import _blazeface, _facemesh, mesh
from fleeting.records import Array

Way = Callable[[Sequence[Array]], int]


def main() -> None:
    arguments = _arguments()
    cv2.setNumThreads(arguments.threads)
    with video.open(arguments.video) as recording:
        frames = [recording[index] for index in range(min(arguments.frames, len(recording)))]
    height, width = frames[0].shape[:2]
    print(f"{arguments.video.name}: {len(frames)} frames of {width} x {height}; OpenCV {cv2.__version__}, ", end="")
    print(f"{arguments.threads} threads, {os.cpu_count()} cores, medians over {arguments.turns} turns\n")
    ways = _ways()
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    found = dict.fromkeys(ways, 0)
    for turn in range(arguments.turns + 1):
        for name, way in ways.items():
            start = time.perf_counter()
            found[name] = way(frames)
            if turn:  # the first turn warms up
                seconds[name].append(time.perf_counter() - start)
    _print(seconds, found, len(frames))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    data = Path(os.environ.get("FLEETING_TEST_DATA", "."))
    parser.add_argument("video", type=Path, nargs="?", default=data / "face_videos" / "single_face.mp4")
    parser.add_argument("--frames", type=int, default=72)
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1, help="of OpenCV")
    return parser.parse_args()


def _print(seconds: dict[str, list[float]], found: dict[str, int], frames: int) -> None:
    print("| what | ms a frame | frames a second | time against `mesh` | frames with a face |")
    print("|---|---|---|---|---|")
    ours = seconds["mesh"]
    for name, values in seconds.items():
        middle = statistics.median(values)
        ratio = statistics.median(one / two for one, two in zip(values, ours, strict=True))
        print(f"| {name} | {1e3 * middle / frames:.1f} | {frames / middle:.0f} | {ratio:.2f} x | {found[name]} |")


def _ways() -> dict[str, Way]:
    """Name -> what looks at all frames and returns on how many it found a face."""
    ways: dict[str, Way] = {
        "mesh": _tracker("mesh", mesh.Options()),
        "mesh, every frame on its own": _tracker("mesh", mesh.Options(redetect=1)),
        "mesh, every frame on its own, no tiles": _tracker("mesh", mesh.Options(redetect=1, tiles=0)),
        "its detector alone, whole picture": _detect,
        "its mesh network alone, one look": _look,
        "Haar cascade, box only": _haar(),
    }
    try:
        dlib68 = plugins.load("faces", "dlib68")
        ways["dlib68"] = _tracker("dlib68", dlib68.Options())
    except UserError as error:
        print(error)
    return ways


def _tracker(name: str, options: object) -> Way:
    module = plugins.load("faces", name)
    return lambda frames: int((module.track(frames, range(len(frames)), options).state == 1).sum())


def _detect(frames: Sequence[Array]) -> int:
    return sum(bool(_blazeface.find(frame, [mesh._whole(frame)], 0.5)) for frame in frames)


def _look(frames: Sequence[Array]) -> int:
    height, width = frames[0].shape[:2]
    square = _facemesh.Square(width / 2, height / 2, height)
    return sum(_facemesh.look(frame, square).presence >= 0.5 for frame in frames)


def _haar() -> Way:
    """The detector that most published preprocessing begins with, as OpenCV's examples call it."""
    cascade = cv2.CascadeClassifier(cv2.data.haarcascades + "haarcascade_frontalface_default.xml")

    def find(frames: Sequence[Array]) -> int:
        greys = (cv2.cvtColor(np.asarray(frame), cv2.COLOR_RGB2GRAY) for frame in frames)
        return sum(len(cascade.detectMultiScale(grey, 1.1, 5)) > 0 for grey in greys)

    return find


if __name__ == "__main__":
    main()
