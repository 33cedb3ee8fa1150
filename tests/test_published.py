"""The published numbers against counts and values read from the printed tables by eye."""

import csv
import re
import subprocess
import sys
from collections import Counter
from dataclasses import fields
from importlib.resources import files
from statistics import mean

import pytest

from fleeting import published
from fleeting.errors import UserError
from fleeting.published import PAPERS, Row

# rows x columns less the dashes, counted on the printed tables
CELLS = {
    ("htnet", "Table 1"): 6 * 4,
    ("htnet", "Table 2"): 13 * 8,
    ("htnet", "Table 3"): 5 * 2,
    ("htnet", "Table 4"): 8 * 6,
    ("htnet", "Table 5"): 8 * 6 + 2 * 6,
    ("htnet", "Figure 5"): 1,
    ("htnet", "Figure 7"): 3 + 2 + 1,
    ("merba", "Table II"): 3 * 8,
    ("merba", "Table III"): 4 * 4,
    ("merba", "Table IV"): 14 * 3,
    ("merba", "Table V"): 10 * 8,
    ("merba", "Table VI"): 3 * 3,
    ("merba", "Table VII"): 6 * 3,
    ("ammsm", "Table I"): 7 * 2 + 4 * 2,
    ("ammsm", "Table II"): 5 * 2,
    ("ammsm", "Table III"): 8 * 3 - 4,
    ("bowam", "Section 4.1"): 4,
    ("bowam", "Table 1"): 17 * 8 - 6,
    ("bowam", "Table 2"): (4 + 5 + 4) * 2,
    ("bowam", "Table 3"): 5 * 2,
    ("bowam", "Table 4"): 6 * 2,
    ("bowam", "Table 5"): 3 * 2,
    ("bowam", "Table 6"): 2 * 2,
    ("bowam", "Table 7"): 5 * 2,
    ("bowam", "Table 8"): 4 * 2,
    ("bowam", "Table 9"): 3 * 2,
    ("bowam", "Table 10"): 3 * 4,
    ("bowam", "Table 11(a)"): 3 * 2,
    ("bowam", "Table 11(b)"): 3 * 2,
    ("frame_study", "Table I"): 6 * 2,
    ("frame_study", "Table III"): 3 * 2 + 2 * 2,  # two intervals of two bounds
    ("frame_study", "Table IV"): 3 * 3,
    ("frame_study", "Table V"): 7 * 5 - 4,
    ("frame_study", "Table VI"): 5,
    ("frame_study", "Section II-B"): 2,
    ("frame_study", "Section III-B"): 1,
    ("frame_study", "Section III-C"): 5,
    ("frame_study", "Section III-D"): 4,
    ("frame_study", "Figure 4"): 2,
}

