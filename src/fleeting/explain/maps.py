"""Heat maps by gradients: which places of an input speak for a class, for any network and any of its classes.

| method | what | values | source |
|---|---|---|---|
| grad_cam | features weighted by the mean gradient of their channel, summed, negative parts cut | >= 0 | Selvaraju |
| grad_cam++ | the same with a weighted mean over the places whose gradient is positive | >= 0 | Chattopadhay |
| hires_cam | features, less those at rest, times their gradient, summed | signed | Draelos |
| integrated | input, less what stands for rest, times its mean gradient on the way | signed | Sundararajan |
| gradient_input | input, less what stands for rest, times its gradient, summed | signed | Shrikumar |
| attention | attention weighted by its gradient, from the pooled output down to the map | >= 0 | Chefer |

Selvaraju et al., "Grad-CAM: Visual Explanations from Deep Networks via Gradient-Based Localization", ICCV 2017, DOI
10.1109/ICCV.2017.74, equations 1 and 2. Chattopadhay et al., "Grad-CAM++", WACV 2018, DOI 10.1109/WACV.2018.00097,
equations 5 and 19. Draelos and Carin, "Use HiResCAM instead of Grad-CAM for faithful explanations of convolutional
neural networks", 2020, arXiv 2011.08891. Sundararajan, Taly, Yan, "Axiomatic Attribution for Deep Networks", ICML 2017,
equation 1: such a map sums to the score less the score at rest, but for networks that divide by the strength of what
they see, as flow_svm does; there it is gradient times input. Shrikumar et al., "Not just a black box", 2016, arXiv
1605.01713. Chefer, Gur, Wolf, "Generic Attention-model Explainability for Interpreting Bi-Modal and Encoder-Decoder
Transformers", ICCV 2021, equations 5 and 6.

A positive value speaks for the class; in a signed map a negative one speaks against it. Grad-CAM's mean forgets where a
gradient was, which suits heads that average over the map alone. Behind a head that weighs places it may show places
that decide nothing: `benchmarks/explain.py` sets the hottest places to rest and looks at what is left of the decision.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import isqrt
from typing import Any, Literal, cast, get_args

import torch
import torch.nn.functional as functional
from torch import Tensor, nn

from fleeting import training
from fleeting.errors import UserError, nearest

Method = Literal["auto", "grad_cam", "grad_cam++", "hires_cam", "integrated", "gradient_input", "attention"]
METHODS: tuple[str, ...] = get_args(Method)
SIGNED = ("hires_cam", "integrated", "gradient_input")
"""Methods whose maps hold negative values: places that speak against the class."""

_LEAST = 1e-12
_STEPS = 16  # of the way from rest; maps of STSTNet and HTNet are then within 2.5 % of those of 128 steps


def heat(
    network: nn.Module,
    x: Mapping[str, Tensor],
    target: int | Tensor | None = None,
    method: str = "auto",
    rest: Mapping[str, Tensor] | None = None,
) -> Tensor:
    """How much each place of an input speaks for a class.

    Gradients are those of the class's score: the network's ``scores(output) -> (B, C)`` where it has that, its output
    where its probabilities are the softmax of it, else the logarithm of its ``probabilities``.

    Args:
        network: of any kind; it is looked at in evaluation mode and left as it was. "grad_cam", "grad_cam++" and
            "hires_cam" want ``features(**x) -> (B, K, h, w)`` and ``head(features)``; "attention" wants
            ``attention(**x) -> (output, matrices)`` with the matrices (B, heads, N, N) of its global attention layers
            in order, rows summing to 1, from which the output was computed; N = h w tokens, row by row, of square
            maps that never grow, pooled evenly at the end; or N = 1 + h w in all layers, where the first token alone
            decides at the end.
        x: arrays (B, C, ..., H, W) as the network eats them, on its device.
        target: a class, one a sample (B,), or None: the decision of each sample.
        method: see the module; "auto" is "integrated", which any network allows and which takes 16 passes
            forward and back.
        rest: arrays that stand for "nothing here", of a shape that broadcasts to `x`, for the signed methods; 0 for
            an array that is not named. Without any, "hires_cam" takes the features as they are.

    Returns:
        (B, h, w) float32 on the CPU: h, w of the features, of the finest attention map, or of the input (of its
        largest array; others are spread over it, their sums kept). Time is summed.

    Raises:
        UserError: no such method or class, or the network has not what the method wants.
    """
    chosen = resolved(network, method)
    modes = [(module, module.training) for module in network.modules()]
    network.eval()
    try:
        with torch.enable_grad():
            found = _heat(chosen, network, {name: array.detach() for name, array in x.items()}, target, rest or {})
    finally:
        for module, mode in modes:
            module.training = mode
    return found.detach().float().cpu()


def resolved(network: nn.Module, method: str) -> str:
    """The method that "auto" stands for, after a check that the network has what it wants.

    Raises:
        UserError: no such method, or the network has not what it wants.
    """
    if method not in METHODS:
        raise UserError(f"want a method of {', '.join(METHODS)}, got {method!r}{nearest(method, METHODS)}")
    if method == "auto":
        return "integrated"
    kind, has_map = type(network).__name__, hasattr(network, "features") and hasattr(network, "head")
    if method == "attention" and not hasattr(network, "attention"):
        raise UserError(f"want a network that shows its attention, got {kind}; choose the method 'auto'")
    if method in ("grad_cam", "grad_cam++", "hires_cam") and not has_map:
        raise UserError(f"want a network with features and a head, got {kind}; choose the method 'auto'")
    return method


def _heat(
    method: str, network: nn.Module, x: dict[str, Tensor], target: int | Tensor | None, rest: Mapping[str, Tensor]
) -> Tensor:
    still = {name: torch.zeros_like(array) + rest.get(name, 0) for name, array in x.items()}
    if method == "gradient_input":
        return _gradient_input(network, x, still, target)
    if method == "integrated":
        return _integrated(network, x, still, target)
    if method == "attention":
        return _attention(network, x, target)
    features = cast(Any, network).features(**x).detach().requires_grad_()
    score = _score(network, cast(Any, network).head(features), target)
    (gradient,) = torch.autograd.grad(score.sum(), features)
    features = features.detach()
    if method == "hires_cam":
        base = cast(Any, network).features(**still).detach() if rest else 0
        return torch.einsum("bkhw,bkhw->bhw", gradient, features - base)
    weights = gradient.mean((2, 3)) if method == "grad_cam" else _weighted_mean(gradient, features)
    return torch.einsum("bk,bkhw->bhw", weights, features).relu()


def _score(network: nn.Module, output: Any, target: int | Tensor | None) -> Tensor:
    """(B,) the score of the wanted class of each sample."""
    probs = training.probabilities(network, output)
    own = getattr(network, "scores", None)
    if own is not None:
        scores = own(output)
    else:
        scores = probs.clamp_min(_LEAST).log() if hasattr(network, "probabilities") else output
    if target is None:
        wanted = probs.argmax(1)
    else:
        wanted = torch.as_tensor(target, device=scores.device).expand(len(scores))
        if int(wanted.min()) < 0 or int(wanted.max()) >= scores.shape[1]:
            raise UserError(f"want classes below {scores.shape[1]}, got {target}; look at the model's classes")
    return cast(Tensor, scores.gather(1, wanted[:, None])[:, 0])


def _weighted_mean(gradient: Tensor, features: Tensor) -> Tensor:
    """(B, K) weights of Grad-CAM++: sum over the places of alpha relu(g).

    alpha = g^2 / (2 g^2 + g^3 sum A), 0 where g is 0: equation 19 where the exponential of the score is explained, so
    that second and third derivatives are powers of the first.
    """
    square = gradient**2
    below = 2 * square + (features.sum((2, 3), keepdim=True) * gradient) * square
    alpha = torch.where(below.abs() > _LEAST, square / below.where(below.abs() > _LEAST, 1.0), 0.0)
    return (alpha * gradient.relu()).sum((2, 3))


def _gradient_input(
    network: nn.Module, x: Mapping[str, Tensor], still: Mapping[str, Tensor], target: int | Tensor | None
) -> Tensor:
    gradients = _gradients(network, x, target)
    return _joined([_flat(gradients[name] * (array - still[name])) for name, array in x.items()])


def _integrated(
    network: nn.Module, x: Mapping[str, Tensor], still: Mapping[str, Tensor], target: int | Tensor | None
) -> Tensor:
    """The middle of each of 16 stretches of the straight way from rest."""
    if target is None:  # what is decided on the way is not asked
        with torch.no_grad():
            target = training.probabilities(network, network(**x)).argmax(1)
    total = {name: torch.zeros_like(array) for name, array in x.items()}
    for step in range(_STEPS):
        share = (step + 0.5) / _STEPS
        there = {name: still[name] + share * (array - still[name]) for name, array in x.items()}
        for name, gradient in _gradients(network, there, target).items():
            total[name] += gradient / _STEPS
    return _joined([_flat(total[name] * (array - still[name])) for name, array in x.items()])


def _gradients(network: nn.Module, x: Mapping[str, Tensor], target: int | Tensor | None) -> dict[str, Tensor]:
    """Of the score by each array; 0 for one that has no say."""
    watched = {name: array.clone().requires_grad_() for name, array in x.items()}
    score = _score(network, network(**watched), target)
    found = torch.autograd.grad(score.sum(), list(watched.values()), allow_unused=True)
    return {
        name: torch.zeros_like(array) if gradient is None else gradient
        for (name, array), gradient in zip(x.items(), found, strict=True)
    }


def _flat(values: Tensor) -> Tensor:
    """(B, C, ..., h, w) -> (B, h, w) sums."""
    return values.flatten(1, -3).sum(1)


def _joined(maps: Sequence[Tensor]) -> Tensor:
    """Sum of (B, h, w) maps of several sizes, at the largest, each keeping its own sum."""
    height, width = (max(part.shape[axis] for part in maps) for axis in (1, 2))
    spread = [
        functional.interpolate(part[:, None], (height, width), mode="nearest-exact")[:, 0]
        * (part.shape[1] * part.shape[2] / (height * width))
        for part in maps
    ]
    return torch.stack(spread).sum(0)


def _attention(network: nn.Module, x: dict[str, Tensor], target: int | Tensor | None) -> Tensor:
    """Relevance of the tokens: from even shares at the pooled output back through the layers, r <- r + r A.

    Where a token of its own decides, it has all at the beginning, and is no place of the map in the end.

    A is the mean over the heads of relu(gradient * attention) (equation 5). Where a map gets smaller, the relevance of
    its tokens is spread over those of the larger map, their sum kept. The even start, which every token has, is taken
    off at the end.
    """
    # a network may have no parameter that asks for gradients
    watched = {name: array.clone().requires_grad_() for name, array in x.items()}
    output, matrices = cast(Any, network).attention(**watched)
    gradients = torch.autograd.grad(_score(network, output, target).sum(), list(matrices))
    relevance = start = _shares(matrices[-1])
    for matrix, gradient in zip(reversed(matrices), reversed(gradients), strict=True):
        relevance, start = (_spread(part, matrix.shape[-1]) for part in (relevance, start))
        weights = (gradient * matrix).relu().mean(1)  # (B, N, N)
        relevance = relevance + torch.einsum("bn,bnm->bm", relevance, weights)
    places = isqrt(relevance.shape[1]) ** 2
    found: Tensor = (relevance - start)[:, -places:].view(-1, isqrt(places), isqrt(places))
    return found


def _shares(last: Tensor) -> Tensor:
    """(B, N) what the tokens have in the output: all the same, or the first alone where there is one beside a map."""
    count = last.shape[-1]
    if isqrt(count) ** 2 == count:
        return last.new_full((len(last), count), 1 / count)
    return functional.one_hot(last.new_zeros(len(last), dtype=torch.long), count).to(last)


def _spread(tokens: Tensor, count: int) -> Tensor:
    """(B, N) of a square map to (B, count) of a larger one."""
    if tokens.shape[1] == count:
        return tokens
    side = round(tokens.shape[1] ** 0.5)
    return _joined(
        [tokens.view(-1, side, side), tokens.new_zeros(len(tokens), round(count**0.5), round(count**0.5))]
    ).flatten(1)
