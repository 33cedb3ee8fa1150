"""Files are whole or absent, whatever happens while they are written."""

import errno
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest

from fleeting import cache, files
from fleeting.errors import UserError

ARRAYS = {"a": np.arange(6.0).reshape(2, 3), "b": np.array(["x", "yy"])}


def listing(folder):
    return sorted(path.name for path in folder.rglob("*") if path.is_file())


def same(found, wanted=ARRAYS):
    return set(found) == set(wanted) and all(np.array_equal(found[name], wanted[name]) for name in wanted)


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 64 KiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(folder)]
    if sys.platform != "linux" or os.geteuid() != 0 or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("cannot mount a small file system here")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


# --- writing


def test_a_file_appears_whole(tmp_path):
    path = tmp_path / "new" / "folder" / "a.txt"
    with files.replacing(path) as temporary:
        temporary.write_text("half")
        assert not path.exists()
        assert temporary.parent == path.parent
        assert temporary.name.startswith(".")
    assert path.read_text() == "half"
    assert listing(tmp_path) == ["a.txt"]


def test_two_writers_at_once_do_not_share_a_temporary(tmp_path):
    with files.replacing(tmp_path / "a.txt") as first:
        first.write_text("first")
        with files.replacing(tmp_path / "a.txt") as second:
            second.write_text("second")
        assert (tmp_path / "a.txt").read_text() == "second"
    assert (tmp_path / "a.txt").read_text() == "first"
    assert listing(tmp_path) == ["a.txt"]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, UserError, OSError])
def test_a_failing_writer_leaves_the_old_file_and_nothing_else(tmp_path, error):
    path = tmp_path / "a.txt"
    files.write_text(path, "old")

    def failing():
        with files.replacing(path) as temporary:
            temporary.write_text("half")
            raise error("stop")

    with pytest.raises(UserError if error is OSError else error, match="stop"):
        failing()
    assert path.read_text() == "old"
    assert listing(tmp_path) == ["a.txt"]


def test_text_is_written_as_it_is(tmp_path):
    files.write_text(tmp_path / "a.txt", "é\nb\r\n")
    assert (tmp_path / "a.txt").read_bytes() == "é\nb\r\n".encode()


def test_python_objects_are_refused(tmp_path):
    with pytest.raises(ValueError, match="Object arrays"):
        files.write_arrays(tmp_path / "a.npz", {"a": np.array([{}])})
    assert listing(tmp_path) == []


def test_a_folder_that_is_a_file(tmp_path):
    (tmp_path / "file").write_text("x")
    for path in (tmp_path / "file" / "a.txt", tmp_path / "file" / "deep" / "a.txt"):
        with pytest.raises(UserError, match=r"a\.txt: cannot be written .*choose another folder"):
            files.write_text(path, "x")
    (tmp_path / "folder").mkdir()
    with pytest.raises(UserError, match="folder: cannot be written"):
        files.write_text(tmp_path / "folder", "x")
    assert listing(tmp_path) == ["file"]


def test_a_really_full_disk(small_disk):
    files.write_text(small_disk / "a.txt", "old")
    with pytest.raises(UserError, match=r"a\.txt: cannot be written \(No space left on device\); free some space"):
        files.write_text(small_disk / "a.txt", "x" * 100_000)
    with pytest.raises(UserError, match="No space left on device"):
        cache.put(small_disk, "flow", "a/b/c", "0", {"uv": np.zeros(100_000)})
    assert (small_disk / "a.txt").read_text() == "old"
    assert listing(small_disk) == ["a.txt"]
    files.write_text(small_disk / "b.txt", "x" * 10_000)


def test_a_disk_that_is_full_when_the_data_is_flushed(tmp_path, monkeypatch):
    def full(descriptor):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    files.write_arrays(tmp_path / "a.npz", ARRAYS)
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(UserError, match="No space left on device"):
        files.write_arrays(tmp_path / "a.npz", {"a": np.zeros(3)})
    assert same(files.read_arrays(tmp_path / "a.npz"))
    assert listing(tmp_path) == ["a.npz"]


# --- reading


def test_arrays_come_back(tmp_path):
    files.write_arrays(tmp_path / "a.npz", ARRAYS)
    assert same(files.read_arrays(tmp_path / "a.npz"))


