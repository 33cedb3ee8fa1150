"""Explanations show what decides: known evidence is found, other weights give another map, a map lands where it was."""

import json
import re
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
import torch.nn.functional as functional
from scipy.stats import spearmanr
from torch import nn

from fleeting import config, deciding, experiment, explain, plugins, samples, training
from fleeting.cli import main
from fleeting.datasets import simulated
from fleeting.errors import UserError
from fleeting.explain import clips, maps, sheet
from fleeting.explain.sheet import Explained
from fleeting.inputs import bidirectional240, clip, frames, onset_flow, uvm224, uvs28
from fleeting.models import flow_svm, htnet, ststnet
from fleeting.records import Clip, FaceClip, FlowField, Moment, View
from fleeting.training import Context, Recipe

SIDE = 12
ROWS, COLUMNS = slice(2, 5), slice(7, 10)  # where the evidence lies
WITH_FEATURES = ("grad_cam", "grad_cam++", "hires_cam")
OF_ANY = ("integrated", "gradient_input")


# --- networks whose evidence is known


class Patch(nn.Module):
    """Class 0: the sum of u inside the patch; class 1: the sum of v everywhere else."""

    def forward(self, flow):
        inside = flow[:, 0, ROWS, COLUMNS].sum((1, 2))
        return torch.stack([inside, flow[:, 1].sum((1, 2)) - flow[:, 1, ROWS, COLUMNS].sum((1, 2))], 1)


class Pooled(nn.Module):
    """Class 0: what is positive in u, class 1: what is negative, both averaged over the map; features at half size."""

    def features(self, flow):
        return nn.functional.avg_pool2d(torch.cat([flow[:, :1].relu(), (-flow[:, :1]).relu()], 1), 2)

    def head(self, features):
        return 10 * features.mean((2, 3))

    def forward(self, flow):
        return self.head(self.features(flow))


class Weighing(nn.Module):
    """One channel of features everywhere alike; the head alone says that the patch decides."""

    def features(self, flow):
        return flow[:, :1]

    def head(self, features):
        inside = features[:, 0, ROWS, COLUMNS].sum((1, 2))
        return torch.stack([inside, -inside], 1)

    def forward(self, flow):
        return self.head(self.features(flow))


class Attentive(nn.Module):
    """Two layers of global attention, 6 x 6 and 3 x 3 tokens, that look at the patch because u is large there."""

    def attention(self, flow):
        first = nn.functional.avg_pool2d(flow[:, :1], 2).flatten(1)  # (B, 36)
        one = self._weights(first)
        mixed = torch.einsum("bhnm,bm->bn", one, first)
        second = nn.functional.avg_pool2d((first + mixed).view(-1, 1, 6, 6), 2).flatten(1)
        two = self._weights(second)
        score = (second + torch.einsum("bhnm,bm->bn", two, second)).mean(1)
        return torch.stack([score, -score], 1), [one, two]

    def _weights(self, values):
        return (12 * values)[:, None, None].expand(-1, 1, values.shape[1], -1).softmax(-1)

    def forward(self, flow):
        return self.attention(flow)[0]


def evidence(count=3, seed=0):
    """Weak noise, and strong u in the patch."""
    x = 0.005 * torch.randn(count, 2, SIDE, SIDE, generator=torch.Generator().manual_seed(seed))
    x[:, 0, ROWS, COLUMNS] += 1
    return {"flow": x}


def inside(heat):
    """Share of the absolute heat that lies in the patch."""
    rows, columns = (slice(part.start * heat.shape[1] // SIDE, -(-part.stop * heat.shape[1] // SIDE)) for part in (
        ROWS, COLUMNS
    ))  # fmt: skip
    return float(heat[:, rows, columns].abs().sum() / heat.abs().sum())


@pytest.mark.parametrize("method", ["auto", *OF_ANY])
def test_the_patch_that_decides_has_all_the_heat(method):
    heat = explain.heat(Patch(), evidence(), 0, method)
    assert heat.shape == (3, SIDE, SIDE)
    assert heat.dtype == torch.float32
    assert inside(heat) == pytest.approx(1, abs=1e-6)
    assert inside(explain.heat(Patch(), evidence(), 1, method)) == 0


