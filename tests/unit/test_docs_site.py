"""The documentation site: every page has its place, links keep to the site, and `make docs-site` builds it strictly."""

import importlib.util
import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]
CONFIG = yaml.safe_load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"))
KINDS = ("Tutorial", "How-to", "Reference", "Explanation")
MKDOCS = ROOT / "build" / "docs-venv" / "bin" / "mkdocs"
needs_mkdocs = pytest.mark.skipif(not MKDOCS.exists(), reason="NOT RUN: no mkdocs; make docs-site")


def _hooks() -> ModuleType:
    spec = importlib.util.spec_from_file_location("site_hooks", ROOT / "docs" / "site" / "hooks.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


HOOKS = _hooks()


def _pages() -> Iterator[str]:
    for entry in CONFIG["nav"]:
        ((kind, value),) = entry.items()
        if kind == "Home":
            yield value
        else:
            assert kind in KINDS
            yield from (page for item in value for page in item.values())


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("site") / "built"
    done = _build(ROOT, target)
    assert done.returncode == 0, done.stderr
    return target


def _build(root: Path, target: Path) -> "subprocess.CompletedProcess[str]":
    command = [str(MKDOCS), "build", "--strict", "--site-dir", str(target)]
    environ = {"NO_MKDOCS_2_WARNING": "1", "PATH": "/usr/bin:/bin", "LANG": "C.UTF-8"}
    return subprocess.run(command, cwd=root, env=environ, capture_output=True, text=True, check=False, timeout=60)


def test_every_page_stands_once_under_the_kind_that_it_is() -> None:
    named = list(_pages())
    written = {path.name for path in ROOT.glob("docs/*.md")} | set(HOOKS.REPOSITORY_PAGES)
    assert sorted(named) == sorted(written)


def test_the_sites_front_page_lists_every_page() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    linked = set(re.findall(r"\]\(docs/([\w-]+\.md)\)", readme))
    assert linked == {path.name for path in ROOT.glob("docs/*.md")}


@pytest.mark.parametrize(
    ("page", "written", "shown"),
    [
        ("index.md", "[a](docs/cli.md#exit-codes)", "[a](cli.md#exit-codes)"),
        ("index.md", "![a](docs/images/ui.png)", "![a](images/ui.png)"),
        ("index.md", "[a](charts/atoll/README.md)", "[a](chart.md)"),
        ("chart.md", "[a](../../docs/install.md)", "[a](install.md)"),
        ("install.md", "[a](../charts/atoll/README.md)", "[a](chart.md)"),
        ("install.md", "[a](operator.md#settings) [b](#k3s)", "[a](operator.md#settings) [b](#k3s)"),
        ("install.md", "[a](https://docs.k3s.io)", "[a](https://docs.k3s.io)"),
    ],
)
def test_a_link_between_files_becomes_one_between_pages(page: str, written: str, shown: str) -> None:
    assert HOOKS.with_site_links(written, page) == shown


def test_a_bar_in_the_code_of_a_table_loses_its_escape() -> None:
    assert HOOKS.with_plain_bars("| `a [B\\|C]` | x \\| y |\n\n`a\\|b`") == "| `a [B|C]` | x \\| y |\n\n`a\\|b`"


@needs_mkdocs
def test_the_site_loads_nothing_from_elsewhere(site: Path) -> None:
    pages = list(site.rglob("*.html"))
    assert len(pages) > len(set(_pages()))
    for page in pages:
        html = page.read_text(encoding="utf-8")
        loaded = re.findall(r"<(?:script|img|iframe|source)[^>]+src=\"?([^\"\s>]+)", html)
        loaded += re.findall(r"<link[^>]+rel=\"?(?:stylesheet|icon|preconnect|preload)[^>]*href=\"?([^\"\s>]+)", html)
        loaded += re.findall(r"<link[^>]+href=\"?([^\"\s>]+)[^>]*rel=\"?(?:stylesheet|icon|preconnect|preload)", html)
        assert loaded
        assert not [address for address in loaded if "//" in address], page


@needs_mkdocs
def test_the_search_finds_a_reason_and_a_word_of_the_glossary(site: Path) -> None:
    index: dict[str, Any] = json.loads((site / "search" / "search_index.json").read_text(encoding="utf-8"))
    places = {entry["location"] for entry in index["docs"]}
    assert {"troubleshooting/#datasetmalformed", "glossary/", "comparison/"} <= places


@needs_mkdocs
def test_a_dead_link_fails_the_build(tmp_path: Path) -> None:
    shutil.copytree(ROOT / "docs", tmp_path / "docs")
    for source in ("mkdocs.yml", *HOOKS.REPOSITORY_PAGES.values()):
        (tmp_path / source).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / source, tmp_path / source)
    dead = ("nowhere.md", "cli.md#no-such-heading", "../pyproject.toml")
    links = " ".join(f"[dead]({link})" for link in dead)
    (tmp_path / "docs" / "glossary.md").write_text(f"# Glossary\n\n{links}\n", encoding="utf-8")
    done = _build(tmp_path, tmp_path / "built")
    assert done.returncode == 1
    assert [link for link in dead if link not in done.stderr] == []
