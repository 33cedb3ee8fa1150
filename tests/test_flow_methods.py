"""What is particular to one flow method: its options reach OpenCV, and OpenCV's memory does not reach the next pair."""

import cv2
import numpy as np
import pytest

from fleeting.errors import UserError
from fleeting.flow import _pairs, dis, farneback, tvl1


def pair(seed=0, side=96, shift=1):
    noise = np.random.default_rng(seed).normal(size=(side, side + shift))
    smooth = cv2.GaussianBlur(noise, (0, 0), 2.0)
    smooth = ((smooth - smooth.min()) / (smooth.max() - smooth.min())).astype(np.float32)
    return smooth[None, :, shift:].copy(), smooth[None, :, :side].copy()


# --- TV-L1


def test_the_defaults_are_opencvs():
    theirs, options = cv2.optflow.DualTVL1OpticalFlow.create(), tvl1.Options()
    assert (theirs.getTau(), theirs.getLambda(), theirs.getTheta()) == (options.tau, options.lambda_, options.theta)
    assert (theirs.getScalesNumber(), theirs.getScaleStep()) == (options.scales, options.scale_step)
    assert (theirs.getWarpingsNumber(), theirs.getEpsilon()) == (options.warps, options.epsilon)
    assert theirs.getInnerIterations() == options.inner_iterations
    assert theirs.getOuterIterations() == options.outer_iterations
    assert (theirs.getGamma(), theirs.getMedianFiltering()) == (options.gamma, options.median)
    assert not theirs.getUseInitialFlow()


def test_every_option_of_tvl1_reaches_opencv():
    options = tvl1.Options(
        tau=0.2, lambda_=0.1, theta=0.25, scales=3, warps=4, epsilon=0.02, inner_iterations=11, outer_iterations=6,
        scale_step=0.7, gamma=0.5, median=3,
    )  # fmt: skip
    made = tvl1._method(options)
    assert (made.getTau(), made.getLambda(), made.getTheta()) == (0.2, 0.1, 0.25)
    assert (made.getScalesNumber(), made.getScaleStep(), made.getWarpingsNumber()) == (3, 0.7, 4)
    assert (made.getEpsilon(), made.getInnerIterations(), made.getOuterIterations()) == (0.02, 11, 6)
    assert (made.getGamma(), made.getMedianFiltering()) == (0.5, 3)


def test_tvl1_is_opencvs_on_float_pictures():
    first, second = pair()
    field = cv2.optflow.DualTVL1OpticalFlow.create().calc(first[0], second[0], None)
    assert np.array_equal(tvl1.flow(first, second, tvl1.Options())[0], field.transpose(2, 0, 1))


def test_opencvs_object_remembers_a_small_picture_and_ours_does_not():
    first, second = pair()
    options = tvl1.Options()
    alone = tvl1.flow(first, second, options)
    method = tvl1._method(options)
    method.calc(first[0, :20, :20].copy(), second[0, :20, :20].copy(), None)
    assert method.getScalesNumber() < options.scales  # why an object is made for each batch
    assert np.array_equal(tvl1.flow(first, second, options), alone)


def test_a_smaller_weight_of_the_data_is_smoother():
    first, second = pair(1)
    rough, smooth = (tvl1.flow(first, second, tvl1.Options(lambda_=weight))[0] for weight in (0.5, 0.02))
    assert np.abs(np.gradient(smooth[0])).mean() < np.abs(np.gradient(rough[0])).mean()


# --- DIS


def test_presets_are_opencvs():
    first, second = pair(2)
    for name, number in [("ultrafast", 0), ("fast", 1), ("medium", 2)]:
        theirs = cv2.DISOpticalFlow.create(number).calc(
            np.round(255 * first[0]).astype(np.uint8), np.round(255 * second[0]).astype(np.uint8), None
        )
        assert np.array_equal(dis.flow(first, second, dis.Options(preset=name))[0], theirs.transpose(2, 0, 1))


def test_every_option_of_dis_reaches_opencv_and_none_leaves_the_preset():
    untouched = dis._method(dis.Options(preset="fast"))
    assert (untouched.getFinestScale(), untouched.getVariationalRefinementIterations()) == (2, 5)
    made = dis._method(
        dis.Options(
            finest_scale=0, patch_size=10, patch_stride=5, descent_iterations=20, refinement_iterations=0,
            refinement_alpha=1.5, refinement_delta=2.5, refinement_gamma=3.5, mean_normalization=False,
            spatial_propagation=False,
        )
    )  # fmt: skip
    assert (made.getFinestScale(), made.getPatchSize(), made.getPatchStride()) == (0, 10, 5)
    assert (made.getGradientDescentIterations(), made.getVariationalRefinementIterations()) == (20, 0)
    assert (made.getVariationalRefinementAlpha(), made.getVariationalRefinementDelta()) == (1.5, 2.5)
    assert (made.getVariationalRefinementGamma(), made.getUseMeanNormalization()) == (3.5, False)
    assert not made.getUseSpatialPropagation()


def test_a_finer_search_finds_more():
    first, second = pair(3)
    coarse, fine = (dis.flow(first, second, dis.Options(preset=name))[0] for name in ("ultrafast", "medium"))
    inner = np.s_[12:-12, 12:-12]
    assert np.hypot(fine[0] - 1, fine[1])[inner].mean() < np.hypot(coarse[0] - 1, coarse[1])[inner].mean()


def test_opencvs_refusal_is_one_line(monkeypatch):
    class Refusing:
        def calc(self, *pictures):
            raise cv2.error("some assertion of OpenCV")

    monkeypatch.setattr(dis, "_method", lambda options: Refusing())
    with pytest.raises(UserError, match=r"want pictures that patches fit in, got 96 x 96 px.*; choose a smaller"):
        dis.flow(*pair(), dis.Options())


def test_an_unknown_preset():
    with pytest.raises(ValueError, match="'ultrafast', 'fast' or 'medium'"):
        dis.Options(preset="slow")


# --- what all share


def test_farneback_has_the_parameters_of_htnets_code():
    first, second = pair(4)
    grey = [np.round(255 * part[0]).astype(np.uint8) for part in (first, second)]
    theirs = cv2.calcOpticalFlowFarneback(*grey, None, 0.5, 3, 15, 3, 5, 1.2, 0)
    assert np.array_equal(farneback.flow(first, second, farneback.Options())[0], theirs.transpose(2, 0, 1))


def test_eight_bits_of_grey():
    grey = _pairs.grey8(np.array([[-0.5, 0, 0.5, 1, 1.5]], np.float32))
    assert grey.dtype == np.uint8
    assert grey.tolist() == [[0, 0, 128, 255, 255]]


def test_the_picture_that_is_no_number_is_named():
    good = np.zeros((3, 20, 20), np.float32)
    bad = good.copy()
    bad[2, 0, 0] = np.nan
    _pairs.check(good, good)
    for first, second, words in [(bad, good, "first picture of pair 2"), (good, bad, "second picture of pair 2")]:
        with pytest.raises(UserError, match=words):
            _pairs.check(first, second)
