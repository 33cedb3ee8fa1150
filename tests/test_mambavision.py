"""MambaVision: published counts, its blocks against their equations written out, quirks, windows."""

import math
from collections.abc import Iterator
from typing import Any

import pytest
import torch
import torch.nn.functional as functional
from pydantic import ValidationError
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from fleeting import training
from fleeting.errors import UserError
from fleeting.layers import window
from fleeting.models import _blocks, _mixer, mambavision

TINY = {"dim": 4, "inner": 3, "depths": (1, 1, 3, 2), "heads": (2, 4), "drop_path": 0.0, "scale": 0.0, "state": 3}


pytestmark = pytest.mark.usefixtures("one_thread")


def shaken(network: nn.Module, seed: int = 3) -> nn.Module:
    """Weights far from their start, so that nothing is 0 or 1 by chance; running statistics too."""
    generator = torch.Generator().manual_seed(seed)
    for name, tensor in network.state_dict().items():
        if tensor.is_floating_point():
            noise = torch.randn(tensor.shape, generator=generator)
            around = 1.0 if name.endswith(("running_var", "norm.weight", "norm1.weight", "norm2.weight")) else 0.0
            fan = tensor.shape[-1] if tensor.ndim > 1 else 16
            tensor.copy_(around + noise.clamp(-2, 2) * (0.3 if tensor.ndim < 2 else 0.7 / math.sqrt(fan)))
    return network.eval()


def built(side: int = 28, stride: int = 1, **options: Any) -> nn.Module:
    torch.manual_seed(0)
    chosen = mambavision.Options(**{**TINY, "windows": (7, 4), "stem_stride": stride, **options})
    return mambavision.build({"flow": (3, side, side)}, 3, chosen)


def pictures(count: int = 2, side: int = 28) -> Tensor:
    return torch.randn(count, 3, side, side, generator=torch.Generator().manual_seed(1))


# --- counts


@pytest.mark.parametrize(("size", "millions"), [("T", 31.8), ("T2", 35.1), ("S", 50.1), ("B", 97.7), ("L", 227.9)])
def test_parameters_are_the_published_ones(size: Any, millions: float) -> None:
    with torch.device("meta"):
        network = mambavision.build({"flow": (3, 224, 224)}, 1000, mambavision.Options(size=size))
    count = sum(parameter.numel() for parameter in network.parameters())
    assert abs(count / 1e6 - millions) < 0.1
    assert size != "B" or count == mambavision.PAPER.parameters


def test_multiplications_are_the_published_ones() -> None:
    with torch.device("meta"):
        network = mambavision.build({"flow": (3, 224, 224)}, 1000, mambavision.Options()).eval()
        with FlopCounterMode(display=False) as counter:
            network(torch.zeros(1, 3, 224, 224))
    found = counter.get_total_flops() / 2e9
    assert found == pytest.approx(15.0, rel=0.02)  # published: 15.0 G
    assert f"{found:.1f} G multiplications" in (mambavision.__doc__ or "")


def test_a_size_gives_what_is_not_given() -> None:
    assert mambavision.Options(size="T").chosen == mambavision.SIZES["T"]
    chosen = mambavision.Options(size="T", dim=16, scale=0.5).chosen
    assert chosen == mambavision.SIZES["T"]._replace(dim=16, scale=0.5)


def test_the_greater_half_mixes_and_the_rest_attends() -> None:
    branches = [type(block.branch).__name__ for block in built().stages[2].blocks]
    assert branches == ["Mixer", "Mlp", "Mixer", "Mlp", "Attention", "Mlp"]
    branches = [type(block.branch).__name__ for block in built().stages[3].blocks]
    assert branches == ["Mixer", "Mlp", "Attention", "Mlp"]


# --- the equations, one sequence and one token at a time, in float64


def silu(x: Tensor) -> Tensor:
    return x / (1 + torch.exp(-x))