@pytest.mark.parametrize("method", [*WITH_FEATURES, *OF_ANY])
def test_each_class_has_its_own_evidence(method):
    x = evidence()
    x["flow"][:, 0, 9:11, 1:3] = -1.0
    own, other = (explain.heat(Pooled(), x, target, method) for target in (0, 1))
    assert inside(own) > 0.8
    assert inside(other) < 0.05
    half = other.shape[1]
    assert other[:, half // 2 :, : half // 2].abs().sum() > 0.5 * other.abs().sum()


def test_a_head_that_weighs_places_is_shown_by_all_but_grad_cam():
    """Why grad_cam is not the default: its mean over the map forgets where the gradient was."""
    x = {"flow": torch.ones(1, 2, SIDE, SIDE)}
    for method in ("hires_cam", *OF_ANY):
        assert inside(explain.heat(Weighing(), x, 0, method)) == pytest.approx(1)
    share = (ROWS.stop - ROWS.start) * (COLUMNS.stop - COLUMNS.start) / SIDE**2
    assert inside(explain.heat(Weighing(), x, 0, "grad_cam")) == pytest.approx(share)


@pytest.mark.parametrize("method", explain.METHODS)
def test_signs_are_as_documented(method):
    if method == "attention":
        assert explain.heat(Attentive(), evidence(), 0, method).min() >= 0
        return
    against = explain.heat(Weighing(), evidence(), 1, method)
    signed = maps.resolved(Weighing(), method) in explain.SIGNED
    assert (against.min() < 0) == signed
    if not signed:  # nothing in the patch speaks for class 1
        assert against.sum() < 0.2 * explain.heat(Weighing(), evidence(), 0, method).sum()


def test_grad_cam_is_the_printed_equation():
    torch.manual_seed(0)
    network = Small().eval()
    x = {"flow": torch.randn(2, 2, SIDE, SIDE)}
    features = network.features(**x).detach().requires_grad_()
    network.head(features)[:, 1].sum().backward()
    expected = torch.stack(
        [
            sum(features.grad[b, k].mean() * features[b, k] for k in range(features.shape[1])).clamp_min(0)
            for b in range(2)
        ]
    )
    torch.testing.assert_close(explain.heat(network, x, 1, "grad_cam"), expected.detach())


def test_attention_finds_the_tokens_that_are_looked_at():
    heat = explain.heat(Attentive(), evidence(), 0, "attention")
    assert heat.shape == (3, 6, 6)
    assert inside(heat) > 0.5  # of 4 of 36 tokens; the upper layer's are four times as large
    assert heat.flatten(1).argmax(1).tolist() == [10, 10, 10]  # the one that lies in the patch as a whole


# --- any network


class Small(nn.Module):
    """Convolutions with a nonlinear head, dropout and batch norm."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(2, 6, 3, padding=1), nn.BatchNorm2d(6), nn.GELU(), nn.AvgPool2d(2))
        self.top = nn.Sequential(nn.Dropout(0.5), nn.Flatten(), nn.Linear(216, 8), nn.GELU(), nn.Linear(8, 3))

    def features(self, flow):
        return self.stem(flow)

    def head(self, features):
        return self.top(features)

    def forward(self, flow):
        return self.head(self.features(flow))


@pytest.mark.parametrize("method", [*WITH_FEATURES, *OF_ANY])
def test_a_map_depends_on_nothing_else_in_the_batch_and_changes_nothing(method):
    torch.manual_seed(0)
    network = Small().train()
    network.stem[1].eval()  # a mixed mode comes back as it was
    x = {"flow": torch.randn(4, 2, SIDE, SIDE)}
    before, state = {k: v.clone() for k, v in network.state_dict().items()}, torch.get_rng_state()
    together = explain.heat(network, x, method=method)
    assert torch.equal(state, torch.get_rng_state())
    assert network.training
    assert not network.stem[1].training
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    assert all(parameter.grad is None for parameter in network.parameters())
    alone = torch.cat([explain.heat(network, {"flow": x["flow"][i : i + 1]}, method=method) for i in range(4)])
    torch.testing.assert_close(together, alone, rtol=1e-4, atol=1e-6)
    assert torch.equal(together, explain.heat(network, x, method=method))


def test_without_a_class_the_decision_is_explained():
    torch.manual_seed(0)
    network, x = Small().eval(), {"flow": 20 * torch.randn(32, 2, SIDE, SIDE)}
    decided = network(**x).argmax(1)
    assert len(decided.unique()) > 1
    for method in (*WITH_FEATURES, *OF_ANY):
        assert torch.equal(explain.heat(network, x, None, method), explain.heat(network, x, decided, method))


def test_integrated_gradients_sum_to_what_the_score_gained():
    torch.manual_seed(0)
    network = Small().eval()
    x, rest = {"flow": torch.randn(4, 2, SIDE, SIDE)}, {"flow": torch.full((1, 2, 1, 1), 0.3)}
    with torch.no_grad():
        gained = network(**x)[:, 2] - network(torch.zeros_like(x["flow"]) + rest["flow"])[:, 2]
    heat = explain.heat(network, x, 2, "integrated", rest)
    torch.testing.assert_close(heat.sum((1, 2)), gained, rtol=0.01, atol=2e-3)


def test_hires_cam_of_ststnet_sums_to_the_logit_less_its_bias():
    torch.manual_seed(0)
    network = ststnet.build({"flow": (3, 28, 28)}, 3, ststnet.Options()).eval()
    x = {"flow": 255 * torch.rand(2, 3, 28, 28)}
    heat = explain.heat(network, x, 1, "hires_cam")
    assert heat.shape == (2, 10, 10)
    with torch.no_grad():
        torch.testing.assert_close(heat.sum((1, 2)), network(**x)[:, 1] - network.classify.bias[1])


class Two(nn.Module):
    """Two arrays of different sizes, one of them a sequence; the second has no say in class 1."""

    def forward(self, onset, flow):
        return torch.stack([onset.sum((1, 2, 3)) + flow[:, :, 1].sum((1, 2, 3)), onset[:, 0].sum((1, 2))], 1)


@pytest.mark.parametrize("method", OF_ANY)
def test_arrays_of_several_sizes_share_one_map(method):
    x = {"onset": torch.zeros(1, 3, 4, 4), "flow": torch.zeros(1, 2, 3, 8, 8)}
    x["onset"][0, :, 0, 0] = 1
    x["flow"][0, 0, 1, 7, 7] = 5
    heat = explain.heat(Two(), x, 0, method)
    assert heat.shape == (1, 8, 8)
    assert heat[0, :2, :2].sum() == pytest.approx(3)
    assert heat[0, 7, 7] == pytest.approx(5)
    assert heat.sum() == pytest.approx(8)
    assert explain.heat(Two(), x, 1, method).sum() == pytest.approx(1)


def test_probabilities_of_its_own_are_explained_by_their_logarithm():
    class Own(Patch):
        def probabilities(self, output):
            return (2 * output).softmax(1)

    x = evidence(1)
    with torch.no_grad():
        slope = 2 * (1 - Own().probabilities(Own()(**x))[0, 0])
    plain = explain.heat(Patch(), x, 0, "gradient_input")[0, ROWS, COLUMNS]
    torch.testing.assert_close(explain.heat(Own(), x, 0, "gradient_input")[0, ROWS, COLUMNS], slope * plain)


def test_what_cannot_be_explained_says_why():
    x = evidence()
    with pytest.raises(UserError, match=r"want a method .*did you mean 'grad_cam'"):
        explain.heat(Patch(), x, 0, "gradcam")
    with pytest.raises(UserError, match="want a network with features and a head, got Patch"):
        explain.heat(Patch(), x, 0, "grad_cam")
    with pytest.raises(UserError, match="want a network that shows its attention, got Pooled"):
        explain.heat(Pooled(), x, 0, "attention")
    with pytest.raises(UserError, match="want classes below 2, got 2"):
        explain.heat(Patch(), x, 2)


# --- sanity checks: Adebayo et al., "Sanity Checks for Saliency Maps", NeurIPS 2018


@pytest.fixture(scope="module")
def learned(tmp_path_factory):
    """Flow whose class is the third of the picture that moves, and a fitted network of each model."""
    rng = np.random.default_rng(0)
    labels = {f"d/s{index % 6}/{index:02d}": index % 3 for index in range(48)}
    views = {}
    for key, label in labels.items():
        flow = rng.normal(128, 4, (3, 28, 28)).astype(np.float32)
        flow[2] = np.abs(flow[2] - 128)  # of what is still, u and v are the middle and strain is 0
        flow[:, 2 + 9 * label : 8 + 9 * label, 8:20] += 100
        views[key] = [View("v", {"flow": flow})]
    packed = samples.pack(tmp_path_factory.mktemp("packed"), views, {"flow": ("u255", "v255", "strain255")})
    train = samples.training(packed, labels, 3)
    fitted = {}
    for module in (flow_svm, htnet, ststnet):
        torch.manual_seed(0)
        network = module.build(samples.shapes(packed), 3, module.SMALL)
        recipe = Recipe(epochs=40, batch=12, lr=1e-3)
        fit = getattr(module, "fit", training.fit)
        fitted[module.__name__.rpartition(".")[2]] = fit(network, train, None, recipe, Context(seed=0)).eval()
    return fitted, {"flow": torch.from_numpy(np.array(packed.x["flow"][:12]))}


def alike(first, second):
    """Spearman's rank correlation of two maps, mean over the batch."""
    pairs = [(one.flatten().numpy(), two.flatten().numpy()) for one, two in zip(first, second, strict=True)]
    return float(np.mean([spearmanr(one, two)[0] if np.ptp(one) and np.ptp(two) else 0.0 for one, two in pairs]))


# not grad_cam and grad_cam++: features near the input are strong where the picture is, whatever the weights
@pytest.mark.parametrize("method", explain.SIGNED)
@pytest.mark.parametrize("name", ["htnet", "ststnet", "flow_svm"])
def test_other_weights_give_another_map(learned, name, method):
    networks, x = learned
    network = networks[name]
    rest = clips.rest(x, {"flow": ("u255", "v255", "strain255")})
    before = explain.heat(network, x, 1, method, rest)
    torch.manual_seed(1)
    state = {
        key: value if not value.is_floating_point() or value.numel() < 2 else value.flatten()[
            torch.randperm(value.numel())
        ].view_as(value)
        for key, value in network.state_dict().items()
    }  # fmt: skip
    module = plugins.load("models", name)
    other = module.build({"flow": (3, 28, 28)}, 3, module.SMALL)
    other.load_state_dict(state)
    assert abs(alike(before, explain.heat(other.eval(), x, 1, method, rest))) < 0.5
    assert torch.equal(before, explain.heat(network, x, 1, method, rest))


@pytest.mark.parametrize("name", ["htnet", "ststnet", "flow_svm"])
def test_a_fitted_network_is_explained_by_what_it_was_taught(learned, name):
    networks, x = learned
    rest = clips.rest(x, {"flow": ("u255", "v255", "strain255")})
    for label in range(3):
        chosen = {"flow": x["flow"][label::3]}  # of that class
        heat = explain.heat(networks[name], chosen, label, "auto", {"flow": rest["flow"][label::3]}).clamp_min(0)
        heat = functional.interpolate(heat[:, None], (28, 28), mode="nearest-exact")[:, 0]
        taught = heat[:, 9 * label : 9 * label + 10, 6:22].sum() / heat.sum()
        # in 20 % of the picture; the machine also counts what is still elsewhere, which speaks against other classes
        assert taught > (0.4 if name == "flow_svm" else 0.7)


def test_scores_of_the_machine_are_its_summed_decisions(learned):
    networks, x = learned
    machine = networks["flow_svm"]
    with torch.no_grad():
        _, margins = machine._count(machine.decisions(x["flow"]))
        torch.testing.assert_close(machine.scores(machine(x["flow"])).double(), margins, rtol=1e-4, atol=1e-5)


# --- rest


def test_rest_is_what_the_channels_mean():
    x = {
        "flow": torch.tensor([3.0, 5.0, 7.0]).view(1, 3, 1, 1).expand(1, 3, 4, 4),
        "wheel": torch.full((1, 3, 4, 4), 0.5),
        "frames": torch.tensor([0.2, 0.2, 0.9]).view(1, 1, 3, 1, 1).expand(1, 1, 3, 2, 2),
    }
    channels = {"flow": ("u255", "v", "strain255"), "wheel": ("wheel_r", "wheel_g", "wheel_b"), "frames": ("grey",)}
    found = clips.rest(x, channels)
    assert found["flow"].flatten().tolist() == [3.0, 0.0, 0.0]
    assert found["wheel"].flatten().tolist() == [1.0, 1.0, 1.0]
    assert found["frames"].shape == (1, 1, 1, 1, 1)
    assert found["frames"].item() == pytest.approx(0.2)


# --- back onto the face

FACE, COUNT = 112, 9


def bump(x, y, sigma=5.0):
    """(FACE, FACE) a spot."""
    rows, columns = np.mgrid[:FACE, :FACE]
    return np.exp(-((columns - x) ** 2 + (rows - y) ** 2) / (2 * sigma**2)).astype(np.float32)


def recording(spot=None):
    """A still grey face with one bright spot on every frame but the onset, landmarks, and flow inside the spot."""
    spot = np.zeros((FACE, FACE), np.float32) if spot is None else spot
    moving = np.repeat((100 + 100 * spot)[..., None], 3, axis=2).astype(np.uint8)
    still = np.full((FACE, FACE, 3), 100, np.uint8)
    names = tuple(Path(f"{i}.png") for i in range(COUNT))
    points = np.zeros((COUNT, 68, 2), np.float32)
    for indices, place in (
        (slice(36, 42), (37, 38)),
        (slice(42, 48), (75, 38)),
        (30, (56, 62)),
        (48, (42, 84)),
        (54, (70, 84)),
    ):
        points[:, indices] = place
    face = FaceClip(
        Clip("d", "s", "c", names, onset=0, apex=4, offset=8), Moment(0, 4, 8), [still, *[moving] * 8], points
    )
    return face, lambda pair: FlowField(np.stack([(1 if pair[1] else -1) * spot, np.zeros_like(spot)]), "px")


PLACED = [
    (uvs28, {"scale": "px"}),
    (uvs28, {"scale": "px", "areas": "landmarks"}),
    (uvs28, {"scale": "px", "areas": "landmarks", "axes": "code"}),
    (uvs28, {"scale": "px", "areas": "constant"}),
    (uvs28, {"scale": "px", "areas": "landmarks", "crop": 8}),
    (uvs28, {"scale": "px", "areas": "landmarks", "crop": 20}),
    (uvm224, {}),
    (bidirectional240, {"encoding": "uv"}),
    (onset_flow, {}),
    (frames, {"sampling": "AF"}),
    (frames, {"sampling": "AF", "size": 48}),
    (clip, {}),
    (clip, {"what": "flow", "size": 56}),
]


@pytest.mark.parametrize(("module", "options"), PLACED, ids=lambda value: getattr(value, "__name__", str(value)))
@pytest.mark.parametrize("place", [(37, 40), (73, 42), (42, 86), (68, 80)])
def test_what_moved_on_the_face_is_hot_at_its_place(module, options, place):
    """Where an input changes when one spot of the face moves is put back onto that spot."""
    options = module.Options(**options)
    arrays = []
    for spot in (None, bump(*place)):
        face, flow = recording(spot)
        plan = module.plan(face.moment, options)
        (view, *_) = module.make(face, {pair: flow(pair) for pair in plan.pairs}, options)
        arrays.append({name: array.astype(np.float64) for name, array in view.x.items()})
    for name in arrays[0]:
        changed = np.abs(arrays[1][name] - arrays[0][name])
        heat = changed.reshape(-1, *changed.shape[-2:]).sum(axis=0)
        if not heat.any():
            continue  # the onset picture of onset_flow does not move
        placed = module.place(heat.astype(np.float32), face, options)
        assert placed.shape == (FACE, FACE)
        y, x = np.unravel_index(np.nanargmax(placed), placed.shape)
        # strain is greatest beside the spot
        assert abs(x - place[0]) <= 9
        assert abs(y - place[1]) <= 9
        weights = np.nan_to_num(placed) ** 2
        centre = np.array([(weights * at).sum() / weights.sum() for at in np.mgrid[:FACE, :FACE][::-1]])
        if getattr(options, "crop", 0) != 8:  # small areas cut the spot off
            assert centre == pytest.approx(place, abs=3)


def test_areas_are_seen_and_the_rest_is_not():
    face, _ = recording()
    options = uvs28.Options(areas="landmarks", crop=8)
    placed = uvs28.place(np.ones((16, 16), np.float32), face, options)
    assert np.isfinite(placed).mean() == pytest.approx(4 * 64 / 784, rel=0.05)
    assert np.isfinite(placed[38, 37])
    assert np.isnan(placed[5, 5])
    both = uvs28.place(np.ones((40, 40), np.float32), face, uvs28.Options(areas="landmarks", crop=20))
    assert np.nanmax(both) == 4
    coarse = uvs28.place(np.array([[1.0, 2], [3, 4]], np.float32), face, options)
    assert [coarse[y, x] for x, y in ((37, 38), (75, 38), (42, 84), (70, 84))] == pytest.approx([1, 2, 3, 4])


def test_a_map_that_does_not_fit_four_areas_is_brought_to_their_size():
    face, _ = recording()
    odd = np.zeros((7, 7), np.float32)
    odd[0, 0] = 1
    placed = uvs28.place(odd, face, uvs28.Options(areas="landmarks"))
    y, x = np.unravel_index(np.nanargmax(placed), placed.shape)
    assert x < 37
    assert y < 38


def test_published_flow_keeps_its_own_size():
    face = FaceClip(Clip("d", "s", "c", (Path("a.png"),) * 2, onset=0, apex=1, offset=1), Moment(0, 1, 1))
    heat = np.random.default_rng(0).random((10, 10)).astype(np.float32)
    assert np.array_equal(uvs28.place(heat, face, uvs28.Options()), heat)
    assert uvs28.place(np.ones((28, 28), np.float32), face, uvs28.Options(areas="constant")).shape == (28, 28)


# --- the page


def page(heats, **changes):
    face, _ = recording(bump(56, 60))
    explained = Explained(
        face=face,
        arrays={"flow": np.random.default_rng(0).normal(0, 1, (3, 28, 28)).astype(np.float32)},
        channels={"flow": ("u", "v", "magnitude")},
        probabilities={"calm": 0.2, "glad": 0.7, "cross": 0.1},
        heats=heats,
        below=face.frames[4],
        method="integrated",
    )
    return replace(explained, **changes)


def words(path):
    return re.findall(r"<text[^>]*>([^<]*)</text>", path.read_text(encoding="utf-8"))


def test_a_page_says_the_decision_and_whether_the_subject_was_trained_on(tmp_path):
    heats = {name: bump(40, 40) for name in ("calm", "glad", "cross")}
    out = tmp_path / "a.svg"
    for trained_on, said in ((True, "was trained on: this says"), (False, "was not trained on"), (None, "not known")):
        sheet.draw(out, page(heats, trained_on=trained_on, times_s=np.arange(COUNT) / 100))
        found = "\n".join(words(out))
        assert "decision: glad" in found
        assert said in found
        for text in ("d/s/c", "onset: frame 0, 0 ms", "apex: frame 4, +40 ms", "u", "magnitude", "calm  0.20"):
            assert text in words(out), text
        assert "integrated gradients: red speaks for the class, blue against it" in found


def coloured(path):
    """Red and blue places of the lower picture, as shares of the page."""
    picture = cv2.imread(str(path)).astype(int)
    red = (picture[..., 2] - picture[..., 0] > 60).mean()
    return red, (picture[..., 0] - picture[..., 2] > 60).mean()


def test_red_is_for_and_blue_against_on_one_scale(tmp_path):
    out = tmp_path / "a.png"
    grey = {"arrays": {"flow": np.zeros((1, 28, 28), np.float32)}, "channels": {"flow": ("u",)}}
    sheet.draw(out, page({"glad": bump(40, 40, 12)}, **grey))
    red, blue = coloured(out)
    assert red > 0.003 > blue
    sheet.draw(out, page({"glad": -bump(40, 40, 12)}, **grey))
    red, blue = coloured(out)
    assert blue > 0.003 > red
    sheet.draw(out, page({"glad": bump(40, 40, 12), "calm": -0.05 * bump(40, 40, 12)}, **grey))
    assert coloured(out)[1] < 0.001  # a weak map of another class stays pale


@pytest.mark.parametrize("heat", [np.zeros((FACE, FACE)), np.full((FACE, FACE), np.nan)])
def test_nothing_hot_and_nothing_seen_can_be_drawn(tmp_path, heat):
    sheet.draw(tmp_path / "a.png", page({"glad": heat.astype(np.float32)}))
    assert (tmp_path / "a.png").stat().st_size > 10_000


DRAWN = [
    (uvs28, {}), (uvm224, {}), (bidirectional240, {}), (bidirectional240, {"fusion": "concatenation"}),
    (bidirectional240, {"augment_as": "picture"}), (onset_flow, {}), (frames, {}), (frames, {"colour": "grey"}),
    (clip, {}), (clip, {"what": "flow"}),
]  # fmt: skip


@pytest.mark.parametrize(("module", "options"), DRAWN, ids=lambda value: getattr(value, "__name__", str(value)))
@pytest.mark.parametrize("classes", [1, 7])
def test_every_input_can_be_drawn(tmp_path, module, options, classes):
    options = module.Options(**options)
    face, flow = recording(bump(40, 40))
    plan = module.plan(face.moment, options)
    (view, *_) = module.make(face, {pair: flow(pair) for pair in plan.pairs}, options)
    named = [f"c{number}" for number in range(classes)]
    changes = {"arrays": view.x, "channels": module.channels(options), "face": face}
    drawn = page({name: bump(40, 40) for name in named}, **changes, probabilities=dict.fromkeys(named, 1 / classes))
    sheet.draw(tmp_path / "a.png", drawn)
    height, width = cv2.imread(str(tmp_path / "a.png")).shape[:2]
    assert 0.3 < height / width < 1.4


def test_parts_of_the_face():
    person = recording()[0].landmarks[0].copy()
    person[:17] = np.stack([np.linspace(20, 92, 17), 45 + 60 * np.sin(np.linspace(0, np.pi, 17))], axis=1)
    person[17:27] = np.stack([np.linspace(25, 87, 10), np.full(10, 30)], axis=1)
    person[27:36] = np.stack([np.full(9, 56), np.linspace(38, 66, 9)], axis=1)
    person[48:68] = np.stack([np.linspace(42, 70, 20), np.full(20, 84)], axis=1)
    at = np.array([(37, 38), (75, 39), (56, 60), (56, 85), (56, 102), (40, 25), (5, 5), (110, 100)])
    found = [clips._PARTS[number] for number in clips._parts(person, at)]
    assert found[:5] == ["left eye", "right eye", "nose", "mouth", "cheeks and chin"]
    assert found[5:] == ["left brow", "outside the face", "outside the face"]


# --- the whole way


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    root = tmp_path_factory.mktemp("corpus") / "simulated"
    simulated.write_standin(root)
    return root


@pytest.fixture(scope="module")
def models(corpus, tmp_path_factory):
    """flow_svm on the face, htnet on four areas; trained on the corpus."""
    folder = tmp_path_factory.mktemp("models")
    base = {"datasets": ["simulated"], "flow": {"name": "dis"}, "spotting": {"name": "flow_peak"}}
    small = {"name": "htnet", **htnet.SMALL.model_dump(exclude_none=True, mode="json")}
    chosen = {"svm": {"model": {"name": "flow_svm"}}, "areas": {"model": small, "recipe": {"epochs": 2, "batch": 8}}}
    for name, tables in chosen.items():
        experiment.train(config.resolve({**base, **tables}), folder / name, roots={"simulated": corpus})
    return folder


@pytest.fixture
def at_home(corpus, monkeypatch):
    monkeypatch.setenv("FLEETING_SIMULATED", str(corpus))


def fleeting(monkeypatch, capsys, *arguments):
    monkeypatch.setattr("sys.argv", ["fleeting", *map(str, arguments)])
    with pytest.raises(SystemExit) as caught:
        main()
    return caught.value.code, *capsys.readouterr()


@pytest.mark.parametrize("name", ["svm", "areas"])
def test_a_clip_is_explained_as_it_is_predicted(at_home, models, tmp_path, name):
    key, out = "simulated/s01/c02", tmp_path / "e.png"
    found = explain.clip(models / name, key, out)
    (predicted,) = deciding.predict(models / name, [key])
    (moment,) = found["moments"]
    assert {name: moment[name] for name in ("onset", "apex", "offset", "class", "probabilities")} == {
        name: predicted[name] for name in ("onset", "apex", "offset", "class", "probabilities")
    }
    assert found["trained_on"] is True
    assert found["method"] == "integrated"
    assert out.stat().st_size > 50_000
    for shares in moment["regions"].values():
        assert sum(shares.values()) == pytest.approx(1)


def test_the_command_prints_one_document_and_one_class(at_home, models, tmp_path, monkeypatch, capsys):
    out = tmp_path / "e.svg"
    arguments = ("explain", models / "areas", "simulated/s02/c01", "--out", out)
    code, told, err = fleeting(monkeypatch, capsys, *arguments, "--class", "surprise", "--method", "grad_cam", "--json")
    assert (code, err) == (0, "")
    found = json.loads(told)
    assert found["method"] == "grad_cam"
    assert list(found["moments"][0]["regions"]) == ["surprise"]
    assert "reasons by Grad-CAM: red speaks for the class; one scale for all classes" in words(out)
    code, told, _ = fleeting(monkeypatch, capsys, *arguments)
    assert code == 0
    assert "subject trained on" in told
    assert "for negative:" in told


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("svm", "simulated/s01/c02", "--class", "surprised"), "did you mean 'surprise'"),
        (("svm", "simulated/s01/c02", "--method", "attention"), "want a network that shows its attention, got FlowSVM"),
        (("svm", "simulated/s01/c02", "--method", "gradcam"), "did you mean 'grad_cam'"),
        (("svm", "simulated/s01/c99"), "want a clip key"),
        (("svm", "simulated/s01/c02", "--out", "a.bmp"), "want a picture in .pdf, .png, .svg"),
        (("none", "simulated/s01/c02"), "want a model folder"),
    ],
)
def test_what_cannot_be_drawn_is_one_line(at_home, models, tmp_path, monkeypatch, capsys, arguments, said):
    monkeypatch.chdir(tmp_path)
    code, out, err = fleeting(monkeypatch, capsys, "explain", models / arguments[0], *arguments[1:])
    assert (code, out) == (2, "")
    assert said in err
    assert err.strip().count("\n") == 0
    assert not list(tmp_path.iterdir())


