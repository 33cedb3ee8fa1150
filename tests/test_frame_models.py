"""ViT, Swin and PoolFormer on frames: counts, timm's own numbers, pretrained files, heat maps, frames in time."""

from pathlib import Path
from types import ModuleType
from typing import Any

import huggingface_hub
import numpy as np
import pytest
import torch
from pydantic import ValidationError
from safetensors.torch import save_file
from torch import Tensor, nn

from fleeting import explain, saving, training
from fleeting.errors import UserError
from fleeting.models import _timm, poolformer, swin, vit
from fleeting.training import Recipe

MODELS = (vit, swin, poolformer)
# of timm's names, the classes' own layer
CLASSIFIER = {vit: "head.", swin: "head.fc.", poolformer: "head.fc."}


pytestmark = pytest.mark.usefixtures("one_thread")
each = pytest.mark.parametrize("model", MODELS, ids=lambda model: model.__name__.rpartition(".")[2])


def shapes(side: int, channels: int = 3, length: int | None = None) -> dict[str, tuple[int, ...]]:
    if length is None:
        return {"frame": (channels, side, side)}
    return {"frames": (channels, length, side, side)}


def built(model: ModuleType, side: int = 32, channels: int = 3, length: int | None = None, **changes: Any) -> Any:
    """A small member; the same weights for the same shapes."""
    torch.manual_seed(0)
    options = model.Options(**{**dict(model.SMALL), **changes})
    return model.build(shapes(side, channels, length), 3, options)


def frame(count: int = 2, side: int = 32, channels: int = 3, seed: int = 1) -> Tensor:
    return torch.rand(count, channels, side, side, generator=torch.Generator().manual_seed(seed))


def frames(count: int = 2, length: int = 3, side: int = 32, channels: int = 3) -> Tensor:
    return torch.rand(count, channels, length, side, side, generator=torch.Generator().manual_seed(2))


def tensors(network: Any) -> dict[str, Tensor]:
    return {key: value.clone() for key, value in network.layers.state_dict().items()}


# --- the published networks


@pytest.mark.parametrize(
    ("model", "options", "small", "large"),
    [
        (vit, {}, 87_460_615, 87_533_575),  # 95 more positions of 768
        (swin, {}, 86_750_399, 86_885_759),  # 360 more relative positions a head
        (poolformer, {}, 55_408_903, 55_408_903),
        (poolformer, {"variant": "m48"}, 72_709_831, 72_709_831),
    ],
    ids=["vit", "swin", "poolformer_m36", "poolformer_m48"],
)
def test_counts_and_maps_of_the_study_at_both_resolutions(
    model: ModuleType, options: dict[str, Any], small: int, large: int
) -> None:
    for side, channels, count, last in ((224, 1, small, 7), (384, 3, large, 12)):
        with torch.device("meta"):
            network: Any = model.build(shapes(side, channels), 7, model.Options(**options)).eval()
            x = torch.zeros(2, channels, side, side)
            features = network.features(x)
            assert features.shape == (2, 1536 if model is vit else {swin: 1024, poolformer: 768}[model], last, last)
            assert network.head(features).shape == network(x).shape == (2, 7)
        assert sum(value.numel() for value in network.parameters()) == count
    assert round(small / 1e6, 1) in (87.5, 86.8, 55.4, 72.7)


def test_paper_size_is_what_timm_calls_by_that_name() -> None:
    with torch.device("meta"):
        for model, name, options in (
            (vit, "vit_base_patch32_224", {}),
            (vit, "vit_base_patch32_384", {}),
            (swin, "swin_base_patch4_window7_224", {}),
            (swin, "swin_base_patch4_window12_384", {}),
            (poolformer, "poolformer_m36", {}),
            (poolformer, "poolformer_m48", {"variant": "m48"}),
        ):
            side = int(name[-3:]) if name[-3:].isdigit() else 224
            ours: Any = model.build(shapes(side), 7, model.Options(**options, drop_path=0.2, dropout=0.1))
            theirs = _timm.create(name, num_classes=7, drop_path_rate=0.2, drop_rate=0.1)
            assert repr(ours.layers) == repr(theirs)
            assert {key: value.shape for key, value in ours.layers.state_dict().items()} == {
                key: value.shape for key, value in theirs.state_dict().items()
            }


