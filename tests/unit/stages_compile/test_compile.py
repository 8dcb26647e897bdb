"""The compile stage around a stand-in for the compiler. No real compiler is exercised here."""

import json
import os
import sys
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from atoll_contract.errors import ExitCode, Reason, SpecError, exit_code
from atoll_contract.keys import RunRef
from atoll_contract.stage import CompilePolicy as Policy
from atoll_contract.stage import CompileSpec, Stage, StageInput
from atoll_contract.stage_result import Artifact
from atoll_contract.store.directory import DirStore
from atoll_contract.store_spec import StoreSpec, StoreType
from atoll_stages.compile.edgetpu import ENV_COMPILER, PLAN, EdgeTpuTarget, find_compiler
from atoll_stages.compile.stage import compile_model
from atoll_stages.compile.target import CompileTarget
from atoll_stages.runtime.context import Interrupted, StageContext, StageOutcome
from support import standin_compiler
from support.minimal_tflite import minimal_tflite
from support.polling import wait_until

LOGS = Path(__file__).parent / "logs"
COMPILED = minimal_tflite(("edgetpu-custom-op", "TFLite_Detection_PostProcess"))


class Bench:
    """A model in a store, and a stand-in for the compiler that follows a plan."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.store = DirStore(folder / "store")
        self.program = folder / "edgetpu_compiler"
        script = Path(standin_compiler.__file__)
        self.program.write_text(f'#!/bin/sh\nexec "{sys.executable}" "{script}" "{folder}" "$@"\n')
        self.program.chmod(0o755)
        self.stop = threading.Event()
        self.plan({"log": "v16-partial", "file": COMPILED})

    def plan(self, *steps: Mapping[str, Any], version: str = "v16-partial") -> None:
        written = []
        for number, step in enumerate(steps):
            step = dict(step)
            for name in ("log", "table"):
                if name in step:
                    step[name] = str(LOGS / f"{step[name]}.txt")
            if "file" in step:
                path = self.folder / f"file-{number}"
                path.write_bytes(step["file"])
                step["file"] = str(path)
            written.append(step)
        (self.folder / "plan.json").write_text(json.dumps(written))
        first = (LOGS / f"{version}.txt").read_text().splitlines()[0]
        (self.folder / "version.txt").write_text(first + "\n")

    @property
    def calls(self) -> list[list[str]]:
        return [json.loads(line) for line in (self.folder / "calls.jsonl").read_text().splitlines()]

    def input(self, **spec: Any) -> StageInput:
        info = self.store.put("runs/local/7b1e/export/a1-pod/unoptimized.tflite", minimal_tflite())
        artifact = Artifact("model", info.key, info.sha256 or "", info.size)
        store = StoreSpec(StoreType.DIRECTORY, path=self.store.url)
        run = RunRef("local", "bccd", "7b1e")
        return StageInput(Stage.COMPILE, 1, run, store, {"export": (artifact,)}, compile=CompileSpec(**spec))

    def run(self, **spec: Any) -> StageOutcome:
        work = self.folder / "work"
        work.mkdir()
        context = StageContext(self.input(**spec), self.store, work, stop=self.stop)
        targets: dict[str, CompileTarget] = {"edgetpu": EdgeTpuTarget(self.program)}
        return compile_model(context, targets=targets)

    def stored(self, outcome: StageOutcome, name: str) -> bytes:
        return self.store.get(next(item.key for item in outcome.outputs if item.name == name))


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


def names(outcome: StageOutcome) -> set[str]:
    return {item.name for item in outcome.outputs}


def test_a_verified_file_is_compiled(bench: Bench) -> None:
    outcome = bench.run(policy=Policy.REQUIRED)
    assert outcome.reason is Reason.COMPLETED
    assert outcome.message == "compiled: 122 of 125 operations on the Edge TPU"
    assert outcome.summary == {
        "target": "edgetpu",
        "compiled": True,
        "compilerVersion": "16.0.384591198",
        "minRuntimeVersion": 14,
        "mappedPercent": 97.6,
        "unmapped": [
            "2 DEQUANTIZE (Operation is working on an unsupported data type)",
            "1 CUSTOM (Operation is working on an unsupported data type)",
        ],
    }
    assert bench.stored(outcome, "compiled") == COMPILED
    assert [item.key.rpartition("/")[2] for item in outcome.outputs] == [
        "model.tflite",
        "edgetpu_compiler.log",
        "compilation.json",
    ]
    assert json.loads(bench.stored(outcome, "compilation")) == outcome.summary
    assert b"Mapped to Edge TPU" in bench.stored(outcome, "log")


@pytest.mark.parametrize(("version", "limited"), [("v16-partial", True), ("v15-partial", False)])
def test_only_a_compiler_with_the_option_gets_a_time_limit(bench: Bench, version: str, limited: bool) -> None:
    bench.plan({"log": version, "file": COMPILED}, version=version)
    bench.run()
    assert ("-t" in bench.calls[0]) is limited
    assert bench.calls[0][0] == "-s"


@pytest.mark.parametrize("program", [None, "missing", "not executable"])
@pytest.mark.parametrize("policy", [Policy.REQUIRED, Policy.BEST_EFFORT])
def test_without_a_compiler_the_policy_decides(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, program: str | None, policy: Policy
) -> None:
    monkeypatch.setenv("PATH", str(bench.folder / "nowhere"))
    monkeypatch.delenv(ENV_COMPILER, raising=False)
    if program is not None:
        path = bench.folder / program
        if program == "not executable":
            path.write_bytes(b"\x7fELF of another machine")
            path.chmod(0o755)
        monkeypatch.setenv(ENV_COMPILER, str(path))
    (bench.folder / "work").mkdir()
    outcome = compile_model(StageContext(bench.input(policy=policy), bench.store, bench.folder / "work"))
    required = policy is Policy.REQUIRED
    assert outcome.reason is (Reason.COMPILER_UNAVAILABLE if required else Reason.COMPLETED)
    assert exit_code(outcome.reason) == (ExitCode.COMPILER_UNAVAILABLE if required else ExitCode.OK)
    assert outcome.summary == {"target": "edgetpu", "compiled": False, "reason": "CompilerUnavailable"}
    assert names(outcome) == {"compilation"}


def test_the_compiler_is_found_on_the_path_or_named(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(ENV_COMPILER, raising=False)
    monkeypatch.setenv("PATH", str(bench.folder))
    assert find_compiler() == bench.program
    monkeypatch.setenv(ENV_COMPILER, "/nowhere/edgetpu_compiler")
    assert find_compiler() is None


@pytest.mark.parametrize(
    ("step", "reason", "text"),
    [
        ({"log": "v16-version-refused", "code": 1, "file": b"x" * 1000}, Reason.COMPILE_FAILED, "'EXP' version '2'"),
        ({"log": "v15-not-quantized", "code": 1}, Reason.COMPILE_FAILED, "Model not quantized"),
        ({"log": "v14-internal-error", "code": 1}, Reason.COMPILE_FAILED, "internal compiler error"),
        ({"log": "v16-timeout", "code": 1}, Reason.COMPILE_FAILED, "did not end in time"),
        ({"log": "v15-version-only"}, Reason.COMPILE_FAILED, "exit code 0"),
        ({"log": "v16-partial", "code": 1, "file": COMPILED}, Reason.COMPILE_FAILED, "exit code 1"),
        ({"log": "v15-none-mapped", "file": COMPILED}, Reason.OPS_NOT_MAPPED, "0 of 69 operations"),
        ({"log": "v16-partial"}, Reason.COMPILE_FAILED, "left no file"),
        ({"log": "v16-partial", "file": b"TFL3"}, Reason.COMPILE_FAILED, "bytes, at least"),
        ({"log": "v16-partial", "file": b"stub" * 500}, Reason.COMPILE_FAILED, "cannot be read"),
        ({"log": "v16-partial", "file": minimal_tflite()}, Reason.COMPILE_FAILED, "holds no code for the Edge TPU"),
        (
            {"log": "v16-partial", "file": minimal_tflite(("edgetpu-custom-op",) * 9, shape=(1, 300, 300, 3))},
            Reason.COMPILE_FAILED,
            "takes",
        ),
    ],
)
@pytest.mark.parametrize("policy", [Policy.REQUIRED, Policy.BEST_EFFORT])
def test_nothing_is_called_compiled_that_was_not(
    bench: Bench, step: dict[str, Any], reason: Reason, text: str, policy: Policy
) -> None:
    bench.plan(step)
    outcome = bench.run(policy=policy)
    assert outcome.reason is (reason if policy is Policy.REQUIRED else Reason.COMPLETED)
    assert text in outcome.message
    assert (outcome.summary["compiled"], outcome.summary["reason"]) == (False, reason)
    assert names(outcome) == {"log", "compilation"}
    assert not any(item.key.endswith(".tflite") and "/compile/" in item.key for item in bench.store.list(""))


def test_an_internal_error_is_tried_again(bench: Bench) -> None:
    failing = {"log": "v14-internal-error", "code": 1}
    bench.plan(failing, failing, {"log": "v16-partial", "file": COMPILED})
    assert bench.run().summary["compiled"] is True
    assert len(bench.calls) == 3


def test_the_older_runtime_and_the_search_come_last_and_are_reported(bench: Bench) -> None:
    failing = {"log": "v14-internal-error", "code": 1}
    bench.plan(failing, failing, failing, {"log": "v16-partial", "file": COMPILED})
    outcome = bench.run()
    assert outcome.summary["minRuntimeVersion"] == 13
    assert "-m" in bench.calls[3]


def test_the_search_is_the_last_resort(bench: Bench) -> None:
    failing = {"log": "v14-internal-error", "code": 1}
    bench.plan(failing, failing, failing, failing, {"log": "v16-search", "file": COMPILED})
    outcome = bench.run()
    assert outcome.summary["mappedPercent"] == 90.4
    assert len(bench.calls) == len(PLAN)
    assert "-d" in bench.calls[-1]


@pytest.mark.parametrize("log", ["v16-version-refused", "v15-not-quantized"])
def test_a_refused_model_is_not_tried_again(bench: Bench, log: str) -> None:
    bench.plan({"log": log, "code": 1})
    bench.run()
    assert len(bench.calls) == 1


@pytest.mark.parametrize("policy", [Policy.REQUIRED, Policy.BEST_EFFORT])
def test_too_few_operations_fail_the_gate(bench: Bench, policy: Policy) -> None:
    bench.plan({"log": "v15-partial", "file": COMPILED})
    outcome = bench.run(policy=policy, min_mapped_percent=95.0)
    assert (outcome.reason, exit_code(outcome.reason)) == (Reason.OPS_NOT_MAPPED, ExitCode.OPS_NOT_MAPPED)
    assert outcome.message == (
        "71/112 operations on the Edge TPU (63.4 %), required 95 %; first unmapped: 30 EXP (Operation not supported)"
    )


def test_enough_operations_pass_the_gate(bench: Bench) -> None:
    assert bench.run(min_mapped_percent=97.6).reason is Reason.COMPLETED


def _gone(folder: Path) -> bool:
    for path in Path("/proc").glob("[0-9]*/cwd"):
        try:
            command = (path.parent / "cmdline").read_bytes()
        except OSError:
            continue
        if str(folder).encode() in command:
            return False
    return True


def test_a_compiler_that_hangs_is_ended_at_the_deadline_with_its_children(bench: Bench) -> None:
    bench.plan({"log": "v15-version-only", "hang": True})
    outcome = bench.run(timeout_seconds=3)
    assert outcome.summary["reason"] == "CompileFailed"
    assert "did not end in time" in outcome.message
    assert _gone(bench.folder)
    own = os.getpid()
    assert not [pid for pid in Path(f"/proc/{own}/task/{own}/children").read_text().split() if _is_sleep(pid)]


def _is_sleep(pid: str) -> bool:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().startswith(b"sleep")
    except OSError:
        return False


def test_a_request_to_end_ends_the_compiler(bench: Bench) -> None:
    bench.plan({"log": "v15-version-only", "hang": True})

    def ask() -> None:
        wait_until(lambda: list((bench.folder / "work").glob("*/hanging")), what="the stand-in")
        bench.stop.set()

    asking = threading.Thread(target=ask)
    asking.start()
    started = time.monotonic()
    with pytest.raises(Interrupted):
        bench.run(timeout_seconds=600)
    asking.join()
    assert time.monotonic() - started < 60
    assert _gone(bench.folder)


def test_a_disabled_target_is_reported_and_an_unknown_one_refused(bench: Bench) -> None:
    assert bench.run(policy=Policy.DISABLED).summary == {"target": "edgetpu", "compiled": False}
    (bench.folder / "work").rmdir()
    with pytest.raises(SpecError, match="'hailo' is not known; known are edgetpu"):
        bench.run(target="hailo")
