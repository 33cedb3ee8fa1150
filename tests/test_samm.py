"""SAMM: the real sheet and its counts, the two corrected apexes, and folders with four digits."""

import shutil
from collections import Counter

import pytest

from fleeting import doctor
from fleeting.datasets import _fixes, _sheets, _standins, samm
from fleeting.errors import UserError

SHEET = "SAMM_Micro_FACS_Codes_v2.xlsx"
# clips whose pictures carry four digits in the released corpus
FOUR_DIGITS = ("013_1_12", "013_1_8", "017_3_2", "026_1_1", "026_1_2", "035_7_2")
HEADER = (
    "Subject", "Filename", "Inducement Code", "Onset Frame", "Apex Frame", "Offset Frame", "Duration", "Micro",
    "Action Units", "Estimated Emotion", "Objective Classes", "Notes",
)  # fmt: skip


@pytest.fixture(scope="module")
def standin(tmp_path_factory):
    """Not to be changed by a test."""
    root = tmp_path_factory.mktemp("samm")
    samm.write_standin(root)
    return root


@pytest.fixture(scope="module")
def clips(standin):
    return {clip.name: clip for clip in samm.load(standin)}


@pytest.fixture(scope="module")
def corpus(real, tmp_path_factory):
    """The real sheet and empty files in place of the frames. Not to be changed by a test."""
    root = tmp_path_factory.mktemp("real")
    shutil.copy(real / "annotations" / SHEET, root)
    for row in samm.annotations(root / SHEET):
        digits = 4 if row["clip"] in FOUR_DIGITS else 5
        fill(root / row["subject"] / row["clip"], range(int(row["onset"]), int(row["offset"]) + 1), digits)
    return root


def fill(place, numbers, digits=5):
    place.mkdir(parents=True)
    for number in numbers:
        (place / f"{place.parent.name}_{number:0{digits}d}.jpg").touch()


def row(subject, clip, onset, apex, offset):
    return (subject, clip, 1, onset, apex, offset, offset - onset + 1, "Micro - 1/2", "4+7", "Anger", 3)


# the real sheet


@pytest.mark.data
def test_every_row_of_the_real_sheet_is_a_clip_of_its_class(corpus):
    clips = samm.load(corpus)
    assert len(clips) == 159
    assert not [clip.problem for clip in clips if clip.problem]
    assert dict(Counter(clip.emotion for clip in clips)) == samm.INFO.counts["samm"]
    assert len({clip.subject for clip in clips}) == samm.INFO.subjects["samm"] == 29
    five = ("Anger", "Contempt", "Happiness", "Surprise", "Other")
    assert sum(clip.emotion in five for clip in clips) == 136


@pytest.mark.data
def test_a_whole_copy_is_sound_and_its_guessed_apex_is_told(corpus):
    report = doctor.examine("samm", corpus)
    assert report.sound
    assert not report.findings
    assert {(count.what, count.found) for count in report.counts} >= {("Anger", 57), ("Other", 26), ("clips", 159)}
    assert "anger" not in {count.what for count in report.counts}
    (guess,) = [notice for notice in report.notices if "uncertain" in notice]
    assert "028/028_4_1 at 1071: apex 1143 to 1113" in guess
    assert "1103 and 1105" in guess


@pytest.mark.data
def test_the_marks_of_the_real_sheet_become_positions(corpus):
    clips = {clip.name: clip for clip in samm.load(corpus)}
    lengths = sorted(len(clip.frames) for clip in clips.values())
    assert (lengths[0], lengths[79], lengths[-1]) == (30, 78, 101)
    for line in samm.annotations(corpus / SHEET):
        clip = clips[line["clip"]]
        assert (clip.subject, clip.fps) == (line["subject"], 200.0)
        assert (clip.onset, clip.offset) == (0, int(line["offset"]) - int(line["onset"]))
        if clip.name not in ("028_4_1", "032_3_1"):
            assert int(clip.frames[clip.apex].stem[4:]) == int(line["apex"])
    assert {name for name, clip in clips.items() if clip.frames[0].stem[4:] != clip.frames[0].stem[4:].zfill(5)} == set(
        FOUR_DIGITS
    )


