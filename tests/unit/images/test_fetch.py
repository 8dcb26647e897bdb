"""A build takes a file from outside only under the digest that was named."""

import hashlib
import io
import urllib.request
from pathlib import Path
from typing import Any

import pytest

import fetch

URL = "https://example.invalid/pool/compiler_16.0_amd64.deb"
CONTENT = b"a debian package"
DIGEST = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture(autouse=True)
def world(monkeypatch: pytest.MonkeyPatch) -> None:
    def answer(url: str, timeout: float) -> Any:
        assert (url, timeout > 0) == (URL, True)
        return io.BytesIO(CONTENT)

    monkeypatch.setattr(urllib.request, "urlopen", answer)


def test_the_named_file_is_kept_under_its_own_name(tmp_path: Path) -> None:
    assert fetch.fetch(URL, DIGEST, tmp_path) == tmp_path / "compiler_16.0_amd64.deb"
    assert (tmp_path / "compiler_16.0_amd64.deb").read_bytes() == CONTENT


def test_another_content_is_not_kept(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert fetch.main([URL, "0" * 64, str(tmp_path)]) == 1
    assert DIGEST in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("digest", ["", "unknown", DIGEST[:-1], DIGEST.upper()])
def test_a_digest_that_is_none_is_refused_before_anything_is_fetched(digest: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"external\.lock"):
        fetch.fetch(URL, digest, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_file_of_the_builder_s_own_is_checked_in_the_same_way(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.undo()
    own, kept = tmp_path / "own", tmp_path / "kept"
    own.mkdir()
    kept.mkdir()
    (own / "x.deb").write_bytes(CONTENT)
    monkeypatch.setattr(fetch, "OWN_FILES", f"file://{own}/")
    assert fetch.fetch(f"file://{own}/x.deb", DIGEST, kept).read_bytes() == CONTENT
    assert fetch.main([f"file://{own}/x.deb", "0" * 64, str(kept)]) == 1


@pytest.mark.parametrize("url", ["http://example.invalid/x.deb", "file:///etc/passwd", "https://example.invalid/"])
def test_only_files_by_https(url: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="https"):
        fetch.fetch(url, DIGEST, tmp_path)
