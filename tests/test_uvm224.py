"""MERba's input: u, v and their magnitude, in pixels or scaled, computed or published."""

from pathlib import Path

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from fleeting import augment
from fleeting.errors import UserError
from fleeting.inputs import uvm224, uvs28
from fleeting.inputs.uvm224 import Options
from fleeting.records import Clip, FaceClip, FlowField, FlowFile, Moment


def face(moment=Moment(0, 1, 2)):
    file = FlowFile(Path("a.png"), (0, 1), ("strain", "v", "u"))
    return FaceClip(Clip("casme2", "sub01", "EP01", None, onset=0, apex=1, offset=2, flow_files=(file,)), moment)


def constant(u, v, side=224):
    return FlowField(np.stack([np.full((side, side), u), np.full((side, side), v)]).astype(np.float32), "px")


def noise(unit="px", side=224, seed=0):
    uv = np.random.default_rng(seed).normal(size=(2, side, side)).astype(np.float32)
    if unit == "px":
        return FlowField(uv, "px")
    low, high = uv.min(axis=(1, 2), keepdims=True), uv.max(axis=(1, 2), keepdims=True)
    return FlowField((uv - low) / (high - low), "minmax", strain=np.zeros((side, side), np.float32))


def make(field, options=None):
    (view,) = uvm224.make(face(), {(0, 1): field}, options or Options())
    assert view.x["flow"].dtype == np.float32
    assert view.x["flow"].flags.c_contiguous
    assert not view.train_only
    return view.x["flow"]


def test_the_picture_is_the_flow_and_its_length():
    found = make(constant(3, -4))
    assert found.shape == (3, 224, 224)
    assert [set(channel.ravel()) for channel in found] == [{3.0}, {-4.0}, {5.0}]


def test_flow_of_the_wanted_size_is_untouched():
    field = noise()
    found = make(field)
    assert np.array_equal(found[:2], field.uv)
    assert np.allclose(found[2] ** 2, (field.uv**2).sum(axis=0), rtol=1e-5)


@pytest.mark.parametrize(("side", "factor"), [(112, 2.0), (448, 0.5), (56, 4.0)])
def test_flow_of_another_size_counts_pixels_of_the_new_one(side, factor):
    found = make(constant(3, 4, side))
    assert np.allclose(found.mean(axis=(1, 2)), [3 * factor, 4 * factor, 5 * factor])


def test_the_magnitude_is_that_of_the_resized_flow():
    field = noise(side=448)  # opposite vectors cancel in a mean, their lengths would not
    found = make(field)
    assert np.allclose(found[2], np.hypot(found[0], found[1]), atol=1e-6)


@pytest.mark.parametrize("size", [28, 64, 256])
def test_size_is_an_option(size):
    assert make(noise(), Options(size=size)).shape == (3, size, size)


def test_every_scaled_channel_fills_0_to_255():
    found, plain = make(noise(), Options(scale="minmax255")), make(noise())
    assert found.min(axis=(1, 2)) == pytest.approx([0, 0, 0])
    assert found.max(axis=(1, 2)) == pytest.approx([255, 255, 255])
    for scaled, pixels in zip(found, plain, strict=True):
        assert np.corrcoef(scaled.ravel(), pixels.ravel())[0, 1] == pytest.approx(1)


def test_pixels_keep_strength_and_scaling_loses_it():
    field = noise()
    weaker = FlowField(field.uv / 2, "px")
    assert np.allclose(make(weaker), make(field) / 2)
    scaled = Options(scale="minmax255")
    assert np.allclose(make(weaker, scaled), make(field, scaled), atol=1e-3)


def test_published_flow_gives_what_uvs28_makes_of_it():
    published = noise("minmax", 28)
    found = make(published, Options(size=28, scale="minmax255"))
    (other,) = uvs28.make(face(), {(0, 1): published}, uvs28.Options(third="magnitude"))
    assert np.array_equal(found, other.x["flow"])


def test_the_magnitude_of_published_flow_is_zero_where_most_of_the_face_is():
    uv = np.full((2, 28, 28), 0.25, np.float32)
    uv[:, :4, :4] = [[[1.0]], [[0.0]]]
    found = make(FlowField(uv, "minmax"), Options(size=28, scale="minmax255"))
    assert found[2, 10:, 10:].max() == 0
    assert found[2, :4, :4] == pytest.approx(255)


def test_published_values_are_not_rescaled_with_the_size():
    uv = np.full((2, 28, 28), 0.25, np.float32)
    uv[0, :14] = 0.75
    found = make(FlowField(uv, "minmax"), Options(size=56, scale="minmax255"))
    assert (found[0].min(), found[0].max()) == (0, 255)
    assert found[0, 0, 0] == 255


@pytest.mark.parametrize("unit", ["px", "minmax"])
def test_a_still_face_gives_zero_and_not_nan(unit):
    still = FlowField(np.zeros((2, 28, 28), np.float32), unit)
    assert not make(still, Options(scale="minmax255")).any()


@pytest.mark.parametrize("scale", ["px", "minmax255"])
def test_the_mirrored_picture_is_that_of_the_mirrored_face(scale):
    field, options = noise(), Options(scale=scale)
    other = FlowField(np.ascontiguousarray(field.uv[..., ::-1] * np.array([-1, 1], np.float32)[:, None, None]), "px")
    x, chosen = torch.from_numpy(make(field, options))[None], torch.ones(1, dtype=torch.bool)
    mirrored = augment.mirror(x, uvm224.channels(options)["flow"], chosen)[0].numpy()
    assert np.allclose(mirrored, make(other, options), atol=1e-3)


def test_channels_say_what_the_numbers_are():
    assert uvm224.channels(Options()) == {"flow": ("u", "v", "magnitude")}
    assert uvm224.channels(Options(scale="minmax255")) == {"flow": ("u255", "v255", "magnitude255")}


def test_plan_is_the_pair_of_onset_and_apex():
    plan = uvm224.plan(Moment(3, 9, 20), Options())
    assert (plan.frames, plan.pairs) == ((), ((3, 9),))


def test_inputs_are_not_changed():
    field = noise()
    before = field.uv.copy()
    made = make(field)
    made += 1
    assert np.array_equal(field.uv, before)


def test_what_is_refused():
    with pytest.raises(UserError, match=r"casme2/sub01/EP01: want flow in pixels.*set input\.scale = 'minmax255'"):
        make(noise("minmax", 28))
    with pytest.raises(UserError, match="want a moment with an apex for uvm224, got none; choose a spotter"):
        uvm224.plan(Moment(0, None, 4), Options())
    with pytest.raises(UserError, match="casme2/sub01/EP01: want a moment, got none"):
        uvm224.make(face(None), {}, Options())
    for wrong in ({"size": 0}, {"scale": "unit"}, {"side": 224}):
        with pytest.raises(ValidationError):
            Options(**wrong)
