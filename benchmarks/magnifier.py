"""What magnified flow has to do with the motion that was there: `python benchmarks/magnifier.py`.

Writes ``docs/results/magnifier.md`` and its picture. Drawn faces whose motion is known; flow as a recording gives it
(DIS, 64 x 64 px). A U-Net learns equation 1 alone, or equation 2 with a small AMMSM behind it that tells the
expressions apart, from some faces; what it and plain scaling make of the flow of other faces is compared with the true
flow times the factor. Scaling is the optimum of equation 1, so a U-Net can only come near it there; what it does
better, if anything, is for recognition to say (``--runs``).
"""

from __future__ import annotations

import argparse
import os
import platform
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from matplotlib.figure import Figure

from fleeting import align, files, machine, motion, plugins, runs, scoring
from fleeting.models import ammsm
from fleeting.models._magnifier import Form, Magnifier, distance
from fleeting.records import Array
from fleeting.simulation import Disturbance, Expression, Scene

SIZE, SIDE = (160, 160), 64
UNITS: tuple[Mapping[str, float], ...] = (
    {"12": 1.0, "6": 0.5}, {"1": 1.0, "2": 0.8}, {"4": 1.0, "R10": 0.7}, {"15": 1.0, "17": 0.6},
)  # fmt: skip
FACTORS, NOISES, DRIFTS = (1.0, 2.0, 3.0, 4.0), (0.0, 2.0, 5.0), (0.0, 0.5, 1.0, 2.0)
ONSET, APEX, BATCH = 2, 8, 16
SYSTEMS: Mapping[str, Mapping[str, Any]] = {
    "equation 2": {},
    "equation 2, weight 4": {"magnifier_weight": 4.0},  # as much as on 256 px
    "scaled": {"magnify": "scale"},
    "not magnified": {"magnify": "none"},
}
FORMS: Mapping[str, Mapping[str, Any]] = {
    "relative (default)": {},
    "relative, factor by sines": {"factor_map": "sines"},
    "relative, residual": {"residual": True},
    "given: pixels": {"units": "given"},
}
Magnify = Callable[[Array, float], Array]
"""Flow (2, 64, 64), the factor -> the magnified flow."""


@dataclass(frozen=True)
class Seen:
    """One face: (2, 64, 64) px each.

    Attributes:
        subject: whose it is. label: which of `UNITS` moves.
        found: flow as it is measured. true: as it is. expression: what it would be with the head still.
    """

    subject: int
    label: int
    found: Array
    true: Array
    expression: Array


def main() -> None:
    arguments = _arguments()
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    began = time.monotonic()
    train = [
        seen for noise in NOISES for drift in DRIFTS[:3]
        for seen in _faces(arguments.train, Disturbance(noise=noise, drift_px=drift))
    ]  # fmt: skip
    tested = range(100, 100 + arguments.test)
    systems = {name: _system(train, changes, arguments) for name, changes in SYSTEMS.items()}
    ways = {"equation 1": _alone(train, arguments)}
    ways |= {name: _way(one.magnifier) for name, one in systems.items() if one.magnifier is not None}
    ways["scaled"] = _scaled
    parts = [_head(train, arguments), *_form_part(train, tested, arguments), *_error_part(ways, tested, arguments)]
    parts += [*_share_part(ways, tested), _picture_part(ways, tested, arguments.out)]
    parts += [*_recognition_part(systems, tested), _runs_part(arguments)]
    files.write_text(arguments.out, "\n\n".join(parts) + "\n")
    print(f"wrote {arguments.out}, {time.monotonic() - began:.0f} s")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("--train", type=int, nargs="+", default=list(range(1, 11)), help="subjects")
    parser.add_argument("--test", type=int, default=6, help="how many other subjects")
    parser.add_argument("--steps", type=int, default=600, help="half as many for each form of the U-Net")
    parser.add_argument("--width", type=int, default=8, help="64 in the paper's size")
    parser.add_argument("--levels", type=int, default=3, help="4 in the paper's size")
    parser.add_argument("--lr", type=float, default=3e-3)
    parser.add_argument("--runs", type=Path, nargs="*", default=[], help="of experiments that differ in the magnifier")
    parser.add_argument("--out", type=Path, default=Path("docs/results/magnifier.md"))
    return parser.parse_args()


def _faces(subjects: Sequence[int], disturbance: Disturbance) -> Iterator[Seen]:
    flow = plugins.load("flow", "dis")
    for subject in subjects:
        for number, units in enumerate(UNITS):
            scene = Scene(14, Expression(ONSET, APEX, 13, units), subject, SIZE, disturbance, seed=number)
            one, two = (align.grey(scene[index])[None] for index in (ONSET, APEX))
            still = replace(scene, disturbance=replace(disturbance, drift_px=0.0))
            fields = flow.flow(one, two, flow.Options())[0], scene.flow(ONSET, APEX), still.flow(ONSET, APEX)
            yield Seen(subject, number, *(motion.resize(uv, SIDE, SIDE) for uv in fields))


