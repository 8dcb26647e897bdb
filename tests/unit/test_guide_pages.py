"""What the pages for users and admins tell them to type exists: commands, targets, files, manifests, Helm values."""

import json
import re
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from atoll_cli.command_table import COMMANDS
from atoll_operator.api.validation import check

ROOT = Path(__file__).parents[2]
NAMES = ("install.md", "first-run.md", "troubleshooting.md", "security.md", "mentor.md", "tasks.md")
PAGES = [ROOT / "docs" / name for name in NAMES]
MAKEFILE = (ROOT / "Makefile").read_text(encoding="utf-8")
VALUES_SCHEMA = json.loads((ROOT / "charts" / "atoll" / "values.schema.json").read_text(encoding="utf-8"))


def yaml_blocks() -> list[Any]:
    texts = [page.read_text(encoding="utf-8") for page in PAGES]
    return [yaml.safe_load(block) for text in texts for block in re.findall(r"^```yaml\n(.*?)^```", text, re.M | re.S)]


def typed(page: Path) -> str:
    """The code of a page: indented lines, fenced blocks, and what stands between backticks."""
    fence = re.compile(r"^```\w*\n(.*?)^```", re.M | re.S)
    text = page.read_text(encoding="utf-8")
    plain = fence.sub("", text)
    return "\n".join([*fence.findall(text), *re.findall(r"^    .*$", plain, re.M), *re.findall(r"`([^`]+)`", plain)])


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.name)
def test_commands_and_targets_exist(page: Path) -> None:
    code = typed(page)
    commands = set(re.findall(r"(?:^ *|&& |bin/)atoll ([a-z-]+)", code, re.M))
    assert commands <= set(COMMANDS)
    for target in re.findall(r"\bmake ((?!it\b|the\b)[a-z0-9-]+)", code):
        assert re.search(rf"^{target}:", MAKEFILE, re.M), target


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.name)
def test_named_files_exist(page: Path) -> None:
    for path in re.findall(r"(?<![\w/])(?:charts|crds|images|operator|edge|tests)/[\w./-]*\w", typed(page)):
        assert (ROOT / path).exists(), path


def test_there_are_manifests_and_values_to_check() -> None:
    assert {bool(block.get("kind")) for block in yaml_blocks()} == {True, False}


@pytest.mark.parametrize("block", yaml_blocks(), ids=lambda block: str(block.get("kind", "values")))
def test_a_block_is_what_it_is_meant_to_be(block: dict[str, Any]) -> None:
    if "kind" in block:
        assert check(block).problems == ()
    else:
        jsonschema.validate(block, VALUES_SCHEMA)
