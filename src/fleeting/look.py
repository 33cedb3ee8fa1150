"""Pictures to look at: a moment with its flow and strain, and where in a recording a face was found."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from fleeting import landmarks, motion, page
from fleeting.errors import UserError, ranges, spans
from fleeting.page import FORMATS, check_format
from fleeting.records import Array, FaceClip, FlowField, Moment, Pair, Track

# a still face must not look like a moving one: below this length colours stay pale
_LEAST_PX, _LEAST_STRAIN = 0.1, 0.01
_CLOSED = ("left_eye", "right_eye", "mouth")
_MOST_NAMED, _THUMBNAILS = 6, 8
# inches: a picture, and what stands to its right; three fill the page
_SIDE, _BESIDE = 2.75, 0.8


def draw(
    out: Path,
    face: FaceClip,
    field: FlowField,
    pair: Pair,
    times_s: Array | None = None,
    title: str | None = None,
) -> None:
    """Onset, apex and offset of a moment, the flow between two of its frames, its length and its strain.

    Flow is drawn as colours (hue: where to, depth: how far) with arrows, length in px, strain in px/px; 99 % of a map
    lie below the end of its scale. Published flow that is min-max scaled has neither zero nor direction: u, v and
    the published strain are drawn as they are. Where landmarks are known their outline lies over the maps.

    Args:
        out: .png, .svg or .pdf.
        face: the clip with its moment; without frames only the flow is drawn.
        field: the flow.
        pair: the frames between which it runs.
        times_s: (T,) seconds of the frames; without them the clip's fps gives the time, if it has one.
        title: above the picture; the clip's key if None.

    Raises:
        UserError: another format, or the picture cannot be written.
    """
    page.check_format(out)
    moment = face.moment if len(face.frames) else None
    with mpl.rc_context(page.STYLE):
        figure = page.sheet(face.clip.key if title is None else title, 7.85 if moment else 3.75)
        if moment is not None:
            seconds = _seconds(face, times_s)
            _frames(_row(figure, 0.75), face, moment, pair, seconds)
            below = page.place(figure, page.EDGE, 7.0, page.WIDTH - 2 * page.EDGE, 0.75)
            _time_line(below, moment, len(face.frames), seconds)
        _maps(_row(figure, 3.85 if moment else 0.75), field, _between(face, pair), _outline(face, field, pair))
        page.save(figure, out)


def track_strip(out: Path, frames: Sequence[Array], track: Track) -> None:
    """Where in a recording a face was found, how large it was, and frames to see it.

    Args:
        out: .png, .svg or .pdf.
        frames: the recording; its `times_s` and `fps`, where it has them, give the time axis.
        track: of the recording.

    Raises:
        UserError: another format, the picture cannot be written, or the track is of another recording.
    """
    page.check_format(out)
    if len(track.state) != len(frames):
        raise UserError(
            f"{out}: want a track of {len(frames)} frames, got one of {len(track.state)}; track this recording"
        )
    height, width = frames[0].shape[:2]
    side, gap = (page.WIDTH - 2 * page.EDGE + 0.1) / _THUMBNAILS, 0.1
    below = 0.75 + (side - gap) * height / width
    with mpl.rc_context(page.STYLE):
        figure = page.sheet(_summary(track.state), below + 2.55)
        for number, index in enumerate(_spread(np.flatnonzero(track.state >= 0))):
            axes = page.place(figure, page.EDGE + number * side, 0.75, side - gap, (side - gap) * height / width)
            _thumbnail(axes, frames[index], index, track)
        strip = page.place(figure, page.EDGE + 0.45, below + 1.65, page.WIDTH - 2 * page.EDGE - 0.45, 0.3)
        size = page.place(figure, page.EDGE + 0.45, below + 0.5, page.WIDTH - 2 * page.EDGE - 0.45, 1.05)
        size.sharex(strip)
        _face_height(size, track)
        _states(strip, track.state)
        _time_above(size, frames)
        page.save(figure, out)


def _row(figure: Figure, top: float) -> list[Axes]:
    """Three places for pictures."""
    return [page.place(figure, page.EDGE + number * (_SIDE + _BESIDE), top, _SIDE, _SIDE) for number in range(3)]


def settle(out: Path, moments: Sequence[dict[str, Any]]) -> None:
    """Of numbered pictures (`numbered`) one alone takes the name itself; the moment's ``picture`` says so."""
    if len(moments) == 1:
        Path(moments[0]["picture"]).replace(out)
        moments[0]["picture"] = str(out)


