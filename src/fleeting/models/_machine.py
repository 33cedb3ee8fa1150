"""Support vector machines as networks: what scikit-learn found lies in buffers, and deciding is written in torch.

So saving, predicting, tracing and explaining know nothing of it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from fleeting import training
from fleeting.errors import UserError
from fleeting.records import Array, Samples
from fleeting.training import Context, Recipe

Kernel = Literal["linear", "rbf"]


def fit(network: nn.Module, train: Samples, valid: Samples | None, recipe: Recipe, context: Context) -> nn.Module:
    """Fits the machine; `training.fit`'s signature. One epoch on all of the training part as it is.

    Of the recipe only `vote` counts: nothing is stopped, mirrored, turned, blended or drawn more often.

    ``context.log["loss"]`` is the share of training errors, the learning rate is 0.

    Raises:
        UserError: there is nothing to train on, or the recipe crops.
    """
    if recipe.crop is not None:
        raise UserError(f"want recipe.crop = 0 for a support vector machine, which sees all, got {recipe.crop}; set it")
    if train.y is None or not len(train):
        raise UserError("want labelled training samples, got none; give the fold training clips")
    if not isinstance(network, Machine):
        raise TypeError(f"want a machine, got {type(network).__name__}")
    network.to(context.device)
    network.learn(_described(network, train), train.y)
    accuracy = float((training.predict(network, train, recipe, context.device).argmax(1) == train.y).mean())
    for name, value in (("loss", 1 - accuracy), ("train_accuracy", accuracy), ("learning_rate", 0.0)):
        context.log.setdefault(name, []).append(value)
    context.after_epoch(context.first_epoch, network)
    return network


class Machine(nn.Module, ABC):
    """One-against-one machines over all pairs of classes i < j, S support vectors of D numbers.

    A model has ``describe(**x) -> (B, D)`` float64, not yet standardised, and ``forward``: `scored` of it.

    Buffers: mean, scale (D,) of the training part; support (S, D), standardised; coefficients (pairs, S) and
    intercepts (pairs,), a positive decision votes for i; gamma; present (C,): the classes seen in training.
    """

    describe: Callable[..., Tensor]
    mean: Tensor
    scale: Tensor
    support: Tensor
    coefficients: Tensor
    intercepts: Tensor
    gamma: Tensor
    present: Tensor

    def __init__(self, classes: int, numbers: int, kernel: Kernel) -> None:
        super().__init__()
        self.classes, self.kernel, self.standardise = classes, kernel, True
        self.pairs = [(i, j) for i in range(classes) for j in range(i + 1, classes)]
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

    @abstractmethod
    def machine(self, gamma: float) -> Any:
        """An unfitted `sklearn.svm.SVC`; `gamma` is scikit-learn's "scale" for the training part."""

    def scored(self, numbers: Tensor) -> Tensor:
        """Numbers (B, D) -> scores (B, C): votes + margin.

        Votes are whole numbers. The margin, m / (3 (|m| + 1)) of the summed decisions m for the class, lies within
        a third, and it is what gradients see.
        """
        votes, margins = self._count(self.decided(numbers))
        return (votes + margins / (3 * (margins.abs() + 1))).float()

    def decided(self, numbers: Tensor) -> Tensor:
        """Numbers (B, D) -> (B, pairs) float64, positive for the lower class of the pair."""
        x = (numbers - self.mean) / self.scale
        products = x @ self.support.T
        if self.kernel == "rbf":
            distances = (x * x).sum(1, keepdim=True) + (self.support**2).sum(1) - 2 * products
            products = torch.exp(-self.gamma * distances)
        return products @ self.coefficients.T + self.intercepts

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

    def learn(self, numbers: Array, y: Array) -> None:
        """Fits and fills the buffers.

        Args:
            numbers: (N, D) of `describe`.
            y: (N,) classes; with one class only, that class always wins.
        """
        from sklearn.preprocessing import StandardScaler

        scaler = StandardScaler().fit(numbers)
        if not self.standardise:
            scaler.mean_, scaler.scale_ = np.zeros_like(scaler.mean_), np.ones_like(scaler.scale_)
        found = {"mean": scaler.mean_, "scale": scaler.scale_, "present": np.isin(np.arange(self.classes), y)}
        found |= _no_machine(numbers.shape[1], len(self.pairs))
        if found["present"].sum() > 1:
            x = scaler.transform(numbers)
            machine = self.machine(1 / max(x.shape[1] * x.var(), 1e-12)).fit(x, y)
            found |= {"gamma": machine.gamma, **_pairwise(machine, self.pairs)}
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


def _described(network: Machine, train: Samples) -> Array:
    """(N, D) of a selection; pictures come as 0..1, as everywhere in training."""
    x = {}
    for name, array in train.x.items():
        values = torch.from_numpy(np.ascontiguousarray(array[train.rows]))
        x[name] = values.float() / 255 if values.dtype == torch.uint8 else values
    device = network.mean.device
    with torch.no_grad():
        return np.asarray(network.describe(**{name: values.to(device) for name, values in x.items()}).cpu().numpy())


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
