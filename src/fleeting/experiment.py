"""The order of the stages: from an experiment to a run folder, and to a model folder. Knows all of them."""

from __future__ import annotations

import platform
import time
import zlib
from collections.abc import Callable, Container, Mapping, Sequence
from functools import cache as memoised
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fleeting import (
    config,
    dealing,
    doctor,
    engine,
    files,
    fitting,
    machine,
    plugins,
    predictions,
    preparation,
    runs,
    samples,
)
from fleeting.config import Experiment
from fleeting.errors import UserError
from fleeting.records import Array, Clip, Fold, FoldResult, FoldTask, Samples, unique
from fleeting.seeing import Progress, quiet

if TYPE_CHECKING:
    from torch import nn

_TRACE = "trace.npz"
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
    fitting.check_device(experiment)
    _opened.cache_clear()  # another run may have been in this folder before, in this process
    clips, labels, dropped = load(experiment, roots)
    packed, broken, notices = prepare(experiment, clips, progress, jobs)
    drawn = {seed: (splitter or split)(experiment, clips, labels, seed) for seed in experiment.seeds}
    folds = {seed: dealing.without(of_seed, broken) for seed, of_seed in drawn.items()}
    clips = [clip for clip in clips if clip.key not in broken]
    todo = [task for seed in experiment.seeds for task in tasks(experiment, drawn[seed], labels, seed, broken)]
    words = classes(experiment)
    begins = fitting.begins(experiment, packed, len(words)) if runs.pending(out, todo) else ()
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
            predictions.assemble(opened)
    return opened


def load(experiment: Experiment, roots: Mapping[str, Path] | None = None) -> tuple[list[Clip], dict[str, int], Dropped]:
    """Stages 1 and 2: the clips that have a class, their classes, and those that were dropped.

    Raises:
        UserError: a corpus is missing or broken, a key occurs twice, or no clip has a class.
    """
    protocol, options = config.plugin("protocols", experiment.protocol)
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
    protocol, options = config.plugin("protocols", experiment.protocol)
    folds: list[Fold] = protocol.folds(clips, labels, options, seed)
    if not getattr(options, "subject_overlap", False):
        doctor.refuse_overlap(folds, clips)
    for fold in folds:
        if not fold.train or not fold.tested:
            raise UserError(f"fold {fold.name}: want clips to train on and to test, got none; check [protocol]")
    return folds


def examine(experiment: Experiment, roots: Mapping[str, Path] | None = None) -> doctor.Report:
    """Who is in which part of the experiment's split, for every seed, before anything is prepared or trained.

    Says what `split` would refuse. Clips that turn out to be broken are still among them.

    Raises:
        UserError: a corpus is missing or broken, or the protocol cannot split its clips.
    """
    protocol, options = config.plugin("protocols", experiment.protocol)
    clips, labels, _ = load(experiment, roots)
    folds = {seed: protocol.folds(clips, labels, options, seed) for seed in experiment.seeds}
    words = classes(experiment)
    made_up = any(_is_standin(name, roots) for name in experiment.datasets)
    named = {key: words[number] for key, number in sorted(labels.items(), key=lambda item: item[1])}
    return doctor.examine_split(experiment.name, folds, clips, named, made_up)


def tasks(
    experiment: Experiment, folds: Sequence[Fold], labels: Mapping[str, int], seed: int, broken: Container[str] = ()
) -> list[FoldTask]:
    """Stage 12: each fold, and its inner splits, which test only inside the fold's training part.

    Inner splits deal the training subjects out, shuffled with the seed, largest first, so that each subject is
    tested by one inner task. Clips in `broken` are dealt too, and then taken out, see `dealing.without`.

    Raises:
        UserError: as `dealing.without`; too few subjects; an inner split has nothing left to train on or to test.
    """
    found = []
    dealt = {fold.name: dealing.deal(fold.train, experiment.inner, seed) for fold in folds}
    for fold in dealing.without(folds, broken):
        train = {key: labels[key] for key in fold.train}
        valid = {key: labels[key] for key in fold.valid}
        found.append(FoldTask(fold=fold.name, seed=seed, inner=None, train=train, valid=valid, test=fold.tested))
        for inner, held in enumerate(dealt[fold.name]):
            rest = {key: label for key, label in train.items() if key not in held}
            test = tuple(key for key in fold.train if key in held)
            if not rest or not test:
                raise UserError(
                    f"fold {fold.name}, inner split {inner}: want clips on both sides, got none; lower inner"
                )
            found.append(FoldTask(fold.name, seed, inner, rest, {}, test))
    return found


def classes(experiment: Experiment) -> list[str]:
    """The protocol's class words."""
    protocol, options = config.plugin("protocols", experiment.protocol)
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
    network = fitting.fitted(experiment, packed, train, valid, context)
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

    fitting.check_device(experiment)
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
    network = fitting.fitted(experiment, packed, selection, None, context)
    saving.write(
        out,
        network,
        {
            "experiment": config.plain(experiment),
            "classes": classes(experiment),
            "shapes": {name: list(shape) for name, shape in fitting.shapes(experiment, samples.shapes(packed)).items()},
            "versions": machine.versions(),
            "trained_on": sorted({clip.group for clip in clips if clip.key in kept}),
        },
    )
    return out


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


def _check_mirror(experiment: Experiment) -> None:
    """An input may say that its picture is not the mirrored face when it is mirrored."""
    input_, options = config.plugin("inputs", config.input_of(experiment))
    mirrors = getattr(input_, "mirrors", None)
    if config.recipe(experiment).flip and mirrors is not None and not mirrors(options):
        raise UserError(
            f"want an input that can be mirrored for recipe.flip, got {config.input_of(experiment)}; "
            "set recipe.flip = false"
        )


@memoised
def _opened(folder: Path) -> tuple[Experiment, Samples]:
    """Experiment and samples of a run folder, once a process."""
    run = runs.Run(folder)
    return config.resolve(run.header["experiment"], str(folder / "run.toml")), samples.read(run.samples)


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
