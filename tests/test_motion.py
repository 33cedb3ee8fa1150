"""Flow as a quantity, against fields whose resize and strain are known."""

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from fleeting import augment, motion
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


def test_the_strain_tensor_of_a_linear_field_and_its_norm():
    uv = field(lambda x, y: 0.1 * x + 0.3 * y, lambda x, y: 0.5 * x - 0.2 * y)
    e_xx, e_yy, e_xy = motion.strain_tensor(uv)
    assert np.allclose(e_xx, 0.1)
    assert np.allclose(e_yy, -0.2)
    assert np.allclose(e_xy, 0.4)
    assert np.allclose(motion.strain(uv), np.sqrt(0.1**2 + 0.2**2 + 2 * 0.4**2))


def test_strain_as_htnet_prints_it_against_finite_differences():
    uv = field(lambda x, y: 2 + 0.3 * x + 0.1 * y, lambda x, y: 1 + 0.2 * x + 0.4 * y)
    u, v = uv
    inner = np.s_[1:-1, 1:-1]
    wanted = 2 * u * 0.3 + 2 * v * 0.4 + 0.5 * (2 * u * 0.1 + 2 * v * 0.2)
    assert np.allclose(motion.strain(uv, form="htnet")[inner], np.sqrt(wanted)[inner])


def test_strain_as_htnet_prints_it_depends_on_the_sign_of_the_flow():
    uv = field(lambda x, y: 1 + 0.1 * x, lambda x, y: 0 * y)
    assert np.allclose(motion.strain(-uv), motion.strain(uv))
    assert motion.strain(uv, form="htnet")[1:-1, 1:-1].min() > 0.4
    assert not motion.strain(motion.flip(uv), form="htnet").any()  # a negative radicand
    assert not motion.strain(uv * 0 + 5, form="htnet").any()
    assert motion.strain(uv.astype(np.float32), "htnet").dtype == np.float32


def test_no_other_form_of_strain():
    with pytest.raises(UserError, match="'standard' or 'htnet', got 'norm'"):
        motion.strain(np.zeros((2, 4, 4)), form="norm")


# --- flips, rotations and scales


def smooth(height, width):
    y, x = np.mgrid[:height, :width]
    u, v = np.sin(x / 11) * np.cos(y / 9) + 0.4, np.cos(x / 8 + 1) * np.sin(y / 12) - 0.2
    return np.stack([u, v]).astype(np.float32)


def test_flip_mirrors_and_negates_u():
    uv = smooth(9, 12)
    flipped = motion.flip(uv)
    assert np.array_equal(flipped[0], -uv[0, :, ::-1])
    assert np.array_equal(flipped[1], uv[1, :, ::-1])
    assert np.array_equal(motion.flip(flipped), uv)


def test_the_same_movements_as_those_of_augmentation():
    uv = smooth(24, 32)
    samples = torch.from_numpy(uv)[None]
    mirrored = augment.mirror(samples, ("u", "v"), torch.tensor([True]))[0]
    turned = augment.rotate(samples, ("u", "v"), torch.tensor([25.0]))[0]
    assert np.allclose(motion.flip(uv), mirrored, atol=1e-6)
    assert np.allclose(motion.rotate(uv, 25), turned, atol=1e-4)


@pytest.mark.parametrize("degrees", [90, 30, -45])
def test_rotate_turns_vectors_clockwise_on_the_screen(degrees):
    right = np.zeros((2, 15, 15), np.float32)
    right[0] = 2
    turned = motion.rotate(right, degrees)
    angle = np.deg2rad(degrees)
    assert np.allclose(turned[0], 2 * np.cos(angle), atol=1e-6)
    assert np.allclose(turned[1], 2 * np.sin(angle), atol=1e-6)


def test_a_quarter_turn_is_exact():
    uv = smooth(21, 21)
    turned = motion.rotate(uv, 90)
    # what was above the centre lies to its right
    assert np.allclose(turned[0], -np.rot90(uv[1], -1), atol=1e-5)
    assert np.allclose(turned[1], np.rot90(uv[0], -1), atol=1e-5)
    assert turned.dtype == np.float32


def test_an_expansion_looks_the_same_turned_and_scaled():
    y, x = np.mgrid[:31, :31] - 15
    uv = 0.1 * np.stack([x, y]).astype(np.float64)
    inner = np.s_[:, 8:-8, 8:-8]
    assert np.allclose(motion.rotate(uv, 37)[inner], uv[inner])
    assert np.allclose(motion.scale(uv, 1.3)[inner], uv[inner])


def test_scale_spreads_places_and_lengthens_vectors():
    y, x = np.mgrid[:41, :41] - 20
    uv = np.stack([0.01 * x**2, 0 * y]).astype(np.float64)
    found = motion.scale(uv, 2)
    assert np.allclose(found[0], 2 * 0.01 * (x / 2) ** 2, atol=0.01)
    assert np.array_equal(motion.scale(uv, 1), uv)
    with pytest.raises(UserError, match="want a positive factor"):
        motion.scale(uv, 0)