def gelu(x: Tensor) -> Tensor:
    return x * (1 + torch.erf(x / 2**0.5)) / 2


def layer_norm(x: Tensor, w: dict[str, Tensor], name: str) -> Tensor:
    centred = x - x.mean(-1, keepdim=True)
    deviation = (centred.square().mean(-1, keepdim=True) + 1e-5).sqrt()
    return centred / deviation * w[f"{name}.weight"] + w[f"{name}.bias"]


def mixer(s: Tensor, w: dict[str, Tensor], name: str, group: int = 0, twice: bool = True) -> Tensor:
    """A sequence (L, C) in its order of reading -> (L, C): y and z side by side, before the last linear layer."""
    halves = []
    for index in range(2):
        p = s @ w[f"{name}.project.{index}"][group]
        k = w[f"{name}.kernel.{index}"][group]
        padded = torch.cat([torch.zeros_like(p[:1]), p, torch.zeros_like(p[:1])])
        halves.append(silu(torch.stack([(padded[t : t + 3] * k).sum(0) for t in range(len(p))])))
    x, z = halves
    decay = -torch.exp(w[f"{name}.decay_log"][group])
    state, bias = decay.shape[1], w[f"{name}.step_bias"][group]
    h, outputs = torch.zeros_like(decay), []
    for token in x:
        read = token @ w[f"{name}.read"][group]
        rank = len(read) - 2 * state
        step, b, c = read[:rank], read[rank : rank + state], read[rank + state :]
        delta = step @ w[f"{name}.step"][group] + bias
        delta = torch.log1p(torch.exp(delta + bias if twice else delta))
        h = torch.exp(delta[:, None] * decay) * h + delta[:, None] * b * token[:, None]
        outputs.append(h @ c + w[f"{name}.skip"][group] * token)
    return torch.cat([torch.stack(outputs), z], 1)


def attention(x: Tensor, w: dict[str, Tensor], name: str, heads: int) -> Tensor:
    """(L, C) -> (L, C)."""
    everything = x @ w[f"{name}.query_key_value.weight"].t() + w[f"{name}.query_key_value.bias"]
    width = x.shape[1] // heads
    parts = []
    for head in range(heads):
        query, key, value = (
            everything[:, offset + head * width : offset + (head + 1) * width]
            for offset in (0, x.shape[1], 2 * x.shape[1])
        )
        dots = torch.exp(query @ key.t() / math.sqrt(width))
        parts.append(dots / dots.sum(1, keepdim=True) @ value)
    return torch.cat(parts, 1) @ w[f"{name}.out.weight"].t() + w[f"{name}.out.bias"]


def mlp(x: Tensor, w: dict[str, Tensor], name: str) -> Tensor:
    hidden = gelu(x @ w[f"{name}.grow.weight"].t() + w[f"{name}.grow.bias"])
    return hidden @ w[f"{name}.shrink.weight"].t() + w[f"{name}.shrink.bias"]


def batch_norm(x: Tensor, w: dict[str, Tensor], name: str, eps: float = 1e-5) -> Tensor:
    """A map (C, H, W), running statistics."""
    mean, var, weight, bias = (
        w[f"{name}.{part}"][:, None, None] for part in ("running_mean", "running_var", "weight", "bias")
    )
    return (x - mean) / (var + eps).sqrt() * weight + bias


def convolved(x: Tensor, w: dict[str, Tensor], name: str, stride: int = 1, padding: int = 1) -> Tensor:
    """A map (C, H, W), by patches of the padded map."""
    kernel = w[f"{name}.weight"]
    padded = functional.pad(x, (padding,) * 4)
    side = kernel.shape[-1]
    size = (padded.shape[1] - side) // stride + 1
    y = torch.empty(len(kernel), size, size, dtype=x.dtype)
    for i in range(size):
        for j in range(size):
            patch = padded[:, i * stride : i * stride + side, j * stride : j * stride + side]
            y[:, i, j] = torch.einsum("oikl,ikl->o", kernel, patch)
    return y + w[f"{name}.bias"][:, None, None] if f"{name}.bias" in w else y


