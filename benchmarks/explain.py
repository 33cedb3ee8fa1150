"""Whether heat maps show what decides: the hottest places are set to rest, and the decision should go.

    python benchmarks/explain.py [--subjects 6] [--threads 1]

Trains the models on drawn faces of one seed, explains decisions on those of another (so nobody was trained on), and
sets the hottest 3, 6 and 12 of 49 places to rest: the lower the probability of the decided class that is left, the
better the map. "random" places are the yardstick: a map that does no better shows nothing. After
Samek et al., "Evaluating the visualization of what a deep neural network has learned", IEEE TNNLS 2017.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as functional

from fleeting import config, experiment, explain, plugins, preparation, training
from fleeting.explain import clips
from fleeting.explain.maps import resolved

MODELS = {
    "flow_svm": {"model": {"name": "flow_svm"}},
    "ststnet": {"model": {"name": "ststnet"}, "recipe": {"epochs": 120, "batch": 32, "lr": 1e-3}},
    "htnet": {
        "model": {"name": "htnet", "dim": 48, "heads": 3, "layers": [1, 1, 2]},
        "recipe": {"epochs": 60, "batch": 32, "lr": 3e-4},
    },
}
METHODS = ("grad_cam", "grad_cam++", "hires_cam", "gradient_input", "integrated", "random")
PLACES, SIDE = (3, 6, 12), 7


def main() -> None:
    """Prints a table a model."""
    options = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    options.add_argument("--subjects", type=int, default=6)
    options.add_argument("--threads", type=int, default=1)
    chosen = options.parse_args()
    torch.set_num_threads(chosen.threads)
    with tempfile.TemporaryDirectory() as folder:
        base = Path(folder)
        os.environ["FLEETING_CACHE"] = str(base / "cache")
        roots = {name: _drawn(base / name, chosen.subjects, seed) for seed, name in enumerate(("train", "test"))}
        for name, tables in MODELS.items():
            resolved_ = config.resolve({"datasets": ["simulated"], **tables})
            experiment.train(resolved_, base / name, roots={"simulated": roots["train"]})
            _measure(name, base / name, roots["test"])


def _drawn(root: Path, subjects: int, seed: int) -> Path:
    simulated = plugins.load("datasets", "simulated")
    simulated.write(root, simulated.Options(subjects=subjects, seed=seed))
    return root


def _measure(name: str, folder: Path, root: Path) -> None:
    model = clips._opened(folder)
    clips_ = plugins.load("datasets", "simulated").load(root)
    packed, _, _ = preparation.prepare(model.experiment, clips_)
    x = {key: torch.from_numpy(np.array(array)).float() for key, array in packed.x.items()}
    rest = clips.rest(x, model.input.channels(model.options))
    with torch.no_grad():
        probs = training.probabilities(model.network, model.network(**x))
    decided = probs.argmax(1)
    before = float(probs.gather(1, decided[:, None]).mean())
    print(
        f"{name}: {len(decided)} clips, probability of the decision {before:.3f}; after resting {PLACES} of {SIDE**2}"
    )
    for method in METHODS:
        if method == "random":
            heat = torch.rand(len(decided), SIDE, SIDE, generator=torch.Generator().manual_seed(0))
        else:
            heat = explain.heat(model.network, x, decided, resolved(model.network, method), rest)
        print(f"  {method:15}" + "".join(f"{left:8.3f}" for left in _left(model.network, x, rest, heat, decided)))


def _left(
    network: torch.nn.Module,
    x: dict[str, torch.Tensor],
    rest: dict[str, torch.Tensor],
    heat: torch.Tensor,
    decided: torch.Tensor,
) -> list[float]:
    """Mean probability of the decision with the hottest places at rest."""
    resized = functional.interpolate(heat[:, None], (28, 28), mode="bilinear")
    order = functional.adaptive_avg_pool2d(resized, SIDE).flatten(1).argsort(1, descending=True)
    found = []
    for count in PLACES:
        mask = torch.zeros(len(heat), SIDE**2).scatter_(1, order[:, :count], 1).view(-1, 1, SIDE, SIDE)
        changed = {
            key: torch.where(functional.interpolate(mask, array.shape[-2:], mode="nearest-exact") > 0, rest[key], array)
            for key, array in x.items()
        }
        with torch.no_grad():
            probs = training.probabilities(network, network(**changed))
        found.append(float(probs.gather(1, decided[:, None]).mean()))
    return found


if __name__ == "__main__":
    main()
