"""The training loop, seen through small networks that write down what they are given."""

from itertools import pairwise

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from torch import nn

from fleeting import counting, metrics, samples, training
from fleeting.errors import UserError
from fleeting.records import View
from fleeting.training import Context, Recipe


def pack(folder, arrays, y, channels, subjects=6):
    """Labelled samples; sample i belongs to subject i modulo `subjects`."""
    keys = [f"d/s{index % subjects}/{index:03d}" for index in range(len(y))]
    views = {key: [View("v", {name: array[index] for name, array in arrays.items()})] for index, key in enumerate(keys)}
    labels = dict(zip(keys, (int(label) for label in y), strict=True))
    return samples.training(samples.pack(folder, views, channels), labels, 3)


@pytest.fixture(autouse=True)
def _one_thread():
    """As every task runs; more threads only wait for one another on arrays of this size."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def toy(tmp_path):
    """60 points around three corners: 30, 20 and 10 of a class."""
    rng = np.random.default_rng(0)
    y = np.repeat([0, 1, 2], [30, 20, 10])
    x = (np.eye(3)[y] * 3 + rng.normal(0, 0.3, (60, 3))).astype(np.float32)
    order = rng.permutation(60)
    return pack(tmp_path / "toy", {"x": x[order]}, y[order], {"x": ("a", "b", "c")})


@pytest.fixture
def pictures(tmp_path):
    """12 flow pictures whose pixels say where they are, and a uint8 picture beside them."""
    flow = np.arange(12 * 2 * 6 * 6, dtype=np.float32).reshape(12, 2, 6, 6)
    face = np.arange(12 * 36).reshape(12, 1, 6, 6).astype(np.uint8)
    return pack(
        tmp_path / "pictures", {"flow": flow, "face": face}, np.arange(12) % 3, {"flow": ("u", "v"), "face": ("g",)}
    )


class Linear(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(3, 3)

    def forward(self, x):
        return self.layer(x)


class Noisy(Linear):
    """With everything that a prediction in between could disturb."""

    def __init__(self):
        super().__init__()
        self.before = nn.Sequential(nn.Linear(3, 8), nn.BatchNorm1d(8), nn.Dropout(0.5), nn.Linear(8, 3))
        self.frozen = nn.BatchNorm1d(3).eval()

    def forward(self, x):
        return self.layer(self.frozen(self.before(x)))


class Witness(nn.Module):
    """Writes down what `forward` and `loss` are given."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(3))
        self.seen, self.targets, self.progress = [], [], []

    def forward(self, **x):
        self.seen.append({name: array.clone() for name, array in x.items()})
        return self.weight.expand(len(next(iter(x.values()))), 3)

    def loss(self, output, target, progress):
        self.targets.append(target.clone())
        self.progress.append(progress)
        return -(target * output.log_softmax(-1)).sum(-1)


def fitted(network, train, recipe, seed=0, valid=None, **context):
    """The trained network; a class is built after seeding, as the caller of `fit` does."""
    torch.manual_seed(seed)
    built = network() if isinstance(network, type) else network
    return training.fit(built, train, valid, recipe, Context(seed=seed, **context))


def weights(network):
    return b"".join(tensor.numpy().tobytes() for tensor in network.state_dict().values())


QUICK = Recipe(epochs=5, batch=16, lr=0.05)


# --- recipe and schedule


def test_a_recipe_refuses_what_it_does_not_know():
    for wrong in ({"epoch": 3}, {"epochs": 0}, {"lr": 0}, {"schedule": "step"}, {"smoothing": 1.0}, {"crop": -1}):
        with pytest.raises(ValidationError):
            Recipe(**wrong)


def rates(**changes):
    recipe = Recipe(**{"epochs": 10, "lr": 1.0, **changes})
    return [training.learning_rate(recipe, epoch) for epoch in range(recipe.epochs)]


def test_constant_and_warm_up():
    assert rates() == [1.0] * 10
    assert rates(warmup_epochs=4) == [0.25, 0.5, 0.75] + [1.0] * 7


def test_exponential():
    assert rates(schedule="exponential", decay=0.5, epochs=4) == [1, 0.5, 0.25, 0.125]
    assert rates(schedule="exponential", decay=0.5, epochs=5, warmup_epochs=2) == [0.5, 1, 1, 0.5, 0.25]


def test_cosine():
    found = rates(schedule="cosine", min_lr=0.2)
    assert found[0] == 1
    assert found[5] == pytest.approx(0.6)
    assert all(first > second for first, second in pairwise(found))
    assert found == pytest.approx([0.2 + 0.4 * (1 + np.cos(np.pi * epoch / 10)) for epoch in range(10)])


