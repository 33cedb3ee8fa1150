"""Imports go one way (DESIGN, section 2): read from the source, and seen in a fresh process."""

import ast
import json
import subprocess
import sys
from pathlib import Path

import pytest

import fleeting
from fleeting.plugins import KINDS

ROOT = Path(fleeting.__file__).parent
# what a module may know of fleeting; what stands in no row may know everything below `experiment`
BELOW = {"errors", "records"}
QUANTITIES = {"motion", "histograms", "landmarks", "video", "align", "layers"}
ALLOWED = {
    "errors": set(),
    "records": {"errors"},
    "files": {"errors"},
    "plugins": {"errors"},
    "counting": BELOW,
    "dealing": BELOW,
    "metrics": BELOW | {"counting"},
    "statistics": BELOW | {"counting", "metrics"},
    "selection": BELOW | {"counting", "metrics", "statistics"},
    "motion": BELOW,
    "histograms": BELOW | {"motion", "landmarks"},
    "landmarks": BELOW,
    "video": BELOW | {"files"},
    "align": BELOW | {"landmarks"},
    "simulation": BELOW | {"landmarks", "motion"},
    "stages": BELOW | {"align", "cache", "config", "plugins", "video"},
    "seeing": BELOW | {"align", "cache", "config", "files", "motion", "stages", "video"},
    "preparation": BELOW | {"cache", "config", "engine", "files", "samples", "seeing", "stages"},
    "finding": BELOW | {"config", "motion", "plugins", "video"},
    "page": BELOW | {"files"},
    "look": BELOW | {"landmarks", "motion", "page"},
    "explain": BELOW
    | {
        "augment",
        "config",
        "deciding",
        "experiment",
        "finding",
        "landmarks",
        "look",
        "motion",
        "page",
        "plugins",
        "voting",
    }
    | {"samples", "saving", "seeing", "stages", "training"},
    "layers": BELOW,
    "augment": BELOW,
    "cache": BELOW | {"files"},
    "samples": BELOW | {"files"},
    "engine": BELOW,
    "recipe": BELOW,
    "training": BELOW | {"augment", "counting", "dealing", "metrics", "recipe", "samples", "files"},
    "published": BELOW | {"files"},
    "voting": BELOW,
    "runs": BELOW | {"files", "voting"},
    "predictions": BELOW | {"counting", "files", "metrics", "runs", "selection"},
}
TOP = ("deciding", "experiment", "explain", "looking", "search", "timing", "cli", "demo", "app", "__main__")


def name_of(path):
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(part for part in parts if part != "__init__")


SOURCES = {name_of(path): ast.parse(path.read_text(encoding="utf-8")) for path in sorted(ROOT.rglob("*.py"))}


def top(name):
    """The first part of a module's name below fleeting: what the rules speak of."""
    return name.split(".")[0]


def imports(tree, everywhere=True):
    """Full names of what a module imports; `everywhere` adds what functions import when they are called."""
    nodes = list(ast.walk(tree)) if everywhere else list(at_import(tree.body))
    for node in nodes:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, "relative import"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def at_import(body):
    """Statements that run when the module is imported, not those under TYPE_CHECKING."""
    for node in body:
        yield node
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test):
            continue
        for field in ("body", "orelse", "handlers", "finalbody"):
            if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                yield from at_import(getattr(node, field, []) or [])


def own(name, everywhere=True):
    """Names below fleeting that a module imports, without "fleeting."."""
    found = {full.removeprefix("fleeting.") for full in imports(SOURCES[name], everywhere) if is_ours(full)}
    return {full for full in found if top(full) in {top(known) for known in SOURCES if known}}


def is_ours(full):
    return full.startswith("fleeting.")


def test_the_sources_were_found():
    assert {"records", "training", "engine", "runs", "inputs.uvs28", "datasets.megc2019_flow"} <= set(SOURCES)
    assert "records.Samples" in own("training")
    assert "torch" in {top(full) for full in imports(SOURCES["training"])}


@pytest.mark.parametrize("name", sorted(name for name in SOURCES if top(name) in ALLOWED))
def test_a_core_module_knows_only_what_is_below_it(name):
    assert {top(full) for full in own(name)} - {top(name)} <= ALLOWED[top(name)]


@pytest.mark.parametrize("name", sorted(name for name in SOURCES if top(name) in KINDS and "." in name))
def test_a_plugin_knows_only_what_is_below_it(name):
    kind = top(name)
    # a stand-in or a simulated corpus draws faces; a spotter may name a flow method
    more = {"models": {"training"}, "datasets": {"simulation"}, "spotting": {"plugins"}}
    allowed = BELOW | QUANTITIES | {"files", kind} | more.get(kind, set())
    assert {top(full) for full in own(name)} <= allowed


@pytest.mark.parametrize("name", sorted(name for name in SOURCES if top(name) not in TOP))
def test_nothing_below_knows_the_order_of_the_stages(name):
    assert not {top(full) for full in own(name)} & set(TOP)


def test_only_plugins_imports_by_name():
    for name, tree in SOURCES.items():
        found = {full for full in imports(tree) if top(full) == "importlib"}
        # reading a data file or a version imports nothing
        by_name = {full for full in found if not full.startswith(("importlib.resources", "importlib.metadata"))}
        calls = {node.func.id for node in ast.walk(tree) if isinstance(node, ast.Call) and hasattr(node.func, "id")}
        assert name == "plugins" or not by_name, name
        assert "__import__" not in calls, name


def test_no_core_module_imports_a_plugin():
    for name in SOURCES:
        if top(name) not in KINDS:
            assert not {top(full) for full in own(name)} & set(KINDS), name


def test_no_circle_at_import():
    edges = {}
    for name in SOURCES:
        targets = {full if full in SOURCES else full.rpartition(".")[0] for full in own(name, everywhere=False)}
        edges[name] = targets - {name, ""}
    done, open_ = set(), []

    def visit(name):
        assert name not in open_, f"circle: {[*open_[open_.index(name) :], name]}"
        if name not in done:
            open_.append(name)
            for target in sorted(edges.get(name, ())):
                visit(target)
            done.add(open_.pop())

    for name in edges:
        visit(name)
    assert {"experiment", "runs"} <= done


@pytest.mark.parametrize("name", ["runs", "metrics", "statistics", "scoring", "config", "engine", "records", "cache"])
def test_reading_results_needs_no_torch(name):
    assert "torch" not in {top(full) for full in imports(SOURCES[name], everywhere=False)}


def loaded_by(code):
    code = f"{code}\nimport json, sys\nprint('\\n' + json.dumps(sorted(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(json.loads(done.stdout.splitlines()[-1]))


COMMAND = """
import sys
from fleeting import cli
sys.argv = ["fleeting", *{arguments!r}]
try:
    cli.main()
except SystemExit as stop:
    assert not stop.code, stop.code
"""


@pytest.mark.parametrize(
    "arguments", [["--help"], ["list", "models"], ["list", "datasets", "--json"], ["run", "--help"]]
)
def test_the_command_line_starts_without_heavy_packages(arguments):
    found = loaded_by(COMMAND.format(arguments=arguments))
    assert "fleeting.cli" in found
    assert not found & {"torch", "sklearn", "pandas", "cv2", "scipy", "matplotlib"}


def test_scoring_starts_without_torch():
    found = loaded_by("from fleeting import plugins, runs, scoring, statistics")
    assert "fleeting.scoring" in found
    assert not found & {"torch", "sklearn", "cv2"}
