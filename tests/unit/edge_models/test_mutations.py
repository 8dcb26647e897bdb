"""More than two hundred bundles with a fault: none is staged, the last good one stays, and the reason is told.

The canary's process is real for what is wrong inside a model; mutations that digest or signature must catch run without
it, and fail the test if they reach it.
"""

import functools
import hashlib
import json
import math
import random
import struct
import sys
from collections.abc import Callable
from dataclasses import dataclass

import pytest

from atoll_contract import keys
from atoll_contract.document import replace, to_json
from atoll_contract.errors import AtollError
from atoll_contract.release import Detection, Manifest, ManifestFile, ModelInput, Role
from atoll_contract.signing import KeyPair, generate_key, sign
from atoll_contract.store.directory import DirStore
from atoll_edge.detector.outputs import ModelOutput
from atoll_edge.models.canary_worker import CanaryFailed, CanaryJob, require_valid
from atoll_edge.models.download import PollResult, ReleaseDownloader
from atoll_edge.models.release_state import commit
from atoll_edge.models.release_store import ReleaseStore
from atoll_edge.models.verify import run_canary
from support.edge_model import CELLS, colour_detector
from support.edge_release import MODEL, NAMESPACE, Published, point, publish

pytestmark = pytest.mark.timeout(600)

Sign = Callable[[bytes], bytes]
Mutate = Callable[[bytes, int], bytes]


@dataclass(frozen=True)
class World:
    """A device that serves version 5, and a bucket in which something happens to version 6."""

    bucket: DirStore
    device: ReleaseStore
    fetcher: ReleaseDownloader
    sign: Sign
    good: Published


@pytest.fixture
def world(bucket: DirStore, device: ReleaseStore, fetcher: ReleaseDownloader, signed: Sign) -> World:
    good = publish(bucket, 5, sign=signed)
    untried = replace(fetcher, canary=lambda *_, **__: None)
    assert untried.poll(None, lambda _: None)[0] is PollResult.STAGED
    device.change(lambda state: commit(state, good.sha256, model=f"{NAMESPACE}/{MODEL}", sequence=5))
    return World(bucket, device, fetcher, signed, good)


def refusal(world: World, *, tried: bool = False) -> AtollError:
    """Polls the bucket as it is now; afterwards version 5 is whole and still current."""

    def canary(job: CanaryJob, *, name: str) -> None:
        assert tried, "the bytes of a model that should have been refused before reached the canary"
        run_canary(job, name=name)

    with pytest.raises(AtollError) as caught:
        replace(world.fetcher, canary=canary).poll(None, lambda _: None)
    state = world.device.read()
    assert (state.current, state.candidate) == (world.good.sha256, None)
    world.device.check(world.good.sha256)
    return caught.value


