"""What a preprocessing leaves of a recording: is the face in the middle of the picture, and how much is in it.

The figures of the frame study's Table I (Fikri and Ramadhani, "Preprocessing Paradox in Vision Transformer-Based
Micro-Expression Recognition", 2025), for any corpus. The paper prints "face center" (84 % for M1, 100 % for M2) and
"info. density" (442K, 50K) and defines neither. So these are the plainest readings:

* centred: the middle of the box around the face's landmarks lies in the middle third of the picture, across and down
  (`TOLERANCE`). Only pictures in which a face is found count; how many these are is said beside it.
* density: how many numbers a picture holds, height x width x colours, colours 1 for a grey picture however many equal
  channels it is stored in. 384 x 384 x 3 and 224 x 224 give the paper's 442K and 50K.

Neither speaks of the face that is in the picture, so two more stand beside them: the share of pictures that hold the
whole box, and the share of the picture that the box covers. On the first frames of CASME II's 255 clips, with the
landmarks that Zhang et al. (SLSTT) published, the middle 384 px of the frame (M1) have 46 % centred faces, and 32 % of
the faces are wholly in them: these faces sit low. The paper's 84 % would come out at .22 of the side instead of 1/6.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from fleeting import config, landmarks, seeing
from fleeting.config import Choice, Experiment
from fleeting.errors import UserError
from fleeting.records import Array, Clip
from fleeting.seeing import Progress, Seen, quiet

TOLERANCE = 1 / 6
"""How far the middle of a centred face is from that of the picture at most, in sides of the picture, either way."""
PREPROCESSINGS: dict[str, dict[str, Any]] = {"M1": {"name": "centre"}, "M2": {"name": "box"}}
"""The frame study's two, as alignments."""


@dataclass(frozen=True)
class Quality:
    """Figures of one preprocessing.

    Attributes:
        name: of it, or of the experiment.
        clips, pictures: that were measured; the pictures are the frames that the input asks for.
        height, width: of a picture as the network sees it, px.
        colours: 3, or 1 where the channels are equal.
        values: of a picture, height x width x colours.
        found: share of the pictures in which a face was found.
        centred, whole: shares of these whose face is in the middle, and lies wholly inside.
        distance: mean distance of the middle of the face from that of the picture, in sides of the picture.
        face: mean share of the picture that the box around the face covers.
        broken: key -> why a clip was left out.

    `centred` to `face` are None where no face was found.
    """

    name: str
    clips: int
    pictures: int
    height: int
    width: int
    colours: int
    values: int
    found: float
    centred: float | None
    whole: float | None
    distance: float | None
    face: float | None
    broken: Mapping[str, str]


def measure(experiment: Experiment, clips: Sequence[Clip], progress: Progress = quiet) -> Quality:
    """What the network of an experiment gets to see of its clips.

    Args:
        experiment: resolved. Where it looks for no face, `mesh` does, to say where the faces are.
        clips: with frames.
        progress: for a progress bar.

    Raises:
        UserError: no clip can be looked at, or their pictures differ in size.
    """
    if experiment.face.name == "none":
        experiment = experiment.model_copy(update={"face": Choice(name="mesh")})
    pictures: list[_Picture] = []
    broken: dict[str, str] = {}
    for done, clip in enumerate(clips, 1):
        try:
            if clip.frames is None:
                raise UserError(f"{clip.key}: want frames to look at, got published flow; name a corpus with frames")
            with seeing.look(experiment, clip) as seen:
                pictures += [picture for one in seen for picture in _pictures(experiment, one)]
        except UserError as error:
            broken[clip.key] = str(error)
        progress(f"measuring {experiment.name}", done, len(clips))
    if not pictures:
        raise UserError(next(iter(broken.values()), "want at least one clip to look at, got none"))
    return _pooled(experiment.name, len(clips) - len(broken), pictures, broken)


def of_corpus(
    dataset: str, clips: Sequence[Clip], changes: Sequence[str] = (), progress: Progress = quiet
) -> list[Quality]:
    """Table I of a corpus: the apex frames under M1 and under M2; the middle of a clip whose apex is not known.

    Args:
        dataset: name of the loader.
        clips: of the corpus; those with a problem are left out.
        changes: "a.b=value", such as "face.name=dlib68" (the paper's detector) or "input.sampling=MFS".
        progress: for a progress bar.

    Raises:
        UserError: as `measure`, or a change that is none.
    """
    found = []
    for name, alignment in PREPROCESSINGS.items():
        tables = {"name": name, "datasets": [dataset], "spotting": {"name": "middle"}, "align": alignment, **_NO_MODEL}
        experiment = config.resolve(config.changed(tables, changes), "--set")
        found.append(measure(experiment, [clip for clip in clips if not clip.problem], progress))
    return found


_NO_MODEL = {"model": {"name": "flow_svm"}, "input": {"name": "frames", "sampling": "AF"}}  # none is built


