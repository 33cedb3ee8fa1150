"""The network of an experiment: built for what it sees, and fitted."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from fleeting import config, plugins, samples
from fleeting.config import Experiment
from fleeting.errors import UserError
from fleeting.records import Samples

if TYPE_CHECKING:
    from torch import nn


def built(experiment: Experiment, sizes: Mapping[str, tuple[int, ...]], count: int) -> nn.Module:
    """The network before training, for `count` classes and views of these sizes (`samples.shapes`).

    Raises:
        UserError: it cannot be built for these pictures, or its first weights cannot be had.
    """
    model, options = config.plugin("models", experiment.model)
    network: nn.Module = model.build(shapes(experiment, sizes), count, options)
    return network


def begins(experiment: Experiment, packed: Samples, count: int) -> tuple[str, ...]:
    """What the network begins with. What cannot be built ends here, before any work."""
    return tuple(getattr(built(experiment, samples.shapes(packed), count), "notices", ()))


def fitted(experiment: Experiment, packed: Samples, train: Samples, valid: Samples | None, context: Any) -> nn.Module:
    """The network after training, by the model's own `fit` or `training.fit`; see there.

    Args:
        experiment: resolved.
        packed: all samples.
        train, valid: those to learn from and to stop by.
        context: a `training.Context`; its seed is that of the first weights too.
    """
    import torch

    from fleeting import training

    torch.manual_seed(context.seed)
    network = built(experiment, samples.shapes(packed), train.classes)
    fit = getattr(plugins.load("models", experiment.model.name), "fit", training.fit)
    trained: nn.Module = fit(network, train, valid, config.recipe(experiment), context)
    return trained


def shapes(experiment: Experiment, sizes: Mapping[str, tuple[int, ...]]) -> dict[str, tuple[int, ...]]:
    """Of what the network sees: views of these sizes (`samples.shapes`) as the recipe crops them.

    Raises:
        UserError: they are smaller than that.
    """
    crop = config.recipe(experiment).crop
    small = [size for size in sizes.values() if crop and min(size[-2:]) < crop]
    if small:
        raise UserError(f"want pictures of at least {crop} px to crop, got {small[0]}; lower recipe.crop")
    return {name: (*size[:-2], crop, crop) if crop else tuple(size) for name, size in sizes.items()}


def check_device(experiment: Experiment) -> None:
    """Refuses a device that is not here.

    Raises:
        UserError: torch cannot use it.
    """
    import torch

    try:
        torch.zeros(1, device=experiment.device)
    except (RuntimeError, AssertionError) as error:
        why = str(error).partition("\n")[0]
        raise UserError(
            f"want a device that torch can use here, got {experiment.device!r} ({why}); set device = 'cpu'"
        ) from error
