"""AMMSM's magnifier: what equation 1 and 2 ask for, what it learns, and flow whose zero is lost."""

from typing import Any

import pytest
import torch
from torch import Tensor

from fleeting import training
from fleeting.errors import UserError
from fleeting.models import ammsm
from fleeting.models._magnifier import Form, Magnifier, distance, encoded

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


def shaken(unet: Magnifier) -> Magnifier:
    """With a last layer that does something, and biases."""
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for parameter in unet.parameters():
            parameter += 0.1 * torch.randn(parameter.shape, generator=generator)
    return unet.eval()


# --- the U-Net


@pytest.mark.parametrize("size", [(28, 28), (32, 32), (33, 45), (7, 9)])
def test_flow_of_any_size_keeps_it(size: tuple[int, int]) -> None:
    torch.manual_seed(0)
    unet = Magnifier(2, Form(4, 3))
    x = torch.randn(2, 2, *size)
    y = unet(x, 2.0)
    assert y.shape == x.shape
    assert torch.isfinite(y).all()


def test_it_sees_the_factor_and_far_around() -> None:
    torch.manual_seed(0)
    unet = Magnifier(2, Form(4, 3)).eval()
    x = flow(1, 32).requires_grad_()
    assert (unet(x, 1.0) - unet(x, 4.0)).abs().max() > 0.01
    unet(x, 2.0)[0, :, 16, 16].sum().backward()
    seen = x.grad[0].abs().sum(0) > 0
    assert seen.any(0).sum() > 20
    assert seen.any(1).sum() > 20


def test_it_begins_with_maps_of_the_size_of_its_input() -> None:
    torch.manual_seed(0)
    y = Magnifier(2, Form(16, 4))(torch.randn(4, 2, 32, 32), 1.0)
    assert 0.2 < float(y.detach().std()) < 5


@pytest.mark.parametrize("residual", [False, True])
def test_half_the_motion_gives_half_the_magnified_motion(residual: bool) -> None:
    """A picture at a time: what else is in the batch does not matter."""
    unet, x = shaken(Magnifier(2, Form(4, 2, residual=residual))), flow(2, 16)
    both = torch.cat([x, 1e-3 * x])
    whole, small = unet(both, 3.0).chunk(2)
    assert whole.abs().mean() > 0.1
    torch.testing.assert_close(small, 1e-3 * whole, rtol=1e-3, atol=1e-6)


def test_as_given_the_units_matter() -> None:
    unet, x = shaken(Magnifier(2, Form(4, 2, units="given"))), flow(1, 16)
    assert (unet(1e-3 * x, 3.0) - 1e-3 * unet(x, 3.0)).abs().max() > 0.01


def test_still_flow_stays_still_and_has_gradients() -> None:
    torch.manual_seed(0)
    unet, still = Magnifier(2, Form(4, 2)), torch.zeros(1, 2, 16, 16, requires_grad=True)
    y = unet(still, 4.0)
    assert float(y.detach().abs().max()) < 1e-4
    y.sum().backward()
    assert torch.isfinite(still.grad).all()
    assert all(torch.isfinite(parameter.grad).all() for parameter in unet.parameters())


@pytest.mark.parametrize("units", ["relative", "given"])
def test_the_residual_form_begins_as_plain_scaling(units: Any) -> None:
    unet, x = Magnifier(2, Form(4, 2, units, residual=True)), flow(2, 16)
    assert torch.equal(unet(x, 2.5), 2.5 * x)
    distance(x, unet(x, 2.5) + 1, 2.5).mean().backward()
    assert unet.last.weight.grad.abs().sum() > 0


def test_the_sines_tell_factors_apart_that_one_number_tells_apart() -> None:
    values = torch.tensor([encoded(factor) for factor in (1.0, 1.1, 2.0, 3.0, 4.0)])
    assert values.shape == (5, 32)
    assert float(values.abs().max()) <= 1
    assert torch.cdist(values, values).fill_diagonal_(9).min() > 0.5
    assert encoded(2.0)[-1] == pytest.approx(torch.sin(torch.tensor(2 * torch.pi * 2 / 128)).item())
    torch.manual_seed(0)
    unet = Magnifier(2, Form(4, 2, factor_map="sines"))
    assert unet.first[0].in_channels == 34
    assert (unet(flow(1, 16), 1.0) / 1 - unet(flow(1, 16), 4.0) / 4).abs().max() > 0.01


def trained(form: Form, length: float, steps: int = 250) -> Magnifier:
    """By equation 1, on flow of about that many pixels."""
    torch.manual_seed(0)
    unet = Magnifier(2, form)
    optimiser = torch.optim.Adam(unet.parameters(), lr=5e-3)
    for step in range(steps):
        x, factor = length * flow(8, 12, seed=100 + step), 1 + 3 * (step * 0.618 % 1)
        optimiser.zero_grad()
        distance(x, unet(x, factor), factor).mean().backward()
        optimiser.step()
    return unet


def away(unet: Magnifier, length: float, factor: float) -> float:
    """Equation 1 on fields that it did not see, in units of what it asks for: 1 is what an empty field has."""
    x = length * flow(16, 12)
    with torch.no_grad():
        return float(distance(x, unet(x, factor), factor).mean() / (factor * x).abs().mean())


def test_what_it_learns_from_equation_1_is_to_scale() -> None:
    """Near scaling at every factor, for flow of hundredths of a pixel as for any other."""
    unet = trained(Form(8, 1), 0.02)
    for factor in (1.0, 2.5, 4.0):
        for length in (0.02, 2.0):
            assert away(unet, length, factor) < 0.3


def test_in_pixels_it_sees_nothing_but_the_factor() -> None:
    """Why it works in relative units: as given, it is hardly better than an empty field."""
    assert away(trained(Form(8, 1, "given"), 0.02), 0.02, 2.5) > 0.6


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


def test_the_form_of_the_magnifier_is_an_option() -> None:
    network = built(magnifier_units="given", magnifier_map="sines", magnifier_residual=True)
    assert network.magnifier.form == Form(4, 2, "given", "sines", True)
    assert built().magnifier.form == Form(4, 2)
    assert torch.equal(network.magnified(flow()), 2.5 * flow())


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
    for step in range(80):
        x, target = flow(12, seed=step), torch.arange(12) % 3
        x = x * 0.2
        for sample, label in enumerate(target.tolist()):
            x[sample, :, 8 * label : 8 * label + 8] += 2
        output = network(x)
        loss = training._losses(network, output, torch.eye(3)[target], ammsm.RECIPE, step / 80)
        optimiser.zero_grad(set_to_none=True)
        loss.mean().backward()
        optimiser.step()
        aways.append(float(output[:, 3].mean().detach()))
    assert sum(aways[-10:]) < 0.75 * sum(aways[:10])
    assert (network.probabilities(output).argmax(1) == target).float().mean() > 0.9
