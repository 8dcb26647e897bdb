"""The further processes of an Indexed Job on this machine: what other pods are on a cluster."""

import shutil
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path

from atoll_cli.local.process import StageProcess, end_process, start_time
from atoll_contract.stage import ENV_POD_UID, ENV_TERMINATION_LOG, ENV_WORKER_INDEX


class ShardProcess:
    """A process of a Job whose index 0 has the environment `environ`. Its output goes into the file `log`; what it
    says at its end is of no interest, because index 0 speaks for all."""

    def __init__(
        self, command: Sequence[str], environ: Mapping[str, str], *, folder: Path, log: Path, index: int
    ) -> None:
        self._uid = f"{environ[ENV_POD_UID]}-{index}"
        own = {ENV_WORKER_INDEX: str(index), ENV_POD_UID: self._uid, ENV_TERMINATION_LOG: str(log.with_suffix(".json"))}
        self._process = StageProcess(command, {**environ, **own}, folder=folder)
        self._started = start_time(self._process.pid)
        self._thread = threading.Thread(target=self._copy_output, args=(log,), name=log.stem, daemon=True)
        self._thread.start()
        self._process.release()

    def end(self) -> None:
        """End the process if it still runs, and wait for its output."""
        end_process(self._process.pid, self._started, pod_uid=self._uid)
        self._thread.join()
        self._process.popen.wait()
        self._process.close()

    def _copy_output(self, log: Path) -> None:
        assert self._process.popen.stdout is not None
        with log.open("ab") as file, self._process.popen.stdout as output:
            shutil.copyfileobj(output, file)
