"""Memory and speed of `fleeting.video` on a long recording: `python benchmarks/video_memory.py`.

Writes ten minutes of 640 x 360 at 30 frames a second (drifting blobs, x264 ultrafast, a key frame every 250 frames;
about half a minute of encoding) into a temporary folder, reads it once from the first to the last frame, then at
random places, and backwards. Each reading runs in a fresh process, whose peak memory is asked for after 1, 5 and 10
minutes of the recording.

Expected: after the first minute the peak does not move by more than a few MB, since 32 MB of decoded frames and the
time stamps are all that is kept; the whole recording would be 12.4 GB. Reading in order costs what the decoder costs;
backwards up to three times that, since each stretch of kept frames begins at the key frame before it; at random about
half a group of pictures a frame.
"""

from __future__ import annotations

import argparse
import multiprocessing
import random
import resource
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

import av
import cv2
import numpy as np

from fleeting import video
from fleeting.records import Array

WIDTH, HEIGHT, FPS = 640, 360, 30


def main() -> None:
    arguments = _arguments()
    count = int(arguments.minutes * 60 * FPS)
    print(f"PyAV {av.__version__}, OpenCV {cv2.__version__}")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "long.mp4"
        start = time.perf_counter()
        write(path, count)
        print(
            f"{arguments.minutes:g} minutes, {count} frames, {path.stat().st_size / 1e6:.0f} MB, written in "
            f"{time.perf_counter() - start:.0f} s; decoded it would be {count * WIDTH * HEIGHT * 3 / 1e9:.1f} GB"
        )
        orders = {
            "in order": range(count),
            "at random": random.Random(0).choices(range(count), k=min(count, arguments.random)),
            "backwards": range(count - 1, -1, -1),
        }
        for name, order in orders.items():
            process = multiprocessing.get_context("spawn").Process(target=read, args=(name, path, order))
            process.start()
            process.join()
            if process.exitcode:
                raise SystemExit(f"{name}: the reading process failed")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--random", type=int, default=1000, help="frames that are read at random places")
    return parser.parse_args()


def write(path: Path, count: int) -> None:
    """A recording whose every frame differs; not by `video.write`, whose quality would take minutes."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=FPS, options={"preset": "ultrafast", "g": "250"})
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        for index, picture in enumerate(_pictures(count)):
            frame = av.VideoFrame.from_ndarray(picture, "rgb24").reformat(format="yuv420p", threads=1)
            frame.pts = index
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


def _pictures(count: int) -> Iterator[Array]:
    """A window that wanders over blobs."""
    blobs = np.random.default_rng(0).integers(0, 256, (20, 30, 3), np.uint8)
    ground = cv2.resize(blobs, (WIDTH + 128, HEIGHT + 128), interpolation=cv2.INTER_CUBIC)
    for index in range(count):
        x, y = (round(60 + 60 * wave) for wave in (np.sin(index / 41), np.cos(index / 67)))
        yield np.ascontiguousarray(ground[y : y + HEIGHT, x : x + WIDTH])


def read(name: str, path: Path, order: Iterable[int]) -> None:
    """Reads the frames and prints the peak memory on the way, and frames a second."""
    order = list(order)
    start = time.perf_counter()
    frames = video.open(path)
    opened_s = time.perf_counter() - start
    # a tenth, a half, all: minutes 1, 5 and 10
    stops = {round(len(order) * share): share for share in (0.1, 0.5, 1.0)}
    peaks = []
    start = time.perf_counter()
    for done, index in enumerate(order, start=1):
        frames[index]
        if done in stops:
            peaks.append(f"{peak_mb():.0f}")
    seconds = time.perf_counter() - start
    print(
        f"{name:10s} opened in {opened_s * 1e3:4.0f} ms; peak {' / '.join(peaks)} MB after a tenth, half, all of "
        f"{len(order)} frames; {len(order) / seconds:.0f} frames a second",
        flush=True,
    )


def peak_mb() -> float:
    """Peak resident memory of this process; Linux counts kB, macOS bytes."""
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6


if __name__ == "__main__":
    main()
