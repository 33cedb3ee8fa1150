"""Magnified motion: frames against drawn faces that move further, the video, the picture, and what is refused."""

import json
import shutil
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from fleeting import config, magnify, motion, saving, video
from fleeting.cli import app
from fleeting.datasets import megc2019_flow, simulated
from fleeting.errors import UserError
from fleeting.magnify import Wanted, film
from fleeting.models import ammsm
from fleeting.records import Clip, Moment
from fleeting.simulation import Expression, Scene

SIZE = (160, 160)


def scene(amplitude: float) -> Scene:
    return Scene(12, Expression(1, 6, 11, {"12": amplitude, "4": amplitude}), subject=2, size=SIZE)


def difference(one: Any, other: Any) -> float:
    return float(np.abs(one.astype(float) - other).mean())


# --- frames


def test_a_smile_moved_three_times_as_far_is_the_larger_smile() -> None:
    small, large = scene(0.8), scene(2.4)
    uv = small.flow(1, 6)
    made = magnify.moved(small[6], uv, 3 * uv)
    moves = np.hypot(*uv) > 0.3
    assert difference(made[moves], large[6][moves]) < 0.4 * difference(small[6][moves], large[6][moves])
    plain = magnify.linear(small[1], small[6], 3)
    assert difference(made[moves], large[6][moves]) < 0.8 * difference(plain[moves], large[6][moves])


def test_what_moves_as_it_did_stays_as_it_is() -> None:
    small, uv = scene(1.0), scene(1.0).flow(1, 6)
    assert difference(magnify.moved(small[6], uv, uv), small[6]) < 0.5
    assert np.array_equal(magnify.linear(small[1], small[6], 1), small[6])


def test_a_shift_is_shifted_further() -> None:
    rng = np.random.default_rng(0)
    wide = cv2.GaussianBlur(rng.integers(0, 255, (60, 90, 3)).astype(np.uint8), (0, 0), 2)
    uv = np.stack([np.full((60, 60), 2.0), np.full((60, 60), 0.0)]).astype(np.float32)
    # the later picture shows what the first one shows 2 px further left
    made = magnify.moved(wide[:, 13:73], uv, 4 * uv)
    assert np.abs(made[:, 8:-8].astype(int) - wide[:, 7:67][:, 8:-8]).max() <= 1


def test_motion_can_be_taken_out() -> None:
    small = scene(2.0)
    uv = small.flow(1, 6)
    made = magnify.moved(small[6], uv, np.zeros_like(uv))
    moves = np.hypot(*uv) > 0.5
    assert difference(made[moves], small[1][moves]) < 0.4 * difference(small[6][moves], small[1][moves])


def test_linear_magnifies_brightness() -> None:
    first = np.full((40, 40, 3), 100, np.uint8)
    assert (magnify.linear(first, first + np.uint8(7), 4) == 128).all()
    assert (magnify.linear(first, first + np.uint8(100), 4) == 255).all()
    assert (magnify.linear(first, first, 9) == first).all()


def test_flow_and_magnified_flow_have_one_size() -> None:
    with pytest.raises(UserError, match="of one size"):
        magnify.moved(np.zeros((4, 4, 3), np.uint8), np.zeros((2, 4, 4)), np.zeros((2, 5, 4)))


def test_flow_that_folds_is_told_from_flow_that_does_not() -> None:
    x = np.tile(np.arange(20, dtype=np.float32), (20, 1))
    squeezed = np.stack([-0.5 * x, 0 * x])
    assert magnify.folded(squeezed) == 0
    assert magnify.folded(3 * squeezed) == 1


# --- a panel of the film


def test_a_panel_shows_its_pictures_side_by_side_enlarged() -> None:
    shown = film.Film("d/s/c", Moment(1, 6, 11), np.arange(12) / 100, 4, 4)
    one, other = np.full((100, 80, 3), 50, np.uint8), np.full((100, 80, 3), 200, np.uint8)
    page = film.panel(shown, 6, {"original": one, "flow": other})
    scale = 4
    assert page.shape == (100 * scale + 88, 2 * 80 * scale + 8, 3)
    assert (page[44:444, :320] == 50).all()
    assert (page[44:444, 328:] == 200).all()
    assert (page[:44] < 100).any()  # letters
    assert film._below(shown, 6) == "d/s/c  frame 6, +50 ms, 4 x slower, apex"
    assert film._below(film.Film("x", Moment(1, 6, 11), None, 4, 1), 0) == "x  frame 0"


