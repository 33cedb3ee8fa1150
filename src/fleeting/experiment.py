"""The order of the stages: from an experiment to a run folder, and to a model folder. Knows all of them."""

from __future__ import annotations

import platform
import time
import zlib
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from functools import cache as memoised
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fleeting import config, doctor, engine, files, finding, machine, plugins, preparation, runs, samples
from fleeting.config import Experiment
from fleeting.errors import UserError
from fleeting.records import Array, Clip, Fold, FoldResult, FoldTask, Samples, unique
from fleeting.seeing import Progress, quiet

if TYPE_CHECKING:
    from torch import nn

_TRACE = "trace.npz"
_FREE = ("spotting", "face", "apex")  # what a network does not see
Dropped = list[dict[str, str]]
Splitter = Callable[[Experiment, Sequence[Clip], Mapping[str, int], int], list[Fold]]


def run(
    experiment: Experiment,
    out: Path,
    jobs: int = 1,
    roots: Mapping[str, Path] | None = None,
    progress: Progress = quiet,
    splitter: Splitter | None = None,
) -> runs.Run:
    """Trains and tests every fold, seed and inner split that is not done yet.

    Args:
        experiment: resolved (`config.read` or `config.resolve`).
        out: run folder; one that exists is resumed.
        jobs: parallel processes.
        roots: dataset -> folder, instead of the environment.
        progress: for a progress bar.
        splitter: called instead of `split`, by what runs other folds than the protocol's, as a search does.

    Returns:
        The run. Failed tasks are listed by its `failed`; the others are done, and ``predictions.csv`` is there
        if any is.

    Raises:
        UserError: bad input, another run in `out`, a full disk. KeyboardInterrupt passes through; what is done
            is kept.
    """
    _check_device(experiment)
    _opened.cache_clear()  # another run may have been in this folder before, in this process
    clips, labels, dropped = load(experiment, roots)
    packed, broken, notices = prepare(experiment, clips, progress, jobs)
    clips = [clip for clip in clips if clip.key not in broken]
    folds = {seed: (splitter or split)(experiment, clips, labels, seed) for seed in experiment.seeds}
    todo = [task for seed in experiment.seeds for task in tasks(experiment, folds[seed], labels, seed)]
    words = classes(experiment)
    begins = _begins(experiment, packed, len(words)) if runs.pending(out, todo) else ()
    with runs.writing(out):
        header = _header(experiment, clips, dropped + _listed(broken), todo, packed, roots)
        noticed = {**notices, f"model {experiment.model.name}": begins}
        if begins:
            header["start"] = list(begins)
        header["notices"] = [{"key": key, "notice": notice} for key, told in noticed.items() for notice in told]
        runs.begin(out, header, clips, {key: words[number] for key, number in labels.items()}, folds)
        runs.place_samples(out, packed.folder)
        _run_tasks(runs.pending(out, todo), out, jobs, len(todo), progress)
        opened = runs.Run(out)
        if opened.traces:
            runs.assemble(opened)
    return opened


def load(experiment: Experiment, roots: Mapping[str, Path] | None = None) -> tuple[list[Clip], dict[str, int], Dropped]:
    """Stages 1 and 2: the clips that have a class, their classes, and those that were dropped.

    Raises:
        UserError: a corpus is missing or broken, a key occurs twice, or no clip has a class.
    """
    protocol, options = _plugin(experiment, "protocols", experiment.protocol)
    number = {word: index for index, word in enumerate(protocol.classes(options))}
    loaded = [
        clip
        for name in experiment.datasets
        for clip in plugins.load("datasets", name).load((roots or {}).get(name) or config.root(name))
    ]
    unique(clip.key for clip in loaded)
    words = {clip.key: protocol.label(clip, options) for clip in loaded}
    labels = {clip.key: number[words[clip.key]] for clip in loaded if words[clip.key] is not None and not clip.problem}
    dropped = [
        {"key": clip.key, "stage": "label", "reason": f"emotion {clip.emotion!r} has no class"}
        for clip in loaded
        if words[clip.key] is None
    ]
    dropped += [
        {"key": clip.key, "stage": "load", "reason": clip.problem}
        for clip in loaded
        if clip.problem and words[clip.key] is not None
    ]
    if not labels:
        raise UserError(
            f"want clips of the classes {tuple(number)}, got none among {len(loaded)}; check [protocol], or look "
            f"with: fleeting doctor {experiment.datasets[0]}"
        )
    return [clip for clip in loaded if clip.key in labels], labels, dropped


