"""The 28 x 28 input of STSTNet and HTNet: areas, axes, scales and what it refuses."""

from pathlib import Path

import numpy as np
import pytest
from pydantic import ValidationError

from fleeting import motion
from fleeting.errors import UserError
from fleeting.inputs import uvs28
from fleeting.inputs.uvs28 import CENTRES, Options
from fleeting.records import Clip, FaceClip, FlowField, FlowFile, Moment

# where the landmarks of a face of 112 x 140 (width x height) lie: eyes, nose, mouth corners
FIVE = np.array([(36, 50), (78, 50), (56, 80), (36, 110), (76, 110)], np.float32)
WIDTH, HEIGHT = 112, 140
QUADRANT = {0: (0, 0), 1: (0, 1), 3: (1, 0), 4: (1, 1)}


def landmarks(count):
    """(3, count, 2): the five points at frame 1, noise where nobody may look."""
    rng = np.random.default_rng(0)
    points = rng.uniform(0, 100, (3, count, 2)).astype(np.float32)
    groups = {
        5: [[0], [1], [2], [3], [4]],
        68: [[36, 37, 38, 39, 40, 41], [42, 43, 44, 45, 46, 47], [30], [48], [54]],
        468: [[33, 133], [362, 263], [1], [61], [291]],
        478: [[33, 133], [362, 263], [1], [61], [291]],
    }.get(count, [])
    for group, centre in zip(groups, FIVE, strict=False):
        around = rng.normal(0, 2, (len(group), 2))
        points[1, group] = centre + around - around.mean(axis=0)
    return points


def face(points=None, moment=None):
    file = FlowFile(Path("a.png"), (0, 1), ("strain", "v", "u"))
    clip = Clip("casme2", "sub01", "EP01", None, onset=0, apex=1, offset=2, flow_files=(file,))
    return FaceClip(clip, moment or Moment(0, 1, 2), landmarks=points)


def field(unit="px", height=HEIGHT, width=WIDTH, seed=0):
    rng = np.random.default_rng(seed)
    uv = rng.normal(size=(2, height, width)).astype(np.float32)
    if unit == "px":
        return FlowField(uv, "px")
    low, high = uv.min(axis=(1, 2), keepdims=True), uv.max(axis=(1, 2), keepdims=True)
    return FlowField((uv - low) / (high - low), "minmax", strain=rng.random((height, width)).astype(np.float32))


def make(field_, options, points=None):
    (view,) = uvs28.make(face(points), {(0, 1): field_}, options)
    assert view.x["flow"].dtype == np.float32
    assert view.x["flow"].flags.c_contiguous
    assert not view.train_only
    return view.x["flow"]


def spots(centres, sigma=6.0):
    """Flow to the right around each centre (x, y) with the strength 1, 2, 3, ..."""
    y, x = np.mgrid[0:HEIGHT, 0:WIDTH] + 0.5
    u = sum(
        (index + 1) * np.exp(-((x - centre[0]) ** 2 + (y - centre[1]) ** 2) / (2 * sigma**2))
        for index, centre in enumerate(centres)
    )
    return FlowField(np.stack([u, np.zeros_like(u)]).astype(np.float32), "px")


def quadrant(picture, row, column):
    side = picture.shape[-1] // 2
    return picture[..., row * side : (row + 1) * side, column * side : (column + 1) * side]


# --- the whole picture


def test_whole_in_pixels_is_the_small_flow_and_its_strain():
    flow = field()
    found = make(flow, Options(scale="px"))
    assert found.shape == (3, 28, 28)
    assert np.allclose(found[:2], motion.resize(flow.uv, 28, 28))
    assert np.allclose(found[2], motion.resize_map(motion.strain(flow.uv), 28, 28))


def test_every_channel_fills_0_to_255():
    found = make(field(), Options())
    assert found.min(axis=(1, 2)) == pytest.approx([0, 0, 0])
    assert found.max(axis=(1, 2)) == pytest.approx([255, 255, 255])
    pixels = make(field(), Options(scale="px"))
    for scaled, plain in zip(found, pixels, strict=True):
        assert np.corrcoef(scaled.ravel(), plain.ravel())[0, 1] == pytest.approx(1)


def test_magnitude_as_third_channel():
    found = make(field(), Options(third="magnitude", scale="px"))
    assert np.allclose(found[2], np.hypot(found[0], found[1]), atol=1e-6)
    published = field("minmax", 28, 28)
    centred = published.uv - np.median(published.uv, axis=(1, 2), keepdims=True)
    wanted = np.hypot(*centred)
    found = make(published, Options(third="magnitude"))
    assert np.corrcoef(found[2].ravel(), wanted.ravel())[0, 1] == pytest.approx(1)
    assert found[2].min() == 0


def test_published_strain_is_used():
    published = field("minmax", 28, 28)
    found = make(published, Options())
    assert np.corrcoef(found[2].ravel(), published.strain.ravel())[0, 1] == pytest.approx(1)


