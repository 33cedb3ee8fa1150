"""The simulated corpus: its frames on disk are those of its table, and its truth is the truth."""

import csv
import json
import shutil
from dataclasses import replace

import cv2
import numpy as np
import pytest

from fleeting import motion
from fleeting.cli import main
from fleeting.datasets import simulated
from fleeting.datasets.simulated import Options
from fleeting.errors import UserError
from fleeting.protocols import megc2019
from fleeting.simulation import UNITS

SMALL = Options(subjects=2, clips=3, height=96, width=128)


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """Not to be changed by a test."""
    folder = tmp_path_factory.mktemp("simulated") / "corpus"
    simulated.write(folder, SMALL)
    return folder


@pytest.fixture(scope="module")
def clips(root):
    return simulated.load(root)


def files(folder):
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def table(folder):
    return list(csv.DictReader((folder / "annotations.csv").read_text(encoding="utf-8").splitlines()))


def read(path):
    return cv2.imread(str(path))[..., ::-1]


def planned(**changes):
    """Rows of a corpus that is not drawn."""
    return list(simulated._planned(Options(**changes)))


def amplitudes(row):
    return [float(amplitude) for amplitude in row["amplitudes_px"].split("+")]


def test_a_corpus_has_the_asked_subjects_and_clips(clips):
    assert [(clip.subject, clip.name) for clip in clips] == [
        (subject, name) for subject in ("s01", "s02") for name in ("c01", "c02", "c03")
    ]
    assert all(clip.dataset == "simulated" and not clip.problem for clip in clips)


def test_the_published_counts_are_those_of_the_default_corpus():
    rows = planned()
    found = [row["emotion"] for row in rows]
    counts = simulated.INFO.counts["simulated"]
    assert {name: found.count(name) for name in counts} == dict(counts)
    assert len(found) == sum(counts.values())
    assert len({row["subject"] for row in rows}) == simulated.INFO.subjects["simulated"]


def test_frame_numbers_of_the_table_begin_with_one(root, clips):
    for row, clip in zip(table(root), clips, strict=True):
        assert [int(row[name]) - 1 for name in ("onset", "apex", "offset")] == [clip.onset, clip.apex, clip.offset]
        assert clip.frames[0].name == "img00001.jpg"
        assert len(clip.frames) == int(row["frames"])
        assert 0 < clip.onset < clip.apex < clip.offset < len(clip.frames) - 1


def test_frames_on_disk_are_those_of_the_scene(root, clips):
    for clip in clips[:2]:
        scene = simulated.scene(root, clip)
        assert len(scene) == len(clip.frames)
        for index in (0, clip.apex):
            frame = read(clip.frames[index])
            assert frame.shape == (96, 128, 3)
            # JPEG loses a little
            assert np.abs(frame.astype(float) - scene[index]).mean() < 4


def test_the_stored_truth_is_the_flow_of_the_scene_from_onset_to_apex(root, clips):
    for clip in clips:
        flow = simulated.truth(root, clip)
        assert flow.shape == (2, 96, 128)
        assert flow.dtype == np.float32
        assert np.abs(flow - simulated.scene(root, clip).flow(clip.onset, clip.apex)).max() < 2e-3


def test_the_stored_truth_brings_the_apex_frame_back(tmp_path):
    still = {"noise": 0, "flicker": 0, "blinks": 0, "drift_px": 3.0, "amplitude_px": (1.5, 2.0)}
    simulated.write(tmp_path, Options(subjects=1, clips=2, height=192, width=256, **still))
    rows, columns = np.mgrid[0:192, 0:256].astype(np.float32)
    for clip in simulated.load(tmp_path):
        flow = simulated.truth(tmp_path, clip)
        onset, apex = (read(clip.frames[index]).astype(np.float32) for index in (clip.onset, clip.apex))
        back = cv2.remap(apex, columns + flow[0], rows + flow[1], cv2.INTER_CUBIC)
        moving = motion.magnitude(flow) > 0.4
        moving[:6], moving[-6:] = False, False
        assert moving.mean() > 0.02
        assert np.abs(back - onset)[moving].mean() < 0.75 * np.abs(apex - onset)[moving].mean()