def flipped(data: bytes, seed: int) -> bytes:
    where = random.Random(seed).randrange(len(data) * 8)
    changed = bytearray(data)
    changed[where // 8] ^= 1 << where % 8
    return bytes(changed)


def cut(data: bytes, seed: int) -> bytes:
    return data[: random.Random(seed).randrange(len(data))]


@pytest.mark.parametrize("mutate", [flipped, cut])
def test_E1_a_damaged_model_is_refused(world: World, mutate: Mutate) -> None:
    """One bit, or the end, is not what the signed manifest says."""
    release = publish(world.bucket, 6, sign=world.sign)
    item = release.manifest.files[0]
    content = world.bucket.get(item.key)
    for seed in range(32):
        world.bucket.put(item.key, mutate(content, seed))
        assert "unoptimized.tflite" in refusal(world).message, seed


@pytest.mark.parametrize("mutate", [flipped, cut])
@pytest.mark.parametrize("number", [1, 2])
def test_E1_a_damaged_label_map_or_golden_image_is_refused(
    bucket: DirStore, device: ReleaseStore, fetcher: ReleaseDownloader, signed: Sign, number: int, mutate: Mutate
) -> None:
    """On a device without any release: one that has the same file whole does not fetch it again."""
    item = publish(bucket, 6, sign=signed).manifest.files[number]
    content = bucket.get(item.key)
    for seed in range(16):
        bucket.put(item.key, mutate(content, seed))
        with pytest.raises(AtollError, match=item.name):
            fetcher.poll(None, lambda _: None)
        assert device.read().candidate is None, seed


@pytest.mark.parametrize("mutate", [flipped, cut])
def test_a_damaged_manifest_is_refused(world: World, mutate: Mutate) -> None:
    release = publish(world.bucket, 6, sign=world.sign)
    for seed in range(24):
        world.bucket.put(keys.manifest(NAMESPACE, MODEL, 6), mutate(release.data, seed))
        assert "sha256" in refusal(world).message, seed


@pytest.mark.parametrize("mutate", [flipped, cut])
def test_a_damaged_envelope_is_refused(world: World, mutate: Mutate) -> None:
    publish(world.bucket, 6, sign=world.sign)
    where = keys.signature(NAMESPACE, MODEL, 6)
    whole = world.bucket.get(where)
    named = slice(whole.index(b'"keyid":"') + 9, whole.index(b'"keyid":"') + 25)
    for seed in range(24):
        damaged = mutate(whole, seed)
        if len(damaged) == len(whole) and damaged[named] != whole[named]:
            continue  # the key's id is a hint that no signature covers
        world.bucket.put(where, damaged)
        assert "signature" in refusal(world).message, seed


def forged(_: World) -> Sign:
    other: KeyPair = generate_key()
    return lambda data: sign(data, other.private_pem)


def unsigned(_: World) -> None:
    return None


def of_another_manifest(world: World) -> Sign:
    return lambda _: world.sign(world.good.data)


@pytest.mark.parametrize("signer", [forged, unsigned, of_another_manifest])
def test_what_nobody_trusted_has_signed_is_refused(world: World, signer: Callable[[World], Sign | None]) -> None:
    publish(world.bucket, 6, sign=signer(world))
    assert "sign" in refusal(world).message


def test_E2_an_older_signed_release_is_refused(world: World) -> None:
    """The pointer is written back to a release that was genuine once."""
    publish(world.bucket, 3, sign=world.sign)
    assert refusal(world).message == "refused: sequence 3 < 5"


def test_E2_an_older_release_under_a_newer_version_is_refused(world: World) -> None:
    old = publish(world.bucket, 4, sign=world.sign)
    world.bucket.put(keys.manifest(NAMESPACE, MODEL, 9), old.data)
    world.bucket.put(keys.signature(NAMESPACE, MODEL, 9), world.sign(old.data))
    point(world.bucket, old, version=9)
    assert refusal(world).message == "refused: sequence 4 < 5"


def test_E2_a_second_manifest_of_the_same_sequence_is_refused(world: World) -> None:
    publish(world.bucket, 5, sign=world.sign, model=colour_detector() + b"other")
    assert "sequence 5 served already" in refusal(world).message


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda m: replace(m, labels=("red", "green")), "map.pbtxt names ['red', 'blue']"),
        (lambda m: replace(m, labels=("red",)), "1 labels and 2 thresholds"),
        (lambda m: replace(m, labels=(), thresholds=()), "0 labels"),
        (lambda m: replace(m, model="other"), "this device runs local/colours"),
        (lambda m: replace(m, namespace="theirs"), "this device runs local/colours"),
        (lambda m: replace(m, input=ModelInput(320, 240)), "320×240"),
        (lambda m: replace(m, input=ModelInput(64, 64, dtype="float32")), "float32"),
        (lambda m: replace(m, input=ModelInput(1 << 20, 1 << 20)), "up to 1024"),
        (lambda m: replace(m, files=m.files[1:]), "model-int8"),
        (lambda m: replace(m, files=(m.files[0], m.files[2])), "labels"),
        (lambda m: replace(m, files=(replace(m.files[0], size=1 << 40), *m.files[1:])), "out of range"),
        (lambda m: replace(m, files=(replace(m.files[0], sha256="../../etc"), *m.files[1:])), "out of range"),
    ],
)
def test_E10_a_signed_manifest_that_does_not_fit_is_refused(
    world: World, change: Callable[[Manifest], Manifest], reason: str
) -> None:
    publish(world.bucket, 6, sign=world.sign, alter=change)
    assert reason in refusal(world).message


def test_E10_a_model_for_a_newer_runtime_is_refused(world: World) -> None:
    def compiled(manifest: Manifest) -> Manifest:
        edgetpu = replace(manifest.files[0], role=Role.MODEL_EDGETPU, name="model.tflite")
        return replace(
            manifest,
            files=(*manifest.files, edgetpu),
            edgetpu=replace(manifest.edgetpu, compiled=True, min_runtime_version=15),
        )

    publish(world.bucket, 6, sign=world.sign, alter=compiled)
    assert "requires Edge TPU runtime ≥ 15, this device has 14" in refusal(world).message


def test_what_only_a_later_version_knows_is_passed_over(world: World) -> None:
    published = publish(world.bucket, 6, sign=world.sign)
    document = json.loads(published.data)
    document["files"].append({**document["files"][0], "role": "model-of-a-later-version", "target": "npu"})
    document["laterField"] = {"any": "thing"}
    data = json.dumps(document).encode()
    world.bucket.put(keys.signature(NAMESPACE, MODEL, 6), world.sign(data))
    world.bucket.put(keys.manifest(NAMESPACE, MODEL, 6), data)
    point(world.bucket, replace(published, data=data, sha256=hashlib.sha256(data).hexdigest()), version=6)
    untried = replace(world.fetcher, canary=lambda *_, **__: None)
    assert untried.poll(None, lambda _: None)[0] is PollResult.STAGED


def elsewhere(image: ManifestFile) -> ManifestFile:
    """A golden image with expected boxes where there is nothing."""
    expected = tuple(replace(item, box=(0.7, 0.7, 0.9, 0.9)) for item in image.expected or ())
    return replace(image, expected=expected)