def numbered(out: Path, moments: Sequence[dict[str, Any]]) -> Path:
    """Where the picture after those of `moments` goes: ``NAME_1.png``, ``NAME_2.png``, ..."""
    return out.with_stem(f"{out.stem}_{len(moments) + 1}")


def _fit(axes: Axes, picture: Array) -> None:
    """What is drawn over a picture does not widen it."""
    axes.set(xlim=(-0.5, picture.shape[1] - 0.5), ylim=(picture.shape[0] - 0.5, -0.5))


# --- a moment


def _seconds(face: FaceClip, times_s: Array | None) -> Array | None:
    if times_s is None and face.clip.fps:
        return np.arange(len(face.frames)) / face.clip.fps
    return times_s


def _frames(row: Sequence[Axes], face: FaceClip, moment: Moment, pair: Pair, times_s: Array | None) -> None:
    middle = ("apex", moment.apex) if moment.apex is not None else ("second frame of the flow", pair[1])
    shown = (("onset", moment.onset), middle, ("offset", moment.offset))
    for axes, (name, index) in zip(row, shown, strict=True):
        picture = face.frames[index]
        axes.imshow(picture)
        after = "" if times_s is None else f", {page.ms(times_s[index] - times_s[moment.onset])}"
        page.bare(axes, f"{name}: frame {index}{after}")
        if face.landmarks is not None and np.isfinite(face.landmarks[index]).all():
            x, y = face.landmarks[index].T
            axes.plot(x, y, ".", color="white", markersize=9 if len(x) <= 5 else 1.8, markeredgewidth=0, alpha=0.75)
        _fit(axes, picture)


def _maps(row: Sequence[Axes], field: FlowField, between: str, outline: Array | None) -> None:
    first, second, third = row
    if field.unit == "minmax":
        for axes, values, name in ((first, field.uv[0], "u"), (second, field.uv[1], "v")):
            _map(axes, values, f"{name}, {between}", "min-max scaled: no sign, no zero", "gray")
    else:
        _flow(first, field.uv, f"flow, {between}")
        _map(second, motion.magnitude(field.uv), "length of the flow", "px", "YlGnBu", _LEAST_PX)
    if field.strain is not None:
        unit = "min-max scaled" if field.unit == "minmax" else "px/px"
        _map(third, field.strain, "optical strain, as published", unit, "YlOrRd")
    elif field.unit == "minmax":
        # the strain of scaled components would be that of another field
        third.set_visible(False)
    else:
        _map(third, motion.strain(field.uv), "optical strain", "px/px", "YlOrRd", _LEAST_STRAIN)
    for axes in row:
        _draw_outline(axes, outline)
        _fit(axes, field.uv[0])


def _between(face: FaceClip, pair: Pair) -> str:
    """The frames of published flow have no numbers, only names."""
    if len(face.frames) or face.moment is None:
        return f"frame {pair[0]} to {pair[1]}"
    moment = face.moment
    names = {moment.offset: "offset", moment.apex: "apex", moment.onset: "onset"}
    return " to ".join(names.get(index, f"frame {index}") for index in pair)


