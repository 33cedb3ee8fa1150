"""The selective scan against the recurrence in float64, over shapes, lengths, types and ways to cut it."""

import math
import random

import pytest
import torch

from fleeting.layers import selective_scan as module
from fleeting.layers.selective_scan import reference, selective_scan

NAMES = ("x", "dt", "a", "b", "c", "d", "dt_bias")


def made(shape, states, seed=0, dtype=torch.float64, skip=True, bias=True):
    """Random arguments that want gradients; None for d or dt_bias where it is to be left out."""
    groups, count, length, width = shape
    generator = torch.Generator().manual_seed(seed)

    def normal(*size):
        return torch.randn(size, generator=generator, dtype=torch.float64)

    x, dt, b, c = normal(*shape), 2 * normal(*shape), *normal(2, groups, count, length, states)
    a = -8 * torch.rand(groups, width, states, generator=generator, dtype=torch.float64) - 0.01
    values = (x, dt, a, b, c, normal(groups, width) if skip else None, normal(groups, width) if bias else None)
    return [None if value is None else value.to(dtype).requires_grad_() for value in values]


def both(form, values, weight):
    """Output, and the gradients of what is there."""
    y = form(*values)
    there = [value for value in values if value is not None]
    return y.detach(), torch.autograd.grad(y, there, weight.to(y.dtype))


def close(got, wanted, relative):
    """Whether every number is within that part of the largest wanted one."""
    bound = relative * max(wanted.abs().max().item(), 1e-6) if wanted.numel() else 0
    return got.shape == wanted.shape and bool(((got.double() - wanted).abs() <= bound).all())


def check(values, forward=1e-5, backward=1e-4):
    weight = torch.randn(values[0].shape, generator=torch.Generator().manual_seed(1))
    y, grads = both(selective_scan, values, weight)
    wanted_y, wanted = both(reference, values, weight)
    assert y.dtype == values[0].dtype
    assert close(y, wanted_y, forward)
    there = [name for name, value in zip(NAMES, values, strict=True) if value is not None]
    for name, grad, right in zip(there, grads, wanted, strict=True):
        assert close(grad, right.double(), backward), name


# --- truth


def test_two_tokens_by_hand():
    one = torch.ones(1, 1, 2, 1, dtype=torch.float64)
    a, d = torch.full((1, 1, 1), -2.0, dtype=torch.float64), torch.full((1, 1), 5.0, dtype=torch.float64)
    y = selective_scan(torch.tensor([3.0, 4.0]).double().reshape(1, 1, 2, 1), 0 * one, a, 7 * one, 11 * one, d)
    delta = math.log(2)  # softplus of 0
    first = delta * 7 * 3
    second = math.exp(-2 * delta) * first + delta * 7 * 4
    assert y.flatten().tolist() == pytest.approx([11 * first + 15, 11 * second + 20], rel=1e-12)


def test_without_decay_it_is_a_cumulative_sum():
    shape = (2, 3, 50, 4)
    x, dt, a, b, c, *_ = made(shape, 1)
    y = selective_scan(x, dt, 0 * a, torch.ones_like(b), torch.ones_like(c))
    assert torch.allclose(y, (torch.nn.functional.softplus(dt) * x).cumsum(2))


@pytest.mark.parametrize("seed", range(24))
def test_float32_follows_the_float64_recurrence_over_random_shapes(seed):
    draw = random.Random(seed)
    length = draw.choice([1, 2, draw.randint(3, 48), 49, draw.randint(50, 400)])
    shape = (draw.randint(1, 4), draw.randint(1, 6), length, draw.choice([1, 5, 16, 33, 128]))
    states = draw.choice([1, 2, 7, 8, 16])
    check(made(shape, states, seed, torch.float32, skip=draw.random() < 0.6, bias=draw.random() < 0.6))


@pytest.mark.parametrize("length", [1, 2, 3, 16, 17, 33, 49, 64, 196, 399, 400])
def test_every_length_is_right(length):
    check(made((2, 3, length, 40), 8, dtype=torch.float32))


@pytest.mark.parametrize("shape", [(4, 40, 49, 128), (2, 300, 49, 16), (3, 700, 5, 8), (1, 5, 30, 3000)])
def test_many_tiles_of_each_kind_are_right(shape):
    check(made(shape, 8, dtype=torch.float32))


@pytest.mark.parametrize("skip", [False, True])
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("length", [1, 5])
def test_gradients_are_those_of_finite_differences(length, skip, bias):
    values = made((2, 2, length, 3), 2, skip=skip, bias=bias)
    assert torch.autograd.gradcheck(selective_scan, values, fast_mode=False)


def test_gradients_are_those_of_finite_differences_across_chunks(monkeypatch):
    monkeypatch.setattr(module, "_STEP", 4)
    monkeypatch.setattr(module, "_CHUNK", 8)
    values = made((1, 2, 7, 2), 2)
    assert len(module._Cut.of(module._Inputs(*values)).times) == 4
    assert torch.autograd.gradcheck(selective_scan, values, fast_mode=False)


