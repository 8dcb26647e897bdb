"""What `make release` builds, taken from its folder as a user takes it: the wheel into an empty environment, the charts
by Helm. The image archives need a registry for their base and are left out."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tarfile
import zipfile
from email import message_from_string
from pathlib import Path

import pytest

from atoll_contract import __version__
from cluster.binaries import ensure
from support.interpreters import find_interpreter

ROOT = Path(__file__).parents[2]

pytestmark = pytest.mark.api

VALUES = {
    "atoll": (),
    "atoll-edge": (
        "--set=model.namespace=team-190,model.name=note,model.verify=digest-only,store.bucket=frc",
        "--set=store.endpoint=https://minio:9000,store.secretName=s3,config.team=190",
    ),
}


def run(*command: str | Path, folder: Path = ROOT, timeout: int = 120) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "IMAGES")}
    return subprocess.run(
        [str(part) for part in command],
        cwd=folder,
        env=environment | {"IMAGES": "none"},
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )


@pytest.fixture(scope="module")
def release(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("release")
    done = run(ROOT / ".ci" / "release", folder, timeout=390)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


@pytest.fixture(scope="module")
def wheel(release: Path) -> Path:
    (found,) = (release / "dist").glob("*.whl")
    return found


@pytest.fixture(scope="module")
def environment(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The programs of an environment that holds the wheel alone."""
    folder = tmp_path_factory.mktemp("environment")
    assert run(sys.executable, "-m", "venv", "--without-pip", folder).returncode == 0
    pip = (sys.executable, "-m", "pip", "--disable-pip-version-check", "--python", folder / "bin" / "python")
    done = run(*pip, "install", "--quiet", "--no-index", "--no-deps", wheel)
    assert done.returncode == 0, done.stderr
    return folder / "bin"


@pytest.fixture
def furnished(environment: Path) -> Path:
    """The same with the packages of the extras: those that this test runs with."""
    code = "import sysconfig; print(sysconfig.get_path('purelib'))"
    target = Path(run(environment / "python", "-c", code).stdout.strip())
    packages = [path for path in sys.path if path.endswith("site-packages")]
    (target / "of_the_extras.pth").write_text("\n".join(packages) + "\n")
    return environment


def test_the_wheel_alone_says_which_extra_to_install(environment: Path) -> None:
    done = run(environment / "atoll", "--help", folder=environment)
    assert (done.returncode, done.stdout) == (1, "")
    assert "pip install 'atoll[laptop]'" in done.stderr
    edge = run(environment / "atoll-edge", "--help", folder=environment)
    assert edge.returncode == 1
    assert "pip install 'atoll[edge]'" in edge.stderr


