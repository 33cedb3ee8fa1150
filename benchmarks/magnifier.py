"""What magnified flow has to do with the motion that was there: `python benchmarks/magnifier.py`.

Drawn faces whose motion is known. A magnifier learns equation 1 alone from the flow of some faces (DIS, as a recording
gives it, 64 x 64 px); what it and plain scaling make of the flow of other faces is compared with the true flow times
the factor. Scaling is the optimum of equation 1, so the U-Net can only come near it there; what it does better, if
anything, is for recognition to say.

Tables: endpoint error relative to the length of factor x true flow, where the face moves, by factor and by the sensor's
noise; and with a head that drifts, the share of the magnified motion's energy that the expression and the head have.
Intervals: 95 % bootstrap over the faces.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from fleeting import align, motion, plugins
from fleeting.models._magnifier import Magnifier, distance
from fleeting.records import Array
from fleeting.simulation import Disturbance, Expression, Scene

SIZE, SIDE = (160, 160), 64
UNITS: tuple[Mapping[str, float], ...] = (
    {"12": 1.0, "6": 0.5}, {"1": 1.0, "2": 0.8}, {"4": 1.0, "R10": 0.7}, {"15": 1.0, "17": 0.6},
)  # fmt: skip
FACTORS, NOISES, DRIFTS = (1.0, 2.0, 3.0, 4.0), (0.0, 2.0, 5.0), (0.0, 0.5, 1.0, 2.0)
ONSET, APEX = 2, 8


@dataclass(frozen=True)
class Seen:
    """One face: (2, 64, 64) px each.

    Attributes:
        subject: whose it is.
        found: flow as it is measured. true: as it is. expression: what it would be with the head still.
    """

    subject: int
    found: Array
    true: Array
    expression: Array


def main() -> None:
    arguments = _arguments()
    torch.manual_seed(0)
    torch.set_num_threads(1)
    began = time.monotonic()
    train = [seen for noise in NOISES for seen in _faces(arguments.train, Disturbance(noise=noise, drift_px=0.5))]
    network = _trained(train, arguments)
    tested = range(100, 100 + arguments.test)
    print(
        f"torch {torch.__version__}, {len(train)} fields train, {arguments.steps} steps of 16, width {arguments.width}"
    )
    _errors(network, tested)
    _shares(network, tested)
    print(f"{time.monotonic() - began:.0f} s")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("--train", type=int, nargs="+", default=list(range(1, 11)), help="subjects")
    parser.add_argument("--test", type=int, default=6, help="how many other subjects")
    parser.add_argument("--steps", type=int, default=800)
    parser.add_argument("--width", type=int, default=16, help="64 in the paper's size")
    parser.add_argument("--levels", type=int, default=3, help="4 in the paper's size")
    parser.add_argument("--lr", type=float, default=1e-3)
    return parser.parse_args()


def _faces(subjects: Sequence[int], disturbance: Disturbance) -> Iterator[Seen]:
    flow = plugins.load("flow", "dis")
    for subject in subjects:
        for number, units in enumerate(UNITS):
            scene = Scene(14, Expression(ONSET, APEX, 13, units), subject, SIZE, disturbance, seed=number)
            one, two = (align.grey(scene[index])[None] for index in (ONSET, APEX))
            still = replace(scene, disturbance=replace(disturbance, drift_px=0.0))
            fields = flow.flow(one, two, flow.Options())[0], scene.flow(ONSET, APEX), still.flow(ONSET, APEX)
            yield Seen(subject, *(motion.resize(uv, SIDE, SIDE) for uv in fields))


def _trained(faces: Sequence[Seen], arguments: argparse.Namespace) -> Magnifier:
    """Equation 1 alone, with a factor of its own for each batch."""
    network = Magnifier(2, arguments.width, arguments.levels)
    optimiser = torch.optim.Adam(network.parameters(), lr=arguments.lr)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, arguments.steps)
    fields, rng = torch.from_numpy(np.stack([seen.found for seen in faces])), np.random.default_rng(0)
    for _ in range(arguments.steps):
        x = fields[torch.from_numpy(rng.choice(len(fields), 16))]
        if rng.random() < 0.5:
            x = x.flip(3) * torch.tensor([-1.0, 1.0]).view(1, 2, 1, 1)
        factor = float(rng.uniform(1, 4))
        loss = distance(x, network(x, factor), factor).mean()
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        optimiser.step()
        schedule.step()
    return network.eval()


def _magnified(network: Magnifier, uv: Array, factor: float) -> Array:
    with torch.no_grad():
        return np.asarray(network(torch.from_numpy(uv)[None], factor)[0].numpy())


# --- tables


def _errors(network: Magnifier, subjects: Sequence[int]) -> None:
    print("\nerror / length of factor x true flow, where that is at least a quarter of its longest")
    for noise in NOISES:
        faces = list(_faces(subjects, Disturbance(noise=noise)))
        for name in ("U-Net", "scaled"):
            cells = []
            for factor in FACTORS:
                values = []
                for seen in faces:
                    made = _magnified(network, seen.found, factor) if name == "U-Net" else factor * seen.found
                    values.append(_relative(made, factor * seen.true))
                cells.append(f"x{factor:g} {_interval(values, faces)}")
            print(f"  noise {noise:g}  {name:7}{'  '.join(cells)}")


def _relative(made: Array, wanted: Array) -> float:
    length = motion.magnitude(wanted)
    where = length >= length.max() / 4
    return motion.endpoint_error(made, wanted, where) / float(length[where].mean())


def _shares(network: Magnifier, subjects: Sequence[int]) -> None:
    """Least squares of the field on both parts of the true flow, which is their sum up to a small rest."""
    print("\nx 4 with a head that drifts: how far expression and head go, and the head's share of the energy")
    for drift in DRIFTS:
        faces = list(_faces(subjects, Disturbance(noise=2, drift_px=drift)))
        for name in ("true", "U-Net", "scaled"):
            gains = []
            for seen in faces:
                made = {"true": seen.true, "scaled": 4 * seen.found}.get(name)
                gains.append(_gains(_magnified(network, seen.found, 4.0) if made is None else made, seen))
            expression, head, share = (np.array(column) for column in zip(*gains, strict=True))
            moved = "expression " + _interval(expression, faces)
            moved += f"  head {_interval(head, faces)}  head's share {_interval(share, faces)}" if drift else ""
            print(f"  drift {drift:g} px  {name:7}{moved}")


def _gains(made: Array, seen: Seen) -> tuple[float, float, float]:
    """How many times as large the expression and the head's motion are in `made`, and the head's share of both."""
    parts = np.stack([seen.expression.ravel(), (seen.true - seen.expression).ravel()], axis=1)
    if not np.abs(parts[:, 1]).max() > 1e-6:
        parts = parts[:, :1]
    found = np.linalg.lstsq(parts.astype(np.float64), made.ravel().astype(np.float64), rcond=None)[0]
    energy = (found * np.sqrt((parts**2).sum(0))) ** 2
    head = (float(found[1]), float(energy[1] / energy.sum())) if len(found) > 1 else (0.0, 0.0)
    return float(found[0]), *head


def _interval(values: Sequence[float] | Array, faces: Sequence[Seen]) -> str:
    subjects = np.array([seen.subject for seen in faces])
    means = np.array([np.mean(np.asarray(values)[subjects == subject]) for subject in np.unique(subjects)])
    draws = np.random.default_rng(0).choice(means, (2000, len(means))).mean(1)
    low, high = np.percentile(draws, [2.5, 97.5])
    return f"{means.mean():.2f} [{low:.2f}, {high:.2f}]"


if __name__ == "__main__":
    main()
