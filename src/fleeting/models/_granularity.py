"""Dual-granularity classification: a coarse head for all classes, a fine one for those that are negative (MERba).

Mao et al., "MERba", section III-C. Coarse classes: "negative" first, then each class that is not negative, in the
order of the classes. Fine classes: the negative ones, in that order. An output is (B, coarse + fine) logits.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

_MARGIN = 1e-6
"""What the decided class gets ahead of a tie."""


class DualHead(nn.Module):
    """Two linear classifiers side by side, their loss and their decision.

    Args:
        width: of the pooled features.
        classes: C in all.
        negative: positions of the negative classes, at least two and not all.
    """

    def __init__(self, width: int, classes: int, negative: Sequence[int]) -> None:
        super().__init__()
        others = [index for index in range(classes) if index not in negative]
        self.coarse = nn.Linear(width, 1 + len(others))
        self.fine = nn.Linear(width, len(negative))
        self.register_buffer("negative", torch.tensor(sorted(negative)), persistent=False)
        self.register_buffer("others", torch.tensor(others), persistent=False)

    def forward(self, pooled: Tensor) -> Tensor:
        """(B, width) -> (B, coarse + fine) logits."""
        return torch.cat([self.coarse(pooled), self.fine(pooled)], -1)

    def loss(self, output: Tensor, target: Tensor, progress: float) -> Tensor:
        """Equations 6 and 7: 0.5 (L_coarse + alpha L_fine), alpha = min(0.5 + 2 progress, 2).

        Args:
            output: (B, coarse + fine).
            target: (B, C), rows sum to 1; of a blended target the negative part trains the fine head.
            progress: epoch / epochs, 0 at the start.

        Returns:
            (B,) losses; L_fine is 0 for a sample that is not negative.
        """
        coarse, fine = self._split(output)
        negative = target[:, self.get_buffer("negative")]
        wanted = torch.cat([negative.sum(-1, keepdim=True), target[:, self.get_buffer("others")]], -1)
        l_coarse = -(wanted * coarse.log_softmax(-1)).sum(-1)
        l_fine = -(negative * fine.log_softmax(-1)).sum(-1)
        return 0.5 * (l_coarse + weight(progress) * l_fine)

    def probabilities(self, output: Tensor) -> Tensor:
        """(B, C) whose greatest is the decision of section III-C: that of the coarse head, and where it says
        "negative" that of the fine head.

        The probabilities of the classes by the chain rule, p(negative) p(class | negative), need not have it: a coarse
        "negative" of .5 split in halves loses to a "positive" of .3. There, p(class | negative) is moved towards the
        decided class, by no more than the decision needs.
        """
        coarse, fine = (part.softmax(-1) for part in self._split(output))
        share, rest = coarse[:, :1], coarse[:, 1:]
        best = fine.argmax(-1, keepdim=True)
        top = fine.gather(-1, best)
        # smallest t with share ((1 - t) top + t) >= the greatest of the rest, where "negative" is the coarse decision
        # where the share is next to nothing it is not the decision; the gradient there must not be 0 x inf
        needed = (rest.amax(-1, keepdim=True) / share.clamp_min(_MARGIN) - top) / (1 - top).clamp_min(_MARGIN)
        decided = coarse.argmax(-1, keepdim=True) == 0
        moved = torch.where(decided, needed.clamp(0, 1), torch.zeros_like(needed))
        chosen = torch.zeros_like(fine).scatter(-1, best, 1.0)
        fine = fine + moved * (chosen - fine)
        found = torch.empty_like(torch.cat([rest, fine], -1))
        found[:, self.get_buffer("others")] = rest
        found[:, self.get_buffer("negative")] = share * fine
        return found + _MARGIN * (self._decision(coarse, best) - found)

    def scores(self, output: Tensor) -> Tensor:
        """(B, C) log p of each class by the chain rule, log p(negative) + log p(class | negative): what explanations
        are about. `probabilities` are moved towards the decision, and so would be their gradients.
        """
        coarse, fine = (part.log_softmax(-1) for part in self._split(output))
        found = torch.empty_like(torch.cat([coarse[:, 1:], fine], -1))
        found[:, self.get_buffer("others")] = coarse[:, 1:]
        found[:, self.get_buffer("negative")] = coarse[:, :1] + fine
        return found

    def _split(self, output: Tensor) -> tuple[Tensor, Tensor]:
        count = self.coarse.out_features
        return output[:, :count].float(), output[:, count:].float()

    def _decision(self, coarse: Tensor, best: Tensor) -> Tensor:
        """(B, C) one-hot. `best`: (B, 1) of the fine head."""
        negative, others = self.get_buffer("negative"), self.get_buffer("others")
        guess = coarse.argmax(-1, keepdim=True)
        place = torch.where(guess == 0, negative[best], others[(guess - 1).clamp_min(0)])
        return torch.zeros(len(coarse), len(negative) + len(others), device=coarse.device).scatter(-1, place, 1.0)


def weight(progress: float) -> float:
    """alpha of equation 7."""
    return min(0.5 + 2.0 * progress, 2.0)
