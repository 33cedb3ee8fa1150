"""CAS(ME)^3 part A: 860 micro-expressions of 94 subjects in long videos, 30 frames a second, seven emotions.

The sheet is ``cas(me)3_part_A_ME_label_JpgIndex_v2.xlsx``. A subject has up to 13 videos, a to m, most with several
expressions, so a clip is named after its video and onset, ``b@166``. Frame numbers are those of the files
``part_A/spNO.1/b/color/166.jpg``; a clip holds the pictures from onset to offset. Where the long video is not there,
the cut clips ``Part_A_ME_clip/frame/spNO.1_b_166/`` are taken (their layout is known from public scripts only).

Four impossible rows are corrected in another workbook of the corpus (``casme3_fixes.csv``), one offset is not known;
one row starts at frame 0, of which only the files can tell whether it exists.
"""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path

from fleeting.datasets import _fixes, _sheets, _standins
from fleeting.errors import UserError
from fleeting.records import Clip, Info, unique

INFO = Info(
    title="CAS(ME)^3 part A, micro-expressions",
    paper="Li et al., CAS(ME)3: A Third Generation Facial Spontaneous Micro-Expression Database With Depth "
    "Information and High Ecological Validity, IEEE TPAMI 2023",
    doi="10.1109/TPAMI.2022.3174895",
    licence="signed licence agreement, academic use only, no redistribution",
    request="http://casme.psych.ac.cn/casme/c4",
    counts={
        "casme3": {
            "anger": 64, "disgust": 250, "fear": 86, "happy": 55, "others": 161, "sad": 57, "surprise": 187,
        }
    },
    subjects={"casme3": 94},
)  # fmt: skip
FPS = 30.0
_WORKBOOKS = ("cas(me)3_part_a_me_label*.xlsx", "*casme3*part*a*me*.xls*", "cas(me)3_part_a_me*.csv")
# folders: part A by its name, else any but those of parts B and C, in which people may be named alike
_PART = ("*part?a", "*part?a[!a-z]*", "*parta", "*parta[!a-z]*", "*")
_OTHER_PARTS = ("*part?[bc]", "*part?[bc][!a-z]*", "*part[bc]", "*part[bc][!a-z]*")
_COLUMNS = {
    "subject": ("Subject",),
    "clip": ("Filename",),
    "onset": ("Onset",),
    "apex": ("Apex",),
    "offset": ("Offset",),
    "action_units": ("AU",),
    "emotion": ("emotion",),
}


def annotations(path: Path) -> list[dict[str, str]]:
    """The rows of the sheet, not corrected, in its order.

    Args:
        path: the workbook.

    Returns:
        ``subject, clip, onset, apex, offset, emotion, action_units`` as text. `clip` is the letter of the video and
        `emotion` the sheet's word, both in lower case ("Others" is others).

    Raises:
        UserError: the file is no workbook, or a column is missing.
    """
    rows = _sheets.table(path, _COLUMNS)
    return [{**row, "clip": _names("", row["clip"])[1], "emotion": row["emotion"].lower()} for row in rows]


def load(root: Path) -> list[Clip]:
    """The clips in the order of the sheet; a row that does not fit its pictures carries a `problem`.

    Args:
        root: folder with the sheet and ``part_A`` or ``Part_A_ME_clip``, each at most two folders down.

    Raises:
        UserError: no sheet, no such folder, a correction that cannot be read, or a clip twice.
    """
    path = sheet(root)
    videos, cuts = _places(root)
    rows = annotations(path)
    known = _fixes.read("casme3", root, _names)
    pairs = zip(rows, _fixes.applied(rows, known), strict=True)
    clips = [_clip(right, row["onset"], _fixes.of(row, known), (videos, cuts)) for row, right in pairs]
    unique((clip.key for clip in clips), path)
    return clips


