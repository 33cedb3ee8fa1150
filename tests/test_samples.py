"""Packed views: what comes back, what is refused, and what is not there (labels)."""

import json
import pickle
import subprocess
import sys

import numpy as np
import pytest

from fleeting import samples
from fleeting.errors import UserError
from fleeting.records import View

CHANNELS = {"flow": ("u", "v"), "face": ("grey",)}
LABELS = {"d/s1/a": 2, "d/s1/b": 0, "d/s2/a": 1}


def view(value, name="apex", train_only=False):
    flow = np.full((2, 3, 4), value, np.float32)
    return View(name, {"flow": flow, "face": np.full((1, 5, 5), value, np.uint8)}, train_only)


VIEWS = {
    "d/s1/a": [view(1), view(2, "near", train_only=True)],
    "d/s1/b": [view(3)],
    "d/s2/a": [view(4), view(5, "near", train_only=True), view(6, "other")],
}


@pytest.fixture
def packed(tmp_path):
    return samples.pack(tmp_path / "packed", VIEWS, CHANNELS)


def values(selection):
    return selection.x["flow"][selection.rows, 0, 0, 0].tolist()


def test_what_comes_back(packed):
    assert len(packed) == 6
    assert packed.keys.tolist() == ["d/s1/a"] * 2 + ["d/s1/b"] + ["d/s2/a"] * 3
    assert packed.views.tolist() == ["apex", "near", "apex", "apex", "near", "other"]
    assert packed.channels == CHANNELS
    assert values(packed) == [1, 2, 3, 4, 5, 6]
    assert samples.shapes(packed) == {"flow": (2, 3, 4), "face": (1, 5, 5)}
    assert (packed.y, packed.classes) == (None, 0)


def test_arrays_keep_their_type_and_stay_on_disk(packed):
    assert (packed.x["flow"].dtype, packed.x["face"].dtype) == (np.float32, np.uint8)
    assert all(isinstance(array, np.memmap) for array in packed.x.values())
    with pytest.raises(ValueError, match="read-only"):
        packed.x["flow"][0] = 1


def test_without_the_views_that_are_for_training_only_labels_stay(packed):
    chosen = samples.tested(samples.training(packed, LABELS, 3))
    assert values(chosen) == [1, 3, 4, 6]
    assert chosen.y.tolist() == [2, 0, 1, 1]
    assert chosen.classes == 3


def test_every_array_is_its_view_bit_by_bit(tmp_path):
    rng = np.random.default_rng(0)
    views = {f"d/s/{i}": [View("v", {"flow": rng.normal(size=(2, 3, 4)).transpose(0, 2, 1)})] for i in range(5)}
    found = samples.pack(tmp_path, views, {"flow": ("u", "v")}).x["flow"]
    for array, (only,) in zip(found, views.values(), strict=True):
        assert np.array_equal(array, only.x["flow"])


def test_a_pickle_is_a_folder_and_rows(tmp_path):
    large = {f"d/s{i}/a": [View("v", {"flow": np.full((2, 64, 64), i, np.float32)})] for i in range(20)}
    packed = samples.pack(tmp_path, large, {"flow": ("u", "v")})
    chosen = samples.training(packed, {"d/s3/a": 1, "d/s7/a": 0}, 2)
    data = pickle.dumps(chosen)
    assert len(data) < 2_000
    again = pickle.loads(data)
    assert values(again) == values(chosen) == [3, 7]
    assert again.y.tolist() == [1, 0]
    assert (again.classes, again.channels) == (2, chosen.channels)
    assert isinstance(again.x["flow"], np.memmap)


def test_another_process_reads_the_same(packed, tmp_path):
    (tmp_path / "p").write_bytes(pickle.dumps(samples.training(packed, LABELS, 3)))
    code = (
        "import pickle, sys; s = pickle.load(open(sys.argv[1], 'rb')); print(s.x['flow'][s.rows].sum(), s.y.tolist())"
    )
    done = subprocess.run([sys.executable, "-c", code, tmp_path / "p"], capture_output=True, text=True, check=True)
    assert done.stdout.split(maxsplit=1) == ["504.0", "[2, 2, 0, 1, 1, 1]\n"]


def test_no_label_is_on_disk(packed):
    before = {path.name: path.read_bytes() for path in packed.folder.iterdir()}
    samples.training(packed, LABELS, 3)
    assert {path.name: path.read_bytes() for path in packed.folder.iterdir()} == before
    assert set(before) == {"flow.npy", "face.npy", "index.json"}
    assert set(json.loads(before["index.json"])) == {"keys", "views", "train_only", "channels", "sha256"}


