"""The page of an explanation: the face, what the network was given, and a heat map of each class over the face."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from fleeting import page
from fleeting.explain.maps import SIGNED
from fleeting.records import Array, FaceClip

_COLOURS = (("r", "g", "b"), ("wheel_r", "wheel_g", "wheel_b"))
_SIGNS = ("u", "v", "uu", "vv")
_COLUMNS = 5
_FULL = 99.5  # percentile of the heat that has the full colour
_DEPTH = 0.8  # opacity of the hottest place
_FOR, _AGAINST = "#b2182b", "#2166ac"
_TOP, _GAP, _ROW_TITLE = 1.15, 0.12, 0.62  # inches
_SEEN_SIDE, _SEEN_BELOW, _HEAT_SIDE, _HEAT_BELOW = 1.95, 0.3, 3.38, 0.52
_METHODS = {
    "grad_cam": "Grad-CAM",
    "grad_cam++": "Grad-CAM++",
    "hires_cam": "HiResCAM",
    "integrated": "integrated gradients",
    "gradient_input": "gradient times input",
    "attention": "weighted attention",
}
_SUBJECT = {
    True: "the subject was trained on: this says nothing about new people",
    False: "the subject was not trained on",
    None: "whether this person was trained on is not known",
}


@dataclass(frozen=True, eq=False)
class Explained:
    """A moment, a decision and its reasons.

    Attributes:
        face: the moment's face; without frames for published flow.
        arrays, channels: what the network was given of the first view, and the names of its channels.
        probabilities: class -> p.
        heats: class -> (h, w) map over `below`, NaN where the network does not look.
        below: (H, W) or (H, W, 3), what the maps are drawn over.
        method: of the maps.
        times_s: (T,) seconds of the frames, None where they are not known.
        regions: class -> part of the face -> share of the positive heat.
        trained_on: whether the subject was; None if not known.
    """

    face: FaceClip
    arrays: Mapping[str, Array]
    channels: Mapping[str, Sequence[str]]
    probabilities: Mapping[str, float]
    heats: Mapping[str, Array]
    below: Array
    method: str
    times_s: Array | None = None
    regions: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    trained_on: bool | None = None

    @property
    def decision(self) -> str:
        """The class with the highest probability."""
        return max(self.probabilities, key=self.probabilities.__getitem__)


def draw(out: Path, explained: Explained) -> None:
    """Onset and apex, the channels that the network was given, and the map of each class.

    All maps have one scale: the full colour is the 99.5th percentile of their absolute values together, so that a class
    that nothing speaks for stays pale. Red speaks for the class and, in signed maps, blue against it.

    Args:
        out: .png, .svg or .pdf.
        explained: what is drawn.

    Raises:
        UserError: another format, or the picture cannot be written.
    """
    page.check_format(out)
    with mpl.rc_context(page.STYLE):
        shown = [*faces(explained), *_given(explained)]
        seen = _Grid(len(shown), _SEEN_SIDE, _SEEN_BELOW)
        hot = _Grid(len(explained.heats), _HEAT_SIDE, _HEAT_BELOW)
        tops = _TOP, _TOP + seen.height + _ROW_TITLE - _SEEN_BELOW
        figure = page.sheet(explained.face.clip.key, tops[1] + hot.height)
        _headline(figure, explained)
        for axes, (name, picture, scale) in zip(seen.axes(figure, tops[0]), shown, strict=True):
            axes.imshow(picture, interpolation="nearest", **scale)
            page.bare(axes, name)
        page.say(figure, tops[1] - 0.47, legend(explained.method, "one scale for all classes"), page.MUTED)
        hottest = full(explained.heats.values())
        for axes, (word, heat) in zip(hot.axes(figure, tops[1]), explained.heats.items(), strict=True):
            _heat(axes, explained, word, heat / hottest)
        page.save(figure, out)


class _Grid:
    """Places of one size in rows, as large as fits."""

    def __init__(self, count: int, most: float, below: float) -> None:
        rows = max(1, -(-count // _COLUMNS))
        self.count, self.columns, self.below = count, max(1, -(-count // rows)), below
        self.side = min(most, (page.WIDTH - 2 * page.EDGE + _GAP) / self.columns - _GAP)
        self.height = rows * (self.side + below)

    def axes(self, figure: Figure, top: float) -> Iterator[Axes]:
        for number in range(self.count):
            row, column = divmod(number, self.columns)
            left = page.EDGE + column * (self.side + _GAP)
            yield page.place(figure, left, top + row * (self.side + self.below), self.side, self.side)


def _headline(figure: Figure, explained: Explained) -> None:
    probs = ",  ".join(f"{word} {value:.2f}" for word, value in explained.probabilities.items())
    page.say(figure, 0.42, f"decision: {explained.decision}    ({probs})", page.INK)
    colour = page.BAD if explained.trained_on else page.MUTED
    page.say(figure, 0.62, _SUBJECT[explained.trained_on], colour)


def legend(method: str, scale: str) -> str:
    """What the colours of a method's maps mean, and what has one scale."""
    signed = "red speaks for the class, blue against it" if method in SIGNED else "red speaks for the class"
    return f"reasons by {_METHODS[method]}: {signed}; {scale}"


