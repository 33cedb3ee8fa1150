"""DFME: the real sheets, copies that differ, and the clips' folders."""

import pytest

from fleeting.datasets import _sheets, _standins, dfme
from fleeting.errors import UserError

TITLES = ["Subject", "Filename", "OnsetFrame", "ApexFrame", "OffsetFrame", "Emotion", "EmotionId", "Fps", "AU"]
ROW = ("sub0003", "sub0003_01", 1, 2, 4, "anger", 0, 500, "4+23")


@pytest.fixture(scope="module")
def standin(tmp_path_factory):
    """Not to be changed by a test."""
    root = tmp_path_factory.mktemp("dfme")
    dfme.write_standin(root)
    return root


@pytest.fixture(scope="module")
def clips(standin):
    return {clip.name: clip for clip in dfme.load(standin)}


def write(root, rows, titles=TITLES, book="DFME_training_full_with_AU.xlsx", where="train_data"):
    """A corpus of one part whose clips have five pictures."""
    _standins.write_workbook(root / book, [titles, *rows])
    for row in rows:
        folder = root / where / "sub0003_01" if "sub0003_01" in row else root / where / row[1].lower()
        folder.mkdir(parents=True, exist_ok=True)
        for number in range(5):
            (folder / f"{number:05d}.png").touch()


def only(root):
    (clip,) = dfme.load(root)
    return clip


@pytest.mark.data
def test_the_real_sheets_have_the_published_counts(real):
    rows = {part: dfme.annotations(path) for part, path in dfme.sheets(real / "annotations").items()}
    assert {part: len(found) for part, found in rows.items()} == {"train": 1856, "A": 474, "B": 299}
    people = {part: {row["subject"] for row in found} for part, found in rows.items()}
    assert {part: len(found) for part, found in people.items()} == {"train": 176, "A": 42, "B": 41}
    assert len(set.union(*people.values())) == 259 == dfme.INFO.subjects["dfme"]
    for part, found in rows.items():
        emotions = [row["emotion"] for row in found]
        assert {word: emotions.count(word) for word in dfme.EMOTIONS} == dfme.PARTS[part]


def test_the_parts_add_up_to_the_whole():
    whole = dfme.INFO.counts["dfme"]
    assert {word: sum(part[word] for part in dfme.PARTS.values()) for word in whole} == whole
    assert sum(whole.values()) == 2629


@pytest.mark.data
def test_the_real_sheets_count_frames_from_0_in_the_cut_clip(real):
    rows = [row for path in dfme.sheets(real / "annotations").values() for row in dfme.annotations(path)]
    marks = [[_sheets.number(row[field]) for field in ("onset", "apex", "offset")] for row in rows]
    assert all(mark == sorted(mark) for mark in marks)
    assert sum(mark[0] == 0 for mark in marks) == 1240
    assert max(mark[2] for mark in marks) == 459
    assert not any(dfme._complaint(row) for row in rows)


@pytest.mark.data
def test_the_standin_is_made_of_real_rows(real, standin):
    def key(row):
        return tuple(row[field] for field in ("subject", "clip", "onset", "apex", "offset", "emotion", "fps"))

    real_rows = {
        part: {key(row) for row in dfme.annotations(path)} for part, path in dfme.sheets(real / "annotations").items()
    }
    for part, path in dfme.sheets(standin).items():
        assert {key(row) for row in dfme.annotations(path)} <= real_rows[part]


def test_a_clip_knows_its_part_rate_and_positions(clips):
    found = {(clip.part, clip.fps) for clip in clips.values()}
    assert {("train", 500.0), ("train", 300.0), ("train", 200.0), ("A", 200.0), ("B", 200.0)} <= found
    first = clips["sub0013_05"]
    assert (first.subject, first.onset, first.apex, first.offset, len(first.frames)) == ("sub0013", 35, 62, 92, 93)
    assert first.frames[35].name == "00035.png"


def test_a_missing_frame_moves_the_positions_behind_it(clips):
    clip = clips["sub0032_24"]
    assert [clip.frames[place].name for place in (clip.onset, clip.apex, clip.offset)] == [
        "00000.png", "00023.png", "00032.png"]  # fmt: skip
    assert (clip.onset, clip.apex, clip.offset) == (0, 22, 31)


def test_sheets_with_other_titles_and_letters_read_alike(clips):
    assert (clips["sub0139_03"].emotion, clips["sub0139_03"].action_units) == ("fear", ("4", "5"))
    assert (clips["sub0166_09"].emotion, clips["sub0166_09"].action_units) == ("contempt", ())


