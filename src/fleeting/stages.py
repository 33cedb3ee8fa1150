"""The stages that an experiment chooses, and the digest of everything on which each of their results depends."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache as memoised
from importlib.metadata import version
from pathlib import Path
from typing import Any

from fleeting import align, cache, config, plugins
from fleeting.config import Choice, Experiment
from fleeting.errors import UserError
from fleeting.records import Clip
from fleeting.video import pictures


@dataclass(frozen=True)
class Stage:
    """A chosen plug-in with its options, and the digest of both and of its source."""

    module: Any
    options: Any
    digest: str


class Stages:
    """The stages that an experiment names, and what each of their results depends on.

    Attributes:
        spotter, faces, align, flow, input: the choices.
        respot: the spotter serves also clips whose corpus names the apex.
    """

    def __init__(self, experiment: Experiment) -> None:
        if experiment.input is None:
            raise UserError("want a resolved experiment, got one without an input; use config.resolve")
        self.spotter = _stage("spotting", experiment.spotting)
        self.faces = _stage("faces", experiment.face)
        self.align = _stage("align", experiment.align)
        self.flow = _stage("flow", experiment.flow)
        self.input = _stage("inputs", experiment.input)
        self.respot = experiment.apex == "spotted"

    def spots(self, clip: Clip) -> bool:
        """Whether the spotter decides on this clip."""
        return self.respot or None in (clip.onset, clip.apex, clip.offset)

    def looks(self, clip: Clip) -> bool:
        """Whether every frame of the clip is looked at to find its moments."""
        return bool(self.spotter.module.LOOKS) and self.spots(clip)

    def track_digest(self, clip: Clip, which: Sequence[int] | None) -> str:
        """Of the track of some frames, None for all."""
        reads = getattr(self.faces.module, "reads", lambda clip, options: ())
        files = [_stamp(path) for path in reads(clip, self.faces.options)]
        way = (source("fleeting.video"), source("fleeting.seeing"))
        return cache.digest(self.faces.digest, way, _stamps(clip), files, which)

    def moment_digest(self, clip: Clip) -> str:
        """Of the moments."""
        indices = (clip.onset, clip.apex, clip.offset, clip.fps)
        if not self.spots(clip):
            return cache.digest(indices)
        seen = (self.align.digest, self.track_digest(clip, None)) if self.looks(clip) else ()
        return cache.digest(indices, self.spotter.digest, seen)

    def views_digest(self, clip: Clip) -> str:
        """Of everything that `inputs.make` gives; published flow depends on no face, alignment or flow method."""
        made = (self.moment_digest(clip), self.input.digest, source("fleeting.motion"))
        if clip.frames is None:
            return cache.digest(made, _stamps(clip))
        return cache.digest(made, self.align.digest, self.flow.digest, self.track_digest(clip, None))


def _stage(kind: str, choice: Choice) -> Stage:
    module = align if kind == "align" else plugins.load(kind, choice.name)
    options = config.options(kind, choice)
    uses = getattr(module, "uses", lambda options: ())(options)
    for used_kind, used in uses:
        plugins.load(used_kind, used)
    used_modules = [plugins.load(*used) for used in uses]
    used_parts = [(source(used.__name__), _identity(used, used.Options())) for used in used_modules]
    parts = (choice.model_dump(mode="json"), _identity(module, options), source(module.__name__), used_parts)
    return Stage(module, options, cache.digest(kind, parts, _versions()))


def _identity(module: Any, options: Any) -> str:
    """Where a method runs, if the last bits depend on it."""
    return str(getattr(module, "identity", lambda options: "")(options))


@memoised
def _versions() -> list[str]:
    """Of the packages that read, track and measure: another version may give other numbers."""
    packages = ("opencv-contrib-python-headless", "av", "numpy", "scipy", "torch")
    return [f"{name} {version(name)}" for name in packages]


@memoised
def source(module: str) -> str:
    """Digest of the code on which a module's results depend."""
    return cache.digest([path.read_text(encoding="utf-8") for path in plugins.sources(module)])


def _stamps(clip: Clip) -> list[Any]:
    paths: Sequence[Path] = clip.frames if isinstance(clip.frames, tuple) else [clip.frames] if clip.frames else []
    if isinstance(clip.frames, Path) and clip.frames.is_dir():
        try:
            paths = pictures.listed(clip.frames)
        except (UserError, OSError) as error:  # told again when the clip is opened
            return [str(clip.frames), str(error)]
    flow = [[_stamp(file.path), file.pair, file.channels, file.unit] for file in clip.flow_files]
    return [[_stamp(path) for path in paths], clip.span, flow]


def _stamp(path: Path) -> list[Any]:
    """A missing file has a stamp too: what comes of it changes once it is there."""
    try:
        return cache.stamp(path)
    except OSError:
        return [str(path), "missing"]
