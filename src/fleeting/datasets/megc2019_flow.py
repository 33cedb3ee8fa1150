"""The MEGC2019 composite as published flow pictures: 442 clips of CASME II, SAMM and SMIC-HS at 28 x 28.

The pictures and the list come from the public repository of HTNet (Wang et al., "HTNet for micro-expression
recognition", Neurocomputing 2024). Read as OpenCV reads them (B, G, R) their channels are optical strain, v and
u between onset and apex. Each channel was min-max scaled to 0..255 by its author, so the sign, the zero and the
amplitude of the flow are lost: the `FlowFile` says ``unit="minmax"`` and the flow is given in [0, 1].
"""

from __future__ import annotations

import csv
import hashlib
import shutil
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from importlib import resources
from pathlib import Path
from urllib.parse import quote

import cv2
import numpy as np

from fleeting import motion
from fleeting.errors import UserError
from fleeting.records import Array, Clip, FlowFile, Info, unique

INFO = Info(
    title="MEGC2019 composite, published optical flow",
    paper="See et al., MEGC 2019 - The Second Facial Micro-Expressions Grand Challenge, FG 2019",
    doi="10.1109/FG.2019.8756611",
    licence="none given by the repository; the corpora behind it are released under signed agreements, so use it "
    "for research and do not redistribute it",
    request="https://github.com/wangzhifengharrison/HTNet",
    counts={
        "casme2": {"negative": 88, "positive": 32, "surprise": 25},
        "samm": {"negative": 92, "positive": 26, "surprise": 15},
        "smic": {"negative": 70, "positive": 51, "surprise": 43},
    },
    subjects={"casme2": 24, "samm": 28, "smic": 16},
    fetchable=True,
)
LIST = "combined_3_class2_for_optical_flow.csv"
PICTURES = "datasets/STSNet_whole_norm_u_v_os"
STANDIN = "STANDIN.txt"
_CLASSES = {"0": "negative", "1": "positive", "2": "surprise"}
_SIDE = 28
_RAW = "https://raw.githubusercontent.com/wangzhifengharrison/HTNet"
# the list and the pictures were each added in one commit and never changed
_COMMITS = {LIST: "1ea5293f3008f2ef63aacc4153668a1abd5921f3", PICTURES: "18c72a1b5f4db7b8ca6e93f8a3e306ce07c4e0d3"}


def load(root: Path) -> list[Clip]:
    """The 442 clips in the order of the list.

    Every picture is decoded once, so that a truncated one is found before any work. Classes and subjects are
    counted against `INFO`, unless the folder is a stand-in (`write_standin`).

    Args:
        root: folder with the list and ``datasets/STSNet_whole_norm_u_v_os``, as in the HTNet repository.

    Returns:
        Clips with two virtual frames (onset 0, apex 1, offset 1), no frames, one `FlowFile`, and the class word
        as emotion. Subjects are written as in the list; SAMM's carry three digits.

    Raises:
        UserError: naming the file, if the list or a picture is missing or broken, a label is unknown, a clip
            is named twice, or the counts differ from the published ones.
    """
    clips = [_clip(root, row, line) for line, row in _rows(root / LIST)]
    unique((clip.key for clip in clips), root / LIST)
    for clip in clips:
        _check_picture(clip.flow_files[0])
    if not is_standin(root):
        _check_counts(root / LIST, clips)
    return clips


def is_standin(root: Path) -> bool:
    """Whether the folder was written by `write_standin`."""
    return (root / STANDIN).is_file()


def fetch(target: Path, source: str | None = None, progress: Callable[[int, int], None] = lambda done, of: None) -> int:
    """Puts the list and the pictures into a folder, each checked against its SHA-256.

    Files that are already there and whole are kept, so an interrupted fetch goes on.

    Args:
        target: the corpus' root, made if absent.
        source: a folder or a base address with the repository's layout; None for the pinned commits on GitHub.
        progress: called with (files done, files in all).

    Returns:
        How many files were copied or downloaded.

    Raises:
        UserError: a file is missing at the source, differs from its checksum, or cannot be written.
    """
    if is_standin(target):
        raise UserError(f"{target}: want a folder for the real corpus, got made-up data; choose another folder")
    sums = checksums()
    changed = 0
    for done, (name, digest) in enumerate(sums.items(), 1):
        if _digest(target / name) != digest:
            _fetch_one(name, digest, target, source)
            changed += 1
        progress(done, len(sums))
    return changed