def test_cool_down_is_at_the_lowest_rate():
    found = rates(schedule="cosine", min_lr=0.1, warmup_epochs=2, cooldown_epochs=3)
    assert found[:3] == [0.5, 1.0, 1.0]
    assert found[-3:] == pytest.approx([0.1] * 3)
    assert found[-4] > 0.1
    exponential = rates(schedule="exponential", decay=0.5, cooldown_epochs=3)
    assert exponential[-3:] == [0.5**7] * 3


def test_the_optimiser_gets_the_rate_of_the_epoch(toy):
    context = Context(seed=0)
    training.fit(Linear(), toy, None, Recipe(epochs=4, lr=0.5, schedule="exponential", decay=0.5), context)
    assert context.log["learning_rate"] == [0.5, 0.25, 0.125, 0.0625]
    assert {len(values) for values in context.log.values()} == {4}


# --- class balance


def test_class_weights():
    y = np.repeat([0, 1, 2], [60, 30, 10])
    found = training.class_weights(y, 3, limit=100)
    assert found == pytest.approx([100 / 180, 100 / 90, 100 / 30])
    assert found[y].mean() == pytest.approx(1)
    limited = training.class_weights(y, 3, limit=2)
    assert limited[y].mean() == pytest.approx(1)
    assert limited[2] / limited[1] == pytest.approx(2 / (100 / 90))
    absent = training.class_weights(y, 4, limit=100)
    assert absent[3] == 0
    assert absent[y].mean() == pytest.approx(1)


def drawn(train, recipe):
    network = fitted(Witness, train, recipe)
    return torch.cat(network.targets)


def test_the_sampler_evens_out_the_classes(toy):
    plain = drawn(toy, Recipe(epochs=20, batch=16)).mean(0)
    assert plain.tolist() == pytest.approx([1 / 2, 1 / 3, 1 / 6])
    even = drawn(toy, Recipe(epochs=20, batch=16, balance="sampler"))
    assert len(even) == 20 * 60
    assert even.mean(0).tolist() == pytest.approx([1 / 3] * 3, abs=0.04)
    limited = drawn(toy, Recipe(epochs=20, batch=16, balance="sampler", balance_limit=1)).mean(0)
    assert limited[2] < 0.25


def test_class_weights_enter_the_loss(toy):
    even, plain = (
        fitted(Witness, toy, Recipe(epochs=200, batch=60, lr=0.1, balance=balance)) for balance in ("weights", "none")
    )
    # a network that sees nothing learns the frequencies of the classes, as they are weighted
    assert even.weight.softmax(0).tolist() == pytest.approx([1 / 3] * 3, abs=0.01)
    assert plain.weight.softmax(0).tolist() == pytest.approx([1 / 2, 1 / 3, 1 / 6], abs=0.01)


# --- views that are for training only


NEAR = ("apex-2", "apex-1", "apex+1", "apex+2")


@pytest.fixture
def near(tmp_path):
    """25, 11 and 8 clips of a class; an apex view each and four near it. x is (clip, view)."""
    y = np.repeat([0, 1, 2], [25, 11, 8])
    keys = [f"d/s{index % 6}/{index:03d}" for index in range(len(y))]
    views = {
        key: [
            View(name, {"x": np.array([index, number, 0], np.float32)}, train_only=name != "apex")
            for number, name in enumerate(("apex", *NEAR))
        ]
        for index, key in enumerate(keys)
    }
    packed = samples.pack(tmp_path / "near", views, {"x": ("clip", "view", "-")})
    return samples.training(packed, dict(zip(keys, y.tolist(), strict=True)), 3)


def test_views_are_added_until_the_classes_are_even(near):
    network = fitted(Witness, near, Recipe(epochs=3, batch=300, balance="views"))
    assert len(network.targets) == 3
    seen = [batch["x"].numpy() for batch in network.seen]
    for x, target in zip(seen, network.targets, strict=True):
        assert target.sum(0).tolist() == [40, 40, 40]  # five times the eight of the rarest
        assert len(np.unique(x, axis=0)) == 120  # none twice
        assert sorted(x[x[:, 1] == 0, 0].tolist()) == list(range(44))  # every clip at its apex
    more = [{tuple(row) for row in x.tolist() if row[1]} for x in seen]
    assert more[0] != more[1]


