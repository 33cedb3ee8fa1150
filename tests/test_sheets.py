"""Sheets as people keep them: titles, preambles, blank columns, copies, corrections; and their folders of pictures."""

import shutil
import zipfile
from pathlib import Path

import cv2
import numpy as np
import pandas
import pytest

from fleeting.datasets import _sheets, _standins, casme2, samm, smic_hs
from fleeting.errors import UserError

COLUMNS = {"subject": ("Subject",), "clip": ("Filename", "File"), "onset": ("Onset Frame", "OnsetFrame")}
ROW = {
    "subject": "s1", "clip": "a", "onset": "3", "apex": "5", "offset": "9", "emotion": "joy", "action_units": "4+L10",
}  # fmt: skip


@pytest.fixture
def book(tmp_path):
    """Writes a workbook and returns its path."""

    def write(rows, name="book.xlsx", sheet="Sheet1"):
        _standins.write_workbook(tmp_path / name, rows, sheet)
        return tmp_path / name

    return write


@pytest.fixture
def folder(tmp_path):
    """Makes a folder of empty pictures, one a number, and returns its path."""

    def make(numbers, pattern="img{}.jpg"):
        path = tmp_path / "frames"
        path.mkdir()
        for number in numbers:
            (path / pattern.format(number)).touch()
        return path

    return make


def build(folder, **changes):
    return _sheets.build("casme2", {**ROW, **changes}, folder, 200.0)


# reading


def test_a_sheet_is_read_as_text_without_decimals(book):
    path = book([("Subject", "Filename", "OnsetFrame"), ("01", " EP02 ", 46), (2, "EP03", 21.0), ("03", "EP04", "/")])
    assert _sheets.table(path, COLUMNS) == [
        {"subject": "01", "clip": "EP02", "onset": "46"},
        {"subject": "2", "clip": "EP03", "onset": "21"},
        {"subject": "03", "clip": "EP04", "onset": "/"},
    ]


def test_the_header_is_found_below_a_preamble_and_among_blank_columns(book):
    rows = [
        ("Notes on Subject",),
        (),
        ("Key",),
        (None, "SUBJECT ", None, "file", " onset  frame"),
        (None, "1", None, "a", 7),
    ]
    assert _sheets.table(book(rows), COLUMNS) == [{"subject": "1", "clip": "a", "onset": "7"}]


def test_empty_rows_are_left_out_and_an_empty_cell_is_empty_text(book):
    path = book([("Subject", "Filename", "OnsetFrame"), (), ("1", None, 7), ("", "", ""), ("2", "b")])
    assert [tuple(row.values()) for row in _sheets.table(path, COLUMNS)] == [("1", "", "7"), ("2", "b", "")]


def test_a_missing_column_is_named(book):
    path = book([("Subject", "Onset Frame"), ("1", 7)])
    with pytest.raises(UserError, match=r"book\.xlsx.*found no 'Filename'; "):
        _sheets.table(path, COLUMNS)


def test_an_optional_column_may_be_missing(book):
    path = book([("Subject", "Onset Frame"), ("1", 7)])
    assert _sheets.table(path, COLUMNS, optional=("clip",)) == [{"subject": "1", "clip": "", "onset": "7"}]


def test_a_sheet_is_taken_by_its_name_in_any_case(book):
    path = book([("Subject", "Filename", "OnsetFrame"), ("1", "a", 7)], sheet="MICRO_ONLY")
    assert len(_sheets.table(path, COLUMNS, sheet="micro_only")) == 1
    with pytest.raises(UserError, match=r"want a sheet 'macro', got \['MICRO_ONLY'\]"):
        _sheets.table(path, COLUMNS, sheet="macro")


def test_a_csv_is_read_like_a_workbook(tmp_path):
    path = tmp_path / "rows.csv"
    path.write_text("\ufeffSubject,Filename,OnsetFrame\n01,EP02,46\n,,\n", encoding="utf-8")
    assert _sheets.table(path, COLUMNS) == [{"subject": "01", "clip": "EP02", "onset": "46"}]