# paper, table, method, part, classes, setting, metric, value
HEADLINES = [
    ("htnet", "Table 2", "HTNet (Ours)", "all", 3, "", "uf1", 0.8603),
    ("htnet", "Table 2", "HTNet (Ours)", "all", 3, "", "uar", 0.8475),
    ("htnet", "Table 2", "HTNet (Ours)", "smic", 3, "", "uf1", 0.8049),
    ("htnet", "Table 2", "HTNet (Ours)", "samm", 3, "", "uar", 0.8124),
    ("htnet", "Table 2", "STSTNet", "casme2", 3, "", "uar", 0.8686),
    ("htnet", "Table 2", "LBP-TOP", "smic", 3, "", "uf1", 0.2000),
    ("htnet", "Table 3", "HTNet (Ours)", "all", 3, "", "uf1", 0.5767),
    ("htnet", "Table 4", "HTNet", "casme2", 3, "block=9", "uar", 0.9658),
    ("htnet", "Table 5", "HTNet", "samm", 3, "layers=2,2,12", "uf1", 0.8682),
    ("htnet", "Table 5", "HTNet", "all", 3, "layers=2,2,8", "params_m", 438.51),
    ("htnet", "Table 5", "HTNet", "all", 3, "layers=2,2,2", "time_s", 3767),
    ("htnet", "Figure 7", "HTNet", "smic", 3, "class=surprise", "recall", 72),
    ("merba", "Table V", "MERba (ours)", "all", 3, "", "uf1", 0.8840),
    ("merba", "Table V", "MERba (ours)", "all", 3, "", "uar", 0.8777),
    ("merba", "Table V", "MERba (ours)", "casme2", 3, "", "uf1", 0.9498),
    ("merba", "Table V", "MFDAN", "all", 3, "", "uar", 0.8688),
    ("merba", "Table V", "SLSTT", "samm", 3, "", "uar", 0.6430),
    ("merba", "Table IV", "MERba-DGCM (ours)", "A", 7, "", "accuracy", 0.5232),
    ("merba", "Table IV", "MERba-DGCM (ours)", "B", 7, "", "uf1", 0.4302),
    ("merba", "Table IV", "HTNet", "A", 7, "", "uar", 0.3821),
    ("merba", "Table VI", "MERba", "B", 7, "extractor=global; attention=global", "uar", 0.3814),
    ("merba", "Table VII", "MERba", "B", 7, "directions=a+a_sy+b+b_sy", "accuracy", 0.4181),
    ("merba", "Table II", "", "train", 7, "", "n_happiness", 206),
    ("ammsm", "Table I", "AMMSM (ours)", "all", 3, "", "uf1", 93.76),
    ("ammsm", "Table I", "AMMSM (ours)", "all", 3, "", "uar", 93.45),
    ("ammsm", "Table I", "AMMSM (ours)", "all", 5, "", "uf1", 85.23),
    ("ammsm", "Table I", "μ-BERT", "all", 5, "", "uar", 83.48),
    ("ammsm", "Table II", "AMMSM (ours)", "all", 3, "", "uar", 76.22),
    ("ammsm", "Table II", "EMRNet", "all", 3, "", "uf1", 77.54),
    ("ammsm", "Table III", "AMMSM", "all", 5, "amm=no; sa=no; backbone=mamba", "latency_ms", 3.21),
    ("ammsm", "Table III", "AMMSM", "all", 5, "amm=yes; sa=yes; backbone=mamba", "latency_ms", 6.92),
    ("bowam", "Table 1", "BOWAM (ours)", "all", 3, "", "uf1", 0.9090),
    ("bowam", "Table 1", "BOWAM (ours)", "all", 3, "", "uar", 0.9103),
    ("bowam", "Table 1", "BOWAM (ours)", "samm", 3, "", "uf1", 0.8941),
    ("bowam", "Table 1", "BOWAM (ours)", "casme2", 3, "", "uar", 0.9924),
    ("bowam", "Table 1", "MiMaNet", "smic", 3, "", "uar", 0.8670),
    ("bowam", "Table 1", "EDMDBN", "all", 3, "", "uar", 0.8933),
    ("bowam", "Table 2", "BOWAM (ours)", "all", 7, "", "uar", 0.5031),
    ("bowam", "Table 2", "μ-BERT", "all", 3, "", "uar", 0.6125),
    ("bowam", "Table 3", "BOWAM (ours)", "B", 7, "", "uar", 0.4124),
    ("bowam", "Table 7", "BOWAM", "all", 3, "wavelet=coif5", "uf1", 0.8889),
    ("bowam", "Table 10", "BOWAM", "all", 3, "stages=4", "params_m", 31.45),
    ("bowam", "Table 10", "BOWAM", "all", 3, "stages=4", "flops_g", 4.47),
    ("bowam", "Table 11(b)", "Freq-HD", "all", 3, "", "uar", 0.8667),
    ("frame_study", "Table III", "Pool-m36", "all", 7, "preprocessing=M1; sampling=MFS", "macro_f1", 0.4762),
    ("frame_study", "Table III", "ViT-p32", "all", 7, "preprocessing=M1; sampling=AF", "macro_f1_low", 0.22),
    ("frame_study", "Table III", "ViT-p32", "all", 7, "preprocessing=M2; sampling=AF", "macro_f1", 0.4229),
    ("frame_study", "Table III", "Pool-m48", "all", 7, "preprocessing=M2; sampling=KFS", "macro_f1", 0.3241),
    ("frame_study", "Table IV", "SwinT", "all", 7, "preprocessing=M1; sampling=MFS", "macro_f1", 0.3282),
    ("frame_study", "Table I", "", "all", 7, "preprocessing=M1; sampling=MFS", "n_train", 2061),
    ("frame_study", "Table VI", "AUMEs", "all", 5, "", "uf1", 0.8880),
    ("frame_study", "Section III-D", "ViT-patch32", "all", 7, "", "latency_ms", 19.67),
]

SCORES = {"uf1", "uar", "accuracy", "f1", "macro_f1", "macro_f1_low", "macro_f1_high", "recall"}
# unit and plausible range of every metric that is neither a score nor a count of clips
RANGES = {
    "params_m": ("M", 1, 1000),
    "flops_g": ("G", 0.1, 100),
    "time_s": ("s", 1000, 100_000),
    "latency_ms": ("ms", 1, 1000),
    "throughput": ("fps", 10, 1000),
    "frame_rate": ("fps", 30, 200),
    "resolution_px": ("px", 224, 384),
    "face_centred": ("%", 50, 100),
    "info_density": ("K", 10, 1000),
    "confusions": ("", 1, 28),
}
CORPORA = {"megc2019", "casme2", "samm", "smic", "casme3", "dfme"}
PARTS = {"megc2019": {"all", "smic", "casme2", "samm"}, "dfme": {"train", "A", "B"}}


