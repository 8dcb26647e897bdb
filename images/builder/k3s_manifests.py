"""A folder to lay over k3s's own: a HelmChart with the chart in it, and archives of the images beside it."""

import base64
import gzip
import io
import json
import tarfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from engine import EngineError

# What k3s's Helm controller reads values from: the HelmChart itself, and a HelmChartConfig of its name.
MAX_VALUES_FILES = 2
_NAMESPACE = "kube-system"


def write_manifest(
    folder: Path, chart: Path, *, release: str, namespace: str, values: Sequence[Path], images: Mapping[str, Any]
) -> Path:
    """Write `server/manifests/<release>.yaml` below `folder`, which k3s applies at each start and at each change.

    `images` are values too, and win over those of the files.

    Raises:
        EngineError: there are more files of values than k3s takes.
    """
    if len(values) > MAX_VALUES_FILES:
        raise EngineError(f"k3s takes values from {MAX_VALUES_FILES} files, not {len(values)}: put them into one")
    texts = [path.read_text(encoding="utf-8") for path in values]
    spec = [
        f"  targetNamespace: {namespace}",
        "  createNamespace: true",
        *_set_lines(images),
        *(_block("valuesContent", texts[0]) if texts else []),
        f"  chartContent: {base64.b64encode(package(chart)).decode()}",
    ]
    lines = [*_head("HelmChart", release), *spec]
    if len(texts) > 1:
        lines += ["---", *_head("HelmChartConfig", release), *_block("valuesContent", texts[1])]
    path = folder / "server" / "manifests" / f"{release}.yaml"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def package(chart: Path) -> bytes:
    """The chart as `helm package` makes it; the same bytes for the same files."""
    ignored = _ignored(chart)
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for path in sorted(chart.rglob("*")):
            if path.is_file() and not any(path.match(pattern) for pattern in ignored):
                member = tarfile.TarInfo(f"{chart.name}/{path.relative_to(chart)}")
                data = path.read_bytes()
                member.size, member.mode = len(data), 0o644
                archive.addfile(member, io.BytesIO(data))
    return gzip.compress(packed.getvalue(), mtime=0)


def _ignored(chart: Path) -> list[str]:
    file = chart / ".helmignore"
    lines = file.read_text(encoding="utf-8").splitlines() if file.exists() else []
    return [*(line for line in lines if line and not line.startswith("#")), ".helmignore"]


def _head(kind: str, release: str) -> list[str]:
    metadata = f"metadata: {{name: {release}, namespace: {_NAMESPACE}}}"
    return ["apiVersion: helm.cattle.io/v1", f"kind: {kind}", metadata, "spec:"]


def _block(name: str, text: str) -> list[str]:
    return [f"  {name}: |", *(f"    {line}".rstrip() for line in text.splitlines())]


def _set_lines(images: Mapping[str, Any]) -> list[str]:
    """One value after the other, because two documents of values cannot be merged without reading YAML."""
    flat = [f"    {name}: {json.dumps(value)}" for name, value in _flat(images)]
    return ["  set:", *flat] if flat else []


def _flat(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in values.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{name}.")
        elif value != "":
            yield f"{prefix}{name}", value
