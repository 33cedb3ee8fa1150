"""The face mesh: its geometry, how it follows a face, and what it finds in real stills and videos."""

import hashlib
import math
import threading
from importlib import resources

import cv2
import numpy as np
import pytest

from fleeting import video
from fleeting.errors import UserError
from fleeting.faces import _blazeface, _facemesh, _networks, mesh
from fleeting.faces._squares import Square, around, back, cut, distance
from fleeting.faces.mesh import Options
from fleeting.landmarks import five

SHA256 = {
    "face_detection_short_range.tflite": "bbff11cebd1eb27a1e004cae0b0e63ec8c551cbf34a4451148b4908b8db3eca8",
    "face_landmark.tflite": "1055cb9d4a9ca8b8c688902a3a5194311138ba256bcc94e336d8373a5f30c814",
}


def ramp(height=200, width=300):
    """(H, W, 3) uint8 that says where it is: x in red, y in green."""
    y, x = np.mgrid[:height, :width]
    return np.stack([x / 2, y / 2 + 20, np.full_like(x, 100)], axis=-1).round().astype(np.uint8)


# the networks that are shipped


@pytest.mark.parametrize("name", SHA256)
def test_the_networks_are_those_that_were_published(name):
    folder = resources.files("fleeting") / "weights"
    assert hashlib.sha256((folder / name).read_bytes()).hexdigest() == SHA256[name]
    assert "Apache License" in (folder / "LICENSE").read_text()


def test_damaged_weights_are_told(monkeypatch):
    monkeypatch.setitem(_networks._SHA256, _networks.MESH, "0")
    with pytest.raises(UserError, match=r"face_landmark\.tflite: want weights of sha256 0, got 1055cb9d"):
        _networks._weights.__wrapped__(_networks.MESH)