@pytest.mark.parametrize(("limit", "counts"), [(1, [25, 11, 8]), (2, [25, 16, 16]), (9, [72, 55, 40])])
def test_the_limit_of_views_and_their_number(near, limit, counts):
    """At nine, the rarer classes have no more than five views a clip."""
    network = fitted(Witness, near, Recipe(epochs=1, batch=300, balance="views", balance_limit=limit))
    assert network.targets[0].sum(0).tolist() == counts


def test_one_seed_draws_the_same_views(near):
    recipe = QUICK.model_copy(update={"balance": "views"})
    first, again, other = (fitted(Noisy, near, recipe, seed) for seed in (0, 0, 1))
    assert weights(first) == weights(again)
    assert weights(first) != weights(other)


def test_views_for_training_are_neither_tested_nor_on_both_sides(near):
    rest, held = training.split_groups(near, 0.34, 0)
    groups = [{str(key).rpartition("/")[0] for key in part.keys[part.rows]} for part in (rest, held)]
    assert not groups[0] & groups[1]
    assert set(samples.tested(held).views[samples.tested(held).rows]) == {"apex"}
    testing = samples.testing(near, [str(key) for key in near.keys[held.rows]])
    assert set(testing.views[testing.rows]) == {"apex"}

    class Judged(Linear):
        def __init__(self):
            super().__init__()
            self.judged = []

        def forward(self, x):
            if not self.training:
                self.judged.append(x.detach().clone())
            return super().forward(x)

    recipe = QUICK.model_copy(update={"balance": "views", "patience": 2, "inner_share": 0.34})
    network = fitted(Judged, near, recipe)
    assert not torch.cat(network.judged)[:, 1].any()


def test_views_want_some_that_are_for_training_only(toy):
    with pytest.raises(UserError, match=r"want views that are for training only.*input\.near"):
        fitted(Linear, toy, Recipe(balance="views"))


# --- augmentation in the loop


def test_jitter_reads_one_number_as_four():
    assert Recipe(jitter=0.2).jitter == (0.2,) * 4
    assert Recipe(jitter=[0.2, 0.1, 0, 0.5]).jitter == (0.2, 0.1, 0, 0.5)
    for wrong in (-0.1, 0.6, (0.2, 0.2), (2, 0, 0, 0), "strong"):
        with pytest.raises(ValidationError):
            Recipe(jitter=wrong)


@pytest.fixture
def photos(tmp_path):
    """12 pictures in colours, a wheel of the same, and flow."""
    face = np.random.default_rng(0).integers(40, 200, (12, 3, 6, 6)).astype(np.uint8)
    arrays = {"face": face, "wheel": face, "flow": np.random.default_rng(1).normal(size=(12, 2, 6, 6)).astype("f4")}
    names = {"face": ("r", "g", "b"), "wheel": ("wheel_r", "wheel_g", "wheel_b"), "flow": ("u", "v")}
    return pack(tmp_path / "photos", arrays, np.arange(12) % 3, names)


def test_jitter_changes_colours_in_training_and_nothing_else(photos):
    recipe = Recipe(epochs=2, batch=12, jitter=0.2)
    network = fitted(Witness, photos, recipe)
    first, second = network.seen[:2]
    flow = np.sort(photos.x["flow"][photos.rows].ravel())
    assert np.array_equal(np.sort(first["flow"].numpy().ravel()), flow)
    torch.testing.assert_close(first["face"], first["wheel"])
    assert not np.isin(np.round(255 * first["face"].numpy(), 3) % 1, 0).all()
    assert not torch.equal(first["face"].sort(0).values, second["face"].sort(0).values)
    again = fitted(Witness, photos, recipe)
    assert torch.equal(again.seen[1]["face"], second["face"])
    network.seen.clear()
    training.predict(network, photos, recipe)
    plain = torch.from_numpy(photos.x["face"][photos.rows]).float() / 255
    assert torch.equal(network.seen[0]["face"], plain)


def test_prediction_is_not_augmented_and_crops_the_centre(photos):
    """The published code of BOWAM turns the pictures that it validates on at random."""
    recipe = Recipe(batch=12, flip=True, rotate_deg=8, jitter=0.2, crop=4)
    network = Witness()
    once, twice = (training.predict(network, photos, recipe) for _ in range(2))
    assert np.array_equal(once, twice)
    centre = torch.from_numpy(photos.x["face"][photos.rows][..., 1:5, 1:5]).float() / 255
    for seen in network.seen:
        assert torch.equal(seen["face"], centre)


# --- learning


