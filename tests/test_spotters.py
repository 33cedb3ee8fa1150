"""Spotters against made-up recordings whose apex is known, and the numbers below them against plain loops."""

import tracemalloc
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import cv2
import numpy as np
import pytest

from fleeting import align, landmarks, video
from fleeting.errors import UserError
from fleeting.faces import mesh
from fleeting.records import Clip, FaceClip, FlowFile, Moment
from fleeting.simulation import Disturbance, Expression, Scene
from fleeting.spotting import _curves, _head, _lbp, _recordings, _regions, dc_rois, flow_peak, frame_difference, middle

SIDE, MARGIN = 120, 20
LOOKING = (dc_rois, flow_peak, frame_difference)
FIVE = np.array([[38, 45], [82, 45], [60, 68], [46, 92], [74, 92]], np.float32)


class Lazy(Sequence):
    """Pictures that know in which order they were read."""

    def __init__(self, pictures):
        self.pictures, self.read = pictures, []

    def __len__(self):
        return len(self.pictures)

    def __getitem__(self, index):
        self.read.append(int(index))
        return self.pictures[index]


def course(count, *events):
    """0 at rest, 1 in the hold; an event is (onset, apex, end of the hold, offset)."""
    frames = np.arange(count)
    return np.max([np.interp(frames, event, [0, 1, 1, 0]) for event in events] or [np.zeros(count)], axis=0)


def recording(moved, noise=1.0, drift=0.0, flicker=0.0, eyes=None, seed=0, **annotation):
    """A textured face whose mouth corners rise by up to 1.5 px while the head drifts and the light flickers."""
    rng, count = np.random.default_rng(seed), len(moved)
    noises = [cv2.GaussianBlur(rng.normal(size=2 * (SIDE + 2 * MARGIN,)), (0, 0), s) * s for s in (1.5, 4)]
    large = (130 + 25 * np.sum(noises, axis=0) / np.std(noises)).astype(np.float32)
    y, x = np.mgrid[0:SIDE, 0:SIDE].astype(np.float32)
    near = sum(np.exp(-((x - a) ** 2 + (y - b) ** 2) / 200) for a, b in FIVE[3:])
    head = drift * np.sin(np.arange(count) / count * 1.5)
    pictures = []
    for frame in range(count):
        down = MARGIN + y + 1.5 * near * np.float32(moved[frame])
        picture = cv2.remap(large, MARGIN + x - np.float32(head[frame]), down, cv2.INTER_CUBIC)
        if eyes is not None:
            picture = picture * (1 - 0.7 * eyes[frame] * sum(
                np.exp(-((x - a) ** 2 / 60 + (y - b) ** 2 / 12)) for a, b in FIVE[:2]))  # fmt: skip
        picture = picture * (1 + flicker * np.sin(2.1 * frame)) + noise * rng.normal(size=picture.shape)
        pictures.append(np.repeat(np.clip(picture, 0, 255).round().astype(np.uint8)[..., None], 3, axis=2))
    points = (FIVE[None] + np.stack([head, 0 * head], axis=1)[:, None]).astype(np.float32)
    clip = Clip("d", "s", "c", tuple(Path(f"{i}.png") for i in range(count)), fps=60.0, **annotation)
    return FaceClip(clip, None, Lazy(pictures), points)


def labelled(event=(5, 20, 25, 45), count=60, **disturbed):
    return recording(course(count, event), onset=0, offset=count - 1, **disturbed)


def apex(module, face, **options):
    (moment,) = module.locate(face, module.Options(**options))
    return moment.apex


# middle


def test_the_middle_rounds_down_and_the_annotated_apex_is_not_looked_at():
    for onset, offset, at in ((0, 4, 2), (0, 3, 1), (10, 11, 10), (7, 7, 7)):
        clip = Clip("d", "s", "c", Path("a.mp4"), onset=onset, apex=offset, offset=offset)
        assert middle.locate(FaceClip(clip, None), middle.Options()) == [Moment(onset, at, offset)]


@pytest.mark.parametrize("known", [{}, {"onset": 3}, {"offset": 9}])
def test_the_middle_of_what_is_not_annotated(known):
    face = FaceClip(Clip("d", "s", "c", (Path("a.png"),) * 20, **known), None)
    with pytest.raises(UserError, match="d/s/c: want an annotated onset and offset, got none"):
        middle.locate(face, middle.Options())