def test_the_form_of_the_strain_is_an_option():
    y, x = np.mgrid[0:28, 0:28].astype(np.float32)
    turn = FlowField(np.stack([-y, x]), "px")
    found = {form: make(turn, Options(scale="px", strain=form)) for form in ("standard", "htnet")}
    assert np.array_equal(found["standard"][:2], found["htnet"][:2])
    assert np.allclose(found["standard"][2], 0, atol=1e-5)  # a turning head strains nothing
    assert np.array_equal(found["htnet"][2], motion.strain(turn.uv, form="htnet"))
    inside = (slice(1, -1), slice(1, -1))
    assert np.allclose(found["htnet"][2][inside], np.sqrt(x + y)[inside])  # half of d(y^2)/dy + d(x^2)/dx


def test_strain_that_was_published_has_one_form():
    with pytest.raises(UserError, match=r"casme2/sub01/EP01: want flow in pixels.*set input\.strain = 'standard'"):
        make(field("minmax", 28, 28), Options(strain="htnet"))
    magnitude = Options(strain="htnet", third="magnitude")  # asks for no strain
    assert make(field("minmax", 28, 28), magnitude).shape == (3, 28, 28)


@pytest.mark.parametrize("unit", ["px", "minmax"])
def test_a_still_face_gives_zero_and_not_nan(unit):
    for uv in (np.zeros((2, 28, 28), np.float32), np.full((2, 28, 28), 0.25, np.float32)):
        still = FlowField(uv, unit, np.zeros((28, 28), np.float32) if unit == "minmax" else None)
        for options in (Options(), Options(areas="constant"), Options(third="magnitude")):
            assert make(still, options).tolist() == np.zeros((3, 28, 28)).tolist()


def test_one_constant_channel_leaves_the_others():
    uv = field().uv.copy()
    uv[1] = 3
    found = make(FlowField(uv, "px"), Options())
    assert found[1].max() == 0
    assert found[0].max() == pytest.approx(255)


# --- four areas


def test_constant_areas_are_the_published_crops():
    published = field("minmax", 28, 28)
    whole, composed = make(published, Options()), make(published, Options(areas="constant"))
    assert composed.shape == (3, 28, 28)
    # from HTNet's centres by hand: clamped to 7..21, cut off, 7 to each side
    corners = {0: (9, 11), 1: (21, 10), 3: (10, 21), 4: (20, 21)}  # x, y
    for point, (x, y) in corners.items():
        area = whole[:, y - 7 : y + 7, x - 7 : x + 7]
        assert np.array_equal(quadrant(composed, *QUADRANT[point]), area)


def test_the_axes_of_the_code_are_the_same_areas_in_another_order():
    published = field("minmax", 28, 28)
    whole, composed = make(published, Options()), make(published, Options(areas="constant", axes="code"))
    rows_columns = {0: (9, 11), 1: (21, 10), 3: (10, 21), 4: (20, 21)}
    for point, (row, column) in rows_columns.items():
        assert np.array_equal(
            quadrant(composed, *QUADRANT[point]), whole[:, row - 7 : row + 7, column - 7 : column + 7]
        )
    # [[left eye, left lip], [right eye, right lip]], each where "xy" has it, to within two pixels
    straight = make(spots_28(), Options(areas="constant"))
    turned = make(spots_28(), Options(areas="constant", axes="code"))
    for point, (row, column) in QUADRANT.items():
        values = quadrant(straight, row, column)[0].max(), quadrant(turned, column, row)[0].max()
        assert values[0] == pytest.approx(values[1], rel=0.01), point


def spots_28():
    y, x = np.mgrid[0:28, 0:28] + 0.5
    centres = [CENTRES[index] for index in (0, 1, 3, 4)]
    u = sum((i + 1) * np.exp(-((x - cx) ** 2 + (y - cy) ** 2) / 2) for i, (cx, cy) in enumerate(centres))
    return FlowField(np.stack([u, 0 * u]).astype(np.float32), "px")


@pytest.mark.parametrize("count", [5, 68, 468, 478])
def test_landmarks_put_each_area_into_its_quadrant(count):
    points = landmarks(count)
    composed = make(spots(FIVE[[0, 1, 3, 4]]), Options(areas="landmarks", scale="px"), points)[0]
    strengths = [quadrant(composed, *QUADRANT[point]).max() for point in (0, 1, 3, 4)]
    assert strengths == pytest.approx(np.array([1, 2, 3, 4]) * strengths[0], rel=0.2)
    for point, place in QUADRANT.items():
        row, column = np.unravel_index(quadrant(composed, *place).argmax(), (14, 14))
        centre = FIVE[point] * (28 / WIDTH, 28 / HEIGHT)
        # the spot is in the middle of its area, unless the area was pushed back into the picture
        wanted = centre - np.clip(centre, 7, 21) + 7
        assert (column + 0.5, row + 0.5) == pytest.approx(tuple(wanted), abs=1.01)