def test_a_clip_without_a_folder_is_a_problem_and_stays_in_the_list(clips):
    assert [name for name, clip in clips.items() if clip.problem] == ["sub0192_02"]
    assert clips["sub0192_02"].emotion == "anger"


def test_notices_name_the_sheets_and_what_is_left_out(standin, tmp_path):
    told = "\n".join(dfme.notices(standin))
    assert "annotations of part A from DFME_testA_full_with_AU.xlsx" in told
    assert "left out: 1 (sub0200_02)" in told
    write(tmp_path, [ROW])
    assert "part B is absent" in "\n".join(dfme.notices(tmp_path))


def test_a_number_that_is_not_its_emotions_is_a_problem(tmp_path):
    write(tmp_path, [(*ROW[:6], 3, *ROW[7:])])
    assert only(tmp_path).problem.startswith("want an emotion and its own number, got anger with EmotionId 3 (fear)")


def test_a_number_that_no_emotion_has_is_a_problem(tmp_path):
    write(tmp_path, [(*ROW[:6], 9, *ROW[7:])])
    assert "EmotionId 9 (none)" in only(tmp_path).problem


def test_a_rate_that_is_none_is_a_problem(tmp_path):
    write(tmp_path, [(*ROW[:7], "fast", *ROW[8:])])
    assert "want frames a second, got 'fast'" in only(tmp_path).problem


def test_emotion_and_subject_are_found_without_their_columns(tmp_path):
    write(tmp_path, [("sub0003_01", 1, 2, 4, 6)], ["filename", " ONSETFRAME ", "Apex Frame", "Offset", "Emotion_ID"])
    clip = only(tmp_path)
    assert (clip.subject, clip.emotion, clip.fps, clip.apex) == ("sub0003", "surprise", None, 2)


def test_a_test_sheet_without_emotions_gives_unlabelled_clips(tmp_path):
    titles, row = [*TITLES[:5], "Fps"], (*ROW[:5], 200)
    write(tmp_path, [row], titles, "DFME_test_A.xlsx", "test_data_A/test_data_A")
    clip = only(tmp_path)
    assert (clip.emotion, clip.part, clip.onset, clip.problem) == (None, "A", 1, "")


@pytest.mark.parametrize(
    ("book", "part"),
    [
        ("DFME_training_full_with_AU.xlsx", "train"), ("dfme_train.xlsx", "train"), ("train.xlsx", "train"),
        ("DFME_testA_full_with_AU.xlsx", "A"), ("dfme_test_a.xlsx", "A"), ("DFME_test_A_full_with_AU.xlsx", "A"),
        ("DFME_testB_full_with_AU.xlsx", "B"), ("dfme_test_b.xlsx", "B"), ("test_data_B.xlsx", "B"),
    ],
)  # fmt: skip
def test_workbooks_are_known_by_the_names_of_several_copies(tmp_path, book, part):
    write(tmp_path, [ROW], book=book)
    assert {part: path.name for part, path in dfme.sheets(tmp_path).items()} == {part: book}
    assert only(tmp_path).part == part


def test_two_sheets_of_a_part_that_differ_are_refused(tmp_path):
    write(tmp_path, [ROW])
    write(tmp_path, [(*ROW[:2], 0, *ROW[3:])], book="DFME_training_v2.xlsx")
    with pytest.raises(UserError, match="keep one"):
        dfme.load(tmp_path)


def test_two_copies_of_a_clip_are_refused(tmp_path):
    write(tmp_path, [ROW])
    write(tmp_path, [ROW], where="train_data_cropped")
    with pytest.raises(UserError, match="move one copy"):
        dfme.load(tmp_path)


def test_one_clip_in_two_parts_is_refused(tmp_path):
    write(tmp_path, [ROW])
    write(tmp_path, [ROW], book="DFME_testB.xlsx")
    with pytest.raises(UserError, match="sub0003/sub0003_01 twice"):
        dfme.load(tmp_path)


def test_a_sheet_without_pictures_says_what_is_wanted(tmp_path):
    _standins.write_workbook(tmp_path / "dfme_train.xlsx", [TITLES, ROW])
    with pytest.raises(UserError, match=r"sub0003_01/00000\.png"):
        dfme.load(tmp_path)


def test_a_standin_says_so(standin, tmp_path):
    assert dfme.is_standin(standin)
    assert not dfme.is_standin(tmp_path)
