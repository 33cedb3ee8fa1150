"""What every flow method must do: nothing moves, something moves, and a batch is its pairs."""

import cv2
import numpy as np
import pytest

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
