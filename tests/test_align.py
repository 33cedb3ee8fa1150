"""Alignment: where points and pictures land, and that a movement of the face is not aligned away."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from fleeting import align, landmarks
from fleeting.align import Options
from fleeting.errors import UserError
from fleeting.records import Clip, Moment, Track

HEIGHT, WIDTH, COUNT = 300, 400, 6
CLIP = Clip("d", "s", "c", tuple(Path(f"{i}.png") for i in range(COUNT)), onset=1, apex=3, offset=5)
MOMENT = Moment(1, 3, 5)


def face_points(centre=(200.0, 140.0), scale=1.0, degrees=0.0):
    """68 points of a plain face, 60 px between the eyes at scale 1."""
    jaw = [(-70 * np.cos(a), 70 * np.sin(a) + 10) for a in np.linspace(0, np.pi, 17)]
    brows = [(x, -22 - 4 * np.sin(i)) for i, x in enumerate([-45, -38, -31, -24, -17, 17, 24, 31, 38, 45])]
    nose = [(0, y) for y in (-8, 8, 23, 38)] + [(x, 43) for x in (-10, -5, 0, 5, 10)]
    eyes = [
        (side * 30 - 12 * np.cos(a), 5 * np.sin(a))
        for side in (-1, 1)
        for a in np.linspace(0, 2 * np.pi, 6, endpoint=False)
    ]
    mouth = [(-25 * np.cos(a), 62 + 8 * np.sin(a)) for a in np.linspace(0, 2 * np.pi, 20, endpoint=False)]
    points = np.array([*jaw, *brows, *nose, *eyes, *mouth])
    turn = np.deg2rad(degrees)
    matrix = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]]) * scale
    return (points @ matrix.T + centre).astype(np.float32)


def texture(seed=0):
    noise = np.random.default_rng(seed).normal(size=(HEIGHT, WIDTH, 3)).astype(np.float32)
    smooth = cv2.GaussianBlur(noise, (0, 0), 3)
    return np.round(255 * (smooth - smooth.min()) / np.ptp(smooth)).astype(np.uint8)


def shifted(picture, dx, dy=0.0):
    move = np.array([[1, 0, dx], [0, 1, dy]])
    return cv2.warpAffine(picture, move, picture.shape[1::-1], flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE)


def tracked(points, state=None, boxes=None):
    points = np.stack(points).astype(np.float32)
    return Track(points, np.ones(len(points), np.int8) if state is None else state, boxes)


def still(**points):
    return [texture()] * COUNT, tracked([face_points(**points)] * COUNT)


@pytest.mark.parametrize("degrees", [0, 20, -35])
@pytest.mark.parametrize("scale", [0.7, 1.0, 1.6])
def test_similarity_puts_eyes_and_nose_at_the_same_places(degrees, scale):
    frames, track = still(scale=scale, degrees=degrees, centre=(190, 150))
    face = align.face(CLIP, frames, track, MOMENT, Options())
    eyes = landmarks.five(face.landmarks[3])[:2]
    assert eyes[:, 1] == pytest.approx([0.34 * 224] * 2, abs=3)
    assert eyes[0, 0] == pytest.approx(0.33 * 224, abs=6)
    assert eyes[1, 0] == pytest.approx(0.67 * 224, abs=6)
    assert face.frames[3].shape == (224, 224, 3)
    assert face.frames[3].dtype == np.uint8


def test_a_picture_moves_with_its_landmarks():
    """A dot painted on a landmark lies on the moved landmark, for every alignment."""
    points = face_points(degrees=15, scale=0.9)
    frame = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    cv2.circle(frame, tuple(int(v) for v in np.round(points[30])), 3, (255, 255, 255), -1)
    points[30] = np.round(points[30])
    track = tracked([points] * COUNT)
    for name in ("similarity", "registration", "box", "centre"):
        face = align.face(CLIP, [frame] * COUNT, track, MOMENT, Options(name=name))
        rows, columns = np.nonzero(face.frames[3][..., 0] > 127)
        assert columns.mean() == pytest.approx(face.landmarks[3, 30, 0], abs=0.3), name
        assert rows.mean() == pytest.approx(face.landmarks[3, 30, 1], abs=0.3), name


@pytest.mark.parametrize("name", ["similarity", "registration"])
@pytest.mark.parametrize("follow", ["onset", "frame"])
def test_a_movement_of_half_a_pixel_survives(name, follow):
    """A cheek moves .5 px while eyes and nose stay: the aligned pictures show it, times the scale, within 10 %."""
    base, points = texture(), face_points()
    moved_points = points.copy()
    moved_points[48:68, 0] += 0.5  # the mouth, which no transform may follow
    mask = cv2.GaussianBlur((np.hypot(*np.mgrid[-202:98, -200:200]) < 30).astype(np.float32), (0, 0), 4)[..., None]
    moved = np.round(base * (1 - mask) + shifted(base, 0.5) * mask).astype(np.uint8)
    frames = [base, base, base, moved, base, base]
    track = tracked([points, points, points, moved_points, points, points])
    face = align.face(CLIP, frames, track, MOMENT, Options(name=name, follow=follow))
    scale = float(np.linalg.norm(face.landmarks[1, 36] - face.landmarks[1, 45]) / 84)
    middle = face.landmarks[1, 48:68].mean(axis=0)
    found = _shift(face.frames[1], face.frames[3], middle, reach=int(18 * scale))
    assert found[0] == pytest.approx(0.5 * scale, rel=0.1)
    assert found[1] == pytest.approx(0, abs=0.05 * scale)


def _shift(first, second, middle, reach):
    """The translation of a square between two pictures, by least squares on the gradient (Lucas and Kanade)."""
    x, y = (int(v) for v in middle)
    cuts = [
        cv2.GaussianBlur(align.grey(p), (0, 0), 1.5)[y - reach : y + reach, x - reach : x + reach]
        for p in (first, second)
    ]
    total = np.zeros(2)
    grid = np.mgrid[0 : 2 * reach, 0 : 2 * reach].astype(np.float32)
    for _ in range(10):
        warped = cv2.remap(cuts[1], grid[1] + np.float32(total[0]), grid[0] + np.float32(total[1]), cv2.INTER_CUBIC)
        g_y, g_x = np.gradient(cuts[0])
        inner = (slice(4, -4), slice(4, -4))
        a = np.stack([g_x[inner].ravel(), g_y[inner].ravel()], axis=1)
        total -= np.linalg.lstsq(a, (warped - cuts[0])[inner].ravel(), rcond=None)[0]
    return total


def test_a_head_movement_stays_with_the_onset_and_goes_with_the_frame():
    base, points = texture(), face_points()
    frames = [shifted(base, 0 if i < 3 else 2) for i in range(COUNT)]
    track = tracked([points + ([0, 0] if i < 3 else [2, 0]) for i in range(COUNT)])
    kept = align.face(CLIP, frames, track, MOMENT, Options(follow="onset"))
    gone = align.face(CLIP, frames, track, MOMENT, Options(follow="frame"))
    scale = float(np.linalg.norm(kept.landmarks[1, 36] - kept.landmarks[1, 45]) / 84)
    middle = kept.landmarks[1, 30]
    assert _shift(kept.frames[1], kept.frames[3], middle, 40)[0] == pytest.approx(2 * scale, rel=0.05)
    assert _shift(gone.frames[1], gone.frames[3], middle, 40)[0] == pytest.approx(0, abs=0.05)
    assert np.array_equal(kept.frames[1], gone.frames[1])


def test_the_onset_decides_even_where_another_frame_is_tracked_otherwise():
    points = face_points()
    track = tracked([points + 20, points, *[points + 20] * 4])
    frames = [texture()] * COUNT
    face = align.face(CLIP, frames, track, MOMENT, Options())
    alone = align.face(CLIP, frames, tracked([points] * COUNT), MOMENT, Options())
    assert np.array_equal(face.frames[3], alone.frames[3])


def test_centre_cuts_without_scaling_where_it_can():
    frames, track = still()
    face = align.face(CLIP, frames, track, MOMENT, Options(name="centre", size=200))
    assert np.array_equal(face.frames[0], frames[0][50:250, 100:300])
    large = align.face(CLIP, frames, track, MOMENT, Options(name="centre"))
    assert large.frames[0].shape == (384, 384, 3)
    assert large.landmarks[0, 30] == pytest.approx(((face_points()[30] - [50, 0]) + 0.5) * 384 / 300 - 0.5, abs=1e-3)


def test_centre_needs_no_landmarks():
    track = Track(np.empty((COUNT, 0, 2), np.float32), np.full(COUNT, -1, np.int8))
    face = align.face(CLIP, still()[0], track, MOMENT, Options(name="centre", size=64))
    assert face.landmarks is None
    assert face.frames[2].shape == (64, 64, 3)


def test_a_box_is_stretched_grey_and_made_anew_a_frame():
    boxes = np.tile(np.array([100, 80, 200, 180], np.float32), (COUNT, 1))
    boxes[3] += 10
    frames = [texture()] * COUNT
    track = tracked([face_points()] * COUNT, boxes=boxes)
    face = align.face(CLIP, frames, track, MOMENT, Options(name="box", size=140))
    luma = np.round(255 * align.grey(frames[0])).astype(np.uint8)
    assert np.array_equal(face.frames[1], np.repeat(luma[60:200, 80:220, None], 3, 2))
    assert np.array_equal(face.frames[3][..., 0], luma[70:210, 90:230])
    kept = align.face(CLIP, frames, track, MOMENT, Options(name="box", size=140, follow="onset", colour="rgb"))
    assert np.array_equal(kept.frames[3], frames[3][60:200, 80:220])


def test_a_box_at_the_border_keeps_inside():
    boxes = np.tile(np.array([-5, -5, 90, 80], np.float32), (COUNT, 1))
    track = tracked([face_points()] * COUNT, boxes=boxes)
    face = align.face(CLIP, still()[0], track, MOMENT, Options(name="box", size=110, colour="rgb"))
    want = cv2.resize(texture()[:100, :110], (110, 110), interpolation=cv2.INTER_LINEAR)
    assert np.abs(face.frames[1].astype(int) - want).max() <= 2


def test_registration_holds_all_points_and_is_upright():
    frames, track = still(degrees=25)
    face = align.face(CLIP, frames, track, MOMENT, Options(name="registration"))
    left, top, right, bottom = landmarks.box(face.landmarks[1])
    assert min(left, top) > 0
    assert max(right, bottom) < 239
    eyes = landmarks.five(face.landmarks[1])[:2]
    assert eyes[0, 1] == pytest.approx(eyes[1, 1], abs=1e-2)
    assert face.frames[0].shape == (240, 240, 3)


def test_none_leaves_the_frames_alone():
    frames, track = still()
    face = align.face(CLIP, frames, track, MOMENT, Options(name="none"))
    assert face.frames[2] is frames[2]
    assert np.array_equal(face.landmarks, track.landmarks)


def test_shrinking_averages_instead_of_picking():
    """A checkerboard of single pixels becomes grey, not another checkerboard."""
    board = np.repeat((255 * (np.indices((256, 256)).sum(0) % 2)).astype(np.uint8)[..., None], 3, 2)
    small = align.warp(board, np.array([[0.25, 0, -0.375], [0, 0.25, -0.375]]), 64)
    assert np.abs(small[2:-2, 2:-2].astype(int) - 127).max() <= 4


def test_the_identity_is_the_identity():
    frame = texture()[:, :300]
    assert np.array_equal(align.warp(frame, np.array([[1.0, 0, 0], [0, 1, 0]]), 300), frame)


def test_fit_finds_the_transform_that_was_used():
    rng = np.random.default_rng(1)
    points = rng.uniform(0, 100, (7, 2))
    a, b = 1.3 * np.cos(0.4), 1.3 * np.sin(0.4)
    true = np.array([[a, -b, 5.0], [b, a, -3.0]])
    assert align.fit(points, points @ true[:, :2].T + true[:, 2]) == pytest.approx(true)
    noisy = points @ true[:, :2].T + true[:, 2] + rng.normal(0, 0.1, points.shape)
    residual = noisy - (points @ align.fit(points, noisy)[:, :2].T + align.fit(points, noisy)[:, 2])
    assert np.abs(residual.mean(axis=0)).max() < 1e-9  # least squares leaves no mean


def test_no_face_on_the_onset_frame_is_said():
    state = np.array([1, 0, 1, 1, 1, 1], np.int8)
    with pytest.raises(UserError, match="d/s/c: want a face on the onset frame 1, got none"):
        align.face(CLIP, still()[0], tracked([face_points()] * COUNT, state), MOMENT, Options())


def test_without_an_onset_the_first_face_serves():
    clip = Clip("d", "s", "c", CLIP.frames)
    state = np.array([0, 0, 1, 1, 1, 1], np.int8)
    face = align.face(clip, still()[0], tracked([face_points()] * COUNT, state), None, Options())
    assert face.frames[5].shape == (224, 224, 3)
    with pytest.raises(UserError, match="want a face on any frame"):
        align.face(clip, still()[0], tracked([face_points()] * COUNT, np.zeros(COUNT, np.int8)), None, Options())


def test_a_frame_without_a_face_cannot_be_followed():
    points = [face_points()] * COUNT
    points[4] = np.full((68, 2), np.nan, np.float32)
    face = align.face(CLIP, still()[0], tracked(points), MOMENT, Options(follow="frame"))
    assert face.frames[3].shape == (224, 224, 3)
    with pytest.raises(UserError, match="want a face on frame 4, got none"):
        _ = face.frames[4]


def test_no_landmarks_is_said():
    track = Track(np.empty((COUNT, 0, 2), np.float32), np.full(COUNT, -1, np.int8))
    for name in align.WANTS_LANDMARKS:
        with pytest.raises(UserError, match="want landmarks for the alignment"):
            align.face(CLIP, still()[0], track, MOMENT, Options(name=name))


def test_frames_are_read_only_when_asked_for():
    class Watched(list):
        asked = 0

        def __getitem__(self, index):
            Watched.asked += 1
            return super().__getitem__(index)

    face = align.face(CLIP, Watched(still()[0]), still()[1], MOMENT, Options())
    assert Watched.asked == 0
    assert len(face.frames) == COUNT
    assert face.frames[-1].shape == (224, 224, 3)
    assert Watched.asked == 1
    with pytest.raises(IndexError):
        _ = face.frames[COUNT]