def test_threads_have_networks_of_their_own():
    """A network keeps what it works on: shared between threads it would mix up pictures."""
    pictures = [np.full((192, 192, 3), level, np.uint8) for level in (0, 80, 160, 255)]
    square = Square(95.5, 95.5, 192)
    alone = [_facemesh.look(picture, square).points for picture in pictures]
    found = {}

    def work(index):
        for _ in range(5):
            found[index] = _facemesh.look(pictures[index], square).points

    threads = [threading.Thread(target=work, args=(index,)) for index in range(len(pictures))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(np.array_equal(found[index], points) for index, points in enumerate(alone))


# squares


@pytest.mark.parametrize("angle", [0.0, 0.4, -1.2, math.pi])
@pytest.mark.parametrize("side", [60.0, 120.0])
def test_a_cut_shows_the_picture_where_its_points_say(angle, side):
    picture, square = ramp(), Square(140.3, 95.8, side, angle)
    pixels = cut(picture, square, 64).astype(float)
    y, x = np.mgrid[4:60, 4:60]
    points = back(np.stack([x + 0.5, y + 0.5], axis=-1), square, 64)
    off = pixels[4:60, 4:60, :2] - points / 2 - (0, 20)
    assert np.abs(off).max() < 1.1  # whole grey levels, two pixels each
    assert np.abs(off.mean(axis=(0, 1))).max() < 0.06  # an eighth of a pixel of the picture


@pytest.mark.parametrize(("side", "middle"), [(150.0, (140.3, 95.8)), (500.0, (149.5, 99.5)), (170.0, (20.0, 10.0))])
def test_a_large_square_is_averaged_and_stays_in_place(side, middle):
    """Beyond two pixels for one; black outside of the picture."""
    picture, square = ramp(), Square(*middle, side, 0.3)
    pixels = cut(picture, square, 32).astype(float)
    y, x = np.mgrid[:32, :32]
    points = back(np.stack([x + 0.5, y + 0.5], axis=-1), square, 32)
    room = 2 * side / 32
    inside = ((points > room) & (points < np.array([300, 200]) - room)).all(axis=-1)
    outside = ((points < -room) | (points > np.array([300, 200]) + room)).any(axis=-1)
    assert inside.sum() > 100
    assert np.abs(pixels[..., 0] - points[..., 0] / 2)[inside].max() < 1.2
    assert (pixels[outside] == 0).all()


def test_averaging_takes_the_noise_of_single_pixels_away():
    noise = np.random.default_rng(0).integers(0, 256, (400, 400, 3)).astype(np.uint8)
    assert cut(noise, Square(199.5, 199.5, 400), 50).std() < noise.std() / 6


def test_a_square_beside_the_picture_is_black():
    for side in (10.0, 5000.0):
        assert not cut(ramp(), Square(-9000, 50, side), 16).any()


def test_the_square_around_points_turns_with_them():
    points = np.array([[0, 0], [40, 0], [40, 100], [0, 100], [5, 30], [35, 30]], np.float32)
    upright = around(points, points[4:], 1.5)
    assert (upright.x, upright.y, upright.side, upright.angle) == pytest.approx((20, 50, 150, 0))
    turn = np.array([[math.cos(0.5), -math.sin(0.5)], [math.sin(0.5), math.cos(0.5)]])
    turned = around(points @ turn.T, points[4:] @ turn.T, 1.5)
    assert (turned.side, turned.angle) == pytest.approx((150, 0.5))
    assert (turned.x, turned.y) == pytest.approx(tuple(turn @ (20, 50)))


def test_squares_differ_by_what_differs_most():
    one = Square(10, 10, 100, 3.1)
    assert distance(one, one) == 0
    assert distance(one, Square(13, 14, 100, 3.1)) == pytest.approx(0.05)
    assert distance(one, Square(13, 14, 80, 3.1)) == pytest.approx(0.2)
    assert distance(one, Square(10, 10, 100, -3.1)) == pytest.approx(math.pi - 3.1)


@pytest.mark.parametrize("size", [(360, 640), (640, 360), (500, 500), (3, 3), (1, 900)])
@pytest.mark.parametrize("tiles", [0, 1, 2])
def test_tiles_cover_the_picture_and_overlap_by_half(size, tiles):
    height, width = size
    squares = mesh._squares(np.zeros((*size, 3), np.uint8), tiles)
    assert squares[0] == Square((width - 1) / 2, (height - 1) / 2, max(size))
    for halving in range(1, tiles + 1):
        side = max(size) / 2**halving
        for length, axis in ((width, "x"), (height, "y")):
            middles = sorted({getattr(square, axis) for square in squares if square.side == side})
            edges = [middle + 0.5 - side / 2 for middle in middles]
            assert edges[0] <= 1e-9
            assert edges[-1] + side >= length - 1e-9
            assert np.all(np.diff(edges) <= side / 2 + 1e-9)


# the detector


def test_anchors_are_the_middles_of_the_cells():
    anchors = _blazeface.anchors()
    assert anchors.shape == (896, 2)
    assert anchors[:3].tolist() == [[1 / 32, 1 / 32], [1 / 32, 1 / 32], [3 / 32, 1 / 32]]
    assert anchors[512:519].tolist() == [[1 / 16, 1 / 16]] * 6 + [[3 / 16, 1 / 16]]
    assert anchors[-1].tolist() == [15 / 16, 15 / 16]


def test_overlap_is_intersection_over_union():
    boxes = np.array([[0, 0, 10, 10], [5, 0, 15, 10], [20, 20, 30, 30], [3, 3, 3, 3]], float)
    assert _blazeface.overlap(boxes[0], boxes).tolist() == pytest.approx([1, 1 / 3, 0, 0])


def test_overlapping_boxes_are_averaged_by_their_scores():
    rows = np.zeros((4, 9))
    rows[:, :4] = [[0, 0, 10, 10], [40, 0, 50, 10], [2, 0, 12, 10], [41, 0, 51, 10]]
    rows[:, 8] = [0.9, 0.5, 0.6, 0.8]
    first, second = _blazeface._blend(rows)
    assert first.tolist() == pytest.approx([0.8, 0, 10.8, 10, 0, 0, 0, 0, 0.9])
    assert second[:4].tolist() == pytest.approx([40 + 8 / 13, 0, 50 + 8 / 13, 10])
    assert second[8] == pytest.approx(0.8)
    assert _blazeface._blend(np.zeros((0, 9))) == []


# following, with faces that are known


class World:
    """Frames with known round faces (x, y, radius), and stand-ins for both networks that see them."""

    def __init__(self, monkeypatch, faces):
        self.faces, self.detections, self.blind, self.ghosts = faces, [], set(), set()
        monkeypatch.setattr(_blazeface, "find", self.find)
        monkeypatch.setattr(_facemesh, "settle", self.settle)

    def track(self, which=None, **options):
        frames = [np.full((300, 400, 3), index, np.uint8) for index in range(len(self.faces))]
        return mesh.track(frames, range(len(frames)) if which is None else which, Options(**options))

    def find(self, picture, squares, threshold):
        index = int(picture[0, 0, 0])
        self.detections.append(index)
        faces = [] if index in self.blind else self.faces[index]
        found = [_blazeface.Candidate(self.box(face), self.eyes(face), 0.9) for face in faces]
        return sorted(found, key=lambda candidate: -candidate.side)

    def settle(self, picture, square, nearness):
        index = int(picture[0, 0, 0])
        near = [face for face in self.faces[index] if math.hypot(face[0] - square.x, face[1] - square.y) < face[2]]
        if not near:
            ghost = (square.x, square.y, square.side / 3)
            return self.mesh(ghost, 0.9 if index in self.ghosts else 0.1)
        return self.mesh(min(near, key=lambda face: abs(3 * face[2] - square.side)), 0.9)

    def mesh(self, face, presence):
        x, y, radius = face
        points = np.full((468, 2), (x, y), np.float32)
        points[:4] += np.array([[-radius, -radius], [radius, -radius], [radius, radius], [-radius, radius]])
        points[[33, 263]] = self.eyes(face)
        return _facemesh.Mesh(points, presence)

    @staticmethod
    def box(face):
        return np.array([face[0] - face[2], face[1] - face[2], face[0] + face[2], face[1] + face[2]], np.float32)

    @staticmethod
    def eyes(face):
        return np.array([[face[0] - 5, face[1]], [face[0] + 5, face[1]]], np.float32)


def test_the_detector_looks_at_the_first_frame_and_every_so_often(monkeypatch):
    world = World(monkeypatch, [[(100 + index, 100, 30)] for index in range(60)])
    track = world.track()
    assert world.detections == [0, 25, 50]
    assert (track.state == 1).all()
    assert track.notices == ()
    assert np.allclose(track.boxes[:, 0], 70 + np.arange(60))
    assert np.allclose(track.landmarks[:, 10, 0], 100 + np.arange(60))


def test_every_frame_on_its_own_asks_the_detector_every_time(monkeypatch):
    world = World(monkeypatch, [[(100, 100, 30)]] * 7)
    world.track(redetect=1)
    assert world.detections == list(range(7))


def test_a_box_grows_with_the_face_between_two_looks_of_the_detector(monkeypatch):
    world = World(monkeypatch, [[(100 + index, 100, 30 + index)] for index in range(10)])
    track = world.track()
    assert world.detections == [0]
    for index in range(10):
        assert np.allclose(track.boxes[index], World.box((100 + index, 100, 30 + index)), atol=0.01)


def test_frames_far_apart_are_confirmed_by_the_detector(monkeypatch):
    world = World(monkeypatch, [[(100, 100, 30)]] * 61)
    track = world.track(which=(60, 0, 30))
    assert world.detections == [0, 30, 60]
    assert np.flatnonzero(track.state == 1).tolist() == [0, 30, 60]
    assert (track.state[[1, 59]] == -1).all()


def test_a_face_that_leaves_is_searched_on_every_frame_until_it_is_back(monkeypatch):
    faces = [[(100, 100, 30)] if index not in range(3, 6) else [] for index in range(8)]
    world = World(monkeypatch, faces)
    track = world.track()
    assert track.state.tolist() == [1, 1, 1, 0, 0, 0, 1, 1]
    assert np.isnan(track.landmarks[3:6]).all()
    assert np.isnan(track.boxes[3:6]).all()
    assert world.detections == [0, 3, 4, 5, 6]


def test_a_mesh_that_sticks_to_something_else_is_given_up_where_the_detector_denies_it(monkeypatch):
    world = World(monkeypatch, [[(100, 100, 30)] if index < 5 else [] for index in range(20)])
    world.ghosts = set(range(20))
    assert np.flatnonzero(world.track(redetect=8).state == 0).tolist() == list(range(8, 20))


def test_the_largest_of_several_faces_is_taken_and_kept(monkeypatch):
    faces = [[(100, 100, 30 + index), (300, 100, 35)] for index in range(40)]
    track = World(monkeypatch, faces).track()
    assert (track.landmarks[:, 10, 0] == 300).all()
    assert track.notices == ("2 faces on frame 0: took the larger one",)


def test_the_same_person_is_taken_again_after_a_frame_without(monkeypatch):
    faces = [[(100, 100, 30), (300, 100, 35)]] * 2 + [[]] + [[(100, 100, 60), (300, 100, 35)]] * 2
    track = World(monkeypatch, faces).track()
    assert track.state.tolist() == [1, 1, 0, 1, 1]
    assert track.landmarks[4, 10].tolist() == [300, 100]
    assert track.notices == ("up to 2 faces on 2 frames, the first is frame 0: took the larger one",)


def test_a_face_below_the_least_size_is_no_face(monkeypatch):
    world = World(monkeypatch, [[(100, 100, 30)]])
    assert world.track(min_face_px=61).state.tolist() == [0]
    assert world.track(min_face_px=60).state.tolist() == [1]


def test_what_the_mesh_does_not_take_for_a_face_is_none(monkeypatch):
    world = World(monkeypatch, [[(100, 100, 30)]])
    assert world.track(presence_threshold=0.95).state.tolist() == [0]


@pytest.mark.parametrize("size", [(1, 1), (3, 3), (2, 500)])
def test_a_tiny_picture_has_no_face(size):
    assert mesh.track([np.full((*size, 3), 90, np.uint8)], (0,), Options()).state.tolist() == [0]


# real pictures


def still(real, name):
    return np.ascontiguousarray(cv2.imread(str(real / "face_videos" / name))[..., ::-1])


def film(real, name):
    return video.open(real / "face_videos" / name)


def between_eyes(points):
    """(T,): distance of the outer corners of the eyes, px."""
    return np.linalg.norm(points[:, 263] - points[:, 33], axis=-1)


def apart(one, two):
    """(T,): mean distance of two meshes in % of the distance of the eyes."""
    return 100 * np.linalg.norm(one - two, axis=-1).mean(axis=1) / between_eyes(one)


def jitter(points):
    """Standard deviation of a coordinate, px: from second differences, which leave out what moves evenly."""
    second = points[2:] - 2 * points[1:-1] + points[:-2]
    return float(np.sqrt(np.median((second**2).sum(axis=-1)) / 1.386 / 6))


@pytest.mark.data
@pytest.mark.parametrize(
    ("name", "count", "most_px"), [("single_face.mp4", 72, 0.2), ("WolfgangLanger_Pexels.mp4", 472, 0.6)]
)
def test_every_frame_of_a_face_is_tracked_without_shaking(real, name, count, most_px):
    track = mesh.track(film(real, name), range(count), Options())
    assert track.state.tolist() == [1] * count
    assert track.notices == ()
    middle = five(track.landmarks)[:, 2]
    assert ((track.boxes[:, :2] < middle) & (middle < track.boxes[:, 2:])).all()
    shaking = jitter(track.landmarks)
    print(f"{name}: shakes by {shaking:.3f} px, eyes {between_eyes(track.landmarks).mean():.0f} px apart")
    assert shaking < most_px


@pytest.mark.data
def test_no_face_is_found_where_none_is(real):
    frames = film(real, "no_face.mp4")
    track = mesh.track(frames, range(len(frames)), Options())
    assert track.state.tolist() == [0] * len(frames)
    cloud = mesh.track([still(real, "free-mountain-vector-01.jpg")], (0,), Options(tiles=2, detector_threshold=0.2))
    assert cloud.state.tolist() == [0]


@pytest.mark.data
def test_the_detector_alone_takes_a_cloud_for_a_face(real):
    """Why there is a presence threshold."""
    frames = film(real, "no_face.mp4")
    alone = [_blazeface.find(frames[index], [mesh._whole(frames[index])], 0.5) for index in range(84, 92)]
    assert any(alone)


@pytest.mark.data
@pytest.mark.parametrize(
    ("name", "first", "last"),
    # looked at: the man's last frame is 71, 72 is black and then the sky; the sky ends with 95, 168 is black
    [("face_noface.mov", 0, 71), ("noface_face.mov", 96, 167)],
)
def test_the_frames_without_a_face_are_known(real, name, first, last):
    frames = film(real, name)
    found = np.flatnonzero(mesh.track(frames, range(len(frames)), Options()).state == 1)
    assert found.tolist() == list(range(first, last + 1))


@pytest.mark.data
def test_the_largest_of_five_people_is_taken(real):
    track = mesh.track([still(real, "multi_face.jpg")], (0,), Options())
    assert track.notices == ("5 faces on frame 0: took the largest one",)
    nose = five(track.landmarks)[0, 2]
    assert np.hypot(*(nose - (736, 370))) < 15
    assert track.boxes[0, 0] < 710 < 760 < track.boxes[0, 2]


@pytest.mark.data
@pytest.mark.parametrize(("tiles", "share", "found"), [(0, 0.12, 1), (0, 0.05, 0), (1, 0.065, 1), (2, 0.045, 1)])
def test_tiles_find_smaller_faces(real, tiles, share, found):
    """A face of 201 px in the still, put small into a wide picture."""
    scale = share * 960 / 201
    small = cv2.resize(still(real, "single_face.jpg"), None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    picture = np.full((540, 960, 3), 110, np.uint8)
    picture[200 : 200 + len(small), 500 : 500 + small.shape[1]] = small
    assert mesh.track([picture], (0,), Options(tiles=tiles)).state.tolist() == [found]


@pytest.mark.data
def test_landmarks_move_turn_and_grow_with_the_picture(real):
    picture, options = still(real, "single_face.jpg"), Options()
    points = mesh.track([picture], (0,), options).landmarks
    cases = {
        "moved": np.array([[1, 0, 7], [0, 1, -4]], float),
        "turned": cv2.getRotationMatrix2D((285, 280), 25, 1),
        "half": np.array([[0.5, 0, -0.25], [0, 0.5, -0.25]]),  # half the size: edges, not centres, stay in place
    }
    for name, matrix in cases.items():
        size = tuple(np.array(picture.shape[1::-1]) // (2 if name == "half" else 1))
        warped = cv2.warpAffine(picture, matrix, size, flags=cv2.INTER_AREA)
        expected = (points @ matrix[:, :2].T + matrix[:, 2]).astype(np.float32)
        off = apart(expected, mesh.track([warped], (0,), options).landmarks)[0]
        print(name, f"{off:.2f} %")
        assert off < 1


@pytest.mark.data
@pytest.mark.parametrize(("name", "step"), [("single_face.mp4", 12), ("WolfgangLanger_Pexels.mp4", 40)])
def test_a_frame_depends_little_on_the_other_frames_asked_for(real, name, step):
    """And without `settle` it would much: in the second video the face moves far in 40 frames."""
    frames = film(real, name)
    some = list(range(0, len(frames), step))
    full, sparse = (mesh.track(frames, which, Options()) for which in (range(len(frames)), some))
    off = apart(full.landmarks[some], sparse.landmarks[some])
    print(f"{name}: {off.mean():.2f} % of the distance of the eyes, at most {off.max():.2f} %")
    assert off.mean() < 1
    assert off.max() < 2.5


@pytest.mark.data
def test_a_frame_on_its_own_depends_on_no_other(real):
    frames = film(real, "single_face.mp4")
    full, sparse = (mesh.track(frames, which, Options(redetect=1)) for which in (range(30), (4, 29)))
    assert np.array_equal(full.landmarks[[4, 29]], sparse.landmarks[[4, 29]])
    assert np.array_equal(full.boxes[[4, 29]], sparse.boxes[[4, 29]])


@pytest.mark.data
def test_one_person_is_followed_though_the_other_becomes_larger(real):
    face = still(real, "single_face.jpg")[100:500, 100:500]
    frames = []
    for index in range(30):
        picture = np.full((360, 640, 3), 110, np.uint8)
        for left, side in ((20, 200 - 3 * index), (330, 140 + 3 * index)):
            picture[60 : 60 + side, left : left + side] = cv2.resize(face, (side, side), interpolation=cv2.INTER_AREA)
        frames.append(picture)
    track = mesh.track(frames, range(30), Options(redetect=10))
    assert (track.state == 1).all()
    assert (five(track.landmarks)[:, 2, 0] < 300).all()
    assert track.notices == ("2 faces on frame 0: took the larger one",)