# --- training


class Batches:
    """Fields (B, 2, 64, 64) with their labels, mirrored half of the time, and a factor for each batch."""

    def __init__(self, faces: Sequence[Seen]) -> None:
        self.fields = torch.from_numpy(np.stack([seen.found for seen in faces]))
        self.labels = torch.tensor([seen.label for seen in faces])
        self.rng = np.random.default_rng(0)

    def __call__(self) -> tuple[torch.Tensor, torch.Tensor, float]:
        chosen = torch.from_numpy(self.rng.choice(len(self.fields), BATCH))
        x, label = self.fields[chosen], self.labels[chosen]
        if self.rng.random() < 0.5:
            x = x.flip(3) * torch.tensor([-1.0, 1.0]).view(1, 2, 1, 1)
        return x, label, float(self.rng.uniform(FACTORS[0], FACTORS[-1]))


def _learn(network: torch.nn.Module, steps: int, lr: float, loss: Callable[[float], torch.Tensor]) -> None:
    optimiser = torch.optim.AdamW(network.parameters(), lr=lr, weight_decay=0.0)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
    for step in range(steps):
        optimiser.zero_grad(set_to_none=True)
        loss(step / steps).backward()
        optimiser.step()
        schedule.step()


def _equation_1(faces: Sequence[Seen], form: Form, steps: int, lr: float) -> Magnifier:
    torch.manual_seed(0)
    network, batches = Magnifier(2, form), Batches(faces)

    def loss(progress: float) -> torch.Tensor:
        x, _, factor = batches()
        return distance(x, network(x, factor), factor).mean()

    _learn(network, steps, lr, loss)
    return network.eval()


def _system(faces: Sequence[Seen], changes: Mapping[str, Any], arguments: argparse.Namespace) -> Any:
    """Two small stages behind the same U-Net or what stands in its place; no window is dropped."""
    torch.manual_seed(0)
    options = ammsm.Options(
        dim=16,
        depths=(2, 2),
        attention=(0, 1),
        head_width=16,
        state=16,
        mlp=2,
        spatial="none",
        sparsity=0.0,
        magnifier_width=arguments.width,
        **{"magnifier_levels": arguments.levels, **changes},
    )
    network: Any = ammsm.build({"flow": (2, SIDE, SIDE)}, len(UNITS), options).train()
    batches = Batches(faces)

    def loss(progress: float) -> torch.Tensor:
        x, label, network.factor = batches()
        losses: torch.Tensor = network.loss(network(x), torch.eye(len(UNITS))[label], progress)
        return losses.mean()

    _learn(network, arguments.steps, arguments.lr, loss)
    network.factor = FACTORS[-1]
    return network.eval()


def _way(network: Magnifier) -> Magnify:
    def magnify(uv: Array, factor: float) -> Array:
        with torch.no_grad():
            return np.asarray(network(torch.from_numpy(uv)[None], factor)[0].numpy())

    return magnify


def _scaled(uv: Array, factor: float) -> Array:
    return np.float32(factor) * uv


def _right(network: Any, faces: Sequence[Seen]) -> Array:
    with torch.no_grad():
        logits = network(torch.from_numpy(np.stack([seen.found for seen in faces])))
    return (logits.argmax(1) == torch.tensor([seen.label for seen in faces])).double().numpy()


# --- sections


def _head(train: Sequence[Seen], arguments: argparse.Namespace) -> str:
    versions = ", ".join(f"{name} {value}" for name, value in machine.versions().items())
    lengths = [float(np.sqrt((seen.found**2).mean())) for seen in train]
    return f"""# AMMSM's magnifier: what it learns, on faces whose motion is known

<!-- written by benchmarks/magnifier.py -->

Drawn faces (`fleeting.simulation`) of {SIZE[0]} x {SIZE[1]} px, {len(UNITS)} expressions each: {len(arguments.train)}
subjects train, {arguments.test} others test. DIS flow from onset to apex, averaged to {SIDE} x {SIDE} px; {len(train)}
fields train: sensor noise {_listed(NOISES)} (of 255) times head drift {_listed(DRIFTS[:3])} px. The root mean square of
a field is {np.median(lengths):.3f} px in the median, beside factors of 1 to 4. Brackets: 95 % bootstrap interval over
test subjects (2,000 resamples, seed 0).

{versions}; {platform.machine()}, {machine.processor()}."""


