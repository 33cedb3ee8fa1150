"""HTNet: counts, the authors' layout, the equations written out, the path for one token a block."""

import math
import re
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as functional
from pydantic import ValidationError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from fleeting import training
from fleeting.errors import UserError
from fleeting.models import htnet

TINY = {"dim": 16, "heads": 3, "layers": (1, 2, 1)}
VARIANTS = [
    {"patch_size": patch, "scale": scale, "activation": activation}
    for patch in (None, 1)
    for scale in ("dim", "head")
    for activation in ("relu", "gelu")
]


pytestmark = pytest.mark.usefixtures("one_thread")


def built(side: int = 28, **options: Any) -> nn.Module:
    torch.manual_seed(0)
    return htnet.build({"flow": (3, side, side)}, 3, htnet.Options(**{**TINY, "position": "scalar", **options}))


def pictures(count: int = 3, side: int = 28) -> Tensor:
    return torch.rand(count, 3, side, side, generator=torch.Generator().manual_seed(1)) * 255


def parameters(**options: Any) -> int:
    with torch.device("meta"):
        network = htnet.build({"flow": (3, 28, 28)}, 3, htnet.CODE.model_copy(update=options))
    return sum(parameter.numel() for parameter in network.parameters())


# --- counts


def test_the_code_s_setting_has_114_million_parameters() -> None:
    assert parameters() == 114_429_446  # FACTS: 114.43 M
    assert parameters(layers=(2, 2, 10)) == 139_582_982


def test_the_paper_s_setting_differs_by_the_position_vectors() -> None:
    extra = sum(width - 1 for width in (256, 512, 1024))
    assert parameters() + extra == parameters(position="vector") == htnet.PAPER.parameters


def test_table_5_prints_the_size_in_mebibytes() -> None:
    printed = {2: 149.57, 4: 245.88, 6: 342.20, 8: 438.51, 10: 534.82, 12: 631.13}
    for top, size in printed.items():
        assert parameters(layers=(2, 2, top)) * 4 / 2**20 == pytest.approx(size, rel=0.011)


def test_256_channels_and_3_heads_make_85_a_head() -> None:
    with torch.device("meta"):
        network = htnet.build({"flow": (3, 28, 28)}, 3, htnet.Options())
    assert [level.layers[0].value.out_features for level in network.levels] == [255, 510, 1020]
    assert [level.layers[0].heads for level in network.levels] == [3, 6, 12]


# --- the authors' layout and the equations


