"""What every flow method must do: nothing moves, something moves, and a batch is its pairs."""

import cv2
import numpy as np
import pytest
import torch

from fleeting import plugins
from fleeting.errors import UserError


@pytest.fixture(params=plugins.names("flow"))
def method(request):
    return plugins.load("flow", request.param)


def texture(seed, height=96, width=128):
    """Smooth noise in [0, 1], larger than what is shown of it."""
    noise = np.random.default_rng(seed).normal(size=(height + 20, width + 20))
    smooth = cv2.GaussianBlur(noise, (0, 0), 2.5)
    return ((smooth - smooth.min()) / (smooth.max() - smooth.min())).astype(np.float32)


def shifted(seed, dx, dy, height=96, width=128):
    """A picture, and the same moved by (dx, dy) pixels to the right and down."""
    large = texture(seed, height, width)
    moved = large[10 - dy : 10 - dy + height, 10 - dx : 10 - dx + width]
    return large[10 : 10 + height, 10 : 10 + width], moved


def flow_of(method, first, second):
    found = method.flow(np.ascontiguousarray(first), np.ascontiguousarray(second), method.Options())
    assert (found.shape, found.dtype) == ((len(first), 2, *first.shape[1:]), np.float32)
    assert np.isfinite(found).all()
    return found


def test_identical_pictures_give_no_flow(method):
    pictures = np.stack([shifted(seed, 0, 0)[0] for seed in range(2)])
    found = np.abs(flow_of(method, pictures, pictures))
    assert found[..., 12:-12, 12:-12].max() < 1e-3
    assert found.mean() < 1e-2  # OpenCV's Farneback sees .2 px at the last rows and columns


@pytest.mark.parametrize(("dx", "dy"), [(2, 0), (-2, 0), (0, 2), (0, -2), (1, -2)])
def test_a_shift_is_found_with_its_sign(method, dx, dy):
    first, second = shifted(0, dx, dy)
    u, v = flow_of(method, first[None], second[None])[0, :, 12:-12, 12:-12]
    assert np.median(u) == pytest.approx(dx, abs=0.25)
    assert np.median(v) == pytest.approx(dy, abs=0.25)
    assert np.abs(u - dx).mean() < 0.5
    assert np.abs(v - dy).mean() < 0.5


def test_a_batch_is_its_pairs_one_by_one(method):
    pairs = [shifted(seed, dx, dy) for seed, (dx, dy) in enumerate([(1, 0), (0, 2), (-2, 1)])]
    first, second = (np.stack(pictures) for pictures in zip(*pairs, strict=True))
    batch = flow_of(method, first, second)
    for index in range(3):
        assert np.array_equal(batch[index], flow_of(method, first[index : index + 1], second[index : index + 1])[0])


def test_brightness_alone_does_not_break_it(method):
    first, second = shifted(3, 2, 0)
    u = flow_of(method, first[None], np.clip(second[None] * 0.97, 0, 1))[0, 0, 12:-12, 12:-12]
    assert np.median(u) == pytest.approx(2, abs=0.5)


def test_pictures_without_texture_are_no_accident(method):
    flat = np.full((1, 64, 64), 0.5, np.float32)
    assert np.abs(flow_of(method, flat, flat)).max() < 1e-3


def test_an_empty_batch(method):
    assert flow_of(method, np.zeros((0, 64, 64), np.float32), np.zeros((0, 64, 64), np.float32)).shape[0] == 0


def test_pictures_are_not_changed_and_the_result_is_repeatable(method):
    first, second = (picture[None].copy() for picture in shifted(4, 1, 1))
    before = first.copy(), second.copy()
    one, two = (flow_of(method, first, second) for _ in range(2))
    assert np.array_equal(one, two)
    assert np.array_equal(first, before[0])
    assert np.array_equal(second, before[1])


def test_batches_that_do_not_fit(method):
    pictures = np.zeros((2, 64, 64), np.float32)
    for wrong in (pictures[:1], pictures[:, :32]):
        with pytest.raises(UserError, match="want two batches"):
            method.flow(pictures, wrong, method.Options())


def test_options_are_closed(method):
    with pytest.raises(ValueError, match="Extra inputs are not permitted"):
        method.Options(no_such_option=1)


def test_pictures_of_any_shape(method):
    for height, width in [(16, 16), (17, 40), (61, 23)]:
        first, second = shifted(5, 0, 0, height, width)
        assert flow_of(method, first[None], second[None]).shape == (1, 2, height, width)


@pytest.mark.parametrize("size", [(3, 3), (15, 64), (64, 1), (0, 0)])
def test_pictures_that_are_too_small(method, size):
    with pytest.raises(UserError, match=r"want pictures of at least 16 px, got .*; align to a larger size"):
        method.flow(np.zeros((1, *size), np.float32), np.zeros((1, *size), np.float32), method.Options())


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_pictures_that_are_no_numbers(method, bad):
    first, second = (np.stack([picture] * 2) for picture in shifted(6, 1, 0))
    second[1, 40, 50] = bad
    with pytest.raises(UserError, match="got NaN or infinity in the second picture of pair 1;"):
        method.flow(first, second, method.Options())


def test_what_came_before_leaves_no_trace(method):
    first, second = (picture[None] for picture in shifted(7, 1, 0))
    alone = flow_of(method, first, second)
    flow_of(method, first[:, :20, :20], second[:, :20, :20])
    assert np.array_equal(flow_of(method, first, second), alone)


def test_half_a_pixel_is_seen(method):
    y, x = np.mgrid[:96, :128].astype(np.float64)
    large = texture(8).astype(np.float64)
    u = 0.5 * np.sin(x / 20) * np.cos(y / 20)
    # what stands at x + u in the second picture stood at x in the first
    first = cv2.remap(large, (x + 10 + u).astype(np.float32), (y + 10).astype(np.float32), cv2.INTER_CUBIC)
    found = flow_of(method, first[None].astype(np.float32), large[None, 10:-10, 10:-10].astype(np.float32))[0]
    inner = np.s_[12:-12, 12:-12]
    assert np.hypot(found[0] - u, found[1])[inner].mean() < 0.5 * np.abs(u)[inner].mean()


def test_the_number_of_threads_changes_nothing(method):
    first, second = (np.stack(part) for part in zip(*(shifted(seed, 1, 1) for seed in range(3)), strict=True))
    before = cv2.getNumThreads(), torch.get_num_threads()
    try:
        found = []
        for threads in (1, 2, 3):
            cv2.setNumThreads(threads)
            torch.set_num_threads(threads)
            found.append(flow_of(method, first, second))
            assert torch.get_num_threads() == threads
    finally:
        cv2.setNumThreads(before[0])
        torch.set_num_threads(before[1])
    assert np.array_equal(found[0], found[1])
    assert np.array_equal(found[0], found[2])
