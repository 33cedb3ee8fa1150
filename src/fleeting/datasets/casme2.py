"""CASME II: 255 micro-expressions of 26 subjects at 200 frames a second, raw recordings or the corpus' own crops.

Layout, at the root or up to two folders below it::

    CASME2-coding-20140508.xlsx                    the annotations; CASME2-coding-20190701.xlsx where it is absent
    CASME2_RAW_selected/sub01/EP02_01f/img46.jpg   640 x 480; or, where there are no raw frames,
    Cropped/sub01/EP02_01f/reg_img46.jpg           about 280 x 340

The revisions of the sheet differ in three emotions and in many action units; the 2014 one is taken where both
are there, because the published protocols follow it. Its titles vary between copies, and so does the apex of
04/EP12_01f: "/" or a number that was filled in later (see ``casme2_fixes.csv``).
"""

from pathlib import Path

from fleeting.datasets import _fixes, _sheets, _standins
from fleeting.errors import UserError
from fleeting.records import Clip, Info, unique

INFO = Info(
    title="CASME II",
    paper="Yan et al., CASME II: An Improved Spontaneous Micro-Expression Database and the Baseline Evaluation, "
    "PLoS ONE 9(1), 2014",
    doi="10.1371/journal.pone.0086041",
    licence="signed agreement, academic research only, no redistribution",
    request="http://casme.psych.ac.cn/casme/e2",
    # of the 2014 sheet
    counts={
        "casme2": {
            "others": 99,
            "disgust": 63,
            "happiness": 32,
            "repression": 27,
            "surprise": 25,
            "sadness": 7,
            "fear": 2,
        }
    },
    subjects={"casme2": 26},
)
FPS = 200.0
_WORKBOOKS = (
    "casme2*2014*.xls*", "casme2*2019*.xls*", "casme2*coding*.xls*", "casme2*label*.xls*", "casme2*coding*.csv",
    "casme2.xls*", "casme2.csv",
)  # fmt: skip
_COLUMNS = {
    "subject": ("Subject", "sub"),
    "clip": ("Filename", "File name"),
    "onset": ("OnsetFrame", "Onset Frame", "Onset"),
    "apex": ("ApexFrame", "Apex Frame", "Apex"),
    "offset": ("OffsetFrame", "Offset Frame", "Offset"),
    "action_units": ("Action Units", "Action Unit", "AU", "AUs"),
    "emotion": ("Estimated Emotion", "Emotion"),
}
_FRAMES = ("casme2?raw*", "*raw*", "*crop*", "*")  # raw recordings before crops


def load(root: Path) -> list[Clip]:
    """The clips in the order of the sheet; a row that does not fit its frames carries a `problem`.

    Raises:
        UserError: no sheet, no frames, a sheet or a correction that cannot be read, or a clip that is named twice.
    """
    path = sheet(root)
    frames = _frames(root)
    rows = _fixes.applied(annotations(path), _fixes.read("casme2", root, _names))
    unique((f"{row['subject']}/{row['clip']}" for row in rows), path)
    return [_sheets.build("casme2", row, _folder(frames, row["subject"], row["clip"]), FPS) for row in rows]


def sheet(root: Path) -> Path:
    """The annotation workbook that `load` reads.

    Raises:
        UserError: there is none.
    """
    return _sheets.find(root, _WORKBOOKS, INFO)


def annotations(path: Path) -> list[dict[str, str]]:
    """The rows of the sheet, uncorrected: subjects as "sub01", frame numbers and action units as text.

    Raises:
        UserError: the file cannot be read or a column is missing.
    """
    rows = _sheets.table(path, _COLUMNS, optional=("action_units",))
    return [{**row, "subject": _subject(row["subject"])} for row in rows]


def notices(root: Path) -> list[str]:
    """What a user should know of this copy: the sheet that was read, corrections, folders of frames without a row.

    Raises:
        UserError: as `load`.
    """
    path = sheet(root)
    frames = _frames(root)
    rows = annotations(path)
    named = {(row["subject"], row["clip"]) for row in rows}
    told = [f"annotations from {path.name}, frames from {frames}"]
    told += _fixes.told(rows, _fixes.read("casme2", root, _names))
    return told + _sheets.rowless(frames, lambda clip: (_subject(clip.parent.name), clip.name) in named)


def is_standin(root: Path) -> bool:
    """Whether the folder was written by `write_standin`."""
    return _standins.is_standin(root)


