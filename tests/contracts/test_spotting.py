"""What every spotter must do: moments in order, apart, and inside the recording."""

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from fleeting import plugins
from fleeting.errors import UserError
from fleeting.records import Clip, FaceClip, FlowFile, Moment

COUNT = 60


@pytest.fixture(params=plugins.names("spotting"))
def spotter(request):
    return plugins.load("spotting", request.param)


class Watched(Sequence):
    """Pictures that know which of them were read, and cannot be written to."""

    def __init__(self, pictures):
        self.pictures, self.read = pictures, set()
        for picture in pictures:
            picture.flags.writeable = False

    def __len__(self):
        return len(self.pictures)

    def __getitem__(self, index):
        assert 0 <= index < len(self)
        self.read.add(int(index))
        return self.pictures[index]


def recording(looks, **annotation):
    """A bright bump moves between frames 20 and 40; a spotter that does not look gets no frames."""
    y, x = np.mgrid[0:48, 0:48]
    way = np.sin(np.pi * np.clip((np.arange(COUNT) - 20) / 20, 0, 1))
    pictures = [np.repeat(np.exp(-((x - 24 - 3 * at) ** 2 + (y - 24) ** 2) / 50)[..., None], 3, -1) for at in way]
    landmarks = np.random.default_rng(0).uniform(8, 40, (1, 68, 2)).repeat(COUNT, 0).astype(np.float32)
    landmarks += 3 * way[:, None, None].astype(np.float32)
    clip = Clip("d", "s", "c", tuple(Path(f"{i}.png") for i in range(COUNT)), fps=100.0, **annotation)
    if not looks:
        return FaceClip(clip, None)
    landmarks.flags.writeable = False
    return FaceClip(clip, None, Watched([(255 * picture).astype(np.uint8) for picture in pictures]), landmarks)


def check(moments, count):
    assert all(isinstance(moment, Moment) for moment in moments)
    for moment in moments:
        assert 0 <= moment.onset <= moment.offset < count
        assert moment.apex is None or moment.onset <= moment.apex <= moment.offset
    for first, second in pairwise(moments):
        assert first.offset < second.onset


@pytest.mark.parametrize("apex", [20, 30, 40, None])
def test_an_annotated_clip_gives_ordered_moments_inside(spotter, apex):
    face = recording(spotter.LOOKS, onset=20, apex=apex, offset=40)
    moments = spotter.locate(face, spotter.Options())
    check(moments, COUNT)
    assert [(moment.onset, moment.offset) for moment in moments] == [(20, 40)]
    assert moments == spotter.locate(face, spotter.Options())
    assert not spotter.LOOKS or face.frames.read <= set(range(20, 41))


def test_a_recording_without_annotation(spotter):
    """A spotter finds what it can, or says that it needs an annotation."""
    face = recording(spotter.LOOKS)
    moments, said = [], ""
    try:
        moments = spotter.locate(face, spotter.Options())
    except UserError as error:
        said = str(error)
    check(moments, COUNT)
    assert not said or (said.startswith("d/s/c: want ") and not spotter.LOOKS)


@pytest.mark.parametrize("gap", [range(25, 40), range(30, 42), range(30, 60)])
def test_frames_without_a_face_are_not_read_and_in_no_moment_of_a_recording(spotter, gap):
    if not spotter.LOOKS:
        pytest.skip("does not look")
    face = recording(True)
    landmarks = face.landmarks.copy()
    landmarks[gap] = np.nan
    moments = spotter.locate(replace(face, landmarks=landmarks), spotter.Options())
    check(moments, COUNT)
    assert all(moment.offset < gap[0] or moment.onset > gap[-1] for moment in moments)
    assert not face.frames.read & set(gap)


@pytest.mark.parametrize("frame", [20, 29, 30, 31, 40])
def test_a_face_that_one_frame_does_not_show_is_found_all_the_same(spotter, frame):
    if not spotter.LOOKS:
        pytest.skip("does not look")
    face = recording(True)
    landmarks = face.landmarks.copy()
    landmarks[frame] = np.nan
    before = spotter.locate(face, spotter.Options())
    moments = spotter.locate(
        replace(face, landmarks=landmarks, frames=Watched(face.frames.pictures)), spotter.Options()
    )
    check(moments, COUNT)
    assert len(moments) == len(before)
    assert not any(frame in (moment.onset, moment.apex, moment.offset) for moment in moments)


@pytest.mark.parametrize("points", [None, 0, 5, 468])
def test_any_landmarks_will_do_and_none(spotter, points):
    face = recording(spotter.LOOKS, onset=20, apex=30, offset=40)
    shape = (COUNT, points or 0, 2)
    landmarks = None if points is None else np.random.default_rng(1).uniform(5, 43, shape).astype(np.float32)
    (moment,) = spotter.locate(replace(face, landmarks=landmarks), spotter.Options())
    assert (moment.onset, moment.offset) == (20, 40)


@pytest.mark.parametrize("ends", [{}, {"onset": 0, "offset": COUNT - 1}])
def test_nothing_moves(spotter, ends):
    """No moment in a recording; a clip keeps its onset and offset, and a spotter that looks sees no apex."""
    if not spotter.LOOKS:
        pytest.skip("does not look")
    face = recording(True, **ends)
    still = replace(face, frames=[face.frames[0]] * COUNT)
    moments = spotter.locate(still, spotter.Options())
    found = [(moment.onset, moment.apex, moment.offset) for moment in moments]
    assert found == ([(0, None, COUNT - 1)] if ends else [])


@pytest.mark.parametrize("count", [1, 2])
def test_clips_of_one_and_two_frames(spotter, count):
    face = recording(spotter.LOOKS, onset=20, offset=19 + count)
    (moment,) = spotter.locate(face, spotter.Options())
    check([moment], COUNT)
    assert (moment.onset, moment.offset) == (20, 19 + count)


def test_other_plugins_that_it_uses_are_named(spotter):
    """What a result depends on must be known to the cache."""
    for kind, name in spotter.uses(spotter.Options()) if hasattr(spotter, "uses") else ():
        assert name in plugins.names(kind)


def test_published_flow_has_two_frames(spotter):
    if spotter.LOOKS:
        pytest.skip("published flow has no frames to look at")
    flow = FlowFile(Path("a.png"), (0, 1), ("strain", "v", "u"))
    clip = Clip("d", "s", "c", None, onset=0, apex=1, offset=1, flow_files=(flow,))
    (moment,) = spotter.locate(FaceClip(clip, None), spotter.Options())
    check([moment], 2)


def test_looks_is_said_and_options_are_closed(spotter):
    assert isinstance(spotter.LOOKS, bool)
    with pytest.raises(ValueError, match="Extra inputs are not permitted"):
        spotter.Options(no_such_option=1)
