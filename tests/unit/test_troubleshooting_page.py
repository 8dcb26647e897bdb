"""docs/troubleshooting.md has a section for every reason, and says truly which are tried again."""

import re
from pathlib import Path

import pytest

from atoll_contract.errors import Reason
from atoll_operator.lifecycle.conditions import STALLING
from atoll_operator.lifecycle.results import is_retryable

PAGE = Path(__file__).parents[2] / "docs" / "troubleshooting.md"
# A version that was taken is tried again by its own rule; a lost node is waited for before any attempt is given up.
BY_OTHER_RULES = {Reason.VERSION_CONFLICT: True, Reason.NODE_LOST: False}


def sections() -> dict[str, str]:
    parts = re.split(r"^### (.+)$", PAGE.read_text(encoding="utf-8"), flags=re.M)[1:]
    names, texts = parts[::2], parts[1::2]
    assert len(set(names)) == len(names)
    return {name: re.split(r"^## ", text, flags=re.M)[0].strip() for name, text in zip(names, texts, strict=True)}


def test_every_reason_has_a_section_and_no_section_lacks_a_reason() -> None:
    assert set(sections()) == {str(reason) for reason in Reason}


@pytest.mark.parametrize("reason", list(Reason), ids=str)
def test_a_section_says_truly_whether_the_stage_is_tried_again(reason: Reason) -> None:
    text = sections()[reason]
    again = BY_OTHER_RULES.get(reason, is_retryable(reason, None))
    assert text.startswith("Tried again") == again


@pytest.mark.parametrize("reason", list(Reason), ids=str)
def test_a_section_of_trouble_says_what_to_do(reason: Reason) -> None:
    text = sections()[reason]
    if text.startswith("Progress"):
        assert reason not in STALLING
        return
    assert text.startswith(("Waits", "Tried again", "Ends", "On edge devices only"))
    assert "**Why:**" in text
    assert "**Do:**" in text or "for good" in text
