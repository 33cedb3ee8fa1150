"""The simulation of the frame study's design: the rebuilt matrix, the correlation of errors, the size of the test."""

import itertools
import sys
from pathlib import Path

import numpy as np
import pytest

from fleeting import counting, metrics

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))
import frame_study_power as page
import frame_study_simulation as study

SYSTEM = study.chances(study.TABLE_V)


def test_the_rebuilt_matrix_has_every_number_of_table_v() -> None:
    counts = study.split_counts()
    assert counts == (10, 7, 4, 3, 3, 1, 0)
    assert tuple(study.TABLE_V.sum(1)) == counts
    found = metrics.per_class(study.TABLE_V)["f1"][:6]
    np.testing.assert_array_equal(found.round(3), study.PRINTED)
    assert float(metrics.uf1(study.TABLE_V)) == pytest.approx(0.4762, abs=5e-5)
    assert study.TABLE_V[0, 1] + study.TABLE_V[1, 0] == 5


def test_no_other_diagonal_and_margins_fit_the_table_and_the_text() -> None:
    """Whole solutions (hits, predictions) of each printed F1, together at most 28 predictions."""
    fits = [
        [(tp, said) for tp in range(n + 1) for said in range(tp, 29) if round(2 * tp / (n + said), 3) == f1]
        for n, f1 in zip((10, 7, 4, 3, 3), study.PRINTED[:5], strict=True)
    ]
    whole = [one for one in itertools.product(*fits) if sum(said for _, said in one) <= 28]
    # five errors between others and disgust: at most the wrong ones said of one plus the wrong ones said of the other
    rooms = {
        one: (min(one[0][1] - one[0][0], 7 - one[1][0]), min(one[1][1] - one[1][0], 10 - one[0][0])) for one in whole
    }
    (left,) = [one for one, (others, disgust) in rooms.items() if others + disgust >= 5 and others]
    assert left == tuple((study.TABLE_V[word, word], study.TABLE_V[:, word].sum()) for word in range(5))
    # and between repression and others there are at most two, where the text has three
    (repression_hits, repression_said) = left[3]
    assert min(3 - repression_hits, left[0][1] - left[0][0]) + min(repression_said - repression_hits, 4) == 2


@pytest.mark.parametrize("rho", [0.0, 0.4, 0.8])
@pytest.mark.parametrize("guessed", [0.0, 0.3])
def test_each_system_keeps_its_matrix_whatever_they_share(rho: float, guessed: float) -> None:
    cells = study.joint(SYSTEM, guessed, rho)
    np.testing.assert_allclose(cells.sum(2), SYSTEM, atol=1e-12)
    np.testing.assert_allclose(cells.sum(1), study.mixed(SYSTEM, guessed), atol=1e-12)


@pytest.mark.parametrize("rho", [0.0, 0.2, 0.8])
def test_errors_correlate_by_rho_within_a_class(rho: float) -> None:
    cells = study.joint(SYSTEM, 0.0, rho)
    for word in range(5):
        right = SYSTEM[word, word]
        found = (cells[word, word, word] - right**2) / (right * (1 - right))
        assert found == pytest.approx(rho)
    weights = np.array(study.split_counts()) / 28
    alike = rho + (1 - rho) * float(weights @ (SYSTEM**2).sum(1))
    assert study.agreement(SYSTEM, rho)[0] == pytest.approx(alike)


def test_simulated_scores_are_those_of_single_clips() -> None:
    """The counts drawn class by class against predictions drawn clip by clip: the same two moments."""
    counts, rng = study.split_counts(), np.random.default_rng(0)
    fast = study.simulated(SYSTEM, 0.0, 0.5, counts, 20000, rng)
    truth = np.repeat(np.arange(7), counts)
    slow = np.empty((2, 4000))
    for trial in range(slow.shape[1]):
        one, two = ([rng.choice(7, p=SYSTEM[word]) for word in truth] for _ in range(2))
        said = np.where(rng.random(28) < 0.5, one, two)
        slow[:, trial] = [float(metrics.uf1(counting.confusion(truth, guess, 7))) for guess in (one, said)]
    assert fast.first.mean() == pytest.approx(slow[0].mean(), abs=0.008)
    assert np.std(fast.first - fast.second) == pytest.approx(np.std(slow[0] - slow[1]), rel=0.06)


