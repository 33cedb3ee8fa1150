"""Augmentation that knows what a channel holds.

Channel names that mean something here:

* ``u``, ``v``: signed flow; a mirrored picture has -u, a turned one has (u, v) turned with it;
* ``u255``, ``v255``: flow scaled to 0..255 by its picture's minimum and maximum; mirrored, u becomes 255 - u.
  Its two components have lost their common scale, so it cannot be turned;
* ``uu``, ``vv``: products of two flows; a mirrored picture keeps their signs, and they cannot be turned;
* ``wheel_r``, ``wheel_g``, ``wheel_b``: a picture by `motion.colours`, whose hues are directions: it is read back as
  flow, mirrored or turned as such, and drawn again, so that a motion to the left becomes one to the right in colour
  too. What is longer than the full colour stays dark;
* ``bin0of8``, ``bin1of8``, ...: how much goes in each direction, from the left over the top; mirrored, left and right
  change places, and they cannot be turned;
* ``r``, ``g``, ``b`` and ``grey``: pictures, moved, and changed in value by `jitter` alone;
* anything else is a map: moved, never changed in value.
"""

import re
from collections.abc import Mapping, Sequence
from itertools import pairwise
from math import pi

import torch
import torch.nn.functional as functional
from torch import Tensor

from fleeting.errors import UserError

_WHEEL, _PHOTO = ("wheel_r", "wheel_g", "wheel_b"), ("r", "g", "b")
_BIN = re.compile(r"bin(\d+)of(\d+)")
_UNTURNABLE = ("u255", "v255", "uu", "vv")
# the wheel of `motion.colours`: where its hues reach a corner, of 55, and the place that its angles end at
_CORNERS = (0, 15, 21, 25, 36, 49, 55)
_LAST = 54
_DARK = 0.75  # of a vector longer than the full colour, whose length is lost
_BEYOND, _EDGE = 1.01, 1.005  # the length that it is given, and from which on a vector is drawn dark
_LUMA = (0.299, 0.587, 0.114)  # ITU-R BT.601


def mirror(x: Tensor, channels: Sequence[str], chosen: Tensor) -> Tensor:
    """Left-right mirror of the chosen samples, with the sign of u.

    Args:
        x: (B, C, ..., H, W); colours of a wheel in 0..1.
        channels: C names.
        chosen: (B,) bool.

    Raises:
        UserError: the colours of a wheel do not stand together as r, g, b, or directions are an odd number of bins.
    """
    flow, names = _as_flow(x, channels)
    mirrored = flow.flip(-1)
    for index, name in enumerate(names):
        if name == "u":
            mirrored[:, index] = -mirrored[:, index]
        elif name == "u255":
            mirrored[:, index] = 255 - mirrored[:, index]
    mirrored = mirrored[:, _opposite(names)]
    return torch.where(chosen.view(-1, *[1] * (x.ndim - 1)), _as_given(mirrored, channels), x)


def rotate(x: Tensor, channels: Sequence[str], degrees: Tensor) -> Tensor:
    """Each sample turned about its centre, and flow vectors turned with it; bilinear, border repeated.

    Args:
        x: (B, C, ..., H, W); colours of a wheel in 0..1.
        channels: C names; the first u turns with the first v, and so on.
        degrees: (B,), positive turns the picture's content clockwise on the screen (y points down).

    Raises:
        UserError: the channels are flow that cannot be turned, u and v do not come in pairs, or the colours of a
            wheel do not stand together as r, g, b.
    """
    flow, names = _as_flow(x, channels)
    iu, iv = ([index for index, name in enumerate(names) if name == word] for word in ("u", "v"))
    if any(name in _UNTURNABLE or _BIN.fullmatch(name) for name in names) or len(iu) != len(iv):
        raise UserError(f"want u and v in one unit to rotate them, got {tuple(channels)}; set recipe.rotate_deg = 0")
    angle = torch.deg2rad(degrees).to(x)
    cos, sin, zero = angle.cos(), angle.sin(), torch.zeros_like(angle)
    ratio = x.shape[-1] / x.shape[-2]
    flat = flow.flatten(1, -3)
    # grid_sample looks from the output back to the input, in units of half a side
    back = torch.stack([cos, sin / ratio, zero, -sin * ratio, cos, zero], -1).view(-1, 2, 3)
    grid = functional.affine_grid(back, list(flat.shape), align_corners=False)
    moved = functional.grid_sample(flat, grid, mode="bilinear", padding_mode="border", align_corners=False)
    turned = moved.view_as(flow)
    cos, sin = (value.view(-1, *[1] * (x.ndim - 1)) for value in (cos, sin))
    u, v = turned[:, iu], turned[:, iv]  # copies
    turned[:, iu], turned[:, iv] = cos * u - sin * v, sin * u + cos * v
    return _as_given(turned, channels)


