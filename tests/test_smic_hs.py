"""SMIC-HS: a corpus of folders without a sheet, with subjects and frame numbers padded as it happens."""

import csv
from collections import Counter

import pytest

from fleeting import doctor
from fleeting.datasets import smic_hs
from fleeting.errors import UserError


@pytest.fixture(scope="module")
def standin(tmp_path_factory):
    """Not to be changed by a test."""
    root = tmp_path_factory.mktemp("smic")
    smic_hs.write_standin(root)
    return root


@pytest.fixture(scope="module")
def clips(standin):
    return {clip.name: clip for clip in smic_hs.load(standin)}


@pytest.fixture(scope="module")
def listed(real):
    """A published list of the real folders: names, classes, first and last frame as they are written."""
    with (real / "landmarks68" / "smic" / "coding.csv").open(encoding="utf-8-sig") as stream:
        return list(csv.DictReader(stream))


@pytest.fixture(scope="module")
def corpus(listed, tmp_path_factory):
    """Empty files in the place of the real frames. Not to be changed by a test."""
    root = tmp_path_factory.mktemp("real")
    for row in listed:
        place = root / "SMIC_all_raw" / "HS" / row["Subject"] / "micro" / row["Emotion"] / row["Filename"]
        fill(place, int(row["OnsetFrame"]), int(row["OffsetFrame"]), len(row["OnsetFrame"]))
    return root


def fill(place, first, last, digits=1, name="image"):
    place.mkdir(parents=True)
    for number in range(first, last + 1):
        (place / f"{name}{number:0{digits}d}.bmp").touch()


# the real names


@pytest.mark.data
def test_every_real_folder_is_a_clip_of_its_class(corpus):
    clips = smic_hs.load(corpus)
    assert len(clips) == 164
    assert not [clip.problem for clip in clips if clip.problem]
    assert dict(Counter(clip.emotion for clip in clips)) == smic_hs.INFO.counts["smic"]
    assert len({clip.subject for clip in clips}) == smic_hs.INFO.subjects["smic"] == 16


@pytest.mark.data
def test_a_whole_copy_is_sound(corpus):
    report = doctor.examine("smic_hs", corpus)
    assert report.sound
    assert {one.kind for one in report.findings} == {"no_apex"}


@pytest.mark.data
def test_real_names_are_padded_and_marks_are_the_end_frames(corpus, listed):
    clips = {clip.name: clip for clip in smic_hs.load(corpus)}
    for row in listed:
        number, rest = row["Filename"][1:].split("_", 1)
        clip = clips[f"s{int(number):02d}_{rest}"]
        assert clip.subject == f"s{int(number):02d}"
        assert (clip.onset, clip.apex, clip.offset) == (0, None, len(clip.frames) - 1)
        assert clip.frames[0].name == f"image{row['OnsetFrame']}.bmp"
        assert int(clip.frames[-1].stem[5:]) == int(row["OffsetFrame"])
        assert len(clip.frames) == int(row["OffsetFrame"]) - int(row["OnsetFrame"]) + 1


@pytest.mark.data
def test_the_names_of_the_standin_are_real(listed, standin):
    known = {row["Filename"]: row for row in listed}
    for place in standin.glob("SMIC_all_raw/HS/*/micro/*/*"):
        row = known[place.name]
        assert row["Emotion"] == place.parent.name
        pictures = {path.stem.removeprefix("image") for path in place.glob("*.bmp")}
        assert not pictures or {row["OnsetFrame"], row["OffsetFrame"]} <= pictures


# every quirk


def test_no_clip_has_an_apex_and_all_have_both_ends(clips):
    good = [clip for clip in clips.values() if not clip.problem]
    assert len(good) == 11
    assert {(clip.dataset, clip.fps, clip.apex, clip.onset, clip.action_units) for clip in good} == {
        ("smic", 100.0, None, 0, ())
    }
    assert all(clip.offset == len(clip.frames) - 1 for clip in good)