@each
@pytest.mark.parametrize(("side", "channels"), [(28, 1), (36, 3), (224, 1), (384, 3)])
def test_small_members_learn_everywhere_at_any_size(model: ModuleType, side: int, channels: int) -> None:
    network = built(model, side, channels, drop_path=0.2, dropout=0.2).train()
    network(frame(2, side, channels)).square().sum().backward()
    assert all(torch.isfinite(value.grad).all() for value in network.parameters())
    assert sum(bool(value.grad.any()) for value in network.parameters()) > 0.9 * len(list(network.parameters()))


@each
@torch.no_grad()
def test_it_is_timms_network_on_colours_around_zero(model: ModuleType) -> None:
    network = built(model).eval()
    mean, std = (torch.tensor(value).view(3, 1, 1) for value in (model.SMALL.mean, model.SMALL.std))
    assert type(network.layers).__module__.startswith("timm.")
    torch.testing.assert_close(network(frame()), network.layers((frame() - mean) / std))
    plain = built(model, mean=(0, 0, 0), std=(1, 1, 1)).eval()
    torch.testing.assert_close(plain(frame()), network.layers(frame()))


@pytest.mark.parametrize(
    ("model", "options", "name"),
    [
        (vit, {"patch": 32}, "vit_base_patch32_224"),
        (swin, {}, "swin_base_patch4_window7_224"),
        (poolformer, {"variant": "m36"}, "poolformer_m36"),
        (poolformer, {"variant": "m48"}, "poolformer_m48"),
    ],
)
def test_colours_are_those_that_the_hubs_weights_were_trained_with(
    model: ModuleType, options: dict[str, Any], name: str
) -> None:
    chosen = model.Options(**options)
    config = _timm.timm().models.get_pretrained_cfg(name)
    assert (chosen.mean, chosen.std) == (config.mean, config.std)
    assert config.hf_hub_id


@each
@torch.no_grad()
def test_a_grey_frame_is_a_coloured_one_without_colour(model: ModuleType) -> None:
    grey = frame(channels=1)
    one, three = built(model, channels=1).eval(), built(model).eval()
    torch.testing.assert_close(one(grey), three(grey.expand(-1, 3, -1, -1)))
    assert sum(value.numel() for value in one.parameters()) == sum(value.numel() for value in three.parameters())


@each
@torch.no_grad()
def test_all_networks_are_still_in_evaluation_and_drop_in_training(model: ModuleType) -> None:
    for changes in ({"drop_path": 0.5}, {"dropout": 0.5}):
        network = built(model, **changes)
        network.eval()
        assert torch.equal(network(frame()), network(frame()))
        network.train()
        assert not torch.equal(network(frame()), network(frame()))
    network = built(model).train()
    assert torch.equal(network(frame()), network(frame()))


def test_drop_path_grows_with_the_depth() -> None:
    rates = [getattr(block.drop_path1, "drop_prob", 0.0) for block in built(vit, depth=4, drop_path=0.3).layers.blocks]
    assert rates == pytest.approx([0, 0.1, 0.2, 0.3])


# --- sizes


@pytest.mark.parametrize(("side", "patch"), [(224, 32), (28, 4), (32, 4), (36, 6), (384, 48), (49, 7), (8, 1), (37, 1)])
def test_a_vit_finds_the_patch_that_leaves_nearest_to_7(side: int, patch: int) -> None:
    assert vit._patch(side, "auto") == patch
    assert side % patch == 0


@pytest.mark.parametrize(
    ("side", "patch", "window", "sides"),
    [
        (224, 4, 7, (56, 28, 14, 7)),
        (384, 4, 12, (96, 48, 24, 12)),
        (28, "auto", 4, (28, 14, 7, 4)),
        (36, "auto", 5, (36, 18, 9, 5)),
        (64, "auto", 4, (32, 16, 8, 4)),
    ],
)
def test_swins_windows_fit_the_last_map(side: int, patch: Any, window: int, sides: tuple[int, ...]) -> None:
    with torch.device("meta"):
        network = built(swin, side, patch=patch)
    stages = list(network.layers.layers)
    assert tuple(stage.output_resolution[0] for stage in stages) == sides
    assert {block.window_size for stage in stages for block in stage.blocks} == {(window, window)}
    with torch.device("meta"):
        seven = built(swin, 384, patch=4, window=7)
    assert {block.window_size for stage in seven.layers.layers for block in stage.blocks} == {(7, 7)}