def write_standin(root: Path) -> None:
    """A small made-up corpus in the true layout: rows of the real sheet, drawn faces.

    Among them: subjects as text and as numbers, an apex of "/" and one on the onset, one on the offset, an unknown
    action unit, an offset frame that is not there, folders without a row, a shortcut among the frames.

    Raises:
        UserError: the folder holds something else.
    """
    _standins.begin(root)
    rows = [(subject, clip, None, *marks, None, codes, word) for subject, clip, *marks, codes, word in _ROWS]
    _standins.write_workbook(root / "CASME2-coding-20140508.xlsx", [_TITLES, *rows])
    frames = root / "CASME2_RAW_selected"
    for person, clip, onset, apex, offset, codes, _ in (*_ROWS, *_UNLABELLED):
        subject = str(person).zfill(2)
        moment = onset, apex if isinstance(apex, int) else (onset + offset) // 2, offset
        shown = _standins.draw(f"casme2/{subject}", moment, _sheets.units(str(codes)))
        kept = {index: picture for index, picture in shown.items() if (subject, clip, index) not in _ABSENT}
        _standins.write_frames(frames / f"sub{subject}" / clip, "img{}.jpg", kept)
    for name in ("img46.jpg - Shortcut.lnk", "Thumbs.db"):
        (frames / "sub01" / "EP02_01f" / name).write_bytes(b"not a picture")


def _frames(root: Path) -> Path:
    found = _sheets.folder(root, _FRAMES, holding="sub[0-9]*")
    if found is None:
        raise UserError(
            f"{root}: want the frames of {INFO.title} (CASME2_RAW_selected/sub01/... or Cropped/sub01/...), found "
            f"none; unpack them beside the sheet, or ask for the corpus at {INFO.request}"
        )
    return found


def _folder(frames: Path, subject: str, clip: str) -> Path | None:
    """Of a clip; some copies write sub1 for sub01."""
    names = (subject, f"sub{int(subject.removeprefix('sub'))}") if subject[3:].isdigit() else (subject,)
    return next((frames / name / clip for name in names if (frames / name / clip).is_dir()), None)


def _names(subject: str, clip: str) -> tuple[str, str]:
    return _subject(subject), clip


def _subject(text: str) -> str:
    """ "1", "01" and "sub01" are sub01."""
    return f"sub{text.lower().removeprefix('sub').zfill(2)}"


# rows of the 2014 sheet, with the two blank columns, the "/" and the numbers for subjects that some copies have
_TITLES = (
    "Subject", "Filename", None, "OnsetFrame", "ApexFrame", "OffsetFrame", None, "Action Units", "Estimated Emotion",
)  # fmt: skip
_ROWS: tuple[tuple[str | int, str, int, int | str, int, int | str, str], ...] = (
    ("01", "EP02_01f", 46, 59, 86, 12, "happiness"),
    ("01", "EP03_02", 131, 139, 161, 18, "others"),
    ("01", "EP19_05f", 396, 416, 446, "4+L10", "disgust"),
    (2, "EP01_11f", 46, 91, 96, 15, "repression"),
    (2, "EP14_01", 81, 114, 126, "1+L2", "surprise"),
    ("03", "EP19_08", 101, 121, 141, "4+7+9", "disgust"),
    ("04", "EP12_01f", 261, "/", 321, "4+7", "disgust"),
    ("05", "EP07_01", 49, 66, 106, "?", "others"),
    ("05", "EP09_05f", 69, 69, 123, "R2+15", "disgust"),
    ("05", "EP12_03f", 11, 36, 61, 25, "surprise"),
    ("09", "EP09f", 26, 64, 86, 15, "happiness"),
    ("09", "EP13_02", 71, 96, 131, 20, "fear"),
    (12, "EP09_06", 66, 111, 111, "4+7", "disgust"),
    ("17", "EP12_03", 131, 156, 184, 17, "repression"),
    ("17", "EP15_01", 81, 104, 111, 1, "sadness"),
    (24, "EP07_01", 24, 41, 66, 1, "sadness"),
)
_UNLABELLED = (("09", "EP02_02f", 1, 10, 20, "", ""), ("24", "EP02_07", 1, 10, 20, "", ""))
_ABSENT = (("03", "EP19_08", 141), ("01", "EP02_01f", 50))  # frames: an offset, and one that the sheet does not name
