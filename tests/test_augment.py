"""Augmentation against the geometry: pictures and the vectors in them move together."""

import colorsys

import cv2
import numpy as np
import pytest
import torch

from fleeting import augment, motion
from fleeting.errors import UserError

SIGNED = ("u", "v", "strain")
SCALED = ("u255", "v255", "strain255")


def batch(count=4, channels=3, height=6, width=8, seed=0):
    return torch.rand(count, channels, height, width, generator=torch.Generator().manual_seed(seed)) * 255


def every(x):
    return torch.ones(len(x), dtype=torch.bool)


# --- mirror


def test_mirror_turns_the_picture_and_the_sign_of_u():
    x = batch()
    mirrored = augment.mirror(x, SIGNED, every(x))
    assert torch.equal(mirrored[:, 0], -x[:, 0].flip(-1))
    assert torch.equal(mirrored[:, 1:], x[:, 1:].flip(-1))


def test_mirror_of_scaled_flow():
    x = batch()
    mirrored = augment.mirror(x, SCALED, every(x))
    assert torch.equal(mirrored[:, 0], 255 - x[:, 0].flip(-1))
    assert torch.equal(mirrored[:, 1:], x[:, 1:].flip(-1))


def test_scaled_flow_mirrors_like_the_flow_it_was_made_from():
    flow = batch() - 100

    def scaled(x):
        low, high = x.amin((2, 3), keepdim=True), x.amax((2, 3), keepdim=True)
        return 255 * (x - low) / (high - low)

    first = augment.mirror(scaled(flow), SCALED, every(flow))
    torch.testing.assert_close(first, scaled(augment.mirror(flow, SIGNED, every(flow))), rtol=0, atol=1e-3)


@pytest.mark.parametrize("channels", [SIGNED, SCALED, ("v", "u", "grey"), ("r", "g", "b")])
def test_mirror_twice_is_nothing(channels):
    x = batch().round()
    twice = augment.mirror(augment.mirror(x, channels, every(x)), channels, every(x))
    assert torch.equal(twice, x)


def test_mirror_only_the_chosen_and_leaves_its_input():
    x = batch()
    before = x.clone()
    chosen = torch.tensor([True, False, False, True])
    mirrored = augment.mirror(x, SIGNED, chosen)
    assert torch.equal(x, before)
    assert torch.equal(mirrored[1:3], x[1:3])
    assert torch.equal(mirrored[chosen], augment.mirror(x, SIGNED, every(x))[chosen])


def test_mirror_of_a_stack_of_frames():
    x = torch.rand(2, 3, 5, 6, 8)
    mirrored = augment.mirror(x, SIGNED, every(x))
    assert torch.equal(mirrored[:, 0], -x[:, 0].flip(-1))
    assert torch.equal(mirrored[:, 1], x[:, 1].flip(-1))


# --- rotate


def grid(height, width):
    """Pixel centres from the centre of the picture: x to the right, y down."""
    y = torch.arange(height) - (height - 1) / 2
    x = torch.arange(width) - (width - 1) / 2
    return x.expand(height, width), y[:, None].expand(height, width)


def inside(height, width, radius):
    x, y = grid(height, width)
    return x**2 + y**2 < radius**2


def test_rotation_by_a_quarter_is_clockwise_on_the_screen():
    picture = torch.zeros(1, 1, 5, 5)
    picture[0, 0, 0, 2] = 1  # top
    turned = augment.rotate(picture, ("grey",), torch.tensor([90.0]))
    assert turned[0, 0, 2, 4] == pytest.approx(1, abs=1e-5)  # right
    assert turned.sum() == pytest.approx(1, abs=1e-4)


