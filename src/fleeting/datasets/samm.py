"""SAMM: 159 micro-expressions of 29 subjects, grey pictures of 960 x 650 at 200 frames a second.

Layout, at the root or up to two folders below it::

    SAMM_Micro_FACS_Codes_v2.xlsx       the annotations, below a preamble of 13 rows in the original
    006/006_1_2/006_05562.jpg           subject, clip, subject and frame

Most frame numbers have five digits, those of 013_1_12, 013_1_8, 017_3_2, 026_1_1, 026_1_2 and 035_7_2 four: they are
read as numbers. The sheet's apexes that lie outside of their clips are corrected in ``samm_fixes.csv``; that of
028_4_1 is a guess (copies differ), and `notices` says so.
"""

from pathlib import Path

from fleeting.datasets import _fixes, _sheets, _standins
from fleeting.errors import UserError
from fleeting.records import Clip, Info, unique

INFO = Info(
    title="SAMM",
    paper="Davison et al., SAMM: A Spontaneous Micro-Facial Movement Dataset, IEEE Transactions on Affective "
    "Computing 9(1), 2018",
    doi="10.1109/TAFFC.2016.2573832",
    licence="signed agreement, academic research only, no redistribution",
    request="https://personalpages.manchester.ac.uk/staff/adrian.davison/SAMM.html",
    # of the sheet: of the 32 people recorded, 29 show a micro-expression
    counts={
        "samm": {
            "Anger": 57, "Other": 26, "Happiness": 26, "Surprise": 15, "Contempt": 12, "Disgust": 9, "Fear": 8,
            "Sadness": 6,
        }
    },
    subjects={"samm": 29},
)  # fmt: skip
FPS = 200.0
_WORKBOOKS = ("*samm*micro*facs*.xls*", "*samm*facs*.xls*", "*samm*facs*.csv")
_COLUMNS = {
    "subject": ("Subject",),
    "clip": ("Filename",),
    "onset": ("Onset Frame", "OnsetFrame", "Onset"),
    "apex": ("Apex Frame", "ApexFrame", "Apex"),
    "offset": ("Offset Frame", "OffsetFrame", "Offset"),
    "action_units": ("Action Units", "Action Unit", "AU"),
    "emotion": ("Estimated Emotion", "Emotion"),
}
_HOLDING = "[0-9][0-9][0-9]"


def load(root: Path) -> list[Clip]:
    """The clips in the order of the sheet; a row that does not fit its frames carries a `problem`.

    Raises:
        UserError: no sheet, no frames, a sheet or a correction that cannot be read, or a clip that is named twice.
    """
    path = sheet(root)
    frames = _frames(root)
    rows = _fixes.applied(annotations(path), _fixes.read("samm", root, _names))
    unique((f"{row['subject']}/{row['clip']}" for row in rows), path)
    return [_sheets.build("samm", row, _folder(frames, row["subject"], row["clip"]), FPS) for row in rows]


def sheet(root: Path) -> Path:
    """The annotation workbook that `load` reads.

    Raises:
        UserError: there is none.
    """
    return _sheets.find(root, _WORKBOOKS, INFO)


def annotations(path: Path) -> list[dict[str, str]]:
    """The rows of the sheet, uncorrected: subjects with three digits, frame numbers and action units as text.

    Raises:
        UserError: the file cannot be read or a column is missing.
    """
    rows = _sheets.table(path, _COLUMNS, optional=("action_units",))
    return [{**row, "subject": _names(row["subject"], row["clip"])[0]} for row in rows]


def notices(root: Path) -> list[str]:
    """What a user should know of this copy: the sheet that was read, corrections, folders of frames without a row.

    Raises:
        UserError: as `load`.
    """
    path = sheet(root)
    frames = _frames(root)
    rows = annotations(path)
    named = {row["clip"] for row in rows}
    told = [f"annotations from {path.name}, frames from {frames}"]
    told += _fixes.told(rows, _fixes.read("samm", root, _names))
    return told + _sheets.rowless(frames, lambda clip: clip.name in named)


def is_standin(root: Path) -> bool:
    """Whether the folder was written by `write_standin`."""
    return _standins.is_standin(root)


def write_standin(root: Path) -> None:
    """A small made-up corpus in the true layout: rows of the real sheet below a preamble, drawn faces in grey.

    Among them: the two apexes outside of their clips, apexes next to the onset and the offset, the row whose offset
    copies give differently, action units in brackets, with letters and with "or", frame numbers of four digits, a frame
    that is not there, a folder without a row, a stray file.

    Raises:
        UserError: the folder holds something else.
    """
    _standins.begin(root)
    book = root / "SAMM_Micro_FACS_Codes_v2.xlsx"
    _standins.write_workbook(book, [*_PREAMBLE, _TITLES, *_ROWS], "MICRO_ONLY")
    for row in [*_fixes.applied(annotations(book), _fixes.read("samm")), _UNLABELLED]:
        subject, clip = row["subject"], row["clip"]
        moment = int(row["onset"]), int(row["apex"]), int(row["offset"])
        shown = _standins.draw(f"samm/{subject}", moment, _sheets.units(row["action_units"]))
        grey = {index: _standins.grey(picture) for index, picture in shown.items() if (clip, index) not in _ABSENT}
        digits = "{:04d}" if clip in _FOUR_DIGITS else "{:05d}"
        _standins.write_frames(root / "SAMM" / subject / clip, f"{subject}_{digits}.jpg", grey)
    (root / "SAMM" / "007" / "007_7_1" / "Thumbs.db").write_bytes(b"not a picture")


