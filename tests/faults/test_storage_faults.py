"""The storage faults S1 to S17 (docs/faults.md) at the level of the store: a real server behind a proxy of faults."""

import hashlib
import multiprocessing
import os
import secrets
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from atoll_contract.document import replace
from atoll_contract.errors import IntegrityError, Reason, is_transient
from atoll_contract.store import s3_client as s3client
from atoll_contract.store import s3_upload as s3upload
from atoll_contract.store.base import (
    ObjectNotFound,
    PreconditionFailed,
    StoreError,
    StoreForbidden,
    StoreUnavailable,
    require_conditional_put,
)
from atoll_contract.store.s3 import S3Store
from atoll_contract.store_spec import AddressingStyle, ChecksumMode
from support.certificates import self_signed
from support.faulted_store import PART_BYTES, Bench
from support.faultproxy import (
    FaultProxy,
    Hang,
    Request,
    answer,
    careless_put,
    flip_request,
    flip_response,
    lose_response,
    part_number,
    reset,
    truncate,
)
from support.polling import wait_until
from support.s3 import raw_client, write_credentials
from support.store_writers import upload_file

pytestmark = pytest.mark.api

SLOW_DOWN = answer(503, "SlowDown", "Please reduce your request rate.")


def conditional(request: Request) -> bool:
    return request.method == "PUT" and ("if-none-match" in request.headers or "if-match" in request.headers)


def big_file(folder: Path, size: int = 2 * PART_BYTES + 12345) -> tuple[Path, str]:
    path = folder / "big"
    path.write_bytes(os.urandom(size))
    return path, hashlib.sha256(path.read_bytes()).hexdigest()


def test_S1_a_blip_is_outwaited_with_growing_pauses(bench: Bench, store: S3Store) -> None:
    store.put("a", b"data")
    bench.proxy.on(SLOW_DOWN, times=6)
    assert store.get("a") == b"data"
    assert len(bench.clock.slept) == 6
    assert bench.clock.slept[-1] > bench.clock.slept[0]
    assert 5 < sum(bench.clock.slept) < 60


@pytest.mark.parametrize("fault", [SLOW_DOWN, answer(500, "InternalError"), answer(502, ""), answer(503, "")])
def test_S1_a_long_outage_ends_bounded_and_transient(bench: Bench, store: S3Store, fault: Any) -> None:
    bench.proxy.on(fault)
    with pytest.raises(StoreUnavailable, match=r"tries in \d+ s") as caught:
        store.put("a", b"data")
    assert is_transient(caught.value.code)
    assert 120 < bench.clock.now <= 180
    assert bench.proxy.count() < 20
    assert max(bench.clock.slept) <= 30


def test_S1_throttling_has_its_own_reason(bench: Bench, store: S3Store) -> None:
    bench.proxy.on(SLOW_DOWN)
    with pytest.raises(StoreUnavailable, match="503 SlowDown") as caught:
        store.get("a")
    assert caught.value.reason is Reason.STORAGE_THROTTLED


