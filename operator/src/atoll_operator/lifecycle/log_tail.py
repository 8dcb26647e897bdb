"""What the end of a container that left no result says of its last moments. Pure."""

import signal

from atoll_contract.stage_result import Progress, without_progress
from atoll_operator.lifecycle.model import PodView

# The kubelet takes this much of the log's end where a container left no termination message.
CUT_LOG_BYTES = 2048
MAX_TAIL = 300


def describe_exit(code: int | None) -> str:
    """The exit code, with the signal that it stands for."""
    if code is None:
        return "no exit code"
    if code == 128 + signal.SIGKILL:
        return f"exit code {code} (signal 9: its node or the container runtime stopped, or memory ran out)"
    return f"exit code {code}" + (f" (signal {code - 128})" if 128 < code < 160 else "")


def describe_tail(pod: PodView, progress: Progress | None) -> str:
    """How far the work was, and the end of its log without progress lines; empty where nothing is known."""
    reached = f", at step {progress.step}" if progress is not None and progress.step is not None else ""
    text = pod.termination_message
    if len(text.encode()) >= CUT_LOG_BYTES and "\n" in text:
        # The kubelet cut it somewhere in its first line.
        text = text.partition("\n")[2]
    # The newest lines are at the end.
    tail = " ".join(without_progress(text).split())[-MAX_TAIL:]
    reason = "" if pod.terminated_reason == "Error" else pod.terminated_reason
    said = tail or pod.message or reason
    return f"{reached}; its last words: {said}" if said else reached
