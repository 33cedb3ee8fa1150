"""Clips by what a user calls them: a key of a corpus, a recording, a folder of frames, a flow picture."""

from __future__ import annotations

from collections.abc import Sequence
from difflib import get_close_matches
from pathlib import Path

from fleeting import config, motion, plugins
from fleeting.errors import UserError, nearest
from fleeting.records import Clip, FlowFile, unique

_PICTURES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff")
_VIDEOS = (".mp4", ".mov", ".avi", ".mkv", ".webm", ".m4v", ".mpg", ".mpeg", ".wmv", ".ts")
_LARGEST_FLOW = 64  # px a side: published flow pictures have 28; what is larger is a photograph


def find(datasets: Sequence[str], names: Sequence[str], fps: float | None = None) -> tuple[list[Clip], set[str]]:
    """Clips by their keys, or by the paths of video files, folders of frames or published flow pictures.

    Args:
        datasets: loaders that are asked for keys.
        names: keys ``dataset/subject/name`` and paths.
        fps: frames a second of folders of frames, which do not say it themselves.

    Returns:
        The clips, and the keys of those that the corpora know.

    Raises:
        UserError: no such clip (the nearest key is suggested), or one is named twice.
    """
    keys = [name for name in names if not Path(name).exists()]
    for name in keys:
        if Path(name).suffix.lower() in (*_PICTURES, *_VIDEOS):
            raise UserError(f"want a clip key (dataset/subject/name) or a path, got {name!r}; there is no such file")
    roots = [(dataset, config.root(dataset)) for dataset in datasets] if keys else []
    known: dict[str, Clip] = {
        clip.key: clip for name, root in roots for clip in plugins.load("datasets", name).load(root)
    }
    for key in keys:
        if key not in known:
            near = nearest(key, known) if get_close_matches(key, known, n=1, cutoff=0.5) else ""
            raise UserError(
                f"want a clip key (dataset/subject/name), or the path of a recording, a folder of frames or a flow "
                f"picture, got {key!r}{near}"
            )
    clips = [known.get(name) or _from_path(Path(name), fps) for name in names]
    unique(clip.key for clip in clips)
    return clips, set(known)


def loaders(key: str) -> list[str]:
    """Loaders that have frames of the corpus which a key names and whose folder is configured.

    Raises:
        UserError: there is none.
    """
    corpus = key.partition("/")[0]
    having = [name for name in plugins.names("datasets") if corpus in _corpora(name)]
    found = []
    for name in having:
        try:
            config.root(name)
        except UserError:
            continue
        found.append(name)
    if not found:
        corpora = sorted({name for loader in plugins.names("datasets") for name in _corpora(loader)})
        hint = " or ".join(f"FLEETING_{name.upper()}" for name in having)
        do = f"set {hint}" if having else f"there is no such file{nearest(corpus, corpora)}"
        raise UserError(f"want a clip of a corpus whose folder is known, or a path, got {key!r}; {do.lstrip('; ')}")
    # published flow has no frames to show, so the recording is preferred where both are there
    return sorted(found, key=lambda name: name.endswith("_flow"))[:1]


def _corpora(loader: str) -> list[str]:
    return list(plugins.load("datasets", loader).INFO.counts)


def _from_path(path: Path, fps: float | None) -> Clip:
    stem = path.stem.strip().replace("~", "-") or "recording"
    folder = path.resolve().parent.name.replace("~", "-") or "-"
    if path.is_file() and path.suffix.lower() in _PICTURES:
        flow = FlowFile(path=path, pair=(0, 1), channels=("strain", "v", "u"))
        side = max(motion.read(flow).uv.shape)
        if side > _LARGEST_FLOW:
            raise UserError(
                f"{path}: want a video, a folder of frames or a published flow picture of up to {_LARGEST_FLOW} px, "
                f"got a picture of {side} px; one picture shows no motion"
            )
        return Clip("file", folder, stem, None, onset=0, apex=1, offset=1, flow_files=(flow,))
    return Clip("file", folder, stem, path, fps=fps if path.is_dir() else None)
