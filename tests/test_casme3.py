"""CAS(ME)^3 part A: the real sheet, the corrected rows, and the layouts on disk."""

import shutil
from collections import Counter
from pathlib import Path

import pytest

from fleeting.datasets import _fixes, _sheets, _standins, casme3
from fleeting.errors import UserError

HEADER = ("Subject", "Filename", "Onset", "Apex", "Offset", "AU", "Objective class", "emotion")


@pytest.fixture(scope="module")
def standin(tmp_path_factory):
    """Not to be changed by a test."""
    root = tmp_path_factory.mktemp("casme3")
    casme3.write_standin(root)
    return root


@pytest.fixture(scope="module")
def clips(standin):
    return {clip.key.removeprefix("casme3/"): clip for clip in casme3.load(standin)}


def write(root, rows, folders):
    """A corpus of some rows, and empty files: folder -> numbers."""
    _standins.write_workbook(root / "cas(me)3_part_A_ME_label_JpgIndex_v2.xlsx", [HEADER, *rows])
    for folder, numbers in folders.items():
        (root / folder).mkdir(parents=True)
        for number in numbers:
            (root / folder / f"{number}.jpg").touch()
    return {clip.key.removeprefix("casme3/"): clip for clip in casme3.load(root)}


def numbers(clip):
    return [int(path.stem) for path in clip.frames]


@pytest.mark.data
def test_the_real_sheet_has_the_published_counts(real):
    rows = casme3.annotations(real / "annotations" / "CASME3_partA_ME_v2.xlsx")
    assert len(rows) == 860
    assert Counter(row["emotion"] for row in rows) == casme3.INFO.counts["casme3"]
    assert len({row["subject"] for row in rows}) == casme3.INFO.subjects["casme3"]
    # some videos hold many expressions
    assert sum(count - 1 for count in Counter((row["subject"], row["clip"]) for row in rows).values()) == 397


@pytest.mark.data
def test_only_one_real_row_has_no_order_when_it_is_corrected(real):
    known = _fixes.read("casme3")
    rows = casme3.annotations(real / "annotations" / "CASME3_partA_ME_v2.xlsx")
    right = [_fixes.corrected(row, known) for row in rows]
    marks = [[_sheets.number(row[field]) for field in ("onset", "apex", "offset")] for row in right]
    wrong = [
        f"{row['subject']}/{row['clip']}@{row['onset']}"
        for row, mark in zip(right, marks, strict=True)
        if None in mark or mark != sorted(mark)
    ]
    assert wrong == ["spNO.214/c@5"]
    assert len({(row["subject"], row["clip"], row["onset"]) for row in right}) == 860


@pytest.mark.data
def test_the_corrections_are_those_of_the_corpus_other_workbook(real):
    columns = {"subject": ("Subject",), "clip": ("Filename",), "onset": ("Onset",), "apex": ("Apex",),
               "offset": ("Offset",), "kind": ("Expression type",)}  # fmt: skip
    rows = _sheets.table(real / "annotations" / "CASME3_partA_all_v2.xls", columns, "AU+Emotion")
    other = {
        (row["subject"], row["clip"].lower(), row["onset"], row["apex"], row["offset"])
        for row in rows
        if row["kind"] == "Micro-expression"
    }
    known = _fixes.read("casme3")
    right = {
        tuple(_fixes.corrected(row, known)[field] for field in ("subject", "clip", "onset", "apex", "offset"))
        for row in casme3.annotations(real / "annotations" / "CASME3_partA_ME_v2.xlsx")
    }
    assert right - other == {("spNO.214", "c", "5", "5", "/")}
    assert other - right == {("spNO.214", "c", "5", "5", "3460")}


@pytest.mark.data
def test_the_standin_is_made_of_real_rows(real, standin):
    columns = {title: (title,) for title in HEADER}
    real_rows = _sheets.table(real / "annotations" / "CASME3_partA_ME_v2.xlsx", columns)
    rows = _sheets.table(casme3.sheet(standin), columns)
    assert len(rows) == 18
    assert all(row in real_rows for row in rows)


def test_a_clip_is_named_after_its_video_and_onset(clips):
    assert {"spNO.1/e@62", "spNO.1/e@96", "spNO.206/h@35", "spNO.206/h@336"} <= set(clips)


