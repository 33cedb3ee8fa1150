"""One clip or recording explained by a saved model: what it saw, what it decided, and where the reasons lie."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.spatial import Delaunay, cKDTree
from torch import Tensor, nn

from fleeting import (
    augment,
    config,
    deciding,
    finding,
    landmarks,
    look,
    page,
    plugins,
    samples,
    saving,
    seeing,
    training,
    voting,
)
from fleeting.config import Experiment
from fleeting.errors import UserError, nearest
from fleeting.explain import maps, sheet
from fleeting.explain.sheet import Explained
from fleeting.records import Array, Clip, FaceClip, Samples, View
from fleeting.seeing import Progress, Seen, quiet

# channels whose zero is lost: the median stands for "nothing here", since most of a face is still
_NO_ZERO = ("u255", "v255", "r", "g", "b", "grey")
_WHITE = ("wheel_r", "wheel_g", "wheel_b")
_PARTS = (
    "outside the face",
    *("cheeks and chin" if name == "jaw" else name.replace("_", " ") for name in landmarks.REGIONS),
)
TOLD = {True: "trained on", False: "not trained on", None: "unknown"}


@dataclass(frozen=True)
class Model:
    """A saved model with what it needs to see a clip.

    Attributes:
        network: in evaluation mode.
        experiment: resolved; its stages make the views.
        classes: words, in the order of the outputs.
        input, options: the plug-in that makes the views, and its options.
        recipe: of its training: crop and vote.
        trained_on: ``dataset/subject`` of the training part.
        method: of the maps, resolved.
        name: what it is called beside others.
    """

    network: nn.Module
    experiment: Experiment
    classes: tuple[str, ...]
    input: Any
    options: Any
    recipe: training.Recipe
    trained_on: tuple[str, ...]
    method: str
    name: str

    def knows(self, clip: Clip) -> bool:
        """Whether the subject of a corpus's clip was trained on."""
        return clip.group in self.trained_on


@dataclass(frozen=True)
class Wanted:
    """What is explained.

    Attributes:
        only: the class; None: all, and beside other models each model's own decision.
        method: see `maps`.
        changes: "a.b=value" of ``spotting``, ``face`` and ``apex``, as `fleeting predict` takes them.
        fps: frames a second of a folder of frames.
    """

    only: str | None = None
    method: str = "auto"
    changes: Sequence[str] = ()
    fps: float | None = None


def clip(model: Path, name: str, out: Path, wanted: Wanted = Wanted(), progress: Progress = quiet) -> dict[str, Any]:
    """Draws what a model saw of each moment of a clip, its decision, and a heat map of every class over the face.

    The maps of all views of a moment are averaged, those that are for training only left out.

    Args:
        model: folder that `fleeting train` wrote.
        name: clip key of a corpus of the model's experiment, or the path of a video, a folder of frames or a flow
            picture.
        out: .png, .svg or .pdf; a recording with several moments gives ``NAME_1.png``, ``NAME_2.png``, ...
        wanted: class, method, changes.
        progress: for a progress bar.

    Returns:
        ``clip, method, trained_on, moments: [{onset, apex, offset, class, probabilities: {class: p}, regions: {class:
        {region: share}}, picture}], notices``. The moment's frames are left out for published flow, which has none.
        `regions` are the shares of the positive heat by the nearest part of the face, {} without 68 landmarks.
        `trained_on` is True where the clip's subject was in the training part, so that nothing is said of new people,
        and None for a file, whose subject is not known.

    Raises:
        UserError: no model folder, no such clip, class or method, no face or moment, a change of what the network
            sees, or a picture that cannot be written.
    """
    page.check_format(out)
    opened = open_model(model, wanted)
    (found,), known = finding.find(opened.experiment.datasets, [name], wanted.fps)
    moments: list[dict[str, Any]] = []
    notices: list[str] = []
    with seeing.look(deciding.spotted(opened.experiment, found), found, progress) as seen:
        for one in seen:
            notices = notices or [f"{found.key}: {notice}" for notice in seeing.notices(one)]
            place = look.numbered(out, moments)
            explained = explain(opened, one, [wanted.only] if wanted.only else opened.classes, found.key in known)
            sheet.draw(place, explained)
            moments.append(_told(explained, place))
    look.settle(out, moments)
    trained_on = opened.knows(found) if found.key in known else None
    return {
        "clip": found.key,
        "method": opened.method,
        "trained_on": trained_on,
        "moments": moments,
        "notices": notices,
    }