def test_a_broken_npz_is_a_user_error(tmp_path):
    files.write_arrays(tmp_path / "a.npz", ARRAYS)
    whole = (tmp_path / "a.npz").read_bytes()
    np.save(tmp_path / "b.npy", ARRAYS["a"])
    cut = [whole[:length] for length in (0, 1, 4, 100, len(whole) // 2, len(whole) - 1)]
    for data in (*cut, b"text", (tmp_path / "b.npy").read_bytes()):
        (tmp_path / "a.npz").write_bytes(data)
        with pytest.raises(UserError, match=r"a\.npz: want a whole \.npz file, got .*; delete it and run again"):
            files.read_arrays(tmp_path / "a.npz")
    with pytest.raises(UserError, match=r"absent\.npz: want a whole"):
        files.read_arrays(tmp_path / "absent.npz")


def test_no_flipped_byte_changes_a_number_or_escapes(tmp_path):
    files.write_arrays(tmp_path / "a.npz", ARRAYS)
    whole = (tmp_path / "a.npz").read_bytes()
    refused = 0
    for place in range(len(whole)):
        data = bytearray(whole)
        data[place] ^= 1 << place % 8
        (tmp_path / "b.npz").write_bytes(data)
        try:
            found = files.read_arrays(tmp_path / "b.npz")
        except UserError:
            refused += 1
        else:  # names of entries carry no checksum
            assert all(np.array_equal(found[name], ARRAYS[name]) for name in set(found) & set(ARRAYS))
    assert refused > len(whole) / 2


def test_pickle_is_never_read(tmp_path):
    np.savez(tmp_path / "a.npz", a=np.array([{}], dtype=object))
    with pytest.raises(UserError, match="want a whole"):
        files.read_arrays(tmp_path / "a.npz")


def test_arrays_are_not_compressed(tmp_path):
    files.write_arrays(tmp_path / "a.npz", ARRAYS)
    with zipfile.ZipFile(tmp_path / "a.npz") as stored:
        assert {entry.compress_type for entry in stored.infolist()} == {zipfile.ZIP_STORED}


# --- cache


def test_cache_keeps_and_gives_back(tmp_path):
    assert cache.get(tmp_path, "flow", "a/b/c", "0") is None
    cache.put(tmp_path, "flow", "a/b/c", "0", ARRAYS)
    assert same(cache.get(tmp_path, "flow", "a/b/c", "0"))
    for other in (("track", "a/b/c", "0"), ("flow", "a/b/d", "0"), ("flow", "a/b/c", "1")):
        assert cache.get(tmp_path, *other) is None


def test_a_broken_entry_is_made_again(tmp_path):
    cache.put(tmp_path, "flow", "a/b/c", "0", ARRAYS)
    (path,) = (path for path in tmp_path.rglob("*.npz"))
    path.write_bytes(path.read_bytes()[:50])
    assert cache.get(tmp_path, "flow", "a/b/c", "0") is None
    cache.put(tmp_path, "flow", "a/b/c", "0", ARRAYS)
    assert same(cache.get(tmp_path, "flow", "a/b/c", "0"))


WRITER = """
import sys
import numpy as np
from pathlib import Path
from fleeting import cache
base, number = Path(sys.argv[1]), int(sys.argv[2])
for _ in range(40):
    cache.put(base, "flow", "a/b/c", "0", {"uv": np.full(20_000, number)})
    found = cache.get(base, "flow", "a/b/c", "0")["uv"]
    assert len(found) == 20_000 and (found == found[0]).all(), found
"""


def test_two_processes_write_one_entry(tmp_path):
    writers = [subprocess.Popen([sys.executable, "-c", WRITER, str(tmp_path), str(number)]) for number in (1, 2)]
    assert [writer.wait(60) for writer in writers] == [0, 0]
    found = cache.get(tmp_path, "flow", "a/b/c", "0")["uv"]
    assert set(found.tolist()) in ({1}, {2})
    assert listing(tmp_path) == ["0.npz"]


def test_digest_follows_what_it_is_given():
    one = cache.digest({"a": 1, "b": Path("x")}, [1.5])
    assert one == cache.digest({"b": Path("x"), "a": 1}, [1.5])
    others = [cache.digest({"a": 2, "b": "x"}, [1.5]), cache.digest({"a": 1, "b": "x"}, [1.25]), cache.digest()]
    assert len({one, *others}) == 4


def test_stamp_follows_the_file(tmp_path):
    (tmp_path / "a").write_text("x")
    first = cache.stamp(tmp_path / "a")
    assert cache.stamp(tmp_path / "." / "a") == first
    os.utime(tmp_path / "a", (1, 1))
    assert cache.stamp(tmp_path / "a") != first


def test_where_the_cache_is(tmp_path, monkeypatch):
    monkeypatch.setenv("FLEETING_CACHE", str(tmp_path))
    assert cache.folder() == tmp_path
    monkeypatch.delenv("FLEETING_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "x"))
    assert cache.folder() == tmp_path / "x" / "fleeting"
