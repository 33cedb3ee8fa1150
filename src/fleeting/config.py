"""Experiments: a TOML file in, everything that is left open filled in, and the resolved TOML out."""

from __future__ import annotations

import copy
import hashlib
import json
import os
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import tomli_w
from pydantic import BaseModel, Field, ValidationError, field_validator

from fleeting import plugins
from fleeting.errors import UserError, nearest

Model = TypeVar("Model", bound=BaseModel)
_CHOICES = {
    "protocol": "protocols",
    "spotting": "spotting",
    "face": "faces",
    "align": "align",
    "flow": "flow",
    "input": "inputs",
    "model": "models",
}


class Choice(BaseModel, frozen=True, extra="allow"):
    """A plug-in by name, with its options beside the name, as they stand in the TOML table."""

    name: str

    @property
    def options(self) -> dict[str, Any]:
        """The options without the name."""
        return dict(self.model_extra or {})


class Experiment(BaseModel, frozen=True, extra="forbid"):
    """What is run. Where a table is absent, the model's own input and recipe, or the plain choice, stands.

    Attributes:
        name: of the run; part of no digest.
        datasets: names of loaders; their folders come from the environment or ``roots.toml``, never from here.
        seeds: each is a whole repetition.
        inner: number of inner tasks a fold and seed that choose an epoch without the test subjects; 0 for none,
            else two or more.
        device: "cpu", "cuda", ...; threads: of every task, in every engine (two change the last bits).
        apex: "annotated": the spotter serves the clips whose corpus names no apex; "spotted": it serves all.
        protocol, spotting, face, flow, input, model: plug-ins; align: an alignment by name. Face, align and flow
            matter where there are frames, not for published flow.
        recipe: changes to the model's own recipe.
    """

    name: str = Field("experiment", pattern=r"^[\w][\w .,=+-]*$")
    datasets: tuple[str, ...] = Field(("megc2019_flow",), min_length=1)
    seeds: tuple[Annotated[int, Field(ge=0)], ...] = Field((0,), min_length=1)
    inner: int = Field(0, ge=0)
    device: str = "cpu"
    threads: int = Field(1, ge=1)
    apex: Literal["annotated", "spotted"] = "annotated"
    protocol: Choice = Choice(name="megc2019")
    spotting: Choice = Choice(name="annotated")
    face: Choice = Choice(name="mesh")
    align: Choice = Choice(name="similarity")
    flow: Choice = Choice(name="farneback")
    input: Choice | None = None
    model: Choice
    recipe: dict[str, Any] = {}

    @field_validator("inner")
    @classmethod
    def _parts(cls, value: int) -> int:
        if value == 1:
            raise ValueError("one inner task would leave no subject to train on: 0, or two or more")
        return value

    @field_validator("datasets", "seeds")
    @classmethod
    def _once(cls, values: tuple[Any, ...]) -> tuple[Any, ...]:
        if len(set(values)) < len(values):
            raise ValueError("each at most once")
        return values


def read(path: Path, changes: Iterable[str] = ()) -> Experiment:
    """Reads an experiment file and resolves it.

    A key ``extends = "other.toml"`` (relative to the file) puts the file's tables over those of another. A
    table that names another plug-in than the file below it starts afresh.

    Args:
        path: the TOML file.
        changes: "a.b=value" strings, values in TOML ("10", "[1, 2]", "true"; anything else is a string).

    Raises:
        UserError: no such file, no TOML, an unknown key or option (the nearest name is suggested), a bad value.
    """
    return resolve(tables(path, changes), str(path))


def tables(path: Path, changes: Iterable[str] = ()) -> dict[str, Any]:
    """The file's tables, those below it and the changes, as they are written: nothing is checked or filled in.

    Raises:
        UserError: no such file, no TOML, files that extend one another in a circle.
    """
    return changed(_tables(path), changes)


def changed(tables: Mapping[str, Any], changes: Iterable[str]) -> dict[str, Any]:
    """Tables with "a.b=value" strings applied, as `read` does.

    Raises:
        UserError: a string that is no such change.
    """
    copied = copy.deepcopy(dict(tables))
    for change in changes:
        _set(copied, change)
    return copied


def check_changes(changes: Iterable[str], free: Sequence[str], what: str, do: str) -> None:
    """Refuses "a.b=value" strings that change another table than those of `free`.

    Raises:
        UserError: one does; `what` follows the list of tables, `do` says what to do.
    """
    for change in changes:
        if change.partition("=")[0].partition(".")[0].strip() not in free:
            raise UserError(f"want --set to change {', '.join(free)}{what}, got {change!r}; {do}")