@pytest.mark.data
def test_the_two_impossible_apexes_are_corrected_and_no_other(corpus):
    known = _fixes.read("samm")
    rows = {line["clip"]: line for line in samm.annotations(corpus / SHEET)}
    marks = {clip: [int(line[mark]) for mark in ("onset", "apex", "offset")] for clip, line in rows.items()}
    wrong = {clip for clip, (onset, apex, offset) in marks.items() if not onset <= apex <= offset}
    assert wrong == {"028_4_1", "032_3_1"}
    mended = {clip: _fixes.corrected(rows[clip], known)["apex"] for clip in wrong}
    assert mended == {"028_4_1": "1113", "032_3_1": "4930"}
    changed = {clip for clip, line in rows.items() if _fixes.corrected(line, known) != line}
    assert changed == wrong  # 013_1_9 is wrong in other copies only


@pytest.mark.data
def test_the_corrections_agree_with_the_sheet_of_the_long_videos(real):
    """Which counts the frames of 032_3_1 from 3,000 earlier, and confirms the offsets by the duration."""
    columns = {
        "clip": ("Filename",), "onset": ("Onset",), "apex": ("Apex",), "offset": ("Offset",), "duration": ("Duration",)
    }  # fmt: skip
    path = real / "annotations" / "SAMM_LongVideos_V2_Release.xlsx"
    long = {line["clip"]: line for line in _sheets.table(path, columns)}
    assert long["013_1_9"]["offset"] == _fixes.read("samm")["013", "013_1_9", "5658"].fields["offset"]
    assert (long["028_4_1"]["offset"], long["028_4_1"]["duration"]) == ("1134", "64")
    assert (long["032_3_1"]["onset"], long["032_3_1"]["offset"]) == ("1896", "1970")


@pytest.mark.data
def test_every_correction_is_of_a_row_of_the_real_sheet(real):
    rows = samm.annotations(real / "annotations" / SHEET)
    assert set(_fixes.read("samm")) <= {(line["subject"], line["clip"], line["onset"]) for line in rows}


@pytest.mark.data
def test_the_action_units_of_the_real_sheet_are_its_codes(corpus):
    units = {clip.name: clip.action_units for clip in samm.load(corpus)}
    assert units["007_6_1"] == units["007_6_5"] == ("(R6 or R12)", "R15")
    assert units["014_6_3"] == ("A/L12",)
    assert units["035_7_2"] == ("R14A or 17A or 24A",)
    assert all(units.values())


@pytest.mark.data
def test_the_rows_of_the_standin_are_rows_of_the_real_sheet(real, standin):
    known = samm.annotations(real / "annotations" / SHEET)
    assert all(line in known for line in samm.annotations(standin / SHEET))


@pytest.mark.data
def test_the_sheet_of_the_long_videos_is_not_taken_for_it(real, tmp_path):
    shutil.copy(real / "annotations" / "SAMM_LongVideos_V2_Release.xlsx", tmp_path)
    with pytest.raises(UserError, match=r"want the annotations of SAMM .* found what looks like SAMM long videos"):
        samm.load(tmp_path)


# every quirk


def test_the_preamble_is_skipped_and_the_classes_are_the_corpus_own(clips):
    assert len(clips) == 20
    assert {clip.emotion for clip in clips.values()} == set(samm.INFO.counts["samm"])
    assert len({clip.subject for clip in clips.values()}) == 12


def test_corrected_apexes_lie_inside_their_clips(clips):
    assert (clips["028_4_1"].onset, clips["028_4_1"].apex, clips["028_4_1"].offset) == (0, 42, 63)
    assert (clips["032_3_1"].onset, clips["032_3_1"].apex, clips["032_3_1"].offset) == (0, 34, 74)


def test_an_apex_one_frame_behind_the_onset_stays_as_the_sheet_has_it(clips):
    assert (clips["032_3_2"].onset, clips["032_3_2"].apex, clips["032_3_2"].offset) == (0, 1, 81)


