"""AMMSM: counts, the sparse stages against their definition written out on maps, both streams, what may be set."""

from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as functional
from pydantic import ValidationError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from fleeting import config, plugins, training
from fleeting.errors import UserError
from fleeting.layers.nc_ssd import quadratic, token_weights
from fleeting.models import _sssd, _timm, ammsm
from fleeting.models._onset import Fusion, Spatial
from fleeting.models._sssd import Attention, Block, BlockOptions, Chosen, Duality, Grid, Stage, Whole

EXPERIMENTS = Path(__file__).parents[1] / "experiments" / "ammsm"
BLOCKS = BlockOptions("ssd", 0, 4, 2, 6, "step", 2, "skipped")
TINY = {"dim": 4, "depths": (2, 3, 2), "attention": (0, 1, 1), "head_width": 4, "state": 6, "mlp": 2, "stem_stride": 1,
        "magnify": "none"}  # fmt: skip
FLOW = {"flow": (2, 28, 28)}


pytestmark = pytest.mark.usefixtures("one_thread")


def shaken(network: nn.Module) -> nn.Module:
    """Every parameter moved, so that no bias is 0 and no norm is plain."""
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter += 0.2 * torch.randn(parameter.shape, generator=generator).to(parameter.dtype)
    return network


def stage(side: int = 16, depth: int = 4, width: int = 8, **options: Any) -> Stage:
    torch.manual_seed(0)
    built = shaken(Stage(width, side, [0.0] * depth, BLOCKS._replace(**options)))
    assert isinstance(built, Stage)
    return built.double()


