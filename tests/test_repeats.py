"""Differences over repeated splits: by hand, against scipy, and on splits whose truth is known."""

import numpy as np
import pytest
from scipy import stats

from fleeting import repeats
from fleeting.errors import UserError


def of(values):
    return dict(enumerate(values))


def test_the_plain_test_is_scipys_paired_t_test():
    rng = np.random.default_rng(0)
    first, second = rng.random(12), rng.random(12)
    found = repeats.differences(of(first), of(second), 201, 28)
    wanted = stats.ttest_rel(first, second)
    assert found["plain"]["t"] == pytest.approx(wanted.statistic)
    assert found["plain"]["p"] == pytest.approx(wanted.pvalue)
    assert found["plain"]["interval"] == pytest.approx([*wanted.confidence_interval(0.95)])


def test_the_correction_is_that_of_the_paper():
    """(1 / J + n2 / n1) s2 by hand: differences .1, .2, .3; J = 3, n1 = 9, n2 = 3."""
    found = repeats.differences(of([0.5, 0.6, 0.7]), of([0.4, 0.4, 0.4]), 9, 3)
    assert found["sd"] == pytest.approx(0.1)
    assert found["corrected"]["se"] == pytest.approx(0.1 * np.sqrt(1 / 3 + 1 / 3))
    assert found["corrected"]["t"] == pytest.approx(0.2 / found["corrected"]["se"])
    assert found["corrected"]["p"] == pytest.approx(2 * stats.t.sf(found["corrected"]["t"], 2))


def test_what_is_said_of_the_distribution():
    found = repeats.differences(of([0.5, 0.4, 0.6, 0.5]), of([0.4, 0.4, 0.7, 0.2]), 80, 20)
    assert found["by_seed"] == pytest.approx({"0": 0.1, "1": 0.0, "2": -0.1, "3": 0.3})
    assert (found["mean"], found["higher"]) == pytest.approx((0.075, 2.5 / 4))
    assert found["range"] == pytest.approx([-0.1, 0.3])
    assert found["quantiles"]["0.5"] == pytest.approx(0.05)
    assert found["relative"] == pytest.approx(0.075 / 0.5)
    assert (found["train"], found["test"], found["splits"]) == (80, 20, 4)


def false_alarms(trials, splits, rng):
    """Shares of p < .05, plain and corrected, of two equally good "systems" on overlapping test parts.

    A system is a set of clips that it knows; no training, so that only the sharing of clips between splits counts.
    """
    wrong = np.zeros(2)
    for _ in range(trials):
        hits = rng.random((2, 255)) < 0.5
        drawn = [rng.permutation(255)[:28] for _ in range(splits)]
        one, two = ({seed: float(hits[who, held].mean()) for seed, held in enumerate(drawn)} for who in (0, 1))
        found = repeats.differences(one, two, 227, 28)
        wrong += [found["plain"]["p"] < 0.05, found["corrected"]["p"] < 0.05]
    return wrong / trials


def test_the_correction_keeps_the_promise_that_the_plain_test_breaks():
    plain, corrected = false_alarms(400, 30, np.random.default_rng(1))
    assert plain > 0.25
    assert corrected < 0.09


def test_splits_that_all_say_the_same():
    same = repeats.differences(of([0.5, 0.5]), of([0.5, 0.5]), 10, 2)
    assert (same["corrected"]["p"], same["corrected"]["t"], same["higher"]) == (1.0, None, 0.5)
    apart = repeats.differences(of([0.5, 0.5]), of([0.25, 0.25]), 10, 2)
    assert apart["plain"] == {"se": 0.0, "t": None, "p": 0.0, "interval": [0.25, 0.25]}


def test_seeds_that_draw_their_test_part_are_told_from_those_that_do_not():
    left_out = {(seed, fold): {"all": [f"{fold}/a", f"{fold}/b"]} for seed in (0, 1) for fold in ("s1", "s2")}
    assert not repeats.drawn(left_out)
    assert repeats.tested(left_out, None)[1] == {"s1/a", "s1/b", "s2/a", "s2/b"}
    random = {(0, "split"): {"A": ["a"], "B": ["b"]}, (1, "split"): {"A": ["c"], "B": ["b"]}}
    assert repeats.drawn(random)
    assert repeats.tested(random, "A") == {0: {"a"}, 1: {"c"}}


@pytest.mark.parametrize(
    ("first", "second", "sizes", "words"),
    [
        ([0.1, 0.2], [0.1], (9, 3), "want the seeds"),
        ([0.1], [0.1], (9, 3), "at least two seeds"),
        ([0.1, np.nan], [0.1, 0.2], (9, 3), "no numbers"),
        ([0.1, 0.2], [0.1, 0.2], (0, 3), "on either side"),
    ],
)
def test_errors_say_what_is_wanted(first, second, sizes, words):
    with pytest.raises(UserError, match=words):
        repeats.differences(of(first), of(second), *sizes)
