"""What the stages from video to flow get right, on drawn faces whose motion is known: `make results-flow`.

Writes ``docs/results/flow.md`` and its pictures: endpoint error of each flow method by amplitude, noise and head
motion; what bidirectional flow does to head motion; the apex error of each spotter; what alignment leaves of a small
motion. Every number is a mean over the same scenes (subjects x expressions), with a 95 % bootstrap interval over them.
"""

from __future__ import annotations

import argparse
import os
import platform
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path

import cv2
import numpy as np
from matplotlib.figure import Figure

from fleeting import align, files, machine, motion, plugins
from fleeting.records import Array, Clip, FaceClip, Moment, Track
from fleeting.simulation import Disturbance, Expression, Scene

SIZE = (361, 361)  # the face is 224 px high in it
SUBJECTS = (1, 2, 3, 4, 5, 7)
UNITS: tuple[Mapping[str, float], ...] = ({"12": 1.0, "6": 0.5}, {"1": 1.0, "2": 0.8}, {"4": 1.0, "R10": 0.7})
ONSET, APEXES, OFFSET, LENGTH = 4, (10, 16, 24), 34, 40
AMPLITUDES = (0.25, 0.5, 1.0, 2.0, 3.0)
METHODS = ("dis", "farneback", "tvl1", "tvl1_torch")
SPOTTERS: Mapping[str, tuple[str, Mapping[str, object]]] = {
    "middle": ("middle", {}),
    "dc_rois": ("dc_rois", {}),
    "dc_rois, exhaustive": ("dc_rois", {"search": "exhaustive"}),
    "frame_difference": ("frame_difference", {}),
    "flow_peak": ("flow_peak", {}),
}
CONDITIONS: Mapping[str, Disturbance] = {
    "still": Disturbance(),
    "noise 2": Disturbance(noise=2),
    "noise 5": Disturbance(noise=5),
    "head 1 px": Disturbance(drift_px=1),
    "head 3 px": Disturbance(drift_px=3),
    "light 2 %": Disturbance(flicker=0.02),
}
Row = list[str]


def main() -> None:
    arguments = _arguments()
    parts = [_head(arguments), *_flow_part(arguments), *_bidirectional_part(arguments)]
    parts += [*_spotting_part(arguments), *_alignment_part(arguments)]
    files.write_text(arguments.out, "\n\n".join(parts) + "\n")
    print(f"wrote {arguments.out}")


def scenes(
    arguments: argparse.Namespace,
    amplitude: float = 1.0,
    disturbance: Disturbance | None = None,
    apex: int | None = None,
) -> Iterator[Scene]:
    """The same faces and expressions every time; the amplitude is that of the strongest action unit."""
    for subject in SUBJECTS[: arguments.subjects]:
        for number, units in enumerate(UNITS):
            scaled = {name: share * amplitude for name, share in units.items()}
            expression = Expression(ONSET, apex or APEXES[number], OFFSET, scaled, hold=3)
            yield Scene(LENGTH, expression, subject, SIZE, disturbance or Disturbance(), seed=number)


def _head(arguments: argparse.Namespace) -> str:
    versions = ", ".join(f"{name} {value}" for name, value in machine.versions().items())
    count = min(len(SUBJECTS), arguments.subjects) * len(UNITS)
    return f"""# From video to flow: what is right, on faces whose motion is known

<!-- written by benchmarks/flow_truth.py: make results-flow -->

Drawn faces (`fleeting.simulation`): {count} scenes, {min(len(SUBJECTS), arguments.subjects)} subjects x {len(UNITS)}
expressions, {SIZE[0]} x {SIZE[1]} px with a face 224 px high, {LENGTH} frames (onset {ONSET}, apex {_listed(APEXES)} by
expression, offset {OFFSET}) at 100 frames a second, seeds 0 to {len(UNITS) - 1}. Numbers are means over the scenes, in
brackets the 95 % bootstrap interval over subjects (2,000 resamples, seed 0).
Drawn skin is smoother than real skin and has no creases or shadows that move, so errors on people are larger; what
can be compared here is methods and disturbances.

{versions}; {platform.machine()}, {machine.processor()}."""


# --- flow


