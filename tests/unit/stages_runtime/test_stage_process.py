"""The stage process as a whole: parent and child as real processes, over a folder store."""

import errno
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from atoll_contract.document import replace
from atoll_contract.errors import ExitCode, Reason
from atoll_contract.keys import RunRef
from atoll_contract.stage import Stage, StageInput
from atoll_contract.stage_result import CHECKPOINT_STEP, Artifact, StageResult, parse_result
from atoll_contract.store.directory import DirStore
from atoll_contract.store_spec import StoreSpec, StoreType
from atoll_contract.train_spec import TrainSpec
from atoll_stages.runtime.allocator import with_allocator
from atoll_stages.runtime.parent import write_message
from support.polling import wait_until

TESTS = Path(__file__).parents[2]
RUN = RunRef("local", "bccd", "7b1e")


@dataclass
class Bench:
    """One store, and stage processes over it."""

    folder: Path
    processes: list["subprocess.Popen[str]"]

    @property
    def store(self) -> DirStore:
        return DirStore(self.folder / "store")

    @property
    def input(self) -> StageInput:
        store = StoreSpec(StoreType.DIRECTORY, path=str(self.folder / "store"))
        return StageInput(Stage.TRAIN, 1, RUN, store, train=TrainSpec())

    def start(
        self,
        behaviour: str,
        *,
        given: StageInput | None = None,
        pod: str = "pod",
        pass_fds: tuple[int, ...] = (),
        **extra: str,
    ) -> "subprocess.Popen[str]":
        (self.folder / "work").mkdir(exist_ok=True)
        environ = {
            **{k: v for k, v in os.environ.items() if not k.startswith("ATOLL_")},
            "PYTHONPATH": str(TESTS),
            "ATOLL_POD_UID": pod,
            "ATOLL_TERMINATION_LOG": str(self.folder / "termination-log"),
            "ATOLL_WORK_DIR": str(self.folder / "work"),
            **(given or self.input).to_env(),
            **extra,
        }
        process = subprocess.Popen(
            [sys.executable, "-m", "support.scripted_stage", behaviour],
            env={k: v for k, v in environ.items() if v},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            pass_fds=pass_fds,
            text=True,
        )
        self.processes.append(process)
        return process

    def finish(self, behaviour: str, **keywords: str | StageInput) -> tuple[int, str]:
        process = self.start(behaviour, **keywords)  # type: ignore[arg-type]
        output, _ = process.communicate(timeout=40)
        return process.returncode, output

    @property
    def result(self) -> StageResult:
        return parse_result((self.folder / "termination-log").read_bytes())

    def pid(self, key: str) -> int:
        return wait_until(lambda: int(self.store.get(key)) if self.store.head(key) else None, what=key)


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    bench = Bench(tmp_path, [])
    yield bench
    for process in bench.processes:
        if process.poll() is None:
            process.kill()
        process.communicate(timeout=10)


def _gone(pid: int) -> Callable[[], bool]:
    def probe() -> bool:
        try:
            # A zombie has ended; its new parent has not waited for it yet.
            return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
        except OSError:
            return True

    return probe


def test_a_stage_hands_over_the_result_that_it_stores(bench: Bench) -> None:
    code, output = bench.finish("ok")
    assert code == 0, output
    result = bench.result
    assert (result.reason, result.message, result.attempt) == (Reason.COMPLETED, "done", 1)
    assert [item.key for item in result.outputs] == ["runs/local/7b1e/train/a1-pod/weights.h5"]
    assert bench.store.get(result.outputs[0].key) == b"made from nothing"
    assert result.result is not None
    stored = parse_result(bench.store.get(result.result.key))
    assert stored == replace(result, result=None)
    assert 'ATOLL_PROGRESS {"message":"","percent":50.0,"step":1}' in output


