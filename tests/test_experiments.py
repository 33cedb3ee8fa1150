"""The experiment files: each goes from the stand-ins of its corpora to a report, with a small network for one epoch.

Files that differ in nothing but the options of the network or the recipe share the way; one of them walks it. That
every file's own network builds and takes a whole picture is tested beside the models.
"""

import json
from pathlib import Path
from typing import Any

import pytest

from fleeting import config, experiment, plugins, predictions
from fleeting.datasets import megc2019_flow

FOLDER = Path(__file__).parents[1] / "experiments"
EVERY = sorted(FOLDER.glob("*/*.toml"))
WAY = ("datasets", "protocol", "spotting", "face", "align", "apex", "flow", "input")


def way(path: Path) -> str:
    """What a clip goes through on its way to the network, and which network it is."""
    tables = config.plain(config.read(path))
    return json.dumps([[tables.get(name) for name in WAY], tables["model"]["name"]], sort_keys=True)


def one_a_way() -> list[Path]:
    """Of the frame study, whose files cross all with all, as many as walk each stretch of the ways once."""
    first: dict[str, Path] = {}
    stretches: set[str] = set()
    for path in EVERY:
        if path.parent.name != "frame_study":
            first.setdefault(way(path), path)
            continue
        tables = config.plain(config.read(path))
        for name in ("align", "input"):
            tables[name].pop("size", None)  # made small below
        new = {json.dumps([name, tables.get(name)], sort_keys=True) for name in WAY} | {tables["model"]["name"]}
        if new - stretches:
            stretches |= new
            first[str(path)] = path
    return sorted(first.values())


def small(path: Path) -> config.Experiment:
    """The experiment with the model's small size, but for what the file says about anything else; one epoch."""
    chosen = config.read(path)
    tables = config.plain(chosen)
    model = plugins.load("models", chosen.model.name)
    full, sizes = model.Options(), model.SMALL
    shrunk = {name for name in type(sizes).model_fields if getattr(sizes, name) != getattr(full, name)}
    tables["model"].update({name: value for name, value in sizes.model_dump().items() if name in shrunk})
    tables["recipe"].update(epochs=1, batch=8, warmup_epochs=0, cooldown_epochs=0)
    if "weights" in tables["model"]:  # nothing is downloaded here
        tables["model"]["weights"] = "none"
    if tables["input"]["name"] == "frames":
        tables["input"]["size"] = min(tables["input"]["size"] or 32, 32)
    if tables["protocol"].get("subject_overlap"):  # a stand-in has too few clips of a class to deal them out
        tables["protocol"]["subject_overlap"] = False
    if tables["protocol"].get("groups"):  # a stand-in has three subjects
        tables["protocol"]["groups"] = 3
    tables.update(seeds=tables["seeds"][:1], inner=0)
    return config.resolve(tables)


@pytest.fixture(scope="module")
def roots(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Stand-ins of every corpus. Not to be changed by a test."""
    base = tmp_path_factory.mktemp("corpora")
    for name in plugins.names("datasets"):
        if name == "megc2019_flow":
            megc2019_flow.write_standin(base / name, subjects=3, clips=3)  # ammsm holds one of two back
        else:
            plugins.load("datasets", name).write_standin(base / name)
    return {folder.name: folder for folder in base.iterdir()}


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Flow that one experiment computed serves the next, as at home."""
    return tmp_path_factory.mktemp("cache")


@pytest.mark.parametrize("path", one_a_way(), ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_from_the_corpora_to_the_decisions(path, roots, cache, tmp_path, monkeypatch):
    monkeypatch.setenv("FLEETING_CACHE", str(cache))
    chosen = small(path)
    run = experiment.run(chosen, tmp_path / "run", roots={name: roots[name] for name in chosen.datasets})
    assert not run.failed()
    table = predictions.table(run, "last")
    assert len(table)
    protocol = plugins.load("protocols", chosen.protocol.name)
    words = protocol.classes(config.options("protocols", chosen.protocol))
    probabilities = table[[f"p_{word}" for word in words]].to_numpy()
    assert probabilities.sum(1) == pytest.approx(1, abs=1e-5)
    # a network that gave every clip the same answer would have lost the picture on the way
    assert len(table) == 1 or probabilities.std(0).max() > 0
