"""The whole way on a small made-up corpus and on the real clips: resuming, secrecy of labels, failures."""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fleeting import (
    config,
    dealing,
    deciding,
    engine,
    experiment,
    predictions,
    runs,
    samples,
    saving,
    scoring,
    training,
)
from fleeting.errors import UserError
from fleeting.records import Fold, FoldTask

TABLES: dict[str, Any] = {
    "name": "small",
    "seeds": [0, 1],
    "model": {"name": "ststnet"},
    "recipe": {"epochs": 2, "batch": 16},
}


def tables(**changes: Any) -> dict[str, Any]:
    return {**TABLES, **changes}


def run(out: Path, root: Path, jobs: int = 1, **changes: Any) -> runs.Run:
    return experiment.run(config.resolve(tables(**changes)), out, jobs, roots={"megc2019_flow": root})


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, standin: Path) -> runs.Run:
    """A finished run with two seeds and two inner tasks a fold. Not to be changed by a test."""
    base = tmp_path_factory.mktemp("finished")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FLEETING_CACHE", str(base / "cache"))
        return run(base / "run", standin, inner=2)


def test_the_run_folder_holds_what_the_contract_says(finished: runs.Run) -> None:
    assert len(finished.clips) == 45
    assert len(finished.done()) == finished.header["counts"]["tasks"] == 9 * 2 * 3
    assert finished.header["standin"] == ["megc2019_flow"]
    frame = predictions.table(finished)
    assert list(frame.columns[:10]) == [
        "key", "dataset", "subject", "clip", "part", "fold", "seed", "epoch", "true", "pred",
    ]  # fmt: skip
    assert len(frame) == 45 * 2
    assert (frame["epoch"] == 1).all()
    np.testing.assert_allclose(frame.filter(like="p_").sum(axis=1), 1, atol=1e-5)
    trace = finished.traces[0, "casme2/sub01"]
    assert trace.probs.shape == (2, 5, 3)
    assert len(trace.log["loss"]) == 2
    assert 0 <= float(trace.log["fitted_accuracy"]) <= 1


def test_predictions_are_the_last_trace_of_each_fold(finished: runs.Run) -> None:
    text = (finished.folder / "predictions.csv").read_text(encoding="utf-8").splitlines()
    assert len(text) == 91
    key, *_, p0, p1, p2 = text[1].split(",")
    trace = finished.traces[0, key.rpartition("/")[0]]
    stored = trace.probs[-1][list(trace.keys).index(key)]
    np.testing.assert_allclose([float(p0), float(p1), float(p2)], stored, rtol=1e-8)


def test_two_workers_give_the_same_bytes_as_one(finished: runs.Run, standin: Path, tmp_path: Path) -> None:
    other = run(tmp_path / "two", standin, jobs=2, inner=2)
    first, second = ((r.folder / "predictions.csv").read_bytes() for r in (finished, other))
    assert first == second


def test_a_task_does_not_know_the_labels_of_its_test_clips(standin: Path) -> None:
    resolved = config.resolve(tables(inner=2))
    clips, labels, _ = experiment.load(resolved, {"megc2019_flow": standin})
    for task in experiment.tasks(resolved, experiment.split(resolved, clips, labels, 0), labels, 0):
        assert not set(task.test) & set(task.train)
        groups = {key.rpartition("/")[0] for key in task.test}
        assert not groups & {key.rpartition("/")[0] for key in task.train}
        assert isinstance(task.test, tuple)


def test_inner_tasks_test_each_training_subject_once_and_nothing_else(standin: Path) -> None:
    resolved = config.resolve(tables(inner=3))
    clips, labels, _ = experiment.load(resolved, {"megc2019_flow": standin})
    folds = {fold.name: fold for fold in experiment.split(resolved, clips, labels, 0)}
    tasks = experiment.tasks(resolved, list(folds.values()), labels, 0)
    for name, fold in folds.items():
        tested = [key for task in tasks if task.fold == name and task.inner is not None for key in task.test]
        assert sorted(tested) == sorted(fold.train)


