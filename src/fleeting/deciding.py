"""What a saved model says of clips and recordings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from fleeting import config, finding, plugins, preparation, samples, voting
from fleeting.config import Experiment
from fleeting.errors import UserError
from fleeting.records import Array, Clip
from fleeting.seeing import Progress, quiet

_FREE = ("spotting", "face", "apex")  # what a network does not see


def predict(
    model: Path,
    names: Sequence[str],
    progress: Progress = quiet,
    changes: Sequence[str] = (),
    fps: float | None = None,
) -> list[dict[str, Any]]:
    """Decisions of a saved model.

    Args:
        model: folder written by `experiment.train`.
        names: clip keys, or paths of recordings or flow pictures; see `finding.find`.
        progress: for a progress bar over long recordings.
        changes: "a.b=value" of ``spotting``, ``face`` and ``apex``, which the network does not see. Where the model
            was trained on annotated moments, those of a recording are found by `flow_peak` unless this says
            otherwise.
        fps: frames a second of folders of frames.

    Returns:
        For each moment ``clip, onset, apex, offset, class, probabilities: {class: p}, notices, trained_on``: one of a
        clip, all that the spotter found of a recording. `trained_on` is True where the clip's subject was in the
        training part, so that the decision says nothing about new people, and None for a file, whose subject is
        not known. For a clip that cannot be decided ``clip, error``.

    Raises:
        UserError: `model` is no model folder, no such clip, or none of the clips can be decided.
    """
    import tempfile

    from fleeting import saving, training

    network, header = saving.read(model)
    experiment = config.resolve(changed(header["experiment"], changes), str(model / "model.toml"))
    clips, known = finding.find(experiment.datasets, names, fps)
    input_, options = config.plugin("inputs", config.input_of(experiment))
    found: dict[str, tuple[Clip, preparation.Viewed]] = {}
    failed: list[dict[str, Any]] = []
    for clip in clips:
        try:
            for viewed in preparation.views(spotted(experiment, clip), clip, progress):
                found[f"{clip.key}@{len(found)}"] = (clip, viewed)
        except UserError as error:
            failed.append({"clip": clip.key, "error": str(error)})
    if not found:
        raise UserError(failed[0]["error"])
    recipe = config.recipe(experiment)
    with tempfile.TemporaryDirectory() as folder:
        views = {name: viewed.views for name, (_, viewed) in found.items()}
        packed = samples.pack(Path(folder), views, input_.channels(options))
        tested = samples.testing(packed, views)
        probs = training.predict(network, tested, recipe, "cpu")
    of_clip = tested.keys[tested.rows]
    return [
        _decision(clip, viewed, voting.vote(probs[of_clip == name][None], recipe.vote)[0], header)
        | {"trained_on": None if clip.key not in known else clip.group in header["trained_on"]}
        for name, (clip, viewed) in found.items()
    ] + failed


def changed(tables: Mapping[str, Any], changes: Sequence[str]) -> dict[str, Any]:
    """Tables of a saved model with "a.b=value" strings applied.

    Raises:
        UserError: a change of what the network has seen.
    """
    config.check_changes(changes, _FREE, " of a model", "train it anew")
    return config.changed(tables, changes)


def spotted(experiment: Experiment, clip: Clip) -> Experiment:
    """A recording without annotation needs a spotter that looks."""
    looks = plugins.load("spotting", experiment.spotting.name).LOOKS
    if looks or clip.frames is None or None not in (clip.onset, clip.offset):
        return experiment
    default = plugins.load("spotting", "flow_peak").Options()
    chosen = config.Choice(name="flow_peak", **default.model_dump(mode="json"))
    return experiment.model_copy(update={"spotting": chosen})


def _decision(clip: Clip, viewed: preparation.Viewed, probs: Array, header: Mapping[str, Any]) -> dict[str, Any]:
    words = {word: float(value) for word, value in zip(header["classes"], probs, strict=True)}
    # published flow has two virtual frames, which are no place in a recording
    place = viewed.moment if clip.frames is not None and viewed.moment else None
    where = {"onset": place.onset, "apex": place.apex, "offset": place.offset} if place else {}
    told = {"class": max(words, key=words.__getitem__), "probabilities": words, "notices": viewed.notices}
    return {"clip": clip.key, **where, **told}
