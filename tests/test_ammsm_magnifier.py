"""AMMSM's magnifier: what equation 1 and 2 ask for, what it learns, and flow whose zero is lost."""

from typing import Any

import pytest
import torch
from torch import Tensor

from fleeting import training
from fleeting.errors import UserError
from fleeting.models import ammsm
from fleeting.models._magnifier import Magnifier, distance

TINY: dict[str, Any] = {
    "dim": 4, "depths": (2, 2), "attention": (0, 1), "head_width": 4, "state": 6, "mlp": 2, "stem_stride": 1,
    "spatial": "none", "magnifier_width": 4, "magnifier_levels": 2,
}  # fmt: skip


pytestmark = pytest.mark.usefixtures("one_thread")


def built(side: int = 28, channels: int = 2, **options: Any) -> Any:
    torch.manual_seed(0)
    return ammsm.build({"flow": (channels, side, side)}, 3, ammsm.Options(**{**TINY, **options}))


def flow(count: int = 2, side: int = 28, channels: int = 2, seed: int = 1) -> Tensor:
    """Smooth, up to a few pixels."""
    generator = torch.Generator().manual_seed(seed)
    coarse = 2 * torch.randn(count, channels, 5, 5, generator=generator)
    return torch.nn.functional.interpolate(coarse, (side, side), mode="bicubic", align_corners=False)


# --- the U-Net


@pytest.mark.parametrize("size", [(28, 28), (32, 32), (33, 45), (7, 9)])
def test_flow_of_any_size_keeps_it(size: tuple[int, int]) -> None:
    torch.manual_seed(0)
    unet = Magnifier(2, 4, 3)
    x = torch.randn(2, 2, *size)
    y = unet(x, 2.0)
    assert y.shape == x.shape
    assert torch.isfinite(y).all()


def test_it_sees_the_factor_and_far_around() -> None:
    torch.manual_seed(0)
    unet = Magnifier(2, 4, 3).eval()
    x = flow(1, 32).requires_grad_()
    assert (unet(x, 1.0) - unet(x, 4.0)).abs().max() > 0.01
    unet(x, 2.0)[0, :, 16, 16].sum().backward()
    seen = x.grad[0].abs().sum(0) > 0
    assert seen.any(0).sum() > 20
    assert seen.any(1).sum() > 20


def test_it_begins_with_maps_of_the_size_of_its_input() -> None:
    torch.manual_seed(0)
    y = Magnifier(2, 16, 4)(torch.randn(4, 2, 32, 32), 1.0)
    assert 0.2 < float(y.detach().std()) < 5


def test_what_it_learns_from_equation_1_is_to_scale() -> None:
    """On fields that it did not see; nearer than to leave them as they are."""
    torch.manual_seed(0)
    unet = Magnifier(2, 8, 1)
    optimiser = torch.optim.Adam(unet.parameters(), lr=5e-3)
    for step in range(200):
        x, factor = flow(8, 12, seed=100 + step), 1 + 3 * (step * 0.618 % 1)
        optimiser.zero_grad()
        distance(x, unet(x, factor), factor).mean().backward()
        optimiser.step()
    x = flow(16, 12)
    with torch.no_grad():
        for factor in (2.5, 4.0):
            assert distance(x, unet(x, factor), factor).mean() < 0.8 * distance(x, x, factor).mean()
        assert unet(x, 4.0).abs().mean() > 1.5 * unet(x, 1.0).abs().mean()


# --- in the network


def test_equation_1_is_the_mean_distance_from_the_scaled_flow() -> None:
    x = torch.zeros(2, 2, 4, 4)
    x[0, 0] = 1.0
    magnified = 3 * x.clone()
    magnified[0, 1] = -0.5
    magnified[1] = 2.0
    assert distance(x, magnified, 3.0).tolist() == pytest.approx([0.25, 2.0])
    assert distance(x, magnified, 2.0).tolist() == pytest.approx([0.75, 2.0])


def test_equation_2_falls_with_the_epochs_of_all_phases() -> None:
    network, target = built().train(), torch.eye(3)[[0, 2]]
    output = network(flow())
    assert output.shape == (2, 4)
    entropy = -(target * output[:, :3].log_softmax(1)).sum(1)
    away = distance(flow(), network.magnified(flow()), network.factor)
    torch.testing.assert_close(output[:, 3], away)
    torch.testing.assert_close(network.loss(output, target, 0.0), entropy + away)
    torch.testing.assert_close(network.loss(output, target, 0.25), entropy + 0.75 * away)
    network.span = (0.7, 1.0)
    torch.testing.assert_close(network.loss(output, target, 0.5), entropy + 0.15 * away)


def test_logits_alone_have_the_loss_of_the_classification() -> None:
    network, target = built().eval(), torch.eye(3)[[0, 2]]
    output = network(flow())
    assert output.shape == (2, 3)
    torch.testing.assert_close(network.loss(output, target, 0.0), -(target * output.log_softmax(1)).sum(1))
    torch.testing.assert_close(network.probabilities(output), output.softmax(1))


