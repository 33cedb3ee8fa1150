"""One training loop and one prediction for every model."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from math import cos, isfinite, pi
from pathlib import Path
from typing import cast

import numpy as np
import torch
import torch.nn.functional as functional
from torch import Tensor, nn

from fleeting import augment, counting, dealing, metrics, samples
from fleeting.errors import UserError
from fleeting.recipe import Recipe as Recipe
from fleeting.records import Array, Samples
from fleeting.samples import tested as tested

_IN_MEMORY_BYTES = 1 << 30
_MESA_BEGINS = 0.25
_MESA_KEEPS = 0.9998  # of the average at each step, once there are many


def _ignore(epoch: int, network: nn.Module) -> None:
    """Looks at nothing."""


@dataclass(frozen=True)
class Context:
    """Where a training runs.

    Attributes:
        seed: of this task; the caller has seeded torch with it before building the network.
        device: "cpu", "cuda", ...
        scratch: a folder for what a long `fit` wants to resume from, or None.
        first_epoch: where the numbering starts.
        after_epoch: called with (epoch, network) after each epoch; it must leave no trace in the training.
        log: lists over the epochs, filled by `fit`.
    """

    seed: int
    device: str = "cpu"
    scratch: Path | None = None
    first_epoch: int = 0
    after_epoch: Callable[[int, nn.Module], None] = _ignore
    log: dict[str, list[float]] = field(default_factory=dict)


def fit(network: nn.Module, train: Samples, valid: Samples | None, recipe: Recipe, context: Context) -> nn.Module:
    """Trains a network.

    Args:
        network: `forward(**x)`; may define ``loss(output, target, progress)``.
        train: labelled.
        valid: labelled; only early stopping looks at it. Without it, a share of the training subjects.
        recipe, context: see there.

    Returns:
        The network after the last epoch, or, with early stopping, as it was at its best epoch.

    Raises:
        UserError: the loss is not finite (the epoch is named), or there is nothing to train on.
    """
    if train.y is None or not len(train):
        raise UserError("want labelled training samples, got none; give the fold training clips")
    if recipe.patience and valid is None:
        train, valid = split_groups(train, recipe.inner_share, context.seed)
    if valid is not None:
        valid = tested(valid)
    network.to(context.device).train()
    loader = _Loader(train, recipe, context)
    optimiser = _optimiser(network, recipe)
    stopper = _Stopper(recipe.patience)
    teacher = _Teacher(network) if recipe.mesa else None
    for epoch in range(context.first_epoch, context.first_epoch + recipe.epochs):
        rate = learning_rate(recipe, epoch - context.first_epoch)
        for group in optimiser.param_groups:
            group["lr"] = rate
        progress = (epoch - context.first_epoch) / recipe.epochs
        loss, accuracy = _epoch(network, loader, optimiser, recipe, progress, teacher)
        _check_finite(loss, epoch)
        for name, value in (("loss", loss), ("train_accuracy", accuracy), ("learning_rate", rate)):
            context.log.setdefault(name, []).append(value)
        context.after_epoch(epoch, network)
        if valid is not None and recipe.patience and stopper.stop(network, _uf1(network, valid, recipe, context)):
            break
    return stopper.restore(network)


def predict(network: nn.Module, selection: Samples, recipe: Recipe, device: str = "cpu") -> Array:
    """Class probabilities of every view: (N, C) float32, rows sum to 1. Leaves the network's mode as it was."""
    modes = [(module, module.training) for module in network.modules()]
    network.eval()
    loader = _Loader(replace(selection, y=None, classes=0), recipe, Context(seed=0, device=device))
    with torch.inference_mode(), _autocast(recipe, device):
        parts = [probabilities(network, network(**x)).float().cpu() for x in loader.in_order()]
    for module, mode in modes:
        module.training = mode
    return np.asarray(torch.cat(parts).numpy(), dtype=np.float32)


def probabilities(network: nn.Module, output: Tensor) -> Tensor:
    """(B, C) of a network's output: its own ``probabilities``, else softmax in float32."""
    own = getattr(network, "probabilities", None)
    return output.float().softmax(-1) if own is None else cast(Tensor, own(output))


def floats(x: Tensor) -> Tensor:
    """An array as a network is given it: float32, pictures (uint8) as 0..1."""
    return x.float() / (255 if x.dtype == torch.uint8 else 1)