def _form_part(train: Sequence[Seen], tested: Sequence[int], arguments: argparse.Namespace) -> list[str]:
    faces = list(_faces(tested, Disturbance(noise=2)))
    rows: dict[str, dict[str, str]] = {}
    for name, changes in FORMS.items():
        form = Form(arguments.width, arguments.levels)._replace(**changes)
        rows[name] = _form_row(_way(_equation_1(train, form, arguments.steps // 2, arguments.lr)), faces)
    rows |= {"scaled": _form_row(_scaled, faces), "as it was": _form_row(lambda uv, factor: uv, faces)}
    return [
        f"""## In what units it works

Equation 1 alone, {arguments.steps // 2} steps of {BATCH} with a factor of its own each, a U-Net of width
{arguments.width} with {arguments.levels} levels (64 and 4 in the paper's size); `magnifier_units`, `magnifier_map` and
`magnifier_residual` of model `ammsm`. Left: the distance of equation 1 on the test faces (noise 2), in units of the
mean length of what it asks for; 1 is what an empty field has. Right: the endpoint error against the true flow times 4,
in units of its mean length where it moves.""",
        _table("form", rows),
    ]


def _form_row(way: Magnify, faces: Sequence[Seen]) -> dict[str, str]:
    cells: dict[str, str] = {}
    for factor in (1.0, 2.0, 4.0):
        asked = [factor * seen.found for seen in faces]
        away = [
            float(np.abs(way(seen.found, factor) - want).mean() / np.abs(want).mean())
            for seen, want in zip(faces, asked, strict=True)
        ]
        cells[f"equation 1, x {factor:g}"] = _interval(away, faces)
    errors = [_relative(way(seen.found, 4.0), 4 * seen.true) for seen in faces]
    return cells | {"error, x 4": _interval(errors, faces)}


def _alone(train: Sequence[Seen], arguments: argparse.Namespace) -> Magnify:
    return _way(_equation_1(train, Form(arguments.width, arguments.levels), arguments.steps, arguments.lr))


def _error_part(ways: Mapping[str, Magnify], tested: Sequence[int], arguments: argparse.Namespace) -> list[str]:
    rows: dict[str, dict[str, str]] = {}
    for noise in NOISES:
        faces = list(_faces(tested, Disturbance(noise=noise)))
        for name, way in ways.items():
            rows[f"noise {noise:g}, {name}"] = {
                f"x {factor:g}": _interval(
                    [_relative(way(seen.found, factor), factor * seen.true) for seen in faces], faces
                )
                for factor in FACTORS
            }
    return [
        f"""## Error of the magnified flow

Endpoint error against the true flow times the factor, in units of its mean length, where it is at least a quarter of
its longest. "Equation 1": a U-Net that learned to scale and nothing else ({arguments.steps} steps of {BATCH}).
"Equation 2": U-Nets that learned with a small AMMSM behind them, which tells the expressions apart. Equation 1 counts
pixels, and flow of {SIDE} px has a quarter of those of 256 px: at weight 1 it is too small beside the cross-entropy to
keep the field a flow; a weight of 4 makes up for the size (`magnifier_weight`).""",
        _table("", rows),
    ]


def _relative(made: Array, wanted: Array) -> float:
    length = motion.magnitude(wanted)
    where = length >= length.max() / 4
    return motion.endpoint_error(made, wanted, where) / float(length[where].mean())


def _share_part(ways: Mapping[str, Magnify], tested: Sequence[int]) -> list[str]:
    rows: dict[str, dict[str, str]] = {}
    for drift in DRIFTS:
        faces = list(_faces(tested, Disturbance(noise=2, drift_px=drift)))
        for name in ("true", *ways):
            made = [4 * seen.true if name == "true" else ways[name](seen.found, 4.0) for seen in faces]
            columns = np.array([_gains(uv, seen) for uv, seen in zip(made, faces, strict=True)]).T
            cells = [_interval(column, faces) if drift or not index else "" for index, column in enumerate(columns)]
            rows[f"drift {drift:g} px, {name}"] = dict(zip(("expression", "head", "head's share"), cells, strict=True))
    return [
        """## How much of it is expression, and how much is head

Times 4, noise 2, a head that drifts (px of 160). The field is fitted by the expression's true flow and the head's
(least squares; their sum is the true flow up to a small rest): how many times as large each is in it, and the head's
share of the energy of both.""",
        _table("", rows),
    ]


def _gains(made: Array, seen: Seen) -> tuple[float, float, float]:
    """How many times as large the expression and the head's motion are in `made`, and the head's share of both."""
    parts = np.stack([seen.expression.ravel(), (seen.true - seen.expression).ravel()], axis=1)
    if not np.abs(parts[:, 1]).max() > 1e-6:
        parts = parts[:, :1]
    found = np.linalg.lstsq(parts.astype(np.float64), made.ravel().astype(np.float64), rcond=None)[0]
    energy = (found * np.sqrt((parts**2).sum(0))) ** 2
    head = (float(found[1]), float(energy[1] / energy.sum())) if len(found) > 1 else (0.0, 0.0)
    return float(found[0]), *head


def _picture_part(ways: Mapping[str, Magnify], tested: Sequence[int], out: Path) -> str:
    """Brows that come down with a head that drifts."""
    seen = list(_faces(tested[:1], Disturbance(noise=2, drift_px=1.0)))[2]
    fields = {"flow as measured": seen.found, "true x 4": 4 * seen.true, "of it expression": 4 * seen.expression}
    fields |= {f"{name} x 4": way(seen.found, 4.0) for name, way in ways.items()}
    most = float(np.percentile(motion.magnitude(4 * seen.true), 99.5))
    shown = {name: motion.colours(uv, most) for name, uv in fields.items()} | {f"to {most:.1f} px": motion.wheel(SIDE)}
    figure = Figure(figsize=(1.6 * len(shown), 1.9), layout="constrained")
    for axes, (name, picture) in zip(figure.subplots(1, len(shown)), shown.items(), strict=True):
        axes.imshow(picture)
        axes.set_title(name, fontsize=8)
        axes.axis("off")
    path = out.with_name("magnifier.png")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)
    return f"![One face with a head that drifts 1 px, times 4]({path.name})"


def _recognition_part(systems: Mapping[str, Any], tested: Sequence[int]) -> list[str]:
    rows: dict[str, dict[str, str]] = {name: {} for name in systems}
    for drift in DRIFTS:
        faces = list(_faces(tested, Disturbance(noise=2, drift_px=drift)))
        for name, network in systems.items():
            rows[name][f"drift {drift:g} px"] = _interval(_right(network, faces), faces)
    return [
        """## Recognition with each

Scaling is the optimum of the magnifier's own loss, so what the magnifier is good for shows in recognition alone. The
share of the test faces whose expression is told, of four (chance .25), times 4, noise 2; the same small AMMSM, the same
steps, another magnifier in front of it. A drift of 2 px was not trained on.""",
        _table("", rows),
    ]


def _runs_part(arguments: argparse.Namespace) -> str:
    title = "### In whole runs\n\n"
    if not arguments.runs:
        return f"""{title}`experiments/ammsm/table3_small.toml` (learned), `table3_scale_small.toml` (scaled) and
`table3_mamba_sa_small.toml` (not magnified) differ in nothing else. Run them, and give the run folders to this script
(`--runs`) for their scores here; `fleeting compare` tests the differences."""
    rows = {}
    for folder in arguments.runs:
        model = runs.Run(folder).header["experiment"]["model"]
        found = scoring.score_run(folder)
        for part, block in found["parts"].items():
            rows[f"{found['run']}{f', {part}' if len(found['parts']) > 1 else ''}"] = {
                "magnify": str(model["magnify"]),
                **{label: _scored(block, name) for name, label in (("uf1", "UF1"), ("uar", "UAR"))},
                "training accuracy": "" if block["train_accuracy"] is None else f"{block['train_accuracy']:.2f}",
                "subjects": str(block["subjects"]),
                "seeds": str(len(block["by_seed"])),
            }
    return f"""{title}The whole system, after the last epoch, in brackets the 95 % bootstrap interval over subjects.

{_table("run", rows)}"""


def _scored(block: Mapping[str, Any], name: str) -> str:
    low, high = block["interval"][name]
    return f"{block[name]:.3f}" + ("" if low is None else f" [{low:.3f}, {high:.3f}]")


# --- tables


def _table(first: str, rows: Mapping[str, Mapping[str, str]]) -> str:
    columns = list(next(iter(rows.values())))
    lines = [[first, *columns], ["---"] * (len(columns) + 1)]
    lines += [[name, *(row[column] for column in columns)] for name, row in rows.items()]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _listed(numbers: Sequence[float]) -> str:
    return ", ".join(f"{number:g}" for number in numbers)


def _interval(values: Sequence[float] | Array, faces: Sequence[Seen]) -> str:
    subjects = np.array([seen.subject for seen in faces])
    means = np.array([np.mean(np.asarray(values)[subjects == subject]) for subject in np.unique(subjects)])
    draws = np.random.default_rng(0).choice(means, (2000, len(means))).mean(1)
    low, high = np.percentile(draws, [2.5, 97.5])
    return f"{means.mean():.2f} [{low:.2f}, {high:.2f}]"


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    main()
