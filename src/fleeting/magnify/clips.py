"""From a clip or a recording to its magnified motion: a picture and a video of each moment."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from fleeting import align, config, finding, look, motion, plugins, seeing, video
from fleeting.config import Experiment
from fleeting.errors import UserError
from fleeting.magnify import film, sheet
from fleeting.magnify.moving import folded, linear, moved
from fleeting.records import Array, Clip
from fleeting.seeing import Progress, Seen, quiet
from fleeting.stages import Stages

METHODS = ("learned", "flow", "linear")
_PLAIN = {"name": "magnify", "model": {"name": "flow_svm"}, "spotting": {"name": "flow_peak"}, "flow": {"name": "dis"}}
_FREE = ("spotting", "face", "apex", "align", "flow")
_WATCHABLE = 25  # frames a second, below which a picture jerks and above which an expression is over too soon
_NO_RATE = 25.0
_TORN = 0.02
_MOST, _SLOWEST, _QUICKEST = 1000.0, 1000.0, 0.01
"""Of the factor, and of how many times slower it plays: beyond them is no motion and no video."""

Magnify = Callable[[Array], Array]
"""Flow (2, h, w) px -> the magnified flow."""


@dataclass(frozen=True)
class Wanted:
    """What is magnified, and how.

    Attributes:
        factor: how many times.
        model: folder of a saved model whose magnifier is used for "learned".
        methods: of `METHODS`; (): all that there are.
        slow: how many times slower the video plays; None: so that it shows about 25 frames a second.
        changes: "a.b=value" of ``spotting, face, apex, align, flow``.
        fps: frames a second of a folder of frames.
    """

    factor: float = 4.0
    model: Path | None = None
    methods: tuple[str, ...] = ()
    slow: float | None = None
    changes: Sequence[str] = ()
    fps: float | None = None


def clip(name: str, out: Path, wanted: Wanted = Wanted(), progress: Progress = quiet) -> dict[str, Any]:
    """Writes each moment of a clip, magnified: a video with the original beside it, and a picture of its apex.

    Every frame from half a moment before the onset to half a moment after the offset is compared with the onset.

    Args:
        name: clip key, or the path of a video or a folder of frames.
        out: .mp4; the picture is a .png beside it. A recording with several moments gives ``NAME_1.mp4``, ...
        wanted: factor, model, methods.
        progress: for a progress bar.

    Returns:
        ``clip, factor, methods, notices, moments: [{onset, apex, offset, frames: [first, last], fps, slow, max_px,
        folded, video, picture}]``; `max_px` by method, and of the "original": the 99 % quantile of the flow's length
        at the apex, None for "linear", which has no flow; `folded`: the share of places that the magnified flow turns
        over.

    Raises:
        UserError: no such clip, face or moment; published flow, which has no frames; a model without a magnifier; a
            factor or a slowness that makes no video; the files would take the place of the recording, or cannot be
            written.
    """
    _check(out, wanted)
    experiment, learned, notices = _opened(wanted)
    ways = _ways(wanted, learned)
    # also with a model: its magnifier serves other corpora than that of its training
    datasets = () if Path(name).exists() else finding.loaders(name)
    (found,), _ = finding.find(datasets, [name], wanted.fps)
    if found.frames is None:
        raise UserError(f"{found.key}: want frames to move, got published flow without any; give a recording")
    _apart(found, out)
    stages, moments = Stages(experiment), list[dict[str, Any]]()
    with seeing.look(experiment, found, progress) as seen:
        for one in seen:
            told = [] if moments else [f"{found.key}: {notice}" for notice in seeing.notices(one)]
            notices += told
            moments.append(_written(one, stages, ways, look.numbered(out, moments), wanted, progress))
    _settle(out, moments)
    notices += [notice for moment in moments for notice in _torn(found, moment)]
    return {"clip": found.key, "factor": wanted.factor, "methods": list(ways), "notices": notices, "moments": moments}


def lines(found: dict[str, Any]) -> Iterator[str]:
    """What `clip` wrote, as sentences."""
    yield from (f"notice: {notice}" for notice in found["notices"])
    for moment in found["moments"]:
        most = ", ".join(f"{name} {px:.2f} px" for name, px in moment["max_px"].items() if px is not None)
        slow = "" if moment["slow"] == 1 else f", {moment['slow']:g} times slower"
        yield (
            f"{found['clip']} frames {moment['frames'][0]} to {moment['frames'][1]} (onset {moment['onset']}, apex "
            f"{moment['apex']}, offset {moment['offset']}), motion x {found['factor']:g}{slow}"
        )
        yield f"  largest flow at the apex: {most}"
        yield f"  {moment['video']}, {moment['picture']}"


# --- what is refused


def _check(out: Path, wanted: Wanted) -> None:
    if out.suffix.lower() != ".mp4":
        raise UserError(f"{out}: want a video ending in .mp4, got {out.suffix or 'no ending'}; rename it")
    for path in (out, out.with_suffix(".png")):
        if path.is_dir():
            raise UserError(f"{path}: want a file to write, got a folder; choose another --out")
    if not 0 < wanted.factor <= _MOST:
        raise UserError(f"want a factor above 0 and up to {_MOST:g}, got {wanted.factor}; 1 leaves motion as it is")
    if wanted.slow is not None and not _QUICKEST <= wanted.slow <= _SLOWEST:
        raise UserError(f"want slow from {_QUICKEST:g} to {_SLOWEST:g}, got {wanted.slow}; 1 is as fast as it was")


def _apart(clip: Clip, out: Path) -> None:
    """What is written must not take the place of the recording, nor lie among its frames."""
    folder, source = out.parent.resolve(), clip.frames
    if isinstance(source, Path) and source.is_file():
        for recording in (source.resolve(), source.parent.resolve() / source.name):  # a link may lead elsewhere
            of_a_moment = re.fullmatch(rf"{re.escape(out.stem)}(_\d+)?", recording.stem)
            if recording.parent == folder and recording.suffix.lower() == ".mp4" and of_a_moment:
                raise UserError(f"{out}: want to keep the recording, got a video of its name; choose another --out")
        return
    folders = {source} if isinstance(source, Path) else {path.parent for path in source or ()}
    if folder in {path.resolve() for path in folders}:
        raise UserError(f"{out}: want to keep the frames apart, got a video among them; choose another --out")


# --- ways


def _opened(wanted: Wanted) -> tuple[Experiment, Magnify | None, list[str]]:
    """The stages that are used, the magnifier of the model, and what should be known of it."""
    config.check_changes(wanted.changes, _FREE, "", "leave it out")
    if wanted.model is None:
        return config.resolve(config.changed(_PLAIN, wanted.changes), "magnify"), None, []
    from fleeting import saving

    network, header = saving.read(wanted.model)
    tables = config.changed(header["experiment"], wanted.changes)
    experiment = config.resolve(tables, str(wanted.model / "model.toml"))
    if not plugins.load("spotting", experiment.spotting.name).LOOKS:  # serves what a corpus annotates not
        experiment = config.resolve(config.plain(experiment) | {"spotting": {"name": "flow_peak"}}, "magnify")
    shape = tuple(header["shapes"].get("flow", ()))
    learned = _learned(network, shape, wanted.factor, wanted.model)
    return experiment, learned, list(_beyond(network.options, wanted.factor))


def _beyond(options: Any, factor: float) -> Iterator[str]:
    """Without a search a magnifier learned one factor."""
    least, most = options.factors if options.search != "none" else (options.factor, options.factor)
    if not least <= factor <= most:
        span = f"factors of {least:g} to {most:g}" if least < most else f"a factor of {least:g}"
        yield f"the model learned {span}, got {factor:g}"


def _learned(network: Any, shape: tuple[int, ...], factor: float, folder: Path) -> Magnify:
    """The magnifier of a network at the size that it was trained at."""
    options = getattr(network, "options", None)
    if getattr(network, "magnifier", None) is None or shape[:1] != (2,) or getattr(options, "flow", "") != "px":
        raise UserError(
            f"{folder}: want a model that learned to magnify flow in pixels (ammsm with magnify = 'unet', input "
            "onset_flow), got another; leave --model out for the plain ways"
        )
    import torch

    network.factor = factor

    def magnify(uv: Array) -> Array:
        small = torch.from_numpy(motion.resize(uv, shape[1], shape[2]))[None]
        with torch.inference_mode():
            magnified = network.magnified(small)[0].numpy()
        return motion.resize(magnified, uv.shape[1], uv.shape[2])

    return magnify


def _ways(wanted: Wanted, learned: Magnify | None) -> dict[str, Magnify | None]:
    """Method -> what it makes of flow; None for "linear", which has none."""
    every: dict[str, Magnify | None] = {} if learned is None else {"learned": learned}
    every |= {"flow": lambda uv: np.asarray(np.float32(wanted.factor) * uv), "linear": None}
    for method in wanted.methods:
        if method not in every:
            more = "; give --model for it" if method == "learned" else ""
            raise UserError(f"want a method of {', '.join(every)}, got {method!r}{more or '; choose one of them'}")
    return {name: every[name] for name in wanted.methods or every}


# --- a moment


def _written(
    seen: Seen, stages: Stages, ways: dict[str, Magnify | None], out: Path, wanted: Wanted, progress: Progress
) -> dict[str, Any]:
    moment = seen.face.moment
    if moment is None or moment.apex is None or seen.frames is None:
        raise UserError(f"{seen.clip.key}: want a moment with an apex, got none; choose another spotter")
    frames, fps = seen.face.frames, seen.frames.fps or _NO_RATE
    margin = max(3, (moment.offset - moment.onset) // 2)
    first, last = max(0, moment.onset - margin), min(len(frames) - 1, moment.offset + margin)
    slow = wanted.slow or max(1, round(fps / _WATCHABLE))
    shown = film.Film(seen.clip.key, moment, seen.frames.times_s if seen.frames.fps else None, wanted.factor, slow)
    onset = frames[moment.onset]
    apex: sheet.Apex | None = None

    def pictures() -> Iterator[Array]:
        nonlocal apex
        for index in range(first, last + 1):
            uv = _flow(stages, onset, frames[index])
            one = {name: way(uv) if way else None for name, way in ways.items()}
            made = _frames(onset, frames[index], uv, one, wanted.factor)
            if index == moment.apex:
                apex = sheet.Apex(seen.clip.key, onset, frames[index], uv, one, made, wanted.factor)
            progress("magnifying frames", index - first + 1, last - first + 1)
            yield film.panel(shown, index, {"original": frames[index], **made})

    with seeing.one_thread():
        video.write(out, pictures(), fps / slow)
    if apex is None:
        raise UserError(f"{seen.clip.key}: want an apex between {first} and {last}, got {moment.apex}; correct it")
    sheet.draw(out.with_suffix(".png"), apex)
    return {
        "onset": moment.onset,
        "apex": moment.apex,
        "offset": moment.offset,
        "frames": [first, last],
        "fps": fps / slow,
        "slow": slow,
        "max_px": {name: _length(uv) for name, uv in {"original": apex.uv, **apex.magnified}.items()},
        "folded": {name: folded(uv) for name, uv in apex.magnified.items() if uv is not None},
        "video": str(out),
        "picture": str(out.with_suffix(".png")),
    }


def _torn(clip: Clip, moment: dict[str, Any]) -> Iterator[str]:
    """Flow as long as an open smile's cannot go much further without tearing the face apart."""
    for name, share in moment["folded"].items():
        if share > _TORN:
            yield f"{clip.key}: {name}: the magnified flow folds on {share:.0%} of the apex; choose a smaller --factor"


def _flow(stages: Stages, onset: Array, picture: Array) -> Array:
    one, two = align.grey(onset), align.grey(picture)
    if np.array_equal(one, two):
        return np.zeros((2, *one.shape), np.float32)
    return np.asarray(stages.flow.module.flow(one[None], two[None], stages.flow.options)[0], np.float32)


def _frames(
    onset: Array, picture: Array, uv: Array, magnified: dict[str, Array | None], factor: float
) -> dict[str, Array]:
    return {
        name: linear(onset, picture, factor) if further is None else moved(picture, uv, further)
        for name, further in magnified.items()
    }


def _length(uv: Array | None) -> float | None:
    return None if uv is None else float(np.percentile(motion.magnitude(uv), 99))


def _settle(out: Path, moments: list[dict[str, Any]]) -> None:
    """One moment alone takes the name itself."""
    if len(moments) == 1:
        for key, path in (("video", out), ("picture", out.with_suffix(".png"))):
            Path(moments[0][key]).replace(path)
            moments[0][key] = str(path)