def test_numbers_with_and_without_a_zero_are_in_order(clips):
    assert [path.stem[5:] for path in clips["s02_po_01"].frames] == [f"{n:06d}" for n in range(76518, 76547)]
    assert len(clips["s05_ne_01"].frames[0].stem[5:]) == 7
    assert len(clips["s20_ne_01"].frames[0].stem[5:]) == 8


def test_digits_may_grow_inside_a_clip(tmp_path):
    place = tmp_path / "HS" / "s1" / "micro" / "negative" / "s1_ne_01"
    fill(place, 98, 102)
    (clip,) = smic_hs.load(tmp_path)
    assert [path.stem for path in clip.frames] == ["image98", "image99", "image100", "image101", "image102"]


def test_a_gap_is_no_problem_and_an_empty_folder_is(clips):
    assert len(clips["s01_ne_01"].frames) == 35
    assert [name for name, clip in clips.items() if clip.problem] == ["s03_ne_05"]
    assert clips["s03_ne_05"].problem.startswith("want pictures, got none in ")
    assert clips["s03_ne_05"].emotion == "negative"


def test_other_cameras_and_neutral_stretches_are_left_out(clips):
    assert len(clips) == 12
    assert {path.parts[-6] for clip in clips.values() for path in clip.frames or ()} == {"HS"}
    assert not any("non" in name for name in clips)


def test_raw_recordings_are_taken_before_crops_and_named(tmp_path):
    tail = "HS/s1/micro/positive/s1_po_01"
    fill(tmp_path / "SMIC_all_cropped" / tail, 5, 9, name="reg_image")
    assert smic_hs.load(tmp_path)[0].frames[0].name == "reg_image5.bmp"
    fill(tmp_path / "SMIC_all_raw" / "SMIC_all_raw" / tail, 5, 9)
    assert smic_hs.load(tmp_path)[0].frames[0].name == "image5.bmp"
    place = tmp_path / "SMIC_all_raw" / "SMIC_all_raw" / "HS"
    assert smic_hs.notices(tmp_path) == [f"frames from {place}; the corpus names no apex"]


@pytest.mark.parametrize("top", [".", "HS", "SMIC", "SMIC_all_raw/HS", "SMIC/SMIC_all_cropped/HS"])
@pytest.mark.parametrize("subject", ["s1", "s01"])
def test_the_layouts_that_copies_have(tmp_path, top, subject):
    middle = "HS" if top == "SMIC" else "."
    fill(tmp_path / top / middle / subject / "micro" / "Surprise" / f"{subject}_sur_01", 7, 11)
    (clip,) = smic_hs.load(tmp_path)
    assert (clip.key, clip.emotion, clip.offset) == ("smic/s01/s01_sur_01", "surprise", 4)


def test_one_clip_in_two_paddings_is_an_error(tmp_path):
    for subject in ("s1", "s01"):
        fill(tmp_path / "HS" / subject / "micro" / "negative" / f"{subject}_ne_01", 1, 3)
    with pytest.raises(UserError, match="want unique clip keys, got s01/s01_ne_01 twice"):
        smic_hs.load(tmp_path)


def test_the_long_videos_are_not_taken_for_it(tmp_path):
    fill(tmp_path / "SMIC-E_raw image" / "HS_long" / "HS" / "s1" / "s1_ne_01", 1, 3)
    with pytest.raises(UserError, match=r"want the frames of SMIC-HS \(SMIC_all_raw/HS/s1/micro/.*found none"):
        smic_hs.load(tmp_path)


def test_a_correction_is_keyed_by_the_first_frame(standin, tmp_path):
    fill(tmp_path / "HS" / "s1" / "micro" / "negative" / "s1_ne_01", 50, 60)
    fix = "subject,clip,onset,offset,emotion,reason\ns01,s01_ne_01,50,58,,the last two frames show a blink\n"
    (tmp_path / "smic_hs_fixes.csv").write_text(fix, encoding="utf-8")
    (clip,) = smic_hs.load(tmp_path)
    assert (clip.onset, clip.offset, len(clip.frames), clip.emotion) == (0, 8, 11, "negative")
