"""Stages of the played kubelet as real processes: the pod's own StageInput, the real runner, a real store."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

from atoll_contract.document import replace
from atoll_contract.stage import (
    ENV_HANDOVER_DIR,
    ENV_POD_UID,
    ENV_TERMINATION_LOG,
    ENV_WORK_DIR,
    Stage,
    StageInput,
)
from cluster.kubelet import StageEnd

TESTS = Path(__file__).parents[1]
STAGES = TESTS / "support" / "noop_stages"


@dataclass
class StageProcesses:
    """A `kubelet.Script`: the first look at a container starts its process, a later one finds it ended.

    `plan` is the folder of `support.noop_stages`; `credentials` lies where the pod's Secret would be mounted.
    """

    folder: Path
    plan: Path
    credentials: Path
    processes: dict[tuple[str, Stage], subprocess.Popen[bytes]] = field(default_factory=dict)

    def __call__(self, given: StageInput, pod_uid: str) -> StageEnd | None:
        process = self.processes.get((pod_uid, given.stage))
        if process is None:
            self.processes[pod_uid, given.stage] = self._start(given, pod_uid)
            return None
        code = process.poll()
        if code is None:
            return None
        message = self._message(given, pod_uid)
        return StageEnd(code, message.read_text(encoding="utf-8") if message.exists() else "")

    def at_work(self, run: str, stage: Stage) -> bool:
        """Whether a process of this stage has saved something: it reports each step that it has."""
        return any(
            f"{run} {stage}" in mark.read_text(encoding="utf-8") and b"ATOLL_PROGRESS" in log.read_bytes()
            for mark in self.folder.glob("*/stage")
            if (log := mark.with_name("output.log")).exists()
        )

    def environment(self, pod_uid: str) -> dict[str, str]:
        """What the pod has beside the stage's input."""
        return {}

    def close(self) -> None:
        for process in self.processes.values():
            process.kill()
            process.wait(10)

    def _start(self, given: StageInput, pod_uid: str) -> subprocess.Popen[bytes]:
        work, handover = self._work(given, pod_uid), self.folder / f"{pod_uid}-handover"
        work.mkdir()
        handover.mkdir(exist_ok=True)
        (work / "stage").write_text(f"{given.run.name} {given.stage}", encoding="utf-8")
        given = replace(given, store=replace(given.store, credentials_dir=str(self.credentials)))
        environ = {
            **{key: value for key, value in os.environ.items() if not key.startswith(("ATOLL_", "AWS_"))},
            **given.to_env(),
            ENV_POD_UID: pod_uid,
            ENV_WORK_DIR: str(work),
            ENV_HANDOVER_DIR: str(handover),
            ENV_TERMINATION_LOG: str(self._message(given, pod_uid)),
            "NOOP_PLAN": str(self.plan),
            **self.environment(pod_uid),
        }
        command = [sys.executable, "-P", str(STAGES), str(given.stage)]
        with (work / "output.log").open("wb") as output:
            return subprocess.Popen(command, env=environ, stdout=output, stderr=output)

    def _work(self, given: StageInput, pod_uid: str) -> Path:
        return self.folder / f"{pod_uid}-{given.stage}"

    def _message(self, given: StageInput, pod_uid: str) -> Path:
        return self._work(given, pod_uid) / "termination.json"
