"""`python -m walkthrough [--quick]`, from `tests/`: walk the page's road and write its outputs and pictures anew.

Without --quick as its reader would: half an hour on two CPUs.
"""

import argparse
import os
import tempfile
from pathlib import Path

from walkthrough.page import PAGE, parts, with_outputs
from walkthrough.pictures import TARGET, from_folder, photographed
from walkthrough.road import Road


def main(*, quick: bool, kept: Path | None) -> None:
    text = PAGE.read_text(encoding="utf-8")
    with tempfile.TemporaryDirectory() as temporary:
        home = (kept or Path(temporary)).resolve()
        # Where the pictures show a path, it is the page's.
        os.environ["HOME"] = str(home)
        folder = home / "robot"
        folder.mkdir(parents=True)
        TARGET.mkdir(parents=True, exist_ok=True)
        road = Road(folder, quick=quick, on_robot=lambda url: photographed(url, TARGET / "robot.png", height=600))
        for command in road.walk(parts(text)):
            print(f"$ {command.line}\n{road.outputs[command.line]}", flush=True)
        from_folder(folder)
        PAGE.write_text(with_outputs(text, lambda line: road.outputs[line]), encoding="utf-8")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="with a smaller detector and fewer steps: to try it out")
    parser.add_argument("--folder", type=Path, help="walk there and leave everything behind")
    given = parser.parse_args()
    main(quick=given.quick, kept=given.folder)