def lines(found: dict[str, Any]) -> Iterator[str]:
    """What `clip` found, as sentences."""
    yield from (f"notice: {notice}" for notice in found["notices"])
    for moment in found["moments"]:
        probs = ", ".join(f"{name} {value:.3f}" for name, value in moment["probabilities"].items())
        where = f" frames {moment['onset']} to {moment['offset']}" if "onset" in moment else ""
        yield f"{found['clip']}{where}: {moment['class']} ({probs}); subject {TOLD[found['trained_on']]}"
        for name, shares in moment["regions"].items():
            most = sorted(shares.items(), key=lambda share: -share[1])[:3]
            if not most:  # no landmarks
                continue
            yield f"  for {name}: {', '.join(f'{region} {share:.0%}' for region, share in most)} of the heat"
        yield f"  {found['method']}: {moment['picture']}"


def rest(x: Mapping[str, Tensor], channels: Mapping[str, Sequence[str]]) -> dict[str, Tensor]:
    """What stands for "nothing here" in each array, by the names of its channels, for "gradient_input".

    Flow and strain in pixels: 0. Min-max scaled components, whose zero is lost, and photographs: the median of each
    picture. The colour wheel: white.

    Args:
        x: arrays (B, C, ..., H, W), pictures in 0..1.
        channels: their names.

    Returns:
        Arrays of shape (B, C, ..., 1, 1), with the ones between of size 1.
    """
    return {name: _rest(array, channels[name]) for name, array in x.items()}


def _rest(array: Tensor, names: Sequence[str]) -> Tensor:
    values = array.flatten(2).quantile(0.5, dim=2)  # (B, C)
    for index, name in enumerate(names):
        if name in _WHITE:
            values[:, index] = 1
        elif name not in _NO_ZERO:
            values[:, index] = 0
    return values.view(*values.shape, *(1,) * (array.ndim - 2))


def open_model(folder: Path, wanted: Wanted) -> Model:
    """A saved model, after a check that it has the class and the method.

    Raises:
        UserError: no model folder, no such class or method, or a change of what the network sees.
    """
    network, header = saving.read(folder)
    resolved = config.resolve(deciding.changed(header["experiment"], wanted.changes), str(folder / "model.toml"))
    choice, classes = resolved.input, tuple(header["classes"])
    if choice is None:
        raise UserError(f"{folder}: want a resolved experiment, got one without an input; train the model again")
    if wanted.only is not None and wanted.only not in classes:
        hint = nearest(wanted.only, classes)
        raise UserError(f"want a class of {', '.join(classes)}, got {wanted.only!r}{hint}")
    return Model(
        network=network,
        experiment=resolved,
        classes=classes,
        input=plugins.load("inputs", choice.name),
        options=config.options("inputs", choice),
        recipe=config.recipe(resolved),
        trained_on=tuple(header.get("trained_on", ())),
        method=maps.resolved(network, wanted.method),
        name=folder.resolve().name,
    )


def explain(model: Model, seen: Seen, words: Sequence[str], known: bool) -> Explained:
    """A moment as one model sees it, with a map of each class of `words`; none: of its decision.

    Args:
        known: whether the clip is one of a corpus, so that its subject can be looked up.
    """
    views = [view for view in model.input.make(seen.face, seen.flows, model.options) if not view.train_only]
    channels = model.input.channels(model.options)
    with tempfile.TemporaryDirectory() as folder:
        packed = samples.pack(Path(folder), {seen.clip.key: views}, channels)
        probs = _voted(model, packed)
    heats = {
        word: _placed(model, seen.face, _mean_heat(model, views, model.classes.index(word), model.method))
        for word in words or [model.classes[int(probs.argmax())]]
    }
    return Explained(
        face=seen.face,
        arrays=views[0].x,
        channels=channels,
        probabilities=dict(zip(model.classes, probs.tolist(), strict=True)),
        heats=heats,
        below=_below(model, seen, views[0]),
        method=model.method,
        times_s=seen.frames.times_s if seen.frames is not None and seen.frames.fps else None,
        regions={word: _regions(seen.face, heat) for word, heat in heats.items()},
        trained_on=model.knows(seen.clip) if known else None,
    )


