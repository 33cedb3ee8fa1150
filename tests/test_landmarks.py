"""Landmarks by name: five and sixty-eight points out of every kind, on a face whose points are known."""

import numpy as np
import pytest

from fleeting import landmarks
from fleeting.errors import UserError

MESH = landmarks.sixty_eight(np.stack([np.arange(468.0)] * 2, axis=1))[:, 0].astype(int)
# the 68 points of a face mirror into each other, and so must the mesh points that stand for them
MIRROR = [
    *range(16, -1, -1), *range(26, 16, -1), 27, 28, 29, 30, 35, 34, 33, 32, 31,
    45, 44, 43, 42, 47, 46, 39, 38, 37, 36, 41, 40,
    54, 53, 52, 51, 50, 49, 48, 59, 58, 57, 56, 55, 64, 63, 62, 61, 60, 67, 66, 65,
]  # fmt: skip
PAIRS = {
    127: 356, 234: 454, 93: 323, 132: 361, 172: 397, 136: 365, 149: 378, 148: 377, 70: 300, 63: 293, 105: 334,
    66: 296, 107: 336, 75: 305, 97: 326, 33: 263, 160: 387, 158: 385, 133: 362, 153: 380, 144: 373, 61: 291,
    39: 269, 37: 267, 181: 405, 84: 314, 78: 308, 82: 312, 87: 317,
}  # fmt: skip
MIDDLE = {152, 168, 197, 5, 4, 2, 0, 17, 13, 14}


def numbered(count):
    """(count, 2): point k at (k, -k)."""
    return np.stack([np.arange(count), -np.arange(count)], axis=1).astype(np.float32)


@pytest.mark.parametrize(
    ("count", "expected"),
    [
        (5, [0, 1, 2, 3, 4]),
        (68, [38.5, 44.5, 30, 48, 54]),
        (468, [83, 312.5, 1, 61, 291]),
        (478, [83, 312.5, 1, 61, 291]),
    ],
)
def test_five_points_are_means_of_the_points_of_each_part(count, expected):
    points = landmarks.five(numbered(count))
    assert np.allclose(points[:, 0], expected)
    assert np.allclose(points[:, 1], np.negative(expected))


def test_leading_axes_stay_and_a_missing_face_stays_missing():
    points = np.stack([numbered(468), np.full((468, 2), np.nan, np.float32)])
    for name, count in ((landmarks.five, 5), (landmarks.sixty_eight, 68)):
        found = name(points)
        assert found.shape == (2, count, 2)
        assert np.isfinite(found[0]).all()
        assert np.isnan(found[1]).all()
    assert np.isnan(landmarks.box(points)[1]).all()


def test_sixty_eight_are_themselves_and_irises_change_nothing():
    assert landmarks.sixty_eight(numbered(68)) is not None
    assert np.array_equal(landmarks.sixty_eight(numbered(68)), numbered(68))
    assert np.array_equal(landmarks.sixty_eight(numbered(478)), landmarks.sixty_eight(numbered(468)))


def test_the_mesh_points_of_the_sixty_eight_are_different_and_mirror_into_each_other():
    assert len(set(MESH.tolist())) == 68
    mirrored = {**PAIRS, **{right: left for left, right in PAIRS.items()}, **{point: point for point in MIDDLE}}
    assert [mirrored[point] for point in MESH] == MESH[MIRROR].tolist()


def test_every_point_belongs_to_one_region():
    points = [point for region in landmarks.REGIONS.values() for point in region]
    assert sorted(points) == list(range(68))


def test_a_box_holds_all_points():
    assert landmarks.box(numbered(68)).tolist() == [0, -67, 67, 0]


@pytest.mark.parametrize("count", [0, 4, 67, 469])
def test_another_number_of_points_is_refused(count):
    with pytest.raises(UserError, match=f"want 5, 68, 468 or 478 landmarks, got {count}"):
        landmarks.five(numbered(count))
    with pytest.raises(UserError, match=f"want 68, 468 or 478 landmarks, got {count}"):
        landmarks.sixty_eight(numbered(count))
