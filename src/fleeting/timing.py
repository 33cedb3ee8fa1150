"""How long a decision takes: models and resolutions side by side, in one run, in turns.

Every network decides on the views of one drawn clip, a view at a time (batch 1), as `training.predict` would feed them.
Networks take turns in an order drawn anew each round, so that a machine that is busy for a while is busy for all; what
is told is the median over the rounds, with the quartiles. The stages before the network are timed beside it, from the
frames on disk to the views, on one thread and with an empty cache.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fleeting import config, fitting, machine, preparation
from fleeting import experiment as stages
from fleeting.config import Experiment
from fleeting.errors import UserError
from fleeting.records import Array, Clip, View
from fleeting.seeing import Progress, quiet

if TYPE_CHECKING:
    from torch import Tensor, nn

_WARM_UP = 3  # rounds that do not count: first calls allocate and choose kernels
_BEFORE = 3  # times that the stages before the network are measured


@dataclass(frozen=True)
class Asked:
    """What to time.

    Attributes:
        changes: "a.b=value" for every experiment.
        each: "a.b=value": every experiment is timed under each of them, for one resolution beside another.
        devices: "cpu", "cuda", ...; every network is timed on each.
        threads: of a network on the CPU; None for all cores.
        rounds: turns that count.
    """

    changes: Sequence[str] = ()
    each: Sequence[str] = ()
    devices: Sequence[str] = ("cpu",)
    threads: int | None = None
    rounds: int = 30


@dataclass
class _Entry:
    """A network on a device, with its views, and what it took."""

    told: dict[str, Any]
    decide: Callable[[int], None]
    views: int
    taken_s: list[float]


def run(paths: Sequence[Path], asked: Asked, progress: Progress = quiet) -> dict[str, Any]:
    """Times the networks of experiments; nothing is trained and no corpus is needed.

    Args:
        paths: experiment files.
        asked: see there.
        progress: for a progress bar.

    Returns:
        ``processor, versions, threads, rounds, rows``; a row is ``name, file, model, change, device, input: {array:
        shape}, parameters, views, ms_view, quartiles_ms, fastest_ms, ms_clip, before_ms, views_a_second``: medians;
        ms_clip is ms_view times the views of the clip; before_ms is all that comes before the network, of the clip.

    Raises:
        UserError: bad input, an input that frames cannot give, a network that cannot be built or that only its training
            makes (a support vector machine), no such device.
    """
    import torch

    if asked.rounds < 1 or not paths:
        raise UserError(f"want experiments and at least one round to time, got {len(paths)} and {asked.rounds}")
    before, threads = torch.get_num_threads(), asked.threads or os.cpu_count() or 1
    torch.set_num_threads(threads)
    try:
        with tempfile.TemporaryDirectory() as folder:
            entries = list(_entries(paths, asked, Path(folder), progress))
        _take_turns(entries, asked.rounds, progress)
    finally:
        torch.set_num_threads(before)
    return {
        "processor": machine.processor(),
        "versions": machine.versions(),
        "threads": threads,
        "rounds": asked.rounds,
        "rows": [_row(entry) for entry in entries],
    }


def _entries(paths: Sequence[Path], asked: Asked, folder: Path, progress: Progress) -> Iterator[_Entry]:
    variants = [(path, change) for path in paths for change in (asked.each or [""])]
    clip = drawn(folder / "clip")
    for done, (path, change) in enumerate(variants):
        progress("reading", done, len(variants))
        experiment = config.read(path, [*asked.changes, *([change] if change else [])])
        views, before_ms = _views(experiment, clip, folder / f"cache{done}")
        sizes = {name: array.shape for name, array in views[0].x.items()}
        network = _network(experiment, sizes)
        for device in asked.devices:
            decide = _decider(experiment, network, views, device)
            told = {
                "name": experiment.name,
                "file": str(path),
                "model": experiment.model.name,
                "change": change,
                "device": _device(device),
                "input": {name: list(shape) for name, shape in fitting.shapes(experiment, sizes).items()},
                "parameters": sum(one.numel() for one in network.parameters()),
                "before_ms": before_ms,
            }
            yield _Entry(told, decide, len(views), [])
    progress("reading", len(variants), len(variants))


def drawn(folder: Path) -> Clip:
    """A clip of 40 frames, 640 x 480 px, written to a folder: a face that smiles."""
    import cv2

    from fleeting.simulation import Expression, Scene

    scene = Scene(40, Expression(5, 15, 30, {"12": 1.0, "6": 0.5}), subject=1, size=(480, 640))
    folder.mkdir(parents=True)
    paths = tuple(folder / f"{index:02d}.png" for index in range(len(scene)))
    for index, path in enumerate(paths):
        cv2.imwrite(str(path), np.ascontiguousarray(scene[index][..., ::-1]))
    return Clip("drawn", "s01", "smile", paths, fps=scene.fps, onset=5, apex=15, offset=30)


def _views(experiment: Experiment, clip: Clip, cache: Path) -> tuple[list[View], float]:
    """The views that are tested, and the median time to make them in ms, without the first, which loads networks."""
    taken, made = [], list[View]()
    for attempt in range(_BEFORE + 1):
        with _cache(cache / str(attempt)):
            start = time.perf_counter()
            made = preparation.views(experiment, clip)[0].views
            taken.append(time.perf_counter() - start)
    return [view for view in made if not view.train_only], 1000 * float(np.median(taken[1:]))


@contextmanager
def _cache(folder: Path) -> Iterator[None]:
    """An empty cache, so that everything is computed, and nothing of it stays."""
    before = os.environ.get("FLEETING_CACHE")
    os.environ["FLEETING_CACHE"] = str(folder)
    try:
        yield
    finally:
        if before is None:
            del os.environ["FLEETING_CACHE"]
        else:
            os.environ["FLEETING_CACHE"] = before


def _network(experiment: Experiment, sizes: dict[str, tuple[int, ...]]) -> nn.Module:
    network = fitting.built(experiment, sizes, len(stages.classes(experiment)))
    if not any(True for _ in network.parameters()):
        raise UserError(
            f"{experiment.name}: want a network whose size is known before training, got {experiment.model.name}, "
            "which its training makes; time another model"
        )
    return network.eval()


def _device(name: str) -> str:
    import torch

    if not name.startswith("cuda"):
        return name
    return f"{name} ({torch.cuda.get_device_name(name)})" if torch.cuda.is_available() else name


def _decider(experiment: Experiment, network: nn.Module, views: Sequence[View], device: str) -> Callable[[int], None]:
    """view -> nothing, after the network has decided on it on the device."""
    import copy

    import torch

    from fleeting import training

    recipe = config.recipe(experiment)
    waits = {
        "cpu": lambda: None,
        # the call returns before the work is done
        "cuda": lambda: torch.cuda.synchronize(device),
        "mps": torch.mps.synchronize,
    }
    try:
        kind = torch.device(device).type
        if kind not in waits:
            raise RuntimeError(f"how to wait for it is known of {', '.join(waits)} alone")
        here = copy.deepcopy(network).to(device)
        batches = [{name: _tensor(array, recipe.crop).to(device) for name, array in view.x.items()} for view in views]
    except (RuntimeError, AssertionError) as error:
        why = str(error).partition("\n")[0]
        raise UserError(
            f"want a device that torch can use here, got {device!r} ({why}); choose --device cpu"
        ) from error

    def decide(view: int) -> None:
        with torch.inference_mode(), torch.autocast(kind, dtype=torch.bfloat16, enabled=recipe.amp == "bf16"):
            training.probabilities(here, here(**batches[view]))
        waits[kind]()

    return decide


def _tensor(array: Array, side: int | None) -> Tensor:
    """A batch of one as in prediction: pictures as 0..1, the centre where the recipe crops."""
    import torch

    from fleeting import augment, training

    batch = training.floats(torch.from_numpy(np.ascontiguousarray(array))[None])
    return batch if side is None else augment.crop(batch, side, None)


def _take_turns(entries: Sequence[_Entry], rounds: int, progress: Progress) -> None:
    rng = np.random.default_rng(0)
    for done in range(_WARM_UP + rounds):
        for place in rng.permutation(len(entries)):
            entry = entries[place]
            start = time.perf_counter()
            entry.decide(done % entry.views)
            if done >= _WARM_UP:
                entry.taken_s.append(time.perf_counter() - start)
        progress("rounds", done + 1, _WARM_UP + rounds)


def _row(entry: _Entry) -> dict[str, Any]:
    low, middle, high = 1000 * np.quantile(entry.taken_s, [0.25, 0.5, 0.75])
    return {
        **entry.told,
        "views": entry.views,
        "ms_view": float(middle),
        "quartiles_ms": [float(low), float(high)],
        "fastest_ms": 1000 * min(entry.taken_s),
        "ms_clip": float(middle) * entry.views,
        "views_a_second": 1000 / float(middle),
    }
