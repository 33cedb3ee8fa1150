"""Flow as a quantity: changes of size, side and angle that keep vectors true, strain, warping, error, the colour wheel.

Flow is (2, h, w) = (u right, v down) in pixels. `augment` mirrors and turns batches of torch samples by the names of
their channels; here are the same movements of one field in numpy.
"""

from typing import Literal

import cv2
import numpy as np

from fleeting.errors import UserError
from fleeting.records import Array, FlowField, FlowFile


def read(file: FlowFile) -> FlowField:
    """Flow and strain of a published picture; "minmax" channels come in [0, 1].

    Raises:
        UserError: the picture is missing or cannot be decoded as three 8-bit channels, or says to hold pixels.
    """
    if file.unit != "minmax":
        raise UserError(
            f"{file.path}: want a min-max scaled flow picture, got unit {file.unit!r}; no such format is known"
        )
    if not file.path.is_file():
        raise UserError(f"{file.path}: want a flow picture, found no file; fetch the data again")
    data = file.path.read_bytes()
    # some OpenCV versions fill up a truncated PNG, others warn on standard error; a whole one ends with its IEND chunk
    cut = data.startswith(b"\x89PNG") and not data.rstrip(b"\0").endswith(b"IEND\xaeB`\x82")
    picture = None if cut or not data else cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    if picture is None or picture.ndim != 3 or picture.shape[2] != 3 or picture.dtype != np.uint8:
        got = "a truncated or unreadable file" if picture is None else f"{picture.shape} {picture.dtype}"
        raise UserError(f"{file.path}: want a flow picture of three 8-bit channels, got {got}; fetch the data again")
    by_name = dict(zip(file.channels, np.moveaxis(picture.astype(np.float32) / 255, -1, 0), strict=True))
    return FlowField(uv=np.stack([by_name["u"], by_name["v"]]), unit=file.unit, strain=by_name["strain"])


def resize(uv: Array, height: int, width: int) -> Array:
    """Flow at another size: averaged (or interpolated) and rescaled, so that it still counts pixels.

    Args:
        uv: (2, h, w) float32, pixels.

    Returns:
        (2, height, width) float32, pixels of the new size.
    """
    factors = np.array([width / uv.shape[2], height / uv.shape[1]], dtype=np.float32)
    return np.stack([resize_map(component, height, width) for component in uv]) * factors[:, None, None]


def resize_map(values: Array, height: int, width: int) -> Array:
    """(h, w) float32 to (height, width): area means when shrinking, bilinear when growing, values untouched."""
    if values.shape == (height, width):
        return values
    shrinking = values.shape[0] >= height and values.shape[1] >= width
    method = cv2.INTER_AREA if shrinking else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(np.ascontiguousarray(values), (width, height), interpolation=method))


def flip(uv: Array) -> Array:
    """The flow of the left-right mirrored pictures: mirrored, u negated."""
    return np.stack([-uv[0, :, ::-1], uv[1, :, ::-1]])


def rotate(uv: Array, degrees: float) -> Array:
    """The flow of pictures turned about their centre: places turned, and vectors with them.

    Args:
        uv: (2, h, w).
        degrees: positive turns clockwise on the screen, as y points down.

    Returns:
        (2, h, w); bilinear, the border repeated.
    """
    cos, sin = np.cos(np.deg2rad(degrees)), np.sin(np.deg2rad(degrees))
    return _mapped(uv, np.array([[cos, -sin], [sin, cos]]))


def scale(uv: Array, factor: float) -> Array:
    """The flow of pictures enlarged about their centre, their size kept: places spread, and vectors lengthened.

    For another size of the picture see `resize`.

    Raises:
        UserError: the factor is not positive.
    """
    if factor <= 0:
        raise UserError(f"want a positive factor to scale flow, got {factor}; choose 1 for no change")
    return _mapped(uv, factor * np.eye(2))


def _mapped(uv: Array, matrix: Array) -> Array:
    """Places about the centre and vectors, both times a 2 x 2 matrix."""
    height, width = uv.shape[1:]
    centre = np.array([(width - 1) / 2, (height - 1) / 2])
    y, x = np.mgrid[:height, :width]
    offsets = np.stack([x - centre[0], y - centre[1]])
    back = np.einsum("ij,jyx->iyx", np.linalg.inv(matrix), offsets) + centre[:, None, None]
    moved = np.stack([_sampled(component, back[0], back[1]) for component in uv])
    return np.asarray(np.einsum("ij,jyx->iyx", matrix, moved), dtype=uv.dtype)


