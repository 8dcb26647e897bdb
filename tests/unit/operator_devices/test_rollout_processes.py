"""A roll-out on twenty real devices: `atoll-edge` processes with real models, the command line, and a folder."""

import string
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from atoll_cli.main import main
from atoll_contract.document import replace, rfc3339
from atoll_contract.release import Manifest
from atoll_contract.rollout import RolloutPlan, RolloutStep, share_of
from atoll_contract.signing import KeyPair, generate_key, sign
from atoll_operator.devices.rollouts import halt_failed
from support.edge_processes import ProcessFleet, failing_model
from support.edge_release import MODEL, NAMESPACE, Published, publish

# Three probations of twenty seconds, two steps of forty, and twenty devices that start: four minutes.
pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]

COUNT = 20
SHARE = 10
SECOND_STEP_SECONDS = 40
PLAN = RolloutPlan((RolloutStep(SHARE), RolloutStep(100, SECOND_STEP_SECONDS)))
# By then a device would have taken the second step.
OVER_SECONDS = SECOND_STEP_SECONDS + 10


def first_wave(names: list[str], version: int) -> set[str]:
    return {name for name in names if share_of(name, NAMESPACE, MODEL, version) < SHARE}


def device_names() -> list[str]:
    """Names of which one or two are in the first wave of version 2 and of version 3: a share of few is a rough one."""
    for letter in string.ascii_lowercase:
        names = [f"{letter}-{number:02d}" for number in range(COUNT)]
        if all(1 <= len(first_wave(names, version)) <= COUNT * SHARE // 100 for version in (2, 3)):
            return names
    raise AssertionError("no names fit")


@pytest.fixture
def key() -> KeyPair:
    return generate_key()


@pytest.fixture
def fleet(tmp_path: Path, key: KeyPair) -> Iterator[ProcessFleet]:
    """Twenty devices that run version 1."""
    made = ProcessFleet(tmp_path, key.public_pem, device_names())
    roll_out(made, key, 1, plan=None)
    try:
        made.start()
        made.wait_for(lambda: len(made.running(1)) == COUNT, "version 1 on all devices")
        yield made
    finally:
        made.close()


def roll_out(
    fleet: ProcessFleet, key: KeyPair, version: int, *, plan: RolloutPlan | None = PLAN, model: bytes | None = None
) -> Published:
    def alter(manifest: Manifest) -> Manifest:
        return replace(manifest, created_at=rfc3339(), rollout=plan)

    return publish(fleet.bucket, version, model=model, sign=lambda data: sign(data, key.private_pem), alter=alter)


def atoll(fleet: ProcessFleet, *arguments: str) -> None:
    assert main(["rollout", *arguments, "--store", str(fleet.folder / "bucket"), "-n", NAMESPACE]) == 0


def states(fleet: ProcessFleet, names: set[str]) -> set[str | None]:
    return {report.rollout for name, report in fleet.reports().items() if name in names}


def test_E21_twenty_real_devices_halt_pause_and_resume(
    fleet: ProcessFleet, key: KeyPair, capsys: pytest.CaptureFixture[str]
) -> None:
    names = list(fleet.devices)
    tried, third = first_wave(names, 2), first_wave(names, 3)
    late = next(name for name in names if name not in tried | third)
    fleet.devices[late].stop()
    online = set(names) - {late}

    broken = roll_out(fleet, key, 2, model=failing_model())
    over_at = time.time() + OVER_SECONDS

    def halted_everywhere() -> bool:
        halt_failed(fleet.bucket, fleet.stored_reports(), now=time.time())
        failed = {name for name, report in fleet.reports().items() if report.failed_version == 2}
        return time.time() > over_at and failed == tried and states(fleet, online - tried) == {"halted"}

    fleet.wait_for(halted_everywhere, "the halt of version 2")
    assert {name for name in names if fleet.devices[name].holds(broken.sha256)} == tried
    assert len(tried) <= COUNT * SHARE // 100
    # Those few went back by themselves.
    assert {fleet.version(name) for name in online} == {1}
    capsys.readouterr()
    atoll(fleet, "status", MODEL)
    assert "colours-v2: halted since" in capsys.readouterr().out

    roll_out(fleet, key, 3)
    over_at = time.time() + OVER_SECONDS
    fleet.wait_for(lambda: {fleet.version(name) for name in third} == {3}, "version 3 on its first wave")
    atoll(fleet, "pause", MODEL, "--reason", "practice match")
    fleet.wait_for(
        lambda: time.time() > over_at and states(fleet, online - third) == {"paused"}, "the pause of version 3"
    )
    assert {name for name in online if fleet.version(name) == 3} == third
    atoll(fleet, "resume", MODEL)
    fleet.wait_for(lambda: fleet.running(3) == online, "version 3 on all devices")
    # One that was off for all of that.
    fleet.devices[late].start()
    fleet.wait_for(lambda: late in fleet.running(3), "version 3 on the device that was off")
    assert not fleet.devices[late].holds(broken.sha256)
