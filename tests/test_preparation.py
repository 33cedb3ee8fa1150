"""From frames to packed views: what is recomputed, what is kept, and what a broken clip does to the others."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest

from fleeting import cache, config, plugins, preparation, samples, seeing, stages
from fleeting.errors import UserError
from fleeting.records import Clip, FlowFile, Track

SIDE, FRAMES = 64, 7


def picture(seed, shift):
    noise = np.random.default_rng(seed).normal(size=(SIDE, SIDE + 20)).astype(np.float32)
    smooth = cv2.GaussianBlur(noise, (0, 0), 2)
    grey = np.round(255 * (smooth - smooth.min()) / np.ptp(smooth)).astype(np.uint8)
    move = np.array([[1, 0, shift - 10.0], [0, 1, 0]])
    return cv2.warpAffine(grey, move, (SIDE, SIDE), flags=cv2.INTER_CUBIC)


def write_clip(root, subject, name, seed, **annotation):
    folder = root / subject / name
    folder.mkdir(parents=True)
    for index in range(FRAMES):
        cv2.imwrite(str(folder / f"img{index}.png"), picture(seed, 0.4 * min(index, 3)))
    given = {"onset": 0, "apex": 3, "offset": 6, "emotion": ("happiness", "disgust", "surprise")[seed % 3]}
    frames = tuple(folder / f"img{index}.png" for index in range(FRAMES))
    return Clip("casme2", subject, name, frames, fps=200.0, **(given | annotation))


@pytest.fixture
def clips(tmp_path):
    return [write_clip(tmp_path / "corpus", f"sub0{seed // 3}", f"EP{seed}", seed) for seed in range(6)]


def experiment(**tables):
    plain = {"model": {"name": "flow_svm"}, "face": {"name": "none"}, "align": {"name": "none"}}
    return config.resolve({**plain, **tables})


@pytest.fixture
def calls(monkeypatch):
    """How often each stage worked, by counting the calls of its plug-in."""
    counted = SimpleNamespace(track=0, pairs=0, make=0)

    def count(kind, name, function, what, much):
        module = plugins.load(kind, name)
        plain = getattr(module, function)

        def counting(*args):
            setattr(counted, what, getattr(counted, what) + much(args))
            return plain(*args)

        monkeypatch.setattr(module, function, counting)

    count("faces", "none", "track", "track", lambda args: 1)
    count("flow", "farneback", "flow", "pairs", lambda args: len(args[0]))
    count("inputs", "uvs28", "make", "make", lambda args: 1)

    def taken():
        found = (counted.track, counted.pairs, counted.make)
        counted.track = counted.pairs = counted.make = 0
        return found

    return taken


def test_the_flow_between_onset_and_apex_is_what_moved(clips):
    packed, broken, notices = preparation.prepare(experiment(input={"name": "uvs28", "scale": "px"}), clips)
    assert (len(packed), broken, notices) == (6, {}, {})
    u = np.median(packed.x["flow"][:, 0], axis=(1, 2)) * SIDE / 28
    assert u == pytest.approx(np.full(6, 1.2), abs=0.1)


def test_what_did_not_change_is_not_computed_again(clips, calls):
    preparation.prepare(experiment(), clips)
    assert calls() == (6, 6, 6)
    preparation.prepare(experiment(), clips)
    assert calls() == (0, 0, 0)


@pytest.mark.parametrize(
    ("tables", "worked"),
    [
        ({"input": {"name": "uvs28", "scale": "px"}}, (0, 0, 6)),
        ({"flow": {"name": "farneback", "winsize": 21}}, (0, 6, 6)),
        ({"align": {"name": "centre", "size": 48}}, (0, 6, 6)),
        ({"model": {"name": "ststnet"}}, (0, 0, 0)),
        ({"seeds": [3]}, (0, 0, 0)),
    ],
)
def test_an_option_recomputes_what_depends_on_it(clips, calls, tables, worked):
    preparation.prepare(experiment(), clips)
    calls()
    preparation.prepare(experiment(**tables), clips)
    assert calls() == worked


def test_a_changed_frame_recomputes_its_clip_alone(clips, calls):
    first = preparation.prepare(experiment(), clips).samples
    calls()
    cv2.imwrite(str(clips[2].frames[3]), picture(2, 3))
    second = preparation.prepare(experiment(), clips).samples
    assert calls() == (1, 1, 1)
    changed = [
        key for key, one, two in zip(first.keys, first.x["flow"], second.x["flow"], strict=True) if (one != two).any()
    ]
    assert changed == [clips[2].key]


def test_a_changed_frame_of_a_folder_is_seen(clips, calls):
    folder = clips[0].frames[0].parent
    clip = Clip("casme2", "sub00", "EP0", folder, onset=0, apex=3, offset=6, emotion="happiness")
    preparation.prepare(experiment(), [clip])
    calls()
    cv2.imwrite(str(folder / "img3.png"), picture(2, 3))
    preparation.prepare(experiment(), [clip])
    assert calls() == (1, 1, 1)


def test_another_annotation_recomputes_its_clip_alone(clips, calls):
    preparation.prepare(experiment(), clips)
    calls()
    moved = write_clip(clips[0].frames[0].parents[3] / "other", "sub00", "EP0", 0, apex=2)
    preparation.prepare(experiment(), [moved, *clips[1:]])
    assert calls() == (1, 1, 1)


@pytest.mark.parametrize(
    ("module", "worked"),
    [("fleeting.inputs.uvs28", (0, 0, 6)), ("fleeting.flow.farneback", (0, 6, 6)), ("fleeting.faces.none", (6, 6, 6))],
)
def test_changed_source_recomputes_what_depends_on_it(clips, calls, monkeypatch, module, worked):
    preparation.prepare(experiment(), clips)
    calls()
    plain = stages.source
    monkeypatch.setattr(stages, "source", lambda name: "edited" if name == module else plain(name))
    preparation.prepare(experiment(), clips)
    assert calls() == worked


def test_the_source_of_a_module_is_its_own_and_what_it_imports():
    plugins.load("inputs", "uvs28")
    found = {path.name for path in plugins.sources("fleeting.inputs.uvs28")}
    assert {"uvs28.py", "motion.py", "landmarks.py"} <= found
    assert not found & {"records.py", "errors.py", "plugins.py", "experiment.py"}


def test_a_broken_clip_stops_no_other(clips, calls):
    clips[1].frames[3].write_bytes(clips[1].frames[3].read_bytes()[:200])
    clips[4].frames[0].unlink()
    packed, broken, _ = preparation.prepare(experiment(), clips)
    assert sorted(set(packed.keys)) == [clip.key for index, clip in enumerate(clips) if index not in (1, 4)]
    assert list(broken) == [clips[1].key, clips[4].key]
    assert "img3.png" in broken[clips[1].key]
    assert "img0.png" in broken[clips[4].key]
    assert all(" want " in f" {reason}" and "\n" not in reason for reason in broken.values())
    # told again from the cache, and mended once the file is whole
    assert preparation.prepare(experiment(), clips).broken == broken
    cv2.imwrite(str(clips[1].frames[3]), picture(1, 1.2))
    assert list(preparation.prepare(experiment(), clips).broken) == [clips[4].key]


def test_all_clips_broken_is_an_error(clips):
    for clip in clips:
        clip.frames[0].write_bytes(b"")
    with pytest.raises(UserError, match="got none of 6; the first: "):
        preparation.prepare(experiment(), clips)


def test_a_missing_frame_between_is_a_notice(clips):
    short = clips[0].frames[:5] + clips[0].frames[6:]
    clip = Clip("casme2", "sub00", "EP0", short, fps=200.0, onset=0, apex=3, offset=5, emotion="happiness")
    packed, broken, notices = preparation.prepare(experiment(), [clip, *clips[1:]])
    assert not broken
    assert len(packed) == 6
    assert notices == {clip.key: ["missing on disk: 1 of the frames, the first is 5"]}
    assert preparation.prepare(experiment(), [clip, *clips[1:]]).notices == notices


def test_one_process_or_two_give_the_same_bytes(clips, monkeypatch, tmp_path):
    digests = []
    for jobs in (1, 2):
        monkeypatch.setenv("FLEETING_CACHE", str(tmp_path / f"cache{jobs}"))
        done = []
        packed = preparation.prepare(experiment(), clips, lambda what, n, of: done.append((n, of)), jobs).samples  # noqa: B023
        digests.append(samples.digest(packed))
        assert done[-1] == (6, 6)
        assert done == sorted(done)
    assert digests[0] == digests[1]


PREPARE = """
import sys, pickle
from pathlib import Path
from fleeting import preparation, samples
if __name__ == "__main__":
    experiment, clips = pickle.loads(Path(sys.argv[1]).read_bytes())
    print("begun", flush=True)
    print(samples.digest(preparation.prepare(experiment, clips).samples))