def _as_flow(x: Tensor, channels: Sequence[str]) -> tuple[Tensor, list[str]]:
    """The colours of each wheel as u, v in lengths of the full colour; all else as it is."""
    at = _triples(channels, _WHEEL)
    if 3 * len(at) != sum(name in _WHEEL for name in channels):
        raise UserError(f"want the colours of a wheel together, as {_WHEEL}, got {tuple(channels)}; mend the input")
    if not at:
        return x, list(channels)
    parts: list[Tensor] = []
    names: list[str] = []
    for index, name in enumerate(channels):
        if index in at:
            parts.append(_vectors(x[:, index : index + 3]))
            names += ["u", "v"]
        elif name not in _WHEEL:
            parts.append(x[:, index : index + 1])
            names.append(name)
    return torch.cat(parts, 1), names


def _as_given(flow: Tensor, channels: Sequence[str]) -> Tensor:
    """`_as_flow` undone."""
    at = _triples(channels, _WHEEL)
    if not at:
        return flow
    parts, place = [], 0
    for index, name in enumerate(channels):
        if index in at:
            parts.append(_colours(flow[:, place : place + 2]))
            place += 2
        elif name not in _WHEEL:
            parts.append(flow[:, place : place + 1])
            place += 1
    return torch.cat(parts, 1)


def _opposite(names: Sequence[str]) -> list[int]:
    """From where each channel comes when left and right change places: bins from their opposites, others stay."""
    found = list(range(len(names)))
    for index, name in enumerate(names):
        matched = _BIN.fullmatch(name)
        if matched is None:
            continue
        number, bins = int(matched[1]), int(matched[2])
        other = f"bin{(bins // 2 - 1 - number) % bins}of{bins}"
        if bins % 2 or other not in names:
            raise UserError(f"want an even number of bins to mirror them, got {tuple(names)}; set recipe.flip = false")
        found[index] = list(names).index(other)
    return found


def _triples(channels: Sequence[str], names: tuple[str, str, str]) -> list[int]:
    """Where three channels that follow each other have these names."""
    return [index for index in range(len(channels) - 2) if tuple(channels[index : index + 3]) == names]


def _vectors(colour: Tensor) -> Tensor:
    """(B, 3, ...) colours of a wheel in 0..1 -> (B, 2, ...) vectors, 1 the full colour; `motion.colours` undone."""
    high, low = colour.max(1).values, colour.min(1).values
    dark = high < (1 + _DARK) / 2
    length = torch.where(dark, _BEYOND, 1 - low)
    # a full hue has one colour at 1 and one at 0: how far is the third?
    scale = torch.where(dark, high, high - low)
    hue = (colour - torch.where(dark, 0.0, low)[:, None]) / torch.where(scale > 0, scale, 1.0)[:, None]
    red, green, blue = hue.clamp(0, 1).unbind(1)
    top, bottom = hue.max(1).indices, hue.min(1).indices
    place = torch.zeros_like(red)
    arcs = ((0, 2, green), (1, 2, 1 - red), (1, 0, blue), (2, 0, 1 - green), (2, 1, red), (0, 1, 1 - blue))
    for arc, (full, none, share) in enumerate(arcs):
        begin, end = _CORNERS[arc : arc + 2]
        place = torch.where((top == full) & (bottom == none), begin + share * (end - begin), place)
    # rounding must not carry a hue over the seam, to the right, where the wheel's colours jump
    angle = (place.clamp_max(_LAST - 1e-3) / _LAST * 2 - 1) * pi
    return torch.stack([-length * angle.cos(), -length * angle.sin()], 1)


def _colours(uv: Tensor) -> Tensor:
    """(B, 2, ...) vectors, 1 the full colour -> (B, 3, ...) in 0..1, as `motion.colours` but not rounded."""
    u, v = uv.unbind(1)
    length = torch.hypot(u, v)
    place = (torch.atan2(-(v + 0.0), -u) / pi + 1) / 2 * _LAST
    risen = [((place - first) / (last - first)).clamp(0, 1) for first, last in pairwise(_CORNERS)]
    hue = torch.stack([1 - risen[1] + risen[4], risen[0] - risen[3], risen[2] - risen[5]], 1)
    pale = 1 - length.clamp_max(1)[:, None] * (1 - hue)
    return torch.where(length[:, None] < _EDGE, pale, _DARK * hue)


def jitter(
    x: Mapping[str, Tensor],
    channels: Mapping[str, Sequence[str]],
    strength: Sequence[float],
    generator: torch.Generator,
) -> dict[str, Tensor]:
    """Other brightness, contrast, saturation and hue of the colours, each sample its own, in an order of the batch.

    Acts on channels r, g, b and wheel_r, wheel_g, wheel_b, and, but for saturation and hue, on grey. Flow and maps
    are left as they are: no change of colour stands for anything in them. All arrays of a sample change alike. On a
    wheel it is what published codes do to their flow pictures, and no motion of a face: a hue is a direction there,
    so that a shift of .2 turns directions by 72 degrees, and a brightness is a length.

    Args:
        x: arrays (B, C, ..., H, W); what is changed lies in 0..1 and stays there.
        channels: their names.
        strength: of brightness, contrast, saturation: factors from 1 - s to 1 + s; of hue: shifts from -s to s of
            the circle.
        generator: of all draws.
    """
    count = len(next(iter(x.values())))
    drawn = 2 * torch.rand(4, count, generator=generator) - 1
    order = [step for step in torch.randperm(4, generator=generator).tolist() if strength[step]]
    amounts = drawn * torch.tensor([float(value) for value in strength])[:, None]
    return {name: _jittered(array, channels[name], amounts.to(array), order) for name, array in x.items()}


