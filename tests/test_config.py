"""Experiments: files that extend one another, changes from the command line, roots."""

import copy
import tomllib
from pathlib import Path

import pytest

import fleeting
from fleeting import config, plugins
from fleeting.errors import UserError
from fleeting.inputs import uvs28
from fleeting.models import ststnet

EXPERIMENTS = Path(fleeting.__file__).parents[2] / "experiments"


@pytest.fixture
def write(tmp_path):
    def writing(text, name="e.toml"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        return path

    return writing


PLAIN = 'model.name = "ststnet"\n'


# --- what is filled in


def test_everything_left_open_is_filled_in(write):
    experiment = config.read(write(PLAIN))
    assert experiment.input.name == ststnet.INPUT[0]
    assert experiment.input.options == uvs28.Options(**ststnet.INPUT[1]).model_dump()
    assert experiment.recipe == ststnet.RECIPE.model_dump()
    assert experiment.model.options == ststnet.Options().model_dump()
    assert experiment.flow.options["winsize"] == 15
    assert (experiment.datasets, experiment.seeds, experiment.threads) == (("megc2019_flow",), (0,), 1)


def test_a_recipe_changes_only_what_it_names(write):
    experiment = config.read(write(PLAIN + "[recipe]\nepochs = 7\nflip = true\n"))
    assert config.recipe(experiment) == ststnet.RECIPE.model_copy(update={"epochs": 7, "flip": True})


def test_an_input_of_ones_own(write):
    experiment = config.read(write(PLAIN + '[input]\nname = "uvs28"\ncrop = 10\nareas = "constant"\n'))
    assert config.options("inputs", experiment.input) == uvs28.Options(crop=10, areas="constant")


def test_the_resolved_toml_round_trips(write):
    text = PLAIN + 'name = "x"\nseeds = [3, 1]\n[recipe]\nlr = 3e-4\ncrop = 20\n[protocol]\nname = "loso"\n'
    text += 'classes = ["a", "b"]\n[protocol.map]\n"joy, wide" = "a"\n'
    experiment = config.read(write(text))
    again = config.read(write(config.to_toml(experiment), "again.toml"))
    assert again == experiment
    assert config.to_toml(again) == config.to_toml(experiment)
    assert config.resolve(config.plain(experiment)) == experiment
    assert config.digest(again) == config.digest(experiment)
    assert "None" not in config.to_toml(experiment)


# --- extends


def test_extends_puts_one_file_over_another(write):
    write(PLAIN + "seeds = [0, 1]\n[recipe]\nepochs = 5\nlr = 0.1\n", "below/base.toml")
    write('extends = "below/base.toml"\n[recipe]\nepochs = 6\n', "middle.toml")
    experiment = config.read(write('extends = "middle.toml"\nname = "top"\n'))
    assert (experiment.name, experiment.seeds) == ("top", (0, 1))
    assert (experiment.recipe["epochs"], experiment.recipe["lr"]) == (6, 0.1)


def test_another_plugin_starts_afresh(write):
    write(PLAIN + '[input]\nname = "uvs28"\ncrop = 10\n[protocol]\nname = "loso"\nclasses = ["a", "b"]\n', "base.toml")
    experiment = config.read(
        write('extends = "base.toml"\n[protocol]\nname = "megc2019"\n[input]\naxes = "code"\n[model]\ndropout = 0.1\n')
    )
    assert experiment.protocol.options == {"groups": None}
    assert (experiment.input.options["crop"], experiment.input.options["axes"]) == (10, "code")
    assert experiment.model.options == {"dropout": 0.1}


def test_extends_in_a_circle(write):
    write('extends = "e.toml"\n', "b.toml")
    with pytest.raises(UserError, match="got a circle"):
        config.read(write('extends = "b.toml"\n'))
    with pytest.raises(UserError, match="got a circle"):
        config.read(write('extends = "../own/own.toml"\n', "own/own.toml"))


def test_extends_what_is_not_there(write):
    with pytest.raises(UserError, match=r"absent\.toml: want a TOML file, got No such file"):
        config.read(write('extends = "absent.toml"\n'))


# --- --set


@pytest.mark.parametrize(
    ("change", "value"),
    [
        ("recipe.epochs=3", 3),
        ("recipe.lr = 1e-2", 0.01),
        ("recipe.flip=true", True),
        ("recipe.schedule=cosine", "cosine"),
        ('recipe.schedule="cosine"', "cosine"),
    ],
)
def test_a_changed_value_has_its_type(write, change, value):
    experiment = config.read(write(PLAIN), [change])
    found = experiment.recipe[change.partition("=")[0].strip().removeprefix("recipe.")]
    assert found == value
    assert type(found) is type(value)


def test_changes_make_tables_and_go_over_the_file(write):
    path = write(PLAIN + "seeds = [5]\n")
    experiment = config.read(path, ["seeds=[1, 2]", "protocol.name=loso", 'protocol.classes=["a", "b"]', "name=a = b"])
    assert (experiment.seeds, experiment.protocol.options["classes"]) == ((1, 2), ["a", "b"])
    assert experiment.name == "a = b"
    assert config.read(path).seeds == (5,)


@pytest.mark.parametrize("change", ["recipe.epochs", "=3", "recipe.=3"])
def test_a_change_without_name_or_value(write, change):
    with pytest.raises(UserError, match=r"--set: want a\.b=value"):
        config.read(write(PLAIN), [change])


def test_a_change_below_a_value(write):
    with pytest.raises(UserError, match="--set: want a table at 'seeds'"):
        config.read(write(PLAIN + "seeds = [1]"), ["seeds.x=3"])


# --- what is refused


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("sedes = [1]", r"e\.toml: want a known option, got 'sedes'; did you mean 'seeds'"),
        ("[recipe]\nepoch = 3", r"\[recipe\]: want a known option, got 'epoch'; did you mean 'epochs'"),
        ("model.dropuot = 0.1", r"\[model\]: want a known option, got 'dropuot'; did you mean 'dropout'"),
        ('[input]\nname = "uvs28"\ncorp = 14', r"\[input\]: want a known option, got 'corp'; did you mean 'crop'"),
        ('[protocol]\nname = "megc2018"', "got 'megc2018'; did you mean 'megc2019'"),
        ('datasets = ["megc2019"]', "kind 'datasets', got 'megc2019'; did you mean 'megc2019_flow'"),
        ("[flow]\nwinsiz = 9", "got 'winsiz'; did you mean 'winsize'"),
        ("[recipe]\nlr = -1.0", r"\[recipe\]: want another value of 'lr' \(input should be greater than 0\), got -1.0"),
        ("[recipe]\nbatch = 2.5", "want another value of 'batch'"),
        ("seeds = []", "want another value of 'seeds'"),
        ("seeds = [1, 0, 1]", r"want another value of 'seeds' \(.*each at most once\), got \[1, 0, 1\]"),
        ("inner = 1", r"want another value of 'inner' \(.*no subject to train on.*\), got 1"),
        ("threads = 0", "want another value of 'threads'"),
        ('[input]\nname = "uvs28"\ncrop = 13', "want another value of 'crop'"),
        ("model.dropout = 1.0", "want another value of 'dropout'"),
        ("seeds = [", r"e\.toml: want TOML, got .*correct the line"),
    ],
)
def test_a_wrong_file_gets_one_line(write, text, message):
    with pytest.raises(UserError, match=message) as caught:
        config.read(write(PLAIN + text))
    assert "\n" not in str(caught.value)


