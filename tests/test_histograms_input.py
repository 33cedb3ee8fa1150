"""Histograms as an input: the features as they are published, pictures of them, and mirrors that keep directions."""

from pathlib import Path

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from fleeting import augment, histograms, motion
from fleeting.errors import UserError
from fleeting.inputs import histograms as source
from fleeting.inputs.histograms import Options
from fleeting.records import Clip, FaceClip, FlowField, Moment
from test_histograms import FACE

SIDE = 224
MOMENT = Moment(2, 5, 9)


def face(points=FACE):
    """A recording of equal frames; landmarks at the onset alone."""
    clip = Clip("d", "s", "c", (Path("a.png"),) * 10, onset=2, apex=5, offset=9)
    landmarks = np.full((10, len(points), 2), np.nan, np.float32) if points is not None else None
    if landmarks is not None:
        landmarks[2] = points
    frames = [np.zeros((SIDE, SIDE, 3), np.uint8)] * 10
    return FaceClip(clip, MOMENT, frames, landmarks)


def flow(seed=0):
    rng = np.random.default_rng(seed)
    coarse = rng.normal(0, 1, (2, 9, 9)).astype(np.float32)
    return np.stack([motion.resize_map(component, SIDE, SIDE) for component in coarse])


def make(uv, options, points=FACE):
    (view,) = source.make(face(points), {(2, 5): FlowField(uv, "px")}, options)
    assert view.x["flow"].dtype == np.float32
    return view.x["flow"]


def test_a_vector_is_the_published_feature():
    uv = flow()
    found = make(uv, Options(form="vector"))
    wanted = histograms.bi_woof(uv, motion.strain(uv))
    assert found.shape == (8, 5, 5)
    assert np.allclose(found, np.moveaxis(wanted, -1, 0), atol=1e-6)
    assert np.linalg.norm(found) == pytest.approx(1, abs=1e-5)


def test_hoof_of_blocks_counts_each_block_alike():
    found = make(flow(), Options(feature="hoof", form="vector", blocks=(2, 3), bins=6))
    assert found.shape == (6, 2, 3)
    assert np.allclose(found.sum(0), found.sum(0)[0, 0])
    part = histograms.hoof(flow()[:, :112, :75], 6)
    assert np.allclose(found[:, 0, 0] / found[:, 0, 0].sum(), part, atol=1e-5)


def test_strain_weighs_the_blocks_of_biwoof():
    uv = np.zeros((2, SIDE, SIDE), np.float32)
    uv[0] = 1  # all moves alike
    uv[0, :40, :40] += np.linspace(0, 1, 40)[:, None]  # but one corner is stretched
    found = make(uv, Options(form="vector")).sum(0)
    assert found[0, 0] == found.max()
    assert found[2:, 2:].max() < 1e-6
    assert make(uv, Options(feature="hoof", form="vector")).sum(0)[3, 3] > 0.1


def test_mdmo_as_a_vector_has_36_lengths_and_angles():
    uv = np.zeros((2, SIDE, SIDE), np.float32)
    uv[0], uv[1, :100] = 2.0, -2.0  # up and to the right above, to the right below
    found = make(uv, Options(feature="mdmo", form="vector"))
    assert found.shape == (2, 36, 1)
    assert found[0].max() == pytest.approx(1)
    assert found[0, :6, 0] == pytest.approx(1)  # forehead
    assert found[1, :6, 0] == pytest.approx(-np.pi / 4)
    assert found[0, -4:, 0] == pytest.approx(1 / np.sqrt(2))  # chin
    assert found[1, -4:, 0] == pytest.approx(0)
    assert not make(np.zeros_like(uv), Options(feature="mdmo", form="vector")).any()


