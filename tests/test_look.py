"""Pictures to look at: they show what they say, and a picture that cannot be drawn or written says so."""

import errno
import re

import cv2
import numpy as np
import pytest

from fleeting import look, motion, page
from fleeting.errors import UserError
from fleeting.records import Clip, FaceClip, FlowField, FlowFile, Moment, Track

SIDE = 64


def frames(count, size=(SIDE, SIDE)):
    """Grey pictures, each a little lighter."""
    return [np.full((*size, 3), 100 + index, np.uint8) for index in range(count)]


def face(tmp_path, moment=Moment(10, 14, 20), count=40, points=68, fps=200.0):
    clip = Clip("own", "s1", "a", tmp_path / "a.mp4", fps=fps)
    spots = np.random.default_rng(0).uniform(5, SIDE - 5, (count, points, 2)).astype(np.float32)
    return FaceClip(clip, moment, frames(count), spots if points else None)


def uniform(u, v, side=SIDE):
    return FlowField(np.stack([np.full((side, side), u), np.full((side, side), v)]).astype(np.float32), "px")


def words(path):
    """The texts of an SVG."""
    return re.findall(r"<text[^>]*>([^<]*)</text>", path.read_text(encoding="utf-8"))


def drawn(tmp_path, *arguments, **named):
    look.draw(tmp_path / "a.svg", *arguments, **named)
    return words(tmp_path / "a.svg")


# --- a moment


def test_a_moment_says_its_frames_and_times(tmp_path):
    found = drawn(tmp_path, face(tmp_path), uniform(1, 0), (10, 14))
    for text in (
        "own/s1/a", "onset: frame 10, 0 ms", "apex: frame 14, +20 ms", "offset: frame 20, +50 ms",
        "flow, frame 10 to 14", "length of the flow", "optical strain", "px", "px/px", "1 px",
        "onset 10, 0 ms", "apex 14, +20 ms", "offset 20, +50 ms", "frames 0 to 30, of 40", "0", "30",
    ):  # fmt: skip
        assert text in found, text


def test_exact_time_stamps_stand_over_the_rate(tmp_path):
    times = np.arange(40) ** 2 / 1000
    found = drawn(tmp_path, face(tmp_path), uniform(1, 0), (10, 14), times)
    assert "apex: frame 14, +96 ms" in found


def test_without_a_rate_there_are_only_frames(tmp_path):
    found = drawn(tmp_path, face(tmp_path, fps=None), uniform(1, 0), (10, 14), title="A clip")
    assert {"A clip", "onset: frame 10", "apex 14"} <= set(found)
    assert not [text for text in found if text.endswith(" ms")]


def test_a_moment_without_apex_shows_the_second_frame(tmp_path):
    found = drawn(tmp_path, face(tmp_path, Moment(0, None, 9), points=0), uniform(1, 0), (0, 4))
    assert "second frame of the flow: frame 4, +20 ms" in found
    assert not [text for text in found if text.startswith("apex")]


def region(path, column, row):
    """The inner half of a picture of the sheet."""
    picture = cv2.cvtColor(cv2.imread(str(path)), cv2.COLOR_BGR2RGB)
    left, top = page.EDGE + column * (look._SIDE + look._BESIDE), (0.75, 3.85)[row]
    inner = slice(int((top + look._SIDE / 4) * 150), int((top + look._SIDE * 3 / 4) * 150))
    return picture[inner, int((left + look._SIDE / 4) * 150) : int((left + look._SIDE * 3 / 4) * 150)]


@pytest.mark.parametrize(("u", "v"), [(1, 0), (0, 1), (-2, 0), (0.3, -0.3)])
def test_the_picture_shows_frames_and_the_colour_of_the_flow(tmp_path, u, v):
    path = tmp_path / "a.png"
    field = uniform(u, v)
    look.draw(path, face(tmp_path, points=0), field, (10, 14))
    for column, index in enumerate((10, 14, 20)):
        assert np.median(region(path, column, 0)) == 100 + index
    wanted = motion.colours(field.uv, 1.001 * float(np.hypot(u, v)))[0, 0].astype(int)
    assert np.abs(np.median(region(path, 0, 1), axis=(0, 1)) - wanted).max() <= 1


