"""Flow as a quantity, against fields whose resize and strain are known."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from fleeting import motion
from fleeting.errors import UserError
from fleeting.records import FlowFile


def points(height, width):
    """Pixel centres (x, y), in pixels from the left and the top edge of the picture."""
    y, x = np.mgrid[0:height, 0:width] + 0.5
    return x, y


def linear(height, width, full):
    """A linear flow of a picture, in pixels of this size; `full` = (height, width) where its numbers hold."""
    x, y = points(height, width)
    x, y = x * full[1] / width, y * full[0] / height
    u, v = 0.5 + 0.02 * x - 0.01 * y, -0.3 + 0.03 * x + 0.04 * y
    return np.stack([u * width / full[1], v * height / full[0]]).astype(np.float32)


# --- resize


@pytest.mark.parametrize(("height", "width"), [(28, 28), (32, 48), (16, 96), (64, 24)])
def test_a_shrunken_flow_has_the_vectors_of_the_small_picture(height, width):
    small = motion.resize(linear(64, 96, (64, 96)), height, width)
    assert (small.shape, small.dtype) == ((2, height, width), np.float32)
    assert np.allclose(small, linear(height, width, (64, 96)), atol=2e-3)


def test_a_grown_flow_has_the_vectors_of_the_large_picture():
    large = motion.resize(linear(32, 48, (32, 48)), 64, 144)
    wanted = linear(64, 144, (32, 48))
    assert np.allclose(large[:, 4:-4, 4:-4], wanted[:, 4:-4, 4:-4], atol=1e-3)


def test_resize_turns_the_vector_where_the_picture_is_squeezed():
    flow = np.stack([np.full((40, 40), 3.0), np.full((40, 40), 3.0)]).astype(np.float32)
    small = motion.resize(flow, 10, 20)
    assert np.allclose(small[0], 1.5)
    assert np.allclose(small[1], 0.75)


def test_the_same_size_changes_nothing_and_nothing_is_modified():
    flow = linear(20, 30, (20, 30))
    before = flow.copy()
    same = motion.resize(flow, 20, 30)
    assert np.array_equal(same, flow)
    same += 1
    motion.resize(flow, 10, 10)
    assert np.array_equal(flow, before)


def test_a_shrunken_map_keeps_its_mean():
    values = np.random.default_rng(0).normal(size=(56, 84)).astype(np.float32)
    small = motion.resize_map(values, 28, 28)
    assert small.mean() == pytest.approx(values.mean(), abs=1e-6)
    assert np.allclose(small[0, 0], values[:2, :3].mean(), atol=1e-6)


# --- strain


def field(u, v, side=16):
    x, y = points(side, side)
    return np.stack([u(x, y), v(x, y)]).astype(np.float64)


@pytest.mark.parametrize(
    ("u", "v", "wanted"),
    [
        (lambda x, y: 2 + 0 * x, lambda x, y: -3 + 0 * x, 0),  # translation
        (lambda x, y: -0.1 * y, lambda x, y: 0.1 * x, 0),  # small rotation
        (lambda x, y: 0.1 * x, lambda x, y: 0 * y, 0.1),  # stretch in x
        (lambda x, y: 0 * x, lambda x, y: -0.2 * y, 0.2),  # squeeze in y
        (lambda x, y: 0.1 * x, lambda x, y: 0.1 * y, 0.1 * np.sqrt(2)),  # expansion
        (lambda x, y: 0.2 * y, lambda x, y: 0 * x, 0.2 / np.sqrt(2)),  # simple shear
        (lambda x, y: 0.1 * y, lambda x, y: 0.1 * x, 0.1 * np.sqrt(2)),  # pure shear
        (lambda x, y: 3 + 0.3 * x - 0.1 * y, lambda x, y: 0.1 * x, 0.3),  # stretch and rotation and translation
    ],
)
def test_strain_of_known_fields(u, v, wanted):
    assert np.allclose(motion.strain(field(u, v)), wanted, atol=1e-12)


def test_strain_does_not_depend_on_the_axes():
    stretch = 0.1 * np.array([[1.0, 0.0], [0.0, -0.5]])
    angle = np.deg2rad(33)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    turned = turn @ stretch @ turn.T
    first, second = (motion.strain(np.einsum("ij,jyx->iyx", m, np.stack(points(16, 16)))) for m in (stretch, turned))
    assert np.allclose(first, second, atol=1e-12)


def test_strain_and_magnitude_keep_shape_and_type():
    uv = linear(9, 7, (9, 7))
    for found in (motion.strain(uv), motion.magnitude(uv)):
        assert (found.shape, found.dtype) == ((9, 7), np.float32)
        assert found.min() >= 0


def test_magnitude():
    uv = np.zeros((2, 2, 2), np.float32)
    uv[:, 0, 1] = 3, -4
    assert motion.magnitude(uv).tolist() == [[0, 5], [0, 0]]


# --- published pictures


def picture(path, channels, shape=(4, 5, 3), dtype=np.uint8):
    values = np.arange(np.prod(shape)).reshape(shape).astype(dtype)
    cv2.imwrite(str(path), values)
    return values, FlowFile(path, (0, 1), channels)


@pytest.mark.parametrize("channels", [("strain", "v", "u"), ("u", "v", "strain"), ("v", "strain", "u")])
def test_channels_of_a_published_picture(tmp_path, channels):
    values, file = picture(tmp_path / "a.png", channels)
    found = motion.read(file)
    by_name = {"u": found.uv[0], "v": found.uv[1], "strain": found.strain}
    for index, name in enumerate(channels):
        assert np.allclose(by_name[name], values[..., index] / 255)
    assert (found.unit, found.uv.dtype, found.strain.dtype) == ("minmax", np.float32, np.float32)


def test_a_picture_beside_a_blank_in_its_name(tmp_path):
    values, file = picture(tmp_path / "006_006_1_2 é .png", ("strain", "v", "u"))
    assert np.allclose(motion.read(file).strain, values[..., 0] / 255)


def test_pictures_that_are_none(tmp_path):
    missing = FlowFile(tmp_path / "absent.png", (0, 1), ("strain", "v", "u"))
    with pytest.raises(UserError, match=r"absent\.png: want a flow picture, found no file"):
        motion.read(missing)
    for number, (shape, dtype) in enumerate([((4, 5), np.uint8), ((4, 5, 4), np.uint8), ((4, 5, 3), np.uint16)]):
        _, file = picture(tmp_path / f"{number}.png", ("strain", "v", "u"), shape, dtype)
        with pytest.raises(UserError, match=rf"{number}\.png: want .* got \(4, 5.*{np.dtype(dtype)}"):
            motion.read(file)
    for number, data in enumerate([b"", b"not a picture"]):
        path = Path(tmp_path / f"text{number}.png")
        path.write_bytes(data)
        with pytest.raises(UserError, match="got a truncated or unreadable file; fetch the data again"):
            motion.read(FlowFile(path, (0, 1), ("strain", "v", "u")))