def official_layout(options: htnet.Options, side: int = 28, classes: int = 3) -> dict[str, Tensor]:
    """Random weights under the names and in the shapes of the authors' code, derived by hand."""
    patch = options.patch_size or side // 4
    shapes: dict[str, tuple[int, ...]] = {}

    def convolution(name: str, out: int, into: int, kernel: int = 1, bias: bool = True) -> None:
        shapes[f"{name}.weight"] = (out, into, kernel, kernel)
        if bias:
            shapes[f"{name}.bias"] = (out,)

    def norm(name: str, width: int) -> None:
        shapes[f"{name}.g"] = shapes[f"{name}.b"] = (1, width, 1, 1)

    convolution("to_patch_embedding.1", options.dim, 3 * patch**2)
    for i, depth in enumerate(options.layers):
        width, heads = options.dim * 2**i, options.heads * 2**i
        inner = width // heads * heads
        shapes[f"layers.{i}.0.pos_emb"] = ((side // 4 // patch) ** 2,)
        for j in range(depth):
            name = f"layers.{i}.0.layers.{j}"
            norm(f"{name}.0.norm", width)
            convolution(f"{name}.0.fn.to_qkv", 3 * inner, width, bias=False)
            convolution(f"{name}.0.fn.to_out.0", width, inner)
            norm(f"{name}.1.norm", width)
            convolution(f"{name}.1.fn.net.0", 4 * width, width)
            convolution(f"{name}.1.fn.net.3", width, 4 * width)
        if i < 2:
            convolution(f"layers.{i}.1.0", 2 * width, width, 3)
            norm(f"layers.{i}.1.1", 2 * width)
    norm("mlp_head.0", 4 * options.dim)
    shapes["mlp_head.2.weight"], shapes["mlp_head.2.bias"] = (classes, 4 * options.dim), (classes,)
    generator = torch.Generator().manual_seed(2)
    return {
        name: torch.randn(shape, generator=generator) * (1.0 if math.prod(shape) < 500 else 0.1)
        for name, shape in shapes.items()
    }


class Equations:
    """The paper's equations in float64, one place and one block at a time, from weights in the authors' layout."""

    def __init__(self, weights: dict[str, Tensor], options: htnet.Options, side: int = 28) -> None:
        self.w = {name: tensor.double() for name, tensor in weights.items()}
        self.options, self.side = options, side
        self.patch = options.patch_size or side // 4

    def __call__(self, flow: Tensor) -> Tensor:
        return torch.stack([self.one(picture.double()) for picture in flow])

    def one(self, picture: Tensor) -> Tensor:
        x = self.embedded(picture)  # (d, h, w)
        for level, blocks in enumerate((4, 2, 1)):
            m = x.shape[1] // blocks
            y = torch.empty_like(x)
            for row in range(0, x.shape[1], m):
                for column in range(0, x.shape[2], m):
                    block = x[:, row : row + m, column : column + m].flatten(1).t()  # (n, d)
                    y[:, row : row + m, column : column + m] = self.block(block, level).t().unflatten(1, (m, m))
            x = self.aggregated(y, level) if level < 2 else y
        x = torch.stack([self.norm(place, "mlp_head.0") for place in x.flatten(1).t()]).mean(0)
        return self.w["mlp_head.2.weight"] @ x + self.w["mlp_head.2.bias"]

    def embedded(self, picture: Tensor) -> Tensor:
        p, count = self.patch, self.side // self.patch
        matrix = self.w["to_patch_embedding.1.weight"][:, :, 0, 0]
        rows = []
        for i in range(count):
            for j in range(count):
                patch = picture[:, i * p : (i + 1) * p, j * p : (j + 1) * p]
                rows.append(matrix @ patch.permute(1, 2, 0).flatten())  # p1, p2, c
        return (torch.stack(rows) + self.w["to_patch_embedding.1.bias"]).t().unflatten(1, (count, count))

    def norm(self, x: Tensor, name: str) -> Tensor:
        gain, shift = self.w[f"{name}.g"].flatten(), self.w[f"{name}.b"].flatten()
        deviation = (x.var(-1, unbiased=False, keepdim=True) + 1e-5).sqrt()
        return (x - x.mean(-1, keepdim=True)) / deviation * gain + shift

    def block(self, x: Tensor, level: int) -> Tensor:
        x = x + self.w[f"layers.{level}.0.pos_emb"][:, None]
        for j in range(self.options.layers[level]):
            name = f"layers.{level}.0.layers.{j}"
            x = x + self.attention(self.norm(x, f"{name}.0.norm"), f"{name}.0.fn", level)
            x = x + self.feed_forward(self.norm(x, f"{name}.1.norm"), f"{name}.1.fn.net")
        return x

    def attention(self, x: Tensor, name: str, level: int) -> Tensor:
        heads, width = self.options.heads * 2**level, x.shape[1]
        a = width // heads
        query, key, value = (x @ part.t() for part in self.w[f"{name}.to_qkv.weight"][:, :, 0, 0].chunk(3))
        root = math.sqrt(width if self.options.scale == "dim" else a)
        parts = []
        for head in range(heads):
            columns = slice(head * a, (head + 1) * a)
            dots = torch.einsum("ic,jc->ij", query[:, columns], key[:, columns]) / root
            share = dots.exp() / dots.exp().sum(1, keepdim=True)
            parts.append(share @ value[:, columns])
        return torch.cat(parts, 1) @ self.w[f"{name}.to_out.0.weight"][:, :, 0, 0].t() + self.w[f"{name}.to_out.0.bias"]

    def feed_forward(self, x: Tensor, name: str) -> Tensor:
        x = x @ self.w[f"{name}.0.weight"][:, :, 0, 0].t() + self.w[f"{name}.0.bias"]
        x = x.clamp(min=0) if self.options.activation == "relu" else x * (1 + torch.erf(x / 2**0.5)) / 2
        return x @ self.w[f"{name}.3.weight"][:, :, 0, 0].t() + self.w[f"{name}.3.bias"]

    def aggregated(self, x: Tensor, level: int) -> Tensor:
        kernel, size = self.w[f"layers.{level}.1.0.weight"], x.shape[1]
        padded = functional.pad(x, (1, 1, 1, 1))
        y = torch.empty(len(kernel), size, size, dtype=x.dtype)
        for i in range(size):
            for j in range(size):
                place = torch.einsum("oikl,ikl->o", kernel, padded[:, i : i + 3, j : j + 3])
                y[:, i, j] = self.norm(place + self.w[f"layers.{level}.1.0.bias"], f"layers.{level}.1.1")
        half = range(0, size, 2)
        pooled = [y[:, max(i - 1, 0) : i + 2, max(j - 1, 0) : j + 2].amax((1, 2)) for i in half for j in half]
        return torch.stack(pooled, 1).unflatten(1, (size // 2, size // 2))


@pytest.mark.parametrize("variant", VARIANTS, ids=lambda variant: "-".join(map(str, variant.values())))
def test_outputs_follow_the_equations(variant: dict[str, Any]) -> None:
    options = htnet.Options(**{**TINY, "position": "scalar", **variant})
    weights = official_layout(options)
    network = built(**variant)
    network.load_state_dict(htnet.from_official(weights))
    flow = pictures(2) / 255
    with torch.no_grad():
        ours = network(flow)
    theirs = Equations(weights, options)(flow)
    assert (ours - theirs).abs().max() < 1e-5 * max(1.0, float(theirs.abs().max()))


def test_the_scale_matters_only_where_a_block_has_many_tokens() -> None:
    for patch, equal in ((None, True), (1, False)):
        weights = htnet.from_official(official_layout(htnet.Options(**TINY, position="scalar", patch_size=patch)))
        networks = [built(patch_size=patch, scale=scale) for scale in ("dim", "head")]
        for network in networks:
            network.load_state_dict(weights)
        outputs = [network(pictures() / 255) for network in networks]
        assert torch.allclose(*outputs, atol=1e-4) == equal


@pytest.mark.parametrize("patch", [None, 1])
def test_other_picture_sizes_follow_the_equations(patch: int | None) -> None:
    options = htnet.Options(**TINY, position="scalar", patch_size=patch)
    weights = official_layout(options, side=20)
    network = built(side=20, patch_size=patch)
    network.load_state_dict(htnet.from_official(weights))
    flow = pictures(2, side=20) / 255
    theirs = Equations(weights, options, side=20)(flow)
    assert (network(flow) - theirs).abs().max() < 1e-5 * max(1.0, float(theirs.abs().max()))


@pytest.mark.parametrize("patch", [None, 1])
def test_the_authors_layout_round_trips(patch: int | None) -> None:
    options = htnet.Options(**TINY, position="scalar", patch_size=patch)
    weights = official_layout(options)
    back = htnet.to_official(htnet.from_official(weights))
    assert back.keys() == weights.keys()
    assert all(torch.equal(back[name], weights[name]) for name in weights)
    own = built(patch_size=patch).state_dict()
    assert htnet.from_official(htnet.to_official(own)).keys() == own.keys()


def test_vectors_have_no_place_in_the_authors_layout() -> None:
    with pytest.raises(UserError, match="position = 'scalar'"):
        htnet.to_official(built(position="vector").state_dict())


def test_a_missing_entry_is_named() -> None:
    weights = official_layout(htnet.Options(**TINY, position="scalar"))
    del weights["layers.1.1.0.bias"]
    with pytest.raises(UserError, match=re.escape("layers.1.1.0.bias")):
        htnet.from_official(weights)


# --- one token a block


def test_one_token_gives_what_attention_over_it_gives() -> None:
    network, general = built(), built()
    for module in general.modules():
        if hasattr(module, "alone"):
            module.alone = False
    outputs = [model(pictures()) for model in (network, general)]
    assert torch.allclose(*outputs, rtol=1e-5, atol=1e-6)
    for output in outputs:
        functional.cross_entropy(output, torch.tensor([0, 1, 2])).backward()
    for (name, ours), theirs in zip(network.named_parameters(), general.parameters(), strict=True):
        assert ours.grad is not None
        assert theirs.grad is not None
        assert torch.allclose(ours.grad, theirs.grad, rtol=1e-4, atol=1e-6), name
        if "query_key" in name:
            assert not ours.grad.any()


def test_a_map_of_2_x_2_is_convolved_like_any_other() -> None:
    convolution = htnet._Convolution(5, 7)
    x = torch.randn(4, 2, 2, 5, requires_grad=True)
    fast = convolution(x)
    weight = convolution.weight.permute(2, 3, 0, 1)
    plain = functional.conv2d(x.permute(0, 3, 1, 2), weight, convolution.bias, padding=1).permute(0, 2, 3, 1)
    assert torch.allclose(fast, plain, atol=1e-6)
    wanted = (x, convolution.weight, convolution.bias)
    gradients = [torch.autograd.grad(y.square().sum(), wanted) for y in (fast, plain)]
    for ours, theirs in zip(*gradients, strict=True):
        assert torch.allclose(ours, theirs, rtol=1e-4, atol=1e-5)


# --- the contract of a network


@pytest.mark.parametrize("options", [{}, {"patch_size": 1}, {"position": "vector"}, {"activation": "gelu"}])
def test_every_parameter_gets_a_gradient(options: dict[str, Any]) -> None:
    network = built(**options)
    network(pictures()).sum().backward()
    assert all(parameter.grad is not None for parameter in network.parameters())


@pytest.mark.parametrize("patch", [None, 1])
def test_forward_is_the_head_of_the_finest_map(patch: int | None) -> None:
    network = built(patch_size=patch)
    features = network.features(pictures())
    assert features.shape == (3, 16, *(2 * (4 if patch is None else 28,)))
    assert torch.equal(network.head(features), network(pictures()))
    assert torch.allclose(network.head(features.contiguous()), network(pictures()), atol=1e-6)


def test_each_picture_alone_gives_its_row() -> None:
    network = built().eval()
    flow = pictures(4)
    rows = torch.cat([network(picture[None]) for picture in flow])
    assert torch.allclose(rows, network(flow), atol=1e-5)


def test_same_seed_same_weights() -> None:
    first, second = built().state_dict(), built().state_dict()
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_weights_survive_a_file(tmp_path: Path) -> None:
    network, other = built(), built(dropout=0.1).eval()
    save_file(network.state_dict(), tmp_path / "model.safetensors")
    other.load_state_dict(load_file(tmp_path / "model.safetensors"))
    assert torch.equal(network(pictures()), other(pictures()))


def test_dropout_acts_in_training_only() -> None:
    network = built(dropout=0.5)
    assert not torch.equal(network(pictures()), network(pictures()))
    network.eval()
    assert torch.equal(network(pictures()), network(pictures()))


@pytest.mark.parametrize("patch", [None, 1])
def test_bfloat16_stays_near(patch: int | None) -> None:
    network = built(patch_size=patch)
    plain = network(pictures())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        half = network(pictures())
    half.float().sum().backward()
    assert torch.isfinite(half).all()
    assert (half.float() - plain).abs().max() < 0.05 * max(1.0, float(plain.detach().abs().max()))
    assert all(torch.isfinite(parameter.grad).all() for parameter in network.parameters())


@pytest.mark.parametrize("shape", [(3, 28, 24), (3, 30, 30), (3, 0, 0), (28, 28)])
def test_wrong_pictures_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(UserError, match="multiple of 4"):
        htnet.build({"flow": shape}, 3, htnet.SMALL)


def test_a_patch_that_does_not_fit_is_refused() -> None:
    with pytest.raises(UserError, match="multiple of 12"):
        built(patch_size=3)


@pytest.mark.parametrize("wrong", [{"heads": 17}, {"layers": (0, 2, 8)}, {"activation": "tanh"}, {"depth": 3}])
def test_wrong_options_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        htnet.Options(**{**TINY, **wrong})


def test_it_learns_four_pictures() -> None:
    network = built()
    flow, target = pictures(4), torch.tensor([0, 1, 2, 0])
    optimiser = training._optimiser(network, htnet.RECIPE.model_copy(update={"lr": 1e-3}))
    for _ in range(40):
        loss = functional.cross_entropy(network(flow), target)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        optimiser.step()
    assert loss.item() < 0.05
