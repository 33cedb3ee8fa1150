"""The order of the stages: from an experiment to a run folder, and to a model folder. Knows all of them."""

from __future__ import annotations

import json
import platform
import subprocess
import time
import zlib
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from difflib import get_close_matches
from functools import cache as memoised
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

import fleeting
from fleeting import cache, config, engine, files, motion, plugins, runs, samples
from fleeting.config import Experiment
from fleeting.errors import UserError, nearest
from fleeting.records import (
    Array,
    Clip,
    FaceClip,
    FlowFile,
    Fold,
    FoldResult,
    FoldTask,
    Moment,
    Plan,
    Samples,
    View,
    unique,
)

if TYPE_CHECKING:
    from torch import nn

Progress = Callable[[str, int, int], None]
"""Called with (what is being done, steps done, steps in all)."""

Dropped = list[dict[str, str]]


def _quiet(what: str, done: int, total: int) -> None:
    """No progress."""


def run(
    experiment: Experiment,
    out: Path,
    jobs: int = 1,
    roots: Mapping[str, Path] | None = None,
    progress: Progress = _quiet,
) -> runs.Run:
    """Trains and tests every fold, seed and inner split that is not done yet.

    Args:
        experiment: resolved (`config.read` or `config.resolve`).
        out: run folder; one that exists is resumed.
        jobs: parallel processes.
        roots: dataset -> folder, instead of the environment.
        progress: for a progress bar.

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
    packed, broken = prepare(experiment, clips, progress)
    clips = [clip for clip in clips if clip.key not in broken]
    folds = {seed: split(experiment, clips, labels, seed) for seed in experiment.seeds}
    todo = [task for seed in experiment.seeds for task in tasks(experiment, folds[seed], labels, seed)]
    words = classes(experiment)
    with runs.writing(out):
        header = _header(experiment, clips, dropped + _listed(broken), todo, packed, roots)
        opened = runs.begin(out, header, clips, {key: words[number] for key, number in labels.items()}, folds)
        runs.place_samples(out, packed.folder)
        done = opened.done()
        pending = [task for task in todo if task.name not in done]
        _run_tasks(pending, out, jobs, len(todo), progress)
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
    labels = {key: number[word] for key, word in words.items() if word is not None}
    dropped = [
        {"key": clip.key, "stage": "label", "reason": f"emotion {clip.emotion!r} has no class"}
        for clip in loaded
        if words[clip.key] is None
    ]
    if not labels:
        raise UserError(f"want clips of the classes {tuple(number)}, got none among {len(loaded)}; check [protocol]")
    return [clip for clip in loaded if clip.key in labels], labels, dropped


def prepare(
    experiment: Experiment, clips: Sequence[Clip], progress: Progress = _quiet
) -> tuple[Samples, dict[str, str]]:
    """Stages 3 to 10: the packed views of all clips, from the cache where nothing changed. Sees no label.

    Returns:
        The samples, and key -> reason of every clip that is broken.

    Raises:
        UserError: the plan wants what a clip cannot give, or every clip is broken.
    """
    _check_mirror(experiment)
    plans = _plans(experiment, clips)
    folder = cache.folder() / "packed" / _prepared_digest(experiment, clips)
    broken_file = folder / "broken.json"
    try:
        return samples.read(folder), json.loads(broken_file.read_text(encoding="utf-8"))
    except (UserError, OSError, ValueError):
        pass  # nothing there, or damaged: packed anew
    views: dict[str, Sequence[View]] = {}
    broken: dict[str, str] = {}
    for done, clip in enumerate(clips, 1):
        try:
            views[clip.key] = _views(experiment, clip, *plans[clip.key])
        except UserError as error:
            broken[clip.key] = str(error)
        progress("preparing clips", done, len(clips))
    input_, options = _plugin(experiment, "inputs", _input(experiment))
    files.write_text(broken_file, json.dumps(broken))
    return samples.pack(folder, views, input_.channels(options)), broken


def split(experiment: Experiment, clips: Sequence[Clip], labels: Mapping[str, int], seed: int) -> list[Fold]:
    """Stage 11: the folds of a seed.

    Raises:
        UserError: the protocol cannot split these clips, or a fold has nothing to train on or to test.
    """
    protocol, options = _plugin(experiment, "protocols", experiment.protocol)
    folds: list[Fold] = protocol.folds(clips, labels, options, seed)
    for fold in folds:
        if not fold.train or not fold.tested:
            raise UserError(f"fold {fold.name}: want clips to train on and to test, got none; check [protocol]")
    return folds


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
    trace: list[Array] = []

    def after_epoch(epoch: int, network: nn.Module) -> None:
        with torch.random.fork_rng(devices=_devices(experiment.device)):
            trace.append(training.predict(network, test, recipe, experiment.device))

    seed = task_seed(task)
    scratch = folder / "scratch" / task.name
    context = training.Context(seed=seed, device=experiment.device, scratch=scratch, after_epoch=after_epoch)
    train = samples.training(packed, task.train, len(classes(experiment)))
    valid = samples.training(packed, task.valid, len(classes(experiment))) if task.valid else None
    network = _fitted(experiment, packed, train, valid, context)
    if recipe.patience:
        trace.append(training.predict(network, test, recipe, experiment.device))
    fitted = training.predict(network, train, recipe, experiment.device).argmax(1) == train.y
    return FoldResult(
        task=task.name,
        keys=test.keys[test.rows],
        views=test.views[test.rows],
        probs=np.stack(trace),
        log={**{name: np.array(values) for name, values in context.log.items()}, "fitted_accuracy": fitted.mean()},
        seconds=time.monotonic() - started,
    )


def task_seed(task: FoldTask) -> int:
    """The task's own seed: crc32 of (seed, fold, inner)."""
    return zlib.crc32(repr((task.seed, task.fold, task.inner)).encode())


