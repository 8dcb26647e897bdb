"""Storage faults as a stage meets them: publishing through the proxy, and a whole stage process with wrong keys."""

import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from atoll_contract import keys
from atoll_contract.document import from_json
from atoll_contract.errors import ExitCode, IntegrityError, Reason, is_transient
from atoll_contract.release import Channel, Manifest
from atoll_contract.stage_result import parse_result
from atoll_contract.store.base import StoreError
from atoll_contract.store.s3 import S3Store
from support.faulted_store import Bench
from support.faultproxy import (
    OldListings,
    Request,
    Response,
    answer,
    careless_put,
    flip_response,
    lose_response,
    reset,
)
from support.publishing import exported_run, publish_once, with_version
from support.s3 import raw_client, write_credentials
from support.stage_process import run_stage_process

pytestmark = pytest.mark.api


def require_published(store: S3Store, version: int) -> Manifest:
    """The manifest of a version, with every file that it names there, and the channel at it or above."""
    manifest = from_json(Manifest, store.get(keys.manifest("local", "note", version)))
    for file in manifest.files:
        info = store.head(file.key)
        assert info is not None
        assert (info.size, info.sha256) == (file.size, file.sha256)
    assert from_json(Channel, store.get(keys.channel("local", "note", "stable"))).version >= version
    return manifest


@pytest.mark.parametrize("seed", [3, 5, 7])
def test_S1_S2_S3_a_publication_gets_through_bad_weather(bench: Bench, store: S3Store, seed: int) -> None:
    given = exported_run(bench.real, bench.direct, compiled=True)
    number = itertools.count(seed)
    weather = {0: answer(503, "SlowDown"), 1: reset, 2: lose_response}

    def fault(request: Request, forward: Callable[[Request], Response]) -> Response:
        drawn = weather.get(next(number) * 7 % 10)
        return drawn(request, forward) if drawn else forward(request)

    bench.proxy.on(fault)
    outcome = publish_once(given, store, bench.folder / "work")
    assert (outcome.reason, outcome.summary["version"]) == (Reason.COMPLETED, 1)
    assert require_published(bench.real, 1).run == given.run
    assert bench.clock.slept


def test_S3_a_lost_answer_is_no_version_conflict(bench: Bench, store: S3Store) -> None:
    given = exported_run(bench.real, bench.direct)
    seen: set[str] = set()

    def first_of_its_key(request: Request) -> bool:
        conditional = "if-none-match" in request.headers or "if-match" in request.headers
        new = conditional and request.path not in seen
        seen.add(request.path)
        return new

    rule = bench.proxy.on(lose_response, method="PUT", where=first_of_its_key)
    for _ in range(2):
        outcome = publish_once(given, store, bench.folder / "work")
        assert (outcome.reason, outcome.summary["version"]) == (Reason.COMPLETED, 1)
    assert rule.hits == 2  # the manifest and the pointer
    require_published(bench.real, 1)


def test_S6_no_manifest_names_a_blob_that_reads_as_something_else(bench: Bench, store: S3Store) -> None:
    given = exported_run(bench.real, bench.direct)
    bench.proxy.on(flip_response, method="GET", where=lambda r: "/blobs/" in r.path)
    with pytest.raises(IntegrityError, match="expected sha256") as caught:
        publish_once(given, store, bench.folder / "work")
    assert caught.value.reason is Reason.INTEGRITY_MISMATCH
    assert list(bench.real.list("models/")) == []


def test_S12_a_store_that_keeps_everything_does_not_fail_the_run(bench: Bench, store: S3Store) -> None:
    given = exported_run(bench.real, bench.direct)
    bench.proxy.on(answer(403, "AccessDenied", "WORM"), method="DELETE")
    assert publish_once(given, store, bench.folder / "work").reason is Reason.COMPLETED
    require_published(bench.real, 1)


def test_S15_such_a_store_is_no_lock_but_serves_behind_one(bench: Bench, store: S3Store) -> None:
    careless = careless_put(raw_client(bench.direct), bench.direct.bucket or "")
    bench.proxy.on(careless, method="PUT", where=lambda r: "if-none-match" in r.headers or "if-match" in r.headers)
    alone = exported_run(bench.real, bench.direct, store_is_lock=True)
    with pytest.raises(StoreError) as caught:
        publish_once(alone, store, bench.folder / "one")
    assert caught.value.code is ExitCode.STORE_UNSUITABLE
    assert list(bench.real.list("models/")) == []
    first = exported_run(bench.real, bench.direct, uid="first")
    second = exported_run(bench.real, bench.direct, uid="second")
    assert publish_once(first, store, bench.folder / "two").reason is Reason.COMPLETED
    outcome = publish_once(second, store, bench.folder / "three")
    assert (outcome.reason, outcome.summary["nextVersion"]) == (Reason.VERSION_CONFLICT, 2)
    assert publish_once(with_version(second, 2), store, bench.folder / "four").reason is Reason.COMPLETED
    assert require_published(bench.real, 1).run.uid == "first"


