"""`python -m atoll_edge.video.still_images`: a line for each image, whatever the image is."""

import json
import subprocess
import sys
from pathlib import Path

from PIL import Image

from atoll_edge.video import still_images
from support.edge_model import write_model
from support.edge_release import golden_image


def run(folder: Path, *images: Path) -> tuple[int, list[dict[str, object]]]:
    command = [sys.executable, "-P", "-m", "atoll_edge.video.still_images", "--model", str(folder)]
    lines = "".join(f"{path}\n" for path in images)
    done = subprocess.run(command, input=lines, capture_output=True, text=True, timeout=100, check=False)
    assert "Traceback" not in done.stderr
    return done.returncode, [json.loads(line) for line in done.stdout.splitlines()]


def test_each_image_has_its_line(tmp_path: Path) -> None:
    model, _ = write_model(tmp_path)
    good, text, wide = tmp_path / "good image.png", tmp_path / "text.png", tmp_path / "wide.png"
    good.write_bytes(golden_image())
    text.write_text("no image")
    side = still_images.MAX_PIXELS // 1000 + 1
    Image.new("1", (side, 1000)).save(wide)
    code, (first, seen, no_image, too_large, missing) = run(model, good, text, wide, tmp_path / "none.png")
    assert code == 0
    assert first == {"labels": ["red", "blue"]}
    assert isinstance(seen["detections"], list)
    assert [item["label"] for item in seen["detections"]] == ["red", "blue"]
    assert "it cannot be read" in str(no_image["error"])
    assert f"it has {side}×1000 pixels" in str(too_large["error"])
    assert "it cannot be read" in str(missing["error"])


def test_a_model_that_cannot_be_run_is_refused(tmp_path: Path) -> None:
    code, (refusal,) = run(tmp_path / "none")
    assert code == 20
    assert refusal["reason"] == "InvalidSpec"
    assert "there is no model" in str(refusal["message"])
