"""MERba: counts, its stages against the paper's equations written out, scan sets, the dual heads, its experiments."""

import math
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as functional
from pydantic import ValidationError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from fleeting import config, explain, plugins, samples, training
from fleeting.errors import UserError
from fleeting.models import _granularity, merba
from test_mambavision import (
    attention,
    batch_norm,
    convolution_block,
    convolved,
    layer_norm,
    mixer,
    mlp,
    shaken,
    stem,
    windows,
)

DFME = ("anger", "contempt", "disgust", "fear", "happiness", "sadness", "surprise")
TINY = {"dim": 4, "depths": (1, 2, 1), "global_blocks": 1, "head_width": 4, "state": 3, "mlp": 2, "stem_stride": 1}
EXPERIMENTS = Path(__file__).parents[1] / "experiments" / "merba"
PAPER_ROWS = sorted(
    path for path in EXPERIMENTS.glob("*.toml") if not path.stem.startswith("megc2019") and "small" not in path.stem
)


pytestmark = pytest.mark.usefixtures("one_thread")


def built(side: int = 28, count: int = 7, **options: Any) -> nn.Module:
    torch.manual_seed(0)
    return merba.build({"flow": (3, side, side)}, count, merba.Options(**{**TINY, **options}))


def pictures(count: int = 2, side: int = 28) -> Tensor:
    return torch.randn(count, 3, side, side, generator=torch.Generator().manual_seed(1))


def on_paper(**options: Any) -> tuple[int, float]:
    """Parameters, and multiplications in G, at 224 x 224 with seven classes."""
    with torch.device("meta"):
        network = merba.build({"flow": (3, 224, 224)}, 7, merba.Options(**options)).eval()
        with FlopCounterMode(display=False) as counter:
            network(torch.zeros(1, 3, 224, 224))
    return sum(parameter.numel() for parameter in network.parameters()), counter.get_total_flops() / 2e9


# --- counts


def by_hand(width: int, blocks: int, attention_blocks: int, scans: int) -> int:
    """Parameters of an LGFI stage, counted from the equations."""
    half, rank = width // 2, math.ceil(width / 16)
    one = 2 * width * half + 2 * 3 * half + half * (rank + 16) + rank * half + half + half * 8 + half
    feed_forward = 8 * width * width + 5 * width
    norms = 4 * width
    extractor = scans * one + width * width + feed_forward + norms
    return blocks * extractor + attention_blocks * (4 * width * width + 4 * width + feed_forward + norms)


def test_parameters_are_those_of_the_equations() -> None:
    stages = sum(by_hand(width, blocks, 2, 4) for width, blocks in ((256, 2), (512, 6), (1024, 4)))
    fast = 3 * 2 * (9 * 128 * 128 + 128 + 2 * 128)
    between = 9 * (128 * 256 + 256 * 512 + 512 * 1024)
    rest = 3 * 16 * 128 + 2 * 128 + 2 * 1024 + 7 * 1024 + 7
    assert on_paper()[0] == stages + fast + between + rest == merba.PAPER.parameters


def test_the_second_head_costs_little_and_shared_mixers_save_much() -> None:
    count = merba.PAPER.parameters or 0
    assert on_paper(classes=DFME)[0] == count + 1025
    saved = sum(
        blocks * (by_hand(width, 1, 0, 4) - by_hand(width, 1, 0, 1))
        for width, blocks in ((256, 2), (512, 6), (1024, 4))
    )
    assert on_paper(mixers="shared")[0] == count - saved


def test_multiplications_are_those_that_are_said() -> None:
    count, products = on_paper()
    assert f"{products:.1f} G multiplications" in (merba.__doc__ or "")
    assert f"{count / 1e6:.1f} M parameters" in (merba.__doc__ or "")


