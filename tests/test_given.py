"""Landmarks from files: which file is a clip's, every way of writing them, and what is refused."""

from pathlib import Path

import numpy as np
import pytest

from fleeting.errors import UserError
from fleeting.faces import _files, given
from fleeting.faces.given import Options
from fleeting.records import Clip

CORPORA = {"casme2": (255, (640, 480)), "samm": (159, (960, 650)), "smic": (164, (640, 480))}


class Frames(list):
    """Grey pictures with a source, as `video.open` gives them."""

    def __init__(self, source, count=4, size=(480, 640)):
        super().__init__(np.full((*size, 3), 127, np.uint8) for _ in range(count))
        self.source, self.size = source, size


def face(count=4, points=68):
    """(count, points, 2) float32: a face that moves one pixel to the right a frame."""
    one = np.random.default_rng(0).uniform(100, 300, (points, 2)).astype(np.float32)
    return one + np.array([1, 0], np.float32) * np.arange(count, dtype=np.float32)[:, None, None]


def write_openface(path, points, success, first=1):
    """A table as OpenFace writes it: blanks after the commas, frames from 1."""
    count = points.shape[1]
    names = [*(f"x_{i}" for i in range(count)), *(f"y_{i}" for i in range(count))]
    rows = [", ".join(["frame", "face_id", "timestamp", "confidence", "success", *names])]
    for index, frame in enumerate(points):
        values = [f"{value:.1f}" for value in frame.T.ravel()]
        rows.append(", ".join([str(index + first), "0", f"{index / 30:.3f}", "0.98", str(success[index]), *values]))
    path.write_text("\n".join(rows))


@pytest.fixture
def film(tmp_path):
    """Where a recording would lie; its landmarks go to sub01/film.*"""
    (tmp_path / "sub01").mkdir()
    return tmp_path / "sub01" / "film.mp4"


def test_landmarks_of_every_frame_are_given_back_as_they_are(film):
    np.save(film.with_suffix(".npy"), face())
    track = given.track(Frames(film), range(4), Options())
    assert np.array_equal(track.landmarks, face())
    assert track.state.tolist() == [1, 1, 1, 1]
    assert track.boxes is None


def test_landmarks_of_one_frame_hold_for_the_whole_clip(film):
    np.save(film.with_suffix(".npy"), face(1)[0].astype(np.int64))
    track = given.track(Frames(film), (0, 3), Options())
    assert track.state.tolist() == [1, -1, -1, 1]
    assert np.array_equal(track.landmarks[3], np.trunc(face(1)[0]))
    assert np.isnan(track.landmarks[1:3]).all()


def test_an_npz_is_read_by_name_or_where_it_holds_one_array(tmp_path):
    np.savez(tmp_path / "a.npz", landmarks=face(), state=np.ones(4))
    np.savez(tmp_path / "b.npz", whatever=face())
    np.savez(tmp_path / "c.npz", one=face(), two=face())
    assert np.array_equal(_files.read(tmp_path / "a.npz"), face())
    assert np.array_equal(_files.read(tmp_path / "b.npz"), face())
    with pytest.raises(UserError, match=r"c\.npz: want an array 'landmarks', got one, two"):
        _files.read(tmp_path / "c.npz")


def test_a_table_of_openface_begins_at_frame_one_and_names_frames_without_a_face(film):
    write_openface(film.with_suffix(".csv"), face(), success=[1, 0, 1, 1])
    track = given.track(Frames(film), range(4), Options())
    assert track.state.tolist() == [1, 0, 1, 1]
    assert np.allclose(track.landmarks[[0, 2, 3]], face()[[0, 2, 3]], atol=0.051)
    assert np.isnan(track.landmarks[1]).all()


def test_a_plain_table_begins_at_frame_zero_and_may_leave_frames_out(film):
    header = ",".join(["frame", *(f"{axis}{i}" for i in range(68) for axis in "xy")])
    rows = [",".join([str(i), *(f"{value:.2f}" for value in face()[i].ravel())]) for i in (3, 0, 1)]
    film.with_suffix(".csv").write_text("\n".join([header, *rows]))
    track = given.track(Frames(film), range(4), Options())
    assert track.state.tolist() == [1, 1, 0, 1]
    assert np.allclose(track.landmarks[3], face()[3], atol=0.006)


