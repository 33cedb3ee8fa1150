"""Plug-ins: files of the package and entry points of installed ones; listing imports nothing."""

import sys
from pathlib import Path

import pytest

import fleeting
from fleeting import plugins
from fleeting.errors import UserError

SOURCE = '''"""A corpus that an installed package brings.

More words.
"""

import sys

sys.modules["imported_by_listing"] = sys
'''


@pytest.fixture
def installed(tmp_path, monkeypatch):
    """A distribution on sys.path with a dataset plug-in, as pip would have installed it."""
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "__init__.py").write_text("", encoding="utf-8")
    (tmp_path / "elsewhere" / "corpus.py").write_text(SOURCE, encoding="utf-8")
    info = tmp_path / "elsewhere-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: elsewhere\nVersion: 1.0\n", encoding="utf-8")
    (info / "entry_points.txt").write_text(
        "[fleeting.datasets]\nfar_corpus = elsewhere.corpus\n\n"
        "[fleeting.models]\nbroken = elsewhere.absent\nneedy = elsewhere.needy\ngarbled = elsewhere.garbled\n",
        encoding="utf-8",
    )
    (tmp_path / "elsewhere" / "garbled.py").write_bytes(b"\x00 \xff (")
    (tmp_path / "elsewhere" / "needy.py").write_text('"""Needs more."""\nimport no_such_package_9\n', encoding="utf-8")
    modules = ("__init__", "corpus", "needy", "garbled")
    (info / "RECORD").write_text("".join(f"elsewhere/{name}.py,,\n" for name in modules), encoding="utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))
    yield
    plugins.load.cache_clear()
    for name in ("elsewhere", "elsewhere.corpus", "elsewhere.needy", "imported_by_listing"):
        sys.modules.pop(name, None)


@pytest.mark.parametrize("kind", plugins.KINDS)
def test_every_file_is_a_plugin(kind):
    folder = Path(fleeting.__file__).parent / kind
    files = {path.stem for path in folder.glob("*.py") if not path.stem.startswith("_")}
    assert files <= set(plugins.names(kind))
    assert plugins.names(kind) == sorted(plugins.names(kind))


@pytest.mark.parametrize("kind", plugins.KINDS)
def test_every_plugin_says_what_it_is(kind):
    rows = plugins.summaries(kind)
    assert [row["name"] for row in rows] == plugins.names(kind)
    for row in rows:
        assert 20 <= len(row["summary"]) <= 120
        assert row["summary"].rstrip().endswith((".", ":"))


@pytest.mark.parametrize("kind", plugins.KINDS)
def test_load_gives_the_module(kind):
    for name in plugins.names(kind):
        module = plugins.load(kind, name)
        assert module.__name__ == f"fleeting.{kind}.{name}"
        assert plugins.load(kind, name) is module


def test_an_unknown_kind_or_name_gets_a_hint():
    with pytest.raises(UserError, match="want a kind of plug-in, got 'model'; did you mean 'models'"):
        plugins.names("model")
    with pytest.raises(UserError, match="got 'ststnett'; did you mean 'ststnet'"):
        plugins.load("models", "ststnett")
    with pytest.raises(UserError, match=r"known: .*megc2019"):
        plugins.load("protocols", "qqqq")
    with pytest.raises(UserError, match="want a name of the kind 'models'"):
        plugins.load("models", "__init__")


@pytest.mark.usefixtures("installed")
def test_an_entry_point_is_listed_without_being_imported():
    assert "far_corpus" in plugins.names("datasets")
    summaries = {row["name"]: row["summary"] for row in plugins.summaries("datasets")}
    assert summaries["far_corpus"] == "A corpus that an installed package brings."
    assert "imported_by_listing" not in sys.modules
    assert "elsewhere" not in sys.modules


@pytest.mark.usefixtures("installed")
def test_an_entry_point_is_loaded():
    assert plugins.load("datasets", "far_corpus").__name__ == "elsewhere.corpus"
    assert "imported_by_listing" in sys.modules


@pytest.mark.usefixtures("installed")
def test_an_entry_point_without_its_file_or_package():
    summaries = {row["name"]: row["summary"] for row in plugins.summaries("models")}
    assert summaries["broken"] == ""
    assert summaries["needy"] == "Needs more."
    assert summaries["garbled"] == "cannot be read: not Python"
    with pytest.raises(UserError, match="models/needy needs the package 'no_such_package_9'; install it"):
        plugins.load("models", "needy")
    with pytest.raises(UserError, match="models/broken needs the package"):
        plugins.load("models", "broken")


def test_it_is_gone_with_its_distribution():
    assert "far_corpus" not in plugins.names("datasets")
