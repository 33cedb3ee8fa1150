"""Corrections of sheets: what a line may say, which rows answer to it, and what the user is told."""

import re
import shutil

import pytest

from fleeting.datasets import _fixes, casme2, casme3, dfme, samm, smic_hs
from fleeting.errors import UserError

ROW = {
    "subject": "s1", "clip": "a", "onset": "3", "apex": "5", "offset": "9", "emotion": "joy", "action_units": "4+L10",
}  # fmt: skip
HEADER = "subject,clip,onset,to_onset,apex,offset,reason"


@pytest.fixture
def own(tmp_path):
    """Writes lines as the user's file of casme2 and reads it."""

    def write(*lines, header=HEADER, names=_fixes._as_written, also=()):
        (tmp_path / "casme2_fixes.csv").write_text("\n".join((header, *lines)) + "\n", encoding="utf-8")
        return _fixes.read("casme2", tmp_path, names, also)

    return write


@pytest.fixture(scope="module")
def standins(tmp_path_factory):
    """Loader -> its stand-in. Not to be changed by a test."""
    base = tmp_path_factory.mktemp("standins")
    for module in (casme2, samm, smic_hs, casme3, dfme):
        module.write_standin(base / module.__name__)
    return {module: base / module.__name__ for module in (casme2, samm, smic_hs, casme3, dfme)}


# the packaged files


@pytest.mark.parametrize("name", ["casme2", "samm", "smic_hs", "casme3", "dfme"])
def test_every_packaged_correction_has_a_reason_and_changes_something(name):
    for fix in _fixes.read(name, also=("emotion_id", "fps")).values():
        assert len(fix.reason) > 20
        assert fix.fields
        assert (fix.own, fix.where) == (False, f"{name}_fixes.csv of the package")


def test_a_corpus_without_a_file_has_no_corrections():
    assert _fixes.read("nothing") == {}


# lines and rows


def test_a_row_is_corrected_by_subject_clip_and_onset_only(own):
    known = own("s1,a,3,,/,,because")
    assert _fixes.corrected(ROW, known) == {**ROW, "apex": "/"}
    assert _fixes.corrected({**ROW, "onset": "4"}, known) == {**ROW, "onset": "4"}
    assert ROW["apex"] == "5"


def test_the_onset_is_the_key_and_is_corrected_by_its_own_column(own):
    assert _fixes.corrected(ROW, own("s1,a,3,4,,,because")) == {**ROW, "onset": "4"}


def test_emotion_and_units_are_corrected_too(own):
    known = own("s1,a,3,fear,4+5,because", header="Subject, CLIP ,onset,emotion,action_units,reason")
    assert _fixes.corrected(ROW, known) == {**ROW, "emotion": "fear", "action_units": "4+5"}


@pytest.mark.parametrize("onset", ["3", "3.0", "003", " 3 "])
def test_one_onset_may_be_written_in_many_ways(own, onset):
    assert _fixes.corrected(ROW, own(f"s1,a,{onset},,4,,because"))["apex"] == "4"
    assert _fixes.corrected({**ROW, "onset": onset.strip()}, own("s1,a,3,,4,,because"))["apex"] == "4"


def test_an_onset_that_is_no_number_is_found_as_it_is_written(own):
    assert _fixes.corrected({**ROW, "onset": "soon"}, own("s1,a,soon,4,,,because"))["onset"] == "4"


def test_names_may_be_written_as_in_the_sheet_or_as_in_the_key(own):
    for subject in ("1", "S1"):
        known = own(f"{subject},A,3,,4,,because", names=lambda subject, clip: (f"s{subject[-1]}", clip.lower()))
        assert _fixes.corrected(ROW, known)["apex"] == "4"


def test_a_users_line_replaces_the_packaged_one(tmp_path):
    (tmp_path / "samm_fixes.csv").write_text(
        "\ufeffsubject,clip,onset,apex,offset,reason\n028,028_4_1,1071,1103,,seen\n,,,,,\n\n006,006_1_2,5562,,5630,seen\n",
        encoding="utf-8",
    )
    found = _fixes.read("samm", tmp_path)
    assert (found["028", "028_4_1", "1071"].fields, found["028", "028_4_1", "1071"].own) == ({"apex": "1103"}, True)
    assert found["006", "006_1_2", "5562"].fields == {"offset": "5630"}
    assert found["032", "032_3_1", "4896"].fields == {"apex": "4930"}
    assert len(found) == len(_fixes.read("samm")) + 1


# nothing is passed over


