"""STSTNet: the fast training path against plain layers, the authors' weights, and the contract of a network."""

import csv
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
import torch.nn.functional as functional
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from fleeting.errors import UserError
from fleeting.models import ststnet

SHAPES = {"flow": (3, 28, 28)}


pytestmark = pytest.mark.usefixtures("one_thread")


class SharedDropout(nn.Module):
    """Dropout that draws like one `nn.Dropout` a stream, in order."""

    def forward(self, x: Tensor) -> Tensor:
        shapes = [(len(x), filters, *x.shape[2:]) for filters in ststnet.STREAMS]
        masks = [functional.dropout(torch.ones(shape, dtype=x.dtype), 0.5, self.training) for shape in shapes]
        return x * torch.cat(masks, 1)


class Plain(nn.Module):
    """The three streams layer by layer, under the authors' names; channels strain, v, u."""

    def __init__(self) -> None:
        super().__init__()
        for number, filters in enumerate(ststnet.STREAMS, 1):
            self.add_module(f"conv{number}", nn.Conv2d(3, filters, 3, padding=2))
            self.add_module(f"bn{number}", nn.BatchNorm2d(filters))
        self.fc = nn.Linear(400, 3)

    def forward(self, flow: Tensor) -> Tensor:
        streams = []
        for number in (1, 2, 3):
            x = self.get_submodule(f"conv{number}")(flow.flip(1)).relu()
            x = functional.max_pool2d(self.get_submodule(f"bn{number}")(x), 3, 3, 1)
            streams.append(functional.dropout(x, 0.5, self.training))
        return self.fc(functional.avg_pool2d(torch.cat(streams, 1), 2).flatten(1))


def pair(dtype: torch.dtype, factors: str = "mixed") -> tuple[Plain, nn.Module]:
    """A plain network and ours with the same weights; batch norm factors of both signs unless "positive"."""
    torch.manual_seed(3)
    plain = Plain().to(dtype)
    with torch.no_grad():
        for number in (1, 2, 3):
            norm = plain.get_submodule(f"bn{number}")
            norm.weight.normal_()
            norm.bias.normal_()
            if factors == "positive":
                norm.weight.abs_()
    ours = ststnet.build(SHAPES, 3, ststnet.Options()).to(dtype)
    ours.load_state_dict(ststnet.from_official(plain.state_dict()))
    ours.dropout = SharedDropout()
    return plain, ours