def find(paper: str, table: str, method: str, part: str, classes: int, setting: str, metric: str) -> Row:
    want = (table, method, part, classes, setting, metric)
    keys = ("table", "method", "part", "classes", "setting", "metric")
    (row,) = (row for row in published.rows(paper) if tuple(getattr(row, key) for key in keys) == want)
    return row


def test_every_cell_of_every_table() -> None:
    assert Counter((row.paper, row.table) for row in published.rows()) == CELLS


@pytest.mark.parametrize("cell", HEADLINES, ids=lambda cell: " ".join(map(str, cell)))
def test_headline_values(cell: tuple[str, str, str, str, int, str, str, float]) -> None:
    assert find(*cell[:-1]).value == cell[-1]


def test_at_least_six_headlines_a_paper() -> None:
    assert min(Counter(cell[0] for cell in HEADLINES)[paper] for paper in PAPERS) >= 6


def test_no_key_twice() -> None:
    names = ("paper", "table", "method", "corpus", "part", "classes", "setting", "metric")
    keys = Counter(tuple(getattr(row, name) for name in names) for row in published.rows())
    assert [key for key, times in keys.items() if times > 1] == []


@pytest.mark.parametrize("paper", PAPERS)
def test_files_hold_the_columns_and_plain_decimals(paper: str) -> None:
    text = files(published).joinpath(f"{paper}.csv").read_text(encoding="utf-8")
    header, *lines = csv.reader(text.splitlines())
    assert header == [field.name for field in fields(Row)]
    assert {len(line) for line in lines} == {len(header)}
    assert {line[0] for line in lines} == {paper}
    assert all(re.fullmatch(r"\d+(\.\d+)?", line[header.index("value")]) for line in lines)
    cells = [cell for line in lines for cell in line]
    assert not [cell for cell in cells if cell != cell.strip() or re.search(r"[<>\\$]", cell)]


def test_values_are_plausible() -> None:
    for row in published.rows():
        if row.metric in SCORES:
            assert row.unit in ("", "%"), row
            assert 0 <= row.value <= (100 if row.unit else 1), row
            assert not row.unit or row.value > 1, row
        elif row.metric.startswith("n_"):
            assert row.unit == "", row
            assert row.value == int(row.value), row
            assert 0 <= row.value <= 2061, row
        else:
            unit, low, high = RANGES[row.metric]
            assert row.unit == unit, row
            assert low <= row.value <= high, row


def test_only_a_class_without_samples_or_hits_is_at_zero() -> None:
    zero = {(row.table, row.metric) for row in published.rows() if row.value == 0}
    assert zero == {("Table V", "f1"), ("Table V", "n_fear")}


def test_vocabulary() -> None:
    for row in published.rows():
        elsewhere = (row.paper, row.table) == ("frame_study", "Table VI")
        assert row.corpus in CORPORA or (elsewhere and row.corpus == ""), row
        assert row.part in PARTS.get(row.corpus, {"all"}), row
        assert row.protocol in {"loso", "fixed", "split", "mixed", ""}, row
        assert row.classes in {3, 4, 5, 7, None}, row
        assert row.selection in {"", "last", "oracle-epoch"}, row
        assert row.selection == "" or row.metric in SCORES, row
        assert row.year is None or 2007 <= row.year <= 2026, row
        counts = row.metric.startswith("n_") or row.metric in {"frame_rate", "resolution_px", "face_centred"}
        assert row.method or counts or row.metric == "info_density", row
        assert all("=" in part for part in row.setting.split("; ") if part), row


def test_selection_is_named_only_where_code_shows_it() -> None:
    own = {("htnet", "HTNet"), ("htnet", "HTNet (Ours)"), ("merba", "HTNet"), ("bowam", "HTNet")}
    for row in published.rows():
        if row.selection == "last":
            assert (row.method, row.corpus) == ("STSTNet", "megc2019"), row
        elif row.selection:
            assert row.paper == "bowam" or (row.paper, row.method) in own, row
            assert row.protocol == "loso", row
        if row.corpus == "dfme" or row.paper in ("ammsm", "frame_study"):
            assert row.selection == "", row