def test_a_frame_of_nan_is_a_frame_without_a_face(film):
    points = face()
    points[2] = np.nan
    np.save(film.with_suffix(".npy"), points)
    assert given.track(Frames(film), range(4), Options()).state.tolist() == [1, 1, 0, 1]


def test_a_clip_with_a_span_takes_its_part_of_the_whole_recording(film):
    np.save(film.with_suffix(".npy"), face(10))
    clip = Clip("mine", "sub01", "film@3", film, span=(3, 6))
    track = given.track(Frames(clip), range(4), Options())
    assert np.array_equal(track.landmarks, face(10)[3:7])


def test_a_pattern_names_files_by_folders_and_by_the_clip(tmp_path):
    pictures = tuple(tmp_path / "HS/s1/micro/negative/s1_ne_01" / f"image{i}.bmp" for i in (9, 10))
    clip = Clip("smic_hs", "s01", "s01_ne_01", pictures)
    assert given.reads(clip, Options(folder="/marks", pattern="{parent3}/{name}.npy")) == (
        Path("/marks/s1/s1_ne_01.npy"),
    )
    assert given.reads(clip, Options(folder="/marks", pattern="{dataset}-{subject}-{clip}.csv")) == (
        Path("/marks/smic_hs-s01-s01_ne_01.csv"),
    )
    beside = tmp_path / "HS/s1/micro/negative/s1_ne_01"
    assert given.reads(clip, Options()) == tuple(beside.with_name(f"s1_ne_01{end}") for end in (".npy", ".npz", ".csv"))


def test_the_folder_may_be_named_by_a_variable(film, monkeypatch):
    np.save(film.with_suffix(".npy"), face())
    monkeypatch.setenv("MARKS", str(film.parent))
    options = Options(folder="$MARKS", pattern="{name}")
    assert given.locate(Path("/elsewhere/film.mp4"), options) == film.with_suffix(".npy")


def test_a_missing_file_and_two_files_are_told(film):
    with pytest.raises(UserError, match=r"film: want one file of landmarks, .*film\.npy \(or \.npz, \.csv\), got none"):
        given.track(Frames(film), (0,), Options())
    np.save(film.with_suffix(".npy"), face())
    film.with_suffix(".csv").write_text("frame\n")
    with pytest.raises(UserError, match=r"got film\.npy and film\.csv; correct"):
        given.track(Frames(film), (0,), Options())


def test_an_unknown_placeholder_is_told(film):
    with pytest.raises(UserError, match=r"pattern '\{subjekt\}': want some of \{name\}, .*got 'subjekt'"):
        given.locate(film, Options(pattern="{subjekt}"))


def test_pictures_in_memory_have_no_file():
    with pytest.raises(UserError, match="want a recording with a path"):
        given.track([np.zeros((9, 9, 3), np.uint8)], (0,), Options())


def test_another_number_of_frames_is_told(film):
    np.save(film.with_suffix(".npy"), face(5))
    with pytest.raises(UserError, match=r"film\.npy: want landmarks of 1 or 4 frames, .* got 5"):
        given.track(Frames(film), (0,), Options())


