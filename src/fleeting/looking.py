"""Looking at one clip or recording: its moments, their flow and strain as pictures, and where a face was found."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from fleeting import config, finding, look, motion, seeing
from fleeting.config import Experiment
from fleeting.errors import UserError, spans
from fleeting.records import Clip, FlowField, Pair
from fleeting.seeing import Progress, Seen, quiet

# what is used where no experiment says otherwise; no model is built
_PLAIN = {"name": "look", "model": {"name": "flow_svm"}, "spotting": {"name": "flow_peak"}, "flow": {"name": "dis"}}


def draw(
    name: str,
    experiment: Path | None,
    changes: Sequence[str],
    out: Path,
    progress: Progress = quiet,
    fps: float | None = None,
) -> dict[str, Any]:
    """Draws every moment of a clip, and for a recording where a face was found.

    Args:
        name: clip key, or the path of a video, a folder of frames or a flow picture.
        experiment: file whose face, alignment, spotter and flow are used; None: face mesh, similarity alignment,
            DIS flow, and for a recording the moments at which the flow peaks.
        changes: "a.b=value".
        out: the picture; a recording with several moments gives ``NAME_1.png``, ``NAME_2.png``, ...
        progress: for a progress bar.
        fps: frames a second of a folder of frames.

    Returns:
        ``clip, moments: [{onset, apex, offset, score, pair, unit, max, mean_strain, picture}], frames, without_face:
        [[first, last], ...], notices``.

    Raises:
        UserError: no such clip, no face, no moment, or the picture cannot be written.
    """
    look.check_format(out)
    given = config.read(experiment, changes) if experiment else config.resolve(config.changed(_PLAIN, changes), "look")
    datasets = given.datasets if experiment else () if Path(name).exists() else finding.loaders(name)
    (clip,), _ = finding.find(datasets, [name], fps)
    return _drawn(given, clip, out, progress)


def lines(found: dict[str, Any]) -> Iterator[str]:
    """What `draw` found, as sentences."""
    yield from (f"notice: {notice}" for notice in found["notices"])
    for moment in found["moments"]:
        apex = "none" if moment["apex"] is None else moment["apex"]
        flow = f", flow up to {moment['max']:.2f} px" if moment["unit"] == "px" else ""
        yield f"onset {moment['onset']}, apex {apex}, offset {moment['offset']}{flow}: {moment['picture']}"


def _drawn(experiment: Experiment, clip: Clip, out: Path, progress: Progress) -> dict[str, Any]:
    moments: list[dict[str, Any]] = []
    track, notices = None, []
    with seeing.look(experiment, clip, progress) as seen:
        for one in seen:
            if not moments:
                track, notices = one.track, [f"{clip.key}: {notice}" for notice in seeing.notices(one)]
                _draw_strip(one, out)
            moments.append(_moment(one, look.numbered(out, moments)))
    look.settle(out, moments)
    without = [] if track is None else [list(run) for run in spans(np.flatnonzero(track.state == 0))]
    count = 0 if track is None else len(track.state)
    return {"clip": clip.key, "moments": moments, "frames": count, "without_face": without, "notices": notices}


def _draw_strip(seen: Seen, out: Path) -> None:
    """Where in a recording a face was found; not for a clip of which a few frames were looked at."""
    if seen.track is not None and seen.frames is not None and (seen.track.state >= 0).all():
        look.track_strip(out.with_stem(f"{out.stem}_faces"), seen.frames, seen.track)


def _moment(seen: Seen, out: Path) -> dict[str, Any]:
    moment = seen.face.moment
    if moment is None or not seen.flows:
        raise UserError(f"{seen.clip.key}: want flow to draw, got an input without any; choose input.name = 'uvs28'")
    pair, field = _shown(seen)
    look.draw(out, seen.face, field, pair, seen.frames.times_s if seen.frames and seen.frames.fps else None)
    strain = motion.strain(field.uv) if field.strain is None else field.strain
    return {
        "onset": moment.onset,
        "apex": moment.apex,
        "offset": moment.offset,
        "score": moment.score,
        "pair": list(pair),
        "unit": field.unit,
        "max": float(np.percentile(motion.magnitude(field.uv), 99)),
        "mean_strain": float(strain.mean()),
        "picture": str(out),
    }


def _shown(seen: Seen) -> tuple[Pair, FlowField]:
    """The flow from the onset, where the input wants it, else the first that it wants."""
    moment = seen.face.moment
    wanted = next((pair for pair in seen.flows if moment and pair == (moment.onset, moment.apex)), None)
    pair = wanted or next(iter(seen.flows))
    return pair, seen.flows[pair]