@pytest.mark.parametrize("optimiser", ["adam", "adamw", "sgd"])
def test_a_separable_problem_is_learned(toy, optimiser):
    recipe = Recipe(epochs=40, batch=16, lr=0.05, optimiser=optimiser, schedule="cosine", weight_decay=1e-4)
    context = Context(seed=0)
    torch.manual_seed(0)
    network = training.fit(Linear(), toy, None, recipe, context)
    probs = training.predict(network, toy, recipe)
    assert (probs.argmax(1) == toy.y).all()
    assert context.log["loss"][-1] < context.log["loss"][0] / 3
    assert context.log["train_accuracy"][-1] == 1


def test_one_seed_one_result(toy):
    recipe = QUICK.model_copy(update={"mixup": 0.4, "balance": "sampler"})
    first, again, other = (fitted(Noisy, toy, recipe, seed) for seed in (0, 0, 1))
    assert weights(first) == weights(again)
    assert weights(first) != weights(other)
    probs = [training.predict(network, toy, recipe).tobytes() for network in (first, again)]
    assert probs[0] == probs[1]


def test_the_order_does_not_depend_on_what_the_network_draws(toy):
    class Drawing(Witness):
        def forward(self, **x):
            torch.rand(3)
            return super().forward(**x)

    silent, drawing = (fitted(kind, toy, QUICK) for kind in (Witness, Drawing))
    assert torch.equal(torch.cat(silent.targets), torch.cat(drawing.targets))


def test_every_epoch_has_another_order_and_every_sample_once(toy):
    network = fitted(Witness, toy, Recipe(epochs=3, batch=60))
    orders = [seen["x"] for seen in network.seen if len(seen["x"]) == 60][:3]
    assert not torch.equal(orders[0], orders[1])
    wanted = np.sort(toy.x["x"][toy.rows], axis=0)
    assert all(np.array_equal(np.sort(order.numpy(), axis=0), wanted) for order in orders)


def test_a_last_batch_of_one_joins_the_one_before(toy):
    part = samples.take(toy, np.arange(33))
    assert [len(target) for target in fitted(Witness, part, Recipe(epochs=1, batch=16)).targets] == [16, 17]
    part = samples.take(toy, np.arange(34))
    assert [len(target) for target in fitted(Witness, part, Recipe(epochs=1, batch=16)).targets] == [16, 16, 2]
    part = samples.take(toy, np.arange(1))
    assert [len(target) for target in fitted(Witness, part, Recipe(epochs=1, batch=16)).targets] == [1]


def test_a_trace_changes_nothing(toy):
    trace = []

    def look(epoch, network):
        with torch.random.fork_rng(devices=[]):
            torch.rand(5)
            trace.append((epoch, training.predict(network, toy, QUICK)))

    with_trace, without = fitted(Noisy, toy, QUICK, after_epoch=look), fitted(Noisy, toy, QUICK)
    assert weights(with_trace) == weights(without)
    assert [epoch for epoch, _ in trace] == [0, 1, 2, 3, 4]
    assert not np.array_equal(trace[0][1], trace[4][1])
    assert np.array_equal(trace[4][1], training.predict(with_trace, toy, QUICK))


def test_first_epoch_moves_the_numbering_and_draws_another_order(toy):
    numbers = []
    later = fitted(Noisy, toy, QUICK, first_epoch=7, after_epoch=lambda epoch, network: numbers.append(epoch))
    assert numbers == [7, 8, 9, 10, 11]
    assert weights(later) != weights(fitted(Noisy, toy, QUICK))


# --- hooks of a network


def test_own_loss_and_progress(toy):
    network = fitted(Witness, toy, Recipe(epochs=4, batch=30))
    assert network.progress == [0, 0, 0.25, 0.25, 0.5, 0.5, 0.75, 0.75]
    target = torch.cat(network.targets)
    assert target.shape == (240, 3)
    assert torch.equal(target.sum(1), torch.ones(240))


def test_own_probabilities(toy):
    class Halved(Linear):
        def probabilities(self, output):
            return torch.cat([torch.full_like(output[:, :1], 0.5), output[:, 1:].softmax(-1) / 2], dim=1)

    probs = training.predict(Halved(), toy, QUICK)
    assert (probs[:, 0] == 0.5).all()
    assert np.allclose(probs.sum(1), 1)
    assert (probs.shape, probs.dtype) == ((60, 3), np.float32)


