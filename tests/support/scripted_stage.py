"""A stage program for the tests of the runtime: `python -m support.scripted_stage BEHAVIOUR`."""

import ctypes
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from atoll_contract.errors import AtollError, DatasetError, Reason
from atoll_contract.stage import Stage
from atoll_contract.stage_result import Progress
from atoll_stages.runtime.entry import Interrupted, StageContext, StageOutcome, run_stage
from atoll_stages.runtime.supervision import ENV_CHILD


def ok(context: StageContext) -> StageOutcome:
    """Fetch the upstream artifact where there is one, write one file, and say so."""
    upstream = context.input.upstream.get(Stage.CONVERT, ())
    text = context.fetch(upstream[0], context.work / "given").read_text() if upstream else "nothing"
    path = context.work / "weights.h5"
    path.write_text(f"made from {text}")
    context.report(Progress(50.0, step=1))
    return StageOutcome("done", (context.save("weights", path),), {"step": 1})


def gate(context: StageContext) -> StageOutcome:
    """Fail a quality gate, with outputs."""
    outcome = ok(context)
    return StageOutcome("AP50 0.1 < 0.5", outcome.outputs, {"ap50": 0.1}, Reason.QUALITY_GATE_FAILED)


def data_error(context: StageContext) -> StageOutcome:
    """Refuse the user's data."""
    raise DatasetError(Reason.DATASET_UNSAFE, 'member 17 "../../etc/passwd": path leaves the archive')


def bug(context: StageContext) -> StageOutcome:
    """Fail as no stage should."""
    raise ZeroDivisionError("a bug")


def fails_after_checkpoint(context: StageContext) -> StageOutcome:
    """Fail on the way from one checkpoint to the next."""
    context.report(Progress(50.0, step=20, checkpoint_step=20))
    context.report(Progress(60.0, step=24, checkpoint_step=20))
    raise AtollError(Reason.PEER_LOST, "another worker is gone")


def memory(context: StageContext) -> StageOutcome:
    """Ask for more than there is."""
    return StageOutcome(str(len(bytearray(2**62))))


def full(context: StageContext) -> StageOutcome:
    """Write to a device that is always full."""
    with Path("/dev/full").open("w") as stream:
        stream.write("x" * 100_000)
    return StageOutcome("written")


def killed(context: StageContext) -> StageOutcome:
    """Be killed by SIGKILL."""
    os.kill(os.getpid(), signal.SIGKILL)
    return StageOutcome("alive")


def crashed(context: StageContext) -> StageOutcome:
    """Read address 0."""
    ctypes.string_at(0)
    return StageOutcome("alive")


def silent(context: StageContext) -> StageOutcome:
    """End with exit code 0 and without a result."""
    os._exit(0)


def saves_on_stop(context: StageContext) -> StageOutcome:
    """Work until asked to end, then save and end."""
    _announce(context)
    context.stop.wait()
    context.store.put("saved", b"checkpoint")
    raise Interrupted


def ignores_stop(context: StageContext) -> StageOutcome:
    """Ignore every request to end; with a child of its own that does not end either."""
    grandchild = subprocess.Popen(["sleep", "600"])
    context.store.put("grandchild", str(grandchild.pid).encode())
    _announce(context)
    while True:
        time.sleep(1)


def leaves_child(context: StageContext) -> StageOutcome:
    """End well, but leave a child running that holds the output open."""
    grandchild = subprocess.Popen(["sleep", "600"])
    context.store.put("grandchild", str(grandchild.pid).encode())
    return StageOutcome("done")


def big(context: StageContext) -> StageOutcome:
    """Return far more than a termination message holds."""
    classes = [{"name": f"class {i}", "boxes": i} for i in range(500)]
    return StageOutcome("m" * 5000, (), {"classes": classes, "pictures": 3})


def prints_much(context: StageContext) -> StageOutcome:
    """Print three megabytes."""
    for number in range(30_000):
        sys.stdout.write(f"line {number:06d} {'x' * 90}\n")
    return StageOutcome("printed")


def tunables(context: StageContext) -> StageOutcome:
    """Say how the C library is set."""
    return StageOutcome(os.environ.get("GLIBC_TUNABLES", "none"))


def _announce(context: StageContext) -> None:
    context.store.put("child", str(os.getpid()).encode())
    context.report(Progress(1.0, "waiting"))


BEHAVIOURS = {
    work.__name__: work
    for work in (
        ok,
        gate,
        data_error,
        bug,
        fails_after_checkpoint,
        memory,
        full,
        killed,
        crashed,
        silent,
        saves_on_stop,
        ignores_stop,
        leaves_child,
        big,
        tunables,
    )
} | {"prints_much": prints_much, "unimportable": ok}

if __name__ == "__main__":
    if sys.argv[1] == "unimportable" and ENV_CHILD in os.environ:
        raise ImportError("no module named 'tensorflow'")
    raise SystemExit(run_stage(Stage.TRAIN, BEHAVIOURS[sys.argv[1]]))