def test_a_point_goes_where_its_angle_says_also_in_an_oblong_picture():
    height, width, degrees = 61, 101, 30.0
    x, y = grid(height, width)
    at = torch.tensor([22.0, -8.0])
    spot = torch.exp(-((x - at[0]) ** 2 + (y - at[1]) ** 2) / 8)[None, None]
    turned = augment.rotate(spot, ("grey",), torch.tensor([degrees]))[0, 0]
    angle = torch.deg2rad(torch.tensor(degrees))
    wanted = (angle.cos() * at[0] - angle.sin() * at[1], angle.sin() * at[0] + angle.cos() * at[1])
    found = ((turned * x).sum() / turned.sum(), (turned * y).sum() / turned.sum())
    torch.testing.assert_close(found, wanted, rtol=0, atol=0.05)


@pytest.mark.parametrize("degrees", [0.0, 8.0, -45.0, 90.0, 180.0])
def test_the_vectors_of_a_uniform_flow_turn_with_the_picture(degrees):
    x = torch.zeros(1, 3, 21, 31)
    x[:, 0], x[:, 1], x[:, 2] = 2.0, 0.5, 7.0
    turned = augment.rotate(x, SIGNED, torch.tensor([degrees]))
    angle = torch.deg2rad(torch.tensor(degrees))
    wanted = (2 * angle.cos() - 0.5 * angle.sin(), 2 * angle.sin() + 0.5 * angle.cos(), torch.tensor(7.0))
    for channel, value in zip(turned[0], wanted, strict=True):
        torch.testing.assert_close(channel, value.expand_as(channel), rtol=0, atol=1e-5)


@pytest.mark.parametrize("degrees", [15.0, -60.0, 120.0])
def test_the_flow_of_a_rotation_or_an_expansion_looks_the_same_when_turned(degrees):
    x, y = grid(33, 33)
    for flow in (torch.stack([-0.1 * y, 0.1 * x]), torch.stack([0.1 * x, 0.1 * y])):
        turned = augment.rotate(flow[None], ("u", "v"), torch.tensor([degrees]))[0]
        near = inside(33, 33, 15)
        torch.testing.assert_close(turned[:, near], flow[:, near], rtol=0, atol=1e-4)


def test_a_shear_turned_is_the_turned_shear():
    x, y = grid(41, 41)
    turned = augment.rotate(torch.stack([0.1 * y, torch.zeros_like(x)])[None], ("u", "v"), torch.tensor([90.0]))[0]
    near = inside(41, 41, 19)
    # 90 degrees clockwise: (x, y) comes from (y, -x), its vector (u, 0) becomes (0, u) with u = -0.1 x
    torch.testing.assert_close(turned[1][near], (-0.1 * x)[near], rtol=0, atol=1e-4)
    assert turned[0][near].abs().max() < 1e-4


def test_each_sample_turns_by_its_own_angle_and_order_of_channels_does_not_matter():
    x = batch(2, 2, 9, 9)
    degrees = torch.tensor([0.0, 70.0])
    turned = augment.rotate(x, ("u", "v"), degrees)
    torch.testing.assert_close(turned[0], x[0], rtol=0, atol=1e-3)
    torch.testing.assert_close(turned[1:], augment.rotate(x[1:], ("u", "v"), degrees[1:]))
    torch.testing.assert_close(augment.rotate(x.flip(1), ("v", "u"), degrees), turned.flip(1))


@pytest.mark.parametrize("channels", [SCALED, ("u", "grey", "strain"), ("v", "grey", "strain"), ("r", "v255", "b")])
def test_what_cannot_be_turned(channels):
    with pytest.raises(UserError, match=r"want u and v in one unit to rotate them.*set recipe\.rotate_deg = 0"):
        augment.rotate(batch(), channels, torch.zeros(4))


# --- the colour wheel

WHEEL = ("wheel_r", "wheel_g", "wheel_b")
FULL = 2.0


def smooth(side=96, longest=1.8, seed=0):
    """(2, side, side) flow without edges."""
    rng = np.random.default_rng(seed)
    uv = np.stack([cv2.GaussianBlur(rng.normal(size=(side, side)), (0, 0), 8) for _ in range(2)])
    return (longest * uv / np.hypot(*uv).max()).astype(np.float32)


