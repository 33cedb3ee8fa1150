"""The drawn face: its frames show the flow that it says, and nothing moves that was not asked to."""

import itertools
from dataclasses import replace

import cv2
import numpy as np
import pytest

from fleeting import motion
from fleeting.errors import UserError
from fleeting.simulation import UNITS, Disturbance, Expression, Scene

STILL = Expression(5, 15, 30, {})
SMILE = Expression(5, 15, 30, {"12": 2.0})
SIZE = (120, 160)


def scene(units=None, subject=0, size=SIZE, **disturbance):
    expression = Expression(5, 15, 30, units or {})
    return Scene(36, expression, subject, size, Disturbance(**disturbance), seed=7)


def at_full_size(drawn):
    """Pixels of a face 224 high to one of the recording; the height is that of the box around the landmarks."""
    return 224 / np.ptp(drawn.landmarks(0)[:, 1])


def flow_of(units, **more):
    return scene(units, **more).flow(5, 15)


def at(field, point):
    """(2,) of a (2, h, w) field at a point (x, y), bilinear."""
    x, y = (np.array([[value]], np.float32) for value in point)
    return np.array([cv2.remap(part, x, y, cv2.INTER_LINEAR)[0, 0] for part in field])


def warped(frame, flow):
    """The second frame brought back to the first by the flow between them."""
    rows, columns = np.mgrid[0 : flow.shape[1], 0 : flow.shape[2]].astype(np.float32)
    return cv2.remap(frame.astype(np.float32), columns + flow[0], rows + flow[1], cv2.INTER_CUBIC)


def inner(picture, border=6):
    return picture[border:-border, border:-border]


# --- what moves


@pytest.mark.parametrize("unit", UNITS)
def test_a_unit_moves_the_skin_by_its_amplitude_at_a_face_of_224(unit):
    drawn = scene({unit: 1.5}, size=(240, 320))
    longest = motion.magnitude(drawn.flow(5, 15)).max() * at_full_size(drawn)
    assert longest == pytest.approx(1.5, rel=0.08)


@pytest.mark.parametrize(
    ("unit", "point", "direction"),
    [
        ("1", 107, (0, -1)),
        ("1", 336, (0, -1)),
        ("2", 300, (0, -1)),
        ("4", 107, (1, 1)),
        ("4", 336, (-1, 1)),
        ("6", 118, (0, -1)),
        ("12", 61, (-1, -1)),
        ("12", 291, (1, -1)),
        ("15", 61, (0, 1)),
        ("17", 199, (0, -1)),
        ("20", 291, (1, 0)),
        ("26", 152, (0, 1)),
    ],
)
def test_a_unit_moves_the_skin_where_and_whither_its_name_says(unit, point, direction):
    drawn = scene({unit: 2.0})
    u, v = at(drawn.flow(5, 15), drawn.landmarks(5)[point]) * at_full_size(drawn)
    assert np.hypot(u, v) > 1.0
    assert np.dot((u, v), direction) > 0.7 * np.hypot(u, v) * np.hypot(*direction)


@pytest.mark.parametrize("subject", [0, 1])
def test_left_is_the_subjects_left_also_on_a_mirrored_face(subject):
    drawn = scene({"L12": 2.0}, subject)
    flow, points = drawn.flow(5, 15), drawn.landmarks(5)
    left, right = at(flow, points[291]), at(flow, points[61])
    assert points[291][0] > points[61][0]
    assert np.hypot(*left) * at_full_size(drawn) > 1.5
    assert np.hypot(*right) < 0.08 * np.hypot(*left)


def test_both_sides_are_the_two_sides_together():
    both, left, right = (flow_of({unit: 0.5}) for unit in ("12", "L12", "R12"))
    assert np.abs(both - left - right).max() < 0.02


def test_the_flow_grows_with_the_amplitude():
    one, two = (scene({"4": amplitude}).flow(5, 15) for amplitude in (0.5, 1.0))
    assert np.abs(two - 2 * one).max() < 0.05 * motion.magnitude(two).max()