def test_the_next_stage_of_the_pod_finds_the_result_of_a_success_alone(bench: Bench) -> None:
    folder = bench.folder / "handover"
    folder.mkdir()
    assert bench.finish("gate", ATOLL_HANDOVER_DIR=str(folder))[0] == ExitCode.QUALITY_GATE_FAILED
    assert list(folder.iterdir()) == []
    assert bench.finish("ok", pod="other", ATOLL_HANDOVER_DIR=str(folder))[0] == 0
    assert parse_result((folder / "train.json").read_bytes()) == bench.result


def test_a_stage_reads_the_result_of_the_one_before_it(bench: Bench) -> None:
    info = bench.store.put("runs/local/7b1e/convert/a1-pod/dataset", b"pictures")
    assert info.sha256 is not None
    result = StageResult("convert", 1, Reason.COMPLETED, "", (Artifact("dataset", info.key, info.sha256, info.size),))
    (bench.folder / "convert.json").write_bytes(result.termination_message())
    given = replace(bench.input, handed_over=(Stage.CONVERT,))
    assert bench.finish("ok", given=given, ATOLL_HANDOVER_DIR=str(bench.folder))[0] == 0
    assert bench.store.get(bench.result.outputs[0].key) == b"made from pictures"
    code, _ = bench.finish("ok", given=replace(given, attempt=2, run=RunRef("local", "bccd", "8c2f")))
    assert (code, bench.result.reason) == (ExitCode.INTERNAL_ERROR, Reason.RESULT_MISSING)


def test_the_log_is_in_the_store_whole_and_in_order(bench: Bench) -> None:
    code, output = bench.finish("prints_much")
    assert code == 0
    keys = [item.key for item in bench.store.list("runs/local/7b1e/logs/")]
    assert keys[0] == "runs/local/7b1e/logs/train-a1-pod/00000.log"
    assert len(keys) > 1
    assert b"".join(bench.store.get(key) for key in keys).decode() == output


def test_nothing_is_left_in_the_work_folder(bench: Bench) -> None:
    bench.finish("ok")
    bench.finish("killed", pod="other")
    assert list((bench.folder / "work").iterdir()) == []


@pytest.mark.parametrize(
    ("behaviour", "code", "reason", "text"),
    [
        ("data_error", ExitCode.DATASET_UNSAFE, Reason.DATASET_UNSAFE, "path leaves the archive"),
        ("bug", ExitCode.INTERNAL_ERROR, Reason.INTERNAL_ERROR, "ZeroDivisionError: a bug"),
        ("memory", ExitCode.OUT_OF_MEMORY, Reason.OUT_OF_MEMORY, "memory"),
        ("full", ExitCode.DISK_FULL, Reason.EPHEMERAL_STORAGE_EXCEEDED, "scratch"),
        ("killed", 128 + 9, Reason.INTERNAL_ERROR, "SIGKILL"),
        ("crashed", 128 + 11, Reason.INTERNAL_ERROR, "SIGSEGV"),
        ("silent", ExitCode.INTERNAL_ERROR, Reason.RESULT_MISSING, "without a result"),
        ("unimportable", ExitCode.INTERNAL_ERROR, Reason.INTERNAL_ERROR, "no module named 'tensorflow'"),
        ("gate", ExitCode.QUALITY_GATE_FAILED, Reason.QUALITY_GATE_FAILED, "AP50 0.1 < 0.5"),
    ],
)
def test_every_end_has_its_code_and_reason(bench: Bench, behaviour: str, code: int, reason: Reason, text: str) -> None:
    found, output = bench.finish(behaviour)
    assert found == code, output
    assert bench.result.reason is reason
    assert text in bench.result.message


def test_a_traceback_is_in_the_log_only_and_only_for_a_bug(bench: Bench) -> None:
    _, output = bench.finish("bug")
    assert "Traceback" in output
    assert "Traceback" not in bench.result.message
    _, output = bench.finish("data_error", pod="other")
    assert "Traceback" not in output


def test_a_failed_gate_keeps_its_outputs(bench: Bench) -> None:
    bench.finish("gate")
    assert [item.name for item in bench.result.outputs] == ["weights"]


