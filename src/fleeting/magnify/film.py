"""Frames side by side, with what they are written above and where in time they are below."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import cv2
import numpy as np

from fleeting.records import Array, Moment

_LEAST = 360  # px: smaller faces are enlarged, or nobody sees what moves
_BAR, _GAP = 44, 8
_PAPER, _INK, _MUTED = (255, 255, 255), (28, 34, 40), (87, 97, 107)
_TITLES = {"original": "original", "learned": "learned x {0:g}", "flow": "flow x {0:g}", "linear": "linear x {0:g}"}


@dataclass(frozen=True)
class Film:
    """What is written below every frame.

    Attributes:
        title: of the clip.
        moment: whose onset is time 0.
        times_s: (T,) seconds of the frames of the recording, None where they are not known.
        factor: of magnification.
        slow: how many times slower it plays.
    """

    title: str
    moment: Moment
    times_s: Array | None
    factor: float
    slow: float


def panel(film: Film, index: int, pictures: Mapping[str, Array]) -> Array:
    """One frame of the video: (H, W, 3) uint8.

    Args:
        film: what it belongs to.
        index: of the frame in the recording.
        pictures: name -> (h, w, 3) uint8, all of one size.
    """
    height, width = next(iter(pictures.values())).shape[:2]
    scale = max(1, round(_LEAST / height))
    height, width = height * scale, width * scale
    page = np.full((height + 2 * _BAR, len(pictures) * (width + _GAP) - _GAP, 3), _PAPER, np.uint8)
    for number, (name, picture) in enumerate(pictures.items()):
        left = number * (width + _GAP)
        enlarged = picture if scale == 1 else cv2.resize(picture, (width, height), interpolation=cv2.INTER_CUBIC)
        page[_BAR : _BAR + height, left : left + width] = enlarged
        _write(page, _TITLES[name].format(film.factor), (left + 6, _BAR - 14), width - 12, _INK)
    _write(page, _below(film, index), (6, _BAR + height + 28), page.shape[1] - 12, _MUTED)
    return page


def _below(film: Film, index: int) -> str:
    moment = film.moment
    named = {moment.onset: ", onset", moment.apex: ", apex", moment.offset: ", offset"}.get(index, "")
    when = ""
    if film.times_s is not None:
        when = f", {1e3 * (film.times_s[index] - film.times_s[moment.onset]):+.0f} ms"
    slow = "" if film.slow == 1 else f", {film.slow:g} x slower"
    return f"{_ascii(film.title)}  frame {index}{when}{slow}{named}"


def _write(page: Array, text: str, at: tuple[int, int], width: int, colour: tuple[int, int, int]) -> None:
    """A line, as small as it must be to fit."""
    size = cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, 0.6, 1)[0][0]
    scale = 0.6 * min(1.0, width / max(size, 1))
    cv2.putText(page, text, at, cv2.FONT_HERSHEY_SIMPLEX, scale, colour, 1, cv2.LINE_AA)


def _ascii(text: str) -> str:
    """OpenCV's letters are few."""
    return text.encode("ascii", "replace").decode()