def _flow_part(arguments: argparse.Namespace) -> list[str]:
    by_amplitude = {f"{amplitude:g} px": _errors(scenes(arguments, amplitude)) for amplitude in AMPLITUDES}
    disturbed = {
        name: _errors(scenes(arguments, 1.0, disturbance))
        for name, disturbance in CONDITIONS.items()
        if name != "still"
    }
    _plot(arguments.out.with_name("flow_epe.svg"), by_amplitude)
    _fields(arguments.out.with_name("flow_fields.png"), next(scenes(arguments, 2.0)))
    return [
        """## Endpoint error

Mean distance between found and true flow, in px, over the pixels that move by more than a quarter of the scene's
largest motion; 224 x 224 crops of the onset and apex frames, defaults of each method. "no flow" says nothing moved: a
method above it does harm.""",
        "### By amplitude, nothing else moves\n\n" + _table("method", _by_method(by_amplitude)),
        "![Endpoint error by amplitude](flow_epe.svg)",
        "### At 1 px, with what cameras and heads add\n\n"
        + _table("method", _by_method(disturbed))
        + '\n\nHead: smooth wandering of the whole head, part of the true flow, so "no flow" grows with it.',
        "![True and found flow](flow_fields.png)\n\nOne scene at 2 px: onset, apex, the true flow, and what each "
        "method finds, all with the same colour scale.",
    ]


def _errors(drawn: Iterator[Scene]) -> dict[str, list[float]]:
    """Method -> endpoint error of each scene."""
    found: dict[str, list[float]] = {name: [] for name in (*METHODS, "no flow")}
    for scene in drawn:
        first, second, true, moving = _pair(scene)
        for name in METHODS:
            module = plugins.load("flow", name)
            error = motion.endpoint_error(module.flow(first[None], second[None], module.Options())[0], true, moving)
            found[name].append(error)
        found["no flow"].append(motion.endpoint_error(np.zeros_like(true), true, moving))
    return found


def _pair(scene: Scene) -> tuple[Array, Array, Array, Array]:
    """Grey onset and apex, the true flow and where it is more than a quarter of its largest expression."""
    window = _window(scene)
    one, two = (align.grey(np.ascontiguousarray(scene[index][window])) for index in (ONSET, scene.expression.apex))
    true = scene.flow(ONSET, scene.expression.apex)[:, *window]
    own = replace(scene, disturbance=Disturbance()).flow(ONSET, scene.expression.apex)[:, *window]
    size = motion.magnitude(own)
    return one, two, np.ascontiguousarray(true), size > size.max() / 4


def _window(scene: Scene) -> tuple[slice, slice]:
    """224 x 224 around the face."""
    points = scene.landmarks(0)
    left, top = np.round((points.min(axis=0) + points.max(axis=0)) / 2 - 112).astype(int)
    return slice(top, top + 224), slice(left, left + 224)


def _by_method(by_condition: Mapping[str, Mapping[str, Sequence[float]]]) -> dict[str, dict[str, str]]:
    return {
        method: {name: _interval(of_methods[method]) for name, of_methods in by_condition.items()}
        for method in (*METHODS, "no flow")
    }


def _plot(path: Path, by_amplitude: Mapping[str, Mapping[str, Sequence[float]]]) -> None:
    figure = Figure(figsize=(6.4, 3.6), layout="constrained")
    axes = figure.subplots()
    for method in METHODS:
        means = [np.mean(of_methods[method]) for of_methods in by_amplitude.values()]
        bounds = np.array([_bounds(of_methods[method]) for of_methods in by_amplitude.values()]).T
        axes.plot(AMPLITUDES, means, marker="o", markersize=4, label=method)
        axes.fill_between(AMPLITUDES, *bounds, alpha=0.15)
    nothing = [np.mean(of_methods["no flow"]) for of_methods in by_amplitude.values()]
    axes.plot(AMPLITUDES, nothing, color="0.5", linestyle=":", label="no flow")
    axes.set(xlabel="largest motion, px of a face 224 px high", ylabel="endpoint error, px", ylim=(0, max(nothing) / 2))
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False)
    _save(figure, path)


def _fields(path: Path, scene: Scene) -> None:
    first, second, true, _ = _pair(scene)
    window = _window(scene)
    most = float(motion.magnitude(true).max())
    shown = {"onset": scene[ONSET][window], "apex": scene[scene.expression.apex][window]}
    shown["true flow"] = motion.colours(true, most)
    for name in METHODS:
        module = plugins.load("flow", name)
        shown[name] = motion.colours(module.flow(first[None], second[None], module.Options())[0], most)
    shown[f"up to {most:.1f} px"] = motion.wheel(224)
    figure = Figure(figsize=(9, 4.8), layout="constrained")
    for axes, (name, picture) in zip(figure.subplots(2, 4).ravel(), shown.items(), strict=True):
        axes.imshow(picture)
        axes.set_title(name, fontsize=10)
        axes.axis("off")
    _save(figure, path)


# --- bidirectional flow

_HEADS: Mapping[str, tuple[Disturbance, int]] = {
    "head still": (Disturbance(), 19),
    "even drift, apex in the middle": (Disturbance(drift_px=4, drift="linear"), 19),
    "even drift, apex early": (Disturbance(drift_px=4, drift="linear"), 9),
    "wandering of 3 px": (Disturbance(drift_px=3), 19),
}


