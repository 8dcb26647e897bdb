"""The publish stage as the process that an engine starts."""

import os
import subprocess
import sys
from pathlib import Path

from atoll_contract import keys
from atoll_contract.errors import ExitCode, Reason
from atoll_contract.stage import StageInput
from atoll_contract.stage_result import StageResult, parse_result
from atoll_contract.store import open_store
from atoll_contract.store_spec import StoreSpec
from support.publishing import exported_run


def run(given: StageInput, folder: Path, *, pod: str) -> tuple[int, StageResult]:
    environ = {
        **{name: value for name, value in os.environ.items() if not name.startswith("ATOLL_")},
        "ATOLL_POD_UID": pod,
        "ATOLL_TERMINATION_LOG": str(folder / "termination-log"),
        "ATOLL_WORK_DIR": str(folder / "work"),
        **given.to_env(),
    }
    command = [sys.executable, "-P", "-m", "atoll_stages.publish"]
    done = subprocess.run(command, env=environ, capture_output=True, timeout=50, check=False)
    return done.returncode, parse_result((folder / "termination-log").read_bytes())


def test_the_process_publishes_conflicts_and_adopts(folder_spec: StoreSpec, tmp_path: Path) -> None:
    store = open_store(folder_spec)
    first = exported_run(store, folder_spec, uid="first", compiled=True, store_is_lock=True)
    code, result = run(first, tmp_path, pod="a")
    assert (code, result.reason, result.summary["release"]) == (0, Reason.COMPLETED, "note-v1")
    assert result.summary["manifest"]["key"] == keys.manifest("local", "note", 1)
    code, result = run(first, tmp_path, pod="b")
    assert (code, result.reason) == (0, Reason.ADOPTED)
    code, result = run(exported_run(store, folder_spec, uid="second"), tmp_path, pod="c")
    assert (code, result.reason, result.summary["nextVersion"]) == (
        ExitCode.VERSION_CONFLICT,
        Reason.VERSION_CONFLICT,
        2,
    )
