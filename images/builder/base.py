"""`images/base.lock`: the base of every image, by digest once a registry was asked."""

import json
import re
import shutil
import subprocess
import tomllib
from dataclasses import dataclass
from pathlib import Path

from engine import EngineError

UNKNOWN = "unknown"
# In the order in which they are asked. Not buildah: which digest it keeps of a list of architectures is not certain.
TOOLS = ("skopeo", "docker", "podman")
DEADLINE_SECONDS = 300
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")


@dataclass(frozen=True)
class Base:
    """An image by tag, and the digest of what the tag named when it was pinned: of all architectures together."""

    image: str
    digest: str

    @property
    def reference(self) -> str:
        """What `FROM` takes: by digest where there is one. Not every engine takes a tag beside it."""
        if not _DIGEST.fullmatch(self.digest):
            return self.image
        head, slash, name = self.image.rpartition("/")
        return f"{head}{slash}{name.partition(':')[0]}@{self.digest}"


def read_base(path: Path) -> Base:
    """Raises EngineError where the digest is neither one nor `unknown`."""
    base = Base(**tomllib.loads(path.read_text(encoding="utf-8"))["base"])
    if base.digest != UNKNOWN and not _DIGEST.fullmatch(base.digest):
        raise EngineError(f"{path}: the digest is {base.digest!r}; it has to be sha256:<64 hex digits>, or {UNKNOWN!r}")
    return base


def write_digest(path: Path, digest: str) -> None:
    """Changes the digest and leaves all else as it stands."""
    text = path.read_text(encoding="utf-8")
    path.write_text(re.sub(r'^digest = ".*"$', f'digest = "{digest}"', text, flags=re.MULTILINE), encoding="utf-8")


def ask_digest(image: str, tool: str | None) -> str:
    """The digest that the registry has for the tag, by the first tool that is there (or the named one).

    Raises:
        EngineError: there is none, or the registry does not answer; with the tool's own words.
    """
    if tool is not None and tool not in TOOLS:
        raise EngineError(f"{tool} cannot tell the digest of a tag for all architectures; use {' or '.join(TOOLS)}")
    found = next((name for name in ([tool] if tool else TOOLS) if shutil.which(name)), None)
    if found is None:
        raise EngineError(f"there is no {tool or ', no '.join(TOOLS)} on the PATH to ask a registry with")
    if found == "skopeo":
        digest = _said(["skopeo", "inspect", "--no-tags", "--format", "{{.Digest}}", f"docker://{image}"])
    else:
        digest = _pulled(found, image)
    if not _DIGEST.fullmatch(digest):
        raise EngineError(f"{found} gives {digest!r} for {image}, which is no digest")
    return digest


def _pulled(engine: str, image: str) -> str:
    """The digest by which the engine knows what it pulled."""
    _said([engine, "pull", "--quiet", image])
    found = json.loads(_said([engine, "image", "inspect", image]))[0]
    digests = [item.rpartition("@")[2] for item in found.get("RepoDigests") or []]
    # podman also names the image of this machine alone; an image of one architecture has no other.
    return next((item for item in digests if item != found.get("Digest")), digests[0] if digests else "")


def _said(command: list[str]) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=DEADLINE_SECONDS)
    except subprocess.TimeoutExpired:
        raise EngineError(f"{' '.join(command[:3])} took longer than {DEADLINE_SECONDS} s") from None
    if done.returncode != 0:
        last = (done.stderr.strip().splitlines() or ["it said nothing"])[-1]
        raise EngineError(f"{' '.join(command[:3])} failed with exit code {done.returncode}: {last}")
    return done.stdout.strip()
