"""The further processes of an Indexed Job on this machine: what the pods beside index 0 are on a cluster."""

import threading
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

from atoll_cli.local.process import StageProcess, end_process, kill_process, read_message, start_time
from atoll_contract.document import replace
from atoll_contract.stage import ENV_POD_UID, ENV_TERMINATION_LOG, ENV_WORKER_INDEX
from atoll_operator.lifecycle.model import PodPhase, PodView

# For the output of a process that was ended.
_OUTPUT_SECONDS = 30.0


def environment_of_index(environ: Mapping[str, str], index: int, *, message: Path) -> Mapping[str, str]:
    """The environment of the process with this index, from that of index 0. `message` is the file for the termination
    message."""
    uid = f"{environ[ENV_POD_UID]}-{index}"
    return {**environ, ENV_WORKER_INDEX: str(index), ENV_POD_UID: uid, ENV_TERMINATION_LOG: str(message)}


class IndexedProcess:
    """A process with the environment that `environment_of_index` makes, at work from its construction on.

    Its output goes into the file `log`. `on_end` is called in another thread with its exit code.
    """

    def __init__(
        self,
        command: Sequence[str],
        environ: Mapping[str, str],
        *,
        folder: Path,
        log: Path,
        on_end: Callable[[int], None] = lambda _: None,
    ) -> None:
        self.index = int(environ[ENV_WORKER_INDEX])
        self.uid = environ[ENV_POD_UID]
        self.began = datetime.now(UTC)
        self.finished: datetime | None = None
        self.exit_code: int | None = None
        self._message = Path(environ[ENV_TERMINATION_LOG])
        self._on_end = on_end
        self._process = StageProcess(command, environ, folder=folder)
        self._started = start_time(self._process.pid)
        self._thread = threading.Thread(target=self._follow, args=(log,), name=log.stem, daemon=True)
        self._thread.start()
        self._process.release()

    def pod(self, first: PodView) -> PodView:
        """The process as a pod of the Job whose index 0 is the pod `first`."""
        code = self.exit_code
        phase = PodPhase.RUNNING if code is None else PodPhase.FAILED if code else PodPhase.SUCCEEDED
        pod = PodView(f"{first.name}-{self.index}", self.uid, first.job, phase, self.began, stage=first.stage)
        return replace(
            pod,
            started=self.began,
            finished=self.finished,
            exit_code=code,
            termination_message=read_message(self._message) if code is not None else "",
            index=self.index,
        )

    def wait(self, seconds: float) -> None:
        """Wait until the process has ended, so long at most."""
        self._thread.join(seconds)

    def end(self) -> None:
        """End the process if it still runs, and wait for its output."""
        if self.exit_code is None:
            end_process(self._process.pid, self._started, pod_uid=self.uid)
        self.wait(_OUTPUT_SECONDS)

    def kill(self) -> None:
        if self.exit_code is None:
            kill_process(self._process.pid, self._started, pod_uid=self.uid)

    def _follow(self, log: Path) -> None:
        output = self._process.popen.stdout
        assert output is not None
        with log.open("ab") as file, output:
            while line := output.readline():
                file.write(line)
                file.flush()
        code = self._process.popen.wait()
        self._process.close()
        self.finished = datetime.now(UTC)
        self.exit_code = code if code >= 0 else 128 - code
        self._on_end(self.exit_code)
