"""A page: the onset, the apex as it was and as it is magnified, and the flow of each, as AMMSM's figure 1 shows it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import matplotlib as mpl
import numpy as np

from fleeting import motion, page
from fleeting.records import Array

_LEAST_PX = 0.1  # a still face must not look like a moving one
_NAMES = {"learned": "learned", "flow": "scaled flow", "linear": "linear"}


@dataclass(frozen=True)
class Apex:
    """What is drawn.

    Attributes:
        title: of the clip.
        onset, apex: (h, w, 3) uint8.
        uv: (2, h, w) px from onset to apex.
        magnified: method -> magnified flow; None for a method without flow.
        pictures: method -> the apex as it would be.
        factor: of magnification.
    """

    title: str
    onset: Array
    apex: Array
    uv: Array
    magnified: Mapping[str, Array | None]
    pictures: Mapping[str, Array]
    factor: float


def draw(out: Path, shown: Apex) -> None:
    """Writes the page. Colours of all flow are those of one wheel, whose rim is the longest magnified flow.

    Raises:
        UserError: another format than `page.FORMATS`, or it cannot be written.
    """
    page.check_format(out)
    count = 2 + len(shown.pictures)
    side = (page.WIDTH - 2 * page.EDGE + 0.15) / count - 0.15
    tall = side * shown.apex.shape[0] / shown.apex.shape[1]
    flows = [uv for uv in shown.magnified.values() if uv is not None]
    full = max(_LEAST_PX, *(1.001 * float(np.percentile(motion.magnitude(uv), 99)) for uv in [shown.uv, *flows]))
    with mpl.rc_context(page.STYLE):
        figure = page.sheet(f"{shown.title}: motion times {shown.factor:g}", 2 * tall + 1.75)
        for number, (name, picture, flow) in enumerate(_columns(shown)):
            left = page.EDGE + number * (side + 0.15)
            above = page.place(figure, left, 0.85, side, tall)
            above.imshow(picture)
            page.bare(above, name)
            below = page.place(figure, left, 1.3 + tall, side, tall)
            if isinstance(flow, str):
                page.bare(below, "")
                if flow == "wheel":
                    below.imshow(motion.wheel(160))
                    below.set_title(f"where to; the rim is {full:.3g} px", fontsize=9.5, loc="left", color=page.MUTED)
                else:
                    below.text(0, 1, flow, va="top", color=page.MUTED)
                    below.set_axis_off()
                continue
            below.imshow(motion.colours(flow, full))
            page.bare(below, f"up to {float(np.percentile(motion.magnitude(flow), 99)):.2f} px")
        page.save(figure, out)


def _columns(shown: Apex) -> list[tuple[str, Array, Array | str]]:
    """Title, picture, and the flow below it, or what stands in its place."""
    columns: list[tuple[str, Array, Array | str]] = [("onset", shown.onset, "wheel"), ("apex", shown.apex, shown.uv)]
    for name, picture in shown.pictures.items():
        flow = shown.magnified[name]
        columns.append(
            (f"{_NAMES[name]} x {shown.factor:g}", picture, "brightness only:\nno flow" if flow is None else flow)
        )
    return columns
