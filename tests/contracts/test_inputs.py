"""What every input must do: look only at what it planned, and return the arrays that it promised."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Literal, get_args, get_origin

import numpy as np
import pytest
from pydantic import ValidationError

from fleeting import plugins, samples
from fleeting.errors import UserError
from fleeting.records import Clip, FaceClip, FlowField, FlowFile, Moment, Plan, View

COUNT, SIDE = 21, 64


class Watched(Sequence):
    """Frames, of which only the planned ones may be looked at."""

    def __init__(self, frames, allowed):
        self.frames, self.allowed = frames, set(allowed)

    def __len__(self):
        return len(self.frames)

    def __getitem__(self, index):
        assert index in self.allowed, f"frame {index} was not planned"
        return self.frames[index]


class OnlyPlanned(Mapping):
    """Flow, of which only the planned pairs may be looked at."""

    def __init__(self, fields):
        self.fields = fields

    def __getitem__(self, pair):
        assert pair in self.fields, f"pair {pair} was not planned"
        return self.fields[pair]

    def __iter__(self):
        return iter(self.fields)

    def __len__(self):
        return len(self.fields)


def moment():
    return Moment(2, 10, 18)


def face_and_flows(plan, seed=0):
    """A made-up recording with 68 landmarks where the plan looks, NaN elsewhere, and flow in pixels."""
    rng = np.random.default_rng(seed)
    clip = Clip(
        "d", f"s{seed}", "c", tuple(Path(f"{i}.png") for i in range(COUNT)), fps=100.0, onset=2, apex=10, offset=18
    )
    frames = rng.integers(0, 256, (COUNT, SIDE, SIDE, 3)).astype(np.uint8)
    looked_at = sorted({*plan.frames, *(frame for pair in plan.pairs for frame in pair)})
    landmarks = np.full((COUNT, 68, 2), np.nan, np.float32)
    landmarks[looked_at] = rng.uniform(0.2 * SIDE, 0.8 * SIDE, (68, 2))
    flows = {pair: FlowField(rng.normal(0, 1, (2, SIDE, SIDE)).astype(np.float32), "px") for pair in plan.pairs}
    return FaceClip(clip, moment(), Watched(frames, plan.frames), landmarks), OnlyPlanned(flows)


def made(module, options, seed=0):
    """The views of one made-up recording, on the way that the data take."""
    face, flows = face_and_flows(module.plan(moment(), options), seed)
    return module.make(face, flows, options)


def words(field):
    """What an option of words or a switch may be; nothing for numbers."""
    if get_origin(field.annotation) is Literal:
        return get_args(field.annotation)
    return (False, True) if field.annotation is bool else ()


def variants(kind):
    """Every combination of words and switches, and the `examples` of the other options one at a time."""
    fields = kind.model_fields
    chosen = {name: words(field) for name, field in fields.items() if words(field)}
    tried = [dict(zip(chosen, values, strict=True)) for values in product(*chosen.values())]
    tried += [{name: example} for name, field in fields.items() for example in field.examples or ()]
    seen = []
    for values in [{}, *tried]:
        try:
            options = kind(**values)
        except ValidationError:
            continue  # not without another option
        if options not in seen:
            seen.append(options)
            yield options


def said(options):
    """What differs from the defaults, for the name of a test."""
    changed = [f"{name}={value}" for name, value in options if value != type(options).model_fields[name].get_default()]
    return ",".join(changed) or "defaults"


CASES = [
    pytest.param(module, options, id=f"{name}-{said(options)}")
    for name in plugins.names("inputs")
    for module in [plugins.load("inputs", name)]
    for options in variants(module.Options)
]


@pytest.mark.parametrize(("module", "options"), CASES)
def test_a_plan_is_inside_the_moment_and_repeatable(module, options):
    plan = module.plan(moment(), options)
    assert isinstance(plan, Plan)
    assert plan.frames or plan.pairs
    looked_at = [*plan.frames, *(frame for pair in plan.pairs for frame in pair)]
    assert all(2 <= frame <= 18 for frame in looked_at)
    assert len(set(plan.pairs)) == len(plan.pairs)
    assert plan == module.plan(moment(), options)


@pytest.mark.parametrize(("module", "options"), CASES)
def test_make_looks_only_at_what_was_planned_and_keeps_its_promise(module, options):
    promised = module.channels(options)
    views = made(module, options)
    assert views
    assert all(isinstance(view, View) for view in views)
    assert len({view.name for view in views}) == len(views)
    assert any(not view.train_only for view in views)
    for view in views:
        assert set(view.x) == set(promised)
        for name, names in promised.items():
            assert view.x[name].shape[0] == len(names)
            assert view.x[name].ndim >= 3
            assert view.x[name].dtype in (np.float32, np.uint8)
            assert np.isfinite(view.x[name]).all()


@pytest.mark.parametrize(("module", "options"), CASES)
def test_the_views_can_be_packed(module, options, tmp_path):
    views = {f"d/s{seed}/c": made(module, options, seed) for seed in range(3)}
    packed = samples.pack(tmp_path, views, module.channels(options))
    assert len(packed) == sum(len(of_clip) for of_clip in views.values())
    assert packed.channels == module.channels(options)
    for name in packed.x:
        assert np.array_equal(packed.x[name][0], views["d/s0/c"][0].x[name])
        assert packed.x[name].dtype == views["d/s0/c"][0].x[name].dtype


@pytest.mark.parametrize(("module", "options"), CASES)
def test_make_repeats_itself_and_changes_nothing(module, options):
    face, flows = face_and_flows(module.plan(moment(), options))
    before = {pair: field.uv.copy() for pair, field in flows.items()}
    frames, landmarks = face.frames.frames.copy(), face.landmarks.copy()
    first, second = (module.make(face, flows, options) for _ in range(2))
    for one, two in zip(first, second, strict=True):
        assert all(np.array_equal(one.x[name], two.x[name]) for name in one.x)
    assert all(np.array_equal(flows[pair].uv, before[pair]) for pair in before)
    assert np.array_equal(face.frames.frames, frames)
    assert np.array_equal(face.landmarks, landmarks, equal_nan=True)


@pytest.mark.parametrize(("module", "options"), CASES)
def test_a_moment_without_an_apex_works_or_is_refused(module, options):
    said = ""
    try:
        plan = module.plan(Moment(2, None, 18), options)
    except UserError as error:
        said = str(error)
    assert "apex" in said if said else plan.frames or plan.pairs


@pytest.mark.parametrize(("module", "options"), CASES)
def test_a_moment_of_one_frame_works(module, options):
    still = Moment(5, 5, 5)
    plan = module.plan(still, options)
    assert set(plan.frames) <= {5}
    assert set(plan.pairs) <= {(5, 5)}
    face, flows = face_and_flows(plan)
    views = module.make(replace(face, moment=still), flows, options)
    assert [view.name for view in views if not view.train_only]


@pytest.mark.parametrize(("module", "options"), CASES)
def test_published_flow_works_or_is_refused_by_the_name_of_the_clip(module, options):
    """Published flow: two virtual frames without pictures, one pair, each channel scaled by its own range."""
    rng = np.random.default_rng(0)
    file = FlowFile(Path("a.png"), (0, 1), ("strain", "v", "u"))
    clip = Clip("d", "s", "c", None, onset=0, apex=1, offset=1, flow_files=(file,))
    field = FlowField(rng.random((2, 28, 28), np.float32), "minmax", rng.random((28, 28), np.float32))
    face = FaceClip(clip, Moment(0, 1, 1))
    plan = module.plan(face.moment, options)
    views, refused = [], "d/s/c: want x, got y; do z"
    try:
        views = module.make(face, dict.fromkeys(plan.pairs, field), options)
    except UserError as error:
        refused = str(error)
    assert re.fullmatch(r"d/s/c: want .+, got .+; .+", refused)
    assert not (views and plan.frames)
    assert all(np.isfinite(array).all() for view in views for array in view.x.values())


@pytest.mark.parametrize(("module", "options"), CASES)
def test_a_clip_without_a_moment_is_refused(module, options):
    face, flows = face_and_flows(module.plan(moment(), options))
    with pytest.raises(UserError, match="d/s0/c: want a moment, got none"):
        module.make(replace(face, moment=None), flows, options)


@pytest.mark.parametrize(("module", "options"), CASES)
def test_only_signed_flow_is_called_u_and_v(module, options):
    """What augmentation goes by: a name that it knows says what it does to it."""
    for view in made(module, options):
        for name, names in module.channels(options).items():
            for channel, word in zip(view.x[name], names, strict=True):
                signed = word in ("u", "v")
                assert not signed or (channel.dtype == np.float32 and channel.min() < 0), (name, word)
                if word.endswith("255"):
                    assert 0 <= channel.min() <= channel.max() <= 255.001, (name, word)


@pytest.mark.parametrize("name", plugins.names("inputs"))
def test_options_are_closed(name):
    with pytest.raises(ValueError, match="Extra inputs are not permitted"):
        plugins.load("inputs", name).Options(no_such_option=1)
