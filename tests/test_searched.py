"""The report's section about searches: from made-up logs whose answer is known, and from a run that searched."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast
from xml.etree import ElementTree

import numpy as np
import pytest

from fleeting import config, experiment, runs
from fleeting.datasets import megc2019_flow
from fleeting.report import readings
from fleeting.report.blocks import Heading, Table
from fleeting.report.drawing import Figure
from fleeting.report.readings import Reading
from fleeting.report.searched import search, searched

MODEL: dict[str, Any] = {"name": "ammsm", "depths": [2, 4], "ratios": [0.1, 0.2, 0.5, 0.8], "factors": [1.0, 4.0]}


@dataclass
class MadeUp:
    """What the section reads of a `Reading`."""

    label: str
    logs: list[Mapping[str, Any]]
    model: Mapping[str, Any]

    @property
    def run(self) -> Any:
        return self

    @property
    def traces(self) -> dict[tuple[int, str], runs.Trace]:
        return {
            (0, str(place)): runs.Trace(np.array(["k"]), np.ones((1, 1, 2)), cast(Any, log), 1.0)
            for place, log in enumerate(self.logs)
        }

    @property
    def experiment(self) -> dict[str, Any]:
        return {"model": dict(self.model)}


def made_up(logs: list[Mapping[str, Any]], label: str = "made-up", **model: Any) -> Reading:
    return cast(Reading, MadeUp(label, logs, {**MODEL, **model}))


def log_of(chosen: tuple[float, ...], factor: float, losses: Mapping[str, list[float]], **changes: Any) -> Any:
    """Trials at random ratios and factors; what they are matters to nobody, what they cost does."""
    rng, trials = np.random.default_rng(len(losses)), len(losses["search"])
    log: dict[str, Any] = {"loss": np.linspace(1, 0.5, 5), "sparsity": np.array(chosen), "factor": np.array([factor])}
    for name, values in losses.items():
        log[f"{name}_loss"] = np.array(values)
        log[f"{name}_factor"] = rng.uniform(1, 4, trials)
        log[f"{name}_sparsity"] = rng.choice([0.1, 0.2, 0.5, 0.8], trials * len(chosen))
    return {**log, **changes}


LOSSES = {"search": [0.9, 0.7, 0.8, 0.4], "random": [0.6, 0.8, 0.7, 0.9]}
LOGS = [
    log_of((0.8, 0.1, 0.5), 3.5, LOSSES),
    log_of((0.8, 0.2, 0.5), 2.5, LOSSES),
    log_of((0.8, 0.1, 0.1), 3.0, {"search": [0.9, 0.9, 0.9, 0.8], "random": [1.0, 0.7, 1.0, 1.0]}),
    log_of((0.5, 0.1, 0.5), 1.0, {"search": [1.0, 0.6, 0.6, 0.6], "random": [1.0, 1.0, 0.9, 0.8]}),
]


def figure_of(reading: Reading) -> Figure:
    (found,) = (block for block in searched([reading]) if isinstance(block, Figure))
    return found


def cells(reading: Reading) -> dict[str, str]:
    table = searched([reading])[-1]
    assert isinstance(table, Table)
    return dict(zip(table.head, (cell.text for cell in table.rows[0]), strict=True))


def test_runs_that_did_not_search_have_no_section() -> None:
    plain = [{"loss": np.ones(3)}, {"loss": np.ones(3), "search_loss": np.ones(2)}]
    assert search(made_up(plain)) is None
    assert searched([made_up(plain), made_up([])]) == []


def test_the_table_says_what_was_found() -> None:
    found = cells(made_up(LOGS))
    assert (found["tasks"], found["trials of each"]) == ("4", "4")
    assert found["evolution ends at"] == "0.550"  # .4, .4, .8, .6
    assert found["random search ends at"] == "0.675"  # .6, .6, .7, .8
    assert found["a random trial"] == f"{np.mean([log['random_loss'] for log in LOGS]):.3f}"
    assert found["evolution is lower in"] == "75%"
    assert found["factor"] == "2.50"


def test_discs_are_as_large_as_the_share_of_tasks() -> None:
    drawn = figure_of(made_up(LOGS)).wide
    radii = {}
    for radius, title in re.findall(r'r="([\d.]+)" class="mark"><title>([^<]+)', drawn):
        radii[title] = float(radius)
    assert set(radii) == {
        "1.1: 0.8 in 3 of 4 tasks", "1.1: 0.5 in 1 of 4 tasks", "2.1: 0.1 in 3 of 4 tasks", "2.1: 0.2 in 1 of 4 tasks",
        "2.2: 0.5 in 3 of 4 tasks", "2.2: 0.1 in 1 of 4 tasks",
    }  # fmt: skip
    three, one = radii["1.1: 0.8 in 3 of 4 tasks"], radii["1.1: 0.5 in 1 of 4 tasks"]
    assert three**2 / one**2 == pytest.approx(3, rel=0.03)


def test_every_factor_is_a_dot_at_its_height() -> None:
    dots = re.findall(r'cy="([\d.]+)" r="3.0" class="f1"><title>([\d.]+)', figure_of(made_up(LOGS)).wide)
    assert [factor for _, factor in dots] == ["3.50", "2.50", "3.00", "1.00"]
    heights = np.array([float(y) for y, _ in dots])
    assert np.polyfit([float(factor) for _, factor in dots], heights, 1)[0] < 0  # more is higher
    assert np.argsort(heights).tolist() == [0, 2, 1, 3]


def test_the_trace_falls_to_the_least_so_far() -> None:
    one = search(made_up(LOGS))
    assert one is not None
    drawn = figure_of(made_up(LOGS))
    assert "evolution 0.550, random search 0.675" in drawn.alt
    assert "ratio 1.1 0.73, ratio 2.1 0.12, ratio 2.2 0.40, factor 2.50" in drawn.alt
    for path in re.findall(r'd="M([^"]+)" class="curve', drawn.wide):
        heights = [float(point.split()[1]) for point in path.split("L")]
        assert heights == sorted(heights)  # further down
        assert len(heights) == 4


@pytest.mark.parametrize(
    ("log", "ratios", "factors"),
    [
        (log_of((0.0, 0.0, 0.0), 3.0, LOSSES, search_sparsity=np.zeros(12), random_sparsity=np.zeros(12)), 0, 1),
        (log_of((0.5, 0.1, 0.2), 2.5, LOSSES, search_factor=np.full(4, 2.5), random_factor=np.full(4, 2.5)), 3, 0),
    ],
)
def test_what_was_not_searched_is_not_drawn(log: Any, ratios: int, factors: int) -> None:
    one = search(made_up([log]))
    assert one is not None
    assert (one.ratios.shape[1], len(one.factors)) == (ratios, factors)
    drawn = figure_of(made_up([log]))
    assert ("sparsity ratio" in drawn.wide) == bool(ratios)
    assert ('class="f1"' in drawn.wide) == bool(factors)
    assert cells(made_up([log]))["factor"] == ("3.00" if factors else "–")


def test_pairs_are_named_by_stage_where_the_depths_are_known() -> None:
    assert search(made_up(LOGS)).pairs == ["1.1", "2.1", "2.2"]  # type: ignore[union-attr]
    assert search(made_up(LOGS, depths=[7])).pairs == ["1", "2", "3"]  # type: ignore[union-attr]


def test_each_of_several_runs_has_its_figure() -> None:
    blocks = searched([made_up(LOGS, "one"), made_up([{}], "none"), made_up(LOGS[:2], "two")])
    assert [block.title for block in blocks if isinstance(block, Heading)] == ["What the search chose", "one", "two"]
    assert [block.name for block in blocks if isinstance(block, Figure)] == ["searched-1", "searched-2"]
    table = blocks[-1]
    assert isinstance(table, Table)
    assert [row[0].text for row in table.rows] == ["one", "two"]


@pytest.mark.parametrize("count", [1, 2, 70])
def test_drawings_are_whole_and_stay_on_the_sheet(count: int) -> None:
    rng = np.random.default_rng(0)
    logs = [log_of(tuple(rng.choice([0.1, 0.2, 0.5, 0.8], 9)), float(rng.uniform(1, 4)), LOSSES) for _ in range(count)]
    drawn = figure_of(made_up(logs, depths=[2, 4, 8, 4]))
    for svg in (drawn.wide, drawn.narrow):
        element = ElementTree.fromstring(svg)
        _, _, width, height = map(float, element.attrib["viewBox"].split())
        for part in element.iter():
            for name, most in (
                ("x", width),
                ("x1", width),
                ("x2", width),
                ("cx", width),
                ("y", height),
                ("cy", height),
            ):
                if name in part.attrib:
                    assert -1 <= float(part.attrib[name]) <= most + 1, (part.tag, part.attrib)


def test_trials_without_any_difference_are_drawn_too() -> None:
    flat = {"search": [0.5] * 4, "random": [0.5] * 4}
    assert "nan" not in figure_of(made_up([log_of((0.1, 0.1, 0.1), 2.0, flat)])).wide


def test_a_run_that_searched_has_it_in_its_logs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLEETING_CACHE", str(tmp_path / "cache"))
    megc2019_flow.write_standin(tmp_path / "flow", subjects=3, clips=3)
    tables = {
        "model": {"name": "ammsm", "dim": 4, "depths": [1, 1], "attention": [0, 1], "head_width": 4, "state": 4,
                  "mlp": 1, "stem_stride": 4, "spatial": "none", "magnifier_width": 2, "magnifier_levels": 1,
                  "flow": "minmax255", "population": 2, "generations": 2},
        "input": {"name": "uvs28"}, "recipe": {"epochs": 2, "batch": 8},
    }  # fmt: skip
    run = experiment.run(config.resolve(tables), tmp_path / "run", roots={"megc2019_flow": tmp_path / "flow"})
    (reading,) = readings.read([run.folder])
    one = search(reading)
    assert one is not None
    assert one.losses["search"].shape == (len(run.traces), 4)
    assert one.pairs == ["1.1", "2.1"]
    assert one.steps == [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8]
    assert one.span == (1.0, 4.0)
    assert one.ratios.shape == (len(run.traces), 2)
    assert set(one.ratios.ravel().tolist()) <= set(one.steps)
    heading, figure, table = searched([reading])
    assert isinstance(heading, Heading)
    assert isinstance(figure, Figure)
    assert isinstance(table, Table)