def convolution_block(x: Tensor, w: dict[str, Tensor], name: str) -> Tensor:
    y = batch_norm(convolved(x, w, f"{name}.conv1"), w, f"{name}.norm1")
    y = y * (1 + torch.tanh(math.sqrt(2 / math.pi) * (y + 0.044715 * y**3))) / 2
    return x + batch_norm(convolved(y, w, f"{name}.conv2"), w, f"{name}.norm2")


def stem(x: Tensor, w: dict[str, Tensor], name: str, strides: tuple[int, ...]) -> Tensor:
    for index, stride in enumerate(strides):
        y = convolved(x, w, f"{name}.layers.{3 * index}", stride)
        x = batch_norm(y, w, f"{name}.layers.{3 * index + 1}", 1e-4).clamp(min=0)
    return x


def windows(x: Tensor, side: int) -> Iterator[tuple[slice, slice]]:
    for row in range(0, x.shape[1], side):
        for column in range(0, x.shape[2], side):
            yield slice(row, row + side), slice(column, column + side)


def equations(picture: Tensor, w: dict[str, Tensor], options: mambavision.Options, strides: tuple[int, int]) -> Tensor:
    """Logits of one picture; its maps must be multiples of the windows."""
    size, twice = options.chosen, options.step_bias == "twice"
    x = stem(picture.double(), w, "stem", strides)
    for stage in range(4):
        if stage:
            x = convolved(x, w, f"downsample.{stage - 1}", 2)
        if stage < 2:
            for block in range(size.depths[stage]):
                x = convolution_block(x, w, f"stages.{stage}.{block}.branch")
            continue
        y = torch.empty_like(x)
        for rows, columns in windows(x, options.windows[stage - 2]):
            shape = x[:, rows, columns].shape
            tokens = x[:, rows, columns].flatten(1).t()
            for block in range(size.depths[stage]):
                name = f"stages.{stage}.blocks.{2 * block}"
                normed = layer_norm(tokens, w, f"{name}.norm")
                if block < math.ceil(size.depths[stage] / 2):
                    out = mixer(normed, w, f"{name}.branch.mixers", 0, twice) @ w[f"{name}.branch.out.weight"].t()
                else:
                    out = attention(normed, w, f"{name}.branch", size.heads[stage - 2])
                tokens = tokens + out * w.get(f"{name}.scale", torch.ones(()))
                name = f"stages.{stage}.blocks.{2 * block + 1}"
                out = mlp(layer_norm(tokens, w, f"{name}.norm"), w, f"{name}.branch")
                tokens = tokens + out * w.get(f"{name}.scale", torch.ones(()))
            y[:, rows, columns] = tokens.t().reshape(shape)
        x = y
    pooled = batch_norm(x, w, "pooled.norm").mean((1, 2))
    return w["classify.weight"] @ pooled + w["classify.bias"]


@pytest.mark.parametrize("variant", [{}, {"step_bias": "once"}, {"scale": 0.1}, {"stride": 2, "windows": (4, 2)}])
def test_outputs_follow_the_equations(variant: dict[str, Any]) -> None:
    strides = (2, 1) if variant.get("stride") == 2 else (1, 1)
    network = shaken(built(**variant))
    chosen = {name: value for name, value in variant.items() if name != "stride"}
    options = mambavision.Options(**{**TINY, "windows": (7, 4), **chosen})
    weights = {name: tensor.double() for name, tensor in network.state_dict().items()}
    flow = pictures(2, 28 if strides == (1, 1) else 32)
    with torch.no_grad():
        ours = network(flow)
    theirs = torch.stack([equations(picture, weights, options, strides) for picture in flow])
    assert (ours[0] - ours[1]).abs().max() > 1e-3
    assert (ours - theirs).abs().max() < 2e-5 * max(1.0, float(theirs.abs().max()))


