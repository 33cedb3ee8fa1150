"""BOWAM's experiment files: each builds its network and takes a picture, and a row differs in what its table says."""

from pathlib import Path

import pytest
import torch

from fleeting import config, plugins
from fleeting.inputs import uvs28

FOLDER = Path(__file__).parents[1] / "experiments" / "bowam"
EVERY = sorted(FOLDER.glob("*.toml"))
ROWS = [path for path in EVERY if path.stem.startswith(("table4_", "table5", "table6", "table7", "table8", "table9",
                                                        "table10"))]  # fmt: skip


@pytest.mark.parametrize("path", EVERY, ids=lambda path: path.stem)
def test_every_experiment_builds_its_network(path):
    """At its own size, without memory: the shapes of a whole forward pass fit. Weights are at random."""
    experiment = config.read(path, ["model.weights=none"] if "code" in path.stem else [])
    model = plugins.load("models", experiment.model.name)
    if hasattr(model, "fit"):
        recipe = config.recipe(experiment)  # a machine: one epoch, nothing to crop or turn
        assert (recipe.epochs, recipe.crop, recipe.flip, recipe.rotate_deg) == (1, None, False, 0)
        return
    input_ = plugins.load("inputs", experiment.input.name)
    options = config.options("inputs", experiment.input)
    (names,) = input_.channels(options).values()
    whole = getattr(options, "size", uvs28.SIDE)
    side = config.recipe(experiment).crop or whole
    assert side <= whole
    protocol = plugins.load("protocols", experiment.protocol.name)
    words = protocol.classes(config.options("protocols", experiment.protocol))
    with torch.device("meta"):
        shape = (len(names), side, side)
        network = model.build({"flow": shape}, len(words), config.options("models", experiment.model)).eval()
        assert network(torch.zeros(2, *shape)).shape == (2, len(words))


@pytest.mark.parametrize("path", EVERY, ids=lambda path: path.stem)
def test_what_is_augmented_may_be(path):
    """A file that flips or turns has an input that can be."""
    from fleeting import augment

    experiment = config.read(path)
    input_, recipe = plugins.load("inputs", experiment.input.name), config.recipe(experiment)
    options = config.options("inputs", experiment.input)
    (names,) = input_.channels(options).values()
    x = torch.rand(2, len(names), 8, 8)
    if recipe.flip:
        assert getattr(input_, "mirrors", lambda options: True)(options)
        augment.mirror(x, names, torch.ones(2, dtype=torch.bool))
    if recipe.rotate_deg:
        augment.rotate(x, names, torch.ones(2))
    assert recipe.balance != "views" or options.near


@pytest.mark.parametrize("path", ROWS, ids=lambda path: path.stem)
def test_a_row_differs_in_what_its_table_says(path):
    small = path.stem.endswith("_small")
    if path.stem == "table4_small":
        return
    base = config.plain(config.read(FOLDER / ("table4_small.toml" if small else "table1.toml")))
    row = config.plain(config.read(path))
    table = path.stem.partition("_")[0]
    changed = {name for part in ("model", "input") for name in row[part] if row[part][name] != base[part][name]}
    wanted = {
        "table4": {"transform", "spatial", "channel", "fusion"}, "table5": {"fusion"}, "table6": {"mlp"},
        "table7": {"wavelet"}, "table8": {"ratio"}, "table9": {"spatial_kernel"}, "table10": {"stages"},
    }[table]  # fmt: skip
    assert changed
    assert changed <= wanted
    same = {**row, "model": 0, "input": 0, "name": 0}
    assert same == {**base, "model": 0, "input": 0, "name": 0}


def test_the_machines_see_the_clips_and_folds_of_the_networks():
    base = config.plain(config.read(FOLDER / "table4_small.toml"))
    for name in ("biwoof", "mdmo"):
        row = config.plain(config.read(FOLDER / f"table11_{name}_svm_small.toml"))
        other = {"model": 0, "input": 0, "recipe": 0, "name": 0}
        assert {**row, **other} == {**base, **other}


def test_every_row_of_paper_size_has_one_in_small():
    rows = {path.stem for path in EVERY if path.stem.startswith(("table4_", "table5", "table6", "table7", "table8",
                                                                 "table9", "table10", "table11"))}  # fmt: skip
    large = {name for name in rows if not name.endswith("_small")}
    assert {f"{name}_small" for name in large} == rows - large - {"table4_small"}
    assert len(large) == 25