@pytest.mark.data
def test_the_middle_is_what_others_took_for_smic(real):
    """The public list of guessed apexes of SMIC-HS."""
    rows = (real / "landmarks68" / "smic" / "coding.csv").read_text().split()[1:]
    assert len(rows) > 100
    for row in rows:
        *_, onset, guessed, offset = row.split(",")
        clip = Clip("smic", "s", "c", Path("a"), onset=int(onset), offset=int(offset))
        (moment,) = middle.locate(FaceClip(clip, None), middle.Options())
        assert moment.apex == int(guessed)


# truth


@pytest.mark.parametrize("disturbed", [{"noise": 0}, {}, {"flicker": 0.03}])
@pytest.mark.parametrize("module", [flow_peak, frame_difference])
def test_the_apex_is_in_the_hold(module, disturbed):
    for seed, event in enumerate([(5, 20, 25, 45), (10, 16, 20, 50), (8, 40, 46, 58)]):
        assert event[1] - 1 <= apex(module, labelled(event, seed=seed, **disturbed)) <= event[2] + 1


def test_divide_and_conquer_finds_the_hold_of_clean_pictures():
    for seed, event in enumerate([(5, 20, 25, 45), (10, 16, 20, 50), (8, 40, 46, 58)]):
        assert event[1] - 4 <= apex(dc_rois, labelled(event, seed=seed, noise=0)) <= event[2] + 4


def test_the_source_s_sums_prefer_the_half_with_more_peaks():
    """Known limit: a long fall has more local peaks than a short hold."""
    face = labelled((10, 16, 20, 50), seed=1, noise=0)
    assert 20 < apex(dc_rois, face, search="exhaustive") < 50


def test_flow_takes_the_head_out_unless_told_not_to():
    drifting = [labelled(drift=2.5, seed=seed) for seed in range(3)]
    assert all(18 <= apex(flow_peak, face) <= 27 for face in drifting)
    kept = [apex(flow_peak, face, head="none") for face in drifting]
    assert not all(18 <= at <= 27 for at in kept)


def drawn(**disturbed):
    """A drawn face whose mouth corners rise by 1.5 px, and where they are highest; its true landmarks."""
    scene = Scene(60, Expression(8, 24, 48, {"12": 1.5}, hold=4), 3, (300, 300), Disturbance(**disturbed), seed=5)
    points = np.stack([scene.landmarks(frame) for frame in range(60)])
    clip = Clip("d", "s", "c", tuple(Path(f"{i}.png") for i in range(60)), fps=100.0, onset=8, offset=48)
    return FaceClip(clip, None, Lazy([scene[frame] for frame in range(60)]), points)


@pytest.mark.parametrize("drift", ["smooth", "linear"])
def test_a_head_that_turns_and_nears_needs_more_than_the_nose(drift):
    face = drawn(drift_px=3, drift=drift, noise=2)
    assert 22 <= apex(flow_peak, face) <= 29
    assert not 22 <= apex(flow_peak, face, head="translation") <= 29
    five = replace(face, landmarks=landmarks.five(face.landmarks))
    assert 22 <= apex(flow_peak, five) <= 29


def test_with_the_head_still_nothing_is_lost():
    face = drawn()
    assert {apex(flow_peak, face, head=head) for head in ("similarity", "translation", "none")} <= {23, 24, 25}


def test_brightness_is_taken_out_unless_kept():
    flickering = [labelled(flicker=0.12, seed=seed) for seed in range(3)]
    found = {way: [apex(frame_difference, face, brightness=way, measure="plain") for face in flickering]
             for way in ("equal", "kept")}  # fmt: skip
    assert all(19 <= at <= 26 for at in found["equal"])
    assert not all(19 <= at <= 26 for at in found["kept"])


def test_a_blink_is_no_apex():
    blink = np.zeros(60)
    blink[50:56] = 1
    assert 19 <= apex(flow_peak, labelled(eyes=blink)) <= 26


@pytest.mark.parametrize("module", [flow_peak, frame_difference])
def test_a_recording_gives_each_expression_once(module):
    events = [(60, 70, 73, 88), (170, 180, 184, 200)]
    face = recording(course(260, *events))
    found = module.locate(face, module.Options())
    assert len(found) == 2
    for moment, (onset, start, stop, offset) in zip(found, events, strict=True):
        common = min(moment.offset, offset) - max(moment.onset, onset) + 1
        union = max(moment.offset, offset) - min(moment.onset, onset) + 1
        assert common / union > 0.5
        assert start - 2 <= moment.apex <= stop + 2
        assert moment.offset - moment.onset == 30  # half a second at 60 frames a second
        assert moment.score > 0


