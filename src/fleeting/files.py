"""Files that are either whole or absent: written to a temporary name beside the target, then renamed."""

import os
import secrets
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock, Timeout

from fleeting.errors import UserError


class Unwritable(UserError):
    """A file that cannot be written: a full disk, a folder without permission."""


@contextmanager
def unwritable(path: Path) -> Iterator[None]:
    """Around what writes `path`, or below it: a full disk, or a folder without permission, in one line.

    Raises:
        Unwritable: for any OSError of the block.
    """
    try:
        yield
    except OSError as error:
        raise Unwritable(
            f"{path}: cannot be written ({error.strerror or error}); free some space or choose another folder, "
            "then run the same command again"
        ) from error


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary path in the same folder that becomes `path` when the block ends well.

    Raises:
        Unwritable: the disk is full, or the folder cannot be written; nothing half-written stays.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(4)}.tmp")
    try:
        with unwritable(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            yield temporary
            with temporary.open("rb") as stream:
                os.fsync(stream.fileno())
            temporary.replace(path)
    finally:
        # a folder that is a file, or gone, would raise here and hide what went wrong above
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """`text` as UTF-8 under `path`, whole or not at all. Raises `UserError` where it cannot be written."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8", newline="\n")


def write_arrays(path: Path, arrays: dict[str, Any]) -> None:
    """Arrays as one uncompressed .npz under `path`, whole or not at all, without pickle.

    Raises:
        UserError: it cannot be written.
        ValueError: an array holds Python objects.
    """
    with replacing(path) as temporary, temporary.open("wb") as stream:
        np.savez(stream, allow_pickle=False, **arrays)


def read_arrays(path: Path) -> dict[str, Any]:
    """The arrays of an .npz.

    Raises:
        UserError: the file is not a whole .npz.
    """
    try:
        with np.load(path, allow_pickle=False) as stored:
            return {name: stored[name] for name in stored.files}
    # TypeError: a lone .npy; RuntimeError: zip flags that a flipped bit turned on
    except (OSError, ValueError, EOFError, KeyError, TypeError, RuntimeError, zipfile.BadZipFile, zlib.error) as error:
        raise UserError(f"{path}: want a whole .npz file, got {error}; delete it and run again") from error


@contextmanager
def locked(path: Path, timeout_s: float = -1) -> Iterator[None]:
    """Holds a lock file; the system frees it even when the process is killed.

    Args:
        path: of the file; its folder is made.
        timeout_s: to wait for another holder; -1 for ever.

    Raises:
        filelock.Timeout: another process holds it.
        UserError: it cannot be made.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(path, timeout=timeout_s)
        lock.acquire()
    except Timeout:  # an OSError, too
        raise
    except OSError as error:
        raise UserError(f"{path.parent}: cannot be written ({error}); choose another --out") from error
    try:
        yield
    finally:
        lock.release()