def test_a_file_that_is_no_workbook_is_one_line(tmp_path):
    path = tmp_path / "book.xlsx"
    path.write_bytes(b"<html>please sign in</html>")
    with pytest.raises(UserError, match=r"book\.xlsx: want an Excel workbook, cannot read it"):
        _sheets.table(path, COLUMNS)


@pytest.mark.parametrize(
    ("text", "expected"),
    [("46", 46), ("46.0", 46), ("076518", 76518), (" 0 ", 0), ("", None), ("/", None), ("?", None)],
)
def test_frame_numbers(text, expected):
    assert _sheets.number(text) == expected


@pytest.mark.parametrize("text", ["46.5", "ab", "4 6", "46/47"])
def test_what_is_no_frame_number_is_said(text):
    with pytest.raises(UserError, match="want a frame number, got "):
        _sheets.number(text)


@pytest.mark.parametrize(
    ("text", "codes"),
    [
        ("4+L10", ("4", "L10")),
        ("(R6 or R12) + R15", ("(R6 or R12)", "R15")),
        ("7B+ ref(43)", ("7B", "ref(43)")),
        ("R12 or R14", ("R12 or R14",)),
        ("(R6+R12)", ("(R6+R12)",)),
        ("1,2", ("1", "2")),
        ("?", ("?",)),
        ("", ()),
    ],
)
def test_action_units_are_split_outside_brackets(text, codes):
    assert _sheets.units(text) == codes


# finding


def test_the_first_pattern_wins_over_a_nearer_file(tmp_path, book):
    book([("a",)], "casme2-2019.xlsx")
    wanted = book([("b",)], "sheets/inner/CASME2-coding-2014.XLSX")
    assert _sheets.find(tmp_path, ("casme2*2014*", "casme2*2019*"), casme2.INFO) == wanted


def test_the_nearest_file_wins_within_a_pattern(tmp_path, book):
    near = book([("a",)], "one/casme2.xlsx")
    book([("b",)], "one/two/casme2.xlsx")
    assert _sheets.find(tmp_path, ("casme2*",), casme2.INFO) == near


def test_a_file_four_folders_down_is_not_found(tmp_path, book):
    book([("a",)], "one/two/three/casme2.xlsx")
    with pytest.raises(UserError, match="want the annotations of CASME II"):
        _sheets.find(tmp_path, ("casme2*",), casme2.INFO)


def test_two_copies_are_one_but_two_versions_are_an_error(tmp_path, book):
    first = book([("a",)], "casme2.xlsx")
    shutil.copy(first, tmp_path / "casme2 (1).xlsx")
    assert _sheets.find(tmp_path, ("casme2*",), casme2.INFO).name == "casme2 (1).xlsx"
    book([("b",)], "casme2.xlsx")
    with pytest.raises(UserError, match=r"want one workbook .* got .*casme2\.xlsx too; keep one"):
        _sheets.find(tmp_path, ("casme2*",), casme2.INFO)


def test_a_workbook_that_may_be_absent_is_none_but_two_versions_stay_an_error(tmp_path, book):
    assert _sheets.found(tmp_path, ("casme2*",)) is None
    path = book([("a",)], "casme2.xlsx")
    assert _sheets.found(tmp_path, ("casme2*",)) == path
    book([("b",)], "casme2-2.xlsx")
    with pytest.raises(UserError, match="want one workbook of the name"):
        _sheets.found(tmp_path, ("casme2*",))


def test_lock_files_of_an_open_workbook_are_not_workbooks(tmp_path, book):
    (tmp_path / "~$casme2.xlsx").write_bytes(b"lock")
    (tmp_path / ".casme2.xlsx").write_bytes(b"hidden")
    path = book([("a",)], "casme2.xlsx")
    assert _sheets.find(tmp_path, ("*casme2*",), casme2.INFO) == path


