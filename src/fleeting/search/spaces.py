"""What may be searched: the table ``[search]`` of an experiment file, checked against the experiment."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field, StrictFloat, StrictInt, model_validator

from fleeting import config
from fleeting.config import Experiment
from fleeting.errors import UserError

Number = StrictInt | Annotated[StrictFloat, Field(allow_inf_nan=False)]
_TABLES = ("model", "recipe", "input", "spotting", "face", "align", "flow", "apex")


class Range(BaseModel, frozen=True, extra="forbid"):
    """Numbers from low to high, both included: whole ones if both ends are written without a point.

    Attributes:
        low, high: the ends.
        log: drawn evenly in the logarithm, for what acts by its order of magnitude.
        step: only low, low + step, ...
    """

    low: Number
    high: Number
    log: bool = False
    step: Number | None = None

    @model_validator(mode="after")
    def _in_order(self) -> Range:
        if not self.low < self.high:
            raise ValueError("low below high")
        if self.log and (self.low <= 0 or self.step is not None):
            raise ValueError("with log = true a low above 0 and no step")
        if self.step is not None and not 0 < self.step <= self.high - self.low:
            raise ValueError("a step above 0 that is not wider than the range")
        if self.whole and isinstance(self.step, float):
            raise ValueError("a whole step between whole ends")
        return self

    @property
    def whole(self) -> bool:
        """Whether only whole numbers are meant."""
        return isinstance(self.low, int) and isinstance(self.high, int)

    @property
    def ends(self) -> tuple[Any, Any]:
        """The two values that are tried against the experiment before any work."""
        return self.low, self.high


class Choices(BaseModel, frozen=True, extra="forbid"):
    """One of several values; also written as a plain list.

    Attributes:
        choices: numbers, words, true and false, or lists of them.
    """

    choices: tuple[Any, ...] = Field(min_length=2)

    @model_validator(mode="after")
    def _once(self) -> Choices:
        try:
            told = {json.dumps(value) for value in self.choices}
        except TypeError:  # a date
            raise ValueError("numbers, words, true and false, or lists of them") from None
        if len(told) < len(self.choices):
            raise ValueError("each choice once")
        return self

    @property
    def ends(self) -> tuple[Any, ...]:
        """All values."""
        return self.choices


Space = Range | Choices


class Settings(BaseModel, frozen=True, extra="forbid"):
    """How is searched. All else in ``[search]`` is a space: ``"recipe.lr" = {low = 1e-5, high = 1e-3, log = true}``.

    Attributes:
        trials: of the whole study, by all workers together; more may be asked for later.
        inner: groups into which the training subjects are dealt; each is left out once a trial.
        metric: "uf1", or "uf1_all" over all classes of the protocol, pooled over the inner groups.
        seed: of the search; the networks' seeds are those of the experiment.
        startup: trials at random before the sampler (TPE) learns from them.
        fold: whose training part is searched; needed where the protocol has several.
    """

    trials: int = Field(30, ge=1)
    inner: int = Field(3, ge=2)
    metric: Literal["uf1", "uf1_all", "uar", "accuracy"] = "uf1"
    seed: int = Field(0, ge=0)
    startup: int = Field(10, ge=1)
    fold: str | None = None


@dataclass(frozen=True)
class Search:
    """Settings, and dotted name -> space."""

    settings: Settings
    spaces: Mapping[str, Space]

    def plain(self) -> dict[str, Any]:
        """As tables, without what is open."""
        spaces = {name: space.model_dump(mode="json", exclude_none=True) for name, space in self.spaces.items()}
        return {**self.settings.model_dump(mode="json", exclude_none=True), "spaces": spaces}


def read(tables: Mapping[str, Any], where: str) -> Search:
    """The table ``[search]``.

    Raises:
        UserError: there is none, it has no space, or one is not understood.
    """
    given = tables.get("search")
    if not isinstance(given, Mapping):
        raise UserError(
            f'{where}: want a table [search], got none; add one, such as\n[search]\n"recipe.lr" = '
            "{low = 1e-5, high = 1e-3, log = true}".replace("\n", " ")
        )
    named = dict(_named(given))
    settings = {name: value for name, value in named.items() if not _is_space(name)}
    spaces = {name: _space(value, f"{where}, [search], {name}") for name, value in named.items() if _is_space(name)}
    if not spaces:
        raise UserError(f'{where}, [search]: want at least one space such as "recipe.lr" = {{low, high}}, got none')
    return Search(config.checked(Settings, settings, f"{where}, [search]"), spaces)


def checked(tables: Mapping[str, Any], searched: Search, where: str) -> Experiment:
    """The experiment without a search, after each end of each space was tried in it.

    Raises:
        UserError: a name that is no option, a value that it cannot have, or what a search must not change.
    """
    for name, space in searched.spaces.items():
        if name.partition(".")[0] not in _TABLES or name.endswith(".name"):
            raise UserError(
                f"{where}, [search]: want options of {', '.join(_TABLES)} to search, got {name!r}; a search keeps the "
                "clips, the classes and the split as they are, and compares the options of one plug-in"
            )
        for value in space.ends:
            config.resolve(assigned(tables, {name: value}), f"{where}, [search], {name} = {json.dumps(value)}")
    return config.resolve(tables, where)


def assigned(tables: Mapping[str, Any], values: Mapping[str, Any]) -> dict[str, Any]:
    """Tables with values at their dotted names; the table ``search`` is left out."""
    without = {name: table for name, table in tables.items() if name != "search"}
    # a number in JSON is the same number in TOML, so are words, lists, true and false
    return config.changed(without, [f"{name}={json.dumps(value)}" for name, value in sorted(values.items())])


def _named(table: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, Any]]:
    """Dotted name -> space; ``model.depth = {..}`` without quotes, which TOML reads as tables in tables, will do."""
    for name, value in table.items():
        inside = isinstance(value, Mapping) and not {"low", "high", "choices"} & set(value)
        if isinstance(value, Mapping) and inside:
            yield from _named(value, f"{above}{name}.")
        else:
            yield f"{above}{name}", value


def _is_space(name: str) -> bool:
    return "." in name or name in _TABLES


def _space(value: Any, where: str) -> Space:
    if isinstance(value, list):
        return config.checked(Choices, {"choices": value}, where)
    if not isinstance(value, Mapping):
        raise UserError(f"{where}: want {{low = .., high = ..}} or a list of choices, got {value!r}")
    kind: type[Range] | type[Choices] = Choices if "choices" in value else Range
    return config.checked(kind, value, where)
