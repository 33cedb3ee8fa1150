"""BOWAM's input: what bidirectional flow cancels and what it doubles, its fusions, its colours and its near views."""

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from pydantic import ValidationError

from fleeting import augment, motion, plugins
from fleeting.errors import UserError
from fleeting.inputs import bidirectional240
from fleeting.inputs.bidirectional240 import Options
from fleeting.records import Clip, FaceClip, FlowField, FlowFile, Moment

SIDE = 240
MOMENT = Moment(2, 10, 18)
BACK, ON, CONVENTIONAL = (10, 2), (10, 18), (2, 10)
NEAR = (-2, -1, 1, 2)


def face(moment=MOMENT):
    clip = Clip("casme2", "sub01", "EP01", tuple(Path(f"{i}.png") for i in range(30)), onset=2, apex=10, offset=18)
    return FaceClip(clip, moment)


def shift(u, v, side=SIDE):
    return np.stack([np.full((side, side), u), np.full((side, side), v)]).astype(np.float32)


def mouth(side=SIDE, strength=1.5):
    """Flow of an expression from neutral to apex: a corner of the mouth goes up and to the side."""
    y, x = np.mgrid[0:side, 0:side] / side
    weight = np.exp(-((x - 0.35) ** 2 + (y - 0.75) ** 2) / (2 * 0.05**2))
    return (strength * weight * np.array([-0.6, -0.8])[:, None, None]).astype(np.float32)


def make(flows, options, moment=MOMENT):
    fields = {pair: uv if isinstance(uv, FlowField) else FlowField(uv, "px") for pair, uv in flows.items()}
    return bidirectional240.make(face(moment), fields, options)


def picture(flows, **options):
    (view,) = make(flows, Options(**({"encoding": "uv"} | options)))
    assert not view.train_only
    assert view.x["flow"].flags.c_contiguous
    return view.x["flow"]


# --- equation 1


def test_even_head_drift_cancels_and_the_expression_doubles():
    expression, drift = mouth(), shift(0.8, -0.3)
    # the apex lies in the middle: as far from the onset as from the offset
    flows = {BACK: -expression - drift, ON: -expression + drift}
    found = picture(flows)
    assert np.allclose(found, -2 * expression, atol=1e-6)
    conventional = picture({CONVENTIONAL: expression + drift}, fusion="conventional")
    assert np.allclose(conventional, expression + drift)


def test_drift_alone_leaves_nothing():
    assert not picture({BACK: shift(-1.25, 0.5), ON: shift(1.25, -0.5)}).any()


def test_what_an_apex_off_the_middle_leaves_of_the_drift():
    """A head at constant speed c: the sum holds c times (offset - apex) - (apex - onset)."""
    speed = np.array([0.1, -0.05], np.float32)
    moment = Moment(2, 6, 18)
    flows = {(6, 2): shift(*(speed * (2 - 6))), (6, 18): shift(*(speed * (18 - 6)))}
    (view,) = make(flows, Options(encoding="uv"), moment)
    assert np.allclose(view.x["flow"].mean(axis=(1, 2)), speed * (12 - 4))


def test_computed_flow_of_a_drifting_texture_cancels():
    farneback = plugins.load("flow", "farneback")
    rng = np.random.default_rng(0)
    texture = cv2.GaussianBlur(rng.random((300, 300)), (0, 0), 3)
    texture = (texture - texture.min()) / np.ptp(texture)
    onset, apex, offset = (
        cv2.warpAffine(texture, np.array([[1, 0, -20 + d], [0, 1, -20]]), (SIDE, SIDE)).astype(np.float32)[None]
        for d in (-1.0, 0.0, 1.0)
    )
    computed = {
        pair: farneback.flow(first, second, farneback.Options())[0]
        for pair, first, second in ((BACK, apex, onset), (ON, apex, offset), (CONVENTIONAL, onset, apex))
    }
    inside = (slice(None), slice(30, -30), slice(30, -30))
    conventional = picture(computed, fusion="conventional")[inside]
    assert np.median(conventional[0]) == pytest.approx(1, abs=0.05)
    assert np.abs(picture(computed)[inside]).mean() < 0.05


# --- fusions


def test_product_and_concatenation():
    back, on = mouth() + shift(1, 2), shift(-3, 0.5)
    assert np.allclose(picture({BACK: back, ON: on}, fusion="product"), back * on)
    both = picture({BACK: back, ON: on}, fusion="concatenation")
    assert both.shape == (4, SIDE, SIDE)
    assert np.array_equal(both, np.concatenate([back, on]))