def resolve(tables: Mapping[str, Any], where: str = "experiment") -> Experiment:
    """Checks the tables and fills in every option, so that the result says everything.

    The table ``search`` is for `fleeting.search` alone and left out.

    Raises:
        UserError: as in `read`.
    """
    without = {name: table for name, table in tables.items() if name != "search"}
    experiment = checked(Experiment, _with_names(_with_input(without)), where)
    model = plugins.load("models", experiment.model.name)
    filled = {
        field: _filled(kind, getattr(experiment, field), f"{where}, [{field}]") for field, kind in _CHOICES.items()
    }
    filled["model"] = _told_classes(model, filled["model"], filled["protocol"], where)
    recipe = {**model.RECIPE.model_dump(), **experiment.recipe}
    filled["recipe"] = checked(type(model.RECIPE), recipe, f"{where}, [recipe]").model_dump()
    for dataset in experiment.datasets:
        plugins.load("datasets", dataset)
    return experiment.model_copy(update=filled)


def _with_input(tables: Mapping[str, Any]) -> dict[str, Any]:
    """The tables with the model's own input below what they say of the input."""
    chosen = tables.get("model")
    if not isinstance(chosen, Mapping) or not isinstance(chosen.get("name"), str):
        return dict(tables)  # the check that follows says what is wrong
    name, options = plugins.load("models", chosen["name"]).INPUT
    given = tables.get("input", {})
    if not isinstance(given, Mapping) or given.get("name", name) != name:
        return dict(tables)
    return {**tables, "input": {"name": name, **options, **given}}


def _told_classes(model: Any, chosen: Choice, protocol: Choice, where: str) -> Choice:
    """A model whose options have `classes` is told the protocol's words: protocols order them differently."""
    if "classes" not in model.Options.model_fields:
        return chosen
    words = list(plugins.load("protocols", protocol.name).classes(options("protocols", protocol)))
    given = list(chosen.options["classes"])
    if given and given != words:
        raise UserError(f"{where}, [model]: want the protocol's classes {words}, got {given}; correct or remove them")
    return Choice(**{**chosen.model_dump(), "classes": words})


def _with_names(tables: Mapping[str, Any]) -> dict[str, Any]:
    """A table that changes options of what is chosen anyway need not name it."""
    named = dict(tables)
    for field in _CHOICES:
        default, given = Experiment.model_fields[field].default, named.get(field)
        if isinstance(default, Choice) and isinstance(given, Mapping) and "name" not in given:
            named[field] = {"name": default.name, **given}
    return named


def options(kind: str, choice: Choice) -> Any:
    """The `Options` of a chosen plug-in, or of an alignment (kind "align").

    Raises:
        UserError: an unknown option or a bad value.
    """
    return _options(kind, choice, f"{kind}/{choice.name}")


def plugin(kind: str, choice: Choice) -> tuple[Any, Any]:
    """The module of a chosen plug-in, and its options.

    Raises:
        UserError: as `options`.
    """
    return plugins.load(kind, choice.name), options(kind, choice)


def input_of(experiment: Experiment) -> Choice:
    """The input of a resolved experiment.

    Raises:
        UserError: it is not resolved.
    """
    if experiment.input is None:
        raise UserError("want a resolved experiment, got one without an input; use config.resolve")
    return experiment.input


def recipe(experiment: Experiment) -> Any:
    """The `training.Recipe` of a resolved experiment."""
    kind = type(plugins.load("models", experiment.model.name).RECIPE)
    return checked(kind, experiment.recipe, "[recipe]")


def checked(model: type[Model], values: Mapping[str, Any], where: str) -> Model:
    """`model(**values)` with pydantic's complaints turned into one line.

    Raises:
        UserError: an unknown key (with the nearest name) or a value out of range.
    """
    try:
        return model.model_validate(dict(values))
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = ".".join(str(part) for part in first["loc"])
        if first["type"] == "extra_forbidden":
            hint = nearest(place, model.model_fields)
            raise UserError(f"{where}: want a known option, got {place!r}{hint}") from error
        if first["type"] == "missing":
            raise UserError(f"{where}: want a value for {place!r}, got none; add it") from error
        message = first["msg"][:1].lower() + first["msg"][1:]
        raise UserError(f"{where}: want another value of {place!r} ({message}), got {first['input']!r}") from error