def _bidirectional_part(arguments: argparse.Namespace) -> list[str]:
    rows: dict[str, dict[str, str]] = {}
    for name, (disturbance, apex) in _HEADS.items():
        for source in ("truth", "farneback"):
            found = [_left_over(scene, source) for scene in scenes(arguments, 1.5, disturbance, apex)]
            ways, sums = zip(*found, strict=True)
            ratio = [both / one if one > 1e-6 else np.nan for one, both in found]
            rows[f"{name}, {source}"] = {
                "onset to apex": _interval(ways),
                "bidirectional sum": _interval(sums),
                "sum / onset to apex": "" if np.isnan(ratio).any() else _interval(ratio),
            }
    return [
        """## Does bidirectional flow cancel head motion?

BOWAM (equation 1) adds the flow from apex to onset and that from apex to offset: the head's motion should cancel, the
expression double. Measured is what is left that is no expression: the mean length of (flow - expression), in units of
the expression's mean length where it moves (so .5 is half the signal), over the 224 x 224 crop. For the sum the
expression is -2 times that of onset to apex. "truth" uses the true flow: what the method can do at best; "farneback"
what it does with BOWAM's flow. Expressions of 1.5 px.""",
        _table("head, flow", rows),
        """The sum leaves h(onset) + h(offset) - 2 h(apex) of a head path h. So an even drift cancels when the apex is
half-way between onset and offset, and only then: with an early apex the sum leaves more of the head than the plain
flow, twice as much against the expression here. Wandering leaves whatever its path makes of the formula, less or more
than the plain flow. With the head still nothing is gained, and nothing lost: error and expression double.""",
    ]


def _left_over(scene: Scene, source: str) -> tuple[float, float]:
    """What is no expression in the flow from onset to apex, and in the bidirectional sum."""
    window, apex = _window(scene), scene.expression.apex
    still = replace(scene, disturbance=Disturbance())
    wanted = (
        still.flow(ONSET, apex)[:, *window],
        still.flow(apex, ONSET)[:, *window] + still.flow(apex, OFFSET)[:, *window],
    )
    if source == "truth":
        get: Callable[[int, int], Array] = lambda one, two: scene.flow(one, two)[:, *window]  # noqa: E731
    else:
        module = plugins.load("flow", source)

        def get(one: int, two: int) -> Array:
            pictures = [align.grey(np.ascontiguousarray(scene[index][window]))[None] for index in (one, two)]
            return np.asarray(module.flow(*pictures, module.Options())[0])

    fields = get(ONSET, apex), get(apex, ONSET) + get(apex, OFFSET)
    sizes = [motion.magnitude(field) for field in wanted]
    return tuple(
        float(motion.magnitude(field - want).mean() / size[size > size.max() / 4].mean())
        for field, want, size in zip(fields, wanted, sizes, strict=True)
    )  # type: ignore[return-value]


# --- spotting


def _spotting_part(arguments: argparse.Namespace) -> list[str]:
    conditions = {**CONDITIONS, "a blink": Disturbance(blinks=(26,))}
    errors: dict[str, dict[str, str]] = {name: {} for name in SPOTTERS}
    for condition, disturbance in conditions.items():
        faces = [(_aligned(scene), scene.expression.apex) for scene in scenes(arguments, 1.0, disturbance)]
        for name, (module_name, options) in SPOTTERS.items():
            module = plugins.load("spotting", module_name)
            chosen = module.Options(**options)
            errors[name][condition] = _interval([_apex_error(module, chosen, face, apex) for face, apex in faces])
    return [
        f"""## Spotting the apex

Distance between found and true apex in frames (1 frame is 10 ms here), for labelled clips: onset and offset are given,
the apex is not. Face mesh, similarity alignment, motion of 1 px; the true apex is frame {_listed(APEXES)} by
expression, the middle of the clip {(ONSET + OFFSET) // 2}, and the motion stays within 2 % of its largest for 3 frames
after the apex. A clip in which a spotter sees no motion counts with the distance to the onset.""",
        _table("spotter", errors),
    ]


def _aligned(scene: Scene) -> FaceClip:
    track = _tracked(scene)
    clip = Clip("simulated", str(scene.subject), "c", tuple(Path(f"{i}.png") for i in range(len(scene))), fps=scene.fps,
                onset=ONSET, offset=OFFSET)  # fmt: skip
    return align.face(clip, [scene[index] for index in range(len(scene))], track, None, align.Options())


@cache
def _mesh() -> tuple[object, object]:
    module = plugins.load("faces", "mesh")
    return module, module.Options()