# --- the mixer


@pytest.mark.parametrize("shared", [False, True])
def test_mixers_read_in_their_orders_and_put_back(shared: bool) -> None:
    torch.manual_seed(0)
    orders = torch.stack([torch.randperm(9) for _ in range(3)])
    mixers = shaken(_mixer.Mixers(6, orders, shared, _mixer.MixerOptions(state=2)))
    tokens = torch.randn(4, 9, 6)
    weights = {f"m.{name}": tensor.double() for name, tensor in mixers.state_dict().items()}
    plain = torch.zeros(4, 9, 6, dtype=torch.float64)
    for index in range(4):
        for scan, order in enumerate(orders):
            plain[index, order] += mixer(tokens[index, order].double(), weights, "m", 0 if shared else scan)
    assert (mixers(tokens) - plain).abs().max() < 1e-5


def test_gradients_of_the_mixer_are_those_of_differences() -> None:
    torch.manual_seed(0)
    orders = window.scans("zigzag", 2)
    mixers = shaken(_mixer.Mixers(4, orders, False, _mixer.MixerOptions(state=2))).double()
    tokens = torch.randn(2, 4, 4, dtype=torch.float64, requires_grad=True)
    names, values = zip(*mixers.named_parameters(), strict=True)

    def run(x: Tensor, *parameters: Tensor) -> Tensor:
        y: Tensor = torch.func.functional_call(mixers, dict(zip(names, parameters, strict=True)), (x,))
        return y

    def difference(inputs: list[Tensor], index: int, direction: Tensor) -> float:
        moved = [[x + sign * 1e-5 * direction if i == index else x for i, x in enumerate(inputs)] for sign in (1, -1)]
        return float((run(*moved[0]).sin().sum() - run(*moved[1]).sin().sum()) / 2e-5)

    inputs = [tokens, *values]
    gradients = torch.autograd.grad(run(*inputs).sin().sum(), inputs)
    for index, gradient in enumerate(gradients):
        direction = torch.randn_like(inputs[index])
        expected = difference([x.detach() for x in inputs], index, direction)
        assert float((gradient * direction).sum()) == pytest.approx(expected, rel=1e-4, abs=1e-6)


def test_the_time_step_begins_as_published_or_as_mamba() -> None:
    def steps(**options: Any) -> Tensor:
        torch.manual_seed(0)
        mixers = _mixer.Mixers(64, window.scans("horizontal", 7), False, _mixer.MixerOptions(**options))
        bias = mixers.step_bias.detach()
        return functional.softplus(2 * bias if mixers.twice else bias)

    assert torch.allclose(steps(), torch.tensor(math.log(2.0)))
    for step_bias in ("once", "twice"):
        found = steps(step_start="mamba", step_bias=step_bias)
        assert found.min() > 0.9e-3
        assert found.max() < 0.11
        assert 0.005 < float(found.log().mean().exp()) < 0.02


def test_the_bias_counts_twice_or_once() -> None:
    networks = [shaken(built(step_bias=step_bias)) for step_bias in ("twice", "once")]
    assert not torch.allclose(networks[0](pictures()), networks[1](pictures()), atol=1e-4)
    for name, parameter in networks[0].named_parameters():
        if name.endswith("step_bias"):
            parameter.data /= 2
    assert torch.allclose(networks[0](pictures()), networks[1](pictures()), atol=1e-6)


# --- windows, stems, drop path


def test_a_window_does_not_look_into_its_neighbour() -> None:
    stage = shaken(built().stages[2])
    x = torch.randn(1, 16, 14, 14)
    changed = x.clone()
    changed[..., :7, :7] += 1
    moved = (stage(x) != stage(changed)).flatten(0, 1).any(0)
    assert moved[:7, :7].all()
    assert not moved[7:].any()
    assert not moved[:, 7:].any()


