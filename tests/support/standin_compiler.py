"""A stand-in for `edgetpu_compiler`: it compiles nothing. It replays a recorded log and leaves the file it is told to.

`standin_compiler.py FOLDER <the compiler's options>`: `FOLDER/plan.json` lists what each call does, one after the
other, the last one for ever; `FOLDER/calls.jsonl` gets the options of every call.
"""

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any


def main(folder: Path, options: list[str]) -> int:
    if options == ["--version"]:
        sys.stdout.write((folder / "version.txt").read_text())
        return 0
    calls = folder / "calls.jsonl"
    number = len(calls.read_text().splitlines()) if calls.exists() else 0
    with calls.open("a") as stream:
        stream.write(json.dumps(options) + "\n")
    plan = json.loads((folder / "plan.json").read_text())
    return act(plan[min(number, len(plan) - 1)], options)


def act(step: dict[str, Any], options: list[str]) -> int:
    out = Path(options[options.index("-o") + 1])
    stem = Path(options[-1]).stem
    sys.stdout.write(Path(step["log"]).read_text())
    sys.stdout.flush()
    if step.get("hang"):
        subprocess.Popen(["sleep", "600"])
        (out.parent / "hanging").touch()
        time.sleep(600)
    if "table" in step:
        (out / f"{stem}_edgetpu.log").write_text(Path(step["table"]).read_text())
    if "file" in step:
        (out / f"{stem}_edgetpu.tflite").write_bytes(Path(step["file"]).read_bytes())
    return int(step.get("code", 0))


if __name__ == "__main__":
    raise SystemExit(main(Path(sys.argv[1]), sys.argv[2:]))