@pytest.mark.parametrize(
    "changes",
    [
        {"mixup": 0.4},
        {"smoothing": 0.1},
        {"criterion": "focal"},
        {"amp": "bf16"},
        {"mixup": 1.0, "smoothing": 0.2, "criterion": "focal", "balance": "weights", "amp": "bf16"},
    ],
)
def test_every_choice_learns(toy, changes):
    recipe = Recipe(epochs=30, batch=16, lr=0.05, **changes)
    context = Context(seed=0)
    torch.manual_seed(0)
    network = training.fit(Linear(), toy, None, recipe, context)
    assert np.isfinite(context.log["loss"]).all()
    probs = training.predict(network, toy, recipe)
    assert np.allclose(probs.sum(1), 1, atol=1e-5)
    assert (probs.argmax(1) == toy.y).mean() > 0.95


def test_targets_of_smoothing_and_mixup(toy):
    smooth = drawn(toy, Recipe(epochs=1, smoothing=0.3))
    assert sorted(set(smooth.flatten().tolist())) == pytest.approx([0.1, 0.8])
    mixed = drawn(toy, Recipe(epochs=1, mixup=1.0))
    torch.testing.assert_close(mixed.sum(1), torch.ones(60))
    assert ((mixed > 0) & (mixed < 1)).any()


def test_a_criterion_that_a_loss_of_its_own_would_not_use_is_refused():
    class Own(nn.Linear):
        def loss(self, output, target, progress):
            return output.sum(-1)

    recipe = training.Recipe(criterion="focal")
    with pytest.raises(UserError, match="for a network with a loss of its own, got 'focal'"):
        training._losses(Own(2, 2), torch.zeros(1, 2), torch.eye(2)[:1], recipe, 0.0)


def test_focal_loss_value(tmp_path):
    train = pack(tmp_path / "one", {"x": np.array([[1.0, 0, 0]] * 4, np.float32)}, np.zeros(4), {"x": ("a", "b", "c")})
    network = Linear()
    nn.init.eye_(network.layer.weight)
    nn.init.zeros_(network.layer.bias)
    p = np.e / (np.e + 2)
    for criterion, wanted in (("ce", -np.log(p)), ("focal", -((1 - p) ** 2) * np.log(p))):
        context = Context(seed=0)
        training.fit(network, train, None, Recipe(epochs=1, lr=1e-9, criterion=criterion), context)
        assert context.log["loss"] == pytest.approx([wanted], rel=1e-5)


# --- early stopping


class Scripted(nn.Module):
    """Decides by a weight that grows by one a step: the script says how well each epoch does."""

    def __init__(self, script):
        super().__init__()
        self.step = nn.Parameter(torch.zeros(1))
        self.script, self.trained, self.judged = script, [], []

    def forward(self, x):
        epoch = round(float(self.step.detach()))
        (self.trained if self.training else self.judged).append(x[:, 3].detach().clone())
        right = torch.arange(len(x)) < round(self.script[epoch] * len(x))
        guess = torch.where(right[:, None], x[:, :3], x[:, :3].roll(1, dims=1))
        return 9 * guess + 0 * self.step

    def loss(self, output, target, progress):
        # plain gradient descent with momentum .9 adds exactly one where the gradient makes up for the momentum
        return (output.sum() * 0 + (-1 if progress == 0 else -0.1) * self.step).expand(len(output))


@pytest.fixture
def numbered(tmp_path):
    """One-hot classes and the sample's subject; 10 subjects, 3 clips each."""
    y = np.arange(30) // 10
    x = np.concatenate([np.eye(3)[y], (np.arange(30) % 10)[:, None]], axis=1).astype(np.float32)
    return pack(tmp_path / "numbered", {"x": x}, y, {"x": ("a", "b", "c", "subject")}, subjects=10)


STOP = Recipe(epochs=9, batch=64, lr=1.0, optimiser="sgd", patience=2, inner_share=0.3)


def stopped(numbered, script, valid=None):
    network, states = Scripted(script), []
    fitted(network, numbered, STOP, valid=valid, after_epoch=lambda epoch, net: states.append(net.step.item()))
    return network, states


def test_early_stopping_restores_the_best_epoch(numbered):
    network, states = stopped(numbered, [0, 0.3, 0.9, 0.6, 0.6, 1.0, 1, 1, 1, 1])
    assert states == pytest.approx([1, 2, 3, 4])  # two epochs without a better one end it before the best of all
    assert network.step.item() == pytest.approx(2)


def test_the_earliest_of_equally_good_epochs_stays(numbered):
    network, states = stopped(numbered, [0, 0.6, 0.6, 0.6, 1, 1, 1, 1, 1, 1])
    assert (network.step.item(), len(states)) == (pytest.approx(1), 3)