def sheet(root: Path) -> Path:
    """The annotation workbook that `load` reads.

    Raises:
        UserError: there is none.
    """
    return _sheets.find(root, _WORKBOOKS, INFO)


def notices(root: Path) -> list[str]:
    """What a user should know of this copy: the sheet, where the frames are, corrections, videos without a row.

    Raises:
        UserError: as `load`.
    """
    path = sheet(root)
    videos, cuts = _places(root)
    rows = annotations(path)
    frames = " and ".join(str(place) for place in (videos, cuts) if place)
    told = [f"annotations from {path.name}, frames from {frames}"]
    told += _fixes.told(rows, _fixes.read("casme3", root, _names))
    extra = _unnamed(videos, rows) if videos else []
    return told + ([f"videos without a row, left out: {len(extra)} ({', '.join(extra)})"] if extra else [])


def is_standin(root: Path) -> bool:
    """Whether the folder was written by `write_standin`."""
    return _standins.is_standin(root)


def write_standin(root: Path) -> None:
    """A small made-up corpus in the true layout: rows of the real sheet, drawn faces.

    Among them: all rows that cannot be right, several expressions in a video, a video "J" in a folder "j", "Others",
    an apex on the onset, a missing frame, a video without a row, depth beside the colour, a stray file.

    Raises:
        UserError: the folder holds something else.
    """
    _standins.begin(root)
    book = root / "annotation" / "cas(me)3_part_A_ME_label_JpgIndex_v2.xlsx"
    _standins.write_workbook(book, [_TITLES, *_ROWS], "label")
    for row in _fixes.applied(annotations(book), _fixes.read("casme3")):
        moment = _DRAWN.get((row["subject"], row["clip"])) or _moment(row)
        shown = _standins.draw(f"casme3/{row['subject']}", moment, _sheets.units(row["action_units"]))
        pictures = {index: picture for index, picture in shown.items() if (row["subject"], index) not in _MISSING}
        _standins.write_frames(root / "part_A" / row["subject"] / row["clip"] / "color", "{}.jpg", pictures)
    unnamed = _standins.draw("casme3/spNO.1", (1, 2, 3), ())
    _standins.write_frames(root / "part_A" / "spNO.1" / "c" / "color", "{}.jpg", unnamed)
    _standins.write_frames(root / "part_A" / "spNO.1" / "b" / "depth", "{}.png", unnamed)
    (root / "part_A" / "spNO.1" / "b" / "color" / "Thumbs.db").write_bytes(b"not a picture")


def _clip(
    row: Mapping[str, str], written: str, fix: _fixes.Fix | None, places: tuple[Path | None, Path | None]
) -> Clip:
    """A corrected row, and the onset as the sheet writes it."""
    right = {**row, "name": f"{row['clip']}@{row['onset']}"}
    folder = _folder(right, written, *places)
    clip = _sheets.build("casme3", right, folder, FPS, None if folder is None else _shown(folder, right))
    return replace(clip, problem=f"{clip.problem} ({fix.reason})") if clip.problem and fix else clip


def _names(subject: str, clip: str) -> tuple[str, str]:
    """The sheet writes some letters of videos in upper case."""
    return subject, clip.lower()


def _places(root: Path) -> tuple[Path | None, Path | None]:
    """The folder that holds spNO.1 ..., and Part_A_ME_clip.

    Raises:
        UserError: neither is there.
    """
    people = ("spno.?", "spno.??", "spno.???")
    found = (_sheets.folder(root, (names,), holding, _OTHER_PARTS) for names in _PART for holding in people)
    videos = next((path for path in found if path), None)
    cuts = _sheets.folder(root, ("part_a_me_clip",), holding="frame")
    if videos is None and cuts is None:
        raise UserError(
            f"{root}: want the frames of {INFO.title} (part_A/spNO.1/a/color/1.jpg ...), found none; unpack them "
            f"beside the sheet, or ask for the corpus at {INFO.request}"
        )
    return videos, cuts


