"""A roll-out on twenty devices: its steps, a version that fails, pauses, promotions, and what no signature allows."""

import hashlib
import json
import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from atoll_cli.main import main
from atoll_contract import keys
from atoll_contract.document import replace, rfc3339, to_json
from atoll_contract.release import Channel, Manifest, ManifestRef
from atoll_contract.rollout import (
    PROMOTION_TYPE,
    RolloutControl,
    RolloutPlan,
    RolloutPromotion,
    RolloutState,
    RolloutStep,
    share_of,
)
from atoll_contract.signing import KeyPair, generate_key, sign
from atoll_operator.devices.rollouts import change_control, read_control, read_version, resumed
from support.edge_fleet import Fleet
from support.edge_release import CHANNEL, MODEL, NAMESPACE, Published, point, publish

pytestmark = pytest.mark.timeout(300)

PUBLISHED = 1799521200.0
PLAN = RolloutPlan((RolloutStep(10), RolloutStep(50, 3600), RolloutStep(100, 7200)))
COUNT = 20


@pytest.fixture(scope="module")
def key() -> KeyPair:
    return generate_key()


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """In memory where there is such a folder: the devices sync every file, some ten thousand times."""
    memory = Path("/dev/shm")
    if not os.access(memory, os.W_OK):
        yield tmp_path
        return
    with tempfile.TemporaryDirectory(dir=memory) as made:
        yield Path(made)


@pytest.fixture
def fleet(folder: Path, key: KeyPair) -> Iterator[Fleet]:
    """Twenty devices that all serve version 1."""
    made = Fleet(folder, key, COUNT, published_at=PUBLISHED)
    roll_out(made, key, 1, plan=None)
    made.minutes(2)
    assert len(made.running(1)) == COUNT
    yield made
    made.close()


def roll_out(fleet: Fleet, key: KeyPair, version: int, plan: RolloutPlan | None = PLAN) -> Published:
    def alter(manifest: Manifest) -> Manifest:
        return replace(manifest, created_at=rfc3339(fleet.wall), rollout=plan)

    return publish(fleet.bucket, version, sign=lambda data: sign(data, key.private_pem), alter=alter)


def wave(percent: float, version: int) -> set[str]:
    names = {f"pi-{number:02d}" for number in range(COUNT)}
    return {name for name in names if share_of(name, NAMESPACE, MODEL, version) < percent}


