"""BOWAM: counts, the module against equations 2 to 6 written out with pywt, the ablations, pretrained weights."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import pywt
import torch
import torch.nn.functional as functional
from pydantic import ValidationError
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from fleeting import training
from fleeting.errors import UserError
from fleeting.models import _frequency, _timm, _wadm, bowam
from fleeting.models._wadm import Wadm, WadmOptions

OFF = {"spatial": False, "channel": False}
TABLE4: dict[str, dict[str, Any]] = {
    "B": {"transform": "none", **OFF},
    "C": OFF,
    "D": {"spatial": False},
    "E": {"channel": False},
    "F": {},
}
TINY: dict[str, Any] = {"depths": (1, 1, 2, 1), "dims": (4, 6, 8, 10), "layer_scale": 0.5, "ratio": 4, "stem_stride": 1,
                        "init_std": 0.0}  # fmt: skip


pytestmark = pytest.mark.usefixtures("one_thread")


def built(side: int = 28, channels: int = 3, **options: Any) -> Any:
    torch.manual_seed(0)
    return bowam.build({"flow": (channels, side, side)}, 3, bowam.Options(**{**TINY, **options}))


def pictures(count: int = 2, side: int = 28, channels: int = 3) -> Tensor:
    return torch.rand(count, channels, side, side, generator=torch.Generator().manual_seed(1))


def module(width: int = 6, **options: Any) -> Wadm:
    """A module whose batch norm does something, in evaluation mode."""
    torch.manual_seed(0)
    made = Wadm(width, WadmOptions(**{"ratio": 4, **options}))
    nn.init.uniform_(made.norm.running_mean, -0.1, 0.1)
    nn.init.uniform_(made.norm.running_var, 0.5, 2)
    return made.eval()


def maps(size: tuple[int, int] = (8, 8), width: int = 6, count: int = 2) -> Tensor:
    return torch.randn(count, width, *size, generator=torch.Generator().manual_seed(2))


def on_paper(**options: Any) -> tuple[float, float]:
    """Millions of parameters and billions of multiplications at 224 x 224, three classes."""
    with torch.device("meta"):
        network = bowam.build({"flow": (3, 224, 224)}, 3, bowam.Options(**options)).eval()
        with FlopCounterMode(display=False) as counter:
            network(torch.zeros(1, 3, 224, 224))
    return sum(value.numel() for value in network.parameters()) / 1e6, counter.get_total_flops() / 2e9


# --- counts


@pytest.mark.parametrize(("stages", "millions", "billions"), [(3, 13.99, 3.71), (4, 31.45, 4.47), (5, 96.30, 7.28)])
def test_the_counts_of_table_10(stages: int, millions: float, billions: float) -> None:
    ours = on_paper(stages=stages)
    assert ours[0] == pytest.approx(millions, rel=2e-3)
    assert ours[1] == pytest.approx(billions, rel=3e-3)


def test_a_module_between_the_stages_has_other_counts() -> None:
    assert on_paper(place="between")[0] == pytest.approx(28.08, abs=0.01)


@pytest.mark.parametrize(("row", "millions"), list(zip("BCDEF", [27.822, 27.836, 31.475, 27.836, 31.475], strict=True)))
def test_an_attention_takes_only_its_own_weights_out(row: str, millions: float) -> None:
    assert on_paper(**TABLE4[row])[0] == pytest.approx(millions, abs=5e-4)
    shapes = {key: value.shape for key, value in built(**TABLE4[row]).state_dict().items()}
    whole = {key: value.shape for key, value in built().state_dict().items()}
    renamed = {key.replace("conv_dw.", "conv_dw.conv.") if row == "B" else key: shape for key, shape in shapes.items()}
    assert all(whole[key] == shape for key, shape in renamed.items())


def test_without_a_module_it_is_timms_convnext() -> None:
    network = built(56, stem_stride=4, mean=0, std=1, kernel=7, **TABLE4["B"]).eval()
    theirs = _timm.create("convnext_tiny", num_classes=3, depths=TINY["depths"], dims=TINY["dims"]).eval()
    theirs.load_state_dict(network.state_dict())
    assert torch.allclose(network(pictures(2, 56)), theirs(pictures(2, 56)), atol=1e-5)


# --- the module


def equations(made: Wadm, x: Tensor, name: str) -> Tensor:
    """(2) to (6), with PyWavelets and numpy-like steps, band by band."""
    low, (lh, hl, hh) = (
        torch.from_numpy(part) if isinstance(part, np.ndarray) else tuple(map(torch.from_numpy, part))
        for part in pywt.dwt2(x.numpy(), name, "periodization")
    )
    if made.spatial is not None:
        places = torch.stack([low.amax(1), low.sum(1) / low.shape[1]], 1)
        low = low / (1 + (-functional.conv2d(places, made.spatial.conv.weight, padding="same")).exp())
    high = torch.cat([lh, hl, hh], 1)
    if made.channel is not None:
        grow, _, shrink = made.channel.mlp
        second = made.channel.mlp_of_means or made.channel.mlp
        most = (high.amax((2, 3)) @ grow.weight.T).clamp(min=0) @ shrink.weight.T
        mean = (high.mean((2, 3)) @ second[0].weight.T).clamp(min=0) @ second[2].weight.T
        high = high * (1 / (1 + (-(most + mean)).exp()))[..., None, None]
    parts = [part.numpy() for part in high.chunk(3, 1)]
    rebuilt = pywt.idwt2((low.numpy(), tuple(parts)), name, "periodization")[..., : x.shape[2], : x.shape[3]]
    y = functional.conv2d(torch.from_numpy(rebuilt), made.conv.weight, made.conv.bias, padding=3, groups=x.shape[1])
    norm = made.norm
    scaled = (y - norm.running_mean[:, None, None]) / (norm.running_var[:, None, None] + norm.eps).sqrt()
    return (scaled * norm.weight[:, None, None] + norm.bias[:, None, None]).clamp(min=0)


@pytest.mark.parametrize("size", [(8, 8), (7, 7), (3, 5), (1, 1)])
@pytest.mark.parametrize("name", ["haar", "db4", "sym5", "bior2.2", "coif5"])
@torch.no_grad()
def test_the_module_follows_the_equations(name: str, size: tuple[int, int]) -> None:
    made = module(wavelet=name)
    assert torch.allclose(made(maps(size)), equations(made, maps(size), name), atol=2e-5)


@pytest.mark.parametrize(
    "options", [{"spatial": False}, {"channel": False}, OFF, {"mlp": "separate"}, {"spatial_kernel": 7}]
)
@torch.no_grad()
def test_its_options_follow_the_equations(options: dict[str, Any]) -> None:
    made = module(**options)
    assert torch.allclose(made(maps()), equations(made, maps(), "haar"), atol=2e-5)


@torch.no_grad()
def test_attention_off_is_the_map_itself_and_on_is_not() -> None:
    x = maps((7, 6))
    assert torch.equal(module(**OFF).attended(x), x)
    for options in ({}, {"spatial": False}, {"channel": False}):
        assert (module(**options).attended(x) - x).abs().max() > 0.1


@torch.no_grad()
def test_spatial_attention_touches_the_approximation_alone_and_channel_attention_the_rest() -> None:
    x = maps()
    low, high = pywt.dwt2(x.numpy(), "haar", "periodization")
    changed_low, same_high = pywt.dwt2(module(channel=False).attended(x).numpy(), "haar", "periodization")
    same_low, changed_high = pywt.dwt2(module(spatial=False).attended(x).numpy(), "haar", "periodization")
    assert np.allclose(low, same_low, atol=1e-5)
    assert not np.allclose(low, changed_low, atol=0.1)
    assert np.allclose(np.stack(high), np.stack(same_high), atol=1e-5)
    assert not np.allclose(np.stack(high), np.stack(changed_high), atol=0.1)


@torch.no_grad()
def test_odd_sides_are_exact_or_resized_as_the_code_does() -> None:
    x = maps((7, 7))
    exact, resized = module(), module(odd="bilinear")
    six = functional.interpolate(x, (6, 6), mode="bilinear")
    assert torch.allclose(resized.attended(x), functional.interpolate(exact.attended(six), (7, 7), mode="bilinear"))
    assert (resized.attended(x) - exact.attended(x)).abs().max() > 0.1
    assert torch.equal(resized.attended(maps()), exact.attended(maps()))
    lost = module(odd="bilinear", **OFF).attended(x)  # without attention the code's way still blurs
    assert (lost - x).abs().max() > 0.1


@torch.no_grad()
def test_shared_weights_serve_both_and_separate_ones_do_not() -> None:
    assert sum(value.numel() for value in module(mlp="separate").channel.parameters()) == 2 * 18 * 4 * 2
    assert sum(value.numel() for value in module().channel.parameters()) == 18 * 4 * 2
    assert sum(value.numel() for value in _wadm.Channel(48, 16, True).parameters()) == 48 * 3 * 2


# --- Table 11's other transforms


@pytest.mark.parametrize("size", [(8, 8), (7, 10), (1, 3)])
def test_the_four_fourier_bands_are_those_of_the_spectrum_and_sum_to_the_map(size: tuple[int, int]) -> None:
    x = maps(size).double()
    bands = _frequency.quarters(x)
    assert torch.allclose(bands.sum(1), x, atol=1e-10)
    spectrum = torch.fft.fft2(x)
    rows, columns = (torch.fft.fftfreq(side).abs() < 0.25 for side in size)
    masks = [rows[:, None] & columns, ~rows[:, None] & columns, rows[:, None] & ~columns, ~rows[:, None] & ~columns]
    for band, mask in zip(bands.unbind(1), masks, strict=True):
        assert torch.allclose(band, torch.fft.ifft2(spectrum * mask).real, atol=1e-10)


def test_fourier_bands_are_attended_to_by_the_same_weights() -> None:
    wave, fourier = built(), built(transform="fourier")
    fourier.load_state_dict(wave.state_dict())
    assert not torch.allclose(wave.eval()(pictures()), fourier.eval()(pictures()), atol=1e-4)


@pytest.mark.parametrize("size", [(9, 9), (224, 30)])
def test_freqhd_weighs_its_two_bands_by_their_power(size: tuple[int, int]) -> None:
    x = maps(size, 2).double()
    frequencies = [torch.fft.fftfreq(side, dtype=torch.float64) * 224 for side in size]
    distance = frequencies[0][:, None].square() + frequencies[1].square()
    low = torch.fft.ifft2(torch.fft.fft2(x) * (-0.5 * distance / 20**2).exp()).real
    assert torch.allclose(_frequency.smooth(x), low, atol=1e-9)
    powers = torch.stack([low.square().mean((2, 3)), (x - low).square().mean((2, 3))])
    shares = 2 * powers / powers.sum(0)
    expected = low * shares[0][..., None, None] + (x - low) * shares[1][..., None, None]
    made = module(2, transform="freqhd", **OFF)
    assert torch.allclose(made.attended(x), expected, atol=1e-8)
    assert torch.isfinite(made.attended(torch.zeros_like(x))).all()


def test_the_temporal_transform_of_one_frame_is_the_frame() -> None:
    """Why a map's dynamics are its mean square: Freq-HD sums the upper half of |DFT|^2 over a clip's frames."""
    clip = maps((4, 4), 1, 1)[:, 0].double()
    power = torch.fft.fft(clip, dim=0).abs().square()[len(clip) // 2 :].sum(0).mean() / len(clip)
    assert float(power) == pytest.approx(float(clip.square().mean()))


# --- the network


def test_where_the_module_is() -> None:
    def count(network: nn.Module) -> int:
        return sum(isinstance(part, Wadm) for part in network.modules())

    assert count(built()) == 5
    assert count(built(stages=5)) == 6
    assert count(built(place="between")) == 3
    assert count(built(place="between", stages=3)) == 2
    assert count(built(**TABLE4["B"])) == count(built(place="between", **TABLE4["B"])) == 0


@torch.no_grad()
def test_a_block_adds_the_scaled_mlp_of_its_module() -> None:
    block = built().stages[1].blocks[0].eval()
    x = maps((14, 14))
    y = functional.layer_norm(block.conv_dw(x).permute(0, 2, 3, 1), (6,), block.norm.weight, block.norm.bias, 1e-6)
    y = block.gamma * block.mlp.fc2(functional.gelu(block.mlp.fc1(y)))
    assert torch.allclose(block(x), x + y.permute(0, 3, 1, 2), atol=1e-5)


@torch.no_grad()
def test_the_fifth_stage_takes_the_map_of_the_fourth_twice() -> None:
    network = built(stages=5).eval()
    x = maps((3, 3), 10)
    network.stages[4].blocks = nn.Sequential()
    assert torch.equal(network.stages[4](x), torch.cat([x, x], 1))
    assert built(32, stages=5).features(pictures(2, 32)).shape == (2, 20, 4, 4)


def test_the_start_is_convnexts() -> None:
    network = bowam.build({"flow": (3, 224, 224)}, 3, bowam.Options(stages=3))
    block = network.stages[2].blocks[0]
    assert torch.equal(block.gamma, torch.full((384,), 1e-6))
    for weight in (block.mlp.fc1.weight, block.conv_dw.conv.weight, block.conv_dw.channel.mlp[0].weight):
        assert float(weight.detach().std()) == pytest.approx(0.02, rel=0.05)
    assert not block.mlp.fc1.bias.any()


def test_colours_are_brought_around_zero() -> None:
    ours, plain = built().eval(), built(mean=0, std=1).eval()
    assert torch.allclose(ours(pictures()), plain(2 * pictures() - 1), atol=1e-6)


@pytest.mark.parametrize("options", [{"drop_path": 0.9}, {"layer_scale": 0}, {"mlp": "separate"}, {"place": "between"},
                                     {"stages": 5}, {"transform": "fourier"}, {"odd": "bilinear"},
                                     {"transform": "freqhd", **OFF}, *TABLE4.values()])  # fmt: skip
def test_every_parameter_gets_a_gradient(options: dict[str, Any]) -> None:
    network = built(**options)
    network(pictures(32)).square().sum().backward()
    assert all(torch.isfinite(value.grad).all() for value in network.parameters())


def test_drop_path_acts_in_training_only_and_keeps_the_mean() -> None:
    network = built(drop_path=0.5)
    assert [block.drop_path for stage in network.stages for block in stage.blocks] == [0, 0.125, 0.25, 0.375, 0.5]
    assert not torch.equal(network(pictures()), network(pictures()))
    network.eval()
    assert torch.equal(network(pictures()), network(pictures()))


@pytest.mark.parametrize(("side", "stride", "last"), [(28, "auto", 3), (224, 4, 7), (64, 2, 4), (9, 1, 1)])
def test_any_square_picture_and_stem(side: int, stride: Any, last: int) -> None:
    network = built(side, 2, stem_stride=stride).eval()
    assert network.features(pictures(1, side, 2)).shape[2:] == (last, last)


def test_what_cannot_be_built_is_refused() -> None:
    with pytest.raises(UserError, match="bowam: want a picture of at least 8 x 8, got 7 x 7; lower stem_stride"):
        built(7)
    with pytest.raises(UserError, match="bowam: want a square flow picture"):
        bowam.build({"flow": (3, 28, 24)}, 3, bowam.Options())


@pytest.mark.parametrize("wrong", [{"wavelet": "harr"}, {"spatial_kernel": 4}, {"kernel": 2}, {"transform": "none"},
                                   {"transform": "freqhd", "channel": False}, {"stages": 2}])  # fmt: skip
def test_wrong_options_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        bowam.Options(**wrong)


def test_bfloat16_stays_near() -> None:
    network = built().eval()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        half = network(pictures())
    assert (half.float() - network(pictures())).abs().max() < 0.1


def test_the_recipe_is_the_papers() -> None:
    recipe = bowam.RECIPE
    rates = [training.learning_rate(recipe, epoch) for epoch in (0, 1, 99)]
    assert rates == pytest.approx([1e-4, 0.987e-4, 1e-4 * 0.987**99])
    assert (recipe.epochs, recipe.batch, recipe.weight_decay, recipe.crop) == (100, 32, 1e-4, 224)


# --- pretrained weights


@pytest.fixture
def pretrained(tmp_path: Path) -> tuple[dict[str, Tensor], str]:
    torch.manual_seed(3)
    weights = _timm.create("convnext_tiny", num_classes=7, depths=TINY["depths"], dims=TINY["dims"]).state_dict()
    save_file(weights, tmp_path / "x.safetensors")
    return weights, str(tmp_path / "x.safetensors")


@pytest.mark.parametrize(
    ("options", "random"),
    [
        ({}, ("head.fc", "conv_dw")),
        (TABLE4["B"], ("head.fc",)),
        ({"place": "between"}, ("head.fc", "wadm")),
        ({"stages": 3}, ("head.", "conv_dw")),
        ({"stages": 5}, ("head.", "conv_dw", "stages.4")),
    ],
)
def test_all_that_convnext_has_is_taken_over_and_the_rest_is_named(
    pretrained: Any, options: dict[str, Any], random: tuple[str, ...]
) -> None:
    weights, path = pretrained
    network, plain = (built(56, stem_stride=4, weights=source, **options) for source in (path, "none"))
    before = plain.state_dict()
    for key, value in network.state_dict().items():
        fresh = any(part in key for part in random)
        assert torch.equal(value, before[key] if fresh else weights[key]), key
    assert plain.notices == ()
    count = sum(not any(part in key for part in random) for key in before)
    wanted = (
        rf"{count} tensors start from {re.escape(path)} \(sha256 [0-9a-f]{{16}}\), {len(before) - count} at random: "
    )
    assert re.match(wanted, network.notices[0])


def test_a_stem_for_small_pictures_has_no_pretrained_weights(pretrained: Any) -> None:
    with pytest.raises(
        UserError, match=r"bowam: want the weights of convnext_tiny that fit these options.*stem.0.weight"
    ):
        built(weights=pretrained[1])


# --- full size


@pytest.mark.slow
@pytest.mark.parametrize("options", [*TABLE4.values(), {"stages": 3}, {"stages": 5}, {"place": "between"},
                                     {"wavelet": "coif5"}, {"transform": "fourier"},
                                     {"transform": "freqhd", **OFF}])  # fmt: skip
def test_paper_size_goes_forward_and_back_at_224(options: dict[str, Any]) -> None:
    torch.manual_seed(0)
    network = bowam.build({"flow": (3, 224, 224)}, 3, bowam.Options(**options))
    loss = network(pictures(2, 224)).square().mean()
    loss.backward()
    assert torch.isfinite(loss)
    assert all(torch.isfinite(value.grad).all() for value in network.parameters())


def test_a_trained_network_is_a_start_with_its_attention(tmp_path: Path) -> None:
    options = bowam.SMALL.model_copy(update={"depths": (1, 1, 1, 1), "dims": (8, 8, 8, 8)})
    torch.manual_seed(1)
    trained = bowam.build({"flow": (3, 32, 32)}, 3, options)
    with torch.no_grad():
        for parameter in trained.parameters():
            parameter.add_(0.01)
    save_file({name: tensor.contiguous() for name, tensor in trained.state_dict().items()}, tmp_path / "w.safetensors")
    again = bowam.build(
        {"flow": (3, 32, 32)}, 3, options.model_copy(update={"weights": str(tmp_path / "w.safetensors")})
    )
    mine, its = trained.state_dict(), again.state_dict()
    differ = {name for name in mine if not torch.equal(mine[name], its[name])}
    assert differ == {"head.fc.weight", "head.fc.bias"}