def test_without_patience_the_last_epoch_counts(numbered):
    network = Scripted([1.0] * 20)
    fitted(network, numbered, STOP.model_copy(update={"patience": 0}))
    assert network.step.item() == pytest.approx(9)
    assert network.judged == []


def test_early_stopping_looks_only_at_subjects_that_do_not_train(numbered):
    network, _ = stopped(numbered, [1.0] * 20)
    trained = set(torch.cat(network.trained).tolist())
    judged = set(torch.cat(network.judged).tolist())
    assert len(judged) == 3
    assert trained | judged == set(range(10))
    assert not trained & judged
    for seed in (0, 3):
        network = fitted(Scripted([1.0] * 20), numbered, STOP, seed)
        held = training.split_groups(numbered, STOP.inner_share, seed)[1]
        assert set(torch.cat(network.judged).tolist()) == set((held.rows % 10).tolist())


def test_a_validation_part_is_used_as_it_is(numbered):
    rest, valid = training.split_groups(numbered, 0.2, 5)
    network, _ = stopped(rest, [1.0] * 20, valid)
    subjects = {int(str(key).split("/")[1][1:]) for key in valid.keys[valid.rows]}
    assert set(torch.cat(network.judged).tolist()) == subjects
    assert len(torch.cat(network.trained).unique()) == 8


def test_the_score_is_uf1_not_accuracy(toy):
    """Always saying the frequent class has accuracy .5 but UF1 .22: a fairer epoch with less accuracy wins."""
    always, fair = np.zeros(60, int), np.where(np.arange(60) % 5 < 2, toy.y, (toy.y + 1) % 3)
    scores = [metrics.uf1(counting.confusion(toy.y, guess, 3)) for guess in (always, fair)]
    assert scores[1] > scores[0]
    assert (fair == toy.y).mean() < (always == toy.y).mean()

    class Two(nn.Module):
        def __init__(self):
            super().__init__()
            self.step = nn.Parameter(torch.zeros(1))

        def forward(self, x):
            guess = always if self.step.item() < 1.5 else fair
            return 9 * torch.eye(3)[torch.from_numpy(guess[: len(x)])] + 0 * self.step

        def loss(self, output, target, progress):
            return (-self.step if progress == 0 else -0.1 * self.step).expand(len(output))

    recipe = Recipe(epochs=2, batch=64, lr=1.0, optimiser="sgd", patience=2)
    assert fitted(Two, toy, recipe, valid=toy).step.item() == pytest.approx(2)


# --- splitting by subject