def train(
    experiment: Experiment, out: Path, roots: Mapping[str, Path] | None = None, progress: Progress = _quiet
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
    packed, broken = prepare(experiment, clips, progress)
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
            "shapes": {name: list(shape) for name, shape in samples.shapes(packed).items()},
            "versions": _versions(),
            "trained_on": sorted({clip.group for clip in clips if clip.key in kept}),
        },
    )
    return out


def predict(model: Path, names: Sequence[str]) -> list[dict[str, Any]]:
    """Decisions of a saved model.

    Args:
        model: folder written by `train`.
        names: clip keys, or paths of flow pictures; see `find_clip`.

    Returns:
        For each ``clip, class, probabilities: {class: p}, trained_on``; the last is True where the clip's
        subject was in the training part, so that the decision says nothing about new people, and None for a
        picture given as a file, whose subject is not known.

    Raises:
        UserError: `model` is no model folder, no such clip, or a clip cannot give what the input wants.
    """
    import tempfile

    from fleeting import saving, training

    network, header = saving.read(model)
    experiment = config.resolve(header["experiment"], str(model / "model.toml"))
    clips, known = find_clips(experiment, names)
    input_, options = _plugin(experiment, "inputs", _input(experiment))
    plans = _plans(experiment, clips)
    views = {clip.key: _views(experiment, clip, *plans[clip.key]) for clip in clips}
    recipe = config.recipe(experiment)
    with tempfile.TemporaryDirectory() as folder:
        packed = samples.pack(Path(folder), views, input_.channels(options))
        probs = training.predict(network, samples.testing(packed, views), recipe, "cpu")
    found = []
    for clip in clips:
        voted = runs.vote(probs[packed.keys == clip.key][None], recipe.vote)[0]
        words = {word: float(value) for word, value in zip(header["classes"], voted, strict=True)}
        # of a picture given as a file nobody knows the subject
        seen = None if clip.key not in known else clip.group in header["trained_on"]
        found.append(
            {"clip": clip.key, "class": max(words, key=words.__getitem__), "probabilities": words, "trained_on": seen}
        )
    return found


def find_clips(experiment: Experiment, names: Sequence[str]) -> tuple[list[Clip], set[str]]:
    """Clips by their keys, or by the paths of flow pictures in the layout of `megc2019_flow`.

    Returns:
        The clips, and the keys of those that the corpora know.

    Raises:
        UserError: no such clip (the nearest key is suggested), or one is named twice.
    """
    keys = [name for name in names if not Path(name).is_file()]
    roots = [(dataset, config.root(dataset)) for dataset in experiment.datasets] if keys else []
    known: dict[str, Clip] = {
        clip.key: clip for name, root in roots for clip in plugins.load("datasets", name).load(root)
    }
    for key in keys:
        if key not in known:
            near = nearest(key, known) if get_close_matches(key, known, n=1, cutoff=0.5) else ""
            raise UserError(f"want a clip key (dataset/subject/name) or the path of a flow picture, got {key!r}{near}")
    clips = [known.get(name) or _picture_clip(Path(name)) for name in names]
    unique(clip.key for clip in clips)
    return clips, set(known)


