"""What every face tracker must do: one row a frame, and no look at a frame that nobody asked for."""

from collections.abc import Sequence

import numpy as np
import pytest

from fleeting import plugins
from fleeting.records import Track


class Watched(Sequence):
    """Frames that write down which of them were looked at."""

    def __init__(self, frames, source):
        self.frames, self.looked, self.source = frames, set(), source

    def __len__(self):
        return len(self.frames)

    def __getitem__(self, index):
        self.looked.add(index)
        return self.frames[index]


@pytest.fixture(params=plugins.names("faces"))
def tracker(request):
    return plugins.load("faces", request.param)


@pytest.fixture
def frames(tmp_path):
    """Six pictures of noise: no face is in them. Landmarks of them lie where `given` looks: two frames have none."""
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 256, (6, 96, 128, 3))
    points = rng.uniform(20, 90, (6, 68, 2))
    points[[1, 3]] = np.nan
    (tmp_path / "s1").mkdir()
    np.save(tmp_path / "s1" / "film.npy", points)
    return Watched([picture.astype(np.uint8) for picture in noise], tmp_path / "s1" / "film.mp4")


@pytest.mark.parametrize("which", [(), (0,), (1, 4), (0, 1, 2, 3, 4, 5)])
def test_a_track_has_a_row_a_frame(tracker, frames, which):
    track = tracker.track(frames, which, tracker.Options())
    assert isinstance(track, Track)
    assert track.landmarks.shape[::2] == (6, 2)
    assert (track.landmarks.dtype, track.state.dtype) == (np.float32, np.int8)
    assert set(track.state.tolist()) <= {-1, 0, 1}
    others = sorted(set(range(6)) - set(which))
    assert (track.state[others] == -1).all()
    assert frames.looked <= set(which)


def test_where_no_face_is_no_landmark_is(tracker, frames):
    track = tracker.track(frames, range(6), tracker.Options())
    without = track.landmarks[track.state != 1]
    assert np.isnan(without).all()
    assert np.isfinite(track.landmarks[track.state == 1]).all()
    assert track.boxes is None or np.isnan(track.boxes[track.state != 1]).all()


def test_the_same_frames_give_the_same_track(tracker, frames):
    first, second = (tracker.track(frames, (0, 3), tracker.Options()) for _ in range(2))
    assert np.array_equal(first.landmarks, second.landmarks, equal_nan=True)
    assert np.array_equal(first.state, second.state)
    assert first.notices == second.notices
    assert (first.boxes is None) == (second.boxes is None)
    assert first.boxes is None or np.array_equal(first.boxes, second.boxes, equal_nan=True)


def test_the_order_in_which_frames_are_asked_for_does_not_matter(tracker, frames):
    first, second = (tracker.track(frames, which, tracker.Options()) for which in ((0, 1, 4), (4, 0, 1, 4)))
    assert np.array_equal(first.landmarks, second.landmarks, equal_nan=True)
    assert np.array_equal(first.state, second.state)


def test_frames_are_not_changed(tracker, frames):
    before = [picture.copy() for picture in frames.frames]
    tracker.track(frames, range(6), tracker.Options())
    assert all(np.array_equal(one, two) for one, two in zip(frames.frames, before, strict=True))


def test_options_are_closed(tracker):
    with pytest.raises(ValueError, match="Extra inputs are not permitted"):
        tracker.Options(no_such_option=1)
