"""DFME, the public part: 2,629 micro-expressions of 259 subjects at 200, 300 or 500 frames a second, seven emotions.

Three workbooks, one a part ("train", "A", "B"), and a folder of pictures a clip, ``train_data/sub0003_01/00000.png``,
found by its name wherever it lies. The sheets count frames from 0, as the files do: the onset of 1,240 clips is 0, and
no row of a 500-frames-a-second clip has an index that a cut clip could not have (the largest offset is 459). Copies of
the sheets differ in letter case and in columns; without the emotion, as the challenge gave test rows out, a clip is
unlabelled. The parts are the official split; no subject is in two.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

from fleeting.datasets import _fixes, _sheets, _standins
from fleeting.errors import UserError
from fleeting.records import Clip, Info, unique

INFO = Info(
    title="DFME, public part",
    paper="Zhao et al., DFME: A New Benchmark for Dynamic Facial Micro-Expression Recognition, IEEE Transactions on "
    "Affective Computing 2023",
    doi="10.1109/TAFFC.2023.3341918",
    licence="signed licence agreement, academic use only, no redistribution; some faces must not be printed",
    request="https://mea-lab-421.github.io/",
    counts={
        "dfme": {
            "anger": 241, "contempt": 171, "disgust": 735, "fear": 365, "happiness": 311, "sadness": 359,
            "surprise": 447,
        }
    },
    subjects={"dfme": 259},
)  # fmt: skip
PARTS = {
    "train": {
        "anger": 161, "contempt": 100, "disgust": 548, "fear": 265, "happiness": 206, "sadness": 278, "surprise": 298,
    },
    "A": {"anger": 39, "contempt": 34, "disgust": 129, "fear": 62, "happiness": 63, "sadness": 46, "surprise": 101},
    "B": {"anger": 41, "contempt": 37, "disgust": 58, "fear": 38, "happiness": 42, "sadness": 35, "surprise": 48},
}  # fmt: skip
"""Published clips: part -> class -> number."""
EMOTIONS = ("anger", "contempt", "disgust", "fear", "happiness", "sadness", "surprise")
"""In the order of the sheets' EmotionId."""
_WORKBOOKS = {
    "train": ("*dfme*train*.xls*", "*train*.xls*", "*dfme*train*.csv"),
    "A": ("*testa[-_. ]*xls*", "*test*[-_ ]a[-_. ]*xls*", "*dfme*test*a.csv"),
    "B": ("*testb[-_. ]*xls*", "*test*[-_ ]b[-_. ]*xls*", "*dfme*test*b.csv"),
}
_COLUMNS = {
    "subject": ("Subject", "SubjectId", "Subject ID", "Sub"),
    "clip": ("Filename", "File name", "File", "Video", "VideoName"),
    "onset": ("OnsetFrame", "Onset", "Onset frame", "Onset_frame"),
    "apex": ("ApexFrame", "Apex", "Apex frame", "Apex_frame"),
    "offset": ("OffsetFrame", "Offset", "Offset frame", "Offset_frame"),
    "emotion": ("Emotion", "Estimated emotion"),
    "emotion_id": ("EmotionId", "Emotion Id", "Emotion_id", "Label"),
    "fps": ("Fps", "Frame rate", "FrameRate"),
    "action_units": ("AU", "AUs", "Action units"),
}
_OPTIONAL = ("subject", "apex", "emotion", "emotion_id", "fps", "action_units")
_CLIP = re.compile(r"sub\d+_\d+", re.IGNORECASE)
_DEPTH = 3  # folders below the root in which clips are looked for


def annotations(path: Path) -> list[dict[str, str]]:
    """The rows of one workbook, not corrected, in its order.

    Args:
        path: the workbook of a part.

    Returns:
        ``subject, clip, onset, apex, offset, emotion, emotion_id, fps, action_units`` as text, "" where the column
        is absent. Subject (else the clip's name up to "_") and emotion (else that of the number) in lower case.

    Raises:
        UserError: the file is no workbook, or has no names or frame numbers.
    """
    rows = _sheets.table(path, _COLUMNS, optional=_OPTIONAL)
    return [
        {
            **row,
            "clip": row["clip"].lower(),
            "subject": row["subject"].lower() or row["clip"].lower().partition("_")[0],
            "emotion": row["emotion"].lower() or _word(row["emotion_id"]),
        }
        for row in rows
    ]


