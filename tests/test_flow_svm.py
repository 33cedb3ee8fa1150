"""The support vector machine as a network: scikit-learn's decisions, votes, saving, and its score on real flow."""

import csv
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC
from torch import nn

from fleeting import counting, metrics, samples
from fleeting.errors import UserError
from fleeting.models import flow_svm
from fleeting.records import Array, Samples, View
from fleeting.training import Context, predict

SHAPES = {"flow": (3, 28, 28)}
CHANNELS = {"flow": ("u255", "v255", "strain255")}


pytestmark = pytest.mark.usefixtures("one_thread")


def pack(folder: Path, flow: Array, keys: list[str]) -> Samples:
    return samples.pack(folder, {key: [View("apex", {"flow": x})] for key, x in zip(keys, flow, strict=True)}, CHANNELS)


def made_up(classes: int, count: int = 60) -> tuple[Array, Array]:
    """Blobs at places that depend on the class, with noise that makes some of them ambiguous."""
    random = np.random.default_rng(classes)
    y = random.integers(0, classes, count)
    flow = random.normal(0, 1, (count, 3, 28, 28)).astype(np.float32)
    for row, c in enumerate(y):
        flow[row, c % 2, 4 * c : 4 * c + 6] += 0.5
    flow[:, 2] = np.abs(flow[:, 2])
    return flow, y


def fitted(tmp_path: Path, flow: Array, y: Array, classes: int, **options: float) -> tuple[nn.Module, Context]:
    keys = [f"made/s{number % 7}/c{number:03d}" for number in range(len(y))]
    packed = pack(tmp_path, flow, keys)
    train = samples.training(packed, dict(zip(keys, y.tolist(), strict=True)), classes)
    network = flow_svm.build(SHAPES, classes, flow_svm.Options(**options))
    context = Context(seed=0)
    return flow_svm.fit(network, train, None, flow_svm.RECIPE, context), context


def probabilities(network: nn.Module, flow: Array) -> Array:
    with torch.inference_mode():
        return network.probabilities(network(flow=torch.from_numpy(flow))).numpy()


@pytest.mark.parametrize("classes", [2, 3, 5])
def test_decisions_and_votes_are_those_of_scikit_learn(tmp_path: Path, classes: int) -> None:
    flow, y = made_up(classes)
    network, context = fitted(tmp_path, flow, y, classes)
    features = flow_svm.describe(flow)
    scaler = StandardScaler().fit(features)
    machine = SVC(class_weight="balanced", decision_function_shape="ovo").fit(scaler.transform(features), y)
    # pictures of no class at all: every pattern of votes occurs
    test = np.random.default_rng(9).normal(0, 1, (200, 3, 28, 28)).astype(np.float32)
    rows = scaler.transform(flow_svm.describe(test))
    want = machine.decision_function(rows).reshape(len(rows), -1) * (-1 if classes == 2 else 1)
    with torch.no_grad():
        np.testing.assert_allclose(network.decisions(torch.from_numpy(test)).numpy(), want, atol=1e-9)
    probs = probabilities(network, test)
    np.testing.assert_array_equal(probs.argmax(1), machine.predict(rows))
    np.testing.assert_allclose(probs.sum(1), 1, rtol=1e-5)
    assert (probs >= 0).all()
    guess = machine.predict(scaler.transform(features))
    assert context.log["train_accuracy"] == [pytest.approx((guess == y).mean())]
    assert set(context.log) == {"loss", "train_accuracy", "learning_rate"}


def test_on_ties_the_lower_class_wins() -> None:
    network = flow_svm.build(SHAPES, 3, flow_svm.SMALL)
    network.present.fill_(True)
    # 1 beats 0, 0 beats 2, 2 beats 1: a vote each, and the margins speak for 2
    votes, margins = network._count(torch.tensor([[-0.1, 0.1, -5.0]], dtype=torch.float64))
    assert votes.tolist() == [[1, 1, 1]]
    assert margins.argmax() == 2
    probs = network.probabilities((votes + margins / (3 * (margins.abs() + 1))).float())
    assert probs.argmax() == 0
    assert probs[0, 2] > probs[0, 1]


@pytest.mark.parametrize("seen", [(1,), (0, 2), (1, 2)])
def test_absent_classes_get_nothing(tmp_path: Path, seen: tuple[int, ...]) -> None:
    flow, y = made_up(len(seen))
    network, _ = fitted(tmp_path, flow, np.array(seen)[y] if len(seen) > 1 else np.full(len(y), seen[0]), 3)
    probs = probabilities(network, flow)
    assert set(probs.argmax(1)) == set(seen)
    assert (probs[:, [c for c in range(3) if c not in seen]] == 0).all()
    if len(seen) == 2:
        assert (probs.argmax(1) == np.array(seen)[y]).mean() > 0.9


def test_unfitted_machine_finds_all_classes_equal() -> None:
    network = flow_svm.build(SHAPES, 3, flow_svm.SMALL)
    for count in (1, 4):
        probs = probabilities(network, np.random.default_rng(0).random((count, 3, 28, 28), dtype=np.float32))
        np.testing.assert_allclose(probs, np.full((count, 3), 1 / 3), rtol=1e-6)


