"""The face mesh: 468 points of a face in a turned square, and whether a face is there at all."""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np

from fleeting.faces import _networks
from fleeting.faces._squares import Square, around, back, cut, distance
from fleeting.records import Array

SIZE = 192
POINTS = 468
_ROOM = 1.5  # side of the square that the network sees, in sides of the face
_EYES = (33, 263)  # outer corners, left and right in the picture
_PASSES = 4


@dataclass(frozen=True, eq=False)
class Mesh:
    """A face.

    Attributes:
        points: (468, 2) float32 px of the picture.
        presence: 0 to 1, what the network takes the square for: a face or not.
    """

    points: Array
    presence: float

    @property
    def square(self) -> Square:
        """The square in which the network should see this face."""
        return around(self.points, self.points[list(_EYES)], _ROOM)


def look(picture: Array, square: Square) -> Mesh:
    """One look of the network at a square.

    Args:
        picture: (H, W, 3) uint8 RGB.
        square: upright by the eyes, 1.5 times as wide as the face.
    """
    blob = cv2.dnn.blobFromImage(cut(picture, square, SIZE), 1 / 255)
    points, logit = _networks.run(_networks.MESH, blob, ("conv2d_21", "conv2d_31"))
    presence = 1 / (1 + math.exp(-max(-80.0, min(80.0, float(logit.item())))))
    return Mesh(back(points.reshape(POINTS, 3)[:, :2], square, SIZE), presence)


def settle(picture: Array, square: Square, nearness: float) -> Mesh:
    """Looks until the square of the points found is the square looked at.

    What the network finds depends a little on where the square lies. A square that fits its own points does
    not depend on where the search began: on the detector's box, or on the face of another frame.

    Args:
        picture: (H, W, 3) uint8 RGB.
        square: where to begin.
        nearness: the greatest difference that is let pass, as a share of the side; at most four looks.
    """
    for _ in range(_PASSES):
        mesh = look(picture, square)
        if distance(square, mesh.square) <= nearness or not mesh.square.side:
            break
        square = mesh.square
    return mesh


def start(box: Array, eyes: Array) -> Square:
    """The square to begin with: the detector's box, turned by its eyes."""
    corners = np.array([box[:2], box[2:]])
    upright = around(corners, np.array([[0, 0], [1, 0]]), _ROOM)
    turned = around(eyes, eyes, 1)
    return Square(upright.x, upright.y, upright.side, turned.angle)
