"""A plain baseline: a support vector machine on normalised flow and strain. Nothing in it was tuned.

Description of a picture (588 numbers at 28 x 28): u and v minus their medians, both divided by the root of the
mean of u^2 + v^2; strain divided by its mean; 2 x 2 means. None of it depends on the unit, so min-max scaled flow
and flow in pixels will do. Standardised on the training part, then an RBF machine with balanced class weights and
the one-against-one vote of libsvm. On MEGC2019 it reaches UF1 .750, which much larger networks have to beat.

The machine is a network like all others: fitting copies what scikit-learn found into buffers, and `forward` is
written in torch, so that saving, predicting, tracing and explaining know nothing of it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
import torch.nn.functional as functional
from pydantic import BaseModel, Field
from torch import Tensor, nn

from fleeting import training
from fleeting.errors import UserError
from fleeting.records import Array, Paper, Samples
from fleeting.training import Context, Recipe

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


def fit(network: nn.Module, train: Samples, valid: Samples | None, recipe: Recipe, context: Context) -> nn.Module:
    """Fits the machine; `training.fit`'s signature. One epoch; `valid` and the recipe's optimiser are not used.

    ``context.log["loss"]`` is the share of training errors, the learning rate is 0.

    Raises:
        UserError: there is nothing to train on.
    """
    if train.y is None or not len(train):
        raise UserError("want labelled training samples, got none; give the fold training clips")
    if not isinstance(network, FlowSVM):
        raise TypeError(f"want a FlowSVM, got {type(network).__name__}")
    network.to(context.device)
    network.learn(describe(train.x["flow"][train.rows], network.options.grid), train.y)
    accuracy = float((training.predict(network, train, recipe, context.device).argmax(1) == train.y).mean())
    for name, value in (("loss", 1 - accuracy), ("train_accuracy", accuracy), ("learning_rate", 0.0)):
        context.log.setdefault(name, []).append(value)
    context.after_epoch(context.first_epoch, network)
    return network


class FlowSVM(nn.Module):
    """One-against-one machines over all pairs of classes i < j, S support vectors of D numbers.

    Buffers: mean, scale (D,) of the training part; support (S, D), standardised; coefficients (pairs, S) and
    intercepts (pairs,), a positive decision votes for i; gamma; present (C,): the classes seen in training.
    """

    mean: Tensor
    scale: Tensor
    support: Tensor
    coefficients: Tensor
    intercepts: Tensor
    gamma: Tensor
    present: Tensor

    def __init__(self, classes: int, options: Options) -> None:
        super().__init__()
        self.options, self.classes = options, classes
        self.pairs = [(i, j) for i in range(classes) for j in range(i + 1, classes)]
        numbers = 3 * options.grid**2
        empty = {
            "mean": torch.zeros(numbers),
            "scale": torch.ones(numbers),
            "support": torch.zeros(0, numbers),
            "coefficients": torch.zeros(len(self.pairs), 0),
            "intercepts": torch.zeros(len(self.pairs)),
            "gamma": torch.tensor(1.0),
        }
        for name, value in empty.items():
            # float64, as libsvm computes: a vote is a sign, and a sign near zero shows every rounding
            self.register_buffer(name, value.double())
        self.register_buffer("present", torch.zeros(classes, dtype=torch.bool))

    def forward(self, flow: Tensor) -> Tensor:
        """(B, 3, h, w) -> scores (B, C): votes + margin.

        Votes are whole numbers. The margin, m / (3 (|m| + 1)) of the summed decisions m for the class, lies within
        a third, and it is what gradients see.
        """
        return self.head(self.features(flow))

    def features(self, flow: Tensor) -> Tensor:
        """(B, 3, h, w) -> (B, 3, grid, grid) float64: the description, not yet standardised."""
        return _describe(flow, self.options.grid)

    def head(self, features: Tensor) -> Tensor:
        """The description -> scores (B, C)."""
        votes, margins = self._count(self._decided(features))
        return (votes + margins / (3 * (margins.abs() + 1))).float()

    def decisions(self, flow: Tensor) -> Tensor:
        """(B, 3, h, w) -> (B, pairs) float64, positive for the lower class of the pair."""
        return self._decided(self.features(flow))

    def _decided(self, features: Tensor) -> Tensor:
        x = (features.flatten(1) - self.mean) / self.scale
        distances = (x * x).sum(1, keepdim=True) + (self.support**2).sum(1) - 2 * x @ self.support.T
        kernel = torch.exp(-self.gamma * distances)
        return kernel @ self.coefficients.T + self.intercepts

    def probabilities(self, output: Tensor) -> Tensor:
        """Scores (B, C) -> (B, C), rows sum to 1: shares of the votes, moved a little.

        The winner, which is libsvm's (most votes, the lower class on ties), gets .02 votes more, and .01 times
        the margin orders the other classes with equal votes; that is too little to change the winner. Classes that
        training did not show get 0; before fitting all are equal.
        """
        if not self.present.any():
            return torch.full_like(output, 1 / self.classes)
        votes = output.detach().round()
        # the lowest class among the equal ones; torch does not say which of them argmax finds
        ties = votes.masked_fill(~self.present, -1)
        ties = (ties == ties.max(1, keepdim=True).values).int()
        winner = (ties.cumsum(1) == 1) & (ties == 1)
        shares = (votes + 0.01 * (output - votes + 1) + 0.02 * winner) * self.present
        return shares / shares.sum(1, keepdim=True)

    def scores(self, output: Tensor) -> Tensor:
        """Scores (B, C) -> summed decisions (B, C): what is explained, since votes have no gradient."""
        margins = 3 * (output - output.detach().round())
        return margins / (1 - margins.abs())

    def learn(self, features: Array, y: Array) -> None:
        """Fits and fills the buffers.

        Args:
            features: (N, D) of `describe`.
            y: (N,) classes; with one class only, that class always wins.
        """
        from sklearn.preprocessing import StandardScaler
        from sklearn.svm import SVC

        scaler = StandardScaler().fit(features)
        found = {"mean": scaler.mean_, "scale": scaler.scale_, "present": np.isin(np.arange(self.classes), y)}
        found |= _no_machine(features.shape[1], len(self.pairs))
        if found["present"].sum() > 1:
            x = scaler.transform(features)
            gamma = self.options.gamma or 1 / max(x.shape[1] * x.var(), 1e-12)
            machine = SVC(C=self.options.C, gamma=gamma, class_weight="balanced").fit(x, y)
            found |= {"gamma": gamma, **_pairwise(machine, self.pairs)}
        for name, value in found.items():
            buffer = getattr(self, name)
            setattr(self, name, torch.as_tensor(value, dtype=buffer.dtype, device=buffer.device))

    def _count(self, decisions: Tensor) -> tuple[Tensor, Tensor]:
        """(B, pairs) -> votes and summed decisions of each class, (B, C) each, over pairs of known classes."""
        votes, margins = (decisions.new_zeros(len(decisions), self.classes) for _ in range(2))
        if not self.pairs:
            return votes, margins
        first, second = torch.tensor(self.pairs, device=decisions.device).T
        known = (self.present[first] & self.present[second]).to(decisions.dtype)
        wins = (decisions > 0).to(decisions.dtype)
        votes = votes.index_add(1, first, wins * known).index_add(1, second, (1 - wins) * known)
        return votes, margins.index_add(1, first, decisions * known).index_add(1, second, -decisions * known)

    def _load_from_state_dict(self, state_dict: Mapping[str, Any], prefix: str, *args: Any) -> None:
        # the number of support vectors is known only after fitting
        for name in ("support", "coefficients"):
            saved, own = state_dict.get(prefix + name), getattr(self, name)
            if saved is not None and saved.shape != own.shape:
                setattr(self, name, own.new_zeros(saved.shape))
        super()._load_from_state_dict(state_dict, prefix, *args)


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


def _no_machine(numbers: int, pairs: int) -> dict[str, Array]:
    """No support vectors: what one class leaves to learn."""
    zeros = {"support": (0, numbers), "coefficients": (pairs, 0), "intercepts": (pairs,), "gamma": ()}
    return {name: np.zeros(shape) for name, shape in zeros.items()}


def _pairwise(machine: Any, pairs: list[tuple[int, int]]) -> dict[str, Array]:
    """The machine of each pair of classes, out of scikit-learn's compressed form.

    Support vectors are sorted by class; row r of `dual_coef_` holds their coefficients against the r-th of the
    other classes. Pairs with an absent class stay 0. For two classes scikit-learn turns the signs around.
    """
    known = [int(c) for c in machine.classes_]
    sign = -1.0 if len(known) == 2 else 1.0
    owner = np.repeat(np.arange(len(known)), machine.n_support_)
    coefficients, intercepts = np.zeros((len(pairs), len(owner))), np.zeros(len(pairs))
    ranks = [(i, j) for i in range(len(known)) for j in range(i + 1, len(known))]
    for (i, j), intercept in zip(ranks, machine.intercept_, strict=True):
        row = pairs.index((known[i], known[j]))
        coefficients[row] = sign * (machine.dual_coef_[j - 1] * (owner == i) + machine.dual_coef_[i] * (owner == j))
        intercepts[row] = sign * intercept
    return {"support": machine.support_vectors_, "coefficients": coefficients, "intercepts": intercepts}