def test_float64_is_computed_in_float64():
    check(made((2, 3, 60, 20), 4), forward=1e-13, backward=1e-12)
    values = made((1, 2, 9, 4), 3, dtype=torch.float32)
    values[2] = values[2].detach().double().requires_grad_()
    y = selective_scan(*values)
    assert y.dtype == torch.float32
    assert close(y.detach(), reference(*values).detach(), 1e-7)


@pytest.mark.parametrize("scale", [-60.0, 60.0])
def test_steps_far_from_zero_stay_finite_and_right(scale):
    values = made((1, 2, 60, 8), 4, dtype=torch.float32)
    values[1] = (values[1].detach() + scale).requires_grad_()
    check(values)


def test_a_state_forgotten_within_a_step_leaves_no_nan():
    values = made((1, 2, 60, 8), 4, dtype=torch.float32)
    values[2] = torch.full_like(values[2], -1e4, requires_grad=True)
    check(values)


# --- types, strides, sizes


def test_bfloat16_comes_in_and_goes_out_computed_in_float32():
    values = made((2, 20, 49, 32), 8, dtype=torch.bfloat16)
    weight = torch.randn(values[0].shape)
    y, grads = both(selective_scan, values, weight)
    # the weight arrives in the output's type, so the yardstick gets it rounded too
    wanted_y, wanted = both(reference, values, weight.bfloat16())
    assert y.dtype == torch.bfloat16
    assert close(y, wanted_y, 2**-8)
    for grad, right in zip(grads, wanted, strict=True):
        assert grad.dtype == torch.bfloat16
        assert close(grad, right.double(), 2**-8)


def test_autocast_changes_nothing():
    values = made((2, 20, 49, 32), 8, dtype=torch.float32)
    weight = torch.randn(values[0].shape)
    y, grads = both(selective_scan, values, weight)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        other, others = both(selective_scan, values, weight)
    assert other.dtype == torch.float32
    assert all(torch.equal(one, two) for one, two in zip((y, *grads), (other, *others), strict=True))


def test_types_may_differ_as_they_do_under_autocast():
    values = made((2, 5, 20, 16), 4, dtype=torch.float32)
    for index in (0, 1, 3):
        values[index] = values[index].detach().bfloat16().requires_grad_()
    y = selective_scan(*values)
    grads = torch.autograd.grad(y.float().sum(), values)
    assert y.dtype == torch.bfloat16
    assert [grad.dtype for grad in grads] == [value.dtype for value in values]


@pytest.mark.parametrize("width", [8, 128])
def test_strides_do_not_matter(width):
    plain = made((3, 70, 20, width), 4, dtype=torch.float32)
    turned = [value.detach().movedim(0, -1).contiguous().movedim(-1, 0).requires_grad_() for value in plain]
    assert not turned[0].is_contiguous()
    weight = torch.randn(plain[0].shape)
    y, grads = both(selective_scan, plain, weight)
    for other in (turned, [value.detach().mT.contiguous().mT.requires_grad_() for value in plain]):
        again, gradients = both(selective_scan, other, weight)
        assert torch.equal(y, again)
        assert all(torch.equal(one, two) for one, two in zip(grads, gradients, strict=True))


def test_expanded_inputs_and_output_gradients_are_right():
    values = made((2, 4, 12, 6), 3, dtype=torch.float32)
    values[3] = values[3].detach()[:, :1].expand(-1, 4, -1, -1).requires_grad_()
    y = torch.autograd.grad(selective_scan(*values).sum(), values)
    wanted = torch.autograd.grad(reference(*values).sum(), values)
    assert all(close(one, two.double(), 1e-4) for one, two in zip(y, wanted, strict=True))


@pytest.mark.parametrize(("shape", "states"), [((2, 0, 5, 3), 2), ((0, 4, 5, 3), 2), ((2, 3, 5, 0), 2)])
def test_an_empty_batch_gives_empty_outputs_and_zero_gradients(shape, states):
    values = made(shape, states, dtype=torch.float32)
    y = selective_scan(*values)
    assert y.shape == shape
    grads = torch.autograd.grad(y.sum(), values)
    assert [grad.shape for grad in grads] == [value.shape for value in values]
    assert all((grad == 0).all() for grad in grads)


def test_no_state_leaves_the_skip():
    values = made((2, 3, 5, 4), 0)
    assert torch.equal(selective_scan(*values), values[5][:, None, None] * values[0])


def test_inputs_are_left_as_they_were():
    values = made((2, 30, 49, 64), 8, dtype=torch.float32)
    before = [value.detach().clone() for value in values]
    both(selective_scan, values, torch.randn(values[0].shape))
    assert all(torch.equal(one, two) for one, two in zip(before, values, strict=True))


