"""The moment that the corpus names: onset, apex and offset of the annotation."""

from pydantic import BaseModel

from fleeting.errors import UserError
from fleeting.records import FaceClip, Moment

LOOKS = False


class Options(BaseModel, frozen=True, extra="forbid"):
    """Nothing to choose."""


def locate(face: FaceClip, options: Options) -> list[Moment]:
    """The annotated moment; its apex is None where the corpus names none.

    Raises:
        UserError: the clip names no onset or no offset.
    """
    clip = face.clip
    if clip.onset is None or clip.offset is None:
        raise UserError(f"{clip.key}: want an annotated onset and offset, got none; choose another spotter")
    return [Moment(onset=clip.onset, apex=clip.apex, offset=clip.offset)]
