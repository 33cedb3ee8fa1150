"""A plain baseline: a support vector machine on normalised flow and strain. Nothing in it was tuned.

Description of a picture (588 numbers at 28 x 28): u and v minus their medians, both divided by the root of the
mean of u^2 + v^2; strain divided by its mean; 2 x 2 means. None of it depends on the unit, so min-max scaled flow
and flow in pixels will do. Standardised on the training part, then an RBF machine with balanced class weights and
the one-against-one vote of libsvm. On MEGC2019 it reaches UF1 .750, which much larger networks have to beat.

The machine is a network like all others, see `models._machine`; `svm` is the same for other inputs.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
import torch.nn.functional as functional
from pydantic import BaseModel, Field
from torch import Tensor, nn

from fleeting.errors import UserError
from fleeting.models._machine import Machine, fit
from fleeting.records import Array, Paper
from fleeting.training import Recipe

__all__ = ["INPUT", "PAPER", "RECIPE", "SMALL", "FlowSVM", "Options", "build", "describe", "fit"]

PAPER = Paper(
    title="Support vector machine on normalised flow (baseline of this toolkit)",
    venue="no publication",
    year=2026,
    parameters=None,
)

INPUT: tuple[str, dict[str, object]] = ("uvs28", {"areas": "whole"})

RECIPE = Recipe(epochs=1, batch=256)


class Options(BaseModel, frozen=True, extra="forbid"):
    """The machine.

    Attributes:
        C: cost of an error.
        gamma: of the kernel exp(-gamma |x - y|^2); None: 1 / (numbers * variance), scikit-learn's "scale".
        grid: the picture is averaged to grid x grid.
    """

    C: float = Field(1.0, gt=0)
    gamma: float | None = Field(None, gt=0)
    grid: int = Field(14, ge=1)


SMALL = Options(grid=7)


def build(shapes: Mapping[str, tuple[int, ...]], classes: int, options: Options) -> nn.Module:
    """An unfitted machine, which finds all classes equally likely.

    Raises:
        UserError: `flow` is absent, has not three channels, or its side is no multiple of the grid's.
    """
    shape = shapes.get("flow", ())
    if len(shape) != 3 or shape[0] != 3 or shape[1] % options.grid or shape[2] % options.grid:
        want = f"want flow of shape (3, h, w), h and w multiples of grid = {options.grid}"
        raise UserError(f"flow_svm: {want}, got {dict(shapes)}; use input uvs28 or set model.grid")
    return FlowSVM(classes, options)


def describe(flow: Array, grid: int = 14) -> Array:
    """(N, 3, h, w) of u, v, strain in any unit -> (N, 3 grid grid) float64; see the module."""
    return _describe(torch.from_numpy(np.ascontiguousarray(flow)), grid).flatten(1).numpy()


class FlowSVM(Machine):
    """The machine over 3 grid^2 numbers of a flow picture."""

    def __init__(self, classes: int, options: Options) -> None:
        super().__init__(classes, 3 * options.grid**2, "rbf")
        self.options = options

    def forward(self, flow: Tensor) -> Tensor:
        """(B, 3, h, w) -> scores (B, C), see `Machine.scored`."""
        return self.head(self.features(flow))

    def describe(self, flow: Tensor) -> Tensor:
        """(B, 3, h, w) -> (B, 3 grid^2) float64."""
        return self.features(flow).flatten(1)

    def features(self, flow: Tensor) -> Tensor:
        """(B, 3, h, w) -> (B, 3, grid, grid) float64: the description, not yet standardised."""
        return _describe(flow, self.options.grid)

    def head(self, features: Tensor) -> Tensor:
        """The description -> scores (B, C)."""
        return self.scored(features.flatten(1))

    def decisions(self, flow: Tensor) -> Tensor:
        """(B, 3, h, w) -> (B, pairs) float64, positive for the lower class of the pair."""
        return self.decided(self.describe(flow))

    def machine(self, gamma: float) -> Any:
        """Balanced, with the kernel exp(-gamma |x - y|^2)."""
        from sklearn.svm import SVC

        return SVC(C=self.options.C, gamma=self.options.gamma or gamma, class_weight="balanced")


def _describe(flow: Tensor, grid: int) -> Tensor:
    """(N, 3, h, w) -> (N, 3, grid, grid) float64, differentiable. Where nothing moves, 0 and not 0 / 0."""
    flow = flow.double()
    uv, strain = flow[:, :2], flow[:, 2:3]
    ordered = uv.flatten(2).sort(2).values
    half = ordered.shape[2] // 2
    median = (ordered[:, :, half] + ordered[:, :, -half - 1]) / 2
    uv = uv - median[:, :, None, None]
    amplitude = (uv**2).sum(1, keepdim=True).mean((2, 3), keepdim=True)
    uv = uv * amplitude.where(amplitude > 0, 1.0).rsqrt()
    mean = strain.mean((2, 3), keepdim=True)
    strain = strain / mean.where(mean > 0, 1.0)
    return functional.adaptive_avg_pool2d(torch.cat([uv, strain], 1), grid)