@pytest.mark.parametrize("wanted", [casme2, samm, smic_hs])
@pytest.mark.parametrize("given", [casme2, samm, smic_hs])
def test_another_corpus_is_called_by_its_name(wanted, given, tmp_path):
    given.write_standin(tmp_path)
    if wanted is given:
        assert wanted.load(tmp_path)
        return
    with pytest.raises(UserError) as caught:
        wanted.load(tmp_path)
    found = {"CASME II": "CASME II", "SAMM": "SAMM", "SMIC-HS": "SMIC"}[given.INFO.title]
    assert f"want the {'frames' if wanted is smic_hs else 'annotations'} of {wanted.INFO.title}" in str(caught.value)
    assert f"found what looks like {found}; " in str(caught.value)
    assert wanted.INFO.request in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_root_that_is_no_folder_is_said(tmp_path):
    with pytest.raises(UserError, match="found no such folder"):
        casme2.load(tmp_path / "nowhere")


def test_a_folder_is_found_by_what_it_holds(tmp_path):
    (tmp_path / "RAW" / "raw" / "sub01").mkdir(parents=True)
    (tmp_path / "Cropped" / "sub01").mkdir(parents=True)
    assert _sheets.folder(tmp_path, ("*raw*", "*crop*"), "sub[0-9]*") == tmp_path / "RAW" / "raw"
    assert _sheets.folder(tmp_path / "Cropped", ("*raw*", "*"), "sub[0-9]*") == tmp_path / "Cropped"
    assert _sheets.folder(tmp_path, ("*depth*",), "sub[0-9]*") is None


def test_a_folder_is_passed_over_with_all_that_lies_in_it(tmp_path):
    (tmp_path / "part_B" / "raw" / "sub01").mkdir(parents=True)
    assert _sheets.folder(tmp_path, ("*",), "sub[0-9]*") == tmp_path / "part_B" / "raw"
    assert _sheets.folder(tmp_path, ("*",), "sub[0-9]*", without=("PART_B",)) is None
    # the root itself is what the user chose
    assert _sheets.folder(tmp_path / "part_B", ("*",), "sub[0-9]*", without=("part_b",)) is not None


@pytest.mark.parametrize(
    ("names", "corpus"),
    [
        (("datasets/flow/sub01_EP02_01f .png", "combined_3_class2_for_optical_flow.csv"), "MEGC2019"),
        (("datasets/flow/sub01_EP02_01f .png", "datasets/flow/s01_s01_ne_01.png"), ""),
        (("train_data/sub0003_01/00000.png",), "DFME"),
        (("a/dfme_train.xlsx",), "DFME"),
        (("part_A/spNO.1/a",), "CAS(ME)^3"),
    ],
)
def test_a_corpus_is_known_by_its_files(tmp_path, names, corpus):
    for name in names:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    found = _sheets.looks_like(tmp_path)
    assert corpus in found
    assert bool(corpus) == bool(found)


@pytest.mark.data
def test_the_published_flow_is_called_by_its_loader(real):
    with pytest.raises(UserError, match=r"found what looks like the published flow of MEGC2019 \(megc2019_flow\)"):
        casme2.load(real / "megc2019")


# pictures


@pytest.mark.parametrize("pattern", ["img{}.jpg", "reg_img{}.JPG", "006_{:05d}.jpg", "{:05d}.png", "image{:06d}.bmp"])
def test_pictures_are_in_the_order_of_their_numbers(folder, pattern):
    path = folder([10, 9, 100, 1], pattern)
    assert list(_sheets.pictures(path).items()) == [(n, path / pattern.format(n)) for n in (1, 9, 10, 100)]


def test_what_is_no_picture_is_ignored(folder):
    path = folder([1, 2])
    for name in ("img3.jpg - Shortcut.lnk", "Thumbs.db", "._img4.jpg", ".DS_Store", "notes5.txt", "cover.jpg", "7"):
        (path / name).touch()
    assert list(_sheets.pictures(path)) == [1, 2]


