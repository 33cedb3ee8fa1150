"""Whether a video file was cut off: what its container says about its own size, against the size it has."""

from __future__ import annotations

from pathlib import Path
from typing import BinaryIO

_BOXES = {b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip", b"pnot"}
_EBML, _SEGMENT = b"\x1aE\xdf\xa3", b"\x18S\x80g"


def is_cut(path: Path) -> bool:
    """Whether bytes are missing at the end; False where the container does not say how long it is.

    Read are the sizes of mp4 and mov boxes (ISO/IEC 14496-12), of AVI's RIFF chunks and of Matroska's segment
    (RFC 9559); a transport stream has none.
    """
    with path.open("rb") as stream:
        head = stream.read(4096)
        if head[4:8] in _BOXES:
            end = _boxes(stream, path.stat().st_size)
        elif head[:4] == b"RIFF":
            end = _chunks(stream, path.stat().st_size)
        else:
            end = _segment(head)
    return end > path.stat().st_size


def _boxes(stream: BinaryIO, size: int) -> int:
    """Where the last box ends."""
    end = 0
    while end + 8 <= size:
        stream.seek(end)
        head = stream.read(16)
        length = int.from_bytes(head[:4], "big")
        if length == 1:
            length = int.from_bytes(head[8:16], "big")
        # 0: up to the end of the file, whatever that is; below 8: no box at all
        if length < 8:
            break
        end += length
    return end


def _chunks(stream: BinaryIO, size: int) -> int:
    """Where the last RIFF chunk ends; a file above 1 GB has several. The padding byte may be absent."""
    end = 0
    while end + 8 <= size:
        stream.seek(end + end % 2)
        head = stream.read(8)
        length = int.from_bytes(head[4:8], "little")
        # 0: never closed by the recorder
        if head[:4] != b"RIFF" or not length:
            break
        end += end % 2 + 8 + length
    return end


def _segment(head: bytes) -> int:
    """Where Matroska's segment ends; 0 where it is of unknown size, or something else."""
    if not head.startswith(_EBML):
        return 0
    length, at = _number(head, 4)
    at += length
    if head[at : at + 4] != _SEGMENT:
        return 0
    length, begin = _number(head, at + 4)
    return begin + length if length else 0


def _number(data: bytes, at: int) -> tuple[int, int]:
    """A variable-length integer of EBML (RFC 8794, section 4), 0 for "unknown"; and where it ends."""
    width = 9 - data[at].bit_length() if at < len(data) else 9
    if width > 8:
        return 0, at + 1
    unknown = (1 << 7 * width) - 1
    value = int.from_bytes(data[at : at + width], "big") & unknown
    return (0 if value == unknown else value), at + width