def test_published_flow_is_explained_over_its_own_picture(standin, tmp_path, monkeypatch):
    monkeypatch.setenv("FLEETING_MEGC2019_FLOW", str(standin))
    experiment.train(config.resolve({"model": {"name": "flow_svm"}}), tmp_path / "model")
    key = "samm/001/001_01"
    found = explain.clip(tmp_path / "model", key, tmp_path / "e.svg")
    assert found["trained_on"] is True
    assert set(found["moments"][0]) == {"class", "probabilities", "regions", "picture"}
    assert not [text for text in words(tmp_path / "e.svg") if text.startswith(("onset", "apex"))]
    picture = next(standin.rglob("*.png"))
    found = explain.clip(tmp_path / "model", str(picture), tmp_path / "f.png")
    assert found["trained_on"] is None


def test_several_moments_are_numbered_pictures(at_home, models, corpus, tmp_path, monkeypatch):
    from fleeting.spotting import flow_peak

    monkeypatch.setattr(flow_peak, "locate", lambda face, options: [Moment(0, 4, 8), Moment(8, 12, 14)])
    folder = next((corpus / "frames").rglob("c02"))
    found = explain.clip(models / "svm", str(folder), tmp_path / "e.png")
    assert [Path(moment["picture"]).name for moment in found["moments"]] == ["e_1.png", "e_2.png"]
    assert all(Path(moment["picture"]).is_file() for moment in found["moments"])
    assert not (tmp_path / "e.png").exists()
    assert found["trained_on"] is None