@pytest.mark.parametrize(
    ("points", "message"),
    [
        (np.zeros((68, 3)), r"want numbers of shape \(K, 2\).*got float64 \(1, 68, 3\)"),
        (np.zeros((2, 67, 2)), r"K of 5, 68, 468, 478, got float64 \(2, 67, 2\)"),
        (np.zeros((0, 68, 2)), r"got float64 \(0, 68, 2\)"),
        (np.full((68, 2), "a"), r"got <U1 \(1, 68, 2\)"),
        (np.full((3, 68, 2), np.nan), "got NaN or infinity in every frame"),
        (np.where(np.arange(136).reshape(68, 2) == 7, np.nan, 50.0), "got NaN or infinity in frame 0"),
        (np.where(np.arange(272).reshape(2, 68, 2) == 200, np.inf, 50.0), "got NaN or infinity in frame 1"),
    ],
)
def test_arrays_that_are_no_landmarks_are_told(tmp_path, points, message):
    np.save(tmp_path / "a.npy", points)
    with pytest.raises(UserError, match=rf"a\.npy: want .*{message}" if not message.startswith("want") else message):
        _files.read(tmp_path / "a.npy")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("frame,left,top\n0,1,2\n", r"want columns x0, y0, x1, y1, ..., got frame, left, top"),
        ("frame,x0,y0,x1\n0,1,2,3\n", r"want columns x0, y0, x1, y1"),
        ("", "want landmarks, got a file that cannot be read"),
        ("x0,y0\n1,a\n", "want landmarks, got a file that cannot be read"),
    ],
)
def test_tables_that_are_no_landmarks_are_told(tmp_path, text, message):
    (tmp_path / "a.csv").write_text(text)
    with pytest.raises(UserError, match=message):
        _files.read(tmp_path / "a.csv")


def test_two_faces_on_one_frame_are_told(film):
    write_openface(film.with_suffix(".csv"), face().repeat(2, axis=0)[:2], success=[1, 1])
    text = film.with_suffix(".csv").read_text().replace("\n2, ", "\n1, ")
    film.with_suffix(".csv").write_text(text)
    with pytest.raises(UserError, match="want one row a frame, got frame 1 twice"):
        given.track(Frames(film), (0,), Options())


def test_frames_from_zero_in_a_table_of_openface_are_told(film):
    write_openface(film.with_suffix(".csv"), face(), success=[1] * 4, first=0)
    with pytest.raises(UserError, match="want whole frame numbers"):
        given.track(Frames(film), (0,), Options())


def test_damaged_and_foreign_files_are_told(tmp_path):
    (tmp_path / "a.npy").write_bytes(b"\x93NUMPY")
    np.save(tmp_path / "b.npy", np.array([{}], object))
    for name in ("a.npy", "b.npy"):
        with pytest.raises(UserError, match=f"{name}: want landmarks, got a file that cannot be read"):
            _files.read(tmp_path / name)
    with pytest.raises(UserError, match=r"want a file of \.npy, \.npz, \.csv, got \.pts"):
        _files.read(tmp_path / "a.pts")
    with pytest.raises(UserError, match="want a file of landmarks, got none"):
        _files.read(tmp_path / "no.npy")


@pytest.mark.parametrize("scale", [1 / 640, 4])
def test_landmarks_of_other_pictures_are_told(film, scale):
    np.save(film.with_suffix(".npy"), face() * scale)
    with pytest.raises(UserError, match="want pixels of a recording of 640 x 480, got a face from"):
        given.track(Frames(film), range(4), Options())


@pytest.mark.data
@pytest.mark.parametrize("corpus", CORPORA)
def test_the_published_landmarks_of_three_corpora_are_read(real, corpus):
    """578 files: those of a clip's first frame, in pixels of the raw pictures."""
    count, (width, height) = CORPORA[corpus]
    folder = real / "landmarks68" / corpus / "landmarks"
    found = sorted(folder.glob("*/*.npy"))
    assert len(found) == count
    for path in found:
        # the pictures' folder is called like the file; a corpus whose sheet names the subject otherwise needs nothing
        pictures = tuple(Path("/corpus") / path.parent.name / path.stem / f"img{i}.jpg" for i in range(3))
        clip = Clip(corpus, "x", path.stem, pictures)
        track = given.track(Frames(clip, 3, (height, width)), (0, 2), Options(folder=str(folder)))
        assert track.landmarks.shape == (3, 68, 2)
        assert track.state.tolist() == [1, -1, 1]
        assert np.array_equal(track.landmarks[2], np.load(path))
        assert (track.landmarks[0] >= 0).all()
        # dlib puts a chin that is cut off a few pixels below the picture
        assert (track.landmarks[0] < (width, height + 10)).all()
