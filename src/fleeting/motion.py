"""Flow as a quantity: resizing that keeps vectors true, strain, magnitude."""

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


def strain(uv: Array) -> Array:
    """Optical strain magnitude, the norm of the symmetric gradient of the flow.

    sqrt(u_x^2 + v_y^2 + (u_y + v_x)^2 / 2), the standard form: Liong et al., "Subtle expression recognition
    using optical strain weighted features", ACCV Workshops 2014. Central differences, one-sided at the border.

    Args:
        uv: (2, h, w), pixels.

    Returns:
        (h, w), pixels a pixel, not negative; 0 for a translation or a small rotation.
    """
    (u_y, u_x), (v_y, v_x) = np.gradient(uv[0]), np.gradient(uv[1])
    return np.asarray(np.sqrt(u_x**2 + v_y**2 + 0.5 * (u_y + v_x) ** 2), dtype=uv.dtype)


def magnitude(uv: Array) -> Array:
    """(h, w) length of the flow vectors (2, h, w)."""
    return np.asarray(np.hypot(uv[0], uv[1]), dtype=uv.dtype)
