"""ViT-B/32 on frames: every patch attends to all others (Dosovitskiy et al., ICLR 2021), through timm.

One of the three networks of the frame study (Fikri and Ramadhani, "Preprocessing Paradox in Vision Transformer-Based
Micro-Expression Recognition"). Glossary: see `_frames`; P side of a patch, h = w = S / P patches a side.

87.5 M parameters for seven classes; 49 patches at 224 x 224, 144 at 384 x 384.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import log
from typing import Any, Literal, cast

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from fleeting.errors import UserError
from fleeting.models import _frames, _over_time, _timm
from fleeting.records import Paper

_PATCHES = 7  # a side, of ViT-B/32 at 224 x 224


class Options(_frames.FrameOptions, frozen=True, extra="forbid"):
    """The network; defaults are ViT-B/32's. For the options that it shares with the others see `FrameOptions`.

    Attributes:
        patch: side of a patch, a divisor of the picture's; "auto": the divisor that leaves nearest to 7 x 7 patches,
            which is 32 at 224 and 4 or 6 in pictures of 28 or 36.
        dim: width. depth: blocks. head_width: channels of an attention head. mlp: width of the hidden layer of a
            block's MLP in units of `dim`.
    """

    patch: _frames.Some | Literal["auto"] = 32
    dim: int = Field(768, ge=1)
    depth: int = Field(12, ge=1)
    head_width: int = Field(64, ge=1)
    mlp: int = Field(4, ge=1)
    mean: _frames.Three = (0.5, 0.5, 0.5)
    std: _frames.Spread = (0.5, 0.5, 0.5)

    @model_validator(mode="after")
    def _check(self) -> Options:
        if self.dim % self.head_width:
            raise ValueError(f"want dim = {self.dim} to be a multiple of head_width, got {self.head_width}")
        return self


SMALL = Options(patch="auto", dim=32, depth=2, head_width=8, mlp=2, drop_path=0.0, dropout=0.0, memory=16)
RECIPE = _frames.RECIPE.model_copy(update={"criterion": "focal"})
INPUT: tuple[str, dict[str, object]] = ("frames", {"size": 224})
PAPER = Paper(
    title="An Image is Worth 16x16 Words: Transformers for Image Recognition at Scale",
    venue="ICLR",
    year=2021,
    doi="10.48550/arXiv.2010.11929",
    parameters=87_460_615,
    classes=7,
    deviations=_frames.DEVIATIONS,
)


def build(shapes: Mapping[str, tuple[int, ...]], classes: int, options: Options) -> nn.Module:
    """The network for square pictures whose side is a multiple of the patch's.

    Args:
        shapes: of one view: ``{"frame": (channels, S, S)}``, or ``{"frames": (channels, T, S, S)}`` with `over_time`;
            1 or 3 channels.
        classes: C.
        options: see there.

    Returns:
        ``forward(frame)`` or ``forward(frames) -> (B, C)`` logits. Its `notices` say what it started from; position
        embeddings of a file for another size are resized by interpolation, as timm does.

    Raises:
        UserError: the frames are not what the options want, the patch does not divide the side, or `weights` cannot be
            had or do not fit.
    """
    given = _frames.picture(shapes, options, "vit")
    patch = _patch(given.side, options.patch)
    layers: Any = _timm.create(
        "vit_base_patch32_224", img_size=given.side, patch_size=patch, num_classes=classes, embed_dim=options.dim,
        depth=options.depth, num_heads=options.dim // options.head_width, mlp_ratio=float(options.mlp),
        drop_rate=options.dropout, drop_path_rate=options.drop_path,
    )  # fmt: skip
    layers.head = _over_time.classifier(layers.head, options.dim, classes, options, given.length)
    network = (ViT if given.length is not None else Alone)(layers, given, options)
    pretrained = f"vit_base_patch{patch if patch == 16 else 32}_{384 if given.side > 304 else 224}"
    first = [*layers.patch_embed.parameters(), layers.cls_token, layers.pos_embed]
    network.begin("vit", pretrained, "head.*", [first, *(block.parameters() for block in layers.blocks)], options)
    return network


class ViT(_frames.FrameNetwork):
    """timm's network, whose class token decides.

    What is explained is the map of patches before the last block: behind it the class token alone has a say. The token
    goes along as channels of that map, whose gradient is cut, so that a heat map holds what the last block takes from
    the patches.
    """

    layers: Any

    def encode(self, pictures: Tensor) -> Tensor:
        """Tokens (N, 1 + h w, D) before the last block, the class token first."""
        layers = self.layers
        tokens = layers.norm_pre(layers.patch_drop(layers._pos_embed(layers.patch_embed(pictures))))
        return cast(Tensor, layers.blocks[:-1](tokens))

    def decide(self, encoded: Tensor) -> Tensor:
        """Logits (B, C) of the class token behind the last block."""
        return cast(Tensor, self.layers.forward_head(self.layers.norm(self.layers.blocks[-1](encoded))))

    def mapped(self, encoded: Tensor) -> Tensor:
        """(N, 2 D, h, w): patches, and the class token, the same at each place."""
        token, patches = encoded[:, :1], encoded[:, 1:]
        both = torch.cat([patches, token.expand_as(patches)], 2).transpose(1, 2)
        return both.reshape(*both.shape[:2], round(both.shape[2] ** 0.5), -1)

    def unmapped(self, maps: Tensor) -> Tensor:
        """(N, 1 + h w, D), the gradient of the class token cut."""
        patches, token = maps.flatten(2).transpose(1, 2).chunk(2, 2)
        return torch.cat([token[:, :1].detach(), patches], 1)


class Alone(ViT):
    """On single frames, where the tokens that attend to each other are places of one map."""

    def attention(self, frame: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Logits (B, C), and the attention of each block: (B, heads, 1 + h w, 1 + h w), rows sum to 1."""
        layers, found = self.layers, []
        tokens = layers.norm_pre(layers._pos_embed(layers.patch_embed(self._pictures(frame, None))))
        for block in layers.blocks:
            said, matrix = _attend(block.attn, block.norm1(tokens))
            tokens = tokens + block.ls1(said)
            tokens = tokens + block.ls2(block.mlp(block.norm2(tokens)))
            found.append(matrix)
        return layers.forward_head(layers.norm(tokens)), found


def _attend(own: Any, tokens: Tensor) -> tuple[Tensor, Tensor]:
    """What timm's attention says of tokens (B, N, D), and its matrices (B, heads, N, N)."""
    parts = own.qkv(tokens).unflatten(2, (3, own.num_heads, own.head_dim)).permute(2, 0, 3, 1, 4)
    query, key, value = own.q_norm(parts[0]), own.k_norm(parts[1]), parts[2]
    matrix: Tensor = (query @ key.transpose(-2, -1) * own.scale).softmax(-1)
    return own.proj(own.norm((matrix @ value).transpose(1, 2).flatten(2))), matrix


def _patch(side: int, wanted: int | str) -> int:
    """The side of a patch.

    Raises:
        UserError: it does not divide the picture's side into two or more.
    """
    grids = [grid for grid in range(2, side + 1) if side % grid == 0]
    if wanted == "auto" and grids:
        return side // min(grids, key=lambda grid: (abs(log(grid / _PATCHES)), -grid))
    if wanted == "auto" or side // int(wanted) not in grids or side % int(wanted):
        raise UserError(
            f"vit: want a side that is a multiple of model.patch = {wanted} and at least twice that, got {side}; set "
            f"input.size to such a size, or model.patch to a divisor of the side or 'auto'"
        )
    return int(wanted)