def _folder(row: Mapping[str, str], written: str, videos: Path | None, cuts: Path | None) -> Path | None:
    """The pictures of a row: of the long video, else the cut clip, under the corrected onset or the written one."""
    letters = (row["clip"], row["clip"].upper())
    places = [videos / row["subject"] / letter / "color" for letter in letters] if videos else []
    if cuts:
        onsets = dict.fromkeys((row["onset"], written))
        places += [cuts / "frame" / f"{row['subject']}_{letter}_{onset}" for letter in letters for onset in onsets]
    return next((place for place in places if place.is_dir()), None)


def _shown(folder: Path, row: Mapping[str, str]) -> dict[int, Path] | None:
    """The pictures from onset to offset; None where they cannot be told: `build` then reads the folder and complains.

    A folder can hold many thousands, so the few are asked for by name; only if onset, apex or offset is not found
    so, the folder is read.
    """
    try:
        ends = {index for field in ("onset", "apex", "offset") if (index := _sheets.number(row[field])) is not None}
        wanted = range(min(ends, default=0), max(ends, default=-1) + 1)
        shown = {index: path for index in wanted if (path := folder / f"{index}.jpg").is_file()}
        if not ends <= shown.keys():
            shown = {index: path for index, path in _sheets.pictures(folder).items() if index in wanted}
    except UserError:
        return None
    return shown if ends <= shown.keys() else None


def _unnamed(videos: Path, rows: Iterable[Mapping[str, str]]) -> list[str]:
    """Videos without a row."""
    named = {(row["subject"], row["clip"]) for row in rows}
    found = [(one.name, video.name) for one in _sheets.subfolders(videos) for video in _sheets.subfolders(one)]
    return [f"{subject}/{video}" for subject, video in found if (subject, video.lower()) not in named]


def _moment(row: Mapping[str, str]) -> tuple[int, int, int]:
    return int(row["onset"]), int(row["apex"]), int(row["offset"])


_TITLES = ("Subject", "Filename", "Onset", "Apex", "Offset", "AU", "Objective class", "emotion")
_ROWS = (
    ("spNO.1", "a", "355", "359", "360", "5", "II", "others"),
    ("spNO.1", "b", "166", "175", "179", "4", "III", "disgust"),
    ("spNO.1", "e", "62", "68", "96", "R12", "I", "others"),
    ("spNO.1", "e", "96", "102", "106", "R12", "I", "others"),
    ("spNO.1", "k", "153", "159", "168", "38", "VII", "happy"),
    ("spNO.14", "J", "1012", "1019", "1038", "14", "VII", "others"),
    ("spNO.149", "d", "112", "83", "358", "T28+14", "VII", "fear"),
    ("spNO.189", "j", "56", "62", "65", "9", "IV", "happy"),
    ("spNO.194", "a", "561", "569", "580", "17", "VII", "Others"),
    ("spNO.206", "h", "35", "40", "46", "R2+R1", "II", "surprise"),
    ("spNO.206", "h", "336", "339", "343", "1", "V", "sad"),
    ("spNO.214", "c", "5", "5", "3460", "17+4", "VII", "disgust"),
    ("spNO.216", "d", "3647", "2668", "2694", "38", "VII", "others"),
    ("spNO.216", "e", "0", "0", "25", "14", "VII", "others"),
    ("spNO.40", "e", "1812", "1824", "0", "18", "VII", "others"),
    ("spNO.40", "e", "2327", "2363", "0", "14", "VII", "others"),
    ("spNO.42", "m", "7", "7", "48", "14", "VII", "anger"),
    ("spNO.9", "h", "4", "4", "18", "1+2", "II", "surprise"),
)
# what is drawn for the rows that stay wrong: the files count from 1
_DRAWN = {("spNO.214", "c"): (5, 5, 14), ("spNO.216", "e"): (1, 1, 25)}
_MISSING = {("spNO.1", 170)}