@pytest.mark.parametrize("point", [0, 1, 3, 4])
def test_a_spot_of_one_area_is_brightest_there(point):
    composed = make(spots([FIVE[point]]), Options(areas="landmarks"), landmarks(68))[0]
    brightest = {place: quadrant(composed, *place).max() for place in QUADRANT.values()}
    assert max(brightest, key=brightest.get) == QUADRANT[point]
    assert brightest[QUADRANT[point]] == pytest.approx(255)


@pytest.mark.parametrize("crop", [10, 12, 14, 16, 18, 20, 28])
@pytest.mark.parametrize("areas", ["constant", "landmarks"])
def test_size_of_the_areas(crop, areas):
    whole = make(field(), Options())
    found = make(field(), Options(areas=areas, crop=crop), landmarks(5))
    assert found.shape == (3, 2 * crop, 2 * crop)
    # every area is a piece of the whole picture, scaled before it was cut
    area, places = quadrant(found, 0, 0), range(28 - crop + 1)
    assert any(np.array_equal(area, whole[:, y : y + crop, x : x + crop]) for y in places for x in places)


def test_areas_at_the_border_stay_inside():
    points = landmarks(5)
    points[1] = [(-50, -50), (500, -50), (0, 0), (-50, 500), (500, 500)]
    whole, found = make(field(), Options()), make(field(), Options(areas="landmarks"), points)
    assert np.array_equal(found, whole)  # four corners of 14 are the picture again


@pytest.mark.parametrize("wrong", [{"crop": 13}, {"crop": 0}, {"crop": 30}, {"areas": "face"}, {"side": 28}])
def test_options_that_are_none(wrong):
    with pytest.raises(ValidationError):
        Options(**wrong)


# --- plan and channels


def test_plan_names_the_pair_and_the_frame_of_the_landmarks():
    moment = Moment(3, 9, 20)
    assert uvs28.plan(moment, Options()).pairs == ((3, 9),)
    assert uvs28.plan(moment, Options()).frames == ()
    assert uvs28.plan(moment, Options(areas="constant")).frames == ()
    assert uvs28.plan(moment, Options(areas="landmarks")).frames == (9,)


def test_make_touches_only_the_planned_pair_and_landmarks():
    points = np.full((12, 5, 2), np.nan, np.float32)
    points[9] = FIVE
    moment = Moment(3, 9, 11)
    options = Options(areas="landmarks")
    flows = {(3, 9): field(), (0, 1): field("minmax", seed=1), (9, 3): field(seed=2)}
    (view,) = uvs28.make(face(points, moment), flows, options)
    (alone,) = uvs28.make(face(points, moment), {(3, 9): field()}, options)
    assert np.array_equal(view.x["flow"], alone.x["flow"])
    with pytest.raises(KeyError):
        uvs28.make(face(points, moment), {(3, 10): field()}, options)


def test_channels_say_what_the_numbers_are():
    assert uvs28.channels(Options()) == {"flow": ("u255", "v255", "strain255")}
    assert uvs28.channels(Options(scale="px")) == {"flow": ("u", "v", "strain")}
    assert uvs28.channels(Options(scale="px", third="magnitude")) == {"flow": ("u", "v", "magnitude")}


def test_inputs_are_not_changed():
    flow = field("minmax", 28, 28)
    before = flow.uv.copy(), flow.strain.copy()
    made = make(flow, Options())
    made += 1
    assert np.array_equal(flow.uv, before[0])
    assert np.array_equal(flow.strain, before[1])


# --- what is refused


def test_pixels_of_published_flow():
    with pytest.raises(UserError, match=r"casme2/sub01/EP01: want flow in pixels.*set input\.scale = 'minmax255'"):
        make(field("minmax"), Options(scale="px"))


def test_no_apex():
    with pytest.raises(UserError, match="want a moment with an apex for uvs28"):
        uvs28.plan(Moment(0, None, 4), Options())
    with pytest.raises(UserError, match="casme2/sub01/EP01: want a moment, got none"):
        uvs28.make(FaceClip(face().clip, None), {(0, 1): field()}, Options())


def test_landmarks_that_are_missing_or_unknown():
    with pytest.raises(UserError, match=r"want landmarks of \[5, 68, 468, 478\] points, got none; set input\.areas"):
        make(field(), Options(areas="landmarks"))
    for count in (0, 7):
        with pytest.raises(UserError, match=f"got {count} points"):
            make(field(), Options(areas="landmarks"), landmarks(count))


def test_no_face_at_the_apex():
    points = landmarks(68)
    points[1] = np.nan
    with pytest.raises(UserError, match="casme2/sub01/EP01: want a face on the apex frame 1, got none"):
        make(field(), Options(areas="landmarks"), points)