# --- clips


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("drawn")
    options = simulated.Options(subjects=1, clips=1, height=120, width=160, noise=0, flicker=0, blinks=0, drift_px=0)
    simulated.write(folder / "faces", options)
    return folder


@pytest.fixture(autouse=True)
def _roots(drawn: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLEETING_SIMULATED", str(drawn / "faces"))
    monkeypatch.setenv("FLEETING_CACHE", str(drawn / "cache"))


def read(path: Path) -> tuple[list[Any], float]:
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        assert stream.average_rate is not None
        return [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)], float(stream.average_rate)


def test_a_clip_becomes_a_video_and_a_picture(tmp_path: Path) -> None:
    steps: list[tuple[int, int]] = []
    found = magnify.clip(
        "simulated/s01/c01", tmp_path / "m.mp4", Wanted(factor=3),
        lambda what, done, of: steps.append((done, of)) if what == "magnifying frames" else None,
    )  # fmt: skip
    (moment,) = found["moments"]
    frames, rate = read(tmp_path / "m.mp4")
    first, last = moment["frames"]
    assert len(frames) == last - first + 1 == len(steps) == steps[-1][0]
    assert first < moment["onset"] < moment["apex"] < moment["offset"] < last
    assert (rate, moment["slow"]) == (25, 4)
    assert moment["max_px"]["flow"] == pytest.approx(3 * moment["max_px"]["original"], rel=1e-4)
    assert moment["max_px"]["linear"] is None
    width = frames[0].shape[1]
    side = (width - 16) // 3
    parts = [frame[44:-44, :side] for frame in frames], [frame[44:-44, side + 8 : 2 * side + 8] for frame in frames]
    at = moment["apex"] - first
    still = moment["onset"] - first
    # at the onset nothing moves; at the apex the magnified face is further from it than the original
    assert difference(parts[0][still], parts[1][still]) < 1
    assert difference(parts[1][at], parts[1][still]) > 1.5 * difference(parts[0][at], parts[0][still])
    assert cv2.imread(str(tmp_path / "m.png")) is not None
    assert sorted(path.name for path in tmp_path.iterdir()) == ["m.mp4", "m.png"]


def test_the_command_says_what_it_wrote(tmp_path: Path) -> None:
    arguments = ["magnify", "simulated/s01/c01", "--factor", "2", "--show", "flow", "--slow", "10"]
    done = CliRunner().invoke(app, [*arguments, "--out", str(tmp_path / "a.mp4")])
    assert done.exit_code == 0, done.output
    assert "motion x 2, 10 times slower" in done.output
    assert str(tmp_path / "a.png") in done.output
    done = CliRunner().invoke(app, [*arguments, "--out", str(tmp_path / "b.mp4"), "--json"])
    found = json.loads(done.stdout)
    assert (found["factor"], found["methods"]) == (2, ["flow"])
    assert read(tmp_path / "b.mp4")[1] == 10


@pytest.fixture(scope="module")
def model(drawn: Path) -> Path:
    """An AMMSM whose magnifier was told to multiply: one linear path through it."""
    return saved(drawn / "model")


def saved(folder: Path, corpus: str = "simulated", **changes: Any) -> Path:
    options = {**ammsm.SMALL.model_dump(mode="json", exclude_none=True), "spatial": "none", **changes}
    experiment = config.resolve(
        {"datasets": [corpus], "model": {"name": "ammsm", **options}, "input": {"name": "onset_flow", "size": 32}}
    )
    torch.manual_seed(0)
    network = ammsm.build({"flow": (2, 32, 32)}, 3, ammsm.Options(**options))
    header = {"classes": ["a", "b", "c"], "shapes": {"flow": [2, 32, 32]}, "experiment": config.plain(experiment)}
    saving.write(folder, network, header)
    return folder


