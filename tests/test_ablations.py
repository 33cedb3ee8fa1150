"""The papers' tables in small: each row has its experiment and printed number; the page says what the runs say."""

import sys
from pathlib import Path

import pytest

from fleeting import config, experiment, scoring
from fleeting.datasets import megc2019_flow
from fleeting.errors import UserError

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))
import ablations

EXPERIMENTS = Path(__file__).parents[1] / "experiments"


@pytest.mark.parametrize("paper", ablations.STUDIES)
def test_every_row_has_an_experiment_and_the_number_that_the_paper_prints(paper: str) -> None:
    study = ablations.STUDIES[paper]
    listed = ablations.rows(study)
    assert len({row.run for row in listed}) == len(listed)
    assert study.own in {row.run for row in listed}
    for row in listed:
        assert (EXPERIMENTS / paper / f"{row.run}_small.toml").is_file(), row
        value = ablations.printed(paper, study, row)
        assert (value is None) == (row.table == "")
        assert value is None or 0.3 < value < 1
    whole = {path.stem.removesuffix("_small") for path in (EXPERIMENTS / paper).glob("table*_small.toml")}
    assert whole - {row.run for row in listed} <= {"table5", "table5_svm"}, "small rows that no table shows"


def test_the_printed_numbers_are_those_of_the_rows() -> None:
    study = ablations.STUDIES["merba"]
    found = {row.run: ablations.printed("merba", study, row) for row in ablations.rows(study)}
    assert found == {
        "table4_htnet": 0.4076, "table4_mambavision": 0.3929, "table4_base": 0.4114, "table4": 0.4302,
        "table4_svm": None, "table6_local_local": 0.3749, "table6_global_global": 0.3840, "table7_a": 0.3814,
        "table7_ab": 0.3849, "table7_cd": 0.3929, "table7_bi": 0.4102, "table7_sy": 0.4076,
    }  # fmt: skip


def test_a_printed_number_that_is_not_there_is_an_error() -> None:
    row = ablations.Row("sixth", "x", "Table 9", "kernel=6")
    with pytest.raises(UserError, match="want a printed UF1 of Table 9, kernel=6, got none"):
        ablations.printed("bowam", ablations.STUDIES["bowam"], row)


def test_holms_correction() -> None:
    assert ablations.holm([0.011, 0.02, 0.5, 0.01]) == [True, True, False, True]
    assert ablations.holm([0.013, 0.2, 0.014, 0.2]) == [False, False, False, False], ".013 is above .05 / 4"
    assert ablations.holm([]) == []


@pytest.fixture(scope="module")
def study_and_runs(tmp_path_factory: pytest.TempPathFactory) -> tuple[ablations.Study, Path]:
    """Two support vector machines on a stand-in."""
    base = tmp_path_factory.mktemp("ablations")
    megc2019_flow.write_standin(base / "corpus", subjects=6, clips=4)
    for name, c in (("table4", 1.0), ("table4_a", 1e-6)):
        chosen = config.resolve({"name": name, "model": {"name": "flow_svm", "C": c}})
        experiment.run(chosen, base / "runs" / name, roots={"megc2019_flow": base / "corpus"})
    rows = [row for row in ablations.rows(ablations.STUDIES["bowam"]) if row.run in ("table4", "table4_a")]
    return ablations.Study("table4", "all", {"Table 4": rows}, "Two machines."), base / "runs"


def test_the_page_says_what_the_runs_say(study_and_runs, tmp_path, monkeypatch, capsys) -> None:
    study, folder = study_and_runs
    monkeypatch.setitem(ablations.STUDIES, "bowam", study)
    monkeypatch.setattr(sys, "argv", ["ablations", "bowam", f"here={folder}", "--out", str(tmp_path / "page.md")])
    ablations.main()
    page, picture = (tmp_path / "page.md").read_text(), (tmp_path / "page.svg").read_text()
    (pair,) = scoring.paired([folder / "table4_a", folder / "table4"])["pairs"]
    own = scoring.score_run(folder / "table4")
    low, high = pair["interval"]
    assert pair["p"] < 0.0005
    assert f"{pair['difference']:+.3f} [{low:+.3f}, {high:+.3f}] | < .001" in page
    assert f"| **F: BOWAM** | 0.9090 | {own['uf1']:.3f} [" in page
    assert pair["difference"] < 0, "a machine that may not fit is no better"
    assert "here: 1 of 1 rows lie on the side" in page
    assert "A: conventional flow, plain ConvNeXt" in picture
    assert f"{own['n']} clips of {own['subjects']} subjects" in page


def test_a_run_that_is_not_finished_is_refused(study_and_runs, tmp_path) -> None:
    study, _ = study_and_runs
    with pytest.raises(UserError, match="table4"):
        ablations.measured(study, tmp_path)