def test_an_offset_with_swapped_digits_is_corrected(tmp_path):
    _standins.write_workbook(tmp_path / SHEET, [HEADER, row("013", "013_1_9", 5658, 5680, 5793)])
    fill(tmp_path / "013" / "013_1_9", range(5658, 5740))
    (clip,) = samm.load(tmp_path)
    assert (clip.problem, clip.offset) == ("", 81)


def test_letters_of_strength_stay_with_their_units(clips):
    assert clips["026_2_3"].action_units == ("4B", "7B", "43E")
    assert clips["010_4_2"].action_units == ("7B", "ref(43)")


def test_four_digits_are_read_as_five(clips):
    assert clips["013_1_8"].frames[clips["013_1_8"].apex].name == "013_0867.jpg"
    assert clips["018_7_1"].frames[clips["018_7_1"].apex].name == "018_10156.jpg"


def test_an_absent_apex_is_a_problem_and_another_absent_frame_is_not(clips):
    assert clips["010_4_2"].problem.startswith("want the picture of apex 6730, got 30 pictures from 6708 to 6738")
    assert [name for name, clip in clips.items() if clip.problem] == ["010_4_2"]
    gap = clips["007_7_1"]
    assert (len(gap.frames), gap.apex, gap.offset) == (40, 25, 39)


def test_folders_without_a_row_and_corrections_are_told(standin):
    first, guess, sure, last = samm.notices(standin)
    assert first == f"annotations from {SHEET}, frames from {standin / 'SAMM'}"
    assert guess.startswith(
        "samm_fixes.csv of the package corrects 028/028_4_1 at 1071: apex 1143 to 1113 (uncertain: "
    )
    assert sure.startswith("samm_fixes.csv of the package corrects 032/032_3_1 at 4896: apex 1930 to 4930 (apex 1930")
    assert last == "folders without a row, left out: 1 (007/007_9_9)"


@pytest.mark.parametrize("subject", ["006", 6, "6"])
@pytest.mark.parametrize("place", [".", "SAMM", "data/SAMM"])
def test_a_subject_has_three_digits_wherever_the_frames_lie(tmp_path, subject, place):
    _standins.write_workbook(tmp_path / SHEET, [HEADER, row(subject, "006_1_2", 5562, 5588, 5632)])
    fill(tmp_path / place / "006" / "006_1_2", range(5562, 5633))
    (clip,) = samm.load(tmp_path)
    assert (clip.key, clip.onset, clip.apex, clip.offset) == ("samm/006/006_1_2", 0, 26, 70)


def test_an_impossible_row_without_a_correction_quotes_the_sheet(tmp_path):
    rows = [row("006", "006_1_2", 5562, 5500, 5632), row("006", "006_1_3", 3912, 3948, 3988)]
    _standins.write_workbook(tmp_path / SHEET, [HEADER, *rows])
    for clip, numbers in (("006_1_2", range(5562, 5633)), ("006_1_3", range(3912, 3989))):
        fill(tmp_path / "006" / clip, numbers)
    bad, good = samm.load(tmp_path)
    assert bad.problem == (
        "want onset <= apex <= offset, got 5562, 5500, 5632; fix the row or add it to samm_fixes.csv"
    )
    assert not good.problem


def test_a_clip_named_twice_is_an_error(tmp_path):
    _standins.write_workbook(tmp_path / SHEET, [HEADER, *[row("006", "006_1_2", 5562, 5588, 5632)] * 2])
    fill(tmp_path / "006" / "006_1_2", range(5562, 5633))
    with pytest.raises(UserError, match="want unique clip keys, got 006/006_1_2 twice"):
        samm.load(tmp_path)


def test_a_sheet_without_frames_says_which_frames(tmp_path):
    _standins.write_workbook(tmp_path / SHEET, [HEADER, row("006", "006_1_2", 5562, 5588, 5632)])
    with pytest.raises(UserError, match=r"want the frames of SAMM \(006/006_1_2/006_05562\.jpg"):
        samm.load(tmp_path)