@pytest.mark.parametrize("side", [20, 27, 33])
def test_any_side_is_padded_into_windows_and_cut_back(side: int) -> None:
    network = built(side=side).eval()
    assert network(pictures(side=side)).shape == (2, 3)
    assert network.features(pictures(side=side)).shape[2:] == (-(-side // 8),) * 2


@pytest.mark.parametrize(
    ("side", "stride", "found"), [(224, "auto", 8), (112, "auto", 4), (28, "auto", 1), (20, "auto", 1), (224, 4, 4)]
)
def test_the_stem_s_stride(side: int, stride: Any, found: int) -> None:
    assert _blocks.stride(side, stride, "x") == found
    shrunk = _blocks.Stem(3, 2, 4, found)(torch.zeros(2, 3, side, side))
    assert shrunk.shape == (2, 4, -(-side // found), -(-side // found))


def test_drop_path_leaves_out_whole_samples_and_keeps_the_mean() -> None:
    torch.manual_seed(0)
    added = _blocks.Added(nn.Identity(), 4, 0.0, 0.0, 0.25)
    added.norm = nn.Identity()
    y = added(torch.ones(4000, 3, 4))
    assert sorted(y.unique().tolist()) == pytest.approx([1.0, 1 + 1 / 0.75])
    assert (y == y[:, :1, :1]).all()
    assert float(y.mean()) == pytest.approx(2, abs=0.03)
    assert torch.equal(added.eval()(torch.ones(2, 3, 4)), torch.full((2, 3, 4), 2.0))


def test_later_blocks_are_dropped_more_often() -> None:
    network = built(drop_path=0.6)
    rates = [module.drop_path for module in network.modules() if isinstance(module, _blocks.Added)]
    assert rates == pytest.approx([0, 0.1, 0.2, 0.2, 0.3, 0.3, 0.4, 0.4, 0.5, 0.5, 0.6, 0.6])


def test_bfloat16_stays_near() -> None:
    network = shaken(built())
    plain = network(pictures())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        half = network(pictures())
    half.float().sum().backward()
    assert (half.float() - plain).abs().max() < 0.1 * max(1.0, float(plain.detach().abs().max()))
    assert all(torch.isfinite(parameter.grad).all() for parameter in network.parameters())


@pytest.mark.parametrize("shape", [(3, 28, 24), (3, 0, 0), (28, 28), (3, 2, 2)])
def test_wrong_pictures_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(UserError, match="mambavision: want a"):
        mambavision.build({"flow": shape}, 3, mambavision.Options(**TINY))


@pytest.mark.parametrize(
    "wrong",
    [
        {"size": "XL"},
        {"state": 0},
        {"drop_path": 1.0},
        {"depth": 3},
        {"heads": (3, 4)},
        {"heads": (0, 4)},
        {"windows": (0, 7)},
        {"windows": (7, -7)},
        {"depths": (1, 1, -1, 2)},
    ],
)
def test_wrong_options_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        mambavision.Options(**{**TINY, **wrong})


def test_it_learns_the_direction_of_a_motion_anywhere() -> None:
    generator = torch.Generator().manual_seed(0)
    flow, target = 0.3 * torch.randn(60, 3, 28, 28, generator=generator), torch.arange(60) % 2
    for picture, label, place in zip(flow, target, torch.randint(0, 22, (60, 2), generator=generator), strict=True):
        row, column = place.tolist()
        picture[1, row : row + 6, column : column + 6] += 6.0 * float(label) - 3
    network = built(dim=8)
    optimiser = training._optimiser(network, mambavision.RECIPE.model_copy(update={"lr": 1e-3}))
    for _ in range(40):  # the running statistics of the norms need some
        loss = functional.cross_entropy(network(flow[:40]), target[:40])
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        optimiser.step()
    assert (network.eval()(flow[40:]).argmax(1) == target[40:]).float().mean() >= 0.9