def test_a_big_result_fits_the_termination_message_and_is_whole_in_the_store(bench: Bench) -> None:
    assert bench.finish("big")[0] == 0
    assert (bench.folder / "termination-log").stat().st_size <= 3072
    summary = dict(bench.result.summary)
    assert summary.pop("unloadedSeconds") >= 1
    assert summary == {"pictures": 3}
    assert bench.result.result is not None
    assert len(parse_result(bench.store.get(bench.result.result.key)).summary["classes"]) == 500


def test_missing_and_wrong_input_is_named(bench: Bench) -> None:
    assert bench.finish("ok", ATOLL_STAGE_INPUT="")[0] == ExitCode.INVALID_SPEC
    assert "ATOLL_STAGE_INPUT is missing" in bench.result.message
    assert bench.finish("ok", ATOLL_STAGE_INPUT='{"stage": "train"}')[0] == ExitCode.INVALID_SPEC
    assert "StageInput.attempt is missing" in bench.result.message
    other = replace(bench.input, stage=Stage.CONVERT)
    assert bench.finish("ok", given=other)[0] == ExitCode.INVALID_SPEC
    assert "input is for stage convert" in bench.result.message


def test_a_changed_or_missing_upstream_artifact_is_reported(bench: Bench) -> None:
    info = bench.store.put("cache/dataset.json", b"pictures")
    assert info.sha256 is not None
    artifact = Artifact("dataset", info.key, info.sha256, info.size)
    given = replace(bench.input, upstream={"convert": (artifact,)})
    bench.store.put(info.key, b"other pictures")
    assert bench.finish("ok", given=given)[0] == ExitCode.INTEGRITY_MISMATCH
    assert info.sha256 in bench.result.message
    bench.store.delete(info.key)
    assert bench.finish("ok", given=given)[0] == ExitCode.DATASET_NOT_FOUND
    bench.store.put(info.key, b"pictures")
    assert bench.finish("ok", given=given)[0] == 0


def test_the_finished_work_of_an_earlier_attempt_is_reported_not_repeated(bench: Bench) -> None:
    bench.finish("ok", pod="first")
    given = replace(bench.input, attempt=2)
    assert bench.finish("bug", given=given, pod="second")[0] == 0
    assert (bench.result.reason, bench.result.attempt) == (Reason.ADOPTED, 2)
    assert bench.result.outputs[0].key == "runs/local/7b1e/train/a1-first/weights.h5"
    assert bench.result.result is not None
    assert bench.result.result.key == "runs/local/7b1e/train/a1-first/result.json"


def test_O36_a_stage_asked_for_anew_takes_over_only_what_was_made_since(bench: Bench) -> None:
    bench.finish("ok", pod="first")
    second = replace(bench.input, attempt=2, adopt_from=2)
    assert bench.finish("ok", given=second, pod="second")[0] == 0
    assert (bench.result.reason, bench.result.attempt) == (Reason.COMPLETED, 2)
    assert bench.result.outputs[0].key == "runs/local/7b1e/train/a2-second/weights.h5"
    assert bench.finish("bug", given=replace(second, attempt=3), pod="third")[0] == 0
    assert bench.result.reason is Reason.ADOPTED
    assert bench.result.outputs[0].key == "runs/local/7b1e/train/a2-second/weights.h5"


def test_damaged_foreign_or_failed_results_are_not_adopted(bench: Bench) -> None:
    bench.finish("gate", pod="failed")
    bench.finish("ok", pod="damaged")
    bench.store.put(bench.result.outputs[0].key, b"flipped")
    bench.store.put("runs/local/7b1e/train/a1-half/result.json", b'{"stage": "tr')
    bench.store.put("runs/local/7b1e/train/checkpoints/result.json", b"{}")
    code, _ = bench.finish("ok", given=replace(bench.input, attempt=2), pod="new")
    assert (code, bench.result.reason) == (0, Reason.COMPLETED)
    assert bench.result.outputs[0].key == "runs/local/7b1e/train/a2-new/weights.h5"


