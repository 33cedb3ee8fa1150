"""The docs say what the code does."""

import importlib.util
import re
from pathlib import Path

import pytest

from fleeting import plugins

ROOT = Path(__file__).parents[1]
PAGES = [*sorted((ROOT / "docs").glob("**/*.md")), *ROOT.glob("*.md")]


def test_generated_pages_are_up_to_date() -> None:
    spec = importlib.util.spec_from_file_location("generate", ROOT / "docs" / "generate.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    for name, text in module.pages().items():
        assert (ROOT / "docs" / name).read_text(encoding="utf-8") == text, f"docs/{name} is old: run make docs"
        assert not name.startswith("plugins") or all(f"## {kind}" in text for kind in plugins.KINDS)


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.name)
def test_links_and_experiment_files_exist(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    for target in re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", text):
        if "://" not in target:
            assert (page.parent / target).exists(), f"{page.name} links to {target}"
    for target in re.findall(r"experiments/[\w/]+\.toml", text):
        assert (ROOT / target).is_file(), f"{page.name} names {target}"


def test_the_readme_names_both_commands() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    targets = re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    for command in ("demo", "test"):
        assert f"make {command}" in text
        assert command in targets