def split_groups(train: Samples, share: float, seed: int) -> tuple[Samples, Samples]:
    """Splits by subject: (rest, about `share` of the subjects), no subject on both sides.

    Raises:
        UserError: fewer than two subjects.
    """
    groups = np.array([dealing.group(str(key)) for key in train.keys[train.rows]])
    subjects = np.unique(groups)
    if len(subjects) < 2:
        raise UserError("want at least two training subjects to split, got one; set recipe.patience = 0")
    held = np.random.default_rng(seed).permutation(subjects)[: max(1, round(share * len(subjects)))]
    inside = np.isin(groups, held[: len(subjects) - 1])
    return samples.take(train, np.flatnonzero(~inside)), samples.take(train, np.flatnonzero(inside))


def learning_rate(recipe: Recipe, epoch: int) -> float:
    """The rate of an epoch (0-based): linear warm-up, the schedule, then cool-down at its lowest value."""
    if epoch < recipe.warmup_epochs:
        return recipe.lr * (epoch + 1) / recipe.warmup_epochs
    length = max(1, recipe.epochs - recipe.warmup_epochs - recipe.cooldown_epochs)
    done = min(epoch - recipe.warmup_epochs, length)
    if recipe.schedule == "cosine":
        return recipe.min_lr + (recipe.lr - recipe.min_lr) * (1 + cos(pi * done / length)) / 2
    return recipe.lr * recipe.decay**done if recipe.schedule == "exponential" else recipe.lr


def class_weights(y: Array, classes: int, limit: float) -> Array:
    """(C,) N / (C n_c), at most `limit`, 0 for an absent class; then scaled so that the samples' mean weight is 1."""
    counts = np.bincount(y, minlength=classes)
    weights = np.minimum(len(y) / (classes * np.maximum(counts, 1)), limit) * (counts > 0)
    return np.asarray(weights * len(y) / (weights * counts).sum())


def _epoch(
    network: nn.Module,
    loader: _Loader,
    optimiser: torch.optim.Optimizer,
    recipe: Recipe,
    progress: float,
    teacher: _Teacher | None = None,
) -> tuple[float, float]:
    """One pass; (mean loss, running accuracy against the hard labels)."""
    total, right, seen = 0.0, 0.0, 0
    for x, target, weight in loader.shuffled():
        with _autocast(recipe, loader.device):
            output = network(**x)
        loss = (_losses(network, output, target, recipe, progress) * weight).mean()
        if teacher is not None and progress >= _MESA_BEGINS:
            with _autocast(recipe, loader.device):
                wanted = teacher.decides(x)
            loss = loss + recipe.mesa * _divergence(wanted, probabilities(network, output))
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        optimiser.step()
        if teacher is not None:
            teacher.follow(network)
        with torch.no_grad():
            hit = probabilities(network, output).argmax(-1) == target.argmax(-1)
        total += float(loss.detach()) * len(target)
        right += float(hit.sum())
        seen += len(target)
    return total / seen, right / seen


def _losses(network: nn.Module, output: Tensor, target: Tensor, recipe: Recipe, progress: float) -> Tensor:
    own = getattr(network, "loss", None)
    if own is not None:
        if recipe.criterion != "ce":
            raise UserError(
                "want recipe.criterion = 'ce' for a network with a loss of its own, got "
                f"{recipe.criterion!r}, which it would not use; set it to 'ce'"
            )
        return cast(Tensor, own(output, target, progress))
    log_probs = output.float().log_softmax(-1)
    if recipe.criterion == "focal":
        log_probs = (1 - log_probs.exp()) ** 2 * log_probs
    return -(target * log_probs).sum(-1)


def _divergence(wanted: Tensor, probs: Tensor) -> Tensor:
    """Kullback-Leibler divergence of decisions (B, C) from those that are wanted; the mean over the batch."""
    least = torch.finfo(torch.float32).tiny
    return (wanted * (wanted.clamp_min(least).log() - probs.clamp_min(least).log())).sum(-1).mean()