def prepare(
    experiment: Experiment, clips: Sequence[Clip], progress: Progress = quiet, jobs: int = 1
) -> preparation.Prepared:
    """Stages 3 to 10: the packed views of all clips; see `preparation.prepare`.

    Raises:
        UserError: as there, or the input's picture cannot be mirrored although the recipe flips it.
    """
    _check_mirror(experiment)
    return preparation.prepare(experiment, clips, progress, jobs)


def split(experiment: Experiment, clips: Sequence[Clip], labels: Mapping[str, int], seed: int) -> list[Fold]:
    """Stage 11: the folds of a seed.

    Raises:
        UserError: the protocol cannot split these clips, a fold has nothing to train on or to test, or a subject is on
            both sides and ``protocol.subject_overlap`` does not ask for that.
    """
    protocol, options = _plugin(experiment, "protocols", experiment.protocol)
    folds: list[Fold] = protocol.folds(clips, labels, options, seed)
    if not getattr(options, "subject_overlap", False):
        doctor.refuse_overlap(folds, clips)
    for fold in folds:
        if not fold.train or not fold.tested:
            raise UserError(f"fold {fold.name}: want clips to train on and to test, got none; check [protocol]")
    return folds


def examine(experiment: Experiment, roots: Mapping[str, Path] | None = None) -> doctor.Report:
    """Who is in which part of the experiment's split, for every seed, before anything is prepared or trained.

    Says what `split` would refuse: clips that turn out to be broken are still among them.

    Raises:
        UserError: a corpus is missing or broken, or the protocol cannot split its clips.
    """
    protocol, options = _plugin(experiment, "protocols", experiment.protocol)
    clips, labels, _ = load(experiment, roots)
    folds = {seed: protocol.folds(clips, labels, options, seed) for seed in experiment.seeds}
    words = classes(experiment)
    made_up = any(_is_standin(name, roots) for name in experiment.datasets)
    named = {key: words[number] for key, number in sorted(labels.items(), key=lambda item: item[1])}
    return doctor.examine_split(experiment.name, folds, clips, named, made_up)


def tasks(experiment: Experiment, folds: Sequence[Fold], labels: Mapping[str, int], seed: int) -> list[FoldTask]:
    """Stage 12: each fold, and its inner splits, which test only inside the fold's training part.

    Inner splits deal the training subjects out, shuffled with the seed, largest first, so that each subject is
    tested by one inner task.
    """
    found = []
    for fold in folds:
        train = {key: labels[key] for key in fold.train}
        valid = {key: labels[key] for key in fold.valid}
        found.append(FoldTask(fold=fold.name, seed=seed, inner=None, train=train, valid=valid, test=fold.tested))
        for inner, held in enumerate(_deal(fold.train, experiment.inner, seed)):
            rest = {key: label for key, label in train.items() if key not in held}
            found.append(FoldTask(fold.name, seed, inner, rest, {}, tuple(key for key in fold.train if key in held)))
    return found


def classes(experiment: Experiment) -> list[str]:
    """The protocol's class words."""
    protocol, options = _plugin(experiment, "protocols", experiment.protocol)
    return list(protocol.classes(options))


def execute(task: FoldTask, folder: Path) -> FoldResult:
    """One training and its predictions, after every epoch, of clips whose labels it does not have.

    Args:
        task: what to train on and what to test.
        folder: of the run; opened once a process.
    """
    import torch

    from fleeting import training

    started = time.monotonic()
    experiment, packed = _opened(folder)
    torch.set_num_threads(experiment.threads)
    recipe = config.recipe(experiment)
    test = samples.testing(packed, task.test)
    scratch = folder / "scratch" / task.name
    trace = _kept_trace(scratch)

    def after_epoch(epoch: int, network: nn.Module) -> None:
        with torch.random.fork_rng(devices=_devices(experiment.device)):
            trace[epoch] = training.predict(network, test, recipe, experiment.device)
        if scratch.is_dir():  # made by a training that goes on where it was stopped
            files.write_arrays(scratch / _TRACE, {str(number): probs for number, probs in trace.items()})

    seed = task_seed(task)
    context = training.Context(seed=seed, device=experiment.device, scratch=scratch, after_epoch=after_epoch)
    train = samples.training(packed, task.train, len(classes(experiment)))
    valid = samples.training(packed, task.valid, len(classes(experiment))) if task.valid else None
    network = _fitted(experiment, packed, train, valid, context)
    epochs = [trace[epoch] for epoch in sorted(trace)]
    if recipe.patience:
        epochs.append(training.predict(network, test, recipe, experiment.device))
    fitted = training.predict(network, train, recipe, experiment.device).argmax(1) == train.y
    return FoldResult(
        task=task.name,
        keys=test.keys[test.rows],
        views=test.views[test.rows],
        probs=np.stack(epochs),
        log={**{name: np.array(values) for name, values in context.log.items()}, "fitted_accuracy": fitted.mean()},
        seconds=time.monotonic() - started,
    )


