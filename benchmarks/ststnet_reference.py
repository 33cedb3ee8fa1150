"""STSTNet as one would write it first, three branches and a loop over folds: what `ststnet.py` measures against.

Written plainly and anew; it shares nothing with `fleeting.models.ststnet`.
"""

from __future__ import annotations

import time
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn


class Branch(nn.Sequential):
    """Convolution, ReLU, batch norm, max pooling, dropout."""

    def __init__(self, filters: int, dropout: float) -> None:
        super().__init__(
            nn.Conv2d(3, filters, 3, padding=2),
            nn.ReLU(),
            nn.BatchNorm2d(filters),
            nn.MaxPool2d(3, 3, 1),
            nn.Dropout(dropout),
        )


class PlainSTSTNet(nn.Module):
    """Three branches, concatenated, averaged, classified: (B, 3, 28, 28) -> (B, classes)."""

    def __init__(self, classes: int = 3, dropout: float = 0.5) -> None:
        super().__init__()
        self.branches = nn.ModuleList(Branch(filters, dropout) for filters in (3, 5, 8))
        self.average = nn.AvgPool2d(2)
        self.classify = nn.Linear(400, classes)

    def forward(self, flow: Tensor) -> Tensor:
        joined = torch.cat([branch(flow) for branch in self.branches], 1)
        return self.classify(self.average(joined).flatten(1))

    def official(self) -> dict[str, Tensor]:
        """The state dict under the names of the authors' network (channels u, v, strain reversed to theirs)."""
        state = {}
        for number, branch in enumerate(self.branches, 1):
            state.update({f"conv{number}.{name}": value for name, value in branch[0].state_dict().items()})
            state.update({f"bn{number}.{name}": value for name, value in branch[2].state_dict().items()})
            state[f"conv{number}.weight"] = state[f"conv{number}.weight"].flip(1)
        state.update({f"fc.{name}": value for name, value in self.classify.state_dict().items()})
        return {name: value.clone() for name, value in state.items()}


def train_step(network: nn.Module, optimiser: torch.optim.Optimizer, flow: Tensor, target: Tensor) -> float:
    """One step of training; the loss."""
    loss = nn.functional.cross_entropy(network(flow), target)
    optimiser.zero_grad()
    loss.backward()
    optimiser.step()
    return loss.item()


def leave_one_subject_out(
    flow: npt.NDArray[np.float32], labels: npt.NDArray[np.int64], subjects: Sequence[str], epochs: int, folds: int = 0
) -> tuple[npt.NDArray[np.int64], float]:
    """Trains and tests one network a subject, one after the other.

    Args:
        flow: (N, 3, 28, 28), 0..255.
        labels, subjects: (N,).
        epochs: of each training, batches of 256, Adam 5e-5.
        folds: how many subjects, 0 for all.

    Returns:
        Predictions (N,), -1 where not tested, and the seconds it took.
    """
    x, y, who = torch.from_numpy(flow), torch.from_numpy(labels), np.asarray(subjects)
    guess = np.full(len(labels), -1)
    start = time.perf_counter()
    for number, subject in enumerate(sorted(set(subjects))[: folds or None]):
        torch.manual_seed(number)
        train, test = torch.from_numpy(np.flatnonzero(who != subject)), np.flatnonzero(who == subject)
        network = PlainSTSTNet()
        optimiser = torch.optim.Adam(network.parameters(), lr=5e-5)
        for _ in range(epochs):
            network.train()
            for chosen in train[torch.randperm(len(train))].split(256):
                train_step(network, optimiser, x[chosen], y[chosen])
        network.eval()
        with torch.no_grad():
            guess[test] = network(x[torch.from_numpy(test)]).argmax(1).numpy()
    return guess, time.perf_counter() - start
