"""The two vendored face networks on OpenCV, loaded once a thread.

BlazeFace, short range (Bazarevsky et al., "BlazeFace: Sub-millisecond Neural Face Detection on Mobile GPUs",
CVPR Workshops 2019, arXiv 1907.05047) and Face Mesh (Kartynnik et al., "Real-time Facial Surface Geometry from
Monocular Video on Mobile GPUs", CVPR Workshops 2019, arXiv 1907.06724), Apache-2.0, see NOTICE.
"""

from __future__ import annotations

import hashlib
import threading
from functools import cache
from importlib import resources
from typing import Any

import cv2
import numpy as np

from fleeting.errors import UserError
from fleeting.records import Array

DETECTOR, MESH = "face_detection_short_range.tflite", "face_landmark.tflite"
_SHA256 = {
    DETECTOR: "bbff11cebd1eb27a1e004cae0b0e63ec8c551cbf34a4451148b4908b8db3eca8",
    MESH: "1055cb9d4a9ca8b8c688902a3a5194311138ba256bcc94e336d8373a5f30c814",
}
_LOADED = threading.local()  # a network keeps the picture that it works on: threads cannot share one


def run(name: str, blob: Array, outputs: tuple[str, ...]) -> list[Array]:
    """The named outputs of a network for a blob (1, 3, H, W) float32.

    Raises:
        UserError: the weights are not those that were published.
    """
    network = _network(name)
    network.setInput(blob)
    return [np.array(output) for output in network.forward(outputs)]


def _network(name: str) -> Any:
    if not hasattr(_LOADED, name):
        setattr(_LOADED, name, cv2.dnn.readNetFromTFLite(np.frombuffer(_weights(name), np.uint8)))
    return getattr(_LOADED, name)


@cache
def _weights(name: str) -> bytes:
    weights = (resources.files("fleeting") / "weights" / name).read_bytes()
    if (got := hashlib.sha256(weights).hexdigest()) != _SHA256[name]:
        raise UserError(f"{name}: want weights of sha256 {_SHA256[name]}, got {got}; install fleeting again")
    return weights
