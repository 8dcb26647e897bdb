"""`make load`: which images it brings into a cluster, and what it leaves on a k3s machine."""

from __future__ import annotations

from pathlib import Path

import pytest

from atoll_contract import __version__
from support.image_recorder import ImageRecorder

DEFAULT = {f"localhost/atoll/{name}:{__version__}" for name in ("operator", "convert", "train")}
EDGE = f"localhost/atoll/edge:{__version__}"


@pytest.fixture
def machine(tmp_path: Path) -> ImageRecorder:
    recorder = ImageRecorder(tmp_path)
    recorder.prepare()
    return recorder


def test_P24_k3s_gets_archives_that_it_imports_at_each_start_and_pinned_images(machine: ImageRecorder) -> None:
    machine.type("make images && make load TARGET=k3s")
    archives = {path.name: path.read_text().strip() for path in machine.k3s_images.iterdir()}
    assert archives == {
        f"atoll-{name}.tar": f"localhost/atoll/{name}:{__version__}" for name in ("operator", "convert", "train")
    }
    # They are there at once, too, and marked so that a kubelet in want of disk spares them.
    assert machine.noted("imported") == DEFAULT
    marked = {line.split()[4] for line in machine.calls() if line.startswith("k3s ctr images label ")}
    assert marked == DEFAULT
    assert all(line.endswith("io.cri-containerd.pinned=pinned") for line in machine.calls() if " label " in line)


def test_a_second_load_replaces_the_archive_and_leaves_no_half_one(machine: ImageRecorder) -> None:
    machine.type("make images IMAGES=edge")
    machine.k3s_images.mkdir(parents=True)
    (machine.k3s_images / "atoll-edge.tar").write_text("of before")
    (machine.k3s_images / "atoll-edge.unfinished").write_text("of a crash")
    machine.type("make load TARGET=k3s")
    assert [path.name for path in machine.k3s_images.iterdir()] == ["atoll-edge.tar"]
    assert (machine.k3s_images / "atoll-edge.tar").read_text().strip() == EDGE


@pytest.mark.parametrize("target", ["k3s", "kind"])
def test_what_the_last_build_made_is_loaded(machine: ImageRecorder, target: str) -> None:
    machine.type("make images")
    machine.type(f"make images IMAGES=edge && make load TARGET={target}")
    assert machine.noted("imported") == {EDGE}


def test_named_images_are_loaded_whatever_was_built(machine: ImageRecorder) -> None:
    machine.type("make images IMAGES=edge && make load TARGET=kind IMAGES=convert")
    assert machine.noted("imported") == {f"localhost/atoll/convert:{__version__}"}


def test_before_any_build_the_default_images_are_loaded(machine: ImageRecorder) -> None:
    machine.type("make load TARGET=kind")
    assert machine.noted("imported") == DEFAULT


def test_on_a_machine_without_k3s_nothing_is_written(tmp_path: Path) -> None:
    recorder = ImageRecorder(tmp_path, programs=("kind",))
    recorder.prepare()
    done = recorder.run("make images IMAGES=edge && make load TARGET=k3s")
    assert done.returncode != 0
    assert "there is no 'k3s' on the PATH: run this on the cluster's machine" in done.stderr
    assert not recorder.k3s_images.exists()