class _Teacher:
    """MESA's: a network in evaluation mode whose weights are an exponential average of those of another.

    At the beginning the average is short, or it would hold the random weights of the first step for thousands of steps.
    """

    def __init__(self, network: nn.Module) -> None:
        self.network, self.steps = copy.deepcopy(network).eval().requires_grad_(False), 0

    @torch.no_grad()
    def follow(self, network: nn.Module) -> None:
        """After each step; buffers, such as batch norm's statistics, are taken as they are."""
        self.steps += 1
        keeps = min(_MESA_KEEPS, self.steps / (self.steps + 10))
        for mean, new in zip(self.network.parameters(), network.parameters(), strict=True):
            mean.lerp_(new, 1 - keeps)
        for mine, its in zip(self.network.buffers(), network.buffers(), strict=True):
            mine.copy_(its)

    @torch.no_grad()
    def decides(self, x: dict[str, Tensor]) -> Tensor:
        """(B, C)."""
        return probabilities(self.network, self.network(**x))


class _Loader:
    """Batches of a selection on a device, in memory where they fit.

    One generator, seeded with the context's seed, draws the order and the augmentation, so they do not depend
    on what the network draws (dropout).
    """

    def __init__(self, selection: Samples, recipe: Recipe, context: Context) -> None:
        self.selection, self.recipe, self.device = selection, recipe, context.device
        # a second training of one task, which numbers its epochs on, does not draw the same order again
        self.generator = torch.Generator().manual_seed(context.seed + context.first_epoch)
        size = sum(4 * array[0].size for array in selection.x.values()) * len(selection)  # as float32
        everything = np.arange(len(selection))
        self.stored = self._read(everything) if size < _IN_MEMORY_BYTES else None
        if selection.y is not None:
            self._prepare_targets(selection.y)

    def in_order(self) -> Iterator[dict[str, Tensor]]:
        for start in range(0, len(self.selection), self.recipe.batch):
            x = self._gather(torch.arange(start, min(start + self.recipe.batch, len(self.selection))))
            yield {name: self._cropped(array, None) for name, array in x.items()}

    def shuffled(self) -> Iterator[tuple[dict[str, Tensor], Tensor, Tensor]]:
        for chosen in _batches(self._order(), self.recipe.batch):
            x, target = self._augmented(self._gather(chosen)), self.target[chosen]
            if self.recipe.mixup:
                x, target = augment.mix(x, target, self.recipe.mixup, self.generator)
            # a blended sample weighs what its blended target says
            weight = target @ self.weights
            target = target * (1 - self.recipe.smoothing) + self.recipe.smoothing / target.shape[1]
            yield x, target.to(self.device), weight.to(self.device)

    def _prepare_targets(self, y: Array) -> None:
        recipe, classes = self.recipe, self.selection.classes
        self.target = functional.one_hot(torch.from_numpy(y), classes).float()
        weights = torch.from_numpy(class_weights(y, classes, recipe.balance_limit)).float()
        self.weights = weights if recipe.balance == "weights" else torch.ones(classes)
        self.share = weights[torch.from_numpy(y)] if recipe.balance == "sampler" else None
        self.views = _Views(self.selection, y, recipe.balance_limit) if recipe.balance == "views" else None

    def _order(self) -> Tensor:
        if self.views is not None:
            chosen = self.views.drawn(self.generator)
            return chosen[torch.randperm(len(chosen), generator=self.generator)]
        if self.share is None:
            return torch.randperm(len(self.selection), generator=self.generator)
        return torch.multinomial(self.share, len(self.selection), replacement=True, generator=self.generator)

    def _augmented(self, x: dict[str, Tensor]) -> dict[str, Tensor]:
        """The same mirror, turn, colours and crop for every array of a sample."""
        recipe, count = self.recipe, len(next(iter(x.values())))
        chosen = (torch.rand(count, generator=self.generator) < 0.5).to(self.device) if recipe.flip else None
        turn = torch.rand(count, generator=self.generator) if recipe.rotate_deg else None
        for name, array in x.items():
            names = self.selection.channels[name]
            if chosen is not None:
                array = augment.mirror(array, names, chosen)
            if turn is not None:
                array = augment.rotate(array, names, ((2 * turn - 1) * recipe.rotate_deg).to(self.device))
            x[name] = array
        if any(recipe.jitter):
            x = augment.jitter(x, self.selection.channels, recipe.jitter, self.generator)
        place = self.generator.get_state()
        for name, array in x.items():
            self.generator.set_state(place)
            x[name] = self._cropped(array, self.generator)
        return x

    def _cropped(self, array: Tensor, generator: torch.Generator | None) -> Tensor:
        return array if self.recipe.crop is None else augment.crop(array, self.recipe.crop, generator)

    def _gather(self, positions: Tensor) -> dict[str, Tensor]:
        if self.stored is not None:
            return {name: array[positions.to(self.device)] for name, array in self.stored.items()}
        return self._read(positions.numpy())

    def _read(self, positions: Array) -> dict[str, Tensor]:
        """Float tensors on the device; pictures (uint8) come as 0..1."""
        rows = self.selection.rows[positions]
        tensors = {name: torch.from_numpy(np.ascontiguousarray(x[rows])) for name, x in self.selection.x.items()}
        return {name: floats(tensor.to(self.device)) for name, tensor in tensors.items()}