def test_a_centre_crop_is_put_back_into_the_middle(at_home, models):
    opened = clips.open_model(models / "svm", clips.Wanted())
    cropped = replace(opened, recipe=opened.recipe.model_copy(update={"crop": 14}))
    flow = np.random.default_rng(0).random((3, 28, 28)).astype(np.float32)
    heat = clips._mean_heat(cropped, [View("v", {"flow": flow})], 0, "gradient_input")
    assert heat.shape == (28, 28)
    assert np.isfinite(heat[7:21, 7:21]).all()
    assert np.isnan(heat[:7]).all()
    assert np.isfinite(heat).sum() == 14 * 14


# --- several models beside each other


@pytest.fixture(scope="module")
def four(corpus, tmp_path_factory):
    """Two networks on the flow from onset to apex, two on the bidirectional one, as in figure 9 of BOWAM."""
    folder = tmp_path_factory.mktemp("four")
    small = {"dims": [8, 8, 8, 8], "depths": [1, 1, 1, 1], "stem_stride": 1, "layer_scale": 0.1}
    plain = {"transform": "none", "spatial": False, "channel": False}
    for fusion in ("conventional", "sum"):
        for name, changes in (("plain", plain), ("bowam", {})):
            tables = {
                "datasets": ["simulated"],
                "spotting": {"name": "flow_peak"},
                "flow": {"name": "dis"},
                "input": {"name": "bidirectional240", "fusion": fusion, "size": 36},
                "model": {"name": "bowam", **small, **changes},
                "recipe": {"epochs": 1, "batch": 9, "crop": 32},
            }
            experiment.train(config.resolve(tables), folder / f"{name}_{fusion}", roots={"simulated": corpus})
    return [folder / f"{name}_{fusion}" for fusion in ("conventional", "sum") for name in ("plain", "bowam")]


