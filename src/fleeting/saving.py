"""A saved model is a folder: ``model.safetensors`` and ``model.toml``; nothing else is needed to use it."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import tomli_w
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn

from fleeting import config, files, plugins
from fleeting.errors import UserError


def write(folder: Path, network: nn.Module, header: Mapping[str, Any]) -> None:
    """Writes weights first, then the description: a folder with ``model.toml`` is whole.

    Args:
        folder: made if absent.
        network: on any device.
        header: must hold "experiment", "classes" and "shapes" (array name -> shape of a view).

    Raises:
        UserError: it cannot be written.
    """
    weights = {name: tensor.detach().cpu().contiguous() for name, tensor in network.state_dict().items()}
    with files.replacing(folder / "model.safetensors") as temporary:
        save_file(weights, temporary)
    files.write_text(folder / "model.toml", tomli_w.dumps(dict(header)))


def read(folder: Path) -> tuple[nn.Module, dict[str, Any]]:
    """The network, in evaluation mode on the CPU, and the description.

    Raises:
        UserError: not a model folder, or weights that do not fit the network.
    """
    try:
        header = tomllib.loads((folder / "model.toml").read_text(encoding="utf-8"))
        weights = load_file(folder / "model.safetensors")
        experiment, classes, shapes = (header[key] for key in ("experiment", "classes", "shapes"))
    except (OSError, KeyError, tomllib.TOMLDecodeError, SafetensorError) as error:
        raise UserError(f"{folder}: want a model folder, got {error}; give what fleeting train wrote") from error
    experiment = config.resolve(experiment, str(folder / "model.toml"))
    model = plugins.load("models", experiment.model.name)
    sizes = {name: tuple(shape) for name, shape in shapes.items()}
    options = config.options("models", experiment.model)
    if "weights" in type(options).model_fields:  # the folder holds what training made of them
        options = options.model_copy(update={"weights": "none"})
    network: nn.Module = model.build(sizes, len(classes), options)
    try:
        network.load_state_dict(weights)
    except RuntimeError as error:
        raise UserError(f"{folder}: want the weights of {experiment.model.name}, got others ({error})"[:300]) from error
    return network.eval(), header