def test_a_product_loses_the_direction_of_the_expression():
    same = [picture({BACK: sign * mouth(), ON: sign * mouth()}, fusion="product") for sign in (-1, 1)]
    assert np.array_equal(*same)


def test_the_conventional_flow_plans_and_sees_the_onset_and_the_apex_alone():
    plan = bidirectional240.plan(MOMENT, Options(fusion="conventional"))
    assert plan.pairs == (CONVENTIONAL,)
    assert np.array_equal(picture({CONVENTIONAL: mouth()}, fusion="conventional"), mouth())


@pytest.mark.parametrize(("fusion", "factor"), [("sum", 2), ("product", 4)])
def test_flow_of_another_size_counts_pixels_of_the_new_one(fusion, factor):
    small = {BACK: shift(3, 1, 120), ON: shift(2, -5, 120)}
    large = {BACK: shift(3, 1), ON: shift(2, -5)}
    assert np.allclose(picture(small, fusion=fusion), factor * picture(large, fusion=fusion))
    assert picture(large, size=224).shape == (2, 224, 224)


def test_the_magnitude_is_that_of_the_fused_flow():
    found = picture({BACK: shift(1, 1), ON: shift(2, 3)}, encoding="uvm")
    assert [set(channel.ravel()) for channel in found] == [{3.0}, {4.0}, {5.0}]
    both = picture({BACK: shift(3, 4), ON: shift(0, -2)}, encoding="uvm", fusion="concatenation")
    assert both[:, 0, 0].tolist() == [3, 4, 5, 0, -2, 2]


# --- colours


def test_the_default_is_the_colour_wheel_of_the_sum():
    flows = {BACK: mouth(), ON: mouth() + shift(0.1, 0)}
    (view,) = make(flows, Options())
    assert view.x["flow"].dtype == np.uint8
    assert view.x["flow"].shape == (3, SIDE, SIDE)
    assert np.array_equal(view.x["flow"], motion.colours(flows[BACK] + flows[ON], None).transpose(2, 0, 1))


def test_no_motion_is_white_and_two_flows_are_two_pictures():
    still = {BACK: shift(0, 0), ON: shift(0, 0)}
    assert picture(still, encoding="colour").min() == 255
    both = picture({BACK: mouth(), ON: -mouth()}, encoding="colour", fusion="concatenation")
    assert both.shape == (6, SIDE, SIDE)
    assert np.array_equal(both[3:], picture({CONVENTIONAL: -mouth()}, encoding="colour", fusion="conventional"))
    assert not np.array_equal(both[:3], both[3:])  # opposite directions have other hues


def test_a_fixed_length_keeps_strength_and_the_longest_vector_loses_it():
    strong, weak = ({BACK: strength * mouth(), ON: 0 * mouth()} for strength in (1.0, 0.5))
    assert np.array_equal(picture(strong, encoding="colour"), picture(weak, encoding="colour"))
    kept = [picture(flows, encoding="colour", max_px=2.0).min() for flows in (strong, weak)]
    assert kept[0] < kept[1] < 255  # the weaker, the whiter


# --- names and mirrors


def test_channels_say_what_the_numbers_are():
    def names(**options):
        return bidirectional240.channels(Options(**options))["flow"]

    assert names() == ("wheel_r", "wheel_g", "wheel_b")
    assert names(augment_as="picture") == ("r", "g", "b")
    assert names(fusion="product") == ("r", "g", "b")
    assert names(encoding="uv") == ("u", "v")
    assert names(encoding="uv", fusion="concatenation") == ("u", "v", "u", "v")
    assert names(encoding="uvm", fusion="product") == ("uu", "vv", "magnitude")
    assert len(names(fusion="concatenation")) == 6


def mirrored(uv):
    """The flow of the mirrored face."""
    return np.ascontiguousarray(uv[..., ::-1] * np.array([-1, 1], np.float32)[:, None, None])


@pytest.mark.parametrize("fusion", ["sum", "product", "concatenation", "conventional"])
@pytest.mark.parametrize("encoding", ["uv", "uvm", "colour"])
@pytest.mark.parametrize("max_px", [None, 2.0])
def test_a_mirror_by_name_gives_the_mirrored_face(fusion, encoding, max_px):
    options = Options(fusion=fusion, encoding=encoding, max_px=max_px)
    flows = {BACK: mouth() + shift(0.4, 0.1), ON: 0.7 * mouth() - shift(0.3, 0.2), CONVENTIONAL: mouth()}
    kwargs = {"fusion": fusion, "encoding": encoding, "max_px": max_px}
    other = picture({pair: mirrored(uv) for pair, uv in flows.items()}, **kwargs)
    full = 255 if encoding == "colour" else 1
    x = torch.from_numpy(picture(flows, **kwargs)).float()[None] / full
    names = bidirectional240.channels(options)["flow"]
    by_name = full * augment.mirror(x, names, torch.ones(1, dtype=torch.bool))[0].numpy()
    # hues of 8 bits are directions to about a degree
    assert np.abs(by_name - other).mean() < (1 if encoding == "colour" else 1e-5)
    assert np.abs(by_name - other).max() < (8 if encoding == "colour" else 1e-4)