"""


def started(tmp_path, clips, folder):
    import pickle

    (tmp_path / "work.pickle").write_bytes(pickle.dumps((experiment(), clips)))
    (tmp_path / "work.py").write_text(PREPARE)
    return subprocess.Popen(
        [sys.executable, str(tmp_path / "work.py"), str(tmp_path / "work.pickle")],
        env={**os.environ, "FLEETING_CACHE": str(folder)},
        stdout=subprocess.PIPE,
        text=True,
    )


def test_two_processes_on_one_cache_do_no_harm(clips, tmp_path):
    both = [started(tmp_path, clips, tmp_path / "shared") for _ in range(2)]
    told = [process.communicate(timeout=120)[0].split() for process in both]
    assert told[0] == told[1]
    assert told[0][0] == "begun"
    assert len(told[0][1]) == 64


def test_a_killed_process_leaves_nothing_that_is_read(tmp_path, monkeypatch):
    clips = [write_clip(tmp_path / "corpus", f"sub{seed:02d}", "EP", seed) for seed in range(40)]
    process = started(tmp_path, clips, tmp_path / "killed")
    while not list((tmp_path / "killed").rglob("views/*/*.npz")):
        assert process.poll() is None
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    process.wait()
    monkeypatch.setenv("FLEETING_CACHE", str(tmp_path / "whole"))
    wanted = samples.digest(preparation.prepare(experiment(), clips).samples)
    monkeypatch.setenv("FLEETING_CACHE", str(tmp_path / "killed"))
    assert samples.digest(preparation.prepare(experiment(), clips).samples) == wanted


def test_a_damaged_file_in_the_cache_is_made_again(clips, calls):
    wanted = samples.digest(preparation.prepare(experiment(), clips).samples)
    for path in cache.folder().rglob("*.npz"):
        path.write_bytes(path.read_bytes()[:50])
    for path in (cache.folder() / "packed").glob("*/index.json"):
        path.unlink()
    calls()
    assert samples.digest(preparation.prepare(experiment(), clips).samples) == wanted
    assert calls() == (6, 6, 6)


def test_published_flow_depends_on_no_face_or_flow_method(tmp_path):
    cv2.imwrite(str(tmp_path / "flow.png"), np.random.default_rng(0).integers(0, 256, (28, 28, 3)).astype(np.uint8))
    flow = FlowFile(tmp_path / "flow.png", (0, 1), ("strain", "v", "u"))
    clip = Clip("casme2", "sub01", "EP", None, onset=0, apex=1, offset=1, flow_files=(flow,))
    digests = {
        stages.Stages(experiment(**tables)).views_digest(clip)
        for tables in ({}, {"flow": {"name": "farneback", "winsize": 9}}, {"align": {"name": "similarity"}})
    }
    assert len(digests) == 1


def test_published_flow_and_frames_go_together(clips, tmp_path):
    cv2.imwrite(str(tmp_path / "flow.png"), np.random.default_rng(0).integers(0, 256, (28, 28, 3)).astype(np.uint8))
    flow = FlowFile(tmp_path / "flow.png", (0, 3), ("strain", "v", "u"))
    clip = Clip("casme2", "sub09", "EP", clips[0].frames, onset=0, apex=3, offset=6, flow_files=(flow,))
    with seeing.look(experiment(), clip) as (seen,):
        assert seen.flows[0, 3].unit == "minmax"


def test_a_clip_without_an_apex_goes_to_the_spotter(clips):
    clip = Clip("smic", "s01", "s01_ne_01", clips[0].frames, onset=0, offset=6, emotion="negative")
    chosen = experiment(spotting={"name": "middle"})
    with seeing.look(chosen, clip) as (seen,):
        assert seen.face.moment.apex == 3
    with seeing.look(chosen, clips[0]) as (seen,):
        assert (seen.face.moment.apex, list(seen.flows)) == (3, [(0, 3)])


def test_the_annotation_wins_unless_spotting_is_asked_for(tmp_path):
    clip = write_clip(tmp_path, "sub01", "EP", 0, apex=1)
    for apex, wanted in (("annotated", 1), ("spotted", 3)):
        with seeing.look(experiment(spotting={"name": "middle"}, apex=apex), clip) as (seen,):
            assert seen.face.moment.apex == wanted


def test_a_spotter_that_looks_is_asked_once(clips, monkeypatch):
    spotter, looked = plugins.load("spotting", "frame_difference"), []
    plain = spotter.locate
    monkeypatch.setattr(spotter, "locate", lambda face, options: looked.append(face.clip.key) or plain(face, options))
    chosen = experiment(spotting={"name": "frame_difference"}, apex="spotted")
    first = preparation.prepare(chosen, clips).samples
    assert len(looked) == 6
    again = preparation.prepare(
        experiment(spotting={"name": "frame_difference"}, apex="spotted", input={"scale": "px"}), clips
    )
    assert len(looked) == 6
    assert list(again.samples.keys) == list(first.keys)


def test_what_a_tracker_notices_is_told(clips, monkeypatch):
    tracker = plugins.load("faces", "none")

    def track(frames, which, options):
        return Track(np.empty((len(frames), 0, 2), np.float32), np.full(len(frames), -1, np.int8), None, ("two faces",))

    monkeypatch.setattr(tracker, "track", track)
    assert preparation.prepare(experiment(), clips).notices == {clip.key: ["two faces"] for clip in clips}


def test_a_full_disk_is_no_fault_of_a_clip(clips, monkeypatch):
    from fleeting import files

    def full(*args):
        raise files.Unwritable("no space")

    monkeypatch.setattr(cache, "put", full)
    with pytest.raises(files.Unwritable):
        preparation.prepare(experiment(), clips)


def test_flow_that_is_not_finite_breaks_its_clip_alone(clips, monkeypatch):
    method = plugins.load("flow", "farneback")
    plain, batches = method.flow, []

    def flow(first, second, options):
        found = plain(first, second, options)
        batches.append(len(found))
        found[1, 0, 5, 5] = np.nan
        return found

    monkeypatch.setattr(method, "flow", flow)
    packed, broken, _ = preparation.prepare(experiment(), clips)
    assert len(broken) == len(batches)
    assert "want finite flow" in next(iter(broken.values()))
    assert len(packed) == 6 - len(broken)


def test_pairs_of_several_clips_are_one_batch(monkeypatch, tmp_path):
    clips = [write_clip(tmp_path, f"sub{seed:02d}", "EP", seed) for seed in range(16)]
    method = plugins.load("flow", "farneback")
    plain, batches = method.flow, []
    monkeypatch.setattr(method, "flow", lambda one, two, o: batches.append(len(one)) or plain(one, two, o))
    preparation.prepare(experiment(), clips)
    assert sum(batches) == 16
    assert max(batches) >= 4


def test_an_apex_beyond_a_video_is_said(clips, tmp_path):
    import av

    path = tmp_path / "short.mp4"
    with av.open(str(path), "w") as out:
        stream = out.add_stream("libx264", rate=25)
        stream.width = stream.height = SIDE
        stream.pix_fmt = "yuv420p"
        for index in range(5):
            frame = av.VideoFrame.from_ndarray(np.repeat(picture(0, index)[..., None], 3, 2), format="rgb24")
            out.mux(stream.encode(frame))
        out.mux(stream.encode())
    clip = Clip("casme2", "sub07", "EP", path, onset=0, apex=9, offset=12, emotion="happiness")
    _, broken, _ = preparation.prepare(experiment(), [*clips, clip])
    assert broken[clip.key].startswith("casme2/sub07/EP: want frames up to 12, got a recording of 5")


def test_views_survive_the_way_through_the_cache(clips):
    made = preparation.views(experiment(), clips[0])[0][1]
    packed = preparation.prepare(experiment(), clips[:2]).samples
    assert np.array_equal(packed.x["flow"][0], made[0].x["flow"])
    assert json.loads((packed.folder / "index.json").read_text())["views"] == ["apex", "apex"]


def test_the_way_has_no_labels(clips):
    """Two clips that differ in the emotion alone have one digest."""
    other = [Clip(**{**vars(clip), "emotion": "surprise"}) for clip in clips]
    chosen = stages.Stages(experiment())
    assert [chosen.views_digest(clip) for clip in clips] == [chosen.views_digest(clip) for clip in other]


def test_paths_are_said_where_a_folder_is_gone(tmp_path):
    clip = Clip(
        "casme2", "sub01", "EP", (Path(tmp_path / "a.png"), Path(tmp_path / "b.png")), onset=0, apex=1, offset=1
    )
    with pytest.raises(UserError, match=r"a\.png"), seeing.look(experiment(), clip) as seen:
        list(seen)


def test_another_order_of_the_clips_is_another_pack(clips):
    first = preparation.prepare(experiment(), clips).samples
    second = preparation.prepare(experiment(), clips[::-1]).samples
    assert list(second.keys) == list(first.keys)[::-1]
    assert np.array_equal(second.x["flow"], first.x["flow"][::-1])


def test_what_was_broken_is_tried_again(clips, monkeypatch):
    """A right to read that was given leaves no trace in a file's time or size."""
    from fleeting import video

    plain = video.open

    def refused(source):
        if source.key == clips[1].key:
            raise UserError("no right to read")
        return plain(source)

    monkeypatch.setattr(video, "open", refused)
    assert list(preparation.prepare(experiment(), clips).broken) == [clips[1].key]
    monkeypatch.setattr(video, "open", plain)
    assert not preparation.prepare(experiment(), clips).broken