def test_split_groups(numbered):
    rest, held = training.split_groups(numbered, 0.3, 0)
    groups = [{str(key).rpartition("/")[0] for key in part.keys[part.rows]} for part in (rest, held)]
    assert [len(group) for group in groups] == [7, 3]
    assert not groups[0] & groups[1]
    assert len(rest) + len(held) == 30
    assert held.y.tolist() == (np.flatnonzero(np.isin(numbered.rows, held.rows)) // 10).tolist()
    assert np.array_equal(training.split_groups(numbered, 0.3, 0)[1].rows, held.rows)
    others = [training.split_groups(numbered, 0.3, seed)[1].rows.tolist() for seed in range(1, 6)]
    assert any(other != held.rows.tolist() for other in others)


@pytest.mark.parametrize("share", [0.001, 0.999])
def test_a_split_leaves_subjects_on_both_sides(numbered, share):
    rest, held = training.split_groups(numbered, share, 0)
    assert min(len(rest), len(held)) == 3


def test_equal_names_in_two_corpora_are_two_subjects(tmp_path):
    views = {f"{corpus}/s1/{i}": [View("v", {"x": np.zeros(3, np.float32)})] for corpus in "ab" for i in range(3)}
    packed = samples.pack(tmp_path, views, {"x": ("a", "b", "c")})
    rest, held = training.split_groups(samples.training(packed, dict.fromkeys(views, 0), 3), 0.5, 0)
    assert len({str(key)[0] for key in held.keys[held.rows]}) == 1
    assert (len(rest), len(held)) == (3, 3)


def test_one_subject_cannot_be_split(numbered):
    one = samples.take(numbered, np.flatnonzero(numbered.rows % 10 == 0))
    with pytest.raises(UserError, match=r"want at least two training subjects to split, got one; set recipe\.patience"):
        training.fit(Linear(), one, None, STOP, Context(seed=0))


# --- what goes wrong


def test_a_loss_that_is_not_finite_names_the_epoch(toy):
    class Bursting(Linear):
        def loss(self, output, target, progress):
            return output.sum(-1) * (float("nan") if progress >= 0.4 else 1)

    with pytest.raises(UserError, match=r"want a finite loss, got nan in epoch 12; lower recipe\.lr"):
        fitted(Bursting, toy, QUICK, first_epoch=10)


def test_nothing_to_train_on(toy):
    for empty in (samples.testing(toy, ["d/s0/000"]), samples.take(toy, np.arange(0))):
        with pytest.raises(UserError, match="want labelled training samples, got none"):
            fitted(Linear, empty, QUICK)


# --- what the network is given


def seen_by(network, selection, recipe):
    network.seen.clear()
    training.predict(network, selection, recipe)
    return {name: torch.cat([seen[name] for seen in network.seen]) for name in network.seen[0]}


def test_prediction_sees_the_samples_in_order_untouched(pictures):
    recipe = Recipe(batch=5, flip=True, rotate_deg=20, mixup=1.0, balance="sampler")
    seen = seen_by(Witness(), pictures, recipe)
    assert np.array_equal(seen["flow"].numpy(), pictures.x["flow"])
    assert seen["flow"].dtype == torch.float32


def test_bytes_come_as_zero_to_one(pictures):
    seen = seen_by(Witness(), pictures, Recipe())
    assert np.allclose(seen["face"].numpy() * 255, pictures.x["face"])
    assert seen["face"].max() == 1


def test_prediction_crops_the_centre_and_training_anywhere(pictures):
    recipe = Recipe(epochs=30, batch=6, crop=4)
    network = fitted(Witness, pictures, recipe)
    corners = {int(seen["flow"][0, 0, 0, 0]) % 72 for seen in network.seen}
    assert corners == {6 * row + column for row in range(3) for column in range(3)}
    seen = seen_by(network, pictures, recipe)
    assert np.array_equal(seen["flow"].numpy(), pictures.x["flow"][:, :, 1:5, 1:5])


def test_all_arrays_of_a_sample_are_moved_alike(tmp_path):
    place = np.arange(81).reshape(1, 1, 9, 9).repeat(12, 0)
    arrays = {"one": place.astype(np.uint8), "two": place.astype(np.float32) / 255}
    train = pack(tmp_path / "place", arrays, np.arange(12) % 3, {"one": ("grey",), "two": ("grey",)})
    network = fitted(Witness, train, Recipe(epochs=10, batch=4, flip=True, rotate_deg=30, crop=6))
    for seen in network.seen:
        torch.testing.assert_close(seen["one"], seen["two"])
    assert len({float(seen["one"][0, 0, 0, 0]) for seen in network.seen}) > 20


def test_half_of_the_training_samples_are_mirrored_all_their_arrays_alike(pictures):
    network = fitted(Witness, pictures, Recipe(epochs=50, batch=12, flip=True))
    mirrored = []
    plain = torch.from_numpy(np.array(pictures.x["flow"]))
    for seen in network.seen:
        for flow, face in zip(seen["flow"], seen["face"], strict=True):
            is_mirrored = bool(flow[0, 0, 0] <= 0 and flow[0].sum() < 0)
            original = plain[int(flow[1].min()) // 72]
            wanted = torch.stack([-original[0], original[1]]).flip(-1) if is_mirrored else original
            assert torch.equal(flow, wanted)
            assert bool(face[0, 1, 0] > face[0, 1, 1]) == is_mirrored
            mirrored.append(is_mirrored)
    assert np.mean(mirrored) == pytest.approx(0.5, abs=0.07)


def test_rotation_stays_within_its_limit(tmp_path):
    flow = np.zeros((12, 2, 8, 8), np.float32)
    flow[:, 0] = 1
    train = pack(tmp_path / "east", {"flow": flow}, np.arange(12) % 3, {"flow": ("u", "v")})
    network = fitted(Witness, train, Recipe(epochs=40, batch=12, rotate_deg=10))
    angles = torch.cat([torch.atan2(seen["flow"][:, 1, 4, 4], seen["flow"][:, 0, 4, 4]) for seen in network.seen])
    degrees = torch.rad2deg(angles)
    assert degrees.abs().max() <= 10.001
    assert degrees.max() > 9
    assert degrees.min() < -9
    assert degrees.mean() == pytest.approx(0, abs=1)


def test_what_does_not_fit_into_memory_gives_the_same_bytes(pictures, toy, monkeypatch):
    recipe = Recipe(epochs=3, batch=5, flip=True, crop=5)
    stored = fitted(Witness, pictures, recipe)
    kept = weights(fitted(Noisy, toy, QUICK))
    monkeypatch.setattr(training, "_IN_MEMORY_BYTES", 0)
    read = fitted(Witness, pictures, recipe)
    assert all(torch.equal(one["flow"], two["flow"]) for one, two in zip(stored.seen, read.seen, strict=True))
    assert weights(fitted(Noisy, toy, QUICK)) == kept


def test_prediction_does_not_depend_on_the_batch_and_leaves_modes_alone(toy):
    network = Noisy()  # partly in evaluation mode
    whole = training.predict(network, toy, Recipe(batch=60))
    assert np.allclose(whole, training.predict(network, toy, Recipe(batch=7)), atol=1e-6)
    assert network.training
    assert network.before.training
    assert not network.frozen.training
    network.eval()
    training.predict(network, toy, QUICK)
    assert not any(module.training for module in network.modules())


def test_the_samples_are_not_changed(pictures):
    before = {name: np.array(array) for name, array in pictures.x.items()}
    fitted(Witness, pictures, Recipe(epochs=2, flip=True, rotate_deg=20, mixup=0.5, crop=4))
    assert all(np.array_equal(pictures.x[name], before[name]) for name in before)


# --- MESA


def test_the_teacher_is_a_running_average_of_the_weights_and_has_their_statistics():
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))
    teacher = training._Teacher(network)
    values = []
    for step in range(1, 6):
        with torch.no_grad():
            for parameter in network.parameters():
                parameter.add_(step)
            network[1].running_mean += 1
        values.append(network[0].weight.detach().clone())
        teacher.follow(network)
    mean = values[0] - 1  # what it was before
    for step, value in enumerate(values, 1):
        mean = mean * step / (step + 10) + value * 10 / (step + 10)
    torch.testing.assert_close(teacher.network[0].weight, mean)
    assert torch.equal(teacher.network[1].running_mean, network[1].running_mean)
    assert not teacher.network.training
    assert not any(parameter.requires_grad for parameter in teacher.network.parameters())