def checksums() -> dict[str, str]:
    """File name below the root -> SHA-256, of the 443 published files."""
    text = resources.files("fleeting.datasets").joinpath("megc2019_flow_sha256.csv").read_text(encoding="utf-8")
    return {row["file"]: row["sha256"] for row in csv.DictReader(text.splitlines())}


def write_standin(root: Path, subjects: int = 4, clips: int = 8, seed: int = 0) -> None:
    """A small made-up corpus in the true layout: what tests and the demonstration use without the data.

    Flow is a few smooth bumps at brows and mouth whose direction depends on the class, among other bumps and
    noise that do not, min-max scaled like the published pictures.

    Args:
        root: folder to write, made if absent.
        subjects: of each of the three corpora.
        clips: a subject.
        seed: of the drawing; the same seed writes the same bytes.

    Raises:
        UserError: the folder holds the real corpus.
    """
    if (root / LIST).exists() and not is_standin(root):
        raise UserError(f"{root}: want a folder for made-up data, got the real corpus; choose another folder")
    rng = np.random.default_rng(seed)
    (root / PICTURES).mkdir(parents=True, exist_ok=True)
    rows = list(_standin_rows(subjects, clips, rng))
    for row in rows:
        picture = _standin_picture(int(row["label"]), rng)
        _, data = cv2.imencode(".png", picture)
        (root / PICTURES / _picture_name(row)).write_bytes(data.tobytes())
    with (root / LIST).open("w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    (root / STANDIN).write_text("made up by fleeting: not real data\n", encoding="utf-8")


def _rows(path: Path) -> Iterator[tuple[int, dict[str, str]]]:
    if not path.is_file():
        raise UserError(f"{path}: want the list of clips, found no file; run: fleeting data fetch megc2019_flow")
    try:
        reader = csv.DictReader(path.read_text(encoding="utf-8-sig").splitlines())
        rows = [(reader.line_num, row) for row in reader]
    except (UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{path}: want a CSV file in UTF-8, got {error}; fetch the data again") from error
    wanted = {"dataset", "sub", "filename_o", "label"}
    missing = wanted - set(reader.fieldnames or ())
    if missing:
        raise UserError(f"{path}: want columns {sorted(wanted)}, found no {sorted(missing)}; fetch the data again")
    for line, row in rows:
        if any((value or "").strip() for name, value in row.items() if name):
            yield line, {name: (row[name] or "").strip() for name in wanted}


def _clip(root: Path, row: Mapping[str, str], line: int) -> Clip:
    where = f"{root / LIST}, line {line}"
    if row["dataset"] not in INFO.counts:
        raise UserError(f"{where}: want a dataset of {sorted(INFO.counts)}, got {row['dataset']!r}; correct the list")
    if row["label"] not in _CLASSES:
        raise UserError(f"{where}: want a label 0, 1 or 2, got {row['label']!r}; correct the list")
    path = root / PICTURES / _picture_name(row)
    flow = FlowFile(path=path, pair=(0, 1), channels=("strain", "v", "u"), unit="minmax")
    return Clip(
        dataset=row["dataset"],
        subject=row["sub"],
        name=row["filename_o"],
        frames=None,
        onset=0,
        apex=1,
        offset=1,
        emotion=_CLASSES[row["label"]],
        flow_files=(flow,),
    )


def _picture_name(row: Mapping[str, str]) -> str:
    """The published names carry a blank before the ending."""
    return f"{row['sub']}_{row['filename_o']} .png"


def _check_picture(file: FlowFile) -> None:
    height, width = motion.read(file).uv.shape[1:]
    if (height, width) != (_SIDE, _SIDE):
        raise UserError(f"{file.path}: want a picture of 28 x 28, got {width} x {height}; fetch the data again")


def _check_counts(path: Path, clips: list[Clip]) -> None:
    found = Counter((clip.dataset, str(clip.emotion)) for clip in clips)
    for corpus, counts in INFO.counts.items():
        for name, wanted in counts.items():
            if found[corpus, name] != wanted:
                raise UserError(
                    f"{path}: want {wanted} {name} clips of {corpus}, got {found[corpus, name]}; fetch the data again"
                )
        subjects = len({clip.subject for clip in clips if clip.dataset == corpus})
        if subjects != INFO.subjects[corpus]:
            raise UserError(
                f"{path}: want {INFO.subjects[corpus]} subjects of {corpus}, got {subjects}; fetch the data again"
            )


def _digest(path: Path) -> str | None:
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else None


def _fetch_one(name: str, digest: str, target: Path, source: str | None) -> None:
    final = target / name
    temporary = final.with_name(f".{final.name}.part")
    try:
        final.parent.mkdir(parents=True, exist_ok=True)
        if source is not None and "://" not in source:
            if not (Path(source) / name).is_file():
                raise UserError(
                    f"{Path(source) / name}: want the file to copy, found none; give the folder of the list"
                )
            shutil.copyfile(Path(source) / name, temporary)
        else:
            _download(name, temporary, source)
        got = _digest(temporary)
        if got != digest:
            raise UserError(
                f"{name}: want SHA-256 {digest[:12]}..., got {str(got)[:12]}...; the source is another version"
            )
        temporary.replace(final)
    except OSError as error:
        raise UserError(
            f"{final}: cannot be fetched ({error}); check the network and the disk, then fetch again"
        ) from error
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


def _download(name: str, target: Path, source: str | None) -> None:
    import pooch

    base = source or f"{_RAW}/{_COMMITS[LIST if name == LIST else PICTURES]}"
    try:
        pooch.HTTPDownloader(timeout=30)(f"{base.rstrip('/')}/{quote(name)}", str(target), None)
    except Exception as error:  # requests' exceptions; requests is pooch's dependency, not ours
        raise UserError(f"{name}: cannot be downloaded ({error}); or give a local copy with --from") from error


def _standin_rows(subjects: int, clips: int, rng: np.random.Generator) -> Iterator[dict[str, str]]:
    names = {"casme2": "sub{:02d}", "samm": "{:03d}", "smic": "s{:02d}"}
    for corpus, pattern in names.items():
        for subject in range(1, subjects + 1):
            # at least one clip of each class, then as unbalanced as the composite
            labels = [0, 1, 2, *rng.choice(3, size=max(0, clips - 3), p=[0.57, 0.25, 0.18])][:clips]
            for index, label in enumerate(labels, 1):
                sub = pattern.format(subject)
                name = f"EP{index:02d}_01f" if corpus == "casme2" else f"{sub}_{index:02d}"
                yield {"dataset": corpus, "sub": sub, "filename_o": name, "label": str(label)}


_OTHERS = 0.7  # px, bumps that have nothing to do with the class; hard enough that models are told apart
# row, column of the bump on the 28 x 28 face and the direction (u, v) in which it moves, by class
_BUMPS = {
    0: ((8, 9, 0.6, 0.8), (8, 19, -0.6, 0.8), (22, 14, 0.0, -0.4)),  # brows drawn together and down
    1: ((20, 8, -0.9, -0.6), (20, 20, 0.9, -0.6)),  # mouth corners out and up
    2: ((7, 9, 0.0, -1.0), (7, 19, 0.0, -1.0), (24, 14, 0.0, 0.8)),  # brows up, jaw down
}


def _standin_picture(label: int, rng: np.random.Generator) -> Array:
    rows, columns = np.mgrid[0:_SIDE, 0:_SIDE].astype(np.float64)
    flow = rng.normal(0, 0.12, (2, _SIDE, _SIDE))
    others = [(*rng.uniform(4, 24, 2), *rng.normal(0, _OTHERS, 2)) for _ in range(3)]
    # half of the bumps of a class show in a clip, as with real action units
    shown = [bump for bump in _BUMPS[label] if rng.random() < 0.5] or [_BUMPS[label][0]]
    for row, column, u, v in (*shown, *others):
        row, column = row + rng.normal(0, 2.0), column + rng.normal(0, 2.0)
        bump = rng.uniform(0.2, 1.0) * np.exp(-((rows - row) ** 2 + (columns - column) ** 2) / (2 * 3.0**2))
        flow += bump * np.array([u, v])[:, None, None]
    (u_y, u_x), (v_y, v_x) = np.gradient(flow[0]), np.gradient(flow[1])
    strain = np.sqrt(u_x**2 + v_y**2 + 0.5 * (u_y + v_x) ** 2)
    channels = [strain, flow[1], flow[0]]
    scaled = [255 * (array - array.min()) / (array.max() - array.min()) for array in channels]
    return np.round(np.stack(scaled, axis=-1)).astype(np.uint8)