def test_no_model(write):
    with pytest.raises(UserError, match="want a value for 'model', got none; add it"):
        config.read(write("seeds = [1]"))
    with pytest.raises(UserError, match="did you mean 'ststnet'"):
        config.read(write('model.name = "ststnett"'))


def test_no_such_file_or_not_a_text(tmp_path):
    with pytest.raises(UserError, match="want a TOML file, got No such file"):
        config.read(tmp_path / "absent.toml")
    with pytest.raises(UserError, match="want a TOML file, got Is a directory"):
        config.read(tmp_path)
    (tmp_path / "latin.toml").write_bytes(b'name = "\xe9"')
    with pytest.raises(UserError, match=r"latin\.toml: want a TOML file"):
        config.read(tmp_path / "latin.toml")


# --- digest


def leaves(value, path=()):
    if isinstance(value, dict):
        for name, item in value.items():
            yield from leaves(item, (*path, name))
    else:
        yield path, value


def other(value):
    if isinstance(value, bool):
        return not value
    if value is None:
        return 10
    if isinstance(value, list):
        return [*value, other(value[-1])]
    return value + "x" if isinstance(value, str) else value + 2


def test_the_digest_follows_every_value_but_the_name(write):
    experiment = config.read(write(PLAIN + "[recipe]\ncrop = 20\n"))
    tables, digest = config.plain(experiment), config.digest(experiment)
    found = list(leaves(tables))
    assert len(found) > 30
    for path, value in found:
        changed = copy.deepcopy(tables)
        table = changed
        for name in path[:-1]:
            table = table[name]
        table[path[-1]] = "spotted" if path == ("apex",) else other(value)
        same = config.digest(config.Experiment.model_validate(changed)) == digest
        assert same == (path == ("name",)), path