def test_four_models_beside_each_other(at_home, four, tmp_path):
    out, key = tmp_path / "e.svg", "simulated/s01/c02"
    found = explain.beside.clip(four, key, out, explain.Wanted(method="grad_cam"))
    (moment,) = found["moments"]
    names = ["plain_conventional", "bowam_conventional", "plain_sum", "bowam_sum"]
    assert list(moment["models"]) == names
    assert found["methods"] == dict.fromkeys(names, "grad_cam")
    for folder, told in zip(four, moment["models"].values(), strict=True):
        (predicted,) = deciding.predict(folder, [key])
        assert told["probabilities"] == predicted["probabilities"]
        assert told["explained"] == told["class"] == predicted["class"]
        assert told["trained_on"] is True
        assert (moment["onset"], moment["apex"]) == (predicted["onset"], predicted["apex"])
    drawn = words(out)
    for text in ("flow of 1, 2", "flow of 3, 4", "1  plain_", "conventional", "hue of the flow: where to"):
        assert text in drawn, text
    assert drawn.count("trained on subject") == 4
    assert [text for text in drawn if text.startswith("apex")]
    pictures = out.read_text(encoding="utf-8").count("<image")
    assert pictures == 1 + 2 + 4 + 1  # apex, flows, a face a model, wheel


