"""What a model may take of the device while the canary tries it, and models that take the whole agent down there."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from atoll_contract.document import to_json
from atoll_contract.store.directory import DirStore
from atoll_edge.models import release_state
from atoll_edge.models.canary_worker import MEMORY_BYTES, CanaryJob
from atoll_edge.models.download import PollResult, ReleaseDownloader
from atoll_edge.models.release_state import MAX_ATTEMPTS, Refusal
from atoll_edge.models.release_store import ReleaseStore
from atoll_edge.models.verify import CANARY_COMMAND, run_canary
from support.edge_model import LABELS, SIDE
from support.edge_release import publish
from support.minimal_tflite import tiling_tflite

pytestmark = pytest.mark.timeout(120)
LINUX = pytest.mark.skipif(not Path("/proc/self/statm").is_file(), reason="NOT RUN: needs Linux's /proc")


@LINUX
@pytest.mark.parametrize("times", [300, 1400])
def test_E18_a_small_file_that_asks_for_much_memory_is_refused(tmp_path: Path, times: int) -> None:
    """1.1 GB, and 24 GB, which a machine may promise and not have."""
    model = tmp_path / "tile.tflite"
    model.write_bytes(tiling_tflite(SIDE, times))
    assert len(model.read_bytes()) < 1000
    assert SIDE * SIDE * 3 * times**2 > MEMORY_BYTES
    with pytest.raises(Refusal, match=r"LiteRT cannot load tile.tflite: .*[0-9]+ MiB of memory beside its file"):
        run_canary(CanaryJob(str(model), len(LABELS)), name="tile v1")


@LINUX
def test_E18_a_file_that_asks_for_little_is_tried(tmp_path: Path) -> None:
    """So that it is the memory alone for which the larger ones are refused."""
    model = tmp_path / "tile.tflite"
    model.write_bytes(tiling_tflite(SIDE, 2))
    answer = subprocess.run(
        CANARY_COMMAND, input=to_json(CanaryJob(str(model), len(LABELS))), capture_output=True, check=True
    )
    assert "the model has 1 outputs" in json.loads(answer.stdout.splitlines()[-1])["error"]


@LINUX
def test_E18_the_canary_is_the_first_to_end_when_memory_runs_out() -> None:
    program = (
        "from pathlib import Path\n"
        "from atoll_edge.models.canary_worker import end_first\n"
        "end_first()\n"
        "print(Path('/proc/self/oom_score_adj').read_text())\n"
    )
    shown = subprocess.run([sys.executable, "-P", "-c", program], capture_output=True, text=True, check=True)
    assert int(shown.stdout) == 1000


class PowerCut(BaseException):
    """The whole agent is gone."""


def cut(*_: object, **__: object) -> None:
    raise PowerCut


def test_E18_a_model_that_takes_the_agent_down_twice_is_not_tried_again(
    bucket: DirStore, device: ReleaseStore, fetcher: ReleaseDownloader, signed: object
) -> None:
    release = publish(bucket, 1, sign=signed).sha256  # type: ignore[arg-type]
    deadly = replace(fetcher, canary=cut)
    for start in range(MAX_ATTEMPTS):
        state = device.change(release_state.recover_at_boot)
        assert release not in state.bad, f"refused before start {start}"
        with pytest.raises(PowerCut):
            deadly.poll(None, lambda _: None)
    state = device.change(release_state.recover_at_boot)
    assert "stopped 2 times during the self-test" in state.bad[release]
    assert state.canary is None
    assert deadly.poll(None, lambda _: None)[0] is PollResult.REFUSED_BEFORE
    # Another release is tried as always.
    publish(bucket, 2, sign=signed)  # type: ignore[arg-type]
    assert fetcher.poll(None, lambda _: None)[0] is PollResult.STAGED


def test_E18_a_canary_that_ends_leaves_no_note(
    bucket: DirStore, device: ReleaseStore, fetcher: ReleaseDownloader, signed: object
) -> None:
    publish(bucket, 1, sign=signed)  # type: ignore[arg-type]

    def cannot_start(*_: object, **__: object) -> None:
        assert device.read().canary_starts == 1
        raise BlockingIOError("no process can be started now")

    for _ in range(MAX_ATTEMPTS + 1):
        with pytest.raises(BlockingIOError):
            replace(fetcher, canary=cannot_start).poll(None, lambda _: None)
        assert device.read().canary is None
    assert fetcher.poll(None, lambda _: None)[0] is PollResult.STAGED
    assert device.read().canary is None