def maps(side: int = 16, batch: int = 3, width: int = 8) -> Tensor:
    """Maps whose windows differ in size of their features, so that which are kept is no matter of rounding."""
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(batch, width, side, side, generator=generator, dtype=torch.float64)
    windows = -(-side // 4)
    strength = 0.2 + torch.rand(batch, 1, windows, windows, generator=generator, dtype=torch.float64)
    return x * strength.repeat_interleave(4, 2).repeat_interleave(4, 3)[..., :side, :side]


def built(shapes: dict[str, tuple[int, ...]] | None = None, classes: int = 3, **options: Any) -> Any:
    torch.manual_seed(0)
    shapes = shapes or FLOW
    spatial = {} if "onset" in shapes else {"spatial": "none"}
    return ammsm.build(shapes, classes, ammsm.Options(**{**TINY, **spatial, **options}))


def flow(count: int = 2, side: int = 28) -> Tensor:
    return torch.randn(count, 2, side, side, generator=torch.Generator().manual_seed(1))


def onset(count: int = 2, side: int = 64) -> Tensor:
    return torch.rand(count, 3, side, side, generator=torch.Generator().manual_seed(2))


# --- the definition, on maps: masks are maps of 0 and 1, a dropped place is multiplied by 0 wherever it is looked at


def written_out(stage: Stage, x: Tensor, ratios: tuple[float, ...]) -> Tensor:
    strength = importance(x)
    for index, block in enumerate(stage.blocks):
        assert isinstance(block, Block)
        x = block_written_out(block, x, mask(strength, ratios[index // 2], x.shape[2]))
    return x


def importance(x: Tensor) -> list[list[float]]:
    """Of each sample's windows, row by row: the root of the mean square, which orders whole windows as their norm."""
    starts = range(0, x.shape[2], 4)
    return [
        [s[:, i : i + 4, j : j + 4].square().sum(0).mean().item() ** 0.5 for i in starts for j in starts] for s in x
    ]


def mask(strength: list[list[float]], ratio: float, side: int) -> Tensor:
    """(B, 1, side, side)."""
    windows = -(-side // 4)
    count = max(1, int((1 - ratio) * windows**2 + 0.5 + 1e-9))
    masks = torch.zeros(len(strength), 1, side, side, dtype=torch.float64)
    for sample, values in enumerate(strength):
        for number in sorted(range(windows**2), key=lambda number: -values[number])[:count]:
            i, j = 4 * (number // windows), 4 * (number % windows)
            masks[sample, :, i : i + 4, j : j + 4] = 1
    return masks


def block_written_out(block: Block, x: Tensor, keep: Tensor) -> Tensor:
    before = x
    x = x + convolved(block.before, x, keep)
    x = x + mixed(block.mixer, normed(block.norm1, x), keep)
    x = x + convolved(block.between, x, keep)
    hidden = functional.gelu(linear(block.mlp.grow, normed(block.norm2, x)))
    x = x + linear(block.mlp.shrink, hidden)
    return x * keep + before * (1 - keep)


def mixed(mixer: nn.Module, u: Tensor, keep: Tensor) -> Tensor:
    kept, size = keep.flatten(1).bool(), u.shape[2:]
    if isinstance(mixer, Attention):
        q, k, v = (
            part.flatten(2).unflatten(1, (mixer.heads, -1)) for part in linear(mixer.query_key_value, u).chunk(3, 1)
        )
        scores = (q.transpose(2, 3) @ k / q.shape[2] ** 0.5).masked_fill(~kept[:, None, None], -torch.inf)
        return linear(mixer.out, (v @ scores.softmax(-1).transpose(2, 3)).flatten(1, 2).unflatten(2, size))
    assert isinstance(mixer, Duality)
    x, b, c = functional.silu(convolved(mixer.convolution, linear(mixer.read, u), keep)).split(mixer.sizes, 1)
    z, step = linear(mixer.gate, u).split((x.shape[1], mixer.heads), 1)
    dt = functional.softplus(step.flatten(2).transpose(1, 2) + mixer.step_bias)
    tokens = x.flatten(2).transpose(1, 2).unflatten(2, (mixer.heads, -1))
    w = token_weights(dt, -mixer.decay_log.exp(), mixer.weights)
    b, c = (part.flatten(2).transpose(1, 2) for part in (b, c))
    y = quadratic(tokens, w, b, c, mixer.skip, kept).flatten(2).transpose(1, 2).unflatten(2, size)
    return linear(mixer.out, normed(mixer.norm, y) * z)


def convolved(layer: nn.Conv2d, x: Tensor, keep: Tensor) -> Tensor:
    return functional.conv2d(x * keep, layer.weight, layer.bias, padding=1, groups=len(layer.weight))


def linear(layer: nn.Linear, x: Tensor) -> Tensor:
    y = torch.einsum("bchw,dc->bdhw", x, layer.weight)
    return y if layer.bias is None else y + layer.bias[:, None, None]


def normed(layer: nn.LayerNorm, x: Tensor) -> Tensor:
    centred = x - x.mean(1, keepdim=True)
    scaled = centred / (centred.square().mean(1, keepdim=True) + layer.eps).sqrt()
    return scaled * layer.weight[:, None, None] + layer.bias[:, None, None]


KINDS: list[dict[str, Any]] = [{}, {"mixer": "attention"}, {"attention": 1}, {"weights": "inverse"}]
RATIOS = [(0.0, 0.0), (0.6, 0.6), (0.8, 0.1), (0.1, 0.8), (0.0, 0.5)]


@pytest.mark.parametrize("dropped", ["skipped", "masked"])
@pytest.mark.parametrize("kind", KINDS, ids=["ssd", "attention", "mixed", "inverse"])
@pytest.mark.parametrize("ratios", RATIOS)
def test_a_stage_does_what_its_definition_says(ratios: tuple[float, ...], kind: dict[str, Any], dropped: str) -> None:
    network, x = stage(dropped=dropped, **kind), maps()
    wanted = written_out(network, x, ratios)
    torch.testing.assert_close(network(x, ratios), wanted, rtol=0, atol=1e-10 * wanted.abs().max().item())


@pytest.mark.parametrize("dropped", ["skipped", "masked"])
@pytest.mark.parametrize("side", [3, 4, 7, 14, 18])
def test_maps_that_windows_do_not_divide_are_as_if_nothing_were_beyond_their_rim(side: int, dropped: str) -> None:
    network, x = stage(side, attention=1, dropped=dropped), maps(side)
    for ratios in RATIOS:
        wanted = written_out(network, x, ratios)
        torch.testing.assert_close(network(x, ratios), wanted, rtol=0, atol=1e-10 * wanted.abs().max().item())


@pytest.mark.parametrize("ratio", [0.1, 0.6, 0.8])
def test_skipped_and_masked_agree_within_a_millionth_in_float32(ratio: float) -> None:
    x = maps(56, 2, 64).float()
    skipped, masked = (stage(56, 2, 64, state=64, head_width=32, dropped=how).float() for how in ("skipped", "masked"))
    wanted = masked(x, (ratio,))
    assert (skipped(x, (ratio,)) - wanted).abs().max() < 1e-6 * wanted.abs().max()


@pytest.mark.parametrize("side", [16, 14])
def test_gradients_of_skipped_and_masked_agree(side: int) -> None:
    grads = []
    for how in ("skipped", "masked"):
        network, x = stage(side, attention=1, dropped=how), maps(side).requires_grad_()
        y = network(x, (0.7, 0.3))
        weight = torch.randn(y.shape, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
        grads.append(torch.autograd.grad((y * weight).sum(), [x, *network.parameters()]))
    for mine, wanted in zip(*grads, strict=True):
        torch.testing.assert_close(mine, wanted, rtol=1e-9, atol=1e-10)
    assert all(grad.any() for grad in grads[0])


# --- what dropping means, seen from outside


def test_a_dropped_window_keeps_its_features_to_the_bit() -> None:
    network, x = stage(), maps()
    keep = mask(importance(x), 0.6, 16).bool().expand_as(x)
    y = network(x, (0.6, 0.6))
    assert torch.equal(y[~keep], x[~keep])
    assert (y[keep] != x[keep]).all()


def test_what_a_dropped_window_holds_changes_nothing_elsewhere() -> None:
    network, x = stage(attention=1), maps()
    keep = mask(importance(x), 0.6, 16).bool().expand_as(x)
    other = torch.where(keep, x, x.flip(1) * 0.9)  # as unimportant as before
    assert torch.equal(network(x, (0.6, 0.6))[keep], network(other, (0.6, 0.6))[keep])


def test_a_window_that_comes_back_goes_on_with_the_features_it_had() -> None:
    network, x = stage(depth=4), maps()
    first, then = mask(importance(x), 0.8, 16), mask(importance(x), 0.1, 16)
    middle = x
    for index, block in enumerate(network.blocks):
        assert isinstance(block, Block)
        if index == 2:
            back = ((then - first) == 1).expand_as(x)
            assert back.any()
            assert torch.equal(middle[back], x[back])
        middle = block_written_out(block, middle, first if index < 2 else then)
    y = network(x, (0.8, 0.1))
    assert (y[back] != x[back]).all()
    torch.testing.assert_close(y, middle, rtol=0, atol=1e-9)


def test_samples_of_a_batch_choose_for_themselves() -> None:
    network, x = stage(), maps(batch=4)
    together = network(x, (0.6, 0.3))
    alone = torch.cat([network(sample[None], (0.6, 0.3)) for sample in x])
    torch.testing.assert_close(together, alone, rtol=0, atol=1e-12)


def test_importance_is_the_norm_of_a_window() -> None:
    x = torch.zeros(1, 3, 8, 8)
    x[0, :, 0, 5] = torch.tensor([2.0, 3.0, 6.0])  # norm 7, in the second window
    x[0, 1, 4:, :4] = 0.5  # sixteen places: norm 2, in the third
    grid = Grid(8)
    assert grid.importance(grid.cover(x)).tolist() == [[0, 7, 2, 0]]


def test_a_window_over_the_rim_counts_as_a_whole_one_of_its_kind() -> None:
    grid = Grid(6)
    strength = grid.importance(grid.cover(torch.full((1, 1, 6, 6), 3.0)))
    torch.testing.assert_close(strength, torch.full((1, 4), 12.0))


def test_equal_windows_are_chosen_from_the_first() -> None:
    grid = Grid(16)
    places = grid.places(torch.ones(2, 16), 0.75, "masked")
    assert isinstance(places, Whole)
    assert places.keep is not None
    windows = places.keep.view(2, 4, 4, 4, 4)[:, :, 0, :, 0].flatten(1)
    assert windows.nonzero()[:, 1].tolist() == [0, 1, 2, 3] * 2


def test_how_many_windows_a_ratio_keeps() -> None:
    tenths = [share / 10 for share in range(9)]
    assert [_sssd.kept(ratio, 256) for ratio in tenths] == [256, 230, 205, 179, 154, 128, 102, 77, 51]
    assert [_sssd.kept(ratio, 16) for ratio in tenths] == [16, 14, 13, 11, 10, 8, 6, 5, 3]
    assert [_sssd.kept(ratio, 4) for ratio in tenths] == [4, 4, 3, 3, 2, 2, 2, 1, 1]
    assert _sssd.kept(0.99, 4) == 1


def test_a_mask_changes_only_where_the_ratio_does(monkeypatch: pytest.MonkeyPatch) -> None:
    network, seen = stage(depth=6), []
    places, strength = Grid.places, Grid.importance
    monkeypatch.setattr(Grid, "places", lambda *a: seen.append(a[2]) or places(*a))
    monkeypatch.setattr(Grid, "importance", lambda *a: seen.append("importance") or strength(*a))
    network(maps(), (0.3, 0.3, 0.7))
    assert seen == ["importance", 0.3, 0.7]


def test_dropped_windows_are_not_computed() -> None:
    def operations(ratio: float) -> int:
        with FlopCounterMode(display=False) as counter:
            network(x, (ratio,))
        return counter.get_total_flops()

    network, x = stage(56, 2, 64).float(), maps(56, 1, 64).float()
    dense, sparse = operations(0.0), operations(0.6)
    assert sparse < 0.45 * dense  # 78 of 196 windows are .40; their rims are convolved with them
    assert isinstance(network.grid.places(torch.rand(1, 196), 0.6, "skipped"), Chosen)


# --- the layers around the state sum


def test_a_duality_layer_begins_as_mamba2() -> None:
    torch.manual_seed(0)
    layers = [Duality(64, BLOCKS._replace(head_width=1)) for _ in range(4)]
    steps = torch.cat([functional.softplus(layer.step_bias) for layer in layers])
    decays = torch.cat([layer.decay_log.exp() for layer in layers])
    assert 1e-3 <= steps.min() < 3e-3
    assert 3e-2 < steps.max() <= 0.1 + 1e-6
    assert 0.4 < (steps < 1e-2).float().mean() < 0.6  # log-uniform
    assert 1 <= decays.min() < 2
    assert 15 < decays.max() <= 16
    assert all((layer.skip == 1).all() for layer in layers)


def test_drop_path_leaves_out_whole_samples_in_training_only() -> None:
    torch.manual_seed(0)
    block = Block(8, Attention(8, BLOCKS), 2, 0.5)
    branch = torch.ones(400, 3, 8)
    kept = block.train()._kept(branch)
    assert set(kept.flatten().tolist()) == {0.0, 2.0}
    assert torch.equal(kept.amin((1, 2)), kept.amax((1, 2)))
    assert 0.4 < (kept > 0).float().mean() < 0.6
    assert torch.equal(block.eval()._kept(branch), branch)


def test_drop_path_rises_from_block_to_block() -> None:
    network = built(drop_path=0.3)
    drops = [block.drop_path for part in network.stages for block in part.blocks]
    assert drops == pytest.approx([0.3 * index / 6 for index in range(7)])


# --- counts


def count(classes: int, side: int = 256, channels: int = 2, both: bool = False, **options: Any) -> int:
    shapes: dict[str, tuple[int, ...]] = {"flow": (channels, side, side)}
    if both:
        shapes["onset"] = (3, side, side)
    else:
        options["spatial"] = "none"
    with torch.device("meta"):
        network = ammsm.build(shapes, classes, ammsm.Options(**{"magnify": "none", **options}))
    return sum(parameter.numel() for parameter in network.parameters())


def test_the_temporal_stream_has_the_published_size_of_vssd() -> None:
    """24.3 M and 13.5 M for VSSD-T and VSSD-M, whose fourth stage attends throughout."""
    assert count(1000, 224, 3, attention=(0, 0, 0, 4)) / 1e6 == pytest.approx(24.3, abs=0.05)
    micro = {"dim": 48, "state": 48, "head_width": 24, "depths": (2, 2, 8, 4)}
    assert count(1000, 224, 3, attention=(0, 0, 0, 4), **micro) / 1e6 == pytest.approx(13.5, abs=0.05)


def test_the_magnifier_is_the_u_net_of_its_paper() -> None:
    """31.03 M for two channels and a map in, two out (one in and two out in segmentation: 31.03 M too)."""
    sizes = [3, 64, 128, 256, 512, 1024]
    doubles = sum(9 * a * b + 9 * b * b + 2 * b for a, b in pairwise(sizes))
    ups = sum(4 * 2 * b * b + b + 9 * 2 * b * b + 9 * b * b + 2 * b for b in sizes[1:-1])
    assert count(3, magnify="unet") - count(3) == doubles + ups + 64 * 2 + 2
    assert count(3, magnify="scale") == count(3)


def test_the_spatial_stream_adds_the_first_half_of_resnet18() -> None:
    stem, one, two = 3 * 64 * 49 + 128, 4 * (64 * 64 * 9 + 128), (64 + 3 * 128) * 128 * 9 + 64 * 128 + 5 * 256
    assert count(3, both=True) - count(3) == stem + one + two
    assert count(3, both=True, fusion="concat") - count(3, both=True) == 256 * 128 + 128


def test_the_maps_of_the_stages_at_256() -> None:
    with torch.device("meta"):
        network = ammsm.build({"flow": (2, 256, 256)}, 3, ammsm.Options(spatial="none"))
        features = network.features(torch.zeros(2, 2, 256, 256))
    assert [part.grid.side for part in network.stages] == [64, 32, 16, 8]
    assert all(part.grid.full for part in network.stages)
    assert features.shape == (2, 512, 8, 8)


# --- both streams


def test_the_spatial_stream_is_resnet18_to_the_end_of_its_second_stage() -> None:
    torch.manual_seed(0)
    published = _timm.create("resnet18", num_classes=0).eval()
    ours = Spatial(64).eval()
    unused = ours.load_state_dict(published.state_dict(), strict=False)
    assert not unused.missing_keys
    assert {key.split(".")[0] for key in unused.unexpected_keys} == {"layer3", "layer4"}
    x = onset(2, 64)
    normalised = (x - torch.tensor([0.485, 0.456, 0.406])[:, None, None]) / torch.tensor([0.229, 0.224, 0.225])[
        :, None, None
    ]
    y = published.maxpool(published.act1(published.bn1(published.conv1(normalised))))
    with torch.no_grad():
        torch.testing.assert_close(ours(x), published.layer2(published.layer1(y)), rtol=1e-5, atol=1e-5)


def test_the_streams_meet_at_the_end_of_stage_two() -> None:
    network = built({"flow": (2, 32, 32), "onset": (3, 64, 64)}, sparsity=0.5).eval()
    seen: dict[str, Tensor] = {}
    network.stages[1].register_forward_hook(lambda *a: seen.update(motion=a[2]))
    network.steps[1].register_forward_pre_hook(lambda *a: seen.update(fused=a[1][0]))
    with torch.no_grad():
        network(flow(2, 32), onset())
        structure = network.spatial(onset())  # (2, 8, 8, 8), and the map of stage 2 is 16 x 16
        assert seen["motion"].shape == (2, 8, 16, 16)
        nearest = structure.repeat_interleave(2, 2).repeat_interleave(2, 3)
        torch.testing.assert_close(seen["fused"], seen["motion"] + nearest)


def test_fusion_side_by_side_is_a_product_a_place() -> None:
    fusion = Fusion(3, "concat")
    motion, structure = torch.randn(2, 3, 4, 4), torch.randn(2, 3, 4, 4)
    assert fusion.mix is not None
    weight = fusion.mix.weight[..., 0, 0]
    wanted = torch.einsum("bchw,dc->bdhw", torch.cat([motion, structure], 1), weight) + fusion.mix.bias[:, None, None]
    torch.testing.assert_close(fusion(motion, structure), wanted)


def test_the_onset_counts_and_so_does_the_flow() -> None:
    network = shaken(built({"flow": (2, 28, 28), "onset": (3, 64, 64)})).eval()
    plain = network(flow(), onset())
    assert not torch.allclose(network(flow(), onset().flip(2)), plain)
    assert not torch.allclose(network(flow().flip(2), onset()), plain)


def test_flow_alone_has_no_spatial_stream_and_ignores_an_onset_picture() -> None:
    network = built().eval()
    assert network.spatial is None
    assert torch.equal(network(flow()), network(flow(), onset()))
    names = {name.split(".")[0] for name in network.state_dict()}
    assert not names & {"spatial", "fusion"}


def test_without_an_onset_picture_flow_alone_must_be_asked_for() -> None:
    with pytest.raises(UserError, match='spatial = "none" for flow alone'):
        ammsm.build(FLOW, 3, ammsm.Options(**TINY))


@pytest.mark.parametrize("shape", [(2, 28, 24), (2, 0, 0), (28, 28)])
def test_wrong_flow_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(UserError, match="ammsm: want square flow"):
        ammsm.build({"flow": shape}, 3, ammsm.Options(**TINY, spatial="none"))


# --- sparsity of a built network


def test_sparsity_is_one_ratio_for_every_two_blocks() -> None:
    assert ammsm.Options().pairs == (1, 2, 4, 2)
    network = built(sparsity=(0.1, 0.2, 0.3, 0.4))  # depths 2, 3, 2
    assert network.sparsity == (0.1, 0.2, 0.3, 0.4)
    seen = []
    for part in network.stages:
        part.register_forward_pre_hook(lambda *a: seen.append(a[1][1]))
    network.eval()(flow())
    assert seen == [(0.1,), (0.2, 0.3), (0.4,)]


def test_sparsity_of_a_built_network_can_be_set_and_is_saved_with_it(tmp_path: Any) -> None:
    network, other = built(sparsity=0.2).eval(), built(sparsity=(0.8, 0.1, 0.6, 0.0)).eval()
    assert not torch.equal(network(flow()), other(flow()))  # same weights
    network.sparsity = (0.8, 0.1, 0.6, 0.0)
    assert torch.equal(network(flow()), other(flow()))
    save_file(network.state_dict(), tmp_path / "model.safetensors")
    again = built(sparsity=0.2).eval()
    again.load_state_dict(load_file(tmp_path / "model.safetensors"))
    assert again.sparsity == (0.8, 0.1, 0.6, 0.0)
    assert torch.equal(again(flow()), network(flow()))


@pytest.mark.parametrize("wrong", [(0.1,), (0.1,) * 5, (0.1, 0.2, 0.3, 1.0), (-0.1, 0.2, 0.3, 0.4)])
def test_wrong_sparsity_is_refused(wrong: tuple[float, ...]) -> None:
    network = built()
    with pytest.raises(UserError, match="want 4 sparsity ratios"):
        network.sparsity = wrong
    assert network.sparsity == (0.5,) * 4
    with pytest.raises(ValidationError, match="want 4 sparsity ratios"):
        built(sparsity=wrong)


def test_the_whole_network_decides_the_same_skipped_or_masked() -> None:
    x = {"flow": flow(4), "onset": onset(4)}
    shapes = {name: tuple(array.shape[1:]) for name, array in x.items()}
    logits = [shaken(built(shapes, dropped=how, sparsity=0.4)).double().eval() for how in ("skipped", "masked")]
    outputs = [network(**{name: array.double() for name, array in x.items()}) for network in logits]
    torch.testing.assert_close(*outputs, rtol=0, atol=1e-10)


def test_batch_norm_sees_whole_maps_dropped_windows_included() -> None:
    """So no mask moves its statistics in the stem."""
    network = built(sparsity=0.8).train()
    network(flow(8))
    dense = built(sparsity=0.0).train()
    dense(flow(8))
    for name, value in network.stem.state_dict().items():
        assert torch.equal(value, dense.stem.state_dict()[name])
    sizes = []
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.register_forward_pre_hook(lambda *a: sizes.append(a[1][0].shape[-1]))
    network(flow(8))
    assert sizes == [28] * 5 + [14, 7]


# --- Table III


@pytest.mark.parametrize("sparsity", [0.0, 0.5])
def test_the_transformer_twin_differs_in_the_mixers_alone(sparsity: float) -> None:
    mamba, twin = built(sparsity=sparsity), built(sparsity=sparsity, mixer="attention")
    kinds = [[type(block.mixer) for part in network.stages for block in part.blocks] for network in (mamba, twin)]
    assert kinds == [[Duality] * 4 + [Attention, Duality, Attention], [Attention] * 7]
    parts = [
        {name: value.shape for name, value in network.state_dict().items() if "mixer" not in name}
        for network in (mamba, twin)
    ]
    assert parts[0] == parts[1]
    assert twin.eval()(flow()).shape == (2, 3)


def test_the_last_block_of_the_last_two_stages_attends() -> None:
    with torch.device("meta"):
        network = ammsm.build({"flow": (2, 256, 256)}, 3, ammsm.Options(spatial="none"))
    attending = [[isinstance(block.mixer, Attention) for block in part.blocks] for part in network.stages]
    assert attending == [[False] * 2, [False] * 4, [False] * 7 + [True], [False] * 3 + [True]]
    heads = [[block.mixer.heads for block in part.blocks] for part in network.stages]
    assert heads == [[2] * 2, [4] * 4, [8] * 8, [16] * 4]


# --- the contract of a network


@pytest.mark.parametrize(
    "options", [{}, {"mixer": "attention"}, {"token_weights": "inverse"}, {"fusion": "concat"}, {"drop_path": 0.2}]
)
def test_every_parameter_gets_a_gradient(options: dict[str, Any]) -> None:
    network = built({"flow": (2, 28, 28), "onset": (3, 32, 32)}, **options)
    network(flow(16), onset(16, 32)).square().sum().backward()
    assert all(parameter.grad is not None for parameter in network.parameters())
    assert all(torch.isfinite(parameter.grad).all() for parameter in network.parameters())


@pytest.mark.parametrize("sparsity", [0.0, 0.5])
def test_bfloat16_stays_near(sparsity: float) -> None:
    network = built(sparsity=sparsity)
    plain = network(flow())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        half = network(flow())
    half.float().square().sum().backward()
    assert (half.float() - plain).abs().max() < 0.1 * max(1.0, float(plain.detach().abs().max()))
    assert all(torch.isfinite(parameter.grad).all() for parameter in network.parameters())


@pytest.mark.parametrize(("side", "stride"), [(28, 1), (28, "auto"), (61, "auto"), (60, 2), (112, "auto"), (230, 8)])
def test_any_square_flow_is_decided(side: int, stride: Any) -> None:
    network = built({"flow": (2, side, side)}, stem_stride=stride).eval()
    assert torch.isfinite(network(flow(1, side))).all()
    step = stride if isinstance(stride, int) else next(s for s in (4, 2, 1) if side >= 28 * s)
    assert [part.grid.side for part in network.stages] == [-(-side // (step * 2**index)) for index in range(3)]


def test_the_stem_halves_once_a_factor_of_two() -> None:
    for stride in (1, 2, 4, 8):
        stem = ammsm.Stem(2, 8, stride)
        assert stem(flow(1, 32)).shape == (1, 8, 32 // stride, 32 // stride)
        strides = [module.stride[0] for module in stem.modules() if isinstance(module, nn.Conv2d)]
        assert torch.tensor(strides).prod() == stride


@pytest.mark.parametrize(
    "wrong",
    [{"dim": 5}, {"depths": (1,)}, {"depths": (1, 0, 1)}, {"attention": (0, 0)}, {"attention": (0, 0, 3)},
     {"head_width": 3}, {"mixer": "mamba"}, {"spatial": "resnet50"}, {"window": 7}],
)  # fmt: skip
def test_wrong_options_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        ammsm.Options(**{**TINY, **wrong})


def drawn(count: int, seed: int) -> tuple[Tensor, Tensor]:
    """Flow with noise everywhere and a patch somewhere that moves in one of four directions: the class."""
    generator = torch.Generator().manual_seed(seed)
    moving, target = 0.3 * torch.randn(count, 2, 28, 28, generator=generator), torch.arange(count) % 4
    for sample, direction in enumerate(target.tolist()):
        i, j = torch.randint(0, 20, (2,), generator=generator).tolist()
        moving[sample, direction // 2, i : i + 8, j : j + 8] += 2 * (-1) ** direction
    return moving, target


@pytest.mark.parametrize("mixer", ["ssd", "attention"])
def test_it_learns_which_way_a_patch_moves_with_most_windows_dropped(mixer: str) -> None:
    network = built(classes=4, sparsity=0.6, mixer=mixer, depths=(2, 2), attention=(0, 1), dim=8, stem_stride=2)
    recipe = ammsm.RECIPE.model_copy(update={"lr": 3e-3})
    optimiser = training._optimiser(network, recipe)
    for step in range(80):
        moving, target = drawn(32, 100 + step)
        losses = training._losses(network, network(moving), functional.one_hot(target, 4).float(), recipe, 0.0)
        optimiser.zero_grad(set_to_none=True)
        losses.mean().backward()
        optimiser.step()
    moving, target = drawn(64, 1)
    probs = training.probabilities(network.eval(), network(moving))
    assert (probs.argmax(1) == target).float().mean() > 0.9


def test_the_recipe_is_the_papers() -> None:
    recipe = ammsm.RECIPE
    assert (recipe.optimiser, recipe.lr, recipe.batch, recipe.weight_decay) == ("adamw", 3e-5, 16, 0.05)
    rates = [training.learning_rate(recipe, epoch) for epoch in range(recipe.epochs)]
    assert len(rates) == 100
    assert all(later < earlier for earlier, later in pairwise(rates))
    assert recipe.mixup > 0


PAPER_SIZE = [
    path for path in sorted(EXPERIMENTS.glob("*.toml")) if config.options("models", config.read(path).model).dim == 64
]


@pytest.mark.slow
@pytest.mark.parametrize("path", PAPER_SIZE, ids=lambda path: path.stem)
def test_every_experiment_of_the_papers_size_goes_forward_and_back(path: Path) -> None:
    """At full resolution, with ratios that drop windows where its network does, and its own loss."""
    chosen = config.read(path)
    options, module = config.options("inputs", chosen.input), plugins.load("inputs", chosen.input.name)
    sizes = {"flow": options.flow_size or options.size, "onset": options.size}
    shapes = {name: (len(words), sizes[name], sizes[name]) for name, words in module.channels(options).items()}
    assert shapes == {"flow": (2, 256, 256), "onset": (3, 256, 256)}
    classes = len(plugins.load("protocols", chosen.protocol.name).classes(config.options("protocols", chosen.protocol)))
    torch.manual_seed(0)
    network: Any = ammsm.build(shapes, classes, config.options("models", chosen.model)).train()
    assert [stage.grid.side for stage in network.stages] == [64, 32, 16, 8]
    output = network(flow(1, 256), onset(1, 256))
    loss = network.loss(output, torch.eye(classes)[:1], 0.0).mean()
    loss.backward()
    assert torch.isfinite(loss)
    assert all(torch.isfinite(parameter.grad).all() for parameter in network.parameters())
    assert sum(bool(parameter.grad.any()) for parameter in network.parameters()) > 0.9 * len([*network.parameters()])