def test_a_clip_holds_the_pictures_from_onset_to_offset(clips):
    clip = clips["spNO.1/e@62"]
    assert numbers(clip) == list(range(62, 97))
    assert (clip.onset, clip.apex, clip.offset, clip.fps) == (0, 6, 34, 30.0)
    assert {path.parent.name for path in clip.frames} == {"color"}


def test_a_missing_frame_moves_the_positions_behind_it(clips):
    clip = clips["spNO.1/b@166"]
    assert 170 not in numbers(clip)
    assert (numbers(clip)[clip.apex], numbers(clip)[clip.offset]) == (175, 179)
    assert (clip.apex, clip.offset) == (8, 12)


def test_four_impossible_rows_are_corrected(clips):
    found = {name: [numbers(clips[name])[place] for place in (clips[name].onset, clips[name].apex, clips[name].offset)]
             for name in ("spNO.149/d@112", "spNO.216/d@2647", "spNO.40/e@1812", "spNO.40/e@2327")}  # fmt: skip
    assert list(found.values()) == [[112, 160, 358], [2647, 2668, 2694], [1812, 1824, 1845], [2327, 2363, 2403]]


def test_an_offset_that_nobody_knows_is_a_problem_with_its_reason(clips):
    assert [name for name, clip in clips.items() if clip.problem] == ["spNO.214/c@5", "spNO.216/e@0"]
    assert "the true offset is not known" in clips["spNO.214/c@5"].problem
    assert clips["spNO.214/c@5"].emotion == "disgust"


def test_frame_0_is_a_problem_only_where_no_such_picture_is(clips, tmp_path):
    assert "onset 0" in clips["spNO.216/e@0"].problem
    row = ("spNO.216", "e", "0", "0", "25", "14", "VII", "others")
    clip = write(tmp_path, [row], {"part_A/spNO.216/e/color": range(26)})["spNO.216/e@0"]
    assert not clip.problem
    assert (clip.onset, clip.apex, clip.offset) == (0, 0, 25)


def test_letters_and_others_are_written_in_lower_case(clips):
    assert clips["spNO.14/j@1012"].emotion == "others"
    assert clips["spNO.194/a@561"].emotion == "others"
    assert clips["spNO.206/h@35"].action_units == ("R2", "R1")


def test_a_folder_in_upper_case_is_found(tmp_path):
    row = ("spNO.14", "J", "1", "2", "3", "14", "VII", "others")
    assert numbers(write(tmp_path, [row], {"part_A/spNO.14/J/color": (1, 2, 3)})["spNO.14/j@1"]) == [1, 2, 3]


def test_padded_names_are_read_from_the_folder(tmp_path):
    row = ("spNO.1", "a", "8", "9", "10", "5", "II", "others")
    folder = tmp_path / "part_A/spNO.1/a/color"
    folder.mkdir(parents=True)
    for number in range(1, 20):
        (folder / f"{number:05d}.png").touch()
    assert numbers(write(tmp_path, [row], {})["spNO.1/a@8"]) == [8, 9, 10]


def test_the_cut_clips_are_taken_where_there_is_no_long_video(tmp_path):
    rows = [
        ("spNO.1", "a", "355", "359", "360", "5", "II", "others"),
        ("spNO.216", "d", "3647", "2668", "2694", "38", "VII", "others"),
        ("spNO.1", "b", "5", "6", "7", "5", "II", "others"),
    ]
    folders = {
        "Part_A_ME_clip/frame/spNO.1_a_355": range(355, 361),
        "Part_A_ME_clip/depth/spNO.1_a_355": range(355, 361),
        "Part_A_ME_clip/frame/spNO.216_d_3647": range(2647, 2695),
        "part_A/spNO.1/b/color": range(1, 20),
    }
    clips = write(tmp_path, rows, folders)
    assert numbers(clips["spNO.1/a@355"]) == list(range(355, 361))
    assert clips["spNO.1/a@355"].frames[0].parts[-3:-1] == ("frame", "spNO.1_a_355")
    assert clips["spNO.216/d@2647"].apex == 21
    assert numbers(clips["spNO.1/b@5"]) == [5, 6, 7]


@pytest.mark.parametrize("other", ["Part_B", "PART_C/raw", "part-c data", "partB", "CAS(ME)3_Part_C"])
@pytest.mark.parametrize("name", ["part_A", "Part-A", "partA", "CAS(ME)3_part_A_split", "frames", "zzz/frames"])
def test_another_part_is_not_taken_for_part_a(tmp_path, other, name):
    """Its people may be named alike, and its folder may come first in the alphabet."""
    row = ("spNO.1", "a", "1", "2", "3", "5", "II", "fear")
    clips = write(tmp_path, [row], {f"{other}/spNO.1/a/color": range(1, 9), f"{name}/spNO.1/a/color": range(1, 4)})
    assert not clips["spNO.1/a@1"].problem
    assert clips["spNO.1/a@1"].frames[0].is_relative_to(tmp_path / name)


