"""Plug-ins by kind and name: the only place that imports a module by its name.

A plug-in is a module of one of the packages in `KINDS`; its file name is its name. An installed package adds
more through entry points of the group ``fleeting.<kind>`` whose value is a module. Listing reads docstrings
from the source and imports nothing.
"""

import ast
import importlib
import sys
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from types import ModuleType

from fleeting.errors import UserError, nearest

KINDS = ("datasets", "faces", "spotting", "flow", "inputs", "models", "protocols")


def names(kind: str) -> list[str]:
    """Names of the plug-ins of a kind, in alphabetical order.

    Raises:
        UserError: `kind` is not one of `KINDS`.
    """
    return sorted({*_files(kind), *_entries(kind)})


def summaries(kind: str) -> list[dict[str, str]]:
    """``[{"name": ..., "summary": ...}]``; the summary is the first line of the module's docstring.

    Raises:
        UserError: `kind` is not one of `KINDS`.
    """
    files, entries = _files(kind), _entries(kind)
    sources = {name: files.get(name) or _source(entries[name]) for name in names(kind)}
    return [{"name": name, "summary": _first_line(source)} for name, source in sources.items()]


@cache
def load(kind: str, name: str) -> ModuleType:
    """The module of one plug-in.

    Raises:
        UserError: no such kind or name (with the nearest name), or the plug-in needs a package that is absent.
    """
    if name in _files(kind):
        target = f"fleeting.{kind}.{name}"
    elif name in _entries(kind):
        target = _entries(kind)[name].value
    else:
        raise UserError(f"want a name of the kind {kind!r}, got {name!r}{nearest(name, names(kind))}")
    try:
        return importlib.import_module(target)
    except ModuleNotFoundError as error:
        raise UserError(f"{kind}/{name} needs the package {error.name!r}; install it with pip") from error


@cache
def sources(module: str) -> tuple[Path, ...]:
    """Files of ours on which a module's results depend: its own, and those that it imports, and so on.

    Records, errors and the loading of plug-ins decide nothing and are left out.

    Args:
        module: full name, already imported.
    """
    found: dict[str, Path] = {}
    _follow(module, found)
    return tuple(found[name] for name in sorted(found))


_DECIDES_NOTHING = ("fleeting", "fleeting.errors", "fleeting.records", "fleeting.plugins", "fleeting.files")


def _follow(module: str, found: dict[str, Path]) -> None:
    file = getattr(sys.modules.get(module), "__file__", None)
    if module in found or module in _DECIDES_NOTHING or file is None:
        return
    found[module] = Path(file)
    own = module.partition(".")[0]
    for node in ast.walk(ast.parse(Path(file).read_bytes())):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import | ast.ImportFrom) else []
        if isinstance(node, ast.ImportFrom):
            names = [str(node.module), *(f"{node.module}.{name}" for name in names)]
        for name in names:
            if name.partition(".")[0] == own:
                _follow(name, found)


def _files(kind: str) -> dict[str, Path]:
    if kind not in KINDS:
        raise UserError(f"want a kind of plug-in, got {kind!r}{nearest(kind, KINDS)}")
    folder = Path(__file__).parent / kind
    return {path.stem: path for path in sorted(folder.glob("*.py")) if not path.stem.startswith("_")}


def _entries(kind: str) -> dict[str, EntryPoint]:
    return {entry.name: entry for entry in entry_points(group=f"fleeting.{kind}")}


def _source(entry: EntryPoint) -> Path | None:
    """The source file of an entry point, found through its distribution's file list, without an import."""
    wanted = entry.value.replace(".", "/")
    for file in (entry.dist.files or []) if entry.dist else []:
        if str(file) in (f"{wanted}.py", f"{wanted}/__init__.py"):
            return Path(str(file.locate()))
    return None


def _first_line(source: Path | None) -> str:
    if source is None or not source.is_file():
        return ""
    try:
        docstring = ast.get_docstring(ast.parse(source.read_bytes()))
    except (SyntaxError, ValueError):  # one broken plug-in must not hide the others
        return "cannot be read: not Python"
    return (docstring or "").partition("\n")[0]