def _sampled(plane: Array, x: Array, y: Array) -> Array:
    """Bilinear values of (h, w) at places, the border repeated; cv2.remap would round places to 1/32 px."""
    height, width = plane.shape
    x, y = np.clip(x, 0, width - 1), np.clip(y, 0, height - 1)
    left, top = np.minimum(x.astype(int), max(width - 2, 0)), np.minimum(y.astype(int), max(height - 2, 0))
    right, bottom = np.minimum(left + 1, width - 1), np.minimum(top + 1, height - 1)
    fx, fy = x - left, y - top
    upper = (1 - fx) * plane[top, left] + fx * plane[top, right]
    lower = (1 - fx) * plane[bottom, left] + fx * plane[bottom, right]
    return np.asarray((1 - fy) * upper + fy * lower)


def strain_tensor(uv: Array) -> Array:
    """Infinitesimal strain, the symmetric gradient of the flow.

    Shreve et al., "Macro- and micro-expression spotting in long videos using spatio-temporal strain", FG 2011.
    Central differences, one-sided at the border.

    Args:
        uv: (2, h, w), pixels.

    Returns:
        (3, h, w): e_xx = u_x, e_yy = v_y (positive: stretched), e_xy = (u_y + v_x) / 2, pixels a pixel.
    """
    (u_y, u_x), (v_y, v_x) = np.gradient(uv[0]), np.gradient(uv[1])
    return np.stack([u_x, v_y, 0.5 * (u_y + v_x)]).astype(uv.dtype)


def strain(uv: Array, form: Literal["standard", "htnet"] = "standard") -> Array:
    """Optical strain magnitude, the norm of the strain tensor.

    "standard" is sqrt(u_x^2 + v_y^2 + (u_y + v_x)^2 / 2): Liong et al., "Subtle expression recognition using optical
    strain weighted features", ACCV Workshops 2014.

    "htnet" is equation 3 of HTNet (Wang et al., Neurocomputing 2024) to the letter. Its exponents stand at V, inside
    the derivatives: sqrt(d(u^2)/dx + d(v^2)/dy + (d(u^2)/dy + d(v^2)/dx) / 2). That is very likely a misprint of the
    standard form: it depends on the sign of the flow, a translation of strained skin changes it, and the radicand can
    be negative, where the magnitude is taken to be 0 here. The published code has no strain to tell: it reads
    pictures.

    Args:
        uv: (2, h, w), pixels.

    Returns:
        (h, w), not negative. Standard: pixels a pixel, 0 for a translation or a small rotation. As HTNet prints it:
        square root of pixels, 0 for a translation.

    Raises:
        UserError: another form.
    """
    if form == "standard":
        e_xx, e_yy, e_xy = strain_tensor(uv)
        return np.asarray(np.sqrt(e_xx**2 + e_yy**2 + 2 * e_xy**2), dtype=uv.dtype)
    if form != "htnet":
        raise UserError(f"want strain of the form 'standard' or 'htnet', got {form!r}; choose one of them")
    (u_y, u_x), (v_y, v_x) = np.gradient(uv[0] ** 2), np.gradient(uv[1] ** 2)
    return np.asarray(np.sqrt(np.maximum(u_x + v_y + 0.5 * (u_y + v_x), 0)), dtype=uv.dtype)


def magnitude(uv: Array) -> Array:
    """(h, w) length of the flow vectors (2, h, w)."""
    return np.asarray(np.hypot(uv[0], uv[1]), dtype=uv.dtype)


