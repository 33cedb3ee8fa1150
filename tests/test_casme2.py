"""CASME II: the real sheets and their counts, the layouts on disk, and the rows that do not fit."""

import shutil
from collections import Counter

import pandas
import pytest

from fleeting import doctor
from fleeting.datasets import _fixes, _standins, casme2
from fleeting.errors import UserError

SHEETS = ("CASME2-coding-20140508.xlsx", "CASME2-coding-20190701.xlsx")
HEADER = ("Subject", "Filename", "OnsetFrame", "ApexFrame", "OffsetFrame", "Action Units", "Estimated Emotion")


@pytest.fixture(scope="module")
def standin(tmp_path_factory):
    """Not to be changed by a test."""
    root = tmp_path_factory.mktemp("casme2")
    casme2.write_standin(root)
    return root


@pytest.fixture(scope="module")
def clips(standin):
    return {clip.key.removeprefix("casme2/"): clip for clip in casme2.load(standin)}


@pytest.fixture(scope="module")
def corpus(real, tmp_path_factory):
    """The real 2014 sheet and empty files in place of the frames. Not to be changed by a test."""
    root = tmp_path_factory.mktemp("real")
    shutil.copy(real / "annotations" / SHEETS[0], root)
    for row in casme2.annotations(root / SHEETS[0]):
        place = root / "CASME2_RAW_selected" / row["subject"] / row["clip"]
        fill(place, range(int(row["onset"]), int(row["offset"]) + 1))
    return root


def fill(place, numbers, pattern="img{}.jpg"):
    place.mkdir(parents=True)
    for number in numbers:
        (place / pattern.format(number)).touch()


def write(root, *rows, header=HEADER):
    _standins.write_workbook(root / SHEETS[0], [header, *rows])


# the real sheets


@pytest.mark.data
def test_every_row_of_the_real_sheet_is_a_clip_of_its_class(corpus):
    clips = casme2.load(corpus)
    assert len(clips) == 255
    assert not [clip.problem for clip in clips if clip.problem]
    assert dict(Counter(clip.emotion for clip in clips)) == casme2.INFO.counts["casme2"]
    assert len({clip.subject for clip in clips}) == casme2.INFO.subjects["casme2"] == 26
    assert {clip.subject for clip in clips} == {f"sub{number:02d}" for number in range(1, 27)}
    assert sum(clip.emotion not in ("sadness", "fear") for clip in clips) == 246


@pytest.mark.data
def test_a_whole_copy_is_sound(corpus):
    report = doctor.examine("casme2", corpus)
    assert report.sound
    assert [(one.kind, one.key) for one in report.findings] == [
        ("no_apex", "casme2/sub04/EP12_01f"), ("still", "casme2/sub05/EP09_05f")]  # fmt: skip


@pytest.mark.data
def test_the_marks_of_the_real_sheet_become_positions(corpus):
    clips = {clip.key: clip for clip in casme2.load(corpus)}
    lengths = sorted(len(clip.frames) for clip in clips.values())
    assert (lengths[0], lengths[127], lengths[-1]) == (24, 61, 141)
    for row in casme2.annotations(corpus / SHEETS[0]):
        clip = clips[f"casme2/{row['subject']}/{row['clip']}"]
        assert (clip.onset, clip.offset) == (0, int(row["offset"]) - int(row["onset"]))
        if clip.name != "EP12_01f" or clip.subject != "sub04":
            assert clip.frames[clip.apex].name == f"img{row['apex']}.jpg"
    assert clips["casme2/sub05/EP09_05f"].apex == 0
    assert [key for key, clip in clips.items() if clip.apex is None] == ["casme2/sub04/EP12_01f"]
    assert sum(clip.apex == clip.offset for clip in clips.values()) == 4


@pytest.mark.data
def test_the_action_units_of_the_real_sheet_are_its_codes(corpus):
    units = {clip.key: clip.action_units for clip in casme2.load(corpus)}
    assert units["casme2/sub01/EP02_01f"] == ("12",)
    assert units["casme2/sub01/EP19_05f"] == ("4", "L10")
    assert units["casme2/sub05/EP07_01"] == ("?",)
    assert all(units.values())


