"""The command as a user meets it: output contracts, one-line errors, exit codes."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fleeting import config, plugins
from fleeting.cli import main

SMALL = 'name = "small"\n[protocol]\nname = "hde"\n[model]\nname = "ststnet"\n[recipe]\nepochs = 2\nbatch = 16\n'


@pytest.fixture
def exp(tmp_path: Path, standin: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A small experiment file on the stand-in, with the current folder elsewhere."""
    monkeypatch.setenv("FLEETING_MEGC2019_FLOW", str(standin))
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "exp.toml"
    path.write_text(SMALL, encoding="utf-8")
    return path


def fleeting(*words: object, monkeypatch: pytest.MonkeyPatch | None = None) -> int:
    """Runs the command in this process; its exit code."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["fleeting", *map(str, words)])
        try:
            main()
        except SystemExit as stop:
            return int(stop.code or 0)
    return 0


def error(capsys: pytest.CaptureFixture[str], *words: object) -> str:
    """The one line that a failing command prints; checks the exit code and that it is one line."""
    capsys.readouterr()
    assert fleeting(*words) == 2
    printed = capsys.readouterr()
    lines = [line for line in printed.err.splitlines() if line.strip()]
    assert len(lines) == 1, printed.err
    assert lines[0].startswith("error: ")
    assert printed.out == ""
    return lines[0]


def document(capsys: pytest.CaptureFixture[str], *words: object) -> Any:
    """What a command prints with --json: one document, and nothing on standard error."""
    capsys.readouterr()
    assert fleeting(*words, "--json") == 0
    printed = capsys.readouterr()
    assert printed.err == ""
    return json.loads(printed.out)


@pytest.mark.parametrize("kind", plugins.KINDS)
def test_list_prints_names_and_summaries(kind: str, capsys: pytest.CaptureFixture[str]) -> None:
    rows = document(capsys, "list", kind)
    assert [row["name"] for row in rows] == plugins.names(kind)
    assert all(set(row) == {"name", "summary"} and row["summary"].strip() for row in rows)


def test_list_of_an_unknown_kind_suggests_the_nearest(capsys: pytest.CaptureFixture[str]) -> None:
    assert "did you mean 'models'" in error(capsys, "list", "model")


@pytest.mark.parametrize("kind", plugins.KINDS)
def test_show_tells_every_option(kind: str, capsys: pytest.CaptureFixture[str]) -> None:
    for name in plugins.names(kind):
        found = document(capsys, "show", kind, name)
        module = plugins.load(kind, name)
        assert set(found.get("options", {})) == set(getattr(module, "Options", Nothing).model_fields)
        capsys.readouterr()
        assert fleeting("show", kind, name) == 0
        assert name in capsys.readouterr().out


class Nothing:
    """Stands for a plug-in without options."""

    model_fields: dict[str, Any] = {}  # noqa: RUF012


def test_run_status_score_and_compare(exp: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    scores = document(capsys, "run", exp, "--out", tmp_path / "one")
    assert sorted(scores["parts"]) == ["casme2", "samm", "smic"]
    assert document(capsys, "status", tmp_path / "one")["done"] == 3
    part = document(capsys, "score", tmp_path / "one", "--select", "oracle")["parts"]["smic"]
    assert part["floor"]["epochs"] == 2
    document(capsys, "run", exp, "--out", tmp_path / "two", "--set", "recipe.lr=0.01", "--set", "seeds=[0, 1]")
    assert config.read(exp, ["recipe.lr=0.01"]).recipe["lr"] == 0.01
    pairs = document(capsys, "compare", tmp_path / "one", tmp_path / "two")["pairs"]
    assert {pair["part"] for pair in pairs} == {"casme2", "samm", "smic"}
    assert all(0 < pair["p"] <= 1 for pair in pairs)
    assert fleeting("score", tmp_path / "one") == 0
    assert "selection: last" in capsys.readouterr().out


def test_inner_selection_without_inner_tasks_says_what_to_do(
    exp: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fleeting("run", exp, "--out", tmp_path / "one")
    assert "run again with inner = 3" in error(capsys, "score", tmp_path / "one", "--select", "inner")


@pytest.mark.parametrize(
    ("changes", "hint"),
    [
        (["recipe.epoch=3"], "did you mean 'epochs'"),
        (["model.drop=0.1"], "did you mean 'dropout'"),
        (["model.name=stsnet"], "did you mean 'ststnet'"),
        (["protocols.name=loso"], "did you mean 'protocol'"),
        (["recipe.epochs=0"], "greater than or equal to 1"),
        (["recipe.epochs"], "want a.b=value"),
        (["seeds=[]"], "seeds"),
        (["datasets=['casme9']"], "casme9"),
    ],
)
def test_bad_options_are_one_line_and_leave_nothing(
    exp: Path, tmp_path: Path, changes: list[str], hint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [word for change in changes for word in ("--set", change)]
    assert hint in error(capsys, "run", exp, "--out", tmp_path / "run", *words)
    assert not (tmp_path / "run").exists()


def test_an_unknown_option_in_the_file_names_the_file(exp: Path, capsys: pytest.CaptureFixture[str]) -> None:
    exp.write_text(SMALL + "lerning_rate = 3\n", encoding="utf-8")
    line = error(capsys, "run", exp)
    assert str(exp) in line
    assert "'lerning_rate'" in line


def test_broken_toml_names_the_line(exp: Path, capsys: pytest.CaptureFixture[str]) -> None:
    exp.write_text("[model\nname = 3", encoding="utf-8")
    assert "line 1" in error(capsys, "run", exp)


def test_a_missing_corpus_names_its_source(exp: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    monkeypatch.delenv("FLEETING_MEGC2019_FLOW")
    line = error(capsys, "run", exp)
    assert "fleeting data fetch megc2019_flow" in line
    assert "github.com/wangzhifengharrison/HTNet" in line


@pytest.mark.data
def test_a_truncated_picture_and_a_missing_subject_name_the_file(
    exp: Path, real: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("FLEETING_MEGC2019_FLOW", str(tmp_path / "copy"))
    assert fleeting("data", "fetch", "megc2019_flow", "--from", real / "megc2019", "--to", tmp_path / "copy") == 0
    picture = next((tmp_path / "copy").rglob("006_006_1_2 .png"))
    whole = picture.read_bytes()
    picture.write_bytes(whole[: len(whole) // 2])
    assert "006_006_1_2 .png" in error(capsys, "run", exp, "--out", tmp_path / "run")
    picture.write_bytes(whole)
    listed = tmp_path / "copy" / "combined_3_class2_for_optical_flow.csv"
    rows = [row for row in listed.read_text(encoding="utf-8").splitlines() if ",s20," not in row]
    listed.write_text("\n".join(rows), encoding="utf-8")
    line = error(capsys, "run", exp, "--out", tmp_path / "run")
    assert listed.name in line
    assert "smic" in line
    assert not (tmp_path / "run").exists()


@pytest.mark.data
@pytest.mark.parametrize(
    ("column", "uf1", "uar"), [("ststnet_matlab_log", 0.7353, 0.7186), ("ststnet_pytorch_weights", 0.7209, 0.7250)]
)
def test_anybodys_predictions_are_scored(column: str, uf1: float, uar: float, real: Path, capsys: Any) -> None:
    path = real / "megc2019_published" / "ststnet_per_clip.csv"
    names = ["--true", "label", "--pred", column, "--subject", "subject", "--dataset", "dataset"]
    scores = document(capsys, "score", path, *names)
    assert scores["uf1"] == pytest.approx(uf1, abs=5e-5)
    assert scores["uar"] == pytest.approx(uar, abs=5e-5)
    assert scores["n"] == 442
    assert scores["subjects"] == 68
    wanted = {"uf1", "uar", "accuracy", "macro_precision", "interval", "per_class", "confusion", "n", "subjects"}
    assert wanted | {"by_dataset", "select", "floor"} <= set(scores)
    for corpus in ("casme2", "samm", "smic"):
        assert wanted <= set(scores["by_dataset"][corpus])
    low, high = scores["interval"]["uf1"]
    assert low < scores["uf1"] < high
    assert "no epochs to select from" in error(capsys, "score", path, *names, "--select", "oracle")
    assert "did you mean 'subject'" in error(capsys, "score", path, *names[:4], "--subject", "subjct")


def test_row_order_changes_no_metric(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [f"s{i % 7},{'abc'[i % 3]},{'abc'[(i * i) % 3]}" for i in range(40)]
    for name, listed in (("a", rows), ("b", rows[::-1])):
        (tmp_path / f"{name}.csv").write_text("\n".join(["subject,true,pred", *listed]), encoding="utf-8")
    first, second = (document(capsys, "score", tmp_path / f"{name}.csv") for name in "ab")
    del first["run"], second["run"]
    assert first == second


def test_a_class_absent_from_the_truth_is_named_not_averaged(tmp_path: Path, capsys: Any) -> None:
    (tmp_path / "a.csv").write_text("subject,true,pred\n1,a,a\n2,b,b\n3,a,c\n", encoding="utf-8")
    scores = document(capsys, "score", tmp_path / "a.csv")
    assert scores["absent"] == ["c"]
    assert scores["uar"] == pytest.approx(0.75)
    (tmp_path / "a.csv").write_text("subject,true,pred\n1,a,\n", encoding="utf-8")
    assert "line 2" in error(capsys, "score", tmp_path / "a.csv")


@pytest.fixture
def tiny_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 96 kB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=96k", "none", str(folder)], capture_output=True)
    if mounted.returncode:
        pytest.skip("mounting a small file system needs root")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def test_a_full_disk_is_one_line_and_nothing_half_written(exp: Path, tiny_disk: Path, capsys: Any) -> None:
    out = tiny_disk / "run"
    line = error(capsys, "run", exp, "--out", out, "--set", "recipe.epochs=400", "--set", "protocol.name=loso")
    assert "No space left on device" in line
    assert "run the same command again" in line
    assert not list(out.rglob("*.tmp"))
    for path in (out / "tasks").glob("*.npz"):
        assert path.stat().st_size > 1000


def test_ctrl_c_is_exit_code_130_and_says_how_to_go_on(exp: Path, monkeypatch: Any, capsys: Any) -> None:
    from fleeting import engine

    def interrupted(*args: Any) -> Iterator[Any]:
        raise KeyboardInterrupt
        yield

    monkeypatch.setattr(engine, "run", interrupted)
    assert fleeting("run", exp) == 130
    assert "run the same command again" in capsys.readouterr().err


def test_names_are_printed_as_they_are(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "a.csv").write_text("subject,true,pred,d\n1,[/a],[/a],[/d]\n2,b,b,e\n", encoding="utf-8")
    assert fleeting("score", tmp_path / "a.csv", "--dataset", "d") == 0
    assert "[/d]" in capsys.readouterr().out


def test_training_into_a_file_and_fetching_over_made_up_data_are_refused(
    exp: Path, tmp_path: Path, standin: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert "choose another --out" in error(capsys, "train", exp, "--out", exp)
    assert "made-up data" in error(capsys, "data", "fetch", "megc2019_flow", "--to", standin)


def test_usage_errors_are_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert "No such option" in error(capsys, "run", "x.toml", "--job", "3")
    assert "No such command" in error(capsys, "rnu")


def test_train_and_predict(exp: Path, tmp_path: Path, standin: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert fleeting("train", exp, "--out", tmp_path / "model") == 0
    rows = document(capsys, "predict", tmp_path / "model", "samm/001/001_01", next(standin.rglob("*.png")))
    assert rows[0]["trained_on"] is True
    assert rows[0]["class"] in ("negative", "positive", "surprise")
    assert "want a model folder" in error(capsys, "predict", tmp_path, "samm/001/001_01")


def test_the_module_runs_as_a_program() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "fleeting", "--version"],
        capture_output=True,
        text=True,
        check=True,
        env=dict(os.environ),
    )
    assert done.stdout.strip()