def batch(count: int, dtype: torch.dtype, scale: float = 1.0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(count)
    flow = torch.randint(0, 256, (count, 3, 28, 28), generator=generator).to(dtype) * scale
    flow[:, :, :14] = flow[:, :, :1]  # equal neighbours: ties in the pooling windows
    return flow, torch.randint(0, 3, (count,), generator=generator)


def gradients(network: nn.Module, flow: Tensor, target: Tensor) -> tuple[float, dict[str, Tensor]]:
    torch.manual_seed(9)
    network.train().zero_grad()
    loss = functional.cross_entropy(network(flow), target)
    loss.backward()
    return loss.item(), {name: parameter.grad.clone() for name, parameter in network.named_parameters()}


def official_gradients(found: dict[str, Tensor]) -> dict[str, Tensor]:
    """Gradients of the plain network under our names."""
    joined = {
        f"{ours}.{name}": torch.cat([found[f"{theirs}{number}.{name}"] for number in (1, 2, 3)])
        for ours, theirs in (("conv", "conv"), ("norm", "bn"))
        for name in ("weight", "bias")
    }
    joined["conv.weight"] = joined["conv.weight"].flip(1)
    return {**joined, "classify.weight": found["fc.weight"], "classify.bias": found["fc.bias"]}


@pytest.mark.parametrize("count", [2, 64, 70])
@pytest.mark.parametrize("factors", ["mixed", "positive"])
def test_fast_path_gives_the_gradients_of_plain_layers(count: int, factors: str) -> None:
    plain, ours = pair(torch.float64, factors)
    flow, target = batch(count, torch.float64)
    want_loss, want = gradients(plain, flow, target)
    loss, got = gradients(ours, flow, target)
    assert loss == pytest.approx(want_loss, rel=1e-10)
    for name, gradient in official_gradients(want).items():
        torch.testing.assert_close(got[name], gradient, rtol=1e-8, atol=1e-8 * float(gradient.abs().max()))


@pytest.mark.parametrize("scale", [1.0, 1e-3])
def test_running_statistics_are_those_of_plain_layers(scale: float) -> None:
    plain, ours = pair(torch.float32)
    flow, target = batch(70, torch.float32, scale)
    for _ in range(3):
        gradients(plain, flow, target)
        gradients(ours, flow, target)
    want = ststnet.from_official(plain.state_dict())
    for name in ("norm.running_mean", "norm.running_var", "norm.num_batches_tracked"):
        torch.testing.assert_close(ours.state_dict()[name], want[name], rtol=1e-5, atol=1e-7)


def test_fast_path_passes_gradcheck() -> None:
    torch.manual_seed(0)
    flow = torch.rand(3, 3, 6, 6, dtype=torch.float64)
    weight = torch.randn(16, 3, 3, 3, dtype=torch.float64, requires_grad=True)
    bias, gamma, beta = (torch.randn(16, dtype=torch.float64, requires_grad=True) for _ in range(3))
    assert torch.autograd.gradcheck(lambda *x: ststnet._Stream.apply(flow, *x, 1e-5)[0], (weight, bias, gamma, beta))


def test_loss_curve_is_that_of_plain_layers() -> None:
    plain, ours = pair(torch.float32, "positive")
    flow, target = batch(32, torch.float32)
    curves: list[list[float]] = []
    for network, fused in ((plain, False), (ours, True)):
        optimiser = torch.optim.Adam(network.parameters(), lr=5e-5, fused=fused)
        torch.manual_seed(1)
        curves.append([])
        for _ in range(10):
            loss = functional.cross_entropy(network.train()(flow), target)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            curves[-1].append(loss.item())
    np.testing.assert_allclose(curves[1], curves[0], rtol=1e-4)


def test_two_forward_passes_before_backward() -> None:
    _, ours = pair(torch.float64)
    flow, target = batch(5, torch.float64)
    _, once = gradients(ours, flow, target)
    ours.zero_grad()
    torch.manual_seed(9)
    first = functional.cross_entropy(ours(flow), target)
    functional.cross_entropy(ours(flow * 0.5), target)
    first.backward()
    torch.testing.assert_close(dict(ours.named_parameters())["conv.weight"].grad, once["conv.weight"])


def test_gradient_of_the_picture_takes_the_plain_path() -> None:
    plain, ours = pair(torch.float64)
    flow, target = batch(4, torch.float64)
    found = []
    for network in (plain, ours):
        x = flow.clone().requires_grad_()
        torch.manual_seed(2)
        functional.cross_entropy(network.train()(x), target).backward()
        found.append(x.grad)
    torch.testing.assert_close(found[1], found[0])


@pytest.mark.parametrize("side", [28, 27, 32, 5])
def test_head_averages_pairs(side: int) -> None:
    network = ststnet.build({"flow": (3, side, side)}, 4, ststnet.Options()).eval()
    features = network.features(torch.rand(2, 3, side, side))
    want = network.classify(functional.avg_pool2d(features, 2).flatten(1))
    torch.testing.assert_close(network.head(features), want)


def test_dropout_keeps_its_rate_and_mean() -> None:
    torch.manual_seed(0)
    for rate in (0.5, 0.3, 0.999):
        kept = ststnet.Dropout(rate).train()(torch.ones(50, 16, 10, 10))
        share = float((kept != 0).float().mean())
        assert share == pytest.approx(1 - rate, abs=0.005)
        assert float(kept.max()) == pytest.approx(1 / (1 - rate), rel=0.01)
    x = torch.rand(2, 3, 4, 5)
    assert torch.equal(ststnet.Dropout(0.0).train()(x), x)
    assert torch.equal(ststnet.Dropout(0.5).eval()(x), x)


def test_parameters_are_those_of_the_paper() -> None:
    network = ststnet.build(SHAPES, 3, ststnet.Options())
    assert sum(parameter.numel() for parameter in network.parameters()) == ststnet.PAPER.parameters == 1683


@pytest.mark.parametrize("count", [1, 4])
def test_any_batch_in_evaluation(count: int) -> None:
    network = ststnet.build(SHAPES, 5, ststnet.SMALL).eval()
    with torch.inference_mode():
        assert network(flow=torch.rand(count, 3, 28, 28) * 255).shape == (count, 5)


def test_every_parameter_gets_a_gradient() -> None:
    _, found = gradients(ststnet.build(SHAPES, 3, ststnet.SMALL), *batch(8, torch.float32))
    assert all(gradient.abs().max() > 0 for gradient in found.values())


def test_same_seed_same_bytes() -> None:
    flow, target = batch(70, torch.float32)
    states = []
    for _ in range(2):
        torch.manual_seed(4)
        network = ststnet.build(SHAPES, 3, ststnet.Options())
        _, found = gradients(network, flow, target)
        states.append({**network.state_dict(), **{f"d {name}": gradient for name, gradient in found.items()}})
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])


def test_saved_and_loaded(tmp_path: Path) -> None:
    _, network = pair(torch.float32)
    flow, target = batch(8, torch.float32)
    gradients(network, flow, target)
    save_file(network.state_dict(), tmp_path / "model.safetensors")
    again = ststnet.build(SHAPES, 3, ststnet.Options())
    again.load_state_dict(load_file(tmp_path / "model.safetensors"))
    assert torch.equal(again.eval()(flow), network.eval()(flow))


def test_wrong_shapes_and_weights_are_named() -> None:
    with pytest.raises(UserError, match="shape"):
        ststnet.build({"flow": (2, 28, 28)}, 3, ststnet.Options())
    with pytest.raises(UserError, match="state dict"):
        ststnet.from_official({"fc.weight": torch.zeros(3, 400)})


@pytest.mark.data
def test_released_weights_give_the_published_predictions(real: Path) -> None:
    with (real / "megc2019_published" / "ststnet_per_clip.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    networks: dict[str, nn.Module] = {}
    wrong = 0
    for row in rows:
        if row["subject"] not in networks:
            path = real / "megc2019_published" / "STSTNet_Weights" / f"{row['subject']}.pth"
            network = ststnet.build(SHAPES, 3, ststnet.Options()).eval()
            network.load_state_dict(ststnet.from_official(torch.load(path, weights_only=True, map_location="cpu")))
            networks[row["subject"]] = network
        folder = real / "megc2019" / "datasets" / "STSNet_whole_norm_u_v_os"
        picture = cv2.imread(str(folder / f"{row['subject']}_{row['clip']} .png"))
        flow = torch.from_numpy(picture[:, :, ::-1].transpose(2, 0, 1).astype(np.float32))  # u, v, strain
        with torch.inference_mode():
            guess = int(networks[row["subject"]](flow[None]).argmax())
        wrong += guess != int(row["ststnet_pytorch_weights"])
    assert (len(rows), len(networks), wrong) == (442, 68, 0)
