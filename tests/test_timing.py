"""Timing: networks in turns, resolutions side by side, without a corpus."""

import io
import json
import os
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rich.console
import torch

from fleeting import describe, plugins, timing
from fleeting.errors import UserError


def written(folder: Path, name: str, model: str = "ststnet", more: str = "") -> Path:
    path = folder / f"{name}.toml"
    path.write_text(f'name = "{name}"\n[model]\nname = "{model}"\n{more}', encoding="utf-8")
    return path


def test_every_network_takes_as_many_turns_and_says_what_it_is(tmp_path: Path) -> None:
    paths = [written(tmp_path, "small"), written(tmp_path, "other", more="[recipe]\nbatch = 8\n")]
    threads, cache = torch.get_num_threads(), os.environ["FLEETING_CACHE"]
    found = timing.run(paths, timing.Asked(rounds=4, threads=1))
    assert json.loads(json.dumps(found)) == found
    assert (found["threads"], found["rounds"]) == (1, 4)
    assert [row["name"] for row in found["rows"]] == ["small", "other"]
    for row in found["rows"]:
        assert row["input"] == {"flow": [3, 28, 28]}
        assert row["parameters"] == plugins.load("models", "ststnet").PAPER.parameters
        assert row["quartiles_ms"][0] <= row["ms_view"] <= row["quartiles_ms"][1]
        assert 0 < row["fastest_ms"] <= row["ms_view"]
        assert row["ms_clip"] == pytest.approx(row["ms_view"] * row["views"])
        assert row["views_a_second"] == pytest.approx(1000 / row["ms_view"])
        assert row["before_ms"] > row["ms_view"]
    assert (torch.get_num_threads(), os.environ["FLEETING_CACHE"]) == (threads, cache)
    assert not Path(cache).exists()  # nothing of the drawn clip stays
    assert describe.timing_table(found).row_count == 2
    screen = io.StringIO()
    rich.console.Console(file=screen, width=80).print(describe.timing_table(found))
    assert all(row["name"] in screen.getvalue() for row in found["rows"])  # nothing pushes the names out of sight


@pytest.mark.parametrize(("value", "words"), [(8322.9, "8323"), (106.7, "107"), (12.34, "12.3"), (0.0523, "0.0523")])
def test_milliseconds_have_three_digits(value: float, words: str) -> None:
    assert describe._ms(value) == words


def test_a_slow_network_is_told_from_a_fast_one_whoever_comes_first() -> None:
    seen: list[str] = []

    def waiting(name: str, seconds: float) -> timing._Entry:
        def decide(view: int) -> None:
            seen.append(name)
            time.sleep(seconds)

        return timing._Entry({"name": name}, decide, 2, [])

    entries = [waiting("slow", 0.02), waiting("fast", 0.002)]
    timing._take_turns(entries, 8, lambda *_: None)
    slow, fast = (timing._row(entry) for entry in entries)
    assert 20 <= slow["ms_view"] < 60
    assert slow["ms_view"] > 3 * fast["ms_view"]
    assert [len(entry.taken_s) for entry in entries] == [8, 8]  # warming up does not count
    assert set(zip(seen[::2], seen[1::2], strict=True)) == {("slow", "fast"), ("fast", "slow")}  # in turns, mixed


def test_each_change_is_a_row_of_its_own(tmp_path: Path) -> None:
    path = written(tmp_path, "frames", more='[input]\nname = "uvs28"\n')
    rows = timing.run([path], timing.Asked(each=("threads=1", "recipe.batch=8"), rounds=1, threads=1))["rows"]
    assert [row["change"] for row in rows] == ["threads=1", "recipe.batch=8"]


def test_pictures_become_what_a_network_sees_in_prediction() -> None:
    picture = np.full((3, 8, 8), 255, np.uint8)
    assert timing._tensor(picture, None).shape == (1, 3, 8, 8)
    assert timing._tensor(picture, 4).shape == (1, 3, 4, 4)
    assert float(timing._tensor(picture, 4).max()) == 1.0
    assert float(timing._tensor(picture.astype(np.float32), None).max()) == 255.0


FRAMES = """
[align]
name = "centre"
size = 64
[input]
name = "frames"
sampling = "AF"
size = 40
[model]
patch = "auto"
dim = 8
depth = 1
head_width = 8
"""


def test_a_network_is_built_for_what_the_recipe_crops(tmp_path: Path) -> None:
    def row(crop: int) -> dict[str, Any]:
        path = tmp_path / "vit.toml"
        path.write_text(f'name = "vit"{FRAMES}name = "vit"\n[recipe]\ncrop = {crop}\n', encoding="utf-8")
        found: dict[str, Any] = timing.run([path], timing.Asked(rounds=1, threads=1))["rows"][0]
        return found

    cropped, whole = row(24), row(0)
    assert (cropped["input"], whole["input"]) == ({"frame": [3, 24, 24]}, {"frame": [3, 40, 40]})
    # 8 x 8 patches of 5 and of 3 px
    assert whole["parameters"] - cropped["parameters"] == 8 * 3 * (25 - 9)


def test_a_machine_without_the_device_and_a_model_without_a_network_are_one_line(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="want a device that torch can use here"):
        timing.run([written(tmp_path, "a")], timing.Asked(devices=("nowhere",), rounds=1))
    with pytest.raises(UserError, match=r"got 'meta'.*cpu, cuda, mps alone"):
        timing.run([written(tmp_path, "a")], timing.Asked(devices=("meta",), rounds=1))
    with pytest.raises(UserError, match="got 'cuda:99'"):
        timing.run([written(tmp_path, "a")], timing.Asked(devices=("cuda:99",), rounds=1))
    with pytest.raises(UserError, match="which its training makes"):
        timing.run([written(tmp_path, "b", "flow_svm")], timing.Asked(rounds=1))
    with pytest.raises(UserError, match="at least one round"):
        timing.run([], timing.Asked())


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")
def test_processor_and_gpu_stand_side_by_side(tmp_path: Path) -> None:
    rows = timing.run([written(tmp_path, "a")], timing.Asked(devices=("cpu", "cuda"), rounds=3))["rows"]
    assert [row["device"].split(" ")[0] for row in rows] == ["cpu", "cuda"]
