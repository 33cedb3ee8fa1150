"""Whole clips at a fixed length: the weights of temporal interpolation, frames, and flow from the onset."""

from pathlib import Path

import numpy as np
import pytest
import scipy.linalg
import torch
from pydantic import ValidationError

from fleeting import augment
from fleeting.errors import UserError
from fleeting.inputs import clip
from fleeting.inputs._time import weights
from fleeting.inputs.clip import Options
from fleeting.records import Clip, FaceClip, FlowField, FlowFile, Moment

WAYS = ("tim", "linear", "nearest")
MOMENT = Moment(4, 9, 20)


def face(pictures=None, moment=MOMENT):
    if pictures is None:
        pictures = np.zeros((30, 8, 8, 3), np.uint8)
        pictures[:] = 5 * np.arange(30)[:, None, None, None]
    record = Clip("smic", "s01", "s01_ne_01", tuple(Path(f"{i}.bmp") for i in range(30)), onset=4, offset=20)
    return FaceClip(record, moment, pictures)


def make(options, flows=None, face_=None):
    fields = {pair: FlowField(uv, "px") for pair, uv in (flows or {}).items()}
    (view,) = clip.make(face_ or face(), fields, options)
    ((name, array),) = view.x.items()
    assert (view.name, view.train_only) == ("clip", False)
    assert {name: len(array)} == {name: len(names) for name, names in clip.channels(options).items()}
    return array


# --- weights


def graph_embedding(frames, length):
    """The temporal interpolation model as it is written: frames (n, D) to (length, D).

    Zhou, Zhao, Pietikäinen, CVPR 2011: differences from the mean, their singular vectors, the generalised
    eigenvectors of the path graph's Laplacian, and the sine curves that run through the embedding.
    """
    n = len(frames)
    mean = frames.mean(axis=0)
    basis = np.linalg.svd((frames - mean).T, full_matrices=False)[0][:, : n - 1]
    inside = basis.T @ (frames - mean).T
    laplacian = np.diag(np.r_[1, np.full(n - 2, 2), 1]) - np.eye(n, k=1) - np.eye(n, k=-1)
    _, maps = scipy.linalg.eigh(inside @ laplacian @ inside.T, inside @ inside.T)
    k = np.arange(1, n)

    def curve(t):
        return np.sin(np.pi * k * t + np.pi * (n - k) / (2 * n))

    sizes = maps.T @ inside[:, 0] / curve(1 / n)
    instants = np.linspace(1 / n, 1, length)
    return np.stack([basis @ np.linalg.solve(maps.T, sizes * curve(t)) + mean for t in instants])


@pytest.mark.parametrize(("count", "length"), [(3, 2), (5, 9), (9, 10), (17, 10), (40, 10)])
def test_the_closed_form_is_the_graph_embedding(count, length):
    frames = np.random.default_rng(count).normal(size=(count, 200))
    assert np.allclose(weights(count, length, "tim") @ frames, graph_embedding(frames, length), atol=1e-10)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(("count", "length"), [(1, 2), (1, 10), (2, 10), (10, 10), (17, 10), (200, 16)])
def test_weights_are_shares_and_both_ends_are_kept(way, count, length):
    found = weights(count, length, way)
    assert found.shape == (length, count)
    assert np.allclose(found.sum(axis=1), 1)
    assert np.allclose(found[0], np.eye(count)[0])
    assert np.allclose(found[-1], np.eye(count)[-1])


@pytest.mark.parametrize("way", WAYS)
def test_as_many_instants_as_frames_give_the_frames_back(way):
    assert np.allclose(weights(12, 12, way), np.eye(12))
    # and every second instant of a doubled clip is a frame
    assert np.allclose(weights(12, 23, way)[::2], np.eye(12))


def test_linear_and_nearest_by_hand():
    assert weights(4, 3, "linear").tolist() == [[1, 0, 0, 0], [0, 0.5, 0.5, 0], [0, 0, 0, 1]]
    assert weights(4, 3, "nearest").tolist() == [[1, 0, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]]
    assert weights(2, 5, "linear")[:, 1].tolist() == [0, 0.25, 0.5, 0.75, 1]
    assert weights(5, 3, "nearest").argmax(axis=1).tolist() == [0, 2, 4]


def test_the_model_bends_where_linear_breaks():
    """A rise and fall, sampled at 9 frames and asked for at 33 instants."""

    def course(t):
        return np.cos(2 * np.pi * (8 * t + 0.5) / 9)  # one of the curves that the model is made of

    exact = course(np.linspace(0, 1, 33))
    errors = {way: np.abs(weights(9, 33, way) @ course(np.linspace(0, 1, 9)) - exact).max() for way in WAYS}
    assert errors["tim"] < 1e-12 < errors["linear"] < errors["nearest"]


# --- frames


@pytest.mark.parametrize("way", ["linear", "nearest"])
def test_a_clip_of_its_own_length_is_its_frames(way):
    pictures = np.random.default_rng(0).integers(0, 256, (30, 8, 8, 3)).astype(np.uint8)
    found = make(Options(length=17, interpolation=way), face_=face(pictures))
    assert found.dtype == np.uint8
    assert np.array_equal(found, pictures[4:21].transpose(3, 0, 1, 2))


def test_the_model_gives_frames_back_too():
    pictures = np.random.default_rng(0).integers(0, 256, (30, 8, 8, 3)).astype(np.uint8)
    found = make(Options(length=17), face_=face(pictures))
    assert np.array_equal(found, pictures[4:21].transpose(3, 0, 1, 2))


def test_an_even_brightening_stays_even():
    found = make(Options(length=9, interpolation="linear"))
    assert found.shape == (3, 9, 8, 8)
    assert found[0, :, 0, 0].tolist() == [20 + 10 * t for t in range(9)]
    assert np.ptp(found, axis=(0, 2, 3)).max() == 0