def test_the_flow_is_smooth_enough_to_fold_nothing():
    for unit in UNITS:
        flow = flow_of({unit: 2.0}, size=(240, 320))
        (u_y, u_x), (v_y, v_x) = np.gradient(flow[0]), np.gradient(flow[1])
        assert ((1 + u_x) * (1 + v_y) - u_y * v_x).min() > 0.3, unit


def test_the_wall_does_not_move_with_the_face():
    flow = flow_of({"12": 2.0, "26": 2.0, "2": 2.0})
    assert motion.magnitude(flow)[:40, :20].max() < 1e-3


# --- the truth about frames


@pytest.mark.parametrize("subject", [0, 3])
@pytest.mark.parametrize("drift_px", [0.0, 3.0])
def test_the_true_flow_brings_the_apex_frame_back_to_the_onset_frame(subject, drift_px):
    drawn = scene({"12": 2.0, "R1": 2.0}, subject, (240, 320), drift_px=drift_px)
    first, second = drawn[5].astype(np.float32), drawn[15]
    flow = drawn.flow(5, 15)
    moving = inner(motion.magnitude(flow)) > 0.3
    back, still = (np.abs(inner(frame - first)).mean(axis=2) for frame in (warped(second, flow), second))
    assert back[moving].mean() < 0.35 * still[moving].mean()
    assert back.mean() < 1.0


@pytest.mark.parametrize("share", [0.7, 1.3])
def test_another_flow_than_the_true_one_fits_worse(share):
    drawn = scene({"12": 2.0, "26": 2.0}, size=(240, 320))
    flow = drawn.flow(5, 15)
    moving = inner(motion.magnitude(flow)) > 0.5
    right, wrong = (
        np.abs(inner(warped(drawn[15], field) - drawn[5])).mean(axis=2)[moving].mean() for field in (flow, share * flow)
    )
    assert right < 0.8 * wrong


def test_flow_there_and_back_cancels():
    drawn = scene({"12": 2.0, "4": 1.0}, drift_px=2.0)
    there, back = drawn.flow(5, 15), drawn.flow(15, 5)
    rows, columns = np.mgrid[0 : SIZE[0], 0 : SIZE[1]].astype(np.float32)
    read = np.stack([cv2.remap(part, columns + there[0], rows + there[1], cv2.INTER_LINEAR) for part in back])
    assert np.abs(inner((there + read).transpose(1, 2, 0))).max() < 0.02


def test_two_steps_are_one_long_step():
    drawn = scene({"12": 2.0}, drift_px=2.0)
    half, rest, whole = drawn.flow(5, 10), drawn.flow(10, 15), drawn.flow(5, 15)
    rows, columns = np.mgrid[0 : SIZE[0], 0 : SIZE[1]].astype(np.float32)
    read = np.stack([cv2.remap(part, columns + half[0], rows + half[1], cv2.INTER_LINEAR) for part in rest])
    assert np.abs(inner((half + read - whole).transpose(1, 2, 0))).max() < 0.02


def test_a_frame_has_no_flow_to_itself():
    drawn = scene({"12": 2.0}, drift_px=2.0)
    assert np.abs(inner(drawn.flow(15, 15).transpose(1, 2, 0))).max() < 5e-3


def test_landmarks_go_where_the_flow_takes_them():
    drawn = scene({"12": 2.0, "R4": 1.5}, drift_px=2.0)
    first, second, flow = drawn.landmarks(5), drawn.landmarks(15), drawn.flow(5, 15)
    carried = np.array([point + at(flow, point) for point in first])
    assert np.abs(carried - second).max() < 0.03


# --- when


def test_a_still_face_is_the_same_on_every_frame():
    drawn = scene()
    assert all(np.array_equal(drawn[0], frame) for frame in drawn)
    assert np.abs(drawn.flow(0, 15)).max() == 0


def test_nothing_moves_before_the_onset_or_after_the_offset():
    drawn = scene({"12": 2.0, "1": 2.0})
    for index in (0, 5, 30, 35):
        assert np.abs(drawn.flow(0, index)).max() == 0
        assert np.array_equal(drawn[index], drawn[0])


