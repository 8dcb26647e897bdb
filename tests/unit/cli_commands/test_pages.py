"""The pages of the documentation that `atoll help` prints, and the messages that name them."""

from pathlib import Path

import pytest

from atoll_cli import pages
from atoll_cli.main import main
from atoll_contract.errors import Reason, advice
from atoll_stages.convert.meanings import MEANINGS, anchor
from atoll_stages.convert.problems import Kind


@pytest.mark.parametrize("reason", list(Reason))
def test_every_reason_has_a_section_that_the_command_prints(reason: Reason) -> None:
    command = pages.with_links(advice(reason)).removeprefix("what to do: atoll help ")
    assert (pages.section(command) or "").startswith(f"### {reason}\n")
    assert "\n### " not in (pages.section(reason) or "")


@pytest.mark.parametrize("kind", sorted(MEANINGS))
def test_every_kind_of_problem_has_a_paragraph_that_the_command_prints(kind: Kind) -> None:
    said = pages.with_links(f"see {anchor(kind)}")
    text = pages.section(said.removeprefix("see atoll help "))
    assert text is not None
    assert text.startswith(f"**{kind}** ")
    assert "\n" not in text


def test_a_page_is_found_by_its_name_and_by_its_path() -> None:
    assert pages.section("data") == pages.section("docs/data.md")
    assert pages.section("docs/data.md#nothing-like-this") is None


def test_the_command_prints_a_section(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["help", "QualityGateFailed"]) == 0
    assert "spec.quality" in capsys.readouterr().out


def test_an_unknown_section_is_refused_with_the_pages_that_there_are(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["help", "data#nothing"]) == 2
    assert "there is no page or section 'data#nothing'; pages are accuracy, api," in capsys.readouterr().err


def test_an_installation_without_pages_has_no_section(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(pages, "_CHECKOUT", tmp_path / "none")
    assert pages.section("QualityGateFailed") is None
