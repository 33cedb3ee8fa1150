"""The classifier of a frame or, behind a recurrent layer, of frames in order."""

from __future__ import annotations

from typing import cast

from torch import Tensor, nn

from fleeting.models._frames import FrameOptions


def classifier(own: nn.Module, width: int, classes: int, options: FrameOptions, length: int | None) -> nn.Module:
    """What stands behind a network's last features (N, width).

    Args:
        own: the network's own, kept where the options ask for nothing else.
        width: of the features.
        classes: C.
        options: see there.
        length: T, frames a clip; None: each is decided alone.

    Returns:
        (N, width) -> (B, C) logits.
    """
    if length is None and not options.hidden:
        return own
    return Classifier(width, classes, options, length)


class Classifier(nn.Module):
    """A recurrent layer over the frames of a clip, if there are any, and linear layers with GELU between them."""

    def __init__(self, width: int, classes: int, options: FrameOptions, length: int | None) -> None:
        super().__init__()
        self.length = length
        self.recurrent: nn.RNNBase | None = None
        if length is not None:
            kind = nn.LSTM if options.over_time == "lstm" else nn.GRU
            self.recurrent = kind(width, options.memory, batch_first=True)
            width = options.memory
        parts: list[nn.Module] = [nn.Dropout(options.dropout)] if length is not None else []
        for hidden in options.hidden:
            parts += [nn.Linear(width, hidden), nn.GELU(), nn.Dropout(options.dropout)]
            width = hidden
        self.decide = nn.Sequential(*parts, nn.Linear(width, classes))

    def forward(self, features: Tensor) -> Tensor:
        """Logits (B, C) of features (N, D); frames stand in order, clip after clip."""
        if self.recurrent is not None and self.length is not None:
            said, _ = self.recurrent(features.view(-1, self.length, features.shape[-1]))
            features = said[:, -1]  # after the last frame
        return cast(Tensor, self.decide(features))
