"""Windows and their scan orders: exact inverses, and the geometry that the paper names."""

import pytest
import torch

from fleeting.layers import window
from fleeting.layers.window import NAMES, inverse, merge, partition, scans

SIDES = [1, 2, 3, 7, 8]


def places(table, side):
    """Row and column of each token, in the order of reading."""
    return torch.stack([table // side, table % side], dim=-1)


def steps(table, side):
    """Rows and columns moved from each token to the next, together."""
    return places(table, side).diff(dim=0).abs().sum(-1)


def mirrored(table, side):
    """The same reading of the window mirrored left to right."""
    row, column = places(table, side).unbind(-1)
    return row * side + side - 1 - column


# --- windows


@pytest.mark.parametrize(("height", "width"), [(14, 14), (7, 21), (10, 15), (1, 1), (7, 8), (3, 29)])
@pytest.mark.parametrize("side", [1, 7])
def test_merge_is_the_inverse_of_partition_padding_included(height, width, side):
    x = torch.randn(3, 5, height, width)
    tokens = partition(x, side)
    assert tokens.shape == (3 * -(-height // side) * -(-width // side), side**2, 5)
    assert torch.equal(merge(tokens, side, (height, width)), x)
    assert merge(tokens, side, (height, width)).is_contiguous()


def test_windows_run_row_by_row_and_so_do_their_tokens():
    x = torch.arange(2 * 4 * 6.0).reshape(2, 1, 4, 6)
    tokens = partition(x, 2)[..., 0]
    assert tokens[0].tolist() == [0, 1, 6, 7]
    assert tokens[1].tolist() == [2, 3, 8, 9]
    assert tokens[3].tolist() == [12, 13, 18, 19]
    assert tokens[6].tolist() == [24, 25, 30, 31]  # the next map


def test_padding_is_zeros_at_the_right_and_the_bottom():
    tokens = partition(torch.ones(1, 1, 3, 5), 4)[..., 0].reshape(2, 4, 4)
    wanted = torch.zeros(4, 8)
    wanted[:3, :5] = 1
    assert torch.equal(torch.cat(list(tokens), dim=1), wanted)


def test_gradients_pass_through_both_ways():
    x = torch.randn(2, 3, 5, 6, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda value: merge(2 * partition(value, 4), 4, (5, 6)), x)
    weight = torch.randn(2, 3, 5, 6, dtype=torch.float64)
    (grad,) = torch.autograd.grad(merge(partition(x, 4), 4, (5, 6)), x, weight)
    assert torch.equal(grad, weight)


def test_an_empty_batch_stays_empty():
    assert merge(partition(torch.zeros(0, 3, 7, 9), 7), 7, (7, 9)).shape == (0, 3, 7, 9)


def test_a_map_of_another_size_is_refused():
    tokens = partition(torch.zeros(2, 3, 14, 14), 7)
    with pytest.raises(ValueError, match="want a multiple of 3 windows of 49 tokens"):
        merge(tokens, 7, (7, 21))
    with pytest.raises(ValueError, match="want a multiple of 9 windows of 25 tokens"):
        merge(tokens, 5, (14, 14))
    with pytest.raises(ValueError, match="side of at least 1"):
        partition(torch.zeros(1, 1, 2, 2), 0)


# --- scans


@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize("name", NAMES)
def test_every_table_is_a_permutation_with_an_exact_inverse(name, side):
    tables = scans(name, side)
    assert tables.dtype == torch.int64
    assert tables.shape == (len(window.SETS[name]), side**2)
    assert torch.equal(tables.sort(-1).values, torch.arange(side**2).expand_as(tables))
    tokens = torch.randn(2, side**2, 3)
    for table, back in zip(tables, inverse(tables), strict=True):
        assert torch.equal(tokens[:, table][:, back], tokens)
        assert torch.equal(table[back], back[table])


def test_the_sets_are_the_rows_of_the_paper():
    assert [len(window.SETS[name]) for name in NAMES] == [1, 2, 2, 4, 4, 4]
    assert window.SETS["asymmetric"] == window.SETS["raster"] + window.SETS["zigzag"]


def test_the_four_orders_of_a_3_x_3_window_written_out():
    assert scans("asymmetric", 3).tolist() == [
        [0, 1, 2, 3, 4, 5, 6, 7, 8],
        [0, 3, 6, 1, 4, 7, 2, 5, 8],
        [0, 1, 2, 5, 4, 3, 6, 7, 8],
        [0, 3, 6, 7, 4, 1, 2, 5, 8],
    ]


@pytest.mark.parametrize("side", SIDES)
def test_all_four_start_at_the_top_left_token(side):
    assert (scans("asymmetric", side)[:, 0] == 0).all()


@pytest.mark.parametrize("side", SIDES)
def test_zigzag_neighbours_are_adjacent_and_raster_ones_are_not(side):
    for table in scans("zigzag", side):
        assert (steps(table, side) == 1).all()
    for table in scans("raster", side):
        assert (steps(table, side) > 1).sum() == (side - 1 if side > 1 else 0)


@pytest.mark.parametrize("side", [2, 3, 7, 8])
def test_horizontal_scans_finish_a_row_and_vertical_ones_a_column(side):
    a, b, c, d = (places(table, side) for table in scans("asymmetric", side))
    runs = torch.arange(side).repeat_interleave(side)
    assert torch.equal(a[:, 0], runs)
    assert torch.equal(c[:, 0], runs)
    assert torch.equal(b[:, 1], runs)
    assert torch.equal(d[:, 1], runs)
    assert torch.equal(b.flip(1), a)
    assert torch.equal(d.flip(1), c)


@pytest.mark.parametrize("side", SIDES)
def test_bidirectional_ones_are_their_reverse(side):
    a, a_back, b, b_back = scans("bidirectional", side)
    assert torch.equal(a_back, a.flip(0))
    assert torch.equal(b_back, b.flip(0))


@pytest.mark.parametrize("side", SIDES)
def test_symmetric_ones_read_the_mirrored_window(side):
    a, a_mirror, b, b_mirror = scans("symmetric", side)
    assert torch.equal(a_mirror, mirrored(a, side))
    assert torch.equal(b_mirror, mirrored(b, side))
    picture = torch.randn(side, side)
    assert torch.equal(picture.flatten()[a_mirror], picture.flip(1).flatten()[a])
    assert torch.equal(picture.flatten()[b_mirror], picture.flip(1).flatten()[b])


@pytest.mark.parametrize("side", [3, 7, 8])
def test_no_two_of_the_asymmetric_ones_are_reverse_or_mirror_of_each_other(side):
    tables = scans("asymmetric", side)
    for i, one in enumerate(tables):
        for other in tables[:i]:
            for twin in (other, other.flip(0), mirrored(other, side), mirrored(other, side).flip(0)):
                assert not torch.equal(one, twin)


def test_one_order_can_be_asked_for_and_an_unknown_one_is_refused():
    assert torch.equal(scans("b_sy", 7)[0], scans("symmetric", 7)[3])
    with pytest.raises(ValueError, match="want a scan set of horizontal, raster"):
        scans("diagonal", 7)
    with pytest.raises(ValueError, match="side of at least 1"):
        scans("raster", 0)
