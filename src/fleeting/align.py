"""Alignments by name: from landmarks to upright, cropped pictures of one size, warped when they are asked for.

| name | what | source |
|---|---|---|
| similarity | eyes and nose tip put at fixed places, 224 x 224 | MERba, after DFME (Zhao et al., IEEE TAC 2023) |
| registration | upright square around the 68 points, 240 x 240 | BOWAM (dlib's 68 points, one crop for the face) |
| centre | square from the middle of the frame, 384 x 384, no landmarks | the frame study's M1 |
| box | detector's box + 20 px, stretched to 224 x 224, grey | the frame study's M2 |
| none | the frame as it is | pictures that are cropped already |

A transform that is made anew for each frame follows the head, and with it a part of what one wants to see. So
`follow` says whether the onset frame's transform serves the whole clip. Where each frame has its own, the frame is
registered onto the onset frame by all its points, those that an expression moves counting little (least squares,
Umeyama, IEEE TPAMI 13, 1991, weighted anew by Cauchy's function of the residuals), and then cropped like the onset
frame: an expression stays, a head movement goes. On drawn faces that keeps nine tenths of a motion of half a pixel,
because the tracker itself gives way to it; the onset's transform keeps all of it. Only "box" is made afresh a frame, as
the frame study describes it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import cv2
import numpy as np
from pydantic import BaseModel, Field

from fleeting import landmarks
from fleeting.errors import UserError
from fleeting.records import Array, Clip, FaceClip, Moment, Track

Name = Literal["similarity", "registration", "centre", "box", "none"]
WANTS_LANDMARKS = ("similarity", "registration", "box")
_SIZES = {"similarity": 224, "registration": 240, "centre": 384, "box": 224}
# left eye, right eye, nose tip in parts of the picture's side: forehead and chin lie inside, the nose tip is as far
# below the eyes, .64 of the distance between them, as on the faces that were measured (.60 to .68)
_PLACES = np.array([[0.33, 0.34], [0.67, 0.34], [0.50, 0.558]])
_BORDER = 0.1  # of "registration", around the box of the 68 points, in parts of the box
_REWEIGHTED = 10  # steps of the registration


class Options(BaseModel, frozen=True, extra="forbid"):
    """How a face is brought into a picture.

    Attributes:
        name: of the alignment.
        follow: "onset": the onset frame's transform for the whole clip; "frame": one a frame; None: what the paper
            says ("frame" for "box"), else "onset".
        size: side of the picture in px; None: the alignment's own. "none" takes no size.
        colour: "rgb", or "grey" in three equal channels; None: the alignment's own ("grey" for "box").
        margin_px: what "box" adds on each side, in px of the recording.
    """

    name: Name = "similarity"
    follow: Literal["onset", "frame"] | None = None
    size: int | None = Field(None, ge=16, le=2048)
    colour: Literal["rgb", "grey"] | None = None
    margin_px: float = Field(20, ge=0)

    @property
    def side(self) -> int | None:
        """Side of the picture in px, None for "none"."""
        return None if self.name == "none" else self.size or _SIZES[self.name]

    @property
    def follows(self) -> str:
        """ "onset" or "frame"."""
        return self.follow or ("frame" if self.name == "box" else "onset")

    @property
    def colours(self) -> str:
        """ "rgb" or "grey"."""
        return self.colour or ("grey" if self.name == "box" else "rgb")


class Aligned(Sequence[Array]):
    """Aligned pictures of a recording: ``[i]`` reads and warps frame i, nothing is stored.

    Args:
        frames: the recording.
        transforms: (T, 2, 3) or (1, 2, 3) from the recording's pixels to the picture's, NaN where there is no
            face; None leaves the frames as they are.
        side: of the picture; grey: three equal channels.
        what: names the clip in a complaint.
    """

    def __init__(self, frames: Sequence[Array], transforms: Array | None, side: int, grey: bool, what: str) -> None:
        self._frames, self._transforms, self._side, self._grey, self._what = frames, transforms, side, grey, what

    def __len__(self) -> int:
        return len(self._frames)

    def __getitem__(self, index: int) -> Array:  # type: ignore[override]
        """(side, side, 3) uint8 RGB.

        Raises:
            UserError: no face was found on this frame, so that it has no transform.
        """
        index = range(len(self))[index]
        frame = self._frames[index]
        if self._transforms is not None:
            transform = self._transforms[index if len(self._transforms) > 1 else 0]
            if not np.isfinite(transform).all():
                raise UserError(
                    f"{self._what}: want a face on frame {index}, got none; set align.follow = 'onset', or choose "
                    "another face tracker"
                )
            frame = warp(frame, transform, self._side)
        return np.repeat(_luma(frame)[..., None], 3, axis=2) if self._grey else frame


def face(clip: Clip, frames: Sequence[Array], track: Track, moment: Moment | None, options: Options) -> FaceClip:
    """A recording as aligned pictures, with its landmarks moved along.

    Args:
        clip: whose frames these are.
        frames: (H, W, 3) uint8, lazy.
        track: landmarks of the frames that will be looked at, the onset among them.
        moment: gives the onset frame; None: the clip's own onset, else the first frame that has a face.

    Returns:
        A `FaceClip` with lazy pictures, and landmarks (T, K, 2) float32 in px of the picture (None without).

    Raises:
        UserError: no landmarks, or no face on the onset frame.
    """
    grey = options.colours == "grey"
    if options.name == "none":
        points = track.landmarks if track.landmarks.shape[1] else None
        pictures: Sequence[Array] = Aligned(frames, None, 0, grey, clip.key) if grey else frames
        return FaceClip(clip, moment, pictures, points)
    side = options.side or 0
    onset = _reference(clip, track, moment, options)
    places = _transforms(clip, frames, track, onset, options).astype(np.float32)
    points = moved(track.landmarks, places) if track.landmarks.shape[1] else None
    return FaceClip(clip, moment, Aligned(frames, places, side, grey, clip.key), points)


def transforms(clip: Clip, frames: Sequence[Array], track: Track, moment: Moment | None, options: Options) -> Array:
    """(T or 1, 2, 3) float64: the transforms that `face` uses, from the recording's pixels to the picture's.

    Raises:
        UserError: as `face`.
    """
    return _transforms(clip, frames, track, _reference(clip, track, moment, options), options)


def grey(picture: Array) -> Array:
    """(h, w) float32 in [0, 1] of an RGB picture (h, w, 3) uint8: what flow is computed on (ITU-R BT.601 luma)."""
    return np.asarray(_luma(picture).astype(np.float32) / 255)


def warp(picture: Array, transform: Array, side: int) -> Array:
    """A picture under a 2 x 3 transform, (side, side, 3) uint8.

    A transform that shrinks is sampled more densely and averaged, so that fine texture does not turn into
    false motion; beyond the frame its border is repeated.
    """
    shrinks = 1 / math.sqrt(max(abs(np.linalg.det(transform[:, :2])), 1e-12))
    dense = int(np.clip(math.ceil(shrinks - 0.05), 1, 8))
    scaled = transform * dense
    scaled[:, 2] += (dense - 1) / 2  # a pixel's centre, not its corner, is its place
    large = cv2.warpAffine(
        picture, scaled, (side * dense, side * dense), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
    )
    if dense == 1:
        return np.asarray(large)
    return np.asarray(cv2.resize(large, (side, side), interpolation=cv2.INTER_AREA))


def fit(source: Array, target: Array, weights: Array | None = None) -> Array:
    """The similarity transform (2, 3) that takes points nearest to others, in the sense of least squares.

    Args:
        source, target: (N, 2) points (x, y), N >= 2.
        weights: (N,) of the squared errors; None: all alike.

    Returns:
        (2, 3) float64 rotation, scale and translation without mirroring; NaN where a point is NaN.
    """
    # points as complex numbers: target = a source + b, |a| the scale and its angle the rotation
    if not (np.isfinite(source).all() and np.isfinite(target).all()):
        return np.full((2, 3), np.nan)
    one, two = source[:, 0] + 1j * source[:, 1], target[:, 0] + 1j * target[:, 1]
    share = np.full(len(one), 1 / len(one)) if weights is None else weights / weights.sum()
    one_mean, two_mean = (share * one).sum(), (share * two).sum()
    centred = one - one_mean
    spread = (share * np.abs(centred) ** 2).sum()
    a = (share * centred.conj() * (two - two_mean)).sum() / spread if spread else complex(np.nan, np.nan)
    b = two_mean - a * one_mean
    return np.array([[a.real, -a.imag, b.real], [a.imag, a.real, b.imag]])


def _luma(picture: Array) -> Array:
    return np.asarray(cv2.cvtColor(np.ascontiguousarray(picture), cv2.COLOR_RGB2GRAY))


def _reference(clip: Clip, track: Track, moment: Moment | None, options: Options) -> int:
    """The frame whose face makes the transform."""
    if options.name == "centre":
        return 0
    if not track.landmarks.shape[1]:
        raise UserError(
            f"{clip.key}: want landmarks for the alignment {options.name!r}, got none; set face.name = 'mesh', or "
            "align.name = 'none' for pictures that are cropped already"
        )
    onset = moment.onset if moment else clip.onset
    found = np.flatnonzero(track.state == 1)
    if onset is None and len(found):
        onset = int(found[0])
    if onset is None or track.state[onset] != 1:
        where = "on any frame" if onset is None else f"on the onset frame {onset}"
        raise UserError(
            f"{clip.key}: want a face {where}, got none; look at the recording, choose another face tracker, or set "
            "align.name = 'none'"
        )
    return onset


def _transforms(clip: Clip, frames: Sequence[Array], track: Track, onset: int, options: Options) -> Array:
    """(1, 2, 3), or (T, 2, 3) where each frame has its own."""
    side = options.side or 0
    if options.name == "centre":
        height, width = np.shape(frames[_any_frame(track)])[:2]
        return _centre(height, width, side)[None]
    if options.name == "box":
        chosen = [onset] if options.follows == "onset" else range(len(track.state))
        limit = np.shape(frames[onset])[:2]
        return np.stack([_box(track, index, limit, options) for index in chosen])
    crop = _similarity(track.landmarks[onset], side) if options.name == "similarity" else None
    crop = _registration(track.landmarks[onset], side) if crop is None else crop
    if options.follows == "onset":
        return crop[None]
    still = _held(track.landmarks[onset])
    return np.stack([_after(crop, _registered(_held(points), still)) for points in track.landmarks])


def _any_frame(track: Track) -> int:
    looked = np.flatnonzero(track.state >= 0)
    return int(looked[0]) if len(looked) else 0


def _similarity(points: Array, side: int) -> Array:
    return fit(landmarks.five(points)[:3].astype(np.float64), _PLACES * side - 0.5)


def _registration(points: Array, side: int) -> Array:
    """Upright by the line between the eyes, square around the 68 points."""
    points = landmarks.sixty_eight(points).astype(np.float64)
    left, right = landmarks.five(points)[:2]
    angle = math.atan2(right[1] - left[1], right[0] - left[0])
    turn = np.array([[math.cos(angle), math.sin(angle)], [-math.sin(angle), math.cos(angle)]])
    x0, y0, x1, y1 = landmarks.box(points @ turn.T)
    scale = side / (max(x1 - x0, y1 - y0) * (1 + 2 * _BORDER))
    shift = (side - 1) / 2 - scale * np.array([(x0 + x1) / 2, (y0 + y1) / 2])
    return np.concatenate([scale * turn, shift[:, None]], axis=1)


def _centre(height: int, width: int, side: int) -> Array:
    """Cut without scaling where the frame is large enough, else the largest square, scaled."""
    square = min(height, width, side)
    scale = side / square
    left, top = (width - square) // 2, (height - square) // 2
    return np.array([[scale, 0, (0.5 - left) * scale - 0.5], [0, scale, (0.5 - top) * scale - 0.5]])


def _box(track: Track, index: int, limit: tuple[int, ...], options: Options) -> Array:
    """The box and its margin inside the frame, stretched to a square."""
    box = landmarks.box(track.landmarks[index]) if track.boxes is None else track.boxes[index]
    low = np.maximum(np.floor(box[:2] - options.margin_px), 0)
    high = np.minimum(np.ceil(box[2:] + options.margin_px), limit[::-1])
    scale = (options.side or 0) / np.maximum(high - low, 1)
    shift = (0.5 - low) * scale - 0.5
    return np.array([[scale[0], 0, shift[0]], [0, scale[1], shift[1]]])


def _held(points: Array) -> Array:
    """(N, 2) points that hold a face: all, or of five the eyes and the nose."""
    return np.asarray(points[:3] if len(points) == 5 else points, np.float64)


def _registered(source: Array, target: Array) -> Array:
    """`fit` in which points far from where the others go count little."""
    found = fit(source, target)
    for _ in range(_REWEIGHTED):
        away = np.linalg.norm(source @ found[:, :2].T + found[:, 2] - target, axis=1)
        # the median of the absolute residuals, as the standard deviation of a normal law
        found = fit(source, target, 1 / (1 + (away / (1.4826 * np.median(away) + 1e-6)) ** 2))
    return found


def _after(second: Array, first: Array) -> Array:
    """The transform that does `first`, then `second`."""
    row = [[0.0, 0.0, 1.0]]
    return np.asarray((np.concatenate([second, row]) @ np.concatenate([first, row]))[:2])


def moved(points: Array, transforms: Array) -> Array:
    """(T, K, 2) points under (T or 1, 2, 3) transforms."""
    moved = (
        np.einsum("tij,tkj->tki", transforms[:, :, :2], points)
        if len(transforms) > 1
        else (points @ transforms[0, :, :2].T)
    )
    return np.asarray(moved + transforms[:, None, :, 2], dtype=np.float32)
