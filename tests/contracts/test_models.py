"""What every model must do: decide for one sample as for many, learn everywhere, and come back from disk."""

import inspect

import numpy as np
import pytest
import torch
from test_inputs import made

from fleeting import config, plugins, samples, saving, training
from fleeting.records import Paper, View
from fleeting.training import Context, Recipe

CLASSES = 3


@pytest.fixture(scope="module", params=plugins.names("models"))
def name(request):
    return request.param


@pytest.fixture(scope="module")
def model(name):
    return plugins.load("models", name)


@pytest.fixture(scope="module")
def view(model):
    """A view of the model's own input, made from a made-up recording."""
    input_ = plugins.load("inputs", model.INPUT[0])
    return made(input_, input_.Options(**model.INPUT[1]))[0]


@pytest.fixture(scope="module")
def shapes(view):
    return {name: array.shape for name, array in view.x.items()}


@pytest.fixture(scope="module")
def train(model, view, tmp_path_factory):
    """Twelve views of four subjects, whose class shows in every array."""
    input_ = plugins.load("inputs", model.INPUT[0])
    options = input_.Options(**model.INPUT[1])
    labels = {f"d/s{index % 4}/{index:02d}": index // 4 for index in range(12)}
    views = {}
    for index, (key, label) in enumerate(labels.items()):
        x = {name: array.copy() for name, array in made(input_, options, index)[0].x.items()}
        for array in x.values():
            third = array.shape[-2] // CLASSES
            part = array[..., label * third : (label + 1) * third, :]
            part[:] = part // 2 + (100 if np.abs(array).max() > 10 else 1)
        views[key] = [View("v", x)]
    packed = samples.pack(tmp_path_factory.mktemp("packed"), views, input_.channels(options))
    return samples.training(packed, labels, CLASSES)


@pytest.fixture(autouse=True)
def _one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


RECIPE = Recipe(epochs=2, batch=6, lr=1e-3)


def small(model, shapes, seed=0):
    torch.manual_seed(seed)
    return model.build(shapes, CLASSES, model.SMALL)


def fitted(model, train, seed=0, recipe=RECIPE, **context):
    fit = getattr(model, "fit", training.fit)
    network = small(model, samples.shapes(train), seed)
    return fit(network, train, None, recipe, Context(seed=seed, **context))


def batch(train, count):
    rows = train.rows[:count]
    scale = {name: 255 if array.dtype == np.uint8 else 1 for name, array in train.x.items()}
    return {name: torch.from_numpy(array[rows]).float() / scale[name] for name, array in train.x.items()}


def weights(network):
    return {name: tensor.numpy().tobytes() for name, tensor in network.state_dict().items()}


def test_what_is_said_about_it(model):
    paper = model.PAPER
    assert isinstance(paper, Paper)
    assert paper.title
    assert paper.venue
    assert 1990 < paper.year < 2100
    assert paper.doi == "" or paper.doi.startswith("10.")
    assert all(sentence.endswith(".") and len(sentence) > 40 for sentence in paper.deviations)
    assert isinstance(model.RECIPE, Recipe)
    assert isinstance(model.SMALL, model.Options)
    input_, options = model.INPUT
    assert plugins.load("inputs", input_).Options(**options)


def test_a_fit_of_its_own_has_the_common_signature(model):
    fit = getattr(model, "fit", training.fit)
    assert list(inspect.signature(fit).parameters) == list(inspect.signature(training.fit).parameters)


@pytest.mark.parametrize("count", [1, 4])
@pytest.mark.parametrize("trained", [False, True])
def test_probabilities_of_one_and_of_four(model, shapes, train, count, trained):
    if not trained and hasattr(model, "fit"):
        pytest.skip("decides nothing before its own fit")
    network = (fitted(model, train) if trained else small(model, shapes)).eval()
    with torch.no_grad():
        probs = training.probabilities(network, network(**batch(train, count)))
    assert probs.shape == (count, CLASSES)
    assert torch.isfinite(probs).all()
    assert probs.min() >= 0
    torch.testing.assert_close(probs.sum(1), torch.ones(count), rtol=0, atol=1e-5)


def test_a_decision_does_not_depend_on_the_others_in_the_batch(model, train):
    network = fitted(model, train)
    together = training.predict(network, train, RECIPE.model_copy(update={"batch": 12}))
    alone = training.predict(network, train, RECIPE.model_copy(update={"batch": 1}))
    assert np.allclose(together, alone, atol=1e-4)
    assert np.abs(together - together[0]).max() > 1e-6  # and it is not the same for all


def test_every_parameter_gets_a_gradient(model, shapes, train):
    network = small(model, shapes).train()
    parameters = dict(network.named_parameters())
    if not parameters:
        assert hasattr(model, "fit")
        return
    output = network(**batch(train, 4))
    target = torch.eye(CLASSES)[[0, 1, 2, 0]]
    loss = getattr(network, "loss", None)
    losses = loss(output, target, 0.5) if loss else -(target * output.log_softmax(-1)).sum(-1)
    assert losses.shape == (4,)
    losses.mean().backward()
    without = [name for name, parameter in parameters.items() if parameter.requires_grad and parameter.grad is None]
    assert not without
    assert all(torch.isfinite(parameter.grad).all() for parameter in parameters.values() if parameter.requires_grad)
    assert sum(bool(parameter.grad.any()) for parameter in parameters.values()) >= len(parameters) / 2


def test_one_seed_one_result(model, train):
    first, again = fitted(model, train), fitted(model, train)
    assert weights(first) == weights(again)
    probs = [training.predict(network, train, RECIPE).tobytes() for network in (first, again)]
    assert probs[0] == probs[1]


def test_another_seed_is_another_network(model, shapes):
    first, other = small(model, shapes), small(model, shapes, seed=1)
    if not list(first.parameters()):
        pytest.skip("draws nothing")
    assert weights(first) != weights(other)


def test_a_trace_sees_every_epoch_and_changes_nothing(model, train):
    epochs = []

    def look(epoch, network):
        with torch.random.fork_rng(devices=[]):
            epochs.append(epoch)
            training.predict(network, train, RECIPE)

    traced = fitted(model, train, after_epoch=look)
    assert epochs == (list(range(RECIPE.epochs)) if not hasattr(model, "fit") else epochs)
    assert epochs
    assert weights(traced) == weights(fitted(model, train))


def test_it_learns_what_is_plain_to_see(model, train):
    recipe = Recipe(epochs=60, batch=12, lr=1e-3)
    probs = training.predict(fitted(model, train, recipe=recipe), train, recipe)
    assert (probs.argmax(1) == train.y).mean() > 0.8


def test_forward_is_head_of_features(model, shapes, train):
    network = small(model, shapes).eval()
    if not (hasattr(network, "features") and hasattr(network, "head")):
        pytest.skip("explained by gradient times input")
    x = batch(train, 2)
    with torch.no_grad():
        features = network.features(**x)
        torch.testing.assert_close(network.head(features), network(**x))
    assert features.ndim == 4
    assert len(features) == 2
    assert min(features.shape[2:]) > 1


def test_inputs_are_not_changed_and_can_be_asked_for_their_gradient(model, train):
    network = fitted(model, train).eval()
    x = {name: array.requires_grad_() for name, array in batch(train, 2).items()}
    before = {name: array.detach().clone() for name, array in x.items()}
    training.probabilities(network, network(**x))[:, 0].sum().backward()
    for name, array in x.items():
        assert torch.equal(array.detach(), before[name])
        assert torch.isfinite(array.grad).all()


def test_saved_and_read_it_decides_the_same(name, model, train, tmp_path):
    network = fitted(model, train)
    experiment = config.resolve({"model": {"name": name, **model.SMALL.model_dump(mode="json", exclude_none=True)}})
    header = {
        "experiment": config.plain(experiment),
        "classes": ["a", "b", "c"],
        "shapes": {name: list(shape) for name, shape in samples.shapes(train).items()},
    }
    saving.write(tmp_path / "model", network, header)
    assert sorted(path.name for path in (tmp_path / "model").iterdir()) == ["model.safetensors", "model.toml"]
    again, read = saving.read(tmp_path / "model")
    assert read == header
    assert not again.training
    assert weights(again) == weights(network)
    assert np.array_equal(training.predict(again, train, RECIPE), training.predict(network, train, RECIPE))


def test_the_number_of_parameters_is_the_published_one(model, shapes):
    with torch.device("meta"):
        network = model.build(shapes, model.PAPER.classes, model.Options())
    count = sum(parameter.numel() for parameter in network.parameters())
    assert count == (model.PAPER.parameters or 0)


@pytest.mark.parametrize("classes", [2, 5, 7])
def test_any_number_of_classes(model, shapes, train, classes):
    torch.manual_seed(0)
    network = model.build(shapes, classes, model.SMALL)
    if hasattr(model, "fit"):
        labels = {str(key): min(index // 2, classes - 1) for index, key in enumerate(train.keys)}
        network = model.fit(network, samples.training(train, labels, classes), None, RECIPE, Context(seed=0))
    network.eval()
    with torch.no_grad():
        assert training.probabilities(network, network(**batch(train, 3))).shape == (3, classes)


def test_options_are_closed(model):
    with pytest.raises(ValueError, match="Extra inputs are not permitted"):
        model.Options(no_such_option=1)
