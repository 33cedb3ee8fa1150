"""HOOF, Bi-WOOF and MDMO against flow whose histograms are known."""

import numpy as np
import pytest

from fleeting import histograms, motion
from fleeting.errors import UserError

# 68 points of a schematic face in 224 x 224: jaw, brows, nose, eyes, mouth
JAW = [(40 + 144 * k / 16, 110 + 80 * np.sin(np.pi * k / 16)) for k in range(17)]
BROWS = [(52 + 11 * k, 82 - 4 * (k == 2)) for k in range(5)] + [(128 + 11 * k, 82 - 4 * (k == 2)) for k in range(5)]
NOSE = [(112, 96 + 9 * k) for k in range(4)] + [(102 + 5 * k, 131) for k in range(5)]
EYES = [(x + dx, 98 + dy) for x in (75, 149) for dx, dy in [(-11, 0), (-5, -4), (5, -4), (11, 0), (5, 4), (-5, 4)]]
OUTER = [(112 + dx, 158 + dy) for dx, dy in [(-24, 0), (-14, -6), (-5, -8), (0, -7), (5, -8), (14, -6), (24, 0)]]
LOWER = [(112 + dx, 158 + dy) for dx, dy in [(14, 7), (5, 9), (0, 10), (-5, 9), (-14, 7)]]
INNER = [(112 + dx, 158 + dy) for dx, dy in [(-18, 0), (-6, -2), (0, -2), (6, -2), (18, 0), (6, 2), (0, 2), (-6, 2)]]
FACE = np.array(JAW + BROWS + NOSE + EYES + OUTER + LOWER + INNER, np.float32)


def towards(degrees, length=1.0, shape=(20, 20)):
    """Flow of one direction; 90 degrees is down."""
    angle = np.deg2rad(degrees)
    return np.broadcast_to(length * np.array([np.cos(angle), np.sin(angle)])[:, None, None], (2, *shape)).copy()


