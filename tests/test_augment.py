"""Augmentation against the geometry: pictures and the vectors in them move together."""

import pytest
import torch

from fleeting import augment
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
