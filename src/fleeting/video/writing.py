"""Frames into a video file."""

from __future__ import annotations

from collections.abc import Iterable
from fractions import Fraction
from pathlib import Path

import av
import av.error
import cv2
import numpy as np

from fleeting import files
from fleeting.errors import UserError
from fleeting.records import Array

# the tag of BT.709 and of limited range, in PyAV's numbers as in the standard (ITU-T H.273)
_BT709, _LIMITED = 1, 1


def write(path: Path, frames: Iterable[Array], fps: float | Fraction, crf: int = 16) -> None:
    """Frames as an h264 mp4 (yuv420p, BT.709), whole or not at all, one frame in memory at a time.

    h264 wants even sides: the last row or column of an odd picture is written twice.

    Args:
        path: should end in .mp4.
        frames: (H, W, 3) uint8 RGB, all of one size.
        fps: frames a second; 29.97 and the like are taken for what they are, 30000/1001.
        crf: constant rate factor of x264, 0 (exact but for the colours) to 51; at 16 a face's motion survives.

    Raises:
        UserError: there is no frame, a frame has another size or is not 8-bit RGB, fps is not above 0, or the file
            cannot be written.
    """
    if not fps > 0:
        raise UserError(f"{path}: want frames a second above 0, got {fps}; name the rate")
    with files.replacing(path) as temporary:
        try:
            _encode(temporary, str(path), frames, _rate(fps), crf)
        except av.error.FFmpegError as error:
            # those with an errno are OSError too, and `replacing` knows what to say
            if isinstance(error, OSError):
                raise
            raise UserError(f"{path}: want a video, but the encoder gave up ({error}); try another size") from error


def _encode(temporary: Path, what: str, frames: Iterable[Array], rate: Fraction, crf: int) -> None:
    """PyAV only makes the file when the first frame comes."""
    shape: tuple[int, ...] | None = None
    with av.open(f"file:{temporary}", "w", format="mp4", options={"movflags": "+faststart"}) as container:
        stream = container.add_stream("libx264", rate=rate, options={"crf": str(crf)})
        stream.pix_fmt = "yuv420p"
        stream.codec_context.colorspace, stream.codec_context.color_range = _BT709, _LIMITED
        for index, picture in enumerate(frames):
            _check(picture, shape, f"{what}, frame {index}")
            if shape is None:
                shape = picture.shape
                stream.height, stream.width = (side + side % 2 for side in shape[:2])
            frame = _frame(picture)
            frame.pts, frame.time_base = index, 1 / rate
            container.mux(stream.encode(frame))
        if shape is None:
            raise UserError(f"{what}: want at least one frame to write, got none; look at the recording")
        container.mux(stream.encode(None))


def _check(picture: Array, shape: tuple[int, ...] | None, what: str) -> None:
    if picture.ndim != 3 or picture.shape[2] != 3 or picture.dtype != np.uint8:
        raise UserError(f"{what}: want (H, W, 3) uint8 RGB, got {picture.shape} {picture.dtype}; convert it")
    if shape is not None and picture.shape != shape:
        raise UserError(f"{what}: want {shape} like the first frame, got {picture.shape}; cut or pad it")


def _frame(picture: Array) -> av.VideoFrame:
    height, width = picture.shape[:2]
    even = cv2.copyMakeBorder(picture, 0, height % 2, 0, width % 2, cv2.BORDER_REPLICATE)
    frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(even, np.uint8), format="rgb24")
    # one thread: with several, swscale gets the last row of some formats wrong
    return frame.reformat(format="yuv420p", dst_colorspace=_BT709, dst_color_range=_LIMITED, threads=1)


def _rate(fps: float | Fraction) -> Fraction:
    """29.97, 23.976 and 59.94 as n * 1000 / 1001; others as the nearest fraction."""
    ntsc = Fraction(round(fps * 1001 / 1000) * 1000, 1001)
    if ntsc and abs(ntsc - Fraction(fps)) / ntsc < Fraction(1, 30_000):
        return ntsc
    return Fraction(fps).limit_denominator(1001)