def test_the_apex_is_where_the_true_motion_is_largest(root, clips):
    for clip in clips:
        scene = simulated.scene(root, clip)
        face = replace(scene, disturbance=replace(scene.disturbance, drift_px=0.0))
        reach = [motion.magnitude(face.flow(clip.onset, index)).max() for index in range(len(face))]
        assert int(np.argmax(reach)) == clip.apex
        assert max(*reach[: clip.onset + 1], *reach[clip.offset :]) == 0


def test_amplitudes_and_units_are_in_range_and_known():
    for row in planned(subjects=20, amplitude_px=(0.3, 1.7)):
        units, sizes = row["action_units"].split("+"), amplitudes(row)
        assert len(set(units)) == len(units) == len(sizes) > 0
        assert {unit.lstrip("LR") for unit in units} <= set(UNITS)
        assert 0.3 <= min(sizes) <= max(sizes) <= 1.7


def test_a_unit_is_shown_on_both_sides_or_listed_by_side():
    for row in planned(subjects=40):
        units = row["action_units"].split("+")
        numbers = [unit.lstrip("LR") for unit in units if unit.lstrip("LR") == unit]
        sided = {unit[1:] for unit in units if unit[0] in "LR"}
        assert not set(numbers) & sided, units


def test_emotions_share_units_and_none_has_them_all():
    rows = planned(subjects=60)
    shown = {emotion: [] for emotion in simulated.INFO.counts["simulated"]}
    for row in rows:
        shown[row["emotion"]].append({unit.lstrip("LR") for unit in row["action_units"].split("+")})
    for emotion, clips in shown.items():
        others = set.union(*(units for name, found in shown.items() if name != emotion for units in found))
        assert set.union(*clips) & others
        assert len({frozenset(units) for units in clips}) > 10
    smiles = np.mean(["12" in units for units in shown["happiness"]])
    assert 0.5 < smiles < 0.95
    assert np.mean(["12" in units for units in shown["anger"]]) < 0.3


def test_one_sided_movements_occur_but_are_not_the_rule():
    units = [unit for row in planned(subjects=40) for unit in row["action_units"].split("+")]
    assert 0.05 < np.mean([unit[0] in "LR" for unit in units]) < 0.6


def test_the_protocol_of_the_composite_finds_three_classes(clips):
    labels = {megc2019.label(clip, megc2019.Options()) for clip in clips}
    assert labels == {"negative", "positive", "surprise"}


def test_more_clips_leave_the_first_ones_as_they_are():
    few, many = planned(subjects=2, clips=3), planned(subjects=3, clips=5)
    named = {(row["subject"], row["clip"]): row for row in many}
    assert all(named[row["subject"], row["clip"]] == row for row in few)


def test_another_seed_is_another_corpus():
    assert planned(subjects=1) != planned(subjects=1, seed=1)


def test_an_interrupted_drawing_goes_on_to_the_same_bytes(root, tmp_path):
    again = tmp_path / "again"
    shutil.copytree(root, again)
    (again / "truth/s02/c01.npz").unlink()
    (again / "frames/s02/c01/img00003.jpg").unlink()
    (again / "truth/s01/c02.npz").unlink()
    told = []
    simulated.write(again, SMALL, lambda done, of: told.append((done, of)))
    assert files(again) == files(root)
    assert told == [(done, 6) for done in range(1, 7)]


def test_one_thread_and_three_draw_the_same(root, tmp_path):
    simulated.write(tmp_path / "one", SMALL, jobs=1)
    simulated.write(tmp_path / "three", SMALL, jobs=3)
    assert files(tmp_path / "one") == files(tmp_path / "three") == files(root)


def test_what_is_there_is_not_drawn_again(root, tmp_path):
    shutil.copytree(root, tmp_path / "again")
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "again/frames").rglob("*.jpg")}
    simulated.write(tmp_path / "again", SMALL)
    assert before == {path: path.stat().st_mtime_ns for path in (tmp_path / "again/frames").rglob("*.jpg")}


def test_a_folder_of_another_corpus_is_refused_and_kept(root, tmp_path):
    (tmp_path / "mine.txt").write_text("precious", encoding="utf-8")
    with pytest.raises(UserError, match="choose another folder"):
        simulated.write(tmp_path, SMALL)
    assert files(tmp_path) == {"mine.txt": b"precious"}
    before = files(root)
    with pytest.raises(UserError, match="other drawn faces"):
        simulated.write(root, Options(subjects=2, clips=3, height=96, width=128, seed=5))
    assert files(root) == before