def _frames(root: Path) -> Path:
    found = _sheets.folder(root, ("samm*", "*"), holding=_HOLDING)
    if found is None:
        raise UserError(
            f"{root}: want the frames of {INFO.title} (006/006_1_2/006_05562.jpg ...), found none; unpack them beside "
            f"the sheet, or ask for the corpus at {INFO.request}"
        )
    return found


def _names(subject: str, clip: str) -> tuple[str, str]:
    """ "6" is 006."""
    return subject.zfill(3), clip


def _folder(frames: Path, subject: str, clip: str) -> Path | None:
    path = frames / subject / clip
    return path if path.is_dir() else None


_PREAMBLE: tuple[tuple[str, ...], ...] = (
    ("SAMM Dataset - Master FACS Codes",), (), ("9/9/17 - New updates with Emotional and Objective Classes.",), (), (),
    ("Symbol Key:",), ('"/" = or',), ('"?" = some AU\'s continue for a while and have unclear offset',), (),
    ("AU Help:",), ('"L2 or R2" = Unilateral AU 2 on left side of face / right side of face',),
    ('"A2" = Asymmetric AU 2. Occurs on both sides of face but stronger on one side',), (),
)  # fmt: skip
_TITLES = (
    "Subject", "Filename", "Inducement Code", "Onset Frame", "Apex Frame", "Offset Frame", "Duration", "Micro",
    "Action Units", "Estimated Emotion", "Objective Classes", "Notes",
)  # fmt: skip
_MICRO = "Micro - 1/2"
_ROWS: tuple[tuple[str | int, ...], ...] = (
    ("006", "006_3_4", 3, 639, 668, 702, 64, _MICRO, "15A+17", "Sadness", 5),
    ("007", "007_6_1", 6, 497, 511, 541, 45, _MICRO, "(R6 or R12)+R15", "Happiness", 7),
    ("007", "007_7_1", 7, 7030, 7056, 7070, 41, _MICRO, "5B+24", "Surprise", 2),
    ("010", "010_4_1", 4, 3528, 3548, 3557, 30, _MICRO, "ref(7B)+43C", "Anger", 7),
    ("010", "010_4_2", 4, 6708, 6730, 6738, 31, _MICRO, "7B+ ref(43)", "Anger", 7),
    ("011", "011_2_1", 2, 2029, 2050, 2068, 40, _MICRO, "A9+12", "Disgust", 4, "Smiles during AU9"),
    ("011", "011_5_1", 5, 1048, 1071, 1088, 41, _MICRO, "L14", "Contempt", 7),
    ("013", "013_1_8", 1, 841, 867, 919, 79, _MICRO, "7A", "Anger", 7),
    ("013", "013_1_9", 1, 5658, 5680, 5739, 82, _MICRO, 7, "Anger", 7),
    ("014", "014_1_1", 1, 2856, 2881, 2897, 42, _MICRO, 20, "Fear", 6),
    ("014", "014_6_1", 6, 1316, 1334, 1350, 35, _MICRO, "L12A", "Happiness", 1, "Eye movement"),
    ("018", "018_7_1", 7, 10133, 10156, 10175, 43, _MICRO, 5, "Surprise", 2, "Slight eye movement"),
    ("020", "020_1_1", 1, 2804, 2823, 2837, 34, _MICRO, "L2", "Other", 7),
    ("026", "026_2_3", 2, 2607, 2642, 2685, 79, _MICRO, "4B+7B+43E", "Anger", 3, "Blinks hard"),
    ("026", "026_3_3", 3, 1704, 1736, 1737, 34, _MICRO, "7B", "Anger", 7),
    ("028", "028_4_1", 4, 1071, 1143, 1134, 64, _MICRO, "A14C", "Contempt", 7, "Blinks"),
    ("032", "032_3_1", 3, 4896, 1930, 4970, 75, _MICRO, "4A", "Anger", 3),
    ("032", "032_3_2", 3, 5126, 5127, 5207, 82, _MICRO, "4A", "Anger", 3),
    ("032", "032_3_3", 3, 3425, 3464, 3469, 45, _MICRO, "24+38", "Other", 7),
    ("035", "035_7_2", 7, 823, 855, 918, 96, _MICRO, "R14A or 17A or 24A", "Contempt", 7),
)
_UNLABELLED = {"subject": "007", "clip": "007_9_9", "onset": "1", "apex": "10", "offset": "20", "action_units": ""}
_FOUR_DIGITS = ("013_1_8", "035_7_2")
_ABSENT = (("010_4_2", 6730), ("007_7_1", 7040))  # frames: an apex, and one that the sheet does not name