def test_what_does_not_move_is_pale(tmp_path):
    path = tmp_path / "a.png"
    noise = np.random.default_rng(0).normal(0, 0.002, (2, SIDE, SIDE)).astype(np.float32)
    look.draw(path, face(tmp_path, points=0), FlowField(noise, "px"), (10, 14))
    assert region(path, 0, 1).min() > 220
    assert np.median(region(path, 1, 1)) > 200


def test_strain_stands_out_where_it_is(tmp_path):
    path = tmp_path / "a.png"
    uv = np.zeros((2, SIDE, SIDE), np.float32)
    uv[0, :, SIDE // 2 :] = 1
    look.draw(path, face(tmp_path, points=0), FlowField(uv, "px"), (10, 14))
    light = region(path, 2, 1).mean(axis=(0, 2))
    assert light.argmin() == pytest.approx(len(light) / 2, abs=8)
    assert light.min() < light[5] - 50


def test_published_flow_is_drawn_as_it_is(tmp_path):
    clip = Clip(
        "casme2", "sub01", "EP02_01f", None, flow_files=(FlowFile(tmp_path / "a.png", (0, 1), ("strain", "v", "u")),)
    )
    values = np.random.default_rng(0).random((3, 28, 28)).astype(np.float32)
    one = FaceClip(clip, Moment(0, 1, 1))
    found = drawn(tmp_path, one, FlowField(values[:2], "minmax", values[2]), (0, 1))
    assert {"casme2/sub01/EP02_01f", "u, onset to apex", "v, onset to apex", "optical strain, as published"} <= set(
        found
    )
    assert found.count("min-max scaled: no sign, no zero") == 2
    assert "px" not in found
    bare = drawn(tmp_path, one, FlowField(values[:2], "minmax"), (0, 1))
    assert not [text for text in bare if "strain" in text]


def test_flow_of_another_size_has_the_outline_in_its_place(tmp_path):
    one = face(tmp_path)
    points = look._outline(one, uniform(1, 0, 28), (10, 14))
    assert np.allclose((points + 0.5) / 28, (one.landmarks[10] + 0.5) / SIDE)
    assert look._outline(face(tmp_path, points=5), uniform(1, 0), (10, 14)) is None
    one.landmarks[10] = np.nan
    assert look._outline(one, uniform(1, 0), (10, 14)) is None
    look.draw(tmp_path / "a.png", one, uniform(1, 0, 28), (10, 14))


@pytest.mark.parametrize("suffix", [".png", ".svg", ".pdf", ".PNG"])
def test_the_ending_names_the_format_and_twice_is_the_same(tmp_path, suffix):
    starts = {".png": b"\x89PNG", ".svg": b"<?xml", ".pdf": b"%PDF"}
    paths = [tmp_path / "new" / f"{number}{suffix}" for number in range(2)]
    for path in paths:
        look.draw(path, face(tmp_path), uniform(1, 0), (10, 14))
        assert path.read_bytes().startswith(starts[suffix.lower()])
    assert paths[0].read_bytes() == paths[1].read_bytes()


def test_pictures_that_cannot_be_written(tmp_path, monkeypatch):
    for name in ("a.gif", "a"):
        with pytest.raises(UserError, match=r"want a picture in \.pdf, \.png, \.svg, got"):
            look.draw(tmp_path / name, face(tmp_path), uniform(1, 0), (10, 14))

    def full(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(look.Figure, "savefig", full)
    with pytest.raises(UserError, match=r"a\.png: cannot be written \(No space left on device\)"):
        look.draw(tmp_path / "a.png", face(tmp_path), uniform(1, 0), (10, 14))
    assert list(tmp_path.iterdir()) == []


def test_the_settings_of_matplotlib_are_left_alone(tmp_path):
    before = dict(look.mpl.rcParams)
    look.draw(tmp_path / "a.png", face(tmp_path), uniform(1, 0), (10, 14))
    assert dict(look.mpl.rcParams) == before


# --- a recording


def track(state, points=468):
    spots = np.random.default_rng(0).uniform(20, 50, (len(state), points, 2)).astype(np.float32)
    spots[np.asarray(state) != 1] = np.nan
    return Track(spots, np.array(state, np.int8))


@pytest.mark.parametrize(
    ("state", "title"),
    [
        ([1] * 20, "a face on all 20 frames"),
        ([-1, 1, -1, 1], "a face on all 2 frames that were looked at"),
        ([1] * 5 + [0] * 3 + [1] + [0], "a face on 6 of 10 frames; none on 5 to 7, 9"),
        ([0] * 4, "a face on 0 of 4 frames; none on 0 to 3"),
        ([1, 0] * 8, "a face on 8 of 16 frames; none on 1, 3, 5, 7, 9, 11 and 2 more stretches"),
    ],
)
def test_a_strip_names_the_frames_without_a_face(tmp_path, state, title):
    path = tmp_path / "a.svg"
    look.track_strip(path, frames(len(state), (72, 128)), track(state))
    assert title in words(path)
    assert ("no face" in words(path)) == (0 in state)
    assert ("not looked at" in words(path)) == (-1 in state)


def test_a_strip_shows_up_to_eight_frames(tmp_path):
    path = tmp_path / "a.svg"
    look.track_strip(path, frames(71), track([1] * 60 + [0] * 11))
    assert path.read_text().count("<image") == 8
    assert {"0", "10", "20", "60: no face", "70: no face"} <= set(words(path))


def test_a_strip_is_red_where_there_is_no_face(tmp_path):
    path = tmp_path / "a.png"
    look.track_strip(path, frames(100, (72, 128)), track([1] * 50 + [0] * 50))
    picture = cv2.cvtColor(cv2.imread(str(path)), cv2.COLOR_BGR2RGB)
    red, blue = (np.flatnonzero((np.abs(picture.astype(int) - colour).max(axis=2) < 8).sum(axis=0) > 30) for colour in (
        (0xB3, 0x26, 0x1E), (0x1F, 0x5F, 0x8B)
    ))  # fmt: skip
    assert blue.max() < red.min() <= blue.max() + 3
    assert len(red) == pytest.approx(len(blue), rel=0.02)


class Timed(list):
    """Frames of a variable rate."""

    times_s = np.concatenate([np.arange(10) / 10, 1 + np.arange(10)])
    fps = 1.9


def test_a_strip_has_seconds_where_they_are_known(tmp_path):
    path = tmp_path / "a.svg"
    look.track_strip(path, Timed(frames(20)), track([1] * 20))
    assert "s" in words(path)
    look.track_strip(path, frames(20), track([1] * 20))
    assert "s" not in words(path)


def test_a_strip_of_boxes_alone_and_of_nothing(tmp_path):
    boxes = np.tile(np.array([10, 10, 40, 50], np.float32), (6, 1))
    alone = Track(np.empty((6, 0, 2), np.float32), np.array([1, 0, 1, 0, 1, 1], np.int8), boxes)
    look.track_strip(tmp_path / "a.png", frames(6), alone)
    look.track_strip(tmp_path / "b.png", frames(6), Track(np.empty((6, 0, 2), np.float32), np.full(6, -1, np.int8)))
    assert (tmp_path / "a.png").stat().st_size > (tmp_path / "b.png").stat().st_size > 5000


def test_a_strip_of_another_recording(tmp_path):
    with pytest.raises(UserError, match=r"a\.png: want a track of 6 frames, got one of 5"):
        look.track_strip(tmp_path / "a.png", frames(6), track([1] * 5))
