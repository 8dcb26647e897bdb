"""What no registry has is taken by URL and digest, and refused where one of them is not known."""

import re
from dataclasses import replace
from pathlib import Path

import pytest

import external

ROOT = Path(__file__).parents[3]
LOCK = external.read_lock(ROOT / "images" / "external.lock")
KNOWN = external.ExternalFile("x", "train", "X", "https://example.invalid/x.h5", "a" * 64, "note")


@pytest.mark.parametrize("name", sorted(LOCK.files))
def test_each_entry_is_complete_or_refused(name: str) -> None:
    entry = LOCK.files[name]
    if external.UNKNOWN in (entry.url, entry.sha256):
        with pytest.raises(external.LockError, match=name):
            LOCK.require(name)
    else:
        assert LOCK.require(name) == entry


@pytest.mark.parametrize("name", sorted(LOCK.files))
def test_each_entry_reaches_the_dockerfile_of_its_image(name: str) -> None:
    entry = LOCK.files[name]
    dockerfile = ROOT / "images" / entry.image / "Dockerfile"
    if not dockerfile.exists():
        pytest.skip(f"there is no {dockerfile.relative_to(ROOT)} yet")
    text = dockerfile.read_text(encoding="utf-8")
    for argument in (f"{entry.argument}_URL", f"{entry.argument}_SHA256"):
        assert re.search(rf"^ARG {argument}\b", text, re.MULTILINE)


def test_a_known_file_is_given_out() -> None:
    assert external.ExternalLock({"x": KNOWN}).require("x") == KNOWN


@pytest.mark.parametrize(
    "change", [{"sha256": "unknown"}, {"sha256": "A" * 64}, {"url": "unknown"}, {"url": "ftp://x/y"}]
)
def test_an_unknown_digest_or_address_is_refused(change: dict[str, str]) -> None:
    with pytest.raises(external.LockError, match=r"external\.lock, x"):
        external.ExternalLock({"x": replace(KNOWN, **change)}).require("x")


def test_an_unknown_name_is_refused_with_the_known_ones() -> None:
    with pytest.raises(external.LockError, match="edgetpu-compiler"):
        LOCK.require("edgetpu")