@pytest.mark.data
def test_the_2019_sheet_is_read_with_its_other_emotions(real, tmp_path):
    shutil.copy(real / "annotations" / SHEETS[1], tmp_path)
    rows = casme2.annotations(casme2.sheet(tmp_path))
    expected = casme2.INFO.counts["casme2"] | {"surprise": 28, "sadness": 4}
    assert Counter(row["emotion"] for row in rows) == expected
    (changed,) = [row for row in rows if row["apex"] == "/"]
    assert (changed["subject"], changed["clip"]) == ("sub04", "EP12_01f")


@pytest.mark.data
def test_the_2014_sheet_is_preferred_and_named(real, corpus, tmp_path):
    for name in SHEETS:
        shutil.copy(real / "annotations" / name, tmp_path)
    assert casme2.sheet(tmp_path).name == SHEETS[0]
    said, corrected = casme2.notices(corpus)
    assert said == f"annotations from {SHEETS[0]}, frames from {corpus / 'CASME2_RAW_selected'}"
    assert corrected.startswith("casme2_fixes.csv of the package corrects sub04/EP12_01f at 261: apex 300 to none (")


@pytest.mark.data
def test_every_correction_is_of_a_row_of_both_real_sheets(real):
    for name in SHEETS:
        rows = casme2.annotations(real / "annotations" / name)
        assert set(_fixes.read("casme2")) <= {(row["subject"], row["clip"], row["onset"]) for row in rows}


@pytest.mark.data
def test_the_rows_of_the_standin_are_rows_of_the_real_sheet(real, standin):
    known = {row["subject"] + row["clip"]: row for row in casme2.annotations(real / "annotations" / SHEETS[0])}
    for row in casme2.annotations(standin / SHEETS[0]):
        expected = known[row["subject"] + row["clip"]]
        if row["apex"] == "/":
            expected = {**expected, "apex": "/"}
        assert row == expected


# every quirk


def test_an_apex_that_is_not_known_is_none_whatever_the_copy_says(clips, tmp_path):
    assert clips["sub04/EP12_01f"].apex is None
    for number, apex in enumerate(("/", 300, 303)):
        root = tmp_path / str(number)
        write(root, ("04", "EP12_01f", 261, apex, 321, "4+7", "disgust"))
        fill(root / "CASME2_RAW_selected" / "sub04" / "EP12_01f", range(261, 322))
        (clip,) = casme2.load(root)
        assert (clip.onset, clip.apex, clip.offset, clip.problem) == (0, None, 60, "")


def test_an_apex_on_the_onset_or_the_offset_stays_as_the_sheet_has_it(clips):
    assert (clips["sub05/EP09_05f"].onset, clips["sub05/EP09_05f"].apex) == (0, 0)
    assert clips["sub12/EP09_06"].apex == clips["sub12/EP09_06"].offset == 45


def test_an_annotated_frame_that_is_not_there_is_a_problem_and_another_is_not(clips):
    assert clips["sub03/EP19_08"].problem.startswith("want the picture of offset 141, got 40 pictures from 101 to 140")
    gap = clips["sub01/EP02_01f"]
    assert (len(gap.frames), gap.onset, gap.apex, gap.offset, gap.problem) == (40, 0, 12, 39, "")


def test_shortcuts_are_no_frames_and_folders_without_a_row_are_told(standin, clips):
    assert {path.suffix for clip in clips.values() for path in clip.frames or ()} == {".jpg"}
    assert not {"sub09/EP02_02f", "sub24/EP02_07"} & set(clips)
    assert casme2.notices(standin)[1] == "folders without a row, left out: 2 (sub09/EP02_02f, sub24/EP02_07)"


def test_subjects_of_the_standin_are_text_and_numbers(standin):
    cells = pandas.read_excel(standin / SHEETS[0], engine="calamine", dtype=object)["Subject"]
    assert {type(cell) for cell in cells} == {str, int}


def test_only_the_row_that_cannot_be_used_is_a_problem(clips):
    assert [key for key, clip in clips.items() if clip.problem] == ["sub03/EP19_08"]
    assert len(clips) == 16