def load(root: Path) -> list[Clip]:
    """The clips of the parts whose workbooks are there: train, A, B, each in the order of its sheet.

    A row that does not fit its pictures, or whose EmotionId is not its emotion's, has a `problem`.

    Args:
        root: folder with the workbooks (at most two folders down) and the clips' folders (at most three).

    Raises:
        UserError: no workbook, no clip's folder, a correction that cannot be read, a folder twice, or a clip twice.
    """
    books = sheets(root)
    folders = _folders(root)
    clips = [_clip(row, folders) for row in _fixes.applied(_rows(books), _corrections(root))]
    unique((clip.key for clip in clips), root)
    return clips


def sheets(root: Path) -> dict[str, Path]:
    """Part -> the annotation workbook that `load` reads, of the parts that are there.

    Raises:
        UserError: there is none at all, or a part has two that differ.
    """
    found = {part: _sheets.found(root, patterns) for part, patterns in _WORKBOOKS.items()}
    there = {part: path for part, path in found.items() if path}
    return there or {"train": _sheets.find(root, _WORKBOOKS["train"], INFO)}  # which says what is there instead


def notices(root: Path) -> list[str]:
    """What a user should know of this copy: the sheets, absent parts, corrections, clips' folders without a row.

    Raises:
        UserError: as `load`.
    """
    books, folders = sheets(root), _folders(root)
    told = [f"annotations of part {part} from {path.name}" for part, path in books.items()]
    told += [f"part {part} is absent: no workbook" for part in _WORKBOOKS if part not in books]
    rows = _rows(books)
    told += _fixes.told(rows, _corrections(root))
    extra = sorted(folders.keys() - {row["clip"] for row in rows})
    return told + ([f"folders without a row, left out: {len(extra)} ({', '.join(extra)})"] if extra else [])


def is_standin(root: Path) -> bool:
    """Whether the folder was written by `write_standin`."""
    return _standins.is_standin(root)


def write_standin(root: Path) -> None:
    """A small made-up corpus in the true layout: rows of the real sheets, drawn faces.

    Among them: all three frame rates, an onset of 0 and one far into the clip, titles in lower case (part A), a
    sheet without EmotionId and AU and with capital letters (part B), a missing frame, a row without a folder, a
    folder without a row.

    Raises:
        UserError: the folder holds something else.
    """
    _standins.begin(root)
    lower = [str(title).lower() for title in _TITLES]
    few: list[list[_standins.Cell]] = [[*row[:5], row[5].upper(), row[7]] for row in _ROWS["B"]]
    _standins.write_workbook(root / "DFME_training_full_with_AU.xlsx", [_TITLES, *_ROWS["train"]])
    _standins.write_workbook(root / "DFME_testA_full_with_AU.xlsx", [lower, *_ROWS["A"]])
    _standins.write_workbook(root / "DFME_testB_full_with_AU.xlsx", [[*_TITLES[:6], _TITLES[7]], *few])
    homes = {"train": "train_data", "A": "test_data_A", "B": "test_data_B"}
    for part, rows in (*_ROWS.items(), ("train", _UNNAMED)):
        for subject, clip, onset, apex, offset, *_, codes in rows:
            if clip not in _ABSENT:
                drawn = _standins.draw(f"dfme/{subject}", (onset, apex, offset), _sheets.units(str(codes)))
                before = dict.fromkeys(range(onset), drawn[onset])  # the clips' files count from 0
                shown = {index: face for index, face in (before | drawn).items() if (clip, index) not in _MISSING}
                _standins.write_frames(root / homes[part] / clip, "{:05d}.png", shown)


def _rows(books: Mapping[str, Path]) -> list[dict[str, str]]:
    return [{**row, "part": part} for part, path in books.items() for row in annotations(path)]


def _corrections(root: Path) -> dict[_fixes.Key, _fixes.Fix]:
    return _fixes.read("dfme", root, lambda subject, clip: (subject.lower(), clip.lower()), ("emotion_id", "fps"))


def _clip(row: Mapping[str, str], folders: Mapping[str, Path]) -> Clip:
    complaint = _complaint(row)
    clip = _sheets.build("dfme", {**row, "fps": "" if complaint else row["fps"]}, folders.get(row["clip"]), None)
    if not complaint or clip.problem:
        return clip
    return replace(clip, problem=f"{complaint}; fix the row or add it to dfme_fixes.csv")


