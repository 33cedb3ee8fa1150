"""A support vector machine on all numbers of its input: how features such as Bi-WOOF and MDMO were published.

Numbers are standardised on the training part. The machine is libsvm's: one against one, a vote each, the lower class on
ties. See `models._machine`.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import prod
from typing import Any, Literal

import torch
from pydantic import BaseModel, Field
from torch import Tensor, nn

from fleeting.errors import UserError
from fleeting.models._machine import Kernel, Machine, fit
from fleeting.records import Paper
from fleeting.training import Recipe

__all__ = ["INPUT", "PAPER", "RECIPE", "SMALL", "SVM", "Options", "build", "fit"]

_MOST = 20_000

PAPER = Paper(
    title="Support-Vector Networks",
    venue="Machine Learning 20",
    year=1995,
    doi="10.1007/BF00994018",
    parameters=None,
    deviations=(
        "Bi-WOOF and MDMO were published with a support vector machine; with which cost could not be verified, so C is "
        "scikit-learn's 1.",
        "Numbers are standardised on the training part, which neither paper says (option standardise).",
    ),
)

INPUT: tuple[str, dict[str, object]] = ("histograms", {"feature": "biwoof", "form": "vector"})

RECIPE = Recipe(epochs=1, batch=256)


class Options(BaseModel, frozen=True, extra="forbid"):
    """The machine.

    Attributes:
        kernel: "linear", as Bi-WOOF was published with, or "rbf".
        C: cost of an error.
        gamma: of the kernel exp(-gamma |x - y|^2); None: 1 / (numbers * variance), scikit-learn's "scale".
        standardise: each number to mean 0 and deviation 1 over the training part.
        weights: "balanced": errors cost N / (C n_c) times as much; "none": alike.
    """

    kernel: Kernel = "linear"
    C: float = Field(1.0, gt=0)
    gamma: float | None = Field(None, gt=0)
    standardise: bool = True
    weights: Literal["balanced", "none"] = "balanced"


SMALL = Options()


def build(shapes: Mapping[str, tuple[int, ...]], classes: int, options: Options) -> nn.Module:
    """An unfitted machine, which finds all classes equally likely.

    Raises:
        UserError: there are no arrays, or more than 20,000 numbers: pictures, not features.
    """
    numbers = sum(prod(shape) for shape in shapes.values())
    if not 0 < numbers <= _MOST:
        want = f"want up to {_MOST} numbers a clip"
        raise UserError(f"svm: {want}, got {numbers} in {dict(shapes)}; use input histograms with form = 'vector'")
    return SVM(classes, numbers, options)


class SVM(Machine):
    """The machine over all numbers of all arrays, in the order of their names."""

    def __init__(self, classes: int, numbers: int, options: Options) -> None:
        super().__init__(classes, numbers, options.kernel)
        self.options = options
        self.standardise = options.standardise

    def forward(self, **x: Tensor) -> Tensor:
        """Arrays (B, ...) -> scores (B, C), see `Machine.scored`."""
        return self.scored(self.describe(**x))

    def describe(self, **x: Tensor) -> Tensor:
        """Arrays (B, ...) -> (B, D) float64."""
        return torch.cat([x[name].double().flatten(1) for name in sorted(x)], 1)

    def machine(self, gamma: float) -> Any:
        """As the options say."""
        from sklearn.svm import SVC

        weights = None if self.options.weights == "none" else "balanced"
        kernel, gamma = self.options.kernel, self.options.gamma or gamma
        return SVC(C=self.options.C, kernel=kernel, gamma=gamma, class_weight=weights)
