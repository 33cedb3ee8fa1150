"""dlib's 68 points on real video and stills, and against the face mesh."""

import builtins
import sys

import cv2
import numpy as np
import pytest

from fleeting import landmarks, plugins, video
from fleeting.errors import UserError

dlib68 = pytest.importorskip("fleeting.faces.dlib68", exc_type=UserError)


def still(real, name):
    return np.ascontiguousarray(cv2.imread(str(real / "face_videos" / name))[..., ::-1])


def between_eyes(points):
    """(T,): distance of the middles of the eyes, px."""
    eyes = landmarks.five(points)[:, :2]
    return np.linalg.norm(eyes[:, 1] - eyes[:, 0], axis=-1)


@pytest.mark.data
def test_the_largest_of_several_faces_is_taken_and_said(real):
    track = dlib68.track([still(real, "multi_face.jpg")], (0,), dlib68.Options())
    assert track.notices == ("4 faces on frame 0: took the largest one",)
    left, top, right, bottom = track.boxes[0]
    assert left < 735 < right
    assert top < 360 < bottom
    inside = landmarks.box(track.landmarks[0])
    assert left - 20 < inside[0]
    assert inside[2] < right + 20


@pytest.mark.data
def test_a_drawing_without_a_face_has_none(real):
    track = dlib68.track([still(real, "free-mountain-vector-01.jpg")], (0,), dlib68.Options(upsample=0))
    assert track.state.tolist() == [0]
    assert np.isnan(track.boxes).all()


@pytest.mark.data
def test_a_small_face_needs_the_doubled_picture(real):
    small = cv2.resize(still(real, "single_face.jpg"), None, fx=0.25, fy=0.25, interpolation=cv2.INTER_AREA)
    assert dlib68.track([small], (0,), dlib68.Options(upsample=0)).state.tolist() == [0]
    assert dlib68.track([small], (0,), dlib68.Options(upsample=1)).state.tolist() == [1]
    assert dlib68.track([small], (0,), dlib68.Options(min_face_px=90)).state.tolist() == [0]


@pytest.mark.data
def test_a_frame_knows_nothing_of_the_others(real):
    frames = video.open(real / "face_videos" / "single_face.mp4")
    every, some = (dlib68.track(frames, which, dlib68.Options()) for which in (range(6), (3, 5)))
    assert np.array_equal(every.landmarks[[3, 5]], some.landmarks[[3, 5]])
    assert some.state[:6].tolist() == [-1, -1, -1, 1, -1, 1]


@pytest.mark.data
def test_the_mesh_agrees_with_dlib(real):
    """Both know the face: points of brows, eyes, nose and mouth lie within a few per cent of the eyes' distance."""
    mesh = plugins.load("faces", "mesh")
    frames = video.open(real / "face_videos" / "single_face.mp4")
    which = range(0, len(frames), 6)
    one = dlib68.track(frames, which, dlib68.Options()).landmarks[list(which)]
    two = landmarks.sixty_eight(mesh.track(frames, which, mesh.Options()).landmarks[list(which)])
    apart = 100 * np.linalg.norm(one - two, axis=-1) / between_eyes(one)[:, None]
    means = {region: apart[:, list(points)].mean() for region, points in landmarks.REGIONS.items()}
    print({region: round(float(mean), 1) for region, mean in means.items()}, "all", round(float(apart.mean()), 1))
    assert apart.mean() < 6
    assert max(means[region] for region in means if region != "jaw") < 6
    assert max(means["left_eye"], means["right_eye"]) < 3.5
    assert means["jaw"] < 14  # the contour has no marks: points slide along it
    assert apart.mean(axis=0).max() < 20


def test_without_the_package_one_line_says_what_to_install(monkeypatch):
    load = plugins.load.__wrapped__
    monkeypatch.delitem(sys.modules, "fleeting.faces.dlib68", raising=False)
    monkeypatch.delitem(sys.modules, "dlib", raising=False)
    imported = builtins.__import__

    def refuse(name, *rest):
        if name == "dlib":
            raise ModuleNotFoundError("No module named 'dlib'", name="dlib")
        return imported(name, *rest)

    monkeypatch.setattr(builtins, "__import__", refuse)
    with pytest.raises(UserError, match=r"want the packages dlib and .*, got no dlib; pip install 'fleeting\[dlib\]'"):
        load("faces", "dlib68")


def test_without_its_weights_one_line_says_what_to_install(monkeypatch):
    monkeypatch.setattr(dlib68.metadata, "files", lambda name: [])
    with pytest.raises(UserError, match="install it again: pip install fleeting"):
        dlib68._weights()