def test_sizes_of_the_stages_are_those_of_table_1() -> None:
    found: list[tuple[int, ...]] = []
    with torch.device("meta"):
        network = merba.build({"flow": (3, 224, 224)}, 7, merba.Options()).eval()
        for module in (network.stem, *network.stages):
            module.register_forward_hook(lambda module, inputs, output: found.append(tuple(output.shape[1:])))
        network(torch.zeros(1, 3, 224, 224))
    assert found == [(128, 56, 56), (256, 28, 28), (512, 14, 14), (1024, 7, 7)]
    assert [(stage.local, stage.reach) for stage in network.stages] == [(7, 28), (7, 14), (7, 7)]
    assert [len(stage.extractors) // 2 for stage in network.stages] == [2, 6, 4]


def test_on_28_px_with_stride_1_two_stages_fill_their_windows() -> None:
    network = built()
    assert [(stage.local, stage.reach) for stage in network.stages] == [(7, 14), (7, 7)]


# --- the equations, one window and one token at a time, in float64


def reading(name: str, side: int) -> list[list[int]]:
    """Figure 2 and Table VII: the places in the order in which each scan of a set comes to them."""
    places = range(side)
    a = [(row, column) for row in places for column in places]
    b = [(row, column) for column in places for row in places]
    c = [(row, column if row % 2 == 0 else side - 1 - column) for row in places for column in places]
    d = [(row if column % 2 == 0 else side - 1 - row, column) for column in places for row in places]
    mirrored = [[(row, side - 1 - column) for row, column in order] for order in (a, b)]
    sets = {
        "horizontal": [a],
        "raster": [a, b],
        "zigzag": [c, d],
        "bidirectional": [a, a[::-1], b, b[::-1]],
        "symmetric": [a, mirrored[0], b, mirrored[1]],
        "asymmetric": [a, b, c, d],
    }
    return [[row * side + column for row, column in order] for order in sets[name]]


class Equations:
    """The paper in float64, from the weights of the network and its options."""

    def __init__(self, network: nn.Module, **options: Any) -> None:
        self.w = {name: tensor.double() for name, tensor in network.state_dict().items()}
        self.options = merba.Options(**{**TINY, **options})

    def __call__(self, flow: Tensor) -> Tensor:
        return torch.stack([self.one(picture.double()) for picture in flow])

    def one(self, picture: Tensor) -> Tensor:
        options, w = self.options, self.w
        if options.stem == "overlapping":
            x = stem(picture, w, "stem", (1, 1))
        else:
            step = int(options.stem_stride)
            x = batch_norm(convolved(picture, w, "stem.0", step, padding=0), w, "stem.1")
        for block in range(options.depths[0]):
            x = convolution_block(x, w, f"fast.{block}.branch")
        for stage, depth in enumerate(options.depths[1:]):
            x = convolved(x, w, f"downsample.{stage}", 2)
            local = 7 if options.extractor == "local" else x.shape[1]
            x = self.in_windows(x, local, stage, "extractors", depth)
            reach = 7 if options.attention == "local" else x.shape[1]
            x = self.in_windows(x, reach, stage, "attention", options.global_blocks)
        pooled = batch_norm(x, w, "pooled.norm").mean((1, 2))
        parts = ("classify.coarse", "classify.fine") if options.together else ("classify",)
        return torch.cat([w[f"{part}.weight"] @ pooled + w[f"{part}.bias"] for part in parts])

    def in_windows(self, x: Tensor, side: int, stage: int, what: str, depth: int) -> Tensor:
        y = torch.empty_like(x)
        for rows, columns in windows(x, side):
            shape = x[:, rows, columns].shape
            tokens = x[:, rows, columns].flatten(1).t()
            for block in range(depth):
                tokens = self.block(tokens, f"stages.{stage}.{what}", block)
            y[:, rows, columns] = tokens.t().reshape(shape)
        return y

    def block(self, tokens: Tensor, name: str, block: int) -> Tensor:
        first, second = (f"{name}.{2 * block + part}" for part in range(2))
        normed = layer_norm(tokens, self.w, f"{first}.norm")
        if name.endswith("extractors"):
            branch = self.extracted(normed, f"{first}.branch")
        else:
            heads = max(1, tokens.shape[1] // self.options.head_width)
            branch = attention(normed, self.w, f"{first}.branch", heads)
        tokens = tokens + branch * self.w.get(f"{first}.scale", torch.ones(()))
        branch = mlp(layer_norm(tokens, self.w, f"{second}.norm"), self.w, f"{second}.branch")
        return tokens + branch * self.w.get(f"{second}.scale", torch.ones(()))

    def extracted(self, tokens: Tensor, name: str) -> Tensor:
        total = torch.zeros_like(tokens)  # equation 3
        for scan, order in enumerate(reading(self.options.scans, math.isqrt(len(tokens)))):
            group = 0 if self.options.mixers == "shared" else scan
            read = mixer(tokens[order], self.w, f"{name}.mixers", group, self.options.step_bias == "twice")
            for place, row in zip(order, read, strict=True):
                total[place] += row
        return total @ self.w[f"{name}.out.weight"].t()


VARIANTS: list[dict[str, Any]] = [
    {},
    {"mixers": "shared"},
    {"extractor": "global", "depths": (1, 1, 1)},
    {"attention": "local"},
    {"stem": "overlapping"},
    {"step_bias": "once", "scale": 0.1},
    {"classes": DFME},
    *({"scans": name, "depths": (0, 1)} for name in ("horizontal", "raster", "zigzag", "bidirectional", "symmetric")),
]


@pytest.mark.parametrize("variant", VARIANTS, ids=lambda variant: "-".join(map(str, variant.values()))[:40] or "paper")
def test_outputs_follow_the_equations(variant: dict[str, Any]) -> None:
    network = shaken(built(**variant))
    flow = pictures()
    with torch.no_grad():
        ours = network(flow)
    theirs = Equations(network, **variant)(flow)
    assert (ours[0] - ours[1]).abs().max() > 1e-3
    assert (ours - theirs).abs().max() < 2e-5 * max(1.0, float(theirs.abs().max()))


def test_patches_of_four_pixels_follow_the_equations() -> None:
    options = {"stem_stride": 4, "depths": (1, 1)}
    network = shaken(built(side=56, **options))
    theirs = Equations(network, **options)(pictures(side=56))
    assert (network(pictures(side=56)) - theirs).abs().max() < 2e-5 * max(1.0, float(theirs.abs().max()))


def test_extractors_stay_in_their_windows_and_attention_does_not() -> None:
    network = shaken(built())
    x = torch.randn(1, 8, 14, 14)
    changed = x.clone()
    changed[..., :7, :7] += 1
    for extractor, attention_, elsewhere in ((True, False, False), (False, True, True)):
        stage = network.stages[0]
        parts = [part for part, wanted in ((stage.extractors, extractor), (stage.attention, attention_)) if wanted]
        other = merba._Integration(8, 14, 2, merba.Options(**TINY)).eval()
        other.extractors, other.attention = (parts[0], nn.Sequential()) if extractor else (nn.Sequential(), parts[0])
        moved = (other(x) != other(changed)).flatten(0, 1).any(0)
        assert moved[:7, :7].all()
        assert bool(moved[7:].any()) == elsewhere


# --- two heads


def head(negative: tuple[int, ...] = (0, 2, 3, 5), classes: int = 7) -> _granularity.DualHead:
    torch.manual_seed(0)
    return _granularity.DualHead(5, classes, negative)


def the_papers_decision(output: Tensor) -> list[int]:
    """Section III-C for DFME: coarse negative, contempt (others), happiness, surprise; fine anger .. sadness."""
    found = []
    for row in output.tolist():
        coarse, fine = row[:4], row[4:]
        guess = coarse.index(max(coarse))
        found.append((0, 2, 3, 5)[fine.index(max(fine))] if guess == 0 else (1, 4, 6)[guess - 1])
    return found


@pytest.mark.parametrize("spread", [0.1, 1.0, 10.0, 60.0])
def test_the_greatest_probability_is_the_papers_decision(spread: float) -> None:
    output = spread * torch.randn(4000, 8, generator=torch.Generator().manual_seed(1))
    probs = head().probabilities(output)
    assert probs.argmax(1).tolist() == the_papers_decision(output)
    assert probs.min() >= 0
    assert torch.allclose(probs.sum(1), torch.ones(4000), atol=1e-5)


def test_the_decision_is_not_the_greatest_product() -> None:
    coarse = torch.tensor([0.45, 0.3, 0.15, 0.1]).log()
    fine = torch.tensor([0.3, 0.25, 0.24, 0.21]).log()
    (probs,) = head().probabilities(torch.cat([coarse, fine])[None])
    assert 0.45 * 0.3 < 0.3  # contempt would win by the product
    assert probs.argmax() == 0
    assert torch.allclose(probs[[1, 4, 6]], torch.tensor([0.3, 0.15, 0.1]), atol=1e-5)
    assert float(probs[0]) == pytest.approx(0.3, abs=1e-4)  # moved by no more than it needs
    assert probs[2] > probs[3] > probs[5]


def test_where_both_rules_agree_the_probabilities_are_the_products() -> None:
    output = torch.tensor([[3.0, 0, 0, 0, 2, 0, 0, 0], [0, 4, 0, 0, 1, 2, 3, 4.0]])
    probs, coarse, fine = head().probabilities(output), output[:, :4].softmax(1), output[:, 4:].softmax(1)
    assert torch.allclose(probs[:, [0, 2, 3, 5]], coarse[:, :1] * fine, atol=1e-5)
    assert torch.allclose(probs[:, [1, 4, 6]], coarse[:, 1:], atol=1e-5)


def test_ties_are_decided_too() -> None:
    probs = head().probabilities(torch.zeros(1, 8))
    assert probs.argmax() == 0
    assert torch.isfinite(probs).all()


def test_the_weight_grows_with_the_epochs() -> None:
    weights = [_granularity.weight(epoch / 200) for epoch in (0, 50, 100, 149, 150, 199)]
    assert weights == pytest.approx([0.5, 1.0, 1.5, 1.99, 2.0, 2.0])


@pytest.mark.parametrize(("progress", "alpha"), [(0.0, 0.5), (0.25, 1.0), (0.9, 2.0)])
def test_the_loss_is_equation_6(progress: float, alpha: float) -> None:
    labels = torch.arange(7)
    output = torch.randn(7, 8, generator=torch.Generator().manual_seed(2))
    coarse_of = {0: 0, 2: 0, 3: 0, 5: 0, 1: 1, 4: 2, 6: 3}
    fine_of = {0: 0, 2: 1, 3: 2, 5: 3}
    losses = head().loss(output, functional.one_hot(labels, 7).float(), progress)
    for label, row, loss in zip(labels.tolist(), output, losses, strict=True):
        coarse = functional.cross_entropy(row[None, :4], torch.tensor([coarse_of[label]]))
        fine = torch.tensor(0.0)
        if label in fine_of:
            fine = functional.cross_entropy(row[None, 4:], torch.tensor([fine_of[label]]))
        assert float(loss) == pytest.approx(float(0.5 * (coarse + alpha * fine)), rel=1e-5)


def test_the_scores_that_are_explained_are_the_chain_rules() -> None:
    made = head()
    output = 2 * torch.randn(64, 8, generator=torch.Generator().manual_seed(0))
    coarse, fine = output[:, :4].softmax(-1), output[:, 4:].softmax(-1)
    wanted = torch.empty(64, 7)
    wanted[:, [1, 4, 6]] = coarse[:, 1:]
    wanted[:, [0, 2, 3, 5]] = coarse[:, :1] * fine
    assert torch.allclose(made.scores(output).exp(), wanted, atol=1e-6)


def test_a_decided_class_is_not_explained_by_the_one_that_came_next() -> None:
    """Coarse .45, .3, .15, .1 and a fine head in doubt: "anger" is decided, and contempt has the greater product."""
    made = head()
    output = torch.cat([torch.tensor([0.45, 0.3, 0.15, 0.1]).log(), torch.tensor([0.3, 0.1, 0.0, 0.2])])[None]
    output.requires_grad_()
    decided = int(made.probabilities(output).argmax())
    assert decided == 0
    (own,) = torch.autograd.grad(made.scores(output)[0, decided], output)
    (next_,) = torch.autograd.grad(made.scores(output)[0, 1], output)
    assert own[0, 0] > 0, "the coarse head speaks for it"
    assert own[0, 4] > 0 > own[0, 5], "and so does the fine one"
    assert not torch.allclose(own, next_)


def test_a_coarse_head_that_is_sure_leaves_gradients_finite() -> None:
    output = torch.zeros(1, 8)
    output[0, 0] = -60
    output.requires_grad_()
    for found in (head().probabilities(output).log().sum(), head().scores(output).sum()):
        (gradient,) = torch.autograd.grad(found, output)
        assert torch.isfinite(gradient).all()


def test_a_map_of_two_heads_is_of_the_class_that_is_asked_for() -> None:
    network = shaken(built(classes=DFME)).eval()
    x = {"flow": pictures()}
    maps = [explain.heat(network, x, target, "gradient_input") for target in (0, 1)]
    assert all(torch.isfinite(found).all() for found in maps)
    assert not torch.allclose(*maps, rtol=1e-3)


def test_words_that_are_no_classes_are_told() -> None:
    assert built(classes=DFME).notices == ("Two heads: the coarse one takes anger, disgust, fear, sadness together.",)
    misspelt = built(classes=DFME, negative=("angry", "Disgust", "fear"))
    assert misspelt.notices[0].startswith("One head: fewer than two of anger")
    assert built(classes=DFME, dual=False).notices == built().notices == ()


def test_the_fine_head_learns_from_negatives_alone() -> None:
    dual = head()
    for label, learns in ((1, False), (4, False), (6, False), (0, True), (5, True)):
        dual.zero_grad()
        target = functional.one_hot(torch.tensor([label]), 7).float()
        dual.loss(dual(torch.ones(1, 5)), target, 0.3).sum().backward()
        assert bool(dual.fine.weight.grad.any()) == learns
        assert bool(dual.coarse.weight.grad.any())


def test_a_blended_target_is_the_blend_of_the_losses() -> None:
    output = torch.randn(1, 8).expand(2, 8)
    pure = head().loss(output, functional.one_hot(torch.tensor([2, 6]), 7).float(), 0.1)
    target = torch.zeros(1, 7)
    target[0, 2], target[0, 6] = 0.3, 0.7
    assert torch.allclose(head().loss(output[:1], target, 0.1), (0.3 * pure[0] + 0.7 * pure[1])[None])


@pytest.mark.parametrize(
    ("words", "together"),
    [
        (DFME, (0, 2, 3, 5)),
        (("anger", "disgust", "fear", "happiness", "sadness", "surprise", "others"), (0, 1, 2, 4)),
        (("anger", "contempt", "disgust", "happiness", "sadness", "surprise"), (0, 2, 4)),
        (("negative", "positive", "surprise"), ()),
        (("anger", "positive", "surprise"), ()),
        (("anger", "disgust"), ()),
        ((), ()),
    ],
)
def test_which_classes_are_taken_together(words: tuple[str, ...], together: tuple[int, ...]) -> None:
    assert merba.Options(classes=words).together == together
    assert merba.Options(classes=words, dual=False).together == ()
    network = built(count=len(words) or 3, classes=words)
    assert hasattr(network, "loss") == hasattr(network, "probabilities") == bool(together)


def test_other_words_than_classes_are_refused() -> None:
    with pytest.raises(UserError, match="want the 3 classes of the protocol"):
        built(count=3, classes=DFME)


# --- learning


def drawn(count: int, seed: int) -> tuple[Tensor, Tensor]:
    """Seven classes by the direction in which the middle of a picture moves, those of a coarse class side by side."""
    generator = torch.Generator().manual_seed(seed)
    flow, target = 0.5 * torch.randn(count, 3, 14, 14, generator=generator), torch.arange(count) % 7
    angles = 2 * math.pi * torch.tensor([0, 4, 1, 2, 5, 3, 6])[target] / 7
    flow[:, 0, 4:10, 4:10] += 2 * angles.cos()[:, None, None]
    flow[:, 1, 4:10, 4:10] += 2 * angles.sin()[:, None, None]
    return flow, target


@pytest.mark.parametrize("words", [(), DFME], ids=["one head", "two heads"])
def test_it_learns_seven_directions(words: tuple[str, ...], tmp_path: Path) -> None:
    options: dict[str, Any] = {"dim": 8, "depths": (1, 1), "head_width": 16, "classes": words}
    network = built(side=14, **options)
    flow, target = drawn(70, 0)
    hot = functional.one_hot(target, 7).float()
    optimiser = training._optimiser(network, merba.RECIPE.model_copy(update={"lr": 3e-3}))
    for step in range(60):
        losses = training._losses(network, network(flow), hot, merba.RECIPE, step / 60)
        optimiser.zero_grad(set_to_none=True)
        losses.mean().backward()
        optimiser.step()
    network.eval()
    flow, target = drawn(70, 1)
    probs = training.probabilities(network, network(flow))
    assert (probs.argmax(1) == target).float().mean() > 0.9
    save_file(network.state_dict(), tmp_path / "model.safetensors")
    again = built(side=14, **options).eval()
    again.load_state_dict(load_file(tmp_path / "model.safetensors"))
    assert torch.equal(again(flow), network(flow))


def test_fit_passes_the_epochs_on_to_the_loss(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    seen: list[float] = []
    monkeypatch.setattr(_granularity, "weight", lambda progress: seen.append(progress) or 1.0)
    network = built(depths=(0, 1), classes=DFME)
    views = {f"d/s{i}/{i}": [samples.View("v", {"flow": picture.numpy()})] for i, picture in enumerate(pictures(7))}
    packed = samples.pack(tmp_path, views, {"flow": ("u", "v", "magnitude")})
    train = samples.training(packed, {key: index for index, key in enumerate(views)}, 7)
    recipe = merba.RECIPE.model_copy(update={"epochs": 4, "patience": 0, "batch": 4})
    training.fit(network, train, None, recipe, training.Context(seed=0))
    assert sorted(set(seen)) == [0, 0.25, 0.5, 0.75]


def test_the_recipe_is_the_papers() -> None:
    recipe = merba.RECIPE
    rates = [training.learning_rate(recipe, epoch) for epoch in range(200)]
    assert rates[:5] == pytest.approx([1e-4, 2e-4, 3e-4, 4e-4, 5e-4])
    assert max(rates) == pytest.approx(5e-4)
    assert rates[5:190] == sorted(rates[5:190], reverse=True)
    assert rates[190:] == [5e-6] * 10
    assert (recipe.batch, recipe.optimiser, recipe.weight_decay, recipe.flip) == (128, "adamw", 0.05, True)


# --- the contract of a network


@pytest.mark.parametrize("options", [{}, {"mixers": "shared"}, {"scale": 0.1}, {"classes": DFME}, {"drop_path": 0.2}])
def test_every_parameter_gets_a_gradient(options: dict[str, Any]) -> None:
    network = built(**options)
    network(pictures(16 if "drop_path" in options else 2)).square().sum().backward()
    assert all(parameter.grad is not None for parameter in network.parameters())


def test_dropout_acts_in_training_only() -> None:
    network = built(dropout=0.5)
    assert not torch.equal(network(pictures()), network(pictures()))
    network.eval()
    assert torch.equal(network(pictures()), network(pictures()))


def test_bfloat16_stays_near() -> None:
    network = shaken(built(classes=DFME))
    plain = network(pictures())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        half = network(pictures())
    network.loss(half, torch.eye(7)[:2], 0.5).sum().backward()
    assert (half.float() - plain).abs().max() < 0.1 * max(1.0, float(plain.detach().abs().max()))
    assert all(torch.isfinite(parameter.grad).all() for parameter in network.parameters())


@pytest.mark.parametrize("side", [9, 20, 30, 61])
def test_any_square_picture_is_decided(side: int) -> None:
    network = built(side=side).eval()
    assert torch.isfinite(network(pictures(side=side))).all()


def test_patches_that_would_leave_a_rim_out_are_refused() -> None:
    with pytest.raises(UserError, match="merba: want a side that is a multiple of the stem's stride 8, got 30"):
        built(side=30, stem_stride=8)
    assert torch.isfinite(built(side=30, stem_stride=8, stem="overlapping")(pictures(side=30))).all()


@pytest.mark.parametrize("shape", [(3, 28, 24), (3, 0, 0), (28, 28)])
def test_wrong_pictures_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(UserError, match="merba: want a square flow picture"):
        merba.build({"flow": shape}, 3, merba.Options(**TINY))


@pytest.mark.parametrize(
    "wrong", [{"dim": 5}, {"depths": (1,)}, {"depths": (1, -1)}, {"scans": "diagonal"}, {"head_width": 3}, {"heads": 2}]
)
def test_wrong_options_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        merba.Options(**{**TINY, **wrong})


# --- the experiments


@pytest.mark.parametrize(
    "path",
    [path for path in sorted(EXPERIMENTS.glob("*.toml")) if not any(word in path.stem for word in ("htnet", "svm"))],
    ids=lambda path: path.stem,
)
def test_every_experiment_builds_its_network(path: Path) -> None:
    """At its own size, without memory: the shapes of a whole forward pass fit."""
    experiment = config.read(path)
    model = plugins.load("models", experiment.model.name)
    protocol = plugins.load("protocols", experiment.protocol.name)
    words = protocol.classes(config.options("protocols", experiment.protocol))
    assert experiment.input is not None
    side = config.options("inputs", experiment.input).size
    chosen = config.options("models", experiment.model)
    with torch.device("meta"):
        network = model.build({"flow": (3, side, side)}, len(words), chosen).eval()
        output = network(torch.zeros(2, 3, side, side))
    wide = 1 if getattr(chosen, "together", ()) else 0
    assert output.shape == (2, len(words) + wide)
    if experiment.model.name == "merba" and chosen.classes:
        assert chosen.classes == tuple(words)


def test_the_rows_of_a_table_differ_in_what_the_table_says() -> None:
    paper = config.plain(config.read(EXPERIMENTS / "table4.toml"))
    for path in PAPER_ROWS:
        if not path.stem.startswith(("table6", "table7", "table4_base")):
            continue
        row = config.plain(config.read(path))
        changed = {name for name in row["model"] if row["model"][name] != paper["model"][name]}
        assert changed == {{"table6_local_local": "attention", "table6_global_global": "extractor"}.get(
            path.stem, "dual" if path.stem == "table4_base" else "scans"
        )}  # fmt: skip
        assert {**row, "model": 0, "name": 0} == {**paper, "model": 0, "name": 0}


@pytest.mark.slow
@pytest.mark.parametrize("path", [path for path in PAPER_ROWS if "htnet" not in path.stem], ids=lambda path: path.stem)
def test_paper_size_goes_forward_and_back_at_224(path: Path) -> None:
    experiment = config.read(path)
    torch.manual_seed(0)
    model = plugins.load("models", experiment.model.name)
    network = model.build({"flow": (3, 224, 224)}, 7 if "dfme" in experiment.datasets else 3,
                          config.options("models", experiment.model))  # fmt: skip
    loss = network(pictures(2, 224)).float().square().mean()
    loss.backward()
    assert torch.isfinite(loss)
    assert all(torch.isfinite(parameter.grad).all() for parameter in network.parameters())
