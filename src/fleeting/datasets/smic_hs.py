"""SMIC-HS: 164 micro-expressions of 16 subjects at 100 frames a second, negative, positive and surprise.

Layout, at the root or up to two folders below it::

    SMIC_all_raw/HS/s1/micro/negative/s1_ne_01/image559740.bmp         640 x 480; or, where there are no raw frames,
    SMIC_all_cropped/HS/s1/micro/negative/s1_ne_01/reg_image559740.bmp

There is no sheet: class, onset and offset are the folder, its first and its last frame; no apex is known. Subjects are
unpadded on disk in most copies; here they have two digits, as in the list of MEGC2019 (s1_ne_01 is smic/s01/s01_ne_01).
Frame numbers vary in digits, some with a zero in front.
"""

import re
from collections.abc import Iterator
from pathlib import Path

from fleeting.datasets import _fixes, _sheets, _standins
from fleeting.errors import UserError
from fleeting.records import Clip, Info, unique

INFO = Info(
    title="SMIC-HS",
    paper="Li et al., A Spontaneous Micro-expression Database: Inducement, Collection and Baseline, FG 2013",
    doi="10.1109/FG.2013.6553717",
    licence="signed agreement, academic research only, no redistribution",
    request="https://www.oulu.fi/en/university/faculties-and-units/faculty-information-technology-and-electrical-"
    "engineering/center-machine-vision-and-signal-analysis",
    counts={"smic": {"negative": 70, "positive": 51, "surprise": 43}},
    subjects={"smic": 16},
)
FPS = 100.0
_ORDER = ("*smic*raw*", "*raw*", "*smic*crop*", "*crop*", "*")  # raw recordings before crops
_HOLDING = "s[0-9]*"


def load(root: Path) -> list[Clip]:
    """The clips in the order of subjects and names; a folder without pictures carries a `problem`.

    Raises:
        UserError: no frames, a correction that cannot be read, or a clip that is there twice.
    """
    frames = _frames(root)
    found = list(_listed(frames))
    rows = _fixes.applied([row for row, _ in found], _fixes.read("smic_hs", root, _names))
    unique((f"{row['subject']}/{row['clip']}" for row in rows), frames)
    return [_sheets.build("smic_hs", row, path, FPS) for row, (_, path) in zip(rows, found, strict=True)]


def annotations(path: Path) -> list[dict[str, str]]:
    """What the folders say, in the form of a sheet's rows: onset and offset are the numbers of the end frames.

    Args:
        path: the folder HS.

    Raises:
        UserError: two pictures of a clip have the same number.
    """
    return [row for row, _ in _listed(path)]


def notices(root: Path) -> list[str]:
    """What a user should know of this copy: which frames were taken, and corrections.

    Raises:
        UserError: as `load`.
    """
    frames = _frames(root)
    told = _fixes.told(annotations(frames), _fixes.read("smic_hs", root, _names))
    return [f"frames from {frames}; the corpus names no apex", *told]


def is_standin(root: Path) -> bool:
    """Whether the folder was written by `write_standin`."""
    return _standins.is_standin(root)


def write_standin(root: Path) -> None:
    """A small made-up corpus in the true layout: names and frame numbers of the real one, drawn faces.

    Among them: frame numbers of six digits, some with a zero in front, of seven and of eight; a gap; frames without a
    micro-expression, the other cameras, a clip without pictures, a stray file.

    Raises:
        UserError: the folder holds something else.
    """
    _standins.begin(root)
    top = root / "SMIC_all_raw"
    for subject, clip, emotion, digits, onset, offset in _ROWS:
        shown = _standins.draw(f"smic/{subject}", (onset, (onset + offset) // 2, offset), _UNITS[emotion])
        grey = {index: _standins.grey(picture) for index, picture in shown.items() if index != _ABSENT}
        folder = top / "HS" / subject / "micro" / emotion / clip
        _standins.write_frames(folder, f"image{{:0{digits}d}}.bmp", grey)  # in colour three times the size
    rest = _standins.draw("smic/s1", (1, 2, 3), ())
    _standins.write_frames(top / "HS" / "s1" / "non_micro" / "s1_non_01", "image{}.bmp", rest)
    _standins.write_frames(top / "VIS" / "s11" / "micro" / "negative" / "s11_ne_01", "image{}.bmp", rest)
    (top / "HS" / "s3" / "micro" / "negative" / "s3_ne_05").mkdir(parents=True, exist_ok=True)
    (top / "HS" / "s1" / "micro" / "negative" / "s1_ne_01" / "Thumbs.db").write_bytes(b"not a picture")


def _frames(root: Path) -> Path:
    """The folder HS, that of the raw recordings where they are there; or the root, where it is that folder."""
    tops = (_sheets.folder(root, (pattern,), holding="hs") for pattern in _ORDER)
    inside = (_sheets.folder(top, ("hs",), holding=_HOLDING) for top in tops if top)
    for path in (*inside, root):
        if path and any((subject / "micro").is_dir() for subject in _sheets.subfolders(path)):
            return path
    other = _sheets.looks_like(root)
    seen = f"what looks like {other}" if other and other not in INFO.title else "none"
    raise UserError(
        f"{root}: want the frames of {INFO.title} (SMIC_all_raw/HS/s1/micro/negative/s1_ne_01/...), found {seen}; "
        f"point the root at the corpus' folder, or ask for the corpus at {INFO.request}"
    )


def _listed(frames: Path) -> Iterator[tuple[dict[str, str], Path]]:
    """Each clip's row and folder."""
    for subject in sorted(_sheets.subfolders(frames), key=lambda path: _padded(path.name)):
        for emotion in _sheets.subfolders(subject / "micro"):
            for clip in _sheets.subfolders(emotion):
                numbers = list(_sheets.pictures(clip)) or [0]
                yield (
                    {
                        "dataset": "smic",
                        "subject": _padded(subject.name),
                        "clip": _padded(clip.name),
                        "onset": str(numbers[0]),
                        "apex": "",
                        "offset": str(numbers[-1]),
                        "emotion": emotion.name.lower(),
                        "action_units": "",
                    },
                    clip,
                )


def _names(subject: str, clip: str) -> tuple[str, str]:
    return _padded(subject), _padded(clip)


def _padded(name: str) -> str:
    """s1_ne_01 is s01_ne_01."""
    return re.sub(r"^s(\d+)", lambda match: f"s{int(match[1]):02d}", name.lower())


# subject, clip, class, digits of the frame numbers, first and last frame: as the corpus has them
_ROWS = (
    ("s1", "s1_ne_01", "negative", 6, 559740, 559775),
    ("s1", "s1_po_01", "positive", 6, 701843, 701865),
    ("s2", "s2_po_01", "positive", 6, 76518, 76546),
    ("s2", "s2_sur_01", "surprise", 6, 90868, 90894),
    ("s3", "s3_ne_03", "negative", 6, 302370, 302380),
    ("s3", "s3_po_11", "positive", 6, 443304, 443319),
    ("s3", "s3_sur_02", "surprise", 6, 397654, 397673),
    ("s4", "s4_sur_04", "surprise", 6, 89333, 89352),
    ("s5", "s5_ne_01", "negative", 7, 1038175, 1038204),
    ("s11", "s11_ne_01", "negative", 6, 425358, 425378),
    ("s20", "s20_ne_01", "negative", 8, 17581039, 17581055),
)
_ABSENT = 559750  # a frame
_UNITS = {"negative": ("4",), "positive": ("12",), "surprise": ("1", "2")}  # how the made-up faces move