@pytest.mark.parametrize("size", [224, 112, 28])
def test_a_map_holds_the_values_of_its_block(size):
    uv = flow()
    found = make(uv, Options(size=size, blocks=(4, 7)))
    assert found.shape == (8, size, size)
    tall, wide = size // 4, size // 7
    for row, column in np.ndindex(4, 7):
        block = found[:, row * tall : (row + 1) * tall, column * wide : (column + 1) * wide]
        assert (block == block[:, :1, :1]).all()
    if size == SIDE:
        vector = make(uv, Options(form="vector", blocks=(4, 7)))
        assert np.allclose(found[:, :: size // 4, :: size // 7], vector)


def test_mdmo_as_a_map_is_flow_in_pixels_of_the_map():
    uv = np.zeros((2, SIDE, SIDE), np.float32)
    uv[0], uv[1] = 3.0, -1.0
    found = make(uv, Options(feature="mdmo", size=112))
    inside = found.any(axis=0)
    assert 0.2 < inside.mean() < 0.8
    assert np.allclose(found[:, inside].T, (1.5, -0.5))
    masks = histograms.regions36((FACE + 0.5) / 2 - 0.5, 112, 112)
    assert np.array_equal(inside, masks.any(axis=0))


@pytest.mark.parametrize(
    ("feature", "form"), [("biwoof", "map"), ("biwoof", "vector"), ("hoof", "map"), ("mdmo", "map")]
)
def test_a_mirror_by_name_gives_the_mirrored_face(feature, form):
    options = Options(feature=feature, form=form, size=SIDE)
    assert source.mirrors(options)
    uv = flow()
    # landmarks keep their numbers: what was the left eye is the right one
    points = FACE * (-1, 1) + (SIDE - 1, 0)
    swap = [*range(16, -1, -1), *range(26, 16, -1), *range(27, 31), *range(35, 30, -1), 45, 44, 43, 42, 47, 46,
            39, 38, 37, 36, 41, 40, *range(54, 47, -1), *range(59, 54, -1), *range(64, 59, -1), 67, 66, 65]  # fmt: skip
    other = make(motion.flip(uv), options, points[swap].astype(np.float32))
    x = torch.from_numpy(make(uv, options))[None]
    by_name = augment.mirror(x, source.channels(options)["flow"], torch.ones(1, dtype=torch.bool))[0].numpy()
    # borders of regions are drawn to a pixel, and one pixel more may turn the main direction
    away = np.abs(by_name - other).max(0)
    assert (away > (0.1 if feature == "mdmo" else 1e-5)).mean() < (0.05 if feature == "mdmo" else 1e-9)


def test_what_a_mirror_or_a_turn_cannot_say_is_refused():
    assert not source.mirrors(Options(bins=7))
    assert not source.mirrors(Options(feature="mdmo", form="vector"))
    x = torch.rand(1, 7, 5, 5)
    names = source.channels(Options(bins=7))["flow"]
    with pytest.raises(UserError, match="want an even number of bins"):
        augment.mirror(x, names, torch.ones(1, dtype=torch.bool))
    with pytest.raises(UserError, match=r"set recipe\.rotate_deg = 0"):
        augment.rotate(x, names, torch.zeros(1))


def test_heat_of_a_region_lies_on_the_region():
    options = Options(feature="mdmo", form="vector")
    heat = np.zeros((36, 1), np.float32)
    heat[3] = 5
    placed = source.place(heat, face(), options)
    masks = histograms.regions36(FACE, SIDE, SIDE)
    assert (placed[masks[3]] == 5).all()
    assert np.isnan(placed[~masks.any(axis=0)]).all()
    assert (placed[masks[4]] == 0).all()
    blocks = source.place(np.eye(5, dtype=np.float32), face(), Options(form="vector"))
    assert blocks.shape == (SIDE, SIDE)
    assert blocks[10, 10] > 0.9 > 0.1 > blocks[10, 200]


@pytest.mark.parametrize("points", [None, FACE[:5], np.full_like(FACE, np.nan)])
@pytest.mark.parametrize("form", ["map", "vector"])
def test_regions_want_landmarks(points, form):
    with pytest.raises(UserError, match=r"^d/s/c: want .*landmarks"):
        make(flow(), Options(feature="mdmo", form=form), points)
    assert make(flow(), Options(form=form), points).any()


@pytest.mark.parametrize("wrong", [{"blocks": (0, 5)}, {"blocks": (300, 5)}, {"bins": 1}, {"feature": "lbp"}])
def test_options_that_are_none(wrong):
    with pytest.raises(ValidationError):
        Options(**wrong)
