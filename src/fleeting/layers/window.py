"""Square windows of a feature map, and the orders in which a scan reads the tokens of a window.

A token of a window has the index row * side + column. A scan order is a row `table` of indices: the sequence is
`tokens[:, table]`, and `sequence[:, inverse(table)]` is the tokens again. MERba (section III-B, figure 2) starts four
orders at the top left token:

    a  horizontal raster: row by row, each from left to right
    b  vertical raster: column by column, each from top to bottom
    c  horizontal zigzag: row by row, every second one from right to left
    d  vertical zigzag: column by column, every second one from bottom to top

Its Table VII compares them with `a_bi` and `b_bi`, the same orders from end to start, and `a_sy` and `b_sy`, the same
orders on the window mirrored left to right.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as functional
from torch import Tensor


def partition(x: Tensor, side: int) -> Tensor:
    """Cuts a map into windows; a map whose sides are no multiples of `side` gets zeros at the right and the bottom.

    Args:
        x: (B, C, H, W).
        side: of a window, at least 1.

    Returns:
        (B * windows, side * side, C): windows of the first map row by row, then of the next; tokens row by row.

    Raises:
        ValueError: `side` is below 1.
    """
    batch, channels, height, width = x.shape
    rows, columns = _grid(height, width, side)
    if (height, width) != (rows * side, columns * side):
        x = functional.pad(x, (0, columns * side - width, 0, rows * side - height))
    windows = x.reshape(batch, channels, rows, side, columns, side).permute(0, 2, 4, 3, 5, 1)
    return windows.reshape(batch * rows * columns, side * side, channels)


def merge(tokens: Tensor, side: int, size: tuple[int, int]) -> Tensor:
    """Inverse of `partition`: puts windows back and drops the zeros that were added.

    Args:
        tokens: (B * windows, side * side, C).
        side: of a window.
        size: (H, W) of the map.

    Returns:
        (B, C, H, W), contiguous.

    Raises:
        ValueError: a map of that size has not that many windows, or a window not that many tokens.
    """
    (height, width), (count, length, channels) = size, tokens.shape
    rows, columns = _grid(height, width, side)
    if length != side * side or count % (rows * columns):
        raise ValueError(
            f"want a multiple of {rows * columns} windows of {side * side} tokens for a {height} x {width} map, "
            f"got {count} of {length}"
        )
    batch = count // (rows * columns)
    x = tokens.reshape(batch, rows, columns, side, side, channels).permute(0, 5, 1, 3, 2, 4)
    return x.reshape(batch, channels, rows * side, columns * side)[..., :height, :width].contiguous()


def _grid(height: int, width: int, side: int) -> tuple[int, int]:
    """Rows and columns of windows that cover a map."""
    if side < 1:
        raise ValueError(f"want a window side of at least 1, got {side}")
    return max(1, -(-height // side)), max(1, -(-width // side))


def _zigzag(grid: Tensor) -> Tensor:
    """Every second row from right to left."""
    turned = grid.clone()
    turned[1::2] = grid[1::2].flip(1)
    return turned


_ORDERS: dict[str, Callable[[Tensor], Tensor]] = {
    "a": lambda grid: grid,
    "b": lambda grid: grid.T,
    "c": _zigzag,
    "d": lambda grid: _zigzag(grid.T),
    "a_bi": lambda grid: grid.flip(0, 1),
    "b_bi": lambda grid: grid.T.flip(0, 1),
    "a_sy": lambda grid: grid.flip(1),
    "b_sy": lambda grid: grid.flip(1).T,
}
"""The grid of token indices (side, side) -> the same with rows in the order of reading."""

SETS: dict[str, tuple[str, ...]] = {
    "horizontal": ("a",),
    "raster": ("a", "b"),
    "zigzag": ("c", "d"),
    "bidirectional": ("a", "a_bi", "b", "b_bi"),
    "symmetric": ("a", "a_sy", "b", "b_sy"),
    "asymmetric": ("a", "b", "c", "d"),
}
"""Orders of a set, in the paper's words: the rows of MERba's Table VII from top to bottom; the last is its own."""

NAMES = tuple(SETS)
"""Names of the scan sets."""


def scans(name: str, side: int) -> Tensor:
    """Index tables of a scan set.

    Args:
        name: one of `NAMES`, or of one order ("a", "b_sy", ...).
        side: of the window, at least 1.

    Returns:
        (K, side * side) int64: row k holds the tokens in the order in which scan k reads them.

    Raises:
        ValueError: there is no such set, or `side` is below 1.
    """
    orders = SETS.get(name, (name,))
    if side < 1 or not set(orders) <= set(_ORDERS):
        raise ValueError(f"want a scan set of {', '.join(NAMES)} and a side of at least 1, got {name!r} and {side}")
    grid = torch.arange(side * side).reshape(side, side)
    return torch.stack([_ORDERS[order](grid).reshape(-1) for order in orders])


def inverse(tables: Tensor) -> Tensor:
    """Where each token stands in a sequence: `sequence[..., inverse(table), :]` is in the order of the tokens.

    Args:
        tables: (K, L) or (L,), permutations of 0 .. L - 1.

    Returns:
        The same shape, int64.
    """
    return tables.argsort(dim=-1)