def test_a_saved_magnifier_stands_beside_the_plain_ways(tmp_path: Path, model: Path) -> None:
    found = magnify.clip("simulated/s01/c01", tmp_path / "m.mp4", Wanted(factor=6, model=model))
    assert found["methods"] == ["learned", "flow", "linear"]
    assert found["moments"][0]["max_px"]["learned"] > 0
    assert "the model learned factors of 1 to 4, got 6" in found["notices"]
    frames, _ = read(tmp_path / "m.mp4")
    assert frames[0].shape[1] == 4 * ((frames[0].shape[1] - 24) // 4) + 24


def test_a_saved_magnifier_serves_other_corpora(tmp_path: Path) -> None:
    wanted = Wanted(factor=2, model=saved(tmp_path / "model", "casme2"), methods=("learned",))
    assert magnify.clip("simulated/s01/c01", tmp_path / "m.mp4", wanted)["methods"] == ["learned"]


def test_a_saved_magnifier_counts_pixels_of_the_picture(model: Path) -> None:
    """It works at 32 px, the flow comes at 64: twice the pixels each way, the same motion."""
    network, _ = saving.read(model)
    way = magnify.clips._learned(network, (2, 32, 32), 2.0, model)
    uv = cv2.GaussianBlur(np.random.default_rng(0).normal(0, 3, (64, 64, 2)), (0, 0), 6).transpose(2, 0, 1)
    uv = uv.astype(np.float32)
    with torch.no_grad():
        small = network.magnified(torch.from_numpy(motion.resize(uv, 32, 32))[None])[0].numpy()
    np.testing.assert_allclose(way(uv), motion.resize(small, 64, 64), atol=1e-6)


@pytest.mark.parametrize(
    ("options", "factor", "said"),
    [({}, 4, []), ({}, 0.5, ["the model learned factors of 1 to 4, got 0.5"]), ({"search": "none"}, 2.5, []),
     ({"search": "none"}, 4, ["the model learned a factor of 2.5, got 4"])],
)  # fmt: skip
def test_factors_that_were_not_learned_are_told(options: dict[str, Any], factor: float, said: list[str]) -> None:
    assert list(magnify.clips._beyond(ammsm.Options(**options), factor)) == said


@pytest.mark.parametrize(
    ("changes", "wanted"),
    [({"magnify": "scale"}, "want a model that learned to magnify"), ({"flow": "minmax255"}, "flow in pixels")],
)
def test_models_that_cannot_are_refused(tmp_path: Path, changes: dict[str, Any], wanted: str) -> None:
    with pytest.raises(UserError, match=wanted):
        magnify.clip("simulated/s01/c01", tmp_path / "m.mp4", Wanted(model=saved(tmp_path / "model", **changes)))


@pytest.mark.parametrize(
    ("out", "wanted", "message"),
    [
        ("m.avi", Wanted(), r"ending in \.mp4"),
        ("m.mp4", Wanted(factor=0), "factor above 0"),
        ("m.mp4", Wanted(factor=float("nan")), "factor above 0"),
        ("m.mp4", Wanted(factor=1e39), "factor above 0 and up to 1000"),
        ("m.mp4", Wanted(slow=0), "want slow from 0.01 to 1000"),
        ("m.mp4", Wanted(slow=float("inf")), "want slow from 0.01 to 1000"),
        ("m.mp4", Wanted(methods=("learned",)), "give --model for it"),
        ("m.mp4", Wanted(methods=("fast",)), "choose one of them"),
        ("m.mp4", Wanted(changes=("model.dim=3",)), "want --set to change"),
    ],
)
def test_what_cannot_be_done_is_said_before_any_work(tmp_path: Path, out: str, wanted: Wanted, message: str) -> None:
    with pytest.raises(UserError, match=message):
        magnify.clip("simulated/s01/c01", tmp_path / out, wanted)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["m.mp4", "m.png"])
def test_a_folder_of_that_name_is_not_written_to(tmp_path: Path, name: str) -> None:
    (tmp_path / name).mkdir()
    with pytest.raises(UserError, match="want a file to write, got a folder"):
        magnify.clip("simulated/s01/c01", tmp_path / "m.mp4")