# --- roots


@pytest.fixture
def home(tmp_path, monkeypatch):
    """An empty working folder, and a place for the user's own configuration."""
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    (tmp_path / "config" / "fleeting").mkdir(parents=True)
    return tmp_path


def test_where_a_corpus_is_looked_for(home, monkeypatch):
    for name in ("fetched", "user", "here", "env"):
        (home / name / "megc2019_flow").mkdir(parents=True)
    monkeypatch.setenv("FLEETING_DATA", str(home / "fetched"))
    assert config.root("megc2019_flow") == home / "fetched" / "megc2019_flow" == config.fetched("megc2019_flow")
    line = 'casme2 = "/elsewhere"\nmegc2019_flow = "{}"\n'
    (home / "config" / "fleeting" / "roots.toml").write_text(line.format(home / "user" / "megc2019_flow"))
    assert config.root("megc2019_flow") == home / "user" / "megc2019_flow"
    Path("roots.toml").write_text('other = "x"\n')
    assert config.root("megc2019_flow") == home / "user" / "megc2019_flow"
    Path("roots.toml").write_text(line.format(home / "here" / "megc2019_flow"))
    assert config.root("megc2019_flow") == home / "here" / "megc2019_flow"
    monkeypatch.setenv("FLEETING_MEGC2019_FLOW", str(home / "env" / "megc2019_flow"))
    assert config.root("megc2019_flow") == home / "env" / "megc2019_flow"


def test_a_missing_root_names_the_page_and_the_variable(home, monkeypatch):
    page = plugins.load("datasets", "megc2019_flow").INFO.request
    with pytest.raises(UserError) as caught:
        config.root("megc2019_flow")
    for part in (page, "fleeting data fetch megc2019_flow", "FLEETING_MEGC2019_FLOW", "roots.toml"):
        assert part in str(caught.value)
    monkeypatch.setenv("FLEETING_MEGC2019_FLOW", str(home / "nowhere"))
    with pytest.raises(UserError, match=r"found no .*nowhere"):
        config.root("megc2019_flow")


def test_a_home_folder_is_expanded(home, monkeypatch):
    (home / "corpus").mkdir()
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("FLEETING_MEGC2019_FLOW", "~/corpus")
    assert config.root("megc2019_flow") == home / "corpus"


def test_broken_roots(home):
    Path("roots.toml").write_text("megc2019_flow = \n")
    with pytest.raises(UserError, match=r"roots\.toml: want TOML"):
        config.root("megc2019_flow")


# --- the experiments that come with fleeting


@pytest.mark.parametrize("path", sorted(EXPERIMENTS.rglob("*.toml")), ids=lambda path: path.stem)
def test_every_experiment_resolves(path):
    below, tables = path, {}
    while below:
        found = tomllib.loads(below.read_text(encoding="utf-8"))
        tables = {**found, **tables}
        below = below.parent / found["extends"] if "extends" in found else None
    absent = set(tables.get("datasets", ())) - set(plugins.names("datasets"))
    if absent:
        pytest.skip(f"no loader of {sorted(absent)} yet")
    experiment = config.read(path)
    assert config.resolve(config.plain(experiment)) == experiment


def test_changing_one_option_of_the_input_keeps_the_models_own(tmp_path):
    path = tmp_path / "a.toml"
    path.write_text('[model]\nname = "htnet"\n', encoding="utf-8")
    found = config.read(path, ["input.crop=16"]).input
    assert (found.name, found.options["crop"], found.options["areas"]) == ("uvs28", 16, "landmarks")


@pytest.mark.parametrize("bad", [{"name": "../x"}, {"name": ""}, {"seeds": [-1]}, {"recipe": {"lr": float("inf")}}])
def test_values_that_would_go_wrong_later_are_refused(bad):
    with pytest.raises(UserError):
        config.resolve({"model": {"name": "ststnet"}, **bad})
