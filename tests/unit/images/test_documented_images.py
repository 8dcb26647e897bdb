"""Every line of the pages that builds and loads images has what the next `helm install` needs."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

from support.helm import pod_specs, render
from support.image_recorder import ROOT, ImageRecorder

pytestmark = pytest.mark.api

PAGES = sorted([ROOT / "README.md", *ROOT.glob("docs/*.md"), *ROOT.glob("charts/*/README.md")])


@dataclass(frozen=True)
class Step:
    """One block's line that builds and loads, and the `helm` command after it."""

    page: Path
    images: str
    helm: str


def steps() -> list[Step]:
    found = []
    for page in PAGES:
        text = re.sub(r"\\\n", " ", page.read_text(encoding="utf-8"))
        lines = [line.partition(" #")[0].strip() for line in text.splitlines() if line.startswith("    ")]
        for number, line in enumerate(lines):
            if line == "make images" and lines[number + 1].startswith("make load"):
                line += f" && {lines[number + 1]}"
            if "make images" in line and "make load" in line:
                after = next((later for later in lines[number:] if later.startswith("helm ")), "")
                found.append(Step(page, line[line.index("make images") :], " ".join(after.split())))
    return found


def test_the_pages_have_such_lines_and_a_helm_command_follows_each() -> None:
    pages = [step.page.name for step in steps()]
    assert {"README.md", "install.md", "edge.md", "mentor.md"} <= set(pages)
    assert all(re.match(r"helm (install|upgrade) \S+ charts/", step.helm) for step in steps())


@pytest.mark.parametrize("step", steps(), ids=lambda step: f"{step.page.stem}: {step.images}")
def test_P25_what_a_page_builds_is_loaded_and_is_what_helm_needs(step: Step, tmp_path: Path) -> None:
    recorder = ImageRecorder(tmp_path)
    recorder.prepare()
    recorder.type(step.images)
    built = recorder.noted("built")
    assert built
    assert recorder.noted("imported") == built
    assert {image for image in needed(step, recorder) if image.startswith("localhost/")} <= built


def needed(step: Step, recorder: ImageRecorder) -> set[str]:
    """The images of the release's pods and of its profiles' stages."""
    chart = step.helm.split()[3].removeprefix("charts/")
    objects = render(chart, *arguments(step, recorder))
    images = {container["image"] for _, spec in pod_specs(objects) for container in spec["containers"]}
    for item in objects:
        if item["kind"] == "TrainingProfile":
            images |= set(item["spec"]["images"].values())
    assert images
    return images


def arguments(step: Step, recorder: ImageRecorder) -> list[str]:
    """The command's values files: of the repository, of the build, or shown on the page under their names."""
    given = []
    for path in re.findall(r"(?:-f|--values) (\S+)", step.helm):
        for place in (recorder.checkout / path, ROOT / path):
            if place.is_file():
                given.append(f"--values={place}")
                break
        else:
            shown = re.search(rf"^```yaml\n# {re.escape(path)}\n(.*?)^```", step.page.read_text(), re.M | re.S)
            if shown:
                assert yaml.safe_load(shown[1])
                (recorder.folder / path).write_text(shown[1])
                given.append(f"--values={recorder.folder / path}")
    return given