def test_description_is_the_one_that_is_fixed() -> None:
    flow = np.random.default_rng(1).random((5, 3, 28, 28)) * 255
    u, v, strain = (flow[:, channel] - 0 for channel in range(3))
    u = u - np.median(u, axis=(1, 2), keepdims=True)
    v = v - np.median(v, axis=(1, 2), keepdims=True)
    root = np.sqrt((u**2 + v**2).mean((1, 2), keepdims=True))
    picture = np.stack([u / root, v / root, strain / strain.mean((1, 2), keepdims=True)], 1)
    want = picture.reshape(5, 3, 14, 2, 14, 2).mean((3, 5)).reshape(5, -1)
    np.testing.assert_allclose(flow_svm.describe(flow), want, atol=1e-12)
    np.testing.assert_allclose(flow_svm.describe(flow * 3), want, atol=1e-12)


def test_no_motion_is_no_division_by_zero() -> None:
    assert (flow_svm.describe(np.zeros((2, 3, 28, 28), dtype=np.float32)) == 0).all()


def test_saved_and_loaded(tmp_path: Path) -> None:
    flow, y = made_up(3)
    network, _ = fitted(tmp_path, flow, y, 3)
    assert not list(network.parameters())
    save_file({name: value.contiguous() for name, value in network.state_dict().items()}, tmp_path / "m.safetensors")
    again = flow_svm.build(SHAPES, 3, flow_svm.Options())
    again.load_state_dict(load_file(tmp_path / "m.safetensors"))
    np.testing.assert_array_equal(probabilities(again, flow), probabilities(network, flow))


def test_fitting_again_gives_the_same_bytes(tmp_path: Path) -> None:
    flow, y = made_up(3)
    states = [fitted(tmp_path / name, flow, y, 3)[0].state_dict() for name in ("a", "b")]
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])


def test_scores_have_gradients_in_the_picture(tmp_path: Path) -> None:
    flow, y = made_up(3)
    network, _ = fitted(tmp_path, flow, y, 3)
    x = torch.from_numpy(flow[:4]).requires_grad_()
    for value in (network(x)[:, 1].sum(), network.probabilities(network(x))[:, 1].sum()):
        (gradient,) = torch.autograd.grad(value, x)
        assert torch.isfinite(gradient).all()
        assert gradient.abs().max() > 0


def test_after_epoch_is_called_once_after_fitting(tmp_path: Path) -> None:
    flow, y = made_up(3)
    keys = [f"made/s/c{number:03d}" for number in range(len(y))]
    train = samples.training(pack(tmp_path, flow, keys), dict(zip(keys, y.tolist(), strict=True)), 3)
    calls: list[tuple[int, int]] = []
    context = Context(seed=0, first_epoch=7, after_epoch=lambda epoch, net: calls.append((epoch, len(net.support))))
    flow_svm.fit(flow_svm.build(SHAPES, 3, flow_svm.Options()), train, None, flow_svm.RECIPE, context)
    assert [epoch for epoch, _ in calls] == [7]
    assert calls[0][1] > 0


def test_mistakes_are_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="grid"):
        flow_svm.build(SHAPES, 3, flow_svm.Options(grid=5))
    flow, _ = made_up(3, 4)
    unlabelled = pack(tmp_path, flow, [f"made/s/{number}" for number in range(4)])
    with pytest.raises(UserError, match="labelled"):
        flow_svm.fit(flow_svm.build(SHAPES, 3, flow_svm.SMALL), unlabelled, None, flow_svm.RECIPE, Context(seed=0))


@pytest.mark.data
def test_megc2019_left_out_subjects(real: Path, tmp_path: Path) -> None:
    with (real / "megc2019" / "combined_3_class2_for_optical_flow.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    folder = real / "megc2019" / "datasets" / "STSNet_whole_norm_u_v_os"
    pictures = [cv2.imread(str(folder / f"{row['sub']}_{row['filename_o']} .png")) for row in rows]
    flow = np.stack(pictures)[..., ::-1].transpose(0, 3, 1, 2).astype(np.float32)  # B, G, R = strain, v, u
    keys = [f"{row['dataset']}/{row['sub']}/{row['filename_o']}" for row in rows]
    corpus, y = np.array([row["dataset"] for row in rows]), np.array([int(row["label"]) for row in rows])
    packed, groups = pack(tmp_path, flow, keys), np.array([key.rpartition("/")[0] for key in keys])
    guess = np.full(len(rows), -1)
    for group in np.unique(groups):
        labels = {key: int(c) for key, c, other in zip(keys, y, groups, strict=True) if other != group}
        network = flow_svm.build(SHAPES, 3, flow_svm.Options())
        flow_svm.fit(network, samples.training(packed, labels, 3), None, flow_svm.RECIPE, Context(seed=0))
        test = samples.testing(packed, [key for key, other in zip(keys, groups, strict=True) if other == group])
        guess[test.rows] = predict(network, test, flow_svm.RECIPE).argmax(1)
    confusion = counting.confusion(y, guess, 3)
    assert len(np.unique(groups)) == 68
    assert metrics.uf1(confusion) == pytest.approx(0.7497, abs=5e-5)
    assert metrics.uar(confusion) == pytest.approx(0.7563, abs=5e-5)
    for name, want in (("smic", 0.696), ("casme2", 0.891), ("samm", 0.617)):
        chosen = corpus == name
        assert metrics.uf1(counting.confusion(y[chosen], guess[chosen], 3)) == pytest.approx(want, abs=5e-4)