@pytest.mark.parametrize("name", ["mine.mp4", "mine_1.mp4", "mine_12.mp4"])
def test_a_recording_is_not_written_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """Neither by the whole name nor by that of one of several moments, however the path is written."""
    video.write(tmp_path / name, [np.zeros((32, 32, 3), np.uint8)] * 3, 25)
    before = (tmp_path / name).read_bytes()
    monkeypatch.chdir(tmp_path)
    for out in (Path("mine.mp4"), tmp_path / ".." / tmp_path.name / "mine.mp4"):
        with pytest.raises(UserError, match="want to keep the recording"):
            magnify.clip(name, out)
    assert (tmp_path / name).read_bytes() == before
    for out in ("mine_too.mp4", "min.mp4", "else/mine.mp4"):
        magnify.clips._apart(Clip("d", "s", "c", tmp_path / name), tmp_path / out)


def test_a_link_to_a_recording_is_not_written_over(tmp_path: Path) -> None:
    """As corpora are kept by git-annex: the link would be replaced by the magnified video."""
    (tmp_path / "kept").mkdir()
    (tmp_path / "kept" / "target.mp4").touch()
    (tmp_path / "link.mp4").symlink_to(tmp_path / "kept" / "target.mp4")
    for out in (tmp_path / "link.mp4", tmp_path / "kept" / "target.mp4"):
        with pytest.raises(UserError, match="want to keep the recording"):
            magnify.clips._apart(Clip("d", "s", "c", tmp_path / "link.mp4"), out)


def test_nothing_is_written_among_the_frames(tmp_path: Path) -> None:
    """The picture would be taken for a frame the next time."""
    (tmp_path / "frames").mkdir()
    for number in range(3):
        cv2.imwrite(str(tmp_path / "frames" / f"img{number}.png"), np.zeros((32, 32, 3), np.uint8))
    with pytest.raises(UserError, match="want to keep the frames apart"):
        magnify.clip(str(tmp_path / "frames"), tmp_path / "frames" / "m.mp4", Wanted(fps=25))
    listed = tuple(sorted((tmp_path / "frames").iterdir()))
    with pytest.raises(UserError, match="want to keep the frames apart"):
        magnify.clips._apart(Clip("d", "s", "c", listed), tmp_path / "frames" / "m.mp4")
    magnify.clips._apart(Clip("d", "s", "c", listed), tmp_path / "m.mp4")
    assert len(list((tmp_path / "frames").iterdir())) == 3


def test_published_flow_has_no_frames_to_move(tmp_path: Path) -> None:
    megc2019_flow.write_standin(tmp_path / "flow", subjects=1, clips=1)
    picture = next((tmp_path / "flow").rglob("*.png"))
    with pytest.raises(UserError, match="want frames to move, got published flow"):
        magnify.clip(str(picture), tmp_path / "m.mp4")


def test_several_moments_give_numbered_files_that_settle(tmp_path: Path) -> None:
    moments = []
    for number in (1, 2):
        for kind, suffix in (("video", "mp4"), ("picture", "png")):
            (tmp_path / f"m_{number}.{suffix}").write_text(kind)
        moments.append({"video": str(tmp_path / f"m_{number}.mp4"), "picture": str(tmp_path / f"m_{number}.png")})
    magnify.clips._settle(tmp_path / "m.mp4", moments)
    assert len(list(tmp_path.iterdir())) == 4
    shutil.copytree(tmp_path, tmp_path / "alone")
    only = [{"video": str(tmp_path / "alone" / "m_1.mp4"), "picture": str(tmp_path / "alone" / "m_1.png")}]
    magnify.clips._settle(tmp_path / "alone" / "m.mp4", only)
    assert only == [{"video": str(tmp_path / "alone" / "m.mp4"), "picture": str(tmp_path / "alone" / "m.png")}]


@pytest.mark.data
def test_a_real_recording(real: Path, tmp_path: Path) -> None:
    found = magnify.clip(str(real / "face_videos" / "single_face.mp4"), tmp_path / "m.mp4", Wanted(methods=("flow",)))
    frames, rate = read(Path(found["moments"][0]["video"]))
    assert rate == pytest.approx(30, abs=0.1)
    assert len(frames) > 10
    # a broad smile, four times as far, cannot be: it says so
    assert any("folds" in notice for notice in found["notices"])
