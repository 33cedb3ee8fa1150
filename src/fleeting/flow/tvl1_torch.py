"""TV-L1 flow (Zach, Pock, Bischof, DAGM 2007) for batches, in torch: on the CPU several times as fast as OpenCV's.

The energy and its minimisation are those of OpenCV's `tvl1`, with its defaults:

    sum over the picture of |grad u1| + |grad u2| + lambda |I1(x + u) - I0(x)|,

the data term linearised at the flow of the last warp, split from the smooth term at a distance theta, and solved by
turns: a threshold for the first, a step of Chambolle's projection for the second. A pyramid, several warps a level, a
median filter before the steps of each warp. It departs from OpenCV where OpenCV loses accuracy or where a batch asks
for it:

* The second picture is sampled at the exact place, not at the next 1/32 px.
* Where a vector points out of the picture there is no data term; OpenCV compares with black there, which makes
  vectors of several pixels at the border.
* A level and its flow are scaled by the true ratio of their sizes (224 to 179 px), not by `scale_step`.
* Whether the flow has come to rest is asked every `check` steps, so that a GPU need not wait for an answer each step.

On textured pictures moved by .25 to 3 px the two are .01 px apart away from the border, and this one is nearer to the
true motion (`benchmarks/tvl1.py`).

Pairs that have come to rest leave the batch. Nothing that is done to one pair depends on another, not even by the
order of a sum, so that a batch is its pairs one by one, bit for bit.
"""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Literal

import cv2
import numpy as np
import torch
import torch.nn.functional as functional
from pydantic import BaseModel, Field
from torch import Tensor

from fleeting.errors import UserError
from fleeting.flow._median import median
from fleeting.flow._pairs import SMALLEST, check
from fleeting.records import Array

_CPU_PAIRS = 4
"""Pairs a tile on the CPU: enough to hide the cost of a call, few enough for the cache."""
_GPU_PIXELS = 2**24
"""Pixels a tile elsewhere: about 2 GB of work space."""
_FIXED = 2.0**30
"""Sums are of integers, in this part of a square pixel: the order in which a device adds cannot decide anything."""


class Options(BaseModel, frozen=True, extra="forbid"):
    """The parameters of `tvl1`, less OpenCV's gamma, and where to run.

    Attributes:
        tau: time step of the dual variables; more than .25 need not converge.
        lambda_: weight of the data term; smaller is smoother.
        theta: how closely the smooth flow is tied to the one that fits the pictures.
        scales: levels of the pyramid at most; none falls below 16 px.
        warps: how often a level warps the second picture.
        epsilon: px; a warp ends when the flow moves by less, root mean square over the picture.
        inner_iterations, outer_iterations: at most so many steps between two medians, and so many medians, a warp.
        check: every how many steps that is looked at.
        scale_step: size of a level over that of the next finer one.
        median: side in pixels of the median filter, 1 for none.
        device: "auto" (a GPU if there is one), "cpu", "cuda", "cuda:1", ...
    """

    tau: float = Field(0.25, gt=0)
    lambda_: float = Field(0.15, gt=0)
    theta: float = Field(0.3, gt=0)
    scales: int = Field(5, ge=1)
    warps: int = Field(5, ge=1)
    epsilon: float = Field(0.01, ge=0)
    inner_iterations: int = Field(30, ge=1)
    outer_iterations: int = Field(10, ge=1)
    check: int = Field(5, ge=1)
    scale_step: float = Field(0.8, gt=0, lt=1)
    median: Literal[1, 3, 5] = 5
    device: str = Field("auto", pattern=r"^(auto|cpu|cuda(:\d+)?)$")