def drawn(uv, full=FULL):
    """A batch of one picture in 0..1, as training feeds it."""
    return torch.from_numpy(np.moveaxis(motion.colours(uv, full), -1, 0).copy())[None].float() / 255


def steps(found, wanted):
    """How far apart, in steps of an 8-bit picture: the mean, and the share of places that are more than 10 apart.

    Places near the right may land on the other side of the seam, where the wheel's own colours jump.
    """
    away = 255 * (found - wanted).abs()
    return float(away.mean()), float((away.amax(1) > 10).float().mean())


@pytest.mark.parametrize("degrees", range(0, 360, 5))
def test_every_direction_is_read_as_it_was_drawn(degrees):
    angle = np.deg2rad(degrees + 0.5)
    for length in (0.3, 0.7, 1.0):
        uv = (length * np.array([np.cos(angle), np.sin(angle)], np.float32))[:, None, None]
        found = augment._vectors(drawn(uv, 1.0))[0, :, 0, 0].numpy()
        assert np.hypot(*(found - uv[:, 0, 0])) < 0.02
    uv = np.array([np.cos(angle), np.sin(angle)], np.float32)[:, None, None]
    exact = augment._colours(torch.from_numpy(uv)[None])
    assert (255 * (exact - drawn(uv, 1.0)).abs()).max() <= 1.001  # which rounds down


def test_a_mirrored_picture_is_that_of_the_mirrored_flow():
    uv = smooth()
    mean, away = steps(augment.mirror(drawn(uv), WHEEL, every(drawn(uv))), drawn(motion.flip(uv)))
    assert mean < 0.5
    assert away < 0.002
    plain = steps(augment.mirror(drawn(uv), ("r", "g", "b"), every(drawn(uv))), drawn(motion.flip(uv)))
    assert plain[0] > 20  # hues left alone show another motion


@pytest.mark.parametrize("degrees", [8.0, -45.0, 90.0, 180.0])
def test_a_turned_picture_is_that_of_the_turned_flow(degrees):
    uv = smooth()
    turned = augment.rotate(drawn(uv), WHEEL, torch.tensor([degrees]))
    middle = (..., slice(20, -20), slice(20, -20))
    mean, away = steps(turned[middle], drawn(motion.rotate(uv, degrees))[middle])
    assert mean < 0.6
    assert away < 0.003


@pytest.mark.parametrize("change", [lambda x: augment.mirror(augment.mirror(x, WHEEL, every(x)), WHEEL, every(x)),
                                    lambda x: augment.rotate(x, WHEEL, torch.zeros(len(x)))])  # fmt: skip
def test_twice_mirrored_and_not_turned_are_the_picture_that_was(change):
    x = drawn(smooth(longest=3.0))  # some of it dark: longer than the full colour
    mean, away = steps(change(x), x)
    assert mean < 0.1
    assert away < 0.003


def test_no_motion_stays_white_and_what_is_too_long_stays_dark():
    white = torch.ones(1, 3, 6, 8)
    assert torch.equal(augment.mirror(white, WHEEL, every(white)), white)
    torch.testing.assert_close(augment.rotate(white, WHEEL, torch.tensor([30.0])), white)
    left = np.full((2, 6, 8), -5, np.float32)
    right = augment.mirror(drawn(left), WHEEL, every(white))
    wanted = drawn(motion.flip(left))
    assert wanted.max() < 0.76
    assert 255 * (right - wanted).abs().max() <= 2.5


def test_two_wheels_and_other_channels_keep_their_places():
    uv, other = smooth(), smooth(seed=1)
    strain = torch.rand(1, 1, 96, 96)
    x = torch.cat([drawn(uv), strain, drawn(other)], 1)
    mirrored = augment.mirror(x, (*WHEEL, "strain", *WHEEL), every(x))
    assert torch.equal(mirrored[:, 3:4], strain.flip(-1))
    for part, flow in ((mirrored[:, :3], uv), (mirrored[:, 4:], other)):
        assert steps(part, drawn(motion.flip(flow)))[0] < 0.5