def test_S2_broken_and_silent_connections_are_tried_again(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(s3client, "READ_TIMEOUT_SECONDS", 1)
    store = bench.open()
    hang = Hang()
    bench.proxy.on(reset, times=2)
    bench.proxy.on(hang, times=1)
    store.put("a", b"data")
    hang.release.set()
    assert store.get("a") == b"data"
    assert len(bench.clock.slept) == 3


def test_S2_a_server_that_is_not_there_is_named(bench: Bench) -> None:
    for endpoint in ("http://127.0.0.1:9", "http://no-such-host.invalid"):
        with pytest.raises(StoreUnavailable) as caught:
            bench.open(replace(bench.direct, endpoint=endpoint)).get("a")
        assert endpoint in caught.value.message
        assert is_transient(caught.value.code)


def test_S2_an_unknown_certificate_is_told_soon_and_never_ignored(bench: Bench, tmp_path: Path) -> None:
    certificate = self_signed(tmp_path / "server.pem")
    assert bench.direct.endpoint is not None
    with FaultProxy(bench.direct.endpoint, certificate=certificate.both) as proxy:
        spec = replace(bench.direct, endpoint=proxy.endpoint)
        with pytest.raises(StoreUnavailable, match=r"TLS.*certificate.*caBundleRef.*3 tries"):
            bench.open(spec).put("a", b"data")
        assert proxy.count() == 0
        trusting = bench.open(replace(spec, ca_bundle_path=str(certificate.public)))
        trusting.put("a", b"data")
        assert trusting.get("a") == b"data"


@pytest.mark.parametrize("times", [1, 3])
def test_S3_a_conditional_put_whose_answer_is_lost_has_succeeded(bench: Bench, store: S3Store, times: int) -> None:
    rule = bench.proxy.on(lose_response, where=conditional, times=times)
    info = store.put("a", b"mine", if_absent=True)
    assert rule.hits == times
    assert bench.real.get("a") == b"mine"
    bench.proxy.on(lose_response, where=conditional, times=times)
    assert store.put("a", b"mine again", if_match=info.etag).size == 10
    assert bench.real.get("a") == b"mine again"


def test_S3_anothers_object_is_a_conflict_even_with_the_same_bytes(bench: Bench, store: S3Store) -> None:
    def overtake(request: Request, forward: Callable[[Request], Any]) -> Any:
        bench.real.put("a", b"same bytes", if_absent=True)
        return forward(request)

    bench.proxy.on(overtake, where=conditional, times=1)
    with pytest.raises(PreconditionFailed):
        store.put("a", b"same bytes", if_absent=True)


def test_S3_a_completed_upload_whose_answer_is_lost_has_succeeded(bench: Bench, store: S3Store, tmp_path: Path) -> None:
    path, digest = big_file(tmp_path)
    rule = bench.proxy.on(lose_response, method="POST", where=lambda r: "uploadId" in r.query, times=1)
    assert store.upload("big", path).sha256 == digest
    assert rule.hits == 1
    assert bench.real.download("big", tmp_path / "copy").sha256 == digest


def test_S4_a_conflict_of_requests_is_tried_again_not_believed(bench: Bench, store: S3Store) -> None:
    bench.proxy.on(answer(409, "ConditionalRequestConflict"), where=conditional, times=2)
    store.put("a", b"mine", if_absent=True)
    assert bench.real.get("a") == b"mine"


def test_S5_a_killed_upload_leaves_nothing_to_be_seen_and_is_repeated(bench: Bench, tmp_path: Path) -> None:
    path, digest = big_file(tmp_path)
    hang = Hang()
    bench.proxy.on(hang, where=lambda r: part_number(r) == 3)
    child = multiprocessing.get_context("spawn").Process(
        target=upload_file, args=(bench.behind, "big", str(path), PART_BYTES)
    )
    child.start()
    wait_until(hang.reached.is_set, what="the third part")
    child.kill()
    child.join(20)
    hang.release.set()
    bench.proxy.heal()
    assert bench.real.head("big") is None
    assert list(bench.real.list("")) == []
    assert bench.open().upload("big", path).sha256 == digest
    assert bench.real.download("big", tmp_path / "copy").sha256 == digest


def uploads(bench: Bench) -> list[Any]:
    found = raw_client(bench.direct).list_multipart_uploads(Bucket=bench.direct.bucket, Prefix="atoll/big")
    return list(found.get("Uploads", []))


def test_S5_unfinished_uploads_are_aborted_once_they_are_old(
    bench: Bench, store: S3Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, _ = big_file(tmp_path)
    left = raw_client(bench.direct).create_multipart_upload(Bucket=bench.direct.bucket, Key="atoll/big")
    store.upload("big", path)
    assert [item["UploadId"] for item in uploads(bench)] == [left["UploadId"]]
    monkeypatch.setattr(s3upload, "STALE_AFTER", timedelta(seconds=-60))
    store.upload("big", path)
    assert uploads(bench) == []


def test_S5_a_failed_upload_is_aborted(bench: Bench, store: S3Store, tmp_path: Path) -> None:
    path, _ = big_file(tmp_path)
    bench.proxy.on(answer(403, "AccessDenied"), where=lambda r: part_number(r) == 2)
    with pytest.raises(StoreForbidden):
        store.upload("big", path)
    assert uploads(bench) == []
    assert bench.real.head("big") is None


def test_S6_a_flipped_byte_is_fetched_again(bench: Bench, store: S3Store, tmp_path: Path) -> None:
    path, digest = big_file(tmp_path)
    store.upload("big", path)
    store.put("small", b"0123456789")
    bench.proxy.on(flip_response, method="GET", times=1)
    assert store.download("big", tmp_path / "copy", sha256=digest).sha256 == digest
    bench.proxy.on(flip_response, method="GET", times=2)
    assert store.get("small") == b"0123456789"


def test_S6_bytes_that_stay_damaged_are_never_delivered(bench: Bench, store: S3Store, tmp_path: Path) -> None:
    digest = store.put("a", b"0123456789").sha256
    rule = bench.proxy.on(flip_response, method="GET")
    with pytest.raises(IntegrityError, match=rf"expected sha256 {digest}, got [0-9a-f]{{64}} \(3 tries\)"):
        store.download("a", tmp_path / "copy", sha256=digest)
    assert rule.hits == 3
    assert not (tmp_path / "copy").exists()
    with pytest.raises(StoreError) as caught:
        store.get("a")
    assert caught.value.reason is Reason.INTEGRITY_MISMATCH


def test_S6_a_byte_flipped_on_the_way_up_is_sent_again(bench: Bench, store: S3Store, tmp_path: Path) -> None:
    bench.proxy.on(flip_request, method="PUT", times=2)
    store.put("a", b"0123456789")
    assert bench.real.get("a") == b"0123456789"
    path, digest = big_file(tmp_path)
    bench.proxy.on(flip_request, where=lambda r: part_number(r) == 2, times=1)
    store.upload("big", path)
    assert bench.real.download("big", tmp_path / "copy").sha256 == digest
    bench.proxy.on(flip_request, method="PUT")
    with pytest.raises(StoreError, match="changed on their way") as caught:
        store.put("b", b"0123456789")
    assert caught.value.reason is Reason.INTEGRITY_MISMATCH
    assert bench.real.head("b") is None


def test_S6_a_file_that_changes_while_it_is_sent_is_not_published(bench: Bench, store: S3Store, tmp_path: Path) -> None:
    path, _ = big_file(tmp_path)

    def change(request: Request, forward: Callable[[Request], Any]) -> Any:
        with path.open("r+b") as stream:
            stream.seek(-1, os.SEEK_END)
            stream.write(b"!" if path.read_bytes()[-1:] != b"!" else b"?")
        return forward(request)

    bench.proxy.on(change, method="POST", where=lambda r: "uploads" in r.query, times=1)
    with pytest.raises(IntegrityError, match="changed while it was uploaded"):
        store.upload("big", path)
    assert bench.real.head("big") is None
    assert uploads(bench) == []


def operations(store: S3Store, folder: Path) -> list[Callable[[], Any]]:
    return [
        lambda: store.head("a"),
        lambda: store.get("a"),
        lambda: store.get_if_changed("a", None),
        lambda: store.put("a", b"x"),
        lambda: store.put("a", b"x", if_absent=True),
        lambda: list(store.list("")),
        lambda: store.download("a", folder / "x"),
    ]


def test_S7_a_missing_bucket_is_named_at_once_and_not_made(bench: Bench, tmp_path: Path) -> None:
    bucket = f"absent-{secrets.token_hex(4)}"
    store = bench.open(replace(bench.behind, bucket=bucket))
    for operation in operations(store, tmp_path):
        before = bench.proxy.count()
        with pytest.raises(StoreError, match=bucket) as caught:
            operation()
        assert caught.value.reason is Reason.BUCKET_NOT_FOUND
        assert not is_transient(caught.value.code)
        assert bench.proxy.count() - before <= 2
    assert bench.clock.slept == []
    names = [item["Name"] for item in raw_client(bench.direct).list_buckets()["Buckets"]]
    assert bucket not in names


def test_S7_a_wrong_region_and_a_host_name_without_the_bucket_are_told(bench: Bench, store: S3Store) -> None:
    bench.proxy.on(answer(400, "AuthorizationHeaderMalformed", "the region is wrong", Region="eu-west-3"))
    with pytest.raises(StoreError, match="its region is eu-west-3") as caught:
        store.put("a", b"x")
    assert caught.value.reason is Reason.BUCKET_NOT_FOUND
    style = AddressingStyle.VIRTUAL
    elsewhere = replace(bench.direct, endpoint="http://no-such-host.invalid", addressing_style=style)
    with pytest.raises(StoreError, match="try path") as caught:
        bench.open(elsewhere).put("a", b"x")
    assert caught.value.reason is Reason.BUCKET_NOT_FOUND
    assert bench.clock.now < 60


def test_S8_wrong_keys_end_after_two_tries_with_the_reason(bench: Bench, tmp_path: Path) -> None:
    folder = Path(bench.direct.credentials_dir or "")
    key = (folder / "AWS_ACCESS_KEY_ID").read_text()
    for access_key, code in (("nobody", "InvalidAccessKeyId"), (key, "SignatureDoesNotMatch")):
        write_credentials(folder, access_key, "not-the-secret")
        store = bench.open()
        for operation in operations(store, tmp_path):
            before = bench.proxy.count()
            with pytest.raises(StoreForbidden, match=code) as caught:
                operation()
            assert bench.proxy.count() - before <= 4  # HEAD asks a second time, for its answers have no words
            assert not is_transient(caught.value.code)
            assert "not-the-secret" not in caught.value.message


def test_S8_no_credentials_are_a_sentence_too(bench: Bench) -> None:
    anonymous = bench.open(replace(bench.behind, credentials_dir=None, anonymous=True))
    with pytest.raises(StoreForbidden, match="AccessDenied"):
        anonymous.get("a")
    missing = bench.open(replace(bench.behind, credentials_dir=str(bench.folder / "nowhere")))
    with pytest.raises(StoreForbidden, match="AWS_ACCESS_KEY_ID"):
        missing.get("a")
    (bench.folder / "empty").mkdir()
    (bench.folder / "empty" / "AWS_ACCESS_KEY_ID").write_text("\n")
    with pytest.raises(StoreForbidden, match="is empty"):
        bench.open(replace(bench.behind, credentials_dir=str(bench.folder / "empty"))).get("a")


def test_S9_rotated_keys_are_used_at_once(bench: Bench) -> None:
    folder = Path(bench.direct.credentials_dir or "")
    key, secret = ((folder / name).read_text() for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"))
    store = bench.open()
    store.put("a", b"1")
    write_credentials(folder, "revoked", "revoked")
    with pytest.raises(StoreForbidden):
        store.put("a", b"2")
    write_credentials(folder, key, secret)
    store.put("a", b"3")
    assert store.get("a") == b"3"


def test_S9_a_mounted_secret_changes_all_its_files_together(bench: Bench, tmp_path: Path) -> None:
    real = Path(bench.direct.credentials_dir or "")
    mounted = tmp_path / "mounted"
    (mounted / "..1").mkdir(parents=True)
    write_credentials(mounted / "..1", "old", "old")
    (mounted / "..data").symlink_to("..1")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        (mounted / name).symlink_to(f"..data/{name}")
    store = bench.open(replace(bench.behind, credentials_dir=str(mounted)))
    with pytest.raises(StoreForbidden):
        store.put("a", b"1")
    (mounted / "..data_tmp").symlink_to(real)
    (mounted / "..data_tmp").rename(mounted / "..data")
    store.put("a", b"2")


def test_S9_a_token_that_expires_in_the_middle_is_renewed(bench: Bench, store: S3Store, tmp_path: Path) -> None:
    path, digest = big_file(tmp_path)
    expired = answer(400, "ExpiredToken", "The provided token has expired.")
    bench.proxy.on(expired, where=lambda r: part_number(r) == 2, times=2)
    assert store.upload("big", path).sha256 == digest
    bench.proxy.on(expired)
    with pytest.raises(StoreError, match="3 tries") as caught:
        store.get("big")
    assert caught.value.reason is Reason.CREDENTIALS_EXPIRED


def test_S10_a_pinned_object_that_was_replaced_is_not_read(bench: Bench, store: S3Store, tmp_path: Path) -> None:
    path, _ = big_file(tmp_path)
    etag = store.upload("big", path).etag

    def overwrite(request: Request, forward: Callable[[Request], Any]) -> Any:
        cut = truncate(100_000)(request, forward)
        bench.real.put("big", b"another data set")
        return cut

    bench.proxy.on(overwrite, method="GET", times=1)
    with pytest.raises(PreconditionFailed, match="no longer the object"):
        store.download("big", tmp_path / "copy", etag=etag)
    assert not (tmp_path / "copy").exists()
    with pytest.raises(PreconditionFailed):
        store.download("big", tmp_path / "copy", etag=etag)


def test_S10_without_a_pin_the_file_is_wholly_the_new_one(bench: Bench, store: S3Store, tmp_path: Path) -> None:
    path, _ = big_file(tmp_path)
    store.upload("big", path)

    def overwrite(request: Request, forward: Callable[[Request], Any]) -> Any:
        cut = truncate(100_000)(request, forward)
        bench.real.put("big", b"another data set")
        return cut

    bench.proxy.on(overwrite, method="GET", times=1)
    received: list[int] = []
    info = store.download("big", tmp_path / "copy", transferred=received.append)
    assert (tmp_path / "copy").read_bytes() == b"another data set"
    assert info.size == sum(received) == 16


def test_S10_a_broken_download_goes_on_where_it_broke(bench: Bench, store: S3Store, tmp_path: Path) -> None:
    path, digest = big_file(tmp_path)
    store.upload("big", path)
    bench.proxy.requests.clear()
    bench.proxy.on(truncate(3 * 2**20), method="GET", times=3)
    assert store.download("big", tmp_path / "copy", sha256=digest).sha256 == digest
    ranges = [request.headers.get("range") for request in bench.proxy.requests]
    assert ranges[0] is None
    assert len(ranges) == 4
    assert all(later is not None for later in ranges[1:])
    assert all("if-match" in request.headers for request in bench.proxy.requests[1:])


@pytest.mark.parametrize("code", ["XMinioStorageFull", "QuotaExceeded"])
def test_S11_a_full_store_is_said_without_a_storm(bench: Bench, store: S3Store, code: str) -> None:
    bench.proxy.on(answer(507, code))
    with pytest.raises(StoreUnavailable, match="the storage is full"):
        store.put("a", b"x")
    assert bench.proxy.count() == 1


def test_S13_keys_with_odd_characters_survive_the_proxy(store: S3Store) -> None:
    keys = ["odd/a+b", "odd/a%20b", "odd/ünï 🤖", "odd/x?y=z&w", "odd/100%"]
    for key in keys:
        store.put(key, key.encode())
    assert {item.key for item in store.list("odd/")} == set(keys)
    assert all(store.get(key) == key.encode() for key in keys)


def has_checksum(request: Request) -> bool:
    return any(name.startswith(("x-amz-checksum", "x-amz-sdk-checksum", "x-amz-trailer")) for name in request.headers)


def test_S14_a_server_that_refuses_checksums_is_told_with_the_setting(bench: Bench, tmp_path: Path) -> None:
    rule = bench.proxy.on(answer(501, "NotImplemented", "A header you provided implies …"), where=has_checksum)
    strict = bench.open(replace(bench.behind, checksum_mode=ChecksumMode.WHEN_SUPPORTED))
    with pytest.raises(StoreError, match="checksumMode to whenRequired") as caught:
        strict.put("a", b"x")
    assert caught.value.reason is Reason.STORE_UNSUITABLE
    assert rule.hits == 1
    path, digest = big_file(tmp_path)
    for mode in (ChecksumMode.AUTO, ChecksumMode.WHEN_REQUIRED):
        store = bench.open(replace(bench.behind, checksum_mode=mode))
        store.put("a", b"x")
        assert store.upload("big", path).sha256 == digest


def test_S15_a_store_that_ignores_conditions_is_found_out(bench: Bench, store: S3Store) -> None:
    require_conditional_put(store, namespace="local", model="note")
    bench.proxy.on(careless_put(raw_client(bench.direct), bench.direct.bucket or ""), where=conditional)
    with pytest.raises(StoreError, match="does not keep conditional writes") as caught:
        require_conditional_put(store, namespace="local", model="note")
    assert caught.value.reason is Reason.STORE_UNSUITABLE
    assert list(bench.real.list("")) == []


def test_a_missing_object_behind_faults_is_still_missing(bench: Bench, store: S3Store) -> None:
    bench.proxy.on(reset, times=1)
    assert store.head("a") is None
    with pytest.raises(ObjectNotFound):
        store.get("a")