def with_anchors(value: float) -> bytes:
    """The detector with all anchors of this value: every box that it answers holds it."""
    model, wanted = colour_detector(), struct.pack("<4f", 0.5 / CELLS, 0.5 / CELLS, 1 / CELLS, 1 / CELLS)
    where = model.index(wanted)
    anchors = struct.pack("<f", value) * (4 * CELLS * CELLS)
    return model[:where] + anchors + model[where + len(anchors) :]


# Signed and whole, and yet no model to serve: the canary's own process finds out.
INSIDE: dict[str, tuple[Callable[[], bytes], Callable[[Manifest], Manifest], str]] = {
    "no model": (lambda: b"not a model at all", lambda m: m, "cannot load"),
    "cut inside": (lambda: colour_detector()[:3000], lambda m: m, "self-test"),
    "another input size": (lambda: colour_detector(96), lambda m: m, "takes 96 pixels, the manifest says 64"),
    "outputs in another order": (lambda: colour_detector(signature=True), lambda m: m, "are not boxes"),
    "boxes that are not numbers": (lambda: with_anchors(math.nan), lambda m: m, "NaN or infinity"),
    "boxes without end": (lambda: with_anchors(math.inf), lambda m: m, "NaN or infinity"),
    "other boxes than promised": (
        colour_detector,
        lambda m: replace(m, files=(*m.files[:2], elsewhere(m.files[2]))),
        "was expected",
    ),
}


@pytest.mark.parametrize("case", INSIDE)
def test_E4_the_canary_refuses_what_is_wrong_inside(world: World, case: str) -> None:
    model, alter, reason = INSIDE[case]
    publish(world.bucket, 6, sign=world.sign, model=model(), alter=alter)
    assert reason in refusal(world, tried=True).message


@pytest.mark.parametrize(
    ("program", "reason"),
    [
        ("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)", "crashed its self-test (SIGSEGV)"),
        ("import os, signal; os.kill(os.getpid(), signal.SIGBUS)", "crashed its self-test (SIGBUS)"),
        ("import time; time.sleep(3600)", "hung in its self-test"),
    ],
)
def test_E4_a_model_that_crashes_or_hangs_takes_only_the_canary_with_it(
    world: World, program: str, reason: str
) -> None:
    """The parser cannot be crashed at will: the child does what such a crash does."""
    canary = functools.partial(run_canary, command=(sys.executable, "-c", program), timeout_seconds=2.0)
    release = publish(world.bucket, 6, sign=world.sign)
    with pytest.raises(AtollError, match="self-test") as caught:
        replace(world.fetcher, canary=canary).poll(None, lambda _: None)
    assert reason in caught.value.message
    assert world.device.read().current == world.good.sha256
    assert getattr(caught.value, "release", None) == release.sha256


def test_insane_answers_are_refused() -> None:
    with pytest.raises(CanaryFailed, match="NaN"):
        require_valid(ModelOutput((), 1), 2)
    with pytest.raises(CanaryFailed, match="class 2"):
        require_valid(ModelOutput((Detection(2, 0.5, (0, 0, 1, 1)),), 0), 2)
    with pytest.raises(CanaryFailed, match="score"):
        require_valid(ModelOutput((Detection(0, 1.5, (0, 0, 1, 1)),), 0), 2)


@pytest.mark.parametrize("data", [b"", b"[]", b"{}", b'{"schemaVersion":1', b"\xff\xfe"])
def test_a_pointer_that_cannot_be_read_is_refused(world: World, data: bytes) -> None:
    world.bucket.put(keys.channel(NAMESPACE, MODEL, "stable"), data)
    assert "channel pointer" in refusal(world).message


def test_E3_a_missing_blob_keeps_the_old_model_and_the_release_can_still_come(world: World) -> None:
    release = publish(world.bucket, 6, sign=world.sign)
    item = release.manifest.files[0]
    content = world.bucket.get(item.key)
    world.bucket.delete(item.key)
    refusal(world)
    world.bucket.put(item.key, content)
    untried = replace(world.fetcher, canary=lambda *_, **__: None)
    assert untried.poll(None, lambda _: None)[0] is PollResult.STAGED


def test_the_good_release_passes_everything(world: World) -> None:
    """The same release without a fault is accepted."""
    release = publish(world.bucket, 6, sign=world.sign)
    assert world.fetcher.poll(None, lambda _: None)[0] is PollResult.STAGED
    assert world.device.read().candidate == release.sha256
    assert to_json(world.device.check(release.sha256)) == release.data


def test_E13_a_channel_that_is_gone_changes_nothing(world: World) -> None:
    world.bucket.delete(keys.channel(NAMESPACE, MODEL, "stable"))
    assert world.fetcher.poll(None, lambda _: None)[0] is PollResult.NO_CHANNEL
    assert world.device.read().current == world.good.sha256
