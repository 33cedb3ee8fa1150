"""What ViT, Swin and PoolFormer share as networks of the frame study: options, colours, frames in time, explanations.

Glossary: B batch, T frames of a clip that are seen together, N pictures (B, or B T), S side of a picture, C classes,
D width of the last layer, h, w sides of its map.

Fikri and Ramadhani, "Preprocessing Paradox in Vision Transformer-Based Micro-Expression Recognition", section II.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Annotated, Literal, NamedTuple

import torch
from pydantic import Field
from torch import Tensor, nn

from fleeting.errors import UserError
from fleeting.models import _timm
from fleeting.training import Recipe

_Finite = Annotated[float, Field(allow_inf_nan=False)]
Three = tuple[_Finite, _Finite, _Finite]
Some = Annotated[int, Field(ge=1)]
Spread = tuple[
    Annotated[float, Field(gt=0, allow_inf_nan=False)],
    Annotated[float, Field(gt=0, allow_inf_nan=False)],
    Annotated[float, Field(gt=0, allow_inf_nan=False)],
]
IMAGENET_MEAN: Three = (0.485, 0.456, 0.406)
IMAGENET_STD: Three = (0.229, 0.224, 0.225)

# as the study: 50 epochs of AdamW, weights by inverse frequency, which no class of CASME II brings near the limit
RECIPE = Recipe(
    epochs=50, batch=16, optimiser="adamw", lr=5e-5, weight_decay=1e-3, criterion="ce", balance="weights",
    balance_limit=1000.0, patience=5, vote="majority",
)  # fmt: skip
DEVIATIONS = (
    "The recipe, the input and what is said below are of the frame study (Fikri and Ramadhani, 'Preprocessing Paradox "
    "in Vision Transformer-Based Micro-Expression Recognition'), which trains this network, not of ImageNet's.",
    "The study starts from ImageNet weights without naming them; here the default is at random, weights = 'hub' starts "
    "from those that timm names first (the classes' own layer stays random).",
    "The drop path and the dropout that its search chose are not printed; the defaults of .1 lie inside the ranges "
    "searched (.05 to .3 and 0 to .2), and where its dropout sits is not said: here before each layer of the "
    "classifier.",
    "Which 'layer configurations' were searched is not said: here the number of layers and their widths, hidden layers "
    "of the classifier (hidden), and how many of the first parts stay as they begin (frozen).",
    "The alpha of the focal loss are not printed: here they are the weights by inverse frequency of the other loss.",
    "The learning rate is constant and nothing is augmented, since neither a schedule nor an augmentation is named.",
    "Patience is 3 to 5 without saying which for which network, the batch 16 to 32 at 384 and 4 to 16 at 224: 5 and 16 "
    "here (recipe.patience, recipe.batch).",
    "Early stopping looks at the macro F1 of the validation frames, one by one; whether the study's voted first is not "
    "said.",
    "The study's grey frames are one channel before networks of three: here the channel is repeated, so that "
    "pretrained weights see a grey photograph and the parameters stay as many.",
)


class FrameOptions(_timm.Start, frozen=True, extra="forbid"):
    """Options that the three have in common. Of the start (`weights`, `weights_sha256`) see `_timm.Start`.

    Attributes:
        drop_path: chance that a sample's last block is left out in training; of earlier ones less, in equal steps. The
            study searches .05 to .3.
        dropout: before each layer of the classifier. The study searches 0 to .2.
        hidden: widths of hidden layers of the classifier (GELU between); none: one linear layer, as pretrained.
        frozen: so many of the network's first parts (the patches' own layer, then blocks or stages) stay as they
            begin, which is of use with `weights`.
        over_time: "none": each frame is decided alone and the clip by a vote; "lstm", "gru": the frames of a clip go
            through the network one by one, the recurrent layer reads what it says of them in order, and the classifier
            what is left in the end. It wants frames that are seen together (``input.views = "together"``). The
            study's future work.
        memory: width of the recurrent layer.
        mean, std: pictures in 0..1 minus `mean`, over `std`, of red, green and blue: those that the weights of "hub"
            were trained with.
    """

    drop_path: float = Field(0.1, ge=0, lt=1)
    dropout: float = Field(0.1, ge=0, lt=1)
    hidden: tuple[Some, ...] = ()
    frozen: int = Field(0, ge=0)
    over_time: Literal["none", "lstm", "gru"] = "none"
    memory: int = Field(256, ge=1)
    mean: Three = IMAGENET_MEAN
    std: Spread = IMAGENET_STD


class Picture(NamedTuple):
    """What a network is given.

    Attributes:
        side: S.
        length: T, or None: one frame.
    """

    side: int
    length: int | None


def picture(shapes: Mapping[str, tuple[int, ...]], options: FrameOptions, model: str) -> Picture:
    """What the input gives, after a check that it is what the options want.

    Args:
        shapes: of one view: ``{"frame": (channels, S, S)}``, or ``{"frames": (channels, T, S, S)}``; 1 or 3 channels.
        options: see there.
        model: its name, for complaints.

    Raises:
        UserError: another array, no square, or another number of channels.
    """
    together = options.over_time != "none"
    wanted, other = ("frames", "frame") if together else ("frame", "frames")
    shape = shapes.get(wanted, ())
    if other in shapes and not shape:
        raise UserError(
            f"{model}: want {'frames together' if together else 'one frame'} for model.over_time = "
            f"{options.over_time!r}, got {dict(shapes)}; set input.views = {'together' if together else 'each'!r}, "
            f"or model.over_time"
        )
    if len(shape) != 3 + together or shape[-1] != shape[-2] or shape[0] not in (1, 3) or min(shape) < 1:
        raise UserError(
            f"{model}: want square frames in grey or colours, got {dict(shapes)}; use the input frames with "
            "input.size, or an alignment that gives squares"
        )
    return Picture(shape[-1], shape[1] if together else None)


class FrameNetwork(nn.Module):
    """A network of timm on frames. One of the family says what `encode` and `decide` are.

    Attributes:
        layers: timm's, with timm's names.
        notices: what the weights started from, one sentence each.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, layers: nn.Module, given: Picture, options: FrameOptions) -> None:
        super().__init__()
        self.notices: tuple[str, ...] = ()
        self.layers = layers
        self.length = given.length
        # not saved: what is saved has timm's names alone behind one word, which `_timm.start` takes back
        self.register_buffer("mean", torch.tensor(options.mean).view(3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(options.std).view(3, 1, 1), persistent=False)

    def begin(
        self, model: str, pretrained: str, fresh: str, parts: Iterable[Iterable[nn.Parameter]], options: FrameOptions
    ) -> None:
        """Gives the network its first weights, and makes the parameters of its first parts stay as they begin.

        Args:
            model: its name, for complaints.
            pretrained: timm's name for what the weights are of.
            fresh: pattern of the names of the classes' own layer.
            parts: of the network, in order.
            options: see there.

        Raises:
            UserError: as `_timm.start`, or there are fewer parts than `options.frozen`.
        """
        self.notices = _timm.start(self.layers, pretrained, options, [fresh], model)
        found, count = [list(part) for part in parts], options.frozen
        if count > len(found):
            raise UserError(
                f"{model}: want at most {len(found)} parts that stay as they are, got {count}; lower frozen"
            )
        for parameter in (parameter for part in found[:count] for parameter in part):
            parameter.requires_grad_(False)

    def forward(self, frame: Tensor | None = None, frames: Tensor | None = None) -> Tensor:
        """Logits (B, C) of frames (B, 1 or 3, S, S), or of frames together (B, 1 or 3, T, S, S), in 0..1."""
        return self.decide(self.encode(self._pictures(frame, frames)))

    def features(self, frame: Tensor | None = None, frames: Tensor | None = None) -> Tensor:
        """The last map that has a say: (B, K, h, w); of frames together (B, T K, h, w), frame by frame."""
        found = self.mapped(self.encode(self._pictures(frame, frames)))
        return found if self.length is None else found.unflatten(0, (-1, self.length)).flatten(1, 2)

    def head(self, features: Tensor) -> Tensor:
        """Logits (B, C) of `features`."""
        if self.length is not None:
            features = features.unflatten(1, (self.length, -1)).flatten(0, 1)
        return self.decide(self.unmapped(features))

    def encode(self, pictures: Tensor) -> Tensor:
        """What the network says of the places of pictures (N, 3, S, S)."""
        raise NotImplementedError

    def decide(self, encoded: Tensor) -> Tensor:
        """Logits (B, C) of `encode`'s."""
        raise NotImplementedError

    def mapped(self, encoded: Tensor) -> Tensor:
        """`encode`'s as maps (N, K, h, w)."""
        return encoded

    def unmapped(self, maps: Tensor) -> Tensor:
        """`mapped` undone."""
        return maps

    def _pictures(self, frame: Tensor | None, frames: Tensor | None) -> Tensor:
        """(N, 3, S, S), frame after frame of the first clip, then of the next, around zero."""
        given = frame if frames is None else frames.transpose(1, 2).flatten(0, 1)
        if given is None:
            raise ValueError("want frame or frames, got neither")
        return (given.expand(-1, 3, -1, -1) - self.mean) / self.std