def test_divide_and_conquer_in_a_recording():
    events = [(60, 70, 73, 88), (170, 180, 184, 200)]
    found = dc_rois.locate(recording(course(260, *events), noise=0), dc_rois.Options())
    assert [moment.onset <= event[1] <= moment.offset for moment, event in zip(found, events, strict=True)] == [
        True
    ] * 2


@pytest.mark.parametrize("module", LOOKING)
@pytest.mark.parametrize("noise", [0, 1, 3])
def test_nobody_moves(module, noise):
    assert module.locate(recording(np.zeros(150), noise=noise), module.Options()) == []


@pytest.mark.parametrize("module", LOOKING)
def test_a_labelled_clip_without_motion_has_no_apex(module):
    still = recording(np.zeros(20), noise=0, onset=2, offset=12)
    assert module.locate(still, module.Options()) == [Moment(2, None, 12, 0.0)]


def test_a_floor_of_zero_finds_what_common_spotters_find():
    still = recording(np.zeros(150), noise=1)
    assert frame_difference.locate(still, frame_difference.Options(least=0)) != []


# where it looks


def test_divide_and_conquer_looks_at_few_frames():
    for count in (60, 140, 300):
        face = labelled((5, 20, count // 2, count - 5), count)
        dc_rois.locate(face, dc_rois.Options())
        assert len(face.frames.read) == len(set(face.frames.read))  # none twice
        assert len(face.frames.read) <= 9 + 4 * np.ceil(np.log2(count / 8))
        assert len(face.frames.read) <= count / 3
    dc_rois.locate(face := labelled(), dc_rois.Options(search="exhaustive"))
    assert sorted(face.frames.read) == list(range(60))


def test_more_samples_look_at_more_and_end_at_the_exhaustive_search():
    face, looked = labelled(), []
    for samples in (4, 8, 16, 60):
        lazy = replace(face, frames=Lazy(face.frames.pictures))
        last = apex(dc_rois, lazy, samples=samples)
        looked.append(len(lazy.frames.read))
    assert looked == sorted(looked)
    assert looked[-1] == 60
    assert last == apex(dc_rois, face, search="exhaustive")


@pytest.mark.parametrize("module", [flow_peak, frame_difference])
def test_a_recording_is_read_once_in_order_and_then_only_inside_its_moments(module):
    face = recording(course(200, (60, 70, 73, 88)))
    (moment,) = module.locate(face, module.Options())
    assert face.frames.read[:200] == list(range(200))
    assert all(moment.onset <= frame <= moment.offset for frame in face.frames.read[200:])


class Endless(Sequence):
    """A recording of which each picture is made when it is read: its grey level is the frame's number."""

    def __init__(self, count):
        self.count = count

    def __len__(self):
        return self.count

    def __getitem__(self, index):
        return np.full((64, 64, 3), index % 256, np.uint8)


def test_pairs_are_frames_a_lag_apart():
    face = FaceClip(Clip("d", "s", "c", Path("a.mp4")), None, Endless(50))
    # three frames are too many for a lag of 5, so that no pair lies across
    found = list(_recordings.pairs(face, np.array([*range(10), *range(13, 50)]), 5))
    assert [pair[:2] for pair in found] == [(at + 2, at) for at in (*range(5), *range(13, 45))]
    for _, first, one, two in found:
        assert (round(255 * float(one[0, 0])), round(255 * float(two[0, 0]))) == (first, first + 5)


def test_of_frames_in_a_short_gap_the_nearest_are_taken():
    face = FaceClip(Clip("d", "s", "c", Path("a.mp4")), None, Lazy(Endless(60)))
    frames = np.array([*range(20), *range(22, 60)])  # 20 and 21 show no face
    found = list(_recordings.pairs(face, frames, 8))
    nearest = {20: 19, 21: 22}
    assert [at for at, *_ in found] == list(range(4, 56))  # none is missing
    for at, first, one, two in found:
        wanted = nearest.get(at - 4, at - 4), nearest.get(at + 4, at + 4)
        assert (first, round(255 * float(one[0, 0])), round(255 * float(two[0, 0]))) == (wanted[0], *wanted)
    assert face.frames.read == frames.tolist()  # each once, in order


def test_a_face_on_every_second_frame_is_enough():
    face = FaceClip(Clip("d", "s", "c", Path("a.mp4")), None, Endless(60))
    found = list(_recordings.pairs(face, np.arange(0, 60, 2), 7))
    assert [at for at, *_ in found] == list(range(3, 55))


@pytest.mark.parametrize(("missing", "parts"), [(0, 1), (1, 1), (6, 1), (7, 2), (30, 2)])
def test_gaps_of_a_quarter_of_half_an_expression_are_bridged(missing, parts):
    frames = np.array([*range(40), *range(40 + missing, 100)])
    found = _recordings.stretches(frames, 25)
    assert len(found) == parts
    assert np.concatenate(found).tolist() == frames.tolist()


# the apex is frame 90, half an expression 25 frames
ONE = [[90], [89], [78], [77], [103], [40]]
MORE = [list(range(88, 93)), list(range(76, 81)), [70, 78, 90, 91, 103], list(range(50, 130, 2))]


@pytest.mark.parametrize("gap", [*ONE, *MORE], ids=str)
@pytest.mark.parametrize("module", [flow_peak, frame_difference, dc_rois])
def test_a_face_that_is_lost_for_a_moment_does_not_hide_an_expression(whole, module, gap):
    face, known = whole[0], whole[1][module]
    lost = face.landmarks.copy()
    lost[gap] = np.nan
    face = replace(face, landmarks=lost, frames=Lazy(face.frames.pictures))
    (moment,) = module.locate(face, module.Options())
    assert abs(moment.onset - known.onset) <= 3
    assert abs(moment.offset - known.offset) <= 3
    if module is not dc_rois:  # its search jumps where a frame more or less is there
        assert abs(moment.apex - known.apex) <= 5
    assert not {moment.onset, moment.apex, moment.offset} & set(gap)
    assert not set(face.frames.read) & set(gap)


@pytest.mark.parametrize("gap", [range(84, 96), range(93, 101), range(20, 60), range(118, 180)], ids=str)
@pytest.mark.parametrize("module", [flow_peak, frame_difference, dc_rois])
def test_a_face_that_is_lost_for_long_cuts_a_recording(whole, module, gap):
    face, known = whole[0], whole[1][module]
    lost = face.landmarks.copy()
    lost[list(gap)] = np.nan
    face = replace(face, landmarks=lost, frames=Lazy(face.frames.pictures))
    found = module.locate(face, module.Options())
    assert all(moment.offset < gap[0] or moment.onset > gap[-1] for moment in found)
    assert not set(face.frames.read) & set(gap)
    if gap[0] > known.offset or gap[-1] < known.onset:  # away from the expression
        assert [moment.onset <= 90 <= moment.offset for moment in found] == [True]


@pytest.fixture(scope="module")
def whole():
    """A recording of one expression at 100 frames a second, and what each spotter finds while the face is there."""
    face = recording(course(200, (70, 88, 92, 112)), noise=0.5)
    face = replace(face, clip=replace(face.clip, fps=100.0))
    found = {}
    for module in LOOKING:
        (found[module],) = module.locate(face, module.Options())
        assert found[module].onset < 90 < found[module].offset
    return face, found


@pytest.mark.data
@pytest.mark.parametrize(("name", "first", "last"), [("face_noface.mov", 0, 71), ("noface_face.mov", 96, 167)])
def test_no_moment_reaches_into_the_frames_of_a_real_video_that_show_no_face(real, name, first, last):
    frames = video.open(real / "face_videos" / name)
    track = mesh.track(frames, range(len(frames)), mesh.Options())
    lost = track.landmarks.copy()
    lost[first + 20] = np.nan  # and one frame in the midst of a moment
    clip = Clip("d", "s", "c", real / "face_videos" / name, fps=frames.fps)
    for points in (track.landmarks, lost):
        seen = replace(track, landmarks=points)
        face = align.face(clip, frames, seen, None, align.Options())
        for module in LOOKING:
            found = module.locate(face, module.Options(share=0.1))
            print(name, module.__name__, [(moment.onset, moment.apex, moment.offset) for moment in found])
            assert all(first <= moment.onset <= moment.apex <= moment.offset <= last for moment in found)
            assert module is not flow_peak or found  # he moves


@pytest.mark.parametrize("count", [100, 2000])
def test_a_long_recording_needs_no_more_memory_than_a_short_one(count):
    face = FaceClip(Clip("d", "s", "c", Path("a.mp4")), None, Endless(count))
    tracemalloc.start()
    pairs = sum(1 for _ in _recordings.pairs(face, np.arange(count), 10))
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert pairs == count - 10
    assert most < 20 * 64 * 64 * 4  # the lag's eleven pictures and what is being made


@pytest.mark.parametrize("module", LOOKING)
def test_frames_without_a_face_are_neither_read_nor_in_a_moment(module):
    events = [(60, 70, 73, 88), (170, 180, 184, 200)]
    face = recording(course(260, *events))
    face.landmarks[100:140] = np.nan
    found = module.locate(face, module.Options())
    assert not set(face.frames.read) & set(range(100, 140))
    assert all(moment.offset < 100 or moment.onset >= 140 for moment in found)
    assert module is dc_rois or len(found) == 2


@pytest.mark.parametrize("module", LOOKING)
def test_a_face_that_comes_late_gives_the_reference(module):
    face = labelled((10, 30, 36, 50), noise=0)
    face.landmarks[:6] = np.nan
    assert 24 <= apex(module, face) <= 42
    assert min(face.frames.read) == 6


@pytest.mark.parametrize("module", LOOKING)
def test_a_labelled_clip_without_a_face(module):
    face = labelled()
    face.landmarks[:] = np.nan
    with pytest.raises(UserError, match="d/s/c: want a face between onset and offset, got none"):
        module.locate(face, module.Options())


@pytest.mark.parametrize("module", LOOKING)
def test_a_recording_without_any_face_has_no_moment(module):
    face = recording(np.zeros(20))
    face.landmarks[:] = np.nan
    assert module.locate(face, module.Options()) == []
    assert face.frames.read == []


@pytest.mark.parametrize("module", LOOKING)
def test_a_recording_without_a_frame_rate(module):
    face = recording(np.zeros(20))
    with pytest.raises(UserError, match="d/s/c: want a frame rate"):
        module.locate(replace(face, clip=replace(face.clip, fps=None)), module.Options())


@pytest.mark.parametrize("module", LOOKING)
def test_an_annotation_past_the_end(module):
    face = recording(np.zeros(20))
    clip = Clip("d", "s", "c", Path("a.mp4"), fps=60, onset=0, offset=30)
    with pytest.raises(UserError, match="want onset and offset < 20 frames, got 0, 30"):
        module.locate(replace(face, clip=clip), module.Options())


@pytest.mark.parametrize("module", LOOKING)
def test_published_flow_shows_nothing(module):
    flow = FlowFile(Path("a.png"), (0, 1), ("strain", "v", "u"))
    clip = Clip("d", "s", "c", None, onset=0, apex=1, offset=1, flow_files=(flow,))
    with pytest.raises(UserError, match="d/s/c: want frames to look at, got none"):
        module.locate(FaceClip(clip, None), module.Options())


@pytest.mark.parametrize("module", LOOKING)
@pytest.mark.parametrize("count", [1, 2, 3])
def test_short_clips(module, count):
    moved = np.linspace(0, 1, count) if count > 1 else np.zeros(1)
    assert module.locate(recording(moved), module.Options()) == []
    face = recording(moved, noise=0, onset=0, offset=count - 1)
    assert apex(module, face) in ({0} if count == 1 else set(range(1, count)))


# numbers below


def test_equation_1_is_the_cosine():
    one, two = np.array([0.5, 0.25, 0.25]), np.array([0.25, 0.5, 0.25])
    assert dc_rois.agreement(one, one, "corrected") == pytest.approx(1)
    assert dc_rois.agreement(one, two, "corrected") == pytest.approx((0.125 + 0.125 + 0.0625) / 0.375)
    assert dc_rois.agreement(one, two, "printed") == pytest.approx(0.3125 / np.sqrt(0.375 * 0.3125))
    assert dc_rois.agreement(np.array([1.0, 0]), np.array([1.0, 0]), "printed") == 0


def test_both_readings_of_the_equation_and_of_the_regions_find_the_hold():
    face = labelled(noise=0)
    for options in ({"equation": "printed"}, {"combine": "greatest"}, {"radius": 2}, {"blocks": 1}):
        assert 14 <= apex(dc_rois, face, **options) <= 31


def plain_search(values):
    """The source's way, written down plainly: peaks once, then halves by their sum."""
    peaks = [at for at in range(1, len(values) - 1) if values[at - 1] < values[at] > values[at + 1]]
    low, high = 0, len(values) - 1
    while len(peaks) != 1:
        middle_ = (low + high) // 2
        halves = [[at for at in peaks if at <= middle_], [at for at in peaks if at > middle_]]
        second = sum(values[at] for at in halves[1]) > sum(values[at] for at in halves[0])
        peaks, low, high = (halves[1], middle_ + 1, high) if second else (halves[0], low, middle_)
    return peaks[0]


def test_the_exhaustive_search_is_the_source_s():
    rng = np.random.default_rng(0)
    for count in (5, 17, 64, 101):
        for _ in range(20):
            values = rng.uniform(0.1, 1, count)
            values[0] = values[-1] = 0
            assert dc_rois.divide(lambda at: float(values[at]), count, count) == plain_search(values)  # noqa: B023


def test_on_one_peak_the_binary_search_ends_beside_it_and_asks_little():
    for count in (20, 61, 141, 1000):
        for at in range(2, count - 2, max(1, count // 23)):
            values = np.interp(np.arange(count), [0, at, count - 1], [0, 1, 0])
            asked = set()

            def rate(position, values=values, asked=asked):
                asked.add(position)
                return float(values[position])

            assert abs(dc_rois.divide(rate, count, 8) - at) <= max(1, count // 8)
            assert len(asked) <= 8 + 4 * np.ceil(np.log2(max(count / 8, 1)))


def test_a_rising_curve_ends_at_its_end():
    assert dc_rois.divide(lambda at: at / 100, 100, 8) == 99
    assert dc_rois.divide(lambda at: 0.0, 100, 8) == 0
    assert dc_rois.divide(lambda at: 0.0, 1, 8) == 0


def test_codes_are_those_of_a_plain_loop():
    picture = np.random.default_rng(1).uniform(0, 1, (12, 14)).astype(np.float32)
    for radius in (1, 2, 3):
        codes = _lbp.codes_of(picture, radius)
        assert codes.shape == (12 - 2 * radius, 14 - 2 * radius)
        for row, column in ((0, 0), (2, 3), codes.shape):
            row, column = min(row, codes.shape[0] - 1), min(column, codes.shape[1] - 1)
            y, x, code = row + radius, column + radius, 0
            for bit in range(8):
                b, a = y - radius * np.sin(bit * np.pi / 4), x + radius * np.cos(bit * np.pi / 4)
                top, left = int(b + 1e-9), int(a + 1e-9)
                down, right = max(b - top, 0), max(a - left, 0)
                square = picture[top : top + 2, left : left + 2]
                weights = np.outer([1 - down, down], [1 - right, right])[: square.shape[0], : square.shape[1]]
                code |= int((square * weights).sum() >= picture[y, x] - 1e-6) << bit
            assert codes[row, column] == code


def test_histograms_are_shares_and_know_58_uniform_patterns():
    assert sorted(set(_lbp._uniform())) == list(range(59))
    assert (_lbp._uniform() == 58).sum() == 256 - 58
    flat = _lbp.histograms(np.full((20, 30), 0.3, np.float32), 1, 4)
    assert flat.shape == (4, 4, 59)
    assert np.allclose(flat[..., _lbp._uniform()[255]], 1)
    small = _lbp.histograms(np.random.default_rng(0).uniform(size=(4, 4)).astype(np.float32), 1, 5)
    assert small.shape == (2, 2, 59)
    assert np.allclose(small.sum(axis=-1), 1)
    bright = np.random.default_rng(0).uniform(0, 0.5, (20, 20)).astype(np.float32)
    assert np.array_equal(_lbp.codes_of(bright, 1), _lbp.codes_of(2 * bright, 1))  # light does not matter


def test_smoothing_leaves_gaps_and_is_a_mean():
    values = np.array([1.0, 2, np.nan, 4, 10, 0])
    found = _curves.smooth(values, 1)
    assert np.isnan(found[2])
    assert found[[0, 1, 3, 4, 5]] == pytest.approx([1.5, 1.5, 7, 14 / 3, 5])
    assert np.array_equal(_curves.smooth(values, 0), values, equal_nan=True)


def test_rising_fits_are_those_of_scikit_learn():
    from sklearn.isotonic import IsotonicRegression

    values = np.random.default_rng(0).normal(size=40).cumsum()
    errors = _curves._rising_errors(values)
    for last in range(1, 40):
        part = values[: last + 1]
        fit = IsotonicRegression().fit_transform(np.arange(last + 1), part)
        assert errors[last] == pytest.approx(((part - fit) ** 2).sum(), abs=1e-9)


def test_a_spike_beside_a_broad_peak_is_not_the_unimodal_apex():
    curve = np.exp(-((np.arange(60) - 20) ** 2) / 100)
    curve[50] = 1.2
    assert _curves.apex(curve, "highest") == 50
    assert _curves.apex(curve, "unimodal") == 20
    assert _curves.apex(np.ones(9), "unimodal") is None
    for at in (0, 5, 9):
        assert _curves.apex(-np.abs(np.arange(10.0) - at), "unimodal") == at


def test_intervals_are_apart_and_do_not_reach_into_gaps():
    curve = np.zeros(200)
    curve[[40, 46, 100, 150]] = [1, 0.9, 0.8, 0.1]
    curve[108:114] = np.nan
    found = _curves.intervals(curve, 5, 0.2, 0)
    assert [first <= at <= last for (first, _, last), at in zip(found, (40, 100), strict=True)] == [True, True]
    assert all(last < first for (_, _, last), (first, _, _) in pairwise(found))
    assert found[1][2] <= 107
    assert _curves.intervals(curve, 5, 0.2, 10) == []
    assert _curves.intervals(np.full(20, np.nan), 5, 0.2, 0) == []


def test_means_do_not_run_over_a_gap():
    """What follows the gap, perhaps another face, changes nothing before it."""
    curve = np.exp(-((np.arange(80) - 20) ** 2) / 50)
    curve[38:41] = np.nan
    ((first, at, last),) = _curves.intervals(curve, 10, 0.2, 0)
    assert (first, at, last) == (10, 20, 30)
    curve[41:46] = 0.9
    assert _curves.intervals(curve, 10, 0.2, 0)[0] == (10, 20, 30)


@pytest.mark.parametrize("count", [5, 68, 468])
def test_regions_lie_where_the_landmarks_are(count):
    points = np.random.default_rng(0).uniform(40, 90, (count, 2))
    shape = (SIDE, SIDE)
    groups = (_regions.eyes_and_mouth, _regions.brows_and_corners, _regions.cells)
    assert [len(group(points, shape)) for group in groups] == [3, 4, 10]
    for group in groups:
        for rows, columns in [*group(points, shape), _regions.nose(points, shape)]:
            assert 0 <= rows.start < rows.stop <= SIDE
            assert 0 <= columns.start < columns.stop <= SIDE


def test_eye_regions_hold_the_eyes_and_brow_regions_do_not():
    shape = (SIDE, SIDE)

    def holds(region, point):
        return region[0].start <= point[1] < region[0].stop and region[1].start <= point[0] < region[1].stop

    left, right, mouth = _regions.eyes_and_mouth(FIVE, shape)
    assert [holds(left, FIVE[0]), holds(right, FIVE[1]), holds(mouth, FIVE[3]), holds(left, FIVE[1])] == [1, 1, 1, 0]
    for part in (*_regions.brows_and_corners(FIVE, shape), *_regions.cells(FIVE, shape)):
        assert not any(holds(part, eye) for eye in FIVE[:2])


def test_landmarks_outside_of_the_picture_leave_something_to_measure():
    far = FIVE + 500
    for rows, columns in _regions.cells(far, (40, 30)):
        assert rows.stop - rows.start >= 4
        assert columns.stop - columns.start >= 4
    assert all(rows.stop <= 2 for rows, _ in _regions.cells(FIVE, (2, 2)))


def test_without_landmarks_the_regions_are_fractions_of_the_picture():
    face = replace(labelled(noise=0), landmarks=None)
    assert _regions.points(face, 0, (50, 100)) == pytest.approx(2 * _regions.points(face, 0, (25, 50)))
    assert _regions.points(replace(face, landmarks=np.empty((60, 0, 2), np.float32)), 0, (9, 9)).shape == (5, 2)
    for module in LOOKING:
        assert 14 <= apex(module, face) <= 31


@pytest.mark.parametrize(("side", "radius"), [(2, 1), (3, 2), (28, 5)])
def test_patterns_that_do_not_fit_say_what_to_change(side, radius):
    for ends in ({}, {"onset": 0, "offset": 29}):
        clip = Clip("d", "s", "c", tuple(Path(f"{i}.png") for i in range(30)), fps=25.0, **ends)
        pictures = np.random.default_rng(0).integers(0, 256, (30, side, side, 3), np.uint8)
        with pytest.raises(UserError, match=f"d/s/c: want .* spotting.radius = {radius}, got .*choose a smaller ra"):
            dc_rois.locate(FaceClip(clip, None, pictures), dc_rois.Options(radius=radius))


def test_the_smallest_parts_that_patterns_fit_in():
    spots = FIVE * 28 / SIDE
    sides = min(min(rows.stop - rows.start, columns.stop - columns.start)
                for rows, columns in _regions.eyes_and_mouth(spots, (28, 28)))  # fmt: skip
    fits = (sides - 1) // 2
    pictures = np.random.default_rng(0).integers(0, 256, (9, 28, 28, 3), np.uint8)
    clip = Clip("d", "s", "c", Path("a.mp4"), onset=0, offset=8)
    face = FaceClip(clip, None, pictures, np.repeat(spots[None], 9, 0).astype(np.float32))
    assert apex(dc_rois, face, radius=fits) is not None
    with pytest.raises(UserError, match="want eyes and mouth more than"):
        apex(dc_rois, face, radius=fits + 1)


# the head


def similar(shift, turn, grow, shape=(120, 100)):
    """Flow of a known similarity about the middle of the picture."""
    y, x = np.indices(shape, float)
    x, y = x - 50, y - 60
    cosine, sine = (1 + grow) * np.cos(turn), (1 + grow) * np.sin(turn)
    return np.stack([cosine * x - sine * y - x + shift[0], sine * x + cosine * y - y + shift[1]])


@pytest.mark.parametrize("known", [((0, 0), 0, 0), ((2.5, -1), 0, 0), ((0, 0), 0.03, 0), ((-3, 2), -0.02, 0.015)])
def test_a_similarity_is_found_to_the_letter(known):
    uv = similar(*known).astype(np.float32)
    for face in (np.ones((120, 100), bool), np.zeros((120, 100), bool), np.eye(120, 100, dtype=bool)):
        assert np.allclose(_head.similarity(uv, face), uv, atol=1e-5)


def test_a_part_that_moves_on_its_own_does_not_pull_the_head_along():
    rng = np.random.default_rng(2)
    head = similar((1.5, 0.5), 0.01, -0.01)
    uv = head + rng.normal(0, 0.02, head.shape)
    uv[1, 80:, 20:80] -= 1.5  # a fifth of the face
    found = _head.similarity(uv, np.ones((120, 100), bool))
    assert np.abs(found - head).max() < 0.05
    x, y = np.meshgrid(np.arange(100) - 50, np.arange(120) - 60)
    design = np.concatenate([np.stack([x, -y, 0 * x + 1, 0 * x], -1).reshape(-1, 4),
                             np.stack([y, x, 0 * x, 0 * x + 1], -1).reshape(-1, 4)])  # fmt: skip
    plain = design @ np.linalg.lstsq(design, uv.reshape(-1), rcond=None)[0]
    assert np.abs(plain.reshape(uv.shape) - head).max() > 0.4  # least squares alone


def test_the_face_is_where_its_landmarks_are():
    square = np.array([[10, 20], [60, 20], [60, 90], [10, 90]], float)
    mask = _regions.face(np.concatenate([square, np.full((64, 2), 40.0)]), (120, 100))
    assert mask.sum() == 51 * 71
    assert mask[20:91, 10:61].all()
    round_ = _regions.face(FIVE, (SIDE, SIDE))
    assert all(round_[int(y), int(x)] for x, y in FIVE)
    assert 0.2 < round_.mean() < 0.8
    assert not _regions.face(FIVE + 1e9, (SIDE, SIDE)).any()


def test_the_flow_method_is_named_for_the_cache():
    assert flow_peak.uses(flow_peak.Options(flow="farneback")) == (("flow", "farneback"),)
    assert 19 <= apex(flow_peak, labelled(), flow="farneback") <= 26
    with pytest.raises(UserError, match="want a name of the kind 'flow'"):
        flow_peak.locate(labelled(), flow_peak.Options(flow="farnebak"))


@pytest.mark.parametrize(
    ("module", "options"),
    [(flow_peak, {"regions": "face"}), (flow_peak, {"peak": "highest"}), (flow_peak, {"head": "translation"}),
     (frame_difference, {"measure": "plain"}), (frame_difference, {"reference": "both"}),
     (frame_difference, {"peak": "unimodal"}), (frame_difference, {"smooth": 2})],
)  # fmt: skip
def test_other_readings_find_the_hold_too(module, options):
    assert 18 <= apex(module, labelled(), **options) <= 27