def test_S17_an_outage_of_the_whole_window_costs_no_model(bench: Bench, store: S3Store) -> None:
    given = exported_run(bench.real, bench.direct)
    bench.proxy.on(reset)
    with pytest.raises(StoreError) as caught:
        publish_once(given, store, bench.folder / "one")
    assert caught.value.reason is Reason.STORAGE_UNAVAILABLE
    assert is_transient(caught.value.code)
    assert bench.clock.now > 120
    bench.proxy.heal()
    assert publish_once(given, store, bench.folder / "two").reason is Reason.COMPLETED
    require_published(bench.real, 1)


def test_S16_listings_that_lag_hide_no_release(bench: Bench, store: S3Store) -> None:
    """Keys are read as they were written; only lists are old, as a replicated store may have them."""
    bench.proxy.on(OldListings(), method="GET", where=lambda request: "list-type" in request.query)
    first = exported_run(bench.real, bench.direct, uid="first")
    assert publish_once(first, store, bench.folder / "one").reason is Reason.COMPLETED
    assert list(store.list("models/")) == []
    require_published(bench.real, 1)
    second = exported_run(bench.real, bench.direct, uid="second")
    outcome = publish_once(second, store, bench.folder / "two")
    assert (outcome.reason, outcome.summary["nextVersion"]) == (Reason.VERSION_CONFLICT, 2)
    assert publish_once(with_version(second, 2), store, bench.folder / "three").reason is Reason.COMPLETED
    require_published(bench.real, 2)
    # The first one's publisher, started again, takes the pointer no step back.
    assert publish_once(first, store, bench.folder / "four").reason is Reason.COMPLETED
    require_published(bench.real, 2)


@pytest.mark.timeout(180)
def test_S16_an_attempt_that_the_listing_does_not_show_is_made_again_and_ends_the_same(bench: Bench) -> None:
    code, output, first = run_stage_process(bench.behind, bench.folder, "ok")
    assert code == 0, output
    bench.proxy.on(OldListings(), method="GET", where=lambda request: "list-type" in request.query)
    code, output, second = run_stage_process(bench.behind, bench.folder, "ok", ATOLL_POD_UID="other")
    assert code == 0, output
    assert parse_result(second).reason is Reason.COMPLETED
    assert [item.sha256 for item in parse_result(first).outputs] == [
        item.sha256 for item in parse_result(second).outputs
    ]


@pytest.mark.timeout(180)
def test_S8_a_stage_with_wrong_keys_ends_as_forbidden_and_shows_none(bench: Bench) -> None:
    canary = "cAnArYsEcReT0123456789"
    write_credentials(Path(bench.direct.credentials_dir or ""), "cAnArYkEy", canary, token="cAnArYtOkEn")
    code, output, message = run_stage_process(bench.behind, bench.folder, "ok")
    assert code == ExitCode.STORAGE_FORBIDDEN, output
    assert parse_result(message).reason is Reason.STORAGE_FORBIDDEN
    for text in (output, message.decode()):
        assert "cAnArY" not in text
        assert "Signature=" not in text


@pytest.mark.timeout(180)
def test_I6_no_secret_is_found_in_anything_that_a_stage_leaves(bench: Bench) -> None:
    folder = Path(bench.direct.credentials_dir or "")
    secrets = [(folder / name).read_text().strip() for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")]
    code, output, message = run_stage_process(bench.behind, bench.folder, "ok")
    assert code == 0, output
    found = [output.encode(), message, *(bench.real.get(item.key) for item in bench.real.list(""))]
    assert len(found) >= 4
    for secret in secrets:
        assert not [data for data in found if secret.encode() in data]


def test_I6_neither_messages_nor_logs_hold_a_credential_or_signature(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    canaries = {"access": "cAnArYkEy", "secret": "cAnArYsEcReT", "token": "cAnArYtOkEn"}
    folder = Path(bench.direct.credentials_dir or "")
    write_credentials(folder, canaries["access"], canaries["secret"], token=canaries["token"])
    caplog.set_level("DEBUG")

    def tell_everything(request: Request, forward: Callable[[Request], Response]) -> Response:
        """As servers that put the request into their words."""
        said = f"{request.headers['authorization']} {request.headers.get('x-amz-security-token')} {canaries['secret']}"
        return answer(403, "SignatureDoesNotMatch", said, AWSAccessKeyId=canaries["access"])(request, forward)

    texts = []
    for fault in (tell_everything, answer(500, "InternalError", f"key {canaries['access']}"), reset):
        bench.proxy.heal()
        bench.proxy.on(fault)
        store = bench.open()
        for operation in (lambda: store.get("a"), lambda: store.put("a", b"x"), lambda: [*store.list("")]):  # noqa: B023
            with pytest.raises(StoreError) as caught:
                operation()
            texts += [str(caught.value), caught.value.message, str(caught.getrepr(style="native"))]
    texts.append(caplog.text)
    told: list[Any] = [(name, text) for text in texts for name, canary in canaries.items() if canary in text]
    assert told == []
    assert "Signature=" not in "".join(texts).replace("Signature=[redacted]", "")