def to_toml(experiment: Experiment) -> str:
    """The experiment as TOML, options that are None left out."""
    return tomli_w.dumps(plain(experiment))


def plain(experiment: Experiment) -> dict[str, Any]:
    """The experiment as tables of plain values, without None."""
    tables: dict[str, Any] = _without_none(experiment.model_dump(mode="json"))
    return tables


def digest(experiment: Experiment) -> str:
    """SHA-256 over everything but the name: runs with one digest may be continued."""
    tables = plain(experiment)
    del tables["name"]
    return hashlib.sha256(json.dumps(tables, sort_keys=True).encode()).hexdigest()


def root(dataset: str) -> Path:
    """Where a corpus lies: ``FLEETING_<DATASET>``, else ``roots.toml`` here or in the user's configuration folder,
    else where `fleeting data fetch` puts it.

    Raises:
        UserError: none of them names an existing folder; the message names the page to ask for the corpus.
    """
    variable = f"FLEETING_{dataset.upper()}"
    named = os.environ.get(variable) or _from_roots(dataset)
    folder = Path(named).expanduser() if named else fetched(dataset)
    if not folder.is_dir():
        info = plugins.load("datasets", dataset).INFO
        fetch = f"run: fleeting data fetch {dataset}, or " if info.fetchable else f"ask for it at {info.request}, "
        raise UserError(
            f"want the folder of {dataset}, found no {folder}; {fetch}set {variable} or a line "
            f'{dataset} = "FOLDER" in roots.toml (source: {info.request})'
        )
    return folder


def fetched(dataset: str) -> Path:
    """Where `fleeting data fetch` puts a corpus: the user's data folder, or ``FLEETING_DATA``."""
    base = os.environ.get("FLEETING_DATA") or Path(os.environ.get("XDG_DATA_HOME", "~/.local/share")) / "fleeting"
    return Path(base).expanduser() / dataset


def _from_roots(dataset: str) -> str | None:
    config = Path(os.environ.get("XDG_CONFIG_HOME", "~/.config")).expanduser() / "fleeting"
    for path in (Path("roots.toml"), config / "roots.toml"):
        if path.is_file():
            named = _parsed(path).get(dataset)
            if named is not None:
                return str(path.resolve().parent / Path(str(named)).expanduser())
    return None


def _tables(path: Path, above: tuple[Path, ...] = ()) -> dict[str, Any]:
    if path.resolve() in above:
        raise UserError(f"{path}: want files that extend one another in one direction, got a circle; remove one")
    tables = _parsed(path)
    below = tables.pop("extends", None)
    if below is None:
        return tables
    return _merged(_tables(path.parent / str(below), (*above, path.resolve())), tables)


def _parsed(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: want a TOML file, got {getattr(error, 'strerror', None) or error}") from error
    except tomllib.TOMLDecodeError as error:
        raise UserError(f"{path}: want TOML, got {error}; correct the line") from error


def _merged(below: dict[str, Any], above: dict[str, Any]) -> dict[str, Any]:
    merged = dict(below)
    for name, value in above.items():
        old = merged.get(name)
        same = (
            isinstance(old, dict) and isinstance(value, dict) and value.get("name", old.get("name")) == old.get("name")
        )
        merged[name] = {**old, **value} if same else value  # type: ignore[dict-item]
    return merged


def _set(tables: dict[str, Any], change: str) -> None:
    name, equals, text = change.partition("=")
    *path, last = name.strip().split(".")
    if not equals or not last:
        raise UserError(f"--set: want a.b=value, got {change!r}")
    try:
        value = tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        value = text.strip()
    table = tables
    for part in path:
        table = table.setdefault(part, {})
        if not isinstance(table, dict):
            raise UserError(f"--set: want a table at {part!r}, got a value; in {change!r}")
    if last == "name" and path and table.get("name") != value:
        table.clear()  # another plug-in has other options
    table[last] = value


def _filled(kind: str, choice: Choice, where: str) -> Choice:
    filled = _options(kind, choice, where).model_dump(mode="json")
    return Choice(**{"name": choice.name, **filled})


def _options(kind: str, choice: Choice, where: str) -> Any:
    if kind == "align":  # one module, no plug-in: the name is one of its options
        from fleeting import align

        return checked(align.Options, {"name": choice.name, **choice.options}, where)
    return checked(plugins.load(kind, choice.name).Options, choice.options, where)


def _without_none(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _without_none(item) for name, item in value.items() if item is not None}
    return [_without_none(item) for item in value] if isinstance(value, list | tuple) else value