def test_known_errors_carry_a_note() -> None:
    for row in published.rows(metric="uar"):
        if row.method == "STSTNet" and row.corpus == "megc2019":
            assert "precision" in row.note, row
    assert all("MiB" in row.note for row in published.rows("htnet", metric="params_m"))
    concat = find("bowam", "Table 5", "BOWAM", "all", 3, "fusion=concat", "uf1")
    woof = find("bowam", "Table 11(a)", "Bi-WOOF", "all", 3, "", "uf1")
    assert concat.value == woof.value
    assert "Table 11(a)" in concat.note
    assert "Table 5" in woof.note


def test_the_full_model_is_the_same_in_every_table_of_a_paper() -> None:
    full = {
        "htnet": [("block=7", 0.8603), ("layers=2,2,8", 0.8603)],
        "bowam": [
            (setting, 0.9090)
            for setting in (
                "row=F; flow=bidirectional; wavelet=yes; spatial=yes; channel=yes",
                "fusion=add",
                "mlp=shared",
                "wavelet=haar",
                "ratio=16",
                "kernel=3",
                "stages=4",
            )
        ],
        "merba": [("extractor=local; attention=global", 0.4302), ("directions=a+b+c+d", 0.4302)],
        "ammsm": [("amm=yes; sa=yes; backbone=mamba", 85.23)],
    }
    for paper, settings in full.items():
        for setting, value in settings:
            cells = published.rows(paper, metric="uf1")
            got = [cell.value for cell in cells if cell.setting == setting and cell.part in ("all", "B")]
            assert got == [value], (paper, setting)


def test_papers_that_quote_the_same_result_agree_but_for_one_cell() -> None:
    same = {"FR": "FeatRef", "EMRNet": "EMR", "NMER": "EMR", "HTNet (Ours)": "HTNet"}
    quoted: dict[tuple[str, str, str], set[float]] = {}
    for row in published.rows(corpus="megc2019"):
        if row.metric in ("uf1", "uar") and not row.setting and not row.table.startswith("Table 11"):
            quoted.setdefault((same.get(row.method, row.method), row.part, row.metric), set()).add(row.value)
    assert {key for key, values in quoted.items() if len(values) > 1} == {("MFDAN", "casme2", "uar")}
    assert quoted["MFDAN", "casme2", "uar"] == {0.9326, 0.9236}


def test_class_counts_add_up() -> None:
    counts = {(r.paper, r.part, r.metric): r.value for r in published.rows() if r.metric.startswith("n_")}
    for part, total in {"all": 442, "smic": 164, "casme2": 145, "samm": 133}.items():
        classes = [counts["merba", part, f"n_{name}"] for name in ("negative", "positive", "surprise")]
        assert sum(classes) == counts["merba", part, "n_samples"] == total
    for part, total in {"train": 1856, "A": 474, "B": 299}.items():
        names = ("anger", "contempt", "disgust", "fear", "happiness", "sadness", "surprise")
        assert sum(counts["merba", part, f"n_{name}"] for name in names) == total


def test_the_frame_study_s_class_scores_give_its_macro_f1() -> None:
    for method, best, sampling in (("ViT", "ViT-p32", "AF"), ("Pool", "Pool-m36", "MFS")):
        for preprocessing in ("M1", "M2"):
            setting = f"preprocessing={preprocessing}; sampling={sampling}"
            scores = [
                row.value
                for row in published.rows("frame_study", metric="f1")
                if row.method == method and row.setting.startswith(setting)
            ]
            macro = find("frame_study", "Table III", best, "all", 7, setting, "macro_f1")
            assert len(scores) == 6
            assert mean(scores) == pytest.approx(macro.value, abs=5e-4)


def test_rows_filters_and_keeps_the_order() -> None:
    everything = published.rows()
    assert list(dict.fromkeys(row.paper for row in everything)) == list(PAPERS)
    some = published.rows("bowam", corpus="casme3", metric="uf1")
    assert some == [r for r in everything if (r.paper, r.corpus, r.metric) == ("bowam", "casme3", "uf1")]
    assert len(some) == 13
    assert published.rows("ammsm", corpus="dfme") == []


def test_rows_gives_a_list_of_its_own() -> None:
    published.rows("ammsm").clear()
    assert published.rows("ammsm")


def test_unknown_paper_names_the_nearest() -> None:
    with pytest.raises(UserError, match="did you mean 'bowam'"):
        published.rows("bowan")


def test_papers() -> None:
    assert [paper for paper, about in PAPERS.items() if about.doi] == ["bowam"]
    for about in PAPERS.values():
        assert about.title
        assert about.authors
        assert about.venue
        assert 2024 <= about.year <= 2026


def test_import_is_light() -> None:
    heavy = "{'pandas', 'numpy', 'torch'}"
    code = f"import sys, fleeting.published as p; p.rows(); print({heavy} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