class _Views:
    """Which views train in an epoch under ``balance = "views"``: positions in the selection.

    Raises:
        UserError: no view is for training only.
    """

    def __init__(self, selection: Samples, y: Array, limit: float) -> None:
        extra = selection.train_only[selection.rows]
        if not extra.any():
            raise UserError(
                "want views that are for training only for recipe.balance = 'views', got none; let the input make them "
                "(bidirectional240: input.near = [-2, -1, 1, 2]) or set recipe.balance"
            )
        own = np.bincount(y[~extra], minlength=selection.classes)
        most = round(limit * own[own > 0].min(initial=len(y)))
        self.own = torch.from_numpy(np.flatnonzero(~extra))
        self.more = [
            (torch.from_numpy(np.flatnonzero(extra & (y == label))), max(0, most - int(count)))
            for label, count in enumerate(own)
        ]

    def drawn(self, generator: torch.Generator) -> Tensor:
        """The clips' own views, then those added to each class."""
        added = [views[torch.randperm(len(views), generator=generator)[:count]] for views, count in self.more]
        return torch.cat([self.own, *added])


def _batches(order: Tensor, size: int) -> Sequence[Tensor]:
    """Chunks of `size`; a last chunk of one joins the one before it, since batch norm cannot use it."""
    chunks = list(order.split(size))
    if len(chunks) > 1 and len(chunks[-1]) == 1:
        chunks[-2:] = [torch.cat(chunks[-2:])]
    return chunks


class _Stopper:
    """Early stopping: keeps the weights of the best epoch, the earliest on ties."""

    def __init__(self, patience: int) -> None:
        self.patience, self.best, self.waited = patience, -1.0, 0
        self.state: dict[str, Tensor] | None = None

    def stop(self, network: nn.Module, score: float) -> bool:
        if score > self.best:
            self.best, self.waited, self.state = score, 0, copy.deepcopy(network.state_dict())
        else:
            self.waited += 1
        return self.waited >= self.patience

    def restore(self, network: nn.Module) -> nn.Module:
        if self.state is not None:
            network.load_state_dict(self.state)
        return network


def _uf1(network: nn.Module, valid: Samples, recipe: Recipe, context: Context) -> float:
    if valid.y is None:
        raise UserError("want labelled validation samples, got none; give the fold a validation part")
    guess = predict(network, valid, recipe, context.device).argmax(1)
    return float(metrics.uf1(counting.confusion(valid.y, guess, valid.classes)))


def _optimiser(network: nn.Module, recipe: Recipe) -> torch.optim.Optimizer:
    parameters = [parameter for parameter in network.parameters() if parameter.requires_grad]
    if recipe.optimiser == "sgd":
        return torch.optim.SGD(parameters, lr=recipe.lr, momentum=0.9, weight_decay=recipe.weight_decay)
    kind = torch.optim.Adam if recipe.optimiser == "adam" else torch.optim.AdamW
    return kind(parameters, lr=recipe.lr, weight_decay=recipe.weight_decay, fused=True)


def _autocast(recipe: Recipe, device: str) -> AbstractContextManager[object]:
    return torch.autocast(torch.device(device).type, dtype=torch.bfloat16, enabled=recipe.amp == "bf16")


def _check_finite(loss: float, epoch: int) -> None:
    if not isfinite(loss):
        raise UserError(f"want a finite loss, got {loss} in epoch {epoch}; lower recipe.lr or look at the input")