def flow(first: Array, second: Array, options: Options) -> Array:
    """Flow of a batch of grey pictures.

    On the CPU the batch is worked on by as many threads as torch may use (`torch.set_num_threads`).

    Args:
        first, second: (N, h, w) float32 in [0, 1].

    Returns:
        (N, 2, h, w) float32, pixels, from the first to the second.

    Raises:
        UserError: the two batches differ in shape, are too small, or hold NaN, or there is no such device.
    """
    check(first, second)
    device = _device(options.device)
    count, height, width = first.shape
    fields = np.empty((count, 2, height, width), np.float32)
    on_cpu = device.type == "cpu"
    threads = torch.get_num_threads() if on_cpu else 1
    size = max(1, min(_CPU_PAIRS, -(-count // threads)) if on_cpu else _GPU_PIXELS // (height * width))

    def fill(start: int) -> None:
        part = slice(start, start + size)
        fields[part] = _tile(first[part], second[part], options, device)

    _each(fill, range(0, count, size), threads)
    return fields


def _each(work: Callable[[int], None], items: Sequence[int], threads: int) -> None:
    """Calls `work` with every item, in `threads` threads.

    Torch adds no threads inside them: its way of dividing one operation costs more than these operations take.
    """
    if threads == 1:
        for item in items:
            work(item)
        return
    try:
        with ThreadPoolExecutor(threads, initializer=torch.set_num_threads, initargs=(1,)) as pool:
            list(pool.map(work, items))
    finally:
        torch.set_num_threads(threads)  # threads that start later would take over the 1


def identity(options: Options) -> str:
    """Where it runs, on which the last bits of the flow depend: part of what a cached field is kept under."""
    return str(_device(options.device))


def _device(name: str) -> torch.device:
    there = torch.cuda.is_available()
    if name == "auto":
        name = "cuda" if there else "cpu"
    device = torch.device(name)
    if device.type == "cuda" and not (there and (device.index or 0) < torch.cuda.device_count()):
        raise UserError(f"want a device of this machine, got device = {name!r}; set it to 'cpu' or 'auto'")
    return device


@torch.inference_mode()
def _tile(first: Array, second: Array, options: Options, device: torch.device) -> Array:
    """`flow` of pairs that are worked on together."""
    pyramids = (
        # the weight of the data term is meant for 0..255
        _pyramid(255 * torch.from_numpy(np.array(batch, np.float32)).to(device)[:, None], options)
        for batch in (first, second)
    )
    field = torch.zeros(len(first), 2, 1, 1, device=device)
    for one, two in reversed(list(zip(*pyramids, strict=True))):
        field = _grown(field, one.shape[-2], one.shape[-1])
        _refine(field, one, two, options)
    return np.asarray(field.cpu().numpy())


def _pyramid(pictures: Tensor, options: Options) -> list[Tensor]:
    """(N, 1, h, w), the full size first."""
    levels = [pictures]
    while len(levels) < options.scales:
        height, width = (round(side * options.scale_step) for side in levels[-1].shape[-2:])
        if min(height, width) < SMALLEST:
            break
        levels.append(_resized(levels[-1], height, width))
    return levels


def _resized(planes: Tensor, height: int, width: int) -> Tensor:
    return functional.interpolate(planes, size=(height, width), mode="bilinear", align_corners=False)


def _grown(field: Tensor, height: int, width: int) -> Tensor:
    """Flow (N, 2, h, w) at the size of the next level, in pixels of it."""
    ratios = [width / field.shape[-1], height / field.shape[-2]]
    return _resized(field, height, width).mul_(field.new_tensor(ratios).view(1, 2, 1, 1))


def _refine(field: Tensor, one: Tensor, two: Tensor, options: Options) -> None:
    """All warps of one level; `field` (N, 2, h, w) is where they start and end."""
    count, _, height, width = field.shape
    source = torch.cat([two, _gradient(two)], dim=1)
    dual = field.new_zeros(count, 2, 2, height + 1, width + 1)
    work = _Work.like(field)
    for _ in range(options.warps):
        _relax(field, dual, _linearised(one, source, field), work, options)


def _gradient(pictures: Tensor) -> Tensor:
    """(N, 1, h, w) to (N, 2, h, w): central differences in x and y, halved at the border."""
    padded = functional.pad(pictures, (1, 1, 1, 1), mode="replicate")
    along_x = padded[..., 1:-1, 2:] - padded[..., 1:-1, :-2]
    along_y = padded[..., 2:, 1:-1] - padded[..., :-2, 1:-1]
    return torch.cat([along_x, along_y], dim=1).mul_(0.5)


@dataclass(frozen=True)
class _Data:
    """The data term near the flow of a warp: rho(u) = I1(x + u) - I0(x), made linear in u.

    Attributes:
        gradient: (N, 2, h, w), of the warped picture; 0 where a vector points out of the picture.
        slope: the same over its squared length.
        offset: (N, h, w); offset + slope . u = rho(u) / |gradient|^2.
    """

    gradient: Tensor
    slope: Tensor
    offset: Tensor

    def take(self, rows: Tensor) -> "_Data":
        return _Data(self.gradient[rows], self.slope[rows], self.offset[rows])


def _linearised(one: Tensor, source: Tensor, field: Tensor) -> _Data:
    """Args: one (N, 1, h, w); source (N, 3, h, w), the second picture and its gradient; field (N, 2, h, w)."""
    height, width = field.shape[-2:]
    x = field[:, 0] + torch.arange(width, device=field.device)
    y = field[:, 1] + torch.arange(height, device=field.device)[:, None]
    # grid_sample counts in half sides from the middle
    grid = torch.stack([(2 * x + 1) / width - 1, (2 * y + 1) / height - 1], dim=-1)
    warped = functional.grid_sample(source, grid, mode="bicubic", padding_mode="border", align_corners=False)
    inside = (x >= 0) & (x <= width - 1) & (y >= 0) & (y <= height - 1)
    gradient = warped[:, 1:] * inside[:, None]
    # without a gradient the slope is 0 too, and no finite offset moves anything
    inverse = 1 / (gradient[:, 0].square() + gradient[:, 1].square()).clamp_min(1e-7)
    slope = gradient * inverse[:, None]
    offset = (warped[:, 0] - one[:, 0]) * inverse - slope[:, 0] * field[:, 0] - slope[:, 1] * field[:, 1]
    return _Data(gradient, slope, offset)


@dataclass(frozen=True)
class _Work:
    """Memory for the steps of one level, reused.

    Attributes:
        threshold: (N, h, w).
        change: (N, 2, h, w), by which the last step moved the flow.
        norm: (N, 2, h, w).
        gradient: (N, 2, 2, h, w) of (component, direction); the last column of x and the last row of y stay 0.
    """

    threshold: Tensor
    change: Tensor
    norm: Tensor
    gradient: Tensor

    @classmethod
    def like(cls, field: Tensor) -> "_Work":
        count, _, height, width = field.shape
        return cls(
            threshold=field.new_empty(count, height, width),
            change=torch.empty_like(field),
            norm=torch.empty_like(field),
            gradient=field.new_zeros(count, 2, 2, height, width),
        )

    def first(self, count: int) -> "_Work":
        return _Work(self.threshold[:count], self.change[:count], self.norm[:count], self.gradient[:count])


def _relax(field: Tensor, dual: Tensor, data: _Data, work: _Work, options: Options) -> None:
    """Steps and medians until each pair of a warp is at rest; `field` and `dual` are changed."""
    limit = options.epsilon**2 * field.shape[-2] * field.shape[-1] * _FIXED
    rows = torch.arange(len(field), device=field.device)
    u, p = field, dual  # of the pairs that still move: views of all, then copies of some
    for steps, filtered in _portions(options):
        if filtered:
            _filter(u, options.median)
        for _ in range(steps):
            _step(u, p, data, work, options)
        moving = [moved > limit for moved in _moved(work)]
        if all(moving):
            continue
        _store(field, u, rows)
        _store(dual, p, rows)
        if not any(moving):
            return
        kept = torch.tensor(moving, device=field.device).nonzero()[:, 0]
        rows, data, work = rows[kept], data.take(kept), work.first(len(kept))
        u, p = field[rows], dual[rows]
    _store(field, u, rows)
    _store(dual, p, rows)


def _portions(options: Options) -> Iterator[tuple[int, bool]]:
    """Steps between two looks at what moves, and whether a median comes before them."""
    for _ in range(options.outer_iterations):
        for done in range(0, options.inner_iterations, options.check):
            yield min(options.check, options.inner_iterations - done), done == 0


def _step(u: Tensor, p: Tensor, data: _Data, work: _Work, options: Options) -> None:
    """One turn: the flow towards the pictures and along the divergence, then the dual variables.

    `p` is theta / tau times the paper's dual variable, which spares two products a pixel.
    """
    threshold, change, norm, gradient = work.threshold, work.change, work.norm, work.gradient
    bound = options.lambda_ * options.theta
    torch.addcmul(data.offset, data.slope[:, 0], u[:, 0], out=threshold)
    threshold.addcmul_(data.slope[:, 1], u[:, 1]).clamp_(-bound, bound)
    torch.sub(p[:, :, 0, 1:, 1:], p[:, :, 0, 1:, :-1], out=change)
    change.add_(p[:, :, 1, 1:, 1:]).sub_(p[:, :, 1, :-1, 1:]).mul_(options.tau)
    change.addcmul_(data.gradient, threshold[:, None], value=-1)
    u.add_(change)
    torch.sub(u[..., 1:], u[..., :-1], out=gradient[:, :, 0, :, :-1])
    torch.sub(u[..., 1:, :], u[..., :-1, :], out=gradient[:, :, 1, :-1])
    torch.mul(gradient[:, :, 0], gradient[:, :, 0], out=norm)
    norm.addcmul_(gradient[:, :, 1], gradient[:, :, 1]).sqrt_().mul_(options.tau / options.theta).add_(1)
    p[..., 1:, 1:].add_(gradient).div_(norm[:, :, None])


def _moved(work: _Work) -> list[int]:
    """Sum of the squared change of each pair, in units of 1 / `_FIXED` px^2."""
    squares = torch.mul(work.change, work.change, out=work.norm).mul_(_FIXED)
    return [int(moved) for moved in squares.long().sum(dim=(1, 2, 3)).tolist()]


def _store(all_pairs: Tensor, some: Tensor, rows: Tensor) -> None:
    if some is not all_pairs:
        all_pairs[rows] = some


def _filter(u: Tensor, size: int) -> None:
    """Median filter in place; OpenCV's where it can be, the same values elsewhere."""
    if size == 1:
        return
    if u.device.type != "cpu":
        u.copy_(median(u, size))
        return
    for plane in u.flatten(0, 1).numpy():
        plane[:] = cv2.medianBlur(plane, size)