def test_a_fault_of_a_plugin_stops_its_clip_alone(clips, monkeypatch):
    module = plugins.load("inputs", "uvs28")
    plain = module.make

    def make(face, flows, options):
        if face.clip.key == clips[2].key:
            raise IndexError("list index out of range")
        return plain(face, flows, options)

    monkeypatch.setattr(module, "make", make)
    assert preparation.prepare(experiment(), clips).broken == {
        clips[2].key: f"{clips[2].key}: IndexError: list index out of range"
    }


def test_views_that_cannot_be_packed_break_their_clip_alone(clips, monkeypatch):
    module = plugins.load("inputs", "uvs28")
    plain = module.make

    def make(face, flows, options):
        (view,) = plain(face, flows, options)
        flow = view.x["flow"].copy()
        if face.clip.key == clips[0].key:
            flow[0, 0, 0] = np.nan
        if face.clip.key == clips[3].key:
            flow = flow[:, :-1]
        return [type(view)(view.name, {"flow": flow})]

    monkeypatch.setattr(module, "make", make)
    packed, broken, _ = preparation.prepare(experiment(), clips)
    assert set(broken) == {clips[0].key, clips[3].key}
    assert "want finite flow" in broken[clips[0].key]
    assert "3 x 27 x 28" in broken[clips[3].key]
    assert len(packed) == 4


