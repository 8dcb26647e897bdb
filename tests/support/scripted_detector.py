"""A detector worker whose backends follow a script, for what no test machine has: an Edge TPU, and one that fails.

`EDGE_SCRIPT` names a JSON file `{"edgetpu": {...}, "cpu": {...}}` that is read anew with every step. A backend's entry
may hold `missing` (no device), `refused` (why it cannot load the file), `abort_after` n answers (as libedgetpu does on
a USB error), `hang_after` n, `nan`, `seconds` an answer takes, `load_seconds` a load, `meet` a folder in which as many
workers as `workers` must be at work on a frame before one of them answers. Run as a program it is the worker itself.
"""

import json
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

from atoll_contract.release import Detection
from atoll_edge.detector.backends.base import Backend, DeviceMissing, LoadError
from atoll_edge.detector.outputs import ModelOutput
from atoll_edge.detector.worker import WARM_UPS, main

COMMAND = (sys.executable, "-P", __file__)
SEEN = Detection(0, 0.9, (0.1, 0.2, 0.3, 0.4))


class ScriptedModel:
    width = height = 64

    def __init__(self, backend: str) -> None:
        self._backend = backend
        self._answers = 0

    def detect(self, image: Any) -> ModelOutput:
        script = read_script(self._backend)
        self._answers += 1
        if self._answers > script.get("abort_after", 10**9):
            os.kill(os.getpid(), signal.SIGABRT)
        if self._answers > script.get("hang_after", 10**9):
            time.sleep(3600)
        if "meet" in script and self._answers > WARM_UPS:
            meeting = Path(script["meet"])
            (meeting / str(os.getpid())).touch()
            while len(list(meeting.iterdir())) < script["workers"]:
                time.sleep(0.01)
        time.sleep(script.get("seconds", 0.0))
        return ModelOutput((SEEN,), int(script.get("nan", 0)))


class ScriptedLoader:
    def __init__(self, backend: str) -> None:
        self._backend = backend

    def load(self, path: Path, *, threads: int, side: int | None = None, head: Path | None = None) -> ScriptedModel:
        script = read_script(self._backend)
        time.sleep(script.get("load_seconds", 0.0))
        if script.get("missing"):
            raise DeviceMissing("no Edge TPU answers (scripted)")
        if script.get("refused"):
            raise LoadError(script["refused"])
        return ScriptedModel(self._backend)


def loader() -> ScriptedLoader:
    return ScriptedLoader(sys.argv[sys.argv.index("--backend") + 1])


def read_script(backend: str) -> dict[str, Any]:
    script: dict[str, dict[str, Any]] = json.loads(Path(os.environ["EDGE_SCRIPT"]).read_text())
    return script.get(backend, {})


if __name__ == "__main__":
    sys.modules["scripted_detector"] = sys.modules["__main__"]
    main(modules=dict.fromkeys(Backend, "scripted_detector"))