def warp(picture: Array, uv: Array) -> Array:
    """The picture that the flow says was there before: at each place x, what `picture` shows at x + uv(x).

    With the flow from a first to a second picture, the warped second is the first, but for what was hidden.

    Args:
        picture: (h, w) or (h, w, C), the second picture.
        uv: (2, h, w), pixels.

    Returns:
        Shape and dtype of `picture` (integers rounded); bilinear, the border repeated.

    Raises:
        UserError: picture and flow differ in size.
    """
    if picture.shape[:2] != uv.shape[1:]:
        raise UserError(f"want picture and flow of one size, got {picture.shape} and {uv.shape}; resize the flow")
    y, x = np.mgrid[: uv.shape[1], : uv.shape[2]]
    planes = np.moveaxis(np.atleast_3d(picture), -1, 0)
    warped = np.stack([_sampled(plane, x + uv[0], y + uv[1]) for plane in planes], axis=-1).reshape(picture.shape)
    return (np.round(warped) if np.issubdtype(picture.dtype, np.integer) else warped).astype(picture.dtype)


def endpoint_error(found: Array, true: Array, mask: Array | None = None) -> float:
    """Mean distance of found from true vectors.

    Baker et al., "A Database and Evaluation Methodology for Optical Flow", IJCV 2011, section 4.1.

    Args:
        found, true: (2, h, w), pixels.
        mask: (h, w) bool, where to look; everywhere if None.

    Returns:
        Pixels.

    Raises:
        UserError: the shapes differ, or the mask leaves nothing.
    """
    shapes = found.shape, true.shape, found.shape[1:] if mask is None else mask.shape
    if found.shape != true.shape or shapes[2] != found.shape[1:]:
        raise UserError(f"want flow, true flow and mask of one size, got {shapes}; resize the flow")
    distance = np.hypot(*(found.astype(np.float64) - true))
    chosen = distance.ravel() if mask is None else distance[mask.astype(bool)]
    if not chosen.size:
        raise UserError("want pixels to compare flow at, got a mask without any; leave it out")
    return float(chosen.mean())


def colours(uv: Array, max_px: float | None = None) -> Array:
    """Flow as colours: the hue says where to (red right, yellow down, cyan left, violet up), paleness how little.

    The wheel of Baker et al., "A Database and Evaluation Methodology for Optical Flow", IJCV 2011: six arcs of hues
    of unequal length, so that equal angles look equally far apart.

    Args:
        uv: (2, h, w), pixels.
        max_px: length that has the full colour; longer vectors are darkened. The longest of the field if None.

    Returns:
        (h, w, 3) uint8 RGB; no motion is white.
    """
    length = np.hypot(uv[0], uv[1]).astype(np.float64)
    full = float(length.max(initial=0)) if max_px is None else max_px
    share = (length / full if full > 0 else np.zeros_like(length))[..., None]
    # -u, -v put the seam of the wheel to the right; + 0 makes -0 to 0, so that right is red and not the last hue before
    place = (np.arctan2(-(uv[1] + 0.0), -uv[0]) / np.pi + 1) / 2 * (len(_WHEEL) - 1)
    below = np.floor(place).astype(int)
    part = (place - below)[..., None]
    hue = (1 - part) * _WHEEL[below] + part * _WHEEL[(below + 1) % len(_WHEEL)]
    colour = np.where(share <= 1, 1 - share * (1 - hue), 0.75 * hue)
    return np.asarray(np.floor(255 * colour), dtype=np.uint8)


def wheel(side: int) -> Array:
    """The legend of `colours`: a disc in which each place has the colour of the vector that points to it.

    Returns:
        (side, side, 3) uint8 RGB, white outside the disc; its rim is the full length.
    """
    at = (np.arange(side) + 0.5) / side * 2 - 1
    uv = np.stack(np.meshgrid(at, at))
    return colours(np.where(np.hypot(uv[0], uv[1]) <= 1, uv, 0), 1.0)


def _hues() -> Array:
    """(55, 3) in [0, 1]: red, yellow, green, cyan, blue, magenta and back, in arcs of 15, 6, 4, 11, 13 and 6."""
    corners = np.array([[1, 0, 0], [1, 1, 0], [0, 1, 0], [0, 1, 1], [0, 0, 1], [1, 0, 1], [1, 0, 0]], np.float64)
    arcs = (15, 6, 4, 11, 13, 6)
    parts = [
        corners[arc] + (corners[arc + 1] - corners[arc]) * (np.arange(count) / count)[:, None]
        for arc, count in enumerate(arcs)
    ]
    return np.concatenate(parts)


_WHEEL = _hues()