def test_a_swing_past_black_and_white_is_cut_off():
    pictures = np.zeros((30, 8, 8, 3), np.uint8)
    pictures[12:] = 255
    shares = weights(17, 40, "tim")[:, 8:].sum(axis=1)
    assert shares.max() > 1.01  # it does swing
    found = make(Options(length=40), face_=face(pictures))[0, :, 0, 0]
    assert np.array_equal(found, np.round(255 * shares.clip(0, 1)))


def test_size_and_grey():
    options = Options(length=4, size=16, colour="grey")
    assert make(options).shape == (1, 4, 16, 16)
    assert clip.channels(options) == {"frames": ("grey",)}
    assert clip.channels(Options()) == {"frames": ("r", "g", "b")}


# --- flow


def drift(per_frame=(0.1, -0.2), side=8):
    """A head that drifts evenly: flow from the onset to each later frame."""
    step = np.array(per_frame, np.float32)[:, None, None]
    return {(4, frame): np.broadcast_to(step * (frame - 4), (2, side, side)).copy() for frame in range(5, 21)}


@pytest.mark.parametrize("way", ["linear", "nearest"])
def test_flow_of_an_even_drift_grows_evenly_from_nothing(way):
    options = Options(what="flow", length=9, interpolation=way)
    found = make(options, {pair: uv for pair, uv in drift().items() if pair in clip.plan(MOMENT, options).pairs})
    assert found.dtype == np.float32
    assert found.shape == (2, 9, 8, 8)
    assert np.allclose(found[0].mean(axis=(1, 2)), 0.2 * np.arange(9))
    assert np.allclose(found[1].mean(axis=(1, 2)), -0.4 * np.arange(9))


def test_flow_by_the_model_passes_through_every_frame():
    found = make(Options(what="flow", length=17), drift())
    assert np.allclose(found[:, :, 0, 0].T, [(0.1 * t, -0.2 * t) for t in range(17)], atol=1e-5)


def test_resized_flow_counts_pixels_of_the_new_size():
    flows = drift()
    large = make(Options(what="flow", size=32), flows)
    assert large.shape == (2, 10, 32, 32)
    assert np.allclose(large[:, :, ::4, ::4], 4 * make(Options(what="flow"), flows), atol=1e-5)


def test_a_mirror_turns_u_at_every_instant():
    options = Options(what="flow", length=9)
    names = clip.channels(options)["flow"]
    assert names == ("u", "v")
    rng = np.random.default_rng(0)
    flows = {pair: rng.normal(size=(2, 8, 8)).astype(np.float32) for pair in drift()}
    turn = np.array([-1, 1], np.float32)[:, None, None]
    other = make(options, {pair: np.ascontiguousarray(turn * uv[..., ::-1]) for pair, uv in flows.items()})
    x, chosen = torch.from_numpy(make(options, flows))[None], torch.ones(1, dtype=torch.bool)
    assert np.allclose(augment.mirror(x, names, chosen)[0].numpy(), other, atol=1e-6)


# --- plan


def test_plan_names_what_the_instants_are_made_of():
    assert clip.plan(MOMENT, Options()).frames == tuple(range(4, 21))
    assert clip.plan(MOMENT, Options(length=3, interpolation="nearest")).frames == (4, 12, 20)
    # 16 frames apart in 10 instants: places 0, 1.78, 3.56, ...
    linear = clip.plan(MOMENT, Options(interpolation="linear")).frames
    assert linear[:5] == (4, 5, 6, 7, 8)
    assert clip.plan(MOMENT, Options(length=3, interpolation="linear")).frames == (4, 12, 20)


def test_flow_is_planned_from_the_onset_and_not_to_itself():
    nearest = Options(what="flow", length=3, interpolation="nearest")
    assert clip.plan(MOMENT, nearest).pairs == ((4, 12), (4, 20))
    assert clip.plan(MOMENT, nearest).frames == ()
    assert len(clip.plan(MOMENT, Options(what="flow")).pairs) == 16


def test_no_apex_is_wanted():
    assert clip.plan(Moment(4, None, 20), Options()).frames == tuple(range(4, 21))


@pytest.mark.parametrize("way", WAYS)
def test_a_moment_of_one_frame_stands_still(way):
    still = Moment(4, 4, 4)
    found = make(Options(interpolation=way, length=3), face_=face(moment=still))
    assert set(found.ravel()) == {20}
    options = Options(what="flow", interpolation=way, length=3)
    assert clip.plan(still, options).pairs == ((4, 4),)
    assert not make(options, {(4, 4): np.zeros((2, 8, 8), np.float32)}, face(moment=still)).any()


# --- what is refused


def test_no_frames_or_no_pixels():
    file = FlowFile(Path("a.png"), (0, 1), ("strain", "v", "u"))
    published = FaceClip(Clip("casme2", "sub01", "EP01", None, 1, 0, 1, 1, flow_files=(file,)), Moment(0, 1, 1))
    with pytest.raises(UserError, match="casme2/sub01/EP01: want frame 0, got published flow without frames; choose"):
        clip.make(published, {}, Options())
    scaled = FlowField(np.full((2, 28, 28), 0.5, np.float32), "minmax")
    with pytest.raises(UserError, match=r"casme2/sub01/EP01: want flow in pixels, got published.*; choose"):
        clip.make(published, {(0, 1): scaled}, Options(what="flow"))


@pytest.mark.parametrize("wrong", [{"length": 1}, {"interpolation": "cubic"}, {"what": "strain"}, {"size": 0}])
def test_options_that_are_none(wrong):
    with pytest.raises(ValidationError):
        Options(**wrong)
