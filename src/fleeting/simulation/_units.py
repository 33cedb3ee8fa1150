"""Action units as displacement fields: anchored at mesh points, left and right apart, falling off smoothly.

Names are those of the Facial Action Coding System (Ekman and Friesen, 1978), as corpora write them: "12", "L12",
"R12". L is the subject's left side, which is the right of the picture. Which points move, and where to, is ours.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from fleeting.errors import UserError, nearest
from fleeting.records import Array
from fleeting.simulation._person import Person


class _Pull(NamedTuple):
    """Points of the picture's left side and of its right, the direction of the left ones (x to the nose, y down),
    and how far the skin around comes along, as a share of the face's height."""

    left: tuple[int, ...]
    right: tuple[int, ...]
    towards: tuple[float, float]
    reach: float


_UNITS: dict[str, tuple[_Pull, ...]] = {
    "1": (_Pull((107, 55), (336, 285), (0.0, -1.0), 0.055),),
    "2": (_Pull((70, 63, 46), (300, 293, 276), (0.0, -1.0), 0.055),),
    "4": (_Pull((107, 66, 105), (336, 296, 334), (0.55, 0.83), 0.06),),
    "5": (_Pull((159, 158), (386, 385), (0.0, -1.0), 0.022),),
    "6": (_Pull((117, 118, 50), (346, 347, 280), (0.15, -0.99), 0.075),),
    "7": (_Pull((145, 153, 144), (374, 380, 373), (0.0, -1.0), 0.025),),
    "9": (_Pull((129, 98, 126), (358, 327, 355), (0.1, -0.99), 0.045), _Pull((55,), (285,), (0.3, 0.5), 0.04)),
    "10": (_Pull((39, 40, 92), (269, 270, 322), (0.0, -1.0), 0.045),),
    "11": (_Pull((165, 203), (391, 423), (-0.4, -0.9), 0.045),),
    "12": (_Pull((61, 57), (291, 287), (-0.72, -0.69), 0.08),),
    "14": (_Pull((61,), (291,), (-1.0, 0.0), 0.05),),
    "15": (_Pull((61, 43), (291, 273), (-0.15, 0.99), 0.06),),
    "16": (_Pull((84, 181), (314, 405), (0.0, 1.0), 0.05),),
    "17": (_Pull((199, 18), (199, 18), (0.0, -1.0), 0.075),),
    "18": (_Pull((61, 40), (291, 270), (1.0, 0.0), 0.07),),
    "20": (_Pull((61, 57, 43), (291, 287, 273), (-0.97, 0.25), 0.09),),
    "23": (_Pull((61,), (291,), (1.0, 0.1), 0.04),),
    "24": (_Pull((37, 0), (267, 0), (0.0, 0.7), 0.035), _Pull((84, 17), (314, 17), (0.0, -0.7), 0.035)),
    "25": (_Pull((84, 17), (314, 17), (0.0, 1.0), 0.045),),
    "26": (_Pull((152, 199, 17), (152, 199, 17), (0.0, 1.0), 0.13),),
}
NAMES = tuple(_UNITS)
"""Units that can be shown."""


def field(person: Person, units: Mapping[str, float]) -> Array:
    """Where a face moves to.

    Args:
        person: at rest.
        units: name -> amplitude in px of a face 224 px high; where a unit moves most, it moves by so much.

    Returns:
        (2, h, w) float32, px of the recording, for each point of the face at rest.

    Raises:
        UserError: an unknown unit.
    """
    total = np.zeros((2, *person.size), np.float32)
    for name, amplitude in units.items():
        side, number = parsed(name)
        total += np.float32(amplitude * person.scale) * _pulled(person.number, person.size, number, side, person)
    return total


def parsed(name: str) -> tuple[str, str]:
    """("L", "R" or "" for both, number).

    Raises:
        UserError: an unknown unit.
    """
    found = re.fullmatch(r"(?:AU)?([LR]?)(\d+)", name.strip().upper())
    if not found or found[2] not in _UNITS:
        raise UserError(
            f"want an action unit of {', '.join(_UNITS)}, L or R before it, got {name!r}{nearest(name, _UNITS)}"
        )
    return found[1], found[2]


class _Key:
    """A person as a key of the cache below: two of the same number and size are the same."""

    def __init__(self, person: Person) -> None:
        self.person = person

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Key)

    def __hash__(self) -> int:
        return 0


def _pulled(number: int, size: tuple[int, int], unit: str, side: str, person: Person) -> Array:
    return _field(number, size, unit, side, _Key(person))


@lru_cache(maxsize=256)
def _field(number: int, size: tuple[int, int], unit: str, side: str, key: _Key) -> Array:
    """(2, h, w) of a unit, of one side or ("") both, 1 where it is largest: sides that meet in the middle add up."""
    person = key.person
    rows, columns = np.mgrid[0 : size[0], 0 : size[1]].astype(np.float32)
    total = np.zeros((2, *size), np.float32)
    for pull, left in [(pull, which == "L") for pull in _UNITS[unit] for which in side or "LR"]:
        anchors = person.landmarks[list(pull.right if left else pull.left)]
        reach = pull.reach * np.ptp(person.landmarks[:, 1])
        near = sum(np.exp(-((columns - x) ** 2 + (rows - y) ** 2) / (2 * reach**2)) for x, y in anchors)
        own = np.array(pull.towards) * ([-1, 1] if left else [1, 1])
        direction = person.axes @ own
        total += (direction[:, None, None] * (near / np.max(near))).astype(np.float32)
    return np.asarray(total / np.hypot(*total).max())
