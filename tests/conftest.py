"""Fixtures that several test files use."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from fleeting.datasets import megc2019_flow


def pytest_configure(config: pytest.Config) -> None:
    wanted = os.environ.get("FLEETING_REQUIRE_DATA")
    if wanted and not Path(os.environ.get("FLEETING_TEST_DATA", "")).is_dir():
        raise pytest.UsageError("FLEETING_REQUIRE_DATA is set, but FLEETING_TEST_DATA names no folder")


@pytest.fixture(autouse=True)
def _own_folders(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """No test reads or writes the user's own cache, data or configuration."""
    base = tmp_path_factory.mktemp("home")
    for variable in ("FLEETING_CACHE", "FLEETING_DATA", "XDG_CONFIG_HOME"):
        monkeypatch.setenv(variable, str(base / variable.lower()))
    monkeypatch.delenv("FLEETING_MEGC2019_FLOW", raising=False)


@pytest.fixture
def one_thread() -> Iterator[None]:
    """As every task runs; two threads of small work wait for each other on a busy machine."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def real() -> Path:
    """The folder of the real data."""
    folder = os.environ.get("FLEETING_TEST_DATA")
    if not folder:
        pytest.skip("FLEETING_TEST_DATA is not set")
    return Path(folder)


@pytest.fixture(scope="session")
def standin(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small made-up megc2019_flow: 9 subjects of three corpora, 5 clips each. Not to be changed by a test."""
    root = tmp_path_factory.mktemp("standin")
    megc2019_flow.write_standin(root, subjects=3, clips=5)
    return root
