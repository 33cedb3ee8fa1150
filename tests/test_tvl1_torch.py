"""The batched TV-L1 against OpenCV's and against motion that is known, and that a pair never sees another."""

import cv2
import numpy as np
import pytest
import torch
import torch.nn.functional as functional
from scipy.ndimage import gaussian_filter, map_coordinates

from fleeting import motion
from fleeting.errors import UserError
from fleeting.flow import _median, tvl1, tvl1_torch
from fleeting.flow.tvl1_torch import Options

CPU = Options(device="cpu")


def known(amplitude, seed=0, height=112, width=112):
    """A textured pair and its smooth flow of at most `amplitude` px: first(x) = second(x + flow(x))."""
    rng = np.random.default_rng(seed)
    margin = 16
    shape = (height + 2 * margin, width + 2 * margin)
    second = sum(sigma * gaussian_filter(rng.normal(size=shape), sigma) for sigma in (1, 2.5, 8))
    second = (second - second.min()) / (second.max() - second.min())
    y, x = np.mgrid[: shape[0], : shape[1]]
    phase = rng.uniform(0, 2 * np.pi, 4)
    turns = 2 * np.pi / max(shape)
    u = np.sin(turns * x + phase[0]) * np.cos(turns * y + phase[1])
    v = np.cos(turns * x + phase[2]) * np.sin(turns * y + phase[3])
    uv = amplitude * np.stack([u, v]) / np.hypot(u, v).max()
    first = map_coordinates(second, [y + uv[1], x + uv[0]], order=5, mode="reflect")
    shown = np.s_[margin:-margin, margin:-margin]
    return first[shown].astype(np.float32), second[shown].astype(np.float32), uv[:, *shown].astype(np.float32)


def batch(*amplitudes, **shape):
    pairs = [known(amplitude, seed, **shape) for seed, amplitude in enumerate(amplitudes)]
    return tuple(np.stack(part) for part in zip(*pairs, strict=True))


# --- truth


@pytest.mark.parametrize("amplitude", [0.25, 0.5, 1, 2, 3])
def test_known_motion_is_found_at_least_as_well_as_by_opencv(amplitude):
    first, second, true = batch(amplitude, amplitude)
    ours, theirs = tvl1_torch.flow(first, second, CPU), tvl1.flow(first, second, tvl1.Options())
    for found, other, wanted in zip(ours, theirs, true, strict=True):
        error = motion.endpoint_error(found, wanted)
        assert error <= motion.endpoint_error(other, wanted)
        assert error < 0.04 + 0.02 * amplitude


@pytest.mark.parametrize("amplitude", [0.25, 1, 3])
def test_it_agrees_with_opencv_inside_the_picture(amplitude):
    first, second, _ = batch(amplitude)
    ours, theirs = tvl1_torch.flow(first, second, CPU)[0], tvl1.flow(first, second, tvl1.Options())[0]
    inside = np.zeros(ours.shape[1:], bool)
    inside[8:-8, 8:-8] = True
    assert motion.endpoint_error(ours, theirs, inside) < 0.02


def test_options_mean_what_they_mean_to_opencv():
    first, second, _ = batch(1.0)
    inside = np.zeros(first.shape[1:], bool)
    inside[8:-8, 8:-8] = True
    default = tvl1.flow(first, second, tvl1.Options())[0]
    for change in [{"lambda_": 0.03}, {"theta": 0.1}, {"scales": 1, "warps": 1}, {"median": 1}, {"epsilon": 0.002}]:
        theirs = tvl1.flow(first, second, tvl1.Options(**change))[0]
        ours = tvl1_torch.flow(first, second, Options(device="cpu", check=1, **change))[0]
        agreed = motion.endpoint_error(ours, theirs, inside)
        assert agreed < 0.02, change
        assert agreed < motion.endpoint_error(theirs, default, inside) or "median" in change, change


def test_no_vector_of_several_pixels_at_the_border():
    first, second, true = batch(0.25, 0.25)
    off = np.hypot(*(tvl1_torch.flow(first, second, CPU) - true).swapaxes(0, 1))
    assert off.max() < 0.6


def test_pictures_of_both_orientations():
    for height, width in [(64, 140), (140, 64)]:
        first, second, true = batch(1.0, height=height, width=width)
        assert motion.endpoint_error(tvl1_torch.flow(first, second, CPU)[0], true[0]) < 0.08


# --- a batch is its pairs


@pytest.mark.parametrize(("height", "width"), [(48, 48), (37, 53)])
@pytest.mark.parametrize("threads", [1, 2])
def test_pairs_that_rest_early_and_late_do_not_see_each_other(height, width, threads):
    # at rest, slow and fast pairs leave their tile at different steps
    first, second, _ = batch(0, 3, 0.3, 1.5, 0, 2, 0.1, height=height, width=width)
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        together = tvl1_torch.flow(first, second, CPU)
    finally:
        torch.set_num_threads(before)
    for index in range(len(first)):
        alone = tvl1_torch.flow(first[index : index + 1], second[index : index + 1], CPU)[0]
        assert np.array_equal(together[index], alone), index
    order = [3, 0, 6, 1]
    assert np.array_equal(tvl1_torch.flow(first[order], second[order], CPU), together[order])


def test_pairs_leave_and_the_others_go_on(monkeypatch):
    first, second, _ = batch(0, 3, 0, 2, height=48, width=48)
    sizes = []
    step = tvl1_torch._step
    monkeypatch.setattr(tvl1_torch, "_step", lambda u, *rest: (sizes.append(len(u)), step(u, *rest)))
    tvl1_torch._tile(first, second, CPU, torch.device("cpu"))
    assert sizes[0] == 4
    assert {1, 2} <= set(sizes)


