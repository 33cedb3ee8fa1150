"""Arrays kept between runs, by (stage, clip, digest); written atomically, so two processes do no harm."""

import hashlib
import json
import os
from pathlib import Path
from typing import Any

from fleeting import files
from fleeting.errors import UserError


def folder() -> Path:
    """``FLEETING_CACHE``, else ``fleeting`` in the user's cache folder."""
    named = os.environ.get("FLEETING_CACHE")
    return Path(named or Path(os.environ.get("XDG_CACHE_HOME", "~/.cache")) / "fleeting").expanduser()


def digest(*parts: Any) -> str:
    """A short digest of anything that JSON can say: options, versions, file stamps."""
    text = json.dumps(parts, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:20]


def stamp(path: Path) -> list[Any]:
    """What tells that an input file changed: its path, size and time of change."""
    status = path.stat()
    return [str(path.resolve()), status.st_size, status.st_mtime_ns]


def get(base: Path, stage: str, key: str, digest: str) -> dict[str, Any] | None:
    """The stored arrays, or None where there are none or the file is broken (it is then made again)."""
    path = _path(base, stage, key, digest)
    if not path.is_file():
        return None
    try:
        return files.read_arrays(path)
    except UserError:
        return None


def put(base: Path, stage: str, key: str, digest: str, arrays: dict[str, Any]) -> None:
    """Stores arrays. Raises `UserError` where they cannot be written."""
    files.write_arrays(_path(base, stage, key, digest), arrays)


def _path(base: Path, stage: str, key: str, digest: str) -> Path:
    return base / stage / key.replace("/", "~") / f"{digest}.npz"