def test_a_stage_that_fails_tells_its_newest_checkpoint(bench: Bench) -> None:
    assert bench.finish("fails_after_checkpoint")[0] == ExitCode.PEER_LOST
    assert (bench.result.reason, bench.result.summary) == (Reason.PEER_LOST, {CHECKPOINT_STEP: 20})
    bench.finish("data_error")
    assert bench.result.summary == {}


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_stage_that_is_asked_to_end_saves_and_ends(bench: Bench, number: signal.Signals) -> None:
    process = bench.start("saves_on_stop")
    child = bench.pid("child")
    process.send_signal(number)
    process.communicate(timeout=20)
    assert process.returncode == ExitCode.INTERRUPTED
    assert bench.result.reason is Reason.SUSPENDED
    assert bench.store.get("saved") == b"checkpoint"
    wait_until(_gone(child), what="the child's end")


def test_the_child_ends_with_a_parent_that_is_killed(bench: Bench) -> None:
    process = bench.start("saves_on_stop")
    child = bench.pid("child")
    process.kill()
    wait_until(_gone(child), what="the child's end")
    assert bench.store.get("saved") == b"checkpoint"


def test_the_stage_ends_when_the_engines_pipe_closes(bench: Bench) -> None:
    reader, writer = os.pipe()
    process = bench.start("saves_on_stop", pass_fds=(reader,), ATOLL_ENGINE_FD=str(reader))
    os.close(reader)
    bench.pid("child")
    os.close(writer)
    process.communicate(timeout=20)
    assert process.returncode == ExitCode.INTERRUPTED
    assert bench.store.get("saved") == b"checkpoint"


def test_a_child_that_ignores_sigterm_is_killed_with_its_children_after_the_grace(bench: Bench) -> None:
    process = bench.start("ignores_stop", ATOLL_GRACE_SECONDS="5.5")
    child, grandchild = bench.pid("child"), bench.pid("grandchild")
    process.terminate()
    process.communicate(timeout=20)
    assert process.returncode == ExitCode.INTERRUPTED
    assert "before it could save" in bench.result.message
    wait_until(_gone(child), what="the child's end")
    wait_until(_gone(grandchild), what="the grandchild's end")


def test_a_child_that_ignores_sigterm_does_not_outlive_a_killed_parent(bench: Bench) -> None:
    process = bench.start("ignores_stop", ATOLL_GRACE_SECONDS="5.5")
    child, grandchild = bench.pid("child"), bench.pid("grandchild")
    process.kill()
    wait_until(_gone(child), what="the child's end")
    wait_until(_gone(grandchild), what="the grandchild's end")


def test_what_a_stage_leaves_running_is_ended_with_it(bench: Bench) -> None:
    assert bench.finish("leaves_child")[0] == 0
    wait_until(_gone(bench.pid("grandchild")), what="the grandchild's end")


def test_the_stage_goes_on_when_nobody_reads_its_output(bench: Bench) -> None:
    process = bench.start("prints_much")
    assert process.stdout is not None
    process.stdout.close()
    assert process.wait(40) == 0
    assert bench.result.reason is Reason.COMPLETED


def test_a_termination_log_that_no_rename_replaces_is_written_in_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "termination-log"
    target.touch()
    number = target.stat().st_ino

    def busy(*_: object) -> None:
        raise OSError(errno.EBUSY, "a mount")

    monkeypatch.setattr(Path, "replace", busy)
    write_message(target, b"{}")
    assert (target.read_bytes(), target.stat().st_ino) == (b"{}", number)
    assert list(tmp_path.iterdir()) == [target]


def test_by_hand_the_result_is_the_last_line(bench: Bench) -> None:
    code, output = bench.finish("ok", ATOLL_TERMINATION_LOG="", ATOLL_POD_UID="")
    assert code == 0
    answer = json.loads(output.splitlines()[-1])
    assert answer["reason"] == "Completed"
    assert "a1-by-hand-" in answer["result"]["key"]


def test_the_child_gets_the_allocator_of_a_training(bench: Bench) -> None:
    expected = with_allocator(Stage.TRAIN, {}).get("GLIBC_TUNABLES", "none")
    assert bench.finish("tunables", GLIBC_TUNABLES="")[0] == 0
    assert bench.result.message == expected