def _jittered(x: Tensor, channels: Sequence[str], amounts: Tensor, order: Sequence[int]) -> Tensor:
    """`amounts` (4, B) applied to each colour picture and each grey one of an array."""
    found = x.clone()
    starts = [*_triples(channels, _WHEEL), *_triples(channels, _PHOTO)]
    pieces = [slice(at, at + 3) for at in starts]
    pieces += [slice(at, at + 1) for at, name in enumerate(channels) if name == "grey"]
    for piece in pieces:
        picture = x[:, piece]
        for step in order:
            amount = amounts[step].view(-1, *[1] * (x.ndim - 1))
            picture = _CHANGES[step](picture, amount)
        found[:, piece] = picture
    return found


def _brighter(picture: Tensor, amount: Tensor) -> Tensor:
    return ((1 + amount) * picture).clamp(0, 1)


def _contrasted(picture: Tensor, amount: Tensor) -> Tensor:
    """Away from the mean grey of the sample."""
    mean = _grey(picture).mean(tuple(range(1, picture.ndim)), keepdim=True)
    return (mean + (1 + amount) * (picture - mean)).clamp(0, 1)


def _saturated(picture: Tensor, amount: Tensor) -> Tensor:
    """Away from each pixel's own grey."""
    grey = _grey(picture)
    return (grey + (1 + amount) * (picture - grey)).clamp(0, 1)


def _shifted(picture: Tensor, amount: Tensor) -> Tensor:
    """Hue of the HSV cylinder; its value and saturation stay."""
    if picture.shape[1] != 3:
        return picture
    red, green, blue = picture.unbind(1)
    high, low = picture.max(1).values, picture.min(1).values
    span = high - low
    safe = torch.where(span > 0, span, 1.0)
    sixth = torch.where(
        high == red,
        (green - blue) / safe,
        torch.where(high == green, 2 + (blue - red) / safe, 4 + (red - green) / safe),
    )
    turned = sixth + 6 * amount[:, 0]
    # each colour by its distance to where it is full: red at 0, green at 2, blue at 4 of 6
    away = [torch.remainder(turned - corner + 3, 6) - 3 for corner in (0, 2, 4)]
    return torch.stack([low + span * (2 - distance.abs()).clamp(0, 1) for distance in away], 1)


_CHANGES = (_brighter, _contrasted, _saturated, _shifted)


def _grey(picture: Tensor) -> Tensor:
    """(B, 1, ...) luma of three colours; grey itself."""
    if picture.shape[1] != 3:
        return picture
    weights = torch.tensor(_LUMA, device=picture.device, dtype=picture.dtype)
    return (picture * weights.view(1, 3, *[1] * (picture.ndim - 2))).sum(1, keepdim=True)


def crop(x: Tensor, size: int, generator: torch.Generator | None) -> Tensor:
    """A square crop, the same for the batch: at a random place, or the centre without a generator.

    Args:
        x: (B, C, ..., H, W).
        size: side in pixels; larger pictures are cropped, equal ones returned.

    Raises:
        UserError: the picture is smaller than the crop.
    """
    height, width = x.shape[-2:]
    if min(height, width) < size:
        raise UserError(f"want pictures of at least {size} px to crop, got {width} x {height}; lower recipe.crop")
    room = (height - size, width - size)
    if generator is None:
        top, left = room[0] // 2, room[1] // 2
    else:
        top, left = (int(torch.randint(space + 1, (1,), generator=generator)) for space in room)
    return x[..., top : top + size, left : left + size]


def mix(
    x: dict[str, Tensor], target: Tensor, alpha: float, generator: torch.Generator
) -> tuple[dict[str, Tensor], Tensor]:
    """Mixup: every sample is blended with another of the batch, and so are the targets.

    Zhang et al., "mixup: Beyond Empirical Risk Minimization", ICLR 2018. One weight a batch, from Beta(alpha, alpha).

    Args:
        x: arrays (B, ...).
        target: (B, C), rows sum to 1.
    """
    first, second = (_gamma(alpha, generator) for _ in range(2))
    share = first / (first + second)
    order = torch.randperm(len(target), generator=generator).to(target.device)
    mixed = {name: share * array + (1 - share) * array[order] for name, array in x.items()}
    return mixed, share * target + (1 - share) * target[order]


def _gamma(alpha: float, generator: torch.Generator) -> float:
    """One draw of Gamma(alpha, 1); torch's own sampler takes no generator in public."""
    import numpy as np

    seed = int(torch.randint(2**31, (1,), generator=generator))
    return float(np.random.default_rng(seed).gamma(alpha)) + 1e-12
