"""Two systems on the test part of the frame study, simulated: how often equally good ones differ, and by how much.

The study: "Preprocessing Paradox in Vision Transformer-Based Micro-Expression Recognition". It trains on one random
split of CASME II, tests 28 clips of six classes, and finds macro F1 18.4 % and 20.5 % lower with its second
preprocessing (M2) than with its first (M1).

* `TABLE_V` is a confusion matrix of PoolFormer-m36 with M1, rebuilt from the F1 that Table V prints of each class:
  F1 = 2 TP / (clips + predictions) has few whole solutions, and one that also has room for the five errors between
  others and disgust of the text. Its diagonal and margins are forced; the errors' places are one choice of several
  (no score depends on them but through the predictions' correlation). The text's three errors between repression and
  others fit no such matrix: there can be two.
* A system is a matrix P of P(prediction | class): the rows of that matrix, or those rows mixed with guessing.
* Null: M1 and M2 have the same P. A clip's two predictions are one draw with probability rho and two independent draws
  else. Given the class, any function of the prediction, such as "is wrong", then correlates by exactly rho between the
  systems, and they agree with probability rho + (1 - rho) sum_k P_k^2.
* A true difference of d: M2's P is (1 - w) P + w q, with q the frequencies of P's predictions, and w such that macro
  F1 of the expected counts falls by d. With probability rho the draw is shared, and M2's copy is replaced by one from q
  with probability w.
* Classes are fixed by the split, (10, 7, 4, 3, 3, 1, 0) of 28 clips. So the counts of pairs of predictions are
  multinomial, class by class, and a round of the simulation needs no single clip.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from pathlib import Path

import numpy as np
from scipy.optimize import brentq
from scipy.special import ndtr, ndtri
from scipy.stats import multivariate_normal

from fleeting import metrics, plugins, statistics
from fleeting.records import Array, Clip

CLASSES = ("others", "disgust", "happiness", "repression", "surprise", "sadness", "fear")
CORPUS = (99, 63, 32, 27, 25, 7, 2)
PRINTED = (0.571, 0.533, 0.286, 0.667, 0.800, 0.000)  # Table V, "Pool M1"
TABLE_V = np.array(
    [  # others, disgust, happiness, repression, surprise, sadness, fear
        [6, 3, 0, 1, 0, 0, 0],
        [2, 4, 1, 0, 0, 0, 0],
        [1, 1, 1, 0, 0, 1, 0],
        [1, 0, 0, 2, 0, 0, 0],
        [1, 0, 0, 0, 2, 0, 0],
        [0, 0, 1, 0, 0, 0, 0],
        [0, 0, 0, 0, 0, 0, 0],
    ]
)
WEAK = 0.2520  # the lowest macro F1 of Table IV (ViT, KFS)
FOUND = (0.184, 0.205)  # the paper's relative differences, KFS and MFS
LEVEL = 0.05
MODELS = 4  # ViT, Swin, PoolFormer m36 and m48: Table III prints the best of a phase


@dataclass(frozen=True)
class Pair:
    """Macro F1 of two systems in every round, (R,) each."""

    first: Array
    second: Array

    @property
    def fall(self) -> Array:
        """How much lower the second is, relative to the first: the paper's figure."""
        return np.asarray((self.first - self.second) / np.maximum(self.first, 1e-12))

    @property
    def either(self) -> Array:
        """How much lower the lower one is, relative to the higher."""
        high = np.maximum(self.first, self.second)
        return np.asarray(np.abs(self.first - self.second) / np.maximum(high, 1e-12))


# --- the design


def split_counts() -> tuple[int, ...]:
    """Test clips of each class, as the protocol `casme2` with `subject_overlap` deals the corpus out."""
    words = [word for word, count in zip(CLASSES, CORPUS, strict=True) for _ in range(count)]
    clips = [
        Clip("casme2", f"s{index % 26}", f"{index}", (Path("0.png"),), emotion=word) for index, word in enumerate(words)
    ]
    protocol = plugins.load("protocols", "casme2")
    labels = {clip.key: CLASSES.index(word) for clip, word in zip(clips, words, strict=True)}
    (fold,) = protocol.folds(clips, labels, protocol.Options(classes=7, subject_overlap=True), 0)
    return tuple(np.bincount([labels[key] for key in fold.tested], minlength=len(CLASSES)).tolist())


def scaled_counts(clips: int) -> tuple[int, ...]:
    """So many clips with the corpus' shares of the classes; all of it for 255, the paper's split for 28."""
    if clips == sum(split_counts()):
        return split_counts()
    edges = [round(clips * edge / sum(CORPUS)) for edge in accumulate(CORPUS, initial=0)]
    return tuple(high - low for low, high in pairwise(edges))