@pytest.mark.parametrize("channels", [("wheel_g", "wheel_r", "wheel_b"), ("wheel_r", "wheel_g", "strain")])
def test_a_wheel_in_pieces_is_refused(channels):
    x = torch.rand(2, 3, 6, 8)
    for change in (lambda: augment.mirror(x, channels, every(x)), lambda: augment.rotate(x, channels, torch.zeros(2))):
        with pytest.raises(UserError, match="want the colours of a wheel together"):
            change()


# --- jitter

RGB = ("r", "g", "b")


def jittered(x, strength, channels=RGB, seed=0):
    return augment.jitter({"x": x}, {"x": channels}, strength, torch.Generator().manual_seed(seed))["x"]


def photo(count=4, seed=0):
    return torch.rand(count, 3, 6, 8, generator=torch.Generator().manual_seed(seed))


def test_a_jitter_of_nothing_is_nothing():
    x = photo()
    assert torch.equal(jittered(x, (0, 0, 0, 0)), x)


def test_grey_pictures_have_neither_saturation_nor_hue():
    x = photo()[:, :1].expand(-1, 3, -1, -1).contiguous()
    torch.testing.assert_close(jittered(x, (0, 0, 0.5, 0.5)), x)
    changed = jittered(x, (0.4, 0.4, 0.4, 0.4))
    torch.testing.assert_close(changed[:, 0], changed[:, 2], rtol=0, atol=1e-6)
    assert not torch.allclose(changed, x)
    assert torch.equal(jittered(x[:, :1], (0, 0, 0.5, 0.5), ("grey",)), x[:, :1])
    assert not torch.equal(jittered(x[:, :1], (0.2, 0, 0, 0), ("grey",)), x[:, :1])


def test_brightness_is_one_factor_a_sample_within_its_bounds():
    x = 0.1 + 0.5 * photo(count=64)
    ratio = jittered(x, (0.3, 0, 0, 0)) / x
    assert float((ratio.flatten(1).amax(1) - ratio.flatten(1).amin(1)).max()) < 1e-5
    factors = ratio[:, 0, 0, 0]
    assert 0.7 <= factors.min() < 0.75
    assert 1.25 < factors.max() <= 1.3


def test_contrast_keeps_the_mean_grey_and_saturation_each_pixels_grey():
    x = 0.4 + 0.2 * photo()
    luma = torch.tensor([0.299, 0.587, 0.114]).view(1, 3, 1, 1)
    contrast, saturation = jittered(x, (0, 0.2, 0, 0)), jittered(x, (0, 0, 0.2, 0))
    torch.testing.assert_close((contrast * luma).sum(1).mean((1, 2)), (x * luma).sum(1).mean((1, 2)))
    assert not torch.allclose((contrast * luma).sum(1), (x * luma).sum(1), atol=1e-3)
    torch.testing.assert_close((saturation * luma).sum(1), (x * luma).sum(1))
    assert not torch.allclose(saturation, x, atol=1e-3)


def test_hue_is_turned_as_the_standard_library_turns_it():
    x = photo(count=3)
    changed = jittered(x, (0, 0, 0, 0.5), seed=4)
    for before, after in zip(x, changed, strict=True):
        pairs = zip(before.flatten(1).T.tolist(), after.flatten(1).T.tolist(), strict=True)
        hsv = [(colorsys.rgb_to_hsv(*one), colorsys.rgb_to_hsv(*two)) for one, two in pairs]
        assert np.allclose([a[1:] for a, _ in hsv], [b[1:] for _, b in hsv], atol=1e-5)
        shifts = np.array([(b[0] - a[0] + 0.5) % 1 - 0.5 for a, b in hsv])
        assert np.ptp(shifts) < 1e-4
        assert abs(shifts.mean()) > 0.01