def test_models_of_other_inputs_look_at_the_moments_of_the_first(at_home, models, four, corpus, tmp_path, monkeypatch):
    from fleeting.spotting import flow_peak

    monkeypatch.setattr(flow_peak, "locate", lambda face, options: [Moment(0, 4, 8), Moment(8, 12, 14)])
    folder = next((corpus / "frames").rglob("c02"))
    chosen = [models / "areas", models / "svm", four[3]]
    out = tmp_path / "e.png"
    found = explain.beside.clip(chosen, str(folder), out, explain.Wanted(only="surprise", fps=50))
    assert [(moment["onset"], moment["apex"]) for moment in found["moments"]] == [(0, 4), (8, 12)]
    for moment in found["moments"]:
        assert list(moment["models"]) == ["areas", "svm", "bowam_sum"]
        assert {told["explained"] for told in moment["models"].values()} == {"surprise"}
        assert {told["trained_on"] for told in moment["models"].values()} == {None}
    for model, name in zip(chosen, ("areas", "svm", "bowam_sum"), strict=True):
        for predicted, moment in zip(deciding.predict(model, [str(folder)], fps=50), found["moments"], strict=True):
            # the very same faces as in predict; batches of another size change the last bits
            assert moment["models"][name]["probabilities"] == pytest.approx(predicted["probabilities"], abs=1e-5)
    height, width = cv2.imread(str(out)).shape[:2]
    assert 0.25 < height / width < 0.8