def _kept_trace(scratch: Path) -> dict[int, Array]:
    """Epoch -> predictions, of epochs that a stopped task need not train again."""
    path = scratch / _TRACE
    return {int(epoch): probs for epoch, probs in files.read_arrays(path).items()} if path.is_file() else {}


def task_seed(task: FoldTask) -> int:
    """The task's own seed: crc32 of (seed, fold, inner)."""
    return zlib.crc32(repr((task.seed, task.fold, task.inner)).encode())


def train(
    experiment: Experiment, out: Path, roots: Mapping[str, Path] | None = None, progress: Progress = quiet
) -> Path:
    """Trains one network on every clip and writes a model folder: ``model.safetensors`` and ``model.toml``.

    Raises:
        UserError: bad input, `out` holds something else, the loss is not finite, a full disk.
    """
    import torch

    from fleeting import saving, training

    _check_device(experiment)
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UserError(f"{out}: want a new folder for the model, got something that is there; choose another --out")
    clips, labels, _ = load(experiment, roots)
    packed, broken, _ = prepare(experiment, clips, progress)
    kept = {key: label for key, label in labels.items() if key not in broken}
    recipe = config.recipe(experiment)

    def after_epoch(epoch: int, network: nn.Module) -> None:
        progress("training epochs", epoch + 1, recipe.epochs)

    torch.set_num_threads(experiment.threads)
    context = training.Context(seed=experiment.seeds[0], device=experiment.device, after_epoch=after_epoch)
    selection = samples.training(packed, kept, len(classes(experiment)))
    network = _fitted(experiment, packed, selection, None, context)
    saving.write(
        out,
        network,
        {
            "experiment": config.plain(experiment),
            "classes": classes(experiment),
            "shapes": {name: list(shape) for name, shape in _shapes(experiment, packed).items()},
            "versions": machine.versions(),
            "trained_on": sorted({clip.group for clip in clips if clip.key in kept}),
        },
    )
    return out