# --- selections


def test_training_takes_every_view_with_its_class(packed):
    train = samples.training(packed, {"d/s2/a": 1, "d/s1/a": 2}, 3)
    assert values(train) == [1, 2, 4, 5, 6]
    assert train.y.tolist() == [2, 2, 1, 1, 1]
    assert (train.y.dtype, train.classes, len(train)) == (np.int64, 3, 5)


def test_testing_takes_no_training_view_and_no_class(packed):
    test = samples.testing(packed, ["d/s2/a", "d/s1/a"])
    assert values(test) == [1, 4, 6]
    assert (test.y, test.classes) == (None, 0)
    assert samples.testing(samples.training(packed, LABELS, 3), ["d/s1/b"]).y is None


def test_an_empty_test_part(packed):
    assert len(samples.testing(packed, [])) == 0


def test_a_clip_without_a_view(packed, tmp_path):
    for choose in (lambda: samples.testing(packed, ["d/s9/a"]), lambda: samples.training(packed, {"d/s9/a": 0}, 3)):
        with pytest.raises(UserError, match=r"got none of d/s9/a \(1 such\)"):
            choose()
    only = samples.pack(tmp_path / "only", {"d/s1/a": [view(1)], "d/s1/b": [view(2, train_only=True)]}, CHANNELS)
    assert len(samples.training(only, {"d/s1/b": 0}, 3)) == 1
    with pytest.raises(UserError, match="got none of d/s1/b"):
        samples.testing(only, ["d/s1/a", "d/s1/b"])


def test_take_is_by_position_in_the_selection(packed):
    train = samples.training(packed, {"d/s2/a": 1, "d/s1/b": 0}, 3)
    part = samples.take(train, np.array([3, 0]))
    assert values(part) == [6, 3]
    assert part.y.tolist() == [1, 0]
    assert values(samples.take(samples.testing(packed, LABELS), np.array([1]))) == [3]


def test_a_selection_of_a_selection(packed):
    test = samples.testing(packed, ["d/s1/a"])
    with pytest.raises(UserError, match="got none of d/s1/b"):
        samples.training(test, {"d/s1/b": 0}, 3)


# --- what is refused


def wrong(name, array):
    x = dict(view(1).x)
    if array is None:
        del x[name]
    else:
        x[name] = array
    return View("apex", x)


@pytest.mark.parametrize(
    ("name", "array", "message"),
    [
        ("flow", np.zeros((2, 3, 5), np.float32), r"want flow of shape \(2, 3, 4\) \(float32\) .* got \(2, 3, 5\)"),
        ("flow", np.zeros((2, 3, 4)), r"want .* got \(2, 3, 4\) \(float64\)"),
        ("face", np.zeros((1, 5, 5), np.float32), r"want face of shape \(1, 5, 5\) \(uint8\)"),
        ("flow", np.full((2, 3, 4), np.nan, np.float32), "want finite flow, got NaN"),
        ("flow", np.full((2, 3, 4), -np.inf, np.float32), "want finite flow"),
        ("face", None, r"want the array 'face' that the input promises, got \['flow'\]"),
        ("flow", np.full((2, 3, 4), None), "want numbers in flow, got object"),
    ],
)
def test_a_wrong_view_is_named(tmp_path, name, array, message):
    views = {**VIEWS, "d/s3/bad": [wrong(name, array)], "d/s3/late": [view(1)]}
    with pytest.raises(UserError, match=f"^d/s3/bad: {message}"):
        samples.pack(tmp_path, views, CHANNELS)
    assert not (tmp_path / "index.json").exists()
    assert not list(tmp_path.glob(".*"))


def test_the_first_view_is_checked_too(tmp_path):
    with pytest.raises(UserError, match=r"^d/s3/bad: want the array 'flow'"):
        samples.pack(tmp_path, {"d/s3/bad": [wrong("flow", None)]}, CHANNELS)


def test_no_view_at_all(tmp_path):
    for views in ({}, {"d/s/a": []}):
        with pytest.raises(UserError, match="want at least one view"):
            samples.pack(tmp_path, views, CHANNELS)


def test_an_unfinished_folder(packed):
    (packed.folder / "index.json").unlink()
    with pytest.raises(UserError, match=r"want packed samples, got .*; run again"):
        samples.read(packed.folder)


def test_a_truncated_array(packed):
    path = packed.folder / "flow.npy"
    path.write_bytes(path.read_bytes()[:-8])
    with pytest.raises(UserError, match="want packed samples"):
        samples.read(packed.folder)
