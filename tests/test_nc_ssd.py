"""Non-causal state-space duality: against the kernel written out, and what follows from its definition."""

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from fleeting.layers.nc_ssd import nc_ssd, quadratic, token_weights


def drawn(length=49, *, batch=2, heads=2, channels=8, state=6, dtype=torch.float32, seed=0):
    """x, w, b, c, d as a network has them: weights of time steps between .001 and 1 and decays between 1 and 16."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(batch, length, heads, channels, generator=generator, dtype=dtype)
    dt = torch.rand(batch, length, heads, generator=generator, dtype=dtype) + 1e-3
    b, c = (torch.randn(batch, length, state, generator=generator, dtype=dtype) for _ in range(2))
    a = -1 - 15 * torch.rand(heads, generator=generator, dtype=dtype)
    d = torch.randn(heads, generator=generator, dtype=dtype)
    return x, token_weights(dt, a), b, c, d


def kept(length, batch=2, share=0.4, seed=3):
    return torch.rand(batch, length, generator=torch.Generator().manual_seed(seed)) < share


def off(ours, wanted):
    """Largest difference, in units of the largest value."""
    return ((ours.double() - wanted).abs().max() / wanted.abs().max()).item()


@pytest.mark.parametrize("length", [1, 49, 784, 3136])
@pytest.mark.parametrize("masked", [False, True])
def test_output_and_gradients_are_those_of_the_kernel_written_out(length, masked):
    batch = 1 if length > 1000 else 2  # the kernel written out is large
    values = [value.requires_grad_() for value in drawn(length, batch=batch)]
    keep = kept(length, batch) if masked else None
    ours, wanted = nc_ssd(*values, keep=keep), quadratic(*values, keep=keep)
    assert ours.dtype == torch.float32
    assert wanted.dtype == torch.float64
    if masked and not keep.any():
        assert not ours.any()
        assert not wanted.any()
        return
    assert off(ours, wanted) < 1e-5
    grad = torch.randn(ours.shape, generator=torch.Generator().manual_seed(1))
    pairs = zip(
        torch.autograd.grad(ours, values, grad), torch.autograd.grad(wanted, values, grad.double()), strict=True
    )
    assert max(off(mine, true.double()) for mine, true in pairs) < 1e-5


@pytest.mark.parametrize("weights", ["step", "inverse"])
def test_gradients_are_those_of_finite_differences_back_to_the_time_step(weights):
    x, _, b, c, d = drawn(5, heads=2, channels=3, state=2, dtype=torch.float64)
    dt = torch.rand(2, 5, 2, dtype=torch.float64) + 0.1
    a = torch.tensor([-1.0, -0.5], dtype=torch.float64)
    keep = torch.tensor([[True, False, True, True, False], [True, True, True, False, True]])
    values = [value.requires_grad_() for value in (x, dt, a, b, c, d)]
    assert torch.autograd.gradcheck(
        lambda x, dt, a, b, c, d: nc_ssd(x, token_weights(dt, a, weights), b, c, d, keep), values
    )


def test_one_token_by_hand():
    x, w = torch.tensor([2.0, -1.0]).view(1, 1, 1, 2), torch.tensor([0.5]).view(1, 1, 1)
    b, c, d = (torch.tensor(values) for values in ([[[1.0, 3.0]]], [[[2.0, 1.0]]], [10.0]))
    # c . b = 5, times w = 2.5, and d = 10 more
    assert nc_ssd(x, w, b, c, d).flatten().tolist() == [25.0, -12.5]


def test_weights_are_the_codes_or_the_equations():
    dt, a = torch.tensor([0.25]).view(1, 1, 1), torch.tensor([-4.0])
    assert token_weights(dt, a).item() == 1.0
    assert token_weights(dt, a, "inverse").item() == pytest.approx(0.25 * torch.e, rel=1e-6)
    with pytest.raises(ValueError, match="'step' or 'inverse'"):
        token_weights(dt, a, "exp")


def test_the_order_of_the_tokens_does_not_matter():
    x, w, b, c, d = drawn(64, dtype=torch.float64)
    order = torch.randperm(64)
    shuffled = nc_ssd(x[:, order], w[:, order], b[:, order], c[:, order], d)
    torch.testing.assert_close(shuffled, nc_ssd(x, w, b, c, d)[:, order], rtol=0, atol=1e-10)


def test_dropped_tokens_are_as_if_they_were_not_there():
    x, w, b, c, d = drawn(30, batch=3, dtype=torch.float64)
    keep = kept(30, batch=3)
    assert len(set(keep.sum(1).tolist())) > 1
    y = nc_ssd(x, w, b, c, d, keep)
    assert not y[~keep].any()
    for sample, mask in enumerate(keep):
        alone = nc_ssd(*(part[sample : sample + 1, mask] for part in (x, w, b, c)), d)
        torch.testing.assert_close(y[sample, mask], alone[0], rtol=0, atol=1e-10)


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_what_a_dropped_token_holds_is_never_looked_at_if_all_keep_the_same_number(bad):
    x, w, b, c, d = drawn(20)
    keep = torch.zeros(2, 20, dtype=torch.bool)
    keep[0, :7], keep[1, 5:12] = True, True
    spoilt = [part.clone() for part in (x, w, b, c)]
    for part in spoilt:
        part[~keep] = bad
    assert torch.equal(nc_ssd(*spoilt, d, keep), nc_ssd(x, w, b, c, d, keep))


def test_no_token_kept_gives_zeros_and_zero_gradients():
    values = [value.requires_grad_() for value in drawn(9)]
    y = nc_ssd(*values, keep=torch.zeros(2, 9, dtype=torch.bool))
    assert not y.any()
    assert not any(grad.any() for grad in torch.autograd.grad(y.sum(), values))


def test_inputs_are_not_changed():
    values = drawn(16)
    before = [value.clone() for value in values]
    nc_ssd(*values, keep=kept(16))
    assert all(torch.equal(value, old) for value, old in zip(values, before, strict=True))


def operations(form, length, **mask):
    with FlopCounterMode(display=False) as counter:
        form(*drawn(length, batch=1), **mask)
    return counter.get_total_flops()


def test_four_times_the_tokens_are_four_times_the_operations_not_sixteen():
    assert operations(nc_ssd, 3136) == 64 * operations(nc_ssd, 49)
    assert operations(quadratic, 196) == 16 * operations(quadratic, 49)


def test_dropped_tokens_cost_nothing():
    keep = torch.zeros(1, 3136, dtype=torch.bool)
    keep[:, ::4] = True
    assert 4 * operations(nc_ssd, 3136, keep=keep) == operations(nc_ssd, 3136)


@pytest.mark.parametrize("wrong", ["w", "b", "c", "d", "keep"])
def test_shapes_that_do_not_fit_are_refused(wrong):
    values = dict(zip("xwbcd", drawn(8), strict=True)) | {"keep": kept(8)}
    values[wrong] = values[wrong][..., :-1]
    with pytest.raises(ValueError, match="want x"):
        nc_ssd(**values)