def test_scrambled_test_labels_change_no_prediction(
    finished: runs.Run, standin: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each task is run again with the truth of its own fold replaced: the worker must not be able to tell."""
    resolved = config.resolve(tables(inner=2))
    clips, labels, _ = experiment.load(resolved, {"megc2019_flow": standin})
    folds = experiment.split(resolved, clips, labels, 0)
    fold = folds[0]
    scrambled = {key: (label + 1) % 3 if key in fold.tested else label for key, label in labels.items()}
    task = next(t for t in experiment.tasks(resolved, folds, scrambled, 0) if t.fold == fold.name and t.inner is None)
    again = experiment.execute(task, finished.folder)
    np.testing.assert_array_equal(again.probs, finished.traces[0, fold.name].probs)


def test_packed_samples_hold_no_label(standin: Path, finished: runs.Run) -> None:
    resolved = config.resolve(tables())
    clips, _, _ = experiment.load(resolved, {"megc2019_flow": standin})
    packed, broken, _ = experiment.prepare(resolved, clips)
    assert packed.y is None
    assert not broken
    text = (packed.folder / "index.json").read_text(encoding="utf-8")
    assert not any(word in text for word in ("negative", "positive", "surprise"))
    assert samples.testing(packed, [clips[0].key]).y is None


def test_tracing_changes_nothing(standin: Path, finished: runs.Run, monkeypatch: pytest.MonkeyPatch) -> None:
    resolved = config.resolve(tables(inner=2))
    clips, labels, _ = experiment.load(resolved, {"megc2019_flow": standin})
    task = experiment.tasks(resolved, experiment.split(resolved, clips, labels, 0), labels, 0)[0]
    traced = experiment.execute(task, finished.folder)
    fit = training.fit

    def untraced(network: Any, train: Any, valid: Any, recipe: Any, context: Any) -> Any:
        quiet = training.Context(seed=context.seed, device=context.device)
        fitted = fit(network, train, valid, recipe, quiet)
        context.after_epoch(recipe.epochs - 1, fitted)
        return fitted

    monkeypatch.setattr(training, "fit", untraced)
    alone = experiment.execute(task, finished.folder)
    np.testing.assert_array_equal(alone.probs[-1], traced.probs[-1])


def test_killed_in_the_middle_it_resumes_to_the_same_bytes(finished: runs.Run, standin: Path, tmp_path: Path) -> None:
    path = tmp_path / "exp.toml"
    path.write_text(config.to_toml(config.resolve(tables(inner=2))), encoding="utf-8")
    command = [sys.executable, "-m", "fleeting", "run", str(path), "--out", str(tmp_path / "run"), "--jobs", "2"]
    environment = {**os.environ, "FLEETING_MEGC2019_FLOW": str(standin)}
    process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    for _ in _until(lambda: len(list((tmp_path / "run" / "tasks").glob("[!.]*.npz"))) >= 5):
        assert process.poll() is None, "the run ended before it could be killed"
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    before = runs.Run(tmp_path / "run").done()
    assert 5 <= len(before) < 54
    assert not (tmp_path / "run" / "predictions.csv").exists()
    subprocess.run(command, env=environment, check=True, capture_output=True)
    after = runs.Run(tmp_path / "run")
    assert len(after.done()) == 54
    first, second = ((r.folder / "predictions.csv").read_bytes() for r in (finished, after))
    assert first == second


def test_workers_die_with_a_killed_parent(tmp_path: Path) -> None:
    code = (
        "import sys, time, os\n"
        "from pathlib import Path\n"
        "sys.path.insert(0, sys.argv[1])\n"
        "import slow_task\n"
        "from fleeting import engine\n"
        "if __name__ == '__main__':\n"
        "    list(engine.run(slow_task.execute, slow_task.tasks(), Path(sys.argv[1]), 2))\n"
    )
    (tmp_path / "slow_task.py").write_text(
        "import os, time\nfrom pathlib import Path\nfrom fleeting.records import FoldTask\n"
        "def tasks():\n    return [FoldTask(f'f{i}', 0, None, {}, {}, ()) for i in range(2)]\n"
        "def execute(task, folder):\n    (folder / f'{task.fold}.pid').write_text(str(os.getpid()))\n"
        "    time.sleep(600)\n",
        encoding="utf-8",
    )
    (tmp_path / "main.py").write_text(code, encoding="utf-8")
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    process = subprocess.Popen([sys.executable, str(tmp_path / "main.py"), str(tmp_path)], env=environment)
    for _ in _until(lambda: len(list(tmp_path.glob("*.pid"))) == 2):
        assert process.poll() is None
    workers = [int(path.read_text()) for path in tmp_path.glob("*.pid")]
    process.kill()
    process.wait()
    for _ in _until(lambda: not any(_alive(worker) for worker in workers)):
        pass


def test_an_interrupted_run_keeps_what_is_done(standin: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(execute: Any, tasks: Any, folder: Path, jobs: int) -> Iterator[Any]:
        for number, pair in enumerate(engine_run(execute, tasks, folder, jobs)):
            if number == 3:
                raise KeyboardInterrupt
            yield pair

    engine_run = engine.run
    monkeypatch.setattr(engine, "run", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "run", standin, seeds=[0])
    assert len(runs.Run(tmp_path / "run").done()) == 3
    monkeypatch.setattr(engine, "run", engine_run)
    assert len(run(tmp_path / "run", standin, seeds=[0]).done()) == 9


def test_a_failing_fold_is_named_and_the_others_go_on(
    standin: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fit = training.fit

    def failing(network: Any, train: Any, *rest: Any) -> Any:
        if not any(str(key).startswith("samm/001/") for key in train.keys[train.rows]):
            train = replace(train, x={name: x * np.float32("nan") for name, x in train.x.items()})
        return fit(network, train, *rest)

    monkeypatch.setattr(training, "fit", failing)
    done = run(tmp_path / "run", standin, seeds=[0])
    assert list(done.failed()) == ["samm~001@0"]
    assert "loss" in done.failed()["samm~001@0"]
    assert len(done.done()) == 8
    assert scoring.score_run(done.folder)["tasks"] == {"done": 8, "failed": 1, "all": 9}
    monkeypatch.setattr(training, "fit", fit)
    again = run(tmp_path / "run", standin, seeds=[0])
    assert not again.failed()
    assert len(again.done()) == 9


def test_another_experiment_or_other_clips_do_not_resume(standin: Path, tmp_path: Path) -> None:
    run(tmp_path / "run", standin, seeds=[0], protocol={"name": "hde"})
    with pytest.raises(UserError, match=r"recipe.epochs was 2, is 3"):
        run(tmp_path / "run", standin, seeds=[0], protocol={"name": "hde"}, recipe={"epochs": 3, "batch": 16})
    with pytest.raises(UserError, match="want a new folder or a run"):
        run(tmp_path, standin)


def test_a_folder_used_again_in_one_process_is_opened_anew(standin: Path, tmp_path: Path) -> None:
    hde = {"protocol": {"name": "hde"}, "seeds": [0], "model": {"name": "flow_svm"}}
    first = run(tmp_path / "run", standin, **hde, recipe={}).folder / "predictions.csv"
    before = first.read_bytes()
    shutil.rmtree(tmp_path / "run")
    run(tmp_path / "run", standin, **{**hde, "model": {"name": "flow_svm", "C": 0.001}}, recipe={})
    assert first.read_bytes() != before


def test_changed_pictures_do_not_resume(standin: Path, tmp_path: Path) -> None:
    root = tmp_path / "data"
    shutil.copytree(standin, root)
    hde = {"protocol": {"name": "hde"}, "seeds": [0]}
    done = run(tmp_path / "run", root, **hde)
    next((done.folder / "tasks").glob("samm*.npz")).unlink()
    one, two = sorted(root.rglob("*.png"))[:2]
    one.write_bytes(two.read_bytes())
    with pytest.raises(UserError, match="want the same input"):
        run(tmp_path / "run", root, **hde)


def test_what_a_kill_leaves_before_the_run_began_is_overwritten(standin: Path, tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    for name in ("clips.csv", ".run.toml.99.abcd.tmp", "lock"):
        (tmp_path / "run" / name).write_text("half", encoding="utf-8")
    assert run(tmp_path / "run", standin, protocol={"name": "hde"}, seeds=[0]).done()


@pytest.mark.parametrize("damage", ["flow.npy", "said.json", "index.json"])
def test_a_damaged_cache_is_made_again(damage: str, standin: Path, tmp_path: Path) -> None:
    resolved = config.resolve(tables())
    clips, _, _ = experiment.load(resolved, {"megc2019_flow": standin})
    packed, *_ = experiment.prepare(resolved, clips)
    before = samples.digest(packed)
    path = packed.folder / damage
    path.write_bytes(path.read_bytes()[: -(path.stat().st_size // 2)])
    again, *_ = experiment.prepare(resolved, clips)
    assert samples.digest(again) == before
    assert len(again.x["flow"]) == 45


def test_an_unknown_device_is_refused_at_once(standin: Path, tmp_path: Path) -> None:
    for device in ("gpu", "cuda:99"):
        with pytest.raises(UserError, match="set device = 'cpu'"):
            run(tmp_path / "run", standin, device=device)
    assert not (tmp_path / "run").exists()


def test_the_mirror_is_refused_where_the_picture_is_no_face(standin: Path, tmp_path: Path) -> None:
    code = {"name": "uvs28", "areas": "constant", "axes": "code"}
    with pytest.raises(UserError, match=r"set recipe\.flip = false"):
        run(tmp_path / "run", standin, input=code, recipe={"epochs": 1, "flip": True})


def test_only_one_process_writes_a_run(standin: Path, tmp_path: Path) -> None:
    with runs.writing(tmp_path / "run"), pytest.raises(UserError, match="only writer"):
        run(tmp_path / "run", standin)


def test_input_that_published_flow_cannot_give_is_refused_before_any_work(standin: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"want frames \(1,\), got a clip of published flow"):
        run(tmp_path / "run", standin, input={"name": "uvs28", "areas": "landmarks"})
    assert not (tmp_path / "run").exists()


def test_hde_pools_inside_a_corpus_only(standin: Path, tmp_path: Path) -> None:
    done = run(tmp_path / "run", standin, protocol={"name": "hde"}, seeds=[0])
    scores = scoring.score_run(done.folder)
    assert sorted(scores["parts"]) == ["casme2", "samm", "smic"]
    assert "uf1" not in scores


def test_early_stopping_looks_at_inner_subjects_and_returns_the_restored_network(standin: Path, tmp_path: Path) -> None:
    recipe = {"epochs": 6, "batch": 16, "patience": 1, "lr": 1e-2}
    done = run(tmp_path / "run", standin, seeds=[0], protocol={"name": "hde"}, recipe=recipe)
    for trace in done.traces.values():
        epochs = len(trace.log["loss"])
        assert len(trace.probs) == epochs + 1
        assert any(np.array_equal(trace.probs[-1], trace.probs[epoch]) for epoch in range(epochs))


def test_a_saved_model_needs_nothing_else_and_says_whom_it_knows(
    standin: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    resolved = config.resolve(tables())
    experiment.train(resolved, tmp_path / "model", {"megc2019_flow": standin})
    assert sorted(path.name for path in (tmp_path / "model").iterdir()) == ["model.safetensors", "model.toml"]
    picture = next(standin.rglob("*.png"))
    monkeypatch.setenv("FLEETING_MEGC2019_FLOW", str(standin))
    by_key, by_path = deciding.predict(tmp_path / "model", ["casme2/sub01/EP01_01f", str(picture)])
    assert by_key["trained_on"] is True
    assert by_path["trained_on"] is None
    assert sum(by_key["probabilities"].values()) == pytest.approx(1)
    assert by_key["probabilities"] == pytest.approx(by_path["probabilities"]) or picture.name != "sub01_EP01_01f .png"
    with pytest.raises(UserError, match="did you mean 'casme2/sub01/EP01_01f'"):
        deciding.predict(tmp_path / "model", ["casme2/sub01/EP01_01"])
    with pytest.raises(UserError, match="choose another --out"):
        experiment.train(resolved, tmp_path / "model", {"megc2019_flow": standin})


def test_a_task_without_clips_of_a_label_still_runs(finished: runs.Run) -> None:
    """A worker is given keys only; an unknown one is an error, not a silent skip."""
    train = dict.fromkeys(list(finished.clips)[:10], 0)
    task = FoldTask("x", 0, None, train, {}, ("no/such/clip",))
    with pytest.raises(UserError, match="no/such/clip"):
        experiment.execute(task, finished.folder)


@pytest.mark.data
def test_the_support_vector_machine_on_the_real_clips(real: Path, tmp_path: Path) -> None:
    resolved = config.resolve({"name": "svm", "model": {"name": "flow_svm"}})
    done = experiment.run(resolved, tmp_path / "run", 2, roots={"megc2019_flow": real / "megc2019"})
    scores = scoring.score_run(done.folder)
    assert scores["n"] == 442
    assert scores["subjects"] == 68
    assert scores["uf1"] == pytest.approx(0.7497, abs=0.003)
    assert scores["uar"] == pytest.approx(0.7563, abs=0.003)
    expected = {"smic": 0.696, "casme2": 0.891, "samm": 0.617}
    for corpus, value in expected.items():
        assert scores["by_dataset"][corpus]["uf1"] == pytest.approx(value, abs=0.003)
    assert scores["floor"]["uf1"][0] == pytest.approx(0.33, abs=0.03)


def _until(condition: Any, seconds: float = 60) -> Iterator[None]:
    """Yields until the condition holds; fails after a time."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited too long"
        yield
        time.sleep(0.02)


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    status = Path(f"/proc/{pid}/stat")
    return not status.exists() or status.read_text().rpartition(")")[2].split()[0] != "Z"


CONVNEXT = {
    "name": "convnext", "depths": [1, 1, 1, 1], "dims": [8, 8, 8, 8], "stem_stride": 1, "mean": 0, "std": 1,
}  # fmt: skip
CONVNEXT_TABLES = {
    "input": {"name": "uvs28"},
    "recipe": {"epochs": 1, "batch": 16, "crop": 28, "rotate_deg": 0, "jitter": [0, 0, 0, 0]},
}


def test_weights_that_are_not_there_end_a_run_before_it_begins(standin: Path, tmp_path: Path) -> None:
    model = {**CONVNEXT, "weights": str(tmp_path / "none.safetensors")}
    with pytest.raises(UserError, match=r"convnext: want a file of weights, got .*none\.safetensors"):
        run(tmp_path / "run", standin, model=model, **CONVNEXT_TABLES)
    assert not (tmp_path / "run" / "run.toml").exists()


def test_a_run_says_what_its_network_began_with_and_its_model_needs_the_file_no_more(
    standin: Path, tmp_path: Path
) -> None:
    tables_ = tables(model=CONVNEXT, **CONVNEXT_TABLES)
    first = experiment.train(config.resolve(tables_), tmp_path / "first", roots={"megc2019_flow": standin})
    weights = tmp_path / "weights.safetensors"
    shutil.copy(first / "model.safetensors", weights)
    begun = {**CONVNEXT, "weights": str(weights)}
    done = run(tmp_path / "run", standin, model=begun, seeds=[0], **CONVNEXT_TABLES)
    told = {row["key"]: row["notice"] for row in done.header["notices"]}
    assert str(weights) in told["model convnext"]
    second = experiment.train(
        config.resolve(tables(model=begun, **CONVNEXT_TABLES)), tmp_path / "second", roots={"megc2019_flow": standin}
    )
    weights.unlink()
    again = run(tmp_path / "run", standin, model=begun, seeds=[0], **CONVNEXT_TABLES)
    assert again.header["notices"] == done.header["notices"], "a finished run opens without the file"
    network, header = saving.read(second)
    assert header["experiment"]["model"]["weights"] == str(weights)
    assert network is not None


def test_a_run_does_not_go_on_from_other_weights_under_the_same_name(standin: Path, tmp_path: Path) -> None:
    weights, folder = tmp_path / "weights.safetensors", tmp_path / "run"
    roots = {"megc2019_flow": standin}
    for seed in (1, 2):
        experiment.train(
            config.resolve(tables(model=CONVNEXT, seeds=[seed], **CONVNEXT_TABLES)), tmp_path / str(seed), roots=roots
        )
    begun = {**CONVNEXT, "weights": str(weights)}
    shutil.copy(tmp_path / "1" / "model.safetensors", weights)
    run(folder, standin, model=begun, seeds=[0], **CONVNEXT_TABLES)
    done = list((folder / "tasks").glob("*.npz"))
    done[0].unlink()
    shutil.copy(tmp_path / "2" / "model.safetensors", weights)
    with pytest.raises(UserError, match="want the same pretrained weights to resume this run, got another"):
        run(folder, standin, model=begun, seeds=[0], **CONVNEXT_TABLES)
    shutil.copy(tmp_path / "1" / "model.safetensors", weights)
    run(folder, standin, model=begun, seeds=[0], **CONVNEXT_TABLES)
    assert len(list((folder / "tasks").glob("*.npz"))) == len(done)


def test_a_crop_larger_than_the_picture_ends_a_run_before_it_begins(standin: Path, tmp_path: Path) -> None:
    changed = {**CONVNEXT_TABLES, "recipe": {**CONVNEXT_TABLES["recipe"], "crop": 29}}
    with pytest.raises(UserError, match=r"want pictures of at least 29 px to crop, got \(3, 28, 28\)"):
        run(tmp_path / "run", standin, model=CONVNEXT, **changed)
    assert not (tmp_path / "run" / "run.toml").exists()


def test_a_recipe_without_a_crop_stays_without_where_the_models_own_has_one(standin: Path, tmp_path: Path) -> None:
    changed = {**CONVNEXT_TABLES, "recipe": {**CONVNEXT_TABLES["recipe"], "crop": 0}}
    done = run(tmp_path / "run", standin, model=CONVNEXT, seeds=[0], **changed)
    assert not done.failed()
    assert config.recipe(config.resolve(done.header["experiment"])).crop is None


def test_a_network_is_built_for_what_it_sees(standin: Path, tmp_path: Path) -> None:
    """A crop of 6 leaves too little for three halvings."""
    changed = {**CONVNEXT_TABLES, "recipe": {**CONVNEXT_TABLES["recipe"], "crop": 6}}
    with pytest.raises(UserError, match="convnext: want a picture of at least 8 x 8, got 6 x 6"):
        run(tmp_path / "run", standin, model=CONVNEXT, **changed)


# --- clips that cannot be prepared


def test_a_broken_clip_leaves_its_fold_and_moves_no_other_clip() -> None:
    folds = [
        Fold("one", train=("a", "b", "c"), valid=("d",), test={"x": ("e", "f"), "y": ("g",)}),
        Fold("two", train=("a", "d", "e"), test={"x": ("b",)}),
    ]
    one, two = dealing.without(folds, {"c", "g"})
    assert (one.train, one.valid, one.test) == (("a", "b"), ("d",), {"x": ("e", "f")})
    assert two == folds[1]
    assert [fold.name for fold in dealing.without(folds, {"b"})] == ["one"]  # nobody is left to test in the other


@pytest.mark.parametrize(
    ("broken", "words"),
    [
        ({"a", "b", "c"}, "fold one: want clips to train on"),
        ({"d"}, "fold one: want clips to validate on"),
        ({"b", "e", "f", "g"}, "want clips to test"),
    ],
)
def test_a_fold_that_broken_clips_empty_ends_the_run(broken: set[str], words: str) -> None:
    folds = [
        Fold("one", train=("a", "b", "c"), valid=("d",), test={"x": ("e", "f"), "y": ("g",)}),
        Fold("two", train=("a", "d", "e"), test={"x": ("b",)}),
    ]
    with pytest.raises(UserError, match=words):
        dealing.without(folds, broken)


@pytest.mark.parametrize("lost", range(0, 34, 5))
def test_a_broken_clip_moves_no_other_one_between_inner_splits(lost: int) -> None:
    resolved = config.resolve(tables(inner=3))
    keys = [f"d/s{subject:02d}/c{clip}" for subject in range(12) for clip in range(1 + subject % 4)] + [
        "d/t/a",
        "d/t/b",
    ]
    labels = dict.fromkeys(keys, 0)
    fold = Fold("t", train=tuple(keys[:-2]), test={"all": tuple(keys[-2:])})
    broken = keys[lost % (len(keys) - 2)]
    whole = experiment.tasks(resolved, [fold], labels, seed=0)
    less = experiment.tasks(resolved, [fold], labels, 0, {broken})
    for before, after in zip(whole, less, strict=True):
        assert set(after.test) == set(before.test) - {broken}
        assert after.train.keys() == before.train.keys() - {broken}


def test_an_inner_split_that_broken_clips_empty_ends_the_run() -> None:
    resolved = config.resolve(tables(inner=2))
    fold = Fold("t", train=("d/a/1", "d/b/1"), test={"all": ("d/t/1",)})
    with pytest.raises(UserError, match=r"inner split \d: want clips on both sides"):
        experiment.tasks(resolved, [fold], dict.fromkeys(("d/a/1", "d/b/1", "d/t/1"), 0), 0, {"d/a/1"})


def test_other_folds_do_not_resume(standin: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hde = {"protocol": {"name": "hde"}, "seeds": [0]}
    done = run(tmp_path / "run", standin, **hde)
    next((done.folder / "tasks").glob("samm*.npz")).unlink()
    dealt = experiment.split

    def less(*given: Any) -> list[Fold]:
        first, *rest = dealt(*given)
        tested = {part: keys[1:] for part, keys in first.test.items()}
        return [Fold(first.name, first.train, tested, first.valid), *rest]

    monkeypatch.setattr(experiment, "split", less)
    with pytest.raises(UserError, match="want the same folds"):
        run(tmp_path / "run", standin, **hde)