def _voted(model: Model, packed: Samples) -> Array:
    """(C,) as `fleeting predict` says it."""
    probs = training.predict(model.network, packed, model.recipe)
    return np.asarray(voting.vote(probs[None], model.recipe.vote)[0])


def _mean_heat(model: Model, views: Sequence[View], target: int, method: str) -> Array:
    """(h, w) over the views, NaN where a crop leaves out what the network does not see."""
    stacked = {name: np.stack([view.x[name] for view in views]) for name in views[0].x}
    full = {name: training.floats(torch.from_numpy(array)) for name, array in stacked.items()}
    crop = model.recipe.crop
    x = full if crop is None else {name: augment.crop(array, crop, None) for name, array in full.items()}
    still = rest(x, model.input.channels(model.options))
    heat = maps.heat(model.network, x, target, method, still).mean(0)
    if crop is None:
        return heat.numpy()
    # a crop that is common to all arrays, at the scale of the largest
    height, width = (max(array.shape[axis] for array in full.values()) for axis in (-2, -1))
    grown = torch.nn.functional.interpolate(heat[None, None], (crop, crop), mode="bilinear")[0, 0]
    framed = torch.full((height, width), torch.nan)
    augment.crop(framed[None, None], crop, None)[0, 0].copy_(grown)
    return framed.numpy()


def _placed(model: Model, face: FaceClip, heat: Array) -> Array:
    place = getattr(model.input, "place", None)
    return heat if place is None else np.asarray(place(heat, face, model.options))


def _below(model: Model, seen: Seen, view: View) -> Array:
    """What the maps are drawn over: the face at the apex; else the flow; else what the network sees."""
    face, moment = seen.face, seen.face.moment
    if hasattr(model.input, "place") and moment is not None:
        if len(face.frames):
            return face.frames[moment.onset if moment.apex is None else moment.apex]
        field = next(iter(seen.flows.values()), None)
        if field is not None:
            still = field.uv - np.median(field.uv, axis=(1, 2), keepdims=True)
            return np.hypot(still[0], still[1]) if field.strain is None else field.strain
    first = next(iter(view.x.values()))
    return np.asarray(first.reshape(-1, *first.shape[-2:]).mean(axis=0))


def _regions(face: FaceClip, heat: Array) -> dict[str, float]:
    """Shares of the positive heat by the part of the face that is nearest, and outside the face; {} without landmarks.

    The face is the hull of the 68 points, the brows moved up by the height of the nose for a forehead.
    """
    moment = face.moment
    if face.landmarks is None or moment is None or not len(face.frames):
        return {}
    points = face.landmarks[moment.onset].astype(np.float64)
    if len(points) < 68 or not np.isfinite(points).all() or heat.shape != face.frames[moment.onset].shape[:2]:
        return {}
    y, x = np.nonzero(np.nan_to_num(heat) > 0)
    values = heat[y, x]
    part = _parts(landmarks.sixty_eight(points), np.stack([x, y], axis=1))
    total = float(values.sum()) or 1.0
    return {name: float(values[part == number].sum()) / total for number, name in enumerate(_PARTS)}


def _parts(points: Array, places: Array) -> Array:
    """(N,) numbers in `_PARTS` of places (N, 2), by 68 points."""
    owner = np.empty(68, int)
    for number, indices in enumerate(landmarks.REGIONS.values(), 1):
        owner[list(indices)] = number
    brows = points[[*landmarks.REGIONS["left_brow"], *landmarks.REGIONS["right_brow"]]]
    forehead = brows + (points[27] - points[33])
    inside = Delaunay(np.concatenate([points, forehead])).find_simplex(places) >= 0
    return np.where(inside, owner[cKDTree(points).query(places)[1]], 0)


def _told(explained: Explained, picture: Path) -> dict[str, Any]:
    moment = explained.face.moment if len(explained.face.frames) else None
    where = {"onset": moment.onset, "apex": moment.apex, "offset": moment.offset} if moment else {}
    return {
        **where,
        "class": explained.decision,
        "probabilities": explained.probabilities,
        "regions": explained.regions,
        "picture": str(picture),
    }
