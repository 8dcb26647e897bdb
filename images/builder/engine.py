"""docker, podman and buildah behind one interface, as far as building, measuring, saving and pushing go."""

import json
import re
import shutil
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

NAMES = ("docker", "podman", "buildah")
BUILD_DEADLINE_SECONDS = 3600
CALL_DEADLINE_SECONDS = 900
CERTIFICATES = "/etc/ssl/certs/ca-certificates.crt"
_UNITS = {"B": 1e-6, "kB": 1e-3, "KB": 1e-3, "MB": 1.0, "GB": 1e3}


class EngineError(RuntimeError):
    """The container engine is missing or refused; the message carries its words."""


@dataclass(frozen=True)
class Engine:
    """One container engine; `flags` precede every command of it."""

    name: str
    flags: tuple[str, ...] = ()

    def build(
        self,
        *,
        dockerfile: Path,
        context: Path,
        tag: str,
        arch: str | None,
        arguments: Mapping[str, str],
        flags: Sequence[str],
    ) -> None:
        """Builds with the engine's own output on the terminal."""
        command = [*self._command("bud" if self.name == "buildah" else "build"), "-f", str(dockerfile), "-t", tag]
        if arch:
            command += ["--platform", f"linux/{arch}"]
        arguments = dict(arguments)
        certificate = arguments.pop("PIP_CERT", None)
        if certificate and self.name != "docker":  # docker build mounts nothing: such a base brings its own
            command += ["-v", f"{certificate}:{CERTIFICATES}:ro"]
            arguments["PIP_CERT"] = CERTIFICATES
        for name, value in arguments.items():
            command += ["--build-arg", f"{name}={value}"]
        self._run([*command, *flags, str(context)], timeout=BUILD_DEADLINE_SECONDS, show=True)

    def size_mb(self, image: str) -> float:
        """Size of the unpacked image with all its layers, in MB of 10^6 bytes."""
        if self.name != "buildah":
            return int(self._run(self._command("image", "inspect", "--format", "{{.Size}}", image))) / 1e6
        listed = json.loads(self._run(self._command("images", "--json", image)))
        found = re.fullmatch(r"([\d.]+)\s*(\w+)", listed[0]["size"])
        if found is None:
            raise EngineError(f"buildah calls the size of {image} {listed[0]['size']!r}")
        return float(found[1]) * _UNITS[found[2]]

    def save(self, image: str, archive: Path) -> None:
        """Writes the image as a docker archive, which every containerd imports."""
        if self.name == "buildah":
            self._run(self._command("push", image, f"docker-archive:{archive}:{image}"))
        else:
            self._run(self._command("save", "-o", str(archive), image))

    def push(self, image: str) -> str:
        """Pushes the image to the registry in its name and returns the digest by which the registry knows it."""
        if self.name == "docker":
            self._run(self._command("push", image), show=True)
            digests = json.loads(
                self._run(self._command("image", "inspect", "--format", "{{json .RepoDigests}}", image))
            )
            if not digests:
                raise EngineError(f"docker pushed {image} but knows no digest of it")
            return str(digests[0]).rpartition("@")[2]
        with tempfile.TemporaryDirectory() as folder:
            digest = Path(folder) / "digest"
            self._run(self._command("push", "--digestfile", str(digest), image))
            return digest.read_text(encoding="utf-8").strip()

    def _command(self, *arguments: str) -> list[str]:
        return [self.name, *self.flags, *arguments]

    def _run(self, command: list[str], *, timeout: int = CALL_DEADLINE_SECONDS, show: bool = False) -> str:
        try:
            done = subprocess.run(
                command, stdout=None if show else subprocess.PIPE, text=True, check=False, timeout=timeout
            )
        except subprocess.TimeoutExpired as error:
            raise EngineError(f"{' '.join(command[:3])} took longer than {timeout} s") from error
        if done.returncode != 0:
            raise EngineError(f"{' '.join(command)} failed with exit code {done.returncode}")
        return done.stdout or ""


def find_engine(name: str | None, flags: Sequence[str]) -> Engine:
    """The named engine, else the first one on the PATH."""
    if name is not None and name not in NAMES:
        raise EngineError(f"{name!r} is no container engine known here; there are {', '.join(NAMES)}")
    for candidate in (name,) if name else NAMES:
        if shutil.which(candidate):
            return Engine(candidate, tuple(flags))
    raise EngineError(f"there is no {name or ', no '.join(NAMES)} on the PATH: install one of them")