@pytest.mark.parametrize(
    ("header", "line", "complaint"),
    [
        ("subject,clip,apex,reason", "", "want columns subject, clip, onset and reason, got "),
        ("subject;clip;onset;reason", "", "want columns subject, clip, onset and reason, got "),
        ("", "", "want columns subject, clip, onset and reason, got "),
        (
            "subject,clip,onset,offest,reason", "s1,a,3,9,x",
            "want columns that can be corrected, got 'offest'; did you mean 'offset'?",
        ),
        ("subject,clip,onset,fps,reason", "s1,a,3,9,x", "want columns that can be corrected, got 'fps'; "),
        ("subject,clip,onset,apex,apex,reason", "s1,a,3,4,5,x", "want every column once, got "),
        (HEADER, "s1,a,3,,4,,", "want a reason for s1/a/3, got none; "),
        (HEADER, "s1,a,3,,,,because", "want something to correct for s1/a/3, got only a reason; "),
        (HEADER, "s1,a,3,,4,,because, you see", "want 7 cells for s1/a/3, got more; quote a cell that holds a comma"),
        (HEADER, "s1,a,3,,4,,because\ns1,a,3.0,,5,,because", "want one line a row, got s1/a/3 and s1/a/3.0; "),
    ],
)  # fmt: skip
def test_a_line_that_would_be_passed_over_is_refused(own, tmp_path, header, line, complaint):
    with pytest.raises(UserError) as caught:
        own(line, header=header)
    assert str(caught.value).startswith(f"{tmp_path / 'casme2_fixes.csv'}: {complaint}")
    assert "\n" not in str(caught.value)


def test_a_loader_may_know_more_columns(own):
    known = own("s1,a,3,500,because", header="subject,clip,onset,fps,reason", also=("fps",))
    assert _fixes.corrected(ROW, known)["fps"] == "500"


def test_a_file_in_another_encoding_is_one_line(tmp_path):
    (tmp_path / "casme2_fixes.csv").write_bytes(f"{HEADER}\ns1,a,3,,4,,für\n".encode("latin-1"))
    with pytest.raises(UserError, match=r"casme2_fixes\.csv: want a CSV file in UTF-8, cannot read it"):
        _fixes.read("casme2", tmp_path)


def test_a_users_line_without_a_row_is_named_with_the_nearest_row(own):
    with pytest.raises(UserError, match=r"want rows of the sheet, got 's1/a/4', which is none; did you mean 's1/a/3'"):
        _fixes.applied([ROW], own("s1,a,4,,5,,because"))
    with pytest.raises(UserError, match=r"got 'x/yz/17', which is none; write subject, clip and onset as the sheet"):
        _fixes.applied([ROW], own("x,yz,17,,5,,because"))


def test_a_packaged_line_without_a_row_does_no_harm():
    assert _fixes.applied([ROW], _fixes.read("samm")) == [ROW]


# what is told


def test_every_change_is_told_with_its_reason(own, tmp_path):
    rows = [ROW, {**ROW, "clip": "b"}, {**ROW, "clip": "c"}]
    known = own("s1,a,3,4,/,9,two are wrong", "s1,b,3,,5,,it says so already")
    path = tmp_path / "casme2_fixes.csv"
    assert _fixes.told(rows, known) == [f"{path} corrects s1/a at 3: onset 3 to 4, apex 5 to none (two are wrong)"]


# the loaders


USED = {  # loader -> a line as the sheet writes its names, the clip's key, (onset, apex, offset) after it
    casme2: ("1,EP02_01f,46,47,60,,seen", "casme2/sub01/EP02_01f", (47, 60, 86)),
    samm: ("7,007_6_1,497,498,512,,seen", "samm/007/007_6_1", (498, 512, 541)),
    smic_hs: ("s1,s1_ne_01,559740,559741,,559770,seen", "smic/s01/s01_ne_01", (559741, None, 559770)),
    casme3: ("spNO.14,J,1012,1013,,1030,seen", "casme3/spNO.14/j@1013", (1013, 1019, 1030)),
    dfme: ("sub0127,SUB0127_06,0,1,26,,seen", "dfme/sub0127/sub0127_06", (1, 26, 34)),
}


@pytest.mark.parametrize("module", USED)
def test_every_loader_corrects_onset_apex_and_offset_and_says_so(module, standins, tmp_path):
    root, (line, key, marks), name = tmp_path / "copy", USED[module], module.__name__.rpartition(".")[2]
    shutil.copytree(standins[module], root)
    (root / f"{name}_fixes.csv").write_text(f"{HEADER}\n{line}\n", encoding="utf-8")
    (clip,) = [clip for clip in module.load(root) if clip.key == key]
    assert not clip.problem
    names = [None if place is None else clip.frames[place].stem for place in (clip.onset, clip.apex, clip.offset)]
    assert tuple(name and int(re.findall(r"\d+", name)[-1]) for name in names) == marks
    (told,) = [notice for notice in module.notices(root) if str(root / f"{name}_fixes.csv") in notice]
    assert told.endswith("(seen)")
    assert f"onset {line.split(',')[2]} to {marks[0]}" in told


@pytest.mark.parametrize("module", USED)
def test_no_loader_passes_over_a_line_of_the_user(module, standins, tmp_path):
    root, name = tmp_path / "copy", module.__name__.rpartition(".")[2]
    shutil.copytree(standins[module], root)
    subject, clip, onset, *rest = USED[module][0].split(",")
    (root / f"{name}_fixes.csv").write_text(f"{HEADER}\n{subject},{clip},{int(onset) + 1},{','.join(rest)}\n")
    with pytest.raises(UserError, match=f"{name}_fixes.csv: want rows of the sheet, got '{subject}/{clip}/"):
        module.load(root)
