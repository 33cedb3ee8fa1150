"""What an input needs of a clip, or one clear line that it is not there."""

from __future__ import annotations

from fleeting.errors import UserError
from fleeting.records import Array, FaceClip, FlowField, Moment


def moment(face: FaceClip) -> Moment:
    """The clip's moment.

    Raises:
        UserError: it has none.
    """
    if face.moment is None:
        raise UserError(f"{face.clip.key}: want a moment, got none; choose a spotter that finds one")
    return face.moment


def apex(found: Moment, name: str) -> int:
    """The apex frame.

    Args:
        found: of the clip.
        name: of the input that asks.

    Raises:
        UserError: the moment has none.
    """
    if found.apex is None:
        raise UserError(f"want a moment with an apex for {name}, got none; choose a spotter that finds one")
    return found.apex


def frame(face: FaceClip, index: int) -> Array:
    """(h, w, 3) uint8 RGB, the aligned frame.

    Raises:
        UserError: the clip is published flow without frames, or too short.
    """
    if not 0 <= index < len(face.frames):
        got = f"{len(face.frames)} frames" if len(face.frames) else "published flow without frames"
        raise UserError(f"{face.clip.key}: want frame {index}, got {got}; choose an input that needs none")
    return face.frames[index]


def pixels(field: FlowField, key: str, instead: str = "choose the input uvs28, or a corpus with frames") -> Array:
    """(2, h, w) float32 flow in pixels.

    Args:
        field: flow of any unit.
        key: of the clip.
        instead: what a user with published flow can do.

    Raises:
        UserError: the flow is published and min-max scaled.
    """
    if field.unit != "px":
        raise UserError(f"{key}: want flow in pixels, got published min-max scaled flow; {instead}")
    return field.uv
