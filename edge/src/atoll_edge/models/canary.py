"""The canary: a model is tried in a child process before the detector may see it."""

import json
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from atoll_contract.document import to_json
from atoll_contract.errors import Reason
from atoll_contract.release import Manifest, Role
from atoll_edge.detector.client import describe_exit
from atoll_edge.models.canary_worker import CanaryJob, GoldenPicture
from atoll_edge.models.release_state import Refusal

CANARY_SECONDS = 60.0
COMMAND = (sys.executable, "-P", "-m", "atoll_edge.models.canary_worker")


def canary_job(manifest: Manifest, blob: Callable[[str], Path]) -> CanaryJob:
    """What the canary does with a release."""
    model = manifest.file(Role.MODEL_INT8)
    assert model is not None
    golden = tuple(
        GoldenPicture(str(blob(item.sha256)), item.expected)
        for item in manifest.files
        if item.role is Role.GOLDEN and item.expected is not None
    )
    # A manifest that was made here, of a bundle without one, does not know the size.
    side = manifest.input.width if golden or manifest.sequence else None
    return CanaryJob(str(blob(model.sha256)), len(manifest.labels), side, golden)


def run_canary(
    job: CanaryJob, *, name: str, timeout_seconds: float = CANARY_SECONDS, command: Sequence[str] = COMMAND
) -> None:
    """Try a model; `name` is how the refusal calls it.

    Raises:
        Refusal: it crashed, hung, or answers wrongly.
    """
    try:
        child = subprocess.run(command, input=to_json(job), capture_output=True, timeout=timeout_seconds, check=False)
    except subprocess.TimeoutExpired:
        raise Refusal(Reason.INTEGRITY_MISMATCH, f"{name} hung in its self-test ({timeout_seconds:g} s)") from None
    if child.returncode != 0:
        raise Refusal(Reason.INTEGRITY_MISMATCH, f"{name} crashed its self-test ({describe_exit(child.returncode)})")
    try:
        # A native library may have printed something before.
        error = json.loads(child.stdout.splitlines()[-1])["error"]
    except (ValueError, LookupError):
        raise Refusal(Reason.INTEGRITY_MISMATCH, f"{name} made its self-test answer nonsense") from None
    if error is not None:
        raise Refusal(Reason.INTEGRITY_MISMATCH, f"{name} failed its self-test: {error}")