def atoll(fleet: Fleet, *arguments: str, monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setattr("atoll_cli.commands.rollout.time.time", lambda: fleet.wall)
    store = ["--store", str(fleet.folder / "bucket"), "-n", NAMESPACE]
    return main(["rollout", *arguments, *store])


@pytest.fixture
def command(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., tuple[int, str]]:
    def run(*arguments: str) -> tuple[int, str]:
        capsys.readouterr()
        code = atoll(fleet, *arguments, monkeypatch=monkeypatch)
        shown = capsys.readouterr()
        return code, shown.out + shown.err

    return run


def test_devices_take_a_version_step_by_step(fleet: Fleet, key: KeyPair) -> None:
    roll_out(fleet, key, 2)
    fleet.minutes(50)
    assert fleet.running(2) == wave(10, 2)
    fleet.minutes(20)
    assert fleet.running(2) == wave(50, 2)
    fleet.minutes(60)
    assert len(fleet.running(2)) == COUNT


def test_E21_a_version_that_fails_its_probation_reaches_one_step_and_stops(
    fleet: Fleet, key: KeyPair, command: Callable[..., tuple[int, str]]
) -> None:
    fleet.broken.add(2)
    roll_out(fleet, key, 2)
    fleet.minutes(130)
    reached = fleet.have_run(2)
    assert reached == wave(10, 2)
    assert 0 < len(reached) <= COUNT // 10
    # Nobody stays with it: those few went back by themselves.
    assert len(fleet.running(1)) == COUNT
    code, text = command("status", MODEL)
    assert code == 0
    assert f"colours-v2: halted since {rfc3339(PUBLISHED)[:11]}" in text
    assert f"it failed on {len(reached)} device" in text
    states = {report.report.rollout for report in fleet.reports() if report.report and report.device not in reached}
    assert states == {"halted"}
    # A version that is mended goes its own way.
    roll_out(fleet, key, 3)
    fleet.minutes(130)
    assert len(fleet.running(3)) == COUNT


def test_E21_a_device_that_was_offline_all_the_time_ends_at_the_right_version(fleet: Fleet, key: KeyPair) -> None:
    late = fleet.devices[-1]
    late.online = False
    for version in (2, 3):
        roll_out(fleet, key, version)
        fleet.minutes(125)
    assert late.version == 1
    assert len(fleet.running(3)) == COUNT - 1
    late.online = True
    fleet.minutes(1)
    assert late.version == 3
    assert fleet.have_run(2) == set(fleet.loaded) - {late.name}


def test_E21_one_that_was_offline_while_a_version_was_halted_does_not_take_it(fleet: Fleet, key: KeyPair) -> None:
    fleet.broken.add(2)
    late = next(device for device in fleet.devices if device.name not in wave(10, 2))
    late.online = False
    roll_out(fleet, key, 2)
    fleet.minutes(130)
    late.online = True
    fleet.minutes(5)
    assert late.version == 1
    assert 2 not in fleet.loaded[late.name]


def test_a_pause_stops_the_steps_and_a_resumption_moves_them(
    fleet: Fleet, key: KeyPair, command: Callable[..., tuple[int, str]]
) -> None:
    roll_out(fleet, key, 2)
    fleet.minutes(30)
    assert command("pause", MODEL, "--reason", "practice match")[0] == 0
    fleet.minutes(100)
    assert fleet.running(2) == wave(10, 2)
    assert "paused since" in command("status", MODEL)[1]
    code, text = command("resume", f"{MODEL}-v2")
    assert code == 0
    assert "colours-v2: running" in text
    fleet.minutes(25)
    assert fleet.running(2) == wave(10, 2), "half an hour of the first step is still to come"
    fleet.minutes(10)
    assert fleet.running(2) == wave(50, 2)


def test_a_halt_can_be_resumed_and_a_further_failure_halts_again(
    fleet: Fleet, key: KeyPair, command: Callable[..., tuple[int, str]]
) -> None:
    fleet.broken.add(2)
    roll_out(fleet, key, 2)
    fleet.minutes(10)
    assert "halted" in command("status", MODEL)[1]
    assert command("resume", MODEL)[0] == 0
    fleet.minutes(75)
    version = read_version(fleet.bucket, NAMESPACE, MODEL, 2)
    control, _ = read_control(fleet.bucket, version)
    assert control is not None
    assert control.state is RolloutState.HALTED
    assert fleet.have_run(2) == wave(50, 2)
    assert set(control.failed) == wave(50, 2)


def test_a_promotion_must_be_signed_where_releases_are(
    fleet: Fleet, key: KeyPair, command: Callable[..., tuple[int, str]]
) -> None:
    roll_out(fleet, key, 2)
    code, text = command("promote", MODEL)
    assert (code, "signed with the same key" in text) == (20, True)
    private = fleet.folder / "private.pem"
    private.write_bytes(key.private_pem)
    code, text = command("promote", MODEL, "--signing-key", str(private))
    assert (code, "promoted to every device" in text) == (0, True)
    fleet.minutes(2)
    assert len(fleet.running(2)) == COUNT


def test_a_halt_outdoes_a_promotion(fleet: Fleet, key: KeyPair) -> None:
    plan = RolloutPlan((RolloutStep(10), RolloutStep(100, 7200)), halt_at=1)
    fleet.broken.add(2)
    published = roll_out(fleet, key, 2, plan)
    fleet.minutes(3)
    promotion = RolloutPromotion(NAMESPACE, MODEL, 2, published.sha256)
    data = sign(to_json(promotion), key.private_pem, payload_type=PROMOTION_TYPE)
    fleet.bucket.put(keys.promotion(NAMESPACE, MODEL, 2, signed=True), data)
    fleet.minutes(3)
    assert fleet.have_run(2) == wave(10, 2)


def unsigned_promotion(published: Published, _: KeyPair) -> bytes:
    return to_json(RolloutPromotion(NAMESPACE, MODEL, 2, published.sha256))


def promotion_of_a_stranger(published: Published, key: KeyPair) -> bytes:
    return sign(unsigned_promotion(published, key), generate_key().private_pem, payload_type=PROMOTION_TYPE)


def promotion_of_another_manifest(_: Published, key: KeyPair) -> bytes:
    data = to_json(RolloutPromotion(NAMESPACE, MODEL, 2, "0" * 64))
    return sign(data, key.private_pem, payload_type=PROMOTION_TYPE)


def promotion_in_a_manifests_envelope(published: Published, key: KeyPair) -> bytes:
    return sign(unsigned_promotion(published, key), key.private_pem)


@pytest.mark.parametrize(
    "forge",
    [
        unsigned_promotion,
        promotion_of_a_stranger,
        promotion_of_another_manifest,
        promotion_in_a_manifests_envelope,
        lambda *_: b"{",
    ],
)
def test_E22_no_promotion_that_nobody_signed_brings_a_step_forward(
    fleet: Fleet, key: KeyPair, forge: Callable[[Published, KeyPair], bytes]
) -> None:
    published = roll_out(fleet, key, 2)
    for signed in (False, True):
        fleet.bucket.put(keys.promotion(NAMESPACE, MODEL, 2, signed=signed), forge(published, key))
    fleet.minutes(10)
    assert fleet.running(2) == wave(10, 2)


def early(published: Published) -> bytes:
    return to_json(RolloutControl(published.sha256, RolloutState.RUNNING, rfc3339(0), delay_seconds=-(10**6)))


@pytest.mark.parametrize("write", [early, lambda _: b"{", lambda _: b"", lambda _: b"\xff"])
def test_E22_a_control_object_by_anybody_brings_no_step_forward(
    fleet: Fleet, key: KeyPair, write: Callable[[Published], bytes]
) -> None:
    published = roll_out(fleet, key, 2)
    fleet.bucket.put(keys.rollout(NAMESPACE, MODEL, 2), write(published))
    fleet.minutes(10)
    assert fleet.running(2) == wave(10, 2)


def test_E22_a_replayed_pointer_or_an_edited_plan_changes_nothing(fleet: Fleet, key: KeyPair) -> None:
    first = roll_out(fleet, key, 2)
    fleet.minutes(125)
    second = roll_out(fleet, key, 3)
    fleet.minutes(5)
    done = fleet.running(3)
    assert done == wave(10, 3)
    # The pointer of before takes nobody back.
    point(fleet.bucket, first, version=2)
    fleet.minutes(5)
    assert fleet.running(3) == done
    # A manifest with another plan has another digest, and no signature.
    edited = to_json(replace(second.manifest, rollout=None))
    fleet.bucket.put(keys.manifest(NAMESPACE, MODEL, 3), edited)
    for sha256 in (second.sha256, hashlib.sha256(edited).hexdigest()):
        reference = ManifestRef(keys.manifest(NAMESPACE, MODEL, 3), sha256, len(edited))
        pointer = Channel(NAMESPACE, MODEL, CHANNEL, 3, 3, reference, rfc3339(fleet.wall))
        fleet.bucket.put(keys.channel(NAMESPACE, MODEL, CHANNEL), to_json(pointer))
        fleet.minutes(5)
        assert fleet.running(3) == done


def test_a_device_without_any_model_does_not_wait_for_its_wave(folder: Path, key: KeyPair) -> None:
    fleet = Fleet(folder, key, 5, published_at=PUBLISHED)
    roll_out(fleet, key, 1)
    fleet.minutes(2)
    assert len(fleet.running(1)) == 5
    fleet.close()


def test_the_status_names_steps_devices_and_times(
    fleet: Fleet, key: KeyPair, command: Callable[..., tuple[int, str]]
) -> None:
    roll_out(fleet, key, 2)
    fleet.minutes(10)
    code, text = command("status", MODEL, "-o", "json")
    assert code == 0
    found = json.loads(text)
    assert (found["release"], found["state"], found["promoted"]) == ("colours-v2", "running", False)
    assert found["plan"]["steps"][1] == {"percent": 50, "afterSeconds": 3600}
    devices = {item["device"]: item for item in found["devices"]}
    assert {name for name, item in devices.items() if item["state"] == "runs it"} == wave(10, 2)
    waiting = next(item for item in devices.values() if item["wave"] == 2)
    assert (waiting["state"], waiting["dueAt"]) == ("waiting", rfc3339(PUBLISHED + 120 + 3600))


def test_releases_without_a_plan_and_names_of_none_are_said(
    fleet: Fleet, command: Callable[..., tuple[int, str]]
) -> None:
    for name, text in (
        (MODEL, "colours-v1 has no roll-out"),
        (f"{MODEL}-v9", "there is no release colours-v9"),
        ("cones", "nothing of cones is published in channel stable"),
    ):
        code, shown = command("status", name)
        assert (code, text in shown) == (20, True), shown


def test_two_writers_of_the_control_object_lose_nothing(fleet: Fleet, key: KeyPair) -> None:
    roll_out(fleet, key, 2)
    version = read_version(fleet.bucket, NAMESPACE, MODEL, 2)
    other: list[RolloutControl] = []

    def change(control: RolloutControl) -> RolloutControl:
        if not other:
            other.append(replace(control, state=RolloutState.HALTED, paused_at=rfc3339(PUBLISHED), failed=("pi-07",)))
            fleet.bucket.put(version.key, to_json(other[0]))
        return resumed(control, now=PUBLISHED + 120)

    after = change_control(fleet.bucket, version, change, now=PUBLISHED + 120)
    assert (after.state, after.delay_seconds, after.failed) == (RolloutState.RUNNING, 120, ("pi-07",))
