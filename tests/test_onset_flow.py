"""AMMSM's input: the onset picture and the flow, each at its size."""

from pathlib import Path

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from fleeting import augment
from fleeting.errors import UserError
from fleeting.inputs import onset_flow
from fleeting.inputs.onset_flow import Options
from fleeting.records import Clip, FaceClip, FlowField, FlowFile, Moment

PAIR = (3, 7)


def face(side=256, moment=Moment(3, 7, 9)):
    """Frame i is red i, and has noise in green and blue."""
    frames = np.random.default_rng(0).integers(0, 256, (12, side, side, 3)).astype(np.uint8)
    frames[..., 0] = np.arange(12)[:, None, None]
    clip = Clip("samm", "006", "006_1_2", tuple(Path(f"{i}.jpg") for i in range(12)), onset=3, apex=7, offset=9)
    return FaceClip(clip, moment, frames)


def noise(side=256):
    return FlowField(np.random.default_rng(1).normal(size=(2, side, side)).astype(np.float32), "px")


def make(face_, field, options=None):
    (view,) = onset_flow.make(face_, {PAIR: field}, options or Options())
    assert (view.name, view.train_only) == ("apex", False)
    assert (view.x["onset"].dtype, view.x["flow"].dtype) == (np.uint8, np.float32)
    assert all(array.flags.c_contiguous for array in view.x.values())
    return view.x


def test_at_the_size_of_the_faces_nothing_is_touched():
    clip, field = face(), noise()
    found = make(clip, field)
    assert np.array_equal(found["onset"], clip.frames[3].transpose(2, 0, 1))
    assert np.array_equal(found["flow"], field.uv)


def test_the_windows_divide_the_feature_maps_of_every_stage():
    side = Options().size
    assert [side // 4 // 2**stage % 4 for stage in range(4)] == [0, 0, 0, 0]
    assert 224 // 32 % 4  # which is why it is not 224


def test_the_picture_is_the_onset_and_not_the_apex():
    found = make(face(), noise())
    assert set(found["onset"][0].ravel()) == {3}


@pytest.mark.parametrize("side", [128, 512])
def test_another_size_keeps_colours_and_pixels_true(side):
    clip = face(side)
    clip.frames[:] = [10, 100, 200]
    field = FlowField(np.stack([np.full((side, side), 1.5), np.full((side, side), -2.0)]).astype(np.float32), "px")
    found = make(clip, field)
    assert found["onset"].shape == (3, 256, 256)
    assert [set(channel.ravel()) for channel in found["onset"]] == [{10}, {100}, {200}]
    assert np.allclose(found["flow"].mean(axis=(1, 2)), np.array([1.5, -2.0]) * 256 / side)


def test_shrinking_takes_the_mean_of_the_area():
    clip = face(64)
    clip.frames[3, ::2], clip.frames[3, 1::2] = 0, 200
    assert set(make(clip, noise(64), Options(size=32))["onset"].ravel()) == {100}


def test_flow_at_its_own_size_is_left_as_it_was_computed():
    field = noise(64)
    found = make(face(64), field, Options(flow_size=64))
    assert found["onset"].shape == (3, 256, 256)
    assert np.array_equal(found["flow"], field.uv)
    assert make(face(64), field)["flow"].shape == (2, 256, 256)


def test_a_mirror_moves_both_arrays_and_turns_u():
    clip, field = face(), noise()
    found = {name: torch.from_numpy(array).float()[None] for name, array in make(clip, field).items()}
    names, chosen = onset_flow.channels(Options()), torch.ones(1, dtype=torch.bool)
    assert names == {"onset": ("r", "g", "b"), "flow": ("u", "v")}
    mirrored = {name: augment.mirror(x, names[name], chosen)[0].numpy() for name, x in found.items()}
    turned = FlowField(np.ascontiguousarray(field.uv[..., ::-1] * np.array([-1, 1], np.float32)[:, None, None]), "px")
    other = make(FaceClip(clip.clip, clip.moment, clip.frames[:, :, ::-1]), turned)
    for name, array in other.items():
        assert np.array_equal(mirrored[name], array), name


def test_plan_is_the_onset_frame_and_the_pair():
    plan = onset_flow.plan(Moment(3, 7, 9), Options())
    assert (plan.frames, plan.pairs) == ((3,), (PAIR,))


def test_no_frames_no_pixels_no_apex():
    file = FlowFile(Path("a.png"), (0, 1), ("strain", "v", "u"))
    published = Clip("casme2", "sub01", "EP01", None, onset=0, apex=1, offset=1, flow_files=(file,))
    scaled = FlowField(np.full((2, 28, 28), 0.5, np.float32), "minmax")
    with pytest.raises(UserError, match=r"casme2/sub01/EP01: want flow in pixels, got published.*; choose"):
        onset_flow.make(FaceClip(published, Moment(0, 1, 1)), {(0, 1): scaled}, Options())
    with pytest.raises(UserError, match="casme2/sub01/EP01: want frame 0, got published flow without frames; choose"):
        onset_flow.make(FaceClip(published, Moment(0, 1, 1)), {(0, 1): noise(28)}, Options())
    with pytest.raises(UserError, match="want a moment with an apex for onset_flow, got none"):
        onset_flow.plan(Moment(3, None, 9), Options())


def test_a_clip_that_is_shorter_than_its_moment():
    short = face()
    short = FaceClip(short.clip, short.moment, short.frames[:3])
    with pytest.raises(UserError, match="samm/006/006_1_2: want frame 3, got 3 frames"):
        make(short, noise())


@pytest.mark.parametrize("wrong", [{"size": 0}, {"flow_size": 2}, {"flow": 1}])
def test_options_that_are_none(wrong):
    with pytest.raises(ValidationError):
        Options(**wrong)
