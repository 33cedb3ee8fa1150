"""A search: what may be searched, what a trial is scored on, and that workers may die."""

import csv
import errno
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fleeting import config, counting, experiment, files, metrics, predictions, runs, search
from fleeting.errors import UserError
from fleeting.search import objective, results, spaces, study, workers

pytest.importorskip("optuna")
FILE = """
name = "tiny"
datasets = ["megc2019_flow"]
[model]
name = "ststnet"
[recipe]
epochs = 1
batch = 16
[search]
trials = 4
inner = 2
fold = "casme2/sub01"
"recipe.lr" = {low = 1e-4, high = 1e-1, log = true}
"recipe.batch" = [8, 16]
"""


@pytest.fixture
def path(tmp_path: Path, standin: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An experiment file with a search, on the stand-in."""
    monkeypatch.setenv("FLEETING_MEGC2019_FLOW", str(standin))
    (tmp_path / "tiny.toml").write_text(FILE, encoding="utf-8")
    return tmp_path / "tiny.toml"


def planned(path: Path, *changes: str) -> objective.Plan:
    tables = config.tables(path, changes)
    searched = spaces.read(tables, str(path))
    return objective.Plan(tables, searched, "casme2/sub01", 0, config.digest(config.resolve(tables)))


# --- what may be searched


def test_spaces_and_settings_are_read_from_one_table(path: Path) -> None:
    searched = spaces.read(config.tables(path), "here")
    assert searched.settings == spaces.Settings(trials=4, inner=2, fold="casme2/sub01")
    assert searched.spaces["recipe.lr"] == spaces.Range(low=1e-4, high=1e-1, log=True)
    assert searched.spaces["recipe.batch"] == spaces.Choices(choices=(8, 16))


def test_names_without_quotes_are_understood_too(path: Path) -> None:
    path.write_text(FILE.replace('"recipe.batch"', "recipe.batch"), encoding="utf-8")
    assert set(spaces.read(config.tables(path), "here").spaces) == {"recipe.lr", "recipe.batch"}


def test_the_table_changes_no_run(path: Path) -> None:
    without = config.tables(path)
    del without["search"]
    assert config.digest(config.read(path)) == config.digest(config.resolve(without))


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ('trails = 4\n"recipe.batch" = [8, 16]', "did you mean 'trials'"),
        ('trials = 0\n"recipe.batch" = [8, 16]', "want another value of 'trials'"),
        ('"recipe.lr" = 0.1', "want {low = .., high = ..} or a list"),
        ('"recipe.lr" = {low = 1.0, high = 0.1}', "low below high"),
        ('"recipe.lr" = {low = 0.0, high = 0.1, log = true}', "a low above 0"),
        ('"recipe.lr" = {low = 0.1, high = 0.2, lag = true}', "did you mean 'log'"),
        ('"recipe.batch" = [8]', "want another value of 'choices'"),
        ('"recipe.batch" = [8, 8]', "each choice once"),
        ('"recipe.lr" = [2026-01-01, 2026-01-02]', "numbers, words, true and false, or lists of them"),
        ('"recipe.lrr" = {low = 0.1, high = 0.2}', "did you mean 'lr'"),
        ('"recipe.lr" = {low = -1.0, high = 0.2}', "recipe.lr = -1.0"),
        ('"protocol.name" = ["megc2019", "hde"]', "a search keeps the clips"),
        ('"model.name" = ["ststnet", "htnet"]', "options of one plug-in"),
        ("trials = 2", "want at least one space"),
    ],
)  # fmt: skip
def test_what_cannot_be_searched_is_one_line_before_any_work(line: str, words: str, path: Path) -> None:
    path.write_text(FILE.partition("[search]")[0] + f"[search]\n{line}\n", encoding="utf-8")
    tables = config.tables(path)
    with pytest.raises(UserError, match=words) as caught:
        spaces.checked(tables, spaces.read(tables, "here"), "here")
    assert "\n" not in str(caught.value)


def test_a_file_without_the_table_says_how_to_add_it(path: Path) -> None:
    path.write_text(FILE.partition("[search]")[0], encoding="utf-8")
    with pytest.raises(UserError, match=r"want a table \[search\]"):
        search.run(path, path.parent / "out")


def test_values_of_any_kind_reach_the_experiment(path: Path) -> None:
    found = {"recipe.batch": 8, "recipe.lr": 1e-05, "recipe.flip": True, "recipe.jitter": [0.1, 0.1, 0.1, 0.0]}
    recipe = config.resolve(spaces.assigned(config.tables(path), found)).recipe
    assert (recipe["batch"], recipe["lr"], recipe["flip"]) == (8, 1e-05, True)
    assert recipe["jitter"] == (0.1, 0.1, 0.1, 0.0)


def test_without_optuna_there_is_one_clear_line(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(UserError, match=r"pip install 'fleeting\[search\]'"):
        search.run(path, path.parent / "out")


def test_several_folds_want_one_named(path: Path) -> None:
    with pytest.raises(UserError, match=r"want search.fold to name the fold .* got 'nobody' and 9 folds"):
        search.run(path, path.parent / "out", ["search.fold=nobody"])


# --- what a trial is scored on


def test_a_trial_never_sees_the_test_part(path: Path) -> None:
    resolved = config.read(path)
    clips, labels, _ = experiment.load(resolved)
    fold = objective.chosen(experiment.split(resolved, clips, labels, 0), "casme2/sub01")
    inner = objective.inner_folds(resolved, fold, labels, 2, 0)
    assert sorted(key for one in inner for key in one.tested) == sorted(fold.train)
    for one in inner:
        assert not {*one.train, *one.tested} & {*fold.tested, *fold.valid}
        assert not {key.rpartition("/")[0] for key in one.train} & {key.rpartition("/")[0] for key in one.tested}


def test_the_score_is_pooled_over_the_inner_groups(path: Path, tmp_path: Path) -> None:
    plan = planned(path)
    score = objective.score(plan, {"recipe.lr": 0.01, "recipe.batch": 8}, tmp_path / "trials")
    (folder,) = (item for item in (tmp_path / "trials").iterdir() if item.is_dir())
    table = predictions.table(runs.Run(folder))
    assert set(table["fold"]) == {"inner0", "inner1"}
    assert len(table) == 40
    assert not any(key.startswith("casme2/sub01/") for key in table["key"])
    words = sorted(set(table["true"]) | set(table["pred"]))
    true, pred = ([words.index(word) for word in table[name]] for name in ("true", "pred"))
    assert score == pytest.approx(float(metrics.uf1(counting.confusion(true, pred, len(words)))))
    run = runs.Run(folder)
    assert (run.header["experiment"]["recipe"]["lr"], run.header["experiment"]["recipe"]["batch"]) == (0.01, 8)
    before = [item.stat().st_mtime_ns for item in (folder / "tasks").iterdir()]
    assert objective.score(plan, {"recipe.lr": 0.01, "recipe.batch": 8}, tmp_path / "trials") == score
    assert [item.stat().st_mtime_ns for item in (folder / "tasks").iterdir()] == before  # nothing trained again


# --- a study that several work on


def opened(path: Path, out: Path) -> study.Board:
    plan = planned(path)
    study.begin(out, plan)
    return study.Board(out, plan)


def taken(board: study.Board) -> Any:
    with board.writing():
        return board.take()


def told(board: study.Board, trial: Any, value: float | None, error: str = "") -> None:
    with board.writing():
        board.told(trial, value, error)


def test_two_workers_share_the_trials_and_draw_different_values(path: Path, tmp_path: Path) -> None:
    one, two = (opened(path, tmp_path / "out") for _ in range(2))
    first, second = taken(one), taken(two)
    assert (first.number, second.number) == (0, 1)
    assert first.params != second.params
    told(one, first, 0.5)
    told(two, second, 0.4)
    assert {trial.number for trial in one.finished()} == {0, 1}


def test_a_trial_whose_worker_died_is_asked_for_again(path: Path, tmp_path: Path) -> None:
    one, two = (opened(path, tmp_path / "out") for _ in range(2))
    lost = taken(one)
    one.leave()  # what the system does for a killed process
    again = taken(two)
    assert again.params == lost.params
    assert again.user_attrs["instead_of"] == lost.number
    assert [trial.number for trial in two.lost()] == [lost.number]
    assert two.finished() == []


def test_a_trial_that_is_worked_on_is_left_alone_and_the_last_one_is_waited_for(path: Path, tmp_path: Path) -> None:
    one, two = (opened(path, tmp_path / "out") for _ in range(2))
    held = taken(one)
    for _ in range(3):
        told(two, taken(two), 0.1)
    assert taken(two) is False  # three are done, the fourth is alive
    assert two.lost() == []
    told(one, held, 0.2)
    assert taken(two) is None


def test_a_stopped_search_goes_on_as_if_it_had_not_been(path: Path, tmp_path: Path) -> None:
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    board = opened(path, whole)
    for _ in range(4):
        told(board, taken(board), 0.1)
    for _ in range(4):
        board = opened(path, parts)
        told(board, taken(board), 0.1)
    drawn = [[trial.params for trial in opened(path, out).finished()] for out in (whole, parts)]
    assert drawn[0] == drawn[1]


def test_a_line_that_a_killed_writer_left_unfinished_loses_nothing(path: Path, tmp_path: Path) -> None:
    board = opened(path, tmp_path / "out")
    told(board, taken(board), 0.7)
    with (tmp_path / "out" / "study.journal").open("ab") as stream:
        stream.write(b'{"op_code":4,"worker_id":"x","stu')
    told(board, taken(board), 0.6)
    fresh = opened(path, tmp_path / "out")
    assert sorted(trial.value for trial in fresh.finished()) == [0.6, 0.7]


def test_trials_that_all_fail_end_the_search_with_the_reason(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> float:
        raise UserError("want a finite loss, got nan")

    monkeypatch.setattr(objective, "score", refuse)
    plan = planned(path)
    study.begin(tmp_path / "out", plan)
    with pytest.raises(UserError, match="got none in the first ones: want a finite loss"):
        workers.run(tmp_path / "out", plan, 1, lambda *_: None)
    assert len(study.Board(tmp_path / "out", plan).finished()) == 3


def test_another_search_does_not_go_on_here(path: Path, tmp_path: Path) -> None:
    study.begin(tmp_path / "out", planned(path))
    study.begin(tmp_path / "out", planned(path, "search.trials=9"))  # more of the same
    with pytest.raises(UserError, match="want the same experiment and spaces"):
        study.begin(tmp_path / "out", planned(path, "recipe.epochs=2"))
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "letter.txt").touch()
    with pytest.raises(UserError, match="a folder with other things"):
        study.begin(tmp_path / "other", planned(path))


@pytest.mark.parametrize("damage", [b"garbage\n", b"\xff\xff\n", b"{}\n"])
def test_a_damaged_folder_is_one_line(damage: bytes, path: Path, tmp_path: Path) -> None:
    board = opened(path, tmp_path / "out")
    told(board, taken(board), 0.5)
    journal, searched = tmp_path / "out" / "study.journal", tmp_path / "out" / "search.toml"
    whole = journal.read_bytes()
    journal.write_bytes(damage + whole)
    with pytest.raises(UserError, match=r"study\.journal: want the journal of a search, got a damaged one"):
        opened(path, tmp_path / "out")
    journal.write_bytes(whole)
    assert len(opened(path, tmp_path / "out").finished()) == 1
    searched.write_bytes(damage)
    with pytest.raises(UserError, match=r"search.toml: want what|want the same experiment and spaces"):
        opened(path, tmp_path / "out")


def test_a_file_in_the_place_of_the_folder_is_told_before_any_work(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(search, "_planned", lambda *_: pytest.fail("it began"))
    with pytest.raises(UserError, match="want a folder for the search, got a file"):
        search.run(path, path)


@pytest.mark.parametrize(
    "error", [OSError(errno.ENOSPC, "No space left on device"), files.Unwritable("x: No space left on device")]
)
def test_a_full_disk_ends_a_worker_and_fails_no_trial(
    error: Exception, path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> float:
        raise error

    plan = planned(path)
    study.begin(tmp_path / "out", plan)
    with monkeypatch.context() as patched:
        patched.setattr(objective, "score", full)
        with pytest.raises(UserError, match="No space left"):
            workers.work(tmp_path / "out", plan)
    board = study.Board(tmp_path / "out", plan)
    assert board.finished() == []
    again = taken(board)
    assert again.user_attrs["instead_of"] == 0


def test_a_journal_that_cannot_grow_is_one_line(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    board = opened(path, tmp_path / "out")
    trial = taken(board)
    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", full)  # with which Optuna ends an entry
        with pytest.raises(files.Unwritable, match=r"out: cannot be written \(No space left on device\)"):
            told(board, trial, 0.5)


def test_what_kills_every_worker_is_given_up(path: Path, tmp_path: Path) -> None:
    """As a network that is too large for the memory: the system ends the process, and nothing can be told."""
    first = None
    for turn in range(study._DEATHS):
        board = opened(path, tmp_path / "out")
        trial = taken(board)
        first = first or trial.params
        assert trial.params == first
        assert len(board.lost()) == turn
        board.leave()
    board = opened(path, tmp_path / "out")
    other = taken(board)
    assert other.params != first
    assert len(board.finished()) == 1
    told(board, other, 0.4)
    found = results.write(tmp_path / "out", planned(path))
    assert found["trials"] == {"all": 4, "done": 1, "failed": 1, "lost": 4, "running": 0}
    with (tmp_path / "out" / "trials.csv").open(encoding="utf-8") as stream:
        rows = [(row["state"], row["note"]) for row in csv.DictReader(stream)]
    assert rows[4] == ("failed", "5 workers died of it (out of memory?)")
    assert rows[3] == ("lost", "instead of 2, whose worker died")


def test_a_search_from_its_file_to_the_best_experiment(path: Path, tmp_path: Path) -> None:
    seen: list[tuple[str, int, int]] = []
    found = search.run(path, tmp_path / "out", progress=lambda *step: seen.append(step))
    assert json.loads(json.dumps(found)) == found
    assert found["trials"] == {"all": 4, "done": 4, "failed": 0, "lost": 0, "running": 0}
    assert seen[-1] == ("search trials", 4, 4)
    assert "40 of the 45 tests" in found["notices"][0]
    with (tmp_path / "out" / "trials.csv").open(encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    assert [row["state"] for row in rows] == ["done"] * 4
    best = max(rows, key=lambda row: float(row["uf1"]))
    assert found["best"]["score"] == pytest.approx(float(best["uf1"]), abs=1e-5)
    assert found["best"]["values"]["recipe.batch"] == int(best["recipe.batch"])
    resolved = config.read(tmp_path / "out" / "best.toml")  # what `fleeting run` reads
    assert resolved.name == "tiny-best"
    assert resolved.recipe["lr"] == pytest.approx(found["best"]["values"]["recipe.lr"], rel=1e-12)
    assert {Path(name).name for name in found["files"]} >= {"best.toml", "trials.csv", "history.svg", "slices.svg"}
    assert all(Path(name).stat().st_size > 0 for name in found["files"])
    more = search.run(path, tmp_path / "out", ["search.trials=5"])
    assert more["trials"]["done"] == 5


def test_equal_scores_keep_the_first_and_tell_nothing_of_importance(path: Path, tmp_path: Path) -> None:
    board = opened(path, tmp_path / "out")
    for value in (0.3, 0.3, 0.3, 0.3):
        told(board, taken(board), value)
    found = results.write(tmp_path / "out", planned(path))
    assert found["best"]["number"] == 0
    assert found["importances"] == {}
    assert "importances.svg" not in {Path(name).name for name in found["files"]}


def test_one_score_among_failures_tells_nothing_of_importance(path: Path, tmp_path: Path) -> None:
    board = opened(path, tmp_path / "out")
    told(board, taken(board), 0.3)
    for _ in range(3):
        told(board, taken(board), None, "want a finite loss, got nan")
    assert results.write(tmp_path / "out", planned(path))["importances"] == {}


# --- killed


def test_one_of_two_workers_is_killed_and_nothing_is_lost(path: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    changes = ["--set", "recipe.epochs=40", "--trials", "3"]
    command = [
        sys.executable,
        "-m",
        "fleeting",
        "search",
        str(path),
        "--out",
        str(out),
        "--jobs",
        "2",
        "--json",
        *changes,
    ]
    parent = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=os.environ, text=True)
    plan = planned(path, "recipe.epochs=40", "search.trials=3")
    for _ in _until(lambda: (out / "study.journal").is_file() and _running(out, plan) >= 2 and _trained(out)):
        assert parent.poll() is None, parent.communicate()[1]
    workers_ = _children(parent.pid)
    assert len(workers_) == 2
    os.kill(workers_[0], signal.SIGKILL)
    said, complaint = parent.communicate(timeout=300)
    assert parent.returncode == 0, complaint
    found = json.loads(said)
    assert found["trials"] == {"all": 3, "done": 3, "failed": 0, "lost": 1, "running": 0}
    with (out / "trials.csv").open(encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    (lost,) = [row for row in rows if row["state"] == "lost"]
    (again,) = [row for row in rows if row["note"] == f"instead of {lost['number']}, whose worker died"]
    assert again["state"] == "done"
    assert (again["recipe.lr"], again["recipe.batch"]) == (lost["recipe.lr"], lost["recipe.batch"])
    # the lost trial's folder was gone on with, and is complete
    assert len([item for item in (out / "trials").iterdir() if item.is_dir()]) == 3


def _running(out: Path, plan: objective.Plan) -> int:
    return len(study.Board(out, plan)._of("RUNNING"))


def _trained(out: Path) -> bool:
    """Both workers have begun to train."""
    return len(list((out / "trials").glob("*/run.toml"))) >= 2


def _children(pid: int) -> list[int]:
    listed = [int(name) for name in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    return [child for child in listed if b"spawn_main" in Path(f"/proc/{child}/cmdline").read_bytes()]


def _until(condition: Any, seconds: float = 240) -> Iterator[None]:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        yield
        time.sleep(0.2)
