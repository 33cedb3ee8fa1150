"""The middle of the annotated stretch as apex, for corpora that name no apex (SMIC-HS).

A convention, not a measurement: no picture is looked at. An expression that rises fast and falls slowly has its true
apex earlier.
"""

from pydantic import BaseModel

from fleeting.errors import UserError
from fleeting.records import FaceClip, Moment

LOOKS = False


class Options(BaseModel, frozen=True, extra="forbid"):
    """Nothing to choose."""


def locate(face: FaceClip, options: Options) -> list[Moment]:
    """The annotated onset and offset with the frame half way between them, rounded down (0 and 3 give 1).

    An annotated apex is not looked at. A clip of which only the frames are known has no length here (a video file
    would have to be opened), so it needs the annotation.

    Raises:
        UserError: the clip names no onset or no offset.
    """
    clip = face.clip
    if clip.onset is None or clip.offset is None:
        raise UserError(f"{clip.key}: want an annotated onset and offset, got none; choose another spotter")
    return [Moment(onset=clip.onset, apex=(clip.onset + clip.offset) // 2, offset=clip.offset)]
