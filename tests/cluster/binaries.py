"""Builds the programs of the test bench from pinned Go modules, once, into a cache outside the checkout.

`python -m cluster.binaries minio etcd` (with `tests/` on the path) builds what is missing and prints one path a line.
Where KUBEBUILDER_ASSETS names a folder with etcd, kube-apiserver or kubectl, those are taken from there.
"""

from __future__ import annotations

import argparse
import fcntl
import hashlib
import logging
import os
import platform
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

logger = logging.getLogger(__name__)

GO_MODULES = Path(__file__).parent / "go"
BUILD_DEADLINE_SECONDS = 2400
ENVTEST_PROGRAMS = frozenset({"etcd", "kube-apiserver", "kubectl"})


class BinaryError(RuntimeError):
    """A program of the test bench is missing and cannot be built; the message says what to do."""


@dataclass(frozen=True)
class Program:
    """One program: the folder under `go/` that pins it and the package that `go build` is given."""

    name: str
    module: str
    package: str


_KUBERNETES = ("kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubelet", "kube-proxy", "kubectl")
PROGRAMS: dict[str, Program] = {
    program.name: program
    for program in (
        Program("minio", "minio", "github.com/minio/minio"),
        Program("etcd", "etcd", "go.etcd.io/etcd/server/v3"),
        *(Program(name, "kubernetes", f"k8s.io/kubernetes/cmd/{name}") for name in _KUBERNETES),
        Program("helm3", "helm3", "helm.sh/helm/v3/cmd/helm"),
        Program("helm4", "helm4", "helm.sh/helm/v4/cmd/helm"),
        Program("actionlint", "actionlint", "github.com/rhysd/actionlint/cmd/actionlint"),
        Program("cosign", "cosign", "github.com/sigstore/cosign/v3/cmd/cosign"),
        Program("glua", "glua", "github.com/yuin/gopher-lua/cmd/glua"),
        Program("coredns", "coredns", "github.com/coredns/coredns"),
        Program("kube-router", "kube-router", "github.com/cloudnativelabs/kube-router/v2/cmd/kube-router"),
        Program("kueue", "kueue", "sigs.k8s.io/kueue/cmd/kueue"),
        Program("kwok", "kwok", "sigs.k8s.io/kwok/cmd/kwok"),
        Program("versitygw", "versitygw", "github.com/versity/versitygw/cmd/versitygw"),
        Program(
            "training-operator", "training-operator", "github.com/kubeflow/training-operator/cmd/training-operator.v1"
        ),
    )
}
# Every tier but the node's needs no more than these.
CONTROL_PLANE = ("minio", "etcd", "kube-apiserver", "kube-controller-manager")


def cache_folder() -> Path:
    """ATOLL_TEST_CACHE, else `atoll-test` under the user's cache folder."""
    configured = os.environ.get("ATOLL_TEST_CACHE")
    if configured:
        return Path(configured)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "atoll-test"


def ensure(name: str) -> Path:
    """Path of the program, built now if the cache lacks it. Raises BinaryError with what to install otherwise."""
    program = PROGRAMS.get(name)
    if program is None:
        raise BinaryError(f"{name!r} is no program of the test bench; there are {', '.join(PROGRAMS)}")
    found = _from_assets(name)
    if found is not None:
        return found
    path = _cached_path(program)
    if path.exists():
        return path
    path.parent.mkdir(parents=True, exist_ok=True)
    with _lock(path.parent / ".lock", reason=name):
        if not path.exists():  # another process may have built it while this one waited
            _build(program, path)
    return path


def built(name: str) -> Path | None:
    """Path of the program if it is built already; for those that take long, and that a test can do without."""
    path = _cached_path(PROGRAMS[name])
    return path if path.exists() else None


def _from_assets(name: str) -> Path | None:
    folder = os.environ.get("KUBEBUILDER_ASSETS")
    if not folder or name not in ENVTEST_PROGRAMS:
        return None
    path = Path(folder) / name
    return path if os.access(path, os.X_OK) else None


def _cached_path(program: Program) -> Path:
    digest = hashlib.sha256()
    for part in ("go.mod", "go.sum"):
        digest.update((GO_MODULES / program.module / part).read_bytes())
    key = f"{program.module}-{platform.machine()}-{digest.hexdigest()[:12]}"
    return cache_folder() / "bin" / key / program.name


def _build(program: Program, path: Path) -> None:
    go = shutil.which("go")
    if go is None:
        raise BinaryError(
            f"{program.name} has to be built from its Go module, and there is no `go` on the PATH: install Go >= 1.26 "
            "(go.dev/doc/install), or name a folder with etcd and kube-apiserver in KUBEBUILDER_ASSETS"
        )
    # A build that dies leaves only this name behind, and the next one overwrites it.
    unfinished = path.with_name(f".{path.name}.building")
    command = ["nice", "-n", "10", go, "build", "-trimpath", "-buildvcs=false"]
    command += ["-ldflags", _linker_flags(program), "-o", str(unfinished), program.package]
    started = time.monotonic()
    logger.info("building %s from tests/cluster/go/%s (once; minutes the first time)", program.name, program.module)
    _run(command, folder=GO_MODULES / program.module, program=program)
    unfinished.rename(path)
    logger.info("built %s in %.0f s", program.name, time.monotonic() - started)


def _run(command: list[str], *, folder: Path, program: Program) -> None:
    environment = os.environ | {"CGO_ENABLED": "0"}
    try:
        done = subprocess.run(
            command,
            cwd=folder,
            env=environment,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
            timeout=BUILD_DEADLINE_SECONDS,
        )
    except subprocess.TimeoutExpired as error:
        raise BinaryError(f"building {program.name} took longer than {BUILD_DEADLINE_SECONDS} s") from error
    if done.returncode != 0:
        raise BinaryError(
            f"building {program.name} in {folder} failed with exit code {done.returncode}: {done.stderr[-2000:]}"
        )


def _linker_flags(program: Program) -> str:
    flags = ["-s", "-w"]
    if program.module == "kubernetes":
        # Without the stamp the server calls itself v0.0.0, which every chart's kubeVersion refuses.
        major, minor, version = _kubernetes_version()
        stamp = {"gitVersion": version, "gitMajor": major, "gitMinor": minor}
        flags += [f"-X k8s.io/component-base/version.{field}={value}" for field, value in stamp.items()]
    return " ".join(flags)


def _kubernetes_version() -> tuple[str, str, str]:
    text = (GO_MODULES / "kubernetes" / "go.mod").read_text(encoding="utf-8")
    found = re.search(r"^\s*k8s\.io/kubernetes (v(\d+)\.(\d+)\.\d+)", text, re.MULTILINE)
    if found is None:
        raise BinaryError("tests/cluster/go/kubernetes/go.mod does not require k8s.io/kubernetes")
    return found[2], found[3], found[1]


@contextmanager
def _lock(path: Path, *, reason: str) -> Iterator[None]:
    """Holds the file's lock; the kernel frees it when its holder dies."""
    with path.open("w") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            logger.info("another process is building there; waiting for it to finish before %s", reason)
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m cluster.binaries", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="PROGRAM", help=f"any of {', '.join(PROGRAMS)}")
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    try:
        for name in options.names or CONTROL_PLANE:
            print(f"{name}\t{ensure(name)}", flush=True)
    except BinaryError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
