"""Video files: an index of time stamps from one pass over the packets, then frames by seeking to a key frame before."""

from __future__ import annotations

import os
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import closing
from fractions import Fraction
from pathlib import Path
from threading import Lock
from typing import NamedTuple, cast

import av
import av.error
import numpy as np
from av.packet import Packet
from av.sidedata.sidedata import SideData

from fleeting.errors import UserError
from fleeting.records import Array, Pair
from fleeting.video.containers import is_cut
from fleeting.video.pictures import LEAST

# decoded frames that are kept for looking back; at 640 x 360 about 90
_KEPT_BYTES, _KEPT_AT_LEAST = 32 << 20, 8
# reading on is cheaper than a seek to a key frame that is no further away
_NEAR = 8
# these predict frames from others, so a hidden error would look like motion; picture codecs are left lenient, for
# cameras that write odd headers
_STRICT = ("h264", "hevc")
# transfer characteristics of high dynamic range: PQ and HLG (ITU-T H.273)
_HIGH_RANGE = (16, 18)
_ABANDONED: list[object] = []
# demuxers that take any text for a video
_NO_VIDEO = ("tty",)


class _Index(NamedTuple):
    """What one pass over the packets tells.

    pts: (T,) int64, ascending, of the frames that will be shown; keys: ascending time stamps of key frames;
    base_s: seconds a tick; rate: as the container has it; counted: the stamps cannot be trusted to name a
    frame, frames go by their position in the file.
    """

    pts: Array
    keys: Array
    base_s: Fraction
    rate: Fraction | None
    counted: bool


