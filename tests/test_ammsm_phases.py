"""AMMSM's training: the search finds what is to be found, phases see whom they may see, and a stopped task goes on."""

from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from fleeting import config, experiment, files, samples, training
from fleeting.datasets import megc2019_flow
from fleeting.errors import UserError
from fleeting.models import _evolution, _phases, ammsm
from fleeting.models._evolution import Budget, Configuration, Space
from fleeting.records import Samples, View
from fleeting.training import Context, Recipe

TINY: dict[str, Any] = {
    "dim": 4, "depths": (1, 1), "attention": (0, 1), "head_width": 4, "state": 4, "mlp": 1, "stem_stride": 1,
    "spatial": "none", "magnifier_width": 2, "magnifier_levels": 1, "population": 3, "generations": 2,
}  # fmt: skip
RECIPE = Recipe(epochs=10, batch=8, lr=1e-3)
SPACE = Space(Configuration((0.5,) * 6, 2.5), (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8), (1.0, 4.0))


pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def train(tmp_path_factory: pytest.TempPathFactory) -> Samples:
    """Five subjects with four clips each; the class is where something moves."""
    rng = np.random.default_rng(0)
    labels = {f"d/s{index % 5}/{index:02d}": index // 5 % 2 for index in range(20)}
    views = {}
    for key, label in labels.items():
        flow = rng.normal(0, 0.1, (2, 12, 12)).astype(np.float32)
        flow[:, :, 6 * label : 6 * label + 6] += 1
        views[key] = [View("v", {"flow": flow})]
    packed = samples.pack(tmp_path_factory.mktemp("packed"), views, {"flow": ("u", "v")})
    return samples.training(packed, labels, 2)


def built(**options: Any) -> Any:
    torch.manual_seed(0)
    return ammsm.build({"flow": (2, 12, 12)}, 2, ammsm.Options(**{**TINY, **options}))


def subjects(part: Samples) -> set[str]:
    return {str(key).split("/")[1] for key in part.keys[part.rows]}


class Watched:
    """`training.fit` and the fitness, with notes of what they saw."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.fits: list[dict[str, Any]] = []
        self.tried: list[tuple[tuple[float, ...], float]] = []
        self.looked_at: set[str] = set()
        fit, loss = training.fit, _phases._loss

        def watched_fit(network: Any, part: Samples, valid: Any, recipe: Recipe, context: Context) -> Any:
            note = {"subjects": subjects(part), "epochs": recipe.epochs, "first": context.first_epoch}
            self.fits.append({**note, "span": network.span, "standing": (network.sparsity, network.factor)})
            return fit(network, part, valid, recipe, context)

        def watched_loss(network: Any, inner: Samples, *rest: Any) -> float:
            self.tried.append((network.sparsity, network.factor))
            self.looked_at |= subjects(inner)
            return loss(network, inner, *rest)

        monkeypatch.setattr(training, "fit", watched_fit)
        monkeypatch.setattr(_phases, "_loss", watched_loss)


@pytest.fixture
def watched(monkeypatch: pytest.MonkeyPatch) -> Watched:
    return Watched(monkeypatch)


def fitted(train: Samples, recipe: Recipe = RECIPE, valid: Samples | None = None, **context: Any) -> Any:
    options = context.pop("options", {})
    return ammsm.fit(built(**options), train, valid, recipe, Context(seed=3, **context))


# --- the search


def away(one: Configuration) -> float:
    """Least at one place of 8^6 x 301."""
    best = (0.2, 0.8, 0.4, 0.4, 0.6, 0.1)
    return sum(abs(a - b) for a, b in zip(one.sparsity, best, strict=True)) + abs(one.factor - 3) / 3


def test_a_factor_stays_between_its_bounds() -> None:
    """Two digits, but no more than the bounds allow: 0.00 would be no factor."""
    rng = np.random.default_rng(0)
    for bounds in ((0.001, 0.004), (1.004, 1.006), (3.0, 3.0)):
        drawn = [SPACE._replace(factors=bounds).drawn(rng).factor for _ in range(50)]
        assert bounds[0] <= min(drawn) <= max(drawn) <= bounds[1]
    usual = [SPACE.drawn(rng).factor for _ in range(50)]
    assert all(factor == round(factor, 2) for factor in usual)


def test_evolution_finds_better_than_chance_with_the_same_budget() -> None:
    budget, wins = Budget(8, 5, 0.5, 0.2), 0
    for seed in range(20):
        found = [
            min(trial.loss for trial in search(SPACE, budget, away, np.random.default_rng(seed)))
            for search in (_evolution.evolution, _evolution.random)
        ]
        wins += found[0] < found[1]
    assert wins >= 17


def test_both_searches_spend_the_same_budget_inside_the_space() -> None:
    for search in (_evolution.evolution, _evolution.random):
        trials = list(search(SPACE, Budget(8, 5, 0.5, 0.2), away, np.random.default_rng(0)))
        assert [trial.generation for trial in trials] == [number // 8 for number in range(40)]
        for trial in trials:
            assert set(trial.configuration.sparsity) <= set(SPACE.ratios)
            assert 1 <= trial.configuration.factor <= 4
            assert trial.loss == away(trial.configuration)
    assert {ratio for trial in trials for ratio in trial.configuration.sparsity} == set(SPACE.ratios)


def test_evolution_tries_nothing_twice_and_its_generations_grow_better() -> None:
    trials = list(_evolution.evolution(SPACE, Budget(10, 8, 0.5, 0.2), away, np.random.default_rng(1)))
    assert len({trial.configuration for trial in trials}) == 80
    means = [np.mean([trial.loss for trial in trials if trial.generation == number]) for number in range(8)]
    assert means[-1] < 0.75 * means[0]


def test_a_space_of_few_configurations_is_searched_all_the_same() -> None:
    space = Space(Configuration((0.5,), 2.0), (0.1, 0.2), None)
    trials = list(_evolution.evolution(space, Budget(4, 2, 0.5, 0.2), lambda one: one.sparsity[0], rng()))
    assert {trial.configuration for trial in trials} == {Configuration((0.1,), 2.0), Configuration((0.2,), 2.0)}


def rng() -> np.random.Generator:
    return np.random.default_rng(0)


def test_children_come_from_their_parents() -> None:
    """Without mutation each gene is one of the parents'; without crossover too, it is a copy."""
    one, other = Configuration((0.1,) * 6, 1.0), Configuration((0.8,) * 6, 4.0)
    children = [_evolution._child(SPACE, Budget(2, 2, 1.0, 0.0), [one, other], rng()) for _ in range(20)]
    assert all(set(child.sparsity) <= {0.1, 0.8} and child.factor in (1.0, 4.0) for child in children)
    generator = rng()
    mixed = {_evolution._child(SPACE, Budget(2, 2, 1.0, 0.0), [one, other], generator) for _ in range(30)}
    assert len(mixed) > 10
    copies = {_evolution._child(SPACE, Budget(2, 2, 0.0, 0.0), [one, other], generator) for _ in range(30)}
    assert copies == {one, other}


def test_mutation_draws_its_share_anew() -> None:
    generator, one = rng(), Configuration((0.5,) * 6, 2.5)
    changed = [SPACE.mutated(one, 0.25, generator) for _ in range(400)]
    genes = np.mean([sum(ratio != 0.5 for ratio in child.sparsity) / 6 for child in changed])
    assert genes == pytest.approx(0.25 * 7 / 8, abs=0.03)  # one of eight draws is what was there
    assert np.mean([child.factor != 2.5 for child in changed]) == pytest.approx(0.25, abs=0.06)


# --- the phases


def test_three_phases_by_epochs_subjects_and_configuration(train: Samples, watched: Watched) -> None:
    epochs: list[int] = []
    context: dict[str, Any] = {"after_epoch": lambda epoch, network: epochs.append(epoch), "log": {}}
    network = fitted(train, **context)
    first, last = watched.fits
    assert (first["epochs"], first["first"], first["span"]) == (7, 0, (0, 0.7))
    assert (last["epochs"], last["first"], last["span"]) == (3, 7, (0.7, 1))
    assert epochs == list(range(10))
    assert network.span == (0, 1)
    # the first phase and the search share nobody; the test part is in neither, since fit does not have it
    assert first["subjects"] | watched.looked_at == subjects(train)
    assert not first["subjects"] & watched.looked_at
    assert last["subjects"] == subjects(train)
    assert first["standing"] == ((0.5, 0.5), 2.5)
    log = context["log"]
    assert last["standing"] == (network.sparsity, network.factor) == (tuple(log["sparsity"]), log["factor"][0])
    best = int(np.argmin(log["search_loss"]))
    assert log["factor"] == [log["search_factor"][best]]
    assert log["sparsity"] == log["search_sparsity"][2 * best : 2 * best + 2]
    assert [len(log[f"{name}_{what}"]) for name in ("search", "random") for what in ("loss", "factor")] == [6] * 4
    assert len(log["loss"]) == len(log["learning_rate"]) == 10
    rates = log["learning_rate"]
    assert all(a == b for a, b in pairwise(rates))


def test_70_and_30_epochs_as_published() -> None:
    first, last = _phases._recipes(ammsm.RECIPE, ammsm.Options().fine_tuning)
    assert last is not None
    assert (first.epochs, last.epochs) == (70, 30)
    options = ammsm.Options()
    assert options.population * options.generations >= 40
    one, none = _phases._recipes(Recipe(epochs=1, warmup_epochs=1), 0.3)
    assert (one.epochs, none) == (1, None)
    warm, cool = _phases._recipes(Recipe(epochs=10, warmup_epochs=2, cooldown_epochs=1), 0.3)
    assert cool is not None
    assert (warm.warmup_epochs, warm.cooldown_epochs, cool.warmup_epochs, cool.cooldown_epochs) == (2, 0, 0, 1)


def test_each_batch_of_the_first_phase_has_its_own_configuration(train: Samples) -> None:
    network, seen, between = built(), [], []
    hook = network.stem.register_forward_pre_hook(
        lambda *_: (seen if network.training else between).append((network.sparsity, network.factor))
    )
    space = _phases._space(network)

    def look(epoch: int, module: Any) -> None:
        training.predict(module, train, RECIPE)

    with _phases._adapting(network, space, 0):
        training.fit(network, train, None, RECIPE, Context(seed=0, after_epoch=look))
    hook.remove()
    assert len(seen) == 30
    assert len(set(seen)) >= 28
    assert {ratio for ratios, _ in seen for ratio in ratios} == set(ammsm.Options().ratios)
    assert min(factor for _, factor in seen) < 1.5 < 3.5 < max(factor for _, factor in seen) <= 4
    # what is predicted meanwhile, and afterwards, has the standing one
    assert set(between) == {((0.5, 0.5), 2.5)}
    assert (network.sparsity, network.factor) == ((0.5, 0.5), 2.5)


def test_mesas_mean_network_decides_under_one_configuration(train: Samples, monkeypatch: pytest.MonkeyPatch) -> None:
    """The standing one while the network adapts, then the one that was found."""
    seen: list[Any] = []
    decides = training._Teacher.decides

    def watched(teacher: Any, x: Any) -> Any:
        wanted = decides(teacher, x)
        seen.append((teacher.network.sparsity, teacher.network.factor))
        return wanted

    monkeypatch.setattr(training._Teacher, "decides", watched)
    network = fitted(train, RECIPE.model_copy(update={"mesa": 1.0}))
    assert list(dict.fromkeys(seen)) == [((0.5, 0.5), 2.5), (network.sparsity, network.factor)]


@pytest.mark.parametrize(
    ("options", "moves"),
    [({}, (True, True)), ({"magnify": "scale"}, (True, True)), ({"magnify": "none"}, (True, False)),
     ({"sparsity": 0.0}, (False, True))],
)  # fmt: skip
def test_what_is_left_out_is_not_searched(
    train: Samples, watched: Watched, options: dict[str, Any], moves: tuple[bool, bool]
) -> None:
    fitted(train, options=options)
    sparsities, factors = (set(values) for values in zip(*watched.tried, strict=True))
    assert (len(sparsities) > 1, len(factors) > 1) == moves
    assert moves[0] or sparsities == {(0.0, 0.0)}


@pytest.mark.parametrize("options", [{"search": "none"}, {"magnify": "none", "sparsity": 0.0}])
def test_without_a_search_all_train_all_epochs_in_one_go(
    train: Samples, watched: Watched, options: dict[str, Any]
) -> None:
    network = fitted(train, options=options)
    (only,) = watched.fits
    assert (only["epochs"], only["subjects"], only["span"]) == (10, subjects(train), (0, 1))
    assert not watched.tried
    assert network.factor == 2.5


def test_random_search_may_be_the_one_that_decides(train: Samples) -> None:
    log: dict[str, list[float]] = {}
    network = fitted(train, options={"search": "random"}, log=log)
    assert network.factor == log["random_factor"][int(np.argmin(log["random_loss"]))]


def test_the_fitness_is_the_cross_entropy_of_the_inner_subjects(train: Samples) -> None:
    network = built()
    probs = training.predict(network, train, RECIPE)
    assert train.y is not None
    expected = np.mean([-np.log(row[label]) for row, label in zip(probs, train.y, strict=True)])
    assert _phases._loss(network, train, RECIPE, "cpu") == pytest.approx(expected)


def test_given_inner_subjects_serve_the_search(train: Samples, watched: Watched) -> None:
    rest, inner = training.split_groups(train, 0.4, 1)
    fitted(rest, valid=inner)
    assert watched.looked_at == subjects(inner)
    assert [note["subjects"] for note in watched.fits] == [subjects(rest)] * 2


def test_with_early_stopping_no_phase_trains_on_those_who_decide(train: Samples, watched: Watched) -> None:
    fitted(train, RECIPE.model_copy(update={"patience": 1}))
    first, last = watched.fits
    assert first["subjects"] == last["subjects"] == subjects(train) - watched.looked_at
    assert last["first"] == 7


def test_one_subject_cannot_be_searched_on(train: Samples) -> None:
    alone = samples.take(train, np.flatnonzero([str(key).startswith("d/s0/") for key in train.keys[train.rows]]))
    with pytest.raises(UserError, match=r'two training subjects.*model.search = "none"'):
        fitted(alone)


# --- resuming


def weights(network: torch.nn.Module) -> dict[str, bytes]:
    return {name: value.numpy().tobytes() for name, value in network.state_dict().items()}


class Stop(Exception):
    """A task that is killed."""


@pytest.mark.parametrize("when", ["adapting", "searching", "fine-tuning"])
def test_a_stopped_task_goes_on_to_the_same_bytes(
    train: Samples, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, when: str
) -> None:
    whole_log: dict[str, list[float]] = {}
    recipe = RECIPE.model_copy(update={"mixup": 0.8, "mesa": 1.0})
    whole = fitted(train, recipe, log=whole_log, options={"drop_path": 0.2})

    def stop(epoch: int, network: Any) -> None:
        if epoch == {"adapting": 2, "fine-tuning": 8}.get(when):
            raise Stop

    with monkeypatch.context() as patch:
        if when == "searching":
            patch.setattr(_phases, "_loss", failing_after(4))
        with pytest.raises(Stop):
            fitted(train, recipe, scratch=tmp_path / "task", after_epoch=stop, options={"drop_path": 0.2})
    table = tmp_path / "task" / "search.csv"
    assert table.is_file() == (when != "adapting")
    if when == "searching":
        with table.open("a") as stream:
            stream.write("0.3,2.")  # what was being written when the power went
    epochs, log, calls = [], {}, Counted(monkeypatch)
    options: dict[str, Any] = {"drop_path": 0.2}
    again = ammsm.fit(
        built(**options), train, None, recipe,
        Context(seed=3, scratch=tmp_path / "task", after_epoch=lambda epoch, _: epochs.append(epoch), log=log),
    )  # fmt: skip
    assert weights(again) == weights(whole)
    assert log == whole_log
    assert epochs == list(range(0 if when == "adapting" else 7, 10))
    assert calls.count == {"adapting": 12, "searching": 8, "fine-tuning": 0}[when]
    assert not (tmp_path / "task").exists()


def failing_after(count: int) -> Any:
    loss, made = _phases._loss, []

    def counted(*arguments: Any) -> float:
        if len(made) == count:
            raise Stop
        made.append(loss(*arguments))
        return made[-1]

    return counted


class Counted:
    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.count, loss = 0, _phases._loss

        def counted(*arguments: Any) -> float:
            self.count += 1
            return loss(*arguments)

        monkeypatch.setattr(_phases, "_loss", counted)


def test_another_networks_scratch_is_refused(train: Samples, tmp_path: Path) -> None:
    context = Context(seed=0, scratch=tmp_path / "task")
    _phases._Scratch(context.scratch).keep(built(dim=8), context)
    with pytest.raises(UserError, match=r"want what this task left.*delete the folder"):
        fitted(train, scratch=tmp_path / "task")


def test_a_broken_trace_is_told(train: Samples, tmp_path: Path) -> None:
    context = Context(seed=3, scratch=tmp_path / "task")
    _phases._Scratch(context.scratch).keep(built(), context)
    (tmp_path / "task" / "search.csv").write_text("loss,factor,sparsity\nbroken\n")
    with pytest.raises(UserError, match=r"search\.csv: want loss, factor and ratios.*delete it"):
        fitted(train, scratch=tmp_path / "task")


def test_a_full_disk_is_told_in_one_line(train: Samples, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(files.Unwritable, match="cannot be written"):
        fitted(train, scratch=tmp_path / "file" / "task")
    store = _phases._Scratch(tmp_path / "task")
    store.folder = tmp_path / "gone"
    with pytest.raises(files.Unwritable, match=r"search\.csv: cannot be written"):
        store.add(SPACE.standing, 1.0)


def test_views_for_training_only_have_no_say_in_the_search(train: Samples, monkeypatch: pytest.MonkeyPatch) -> None:
    only = np.arange(len(train.train_only)) % 2 == 0
    seen: list[bool] = []
    loss = _phases._loss

    def watched_loss(network: Any, inner: Samples, *rest: Any) -> float:
        seen.extend(inner.train_only[inner.rows].tolist())
        return loss(network, inner, *rest)

    monkeypatch.setattr(_phases, "_loss", watched_loss)
    fitted(replace(train, train_only=only))
    assert seen
    assert not any(seen)


def test_the_search_can_be_watched(train: Samples, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A line a trial, as it is made."""
    lines: list[int] = []
    loss = _phases._loss

    def counted(*arguments: Any) -> float:
        lines.append(len((tmp_path / "task" / "search.csv").read_text().splitlines()))
        return loss(*arguments)

    monkeypatch.setattr(_phases, "_loss", counted)
    fitted(train, scratch=tmp_path / "task")
    assert lines == list(range(1, 13))


def test_a_stopped_run_has_the_predictions_of_every_epoch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Epochs before the stop are not trained again; their predictions were kept beside the weights."""
    monkeypatch.setenv("FLEETING_CACHE", str(tmp_path / "cache"))
    megc2019_flow.write_standin(tmp_path / "flow", subjects=3, clips=3)
    roots = {"megc2019_flow": tmp_path / "flow"}
    tables = {
        "model": {"name": "ammsm", **TINY, "depths": [1, 1], "attention": [0, 1], "stem_stride": 4,
                  "flow": "minmax255"},
        "input": {"name": "uvs28"}, "recipe": {"epochs": 4, "batch": 8},
    }  # fmt: skip
    chosen = config.resolve(tables)
    whole = experiment.run(chosen, tmp_path / "whole", roots=roots)

    def stop(*_: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(_phases, "_searched", stop)
        with pytest.raises(KeyboardInterrupt):
            experiment.run(chosen, tmp_path / "run", roots=roots)
    assert len(list((tmp_path / "run" / "scratch").rglob("trace.npz"))) == 1
    calls = Counted(monkeypatch)
    again = experiment.run(chosen, tmp_path / "run", roots=roots)
    assert not again.failed()
    assert calls.count
    for name, trace in whole.traces.items():
        assert trace.probs.shape[0] == 4
        assert np.array_equal(again.traces[name].probs, trace.probs)
        assert {"search_loss", "random_loss", "sparsity", "factor"} <= set(trace.log)
    assert not list((tmp_path / "run" / "scratch").rglob("*.npz"))