def test_a_missing_frame_is_the_problem_of_its_clip_alone(root, tmp_path):
    shutil.copytree(root, tmp_path / "c")
    (tmp_path / "c/frames/s01/c02/img00004.jpg").unlink()
    loaded = simulated.load(tmp_path / "c")
    assert [clip.name for clip in loaded if clip.problem] == ["c02"]
    assert "img00004.jpg" in next(clip.problem for clip in loaded if clip.problem)
    assert len(loaded) == 6


def test_a_table_without_its_columns_is_refused(root, tmp_path):
    (tmp_path / "annotations.csv").write_text("subject,clip\ns01,c01\n", encoding="utf-8")
    with pytest.raises(UserError, match="amplitudes_px"):
        simulated.load(tmp_path)


def test_a_clip_named_twice_is_refused(root, tmp_path):
    lines = (root / "annotations.csv").read_text(encoding="utf-8").splitlines()
    (tmp_path / "annotations.csv").write_text("\n".join([*lines, lines[1]]) + "\n", encoding="utf-8")
    with pytest.raises(UserError, match="s01/c01 twice"):
        simulated.load(tmp_path)


def test_missing_and_damaged_truth_is_a_user_error(root, clips, tmp_path):
    shutil.copytree(root, tmp_path / "c")
    path = tmp_path / "c/truth/s01/c01.npz"
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(UserError, match=r"c01\.npz"):
        simulated.truth(tmp_path / "c", clips[0])
    path.unlink()
    with pytest.raises(UserError, match="draw the corpus again"):
        simulated.truth(tmp_path / "c", clips[0])


def test_a_clip_from_elsewhere_has_no_scene(root, clips):
    with pytest.raises(UserError, match="found none"):
        simulated.scene(root, replace(clips[0], name="c99"))


def test_it_says_of_itself_that_it_is_drawn(root, tmp_path):
    assert simulated.is_standin(root)
    assert not simulated.is_standin(tmp_path)


def test_still_recordings_can_be_asked_for(tmp_path):
    quiet = {"noise": 0, "flicker": 0, "blinks": 0, "drift_px": 0}
    simulated.write(tmp_path, Options(subjects=1, clips=1, height=96, width=128, **quiet))
    (clip,) = simulated.load(tmp_path)
    scene = simulated.scene(tmp_path, clip)
    assert np.array_equal(scene[0], scene[clip.onset])
    assert clip.frames[0].read_bytes() == clip.frames[clip.offset].read_bytes()


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_blinks_come_as_often_as_asked(share):
    assert {bool(row["blinks"]) for row in planned(blinks=share)} == {bool(share)}


# --- the command


def test_the_command_draws_what_it_was_told(tmp_path, monkeypatch, capsys):
    code, said = command(monkeypatch, capsys, tmp_path / "a", "--set", "subjects=2", "--set", "clips=1",
                         "--set", "drift_px=0", "--set", "height=120", "--set", "width=160")  # fmt: skip
    assert code == 0
    assert json.loads(said.out) == {"folder": str(tmp_path / "a"), "clips": 2, "subjects": 2}
    rows = list(csv.DictReader((tmp_path / "a" / "annotations.csv").open()))
    assert [(row["subject"], float(row["drift_px"]), row["height"]) for row in rows] == [
        ("s01", 0, "120"), ("s02", 0, "120")
    ]  # fmt: skip


def test_the_command_suggests_the_nearest_option(tmp_path, monkeypatch, capsys):
    code, said = command(monkeypatch, capsys, tmp_path / "a", "--set", "drift_pix=0")
    assert code == 2
    assert "simulated: want a known option, got 'drift_pix'" in said.err
    assert "drift_px" in said.err
    assert not (tmp_path / "a").exists()


def command(monkeypatch, capsys, *arguments):
    monkeypatch.setattr("sys.argv", ["fleeting", "data", "draw", "--json", *map(str, arguments)])
    with pytest.raises(SystemExit) as caught:
        main()
    return caught.value.code, capsys.readouterr()
