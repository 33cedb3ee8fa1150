"""Augmentation that knows what a channel holds.

Channel names that mean something here:

* ``u``, ``v``: signed flow; a mirrored picture has -u, a turned one has (u, v) turned with it;
* ``u255``, ``v255``: flow scaled to 0..255 by its picture's minimum and maximum; mirrored, u becomes 255 - u.
  Its two components have lost their common scale, so it cannot be turned;
* ``uu``, ``vv``: products of two flows; a mirrored picture keeps their signs, and they cannot be turned;
* ``wheel_r``, ``wheel_g``, ``wheel_b``: a colour-wheel picture of flow, whose hues are directions: it can be neither
  mirrored nor turned;
* anything else is a picture: moved, never changed in value.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as functional
from torch import Tensor

from fleeting.errors import UserError

_WHEEL = ("wheel_r", "wheel_g", "wheel_b")
_UNTURNABLE = ("u255", "v255", "uu", "vv", *_WHEEL)


def mirror(x: Tensor, channels: Sequence[str], chosen: Tensor) -> Tensor:
    """Left-right mirror of the chosen samples, with the sign of u.

    Args:
        x: (B, C, ..., H, W).
        channels: C names.
        chosen: (B,) bool.

    Raises:
        UserError: the channels are colours that stand for directions.
    """
    if any(name in _WHEEL for name in channels):
        raise UserError(
            f"want channels that can be mirrored, got {tuple(channels)} whose hues are directions; set "
            "input.encoding = 'uv', input.augment_as = 'picture' or recipe.flip = false"
        )
    mirrored = x.flip(-1)
    for index, name in enumerate(channels):
        if name == "u":
            mirrored[:, index] = -mirrored[:, index]
        elif name == "u255":
            mirrored[:, index] = 255 - mirrored[:, index]
    return torch.where(chosen.view(-1, *[1] * (x.ndim - 1)), mirrored, x)


def rotate(x: Tensor, channels: Sequence[str], degrees: Tensor) -> Tensor:
    """Each sample turned about its centre, and flow vectors turned with it; bilinear, border repeated.

    Args:
        x: (B, C, ..., H, W).
        channels: C names; the first u turns with the first v, and so on.
        degrees: (B,), positive turns the picture's content clockwise on the screen (y points down).

    Raises:
        UserError: the channels are flow that cannot be turned, or u and v do not come in pairs.
    """
    iu, iv = ([index for index, name in enumerate(channels) if name == word] for word in ("u", "v"))
    if any(name in _UNTURNABLE for name in channels) or len(iu) != len(iv):
        raise UserError(f"want u and v in one unit to rotate them, got {tuple(channels)}; set recipe.rotate_deg = 0")
    angle = torch.deg2rad(degrees).to(x)
    cos, sin, zero = angle.cos(), angle.sin(), torch.zeros_like(angle)
    ratio = x.shape[-1] / x.shape[-2]
    flat = x.flatten(1, -3)
    # grid_sample looks from the output back to the input, in units of half a side
    back = torch.stack([cos, sin / ratio, zero, -sin * ratio, cos, zero], -1).view(-1, 2, 3)
    grid = functional.affine_grid(back, list(flat.shape), align_corners=False)
    turned = functional.grid_sample(flat, grid, mode="bilinear", padding_mode="border", align_corners=False).view_as(x)
    cos, sin = (value.view(-1, *[1] * (x.ndim - 1)) for value in (cos, sin))
    u, v = turned[:, iu], turned[:, iv]  # copies
    turned[:, iu], turned[:, iv] = cos * u - sin * v, sin * u + cos * v
    return turned


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