def halves(left, right):
    """A field with one flow in its left half, another in its right half."""
    return np.concatenate([left[:, :, : left.shape[2] // 2], right[:, :, : right.shape[2] // 2]], axis=2)


# --- HOOF


@pytest.mark.parametrize("bins", [4, 8, 12])
def test_each_direction_has_its_bin(bins):
    for index in range(bins):
        found = histograms.hoof(towards(-180 + (index + 0.5) * 360 / bins), bins)
        assert np.allclose(found, np.eye(bins)[index])


@pytest.mark.parametrize(("degrees", "index"), [(180, 0), (-90, 2), (0, 4), (90, 6), (1, 4), (-1, 3)])
def test_eight_bins_begin_at_the_left_and_turn_over_the_top(degrees, index):
    assert histograms.hoof(towards(degrees))[index] == pytest.approx(1)


def test_a_vector_counts_by_its_length():
    found = histograms.hoof(halves(towards(10, 3), towards(100, 1)))
    assert np.allclose(found, [0, 0, 0, 0, 0.75, 0, 0.25, 0])


def test_neither_the_strength_nor_the_size_matters():
    uv = np.random.default_rng(0).normal(size=(2, 30, 40))
    assert np.allclose(histograms.hoof(uv), histograms.hoof(5 * uv))
    assert np.allclose(histograms.hoof(uv), histograms.hoof(np.tile(uv, (1, 2, 3))))
    assert histograms.hoof(uv).sum() == pytest.approx(1)


def test_the_bins_of_the_paper_do_not_know_left_from_right():
    uv = np.random.default_rng(1).normal(size=(2, 30, 40))
    assert np.allclose(histograms.hoof(uv, 6, symmetric=True), histograms.hoof(motion.flip(uv), 6, symmetric=True))
    assert not np.allclose(histograms.hoof(uv, 6), histograms.hoof(motion.flip(uv), 6))
    for degrees, index in [(-89, 0), (-91, 0), (-10, 2), (190, 2), (10, 3), (170, 3), (89, 5), (90, 5)]:
        assert histograms.hoof(towards(degrees), 6, symmetric=True)[index] == pytest.approx(1)


def test_a_mask_says_which_pixels_count():
    uv = halves(towards(10), towards(100))
    mask = np.zeros((20, 20), bool)
    mask[:, 10:] = True
    assert np.allclose(histograms.hoof(uv, mask=mask), np.eye(8)[6])


def test_no_motion_has_no_direction():
    assert histograms.hoof(np.zeros((2, 5, 5))).tolist() == [0] * 8
    assert histograms.hoof(towards(30), mask=np.zeros((20, 20), bool)).tolist() == [0] * 8


def test_what_is_no_flow_is_refused():
    with pytest.raises(UserError, match="want flow"):
        histograms.hoof(np.zeros((3, 5, 5)))
    with pytest.raises(UserError, match="at least one bin"):
        histograms.hoof(np.zeros((2, 5, 5)), bins=0)
    with pytest.raises(UserError, match="flow and mask of one size"):
        histograms.hoof(np.zeros((2, 5, 5)), mask=np.ones((4, 5), bool))


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize(
    "feature",
    [lambda uv: histograms.hoof(uv), lambda uv: histograms.hoof(uv, symmetric=True),
     lambda uv: histograms.bi_woof(uv, np.ones((224, 224))), lambda uv: histograms.bi_woof_map(uv, np.ones((224, 224))),
     lambda uv: histograms.mdmo(uv, FACE), lambda uv: histograms.mdmo_map(uv, FACE)],
)  # fmt: skip
def test_flow_that_is_not_finite_is_refused(feature, value):
    uv = towards(30, 1, (224, 224))
    uv[1, 3, 4] = value
    with pytest.raises(UserError, match="want finite flow, got NaN or infinite values on 1 of 50176 pixels"):
        feature(uv)


def test_what_a_mask_leaves_out_may_be_anything():
    uv = halves(towards(10), towards(100))
    uv[:, :, :10] = np.nan
    mask = np.zeros((20, 20), bool)
    mask[:, 10:] = True
    assert np.allclose(histograms.hoof(uv, mask=mask), np.eye(8)[6])
    mask[2, 3] = True
    with pytest.raises(UserError, match="on 1 of 400 pixels"):
        histograms.hoof(uv, mask=mask)


def test_strain_that_is_not_finite_is_refused():
    strain = np.ones((20, 20))
    strain[0, 0] = np.nan
    with pytest.raises(UserError, match="want finite strain"):
        histograms.bi_woof(towards(0), strain)


# --- Bi-WOOF


def test_a_block_weighs_by_its_mean_strain():
    strain = np.ones((20, 20))
    strain[:, 10:] = 3
    found = histograms.bi_woof(halves(towards(10), towards(100, 7)), strain, blocks=(1, 2))
    wanted = np.zeros((1, 2, 8))
    wanted[0, 0, 4], wanted[0, 1, 6] = 1 / np.sqrt(10), 3 / np.sqrt(10)
    assert np.allclose(found, wanted)


def test_bi_woof_of_five_by_five_blocks():
    uv = np.random.default_rng(2).normal(size=(2, 53, 61)).astype(np.float32)
    strain = motion.strain(uv)
    found = histograms.bi_woof(uv, strain)
    assert (found.shape, found.dtype) == ((5, 5, 8), np.float64)
    assert np.linalg.norm(found) == pytest.approx(1)
    # inside a block only the motion, between blocks only the strain
    weights = found.sum(axis=2)
    assert weights[0, 0] / weights[4, 4] == pytest.approx(strain[:11, :12].mean() / strain[42:, 49:].mean(), rel=1e-5)
    assert np.allclose(found[0, 0] / weights[0, 0], histograms.hoof(uv[:, :11, :12]))


def test_bi_woof_without_strain_is_nothing():
    assert not histograms.bi_woof(towards(0), np.zeros((20, 20))).any()


def test_the_map_fills_each_block_with_its_histogram():
    uv = np.random.default_rng(3).normal(size=(2, 23, 31))
    strain = motion.strain(uv)
    found, blocks = histograms.bi_woof_map(uv, strain, (2, 3)), histograms.bi_woof(uv, strain, (2, 3))
    assert (found.shape, found.dtype) == ((8, 23, 31), np.float32)
    assert np.allclose(found[:, 0, 0], blocks[0, 0])
    assert np.allclose(found[:, -1, -1], blocks[1, 2])
    assert np.allclose(found[:, 5, 15], blocks[0, 1])
    assert len(np.unique(found.reshape(8, -1), axis=1).T) == 6


def test_blocks_and_strain_that_do_not_fit():
    with pytest.raises(UserError, match="flow and strain of one size"):
        histograms.bi_woof(towards(0), np.zeros((10, 20)))
    for blocks in [(21, 5), (5, 21), (0, 5)]:
        with pytest.raises(UserError, match="no more blocks than pixels"):
            histograms.bi_woof(towards(0), np.zeros((20, 20)), blocks)


# --- MDMO


def test_thirty_six_regions_that_do_not_overlap():
    masks = histograms.regions36(FACE, 224, 224)
    assert (masks.shape, masks.dtype) == ((36, 224, 224), bool)
    assert masks.sum(axis=0).max() == 1
    assert masks.sum(axis=(1, 2)).min() > 40


def test_the_regions_of_a_symmetric_face_are_symmetric():
    masks = histograms.regions36(FACE, 225, 225)
    rows = [(0, 6), (6, 14), (14, 20), (20, 24), (24, 28), (28, 32), (32, 36)]
    for first, end in rows:
        for index in range(first, end):
            mirrored = masks[end - 1 - (index - first)][:, ::-1]
            both, either = (masks[index] & mirrored).sum(), (masks[index] | mirrored).sum()
            assert both / either > 0.7, index


def test_regions_lie_where_their_names_say():
    def region_at(x, y):
        return int(np.flatnonzero(histograms.regions36(FACE, 224, 224)[:, y, x])[0])

    assert region_at(60, 68) == 0  # forehead over the outer left brow
    assert region_at(106, 85) in (9, 2)  # between the brows
    assert region_at(108, 108) == 16  # bridge of the nose, left
    assert region_at(116, 126) == 22  # right wing of the nose
    assert region_at(97, 160) == 25  # left corner of the mouth
    assert region_at(106, 184) == 33  # chin


def test_regions_move_turn_and_grow_with_the_face():
    masks = histograms.regions36(FACE, 224, 224)
    moved = histograms.regions36(FACE + np.float32([9, 5]), 224, 224)
    assert np.array_equal(moved[:, 5:, 9:], masks[:, :-5, :-9])
    large = histograms.regions36(2 * FACE, 448, 448)
    assert np.allclose(large.sum(axis=(1, 2)) / 4, masks.sum(axis=(1, 2)), rtol=0.25)
    upside_down = histograms.regions36(223 - FACE, 224, 224)
    both = (upside_down[:, ::-1, ::-1] & masks).sum(axis=(1, 2))
    assert (both / masks.sum(axis=(1, 2))).min() > 0.8


def test_the_main_direction_is_that_of_most_vectors_not_of_the_longest():
    masks = histograms.regions36(FACE, 224, 224)
    rng = np.random.default_rng(4)
    uv = towards(90, 0.5, (224, 224))
    uv[:, rng.random((224, 224)) < 0.3] = np.array([[-20.0], [0.0]])
    found = histograms.mdmo(uv, FACE)
    assert found.shape == (36, 2)
    for rho, theta in found:
        assert rho == pytest.approx(0.5)
        assert theta == pytest.approx(np.pi / 2)
    assert masks.any()


def test_the_vectors_of_the_main_direction_are_averaged():
    rng = np.random.default_rng(5)
    angles = np.deg2rad(rng.uniform(-20, 20, size=(224, 224)))
    uv = np.stack([np.cos(angles), np.sin(angles)])
    mask = histograms.regions36(FACE, 224, 224)[16]
    rho, theta = histograms.mdmo(uv, FACE)[16]
    u, v = uv[:, mask].mean(axis=1)
    assert rho == pytest.approx(np.hypot(u, v))
    assert theta == pytest.approx(np.arctan2(v, u))
    assert 0.9 < rho < 1


def test_a_motion_around_the_left_is_not_cut_in_two():
    uv = halves(towards(175, 1, (224, 448)), towards(-175, 1, (224, 448)))[:, :, 112:336]
    uv[:, ::2] = towards(180, 1, (112, 224))
    assert np.allclose(np.abs(histograms.mdmo(uv, FACE)[:, 1]), np.pi, atol=np.deg2rad(5))


def test_what_rests_and_what_is_outside_is_zero():
    assert not histograms.mdmo(np.zeros((2, 224, 224)), FACE).any()
    found = histograms.mdmo(towards(30, 1, (224, 224)), FACE + np.float32([500, 0]))
    assert not found.any()


def test_the_map_fills_each_region_with_its_mean_vector():
    uv = np.random.default_rng(6).normal(size=(2, 224, 224)) + 1
    found, masks = histograms.mdmo_map(uv, FACE), histograms.regions36(FACE, 224, 224)
    assert (found.shape, found.dtype) == ((2, 224, 224), np.float32)
    assert not found[:, ~masks.any(axis=0)].any()
    for (rho, theta), mask in zip(histograms.mdmo(uv, FACE), masks, strict=True):
        assert np.allclose(found[:, mask].T, [rho * np.cos(theta), rho * np.sin(theta)], atol=1e-6)


def test_landmarks_of_a_mesh_will_do():
    mesh = np.random.default_rng(7).uniform(50, 170, size=(468, 2))
    assert histograms.mdmo(towards(0, 1, (224, 224)), mesh).shape == (36, 2)


def test_landmarks_that_are_missing_or_of_another_kind():
    lost = FACE.copy()
    lost[3] = np.nan
    with pytest.raises(UserError, match="got NaN; choose a frame in which there is a face"):
        histograms.mdmo(towards(0, 1, (224, 224)), lost)
    with pytest.raises(UserError, match="want 68, 468 or 478 landmarks, got 5"):
        histograms.regions36(FACE[:5], 224, 224)


@pytest.mark.data
def test_the_regions_of_real_landmarks_are_there(real):
    for corpus in ("casme2", "samm", "smic"):
        files = sorted((real / "landmarks68" / corpus).rglob("*.npy"))[::10]
        assert files
        for path in files:
            points = np.load(path).astype(np.float64)
            points = (points - points.min(axis=0) + 20) * 2
            width, height = (points.max(axis=0) + 20).astype(int)
            sizes = histograms.regions36(points, height, width).sum(axis=(1, 2))
            assert np.count_nonzero(sizes) == 36, path