def test_no_plugin_sees_the_emotion(clips, monkeypatch):
    seen = []
    module = plugins.load("inputs", "uvs28")
    plain = module.make
    monkeypatch.setattr(
        module, "make", lambda face, flows, options: seen.append(face.clip) or plain(face, flows, options)
    )
    preparation.prepare(experiment(), clips)
    assert len(seen) == 6
    assert {(clip.emotion, clip.action_units) for clip in seen} == {(None, ())}


def test_another_version_of_a_package_computes_anew(clips, calls, monkeypatch):
    preparation.prepare(experiment(), clips)
    calls()
    monkeypatch.setattr(stages, "_versions", lambda: ["opencv 99"])
    preparation.prepare(experiment(), clips)
    assert calls() == (6, 6, 6)


def test_an_empty_folder_is_one_broken_clip(clips, tmp_path):
    (tmp_path / "empty").mkdir()
    clip = Clip("casme2", "sub09", "EP", tmp_path / "empty", onset=0, apex=1, offset=2, emotion="surprise")
    assert list(preparation.prepare(experiment(), [*clips, clip]).broken) == [clip.key]


def test_an_interrupted_prepare_ends_its_workers(tmp_path):
    clips = [write_clip(tmp_path / "corpus", f"sub{seed:02d}", "EP", seed) for seed in range(64)]
    # a shell lets what it starts in the background ignore the signal
    heard = "import signal\nsignal.signal(signal.SIGINT, signal.default_int_handler)\n"
    script = heard + PREPARE.replace("prepare(experiment, clips)", "prepare(experiment, clips, jobs=2)")
    import pickle

    slow = experiment(flow={"name": "tvl1"}, input={"name": "clip", "what": "flow"})
    (tmp_path / "work.pickle").write_bytes(pickle.dumps((slow, clips)))
    (tmp_path / "work.py").write_text(script)
    process = subprocess.Popen(
        [sys.executable, str(tmp_path / "work.py"), str(tmp_path / "work.pickle")],
        env={**os.environ, "FLEETING_CACHE": str(tmp_path / "cache")},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    while not list((tmp_path / "cache").rglob("tracks/*/*.npz")):
        assert process.poll() is None
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=20) != 0
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline and _alive(process.pid):
        time.sleep(0.1)
    assert not _alive(process.pid)


def _alive(group):
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True