def test_who_wants_hues_left_alone_says_so():
    flows = {BACK: mouth(), ON: mouth()}
    x = torch.from_numpy(picture(flows, encoding="colour")).float()[None] / 255
    names = bidirectional240.channels(Options(augment_as="picture"))["flow"]
    assert torch.equal(augment.mirror(x, names, torch.ones(1, dtype=torch.bool)), x.flip(-1))


# --- views near the apex


def test_plan_names_two_pairs_for_each_view_and_no_frame():
    assert bidirectional240.plan(MOMENT, Options()).pairs == (BACK, ON)
    assert bidirectional240.plan(MOMENT, Options()).frames == ()
    near = bidirectional240.plan(MOMENT, Options(near=NEAR)).pairs
    assert near == (BACK, ON, (8, 2), (8, 18), (9, 2), (9, 18), (11, 2), (11, 18), (12, 2), (12, 18))
    conventional = Options(near=NEAR, fusion="conventional")
    assert bidirectional240.plan(MOMENT, conventional).pairs == ((2, 10), (2, 8), (2, 9), (2, 11), (2, 12))


def test_views_near_the_apex_are_their_own_flow_and_for_training_only():
    options = Options(near=NEAR, encoding="uv")
    flows = {pair: shift(pair[0], pair[1]) for pair in bidirectional240.plan(MOMENT, options).pairs}
    views = make(flows, options)
    assert [view.name for view in views] == ["apex", "apex-2", "apex-1", "apex+1", "apex+2"]
    assert [view.train_only for view in views] == [False, True, True, True, True]
    assert [view.x["flow"][0, 0, 0] for view in views] == [20, 16, 18, 22, 24]


@pytest.mark.parametrize(
    ("moment", "names"),
    [
        (Moment(9, 10, 12), ["apex", "apex+1"]),  # 8 is outside, 9 the onset, 12 the offset
        (Moment(8, 10, 18), ["apex", "apex-1", "apex+1", "apex+2"]),
        (Moment(10, 10, 18), ["apex", "apex+1", "apex+2"]),
        (Moment(2, 10, 10), ["apex", "apex-2", "apex-1"]),
        (Moment(10, 10, 10), ["apex"]),
    ],
)
def test_near_views_stay_inside_the_moment(moment, names):
    options = Options(near=NEAR, encoding="uv", size=8)
    pairs = bidirectional240.plan(moment, options).pairs
    assert len(set(pairs)) == len(pairs)
    assert [view.name for view in make(dict.fromkeys(pairs, shift(1, 1, 8)), options, moment)] == names


@pytest.mark.parametrize("near", [(0,), (-1, 0, 1), (1, 1), (2, 1)])
def test_near_is_in_rising_order_without_the_apex(near):
    with pytest.raises(ValidationError, match="rising order"):
        Options(near=near)


def test_near_reads_as_toml_writes_it():
    assert Options(near=[-2, -1, 1, 2]).near == NEAR


# --- what is refused


def test_published_flow_cannot_be_added():
    file = FlowFile(Path("a.png"), (0, 1), ("strain", "v", "u"))
    clip = Clip("casme2", "sub01", "EP01", None, onset=0, apex=1, offset=1, flow_files=(file,))
    field = FlowField(np.full((2, 28, 28), 0.5, np.float32), "minmax")
    with pytest.raises(UserError, match=r"casme2/sub01/EP01: want flow in pixels, got published.*uvs28"):
        bidirectional240.make(FaceClip(clip, Moment(0, 1, 1)), {(1, 0): field, (1, 1): field}, Options())


def test_no_apex():
    with pytest.raises(UserError, match="want a moment with an apex for bidirectional240, got none"):
        bidirectional240.plan(Moment(0, None, 4), Options())


@pytest.mark.parametrize("wrong", [{"fusion": "mean"}, {"encoding": "rgb"}, {"max_px": 0}, {"size": 0}, {"near": 2}])
def test_options_that_are_none(wrong):
    with pytest.raises(ValidationError):
        Options(**wrong)