@pytest.mark.parametrize("hold", [0, 6])
def test_the_motion_is_largest_at_the_apex_and_nowhere_else(hold):
    drawn = replace(scene(), expression=Expression(5, 15, 30, {"12": 2.0}, hold))
    amounts = np.array([np.abs(drawn.flow(5, index)).max() for index in range(36)])
    assert amounts.argmax() == 15
    assert (np.diff(amounts[5:16]) > 0).all()
    assert (np.diff(amounts[15:31]) < 0).all()
    assert (amounts > 0.97 * amounts.max()).sum() >= 1 + hold


def test_the_frames_change_most_at_the_apex():
    drawn = scene({"12": 2.0, "26": 2.0})
    changes = [np.abs(frame.astype(float) - drawn[5]).mean() for frame in drawn]
    assert abs(int(np.argmax(changes)) - 15) <= 1


def test_a_moment_without_rise_or_fall_can_be_drawn():
    drawn = Scene(3, Expression(1, 1, 1, {"12": 2.0}), size=SIZE)
    assert np.abs(drawn.flow(0, 1)).max() > 0.5
    assert np.abs(drawn.flow(0, 2)).max() == 0


# --- disturbances


@pytest.mark.parametrize("drift", ["linear", "smooth"])
def test_the_head_drifts_as_far_as_asked(drift):
    drawn = scene(drift_px=3.0, drift=drift)
    nose = np.array([drawn.landmarks(index)[[168, 6, 197, 195, 5]].mean(axis=0) for index in range(36)])
    reach = np.linalg.norm(nose - nose[0], axis=1).max() * at_full_size(drawn)
    assert reach == pytest.approx(3.0, rel=0.15)
    assert np.linalg.norm(np.diff(nose, axis=0), axis=1).max() * at_full_size(drawn) < 1.0


def test_a_linear_drift_goes_straight_on():
    drawn = scene(drift_px=3.0, drift="linear")
    nose = np.array([drawn.landmarks(index)[5] for index in (0, 12, 24)])
    assert np.linalg.norm(nose[0] - 2 * nose[1] + nose[2]) < 0.02


def test_the_head_turns_and_nears_as_a_whole():
    drawn = scene(drift_px=3.0)
    points, matrix = drawn.landmarks(0), drawn.head(20)
    inside = np.flatnonzero(drawn.landmarks(0)[:, 1] < SIZE[0] - 8)
    moved = points @ matrix[:, :2].T + matrix[:, 2]
    assert np.abs(moved - drawn.landmarks(20))[inside].max() < 0.05
    assert np.linalg.det(matrix[:, :2]) == pytest.approx(1, abs=0.1)


def test_the_wall_stays_when_the_head_moves():
    drawn = scene(drift_px=3.0, size=(240, 320))
    flow = drawn.flow(0, 20)
    assert motion.magnitude(flow)[:30, :8].max() < 0.05
    assert motion.magnitude(flow)[120, 160] > 0.3


def test_noise_has_the_asked_deviation_and_is_new_on_every_frame():
    clean, noisy = scene(), scene(noise=3.0)
    still = clean[0].astype(float)
    grey = (still > 20) & (still < 235)
    rests = [(noisy[index] - still)[grey] for index in (3, 4)]
    assert np.std(rests[0]) == pytest.approx(3.0, rel=0.03)
    assert abs(np.mean(rests[0])) < 0.1
    assert abs(np.corrcoef(rests)[0, 1]) < 0.03


def test_flicker_changes_the_light_of_whole_frames():
    steady, flickering = scene(), scene(flicker=0.05)
    # dark enough everywhere that nothing saturates
    middle = (slice(60, 90), slice(60, 100))
    light = np.array([frame[middle].mean() for frame in flickering]) / steady[0][middle].mean()
    assert 0.02 < np.ptp(light) / 2 < 0.08
    assert light.mean() == pytest.approx(1, abs=0.03)
    assert np.abs(flickering.flow(0, 20)).max() == 0