def test_models_of_one_name_are_told_apart_by_their_folders(at_home, four, tmp_path):
    import shutil

    for run in ("a", "b"):
        shutil.copytree(four[0], tmp_path / run / "model")
    twice = [tmp_path / "a" / "model", tmp_path / "b" / "model"]
    found = explain.beside.clip([*twice, twice[0]], "simulated/s01/c02", tmp_path / "e.png")
    assert len(found["methods"]) == 3
    found = explain.beside.clip(twice, "simulated/s01/c02", tmp_path / "e.png")
    assert list(found["methods"]) == ["a/model", "b/model"]


def test_published_flow_has_no_apex_beside(standin, tmp_path, monkeypatch):
    monkeypatch.setenv("FLEETING_MEGC2019_FLOW", str(standin))
    for cost in (1, 5):
        tables = {"model": {"name": "flow_svm", "C": cost}}
        experiment.train(config.resolve(tables), tmp_path / f"c{cost}")
    found = explain.beside.clip([tmp_path / "c1", tmp_path / "c5"], "samm/001/001_01", tmp_path / "e.svg")
    assert set(found["moments"][0]) == {"models"}
    drawn = words(tmp_path / "e.svg")
    assert "flow" in drawn
    assert not [text for text in drawn if text.startswith("apex")]