# --- systems


def chances(matrix: Array) -> Array:
    """(C, C) P(prediction | class): the rows' shares; a class without clips is predicted like all clips together."""
    said = matrix.sum(0) / matrix.sum()
    rows = matrix.sum(1, keepdims=True)
    return np.where(rows > 0, matrix / np.maximum(rows, 1), said)


def guessing(system: Array) -> Array:
    """(C,) how often each class is predicted on the paper's 28 clips."""
    counts = np.array(split_counts())
    return np.asarray(counts @ system / counts.sum())


def mixed(system: Array, share: float) -> Array:
    """The system that guesses on a share of the clips."""
    return (1 - share) * system + share * guessing(system)


def expected(system: Array) -> float:
    """Macro F1, over the classes present, of the counts expected on the paper's 28 clips."""
    counts = np.array(split_counts(), float)
    return float(metrics.uf1(counts[:, None] * system))


def guessed_share(system: Array, target: float) -> float:
    """How much guessing brings a system's expected macro F1 down to a target."""
    return float(brentq(lambda share: expected(mixed(system, share)) - target, 0.0, 1.0)) if target else 0.0


def weakened(system: Array, target: float) -> Array:
    """The system mixed with guessing down to a target."""
    return mixed(system, guessed_share(system, target))


# --- simulation


def joint(system: Array, share: float, rho: float) -> Array:
    """(C, C, C) P(first, second | class) of a system and one that guesses on a share of the clips; see the top."""
    said = guessing(system)
    once = np.eye(len(system)) * system[:, :, None]  # both are the one draw
    copied = (1 - share) * once + share * system[:, :, None] * said
    apart = system[:, :, None] * mixed(system, share)[:, None, :]
    return np.asarray(rho * copied + (1 - rho) * apart)


def simulated(
    system: Array, share: float, rho: float, counts: Sequence[int], rounds: int, rng: np.random.Generator
) -> Pair:
    """Scores of both systems on `rounds` test parts; `counts` clips of each class."""
    size = len(system)
    cells = joint(system, share, rho).reshape(size, -1)
    hits, said = np.zeros((2, rounds, size)), np.zeros((2, rounds, size))
    for word, count in enumerate(counts):
        drawn = rng.multinomial(count, cells[word] / cells[word].sum(), size=rounds).reshape(rounds, size, size)
        for which, axis in enumerate((2, 1)):
            of_system = drawn.sum(axis)
            said[which] += of_system
            hits[which, :, word] = of_system[:, word]
    scores = metrics.macro(metrics.f1(hits, np.array(counts), said), np.array(counts))
    return Pair(scores[0], scores[1])


def agreement(system: Array, rho: float) -> tuple[float, float]:
    """Share of the 28 clips on which two equal systems agree, and the correlation of their errors over all clips.

    The second is above rho, since both err more on the classes that are hard.
    """
    weights = np.array(split_counts()) / sum(split_counts())
    right = np.diagonal(system)
    cells = joint(system, 0.0, rho)
    alike = float(weights @ np.trace(cells, axis1=1, axis2=2))
    both = float(weights @ cells[range(len(system)), range(len(system)), range(len(system))])
    mean = float(weights @ right)
    return alike, (both - mean**2) / (mean * (1 - mean))


def best_of(system: Array, rho: float, rounds: int, rng: np.random.Generator) -> Pair:
    """The model of four with the highest M1, and its M2: what Table III prints of a phase.

    All eight systems are equal. A clip has one draw that each takes with probability sqrt(rho), else its own, so any
    two share a draw with probability rho.
    """
    counts = split_counts()
    truth = np.repeat(np.arange(len(counts)), counts)
    edges = system.cumsum(1)[truth, :-1]  # (28, C - 1)
    scores = np.empty((2 * MODELS, rounds))
    common = rng.random((rounds, len(truth)))
    for row in scores:
        own = rng.random(common.shape)
        taken = np.where(rng.random(common.shape) < np.sqrt(rho), common, own)
        row[:] = _macro((taken[..., None] >= edges).sum(-1), truth)
    chosen = scores[:MODELS].argmax(0)
    return Pair(scores[chosen, np.arange(rounds)], scores[MODELS + chosen, np.arange(rounds)])