@pytest.mark.parametrize("subject", ["01", 1, "sub01", "1"])
def test_a_subject_is_written_in_one_way(tmp_path, subject):
    write(tmp_path, (subject, "EP02_01f", 46, 59, 86, 12, "happiness"))
    fill(tmp_path / "CASME2_RAW_selected" / "sub01" / "EP02_01f", range(46, 87))
    (clip,) = casme2.load(tmp_path)
    assert (clip.key, clip.apex) == ("casme2/sub01/EP02_01f", 13)


def test_the_titles_of_another_copy_are_known(tmp_path):
    header = ("Subject", "Filename", "Onset Frame", "Apex Frame", "OffsetFrame", "emotion", "au")
    write(tmp_path, (1, "EP02_01f", 46, 59, 86, "happiness", 12), header=header)
    fill(tmp_path / "Cropped" / "sub01" / "EP02_01f", range(46, 87), "reg_img{}.jpg")
    (clip,) = casme2.load(tmp_path)
    assert (clip.onset, clip.apex, clip.offset) == (0, 13, 40)
    assert (clip.emotion, clip.action_units, clip.fps) == ("happiness", ("12",), 200.0)


def test_raw_recordings_are_taken_before_crops(tmp_path):
    write(tmp_path, ("01", "EP02_01f", 46, 59, 86, 12, "happiness"))
    fill(tmp_path / "Cropped" / "sub01" / "EP02_01f", range(46, 87), "reg_img{}.jpg")
    assert casme2.load(tmp_path)[0].frames[0].name == "reg_img46.jpg"
    fill(tmp_path / "CASME2_RAW_selected" / "CASME2_RAW_selected" / "sub1" / "EP02_01f", range(46, 87))
    (clip,) = casme2.load(tmp_path)
    assert clip.frames[0].name == "img46.jpg"
    assert clip.problem == ""


def test_subjects_may_lie_at_the_root(tmp_path):
    write(tmp_path, ("01", "EP02_01f", 46, 59, 86, 12, "happiness"))
    fill(tmp_path / "sub01" / "EP02_01f", range(46, 87))
    assert casme2.load(tmp_path)[0].apex == 13


def test_a_row_without_a_folder_is_a_problem_not_a_loss(tmp_path):
    write(tmp_path, ("01", "EP02_01f", 46, 59, 86, 12, "happiness"), ("02", "EP01_11f", 46, 91, 96, 15, "repression"))
    fill(tmp_path / "CASME2_RAW_selected" / "sub01" / "EP02_01f", range(46, 87))
    good, bad = casme2.load(tmp_path)
    assert not good.problem
    assert bad.problem == "want a folder of pictures for EP01_11f, got none; complete the corpus"


def test_a_clip_named_twice_is_an_error(tmp_path):
    row = ("01", "EP02_01f", 46, 59, 86, 12, "happiness")
    write(tmp_path, row, row)
    fill(tmp_path / "CASME2_RAW_selected" / "sub01" / "EP02_01f", range(46, 87))
    with pytest.raises(UserError, match=r"20140508\.xlsx: want unique clip keys, got sub01/EP02_01f twice"):
        casme2.load(tmp_path)


def test_a_sheet_without_frames_says_which_frames(tmp_path):
    write(tmp_path, ("01", "EP02_01f", 46, 59, 86, 12, "happiness"))
    with pytest.raises(UserError, match=r"want the frames of CASME II \(CASME2_RAW_selected/.*found none"):
        casme2.load(tmp_path)


def test_a_correction_beside_the_corpus_mends_a_row(standin, tmp_path):
    root = tmp_path / "copy"
    shutil.copytree(standin, root)
    fix = "subject,clip,onset,offset,reason\nsub03,EP19_08,101,140,the last frame is not in my copy\n"
    (root / "casme2_fixes.csv").write_text(fix, encoding="utf-8")
    (clip,) = [clip for clip in casme2.load(root) if clip.name == "EP19_08"]
    assert (clip.onset, clip.apex, clip.offset, clip.problem) == (0, 20, 39, "")