def test_a_blink_shuts_the_eyes_for_a_moment_and_is_told():
    drawn = scene(size=(240, 320), blinks=(20,))
    points = drawn.landmarks(0)
    for left, right in ((33, 133), (362, 263)):
        x, y = points[[left, right]].mean(axis=0).round().astype(int)
        eye = (slice(y - 4, y + 5), slice(x - 8, x + 9))
        change = [np.abs(drawn[index][eye].astype(float) - drawn[0][eye]).mean() for index in (10, 20, 30)]
        assert change[1] > 12
        assert max(change[0], change[2]) == 0
    assert drawn.seen(0, 30).all()
    covered = ~drawn.seen(0, 20)
    assert 0.001 < covered.mean() < 0.1
    changed = np.abs(drawn[20].astype(float) - drawn[0]).max(axis=2) > 8
    assert changed.any()


def test_what_a_blink_changes_is_not_seen():
    drawn = scene(size=(240, 320), blinks=(20,))
    change = np.abs(drawn[20].astype(float) - drawn[0]).max(axis=2)
    assert change[drawn.seen(0, 20)].max() < 3


# --- who


def test_subjects_are_different_faces():
    shapes = [scene(subject=number).landmarks(0) for number in range(8)]
    heights = [points - points.mean(axis=0) for points in shapes]
    for one, two in itertools.combinations(heights, 2):
        assert np.linalg.norm(one - two, axis=1).max() * 224 / np.ptp(one[:, 1]) > 4
    frames = [scene(subject=number)[0].astype(float) for number in range(8)]
    for one, two in itertools.combinations(frames, 2):
        assert np.abs(one - two).mean() > 8


def test_a_subject_is_the_same_face_at_every_size():
    small, large = scene(subject=2, size=(120, 160)), scene(subject=2, size=(240, 320))
    assert np.abs((small.landmarks(0) + 0.5) * 2 - 0.5 - large.landmarks(0)).max() < 1.0
    shrunk = cv2.resize(large[0], (160, 120), interpolation=cv2.INTER_AREA).astype(float)
    assert np.abs(shrunk - small[0]).mean() < 6


def test_frames_are_pictures_of_the_asked_size():
    frame = scene(size=(96, 130))[0]
    assert frame.shape == (96, 130, 3)
    assert frame.dtype == np.uint8
    assert 20 < frame.mean() < 235
    assert frame.std() > 20


def test_the_same_scene_draws_the_same_bytes_in_any_order():
    disturbance = {"drift_px": 1.0, "noise": 2.0, "flicker": 0.02, "blinks": (12,)}
    one, two = (scene({"12": 1.0}, **disturbance) for _ in range(2))
    forwards = [one[index] for index in range(36)]
    backwards = [two[index] for index in reversed(range(36))][::-1]
    assert all(np.array_equal(a, b) for a, b in zip(forwards, backwards, strict=True))
    assert not np.array_equal(replace(one, seed=8)[10], one[10])


def test_frames_are_counted_from_both_ends_and_no_further():
    drawn = scene({"12": 1.0})
    assert len(drawn) == 36 == len(list(drawn))
    assert np.array_equal(drawn[-1], drawn[35])
    with pytest.raises(IndexError):
        drawn[36]


# --- what cannot be drawn


@pytest.mark.parametrize("indices", [(5, 3, 9), (-1, 3, 9), (5, 12, 9)])
def test_indices_out_of_order_are_refused(indices):
    with pytest.raises(UserError, match="onset <= apex <= offset"):
        Expression(*indices, {})


def test_an_offset_outside_is_refused():
    with pytest.raises(UserError, match="below 20 frames"):
        Scene(20, STILL)


@pytest.mark.parametrize("name", ["99", "X12", "12L", "", "smile"])
def test_an_unknown_unit_is_refused_with_its_name(name):
    with pytest.raises(UserError, match="action unit"):
        Expression(0, 1, 2, {name: 1.0})


def test_units_may_be_written_as_in_the_sheets():
    plain, long = (Scene(31, Expression(5, 15, 30, {name: 1.0}), size=SIZE).flow(5, 15) for name in ("R12", "AUr12"))
    assert np.array_equal(plain, long)