def predict(
    model: Path,
    names: Sequence[str],
    progress: Progress = quiet,
    changes: Sequence[str] = (),
    fps: float | None = None,
) -> list[dict[str, Any]]:
    """Decisions of a saved model.

    Args:
        model: folder written by `train`.
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
    input_, options = _plugin(experiment, "inputs", _input(experiment))
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
        _decision(clip, viewed, runs.vote(probs[of_clip == name][None], recipe.vote)[0], header)
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


def _fitted(experiment: Experiment, packed: Samples, train: Samples, valid: Samples | None, context: Any) -> nn.Module:
    import torch

    from fleeting import training

    torch.manual_seed(context.seed)
    network = _built(experiment, packed, train.classes)
    fit = getattr(plugins.load("models", experiment.model.name), "fit", training.fit)
    fitted: nn.Module = fit(network, train, valid, config.recipe(experiment), context)
    return fitted


def _built(experiment: Experiment, packed: Samples, count: int) -> nn.Module:
    model, options = _plugin(experiment, "models", experiment.model)
    network: nn.Module = model.build(_shapes(experiment, packed), count, options)
    return network


def _begins(experiment: Experiment, packed: Samples, count: int) -> tuple[str, ...]:
    """What the network begins with. What cannot be built ends here, before any work."""
    return tuple(getattr(_built(experiment, packed, count), "notices", ()))


def _shapes(experiment: Experiment, packed: Samples) -> dict[str, tuple[int, ...]]:
    """Of what the network sees: the pictures as the recipe crops them.

    Raises:
        UserError: they are smaller than that.
    """
    sizes, crop = samples.shapes(packed), config.recipe(experiment).crop
    small = [size for size in sizes.values() if crop and min(size[-2:]) < crop]
    if small:
        raise UserError(f"want pictures of at least {crop} px to crop, got {small[0]}; lower recipe.crop")
    return {name: (*size[:-2], crop, crop) if crop else tuple(size) for name, size in sizes.items()}


def _run_tasks(pending: Sequence[FoldTask], out: Path, jobs: int, total: int, progress: Progress) -> None:
    done = total - len(pending)
    progress("training folds", done, total)
    for task, result in engine.run(execute, pending, out, jobs):
        if isinstance(result, engine.Failure):
            runs.fail(out, task, f"{result.message}\n{result.details}".rstrip())
        else:
            runs.write(out, result)
        done += 1
        progress("training folds", done, total)


def _plugin(experiment: Experiment, kind: str, choice: config.Choice) -> tuple[Any, Any]:
    return plugins.load(kind, choice.name), config.options(kind, choice)


def _input(experiment: Experiment) -> config.Choice:
    if experiment.input is None:
        raise UserError("want a resolved experiment, got one without an input; use config.resolve")
    return experiment.input


def _check_device(experiment: Experiment) -> None:
    import torch

    try:
        torch.zeros(1, device=experiment.device)
    except (RuntimeError, AssertionError) as error:
        why = str(error).partition("\n")[0]
        raise UserError(
            f"want a device that torch can use here, got {experiment.device!r} ({why}); set device = 'cpu'"
        ) from error


def _check_mirror(experiment: Experiment) -> None:
    """An input may say that its picture is not the mirrored face when it is mirrored."""
    input_, options = _plugin(experiment, "inputs", _input(experiment))
    mirrors = getattr(input_, "mirrors", None)
    if config.recipe(experiment).flip and mirrors is not None and not mirrors(options):
        raise UserError(
            f"want an input that can be mirrored for recipe.flip, got {_input(experiment)}; set recipe.flip = false"
        )


@memoised
def _opened(folder: Path) -> tuple[Experiment, Samples]:
    """Experiment and samples of a run folder, once a process."""
    run = runs.Run(folder)
    return config.resolve(run.header["experiment"], str(folder / "run.toml")), samples.read(run.samples)


def _deal(keys: Sequence[str], parts: int, seed: int) -> list[set[str]]:
    """Clip keys in `parts` sets of about equal size, each subject in one."""
    sizes = Counter(key.rpartition("/")[0] for key in keys)
    if parts > len(sizes):
        raise UserError(f"want at least {parts} training subjects for inner = {parts}, got {len(sizes)}; lower inner")
    order = [sorted(sizes)[index] for index in np.random.default_rng(seed).permutation(len(sizes))]
    dealt: list[list[str]] = [[] for _ in range(parts)]
    for subject in sorted(order, key=lambda name: -sizes[name]) if parts else []:
        min(dealt, key=lambda part: sum(sizes[name] for name in part)).append(subject)
    return [{key for key in keys if key.rpartition("/")[0] in part} for part in dealt]


def _devices(device: str) -> list[str]:
    return [] if device == "cpu" else [device]


def _listed(broken: Mapping[str, str]) -> Dropped:
    return [{"key": key, "stage": "prepare", "reason": reason} for key, reason in broken.items()]


def _header(
    experiment: Experiment,
    clips: Sequence[Clip],
    dropped: Dropped,
    todo: Sequence[FoldTask],
    packed: Samples,
    roots: Mapping[str, Path] | None,
) -> dict[str, Any]:
    recipe, model = config.recipe(experiment), plugins.load("models", experiment.model.name)
    return {
        "digest": config.digest(experiment),
        "samples_sha256": samples.digest(packed),
        "started": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "classes": classes(experiment),
        "commit": machine.commit(),
        "standin": [name for name in experiment.datasets if _is_standin(name, roots)],
        "deviations": list(model.PAPER.deviations),
        "counts": {
            "clips": len(clips),
            "subjects": len({clip.group for clip in clips}),
            "views": len(packed),
            "tasks": len(todo),
            "epochs": recipe.epochs,
            "dropped": len(dropped),
        },
        "machine": {"system": platform.platform(), "processor": machine.processor(), "device": experiment.device},
        "versions": machine.versions(),
        "experiment": config.plain(experiment),
        "dropped": dropped,
    }


def _is_standin(name: str, roots: Mapping[str, Path] | None) -> bool:
    check = getattr(plugins.load("datasets", name), "is_standin", None)
    return bool(check and check((roots or {}).get(name) or config.root(name)))