def faces(explained: Explained) -> Iterator[tuple[str, Array, dict[str, Any]]]:
    """Onset and apex of the aligned face."""
    face, moment = explained.face, explained.face.moment
    if moment is None or not len(face.frames):
        return
    for name, index in (("onset", moment.onset), ("apex", moment.apex)):
        if index is not None:
            times = explained.times_s
            after = "" if times is None else f", {page.ms(times[index] - times[moment.onset])}"
            yield f"{name}: frame {index}{after}", face.frames[index], {}


def _given(explained: Explained) -> Iterator[tuple[str, Array, dict[str, Any]]]:
    """Each channel of each array, three colours as one picture; of a sequence the middle."""
    for array_name, array in explained.arrays.items():
        middle = array if array.ndim == 3 else array[:, array.shape[1] // 2]
        names = list(explained.channels[array_name])
        after = "" if array.ndim == 3 else ", middle"
        index = 0
        while index < len(names):
            if tuple(names[index : index + 3]) in _COLOURS:
                yield f"{array_name}{after}", np.moveaxis(middle[index : index + 3], 0, -1), {}
                index += 3
            else:
                yield f"{_name(names[index])}{after}", middle[index], _scale(names[index], middle[index])
                index += 1


def _name(channel: str) -> str:
    return f"{channel.removesuffix('255')}, min-max scaled" if channel.endswith("255") else channel


def _scale(name: str, values: Array) -> dict[str, Any]:
    """Signed channels around a white zero, min-max scaled components in greys, the others from white up."""
    if name in _SIGNS:
        top = float(np.percentile(np.abs(values), 99)) or 1.0
        return {"cmap": "PuOr", "vmin": -top, "vmax": top}
    if name in ("u255", "v255", "grey"):
        return {"cmap": "gray", "vmin": 0, "vmax": 255}
    return {
        "cmap": "YlOrRd",
        "vmin": 0,
        "vmax": 255 if name.endswith("255") else float(np.percentile(values, 99)) or 1.0,
    }


def full(heats: Iterable[Array]) -> float:
    """The heat that has the full colour, of maps that are drawn on one scale."""
    values = np.concatenate([np.abs(heat[np.isfinite(heat)]).ravel() for heat in heats])
    top = float(np.percentile(values, _FULL)) if len(values) else 0.0
    return top or float(values.max(initial=0)) or 1.0


def _heat(axes: Axes, explained: Explained, word: str, share: Array) -> None:
    """One class: the picture in greys, the map over it, its share of the decision and where the heat lies."""
    overlay(axes, explained, share)
    decided = word == explained.decision
    page.bare(axes, f"{word}  {explained.probabilities[word]:.2f}")
    axes.title.set_fontweight("bold" if decided else "normal")
    axes.text(0, 1.03, most(explained.regions.get(word, {})), va="top", fontsize=8.5, color=page.MUTED)
    if decided:
        axes.spines[:].set(visible=True, color=page.INK, linewidth=1.6)


def overlay(axes: Axes, explained: Explained, share: Array) -> None:
    """The picture below in greys, and a map of shares of the full colour, whose opacity is its strength.

    Args:
        share: (h, w) in -1..1, negative against the class; NaN where the network does not look.
    """
    below = explained.below.mean(axis=-1) if explained.below.ndim == 3 else explained.below
    extent = (0, 1, 1, 0)
    # flow alone: what is still is light, so that colours show
    axes.imshow(below, cmap="gray" if len(explained.face.frames) else "gray_r", extent=extent, alpha=0.85)
    clear = np.nan_to_num(share)
    colours = np.where((clear > 0)[..., None], mpl.colors.to_rgba(_FOR), mpl.colors.to_rgba(_AGAINST))
    # the eye takes little colour for none
    colours[..., 3] = _DEPTH * np.clip(np.abs(clear), 0, 1) ** 0.8
    colours[~np.isfinite(share)] = (1, 1, 1, 0.72)  # not looked at
    axes.imshow(colours, extent=extent, interpolation="nearest")


def most(shares: Mapping[str, float]) -> str:
    """The two parts of the face with the most heat, in percent."""
    largest = sorted(shares.items(), key=lambda share: -share[1])[:2]
    return ", ".join(f"{name} {share:.0%}" for name, share in largest if share > 0)