def test_a_frame_that_is_there_twice_is_said(folder):
    path = folder([1, 2])
    (path / "img02.jpg").touch()
    with pytest.raises(UserError, match=r"want one picture a frame, got img02\.jpg and img2\.jpg in "):
        _sheets.pictures(path)
    assert "want one picture a frame" in build(path).problem


# rows and folders


def test_frame_numbers_become_positions(folder):
    clip = build(folder(range(3, 12)))
    assert (clip.key, clip.onset, clip.apex, clip.offset) == ("casme2/s1/a", 0, 2, 6)
    assert [path.name for path in clip.frames] == [f"img{n}.jpg" for n in range(3, 12)]
    assert (clip.emotion, clip.action_units, clip.fps, clip.part, clip.problem) == ("joy", ("4", "L10"), 200.0, "", "")


def test_a_gap_that_no_mark_falls_into_is_no_problem(folder):
    clip = build(folder([1, 3, 5, 7, 9, 11]))
    assert (clip.onset, clip.apex, clip.offset, clip.problem) == (1, 2, 4, "")


@pytest.mark.parametrize("apex", ["", "/", "?"])
def test_no_apex_is_a_clip_without_one(folder, apex):
    clip = build(folder(range(3, 10)), apex=apex)
    assert (clip.onset, clip.apex, clip.offset, clip.problem) == (0, None, 6, "")


def test_apex_on_the_onset_or_the_offset_is_accepted(folder):
    path = folder(range(3, 10))
    assert build(path, apex="3").apex == 0
    assert build(path, apex="9").apex == 6


@pytest.mark.parametrize(
    ("changes", "start"),
    [
        ({"onset": "10"}, "want onset <= apex <= offset, got 10, 5, 9; fix the row"),
        ({"onset": "10", "apex": "/"}, "want onset <= apex <= offset, got 10, /, 9; fix the row"),
        ({"apex": "11"}, "want onset <= apex <= offset, got 3, 11, 9; fix the row"),
        ({"apex": "2"}, "want onset <= apex <= offset, got 3, 2, 9; fix the row"),
        ({"offset": "0"}, "want onset <= apex <= offset, got 3, 5, 0; fix the row"),
        ({"onset": "/"}, "want an onset and an offset, got '/' and '9'; fix the row"),
        ({"offset": ""}, "want an onset and an offset, got '3' and ''; fix the row"),
        ({"apex": "5a"}, "want a frame number, got '5a'; fix the row"),
        ({"offset": "20"}, "want the picture of offset 20, got 7 pictures from 3 to 9 in "),
        ({"onset": "1"}, "want the picture of onset 1, got 7 pictures from 3 to 9 in "),
    ],
)
def test_a_row_that_does_not_fit_says_so_in_the_sheets_numbers(folder, changes, start):
    clip = build(folder(range(3, 10)), **changes)
    assert clip.problem.startswith(start)
    assert clip.problem.endswith("fix the row or add it to casme2_fixes.csv")
    assert (clip.frames, clip.onset, clip.apex, clip.offset) == (None, None, None, None)
    assert (clip.key, clip.emotion) == ("casme2/s1/a", "joy")


def test_an_absent_apex_inside_the_clip_says_so(folder):
    clip = build(folder([3, 4, 6, 9]))
    assert clip.problem.startswith("want the picture of apex 5, got 4 pictures from 3 to 9 in ")


def test_no_folder_and_an_empty_one_say_so(folder, tmp_path):
    assert build(None).problem == "want a folder of pictures for a, got none; complete the corpus"
    assert build(folder([])).problem == f"want pictures, got none in {tmp_path / 'frames'}; complete the corpus"
    assert build(tmp_path / "gone").problem.startswith("want a folder of pictures, got none at ")


def test_a_row_may_carry_its_own_name_part_corpus_and_rate(folder):
    clip = build(folder(range(3, 10)), name="a@3", part="B", fps="500", dataset="dfme")
    assert (clip.key, clip.part, clip.fps) == ("dfme/s1/a@3", "B", 500.0)