def test_colours_stay_in_range_and_flow_and_maps_as_they_were():
    names = ("u", "v", *WHEEL, "strain", "u255", *RGB)
    x = torch.rand(8, len(names), 6, 8)
    changed = jittered(x, (1, 1, 1, 0.5), names)
    still = [index for index, name in enumerate(names) if name not in (*WHEEL, *RGB)]
    assert torch.equal(changed[:, still], x[:, still])
    assert not torch.equal(changed, x)
    assert 0 <= changed.min() <= changed.max() <= 1


def test_arrays_of_a_sample_and_the_frames_of_a_film_change_alike():
    x = photo(2)
    film = torch.stack([x, x], 2)
    arrays = augment.jitter(
        {"a": x, "b": x, "film": film},
        dict.fromkeys(("a", "b", "film"), RGB), (0.2, 0.2, 0.2, 0.2), torch.Generator().manual_seed(1)
    )  # fmt: skip
    assert torch.equal(arrays["a"], arrays["b"])
    torch.testing.assert_close(arrays["film"][:, :, 0], arrays["a"])
    torch.testing.assert_close(arrays["film"][:, :, 1], arrays["a"])


def test_one_seed_one_jitter_and_the_given_is_left():
    x = photo()
    before = x.clone()
    strength = (0.2, 0.2, 0.2, 0.2)
    assert torch.equal(jittered(x, strength), jittered(x, strength))
    assert not torch.equal(jittered(x, strength), jittered(x, strength, seed=1))
    assert torch.equal(x, before)


# --- crop


def test_crop_of_the_centre():
    x = torch.arange(48.0).view(1, 1, 6, 8)
    assert torch.equal(augment.crop(x, 4, None), x[..., 1:5, 2:6])
    assert torch.equal(augment.crop(x[..., :6], 6, None), x[..., :6])
    assert augment.crop(torch.rand(2, 3, 5, 9, 9), 4, None).shape == (2, 3, 5, 4, 4)


def test_crop_at_a_random_place():
    x = torch.arange(48.0).view(1, 1, 6, 8)
    generator = torch.Generator().manual_seed(0)
    corners = {int(augment.crop(x, 4, generator)[0, 0, 0, 0]) for _ in range(200)}
    assert corners == {8 * row + column for row in range(3) for column in range(5)}
    one, two = (augment.crop(x, 4, torch.Generator().manual_seed(7)) for _ in range(2))
    assert torch.equal(one, two)


def test_crop_larger_than_the_picture():
    with pytest.raises(UserError, match=r"want pictures of at least 7 px to crop, got 8 x 6; lower recipe\.crop"):
        augment.crop(batch(), 7, None)


# --- mixup


@pytest.mark.parametrize("alpha", [0.1, 1.0, 8.0])
def test_mix_blends_pictures_and_targets_alike(alpha):
    target = torch.eye(4)
    x = {"a": target.clone().view(4, 1, 2, 2), "b": 10 * target}
    mixed, blended = augment.mix(x, target, alpha, torch.Generator().manual_seed(3))
    torch.testing.assert_close(blended.sum(1), torch.ones(4))
    torch.testing.assert_close(mixed["a"].view(4, 4), blended)
    torch.testing.assert_close(mixed["b"], 10 * blended)
    assert blended.min() >= 0


def test_mix_is_reproducible():
    target = torch.nn.functional.one_hot(torch.arange(6) % 3).float()
    drawn = [augment.mix({"x": batch(6)}, target, 0.4, torch.Generator().manual_seed(seed))[1] for seed in (1, 1, 2)]
    assert torch.equal(drawn[0], drawn[1])
    assert not torch.equal(drawn[0], drawn[2])


def test_the_share_follows_its_distribution():
    generator, target = torch.Generator().manual_seed(0), torch.eye(2)
    shares = []
    while len(shares) < 400:
        blended = augment.mix({}, target, 0.5, generator)[1]
        if not torch.equal(blended, target):  # else everyone was mixed with itself
            shares.append(float(blended[0, 0]))
    drawn = torch.tensor(shares)
    assert drawn.mean() == pytest.approx(0.5, abs=0.06)
    assert drawn.var() == pytest.approx(0.125, abs=0.02)  # of Beta(.5, .5)
