"""468 points of the face mesh, followed from frame to frame: BlazeFace and Face Mesh on OpenCV, no other package."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from pydantic import BaseModel, Field

from fleeting.faces import _blazeface, _facemesh
from fleeting.faces._facemesh import Mesh
from fleeting.faces._notices import several
from fleeting.faces._squares import Square
from fleeting.records import Array, Track

_SAME = 0.3  # boxes that overlap by more (intersection over union) are one person


class Options(BaseModel, frozen=True, extra="forbid"):
    """What is taken for a face, and how it is followed.

    Attributes:
        detector_threshold: least score of the detector (BlazeFace's published default).
        presence_threshold: least probability of the mesh network that a face is there at all. The detector alone
            takes clouds for faces.
        min_face_px: least side of the detector's box.
        tiles: how often the picture is halved into overlapping squares, in which the detector looks besides
            the whole. A face is found from about a tenth of the picture's longer side without tiles, from a
            seventeenth with 1, from a twenty-fifth with 2 (6 and 34 more looks at a picture of 16 : 9).
        candidates: of how many faces, the largest first, the mesh is tried in a picture.
        redetect: after how many frames the detector must see the followed face again, lest the mesh sticks to
            something else. 1 takes every frame on its own.
        settle: how far, as a share of its side, the square that the mesh looked at may be from the one that its
            points ask for; otherwise it looks again.
    """

    detector_threshold: float = Field(0.5, gt=0, lt=1)
    presence_threshold: float = Field(0.5, gt=0, lt=1)
    min_face_px: float = Field(16, ge=1)
    tiles: int = Field(1, ge=0, le=3)
    candidates: int = Field(6, ge=1)
    redetect: int = Field(25, ge=1)
    settle: float = Field(0.005, gt=0)


@dataclass(frozen=True, eq=False)
class _Face:
    """A followed face: its mesh, the detector's box, and the frame on which the detector last saw it."""

    mesh: Mesh
    box: Array
    seen: int = 0


def track(frames: Sequence[Array], which: Sequence[int], options: Options) -> Track:
    """The mesh of one face on the frames asked for, in their order in time.

    A frame begins with the face of the frame asked for before it, without the detector; the detector looks when
    there was none, when the mesh network sees no face any more, and every `redetect` frames, where it only
    confirms: the points do not jump. Of several faces the largest is taken and then followed (`Track.notices`).

    Nothing is smoothed over time. The points of a frame depend on the other frames asked for only through where
    the search begins, and `settle` bounds that (on two videos, all frames against every 12th and every 40th: 0.2 and
    0.4 % of the distance of the eyes, at most 1.6 %); with `redetect` = 1 (and one face) they do not at all.

    Args:
        frames: (H, W, 3) uint8 RGB each.
        which: indices of the frames to look at.
        options: see `Options`.

    Returns:
        468 landmarks. `boxes` are the detector's (from the brows to the chin) where it found the face, from there on
        they move and grow with the landmarks, also where it confirms it. A frame without a face has state 0; that no
        frame has one is no error.
    """
    count = len(frames)
    landmarks = np.full((count, _facemesh.POINTS, 2), np.nan, np.float32)
    boxes, state = np.full((count, 4), np.nan, np.float32), np.full(count, -1, np.int8)
    face, last, crowds = None, None, {}
    for index in sorted(set(which)):
        face, crowd = _next(frames[index], index, face, last, options)
        last = face or last
        state[index] = face is not None
        if face is not None:
            landmarks[index], boxes[index] = face.mesh.points, face.box
        if crowd > 1:
            crowds[index] = crowd
    return Track(landmarks, state, boxes, several(crowds))


def _next(
    picture: Array, index: int, before: _Face | None, last: _Face | None, options: Options
) -> tuple[_Face | None, int]:
    """The face on a frame, and how many there are where all were looked for, else 1.

    `before` is the face of the frame before, `last` the last one that there was.
    """
    if before is not None and options.redetect > 1:
        face = _follow(picture, before, options)
        if face is not None and index - face.seen < options.redetect:
            return face, 1
        if face is not None and _is_seen(picture, face, options):
            return replace(face, seen=index), 1
    faces = _search(picture, options)
    if not faces:
        return None, 0
    return replace(_choose(faces, last), seen=index), len(faces)


def _follow(picture: Array, before: _Face, options: Options) -> _Face | None:
    """The face of an earlier frame where it is now; its box moves and grows with the square of its points."""
    mesh = _facemesh.settle(picture, before.mesh.square, options.settle)
    if not _is_face(mesh, options):
        return None
    old, new = before.mesh.square, mesh.square
    middle = np.array([old.x, old.y, old.x, old.y])
    box = (before.box - middle) * (new.side / old.side) + np.array([new.x, new.y, new.x, new.y])
    return _Face(mesh, box.astype(np.float32), before.seen)


def _is_seen(picture: Array, face: _Face, options: Options) -> bool:
    """Whether the detector sees the face too: in the picture, or in a square twice as wide as the face."""
    near = replace(face.mesh.square, angle=0.0)
    for square in (_whole(picture), replace(near, side=near.side * 2 / 1.5)):
        found = _blazeface.find(picture, [square], options.detector_threshold)
        if found and _blazeface.overlap(face.box, np.stack([one.box for one in found])).max() > _SAME:
            return True
    return False


def _search(picture: Array, options: Options) -> list[_Face]:
    """Every face that the detector and the mesh agree on, the largest first."""
    found = _blazeface.find(picture, _squares(picture, options.tiles), options.detector_threshold)
    large = [one for one in found if one.side >= options.min_face_px][: options.candidates]
    faces: list[_Face] = []
    for one in large:
        face = _Face(_facemesh.settle(picture, _facemesh.start(one.box, one.eyes), options.settle), one.box)
        if _is_face(face.mesh, options) and not any(_is_same(face, other) for other in faces):
            faces.append(face)
    return sorted(faces, key=lambda face: -face.mesh.square.side)


def _choose(faces: list[_Face], last: _Face | None) -> _Face:
    """The face that was followed if one is where it was, else the largest."""
    if last is not None:
        shares = _blazeface.overlap(last.box, np.stack([face.box for face in faces]))
        if shares.max() > _SAME:
            return faces[int(shares.argmax())]
    return faces[0]


def _is_face(mesh: Mesh, options: Options) -> bool:
    return mesh.presence >= options.presence_threshold and mesh.square.side > 0


def _is_same(one: _Face, other: _Face) -> bool:
    """Two candidates of the detector on which the mesh settled on one face."""
    apart = math.hypot(one.mesh.square.x - other.mesh.square.x, one.mesh.square.y - other.mesh.square.y)
    return apart < min(one.mesh.square.side, other.mesh.square.side) / 4


def _whole(picture: Array) -> Square:
    height, width = picture.shape[:2]
    return Square((width - 1) / 2, (height - 1) / 2, max(height, width))


def _squares(picture: Array, tiles: int) -> list[Square]:
    """The whole picture, and for each halving the squares of that side, overlapping by half."""
    height, width = picture.shape[:2]
    squares = [_whole(picture)]
    for halving in range(1, tiles + 1):
        side = max(height, width) / 2**halving
        squares += [Square(x, y, side) for y in _middles(height, side) for x in _middles(width, side)]
    return squares


def _middles(length: int, side: float) -> list[float]:
    """Middles of stretches of length `side` that cover a length and overlap by at least half."""
    if side >= length:
        return [(length - 1) / 2]
    count = math.ceil(2 * (length - side) / side) + 1
    return [float(middle) - 0.5 for middle in np.linspace(side / 2, length - side / 2, count)]
