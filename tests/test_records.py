"""Records refuse what cannot be true."""

import dataclasses
import pickle
from pathlib import Path

import numpy as np
import pytest

from fleeting import records
from fleeting.errors import UserError, nearest
from fleeting.records import Clip, FlowField, FlowFile, Fold, FoldResult, FoldTask, Moment, Track

FLOW = FlowFile(Path("a.png"), (0, 1), ("strain", "v", "u"))
FRAMES = tuple(Path(f"{index}.jpg") for index in range(10))


def clip(**changes):
    return Clip(**{"dataset": "casme2", "subject": "sub01", "name": "EP02_01f", "frames": FRAMES, **changes})


def test_key_and_group():
    assert clip().key == "casme2/sub01/EP02_01f"
    assert clip().group == "casme2/sub01"


@pytest.mark.parametrize("changes", [{"name": ""}, {"name": "a/b"}, {"subject": "a~b"}, {"dataset": "/"}])
def test_a_name_that_would_break_a_key_or_a_file_name(changes):
    with pytest.raises(UserError, match="want names that are not empty"):
        clip(**changes)


@pytest.mark.parametrize(
    "indices", [(4, 2, 8), (0, 5, 4), (-1, 2, 3), (0, 5, 10), (None, 7, 6), (3, None, 2), (None, None, 10)]
)
def test_indices_out_of_order(indices):
    with pytest.raises(UserError, match=r"casme2/sub01/EP02_01f: want 0 <= onset <= apex <= offset < 10 frames, got"):
        clip(**dict(zip(("onset", "apex", "offset"), indices, strict=True)))


@pytest.mark.parametrize("indices", [(0, 0, 0), (0, 9, 9), (None, None, None), (2, None, 2), (None, 9, None)])
def test_indices_in_order(indices):
    made = clip(**dict(zip(("onset", "apex", "offset"), indices, strict=True)))
    assert (made.onset, made.apex, made.offset) == indices


def test_a_video_has_no_known_end():
    assert clip(frames=Path("a.mp4"), onset=0, apex=1, offset=10**6).offset == 10**6


def test_a_clip_needs_something_to_look_at():
    with pytest.raises(UserError, match="want frames or published flow, got neither"):
        clip(frames=None)
    assert clip(frames=None, flow_files=(FLOW,)).flow_files == (FLOW,)


@pytest.mark.parametrize("channels", [("u", "v", "v"), ("u", "v", "magnitude"), ("u", "v")])
def test_flow_file_channels(channels):
    with pytest.raises(UserError, match=r"a\.png: want channels u, v and strain once each"):
        FlowFile(Path("a.png"), (0, 1), channels)


def test_moment_order():
    assert Moment(3, None, 3).apex is None
    with pytest.raises(UserError, match="got 5, 4, 9"):
        Moment(5, 4, 9)


@pytest.mark.parametrize(("landmarks", "state"), [((4, 68, 3), 4), ((4, 68, 2), 5), ((68, 2), 68)])
def test_track_shapes(landmarks, state):
    with pytest.raises(ValueError, match="want landmarks"):
        Track(np.zeros(landmarks, np.float32), np.zeros(state, np.int8))


def test_flow_field():
    uv = np.zeros((2, 3, 4), np.float32)
    assert FlowField(uv, "px").strain is None
    for wrong in (uv.astype(np.float64), uv[:1], uv[0]):
        with pytest.raises(ValueError, match="want float32 flow"):
            FlowField(wrong, "px")
    uv[1, 2, 3] = np.inf
    with pytest.raises(UserError, match="want finite flow"):
        FlowField(uv, "px")


def test_a_fold_has_two_sides():
    fold = Fold("f", train=("a", "b"), test={"A": ("c",), "B": ("d", "e")}, valid=("x",))
    assert fold.tested == ("c", "d", "e")
    for wrong in ({"train": ("c",)}, {"valid": ("d",)}, {"valid": ("a",)}, {"test": {"A": ("c",), "B": ("c",)}}):
        with pytest.raises(UserError, match=r"fold f: want every clip on one side, got . twice"):
            dataclasses.replace(fold, **wrong)


def test_task_names_are_file_names():
    task = FoldTask("casme2/sub01", 3, None, {}, {}, ())
    assert task.name == "casme2~sub01@3"
    assert dataclasses.replace(task, inner=0).name == "casme2~sub01@3.inner0"


def test_fold_result():
    probs = np.full((2, 3, 3), 1 / 3, np.float32)
    keys = np.array(["a", "b", "c"])
    assert FoldResult("t", keys, keys, probs, {}, 0.1).probs.shape == (2, 3, 3)
    with pytest.raises(ValueError, match=r"want probs \(E, 2, C\)"):
        FoldResult("t", keys[:2], keys[:2], probs, {}, 0.1)
    probs[1, 1] = np.nan
    with pytest.raises(UserError, match="t: want finite probabilities"):
        FoldResult("t", keys, keys, probs, {}, 0.1)


@pytest.mark.parametrize("made", [clip(), FLOW, Moment(0, 1, 2), Fold("f", ("a",), {"all": ("b",)})])
def test_records_are_frozen_and_can_be_sent(made):
    assert pickle.loads(pickle.dumps(made)) == made
    with pytest.raises(dataclasses.FrozenInstanceError):
        setattr(made, dataclasses.fields(made)[0].name, "other")


def test_unique():
    assert records.unique(iter(["b", "a"])) == ("b", "a")
    with pytest.raises(UserError, match="got a twice"):
        records.unique(["a", "b", "a"])


def test_all_is_true():
    assert all(hasattr(records, name) for name in records.__all__)
    assert list(records.__all__) == sorted(records.__all__)


def test_nearest():
    assert nearest("ststnt", ["htnet", "ststnet"]) == "; did you mean 'ststnet'?"
    assert nearest("zzz", ["htnet", "ststnet"]) == "; known: htnet, ststnet"
    assert nearest("zzz", []) == ""
