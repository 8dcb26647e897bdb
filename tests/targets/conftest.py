"""One run of the sample for all tests of this folder."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from atoll_stages.sample.field import ARCHIVE, SampleSpec, write_archive
from support.target_tools import environment

STEPS = 300
# A fifth of them is measured, which is enough for a difference of some points to mean something.
IMAGES, SIZE = 100, (256, 192)
RUN = f"""
apiVersion: atoll.dev/v1alpha1
kind: TrainingRun
metadata: {{ name: chips }}
spec:
  datasets: [{{ key: datasets/local/field.tar }}]
  model: {{ architecture: ARCHITECTURE, width: "0.35" }}
  training: {{ initFrom: {{ type: random }}, steps: {STEPS}, batchSize: 8 }}
  compile:
    - {{ target: edgetpu }}
    - {{ target: rknn, policy: Required }}
    - {{ target: qnn, policy: Required }}
    - {{ target: hailo }}
  publish: {{ model: chips }}
"""


@pytest.fixture(scope="session")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The store of the run, which has ended well."""
    return finished_run(tmp_path_factory.mktemp("targets"), "ssd-mobilenet-v2-fpnlite-192")


@pytest.fixture(scope="session")
def distribution_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The store of the same run of a detector with distributions."""
    return finished_run(tmp_path_factory.mktemp("distributions"), "dfl-mobilenet-v2-fpn-192")


def finished_run(folder: Path, architecture: str) -> Path:
    if not shutil.which("apt-get"):
        pytest.skip("the compilers' environments need apt-get (Debian's PyTorch); not exercised here")
    (folder / "run.yaml").write_text(RUN.replace("ARCHITECTURE", architecture))
    command: list[str | Path] = [sys.executable, "-P", "-m", "atoll_cli.main", "run", "-f", folder / "run.yaml"]
    write_archive(SampleSpec(0, IMAGES, SIZE, 0), folder, 1, lambda: None)
    command += ["--data", folder / ARCHIVE, "--store", folder / "store"]
    subprocess.run(command, env={**os.environ, **environment()}, check=True)
    return folder / "store"