def _flow(axes: Axes, uv: Array, name: str) -> None:
    """The colours, arrows on a grid of about 20, and a wheel that says how far its rim is."""
    height, width = uv.shape[1:]
    # a little above: rounding must not push a uniform field over the end of the colours
    full = max(1.001 * float(np.percentile(motion.magnitude(uv), 99)), _LEAST_PX)
    axes.imshow(motion.colours(uv, full))
    step = max(1, min(height, width) // 20)
    y, x = np.mgrid[step // 2 : height : step, step // 2 : width : step]
    u, v = uv[0, y, x] / full, uv[1, y, x] / full
    moving = np.hypot(u, v) > 0.15
    axes.quiver(
        *(part[moving] for part in (x, y, u, v)),
        angles="xy",
        scale_units="xy",
        scale=1 / (1.4 * step),
        width=0.0035,
        color=page.INK,
        alpha=0.7,
    )
    page.bare(axes, name)
    inset = axes.inset_axes((1.03, 0.0, 0.22, 0.22))
    inset.imshow(_disc(160))
    inset.set_title(f"{full:.2g} px", fontsize=9, color=page.MUTED, pad=3)
    inset.set_axis_off()


def _disc(side: int) -> Array:
    """(side, side, 4) uint8: the colour wheel, clear outside."""
    at = (np.arange(side) + 0.5) / side * 2 - 1
    inside = np.hypot(at[:, None], at[None, :]) <= 1
    return np.dstack([motion.wheel(side), np.where(inside, 255, 0).astype(np.uint8)])


def _map(axes: Axes, values: Array, name: str, unit: str, colours: str, least: float | None = None) -> None:
    """A map with its scale; `least` is where the scale ends at the lowest, None for values in [0, 1]."""
    top = 1.0 if least is None else max(float(np.percentile(values, 99)), least)
    drawn = axes.imshow(values, cmap=colours, vmin=0, vmax=top)
    beside = axes.inset_axes((1.03, 0.0, 0.045, 1.0))
    bar = axes.figure.colorbar(drawn, cax=beside, extend="max" if values.max() > top else "neither")
    bar.set_label(unit)
    bar.outline.set_visible(False)
    page.bare(axes, name)


def _outline(face: FaceClip, field: FlowField, pair: Pair) -> Array | None:
    """68 points in the pixels of the flow, None where they are not known."""
    if face.landmarks is None or not len(face.frames):
        return None
    points = face.landmarks[pair[0]]
    if len(points) < 68 or not np.isfinite(points).all():
        return None
    height, width = face.frames[pair[0]].shape[:2]
    ratio = np.array([field.uv.shape[2] / width, field.uv.shape[1] / height])
    return np.asarray((landmarks.sixty_eight(points) + 0.5) * ratio - 0.5)


def _draw_outline(axes: Axes, points: Array | None) -> None:
    if points is None:
        return
    for name, indices in landmarks.REGIONS.items():
        line = points[list(indices)]
        if name in _CLOSED:
            # of the mouth the outer ring, which is its first 12 points
            line = np.vstack([line[:12], line[:1]])
        axes.plot(*line.T, color=page.INK, linewidth=0.7, alpha=0.5)


def _time_line(axes: Axes, moment: Moment, count: int, times_s: Array | None) -> None:
    """The moment on a stretch of the recording, as long again on both sides."""
    margin = max(3, moment.offset - moment.onset)
    left, right = max(0, moment.onset - margin), min(count - 1, moment.offset + margin)
    for low, high, colour in ((left, right, page.RULE), (moment.onset, moment.offset, page.GOOD)):
        axes.plot([low, high], [0, 0], color=colour, linewidth=6, solid_capstyle="round")
    marks = [("onset", moment.onset, page.GOOD), ("offset", moment.offset, page.GOOD), ("apex", moment.apex, page.BAD)]
    for name, index, colour in marks:
        if index is None:
            continue
        apex = name == "apex"
        axes.plot(index, 0, "o", markersize=12 if apex else 9, color=colour)
        after = "" if times_s is None else f", {page.ms(times_s[index] - times_s[moment.onset])}"
        side, place = ("bottom", 9) if apex else ("top", -9)
        # away from the other, but not over the edge
        at_edge = (index - left if name == "onset" else right - index) < 0.15 * (right - left)
        ha = "center" if apex else "right" if (name == "onset") != at_edge else "left"
        _note(axes, index, f"{name} {index}{after}", (0, place), {"ha": ha, "va": side})
    _note(axes, left, f"{left}", (-9, 0), {"ha": "right", "va": "center", "color": page.MUTED})
    _note(axes, right, f"{right}", (9, 0), {"ha": "left", "va": "center", "color": page.MUTED})
    axes.set(xlim=(left - 0.05 * (right - left), right + 0.05 * (right - left)), ylim=(-1, 1))
    page.bare(axes, f"frames {left} to {right}, of {count}")


def _note(axes: Axes, at: float, words: str, away: tuple[float, float], style: dict[str, Any]) -> None:
    axes.annotate(words, (at, 0), xytext=away, textcoords="offset points", **style)


# --- a recording


def _summary(state: Array) -> str:
    looked = int((state >= 0).sum())
    without = spans(np.flatnonzero(state == 0))
    if not without:
        return f"a face on all {looked} frames" + (" that were looked at" if looked < len(state) else "")
    more = f" and {len(without) - _MOST_NAMED} more stretches" if len(without) > _MOST_NAMED else ""
    return f"a face on {int((state == 1).sum())} of {looked} frames; none on {ranges(without[:_MOST_NAMED])}{more}"


def _spread(indices: Array) -> list[int]:
    """Up to eight of them, evenly."""
    count = min(_THUMBNAILS, len(indices))
    return [int(indices[at]) for at in np.linspace(0, len(indices) - 1, count).round().astype(int)] if count else []


def _thumbnail(axes: Axes, picture: Array, index: int, track: Track) -> None:
    step = max(1, picture.shape[0] // 240)
    axes.imshow(picture[::step, ::step], extent=(-0.5, picture.shape[1] - 0.5, picture.shape[0] - 0.5, -0.5))
    found = track.state[index] == 1
    page.bare(axes, f"{index}" if found else f"{index}: no face")
    if found:
        left, top, right, bottom = _boxes(track)[index]
        axes.plot([left, right, right, left, left], [top, top, bottom, bottom, top], color="white", linewidth=1.2)
    else:
        axes.set_title(f"{index}: no face", fontsize=9.5, loc="left", color=page.BAD)
    _fit(axes, picture)


def _boxes(track: Track) -> Array:
    """(T, 4) around the landmarks; the detector's from a tracker without landmarks."""
    if track.landmarks.shape[1]:
        return landmarks.box(track.landmarks)
    return np.full((len(track.state), 4), np.nan) if track.boxes is None else track.boxes


def _face_height(axes: Axes, track: Track) -> None:
    boxes = _boxes(track)
    height = np.where(track.state == 1, boxes[:, 3] - boxes[:, 1], np.nan)
    # a line needs neighbours
    alone = len(height) < 2 or bool(np.isnan(height[1:] + height[:-1]).all())
    axes.plot(np.arange(len(height)), height, "." if alone else "-", color=page.GOOD, linewidth=1.2)
    axes.set(ylabel="face height, px", ylim=(0, 1.15 * np.nanmax(height) if np.isfinite(height).any() else 1))
    axes.spines[["top", "right", "bottom"]].set_visible(False)
    axes.grid(axis="y", color=page.RULE, linewidth=0.6)
    axes.tick_params(axis="x", labelbottom=False, length=0)


def _states(axes: Axes, state: Array) -> None:
    """Stretches with a face, without, and not looked at; a single frame stays visible in an hour."""
    for value, colour, name in ((-1, page.RULE, "not looked at"), (1, page.GOOD, "face"), (0, page.BAD, "no face")):
        runs = spans(np.flatnonzero(state == value))
        if runs:
            bars = [(low - 0.5, high - low + 1) for low, high in runs]
            axes.broken_barh(bars, (0, 1), facecolor=colour, edgecolor=colour, linewidth=0.8, label=name)
    axes.set(xlim=(-0.5, len(state) - 0.5), ylim=(0, 1), yticks=[], xlabel="frame")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.spines[:].set_visible(False)
    axes.legend(ncols=3, loc="upper right", bbox_to_anchor=(1, -0.8), frameon=False, handlelength=1, borderaxespad=0)


def _time_above(axes: Axes, frames: Sequence[Array]) -> None:
    """A second axis in seconds, exact where the frame rate varies."""
    times_s, fps = getattr(frames, "times_s", None), getattr(frames, "fps", None)
    if times_s is None or not fps or len(times_s) < 2:
        return
    numbers: Any = np.arange(len(times_s))

    def seconds(at: Any) -> Any:
        return np.interp(at, numbers, times_s) + (at - np.clip(at, 0, numbers[-1])) / fps

    def number(at: Any) -> Any:
        return np.interp(at, times_s, numbers) + (at - np.clip(at, times_s[0], times_s[-1])) * fps

    above = axes.secondary_xaxis("top", functions=(seconds, number))
    above.set_xlabel("s", loc="right")
    above.spines[:].set_visible(False)


__all__ = ["FORMATS", "check_format", "draw", "numbered", "settle", "track_strip"]
