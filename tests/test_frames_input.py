"""The frame study's input: which frames AF, KFS and MFS take, under which names, and how they look."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from pydantic import ValidationError

from fleeting.errors import UserError
from fleeting.inputs import frames
from fleeting.inputs.frames import Options
from fleeting.records import Clip, FaceClip, FlowFile, Moment

MOMENT = Moment(10, 30, 60)


def face(moment=MOMENT, side=16):
    """Frame i is all (i, 2 i, 3 i)."""
    pictures = np.empty((80, side, side, 3), np.uint8)
    pictures[:] = (np.arange(80)[:, None] * [1, 2, 3])[:, None, None]
    clip = Clip("casme2", "sub01", "EP01", tuple(Path(f"{i}.jpg") for i in range(80)), onset=10, offset=60)
    return FaceClip(clip, moment, pictures)


def views(moment=MOMENT, **options):
    """Name -> the frame that is seen there, in order."""
    made = frames.make(face(moment), {}, Options(**options))
    assert all(view.x["frame"].dtype == np.uint8 for view in made)
    assert all(not view.train_only for view in made)  # all are tested and voted on
    return {view.name: int(view.x["frame"][0, 0, 0]) for view in made}


def test_apex_frame():
    assert views(sampling="AF") == {"apex": 30}


def test_key_frames_in_order():
    found = views(sampling="KFS")
    assert found == {"onset": 10, "apex": 30, "offset": 60}
    assert list(found.values()) == [10, 30, 60]


def test_the_windows_of_the_paper_frame_by_frame():
    assert views() == {
        "onset": 10, "onset+1": 11, "onset+2": 12, "onset+3": 13,
        "apex-2": 28, "apex-1": 29, "apex": 30, "apex+1": 31, "apex+2": 32,
        "offset-3": 57, "offset-2": 58, "offset-1": 59, "offset": 60,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("moment", "wanted"),
    [
        # 8 and 9 lie before the onset
        (Moment(10, 10, 60), ["apex", "apex+1", "apex+2", "onset+3", "offset-3", "offset-2", "offset-1", "offset"]),
        # the windows of onset and apex share 13 and 14; those of apex and offset 17
        (
            Moment(11, 15, 19),
            ["onset", "onset+1", "apex-2", "apex-1", "apex", "apex+1", "apex+2", "offset-1", "offset"],
        ),
        (Moment(10, 12, 13), ["apex-2", "apex-1", "apex", "apex+1"]),
        (Moment(10, 30, 30), ["onset", "onset+1", "onset+2", "onset+3", "offset-3", "apex-2", "apex-1", "apex"]),
        (Moment(10, 10, 10), ["apex"]),
    ],
)
def test_a_short_moment_has_no_frame_twice_and_none_outside(moment, wanted):
    found = views(moment)
    assert list(found) == wanted
    assert list(found.values()) == sorted(set(found.values()))
    assert moment.onset <= min(found.values()) <= max(found.values()) <= moment.offset
    assert found["apex"] == moment.apex


def test_key_frames_that_coincide_are_one():
    assert views(Moment(10, 60, 60), sampling="KFS") == {"onset": 10, "apex": 60}


@pytest.mark.parametrize("sampling", ["AF", "KFS", "MFS"])
def test_plan_names_the_frames_that_are_seen_and_no_pair(sampling):
    plan = frames.plan(MOMENT, Options(sampling=sampling))
    assert list(plan.frames) == list(views(sampling=sampling).values())
    assert plan.pairs == ()


@pytest.mark.data
def test_counts_on_the_sheet_of_casme2(real):
    """The windows give up to 13 frames a clip; neither 10.25 nor 2,061 frames of 201 clips."""
    sheet = pd.read_excel(real / "annotations" / "CASME2-coding-20140508.xlsx", engine="calamine")
    moments = [
        Moment(int(onset), int(apex), int(offset))
        for onset, apex, offset in zip(sheet["OnsetFrame"], sheet["ApexFrame"], sheet["OffsetFrame"], strict=True)
    ]
    assert len(moments) == 255
    totals = {
        sampling: sum(len(frames.plan(moment, Options(sampling=sampling)).frames) for moment in moments)
        for sampling in ("AF", "KFS", "MFS")
    }
    assert totals == {"AF": 255, "KFS": 760, "MFS": 3276}
    assert totals["MFS"] / 255 == pytest.approx(12.85, abs=0.005)
    full = sum(len(frames.plan(moment, Options()).frames) == 13 for moment in moments)
    assert full == 244


# --- together


def together(moment=MOMENT, **options):
    """The frames that are seen in the one view, in order."""
    (view,) = frames.make(face(moment), {}, Options(views="together", **options))
    assert view.name == "clip"
    assert not view.train_only
    assert view.x["frames"].dtype == np.uint8
    return view.x["frames"][0, :, 0, 0].tolist()


def test_the_windows_together_frame_by_frame():
    assert together() == [10, 11, 12, 13, 28, 29, 30, 31, 32, 57, 58, 59, 60]
    assert together(sampling="KFS") == [10, 30, 60]
    assert together(sampling="AF") == [30]
    assert together() == list(views().values())


@pytest.mark.parametrize(
    ("moment", "wanted"),
    [
        # 8 and 9 are held at the onset
        (Moment(10, 10, 60), [10, 10, 10, 10, 11, 11, 12, 12, 13, 57, 58, 59, 60]),
        # frames of two windows are there twice
        (Moment(11, 15, 19), [11, 12, 13, 13, 14, 14, 15, 16, 16, 17, 17, 18, 19]),
        # 61 and 62 are held at the offset
        (Moment(10, 60, 60), [10, 11, 12, 13, 57, 58, 58, 59, 59, 60, 60, 60, 60]),
        (Moment(10, 10, 10), [10] * 13),
    ],
)
def test_a_short_moment_together_has_as_many_frames_in_order(moment, wanted):
    assert together(moment) == wanted
    assert set(wanted) == set(views(moment).values())  # the same frames, some of them twice
    assert list(frames.plan(moment, Options(views="together")).frames) == sorted(set(wanted))


@pytest.mark.parametrize(("sampling", "length"), [("AF", 1), ("KFS", 3), ("MFS", 13)])
@pytest.mark.parametrize(("colour", "channels"), [("rgb", 3), ("grey", 1)])
def test_together_time_is_the_second_axis(sampling, length, colour, channels):
    options = Options(sampling=sampling, views="together", colour=colour, size=8)
    (view,) = frames.make(face(), {}, options)
    assert view.x["frames"].shape == (channels, length, 8, 8)
    assert frames.channels(options) == {"frames": ("r", "g", "b") if colour == "rgb" else ("grey",)}
    single = frames.make(face(), {}, options.model_copy(update={"views": "each"}))
    assert np.array_equal(view.x["frames"], np.stack([one.x["frame"] for one in single], axis=1))


@pytest.mark.data
def test_every_clip_of_casme2_has_thirteen_frames_together(real):
    sheet = pd.read_excel(real / "annotations" / "CASME2-coding-20140508.xlsx", engine="calamine")
    for onset, apex, offset in zip(sheet["OnsetFrame"], sheet["ApexFrame"], sheet["OffsetFrame"], strict=True):
        moment = Moment(int(onset), int(apex), int(offset))
        held = frames._held(moment, Options())
        assert len(held) == 13
        assert held == sorted(held)
        assert set(held) == set(frames.plan(moment, Options()).frames)


# --- how they look


def test_the_size_of_the_faces_is_kept():
    clip = face()
    clip.frames[30] = np.random.default_rng(0).integers(0, 256, (16, 16, 3))
    (view,) = frames.make(clip, {}, Options(sampling="AF"))
    assert np.array_equal(view.x["frame"], clip.frames[30].transpose(2, 0, 1))
    assert view.x["frame"].flags.c_contiguous
    assert frames.channels(Options()) == {"frame": ("r", "g", "b")}


def test_size_and_grey():
    options = Options(sampling="AF", size=8, colour="grey")
    (view,) = frames.make(face(), {}, options)
    assert view.x["frame"].shape == (1, 8, 8)
    # .299 r + .587 g + .114 b of (30, 60, 90)
    assert set(view.x["frame"].ravel()) == {round(0.299 * 30 + 0.587 * 60 + 0.114 * 90)}
    assert frames.channels(options) == {"frame": ("grey",)}


@pytest.mark.parametrize(("size", "wanted"), [(8, {100}), (64, {0, 200})])
def test_smaller_is_the_mean_and_larger_is_between(size, wanted):
    clip = face()
    clip.frames[30, :, ::2], clip.frames[30, :, 1::2] = 0, 200
    (view,) = frames.make(clip, {}, Options(sampling="AF", size=size))
    assert view.x["frame"].shape == (3, size, size)
    assert {int(view.x["frame"].min()), int(view.x["frame"].max())} == wanted


def test_grey_frames_of_an_alignment_are_what_they_were():
    clip = face()
    clip.frames[30] = 77
    (view,) = frames.make(clip, {}, Options(sampling="AF", colour="grey"))
    assert set(view.x["frame"].ravel()) == {77}


# --- what is refused


def test_no_apex_no_frames_or_too_few():
    with pytest.raises(UserError, match="want a moment with an apex for frames, got none; choose a spotter"):
        frames.plan(Moment(10, None, 60), Options())
    file = FlowFile(Path("a.png"), (0, 1), ("strain", "v", "u"))
    published = Clip("casme2", "sub01", "EP01", None, onset=0, apex=1, offset=1, flow_files=(file,))
    with pytest.raises(UserError, match="casme2/sub01/EP01: want frame 0, got published flow without frames; choose"):
        frames.make(FaceClip(published, Moment(0, 1, 1)), {}, Options())
    short = FaceClip(face().clip, MOMENT, face().frames[:40])
    with pytest.raises(UserError, match="casme2/sub01/EP01: want frame 57, got 40 frames"):
        frames.make(short, {}, Options())


@pytest.mark.parametrize("wrong", [{"sampling": "all"}, {"colour": "bgr"}, {"size": 0}, {"views": "all"}])
def test_options_that_are_none(wrong):
    with pytest.raises(ValidationError):
        Options(**wrong)
