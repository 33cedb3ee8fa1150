"""What every spotter must do: moments in order, apart, and inside the recording."""

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
    return FaceClip(clip, None, [(255 * picture).astype(np.uint8) for picture in pictures], landmarks)


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
    assert spotter.LOOKS or len(moments) == 1
    assert moments == spotter.locate(face, spotter.Options())


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
