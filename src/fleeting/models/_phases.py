"""AMMSM's training in three phases (section III-C).

1. The network adapts to many configurations: each batch has sparsity ratios and a magnification factor of its own.
   MESA's mean network, which it is held to, decides under the standing ones.
2. A search finds the configuration with the least classification loss on inner subjects, which the first phase did
   not train on; the test part is never seen. The other kind of search stands beside it with the same budget.
3. Fine-tuning under that configuration, on all of the training part.

With early stopping (``recipe.patience``) the inner subjects decide when the first and the third phase end, so the third
does not train on them either. Each phase has an optimiser and a learning rate schedule of its own; warm-up belongs to
the first, cool-down to the last.

What a task was doing is found in its scratch folder: the weights after the first phase, and ``search.csv``, to which
each trial is added as it is made, so that one can watch it. A task that was stopped goes on from there; one that is
done leaves nothing there. The searches are kept in ``context.log``: ``search_*`` and ``random_*`` by trial (``_loss``,
``_factor``, and ``_sparsity``, the ratios of one trial after those of another), ``sparsity`` and ``factor`` as chosen.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import nn

from fleeting import files, training
from fleeting.errors import UserError
from fleeting.models import _evolution
from fleeting.models._evolution import Budget, Configuration, Space, Trial
from fleeting.records import Samples
from fleeting.training import Context, Recipe

_SEARCHES = {"evolution": _evolution.evolution, "random": _evolution.random}
_WEIGHTS, _TRACE = "adapted.safetensors", "search.csv"


class Options(Protocol):
    """What is used of `models.ammsm.Options`; see there."""

    search: Any
    magnify: Any
    fine_tuning: Any
    ratios: Any
    factors: Any
    population: Any
    generations: Any
    crossover: Any
    mutation: Any


def fit(network: nn.Module, train: Samples, valid: Samples | None, recipe: Recipe, context: Context) -> nn.Module:
    """Trains in three phases; `training.fit`'s signature.

    Args:
        network: `models.ammsm.AMMSM`; its options say what is searched, and for how long.
        train: labelled.
        valid: labelled inner subjects for the search and for early stopping; else a share of the training subjects.
        recipe: `epochs` are those of the first and the third phase together.
        context: `scratch` holds what a task resumes from; None: it begins anew.

    Returns:
        The network under the configuration that was found.

    Raises:
        UserError: as `training.fit`; there is one subject only, so that none can be held back for the search.
    """
    configured: Any = network
    space = _space(configured)
    if configured.options.search == "none" or not (space.ratios or space.factors):
        return training.fit(network, train, valid, recipe, context)
    rest, inner = (train, valid) if valid is not None else _split(train, recipe, context)
    store, first, last = _Scratch(context.scratch), *_recipes(recipe, configured.options.fine_tuning)
    network.to(context.device)
    with _span(configured, 0, first.epochs / recipe.epochs):
        if not store.restore(network, context):
            with _adapting(configured, space, context.seed):
                training.fit(network, rest, inner, first, context)
            store.keep(network, context)
    best = _searched(configured, space, inner, recipe, context, store)
    configured.sparsity, configured.factor = best
    if last is not None:
        # resumed or not, what is drawn from here on is the same
        torch.manual_seed(context.seed + first.epochs)
        with _span(configured, first.epochs / recipe.epochs, 1):
            later = replace(context, first_epoch=context.first_epoch + first.epochs)
            training.fit(network, rest if recipe.patience else train, inner, last, later)
    store.clear()
    return network


def _space(network: Any) -> Space:
    """What is left out is not searched."""
    options: Options = network.options
    standing = Configuration(network.sparsity, network.factor)
    ratios = tuple(options.ratios) if any(standing.sparsity) else ()
    return Space(standing, ratios, None if options.magnify == "none" else tuple(options.factors))


def _recipes(recipe: Recipe, share: float) -> tuple[Recipe, Recipe | None]:
    """Of the first and of the third phase, which a very short training does not have."""
    after = min(round(share * recipe.epochs), recipe.epochs - 1)
    if not after:
        return recipe, None
    first = recipe.model_copy(update={"epochs": recipe.epochs - after, "cooldown_epochs": 0})
    return first, recipe.model_copy(update={"epochs": after, "warmup_epochs": 0})


def _split(train: Samples, recipe: Recipe, context: Context) -> tuple[Samples, Samples]:
    try:
        return training.split_groups(train, recipe.inner_share, context.seed)
    except UserError as error:
        raise UserError(
            'want at least two training subjects, one for the search, got one; set model.search = "none"'
        ) from error


@contextmanager
def _span(network: Any, begin: float, end: float) -> Iterator[None]:
    """Equation 2 counts epochs over all phases."""
    network.span = (begin, end)
    try:
        yield
    finally:
        network.span = (0.0, 1.0)


@contextmanager
def _adapting(network: Any, space: Space, seed: int) -> Iterator[None]:
    """Each batch in training has a configuration of its own; what is predicted meanwhile has the standing one."""
    rng = np.random.default_rng([seed, 1])

    def configure(module: Any, args: Any) -> None:
        module.sparsity, module.factor = space.drawn(rng) if module.training else space.standing

    hook = network.register_forward_pre_hook(configure)
    try:
        yield
    finally:
        hook.remove()
        network.sparsity, network.factor = space.standing


def _searched(
    network: Any, space: Space, inner: Samples, recipe: Recipe, context: Context, store: _Scratch
) -> Configuration:
    """The best configuration of the chosen search; both are written down."""
    options: Options = network.options
    budget = Budget(options.population, options.generations, options.crossover, options.mutation)
    known, decisive = store.trials(), training.tested(inner)
    trials: list[Trial] = []

    def fitness(one: Configuration) -> float:
        if one not in known:
            network.sparsity, network.factor = one
            known[one] = _loss(network, decisive, recipe, context.device)
            store.add(one, known[one])
        return known[one]

    for number, search in enumerate(_SEARCHES.values()):
        trials += search(space, budget, fitness, np.random.default_rng([context.seed, 2 + number]))
    best = min((trial for trial in trials if trial.search == options.search), key=lambda trial: trial.loss)
    _write_down(trials, best, context)
    return best.configuration


def _loss(network: nn.Module, inner: Samples, recipe: Recipe, device: str) -> float:
    """Mean cross-entropy of the inner subjects, without mixup or any other change of them."""
    if inner.y is None:
        raise UserError("want labelled validation samples, got none; give the fold a validation part")
    probs = training.predict(network, inner, recipe, device)[np.arange(len(inner)), inner.y]
    return float(-np.log(np.maximum(probs, 1e-12), dtype=np.float64).mean())


def _write_down(trials: list[Trial], best: Trial, context: Context) -> None:
    for name, search in (("search", "evolution"), ("random", "random")):
        made = [trial for trial in trials if trial.search == search]
        context.log[f"{name}_loss"] = [trial.loss for trial in made]
        context.log[f"{name}_factor"] = [trial.configuration.factor for trial in made]
        context.log[f"{name}_sparsity"] = [ratio for trial in made for ratio in trial.configuration.sparsity]
    context.log["sparsity"], context.log["factor"] = list(best.configuration.sparsity), [best.configuration.factor]


class _Scratch:
    """What a task resumes from, in a folder; without one nothing is kept."""

    def __init__(self, folder: Path | None) -> None:
        self.folder = folder
        if folder is not None:
            with files.unwritable(folder):
                folder.mkdir(parents=True, exist_ok=True)

    def keep(self, network: nn.Module, context: Context) -> None:
        """The weights after the first phase, and what was logged."""
        if self.folder is None:
            return
        weights = {name: value.detach().cpu().contiguous() for name, value in network.state_dict().items()}
        with files.replacing(self.folder / _WEIGHTS) as temporary:
            save_file(weights, temporary, {"log": json.dumps(context.log)})

    def restore(self, network: nn.Module, context: Context) -> bool:
        """Whether the first phase is done."""
        if self.folder is None or not (self.folder / _WEIGHTS).is_file():
            return False
        try:
            with safe_open(self.folder / _WEIGHTS, "pt") as stored:
                log = json.loads((stored.metadata() or {})["log"])
                names = stored.keys()
                network.load_state_dict({name: stored.get_tensor(name) for name in names})
        except (SafetensorError, RuntimeError, KeyError, OSError, ValueError, UserError) as error:
            why = str(error).partition("\n")[0]
            raise UserError(
                f"{self.folder}: want what this task left, got another's ({why}); delete the folder"
            ) from error
        context.log.update(log)
        return True

    def trials(self) -> dict[Configuration, float]:
        """Those that were made before; a line that was cut off is left out, here and in the file."""
        if self.folder is None:
            return {}
        path, head = self.folder / _TRACE, "loss,factor,sparsity\n"
        lines = path.read_text(encoding="utf-8").splitlines(keepends=True) if path.is_file() else [head]
        whole = [line for line in lines if line.endswith("\n")]
        files.write_text(path, "".join(whole or [head]))
        try:
            rows = [[float(value) for value in line.split(",")] for line in whole[1:]]
            return {Configuration(tuple(ratios), factor): loss for loss, factor, *ratios in rows}
        except ValueError as error:
            raise UserError(f"{path}: want loss, factor and ratios, got another line ({error}); delete it") from error

    def add(self, one: Configuration, loss: float) -> None:
        if self.folder is not None:
            path = self.folder / _TRACE
            with files.unwritable(path), path.open("a", encoding="utf-8", newline="\n") as stream:
                stream.write(",".join(map(repr, (loss, one.factor, *one.sparsity))) + "\n")

    def clear(self) -> None:
        if self.folder is not None:
            shutil.rmtree(self.folder, ignore_errors=True)