def test_shapes_that_do_not_fit_are_refused():
    values = made((2, 3, 5, 4), 2)
    for index, name in ((1, "dt"), (2, "a"), (3, "b"), (4, "c"), (5, "d"), (6, "dt_bias")):
        wrong = list(values)
        wrong[index] = values[index][:1]
        with pytest.raises(ValueError, match=f"want {name} "):
            selective_scan(*wrong)
    with pytest.raises(ValueError, match="L >= 1"):
        selective_scan(values[0][:, :, :0], *values[1:])


def test_it_is_differentiable_once_and_says_so():
    values = made((1, 1, 3, 2), 2)
    (grad,) = torch.autograd.grad(selective_scan(*values).square().sum(), values[:1], create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        grad.sum().backward()


# --- the way it is cut


@pytest.mark.parametrize("step_and_chunk", [(1, 1), (100, 1000), (2**12, 2**13), (2**20, 2**30)])
@pytest.mark.parametrize("shape", [(3, 40, 31, 16), (3, 10, 31, 80)])
def test_no_way_to_cut_changes_more_than_the_rounding(monkeypatch, shape, step_and_chunk):
    values, weight = made(shape, 4, dtype=torch.float32), torch.randn(shape)
    y, grads = both(selective_scan, values, weight)
    for name, size in zip(("_STEP", "_CHUNK"), step_and_chunk, strict=True):
        monkeypatch.setattr(module, name, size)
    again, others = both(selective_scan, values, weight)
    assert close(again, y.double(), 1e-6)
    assert all(close(one, two.double(), 1e-5) for one, two in zip(others, grads, strict=True))


def test_the_cuts_cover_every_token_of_every_sequence_once():
    for shape in [(1, 1, 1, 1), (4, 512, 49, 128), (3, 7, 400, 16), (4, 5, 784, 512), (7, 100, 3, 2)]:
        values = [torch.empty(shape, device="meta")] * 2 + [torch.empty(shape[0], shape[3], 8, device="meta")] * 5
        cut = module._Cut.of(module._Inputs(*values))
        count = torch.zeros(shape[:2])
        for where in cut.tiles:
            count[where] += 1
        assert (count == 1).all()
        assert [token for time in cut.times for token in range(shape[2])[time]] == list(range(shape[2]))


def test_the_same_bytes_again_and_with_any_number_of_threads():
    values, before = made((3, 90, 49, 64), 8, dtype=torch.float32), torch.get_num_threads()
    weight = torch.randn(values[0].shape)
    results = []
    try:
        for threads in (1, 1, 2, 3):
            torch.set_num_threads(threads)
            y, grads = both(selective_scan, values, weight)
            results.append((y, *grads))
            assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(before)
    for other in results[1:]:
        assert all(torch.equal(one, two) for one, two in zip(results[0], other, strict=True))


def test_a_sequence_does_not_see_another_nor_a_token_a_later_one():
    values = [value.detach() for value in made((2, 50, 40, 64), 8, dtype=torch.float32)]
    y = selective_scan(*values)
    alone = selective_scan(*(value[:, 17:18] if value.dim() == 4 else value for value in values))
    assert close(alone, y[:, 17:18].double(), 1e-6)
    short = selective_scan(*(value[:, :, :23] if value.dim() == 4 else value for value in values))
    assert close(short, y[:, :, :23].double(), 1e-6)


def test_without_gradients_the_output_is_the_same():
    values = made((2, 30, 49, 64), 8, dtype=torch.float32)
    with torch.inference_mode():
        y = selective_scan(*values)
    assert torch.equal(y, selective_scan(*values))
    assert not y.requires_grad


def test_what_it_keeps_is_far_smaller_than_the_states():
    values = made((4, 64, 49, 128), 8, dtype=torch.float32)
    kept = 0

    def pack(value):
        nonlocal kept
        kept += value.numel()
        return value

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda value: value):
        selective_scan(*values)
    inputs = sum(value.numel() for value in values)
    assert kept - inputs < 0.25 * 4 * 64 * 49 * 128 * 8


def test_training_with_it_finds_a_decay():
    """A teacher's output is reached from another start."""
    teacher = made((2, 16, 30, 8), 4, dtype=torch.float32)
    target = selective_scan(*teacher).detach()
    slow = (teacher[2].detach() * 0.3).requires_grad_()
    optimiser = torch.optim.Adam([slow], lr=0.1)
    losses = []
    for _ in range(80):
        loss = (selective_scan(*teacher[:2], slow, *teacher[3:]) - target).square().mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < 0.02 * losses[0]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_a_gpu_gives_the_same():
    values = made((4, 64, 49, 128), 8, dtype=torch.float32)
    weight = torch.randn(values[0].shape)
    y, grads = both(selective_scan, [value.detach().cuda().requires_grad_() for value in values], weight.cuda())
    wanted_y, wanted = both(reference, values, weight)
    assert close(y.cpu(), wanted_y, 1e-5)
    assert all(close(one.cpu(), two.double(), 1e-4) for one, two in zip(grads, wanted, strict=True))
