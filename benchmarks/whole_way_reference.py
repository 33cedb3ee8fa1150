"""The way from video to flow, written plainly: one frame at a time, Haar cascade, crop, TV-L1. For comparison only."""

from __future__ import annotations

import time
from pathlib import Path

import cv2
import numpy as np

SIDE = 224


def plain_way(path: Path, frames: int) -> dict[str, float]:
    """Seconds a stage over the first frames of a video: flow from the first frame to each."""
    seconds = dict.fromkeys(("decode", "face", "align", "flow"), 0.0)
    capture = cv2.VideoCapture(str(path))
    cascade = cv2.CascadeClassifier(cv2.data.haarcascades + "haarcascade_frontalface_default.xml")
    first = None
    for _ in range(frames):
        start = time.perf_counter()
        _, picture = capture.read()
        grey = cv2.cvtColor(picture, cv2.COLOR_BGR2GRAY)
        seconds["decode"] += time.perf_counter() - start

        start = time.perf_counter()
        faces = cascade.detectMultiScale(grey, 1.1, 5)
        seconds["face"] += time.perf_counter() - start

        start = time.perf_counter()
        x, y, width, height = max(faces, key=lambda face: face[2]) if len(faces) else (0, 0, *grey.shape[::-1])
        face = cv2.resize(grey[y : y + height, x : x + width], (SIDE, SIDE))
        seconds["align"] += time.perf_counter() - start

        start = time.perf_counter()
        first = face if first is None else first
        flow = cv2.optflow.DualTVL1OpticalFlow_create().calc(first, face, None)
        assert np.isfinite(flow).all()
        seconds["flow"] += time.perf_counter() - start
    return seconds