def test_the_wheel_with_its_packages_works_outside_the_checkout(furnished: Path, tmp_path: Path) -> None:
    code = "import atoll_cli, atoll_stages, atoll_edge; print(atoll_cli.__file__, atoll_stages.__file__)"
    where = run(furnished / "python", "-P", "-c", code, folder=tmp_path).stdout
    assert where.count(str(furnished.parent)) == 2
    assert run(furnished / "atoll", "--help", folder=tmp_path).stdout.startswith("Usage: atoll")
    assert run(furnished / "kubectl-atoll", "--version", folder=tmp_path).stdout.endswith(f"{__version__}\n")
    assert "selftest" in run(furnished / "atoll-edge", "--help", folder=tmp_path).stdout
    # The CRDs that `validate` reads lie in the wheel.
    sample = min((ROOT / "crds" / "samples").glob("trainingrun-*.yaml"))
    done = run(furnished / "atoll", "validate", "-f", sample, folder=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_wheel_says_what_it_is(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        (path,) = (name for name in names if name.endswith(".dist-info/METADATA"))
        metadata = message_from_string(archive.read(path).decode())
    assert metadata["Version"] == __version__
    assert metadata["Author"] == "The Atoll authors"
    assert metadata["License-Expression"] == "Apache-2.0"
    assert {"laptop", "cli", "edge"} <= set(metadata.get_all("Provides-Extra", []))
    versions = [text.rpartition(" :: ")[2] for text in metadata.get_all("Classifier", []) if "Python :: 3." in text]
    assert versions == ["3.11", "3.12", "3.13"]
    packages = {name.split("/")[0] for name in names if not name.startswith("atoll-")}
    assert packages == {name.split("/")[0] for name in names if name.endswith("/py.typed")}
    assert not [name for name in names if "test" in name.split("/")[0]]


def test_the_crds_get_from_the_source_package_into_the_wheel_that_is_built_of_it(release: Path, wheel: Path) -> None:
    with tarfile.open(release / "dist" / f"atoll-{__version__}.tar.gz") as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    crds = {path.name for path in (ROOT / "crds").glob("*.yaml")}
    assert {f"crds/{name}" for name in crds} <= names
    with zipfile.ZipFile(wheel) as archive:
        assert {f"atoll_operator/api/crds/{name}" for name in crds} <= set(archive.namelist())


@pytest.mark.parametrize("chart", ["atoll", "atoll-edge"])
def test_a_packaged_chart_renders_as_the_folder_does(release: Path, chart: str) -> None:
    package = release / "charts" / f"{chart}-{__version__}.tgz"
    rendered = []
    for source in (package, ROOT / "charts" / chart):
        done = run(ensure("helm4"), "template", "name", source, "--kube-version", "1.35.0", *VALUES[chart])
        assert done.returncode == 0, done.stderr
        rendered.append(done.stdout)
    assert rendered[0] == rendered[1]
    assert "kind: Deployment" in rendered[0] or "kind: DaemonSet" in rendered[0]


def test_the_lists_name_every_package_of_the_lock(release: Path) -> None:
    lists = {path.name: json.loads(path.read_text()) for path in (release / "sbom").iterdir()}
    assert len(lists) == 8
    for name, document in lists.items():
        assert document["bomFormat"] == "CycloneDX", name
        assert document["metadata"]["component"]["version"] == __version__, name
    locks = {
        "atoll-laptop": "tests/requirements-laptop.txt",
        "atoll-image-edge": "images/edge/requirements.txt",
        "atoll-edge-py313": "images/edge/requirements-py313.txt",
    }
    for name, lock in locks.items():
        locked = re.findall(r"^([\w.-]+)==", (ROOT / lock).read_text(), re.MULTILINE)
        named = [part["name"] for part in lists[f"{name}-{__version__}.cdx.json"]["components"]]
        assert sorted(named) == sorted(locked), name


def test_every_file_has_its_checksum(release: Path) -> None:
    done = run("sha256sum", "--check", "--strict", "--quiet", "SHA256SUMS", folder=release)
    assert (done.returncode, done.stdout) == (0, "")
    named = [line.split("  ", 1)[1] for line in (release / "SHA256SUMS").read_text().splitlines()]
    there = [str(path.relative_to(release)) for path in release.rglob("*") if path.is_file()]
    assert sorted([*named, "SHA256SUMS"]) == sorted(there)


def test_the_workflow_of_a_release_is_sound() -> None:
    done = run(ensure("actionlint"), "-no-color", ROOT / ".github" / "workflows" / "release.yml")
    assert (done.returncode, done.stdout) == (0, "")


def pythons() -> dict[str, Path]:
    """The Pythons of this machine that Atoll is meant for, by version."""
    found = {version: find_interpreter(version) for version in ("3.11", "3.12", "3.13")}
    return {version: path for version, path in found.items() if path is not None}


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("version", pythons())
def test_the_laptops_extra_trains_on_the_sample_to_a_report(wheel: Path, version: str, tmp_path: Path) -> None:
    programs = tmp_path / "environment" / "bin"
    assert run(pythons()[version], "-m", "venv", programs.parent).returncode == 0
    pip = (programs / "python", "-m", "pip", "--disable-pip-version-check", "install", "--quiet")
    lock = ROOT / "tests" / "requirements-laptop.txt"
    assert run(*pip, "--require-hashes", "-r", lock, timeout=1800).returncode == 0
    # The lock lacks nothing that the extra asks for.
    done = run(*pip, "--no-index", f"{wheel}[laptop]")
    assert done.returncode == 0, done.stderr
    home = tmp_path / "home"
    home.mkdir()

    def atoll(*words: str) -> None:
        done = run(programs / "atoll", *words, folder=home, timeout=1800)
        assert done.returncode == 0, done.stdout + done.stderr

    atoll("sample", "field", "--pictures", "40")
    atoll("new", "field.tar", "--random")
    file = home / "run.yaml"
    text = re.sub(r"^( *steps:) \d+", r"\1 20", file.read_text(), flags=re.MULTILINE)
    file.write_text(re.sub(r'minAP50: "[\d.]+"', 'minAP50: "0"', text))
    atoll("run", "run.yaml", "--data", "field.tar")
    assert (home / "atoll-store" / "results" / "field" / "report.html").stat().st_size > 10_000