class Movie:
    """A video file.

    Frames that an edit list hides are left out; rotation and mirroring of the display matrix are applied.
    Colours follow the file's tags. Time stamps of AVI files with B-frames, and missing or repeated ones, name no
    frame: such a file is decoded once to count, and again from its beginning when one looks far back.

    Attributes:
        stamps: (T,) float64 seconds, exact time stamps; the first need not be 0.
        fps: mean rate; the container's where the time stamps agree with it to a tick of their clock.
        size, gaps, notices: as of `Frames`.

    Raises:
        UserError: the file is missing, empty, cut off, without video or without time stamps, its first frame cannot
            be decoded, or it is below 16 px a side.
    """

    gaps: tuple[int, ...] = ()

    def __init__(self, path: Path) -> None:
        self.what, self.path = str(path), path
        self._lock = Lock()
        self._forget()
        self._index = _indexed(path)
        self.stamps = _seconds(self._index.pts, self._index.base_s)
        self.fps = _fps(self._index)
        first = self._find(0)
        self._upright = _orientation(first)
        picture = self._picture(first)
        self.size: Pair = (picture.shape[0], picture.shape[1])
        if min(self.size) < LEAST:
            raise UserError(f"{path}: want at least {LEAST} px a side, got {_across(self.size)}; choose another video")
        assert self._stream is not None
        self.notices = tuple(_oddities(first, self._stream, self.stamps))

    def read(self, index: int) -> Array:
        """(H, W, 3) uint8 RGB. Safe in threads and after a fork.

        Raises:
            UserError: the frame is damaged, or of another size than the first.
        """
        if self._process != os.getpid():
            self._leave_behind()
        with self._lock:
            picture = self._picture(self._find(index))
        if picture.shape[:2] != self.size:
            raise UserError(
                f"{self.path}, frame {index}: want {_across(self.size)} px like the first frame, got "
                f"{_across(picture.shape)}; cut the video where its size changes"
            )
        return picture

    def close(self) -> None:
        """Closes the file and drops the frames that were kept; the next `read` opens it again."""
        with self._lock:
            if self._container is not None and self._process == os.getpid():
                self._container.close()
            self._forget()

    def _leave_behind(self) -> None:
        """After a fork: a decoder's threads do not come along, so that even closing it would wait for them."""
        _ABANDONED.append((self._container, self._running, self._kept))
        self._lock = Lock()
        self._forget()

    def _forget(self) -> None:
        self._container: av.container.InputContainer | None = None
        self._stream: av.VideoStream | None = None
        self._running: Iterator[tuple[int, av.VideoFrame]] | None = None
        self._process = os.getpid()
        self._next = 0
        self._kept: OrderedDict[int, av.VideoFrame] = OrderedDict()

    def _find(self, index: int) -> av.VideoFrame:
        """The frame from what is kept, by reading on, from the key frame before, or from one before that."""
        if index in self._kept:
            return self._kept[index]
        why = ""
        for start in self._starts(index):
            try:
                frame = self._forward(start, index)
            except av.error.FFmpegError as error:
                frame, why, self._running = None, f" ({error.strerror})", None
            if frame is not None:
                return frame
        raise UserError(
            f"{self.path}: want {len(self._index.pts)} frames, but frame {index} cannot be decoded{why}; copy the file "
            "again, or write it anew with ffmpeg"
        )

    def _starts(self, index: int) -> Iterator[int | None]:
        """Where to begin, best first: None to read on, a key frame's time stamp, -1 below all for the file's start."""
        pts, keys = self._index.pts, self._index.keys
        before = keys[: np.searchsorted(keys, pts[index], side="right")]
        key = int(np.searchsorted(pts, before[-1])) if len(before) else 0
        if self._running is not None and self._next <= index and (self._index.counted or key <= self._next + _NEAR):
            yield None
        if not self._index.counted:
            yield from (int(stamp) for stamp in before[:-3:-1])
        yield int(min(pts[0], *keys[:1])) - 1

    def _forward(self, start: int | None, index: int) -> av.VideoFrame | None:
        """Decodes up to the frame; None where it does not come."""
        if start is not None:
            self._restart(start)
        assert self._running is not None
        for position, frame in self._running:
            self._next = position + 1
            if frame.is_corrupt:
                continue
            self._keep(position, frame)
            if position >= index:
                return frame if position == index else None
        self._running = None
        return None

    def _restart(self, start: int) -> None:
        """Seeks to a key frame; to the file's start by opening it anew, since some containers cannot seek at all."""
        if self._container is None or start not in self._index.keys:
            if self._container is not None:
                self._container.close()
            self._container, self._stream = _opened(self.path)
        else:
            self._container.seek(start, stream=self._stream)
        # a function, not a method: a generator that holds its owner would keep the file open until the next collection
        self._running = _decoded(self._container, self._stream, self._index, start)

    def _keep(self, position: int, frame: av.VideoFrame) -> None:
        self._kept[position] = frame
        room = max(_KEPT_AT_LEAST, _KEPT_BYTES // max(1, sum(plane.buffer_size for plane in frame.planes)))
        while len(self._kept) > room:
            self._kept.popitem(last=False)

    def _picture(self, frame: av.VideoFrame) -> Array:
        # one thread: several cost more than they bring, and get the last row of some formats wrong
        picture = frame.to_ndarray(format="rgb24", threads=1)
        (across, down), turned = self._upright[:2], self._upright[2]
        picture = picture[::down, ::across]
        return np.ascontiguousarray(picture.transpose(1, 0, 2) if turned else picture)


def _decoded(
    container: av.container.InputContainer, stream: av.VideoStream | None, index: _Index, start: int
) -> Iterator[tuple[int, av.VideoFrame]]:
    """(position, frame); what comes before the key frame leans on frames that were not decoded."""
    for count, frame in enumerate(container.decode(stream)):
        assert isinstance(frame, av.VideoFrame)
        if index.counted:
            yield count, frame
        elif frame.pts is not None and frame.pts >= start:
            position = int(np.searchsorted(index.pts, frame.pts))
            if position < len(index.pts) and index.pts[position] == frame.pts:
                yield position, frame


def _indexed(path: Path) -> _Index:
    if not path.exists():
        raise UserError(f"{path}: want a video file or a folder of pictures, found neither; look at the path")
    container, stream = _opened(path)
    with closing(container):
        stamps, keys, doubtful, whole = [], [], False, 0
        for packet in _packets(container, stream, path):
            doubtful |= packet.pts is None
            if packet.pts is None and packet.dts is None:
                raise UserError(
                    f"{path}: want time stamps, got a bare stream of frames without; put it into an mp4 with ffmpeg"
                )
            stamp = packet.dts if packet.pts is None else packet.pts
            whole += not packet.is_corrupt
            if packet.is_keyframe:
                keys.append(stamp)
            if not packet.is_discard:
                stamps.append(stamp)
        base_s, rate, promised = stream.time_base or Fraction(1), stream.average_rate, stream.frames
        # AVI has no time stamps, only an order, and B-frames are not stored in the order in which they are shown
        doubtful |= container.format.name == "avi" and bool(stream.codec_context.has_b_frames)
    # a cut below the last frame, in an index or a tag, takes nothing away
    if is_cut(path) and not 0 < promised <= whole:
        raise UserError(
            f"{path}: want {promised or 'more'} frames, the file ends at {whole}; copy it again, or keep "
            "what is there with ffmpeg -i IN -c copy OUT"
        )
    if not stamps:
        raise UserError(f"{path}: want a video, got none of its frames; copy it again")
    pts = np.sort(np.array(stamps, np.int64))
    index = _Index(pts, np.sort(np.array(keys, np.int64)), base_s, rate, False)
    return _counted(path, index) if doubtful or (np.diff(pts) == 0).any() else index


def _packets(
    container: av.container.InputContainer, stream: av.VideoStream, path: Path
) -> Iterator[Packet[av.VideoStream]]:
    """Those that hold a frame; what is damaged past recognition ends the file."""
    try:
        yield from (packet for packet in container.demux(stream) if packet.size)
    except av.error.FFmpegError as error:
        raise UserError(f"{path}: want a whole video, got {error.strerror}; copy it again") from error


def _counted(path: Path, index: _Index) -> _Index:
    """The index by decoding everything: frames in the order in which they are shown, with stamps that rise."""
    container, stream = _opened(path)
    stamps: list[int | None] = []
    with closing(container):
        try:
            stamps.extend(frame.pts for frame in container.decode(stream))
        except av.error.FFmpegError as error:
            raise UserError(
                f"{path}: want a whole video, the file is damaged at frame {len(stamps)} ({error.strerror}); "
                "copy it again"
            ) from error
    known = np.array([stamp for stamp in stamps if stamp is not None], np.int64)
    if len(known) == len(stamps) and (np.diff(known) > 0).all():
        return index._replace(pts=known, counted=True)
    if len(index.pts) == len(stamps) and (np.diff(index.pts) > 0).all():
        return index._replace(counted=True)
    if not index.rate:
        raise UserError(f"{path}: want time stamps, got neither those nor a frame rate; write it anew with ffmpeg")
    tick = 1 / (index.rate * index.base_s)
    return index._replace(pts=np.array([round(count * tick) for count in range(len(stamps))], np.int64), counted=True)


def _opened(path: Path) -> tuple[av.container.InputContainer, av.VideoStream]:
    """The file and its video, not counting the picture on a cover."""
    try:
        # "file:": a name with a colon is no protocol; foreign letters in tags are no reason to stop
        container = av.open(f"file:{path}", metadata_errors="replace")
    except (av.error.FFmpegError, OSError) as error:
        raise UserError(f"{path}: want a video, got {_unreadable(path, error)}") from error
    streams = [one for one in container.streams.video if not one.disposition & av.stream.Disposition.attached_pic]
    if container.format.name in _NO_VIDEO or not streams:
        kinds = sorted({str(one.type) for one in container.streams if one not in container.streams.video}) or ["text"]
        container.close()
        raise UserError(f"{path}: want a video, got a file of {' and '.join(kinds)} only; choose another file")
    stream = streams[0]
    # frame threads read ahead, and every seek would throw that away; cores are busy with other clips
    stream.thread_type = "SLICE"
    if stream.codec_context.name in _STRICT:
        stream.codec_context.options = {"err_detect": "explode"}
    return container, stream


def _unreadable(path: Path, error: Exception) -> str:
    if path.stat().st_size == 0:
        return "an empty file; copy it again"
    if is_cut(path):
        return "a file that ends before its index (was it cut off while it was written?); copy it again"
    return f"something else ({getattr(error, 'strerror', '') or error}); name a video file"


def _seconds(pts: Array, base_s: Fraction) -> Array:
    """Exact products, divided once."""
    return np.asarray(pts * float(base_s.numerator) / float(base_s.denominator), np.float64)


def _fps(index: _Index) -> float:
    """The container's rate where the time stamps agree, else theirs: mp4 counts a long last frame into its mean."""
    lasts_s = int(index.pts[-1] - index.pts[0]) * index.base_s
    steps = len(index.pts) - 1
    if index.rate and abs(lasts_s - steps / index.rate) <= index.base_s:
        return float(index.rate)
    return float(steps / lasts_s) if lasts_s else float(index.rate or 0) or 1.0


def _orientation(frame: av.VideoFrame) -> tuple[int, int, bool]:
    """Steps along x and y, then whether x and y change places, that make a frame upright.

    The display matrix (ISO/IEC 14496-12, 6.2.2) maps (x, y) to (a x + c y, b x + d y); of it the nearest of the
    eight turns and mirrorings is taken.
    """
    stored = cast(SideData | None, frame.side_data.get("DISPLAYMATRIX"))
    if stored is None:
        return 1, 1, False
    a, b, _, c, d = np.frombuffer(bytes(stored), np.int32)[:5].tolist()
    turned = abs(b) + abs(c) > abs(a) + abs(d)
    along_x, along_y = (b, c) if turned else (a, d)
    return (-1 if along_x < 0 else 1), (-1 if along_y < 0 else 1), turned


def _oddities(frame: av.VideoFrame, stream: av.VideoStream, stamps: Array) -> Iterator[str]:
    if frame.interlaced_frame:
        yield "interlaced: a frame holds two instants, which looks like motion; deinterlace it first (ffmpeg -vf bwdif)"
    shape = stream.sample_aspect_ratio
    if shape and shape != 1:
        yield f"pixels are {shape.numerator}:{shape.denominator}, not square; they are taken as they are"
    if frame.color_trc in _HIGH_RANGE:
        yield "high dynamic range, taken without tone mapping: pictures look flat"
    steps_ms = np.diff(stamps) * 1e3
    usual_ms = float(np.median(steps_ms)) if len(steps_ms) else 0.0
    # Matroska counts whole milliseconds
    if (np.abs(steps_ms - usual_ms) > 0.2 * usual_ms + 2).any():
        yield (
            f"variable frame rate: {steps_ms.min():.1f} to {steps_ms.max():.1f} ms from frame to frame, "
            f"{usual_ms:.1f} ms as a rule"
        )


def _across(size: tuple[int, ...]) -> str:
    return f"{size[1]} x {size[0]}"