def test_pictures_that_were_listed_before_are_not_listed_again(tmp_path):
    shown = {number: tmp_path / f"{number}.jpg" for number in (3, 5, 9)}
    clip = _sheets.build("casme2", ROW, tmp_path / "gone", 200.0, shown)
    assert (clip.onset, clip.apex, clip.offset, clip.frames) == (0, 1, 2, tuple(shown.values()))


# writing


def test_a_workbook_is_the_same_bytes_every_time_and_holds_what_was_put_in(tmp_path):
    rows = [["a"] * 28, ["<&>\"'", None, 1, 2.5, "", "  01 "]]
    for name in ("one.xlsx", "two.xlsx"):
        _standins.write_workbook(tmp_path / name, rows, "A & B")
    assert (tmp_path / "one.xlsx").read_bytes() == (tmp_path / "two.xlsx").read_bytes()
    with zipfile.ZipFile(tmp_path / "one.xlsx") as archive:
        assert archive.testzip() is None
        assert {entry.date_time for entry in archive.infolist()} == {(1980, 1, 1, 0, 0, 0)}
        assert b'r="AB1"' in archive.read("xl/worksheets/sheet1.xml")
    read = pandas.read_excel(tmp_path / "one.xlsx", sheet_name="A & B", header=None, engine="calamine", dtype=object)
    assert read.shape == (2, 28)
    assert read.iloc[1, [0, 2, 3, 5]].tolist() == ["<&>\"'", 1, 2.5, "  01 "]


def test_a_standin_is_not_written_over_files(tmp_path):
    (tmp_path / "mine.txt").write_text("mine", encoding="utf-8")
    with pytest.raises(UserError, match="want an empty folder for made-up data"):
        casme2.write_standin(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_a_drawn_face_rests_at_the_onset_and_moves_most_at_the_apex():
    shown = _standins.draw("x/1", (10, 16, 25), ("1", "2"))
    assert list(shown) == list(range(10, 26))
    change = [np.abs(shown[index].astype(float) - shown[10]).mean() for index in shown]
    assert change[0] == 0
    assert int(np.argmax(change)) == 6
    assert change[:7] == sorted(change[:7])
    assert change[6:] == sorted(change[6:], reverse=True)
    assert change[-1] > 0


@pytest.mark.parametrize("moment", [(69, 69, 80), (66, 80, 80), (5, 5, 5)])
def test_a_face_is_drawn_where_two_marks_fall_together(moment):
    shown = _standins.draw("x/1", moment, ("4",))
    assert list(shown) == list(range(moment[0], moment[2] + 1))


def test_the_drawn_brows_go_up_by_the_pixels_of_the_table():
    shown = _standins.draw("x/1", (0, 1, 2), ("R2",))
    grey = [_standins.grey(shown[index]) for index in (0, 1)]
    brows = [next_centre(picture, slice(34, 47)) for picture in grey]
    (left, right), (left_after, right_after) = brows
    assert left_after - left == pytest.approx(-1.3, abs=0.5)  # the right brow is on the picture's left
    assert right_after == pytest.approx(right, abs=0.1)
    assert cv2.countNonZero(cv2.absdiff(*grey)[80:]) == 0


def next_centre(picture, rows):
    """Height of the dark brow on the picture's left and right."""
    dark = np.clip(60.0 - picture[rows].astype(float), 0, None)
    heights = np.arange(rows.start, rows.stop)[:, None]
    halves = dark[:, 56:76], dark[:, 84:104]
    return [float((half * heights).sum() / half.sum()) for half in halves]


def test_one_name_one_face():
    first, again, other = (_standins.draw(name, (0, 0, 0), ())[0] for name in ("x/1", "x/1", "x/2"))
    assert (first == again).all()
    assert (first != other).any()
    assert first.shape == (*_standins.SIZE, 3)
    assert first.dtype == np.uint8


def test_a_path_is_not_needed_to_know_a_standin(tmp_path):
    assert not _standins.is_standin(tmp_path)
    _standins.begin(tmp_path / "new")
    assert _standins.is_standin(Path(tmp_path / "new"))