def _tracked(scene: Scene) -> Track:
    module, options = _mesh()
    track: Track = module.track(scene, range(len(scene)), options)  # type: ignore[attr-defined]
    return track


def _apex_error(module: object, options: object, face: FaceClip, apex: int) -> float:
    (moment,) = module.locate(face, options)  # type: ignore[attr-defined]
    return abs((ONSET if moment.apex is None else moment.apex) - apex)


# --- alignment


def _alignment_part(arguments: argparse.Namespace) -> list[str]:
    rows: dict[str, dict[str, str]] = {}
    for name in ("similarity", "registration"):
        for follow in ("onset", "frame"):
            kinds = {"head still": Disturbance(), "head wanders 3 px": Disturbance(drift_px=3)}
            rows[f"{name}, follow = {follow}"] = {
                f"{what}, {kind}": _interval(values)
                for kind, disturbance in kinds.items()
                for what, values in _kept(arguments, disturbance, name, follow).items()
            }
    return [
        """## What alignment leaves of a motion of half a pixel

Each scene's strongest action unit moves by .5 px (of a face 224 px high). The mesh is tracked on the drawn frames, the
alignment made from it, and the true paths of the mesh points are sent through it, once with the expression and once
without. "kept": the difference of the two where the expression moves most, as a share of the true motion along its
direction; 1 is all of it. "head left": mean motion of resting points without the expression, px of a 224 px face.""",
        _table("alignment", rows),
        """With the onset's transform the expression is kept by construction, and the head's motion stays. With one
transform a frame most of the head's motion goes, and about a tenth of the expression with it: the tracker's points give
way to it as a whole, and no choice of points for the registration that was tried kept more.""",
    ]


def _kept(arguments: argparse.Namespace, disturbance: Disturbance, name: str, follow: str) -> dict[str, list[float]]:
    kept, left = [], []
    options = align.Options(name=name, follow=follow)
    for scene in scenes(arguments, 0.5, disturbance):
        neutral = replace(scene, expression=replace(scene.expression, units={}))
        (shown, scale), (empty, _) = _motion(scene, options), _motion(neutral, options)
        still = replace(scene, disturbance=Disturbance())
        true = still.landmarks(scene.expression.apex) - still.landmarks(ONSET)
        size = np.linalg.norm(true, axis=1)
        most, rest = size > 0.8 * size.max(), size < 0.05 * size.max()
        # the face is upright in both, so that directions may be compared
        kept.append(float(((shown - empty)[most] / scale * true[most]).sum() / (true[most] ** 2).sum()))
        left.append(float(np.linalg.norm(empty[rest], axis=1).mean() / scale))
    return {"kept": kept, "head left": left}


def _motion(scene: Scene, options: align.Options) -> tuple[Array, float]:
    """(468, 2) true motion of the mesh points from onset to apex after the alignment, and the alignment's scale."""
    clip = Clip("simulated", "s", "c", tuple(Path(f"{i}.png") for i in range(len(scene))), onset=ONSET)
    apex = scene.expression.apex
    places = align.transforms(clip, scene, _tracked(scene), Moment(ONSET, apex, OFFSET), options)
    there = align.moved(np.stack([scene.landmarks(index) for index in range(len(scene))]), places)
    first = places[ONSET if len(places) > 1 else 0]
    return there[apex] - there[ONSET], float(np.sqrt(np.linalg.det(first[:, :2])))


# --- tables


def _interval(values: Sequence[float]) -> str:
    low, high = _bounds(values)
    return f"{_short(float(np.mean(values)))} [{_short(low)}, {_short(high)}]"


def _listed(numbers: Sequence[int]) -> str:
    return ", ".join(map(str, numbers))


def _short(value: float) -> str:
    return f"{value:.3f}".removeprefix("0") if abs(value) < 1 else f"{value:.2f}"


def _bounds(values: Sequence[float]) -> tuple[float, float]:
    subjects = np.asarray(values, float).reshape(-1, len(UNITS)).mean(axis=1)
    drawn = np.random.default_rng(0).choice(subjects, (2000, len(subjects))).mean(axis=1)
    low, high = np.percentile(drawn, [2.5, 97.5])
    return float(low), float(high)


def _table(first: str, rows: Mapping[str, Mapping[str, str]]) -> str:
    columns = list(next(iter(rows.values())))
    lines: list[Row] = [[first, *columns], ["---"] * (len(columns) + 1)]
    lines += [[name, *(row[column] for column in columns)] for name, row in rows.items()]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _save(figure: Figure, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110, metadata={"Date": None} if path.suffix == ".svg" else None)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("--out", type=Path, default=Path("docs/results/flow.md"))
    parser.add_argument("--subjects", type=int, default=len(SUBJECTS))
    return parser.parse_args()


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    cv2.setNumThreads(1)
    main()
