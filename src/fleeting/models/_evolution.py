"""AMMSM's search for sparsity ratios and a magnification factor (section III-C), and the random search beside it.

Evolution as SparseViT searches its ratios (Chen et al., CVPR 2023, section 3.3): a generation at random, then children
of the best that were tried so far, half as many as a generation has, by uniform crossover and mutation. A
configuration is tried once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np


class Configuration(NamedTuple):
    """What is searched.

    Attributes:
        sparsity: a ratio for every two blocks.
        factor: of magnification.
    """

    sparsity: tuple[float, ...]
    factor: float


class Space(NamedTuple):
    """What may be chosen.

    Attributes:
        standing: what the network begins with, and keeps where nothing is searched.
        ratios: to choose each ratio from; () leaves the standing ones.
        factors: the least and the largest factor; None leaves the standing one.
    """

    standing: Configuration
    ratios: tuple[float, ...]
    factors: tuple[float, float] | None

    def drawn(self, rng: np.random.Generator) -> Configuration:
        """A configuration at random: each ratio and the factor for itself."""
        sparsity = tuple(self._ratio(rng) for _ in self.standing.sparsity) if self.ratios else self.standing.sparsity
        return Configuration(sparsity, self._factor(rng))

    def mutated(self, one: Configuration, rate: float, rng: np.random.Generator) -> Configuration:
        """Each ratio, and the factor, drawn anew with a chance of `rate`."""
        anew, away = self.drawn(rng), rng.random(len(one.sparsity) + 1) < rate
        sparsity = tuple(new if go else old for old, new, go in zip(one.sparsity, anew.sparsity, away, strict=False))
        return Configuration(sparsity, anew.factor if away[-1] else one.factor)

    def _ratio(self, rng: np.random.Generator) -> float:
        return self.ratios[int(rng.integers(len(self.ratios)))]

    def _factor(self, rng: np.random.Generator) -> float:
        # two digits are more than one fitness can tell apart, and a person can read them
        if self.factors is None:
            return self.standing.factor
        least, most = self.factors
        return min(max(round(float(rng.uniform(least, most)), 2), least), most)  # a bound may have more digits


class Budget(NamedTuple):
    """How long and how boldly is searched; see `models.ammsm.Options`."""

    population: int
    generations: int
    crossover: float
    mutation: float


class Trial(NamedTuple):
    """One evaluation.

    Attributes:
        search: "evolution" or "random".
        generation: 0-based.
        configuration: what was tried.
        loss: its fitness, the less the better.
    """

    search: str
    generation: int
    configuration: Configuration
    loss: float


Fitness = Callable[[Configuration], float]


def evolution(space: Space, budget: Budget, fitness: Fitness, rng: np.random.Generator) -> Iterator[Trial]:
    """population x generations trials, as they are made."""
    tried: list[Trial] = []
    for generation in range(budget.generations):
        parents = sorted(tried, key=lambda trial: trial.loss)[: max(2, budget.population // 2)]
        for _ in range(budget.population):
            known = {trial.configuration for trial in tried}
            child = _new(space, budget, [parent.configuration for parent in parents], known, rng)
            tried.append(Trial("evolution", generation, child, fitness(child)))
            yield tried[-1]


def random(space: Space, budget: Budget, fitness: Fitness, rng: np.random.Generator) -> Iterator[Trial]:
    """As many trials as `evolution` makes, each drawn at random."""
    for number in range(budget.population * budget.generations):
        one = space.drawn(rng)
        yield Trial("random", number // budget.population, one, fitness(one))


def _new(
    space: Space, budget: Budget, parents: list[Configuration], known: set[Configuration], rng: np.random.Generator
) -> Configuration:
    """A child that was not tried, if one is found in a few attempts; a small space may have no more."""
    child = _child(space, budget, parents, rng)
    for _ in range(20):
        if child not in known:
            break
        child = space.mutated(child, max(budget.mutation, 0.1), rng)
    return child


def _child(space: Space, budget: Budget, parents: list[Configuration], rng: np.random.Generator) -> Configuration:
    if not parents:
        return space.drawn(rng)
    one, other = (parents[int(rng.integers(len(parents)))] for _ in range(2))
    if rng.random() < budget.crossover:
        takes = rng.random(len(one.sparsity) + 1) < 0.5
        mixed = tuple(b if take else a for a, b, take in zip(one.sparsity, other.sparsity, takes, strict=False))
        one = Configuration(mixed, other.factor if takes[-1] else one.factor)
    return space.mutated(one, budget.mutation, rng)