def test_the_command_draws_them_and_says_what_each_decided(at_home, four, tmp_path, monkeypatch, capsys):
    arguments = ("explain", four[0], "simulated/s02/c01", "--beside", four[3], "--out", tmp_path / "e.png")
    code, told, err = fleeting(monkeypatch, capsys, *arguments)
    assert (code, err) == (0, "")
    assert "  plain_conventional: " in told
    assert "  bowam_sum: " in told
    code, told, _ = fleeting(monkeypatch, capsys, *arguments, "--method", "hires_cam", "--json")
    assert code == 0
    assert json.loads(told)["methods"] == {"plain_conventional": "hires_cam", "bowam_sum": "hires_cam"}


def test_a_long_name_is_broken_where_it_is_joined():
    from fleeting.explain import beside

    assert beside._wrapped("1  short", 2) == "1  short"
    assert beside._wrapped("1  bowam_bidirectional/seed-0", 1.3).splitlines() == [
        "1  bowam_",
        "bidirectional/",
        "seed-0",
    ]
    assert beside._wrapped("x" * 80, 1) == "x" * 80


# --- what a network does not see may be chosen


def test_the_apex_may_be_spotted_and_a_folder_has_a_rate(at_home, models, corpus, tmp_path, monkeypatch, capsys):
    from fleeting.spotting import flow_peak

    seen = []

    def locate(face, options):
        seen.append(face.clip.fps)
        return [Moment(1, 5, 9)]

    monkeypatch.setattr(flow_peak, "locate", locate)
    arguments = ("explain", models / "svm", "simulated/s01/c02", "--out", tmp_path / "e.png", "--json")
    code, told, _ = fleeting(monkeypatch, capsys, *arguments, "--set", "apex=spotted")
    assert code == 0
    assert json.loads(told)["moments"][0]["apex"] == 5
    folder = next((corpus / "frames").rglob("c03"))
    fleeting(monkeypatch, capsys, "explain", models / "svm", folder, "--fps", "25", *arguments[3:])
    assert seen[-1] == 25
    code, _, err = fleeting(monkeypatch, capsys, *arguments, "--set", "flow.name=dis")
    assert code == 2
    assert "want --set to change spotting, face, apex of a model, got 'flow.name=dis'" in err


@pytest.mark.data
def test_models_beside_each_other_on_a_clip_of_a_real_video(real, four, tmp_path):
    """Half a second out of a recording, as a folder of frames."""
    video = cv2.VideoCapture(str(real / "face_videos" / "single_face.mp4"))
    for index in range(30):
        _, frame = video.read()
        (tmp_path / "cut").mkdir(exist_ok=True)
        cv2.imwrite(str(tmp_path / "cut" / f"{index:03d}.jpg"), frame)
    found = explain.beside.clip(
        four, str(tmp_path / "cut"), tmp_path / "e.png", explain.Wanted(method="grad_cam", fps=30)
    )
    assert all(0 <= moment["onset"] < moment["apex"] <= moment["offset"] < 30 for moment in found["moments"])
    assert (tmp_path / "e.png").stat().st_size > 100_000


@pytest.mark.data
def test_a_real_video_is_explained(real, models, tmp_path):
    found = explain.clip(models / "svm", str(real / "face_videos" / "single_face.mp4"), tmp_path / "e.png")
    assert found["trained_on"] is None
    (moment,) = found["moments"]
    assert 0 <= moment["onset"] < moment["apex"] <= moment["offset"] < 72
    assert (tmp_path / "e.png").stat().st_size > 100_000
