"""What a tracker tells the user about several faces."""

from collections.abc import Mapping


def several(crowds: Mapping[int, int]) -> tuple[str, ...]:
    """One line about the frames on which more than one face was found, none if there are none.

    Args:
        crowds: frame -> number of faces, in order.
    """
    if not crowds:
        return ()
    first, most = next(iter(crowds)), max(crowds.values())
    larger = "larger" if most == 2 else "largest"
    if len(crowds) == 1:
        return (f"{most} faces on frame {first}: took the {larger} one",)
    return (f"up to {most} faces on {len(crowds)} frames, the first is frame {first}: took the {larger} one",)