def test_probabilities_leave_the_distance_out() -> None:
    network = built().train()
    output = network(flow())
    torch.testing.assert_close(network.probabilities(output), output[:, :3].softmax(1))
    assert network.probabilities(output).sum(1).tolist() == pytest.approx([1, 1])


def test_the_classification_teaches_the_magnifier_too() -> None:
    network = built().train()
    network.loss(network(flow()), torch.eye(3)[[0, 2]], 1.0).sum().backward()  # equation 1 weighs nothing here
    assert all(parameter.grad.abs().sum() > 0 for parameter in network.magnifier.parameters())


def test_scale_multiplies_and_none_leaves_as_it_is() -> None:
    assert torch.equal(built(magnify="scale", factor=3).magnified(flow()), 3 * flow())
    assert torch.equal(built(magnify="none", factor=3).magnified(flow()), flow())
    for magnify in ("scale", "none"):
        assert built(magnify=magnify).train()(flow()).shape == (2, 3)


@pytest.mark.parametrize("magnify", ["unet", "scale"])
def test_the_factor_is_set_used_and_saved(magnify: str) -> None:
    network = built(magnify=magnify).eval()
    before = network(flow())
    network.factor = 4.0
    assert (network(flow()) - before).abs().max() > 1e-6
    again = built(magnify=magnify).eval()
    assert again.factor == 2.5
    again.load_state_dict(network.state_dict())
    assert again.factor == 4.0
    assert torch.equal(again(flow()), network(flow()))


@pytest.mark.parametrize("wrong", [0.0, -1.0, float("nan"), float("inf")])
def test_wrong_factors_are_refused(wrong: float) -> None:
    network = built()
    with pytest.raises(UserError, match="want a magnification factor above 0"):
        network.factor = wrong
    assert network.factor == 2.5


def test_the_classifier_is_the_same_with_and_without() -> None:
    """So the rows of Table III begin alike."""
    with_, without = built().state_dict(), built(magnify="none").state_dict()
    assert all(torch.equal(with_[name], value) for name, value in without.items())


# --- flow whose zero is lost


@pytest.mark.parametrize("channels", [2, 3])
def test_published_flow_is_magnified_about_its_median(channels: int) -> None:
    """Most of a face is still: 100 of 255 in one channel, 140 in another."""
    still = torch.tensor([100.0, 140.0, 20.0])[:channels].view(1, -1, 1, 1).expand(2, -1, 28, 28).clone()
    still[:, :, 10:15, 10:15] += 51.0
    network = built(channels=channels, flow="minmax255", magnify="scale", factor=2.0)
    magnified = network.magnified(still)
    assert float(magnified[:, :, 0, 0].abs().max()) == 0
    torch.testing.assert_close(magnified[:, :, 12, 12], torch.full((2, channels), 0.4))
    assert network.train()(still).shape == (2, 3)


def test_published_flow_trains_with_a_loss_of_the_usual_size() -> None:
    network = built(channels=3, flow="minmax255").train()
    x = 255 * torch.rand(4, 3, 28, 28, generator=torch.Generator().manual_seed(3))
    loss = network.loss(network(x), torch.eye(3)[[0, 1, 2, 0]], 0.0)
    assert float(loss.detach().max()) < 5
    loss.sum().backward()
    assert all(torch.isfinite(parameter.grad).all() for parameter in network.parameters())


def test_it_learns_in_the_common_loop_what_a_patch_does() -> None:
    """A few steps of the whole network; the distance falls with them."""
    network = built().train()
    optimiser = torch.optim.AdamW(network.parameters(), lr=3e-3)
    aways = []
    for step in range(40):
        x, target = flow(12, seed=step), torch.arange(12) % 3
        x = x * 0.2
        for sample, label in enumerate(target.tolist()):
            x[sample, :, 8 * label : 8 * label + 8] += 2
        output = network(x)
        loss = training._losses(network, output, torch.eye(3)[target], ammsm.RECIPE, step / 40)
        optimiser.zero_grad(set_to_none=True)
        loss.mean().backward()
        optimiser.step()
        aways.append(float(output[:, 3].mean().detach()))
    assert sum(aways[-10:]) < 0.75 * sum(aways[:10])
    assert (network.probabilities(output).argmax(1) == target).float().mean() > 0.9


@pytest.mark.slow
def test_the_whole_system_goes_forward_and_back_at_256() -> None:
    torch.manual_seed(0)
    network = ammsm.build({"flow": (2, 256, 256), "onset": (3, 256, 256)}, 5, ammsm.Options()).train()
    output = network(flow(2, 256), torch.rand(2, 3, 256, 256))
    network.loss(output, torch.eye(5)[:2], 0.0).mean().backward()
    assert all(torch.isfinite(parameter.grad).all() for parameter in network.parameters())
