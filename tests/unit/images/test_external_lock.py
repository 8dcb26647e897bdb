"""What no registry has is taken by URL and digest or from the builder's disk, and refused where neither is known."""

import hashlib
import re
from pathlib import Path

import pytest

import external
import fetch
from atoll_contract.keys import IMAGENET_WIDTHS, imagenet_names

ROOT = Path(__file__).parents[3]
LOCK = external.read_lock(ROOT / "images" / "external.lock")
KNOWN = external.ExternalFile("x", "train", "X", "note", "https://example.invalid/x.h5", "a" * 64)


@pytest.mark.parametrize("name", sorted(LOCK.files))
def test_each_entry_is_complete_or_asks_for_the_file(name: str) -> None:
    entry = LOCK.files[name]
    assert "unknown" not in (entry.url, entry.sha256)
    if entry.url and entry.sha256:
        assert LOCK.require(name) == entry
    else:
        with pytest.raises(external.LockError, match=rf"give it as {name}=FILE"):
            LOCK.require(name)


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


@pytest.mark.parametrize("change", [("sha256", ""), ("sha256", "A" * 64), ("url", ""), ("url", "ftp://x/y")])
def test_an_unknown_digest_or_address_is_refused(change: tuple[str, str]) -> None:
    url, digest = (dict([change]).get(name, getattr(KNOWN, name)) for name in ("url", "sha256"))
    changed = external.ExternalFile("x", "train", "X", "note", url, digest)
    with pytest.raises(external.LockError, match=r"external\.lock, x"):
        external.ExternalLock({"x": changed}).require("x")


def test_an_unknown_name_is_refused_with_the_known_ones() -> None:
    with pytest.raises(external.LockError, match="edgetpu-compiler"):
        LOCK.require("edgetpu")


def test_a_file_of_the_builder_s_own_lies_in_the_context_for_the_time_of_the_build(tmp_path: Path) -> None:
    own = tmp_path / "libedgetpu.deb"
    own.write_bytes(b"a package")
    file = LOCK.require(f"libedgetpu={own}")
    assert (file.url, file.sha256) == (f"{fetch.OWN_FILES}libedgetpu.deb", hashlib.sha256(b"a package").hexdigest())
    folder = tmp_path / external.CONTEXT_FOLDER
    folder.mkdir(parents=True)
    with external.given_files([file, KNOWN], tmp_path):
        assert [path.read_bytes() for path in folder.iterdir()] == [b"a package"]
    assert list(folder.iterdir()) == []


def test_a_file_with_another_digest_than_the_lock_s_is_refused(tmp_path: Path) -> None:
    own = tmp_path / "x.h5"
    own.write_bytes(b"other")
    lock = external.ExternalLock({"x": KNOWN})
    with pytest.raises(external.LockError, match="has the sha256"):
        lock.require(f"x={own}")
    with pytest.raises(external.LockError, match="there is no such file"):
        lock.require(f"x={own}.gone")


@pytest.mark.parametrize("width", IMAGENET_WIDTHS)
def test_weights_are_given_under_a_name_that_a_training_looks_for(tmp_path: Path, width: float) -> None:
    for name in imagenet_names(width):
        own = tmp_path / name
        own.write_bytes(b"weights")
        assert LOCK.require(f"imagenet-weights={own}").imagenet_width == str(width)
    other = own.rename(tmp_path / "weights.h5")
    with pytest.raises(external.LockError, match=imagenet_names(1.0)[0]):
        LOCK.require(f"imagenet-weights={other}")
    assert LOCK.files["imagenet-weights"].imagenet_width == "1.0"
    assert LOCK.files["pycoral"].imagenet_width is None