def test_a_long_average_keeps_nearly_all():
    network = nn.Linear(2, 2)
    teacher = training._Teacher(network)
    before, teacher.steps = teacher.network.weight.clone(), 10**9
    with torch.no_grad():
        network.weight.add_(1)
    teacher.follow(network)
    torch.testing.assert_close(teacher.network.weight - before, torch.full((2, 2), 0.0002), rtol=1e-2, atol=0)


def test_the_trajectory_loss_is_a_divergence():
    wanted, probs = torch.tensor([[0.5, 0.5, 0.0], [1.0, 0.0, 0.0]]), torch.tensor([[0.25, 0.5, 0.25], [1.0, 0.0, 0.0]])
    assert training._divergence(wanted, probs).item() == pytest.approx(0.5 * np.log(2) / 2)
    assert training._divergence(probs, probs).item() == 0
    probs = probs.requires_grad_()
    training._divergence(wanted, probs).backward()
    assert torch.isfinite(probs.grad).all()


def test_mesa_begins_after_a_quarter_and_holds_the_network_back(toy):
    def trained(mesa, epochs):
        torch.manual_seed(0)
        recipe = Recipe(epochs=8, batch=16, lr=0.05, mesa=mesa)
        network, seen = Linear(), []
        context = Context(seed=1, after_epoch=lambda _, module: seen.append(module.layer.weight.detach().clone()))
        training.fit(network, toy, None, recipe, context)
        return seen[epochs]

    assert torch.equal(trained(0.0, 1), trained(5.0, 1))
    assert not torch.equal(trained(0.0, 2), trained(5.0, 2))
    assert trained(5.0, 7).norm() < trained(0.0, 7).norm()


def test_mesa_draws_nothing_of_its_own(toy):
    """Order and augmentation stay; weights of 0 would be another training."""
    losses = []
    for mesa in (0.0, 1e-12):
        torch.manual_seed(0)
        context = Context(seed=1)
        training.fit(Linear(), toy, None, Recipe(epochs=4, batch=16, lr=0.05, mixup=0.4, mesa=mesa), context)
        losses.append(context.log["loss"])
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)


def test_a_crop_of_nought_is_none() -> None:
    """TOML has no None, and some recipes crop."""
    assert Recipe(crop=0).crop is None
    assert Recipe(crop=20).crop == 20
    with pytest.raises(ValueError, match="greater than or equal to 1"):
        Recipe(crop=-1)