def test_strain_turns_with_the_picture():
    uv = smooth(64, 64).astype(np.float64)
    inner = np.s_[20:-20, 20:-20]
    first = motion.rotate(np.stack([motion.strain(uv), np.zeros((64, 64))]), 30)
    turned = np.hypot(*first)
    assert np.allclose(motion.strain(motion.rotate(uv, 30))[inner], turned[inner], atol=0.01)


# --- warping and error


def test_warp_undoes_a_known_motion():
    y, x = np.mgrid[:40, :50].astype(np.float64)
    second = np.sin(x / 6) + np.cos(y / 5)
    uv = smooth(40, 50)
    first = np.sin((x + uv[0]) / 6) + np.cos((y + uv[1]) / 5)
    inner = np.s_[3:-3, 3:-3]
    assert np.abs(motion.warp(second, uv) - first)[inner].max() < 0.01
    assert np.abs(second - first)[inner].max() > 0.2


def test_warp_by_whole_pixels_is_exact_and_keeps_colours_and_type():
    picture = np.random.default_rng(0).integers(0, 256, size=(12, 15, 3), dtype=np.uint8)
    uv = np.zeros((2, 12, 15), np.float32)
    uv[0], uv[1] = 2, -1
    warped = motion.warp(picture, uv)
    assert (warped.shape, warped.dtype) == (picture.shape, np.uint8)
    assert np.array_equal(warped[1:, :-2], picture[:-1, 2:])
    assert np.array_equal(warped[:, -1], motion.warp(picture, uv + np.float32([[[9]], [[0]]]))[:, -1])  # border
    half = motion.warp(np.array([[0.0, 1.0]]), np.full((2, 1, 2), 0.25))
    assert np.allclose(half, [[0.25, 1.0]])


def test_warp_wants_one_size():
    with pytest.raises(UserError, match="want picture and flow of one size"):
        motion.warp(np.zeros((5, 6)), np.zeros((2, 6, 5)))


def test_endpoint_error():
    true = np.zeros((2, 4, 4), np.float32)
    found = true.copy()
    found[:, 0, 0] = 3, 4
    mask = np.zeros((4, 4), bool)
    mask[0] = True
    assert motion.endpoint_error(found, true) == pytest.approx(5 / 16)
    assert motion.endpoint_error(found, true, mask) == pytest.approx(5 / 4)
    with pytest.raises(UserError, match="a mask without any"):
        motion.endpoint_error(found, true, ~np.ones((4, 4), bool))
    for wrong, other in [(true[:, :2], None), (true, np.ones((3, 4), bool))]:
        with pytest.raises(UserError, match="of one size"):
            motion.endpoint_error(found, wrong, other)


# --- colours


@pytest.mark.parametrize(
    ("u", "v", "wanted"),
    [
        (1, 0, (255, 0, 0)),
        (1, -0.0, (255, 0, 0)),
        (-1, 0, (0, 209, 255)),  # between cyan and blue
        (0, 1, (255, 229, 0)),
        (0, -1, (88, 0, 255)),
        (0, 0, (255, 255, 255)),
        (2, 0, (191, 0, 0)),  # longer than full
    ],
)
def test_directions_have_the_hues_of_the_middlebury_wheel(u, v, wanted):
    uv = np.array([u, v], np.float32)[:, None, None]
    assert np.abs(motion.colours(uv, 1.0)[0, 0].astype(int) - wanted).max() <= 1


def test_a_short_vector_is_a_pale_one():
    uv = np.zeros((2, 1, 3), np.float32)
    uv[0, 0] = 0.25, 0.5, 1
    found = motion.colours(uv)[0].astype(int)
    assert np.allclose(found, [(255, 191, 191), (255, 127, 127), (255, 0, 0)], atol=1)
    assert np.array_equal(motion.colours(uv), motion.colours(4 * uv))
    assert np.array_equal(motion.colours(uv, 1.0), motion.colours(uv))


def test_no_motion_at_all_is_white():
    assert (motion.colours(np.zeros((2, 3, 4), np.float32)) == 255).all()
    assert motion.colours(np.zeros((2, 3, 4), np.float32)).shape == (3, 4, 3)


def test_hues_turn_without_a_jump():
    angles = np.linspace(-np.pi, np.pi, 721)
    ring = motion.colours(np.stack([np.cos(angles), np.sin(angles)])[:, None], 1.0)[0].astype(int)
    steps = np.abs(np.diff(ring, axis=0)).max(axis=1)
    # half a degree; the one larger step, at the seam to the right, is between two of the wheel's 55 hues
    assert np.sort(steps)[-2] <= 10
    assert steps.max() <= 255 / 6 + 3
    assert len(np.unique(ring, axis=0)) > 300


def test_the_legend_has_each_colour_where_its_vector_points():
    found = motion.wheel(101)
    assert (found.shape, found.dtype) == ((101, 101, 3), np.uint8)
    assert (found[0, 0] == 255).all()
    assert (found[50, 50] >= 250).all()
    for x, y in [(95, 50), (5, 50), (50, 95), (50, 5), (70, 20)]:
        uv = np.array([(x + 0.5) / 50.5 - 1, (y + 0.5) / 50.5 - 1])[:, None, None]
        assert np.array_equal(found[y, x], motion.colours(uv, 1.0)[0, 0])


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