def _picture_clip(path: Path) -> Clip:
    flow = FlowFile(path=path, pair=(0, 1), channels=("strain", "v", "u"))
    stem = path.stem.strip().replace("~", "-") or "picture"
    return Clip("file", "-", stem, None, onset=0, apex=1, offset=1, flow_files=(flow,))


def _fitted(experiment: Experiment, packed: Samples, train: Samples, valid: Samples | None, context: Any) -> nn.Module:
    import torch

    from fleeting import training

    model, options = _plugin(experiment, "models", experiment.model)
    torch.manual_seed(context.seed)
    network = model.build(samples.shapes(packed), train.classes, options)
    fit = getattr(model, "fit", training.fit)
    fitted: nn.Module = fit(network, train, valid, config.recipe(experiment), context)
    return fitted


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


def _plans(experiment: Experiment, clips: Sequence[Clip]) -> dict[str, tuple[Moment, Plan]]:
    """Stages 4 and 5, with one complaint before any work if a clip cannot give what the plan wants."""
    spotter, spotter_options = _plugin(experiment, "spotting", experiment.spotting)
    input_, input_options = _plugin(experiment, "inputs", _input(experiment))
    plans = {}
    for clip in clips:
        moments = spotter.locate(FaceClip(clip, None), spotter_options)
        if len(moments) != 1:
            raise UserError(
                f"{clip.key}: want one moment in a labelled clip, got {len(moments)}; choose another spotter"
            )
        plan = input_.plan(moments[0], input_options)
        _check_published(clip, plan)
        plans[clip.key] = (moments[0], plan)
    return plans


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


def _check_published(clip: Clip, plan: Plan) -> None:
    given = {file.pair for file in clip.flow_files}
    missing = [pair for pair in plan.pairs if pair not in given]
    if clip.frames is None and (plan.frames or missing):
        what = f"frames {plan.frames}" if plan.frames else f"flow between frames {missing[0]}"
        raise UserError(
            f"{clip.key}: want {what}, got a clip of published flow without frames; choose an input (such as uvs28 "
            "with areas = 'constant' or 'whole') that needs none"
        )
    if clip.frames is not None:
        raise UserError(f"{clip.key}: want published flow, got frames; reading frames comes with the video stages")


def _views(experiment: Experiment, clip: Clip, moment: Moment, plan: Plan) -> list[View]:
    """Stages 8 and 9 for published flow."""
    input_, options = _plugin(experiment, "inputs", _input(experiment))
    published = {file.pair: file for file in clip.flow_files}
    flows = {pair: motion.read(published[pair]) for pair in plan.pairs}
    views: list[View] = input_.make(FaceClip(clip, moment), flows, options)
    return views


def _prepared_digest(experiment: Experiment, clips: Sequence[Clip]) -> str:
    """Changes with the clips, their files, the options of stages 3 to 9, and the source that makes the views."""
    choices = {"spotting": experiment.spotting, "faces": experiment.face, "inputs": _input(experiment)}
    named = {kind: choice.model_dump(mode="json") for kind, choice in choices.items()}
    modules = [plugins.load(kind, choice.name) for kind, choice in choices.items()] + [motion, samples]
    sources = [Path(str(module.__file__)).read_text(encoding="utf-8") for module in modules]
    inputs = [
        (clip.key, clip.onset, clip.apex, clip.offset, [_stamped(file) for file in clip.flow_files]) for clip in clips
    ]
    return cache.digest(named, sources, inputs)


def _stamped(file: FlowFile) -> list[Any]:
    return [cache.stamp(file.path), file.pair, file.channels, file.unit]


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
        "commit": _commit(),
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
        "machine": {"system": platform.platform(), "processor": _processor(), "device": experiment.device},
        "versions": _versions(),
        "experiment": config.plain(experiment),
        "dropped": dropped,
    }


def _is_standin(name: str, roots: Mapping[str, Path] | None) -> bool:
    check = getattr(plugins.load("datasets", name), "is_standin", None)
    return bool(check and check((roots or {}).get(name) or config.root(name)))


def _versions() -> dict[str, str]:
    packages = ("torch", "numpy", "opencv-contrib-python-headless", "scikit-learn")
    return {"fleeting": fleeting.__version__, "python": platform.python_version()} | {p: version(p) for p in packages}


def _processor() -> str:
    path = Path("/proc/cpuinfo")
    lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()


def _commit() -> str:
    """The commit of a source checkout, "" for an installed package."""
    try:
        folder = Path(__file__).parent
        done = subprocess.run(["git", "rev-parse", "HEAD"], cwd=folder, capture_output=True, text=True, timeout=5)
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""
