"""An upload in parts that breaks off and is gone on with by another process, on a real server."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest

from atoll_contract.stage import StoreSpec
from atoll_contract.store.s3 import S3Store
from atoll_contract.store.s3_upload import MIN_PART_BYTES
from support.s3 import raw_client

PARTS = 5
KEY = "datasets/team/large.tar"


class Unplugged(BaseException):
    """The user's Ctrl-C, or the end of the process."""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "large.tar"
    path.write_bytes(random.Random(0).randbytes(PARTS * MIN_PART_BYTES - 7))
    return path


def interrupted(spec: StoreSpec, file: Path, memory: Path) -> None:
    """An upload that ends after its first part arrived."""

    def stop(count: int) -> None:
        raise Unplugged

    with pytest.raises(Unplugged):
        S3Store(spec, part_bytes=MIN_PART_BYTES).upload(KEY, file, transferred=stop, memory=memory)
    assert S3Store(spec).head(KEY) is None


def resumed(spec: StoreSpec, file: Path, memory: Path) -> list[int]:
    """The numbers of the parts that a second process sends."""
    store = S3Store(spec, part_bytes=MIN_PART_BYTES)
    sent: list[int] = []
    store.client.meta.events.register(
        "before-parameter-build.s3.UploadPart", lambda params, **_: sent.append(params["PartNumber"])
    )
    counted: list[int] = []
    info = store.upload(KEY, file, transferred=counted.append, memory=memory)
    assert sum(counted) == file.stat().st_size == info.size
    got = file.with_suffix(".got")
    assert store.download(KEY, got).sha256 == info.sha256
    assert got.read_bytes() == file.read_bytes()
    assert not memory.exists()
    return sent


def uploads(spec: StoreSpec) -> list[Any]:
    return list(
        raw_client(spec).list_multipart_uploads(Bucket=spec.bucket, Prefix=f"{spec.prefix}{KEY}").get("Uploads", [])
    )


def test_an_upload_that_broke_off_sends_only_what_is_missing(s3_spec: StoreSpec, file: Path, tmp_path: Path) -> None:
    memory = tmp_path / "notes" / "upload.json"
    interrupted(s3_spec, file, memory)
    assert memory.exists()
    sent = resumed(s3_spec, file, memory)
    assert 0 < len(sent) < PARTS
    assert uploads(s3_spec) == []


def test_another_file_under_the_name_starts_anew(s3_spec: StoreSpec, file: Path, tmp_path: Path) -> None:
    memory = tmp_path / "upload.json"
    interrupted(s3_spec, file, memory)
    file.write_bytes(random.Random(1).randbytes(PARTS * MIN_PART_BYTES - 7))
    assert len(resumed(s3_spec, file, memory)) == PARTS
    assert uploads(s3_spec) == []


def test_an_upload_that_the_store_has_forgotten_starts_anew(s3_spec: StoreSpec, file: Path, tmp_path: Path) -> None:
    memory = tmp_path / "upload.json"
    interrupted(s3_spec, file, memory)
    (left,) = uploads(s3_spec)
    raw_client(s3_spec).abort_multipart_upload(Bucket=s3_spec.bucket, Key=left["Key"], UploadId=left["UploadId"])
    assert len(resumed(s3_spec, file, memory)) == PARTS


def test_a_damaged_note_starts_anew(s3_spec: StoreSpec, file: Path, tmp_path: Path) -> None:
    memory = tmp_path / "upload.json"
    memory.write_bytes(b"{")
    assert len(resumed(s3_spec, file, memory)) == PARTS
