"""The machine on any numbers: scikit-learn's decisions with each kernel, several arrays, and Bi-WOOF the whole way."""

import numpy as np
import pytest
import torch
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

from fleeting import config, deciding, experiment, plugins, samples
from fleeting.datasets import simulated
from fleeting.errors import UserError
from fleeting.models import _machine, svm
from fleeting.records import View
from fleeting.training import Context


@pytest.fixture
def train(tmp_path):
    """60 clips of three classes: a vector, and a picture in bytes."""
    rng = np.random.default_rng(0)
    y = np.arange(60) % 3
    vector = rng.normal(0, 1, (60, 4, 3, 1)).astype(np.float32)
    vector[np.arange(60), y] += 0.8
    picture = rng.integers(0, 256, (60, 1, 2, 2)).astype(np.uint8)
    keys = [f"d/s{index % 5}/{index:02d}" for index in range(60)]
    views = {key: [View("v", {"b": vector[i], "a": picture[i]})] for i, key in enumerate(keys)}
    packed = samples.pack(tmp_path, views, {"b": tuple("1234"), "a": ("grey",)})
    return samples.training(packed, dict(zip(keys, y.tolist(), strict=True)), 3)


def fitted(train, classes=3, **options):
    network = svm.build(samples.shapes(train), classes, svm.Options(**options))
    return svm.fit(network, train, None, svm.RECIPE, Context(seed=0))


def numbers(train):
    """In the order of the arrays' names; bytes over 255 in single precision, as everywhere in training."""
    bytes_ = train.x["a"].reshape(60, -1).astype(np.float32) / np.float32(255)
    return np.concatenate([bytes_, train.x["b"].reshape(60, -1)], 1).astype(np.float64)


@pytest.mark.parametrize("kernel", ["linear", "rbf"])
@pytest.mark.parametrize("weights", ["balanced", "none"])
def test_decisions_are_those_of_scikit_learn(train, kernel, weights):
    part = samples.take(train, np.flatnonzero((train.y > 0) | (np.arange(60) % 2 == 0)))
    network = fitted(part, kernel=kernel, weights=weights, C=3.0)
    rows = numbers(train)
    scaler = StandardScaler().fit(rows[part.rows])
    class_weight = None if weights == "none" else weights
    machine = SVC(C=3.0, kernel=kernel, class_weight=class_weight, decision_function_shape="ovo")
    machine.fit(scaler.transform(rows[part.rows]), part.y)
    x = {"a": torch.from_numpy(np.array(train.x["a"])).float() / 255, "b": torch.from_numpy(np.array(train.x["b"]))}
    with torch.no_grad():
        found = network.decided(network.describe(**x)).numpy()
        probs = network.probabilities(network(**x)).numpy()
    np.testing.assert_allclose(found, machine.decision_function(scaler.transform(rows)), atol=1e-9)
    assert (probs.argmax(1) == machine.predict(scaler.transform(rows))).all()


def test_without_standardising_large_numbers_decide(train):
    plain, scaled = (fitted(train, standardise=value) for value in (False, True))
    assert plain.mean.tolist() == [0] * 16
    assert plain.scale.tolist() == [1] * 16
    assert scaled.scale.min() > 0
    assert not torch.equal(plain.mean, scaled.mean)


def test_pictures_are_refused():
    with pytest.raises(UserError, match=r"want up to 20000 numbers a clip, got 172800.*form = 'vector'"):
        svm.build({"flow": (3, 240, 240)}, 3, svm.Options())
    with pytest.raises(UserError, match="got 0"):
        svm.build({}, 3, svm.Options())


@pytest.mark.parametrize(("feature", "numbers"), [("biwoof", 200), ("mdmo", 72), ("hoof", 200)])
def test_published_features_the_whole_way(tmp_path, monkeypatch, feature, numbers):
    root = tmp_path / "simulated"
    simulated.write_standin(root)
    monkeypatch.setenv("FLEETING_SIMULATED", str(root))
    tables = {
        "datasets": ["simulated"], "flow": {"name": "dis"}, "model": {"name": "svm"},
        "input": {"name": "histograms", "feature": feature, "form": "vector"},
    }  # fmt: skip
    resolved = config.resolve(tables)
    assert plugins.load("models", "svm").INPUT[0] == resolved.input.name
    experiment.train(resolved, tmp_path / "model")
    (found,) = deciding.predict(tmp_path / "model", ["simulated/s01/c02"])
    assert sum(found["probabilities"].values()) == pytest.approx(1)
    from fleeting import saving

    network, _ = saving.read(tmp_path / "model")
    assert network.mean.shape == (numbers,)
    assert network.kernel == "linear"


def test_a_crop_is_refused():
    network = svm.build({"feature": (8,)}, 3, svm.Options())
    with pytest.raises(UserError, match=r"want recipe\.crop = 0 for a support vector machine"):
        _machine.fit(network, None, None, svm.RECIPE.model_copy(update={"crop": 4}), Context(seed=0))