def _complaint(row: Mapping[str, str]) -> str:
    """What is wrong with the columns that only this corpus has, "" if nothing is."""
    number, word = row["emotion_id"], _word(row["emotion_id"])
    if number and row["emotion"].lower() != word:
        return f"want an emotion and its own number, got {row['emotion']} with EmotionId {number} ({word or 'none'})"
    if row["fps"] and not re.fullmatch(r"[1-9]\d*(\.\d+)?", row["fps"]):
        return f"want frames a second, got {row['fps']!r}"
    return ""


def _word(number: str) -> str:
    """The emotion of an EmotionId, "" if there is none."""
    return EMOTIONS[int(number)] if number.isdecimal() and int(number) < len(EMOTIONS) else ""


def _folders(root: Path) -> dict[str, Path]:
    """Clip -> folder of its pictures.

    Raises:
        UserError: there is none, or one clip has two.
    """
    found: dict[str, Path] = {}
    for path in _walk(root, _DEPTH):
        name = path.name.lower()
        if name in found:
            raise UserError(
                f"{root}: want one folder a clip, got {found[name]} and {path}; move one copy of the pictures away"
            )
        found[name] = path
    if not found:
        raise UserError(
            f"{root}: want the frames of {INFO.title} (train_data/sub0003_01/00000.png ...), found none; unpack them "
            f"beside the sheets, or ask for the corpus at {INFO.request}"
        )
    return found


def _walk(folder: Path, depth: int) -> Iterator[Path]:
    """Folders named like a clip, at most `depth` folders further down; what lies in them is not looked at."""
    for path in _sheets.subfolders(folder):
        if _CLIP.fullmatch(path.name):
            yield path
        elif depth:
            yield from _walk(path, depth - 1)


_TITLES: list[_standins.Cell] = [
    "Subject",
    "Filename",
    "OnsetFrame",
    "ApexFrame",
    "OffsetFrame",
    "Emotion",
    "EmotionId",
    "Fps",
    "AU",
]
_Row = tuple[str, str, int, int, int, str, int, int, int | str]
_ROWS: dict[str, tuple[_Row, ...]] = {
    "train": (
        ("sub0013", "sub0013_05", 35, 62, 92, "anger", 0, 500, "7+10"),
        ("sub0032", "sub0032_24", 0, 23, 32, "fear", 3, 300, "L6"),
        ("sub0072", "sub0072_07", 0, 16, 55, "surprise", 6, 300, "1+2+5"),
        ("sub0105", "sub0105_07", 5, 31, 60, "contempt", 1, 300, "6+R12"),
        ("sub0117", "sub0117_08", 0, 14, 26, "disgust", 2, 200, 4),
        ("sub0153", "sub0153_07", 8, 10, 26, "anger", 0, 200, 4),
        ("sub0153", "sub0153_11", 6, 17, 24, "disgust", 2, 200, 4),
        ("sub0183", "sub0183_01", 0, 21, 36, "disgust", 2, 200, "4+7+10"),
        ("sub0183", "sub0183_03", 0, 16, 29, "sadness", 5, 200, 4),
        ("sub0196", "sub0196_07", 0, 31, 44, "happiness", 4, 200, "L12+AD38"),
    ),
    "A": (
        ("sub0139", "sub0139_03", 22, 31, 43, "fear", 3, 200, "4+5"),
        ("sub0191", "sub0191_02", 8, 52, 59, "happiness", 4, 200, "6+12"),
        ("sub0192", "sub0192_02", 16, 28, 49, "anger", 0, 200, 4),
        ("sub0199", "sub0199_08", 9, 38, 56, "surprise", 6, 200, "R1+R2+5"),
    ),
    "B": (
        ("sub0127", "sub0127_06", 0, 25, 34, "happiness", 4, 200, 12),
        ("sub0166", "sub0166_09", 2, 15, 34, "contempt", 1, 200, "R12"),
        ("sub0236", "sub0236_03", 0, 20, 25, "anger", 0, 200, 5),
        ("sub0222", "sub0222_09", 0, 24, 50, "sadness", 5, 200, 17),
    ),
}
_UNNAMED: tuple[_Row, ...] = (("sub0200", "sub0200_02", 0, 19, 33, "anger", 0, 200, 4),)  # drawn, not in the sheet
_ABSENT = {"sub0192_02"}
_MISSING = {("sub0032_24", 10)}