@pytest.mark.parametrize(
    ("side", "stride", "sides"),
    [(224, 4, (56, 28, 14, 7)), (384, 4, (96, 48, 24, 12)), (28, 1, (28, 14, 7, 4)), (36, 2, (18, 9, 5, 3)),
     (224, 8, (28, 14, 7, 4)), (100, 4, (25, 13, 7, 4))],
)  # fmt: skip
@torch.no_grad()
def test_poolformer_takes_any_size(side: int, stride: Any, sides: tuple[int, ...]) -> None:
    network = built(poolformer, side, stem_stride=stride).eval()
    x = network.layers.stem((frame(1, side) - network.mean) / network.std)
    found = []
    for stage in network.layers.stages:
        x = stage(x)
        found.append(x.shape[-1])
    assert tuple(found) == sides


@each
def test_frames_that_do_not_fit_are_refused_in_one_line(model: ModuleType) -> None:
    name = model.__name__.rpartition(".")[2]
    for given in ({"flow": (3, 32, 32)}, {"frame": (3, 32, 28)}, {"frame": (2, 32, 32)}, {"frame": (3, 4, 32, 32)}):
        with pytest.raises(UserError, match=f"{name}: want square frames in grey or colours, got") as caught:
            model.build(given, 3, model.SMALL)
        assert "\n" not in str(caught.value)
    with pytest.raises(UserError, match=r"set input\.views = 'each', or model\.over_time"):
        model.build(shapes(32, 3, 5), 3, model.SMALL)
    with pytest.raises(UserError, match=r"want frames together for .*'gru'.*set input\.views = 'together'"):
        built(model, over_time="gru")


@pytest.mark.parametrize(
    ("model", "side", "changes", "match"),
    [
        (vit, 36, {"patch": 32}, "vit: want a side that is a multiple of model.patch = 32 and at least twice that"),
        (vit, 32, {"patch": 32}, "at least twice that, got 32; set input.size to such a size, or model.patch to a"),
        (swin, 30, {"patch": 4}, "swin: want a side that is a multiple of model.patch = 4 and at least 32, got 30"),
        (swin, 28, {"patch": 4}, "at least 32, got 28; set input.size to such a size, or lower model.patch"),
        (poolformer, 28, {"stem_stride": 4}, "poolformer: want a side of at least 32 with model.stem_stride = 4, got"),
    ],
)  # fmt: skip
def test_sizes_that_the_family_does_not_allow(model: Any, side: int, changes: dict[str, Any], match: str) -> None:
    with pytest.raises(UserError, match=match):
        built(model, side, **changes)


