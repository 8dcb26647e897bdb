"""An interrupted multipart upload that another process resumes, on a real server."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest

from atoll_contract.store.s3 import S3Store
from atoll_contract.store_spec import StoreSpec
from support.s3 import raw_client

PARTS = 5
# The minimum of S3.
MIN_PART_BYTES = 5 * 2**20
KEY = "datasets/team/large.tar"


class Unplugged(BaseException):
    """The user's Ctrl-C, or the end of the process."""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "large.tar"
    path.write_bytes(random.Random(0).randbytes(PARTS * MIN_PART_BYTES - 7))
    return path


def interrupted(spec: StoreSpec, file: Path, state_file: Path) -> None:
    """An upload that ends after its first part arrived."""

    def stop(count: int) -> None:
        raise Unplugged

    with pytest.raises(Unplugged):
        S3Store(spec, part_bytes=MIN_PART_BYTES).upload(KEY, file, transferred=stop, state_file=state_file)
    assert S3Store(spec).head(KEY) is None


def resumed(spec: StoreSpec, file: Path, state_file: Path) -> list[int]:
    """The numbers of the parts that a second process sends."""
    store = S3Store(spec, part_bytes=MIN_PART_BYTES)
    sent: list[int] = []
    store.client.meta.events.register(
        "before-parameter-build.s3.UploadPart", lambda params, **_: sent.append(params["PartNumber"])
    )
    counted: list[int] = []
    info = store.upload(KEY, file, transferred=counted.append, state_file=state_file)
    assert sum(counted) == file.stat().st_size == info.size
    got = file.with_suffix(".got")
    assert store.download(KEY, got).sha256 == info.sha256
    assert got.read_bytes() == file.read_bytes()
    assert not state_file.exists()
    return sent


def uploads(spec: StoreSpec) -> list[Any]:
    return list(
        raw_client(spec).list_multipart_uploads(Bucket=spec.bucket, Prefix=f"{spec.prefix}{KEY}").get("Uploads", [])
    )


def test_a_resumed_upload_sends_only_the_missing_parts(s3_spec: StoreSpec, file: Path, tmp_path: Path) -> None:
    state_file = tmp_path / "notes" / "upload.json"
    interrupted(s3_spec, file, state_file)
    assert state_file.exists()
    sent = resumed(s3_spec, file, state_file)
    assert 0 < len(sent) < PARTS
    assert uploads(s3_spec) == []


def test_an_upload_of_another_file_starts_again(s3_spec: StoreSpec, file: Path, tmp_path: Path) -> None:
    state_file = tmp_path / "upload.json"
    interrupted(s3_spec, file, state_file)
    file.write_bytes(random.Random(1).randbytes(PARTS * MIN_PART_BYTES - 7))
    assert len(resumed(s3_spec, file, state_file)) == PARTS
    assert uploads(s3_spec) == []


def test_an_upload_that_the_store_has_aborted_starts_again(s3_spec: StoreSpec, file: Path, tmp_path: Path) -> None:
    state_file = tmp_path / "upload.json"
    interrupted(s3_spec, file, state_file)
    (left,) = uploads(s3_spec)
    raw_client(s3_spec).abort_multipart_upload(Bucket=s3_spec.bucket, Key=left["Key"], UploadId=left["UploadId"])
    assert len(resumed(s3_spec, file, state_file)) == PARTS


def test_an_upload_with_a_damaged_state_file_starts_again(s3_spec: StoreSpec, file: Path, tmp_path: Path) -> None:
    state_file = tmp_path / "upload.json"
    state_file.write_bytes(b"{")
    assert len(resumed(s3_spec, file, state_file)) == PARTS
