"""Table I's figures: where a face is in the picture and how much the picture holds, on faces whose place is known."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from fleeting import align, cli, config, published, quality
from fleeting.datasets import simulated
from fleeting.errors import UserError
from fleeting.records import Clip, Moment, Track
from fleeting.simulation import Expression, Scene

FILES = Path(__file__).parents[1] / "experiments" / "frame_study"
POINTS = np.array([[-1.0, -1.0], [1.0, -1.0], [0.0, 0.2], [-0.6, 1.0], [0.6, 1.0]])


def at(x, y, reach=20.0):
    """(1, 5, 2): five points whose box is 2 reach wide and high, around a place."""
    return (reach * POINTS + [x, y])[None]


def chosen(align_, input_=None, **tables):
    return config.resolve(
        {"name": "x", "datasets": ["simulated"], "model": {"name": "flow_svm"}, "align": align_,
         "input": input_ if "name" in (input_ or {}) else {"name": "frames", "sampling": "AF", **(input_ or {})}}
        | tables
    )  # fmt: skip


def drawn(folder, x, y, subject=1, size=(160, 200), count=3):
    """A clip whose face is drawn as usual, then moved by (x, y) px into a larger frame; returns it and where."""
    scene = Scene(length=count, expression=Expression(0, 1, count - 1, {"12": 2.0}), subject=subject, size=size)
    height, width = size[0] + 120, size[1] + 160
    shift = np.array([[1.0, 0, 80 + x], [0, 1, 60 + y]])
    folder.mkdir(parents=True)
    for index in range(count):
        picture = cv2.warpAffine(scene[index], shift, (width, height), borderValue=(90, 90, 90))
        cv2.imwrite(str(folder / f"{index:03d}.png"), picture[..., ::-1])
    frames = tuple(sorted(folder.iterdir()))
    clip = Clip("simulated", f"s{subject}", folder.name, frames, 100.0, 0, 1, count - 1, emotion="happiness")
    return clip, (height, width)


# --- where a face is


@pytest.mark.parametrize(("x", "y"), [(49.5, 39.5), (69.5, 19.5), (9.5, 39.5)])
def test_the_middle_of_the_box_counts_from_the_middle_of_the_picture_in_its_sides(x, y):
    off, whole, covered = quality.place(at(x, y, 5.0), 80, 100)
    assert off == pytest.approx(np.array([[(x - 49.5) / 100, (y - 39.5) / 80]]))
    assert whole.tolist() == [True]
    # pixels 11 across and 11 down
    assert covered == pytest.approx(121 / 8000)


def test_what_reaches_beyond_the_picture_is_not_covered():
    _, whole, covered = quality.place(np.concatenate([at(0, 40), at(50, 40), at(-100, 40)]), 80, 100)
    assert whole.tolist() == [False, True, False]
    assert covered == pytest.approx([21 * 41 / 8000, 41 * 41 / 8000, 0])


def test_the_box_may_touch_the_border():
    points = np.array([[[0.0, 0.0], [99.0, 79.0]]])
    off, whole, covered = quality.place(points, 80, 100)
    assert (off.tolist(), whole.tolist(), covered.tolist()) == ([[0.0, 0.0]], [True], [1.0])


# --- of drawn faces


def test_faces_that_are_moved_aside_are_counted(tmp_path):
    # M1 takes the middle 160 px; the face of a drawn frame is a tenth of its height below the middle
    places = {"middle": (0, -17), "low": (0, 12), "right": (34, -17), "corner": (-34, 16), "high": (12, -38)}
    clips = [drawn(tmp_path / name, *place, subject=n + 1)[0] for n, (name, place) in enumerate(places.items())]
    found = quality.measure(chosen({"name": "centre", "size": 160}), clips)
    assert (found.clips, found.pictures, found.found) == (5, 5, 1.0)
    assert found.centred == 0.4
    # by hand: 0, 29 / 160, 34 / 160, hypot(34, 33) / 160, hypot(12, 21) / 160
    assert found.distance == pytest.approx(np.mean([0, 0.18, 0.21, 0.3, 0.15]), abs=0.02)
    boxed = quality.measure(chosen({"name": "box"}), clips)
    assert (boxed.centred, boxed.whole) == (1.0, 1.0)
    assert boxed.distance < 0.03
    assert boxed.face > found.face


def test_a_face_cut_by_the_crop_is_not_whole(tmp_path):
    clips = [drawn(tmp_path / name, x, -17)[0] for name, x in (("in", 0), ("cut", 60))]
    found = quality.measure(chosen({"name": "centre", "size": 160}), clips)
    assert found.whole == 0.5


def test_the_values_of_table_one(tmp_path):
    clip, _ = drawn(tmp_path / "c", 0, 0)
    for alignment, values, colours in (({"name": "centre"}, 442_368, 3), ({"name": "box"}, 50_176, 1)):
        found = quality.measure(chosen(alignment), [clip])
        assert (found.values, found.colours) == (values, colours)
    # the paper's 88.7 % less
    assert pytest.approx(0.887, abs=5e-4) == 1 - 50_176 / 442_368


@pytest.mark.parametrize(
    ("alignment", "input_", "shape"),
    [
        ({"name": "centre", "size": 384}, {"size": 224}, (224, 224, 3)),
        ({"name": "centre", "size": 384, "colour": "grey"}, {}, (384, 384, 1)),
        ({"name": "centre", "size": 384, "colour": "grey"}, {"size": 224}, (224, 224, 1)),
        ({"name": "box", "size": 384, "colour": "rgb"}, {}, (384, 384, 3)),
        ({"name": "box", "size": 224, "colour": "rgb"}, {}, (224, 224, 3)),
        ({"name": "box", "size": 384}, {}, (384, 384, 1)),
        ({"name": "centre"}, {"colour": "grey"}, (384, 384, 1)),
    ],
)
def test_crop_size_and_colour_can_be_crossed(alignment, input_, shape, tmp_path):
    clip, _ = drawn(tmp_path / "c", 0, 0)
    found = quality.measure(chosen(alignment, input_), [clip])
    assert (found.height, found.width, found.colours) == shape
    assert found.values == np.prod(shape)


def test_a_recording_without_colours_holds_one_value_a_pixel(tmp_path):
    clip, _ = drawn(tmp_path / "c", 0, 0)
    for path in clip.frames:
        cv2.imwrite(str(path), cv2.imread(str(path), cv2.IMREAD_GRAYSCALE))
    assert quality.measure(chosen({"name": "centre"}), [clip]).colours == 1


def test_every_frame_that_the_input_asks_for_is_measured(tmp_path):
    clip, _ = drawn(tmp_path / "c", 0, 0, count=7)
    assert quality.measure(chosen({"name": "centre"}, {"sampling": "KFS"}), [clip]).pictures == 3
    assert quality.measure(chosen({"name": "centre"}, {"name": "onset_flow"}), [clip]).pictures == 2


def test_where_no_tracker_is_chosen_the_mesh_looks(tmp_path):
    clip, _ = drawn(tmp_path / "c", 0, 0)
    assert quality.measure(chosen({"name": "centre"}, face={"name": "none"}), [clip]).found == 1.0


def test_a_wall_has_no_face_and_says_so(tmp_path):
    clip, _ = drawn(tmp_path / "c", 0, 0)
    for path in clip.frames:
        cv2.imwrite(str(path), np.full((240, 320, 3), 120, np.uint8))
    found = quality.measure(chosen({"name": "centre"}), [clip])
    assert (found.found, found.centred, found.whole, found.distance, found.face) == (0.0, None, None, None, None)
    assert "face found" in quality.text([found])


def test_a_clip_that_cannot_be_looked_at_is_named(tmp_path):
    good, _ = drawn(tmp_path / "good", 0, 0)
    broken = Clip("simulated", "s1", "gone", (tmp_path / "0.png", tmp_path / "1.png"), 100.0, 0, 1, 1, "happiness")
    found = quality.measure(chosen({"name": "centre"}), [good, broken])
    assert found.clips == 1
    assert list(found.broken) == ["simulated/s1/gone"]
    assert "left out (1), the first:" in quality.text([found])
    with pytest.raises(UserError, match=r"0\.png"):
        quality.measure(chosen({"name": "centre"}), [broken])


def test_pictures_of_several_sizes_are_refused(tmp_path):
    clips = [drawn(tmp_path / "a", 0, 0)[0], drawn(tmp_path / "b", 0, 0, subject=2, size=(150, 200))[0]]
    with pytest.raises(UserError, match="want pictures of one size"):
        quality.measure(chosen({"name": "none"}), clips)


def test_a_corpus_gets_both_columns_of_the_table(tmp_path):
    simulated.write_standin(tmp_path)
    one, two = quality.of_corpus("simulated", simulated.load(tmp_path))
    assert (one.name, one.values, two.name, two.values) == ("M1", 442_368, "M2", 50_176)
    assert two.centred == 1.0
    assert json.loads(json.dumps(quality.plain([one, two])))[0]["clips"] == 9
    table = quality.text([one, two])
    assert "442,368  " in table
    assert "384 x 384  224 x 224" in table


def test_the_papers_detector_may_be_chosen(tmp_path):
    pytest.importorskip("dlib")
    simulated.write_standin(tmp_path)
    _, two = quality.of_corpus("simulated", simulated.load(tmp_path)[:2], ["face.name=dlib68"])
    assert (two.clips, two.centred) == (2, 1.0)


# --- of real ones


@pytest.mark.data
def test_the_middle_of_casme2s_frames_with_published_landmarks(real):
    """The faces of CASME II sit below the middle: what M1 keeps of them, from landmarks alone."""
    points = np.stack([np.load(path) for path in sorted((real / "landmarks68" / "casme2").rglob("*.npy"))])
    assert points.shape == (255, 68, 2)
    track = Track(points.astype(np.float32), np.ones(len(points), np.int8))
    clip = Clip("casme2", "sub01", "all", tuple(real / f"{n}.jpg" for n in range(255)))
    frames = [np.zeros((480, 640, 3), np.uint8)] * 255
    face = align.face(clip, frames, track, Moment(0, 1, 254), align.Options(name="centre"))
    off, whole, _ = quality.place(face.landmarks, 384, 384)
    assert (np.abs(off) <= quality.TOLERANCE).all(1).mean() == pytest.approx(0.46, abs=0.01)
    assert whole.mean() == pytest.approx(0.32, abs=0.01)
    assert (np.abs(off) <= 0.22).all(1).mean() == pytest.approx(0.84, abs=0.02)
    assert off.mean(0) == pytest.approx([0.0, 0.16], abs=0.01)


@pytest.mark.data
def test_a_real_recording(real):
    clip = Clip("video", "one", "single", real / "face_videos" / "single_face.mp4", onset=0, apex=30, offset=60)
    box = quality.measure(chosen({"name": "box"}), [clip])
    assert (box.found, box.centred, box.whole) == (1.0, 1.0, 1.0)
    assert 0.3 < box.face < 0.9
    middle = quality.measure(chosen({"name": "centre", "size": 128}), [clip])
    assert middle.values == 128 * 128 * 3


@pytest.mark.data
def test_a_recording_without_a_face(real):
    clip = Clip("video", "one", "none", real / "face_videos" / "no_face.mp4", onset=0, apex=10, offset=20)
    assert quality.measure(chosen({"name": "centre"}), [clip]).found == 0.0


# --- at the command line, and in the experiment files


def test_the_doctor_measures_a_corpus_and_an_experiment(tmp_path, monkeypatch, capsys):
    simulated.write_standin(tmp_path / "faces")
    monkeypatch.setenv("FLEETING_SIMULATED", str(tmp_path / "faces"))
    path = tmp_path / "e.toml"
    path.write_text(
        'name = "mine"\ndatasets = ["simulated"]\n[protocol]\nname = "loso"\nclasses = ["disgust", "surprise"]\n'
        '[align]\nname = "box"\n[input]\nname = "frames"\nsampling = "AF"\nsize = 96\n[model]\nname = "convnext"\n',
        encoding="utf-8",
    )
    for what, names, values in (("simulated", ["M1", "M2"], [442_368, 50_176]), (str(path), ["mine"], [9216])):
        monkeypatch.setattr("sys.argv", ["fleeting", "doctor", what, "--quality", "--json"])
        with pytest.raises(SystemExit) as stopped:
            cli.main()
        assert not stopped.value.code
        found = json.loads(capsys.readouterr().out)["quality"]
        assert [one["name"] for one in found] == names
        assert [one["values"] for one in found] == values
    monkeypatch.setattr("sys.argv", ["fleeting", "doctor", str(tmp_path), "--quality"])
    with pytest.raises(SystemExit) as stopped:
        cli.main()
    assert stopped.value.code == 2
    assert "want a dataset or an experiment file" in capsys.readouterr().err


def factors(path):
    """Crop, side of what the network sees, and colour of an experiment file."""
    experiment = config.read(path)
    alignment = config.options("align", experiment.align)
    side = config.options("inputs", experiment.input).size or alignment.side
    return alignment.name, side, alignment.colours


@pytest.mark.parametrize(("stem", "tail", "sides"), [("m36_mfs", "", (384, 224)), ("vit_af", "_small", (48, 32))])
def test_the_crossed_files_and_m1_and_m2_are_all_eight(stem, tail, sides):
    ends = {("centre", 384, "rgb"): "m1", ("box", 224, "grey"): "m2"}
    for crop in ("centre", "box"):
        for size, side in zip((384, 224), sides, strict=True):
            for colour in ("rgb", "grey"):
                name = ends.get((crop, size, colour), f"{crop}_{size}_{colour}")
                assert factors(FILES / f"{stem}_{name}{tail}.toml") == (crop, side, colour), name


def test_every_row_that_the_paper_prints_has_a_file():
    models = {"ViT-p32": "vit", "SwinT": "swin", "Pool-m36": "m36", "Pool-m48": "m48", "PoolFormer-m48": "m48"}
    printed = set()
    for row in published.rows("frame_study", metric="macro_f1"):
        setting = dict(part.split("=") for part in row.setting.split("; "))
        if row.method in models:
            printed.add(f"{models[row.method]}_{setting['sampling']}_{setting['preprocessing']}".lower())
    assert len(printed) == 14
    for stem in printed:
        experiment = config.read(FILES / f"{stem}.toml")
        assert experiment.input.options["sampling"].lower() == stem.split("_")[1]
        assert factors(FILES / f"{stem}.toml") == (("centre", 384, "rgb") if stem[-1] == "1" else ("box", 224, "grey"))
        assert experiment.recipe["criterion"] == ("ce" if stem[:3] in ("swi", "m48") else "focal")
        assert experiment.protocol.options == {"classes": 7, "subject_overlap": True}
        assert (experiment.recipe["epochs"], experiment.recipe["lr"]) == (50, 5e-5)
        assert experiment.model.options["weights"] == "hub"
