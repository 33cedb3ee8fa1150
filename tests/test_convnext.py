"""ConvNeXt through timm: counts, stems for small pictures, pretrained weights, and that it is BOWAM's row B."""

from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from safetensors.torch import save_file
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from fleeting.errors import UserError
from fleeting.models import _timm, bowam, convnext

TINY: dict[str, Any] = {"depths": (1, 1, 2, 1), "dims": (4, 6, 8, 10), "layer_scale": 0.5}


pytestmark = pytest.mark.usefixtures("one_thread")


def built(side: int = 32, channels: int = 3, classes: int = 3, **options: Any) -> Any:
    torch.manual_seed(0)
    return convnext.build({"flow": (channels, side, side)}, classes, convnext.Options(**{**TINY, **options}))


def pictures(count: int = 2, side: int = 32, channels: int = 3) -> Tensor:
    return torch.rand(count, channels, side, side, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize(("classes", "parameters"), [(1000, 28_589_128), (3, 27_822_435)])
def test_the_counts_are_the_published_ones(classes: int, parameters: int) -> None:
    with torch.device("meta"):
        network = convnext.build({"flow": (3, 224, 224)}, classes, convnext.Options()).eval()
        with FlopCounterMode(display=False) as counter:
            network(torch.zeros(1, 3, 224, 224))
    assert sum(value.numel() for value in network.parameters()) == parameters
    assert counter.get_total_flops() / 2e9 == pytest.approx(4.46, abs=0.01)


@torch.no_grad()
def test_it_is_timms_network_on_colours_around_zero() -> None:
    network = built().eval()
    assert type(network.layers).__module__.startswith("timm.")
    assert torch.allclose(network(pictures()), network.layers(2 * pictures() - 1), atol=1e-6)
    assert torch.allclose(built(mean=0, std=1).eval()(pictures()), network.layers(pictures()), atol=1e-6)


@torch.no_grad()
def test_it_is_row_b_of_bowams_ablation() -> None:
    row = bowam.Options(**TINY, transform="none", spatial=False, channel=False)
    ours = bowam.build({"flow": (3, 32, 32)}, 3, row).eval()
    network = built().eval()
    network.layers.load_state_dict(ours.state_dict())
    assert torch.allclose(network(pictures()), ours(pictures()), atol=1e-5)
    assert bowam.RECIPE == convnext.RECIPE


@pytest.mark.parametrize(
    ("side", "stride", "channels", "last"),
    [(28, "auto", 3, 3), (28, 1, 2, 3), (28, 2, 3, 1), (112, 2, 6, 7), (224, 4, 1, 7), (240, "auto", 3, 3)],
)
def test_any_square_picture_stem_and_number_of_channels(side: int, stride: Any, channels: int, last: int) -> None:
    network = built(side, channels, stem_stride=stride).eval()
    features = network.features(pictures(1, side, channels))
    assert features.shape == (1, 10, last, last)
    assert network.head(features).shape == (1, 3)


def test_every_stage_after_the_stem_halves_once() -> None:
    """timm's own patch_size = 2 would halve before the first stage too."""
    assert [stage.downsample[-1].stride for stage in list(built(28, stem_stride=2).layers.stages)[1:]] == [(2, 2)] * 3
    assert isinstance(built(28, stem_stride=2).layers.stages[0].downsample, torch.nn.Identity)


def test_the_start_is_the_papers_or_torchs() -> None:
    wide = {"dims": (64, 64, 64, 64)}
    for stride in (4, 1):
        network = built(stem_stride=stride, **wide).layers
        for weight in (network.stem[0].weight, network.stages[2].blocks[0].mlp.fc1.weight):
            assert float(weight.detach().std()) == pytest.approx(0.02, rel=0.1)
        assert not network.stem[0].bias.any()
    wider = built(init_std=0.0, **wide).layers.stages[2].blocks[0].mlp.fc1.weight
    assert float(wider.detach().std()) == pytest.approx((1 / 64 / 3) ** 0.5, rel=0.1)
    with torch.device("meta"):
        assert convnext.Options().layer_scale == 1e-6
    assert built(layer_scale=0).layers.stages[0].blocks[0].gamma is None


def test_every_parameter_gets_a_gradient() -> None:
    network = built(drop_path=0.3)
    network(pictures(32)).square().sum().backward()
    assert all(value.grad is not None for value in network.parameters())


def test_pretrained_weights_are_all_taken_but_for_the_classes(tmp_path: Path) -> None:
    torch.manual_seed(3)
    sizes = {name: TINY[name] for name in ("depths", "dims")}
    weights = _timm.create("convnext_tiny", num_classes=1000, **sizes).state_dict()
    save_file(weights, tmp_path / "x.safetensors")
    network = built(weights=str(tmp_path / "x.safetensors"))
    assert all(
        torch.equal(value, weights[key]) != key.startswith("head.fc")
        for key, value in network.layers.state_dict().items()
    )
    assert network.notices[0].endswith("2 at random: head.fc.weight, head.fc.bias.")
    assert built().notices == ()
    with pytest.raises(UserError, match="convnext: want the weights of convnext_tiny that fit these options"):
        built(weights=str(tmp_path / "x.safetensors"), stem_stride=1)
    with pytest.raises(UserError, match="which is none"):
        built(weights=str(tmp_path / "y.safetensors"))


def test_what_cannot_be_built_is_refused() -> None:
    with pytest.raises(UserError, match="convnext: want a picture of at least 32 x 32, got 28 x 28; lower stem_stride"):
        built(28)
    with pytest.raises(ValidationError):
        convnext.Options(stem_stride=3)


@pytest.mark.slow
def test_paper_size_goes_forward_and_back_at_224() -> None:
    network = convnext.build({"flow": (3, 224, 224)}, 3, convnext.Options())
    loss = network(pictures(2, 224)).square().mean()
    loss.backward()
    assert all(torch.isfinite(value.grad).all() for value in network.parameters())