def test_steps_end_at_the_options_limits(monkeypatch):
    steps = []
    step = tvl1_torch._step
    monkeypatch.setattr(tvl1_torch, "_step", lambda *rest: (steps.append(1), step(*rest)))
    first, second, _ = batch(1.0, height=32, width=32)
    options = Options(device="cpu", epsilon=0, scales=2, warps=2, inner_iterations=7, outer_iterations=3, check=4)
    tvl1_torch.flow(first, second, options)
    assert len(steps) == 2 * 2 * 7 * 3


# --- parts


def test_no_level_is_smaller_than_sixteen_pixels():
    sizes = [level.shape[-1] for level in tvl1_torch._pyramid(torch.zeros(1, 1, 40, 30), CPU)]
    assert sizes == [30, 24, 19]
    assert [level.shape[-1] for level in tvl1_torch._pyramid(torch.zeros(1, 1, 224, 224), CPU)] == [
        224, 179, 143, 114, 91,
    ]  # fmt: skip


def test_flow_of_the_next_level_counts_its_pixels():
    grown = tvl1_torch._grown(torch.tensor([3.0, -1.0]).view(1, 2, 1, 1).expand(1, 2, 10, 20).clone(), 15, 50)
    assert grown.shape == (1, 2, 15, 50)
    assert torch.allclose(grown[:, 0], torch.tensor(7.5))
    assert torch.allclose(grown[:, 1], torch.tensor(-1.5))


def test_the_data_term_is_a_first_order_expansion():
    first, second, true = batch(0.25)
    one, two = (torch.from_numpy(255 * part)[:, None] for part in (first, second))
    source = torch.cat([two, tvl1_torch._gradient(two)], dim=1)
    data = tvl1_torch._linearised(one, source, torch.zeros(1, 2, *first.shape[1:]))
    squared = data.gradient.square().sum(dim=1)
    assert torch.allclose(data.slope * squared[:, None], data.gradient, atol=1e-3)
    uv = torch.from_numpy(true)
    expanded = (data.offset + (data.slope * uv).sum(dim=1)) * squared
    start = (two - one)[:, 0].abs().mean()
    # the true flow explains the difference, less what differences of pixels miss of a fine texture
    assert expanded[:, 4:-4, 4:-4].abs().mean() < 0.3 * start


def test_where_a_vector_leaves_the_picture_there_is_no_data_term():
    two = torch.rand(1, 1, 20, 20)
    outward = torch.zeros(1, 2, 20, 20)
    outward[:, 0] = 5
    data = tvl1_torch._linearised(two, torch.cat([two, tvl1_torch._gradient(two)], dim=1), outward)
    assert not data.gradient[..., 15:].any()
    assert data.gradient[..., :15].any()
    assert torch.isfinite(data.offset).all()


@pytest.mark.parametrize("size", [3, 5, 7])
def test_the_median_is_the_median(size):
    planes = torch.randn(2, 3, 19, 23, generator=torch.Generator().manual_seed(size))
    found = _median.median(planes, size)
    padded = functional.pad(planes, (size // 2,) * 4, mode="replicate")
    windows = functional.unfold(padded, size).view(2, 3, size * size, -1)
    assert torch.equal(found, windows.median(dim=2).values.view(planes.shape))
    if size < 7:
        theirs = [cv2.medianBlur(plane, size) for plane in planes.flatten(0, 1).numpy()]
        assert np.array_equal(found.flatten(0, 1).numpy(), np.stack(theirs))


def test_equal_numbers_have_a_median():
    planes = torch.randint(0, 3, (1, 1, 30, 30), generator=torch.Generator().manual_seed(0)).float()
    assert np.array_equal(_median.median(planes, 5)[0, 0].numpy(), cv2.medianBlur(planes[0, 0].numpy(), 5))


def test_opencvs_and_our_own_median_give_the_same_flow(monkeypatch):
    first, second, _ = batch(1.0, height=40, width=40)
    theirs = tvl1_torch.flow(first, second, CPU)
    monkeypatch.setattr(tvl1_torch, "_filter", lambda u, size: u.copy_(_median.median(u, size)))
    assert np.array_equal(tvl1_torch.flow(first, second, CPU), theirs)


# --- devices and input


def test_a_device_that_is_not_there(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    pictures = np.zeros((1, 32, 32), np.float32)
    for name in ("cuda", "cuda:1"):
        with pytest.raises(UserError, match=rf"want a device of this machine, got device = '{name}'"):
            tvl1_torch.flow(pictures, pictures, Options(device=name))
    assert tvl1_torch.flow(pictures, pictures, Options()).shape == (1, 2, 32, 32)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_a_gpu_finds_the_same_flow_and_a_batch_is_its_pairs_there_too():
    first, second, _ = batch(0, 3, 0.3, 1.5)
    there = tvl1_torch.flow(first, second, Options(device="cuda"))
    assert np.abs(there - tvl1_torch.flow(first, second, CPU)).mean() < 1e-3
    for index in range(4):
        alone = tvl1_torch.flow(first[index : index + 1], second[index : index + 1], Options(device="cuda"))[0]
        assert np.array_equal(there[index], alone)


@pytest.mark.parametrize("change", [{"device": "tpu"}, {"median": 7}, {"scale_step": 1.0}, {"check": 0}, {"tau": 0}])
def test_options_that_make_no_sense(change):
    with pytest.raises(ValueError, match=next(iter(change))):
        Options(**change)


def test_other_types_and_layouts_give_the_same_flow():
    first, second, _ = batch(1.0, height=40, width=48)
    wanted = tvl1_torch.flow(first, second, CPU)
    wide = (np.asfortranarray(part.astype(np.float64)) for part in (first, second))
    assert np.array_equal(tvl1_torch.flow(*wide, CPU), wanted)