def by_copula(system: Array, rho: float, rounds: int, rng: np.random.Generator) -> Pair:
    """Another mechanism with the same correlation of errors: two normal numbers a clip, correlated.

    A number's rank says right below P(right), else which error. Given the class the normal correlation is such that
    "is wrong" correlates by rho.
    """
    counts = split_counts()
    truth = np.repeat(np.arange(len(counts)), counts)
    latent = np.array([_latent(right, rho) for right in np.diagonal(system)])[truth]
    noise = rng.standard_normal((2, rounds, len(truth)))
    noise[1] = latent * noise[0] + np.sqrt(1 - latent**2) * noise[1]
    order = np.array([[word, *(other for other in range(len(counts)) if other != word)] for word in truth])
    edges = np.take_along_axis(system[truth], order, 1).cumsum(1)[:, :-1]
    ranks = (ndtr(noise)[..., None] >= edges).sum(-1)
    said = order[np.arange(len(truth)), ranks]
    return Pair(_macro(said[0], truth), _macro(said[1], truth))


def _latent(right: float, rho: float) -> float:
    """Correlation of two normals whose "below the quantile of `right`" correlates by rho."""
    if not 0 < right < 1 or not rho:
        return rho
    edge, wanted = ndtri(right), right**2 + rho * right * (1 - right)

    def excess(latent: float) -> float:
        return float(multivariate_normal.cdf([edge, edge], cov=[[1, latent], [latent, 1]])) - wanted

    return float(brentq(excess, 0.0, 0.9999, xtol=1e-4))


def _macro(said: Array, truth: Array) -> Array:
    """(R,) macro F1 of (R, n) predictions."""
    counts = np.bincount(truth, minlength=len(CLASSES))
    pred = np.stack([(said == word).sum(1) for word in range(len(CLASSES))], 1)
    hits = np.stack([(said[:, truth == word] == word).sum(1) for word in range(len(CLASSES))], 1)
    return np.asarray(metrics.macro(metrics.f1(hits, counts, pred), counts))


def smoothed(rho: float, rounds: int, rng: np.random.Generator, batches: int = 200) -> Pair:
    """The null where P is not taken for known: rows drawn from what 28 clips leave open (Dirichlet, counts + 1/7)."""
    drawn = []
    for _ in range(batches):
        system = np.stack([rng.dirichlet(row + 1 / len(CLASSES)) for row in TABLE_V])
        drawn.append(simulated(system, 0.0, rho, split_counts(), rounds // batches, rng))
    return Pair(np.concatenate([pair.first for pair in drawn]), np.concatenate([pair.second for pair in drawn]))


# --- power


def powers(system: Array, fall: float, rho: float, clips: int, rounds: int, rng: np.random.Generator) -> float:
    """How often a two-sided test at 5 % sees that the second system is worse.

    The test knows the distribution of the difference under the null, which nobody does: no real one does better.
    """
    counts = scaled_counts(clips)
    null = simulated(system, 0.0, rho, counts, rounds, rng)
    edge = np.quantile(np.abs(null.first - null.second), 1 - LEVEL)
    pair = simulated(system, guessed_share(system, (1 - fall) * expected(system)), rho, counts, rounds, rng)
    return float((pair.first - pair.second > edge + 1e-12).mean())


def wanted_clips(system: Array, fall: float, rho: float, rounds: int, rng: np.random.Generator) -> int:
    """The least multiple of 28 clips with which four of five such differences are seen."""
    low, high = 1, 2
    while powers(system, fall, rho, 28 * high, rounds, rng) < 0.8:
        low, high = high, 2 * high
    while high - low > max(1, high // 50):
        middle = (low + high) // 2
        low, high = (low, middle) if powers(system, fall, rho, 28 * middle, rounds, rng) >= 0.8 else (middle, high)
    return 28 * high


def permuted(system: Array, fall: float, rho: float, rounds: int, rng: np.random.Generator) -> float:
    """How often a real test sees it on 28 clips: paired permutation over clips, 1,000 exchanges, two-sided at 5 %."""
    counts, size = split_counts(), len(system)
    share = guessed_share(system, (1 - fall) * expected(system)) if fall else 0.0
    cells = joint(system, share, rho).reshape(size, -1)
    truth = np.repeat(np.arange(size), counts)
    seen = 0
    for _ in range(rounds):
        drawn = np.concatenate([rng.choice(size * size, count, p=cells[word]) for word, count in enumerate(counts)])
        one, two = (np.eye(size, dtype=int)[said][:, None] * np.eye(size, dtype=int)[truth][..., None]
                    for said in divmod(drawn, size))  # fmt: skip
        result = statistics.permutation(one, two, "uf1", rounds=1000, seed=int(rng.integers(2**32)))
        seen += result["p"] < LEVEL and (fall == 0 or result["difference"] > 0)
    return seen / rounds