def test_systems_that_share_everything_never_differ() -> None:
    pair = study.simulated(SYSTEM, 0.0, 1.0, study.split_counts(), 50, np.random.default_rng(0))
    assert (pair.first == pair.second).all()
    assert (pair.fall == 0).all()


def test_falls_are_relative_to_the_first_or_to_the_higher() -> None:
    pair = study.Pair(np.array([0.5, 0.4]), np.array([0.4, 0.5]))
    np.testing.assert_allclose(pair.fall, [0.2, -0.25])
    np.testing.assert_allclose(pair.either, [0.2, 0.2])


def test_a_weakened_system_has_the_score_that_was_asked_for() -> None:
    assert study.expected(SYSTEM) == pytest.approx(0.4762, abs=5e-5)
    assert study.expected(study.weakened(SYSTEM, 0.3)) == pytest.approx(0.3)
    assert study.guessing(SYSTEM).sum() == pytest.approx(1)


@pytest.mark.parametrize("rho", [0.2, 0.6])
def test_the_copula_is_calibrated_to_the_same_correlation(rho: float) -> None:
    rng, right = np.random.default_rng(1), 0.6
    latent = study._latent(right, rho)
    assert rho < latent < 1
    one, other = rng.standard_normal((2, 200_000))
    two = latent * one + np.sqrt(1 - latent**2) * other
    edge = np.quantile(one, right)
    assert np.corrcoef(one < edge, two < edge)[0, 1] == pytest.approx(rho, abs=0.02)


def test_choosing_the_best_of_four_makes_its_other_number_look_worse() -> None:
    rng = np.random.default_rng(2)
    chosen, plain = study.best_of(SYSTEM, 0.4, 2000, rng), study.by_copula(SYSTEM, 0.4, 2000, rng)
    assert chosen.first.mean() > chosen.second.mean() + 0.04
    assert plain.first.mean() == pytest.approx(plain.second.mean(), abs=0.01)


def test_power_is_half_the_level_without_a_difference_and_rises_with_clips() -> None:
    rng = np.random.default_rng(3)
    assert study.powers(SYSTEM, 0.0, 0.4, 255, 8000, rng) == pytest.approx(0.025, abs=0.008)
    seen = [study.powers(SYSTEM, 0.2, 0.4, clips, 2000, rng) for clips in (28, 112, 560)]
    assert seen[0] < seen[1] < seen[2]
    assert seen[2] > 0.95


def test_counts_for_other_sizes_keep_the_shares() -> None:
    assert study.scaled_counts(255) == study.CORPUS
    assert sum(study.scaled_counts(1120)) == 1120
    assert study.scaled_counts(28) == study.split_counts()


def test_the_section_is_put_between_its_marks_and_nowhere_else(tmp_path: Path) -> None:
    path = tmp_path / "page.md"
    page.write(path, "first")
    assert path.read_text(encoding="utf-8").startswith(page.TITLE)
    path.write_text("before\n" + path.read_text(encoding="utf-8") + "after\n", encoding="utf-8")
    page.write(path, "second")
    text = path.read_text(encoding="utf-8")
    assert "first" not in text
    assert text.startswith("before")
    assert text.endswith("after\n")
    path.write_text("tables of the study\n", encoding="utf-8")
    page.write(path, "third")
    assert path.read_text(encoding="utf-8").startswith("tables of the study\n\n<!-- power")


def test_a_share_comes_with_its_interval() -> None:
    assert page.share(np.repeat([True, False], [50, 50])) == "50.0 [40.4, 59.6]"