@pytest.mark.parametrize(
    ("model", "wrong"),
    [
        (vit, {"dim": 100}), (vit, {"patch": 0}), (vit, {"std": (0, 1, 1)}), (vit, {"mean": (0, 0)}),
        (swin, {"mean": (0, float("nan"), 0)}), (poolformer, {"std": (1, 1, float("inf"))}),
        (swin, {"head_width": 7}), (swin, {"depths": (1, 1, 1)}), (swin, {"window": 0}), (swin, {"patch": 3}),
        (poolformer, {"variant": "s12"}), (poolformer, {"layer_scale": 0}), (poolformer, {"dims": (8, 8, 16, 16)}),
        (vit, {"over_time": "mean"}), (vit, {"hidden": (0,)}), (vit, {"drop_path": 1}), (vit, {"memory": 0}),
    ],
)  # fmt: skip
def test_options_that_are_none(model: Any, wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        model.Options(**wrong)


# --- classifier and frozen parts


@each
def test_hidden_layers_of_the_classifier(model: ModuleType) -> None:
    plain, deep = built(model), built(model, hidden=(10, 6), dropout=0.1)
    linear = [module for module in deep.layers.head.modules() if isinstance(module, nn.Linear)]
    assert [module.out_features for module in linear] == [10, 6, 3]
    assert not any("decide" in key for key in tensors(plain))
    deep(frame()).sum().backward()
    assert all(value.grad is not None for value in deep.parameters())


@each
def test_the_first_parts_stay_as_they_begin(model: ModuleType) -> None:
    network = built(model, frozen=2)
    before = tensors(network)
    optimiser = torch.optim.SGD([value for value in network.parameters() if value.requires_grad], lr=1.0)
    network(frame()).square().sum().backward()
    optimiser.step()
    changed = {key for key, value in tensors(network).items() if not torch.equal(value, before[key])}
    first = {vit: ("patch_embed", "cls_token", "pos_embed", "blocks.0."), swin: ("patch_embed", "layers.0."),
             poolformer: ("stem", "stages.0.")}[model]  # fmt: skip
    assert changed
    assert not any(key.startswith(first) for key in changed)
    assert any(key.startswith({vit: "blocks.1.", swin: "layers.1.", poolformer: "stages.1."}[model]) for key in changed)
    with pytest.raises(UserError, match=r"want at most [35] parts that stay as they are, got 9; lower frozen"):
        built(model, frozen=9)


# --- pretrained weights


@pytest.fixture
def saved(tmp_path: Path) -> Any:
    """A file of timm's names, of another number of classes and another size of pictures."""

    def write(model: ModuleType, side: int = 32, **changes: Any) -> tuple[dict[str, Tensor], Path]:
        torch.manual_seed(7)
        network = model.build(shapes(side), 5, model.Options(**{**dict(model.SMALL), **changes}))
        weights = network.layers.state_dict()
        save_file(weights, tmp_path / "pretrained.safetensors")
        return weights, tmp_path / "pretrained.safetensors"

    return write


@each
def test_a_pretrained_file_goes_round_and_the_classifier_stays_random(model: ModuleType, saved: Any) -> None:
    weights, path = saved(model)
    before, network = tensors(built(model)), built(model, weights=str(path))
    for key, value in tensors(network).items():
        fresh = key.startswith(CLASSIFIER[model])
        assert torch.equal(value, before[key] if fresh else weights[key]), key
    (told,) = network.notices
    assert f"2 at random: {CLASSIFIER[model]}weight, {CLASSIFIER[model]}bias." in told
    assert built(model).notices == ()
    save_file(tensors(network), path)
    again = built(model, weights=str(path))
    assert all(torch.equal(value, tensors(network)[key]) for key, value in tensors(again).items()
               if not key.startswith(CLASSIFIER[model]))  # fmt: skip


@each
@torch.no_grad()
def test_features_are_those_of_the_pretrained_network(model: ModuleType, saved: Any) -> None:
    _, path = saved(model)
    torch.manual_seed(7)
    theirs = model.build(shapes(32), 5, model.SMALL).eval()
    assert torch.equal(built(model, weights=str(path)).eval().features(frame()), theirs.features(frame()))


@torch.no_grad()
def test_position_embeddings_of_another_size_are_resized(saved: Any) -> None:
    """A ramp over the places stays a ramp; the class token's own is left alone."""
    weights, path = saved(vit, 64, patch=8)
    ramp = torch.linspace(0, 1, 8).view(1, 8, 1, 1).expand(1, 8, 8, 32).reshape(1, 64, 32)
    weights["pos_embed"][:, 1:] = ramp
    save_file(weights, path)
    network = built(vit, 96, patch=8, weights=str(path))
    found = network.layers.pos_embed.detach()
    assert found.shape == (1, 145, 32)
    assert torch.equal(found[:, 0], weights["pos_embed"][:, 0])
    rows = found[0, 1:].view(12, 12, 32)
    assert torch.allclose(rows, rows[:, :1, :1].expand_as(rows), atol=1e-5)
    assert torch.all(rows[1:, 0, 0] > rows[:-1, 0, 0])
    assert float(rows.mean()) == pytest.approx(0.5, abs=0.01)
    assert network.notices[1] == "1 tensors were resized for another size of pictures or patches: pos_embed."


def test_tables_of_relative_positions_of_other_windows_are_resized(saved: Any) -> None:
    weights, path = saved(swin, 64, patch=2)  # windows of 4
    key = "layers.0.blocks.0.attn.relative_position_bias_table"
    ramp = torch.arange(7.0).view(7, 1).expand(7, 7).reshape(49, 1)
    weights[key] = ramp.contiguous()
    save_file(weights, path)
    network = built(swin, 96, patch=2, weights=str(path))  # windows of 6
    table = network.layers.state_dict()[key]
    assert table.shape == (121, 1)
    rows = table.view(11, 11)
    assert torch.allclose(rows, rows[:, :1].expand_as(rows), atol=1e-4)
    assert torch.all(rows[1:, 0] > rows[:-1, 0])
    assert rows[5, 5] == pytest.approx(3, abs=1e-3)  # the same place stays the middle
    assert network.notices[1].startswith("5 tensors were resized for another size of pictures or patches: layers.0.bl")


def test_poolformers_weights_fit_any_size(saved: Any) -> None:
    weights, path = saved(poolformer, 64, stem_stride=4)
    network = built(poolformer, 96, stem_stride=4, weights=str(path))
    assert len(network.notices) == 1
    assert torch.equal(tensors(network)["stem.conv.weight"], weights["stem.conv.weight"])


@each
def test_a_deeper_or_wider_network_is_not_taken_in_part(model: ModuleType, saved: Any) -> None:
    deeper = {"depth": 3} if model is vit else {"depths": (1, 1, 3, 1)}
    name = model.__name__.rpartition(".")[2]
    for changes in (deeper, {"dims": (8, 16, 32, 48)} if model is poolformer else {"dim": 16}):
        _, path = saved(model, **changes)
        with pytest.raises(UserError, match=f"want .*weights of .*{name}.*, got .*pretrained.safetensors") as caught:
            built(model, weights=str(path))
        assert "\n" not in str(caught.value)


@each
def test_a_missing_hub_is_one_line_and_no_random_start(model: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def fail(*where: str) -> str:
        asked.append(where)
        raise ConnectionError("Name or service not known\nand much more")

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", fail)
    for side in (64, 384):
        with pytest.raises(
            UserError, match=r"got no file \(Name or service not known\); connect, or download"
        ) as caught:
            built(model, side, weights="hub")
        assert "\n" not in str(caught.value)
    names = {
        vit: ["vit_base_patch32_224.augreg_in21k_ft_in1k", "vit_base_patch32_384.augreg_in21k_ft_in1k"],
        swin: ["swin_base_patch4_window7_224.ms_in22k_ft_in1k", "swin_base_patch4_window12_384.ms_in22k_ft_in1k"],
        poolformer: ["poolformer_m36.sail_in1k"] * 2,
    }[model]
    assert asked == [(f"timm/{name}", "model.safetensors") for name in names]
    with pytest.raises(UserError, match="that the hub has, got 'hub:nope'; give hub:TAG with one of"):
        built(model, weights="hub:nope")


@each
def test_what_was_trained_is_a_start_for_frames_in_time_and_back(model: ModuleType, tmp_path: Path) -> None:
    alone, together = built(model), built(model, length=3, over_time="lstm")
    for source, target in ((alone, {"length": 3, "over_time": "gru"}), (together, {})):
        saving.write(tmp_path / "model", source, {})
        network = built(model, weights=str(tmp_path / "model" / "model.safetensors"), **target)
        assert all(torch.equal(value, tensors(source)[key]) for key, value in tensors(network).items()
                   if not key.startswith(CLASSIFIER[model]))  # fmt: skip
        assert "start from" in network.notices[0]


# --- frames in time


@each
@pytest.mark.parametrize("kind", ["lstm", "gru"])
@torch.no_grad()
def test_the_order_of_frames_decides(model: ModuleType, kind: str) -> None:
    network = built(model, length=3, over_time=kind).eval()
    x = frames()
    logits = network(frames=x)
    assert logits.shape == (2, 3)
    assert (network(frames=x.flip(2)) - logits).abs().max() > 1e-4
    # and clips do not mix: the frames of one are not read behind those of another
    torch.testing.assert_close(network(frames=x[1:]), logits[1:], rtol=1e-4, atol=1e-5)


@each
@torch.no_grad()
def test_each_frame_goes_through_the_network_as_if_it_were_alone(model: ModuleType) -> None:
    alone, together = built(model).eval(), built(model, length=3, over_time="lstm").eval()
    backbone = {key: value for key, value in tensors(alone).items() if not key.startswith(CLASSIFIER[model])}
    together.layers.load_state_dict(backbone, strict=False)
    x = frames()
    said = together.features(frames=x).unflatten(1, (3, -1))
    for at in range(3):
        torch.testing.assert_close(said[:, at], alone.features(x[:, :, at]))


@each
@torch.no_grad()
def test_the_recurrent_layer_is_torchs_on_the_pooled_features(model: ModuleType) -> None:
    network = built(model, length=3, over_time="gru", hidden=(5,)).eval()
    x, layers = frames(), network.layers
    own = layers.head if model is vit else layers.head.fc
    pictures = [(x[:, :, at] - network.mean) / network.std for at in range(3)]
    pooled = torch.stack([layers.forward_head(layers.forward_features(one), pre_logits=True) for one in pictures], 1)
    _, last = own.recurrent(pooled)
    torch.testing.assert_close(network(frames=x), own.decide(last[0]))


def test_a_network_with_memory_learns_an_order_that_no_single_frame_shows() -> None:
    """Two classes of the same three frames, forwards and backwards."""
    torch.manual_seed(0)
    network = built(vit, 28, 1, length=3, over_time="gru", dim=16)
    levels = torch.tensor([0.1, 0.5, 0.9])
    x = torch.stack([levels, levels.flip(0)]).repeat(6, 1).view(12, 1, 3, 1, 1).expand(-1, -1, -1, 28, 28)
    x = (x + 0.02 * torch.randn(12, 1, 3, 28, 28)).clamp(0, 1)
    wanted = torch.tensor([0, 1]).repeat(6)
    optimiser = torch.optim.Adam(network.parameters(), lr=3e-3)
    for _ in range(60):
        loss = nn.functional.cross_entropy(network(frames=x), wanted)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    assert (network(frames=x).argmax(1) == wanted).all()


@each
def test_all_parts_of_a_network_over_time_learn_in_grey_too(model: ModuleType) -> None:
    network = built(model, channels=1, length=13, over_time="lstm").train()
    network(frames=frames(1, 13, channels=1)).square().sum().backward()
    assert all(torch.isfinite(value.grad).all() for value in network.parameters())


# --- explanations


@each
@pytest.mark.parametrize("method", ["grad_cam", "grad_cam++", "hires_cam"])
def test_maps_have_the_size_of_the_last_map(model: ModuleType, method: str) -> None:
    last = (8, 8) if model is vit else (4, 4)
    alone, together = built(model), built(model, length=3, over_time="lstm")
    for network, x in ((alone, {"frame": frame()}), (together, {"frames": frames()})):
        heat = explain.heat(network, x, 1, method)
        assert heat.shape == (2, *last)
        assert torch.isfinite(heat).all()
        assert float(heat.std()) > 0
        assert method == "hires_cam" or heat.min() >= 0


@each
def test_other_methods_work_as_for_any_network(model: ModuleType) -> None:
    heat = explain.heat(built(model), {"frame": frame()}, None, "integrated")
    assert heat.shape == (2, 32, 32)
    assert explain.heat(built(model, length=3, over_time="gru"), {"frames": frames()}, 0).shape == (2, 32, 32)


@each
@torch.no_grad()
def test_forward_is_head_of_features_over_time_too(model: ModuleType) -> None:
    network = built(model, length=3, over_time="gru").eval()
    features = network.features(frames=frames())
    assert features.ndim == 4
    torch.testing.assert_close(network.head(features), network(frames=frames()))


def test_a_vits_map_holds_the_patches_alone() -> None:
    """Grad-CAM written out on the tokens before the last block; the class token decides, but is no place."""
    network = built(vit).eval()
    network.layers.head.weight.data.normal_(0, 1)
    tokens = network.encode((frame() - network.mean) / network.std).detach().requires_grad_()
    (gradient,) = torch.autograd.grad(network.decide(tokens)[:, 1].sum(), tokens)
    assert gradient[:, 0].abs().max() > 0
    weights = gradient[:, 1:].mean(1)
    wanted = torch.einsum("bd,bnd->bn", weights, tokens.detach()[:, 1:]).relu().view(2, 8, 8)
    torch.testing.assert_close(explain.heat(network, {"frame": frame()}, 1, "grad_cam"), wanted)


def test_attention_of_a_vit_is_what_decides() -> None:
    """The layers from which the output comes, read back from the class token as equations 5 and 6 have it."""
    network = built(vit).eval()
    network.layers.head.weight.data.normal_(0, 1)
    x = frame()
    output, matrices = network.attention(x)
    torch.testing.assert_close(output, network(x))
    assert [matrix.shape for matrix in matrices] == [(2, 4, 65, 65)] * 2
    torch.testing.assert_close(matrices[0].sum(-1), torch.ones(2, 4, 65))
    gradients = torch.autograd.grad(output[:, 2].sum(), matrices)
    relevance = torch.eye(65).expand(2, -1, -1)
    for matrix, gradient in zip(matrices, gradients, strict=True):
        relevance = relevance + (matrix * gradient).relu().mean(1) @ relevance
    wanted = relevance[:, 0, 1:].detach().view(2, 8, 8)
    torch.testing.assert_close(explain.heat(network, {"frame": x}, 2, "attention"), wanted)


def test_attention_is_not_shown_where_frames_are_read_in_time() -> None:
    with pytest.raises(UserError, match="want a network that shows its attention, got ViT"):
        explain.heat(built(vit, length=3, over_time="gru"), {"frames": frames()}, 0, "attention")


def test_training_a_vit_teaches_its_class_token() -> None:
    """What is cut in `head` is not cut in `forward`."""
    network = built(vit)
    network(frame()).square().sum().backward()
    assert network.layers.cls_token.grad.abs().max() > 0


# --- the recipe


def test_the_recipe_is_the_studys() -> None:
    for model in MODELS:
        recipe = model.RECIPE
        assert (recipe.optimiser, recipe.lr, recipe.weight_decay, recipe.epochs) == ("adamw", 5e-5, 1e-3, 50)
        assert (recipe.balance, recipe.vote) == ("weights", "majority")
        assert 3 <= recipe.patience <= 5
        assert recipe.criterion == ("ce" if model is swin else "focal")


def test_the_focal_loss_is_weighted_by_inverse_frequency_without_a_limit() -> None:
    counts = [99, 63, 32, 27, 25, 7, 2]
    y = np.repeat(np.arange(7), counts)
    weights = training.class_weights(y, 7, vit.RECIPE.balance_limit)
    assert weights * counts == pytest.approx(np.full(7, len(y) / 7))  # each class weighs the same in all
    logits = torch.randn(5, 7, generator=torch.Generator().manual_seed(3))
    target = torch.eye(7)[[0, 2, 4, 6, 6]]
    found = training._losses(nn.Identity(), logits, target, Recipe(criterion="focal"), 0.0)
    p = (logits.softmax(1) * target).sum(1)
    torch.testing.assert_close(found, -((1 - p) ** 2) * p.log())


# --- at full size


@pytest.mark.slow
@pytest.mark.parametrize("side", [224, 384])
@pytest.mark.parametrize(
    ("model", "options"), [(vit, {}), (swin, {}), (poolformer, {}), (poolformer, {"variant": "m48"})]
)
def test_paper_size_goes_forward_and_back(model: ModuleType, options: dict[str, Any], side: int) -> None:
    torch.manual_seed(0)
    network = model.build(shapes(side), 7, model.Options(**options))
    loss = network(frame(1, side)).square().mean()
    loss.backward()
    assert torch.isfinite(loss)
    assert all(torch.isfinite(value.grad).all() for value in network.parameters())