def test_another_part_alone_is_no_part_a(tmp_path):
    row = ("spNO.1", "a", "1", "2", "3", "5", "II", "fear")
    with pytest.raises(UserError, match="want the frames of CAS"):
        write(tmp_path, [row], {"part_C/spNO.1/a/color": range(1, 9)})


def test_a_video_that_is_not_there_is_a_problem(tmp_path):
    rows = [(subject, "a", "1", "2", "3", "5", "II", "fear") for subject in ("spNO.1", "spNO.2")]
    clips = write(tmp_path, rows, {"part_A/spNO.1/a/color": (1, 2, 3)})
    assert not clips["spNO.1/a@1"].problem
    assert clips["spNO.2/a@1"].problem.startswith("want a folder of pictures")


@pytest.mark.parametrize("offset", ["soon", "900"])
def test_a_number_that_does_not_fit_is_a_problem(tmp_path, offset):
    row = ("spNO.1", "a", "1", "2", offset, "5", "II", "fear")
    clip = write(tmp_path, [row], {"part_A/spNO.1/a/color": range(1, 9)})["spNO.1/a@1"]
    assert offset in clip.problem
    assert "; " in clip.problem


def test_one_onset_twice_in_a_video_is_refused(tmp_path):
    row = ("spNO.1", "a", "1", "2", "3", "5", "II", "fear")
    with pytest.raises(UserError, match=r"spNO\.1/a@1 twice"):
        write(tmp_path, [row, row], {"part_A/spNO.1/a/color": (1, 2, 3)})


def test_a_sheet_without_frames_names_the_page(tmp_path):
    with pytest.raises(UserError, match="want the frames of CAS") as caught:
        write(tmp_path, [("spNO.1", "a", "1", "2", "3", "5", "II", "fear")], {})
    assert casme3.INFO.request in str(caught.value)


def test_a_users_own_correction_wins(standin, tmp_path):
    root = tmp_path / "copy"
    shutil.copytree(standin, root)
    text = "subject,clip,onset,offset,reason\nspNO.214,c,5,14,seen in the video\n"
    (root / "casme3_fixes.csv").write_text(text, encoding="utf-8")
    clip = next(clip for clip in casme3.load(root) if clip.name == "c@5")
    assert (clip.problem, clip.onset, clip.apex, clip.offset) == ("", 0, 0, 9)


def test_notices_name_the_sheet_and_what_is_left_out(standin):
    told = "\n".join(casme3.notices(standin))
    assert "cas(me)3_part_A_ME_label_JpgIndex_v2.xlsx" in told
    assert told.count("casme3_fixes.csv of the package corrects ") == 5
    assert "corrects spNO.216/d at 3647: onset 3647 to 2647 (onset 3647 lies after apex and offset; " in told
    assert "left out: 1 (spNO.1/c)" in told


def test_a_standin_says_so_and_overwrites_nothing_real(standin, tmp_path):
    assert casme3.is_standin(standin)
    Path(tmp_path / "thesis.txt").write_text("mine", encoding="utf-8")
    with pytest.raises(UserError, match="empty folder"):
        casme3.write_standin(tmp_path)


@pytest.mark.data
def test_a_whole_corpus_gives_all_rows_but_two(real, tmp_path):
    rows = _sheets.table(real / "annotations" / "CASME3_partA_ME_v2.xlsx", {title: (title,) for title in HEADER})
    known = _fixes.read("casme3")
    folders: dict[str, set[str]] = {}
    for row in casme3.annotations(real / "annotations" / "CASME3_partA_ME_v2.xlsx"):
        right = _fixes.corrected(row, known)
        ends = {right[field] for field in ("onset", "apex", "offset")} - {"/", "0"}
        folders.setdefault(f"part_A/{row['subject']}/{row['clip']}/color", set()).update(ends)
    clips = write(tmp_path, [tuple(row.values()) for row in rows], folders)
    assert len(clips) == 860
    assert [name for name, clip in clips.items() if clip.problem] == ["spNO.214/c@5", "spNO.216/e@0"]