def place(points: Array, height: int, width: int) -> tuple[Array, Array, Array]:
    """Where faces are in pictures.

    Args:
        points: (N, K, 2) landmarks (x, y), px of the picture; whole numbers are centres of pixels.
        height, width: of the picture, px.

    Returns:
        off: (N, 2) middle of the box around the points minus that of the picture, in sides of the picture.
        whole: (N,) whether the box lies wholly inside.
        covered: (N,) share of the picture that the box covers.
    """
    size = np.array([width, height], dtype=np.float64)
    # from centres of pixels to their edges: a box of one pixel covers one
    edges = np.array([[0.0], [1.0]])
    boxes = edges + landmarks.box(np.asarray(points, dtype=np.float64)).reshape(-1, 2, 2)
    off = (boxes.mean(1) - size / 2) / size
    inside = np.clip(boxes, 0, size)
    whole = (boxes == inside).all((1, 2))
    return off, whole, np.asarray((inside[:, 1] - inside[:, 0]).prod(-1) / size.prod())


@dataclass(frozen=True)
class _Picture:
    """One: (height, width, colours) as the network sees it; None where no face was found, else as of `place`."""

    shape: tuple[int, int, int]
    off: Array | None
    whole: bool
    covered: float


def _pictures(experiment: Experiment, seen: Seen) -> list[_Picture]:
    options: Any = config.options("inputs", experiment.input) if experiment.input else None
    frames = sorted({*seen.plan.frames, *(frame for pair in seen.plan.pairs for frame in pair)})
    return [
        _picture(seen, index, getattr(options, "size", None), getattr(options, "colour", "rgb")) for index in frames
    ]


def _picture(seen: Seen, index: int, side: int | None, colour: str) -> _Picture:
    picture, points = seen.face.frames[index], seen.face.landmarks
    height, width = picture.shape[:2]
    grey = colour == "grey" or bool((picture == picture[..., :1]).all())
    shape = (side or height, side or width, 1 if grey else 3)
    if points is None or seen.track is None or seen.track.state[index] != 1:
        return _Picture(shape, None, False, 0.0)
    off, whole, covered = place(points[index][None], height, width)
    return _Picture(shape, off[0], bool(whole[0]), float(covered[0]))


def _pooled(name: str, clips: int, pictures: Sequence[_Picture], broken: Mapping[str, str]) -> Quality:
    shapes = {picture.shape for picture in pictures}
    if len({shape[:2] for shape in shapes}) > 1:
        raise UserError(f"{name}: want pictures of one size, got {sorted(shapes)[:3]}; set align.size or input.size")
    height, width, colours = max(shapes)
    faces = [picture for picture in pictures if picture.off is not None]
    off = np.array([picture.off for picture in faces]).reshape(-1, 2)

    def mean(values: Sequence[float] | Array) -> float | None:
        return float(np.mean(values)) if len(values) else None

    return Quality(
        name=name,
        clips=clips,
        pictures=len(pictures),
        height=height,
        width=width,
        colours=colours,
        values=height * width * colours,
        found=len(faces) / len(pictures),
        centred=mean((np.abs(off) <= TOLERANCE).all(1)),
        whole=mean([picture.whole for picture in faces]),
        distance=mean(np.linalg.norm(off, axis=1)),
        face=mean([picture.covered for picture in faces]),
        broken=broken,
    )


_ROWS: tuple[tuple[str, Callable[[Quality], str]], ...] = (
    ("clips", lambda one: str(one.clips)),
    ("pictures", lambda one: str(one.pictures)),
    ("size, px", lambda one: f"{one.height} x {one.width}"),
    ("colours", lambda one: "grey" if one.colours == 1 else "rgb"),
    ("face found", lambda one: _percent(one.found)),
    ("face in the middle", lambda one: _percent(one.centred)),
    ("face wholly inside", lambda one: _percent(one.whole)),
    ("off the middle, sides", lambda one: "-" if one.distance is None else f"{one.distance:.3f}"),
    ("values a picture", lambda one: f"{one.values:,}"),
    ("face's share of these", lambda one: _percent(one.face)),
)


def text(found: Sequence[Quality]) -> str:
    """For the terminal: a column each, and what the words mean."""
    columns = [[one.name, *(show(one) for _, show in _ROWS)] for one in found]
    heads = ["what the network sees", *(word for word, _ in _ROWS)]
    widths = [max(map(len, column)) for column in (heads, *columns)]
    lines = []
    for row in zip(heads, *columns, strict=True):
        first, *rest = row
        cells = (f"{cell:>{width}}" for cell, width in zip(rest, widths[1:], strict=True))
        lines.append("  ".join([f"{first:{widths[0]}}", *cells]))
    lines += [
        "",
        "in the middle: the middle of the landmarks' box is in the middle third of the picture, across and down; of",
        "the pictures in which a face was found. values: height x width x colours (one if the channels are equal).",
    ]
    left = {key: why for one in found for key, why in one.broken.items()}
    lines += [f"left out ({len(left)}), the first: {next(iter(left.values()))}"] if left else []
    return "\n".join(lines) + "\n"


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{100 * share:.0f} %"


def plain(found: Sequence[Quality]) -> list[dict[str, Any]]:
    """For ``--json``."""
    return [asdict(one) for one in found]


__all__ = ["PREPROCESSINGS", "TOLERANCE", "Quality", "measure", "of_corpus", "place", "plain", "text"]
