"""From recordings to decisions: real videos, stand-ins of the corpora, and what goes wrong on the way."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from fleeting import config, experiment, plugins, predictions, preparation, seeing
from fleeting.cli import main
from fleeting.datasets import casme2, samm, simulated, smic_hs
from fleeting.records import Clip


def fleeting(monkeypatch, capsys, *arguments):
    """(exit code, standard output, standard error) of the command."""
    monkeypatch.setattr("sys.argv", ["fleeting", *map(str, arguments)])
    with pytest.raises(SystemExit) as caught:
        main()
    captured = capsys.readouterr()
    return caught.value.code, captured.out, captured.err


@pytest.fixture(scope="module")
def corpora(tmp_path_factory):
    """Stand-ins of the three corpora of MEGC2019, and drawn faces. Not to be changed by a test."""
    base = tmp_path_factory.mktemp("corpora")
    for module in (casme2, samm, smic_hs, simulated):
        module.write_standin(base / module.__name__.rpartition(".")[2])
    return {folder.name: folder for folder in base.iterdir()}


@pytest.fixture
def at_home(corpora, monkeypatch):
    for name, root in corpora.items():
        monkeypatch.setenv(f"FLEETING_{name.upper()}", str(root))
    return corpora


@pytest.fixture
def videos(real):
    return real / "face_videos"


RAW = {"datasets": ["casme2", "samm", "smic_hs"], "model": {"name": "flow_svm"}, "spotting": {"name": "dc_rois"}}


def test_the_composite_from_three_raw_corpora(corpora, tmp_path):
    run = experiment.run(config.resolve(RAW), tmp_path / "run", roots=corpora)
    assert not run.failed()
    dropped = {row["key"]: row for row in run.header["dropped"]}
    assert dropped["casme2/sub05/EP09_05f"]["stage"] == "label"
    assert dropped["casme2/sub03/EP19_08"]["stage"] == "load"
    assert "want the picture of offset 141" in dropped["casme2/sub03/EP19_08"]["reason"]
    assert "casme2/sub05/EP12_03f" in run.clips
    told = {row["key"]: row["notice"] for row in run.header["notices"]}
    assert told["casme2/sub01/EP02_01f"] == "missing on disk: 1 of the frames, the first is 50"
    # the corpora name the apex of these, the spotter found that of the others
    apexes = {key: row["apex"] for key, row in run.clips.items()}
    assert all(apexes[key] for key in apexes if not key.startswith("smic/"))
    table = predictions.table(run, "last")
    assert set(table["dataset"]) == {"casme2", "samm", "smic"}
    assert len(table) == run.header["counts"]["clips"] == len(run.clips)


def test_a_clip_that_breaks_is_counted_and_the_others_go_on(corpora, tmp_path):
    root = tmp_path / "casme2"
    shutil.copytree(corpora["casme2"], root)
    clip = next(clip for clip in casme2.load(root) if clip.key == "casme2/sub05/EP12_03f")
    clip.frames[clip.apex].write_bytes(clip.frames[clip.apex].read_bytes()[:300])
    roots = {**corpora, "casme2": root}
    run = experiment.run(config.resolve({**RAW, "datasets": ["casme2", "samm"]}), tmp_path / "run", roots=roots)
    (row,) = [row for row in run.header["dropped"] if row["stage"] == "prepare"]
    assert row["key"] == clip.key
    assert clip.frames[clip.apex].name in row["reason"]
    assert clip.key not in run.clips
    assert not run.failed()


@pytest.mark.parametrize(
    ("input_", "align", "shapes"),
    [
        ("uvs28", {"name": "similarity"}, {"flow": (3, 28, 28)}),
        ("uvm224", {"name": "similarity"}, {"flow": (3, 224, 224)}),
        ("bidirectional240", {"name": "registration"}, {"flow": (3, 240, 240)}),
        ("onset_flow", {"name": "similarity", "size": 256}, {"onset": (3, 256, 256), "flow": (2, 256, 256)}),
        ("frames", {"name": "centre"}, {"frame": (3, 384, 384)}),
        ("frames", {"name": "box"}, {"frame": (3, 224, 224)}),
        ("clip", {"name": "similarity", "size": 112}, {"frames": (3, 10, 112, 112)}),
    ],
)
def test_the_preprocessing_of_every_paper_goes_the_whole_way(corpora, input_, align, shapes):
    tables = {"datasets": ["simulated"], "model": {"name": "flow_svm"}, "input": {"name": input_}, "align": align}
    chosen = config.resolve({**tables, "flow": {"name": "dis"}})
    packed, broken, _ = preparation.prepare(chosen, simulated.load(corpora["simulated"]))
    assert not broken
    assert len(set(packed.keys)) == 9
    assert {name: array.shape[1:] for name, array in packed.x.items()} == shapes
    assert all(np.ptp(array[0].astype(float)) > 0 for array in packed.x.values())


def test_areas_around_the_landmarks_of_the_apex(corpora):
    areas = {"name": "uvs28", "areas": "landmarks"}
    chosen = config.resolve({"datasets": ["simulated"], "model": {"name": "htnet"}, "input": areas})
    packed, broken, _ = preparation.prepare(chosen, simulated.load(corpora["simulated"])[:3])
    assert not broken
    assert packed.x["flow"].shape == (3, 3, 28, 28)


def test_no_aligned_pixels_are_kept(corpora, monkeypatch, tmp_path):
    monkeypatch.setenv("FLEETING_CACHE", str(tmp_path / "cache"))
    clips = simulated.load(corpora["simulated"])
    spotted = {"apex": "spotted", "spotting": {"name": "frame_difference"}}
    preparation.prepare(config.resolve({"datasets": ["simulated"], "model": {"name": "flow_svm"}, **spotted}), clips)
    assert {path.name for path in (tmp_path / "cache").iterdir()} == {"tracks", "moments", "flow", "views", "packed"}
    pixels = sum(len(clip.frames) for clip in clips) * 224 * 224 * 3
    kept = sum(path.stat().st_size for path in (tmp_path / "cache").rglob("*") if path.is_file())
    # flow of one pair a clip and landmarks of every frame
    assert kept < 0.15 * pixels


def test_prepare_says_what_it_made(at_home, tmp_path, monkeypatch, capsys):
    (tmp_path / "e.toml").write_text('datasets = ["simulated"]\n[model]\nname = "flow_svm"\n', encoding="utf-8")
    code, out, _ = fleeting(monkeypatch, capsys, "prepare", tmp_path / "e.toml", "--jobs", 1, "--json")
    found = json.loads(out)
    assert code == 0
    assert (found["views"], found["clips"], found["broken"]) == (9, 9, {})
    assert found["shapes"] == {"flow": [3, 28, 28]}
    code, out, _ = fleeting(monkeypatch, capsys, "prepare", tmp_path / "e.toml", "--jobs", 1)
    assert "9 views of 9 clips" in out


def test_look_at_a_clip_of_a_corpus(at_home, tmp_path, monkeypatch, capsys):
    clip = simulated.load(at_home["simulated"])[0]
    code, out, _ = fleeting(monkeypatch, capsys, "look", clip.key, "--out", tmp_path / "look.png", "--json")
    (moment,) = json.loads(out)["moments"]
    assert code == 0
    assert (moment["onset"], moment["apex"], moment["offset"]) == (clip.onset, clip.apex, clip.offset)
    assert moment["unit"] == "px"
    assert (tmp_path / "look.png").stat().st_size > 20_000


def test_look_at_nothing_known(at_home, tmp_path, monkeypatch, capsys):
    code, out, err = fleeting(monkeypatch, capsys, "look", "simulatd/s01/c01", "--out", tmp_path / "look.png")
    assert (code, out) == (2, "")
    assert "simulated" in err
    assert not (tmp_path / "look.png").exists()


def test_doctor_names_what_is_wrong(at_home, monkeypatch, capsys):
    code, out, _ = fleeting(monkeypatch, capsys, "doctor", "casme2")
    assert code == 0
    assert "casme2/sub03/EP19_08: want the picture of offset 141" in out
    code, _, err = fleeting(monkeypatch, capsys, "doctor", "samm", "--root", at_home["casme2"])
    assert code == 2
    assert "found what looks like CASME II" in err


def test_a_missing_landmark_file_is_one_line(at_home, tmp_path, monkeypatch, capsys):
    text = 'datasets = ["simulated"]\n[model]\nname = "flow_svm"\n[face]\nname = "given"\nfolder = "/no/such/folder"\n'
    (tmp_path / "e.toml").write_text(text, encoding="utf-8")
    code, _, err = fleeting(monkeypatch, capsys, "prepare", tmp_path / "e.toml", "--jobs", 1)
    assert code == 2
    assert "want at least one clip that can be prepared" in err
    assert "/no/such/folder" in err


# --- real videos


@pytest.mark.data
def test_a_face_in_a_real_video(videos, tmp_path, monkeypatch, capsys):
    out = tmp_path / "look.png"
    code, told, _ = fleeting(monkeypatch, capsys, "look", videos / "single_face.mp4", "--out", out, "--json")
    found = json.loads(told)
    assert code == 0
    assert (found["frames"], found["without_face"]) == (72, [])
    # a smile begins within the first second; no label says where, so its neighbourhood is held to what one sees
    assert [moment["unit"] for moment in found["moments"]] == ["px"]
    assert 5 <= found["moments"][0]["onset"] < found["moments"][0]["apex"] <= 30
    assert out.is_file()
    assert (tmp_path / "look_faces.png").is_file()


@pytest.mark.data
def test_a_longer_real_video_goes_through(videos, tmp_path, monkeypatch, capsys):
    changes = ("--set", "spotting.name=frame_difference")
    code, told, _ = fleeting(
        monkeypatch,
        capsys,
        "look",
        videos / "WolfgangLanger_Pexels.mp4",
        "--out",
        tmp_path / "w.png",
        "--json",
        *changes,
    )
    found = json.loads(told)
    assert code == 0
    assert (found["frames"], found["without_face"]) == (472, [])
    assert found["moments"]


@pytest.mark.data
def test_a_video_without_a_face_ends_in_one_line(videos, tmp_path, monkeypatch, capsys):
    code, out, err = fleeting(monkeypatch, capsys, "look", videos / "no_face.mp4", "--out", tmp_path / "n.png")
    assert (code, out) == (2, "")
    assert "no_face: want a face on any frame, got none" in err
    assert err.strip().count("\n") == 0


@pytest.mark.data
def test_a_face_that_leaves_is_named_by_its_frames(videos, tmp_path, monkeypatch, capsys):
    code, out, _ = fleeting(monkeypatch, capsys, "look", videos / "face_noface.mov", "--out", tmp_path / "n.png")
    assert code == 0
    assert "no face on frames 72 to 168 of 169" in out


@pytest.mark.data
def test_two_faces_the_larger_with_a_notice(videos, tmp_path):
    frames = tuple(shutil.copy(videos / "multi_face.jpg", tmp_path / f"{i}.jpg") for i in range(3))
    clip = Clip("file", "-", "several", tuple(map(Path, frames)), fps=25.0, onset=0, apex=1, offset=2)
    with seeing.look(config.resolve({"model": {"name": "flow_svm"}}), clip) as (seen,):
        told = seeing.notices(seen)
        sides = seen.track.boxes[0, 2:] - seen.track.boxes[0, :2]
    assert told == ["5 faces on frame 0: took the largest one"]
    assert min(sides) > 50


@pytest.mark.data
def test_a_truncated_video_is_one_line(videos, tmp_path, monkeypatch, capsys):
    data = (videos / "single_face.mp4").read_bytes()
    (tmp_path / "cut.mp4").write_bytes(data[: len(data) // 2])
    code, out, err = fleeting(monkeypatch, capsys, "look", tmp_path / "cut.mp4", "--out", tmp_path / "n.png")
    assert (code, out) == (2, "")
    assert "cut.mp4" in err
    assert err.strip().count("\n") == 0


@pytest.mark.data
def test_a_saved_model_decides_on_a_real_video(at_home, videos, tmp_path, monkeypatch, capsys):
    tables = {"datasets": ["simulated"], "model": {"name": "flow_svm"}, "spotting": {"name": "flow_peak"}}
    experiment.train(config.resolve(tables), tmp_path / "model", roots=at_home)
    video = videos / "single_face.mp4"
    code, told, _ = fleeting(monkeypatch, capsys, "predict", tmp_path / "model", video, "--json")
    assert code == 0
    (row,) = json.loads(told)
    assert row["clip"] == "file/face_videos/single_face"
    assert 0 <= row["onset"] <= row["apex"] <= row["offset"] < 72
    assert sum(row["probabilities"].values()) == pytest.approx(1)
    assert row["trained_on"] is None


@pytest.mark.data
def test_given_landmarks_of_a_real_corpus_place_the_face(real):
    """Published 68 points of CASME II's first frames align a frame of that size without any tracker."""
    from fleeting import align, landmarks
    from fleeting.records import Moment, Track

    points = np.load(next((real / "landmarks68" / "casme2").rglob("*.npy"))).astype(np.float32)
    track = Track(points[None], np.ones(1, np.int8))
    clip = Clip("casme2", "sub01", "EP02_01f", (Path("img1.jpg"),), onset=0)
    frame = np.zeros((480, 640, 3), np.uint8)
    face = align.face(clip, [frame], track, Moment(0, 0, 0), align.Options())
    eyes = landmarks.five(face.landmarks[0])[:2]
    assert eyes[:, 1] == pytest.approx([76, 76], abs=6)
    assert plugins.load("faces", "given").Options
